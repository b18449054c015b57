//! Files, compressed files and standard input as readers of a binlog.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::cli::output::Failure;
use crate::source::mysql::binlog::{Options, Reader};

/// First bytes of a gzip file (RFC 1952) and of a Zstandard frame (RFC 8878).
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A file that is open.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) reader: Reader,
    /// As a record's position has it: without folder, and without the ending of a compressed one.
    pub(super) name: String,
    /// As messages have it.
    pub(super) path: String,
    /// Bytes, where offsets in it tell how far it was read.
    pub(super) bytes: Option<u64>,
}

/// Opens `path`. How it is compressed is seen in its content.
pub(super) fn open(path: &Path, options: Options) -> Result<Opened, Failure> {
    let shown = path.display().to_string();
    if shown == "-" {
        let (reader, _) = stream(io::stdin(), options).map_err(|error| cannot(&shown, &error))?;
        return Ok(Opened { reader, name: shown, path: "standard input".to_owned(), bytes: None });
    }
    let mut name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let file = File::open(path).map_err(|error| cannot(&shown, &error))?;
    let meta = file.metadata().map_err(|error| cannot(&shown, &error))?;
    if meta.is_dir() {
        return Err(Failure::failed(format!("{shown} is a folder, not a binlog file")));
    }
    let mut head = [0; 4];
    // A pipe cannot be read at a place.
    let regular = meta.is_file() && file.read_at(&mut head, 0).is_ok();
    let (reader, packed) = match regular && !head.starts_with(&GZIP) && head != ZSTD {
        true => (Reader::from_file(file, options), false),
        false => stream(file, options).map_err(|error| cannot(&shown, &error))?,
    };
    if packed {
        let end = [".gz", ".zst"].iter().find(|end| name.ends_with(*end)).map_or(0, |end| end.len());
        name.truncate(name.len() - end);
    }
    let bytes = (regular && !packed).then_some(meta.len());
    Ok(Opened { reader, name, path: shown, bytes })
}

fn cannot(path: &str, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot open {path}: {error}"))
}

/// A reader of a stream, and whether it is compressed.
fn stream(mut input: impl Read + 'static, options: Options) -> io::Result<(Reader, bool)> {
    let mut head = Vec::new();
    input.by_ref().take(4).read_to_end(&mut head)?;
    let (gzip, zstd) = (head.starts_with(&GZIP), head == ZSTD);
    let whole = Cursor::new(head).chain(input);
    Ok(if gzip {
        (Reader::from_stream(flate2::read::MultiGzDecoder::new(whole), options), true)
    } else if zstd {
        (Reader::from_stream(zstd::stream::read::Decoder::new(whole)?, options), true)
    } else {
        (Reader::from_stream(whole, options), false)
    })
}
