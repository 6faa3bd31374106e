//! Reads of rows by key that come as prepared statements: as many of them as a client has sent are answered at
//! once ([`highwater::KeyRead`]), without pgwire's portals.
//!
//! Invariant: what is answered here is answered as pgwire and the handlers of [`super::extended`] would; whatever
//! else a request is, it is left to them as it came.

use super::extended::Prepared;
use super::messages::Socket;
use super::requests::{self, Request};
use super::{Session, binary, encode};
use arrow::array::{Array as _, ArrayRef, BinaryArray, Int16Array, Int32Array, Int64Array, StringArray};
use arrow::datatypes::DataType;
use bytes::{Buf as _, BufMut as _, BytesMut};
use futures::SinkExt as _;
use highwater::{KeyRead, KeyRows, spelling};
use pgwire::api::portal::Format;
use pgwire::api::stmt::StoredStatement;
use pgwire::api::store::{Entry, PortalStore as _};
use pgwire::api::{
    ClientInfo as _, ClientPortalStore as _, DEFAULT_NAME, ErrorHandler as _, PgWireConnectionState, Type,
};
use pgwire::error::ErrorInfo;
use pgwire::messages::data::{FieldDescription, RowDescription};
use pgwire::messages::response::ErrorResponse;
use pgwire::messages::{Message as _, PgWireBackendMessage};
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, PoisonError};

/// As many are answered at once.
const MOST: usize = 256;

impl Session {
    /// Answers the requests that `unread` begins with, as far as they are reads by key. False when it begins with
    /// something else: then nothing was done.
    pub(super) async fn answer_reads(&self, socket: &mut Socket, unread: &mut BytesMut) -> io::Result<bool> {
        let Some(first) = requests::first(unread) else { return Ok(false) };
        if !matches!(socket.state(), PgWireConnectionState::ReadyForQuery) || !self.has_nothing_open() {
            return Ok(false);
        }
        let name = if first.statement.is_empty() { DEFAULT_NAME } else { first.statement };
        let Some(Entry::Value(statement)) = socket.portal_store().get_statement(name) else { return Ok(false) };
        let prepared = &statement.statement;
        let Some(read) = self.key_read(&statement) else { return Ok(false) };
        let Some(columns) = &prepared.columns else { return Ok(false) };
        if self.check_role(&prepared.statement).is_err() || !first.has_formats_for(columns.fields().len()) {
            return Ok(false);
        }
        let mut keys = Keys::new(&read, prepared);
        let mut described = Vec::new();
        let mut length = 0;
        while described.len() < MOST
            && let Some(request) = requests::first(&unread[length..])
            && request.is_like(&first)
            && keys.push(&request).is_some()
        {
            described.push(request.is_described);
            length += request.length;
        }
        if described.is_empty() {
            return Ok(false);
        }
        let keys = keys.arrays(described.len());
        let format = format_of(first.results);
        let Some(description) = description(prepared, &format) else { return Ok(false) };
        let mut connection = self.connection.lock().await;
        let limit = connection.statement_timeout();
        let rows = self.server.database.read_keys(&mut connection, &read, &prepared.text, keys);
        let rows = self.limited(async { Ok(rows.await) }, limit).await;
        connection.rests();
        drop(connection);
        let rows = match rows {
            Ok(rows) => rows,
            Err(mut error) => {
                self.on_error(socket, &mut error);
                let out = socket.write_buffer_mut();
                put_begun(out, described[0].then_some(&description));
                ErrorResponse::from(ErrorInfo::from(error)).encode(out).map_err(io::Error::other)?;
                out.put_slice(READY_IDLE);
                let length = first.length;
                return answered(socket, unread, length).await;
            }
        };
        let Some((cells, ends)) = rows.and_then(|rows| Some((cells(&rows, &format)?, rows.ends))) else {
            prepared.forget_read();
            return Ok(false);
        };
        let out = socket.write_buffer_mut();
        let mut from = 0;
        for (end, is_described) in ends.into_iter().zip(described) {
            put_begun(out, is_described.then_some(&description));
            for row in from..end {
                put_row(out, &cells, row);
            }
            put_complete(out, end - from);
            from = end;
        }
        answered(socket, unread, length).await
    }

    /// How a statement reads by key, if it does and the client binds values of types that are taken here.
    fn key_read(&self, statement: &StoredStatement<Prepared>) -> Option<Arc<KeyRead>> {
        let prepared = &statement.statement;
        let mut known = prepared.read.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            let read = self.server.database.key_read(&prepared.statement)?;
            let is_taken = |(place, own): (usize, &DataType)| {
                let told = statement.parameter_types.get(place).cloned().flatten();
                let is_number = own.is_signed_integer();
                let fits = |told: Type| match told {
                    Type::INT2 | Type::INT4 | Type::INT8 => is_number,
                    Type::TEXT | Type::VARCHAR => !is_number,
                    _ => false,
                };
                let given = prepared.parameters.get(place)?;
                let is_same = if is_number { given.is_signed_integer() } else { given == own };
                (is_same && told.is_none_or(fits)).then_some(place)
            };
            let mut places: Vec<usize> = read.key().map(is_taken).collect::<Option<_>>()?;
            places.sort_unstable();
            places.dedup();
            let columns = prepared.columns.as_ref()?.fields().iter().map(|field| field.data_type());
            if places.len() != prepared.parameters.len() || !read.types().eq(columns) {
                return None;
            }
            *known = Some(Arc::new(read));
        }
        known.clone()
    }
}

/// Sends the answers to so many bytes.
async fn answered(socket: &mut Socket, unread: &mut BytesMut, length: usize) -> io::Result<bool> {
    unread.advance(length);
    socket.portal_store().clear_portals();
    SinkExt::<PgWireBackendMessage>::flush(socket).await?;
    Ok(true)
}

