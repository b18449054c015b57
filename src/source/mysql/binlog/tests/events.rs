//! Events by hand, byte by byte, as the servers' sources lay them out.

use super::*;

fn decoder() -> Decoder {
    // MySQL 8.0's FORMAT_DESCRIPTION with a post-header length for every type, no checksums.
    let mut format = vec![0, 0, 0, 0, 15, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0];
    let mut version = b"8.0.36".to_vec();
    version.resize(50, 0);
    format.extend(version);
    format.extend([0, 0, 0, 0, 19]);
    let mut lengths = vec![0u8; 42];
    for (ty, len) in [
        (2, 13),
        (4, 8),
        (15, 98),
        (19, 8),
        (23, 8),
        (24, 8),
        (25, 8),
        (30, 10),
        (31, 10),
        (32, 10),
        (39, 10),
    ] {
        lengths[ty - 1] = len;
    }
    format.extend(lengths);
    format.extend([0, 0, 0, 0, 0]);
    let len = format.len() as u32;
    format[9..13].copy_from_slice(&len.to_le_bytes());
    let mut decoder = Decoder::new();
    decoder.decode(&format).unwrap();
    decoder
}

fn event(ty: EventType, body: &[u8]) -> Vec<u8> {
    let mut event = vec![1, 0, 0, 0, ty.0, 7, 0, 0, 0];
    event.extend((19 + body.len() as u32).to_le_bytes());
    event.extend([0; 6]);
    event.extend(body);
    event
}

