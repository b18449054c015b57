//! `--help`, from the table.

use super::parse::Topic;
use super::table::{Command, EXITS, Flag, Row, Value};

/// Widest line of help.
pub const WIDTH: usize = 100;
/// Where descriptions begin.
const INDENT: usize = 26;

/// The text of `topic`, whole lines.
pub fn help(rows: &[Row], topic: Topic) -> String {
    match topic {
        Topic::All => all(rows),
        Topic::Group(row) => group(row),
        Topic::Command(command) => one(command),
    }
}

fn all(rows: &[Row]) -> String {
    let mut out =
        format!("dts {}: moves data changes to where they are needed, and loses none\n\n", version());
    out.push_str("Usage: dts COMMAND [OPTIONS]\n       dts --config FILE [OPTIONS]      the same as `dts run`\n\nCommands:\n");
    for command in rows.iter().filter_map(|row| row.commands).flatten() {
        entry(&mut out, command.name, command.about);
    }
    entry(&mut out, "help [COMMAND]", "More about a command");
    let absent: Vec<_> = rows.iter().filter(|row| row.commands.is_none()).map(|row| row.name).collect();
    if !absent.is_empty() {
        paragraph(&mut out, &format!("\nNot compiled in: {}.", absent.join(", ")), 0);
    }
    out.push_str("\nOptions:\n");
    entry(&mut out, "-h, --help", "Show this, or more about a command");
    entry(&mut out, "-V, --version", "Show the version");
    exits(&mut out, EXITS);
    out
}

fn group(row: Row) -> String {
    let mut out = format!("Usage: dts {} ACTION [OPTIONS]\n\nActions:\n", row.name);
    for command in row.commands.unwrap_or_default() {
        entry(&mut out, command.name, command.about);
    }
    paragraph(&mut out, &format!("\n`dts {} ACTION --help` says more about one.", row.name), 0);
    out
}

fn one(command: &Command) -> String {
    let mut out = String::new();
    paragraph(&mut out, &format!("dts {}: {}", command.name, command.about), 0);
    out.push('\n');
    paragraph(&mut out, &format!("Usage: {}", usage(command)), 7);
    for text in command.detail.split("\n\n").filter(|text| !text.is_empty()) {
        out.push('\n');
        paragraph(&mut out, text, 0);
    }
    out.push_str("\nOptions:\n");
    for item in command.operand.iter().chain(command.flags) {
        entry(&mut out, &flag(command, item), &flag_help(item));
    }
    entry(&mut out, "-h, --help", "Show this");
    if !command.examples.is_empty() {
        out.push_str("\nExamples:\n");
        for (what, line) in command.examples {
            out.push_str(&format!("  # {what}\n  {line}\n"));
        }
    }
    // Those of every command, in its own words; then those that only it has.
    let common = EXITS.iter().filter(|(code, _)| *code <= 2);
    let own = |code: u8| command.exits.iter().find(|(own, _)| *own == code);
    let common = common.map(|exit| *own(exit.0).unwrap_or(exit));
    let special = command.exits.iter().filter(|(code, _)| *code > 2).copied();
    exits(&mut out, &common.chain(special).collect::<Vec<_>>());
    out
}

/// The version of this program.
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// `dts run --config FILE [--log-level LEVEL]`
pub fn usage(command: &Command) -> String {
    let mut out = format!("dts {}", command.name);
    for item in command.flags.iter().chain(&command.operand) {
        let mut text = flag(command, item);
        if item.repeated {
            text.push('…');
        }
        out.push_str(&if item.required { format!(" {text}") } else { format!(" [{text}]") });
    }
    out
}

/// `--config FILE`, or `DATABASE` for an operand.
pub fn flag(command: &Command, flag: &Flag) -> String {
    let operand = command.operand.as_ref().is_some_and(|operand| operand.name == flag.name);
    match flag.value {
        _ if operand => flag.value.label().to_owned(),
        Value::Switch => match flag.short {
            Some(short) => format!("-{short}, --{}", flag.name),
            None => format!("--{}", flag.name),
        },
        value => format!("--{} {}", flag.name, value.label()),
    }
}

/// What a flag does, with the words that it takes.
pub fn flag_help(flag: &Flag) -> String {
    match flag.value {
        Value::OneOf(_, words) => format!("{}: {}", flag.help, words.join(", ")),
        _ => flag.help.to_owned(),
    }
}

fn exits(out: &mut String, exits: &[(u8, &str)]) {
    out.push_str("\nExit status:\n");
    for (code, meaning) in exits {
        entry(out, &code.to_string(), meaning);
    }
}

/// A name and its description beside it, or below it if the name is long.
fn entry(out: &mut String, name: &str, text: &str) {
    if name.len() + 4 > INDENT {
        out.push_str(&format!("  {name}\n{:INDENT$}", ""));
    } else {
        out.push_str(&format!("  {name:<width$}", width = INDENT - 2));
    }
    wrapped(out, text, INDENT, INDENT);
}

fn paragraph(out: &mut String, text: &str, indent: usize) {
    let text = match text.strip_prefix('\n') {
        Some(text) => {
            out.push('\n');
            text
        }
        None => text,
    };
    wrapped(out, text, 0, indent);
}

/// Words of `text`, from column `at` on, further lines from `indent` on.
fn wrapped(out: &mut String, text: &str, mut at: usize, indent: usize) {
    let mut first = true;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if !first && at + 1 + width > WIDTH {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            at = indent;
        } else if !first {
            out.push(' ');
            at += 1;
        }
        out.push_str(word);
        at += width;
        first = false;
    }
    out.push('\n');
}
