//! Documents in binary form: any bytes, and those that a model makes and says the text of.

use super::model::{Doc, random_diffs};
use crate::mqtt::codec::sample::Gen;
use crate::source::mysql::binlog::json::{Json, JsonDiffs};

/// The first byte says: a document as it is, a document and differences as they are, or both of a model.
pub fn binlog_json(data: &[u8]) {
    let g = &mut Gen(data);
    match g.pick(4) {
        0 => judge(&Json::new(g.0)),
        1 => {
            let len = usize::from(g.u16());
            let doc = Json::new(g.take(len));
            judge(&doc);
            patch(&doc, &JsonDiffs::new(g.0));
        }
        _ => modelled(g),
    }
}

/// Text or an error; of a text every reader of JSON can make something.
pub(super) fn judge(doc: &Json<'_>) {
    let mut out = b"before".to_vec();
    let written = doc.write(&mut out);
    check(written.is_ok(), &out, doc.raw().len());
}

fn patch(doc: &Json<'_>, diffs: &JsonDiffs<'_>) {
    let mut out = b"before".to_vec();
    let written = doc.write_patched(diffs, &mut out);
    check(written.is_ok(), &out, doc.raw().len() + diffs.raw().len());
}

fn check(written: bool, out: &[u8], bytes: usize) {
    let Some(text) = out.strip_prefix(b"before") else {
        return assert!(out.is_empty(), "the buffer was changed");
    };
    if !written {
        return assert!(text.is_empty(), "an error leaves text");
    }
    let parsed = serde_json::from_slice::<serde::de::IgnoredAny>(text);
    assert!(parsed.is_ok(), "{parsed:?}: {}", String::from_utf8_lossy(text));
    // A double of nine bytes has some 25 digits, a decimal of few bytes 67.
    assert!(text.len() <= 100 + bytes * 40, "{} bytes of {bytes}", text.len());
}

fn modelled(g: &mut Gen<'_>) {
    let mut doc = Doc::random(g, 0);
    let before = doc.binary();
    let before = Json::new(&before);
    let mut out = Vec::new();
    let written = before.write(&mut out);
    assert!(written.is_ok(), "{written:?} {doc:?}");
    assert_eq!(String::from_utf8_lossy(&out), doc.text());
    let diffs = random_diffs(g, &mut doc);
    out.clear();
    let written = before.write_patched(&JsonDiffs::new(&diffs), &mut out);
    assert!(written.is_ok(), "{written:?} {doc:?}");
    assert_eq!(String::from_utf8_lossy(&out), doc.text());
}
