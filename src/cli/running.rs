//! Asking the dts that runs: which one is meant, and what its refusal means for the exit status.

use std::path::{Path, PathBuf};

use super::output::{Exit, Failure, print};
use crate::config::{self, Outside};
use crate::control::Ask;
use crate::control::client::{self, AskError};

/// Where a dts keeps its state unless its config says otherwise.
const DEFAULT_STATE_DIR: &str = "/var/lib/dts";

/// The state folder that a config or a flag names.
pub(super) fn state_dir(config: Option<&Path>, state_dir: Option<&Path>) -> Result<PathBuf, Failure> {
    match (state_dir, config) {
        (Some(dir), _) => Ok(dir.to_owned()),
        (None, Some(file)) => Ok(config::load(file, Outside::default())?.device.state_dir),
        (None, None) => Ok(PathBuf::from(DEFAULT_STATE_DIR)),
    }
}

/// The lines of the answer.
pub(super) fn ask(
    state_dir: &Path,
    question: &Ask,
) -> Result<impl Iterator<Item = Result<String, Failure>> + use<>, Failure> {
    let lines = client::ask(state_dir, question).map_err(failure)?;
    Ok(lines.map(|line| line.map_err(|error| Failure::failed(format!("the running dts went away: {error}")))))
}

fn failure(error: AskError) -> Failure {
    match error {
        AskError::NotRunning { .. } => Failure::new(Exit::NotHealthy, error),
        AskError::Refused(_) | AskError::Silent(_) => Failure::failed(error),
    }
}

/// The answer of one JSON object.
pub(super) fn ask_one(state_dir: &Path, question: &Ask) -> Result<serde_json::Value, Failure> {
    let silent = || Failure::failed("the running dts went away before it answered");
    let line = ask(state_dir, question)?.next().ok_or_else(silent)??;
    serde_json::from_str(&line)
        .map_err(|error| Failure::failed(format!("an answer that is no JSON: {error}")))
}

/// Prints the lines of the answer as they come.
pub(super) fn print_lines(state_dir: &Path, question: &Ask, limit: Option<u64>) -> Result<(), Failure> {
    let limit = usize::try_from(limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    for line in ask(state_dir, question)?.take(limit) {
        print(&format!("{}\n", line?))?;
    }
    Ok(())
}

/// Fails if a dts runs there: what it would write anew must not be changed under it.
#[allow(dead_code, reason = "used by commands that are not in every build")]
pub(super) fn refuse(state_dir: &Path) -> Result<(), Failure> {
    match client::ask(state_dir, &Ask::Health {}) {
        Err(AskError::NotRunning { .. }) => Ok(()),
        _ => Err(Failure::new(Exit::NotHealthy, "dts is running: stop it first")),
    }
}
