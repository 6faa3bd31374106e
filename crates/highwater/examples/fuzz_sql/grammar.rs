//! Random queries over some tables, by a grammar whose every sentence has one result: whatever cuts
//! rows off or tells equal ones apart orders by all columns, and what may differ in its last digits is
//! selected but never compared.

mod expressions;
mod groups;
mod joins;
mod predicates;
mod windows;

use crate::draw::{Column, Draw, Relation, Ty};

/// A query and its columns.
pub(crate) struct Query {
    pub(crate) sql: String,
    pub(crate) columns: Vec<Column>,
}

impl Query {
    /// The columns that can be compared.
    fn solid(&self) -> Vec<Column> {
        self.columns.iter().filter(|column| column.ty != Ty::Rough).cloned().collect()
    }
}

/// Makes queries over some relations.
pub(crate) struct Grammar<'a> {
    draw: &'a mut Draw,
    relations: &'a [Relation],
    aliases: usize,
}

impl<'a> Grammar<'a> {
    pub(crate) const fn new(draw: &'a mut Draw, relations: &'a [Relation]) -> Self {
        Self { draw, relations, aliases: 0 }
    }
}

impl Grammar<'_> {
    /// A query at most so deep.
    pub(crate) fn query(&mut self, depth: usize) -> Query {
        match self.draw.below(if depth == 0 { 4 } else { 14 }) {
            2..=5 => self.grouped(depth),
            6 => self.set_operation(depth),
            7 | 8 => self.windowed(depth),
            9 => self.limited(depth),
            10 => self.first_of_each(depth),
            11 => self.twice(depth),
            _ => self.plain(depth),
        }
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("r{}", self.aliases)
    }

    /// A column whose type is one of those wanted.
    fn column_of(&mut self, scope: &[Column], is_wanted: impl Fn(Ty) -> bool) -> Option<Column> {
        let fitting: Vec<&Column> = scope.iter().filter(|column| is_wanted(column.ty)).collect();
        if fitting.is_empty() {
            return None;
        }
        Some(fitting[self.draw.below(fitting.len())].clone())
    }

    fn plain(&mut self, depth: usize) -> Query {
        let (from, scope) = self.from(depth);
        self.plain_over(&from, &scope, depth)
    }

    fn plain_over(&mut self, from: &str, scope: &[Column], depth: usize) -> Query {
        let filter = self.filter(scope, depth);
        let (mut items, mut columns) = (Vec::new(), Vec::new());
        for at in 0..=self.draw.below(4) {
            let (sql, ty) = self.value(scope, depth);
            items.push(format!("{sql} AS c{at}"));
            columns.push(Column { name: format!("c{at}"), ty });
        }
        if self.draw.once_in(16)
            && let Some((sql, ty)) = self.unnested_value(scope)
        {
            items.push(format!("{sql} AS c_each"));
            columns.push(Column { name: "c_each".to_owned(), ty });
        }
        let distinct = if self.draw.once_in(4) { "DISTINCT " } else { "" };
        Query { sql: format!("SELECT {distinct}{} FROM {from}{filter}", items.join(", ")), columns }
    }

    fn filter(&mut self, scope: &[Column], depth: usize) -> String {
        if self.draw.once_in(3) { format!(" WHERE {}", self.predicate(scope, depth)) } else { String::new() }
    }

    fn set_operation(&mut self, depth: usize) -> Query {
        let left = self.plain(depth - 1);
        let (from, scope) = self.from(depth - 1);
        let filter = self.filter(&scope, depth - 1);
        let operators = ["UNION ALL", "UNION", "EXCEPT", "INTERSECT", "EXCEPT ALL", "INTERSECT ALL"];
        let operator = *self.draw.of(&operators);
        // A union has a type that both sides fit in.
        let is_loose = operator.starts_with("UNION") && self.draw.once_in(2);
        let (mut ours, mut theirs, mut columns) = (Vec::new(), Vec::new(), Vec::new());
        for (at, Column { name, ty }) in left.columns.iter().enumerate() {
            let wide = ty.wide();
            let fits = |other: Ty| if is_loose { other.family() == ty.family() } else { other.wide() == wide };
            let beside = self.column_of(&scope, fits);
            let beside = beside.unwrap_or_else(|| Column { name: self.draw.literal(wide), ty: *ty });
            let both = if is_loose { ty.beside(beside.ty) } else { wide };
            for (side, value) in [(&mut ours, name), (&mut theirs, &beside.name)] {
                let value = if is_loose { value.clone() } else { format!("CAST({value} AS {})", both.name()) };
                side.push(format!("{value} AS c{at}"));
            }
            columns.push(Column { name: format!("c{at}"), ty: both });
        }
        let first = format!("SELECT {} FROM ({}) AS first_side", ours.join(", "), left.sql);
        let second = format!("SELECT {} FROM {from}{filter}", theirs.join(", "));
        Query { sql: format!("{first} {operator} {second}"), columns }
    }

    fn names_of(columns: &[Column]) -> String {
        columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>().join(", ")
    }

    /// All columns as sort keys, so that only rows which are the same are left equal.
    fn order_by_all(&mut self, columns: &[Column]) -> String {
        let keys: Vec<String> = columns.iter().map(|column| self.sort_key(&column.name)).collect();
        keys.join(", ")
    }

    fn sort_key(&mut self, name: &str) -> String {
        let direction = *self.draw.of(&["", "", "", " DESC", " NULLS FIRST", " DESC NULLS LAST"]);
        format!("{name}{direction}")
    }

    fn limited(&mut self, depth: usize) -> Query {
        let inner = self.query(depth - 1);
        let columns = inner.solid();
        if columns.is_empty() {
            return inner;
        }
        let (all, order) = (Self::names_of(&columns), self.order_by_all(&columns));
        let offset = if self.draw.once_in(3) { " OFFSET 1" } else { "" };
        let limit = 1 + self.draw.below(4);
        let sql = format!("SELECT {all} FROM ({}) AS cut ORDER BY {order} LIMIT {limit}{offset}", inner.sql);
        Query { sql, columns }
    }

    /// DISTINCT ON some columns, of rows in the order of all.
    fn first_of_each(&mut self, depth: usize) -> Query {
        let inner = self.query(depth - 1);
        let columns = inner.solid();
        if columns.is_empty() {
            return inner;
        }
        let keys = 1 + self.draw.below(columns.len().min(2));
        let (on, all) = (Self::names_of(&columns[..keys]), Self::names_of(&columns));
        let order = self.order_by_all(&columns);
        let sql = format!("SELECT DISTINCT ON ({on}) {all} FROM ({}) AS each_first ORDER BY {order}", inner.sql);
        Query { sql, columns }
    }

    /// A query that is named and read two times.
    fn twice(&mut self, depth: usize) -> Query {
        let inner = self.query(depth - 1);
        let (left, right) = (self.alias(), self.alias());
        let of = |alias: &str| -> Vec<Column> {
            inner
                .solid()
                .into_iter()
                .map(|column| Column { name: format!("{alias}.{}", column.name), ..column })
                .collect()
        };
        let (ours, theirs) = (of(&left), of(&right));
        let Some(pair) = self.equality(&ours, &theirs) else { return inner };
        let name = format!("w_{left}");
        let kind = *self.draw.of(&["JOIN", "LEFT JOIN", "FULL JOIN"]);
        let from = format!("{name} AS {left} {kind} {name} AS {right} ON {}", pair.text());
        let both: Vec<Column> = ours.into_iter().chain(theirs).collect();
        let outer = self.plain_over(&from, &both, depth - 1);
        Query { sql: format!("WITH {name} AS ({}) {}", inner.sql, outer.sql), columns: outer.columns }
    }
}
