//! What can go wrong, and whether dts goes on.

use std::path::PathBuf;

/// Why the spool did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another process holds the folder. Fatal.
    #[error("{} is in use by another dts; stop that one, or give this one a `data_dir` of its own", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// The file was written by a dts that says this one cannot read it. Fatal.
    #[error("the buffer in {} needs dts buffer format {min_reader} or newer, this dts reads {reads}; run the newer dts again, or move the file away", dir.display())]
    Newer {
        /// The folder.
        dir: PathBuf,
        /// The least format that may read it.
        min_reader: u64,
        /// What this code reads.
        reads: u64,
    },
    /// The folder cannot be used. Fatal at start.
    #[error("{what} {}: {error}", path.display())]
    Folder {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        error: std::io::Error,
    },
    /// No new epoch could be made durable. Fatal at start, else tried again.
    #[error("no new epoch: {0}")]
    Epoch(String),
    /// No lane of that name.
    #[error("no lane `{0}`")]
    NoLane(String),
    /// The disk does not work or is full now; the spool goes on trying. Retry.
    #[error("buffer not usable now: {0}; trying again")]
    Down(String),
    /// A file that was only to be inspected is damaged.
    #[error("buffer is damaged: {0}")]
    Damaged(String),
    /// dts is stopping.
    #[error("the buffer is closed")]
    Stopped,
}

/// How an operation on the database failed: decides what the store does next.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// No space. Rolled back; the connection is good.
    #[error("the disk is full")]
    Full,
    /// The device failed, so that nobody knows what is on it: reopen, never try again here.
    #[error("the disk failed: {0}")]
    Io(String),
    /// The file holds what was never written: quarantine.
    #[error("damaged: {0}")]
    Corrupt(String),
    /// Something outside the database.
    #[error("{0}")]
    Other(SpoolError),
}

impl Fault {
    pub(super) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt(what.into())
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::{ErrorCode as Code, ffi};
        let text = error.to_string();
        // The file is shorter than it says, or the file system itself found wrong data.
        const WRONG_DATA: [std::ffi::c_int; 3] =
            [ffi::SQLITE_IOERR_SHORT_READ, ffi::SQLITE_IOERR_CORRUPTFS, ffi::SQLITE_IOERR_DATA];
        if error.sqlite_error().is_some_and(|e| WRONG_DATA.contains(&e.extended_code)) {
            return Self::Corrupt(text);
        }
        match error.sqlite_error_code() {
            Some(Code::DiskFull) => Self::Full,
            Some(
                Code::SystemIoFailure
                | Code::CannotOpen
                | Code::ReadOnly
                | Code::PermissionDenied
                | Code::DatabaseBusy
                | Code::DatabaseLocked
                | Code::OutOfMemory,
            ) => Self::Io(text),
            // A statement of ours that no longer fits its table, a column of another type, a broken
            // constraint: the file is not what this code wrote.
            _ => Self::Corrupt(text),
        }
    }
}

impl From<SpoolError> for Fault {
    fn from(error: SpoolError) -> Self {
        Self::Other(error)
    }
}

impl Fault {
    /// For a caller, after the store did what it could.
    pub(super) fn public(self) -> SpoolError {
        match self {
            Self::Full => SpoolError::Down("the disk is full".into()),
            Self::Io(e) => SpoolError::Down(e),
            Self::Corrupt(e) => SpoolError::Damaged(e),
            Self::Other(e) => e,
        }
    }
}
