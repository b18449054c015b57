//! `dts run`: from config to a running pipeline, until a signal.

use std::path::PathBuf;

use super::output::Failure;
use super::parse::Parsed;
use super::signal::{Signals, stop_on};
use super::table::{CONFIG, Command, LOG_FORMAT, LOG_LEVEL};
use crate::config::plan::LogPlan;
use crate::config::raw::{Format, Level};
use crate::config::{self, Outside};
use crate::engine;
use crate::runtime::{self, Stop};

pub(super) static COMMANDS: &[Command] = &[Command {
    name: "run",
    about: "Move data from the sources of a config to its sinks",
    detail: "Runs in the foreground and logs to standard error. SIGTERM and SIGINT stop it within a second; \
             nothing that was acknowledged is lost, however it ends.",
    operand: None,
    flags: &[CONFIG, LOG_LEVEL, LOG_FORMAT],
    examples: &[
        ("Run an agent or a centre", "dts run --config /etc/dts/dts.yaml"),
        ("The same, short, with more log", "dts --config /etc/dts/dts.yaml --log-level debug"),
    ],
    exits: &[
        (0, "stopped on request, or every source came to its end"),
        (130, "ended at once by a second SIGINT (143: SIGTERM)"),
    ],
    main: |parsed| run(&Args::from(parsed)),
}];

/// Arguments of `dts run`.
#[derive(Clone, Debug)]
pub struct Args {
    /// The config.
    pub config: PathBuf,
    /// What of the log is not as the config says.
    pub log: LogArgs,
}

impl From<&Parsed> for Args {
    fn from(parsed: &Parsed) -> Self {
        Self { config: parsed.path("config").unwrap_or_default(), log: LogArgs::from(parsed) }
    }
}

/// `--log-level` and `--log-format`.
#[derive(Clone, Copy, Debug)]
pub struct LogArgs {
    /// Least important line.
    pub level: Option<Level>,
    /// Form of lines.
    pub format: Option<Format>,
}

impl From<&Parsed> for LogArgs {
    fn from(parsed: &Parsed) -> Self {
        Self {
            level: parsed.text("log-level").and_then(Level::from_word),
            format: parsed.text("log-format").and_then(Format::from_word),
        }
    }
}

impl LogArgs {
    /// Starts the log, as the arguments say, else as the config says.
    pub fn init(self, plan: LogPlan) {
        crate::telemetry::log::init(self.level.unwrap_or(plan.level), self.format.unwrap_or(plan.format));
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let plan = config::load(&args.config, Outside::default())?;
    args.log.init(plan.log);
    // Before anything starts that a signal must stop.
    let signals =
        Signals::install().map_err(|error| Failure::failed(format!("cannot handle signals: {error}")))?;
    runtime::block_on(async {
        let (stopper, stop) = Stop::new();
        let _watch = runtime::spawn(stop_on(signals, stopper));
        engine::run(plan, stop).await.map_err(Failure::failed)
    })
}
