//! What PostgreSQL calls the columns of a query: by the name of a column or function, or `?column?`.
//! DataFusion calls them by their expressions, which no program expects.
//!
//! In a query of FROM or WITH what has no name is given one that nobody writes, which ends with its title: so no name
//! within the query means anything else for it. Around the query a column is called by its title ([`Titles`]); those
//! that share a title keep names that nobody writes, as a query that named them would be ambiguous. ORDER BY may name
//! by its title what SELECT gives.
//!
//! What WITH RECURSIVE names is planned as what WITH does where nothing in it is about itself.

use crate::beside_rows;
use crate::dependencies::screened;
use crate::order_by::{SORTED, is_by_rows, is_wild, keys_mut, name_keys, plain_key};
use crate::repeated::tell_apart;
use crate::text::template;
use crate::walk::{walk, walk_mut};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::DataFusionError;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr as PlanExpr, LogicalPlan, Projection};
use datafusion::sql::sqlparser::ast::{
    AccessExpr, Cte, Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, Query, Select, SelectItem, SetExpr,
    TableAlias, TableFactor, TableWithJoins, TrimWhereField, Value, Visitor, VisitorMut, With,
};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;

/// What a column is called that nothing names.
const UNTITLED: &str = "?column?";
/// How the names begin that nobody writes: a column's place and its title follow.
pub(crate) const UNWRITTEN: &str = "?column?#";
/// How queries are called in FROM that are given no name.
const NAMELESS: &str = "subquery#";

/// A name that nobody writes, for the column at a place.
pub(crate) fn unwritten(at: usize, title: &str) -> String {
    format!("{UNWRITTEN}{}#{title}", at + 1)
}

/// The title of a column of a plan that is called so.
pub(crate) fn shown(name: &str) -> &str {
    let Some(rest) = name.strip_prefix(UNWRITTEN) else { return name };
    rest.split_once('#').map_or(UNTITLED, |(_, title)| title)
}

/// Whether several columns of these names share a title.
pub(crate) fn share<'a>(names: impl Iterator<Item = &'a str>, title: &str) -> bool {
    names.filter(|name| name.starts_with(UNWRITTEN) && shown(name) == title).count() > 1
}

/// An item under a name that nobody writes.
pub(crate) fn named_by_place(expr: Expr, at: usize) -> SelectItem {
    let alias = Ident::with_quote('"', unwritten(at, shown(&title_of(&expr))));
    SelectItem::ExprWithAlias { expr, alias }
}

