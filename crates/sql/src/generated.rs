//! Generated columns of tables and sources: bound once, computed for every batch of rows.
//!
//! Invariant: what a computed column holds follows from the other columns of its row alone, so it is the
//! same whenever it is computed. The columns `AS proctime()` are not computed: who takes rows in knows
//! when they came.

use crate::error::{Error, Result};
use crate::lower;
use crate::maintain;
use crate::mentioned;
use crate::session::{Relations, Session};
use crate::statement::{Name, computed_from};
use crate::text::Position;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::sql::sqlparser::ast::{self, FunctionArguments, Spanned as _};
use std::sync::Arc;

/// Columns that are computed from others.
#[derive(Debug, Default)]
pub struct Generated {
    /// By place, over all columns of a row.
    columns: Vec<(usize, Arc<dyn PhysicalExpr>)>,
    /// The places of those that say when a row came.
    arrivals: Vec<usize>,
}

/// Whether an expression is `proctime()`: the time at which a row came.
#[must_use]
pub fn is_proctime(expr: &ast::Expr) -> bool {
    match expr {
        ast::Expr::Nested(inner) => is_proctime(inner),
        ast::Expr::Function(call) => {
            let is_bare = matches!(&call.args, FunctionArguments::List(list) if list.args.is_empty());
            is_bare && call.over.is_none() && call.name.to_string().eq_ignore_ascii_case("proctime")
        }
        _ => false,
    }
}

impl Generated {
    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.columns.is_empty() && self.arrivals.is_empty()
    }

    /// Whether the column at a place is one of them.
    #[must_use]
    pub fn has(&self, place: usize) -> bool {
        self.columns.iter().any(|(at, _)| *at == place) || self.arrivals.contains(&place)
    }

    /// The places of the columns that say when a row came: instants of UTC in microseconds.
    #[must_use]
    pub fn arrivals(&self) -> &[usize] {
        &self.arrivals
    }

    /// The values of the others for rows that have all columns, of which those to compute hold anything.
    /// The types are those of the expressions.
    ///
    /// # Errors
    /// `Plan` when a value cannot be computed.
    pub fn compute(&self, rows: &RecordBatch) -> Result<Vec<(usize, ArrayRef)>> {
        let value = |(at, expr): &(usize, Arc<dyn PhysicalExpr>)| {
            let values = expr.evaluate(rows).and_then(|values| values.into_array(rows.num_rows()));
            Ok((*at, values.map_err(|e| Error::Plan(Box::new(e)))?))
        };
        self.columns.iter().map(value).collect()
    }
}

impl Session {
    /// Binds the expressions of generated columns, given by their places, over all columns of a relation.
    ///
    /// # Errors
    /// `Unsupported` for functions whose result changes and for subqueries, `Invalid` for other
    /// generated columns (42P17) and for aggregate and window functions (42803), and those of binding.
    pub fn generated(
        &self,
        relation: &Name,
        schema: &SchemaRef,
        columns: &[(usize, &ast::Expr)],
        text: &str,
    ) -> Result<Generated> {
        let (arrivals, computed): (Vec<_>, Vec<_>) = columns.iter().copied().partition(|(_, expr)| is_proctime(expr));
        let arrivals = arrivals.into_iter().map(|(at, _)| at).collect();
        if computed.is_empty() {
            return Ok(Generated { columns: Vec::new(), arrivals });
        }
        let query = computed_from(relation, computed.iter().map(|(_, expr)| (*expr).clone()), text);
        maintain::check(&query, self)?;
        let mut relations = Relations::default();
        relations.stream(&relation.value, Arc::clone(schema));
        let plan = self.bind(&query, &relations)?;
        maintain::check_functions(&plan).map_err(|e| mentioned::placed(e, &query))?;
        let start = |expr: &ast::Expr| Position::of(text, expr.span().start);
        let only = if let &[(_, only)] = computed.as_slice() { start(only) } else { None };
        let LogicalPlan::Projection(projection) = &plan else { return Err(not_of_one_row(only)) };
        if !matches!(projection.input.as_ref(), LogicalPlan::TableScan(_)) {
            return Err(not_of_one_row(only));
        }
        let is_generated = |name: &str| columns.iter().any(|(at, _)| schema.field(*at).name() == name);
        let input = projection.input.schema();
        let bound = |(expr, &(at, written)): (&Expr, &(usize, &ast::Expr))| {
            if let Some(other) = expr.column_refs().into_iter().find(|column| is_generated(&column.name)) {
                let message = format!("cannot use generated column {:?} in column generation expression", other.name);
                return Err(Error::Invalid { sqlstate: "42P17", message, position: start(written) });
            }
            lower::no_subquery(expr).map_err(|e| e.or_at(start(written)))?;
            Ok((at, self.physical_over(expr.clone().unalias(), input)?))
        };
        Ok(Generated { columns: projection.expr.iter().zip(&computed).map(bound).collect::<Result<_>>()?, arrivals })
    }
}

fn not_of_one_row(position: Option<Position>) -> Error {
    Error::Invalid {
        sqlstate: "42803",
        message: "aggregate, window and set-returning functions are not allowed in column generation expressions"
            .to_owned(),
        position,
    }
}
