//! Sizes, times and secrets.

use std::fmt;

use super::field::{Context, Field};
use super::node::{Kind, Node};

/// A number of bytes: `64MiB`, `1GB`, `512`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A time span: `5s`, `200ms`, `15m`, `1h`, `7d`.
pub type Duration = std::time::Duration;

/// Text that never shows in logs, errors, metrics or `Debug`. Wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(zeroize::Zeroizing<String>);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: String) -> Self {
        Self(zeroize::Zeroizing::new(text))
    }

    /// The secret itself. Do not print it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `given` is the secret. Compares every byte, so that time does not tell where the
    /// first wrong one is.
    pub fn matches(&self, given: &[u8]) -> bool {
        let want = self.0.as_bytes();
        given.len() == want.len() && given.iter().zip(want).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// Splits `64MiB` into 64 and `MiB`.
fn number_and_unit(node: &Node) -> Option<(u64, &str)> {
    let Kind::Scalar { text, .. } = &node.kind else { return None };
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let number = text[..digits].replace('_', "").parse().ok()?;
    Some((number, text[digits..].trim()))
}

impl Field for ByteSize {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        let scale = |unit: &str| -> Option<u64> {
            Some(match unit {
                "" | "B" => 1,
                "kB" | "KB" => 1_000,
                "MB" => 1_000_000,
                "GB" => 1_000_000_000,
                "KiB" => 1 << 10,
                "MiB" => 1 << 20,
                "GiB" => 1 << 30,
                "TiB" => 1 << 40,
                _ => return None,
            })
        };
        number_and_unit(node)
            .and_then(|(n, unit)| n.checked_mul(scale(unit)?))
            .map(Self)
            .or_else(|| cx.expected(node, "a size like `64MiB`, `1GB` or `512`"))
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": ["string", "integer"], "pattern": "^[0-9_]+ *(B|kB|KB|MB|GB|KiB|MiB|GiB|TiB)?$" })
    }
}

impl Field for Duration {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        let micros = |unit: &str| -> Option<u64> {
            Some(match unit {
                "us" | "µs" => 1,
                "ms" => 1_000,
                "s" => 1_000_000,
                "m" | "min" => 60_000_000,
                "h" => 3_600_000_000,
                "d" => 86_400_000_000,
                _ => return None,
            })
        };
        number_and_unit(node)
            .and_then(
                |(n, unit)| if n == 0 && unit.is_empty() { Some(0) } else { n.checked_mul(micros(unit)?) },
            )
            .map(Self::from_micros)
            .or_else(|| cx.expected(node, "a time like `5s`, `200ms`, `15m` or `7d`"))
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": ["string", "integer"], "pattern": "^([0-9_]+ *(us|µs|ms|s|m|min|h|d)|0)$",
            // Of numbers only 0 goes without a unit.
            "minimum": 0, "maximum": 0 })
    }
}

impl Field for Secret {
    const FROM_FILE: bool = true;

    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        match &node.kind {
            Kind::Scalar { text, .. } => Some(Self::new(text.clone())),
            // Not `expected`: that would print what was found.
            _ => {
                cx.mistake(node.place, "expected text (a secret)");
                None
            }
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "string" })
    }
}