/// The columns of a query under PostgreSQL's names.
#[must_use]
pub fn titled(schema: &SchemaRef, query: &Query) -> SchemaRef {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let titled = |(field, title): (&Arc<Field>, String)| {
        if *field.name() == title { Arc::clone(field) } else { Arc::new(field.as_ref().clone().with_name(title)) }
    };
    let fields: Vec<_> = schema.fields().iter().zip(titles(&names, &query.body)).map(titled).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// The titles of a query's columns, which its plan calls by these names.
pub(crate) fn titles(names: &[&str], body: &SetExpr) -> Vec<String> {
    let items = first_select(body).map(|select| select.projection.as_slice()).unwrap_or_default();
    let count = names.len();
    // Columns of a wildcard keep their names; what stands after the last one is counted from the end.
    let before = items.iter().position(is_wild).unwrap_or(items.len());
    let after = items.iter().rev().position(is_wild).unwrap_or(0);
    let item = |at: usize| match at {
        at if at < before => items.get(at),
        at if at + after >= count => items.get(items.len() - (count - at)),
        _ => None,
    };
    let title = |(at, name): (usize, &&str)| match item(at) {
        Some(SelectItem::UnnamedExpr(expr)) => title_of(expr),
        _ => shown(name).to_owned(),
    };
    names.iter().enumerate().map(title).collect()
}

/// Gives what has no name in queries of FROM and WITH names that nobody writes, and has ORDER BY tell by such names or
/// by places what it tells by titles.
pub(crate) fn written_out(query: &mut Query) {
    // Nothing breaks the walk off.
    let ControlFlow::Continue(()) = walk_mut(query, &mut WriteOut { nameless: 0 });
}

struct WriteOut {
    /// How many queries in FROM were given a name.
    nameless: usize,
}

impl VisitorMut for WriteOut {
    type Break = Infallible;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Infallible> {
        if let Some(with) = &mut query.with {
            let is_recursive = with.recursive && is_about_itself(with);
            with.recursive = is_recursive;
        }
        for cte in ctes(query).filter(|cte| !is_covered(&cte.query.body, &cte.alias)) {
            name_items(&mut cte.query.body);
            if !cte.alias.columns.is_empty() {
                wrap(cte);
            }
        }
        sort_by_titles(query);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Infallible> {
        title_ctes(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Infallible> {
        tell_apart(select, true);
        beside_rows::tell_apart(select);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Infallible> {
        match factor {
            TableFactor::Derived { subquery, alias, .. } => {
                let alias = alias.get_or_insert_with(|| {
                    self.nameless += 1;
                    named_table(Ident::with_quote('"', format!("{NAMELESS}{}", self.nameless)))
                });
                if !is_covered(&subquery.body, alias) {
                    name_items(&mut subquery.body);
                }
            }
            // What windows are over.
            TableFactor::Table { args: Some(args), .. } => {
                for arg in &mut args.args {
                    if let FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Subquery(subquery))) = arg {
                        name_items(&mut subquery.body);
                    }
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

const fn named_table(name: Ident) -> TableAlias {
    TableAlias { explicit: true, name, columns: Vec::new(), at: None }
}

/// Whether a query of WITH names itself or one that stands behind it.
pub(crate) fn is_about_itself(with: &With) -> bool {
    let names: Vec<String> = with.cte_tables.iter().map(|cte| folded(&cte.alias.name)).collect();
    let mut ctes = with.cte_tables.iter().enumerate();
    ctes.any(|(at, cte)| walk(&cte.query, &mut Named(&names[at..])).is_break())
}

/// Breaks off at a relation of one of these names.
struct Named<'a>(&'a [String]);

impl Visitor for Named<'_> {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        match relation.0.as_slice() {
            [part] if part.as_ident().is_some_and(|name| self.0.contains(&folded(name))) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// The queries of WITH, unless they are about themselves.
fn ctes(query: &mut Query) -> impl Iterator<Item = &mut Cte> {
    let with = query.with.as_mut().filter(|with| !with.recursive);
    with.into_iter().flat_map(|with| &mut with.cte_tables)
}

/// Has the queries of WITH be called around them by their titles.
pub(crate) fn title_ctes(query: &mut Query) {
    ctes(query).filter(|cte| cte.alias.columns.is_empty() && is_retitled(&cte.query.body)).for_each(wrap);
}

/// Whether all columns of a query are given names, as far as is known.
fn is_covered(body: &SetExpr, alias: &TableAlias) -> bool {
    !alias.columns.is_empty() && width(body) == Some(alias.columns.len())
}

/// How many columns a query has, if it says so.
pub(crate) fn width(body: &SetExpr) -> Option<usize> {
    match body {
        SetExpr::Select(select) if select.projection.iter().any(is_wild) => None,
        SetExpr::Select(select) => Some(select.projection.len()),
        SetExpr::Values(values) => values.rows.first().map(|row| row.content.len()),
        SetExpr::Query(query) => width(&query.body),
        SetExpr::SetOperation { left, .. } => width(left),
        _ => None,
    }
}

/// Names that nobody writes for the results of a query that have none, and for its columns that stand twice.
fn name_items(body: &mut SetExpr) {
    let Some(select) = first_select_mut(body) else { return };
    let is_any_wild = select.projection.iter().any(is_wild);
    let mut seen = BTreeSet::new();
    for (at, item) in select.projection.iter_mut().enumerate() {
        if let SelectItem::UnnamedExpr(expr) = item
            && (!is_column(expr) || !seen.insert(expr.to_string().to_lowercase()) || is_any_wild)
        {
            *item = named_by_place(expr.clone(), at);
        }
    }
}

/// Whether columns of a query are not called so around it as they are within.
fn is_retitled(body: &SetExpr) -> bool {
    let Some(select) = first_select(body) else { return false };
    let is_unwritten = |item: &SelectItem| matches!(item, SelectItem::ExprWithAlias { alias, .. } if alias.value.starts_with(UNWRITTEN));
    let is_of_several = select.from.len() > 1 || select.from.iter().any(|from| !from.joins.is_empty());
    let names: Vec<String> = select.projection.iter().filter_map(result_of).collect();
    select.projection.iter().any(|item| is_unwritten(item) || is_wild(item) && is_of_several)
        || names.iter().collect::<BTreeSet<_>>().len() < names.len()
}

/// Has a query of WITH read what it is from FROM, where columns are called by their titles, or by names that may be
/// fewer.
fn wrap(cte: &mut Cte) {
    let mut subquery = template("SELECT * FROM t");
    std::mem::swap(&mut cte.query, &mut subquery);
    if let SetExpr::Select(select) = cte.query.body.as_mut() {
        let columns = std::mem::take(&mut cte.alias.columns);
        let alias = Some(TableAlias { columns, ..named_table(cte.alias.name.clone()) });
        let relation = TableFactor::Derived { lateral: false, subquery, alias, sample: None };
        select.from = vec![TableWithJoins { relation, joins: Vec::new() }];
    }
}

/// Has ORDER BY tell what it tells by titles in another way.
fn sort_by_titles(query: &mut Query) {
    let is_one = matches!(*query.body, SetExpr::Select(_));
    let Some(select) = first_select_mut(&mut query.body) else { return };
    tell_apart(select, true);
    beside_rows::tell_apart(select);
    if is_by_rows(select) {
        return;
    }
    if is_one {
        name_keys(select, query.order_by.as_mut());
    }
    for key in keys_mut(query.order_by.as_mut()) {
        let Expr::Identifier(name) = plain_key(&key.expr) else { continue };
        let Some(at) = titled_at(&select.projection, &folded(name)) else { continue };
        key.expr = if is_one { by_name(&mut select.projection[at], at) } else { by_place(at) };
    }
}

/// A result by its name, which is one that nobody writes where it had none.
fn by_name(item: &mut SelectItem, at: usize) -> Expr {
    if let SelectItem::UnnamedExpr(expr) = item {
        *item = named_by_place(expr.clone(), at);
    }
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Expr::Identifier(alias.clone()),
        _ => by_place(at),
    }
}

fn by_place(at: usize) -> Expr {
    Expr::value(Value::Number((at + 1).to_string(), false))
}

/// The place of the result that a name is only the title of.
fn titled_at(items: &[SelectItem], name: &str) -> Option<usize> {
    let is_named = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expr) => is_column(expr),
        SelectItem::ExprWithAlias { alias, .. } => !alias.value.starts_with(UNWRITTEN),
        _ => false,
    };
    let is_it = |item: &SelectItem| result_of(item).is_some_and(|title| title == name);
    // A wildcard may give a column of the name.
    if items.iter().any(|item| is_wild(item) || is_it(item) && is_named(item)) {
        return None;
    }
    items.iter().position(is_it)
}

/// What a result is called around its query.
pub(crate) fn result_of(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(shown(&folded(alias)).to_owned()),
        SelectItem::UnnamedExpr(expr) => Some(title_of(expr)),
        _ => None,
    }
}

/// Calls the columns of queries in FROM by their titles.
#[derive(Debug)]
pub(crate) struct Titles;

impl RelationPlanner for Titles {
    fn plan_relation(
        &self,
        mut relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning, DataFusionError> {
        let taken = match &mut relation {
            TableFactor::Derived { alias, .. } if alias.as_ref().is_some_and(is_of_titles) => alias.take(),
            _ => None,
        };
        if taken.is_none() {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        }
        // Without its name it is planned as it is.
        let is_lateral = matches!(relation, TableFactor::Derived { lateral: true, .. });
        let plan = outside(screened(context.plan(relation)?, is_lateral)?)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, taken))))
    }
}

