//! `dts check`: whether a config is right, and with `--connect` whether what it names can be reached.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::output::{Exit, Failure, print};
use super::parse::Parsed;
use super::run::LogArgs;
use super::table::{CONFIG, Command, Flag, JSON, LOG_FORMAT, LOG_LEVEL};
use crate::config::plan::{SinkPlan, SourcePlan};
use crate::config::{self, ConfigError, Outside, Plan};
use crate::runtime;

/// Longest wait for one connection.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) static COMMANDS: &[Command] = &[Command {
    name: "check",
    about: "Find every mistake in a config, and try its connections",
    detail: "Mistakes are printed as file:line:column: message, all in one pass.\n\n\
             With --connect each source and sink is tried as `dts run` would open it: files are opened \
             (and made, where a sink makes them), ports bound, brokers and centres reached. No data moves.",
    operand: None,
    flags: &[
        CONFIG,
        Flag::switch("connect", "Try what each source and sink needs, and print a line for each"),
        JSON,
        LOG_LEVEL,
        LOG_FORMAT,
    ],
    examples: &[
        ("Check a config before it is rolled out", "dts check --config agent.yaml"),
        ("Is the centre reachable from here?", "dts check --config agent.yaml --connect"),
    ],
    exits: &[
        (0, "the config is right, and with --connect everything was reached"),
        (1, "something could not be reached"),
    ],
    main: |parsed| check(&Args::from(parsed)),
}];

/// Arguments of `dts check`.
#[derive(Clone, Debug)]
pub struct Args {
    /// The config.
    pub config: PathBuf,
    /// Try the connections too.
    pub connect: bool,
    /// Print JSON.
    pub json: bool,
    /// What of the log is not as the config says.
    pub log: LogArgs,
}

impl From<&Parsed> for Args {
    fn from(parsed: &Parsed) -> Self {
        Self {
            config: parsed.path("config").unwrap_or_default(),
            connect: parsed.is_set("connect"),
            json: parsed.is_set("json"),
            log: LogArgs::from(parsed),
        }
    }
}

/// What trying one source or sink found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// `source` or `sink`.
    pub side: &'static str,
    /// Its name.
    pub name: String,
    /// What was found, or what went wrong.
    pub found: Result<String, String>,
}

fn check(args: &Args) -> Result<(), Failure> {
    let plan = match config::load(&args.config, Outside::default()) {
        Ok(plan) => plan,
        Err(ConfigError::Mistakes(mistakes)) if args.json => {
            let one = |mistake: &config::Mistake| json!({ "line": mistake.place.line, "column": mistake.place.column, "message": mistake.message });
            let list: Vec<_> = mistakes.list.iter().map(one).collect();
            let more = mistakes.dropped;
            print_json(
                &json!({ "config": args.config, "ok": false, "mistakes": list, "more_mistakes": more }),
            )?;
            return Err(Failure::quiet(Exit::Usage));
        }
        Err(error) => return Err(error.into()),
    };
    let probes = if args.connect {
        args.log.init(plan.log);
        runtime::block_on(connect(&plan))
    } else {
        Vec::new()
    };
    let ok = probes.iter().all(|probe| probe.found.is_ok());
    if args.json {
        print_json(&report(args, &plan, &probes, ok))?;
    } else {
        print(&text(args, &plan, &probes))?;
    }
    if ok { Ok(()) } else { Err(Failure::quiet(Exit::Failed)) }
}

fn print_json(value: &Value) -> Result<(), Failure> {
    print(&format!("{value:#}\n"))
}

/// Tries every source and sink, one after the other.
pub async fn connect(plan: &Plan) -> Vec<Probe> {
    let mut probes = Vec::new();
    for SourcePlan { name, config, .. } in &plan.sources {
        let found = match config.build(name) {
            Ok(source) => bounded(async { source.probe().await.map_err(|error| error.to_string()) }).await,
            Err(error) => Err(error.to_string()),
        };
        probes.push(Probe { side: "source", name: name.to_string(), found });
    }
    for SinkPlan { name, config, .. } in &plan.sinks {
        let found = bounded(async {
            let mut sink = config.open(name).await.map_err(|error| error.to_string())?;
            let found = sink.probe().await.map_err(|error| error.to_string())?;
            sink.close().await.map_err(|error| error.to_string())?;
            Ok(found)
        });
        probes.push(Probe { side: "sink", name: name.to_string(), found: found.await });
    }
    probes
}

async fn bounded(probe: impl Future<Output = Result<String, String>>) -> Result<String, String> {
    let late = || Err(format!("no answer within {} s", PROBE_TIMEOUT.as_secs()));
    runtime::timeout(PROBE_TIMEOUT, probe).await.unwrap_or_else(late)
}

fn text(args: &Args, plan: &Plan, probes: &[Probe]) -> String {
    let many = |n: usize, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
    let mut out = format!(
        "{}: ok, {}, {}",
        args.config.display(),
        many(plan.sources.len(), "source"),
        many(plan.sinks.len(), "sink")
    );
    if let Some(buffer) = &plan.buffer {
        out.push_str(&format!(
            ", buffer in {} ({})",
            buffer.path.display(),
            many(buffer.lanes.len(), "lane")
        ));
    }
    out.push('\n');
    for Probe { side, name, found } in probes {
        let (mark, what) = match found {
            Ok(what) => ("ok    ", what),
            Err(what) => ("FAILED", what),
        };
        out.push_str(&format!("{mark} {side} {name}: {what}\n"));
    }
    out
}

fn report(args: &Args, plan: &Plan, probes: &[Probe], ok: bool) -> Value {
    let probes: Vec<_> = probes
        .iter()
        .map(|Probe { side, name, found }| {
            let what = found.as_ref().unwrap_or_else(|what| what);
            json!({ "side": side, "name": name, "ok": found.is_ok(), "message": what })
        })
        .collect();
    let names = |names: Vec<(&str, &str)>| -> Vec<Value> {
        names.into_iter().map(|(name, kind)| json!({ "name": name, "type": kind })).collect()
    };
    json!({
        "config": args.config, "ok": ok, "mistakes": [],
        "sources": names(plan.sources.iter().map(|s| (&*s.name, s.kind)).collect()),
        "sinks": names(plan.sinks.iter().map(|s| (&*s.name, s.kind)).collect()),
        "connections": probes,
    })
}
