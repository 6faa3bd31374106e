//! What DataFusion's planner takes in another spelling only, or takes for something else.
//!
//! - `generate_series(...)` gives rows: it becomes `unnest` of a function that gives an array.
//! - A function that gives rows, in FROM, and its one column have the same name unless told otherwise.
//! - `value = ANY (array)` becomes a function, and so does ALL.
//! - A slice without a bound has the first or the last possible one.
//!
//! Spans stay, so that errors find their places.

use crate::arrays;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    ObjectName, ObjectNamePart, Query, Subscript, TableAlias, TableAliasColumnDef, TableFactor, Value, ValueWithSpan,
    VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use std::convert::Infallible;
use std::ops::ControlFlow;

/// A query as DataFusion's planner takes it.
pub(crate) fn respelled(query: &Query) -> Query {
    let mut query = query.clone();
    // Nothing breaks the walk off.
    let ControlFlow::Continue(()) = query.visit(&mut Respell);
    query
}

/// Functions that give rows.
const UNNEST: &str = "unnest";
const SERIES: &str = "generate_series";

/// The function that gives rows which a name in FROM stands for.
pub(crate) fn rows_function(name: &ObjectName) -> Option<&'static str> {
    let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() else { return None };
    [UNNEST, SERIES].into_iter().find(|known| ident.value.eq_ignore_ascii_case(known))
}

struct Respell;

impl VisitorMut for Respell {
    type Break = Infallible;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Infallible> {
        let changed = match factor {
            TableFactor::Table { name, args: Some(args), alias, with_ordinality, .. } => {
                rows_of(name, &args.args, alias.as_ref(), *with_ordinality)
            }
            TableFactor::Function { name, args, alias, with_ordinality, .. } => {
                rows_of(name, args, alias.as_ref(), *with_ordinality)
            }
            TableFactor::UNNEST { alias, array_exprs, with_ordinality, .. } => {
                Some(unnest(UNNEST, array_exprs.clone(), alias.as_ref(), *with_ordinality))
            }
            _ => None,
        };
        if let Some(changed) = changed {
            *factor = changed;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        match expr {
            Expr::Function(function) if rows_function(&function.name) == Some(SERIES) => {
                let span = span_of(&function.name);
                function.name = named(arrays::SERIES, span);
                let inner = std::mem::replace(expr, Expr::Value(Value::Null.into()));
                *expr = call(UNNEST, span, vec![inner]);
            }
            Expr::AnyOp { left, compare_op, right, .. } if !matches!(**right, Expr::Subquery(_)) => {
                if let Some(name) = arrays::comparison(compare_op, false) {
                    *expr = call(&name, Span::empty(), vec![(**left).clone(), (**right).clone()]);
                }
            }
            Expr::AllOp { left, compare_op, right } if !matches!(**right, Expr::Subquery(_)) => {
                if let Some(name) = arrays::comparison(compare_op, true) {
                    *expr = call(&name, Span::empty(), vec![(**left).clone(), (**right).clone()]);
                }
            }
            Expr::CompoundFieldAccess { access_chain, .. } => access_chain.iter_mut().for_each(bounded),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// A call in FROM of a function that gives rows.
fn rows_of(
    name: &ObjectName,
    args: &[FunctionArg],
    alias: Option<&TableAlias>,
    with_ordinality: bool,
) -> Option<TableFactor> {
    let function = rows_function(name)?;
    let plain = |arg: &FunctionArg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    };
    let args = args.iter().map(plain).collect::<Option<Vec<_>>>()?;
    let arrays = if function == UNNEST { args } else { vec![call(arrays::SERIES, span_of(name), args)] };
    Some(unnest(function, arrays, alias, with_ordinality))
}

/// UNNEST in FROM; one column has the name of the table.
fn unnest(function: &str, arrays: Vec<Expr>, alias: Option<&TableAlias>, with_ordinality: bool) -> TableFactor {
    let mut alias = alias.cloned().unwrap_or_else(|| TableAlias {
        explicit: true,
        name: Ident::new(function),
        columns: Vec::new(),
        at: None,
    });
    if arrays.len() == 1 && alias.columns.is_empty() {
        alias.columns.push(TableAliasColumnDef { name: alias.name.clone(), data_type: None });
    }
    TableFactor::UNNEST {
        alias: Some(alias),
        array_exprs: arrays,
        with_offset: false,
        with_offset_alias: None,
        with_ordinality,
    }
}

/// Gives a slice the bounds that it does not tell.
fn bounded(access: &mut AccessExpr) {
    let AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, .. }) = access else { return };
    lower_bound.get_or_insert_with(|| number("1"));
    upper_bound.get_or_insert_with(|| number("2147483647"));
}

fn number(digits: &str) -> Expr {
    Expr::Value(ValueWithSpan { value: Value::Number(digits.to_owned(), false), span: Span::empty() })
}

fn span_of(name: &ObjectName) -> Span {
    match name.0.first() {
        Some(ObjectNamePart::Identifier(ident)) => ident.span,
        _ => Span::empty(),
    }
}

fn named(name: &str, span: Span) -> ObjectName {
    ObjectName(vec![ObjectNamePart::Identifier(Ident::with_span(span, name))])
}

fn call(name: &str, span: Span, args: Vec<Expr>) -> Expr {
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    Expr::Function(Function {
        name: named(name, span),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::template;

    #[test]
    fn queries_are_spelled_as_datafusion_takes_them() {
        for (written, expected) in [
            ("SELECT generate_series(1, 3)", "SELECT unnest(generate_series_array(1, 3))"),
            ("SELECT * FROM generate_series(1, n) AS g", "SELECT * FROM UNNEST(generate_series_array(1, n)) AS g (g)"),
            ("SELECT * FROM LATERAL unnest(a) u (x)", "SELECT * FROM UNNEST(a) u (x)"),
            ("SELECT * FROM t, unnest(a)", "SELECT * FROM t, UNNEST(a) AS unnest (unnest)"),
            ("SELECT * FROM unnest(a, b) AS u", "SELECT * FROM UNNEST(a, b) AS u"),
            ("SELECT 1 = ANY(a), 2 <= ALL (a)", "SELECT any_eq(1, a), all_le(2, a)"),
            ("SELECT 1 = ANY (SELECT a FROM t)", "SELECT 1 = ANY(SELECT a FROM t)"),
            ("SELECT a[:2], a[2:]", "SELECT a[1:2], a[2:2147483647]"),
        ] {
            assert_eq!(respelled(&template(written)).to_string(), expected, "{written}");
        }
    }
}
