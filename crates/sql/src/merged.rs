//! USING and NATURAL in other words: as joins ON equalities, with the columns that they merge written out.
//!
//! DataFusion's planner has no merged column: it takes one of a side's, which is null in the rows that only the
//! other side has. In PostgreSQL it is the left side's of an inner and a left join, the right side's of a right
//! join, and of a full join whichever there is. So what FROM gives is asked of the planner, relation by relation,
//! and each name of a merged column becomes what it stands for, also those that `*` gives, merged columns first.
//! The columns of the sides keep their names, `a.k` and `b.k`.
//!
//! What cannot be written out, as its columns are known only beside the relations before it, is left to the planner
//! where joins are inner ones, whose sides are equal, and is refused where they are not. A name that is overlooked
//! here is an ambiguous one for the planner, as no join of it says USING any more.

use crate::error::Error;
use crate::order_by::is_wild;
use crate::respell::call;
use crate::scopes::{folded, tell_outer};
use crate::text::{Position, template};
use crate::titles::named_by_place;
use crate::walk::{walk, walk_mut};
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Cte, Distinct, Expr, Ident, JoinConstraint, JoinOperator, ObjectName, OrderBy, OrderByKind, Query,
    Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Spanned, TableAlias, TableFactor, TableWithJoins,
    VisitMut, Visitor, VisitorMut, WildcardAdditionalOptions, With,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ops::ControlFlow;

/// The columns of a query, with their relations; none where it cannot be planned alone.
pub(crate) type Columns<'a> = dyn Fn(Query) -> Option<Vec<(Option<String>, String)>> + 'a;

/// An outer join that could not be written out.
pub(crate) struct Refused {
    clause: String,
    span: Span,
}

impl Refused {
    /// What is said of it.
    pub(crate) fn error(&self, text: &str) -> Error {
        let hint = "join ON, and name the columns with their relations";
        Error::unsupported(self.clause.clone(), hint, Position::of(text, self.span.start))
    }
}

/// Writes the merged columns of a query out, and tells of the first join that cannot be.
pub(crate) fn written_out(query: &mut Query, columns: &Columns<'_>) -> Option<Refused> {
    if walk(query, &mut Looking).is_continue() {
        return None;
    }
    let mut merging = Merging { columns, withs: Vec::new(), refused: None, writes_stars: false };
    let ControlFlow::Continue(()) = walk_mut(query, &mut merging);
    let refused = merging.refused;
    tell_outer(query);
    refused
}

/// Writes `*` out where it stands beside other results, of which some may have the names of its columns.
pub(crate) fn stars_written_out(query: &mut Query, columns: &Columns<'_>) {
    let mut merging = Merging { columns, withs: Vec::new(), refused: None, writes_stars: true };
    let ControlFlow::Continue(()) = walk_mut(query, &mut merging);
}

/// Whether there is anything to do.
struct Looking;

