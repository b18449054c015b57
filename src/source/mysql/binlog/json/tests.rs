use super::*;

/// The server's serializer, small form where it fits, for documents that tests make.
fn binary(value: &serde_json::Value) -> Vec<u8> {
    use serde_json::Value as V;
    let (ty, body) = match value {
        V::Null => (4, vec![0]),
        V::Bool(b) => (4, vec![if *b { 1 } else { 2 }]),
        V::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(n), _) if i16::try_from(n).is_ok() => (5, (n as i16).to_le_bytes().to_vec()),
            (Some(n), _) if i32::try_from(n).is_ok() => (7, (n as i32).to_le_bytes().to_vec()),
            (Some(n), _) => (9, n.to_le_bytes().to_vec()),
            (_, Some(n)) => (10, n.to_le_bytes().to_vec()),
            _ => (11, n.as_f64().unwrap().to_le_bytes().to_vec()),
        },
        V::String(s) => (12, [counted(s.len()), s.as_bytes().to_vec()].concat()),
        V::Array(cells) => container(&[], &cells.iter().map(binary).collect::<Vec<_>>(), false),
        V::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(k, _)| (k.len(), k.as_bytes().to_vec()));
            let keys: Vec<_> = members.iter().map(|(k, _)| k.as_bytes()).collect();
            let values: Vec<_> = members.iter().map(|(_, v)| binary(v)).collect();
            container(&keys, &values, true)
        }
    };
    [vec![ty], body].concat()
}

