//! The command line, by the table. No IO.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::{Arg, Parser};

use super::output::{Exit, Failure};
use super::table::{Command, Flag, Row, Value};
use crate::config::section::nearest;

/// What the user asks for.
#[derive(Debug)]
pub enum Request {
    /// Help on everything, a group or a command.
    Help(Topic),
    /// `--version`.
    Version,
    /// A command.
    Command(Parsed),
}

/// What help is about.
#[derive(Clone, Copy, Debug)]
pub enum Topic {
    /// dts as a whole.
    All,
    /// A group of actions.
    Group(Row),
    /// One command.
    Command(&'static Command),
}

/// A command with its flags, which are those that the table allows.
#[derive(Debug)]
pub struct Parsed {
    /// The command.
    pub command: &'static Command,
    values: Vec<(&'static str, Given)>,
}

#[derive(Debug)]
enum Given {
    Switch,
    Path(OsString),
    Text(String),
    Number(u64),
}

impl Parsed {
    /// Whether the switch `name` was given.
    pub fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The path given with `name`.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        match self.get(name) {
            Some(Given::Path(path)) => Some(path.into()),
            _ => None,
        }
    }

    /// The text or word given with `name`.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Given::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The number given with `name`.
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.get(name) {
            Some(Given::Number(number)) => Some(*number),
            _ => None,
        }
    }

    /// Every path given with `name`, in order.
    pub fn paths(&self, name: &str) -> Vec<PathBuf> {
        let given = self.values.iter().filter(|(given, _)| *given == name);
        given
            .filter_map(|(_, value)| if let Given::Path(path) = value { Some(path.into()) } else { None })
            .collect()
    }

    /// Every text given with `name`, in order.
    pub fn texts(&self, name: &str) -> Vec<&str> {
        let given = self.values.iter().filter(|(given, _)| *given == name);
        given
            .filter_map(|(_, value)| if let Given::Text(text) = value { Some(text.as_str()) } else { None })
            .collect()
    }

    fn get(&self, name: &str) -> Option<&Given> {
        debug_assert!(
            self.command.flags.iter().chain(&self.command.operand).any(|flag| flag.name == name),
            "{name} is not in the table"
        );
        self.values.iter().find(|(given, _)| *given == name).map(|(_, value)| value)
    }
}

/// One argument, freed from the parser so that it can be asked for the value.
enum Word {
    Flag(String),
    Short(char),
    Value(OsString),
}

fn next(parser: &mut Parser) -> Result<Option<Word>, Failure> {
    Ok(match parser.next().map_err(Failure::usage)? {
        Some(Arg::Long(name)) => Some(Word::Flag(name.to_owned())),
        Some(Arg::Short('h')) => Some(Word::Flag("help".to_owned())),
        Some(Arg::Short('V')) => Some(Word::Flag("version".to_owned())),
        Some(Arg::Short(c)) => Some(Word::Short(c)),
        Some(Arg::Value(value)) => Some(Word::Value(value)),
        None => None,
    })
}

/// Parses the arguments after the program's name.
pub fn parse(rows: &'static [Row], args: impl IntoIterator<Item = OsString>) -> Result<Request, Failure> {
    let mut parser = Parser::from_args(args);
    match next(&mut parser)? {
        None => {
            let message = super::help::help(rows, Topic::All).trim_end().to_owned();
            Err(Failure { exit: Exit::Usage, message })
        }
        Some(Word::Flag(name)) if name == "help" => Ok(Request::Help(Topic::All)),
        Some(Word::Flag(name)) if name == "version" => Ok(Request::Version),
        Some(Word::Short(c)) => Err(unknown(c)),
        // `dts --config FILE` is `dts run --config FILE`.
        Some(Word::Flag(name)) => match find(rows, "run")?.commands {
            Some([run, ..]) => command(run, parser, Some(name)),
            _ => Err(Failure::usage("the command is missing; see `dts --help`")),
        },
        Some(Word::Value(word)) if word == "help" => help(rows, parser),
        Some(Word::Value(word)) => {
            let row = find(rows, &word.to_string_lossy())?;
            let commands = row.commands.unwrap_or_default();
            match commands {
                [only] if !row.is_group() => command(only, parser, None),
                _ => match action(row, &mut parser)? {
                    Some(found) => command(found, parser, None),
                    None => Ok(Request::Help(Topic::Group(*row))),
                },
            }
        }
    }
}

/// `dts help`, `dts help run`, `dts help spool stats`.
fn help(rows: &'static [Row], mut parser: Parser) -> Result<Request, Failure> {
    let topic = match next(&mut parser)? {
        Some(Word::Value(word)) => {
            let row = find(rows, &word.to_string_lossy())?;
            match row.commands {
                Some([only]) if !row.is_group() => Topic::Command(only),
                _ => match next(&mut parser)? {
                    Some(Word::Value(word)) => Topic::Command(find_action(row, &word.to_string_lossy())?),
                    _ => Topic::Group(*row),
                },
            }
        }
        _ => Topic::All,
    };
    Ok(Request::Help(topic))
}

