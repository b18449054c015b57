//! One message a key and a slice of time: which rows of a run that leaves, and what their numbers say.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::options::Keep;
use super::reduce::Reducer;
use crate::event::batch::MONOTONIC;
use crate::event::{Image, ImageView, Op, RowError, RowHead, RowView, RowWriter, Value};

/// Most groups of a run, and most bytes of their keys and numbers.
const GROUPS: usize = 4096;
const BYTES: usize = 256 << 10;

/// Columns of `builtin::message`.
const KEY: usize = 0;
const TOPIC: usize = 1;
const JSON: usize = 2;

/// Topic, key, slice of time.
type Group = (String, Option<String>, u64);
/// The value of a field and its text, where a message has it as a number.
type Reading = Option<(f64, String)>;

#[derive(Debug)]
pub(super) struct Downsampler {
    every_us: u64,
    fields: Vec<(Box<str>, Keep)>,
    groups: HashMap<Group, Slice>,
    bytes: usize,
    dropped: HashSet<u64>,
    replaced: HashMap<u64, Vec<Option<Numbers>>>,
}

#[derive(Debug)]
struct Slice {
    newest: u64,
    rows: u64,
    numbers: Vec<Option<Numbers>>,
}

/// What was seen of one field. Texts as they stood in the messages.
#[derive(Clone, Debug)]
struct Numbers {
    first: String,
    last: String,
    min: (f64, String),
    max: (f64, String),
    sum: f64,
    count: u64,
}

impl Numbers {
    fn new(value: f64, text: &str) -> Self {
        let text = text.to_owned();
        Self {
            first: text.clone(),
            last: text.clone(),
            min: (value, text.clone()),
            max: (value, text),
            sum: value,
            count: 1,
        }
    }

    fn add(&mut self, value: f64, text: &str) {
        text.clone_into(&mut self.last);
        if value < self.min.0 {
            self.min = (value, text.to_owned());
        }
        if value > self.max.0 {
            self.max = (value, text.to_owned());
        }
        self.sum += value;
        self.count += 1;
    }

    fn kept(&self, keep: Keep) -> String {
        match keep {
            Keep::First => self.first.clone(),
            Keep::Last => self.last.clone(),
            Keep::Min => self.min.1.clone(),
            Keep::Max => self.max.1.clone(),
            Keep::Mean => {
                let mean = self.sum / self.count as f64;
                serde_json::Number::from_f64(mean).map_or_else(|| self.last.clone(), |n| n.to_string())
            }
        }
    }
}

impl Downsampler {
    pub(super) fn new(every: Duration, fields: &[(Box<str>, Keep)]) -> Self {
        Self {
            every_us: u64::try_from(every.as_micros()).unwrap_or(u64::MAX).max(1),
            fields: fields.to_vec(),
            groups: HashMap::new(),
            bytes: 0,
            dropped: HashSet::new(),
            replaced: HashMap::new(),
        }
    }

    /// The group of a row, and its named numbers; `None` if it is kept as it is.
    fn group(&self, row: &RowView<'_>, image: &ImageView<'_>) -> Option<(Group, Vec<Reading>)> {
        if row.op() != Op::Message || image.is_partial() {
            return None;
        }
        let Some(Value::Text(json)) = image.get(JSON) else { return None };
        let object = serde_json::from_str::<Object<'_>>(json).ok()?;
        let number = |name: &str| {
            let (_, raw) = object.0.iter().rev().find(|(key, _)| key == name)?;
            let value: f64 = raw.get().parse().ok().filter(|v: &f64| v.is_finite())?;
            Some((value, raw.get().to_owned()))
        };
        let numbers: Vec<_> = self.fields.iter().map(|(name, _)| number(name)).collect();
        if numbers.iter().all(Option::is_none) {
            return None;
        }
        let text = |column| match image.get(column) {
            Some(Value::Text(t)) => Some(t.to_owned()),
            _ => None,
        };
        let stamp = row.head().hlc;
        // The clock of a boot and the wall clock have slices of their own.
        let slice = if stamp & MONOTONIC != 0 {
            MONOTONIC | ((stamp & !MONOTONIC) / self.every_us)
        } else {
            (stamp >> 16).saturating_mul(1000) / self.every_us
        };
        Some(((text(TOPIC).unwrap_or_default(), text(KEY), slice), numbers))
    }
}

