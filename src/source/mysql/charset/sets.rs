//! The character sets that MySQL 9 and MariaDB 11.8 list, and how each is read.

use super::places as at;
use super::table::{Base, Grid, Runs, Table};
use super::{Charset, Form, Order};

const SJIS: Grid = Grid { lead: (0x81, 0xfc), trail: (0x40, 0xfc) };
const EUC: Grid = Grid { lead: (0xa1, 0xfe), trail: (0xa1, 0xfe) };
const GBK: Grid = Grid { lead: (0x81, 0xfe), trail: (0x40, 0xfe) };
const BIG5: Grid = Grid { lead: (0xa1, 0xf9), trail: (0x40, 0xfe) };
const EUCKR: Grid = Grid { lead: (0x81, 0xfe), trail: (0x41, 0xfe) };

/// The code in Shift JIS of a character of JIS X 0208, given in EUC.
fn sjis_of_euc(lead: u8, trail: u8) -> (u8, u8) {
    let (row, cell) = (lead.wrapping_sub(0xa1), trail.wrapping_sub(0xa1));
    let first: u8 = if row < 62 { 0x81 } else { 0xc1 };
    let second = match row % 2 {
        0 => cell.wrapping_add(0x40 + u8::from(cell >= 63)),
        _ => cell.wrapping_add(0x9f),
    };
    (first.wrapping_add(row / 2), second)
}

fn same(lead: u8, trail: u8) -> (u8, u8) {
    (lead, trail)
}

static SJIS_2: Table = Table::new(at::SJIS_2, SJIS, Base::Nothing);
static CP932_2: Table = Table::new(at::CP932_2, SJIS, Base::Like(&SJIS_2, same));
static UJIS_2: Table = Table::new(at::UJIS_2, EUC, Base::Like(&SJIS_2, sjis_of_euc));
static EUCJPMS_2: Table = Table::new(at::EUCJPMS_2, EUC, Base::Like(&CP932_2, sjis_of_euc));
static GBK_2: Table = Table::new(at::GBK_2, GBK, Base::Nothing);
static GB2312_2: Table = Table::new(at::GB2312_2, EUC, Base::Like(&GBK_2, same));
static GB18030_2: Table = Table::new(at::GB18030_2, GBK, Base::Like(&GBK_2, same));
static BIG5_2: Table = Table::new(at::BIG5_2, BIG5, Base::Nothing);
static EUCKR_2: Table = Table::new(at::EUCKR_2, EUCKR, Base::Nothing);
static UJIS_3: Table = Table::new(at::UJIS_3, EUC, Base::Nothing);
static EUCJPMS_3: Table = Table::new(at::EUCJPMS_3, EUC, Base::Like(&UJIS_3, same));
static GB18030_4: Runs = Runs::new(at::GB18030_4);

const fn single(place: std::ops::Range<usize>) -> Table {
    Table::new(place, Grid::SINGLE, Base::Identity)
}

/// Every character set, by name.
pub(super) static CHARSETS: [Charset; 41] = [
    Charset { name: "armscii8", form: Form::Single(single(at::ARMSCII8_1)) },
    Charset { name: "ascii", form: Form::Ascii },
    Charset { name: "big5", form: Form::Double(single(at::BIG5_1), &BIG5_2) },
    Charset { name: "binary", form: Form::Binary },
    Charset { name: "cp1250", form: Form::Single(single(at::CP1250_1)) },
    Charset { name: "cp1251", form: Form::Single(single(at::CP1251_1)) },
    Charset { name: "cp1256", form: Form::Single(single(at::CP1256_1)) },
    Charset { name: "cp1257", form: Form::Single(single(at::CP1257_1)) },
    Charset { name: "cp850", form: Form::Single(single(at::CP850_1)) },
    Charset { name: "cp852", form: Form::Single(single(at::CP852_1)) },
    Charset { name: "cp866", form: Form::Single(single(at::CP866_1)) },
    Charset { name: "cp932", form: Form::Double(single(at::CP932_1), &CP932_2) },
    Charset { name: "dec8", form: Form::Single(single(at::DEC8_1)) },
    Charset { name: "eucjpms", form: Form::Euc(single(at::EUCJPMS_1), &EUCJPMS_2, &EUCJPMS_3) },
    Charset { name: "euckr", form: Form::Double(single(at::EUCKR_1), &EUCKR_2) },
    Charset { name: "gb18030", form: Form::Gb18030(single(at::GB18030_1), &GB18030_2, &GB18030_4) },
    Charset { name: "gb2312", form: Form::Double(single(at::GB2312_1), &GB2312_2) },
    Charset { name: "gbk", form: Form::Double(single(at::GBK_1), &GBK_2) },
    Charset { name: "geostd8", form: Form::Single(single(at::GEOSTD8_1)) },
    Charset { name: "greek", form: Form::Single(single(at::GREEK_1)) },
    Charset { name: "hebrew", form: Form::Single(single(at::HEBREW_1)) },
    Charset { name: "hp8", form: Form::Single(single(at::HP8_1)) },
    Charset { name: "keybcs2", form: Form::Single(single(at::KEYBCS2_1)) },
    Charset { name: "koi8r", form: Form::Single(single(at::KOI8R_1)) },
    Charset { name: "koi8u", form: Form::Single(single(at::KOI8U_1)) },
    Charset { name: "latin1", form: Form::Single(single(at::LATIN1_1)) },
    Charset { name: "latin2", form: Form::Single(single(at::LATIN2_1)) },
    Charset { name: "latin5", form: Form::Single(single(at::LATIN5_1)) },
    Charset { name: "latin7", form: Form::Single(single(at::LATIN7_1)) },
    Charset { name: "macce", form: Form::Single(single(at::MACCE_1)) },
    Charset { name: "macroman", form: Form::Single(single(at::MACROMAN_1)) },
    Charset { name: "sjis", form: Form::Double(single(at::SJIS_1), &SJIS_2) },
    Charset { name: "swe7", form: Form::Single(single(at::SWE7_1)) },
    Charset { name: "tis620", form: Form::Single(single(at::TIS620_1)) },
    Charset { name: "ucs2", form: Form::Ucs2 },
    Charset { name: "ujis", form: Form::Euc(single(at::UJIS_1), &UJIS_2, &UJIS_3) },
    Charset { name: "utf16", form: Form::Utf16(Order::Big) },
    Charset { name: "utf16le", form: Form::Utf16(Order::Little) },
    Charset { name: "utf32", form: Form::Utf32 },
    Charset { name: "utf8mb3", form: Form::Utf8mb3 },
    Charset { name: "utf8mb4", form: Form::Utf8mb4 },
];
