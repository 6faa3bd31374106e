//! A relation in FROM: a source's node, or the rows that a view of the same pipeline keeps.

use super::Builder;
use super::flow::Flow;
use crate::error::{Error, Result};
use crate::session::{Stream, view_schema};
use datafusion::logical_expr::{TableScan, TableSource};
use highwater_engine::plan::Operator;
use std::any::Any;
use std::sync::Arc;

impl Builder<'_> {
    pub(super) fn scan(&mut self, scan: &TableScan) -> Result<Flow> {
        let source: &dyn TableSource = scan.source.as_ref();
        let Some(stream) = (source as &dyn Any).downcast_ref::<Stream>() else {
            let clause = format!("reading {}", scan.table_name);
            return Err(Error::unsupported(clause, "it is not a source or a view", None));
        };
        debug_assert!(scan.filters.is_empty() && scan.fetch.is_none(), "streams take no filters");
        let whole = self.tap(&stream.name)?;
        Ok(match &scan.projection {
            Some(columns) => whole.pick(columns, &view_schema(&scan.projected_schema)),
            None => whole,
        })
    }

    /// How a relation's rows are read, making its source's node on first use.
    fn tap(&mut self, name: &str) -> Result<Flow> {
        if let Some(flow) = self.taps.get(name) {
            return Ok(flow.clone());
        }
        let (operator, schema) = if let Some(source) = self.sources.get(name) {
            (Operator::Source(Arc::clone(source)), source.schema())
        } else if let Some(table) = self.changes.get(name) {
            (Operator::Changes(Arc::clone(table)), table.schema())
        } else {
            let clause = format!("reading {name:?} together with another pipeline's relations");
            return Err(Error::unsupported(clause, "read one view or source", None));
        };
        let node = self.add(name, "source", Vec::new(), operator, &schema);
        let flow = Flow::whole(node, &schema);
        self.taps.insert(name.to_owned(), flow.clone());
        Ok(flow)
    }
}
