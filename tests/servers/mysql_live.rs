//! The source `mysql-binlog` on real servers: everything once, in order, under the ids that `dts binlog dump` gives.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::mysql::Mysql;
use super::require;
use crate::harness::{Dir, Node, ndjson, pause, until};

/// A `dts run` from a server into a file.
pub(super) struct Live {
    pub(super) node: Node,
    out: PathBuf,
}

impl Live {
    /// `more` are further lines of the source's section.
    pub(super) fn new(dir: &Dir, server: &Mysql, name: &str, more: &str) -> Self {
        Self::with_dsn(
            dir,
            &format!("cdc:cdcpw@tcp(127.0.0.1:{})/?{}", server.port, Self::way_in(server)),
            name,
            more,
        )
    }

    /// The first login of an account needs more than the plain scramble.
    fn way_in(server: &Mysql) -> &'static str {
        if server.flavour.starts_with("mysql") { "tls=skip-verify" } else { "timeout=5s" }
    }

    fn with_dsn(dir: &Dir, dsn: &str, name: &str, more: &str) -> Self {
        let out = dir.join(&format!("{name}.ndjson"));
        let often = if more.contains("checkpoint_interval") { "" } else { "  checkpoint_interval: 50ms\n" };
        let yaml = format!(
            "source:\n  type: mysql-binlog\n  name: dump\n  dsn: \"{dsn}\"\n  server_id: 1001\n  heartbeat: 500ms\n\
             {often}{more}sink:\n  type: file\n  path: {}\n",
            out.display()
        );
        let node = Node::new(dir, name, &yaml).ready_when("reading from");
        Self { node, out }
    }

    /// Rows and statements that came, in order.
    pub(super) fn records(&self) -> Vec<Value> {
        ndjson(&self.out)
    }

    pub(super) fn rows(&self) -> Vec<Value> {
        self.records().into_iter().filter(|record| record["kind"] == "row").collect()
    }

    /// Waits until a row with this value of `id` in the table `end` came.
    pub(super) fn reaches(&self, mark: i64) {
        until(&format!("row {mark} of the table `end`"), || {
            let found = |row: &Value| row["table"] == "end" && row["after"]["id"] == mark;
            self.rows().iter().any(found).then_some(())
        });
    }
}

