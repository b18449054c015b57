//! `dts offsets …`: where sources that read a server's log go on.

use std::path::PathBuf;

use serde_json::json;

use super::output::{Failure, print};
use super::parse::Parsed;
use super::running;
use super::table::{CONFIG, Command, Flag, JSON};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::sqlite::Store;
use crate::config::{self, Outside, Plan};

const SOURCE: Flag = Flag::text("source", "NAME", "Name of the source in the config, if there are several");

pub(super) static COMMANDS: &[Command] = &[
    Command {
        name: "offsets show",
        about: "Show up to where everything was delivered",
        detail: "As it stands in the store; a running dts may be further.",
        operand: None,
        flags: &[CONFIG, SOURCE, JSON],
        examples: &[("How far is it?", "dts offsets show --config config.yaml")],
        exits: &[],
        main: |parsed| offsets(&Args::new(parsed, Action::Show)),
    },
    Command {
        name: "offsets reset",
        about: "Forget the position, so that a source begins anew",
        detail: "It begins then as its `start` says. What lies between is not delivered, or is delivered again.",
        operand: None,
        flags: &[CONFIG, SOURCE],
        examples: &[("After the server purged what was not read", "dts offsets reset --config config.yaml")],
        exits: &[(4, "dts is running: stop it first")],
        main: |parsed| offsets(&Args::new(parsed, Action::Reset)),
    },
];

/// Arguments of `dts offsets`.
#[derive(Clone, Debug)]
pub struct Args {
    /// The config.
    pub config: PathBuf,
    /// Which source; `None` is all that have a position.
    pub source: Option<String>,
    /// What to do.
    pub action: Action,
    /// Print JSON.
    pub json: bool,
}

/// What `dts offsets` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Show the positions.
    Show,
    /// Forget one.
    Reset,
}

impl Args {
    fn new(parsed: &Parsed, action: Action) -> Self {
        Self {
            config: parsed.path("config").unwrap_or_default(),
            source: parsed.text("source").map(str::to_owned),
            action,
            json: action == Action::Show && parsed.is_set("json"),
        }
    }
}

fn offsets(args: &Args) -> Result<(), Failure> {
    let plan = config::load(&args.config, Outside::default())?;
    let names = names(args, &plan)?;
    let path = plan.device.state_dir.join("checkpoint.db");
    // To look is not to make.
    let there = path.exists();
    match args.action {
        Action::Show => {
            let mut list = Vec::new();
            for name in names {
                let found =
                    if there { Store::open(&path, &name).and_then(|store| store.load()) } else { Ok(None) };
                list.push((name, found.map_err(Failure::failed)?));
            }
            print(&if args.json { format!("{:#}\n", object(&list)) } else { text(&list) })
        }
        Action::Reset => {
            let [name] = names.as_slice() else {
                return Err(Failure::usage(format!(
                    "which source? `--source` is one of {}",
                    names.join(", ")
                )));
            };
            running::refuse(&plan.device.state_dir)?;
            if there {
                Store::open(&path, name).and_then(|mut store| store.reset()).map_err(Failure::failed)?;
            }
            print(&format!("{name}: begins as its `start` says\n"))
        }
    }
}

/// Sources that have a position here.
fn names(args: &Args, plan: &Plan) -> Result<Vec<String>, Failure> {
    let mut names: Vec<String> = plan
        .sources
        .iter()
        .filter(|source| source.config.as_any().is_some_and(|any| any.is::<crate::source::mysql::Config>()))
        .map(|source| source.name.to_string())
        .collect();
    if let Some(wanted) = &args.source {
        names.retain(|name| name == wanted);
    }
    if names.is_empty() {
        return Err(Failure::usage(
            "the config has no such source that reads a server's log (`mysql-binlog`)",
        ));
    }
    Ok(names)
}

fn object(list: &[(String, Option<Checkpoint>)]) -> serde_json::Value {
    list.iter().map(|(name, found)| json!({ "source": name, "checkpoint": found })).collect()
}

fn text(list: &[(String, Option<Checkpoint>)]) -> String {
    let mut out = String::new();
    for (name, found) in list {
        out += &match found {
            None => format!("{name}: no position yet\n"),
            Some(found) => {
                let gtids = found.gtids.as_deref().filter(|gtids| !gtids.is_empty()).unwrap_or("none");
                let partial = found.partial.as_ref().map(|gtid| format!("\n  delivered in part: {gtid}"));
                format!(
                    "{name}: {}:{}\n  GTIDs: {gtids}\n  server: {}{}\n",
                    found.file,
                    found.pos,
                    if found.server.is_empty() { "MariaDB" } else { &found.server },
                    partial.unwrap_or_default()
                )
            }
        };
    }
    out
}
