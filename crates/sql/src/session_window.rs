//! SESSION in FROM: rows that follow each other closely share a window.
//!
//! `SESSION(t, key, ..., time, gap)` gives every row of `t` with the start and the end of its session:
//! of the rows with its keys, those of which each is less than the gap after the one before. A session
//! starts at its first row's time and ends a gap after its last one's, which is no longer inside.
//! Rows without a time are in no session.
//!
//! A batch query runs it as window functions. In a dataflow each group of rows with equal keys is computed
//! anew by the same functions, but for a GROUP BY of windows of rows that only come, which an operator keeps.

use crate::window::{END, START, all_columns, interval, qualifier};
use arrow::datatypes::Field;
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result, plan_err};
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_window::expr_fn::lag;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    AggregateUDF, Expr, ExprFunctionExt, ExprSchemable, Extension, LogicalPlan, LogicalPlanBuilder,
    UserDefinedLogicalNodeCore, WindowFrame, lit, when,
};
use std::fmt;
use std::sync::Arc;

/// SESSION: every row once, with its window.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Session {
    pub(crate) input: LogicalPlan,
    /// Columns of the input.
    pub(crate) keys: Vec<Expr>,
    /// A column of the input that is never null.
    pub(crate) time: Expr,
    pub(crate) gap_us: i64,
    schema: DFSchemaRef,
}

/// The node for a call.
pub(crate) fn session(input: LogicalPlan, keys: Vec<Expr>, time: Expr, gap_us: i64) -> Result<LogicalPlan> {
    if !keys.iter().chain([&time]).all(|expr| matches!(expr, Expr::Column(_))) {
        return plan_err!("SESSION's keys and time are columns: compute them in a subquery");
    }
    let timed = LogicalPlanBuilder::from(input).filter(time.clone().is_not_null())?.build()?;
    let node = Session::new(timed, keys, time, gap_us)?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

/// The SESSION that a node is, if it is one.
pub(crate) fn session_of(node: &LogicalPlan) -> Option<&Session> {
    match node {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
        _ => None,
    }
}

impl PartialOrd for Session {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.input.partial_cmp(&other.input)
    }
}

impl Session {
    fn new(input: LogicalPlan, keys: Vec<Expr>, time: Expr, gap_us: i64) -> Result<Self> {
        let relation = qualifier(input.schema());
        let data_type = time.get_type(input.schema())?;
        let mut fields: Vec<_> = input.schema().iter().map(|(q, f)| (q.cloned(), Arc::clone(f))).collect();
        for name in [START, END] {
            fields.push((relation.clone(), Arc::new(Field::new(name, data_type.clone(), true))));
        }
        let schema = DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?;
        Ok(Self { input, keys, time, gap_us, schema: Arc::new(schema) })
    }

    /// The same in terms that DataFusion can run, over a plan with the input's columns.
    ///
    /// A row begins a session unless the row before it is near; how many have begun up to a row, its
    /// peers included, is its session's number.
    pub(crate) fn over(&self, input: LogicalPlan) -> Result<LogicalPlan> {
        const BEFORE: &str = "__before";
        const NUMBER: &str = "__number";
        const FIRST: &str = "__first";
        const LAST: &str = "__last";
        let column = |name: &str| Expr::Column(Column::new_unqualified(name));
        let relation = qualifier(self.input.schema());
        let mut shown = all_columns(&input);
        let (keys, time) = (&self.keys, &self.time);
        let order = vec![time.clone().sort(true, false)];
        let before = lag(time.clone(), Some(1), None).partition_by(keys.clone()).order_by(order.clone()).build()?;
        let near = (column(BEFORE) + interval(self.gap_us)?).gt(time.clone());
        let begins = when(near, lit(0_i64)).otherwise(lit(1_i64))?;
        let number = call(sum_udaf(), begins)
            .partition_by(keys.clone())
            .order_by(order)
            .window_frame(WindowFrame::new(Some(false)))
            .build()?;
        let mut numbered = keys.clone();
        numbered.push(column(NUMBER));
        let first = call(min_udaf(), time.clone()).partition_by(numbered.clone()).build()?;
        let last = call(max_udaf(), time.clone()).partition_by(numbered).build()?;
        shown.push(column(FIRST).alias_qualified(relation.clone(), START));
        shown.push((column(LAST) + interval(self.gap_us)?).alias_qualified(relation, END));
        LogicalPlanBuilder::from(input)
            .window(vec![before.alias(BEFORE)])?
            .window(vec![number.alias(NUMBER)])?
            .window(vec![first.alias(FIRST), last.alias(LAST)])?
            .project(shown)?
            .build()
    }
}

fn call(function: Arc<AggregateUDF>, argument: Expr) -> Expr {
    Expr::from(WindowFunction::new(function, vec![argument]))
}

impl UserDefinedLogicalNodeCore for Session {
    fn name(&self) -> &'static str {
        "Session"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.keys.iter().chain([&self.time]).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session: {} gap={}us", self.time, self.gap_us)
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let (Some(time), Ok([input])) = (exprs.pop(), <[LogicalPlan; 1]>::try_from(inputs)) else {
            return plan_err!("SESSION has one time and one input");
        };
        Self::new(input, exprs, time, self.gap_us)
    }

    fn necessary_children_exprs(&self, output: &[usize]) -> Option<Vec<Vec<usize>>> {
        let inputs = self.input.schema().fields().len();
        Some(vec![output.iter().copied().filter(|i| *i < inputs).collect()])
    }
}
