//! A column's definition.

use super::cursor::Cursor;
use super::lex::Word;
use super::table::{Column, ColumnType, become_bytes};
use crate::source::mysql::charset::{self, Charset};

/// A definition, and where it says that the column stands.
pub(super) struct Definition {
    pub(super) column: Column,
    pub(super) place: Option<Place>,
    /// `PRIMARY KEY` stands in it.
    pub(super) is_key: bool,
    /// `AS ROW START` or `AS ROW END` stands in it.
    pub(super) is_period: bool,
}

/// Where an `ALTER` puts a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    First,
    After(String),
}

/// Reads `name type …`.
pub(super) fn named(cursor: &mut Cursor<'_>) -> Option<Definition> {
    let name = cursor.name()?;
    definition(name, cursor)
}

/// Reads `type …` up to the end.
pub(super) fn definition(name: String, cursor: &mut Cursor<'_>) -> Option<Definition> {
    let column = Column {
        name,
        ty: ColumnType::Other(String::new()),
        unsigned: false,
        charset: None,
        members: Vec::new(),
        compressed: false,
        key: None,
        is_virtual: false,
        charset_is_own: false,
    };
    let mut read = Definition { column, place: None, is_key: false, is_period: false };
    ty(&mut read.column, cursor)?;
    attributes(&mut read, cursor);
    become_bytes(&mut read.column);
    Some(read)
}

/// The digits of `(n)`, if it stands here.
fn size(cursor: &mut Cursor<'_>) -> [Option<u32>; 2] {
    let Some(mut inside) = cursor.parens() else { return [None; 2] };
    let mut number = || {
        let found = match inside.next()? {
            Word::Number(digits) => digits.parse().ok(),
            _ => None,
        };
        inside.next();
        found
    };
    [number(), number()]
}

