//! What a person sees: colours, the bar, Ctrl-C. A Python script is the terminal.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{recordings, root};
use crate::harness::Dir;

/// Runs `dts binlog …` where `case` says that terminals are.
fn on_terminal(case: &str, args: &[&str], files: &[&Path], environment: &[(&str, &str)]) -> Value {
    let mut command = Command::new("python3");
    command
        .arg(root().join("tests/binlog/terminal.py"))
        .arg(case)
        .arg(env!("CARGO_BIN_EXE_dts"))
        .arg("binlog");
    command.args(args).args(files).env_remove("NO_COLOR").env("TERM", "xterm");
    let output = command.envs(environment.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text<'v>(shown: &'v Value, what: &str) -> &'v str {
    shown[what].as_str().unwrap_or_default()
}

/// So much that a bar is of use: more than ten times what lies between two looks at the clock.
fn many(dir: &Dir) -> Vec<PathBuf> {
    vec![recordings(dir).join("types_full.000001"); 12]
}

fn paths(files: &[PathBuf]) -> Vec<&Path> {
    files.iter().map(PathBuf::as_path).collect()
}

const BAR: &str = "MiB/s";

#[test]
fn colours_are_for_terminals() {
    let dir = Dir::new("binlog");
    let file = recordings(&dir).join("txn.000001");
    let files = [file.as_path()];
    let coloured = on_terminal("out", &["dump"], &files, &[]);
    assert!(text(&coloured, "terminal").contains("\x1b[1m"), "{coloured}");
    assert_eq!(coloured["status"], 0);
    assert_eq!(text(&coloured, "err"), "");
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let plain = on_terminal("out", &["dump"], &files, &[(name, value)]);
        assert!(text(&plain, "terminal").contains("insert cdc."), "{name}: {plain}");
        assert!(!text(&plain, "terminal").contains('\x1b'), "{name}: {plain}");
    }
    // Empty is as if it were not there.
    let set = on_terminal("out", &["dump"], &files, &[("NO_COLOR", "")]);
    assert!(text(&set, "terminal").contains("\x1b[1m"), "{set}");
    // For machines there are none anywhere.
    let json = on_terminal("out", &["dump", "--format", "json"], &files, &[]);
    assert!(
        text(&json, "terminal").contains("{\"kind\":\"row\"") && !text(&json, "terminal").contains('\x1b')
    );
    let piped = on_terminal("err", &["dump"], &files, &[]);
    assert!(text(&piped, "out").contains("insert cdc.") && !text(&piped, "out").contains('\x1b'), "{piped}");
}

#[test]
fn the_bar_is_on_standard_error_and_only_on_a_terminal() {
    let dir = Dir::new("binlog");
    let files = many(&dir);
    let files = paths(&files);
    let bar = on_terminal("err", &["dump", "--format", "json"], &files, &[]);
    let shown = text(&bar, "terminal");
    assert!(shown.contains(BAR) && shown.contains(" %  ") && shown.contains(" of 15 MiB"), "{shown}");
    assert!(shown.ends_with("\r\x1b[K"), "the bar is left behind: {shown:?}");
    assert!(!text(&bar, "out").contains(BAR) && bar["status"] == 0);
    // Where the result goes to the same terminal it would be in the way.
    let both = on_terminal("both", &["stats"], &files, &[]);
    assert!(!text(&both, "terminal").contains(BAR), "{both}");
    let none = on_terminal("out", &["stats"], &files, &[]);
    assert!(text(&none, "err").is_empty(), "{none}");
}

#[test]
fn ctrl_c_ends_it_quietly() {
    let dir = Dir::new("binlog");
    let files = many(&dir);
    let ended = on_terminal("interrupt", &["dump", "--format", "json"], &paths(&files), &[]);
    // As every program that does not catch it: 130 to a shell.
    assert_eq!(ended["status"], -2, "{}", text(&ended, "terminal"));
    let shown = text(&ended, "terminal").replace("^C", "");
    let last = shown.rsplit('\r').next().unwrap_or_default();
    assert!(last.contains(BAR) || last.trim_end_matches("\x1b[K").is_empty(), "{shown:?}");
}

#[test]
fn a_reader_that_goes_away_takes_the_bar_with_it() {
    let dir = Dir::new("binlog");
    let files = many(&dir);
    let ended = on_terminal("gone", &["dump", "--format", "json"], &paths(&files), &[]);
    assert_eq!(ended["status"], 0, "{}", text(&ended, "terminal"));
    assert!(text(&ended, "terminal").ends_with("\r\x1b[K"), "{ended}");
    assert!(!text(&ended, "terminal").contains("dts:"), "{ended}");
}
