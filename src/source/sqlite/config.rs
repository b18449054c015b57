//! What a user says about an application's database.

use crate::config::{ByteSize, Context, Duration, Field, Node, node};

use super::sql::matches;

/// What the triggers record of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Capture {
    /// Every captured column, before and after. SQLite then refuses `ALTER TABLE … DROP COLUMN` of a
    /// captured column, since the triggers name it.
    Images,
    /// The key only; dts reads the row when it gets there, so several changes of a row may come as
    /// one, and before images hold the key alone. Costs the application least, blocks no ALTER TABLE.
    Keys,
}

impl Field for Capture {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        match &node.kind {
            node::Kind::Scalar { text, .. } if text == "images" => Some(Self::Images),
            node::Kind::Scalar { text, .. } if text == "keys" => Some(Self::Keys),
            _ => cx.expected(node, "`images` or `keys`"),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "enum": ["images", "keys"] })
    }
}

crate::section! {
    /// What is different for some tables.
    pub struct TableConfig {
        /// Name of the table; `*` and `?` match within it. The first entry that matches counts.
        table: String,
        /// What the triggers record of a change in it: `images` or `keys`. Default: the source's.
        capture: Option<Capture>,
        /// Columns that are neither captured nor sent; `*` and `?` match. Columns of the key stay.
        exclude_columns: Vec<String> = "[]",
    }
}

crate::section! {
    /// Follows the row changes of an application's SQLite database: inserts, updates and deletes with
    /// before and after images, by triggers that dts adds to it. See docs/source-sqlite.md for what
    /// that costs the application.
    pub struct Config {
        /// The database file. dts waits until it exists.
        path: std::path::PathBuf,
        /// Tables to follow; `*` and `?` match. Empty: all. Views, virtual tables and their shadow
        /// tables are never followed.
        tables: Vec<String> = "[]",
        /// Tables not to follow; wins over `tables`.
        exclude_tables: Vec<String> = "[]",
        /// What the triggers record of a change: `images` (all columns, before and after) or `keys`.
        capture: Capture = "images",
        /// What is different for some tables.
        overrides: Vec<TableConfig> = "[]",
        /// Most bytes that captured changes may take in the application's file while dts does not
        /// fetch them (at least 64KiB). Beyond it the triggers record nothing more but which tables changed, and dts
        /// reads those anew when it is back. One change may exceed it.
        max_capture_bytes: ByteSize = "16MiB",
        /// How often dts looks at the file without being woken by the kernel (at least 50ms).
        poll_interval: Duration = "5s",
    }
}

impl Config {
    /// Follows all of `path` with every default.
    pub fn for_file(path: &std::path::Path) -> Self {
        Self {
            path: path.to_owned(),
            tables: Vec::new(),
            exclude_tables: Vec::new(),
            capture: Capture::Images,
            overrides: Vec::new(),
            max_capture_bytes: ByteSize(16 << 20),
            poll_interval: Duration::from_secs(5),
        }
    }

    /// Whether rows of `table` are wanted.
    pub(super) fn wants(&self, table: &str) -> bool {
        (self.tables.is_empty() || self.tables.iter().any(|p| matches(p, table)))
            && !self.exclude_tables.iter().any(|p| matches(p, table))
    }

    /// The limit of the capture table: at least 64 KiB.
    pub(super) fn max_bytes(&self) -> i64 {
        i64::try_from(self.max_capture_bytes.0).unwrap_or(i64::MAX / 2).clamp(1 << 16, i64::MAX / 2)
    }

    fn of(&self, table: &str) -> Option<&TableConfig> {
        self.overrides.iter().find(|o| matches(&o.table, table))
    }

    /// What is recorded of changes in `table`.
    pub(super) fn capture_of(&self, table: &str) -> Capture {
        self.of(table).and_then(|o| o.capture).unwrap_or(self.capture)
    }

    /// Whether `column` is left out.
    pub(super) fn leaves_out(&self, table: &str, column: &str) -> bool {
        self.of(table).is_some_and(|o| o.exclude_columns.iter().any(|p| matches(p, column)))
    }
}
