//! Character sets of MySQL and MariaDB, converted to UTF-8.
//!
//! Every set that MySQL 9 and MariaDB 11.8 list is here, exactly as the servers convert it: the tables were read from
//! them (`gen.py`), and `tests/servers/charset.rs` holds them against `CONVERT(_cs x'…' USING utf8mb4)`. They are tables of our own even
//! where `encoding_rs` has a set of the same name, since its sets are the web's: its `Shift_JIS` is MySQL's `cp932` with other gaps, its
//! `windows-1252` is not quite `latin1`, its `Big5` has Hong Kong's additions.
//!
//! Invalid bytes are never replaced by a character that nobody stored: [`Charset::to_utf8`] refuses the whole value, and the
//! caller shows its bytes (dts JSON: `{"base64": …}`). That also meets bytes for which the server's own table has no character,
//! where it would show `?`, and those that it maps to U+FFFD (some of `tis620`).

mod collations;
mod places;
mod sets;
mod table;
#[cfg(test)]
mod tests;

use table::{Open, Runs, Table};

/// A character set.
#[derive(Debug)]
pub struct Charset {
    /// As the server calls it, in lower case: `utf8mb4`.
    pub name: &'static str,
    form: Form,
}

impl PartialEq for Charset {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Charset {}

/// How its bytes are read.
#[derive(Debug)]
enum Form {
    /// No characters. Read as UTF-8 where it must be text, as the server does.
    Binary,
    Ascii,
    Utf8mb4,
    /// UTF-8 of the BMP.
    Utf8mb3,
    /// UTF-16 of the BMP, big-endian.
    Ucs2,
    Utf16(Order),
    /// Big-endian.
    Utf32,
    Single(Table),
    /// One byte where the first table knows it, else two.
    Double(Table, &'static Table),
    /// EUC-JP: JIS X 0208, half-width katakana behind 8E, JIS X 0212 behind 8F.
    Euc(Table, &'static Table, &'static Table),
    /// One, two, or four bytes.
    Gb18030(Table, &'static Table, &'static Runs),
}

/// Of the bytes of a unit.
#[derive(Clone, Copy, Debug)]
enum Order {
    Big,
    Little,
}

/// Bytes that are no text of the character set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at} begins no character of the character set")]
pub struct Bad {
    /// Offset of the first byte of what is no character.
    pub at: usize,
}

/// The character set of a collation's number, as table maps and query events have it. MySQL and MariaDB agree in all numbers that
/// both know.
pub fn by_collation(id: u16) -> Option<&'static Charset> {
    let runs = &collations::RUNS;
    let at = runs.partition_point(|run| run.0 <= id).checked_sub(1)?;
    let (_, last, name) = runs.get(at)?;
    if id <= *last { by_name(name) } else { None }
}

/// The character set of that name, in any case; `utf8` is `utf8mb3`.
pub fn by_name(name: &str) -> Option<&'static Charset> {
    let name = if name.eq_ignore_ascii_case("utf8") { "utf8mb3" } else { name };
    let sets = &sets::CHARSETS;
    if let Ok(at) = sets.binary_search_by(|set| set.name.cmp(name)) {
        return sets.get(at);
    }
    sets.iter().find(|set| set.name.eq_ignore_ascii_case(name))
}

/// The character set of a collation's name (`latin1_swedish_ci`, `binary`). `None` if it is unknown or, as MariaDB's
/// `uca1400_ai_ci`, belongs to several.
pub fn by_collation_name(name: &str) -> Option<&'static Charset> {
    by_name(name.split('_').next().unwrap_or(name))
}

impl Charset {
    /// Whether values are bytes, not text.
    pub fn is_binary(&self) -> bool {
        matches!(self.form, Form::Binary)
    }

    /// The number of one of its collations.
    pub fn collation(&self) -> u16 {
        let run = collations::RUNS.iter().find(|run| run.2 == self.name);
        run.map_or(0, |run| run.0)
    }

    /// The text of `bytes`. Borrowed from them where they are UTF-8 already (always for ASCII in sets that hold it, and for the
    /// UTF-8 sets), else written to `out`, which is overwritten. Nothing is allocated but what `out` needs to grow.
    pub fn to_utf8<'a>(&self, bytes: &'a [u8], out: &'a mut String) -> Result<&'a str, Bad> {
        match self.form {
            Form::Utf8mb4 | Form::Binary => return utf8(bytes),
            Form::Utf8mb3 => {
                let text = utf8(bytes)?;
                return match bytes.iter().position(|&byte| byte >= 0xf0) {
                    Some(at) => Err(Bad { at }),
                    None => Ok(text),
                };
            }
            _ => {}
        }
        if self.holds_ascii()
            && bytes.is_ascii()
            && let Ok(text) = std::str::from_utf8(bytes)
        {
            return Ok(text);
        }
        out.clear();
        // The rest may be longer: most characters take three bytes where they took two.
        out.reserve(bytes.len());
        let mut at = 0;
        let mut reader = Reader::new(&self.form);
        while let Some(rest) = bytes.get(at..)
            && !rest.is_empty()
        {
            let (char, length) = reader.next(rest).ok_or(Bad { at })?;
            out.push(char);
            at += length;
        }
        Ok(out)
    }

