//! One value of a config: how it is read from a [`Node`], and its JSON Schema.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::node::{Kind, Node, Place};
use super::outside::Outside;
use super::units::Secret;

/// A mistake in a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where it stands.
    pub place: Place,
    /// What was expected, what was found, and the nearest right name.
    pub message: String,
}

/// Most mistakes that are kept; the rest are counted.
const MAX_MISTAKES: usize = 100;
/// Longest piece of the file that is repeated in a message, in characters.
const MAX_QUOTED: usize = 60;

/// Collects mistakes while a config is read.
#[derive(Debug, Default)]
pub struct Context {
    /// All mistakes so far, at most 100.
    pub mistakes: Vec<Mistake>,
    /// How many more there were.
    pub dropped: usize,
    /// Folder of the config file: relative paths in it count from there.
    pub folder: PathBuf,
    /// Where variables and files of secrets are read from.
    pub outside: Outside,
    /// Scalars that could not be read: what follows from that is not worth a second mistake.
    pub(crate) unreadable: Vec<Place>,
    /// Scalars with a `${NAME}`: place, text as written, text as read. The latter may be a secret.
    pub(crate) replaced: Vec<(Place, String, Secret)>,
}

impl Context {
    /// Notes a mistake at `place`. What came from a variable is shown as `${NAME}`.
    pub fn mistake(&mut self, place: Place, message: impl Into<String>) {
        let mut message = message.into();
        for (at, written, read) in &self.replaced {
            let read = read.expose();
            if *at == place && read.chars().count() > 3 {
                message = message.replace(read, written);
            } else if *at == place {
                message = message.replace(&format!("`{read}`"), &format!("`{written}`"));
            }
        }
        self.note(place, &message);
    }

    fn note(&mut self, place: Place, message: &str) {
        if self.is_unreadable(place) {
            return;
        }
        if self.mistakes.len() >= MAX_MISTAKES {
            self.dropped += 1;
            return;
        }
        // A config must not be able to write to the terminal.
        let mut clean = String::with_capacity(message.len());
        for c in message.chars() {
            if c.is_control() {
                clean.extend(c.escape_default());
            } else {
                clean.push(c);
            }
        }
        self.mistakes.push(Mistake { place, message: clean });
    }

    /// Notes a mistake after which nothing at `place` can be read.
    pub fn unreadable(&mut self, place: Place, message: impl Into<String>) {
        self.mistake(place, message);
        self.unreadable.push(place);
    }

    /// Whether a mistake was noted already after which nothing at `place` can be read.
    pub fn is_unreadable(&self, place: Place) -> bool {
        self.unreadable.contains(&place)
    }

    /// Remembers that the scalar at `place` was `written` with a variable and `read` as something else.
    pub(super) fn replaced(&mut self, place: Place, written: String, read: Secret) {
        self.replaced.push((place, written, read));
    }

    /// Notes that `node` is not what was `expected`. Always `None`, to be returned by [`Field::read`].
    pub fn expected<T>(&mut self, node: &Node, expected: &str) -> Option<T> {
        let found = match &node.kind {
            Kind::Null => "nothing".to_owned(),
            // As written, if a variable stands there: a part of its value must not remain after cutting.
            Kind::Scalar { text, .. } => {
                let written = self.replaced.iter().find(|(at, ..)| *at == node.place);
                quoted(written.map_or(text, |(_, written, _)| written))
            }
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a mapping".to_owned(),
        };
        self.note(node.place, &format!("expected {expected}, found {found}"));
        None
    }
}

/// `text` in backticks, cut if it is long.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((cut, _)) => format!("`{}…`", &text[..cut]),
        None => format!("`{text}`"),
    }
}

/// A type that a config field can have.
pub trait Field: Sized {
    /// Whether `<field>_file` may be given instead, naming a file that holds the text.
    const FROM_FILE: bool = false;

    /// Reads it. `None` after noting at least one mistake.
    fn read(node: &Node, cx: &mut Context) -> Option<Self>;

    /// Its JSON Schema (draft 2020-12).
    fn schema() -> serde_json::Value;
}

