//! What a config takes from outside its file: environment variables and files of secrets.

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;

use super::field::{Context, quoted};
use super::node::{Kind, Node, Place};
use super::units::Secret;

/// Most text that variables may add to one config, so that a few bytes of it cannot fill the memory.
const MAX_REPLACED_BYTES: usize = 1 << 20;
/// Longest file of a secret.
const MAX_SECRET_BYTES: usize = 64 << 10;

/// Ways to the outside. Plain functions, so that tests can have their own.
#[derive(Clone, Copy, Debug)]
pub struct Outside {
    /// An environment variable.
    pub variable: fn(&str) -> Option<OsString>,
    /// The beginning of a file, at most so many bytes.
    pub file: fn(&Path, usize) -> std::io::Result<Vec<u8>>,
}

impl Default for Outside {
    fn default() -> Self {
        Self { variable: |name| std::env::var_os(name), file: read_up_to }
    }
}

/// The first `max` bytes of a file.
pub(super) fn read_up_to(path: &Path, max: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(max as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// `text` with every `${NAME}` and `${NAME:-default}` replaced and every `$$` made `$`.
///
/// A variable that is empty counts as unset for its default. `spent` counts the bytes that variables
/// added to this config. The mistake is returned without its place.
pub(super) fn replace(text: &str, outside: &Outside, spent: &mut usize) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let Some((inner, after)) = after.split_once('}') else {
                return Err("`${` without its `}`; a `$` alone is written `$$`".to_owned());
            };
            let value = variable(inner, outside)?;
            *spent += value.len();
            if *spent > MAX_REPLACED_BYTES {
                return Err(format!("variables add more than {MAX_REPLACED_BYTES} bytes to this config"));
            }
            out.push_str(&value);
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// The value of `NAME` or `NAME:-default`.
fn variable(inner: &str, outside: &Outside) -> Result<String, String> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts || !name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_') {
        return Err(format!("{} is not the name of a variable", quoted(name)));
    }
    let value = match (outside.variable)(name) {
        Some(value) => value.into_string().map_err(|_| format!("the variable `{name}` is not UTF-8"))?,
        None if default.is_none() => {
            return Err(format!(
                "the variable `{name}` is not set; `${{{name}:-something}}` would give it a default"
            ));
        }
        None => String::new(),
    };
    Ok(match default {
        Some(default) if value.is_empty() => default.to_owned(),
        _ => value,
    })
}

/// Reads the file that `<field>_file` names. A line's end at its end is cut off.
pub(super) fn secret_from_file(field: &str, node: &Node, cx: &mut Context) -> Option<Node> {
    let path = <std::path::PathBuf as super::Field>::read(node, cx)?;
    let complain = |cx: &mut Context, why: String| {
        cx.mistake(node.place, format!("cannot take `{field}` from {}: {why}", path.display()));
        None
    };
    // One byte more than fits tells a file that is too long.
    let bytes = match (cx.outside.file)(&path, MAX_SECRET_BYTES + 1) {
        Ok(bytes) => zeroize::Zeroizing::new(bytes),
        Err(error) => return complain(cx, error.to_string()),
    };
    if bytes.len() > MAX_SECRET_BYTES {
        return complain(cx, format!("it is longer than {MAX_SECRET_BYTES} bytes"));
    }
    let Ok(text) = std::str::from_utf8(&bytes) else { return complain(cx, "it is not UTF-8".to_owned()) };
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return complain(cx, "it is empty".to_owned());
    }
    Some(Node { place: node.place, kind: Kind::Scalar { text: text.to_owned(), plain: false } })
}

/// [`replace`] for the scalar at `place`, noting mistakes in `cx`.
pub(super) fn replace_at(text: &str, place: Place, spent: &mut usize, cx: &mut Context) -> Option<String> {
    match replace(text, &cx.outside, spent) {
        Ok(new) => {
            cx.replaced(place, text.to_owned(), Secret::new(new.clone()));
            Some(new)
        }
        Err(message) => {
            cx.unreadable(place, message);
            None
        }
    }
}