/// What `dts binlog dump` shows of all the server's files.
fn dumped(server: &Mysql) -> Vec<Value> {
    let status = server.sql("show binary logs");
    let files: Vec<PathBuf> =
        status.iter().map(|line| server.data().join(line.split('\t').next().unwrap())).collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dts"));
    let out = command.args(["binlog", "dump", "--format", "json"]).args(&files).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let lines = String::from_utf8(out.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A row's id as a dump of the file has it, which does not know the server.
fn without_server(id: &str) -> &str {
    match id.split_at_checked(37) {
        Some((_, rest)) if id.as_bytes()[36] == b':' && rest.contains(':') => rest,
        _ => id,
    }
}

/// The rows of the databases of the test, as far as both ways say the same.
fn comparable(records: &[Value]) -> Vec<String> {
    let rows = records.iter().filter(|record| record["kind"] == "row" && record["db"] == "t");
    rows.map(|row| {
        let id = without_server(row["id"].as_str().unwrap_or_default());
        format!("{id} {} {} {} {} {}", row["op"], row["table"], row["before"], row["after"], row["ts_ms"])
    })
    .collect()
}

fn assert_equal(got: &[Value], wanted: &[Value], what: &str) {
    let (got, wanted) = (comparable(got), comparable(wanted));
    for (i, (got, wanted)) in got.iter().zip(&wanted).enumerate() {
        assert_eq!(got, wanted, "{what}: row {i}");
    }
    assert_eq!(got.len(), wanted.len(), "{what}");
    assert!(!got.is_empty(), "{what}");
}

const TABLES: &str = "
create database t character set utf8mb4; use t;
create table end(id bigint primary key);
create table a(id int unsigned primary key auto_increment, n bigint, v varchar(60), l varchar(60) character set latin1,
  d decimal(20,4), dt datetime(3), ts timestamp(6) null, ti time(2), b varbinary(20), bi binary(6), e enum('one','zwei','drei'),
  s set('x','y','z'), f double, fl float, y year, bt bit(11), tx mediumtext, bl blob, j json);
create table k(x varchar(20), y int, v int, primary key (y, x));
create table none(v int, w text);
";

const CHANGES: &str = "
use t;
insert into a(n,v,l,d,dt,ts,ti,b,bi,e,s,f,fl,y,bt,tx,bl,j) values
 (1,'eins','gr\u{fc}n',-12.5,'2024-02-29 12:00:00.123','2024-02-29 12:00:00.123456','-10:11:12.5',x'00ff',x'01','zwei','x,z',0.1,1.5,2024,1023,'text',x'c0ff','{\"a\": [1, null]}'),
 (-9223372036854775808,'\u{1f600}',null,0,'0000-00-00 00:00:00',null,'838:59:59',x'',null,'one','',-1e-300,0,0,0,'',x'',null);
update a set n = n + 1 where id = 1;
begin; insert into k values ('a',1,1),('b',2,2); update k set y = 5 where x = 'a'; delete from k where x = 'b'; commit;
begin; insert into k values ('gone',1,1); rollback;
insert into none values (1,'a'),(2,'b'); update none set w = 'c'; delete from none where v = 1;
alter table k add column z varchar(10) default 'q' after x;
insert into k values ('c','zz',9,9);
rename table k to k2; insert into k2 values ('d','zz',10,10);
create table k like k2; insert into k values ('e','y',1,1);
truncate table none; insert into none values (7,'after');
savepoint_marker_is_no_statement_of_ours;
";

fn changes() -> String {
    CHANGES.replace("savepoint_marker_is_no_statement_of_ours;\n", "begin; insert into k values ('s',null,1,2); savepoint p; insert into k values ('t',null,1,3); rollback to p; commit;\n")
}

pub(super) const MODES: &str = "set sql_mode=''; ";

fn a_stream_equals_the_dump_of_its_binlog(flavour: &'static str, options: &[&str], more: &str) {
    if !require(flavour) {
        return;
    }
    let dir = Dir::new("live");
    let server = Mysql::start(&dir, flavour, options);
    let mut live = Live::new(&dir, &server, "stream", more);
    live.node.start();
    server.sql(&format!("{MODES}{TABLES}"));
    for round in 0..3 {
        server.sql(&format!("{MODES}{}", changes()));
        server.sql(&format!("use t; insert into end values ({round}); drop table k, k2; create table k(x varchar(20), y int, v int, primary key (y, x)); flush binary logs;"));
    }
    server.sql("use t; alter table end add column note int; insert into end values (3, 0)");
    live.reaches(3);
    live.node.stop();
    assert_equal(&live.records(), &dumped(&server), flavour);
    let ddl = |records: &[Value]| -> Vec<String> {
        let some = records.iter().filter(|r| r["kind"] == "ddl" && r["tables"][0][0] == "t");
        some.map(|r| r["sql"].to_string()).collect()
    };
    assert_eq!(ddl(&live.records()), ddl(&dumped(&server)), "{flavour}");
    // A second run has nothing to do but what is new.
    server.sql("use t; insert into end values (77, 0)");
    live.node.start();
    live.reaches(77);
    live.node.stop();
    let version = |id: i64| {
        let row = live.rows().into_iter().find(|row| row["table"] == "end" && row["after"]["id"] == id);
        row.unwrap()["schema"].clone()
    };
    assert_eq!((version(2), version(3), version(77)), (1.into(), 2.into(), 2.into()), "{flavour}");
    assert_equal(&live.records(), &dumped(&server), flavour);
}

pub(super) const GTID: &[&str] =
    &["--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--log-bin=binlog", "--server-id=1"];
pub(super) const MARIADB: &[&str] =
    &["--log-bin=binlog", "--server-id=1", "--binlog-format=ROW", "--binlog-row-metadata=FULL"];

#[test]
fn a_stream_of_mysql_with_gtids_equals_its_binlog() {
    let options = [GTID, &["--binlog-row-metadata=FULL"]].concat();
    a_stream_equals_the_dump_of_its_binlog("mysql97", &options, "");
}

#[test]
fn a_stream_of_mysql_without_gtids_or_metadata_equals_its_binlog() {
    let options = ["--log-bin=binlog", "--server-id=1", "--gtid-mode=OFF"];
    a_stream_equals_the_dump_of_its_binlog("mysql97", &options, "");
}

#[test]
fn a_compressed_stream_of_mysql_equals_its_binlog() {
    let options = [GTID, &["--binlog-transaction-compression=ON", "--binlog-row-metadata=FULL"]].concat();
    a_stream_equals_the_dump_of_its_binlog("mysql97", &options, "  batch_bytes: 2KiB\n");
}

#[test]
fn a_stream_of_mariadb_118_equals_its_binlog() {
    a_stream_equals_the_dump_of_its_binlog("mariadb118", MARIADB, "");
}

#[test]
fn a_stream_of_mariadb_1011_by_file_equals_its_binlog() {
    a_stream_equals_the_dump_of_its_binlog("mariadb1011", MARIADB, "  positions: file\n");
}

#[test]
fn a_compressed_stream_of_mariadb_1011_without_metadata_equals_its_binlog() {
    let options = [
        "--log-bin=binlog",
        "--server-id=1",
        "--binlog-format=ROW",
        "--log-bin-compress=ON",
        "--log-bin-compress-min-len=10",
    ];
    a_stream_equals_the_dump_of_its_binlog("mariadb1011", &options, "");
}

/// Ids that came, without those that came again.
fn distinct(rows: &[Value]) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let ids = rows.iter().map(|row| row["id"].as_str().unwrap().to_owned());
    ids.filter(|id| seen.insert(id.clone())).collect()
}

fn kills_lose_nothing(flavour: &'static str, options: &[&str]) {
    if !require(flavour) {
        return;
    }
    let dir = Dir::new("kill");
    let server = Mysql::start(&dir, flavour, options);
    server.sql(&format!("{MODES}{TABLES}"));
    let mut live = Live::new(&dir, &server, "killed", "  batch_bytes: 1KiB\n");
    live.node.start();
    let mut rng = fastrand::Rng::with_seed(7);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..150 {
                let values: Vec<_> = (0..20).map(|i| format!("({})", round * 100 + i)).collect();
                let mut sql = format!("use t; insert into end values {};", values.join(","));
                sql += &format!("begin; insert into k values ('a',{round},1); update k set v = 2 where y = {round}; commit;");
                server.sql(&sql);
            }
        });
        for _ in 0..10 {
            pause(rng.u64(100..700));
            live.node.kill();
            live.node.start();
        }
        writer.join().unwrap();
    });
    server.sql("use t; insert into end values (999999)");
    live.reaches(999_999);
    live.node.stop();
    let rows = live.rows();
    let wanted: Vec<Value> =
        dumped(&server).into_iter().filter(|r| r["kind"] == "row" && r["db"] == "t").collect();
    assert_eq!(distinct(&rows).len(), wanted.len(), "{} rows came", rows.len());
    // In order, if what came again is left out.
    let got: Vec<_> = distinct(&rows).iter().map(|id| without_server(id).to_owned()).collect();
    assert_eq!(got, distinct(&wanted));
}

