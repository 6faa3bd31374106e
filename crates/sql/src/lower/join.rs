//! Joins, and the subqueries that became joins.
//!
//! Joins that give the rows of their right side are turned around, so that the engine knows one
//! direction. Which columns are needed above has been settled before, by projections below.

use super::Builder;
use super::aggregate::{key_name, shortened};
use super::flow::Flow;
use crate::error::{Error, Result};
use crate::present;
use crate::session::view_schema;
use datafusion::common::{DFSchema, JoinType, NullEquality, ScalarValue};
use datafusion::logical_expr::{self, Expr, LogicalPlan};
use datafusion::physical_expr::PhysicalExpr;
use highwater_engine::plan::{Join, JoinKind, Operator};
use std::sync::Arc;

impl Builder<'_> {
    pub(super) fn join(&mut self, join: &logical_expr::Join, owner: &str) -> Result<Flow> {
        if join.null_aware {
            let hint = "write NOT EXISTS, which knows no nulls";
            return Err(Error::unsupported("this NOT IN (SELECT ...)", hint, None));
        }
        let (kind, is_turned) = kind_of(join.join_type);
        let (left, right) = if is_turned { (&join.right, &join.left) } else { (&join.left, &join.right) };
        let pairs = join.on.iter().cloned().map(|(l, r)| if is_turned { (r, l) } else { (l, r) });
        let (left_on, right_on): (Vec<Expr>, Vec<Expr>) = pairs.unzip();
        let present = match kind {
            JoinKind::Inner | JoinKind::Left => present::unmarked(right).map_err(|e| Error::Plan(Box::new(e)))?,
            _ => None,
        };
        let plain: &LogicalPlan = match &present {
            Some((plain, _)) => plain,
            None => right,
        };
        let inputs = vec![self.node_of(left, owner)?, self.node_of(plain, owner)?];
        if let Some((_, present)) = present.as_ref().filter(|_| !self.plan.nodes[inputs[0].0].append_only) {
            let clause = format!("{} with a left side whose rows change", present::CLAUSE);
            let hint =
                "its rows may only ever be added: join a source or an APPEND ONLY table, or leave the clause out";
            return Err(Error::unsupported(clause, hint, present.position(&self.text)));
        }
        let left_keys = self.physical(&left_on, left.schema())?;
        let right_keys = self.physical(&right_on, right.schema())?;
        check_types(&left_keys, left.schema(), &right_keys, right.schema())?;
        let filter = match join.filter.as_ref().filter(|filter| !is_true(filter)) {
            Some(filter) => {
                let both = left.schema().join(right.schema()).map_err(|e| Error::Plan(Box::new(e)))?;
                self.physical(std::slice::from_ref(filter), &both)?.pop()
            }
            None => None,
        };
        let nulls_match = join.null_equality == NullEquality::NullEqualsNull;
        let temporal = present.is_some();
        let mut operator = Join { kind, left_keys, right_keys, nulls_match, filter, forgets: Vec::new(), temporal };
        if !temporal {
            operator.forgets = self.forgets(&operator, inputs[0], inputs[1]);
        }
        let schema = view_schema(&join.schema);
        let what = format!("{}join({})", if temporal { "temporal " } else { "" }, names(&left_on, &right_on)?);
        let node = self.add(owner, &what, inputs, Operator::Join(operator), &schema);
        Ok(Flow::whole(node, &schema))
    }
}

/// The engine's kind, and whether the sides change places.
const fn kind_of(join: JoinType) -> (JoinKind, bool) {
    match join {
        JoinType::Inner => (JoinKind::Inner, false),
        JoinType::Left => (JoinKind::Left, false),
        JoinType::Right => (JoinKind::Right, false),
        JoinType::Full => (JoinKind::Full, false),
        JoinType::LeftSemi => (JoinKind::Semi, false),
        JoinType::LeftAnti => (JoinKind::Anti, false),
        JoinType::LeftMark => (JoinKind::Mark, false),
        JoinType::RightSemi => (JoinKind::Semi, true),
        JoinType::RightAnti => (JoinKind::Anti, true),
        JoinType::RightMark => (JoinKind::Mark, true),
    }
}

fn is_true(filter: &Expr) -> bool {
    matches!(filter, Expr::Literal(ScalarValue::Boolean(Some(true)), _))
}

/// Keys are hashed, so those of both sides are of one type.
fn check_types(
    left: &[Arc<dyn PhysicalExpr>],
    left_schema: &DFSchema,
    right: &[Arc<dyn PhysicalExpr>],
    right_schema: &DFSchema,
) -> Result<()> {
    for (l, r) in left.iter().zip(right) {
        let types = (l.data_type(left_schema.as_arrow()), r.data_type(right_schema.as_arrow()));
        let (Ok(l), Ok(r)) = types else { continue };
        if l != r {
            let clause = format!("JOIN on {} = {}", crate::types::pg_name(&l), crate::types::pg_name(&r));
            return Err(Error::unsupported(clause, "cast one of them", None));
        }
    }
    Ok(())
}

/// The pairs of keys as they are written, for the node's name.
fn names(left: &[Expr], right: &[Expr]) -> Result<String> {
    let pair = |(l, r): (&Expr, &Expr)| -> Result<String> { Ok(format!("{}={}", key_name(l)?, key_name(r)?)) };
    let pairs: Vec<String> = left.iter().zip(right).map(pair).collect::<Result<_>>()?;
    Ok(shortened(pairs.join(", ")))
}
