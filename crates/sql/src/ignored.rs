//! Clauses that the parser knows from other databases and the planner passes over without a word:
//! each is refused by name, in views and in queries alike. So are those that it has no words of its own for.
//!
//! The syntax tree's structs are taken apart field by field, so that a field that a newer parser
//! brings does not compile until somebody has decided about it.

use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::order_by;
use crate::ordered_sets;
use crate::repeated;
use crate::respell::plain_name;
use crate::row_values;
use crate::session::Session;
use crate::shifts;
use crate::statement::Query;
use crate::text::Position;
use crate::walk::{walk, walk_expressions};
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, DuplicateTreatment, Expr, Fetch, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentClause, FunctionArguments, Ident, JoinConstraint, JoinOperator, ObjectNamePart, Select, SetExpr,
    SetOperator, SetQuantifier, Spanned, TableFactor, TableWithJoins, Visitor,
};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// Refuses the first clause that would have no effect.
///
/// # Errors
/// `Unsupported` with the clause's name and position; `Invalid` (42809) for what only aggregates have.
pub(crate) fn check(query: &Query, session: &Session) -> Result<()> {
    let cursor = Cursor::new(&query.text)?;
    match walk(&query.ast, &mut Gate { cursor: &cursor, session }) {
        ControlFlow::Break(error) => Err(*error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Aggregates that may count each value once over frames too.
const ONCE_OVER: [&str; 11] =
    ["count", "sum", "avg", "min", "max", "bit_and", "bit_or", "bit_xor", "bool_and", "bool_or", "every"];

struct Gate<'a> {
    cursor: &'a Cursor<'a>,
    session: &'a Session,
}

type Walk = ControlFlow<Box<Error>>;

impl Gate<'_> {
    /// Refuses the first clause that is there.
    fn first(&self, clauses: &[(bool, &str)], at: Option<Position>) -> Walk {
        match clauses.iter().find(|(there, _)| *there) {
            Some((_, clause)) => {
                ControlFlow::Break(Box::new(Error::unsupported(*clause, "it would have no effect: leave it out", at)))
            }
            None => ControlFlow::Continue(()),
        }
    }
}

/// The order of an aggregate's rows, as it is written, and whether each value counts once.
pub(crate) fn order_of(expr: &Expr) -> Option<(String, bool)> {
    let Expr::Function(function) = expr else { return None };
    let FunctionArguments::List(list) = &function.args else { return None };
    let order = list.clauses.iter().find_map(|clause| match clause {
        FunctionArgumentClause::OrderBy(order) => Some(order),
        _ => None,
    })?;
    let order: Vec<String> = order.iter().map(ToString::to_string).collect();
    Some((order.join(", "), list.duplicate_treatment == Some(DuplicateTreatment::Distinct)))
}

impl Gate<'_> {
    /// Refuses aggregates of different orders where one is DISTINCT: DataFusion would give all of them one.
    fn orders(&self, select: &Select) -> Walk {
        let (mut orders, mut is_distinct): (BTreeSet<String>, bool) = (BTreeSet::new(), false);
        let _ = walk_expressions(&select.projection, &mut |expr| {
            if let Some((order, distinct)) = order_of(expr) {
                orders.insert(order);
                is_distinct |= distinct;
            }
            ControlFlow::<()>::Continue(())
        });
        if orders.len() < 2 || !is_distinct {
            return ControlFlow::Continue(());
        }
        let at = Position::of(self.cursor.text, select.select_token.0.span.start);
        let hint = "they would be put in one order: aggregate in two queries and join them";
        let error = Error::unsupported("DISTINCT and two different ORDER BY inside aggregates", hint, at);
        ControlFlow::Break(Box::new(error))
    }

    /// Refuses in calls of other functions what only aggregates have.
    fn call(&self, call: &Function) -> Walk {
        let FunctionArguments::List(list) = &call.args else { return ControlFlow::Continue(()) };
        let is_order = |clause: &FunctionArgumentClause| matches!(clause, FunctionArgumentClause::OrderBy(_));
        let clauses = [
            (list.duplicate_treatment == Some(DuplicateTreatment::Distinct), "DISTINCT"),
            (list.clauses.iter().any(is_order), "ORDER BY"),
            (call.filter.is_some(), "FILTER"),
        ];
        let Some((_, clause)) = clauses.iter().find(|(there, _)| *there) else { return ControlFlow::Continue(()) };
        let Some(name) = plain_name(&call.name).map(str::to_lowercase).filter(|name| self.session.is_scalar(name))
        else {
            return ControlFlow::Continue(());
        };
        let message = format!("{clause} specified, but {name} is not an aggregate function");
        let position = Position::of(self.cursor.text, call.name.span().start);
        ControlFlow::Break(Box::new(Error::Invalid { sqlstate: "42809", message, position }))
    }
}

