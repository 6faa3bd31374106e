//! GROUP BY, its sets, HAVING and aggregates.

use super::{Grammar, Query};
use crate::draw::{Column, Family, Ty};

impl Grammar<'_> {
    pub(super) fn grouped(&mut self, depth: usize) -> Query {
        let (from, scope) = self.from(depth);
        let filter = self.filter(&scope, depth);
        let (mut items, mut keys, mut columns) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.draw.below(4) {
            let (sql, ty) = self.expression(&scope);
            if keys.contains(&sql) {
                continue;
            }
            // A key need not be selected.
            if !self.draw.once_in(5) {
                let name = format!("c{}", items.len());
                items.push(format!("{sql} AS {name}"));
                columns.push(Column { name, ty });
            }
            keys.push(sql);
        }
        let fewest = usize::from(items.is_empty());
        for _ in 0..fewest + self.draw.below(4 - fewest) {
            let (sql, ty) = self.aggregate(&scope);
            let name = format!("c{}", items.len());
            items.push(format!("{sql} AS {name}"));
            columns.push(Column { name, ty });
        }
        let group = self.grouping(&keys);
        let having = if self.draw.once_in(4) { self.having(&scope) } else { String::new() };
        Query { sql: format!("SELECT {} FROM {from}{filter}{group}{having}", items.join(", ")), columns }
    }

    fn grouping(&mut self, keys: &[String]) -> String {
        let [first, ..] = keys else { return String::new() };
        let all = keys.join(", ");
        match self.draw.below(10) {
            0 => format!(" GROUP BY GROUPING SETS (({all}), ({first}), ())"),
            1 => format!(" GROUP BY CUBE ({all})"),
            2 => format!(" GROUP BY ROLLUP ({all})"),
            _ => format!(" GROUP BY {all}"),
        }
    }

    fn having(&mut self, scope: &[Column]) -> String {
        let column = self.draw.of(scope).clone();
        let condition = match self.draw.below(6) {
            0 => "count(*) > 1".to_owned(),
            1 => format!("count({}) BETWEEN 1 AND 3", column.name),
            2 => format!("count(DISTINCT {}) < 3 OR count(*) > 4", column.name),
            3 => format!("bool_or({})", self.comparison(scope)),
            4 => {
                let (from, inner) = self.factor(0);
                format!("count(*) >= (SELECT count(*) FROM {from} WHERE {})", self.comparison(&inner))
            }
            _ if column.ty == Ty::Bool => format!("bool_and({}) IS NOT NULL", column.name),
            _ => format!("min({}) < {}", column.name, self.draw.literal(column.ty)),
        };
        format!(" HAVING {condition}")
    }

    fn aggregate(&mut self, scope: &[Column]) -> (String, Ty) {
        let (call, ty) = if self.draw.once_in(3) { self.rare_aggregate(scope) } else { self.simple_aggregate(scope) };
        let filter =
            if self.draw.once_in(4) { format!(" FILTER (WHERE {})", self.comparison(scope)) } else { String::new() };
        (format!("{call}{filter}"), ty)
    }

    /// One whose value can be compared.
    pub(super) fn simple_aggregate(&mut self, scope: &[Column]) -> (String, Ty) {
        let Column { name, ty } = self.draw.of(scope).clone();
        let distinct = if self.draw.once_in(3) { "DISTINCT " } else { "" };
        match (self.draw.below(6), ty) {
            (0, _) => ("count(*)".to_owned(), Ty::Big),
            (1 | 2, Ty::Small | Ty::Int) => (format!("sum({distinct}{name})"), Ty::Big),
            (1 | 2, Ty::Big | Ty::Numeric | Ty::Fine) => (format!("sum({distinct}{name})"), Ty::Fine),
            (1 | 2, Ty::Float) => (format!("sum({distinct}{name})"), Ty::Float),
            (1, Ty::Span) => (format!("sum({name})"), Ty::Span),
            (1 | 3, Ty::Bool) => (format!("bool_and({name})"), Ty::Bool),
            (2 | 4, Ty::Bool) => (format!("bool_or({name})"), Ty::Bool),
            (1, Ty::Text | Ty::Varchar) => (format!("string_agg({distinct}{name}, ',' ORDER BY {name})"), Ty::Text),
            (3, _) => (format!("min({name})"), ty),
            (4, _) => (format!("max({name})"), ty),
            _ => (format!("count({distinct}{name})"), Ty::Big),
        }
    }

    /// One that is an array, or rounded.
    fn rare_aggregate(&mut self, scope: &[Column]) -> (String, Ty) {
        let Column { name, ty } = self.draw.of(scope).clone();
        let distinct = if self.draw.once_in(3) { "DISTINCT " } else { "" };
        let is_exact = ty.is_whole() || ty.is_decimal();
        match self.draw.below(6) {
            0 if is_exact || ty == Ty::Float => (format!("avg({distinct}{name})"), Ty::Rough),
            1 if is_exact => {
                let function = *self.draw.of(&["stddev_samp", "stddev_pop", "var_samp", "var_pop"]);
                (format!("{function}({name})"), Ty::Rough)
            }
            2 if ty.is_whole() => {
                let part = *self.draw.of(&["0", "0.25", "0.5", "1"]);
                (format!("percentile_cont({part}) WITHIN GROUP (ORDER BY {name})"), Ty::Rough)
            }
            3 if is_exact || ty.is_text() || ty.family() == Family::Moment => {
                let part = *self.draw.of(&["0", "0.25", "0.5", "1"]);
                (format!("percentile_disc({part}) WITHIN GROUP (ORDER BY {name})"), ty)
            }
            _ if ty.is_whole() || ty.is_text() || matches!(ty, Ty::Bool | Ty::Date) => {
                (format!("array_agg({distinct}{name} ORDER BY {name})"), Ty::Rough)
            }
            _ => (format!("bool_or({})", self.comparison(scope)), Ty::Bool),
        }
    }
}