#[test]
fn kills_lose_nothing_with_gtids() {
    kills_lose_nothing("mysql97", GTID);
}

#[test]
fn kills_lose_nothing_without_gtids() {
    kills_lose_nothing("mysql97", &["--log-bin=binlog", "--server-id=1", "--gtid-mode=OFF"]);
}

#[test]
fn kills_lose_nothing_of_mariadb() {
    kills_lose_nothing("mariadb118", MARIADB);
}

#[test]
fn a_restarted_server_is_read_on() {
    if !require("mysql97") {
        return;
    }
    let dir = Dir::new("restart");
    let mut server = Mysql::start(&dir, "mysql97", GTID);
    server.sql(&format!("{MODES}{TABLES}"));
    let mut live = Live::new(&dir, &server, "restarted", "");
    live.node.start();
    server.sql("use t; insert into end values (1)");
    live.reaches(1);
    server.restart(GTID);
    server.sql("use t; insert into end values (2)");
    live.reaches(2);
    live.node.stop();
    let rows = live.rows();
    assert_eq!(distinct(&rows).len(), 2);
}

#[test]
fn a_purged_binlog_is_refused_with_what_to_do() {
    for (flavour, options) in [
        ("mysql97", GTID),
        ("mysql97", &["--log-bin=binlog", "--server-id=1", "--gtid-mode=OFF"][..]),
        ("mariadb118", MARIADB),
    ] {
        if !require(flavour) {
            return;
        }
        let dir = Dir::new("purge");
        let server = Mysql::start(&dir, flavour, options);
        server.sql(&format!("{MODES}{TABLES}"));
        let mut live = Live::new(&dir, &server, "purged", "");
        live.node.start();
        server.sql("use t; insert into end values (1)");
        live.reaches(1);
        live.node.stop();
        server.sql("use t; insert into end values (2); flush binary logs; insert into end values (3); flush binary logs; insert into end values (4)");
        let last = server.sql("show binary logs").last().unwrap().split('\t').next().unwrap().to_owned();
        until("the purge", || {
            server.sql(&format!("purge binary logs to '{last}'"));
            (server.sql("show binary logs").len() == 1).then_some(())
        });
        live.node.process.start();
        let status = live.node.process.ended();
        assert!(!status.success());
        let log = live.node.process.log();
        assert!(log.contains("purged") && log.contains("begin anew"), "{flavour}: {log}");
    }
}

