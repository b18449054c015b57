//! One source or sink of a config: `type` finds its row in the registry, which reads the rest.

use std::sync::Arc;

use serde_json::{Value, json};

use super::field::{Context, Field, Name, Placed};
use super::node::{Kind, Node, Place};
use super::section::{Mapping, nearest};
use crate::registry::{self, Row};
use crate::sink::SinkConfig;
use crate::source::SourceConfig;

/// A source or sink as written.
#[derive(Debug)]
pub(super) struct Entry<C: ?Sized> {
    pub(super) place: Place,
    /// `None` if it is unknown or not compiled in; the mistake is noted.
    pub(super) kind: Option<&'static str>,
    /// `name`, or else the type.
    pub(super) name: Option<Placed<Arc<str>>>,
    pub(super) lane: Option<Placed<Arc<str>>>,
    /// `None` if there was a mistake in it.
    pub(super) config: Option<Box<C>>,
}

/// What a config may name: what is compiled in.
#[derive(Clone, Copy)]
pub(super) struct Build {
    pub(super) sources: &'static [Row<dyn SourceConfig>],
    pub(super) sinks: &'static [Row<dyn SinkConfig>],
    pub(super) spool: bool,
    pub(super) http_port: bool,
}

impl Default for Build {
    fn default() -> Self {
        Self {
            sources: registry::SOURCES,
            sinks: registry::SINKS,
            spool: registry::SPOOL,
            http_port: registry::HTTP_PORT,
        }
    }
}

/// Sources or sinks, and how they are written.
pub(super) struct Family<C: ?Sized> {
    pub(super) one: &'static str,
    pub(super) many: &'static str,
    /// Fields beside the connector's own.
    common: &'static [&'static str],
    /// What is wrong with the connector's fields together.
    check: fn(&C) -> Option<String>,
}

pub(super) const SOURCES: Family<dyn SourceConfig> = Family {
    one: "source",
    many: "sources",
    common: &["type", "name", "lane"],
    check: |config| config.mistake(),
};
pub(super) const SINKS: Family<dyn SinkConfig> =
    Family { one: "sink", many: "sinks", common: &["type", "name"], check: |config| config.mistake() };

/// Reads `source:` or `sources:` (or the same of sinks).
pub(super) fn read_all<C: ?Sized>(
    family: &Family<C>,
    table: &'static [Row<C>],
    root: &Mapping<'_>,
    root_place: Place,
    cx: &mut Context,
) -> Vec<Entry<C>> {
    let Family { one, many, .. } = *family;
    if let (Some((a, _)), Some((b, _))) = (root.get(one), root.get(many)) {
        let place = if (a.line, a.column) > (b.line, b.column) { a } else { b };
        cx.mistake(place, format!("`{one}` and `{many}` are both given; put all into `{many}`"));
    }
    let mut entries = Vec::new();
    match root.get(one) {
        Some((_, Node { kind: Kind::List(_), place })) => {
            cx.mistake(*place, format!("`{one}` is one {one}; a list goes under `{many}`"));
        }
        Some((_, node)) => entries.extend(read(family, table, node, cx)),
        None => {}
    }
    match root.get(many) {
        Some((place, Node { kind: Kind::Null, .. })) => cx.mistake(place, format!("`{many}` is empty")),
        Some((_, Node { kind: Kind::List(items), place })) => {
            if items.is_empty() {
                cx.mistake(*place, format!("`{many}` is empty"));
            }
            entries.extend(items.iter().filter_map(|item| read(family, table, item, cx)));
        }
        Some((_, node)) => {
            cx.mistake(node.place, format!("`{many}` is a list; a single {one} goes under `{one}`"));
        }
        None if root.get(one).is_none() => {
            cx.mistake(root_place, format!("no {one} is given: add `{one}:`, or `{many}:` for several"));
        }
        None => {}
    }
    entries
}

