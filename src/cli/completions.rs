//! `dts completions SHELL`, from the table.

use super::output::{Failure, print};
use super::table::{Command, Flag, Row, Value};

const SHELLS: &[&str] = &["bash", "zsh", "fish"];

pub(super) static COMMANDS: &[Command] = &[Command {
    name: "completions",
    about: "Print the completions of a shell",
    detail: "",
    operand: Some(Flag::one_of("shell", "SHELL", SHELLS, "The shell").required()),
    flags: &[],
    examples: &[
        ("bash", "dts completions bash > ~/.local/share/bash-completion/completions/dts"),
        ("zsh, with ~/.zfunc in fpath", "dts completions zsh > ~/.zfunc/_dts"),
        ("fish", "dts completions fish > ~/.config/fish/completions/dts.fish"),
    ],
    exits: &[],
    main: |parsed| match script(super::COMMANDS, parsed.text("shell").unwrap_or_default()) {
        Some(script) => print(&script),
        None => Err(Failure::usage("unknown shell")),
    },
}];

/// The completions for `shell`, if it is one that dts knows.
pub fn script(rows: &[Row], shell: &str) -> Option<String> {
    match shell {
        "bash" => Some(bash(rows)),
        "zsh" => Some(zsh(rows)),
        "fish" => Some(fish(rows)),
        _ => None,
    }
}

fn present(rows: &[Row]) -> impl Iterator<Item = (&Row, &'static [Command])> {
    rows.iter().filter_map(|row| row.commands.map(|commands| (row, commands)))
}

/// The last word of a command's name.
fn action(command: &Command) -> &'static str {
    command.name.rsplit(' ').next().unwrap_or(command.name)
}

fn bash(rows: &[Row]) -> String {
    let (mut find, mut values, mut words) = (String::new(), String::new(), String::new());
    let mut first = vec!["help", "--help", "--version"];
    for (row, commands) in present(rows) {
        first.push(row.name);
        find.push_str(&format!("            /{0}) command=\"{0}\" ;;\n", row.name));
        if row.is_group() {
            let actions: Vec<_> = commands.iter().map(action).collect();
            words.push_str(&format!("        \"{}\") words=\"{} --help\" ;;\n", row.name, actions.join(" ")));
        }
        for command in commands {
            if row.is_group() {
                find.push_str(&format!(
                    "            {}/{}) command=\"{}\" ;;\n",
                    row.name,
                    action(command),
                    command.name
                ));
            }
            let mut flags: Vec<_> = command.flags.iter().map(|flag| format!("--{}", flag.name)).collect();
            flags.push("--help".to_owned());
            let files = match command.operand.map(|operand| operand.value) {
                Some(Value::OneOf(_, choices)) => {
                    flags.extend(choices.iter().map(|&word| word.to_owned()));
                    ""
                }
                Some(Value::Path(_)) => "; files=1",
                _ => "",
            };
            words.push_str(&format!(
                "        \"{}\") words=\"{}\"{files} ;;\n",
                command.name,
                flags.join(" ")
            ));
            for flag in command.flags {
                let reply = match flag.value {
                    Value::Switch => continue,
                    Value::Path(_) => "compgen -f --".to_owned(),
                    Value::OneOf(_, choices) => format!("compgen -W \"{}\" --", choices.join(" ")),
                    Value::Text(_) | Value::Number(_) => "true".to_owned(),
                };
                values.push_str(&format!(
                    "        \"{} --{}\") mapfile -t COMPREPLY < <({reply} \"$cur\"); return ;;\n",
                    command.name, flag.name
                ));
            }
        }
    }
    format!(
        r#"# Completions of dts for bash, made by `dts completions bash`.
_dts() {{
    local cur="${{COMP_WORDS[COMP_CWORD]}}" prev="${{COMP_WORDS[COMP_CWORD-1]}}"
    local command="" words="" files="" i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$command/${{COMP_WORDS[i]}}" in
{find}        esac
    done
    # dts --config FILE is dts run --config FILE.
    [[ -z "$command" && $COMP_CWORD -gt 1 && "${{COMP_WORDS[1]}}" == -* ]] && command=run
    case "$command $prev" in
{values}    esac
    case "$command" in
        "") words="{}" ;;
{words}    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur"; [[ -n "$files" ]] && compgen -f -- "$cur")
}}
complete -o filenames -F _dts dts
"#,
        first.join(" ")
    )
}

/// For a description inside single quotes and square brackets.
fn zsh_text(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('\'', "'\\''")
        .replace('[', "\\[")
        .replace(']', "\\]")
        .replace(':', "\\:")
}

fn zsh_value(value: Value) -> String {
    match value {
        Value::Switch => String::new(),
        Value::Path(label) => format!(":{label}:_files"),
        Value::OneOf(label, words) => format!(":{label}:({})", words.join(" ")),
        Value::Text(label) | Value::Number(label) => format!(":{label}: "),
    }
}

