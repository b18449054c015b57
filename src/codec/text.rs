//! Values that have a text form of their own: decimals, dates, times, labels, addresses.
//!
//! Every function appends ASCII (labels: UTF-8) to a buffer and allocates nothing. The forms are
//! those of dts JSON ("Values" in its format page), without the quotes; a sink that stores text
//! (SQLite) uses the same ones.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::event::{Column, Type, Value};

/// `00` to `99`, one after the other.
static PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut n = 0;
    while n < 100 {
        pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    pairs
};

/// The two digits of `n`, which is below 100.
fn pair(n: u64) -> [u8; 2] {
    PAIRS[(n % 100) as usize]
}

/// Appends `n` with at least `width` digits (at most 20 are padded).
#[inline]
pub fn padded(out: &mut Vec<u8>, n: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let (mut at, mut n) = (digits.len(), n);
    while n >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&pair(n));
        n /= 100;
    }
    if n > 0 {
        at -= 1;
        digits[at] = b'0' + n as u8;
    }
    let least = digits.len() - width.clamp(1, digits.len());
    out.extend_from_slice(&digits[at.min(least)..]);
}

/// Appends `n`.
pub fn int(out: &mut Vec<u8>, n: i64) {
    if n < 0 {
        out.push(b'-');
    }
    padded(out, n.unsigned_abs(), 1);
}

fn padded_wide(out: &mut Vec<u8>, n: u128, width: usize) {
    let mut digits = [b'0'; 40];
    let mut at = digits.len();
    // Division of 128 bits is a call; nearly all numbers fit 64.
    let mut low = match u64::try_from(n) {
        Ok(low) => low,
        Err(_) => {
            let split = 10_000_000_000_000_000_000;
            let mut rest = n;
            while rest >= split {
                let mut part = (rest % split) as u64;
                rest /= split;
                for _ in 0..19 {
                    at -= 1;
                    digits[at] = b'0' + (part % 10) as u8;
                    part /= 10;
                }
            }
            rest as u64
        }
    };
    while low > 0 {
        at -= 1;
        digits[at] = b'0' + (low % 10) as u8;
        low /= 10;
    }
    let least = digits.len() - width.clamp(1, digits.len());
    out.extend_from_slice(&digits[at.min(least)..]);
}

/// A decimal from its unscaled value, its declared scale kept: `-50` with scale 2 is `-0.50`.
pub fn decimal(out: &mut Vec<u8>, unscaled: i128, scale: u8) {
    if unscaled < 0 {
        out.push(b'-');
    }
    // Nearly all decimals fit 64 bits.
    if let (Ok(n), Some(unit)) = (u64::try_from(unscaled.unsigned_abs()), 10u64.checked_pow(u32::from(scale)))
    {
        padded(out, n / unit, 1);
        if scale > 0 {
            out.push(b'.');
            padded(out, n % unit, usize::from(scale));
        }
        return;
    }
    let scale = usize::from(scale);
    let start = out.len();
    padded_wide(out, unscaled.unsigned_abs(), 1);
    let digits = out.len() - start;
    if digits <= scale {
        // At least one digit before the point.
        let zeros = scale + 1 - digits;
        out.splice(start..start, std::iter::repeat_n(b'0', zeros));
    }
    if scale > 0 {
        out.insert(out.len() - scale, b'.');
    }
}

fn fraction(out: &mut Vec<u8>, micros: u64, fsp: u8) {
    let fsp = u32::from(fsp.min(6));
    if fsp > 0 {
        out.push(b'.');
        padded(out, micros % 1_000_000 / 10u64.pow(6 - fsp), fsp as usize);
    }
}

fn ymd(out: &mut Vec<u8>, year: u64, month: u64, day: u64) {
    if year > 9999 {
        padded(out, year, 4);
    } else {
        out.extend_from_slice(&pair(year / 100));
        out.extend_from_slice(&pair(year));
    }
    let ([a, b], [c, d]) = (pair(month), pair(day));
    out.extend_from_slice(&[b'-', a, b, b'-', c, d]);
}

fn hms(out: &mut Vec<u8>, hour: u64, minute: u64, second: u64) {
    let ([a, b], [c, d]) = (pair(minute), pair(second));
    padded(out, hour, 2);
    out.extend_from_slice(&[b':', a, b, b':', c, d]);
}

/// [`Type::Date`], packed: `2024-02-29`.
pub fn date(out: &mut Vec<u8>, packed: u64) {
    ymd(out, packed >> 9, packed >> 5 & 15, packed & 31);
}

/// [`Type::DateTime`], packed: `2024-02-29 23:59:59.000001`.
pub fn datetime(out: &mut Vec<u8>, packed: u64, fsp: u8) {
    let seconds = packed >> 24;
    let days = seconds >> 17;
    let months = days >> 5;
    ymd(out, months / 13, months % 13, days & 31);
    out.push(b' ');
    hms(out, seconds >> 12 & 31, seconds >> 6 & 63, seconds & 63);
    fraction(out, packed & 0xff_ffff, fsp);
}

/// [`Type::Timestamp`]: `2024-02-29T23:59:59.5Z`; the zero date is `0000-00-00T00:00:00Z`.
pub fn timestamp(out: &mut Vec<u8>, micros: i64, fsp: u8) {
    const DAY_US: i64 = 86_400_000_000;
    if micros == i64::MIN {
        out.extend_from_slice(b"0000-00-00T00:00:00");
        fraction(out, 0, fsp);
        out.push(b'Z');
        return;
    }
    let (year, month, day) = civil(micros.div_euclid(DAY_US));
    if year < 0 {
        out.push(b'-');
    }
    ymd(out, year.unsigned_abs(), month, day);
    out.push(b'T');
    let in_day = micros.rem_euclid(DAY_US) as u64;
    let seconds = in_day / 1_000_000;
    hms(out, seconds / 3600, seconds / 60 % 60, seconds % 60);
    fraction(out, in_day, fsp);
    out.push(b'Z');
}

