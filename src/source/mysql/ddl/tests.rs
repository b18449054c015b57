//! Statements as servers log them, and what is known after them.

use super::*;
use crate::source::mysql::charset;

const CX: Context<'static> = Context {
    db: "d",
    ansi_quotes: false,
    no_backslash_escapes: false,
    database_charset: None,
    server_charset: None,
};

fn catalogue(statements: &[&str]) -> Catalogue {
    let mut catalogue = Catalogue::new();
    for sql in statements {
        let reading = catalogue.read(sql, &CX);
        assert!(!matches!(reading.outcome, Outcome::Unknown { .. }), "{sql}: {reading:?}");
    }
    catalogue
}

/// The columns of `d.t` after the statements, each as `name type …`.
#[track_caller]
fn columns(statements: &[&str]) -> Vec<String> {
    let catalogue = catalogue(statements);
    let table = catalogue.table("d", "t").unwrap();
    table.columns.iter().map(show).collect()
}

fn show(column: &Column) -> String {
    let mut out = format!("{} {:?}", column.name, column.ty);
    if column.unsigned {
        out.push_str(" unsigned");
    }
    if let Some(charset) = column.charset {
        out.push_str(&format!(" {}", charset.name));
    }
    if !column.members.is_empty() {
        out.push_str(&format!(" {:?}", column.members));
    }
    for (set, word) in [(column.compressed, " compressed"), (column.is_virtual, " virtual")] {
        if set {
            out.push_str(word);
        }
    }
    if let Some(place) = column.key {
        out.push_str(&format!(" key{place}"));
    }
    out
}

#[track_caller]
fn names(statements: &[&str]) -> String {
    let catalogue = catalogue(statements);
    let table = catalogue.table("d", "t").unwrap();
    table.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(" ")
}

#[test]
fn show_create_table_of_mysql_is_read() {
    let sql = "CREATE TABLE `t` (
  `id` bigint unsigned NOT NULL AUTO_INCREMENT,
  `name` varchar(40) CHARACTER SET latin1 COLLATE latin1_german1_ci NOT NULL DEFAULT 'a,b)''\\'c',
  `price` decimal(12,4) DEFAULT '-1.0000' COMMENT 'UNSIGNED, PRIMARY KEY (x)',
  `state` enum('new','it''s','a,b','x)  ') COLLATE utf8mb4_bin DEFAULT NULL,
  `flags` set('a','b') NOT NULL,
  `made` timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
  `doc` json DEFAULT NULL,
  `total` double GENERATED ALWAYS AS ((`price` * 2)) VIRTUAL,
  `kept` int GENERATED ALWAYS AS (char_length(`name`)) STORED NOT NULL,
  `body` longtext CHARACTER SET binary,
  `at` point NOT NULL /*!80003 SRID 4326 */,
  `v` vector(3) DEFAULT NULL,
  `hidden` bit(7) DEFAULT NULL /*!80023 INVISIBLE */,
  PRIMARY KEY (`id`,`name`(10)),
  UNIQUE KEY `u` (`name`),
  KEY `k` ((lower(`name`))),
  SPATIAL KEY `s` (`at`),
  CONSTRAINT `c` CHECK ((`price` > 0)),
  CONSTRAINT `f` FOREIGN KEY (`id`) REFERENCES `o` (`id`) ON DELETE SET NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci COMMENT='DEFAULT CHARSET=latin1'
/*!50100 PARTITION BY RANGE (`id`)
(PARTITION p0 VALUES LESS THAN (10) ENGINE = InnoDB,
 PARTITION p1 VALUES LESS THAN MAXVALUE ENGINE = InnoDB) */";
    assert_eq!(
        columns(&[sql]),
        [
            "id BigInt unsigned key0",
            "name VarChar latin1 key1",
            "price Decimal { precision: 12, scale: 4 }",
            "state Enum utf8mb4 [\"new\", \"it's\", \"a,b\", \"x)\"]",
            "flags Set utf8mb4 [\"a\", \"b\"]",
            "made Timestamp { fsp: 6 }",
            "doc Json utf8mb4",
            "total Double { scale: None } virtual",
            "kept Int",
            "body Blob",
            "at Geometry",
            "v Vector",
            "hidden Bit",
        ]
    );
}

