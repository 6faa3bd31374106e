//! COPY ... TO STDOUT over the protocol: rows as text or CSV, as PostgreSQL writes them.

use super::{encode, errors};
use bytes::Buf as _;
use futures::{Sink, SinkExt as _, StreamExt as _};
use highwater::{Answer, CopyOptions};
use pgwire::api::portal::Format;
use pgwire::api::results::Tag;
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::copy::{CopyData, CopyDone, CopyOutResponse};
use pgwire::messages::data::DataRow;
use std::fmt::Debug;

/// Gives the client a query's rows; the tag is left to the caller.
pub(super) async fn send<C>(client: &mut C, answer: Answer, options: &CopyOptions) -> PgWireResult<Tag>
where
    C: Sink<PgWireBackendMessage> + Unpin + Send,
    C::Error: Debug,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    let given = answer.rows.ok_or_else(|| errors::error("XX000", "a query came without rows"))?;
    let fields = encode::fields(given.schema(), &Format::UnifiedText)?;
    let columns = i16::try_from(fields.len()).map_err(|_| errors::error("54011", "too many columns"))?;
    let opening = CopyOutResponse::new(0, columns, vec![0; fields.len()]);
    client.feed(PgWireBackendMessage::CopyOutResponse(opening)).await?;
    let lines = Lines::new(options);
    if options.header {
        let names = fields.iter().map(|field| Some(field.name().as_bytes()));
        client.feed(PgWireBackendMessage::CopyData(CopyData::new(lines.line(names).into()))).await?;
    }
    let mut rows = std::pin::pin!(encode::rows(given, fields));
    let mut count = 0;
    while let Some(row) = rows.next().await {
        let row = row?;
        let line = lines.line(values(&row));
        client.feed(PgWireBackendMessage::CopyData(CopyData::new(line.into()))).await?;
        count += 1;
    }
    client.feed(PgWireBackendMessage::CopyDone(CopyDone::new())).await?;
    Ok(Tag::new("COPY").with_rows(count))
}

/// The values of a row as they are sent: each with its length, which is negative for null.
fn values(row: &DataRow) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = row.data.as_ref();
    std::iter::from_fn(move || {
        if rest.len() < 4 {
            return None;
        }
        let Ok(length) = usize::try_from(rest.get_i32()) else { return Some(None) };
        let (value, after) = rest.split_at(length);
        rest = after;
        Some(Some(value))
    })
}

/// How values become lines.
struct Lines {
    csv: bool,
    delimiter: u8,
    null: Vec<u8>,
    quote: u8,
    escape: u8,
}

impl Lines {
    fn new(options: &CopyOptions) -> Self {
        let quote = options.quote.map_or(b'"', |c| c as u8);
        let null = if options.csv { "" } else { "\\N" };
        Self {
            csv: options.csv,
            delimiter: options.delimiter.map_or(if options.csv { b',' } else { b'\t' }, |c| c as u8),
            null: options.null.as_deref().unwrap_or(null).into(),
            quote,
            escape: options.escape.map_or(quote, |c| c as u8),
        }
    }

    fn line<'a>(&self, values: impl Iterator<Item = Option<&'a [u8]>>) -> Vec<u8> {
        let mut line = Vec::new();
        for (at, value) in values.enumerate() {
            if at > 0 {
                line.push(self.delimiter);
            }
            match value {
                None => line.extend_from_slice(&self.null),
                Some(value) if self.csv => self.quoted(value, &mut line),
                Some(value) => self.escaped(value, &mut line),
            }
        }
        line.push(b'\n');
        line
    }

    fn escaped(&self, value: &[u8], line: &mut Vec<u8>) {
        for byte in value {
            let letter = match byte {
                b'\\' => b'\\',
                0x08 => b'b',
                0x0c => b'f',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                0x0b => b'v',
                other if *other == self.delimiter => *other,
                other => {
                    line.push(*other);
                    continue;
                }
            };
            line.extend([b'\\', letter]);
        }
    }

    fn quoted(&self, value: &[u8], line: &mut Vec<u8>) {
        let special = |byte: &u8| [self.delimiter, self.quote, b'\n', b'\r'].contains(byte);
        if !value.iter().any(special) && value != self.null && value != b"\\." {
            return line.extend_from_slice(value);
        }
        line.push(self.quote);
        for byte in value {
            if [self.quote, self.escape].contains(byte) {
                line.push(self.escape);
            }
            line.push(*byte);
        }
        line.push(self.quote);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(options: CopyOptions, values: &[Option<&str>]) -> String {
        let values = values.iter().map(|value| value.map(str::as_bytes));
        String::from_utf8(Lines::new(&options).line(values)).expect("text")
    }

    #[test]
    fn lines_are_written_as_postgresql_writes_them() {
        let text = |values: &[Option<&str>]| line(CopyOptions::default(), values);
        assert_eq!(text(&[Some("a\tb\\c\nd"), None, Some("")]), "a\\tb\\\\c\\nd\t\\N\t\n");
        let csv = |values: &[Option<&str>]| line(CopyOptions { csv: true, ..CopyOptions::default() }, values);
        assert_eq!(
            csv(&[Some("a,b"), None, Some(""), Some("say \"x\""), Some("\\.")]),
            "\"a,b\",,\"\",\"say \"\"x\"\"\",\"\\.\"\n"
        );
        let other = CopyOptions { delimiter: Some('|'), null: Some("-".to_owned()), ..CopyOptions::default() };
        assert_eq!(line(other, &[Some("a|b"), None, Some("c")]), "a\\|b|-|c\n");
        let escape = CopyOptions { csv: true, quote: Some('\''), escape: Some('\\'), ..CopyOptions::default() };
        assert_eq!(line(escape, &[Some("it's, \\")]), "'it\\'s, \\\\'\n");
    }
}