impl Visitor for Looking {
    type Break = ();

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        if select.from.iter().any(merges) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Whether joins of a part of FROM merge columns.
pub(crate) fn merges(from: &TableWithJoins) -> bool {
    let is_nested = |factor: &TableFactor| matches!(factor, TableFactor::NestedJoin { table_with_joins, .. } if merges(table_with_joins));
    is_nested(&from.relation)
        || from.joins.iter().any(|join| is_nested(&join.relation) || merging(&join.join_operator).is_some())
}

/// Whether a SELECT's FROM makes one column of two.
pub(crate) fn merges_any(select: &Select) -> bool {
    select.from.iter().any(merges)
}

/// Which rows of its own a join keeps, by its name, and whether it is NATURAL; none where it merges nothing.
const fn merging(join: &JoinOperator) -> Option<(&'static str, bool)> {
    let (kind, constraint) = match join {
        JoinOperator::Join(of) | JoinOperator::Inner(of) => ("", of),
        JoinOperator::Left(of) | JoinOperator::LeftOuter(of) => ("LEFT ", of),
        JoinOperator::Right(of) | JoinOperator::RightOuter(of) => ("RIGHT ", of),
        JoinOperator::FullOuter(of) => ("FULL ", of),
        _ => return None,
    };
    match constraint {
        JoinConstraint::Using(_) => Some((kind, false)),
        JoinConstraint::Natural => Some((kind, true)),
        JoinConstraint::On(_) | JoinConstraint::None => None,
    }
}

/// The first outer join of a part of FROM that merges columns.
fn outer(from: &TableWithJoins) -> Option<Refused> {
    let nested = |factor: &TableFactor| match factor {
        TableFactor::NestedJoin { table_with_joins, .. } => outer(table_with_joins),
        _ => None,
    };
    let own = from.joins.iter().find_map(|join| {
        let refused = |clause: String| Refused { clause, span: join.relation.span() };
        match merging(&join.join_operator) {
            None | Some(("", _)) => nested(&join.relation),
            Some((kind, true)) => Some(refused(format!("NATURAL {kind}JOIN"))),
            Some((kind, false)) => Some(refused(format!("{kind}JOIN with USING"))),
        }
    });
    nested(&from.relation).or(own)
}

/// A column that FROM gives.
#[derive(Clone)]
struct Given {
    name: String,
    /// What it is, by names that are told apart.
    expr: Expr,
    is_merged: bool,
}

impl Given {
    fn of(relation: Option<String>, name: String) -> Self {
        let quoted = |name: &str| Ident::with_quote('"', name);
        let expr = match relation {
            Some(relation) => Expr::CompoundIdentifier(vec![quoted(&relation), quoted(&name)]),
            None => Expr::Identifier(quoted(&name)),
        };
        Self { name, expr, is_merged: false }
    }

    fn is_of(&self, relation: &str) -> bool {
        matches!(&self.expr, Expr::CompoundIdentifier(names) if names.first().is_some_and(|name| name.value == relation))
    }

    fn item(&self) -> SelectItem {
        let expr = self.expr.clone();
        if is_column(&expr) {
            return SelectItem::UnnamedExpr(expr);
        }
        SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', self.name.clone()) }
    }
}

/// Whose column a merged one is.
#[derive(Clone, Copy)]
enum Taken {
    Left,
    Right,
    /// The left side's, and the right side's where that is null.
    Either,
}

impl Taken {
    fn of(self, left: &Given, right: &Given) -> Expr {
        match self {
            Self::Left => left.expr.clone(),
            Self::Right => right.expr.clone(),
            Self::Either => call("coalesce", Span::empty(), vec![left.expr.clone(), right.expr.clone()]),
        }
    }
}

/// The columns that a `*` gives; none where it is none, or where a relation's own columns are not all known.
fn star(item: &SelectItem, given: &[Given]) -> Option<Vec<SelectItem>> {
    match item {
        SelectItem::Wildcard(_) => Some(given.iter().map(Given::item).collect()),
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options)
            if *options == WildcardAdditionalOptions::default() && !given.iter().any(|one| one.is_merged) =>
        {
            let relation = folded(name.0.last()?.as_ident()?);
            let items: Vec<_> = given.iter().filter(|one| one.is_of(&relation)).map(Given::item).collect();
            (!items.is_empty()).then_some(items)
        }
        _ => None,
    }
}

/// What the names of merged columns stand for.
type Merged = BTreeMap<String, Expr>;

/// The merged columns whose names no other column has.
fn merged(given: &[Given]) -> Merged {
    let one = given.iter().filter(|one| one.is_merged && only(given, &one.name).is_some());
    one.map(|one| (one.name.clone(), one.expr.clone())).collect()
}

/// The names of the merged columns that SELECT gives.
fn shown(items: &[SelectItem], merged: &Merged) -> BTreeSet<String> {
    let gives = |name: &str| {
        items.iter().any(|item| match item {
            SelectItem::UnnamedExpr(expr) => bare(expr).is_some_and(|own| folded(own) == name),
            item => matches!(item, SelectItem::Wildcard(_)),
        })
    };
    merged.keys().filter(|name| gives(name)).cloned().collect()
}

/// The one column of a name.
fn only<'a>(given: &'a [Given], name: &str) -> Option<&'a Given> {
    let mut found = given.iter().filter(|one| one.name == name);
    let one = found.next()?;
    found.next().is_none().then_some(one)
}

