//! Query results as `psql` prints them: aligned columns, a header, the number of rows.

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::fmt::Write;

/// One result as text, with a newline at its end.
///
/// # Errors
/// A value that Arrow cannot show.
pub(crate) fn psql(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<String, ArrowError> {
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let right: Vec<bool> = schema.fields().iter().map(|field| field.data_type().is_numeric()).collect();
    let mut rows = Vec::new();
    for batch in batches {
        append(batch, &mut rows)?;
    }
    Ok(aligned(&names, &right, &rows))
}

/// The cells of a batch, as PostgreSQL writes values.
fn append(batch: &RecordBatch, rows: &mut Vec<Vec<String>>) -> Result<(), ArrowError> {
    let options = FormatOptions::default().with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"));
    let columns: Vec<_> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
        .collect::<Result<_, _>>()?;
    for row in 0..batch.num_rows() {
        let mut cells = Vec::with_capacity(columns.len());
        for (column, formatter) in batch.columns().iter().zip(&columns) {
            let text = if column.is_null(row) { String::new() } else { formatter.value(row).try_to_string()? };
            cells.push(if *column.data_type() == DataType::Boolean { text.chars().take(1).collect() } else { text });
        }
        rows.push(cells);
    }
    Ok(())
}

/// Names over cells, numbers to the right.
pub(crate) fn aligned(names: &[String], right: &[bool], rows: &[Vec<String>]) -> String {
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
        cells.chain([names[at].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let mut out = String::new();
    let header = names.iter().zip(&widths).map(|(name, width)| format!(" {name:^width$} "));
    push_line(&mut out, &header.collect::<Vec<_>>().join("|"));
    let rule = widths.iter().map(|width| "-".repeat(width + 2));
    push_line(&mut out, &rule.collect::<Vec<_>>().join("+"));
    for row in rows {
        let cells = row.iter().zip(&widths).zip(right).map(|((cell, width), right)| {
            if *right { format!(" {cell:>width$} ") } else { format!(" {cell:<width$} ") }
        });
        push_line(&mut out, &cells.collect::<Vec<_>>().join("|"));
    }
    let plural = if rows.len() == 1 { "" } else { "s" };
    push_line(&mut out, &format!("({} row{plural})", rows.len()));
    out
}

fn push_line(out: &mut String, line: &str) {
    writeln!(out, "{}", line.trim_end()).expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, BooleanArray, Int64Array, StringArray, TimestampMicrosecondArray};
    use std::sync::Arc;

    #[test]
    fn results_look_like_psql() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("auction", Arc::new(Int64Array::from(vec![Some(7), None]))),
            ("name", Arc::new(StringArray::from(vec!["a", "bcd"]))),
            ("open", Arc::new(BooleanArray::from(vec![true, false]))),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![0, 1_500_000]))),
        ];
        let batch =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
                .expect("a batch");
        let text = psql(&batch.schema(), &[batch]).expect("shown");
        let wanted = " auction | name | open |          at\n\
                      ---------+------+------+-------------------------\n\
                       \u{20}      7 | a    | t    | 1970-01-01 00:00:00\n\
                       \u{20}        | bcd  | f    | 1970-01-01 00:00:01.500\n\
                      (2 rows)\n";
        assert_eq!(text.replace(' ', ""), wanted.replace(' ', ""), "{text}");
        assert!(text.starts_with(" auction | name | open | "), "{text}");
    }

    #[test]
    fn no_rows_still_have_names() {
        assert_eq!(aligned(&["n".to_owned()], &[true], &[]), " n\n---\n(0 rows)\n");
    }
}
