//! A table as its statements describe it.

use crate::source::mysql::charset::Charset;

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its database.
    pub db: String,
    /// Its name.
    pub name: String,
    /// In the order of a row event, generated and invisible ones among them.
    pub columns: Vec<Column>,
    /// What new text columns get. `None` if it is not known.
    pub charset: Option<&'static Charset>,
    /// It is a SEQUENCE of MariaDB, which logs its state as rows of a table.
    pub is_sequence: bool,
    /// MariaDB keeps its history; if its two columns are not written in the statement they are the last ones.
    pub(super) versioning: Versioning,
}

/// Whether a table keeps its history (MariaDB).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Versioning {
    #[default]
    None,
    /// The columns `row_start` and `row_end` are there, unseen, as the last two.
    Unseen,
    /// The statement declares the columns.
    Declared,
}

/// A column.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: ColumnType,
    /// Of a number.
    pub unsigned: bool,
    /// Of text, ENUM and SET. `None` for others, and where it is not known.
    pub charset: Option<&'static Charset>,
    /// The labels of ENUM and SET. Empty if they are not known.
    pub members: Vec<String>,
    /// MariaDB's COMPRESSED.
    pub compressed: bool,
    /// Place in the primary key, from 0.
    pub key: Option<u16>,
    /// GENERATED and not stored. MariaDB writes no value of it into a row event.
    pub is_virtual: bool,
    /// Whether the statement named the character set.
    pub(super) charset_is_own: bool,
}

/// A column's type, as far as a row event needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are SQL's own names")]
pub enum ColumnType {
    TinyInt,
    SmallInt,
    MediumInt,
    Int,
    BigInt,
    Decimal {
        precision: u8,
        scale: u8,
    },
    Float,
    /// With the digits after the point that are declared, if any are.
    Double {
        scale: Option<u8>,
    },
    Bit,
    Year,
    Date,
    Time {
        fsp: u8,
    },
    DateTime {
        fsp: u8,
    },
    Timestamp {
        fsp: u8,
    },
    Char,
    VarChar,
    Binary,
    VarBinary,
    Text,
    Blob,
    Enum,
    Set,
    Json,
    Geometry,
    Vector,
    Uuid,
    Inet4,
    Inet6,
    /// One that this reader does not know.
    Other(String),
}

impl ColumnType {
    /// Whether its values are in a character set.
    pub fn is_text(&self) -> bool {
        matches!(self, Self::Char | Self::VarChar | Self::Text | Self::Enum | Self::Set | Self::Json)
    }

    /// Whether a table map may give this type as the type code `code` (`enum_field_types`), the real type of what is
    /// logged as a string (ENUM, SET) already taken from its metadata.
    pub fn may_be(&self, code: u8) -> bool {
        let codes: &[u8] = match self {
            Self::TinyInt => &[1],
            Self::SmallInt => &[2],
            Self::MediumInt => &[9],
            Self::Int => &[3],
            Self::BigInt => &[8],
            Self::Decimal { .. } => &[246, 0],
            Self::Float => &[4, 5],
            Self::Double { .. } => &[5, 4],
            Self::Bit => &[16],
            Self::Year => &[13],
            Self::Date => &[10, 14],
            Self::Time { .. } => &[11, 19],
            Self::DateTime { .. } => &[12, 18],
            Self::Timestamp { .. } => &[7, 17],
            Self::Char | Self::Binary => &[254, 253, 15],
            Self::VarChar | Self::VarBinary => &[15, 253, 141, 252, 140],
            Self::Text | Self::Blob => &[252, 140, 249, 250, 251],
            Self::Enum => &[247],
            Self::Set => &[248],
            Self::Json => &[245, 252, 140],
            Self::Geometry => &[255],
            Self::Vector => &[242, 15, 253, 252],
            Self::Uuid | Self::Inet4 | Self::Inet6 => &[254],
            Self::Other(_) => return true,
        };
        codes.contains(&code)
    }
}

impl Table {
    /// Whether a table map with these type codes can be of this table. One that differs was made by a statement that the
    /// stream does not hold.
    pub fn fits(&self, codes: impl ExactSizeIterator<Item = u8>) -> bool {
        codes.len() == self.columns.len()
            && codes.zip(&self.columns).all(|(code, column)| column.ty.may_be(code))
    }

    /// How many columns at the end are there without any statement saying so, and are not in `SELECT *`: MariaDB's `row_start`
    /// and `row_end`.
    pub fn unseen(&self) -> usize {
        if self.versioning == Versioning::Unseen { 2 } else { 0 }
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        let same = |column: &Column| column.name.to_lowercase() == name.to_lowercase();
        self.columns.iter().position(same)
    }

    /// Makes the columns of these names the primary key, in this order.
    pub(super) fn set_key(&mut self, names: &[String]) {
        self.drop_key();
        let mut place = 0;
        for name in names {
            // A period (WITHOUT OVERLAPS) is no column.
            if let Some(column) = self.find(name).and_then(|at| self.columns.get_mut(at)) {
                column.key = Some(place);
                place += 1;
            }
        }
    }

    pub(super) fn drop_key(&mut self) {
        for column in &mut self.columns {
            column.key = None;
        }
    }

    /// Numbers the key's columns anew after one went.
    pub(super) fn close_key(&mut self) {
        let mut places: Vec<&mut u16> = self.columns.iter_mut().filter_map(|c| c.key.as_mut()).collect();
        places.sort_unstable();
        for (n, place) in (0..).zip(places) {
            *place = n;
        }
    }

    /// Gives the table's character set to the columns that did not name one.
    pub(super) fn inherit(&mut self) {
        for column in &mut self.columns {
            if column.ty.is_text() && column.charset.is_none() && !column.charset_is_own {
                column.charset = self.charset;
                become_bytes(column);
            }
        }
    }
}

/// Text in the character set `binary` is bytes.
pub(super) fn become_bytes(column: &mut Column) {
    if column.charset.is_some_and(Charset::is_binary) {
        column.ty = match column.ty {
            ColumnType::Char => ColumnType::Binary,
            ColumnType::VarChar => ColumnType::VarBinary,
            ColumnType::Text => ColumnType::Blob,
            _ => return,
        };
        column.charset = None;
    }
}