/// The row of `word`, which must be compiled in.
fn find(rows: &'static [Row], word: &str) -> Result<&'static Row, Failure> {
    let Some(row) = rows.iter().find(|row| row.name == word) else {
        let hint = match nearest(word, rows.iter().map(|row| row.name)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "see `dts --help`".to_owned(),
        };
        return Err(Failure::usage(format!("unknown command `{}`; {hint}", word.escape_debug())));
    };
    if row.commands.is_none() {
        let features = row.features.join(",");
        return Err(Failure::usage(format!(
            "`dts {word}` is not compiled in: rebuild with `--features {features}`"
        )));
    }
    Ok(row)
}

/// The action after a group's name; `None` asks for help.
fn action(row: &'static Row, parser: &mut Parser) -> Result<Option<&'static Command>, Failure> {
    match next(parser)? {
        Some(Word::Flag(name)) if name == "help" => Ok(None),
        Some(Word::Value(word)) => find_action(row, &word.to_string_lossy()).map(Some),
        _ => Err(Failure::usage(format!("`dts {}` needs one of: {}", row.name, actions(row).join(", ")))),
    }
}

fn find_action(row: &'static Row, word: &str) -> Result<&'static Command, Failure> {
    let commands = row.commands.unwrap_or_default();
    let names = actions(row);
    match names.iter().position(|name| *name == word) {
        Some(at) => commands.get(at).ok_or_else(|| Failure::usage("see `dts --help`")),
        None => {
            let hint = match nearest(word, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are: {}", names.join(", ")),
            };
            Err(Failure::usage(format!("unknown action `{} {}`; {hint}", row.name, word.escape_debug())))
        }
    }
}

/// The second words of a group.
fn actions(row: &Row) -> Vec<&'static str> {
    let commands = row.commands.unwrap_or_default();
    commands
        .iter()
        .map(|command| command.name.split_once(' ').map_or(command.name, |(_, word)| word))
        .collect()
}

/// The rest of the line, for `command`. `first` is a flag that was read already.
fn command(command: &'static Command, mut parser: Parser, first: Option<String>) -> Result<Request, Failure> {
    let mut parsed = Parsed { command, values: Vec::new() };
    let mut word = first.map(Word::Flag);
    loop {
        let flag = match word.take().map_or_else(|| next(&mut parser), |word| Ok(Some(word)))? {
            None => break,
            Some(Word::Flag(name)) if name == "help" => return Ok(Request::Help(Topic::Command(command))),
            Some(Word::Flag(name)) => flag(command, &name)?,
            Some(Word::Short(c)) => {
                command.flags.iter().find(|flag| flag.short == Some(c)).ok_or_else(|| unknown(c))?
            }
            Some(Word::Value(value)) => {
                let Some(operand) = &command.operand else {
                    let value = value.to_string_lossy();
                    let message = format!("`dts {}` takes no `{}`", command.name, value.escape_debug());
                    return Err(usage(command, message));
                };
                keep(&mut parsed, operand, Some(value))?;
                continue;
            }
        };
        let value =
            match flag.value {
                Value::Switch => None,
                _ => Some(parser.value().map_err(|_| {
                    usage(command, format!("`--{}` needs a {}", flag.name, flag.value.label()))
                })?),
            };
        keep(&mut parsed, flag, value)?;
    }
    if let Some(missing) =
        command.flags.iter().chain(&command.operand).find(|flag| flag.required && !parsed.is_set(flag.name))
    {
        let what = super::help::flag(command, missing);
        return Err(usage(command, format!("`dts {}` needs `{what}`", command.name)));
    }
    Ok(Request::Command(parsed))
}

fn unknown(short: char) -> Failure {
    Failure::usage(format!("unknown flag `-{short}`; see `dts --help`"))
}

fn flag(command: &'static Command, name: &str) -> Result<&'static Flag, Failure> {
    command.flags.iter().find(|flag| flag.name == name).ok_or_else(|| {
        let names = command.flags.iter().map(|flag| flag.name).chain(["help"]);
        let hint = match nearest(name, names) {
            Some(near) => format!("did you mean `--{near}`?"),
            None => format!("see `dts {} --help`", command.name),
        };
        Failure::usage(format!("unknown flag `--{}`; {hint}", name.escape_debug()))
    })
}

/// Checks a value and keeps it.
fn keep(parsed: &mut Parsed, flag: &'static Flag, value: Option<OsString>) -> Result<(), Failure> {
    let command = parsed.command;
    let what = super::help::flag(command, flag);
    if parsed.is_set(flag.name) && !flag.repeated {
        return Err(usage(command, format!("`{what}` is given twice")));
    }
    let given = match (flag.value, value) {
        (Value::Path(_), Some(value)) if !value.is_empty() => Given::Path(value),
        (Value::Switch, _) => Given::Switch,
        (kind, value) => {
            let text = value.unwrap_or_default().into_string();
            let text = text.map_err(|_| usage(command, format!("the value of `{what}` is not UTF-8")))?;
            let wrong = |expected: &str| {
                let found = text.escape_debug();
                usage(command, format!("expected {expected} for `{what}`, found `{found}`"))
            };
            match kind {
                Value::Number(_) => Given::Number(text.parse().map_err(|_| wrong("a whole number"))?),
                Value::OneOf(_, words) if !words.contains(&text.as_str()) => {
                    let expected = format!("one of {}", words.join(", "));
                    return Err(match nearest(&text, words.iter().copied()) {
                        Some(near) => wrong(&format!("{expected} (did you mean `{near}`?)")),
                        None => wrong(&expected),
                    });
                }
                _ if text.is_empty() => return Err(wrong("something")),
                _ => Given::Text(text),
            }
        }
    };
    parsed.values.push((flag.name, given));
    Ok(())
}

fn usage(command: &Command, message: String) -> Failure {
    Failure::usage(format!("{message}; see `dts {} --help`", command.name))
}