/// Reads it; and every shorter one is an error or something else, not a panic.
fn check(ty: EventType, body: &[u8], look: impl Fn(Event<'_>)) {
    let mut decoder = decoder();
    for cut in 0..body.len() {
        decoder.decode(&event(ty, &body[..cut])).ok();
    }
    let event = event(ty, body);
    let (header, event) = decoder.decode(&event).unwrap();
    assert_eq!((header.event_type, header.server_id, header.timestamp), (ty, 7, 1));
    look(event);
}

#[test]
fn a_query_with_every_status_variable() {
    let status = [
        &[0, 4, 0, 0, 0][..],
        &[1, 8, 0, 0, 0, 0, 0, 0, 0x80],
        &[6, 3, b's', b't', b'd'],
        &[3, 2, 0, 1, 0],
        &[4, 255, 0, 45, 0, 8, 0],
        &[5, 6, b'S', b'Y', b'S', b'T', b'E', b'M'],
        &[7, 1, 0],
        &[8, 33, 0],
        &[9, 3, 0, 0, 0, 0, 0, 0, 0],
        &[10, 1, 1, 0, 0],
        &[11, 1, b'u', 1, b'h'],
        &[12, 2, b'a', 0, b'b', b'c', 0],
        &[13, 0x40, 0x42, 0x0f],
        &[16, 1],
        &[17, 5, 0, 0, 0, 0, 0, 0, 0],
        &[18, 255, 0],
        &[19, 1],
        &[20, 0],
        &[128, 1, 0, 0],
        &[129, 9, 0, 0, 0, 0, 0, 0, 0],
        &[130, 4, 1, 0, 0, 0, 0, 0, 0, 0],
        &[131, 1, 8, 0, 47, 0],
    ]
    .concat();
    let mut body = vec![9, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0];
    body.extend((status.len() as u16).to_le_bytes());
    body.extend(&status);
    body.extend(b"abc\0CREATE TABLE t");
    check(EventType::QUERY, &body, |event| {
        let Event::Query(q) = event else { panic!("{event:?}") };
        assert_eq!(
            (q.thread, q.seconds, q.error, q.db, q.statement),
            (9, 2, 0, "abc", &b"CREATE TABLE t"[..])
        );
        let status = q.status();
        assert_eq!(status.unknown, None);
        assert_eq!(status.flags2, Some(4));
        assert_eq!(status.sql_mode, Some(8 | 0x80 << 56));
        assert_eq!(status.catalog, Some(&b"std"[..]));
        assert_eq!(status.auto_increment, Some((2, 1)));
        assert_eq!(status.charset, Some((255, 45, 8)));
        assert_eq!(status.time_zone, Some(&b"SYSTEM"[..]));
        assert_eq!(status.charset_database, Some(33));
        assert_eq!(status.table_map_for_update, Some(3));
        assert_eq!(status.data_written, Some(257));
        assert_eq!(status.invoker, Some((&b"u"[..], &b"h"[..])));
        assert_eq!(status.updated_dbs, Some(&b"a\0bc\0"[..]));
        assert_eq!(status.microseconds, Some(1_000_000));
        assert_eq!(status.ddl_xid, Some(5));
        assert_eq!(status.default_collation_for_utf8mb4, Some(255));
        assert_eq!((status.hrnow, status.mariadb_xid), (Some(1), Some(9)));
        assert_eq!(status.character_set_collations, Some(&[8, 0, 47, 0][..]));
    });
}

#[test]
fn an_unknown_status_variable_hides_what_follows() {
    let body = [&[0; 11][..], &[4, 0], &[200, 1, 2, 3], b"\0x"].concat();
    check(EventType::QUERY, &body, |event| {
        let Event::Query(q) = event else { panic!("{event:?}") };
        assert_eq!(q.status().unknown, Some(200));
    });
}

#[test]
fn a_gtid_of_every_age() {
    let mut body = vec![1];
    body.extend([0x3e; 16]);
    body.extend(42i64.to_le_bytes());
    check(EventType::GTID, &body, |event| {
        let Event::Gtid(g) = event else { panic!("{event:?}") };
        assert_eq!(g.gtid.unwrap().to_string(), "3e3e3e3e-3e3e-3e3e-3e3e-3e3e3e3e3e3e:42");
        assert_eq!(g.immediate_commit_us, None);
    });
    // 5.7: the logical clock.
    body.push(2);
    body.extend(5i64.to_le_bytes());
    body.extend(6i64.to_le_bytes());
    check(EventType::GTID, &body, |event| {
        let Event::Gtid(g) = event else { panic!("{event:?}") };
        assert_eq!((g.last_committed, g.sequence_number, g.immediate_commit_us), (5, 6, None));
    });
    // 8.0: times, length, versions; both times and both versions differ.
    body.extend(&(1_700_000_000_000_000u64 | 1 << 55).to_le_bytes()[..7]);
    body.extend(&1_600_000_000_000_000u64.to_le_bytes()[..7]);
    body.extend([252, 0x10, 0x27]);
    body.extend((80036u32 | 1 << 31).to_le_bytes());
    body.extend(80020u32.to_le_bytes());
    body.extend(77u64.to_le_bytes());
    check(EventType::GTID, &body, |event| {
        let Event::Gtid(g) = event else { panic!("{event:?}") };
        assert_eq!(g.immediate_commit_us, Some(1_700_000_000_000_000));
        assert_eq!(g.original_commit_us, Some(1_600_000_000_000_000));
        assert_eq!(g.transaction_length, Some(10_000));
        assert_eq!((g.immediate_server_version, g.original_server_version), (Some(80036), Some(80020)));
        assert_eq!(g.commit_group_ticket, Some(77));
    });
    body[17..25].fill(0);
    check(EventType::ANONYMOUS_GTID, &body, |event| {
        let Event::Gtid(g) = event else { panic!("{event:?}") };
        assert_eq!((g.gtid, g.sequence_number), (None, 6));
    });
    assert!(decoder().decode(&event(EventType::GTID, &body)).is_err());
}

#[test]
fn heartbeats_of_both_versions() {
    check(EventType::HEARTBEAT, b"binlog.000007", |event| {
        let Event::Heartbeat(h) = event else { panic!("{event:?}") };
        assert_eq!((h.file, h.position), ("binlog.000007", 0));
    });
    let body = [&[1, 13][..], b"binlog.000007", &[2, 9, 254, 0, 0, 0, 0, 2, 0, 0, 0, 0]].concat();
    check(EventType::HEARTBEAT_V2, &body, |event| {
        let Event::Heartbeat(h) = event else { panic!("{event:?}") };
        assert_eq!((h.file, h.position), ("binlog.000007", 1 << 33));
    });
}

#[test]
fn what_is_named_and_not_executed() {
    check(EventType::INTVAR, &[2, 9, 0, 0, 0, 0, 0, 0, 0], |event| {
        assert!(matches!(event, Event::IntVar(IntVar { kind: 2, value: 9 })));
    });
    check(EventType::RAND, &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0], |event| {
        assert!(matches!(event, Event::Rand(1, 2)));
    });
    let user = [&[1, 0, 0, 0][..], b"v", &[0, 2, 63, 0, 0, 0, 8, 0, 0, 0], &[255; 8], &[1]].concat();
    check(EventType::USER_VAR, &user, |event| {
        let Event::UserVar(v) = event else { panic!("{event:?}") };
        let value = v.value.unwrap();
        assert_eq!(
            (v.name, value.ty, value.collation, value.bytes, value.unsigned),
            (&b"v"[..], 2, 63, &[255u8; 8][..], true)
        );
    });
    check(EventType::USER_VAR, &[1, 0, 0, 0, b'v', 1], |event| {
        assert!(matches!(event, Event::UserVar(UserVar { name: b"v", value: None })));
    });
    check(EventType::INCIDENT, b"\x01\x00\x04lost", |event| {
        assert!(matches!(event, Event::Incident(1, b"lost")));
    });
    check(EventType::STOP, b"", |event| assert!(matches!(event, Event::Stop)));
    check(EventType::IGNORABLE, b"whatever", |event| assert!(matches!(event, Event::Ignorable(b"whatever"))));
    check(EventType::BEGIN_LOAD_QUERY, b"\x01\0\0\0data", |event| assert!(matches!(event, Event::Other(_))));
    check(EventType::ROTATE, b"\x04\0\0\0\0\0\0\0next.000002", |event| {
        assert!(matches!(event, Event::Rotate(Rotate { position: 4, file: "next.000002" })));
    });
}

