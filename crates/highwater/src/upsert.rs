//! INSERT ... ON CONFLICT: rows whose keys are free are inserted, those that exist stay or change.
//!
//! Invariant: what is written was computed from the rows that it replaces; when another statement
//! was faster it is computed again.

use crate::answer::{Answer, Tag};
use crate::connection::{Connection, invalid};
use crate::database::Database;
use crate::dml::{Effect, Target, next_try};
use crate::error::{Error, Result};
use crate::parameters::Parameters;
use crate::provider::TableRows;
use crate::query::Special;
use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::TableSource;
use highwater_sql::statement::{
    ConflictUpdate, Insert, OnConflict, ROW_EXCLUDED, ROW_EXISTING, ROW_KEY, ROW_NUMBER, ROW_VALUE,
};
use highwater_tables::{Change, Snapshot, Write};
use std::collections::HashSet;
use std::sync::Arc;

/// An INSERT with ON CONFLICT, and the rows that it gives: all columns of the table.
#[derive(Clone, Copy)]
pub(crate) struct Upsert<'a> {
    pub(crate) target: &'a Target,
    pub(crate) insert: &'a Insert,
    pub(crate) conflict: &'a OnConflict,
    pub(crate) rows: &'a RecordBatch,
    pub(crate) parameters: &'a Parameters,
}

/// A part of the rows of an INSERT.
struct Part {
    rows: RecordBatch,
    keys: Vec<Vec<u8>>,
    /// How the rows that exist are stored; empty for those that do not.
    stored: Vec<Vec<u8>>,
}

/// What an INSERT with ON CONFLICT does.
struct Merged {
    effect: Effect,
    /// How many of the keys were free.
    free: usize,
    /// DO UPDATE gives a row a key that is not that of another row which it changes.
    moves: bool,
}

impl Database {
    /// Inserts the rows as ON CONFLICT says.
    pub(crate) async fn upsert(&self, connection: &mut Connection, upsert: Upsert<'_>) -> Result<Answer> {
        let Upsert { target, insert, conflict, parameters, .. } = upsert;
        check_target(target, conflict)?;
        if let Some(transaction) = &mut connection.transaction {
            transaction.has_upserted = true;
        }
        let mut turn = None;
        let mut free_before = None;
        loop {
            let Merged { mut effect, free, moves } = self.merged(connection, upsert).await?;
            let tag = Tag::Insert(effect.count);
            let answer = self.answered(tag, insert.into(), parameters, &effect).await?;
            match self.write(connection, target, &mut effect).await {
                // A key that is taken though the same keys were free before is one that a row moves to,
                // if any does. A faster statement's key may be taken and not be seen yet.
                Err(error)
                    if connection.transaction.is_none()
                        && was_outrun(&error)
                        && (error.is_conflict() || !moves || free_before.replace(free) != Some(free)) =>
                {
                    turn = Some(next_try(connection, &target.table, turn).await?);
                }
                done => return done.map(|()| answer),
            }
        }
    }

    async fn merged(&self, connection: &mut Connection, upsert: Upsert<'_>) -> Result<Merged> {
        let Upsert { target, .. } = upsert;
        let snapshot = connection.snapshot(&self.tables)?;
        let (free, existing) = divide(connection, &snapshot, upsert)?;
        let mut changes = free.changes(target)?;
        let count_free = free.keys.len();
        let mut moves = false;
        let mut given = vec![free.rows];
        if let Some(update) = upsert.conflict.update.as_ref().filter(|_| !existing.keys.is_empty()) {
            let found = self.replacements(connection, &snapshot, upsert, (update, &existing)).await?;
            let effect = self.updated(connection, target, &found)?;
            given.extend(effect.rows);
            if let Write::Changes(more) = effect.write {
                moves = more.iter().any(|change| change.old.is_none());
                changes.extend(more);
            }
        }
        changes.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        if let Some(pair) = changes.windows(2).find(|pair| pair[0].key == pair[1].key) {
            return Err(target.table.duplicate_of(&pair[1]).into());
        }
        let count = given.iter().map(|batch| batch.num_rows() as u64).sum();
        let effect = Effect { write: Write::Changes(changes), rows: given, count };
        Ok(Merged { effect, free: count_free, moves })
    }

