//! `dts schema`: the JSON Schema of the config.

use super::output::print;
use super::table::Command;

pub(super) static COMMANDS: &[Command] = &[Command {
    name: "schema",
    about: "Print the JSON Schema of the config",
    detail: "It describes every field of every connector that this build has: meaning, unit, default, cost. \
             Editors that know YAML check and complete configs with it.",
    operand: None,
    flags: &[],
    examples: &[(
        "For an editor: `# yaml-language-server: $schema=dts.schema.json`",
        "dts schema > dts.schema.json",
    )],
    exits: &[],
    main: |_| print(&format!("{:#}\n", crate::config::schema())),
}];
