//! Samples by hand; all characters against the servers are in `tests/servers/charset.rs`.

use super::*;

fn text(name: &str, bytes: &[u8]) -> Result<String, Bad> {
    let mut out = "left over".to_owned();
    by_name(name).unwrap().to_utf8(bytes, &mut out).map(str::to_owned)
}

#[test]
fn every_set_has_its_name_in_order_and_reads_a_letter() {
    assert!(sets::CHARSETS.is_sorted_by(|a, b| a.name < b.name));
    assert_eq!(sets::CHARSETS.len(), 41);
    for set in &sets::CHARSETS {
        let a: &[u8] = match set.name {
            "ucs2" | "utf16" => b"\0a",
            "utf16le" => b"a\0",
            "utf32" => b"\0\0\0a",
            _ => b"a",
        };
        let mut out = String::new();
        assert_eq!(set.to_utf8(a, &mut out), Ok("a"), "{}", set.name);
        assert_eq!(set.to_utf8(b"", &mut out), Ok(""), "{}", set.name);
        assert!(std::ptr::eq(by_name(&set.name.to_uppercase()).unwrap(), set));
    }
}

#[test]
fn text_of_each_family_is_read() {
    for (set, bytes, expected) in [
        ("latin1", &b"\x80\x81\xe9"[..], "\u{20ac}\u{81}\u{e9}"),
        ("swe7", b"}|{", "\u{e5}\u{f6}\u{e4}"),
        ("cp1251", b"\xcf\xf0\xe8", "При"),
        ("koi8r", b"\xf0\xd2\xc9", "При"),
        ("greek", b"\xc1\xe1", "Αα"),
        ("sjis", b"a\x93\xfa\x96\x7b\xb1\\", "a日本ｱ\\"),
        ("cp932", b"\x87\x40\xfa\x40", "①ⅰ"),
        ("ujis", b"a\xc6\xfc\x8e\xb1\x8f\xb0\xa1", "a日ｱ丂"),
        ("eucjpms", b"\xad\xa1", "①"),
        ("gb2312", b"\xd6\xd0", "中"),
        ("gbk", b"\xd6\xd0\x81\x40", "中丂"),
        ("gb18030", b"0\xd6\xd0\x81\x30\x81\x30\x95\x32\x82\x36", "0中\u{80}𠀀"),
        ("big5", b"\xa4\xa4", "中"),
        ("euckr", b"\xb0\xa1", "가"),
        ("utf8mb3", "žluť".as_bytes(), "žluť"),
        ("utf8mb4", "😀".as_bytes(), "😀"),
        ("ucs2", b"\x20\xac", "€"),
        ("utf16", b"\x20\xac\xd8\x3d\xde\x00", "€😀"),
        ("utf16le", b"\x3d\xd8\x00\xde", "😀"),
        ("utf32", b"\x00\x01\xf6\x00", "😀"),
        ("binary", b"plain", "plain"),
    ] {
        assert_eq!(text(set, bytes).as_deref(), Ok(expected), "{set}");
    }
}

#[test]
fn what_is_no_text_is_refused_where_it_begins() {
    for (set, bytes, at) in [
        ("ascii", &b"ab\x80"[..], 2),
        ("utf8mb4", b"a\xed\xa0\x80", 1),
        ("utf8mb3", "aé😀".as_bytes(), 3),
        ("hebrew", b"a\xd9", 1),
        ("tis620", b"a\xff", 1),
        ("sjis", b"\x93\xfa\x81", 2),
        ("sjis", b"a\x85\x40", 1),
        ("gbk", b"\x80", 0),
        ("gb18030", b"a\x81\x30\x81", 1),
        ("gb18030", b"a\x81\x30", 1),
        ("ujis", b"\x8f\xb0", 0),
        ("ujis", b"a\x8e\xe0", 1),
        ("ucs2", b"\0a\xd8\x3d\xde\x00", 2),
        ("ucs2", b"\0a\0", 2),
        ("utf16", b"\0a\xd8\x3d\0a", 2),
        ("utf16", b"\xde\x00\xd8\x3d", 0),
        ("utf32", b"\x00\x11\x00\x00", 0),
        ("utf32", b"\0\0\0a\0", 4),
    ] {
        assert_eq!(text(set, bytes), Err(Bad { at }), "{set} {bytes:x?}");
    }
}

#[test]
fn utf8_and_ascii_are_borrowed() {
    for set in ["utf8mb4", "utf8mb3", "latin1", "sjis", "gb18030", "ascii"] {
        let mut out = String::new();
        let bytes = b"plain ASCII";
        let text = by_name(set).unwrap().to_utf8(bytes, &mut out).unwrap();
        assert!(std::ptr::eq(text.as_ptr(), bytes.as_ptr()), "{set}");
    }
}

#[test]
fn collations_of_both_servers_are_known() {
    for (id, name) in [
        (8, Some("latin1")),
        (33, Some("utf8mb3")),
        (45, Some("utf8mb4")),
        (63, Some("binary")),
        (248, Some("gb18030")),
        (255, Some("utf8mb4")),
        (323, Some("utf8mb4")),
        (1069, Some("utf8mb4")),
        (2048, Some("utf8mb3")),
        (2304, Some("utf8mb4")),
        (0, None),
        (324, None),
        (u16::MAX, None),
    ] {
        assert_eq!(by_collation(id).map(|set| set.name), name, "{id}");
    }
    assert_eq!(by_collation_name("latin1_swedish_ci").unwrap().name, "latin1");
    assert_eq!(by_collation_name("utf8_bin").unwrap().name, "utf8mb3");
    assert_eq!(by_collation_name("binary").unwrap().name, "binary");
    assert!(by_collation_name("uca1400_ai_ci").is_none());
}
