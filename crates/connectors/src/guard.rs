//! A program's source, held to what others take for granted: every batch has the declared columns
//! and no more rows than were asked for.
//!
//! A statement that declares columns gets those, found by name and cast, so a program's connector
//! need not know about that. What is wrong is an error that names the source, never a wrong row.

use crate::conform::Conform;
use crate::connector::{SourceConnector, SourceRequest};
use crate::options::OptionSpec;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use highwater_engine::source::{Extent, Offset, Polled, Source, SplitReader};
use highwater_engine::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

/// After a batch without rows, which is taken for nothing.
const PAUSE: Duration = Duration::from_millis(1);

/// A program's connector, whose sources are guarded.
#[derive(Debug)]
pub(crate) struct GuardedConnector(Arc<dyn SourceConnector>);

/// A program's source.
#[derive(Debug)]
struct GuardedSource {
    inner: Arc<dyn Source>,
    columns: Columns,
    /// See [`Source::arrivals`]; of the chosen columns.
    arrivals: Vec<usize>,
}

/// What batches are checked against, and what is taken of them.
#[derive(Clone, Debug)]
struct Columns {
    /// The source, for messages.
    object: String,
    native: SchemaRef,
    conform: Conform,
}

impl GuardedConnector {
    pub(crate) const fn new(inner: Arc<dyn SourceConnector>) -> Self {
        Self(inner)
    }
}

impl SourceConnector for GuardedConnector {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn doc(&self) -> &str {
        self.0.doc()
    }

    fn options(&self) -> &[OptionSpec] {
        self.0.options()
    }

    fn source(&self, asked: &SourceRequest<'_>) -> Result<Arc<dyn Source>> {
        let inner = self.0.source(asked)?;
        let native = inner.schema();
        let conform = Conform::new(&format!("connector '{}'", self.name()), &native, asked.columns.cloned())?;
        let places = conform.places.iter().enumerate();
        let arrivals = places.filter(|(_, place)| inner.arrivals().contains(place)).map(|(at, _)| at).collect();
        let columns = Columns { object: format!("source '{}'", asked.name), native, conform };
        Ok(Arc::new(GuardedSource { inner, columns, arrivals }))
    }
}

impl Source for GuardedSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.columns.conform.schema)
    }

    fn splits(&self) -> Result<Vec<String>> {
        self.inner.splits()
    }

    fn discovery(&self) -> Option<Duration> {
        self.inner.discovery()
    }

    fn extent(&self) -> Extent {
        self.inner.extent()
    }

    fn rows_per_second(&self) -> Option<f64> {
        self.inner.rows_per_second()
    }

    fn arrivals(&self) -> &[usize] {
        &self.arrivals
    }

    fn blocking(&self) -> bool {
        self.inner.blocking()
    }

    fn open(&self, split: &str, offset: Option<&Offset>) -> Result<Box<dyn SplitReader>> {
        let reader = self.inner.open(split, offset)?;
        Ok(Box::new(Reader { columns: self.columns.clone(), reader }))
    }
}

struct Reader {
    columns: Columns,
    reader: Box<dyn SplitReader>,
}

impl SplitReader for Reader {
    fn poll(&mut self, max_rows: usize) -> Result<Polled> {
        match self.reader.poll(max_rows)? {
            Polled::Rows(rows) if rows.num_rows() == 0 => Ok(Polled::Idle(PAUSE)),
            Polled::Rows(rows) if rows.num_rows() > max_rows => {
                let reason = format!("it gave {} rows where at most {max_rows} were asked for", rows.num_rows());
                Err(Error::data(&self.columns.object, reason))
            }
            Polled::Rows(rows) => self.columns.choose(&rows).map(Polled::Rows),
            other => Ok(other),
        }
    }

    fn offset(&self) -> Offset {
        self.reader.offset()
    }

    fn age(&self) -> Option<Duration> {
        self.reader.age()
    }

    fn skipped(&self) -> u64 {
        self.reader.skipped()
    }
}

impl Columns {
    /// The columns that the statement has.
    fn choose(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let types = |schema: &Schema| schema.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
        let given = rows.schema();
        if types(&given) != types(&self.native) {
            let reason =
                format!("it gave a batch of the columns {} and declares {}", listed(&given), listed(&self.native));
            return Err(Error::data(&self.object, reason));
        }
        let chosen = self.conform.places.iter().map(|place| Arc::clone(rows.column(*place))).collect();
        self.conform.batch(chosen).map_err(|error| Error::data(&self.object, error))
    }
}

