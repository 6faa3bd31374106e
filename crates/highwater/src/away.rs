//! A source that could not be made when the database was opened, as its files or its connector are away.
//!
//! It has the columns that its statement declares, so that what reads it is known and can be read as
//! checkpoints hold it. It gives no rows: no pipeline that reads it is started ([`crate::broken`]).

use crate::error::{Error, Result};
use arrow::datatypes::SchemaRef;
use highwater_connectors::Created;
use highwater_engine::source::{Extent, Offset, Source, SplitReader};

/// The source.
#[derive(Debug)]
pub(crate) struct AwaySource {
    name: String,
    schema: SchemaRef,
    reason: String,
}

impl AwaySource {
    /// The source of a statement that cannot be made for a reason.
    ///
    /// # Errors
    /// When the statement declares no columns: only the connector knows them.
    pub(crate) fn new(created: &Created<'_>, reason: &Error) -> Result<Self> {
        let (name, reason) = (created.name.to_owned(), reason.to_string());
        match created.declared_schema()? {
            Some(schema) => Ok(Self { name, schema, reason }),
            None => Err(highwater_engine::Error::connector(name, reason).into()),
        }
    }

    fn refused(&self) -> highwater_engine::Error {
        highwater_engine::Error::connector(&self.name, &self.reason)
    }
}

impl Source for AwaySource {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn splits(&self) -> highwater_engine::Result<Vec<String>> {
        Err(self.refused())
    }

    fn extent(&self) -> Extent {
        Extent::Growing
    }

    fn blocking(&self) -> bool {
        true
    }

    fn open(&self, _: &str, _: Option<&Offset>) -> highwater_engine::Result<Box<dyn SplitReader>> {
        Err(self.refused())
    }
}
