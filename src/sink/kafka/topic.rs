//! Which topic a change goes to: a template in the syntax of Go's text/template, as far as names go.

use crate::config::node::{Kind, Node};
use crate::config::{Context, Field};

/// Longest name of a topic that Kafka takes.
const MAX_NAME: usize = 249;

/// What may stand between `{{.` and `}}`.
const NAMES: [(&str, Part); 3] =
    [("Database", Part::Database), ("Table", Part::Table), ("Source", Part::Source)];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Database,
    Table,
    Source,
}

/// A checked template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

impl Default for Template {
    /// `{{.Database}}.{{.Table}}`
    fn default() -> Self {
        Self(vec![Part::Database, Part::Text(".".to_owned()), Part::Table])
    }
}

impl Template {
    /// Reads `dts_{{.Table}}_v2`; the error names the place of the mistake.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let at = text.len() - after.len() - 1;
            literal(before, text.len() - rest.len(), &mut parts)?;
            let (name, after) = after
                .split_once("}}")
                .ok_or_else(|| format!("a topic: the `{{{{` at character {at} is not closed by `}}}}`"))?;
            // Go allows blanks, and a dash that trims what is around.
            let name = name.trim().trim_start_matches('-').trim_end_matches('-').trim();
            let known = name.strip_prefix('.').and_then(|name| NAMES.iter().find(|(n, _)| *n == name));
            let Some((_, part)) = known else {
                let names: Vec<_> = NAMES.iter().map(|(n, _)| format!("{{{{.{n}}}}}")).collect();
                return Err(format!(
                    "a topic with {} in it; at character {at} stands `{name}`",
                    names.join(", ")
                ));
            };
            parts.push(part.clone());
            rest = after;
        }
        literal(rest, text.len() - rest.len(), &mut parts)?;
        if parts.is_empty() {
            return Err("the name of a topic".to_owned());
        }
        Ok(Self(parts))
    }

    /// The topic of a table. What a topic's name cannot hold is `_` in it.
    pub fn render(&self, source: &str, database: &str, table: &str) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Database => legal(&mut out, database),
                Part::Table => legal(&mut out, table),
                Part::Source => legal(&mut out, source),
            }
        }
        // All ASCII.
        out.truncate(MAX_NAME);
        if matches!(&*out, "" | "." | "..") { "_".to_owned() } else { out }
    }
}

fn is_legal(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

fn legal(out: &mut String, name: &str) {
    out.extend(name.chars().map(|c| if is_legal(c) { c } else { '_' }));
}

fn literal(text: &str, from: usize, parts: &mut Vec<Part>) -> Result<(), String> {
    if let Some((at, c)) = text.char_indices().find(|(_, c)| !is_legal(*c)) {
        let at = from + at + 1;
        return Err(format!("a topic of letters, digits, `.`, `_`, `-`; at character {at} stands `{c}`"));
    }
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
    Ok(())
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
        serde_json::json!({ "type": "string", "minLength": 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(template: &str) -> String {
        Template::parse(template).unwrap().render("src", "shop", "user action")
    }

    #[test]
    fn topics() {
        assert_eq!(of("dts_{{.Table}}_v2"), "dts_user_action_v2");
        assert_eq!(of("{{.Source}}.{{ .Database }}.{{- .Table -}}"), "src.shop.user_action");
        assert_eq!(of("plain"), "plain");
        assert_eq!(Template::default().render("s", "d", "t"), "d.t");
        assert_eq!(Template::default().render("s", "", ""), "_");
        assert_eq!(of("{{.Table}}").len(), 11);
        assert_eq!(Template::parse("{{.Table}}").unwrap().render("", "", &"x".repeat(300)).len(), 249);
    }

    #[test]
    fn mistakes_are_named_by_their_place() {
        let wrong = |text: &str| Template::parse(text).unwrap_err();
        assert!(
            wrong("dts_{{.Tabel}}_v2").ends_with("at character 5 stands `.Tabel`"),
            "{}",
            wrong("dts_{{.Tabel}}_v2")
        );
        assert!(wrong("a{{Table}}").contains("at character 2"));
        assert!(wrong("a{{.Table").contains("`{{` at character 2 is not closed"));
        assert!(wrong("a b").ends_with("at character 2 stands ` `"));
        assert!(wrong("{{.Table}}/x").ends_with("at character 11 stands `/`"));
        assert!(wrong("a{.Table}").contains("at character 2 stands `{`"));
        assert_eq!(wrong(""), "the name of a topic");
    }
}