fn is_of_titles(alias: &TableAlias) -> bool {
    alias.columns.is_empty() && alias.name.value != SORTED
}

/// A query's plan with its columns as they are called around it.
pub(crate) fn outside(plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    let schema = Arc::clone(plan.schema());
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let titles = told_apart(&names);
    if titles == names {
        return Ok(plan);
    }
    let (exprs, input) = match plan {
        LogicalPlan::Projection(Projection { expr, input, .. }) => (expr, input),
        other => (other.schema().columns().into_iter().map(PlanExpr::Column).collect(), Arc::new(other)),
    };
    let named = |(expr, (name, title)): (PlanExpr, (&&str, String))| {
        if *name == title { expr } else { called(expr, title) }
    };
    let exprs = exprs.into_iter().zip(names.iter().zip(titles)).map(named).collect();
    Projection::try_new(exprs, input).map(LogicalPlan::Projection)
}

fn called(expr: PlanExpr, title: String) -> PlanExpr {
    match expr.unalias() {
        PlanExpr::Column(column) if column.name == title => PlanExpr::Column(column),
        other => other.alias(title),
    }
}

/// The titles of columns, or names that nobody writes where several have the same.
pub(crate) fn told_apart(names: &[&str]) -> Vec<String> {
    let titles: Vec<&str> = names.iter().map(|name| shown(name)).collect();
    let mut counts = BTreeMap::<&str, usize>::new();
    for title in &titles {
        *counts.entry(*title).or_default() += 1;
    }
    let told = |(at, title): (usize, &&str)| if counts[title] > 1 { unwritten(at, title) } else { (*title).to_owned() };
    titles.iter().enumerate().map(told).collect()
}

