//! A column of a table, as far as the TABLE_MAP and the DDL tell.
//!
//! Types and their metadata: MySQL's `libs/mysql/binlog/event/rows_event.h`, the table at
//! `Table_map_event`; MariaDB's types 140 and 141 (`COMPRESSED` columns): `sql/field.h`.

use std::fmt;

/// A column type's number. Those of ENUM and SET are the real ones, not that of STRING, as which
/// the TABLE_MAP carries them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ColumnType(pub u8);

macro_rules! types {
    ($($name:ident = $n:literal;)*) => {
        #[allow(missing_docs)]
        impl ColumnType {
            $(pub const $name: Self = Self($n);)*

            /// The server's name for it without `MYSQL_TYPE_`.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($n => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

types! {
    DECIMAL = 0; TINY = 1; SHORT = 2; LONG = 3; FLOAT = 4; DOUBLE = 5; NULL = 6; TIMESTAMP = 7;
    LONGLONG = 8; INT24 = 9; DATE = 10; TIME = 11; DATETIME = 12; YEAR = 13; NEWDATE = 14;
    VARCHAR = 15; BIT = 16; TIMESTAMP2 = 17; DATETIME2 = 18; TIME2 = 19; TYPED_ARRAY = 20;
    BLOB_COMPRESSED = 140; VARCHAR_COMPRESSED = 141; VECTOR = 242; JSON = 245; NEWDECIMAL = 246;
    ENUM = 247; SET = 248; TINY_BLOB = 249; MEDIUM_BLOB = 250; LONG_BLOB = 251; BLOB = 252;
    VAR_STRING = 253; STRING = 254; GEOMETRY = 255;
}

impl fmt::Debug for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "type {}", self.0),
        }
    }
}

impl ColumnType {
    /// Whether the SIGNEDNESS metadata has a bit for it.
    pub fn is_numeric(self) -> bool {
        matches!(
            self,
            Self::TINY
                | Self::SHORT
                | Self::INT24
                | Self::LONG
                | Self::LONGLONG
                | Self::FLOAT
                | Self::DOUBLE
                | Self::YEAR
                | Self::NEWDECIMAL
        )
    }

    /// Whether the charset metadata has an entry for it.
    pub fn is_character(self) -> bool {
        matches!(
            self,
            Self::STRING
                | Self::VAR_STRING
                | Self::VARCHAR
                | Self::VARCHAR_COMPRESSED
                | Self::BLOB
                | Self::TINY_BLOB
                | Self::MEDIUM_BLOB
                | Self::LONG_BLOB
                | Self::BLOB_COMPRESSED
        )
    }

    /// ENUM or SET.
    pub fn is_enum_or_set(self) -> bool {
        matches!(self, Self::ENUM | Self::SET)
    }
}

/// What a MariaDB column of type BINARY(4), BINARY(16) or VARBINARY really is. The TABLE_MAP does not tell;
/// the DDL does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    /// `UUID` of MariaDB 10.10.6, 10.11.5, 11.x: versions 6 and later stored as they are.
    Uuid,
    /// `UUID` of a table made before: always stored with its parts swapped.
    UuidSwapped,
    /// `INET4`.
    Inet4,
    /// `INET6`.
    Inet6,
    /// `VECTOR` (11.7 and later), logged as a VARBINARY.
    Vector,
}

/// A column's part in the primary key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyPart {
    /// Place in the key, from 0.
    pub ordinal: u16,
    /// Characters of the prefix that is indexed; 0 for the whole column.
    pub prefix: u32,
}

/// A column. What is `None` neither the TABLE_MAP nor [`ColumnHint`] told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Type.
    pub ty: ColumnType,
    /// Metadata as the server packs it: precision << 8 | scale, length in bytes, fsp, …
    pub meta: u16,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// Whether it is UNSIGNED (numeric columns only). Unknown is read as signed.
    pub unsigned: Option<bool>,
    /// Collation id (text, ENUM and SET columns); 63 is binary.
    pub charset: Option<u16>,
    /// Name.
    pub name: Option<Box<str>>,
    /// Labels of an ENUM or SET, in the column's character set; empty if unknown.
    pub labels: Box<[Box<[u8]>]>,
    /// Geometry type: 0 any, 1 point, 2 linestring, 3 polygon, 4–6 their multis, 7 collection.
    pub geometry: Option<u32>,
    /// Dimensions of a VECTOR.
    pub dimensions: Option<u32>,
    /// Whether it is not INVISIBLE.
    pub visible: Option<bool>,
    /// Its part in the primary key.
    pub key: Option<KeyPart>,
    /// What a MariaDB BINARY column really is.
    pub special: Option<Special>,
    /// Fractional digits of TIME, DATETIME, TIMESTAMP, 0–6.
    pub fsp: u8,
}

/// What the DDL knows of a column and the TABLE_MAP may not. Fills what the TABLE_MAP left open and
/// never overrides it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnHint {
    /// Name.
    pub name: Option<Box<str>>,
    /// Whether it is UNSIGNED.
    pub unsigned: Option<bool>,
    /// Collation id.
    pub charset: Option<u16>,
    /// Labels of an ENUM or SET, in the column's character set.
    pub labels: Box<[Box<[u8]>]>,
    /// Its part in the primary key.
    pub key: Option<KeyPart>,
    /// What a MariaDB BINARY column really is. Ignored where the length does not fit.
    pub special: Option<Special>,
    /// Fractional digits, for columns of MariaDB's and MySQL 5.5's old temporal types, whose values
    /// cannot be read without. 0–6.
    pub fsp: Option<u8>,
}

impl Column {
    /// Digits in all and digits after the point, of a DECIMAL.
    pub fn decimal(&self) -> Option<(u8, u8)> {
        (self.ty == ColumnType::NEWDECIMAL).then_some(((self.meta >> 8) as u8, self.meta as u8))
    }

    /// Declared length in bytes of a CHAR, VARCHAR, BINARY, VARBINARY; characters times the bytes
    /// that one can have.
    pub fn length(&self) -> Option<usize> {
        match self.ty {
            ColumnType::VARCHAR
            | ColumnType::VAR_STRING
            | ColumnType::VARCHAR_COMPRESSED
            | ColumnType::STRING => Some(usize::from(self.meta)),
            _ => None,
        }
    }

    /// Bits of a BIT.
    pub fn bits(&self) -> Option<u32> {
        // The low byte counts whole bytes... of the rest of the bits the high one... see `plan`.
        (self.ty == ColumnType::BIT).then_some(u32::from(self.meta >> 8) * 8 + u32::from(self.meta & 0xff))
    }

    /// Whether its bytes are no text: collation 63. `None` if the collation is unknown.
    pub fn is_binary(&self) -> Option<bool> {
        self.charset.map(|c| c == 63)
    }

    /// Whether it is BINARY(n), whose values the server logs without their trailing zero bytes: to
    /// be padded to [`Self::length`].
    pub fn is_padded_binary(&self) -> bool {
        self.ty == ColumnType::STRING && self.is_binary() == Some(true) && self.special.is_none()
    }
}