impl Gate<'_> {
    /// Refuses calls of aggregates over values in an order that lack the order, and what these do not take.
    fn ordered_set(&self, call: &Function) -> Walk {
        let name = plain_name(&call.name).map(str::to_lowercase);
        let Some(name) = name.filter(|name| !self.session.declares(name)) else { return ControlFlow::Continue(()) };
        let position = Position::of(self.cursor.text, call.name.span().start);
        if ordered_sets::takes_fraction(&name) && is_of_array(call) {
            let clause = format!("{name}() of an array of fractions");
            return ControlFlow::Break(Box::new(Error::unsupported(clause, "call it once for each of them", position)));
        }
        let is_ordered_set = ordered_sets::takes_fraction(&name) && !call.within_group.is_empty();
        if !is_ordered_set && !ordered_sets::is_one(&name) {
            return ControlFlow::Continue(());
        }
        let refused = if call.within_group.is_empty() {
            let message = format!("WITHIN GROUP is required for ordered-set aggregate {name}");
            Error::Invalid { sqlstate: "42809", message, position }
        } else if is_distinct(call) {
            let message = "cannot use DISTINCT with WITHIN GROUP".to_owned();
            Error::Invalid { sqlstate: "42601", message, position }
        } else if call.over.is_some() {
            Error::unsupported(format!("OVER for ordered-set aggregate {name}"), "aggregate in a subquery", position)
        } else {
            return ControlFlow::Continue(());
        };
        ControlFlow::Break(Box::new(refused))
    }

    /// Refuses DISTINCT of pairs, which would all count, and over frames where it would be by chance which value
    /// comes first; and over frames what is about groups.
    fn once(&self, call: &Function) -> Walk {
        let Some(name) = plain_name(&call.name).map(str::to_lowercase) else { return ControlFlow::Continue(()) };
        let (is_over, is_distinct) = (call.over.is_some(), is_distinct(call));
        let is_of_pairs = name == "corr" || name.starts_with("covar_") || name.starts_with("regr_");
        let hint = "aggregate DISTINCT rows of a subquery";
        let (clause, hint) = if is_over && name == "grouping" {
            ("grouping() with OVER".to_owned(), "it tells of GROUP BY")
        } else if is_distinct && is_of_pairs {
            (format!("DISTINCT in {name}()"), hint)
        } else if is_distinct && is_over && !ONCE_OVER.contains(&name.as_str()) {
            (format!("DISTINCT in {name}() with OVER"), hint)
        } else {
            return ControlFlow::Continue(());
        };
        let position = Position::of(self.cursor.text, call.name.span().start);
        ControlFlow::Break(Box::new(Error::unsupported(clause, hint, position)))
    }

    /// Refuses offsets and defaults of `lag` and `lead` that would be taken for others.
    fn shift(&self, call: &Function) -> Walk {
        let name = plain_name(&call.name).map(str::to_lowercase).filter(|name| shifts::is_one(name));
        let Some(clause) = name.filter(|_| call.over.is_some()).and_then(|name| shifts::refused(&name, call)) else {
            return ControlFlow::Continue(());
        };
        let position = Position::of(self.cursor.text, call.name.span().start);
        let hint = "write the offset as a number";
        ControlFlow::Break(Box::new(Error::unsupported(clause, hint, position)))
    }

    /// Refuses a FETCH that is no LIMIT.
    fn fetch(&self, fetch: &Fetch) -> Walk {
        let (clause, hint) = if fetch.with_ties {
            ("FETCH ... WITH TIES", "number the rows with rank()")
        } else if fetch.percent {
            ("FETCH ... PERCENT", "number the rows, and compare with count(*) OVER ()")
        } else {
            ("FETCH beside LIMIT", "leave one of them out")
        };
        let before = self.cursor.word_before(fetch.span().start, "FETCH");
        let at = before.or_else(|| self.cursor.only_word("FETCH"));
        ControlFlow::Break(Box::new(Error::unsupported(clause, hint, at)))
    }

    /// Refuses `ARRAY(SELECT ...)`, which is parsed as the call of a function.
    fn array(&self, call: &Function) -> Walk {
        let is_array = plain_name(&call.name).is_some_and(|name| name.eq_ignore_ascii_case("array"));
        if !is_array || !matches!(call.args, FunctionArguments::Subquery(_)) {
            return ControlFlow::Continue(());
        }
        let position = Position::of(self.cursor.text, call.name.span().start);
        let hint = "write (SELECT array_agg(x ORDER BY y) FROM ...)";
        ControlFlow::Break(Box::new(Error::unsupported("ARRAY(SELECT ...)", hint, position)))
    }

    /// Refuses set operations that count rows, which are planned as if each row of the one side went with all
    /// that are equal to it.
    fn counted(&self, body: &SetExpr) -> Walk {
        let SetExpr::SetOperation { op, set_quantifier, left, right } = body else {
            return ControlFlow::Continue(());
        };
        let clause = match op {
            SetOperator::Union => None,
            SetOperator::Except | SetOperator::Minus => Some(("EXCEPT", "EXCEPT ALL")),
            SetOperator::Intersect => Some(("INTERSECT", "INTERSECT ALL")),
        };
        let is_all = matches!(set_quantifier, SetQuantifier::All | SetQuantifier::AllByName);
        if let Some((word, clause)) = clause.filter(|_| is_all) {
            let start = right.span().start;
            let at = self.cursor.word_before(start, word).or_else(|| Position::of(self.cursor.text, start));
            let error = Error::unsupported(clause, "number the rows on each side", at);
            return ControlFlow::Break(Box::new(error));
        }
        self.counted(left)?;
        self.counted(right)
    }

    /// Refuses two relations of one name, of which nobody could tell whose a column is.
    fn names(&self, select: &Select) -> Walk {
        let mut seen = BTreeSet::new();
        for ident in select.from.iter().flat_map(names_of) {
            let name = if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() };
            if seen.contains(&name) {
                let message = format!("table name {name:?} specified more than once");
                let position = Position::of(self.cursor.text, ident.span.start);
                return ControlFlow::Break(Box::new(Error::Invalid { sqlstate: "42712", message, position }));
            }
            seen.insert(name);
        }
        ControlFlow::Continue(())
    }

    /// Refuses EXISTS in a join's condition, which is planned as if it read no column of either side.
    fn conditions(&self, select: &Select) -> Walk {
        for condition in select.from.iter().flat_map(|from| &from.joins).filter_map(|join| on(&join.join_operator)) {
            walk_expressions(condition, &mut |expr| {
                let Expr::Exists { subquery, .. } = expr else { return ControlFlow::Continue(()) };
                let at = self.cursor.word_before(subquery.span().start, "EXISTS");
                let hint = "write it in WHERE, or join to what it looks for";
                ControlFlow::Break(Box::new(Error::unsupported("EXISTS in ON", hint, at)))
            })?;
        }
        ControlFlow::Continue(())
    }
}