/// The SELECT that names a query's columns.
pub(crate) fn first_select(body: &SetExpr) -> Option<&Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => first_select(&query.body),
        SetExpr::SetOperation { left, .. } => first_select(left),
        _ => None,
    }
}

fn first_select_mut(body: &mut SetExpr) -> Option<&mut Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => first_select_mut(&mut query.body),
        SetExpr::SetOperation { left, .. } => first_select_mut(left),
        _ => None,
    }
}

/// Whether an expression is a column.
pub(crate) fn is_column(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_column(inner),
        expr => matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)),
    }
}

/// An expression's title.
pub(crate) fn title_of(expr: &Expr) -> String {
    title(expr).map_or_else(|| UNTITLED.to_owned(), |(title, _)| title)
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
                // As the parser's names of fields are spelled.
                Some(Expr::Value(name)) => name.clone().value.into_string().map(|name| (name, true)),
                field => title(field.unwrap_or(root)),
            }
        }
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => title(inner),
        Expr::Case { else_result, .. } => match else_result.as_deref().and_then(title) {
            Some((name, true)) => Some((name, true)),
            _ => Some(("case".to_owned(), false)),
        },
        Expr::Subquery(query) => match first_select(&query.body)?.projection.as_slice() {
            [SelectItem::UnnamedExpr(expr)] => title(expr),
            [SelectItem::ExprWithAlias { alias, .. }] => Some((shown(&folded(alias)).to_owned(), true)),
            _ => None,
        },
        Expr::Exists { .. } => own("exists"),
        Expr::Extract { .. } => own("extract"),
        Expr::Ceil { .. } => own("ceil"),
        Expr::Floor { .. } => own("floor"),
        Expr::Position { .. } => own("position"),
        Expr::Substring { shorthand, .. } => own(if *shorthand { "substr" } else { "substring" }),
        Expr::Trim { trim_where, .. } => own(match trim_where {
            Some(TrimWhereField::Leading) => "ltrim",
            Some(TrimWhereField::Trailing) => "rtrim",
            Some(TrimWhereField::Both) | None => "btrim",
        }),
        Expr::Overlay { .. } => own("overlay"),
        Expr::AtTimeZone { .. } => own("timezone"),
        Expr::Array(_) => own("array"),
        Expr::Tuple(_) => own("row"),
        _ => None,
    }
}

