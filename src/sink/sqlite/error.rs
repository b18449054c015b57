//! What a failure of SQLite means for the write.

use rusqlite::{Error, ErrorCode};

/// Why a row or a write was not applied.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    /// SQLite refused.
    #[error(transparent)]
    Sqlite(#[from] Error),
    /// The row cannot be stored.
    #[error("{0}")]
    Reject(String),
    /// Newer sessions of these devices, with their numbers, have taken over.
    #[error("newer sessions have taken over")]
    Fenced(Vec<(std::sync::Arc<str>, u64)>),
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// The same write again later.
    Retry,
    /// The same, on a connection opened anew: what SQLite thinks it wrote may not be there.
    Reopen,
    /// This row never.
    Reject,
    /// Somebody must look at it.
    Fatal,
}

/// The class of an error of SQLite.
pub(super) fn class(error: &Error) -> Class {
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DiskFull
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted
            | ErrorCode::OperationAborted
            | ErrorCode::SchemaChanged
            | ErrorCode::FileLockingProtocolFailed,
        ) => Class::Retry,
        // A failed fsync is never retried on the same connection.
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied,
        ) => Class::Reopen,
        Some(ErrorCode::TooBig | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch) => Class::Reject,
        _ => Class::Fatal,
    }
}

/// What the user can do.
pub(super) fn advice(error: &Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "the disk is full: free space; dts goes on by itself",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another program holds the file's lock: end its transaction; dts goes on by itself"
        }
        Some(ErrorCode::SystemIoFailure) => "the disk failed: dts opens the file again and tries once more",
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            "make the file and its folder writable; dts goes on by itself"
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "the file is damaged: stop dts, move it aside (with its -wal), save what `sqlite3 FILE .recover` finds \
             and restore a backup or start with an empty file"
        }
        _ => "a table of dts was changed by hand, or this is a bug of dts: report it",
    }
}
