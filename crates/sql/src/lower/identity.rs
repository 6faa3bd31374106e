//! What the expressions and nodes of a query are called in a checkpoint, and in the names of operators.
//!
//! As `highwater_engine::identity` does for expressions that are ready to run, and in its words: nothing
//! here is of what DataFusion shows of a plan, so state and names stay when DataFusion is replaced.
//! Columns are their places in a node's input; in the names of operators, which people read, they are
//! their names.

use super::ties::unaliased;
use crate::ranks;
use arrow::compute::SortOptions;
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DataFusionError, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunctionParams, NullTreatment, WindowFunctionParams};
use datafusion::logical_expr::{
    BinaryExpr, Case, Expr, ExprSchemable, Filter, LogicalPlan, SortExpr, WindowFrame, WindowFrameBound,
    WindowFrameUnits, lit,
};
use highwater_engine::identity::{data_type, direction, like_word, literal, name, operator, unknown};
use highwater_engine::{Error, Result};

/// What columns are called.
#[derive(Clone, Copy)]
enum Columns<'a> {
    /// By their places here.
    In(&'a DFSchema),
    /// By their names.
    Named,
}

/// An expression as a part of an operator's name.
///
/// # Errors
/// `Plan` when a part of it is of a kind that has no text.
pub(super) fn named(expr: &Expr) -> Result<String> {
    Columns::Named.expr(expr)
}

/// A node over the leaf `rows`, with all between.
///
/// # Errors
/// `Plan` when a part of it is of a kind that has no text.
pub(super) fn plan(node: &LogicalPlan, rows: &str) -> Result<String> {
    let under = |input: &LogicalPlan| plan(input, rows);
    Ok(match node {
        LogicalPlan::TableScan(scan)
            if scan.table_name.table() == rows
                && scan.projection.is_none()
                && scan.filters.is_empty()
                && scan.fetch.is_none() =>
        {
            "rows".to_owned()
        }
        LogicalPlan::SubqueryAlias(alias) => under(&alias.input)?,
        LogicalPlan::Projection(projection) => {
            let columns = Columns::In(projection.input.schema()).list(&projection.expr)?;
            format!("project [{columns}] of {}", under(&projection.input)?)
        }
        LogicalPlan::Filter(filter) => {
            let condition = Columns::In(filter.input.schema()).expr(&of_ranks(filter)?)?;
            format!("filter {condition} of {}", under(&filter.input)?)
        }
        LogicalPlan::Window(window) => {
            let calls = Columns::In(window.input.schema()).list(&window.window_expr)?;
            format!("window [{calls}] of {}", under(&window.input)?)
        }
        LogicalPlan::Aggregate(aggregate) => {
            let columns = Columns::In(aggregate.input.schema());
            let (keys, calls) = (columns.list(&aggregate.group_expr)?, columns.list(&aggregate.aggr_expr)?);
            format!("aggregate [{calls}] by [{keys}] of {}", under(&aggregate.input)?)
        }
        LogicalPlan::Sort(sort) => {
            let order = Columns::In(sort.input.schema()).order(&sort.expr)?;
            let fetch = sort.fetch.map_or_else(String::new, |fetch| format!(" fetch {fetch}"));
            format!("sort [{order}]{fetch} of {}", under(&sort.input)?)
        }
        LogicalPlan::Limit(limit) => {
            let number = |number: &Option<Box<Expr>>| match number {
                Some(number) => Columns::Named.expr(number),
                None => Ok("none".to_owned()),
            };
            format!("limit {} skip {} of {}", number(&limit.fetch)?, number(&limit.skip)?, under(&limit.input)?)
        }
        other => return Err(unknown("a part of a query", other.display())),
    })
}

