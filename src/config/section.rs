//! Sections: structs that are read from a mapping, declared once.

use serde_json::{Map, Value, json};

use super::Place;
use super::field::{Context, Field};
use super::node::{Kind, Node};
use super::outside;

/// Declares a section: the struct, [`Field`] for it, and its JSON Schema with the doc comments.
///
/// `name: Type = "yaml"` has a default; `name: Option<Type>` may be left out; all else is required.
/// A [`Secret`](super::Secret) `name` may be given as `name_file: path` too, unless the section has a
/// field `name_file` of its own.
/// ```
/// dts::section! {
///     /// Tails files of lines.
///     pub struct Tail {
///         /// Files to follow; `*` and `?` match within a name.
///         path: String,
///         /// Longest line taken. Longer ones are cut off and counted.
///         max_line_bytes: dts::config::ByteSize = "64KiB",
///         /// Only lines that contain this.
///         contains: Option<String>,
///     }
/// }
/// ```
#[macro_export]
macro_rules! section {
    ($(#[doc = $sdoc:literal])* pub struct $name:ident {
        $($(#[doc = $doc:literal])* $field:ident : $ty:ty $(= $default:literal)?),* $(,)?
    }) => {
        $(#[doc = $sdoc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            $($(#[doc = $doc])* pub $field: $ty,)*
        }

        impl $crate::config::Field for $name {
            fn read(node: &$crate::config::Node, cx: &mut $crate::config::Context) -> Option<Self> {
                let names: &[$crate::config::section::Known] =
                    &[$($crate::config::section::Known::of::<$ty>(stringify!($field))),*];
                #[allow(unused_variables)]
                let map_ = $crate::config::section::Mapping::known(node, names, cx)?;
                // Read all fields before giving up, so that every mistake is found.
                $(let $field = map_.field::<$ty>(stringify!($field), None::<&str>$(.or(Some($default)))?, cx);)*
                Some(Self { $($field: $field?,)* })
            }

            fn schema() -> serde_json::Value {
                #[allow(unused_mut)]
                let mut schema_ = $crate::config::section::ObjectSchema::new(concat!($($sdoc, "\n"),*));
                $(schema_.field::<$ty>(
                    stringify!($field), concat!($($doc, "\n"),*), None::<&str>$(.or(Some($default)))?,
                );)*
                schema_.finish()
            }
        }
    };
}

/// Declares an enum whose values are words in a config.
/// ```
/// dts::choice! {
///     /// What to do at the end.
///     pub enum End {
///         /// Wait for more.
///         Wait = "wait",
///         /// Stop.
///         Stop = "stop",
///     }
/// }
/// ```
#[macro_export]
macro_rules! choice {
    ($(#[doc = $sdoc:literal])* pub enum $name:ident {
        $($(#[doc = $doc:literal])* $variant:ident = $word:literal),* $(,)?
    }) => {
        $(#[doc = $sdoc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[doc = $doc])* $variant,)*
        }

        impl $name {
            /// The words that a config has for it.
            pub const WORDS: &'static [&'static str] = &[$($word),*];

            /// What `word` stands for.
            pub fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl $crate::config::Field for $name {
            fn read(node: &$crate::config::Node, cx: &mut $crate::config::Context) -> Option<Self> {
                $crate::config::section::word(node, Self::WORDS, cx).and_then(Self::from_word)
            }

            fn schema() -> serde_json::Value {
                serde_json::json!({ "type": "string", "enum": Self::WORDS })
            }
        }
    };
}

/// One of `words`, or the mistake with the nearest.
pub fn word<'n>(node: &'n Node, words: &[&'static str], cx: &mut Context) -> Option<&'n str> {
    let expected = || format!("one of {}", words.join(", "));
    match &node.kind {
        Kind::Scalar { text, .. } if words.contains(&text.as_str()) => Some(text),
        Kind::Scalar { text, .. } => match nearest(text, words.iter().copied()) {
            Some(near) => cx.expected(node, &format!("{} (did you mean `{near}`?)", expected())),
            None => cx.expected(node, &expected()),
        },
        _ => cx.expected(node, &expected()),
    }
}

/// A name that a section has.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    name: &'static str,
    from_file: bool,
}

impl Known {
    /// The field `name` of type `T`.
    pub const fn of<T: Field>(name: &'static str) -> Self {
        Self { name, from_file: T::FROM_FILE }
    }

    fn is(&self, key: &str) -> bool {
        key == self.name || self.from_file && key.strip_suffix("_file") == Some(self.name)
    }
}

/// A mapping being read as a section.
#[derive(Clone, Copy, Debug)]
pub struct Mapping<'a> {
    node: &'a Node,
    names: &'a [Known],
    entries: &'a [(String, Place, Node)],
}

impl<'a> Mapping<'a> {
    /// The mapping in `node`. Unknown names are mistakes, each with the nearest right one.
    pub fn known(node: &'a Node, names: &'a [Known], cx: &mut Context) -> Option<Self> {
        let entries: &[_] = match &node.kind {
            Kind::Map(entries) => entries,
            Kind::Null if !cx.is_unreadable(node.place) => &[],
            _ => return cx.expected(node, "a mapping"),
        };
        for (key, place, _) in entries {
            if names.iter().any(|known| known.is(key)) {
                continue;
            }
            let hint = match nearest(key, names.iter().map(|known| known.name)) {
                Some(near) => format!("did you mean `{near}`?"),
                None if names.is_empty() => "there are no fields here".to_owned(),
                None => {
                    let names: Vec<_> = names.iter().map(|known| known.name).collect();
                    format!("known here: {}", names.join(", "))
                }
            };
            cx.mistake(*place, format!("unknown field {}; {hint}", super::field::quoted(key)));
        }
        Some(Self { node, names, entries })
    }

    /// The key's place and the value of `name`, if it is given.
    pub fn get(&self, name: &str) -> Option<(Place, &'a Node)> {
        self.entries.iter().find(|(key, ..)| key == name).map(|(_, place, node)| (*place, node))
    }

    /// Reads one field, its default, or notes that it is missing.
    pub fn field<T: Field>(&self, name: &str, default: Option<&str>, cx: &mut Context) -> Option<T> {
        if T::FROM_FILE {
            let in_file = format!("{name}_file");
            let own = self.names.iter().any(|known| known.name == in_file);
            if let (Some((place, node)), false) = (self.get(&in_file), own) {
                if self.get(name).is_some() {
                    cx.mistake(place, format!("`{name}` and `{in_file}` are both given; leave one out"));
                    return None;
                }
                return T::read(&outside::secret_from_file(name, node, cx)?, cx);
            }
        }
        if let Some((_, node)) = self.get(name) {
            return T::read(node, cx);
        }
        let null = Node { place: self.node.place, kind: Kind::Null };
        match default {
            Some(text) => T::read(&default_node(text, self.node.place), cx),
            // Only optional types read nothing as a value.
            None => match T::read(&null, &mut Context::default()) {
                Some(absent) => Some(absent),
                None => {
                    cx.mistake(self.node.place, format!("`{name}` is missing"));
                    None
                }
            },
        }
    }
}

/// A default as a node: `[]` is the empty list, `{}` the empty mapping, all else a scalar.
fn default_node(text: &str, place: Place) -> Node {
    let kind = match text {
        "[]" => Kind::List(Vec::new()),
        "{}" => Kind::Map(Vec::new()),
        _ => Kind::Scalar { text: text.to_owned(), plain: true },
    };
    Node { place, kind }
}

/// The name most like `wrong`, if one is near enough to be meant.
pub fn nearest<'n>(wrong: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    // The distance takes time by the product of the lengths.
    if wrong.len() > 100 {
        return None;
    }
    names
        .map(|n| (strsim::damerau_levenshtein(wrong, n), n))
        .filter(|(d, n)| *d <= 1 + n.len() / 4)
        .min()
        .map(|(_, n)| n)
}

/// The JSON Schema of a section, being made.
#[derive(Debug)]
pub struct ObjectSchema {
    description: String,
    properties: Map<String, Value>,
    required: Vec<Value>,
    /// Pairs of which one must be given: a secret, or the file that holds it.
    either: Vec<Value>,
}

impl ObjectSchema {
    /// For a section with this doc comment.
    pub fn new(doc: &str) -> Self {
        Self { description: prose(doc), properties: Map::new(), required: Vec::new(), either: Vec::new() }
    }

    /// Adds one field.
    pub fn field<T: Field>(&mut self, name: &str, doc: &str, default: Option<&str>) {
        let mut schema = T::schema();
        if let Some(object) = schema.as_object_mut() {
            if let Some(default) = default {
                object.insert("default".into(), default_value(default, object.get("type")));
            }
            object.insert("description".into(), prose(doc).into());
        }
        self.properties.insert(name.into(), schema);
        let null = Node { place: Place::default(), kind: Kind::Null };
        let required = default.is_none() && T::read(&null, &mut Context::default()).is_none();
        if T::FROM_FILE {
            let in_file = format!("{name}_file");
            let doc = format!("A file that holds `{name}`. A newline at its end is cut off.");
            // A field of this name that the section has itself goes before.
            self.properties
                .entry(&in_file)
                .or_insert_with(|| json!({ "type": "string", "minLength": 1, "description": doc }));
            if required {
                self.either.push(json!({ "oneOf": [{ "required": [name] }, { "required": [in_file] }] }));
            }
        } else if required {
            self.required.push(name.into());
        }
    }

    /// The schema.
    pub fn finish(self) -> Value {
        let mut schema = json!({
            "type": "object", "description": self.description,
            "properties": self.properties, "required": self.required, "additionalProperties": false,
        });
        if let (false, Some(object)) = (self.either.is_empty(), schema.as_object_mut()) {
            object.insert("allOf".into(), self.either.into());
        }
        schema
    }
}

/// A doc comment without the space that each of its lines begins with.
fn prose(doc: &str) -> String {
    doc.lines().map(str::trim).collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// A default as JSON has it.
fn default_value(text: &str, type_: Option<&Value>) -> Value {
    let typed = match type_.and_then(Value::as_str) {
        Some("boolean") => text.parse().ok().map(Value::Bool),
        Some("integer") => text.parse::<i64>().ok().map(Value::from),
        Some("array") => Some(json!([])),
        Some("object") => Some(json!({})),
        _ => None,
    };
    typed.unwrap_or_else(|| text.into())
}
