//! `dts health`: asks a running dts how it is.

use std::path::PathBuf;

use super::output::{Exit, Failure, print};
use super::parse::Parsed;
use super::running;
use super::table::{CONFIG_IF_ANY, Command, Flag, JSON};
use crate::control::Ask;

pub(super) static COMMANDS: &[Command] = &[Command {
    name: "health",
    about: "Ask the running dts whether it is well",
    detail: "Asks over the control socket in the state folder, which only the user that runs dts may open.",
    operand: None,
    flags: &[
        CONFIG_IF_ANY,
        Flag::path(
            "state-dir",
            "DIR",
            "The state folder, where there is no config at hand (default /var/lib/dts)",
        ),
        JSON,
    ],
    examples: &[
        ("Is the agent well?", "dts health"),
        ("For a supervisor", "dts health --config /etc/dts/dts.yaml --json"),
    ],
    exits: &[(0, "running and healthy"), (4, "not running, or something is degraded")],
    main: |parsed| health(&Args::from(parsed)),
}];

/// Arguments of `dts health`.
#[derive(Clone, Debug)]
pub struct Args {
    /// The config that names the state folder.
    pub config: Option<PathBuf>,
    /// The state folder itself.
    pub state_dir: Option<PathBuf>,
    /// Print JSON.
    pub json: bool,
}

impl From<&Parsed> for Args {
    fn from(parsed: &Parsed) -> Self {
        Self {
            config: parsed.path("config"),
            state_dir: parsed.path("state-dir"),
            json: parsed.is_set("json"),
        }
    }
}

fn health(args: &Args) -> Result<(), Failure> {
    let dir = running::state_dir(args.config.as_deref(), args.state_dir.as_deref())?;
    let health = running::ask_one(&dir, &Ask::Health {})?;
    print(&if args.json { format!("{health:#}\n") } else { text(&health) })?;
    if health["status"] == "ok" { Ok(()) } else { Err(Failure::quiet(Exit::NotHealthy)) }
}

fn text(health: &serde_json::Value) -> String {
    let word = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let list = |value: &serde_json::Value| {
        let items = value.as_array().map(|items| items.iter().map(word).collect::<Vec<_>>());
        items.unwrap_or_default()
    };
    let mut out = format!("{}: dts {}", word(&health["status"]), word(&health["version"]));
    if let Some(device) = health["device"].as_str() {
        out.push_str(&format!(", device {device}"));
    }
    out.push_str(&format!(", up {} s\n", health["uptime_s"]));
    for problem in list(&health["problems"]) {
        out.push_str(&format!("  problem: {problem}\n"));
    }
    let runs = &health["runs"];
    out.push_str(&format!(
        "  {} -> {}\n",
        list(&runs["sources"]).join(", "),
        list(&runs["sinks"]).join(", ")
    ));
    for lane in health["buffer"]["lanes"].as_array().into_iter().flatten() {
        out.push_str(&format!(
            "  buffer, lane {}: {} rows wait, {} lost\n",
            word(&lane["lane"]),
            lane["rows"].as_u64().unwrap_or(0) + lane["memory_rows"].as_u64().unwrap_or(0),
            lane["lost_rows"],
        ));
    }
    out
}
