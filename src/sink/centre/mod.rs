//! Ships the buffer to the centre.
//!
//! | file | concept |
//! |---|---|
//! | [`config`] | the section as written |
//! | [`session`] | one MQTT session, sans-IO: what is sent when, and what an answer means |
//! | `lanes` | lanes in a session, and whose turn it is |
//! | [`driver`] | the shell: links, timers, the loop; `wiring`: from the config to what it takes |
//! | `conn`, `spooling` | the tasks that read and write a link, and that ask the spool |
//! | `split` | a batch in parts, for a peer that takes less |
//! | [`memory`] | what outlives a session, so that no frame makes the agent reconnect for ever |
//! | [`wire`] | topics, properties, the time exchange |
//! | `watermark` | what a centre behind a broker says |
//! | `status` | what the device says of itself |
//! | `seldom` | the same thing is not logged every time |

pub mod config;
mod conn;
pub mod driver;
mod lanes;
pub mod memory;
mod seldom;
pub mod session;
mod split;
mod spooling;
mod status;
#[cfg(test)]
mod tests;
mod watermark;
pub mod wire;
mod wiring;

pub use config::Config;
pub use driver::{Agent, run};

use std::rc::Rc;

use super::{Abilities, Mark, Sink, SinkConfig, SinkError};
use crate::event::Batch;
use crate::link::{Dialer, Transport, TrustTime};
use crate::runtime::LocalFuture;

impl SinkConfig for Config {
    fn mistake(&self) -> Option<String> {
        let without = self.zstd_dictionary_file.is_some() && self.codec.0 != crate::frame::Codec::Zstd;
        without.then(|| "`zstd_dictionary_file` is for `codec: zstd`".to_owned())
    }

    /// Only to be probed: what ships is [`run`], driven by the spool and not by the pipeline.
    fn open(&self, _name: &str) -> LocalFuture<'_, Result<Box<dyn Sink>, SinkError>> {
        Box::pin(async move {
            let dialer =
                self.dialer(TrustTime::unknown(0), None).map_err(|e| SinkError::Fatal(e.to_string()))?;
            // Whether the secrets and the dictionary can be read.
            self.credentials("").map_err(SinkError::Fatal)?;
            self.dictionary().map_err(SinkError::Fatal)?;
            let probe = Probe { dialer: Rc::new(dialer), transports: self.transports.0.clone() };
            Ok(Box::new(probe) as Box<dyn Sink>)
        })
    }

    fn as_centre(&self) -> Option<&(dyn std::any::Any + 'static)> {
        Some(self)
    }
}

/// Tries the way to the centre and writes nothing.
struct Probe {
    dialer: Rc<Dialer>,
    transports: Vec<Transport>,
}

impl Sink for Probe {
    fn abilities(&self) -> Abilities {
        Abilities::default()
    }

    fn write(&mut self, _: Vec<Batch>, _: Vec<Mark>) -> LocalFuture<'_, Result<(), SinkError>> {
        let why = "the sink `centre` ships a buffer; it takes no rows without one";
        Box::pin(async move { Err(SinkError::Fatal(why.to_owned())) })
    }

    /// Connects by each transport, TLS and certificates included. No CONNECT: that would take the session of the
    /// agent that runs.
    fn probe(&mut self) -> LocalFuture<'_, Result<String, SinkError>> {
        Box::pin(async move {
            let (mut found, mut failed) = (Vec::new(), Vec::new());
            for transport in &self.transports {
                match self.dialer.dial(*transport).await {
                    Ok(connection) => {
                        let rtt = connection.control.rtt().unwrap_or_default().as_secs_f64() * 1000.0;
                        found.push(format!("{} at {} in {rtt:.1} ms", transport.as_str(), connection.remote));
                        connection.control.close("probe");
                    }
                    Err(e) => failed.push(format!("{}: {e}", transport.as_str())),
                }
            }
            match (found.is_empty(), failed.is_empty()) {
                (true, _) => Err(SinkError::Retry(failed.join("; "))),
                (false, true) => Ok(format!("reached {}", found.join(", "))),
                (false, false) => Ok(format!("reached {}; but not {}", found.join(", "), failed.join("; "))),
            }
        })
    }

    fn close(self: Box<Self>) -> LocalFuture<'static, Result<(), SinkError>> {
        Box::pin(async { Ok(()) })
    }
}
