//! How far a snapshot is: a part of the checkpoint.

use serde::{Deserialize, Serialize};

use super::chunk::Part;

/// A snapshot that was begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Names it in the rows' ids.
    pub run: String,
    /// Whether [`Self::left`] was filled.
    #[serde(default)]
    pub is_planned: bool,
    /// Tables that are not read yet; the first may be read in part.
    #[serde(default)]
    pub left: Vec<Left>,
    /// Everything behind this key of the first table is left. `None`: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Vec<Part>>,
    /// Tables that could not be read, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<(String, String)>,
}

/// A table that is to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Database.
    pub db: String,
    /// Table.
    pub table: String,
    /// A condition in SQL: only rows of which it is true.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub only: Option<String>,
}

impl Progress {
    /// One that has not begun.
    pub fn new(run: String) -> Self {
        Self { run, ..Self::default() }
    }

    /// Whether all of it was read.
    pub fn is_done(&self) -> bool {
        self.is_planned && self.left.is_empty()
    }

    /// The first table is done.
    pub fn next_table(&mut self) {
        if !self.left.is_empty() {
            self.left.remove(0);
        }
        self.after = None;
    }
}
