//! Results as text, byte for byte as `psql` prints them: aligned, unaligned, CSV, and each expanded.
//!
//! A character counts as one column.

use std::fmt::Write;

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    /// Its name.
    pub(crate) name: String,
    /// Whether its values stand to the right, as numbers do.
    pub(crate) right: bool,
}

impl Column {
    /// A column by the OID of its type.
    pub(crate) fn new(name: &str, oid: u32) -> Self {
        const NUMBERS: [u32; 11] = [20, 21, 23, 26, 28, 29, 700, 701, 790, 1700, 5069];
        Self { name: name.to_owned(), right: NUMBERS.contains(&oid) }
    }
}

/// A result with rows; a value that is absent is NULL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    /// What the rows are made of.
    pub(crate) columns: Vec<Column>,
    /// As many values each as there are columns.
    pub(crate) rows: Vec<Vec<Option<String>>>,
}

/// How values are set apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// In columns.
    #[default]
    Aligned,
    /// By `|`.
    Unaligned,
    /// By commas, quoted where needed.
    Csv,
}

/// How results look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    /// How values are set apart.
    pub(crate) format: Format,
    /// Each value on a line of its own.
    pub(crate) expanded: bool,
    /// Neither names nor the number of rows.
    pub(crate) tuples_only: bool,
    /// What NULL looks like.
    pub(crate) null: String,
}

/// A result as text.
pub(crate) fn print(table: &Table, layout: &Layout) -> String {
    let rows: Vec<Vec<&str>> = table
        .rows
        .iter()
        .map(|row| row.iter().map(|value| value.as_deref().unwrap_or(&layout.null)).collect())
        .collect();
    let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
    match (layout.format, layout.expanded) {
        (Format::Aligned, false) => aligned(table, &names, &rows, layout),
        (Format::Unaligned, false) => separated(&names, &rows, layout, |values| values.join("|")),
        (Format::Csv, false) => separated(&names, &rows, layout, csv),
        (Format::Csv, true) => pairs(&names, &rows, |name, value| csv(&[name, value])).concat(),
        (Format::Aligned, true) if rows.is_empty() || names.is_empty() => footer(rows.len(), layout) + "\n",
        (Format::Aligned, true) => expanded(&names, &rows, layout),
        (Format::Unaligned, true) => pairs(&names, &rows, |name, value| format!("{name}|{value}")).join("\n"),
    }
}

fn footer(rows: usize, layout: &Layout) -> String {
    let plural = if rows == 1 { "" } else { "s" };
    if layout.tuples_only { String::new() } else { format!("({rows} row{plural})\n") }
}

/// Each row as lines of a name and a value.
fn pairs(names: &[&str], rows: &[Vec<&str>], line: impl Fn(&str, &str) -> String) -> Vec<String> {
    let record = |row: &Vec<&str>| names.iter().zip(row).map(|(name, value)| line(name, value) + "\n").collect();
    rows.iter().map(record).collect()
}

/// A row a line.
fn separated(names: &[&str], rows: &[Vec<&str>], layout: &Layout, line: impl Fn(&[&str]) -> String) -> String {
    let header = (!layout.tuples_only).then(|| line(names) + "\n");
    let footer = if layout.format == Format::Csv { String::new() } else { footer(rows.len(), layout) };
    header.into_iter().chain(rows.iter().map(|row| line(row) + "\n")).chain([footer]).collect()
}

fn csv(values: &[&str]) -> String {
    let quoted = |value: &&str| {
        let needs = value.contains([',', '"', '\r', '\n']) || *value == "\\.";
        if needs { format!("\"{}\"", value.replace('"', "\"\"")) } else { (*value).to_owned() }
    };
    values.iter().map(quoted).collect::<Vec<_>>().join(",")
}

