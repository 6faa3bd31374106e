//! TRUNCATE: all rows of some tables are deleted at once, as DELETE deletes them.

use crate::answer::{Answer, Tag};
use crate::connection::Connection;
use crate::database::Database;
use crate::dml::{Target, deleted, next_try};
use crate::error::Result;
use crate::parameters::Parameters;
use highwater_sql::statement::{Delete, Name};
use highwater_tables::{TableWrite, Write};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Database {
    pub(crate) async fn truncate(&self, connection: &mut Connection, delete: &Delete) -> Result<Answer> {
        let first = self.target(&delete.table)?;
        let mut targets: BTreeMap<&str, (&Name, Target)> = BTreeMap::new();
        for name in std::iter::once(&delete.table).chain(delete.truncates.iter().flatten()) {
            let target = self.target(name)?;
            target.refuse_append_only("TRUNCATE")?;
            targets.insert(&name.value, (name, target));
        }
        let mut turn = None;
        loop {
            let mut writes = Vec::new();
            for (name, target) in targets.values() {
                let query = Delete { table: (*name).clone(), ..delete.clone() }.query(&target.columns());
                let found = self.rows_to_change(connection, (*name, target), &query, &Parameters::none()).await?;
                let write = deleted(target, &found.rows)?.write;
                if !write.is_empty() {
                    writes.push((target, write));
                }
            }
            match self.write_all(connection, writes).await {
                Err(error) if connection.transaction.is_none() && error.is_conflict() => {
                    turn = Some(next_try(connection, &first.table, turn).await?);
                }
                done => return done.map(|()| Answer::done(Tag::Plain("TRUNCATE TABLE".to_owned()))),
            }
        }
    }

    /// Commits what is written to several tables, or adds it to the transaction.
    async fn write_all(&self, connection: &mut Connection, writes: Vec<(&Target, Write)>) -> Result<()> {
        if connection.transaction.is_some() {
            let mut writes = writes.into_iter();
            return writes.try_for_each(|(target, write)| self.add_to_transaction(connection, target, write));
        }
        let written = |(target, write): (&Target, Write)| TableWrite { table: Arc::clone(&target.table), write };
        let writes: Vec<TableWrite> = writes.into_iter().map(written).collect();
        if writes.is_empty() { Ok(()) } else { self.commit_writes(connection, writes).await }
    }
}
