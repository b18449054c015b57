//! The simulation: devices, links and the centre as shipped, in one thread on a virtual clock, from one seed.
//!
//! | file | concept |
//! |---|---|
//! | [`plan`] | what a seed says: machines, inputs, the list of faults |
//! | [`world`] | one run of a plan |
//! | [`device`], [`centre`], [`input`], [`sink`] | the machines and what runs on them |
//! | [`disk`], [`vfs`] | a disk that can go wrong, under SQLite |
//! | [`net`], [`clock`] | links and time that can go wrong |
//! | [`oracle`] | what must hold |
//! | [`run`] | seeds, shrinking, the table of what was met |
//! | [`trace`] | what the product's own log says, in virtual time |
//! | [`planted`] | bugs that the oracle must see |
//! | [`tier2`] | the same over the shipped QUIC shell, on a simulated UDP |
//!
//! `docs/simulation.md` says how to run it and what is not modelled.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::let_underscore_must_use,
    reason = "tests"
)]

mod centre;
mod clock;
mod device;
mod disk;
mod input;
mod net;
mod oracle;
mod plan;
mod planted;
mod regressions;
mod run;
mod sink;
mod tier2;
mod trace;
mod vfs;
mod world;
