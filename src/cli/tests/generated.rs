//! What is generated from the table: completions and the manual.

use super::*;
use crate::cli::{completions, man};

#[test]
fn completions_have_every_command_flag_and_word() {
    for shell in ["bash", "zsh", "fish"] {
        let script = completions::script(COMMANDS, shell).unwrap();
        for command in present() {
            for word in command.name.split(' ') {
                assert!(script.contains(word), "{shell}: {}", command.name);
            }
            for flag in command.flags {
                let long =
                    if shell == "fish" { format!("-l {}", flag.name) } else { format!("--{}", flag.name) };
                assert!(script.contains(&long), "{shell}: {} {long}", command.name);
                if let Value::OneOf(_, words) = flag.value {
                    assert!(script.contains(&words.join(" ")), "{shell}: {} {long}", command.name);
                }
            }
        }
    }
    assert!(completions::script(COMMANDS, "tcsh").is_none());
}

/// Asks a real bash what it would offer.
#[test]
fn bash_completes() {
    let script = completions::script(COMMANDS, "bash").unwrap();
    let offered = |words: &str| {
        let ask = format!(
            "{script}\nCOMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _dts; echo \"${{COMPREPLY[*]}}\""
        );
        match std::process::Command::new("bash").args(["-c", &ask]).output() {
            Ok(output) => {
                assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
                Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
            }
            Err(_) => None,
        }
    };
    let Some(commands) = offered("dts ''") else {
        eprintln!("skipped: there is no bash here");
        return;
    };
    assert!(commands.contains("run") && commands.contains("check"), "{commands}");
    assert_eq!(offered("dts run --log-f").as_deref(), Some("--log-format"));
    assert_eq!(offered("dts run --log-level w").as_deref(), Some("warn"));
    assert_eq!(offered("dts --log-level de").as_deref(), Some("debug"));
    assert_eq!(offered("dts completions z").as_deref(), Some("zsh"));
    if cfg!(all(feature = "cmd-edge", feature = "spool")) {
        assert_eq!(offered("dts spool st").as_deref(), Some("stats"));
        assert_eq!(offered("dts spool peek --li").as_deref(), Some("--limit"));
    }
}

#[test]
fn the_manual_has_every_command_and_no_stray_requests() {
    let page = man::page(COMMANDS);
    for command in present() {
        let heading = format!(".SS dts {}", command.name.replace('-', "\\-"));
        assert!(page.contains(&heading), "{heading}");
        for flag in command.flags {
            assert!(page.contains(&format!("\\-\\-{}", flag.name.replace('-', "\\-"))), "{}", flag.name);
        }
    }
    let requests = [".TH", ".SH", ".SS", ".TP", ".PP", ".B", ".I", ".br", ".nf", ".fi", ".RS", ".RE"];
    for line in page.lines().filter(|line| line.starts_with(['.', '\''])) {
        let request = line.split(' ').next().unwrap_or_default();
        assert!(requests.contains(&request), "{line}");
    }
}