fn ty(column: &mut Column, cursor: &mut Cursor<'_>) -> Option<()> {
    let Some(Word::Plain(word)) = cursor.next() else { return None };
    let mut word = word.to_ascii_uppercase();
    // MariaDB's name of its own types in dumps for others: `mariadb_schema.date`.
    if cursor.eat_sign('.') {
        word = cursor.name()?.to_ascii_uppercase();
    }
    let small = |n: Option<u32>, or: u8| n.and_then(|n| u8::try_from(n).ok()).unwrap_or(or);
    let mut national = false;
    column.ty = match word.as_str() {
        "TINYINT" | "INT1" | "BOOL" | "BOOLEAN" => ColumnType::TinyInt,
        "SMALLINT" | "INT2" => ColumnType::SmallInt,
        "MEDIUMINT" | "MIDDLEINT" | "INT3" => ColumnType::MediumInt,
        "INT" | "INTEGER" | "INT4" => ColumnType::Int,
        "BIGINT" | "INT8" => ColumnType::BigInt,
        "SERIAL" => {
            column.unsigned = true;
            ColumnType::BigInt
        }
        "DECIMAL" | "NUMERIC" | "DEC" | "FIXED" | "NUMBER" => {
            let [precision, scale] = size(cursor);
            ColumnType::Decimal { precision: small(precision, 10), scale: small(scale, 0) }
        }
        // FLOAT(25) and more is a DOUBLE; FLOAT(7,4) is not.
        "FLOAT" => match size(cursor) {
            [Some(25..), None] => ColumnType::Double { scale: None },
            _ => ColumnType::Float,
        },
        "FLOAT4" => ColumnType::Float,
        "DOUBLE" | "REAL" | "FLOAT8" => {
            cursor.eat("PRECISION");
            ColumnType::Double { scale: size(cursor)[1].map(|scale| small(Some(scale), 0)) }
        }
        "BIT" => ColumnType::Bit,
        "YEAR" => ColumnType::Year,
        "DATE" => ColumnType::Date,
        "TIME" => ColumnType::Time { fsp: small(size(cursor)[0], 0) },
        "DATETIME" => ColumnType::DateTime { fsp: small(size(cursor)[0], 0) },
        "TIMESTAMP" => ColumnType::Timestamp { fsp: small(size(cursor)[0], 0) },
        "NATIONAL" => {
            national = true;
            let varying =
                cursor.sees("VARCHAR") || cursor.sees("VARCHARACTER") || cursor.sees_at(1, "VARYING");
            cursor.skip_any(&["CHAR", "CHARACTER", "VARCHAR", "VARCHARACTER", "VARYING"]);
            if varying { ColumnType::VarChar } else { ColumnType::Char }
        }
        "NCHAR" | "NVARCHAR" => {
            national = true;
            let varying = word == "NVARCHAR" || cursor.sees("VARCHAR") || cursor.sees("VARYING");
            cursor.skip_any(&["VARCHAR", "VARCHARACTER", "VARYING"]);
            if varying { ColumnType::VarChar } else { ColumnType::Char }
        }
        "CHAR" | "CHARACTER" => {
            if cursor.eat("VARYING") {
                ColumnType::VarChar
            } else {
                ColumnType::Char
            }
        }
        "VARCHAR" | "VARCHARACTER" | "VARCHAR2" => ColumnType::VarChar,
        "BINARY" => ColumnType::Binary,
        "VARBINARY" | "RAW" => ColumnType::VarBinary,
        "TINYTEXT" | "TEXT" | "MEDIUMTEXT" | "LONGTEXT" | "CLOB" => ColumnType::Text,
        "TINYBLOB" | "BLOB" | "MEDIUMBLOB" | "LONGBLOB" => ColumnType::Blob,
        "LONG" => {
            if cursor.eat("VARBINARY") {
                ColumnType::Blob
            } else {
                cursor.skip_any(&["VARCHAR", "VARCHARACTER", "CHAR", "CHARACTER", "VARYING"]);
                ColumnType::Text
            }
        }
        "ENUM" | "SET" => {
            column.members = members(cursor.parens()?);
            if word == "ENUM" { ColumnType::Enum } else { ColumnType::Set }
        }
        "JSON" => ColumnType::Json,
        "GEOMETRY" | "POINT" | "LINESTRING" | "POLYGON" | "MULTIPOINT" | "MULTILINESTRING"
        | "MULTIPOLYGON" | "GEOMETRYCOLLECTION" | "GEOMCOLLECTION" => ColumnType::Geometry,
        "VECTOR" => ColumnType::Vector,
        "UUID" => ColumnType::Uuid,
        "INET4" => ColumnType::Inet4,
        "INET6" => ColumnType::Inet6,
        _ => ColumnType::Other(word),
    };
    // A display width or a length.
    cursor.parens();
    if national {
        own_charset(column, "utf8mb3");
    }
    if column.ty == ColumnType::Json {
        own_charset(column, "utf8mb4");
    }
    Some(())
}

/// The labels of an ENUM or SET. None at all if one of them cannot be known.
fn members(mut inside: Cursor<'_>) -> Vec<String> {
    let mut found = Vec::new();
    while let Some(mut item) = inside.item() {
        let introduced = matches!(item.peek(), Some(Word::Plain(_))) && item.next().is_some();
        let label = match item.next() {
            // The bytes after an introducer are not in the statement's character set.
            Some(Word::Text(text)) if !introduced || text.is_ascii() => Some(text.clone()),
            Some(Word::Hex(digits)) => ascii_of(digits),
            _ => None,
        };
        let Some(label) = label else { return Vec::new() };
        // The server takes off trailing blanks.
        found.push(label.trim_end_matches(' ').to_owned());
    }
    found
}

fn ascii_of(digits: &str) -> Option<String> {
    let bytes = digits.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok().filter(u8::is_ascii).map(char::from)
    });
    bytes.collect()
}

fn own_charset(column: &mut Column, name: &str) {
    column.charset_is_own = true;
    column.charset = charset::by_name(name);
}