struct Merging<'a> {
    columns: &'a Columns<'a>,
    /// The relations that WITH names, written out, of each query that is being walked through.
    withs: Vec<Vec<Cte>>,
    refused: Option<Refused>,
    /// Whether `*` beside other results is written out where nothing merges, too.
    writes_stars: bool,
}

impl VisitorMut for Merging<'_> {
    type Break = Infallible;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Infallible> {
        self.withs.push(Vec::new());
        for cte in query.with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            walk_mut(cte, self)?;
            if let Some(known) = self.withs.last_mut() {
                known.push(cte.clone());
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Infallible> {
        match query.body.as_mut() {
            SetExpr::Select(select) => {
                if let Some(given) = self.select(select) {
                    self.order(query.order_by.as_mut(), select, &given);
                }
            }
            other => self.parts(other),
        }
        self.withs.pop();
        ControlFlow::Continue(())
    }
}

impl Merging<'_> {
    /// The SELECTs of a set operation.
    fn parts(&mut self, body: &mut SetExpr) {
        match body {
            SetExpr::Select(select) => drop(self.select(select)),
            SetExpr::SetOperation { left, right, .. } => {
                self.parts(left);
                self.parts(right);
            }
            _ => {}
        }
    }

    /// Writes out a SELECT; gives what its FROM gives when that merges columns.
    fn select(&mut self, select: &mut Select) -> Option<Vec<Given>> {
        let has_stars = self.writes_stars && select.projection.len() > 1 && select.projection.iter().any(is_wild);
        if !has_stars && !select.from.iter().any(merges) {
            return None;
        }
        let is_known = |item: &SelectItem| match item {
            SelectItem::Wildcard(options) => *options == WildcardAdditionalOptions::default(),
            _ => true,
        };
        let mut from = select.from.clone();
        let given = if select.projection.iter().all(is_known) { self.from(&mut from) } else { None };
        let Some(given) = given else {
            let refused = self.refused.take();
            self.refused = refused.or_else(|| select.from.iter().find_map(outer));
            return None;
        };
        select.from = from;
        let merged = merged(&given);
        let shown = shown(&select.projection, &merged);
        let items = std::mem::take(&mut select.projection).into_iter().enumerate();
        select.projection = items
            .flat_map(|(at, item)| match star(&item, &given) {
                Some(items) => items,
                None => vec![self.item(item, at, &merged, &shown)],
            })
            .collect();
        self.replace(&mut select.distinct, &merged);
        self.replace(&mut select.selection, &merged);
        self.replace(&mut select.group_by, &merged);
        self.replace(&mut select.having, &merged);
        self.replace(&mut select.named_window, &merged);
        self.replace(&mut select.qualify, &merged);
        Some(given)
    }

    fn item(&mut self, item: SelectItem, at: usize, merged: &Merged, shown: &BTreeSet<String>) -> SelectItem {
        match item {
            // The planner could not tell it from the merged column.
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(names))
                if names.last().is_some_and(|name| shown.contains(&folded(name))) =>
            {
                named_by_place(Expr::CompoundIdentifier(names), at)
            }
            SelectItem::UnnamedExpr(mut expr) => {
                let name = bare(&expr).cloned();
                self.replace(&mut expr, merged);
                match name {
                    Some(alias) if !is_column(&expr) => SelectItem::ExprWithAlias { expr, alias },
                    _ => SelectItem::UnnamedExpr(expr),
                }
            }
            SelectItem::ExprWithAlias { mut expr, alias } => {
                self.replace(&mut expr, merged);
                SelectItem::ExprWithAlias { expr, alias }
            }
            other => other,
        }
    }

    /// ORDER BY, in which a name alone is that of a result where there is one.
    fn order(&mut self, order: Option<&mut OrderBy>, select: &Select, given: &[Given]) {
        let Some(OrderBy { kind: OrderByKind::Expressions(keys), .. }) = order else { return };
        let merged = merged(given);
        let is_by_rows = matches!(select.distinct, Some(Distinct::On(_)));
        for key in keys {
            let is_result = bare(&key.expr).is_some_and(|name| gives(select, &folded(name)));
            if is_by_rows || !is_result {
                self.replace(&mut key.expr, &merged);
            }
        }
    }

    /// Writes FROM out; gives its columns, where they are known.
    fn from(&mut self, from: &mut [TableWithJoins]) -> Option<Vec<Given>> {
        let mut given = Vec::new();
        for part in from {
            let more = self.joined(part, &given)?;
            given.extend(more);
        }
        Some(given)
    }

    /// The same of a part, beside what is given before it.
    fn joined(&mut self, from: &mut TableWithJoins, before: &[Given]) -> Option<Vec<Given>> {
        let mut left = self.factor(&mut from.relation, before)?;
        for join in &mut from.joins {
            let before = [before, left.as_slice()].concat();
            let right = self.factor(&mut join.relation, &before)?;
            left = self.join(left, &mut join.join_operator, right)?;
        }
        Some(left)
    }

    fn factor(&mut self, factor: &mut TableFactor, before: &[Given]) -> Option<Vec<Given>> {
        match factor {
            TableFactor::NestedJoin { table_with_joins, alias: None } => return self.joined(table_with_joins, before),
            TableFactor::NestedJoin { table_with_joins, alias: Some(alias) } => {
                let given = self.joined(table_with_joins, before)?;
                let derived = derived(&given, table_with_joins, alias);
                *factor = derived;
            }
            TableFactor::UNNEST {
                alias: Some(alias), array_exprs, with_offset: false, with_ordinality: false, ..
            } => {
                self.replace(array_exprs, &merged(before));
                if alias.columns.len() == array_exprs.len() {
                    let relation = folded(&alias.name);
                    let columns = alias.columns.iter().map(|column| folded(&column.name));
                    return Some(columns.map(|name| Given::of(Some(relation.clone()), name)).collect());
                }
            }
            TableFactor::Derived { lateral: true, subquery, .. } => self.replace(subquery, &merged(before)),
            _ => {}
        }
        let columns = self.columns_of(vec![TableWithJoins { relation: factor.clone(), joins: Vec::new() }])?;
        Some(columns.into_iter().map(|(relation, name)| Given::of(relation, name)).collect())
    }

    /// Writes a join out; gives its columns, the merged ones first.
    fn join(&mut self, left: Vec<Given>, operator: &mut JoinOperator, right: Vec<Given>) -> Option<Vec<Given>> {
        let (taken, constraint) = match operator {
            JoinOperator::Join(of)
            | JoinOperator::Inner(of)
            | JoinOperator::CrossJoin(of)
            | JoinOperator::Left(of)
            | JoinOperator::LeftOuter(of) => (Taken::Left, of),
            JoinOperator::Right(of) | JoinOperator::RightOuter(of) => (Taken::Right, of),
            JoinOperator::FullOuter(of) => (Taken::Either, of),
            _ => return None,
        };
        let names: Vec<String> = match constraint {
            JoinConstraint::Using(names) => names.iter().map(name_of).collect::<Option<_>>()?,
            JoinConstraint::Natural => {
                let is_common = |one: &&Given| right.iter().any(|other| other.name == one.name);
                left.iter().filter(is_common).map(|one| one.name.clone()).collect()
            }
            JoinConstraint::On(condition) => {
                let both = [left, right].concat();
                self.replace(condition, &merged(&both));
                return Some(both);
            }
            JoinConstraint::None => return Some([left, right].concat()),
        };
        let mut given = Vec::with_capacity(left.len() + right.len());
        let mut conditions = Vec::with_capacity(names.len());
        for name in &names {
            let (left, right) = (only(&left, name)?, only(&right, name)?);
            conditions.push(binary(left.expr.clone(), BinaryOperator::Eq, right.expr.clone()));
            given.push(Given { name: name.clone(), expr: taken.of(left, right), is_merged: true });
        }
        let condition = conditions.into_iter().reduce(|all, one| binary(all, BinaryOperator::And, one));
        *constraint = condition.map_or(JoinConstraint::None, JoinConstraint::On);
        given.extend(left.into_iter().chain(right).filter(|one| !names.contains(&one.name)));
        Some(given)
    }

    /// The columns of `SELECT * FROM` this.
    fn columns_of(&self, from: Vec<TableWithJoins>) -> Option<Vec<(Option<String>, String)>> {
        let mut query = template("SELECT * FROM t");
        if let SetExpr::Select(select) = query.body.as_mut() {
            select.from = from;
        }
        let cte_tables = self.withs.concat();
        if !cte_tables.is_empty() {
            query.with = Some(With { with_token: AttachedToken::empty(), recursive: false, cte_tables });
        }
        (self.columns)(*query)
    }

    /// The names that mean something of their own in a subquery; none where all may.
    fn own_names(&self, query: &Query) -> Option<BTreeSet<String>> {
        let SetExpr::Select(select) = query.body.as_ref() else { return None };
        let alias = |item: &SelectItem| match item {
            SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
            _ => None,
        };
        let mut names: BTreeSet<String> = select.projection.iter().filter_map(alias).collect();
        if !select.from.is_empty() {
            names.extend(self.columns_of(select.from.clone())?.into_iter().map(|(_, name)| name));
        }
        Some(names)
    }

    /// Puts what merged columns are into the places of their names.
    fn replace(&mut self, part: &mut impl VisitMut, merged: &Merged) {
        if merged.is_empty() {
            return;
        }
        let mut replacing = Replacing { merging: self, merged, own: Vec::new() };
        let ControlFlow::Continue(()) = walk_mut(part, &mut replacing);
    }
}

