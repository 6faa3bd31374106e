//! RETURNING: what a statement gives of the rows that it writes.

use crate::again::written;
use crate::answer::{Answer, Tag};
use crate::database::Database;
use crate::dml::Effect;
use crate::error::Result;
use crate::joined::Paired;
use crate::parameters::Parameters;
use crate::prepare::check_parameters;
use crate::upsert::numbered;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datafusion::datasource::{MemTable, provider_as_source};
use highwater_sql::session::plain;
use highwater_sql::statement::{Delete, Insert, Name, Query, Statement, Update, returning, returning_joined};
use highwater_sql::{Relations, SelectItem};
use std::sync::Arc;

/// A statement's RETURNING.
#[derive(Clone, Copy)]
pub(crate) struct Returning<'a> {
    pub(crate) table: &'a Name,
    /// What the table is called in it.
    alias: Option<&'a Name>,
    items: &'a [SelectItem],
    /// The relations of FROM, of which it may tell too.
    paired: &'a [Paired],
    /// The statement's text, for positions.
    text: &'a str,
}

impl<'a> From<&'a Insert> for Returning<'a> {
    fn from(Insert { table, alias, returning, text, .. }: &'a Insert) -> Self {
        Self { table, alias: alias.as_ref(), items: returning, paired: &[], text }
    }
}

impl<'a> From<&'a Update> for Returning<'a> {
    fn from(Update { table, alias, returning, text, .. }: &'a Update) -> Self {
        Self { table, alias: alias.as_ref(), items: returning, paired: &[], text }
    }
}

impl<'a> From<&'a Delete> for Returning<'a> {
    fn from(Delete { table, alias, returning, text, .. }: &'a Delete) -> Self {
        Self { table, alias: alias.as_ref(), items: returning, paired: &[], text }
    }
}

impl<'a> Returning<'a> {
    /// The same of rows that were paired with others.
    pub(crate) const fn beside(self, paired: &'a [Paired]) -> Self {
        Self { paired, ..self }
    }

    /// Whether nothing is to be told.
    pub(crate) const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// What it reads, by name: the written rows, and those of FROM, which are then all numbered.
    pub(crate) fn relations(&self, written: &RecordBatch) -> Result<Vec<(&'a str, RecordBatch)>> {
        if self.paired.is_empty() {
            return Ok(vec![(self.table.value.as_str(), written.clone())]);
        }
        let called = self.alias.unwrap_or(self.table).value.as_str();
        let paired = self.paired.iter().map(|paired| (paired.name.as_str(), &paired.rows));
        let all = std::iter::once((called, written)).chain(paired);
        all.map(|(name, rows)| numbered(rows, &[]).map(|rows| (name, rows))).collect()
    }

    /// The query over these relations.
    pub(crate) fn query(&self, relations: &[(&'a str, RecordBatch)]) -> Query {
        if self.paired.is_empty() {
            return returning(self.table, self.alias, self.items, self.text);
        }
        let columns: Vec<(&str, SchemaRef)> = relations.iter().map(|(name, rows)| (*name, rows.schema())).collect();
        returning_joined(&columns, self.items, self.text)
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
        if returning.is_empty() {
            return Ok(Answer::done(tag));
        }
        let schema = Arc::clone(self.target(returning.table)?.schema());
        let given = returning.relations(&concat_batches(&schema, &effect.rows)?)?;
        let query = returning.query(&given);
        check_parameters(&query, parameters)?;
        let mut relations = Relations::default();
        for (name, rows) in given {
            let table = MemTable::try_new(rows.schema(), vec![vec![rows]])?;
            relations.insert(name, provider_as_source(Arc::new(table)));
        }
        let plan = plain(self.session.bind_with(&query, &relations, &parameters.types())?)?;
        let plan = self.session.runnable(parameters.put_into(plan)?)?;
        let rows = self.run_plan(&plan).await?.collect_within(self.config.query_memory.0).await?;
        Ok(Answer::collected(tag, rows).titled(&query.ast))
    }
}
