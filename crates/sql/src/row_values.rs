//! Rows as values, `(a, b)` and `ROW(a, b)`, that are compared: as comparisons of their columns, with SQL's
//! three truth values. DataFusion compares them as structs, in which nulls are values.
//!
//! `WHERE (a, b) IN (SELECT c, d ...)` becomes EXISTS: where it is one of the conditions of WHERE, null is as good as
//! false. Elsewhere it is refused, as are rows compared with a subquery.
//!
//! As in PostgreSQL `(a, b) < (c, d)` is what the first columns say that differ, and is not known when a null
//! comes before; a row IS NULL when all its columns are.

use crate::respell::{call, keep_operands};
use crate::text::template;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectNamePart, Query, SetExpr,
    Spanned, TableAlias, TableAliasColumnDef, TableFactor, UnaryOperator, Value,
};
use datafusion::sql::sqlparser::tokenizer::Span;

/// What the rows of a subquery are called, and how the names of their columns begin.
const LOOKED_UP: &str = "__rows";
const COLUMN: &str = "__row_column_";

/// The comparison of rows that an expression is, in other words; none where it is none, or the rows have not as
/// many columns.
pub(crate) fn compared(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::BinaryOp { left, op, right } => by_columns(&columns(left)?, op, &columns(right)?),
        Expr::InList { expr, list, negated } => {
            let row = columns(expr)?;
            let equal = |other: &Expr| by_columns(&row, &BinaryOperator::Eq, &columns(other)?);
            let any = joined(&BinaryOperator::Or, list.iter().map(equal).collect::<Option<_>>()?)?;
            Some(if *negated { not(any) } else { any })
        }
        Expr::IsNull(row) => all(&columns(row)?, |column| Expr::IsNull(Box::new(column))),
        Expr::IsNotNull(row) => all(&columns(row)?, |column| Expr::IsNotNull(Box::new(column))),
        Expr::IsNotDistinctFrom(left, right) => same(&columns(left)?, &columns(right)?),
        Expr::IsDistinctFrom(left, right) => same(&columns(left)?, &columns(right)?).map(not),
        _ => None,
    }
}

/// Rows that a condition of WHERE looks up in subqueries, in other words.
pub(crate) fn look_up(condition: &mut Expr) {
    match condition {
        Expr::Nested(inner) => look_up(inner),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            look_up(left);
            look_up(right);
        }
        Expr::InSubquery { expr, subquery, negated: false } => {
            if let Some(found) = columns(expr).and_then(|row| found(&row, subquery)) {
                *condition = found;
            }
        }
        _ => {}
    }
}

/// `EXISTS (SELECT 1 FROM (query) AS rows WHERE rows.1 = a AND ...)`
fn found(row: &[Expr], query: &Query) -> Option<Expr> {
    let mut subquery = template("SELECT 1 FROM (SELECT 1) AS t");
    let SetExpr::Select(select) = subquery.body.as_mut() else { return None };
    let names: Vec<Ident> = (1..=row.len()).map(|at| Ident::new(format!("{COLUMN}{at}"))).collect();
    let of = |name: &Ident| Expr::CompoundIdentifier(vec![Ident::new(LOOKED_UP), name.clone()]);
    let equal = names.iter().zip(row).map(|(name, value)| binary(&of(name), &BinaryOperator::Eq, value));
    select.selection = joined(&BinaryOperator::And, equal.collect());
    let columns = names.iter().map(|name| TableAliasColumnDef { name: name.clone(), data_type: None });
    let alias = TableAlias { explicit: true, name: Ident::new(LOOKED_UP), columns: columns.collect(), at: None };
    let rows = Box::new(query.clone());
    select.from.first_mut()?.relation =
        TableFactor::Derived { lateral: false, subquery: rows, alias: Some(alias), sample: None };
    Some(Expr::Exists { subquery, negated: false })
}

/// Whether an expression compares a row with a subquery in a way that has no other words.
pub(crate) fn is_compared(expr: &Expr) -> bool {
    let is_row = |expr: &Expr| columns(expr).is_some_and(|columns| columns.len() > 1);
    match expr {
        Expr::InSubquery { expr, negated: true, .. } => is_row(expr),
        Expr::BinaryOp { left, right, .. } => is_row(left) && is_subquery(right) || is_subquery(left) && is_row(right),
        Expr::AnyOp { left, right, .. } | Expr::AllOp { left, right, .. } => is_row(left) && is_subquery(right),
        _ => false,
    }
}

fn is_subquery(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_subquery(inner),
        expr => matches!(expr, Expr::Subquery(_)),
    }
}