struct Replacing<'a, 'b> {
    merging: &'a mut Merging<'b>,
    merged: &'a Merged,
    /// The names that mean something of their own in each of the subqueries that are being walked through.
    own: Vec<Option<BTreeSet<String>>>,
}

impl VisitorMut for Replacing<'_, '_> {
    type Break = Infallible;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Infallible> {
        let known = query.with.as_ref().map(|with| with.cte_tables.clone());
        self.merging.withs.push(known.unwrap_or_default());
        self.own.push(self.merging.own_names(query));
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Infallible> {
        self.own.pop();
        self.merging.withs.pop();
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        let Expr::Identifier(name) = expr else { return ControlFlow::Continue(()) };
        let name = folded(name);
        let is_own = |names: &Option<BTreeSet<String>>| names.as_ref().is_none_or(|names| names.contains(&name));
        if let Some(merged) = self.merged.get(&name)
            && !self.own.iter().any(is_own)
        {
            *expr = merged.clone();
        }
        ControlFlow::Continue(())
    }
}

/// A join in parentheses that has a name, under which its columns are known alone.
fn derived(given: &[Given], from: &TableWithJoins, alias: &TableAlias) -> TableFactor {
    let mut subquery = template("SELECT * FROM t");
    if let SetExpr::Select(select) = subquery.body.as_mut() {
        select.projection = given.iter().map(Given::item).collect();
        select.from = vec![from.clone()];
    }
    TableFactor::Derived { lateral: false, subquery, alias: Some(alias.clone()), sample: None }
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

/// A column's name in USING.
fn name_of(name: &ObjectName) -> Option<String> {
    let [part] = name.0.as_slice() else { return None };
    part.as_ident().map(folded)
}

/// The name that an expression is alone.
fn bare(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Nested(inner) => bare(inner),
        Expr::Identifier(name) => Some(name),
        _ => None,
    }
}

fn is_column(expr: &Expr) -> bool {
    column(expr).is_some()
}

/// The name of the column that an expression is.
fn column(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Nested(inner) => column(inner),
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(names) => names.last(),
        _ => None,
    }
}

