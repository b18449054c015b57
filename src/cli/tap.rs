//! `dts tap`: shows events as they pass through a running dts.

use std::path::PathBuf;

use super::output::Failure;
use super::parse::Parsed;
use super::running;
use super::table::{CONFIG_IF_ANY, Command, Flag};
use crate::control::Ask;

pub(super) static COMMANDS: &[Command] = &[Command {
    name: "tap",
    about: "Print events as they pass through the running dts",
    detail: "One dts JSON object a line. It only looks: a reader that is slow misses events, which is said on \
             standard error, and holds nothing up.",
    operand: None,
    flags: &[
        CONFIG_IF_ANY,
        Flag::path(
            "state-dir",
            "DIR",
            "The state folder, where there is no config at hand (default /var/lib/dts)",
        ),
        Flag::text("source", "NAME", "Only events of this source"),
        Flag::number("limit", "EVENTS", "Stop after so many"),
    ],
    examples: &[("What does the HTTP input deliver?", "dts tap --config agent.yaml --source http --limit 5")],
    exits: &[],
    main: |parsed| tap(&Args::from(parsed)),
}];

/// Arguments of `dts tap`.
#[derive(Clone, Debug)]
pub struct Args {
    /// The config that names the state folder.
    pub config: Option<PathBuf>,
    /// The state folder itself.
    pub state_dir: Option<PathBuf>,
    /// Only events of this source.
    pub source: Option<String>,
    /// Stop after so many.
    pub limit: Option<u64>,
}

impl From<&Parsed> for Args {
    fn from(parsed: &Parsed) -> Self {
        Self {
            config: parsed.path("config"),
            state_dir: parsed.path("state-dir"),
            source: parsed.text("source").map(str::to_owned),
            limit: parsed.number("limit"),
        }
    }
}

fn tap(args: &Args) -> Result<(), Failure> {
    let dir = running::state_dir(args.config.as_deref(), args.state_dir.as_deref())?;
    running::print_lines(&dir, &Ask::Tap { source: args.source.clone() }, args.limit)
}
