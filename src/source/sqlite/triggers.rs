//! The triggers: SQL text from a table's description. Pure; nothing newer than SQLite 3.8.
//!
//! A captured change is one row of `_dts_capture` (or several parts of one, ids in a row, when there
//! are more than [`WIDTH`] values): the columns that [`Shape::recorded`] names, old image first.
//!
//! **Truth, not history.** Triggers of one table fire in no promised order: a trigger of the
//! application may change the row before ours is told of the first change. So an AFTER trigger never
//! records NEW. It records the row as it stands *now*, and a deletion only if the key is really gone.
//! Then every record is true when it is written, whatever fired before it, and a mirror that applies
//! them in order ends at the truth.
//!
//! **Displaced rows.** REPLACE deletes the rows in its way without DELETE triggers, unless the
//! application sets `recursive_triggers`. So a BEFORE trigger records each row that agrees with NEW in
//! a unique index as a *candidate* and notes it in `_dts_note`; an AFTER trigger looks which of the
//! noted rows are gone and turns those candidates into deletions. DELETE triggers that do fire take
//! the note away first, so nothing is told twice. Candidates that were not displaced (OR IGNORE, upsert)
//! stay candidates, which the reader skips.
//!
//! **The limit.** `_dts_meta.b` counts bytes ever captured, `stop` is where to stop. The first
//! statement of a body raises `b` if it is below; each of the following goes on only if the one before
//! it changed a row; where nothing was recorded, the last one marks the table stale.

use super::config::Capture;
use super::schema::{Identity, TableInfo};
use super::shape::Shape;
use super::sql::{ident, sum};

/// Value columns of `_dts_capture`.
pub(super) const WIDTH: usize = 32;

/// Bytes that a captured row is counted with, on top of its values.
const OVERHEAD: usize = 64;

/// `_dts_capture.o`: what a captured row says.
pub(super) mod op {
    /// Nothing: the row was gone again before it could be told.
    pub(in super::super) const NONE: i64 = 0;
    /// New image.
    pub(in super::super) const INSERT: i64 = 1;
    /// Old and new image.
    pub(in super::super) const UPDATE: i64 = 2;
    /// Old image (and, in the trigger of an update, an empty new one).
    pub(in super::super) const DELETE: i64 = 3;
    /// Old image of a row that REPLACE displaced.
    pub(in super::super) const DISPLACED: i64 = 4;
    /// As UPDATE with another key, but another row has the old key by now.
    pub(in super::super) const MOVED: i64 = 5;
    /// Old image of a row that was in the way and was not displaced.
    pub(in super::super) const CANDIDATE: i64 = 9;
    /// Further values of the row before it.
    pub(in super::super) const PART: i64 = 10;
}

/// One trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trigger {
    pub(super) name: String,
    pub(super) sql: String,
}

/// The triggers of table number `table` whose records have shape number `shape`.
pub(super) fn triggers(info: &TableInfo, shape: &Shape, table: i64, number: i64) -> Vec<Trigger> {
    let g = Generator { info, shape, table, number, name: ident(&info.name) };
    let all = [
        ("bi", "BEFORE INSERT", Some(g.insert_in_the_way()), g.candidates(false)),
        ("bu", "BEFORE UPDATE", Some(g.update_in_the_way()), g.candidates(true)),
        ("ai", "AFTER INSERT", None, g.inserted()),
        ("ic", "AFTER INSERT", Some(g.has_notes()), g.confirm(After::Insert)),
        ("au", "AFTER UPDATE", None, g.updated()),
        ("uc", "AFTER UPDATE", Some(g.has_notes()), g.confirm(After::Update)),
        ("ad", "AFTER DELETE", None, g.deleted()),
        ("dc", "AFTER DELETE", Some(g.has_notes()), g.confirm(After::Delete)),
    ];
    all.into_iter()
        .map(|(suffix, event, when, body)| {
            let name = format!("_dts_{table}_{suffix}");
            let when = when.map_or_else(String::new, |w| format!("\nWHEN {w}"));
            let body: String = body.iter().map(|s| format!("  {s};\n")).collect();
            let sql = format!("CREATE TRIGGER {name} {event} ON {}{when}\nBEGIN\n{body}END", g.name);
            Trigger { name, sql }
        })
        .collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Insert,
    Update,
    Delete,
}

struct Generator<'a> {
    info: &'a TableInfo,
    shape: &'a Shape,
    table: i64,
    number: i64,
    name: String,
}

