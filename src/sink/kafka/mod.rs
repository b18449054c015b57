//! Writes each change as a message to Apache Kafka, by librdkafka's idempotent producer.
//!
//! ```text
//! begin ─job→ encoder (a thread, or several, each with its share of the keys)
//!                │ rows → one buffer of values and keys, messages by partition
//!                └─whole batches, uncopied→ librdkafka ─reports→ the sink's task → the write is done
//! ```
//!
//! | file | concept |
//! |---|---|
//! | `config` | what a config says |
//! | `topic` | the topic's template |
//! | `partition` | key to partition, as other producers do |
//! | `encode` | rows to messages |
//! | `flight` | what is out: memory, room, writes that wait |
//! | `client` | librdkafka |
//! | `sink` | the sink: begins writes, hears reports, begins anew after a failure |
//!
//! Several writes are under way. Where a message is refused for good the producer stops (`enable.gapless.guarantee`): nothing
//! behind it is written before it. All writes under way fail then, and the next one finds a new producer; what was
//! written already comes again with the same `id`.

mod client;
mod config;
mod encode;
mod flight;
mod partition;
mod sink;
#[cfg(test)]
mod tests;
mod topic;

pub use config::{Compression, Config, CreateTopics, Format, Headers, KeyChoice, Missing, Plaintext};
pub use partition::Partitioner;
pub use topic::Template;
