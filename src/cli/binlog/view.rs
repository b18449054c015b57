//! What is prepared for a table, so that writing a row looks nothing up.

use std::collections::HashMap;

use super::session::Tables;
use crate::codec::json;
use crate::source::mysql::binlog::{Column, ColumnType, Special, TableMap};
use crate::source::mysql::charset::{self, Charset};
use crate::source::mysql::ddl;
use crate::source::mysql::tables::{is_old_temporal, shape};

/// A table, ready for its rows to be written.
#[derive(Debug)]
pub(super) struct View {
    /// `,"db":"…","table":"…"`
    pub(super) names: Box<[u8]>,
    /// `db.table`
    pub(super) label: Box<str>,
    pub(super) columns: Box<[ColumnView]>,
    /// Columns of the primary key, in its order.
    pub(super) key: Box<[usize]>,
    /// First of the columns that MariaDB adds to keep a table's history, if they are not in `SELECT *`.
    pub(super) unseen: Option<usize>,
    /// Whether a partial update may need documents of before.
    pub(super) has_json: bool,
    /// Version of the table's schema, from 1.
    pub(super) schema: u32,
    /// A SEQUENCE: its rows are none of a table.
    pub(super) is_sequence: bool,
    /// Whether its changes are wanted.
    pub(super) wanted: bool,
}

#[derive(Debug)]
pub(super) struct ColumnView {
    /// `,"name":`
    pub(super) name: Box<[u8]>,
    pub(super) form: Form,
    pub(super) fsp: u8,
    /// Place in the key; `u16::MAX` if it is not in it.
    pub(super) key: u16,
}

/// How a column's values are written, beyond what they tell themselves.
#[derive(Debug)]
pub(super) enum Form {
    /// As they are.
    Plain,
    Text(&'static Charset),
    /// Text of a known character set that needs no conversion.
    Utf8,
    Bytes,
    /// BINARY(n): zero bytes at the end were cut off.
    Padded(usize),
    /// Text or bytes: not known.
    Open,
    /// MariaDB's BINARY(4), BINARY(16), INET or UUID: not known.
    OpenPadded(usize),
    /// Labels, escaped for JSON.
    Labels(Box<[Box<[u8]>]>),
    /// ENUM or SET without labels.
    NoLabels,
    /// An integer whose sign is not known: right as it is unless it is negative.
    Sign,
    /// DOUBLE(m, d): the server shows no more digits after the point.
    Rounded(u8),
    /// MariaDB's VECTOR: numbers of 32 bits.
    Vector,
    /// A time of MariaDB that may have fractions.
    Doubtful,
}

/// Views by shape.
#[derive(Debug, Default)]
pub(super) struct Views {
    by_generation: HashMap<u64, View>,
    /// What each table looked like last, and its version.
    schemas: HashMap<Box<str>, (u64, u32)>,
}

/// More are not kept.
const MAX_VIEWS: usize = 4096;

impl Views {
    /// Shapes of another file have other numbers.
    pub(super) fn clear(&mut self) {
        self.by_generation.clear();
    }