#[test]
fn types_of_mariadb_are_read() {
    let sql = "CREATE TABLE t (u UUID PRIMARY KEY, a INET6, b INET4 NOT NULL DEFAULT '0.0.0.0', c VARCHAR(100) COMPRESSED,
        d BLOB /*M!100301 COMPRESSED*/, e TEXT /*!100301 COMPRESSED*/ CHARACTER SET ucs2, f INT AS (1 + 1) PERSISTENT, g INT AS (2) , \
        h xmltype, `i` DATETIME(3) INVISIBLE) ENGINE=Aria PAGE_CHECKSUM=1 DEFAULT CHARACTER SET cp1251 WITH SYSTEM VERSIONING";
    assert_eq!(
        columns(&[sql]),
        [
            "u Uuid key0",
            "a Inet6",
            "b Inet4",
            "c VarChar cp1251 compressed",
            "d Blob compressed",
            "e Text ucs2 compressed",
            "f Int",
            "g Int virtual",
            "h Other(\"XMLTYPE\")",
            "i DateTime { fsp: 3 }",
            "row_start Timestamp { fsp: 6 }",
            "row_end Timestamp { fsp: 6 }",
        ]
    );
}

#[test]
fn every_name_of_a_type_is_known() {
    for (sql, expected) in [
        ("INT(10) UNSIGNED ZEROFILL", "c Int unsigned"),
        ("int1 signed", "c TinyInt"),
        ("BOOLEAN", "c TinyInt"),
        ("MIDDLEINT", "c MediumInt"),
        ("SERIAL", "c BigInt unsigned"),
        ("DEC(5) zerofill", "c Decimal { precision: 5, scale: 0 } unsigned"),
        ("NUMERIC", "c Decimal { precision: 10, scale: 0 }"),
        ("FLOAT(24)", "c Float"),
        ("FLOAT(25)", "c Double { scale: None }"),
        ("FLOAT(30,4)", "c Float"),
        ("DOUBLE PRECISION (10,2) UNSIGNED", "c Double { scale: Some(2) } unsigned"),
        ("NATIONAL CHARACTER VARYING(4)", "c VarChar utf8mb3"),
        ("NATIONAL CHAR(4)", "c Char utf8mb3"),
        ("NCHAR VARCHAR(4)", "c VarChar utf8mb3"),
        ("NVARCHAR(4)", "c VarChar utf8mb3"),
        ("CHARACTER VARYING(3)", "c VarChar latin2"),
        ("CHAR(3) BINARY", "c Char latin2"),
        ("CHAR(3) BYTE", "c Binary"),
        ("CHAR ASCII", "c Char latin1"),
        ("TEXT UNICODE", "c Text ucs2"),
        ("VARCHAR(9) CHARSET binary", "c VarBinary"),
        ("TINYTEXT COLLATE 'utf8_general_ci'", "c Text utf8mb3"),
        ("LONG VARBINARY", "c Blob"),
        ("LONG", "c Text latin2"),
        ("TIME(3)", "c Time { fsp: 3 }"),
        ("YEAR(4)", "c Year"),
        ("GEOMETRYCOLLECTION", "c Geometry"),
        ("ENUM(x'41', 0x42, _utf8mb4'c') NOT NULL", "c Enum latin2 [\"A\", \"B\", \"c\"]"),
        ("ENUM(_koi8r'\u{447}')", "c Enum latin2"),
        ("SET('\\a\\n\\\\\\%')", "c Set latin2 [\"a\\n\\\\\\\\%\"]"),
        ("INT DEFAULT -1 PRIMARY KEY", "c Int key0"),
        ("INT UNIQUE KEY", "c Int"),
        ("INT KEY", "c Int key0"),
        ("INT DEFAULT (charset(user()) = 'x') COMMENT 'PRIMARY KEY'", "c Int"),
        ("INT REFERENCES o (x) ON DELETE SET NULL ON UPDATE NO ACTION PRIMARY KEY", "c Int key0"),
    ] {
        let create = format!("CREATE TABLE t (c {sql}) CHARSET latin2");
        assert_eq!(columns(&[&create]), [expected], "{sql}");
    }
}

