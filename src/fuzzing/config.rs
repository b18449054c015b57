//! YAML of a user, or of whoever wrote the file.

use std::path::Path;

use crate::config::{self, Outside};

const SECRET: &str = "hunter2-is-no-word-of-a-config";

/// `data` is the file.
pub fn config(data: &[u8]) {
    let outside = Outside {
        variable: |name| matches!(name, "SECRET" | "HOME").then(|| SECRET.into()),
        file: |_, max| Ok(SECRET.as_bytes().get(..max).unwrap_or(SECRET.as_bytes()).to_vec()),
    };
    match config::read(data, Path::new("dts.yaml"), Path::new("/etc/dts"), outside) {
        Ok(plan) => {
            assert!(!plan.sources.is_empty() && !plan.sinks.is_empty());
            for source in &plan.sources {
                source.config.mistake();
            }
        }
        Err(mistakes) => {
            let lines = data.split(|b| matches!(b, b'\n' | b'\r')).count() as u64 + 1;
            assert!(!mistakes.list.is_empty());
            for mistake in &mistakes.list {
                assert!(u64::from(mistake.place.line) <= lines, "{mistake:?} in {lines} lines");
                assert!(!mistake.message.is_empty());
            }
            let said = mistakes.to_string();
            assert!(
                !said.contains(SECRET) || has(data, SECRET.as_bytes()),
                "a variable's value is said: {said}"
            );
        }
    }
}

fn has(data: &[u8], word: &[u8]) -> bool {
    data.windows(word.len()).any(|w| w == word)
}
