//! The core on recorded binlogs and hand-made events, without a server.

mod recorded;