#[test]
fn names_that_look_like_keywords_are_columns() {
    let sql = "create table if not exists d . t (`key` int, `primary` int, period int, `check` int, vector int, comment text, \
               `a``b` int, `FIRST` int, status enum('x') default 'x' after_ int, first int primary key)";
    let sql = sql.replace(" after_ int", "");
    assert_eq!(names(&[&sql]), "key primary period check vector comment a`b FIRST status first");
}

#[test]
fn alter_moves_columns_as_the_server_does() {
    let create = "CREATE TABLE t (a INT, b INT, c INT, d INT, PRIMARY KEY (c, a))";
    for (alter, expected) in [
        ("ADD e INT", "a b c d e"),
        ("ADD COLUMN e INT FIRST, ADD f INT AFTER b", "e a b f c d"),
        ("ADD (e INT, f TEXT, KEY (e))", "a b c d e f"),
        ("ADD e INT AFTER a, ADD f INT AFTER e", "a e f b c d"),
        ("DROP b, DROP COLUMN d", "a c"),
        ("DROP b, ADD b BIGINT", "a c d b"),
        ("MODIFY d TEXT FIRST", "d a b c"),
        ("MODIFY COLUMN b BIGINT", "a b c d"),
        ("CHANGE b x INT AFTER d", "a c d x"),
        ("CHANGE COLUMN a b INT, CHANGE b a INT", "b a c d"),
        ("RENAME COLUMN a TO b, RENAME COLUMN b TO a", "b a c d"),
        ("RENAME COLUMN a TO z, ADD e INT AFTER z", "z e b c d"),
        ("ADD e INT AFTER d, MODIFY a INT AFTER e", "b c d e a"),
        ("ADD COLUMN IF NOT EXISTS a INT, ADD IF NOT EXISTS e INT", "a b c d e"),
        ("DROP COLUMN IF EXISTS zz, DROP IF EXISTS b", "a c d"),
        ("ALTER a SET DEFAULT 5, ALTER INDEX i INVISIBLE, ORDER BY a, b DESC", "a b c d"),
        (
            "ADD INDEX (a), DROP KEY k, DROP FOREIGN KEY f, ADD CONSTRAINT x CHECK (a > 0), DROP CHECK x",
            "a b c d",
        ),
        ("ENGINE=InnoDB, ALGORITHM=INPLACE, LOCK=NONE, COMMENT 'DROP COLUMN a'", "a b c d"),
        ("ADD e INT DEFAULT (1 + 2) COMMENT 'x, y' AFTER b, FORCE", "a b e c d"),
        ("PARTITION BY HASH (a) PARTITIONS 4", "a b c d"),
        ("DROP PARTITION p1, p2", "a b c d"),
        ("ADD e INT CHECK (e > 0) CONSTRAINT k CHECK (e < 9) FIRST", "e a b c d"),
    ] {
        let alter = format!("ALTER TABLE t {alter}");
        assert_eq!(names(&[create, &alter]), expected, "{alter}");
    }
}

#[test]
fn the_key_follows_alter() {
    let create = "CREATE TABLE t (a INT, b INT, c INT, PRIMARY KEY (c, a))";
    for (alter, expected) in [
        ("DROP c", "a Int key0, b Int"),
        ("DROP PRIMARY KEY", "a Int, b Int, c Int"),
        ("DROP PRIMARY KEY, ADD PRIMARY KEY (b, a)", "a Int key1, b Int key0, c Int"),
        ("DROP PRIMARY KEY, ADD id BIGINT NOT NULL PRIMARY KEY FIRST", "id BigInt key0, a Int, b Int, c Int"),
        ("CHANGE c x BIGINT FIRST", "x BigInt key0, a Int key1, b Int"),
        ("RENAME COLUMN c TO y", "a Int key1, b Int, y Int key0"),
        ("DROP PRIMARY KEY, ADD CONSTRAINT pk PRIMARY KEY USING BTREE (b)", "a Int, b Int key0, c Int"),
    ] {
        let alter = format!("ALTER TABLE t {alter}");
        let shown = columns(&[create, &alter]).join(", ");
        // A moved column loses no key part.
        assert_eq!(shown, expected, "{alter}");
    }
}

