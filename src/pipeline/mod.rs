//! From sources to sinks: read with credit, write in order, acknowledge when every sink has it.
//!
//! | file | concept |
//! |---|---|
//! | [`core`] | what is in flight, who writes what, when to try again: a sans-IO state machine |
//! | [`mod@run`] | the loop that executes its actions: channels, sinks, clock |
//! | `ring` | slots between a source's thread and the pipeline |
//! | [`marks`] | watermarks for sinks that cannot store them in their own transaction |
//!
//! Invariants: each sink writes every batch in the order of submission; a submission resolves only
//! when every sink confirmed it (and its watermark is durable); what is in flight is bounded by
//! [`core::Limits`], in slots and in bytes.

pub mod core;
#[cfg(feature = "source-devices")]
pub mod marks;
#[cfg(feature = "thread-ring")]
pub mod ring;
pub mod run;

pub use run::{NamedSink, PipelineError, run};
