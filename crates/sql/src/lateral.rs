//! A lateral join whose right side reads no table, such as `FROM t, unnest(t.a)`, as steps over the
//! rows of its left side.
//!
//! The right side is a chain of projections, filters and UNNEST over one empty row. Put upon the
//! left side instead, the chain gives each row's own elements, and no join is left. Whatever is
//! not such a chain stays as it is. What UNNEST in GROUP BY brings is put in order besides.
//!
//! Invariant: within a chain every column that is made has a name that nobody else has, so that it
//! cannot be taken for one of the left side's.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, NullHandling, RecursionUnnestOption, Result, ScalarValue, UnnestOptions};
use datafusion::logical_expr::{
    EmptyRelation, Expr, Filter, Join, JoinType, LogicalPlan, LogicalPlanBuilder, Projection, Subquery, SubqueryAlias,
    Unnest, col,
};
use std::sync::Arc;

/// Columns that a chain makes are called so, with a number.
const MADE: &str = "__lateral";

/// A plan without lateral joins over chains.
///
/// # Errors
/// DataFusion's, which are broken invariants here.
pub(crate) fn inlined(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut made = 0;
    let inlined = plan.transform_up_with_subqueries(|node| match &node {
        LogicalPlan::Join(join) => match of_join(join, &mut made)? {
            Some(chain) => Ok(Transformed::yes(chain)),
            None => Ok(Transformed::no(node)),
        },
        LogicalPlan::Aggregate(aggregate) if matches!(*aggregate.input, LogicalPlan::Unnest(_)) => {
            let mut aggregate = aggregate.clone();
            aggregate.input = Arc::new(in_order(&aggregate.input)?);
            Ok(Transformed::yes(LogicalPlan::Aggregate(aggregate)))
        }
        _ => Ok(Transformed::no(node)),
    })?;
    Ok(inlined.data)
}

/// What `GROUP BY unnest(a)` is grouped from. DataFusion puts its columns in an order that is another
/// one in each process, but state is found again by the columns' order.
fn in_order(plan: &LogicalPlan) -> Result<LogicalPlan> {
    let LogicalPlan::Unnest(unnest) = plan else { return Ok(plan.clone()) };
    let LogicalPlan::Projection(projection) = unnest.input.as_ref() else { return Ok(plan.clone()) };
    let mut exprs = projection.expr.clone();
    exprs.sort_by_cached_key(Expr::to_string);
    let input = Arc::new(in_order(&projection.input)?);
    let projection = Arc::new(LogicalPlan::Projection(Projection::try_new(exprs, input)?));
    Unnest::try_new(projection, unnest.exec_columns.clone(), unnest.options.clone()).map(LogicalPlan::Unnest)
}

/// A join as a chain over its left side.
fn of_join(join: &Join, made: &mut usize) -> Result<Option<LogicalPlan>> {
    let keeps_left = match join.join_type {
        JoinType::Inner => false,
        JoinType::Left => true,
        _ => return Ok(None),
    };
    if !gives_rows(&join.right) || keeps_left && !(join.on.is_empty() && is_true(join.filter.as_ref())) {
        return Ok(None);
    }
    let mut over = Over { left: &join.left, keeps_left, made };
    let Some(Made { plan, columns, .. }) = over.put(&join.right)? else { return Ok(None) };
    let left = join.left.schema().columns().into_iter().map(col);
    let right = columns.into_iter().map(|(own, made)| col(made).alias_qualified(own.relation, own.name));
    let mut builder = LogicalPlanBuilder::from(plan).project(left.chain(right))?;
    for (left, right) in &join.on {
        builder = builder.filter(left.clone().eq(right.clone()))?;
    }
    if let Some(filter) = join.filter.as_ref().filter(|_| !keeps_left) {
        builder = builder.filter(filter.clone())?;
    }
    builder.build().map(Some)
}

fn is_true(filter: Option<&Expr>) -> bool {
    filter.is_none_or(|filter| matches!(filter, Expr::Literal(ScalarValue::Boolean(Some(true)), _)))
}

/// Whether a right side is lateral, or has elements of an array: another one is computed once.
fn gives_rows(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Unnest(_) => true,
        LogicalPlan::Subquery(subquery) => !subquery.outer_ref_columns.is_empty() || gives_rows(&subquery.subquery),
        LogicalPlan::SubqueryAlias(alias) => gives_rows(&alias.input),
        LogicalPlan::Projection(projection) => gives_rows(&projection.input),
        LogicalPlan::Filter(filter) => gives_rows(&filter.input),
        _ => false,
    }
}

