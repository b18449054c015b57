//! The table: what it parses, and what is made from it.

#[cfg(feature = "cmd-ingest")]
mod generated;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use crate::cli::output::Exit;
use crate::cli::parse::{Parsed, Request, Topic, parse};
use crate::cli::table::{Command, Row, Value};
use crate::cli::{COMMANDS, check, help, run};

fn request(line: &str) -> Result<Request, String> {
    let args = line.split_whitespace().map(OsString::from);
    parse(COMMANDS, args).map_err(|failure| {
        assert_eq!(failure.exit, Exit::Usage);
        failure.message
    })
}

#[track_caller]
fn command(line: &str) -> Parsed {
    match request(line) {
        Ok(Request::Command(parsed)) => parsed,
        other => panic!("{line}: {other:?}"),
    }
}

fn present() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().filter_map(|row| row.commands).flatten()
}

#[test]
fn run_and_its_shorthand_are_the_same() {
    for line in [
        "run --config a.yaml --log-level debug",
        "--config=a.yaml --log-level debug",
        "--log-level debug --config a.yaml",
    ] {
        let parsed = command(line);
        assert_eq!(parsed.command.name, "run");
        let args = run::Args::from(&parsed);
        assert_eq!(args.config, std::path::Path::new("a.yaml"));
        assert_eq!(args.log.level, Some(crate::config::raw::Level::Debug));
        assert_eq!(args.log.format, None);
    }
    let args = check::Args::from(&command("check --connect --config a.yaml"));
    assert!(args.connect && !args.json);
}

#[test]
fn help_is_found_from_everywhere() {
    assert!(matches!(request("--help"), Ok(Request::Help(Topic::All))));
    assert!(matches!(request("help"), Ok(Request::Help(Topic::All))));
    assert!(matches!(request("-V"), Ok(Request::Version)));
    for line in ["help run", "run --help", "run -h", "run --config x --help"] {
        assert!(matches!(request(line), Ok(Request::Help(Topic::Command(c))) if c.name == "run"), "{line}");
    }
}

#[test]
fn wrong_lines_say_what_would_be_right() {
    for (line, message) in [
        ("runn", "unknown command `runn`; did you mean `run`?"),
        ("launch", "unknown command `launch`; see `dts --help`"),
        ("run --confg x", "unknown flag `--confg`; did you mean `--config`?"),
        ("--confg x", "unknown flag `--confg`; did you mean `--config`?"),
        ("run --verbose", "unknown flag `--verbose`; see `dts run --help`"),
        ("run -c x", "unknown flag `-c`; see `dts --help`"),
        ("run", "`dts run` needs `--config FILE`; see `dts run --help`"),
        ("run --config", "`--config` needs a FILE; see `dts run --help`"),
        ("run --config a --config b", "`--config FILE` is given twice; see `dts run --help`"),
        ("run --config a b", "`dts run` takes no `b`; see `dts run --help`"),
        (
            "run --config a --log-level inof",
            "expected one of error, warn, info, debug, trace (did you mean `info`?) for `--log-level LEVEL`, found \
             `inof`; see `dts run --help`",
        ),
        ("check --config a --json=x", "unexpected argument for option '--json': \"x\""),
        ("run --config=", "expected something for `--config FILE`, found ``; see `dts run --help`"),
        ("help runn", "unknown command `runn`; did you mean `run`?"),
        ("\u{1b}[2J", "unknown command `\\u{1b}[2J`; see `dts --help`"),
    ] {
        assert_eq!(request(line).expect_err(line), format!("dts: {message}"), "{line}");
    }
    assert!(request("").unwrap_err().contains("Usage:"), "no command at all shows help");
}

#[cfg(all(feature = "cmd-edge", feature = "spool"))]
#[test]
fn groups_have_actions() {
    assert_eq!(command("spool peek --limit 3 --lane a").number("limit"), Some(3));
    assert!(matches!(request("spool --help"), Ok(Request::Help(Topic::Group(row))) if row.name == "spool"));
    assert!(matches!(request("help spool"), Ok(Request::Help(Topic::Group(_)))));
    for (line, message) in [
        ("spool", "`dts spool` needs one of: stats, peek, verify, export, samples"),
        ("spool stat", "unknown action `spool stat`; did you mean `stats`?"),
        ("spool burn", "unknown action `spool burn`; there are: stats, peek, verify, export, samples"),
        (
            "spool peek --limit many",
            "expected a whole number for `--limit ROWS`, found `many`; see `dts spool peek --help`",
        ),
    ] {
        assert_eq!(request(line).expect_err(line), format!("dts: {message}"), "{line}");
    }
}