fn listed(schema: &Schema) -> String {
    let columns: Vec<String> = schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect();
    format!("({})", columns.join(", "))
}

#[cfg(test)]
mod tests {
    use crate::connector::{SourceConnector, SourceRequest};
    use crate::{Connectors, Created, Options, Shape};
    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
    use highwater_engine::Result;
    use highwater_engine::source::{Offset, Polled, Source, SplitReader};
    use std::sync::Arc;

    /// Gives the same batch for ever, whatever its columns are said to be.
    #[derive(Clone, Debug)]
    struct Stubborn {
        declares: SchemaRef,
        gives: RecordBatch,
    }

    impl SourceConnector for Stubborn {
        fn name(&self) -> &str {
            "stubborn"
        }

        fn source(&self, _: &SourceRequest<'_>) -> Result<Arc<dyn Source>> {
            Ok(Arc::new(self.clone()))
        }
    }

    impl Source for Stubborn {
        fn schema(&self) -> SchemaRef {
            Arc::clone(&self.declares)
        }

        fn splits(&self) -> Result<Vec<String>> {
            Ok(vec!["all".to_owned()])
        }

        fn blocking(&self) -> bool {
            false
        }

        fn open(&self, _: &str, _: Option<&Offset>) -> Result<Box<dyn SplitReader>> {
            Ok(Box::new(self.clone()))
        }
    }

    impl SplitReader for Stubborn {
        fn poll(&mut self, _: usize) -> Result<Polled> {
            Ok(Polled::Rows(self.gives.clone()))
        }

        fn offset(&self) -> Offset {
            Offset::Null
        }
    }

    fn batch(rows: i64) -> RecordBatch {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|i| format!("{i}0"))));
        RecordBatch::try_from_iter([("id", ids), ("name", names)]).expect("a batch")
    }

    fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
        Arc::new(Schema::new(fields.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect::<Vec<_>>()))
    }

    fn polled(stubborn: Stubborn, columns: Option<&SchemaRef>, most: usize) -> Result<Polled> {
        let connectors = Connectors::new(&[Arc::new(stubborn)], &[])?;
        let options = Options::default();
        let (connector, name) = ("stubborn", "s");
        let created = Created {
            connector,
            name,
            incarnation: 0,
            options: &options,
            columns,
            format: None,
            shape: Shape::default(),
        };
        let source = connectors.source(&created)?;
        source.open("all", None)?.poll(most)
    }

    #[test]
    fn declared_columns_are_found_by_name_and_cast() {
        let stubborn = Stubborn { declares: batch(0).schema(), gives: batch(3) };
        let declared = schema(&[("name", DataType::Int64)]);
        let Ok(Polled::Rows(rows)) = polled(stubborn.clone(), Some(&declared), 10) else { panic!("rows") };
        assert_eq!(rows.column(0).as_ref(), &Int64Array::from(vec![0, 10, 20]) as &dyn arrow::array::Array);
        let missing = polled(stubborn, Some(&schema(&[("age", DataType::Int64)])), 10);
        let text = missing.expect_err("no such column").to_string();
        assert_eq!(text, "column 'age' is not one of connector 'stubborn'; it has id, name");
    }

    #[test]
    fn what_breaks_the_contract_is_an_error_that_names_the_source() {
        let stubborn = Stubborn { declares: batch(0).schema(), gives: batch(3) };
        let text = polled(stubborn.clone(), None, 2).expect_err("too many").to_string();
        assert_eq!(text, "source 's': it gave 3 rows where at most 2 were asked for");
        let declares = schema(&[("id", DataType::Int64)]);
        let text = polled(Stubborn { declares, ..stubborn }, None, 10).expect_err("others").to_string();
        assert!(text.starts_with("source 's': it gave a batch of the columns (id Int64, name Utf8)"), "{text}");
        let empty = Stubborn { declares: batch(0).schema(), gives: batch(0) };
        assert!(matches!(polled(empty, None, 10), Ok(Polled::Idle(_))));
    }
}
