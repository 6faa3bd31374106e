//! UNNEST: a node of its own over a settled input.

use super::Builder;
use super::flow::Flow;
use crate::error::{Error, Result};
use crate::session::view_schema;
use arrow::datatypes::DataType;
use datafusion::common::NullHandling;
use datafusion::logical_expr::Unnest;
use highwater_engine::plan::{self, Operator};

impl Builder<'_> {
    pub(super) fn unnest(&mut self, unnest: &Unnest, owner: &str) -> Result<Flow> {
        let keeps_empty = match unnest.options.null_handling {
            NullHandling::Drop => false,
            NullHandling::PreserveAndExpandEmpty => true,
            NullHandling::Preserve => {
                return Err(Error::unsupported("UNNEST that keeps nulls", "it is not computed so", None));
            }
        };
        let input = unnest.input.schema();
        let is_list = |at: usize| matches!(input.field(at).data_type(), DataType::List(_));
        let lists = &unnest.list_type_columns;
        if !unnest.struct_type_columns.is_empty() || lists.iter().any(|(at, list)| list.depth != 1 || !is_list(*at)) {
            return Err(Error::unsupported("UNNEST of what is no array", "give it an array of one dimension", None));
        }
        let lists = lists.iter().map(|(at, _)| *at).collect();
        let flow = self.lower(&unnest.input, owner)?;
        let input = self.settle(flow, owner);
        let schema = view_schema(&unnest.schema);
        let operator =
            Operator::Unnest(plan::Unnest { lists, columns: unnest.dependency_indices.clone(), keeps_empty });
        let node = self.add(owner, "unnest", vec![input], operator, &schema);
        Ok(Flow::whole(node, &schema))
    }
}
