//! Conditions, and the subqueries in them.

use super::Grammar;
use crate::draw::{Column, Family, Ty};

/// Columns of two sides that are compared.
pub(super) struct Pair {
    pub(super) outer: String,
    pub(super) operator: &'static str,
    pub(super) inner: String,
}

impl Pair {
    pub(super) fn text(&self) -> String {
        format!("({} {} {})", self.outer, self.operator, self.inner)
    }
}

/// Operators by which values are in an order.
const ORDERS: [&str; 4] = ["<", "<=", ">", ">="];

impl Grammar<'_> {
    /// Columns of both sides that can be compared.
    fn pair(&mut self, left: &[Column], right: &[Column]) -> Option<(Column, Column)> {
        if left.is_empty() || right.is_empty() {
            return None;
        }
        for _ in 0..10 {
            let (one, other) = (self.draw.of(left).clone(), self.draw.of(right).clone());
            if one.ty.family() == other.ty.family() && one.ty != Ty::Rough {
                return Some((one, other));
            }
        }
        None
    }

    pub(super) fn equality(&mut self, left: &[Column], right: &[Column]) -> Option<Pair> {
        let (outer, inner) = self.pair(left, right)?;
        let operator = if self.draw.once_in(6) { "IS NOT DISTINCT FROM" } else { "=" };
        Some(Pair { outer: outer.name, operator, inner: inner.name })
    }

    pub(super) fn inequality(&mut self, left: &[Column], right: &[Column]) -> Option<Pair> {
        let (outer, inner) = self.pair(left, right)?;
        let operator = *self.draw.of(&ORDERS);
        Some(Pair { outer: outer.name, operator, inner: inner.name })
    }

    pub(super) fn comparison(&mut self, scope: &[Column]) -> String {
        let Column { name, ty } = self.draw.of(scope).clone();
        let operator = *self.draw.of(&["=", "<>", "<", "<=", ">", ">=", "IS DISTINCT FROM"]);
        let beside =
            if self.draw.once_in(2) { self.column_of(scope, |other| other.family() == ty.family()) } else { None };
        let other = match beside {
            Some(column) => column.name,
            None => self.draw.literal(ty),
        };
        match self.draw.below(10) {
            0 => format!("{name} IS NULL"),
            1 => format!("{name} IS NOT NULL"),
            2 => {
                let (a, b) = (self.draw.literal(ty), self.draw.value(ty));
                let not = if self.draw.once_in(3) { "NOT " } else { "" };
                format!("{name} {not}IN ({a}, {b})")
            }
            3 => {
                let not = if self.draw.once_in(3) { "NOT " } else { "" };
                format!("{name} {not}BETWEEN {} AND {other}", self.draw.literal(ty))
            }
            4 if ty.is_text() => format!("{name} LIKE '%y%'"),
            4 if ty == Ty::Bool => format!("{name} IS {}", self.draw.of(&["TRUE", "NOT TRUE", "FALSE", "UNKNOWN"])),
            5 if ty == Ty::Bool => name,
            _ => format!("{name} {operator} {other}"),
        }
    }

    pub(super) fn predicate(&mut self, scope: &[Column], depth: usize) -> String {
        match self.draw.below(if depth == 0 { 6 } else { 12 }) {
            0 => format!("({} OR {})", self.comparison(scope), self.comparison(scope)),
            1 => format!("({} AND {})", self.comparison(scope), self.comparison(scope)),
            2 => format!("NOT ({})", self.comparison(scope)),
            3 => format!("({}) IS NOT TRUE", self.comparison(scope)),
            6 | 7 => self.subquery(scope, depth - 1),
            8 => format!("({} AND {})", self.subquery(scope, depth - 1), self.comparison(scope)),
            9 => format!("({} OR {})", self.subquery(scope, depth - 1), self.comparison(scope)),
            10 => format!("({} OR {})", self.subquery(scope, depth - 1), self.subquery(scope, 0)),
            11 => {
                let (when, then) = (self.comparison(scope), self.subquery(scope, depth - 1));
                format!("CASE WHEN {when} THEN {then} ELSE {} END", self.comparison(scope))
            }
            _ => self.comparison(scope),
        }
    }

    /// IN, EXISTS, ANY, ALL, and comparisons with an aggregate.
    pub(super) fn subquery(&mut self, scope: &[Column], depth: usize) -> String {
        let (from, inner) = self.factor(depth);
        let not = if self.draw.once_in(3) { "NOT " } else { "" };
        let Some(pair) = self.equality(scope, &inner) else { return self.comparison(scope) };
        let more = if self.draw.once_in(2) { Some(self.comparison(&inner)) } else { None };
        let also = more.as_ref().map_or_else(String::new, |more| format!(" AND {more}"));
        let filter = more.as_ref().map_or_else(String::new, |more| format!(" WHERE {more}"));
        match self.draw.below(8) {
            0 | 1 => format!("{} {not}IN (SELECT {} FROM {from}{filter})", pair.outer, pair.inner),
            2 | 3 => format!("{not}EXISTS (SELECT 1 FROM {from} WHERE {}{also})", pair.text()),
            4 => {
                let (operator, all) = (*self.draw.of(&["=", "<>", "<", ">", ">="]), *self.draw.of(&["ANY", "ALL"]));
                format!("{} {operator} {all} (SELECT {} FROM {from}{filter})", pair.outer, pair.inner)
            }
            // Two ties, of which one is no equality.
            5 => match self.inequality(scope, &inner) {
                Some(order) => {
                    format!("{not}EXISTS (SELECT 1 FROM {from} WHERE {} AND {}{also})", pair.text(), order.text())
                }
                None => format!("{not}EXISTS (SELECT 1 FROM {from}{filter})"),
            },
            _ => {
                let tied = if self.draw.once_in(2) { format!(" WHERE {}{also}", pair.text()) } else { filter };
                let is_number = |ty: Ty| ty.family() == Family::Number;
                let (ours, theirs) = (self.column_of(scope, is_number), self.column_of(&inner, is_number));
                let (Some(ours), Some(theirs)) = (ours, theirs) else { return self.comparison(scope) };
                let (operator, function) = (*self.draw.of(&ORDERS), *self.draw.of(&["max", "min", "count", "sum"]));
                format!("{} {operator} (SELECT {function}({}) FROM {from}{tied})", ours.name, theirs.name)
            }
        }
    }

    /// A subquery's one value.
    pub(super) fn looked_up(&mut self, scope: &[Column], depth: usize) -> Option<(String, Ty)> {
        let (from, inner) = self.factor(depth);
        let pair = self.equality(scope, &inner)?;
        let (call, ty) = self.simple_aggregate(&inner);
        Some((format!("(SELECT {call} FROM {from} WHERE {})", pair.text()), ty))
    }
}
