//! How commands end and where they write.

use std::io::Write;
use std::process::ExitCode;

use crate::config::ConfigError;

/// Exit status. `--help` and the man page document it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Wrong arguments or wrong config.
    Usage = 2,
    /// Damage or difference in data.
    BadData = 3,
    /// Not running, or not healthy.
    NotHealthy = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command ends without having done what it was asked for.
#[derive(Debug)]
pub struct Failure {
    /// Its exit status.
    pub exit: Exit,
    /// What goes to standard error, whole lines without the last newline. May be empty.
    pub message: String,
}

impl Failure {
    /// With `dts: ` before the message.
    pub fn new(exit: Exit, message: impl std::fmt::Display) -> Self {
        Self { exit, message: format!("dts: {message}") }
    }

    /// [`Exit::Failed`].
    pub fn failed(message: impl std::fmt::Display) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// [`Exit::Usage`].
    pub fn usage(message: impl std::fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Ends with `exit`; all is said already.
    pub fn quiet(exit: Exit) -> Self {
        Self { exit, message: String::new() }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::Read { .. } => Self::usage(error),
            ConfigError::Mistakes(mistakes) => {
                let count = mistakes.list.len() + mistakes.dropped;
                let s = if count == 1 { "" } else { "s" };
                // The form that editors and compilers share: file:line:column: message.
                let message =
                    format!("{mistakes}\ndts: {count} mistake{s} in the config, nothing was started");
                Self { exit: Exit::Usage, message }
            }
        }
    }
}

/// Writes `text` to standard output. A reader that has gone away (`dts schema | head`) ends the
/// command quietly.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::quiet(Exit::Done),
        _ => Failure::failed(format!("cannot write to standard output: {error}")),
    })
}

/// Writes a line to standard error. If that is closed there is nobody to tell.
pub fn complain(line: &str) {
    drop(std::io::stderr().lock().write_all(format!("{line}\n").as_bytes()));
}