#[test]
fn who_may_not_is_told_what_is_missing() {
    if !require("mysql97") {
        return;
    }
    let dir = Dir::new("grants");
    let server = Mysql::start(&dir, "mysql97", GTID);
    server.sql(
        "create user poor@'%' identified by 'poorpw'; create user fresh@'%' identified by 'freshpw';
         grant select, replication slave, replication client on *.* to fresh@'%';",
    );
    check_denied(&dir, &server);
}

/// A wrong password, an account without grants, a plain connection that would show the password.
fn check_denied(dir: &Dir, server: &Mysql) {
    let port = server.port;
    for (dsn, says) in [
        (format!("cdc:wrong@tcp(127.0.0.1:{port})/?tls=skip-verify"), "check user, password"),
        (format!("poor:poorpw@tcp(127.0.0.1:{port})/?tls=skip-verify"), "REPLICATION"),
        (format!("fresh:freshpw@tcp(127.0.0.1:{port})/"), "allowPublicKeyRetrieval=true"),
        (format!("cdc:cdcpw@tcp(127.0.0.1:{port})/?tls=true"), "TLS"),
    ] {
        let mut live = Live::with_dsn(dir, &dsn, "denied", "");
        live.node.process.start();
        let status = live.node.process.ended();
        assert!(!status.success());
        let log = live.node.process.log();
        assert!(log.contains(says), "{says}: {log}");
        assert!(!log.contains("wrong@") && !log.contains("poorpw") && !log.contains("freshpw"), "{log}");
        let (status, out) = live.node.ask(&["check", "--connect"]);
        assert!(status != 0 && out.contains(says), "{says}: {out}");
    }
    let allowed = format!("fresh:freshpw@tcp(127.0.0.1:{port})/?allowPublicKeyRetrieval=true");
    let live = Live::with_dsn(dir, &allowed, "allowed", "");
    let (status, out) = live.node.ask(&["check", "--connect"]);
    assert!(status == 0 && out.contains("GTIDs on"), "{out}");
}

