//! The side of the commands. Blocking: a command has nothing else to do.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{Ask, Head, socket};

/// For the first line of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no dts runs with the state folder {path} ({error})")]
    NotRunning {
        /// The folder.
        path: String,
        /// What connecting said.
        error: io::Error,
    },
    /// It answered that it cannot.
    #[error("{0}")]
    Refused(String),
    /// It runs and does not answer, or not in our words.
    #[error("the running dts does not answer: {0}")]
    Silent(io::Error),
}

/// Asks the dts that runs in `state_dir`; the lines of its answer. They wait for as long as it takes.
pub fn ask(
    state_dir: &Path,
    ask: &Ask,
) -> Result<impl Iterator<Item = io::Result<String>> + use<>, AskError> {
    let stream = UnixStream::connect(socket(state_dir))
        .map_err(|error| AskError::NotRunning { path: state_dir.display().to_string(), error })?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(AskError::Silent)?;
    let mut request = serde_json::to_vec(ask).map_err(|error| AskError::Silent(error.into()))?;
    request.push(b'\n');
    (&stream).write_all(&request).map_err(AskError::Silent)?;
    let mut lines = BufReader::new(stream.try_clone().map_err(AskError::Silent)?).lines();
    let head =
        lines.next().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into())).map_err(AskError::Silent)?;
    match serde_json::from_str(&head) {
        Ok(Head::Ok(_)) => {
            stream.set_read_timeout(None).map_err(AskError::Silent)?;
            Ok(lines)
        }
        Ok(Head::Error(why)) => Err(AskError::Refused(why)),
        Err(error) => Err(AskError::Silent(error.into())),
    }
}
