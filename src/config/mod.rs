//! The config: YAML as written ([`node`]), then checked field by field ([`field`]) into plain
//! structs ([`plan`]). Every mistake is found in one pass and carries file:line:column.
//!
//! A section is declared once, by [`section!`](crate::section): its struct, its parser and its JSON
//! Schema come from the same lines. The walk: bytes → `yaml` (variables replaced by `outside`) →
//! `raw` and `connector` (each section by itself) → `plan` (all of them together).

use std::fmt;
use std::path::{Path, PathBuf};

mod connector;
pub mod field;
pub mod node;
mod outside;
pub mod plan;
pub mod raw;
mod schema;
pub mod section;
pub mod units;
pub(crate) mod yaml;

#[cfg(test)]
mod tests;

pub use field::{Context, Field, Mistake, Name, Placed};
pub use node::{Node, Place};
pub use outside::Outside;
pub use plan::Plan;
pub use schema::schema;
pub use units::{ByteSize, Duration, Secret};
pub use yaml::{MAX_BYTES, MAX_DEPTH, parse};

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the config {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// What it says is wrong.
    #[error("{0}")]
    Mistakes(Mistakes),
}

/// The mistakes in a config, by place. Displayed as one line each, `file:line:column: message`.
#[derive(Clone, Debug)]
pub struct Mistakes {
    /// The file, as the user called it.
    pub file: PathBuf,
    /// Sorted by place.
    pub list: Vec<Mistake>,
    /// How many more there are.
    pub dropped: usize,
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Mistake { place, message }) in self.list.iter().enumerate() {
            let newline = if i > 0 { "\n" } else { "" };
            write!(f, "{newline}{}:{}:{}: {message}", self.file.display(), place.line, place.column)?;
        }
        if self.dropped > 0 {
            write!(f, "\n{}: and {} more mistakes", self.file.display(), self.dropped)?;
        }
        Ok(())
    }
}

/// Reads and checks the config in the file `path`. Relative paths in it count from its folder.
pub fn load(path: &Path, outside: Outside) -> Result<Plan, ConfigError> {
    // One byte more than fits tells a file that is too long.
    let bytes = outside::read_up_to(path, MAX_BYTES + 1)
        .map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    read(&bytes, path, folder, outside).map_err(ConfigError::Mistakes)
}

/// As [`load`], of `bytes` that are called `file` in mistakes.
pub fn read(bytes: &[u8], file: &Path, folder: &Path, outside: Outside) -> Result<Plan, Mistakes> {
    read_with(connector::Build::default(), bytes, file, folder, outside)
}

/// As [`read`], by what `build` has.
fn read_with(
    build: connector::Build,
    bytes: &[u8],
    file: &Path,
    folder: &Path,
    outside: Outside,
) -> Result<Plan, Mistakes> {
    let mut cx = Context { folder: folder.to_owned(), outside, ..Context::default() };
    let node = parse(bytes, &mut cx);
    if let Some(plan) = node.and_then(|node| plan::plan(&node, build, &mut cx)) {
        return Ok(plan);
    }
    let mut list = cx.mistakes;
    debug_assert!(!list.is_empty(), "no plan and no mistake");
    list.sort_by_key(|mistake| (mistake.place.line, mistake.place.column));
    Err(Mistakes { file: file.to_owned(), list, dropped: cx.dropped })
}