/// Whether a call is one of DISTINCT values.
fn is_distinct(call: &Function) -> bool {
    match &call.args {
        FunctionArguments::List(list) => list.duplicate_treatment == Some(DuplicateTreatment::Distinct),
        _ => false,
    }
}

/// Whether a pattern is `ALL (...)`, which is parsed as the call of a function.
fn is_all(pattern: &Expr) -> bool {
    matches!(pattern, Expr::Function(call) if plain_name(&call.name).is_some_and(|name| name.eq_ignore_ascii_case("all")))
}

/// Whether the first argument of a call is an array that is written out.
fn is_of_array(call: &Function) -> bool {
    let FunctionArguments::List(list) = &call.args else { return false };
    matches!(list.args.first(), Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Array(_)))))
}

/// What the tables of a FROM are called, and whatever else has an alias there.
fn names_of(from: &TableWithJoins) -> Vec<&Ident> {
    let mut names = Vec::new();
    for factor in std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)) {
        match factor {
            TableFactor::Table { alias: Some(alias), .. }
            | TableFactor::Derived { alias: Some(alias), .. }
            | TableFactor::NestedJoin { alias: Some(alias), .. } => names.push(&alias.name),
            TableFactor::Table { name, alias: None, args: None, .. } => {
                names.extend(name.0.last().and_then(ObjectNamePart::as_ident));
            }
            TableFactor::NestedJoin { table_with_joins, .. } => names.extend(names_of(table_with_joins)),
            _ => {}
        }
    }
    names
}

/// What stands after a join's ON.
const fn on(join: &JoinOperator) -> Option<&Expr> {
    match join {
        JoinOperator::Join(JoinConstraint::On(condition))
        | JoinOperator::Inner(JoinConstraint::On(condition))
        | JoinOperator::Left(JoinConstraint::On(condition))
        | JoinOperator::LeftOuter(JoinConstraint::On(condition))
        | JoinOperator::Right(JoinConstraint::On(condition))
        | JoinOperator::RightOuter(JoinConstraint::On(condition))
        | JoinOperator::FullOuter(JoinConstraint::On(condition)) => Some(condition),
        _ => None,
    }
}