#[test]
fn an_unknown_type_is_passed_over_only_if_it_is_marked() {
    let mut unknown = event(EventType(120), b"abc");
    assert!(matches!(decoder().decode(&unknown), Err(Problem::UnknownEvent(120))));
    unknown[17] = 0x80;
    assert!(matches!(decoder().decode(&unknown).unwrap().1, Event::Ignorable(b"abc")));
}

#[test]
fn mariadbs_gtid_with_every_extra() {
    let mut body = 77u64.to_le_bytes().to_vec();
    body.extend(3u32.to_le_bytes());
    body.push(2 | 4 | 64);
    body.extend(5u64.to_le_bytes());
    body.extend([7, 0, 0, 0, 2, 1, b'g', b't', b'b']);
    body.push(4 | 16);
    body.extend(66u64.to_le_bytes());
    body.extend(9u32.to_le_bytes());
    check(EventType::MARIADB_GTID, &body, |event| {
        let Event::MariaDbGtid(g) = event else { panic!("{event:?}") };
        assert_eq!(g.gtid.to_string(), "3-7-77");
        assert_eq!(g.commit_id, Some(5));
        assert_eq!(g.xid, Some(Xid { format: 7, gtrid: b"gt", bqual: b"b" }));
        assert_eq!((g.alter, g.thread), (Some(66), Some(9)));
        assert!(!g.is_standalone());
    });
    let list = [&[1, 0, 0, 0][..], &3u32.to_le_bytes(), &7u32.to_le_bytes(), &77u64.to_le_bytes()].concat();
    check(EventType::MARIADB_GTID_LIST, &list, |event| {
        let Event::MariaDbGtidList(list) = event else { panic!("{event:?}") };
        assert_eq!(list.iter().map(|g| g.to_string()).collect::<Vec<_>>(), ["3-7-77"]);
    });
    check(EventType::MARIADB_BINLOG_CHECKPOINT, b"\x05\0\0\0b.001", |event| {
        assert!(matches!(event, Event::MariaDbBinlogCheckpoint("b.001")));
    });
}

/// `CREATE TABLE d.t (a INT, b VARCHAR(10), j JSON)`
const TABLE: &[u8] = &[
    9, 0, 0, 0, 0, 0, 1, 0, 1, b'd', 0, 1, b't', 0, 3, 3, 15, 245, 3, 10, 0, 4,
    0b111, // optional metadata: signedness
    1, 1, 0x80,
];

