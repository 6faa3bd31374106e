//! The row of a function in FROM that gives one column, by the name of its relation: `e` is `e.value` in
//! `SELECT e FROM jsonb_array_elements(j) AS e`.
//!
//! Columns of that name go before it, so only what the planner does not find is taken for it. The planner tells where
//! that stands; in the arguments of functions in FROM, in GROUP BY and in ORDER BY it does not, where the name counts
//! if one SELECT has such a relation and the clause is of that one.

use crate::order_by::{keys_mut, plain_key};
use crate::scopes::{folded, names_in};
use crate::walk::{walk, walk_expressions, walk_mut};
use datafusion::common::{DataFusionError, SchemaError, Span};
use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Ident, Query, Select, SelectItem, SetExpr, TableFactor, TableWithJoins, Visitor, VisitorMut,
};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ops::ControlFlow;

/// Writes out the name that the planner did not find; tells whether it stands for such a row.
pub(crate) fn written_out(query: &mut Query, error: &DataFusionError) -> bool {
    let DataFusionError::SchemaError(schema, _) = error.find_root() else { return false };
    let SchemaError::FieldNotFound { field, .. } = schema.as_ref() else { return false };
    if field.relation.is_some() {
        return false;
    }
    let name = field.name.as_str();
    let at = error.diagnostic().and_then(|told| told.span);
    if at.is_none() && relations(query, name) != 1 {
        return false;
    }
    let mut names = Names { name, at, scopes: Vec::new(), found: false };
    // Nothing breaks the walk off.
    let ControlFlow::Continue(()) = walk_mut(query, &mut names);
    names.found
}

/// How many SELECTs have such a relation.
fn relations(query: &Query, name: &str) -> usize {
    let mut count = Count { name, found: 0 };
    let ControlFlow::Continue(()) = walk(query, &mut count);
    count.found
}

struct Count<'a> {
    name: &'a str,
    found: usize,
}

impl Visitor for Count<'_> {
    type Break = Infallible;

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Infallible> {
        self.found += usize::from(column_of(select, self.name).is_some());
        ControlFlow::Continue(())
    }
}

/// What a name is in a FROM.
struct Scope {
    is_relation: bool,
    /// The column of the function that it is.
    column: Option<Ident>,
}

impl Scope {
    fn of(select: &Select, name: &str) -> Self {
        let mut names = BTreeSet::new();
        select.from.iter().for_each(|from| names_in(from, &mut names));
        Self { is_relation: names.contains(name), column: column_of(select, name) }
    }
}

fn column_of(select: &Select, name: &str) -> Option<Ident> {
    select.from.iter().find_map(|from| column_in(from, name))
}

fn column_in(from: &TableWithJoins, name: &str) -> Option<Ident> {
    let mut factors = std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation));
    factors.find_map(|factor| match factor {
        TableFactor::UNNEST { alias: Some(alias), array_exprs, .. }
            if array_exprs.len() == 1 && folded(&alias.name) == name =>
        {
            alias.columns.first().map(|column| column.name.clone())
        }
        TableFactor::NestedJoin { table_with_joins, .. } => column_in(table_with_joins, name),
        _ => None,
    })
}

/// Looks for the name in a query.
struct Names<'a> {
    name: &'a str,
    at: Option<Span>,
    /// Of each query and SELECT that is being walked through, the innermost last.
    scopes: Vec<Scope>,
    found: bool,
}