/// Year, month, day of a day counted from 1970-01-01, proleptic Gregorian (the algorithm
/// `civil_from_days` of Howard Hinnant).
fn civil(days: i64) -> (i64, u64, u64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097) as u64;
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe as i64 + era * 400 + i64::from(month <= 2), month, day)
}

/// Days of a date counted from 1970-01-01, proleptic Gregorian (Hinnant's `days_from_civil`); `None` if there is no
/// such month or the day is zero or above 31.
pub fn days(year: u64, month: u64, day: u64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year > 9999 {
        return None;
    }
    let (year, month, day) = (year as i64 - i64::from(month <= 2), month as i64, day as i64);
    let era = year.div_euclid(400);
    let yoe = year.rem_euclid(400);
    let doy = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    Some(era * 146_097 + doe - 719_468)
}

/// [`Type::Time`]: `-838:59:59.000000`; hours go beyond 24.
pub fn time(out: &mut Vec<u8>, micros: i64, fsp: u8) {
    if micros < 0 {
        out.push(b'-');
    }
    let micros = micros.unsigned_abs();
    let seconds = micros / 1_000_000;
    hms(out, seconds / 3600, seconds / 60 % 60, seconds % 60);
    fraction(out, micros, fsp);
}

/// 16 bytes as `8-4-4-4-12` lower-case hex digits.
pub fn uuid(out: &mut Vec<u8>, bytes: &[u8]) {
    for (i, &byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        hex(out, byte);
    }
}

/// Two lower-case hex digits.
pub fn hex(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push(DIGITS[usize::from(byte >> 4)]);
    out.push(DIGITS[usize::from(byte & 15)]);
}

/// 16 lower-case hex digits: how an epoch is written.
pub fn hex64(out: &mut Vec<u8>, n: u64) {
    for byte in n.to_be_bytes() {
        hex(out, byte);
    }
}

/// Four bytes as a dotted quad.
pub fn inet4(out: &mut Vec<u8>, bytes: [u8; 4]) {
    display(out, format_args!("{}", Ipv4Addr::from(bytes)));
}

/// An IPv6 address as MariaDB prints it: RFC 5952, and a dotted quad at the end of IPv4-mapped and
/// IPv4-compatible ones.
pub fn inet6(out: &mut Vec<u8>, bytes: [u8; 16]) {
    let ip = Ipv6Addr::from(bytes);
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, high, _] if high != 0 => {
            out.extend_from_slice(b"::");
            inet4(out, [bytes[12], bytes[13], bytes[14], bytes[15]]);
        }
        _ => display(out, format_args!("{ip}")),
    }
}

fn display(out: &mut Vec<u8>, args: std::fmt::Arguments<'_>) {
    // A Vec takes everything.
    std::io::Write::write_fmt(out, args).unwrap_or_default();
}

/// The labels of a set's bits, joined by commas. `false`, with nothing appended, if a bit has no
/// label.
pub fn set(out: &mut Vec<u8>, bits: u64, labels: &[Box<str>]) -> bool {
    if labels.len() < 64 && bits >> labels.len() != 0 {
        return false;
    }
    let start = out.len();
    for (_, label) in labels.iter().take(64).enumerate().filter(|(i, _)| bits >> i & 1 == 1) {
        if out.len() > start {
            out.push(b',');
        }
        out.extend_from_slice(label.as_bytes());
    }
    true
}

/// The label of an enum's 1-based index; the invalid value 0 is empty. `None` if it is unknown.
pub fn label(index: u64, labels: &[Box<str>]) -> Option<&str> {
    match usize::try_from(index) {
        Ok(0) if !labels.is_empty() => Some(""),
        Ok(i) => labels.get(i.wrapping_sub(1)).map(|l| &**l),
        Err(_) => None,
    }
}

/// Appends the text form of a value whose type has one that is neither its own text nor a number.
/// `false`, with nothing appended, for all other values (also for labels that are unknown).
pub fn formatted(out: &mut Vec<u8>, column: &Column, value: Value<'_>) -> bool {
    match (column.ty, value) {
        (Type::Decimal { scale, .. }, Value::Decimal(n)) => decimal(out, n, scale),
        (Type::Decimal { .. }, Value::Digits(digits)) => out.extend_from_slice(digits.as_bytes()),
        (Type::Date, Value::Uint(n)) => date(out, n),
        (Type::DateTime { fsp }, Value::Uint(n)) => datetime(out, n, fsp),
        (Type::Timestamp { fsp }, Value::Int(n)) => timestamp(out, n, fsp),
        (Type::Time { fsp }, Value::Int(n)) => time(out, n, fsp),
        (Type::Enum, Value::Uint(n)) => match label(n, &column.labels) {
            Some(label) => out.extend_from_slice(label.as_bytes()),
            None => return false,
        },
        (Type::Set, Value::Uint(n)) => return !column.labels.is_empty() && set(out, n, &column.labels),
        (Type::Uuid, Value::Bytes(b)) => uuid(out, b),
        (Type::Inet4, Value::Bytes(b)) => match b.try_into() {
            Ok(b) => inet4(out, b),
            Err(_) => return false,
        },
        (Type::Inet6, Value::Bytes(b)) => match b.try_into() {
            Ok(b) => inet6(out, b),
            Err(_) => return false,
        },
        _ => return false,
    }
    true
}
