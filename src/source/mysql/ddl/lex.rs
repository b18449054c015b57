//! A statement's words.

use std::any::TypeId;

use sqlparser::dialect::{Dialect, MySqlDialect};
use sqlparser::tokenizer::{Token, Tokenizer, Whitespace};

use super::Context;

/// A longer statement is not read: its tokens would take some sixty times its size.
const MAX_BYTES: usize = 1 << 20;

/// What matters of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Without quotes: a keyword or an identifier.
    Plain(String),
    /// An identifier in quotes.
    Quoted(String),
    Text(String),
    /// A hexadecimal literal's digits.
    Hex(String),
    Number(String),
    Sign(char),
}

/// MySQL under the `sql_mode` of a statement.
#[derive(Debug)]
struct Mode {
    ansi_quotes: bool,
    backslash: bool,
}

impl Dialect for Mode {
    fn dialect(&self) -> TypeId {
        MySqlDialect {}.dialect()
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || matches!(ch, '_' | '$') || !ch.is_ascii()
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        self.is_identifier_start(ch) || ch.is_ascii_digit()
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`' || ch == '"' && self.ansi_quotes
    }

    fn supports_string_literal_backslash_escape(&self) -> bool {
        self.backslash
    }

    fn supports_numeric_prefix(&self) -> bool {
        true
    }

    fn supports_multiline_comment_hints(&self) -> bool {
        true
    }

    fn requires_single_line_comment_whitespace(&self) -> bool {
        true
    }
}

/// The words of `sql`; `None` where it cannot be taken apart.
pub(super) fn words(sql: &str, cx: &Context<'_>) -> Option<Vec<Word>> {
    if sql.len() > MAX_BYTES {
        return None;
    }
    let mode = Mode { ansi_quotes: cx.ansi_quotes, backslash: !cx.no_backslash_escapes };
    let mut words = Vec::new();
    append(sql, &mode, &mut words, 0)?;
    Some(words)
}

fn append(sql: &str, mode: &Mode, words: &mut Vec<Word>, depth: u8) -> Option<()> {
    // Escapes are undone here: sqlparser's are not MySQL's (`\a`).
    for token in Tokenizer::new(mode, sql).with_unescape(false).tokenize().ok()? {
        words.push(match token {
            Token::Word(word) => match word.quote_style {
                None => Word::Plain(word.value),
                Some(quote) => Word::Quoted(undouble(&word.value, quote)),
            },
            Token::SingleQuotedString(text) | Token::NationalStringLiteral(text) => {
                Word::Text(unescape(&text, '\'', mode.backslash))
            }
            Token::DoubleQuotedString(text) => Word::Text(unescape(&text, '"', mode.backslash)),
            Token::HexStringLiteral(digits) => Word::Hex(digits),
            Token::Number(digits, _) => Word::Number(digits),
            // MariaDB's own executable comment; sqlparser knows the other kind.
            Token::Whitespace(Whitespace::MultiLineComment(text)) if text.starts_with("M!") && depth == 0 => {
                let inner = text.get(2..)?.trim_start_matches(|c: char| c.is_ascii_digit());
                append(inner, mode, words, 1)?;
                continue;
            }
            Token::Whitespace(_) => continue,
            Token::LParen => Word::Sign('('),
            Token::RParen => Word::Sign(')'),
            Token::Comma => Word::Sign(','),
            Token::Period => Word::Sign('.'),
            Token::Eq => Word::Sign('='),
            Token::SemiColon => Word::Sign(';'),
            Token::AtSign => Word::Sign('@'),
            Token::Minus => Word::Sign('-'),
            Token::Plus => Word::Sign('+'),
            // Part of an expression, which is skimmed.
            _ => Word::Sign('?'),
        });
    }
    Some(())
}

/// A quoted identifier, in which only the quote itself is doubled.
fn undouble(text: &str, quote: char) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        out.push(char);
        if char == quote {
            chars.next();
        }
    }
    out
}

/// A string's text ("String Literals" in the manual).
fn unescape(text: &str, quote: char, backslash: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' if backslash => match chars.next() {
                Some('0') => out.push('\0'),
                Some('b') => out.push('\u{8}'),
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some('t') => out.push('\t'),
                Some('Z') => out.push('\u{1a}'),
                // These two keep theirs, for LIKE.
                Some(wildcard @ ('%' | '_')) => out.extend(['\\', wildcard]),
                Some(other) => out.push(other),
                None => {}
            },
            _ => {
                out.push(char);
                if char == quote {
                    chars.next();
                }
            }
        }
    }
    out
}
