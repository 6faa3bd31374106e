//! Views show a write some milliseconds after it is done, so a script that asks one waits for it with
//! FLUSH first; one that does not is wrong now and then, on a busy machine.

use crate::slt::{parsed, wanted};
use sqllogictest::{DefaultColumnType, QueryExpect, Record, StatementExpect};
use std::collections::HashSet;

/// Views that do not show all writes yet, by name.
#[derive(Default)]
struct Views {
    all: HashSet<String>,
    behind: HashSet<String>,
    /// What stands in the definition of each object, and of tables in those of sinks into them.
    defined: Vec<(String, HashSet<String>)>,
    /// Each write waits for the views itself.
    flushes_itself: bool,
}

impl Views {
    /// What a statement that succeeds does to them.
    fn ran(&mut self, words: &[String]) {
        let is = |at: usize, word: &str| words.get(at).is_some_and(|found| found == word);
        match words.first().map_or("", String::as_str) {
            "create" if is(1, "materialized") => {
                let at = if is(3, "if") { 6 } else { 3 };
                // CREATE waits until the view has what there is.
                self.all.extend(words.get(at).cloned());
                self.behind.remove(words.get(at).map_or("", String::as_str));
                self.define(words.get(at), words);
            }
            "create" if is(1, "view") => self.define(words.get(2), words),
            "create" if is(1, "sink") => self.define(words.get(4).filter(|_| is(3, "into")), words),
            "insert" | "update" | "delete" | "truncate" | "copy" if !self.flushes_itself => {
                let behind = self.after(words);
                self.behind.extend(behind);
            }
            "commit" if !self.flushes_itself => self.behind.clone_from(&self.all),
            "set" if is(1, "rw_implicit_flush") => self.flushes_itself = is(3, "true"),
            "flush" => self.behind.clear(),
            _ => {}
        }
    }

    fn define(&mut self, name: Option<&String>, words: &[String]) {
        self.defined.extend(name.map(|name| (name.clone(), words.iter().cloned().collect())));
    }

    /// The views that a write may reach, by the names that stand in it.
    fn after(&self, write: &[String]) -> HashSet<String> {
        // What is written stands first; behind it may be what is only read.
        let names = if write[0] == "truncate" { write.len() } else { write.len().min(3) };
        let mut reached: HashSet<String> = write[..names].iter().cloned().collect();
        loop {
            let is_new =
                |(name, words): &&(String, HashSet<String>)| !reached.contains(name) && !words.is_disjoint(&reached);
            let more: Vec<String> = self.defined.iter().filter(is_new).map(|(name, _)| name.clone()).collect();
            if more.is_empty() {
                return reached.intersection(&self.all).cloned().collect();
            }
            reached.extend(more);
        }
    }

    /// A view behind the writes that a query asks.
    fn asked_too_early<'a>(&self, words: &'a [String]) -> Option<&'a String> {
        let asks = matches!(words.first().map_or("", String::as_str), "select" | "with" | "table" | "fetch");
        words.iter().find(|word| asks && self.behind.contains(*word))
    }
}

/// The words of each statement, without what stands in quotes.
fn statements(sql: &str) -> Vec<Vec<String>> {
    let outside: String = sql.split('\'').step_by(2).collect::<Vec<_>>().join(" ");
    let words = |statement: &str| {
        let words = statement.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
        words.map(str::to_ascii_lowercase).collect()
    };
    outside.split(';').map(words).collect()
}

/// The queries of a script that ask a view before it must show what was written.
fn hasty(script: &[Record<DefaultColumnType>]) -> Vec<String> {
    let (mut views, mut hasty) = (Views::default(), Vec::new());
    for record in script {
        let (sql, place, fails) = match record {
            Record::Statement { sql, loc, expected, .. } => (sql, loc, matches!(expected, StatementExpect::Error(_))),
            Record::Query { sql, loc, expected, .. } => (sql, loc, matches!(expected, QueryExpect::Error(_))),
            _ => continue,
        };
        for words in statements(sql) {
            if !fails {
                hasty.extend(views.asked_too_early(&words).map(|view| format!("{place}: {view}")));
            }
            // A FLUSH that fails has waited for all views that do not.
            if !fails || words.first().is_some_and(|word| word == "flush") {
                views.ran(&words);
            }
        }
    }
    hasty
}

#[test]
fn scripts_wait_for_views_before_they_ask_them() {
    let hasty: Vec<String> = wanted().iter().flat_map(|path| hasty(&parsed(path))).collect();
    assert!(hasty.is_empty(), "a FLUSH is missing before\n{}", hasty.join("\n"));
}

#[test]
fn a_query_of_a_view_between_a_write_and_flush_is_hasty() {
    let script = "
statement ok
CREATE MATERIALIZED VIEW v AS SELECT x FROM t

query I
SELECT x FROM v
----

statement ok
INSERT INTO t VALUES (1)

query I
SELECT x FROM t WHERE s = 'v'
----
1

query I
SELECT v.x FROM v
----
1

statement error
FLUSH

query I
SELECT x FROM v
----
1
";
    let script = sqllogictest::parse::<DefaultColumnType>(script).expect("a script");
    let hasty = hasty(&script);
    assert_eq!(hasty.len(), 1, "{hasty:?}");
    assert!(hasty[0].ends_with(":17: v"), "{hasty:?}");
}