/// A filter's condition as it was first kept: ranks were integers without a sign.
fn of_ranks(filter: &Filter) -> Result<Expr> {
    let LogicalPlan::Window(window) = filter.input.as_ref() else { return Ok(filter.predicate.clone()) };
    let columns = window.input.schema().fields().len();
    let is_rank = |expr: &Expr| {
        let Expr::Column(column) = expr else { return false };
        let at = window.schema.maybe_index_of_column(column).and_then(|at| at.checked_sub(columns));
        let called = at.and_then(|at| window.window_expr.get(at)).map(unaliased);
        matches!(called, Some(Expr::WindowFunction(call)) if ranks::NAMES.contains(&call.fun.name()))
    };
    let kept = filter.predicate.clone().transform(|expr| {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = &expr else { return Ok(Transformed::no(expr)) };
        match right.as_ref() {
            Expr::Literal(ScalarValue::Int64(Some(value)), _) if *value >= 0 && is_rank(left) => {
                let kept = BinaryExpr::new(left.clone(), *op, Box::new(lit(value.unsigned_abs())));
                Ok(Transformed::yes(Expr::BinaryExpr(kept)))
            }
            _ => Ok(Transformed::no(expr)),
        }
    });
    kept.map(|kept| kept.data).map_err(|e| broken(&e))
}

impl Columns<'_> {
    fn list(self, exprs: &[Expr]) -> Result<String> {
        let all: Vec<String> = exprs.iter().map(|expr| self.expr(expr)).collect::<Result<_>>()?;
        Ok(all.join(","))
    }

    fn order(self, order: &[SortExpr]) -> Result<String> {
        let key = |sort: &SortExpr| -> Result<String> {
            let options = SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
            Ok(format!("{} {}", self.expr(&sort.expr)?, direction(options)))
        };
        let all: Vec<String> = order.iter().map(key).collect::<Result<_>>()?;
        Ok(all.join(","))
    }

    fn expr(self, expr: &Expr) -> Result<String> {
        Ok(match unaliased(expr) {
            Expr::Column(column) => match self {
                Self::In(schema) => format!("#{}", schema.index_of_column(column).map_err(|e| broken(&e))?),
                Self::Named => column.name.clone(),
            },
            Expr::Literal(value, _) => literal(value)?,
            Expr::BinaryExpr(binary) => {
                let (left, right) = (self.expr(&binary.left)?, self.expr(&binary.right)?);
                format!("({left} {} {right})", operator(binary.op)?)
            }
            Expr::Cast(cast) => self.cast("cast", &cast.expr, cast.field.data_type())?,
            Expr::TryCast(cast) => self.cast("try_cast", &cast.expr, cast.field.data_type())?,
            whole @ Expr::ScalarFunction(function) => {
                let of = match self {
                    Self::In(schema) => {
                        format!(":{}", data_type(&whole.get_type(schema).map_err(|e| broken(&e))?)?)
                    }
                    Self::Named => String::new(),
                };
                format!("{}({}){of}", name(function.func.name()), self.list(&function.args)?)
            }
            whole @ Expr::AggregateFunction(call) => {
                self.aggregate(call.func.name(), &self.average(call.func.name(), whole)?, &call.params)?
            }
            whole @ Expr::WindowFunction(call) => {
                self.window(call.fun.name(), &self.average(call.fun.name(), whole)?, &call.params)?
            }
            other => self.condition(other)?,
        })
    }

    /// The kinds that choose, and those that say yes or no.
    fn condition(self, expr: &Expr) -> Result<String> {
        let one = |word: &str, of: &Expr| -> Result<String> { Ok(format!("{word}({})", self.expr(of)?)) };
        match expr {
            Expr::Not(of) => one("not", of),
            Expr::IsNull(of) => one("is_null", of),
            Expr::IsNotNull(of) => one("is_not_null", of),
            Expr::IsTrue(of) => one("is_true", of),
            Expr::IsFalse(of) => one("is_false", of),
            Expr::IsUnknown(of) => one("is_unknown", of),
            Expr::IsNotTrue(of) => one("is_not_true", of),
            Expr::IsNotFalse(of) => one("is_not_false", of),
            Expr::IsNotUnknown(of) => one("is_not_unknown", of),
            Expr::Negative(of) => one("negative", of),
            Expr::Like(like) => {
                let (value, pattern) = (self.expr(&like.expr)?, self.expr(&like.pattern)?);
                let escape = like.escape_char.map_or_else(String::new, |escape| format!(" escape {:x}", escape as u32));
                Ok(format!("({value} {} {pattern}{escape})", like_word(like.negated, like.case_insensitive)))
            }
            Expr::SimilarTo(like) => {
                let word = if like.negated { "not similar to" } else { "similar to" };
                Ok(format!("({} {word} {})", self.expr(&like.expr)?, self.expr(&like.pattern)?))
            }
            Expr::Between(between) => {
                let word = if between.negated { "not between" } else { "between" };
                let (low, high) = (self.expr(&between.low)?, self.expr(&between.high)?);
                Ok(format!("({} {word} {low} and {high})", self.expr(&between.expr)?))
            }
            Expr::InList(list) => {
                let word = if list.negated { "not in" } else { "in" };
                Ok(format!("({} {word} [{}])", self.expr(&list.expr)?, self.list(&list.list)?))
            }
            Expr::Case(case) => self.case(case),
            other => Err(unknown("an expression", other)),
        }
    }

    fn cast(self, word: &str, expr: &Expr, to: &DataType) -> Result<String> {
        Ok(format!("{word}({} as {})", self.expr(expr)?, data_type(to)?))
    }

    fn case(self, case: &Case) -> Result<String> {
        let mut text = "case(".to_owned();
        if let Some(of) = &case.expr {
            text += &self.expr(of)?;
        }
        for (when, then) in &case.when_then_expr {
            text += &format!(" when {} then {}", self.expr(when)?, self.expr(then)?);
        }
        if let Some(otherwise) = &case.else_expr {
            text += &format!(" else {}", self.expr(otherwise)?);
        }
        Ok(text + ")")
    }

    /// What an average of numerics has behind it: its type, by which it is told from one that is cut off.
    fn average(self, function: &str, whole: &Expr) -> Result<String> {
        let Self::In(schema) = self else { return Ok(String::new()) };
        if function != "avg" {
            return Ok(String::new());
        }
        match whole.get_type(schema).map_err(|e| broken(&e))? {
            of @ DataType::Decimal128(..) => Ok(format!(":{}", data_type(&of)?)),
            _ => Ok(String::new()),
        }
    }

    fn aggregate(self, function: &str, of: &str, params: &AggregateFunctionParams) -> Result<String> {
        let filter = params.filter.as_deref();
        let more = self.more(params.distinct, &params.order_by, filter, params.null_treatment)?;
        Ok(format!("{}({}{more}){of}", name(function), self.list(&params.args)?))
    }

    fn window(self, function: &str, of: &str, params: &WindowFunctionParams) -> Result<String> {
        let filter = params.filter.as_deref();
        let more = self.more(params.distinct, &params.order_by, filter, params.null_treatment)?;
        let (arguments, partition) = (self.list(&params.args)?, self.list(&params.partition_by)?);
        let frame = frame(&params.window_frame)?;
        Ok(format!("{}({arguments}{more}){of} over [{partition}] {frame}", name(function)))
    }

    /// What a call has behind its arguments.
    fn more(
        self,
        distinct: bool,
        order: &[SortExpr],
        filter: Option<&Expr>,
        nulls: Option<NullTreatment>,
    ) -> Result<String> {
        let mut text = if distinct { " distinct" } else { "" }.to_owned();
        if !order.is_empty() {
            text += &format!(" order [{}]", self.order(order)?);
        }
        if let Some(filter) = filter {
            text += &format!(" filter {}", self.expr(filter)?);
        }
        text += match nulls {
            Some(NullTreatment::IgnoreNulls) => " ignore nulls",
            Some(NullTreatment::RespectNulls) | None => "",
        };
        Ok(text)
    }
}

