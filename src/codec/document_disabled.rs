//! Without the feature `mysql-binlog` nothing here makes binary JSON; what a peer sends is shown as it is.

use super::json;

/// Appends the bytes. Always `false`.
pub(super) fn text(out: &mut Vec<u8>, raw: &[u8]) -> bool {
    json::base64_object(out, raw);
    false
}

/// Appends the bytes.
pub(super) fn patch(out: &mut Vec<u8>, raw: &[u8]) {
    json::base64_object(out, raw);
}
