//! Takes everything and keeps nothing: for measuring what stands before a sink, and for watermarks
//! alone. It does not look at rows.

use super::{Abilities, Mark, Sink, SinkConfig, SinkError};
use crate::event::Batch;
use crate::runtime::LocalFuture;

crate::section! {
    /// Forgets every change; the pipeline counts them. Nothing that it acknowledged can be read again.
    pub struct Config {}
}

impl SinkConfig for Config {
    fn open(&self, _name: &str) -> LocalFuture<'_, Result<Box<dyn Sink>, SinkError>> {
        Box::pin(async { Ok(Box::new(Null { rows: 0 }) as Box<dyn Sink>) })
    }
}

/// The sink.
#[derive(Debug)]
struct Null {
    rows: u64,
}

impl Sink for Null {
    fn abilities(&self) -> Abilities {
        Abilities { idempotent: true, ddl: true, max_write_bytes: 16 << 20, ..Abilities::default() }
    }

    fn write(&mut self, batches: Vec<Batch>, _marks: Vec<Mark>) -> LocalFuture<'_, Result<(), SinkError>> {
        let rows: u64 = batches.iter().map(|b| u64::from(b.rows)).sum();
        self.rows += rows;
        Box::pin(async { Ok(()) })
    }

    fn probe(&mut self) -> LocalFuture<'_, Result<String, SinkError>> {
        let line = format!("{} rows forgotten", self.rows);
        Box::pin(async { Ok(line) })
    }

    fn close(self: Box<Self>) -> LocalFuture<'static, Result<(), SinkError>> {
        Box::pin(async { Ok(()) })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::runtime::block_on;
    use crate::sink::behaviour::{self, Subject, batch, builtins};

    struct Nothing;

    impl Subject for Nothing {
        fn config(&self) -> Box<dyn SinkConfig> {
            Box::new(Config {})
        }

        fn state(&self) -> BTreeMap<i64, String> {
            BTreeMap::new()
        }

        fn kinds(&self) -> Vec<String> {
            Vec::new()
        }

        fn ids(&self) -> Option<Vec<String>> {
            None
        }

        fn keeps(&self) -> bool {
            false
        }

        fn reads_rows(&self) -> bool {
            false
        }
    }

    #[test]
    fn null_behaves() {
        behaviour::suite(|| Nothing);
    }

    #[test]
    fn rows_are_counted() {
        block_on(async {
            let mut sink = Config {}.open("n").await.unwrap();
            sink.write(vec![batch(1, builtins), batch(6, builtins)], vec![]).await.unwrap();
            assert_eq!(sink.probe().await.unwrap(), "10 rows forgotten");
        });
    }
}