#[test]
fn character_sets_are_inherited() {
    let db = ["CREATE DATABASE d CHARACTER SET latin2", "CREATE TABLE t (a TEXT, b TEXT CHARSET koi8r)"];
    let after = |alter: &str| columns(&[db[0], db[1], alter]).join(", ");
    assert_eq!(after("ALTER TABLE t ADD c TEXT"), "a Text latin2, b Text koi8r, c Text latin2");
    assert_eq!(after("ALTER TABLE t ADD c TEXT, CHARSET=big5"), "a Text latin2, b Text koi8r, c Text big5");
    assert_eq!(after("ALTER TABLE t DEFAULT CHARACTER SET = gbk"), "a Text latin2, b Text koi8r");
    assert_eq!(after("ALTER TABLE t CONVERT TO CHARACTER SET utf8mb4"), "a Text utf8mb4, b Text utf8mb4");
    assert_eq!(after("ALTER TABLE t CONVERT TO CHARACTER SET binary"), "a Blob, b Blob");
    assert_eq!(after("ALTER TABLE t MODIFY a TEXT COLLATE sjis_bin"), "a Text sjis, b Text koi8r");
    // From the event, where the stream does not hold CREATE DATABASE.
    let mut catalogue = Catalogue::new();
    let cx = Context { database_charset: charset::by_name("ujis"), ..CX };
    catalogue.read("CREATE TABLE t (a TEXT)", &cx);
    catalogue.read("CREATE TABLE e.t (a TEXT)", &cx);
    assert_eq!(catalogue.table("d", "t").unwrap().columns[0].charset.unwrap().name, "ujis");
    assert_eq!(catalogue.table("e", "t").unwrap().columns[0].charset, None);
    let cx = Context { server_charset: charset::by_name("cp866"), ..CX };
    catalogue.read("CREATE DATABASE f", &cx);
    catalogue.read("CREATE TABLE f.t (a TEXT)", &CX);
    assert_eq!(catalogue.table("f", "t").unwrap().columns[0].charset.unwrap().name, "cp866");
}

#[test]
fn tables_come_go_and_move() {
    let mut c =
        catalogue(&["CREATE TABLE t (a INT)", "CREATE TABLE o LIKE t", "CREATE TABLE e.p (LIKE `d`.`t`)"]);
    assert_eq!(c.len(), 3);
    c.read("RENAME TABLE t TO tmp, o TO t, tmp TO e.o", &CX);
    assert!(c.table("d", "o").is_none() && c.table("d", "t").is_some() && c.table("e", "o").is_some());
    c.read("ALTER TABLE t RENAME TO n, ADD b INT", &CX);
    assert_eq!(c.table("d", "n").unwrap().columns.len(), 2);
    c.read("DROP TABLE IF EXISTS `n` /* generated by server */", &CX);
    assert_eq!(c.len(), 2);
    c.read("TRUNCATE e.p", &CX);
    c.read("CREATE TEMPORARY TABLE e.p (x INT)", &CX);
    c.read("DROP TEMPORARY TABLE e.p", &CX);
    assert_eq!(c.table("e", "p").unwrap().columns[0].name, "a");
    c.read("CREATE TABLE IF NOT EXISTS e.p (x INT)", &CX);
    assert_eq!(c.table("e", "p").unwrap().columns[0].name, "a");
    c.read("CREATE OR REPLACE TABLE e.p (x INT)", &CX);
    assert_eq!(c.table("e", "p").unwrap().columns[0].name, "x");
    c.read("DROP DATABASE e", &CX);
    assert!(c.is_empty());
}

