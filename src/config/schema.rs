//! The JSON Schema of a whole config, for editors and for checks without dts.

use serde_json::{Value, json};

use super::connector::{self, SINKS, SOURCES};
use super::raw::Rest;
use super::section::ObjectSchema;
use crate::registry;

/// The schema (draft 2020-12) of the connectors that are compiled in.
///
/// A `${NAME}` in place of a number, size or time is legal in a config but not here: replace first.
pub fn schema() -> Value {
    let mut root = ObjectSchema::new("A config of dts.");
    Rest::describe(&mut root);
    let mut schema = root.finish();
    let Some(object) = schema.as_object_mut() else { return schema };
    object.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    object.insert("title".into(), "dts".into());
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        for (one, many) in [(SOURCES.one, SOURCES.many), (SINKS.one, SINKS.many)] {
            let entry = json!({ "$ref": format!("#/$defs/{one}") });
            properties.insert(many.into(), json!({ "type": "array", "minItems": 1, "items": entry }));
            properties.insert(one.into(), entry);
        }
    }
    let one_of = |one: &str, many: &str| json!({ "oneOf": [{ "required": [one] }, { "required": [many] }] });
    object.insert("allOf".into(), json!([one_of("source", "sources"), one_of("sink", "sinks")]));
    object.insert(
        "$defs".into(),
        json!({
            "source": connector::schema(&SOURCES, registry::SOURCES),
            "sink": connector::schema(&SINKS, registry::SINKS),
        }),
    );
    schema
}
