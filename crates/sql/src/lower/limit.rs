//! ORDER BY, which a view has not, and the first rows of an order, which are one group computed anew.

use super::Builder;
use super::compute::{Template, over_rows};
use super::first::Ranked;
use super::flow::Flow;
use super::ties;
use crate::error::{Error, Result};
use crate::row_counts::most_rows;
use datafusion::logical_expr::{FetchType, Limit, LogicalPlan, SkipType, Sort, lit};
use highwater_engine::plan::Ranking;
use std::sync::Arc;

impl Builder<'_> {
    /// The rows of a sorted input: their order is lost, unless only the first are wanted.
    pub(super) fn sort(&mut self, sort: &Sort, owner: &str) -> Result<Flow> {
        let Some(fetch) = sort.fetch else { return self.lower(&sort.input, owner) };
        let fetch = i64::try_from(fetch).unwrap_or(i64::MAX);
        let whole = Sort { fetch: None, ..sort.clone() };
        let input = Arc::new(LogicalPlan::Sort(whole));
        self.limit(&Limit { skip: None, fetch: Some(Box::new(lit(fetch))), input }, owner)
    }

    pub(super) fn limit(&mut self, limit: &Limit, owner: &str) -> Result<Flow> {
        if keeps_all(limit)? {
            return self.lower(&limit.input, owner);
        }
        match limit.input.as_ref() {
            LogicalPlan::Projection(projection) => {
                let flow = self.limit(&over(limit, &projection.input), owner)?;
                self.projection(projection, flow, owner)
            }
            LogicalPlan::SubqueryAlias(alias) => self.limit(&over(limit, &alias.input), owner),
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.first_rows(limit, sort, owner),
            _ => Err(Error::unsupported("LIMIT without ORDER BY", "say with ORDER BY which rows are wanted", None)),
        }
    }

    fn first_rows(&mut self, limit: &Limit, sort: &Sort, owner: &str) -> Result<Flow> {
        let mut flow = self.lower(&sort.input, owner)?;
        let input = sort.input.schema();
        if let (skip, Some(fetch)) = bounds(limit)? {
            let ranked = Ranked { keys: &[], order: &sort.expr, ranking: Ranking::RowNumber, input };
            flow = self.first(&ranked, skip.saturating_add(fetch), flow, owner)?;
        }
        let expr = ties::untied(&sort.expr, input);
        let rows = Arc::new(over_rows(input)?);
        let sorted = Arc::new(LogicalPlan::Sort(Sort { expr, input: rows, fetch: None }));
        let node = LogicalPlan::Limit(over(limit, &sorted));
        self.regroup(Template { node, keys: &[], input, what: "limit".to_owned() }, flow, owner)
    }
}

fn over(limit: &Limit, input: &Arc<LogicalPlan>) -> Limit {
    Limit { input: Arc::clone(input), ..limit.clone() }
}

/// Whether no row is left out, whatever rows there are.
fn keeps_all(limit: &Limit) -> Result<bool> {
    let (skip, fetch) = bounds(limit)?;
    let fits = |fetch: usize| most_rows(&limit.input).is_some_and(|most| most <= fetch);
    Ok(skip == 0 && fetch.is_none_or(fits))
}

/// How many rows are left out, and how many are taken then.
fn bounds(limit: &Limit) -> Result<(usize, Option<usize>)> {
    let refused = || Error::unsupported("LIMIT or OFFSET of an expression", "give a number", None);
    let plan = |e| Error::of_planner(e, "");
    let SkipType::Literal(skip) = limit.get_skip_type().map_err(plan)? else { return Err(refused()) };
    let FetchType::Literal(fetch) = limit.get_fetch_type().map_err(plan)? else { return Err(refused()) };
    Ok((skip, fetch))
}
