//! Cases: tables, views, and rounds of changes with restarts in between, all drawn from a seed.

use crate::draw::{Column, Draw, Relation, TYPES, Ty};
use crate::grammar::Grammar;
use std::collections::BTreeSet;

/// One step of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A definition, or a change that a key may refuse.
    Do(String),
    /// Changes in one transaction, which is committed or taken back.
    Together { statements: Vec<String>, is_kept: bool },
    /// A view, its name and query; one that is refused is left out.
    View(String, String),
    /// The end of a view that no other reads.
    Drop(String),
    /// Flushes, and compares all views.
    Compare,
    /// Stops and opens again, with a final checkpoint or without.
    Restart { is_clean: bool, workers: usize },
}

impl Step {
    /// The step as a script has it.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Do(sql) => format!("{sql};"),
            Self::Together { statements, is_kept } => {
                let end = if *is_kept { "COMMIT" } else { "ROLLBACK" };
                format!("BEGIN;\n{};\n{end};", statements.join(";\n"))
            }
            Self::View(name, sql) => format!("CREATE MATERIALIZED VIEW {name} AS {sql};"),
            Self::Drop(name) => format!("DROP MATERIALIZED VIEW {name};"),
            Self::Compare => "FLUSH; -- compare".to_owned(),
            Self::Restart { is_clean: true, workers } => format!("-- restart with {workers} workers"),
            Self::Restart { is_clean: false, workers } => format!("-- crash, and restart with {workers} workers"),
        }
    }
}

/// A table: its first columns are its key.
#[derive(Debug)]
struct Table {
    name: String,
    columns: Vec<Column>,
    keys: usize,
    is_append_only: bool,
}

impl Table {
    fn drawn(draw: &mut Draw, number: usize) -> Self {
        let letter = ["a", "b", "c", "d"][number];
        let width = 2 + draw.below(3);
        let keys = [0, 0, 1, 1, 2][draw.below(5)];
        let column = |at: usize| {
            let ty =
                if at < keys { *draw.of(&[Ty::Int, Ty::Int, Ty::Big, Ty::Text, Ty::Date]) } else { *draw.of(&TYPES) };
            Column { name: format!("{letter}{at}"), ty }
        };
        let columns = (0..width).map(column).collect();
        Self { name: format!("t{number}"), columns, keys, is_append_only: keys == 0 && draw.once_in(4) }
    }

    fn created(&self) -> String {
        let columns = self.columns.iter().map(|column| format!("{} {}", column.name, column.ty.name()));
        let mut parts: Vec<String> = columns.collect();
        if self.keys > 0 {
            parts.push(format!("PRIMARY KEY ({})", self.key_names()));
        }
        let suffix = if self.is_append_only { " APPEND ONLY" } else { "" };
        format!("CREATE TABLE {} ({}){suffix}", self.name, parts.join(", "))
    }

    fn key_names(&self) -> String {
        let names: Vec<&str> = self.columns[..self.keys].iter().map(|column| column.name.as_str()).collect();
        names.join(", ")
    }

    /// A column's value, which is there in a key.
    fn value(&self, draw: &mut Draw, at: usize) -> String {
        let ty = self.columns[at].ty;
        match at < self.keys {
            true if ty.is_whole() => draw.below(12).to_string(),
            true => draw.literal(ty),
            false => draw.value(ty),
        }
    }

    /// Rows of which no two have one key.
    fn rows(&self, draw: &mut Draw, most: usize) -> Vec<Vec<String>> {
        let (mut rows, mut seen) = (Vec::new(), BTreeSet::new());
        for _ in 0..1 + draw.below(most) {
            let row: Vec<String> = (0..self.columns.len()).map(|at| self.value(draw, at)).collect();
            if self.keys == 0 || seen.insert(row[..self.keys].to_vec()) {
                rows.push(row);
            }
        }
        rows
    }

    fn inserted(&self, rows: &[Vec<String>]) -> String {
        let rows: Vec<String> = rows.iter().map(|row| format!("({})", row.join(", "))).collect();
        format!("INSERT INTO {} VALUES {}", self.name, rows.join(", "))
    }

    /// Rows of which those whose keys exist are left out.
    fn filled(&self, draw: &mut Draw, most: usize) -> String {
        let rows = self.rows(draw, most);
        let conflict = if self.keys > 0 { " ON CONFLICT DO NOTHING" } else { "" };
        format!("{}{conflict}", self.inserted(&rows))
    }

    /// Rows that are refused, left out or put in the place of others where their keys exist.
    fn insert(&self, draw: &mut Draw) -> String {
        match draw.below(3) {
            0 => {
                let rows = self.rows(draw, 3);
                self.inserted(&rows)
            }
            1 if self.keys > 0 && self.keys < self.columns.len() => {
                let rows = self.rows(draw, 4);
                let set = &draw.of(&self.columns[self.keys..]).name;
                let value = match draw.below(3) {
                    0 => format!("coalesce({}.{set}, EXCLUDED.{set})", self.name),
                    _ => format!("EXCLUDED.{set}"),
                };
                let conflict = format!("ON CONFLICT ({}) DO UPDATE SET {set} = {value}", self.key_names());
                format!("{} {conflict}", self.inserted(&rows))
            }
            _ => self.filled(draw, 4),
        }
    }