impl Generator<'_> {
    /// What is recorded of `prefix`.
    fn image(&self, prefix: &str) -> Vec<String> {
        let all = self.shape.exprs(self.info, prefix);
        self.shape.recorded().into_iter().filter_map(|i| all.get(i).cloned()).collect()
    }

    /// Bytes of the images of `prefixes`.
    fn cost(&self, prefixes: &[&str]) -> String {
        let length = |e: String| format!("ifnull(length(CAST({e} AS BLOB)),0)");
        let terms: Vec<String> = prefixes.iter().flat_map(|p| self.image(p)).map(length).collect();
        let parts = terms.len().div_ceil(WIDTH).max(1);
        format!("{}+{}", OVERHEAD * parts, sum(&terms))
    }

    /// The row that NEW became, beside the counter's row.
    fn now(&self) -> String {
        format!("_dts_meta m LEFT JOIN {} r ON {}", self.name, self.info.same_row("r", "NEW"))
    }

    /// Whether there is no such row any more.
    fn gone(&self) -> String {
        let key = if self.info.rowid.is_some() { self.info.rowid_of("r") } else { self.key_of("r") };
        format!("{key} IS NULL")
    }

    fn key_of(&self, prefix: &str) -> String {
        self.info.key_exprs(prefix).into_iter().next().unwrap_or_default()
    }

    /// Whether OLD's key is (again) in the table.
    fn old_key_taken(&self) -> String {
        format!("EXISTS(SELECT 1 FROM {} x WHERE {})", self.name, self.info.same_key("x", "OLD"))
    }

    /// Statements that record `values`: each goes on only if the one before it changed a row.
    fn record(&self, op: &str, values: &[String], from: &str, and: &str) -> Vec<String> {
        let chunks: Vec<&[String]> =
            if values.is_empty() { vec![&[]] } else { values.chunks(WIDTH).collect() };
        let insert = |(i, values): (usize, &&[String])| {
            let columns: String = (0..values.len()).map(|c| format!(",c{c}")).collect();
            let values: String = values.iter().map(|v| format!(",{v}")).collect();
            let op = if i == 0 { op.to_owned() } else { op::PART.to_string() };
            format!(
                "INSERT INTO _dts_capture(t,o,n,b{columns}) SELECT {},{op},random(),m.b{values} \
                 FROM {from} WHERE changes()=1{and}",
                self.number
            )
        };
        chunks.iter().enumerate().map(insert).collect()
    }

    /// Raises the counter, records, marks the table if that was not possible.
    fn body(&self, cost: &str, op: &str, values: &[String], from: &str) -> Vec<String> {
        let mut all = vec![format!("UPDATE _dts_meta SET b=b+{cost} WHERE b<stop")];
        all.extend(self.record(op, values, from, ""));
        all.push(format!(
            "UPDATE _dts_table SET stale=1 WHERE id={} AND stale=0 AND changes()=0",
            self.table
        ));
        all
    }

    fn inserted(&self) -> Vec<String> {
        let op = format!("CASE WHEN {} THEN {} ELSE {} END", self.gone(), op::NONE, op::INSERT);
        self.body(&self.cost(&["NEW"]), &op, &self.image("r"), &self.now())
    }

    fn updated(&self) -> Vec<String> {
        let (taken, changed) = (self.old_key_taken(), self.info.key_changed("OLD", "r"));
        let op = format!(
            "CASE WHEN {gone} THEN CASE WHEN {taken} THEN {none} ELSE {delete} END \
             WHEN {changed} THEN CASE WHEN {taken} THEN {moved} ELSE {update} END ELSE {update} END",
            gone = self.gone(),
            none = op::NONE,
            delete = op::DELETE,
            moved = op::MOVED,
            update = op::UPDATE,
        );
        let mut values = self.image("OLD");
        values.extend(self.image("r"));
        self.body(&self.cost(&["OLD", "NEW"]), &op, &values, &self.now())
    }

    fn deleted(&self) -> Vec<String> {
        let op = format!("CASE WHEN {} THEN {} ELSE {} END", self.old_key_taken(), op::NONE, op::DELETE);
        let mut all = vec![format!("DELETE FROM _dts_note WHERE {}", self.note_is("OLD"))];
        all.extend(self.body(&self.cost(&["OLD"]), &op, &self.image("OLD"), "_dts_meta m"));
        all
    }

    /// Whether a note is about the row `prefix`.
    fn note_is(&self, prefix: &str) -> String {
        let keys = self.info.note_exprs(prefix);
        let equal: String = keys.iter().enumerate().map(|(i, e)| format!(" AND k{i}={e}")).collect();
        format!("t={}{equal}", self.table)
    }

    fn has_notes(&self) -> String {
        format!("EXISTS(SELECT 1 FROM _dts_note WHERE t={})", self.table)
    }

    /// Per unique set: the condition on `r` that it is in NEW's way.
    fn in_the_way(&self, update: bool) -> Vec<String> {
        let other = match (update, self.info.rowid.is_some()) {
            (false, _) => String::new(),
            (true, true) => format!(" AND {}<>{}", self.info.rowid_of("r"), self.info.rowid_of("OLD")),
            (true, false) => format!(" AND NOT ({})", self.info.same_row("r", "OLD")),
        };
        self.info.unique.iter().map(|set| format!("{}{other}", self.info.conflict(set, "r"))).collect()
    }

    fn exists(&self, condition: &str) -> String {
        format!("EXISTS(SELECT 1 FROM {} r WHERE {condition})", self.name)
    }

    fn insert_in_the_way(&self) -> String {
        let all: Vec<String> = self.in_the_way(false).iter().map(|c| self.exists(c)).collect();
        if all.is_empty() { "0".to_owned() } else { all.join("\n OR ") }
    }

    fn update_in_the_way(&self) -> String {
        let sets = self.info.unique.iter().zip(self.in_the_way(true));
        let all: Vec<String> = sets
            .map(|(set, c)| format!("({}) AND {}", self.info.set_changed(set), self.exists(&c)))
            .collect();
        if all.is_empty() { "0".to_owned() } else { all.join("\n OR ") }
    }

    fn candidates(&self, update: bool) -> Vec<String> {
        // Notes of statements that displaced nothing go after a while; those of the statements around
        // this one (it may run inside a trigger) are younger and stay.
        let keep = 16 + 2 * self.info.unique.len();
        let mut all = vec![format!(
            "DELETE FROM _dts_note WHERE t={} AND id<=(SELECT max(id) FROM _dts_note)-{keep}",
            self.table
        )];
        let notes = self.info.note_exprs("r");
        let columns: String = (0..notes.len()).map(|i| format!(",k{i}")).collect();
        let from = format!("_dts_meta m,{} r", self.name);
        let sets = self.in_the_way(update);
        for (i, c) in sets.iter().enumerate() {
            // A row that stands in the way twice is recorded once.
            let twice = self.info.unique[..i]
                .iter()
                .map(|s| format!(" AND NOT ifnull({},0)", self.info.conflict(s, "r")));
            let c = format!("{c}{}", twice.collect::<String>());
            let old = notes
                .iter()
                .enumerate()
                .map(|(i, e)| format!(" AND k{i}=(SELECT {e} FROM {} r WHERE {c})", self.name));
            let old: String = old.collect();
            all.push(format!("DELETE FROM _dts_note WHERE t={}{old}", self.table));
            all.push(format!(
                "UPDATE _dts_meta SET b=b+(SELECT {} FROM {} r WHERE {c}) WHERE b<stop AND {}",
                self.cost(&["r"]),
                self.name,
                self.exists(&c)
            ));
            let mut record =
                self.record(&op::CANDIDATE.to_string(), &self.image("r"), &from, &format!(" AND {c}"));
            let note = format!(
                "INSERT INTO _dts_note(t,rec{columns}) SELECT {},last_insert_rowid(),{} FROM {} r \
                 WHERE changes()=1 AND {c}",
                self.table,
                notes.join(","),
                self.name
            );
            // Behind the first part, whose id it takes, and before the others.
            record.insert(1, note);
            all.extend(record);
        }
        all
    }

    /// Turns candidates whose rows are gone into deletions.
    ///
    /// After a deletion too: a foreign key's action of the row that REPLACE displaces may delete the
    /// very row that is being updated, and then no AFTER UPDATE comes.
    fn confirm(&self, after: After) -> Vec<String> {
        let mut note: Vec<String> =
            self.info.note_exprs("r").iter().enumerate().map(|(i, e)| format!("{e}=n.k{i}")).collect();
        // The row that stands there now may be the one that displaced the other.
        match (after, self.info.rowid.is_some()) {
            (After::Delete, _) => {}
            (_, true) => note.push(format!("{}<>{}", self.info.rowid_of("r"), self.info.rowid_of("NEW"))),
            (_, false) => note.push(format!("NOT ({})", self.info.same_row("r", "NEW"))),
        }
        let note = note.join(" AND ");
        let displaced = |what: &str| {
            format!(
                "(SELECT {what} FROM _dts_note n WHERE n.t={} \
                 AND NOT EXISTS(SELECT 1 FROM {} r WHERE {note}) LIMIT 1)",
                self.table, self.name
            )
        };
        let mut all = Vec::new();
        if after != After::Insert {
            // The row itself moved, was changed in place (an upsert noted it) or told of its end.
            all.push(format!("DELETE FROM _dts_note WHERE {}", self.note_is("OLD")));
        }
        // One by one: IN (SELECT …) would make a temporary table each time. No statement displaces
        // more rows than there are unique sets.
        for _ in &self.info.unique {
            all.push(format!(
                "UPDATE _dts_capture SET o={} WHERE o={} AND id={}",
                op::DISPLACED,
                op::CANDIDATE,
                displaced("n.rec")
            ));
            all.push(format!("DELETE FROM _dts_note WHERE id={}", displaced("n.id")));
        }
        all
    }
}

/// Statements that compile every trigger of a table, to be prepared and never run.
pub(super) fn probes(info: &TableInfo) -> Vec<String> {
    let name = ident(&info.name);
    let mut all = vec![format!("INSERT INTO {name} DEFAULT VALUES"), format!("DELETE FROM {name}")];
    if let Some(column) = info.columns.iter().find(|c| !c.generated) {
        let column = ident(&column.name);
        all.push(format!("UPDATE {name} SET {column}={column}"));
    }
    all
}

/// Whether `shape` names columns that ALTER TABLE could then not drop.
pub(super) fn blocks_drop_column(shape: &Shape, info: &TableInfo) -> bool {
    let key = match &info.identity {
        Identity::Hidden => 1,
        _ => shape.key.len(),
    };
    shape.capture == Capture::Images && shape.columns.len() > key
}