impl Reducer for Downsampler {
    fn observe(&mut self, seq: u64, row: &RowView<'_>) -> Result<bool, RowError> {
        let Some(image) = row.newest()? else { return Ok(true) };
        let Some((group, numbers)) = self.group(row, &image) else { return Ok(true) };
        match self.groups.get_mut(&group) {
            Some(slice) => {
                self.dropped.insert(slice.newest);
                slice.newest = seq;
                slice.rows += 1;
                for (seen, new) in slice.numbers.iter_mut().zip(numbers) {
                    match (seen, new) {
                        (Some(seen), Some((value, text))) => seen.add(value, &text),
                        (seen @ None, Some((value, text))) => *seen = Some(Numbers::new(value, &text)),
                        (_, None) => {}
                    }
                }
            }
            None => {
                let numbers: Vec<Option<Numbers>> =
                    numbers.into_iter().map(|n| n.map(|(value, text)| Numbers::new(value, &text))).collect();
                self.bytes +=
                    group.0.len() + group.1.as_ref().map_or(0, String::len) + 96 + 160 * numbers.len();
                self.groups.insert(group, Slice { newest: seq, rows: 1, numbers });
            }
        }
        Ok(self.groups.len() < GROUPS && self.bytes < BYTES)
    }

    fn finish(&mut self) {
        for (_, slice) in std::mem::take(&mut self.groups) {
            if slice.rows > 1 {
                self.replaced.insert(slice.newest, slice.numbers);
            }
        }
    }

    fn drops(&self, seq: u64) -> bool {
        self.dropped.contains(&seq)
    }

    fn replaces(&self, seq: u64, row: &RowView<'_>) -> Result<Option<Vec<u8>>, RowError> {
        let Some(numbers) = self.replaced.get(&seq) else { return Ok(None) };
        let Some(image) = row.newest()? else { return Ok(None) };
        let Some(Value::Text(json)) = image.get(JSON) else { return Ok(None) };
        let Ok(object) = serde_json::from_str::<Object<'_>>(json) else { return Ok(None) };
        let kept: Vec<(&str, String)> = self
            .fields
            .iter()
            .zip(numbers)
            .filter_map(|((name, keep), numbers)| Some((&**name, numbers.as_ref()?.kept(*keep))))
            .collect();
        let json = object.with(&kept);
        let mut values: Vec<Value<'_>> = image.iter().map(|(_, value)| value).collect();
        if let Some(place) = values.get_mut(JSON) {
            *place = Value::Text(&json);
        }
        let mut out = Vec::new();
        let head = RowHead { op: Op::Message, ..row.head() };
        RowWriter::write(&mut out, head, row.table(), None, Some(Image::full(&values)))?;
        Ok(Some(out))
    }

    fn reason(&self) -> &'static str {
        "downsample"
    }
}

/// A JSON object with its members in their order and as they are written.
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl Object<'_> {
    /// The object's text with some members' values replaced; those it lacks are added.
    fn with(&self, new: &[(&str, String)]) -> String {
        let mut members: Vec<(&str, &str)> = Vec::with_capacity(self.0.len() + new.len());
        for (name, raw) in &self.0 {
            let replaced = new.iter().find(|(n, _)| n == name);
            members.push((name, replaced.map_or_else(|| raw.get(), |(_, text)| text)));
        }
        members.extend(
            new.iter().filter(|(n, _)| self.0.iter().all(|(name, _)| name != n)).map(|(n, t)| (*n, &**t)),
        );
        let mut out = String::from("{");
        for (i, (name, value)) in members.into_iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            out.push_str(&serde_json::Value::from(name).to_string());
            out.push(':');
            out.push_str(value);
        }
        out.push('}');
        out
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<'a>(std::marker::PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Members<'a> {
            type Value = Object<'a>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Object<'a>, M::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<String, &'a RawValue>()? {
                    members.push(member);
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members(std::marker::PhantomData))
    }
}
