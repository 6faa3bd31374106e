//! The `blackhole` sink: takes rows and forgets them.

use arrow::datatypes::SchemaRef;
use highwater_engine::sink::{DeliveryPermit, Sink, Target};
use highwater_engine::{Batch, Result};

/// The sink, and its target.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blackhole;

impl Sink for Blackhole {
    fn check(&self, _schema: &SchemaRef, _append_only: bool) -> Result<()> {
        Ok(())
    }

    fn open(&self, _schema: &SchemaRef) -> Result<Box<dyn Target>> {
        Ok(Box::new(*self))
    }
}

impl Target for Blackhole {
    fn deliver(&mut self, _permit: DeliveryPermit, _part: u32, _rows: &[Batch]) -> Result<()> {
        Ok(())
    }
}