impl Field for String {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        match &node.kind {
            Kind::Scalar { text, .. } => Some(text.clone()),
            _ => cx.expected(node, "text"),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "string" })
    }
}

impl Field for bool {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        match &node.kind {
            Kind::Scalar { text, .. } if text == "true" => Some(true),
            Kind::Scalar { text, .. } if text == "false" => Some(false),
            _ => cx.expected(node, "true or false"),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "boolean" })
    }
}

macro_rules! integer {
    ($($int:ty),*) => {$(
        impl Field for $int {
            fn read(node: &Node, cx: &mut Context) -> Option<Self> {
                if let Kind::Scalar { text, .. } = &node.kind
                    && let Ok(n) = text.replace('_', "").parse()
                {
                    return Some(n);
                }
                cx.expected(node, concat!("a whole number (", stringify!($int), ")"))
            }

            fn schema() -> serde_json::Value {
                serde_json::json!({ "type": "integer", "minimum": <$int>::MIN, "maximum": <$int>::MAX })
            }
        }
    )*};
}
integer!(u8, u16, u32, u64, i32, i64);

impl Field for PathBuf {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        match &node.kind {
            Kind::Scalar { text, .. } if !text.is_empty() => Some(cx.folder.join(text)),
            _ => cx.expected(node, "a path"),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "string", "minLength": 1 })
    }
}

impl Field for SocketAddr {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        if let Kind::Scalar { text, .. } = &node.kind
            && let Ok(addr) = text.parse()
        {
            return Some(addr);
        }
        cx.expected(node, "an address and port like `127.0.0.1:8080` or `[::]:8080`")
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "string" })
    }
}

impl<T: Field> Field for Vec<T> {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        match &node.kind {
            Kind::List(items) => {
                let read: Vec<_> = items.iter().map(|item| T::read(item, cx)).collect();
                read.into_iter().collect()
            }
            _ => cx.expected(node, "a list"),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "array", "items": T::schema() })
    }
}

impl<T: Field> Field for Option<T> {
    const FROM_FILE: bool = T::FROM_FILE;

    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        match &node.kind {
            // What was given and could not be read was not left out.
            Kind::Null if cx.is_unreadable(node.place) => None,
            Kind::Null => Some(None),
            _ => T::read(node, cx).map(Some),
        }
    }

    fn schema() -> serde_json::Value {
        nullable(T::schema())
    }
}

/// `schema`, or nothing.
fn nullable(mut schema: serde_json::Value) -> serde_json::Value {
    use serde_json::{Value, json};
    let Some(object) = schema.as_object_mut() else { return schema };
    let mut words = false;
    if let Some(Value::Array(list)) = object.get_mut("enum") {
        list.push(Value::Null);
        words = true;
    }
    match object.get_mut("type") {
        Some(Value::Array(types)) => types.push("null".into()),
        Some(one) => *one = json!([one, "null"]),
        None if words => {}
        None => schema = json!({ "anyOf": [schema, { "type": "null" }] }),
    }
    schema
}

/// A value and where it stands, for checks that need to see several fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: Place,
}

impl<T: Field> Field for Placed<T> {
    const FROM_FILE: bool = T::FROM_FILE;

    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        T::read(node, cx).map(|value| Self { value, place: node.place })
    }

    fn schema() -> serde_json::Value {
        T::schema()
    }
}

/// The name of a device, source, sink or lane: 1 to 64 of `A-Z a-z 0-9 . _ -`, so that it can stand in
/// an MQTT topic, a path and a metric.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(pub Arc<str>);

impl Name {
    /// `text`, if it is a name.
    pub fn new(text: &str) -> Option<Self> {
        let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        ((1..=64).contains(&text.len()) && text.bytes().all(legal)).then(|| Self(text.into()))
    }
}

impl Field for Name {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        let name = match &node.kind {
            Kind::Scalar { text, .. } => Self::new(text),
            _ => None,
        };
        name.or_else(|| cx.expected(node, "a name of 1 to 64 letters, digits, `.`, `_` or `-`"))
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$" })
    }
}
