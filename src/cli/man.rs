//! `dts man`: the manual page, from the table.

use super::help;
use super::output::print;
use super::table::{Command, EXITS, Flag, Row};

pub(super) static COMMANDS: &[Command] = &[Command {
    name: "man",
    about: "Print the manual page",
    detail: "",
    operand: None,
    flags: &[],
    examples: &[
        ("Read it", "dts man | man -l -"),
        ("Install it", "dts man > /usr/local/share/man/man1/dts.1"),
    ],
    exits: &[],
    main: |_| print(&page(super::COMMANDS)),
}];

/// The page, in man(7) macros.
pub fn page(rows: &[Row]) -> String {
    let mut out = format!(".TH DTS 1 \"\" \"dts {}\" \"User Commands\"\n", help::version());
    out.push_str(".SH NAME\ndts \\- moves data changes to where they are needed, and loses none\n");
    out.push_str(".SH SYNOPSIS\n");
    out.push_str(".B dts\n.I COMMAND\n[OPTIONS]\n.br\n.B dts \\-\\-config\n.I FILE\n[OPTIONS]\n");
    out.push_str(".SH DESCRIPTION\n");
    text(
        &mut out,
        "dts reads changes from the sources that its config names (on devices into a durable buffer) and writes \
         them to its sinks. A change that was acknowledged is delivered, or its loss is reported. Without a \
         command and with flags it does what `dts run` does.",
    );
    out.push_str(".SH COMMANDS\n");
    for command in rows.iter().filter_map(|row| row.commands).flatten() {
        out.push_str(&format!(".SS {}\n", escape(&help::usage(command))));
        text(&mut out, &format!("{}.", command.about));
        for paragraph in command.detail.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
            out.push_str(".PP\n");
            text(&mut out, paragraph);
        }
        for item in command.operand.iter().chain(command.flags) {
            flag(&mut out, command, item);
        }
        for (what, line) in command.examples {
            out.push_str(".PP\n");
            text(&mut out, &format!("{what}:"));
            out.push_str(&format!(".PP\n.RS 4\n.nf\n{}\n.fi\n.RE\n", escape(line)));
        }
        for (code, meaning) in command.exits {
            out.push_str(&format!(".PP\nExit status {code}: {}.\n", escape(meaning)));
        }
    }
    out.push_str(".SH EXIT STATUS\n");
    for (code, meaning) in EXITS {
        out.push_str(&format!(".TP\n.B {code}\n"));
        text(&mut out, meaning);
    }
    out.push_str(".SH ENVIRONMENT\n.TP\n.B NO_COLOR\nNo colours in the log, even on a terminal.\n");
    out.push_str(".TP\n.I others\nA config takes those that it names as ${NAME}.\n");
    out
}

fn flag(out: &mut String, command: &Command, item: &Flag) {
    out.push_str(&format!(".TP\n.B {}\n", escape(&help::flag(command, item))));
    text(out, &format!("{}.", help::flag_help(item)));
}

fn text(out: &mut String, text: &str) {
    out.push_str(&escape(text));
    out.push('\n');
}

/// Text that roff takes literally, in one line.
fn escape(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-").replace('`', "\\(ga").replace('\'', "\\(aq");
    // A dot at the beginning would be a request.
    if escaped.starts_with('.') { format!("\\&{escaped}") } else { escaped }
}