/// A name in the case that it means to DataFusion.
pub(crate) fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_ascii_lowercase() }
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
    use crate::statement::Statement;
    use arrow::datatypes::DataType;

    fn titles(query: &str, columns: usize) -> String {
        let Ok(Statement::Query(query)) = crate::parse(query) else { return "no query".to_owned() };
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
            ("SELECT (a).x, ((t.a).b).Y, (a).\"Z\", (row(1, 2)).f2, (a).x + 1 FROM t", 5, "x y Z f2 ?column?"),
            (
                "SELECT trim(a), trim(LEADING 'x' FROM a), trim(TRAILING 'x' FROM a), trim(BOTH 'x' FROM a), ltrim(a) FROM t",
                5,
                "btrim ltrim rtrim btrim ltrim",
            ),
            (
                "SELECT substr(a, 1, 2), substring(a FROM 1 FOR 2), substring(a, 1) FROM t",
                3,
                "substr substring substring",
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

    #[test]
    fn what_has_no_name_gets_one_in_queries_of_from_and_with() {
        for (written, expected) in [
            (
                "SELECT x FROM (SELECT a, sum(b), b + 1 FROM t) AS q",
                r#"SELECT x FROM (SELECT a, sum(b) AS "?column?#2#sum", b + 1 AS "?column?#3#?column?" FROM t) AS q"#,
            ),
            (
                "SELECT 1 FROM (SELECT a, a FROM t), (SELECT 2) AS q (b)",
                r#"SELECT 1 FROM (SELECT a, a AS "?column?#2#a" FROM t) AS "subquery#1", (SELECT 2) AS q (b)"#,
            ),
            (
                "WITH c AS (SELECT count(*) FROM t) SELECT count FROM c",
                r#"WITH c AS (SELECT * FROM (SELECT count(*) AS "?column?#1#count" FROM t) AS c) SELECT count FROM c"#,
            ),
            (
                "WITH c AS (SELECT a FROM t), d (x) AS (SELECT 1) SELECT * FROM c, d",
                "WITH c AS (SELECT a FROM t), d (x) AS (SELECT 1) SELECT * FROM c, d",
            ),
            (
                "WITH c (x) AS (SELECT 1, 2), d (y, z) AS (VALUES (1, 2)) SELECT * FROM c, d",
                r#"WITH c AS (SELECT * FROM (SELECT 1 AS "?column?#1#?column?", 2 AS "?column?#2#?column?") AS c (x)), d (y, z) AS (VALUES (1, 2)) SELECT * FROM c, d"#,
            ),
            (
                "WITH RECURSIVE c AS (SELECT max(a) FROM t), d (x) AS (SELECT 1) SELECT max FROM c",
                r#"WITH c AS (SELECT * FROM (SELECT max(a) AS "?column?#1#max" FROM t) AS c), d (x) AS (SELECT 1) SELECT max FROM c"#,
            ),
            (
                "WITH RECURSIVE c AS (SELECT 1 FROM d), d AS (SELECT 2) SELECT * FROM c",
                "WITH RECURSIVE c AS (SELECT 1 FROM d), d AS (SELECT 2) SELECT * FROM c",
            ),
            (
                "SELECT * FROM TUMBLE((SELECT a, max(b) FROM t), a, 1)",
                r#"SELECT * FROM TUMBLE((SELECT a, max(b) AS "?column?#2#max" FROM t), a, 1)"#,
            ),
            (
                "SELECT k, count(*) FROM t GROUP BY k ORDER BY count DESC, k",
                r#"SELECT k, count(*) AS "?column?#2#count" FROM t GROUP BY k ORDER BY "?column?#2#count" DESC, k"#,
            ),
            ("SELECT a::text AS b, a::int FROM t ORDER BY b", "SELECT a::TEXT AS b, a::INT FROM t ORDER BY b"),
            (
                "SELECT DISTINCT upper(s), -h AS i, t.k FROM t ORDER BY UPPER(t.s), -h DESC, k, t.k",
                r#"SELECT DISTINCT upper(s) AS "?column?#1#upper", -h AS i, t.k FROM t ORDER BY "?column?#1#upper", i DESC, k, t.k"#,
            ),
            (
                "SELECT DISTINCT a + 1 AS m, b AS m FROM t ORDER BY a + 1",
                r#"SELECT DISTINCT a + 1 AS "?column?#1#m", b AS "?column?#2#m" FROM t ORDER BY "?column?#1#m""#,
            ),
            ("SELECT *, sum(a) OVER () FROM t ORDER BY sum", "SELECT *, sum(a) OVER () FROM t ORDER BY sum"),
            (
                "SELECT count(*) FROM t UNION SELECT 1 ORDER BY count",
                "SELECT count(*) FROM t UNION SELECT 1 ORDER BY 1",
            ),
        ] {
            let mut query = *template(written);
            written_out(&mut query);
            assert_eq!(query.to_string(), expected, "{written}");
        }
    }

    #[test]
    fn columns_that_share_a_title_are_not_called_by_it() {
        let sums = ["?column?#2#sum", "?column?#3#sum"];
        assert_eq!(told_apart(&["a", sums[0]]), ["a", "sum"]);
        assert_eq!(told_apart(&["a", sums[0], sums[1]]), ["a", sums[0], sums[1]]);
        assert_eq!(told_apart(&["id", "id", "?column?#9#x"]), ["?column?#1#id", "?column?#2#id", "x"]);
        assert!(share(sums.into_iter(), "sum") && !share(["sum", sums[0]].into_iter(), "sum"));
    }
}
