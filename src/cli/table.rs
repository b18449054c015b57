//! What a command is: one value that parsing, help, completions and the man page are made from.

use super::output::Failure;
use super::parse::Parsed;

/// A command, or one action of a group of them (`spool stats`).
#[derive(Debug)]
pub struct Command {
    /// The words that choose it, with a space between a group and its action.
    pub name: &'static str,
    /// What it does, in one line without a full stop.
    pub about: &'static str,
    /// What else is to know. May be empty.
    pub detail: &'static str,
    /// An argument without a name.
    pub operand: Option<Flag>,
    /// Flags, beside `--help`.
    pub flags: &'static [Flag],
    /// What it is for, and the command line.
    pub examples: &'static [(&'static str, &'static str)],
    /// What its exit status says beyond the common ones.
    pub exits: &'static [(u8, &'static str)],
    /// Its body.
    pub main: fn(&Parsed) -> Result<(), Failure>,
}

/// A flag, or an operand.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Without the dashes.
    pub name: &'static str,
    /// What stands after it.
    pub value: Value,
    /// What it does, without a full stop at its end.
    pub help: &'static str,
    /// Whether the command is wrong without it.
    pub required: bool,
    /// Whether it may be given more than once.
    pub repeated: bool,
    /// Its short form, if it has one.
    pub short: Option<char>,
}

/// The value of a flag. The text is what help calls it.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// None.
    Switch,
    /// A file or folder.
    Path(&'static str),
    /// Text.
    Text(&'static str),
    /// A whole number.
    Number(&'static str),
    /// One of these words.
    OneOf(&'static str, &'static [&'static str]),
}

impl Flag {
    const fn new(name: &'static str, value: Value, help: &'static str) -> Self {
        Self { name, value, help, required: false, repeated: false, short: None }
    }

    /// A flag that stands alone.
    pub const fn switch(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Value::Switch, help)
    }

    /// A flag with a path.
    pub const fn path(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self::new(name, Value::Path(value), help)
    }

    /// A flag with text.
    pub const fn text(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self::new(name, Value::Text(value), help)
    }

    /// A flag with a number.
    pub const fn number(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self::new(name, Value::Number(value), help)
    }

    /// A flag with one of some words.
    pub const fn one_of(
        name: &'static str,
        value: &'static str,
        words: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self::new(name, Value::OneOf(value, words), help)
    }

    /// That cannot be left out.
    #[must_use]
    pub const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// That may be given more than once.
    #[must_use]
    pub const fn repeated(self) -> Self {
        Self { repeated: true, ..self }
    }

    /// With a short form.
    #[must_use]
    pub const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }
}

impl Value {
    /// What help calls it; empty for a switch.
    pub fn label(self) -> &'static str {
        match self {
            Self::Switch => "",
            Self::Path(label) | Self::Text(label) | Self::Number(label) | Self::OneOf(label, _) => label,
        }
    }
}

/// A command, compiled in or not.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its first word.
    pub name: &'static str,
    /// The Cargo features that compile it in, if it is not in every build.
    pub features: &'static [&'static str],
    /// Itself or its actions; `None` if it is not compiled in.
    pub commands: Option<&'static [Command]>,
}

impl Row {
    /// Whether it is a group of actions.
    pub fn is_group(&self) -> bool {
        self.commands.is_some_and(|commands| commands.iter().any(|command| command.name != self.name))
    }
}

/// The config, where a command cannot do without.
pub const CONFIG: Flag =
    Flag::path("config", "FILE", "The config (YAML; `dts schema` prints its schema)").required();
/// The config, where there is another way to say what is meant.
pub const CONFIG_IF_ANY: Flag = Flag { required: false, ..CONFIG };
/// Importance of log lines.
pub const LOG_LEVEL: Flag = Flag::one_of(
    "log-level",
    "LEVEL",
    crate::config::raw::Level::WORDS,
    "Least important log line that is written; goes before the config's `log.level`",
);
/// Form of log lines.
pub const LOG_FORMAT: Flag = Flag::one_of(
    "log-format",
    "FORMAT",
    crate::config::raw::Format::WORDS,
    "Log lines as text or as JSON objects; goes before the config's `log.format`",
);
/// Output for machines.
pub const JSON: Flag = Flag::switch("json", "Print JSON, for machines");

/// What every command's exit status says.
pub const EXITS: &[(u8, &str)] = &[
    (0, "done, or stopped on request"),
    (1, "failed; the message says why and what to do"),
    (2, "wrong arguments or wrong config; nothing was started"),
    (3, "bad data was found: damage, or a difference"),
    (4, "not running, or running and not healthy"),
    (130, "ended at once by a second SIGINT (143: SIGTERM)"),
];
