//! Follows files of lines, through rotation by rename and by truncation.
//!
//! A file is known by device and inode, and by a fingerprint of its first bytes (an inode is used again). What was
//! read of it is stored with the lines themselves, so that a restart neither loses nor repeats a line.
//!
//! - renamed: read to its end under its old name's inode, while the new file is followed from its beginning;
//! - truncated, or overwritten (the fingerprint changed): read again from the beginning;
//! - a last line without an end is taken when the file was rotated away.

mod glob;
mod tail;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;

use self::tail::{FileId, Tail};
use self::watch::Watch;
use super::lines::MessageWriter;
use super::{Outlet, Source, SourceConfig, SourceError};
use crate::config::{ByteSize, Duration as Span};
use crate::runtime::{self, LocalFuture, Mono, Stop, mono_now};

/// A file that was rotated away is let go after this long without a new byte.
const LINGER: std::time::Duration = std::time::Duration::from_secs(5);

crate::section! {
    /// Follows files of lines (logs), each line one event. JSON stays JSON, all else is text. The topic is the
    /// file's path, or `topic`.
    pub struct Config {
        /// Files to follow. `*` and `?` match within a name: `/var/log/app/*.log`.
        paths: Vec<PathBuf>,
        /// Topic of the events. Left out: the path of the file.
        topic: Option<String>,
        /// Where to begin in files that were there before dts saw them for the first time: `start` or `end`.
        from: From = "start",
        /// Longest line taken, in bytes. Longer ones are dropped and counted. Costs this much memory a file.
        max_line_bytes: ByteSize = "64KiB",
        /// Files followed at a time; more are left until one goes, with a warning.
        max_files: u32 = "64",
        /// Look for new files and bytes at least this often, beside being woken by the kernel.
        poll_interval: Span = "1s",
    }
}

/// Where to begin in a file that is seen for the first time at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Take what is in it.
    Start,
    /// Only what comes.
    End,
}

impl crate::config::Field for From {
    fn read(node: &crate::config::Node, cx: &mut crate::config::Context) -> Option<Self> {
        match &node.kind {
            crate::config::node::Kind::Scalar { text, .. } if text == "start" => Some(Self::Start),
            crate::config::node::Kind::Scalar { text, .. } if text == "end" => Some(Self::End),
            _ => cx.expected(node, "`start` or `end`"),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "enum": ["start", "end"] })
    }
}

impl SourceConfig for Config {
    fn build(&self, name: &str) -> Result<Box<dyn Source>, SourceError> {
        if self.paths.is_empty() {
            return Err(SourceError::Fatal(format!("source `{name}`: `paths` is empty; name a file")));
        }
        Ok(Box::new(Files { config: self.clone() }))
    }
}

struct Files {
    config: Config,
}

impl Source for Files {
    fn run(self: Box<Self>, outlet: Outlet, stop: Stop) -> LocalFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let mut follower = Follower::new(self.config, outlet);
            let watch = Watch::new();
            let mut first = true;
            while !stop.is_set() {
                follower.find(&watch, first);
                first = false;
                // A refusal means that dts is stopping; what was not stored is read again.
                if follower.read_all(&stop, mono_now()).await.is_err() {
                    return Ok(());
                }
                stop.or(runtime::timeout(follower.config.poll_interval, watch.changed())).await;
            }
            follower.writer.settle().await.ok();
            Ok(())
        })
    }

    fn probe(&self) -> LocalFuture<'_, Result<String, SourceError>> {
        Box::pin(async move {
            let found: Vec<PathBuf> = self.config.paths.iter().flat_map(|p| glob::expand(p)).collect();
            for path in &found {
                std::fs::File::open(path)
                    .map_err(|error| SourceError::Retry(format!("open {}: {error}", path.display())))?;
            }
            Ok(format!("{} files match now", found.len()))
        })
    }
}

/// The files being followed. Blocking reads of local files, in slices.
struct Follower {
    config: Config,
    writer: MessageWriter,
    tails: BTreeMap<FileId, Tail>,
    /// In the order in which they were found, which is the order of reading: what was rotated away goes before what
    /// came after it.
    order: Vec<FileId>,
    stored: Vec<(FileId, tail::Position)>,
    warned_full: bool,
}