#[test]
fn what_is_not_understood_is_forgotten_and_nothing_else() {
    for sql in [
        "CREATE TABLE t SELECT * FROM o",
        "CREATE TABLE t (a INT) IGNORE AS SELECT 1 AS b",
        "CREATE TABLE t AS (SELECT 1)",
        "CREATE TABLE t (SELECT 1)",
        "CREATE OR REPLACE TABLE t LIKE nowhere",
        "ALTER TABLE t DROP COLUMN nowhere",
        "ALTER TABLE t ADD a INT",
        "ALTER TABLE t MODIFY",
        "ALTER TABLE t ADD c INT AFTER nowhere",
    ] {
        let mut c = catalogue(&["CREATE TABLE t (a INT)", "CREATE TABLE o (a INT)"]);
        let version = c.version();
        let name = ["d".to_owned(), "t".to_owned()];
        assert_eq!(c.read(sql, &CX).outcome, Outcome::Unknown { tables: vec![name] }, "{sql}");
        assert!(c.table("d", "t").is_none() && c.table("d", "o").is_some(), "{sql}");
        assert!(c.version() > version);
    }
    let mut c = catalogue(&["CREATE TABLE t (a INT)"]);
    assert_eq!(c.read("ALTER TABLE 'oh", &CX).outcome, Outcome::Unknown { tables: vec![] });
    assert!(c.is_empty());
}

#[test]
fn other_statements_are_harmless() {
    let long = format!("CREATE PROCEDURE p() BEGIN SELECT '{}'; END", "x".repeat(2 << 20));
    for sql in [
        "",
        "  -- nothing\n",
        "GRANT ALL ON *.* TO 'a'@'%'",
        "CREATE USER a IDENTIFIED BY 'b'",
        "CREATE DEFINER=`root`@`%` TRIGGER tr BEFORE INSERT ON t FOR EACH ROW BEGIN DROP TABLE x; END",
        "CREATE ALGORITHM=UNDEFINED VIEW v AS SELECT 1",
        "CREATE UNIQUE INDEX i ON t (a)",
        "ALTER TABLE nowhere ADD INDEX (a)",
        "ALTER USER a ACCOUNT LOCK",
        "DROP VIEW t",
        "DROP INDEX i ON t",
        "FLUSH TABLES",
        "ANALYZE TABLE t, o",
        "CREATE TABLESPACE ts ADD DATAFILE 'x'",
        "something new 'unterminated",
        &long,
    ] {
        let mut c = catalogue(&["CREATE TABLE t (a INT)"]);
        assert_eq!(c.read(sql, &CX).outcome, Outcome::Harmless, "{:.60}", sql);
        assert!(c.table("d", "t").is_some());
    }
}

#[test]
fn a_mode_changes_what_quotes_mean() {
    let mut c = Catalogue::new();
    let ansi = Context { ansi_quotes: true, ..CX };
    c.read("CREATE TABLE \"t\" (\"a b\" ENUM('x'))", &ansi);
    assert_eq!(c.table("d", "t").unwrap().columns[0].name, "a b");
    let plain = Context { no_backslash_escapes: true, ..CX };
    c.read("CREATE TABLE t (a ENUM('x\\','y'))", &plain);
    assert_eq!(c.table("d", "t").unwrap().columns[0].members, ["x\\", "y"]);
}

#[test]
fn a_sequence_is_a_table_of_its_own() {
    let c = catalogue(&["CREATE SEQUENCE s START WITH 5", "CREATE TABLE d.r (x INT) SEQUENCE=1"]);
    for name in ["s", "r"] {
        assert_eq!(c.table("d", name).unwrap().columns[0].name, "next_not_cached_value");
    }
}

#[test]
fn history_follows_alter() {
    let create = "CREATE TABLE t (a INT) WITH SYSTEM VERSIONING";
    assert_eq!(names(&[create, "ALTER TABLE t ADD b INT"]), "a b row_start row_end");
    assert_eq!(names(&[create, "ALTER TABLE t DROP SYSTEM VERSIONING"]), "a");
    assert_eq!(
        names(&["CREATE TABLE t (a INT)", "ALTER TABLE t ADD SYSTEM VERSIONING, ADD b INT"]),
        "a b row_start row_end"
    );
    let declared = "CREATE TABLE t (a INT, s TIMESTAMP(6) GENERATED ALWAYS AS ROW START, e TIMESTAMP(6) GENERATED ALWAYS AS ROW END, \
                    PERIOD FOR SYSTEM_TIME (s, e)) WITH SYSTEM VERSIONING";
    assert_eq!(names(&[declared]), "a s e");
}

