//! VACUUM and ANALYZE: they look whether what they name is there. Rows that are gone are removed by themselves, and
//! no statistics are kept.

use crate::connection::{Connection, invalid};
use crate::database::Database;
use crate::error::Result;
use crate::objects::Body;
use crate::outcome::Outcome;
use highwater_sql::statement::Vacuum;

impl Database {
    pub(crate) fn vacuum(&self, connection: &Connection, vacuum: &Vacuum) -> Result<Outcome> {
        let verb = if vacuum.analyzes { "ANALYZE" } else { "VACUUM" };
        if !vacuum.analyzes && connection.transaction.is_some() && !connection.is_in_implicit_transaction() {
            return Err(invalid("25001", "VACUUM cannot run inside a transaction block", None));
        }
        let state = self.state();
        let mut done = Outcome::done(verb);
        for (name, columns) in &vacuum.tables {
            let object = crate::show::find(&state, name)?;
            if !matches!(object.body, Body::Table(_) | Body::Fed(_) | Body::Materialized(_)) {
                let verb = verb.to_lowercase();
                done = done.noticed(format!("skipping {:?} --- cannot {verb} non-tables", name.value));
                continue;
            }
            if let Some(column) = columns.iter().find(|column| object.schema.index_of(&column.value).is_err()) {
                let message = format!("column {:?} of relation {:?} does not exist", column.value, name.value);
                return Err(invalid("42703", message, Some(column)));
            }
        }
        Ok(done)
    }
}
