//! TIME, DATETIME and TIMESTAMP of three ages.
//!
//! - From 5.6: big-endian, offset by half the range where they are signed, then the fraction in as
//!   many bytes as its digits need, hundredths for 1 and 2, ten-thousandths for 3 and 4, microseconds
//!   for 5 and 6 (`mysys/my_time.cc`).
//! - Before 5.6: decimal digits as a number, little-endian.
//! - MariaDB 5.3 "hires", still written with `mysql56_temporal_format=OFF`: one big-endian number
//!   that counts units of the column's fraction (`sql/field.cc`).

use super::super::bytes::be;

const SECOND_US: i64 = 1_000_000;

/// Microseconds since 1970, or the zero date.
pub(super) fn micros(seconds: u32, micros: u32) -> i64 {
    match (seconds, micros) {
        (0, 0) => i64::MIN,
        _ => i64::from(seconds) * SECOND_US + i64::from(micros),
    }
}

/// Microseconds of a fraction of `raw.len()` bytes.
#[inline]
fn fraction(raw: &[u8]) -> u32 {
    match *raw {
        [] => 0,
        [a] => u32::from(a) * 10_000,
        [a, b] => u32::from(u16::from_be_bytes([a, b])) * 100,
        [a, b, c, ..] => u32::from_be_bytes([0, a, b, c]),
    }
}

/// 4 bytes of seconds, and the fraction.
#[inline]
pub(super) fn timestamp(raw: &[u8]) -> i64 {
    match raw.split_first_chunk::<4>() {
        Some((seconds, rest)) => micros(u32::from_be_bytes(*seconds), fraction(rest)),
        None => i64::MIN,
    }
}

/// 5 bytes `1 | (year * 13 + month) 17 bits | day 5 | hour 5 | minute 6 | second 6`, and the fraction.
#[inline]
pub(super) fn datetime(raw: &[u8]) -> u64 {
    match raw.split_first_chunk::<5>() {
        Some((&[a, b, c, d, e], rest)) => {
            // Without the leading one, which stands for "not negative".
            let packed = u64::from_be_bytes([0, 0, 0, a & 0x7f, b, c, d, e]);
            packed << 24 | u64::from(fraction(rest))
        }
        None => 0,
    }
}

/// 3 bytes `sign | unused | hour 10 bits | minute 6 | second 6`, and the fraction; a negative time is
/// the complement of all bytes together.
#[inline]
pub(super) fn time(raw: &[u8]) -> i64 {
    let Some((&[a, b, c], rest)) = raw.split_first_chunk::<3>() else { return 0 };
    // All as if with six digits: the fraction below 24 bits, in its own unit.
    let (unit, digits) = match *rest {
        [] => (1, 0),
        [x] => (10_000, i64::from(x)),
        [x, y] => (100, i64::from(u16::from_be_bytes([x, y]))),
        [x, y, z, ..] => (1, i64::from(u32::from_be_bytes([0, x, y, z]))),
    };
    let width = 8 * rest.len().min(3);
    let whole = i64::from(u32::from_be_bytes([0, a, b, c])) - 0x80_0000;
    let packed = (whole << width) + digits;
    let (sign, packed) = if packed < 0 { (-1, -packed) } else { (1, packed) };
    let seconds = packed >> width;
    let fraction = (packed & ((1 << width) - 1)) * unit;
    let (h, m, s) = (seconds >> 12 & 0x3ff, seconds >> 6 & 63, seconds & 63);
    sign * (((h * 60 + m) * 60 + s) * SECOND_US + fraction)
}

/// `±HHMMSS` as a number of 3 bytes, little-endian.
pub(super) fn old_time([x, y, z]: [u8; 3]) -> i64 {
    let n = i64::from(i32::from_le_bytes([0, x, y, z]) >> 8);
    let digits = n.abs();
    let seconds = (digits / 10_000) * 3600 + (digits / 100 % 100) * 60 + digits % 100;
    n.signum() * seconds * SECOND_US
}

/// `YYYYMMDDHHMMSS` as a number.
pub(super) fn old_datetime(n: u64) -> u64 {
    let (date, time) = (n / 1_000_000, n % 1_000_000);
    pack(date / 10_000, date / 100 % 100, date % 100, time / 10_000, time / 100 % 100, time % 100, 0)
}

fn pack(year: u64, month: u64, day: u64, h: u64, m: u64, s: u64, us: u64) -> u64 {
    // Masked, so that a damaged value spills into no other field.
    let date = ((year & 0x3fff) * 13 + month % 13) << 5 | day & 31;
    (date << 17 | (h & 31) << 12 | (m & 63) << 6 | s & 63) << 24 | us
}

/// Microseconds in one unit of the last of `fsp` digits.
fn unit(fsp: u8) -> u64 {
    10u64.pow(6 - u32::from(fsp.min(6)))
}

/// 4 bytes of seconds, and the fraction in units of its last digit.
pub(super) fn hires_timestamp(raw: &[u8], fsp: u8) -> i64 {
    match raw.split_first_chunk::<4>() {
        Some((seconds, rest)) => {
            micros(u32::from_be_bytes(*seconds), (be(rest) * unit(fsp)).min(999_999) as u32)
        }
        None => i64::MIN,
    }
}

/// `((((year * 13 + month) * 32 + day) * 24 + h) * 60 + m) * 60 + s`, then digits of the fraction.
pub(super) fn hires_datetime(raw: &[u8], fsp: u8) -> u64 {
    let n = be(raw);
    let per_second = SECOND_US as u64 / unit(fsp);
    let (us, n) = (n % per_second * unit(fsp), n / per_second);
    let (s, n) = (n % 60, n / 60);
    let (m, n) = (n % 60, n / 60);
    let (h, n) = (n % 24, n / 24);
    let (day, n) = (n % 32, n / 32);
    pack(n / 13, n % 13, day, h, m, s, us)
}

/// Units since `-838:59:59` minus one second.
pub(super) fn hires_time(raw: &[u8], fsp: u8) -> i64 {
    let zero = 3_020_400 * SECOND_US / unit(fsp) as i64;
    (be(raw) as i64 - zero) * unit(fsp) as i64
}
