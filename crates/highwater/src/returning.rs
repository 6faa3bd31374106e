//! RETURNING: what a statement gives of the rows that it writes.

use crate::again::written;
use crate::answer::{Answer, Tag};
use crate::database::Database;
use crate::dml::Effect;
use crate::error::Result;
use crate::parameters::Parameters;
use crate::prepare::check_parameters;
use arrow::datatypes::SchemaRef;
use datafusion::datasource::{MemTable, provider_as_source};
use highwater_sql::session::plain;
use highwater_sql::statement::{Delete, Insert, Name, Query, Statement, Update, returning};
use highwater_sql::{Relations, SelectItem, references};
use std::sync::Arc;

/// A statement's RETURNING.
#[derive(Clone, Copy)]
pub(crate) struct Returning<'a> {
    pub(crate) table: &'a Name,
    /// What the table is called in it.
    alias: Option<&'a Name>,
    items: &'a [SelectItem],
    /// The statement's text, for positions.
    text: &'a str,
}

impl<'a> From<&'a Insert> for Returning<'a> {
    fn from(Insert { table, alias, returning, text, .. }: &'a Insert) -> Self {
        Self { table, alias: alias.as_ref(), items: returning, text }
    }
}

impl<'a> From<&'a Update> for Returning<'a> {
    fn from(Update { table, alias, returning, text, .. }: &'a Update) -> Self {
        Self { table, alias: alias.as_ref(), items: returning, text }
    }
}

impl<'a> From<&'a Delete> for Returning<'a> {
    fn from(Delete { table, alias, returning, text, .. }: &'a Delete) -> Self {
        Self { table, alias: alias.as_ref(), items: returning, text }
    }
}

impl Returning<'_> {
    /// The query over the written rows, under the table's name; none when nothing is to be told.
    pub(crate) fn query(&self) -> Option<Query> {
        (!self.items.is_empty()).then(|| returning(self.table, self.alias, self.items, self.text))
    }
}

impl Database {
    /// The columns of the table that a statement writes, as they are now; none when it writes to no table, or to
    /// none that is there.
    #[must_use]
    pub fn written_columns(&self, statement: &Statement) -> Option<SchemaRef> {
        let target = self.targets.get(&written(statement)?.value)?;
        Some(Arc::clone(target.schema()))
    }

    /// The answer of a statement that is about to be written, with its RETURNING: what cannot be
    /// told is not done.
    pub(crate) async fn answered(
        &self,
        tag: Tag,
        returning: Returning<'_>,
        parameters: &Parameters,
        effect: &Effect,
    ) -> Result<Answer> {
        let Some(query) = returning.query() else { return Ok(Answer::done(tag)) };
        check_parameters(&query, parameters)?;
        let schema = Arc::clone(self.target(returning.table)?.schema());
        let mut relations = Relations::default();
        let rows = MemTable::try_new(schema, vec![effect.rows.clone()])?;
        relations.insert(&returning.table.value, provider_as_source(Arc::new(rows)));
        debug_assert!(references(&query).len() == 1, "RETURNING reads the table's new rows alone");
        let plan = plain(self.session.bind_with(&query, &relations, &parameters.types())?)?;
        let plan = self.session.runnable(parameters.put_into(plan)?)?;
        let rows = self.run_plan(&plan).await?.collect_within(self.config.query_memory.0).await?;
        Ok(Answer::collected(tag, rows).titled(&query.ast))
    }
}