/// The lines of a value, in which control characters can be seen.
fn lines(value: &str) -> Vec<String> {
    let line = |text: &str| {
        let mut out = String::new();
        let mut width = 0;
        for c in text.chars() {
            let before = out.len();
            match c {
                '\r' => out.push_str("\\r"),
                '\t' => out.extend(std::iter::repeat_n(' ', 8 - width % 8)),
                c if c.is_ascii_control() => write!(out, "\\x{:02X}", u32::from(c)).expect("a string takes all"),
                c if c.is_control() => write!(out, "\\u{:04X}", u32::from(c)).expect("a string takes all"),
                c => out.push(c),
            }
            width += out[before..].chars().count();
        }
        out
    };
    value.split('\n').map(line).collect()
}

fn cells(values: &[&str]) -> Vec<Vec<String>> {
    values.iter().map(|value| lines(value)).collect()
}

fn widest(lines: &[String]) -> usize {
    lines.iter().map(|line| line.chars().count()).max().unwrap_or(0)
}

/// What follows a value's line: a mark when the value goes on below.
fn mark(lines: &[String], at: usize) -> char {
    if at + 1 < lines.len() { '+' } else { ' ' }
}

/// One line of a value, filled up to a width.
fn cell(lines: &[String], at: usize, width: usize, right: bool) -> String {
    let (text, mark) = (lines.get(at).map_or("", String::as_str), mark(lines, at));
    if right { format!(" {text:>width$}{mark}") } else { format!(" {text:<width$}{mark}") }
}

/// The same in a row's last column, where nothing is filled up at the end but for the sake of a mark.
fn last(lines: &[String], at: usize, width: usize, right: bool) -> String {
    match lines.get(at) {
        Some(_) if mark(lines, at) != ' ' => cell(lines, at, width, right),
        Some(text) if right => format!(" {text:>width$}"),
        Some(text) => format!(" {text}"),
        None => " ".to_owned(),
    }
}

/// How many lines a row takes.
fn height(cells: &[Vec<String>]) -> usize {
    cells.iter().map(Vec::len).max().unwrap_or(0)
}

/// Names over columns.
fn aligned(table: &Table, names: &[&str], rows: &[Vec<&str>], layout: &Layout) -> String {
    let names = cells(names);
    let rows: Vec<Vec<Vec<String>>> = rows.iter().map(|row| cells(row)).collect();
    let width = |at: usize| rows.iter().map(|row| widest(&row[at])).chain([widest(&names[at])]).max().unwrap_or(0);
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let mut out = String::new();
    if !layout.tuples_only {
        for at in 0..height(&names) {
            let cells = names.iter().zip(&widths).map(|(name, width)| {
                let text = name.get(at).map_or("", String::as_str);
                format!(" {text:^width$}{}", mark(name, at))
            });
            out += &(cells.collect::<Vec<_>>().join("|") + "\n");
        }
        out += &(widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("+") + "\n");
    }
    for row in &rows {
        for at in 0..height(row) {
            let cells =
                row.iter().zip(&widths).zip(&table.columns).enumerate().map(|(number, ((value, width), column))| {
                    let draw = if number + 1 < row.len() { cell } else { last };
                    draw(value, at, *width, column.right)
                });
            out += &(cells.collect::<Vec<_>>().join("|") + "\n");
        }
    }
    out + &footer(rows.len(), layout) + "\n"
}

/// A record a row: names on the left, values on the right.
fn expanded(names: &[&str], rows: &[Vec<&str>], layout: &Layout) -> String {
    let names = cells(names);
    let rows: Vec<Vec<Vec<String>>> = rows.iter().map(|row| cells(row)).collect();
    let left = names.iter().map(|name| widest(name)).max().unwrap_or(0);
    let right = rows.iter().flatten().map(|value| widest(value)).max().unwrap_or(0);
    let mut out = String::new();
    for (number, row) in rows.iter().enumerate() {
        match layout.tuples_only {
            true if number == 0 => {}
            true => out += &rule("", left, right),
            false => out += &rule(&format!("[ RECORD {} ]", number + 1), left, right),
        }
        for (name, value) in names.iter().zip(row) {
            for at in 0..name.len().max(value.len()) {
                let text = name.get(at).map_or("", String::as_str);
                let mark = mark(name, at);
                let value = if at < value.len() { last(value, at, right, false) } else { String::new() };
                out += &format!("{text:<left$}{mark}|{value}\n");
            }
        }
    }
    out + "\n"
}

