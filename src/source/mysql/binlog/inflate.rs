//! zlib, in bounded memory.

use flate2::{Decompress, FlushDecompress, Status};

use super::error::Problem;

/// Bytes that the output grows by: what a false length can cost.
const STEP: usize = 64 << 10;

fn failed(what: &'static str, why: impl ToString) -> Problem {
    Problem::Inflate { what, why: why.to_string().into() }
}

/// Inflates all of `stream` into `out`, which is cleared: exactly `len` bytes, at most `max`.
pub(super) fn all(
    what: &'static str,
    stream: &[u8],
    zlib_header: bool,
    len: u64,
    max: u64,
    out: &mut Vec<u8>,
) -> Result<(), Problem> {
    if len > max {
        return Err(Problem::TooLarge { what, max });
    }
    // Checked against `max`, a usize.
    let len = len as usize;
    out.clear();
    let mut inflater = Decompress::new(zlib_header);
    let mut rest = stream;
    loop {
        // One byte more than announced would show.
        let room = (len + 1 - out.len()).min(STEP.max(out.len()));
        out.reserve(room);
        let before = inflater.total_in();
        let made = out.len();
        let status =
            inflater.decompress_vec(rest, out, FlushDecompress::None).map_err(|e| failed(what, e))?;
        rest = rest.get((inflater.total_in() - before) as usize..).unwrap_or_default();
        if out.len() > len {
            return Err(failed(what, format!("more than the {len} bytes announced")));
        }
        match status {
            Status::StreamEnd if out.len() == len => return Ok(()),
            Status::StreamEnd => {
                return Err(failed(what, format!("{} bytes, {len} announced", out.len())));
            }
            _ if out.len() == made && rest.is_empty() => return Err(failed(what, "the stream is cut short")),
            _ if out.len() == made && before == inflater.total_in() => {
                return Err(failed(what, "the stream makes no progress"));
            }
            _ => {}
        }
    }
}

/// Inflates some of `input` into `output`: bytes used, bytes made. `over` is set at the stream's end.
pub(super) fn some(
    what: &'static str,
    inflater: &mut Decompress,
    input: &[u8],
    output: &mut [u8],
    over: &mut bool,
) -> Result<(usize, usize), Problem> {
    let (used, made) = (inflater.total_in(), inflater.total_out());
    let status = inflater.decompress(input, output, FlushDecompress::None).map_err(|e| failed(what, e))?;
    *over = status == Status::StreamEnd;
    Ok(((inflater.total_in() - used) as usize, (inflater.total_out() - made) as usize))
}
