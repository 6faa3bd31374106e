//! What clients ask of PostgreSQL's catalog, as queries that DataFusion can run.
//!
//! What it cannot run is replaced by what it comes to here: nothing has options, members or privileges in
//! lists; nothing could be deferrable, is a type of rows or a domain, has a sequence or a collation of its own. So are
//! functions that give rows of arrays: these have one dimension and are numbered from 1. A type's number as a text is
//! its name.

use crate::oid_names;
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use highwater_sql::{walk_expr_mut, walk_statement_mut};
use std::fmt;
use std::ops::ControlFlow;

/// The column of `pg_attribute` that holds a default. PostgreSQL has none: what asks for it there is a
/// subquery that DataFusion cannot run, and which is replaced by this.
pub(crate) const DEFAULT_COLUMN: &str = "hw_default";
/// Gives of each place of an array what is there and its number.
const EXPAND_ARRAY: &str = "_pg_expandarray";
/// What stands for an array, or for a type, in these expressions.
const ARRAY: &str = "hw_array";
const ELEMENTS: &str = "unnest(hw_array)";
const SUBSCRIPTS: &str = "unnest(generate_series(1, cardinality(hw_array)))";
const EXPANDED: &str = "named_struct('x', unnest(hw_array), 'n', unnest(generate_series(1, cardinality(hw_array))))";

/// What stands for the number of a type as a text.
const TYPE_NAME: &str = "CASE WHEN hw_array <> 0 THEN format_type(hw_array, NULL) WHEN hw_array = 0 THEN '-' END";
/// What stands for the type that a domain is of, and for lists of what rows are made of.
const NO_TYPE: &str = "CAST(NULL AS oid)";
const NO_TEXTS: &str = "CAST(NULL AS text[])";

/// A query as psql asks it, as one that DataFusion can run.
pub(crate) fn runnable(text: &str) -> String {
    const DEFAULT: &str = "(SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true)
   FROM pg_catalog.pg_attrdef d
   WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef)";
    text.replace(DEFAULT, &format!("a.{DEFAULT_COLUMN}"))
}

/// Replaces what DataFusion cannot run.
pub(crate) fn simplify(statement: &mut ast::Statement) {
    // Nothing breaks it off.
    let _: ControlFlow<()> = walk_statement_mut(statement, &mut Simplify);
}

struct Simplify;

