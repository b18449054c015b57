//! Documents as plain trees: their binary form, their text, and what differences do to them.
//!
//! Written from MySQL's `sql-common/json_binary.cc`, apart from the decoder.

use crate::mqtt::codec::sample::Gen;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Doc {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    /// Quarters, so that its text is plain to see.
    Quarters(i32),
    Text(String),
    /// Bytes, as `CAST(… AS BINARY)` leaves them.
    Bytes(Vec<u8>),
    Array(Vec<Self>),
    /// In the order of the server: by length, then by bytes.
    Object(Vec<(String, Self)>),
}

/// What is written in place of a container: its type, and its bytes.
type Encoded = (u8, Vec<u8>);

impl Doc {
    pub(super) fn random(g: &mut Gen<'_>, depth: u8) -> Self {
        let kind = g.pick(if depth < 6 { 12 } else { 8 });
        match kind {
            0 => Self::Null,
            1 => Self::Bool(g.bit()),
            2 => Self::Int(i64::from(g.u16() as i16)),
            3 => Self::Int((i64::from(g.u32()) << 32 | i64::from(g.u32())) >> g.pick(64)),
            4 => Self::Uint((u64::from(g.u32()) << 32 | u64::from(g.u32())) >> g.pick(64)),
            5 => Self::Quarters(g.u32() as i32),
            6 => Self::Text(g.text()),
            7 => {
                let len = usize::from(g.u8());
                Self::Bytes(g.take(len).to_vec())
            }
            8 | 9 => Self::Array((0..g.pick(6)).map(|_| Self::random(g, depth + 1)).collect()),
            _ => {
                let mut members: Vec<(String, Self)> = Vec::new();
                for _ in 0..g.pick(6) {
                    let (key, value) = (key(g), Self::random(g, depth + 1));
                    insert(&mut members, key, value);
                }
                Self::Object(members)
            }
        }
    }

    /// The document's bytes.
    pub(super) fn binary(&self) -> Vec<u8> {
        let (ty, bytes) = self.encode();
        [&[ty][..], &bytes].concat()
    }

    fn encode(&self) -> Encoded {
        match self {
            Self::Null => (4, vec![0]),
            Self::Bool(true) => (4, vec![1]),
            Self::Bool(false) => (4, vec![2]),
            Self::Int(n) => match (i16::try_from(*n), i32::try_from(*n)) {
                (Ok(n), _) => (5, n.to_le_bytes().to_vec()),
                (_, Ok(n)) => (7, n.to_le_bytes().to_vec()),
                _ => (9, n.to_le_bytes().to_vec()),
            },
            Self::Uint(n) => match (u16::try_from(*n), u32::try_from(*n)) {
                (Ok(n), _) => (6, n.to_le_bytes().to_vec()),
                (_, Ok(n)) => (8, n.to_le_bytes().to_vec()),
                _ => (10, n.to_le_bytes().to_vec()),
            },
            Self::Quarters(n) => (11, (f64::from(*n) / 4.0).to_le_bytes().to_vec()),
            Self::Text(text) => (12, [&length(text.len())[..], text.as_bytes()].concat()),
            Self::Bytes(bytes) => (15, [&[252][..], &length(bytes.len()), bytes].concat()),
            Self::Array(values) => {
                let values: Vec<_> = values.iter().map(Self::encode).collect();
                container(&[], &values, false)
            }
            Self::Object(members) => {
                let keys: Vec<_> = members.iter().map(|(key, _)| key.as_bytes()).collect();
                let values: Vec<_> = members.iter().map(|(_, value)| value.encode()).collect();
                container(&keys, &values, true)
            }
        }
    }

    /// As the server prints it.
    pub(super) fn text(&self) -> String {
        let list = |parts: Vec<String>| parts.join(", ");
        match self {
            Self::Null => "null".into(),
            Self::Bool(b) => b.to_string(),
            Self::Int(n) => n.to_string(),
            Self::Uint(n) => n.to_string(),
            Self::Quarters(n) if n % 4 == 0 => format!("{}.0", n / 4),
            Self::Quarters(n) => format!("{}", f64::from(*n) / 4.0),
            Self::Text(text) => quoted(text),
            Self::Bytes(bytes) => {
                let lines: Vec<_> = bytes
                    .chunks(57)
                    .map(|line| {
                        let mut out = Vec::new();
                        crate::codec::base64::encode(line, &mut out);
                        String::from_utf8_lossy(&out).into_owned()
                    })
                    .collect();
                format!("\"base64:type252:{}\"", lines.join("\\n"))
            }
            Self::Array(values) => format!("[{}]", list(values.iter().map(Self::text).collect())),
            Self::Object(members) => {
                let member = |(key, value): &(String, Self)| format!("{}: {}", quoted(key), value.text());
                format!("{{{}}}", list(members.iter().map(member).collect()))
            }
        }
    }
}

fn key(g: &mut Gen<'_>) -> String {
    const KEYS: [&str; 12] = ["a", "b", "c", "aa", "ab", "", "a b", "\"", "é", "$", "a.b", "\\[0]"];
    KEYS[usize::from(g.pick(12))].to_owned()
}

