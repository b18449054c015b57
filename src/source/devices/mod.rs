//! The centre's listener: devices and plain MQTT clients connect to it by MQTT 5.0 and 3.1.1 over
//! QUIC and TLS; what they send goes to the sinks, and PUBACK comes back when it is durable there.
//!
//! ```text
//! listener ─▶ admit ─▶ connection: session ─▶ auth · fence ─▶ frames ─▶ watermark ─▶ hub (turns) ─▶ feeder ─▶ engine
//!   (shell)             (shell)    └─ mqtt::Server           messages                    ▲                      │
//!                          ▲                                                             └──── receipt ◀────────┘
//!                          └──────────────────────── mail: answered, taken over, room ───┘
//! ```
//!
//! | file | concept |
//! |---|---|
//! | [`config`] | what a user can set |
//! | [`admit`] | who may open a connection now |
//! | [`auth`] | who a device is |
//! | [`fence`] | which connections of a device are live |
//! | [`session`] | one client, from CONNECT to its end |
//! | [`frames`] | one frame: checked, compared with the watermark, cut |
//! | [`watermark`] | which frames are new, when they are answered |
//! | [`messages`] | plain clients' PUBLISHes as events |
//! | [`fair`], [`hub`] | turns between devices; what all connections share |
//! | [`listener`] | sockets, tasks, the thread that checks passwords |
//!
//! All but `listener` is sans-IO. Memory is bounded by `max_connections` × (state and
//! `connection_bytes`), and by `total_bytes` for all that waits for the sinks.

pub mod admit;
pub mod auth;
pub mod config;
pub mod fair;
pub mod fence;
pub mod frames;
pub mod hub;
pub mod listener;
pub mod messages;
pub mod session;
#[cfg(test)]
mod tests;
pub mod watermark;

use std::sync::Arc;

pub use config::Config;
use listener::Listener;

use crate::runtime::{LocalFuture, Stop};

use super::{Outlet, Source, SourceConfig, SourceError};

impl SourceConfig for Config {
    fn mistake(&self) -> Option<String> {
        self.contradiction()
    }

    fn build(&self, name: &str) -> Result<Box<dyn Source>, SourceError> {
        if let Some(mistake) = self.contradiction() {
            return Err(SourceError::Fatal(format!("source {name}: {mistake}")));
        }
        Ok(Box::new(Devices { config: self.clone(), name: name.into() }))
    }

    fn has_other_nodes(&self) -> bool {
        self.nodes == config::Nodes::Many
    }

    /// A device keeps what was not answered.
    fn needs_buffer(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct Devices {
    config: Config,
    name: Arc<str>,
}

impl Source for Devices {
    fn run(self: Box<Self>, outlet: Outlet, stop: Stop) -> LocalFuture<'static, Result<(), SourceError>> {
        Box::pin(async move { Listener::bind(&self.config, &self.name)?.run(outlet, stop).await })
    }

    fn probe(&self) -> LocalFuture<'_, Result<String, SourceError>> {
        Box::pin(async move {
            let listener = Listener::bind(&self.config, &self.name)?;
            Ok(format!("can listen on {listener}{}", listener.reach().await?))
        })
    }
}