impl Visitor for Gate<'_> {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &ast::Query) -> Walk {
        let ast::Query {
            with: _,
            body,
            order_by: _,
            limit_clause: _,
            fetch,
            locks: _,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        self.counted(body)?;
        if let Some(fetch) = fetch {
            self.fetch(fetch)?;
        }
        order_by::check(query, self.cursor.text)?;
        repeated::check_order(query, self.cursor.text)?;
        let clauses = [
            (for_clause.is_some(), "FOR XML, JSON or BROWSE"),
            (settings.is_some(), "SETTINGS"),
            (format_clause.is_some(), "FORMAT"),
            (!pipe_operators.is_empty(), "|>"),
        ];
        self.first(&clauses, Position::of(self.cursor.text, query.span().start))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Walk {
        match expr {
            row if row_values::is_compared(row) => {
                let at = Position::of(self.cursor.text, row.span().start);
                let hint = "write EXISTS or NOT EXISTS with a comparison of each column";
                ControlFlow::Break(Box::new(Error::unsupported("a row compared with a subquery", hint, at)))
            }
            Expr::Function(call) => {
                self.ordered_set(call)?;
                self.once(call)?;
                self.array(call)?;
                self.shift(call)?;
                self.call(call)
            }
            Expr::Like { pattern, any, .. } | Expr::ILike { pattern, any, .. } if *any || is_all(pattern) => {
                let clause = if *any { "LIKE ANY" } else { "LIKE ALL" };
                let start = pattern.span().start;
                let before = if *any { self.cursor.word_before(start, "ANY") } else { None };
                let at = before.or_else(|| Position::of(self.cursor.text, start));
                let hint = "compare with each pattern, or match one regular expression with ~";
                ControlFlow::Break(Box::new(Error::unsupported(clause, hint, at)))
            }
            Expr::BinaryOp { op: BinaryOperator::Overlaps, right, .. } => {
                let at = self.cursor.word_before(right.span().start, "OVERLAPS");
                let hint = "compare the ends: a < d AND c < b";
                ControlFlow::Break(Box::new(Error::unsupported("OVERLAPS", hint, at)))
            }
            Expr::Collate { collation, .. } => {
                let at = self.cursor.word_before(collation.span().start, "COLLATE");
                let hint = "texts are ordered by their bytes, as with \"C\": leave it out";
                ControlFlow::Break(Box::new(Error::unsupported("COLLATE", hint, at)))
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> Walk {
        self.names(select)?;
        self.orders(select)?;
        self.conditions(select)?;
        let Select {
            select_token,
            optimizer_hints: _,
            distinct: _,
            select_modifiers,
            // It is a name here.
            top: _,
            top_before_distinct: _,
            projection: _,
            exclude,
            into: _,
            from: _,
            lateral_views,
            prewhere,
            selection: _,
            connect_by,
            group_by: _,
            cluster_by,
            distribute_by,
            sort_by,
            having: _,
            named_window: _,
            qualify: _,
            window_before_qualify: _,
            value_table_mode,
            flavor: _,
        } = select;
        let clauses = [
            (select_modifiers.is_some(), "a modifier after SELECT"),
            (exclude.is_some(), "EXCLUDE"),
            (!lateral_views.is_empty(), "LATERAL VIEW"),
            (prewhere.is_some(), "PREWHERE"),
            (!connect_by.is_empty(), "CONNECT BY"),
            (!cluster_by.is_empty(), "CLUSTER BY"),
            (!distribute_by.is_empty(), "DISTRIBUTE BY"),
            (!sort_by.is_empty(), "SORT BY"),
            (value_table_mode.is_some(), "SELECT AS"),
        ];
        self.first(&clauses, Position::of(self.cursor.text, select_token.0.span.start))
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Walk {
        let at = Position::of(self.cursor.text, factor.span().start);
        if let TableFactor::Derived { lateral: _, subquery: _, alias: _, sample } = factor {
            return self.first(&[(sample.is_some(), "TABLESAMPLE")], at);
        }
        let TableFactor::Table {
            name: _,
            alias: _,
            args: _,
            with_hints,
            version: _,
            with_ordinality,
            partitions,
            json_path,
            sample,
            index_hints,
        } = factor
        else {
            return ControlFlow::Continue(());
        };
        if *with_ordinality {
            let error = Error::unsupported("WITH ORDINALITY", "the rows of a function are not numbered yet", at);
            return ControlFlow::Break(Box::new(error));
        }
        let clauses = [
            (!with_hints.is_empty(), "WITH after a table"),
            (!partitions.is_empty(), "PARTITION"),
            (json_path.is_some(), "a path into a table"),
            (sample.is_some(), "TABLESAMPLE"),
            (!index_hints.is_empty(), "an index hint"),
        ];
        self.first(&clauses, at)
    }
}
