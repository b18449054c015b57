//! Topic names and filters (MQTT 5.0, section 4.7).

/// Whether `name` may stand in a PUBLISH: not empty, at most 65,535 bytes, without wildcards and U+0000.
pub fn valid_name(name: &str) -> bool {
    valid_length(name) && !name.bytes().any(|b| matches!(b, b'+' | b'#' | 0))
}

/// Whether `filter` may stand in a SUBSCRIBE: wildcards fill whole levels, `#` is the last one.
/// A shared filter (`$share/…`) is judged by its inner filter and its share name.
pub fn valid_filter(filter: &str) -> bool {
    if let Some(shared) = filter.strip_prefix("$share/") {
        return shared.split_once('/').is_some_and(|(group, inner)| valid_name(group) && valid_plain(inner));
    }
    valid_plain(filter)
}

/// Whether `filter` is a shared subscription. dts has none: with one node order is worth more.
pub fn is_shared(filter: &str) -> bool {
    filter.starts_with("$share/")
}

/// Whether `filter` has wildcards.
pub fn has_wildcards(filter: &str) -> bool {
    filter.bytes().any(|b| matches!(b, b'+' | b'#'))
}

/// Whether the valid name `name` is in the valid filter `filter`. Shared filters match nothing, and a
/// filter that begins with a wildcard matches no name that begins with `$` [MQTT-4.7.2-1].
pub fn matches(filter: &str, name: &str) -> bool {
    if is_shared(filter) || (name.starts_with('$') && filter.starts_with(['+', '#'])) {
        return false;
    }
    let mut names = name.split('/');
    for want in filter.split('/') {
        if want == "#" {
            return true; // also the parent level: `a/#` matches `a`
        }
        match names.next() {
            Some(got) if want == "+" || want == got => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

fn valid_length(s: &str) -> bool {
    !s.is_empty() && s.len() <= usize::from(u16::MAX)
}

fn valid_plain(filter: &str) -> bool {
    let mut ended = false;
    valid_length(filter)
        && filter.split('/').all(|level| {
            let fits = !ended && (level == "+" || level == "#" || valid_name(level) || level.is_empty());
            ended = level == "#";
            fits
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "/", "a/b", "a//b", "$SYS/x", " ", "ü", "dts/v1/d/c"] {
            assert!(valid_name(good), "{good}");
        }
        for bad in ["", "a/+", "#", "a#b", "+", "a\0b"] {
            assert!(!valid_name(bad), "{bad}");
        }
        assert!(valid_name(&"x".repeat(65_535)));
        assert!(!valid_name(&"x".repeat(65_536)));
    }

    #[test]
    fn filters() {
        for good in
            ["#", "+", "a", "/", "a/#", "+/+", "/+", "a/+/b", "+/a/#", "a//#", "$share/g/a/#", "$share"]
        {
            assert!(valid_filter(good), "{good}");
        }
        for bad in
            ["", "a#", "#/a", "a/#/b", "a+", "+a", "a/b+/c", "a\0", "##", "$share/", "$share/g", "$share/g/"]
        {
            assert!(!valid_filter(bad), "{bad}");
        }
        for bad in ["$share/+/a", "$share/#/a", "$share//a", "$share/g/a#"] {
            assert!(!valid_filter(bad), "{bad}");
        }
    }

    #[test]
    fn matching() {
        let table = [
            ("a/b", "a/b", true),
            ("a/b", "a/B", false),
            ("a/b", "a", false),
            ("a", "a/b", false),
            ("a", "/a", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/#", "ab", false),
            ("#", "a/b", true),
            ("#", "/", true),
            ("+", "a", true),
            ("+", "a/b", false),
            ("+", "/a", false),
            ("/+", "/a", true),
            ("+/+", "/a", true),
            ("a/+/c", "a/b/c", true),
            ("a/+/c", "a//c", true),
            ("a/+/c", "a/b/d", false),
            ("a/+", "a/", true),
            ("a/+", "a", false),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("$SYS/+", "$SYS/x", true),
            ("$share/g/a", "a", false),
            ("$share/g/a", "$share/g/a", false),
        ];
        for (filter, name, want) in table {
            assert_eq!(matches(filter, name), want, "{filter} on {name}");
        }
    }
}