/// A part of a chain that was put upon the left side.
struct Made {
    plan: LogicalPlan,
    /// The columns that the part had, in their order, and what they are called now.
    columns: Vec<(Column, Column)>,
    /// Whether an UNNEST is among it.
    is_unnested: bool,
}

struct Over<'a> {
    left: &'a LogicalPlan,
    /// Whether a row stays, with nulls, for which the chain gives nothing.
    keeps_left: bool,
    /// How many columns were made.
    made: &'a mut usize,
}

impl Over<'_> {
    /// A chain upon the left side; none when it is none.
    fn put(&mut self, plan: &LogicalPlan) -> Result<Option<Made>> {
        match plan {
            LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: true, .. }) => {
                Ok(Some(Made { plan: self.left.clone(), columns: Vec::new(), is_unnested: false }))
            }
            LogicalPlan::Subquery(Subquery { subquery, .. }) => self.put(subquery),
            LogicalPlan::SubqueryAlias(SubqueryAlias { input, schema, .. }) => {
                let Some(mut made) = self.put(input)? else { return Ok(None) };
                rename(&mut made.columns, schema);
                Ok(Some(made))
            }
            LogicalPlan::Projection(projection) => self.projection(projection),
            LogicalPlan::Filter(filter) => self.filter(filter),
            LogicalPlan::Unnest(unnest) => self.unnest(unnest),
            _ => Ok(None),
        }
    }

    fn projection(&mut self, projection: &Projection) -> Result<Option<Made>> {
        if projection.expr.iter().any(has_subquery) {
            return Ok(None);
        }
        let Some(Made { plan, columns, is_unnested }) = self.put(&projection.input)? else { return Ok(None) };
        // What is computed from an element is not null because there is none.
        if self.keeps_left && is_unnested && !projection.expr.iter().all(is_column) {
            return Ok(None);
        }
        let mut exprs: Vec<Expr> = self.left.schema().columns().into_iter().map(col).collect();
        let mut made = Vec::with_capacity(projection.expr.len());
        for (expr, own) in projection.expr.iter().zip(projection.schema.columns()) {
            let name = self.name();
            exprs.push(self.replaced(expr, &columns)?.unalias().alias(&name));
            made.push((own, Column::from_name(name)));
        }
        let plan = LogicalPlanBuilder::from(plan).project(exprs)?.build()?;
        Ok(Some(Made { plan, columns: made, is_unnested }))
    }

    fn filter(&mut self, filter: &Filter) -> Result<Option<Made>> {
        if self.keeps_left || has_subquery(&filter.predicate) {
            return Ok(None);
        }
        let Some(Made { plan, columns, is_unnested }) = self.put(&filter.input)? else { return Ok(None) };
        let predicate = self.replaced(&filter.predicate, &columns)?;
        let plan = LogicalPlanBuilder::from(plan).filter(predicate)?.build()?;
        Ok(Some(Made { plan, columns, is_unnested }))
    }

    fn unnest(&mut self, unnest: &Unnest) -> Result<Option<Made>> {
        let Some(Made { plan, columns, is_unnested }) = self.put(&unnest.input)? else { return Ok(None) };
        if !unnest.struct_type_columns.is_empty() || self.keeps_left && is_unnested {
            return Ok(None);
        }
        let is_list = |from: &usize| unnest.list_type_columns.iter().any(|(at, _)| at == from);
        // What stands beside the elements is not null because there are none.
        if self.keeps_left && !unnest.dependency_indices.iter().all(is_list) {
            return Ok(None);
        }
        let null_handling =
            if self.keeps_left { NullHandling::PreserveAndExpandEmpty } else { unnest.options.null_handling };
        let mut options = UnnestOptions::new().with_null_handling(null_handling);
        let mut lists: Vec<Column> = Vec::new();
        let mut elements: Vec<(String, Column)> = Vec::new();
        for (at, list) in &unnest.list_type_columns {
            let input = columns[*at].1.clone();
            let output = Column::from_name(self.name());
            elements.push((list.output_column.name.clone(), output.clone()));
            options = options.with_recursions(RecursionUnnestOption {
                input_column: input.clone(),
                output_column: output,
                depth: list.depth,
            });
            if !lists.contains(&input) {
                lists.push(input);
            }
        }
        let mut made = Vec::with_capacity(unnest.dependency_indices.len());
        for (own, from) in unnest.schema.columns().into_iter().zip(&unnest.dependency_indices) {
            let element = elements.iter().find(|(name, _)| is_list(from) && *name == own.name);
            made.push((own, element.map_or_else(|| columns[*from].1.clone(), |(_, element)| element.clone())));
        }
        let plan = LogicalPlanBuilder::from(plan).unnest_columns_with_options(lists, options)?.build()?;
        Ok(Some(Made { plan, columns: made, is_unnested: true }))
    }

    fn name(&mut self) -> String {
        *self.made += 1;
        format!("{MADE}{}", self.made)
    }

    /// An expression over a part's columns and those of the left side, over the chain's.
    fn replaced(&self, expr: &Expr, columns: &[(Column, Column)]) -> Result<Expr> {
        let left = self.left.schema();
        let replaced = expr.clone().transform_up(|expr| match &expr {
            Expr::Column(column) => match found(columns, column) {
                Some(made) => Ok(Transformed::yes(Expr::Column(made.clone()))),
                None => Ok(Transformed::no(expr)),
            },
            Expr::OuterReferenceColumn(_, column) if left.has_column(column) => {
                Ok(Transformed::yes(Expr::Column(column.clone())))
            }
            _ => Ok(Transformed::no(expr)),
        })?;
        Ok(replaced.data)
    }
}