impl Prepared {
    /// What it reads is not as it was, or cannot be read now.
    fn forget_read(&self) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The keys of requests, by the columns of the key.
struct Keys<'a>(Vec<KeyColumn<'a>>, usize);

struct KeyColumn<'a> {
    /// The place of the parameter that gives it.
    parameter: usize,
    /// The type of the parameter, and of the column.
    given: &'a DataType,
    own: &'a DataType,
    numbers: Vec<i64>,
    texts: Vec<&'a str>,
}

impl<'a> Keys<'a> {
    fn new(read: &'a KeyRead, prepared: &'a Prepared) -> Self {
        let column = |(parameter, own): (usize, &'a DataType)| KeyColumn {
            parameter,
            given: &prepared.parameters[parameter],
            own,
            numbers: Vec::new(),
            texts: Vec::new(),
        };
        Self(read.key().map(column).collect(), prepared.parameters.len())
    }

    /// Takes a request's key. None when it cannot be taken here; then no more is to be pushed.
    fn push(&mut self, request: &Request<'a>) -> Option<()> {
        if request.count() != self.1 {
            return None;
        }
        for column in &mut self.0 {
            let (bytes, is_binary) = request.value(column.parameter)?;
            if *column.own == DataType::Utf8 {
                column.texts.push(std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))?);
                continue;
            }
            let number = if is_binary {
                match (column.given, bytes) {
                    (DataType::Int16, [a, b]) => i64::from(i16::from_be_bytes([*a, *b])),
                    (DataType::Int32, bytes) => i64::from(i32::from_be_bytes(bytes.try_into().ok()?)),
                    (DataType::Int64, bytes) => i64::from_be_bytes(bytes.try_into().ok()?),
                    _ => return None,
                }
            } else {
                std::str::from_utf8(bytes).ok()?.parse().ok()?
            };
            if !fits(number, column.given) || !fits(number, column.own) {
                return None;
            }
            column.numbers.push(number);
        }
        Some(())
    }

    /// The first keys.
    fn arrays(self, count: usize) -> Vec<ArrayRef> {
        let array = |KeyColumn { own, numbers, texts, .. }: KeyColumn<'a>| -> ArrayRef {
            let numbers = numbers.into_iter().take(count);
            match own {
                DataType::Int16 => Arc::new(Int16Array::from_iter_values(numbers.map(|number| number as i16))),
                DataType::Int32 => Arc::new(Int32Array::from_iter_values(numbers.map(|number| number as i32))),
                DataType::Int64 => Arc::new(Int64Array::from_iter_values(numbers)),
                _ => Arc::new(StringArray::from_iter_values(&texts[..count])),
            }
        };
        self.0.into_iter().map(array).collect()
    }
}

/// Whether a number is one of a type of whole numbers.
fn fits(number: i64, data_type: &DataType) -> bool {
    match data_type {
        DataType::Int16 => i16::try_from(number).is_ok(),
        DataType::Int32 => i32::try_from(number).is_ok(),
        _ => true,
    }
}

/// The formats that codes name.
fn format_of(codes: &[u8]) -> Format {
    let codes: Vec<i16> = codes.chunks_exact(2).map(|code| i16::from_be_bytes([code[0], code[1]])).collect();
    match codes.as_slice() {
        [] => Format::UnifiedText,
        [code] => Format::from(*code),
        _ => Format::Individual(codes),
    }
}

/// The rows' values as they are sent, by column.
fn cells(rows: &KeyRows, format: &Format) -> Option<Vec<BinaryArray>> {
    let sent = |(at, array): (usize, &ArrayRef)| {
        if format.is_binary(at) { binary::elements(array) } else { spelling::element_texts(array).ok().map(Into::into) }
    };
    rows.rows.columns().iter().enumerate().map(sent).collect()
}

/// The message that describes the rows.
fn description(prepared: &Prepared, format: &Format) -> Option<BytesMut> {
    let fields = encode::fields(prepared.columns.as_ref()?, format).ok()?;
    let mut out = BytesMut::new();
    RowDescription::new(fields.iter().map(FieldDescription::from).collect()).encode(&mut out).ok()?;
    Some(out)
}

const BIND_COMPLETE: &[u8] = b"2\0\0\0\x04";
const READY_IDLE: &[u8] = b"Z\0\0\0\x05I";

fn put_begun(out: &mut BytesMut, description: Option<&BytesMut>) {
    out.put_slice(BIND_COMPLETE);
    if let Some(description) = description {
        out.put_slice(description);
    }
}

fn put_row(out: &mut BytesMut, cells: &[BinaryArray], row: usize) {
    let sizes = cells.iter().map(|column| 4 + column.value_length(row) as usize);
    out.reserve(7 + sizes.sum::<usize>());
    out.put_u8(b'D');
    let head = out.len();
    out.put_i32(0);
    out.put_i16(cells.len() as i16);
    for column in cells {
        if column.is_null(row) {
            out.put_i32(-1);
        } else {
            let value = column.value(row);
            out.put_i32(value.len() as i32);
            out.put_slice(value);
        }
    }
    let length = (out.len() - head) as i32;
    out[head..head + 4].copy_from_slice(&length.to_be_bytes());
}

/// Tells how many rows there were, and that the next request may come.
fn put_complete(out: &mut BytesMut, rows: usize) {
    out.put_u8(b'C');
    let head = out.len();
    out.put_i32(0);
    // Writing into memory that grows does not fail.
    let _ = write!(out, "SELECT {rows}\0");
    let length = (out.len() - head) as i32;
    out[head..head + 4].copy_from_slice(&length.to_be_bytes());
    out.put_slice(READY_IDLE);
}
