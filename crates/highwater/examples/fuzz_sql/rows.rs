//! Results as sorted lines of text, in which equal values are written alike.
//!
//! Numbers are the same by value, whatever their scale, and to nine digits where they have more than six
//! behind the point, as averages do; the zeros are equal.

use highwater::Rows;
use highwater::arrow::array::{Array, RecordBatch};
use highwater::spelling;

/// A row's values, null where there is none.
pub(crate) type Row = Vec<Option<String>>;

/// What is below this is nothing: it is what computing a deviation leaves.
const NOTHING: f64 = 1e-9;

/// Which columns are numbers.
pub(crate) fn numbers(rows: &Rows) -> Vec<bool> {
    rows.schema.fields().iter().map(|field| field.data_type().is_numeric()).collect()
}

/// A result's values as texts.
pub(crate) fn texts(rows: &Rows) -> Result<Vec<Row>, String> {
    let mut all = Vec::new();
    for batch in &rows.batches {
        all.extend(texts_of(batch)?);
    }
    Ok(all)
}

fn texts_of(batch: &RecordBatch) -> Result<Vec<Row>, String> {
    let columns = batch.columns().iter().map(spelling::element_texts).collect::<Result<Vec<_>, _>>();
    let columns = columns.map_err(|error| error.to_string())?;
    let row = |at: usize| {
        columns.iter().map(|column| column.is_valid(at).then(|| column.value(at).to_owned())).collect::<Row>()
    };
    Ok((0..batch.num_rows()).map(row).collect())
}

/// Lines of a result, in one order.
pub(crate) fn lines(numbers: &[bool], rows: &[Row]) -> Vec<String> {
    let mut lines: Vec<String> = rows.iter().map(|row| line(numbers, row)).collect();
    lines.sort_unstable();
    lines
}

fn line(numbers: &[bool], row: &[Option<String>]) -> String {
    let value = |(at, value): (usize, &Option<String>)| match value {
        None => "null".to_owned(),
        Some(text) if numbers.get(at).is_some_and(|is_number| *is_number) => number(text),
        Some(text) => format!("{text:?}"),
    };
    let values: Vec<String> = row.iter().enumerate().map(value).collect();
    format!("({})", values.join(", "))
}

fn number(text: &str) -> String {
    let Ok(value) = text.parse::<f64>() else { return text.to_owned() };
    if value.abs() < NOTHING {
        return "0".to_owned();
    }
    let short = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text };
    let digits = short.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    if digits <= 6 && !short.contains('e') {
        return short.to_owned();
    }
    let rounded = format!("{value:.8e}").parse::<f64>().unwrap_or(value);
    rounded.to_string()
}

/// The first line that one side has more often than the other, in words.
pub(crate) fn difference(ours: &[String], theirs: &[String]) -> Option<String> {
    let at = ours.iter().zip(theirs).position(|(one, other)| one != other).unwrap_or(ours.len().min(theirs.len()));
    if at == ours.len() && at == theirs.len() {
        return None;
    }
    let shown = |lines: &[String]| lines.get(at).map_or_else(|| "no more rows".to_owned(), Clone::clone);
    Some(format!("{} of {} rows, {} of {} rows", shown(ours), ours.len(), shown(theirs), theirs.len()))
}
