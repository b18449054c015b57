//! Where each table stands in tables.bin.
// Written by gen.py.

use std::ops::Range;

/// 256 cells.
pub(super) const ARMSCII8_1: Range<usize> = 0..194;
/// 256 cells.
pub(super) const BIG5_1: Range<usize> = 194..198;
/// 16999 cells.
pub(super) const BIG5_2: Range<usize> = 198..27146;
/// 256 cells.
pub(super) const CP1250_1: Range<usize> = 27146..27387;
/// 256 cells.
pub(super) const CP1251_1: Range<usize> = 27387..27513;
/// 256 cells.
pub(super) const CP1256_1: Range<usize> = 27513..27659;
/// 256 cells.
pub(super) const CP1257_1: Range<usize> = 27659..27881;
/// 256 cells.
pub(super) const CP850_1: Range<usize> = 27881..28139;
/// 256 cells.
pub(super) const CP852_1: Range<usize> = 28139..28398;
/// 256 cells.
pub(super) const CP866_1: Range<usize> = 28398..28535;
/// 256 cells.
pub(super) const CP932_1: Range<usize> = 28535..28545;
/// 23436 cells.
pub(super) const CP932_2: Range<usize> = 28545..30248;
/// 256 cells.
pub(super) const DEC8_1: Range<usize> = 30248..30302;
/// 256 cells.
pub(super) const EUCJPMS_1: Range<usize> = 30302..30306;
/// 8836 cells.
pub(super) const EUCJPMS_2: Range<usize> = 30306..30313;
/// 8836 cells.
pub(super) const EUCJPMS_3: Range<usize> = 30313..30499;
/// 256 cells.
pub(super) const EUCKR_1: Range<usize> = 30499..30503;
/// 23940 cells.
pub(super) const EUCKR_2: Range<usize> = 30503..51234;
/// 256 cells.
pub(super) const GB18030_1: Range<usize> = 51234..51238;
/// 24066 cells.
pub(super) const GB18030_2: Range<usize> = 51238..51679;
/// 256 cells.
pub(super) const GB2312_1: Range<usize> = 51679..51683;
/// 8836 cells.
pub(super) const GB2312_2: Range<usize> = 51683..51703;
/// 256 cells.
pub(super) const GBK_1: Range<usize> = 51703..51707;
/// 24066 cells.
pub(super) const GBK_2: Range<usize> = 51707..77267;
/// 256 cells.
pub(super) const GEOSTD8_1: Range<usize> = 77267..77352;
/// 256 cells.
pub(super) const GREEK_1: Range<usize> = 77352..77402;
/// 256 cells.
pub(super) const HEBREW_1: Range<usize> = 77402..77436;
/// 256 cells.
pub(super) const HP8_1: Range<usize> = 77436..77630;
/// 256 cells.
pub(super) const KEYBCS2_1: Range<usize> = 77630..77889;
/// 256 cells.
pub(super) const KOI8R_1: Range<usize> = 77889..78066;
/// 256 cells.
pub(super) const KOI8U_1: Range<usize> = 78066..78269;
/// 256 cells.
pub(super) const LATIN1_1: Range<usize> = 78269..78339;
/// 256 cells.
pub(super) const LATIN2_1: Range<usize> = 78339..78533;
/// 256 cells.
pub(super) const LATIN5_1: Range<usize> = 78533..78556;
/// 256 cells.
pub(super) const LATIN7_1: Range<usize> = 78556..78715;
/// 256 cells.
pub(super) const MACCE_1: Range<usize> = 78715..78966;
/// 256 cells.
pub(super) const MACROMAN_1: Range<usize> = 78966..79222;
/// 256 cells.
pub(super) const SJIS_1: Range<usize> = 79222..79232;
/// 23436 cells.
pub(super) const SJIS_2: Range<usize> = 79232..92420;
/// 256 cells.
pub(super) const SWE7_1: Range<usize> = 92420..92451;
/// 256 cells.
pub(super) const TIS620_1: Range<usize> = 92451..92465;
/// 256 cells.
pub(super) const UJIS_1: Range<usize> = 92465..92469;
/// 8836 cells.
pub(super) const UJIS_2: Range<usize> = 92469..92476;
/// 8836 cells.
pub(super) const UJIS_3: Range<usize> = 92476..103435;
/// 210 runs: number of the first, how many, its code point.
pub(super) const GB18030_4: Range<usize> = 103435..104619;
