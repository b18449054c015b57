//! A place among the words of a statement.

use super::lex::Word;

/// Reads forward.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'w> {
    words: &'w [Word],
}

impl<'w> Cursor<'w> {
    pub(super) fn new(words: &'w [Word]) -> Self {
        Self { words }
    }

    pub(super) fn peek(&self) -> Option<&'w Word> {
        self.words.first()
    }

    pub(super) fn next(&mut self) -> Option<&'w Word> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Whether the word `ahead` words from here is this keyword.
    pub(super) fn sees_at(&self, ahead: usize, keyword: &str) -> bool {
        matches!(self.words.get(ahead), Some(Word::Plain(word)) if word.eq_ignore_ascii_case(keyword))
    }

    pub(super) fn sees(&self, keyword: &str) -> bool {
        self.sees_at(0, keyword)
    }

    /// Whether it is one of these keywords.
    pub(super) fn sees_any(&self, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.sees(keyword))
    }

    /// Steps over the keyword if it is here.
    pub(super) fn eat(&mut self, keyword: &str) -> bool {
        let found = self.sees(keyword);
        if found {
            self.next();
        }
        found
    }

    /// Steps over these keywords if they are all here, in this order.
    pub(super) fn eat_all(&mut self, keywords: &[&str]) -> bool {
        let found = keywords.iter().enumerate().all(|(i, keyword)| self.sees_at(i, keyword));
        if found {
            self.words = self.words.get(keywords.len()..).unwrap_or_default();
        }
        found
    }

    /// Steps over any of these keywords, as often as they come.
    pub(super) fn skip_any(&mut self, keywords: &[&str]) {
        while self.sees_any(keywords) {
            self.next();
        }
    }

    pub(super) fn sees_sign(&self, sign: char) -> bool {
        matches!(self.peek(), Some(Word::Sign(found)) if *found == sign)
    }

    pub(super) fn eat_sign(&mut self, sign: char) -> bool {
        let found = self.sees_sign(sign);
        if found {
            self.next();
        }
        found
    }

    /// An identifier, quoted or not.
    pub(super) fn name(&mut self) -> Option<String> {
        match self.peek()? {
            Word::Plain(name) | Word::Quoted(name) => {
                self.next();
                Some(name.clone())
            }
            _ => None,
        }
    }

    /// `table` or `db.table`, as `[db, table]`.
    pub(super) fn table(&mut self, db: &str) -> Option<[String; 2]> {
        let first = self.name()?;
        if self.eat_sign('.') { Some([first, self.name()?]) } else { Some([db.to_owned(), first]) }
    }

    /// A name, or a text, or a word in place of one (`CHARSET = 'latin1'`).
    pub(super) fn value(&mut self) -> Option<String> {
        match self.next()? {
            Word::Plain(text) | Word::Quoted(text) | Word::Text(text) | Word::Number(text) => {
                Some(text.clone())
            }
            _ => None,
        }
    }

    /// What stands in the parentheses that begin here. `None` if none begin or they do not end.
    pub(super) fn parens(&mut self) -> Option<Self> {
        if !self.sees_sign('(') {
            return None;
        }
        let mut depth = 0usize;
        for (i, word) in self.words.iter().enumerate() {
            match word {
                Word::Sign('(') => depth += 1,
                Word::Sign(')') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                let inside = self.words.get(1..i)?;
                self.words = self.words.get(i + 1..)?;
                return Some(Self { words: inside });
            }
        }
        None
    }

    /// Steps over one word, or over all parentheses that begin here.
    pub(super) fn skip(&mut self) {
        if self.parens().is_none() {
            self.next();
        }
    }

    /// What comes before the next comma outside of parentheses, or the rest; steps over the comma.
    pub(super) fn item(&mut self) -> Option<Self> {
        if self.is_empty() {
            return None;
        }
        let start = self.words;
        while !self.is_empty() {
            if self.sees_sign(',') {
                let length = start.len() - self.words.len();
                self.next();
                return Some(Self { words: start.get(..length)? });
            }
            self.skip();
        }
        Some(Self { words: start })
    }
}
