//! `dts version`: what this build is.

use serde_json::json;

use super::output::{Failure, print};
use super::parse::Parsed;
use super::table::{Command, Flag, JSON};
use crate::registry::{FEATURES, Row, SINKS, SOURCES};

pub(super) static COMMANDS: &[Command] = &[Command {
    name: "version",
    about: "Show the version, and what is compiled in",
    detail: "",
    operand: None,
    flags: &[Flag::switch("features", "List the features, connectors and commands of this build"), JSON],
    examples: &[("Which connectors does this build have?", "dts version --features")],
    exits: &[],
    main: |parsed| version(&Args::from(parsed)),
}];

/// Arguments of `dts version`.
#[derive(Clone, Copy, Debug)]
pub struct Args {
    /// List what is compiled in.
    pub features: bool,
    /// Print JSON.
    pub json: bool,
}

impl From<&Parsed> for Args {
    fn from(parsed: &Parsed) -> Self {
        Self { features: parsed.is_set("features"), json: parsed.is_set("json") }
    }
}

fn version(args: &Args) -> Result<(), Failure> {
    let version = super::help::version();
    let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let lists = [
        ("features", FEATURES.to_vec()),
        ("sources", compiled(SOURCES)),
        ("sinks", compiled(SINKS)),
        ("commands", super::COMMANDS.iter().map(|row| (row.name, row.commands.is_some())).collect()),
    ];
    let chosen = |list: &[(&'static str, bool)], wanted: bool| -> Vec<&'static str> {
        list.iter().filter(|(_, present)| *present == wanted).map(|(name, _)| *name).collect()
    };
    if args.json {
        let mut value = json!({ "version": version, "target": target });
        for (what, list) in lists.iter().filter(|_| args.features) {
            value[*what] = json!(chosen(list, true));
        }
        return print(&format!("{value:#}\n"));
    }
    let mut out = format!("dts {version} {target}\n");
    for (what, list) in lists.iter().filter(|_| args.features) {
        out.push_str(&format!("{what}: {}\n", chosen(list, true).join(" ")));
        let absent = chosen(list, false);
        if !absent.is_empty() {
            out.push_str(&format!("  not compiled in: {}\n", absent.join(" ")));
        }
    }
    print(&out)
}

fn compiled<C: ?Sized>(table: &[Row<C>]) -> Vec<(&'static str, bool)> {
    table.iter().map(|row| (row.name, row.read.is_some())).collect()
}
