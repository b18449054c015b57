//! What a crash may have left at the end of the file, and how it is mended.
//!
//! The last write may be there in part: cut anywhere, or with blocks of zeros where the file system
//! knew the new length but not yet the bytes. It was not acknowledged, so it comes again; what is there of a
//! line is cut off. Whole lines stay: they come again too, and can be told by their ids.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// How far back zeros are looked for: more than one write.
const WINDOW_BYTES: u64 = 32 << 20;
/// Read at once.
const BLOCK_BYTES: u64 = 64 << 10;

/// How every line of ours starts.
const START: &[u8] = b"{\"kind\":\"";

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repair {
    /// Nothing: the file is empty or ends with a line feed.
    None,
    /// A torn line of so many bytes was cut off.
    Cut(u64),
    /// The last line is not one of dts: it got a line feed.
    Sealed,
}

/// Mends the end of `file`, which is open for reading and writing.
pub(super) fn repair(file: &File) -> io::Result<Repair> {
    let len = file.metadata()?.len();
    if len == 0 {
        return Ok(Repair::None);
    }
    let zero = first_zero(file, len.saturating_sub(WINDOW_BYTES), len)?;
    if zero.is_none() && block(file, len - 1, len)? == b"\n" {
        return Ok(Repair::None);
    }
    let start = line_start(file, zero.unwrap_or(len))?;
    let head = block(file, start, len.min(start + START.len() as u64))?;
    if zero.is_none() && !START.starts_with(&head) {
        file.write_all_at(b"\n", len)?;
        file.sync_all()?;
        return Ok(Repair::Sealed);
    }
    file.set_len(start)?;
    file.sync_all()?;
    Ok(Repair::Cut(len - start))
}

fn block(file: &File, from: u64, to: u64) -> io::Result<Vec<u8>> {
    // At most BLOCK_BYTES.
    let mut bytes = vec![0; (to - from) as usize];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes)
}

/// The first zero byte: JSON has none.
fn first_zero(file: &File, from: u64, to: u64) -> io::Result<Option<u64>> {
    let mut at = from;
    while at < to {
        let end = to.min(at + BLOCK_BYTES);
        if let Some(i) = block(file, at, end)?.iter().position(|&b| b == 0) {
            return Ok(Some(at + i as u64));
        }
        at = end;
    }
    Ok(None)
}

/// Where the line that holds the byte before `end` starts.
fn line_start(file: &File, end: u64) -> io::Result<u64> {
    let mut end = end;
    while end > 0 {
        let from = end.saturating_sub(BLOCK_BYTES);
        if let Some(i) = block(file, from, end)?.iter().rposition(|&b| b == b'\n') {
            return Ok(from + i as u64 + 1);
        }
        end = from;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::behaviour::TempDir;

    fn mended(content: &[u8]) -> (Repair, Vec<u8>) {
        let dir = TempDir::new("repair");
        let path = dir.0.join("f");
        std::fs::write(&path, content).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let first = repair(&file).unwrap();
        assert_eq!(repair(&file).unwrap(), Repair::None, "mended once is mended");
        (first, std::fs::read(&path).unwrap())
    }

    #[test]
    fn a_line_cut_anywhere_is_cut_off() {
        let (whole, line) = (b"{\"kind\":\"row\",\"n\":1}\n".to_vec(), b"{\"kind\":\"row\",\"n\":2}\n");
        assert_eq!(mended(&whole), (Repair::None, whole.clone()));
        assert_eq!(mended(b""), (Repair::None, Vec::new()));
        for cut in 1..line.len() {
            let torn = [&whole[..], &line[..cut]].concat();
            assert_eq!(mended(&torn), (Repair::Cut(cut as u64), whole.clone()), "cut at {cut}");
            assert_eq!(mended(&line[..cut]), (Repair::Cut(cut as u64), Vec::new()));
        }
    }

    #[test]
    fn zeros_are_cut_off_with_all_behind_them() {
        let whole = b"{\"kind\":\"row\"}\n";
        let torn = [&whole[..], b"{\"kind\":\0\0\0}\n{\"kind\":\"row\"}\n"].concat();
        assert_eq!(mended(&torn), (Repair::Cut(28), whole.to_vec()));
        assert_eq!(mended(&[0; 5000]), (Repair::Cut(5000), Vec::new()));
    }

    #[test]
    fn a_line_longer_than_a_block_is_found() {
        let whole = b"{\"kind\":\"row\"}\n".to_vec();
        let long = [&b"{\"kind\":\"row\",\"x\":\""[..], &vec![b'x'; 3 * BLOCK_BYTES as usize]].concat();
        assert_eq!(mended(&[&whole[..], &long].concat()), (Repair::Cut(long.len() as u64), whole));
    }

    #[test]
    fn what_is_not_ours_is_kept() {
        assert_eq!(mended(b"a note\nby hand"), (Repair::Sealed, b"a note\nby hand\n".to_vec()));
    }
}
