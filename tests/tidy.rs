//! House rules as code. Each rule names the file and line that breaks it and says what to do instead.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, ending: &str, out: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, ending, out);
            } else if path.to_string_lossy().ends_with(ending) {
                out.push(path);
            }
        }
    }
    let mut out = Vec::new();
    walk(&root().join(folder), ending, &mut out);
    out.sort();
    out
}

fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The lines of a file outside its test module (which stands at the end), numbered from 1.
fn shipped_lines(text: &str) -> Vec<(usize, &str)> {
    let end = text.lines().position(|l| l.trim_start().starts_with("#[cfg(test)]")).unwrap_or(usize::MAX);
    let tests_follow = text.lines().nth(end.saturating_add(1)).is_some_and(|l| l.contains("mod tests {"));
    let take = if tests_follow { end } else { usize::MAX };
    text.lines().take(take).enumerate().map(|(i, l)| (i + 1, l)).collect()
}

fn is_test_file(path: &Path) -> bool {
    let name = name(path);
    // `model.rs`: what a random test compares with; compiled for tests only.
    ["tests.rs", "behaviour.rs", "/model.rs"].iter().any(|end| name.ends_with(end))
        || name.contains("/tests/")
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

#[test]
fn a_feature_is_chosen_only_where_the_design_says() {
    let mut wrong = Vec::new();
    for path in files("src", ".rs") {
        let file = name(&path);
        let allowed = ["src/registry.rs", "src/lib.rs", "src/main.rs"].contains(&file.as_str())
            || file.ends_with("/mod.rs");
        for (n, line) in shipped_lines(&fs::read_to_string(&path).unwrap()) {
            if !allowed && !is_comment(line) && line.contains("cfg(") && line.contains("feature") {
                wrong.push(format!("{file}:{n}: {}", line.trim()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "cfg(feature) stands only in registry.rs, lib.rs, main.rs and mod.rs:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_clock_is_read_only_in_runtime() {
    let banned = [
        "Instant::now",
        "SystemTime::now",
        "thread::sleep",
        "clock_gettime",
        "thread_rng",
        "fastrand::Rng::new()",
    ];
    let mut wrong = Vec::new();
    for path in files("src", ".rs") {
        let file = name(&path);
        if file.starts_with("src/runtime/") || is_test_file(&path) {
            continue;
        }
        for (n, line) in shipped_lines(&fs::read_to_string(&path).unwrap()) {
            if !is_comment(line) && banned.iter().any(|b| line.contains(b)) {
                wrong.push(format!("{file}:{n}: {}", line.trim()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "time and randomness are arguments; the clock is in runtime/:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn nothing_unwraps_outside_tests() {
    let banned = [".unwrap()", ".expect(", "panic!(", "unimplemented!(", "todo!(", "unreachable!("];
    let mut wrong = Vec::new();
    for path in files("src", ".rs") {
        if is_test_file(&path) {
            continue;
        }
        for (n, line) in shipped_lines(&fs::read_to_string(&path).unwrap()) {
            if !is_comment(line) && banned.iter().any(|b| line.contains(b)) {
                wrong.push(format!("{}:{n}: {}", name(&path), line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "return an error instead:\n{}", wrong.join("\n"));
}

#[test]
fn files_stay_within_their_budget() {
    // A file over the budget stands here with its reason.
    let excused: [(&str, &str); 0] = [];
    let mut sizes = Vec::new();
    let mut wrong = Vec::new();
    for path in files("src", ".rs") {
        if is_test_file(&path) {
            continue;
        }
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        sizes.push(lines);
        let file = name(&path);
        if lines > 900 && !excused.iter().any(|(f, _)| *f == file) {
            wrong.push(format!("{file}: {lines} lines"));
        }
    }
    sizes.sort_unstable();
    assert!(wrong.is_empty(), "split by concept, or excuse it here with the reason:\n{}", wrong.join("\n"));
    assert!(sizes[sizes.len() / 2] <= 300, "median of lines a file is {}", sizes[sizes.len() / 2]);
    assert!(
        sizes[sizes.len() * 9 / 10] <= 800,
        "90th percentile of lines a file is {}",
        sizes[sizes.len() * 9 / 10]
    );
}

#[test]
fn every_feature_stands_in_features_md_and_the_registry_agrees() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let table = fs::read_to_string(root().join("features.md")).unwrap();
    let section = manifest.split("[features]").nth(1).unwrap().split("\n[").next().unwrap();
    let features: Vec<&str> = section
        .lines()
        .filter(|l| !l.starts_with('#') && l.contains('='))
        .map(|l| l.split('=').next().unwrap().trim())
        .filter(|f| *f != "default")
        .collect();
    assert!(features.len() > 10);
    for feature in &features {
        assert!(table.contains(&format!("| `{feature}` |")), "features.md has no row for `{feature}`");
    }
    for line in table.lines().filter(|l| l.starts_with("| `")) {
        let feature = line.trim_start_matches("| `").split('`').next().unwrap();
        assert!(
            features.contains(&feature),
            "features.md has a row for `{feature}`, Cargo.toml has no such feature"
        );
    }
    let rows = dts::registry::SOURCES.iter().map(|r| ("source", r.name, r.feature));
    let rows = rows.chain(dts::registry::SINKS.iter().map(|r| ("sink", r.name, r.feature)));
    for (kind, name, feature) in rows {
        // `mysql-binlog` has the feature and the folder of `mysql`.
        let name = name.split('-').next().unwrap();
        assert_eq!(feature, format!("{kind}-{name}"));
        assert!(features.contains(&feature), "Cargo.toml has no feature `{feature}`");
        assert!(root().join(format!("src/{kind}/{name}/mod.rs")).exists(), "src/{kind}/{name}/ is missing");
    }
}

#[test]
fn every_metric_that_is_used_has_a_name_in_the_table() {
    let table = fs::read_to_string(root().join("src/telemetry/names.rs")).unwrap();
    let mut missing = Vec::new();
    for path in files("src", ".rs") {
        let text = fs::read_to_string(&path).unwrap();
        for name in text.split('"').skip(1).step_by(2).filter(|s| s.starts_with("dts_")) {
            let is_metric = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            let called =
                ["count(", "gauge(", "observe("].iter().any(|f| text.contains(&format!("{f}\"{name}\"")));
            if is_metric && called && !table.contains(&format!("\"{name}\"")) {
                missing.push(format!("{}: {name}", self::name(&path)));
            }
        }
    }
    assert!(missing.is_empty(), "add them to src/telemetry/names.rs:\n{}", missing.join("\n"));
}

#[test]
fn nothing_names_this_machine_or_a_registry() {
    let mut wrong = Vec::new();
    for (folder, ending) in [
        ("src", ".rs"),
        ("tests", ""),
        ("docs", ".md"),
        ("cross", ""),
        ("bench", ""),
        ("edge-config", ""),
        (".ci", ""),
    ] {
        for path in files(folder, ending) {
            let Ok(text) = fs::read_to_string(&path) else { continue };
            for (n, line) in text.lines().enumerate() {
                let hosts = ["crates.".to_owned() + "io/", "pypi.".to_owned() + "org"];
                let folders = ["/root".to_owned() + "/", "/work".to_owned() + "/"];
                // A path that begins there, not one that has such a folder within.
                let begins = |folder: &String| {
                    line.match_indices(folder.as_str()).any(|(at, _)| {
                        line[..at].chars().next_back().is_none_or(|c| " \t\"'=:(`".contains(c))
                    })
                };
                if hosts.iter().any(|h| line.contains(h)) || folders.iter().any(begins) {
                    wrong.push(format!("{}:{}: {}", name(&path), n + 1, line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "no paths of a machine, no hosts of registries:\n{}", wrong.join("\n"));
}

#[test]
fn tests_do_not_assert_on_time() {
    let mut wrong = Vec::new();
    for path in files("src", ".rs").into_iter().chain(files("tests", ".rs")) {
        for (n, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            if line.contains("assert") && line.contains("elapsed()") && !line.contains("contains") {
                wrong.push(format!("{}:{}: {}", name(&path), n + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "times belong in bench/:\n{}", wrong.join("\n"));
}