    /// Whether the bytes of ASCII are the characters of ASCII.
    fn holds_ascii(&self) -> bool {
        let wide = matches!(self.form, Form::Ucs2 | Form::Utf16(_) | Form::Utf32);
        !wide && self.name != "swe7"
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, Bad> {
    std::str::from_utf8(bytes).map_err(|error| Bad { at: error.valid_up_to() })
}

/// Reads one character after the other.
enum Reader<'f> {
    Ascii,
    Units(usize, Order, bool),
    Single(Open<'f>),
    Double(Open<'f>, Open<'f>),
    Euc(Open<'f>, Open<'f>, &'f Table),
    Gb18030(Open<'f>, Open<'f>, &'f Runs),
}

impl<'f> Reader<'f> {
    fn new(form: &'f Form) -> Self {
        match form {
            Form::Ascii | Form::Binary | Form::Utf8mb3 | Form::Utf8mb4 => Self::Ascii,
            Form::Ucs2 => Self::Units(2, Order::Big, false),
            Form::Utf16(order) => Self::Units(2, *order, true),
            Form::Utf32 => Self::Units(4, Order::Big, false),
            Form::Single(one) => Self::Single(one.open()),
            Form::Double(one, two) => Self::Double(one.open(), two.open()),
            Form::Euc(one, two, three) => Self::Euc(one.open(), two.open(), three),
            Form::Gb18030(one, two, four) => Self::Gb18030(one.open(), two.open(), four),
        }
    }

    /// The first character of `rest`, and how many bytes it takes.
    #[inline]
    fn next(&mut self, rest: &[u8]) -> Option<(char, usize)> {
        let &first = rest.first()?;
        match self {
            Self::Ascii => first.is_ascii().then_some((char::from(first), 1)),
            Self::Single(one) => Some((one.get(0, first)?, 1)),
            Self::Double(one, two) => {
                one.get(0, first).map(|char| (char, 1)).or_else(|| Some((two.get(first, *rest.get(1)?)?, 2)))
            }
            Self::Euc(one, two, three) => match (first, rest) {
                (0x8e, [_, kana @ 0xa1..=0xdf, ..]) => {
                    Some((char::from_u32(0xff61 - 0xa1 + u32::from(*kana))?, 2))
                }
                (0x8f, [_, lead, trail, ..]) => Some((three.open().get(*lead, *trail)?, 3)),
                _ => one
                    .get(0, first)
                    .map(|char| (char, 1))
                    .or_else(|| Some((two.get(first, *rest.get(1)?)?, 2))),
            },
            Self::Gb18030(one, two, four) => match rest {
                [a, b @ 0x30..=0x39, rest @ ..] => match rest {
                    [c @ 0x81..=0xfe, d @ 0x30..=0x39, ..] if *a >= 0x81 => {
                        let number = |byte: &u8, first: u8| u32::from(byte - first);
                        let number = ((number(a, 0x81) * 10 + number(b, 0x30)) * 126 + number(c, 0x81)) * 10;
                        Some((four.get(number + u32::from(d - 0x30))?, 4))
                    }
                    _ => Some((one.get(0, first)?, 1)),
                },
                _ => one
                    .get(0, first)
                    .map(|char| (char, 1))
                    .or_else(|| Some((two.get(first, *rest.get(1)?)?, 2))),
            },
            Self::Units(2, order, pairs) => {
                let unit = |at: usize| {
                    let bytes = [*rest.get(at)?, *rest.get(at + 1)?];
                    Some(match order {
                        Order::Big => u16::from_be_bytes(bytes),
                        Order::Little => u16::from_le_bytes(bytes),
                    })
                };
                let high = unit(0)?;
                match char::from_u32(u32::from(high)) {
                    Some(char) => Some((char, 2)),
                    None if *pairs => {
                        let char = char::decode_utf16([high, unit(2)?]).next()?.ok()?;
                        Some((char, 4))
                    }
                    None => None,
                }
            }
            Self::Units(..) => {
                let bytes = rest.first_chunk::<4>()?;
                Some((char::from_u32(u32::from_be_bytes(*bytes))?, 4))
            }
        }
    }
}
