//! Text of SQL: quoting, and just enough reading of `CREATE INDEX` to say its terms about another row.

/// `name` as an identifier.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `text` as a string literal.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// `terms` joined by `+` as a balanced tree: a long chain would meet SQLite's limit of depth (1000).
pub(super) fn sum(terms: &[String]) -> String {
    match terms {
        [] => "0".to_owned(),
        [one] => one.clone(),
        _ => {
            let (a, b) = terms.split_at(terms.len() / 2);
            format!("({}+{})", sum(a), sum(b))
        }
    }
}

/// What a piece of SQL is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// White space or a comment.
    Blank,
    /// A bare word or a number.
    Word,
    /// A quoted identifier: `"a"`, `[a]` or a backquoted one.
    Quoted,
    /// A string or blob literal.
    Literal,
    /// Any other character.
    Punct,
}

#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
}

impl Token<'_> {
    fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }

    fn is(&self, punct: &str) -> bool {
        self.kind == Kind::Punct && self.text == punct
    }

    /// The name that an identifier token stands for.
    fn name(&self) -> Option<String> {
        let inner = || self.text.get(1..self.text.len().saturating_sub(1)).unwrap_or("");
        match self.kind {
            Kind::Word => Some(self.text.to_owned()),
            Kind::Quoted if self.text.starts_with('[') => Some(inner().to_owned()),
            Kind::Quoted => {
                let quote = &self.text[..1];
                Some(inner().replace(&quote.repeat(2), quote))
            }
            _ => None,
        }
    }
}

/// Cuts `sql` into tokens; text that is cut short ends the last one. Never fails: SQLite took the text.
fn tokens(sql: &str) -> Vec<Token<'_>> {
    let mut out = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let (kind, len) = match first {
            c if c.is_whitespace() => {
                (Kind::Blank, rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len()))
            }
            '-' if rest.starts_with("--") => (Kind::Blank, rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => (Kind::Blank, rest.find("*/").map_or(rest.len(), |i| i + 2)),
            '\'' => (Kind::Literal, quoted_len(rest, '\'')),
            'x' | 'X' if rest[1..].starts_with('\'') => (Kind::Literal, 1 + quoted_len(&rest[1..], '\'')),
            '"' | '`' => (Kind::Quoted, quoted_len(rest, first)),
            '[' => (Kind::Quoted, rest.find(']').map_or(rest.len(), |i| i + 1)),
            c if is_word_char(c) => (Kind::Word, rest.find(|c: char| !is_word_char(c)).unwrap_or(rest.len())),
            c => (Kind::Punct, c.len_utf8()),
        };
        let (text, tail) = rest.split_at(len);
        out.push(Token { kind, text });
        rest = tail;
    }
    out
}

fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

/// Bytes of a quoted run, doubled quotes being part of it.
fn quoted_len(text: &str, quote: char) -> usize {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((i, c)) = chars.next() {
        if c == quote {
            if chars.peek().is_some_and(|(_, next)| *next == quote) {
                chars.next();
            } else {
                return i + c.len_utf8();
            }
        }
    }
    text.len()
}

/// The terms of an index and the condition of a partial one, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IndexText {
    /// One per column, without ASC or DESC.
    pub(super) terms: Vec<String>,
    /// What stands behind WHERE.
    pub(super) condition: Option<String>,
}

/// Reads `CREATE [UNIQUE] INDEX … ON table(term, …) [WHERE …]`. `None` if it does not look like one.
pub(super) fn index_text(sql: &str) -> Option<IndexText> {
    let all = tokens(sql);
    let on = all.iter().position(|t| t.is_word("ON"))?;
    let open = on + all[on..].iter().position(|t| t.is("("))?;
    let mut depth = 0usize;
    let (mut terms, mut term) = (Vec::new(), Vec::new());
    let mut close = None;
    for (i, token) in all.iter().enumerate().skip(open) {
        if token.is("(") {
            depth += 1;
            if depth == 1 {
                continue;
            }
        } else if token.is(")") {
            depth -= 1;
            if depth == 0 {
                terms.push(std::mem::take(&mut term));
                close = Some(i);
                break;
            }
        } else if token.is(",") && depth == 1 {
            terms.push(std::mem::take(&mut term));
            continue;
        }
        term.push(*token);
    }
    let behind = &all[close? + 1..];
    let condition = behind
        .iter()
        .position(|t| t.is_word("WHERE"))
        .map(|at| join(&behind[at + 1..]).trim().trim_end_matches(';').to_owned());
    let terms = terms.iter().map(|term| join(without_order(term)).trim().to_owned()).collect();
    Some(IndexText { terms, condition })
}

fn without_order<'a, 'b>(term: &'b [Token<'a>]) -> &'b [Token<'a>] {
    let last = term.iter().rposition(|t| t.kind != Kind::Blank);
    match last {
        Some(i) if term[i].is_word("ASC") || term[i].is_word("DESC") => &term[..i],
        _ => term,
    }
}

