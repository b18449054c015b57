//! The control socket: how `dts health`, `dts tap` and `dts spool` ask a running dts.
//!
//! `<state_dir>/control.sock`, a Unix socket that only its user may open. A request is one line of JSON; the answer
//! is lines of JSON until the end of the connection. The first line is `{"ok":true}` or `{"error":"…"}`.
//!
//! | request | lines of the answer |
//! |---|---|
//! | `{"ask":"health"}` | one object |
//! | `{"ask":"tap","source":"in"}` | dts JSON of each row that passes, as long as the asker reads |
//! | `{"ask":"spool_stats"}` | one object |
//! | `{"ask":"spool_peek","lane":"a","limit":10}` | dts JSON of the oldest rows |

pub mod client;
mod serve;
mod tap;
#[cfg(test)]
mod tests;

pub use serve::{Answers, serve};
pub use tap::Tap;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// How is it?
    Health {},
    /// Rows as they pass.
    Tap {
        /// Only of this source.
        #[serde(default)]
        source: Option<String>,
    },
    /// How full is the buffer?
    SpoolStats {},
    /// What is at its front?
    SpoolPeek {
        /// Only of this lane.
        #[serde(default)]
        lane: Option<String>,
        /// Most rows.
        limit: u64,
    },
}

/// The first line of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// What was asked for follows.
    Ok(bool),
    /// Why not.
    Error(String),
}

/// Where the socket is.
pub fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join("control.sock")
}