fn zsh_arguments(command: &Command, indent: &str) -> String {
    let mut out = "_arguments".to_owned();
    for flag in command.flags {
        let (help, value) = (zsh_text(flag.help), zsh_value(flag.value));
        let star = if flag.repeated { "*" } else { "" };
        out.push_str(&format!(" \\\n{indent}    '{star}--{}[{help}]{value}'", flag.name));
    }
    if let Some(operand) = &command.operand {
        out.push_str(&format!(
            " \\\n{indent}    '{}'",
            zsh_value(operand.value).replacen(':', if operand.repeated { "*:" } else { "1:" }, 1)
        ));
    }
    out.push_str(&format!(" \\\n{indent}    '--help[More about this command]'"));
    out
}

fn zsh(rows: &[Row]) -> String {
    let (mut first, mut cases) = (String::new(), String::new());
    for (row, commands) in present(rows) {
        let about = match commands {
            [only] => only.about.to_owned(),
            _ => commands.iter().map(action).collect::<Vec<_>>().join(", "),
        };
        first.push_str(&format!("        '{}:{}'\n", row.name, zsh_text(&about)));
        if !row.is_group() {
            for command in commands {
                cases.push_str(&format!(
                    "        {})\n            {}\n            ;;\n",
                    row.name,
                    zsh_arguments(command, "            ")
                ));
            }
            continue;
        }
        let actions: Vec<_> =
            commands.iter().map(|c| format!("'{}:{}'", action(c), zsh_text(c.about))).collect();
        cases.push_str(&format!(
            "        {})\n            if (( CURRENT == 2 )); then\n                local -a actions\n                \
             actions=({})\n                _describe action actions\n                return\n            fi\n            \
             shift words; (( CURRENT-- ))\n            case \"$words[1]\" in\n",
            row.name,
            actions.join(" ")
        ));
        for command in commands {
            cases.push_str(&format!(
                "                {})\n                    {}\n                    ;;\n",
                action(command),
                zsh_arguments(command, "                    ")
            ));
        }
        cases.push_str("            esac\n            ;;\n");
    }
    format!(
        r#"#compdef dts
# Completions of dts for zsh, made by `dts completions zsh`.
_dts() {{
    local -a commands
    commands=(
{first}        'help:More about a command'
    )
    if (( CURRENT == 2 )); then
        _describe command commands
        _arguments '--help[Show help]' '--version[Show the version]'
        return
    fi
    # dts --config FILE is dts run --config FILE.
    if [[ "$words[2]" == -* ]]; then
        words[1]=run
    else
        shift words; (( CURRENT-- ))
    fi
    case "$words[1]" in
{cases}    esac
}}
_dts "$@"
"#
    )
}

fn fish_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

fn fish(rows: &[Row]) -> String {
    let mut out = "# Completions of dts for fish, made by `dts completions fish`.\n\
                   complete -c dts -f\n\
                   complete -c dts -n __fish_use_subcommand -a help -d 'More about a command'\n\
                   complete -c dts -l help -d 'Show help'\n\
                   complete -c dts -n __fish_use_subcommand -l version -d 'Show the version'\n"
        .to_owned();
    for (row, commands) in present(rows) {
        if row.is_group() {
            let actions: Vec<_> = commands.iter().map(action).collect();
            out.push_str(&format!(
                "complete -c dts -n __fish_use_subcommand -a {} -d '{}'\n",
                row.name,
                actions.join(", ")
            ));
            for command in commands {
                out.push_str(&format!(
                    "complete -c dts -n '__fish_seen_subcommand_from {}; and not __fish_seen_subcommand_from {}' -a {} -d '{}'\n",
                    row.name, actions.join(" "), action(command), fish_text(command.about)
                ));
            }
        }
        for command in commands {
            let seen = format!(
                "__fish_seen_subcommand_from {}",
                command.name.replace(' ', "; and __fish_seen_subcommand_from ")
            );
            if !row.is_group() {
                let about = fish_text(command.about);
                out.push_str(&format!(
                    "complete -c dts -n __fish_use_subcommand -a {} -d '{about}'\n",
                    row.name
                ));
            }
            for flag in command.flags {
                let value = match flag.value {
                    Value::Switch => String::new(),
                    Value::Path(_) => " -r -F".to_owned(),
                    Value::OneOf(_, words) => format!(" -x -a '{}'", words.join(" ")),
                    Value::Text(_) | Value::Number(_) => " -x".to_owned(),
                };
                let help = fish_text(flag.help);
                out.push_str(&format!("complete -c dts -n '{seen}' -l {}{value} -d '{help}'\n", flag.name));
            }
            match command.operand.map(|operand| operand.value) {
                Some(Value::Path(_)) => out.push_str(&format!("complete -c dts -n '{seen}' -F\n")),
                Some(Value::OneOf(_, words)) => {
                    out.push_str(&format!("complete -c dts -n '{seen}' -a '{}'\n", words.join(" ")));
                }
                _ => {}
            }
        }
    }
    // The shorthand of `run`.
    for command in present(rows).filter(|(row, _)| row.name == "run").flat_map(|(_, commands)| commands) {
        for flag in command.flags {
            let help = fish_text(flag.help);
            out.push_str(&format!(
                "complete -c dts -n __fish_use_subcommand -l {} -r -d '{help}'\n",
                flag.name
            ));
        }
    }
    out
}