fn insert(members: &mut Vec<(String, Doc)>, key: String, value: Doc) {
    let order = |k: &str| (k.len(), k.as_bytes().to_vec());
    let at = members.partition_point(|(k, _)| order(k) < order(&key));
    match members.get_mut(at) {
        Some((k, old)) if *k == key => *old = value,
        _ => members.insert(at, (key, value)),
    }
}

/// Seven bits a byte.
fn length(mut n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while n > 0x7f {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

/// Small, or large where it does not fit.
fn container(keys: &[&[u8]], values: &[Encoded], object: bool) -> Encoded {
    let ty = if object { 0 } else { 2 };
    match layout(keys, values, object, 2) {
        Some(bytes) => (ty, bytes),
        None => (ty + 1, layout(keys, values, object, 4).unwrap_or_default()),
    }
}

fn layout(keys: &[&[u8]], values: &[Encoded], object: bool, width: usize) -> Option<Vec<u8>> {
    let number = |n: usize| {
        let fits = width == 4 || n <= usize::from(u16::MAX);
        fits.then(|| (n as u32).to_le_bytes().into_iter().take(width).collect::<Vec<u8>>())
    };
    let inlined = |ty: u8| matches!(ty, 4..=6) || width == 4 && matches!(ty, 7 | 8);
    let table = 2 * width + if object { keys.len() * (width + 2) } else { 0 } + values.len() * (1 + width);
    let all_keys: usize = keys.iter().map(|key| key.len()).sum();
    let stored = values.iter().filter(|(ty, _)| !inlined(*ty)).map(|(_, bytes)| bytes.len());
    let size = table + all_keys + stored.sum::<usize>();
    let mut out = [number(values.len())?, number(size)?].concat();
    let mut at = table;
    for key in keys {
        out.extend(number(at)?);
        out.extend(u16::try_from(key.len()).ok()?.to_le_bytes());
        at += key.len();
    }
    for (ty, bytes) in values {
        out.push(*ty);
        if inlined(*ty) {
            let mut place = bytes.clone();
            // Signed numbers keep their sign in the wider place.
            let fill = if *ty == 5 && bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
            place.resize(width, fill);
            out.extend(place);
        } else {
            out.extend(number(at)?);
            at += bytes.len();
        }
    }
    out.extend(keys.iter().flat_map(|key| key.iter()));
    out.extend(values.iter().filter(|(ty, _)| !inlined(*ty)).flat_map(|(_, bytes)| bytes.iter()));
    Some(out)
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\0'..='\x1f' => out.push_str(&format!("\\u{:04x}", c as u32)),
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Differences that fit the document, applied to it; their bytes.
pub(super) fn random_diffs(g: &mut Gen<'_>, doc: &mut Doc) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..g.pick(5) {
        let mut path = "$".to_owned();
        one(g, doc, &mut path, &mut out);
    }
    out
}

fn put(out: &mut Vec<u8>, op: u8, path: &str, value: Option<&Doc>) {
    out.push(op);
    let mut packed = |bytes: &[u8]| {
        match bytes.len() {
            n @ 0..=250 => out.push(n as u8),
            n => {
                out.push(253);
                out.extend(n.to_le_bytes().iter().take(3));
            }
        }
        out.extend_from_slice(bytes);
    };
    let (path, value) = (path.as_bytes(), value.map(Doc::binary));
    packed(path);
    if let Some(value) = value {
        packed(&value);
    }
}

/// Walks down a while, and changes what is there.
fn one(g: &mut Gen<'_>, doc: &mut Doc, path: &mut String, out: &mut Vec<u8>) {
    let down = g.bit();
    match doc {
        Doc::Array(cells) => {
            let at = usize::from(g.u8()) % (cells.len() + 1);
            path.push_str(&format!("[{at}]"));
            match (cells.get_mut(at), g.pick(3)) {
                (Some(cell), _) if down => one(g, cell, path, out),
                (Some(cell), 0) => replace(g, cell, path, out),
                (Some(_), 1) => {
                    cells.remove(at);
                    put(out, 2, path, None);
                }
                _ => {
                    let value = Doc::random(g, 4);
                    put(out, 1, path, Some(&value));
                    cells.insert(at, value);
                }
            }
        }
        Doc::Object(members) => {
            let name = key(g);
            let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '$')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '$');
            path.push_str(&if plain { format!(".{name}") } else { format!(".{}", quoted(&name)) });
            let at = members.iter().position(|(key, _)| *key == name);
            match (at.and_then(|at| members.get_mut(at)), g.pick(3)) {
                (Some((_, value)), _) if down => one(g, value, path, out),
                (Some((_, value)), 0) => replace(g, value, path, out),
                (Some(_), 1) => {
                    members.retain(|(key, _)| *key != name);
                    put(out, 2, path, None);
                }
                _ => {
                    let value = Doc::random(g, 4);
                    put(out, 1, path, Some(&value));
                    insert(members, name, value);
                }
            }
        }
        _ => replace(g, doc, path, out),
    }
}

fn replace(g: &mut Gen<'_>, doc: &mut Doc, path: &str, out: &mut Vec<u8>) {
    let value = Doc::random(g, 4);
    put(out, 0, path, Some(&value));
    *doc = value;
}