fn counted(mut n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

fn container(keys: &[&[u8]], values: &[Vec<u8>], object: bool) -> (u8, Vec<u8>) {
    for large in [false, true] {
        let width = if large { 4 } else { 2 };
        let number = |n: usize| n.to_le_bytes()[..width].to_vec();
        let inlined = |v: &[u8]| matches!(v[0], 4..=6) || large && matches!(v[0], 7 | 8);
        let key_bytes: usize = keys.iter().map(|k| k.len()).sum();
        let table =
            2 * width + if object { values.len() * (width + 2) } else { 0 } + values.len() * (1 + width);
        let mut entries = Vec::new();
        let mut key_at = table;
        for key in keys {
            entries.extend(number(key_at));
            entries.extend((key.len() as u16).to_le_bytes());
            key_at += key.len();
        }
        let mut data = Vec::new();
        for v in values {
            entries.push(v[0]);
            if inlined(v) {
                let mut raw = v[1..].to_vec();
                raw.resize(width, 0);
                entries.extend(raw);
            } else {
                entries.extend(number(table + key_bytes + data.len()));
                data.extend(&v[1..]);
            }
        }
        let size = table + key_bytes + data.len();
        if !large && size > 0xffff {
            continue;
        }
        let body = [number(values.len()), number(size), entries, keys.concat(), data].concat();
        return (if object { 0 } else { 2 } + u8::from(large), body);
    }
    unreachable!()
}

fn text_of(raw: &[u8]) -> Result<String, Malformed> {
    let mut out = Vec::new();
    Json::new(raw).write(&mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn doubles_as_the_server_prints_them() {
    for (n, said) in [
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (0.1, "0.1"),
        (1e14, "100000000000000.0"),
        (1e15, "1e15"),
        (123456789012345.0, "123456789012345.0"),
        (1e-15, "0.000000000000001"),
        (1e-16, "1e-16"),
        (-1.25e-7, "-0.000000125"),
        (1.7976931348623157e308, "1.7976931348623157e308"),
        (5e-324, "5e-324"),
        (1.0 / 3.0, "0.3333333333333333"),
        (12345.678, "12345.678"),
    ] {
        let mut out = Vec::new();
        text::double(&mut out, n);
        assert_eq!(std::str::from_utf8(&out).unwrap(), said);
    }
}

#[test]
fn a_document_that_holds_itself_ends() {
    // An array of two whose elements are both at the offset of one that refers back.
    let inner = [2, 0, 10, 0, 2, 0, 0, 2, 0, 0];
    let doc = [&[2u8, 2, 0, 20, 0, 2, 10, 0, 2, 10, 0][..], &inner].concat();
    assert!(text_of(&doc).is_err());
    // Shared values would make exponential text: each level names the next twice.
    let mut doc = vec![2u8];
    for level in 0..30u16 {
        let rest = (30 - level) * 10;
        doc.extend([2, 0]);
        doc.extend(rest.to_le_bytes());
        doc.extend([2, 10, 0, 2, 10, 0]);
    }
    assert!(text_of(&doc).is_err());
}

#[test]
fn too_deep_is_an_error() {
    let deep = |n: usize| {
        let mut v = serde_json::Value::Null;
        for _ in 0..n {
            v = serde_json::Value::Array(vec![v]);
        }
        binary(&v)
    };
    assert!(text_of(&deep(100)).is_ok());
    assert!(text_of(&deep(101)).is_err());
}

fn diffs(parts: &[(u8, &str, Option<serde_json::Value>)]) -> Vec<u8> {
    let mut out = Vec::new();
    let put = |out: &mut Vec<u8>, raw: &[u8]| {
        match raw.len() {
            n @ 0..=250 => out.push(n as u8),
            n => out.extend([&[253][..], &n.to_le_bytes()[..3]].concat()),
        }
        out.extend(raw);
    };
    for (op, path, value) in parts {
        out.push(*op);
        put(&mut out, path.as_bytes());
        if let Some(value) = value {
            put(&mut out, &binary(value));
        }
    }
    out
}

#[test]
fn differences_are_applied_in_order() {
    let before = binary(&serde_json::json!({"a": 1, "b": [1, 2, {"c": true}], "x y": {"q\"": null}}));
    let ok = diffs(&[
        (0, "$.a", Some(serde_json::json!(7))),
        (1, "$.b[1]", Some(serde_json::json!("new"))),
        (2, "$.b[3].c", None),
        (0, "$.\"x y\".\"q\\\"\"", Some(serde_json::json!([1]))),
        (1, "$.aa", Some(serde_json::json!({}))),
        (1, "$.b[99]", Some(serde_json::json!(0))),
        (2, "$.b[0]", None),
    ]);
    let mut out = b"=".to_vec();
    Json::new(&before).write_patched(&JsonDiffs::new(&ok), &mut out).unwrap();
    let said = r#"={"a": 7, "b": ["new", 2, {}, 0], "aa": {}, "x y": {"q\"": [1]}}"#;
    assert_eq!(std::str::from_utf8(&out).unwrap(), said);
    for wrong in [
        diffs(&[(0, "$.nowhere", Some(serde_json::json!(1)))]),
        diffs(&[(2, "$.b[9]", None)]),
        diffs(&[(2, "$", None)]),
        diffs(&[(1, "$.a.b", Some(serde_json::json!(1)))]),
        diffs(&[(0, "a", Some(serde_json::json!(1)))]),
        diffs(&[(3, "$", None)]),
        ok[..ok.len() - 1].to_vec(),
    ] {
        let mut out = b"=".to_vec();
        assert!(Json::new(&before).write_patched(&JsonDiffs::new(&wrong), &mut out).is_err());
        assert_eq!(out, b"=");
    }
}

/// A decimal of 35 and 30 digits that was computed: the server counts the integer part's digits by words, 36.
#[test]
fn a_decimal_may_claim_more_digits_than_a_column_has() {
    let mut digits = [0; 30];
    // Sixteen bytes before the point, the sign in the first.
    (digits[0], digits[15]) = (0x80, 7);
    let raw = [&[15, 246, 32, 66, 30][..], &digits].concat();
    assert_eq!(text_of(&raw).unwrap(), format!("7.{}", "0".repeat(30)));
}

#[test]
fn a_path_deeper_than_any_document_is_refused() {
    // Arrays in arrays, each large: its count and size, and the place of the next one.
    const LEVELS: usize = 200_000;
    let mut raw = vec![3];
    for level in 0..LEVELS {
        let left = (LEVELS - level) * 13;
        raw.extend(1u32.to_le_bytes());
        raw.extend((left as u32).to_le_bytes());
        raw.extend(if level + 1 < LEVELS { [3, 13, 0, 0, 0] } else { [4, 0, 0, 0, 0] });
    }
    let change = diffs(&[(0, &format!("${}", "[0]".repeat(LEVELS)), Some(serde_json::json!(1)))]);
    let mut out = Vec::new();
    // Walking so far down was no harm, letting go of it was.
    let patched = Json::new(&raw).write_patched(&JsonDiffs::new(&change), &mut out);
    assert!(matches!(patched, Err(Malformed::Invalid { expected: "a JSON path", .. })), "{patched:?}");
}

#[test]
fn containers_that_share_their_bytes_take_no_memory_each() {
    const CELLS: usize = 1000;
    let inner: Vec<_> = vec![serde_json::Value::Null; CELLS];
    let inner = binary(&serde_json::Value::from(inner));
    // Each cell of the outer one is the same array.
    let table = 8 + CELLS * 5;
    let mut raw = vec![3];
    raw.extend((CELLS as u32).to_le_bytes());
    raw.extend(((table + inner.len() - 1) as u32).to_le_bytes());
    for _ in 0..CELLS {
        raw.push(inner[0]);
        raw.extend((table as u32).to_le_bytes());
    }
    raw.extend(&inner[1..]);
    let paths: Vec<_> = (0..CELLS).map(|i| format!("$[{i}][0]")).collect();
    let changes: Vec<_> = paths.iter().map(|path| (0, path.as_str(), Some(serde_json::json!(1)))).collect();
    let mut out = Vec::new();
    let patched = Json::new(&raw).write_patched(&JsonDiffs::new(&diffs(&changes)), &mut out);
    let expected = "a JSON document whose values do not overlap";
    assert!(matches!(patched, Err(Malformed::Invalid { expected: e, .. }) if e == expected), "{patched:?}");
    // One of them is a document like any other, but for its text.
    let one = Json::new(&raw).write_patched(&JsonDiffs::new(&diffs(&changes[..1])), &mut out);
    assert!(matches!(one, Err(Malformed::Invalid { expected: e, .. }) if e == expected), "{one:?}");
}

fn any_json() -> impl proptest::strategy::Strategy<Value = serde_json::Value> {
    use proptest::prelude::*;
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<u64>().prop_map(serde_json::Value::from),
        any::<i16>().prop_map(serde_json::Value::from),
        // Numbers that serde_json reads exactly without its slow way.
        any::<i32>().prop_map(|n| serde_json::Value::from(f64::from(n) / 64.0)),
        "\\PC{0,20}".prop_map(serde_json::Value::from),
        ".{0,300}".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(6, 200, 10, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..10).prop_map(serde_json::Value::from),
            proptest::collection::hash_map(".{0,8}", inner, 0..10)
                .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn doubles_read_back(n in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL) {
        let mut out = Vec::new();
        text::double(&mut out, n);
        let text = std::str::from_utf8(&out).unwrap();
        proptest::prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), n.to_bits(), "{}", text);
        proptest::prop_assert!(text.contains(['.', 'e']), "{}", text);
    }

    #[test]
    fn any_document_reads_back(doc in any_json()) {
        let raw = binary(&doc);
        let text = text_of(&raw).unwrap();
        proptest::prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(&text).unwrap(), &doc, "{}", text);
        for cut in 1..raw.len() {
            text_of(&raw[..cut]).ok();
        }
    }

    #[test]
    fn random_bytes_are_no_panic(raw: Vec<u8>, patch: Vec<u8>) {
        let mut out = Vec::new();
        Json::new(&raw).write(&mut out).ok();
        Json::new(&raw).write_patched(&JsonDiffs::new(&patch), &mut out).ok();
    }
}
