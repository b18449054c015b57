//! Names of devices.

use std::fmt;
use std::sync::Arc;

use crate::config::node::Kind;
use crate::config::{Context, Field, Node};

/// A device's name: 1 to 64 of `A-Za-z0-9._-`, and not dots alone. So none can carry `/`, `+` or
/// `#` into a topic, nor lead out of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceName(Arc<str>);

/// A name that no device can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a device's name has 1 to 64 of `A-Z a-z 0-9 . _ -`, and not dots alone")]
pub struct NameError;

impl DeviceName {
    /// Longest name in bytes.
    pub const MAX_BYTES: usize = 64;

    /// Takes a name that follows the rules.
    pub fn new(name: &str) -> Result<Self, NameError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let good = (1..=Self::MAX_BYTES).contains(&name.len())
            && name.bytes().all(allowed)
            && name.bytes().any(|b| b != b'.');
        if good { Ok(Self(name.into())) } else { Err(NameError) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, shared.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Field for DeviceName {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        let Kind::Scalar { text, .. } = &node.kind else { return cx.expected(node, "a device's name") };
        match Self::new(text) {
            Ok(name) => Some(name),
            Err(rule) => {
                cx.mistake(node.place, format!("`{text}` is no device name: {rule}"));
                None
            }
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$" })
    }
}