impl Follower {
    fn new(config: Config, outlet: Outlet) -> Self {
        let stored = outlet.positions.iter().filter_map(|(k, v)| tail::parse_position(k, v)).collect();
        let writer = MessageWriter::new(outlet);
        Self { config, writer, tails: BTreeMap::new(), order: Vec::new(), stored, warned_full: false }
    }

    /// Looks for files that are not followed yet, and notes which are still under their name.
    fn find(&mut self, watch: &Watch, at_start: bool) {
        for tail in self.tails.values_mut() {
            tail.named = false;
        }
        let mut paths: Vec<PathBuf> = self.config.paths.iter().flat_map(|p| glob::expand(p)).collect();
        // Of one rotation the older first; `app.log.1` before `app.log` if they were written at the same time.
        let written = |path: &PathBuf| std::fs::metadata(path).and_then(|m| m.modified()).ok();
        paths.sort_by_cached_key(|path| (written(path), std::cmp::Reverse(path.clone())));
        for pattern in &self.config.paths {
            watch.folder(pattern);
        }
        for path in paths {
            let Some(id) = FileId::of(&path) else { continue };
            if let Some(tail) = self.tails.get_mut(&id) {
                tail.named = true;
                continue;
            }
            if self.tails.len() >= self.config.max_files as usize {
                if !std::mem::replace(&mut self.warned_full, true) {
                    log::warn!(
                        "source `{}`: {} is not followed: max_files is {}",
                        self.writer.source(),
                        path.display(),
                        self.config.max_files
                    );
                }
                continue;
            }
            let known = self.stored.iter().find(|(stored, _)| *stored == id).map(|(_, p)| *p);
            let skip = at_start && known.is_none() && self.stored.is_empty() && self.config.from == From::End;
            let topic = self.config.topic.clone().unwrap_or_else(|| path.display().to_string());
            match Tail::open(&path, id, topic, known, skip, self.config.max_line_bytes.0 as usize) {
                Ok(tail) => {
                    watch.file(&path);
                    log::info!(
                        "source `{}`: following {} from byte {}",
                        self.writer.source(),
                        path.display(),
                        tail.offset()
                    );
                    self.tails.insert(id, tail);
                    self.order.push(id);
                }
                Err(error) => {
                    log::warn!("source `{}`: open {}: {error}", self.writer.source(), path.display())
                }
            }
        }
    }

    /// Reads every file to its end. An error means that dts is stopping.
    async fn read_all(&mut self, stop: &Stop, now: Mono) -> Result<(), ()> {
        let mut gone = Vec::new();
        for id in self.order.clone() {
            let Some(tail) = self.tails.get_mut(&id) else { continue };
            loop {
                if stop.is_set() {
                    return Ok(());
                }
                match tail.read_slice(&mut self.writer, now) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        log::warn!(
                            "source `{}`: read {}: {error}",
                            self.writer.source(),
                            tail.path().display()
                        );
                        break;
                    }
                }
                if self.writer.is_full() {
                    self.writer.flush().await.map_err(|_| ())?;
                }
                futures_lite::future::yield_now().await;
            }
            if !tail.named && now.since(tail.last_growth) >= LINGER {
                tail.finish(&mut self.writer);
                gone.push(id);
            }
            super::count_dropped(self.writer.source(), tail.take_too_long());
        }
        let too_large = std::mem::take(&mut self.writer.too_large);
        super::count_dropped(self.writer.source(), too_large);
        for id in gone {
            if let Some(tail) = self.tails.remove(&id) {
                log::info!(
                    "source `{}`: {} was rotated away and read to its end",
                    self.writer.source(),
                    tail.path().display()
                );
            }
            self.order.retain(|followed| *followed != id);
            self.stored.retain(|(stored, _)| *stored != id);
            self.warned_full = false;
        }
        self.writer.flush().await.map_err(|_| ())
    }
}
