//! PREPARE and EXECUTE: statements that a connection keeps under a name.

use crate::answer::{Answer, Tag};
use crate::connection::{Connection, invalid};
use crate::database::Database;
use crate::dml::{assign, without_columns};
use crate::error::Result;
use crate::parameters::Parameters;
use crate::prepare::Described;
use crate::values::{self, read_text};
use arrow::array::Array as _;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::Expr;
use highwater_sql::numerics;
use highwater_sql::statement::{Name, Prepare, Statement};
use std::sync::Arc;

/// A statement under a name.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) statement: Statement,
    pub(crate) text: String,
    pub(crate) described: Described,
}

impl Database {
    pub(crate) async fn prepare(&self, connection: &mut Connection, prepare: &Prepare) -> Result<Answer> {
        let name = &prepare.name;
        if connection.prepared.contains_key(&name.value) {
            return Err(invalid("42P05", format!("prepared statement {:?} already exists", name.value), Some(name)));
        }
        let told: Vec<Option<DataType>> = prepare.types.iter().cloned().map(Some).collect();
        let described = self.describe_rows(connection, &prepare.statement, &told).await?;
        let statement = prepare.statement.as_ref().clone();
        let prepared = Prepared { statement, text: prepare.text.clone(), described };
        connection.prepared.insert(name.value.clone(), Arc::new(prepared));
        Ok(Answer::done(Tag::Plain("PREPARE".to_owned())))
    }

    /// What EXECUTE executes, and with which parameters.
    pub(crate) fn executed(
        &self,
        connection: &Connection,
        name: &Name,
        values: &[Expr],
        text: &str,
    ) -> Result<(Arc<Prepared>, Parameters)> {
        let prepared = find(connection, name)?;
        let types = &prepared.described.parameters;
        if types.len() != values.len() {
            let message = format!(
                "wrong number of parameters for prepared statement {:?}: expected {}, got {}",
                name.value,
                types.len(),
                values.len()
            );
            return Err(invalid("42601", message, Some(name)));
        }
        let value = |(expr, data_type)| self.value_of(expr, data_type, text);
        let types = connection.types_in_zone(types);
        let values: Vec<ScalarValue> = values.iter().zip(types.iter()).map(value).collect::<Result<_>>()?;
        drop(types);
        Ok((prepared, Parameters(values)))
    }

    /// An expression without columns as one value of a type. A numeric keeps its own digits.
    fn value_of(&self, expr: &Expr, data_type: &DataType, text: &str) -> Result<ScalarValue> {
        if let Some(value) = values::parameter(expr, data_type) {
            return Ok(value);
        }
        let Some(value) = without_columns(&self.session, expr, text, 1, None)? else {
            return Err(invalid("0A000", "a parameter of EXECUTE that is not a constant", None));
        };
        let (is_numeric, own) = (matches!(data_type, DataType::Decimal128(..)), value.data_type());
        if is_numeric && matches!(own, DataType::Decimal128(..)) {
            return Ok(ScalarValue::try_from_array(&value, 0)?);
        }
        if is_numeric && value.is_valid(0) && own.is_numeric() {
            let text = match ScalarValue::try_from_array(&value, 0)? {
                ScalarValue::Float64(Some(value)) => numerics::text_of_double(value),
                ScalarValue::Float32(Some(value)) => numerics::text_of_real(value),
                whole => whole.to_string(),
            };
            return read_text(&text, data_type);
        }
        Ok(ScalarValue::try_from_array(&assign(&value, data_type)?, 0)?)
    }
}

impl Connection {
    /// Whether a statement writes rows: INSERT, UPDATE or DELETE, or EXECUTE of one.
    #[must_use]
    pub fn writes_rows(&self, statement: &Statement) -> bool {
        match statement {
            Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) => true,
            Statement::Execute { name, .. } => {
                self.prepared.get(&name.value).is_some_and(|prepared| self.writes_rows(&prepared.statement))
            }
            _ => false,
        }
    }
}

/// A connection's prepared statement.
pub(crate) fn find(connection: &Connection, name: &Name) -> Result<Arc<Prepared>> {
    let unknown = || invalid("26000", format!("prepared statement {:?} does not exist", name.value), Some(name));
    connection.prepared.get(&name.value).cloned().ok_or_else(unknown)
}

/// Forgets a prepared statement, or all.
pub(crate) fn deallocate(connection: &mut Connection, name: Option<&Name>) -> Result<Answer> {
    let Some(name) = name else {
        connection.prepared.clear();
        return Ok(Answer::done(Tag::Plain("DEALLOCATE ALL".to_owned())));
    };
    find(connection, name)?;
    connection.prepared.remove(&name.value);
    Ok(Answer::done(Tag::Plain("DEALLOCATE".to_owned())))
}
