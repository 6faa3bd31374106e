//! What a session whose time zone is not UTC cannot make: what is kept is computed in UTC, whoever
//! made it, so a definition that means the session's zone is refused.

use crate::connection::{Connection, invalid};
use crate::database::Database;
use crate::error::{Error, Result};
use crate::objects::Reading;
use datafusion::sql::sqlparser::ast;
use highwater_sql::statement::{CreateTable, Delete, Insert, Name, Query, Statement, Update, returning};
use highwater_sql::zones::Zone;
use highwater_sql::{Relations, references};
use std::sync::Arc;

impl Database {
    /// Refuses a statement that would be done in UTC though it depends on the session's zone.
    pub(crate) fn check_zone(&self, connection: &Connection, statement: &Statement) -> Result<()> {
        let Some(zone) = connection.zone() else { return Ok(()) };
        match statement {
            Statement::CreateTable(table) => check_defaults(table, &zone),
            Statement::CreateView(view) => self.check_kept("a view", &view.query, &zone),
            Statement::CreateMaterializedView(view) | Statement::ExplainView(view) => {
                self.check_kept("a materialized view", &view.query, &zone)
            }
            Statement::CreateSink(sink) => self.check_kept("a sink", &sink.query, &zone),
            Statement::Insert(Insert { table, alias, returning, text, .. })
            | Statement::Update(Update { table, alias, returning, text, .. })
            | Statement::Delete(Delete { table, alias, returning, text, .. }) => {
                self.check_returning(table, alias.as_ref(), returning, text, &zone)
            }
            _ => Ok(()),
        }
    }

    fn check_kept(&self, what: &str, query: &Query, zone: &Zone) -> Result<()> {
        let state = self.state();
        let relations = state.objects.relations(&self.session, &references(query), Reading::Stream)?;
        drop(state);
        self.check_query(what, query, &relations, zone)
    }

    fn check_returning(
        &self,
        table: &Name,
        alias: Option<&Name>,
        items: &[highwater_sql::SelectItem],
        text: &str,
        zone: &Zone,
    ) -> Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        let mut relations = Relations::default();
        relations.stream(&table.value, Arc::clone(self.target(table)?.schema()));
        self.check_query("RETURNING", &returning(table, alias, items, text), &relations, zone)
    }

    fn check_query(&self, what: &str, query: &Query, relations: &Relations, zone: &Zone) -> Result<()> {
        let plan = self.session.runnable(self.session.bind(query, relations)?)?;
        match self.session.zoned(plan, zone)?.depends {
            None => Ok(()),
            Some(depends) => Err(refused(&format!("{what} with {depends}"), zone)),
        }
    }
}

/// A default that is no function's value may be a text that the session's zone gives a meaning.
fn check_defaults(table: &CreateTable, zone: &Zone) -> Result<()> {
    let depends = table.columns.iter().find(|column| {
        let data_type = &column.column.data_type;
        let is_open = column.default.as_ref().is_some_and(|default| !matches!(default, ast::Expr::Function(_)));
        is_open && zone.of_type(data_type) != *data_type
    });
    match depends {
        None => Ok(()),
        Some(column) => Err(refused(&format!("a default of the timestamptz {}", column.column.name), zone)),
    }
}

fn refused(what: &str, zone: &Zone) -> Error {
    let hint = "SET TIME ZONE 'UTC', or name the zone with AT TIME ZONE";
    invalid("0A000", format!("{what} in the time zone {} is not supported: {hint}", zone.name()), None)
}
