//! Values of one row.

use super::Grammar;
use crate::draw::{Column, Ty};

impl Grammar<'_> {
    /// What a SELECT gives: an expression, a condition, or a subquery's value.
    pub(super) fn value(&mut self, scope: &[Column], depth: usize) -> (String, Ty) {
        match self.draw.below(12) {
            0 => (format!("({})", self.comparison(scope)), Ty::Bool),
            1 if depth > 0 => (format!("({})", self.subquery(scope, depth - 1)), Ty::Bool),
            2 if depth > 0 => (format!("CASE WHEN {} THEN 1 ELSE 0 END", self.subquery(scope, depth - 1)), Ty::Int),
            3 if depth > 0 => self.looked_up(scope, depth - 1).unwrap_or_else(|| self.expression(scope)),
            _ => self.expression(scope),
        }
    }

    /// A value of a row's columns alone.
    pub(super) fn expression(&mut self, scope: &[Column]) -> (String, Ty) {
        let Column { name, ty } = self.draw.of(scope).clone();
        match self.draw.below(9) {
            0 => {
                // A whole number that is written out is an int.
                let whole = if ty == Ty::Small { Ty::Int } else { ty };
                (format!("coalesce({name}, {})", self.draw.literal(ty)), whole)
            }
            1 => (format!("nullif({name}, {})", self.draw.literal(ty)), ty),
            2 => match self.column_of(scope, |other| other == ty) {
                Some(other) => (format!("greatest({name}, {})", other.name), ty),
                None => (name, ty),
            },
            3 | 4 => self.computed(name, ty),
            _ => (name, ty),
        }
    }

    fn computed(&mut self, name: String, ty: Ty) -> (String, Ty) {
        let is_first = self.draw.once_in(2);
        let at_least_int = if ty == Ty::Small { Ty::Int } else { ty };
        match (ty, is_first) {
            (Ty::Bool, true) => (format!("NOT {name}"), Ty::Bool),
            (Ty::Bool, false) => (format!("CASE WHEN {name} THEN 1 ELSE 0 END"), Ty::Int),
            (Ty::Small | Ty::Int | Ty::Big, true) => (format!("{name} + 1"), at_least_int),
            (Ty::Small | Ty::Int | Ty::Big, false) => {
                (format!("CASE WHEN {name} > 2 THEN {name} ELSE 0 END"), at_least_int)
            }
            (Ty::Numeric | Ty::Fine, true) => (format!("{name} + 1"), Ty::Fine),
            (Ty::Numeric | Ty::Fine, false) => (format!("-{name}"), ty),
            (Ty::Float, true) => (format!("{name} + 0.5"), ty),
            // A NaN with a sign would be a group apart in queries that run once.
            (Ty::Float, false) => (format!("{name} * 2"), ty),
            (Ty::Text | Ty::Varchar, true) => (format!("upper({name})"), Ty::Text),
            (Ty::Text | Ty::Varchar, false) => match self.draw.below(2) {
                0 => (format!("length({name})"), Ty::Int),
                _ => (format!("{name} || '!'"), Ty::Text),
            },
            (Ty::Date, true) => (format!("{name} + 1"), Ty::Date),
            (Ty::Date, false) => (format!("{name} - DATE '2024-01-01'"), Ty::Int),
            (Ty::Time, true) => (format!("{name} + INTERVAL '1 hour'"), Ty::Time),
            (Ty::Time, false) => match self.draw.below(2) {
                0 => (format!("CAST({name} AS date)"), Ty::Date),
                _ => (format!("date_trunc('minute', {name})"), Ty::Time),
            },
            (Ty::Span, _) => (format!("{name} + INTERVAL '1 hour'"), Ty::Span),
            (Ty::Rough, _) => (name, ty),
        }
    }
}