impl Names<'_> {
    /// What an expression that is the name stands for.
    fn row_of(&self, expr: &Expr) -> Option<Expr> {
        let Expr::Identifier(ident) = expr else { return None };
        let start = |span: Option<Span>| span.map(|span| span.start);
        if folded(ident) != self.name || start(self.at) != start(Span::try_from_sqlparser_span(ident.span)) {
            return None;
        }
        let column = self.scopes.iter().rev().find(|scope| scope.is_relation)?.column.as_ref()?;
        Some(named(ident, column))
    }

    /// Writes out all that is the name in a part of the SELECT which has such a relation, but for parts with queries
    /// of their own.
    fn in_part(&mut self, part: &mut Expr, column: &Ident) {
        let has_query = walk_expressions(&*part, &mut |expr| match expr {
            Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
        if has_query.is_continue() {
            let mut every = Every { name: self.name, column, found: false };
            let ControlFlow::Continue(()) = walk_mut(part, &mut every);
            self.found |= every.found;
        }
    }

    fn in_order(&mut self, query: &mut Query) {
        let SetExpr::Select(select) = query.body.as_ref() else { return };
        let Some(column) = column_of(select, self.name) else { return };
        let is_result = select
            .projection
            .iter()
            .any(|item| matches!(item, SelectItem::ExprWithAlias { alias, .. } if folded(alias) == self.name));
        for key in keys_mut(query.order_by.as_mut()) {
            // Alone it is the result of that name.
            if !(is_result && matches!(plain_key(&key.expr), Expr::Identifier(_))) {
                self.in_part(&mut key.expr, &column);
            }
        }
    }
}

impl VisitorMut for Names<'_> {
    type Break = Infallible;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Infallible> {
        if self.at.is_none() {
            self.in_order(query);
        }
        self.scopes.push(match query.body.as_ref() {
            SetExpr::Select(select) => Scope::of(select, self.name),
            _ => Scope { is_relation: false, column: None },
        });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Infallible> {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Infallible> {
        let scope = Scope::of(select, self.name);
        if let (None, Some(column)) = (self.at, &scope.column) {
            if let GroupByExpr::Expressions(keys, _) = &mut select.group_by {
                keys.iter_mut().for_each(|key| self.in_part(key, column));
            }
            for from in &mut select.from {
                let joined = from.joins.iter_mut().map(|join| &mut join.relation);
                for factor in std::iter::once(&mut from.relation).chain(joined) {
                    if let TableFactor::UNNEST { array_exprs, .. } = factor {
                        array_exprs.iter_mut().for_each(|array| self.in_part(array, column));
                    }
                }
            }
        }
        self.scopes.push(scope);
        if self.at.is_some() {
            for item in &mut select.projection {
                if let SelectItem::UnnamedExpr(expr) = item
                    && let Expr::Identifier(alias) = plain_key(expr)
                    && let Some(row) = self.row_of(plain_key(expr))
                {
                    *item = SelectItem::ExprWithAlias { expr: row, alias: alias.clone() };
                    self.found = true;
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, _: &mut Select) -> ControlFlow<Infallible> {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        if self.at.is_some()
            && let Some(row) = self.row_of(expr)
        {
            *expr = row;
            self.found = true;
        }
        ControlFlow::Continue(())
    }
}

/// Writes out all that is the name.
struct Every<'a> {
    name: &'a str,
    column: &'a Ident,
    found: bool,
}

impl VisitorMut for Every<'_> {
    type Break = Infallible;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        if let Expr::Identifier(ident) = expr
            && folded(ident) == self.name
        {
            *expr = named(ident, self.column);
            self.found = true;
        }
        ControlFlow::Continue(())
    }
}

/// The column of a relation, where the relation is named.
fn named(relation: &Ident, column: &Ident) -> Expr {
    let mut column = column.clone();
    column.span = relation.span;
    Expr::CompoundIdentifier(vec![relation.clone(), column])
}

#[cfg(test)]
mod tests {
    use crate::statement::Statement;
    use crate::{Relations, Result, Session, parse};
    use arrow::datatypes::{DataType, Field, Schema};
    use std::sync::Arc;

    fn bound(text: &str) -> Result<String> {
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true)));
        let mut relations = Relations::default();
        let fields = vec![Field::new("id", DataType::Int32, true), Field::new("a", list, true)];
        relations.stream("t", Arc::new(Schema::new(fields)));
        relations.stream("u", Arc::new(Schema::new(vec![Field::new("e", DataType::Int32, true)])));
        let Ok(Statement::Query(query)) = parse(text) else { panic!("{text} is a query") };
        Session::new(1).bind(&query, &relations).map(|plan| plan.display_indent().to_string())
    }

    #[test]
    fn names_of_functions_of_one_column_are_their_rows() {
        for (by_name, by_column) in [
            ("SELECT e FROM t, unnest(a) AS e (x)", "SELECT e.x AS e FROM t, unnest(a) AS e (x)"),
            ("SELECT e + 1 FROM unnest(ARRAY[1]) AS e (x)", "SELECT e.x + 1 FROM unnest(ARRAY[1]) AS e (x)"),
            ("SELECT id FROM t, unnest(a) AS e (x) WHERE e > 1", "SELECT id FROM t, unnest(a) AS e (x) WHERE e.x > 1"),
            (
                "SELECT count(*) FROM t, unnest(a) AS e (x) GROUP BY e % 2",
                "SELECT count(*) FROM t, unnest(a) AS e (x) GROUP BY e.x % 2",
            ),
            (
                "SELECT id FROM t, unnest(a) AS e (x) ORDER BY -e, id",
                "SELECT id FROM t, unnest(a) AS e (x) ORDER BY -e.x, id",
            ),
            (
                "SELECT f FROM t, unnest(a) AS e (x), generate_series(1, e) AS f",
                "SELECT f FROM t, unnest(a) AS e (x), generate_series(1, e.x) AS f",
            ),
        ] {
            assert_eq!(bound(by_name).expect(by_name), bound(by_column).expect(by_column), "{by_name}");
        }
    }

    #[test]
    fn columns_go_before_rows() {
        let plan = bound("SELECT e FROM u, unnest(ARRAY[1]) AS e (x)").expect("a column");
        assert!(plan.starts_with("Projection: u.e"), "{plan}");
    }

    #[test]
    fn what_has_several_columns_or_none_of_that_name_is_not_found() {
        for text in ["SELECT e FROM unnest(ARRAY[1], ARRAY[2]) AS e", "SELECT e FROM t AS e", "SELECT e FROM t"] {
            assert_eq!(bound(text).expect_err(text).sqlstate(), "42703", "{text}");
        }
    }
}