fn read<C: ?Sized>(
    family: &Family<C>,
    table: &'static [Row<C>],
    node: &Node,
    cx: &mut Context,
) -> Option<Entry<C>> {
    let Kind::Map(fields) = &node.kind else {
        return cx.expected(node, &format!("a {} with its `type`", family.one));
    };
    let find = |name: &str| fields.iter().find(|(key, ..)| key == name).map(|(_, _, node)| node);
    let row = find_row(family, table, node, cx);
    let given = match find("name") {
        Some(name) => <Option<Placed<Name>>>::read(name, cx),
        None => Some(None),
    };
    let name = match (given, row) {
        (Some(Some(name)), _) => Some(Placed { value: name.value.0, place: name.place }),
        (Some(None), Some(row)) => Some(Placed { value: row.name.into(), place: node.place }),
        _ => None,
    };
    let lane = find("lane").filter(|_| family.common.contains(&"lane"));
    let lane = lane.and_then(|lane| <Option<Placed<Name>>>::read(lane, cx)).flatten();
    let lane = lane.map(|lane| Placed { value: lane.value.0, place: lane.place });
    // The connector sees only its own fields.
    let own = fields.iter().filter(|(key, ..)| !family.common.contains(&key.as_str())).cloned();
    let own = Node { place: node.place, kind: Kind::Map(own.collect()) };
    let config = row.and_then(|row| row.read).and_then(|read| read(&own, cx));
    if let Some(mistake) = config.as_deref().and_then(family.check) {
        cx.mistake(node.place, mistake);
    }
    Some(Entry { place: node.place, kind: row.map(|row| row.name), name, lane, config })
}

fn find_row<C: ?Sized>(
    family: &Family<C>,
    table: &'static [Row<C>],
    node: &Node,
    cx: &mut Context,
) -> Option<&'static Row<C>> {
    let Kind::Map(fields) = &node.kind else { return None };
    let Some((_, key_place, type_)) = fields.iter().find(|(key, ..)| key == "type") else {
        let names = || table.iter().map(|row| row.name);
        // `tpye: file`
        let slip = fields.iter().find(|(key, ..)| nearest(key, ["type"].into_iter()).is_some());
        match slip {
            Some((key, place, _)) => {
                cx.mistake(
                    *place,
                    format!("unknown field {}; did you mean `type`?", super::field::quoted(key)),
                );
            }
            None => {
                let names: Vec<_> = names().collect();
                let message = format!("`type` of the {} is missing: one of {}", family.one, names.join(", "));
                cx.mistake(node.place, message);
            }
        }
        return None;
    };
    // The sink `null`, written without quotes.
    let name = match &type_.kind {
        Kind::Null if type_.place != *key_place && !cx.is_unreadable(type_.place) => "null".to_owned(),
        _ => String::read(type_, cx)?,
    };
    match registry::find(table, &name) {
        Ok(row) => Some(row),
        Err(message) => {
            cx.mistake(type_.place, message);
            None
        }
    }
}

/// JSON Schema of one entry: one of the connectors that are compiled in.
pub(super) fn schema<C: ?Sized>(family: &Family<C>, table: &[Row<C>]) -> Value {
    let kinds = table.iter().filter_map(|row| {
        let mut schema = (row.schema?)();
        let object = schema.as_object_mut()?;
        object.insert("title".into(), row.name.into());
        let mut common = vec![("type", json!({ "const": row.name }))];
        let mut name = Name::schema();
        describe(&mut name, "What metrics and logs call it. Default: its type.");
        common.push(("name", name));
        if family.common.contains(&"lane") {
            let mut lane = Name::schema();
            describe(&mut lane, "The lane of the buffer that it fills. Default: the only one, or `default`.");
            common.push(("lane", lane));
        }
        if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
            properties.extend(common.into_iter().map(|(name, schema)| (name.to_owned(), schema)));
        }
        if let Some(required) = object.get_mut("required").and_then(Value::as_array_mut) {
            required.insert(0, "type".into());
        }
        Some(schema)
    });
    json!({ "oneOf": kinds.collect::<Vec<_>>() })
}

fn describe(schema: &mut Value, text: &str) {
    if let Some(object) = schema.as_object_mut() {
        object.insert("description".into(), text.into());
    }
}