#[test]
fn changes_that_no_row_tells_stop_the_source() {
    if !require("mysql97") {
        return;
    }
    let dir = Dir::new("unlogged");
    let server = Mysql::start(&dir, "mysql97", GTID);
    server.sql(&format!("{MODES}{TABLES}"));
    let mut live = Live::new(&dir, &server, "unlogged", "");
    live.node.start();
    server.sql("use t; insert into end values (1)");
    live.reaches(1);
    server.sql("use t; set session binlog_format = STATEMENT; insert into k values ('s', 1, 1)");
    let status = live.node.process.ended();
    assert!(!status.success());
    let log = live.node.process.log();
    assert!(log.contains("logged in place of its rows"), "{log}");
    live.node.configure(
        "unlogged",
        &format!(
            "source:\n  type: mysql-binlog\n  name: dump\n  dsn: \"cdc:cdcpw@tcp(127.0.0.1:{})/?tls=skip-verify\"\n  server_id: 1001\n  \
             on_unlogged_change: alert\nsink:\n  type: file\n  path: {}\n",
            server.port,
            live.out.display()
        ),
    );
    live.node.start();
    server.sql("use t; insert into end values (2)");
    live.reaches(2);
    live.node.stop();
}

/// Where everything begins is durable before anything is handed on.
#[test]
fn a_kill_before_the_first_checkpoint_loses_nothing() {
    for (flavour, options) in [("mysql97", GTID), ("mariadb118", MARIADB)] {
        if !require(flavour) {
            return;
        }
        let dir = Dir::new("first");
        let server = Mysql::start(&dir, flavour, options);
        server.sql(TABLES);
        let mut live = Live::new(&dir, &server, "first", "  checkpoint_interval: 1h\n");
        live.node.start();
        server.sql("use t; insert into end values (1)");
        live.reaches(1);
        live.node.kill();
        server.sql("use t; insert into end values (2)");
        live.node.start();
        server.sql("use t; insert into end values (3)");
        live.reaches(3);
        live.node.stop();
        assert_eq!(distinct(&live.rows()).len(), 3, "{flavour}");
    }
}

#[test]
fn rows_of_xa_come_when_they_are_committed() {
    for (flavour, options) in [("mysql97", GTID), ("mariadb118", MARIADB)] {
        if !require(flavour) {
            return;
        }
        let dir = Dir::new("xa");
        let server = Mysql::start(&dir, flavour, options);
        server.sql(&format!("{MODES}{TABLES}"));
        let mut live = Live::new(&dir, &server, "xa", "");
        live.node.start();
        let xa = |name: &str, x: i32| {
            server.sql(&format!("use t; xa start '{name}'; insert into k values ('{name}', {x}, 1); xa end '{name}'; xa prepare '{name}'"));
        };
        xa("kept", 1);
        xa("gone", 2);
        server.sql("use t; insert into end values (1)");
        live.reaches(1);
        assert!(!live.rows().iter().any(|row| row["table"] == "k"), "{flavour}");
        // A restart must not forget them.
        live.node.kill();
        live.node.start();
        server.sql("use t; xa rollback 'gone'; xa commit 'kept'; insert into end values (2)");
        live.reaches(2);
        live.node.stop();
        let rows = live.rows();
        let names: Vec<_> =
            rows.iter().filter(|row| row["table"] == "k").map(|row| row["after"]["x"].clone()).collect();
        assert_eq!(names, ["kept"], "{flavour}");
    }
}

