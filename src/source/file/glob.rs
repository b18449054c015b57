//! Paths with `*` and `?`.

use std::path::{Path, PathBuf};

/// Most names looked at in one folder.
const MAX_ENTRIES: usize = 10_000;

/// The paths that `pattern` matches now, sorted. A pattern without wildcards is itself.
pub(super) fn expand(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let name = part.as_os_str().to_string_lossy();
        if !is_pattern(&name) {
            for path in &mut found {
                path.push(part);
            }
            continue;
        }
        found = found.iter().flat_map(|dir| matching(dir, &name)).collect();
    }
    found.sort();
    found
}

/// The part of `pattern` before the first wildcard: the folder to be watched.
pub(super) fn fixed_folder(pattern: &Path) -> PathBuf {
    let mut folder = PathBuf::new();
    for part in pattern.parent().into_iter().flat_map(Path::components) {
        if is_pattern(&part.as_os_str().to_string_lossy()) {
            break;
        }
        folder.push(part);
    }
    folder
}

fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?'])
}

fn matching(dir: &Path, pattern: &str) -> Vec<PathBuf> {
    let folder = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let names = entries.flatten().take(MAX_ENTRIES).map(|e| e.file_name());
    names
        .filter(|n| matches(pattern.as_bytes(), n.to_string_lossy().as_bytes()))
        .map(|n| dir.join(n))
        .collect()
}

/// `*` is any run of bytes, `?` any one. A leading dot must be named. Linear in the lengths' product.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((sp, sn)) => {
                    star = Some((sp, sn + 1));
                    p = sp + 1;
                    n = sn + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_within_a_name() {
        let cases = [
            ("*.log", "a.log", true),
            ("*.log", "a.log.1", false),
            ("*.log", ".log", false),
            ("a?c*", "abcdef", true),
            ("a*b*c", "aXXbYYbZZc", true),
            ("a*b*c", "aXXbYYbZZ", false),
            ("*", "x", true),
            ("a", "ab", false),
        ];
        for (pattern, name, want) in cases {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), want, "{pattern} {name}");
        }
    }

    #[test]
    fn the_watched_folder_is_the_part_before_the_first_wildcard() {
        assert_eq!(fixed_folder(Path::new("/var/*/app/x.log")), Path::new("/var"));
        assert_eq!(fixed_folder(Path::new("/var/log/*.log")), Path::new("/var/log"));
    }
}