/// Columns as a row.
#[must_use]
pub fn row_of(columns: Vec<Expr>) -> Expr {
    call("row", Span::empty(), columns)
}

/// Gives the fields of a row the names that PostgreSQL has for them.
pub(crate) fn name_fields(expr: &mut Expr) {
    match expr {
        Expr::Function(_) => {
            if let Some(named) = named(expr) {
                *expr = named;
            }
        }
        Expr::CompoundFieldAccess { root, .. } => {
            if let Some(named) = named(root) {
                **root = named;
            }
        }
        _ => {}
    }
}

/// A row with names of its fields; none where it has no fields.
fn named(row: &Expr) -> Option<Expr> {
    let columns = columns(row).filter(|columns| !columns.is_empty())?;
    let field = |(at, column): (usize, Expr)| {
        let name = Value::SingleQuotedString(format!("f{}", at + 1));
        [Expr::value(name), column]
    };
    Some(call("named_struct", row.span(), columns.into_iter().enumerate().flat_map(field).collect()))
}

/// The columns of a row.
#[must_use]
pub fn columns(expr: &Expr) -> Option<Vec<Expr>> {
    match expr {
        Expr::Nested(inner) => columns(inner),
        Expr::Tuple(columns) => Some(columns.clone()),
        Expr::Function(call) => {
            let ([ObjectNamePart::Identifier(name)], FunctionArguments::List(list)) =
                (call.name.0.as_slice(), &call.args)
            else {
                return None;
            };
            if name.quote_style.is_some() || !name.value.eq_ignore_ascii_case("row") {
                return None;
            }
            let column = |arg: &FunctionArg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(column)) => Some(column.clone()),
                _ => None,
            };
            list.args.iter().map(column).collect()
        }
        _ => None,
    }
}

fn by_columns(left: &[Expr], op: &BinaryOperator, right: &[Expr]) -> Option<Expr> {
    if left.len() != right.len() {
        return None;
    }
    let each: Vec<Expr> = left.iter().zip(right).map(|(l, r)| binary(l, op, r)).collect();
    match op {
        BinaryOperator::Eq => joined(&BinaryOperator::And, each),
        BinaryOperator::NotEq => joined(&BinaryOperator::Or, each),
        BinaryOperator::Lt | BinaryOperator::LtEq => in_order(left, &BinaryOperator::Lt, op, right),
        BinaryOperator::Gt | BinaryOperator::GtEq => in_order(left, &BinaryOperator::Gt, op, right),
        _ => None,
    }
}

/// `l < r OR (l = r AND ...)`, where the last columns are compared by `last`.
fn in_order(left: &[Expr], strict: &BinaryOperator, last: &BinaryOperator, right: &[Expr]) -> Option<Expr> {
    let mut pairs = left.iter().zip(right).rev();
    let (l, r) = pairs.next()?;
    pairs.try_fold(binary(l, last, r), |rest, (l, r)| {
        let equal = joined(&BinaryOperator::And, vec![binary(l, &BinaryOperator::Eq, r), rest])?;
        joined(&BinaryOperator::Or, vec![binary(l, strict, r), equal])
    })
}

fn same(left: &[Expr], right: &[Expr]) -> Option<Expr> {
    if left.len() != right.len() {
        return None;
    }
    let pair = |(l, r): (&Expr, &Expr)| Expr::IsNotDistinctFrom(Box::new(l.clone()), Box::new(r.clone()));
    joined(&BinaryOperator::And, left.iter().zip(right).map(pair).collect())
}

fn all(columns: &[Expr], test: impl Fn(Expr) -> Expr) -> Option<Expr> {
    joined(&BinaryOperator::And, columns.iter().cloned().map(test).collect())
}

fn binary(left: &Expr, op: &BinaryOperator, right: &Expr) -> Expr {
    // What is compared may itself be rows.
    let mut whole = Expr::BinaryOp { left: Box::new(left.clone()), op: op.clone(), right: Box::new(right.clone()) };
    if let Some(changed) = compared(&whole) {
        return changed;
    }
    keep_operands(&mut whole);
    whole
}

/// Conditions joined by AND or OR, in parentheses.
fn joined(op: &BinaryOperator, conditions: Vec<Expr>) -> Option<Expr> {
    let join = |left, right| Expr::BinaryOp { left: Box::new(left), op: op.clone(), right: Box::new(right) };
    conditions.into_iter().reduce(join).map(|all| Expr::Nested(Box::new(all)))
}

fn not(condition: Expr) -> Expr {
    Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(condition) }
}