/// What a column of a part is called now.
fn found<'a>(columns: &'a [(Column, Column)], column: &Column) -> Option<&'a Column> {
    let is_same = |own: &Column| own.name == column.name && own.relation == column.relation;
    let is_named = |own: &Column| own.name == column.name && column.relation.is_none();
    let same = columns.iter().find(|(own, _)| is_same(own));
    same.or_else(|| columns.iter().find(|(own, _)| is_named(own))).map(|(_, made)| made)
}

/// The same columns under the names of another schema.
fn rename(columns: &mut [(Column, Column)], schema: &DFSchema) {
    for ((own, _), renamed) in columns.iter_mut().zip(schema.columns()) {
        *own = renamed;
    }
}

/// Whether there is a subquery in an expression, whose references outwards would keep the names that they have.
pub(crate) fn has_subquery(expr: &Expr) -> bool {
    let is_one = |expr: &Expr| {
        Ok(matches!(expr, Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_)))
    };
    // A walk that looks at expressions only does not fail.
    expr.exists(is_one).unwrap_or(true)
}

fn is_column(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_column(&alias.expr),
        expr => matches!(expr, Expr::Column(_)),
    }
}

#[cfg(test)]
mod tests {
    use crate::statement::Statement;
    use crate::{Relations, Result, Session, parse};
    use arrow::datatypes::{DataType, Field, Schema};
    use std::sync::Arc;

    fn bound(text: &str) -> Result<String> {
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true)));
        let fields = [("id", DataType::Int32), ("a", list), ("n", DataType::Int32)];
        let fields = fields.map(|(name, of)| Field::new(name, of, true)).to_vec();
        let mut relations = Relations::default();
        relations.stream("t", Arc::new(Schema::new(fields)));
        let Ok(Statement::Query(query)) = parse(text) else { panic!("{text} is a query") };
        Session::new(1).bind(&query, &relations).map(|plan| plan.display_indent().to_string())
    }

    #[test]
    fn chains_over_the_left_side_need_no_join() {
        for query in [
            "SELECT id, x FROM t, unnest(t.a) AS u(x)",
            "SELECT id, x FROM t CROSS JOIN unnest(a) AS u(x)",
            "SELECT id, x FROM t JOIN unnest(a) AS u(x) ON x > 1",
            "SELECT id, x FROM t LEFT JOIN LATERAL unnest(a) AS u(x) ON true",
            "SELECT id, x, y FROM t, unnest(a) AS u(x), unnest(a) AS v(y)",
            "SELECT id, i FROM t, generate_series(1, n) AS g(i)",
            "SELECT id, a FROM t, LATERAL (SELECT x + 1 AS b FROM unnest(t.a) AS u(x) WHERE x < n) AS s",
        ] {
            let plan = bound(query).expect(query);
            assert!(
                !plan.contains("Join") && !plan.contains("outer_ref") && plan.contains("Unnest"),
                "{query}\n{plan}"
            );
        }
    }

    #[test]
    fn what_is_not_lateral_stays_a_join() {
        let query = "SELECT t.id FROM t, t AS u";
        assert!(bound(query).expect(query).contains("Join"), "{query}");
    }

    #[test]
    fn what_is_no_chain_is_refused() {
        for query in [
            "SELECT id, s.n FROM t, LATERAL (SELECT count(*) AS n FROM unnest(t.a) AS u(x)) AS s",
            "SELECT id, x FROM t LEFT JOIN unnest(a) AS u(x) ON x > 1",
            "SELECT id, x, one FROM t LEFT JOIN LATERAL (SELECT unnest(t.a) AS x, 1 AS one) AS u ON true",
        ] {
            assert_eq!(bound(query).expect_err(query).sqlstate(), "0A000", "{query}");
        }
    }
}