    pub(super) fn get(
        &mut self,
        map: &TableMap,
        tables: &Tables,
        wanted: impl Fn(&str, &str) -> bool,
    ) -> &View {
        if self.by_generation.len() >= MAX_VIEWS && !self.by_generation.contains_key(&map.generation) {
            self.by_generation.clear();
        }
        let schemas = &mut self.schemas;
        self.by_generation.entry(map.generation).or_insert_with(|| {
            let mut view = view(map, tables);
            view.wanted = !view.is_sequence && wanted(&map.db, &map.table);
            let shape = shape(map);
            let schema = schemas.entry(view.label.clone()).or_insert((shape, 1));
            if schema.0 != shape {
                *schema = (shape, schema.1 + 1);
            }
            view.schema = schema.1;
            view
        })
    }
}

fn view(map: &TableMap, tables: &Tables) -> View {
    let described = tables.described(map);
    let mut names = b",\"db\":".to_vec();
    json::string(&mut names, &map.db);
    names.extend_from_slice(b",\"table\":");
    json::string(&mut names, &map.table);
    let unseen = described.map_or(0, ddl::Table::unseen);
    let unseen = map.columns.len().checked_sub(unseen).filter(|_| unseen > 0);
    // MariaDB adds `row_end` to the key of a table whose history it keeps.
    let mut key = map.key_columns();
    key.retain(|&column| unseen.is_none_or(|unseen| column < unseen));
    let columns = map.columns.iter().enumerate().map(|(i, column)| {
        let mut name = b",".to_vec();
        match &column.name {
            Some(known) => json::string(&mut name, known),
            None => name.extend_from_slice(format!("\"@{}\"", i + 1).as_bytes()),
        }
        name.push(b':');
        let hint = described.and_then(|table| table.columns.get(i));
        let place = key.iter().position(|&k| k == i).and_then(|place| u16::try_from(place).ok());
        ColumnView {
            name: name.into(),
            form: form(column, hint, tables.is_mariadb()),
            fsp: column.fsp,
            key: place.unwrap_or(u16::MAX),
        }
    });
    View {
        names: names.into(),
        label: format!("{}.{}", map.db, map.table).into(),
        columns: columns.collect(),
        key: key.clone().into(),
        unseen,
        has_json: map.columns.iter().any(|column| column.ty == ColumnType::JSON),
        schema: 0,
        is_sequence: described.map_or_else(|| looks_like_sequence(map), |table| table.is_sequence),
        wanted: true,
    }
}

/// Whether the table map alone says that it is a sequence.
fn looks_like_sequence(map: &TableMap) -> bool {
    let name = |i: usize| map.columns.get(i).and_then(|column| column.name.as_deref());
    map.columns.len() == 8 && name(0) == Some("next_not_cached_value") && name(7) == Some("cycle_count")
}

fn form(column: &Column, hint: Option<&ddl::Column>, mariadb: bool) -> Form {
    if column.ty.is_enum_or_set() {
        return labels(column, hint);
    }
    if column.ty.is_character() && column.special.is_none() {
        let length = column.length().unwrap_or(0);
        return match column.charset {
            Some(63) if column.ty != ColumnType::STRING => Form::Bytes,
            Some(63) if mariadb && hint.is_none() && matches!(length, 4 | 16) => Form::OpenPadded(length),
            Some(63) => Form::Padded(length),
            Some(id) => match charset::by_collation(id) {
                Some(set) if set.name == "utf8mb4" => Form::Utf8,
                Some(set) => Form::Text(set),
                None => Form::Open,
            },
            None => Form::Open,
        };
    }
    if column.special == Some(Special::Vector) {
        return Form::Vector;
    }
    let integer = matches!(
        column.ty,
        ColumnType::TINY | ColumnType::SHORT | ColumnType::INT24 | ColumnType::LONG | ColumnType::LONGLONG
    );
    if integer && column.unsigned.is_none() {
        return Form::Sign;
    }
    if let Some(ddl::ColumnType::Double { scale: Some(scale) }) = hint.map(|hint| &hint.ty) {
        return Form::Rounded(*scale);
    }
    if mariadb && is_old_temporal(column.ty) && hint.is_none() {
        return Form::Doubtful;
    }
    Form::Plain
}

fn labels(column: &Column, hint: Option<&ddl::Column>) -> Form {
    let escaped = |text: &str| {
        let mut out = Vec::new();
        json::escape(&mut out, text);
        out.into_boxed_slice()
    };
    let found: Option<Box<[_]>> = if column.labels.is_empty() {
        hint.map(|hint| hint.members.iter().map(|member| escaped(member)).collect())
    } else {
        let set = column.charset.and_then(charset::by_collation);
        let mut text = String::new();
        let label = |bytes: &[u8]| match set {
            Some(set) => set.to_utf8(bytes, &mut text).ok().map(escaped),
            None => std::str::from_utf8(bytes).ok().filter(|text| text.is_ascii()).map(escaped),
        };
        column.labels.iter().map(|bytes| &**bytes).map(label).collect()
    };
    match found {
        Some(labels) if !labels.is_empty() => Form::Labels(labels),
        _ => Form::NoLabels,
    }
}