#[test]
fn tables_are_found_as_they_are_spelled() {
    let c = catalogue(&["CREATE TABLE Tab (a INT)"]);
    assert!(c.table("d", "Tab").is_some() && c.table("d", "tab").is_some() && c.table("d", "TAB").is_none());
}

#[test]
fn a_table_fits_its_table_map() {
    let c = catalogue(&["CREATE TABLE t (a INT, b VARCHAR(3), c ENUM('x'), d TIMESTAMP)"]);
    let table = c.table("d", "t").unwrap();
    for (codes, fits) in [
        (&[3, 15, 247, 17][..], true),
        (&[3, 15, 247, 7], true),
        (&[3, 15, 247], false),
        (&[8, 15, 247, 7], false),
    ] {
        assert_eq!(table.fits(codes.iter().copied()), fits, "{codes:?}");
    }
}

#[test]
fn statements_are_told_apart_by_their_first_word() {
    for (sql, expected) in [
        ("BEGIN", Kind::Transaction),
        (" /* x */ commit", Kind::Transaction),
        ("START TRANSACTION", Kind::Transaction),
        ("START REPLICA", Kind::Ddl),
        ("XA COMMIT X'31',X'',1", Kind::Transaction),
        ("SAVEPOINT `a`", Kind::Transaction),
        ("ROLLBACK TO `a`", Kind::Transaction),
        ("/*!50003 INSERT */ INTO t VALUES (1)", Kind::Dml),
        ("-- hi\nupdate t set a=1", Kind::Dml),
        ("SET PASSWORD FOR 'a' = 'b'", Kind::Ddl),
        ("SET @x=1", Kind::Dml),
        ("create table t (a int)", Kind::Ddl),
        ("", Kind::Ddl),
    ] {
        assert_eq!(kind(sql), expected, "{sql}");
    }
}

#[test]
fn passwords_are_redacted_and_nothing_else_is() {
    for (sql, expected) in [
        ("CREATE USER 'a'@'%' IDENTIFIED BY 'se''c\\'ret'", "CREATE USER 'a'@'%' IDENTIFIED BY '<redacted>'"),
        (
            "ALTER USER a IDENTIFIED WITH 'caching_sha2_password' AS '$A$005$x' PASSWORD EXPIRE, b IDENTIFIED BY PASSWORD '*00'",
            "ALTER USER a IDENTIFIED WITH 'caching_sha2_password' AS '<redacted>' PASSWORD EXPIRE, b IDENTIFIED BY PASSWORD '<redacted>'",
        ),
        ("SET PASSWORD FOR 'u'@'h'='*AB'", "SET PASSWORD FOR 'u'@'h'='<redacted>'"),
        ("SET PASSWORD = PASSWORD('x')", "SET PASSWORD = PASSWORD('<redacted>')"),
        (
            "CHANGE MASTER TO MASTER_PASSWORD = 'x', MASTER_HOST='h'",
            "CHANGE MASTER TO MASTER_PASSWORD = '<redacted>', MASTER_HOST='h'",
        ),
        (
            "CREATE SERVER s OPTIONS (USER 'u', PASSWORD 'p')",
            "CREATE SERVER s OPTIONS (USER 'u', PASSWORD '<redacted>')",
        ),
        (
            "GRANT ALL ON x.* TO a IDENTIFIED VIA ed25519 USING 'h'",
            "GRANT ALL ON x.* TO a IDENTIFIED VIA ed25519 USING '<redacted>'",
        ),
        (
            "ALTER USER a IDENTIFIED BY 'n' REPLACE 'o'",
            "ALTER USER a IDENTIFIED BY '<redacted>' REPLACE '<redacted>'",
        ),
        ("CREATE USER a IDENTIFIED WITH p AS 0x2441", "CREATE USER a IDENTIFIED WITH p AS '<redacted>'"),
    ] {
        let redacted = redact(sql.as_bytes()).unwrap_or_else(|| panic!("{sql}"));
        assert_eq!(String::from_utf8(redacted).unwrap(), expected);
    }
    for sql in
        ["CREATE TABLE t (password VARCHAR(9) DEFAULT 'x' COMMENT 'by ''hand''')", "CREATE TABLE t (a INT)"]
    {
        assert_eq!(redact(sql.as_bytes()), None, "{sql}");
    }
}
