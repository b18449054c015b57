//! Where a change is published: a template with `{names}`.

use crate::config::node::{Kind, Node};
use crate::config::{Context, Field};
use crate::event::{Batch, Op, Origin, RowView, Value};

/// What stands for `{device}` where a change was made by this process.
const LOCAL: &str = "local";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Device,
    Lane,
    Source,
    Db,
    Table,
    Topic,
    Kind,
    Op,
}

const NAMES: [(&str, Name); 8] = [
    ("device", Name::Device),
    ("lane", Name::Lane),
    ("source", Name::Source),
    ("db", Name::Db),
    ("table", Name::Table),
    ("topic", Name::Topic),
    ("kind", Name::Kind),
    ("op", Name::Op),
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Name(Name),
}

/// A checked template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

impl Template {
    /// Reads `a/{device}/b`; the error says what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or("a `}` behind each `{`")?;
            let known = NAMES.iter().find(|(n, _)| *n == name);
            let Some((_, name)) = known else {
                let names: Vec<String> = NAMES.iter().map(|(n, _)| format!("{{{n}}}")).collect();
                return Err(format!("only {} in braces", names.join(", ")));
            };
            parts.extend((!before.is_empty()).then(|| Part::Text(before.to_owned())));
            parts.push(Part::Name(*name));
            rest = after;
        }
        parts.extend((!rest.is_empty()).then(|| Part::Text(rest.to_owned())));
        let text_of = |part: &Part| matches!(part, Part::Text(t) if t.contains(['+', '#', '\0', '}']));
        if parts.is_empty() || parts.iter().any(text_of) {
            return Err("a topic without `+`, `#` and single braces".to_owned());
        }
        Ok(Self(parts))
    }

    /// The topic of a row. What a topic cannot hold is `_` in it.
    pub(super) fn render(&self, batch: &Batch, row: &RowView<'_>) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Name(name) => push(&mut out, *name, batch, row),
            }
        }
        out
    }
}

fn push(out: &mut String, name: Name, batch: &Batch, row: &RowView<'_>) {
    let (device, lane) = match &batch.origin {
        Origin::Device { device, lane, .. } => (&**device, &**lane),
        _ => (LOCAL, LOCAL),
    };
    let table = row.table();
    match name {
        Name::Device => level(out, device),
        Name::Lane => level(out, lane),
        Name::Source => level(out, &batch.source),
        Name::Db => level(out, &table.db),
        Name::Table => level(out, &table.name),
        Name::Op => out.push_str(row.op().as_str()),
        Name::Kind => out.push_str(kind(row.op())),
        Name::Topic => match row.op() {
            Op::Message => {
                // `topic` is column 1 of a message.
                let image = row.newest().ok().flatten();
                if let Some(Value::Text(topic)) = image.and_then(|image| image.get(1)) {
                    out.extend(topic.chars().map(|c| if matches!(c, '+' | '#' | '\0') { '_' } else { c }));
                }
            }
            Op::Loss | Op::Ddl => out.push_str(kind(row.op())),
            _ => {
                if !table.db.is_empty() {
                    level(out, &table.db);
                    out.push('/');
                }
                level(out, &table.name);
            }
        },
    }
}

fn kind(op: Op) -> &'static str {
    match op {
        Op::Message | Op::Loss | Op::Ddl => op.as_str(),
        _ => "row",
    }
}

/// Appends a name as one level.
fn level(out: &mut String, name: &str) {
    out.extend(name.chars().map(|c| if matches!(c, '/' | '+' | '#' | '\0') { '_' } else { c }));
}

impl Field for Template {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        let Kind::Scalar { text, .. } = &node.kind else { return cx.expected(node, "a topic") };
        match Self::parse(text) {
            Ok(template) => Some(template),
            Err(expected) => cx.expected(node, &expected),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "string", "pattern": "^[^+#]+$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::behaviour::{batch, builtins, put};

    #[test]
    fn topics() {
        let of = |template: &str, batch: &Batch| -> Vec<String> {
            let template = Template::parse(template).unwrap();
            batch.iter().map(|row| template.render(batch, &row.unwrap())).collect()
        };
        let mut rows = batch(1, |b| put(b, Op::Insert, 1, "x"));
        assert_eq!(of("a/{device}/{topic}", &rows), ["a/press-7/app/readings"]);
        assert_eq!(
            of("{lane}.{source}.{db}.{table}.{kind}.{op}", &rows),
            ["main.app.app.readings.row.insert"]
        );
        let events = batch(1, builtins);
        assert_eq!(of("{topic}", &events), ["t/1", "t/1", "t/1", "loss", "ddl"]);
        rows.origin =
            Origin::Device { device: "a/+#b".into(), lane: "l".into(), epoch: 1, first_seq: 1, last_seq: 1 };
        assert_eq!(of("{device}", &rows), ["a___b"]);
        rows.origin = Origin::Input;
        assert_eq!(of("{device}/x", &rows), ["local/x"]);
    }

    #[test]
    fn mistakes() {
        for bad in ["", "a/{devise}", "a/{device", "a/#", "a}b", "+/{topic}"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }
}
