//! `set_config(name, value, is_local)`, which is SET within a query.
//!
//! A call only notes what is to be set. Whoever runs the query sets it when all rows have been computed; what is
//! planned to tell a query's columns sets nothing.

use crate::connection::{Connection, TransactionState};
use crate::error::Result;
use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result as Computed, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use highwater_sql::DataError;
use highwater_sql::statement::SetScope;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

/// What it is called.
pub(crate) const NAME: &str = "set_config";

/// What the calls of one query set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes(Arc<Mutex<Vec<Change>>>);

#[derive(Debug)]
struct Change {
    name: String,
    /// Its default, when there is none.
    value: Option<String>,
    is_local: bool,
}

impl Changes {
    /// The function, whose calls are noted here.
    pub(crate) fn udf(&self) -> ScalarUDF {
        let signature = Signature::exact(vec![DataType::Utf8, DataType::Utf8, DataType::Boolean], Volatility::Volatile);
        ScalarUDF::from(SetConfig { changes: self.clone(), signature })
    }

    fn note(&self, change: Change) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(change);
    }

    /// Sets what was noted; gives notices of what means nothing here. What is of a transaction alone is over
    /// with the query where there is none.
    ///
    /// # Errors
    /// Those of [`Connection::set`].
    pub(crate) fn apply(&self, connection: &mut Connection) -> Result<Vec<String>> {
        let changes = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut notices = Vec::new();
        for Change { name, value, is_local } in changes {
            if is_local && connection.transaction_state() == TransactionState::Idle {
                continue;
            }
            let scope = if is_local { SetScope::Transaction } else { SetScope::Session };
            notices.extend(connection.set_for(&name, value.as_deref().unwrap_or("default"), scope)?);
        }
        Ok(notices)
    }
}

/// Whether a query may call it.
pub(crate) fn is_in(text: &str) -> bool {
    text.to_ascii_lowercase().contains(NAME)
}

#[derive(Debug)]
struct SetConfig {
    changes: Changes,
    signature: Signature,
}

impl PartialEq for SetConfig {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.changes.0, &other.changes.0)
    }
}

impl Eq for SetConfig {}

impl Hash for SetConfig {
    fn hash<H: Hasher>(&self, state: &mut H) {
        NAME.hash(state);
    }
}

fn text(texts: &StringArray, row: usize) -> Option<String> {
    texts.is_valid(row).then(|| texts.value(row).to_owned())
}

impl ScalarUDFImpl for SetConfig {
    fn name(&self) -> &'static str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Computed<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Computed<ColumnarValue> {
        let [names, values, are_local] = args.args.as_slice() else { return plan_err!("{NAME} takes three values") };
        let (names, values) = (names.to_array(args.number_rows)?, values.to_array(args.number_rows)?);
        let are_local = are_local.to_array(args.number_rows)?;
        for row in 0..args.number_rows {
            let Some(name) = text(names.as_string::<i32>(), row) else {
                let message = "SET requires parameter name".to_owned();
                return Err(DataFusionError::External(Box::new(DataError { sqlstate: "22004", message })));
            };
            let is_local = are_local.is_valid(row) && are_local.as_boolean().value(row);
            let value = text(values.as_string::<i32>(), row);
            self.changes.note(Change { name: name.to_lowercase(), value, is_local });
        }
        Ok(ColumnarValue::Array(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str, value: Option<&str>, is_local: bool) -> Change {
        Change { name: name.to_owned(), value: value.map(str::to_owned), is_local }
    }

    #[test]
    fn what_calls_noted_is_set_when_they_are_done() {
        let (changes, mut connection) = (Changes::default(), Connection::new());
        changes.note(change("application_name", Some("x"), false));
        changes.note(change("app.local", Some("y"), true));
        assert_ne!(connection.setting("application_name"), Some("x"));
        changes.apply(&mut connection).expect("set");
        assert_eq!(connection.setting("application_name"), Some("x"));
        assert_eq!(connection.setting("app.local"), None, "there is no transaction");
        changes.note(change("application_name", None, false));
        changes.apply(&mut connection).expect("set");
        assert_ne!(connection.setting("application_name"), Some("x"));
        changes.note(change("statement_timeout", Some("never"), false));
        assert!(changes.apply(&mut connection).is_err());
    }
}