fn frame(frame: &WindowFrame) -> Result<String> {
    let unit = match frame.units {
        WindowFrameUnits::Rows => "rows",
        WindowFrameUnits::Range => "range",
        WindowFrameUnits::Groups => "groups",
    };
    Ok(format!("{unit} {} to {}", bound(&frame.start_bound)?, bound(&frame.end_bound)?))
}

fn bound(bound: &WindowFrameBound) -> Result<String> {
    let distance = |by: &ScalarValue| if by.is_null() { Ok("unbounded".to_owned()) } else { literal(by) };
    Ok(match bound {
        WindowFrameBound::Preceding(by) => format!("{} preceding", distance(by)?),
        WindowFrameBound::CurrentRow => "current".to_owned(),
        WindowFrameBound::Following(by) => format!("{} following", distance(by)?),
    })
}

fn broken(error: &DataFusionError) -> Error {
    Error::Plan(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Field, Schema, TimeUnit};
    use datafusion::functions::expr_fn::upper;
    use datafusion::functions_aggregate::expr_fn::{array_agg, avg, count};
    use datafusion::functions_window::expr_fn::row_number;
    use datafusion::logical_expr::{ExprFunctionExt, LogicalPlanBuilder, cast, col, in_list, lit, table_scan, when};

    fn rows() -> LogicalPlanBuilder {
        let schema = Schema::new(vec![
            Field::new("k", DataType::Int64, true),
            Field::new("s", DataType::Utf8, true),
            Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        ]);
        table_scan(Some("rows"), &schema, None).expect("a scan")
    }

    fn words(builder: LogicalPlanBuilder) -> String {
        plan(&builder.build().expect("a plan"), "rows").expect("known")
    }

    #[test]
    fn nodes_have_words_and_columns_are_places() {
        let projected = rows().project(vec![col("s").alias("x"), col("k") + lit(1_i64)]).expect("columns");
        assert_eq!(words(projected), "project [#1,(#0 + 1:int64)] of rows");
        let filtered = rows().filter(col("s").like(lit("a%")).and(col("t").is_not_null())).expect("a condition");
        assert_eq!(words(filtered), "filter ((#1 like 'a%':utf8) and is_not_null(#2)) of rows");
        let sorted = rows().sort(vec![col("s").sort(false, true), col("k").sort(true, false)]).expect("an order");
        let limited = sorted.limit(1, Some(3)).expect("a limit");
        let order = "#1 desc nulls first,#0 asc nulls last";
        assert_eq!(words(limited), format!("limit 3:int64 skip 1:int64 of sort [{order}] of rows"));
        let counted = count(col("k")).distinct().filter(col("k").gt(lit(0_i64))).build().expect("a call");
        let grouped = rows().aggregate(vec![upper(col("s"))], vec![counted]).expect("groups");
        let expected = "aggregate [count(#0 distinct filter (#0 > 0:int64))] by [upper(#1):utf8] of rows";
        assert_eq!(words(grouped), expected);
    }

    #[test]
    fn calls_say_their_order_and_their_frame() {
        let listed = array_agg(col("s")).order_by(vec![col("t").sort(true, false)]).build().expect("a call");
        let grouped = rows().aggregate(vec![col("k")], vec![listed]).expect("groups");
        assert_eq!(words(grouped), "aggregate [array_agg(#1 order [#2 asc nulls last])] by [#0] of rows");
        let averages = vec![avg(col("k")), avg(cast(col("k"), DataType::Decimal128(20, 13))).alias("exact")];
        let grouped = rows().aggregate(vec![col("s")], averages).expect("groups");
        let expected = "aggregate [avg(#0),avg(cast(#0 as decimal128(20,13))):decimal128(24,17)] by [#1] of rows";
        assert_eq!(words(grouped), expected, "by DataFusion's avg");
        let numbered = row_number()
            .partition_by(vec![col("k")])
            .order_by(vec![col("t").sort(true, false)])
            .window_frame(WindowFrame::new_bounds(
                WindowFrameUnits::Rows,
                WindowFrameBound::Preceding(ScalarValue::UInt64(None)),
                WindowFrameBound::CurrentRow,
            ))
            .build()
            .expect("a call");
        let expected = "window [row_number( order [#2 asc nulls last]) over [#0] \
                        rows unbounded preceding to current] of rows";
        assert_eq!(words(rows().window(vec![numbered]).expect("a window")), expected);
    }

    #[test]
    fn parts_of_names_have_columns_by_name() {
        assert_eq!(named(&upper(col("rows.s"))).expect("known"), "upper(s)");
        let chosen = when(col("k").eq(lit(1_i64)), lit("one")).otherwise(col("s")).expect("a choice");
        assert_eq!(named(&chosen).expect("known"), "case( when (k = 1:int64) then 'one':utf8 else s)");
        let listed = in_list(col("k"), vec![lit(1_i64), lit(2_i64)], true);
        assert_eq!(named(&listed).expect("known"), "(k not in [1:int64,2:int64])");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let twice = rows().union(rows().build().expect("a plan")).expect("a union").build().expect("a plan");
        assert!(plan(&twice, "rows").is_err());
        assert!(plan(&rows().build().expect("a plan"), "other").is_err());
    }
}
