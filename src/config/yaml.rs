//! Text to [`Node`]: YAML 1.2 by saphyr-parser's events, less what a config has no use for.
//!
//! Not taken: anchors and aliases (few bytes could become many), tags, several documents, keys that
//! are not text, more than [`MAX_DEPTH`] levels. Nothing is allocated by a number in the text.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput};

use super::field::{Context, quoted};
use super::node::{Kind, Node, Place};
use super::outside;

/// Most levels of lists and mappings inside each other.
pub const MAX_DEPTH: usize = 32;
/// Largest config.
pub const MAX_BYTES: usize = 1 << 20;

/// Reads a whole file. `None` if it is not YAML; other mistakes are noted and the reading goes on.
pub fn parse(bytes: &[u8], cx: &mut Context) -> Option<Node> {
    let start = Place { line: 1, column: 1 };
    if bytes.len() > MAX_BYTES {
        cx.mistake(start, format!("a config larger than {MAX_BYTES} bytes is not read"));
        return None;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            cx.mistake(place_of(&bytes[..error.valid_up_to()]), "this byte is not UTF-8");
            return None;
        }
    };
    let mut reader = Reader { parser: Parser::new_from_str(text), cx, spent: 0 };
    reader.document(start)
}

/// The place after `before`, which is valid UTF-8.
fn place_of(before: &[u8]) -> Place {
    let text = String::from_utf8_lossy(before);
    let last = text.rsplit('\n').next().unwrap_or_default();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Place {
        line: count(text.split('\n').count()),
        column: count(last.trim_start_matches('\u{feff}').chars().count() + 1),
    }
}

struct Reader<'t, 'c> {
    parser: Parser<'t, StrInput<'t>>,
    cx: &'c mut Context,
    /// Bytes that variables added so far.
    spent: usize,
}

/// `None` ends the reading, after a mistake was noted.
impl<'t> Reader<'t, '_> {
    fn next(&mut self) -> Option<(Event<'t>, Place, bool)> {
        match self.parser.next_event()? {
            Ok((event, span)) => Some((event, place(&span.start), span.is_empty())),
            Err(error) => {
                let message = match error.info() {
                    // As in `path: *.log`.
                    info if info.contains("unknown anchor") => {
                        "`*` begins an alias, and aliases are not taken here: put the text into quotes"
                            .to_owned()
                    }
                    info => format!("this is not YAML: {info}"),
                };
                self.cx.mistake(place(error.marker()), message);
                None
            }
        }
    }

    fn document(&mut self, start: Place) -> Option<Node> {
        let mut root = None;
        loop {
            let (event, place, empty) = self.next()?;
            match event {
                Event::StreamEnd => {
                    return Some(root.unwrap_or(Node { place: start, kind: Kind::Null }));
                }
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                Event::DocumentStart(_) if root.is_some() => {
                    self.cx.mistake(place, "a second document begins here; a config is one document");
                    return None;
                }
                Event::DocumentStart(_) => {}
                event => root = Some(self.node(event, place, empty, start, 0)?),
            }
        }
    }

    /// The node that begins with `event`. One that is nothing at all is placed at its `parent`.
    fn node(
        &mut self,
        event: Event<'t>,
        place: Place,
        empty: bool,
        parent: Place,
        depth: usize,
    ) -> Option<Node> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.extras(anchor, tag.is_some(), place);
                let plain = style == ScalarStyle::Plain;
                if plain && empty {
                    return Some(Node { place: parent, kind: Kind::Null });
                }
                Some(Node { place, kind: self.scalar(&text, plain, place) })
            }
            Event::SequenceStart(anchor, tag) => {
                self.extras(anchor, tag.is_some(), place);
                self.deeper(depth, place)?;
                let mut items = Vec::new();
                loop {
                    let (event, at, empty) = self.next()?;
                    if event == Event::SequenceEnd {
                        return Some(Node { place, kind: Kind::List(items) });
                    }
                    items.push(self.node(event, at, empty, at, depth + 1)?);
                }
            }
            Event::MappingStart(anchor, tag) => {
                self.extras(anchor, tag.is_some(), place);
                self.deeper(depth, place)?;
                Some(Node { place, kind: Kind::Map(self.entries(depth)?) })
            }
            Event::Alias(_) => {
                self.cx.unreadable(place, "aliases (`*name`) are not taken here: write it out");
                Some(Node { place, kind: Kind::Null })
            }
            _ => {
                self.cx.mistake(place, "this is not YAML");
                None
            }
        }
    }

    fn entries(&mut self, depth: usize) -> Option<Vec<(String, Place, Node)>> {
        let mut entries: Vec<(String, Place, Node)> = Vec::new();
        // A file of one mebibyte may hold many keys: not a search over all of them for each.
        let mut seen = std::collections::HashMap::new();
        loop {
            let (event, at, empty) = self.next()?;
            if event == Event::MappingEnd {
                return Some(entries);
            }
            let key = self.key(event, at, empty, depth)?;
            let (event, value_at, empty) = self.next()?;
            let value = self.node(event, value_at, empty, at, depth + 1)?;
            let Some(key) = key else { continue };
            match seen.get(&key) {
                Some(line) => {
                    let message = format!("{} is given twice, first in line {line}", quoted(&key));
                    self.cx.mistake(at, message);
                }
                None => {
                    seen.insert(key.clone(), at.line);
                    entries.push((key, at, value));
                }
            }
        }
    }

    /// A key; `Some(None)` if it is none and its entry is left out.
    fn key(&mut self, event: Event<'t>, at: Place, empty: bool, depth: usize) -> Option<Option<String>> {
        if let Event::Scalar(text, style, anchor, tag) = &event {
            self.extras(*anchor, tag.is_some(), at);
            if *style != ScalarStyle::Plain || !(empty || is_null(text)) {
                return Some(Some(text.clone().into_owned()));
            }
        } else {
            // Reads past it.
            self.node(event, at, empty, at, depth + 1)?;
        }
        self.cx.mistake(at, "a key must be text");
        Some(None)
    }

    fn scalar(&mut self, text: &str, plain: bool, place: Place) -> Kind {
        if plain && is_null(text) {
            return Kind::Null;
        }
        if !text.contains('$') {
            return Kind::Scalar { text: text.to_owned(), plain };
        }
        match outside::replace_at(text, place, &mut self.spent, self.cx) {
            // `${NAME:-}` without quotes leaves a field out.
            Some(text) if !(plain && text.is_empty()) => Kind::Scalar { text, plain },
            _ => Kind::Null,
        }
    }

    fn extras(&mut self, anchor: usize, tag: bool, place: Place) {
        if anchor > 0 {
            self.cx.mistake(place, "anchors (`&name`) are not taken here");
        }
        if tag {
            self.cx.mistake(place, "tags (`!name`) are not taken here: `!` at the beginning needs quotes");
        }
    }

    fn deeper(&mut self, depth: usize, place: Place) -> Option<()> {
        if depth >= MAX_DEPTH {
            self.cx.mistake(place, format!("more than {MAX_DEPTH} levels of lists and mappings"));
            return None;
        }
        Some(())
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

fn place(marker: &Marker) -> Place {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Place { line: count(marker.line()).max(1), column: count(marker.col()).saturating_add(1) }
}
