//! A table that a connector fills: its source, what keeps its rows, and the rows that could not be read.
//!
//! The source's columns are the table's, then whether the row's key is deleted, then those of a row that
//! could not be read, as far as [`FedTable`] says so. Such a table is the first of its pipeline and what
//! reads it joins that; a view of another pipeline reads the source anew. Invariant: a row that could
//! not be read has a last column that is not null, and is no row of the table.

use super::Builder;
use super::flow::Flow;
use super::scan::source_name;
use crate::error::Result;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, IsNotNullExpr, IsNullExpr};
use highwater_engine::plan::{Map, NodeId, OnError, Operator, Upsert, View};
use highwater_engine::source::Source;
use std::ops::Range;
use std::sync::Arc;

/// A table that a connector fills.
#[derive(Clone, Debug)]
pub struct FedTable {
    /// What fills it.
    pub source: Arc<dyn Source>,
    /// Its columns.
    pub schema: SchemaRef,
    /// The places of the primary key's columns; empty when rows are only ever added.
    pub key: Vec<usize>,
    /// Whether the source says which keys are deleted.
    pub deletes: bool,
    /// How many columns the source has for a row that could not be read; the first two name the row that
    /// it takes the place of, the last one says what is wrong.
    pub error_columns: usize,
}

/// The name by which the rows that a table's source could not read are read.
#[must_use]
pub fn errors_name(table: &str) -> String {
    format!("{table}:errors")
}

impl FedTable {
    /// The columns that are not of rows that could not be read.
    fn rows(&self) -> Range<usize> {
        0..self.schema.fields().len() + usize::from(self.deletes)
    }

    fn errors(&self) -> Range<usize> {
        self.rows().end..self.rows().end + self.error_columns
    }
}

impl Builder<'_> {
    /// Makes a table known that a connector fills; it becomes nodes when a view reads it.
    pub fn fed(&mut self, name: &str, table: FedTable) {
        self.fed.insert(name.to_owned(), table);
    }

    /// Adds such a table as what can be read, and the rows that its source could not read as another.
    ///
    /// # Errors
    /// `Unsupported` when nobody knows the table.
    pub fn fed_table(&mut self, name: &str) -> Result<()> {
        self.first.get_or_insert_with(|| name.to_owned());
        let mut flow = self.tap(name, name)?;
        if !self.keeps_rows(flow.node) {
            let schema = Arc::clone(flow.schema());
            let node = self.add(name, "materialize", vec![flow.node], Operator::Materialize, &schema);
            flow = Flow::whole(node, &schema);
        }
        self.show(name, flow.node);
        self.taps.insert(name.to_owned(), flow);
        let Some(table) = self.fed.get(name).filter(|table| table.error_columns > 0).cloned() else { return Ok(()) };
        let source = format!("{}/source", source_name(name, true, name));
        let source = self.plan.nodes.iter().position(|node| node.name == source);
        let source = NodeId(source.expect("the table's source is a node"));
        let input = self.part(name, "unread", source, table.errors(), true);
        let schema = Arc::clone(&self.plan.nodes[input.0].schema);
        let newest = Operator::Upsert(Upsert { keys: vec![0, 1], deletes: false });
        let node = self.add(name, "errors", vec![input], newest, &schema);
        self.show(&errors_name(name), node);
        Ok(())
    }

    fn show(&mut self, name: &str, node: NodeId) {
        let schema = Arc::clone(&self.plan.nodes[node.0].schema);
        let on_error = OnError::Fail;
        self.plan.views.push(View { name: name.to_owned(), node, finish: None, schema, on_error });
    }

    /// The nodes of such a table, which are named after `owner`.
    pub(super) fn fed_nodes(&mut self, table: &FedTable, owner: &str) -> Flow {
        let read = Arc::clone(&table.source);
        let schema = read.schema();
        let mut node = self.add(owner, "source", Vec::new(), Operator::Source(read), &schema);
        if table.error_columns > 0 {
            node = self.part(owner, "rows", node, table.rows(), false);
        }
        if !table.key.is_empty() {
            let upsert = Upsert { keys: table.key.clone(), deletes: table.deletes };
            node = self.add(owner, "upsert", vec![node], Operator::Upsert(upsert), &table.schema);
        }
        Flow::whole(node, &table.schema)
    }

    /// Some columns of the rows that could be read, or of those that could not.
    fn part(&mut self, owner: &str, what: &str, source: NodeId, columns: Range<usize>, are_errors: bool) -> NodeId {
        let from = Arc::clone(&self.plan.nodes[source.0].schema);
        let column = |at: usize| Arc::new(Column::new(from.field(at).name(), at)) as Arc<dyn PhysicalExpr>;
        let reason = column(from.fields().len() - 1);
        let filter: Arc<dyn PhysicalExpr> =
            if are_errors { Arc::new(IsNotNullExpr::new(reason)) } else { Arc::new(IsNullExpr::new(reason)) };
        let schema = Arc::new(Schema::new(columns.clone().map(|at| from.field(at).clone()).collect::<Vec<_>>()));
        let map = Map { filter: Some(filter), columns: columns.map(column).collect() };
        self.add(owner, what, vec![source], Operator::Map(map), &schema)
    }
}
