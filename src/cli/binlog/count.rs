//! `dts binlog dump --count`: how much there is, and a checksum of all values.

use super::args::Args;
use super::open::open;
use super::screen::{Output, Progress};
use super::session::{Consumer, Flow, Seen, Tables, read};
use crate::cli::output::Failure;
use crate::runtime::mono_now;
use crate::source::mysql::binlog::{Event, Fold, Item, Problem};
use crate::source::mysql::ddl::Kind;

/// Bytes of all files, if that is known.
pub(super) fn total_bytes(args: &Args) -> Option<u64> {
    let bytes = |path| std::fs::metadata(path).ok().filter(|meta| meta.is_file()).map(|meta| meta.len());
    args.files.iter().map(bytes).sum()
}

pub(super) fn count(args: &Args) -> Result<(), Failure> {
    let start = mono_now();
    let mut count = Count::default();
    let mut tables = Tables::default();
    let mut progress = Progress::new(total_bytes(args));
    let mut bytes = 0;
    for path in &args.files {
        let mut opened = open(path, args.options())?;
        let end = read(&mut opened, &mut tables, &mut progress, &mut count);
        progress.clear();
        bytes += end.map_err(|fault| fault.failure(&opened.path))?;
    }
    let seconds = mono_now().since(start).as_secs_f64();
    let Count { events, transactions, fold } = count;
    let mut out = Output::default();
    let line = format!(
        "{{\"files\":{},\"bytes\":{bytes},\"events\":{events},\"transactions\":{transactions},\"rows\":{},\"images\":{},\
         \"seconds\":{seconds:.6},\"checksum\":\"{:016x}\"}}\n",
        args.files.len(),
        fold.rows,
        fold.images,
        fold.sum
    );
    out.buf.extend_from_slice(line.as_bytes());
    out.flush()
}

#[derive(Default)]
struct Count {
    events: u64,
    transactions: u64,
    fold: Fold,
}

impl Consumer for Count {
    #[inline]
    fn event(&mut self, item: &Item<'_>, seen: Seen<'_>) -> Result<Flow, Problem> {
        self.events += 1;
        match &item.event {
            Event::Rows(rows) => rows.walk(&mut self.fold)?,
            Event::Xid(_) | Event::XaPrepare(_) => self.transactions += 1,
            Event::Query(_) => {
                let is_end = seen.statement.is_some_and(|statement| match (statement.kind, &statement.sql) {
                    (Kind::Transaction, Ok(sql)) => sql.eq_ignore_ascii_case("COMMIT"),
                    (Kind::Ddl, _) => true,
                    _ => false,
                });
                self.transactions += u64::from(is_end);
            }
            _ => {}
        }
        Ok(Flow::Go)
    }
}
