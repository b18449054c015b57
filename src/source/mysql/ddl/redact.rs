//! Passwords in statements.

/// `sql` with every password and password hash in it replaced by `<redacted>`; `None` if there is none. `sql` is in any
/// character set that holds ASCII.
///
/// A text (or a hexadecimal number) is one where it follows `BY`, `PASSWORD`, `AS`, `USING` or `REPLACE` in a statement about
/// accounts, or a word that ends in `PASSWORD`.
pub fn redact(sql: &[u8]) -> Option<Vec<u8>> {
    let has = |word: &[u8]| sql.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word));
    let accounts = has(b"IDENTIFIED");
    if !accounts && !has(b"PASSWORD") {
        return None;
    }
    // SET PASSWORD FOR 'user'@'host' = 'here'
    let assigns = has(b"SET PASSWORD");
    let mut out = Vec::with_capacity(sql.len());
    let (mut at, mut armed, mut changed) = (0, false, false);
    while let Some(&byte) = sql.get(at) {
        let start = at;
        at = token_end(sql, at);
        let token = sql.get(start..at).unwrap_or_default();
        match byte {
            b'\'' | b'"' if armed => {
                out.extend_from_slice(b"'<redacted>'");
                (armed, changed) = (false, true);
                continue;
            }
            b'0' if armed && token.get(1).is_some_and(|x| *x == b'x') => {
                out.extend_from_slice(b"'<redacted>'");
                (armed, changed) = (false, true);
                continue;
            }
            b'=' if assigns => armed = true,
            b'=' | b'(' | b':' => {}
            // A hexadecimal text.
            b'x' | b'X' if token.len() == 1 => {}
            byte if byte.is_ascii_whitespace() || token.starts_with(b"/*") => {}
            _ => armed = announces(token, accounts),
        }
        out.extend_from_slice(token);
    }
    changed.then_some(out)
}

/// Whether a password may follow this word.
fn announces(token: &[u8], accounts: bool) -> bool {
    let is = |word: &[u8]| token.eq_ignore_ascii_case(word);
    let tail = token.len().checked_sub(8).and_then(|from| token.get(from..)).unwrap_or_default();
    tail.eq_ignore_ascii_case(b"PASSWORD")
        || accounts && (is(b"BY") || is(b"AS") || is(b"USING") || is(b"REPLACE"))
}

/// Where the word, text, comment or single sign that begins at `at` ends.
fn token_end(sql: &[u8], at: usize) -> usize {
    let Some(&first) = sql.get(at) else { return at };
    let rest = sql.get(at..).unwrap_or_default();
    let length = match first {
        b'\'' | b'"' | b'`' => {
            let mut end = 1;
            loop {
                match rest.get(end) {
                    None => break end,
                    Some(b'\\') if first != b'`' => end += 2,
                    Some(byte) if *byte == first && rest.get(end + 1) == Some(&first) => end += 2,
                    Some(byte) if *byte == first => break end + 1,
                    Some(_) => end += 1,
                }
            }
        }
        // An executable comment's words count.
        b'/' if rest.starts_with(b"/*") && !rest.starts_with(b"/*!") && !rest.starts_with(b"/*M!") => {
            rest.windows(2).skip(2).position(|end| end == b"*/").map_or(rest.len(), |end| end + 4)
        }
        byte if byte.is_ascii_alphanumeric() || byte == b'_' => {
            rest.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_').unwrap_or(rest.len())
        }
        _ => 1,
    };
    (at + length.max(1)).min(sql.len())
}
