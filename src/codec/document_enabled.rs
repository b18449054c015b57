//! MySQL's binary JSON as text.

use std::cell::RefCell;

use super::json;
use crate::source::mysql::binlog::json::{Json, JsonDiffs};

thread_local! {
    /// A document's text before it is escaped. Kept for the next one.
    static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A larger buffer is given back.
const KEPT_BYTES: usize = 1 << 20;

/// Appends the document's text, as the server prints it, as a JSON string. `false`, with the bytes appended, if
/// they are no document.
pub(super) fn text(out: &mut Vec<u8>, raw: &[u8]) -> bool {
    TEXT.with_borrow_mut(|text| {
        text.clear();
        let written = Json::new(raw).write(text);
        match (written, std::str::from_utf8(text)) {
            (Err(_), _) => json::base64_object(out, raw),
            (Ok(()), Ok(text)) => json::string(out, text),
            (Ok(()), Err(_)) => json::base64_object(out, text),
        }
        text.shrink_to(KEPT_BYTES);
        written.is_ok()
    })
}

/// Appends the differences of a partial update: `{"json_patch": […]}`; the bytes if they are none.
pub(super) fn patch(out: &mut Vec<u8>, raw: &[u8]) {
    let start = out.len();
    out.extend_from_slice(b"{\"json_patch\":[");
    for (i, diff) in JsonDiffs::new(raw).iter().enumerate() {
        let Ok(diff) = diff else {
            out.truncate(start);
            return json::base64_object(out, raw);
        };
        out.extend_from_slice(if i > 0 { b",{\"op\":\"" } else { b"{\"op\":\"" });
        out.extend_from_slice(diff.op.as_str().as_bytes());
        out.extend_from_slice(b"\",\"path\":");
        match std::str::from_utf8(diff.path) {
            Ok(path) => json::string(out, path),
            Err(_) => json::base64_object(out, diff.path),
        }
        if let Some(value) = diff.value {
            out.extend_from_slice(b",\"value\":");
            if value.write(out).is_err() {
                out.truncate(start);
                return json::base64_object(out, raw);
            }
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
}
