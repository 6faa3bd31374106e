//! What a session whose time zone is not UTC cannot make: what is kept is computed in UTC, whoever
//! made it, so a definition that means the session's zone is refused.

use crate::connection::invalid;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::objects::Reading;
use crate::parameters::Parameters;
use crate::prepare::{Known, check_parameters};
use crate::returning::Returning;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast;
use highwater_sql::statement::{Column, Included, Name, Query, Statement, TableColumn, returning};
use highwater_sql::types::pg_name;
use highwater_sql::zoned::Zoned;
use highwater_sql::zones::Zone;
use highwater_sql::{Relations, SelectItem, is_proctime, references};
use std::sync::Arc;

impl Database {
    /// Refuses a statement that would be done in UTC though it depends on the session's zone.
    pub(crate) async fn check_zone(
        &self,
        zone: &Zone,
        statement: &Statement,
        text: &str,
        parameters: &Parameters,
    ) -> Result<()> {
        match statement {
            Statement::CreateTable(table) => {
                table.columns.iter().try_for_each(|column| self.check_default(column, zone))?;
                let columns: Vec<&Column> = table.columns.iter().map(|column| &column.column).collect();
                let included = table.feed.as_ref().map(|feed| feed.included.as_slice());
                self.check_generated(&table.name, &columns, included.unwrap_or_default(), text, zone)
            }
            Statement::CreateSource(source) => {
                let columns: Vec<&Column> = source.columns.iter().collect();
                self.check_generated(&source.name, &columns, &source.included, text, zone)
            }
            Statement::AddColumn(added) => self.check_default(&added.column, zone),
            Statement::CreateView(view) => self.check_kept("a view", &view.query, zone).map(drop),
            Statement::CreateMaterializedView(view) | Statement::ExplainView(view) => {
                self.check_kept("a materialized view", &view.query, zone).map(drop)
            }
            Statement::CreateSink(sink) | Statement::ExplainSink(sink) => {
                let given = self.check_kept("a sink", &sink.query, zone)?;
                let Some(into) = &sink.into else { return Ok(()) };
                check_assigned(given.schema().as_arrow(), self.target(into)?.schema(), zone)
            }
            Statement::Insert(insert) => self.check_returning(insert.into(), parameters, zone),
            Statement::Update(update) if update.joined.is_empty() || update.returning.is_empty() => {
                self.check_returning(update.into(), parameters, zone)
            }
            Statement::Update(update) => {
                let known = &mut Known::default();
                let paired = self.paired_with_updated(update, &parameters.types(), known).await?;
                self.check_returning(Returning::from(update).beside(&paired), parameters, zone)
            }
            Statement::Delete(delete) if delete.joined.is_empty() || delete.returning.is_empty() => {
                self.check_returning(delete.into(), parameters, zone)
            }
            Statement::Delete(delete) => {
                let known = &mut Known::default();
                let paired = self.paired_with_deleted(delete, &parameters.types(), known).await?;
                self.check_returning(Returning::from(delete).beside(&paired), parameters, zone)
            }
            _ => Ok(()),
        }
    }

    /// A default that is no function's value may be a text that the session's zone gives a meaning; so
    /// may what an SQL function says.
    fn check_default(&self, column: &TableColumn, zone: &Zone) -> Result<()> {
        let data_type = &column.column.data_type;
        let is_open = column.default.as_ref().is_some_and(|default| match default {
            ast::Expr::Function(call) => self.session.declares(&call.name.to_string().to_lowercase()),
            _ => true,
        });
        if is_open && zone.of_type(data_type) != *data_type {
            return Err(refused(&format!("a default of the timestamptz {}", column.column.name.value), zone));
        }
        Ok(())
    }

    fn check_kept(&self, what: &str, query: &Query, zone: &Zone) -> Result<LogicalPlan> {
        let state = self.state();
        let relations = state.objects.relations(&self.session, &references(query), Reading::Stream)?;
        drop(state);
        self.check_query(what, query, &relations, zone)
    }

    fn check_returning(&self, returning: Returning<'_>, parameters: &Parameters, zone: &Zone) -> Result<()> {
        if returning.is_empty() {
            return Ok(());
        }
        let none = RecordBatch::new_empty(Arc::clone(self.target(returning.table)?.schema()));
        let given = returning.relations(&none)?;
        let query = returning.query(&given);
        check_parameters(&query, parameters)?;
        let mut relations = Relations::default();
        for (name, rows) in &given {
            relations.stream(name, rows.schema());
        }
        let plan = self.session.bind_with(&query, &relations, &parameters.types())?;
        self.check_plan("RETURNING", parameters.put_into(plan)?, zone).map(drop)
    }

    fn check_generated(
        &self,
        relation: &Name,
        columns: &[&Column],
        included: &[Included],
        text: &str,
        zone: &Zone,
    ) -> Result<()> {
        let generated = columns.iter().filter_map(|column| column.generated.clone());
        let generated = generated.filter(|expr| !is_proctime(expr));
        let items: Vec<SelectItem> = generated.map(SelectItem::UnnamedExpr).collect();
        if items.is_empty() {
            return Ok(());
        }
        if columns.iter().all(|column| column.generated.is_some()) {
            return Err(refused("a generated column beside columns that the connector has", zone));
        }
        let declared = columns.iter().map(|column| Field::new(&column.name.value, column.data_type.clone(), true));
        let included = included.iter().map(|included| Field::new(&included.name.value, DataType::Utf8, true));
        let mut relations = Relations::default();
        relations.stream(&relation.value, Arc::new(Schema::new(declared.chain(included).collect::<Vec<_>>())));
        self.check_query("a generated column", &returning(relation, None, &items, text), &relations, zone).map(drop)
    }

    fn check_query(&self, what: &str, query: &Query, relations: &Relations, zone: &Zone) -> Result<LogicalPlan> {
        self.check_plan(what, self.session.bind(query, relations)?, zone)
    }

    fn check_plan(&self, what: &str, plan: LogicalPlan, zone: &Zone) -> Result<LogicalPlan> {
        let Zoned { plan, depends } = self.session.zoned(plan, zone)?;
        match depends {
            None => Ok(plan),
            Some(depends) => Err(refused(&format!("{what} with {depends}"), zone)),
        }
    }
}

/// Refuses instants that a table has as something else, and the other way around.
fn check_assigned(given: &Schema, table: &Schema, zone: &Zone) -> Result<()> {
    let is_of_zone = |field: &Arc<Field>| zone.of_type(field.data_type()) != *field.data_type();
    let mut pairs = given.fields().iter().zip(table.fields());
    match pairs.find(|(from, to)| is_of_zone(from) != is_of_zone(to)) {
        None => Ok(()),
        Some((from, to)) => {
            let (name, from, to) = (to.name(), pg_name(from.data_type()), pg_name(to.data_type()));
            Err(refused(&format!("a sink that gives {from} to column {name:?} of type {to}"), zone))
        }
    }
}

fn refused(what: &str, zone: &Zone) -> Error {
    let hint = "SET TIME ZONE 'UTC', or name the zone with AT TIME ZONE";
    invalid("0A000", format!("{what} in the time zone {} is not supported: {hint}", zone.name()), None)
}
