//! What sort of statement a query event holds, by its first words.

/// What sort of statement it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Begins, ends or divides a transaction: BEGIN, COMMIT, ROLLBACK, SAVEPOINT, XA.
    Transaction,
    /// Changes rows, and was logged as a statement: no row event tells which.
    Dml,
    /// All others.
    Ddl,
}

/// What sort of statement `sql` is. Looks at the first word only, so its length does not matter.
pub fn kind(sql: &str) -> Kind {
    let rest = skip_blank(sql);
    let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (word, rest) = rest.split_at(end);
    let is = |words: &[&str]| words.iter().any(|w| word.eq_ignore_ascii_case(w));
    let transaction = ["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "XA", "RELEASE"];
    let starts = is(&["START"]) && starts_with_word(skip_blank(rest), "TRANSACTION");
    if is(&transaction) || starts {
        Kind::Transaction
    } else if is(&[
        "INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD", "CALL", "DO", "WITH", "SELECT", "SET", "USE",
        "IMPORT",
    ]) && !(is(&["SET"]) && starts_with_word(skip_blank(rest), "PASSWORD"))
    {
        Kind::Dml
    } else {
        Kind::Ddl
    }
}

fn starts_with_word(text: &str, word: &str) -> bool {
    text.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
}

/// `text` without the blanks, comments and opening marks of executable comments that it begins with.
fn skip_blank(mut text: &str) -> &str {
    loop {
        text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '(' || c == '\0');
        let line = text.starts_with('#') || text.starts_with("-- ");
        if let Some(inner) = text.strip_prefix("/*!").or_else(|| text.strip_prefix("/*M!")) {
            text = inner.trim_start_matches(|c: char| c.is_ascii_digit());
        } else if let Some(comment) = text.strip_prefix("/*") {
            match comment.split_once("*/") {
                Some((_, rest)) => text = rest,
                None => return "",
            }
        } else if line {
            match text.split_once('\n') {
                Some((_, rest)) => text = rest,
                None => return "",
            }
        } else {
            return text;
        }
    }
}
