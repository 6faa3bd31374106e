//! SESSION: under a GROUP BY of its windows, over rows that only come, one operator keeps accumulators by
//! window. Else the rows that share its keys are a group, whose windows are computed anew when it changes.

use super::aggregate::key_names;
use super::compute::{Template, over_rows};
use super::flow::Flow;
use super::ties::unaliased;
use super::{Builder, Physical};
use crate::error::{Error, Result};
use crate::session::view_schema;
use crate::session_window::{Session, session_of};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, LogicalPlan, UserDefinedLogicalNodeCore as _};
use highwater_engine::plan::{self, Aggregation, Operator, SessionColumn};
use std::collections::BTreeSet;

/// How a GROUP BY is one of windows.
struct Windows {
    /// The place of the time in what SESSION reads.
    time: usize,
    columns: Vec<SessionColumn>,
}

/// The SESSION whose columns, and no others, a query gives.
pub(super) fn below(plan: &LogicalPlan) -> Option<&Session> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => below(&alias.input),
        LogicalPlan::Projection(projection) => {
            let is_column = |expr: &Expr| matches!(unaliased(expr), Expr::Column(_));
            if projection.expr.iter().all(is_column) { below(&projection.input) } else { None }
        }
        other => session_of(other),
    }
}

/// The places among the columns of the SESSION below a query of those that it gives.
fn places(plan: &LogicalPlan) -> Option<Vec<usize>> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => places(&alias.input),
        LogicalPlan::Projection(projection) => {
            let below = places(&projection.input)?;
            projection.expr.iter().map(|expr| place(expr, projection.input.schema(), &below)).collect()
        }
        other => Some((0..session_of(other)?.input.schema().fields().len() + 2).collect()),
    }
}

fn place(expr: &Expr, schema: &DFSchema, places: &[usize]) -> Option<usize> {
    let Expr::Column(column) = unaliased(expr) else { return None };
    places.get(schema.index_of_column(column).ok()?).copied()
}

impl Builder<'_> {
    pub(super) fn sessions(&mut self, session: &Session, owner: &str) -> Result<Flow> {
        let flow = self.lower(&session.input, owner)?;
        self.sessions_of(session, flow, owner)
    }

    fn sessions_of(&mut self, session: &Session, flow: Flow, owner: &str) -> Result<Flow> {
        let input = session.input.schema();
        let node = session.over(over_rows(input)?).map_err(|e| Error::Plan(Box::new(e)))?;
        let what = format!("session({})", key_names(&session.keys)?);
        self.regroup(Template { node, keys: &session.keys, input, what }, flow, owner)
    }

    /// GROUP BY of what the columns of a SESSION are.
    pub(super) fn sessions_grouped(&mut self, aggregate: &Aggregate, session: &Session, owner: &str) -> Result<Flow> {
        let rows = self.lower(&session.input, owner)?;
        let inserts = self.plan.nodes[rows.node.0].append_only;
        if let Some(windows) = self.windows(aggregate, session)?.filter(|_| inserts) {
            return self.kept_by_window(aggregate, session, windows, rows, owner);
        }
        let flow = self.sessions_of(session, rows, owner)?;
        let flow = self.shown_of(&aggregate.input, flow, owner)?;
        self.grouped(aggregate, flow, owner)
    }

    /// What stands between a GROUP BY and its SESSION, of a flow of that one's columns.
    fn shown_of(&mut self, plan: &LogicalPlan, flow: Flow, owner: &str) -> Result<Flow> {
        match plan {
            LogicalPlan::SubqueryAlias(alias) => self.shown_of(&alias.input, flow, owner),
            LogicalPlan::Projection(projection) => {
                let flow = self.shown_of(&projection.input, flow, owner)?;
                self.projection(projection, flow, owner)
            }
            _ => Ok(flow),
        }
    }

    /// How a GROUP BY is one of each window, whose aggregates can be kept so.
    fn windows(&self, aggregate: &Aggregate, session: &Session) -> Result<Option<Windows>> {
        let (input, schema) = (session.input.schema(), aggregate.input.schema());
        let Some(places) = places(&aggregate.input) else { return Ok(None) };
        let within = |expr: &Expr| match expr {
            Expr::Column(column) => input.index_of_column(column).ok(),
            _ => None,
        };
        let start = input.fields().len();
        let keys: Option<Vec<usize>> = session.keys.iter().map(within).collect();
        let (Some(keys), Some(time)) = (keys, within(&session.time)) else { return Ok(None) };
        let column = |expr: &Expr| match place(expr, schema, &places)? {
            at if at == start => Some(SessionColumn::Start),
            at if at > start => Some(SessionColumn::End),
            at => keys.iter().position(|key| *key == at).map(SessionColumn::Key),
        };
        let columns: Option<Vec<SessionColumn>> = aggregate.group_expr.iter().map(column).collect();
        let Some(columns) = columns else { return Ok(None) };
        let has = |at: usize| columns.contains(&SessionColumn::Key(at));
        let distinct: BTreeSet<usize> = keys.iter().copied().collect();
        let has_keys = distinct.len() == keys.len() && (0..keys.len()).all(has);
        let has_window = columns.iter().any(|column| !matches!(column, SessionColumn::Key(_)));
        let of_rows = |expr: &Expr| {
            let mut columns = expr.column_refs().into_iter();
            columns.all(|column| schema.index_of_column(column).is_ok_and(|at| places[at] < start))
        };
        let data_type = session.time.get_type(input).map_err(|e| Error::Plan(Box::new(e)))?;
        let is_fit = has_keys
            && has_window
            && matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _))
            && aggregate.aggr_expr.iter().all(of_rows)
            && Self::is_kept(aggregate)
            && self.are_combinable(aggregate)?;
        Ok(is_fit.then_some(Windows { time, columns }))
    }

    fn are_combinable(&self, aggregate: &Aggregate) -> Result<bool> {
        let schema = view_schema(&aggregate.schema);
        for (at, expr) in aggregate.aggr_expr.iter().enumerate() {
            let output = schema.field(aggregate.group_expr.len() + at).data_type().clone();
            if !self.call(expr, aggregate.input.schema(), output)?.is_combinable() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The operator that keeps each window's accumulators.
    fn kept_by_window(
        &mut self,
        aggregate: &Aggregate,
        session: &Session,
        windows: Windows,
        rows: Flow,
        owner: &str,
    ) -> Result<Flow> {
        let source = self.settle(rows, owner);
        // The columns of windows stand for ones that the operator makes: no expression of a row has them.
        let flow = Flow::whole(source, &view_schema(session.schema()));
        let flow = self.shown_of(&aggregate.input, flow, owner)?;
        let (Aggregation { aggregates, .. }, input) = self.aggregation(aggregate, flow, owner)?;
        assert_eq!(input, source, "columns alone are composed and never need a node");
        let keys: Vec<Physical> = self.physical(&session.keys, session.input.schema())?;
        let operator = Operator::Sessions(plan::Sessions {
            aggregation: Aggregation { keys, aggregates },
            time: windows.time,
            gap_us: session.gap_us,
            columns: windows.columns,
        });
        let schema = view_schema(&aggregate.schema);
        let what = format!("sessions({})", key_names(&aggregate.group_expr)?);
        let node = self.add(owner, &what, vec![source], operator, &schema);
        Ok(Flow::whole(node, &schema))
    }
}
