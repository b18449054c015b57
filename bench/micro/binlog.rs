//! Reads binlog files and folds every value, checksums verified: `cargo bench --bench binlog -- [nocrc|libzstd] FILE…`.
//! Prints one JSON line a file, as `bench/binlog.sh` wants it of every peer. With `libzstd` nothing is decoded: the library
//! inflates each payload at once, which bounds what a decoder of compressed transactions can reach.

use std::fs::File;
use std::io::Read;
use std::time::Instant;

use dts::source::mysql::binlog::{Decoder, Event, Fold, MAGIC, Options, Reader};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut options = Options::default();
    let mut libzstd = false;
    for arg in std::env::args().skip(1) {
        match arg.as_str() {
            // What cargo adds.
            "--bench" => {}
            "nocrc" => options.verify_checksums = false,
            "libzstd" => libzstd = true,
            path if libzstd => inflate(path)?,
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

/// What libzstd alone takes for the payloads, read as the decoder reads them.
#[allow(clippy::disallowed_methods)]
fn inflate(path: &str) -> Result<(), Box<dyn std::error::Error>> {
    let began = Instant::now();
    let mut decoder = Decoder::new().verify_checksums(false);
    let mut libzstd = zstd::bulk::Decompressor::new()?;
    let mut inflated = vec![0; 2 << 20];
    let (mut bytes, mut made, mut payloads) = (0, 0, 0u64);
    let (mut file, mut window, mut start, mut end) = (File::open(path)?, vec![0; 256 << 10], MAGIC.len(), 0);
    loop {
        while let Some(event) = window.get(start..end).and_then(whole) {
            if let Event::TransactionPayload(payload) = decoder.decode(event)?.1 {
                made += libzstd.decompress_to_buffer(payload.bytes, &mut inflated[..])?;
                payloads += 1;
            }
            start += event.len();
        }
        let left = end.saturating_sub(start);
        if left > 0 {
            window.copy_within(start..end, 0);
        }
        (start, end) = (start.saturating_sub(end - left), left);
        if end == window.len() {
            window.resize(2 * end, 0);
        }
        match file.read(&mut window[end..])? {
            0 => break,
            n => (bytes, end) = (bytes + n, end + n),
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{{\"peer\":\"libzstd\",\"bytes\":{bytes},\"payloads\":{payloads},\"inflated\":{made},\"seconds\":{seconds:.6}}}"
    );
    Ok(())
}

/// The event at the front, if all of it is there.
fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let length = u32::from_le_bytes(*bytes.get(9..)?.first_chunk()?);
    bytes.get(..length as usize)
}
