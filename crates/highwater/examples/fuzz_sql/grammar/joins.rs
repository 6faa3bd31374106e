//! FROM: tables, subqueries, VALUES, and all ways to join them.

use super::Grammar;
use crate::draw::{Column, TYPES, Ty};

impl Grammar<'_> {
    /// A FROM clause and the columns in its scope, qualified.
    pub(super) fn from(&mut self, depth: usize) -> (String, Vec<Column>) {
        if depth > 0
            && self.draw.once_in(8)
            && let Some(merged) = self.merged(depth - 1)
        {
            return merged;
        }
        let (mut sql, mut scope) = self.factor(depth);
        for _ in 0..[0, 0, 1, 1, 2][self.draw.below(5)] {
            let joined = match self.draw.below(14) {
                0 => self.crossed(),
                1 => self.joined_by_order(&scope),
                2 => self.lateral(&scope),
                3 => self.unnested(&scope),
                4 => self.series(&scope),
                _ => self.joined(&scope, depth.saturating_sub(1)),
            };
            let Some((join, columns)) = joined else { continue };
            sql = format!("{sql} {join}");
            scope.extend(columns);
        }
        (sql, scope)
    }

    /// One relation, and its columns that can be compared.
    pub(super) fn factor(&mut self, depth: usize) -> (String, Vec<Column>) {
        let alias = self.alias();
        let (sql, columns) = if depth > 0 && self.draw.once_in(3) {
            // Much is known of groups' keys, which joins make many of.
            let inner = if self.draw.once_in(3) { self.grouped(depth - 1) } else { self.query(depth - 1) };
            let columns = inner.solid();
            if columns.is_empty() { self.relation() } else { (format!("({})", inner.sql), columns) }
        } else if self.draw.once_in(16) {
            return self.listed(&alias);
        } else {
            self.relation()
        };
        let qualified =
            columns.into_iter().map(|column| Column { name: format!("{alias}.{}", column.name), ..column }).collect();
        (format!("{sql} AS {alias}"), qualified)
    }

    fn relation(&mut self) -> (String, Vec<Column>) {
        let relation = self.draw.of(self.relations);
        (relation.name.clone(), relation.columns.clone())
    }

    /// Rows that are written out; the first says the types.
    fn listed(&mut self, alias: &str) -> (String, Vec<Column>) {
        let types = [*self.draw.of(&TYPES), *self.draw.of(&TYPES)];
        let mut rows = Vec::new();
        for at in 0..2 + self.draw.below(2) {
            let values = types.map(|ty| {
                let value = if at == 0 { self.draw.literal(ty) } else { self.draw.value(ty) };
                format!("CAST({value} AS {})", ty.name())
            });
            rows.push(format!("({})", values.join(", ")));
        }
        let columns = ["v0", "v1"].into_iter().zip(types);
        let columns = columns.map(|(name, ty)| Column { name: format!("{alias}.{name}"), ty }).collect();
        (format!("(VALUES {}) AS {alias} (v0, v1)", rows.join(", ")), columns)
    }

    fn joined(&mut self, scope: &[Column], depth: usize) -> Option<(String, Vec<Column>)> {
        let (right, columns) = self.factor(depth);
        let kind = *self.draw.of(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
        let condition = self.equality(scope, &columns)?.text();
        // A condition that may be unknown at both sides of an outer join is a hard case on purpose.
        let more = if self.draw.once_in(3) {
            let both: Vec<Column> = scope.iter().chain(&columns).cloned().collect();
            format!(" AND {}", self.comparison(&both))
        } else {
            String::new()
        };
        Some((format!("{kind} {right} ON {condition}{more}"), columns))
    }

    fn crossed(&mut self) -> Option<(String, Vec<Column>)> {
        let (right, columns) = self.factor(0);
        Some((format!("CROSS JOIN {right}"), columns))
    }

    fn joined_by_order(&mut self, scope: &[Column]) -> Option<(String, Vec<Column>)> {
        let (right, columns) = self.factor(0);
        let condition = self.inequality(scope, &columns)?.text();
        let kind = *self.draw.of(&["JOIN", "LEFT JOIN"]);
        Some((format!("{kind} {right} ON {condition}"), columns))
    }

    /// What a subquery finds for each row.
    fn lateral(&mut self, scope: &[Column]) -> Option<(String, Vec<Column>)> {
        let (from, inner) = self.factor(0);
        let tie = self.equality(scope, &inner)?.text();
        let alias = self.alias();
        let (sql, ty) = if self.draw.once_in(2) { self.simple_aggregate(&inner) } else { self.expression(&inner) };
        let (kind, on) = *self.draw.of(&[("CROSS JOIN", ""), ("JOIN", " ON true"), ("LEFT JOIN", " ON true")]);
        let join = format!("{kind} LATERAL (SELECT {sql} AS found FROM {from} WHERE {tie}) AS {alias}{on}");
        Some((join, vec![Column { name: format!("{alias}.found"), ty }]))
    }

    /// A row for each of some columns.
    fn unnested(&mut self, scope: &[Column]) -> Option<(String, Vec<Column>)> {
        let (sql, ty) = self.unnested_value(scope)?;
        let alias = self.alias();
        Some((format!("CROSS JOIN {sql} AS {alias} (e)"), vec![Column { name: format!("{alias}.e"), ty }]))
    }

    pub(super) fn unnested_value(&mut self, scope: &[Column]) -> Option<(String, Ty)> {
        let one = self.column_of(scope, |ty| ty == Ty::Int || ty.is_text())?;
        let other = self.column_of(scope, |ty| ty == one.ty)?;
        Some((format!("unnest(ARRAY[{}, {}])", one.name, other.name), one.ty))
    }

    fn series(&mut self, scope: &[Column]) -> Option<(String, Vec<Column>)> {
        let upto = self.column_of(scope, |ty| ty == Ty::Int)?;
        let alias = self.alias();
        let join = format!("CROSS JOIN generate_series(1, least({}, 3)) AS {alias} (i)", upto.name);
        Some((join, vec![Column { name: format!("{alias}.i"), ty: Ty::Int }]))
    }

    /// USING and NATURAL, of sides whose one common column is made for it.
    fn merged(&mut self, depth: usize) -> Option<(String, Vec<Column>)> {
        let ((left, ours), (right, theirs)) = (self.factor(depth), self.factor(depth));
        let key = self.column_of(&ours, |_| true)?;
        let found = self.column_of(&theirs, |ty| ty == key.ty)?;
        let name = format!("k_{}", self.alias());
        let (first, mut columns) = self.side(&left, &ours, &key, &name);
        let (second, others) = self.side(&right, &theirs, &found, &name);
        columns.extend(others);
        columns.push(Column { name: name.clone(), ty: key.ty });
        let kind = *self.draw.of(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
        let (natural, using) =
            if self.draw.once_in(3) { ("NATURAL ", String::new()) } else { ("", format!(" USING ({name})")) };
        Some((format!("{first} {natural}{kind} {second}{using}"), columns))
    }

    /// A relation with a column that is called `name`, and others whose names are its own.
    fn side(&mut self, from: &str, scope: &[Column], key: &Column, name: &str) -> (String, Vec<Column>) {
        let alias = self.alias();
        let mut items = vec![format!("{} AS {name}", key.name)];
        let mut columns = Vec::new();
        for (at, column) in scope.iter().enumerate() {
            items.push(format!("{} AS {alias}_{at}", column.name));
            columns.push(Column { name: format!("{alias}.{alias}_{at}"), ty: column.ty });
        }
        (format!("(SELECT {} FROM {from}) AS {alias}", items.join(", ")), columns)
    }
}
