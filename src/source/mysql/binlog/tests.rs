//! The decoder as a whole: recordings of real servers, hand-made events, damaged bytes.

mod damage;
mod events;
mod oracle;
mod recordings;
mod streams;
mod to_event;

use std::io::Cursor;
use std::path::PathBuf;
use std::sync::LazyLock;

use super::*;

/// Recordings of real servers: (name, bytes), unpacked once a test run.
fn recordings() -> &'static [(String, Vec<u8>)] {
    static ALL: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
        let mut all = Vec::new();
        for (name, bytes) in unpacked() {
            if !name.ends_with(".json") && bytes.starts_with(&MAGIC) {
                all.push((name.clone(), bytes.clone()));
            }
        }
        assert!(all.len() >= 20, "{}", all.len());
        all
    });
    &ALL
}

/// All files of the fixtures' archives. `tar` unpacks them, as the build of no test crate would be
/// worth it.
fn unpacked() -> &'static [(String, Vec<u8>)] {
    static ALL: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
        let mut all = Vec::new();
        for archive in ["binlogs-mariadb105.tar.xz", "binlogs-servers.tar.xz"] {
            let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(archive);
            let dir = std::env::temp_dir().join(format!("dts-binlog-tests-{}-{archive}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            let unpack = std::process::Command::new("tar").arg("xJf").arg(&path).arg("-C").arg(&dir).status();
            assert!(unpack.unwrap().success(), "tar xJf {}", path.display());
            for folder in std::fs::read_dir(&dir).unwrap() {
                for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
                    let file = file.unwrap();
                    let name = file.file_name().into_string().unwrap();
                    all.push((name, std::fs::read(file.path()).unwrap()));
                }
            }
            std::fs::remove_dir_all(&dir).unwrap();
        }
        all.sort();
        all
    });
    &ALL
}

pub(in crate::source::mysql) fn recording(name: &str) -> &'static [u8] {
    &recordings().iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no recording {name}")).1
}

fn reader(bytes: &'static [u8]) -> Reader {
    Reader::from_stream(Cursor::new(bytes), Options::default())
}

/// Every event as text, and every row: what two ways of reading can be compared by.
fn everything(mut reader: Reader) -> Result<Vec<String>, Error> {
    let mut lines = Vec::new();
    while let Some(item) = reader.next()? {
        let place = format!("{} {:?} {}", item.start, item.inside, item.header.event_type);
        match item.event {
            Event::Rows(rows) => {
                let mut cursor = rows.cursor();
                while let Some(row) = cursor.next() {
                    let row = row.map_err(|p| p.at(Place::default()))?;
                    lines.push(format!("{place} row {} {:?} {:?}", row.index, row.before, row.after));
                }
            }
            // Its bytes are all of it, or the first, as it was streamed or not.
            Event::TransactionPayload(p) => {
                lines.push(format!("{place} {:?} {}", p.compression, p.stored_bytes))
            }
            event => lines.push(format!("{place} {event:?}")),
        }
    }
    Ok(lines)
}
