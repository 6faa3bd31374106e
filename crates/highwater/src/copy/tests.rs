//! Examples of every rule of the two formats: rows, escapes and quotes, the end, errors and their places.

use super::{CopyError, CopyFormat, CopyParser};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use std::sync::Arc;

fn parser(format: CopyFormat, types: &[DataType]) -> CopyParser {
    let name = |at: usize| char::from(b"abcdefgh"[at]).to_string();
    let fields = types.iter().enumerate().map(|(at, to)| Field::new(name(at), to.clone(), false));
    CopyParser::new(format, Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

fn parse(format: &CopyFormat, types: &[DataType], data: &[u8], piece: usize) -> Result<Vec<RecordBatch>, CopyError> {
    let mut parser = parser(format.clone(), types);
    for piece in data.chunks(piece) {
        parser.push(piece)?;
    }
    parser.finish()
}

/// The rows of two columns of text, `|` between their fields and `~` for null; however the data is cut.
fn rows(format: &CopyFormat, data: &str) -> Vec<String> {
    let read = |piece| {
        let types = [DataType::Utf8, DataType::Utf8];
        let batches = parse(format, &types, data.as_bytes(), piece).unwrap_or_else(|error| panic!("{data:?}: {error}"));
        let mut rows = Vec::new();
        for batch in &batches {
            let field = |column: usize, row| {
                let column = batch.column(column).as_string::<i32>();
                if column.is_null(row) { "~".to_owned() } else { column.value(row).to_owned() }
            };
            rows.extend((0..batch.num_rows()).map(|row| format!("{}|{}", field(0, row), field(1, row))));
        }
        rows
    };
    let whole = read(data.len().max(1));
    (1..data.len()).for_each(|piece| assert_eq!(read(piece), whole, "{data:?} in pieces of {piece}"));
    whole
}

fn error(format: &CopyFormat, types: &[DataType], data: &[u8]) -> CopyError {
    let read = |piece| parse(format, types, data, piece).expect_err("the data is bad");
    let whole = read(data.len());
    (1..data.len()).for_each(|piece| assert_eq!(read(piece), whole, "{data:?} in pieces of {piece}"));
    whole
}

/// An error as SQLSTATE, message and context.
fn told(format: &CopyFormat, types: &[DataType], data: &str) -> String {
    let error = error(format, types, data.as_bytes());
    format!("{} {error} ({})", error.sqlstate, error.context())
}

#[test]
fn text_rows() {
    let text = CopyFormat::text();
    assert_eq!(rows(&text, ""), [""; 0]);
    assert_eq!(rows(&text, "a\tb\nc\td\n"), ["a|b", "c|d"]);
    assert_eq!(rows(&text, "a\tb\nc\td"), ["a|b", "c|d"], "the last row needs no newline");
    assert_eq!(rows(&text, "a\tb\r\nc\td\r\n"), ["a|b", "c|d"]);
    assert_eq!(rows(&text, "a\tb\r\nc\td"), ["a|b", "c|d"]);
    assert_eq!(rows(&text, "a\tb\r\nc\td\r"), ["a|b", "c|d"]);
    assert_eq!(rows(&text, "\t\n"), ["|"], "nothing is an empty string");
    assert_eq!(rows(&text, "\"a\t'\"\n"), ["\"a|'\""], "quotes mean nothing");
    let format = CopyFormat { delimiter: b'|', null: b"NULL".to_vec(), header: true, ..text };
    assert_eq!(rows(&format, "h\nNULL|\\N\nNUL|NULLL\n"), ["~|N", "NUL|NULLL"], "the header's fields are not counted");
}

#[test]
fn text_escapes() {
    let text = CopyFormat::text();
    assert_eq!(rows(&text, "\\b\\f\\n\\r\\t\\v\t\\\\\n"), ["\x08\x0C\n\r\t\x0B|\\"]);
    assert_eq!(rows(&text, "\\101\\1012\\60x\\7\t\\x41\\x411\\x4g\n"), ["AA20x\x07|AA1\x04g"]);
    assert_eq!(rows(&text, "\\501\t\\xg\\8\\q\\\"\n"), ["A|xg8q\""], "what does not fit is cut, the rest is itself");
    assert_eq!(rows(&text, "\\303\\251\t\\xc3\\xa9\n"), ["é|é"]);
    assert_eq!(rows(&text, "a\\\tb\tc\\\nd\n"), ["a\tb|c\nd"], "a tab and a newline");
    assert_eq!(rows(&text, "\\N\ta\\N\n\\\\N\t\\N\n"), ["~|aN", "\\N|~"]);
}

#[test]
fn csv_rows() {
    let csv = CopyFormat::csv();
    assert_eq!(rows(&csv, "a,b\nc,d\n"), ["a|b", "c|d"]);
    assert_eq!(rows(&csv, "a,b\r\n\"c\",d"), ["a|b", "c|d"]);
    assert_eq!(rows(&csv, ",\"\"\n\"\",\n"), ["~|", "|~"], "nothing is null, nothing in quotes is empty");
    assert_eq!(rows(&csv, "\"a,\"\"b\"\"\",\" c\nd\r\n\"\n"), ["a,\"b\"| c\nd\r\n"]);
    assert_eq!(rows(&csv, "a\"b,\"c\"\"\"d\"e, f \n"), ["ab,c\"de| f "], "a quote is one anywhere");
    assert_eq!(rows(&csv, "\\N,\\t\n\\.,x\n\"\\.\",\n"), ["\\N|\\t", "\\.|x", "\\.|~"], "a backslash is itself");
    let header = CopyFormat { header: true, ..csv.clone() };
    assert_eq!(rows(&header, "\"x\ny\",b,c\n1,2\n"), ["1|2"]);
    assert_eq!(rows(&header, ""), [""; 0]);
    let null = CopyFormat { null: b"NULL".to_vec(), delimiter: b';', ..csv };
    assert_eq!(rows(&null, "NULL;\"NULL\"\n;a,b\n"), ["~|NULL", "|a,b"]);
}

#[test]
fn csv_escapes() {
    let format = CopyFormat { quote: b'\'', escape: b'\\', ..CopyFormat::csv() };
    assert_eq!(rows(&format, "'a\\'b\\\\','c\\nd\\\\'\n"), ["a'b\\|c\\nd\\"]);
    assert_eq!(rows(&format, "\\'a,\\'\\'',b\n"), ["\\a,''|b"], "an escape counts within quotes only");
    assert_eq!(rows(&format, "'a''b',\"\n"), ["ab|\""], "quotes are not doubled");
}

#[test]
fn the_end_marker() {
    let (text, csv) = (CopyFormat::text(), CopyFormat::csv());
    let utf8 = [DataType::Utf8];
    assert_eq!(rows(&text, "a\tb\n\\.\nnot looked at"), ["a|b"]);
    assert_eq!(rows(&text, "a\tb\r\n\\.\r\n\\."), ["a|b"]);
    assert_eq!(rows(&text, "a\tb\n\\."), ["a|b"]);
    assert_eq!(rows(&csv, "a,b\n\\.\n\"not looked at"), ["a|b"]);
    assert_eq!(rows(&csv, "a,\"\n\\.\n\"\n\\."), ["a|\n\\.\n"], "not within quotes");
    assert_eq!(told(&text, &utf8, "a\n\\.b\n"), "22P04 end-of-copy marker corrupt (line 2)");
    assert_eq!(told(&text, &utf8, "a\nb\\.\n"), "22P04 end-of-copy marker is not alone on its line (line 2)");
}

#[test]
fn rows_that_do_not_fit() {
    let (text, csv) = (CopyFormat::text(), CopyFormat::csv());
    let columns = [DataType::Int32, DataType::Utf8];
    let missing = "22P04 missing data for column \"b\"";
    assert_eq!(told(&text, &columns, "1\tx\n2\n"), format!("{missing} (line 2: \"2\")"));
    assert_eq!(told(&csv, &columns, "1,\"\n\n\"\n\"2\"\n"), format!("{missing} (line 4: \"\"2\"\")"));
    let extra = "22P04 extra data after last expected column";
    assert_eq!(told(&text, &columns, "1\tx\n2\ty\t\n"), format!("{extra} (line 2: \"2\ty\t\")"));
    assert_eq!(told(&csv, &columns, "1,x\n2,\"y\",\n"), format!("{extra} (line 2: \"2,\"y\",\")"));
    assert_eq!(told(&text, &[], "\n\na\n"), format!("{extra} (line 3: \"a\")"), "no columns");
    let long = format!("1\t\t{}", "é".repeat(60));
    let shown = format!("1\t\t{}...", "é".repeat(48));
    assert_eq!(told(&text, &columns, &long), format!("{extra} (line 1: \"{shown}\")"), "cut between characters");
}

#[test]
fn rows_that_do_not_end() {
    let (text, csv) = (CopyFormat::text(), CopyFormat::csv());
    let utf8 = [DataType::Utf8];
    let backslash = "22P04 the data ends in a backslash that escapes nothing";
    assert_eq!(told(&text, &utf8, "a\nb\\"), format!("{backslash} (line 2: \"b\\\")"));
    assert_eq!(told(&text, &utf8, "a\r\nb\\\\\\"), format!("{backslash} (line 2: \"b\\\\\\\")"));
    let quote = "22P04 unterminated CSV quoted field";
    assert_eq!(told(&csv, &utf8, "a\n\"b\nc\n"), format!("{quote} (line 2: \"\"b\nc\n\")"));
    let format = CopyFormat { escape: b'\\', ..csv };
    assert_eq!(told(&format, &utf8, "\"b\\\""), format!("{quote} (line 1: \"\"b\\\"\")"));
    assert_eq!(told(&format, &utf8, "\"b\\"), format!("{quote} (line 1: \"\"b\\\")"));
}

#[test]
fn newlines_of_two_kinds() {
    let (text, csv) = (CopyFormat::text(), CopyFormat::csv());
    let utf8 = [DataType::Utf8];
    assert_eq!(told(&text, &utf8, "a\r\nb\n"), "22P04 literal newline found in data (line 2)");
    assert_eq!(told(&text, &utf8, "a\nb\r\n"), "22P04 literal carriage return found in data (line 2)");
    assert_eq!(told(&text, &utf8, "a\rb\n"), "22P04 literal carriage return found in data (line 1)");
    assert_eq!(told(&csv, &utf8, "a\r\nb\n"), "22P04 unquoted newline found in data (line 2)");
    assert_eq!(told(&csv, &utf8, "a\nb\r\n"), "22P04 unquoted carriage return found in data (line 2)");
}

#[test]
fn text_of_bad_bytes() {
    let text = CopyFormat::text();
    let columns = [DataType::Int32, DataType::Utf8];
    for (data, bytes) in [
        (&b"1\ta\n2\tb\xFF\n"[..], "0xff"),
        (b"1\ta\n2\t\xC3\n", "0xc3"),
        (b"1\ta\n2\t\xE2\x82x\n", "0xe2 0x82 0x78"),
        (b"1\ta\n2\t\\xe2\\x82\n", "0xe2 0x82"),
        (b"1\ta\n2\tb\\000\n", "0x00"),
        (b"1\ta\n2\tb\0\xFF\n", "0x00"),
    ] {
        let error = error(&text, &columns, data);
        assert_eq!(error.to_string(), format!("invalid byte sequence for encoding \"UTF8\": {bytes}"));
        assert_eq!((error.sqlstate, error.context().as_str()), ("22021", "line 2, column b"));
    }
    let halves = error(&text, &columns[1..], b"a\n\xC3\n\xA9\n");
    assert_eq!((halves.sqlstate, halves.line), ("22021", 2), "two fields do not make a character");
}

#[test]
fn the_first_error_is_told() {
    let text = CopyFormat::text();
    let columns = [DataType::Int32, DataType::Int32];
    let bad = "22P02 invalid input syntax for type integer";
    assert_eq!(told(&text, &columns, "1\ty\nx\t1\n"), format!("{bad}: \"y\" (line 1, column b: \"y\")"));
    assert_eq!(told(&text, &columns, "x\ty\n"), format!("{bad}: \"x\" (line 1, column a: \"x\")"));
    assert_eq!(told(&text, &columns, "x\n1\n"), format!("{bad}: \"x\" (line 1, column a: \"x\")"), "then b is missed");
    assert_eq!(told(&text, &columns, "x\t1\n1\\.\n"), format!("{bad}: \"x\" (line 1, column a: \"x\")"));
    assert_eq!(
        told(&text, &columns, "1\t1\nx\t1\t1\n"),
        "22P04 extra data after last expected column (line 2: \"x\t1\t1\")"
    );
    let column = [DataType::Int32];
    let both = error(&text, &column, b"x\n\xFF\n");
    assert_eq!((both.sqlstate, both.line), ("22P02", 1), "before the bad bytes of the same column");
    let long = format!("\n{}\n", "y".repeat(200));
    let csv = CopyFormat { header: true, ..CopyFormat::csv() };
    assert_eq!(
        error(&csv, &column, long.as_bytes()).context(),
        format!("line 2, column a: \"{}...\"", "y".repeat(100))
    );
    assert_eq!(
        told(&text, &[DataType::Date64], "1\n"),
        "0A000 values of type Date64 cannot be read from text (line 1, column a: \"1\")"
    );
}

#[test]
fn a_header_is_compared_where_that_is_asked_for() {
    let csv = CopyFormat { header: true, names: true, ..CopyFormat::csv() };
    assert_eq!(rows(&csv, "a,b\n1,2\n"), ["1|2"]);
    assert_eq!(rows(&csv, "\"a\",b\n1,2\n"), ["1|2"]);
    assert_eq!(rows(&csv, ""), [""; 0]);
    let text = CopyFormat { header: true, names: true, ..CopyFormat::text() };
    assert_eq!(rows(&text, "a\tb\n1\t2\n"), ["1|2"]);
    let two = [DataType::Utf8, DataType::Utf8];
    let number = "22P04 wrong number of fields in header line: got";
    assert_eq!(told(&csv, &two, "a\n"), format!("{number} 1, expected 2 (line 1: \"a\")"));
    assert_eq!(told(&csv, &two, "a,b,c\n"), format!("{number} 3, expected 2 (line 1: \"a,b,c\")"));
    let mismatch = "22P04 column name mismatch in header line field";
    assert_eq!(told(&csv, &two, "b,a\n1,2\n"), format!("{mismatch} 1: got \"b\", expected \"a\" (line 1: \"b,a\")"));
    assert_eq!(told(&csv, &two, "a,B\n"), format!("{mismatch} 2: got \"B\", expected \"b\" (line 1: \"a,B\")"));
    assert_eq!(
        told(&csv, &two, "a,\n"),
        format!("{mismatch} 2: got null value (\"\"), expected \"b\" (line 1: \"a,\")")
    );
}

#[test]
fn batches_are_given_once() {
    let mut parser = parser(CopyFormat::text(), &[DataType::Int64]);
    let mut sizes = Vec::new();
    for row in 0..20_000 {
        parser.push(format!("{row}\n").as_bytes()).expect("good data");
        sizes.extend(parser.batches().iter().map(RecordBatch::num_rows));
    }
    assert_eq!(sizes, [8192, 8192]);
    let rest = parser.finish().expect("good data");
    assert_eq!(rest.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [20_000 - 2 * 8192]);
    assert_eq!(rest[0].column(0).as_primitive::<Int64Type>().value(0), 2 * 8192);
}

#[test]
fn no_columns_are_rows_still() {
    let batches = parse(&CopyFormat::text(), &[], b"\n\n\n", 1).expect("good data");
    assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [3]);
}