#[test]
fn another_server_of_the_topology_is_read_on_and_a_foreign_one_refused() {
    if !require("mysql97") {
        return;
    }
    let dir = Dir::new("fail");
    let (one, two) = (dir.join("one"), dir.join("two"));
    std::fs::create_dir_all(&one).unwrap();
    std::fs::create_dir_all(&two).unwrap();
    let source = Mysql::start_in(one, "mysql97", GTID);
    let second: Vec<&str> =
        GTID.iter().map(|o| if *o == "--server-id=1" { "--server-id=2" } else { *o }).collect();
    let replica = Mysql::start_in(two, "mysql97", &second);
    source.sql(&format!("{MODES}{TABLES}"));
    let mut live = Live::new(&dir, &source, "moved", "");
    live.node.start();
    source.sql("use t; insert into end values (1)");
    live.reaches(1);
    live.node.stop();
    // It has not caught up: it lacks what was read.
    let to = |server: &Mysql| {
        let dsn = format!("cdc:cdcpw@tcp(127.0.0.1:{})/?tls=skip-verify", server.port);
        Live::with_dsn(&dir, &dsn, "moved", "")
    };
    let mut elsewhere = to(&replica);
    elsewhere.node.process.start();
    assert!(!elsewhere.node.process.ended().success());
    let log = elsewhere.node.process.log();
    assert!(log.contains("lacks transactions that were read already"), "{log}");
    replica.sql(&format!(
        "change replication source to source_host='127.0.0.1', source_port={}, source_user='cdc', source_password='cdcpw', \
         source_auto_position=1, get_source_public_key=1; start replica;",
        source.port
    ));
    source.sql("use t; insert into end values (2)");
    until("the replica", || (replica.sql("select count(*) from t.end where id = 2") == ["1"]).then_some(()));
    elsewhere.node.start();
    elsewhere.reaches(2);
    replica.sql("stop replica; use t; insert into end values (3)");
    elsewhere.reaches(3);
    elsewhere.node.stop();
    assert_eq!(distinct(&elsewhere.rows()).len(), 3);
}

#[test]
fn a_clash_of_server_ids_is_given_up() {
    for (flavour, options) in [("mysql97", GTID), ("mariadb118", MARIADB)] {
        if !require(flavour) {
            return;
        }
        let dir = Dir::new("clash");
        let server = Mysql::start(&dir, flavour, options);
        server.sql(&format!("{MODES}{TABLES}"));
        let mut both = [Live::new(&dir, &server, "left", ""), Live::new(&dir, &server, "right", "")];
        both.iter_mut().for_each(|live| live.node.start());
        let loser = until("the end of one", || both.iter_mut().position(|live| !live.node.process.runs()));
        let log = both[loser].node.process.log();
        assert!(log.contains("another replica reads under server_id 1001"), "{flavour}: {log}");
    }
}

#[test]
fn tables_that_are_swapped_are_followed() {
    if !require("mysql97") {
        return;
    }
    let dir = Dir::new("swap");
    let server = Mysql::start(&dir, "mysql97", &["--log-bin=binlog", "--server-id=1", "--gtid-mode=OFF"]);
    server.sql(&format!("{MODES}{TABLES}"));
    let mut live = Live::new(&dir, &server, "swap", "  include_tables: [\"t.k\", \"end\"]\n");
    live.node.start();
    server.sql(
        "use t; insert into k values ('a', 1, 1);
         create table _k_gho like k; alter table _k_gho add column extra int default 5 first;
         insert into _k_gho(x, y, v) select * from k;
         rename table k to _k_del, _k_gho to k;
         insert into k(x, y, v) values ('b', 2, 2); insert into end values (1);",
    );
    live.reaches(1);
    live.node.stop();
    let rows: Vec<Value> = live.rows().into_iter().filter(|row| row["table"] == "k").collect();
    assert_eq!(rows.len(), 2);
    assert_eq!((&rows[1]["after"]["x"], &rows[1]["after"]["extra"]), (&Value::from("b"), &Value::from(5)));
    // Out of the filter there is no way but a stop.
    live.node.start();
    server.sql("use t; rename table k to elsewhere");
    assert!(!live.node.process.ended().success());
    assert!(live.node.process.log().contains("out of the filter"));
}
