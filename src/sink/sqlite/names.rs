//! Names in SQL: quoting, and what a source's name is called here where it cannot be kept.

/// Quotes an identifier.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Whether a table name is ours or SQLite's.
pub(super) fn reserved(name: &str) -> bool {
    let starts =
        |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    starts("dts_") || starts("sqlite_") || name.eq_ignore_ascii_case("messages")
}

/// What a table or column of the source is called here: its own name if that is free, else with a
/// number behind it. A name that no SQL text can hold loses what cannot be held.
pub(super) fn choose(wanted: &str, taken: impl Fn(&str) -> bool) -> String {
    let base = if wanted.is_empty() { "unnamed".to_owned() } else { wanted.replace('\0', "_") };
    let numbered = (2u32..).map(|n| format!("{base}_{n}"));
    let mut names = std::iter::once(base.clone()).chain(numbered);
    names.find(|name| !taken(name)).unwrap_or(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_unless_they_cannot_be() {
        let free = |_: &str| false;
        assert_eq!(choose("readings", free), "readings");
        assert_eq!(choose("we\"ird table", free), "we\"ird table");
        assert_eq!(choose("", free), "unnamed");
        assert!(reserved("DTS_marks") && reserved("sqlite_stat1") && reserved("Messages"));
        assert!(!reserved("dt") && !reserved("größe"));
        assert_eq!(choose("a\0b", free), "a_b");
        assert_eq!(choose("größe", free), "größe");
        let taken = ["a", "a_2"];
        assert_eq!(choose("A", |n| taken.iter().any(|t| t.eq_ignore_ascii_case(n))), "A_3");
        assert_eq!(quote("a\"b"), "\"a\"\"b\"");
    }
}