#[test]
fn a_command_that_is_not_compiled_in_says_which_feature() {
    static ROWS: &[Row] = &[Row { name: "tap", features: &["cmd-ingest", "x"], commands: None }];
    let failure = parse(ROWS, ["tap".into()]).unwrap_err();
    assert_eq!(failure.message, "dts: `dts tap` is not compiled in: rebuild with `--features cmd-ingest,x`");
    assert!(help::help(ROWS, Topic::All).contains("Not compiled in: tap."));
}

#[test]
fn arguments_need_not_be_utf8() {
    let raw = OsString::from_vec(vec![b'/', 0xff]);
    let Ok(Request::Command(parsed)) = parse(COMMANDS, ["run".into(), "--config".into(), raw.clone()]) else {
        panic!("a path may be any bytes")
    };
    assert_eq!(parsed.path("config"), Some(raw.clone().into()));
    for args in [vec![raw.clone()], vec!["run".into(), "--log-level".into(), raw]] {
        assert_eq!(parse(COMMANDS, args).unwrap_err().exit, Exit::Usage);
    }
}

#[test]
fn help_fits_and_names_every_flag_example_and_exit() {
    let all = help::help(COMMANDS, Topic::All);
    for command in present() {
        assert!(all.contains(&format!("  {}", command.name)), "{}", command.name);
        let text = help::help(COMMANDS, Topic::Command(command));
        for flag in command.flags.iter().chain(&command.operand) {
            assert!(text.contains(&help::flag(command, flag)), "{} {}", command.name, flag.name);
            assert!(!flag.help.ends_with('.'), "{} {}", command.name, flag.name);
        }
        assert!(!command.examples.is_empty() || command.flags.is_empty(), "{} has no example", command.name);
        for (code, meaning) in command.exits {
            assert!(text.contains(&format!("{code} ")) && text.contains(meaning), "{}: {code}", command.name);
        }
        for line in text.lines().chain(all.lines()) {
            assert!(line.chars().count() <= help::WIDTH, "too wide: {line}");
            assert_eq!(line, line.trim_end(), "blanks at the end of a line");
        }
    }
    for row in COMMANDS.iter().filter(|row| row.is_group()) {
        assert!(help::help(COMMANDS, Topic::Group(*row)).contains(row.name));
    }
}

/// What an example shows must work, up to pipes and redirections.
#[test]
fn examples_parse() {
    for command in present() {
        for (_, line) in command.examples {
            let line = line.split(['|', '>']).next().unwrap_or_default();
            let line = line.strip_prefix("dts").unwrap_or_else(|| panic!("{line}"));
            let parsed = self::command(line);
            assert_eq!(parsed.command.name, command.name, "{line}");
        }
    }
}

#[test]
fn the_table_is_sound() {
    for row in COMMANDS {
        for command in row.commands.unwrap_or_default() {
            let first = command.name.split(' ').next();
            assert_eq!(first, Some(row.name));
            for flag in command.flags {
                assert_ne!(flag.name, "help");
                let same = command.flags.iter().filter(|other| other.name == flag.name).count();
                assert_eq!(same, 1, "{} --{}", command.name, flag.name);
                assert!(matches!(flag.value, Value::Switch) == flag.value.label().is_empty());
            }
        }
    }
    for feature in COMMANDS.iter().flat_map(|row| row.features) {
        assert!(crate::registry::FEATURES.iter().any(|(name, _)| name == feature), "{feature}");
    }
}

/// `dts version --features` must not forget one.
#[test]
fn every_feature_of_the_manifest_is_known() {
    let manifest = include_str!("../../../Cargo.toml");
    let section =
        manifest.split("[features]").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap_or_default();
    // And `fuzzing`, which adds nothing that a user could ask for.
    let presets = ["default", "edge", "ingest", "central", "full", "fuzzing"];
    let mut names: Vec<_> = section
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| line.split_once(" = ["))
        .map(|(name, _)| name.trim())
        .filter(|name| !presets.contains(name))
        .collect();
    let mut known: Vec<_> = crate::registry::FEATURES.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    known.sort_unstable();
    assert_eq!(names, known);
}