    /// The existing rows that DO UPDATE changes: their keys and stored forms, and their new values.
    async fn replacements(
        &self,
        connection: &mut Connection,
        snapshot: &Arc<Snapshot>,
        Upsert { target, insert, parameters, .. }: Upsert<'_>,
        (update, existing): (&ConflictUpdate, &Part),
    ) -> Result<Vec<RecordBatch>> {
        let mut update = update.clone();
        target.put_defaults(&mut update.assignments, connection.zone().map(|_| &*self.session))?;
        target.check_assigned(update.assignments.iter().map(|(column, _)| column))?;
        let keys: Vec<&[u8]> = existing.keys.iter().map(Vec::as_slice).collect();
        let values: Vec<&[u8]> = existing.stored.iter().map(Vec::as_slice).collect();
        let stored = target.table.decode(&keys, &values)?;
        let binary = |name: &str, values: &[&[u8]]| {
            let array: ArrayRef = Arc::new(BinaryArray::from_iter_values(values));
            (Arc::new(Field::new(name, DataType::Binary, false)), array)
        };
        let hidden = [binary(ROW_KEY, &keys), binary(ROW_VALUE, &values)];
        let source = |rows: RecordBatch| -> Result<Arc<dyn TableSource>> {
            Ok(provider_as_source(Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?)))
        };
        let beside = vec![
            (ROW_EXISTING, source(numbered(&stored, &hidden)?)?),
            (ROW_EXCLUDED, source(numbered(&existing.rows, &[])?)?),
        ];
        target.round_written(&mut update.assignments);
        let query = update.query(&insert.table, insert.alias.as_ref(), &target.columns(), &insert.text);
        // Its subqueries see the table as the statement does.
        let rows = TableRows::new(&target.table, snapshot, connection.overlay(&target.table), false);
        let special = Special { table: &insert.table.value, rows, beside };
        let plan = self.planned_with(connection, &query, parameters, Some(special)).await?;
        Ok(self.run_plan(&plan).await?.collect_within(self.config.query_memory.0).await?.batches)
    }
}

/// Refuses a conflict that no key of the table can have.
fn check_target(target: &Target, conflict: &OnConflict) -> Result<()> {
    if conflict.update.is_some() {
        target.refuse_append_only("ON CONFLICT DO UPDATE")?;
    }
    let places = target.places(&conflict.target, conflict.target.len())?;
    let key = &target.table.spec().key;
    let is_key = places.len() == key.len() && key.iter().all(|at| places.contains(at));
    if conflict.target.is_empty() || is_key && !key.is_empty() {
        return Ok(());
    }
    let message = "there is no unique or exclusion constraint matching the ON CONFLICT specification";
    Err(invalid("42P10", message, conflict.target.first()))
}

/// Rows whose keys are free, and rows whose keys exist; of two new rows of one key the first counts.
fn divide(
    connection: &Connection,
    snapshot: &Snapshot,
    Upsert { target, rows, conflict, .. }: Upsert<'_>,
) -> Result<(Part, Part)> {
    let spec = target.table.spec();
    if spec.key.is_empty() {
        let none = Part { rows: rows.slice(0, 0), keys: Vec::new(), stored: Vec::new() };
        return Ok((Part { rows: rows.clone(), keys: Vec::new(), stored: Vec::new() }, none));
    }
    let columns: Vec<ArrayRef> = spec.key.iter().map(|at| Arc::clone(rows.column(*at))).collect();
    let encoded = target.table.keys(&columns)?;
    let keys: Vec<&[u8]> = encoded.iter().flatten().collect();
    let found = snapshot.get(&target.table, &keys, &connection.overlay(&target.table))?;
    let mut seen = HashSet::new();
    let (mut free, mut existing, mut stored) = (Vec::new(), Vec::new(), Vec::new());
    for (row, found) in found.into_iter().enumerate() {
        if !seen.insert(keys[row]) {
            if conflict.update.is_none() {
                continue;
            }
            let message = "ON CONFLICT DO UPDATE command cannot affect row a second time";
            return Err(invalid("21000", message, None));
        }
        match found {
            Some(value) => {
                existing.push(row as u32);
                stored.push(value);
            }
            None => free.push(row as u32),
        }
    }
    let part = |places: Vec<u32>, stored| -> Result<Part> {
        let keys = places.iter().map(|row| keys[*row as usize].to_vec()).collect();
        Ok(Part { rows: take_record_batch(rows, &UInt32Array::from(places))?, keys, stored })
    };
    Ok((part(free, Vec::new())?, part(existing, stored)?))
}

impl Part {
    /// Inserts of the rows.
    fn changes(&self, target: &Target) -> Result<Vec<Change>> {
        Ok(target.table.insert(self.rows.clone())?.into_changes())
    }
}

/// The rows with `more` columns and their numbers.
pub(crate) fn numbered(rows: &RecordBatch, more: &[(Arc<Field>, ArrayRef)]) -> Result<RecordBatch> {
    let mut fields = rows.schema().fields().to_vec();
    let mut columns = rows.columns().to_vec();
    for (field, column) in more {
        fields.push(Arc::clone(field));
        columns.push(Arc::clone(column));
    }
    fields.push(Arc::new(Field::new(ROW_NUMBER, DataType::Int64, false)));
    columns.push(Arc::new(Int64Array::from_iter_values(0..rows.num_rows() as i64)));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Another statement changed one of the rows, or inserted one of the keys, meanwhile.
const fn was_outrun(error: &Error) -> bool {
    use highwater_tables::Error::{Conflict, Duplicate};
    matches!(error, Error::Tables(Conflict { .. } | Duplicate { .. }))
}
