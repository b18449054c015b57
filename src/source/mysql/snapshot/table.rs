//! A table as a snapshot reads it: what the server's `SHOW CREATE TABLE` says, in the shape that the stream's rows have.

use std::sync::Arc;

use crate::event::{self, TableKind, Type};
use crate::source::mysql::charset::{self, Charset};
use crate::source::mysql::ddl::{self, Catalogue, ColumnType, Context};

/// A table whose rows can be read.
#[derive(Clone, Debug)]
pub struct Described {
    /// In the order of a row event.
    pub columns: Vec<Column>,
    /// Indexes of the primary key's columns, in its order.
    pub key: Vec<usize>,
    /// The shape of the rows.
    pub table: Arc<event::Table>,
}

/// A column, and how its values are asked for.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What its values become.
    pub ty: Type,
    /// Of text.
    pub charset: Option<&'static Charset>,
    /// What stands in the SELECT.
    pub ask: Ask,
}

/// How a value is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// By its name.
    Plain,
    /// As a number: ENUM, SET and BIT.
    Number,
}

/// Reads a `SHOW CREATE TABLE`. The reason where rows of the table cannot be read as the stream has them.
pub fn describe(db: &str, name: &str, sql: &str, is_mariadb: bool) -> Result<Described, String> {
    let mut catalogue = Catalogue::default();
    let utf8 = charset::by_name("utf8mb4");
    let cx = Context { db, database_charset: utf8, server_charset: utf8, ..Context::default() };
    catalogue.read(sql, &cx);
    let table = catalogue.table(db, name).ok_or("what SHOW CREATE TABLE says is not understood")?;
    if table.is_sequence {
        return Err("it is a sequence".into());
    }
    if table.unseen() > 0 || sql.to_ascii_uppercase().contains("WITH SYSTEM VERSIONING") {
        return Err(
            "it keeps its own history (WITH SYSTEM VERSIONING), which a snapshot does not read".into()
        );
    }
    let mut columns = Vec::new();
    for column in &table.columns {
        columns.push(read(column, is_mariadb)?);
    }
    let shapes = table.columns.iter().zip(&columns).map(|(found, column)| event::Column {
        name: found.name.as_str().into(),
        ty: column.ty,
        key: found.key,
        declared: "".into(),
        labels: found.members.iter().map(|label| label.as_str().into()).collect(),
    });
    let shape = event::Table {
        kind: TableKind::Table,
        db: db.into(),
        name: name.into(),
        version: 1,
        columns: shapes.collect(),
    };
    let key = shape.key_columns();
    Ok(Described { columns, key, table: Arc::new(shape) })
}

fn read(column: &ddl::Column, is_mariadb: bool) -> Result<Column, String> {
    use ColumnType as T;
    let number = |signed, unsigned| if column.unsigned { unsigned } else { signed };
    let ty = match column.ty {
        T::TinyInt => number(Type::I8, Type::U8),
        T::SmallInt => number(Type::I16, Type::U16),
        T::MediumInt | T::Int => number(Type::I32, Type::U32),
        T::BigInt => number(Type::I64, Type::U64),
        T::Decimal { precision, scale } => Type::Decimal { precision, scale },
        T::Float => Type::F32,
        T::Double { .. } => Type::F64,
        T::Bit => Type::Bit,
        T::Year => Type::Year,
        T::Date => Type::Date,
        T::Time { fsp } => Type::Time { fsp },
        T::DateTime { fsp } => Type::DateTime { fsp },
        T::Timestamp { fsp } => Type::Timestamp { fsp },
        T::Char | T::VarChar | T::Text => match column.charset {
            Some(_) => Type::Text,
            None => return Err(format!("the character set of column `{}` is not known", column.name)),
        },
        T::Binary | T::VarBinary | T::Blob => Type::Bytes,
        T::Enum => Type::Enum,
        T::Set => Type::Set,
        // MariaDB's is text with a check.
        T::Json if is_mariadb => Type::Text,
        T::Json => Type::Json,
        T::Geometry => Type::Geometry,
        // The stream knows MariaDB's by its bytes only.
        T::Vector => Type::Vector,
        T::Uuid => Type::Uuid,
        T::Inet4 => Type::Inet4,
        T::Inet6 => Type::Inet6,
        T::Other(ref name) => {
            return Err(format!("column `{}` is of a type that is not known: {name}", column.name));
        }
    };
    let ask = match column.ty {
        T::Enum | T::Set | T::Bit => Ask::Number,
        _ => Ask::Plain,
    };
    Ok(Column { name: column.name.clone(), ty, charset: column.charset, ask })
}

/// A name as it stands in a statement.
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
