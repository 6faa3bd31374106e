//! What PostgreSQL calls the columns of a query: by the name of a column or function, or `?column?`.
//! DataFusion calls them by their expressions, which no program expects.

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::sql::sqlparser::ast::{AccessExpr, Expr, Query, SelectItem, SetExpr};
use std::sync::Arc;

/// The columns of a query under PostgreSQL's names.
pub(crate) fn titled(schema: &SchemaRef, query: &Query) -> SchemaRef {
    let Some(items) = items(&query.body) else { return Arc::clone(schema) };
    let is_wild = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    let fields = schema.fields();
    let count = fields.len();
    // Columns of a wildcard keep their names; what stands after the last one is counted from the end.
    let before = items.iter().position(is_wild).unwrap_or(items.len());
    let after = items.iter().rev().position(is_wild).unwrap_or(0);
    let item = |at: usize| match at {
        at if at < before => items.get(at),
        at if at + after >= count => items.get(items.len() - (count - at)),
        _ => None,
    };
    let field = |(at, field): (usize, &Arc<Field>)| match item(at) {
        Some(SelectItem::UnnamedExpr(expr)) => {
            let title = title(expr).map_or_else(|| "?column?".to_owned(), |(title, _)| title);
            Arc::new(field.as_ref().clone().with_name(title))
        }
        _ => Arc::clone(field),
    };
    let fields: Vec<_> = fields.iter().enumerate().map(field).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// The items of the SELECT that names the columns.
fn items(body: &SetExpr) -> Option<&[SelectItem]> {
    match body {
        SetExpr::Select(select) => Some(&select.projection),
        SetExpr::Query(query) => items(&query.body),
        SetExpr::SetOperation { left, .. } => items(left),
        _ => None,
    }
}

/// An expression's name, and whether it is its own: that of a type is weaker.
fn title(expr: &Expr) -> Option<(String, bool)> {
    let own = |name: &str| Some((name.to_owned(), true));
    match expr {
        Expr::Identifier(name) => Some((folded(name), true)),
        Expr::CompoundIdentifier(names) => names.last().map(|name| (folded(name), true)),
        Expr::Function(function) => match function.name.0.last()?.as_ident() {
            Some(name) => Some((folded(name), true)),
            None => own(&function.name.to_string().to_lowercase()),
        },
        Expr::Cast { expr, data_type, .. } => match title(expr) {
            Some((name, true)) => Some((name, true)),
            _ => Some((type_title(&data_type.to_string()), false)),
        },
        Expr::TypedString(typed) => Some((type_title(&typed.data_type.to_string()), false)),
        Expr::Interval(_) => Some(("interval".to_owned(), false)),
        Expr::CompoundFieldAccess { root, access_chain } => {
            let field = access_chain.iter().rev().find_map(|access| match access {
                AccessExpr::Dot(field) => Some(field),
                AccessExpr::Subscript(_) => None,
            });
            match field {
                // Parsing makes a text of a field's name.
                Some(Expr::Value(value)) => value.value.clone().into_string().map(|name| (name, true)),
                field => title(field.unwrap_or(root)),
            }
        }
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => title(inner),
        Expr::Case { else_result, .. } => match else_result.as_deref().and_then(title) {
            Some((name, true)) => Some((name, true)),
            _ => Some(("case".to_owned(), false)),
        },
        Expr::Subquery(query) => match items(&query.body)? {
            [SelectItem::UnnamedExpr(expr)] => title(expr),
            [SelectItem::ExprWithAlias { alias, .. }] => Some((folded(alias), true)),
            _ => None,
        },
        Expr::Exists { .. } => own("exists"),
        Expr::Extract { .. } => own("extract"),
        Expr::Ceil { .. } => own("ceil"),
        Expr::Floor { .. } => own("floor"),
        Expr::Position { .. } => own("position"),
        Expr::Substring { .. } => own("substring"),
        Expr::Trim { .. } => own("btrim"),
        Expr::Overlay { .. } => own("overlay"),
        Expr::AtTimeZone { .. } => own("timezone"),
        Expr::Array(_) => own("array"),
        Expr::Tuple(_) => own("row"),
        _ => None,
    }
}

fn folded(name: &datafusion::sql::sqlparser::ast::Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

/// PostgreSQL's own name of a type.
fn type_title(written: &str) -> String {
    let lower = written.to_lowercase();
    let word = lower.split(['(', '[']).next().unwrap_or_default().trim();
    let word = word.strip_prefix("pg_catalog.").unwrap_or(word);
    match word {
        "int" | "integer" => "int4",
        "bigint" => "int8",
        "smallint" => "int2",
        "real" => "float4",
        "double precision" | "double" | "float" => "float8",
        "boolean" => "bool",
        "decimal" | "dec" => "numeric",
        "character varying" | "char varying" => "varchar",
        "timestamp with time zone" => "timestamptz",
        "timestamp without time zone" => "timestamp",
        "time without time zone" => "time",
        other => other,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::DataType;
    use highwater_sql::statement::Statement;

    fn titles(query: &str, columns: usize) -> String {
        let Ok(Statement::Query(query)) = highwater_sql::parse(query) else { return "no query".to_owned() };
        let fields = (0..columns).map(|at| Field::new(format!("c{at}"), DataType::Utf8, true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let titled = titled(&schema, &query.ast);
        titled.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn columns_are_called_as_postgresql_calls_them() {
        let cases = [
            (
                "SELECT a, t.B, \"C\", a + 1, -1, 'x', NULL, true FROM t",
                8,
                "a b C ?column? ?column? ?column? ?column? ?column?",
            ),
            (
                "SELECT count(*), pg_catalog.lower(a), COALESCE(a, b), sum(a) + 1 FROM t",
                4,
                "count lower coalesce ?column?",
            ),
            (
                "SELECT a::text, '1'::int, lower(a)::varchar, CAST(1 + 1 AS double precision), (a) FROM t",
                5,
                "a int4 lower float8 a",
            ),
            (
                "SELECT CASE WHEN a THEN 1 ELSE 2 END, CASE WHEN a THEN 1 ELSE b END, date '2024-01-01', interval '1' day",
                4,
                "case b date interval",
            ),
            (
                "SELECT (SELECT max(a) FROM t), EXISTS (SELECT 1), ARRAY[1], extract(year FROM a), current_date",
                5,
                "max exists array extract current_date",
            ),
            (
                "SELECT a[1], (ARRAY[1])[1], 1 = ANY (a), unnest(a), '{}'::int[] FROM t",
                5,
                "a array ?column? unnest int4",
            ),
            ("SELECT *, count(*), a AS \"A\" FROM t", 5, "c0 c1 c2 count c4"),
            ("SELECT count(*), t.*, 1, u.* FROM t, u", 6, "count c1 c2 c3 c4 c5"),
            ("SELECT count(*) FROM t UNION SELECT 1", 1, "count"),
            ("VALUES (1, 2)", 2, "c0 c1"),
        ];
        for (query, columns, expected) in cases {
            assert_eq!(titles(query, columns), expected, "{query}");
        }
    }
}
