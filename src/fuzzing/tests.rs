//! The kept inputs, without a fuzzer.

use std::path::Path;

use super::TARGETS;

fn corpus(target: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

fn replay(target: &str) {
    let (_, run) = TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let mut files: Vec<_> =
        std::fs::read_dir(corpus(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 5, "the corpus of {target} is missing");
    for file in files {
        let data = std::fs::read(&file).unwrap();
        // A panic names its input.
        let ran = std::panic::catch_unwind(|| run(&data));
        assert!(ran.is_ok(), "fuzz target {target}: {} fails", file.display());
    }
}

macro_rules! replays {
    ($($target:ident)*) => {$(
        #[test]
        fn $target() {
            replay(stringify!($target));
        }
    )*};
}

replays! { config row frame mqtt_server mqtt_client http spool token binlog_file binlog_event binlog_json }

#[test]
fn every_target_has_its_file_its_corpus_and_its_replay() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in fuzz/Cargo.toml");
        let target = std::fs::read_to_string(root.join(format!("fuzz/targets/{name}.rs"))).unwrap();
        assert!(target.contains(&format!("dts::fuzzing::{name}(data)")), "{name}");
        assert!(include_str!("tests.rs").contains(&format!(" {name} ")), "{name} is not replayed");
    }
}