/// A line over a record, with a title set into it.
fn rule(title: &str, left: usize, right: usize) -> String {
    let line = format!("{}+{}", "-".repeat(left + 1), "-".repeat(right + 1));
    let rest: String = line.chars().skip(title.chars().count() + 1).collect();
    format!("-{title}{rest}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the query `SELECT 1 AS id, ...` with these values gives, printed with `null` set to `-`.
    fn printed(format: Format, expanded: bool, tuples_only: bool) -> String {
        let columns = [("id", 23), ("name", 25), ("big\nnumber", 1700), ("text", 25)];
        let rows =
            [[Some("1"), Some("a\nbc"), None, Some("q\"q,")], [Some("200"), Some("t\tx"), Some("1.5"), Some("")]];
        let table = Table {
            columns: columns.map(|(name, oid)| Column::new(name, oid)).to_vec(),
            rows: rows.map(|row| row.map(|value| value.map(str::to_owned)).to_vec()).to_vec(),
        };
        print(&table, &Layout { format, expanded, tuples_only, null: "-".to_owned() })
    }

    /// The lines as `psql` prints them, with `~` for a space at a line's end.
    fn lines_of(lines: &[&str]) -> String {
        lines.iter().map(|line| format!("{}\n", line.replace('~', " "))).collect()
    }

    #[test]
    fn aligned_tables_are_those_of_psql() {
        let rows =
            ["   1 | a        +|      - | q\"q,", "     | bc        |        |~", " 200 | t       x |    1.5 |~"];
        let names = [
            " id  |   name    |  big  +| text~",
            "     |           | number |     ~",
            "-----+-----------+--------+------",
        ];
        let wanted = [names.as_slice(), rows.as_slice(), &["(2 rows)", ""]].concat();
        assert_eq!(printed(Format::Aligned, false, false), lines_of(&wanted));
        assert_eq!(printed(Format::Aligned, false, true), lines_of(&[rows.as_slice(), &[""]].concat()));
    }

    #[test]
    fn expanded_tables_are_those_of_psql() {
        let first = ["id     | 1", "name   | a        +", "       | bc", "big   +| -", "number |", "text   | q\"q,"];
        let second = ["id     | 200", "name   | t       x", "big   +| 1.5", "number |", "text   |~", ""];
        let wanted = [&["-[ RECORD 1 ]-----"], first.as_slice(), &["-[ RECORD 2 ]-----"], &second].concat();
        assert_eq!(printed(Format::Aligned, true, false), lines_of(&wanted));
        let wanted = [first.as_slice(), &["-------+----------"], &second].concat();
        assert_eq!(printed(Format::Aligned, true, true), lines_of(&wanted));
    }

    #[test]
    fn other_formats_are_those_of_psql() {
        let rows = ["1|a", "bc|-|q\"q,", "200|t\tx|1.5|"];
        let wanted = [&["id|name|big", "number|text"], rows.as_slice(), &["(2 rows)"]].concat();
        assert_eq!(printed(Format::Unaligned, false, false), lines_of(&wanted));
        assert_eq!(printed(Format::Unaligned, false, true), lines_of(&rows));
        let first = ["id|1", "name|a", "bc", "big", "number|-", "text|q\"q,", ""];
        let wanted = [first.as_slice(), &["id|200", "name|t\tx", "big", "number|1.5", "text|"]].concat();
        assert_eq!(printed(Format::Unaligned, true, false), lines_of(&wanted));
        let rows = ["1,\"a", "bc\",-,\"q\"\"q,\"", "200,t\tx,1.5,"];
        let wanted = [&["id,name,\"big", "number\",text"], rows.as_slice()].concat();
        assert_eq!(printed(Format::Csv, false, false), lines_of(&wanted));
    }

    #[test]
    fn no_rows_still_have_names() {
        let table = Table { columns: vec![Column::new("n", 20)], rows: Vec::new() };
        let layout = |expanded| Layout { expanded, ..Layout::default() };
        assert_eq!(print(&table, &layout(false)), " n \n---\n(0 rows)\n\n");
        assert_eq!(print(&table, &layout(true)), "(0 rows)\n\n");
    }
}
