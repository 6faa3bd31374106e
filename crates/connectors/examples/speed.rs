//! How fast the generators and the file reader are on one core, in rows a second:
//! `cargo run --release -p highwater-connectors --example speed`.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use highwater_connectors::{Connectors, Created, Options, Shape};
use highwater_engine::Result;
use highwater_engine::source::{Polled, Source};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn columns(columns: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(
        columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect::<Vec<_>>(),
    ))
}

fn open(connector: &str, options: &[(&str, &str)], declared: Option<SchemaRef>) -> Result<Arc<dyn Source>> {
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let options = Options::new(options)?;
    let (name, columns) = ("s", declared.as_ref());
    let created =
        Created { connector, name, incarnation: 0, options: &options, columns, format: None, shape: Shape::default() };
    Connectors::default().source(&created)
}

/// Reads the first split for two seconds, or to its end.
fn measure(what: &str, source: &dyn Source) -> Result<()> {
    let mut reader = source.open(&source.splits()?[0], None)?;
    let (started, mut rows) = (Instant::now(), 0);
    while started.elapsed() < Duration::from_secs(2) {
        match reader.poll(65_536)? {
            Polled::Rows(batch) => rows += batch.num_rows(),
            Polled::Idle(wait) => std::thread::sleep(wait),
            Polled::End => break,
        }
    }
    println!("{what:<48} {:>8.2} M rows/s", rows as f64 / started.elapsed().as_secs_f64() / 1e6);
    Ok(())
}

fn nexmark(table: &str, wanted: &[(&str, DataType)]) -> Result<()> {
    let declared = (!wanted.is_empty()).then(|| columns(wanted));
    let names: Vec<&str> = wanted.iter().map(|(name, _)| *name).collect();
    let what = format!("nexmark {table} ({})", if names.is_empty() { "all columns".into() } else { names.join(", ") });
    measure(&what, open("nexmark", &[("nexmark.table.type", table)], declared)?.as_ref())
}

fn main() -> Result<()> {
    nexmark("Bid", &[])?;
    nexmark("Bid", &[("auction", DataType::Int64), ("price", DataType::Int64)])?;
    nexmark("Bid", &[("auction", DataType::Int64), ("bidder", DataType::Int64)])?;
    nexmark("Auction", &[])?;
    nexmark("Person", &[])?;
    measure("nexmark, all in one stream", open("nexmark", &[], None)?.as_ref())?;
    for hot in ["100", "1"] {
        let options = [
            ("fields.k.kind", "keyed"),
            ("fields.k.keys", "10_000_000"),
            ("fields.k.hot", hot),
            ("fields.v.kind", "event_number"),
        ];
        let declared = columns(&[("k", DataType::Int64), ("v", DataType::Int64)]);
        measure(&format!("datagen (key, value), {hot} % hot"), open("datagen", &options, Some(declared))?.as_ref())?;
    }
    let declared = columns(&[("s", DataType::Utf8), ("f", DataType::Float64)]);
    measure("datagen (text of 10, number)", open("datagen", &[], Some(declared))?.as_ref())?;
    file()
}

/// A million rows of the same content, as NDJSON and as CSV.
fn file() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("highwater-speed-{}", std::process::id()));
    let io = |what: &str| {
        let what = what.to_owned();
        move |source| highwater_engine::Error::Io { what, source }
    };
    std::fs::create_dir_all(&folder).map_err(io("making a folder"))?;
    let json: String =
        (0..1_000_000).map(|i| format!("{{\"id\":{i},\"name\":\"name of {i}\",\"x\":{i}.5}}\n")).collect();
    let csv: String = std::iter::once("id,name,x\n".to_owned())
        .chain((0..1_000_000).map(|i| format!("{i},name of {i},{i}.5\n")))
        .collect();
    let declared = columns(&[("id", DataType::Int64), ("name", DataType::Utf8), ("x", DataType::Float64)]);
    for (name, text) in [("a.ndjson", json), ("a.csv", csv)] {
        let path = folder.join(name);
        std::fs::write(&path, &text).map_err(io("writing a file"))?;
        let path = path.display().to_string();
        let what = format!("file, {name}, {} bytes a row", text.len() / 1_000_000);
        measure(&what, open("file", &[("path", &path)], Some(Arc::clone(&declared)))?.as_ref())?;
    }
    std::fs::remove_dir_all(&folder).map_err(io("removing the folder"))
}