/// What stands behind the type, skimmed for what matters.
fn attributes(read: &mut Definition, cursor: &mut Cursor<'_>) {
    let mut collation: Option<String> = None;
    while let Some(word) = cursor.next() {
        let Word::Plain(word) = word else { continue };
        let column = &mut read.column;
        match word.to_ascii_uppercase().as_str() {
            "UNSIGNED" | "ZEROFILL" => column.unsigned = true,
            "CHARSET" => {
                if let Some(name) = cursor.value() {
                    own_charset(column, &name);
                }
            }
            "CHARACTER" | "CHAR" if cursor.eat("SET") => {
                if let Some(name) = cursor.value() {
                    own_charset(column, &name);
                }
            }
            "COLLATE" => collation = cursor.value(),
            "ASCII" => own_charset(column, "latin1"),
            "UNICODE" => own_charset(column, "ucs2"),
            "BYTE" => own_charset(column, "binary"),
            "COMPRESSED" => column.compressed = true,
            "VIRTUAL" => column.is_virtual = true,
            "STORED" | "PERSISTENT" => column.is_virtual = false,
            // An expression; what is not said to be stored is not.
            "AS" => match cursor.parens() {
                Some(_) => column.is_virtual = true,
                None => read.is_period |= cursor.eat("ROW"),
            },
            "PRIMARY" => read.is_key |= cursor.eat("KEY"),
            "KEY" => read.is_key = true,
            "UNIQUE" => {
                cursor.eat("KEY");
            }
            "DEFAULT" => {
                while cursor.sees_sign('-') || cursor.sees_sign('+') {
                    cursor.next();
                }
                cursor.skip();
                cursor.parens();
            }
            "ON" => {
                cursor.eat("UPDATE");
                cursor.skip();
                cursor.parens();
            }
            "COMMENT" | "COLUMN_FORMAT" | "STORAGE" | "ENGINE_ATTRIBUTE" | "SECONDARY_ENGINE_ATTRIBUTE" => {
                cursor.eat_sign('=');
                cursor.next();
            }
            "CONSTRAINT" if !cursor.sees("CHECK") => {
                cursor.next();
            }
            "REFERENCES" => {
                cursor.table("");
                cursor.parens();
                while cursor.eat("ON") {
                    cursor.skip_any(&["DELETE", "UPDATE"]);
                    let two = cursor.sees("SET") || cursor.sees("NO");
                    cursor.next();
                    if two {
                        cursor.next();
                    }
                }
            }
            "FIRST" => read.place = Some(Place::First),
            "AFTER" => read.place = cursor.name().map(Place::After),
            _ => {
                cursor.parens();
            }
        }
    }
    let column = &mut read.column;
    if let (Some(collation), false) = (collation, column.charset_is_own)
        && !collation.eq_ignore_ascii_case("default")
        && let found @ Some(_) = charset::by_collation_name(&collation)
    {
        column.charset = found;
        column.charset_is_own = true;
    }
    if column.charset_is_own && !column.ty.is_text() {
        column.charset = None;
    }
}

/// The character set that a table's or database's options name: the last word on it, with `DEFAULT` understood as `inherited`.
pub(super) fn options(
    mut cursor: Cursor<'_>,
    inherited: Option<&'static Charset>,
) -> Option<Option<&'static Charset>> {
    let mut found = None;
    while !cursor.is_empty() {
        let set = cursor.eat("CHARSET")
            || cursor.eat_all(&["CHARACTER", "SET"])
            || cursor.eat_all(&["CHAR", "SET"]);
        if set {
            cursor.eat_sign('=');
            found = cursor.value().map(|name| match name.as_str() {
                name if name.eq_ignore_ascii_case("default") => inherited,
                name => charset::by_name(name),
            });
        } else if cursor.eat("COLLATE") {
            cursor.eat_sign('=');
            if let Some(set) = cursor.value().and_then(|name| charset::by_collation_name(&name)) {
                found = Some(Some(set));
            }
        } else if cursor.eat("COMMENT") {
            cursor.eat_sign('=');
            cursor.next();
        } else {
            cursor.skip();
        }
    }
    found
}
