//! What the command line means. On files it is tried in `tests/binlog/`.

use std::ffi::OsString;
use std::path::Path;

use super::args::{Args, Gtids};
use crate::cli::parse::{Request, parse};

fn args(line: &str) -> Result<Args, String> {
    let words = line.split_whitespace().map(OsString::from);
    match parse(crate::cli::COMMANDS, words).map_err(|failure| failure.message)? {
        Request::Command(parsed) => Args::new(&parsed).map_err(|failure| failure.message),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn files_and_tables_repeat_and_flags_have_short_forms() {
    let args = args("binlog dump -v --table a.b --table c.* x.000001 --format json - y").unwrap();
    assert_eq!(args.files, [Path::new("x.000001"), Path::new("-"), Path::new("y")]);
    assert!(args.verbose && args.json && !args.count);
    assert!(args.wants("a", "b") && args.wants("c", "any") && !args.wants("a", "c"));
    assert!(self::args("binlog dump x").unwrap().wants("any", "any"));
}

#[test]
fn wrong_values_say_what_would_be_right() {
    for (line, expected) in [
        ("binlog dump", "`dts binlog dump` needs `FILE`"),
        ("binlog dump --table orders x", "expected `db.table` or `db.*`"),
        ("binlog dump --gtid nonsense x", "expected a GTID set"),
        ("binlog dump --format xml x", "expected one of json, text"),
        ("binlog dump -q x", "unknown flag `-q`"),
        ("binlog verify --table a.b x", "unknown flag `--table`"),
    ] {
        let message = args(line).unwrap_err();
        assert!(message.contains(expected), "{line}: {message}");
    }
}

#[test]
fn sets_of_both_servers_are_read() {
    let gtids = |set: &str| args(&format!("binlog dump --gtid {set} x")).unwrap().gtids.unwrap();
    let Gtids::MySql(_) = gtids("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7") else {
        panic!("a set of MySQL")
    };
    let mariadb = gtids("0-1-5,0-1-8:20");
    for (gtid, has) in
        [("0-1-5", true), ("0-1-6", false), ("0-1-8", true), ("0-1-20", true), ("0-2-9", false)]
    {
        assert_eq!(mariadb.has_mariadb(&gtid.parse().unwrap()), has, "{gtid}");
    }
}
