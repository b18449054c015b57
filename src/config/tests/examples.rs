//! Every config that dts shows people is held against the parser and against the JSON Schema: the
//! files in `edge-config/` and `docs/examples/`, and the blocks marked `yaml` in the docs. A block
//! marked `yaml part` is some sections of a config.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::config::node::{Kind, Node};
use crate::config::{Context, Outside};
use crate::registry;

struct Example {
    name: String,
    yaml: String,
    part: bool,
}

/// Everything is there: variables, and files of secrets.
fn outside() -> Outside {
    Outside {
        variable: |name| Some(OsString::from(format!("value-of-{}", name.to_lowercase().replace('_', "-")))),
        file: |_, _| Ok(b"secret\n".to_vec()),
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root().join(folder)) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == extension));
    files.sort();
    files
}

fn blocks(path: &Path) -> Vec<Example> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```yaml") else { continue };
        let yaml: Vec<_> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        blocks.push(Example {
            name: format!("{}:{}", path.display(), number + 1),
            yaml: yaml.join("\n"),
            part: info.trim() == "part",
        });
    }
    blocks
}

fn examples() -> Vec<Example> {
    let whole = |path: PathBuf| Example {
        name: path.display().to_string(),
        yaml: std::fs::read_to_string(&path).unwrap(),
        part: false,
    };
    let mut examples: Vec<_> =
        ["edge-config", "docs/examples"].iter().flat_map(|folder| files(folder, "yaml")).map(whole).collect();
    assert!(examples.len() >= 6, "the example files are gone");
    let docs = ["", "docs", "edge-config"].iter().flat_map(|folder| files(folder, "md"));
    examples.extend(docs.flat_map(|path| blocks(&path)));
    examples
}

/// As a whole config: a part is put before what it lacks.
fn completed(example: &Example) -> String {
    let mut yaml = format!("{}\n", example.yaml);
    if !example.part {
        return yaml;
    }
    let has = |names: [&str; 2]| names.iter().any(|name| example.yaml.lines().any(|l| l.starts_with(name)));
    if !has(["source:", "sources:"]) {
        yaml.push_str("source: {type: stdin}\n");
    }
    if !has(["sink:", "sinks:"]) {
        yaml.push_str("sink: {type: stdout}\n");
    }
    if !has(["buffer:", "buffer:"]) && !yaml.contains("type: devices") {
        yaml.push_str("buffer: {}\n");
    }
    if !has(["device:", "device:"]) {
        yaml.push_str("device: {name: example}\n");
    }
    yaml
}

#[test]
fn every_example_is_right() {
    let whole_build = registry::FEATURES.iter().all(|(_, present)| *present);
    let schema = crate::config::schema();
    let (mut held, mut wrong) = (0, Vec::new());
    for example in examples() {
        let yaml = completed(&example);
        match crate::config::read(yaml.as_bytes(), Path::new(&example.name), Path::new("/etc/dts"), outside())
        {
            Ok(_) => {}
            Err(mistakes) => {
                let absent = mistakes.list.iter().any(|mistake| mistake.message.contains("not compiled in"));
                if !absent || whole_build {
                    wrong.push(mistakes.to_string());
                }
                continue;
            }
        }
        let mut cx = Context { outside: outside(), ..Context::default() };
        let value = json_of(&crate::config::parse(yaml.as_bytes(), &mut cx).unwrap());
        let mut against = Vec::new();
        validate(&value, &schema, &schema, "", &mut against);
        wrong.extend(against.iter().map(|what| format!("{}: against the schema: {what}", example.name)));
        held += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(held > 0 || !whole_build, "no example was held against the schema");
}

/// The schema refuses what the parser refuses, where it can know.
#[test]
fn the_schema_is_strict() {
    let compiled = |name| registry::FEATURES.contains(&(name, true));
    if !compiled("source-stdin") || !compiled("sink-stdout") {
        eprintln!("skipped: this build has no stdin and stdout");
        return;
    }
    let schema = crate::config::schema();
    let wrong = |yaml: &str| {
        let value = json_of(&crate::config::parse(yaml.as_bytes(), &mut Context::default()).unwrap());
        let mut wrong = Vec::new();
        validate(&value, &schema, &schema, "", &mut wrong);
        wrong
    };
    let good = "source: {type: stdin}\nsink: {type: stdout}\n";
    assert_eq!(wrong(good), Vec::<String>::new());
    assert_eq!(wrong(&format!("{good}buffer:\nlog: {{level: info}}\n")), Vec::<String>::new());
    for bad in [
        "sink: {type: stdout}\n",
        "source: {type: stdin}\nsources: [{type: stdin}]\nsink: {type: stdout}\n",
        "sources: []\nsink: {type: stdout}\n",
        "source: {type: elsewhere}\nsink: {type: stdout}\n",
        "source: {type: stdin, colour: red}\nsink: {type: stdout}\n",
        "source: {type: stdin}\nsink: {type: stdout}\nbufer: {}\n",
        "source: {type: stdin}\nsink: {type: stdout}\nbuffer: {max_bytes: lots}\n",
        "source: {type: stdin}\nsink: {type: stdout}\nbuffer: {lanes: {a: {class: slow}}}\n",
        "source: {type: stdin}\nsink: {type: stdout}\nbuffer: {lanes: {a b: {}}}\n",
        "source: {type: stdin}\nsink: {type: stdout}\nlog: {level: 3}\n",
    ] {
        assert!(!wrong(bad).is_empty(), "the schema takes:\n{bad}");
    }
}

/// No connector may have a field that every connector has.
#[test]
fn the_common_fields_are_free() {
    let schemas = registry::SOURCES.iter().map(|row| (row.name, row.schema));
    for (name, schema) in schemas.chain(registry::SINKS.iter().map(|row| (row.name, row.schema))) {
        let Some(schema) = schema else { continue };
        for common in ["type", "name", "lane"] {
            assert!(
                schema()["properties"].get(common).is_none(),
                "`{name}` has a field `{common}` of its own"
            );
        }
    }
}

/// Defaults are legal, and every field has its doc.
#[test]
fn every_field_is_documented_and_its_default_is_legal() {
    fn walk(schema: &Value, at: &str) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let at = format!("{at}/{name}");
            if field.get("const").is_none() && field.get("$ref").is_none() && field.get("items").is_none() {
                assert!(field["description"].as_str().is_some_and(|doc| doc.len() > 3), "{at} has no doc");
            }
            if let Some(default) = field.get("default") {
                let mut wrong = Vec::new();
                let typed = default.as_str().map_or_else(|| default.clone(), plain);
                validate(&typed, field, field, "", &mut wrong);
                assert!(wrong.is_empty(), "default of {at}: {wrong:?}");
            }
            walk(field, &at);
            walk(&field["additionalProperties"], &at);
        }
        for kind in schema["oneOf"].as_array().into_iter().flatten() {
            walk(kind, at);
        }
    }
    let schema = crate::config::schema();
    walk(&schema, "");
    walk(&schema["$defs"]["source"], "source");
    walk(&schema["$defs"]["sink"], "sink");
}

/// A scalar without quotes, as YAML's core schema reads it.
fn plain(text: &str) -> Value {
    if text == "true" || text == "false" {
        return json!(text == "true");
    }
    match text.parse::<i64>() {
        Ok(number) => json!(number),
        Err(_) => json!(text),
    }
}

fn json_of(node: &Node) -> Value {
    match &node.kind {
        Kind::Null => Value::Null,
        Kind::Scalar { text, plain: true } => plain(text),
        Kind::Scalar { text, .. } => json!(text),
        Kind::List(items) => items.iter().map(json_of).collect(),
        Kind::Map(entries) => entries.iter().map(|(key, _, node)| (key.clone(), json_of(node))).collect(),
    }
}

fn is(value: &Value, type_: &str) -> bool {
    match type_ {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("unknown type {type_}"),
    }
}

/// JSON Schema, as much of it as dts writes. An unknown keyword is a panic: it would not be checked.
fn validate(value: &Value, schema: &Value, root: &Value, at: &str, wrong: &mut Vec<String>) {
    let Some(schema) = schema.as_object() else {
        if schema == &json!(false) {
            wrong.push(format!("{at}: not allowed"));
        }
        return;
    };
    let valid = |schema: &Value| {
        let mut wrong = Vec::new();
        validate(value, schema, root, at, &mut wrong);
        wrong
    };
    for (keyword, rule) in schema {
        let ok = match (keyword.as_str(), value) {
            ("$ref", _) => {
                let target = rule.as_str().and_then(|r| root.pointer(r.strip_prefix('#')?)).unwrap();
                validate(value, target, root, at, wrong);
                true
            }
            ("type", _) => match rule {
                Value::Array(types) => types.iter().any(|type_| is(value, type_.as_str().unwrap())),
                type_ => is(value, type_.as_str().unwrap()),
            },
            ("const", _) => value == rule,
            ("enum", _) => rule.as_array().unwrap().contains(value),
            ("minimum", Value::Number(n)) => n.as_i128() >= rule.as_number().and_then(|r| r.as_i128()),
            ("maximum", Value::Number(n)) => n.as_i128() <= rule.as_number().and_then(|r| r.as_i128()),
            ("pattern", Value::String(text)) => {
                regex_lite::Regex::new(rule.as_str().unwrap()).unwrap().is_match(text)
            }
            ("minLength", Value::String(text)) => text.chars().count() as u64 >= rule.as_u64().unwrap(),
            ("maxLength", Value::String(text)) => text.chars().count() as u64 <= rule.as_u64().unwrap(),
            ("minItems", Value::Array(items)) => items.len() as u64 >= rule.as_u64().unwrap(),
            ("maxItems", Value::Array(items)) => items.len() as u64 <= rule.as_u64().unwrap(),
            ("minProperties", Value::Object(map)) => map.len() as u64 >= rule.as_u64().unwrap(),
            ("items", Value::Array(items)) => {
                for (i, item) in items.iter().enumerate() {
                    validate(item, rule, root, &format!("{at}/{i}"), wrong);
                }
                true
            }
            ("properties", Value::Object(map)) => {
                for (name, rule) in rule.as_object().unwrap() {
                    if let Some(value) = map.get(name) {
                        validate(value, rule, root, &format!("{at}/{name}"), wrong);
                    }
                }
                true
            }
            ("additionalProperties", Value::Object(map)) => {
                let known = schema.get("properties").and_then(Value::as_object);
                for (name, value) in
                    map.iter().filter(|(name, _)| known.is_none_or(|k| !k.contains_key(*name)))
                {
                    validate(value, rule, root, &format!("{at}/{name}"), wrong);
                }
                true
            }
            ("propertyNames", Value::Object(map)) => {
                for name in map.keys() {
                    validate(&json!(name), rule, root, &format!("{at}/{name}"), wrong);
                }
                true
            }
            ("required", Value::Object(map)) => {
                rule.as_array().unwrap().iter().all(|name| map.contains_key(name.as_str().unwrap()))
            }
            ("allOf", _) => {
                wrong.extend(rule.as_array().unwrap().iter().flat_map(valid));
                true
            }
            ("anyOf", _) => rule.as_array().unwrap().iter().any(|schema| valid(schema).is_empty()),
            ("oneOf", _) => {
                rule.as_array().unwrap().iter().filter(|schema| valid(schema).is_empty()).count() == 1
            }
            (
                "minimum"
                | "maximum"
                | "pattern"
                | "minLength"
                | "maxLength"
                | "minItems"
                | "maxItems"
                | "minProperties"
                | "items"
                | "properties"
                | "additionalProperties"
                | "propertyNames"
                | "required"
                | "title"
                | "description"
                | "default"
                | "$schema"
                | "$defs"
                | "examples"
                | "format",
                _,
            ) => true,
            (unknown, _) => panic!("the schema uses `{unknown}`, which this test does not check"),
        };
        if !ok {
            wrong.push(format!("{at}: {keyword} {rule}: {value}"));
        }
    }
}