/// `t1 (id INT, c0 VECTOR(3), c1 VARCHAR(40) gbk, c2 BINARY(16), c3 VARCHAR(10) utf8mb4)`, as MySQL 9.7 wrote it.
#[test]
fn a_vector_has_a_place_among_mysqls_character_sets() {
    let map = b"\x6d\0\0\0\0\0\x01\0\x01d\0\x02t1\0\x05\x03\xf2\x0f\xfe\x0f\x07\x04\x50\0\xfe\x10\x28\0\x1e\x01\x01\0\
        \x03\x06\x3f\x1c\x3f\xfc\xff\0\x0d\x01\x03\x04\x0f\x02id\x02c0\x02c1\x02c2\x02c3\x08\x01\0\x0c\x01\xf8";
    check(EventType::TABLE_MAP, map, |event| {
        let Event::TableMap(table) = event else { panic!("{event:?}") };
        let sets: Vec<_> = table.columns.iter().map(|column| column.charset).collect();
        assert_eq!(sets, [None, Some(63), Some(28), Some(63), Some(255)]);
        assert_eq!(table.columns[1].dimensions, Some(3));
        assert!(table.columns[3].is_padded_binary());
    });
}

#[test]
fn rows_of_every_kind() {
    let mut decoder = decoder();
    let mut rows = |ty: EventType, body: &[u8]| {
        let table = event(EventType::TABLE_MAP, TABLE);
        let (_, read) = decoder.decode(&table).unwrap();
        let Event::TableMap(table) = read else { panic!() };
        assert_eq!((&*table.db, &*table.table, table.columns.len()), ("d", "t", 3));
        assert_eq!(table.columns[0].unsigned, Some(true));
        let event = event(ty, body);
        let (_, read) = decoder.decode(&event).map_err(|e| e.to_string())?;
        let Event::Rows(rows) = read else { panic!("{read:?}") };
        assert_eq!(rows.count().map_err(|e| e.to_string())?, 1);
        let mut cursor = rows.cursor();
        let row = cursor.next().unwrap().map_err(|e| e.to_string())?;
        let text = format!("{:?} {:?} {:?} {:?}", rows.kind, rows.partitions(), row.before, row.after);
        assert!(cursor.next().is_none());
        Ok::<_, String>(text)
    };
    let head = |extra: &[u8]| [&[9, 0, 0, 0, 0, 0, 1, 0][..], extra, &[3]].concat();
    let v1 = |body: &[u8]| [&head(&[])[..], body].concat();
    let v2 = |body: &[u8]| [&head(&[5, 0, 1, 3, 0])[..], body].concat();
    assert_eq!(
        rows(EventType::WRITE_ROWS_V1, &v1(&[0b111, 0b100, 255, 255, 255, 255, 2, b'h', b'i'])).unwrap(),
        r#"Insert None None Some([Uint(4294967295), Bytes([104, 105]), Null])"#
    );
    assert_eq!(
        rows(EventType::DELETE_ROWS, &v2(&[0b001, 0, 1, 0, 0, 0])).unwrap(),
        "Delete Some((3, None)) Some([Uint(1), Absent, Absent]) None"
    );
    assert_eq!(
        rows(EventType::UPDATE_ROWS, &v2(&[0b001, 0b010, 0, 1, 0, 0, 0, 0, 1, b'x'])).unwrap(),
        "Update Some((3, None)) Some([Uint(1), Absent, Absent]) Some([Absent, Bytes([120]), Absent])"
    );
    // A partial update: options, a bit for the one JSON column, and a difference.
    let diff = [2, 3, b'$', b'.', b'a'];
    let body = [&[0b001, 0b100, 0, 1, 0, 0, 0, 1, 1, 0, 5, 0, 0, 0][..], &diff].concat();
    let read = rows(EventType::PARTIAL_UPDATE_ROWS, &v2(&body)).unwrap();
    assert!(read.ends_with("[Absent, Absent, JsonDiff(JsonDiffs { raw: [2, 3, 36, 46, 97] })])"), "{read}");
    // The same with no option set holds a whole document.
    let body = [0b001, 0b100, 0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 4, 1];
    assert!(rows(EventType::PARTIAL_UPDATE_ROWS, &v2(&body)).unwrap().contains("Json(Json { raw: [4, 1] })"));
    // What cannot be.
    for (ty, body, why) in [
        (EventType::WRITE_ROWS_V1, v1(&[0b111, 0, 1, 0, 0]), "row 0 of d.t, column 0"),
        (EventType::WRITE_ROWS_V1, v1(&[0b010, 0, 9, b'x']), "row 0 of d.t, column 1"),
        (EventType::WRITE_ROWS_V1, v1(&[0, 0, 1]), "bytes too many"),
        (EventType::PARTIAL_UPDATE_ROWS, v2(&[1, 4, 0, 1, 0, 0, 0, 2]), "known options"),
        (EventType::DELETE_ROWS, [&[9, 0, 0, 0, 0, 0, 1, 0, 1, 0, 3, 7][..]].concat(), "at least 2 bytes"),
        (EventType::WRITE_ROWS_V1, [&head(&[])[..8], &[4, 15, 0]].concat(), "as many columns"),
    ] {
        let error = rows(ty, &body).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_table_map_holds_for_its_statement_only() {
    let mut decoder = decoder();
    let table = event(EventType::TABLE_MAP, TABLE);
    let rows =
        |flags: u8| event(EventType::WRITE_ROWS_V1, &[9, 0, 0, 0, 0, 0, flags, 0, 3, 1, 0, 1, 0, 0, 0]);
    decoder.decode(&table).unwrap();
    let generation = decoder.table(9).unwrap().generation;
    assert!(decoder.decode(&rows(0)).is_ok());
    assert!(decoder.decode(&rows(1)).is_ok());
    assert!(matches!(decoder.decode(&rows(1)), Err(Problem::NoTableMap { table_id: 9 })));
    // The same once more costs a compare, and keeps what was told of it.
    decoder.decode(&table).unwrap();
    assert_eq!(decoder.table(9).unwrap().generation, generation);
    let hint = |name: &str| ColumnHint { name: Some(name.into()), ..ColumnHint::default() };
    assert!(decoder.describe(9, &[hint("x"), hint("y"), hint("z")]).unwrap());
    assert!(!decoder.describe(9, &[hint("x")]).unwrap() && !decoder.describe(8, &[]).unwrap());
    decoder.decode(&table).unwrap();
    assert_eq!(decoder.table(9).unwrap().columns[2].name.as_deref(), Some("z"));
    // The dummy that only ends a statement.
    let end = event(EventType::WRITE_ROWS_V1, &[255, 255, 255, 0, 0, 0, 1, 0, 0]);
    assert!(matches!(decoder.decode(&end).unwrap().1, Event::RowsEnd));
    assert!(decoder.decode(&rows(0)).is_err());
}

#[test]
fn a_checksum_is_verified_over_the_whole_event() {
    let mut event = event(EventType::XID, &[5, 0, 0, 0, 0, 0, 0, 0]);
    event[9] += 4;
    let sum = crc32fast::hash(&event);
    event.extend(sum.to_le_bytes());
    checksum::verify(&event).unwrap();
    for bit in 0..event.len() * 8 {
        let mut event = event.clone();
        event[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(checksum::verify(&event), Err(Problem::Checksum { .. })));
    }
}

#[test]
fn shapes_beyond_the_bound_are_forgotten_and_learned_again() {
    let mut decoder = decoder();
    // 65,535 columns each: a few of them are above the bound.
    let table = |id: u8| {
        let mut body = vec![id, 0, 0, 0, 0, 0, 1, 0, 1, b'd', 0, 1, b't', 0, 252, 255, 255];
        body.extend(vec![3; 65_535]);
        body.push(0);
        body.extend(vec![0; 8192]);
        event(EventType::TABLE_MAP, &body)
    };
    for id in 0..12 {
        decoder.decode(&table(id)).unwrap();
        let end = event(EventType::WRITE_ROWS_V1, &[255, 255, 255, 0, 0, 0, 1, 0, 0]);
        decoder.decode(&end).unwrap();
    }
    assert!(decoder.table(0).is_none() && decoder.table(11).is_some());
    decoder.decode(&table(0)).unwrap();
    assert_eq!(decoder.table(0).unwrap().columns.len(), 65_535);
}
