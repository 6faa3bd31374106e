//! Functions over windows, and filters on their numbers.
//!
//! What tells rows of equal keys apart, or counts rows, is ordered by all columns: then rows that are
//! equal are the same, and the result is one whichever comes first; two such orders in one SELECT would
//! pair what they say of equal rows as they like. What goes by peers may have ties.

use super::{Grammar, Query};
use crate::draw::{Column, Family, Ty};

/// A call, what is written in its window, and what it gives.
struct Over {
    call: String,
    window: String,
    ty: Ty,
}

impl Grammar<'_> {
    pub(super) fn windowed(&mut self, depth: usize) -> Query {
        let inner = self.plain(depth - 1);
        let mut columns = inner.columns;
        let all = Self::names_of(&columns);
        let mut items = vec![all];
        let (mut over, mut named) = (Vec::new(), String::new());
        for at in 0..1 + self.draw.below(2) {
            let Over { call, window, ty } = self.over(&columns, at == 0);
            if at == 0 && self.draw.once_in(5) {
                items.push(format!("{call} OVER w AS over_{at}"));
                named = format!(" WINDOW w AS ({window})");
            } else {
                items.push(format!("{call} OVER ({window}) AS over_{at}"));
            }
            over.push(Column { name: format!("over_{at}"), ty });
        }
        columns.extend(over);
        let sql = format!("SELECT {} FROM ({}) AS numbered{named}", items.join(", "), inner.sql);
        let is_number = columns.iter().any(|column| column.name == "over_0" && column.ty.is_whole());
        if is_number && self.draw.once_in(2) {
            let kept = *self.draw.of(&["<= 2", "= 1", "= 2", "BETWEEN 1 AND 2", "> 1", "< 3"]);
            return Query { sql: format!("SELECT * FROM ({sql}) AS firsts WHERE over_0 {kept}"), columns };
        }
        Query { sql, columns }
    }

    fn over(&mut self, columns: &[Column], may_tell_apart: bool) -> Over {
        let partition =
            if self.draw.once_in(4) { String::new() } else { format!("PARTITION BY {} ", self.draw.of(columns).name) };
        let mut over = match self.draw.below(5) {
            0 | 1 if may_tell_apart => self.over_all_columns(columns),
            2 if may_tell_apart => self.by_rows(columns),
            0 | 3 => self.by_peers(columns),
            _ => self.by_distance(columns).unwrap_or_else(|| self.by_peers(columns)),
        };
        over.window = format!("{partition}{}", over.window);
        over
    }

    /// All columns, one of them before the others.
    fn whole_order(&mut self, columns: &[Column]) -> String {
        let first = self.draw.of(columns).name.clone();
        format!("ORDER BY {}, {}", self.sort_key(&first), self.order_by_all(columns))
    }

    /// What numbers rows, or takes the value of one of them.
    fn over_all_columns(&mut self, columns: &[Column]) -> Over {
        let Column { name, ty } = self.draw.of(columns).clone();
        let window = self.whole_order(columns);
        let (call, ty) = match self.draw.below(8) {
            0 => ("ntile(3)".to_owned(), Ty::Int),
            1 => (format!("lag({name})"), ty),
            2 => (format!("lag({name}, 2)"), ty),
            3 => (format!("lead({name})"), ty),
            4 => (format!("first_value({name})"), ty),
            _ => ("row_number()".to_owned(), Ty::Big),
        };
        Over { call, window, ty }
    }

    /// A frame of rows.
    fn by_rows(&mut self, columns: &[Column]) -> Over {
        let Column { name, ty } = self.draw.of(columns).clone();
        let frame = *self.draw.of(&[
            "ROWS BETWEEN 1 PRECEDING AND CURRENT ROW",
            "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
            "ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING",
            "ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
            "ROWS BETWEEN 2 PRECEDING AND 1 PRECEDING",
            "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
        ]);
        let window = format!("{} {frame}", self.whole_order(columns));
        let (call, ty) = match self.draw.below(4) {
            0 => (format!("first_value({name})"), ty),
            1 => (format!("last_value({name})"), ty),
            2 => (format!("nth_value({name}, 2)"), ty),
            _ => self.framed_aggregate(columns),
        };
        Over { call, window, ty }
    }

    /// What is the same for all rows with equal keys.
    fn by_peers(&mut self, columns: &[Column]) -> Over {
        let key = self.draw.of(columns).name.clone();
        let order = format!("ORDER BY {}", self.sort_key(&key));
        let frame = *self.draw.of(&[
            "",
            "",
            " RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
            " RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
            " GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW",
            " GROUPS BETWEEN CURRENT ROW AND 1 FOLLOWING",
        ]);
        match self.draw.below(5) {
            0 => Over { call: "rank()".to_owned(), window: order, ty: Ty::Big },
            1 => Over { call: "dense_rank()".to_owned(), window: order, ty: Ty::Big },
            2 => {
                let call = (*self.draw.of(&["percent_rank()", "cume_dist()"])).to_owned();
                Over { call, window: order, ty: Ty::Rough }
            }
            _ => {
                let (call, ty) = self.framed_aggregate(columns);
                // Without an order all rows of a partition are peers.
                let window = if self.draw.once_in(5) { String::new() } else { format!("{order}{frame}") };
                Over { call, window, ty }
            }
        }
    }

    /// A frame by the distance of values.
    fn by_distance(&mut self, columns: &[Column]) -> Option<Over> {
        let key = self.column_of(columns, |ty| ty.is_whole() || ty.is_decimal() || ty == Ty::Time)?;
        let by = if key.ty == Ty::Time { "INTERVAL '1 second'" } else { "1" };
        let frame = match self.draw.below(3) {
            0 => format!("RANGE BETWEEN {by} PRECEDING AND CURRENT ROW"),
            1 => format!("RANGE BETWEEN {by} PRECEDING AND {by} FOLLOWING"),
            _ => format!("RANGE BETWEEN CURRENT ROW AND {by} FOLLOWING"),
        };
        let (call, ty) = self.framed_aggregate(columns);
        Some(Over { call, window: format!("ORDER BY {} {frame}", self.sort_key(&key.name)), ty })
    }

    fn framed_aggregate(&mut self, columns: &[Column]) -> (String, Ty) {
        let Column { name, ty } = self.draw.of(columns).clone();
        match (self.draw.below(4), ty) {
            (0, Ty::Small | Ty::Int) => (format!("sum({name})"), Ty::Big),
            (0, Ty::Big | Ty::Numeric | Ty::Fine) => (format!("sum({name})"), Ty::Fine),
            (0, Ty::Float) => (format!("sum({name})"), Ty::Float),
            (0, Ty::Bool) => (format!("bool_or({name})"), Ty::Bool),
            (1, _) if ty != Ty::Bool => (format!("min({name})"), ty),
            (2, _) if ty != Ty::Bool => (format!("max({name})"), ty),
            (3, _) if ty.family() == Family::Number && ty != Ty::Float => (format!("avg({name})"), Ty::Rough),
            _ => (format!("count({name})"), Ty::Big),
        }
    }
}
