//! The main job between real processes, and with other people's software at either end. Every `dts` here is the
//! binary that ships, with a config that a user could have written.
//!
//! | folder | what it shows |
//! |---|---|
//! | `behaviour` | what the agent promises; what bad input gets |
//! | `binlog` | `dts binlog` on recordings of real servers, and on damage |
//! | `servers` | mosquitto, MySQL, MariaDB, paho-mqtt and aioquic as broker, as clients, as the other side of QUIC |
//! | `crash` | kill -9 at random moments under load; power cuts, failing disks, wrong clocks |
//! | `hostile` | slow, greedy, lying peers beside a device that behaves well |
//! | `compat` | what earlier releases wrote is read |
//! | `harness` | folders, ports, certificates, processes, and bounded waits |
//!
//! No test asserts on a time: each waits, within [`harness::PATIENCE`], for what must come.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "in a test, a panic is the report, and waits are by the clock"
)]

mod behaviour;
mod binlog;
mod compat;
mod crash;
mod harness;
mod hostile;
mod servers;