impl ast::VisitorMut for Simplify {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            if let ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. } = item {
                let _: ControlFlow<()> = walk_expr_mut(expr, &mut NothingExists);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        match expr {
            // ARRAY(SELECT ...)
            ast::Expr::Function(function)
                if function.name.to_string().eq_ignore_ascii_case("array")
                    && matches!(function.args, ast::FunctionArguments::Subquery(_)) =>
            {
                *expr = ast::Expr::Cast {
                    kind: ast::CastKind::Cast,
                    expr: Box::new(ast::Expr::value(ast::Value::Null)),
                    data_type: ast::DataType::Array(ast::ArrayElemTypeDef::SquareBracket(
                        Box::new(ast::DataType::Text),
                        None,
                    )),
                    array: false,
                    format: None,
                };
            }
            // t.typrelid = 0 OR (SELECT c.relkind = 'c' ...)
            ast::Expr::BinaryOp { op: ast::BinaryOperator::Or, right, .. }
                if matches!(**right, ast::Expr::Subquery(_)) =>
            {
                **right = falsehood();
            }
            other => {
                if let ast::Expr::Subquery(query) = other
                    && oid_names::resolve(query)
                {
                    return ControlFlow::Continue(());
                }
                if let Some(replaced) = replaced(other) {
                    *other = replaced;
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// What an expression is replaced by, if it is.
fn replaced(expr: &ast::Expr) -> Option<ast::Expr> {
    match expr {
        ast::Expr::Function(function) => {
            let (name, args) = called(function)?;
            match (name.as_str(), args.as_slice()) {
                ("generate_subscripts", [of, dimension]) if dimension.to_string() == "1" => Some(put(SUBSCRIPTS, of)),
                (EXPAND_ARRAY, [of]) => Some(put(EXPANDED, of)),
                // What it gives is the type's name.
                ("format_type", [ast::Expr::Function(of), digits])
                    if digits.to_string() == "NULL" && called(of).is_some_and(|(name, _)| name == "to_regtype") =>
                {
                    Some(ast::Expr::Function(of.clone()))
                }
                _ => None,
            }
        }
        ast::Expr::CompoundFieldAccess { root, access_chain } => match (root.as_ref(), access_chain.as_slice()) {
            (ast::Expr::Nested(of), [ast::AccessExpr::Dot(ast::Expr::Identifier(field))]) => field_of(of, &field.value),
            _ => None,
        },
        ast::Expr::Subquery(query) => replaced_subquery(query),
        ast::Expr::Cast { expr, data_type: to, .. } => match expr.as_ref() {
            ast::Expr::Function(call) => oid_names::number_of(&called(call)?.0, call, to),
            ast::Expr::Cast { expr: of, data_type, .. }
                if *to == ast::DataType::Text && data_type.to_string().eq_ignore_ascii_case("regtype") =>
            {
                Some(put(TYPE_NAME, of))
            }
            _ => None,
        },
        _ => None,
    }
}

/// What `(of).field` is replaced by: a field of what an array was expanded to.
fn field_of(of: &ast::Expr, field: &str) -> Option<ast::Expr> {
    let field = field.to_lowercase();
    match of {
        ast::Expr::Function(function) => match (called(function)?, field.as_str()) {
            ((name, args), "x") if name == EXPAND_ARRAY => Some(put(ELEMENTS, args.first()?)),
            ((name, args), "n") if name == EXPAND_ARRAY => Some(put(SUBSCRIPTS, args.first()?)),
            _ => None,
        },
        ast::Expr::Identifier(_) | ast::Expr::CompoundIdentifier(_) => {
            let index = ast::Expr::value(ast::Value::SingleQuotedString(field));
            let access_chain = vec![ast::AccessExpr::Subscript(ast::Subscript::Index { index })];
            let root = Box::new(ast::Expr::Nested(Box::new(of.clone())));
            Some(ast::Expr::CompoundFieldAccess { root, access_chain })
        }
        _ => None,
    }
}

/// What a subquery for each column of a relation is replaced by.
fn replaced_subquery(query: &ast::Query) -> Option<ast::Expr> {
    let names = |part: &dyn fmt::Display, name: &str| part.to_string().to_lowercase().contains(name);
    if query.with.as_ref().is_some_and(|with| with.recursive && names(with, "typbasetype")) {
        return Some(put(NO_TYPE, &nothing()));
    }
    let ast::SetExpr::Select(select) = query.body.as_ref() else { return None };
    let ([ast::SelectItem::UnnamedExpr(item) | ast::SelectItem::ExprWithAlias { expr: item, .. }], Some(condition)) =
        (select.projection.as_slice(), &select.selection)
    else {
        return None;
    };
    let reads = |name: &str| select.from.iter().any(|from| is_relation(&from.relation, name));
    match item {
        ast::Expr::Function(function) => match called(function)?.0.as_str() {
            "pg_get_expr" if reads("pg_attrdef") => beside(condition, "attnum", DEFAULT_COLUMN),
            "array_agg" if reads("pg_attribute") && names(condition, "reltype") => Some(put(NO_TEXTS, &nothing())),
            "json_build_object" if reads("pg_sequence") || reads("pg_collation") => Some(nothing()),
            _ => None,
        },
        // A column's collation is its type's.
        column if reads("pg_type") => {
            beside(column, "typcollation", "")?;
            beside(condition, "atttypid", "attcollation")
        }
        _ => None,
    }
}

fn is_relation(factor: &ast::TableFactor, name: &str) -> bool {
    let ast::TableFactor::Table { name: relation, .. } = factor else { return false };
    relation.0.last().is_some_and(|part| part.to_string().eq_ignore_ascii_case(name))
}

/// The name of a function that is called, without its schema, and its arguments.
fn called(function: &ast::Function) -> Option<(String, Vec<&ast::Expr>)> {
    let ast::FunctionArguments::List(list) = &function.args else { return None };
    let args = list.args.iter().map(argument).collect::<Option<_>>()?;
    Some((function.name.0.last()?.to_string().to_lowercase(), args))
}

const fn argument(argument: &ast::FunctionArg) -> Option<&ast::Expr> {
    match argument {
        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

/// Another column of the relation of which a condition compares a column.
fn beside(condition: &ast::Expr, column: &str, other: &str) -> Option<ast::Expr> {
    match condition {
        ast::Expr::BinaryOp { left, right, .. } => beside(left, column, other).or_else(|| beside(right, column, other)),
        ast::Expr::Nested(inner) => beside(inner, column, other),
        ast::Expr::CompoundIdentifier(parts) => {
            let mut parts = parts.clone();
            let last = parts.last_mut().filter(|last| last.value.eq_ignore_ascii_case(column))?;
            *last = ast::Ident::new(other);
            Some(ast::Expr::CompoundIdentifier(parts))
        }
        _ => None,
    }
}

/// One of the expressions over an array, or over what else takes its place.
pub(crate) fn put(template: &str, of: &ast::Expr) -> ast::Expr {
    let parsed = Parser::new(&PostgreSqlDialect {}).try_with_sql(template).and_then(|mut parser| parser.parse_expr());
    let mut expr = parsed.expect("a constant expression parses");
    // Nothing breaks it off.
    let _: ControlFlow<()> = walk_expr_mut(&mut expr, &mut Put(of));
    expr
}

struct Put<'a>(&'a ast::Expr);

impl ast::VisitorMut for Put<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        if matches!(expr, ast::Expr::Identifier(ident) if ident.value == ARRAY) {
            *expr = self.0.clone();
        }
        ControlFlow::Continue(())
    }
}

struct NothingExists;

impl ast::VisitorMut for NothingExists {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        if matches!(expr, ast::Expr::Exists { .. }) {
            *expr = falsehood();
        }
        ControlFlow::Continue(())
    }
}

fn nothing() -> ast::Expr {
    ast::Expr::value(ast::Value::Null)
}

fn falsehood() -> ast::Expr {
    ast::Expr::value(ast::Value::Boolean(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simplified(query: &str) -> String {
        let mut parsed = Parser::parse_sql(&PostgreSqlDialect {}, query).expect("it parses");
        simplify(&mut parsed[0]);
        parsed[0].to_string()
    }

    #[test]
    fn arrays_are_expanded_by_unnest() {
        let cases = [
            (
                "SELECT unnest(i.indkey), generate_subscripts(i.indkey, 1) AS ord FROM pg_index AS i",
                "SELECT unnest(i.indkey), unnest(generate_series(1, cardinality(i.indkey))) AS ord FROM pg_index AS i",
            ),
            (
                "SELECT (information_schema._pg_expandarray(i.indkey)).n FROM pg_index AS i",
                "SELECT unnest(generate_series(1, cardinality(i.indkey))) FROM pg_index AS i",
            ),
            (
                "SELECT a FROM (SELECT information_schema._pg_expandarray(i.indkey) AS k FROM pg_index AS i) AS r WHERE a = (r.K).x",
                "SELECT a FROM (SELECT named_struct('x', unnest(i.indkey), 'n', unnest(generate_series(1, cardinality(i.indkey)))) AS k FROM pg_index AS i) AS r WHERE a = (r.K)['x']",
            ),
            ("SELECT generate_subscripts(a, 2) FROM t", "SELECT generate_subscripts(a, 2) FROM t"),
        ];
        for (asked, run) in cases {
            assert_eq!(simplified(asked), run);
        }
    }

    #[test]
    fn subqueries_for_each_column_are_columns() {
        let cases = [
            (
                "SELECT CASE WHEN a.atthasdef THEN (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef AS d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum) END FROM pg_attribute AS a",
                "SELECT CASE WHEN a.atthasdef THEN a.hw_default END FROM pg_attribute AS a",
            ),
            (
                "SELECT (SELECT json_build_object('start', s.seqstart) FROM pg_catalog.pg_sequence AS s WHERE s.seqrelid = a.attrelid) FROM pg_attribute AS a",
                "SELECT NULL FROM pg_attribute AS a",
            ),
            (
                "SELECT (SELECT t.typcollation FROM pg_type AS t WHERE t.oid = a.atttypid) <> a.attcollation FROM pg_attribute AS a",
                "SELECT a.attcollation <> a.attcollation FROM pg_attribute AS a",
            ),
            (
                "SELECT CASE WHEN t.typtype = 'd' THEN (WITH RECURSIVE b (oid) AS (SELECT u.typbasetype FROM pg_type AS u WHERE u.oid = t.oid UNION ALL SELECT u.typbasetype FROM pg_type AS u, b WHERE b.oid = u.oid) SELECT oid FROM b LIMIT 1) ELSE NULL END FROM pg_type AS t",
                "SELECT CASE WHEN t.typtype = 'd' THEN CAST(NULL AS oid) ELSE NULL END FROM pg_type AS t",
            ),
            (
                "SELECT (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute AS a INNER JOIN pg_class AS c ON a.attrelid = c.oid WHERE c.reltype = t.oid) FROM pg_type AS t",
                "SELECT CAST(NULL AS TEXT[]) FROM pg_type AS t",
            ),
            (
                "SELECT t.typelem::regtype::text, t.typelem::regtype FROM pg_type AS t",
                "SELECT CASE WHEN t.typelem <> 0 THEN format_type(t.typelem, NULL) WHEN t.typelem = 0 THEN '-' END, t.typelem::regtype FROM pg_type AS t",
            ),
            (
                "SELECT (SELECT t.typname FROM pg_type AS t WHERE t.oid = a.atttypid) FROM pg_attribute AS a",
                "SELECT (SELECT t.typname FROM pg_type AS t WHERE t.oid = a.atttypid) FROM pg_attribute AS a",
            ),
        ];
        for (asked, run) in cases {
            assert_eq!(simplified(asked), run);
        }
    }
}
