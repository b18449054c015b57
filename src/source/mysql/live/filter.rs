//! Which tables are wanted: `table` or `database.table`, with `*` and `?`.

/// Patterns, read.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    /// `None` for every database but the server's own.
    db: Option<String>,
    table: String,
}

/// The server's own databases.
const OWN: &[&str] = &["mysql", "information_schema", "performance_schema", "sys"];

impl Filter {
    pub(super) fn new(include: &[String], exclude: &[String]) -> Result<Self, String> {
        let read =
            |patterns: &[String]| patterns.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>();
        Ok(Self { include: read(include)?, exclude: read(exclude)? })
    }

    /// Whether rows of the table are wanted.
    pub(super) fn wants(&self, db: &str, table: &str) -> bool {
        let fits = |pattern: &Pattern| pattern.fits(db, table);
        let included =
            if self.include.is_empty() { !OWN.contains(&db) } else { self.include.iter().any(fits) };
        included && !self.exclude.iter().any(fits)
    }

    /// Whether a table of the database may be wanted.
    pub(super) fn wants_some_of(&self, db: &str) -> bool {
        if self.include.is_empty() {
            return !OWN.contains(&db);
        }
        self.include.iter().any(|pattern| match &pattern.db {
            Some(wanted) => glob(wanted, db),
            None => !OWN.contains(&db),
        })
    }

    /// Whether a statement that was run in `db` names a wanted table. Words of the text are compared, so it may find one
    /// in a comment, and finds none that is named only in a function.
    pub(super) fn is_named_in(&self, sql: &str, db: &str) -> bool {
        let mut before = None;
        let mut rest = sql;
        while let Some(start) = rest.find(|c: char| c == '`' || is_word(c)) {
            let tail = rest.get(start..).unwrap_or_default();
            let (word, after) = match tail.strip_prefix('`') {
                Some(quoted) => quoted.split_once('`').unwrap_or((quoted, "")),
                None => tail.split_at(tail.find(|c: char| !is_word(c)).unwrap_or(tail.len())),
            };
            if self.wants(before.unwrap_or(db), word) && (before.is_some() || !self.include.is_empty()) {
                return true;
            }
            before = after.trim_start().starts_with('.').then_some(word);
            rest = after;
        }
        // Without patterns every table of the database is wanted.
        self.include.is_empty() && self.wants_some_of(db)
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{}` is no table: write `table` or `database.table`, `*` and `?` match",
                text.escape_debug()
            )
        };
        let (db, table) = match text.split_once('.') {
            Some((db, table)) => (Some(db), table),
            None => (None, text),
        };
        if table.is_empty() || db.is_some_and(str::is_empty) || table.contains('.') {
            return Err(wrong());
        }
        Ok(Self { db: db.map(str::to_owned), table: table.to_owned() })
    }

    fn fits(&self, db: &str, table: &str) -> bool {
        let db_fits = match &self.db {
            Some(pattern) => glob(pattern, db),
            None => !OWN.contains(&db),
        };
        db_fits && glob(&self.table, table)
    }
}

/// Whether `text` matches: `*` any characters, `?` one. In time proportional to the product of the lengths at most.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == '?' || Some(&c) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    p = at + 1;
                    t = from + 1;
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(include: &[&str], exclude: &[&str]) -> Filter {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        Filter::new(&own(include), &own(exclude)).unwrap()
    }

    #[test]
    fn patterns_match_tables() {
        let all = filter(&[], &["*.tmp_?", "logs.*"]);
        assert!(all.wants("shop", "orders") && all.wants("shop", "tmp_12"));
        assert!(!all.wants("shop", "tmp_1") && !all.wants("logs", "x") && !all.wants("mysql", "user"));
        let some = filter(&["video_meta", "shop_*.user?action*"], &[]);
        assert!(some.wants("any", "video_meta") && some.wants("shop_1", "user_actions"));
        assert!(
            !some.wants("any", "video_metas")
                && !some.wants("shop", "user_action")
                && !some.wants("mysql", "video_meta")
        );
        assert!(filter(&["mysql.user"], &[]).wants("mysql", "user"));
        assert!(glob("a*b*c", "a-b-b-c") && !glob("a*b*c", "a-b-b") && glob("*", "") && !glob("?", ""));
        for wrong in ["", ".t", "d.", "a.b.c"] {
            assert!(Filter::new(&[wrong.to_owned()], &[]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_statement_names_a_table() {
        let some = filter(&["shop.orders"], &[]);
        assert!(some.is_named_in("update orders set a = 1", "shop"));
        assert!(some.is_named_in("delete from `shop` . `orders`", ""));
        assert!(!some.is_named_in("update orders set a = 1", "other"));
        assert!(!some.is_named_in("update other.orders set a = 1", "shop"));
        assert!(filter(&[], &[]).is_named_in("update x set a = 1", "shop"));
        assert!(!filter(&[], &[]).is_named_in("update x set a = 1", "mysql"));
    }
}