    /// A condition on one column.
    fn found(&self, at: usize, value: &str) -> String {
        let name = &self.columns[at].name;
        if value == "NULL" { format!("{name} IS NULL") } else { format!("{name} = {value}") }
    }

    fn change(&self, draw: &mut Draw) -> String {
        if self.is_append_only {
            return self.filled(draw, 4);
        }
        let (set, by) = (draw.below(self.columns.len()), draw.below(self.columns.len()));
        let (new, old) = (self.value(draw, set), self.value(draw, by));
        let found = self.found(by, &old);
        match draw.below(12) {
            0..=2 => format!("DELETE FROM {} WHERE {found}", self.name),
            3 | 4 if set < self.keys => {
                // What becomes of one key is the same whichever row comes first.
                let name = &self.columns[set].name;
                let found = self.found(set, &self.value(draw, set));
                format!("UPDATE {} SET {name} = {new} WHERE {found}", self.name)
            }
            3..=5 if set >= self.keys => {
                let Column { name, ty } = &self.columns[set];
                let others: Vec<&Column> = self.columns.iter().filter(|other| other.ty == *ty).collect();
                let value = if draw.once_in(3) { draw.of(&others).name.clone() } else { new };
                format!("UPDATE {} SET {name} = {value} WHERE {found}", self.name)
            }
            6 if draw.once_in(3) => format!("DELETE FROM {}", self.name),
            6 if draw.once_in(3) => format!("TRUNCATE {}", self.name),
            _ => self.insert(draw),
        }
    }

    /// All rows with one value go, and others with it come.
    fn refilled(&self, draw: &mut Draw) -> Vec<String> {
        if self.is_append_only {
            return vec![self.filled(draw, 3)];
        }
        let by = draw.below(self.columns.len());
        let value = self.value(draw, by);
        let mut rows = self.rows(draw, 3);
        for row in &mut rows {
            row[by].clone_from(&value);
        }
        let conflict = if self.keys > 0 { " ON CONFLICT DO NOTHING" } else { "" };
        vec![
            format!("DELETE FROM {} WHERE {}", self.name, self.found(by, &value)),
            format!("{}{conflict}", self.inserted(&rows)),
        ]
    }
}

/// What a case has so far.
struct Case {
    draw: Draw,
    steps: Vec<Step>,
    tables: Vec<Table>,
    /// What a query may read.
    relations: Vec<Relation>,
    /// Views that no other reads.
    unread: Vec<String>,
    views: usize,
}

/// The script of a seed.
pub(crate) fn case_of(seed: u64) -> Vec<Step> {
    let mut case = Case {
        draw: Draw::seeded(seed),
        steps: Vec::new(),
        tables: Vec::new(),
        relations: Vec::new(),
        unread: Vec::new(),
        views: 0,
    };
    case.make_tables();
    for _ in 0..1 + case.draw.below(3) {
        case.make_view();
    }
    case.steps.push(Step::Compare);
    for _ in 0..2 + case.draw.below(4) {
        if case.draw.once_in(3) {
            let workers = *case.draw.of(&[2, 2, 1, 3, 4]);
            case.steps.push(Step::Restart { is_clean: case.draw.once_in(2), workers });
        }
        case.change();
        if case.draw.once_in(4) {
            case.make_view();
        } else if case.draw.once_in(6) {
            case.make_again();
        }
        case.steps.push(Step::Compare);
    }
    case.steps
}

impl Case {
    fn make_tables(&mut self) {
        for number in 0..3 + self.draw.below(2) {
            let table = Table::drawn(&mut self.draw, number);
            self.steps.push(Step::Do(table.created()));
            self.relations.push(Relation { name: table.name.clone(), columns: table.columns.clone() });
            // Nothing is ever written to some of them.
            if number < 3 || self.draw.once_in(2) {
                self.tables.push(table);
            }
        }
        for table in &self.tables {
            if !self.draw.once_in(6) {
                self.steps.push(Step::Do(table.filled(&mut self.draw, 12)));
            }
        }
    }

    fn make_view(&mut self) {
        let name = format!("v{}", self.views);
        self.views += 1;
        self.make_view_named(name);
    }

    fn make_view_named(&mut self, name: String) {
        let query = Grammar::new(&mut self.draw, &self.relations).query(2);
        self.steps.push(Step::View(name.clone(), query.sql));
        let columns: Vec<Column> = query.columns.into_iter().filter(|column| column.ty != Ty::Rough).collect();
        if self.draw.once_in(3) && !columns.is_empty() {
            self.relations.push(Relation { name, columns });
        } else {
            self.unread.push(name);
        }
    }

    /// Drops a view, and makes another one under its name.
    fn make_again(&mut self) {
        if let Some(name) = self.unread.pop() {
            self.steps.push(Step::Drop(name.clone()));
            self.make_view_named(name);
        }
    }

    fn change(&mut self) {
        let Self { draw, tables, steps, .. } = self;
        let tables = tables.as_slice();
        for _ in 0..1 + draw.below(5) {
            let table = draw.of(tables);
            if !draw.once_in(4) {
                steps.push(Step::Do(table.change(draw)));
                continue;
            }
            let mut statements = Vec::new();
            for _ in 0..1 + draw.below(3) {
                let table = draw.of(tables);
                if draw.once_in(3) {
                    statements.extend(table.refilled(draw));
                } else {
                    statements.push(table.change(draw));
                }
            }
            steps.push(Step::Together { statements, is_kept: !draw.once_in(6) });
        }
    }
}