fn join(tokens: &[Token<'_>]) -> String {
    tokens.iter().map(|t| if t.text.starts_with("--") { " " } else { t.text }).collect()
}

/// `expr` with every column of `columns` in it said of `prefix` (`NEW`, `r`).
pub(super) fn qualify(expr: &str, columns: &[&str], prefix: &str) -> String {
    let all = tokens(expr);
    let solid = |i: &usize| all[*i].kind != Kind::Blank;
    let mut out = String::with_capacity(expr.len() * 2);
    for (i, token) in all.iter().enumerate() {
        let before = (0..i).rev().find(solid).map(|i| all[i]);
        let after = (i + 1..all.len()).find(solid).map(|i| all[i]);
        let is_name = !after.is_some_and(|t| t.is("(") && token.kind == Kind::Word)
            && !before.is_some_and(|t| t.is_word("COLLATE") || t.is(".") || t.is_word("AS"));
        let column = token
            .name()
            .filter(|_| is_name)
            .and_then(|name| columns.iter().find(|c| c.eq_ignore_ascii_case(&name)));
        match column {
            Some(column) => {
                out.push_str(prefix);
                out.push('.');
                out.push_str(&ident(column));
            }
            None if token.text.starts_with("--") => out.push(' '),
            None => out.push_str(token.text),
        }
    }
    out
}

/// A column's DEFAULT, as `table_xinfo` prints it, as an expression. There a bare or double-quoted
/// word is a string, where an expression would take it for a column.
pub(super) fn default_expr(text: &str) -> String {
    let all = tokens(text);
    let solid: Vec<_> = all.iter().filter(|t| t.kind != Kind::Blank).collect();
    if let [one] = solid[..] {
        let known = ["NULL", "TRUE", "FALSE", "CURRENT_TIME", "CURRENT_DATE", "CURRENT_TIMESTAMP"];
        let number = one.text.starts_with(|c: char| c.is_ascii_digit());
        if one.kind == Kind::Word && !number && !known.iter().any(|k| one.is_word(k)) {
            return literal(one.text);
        }
    }
    let text: String = all
        .iter()
        .map(|t| match (t.kind, t.name()) {
            (Kind::Quoted, Some(name)) => literal(&name),
            _ if t.text.starts_with("--") => " ".to_owned(),
            _ => t.text.to_owned(),
        })
        .collect();
    format!("({text})")
}

/// Whether `name` matches `pattern`: `*` any run, `?` one character, letters without case as SQLite
/// compares names.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (p, n): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut i, mut j, mut star) = (0, 0, None);
    while j < n.len() {
        if i < p.len() && p[i] == '*' {
            star = Some((i, j));
            i += 1;
        } else if i < p.len() && (p[i] == '?' || p[i].eq_ignore_ascii_case(&n[j])) {
            (i, j) = (i + 1, j + 1);
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            (i, j) = (at + 1, taken + 1);
        } else {
            return false;
        }
    }
    p[i..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_patterns() {
        assert!(matches("*", "anything"));
        assert!(matches("order_?", "Order_1") && !matches("order_?", "order_12"));
        assert!(matches("*_log", "a_b_log") && !matches("*_log", "log"));
        assert!(matches("a*b*c", "aXbYbZc") && !matches("a*b*c", "aXbYbZ"));
    }

    #[test]
    fn an_index_is_read_with_its_expressions_and_condition() {
        let sql = "CREATE UNIQUE INDEX i ON \"my (t\" (lower(\"e,m\") COLLATE NOCASE DESC, [b], -- x, y\n c ASC) WHERE a > 'x)' AND b";
        let text = index_text(sql).unwrap();
        assert_eq!(text.terms[0], "lower(\"e,m\") COLLATE NOCASE");
        assert_eq!(text.terms[1], "[b]");
        assert_eq!(text.terms[2], "c");
        assert_eq!(text.condition.as_deref(), Some("a > 'x)' AND b"));
    }

    #[test]
    fn columns_are_said_of_another_row() {
        let columns = ["email", "b", "lower", "nocase"];
        let said = qualify("lower(Email) || 'b' || [b] COLLATE nocase || x'00' /* b */", &columns, "NEW");
        assert_eq!(said, "lower(NEW.\"email\") || 'b' || NEW.\"b\" COLLATE nocase || x'00' /* b */");
    }

    #[test]
    fn defaults_are_values() {
        assert_eq!(default_expr("foo"), "'foo'");
        assert_eq!(default_expr("\"it's\""), "('it''s')");
        assert_eq!(default_expr("CURRENT_TIMESTAMP"), "(CURRENT_TIMESTAMP)");
        assert_eq!(default_expr("-1"), "(-1)");
        assert_eq!(default_expr("0x10"), "(0x10)");
    }

    #[test]
    fn sums_are_balanced() {
        let terms: Vec<String> = (0..3).map(|i| i.to_string()).collect();
        assert_eq!(sum(&terms), "(0+(1+2))");
        assert_eq!(sum(&[]), "0");
    }
}