/// Whether a result of SELECT has, or may have, a name.
fn gives(select: &Select, name: &str) -> bool {
    select.projection.iter().any(|item| match item {
        SelectItem::UnnamedExpr(expr) => column(expr).is_some_and(|column| folded(column) == name),
        SelectItem::ExprWithAlias { alias, .. } => folded(alias) == name,
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The columns of relations `a (x, k)`, `b (k, y)` and `c (k, z)`.
    fn columns(query: Query) -> Option<Vec<(Option<String>, String)>> {
        let SetExpr::Select(select) = *query.body else { return None };
        let mut all = Vec::new();
        for part in &select.from {
            let TableFactor::Table { name, alias, .. } = &part.relation else { return None };
            let name = name.to_string();
            let own = match name.as_str() {
                "a" => ["x", "k"],
                "b" => ["k", "y"],
                "c" => ["k", "z"],
                _ => return None,
            };
            let relation = alias.as_ref().map_or(name, |alias| alias.name.value.clone());
            all.extend(own.map(|column| (Some(relation.clone()), column.to_owned())));
        }
        Some(all)
    }

    #[test]
    fn merged_columns_are_written_out() {
        let full = r#"a FULL JOIN b ON "a"."k" = "b"."k""#;
        let k = r#"coalesce("a"."k", "b"."k")"#;
        for (written, expected) in [
            ("SELECT k FROM a FULL JOIN b USING (k)", format!("SELECT {k} AS k FROM {full}")),
            ("SELECT a.k, b.k FROM a NATURAL FULL JOIN b", format!("SELECT a.k, b.k FROM {full}")),
            (
                "SELECT * FROM a FULL JOIN b USING (k) WHERE k > 1",
                format!(r#"SELECT {k} AS "k", "a"."x", "b"."y" FROM {full} WHERE {k} > 1"#),
            ),
            (
                "SELECT K, count(*) FROM a RIGHT JOIN b USING (k) GROUP BY k ORDER BY k, k + 1",
                r#"SELECT "b"."k", count(*) FROM a RIGHT JOIN b ON "a"."k" = "b"."k" GROUP BY "b"."k" ORDER BY k, "b"."k" + 1"#
                    .to_owned(),
            ),
            (
                "SELECT y FROM a FULL JOIN b USING (k) ORDER BY k",
                format!("SELECT y FROM {full} ORDER BY {k}"),
            ),
            (
                "SELECT k FROM a LEFT JOIN b USING (k) JOIN c USING (k)",
                r#"SELECT "a"."k" FROM a LEFT JOIN b ON "a"."k" = "b"."k" JOIN c ON "a"."k" = "c"."k""#.to_owned(),
            ),
            (
                "SELECT y FROM a FULL JOIN b USING (k) WHERE EXISTS (SELECT 1 FROM c WHERE z = k)",
                format!("SELECT y FROM {full} WHERE EXISTS (SELECT 1 FROM c WHERE z = k)"),
            ),
            (
                "SELECT (SELECT max(y) FROM a AS d WHERE d.k = z) FROM b JOIN c USING (k)",
                r#"SELECT (SELECT max(y) FROM a AS d WHERE d.k = z) FROM b JOIN c ON "b"."k" = "c"."k""#.to_owned(),
            ),
            (
                "SELECT k, a.k FROM a FULL JOIN b USING (k)",
                format!(r#"SELECT {k} AS k, a.k AS "?column?#2#k" FROM {full}"#),
            ),
            (
                "SELECT *, a.k FROM a JOIN b USING (k)",
                r#"SELECT "a"."k", "a"."x", "b"."y", a.k AS "?column?#2#k" FROM a JOIN b ON "a"."k" = "b"."k""#.to_owned(),
            ),
            ("SELECT k FROM a JOIN b ON a.k = b.k", "SELECT k FROM a JOIN b ON a.k = b.k".to_owned()),
        ] {
            let mut query = *template(written);
            assert!(written_out(&mut query, &columns).is_none(), "{written}");
            assert_eq!(query.to_string(), expected, "{written}");
        }
    }

    #[test]
    fn outer_joins_whose_columns_are_not_known_are_refused() {
        let clause = |written: &str| {
            let mut query = *template(written);
            let refused = written_out(&mut query, &columns);
            assert_eq!(query.to_string(), template(written).to_string());
            refused.map(|refused| refused.clause)
        };
        assert_eq!(clause("SELECT 1 FROM a FULL JOIN u USING (k)").as_deref(), Some("FULL JOIN with USING"));
        assert_eq!(clause("SELECT 1 FROM a NATURAL LEFT JOIN u").as_deref(), Some("NATURAL LEFT JOIN"));
        assert_eq!(clause("SELECT 1 FROM a JOIN u USING (k)"), None);
    }
}
