//! Results of a SELECT that stand beside a function of rows, such as `unnest`, and are called as one of the columns
//! that the SELECT reads. DataFusion computes them beneath the UNNEST, next to these columns, and takes the two for
//! one. They are given names that nobody writes, which end with their titles.

use crate::order_by::{computed, is_by_rows, is_wild};
use crate::respell::rows_function;
use crate::titles::{UNWRITTEN, folded, is_column, title_of, unwritten};
use crate::walk::walk;
use datafusion::sql::sqlparser::ast::{Expr, Ident, Query, Select, SelectItem, Visitor};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ops::ControlFlow;

/// Names such results. Where a wildcard may give a column of the same name, ORDER BY would take that one instead.
pub(crate) fn tell_apart(select: &mut Select) {
    if is_by_rows(select) || select.projection.iter().any(is_wild) {
        return;
    }
    let read: Vec<Read> = select.projection.iter().map(read_in).collect();
    if !read.iter().any(|item| item.gives_rows) {
        return;
    }
    let is_read = |name: &String| read.iter().any(|item| item.columns.contains(name));
    for (at, (item, of_item)) in select.projection.iter_mut().zip(&read).enumerate() {
        let SelectItem::ExprWithAlias { expr, alias } = item else { continue };
        let name = folded(alias);
        let is_itself = is_column(expr) && title_of(expr) == name;
        if is_read(&name) && !is_itself && !of_item.gives_rows && !name.starts_with(UNWRITTEN) {
            *alias = Ident::with_quote('"', unwritten(at, &name));
        }
    }
}

fn read_in(item: &SelectItem) -> Read {
    let mut read = Read::default();
    if let Some(expr) = computed(item) {
        // Nothing breaks the walk off.
        let ControlFlow::Continue(()) = walk(expr, &mut read);
    }
    read
}

/// What a result reads.
#[derive(Default)]
struct Read {
    /// The names of the columns that it reads outside of functions of rows and of subqueries.
    columns: BTreeSet<String>,
    gives_rows: bool,
    /// How many functions of rows and subqueries the walk is in.
    within: usize,
}

impl Visitor for Read {
    type Break = Infallible;

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<Infallible> {
        self.within += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Infallible> {
        self.within -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Infallible> {
        if is_of_rows(expr) {
            self.gives_rows |= self.within == 0;
            self.within += 1;
        } else if self.within == 0 && is_column(expr) {
            self.columns.insert(title_of(expr));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Infallible> {
        if is_of_rows(expr) {
            self.within -= 1;
        }
        ControlFlow::Continue(())
    }
}

fn is_of_rows(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(call) if rows_function(&call.name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::template;
    use datafusion::sql::sqlparser::ast::SetExpr;

    #[test]
    fn results_beside_rows_are_told_from_columns() {
        for (written, expected) in [
            (
                "SELECT t.i + 1 AS i, unnest(a) AS e FROM t",
                r#"SELECT t.i + 1 AS "?column?#1#i", unnest(a) AS e FROM t"#,
            ),
            ("SELECT 5 AS I, unnest(a), i AS k FROM t", r#"SELECT 5 AS "?column?#1#i", unnest(a), i AS k FROM t"#),
            ("SELECT t.i AS i, unnest(a) AS e FROM t", "SELECT t.i AS i, unnest(a) AS e FROM t"),
            ("SELECT 5 AS i, unnest(ARRAY[i]) AS e FROM t", "SELECT 5 AS i, unnest(ARRAY[i]) AS e FROM t"),
            ("SELECT i + unnest(a) AS i FROM t", "SELECT i + unnest(a) AS i FROM t"),
            ("SELECT i + 1 AS i, length(s) FROM t", "SELECT i + 1 AS i, length(s) FROM t"),
            ("SELECT *, i + 1 AS i, unnest(a) FROM t", "SELECT *, i + 1 AS i, unnest(a) FROM t"),
        ] {
            let mut query = *template(written);
            let SetExpr::Select(select) = query.body.as_mut() else { panic!("a SELECT") };
            tell_apart(select);
            assert_eq!(query.to_string(), expected, "{written}");
        }
    }
}
