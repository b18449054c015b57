//! What can go wrong with somebody else's database, and what dts does then.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::source::SourceError;

/// What dts does about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Somebody holds a lock: again in a moment. Nothing to report.
    Busy,
    /// Not usable now, but may become so: dts says so once, waits and looks again.
    Wait,
    /// Cannot go on without a change by the user.
    Fatal,
}

/// Why the application's database cannot be followed now.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another connection holds a lock that dts does not wait for.
    #[error("the database is locked by its application ({doing})")]
    Busy {
        /// What dts was about to do.
        doing: &'static str,
    },
    /// The file is not there (yet).
    #[error("{} does not exist; dts waits until its application makes it", .0.display())]
    Absent(PathBuf),
    /// The file is there without a table in it.
    #[error("{} holds no table yet; dts waits until its application makes one", .0.display())]
    Empty(PathBuf),
    /// The file is no SQLite database, or an encrypted one.
    #[error("{} is not a plain SQLite database (encrypted, or not one at all); dts looks again later", .0.display())]
    NotADatabase(PathBuf),
    /// SQLite found damage.
    #[error(
        "{doing}: the application's database is damaged ({message}); dts looks again later. Repair it (`.recover`)"
    )]
    Corrupt {
        /// What dts was about to do.
        doing: &'static str,
        /// SQLite's words.
        message: String,
    },
    /// dts may not write, and so cannot capture.
    #[error(
        "{doing}: dts may not write to the database ({message}); give its user write access to the file and its folder"
    )]
    ReadOnly {
        /// What dts was about to do.
        doing: &'static str,
        /// SQLite's words.
        message: String,
    },
    /// Anything else that SQLite says: disk full, input/output errors, its own limits.
    #[error("{doing}: {source}")]
    Sqlite {
        /// What dts was about to do.
        doing: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// dts's tables in the database were made by a newer dts.
    #[error(
        "the capture tables in this database have format {found}, this dts knows {known}: run the newer dts, or `dts sqlite uninstall` by it"
    )]
    Format {
        /// Found in `_dts_meta`.
        found: i64,
        /// Newest that this code reads.
        known: i64,
    },
    /// dts's own tables hold what they cannot.
    #[error(
        "the capture tables in this database are inconsistent ({0}); run `dts sqlite uninstall` and start dts again: it reads all tables anew"
    )]
    Inconsistent(String),
}

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Busy { .. } => Class::Busy,
            Self::Format { .. } => Class::Fatal,
            _ => Class::Wait,
        }
    }

    /// Sorts what SQLite said.
    pub(super) fn of(path: &Path, doing: &'static str, source: rusqlite::Error) -> Self {
        let message = source.to_string();
        match source.sqlite_error_code() {
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::SchemaChanged,
            ) => Self::Busy { doing },
            Some(ErrorCode::CannotOpen) => Self::Absent(path.to_owned()),
            Some(ErrorCode::NotADatabase) => Self::NotADatabase(path.to_owned()),
            Some(ErrorCode::DatabaseCorrupt) => Self::Corrupt { doing, message },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::ReadOnly { doing, message },
            _ => Self::Sqlite { doing, source },
        }
    }
}

/// Says what was being done when SQLite failed.
pub(super) trait Doing<T> {
    /// `doing` is a verb in the present tense: "read captured rows".
    fn doing(self, doing: &'static str) -> Result<T>;
}

impl<T> Doing<T> for rusqlite::Result<T> {
    fn doing(self, doing: &'static str) -> Result<T> {
        // The path is known to who opened the file; here only SQLite's own words are left.
        self.map_err(|source| Error::of(Path::new("the database"), doing, source))
    }
}

impl From<Error> for SourceError {
    fn from(error: Error) -> Self {
        match error.class() {
            Class::Fatal => Self::Fatal(error.to_string()),
            Class::Busy | Class::Wait => Self::Retry(error.to_string()),
        }
    }
}
