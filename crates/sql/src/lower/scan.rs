//! A relation in FROM: a source's node, or the rows that a view of the same pipeline keeps.
//!
//! The view that a pipeline was made for reads sources as `<source>/source`. A view that joins the
//! pipeline later must have its sources from their start, so it has nodes of its own for them,
//! `<view>:<source>/source`. Invariant: what one view reads twice is one node.

use super::Builder;
use super::flow::Flow;
use crate::error::{Error, Result};
use crate::session::{Stream, view_schema};
use datafusion::logical_expr::{TableScan, TableSource};
use highwater_engine::plan::Operator;
use std::any::Any;
use std::sync::Arc;

impl Builder<'_> {
    pub(super) fn scan(&mut self, scan: &TableScan, owner: &str) -> Result<Flow> {
        let source: &dyn TableSource = scan.source.as_ref();
        let Some(stream) = (source as &dyn Any).downcast_ref::<Stream>() else {
            let clause = format!("reading {}", scan.table_name);
            return Err(Error::unsupported(clause, "it is not a source or a view", None));
        };
        debug_assert!(scan.filters.is_empty() && scan.fetch.is_none(), "streams take no filters");
        let whole = self.tap(&stream.name, owner)?;
        Ok(match &scan.projection {
            Some(columns) => whole.pick(columns, &view_schema(&scan.projected_schema)),
            None => whole,
        })
    }

    /// How a relation's rows are read, making its source's node on first use.
    pub(super) fn tap(&mut self, name: &str, owner: &str) -> Result<Flow> {
        if self.plan.views.iter().any(|view| view.name == name)
            && let Some(flow) = self.taps.get(name)
        {
            return Ok(flow.clone());
        }
        let is_first = self.first.as_deref() == Some(owner);
        let node_of = source_name(owner, is_first, name);
        if let Some(flow) = self.taps.get(&node_of) {
            return Ok(flow.clone());
        }
        if !is_first {
            let incarnation = self.incarnations.get(owner).copied().unwrap_or_default();
            self.incarnations.insert(node_of.clone(), incarnation);
        }
        if let Some(table) = self.fed.get(name).cloned() {
            let flow = self.fed_nodes(&table, &node_of);
            self.taps.insert(node_of, flow.clone());
            return Ok(flow);
        }
        let (operator, schema) = if let Some(source) = self.sources.get(name) {
            (Operator::Source(Arc::clone(source)), source.schema())
        } else if let Some(table) = self.changes.get(name) {
            (Operator::Changes(Arc::clone(table)), table.schema())
        } else {
            let clause = format!("reading {name:?} together with another pipeline's relations");
            return Err(Error::unsupported(clause, "read one view or source", None));
        };
        if !is_first {
            let incarnation = self.incarnations.get(owner).copied().unwrap_or_default();
            self.incarnations.insert(node_of.clone(), incarnation);
        }
        let mut node = self.add(&node_of, "source", Vec::new(), operator, &schema);
        if let Some(watermark) = self.watermarks.get(name).cloned() {
            node = self.add(&node_of, "watermark", vec![node], Operator::Watermark(watermark), &schema);
        }
        let flow = Flow::whole(node, &schema);
        self.taps.insert(node_of, flow.clone());
        Ok(flow)
    }
}

/// What the node is named after by which a view or sink reads a source: the source, or both, unless
/// it is the first of its pipeline.
#[must_use]
pub fn source_name(owner: &str, is_first: bool, source: &str) -> String {
    if is_first { source.to_owned() } else { format!("{owner}:{source}") }
}
