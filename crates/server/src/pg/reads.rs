//! Reads of rows by key that come as prepared statements: as many of them as a client has sent are answered at
//! once ([`highwater::KeyRead`]), without pgwire's portals.
//!
//! Invariant: what is answered here is answered as pgwire and the handlers of [`super::extended`] would, but for a
//! look-up of a view, which can be cancelled here while it waits; whatever else a request is, it is left to them as
//! it came.

use super::extended::Prepared;
use super::messages::Socket;
use super::requests::{self, Request};
use super::{Session, binary, encode};
use arrow::array::{Array as _, ArrayRef, BinaryArray, Int16Array, Int32Array, Int64Array, StringArray};
use arrow::datatypes::DataType;
use bytes::{Buf as _, BufMut as _, BytesMut};
use futures::SinkExt;
use highwater::{KeyRead, KeyRows, ReadForm, spelling};
use pgwire::api::portal::Format;
use pgwire::api::stmt::StoredStatement;
use pgwire::api::store::{Entry, PortalStore as _};
use pgwire::api::{
    ClientInfo as _, ClientPortalStore as _, DEFAULT_NAME, ErrorHandler as _, PgWireConnectionState, Type,
};
use pgwire::error::{ErrorInfo, PgWireError};
use pgwire::messages::data::{FieldDescription, RowDescription};
use pgwire::messages::response::ErrorResponse;
use pgwire::messages::{Message as _, PgWireBackendMessage};
use std::fmt::Write as _;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

/// As many are answered at once.
const MOST: usize = 256;

/// How many reads are to be answered at once: one when the last ones could not be, and then twice as many each time.
pub(super) struct AtOnce(AtomicUsize);

impl Default for AtOnce {
    fn default() -> Self {
        Self(AtomicUsize::new(MOST))
    }
}

impl AtOnce {
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn failed(&self) {
        self.0.store(1, Ordering::Relaxed);
    }

    fn succeeded(&self) {
        self.0.store(MOST.min(self.get() * 2), Ordering::Relaxed);
    }
}

/// Requests that are alike but for their keys, at the beginning of what a client has sent.
struct Reads {
    statement: Arc<StoredStatement<Prepared>>,
    read: Arc<KeyRead>,
    keys: Vec<ArrayRef>,
    /// Where each ends, and whether its portal is described.
    requests: Vec<(usize, bool)>,
    /// The columns' formats.
    format: Format,
    /// The message that describes the rows, where any portal is to be described.
    description: BytesMut,
}

impl Session {
    /// Answers the requests that `unread` begins with, as far as they are reads by key. False when it begins with
    /// something else: then nothing was done.
    pub(super) async fn answer_reads(&self, socket: &mut Socket, unread: &mut BytesMut) -> io::Result<bool> {
        let mut connection = self.connection.lock().await;
        let is_for = |read: &KeyRead| read.is_for(&connection);
        let Some(reads) = self.reads(socket, unread, is_for) else { return Ok(false) };
        let prepared = &reads.statement.statement;
        let limit = connection.statement_timeout();
        let rows = self.server.database.read_keys(&mut connection, &reads.read, &prepared.text, reads.keys.clone());
        let rows = self.limited(async { Ok(rows.await) }, limit).await;
        connection.rests();
        drop(connection);
        let length = match rows {
            // Whoever ended it is to be told.
            Err(_) if self.ended.is_ended() => return Ok(false),
            Err(error) => self.put_error(socket, &reads, error)?,
            Ok(rows) => match rows.and_then(|rows| Some((cells(&rows, &reads.format)?, rows.ends))) {
                Some((cells, ends)) => {
                    self.reads_at_once.succeeded();
                    put_rows(socket.write_buffer_mut(), &reads, &cells, &ends)
                }
                None => {
                    self.reads_at_once.failed();
                    prepared.forget_form();
                    return Ok(false);
                }
            },
        };
        unread.advance(length);
        socket.portal_store().clear_portals();
        SinkExt::<PgWireBackendMessage>::flush(socket).await?;
        Ok(true)
    }

    /// The reads by key that `unread` begins with; none when it begins with something else.
    fn reads(&self, socket: &Socket, unread: &[u8], is_for: impl Fn(&KeyRead) -> bool) -> Option<Reads> {
        let first = requests::first(unread)?;
        if !matches!(socket.state(), PgWireConnectionState::ReadyForQuery) || !self.has_nothing_open() {
            return None;
        }
        let name = if first.statement.is_empty() { DEFAULT_NAME } else { first.statement };
        let Some(Entry::Value(statement)) = socket.portal_store().get_statement(name) else { return None };
        let prepared = &statement.statement;
        let read = self.read_of(&statement).filter(|read| is_for(read))?;
        self.check_role(&prepared.statement).ok()?;
        if !first.has_formats_for(prepared.columns.as_ref()?.fields().len()) {
            return None;
        }
        let mut keys = Keys::new(&read, prepared);
        let mut requests = Vec::new();
        let mut end = 0;
        while requests.len() < self.reads_at_once.get()
            && let Some(request) = requests::first(&unread[end..])
            && request.is_like(&first)
            && keys.push(&request).is_some()
        {
            end += request.length;
            requests.push((end, request.is_described));
        }
        let keys = keys.arrays(requests.len());
        let format = format_of(first.results);
        let is_described = requests.iter().any(|(_, is_described)| *is_described);
        let description = if is_described { description(prepared, &format)? } else { BytesMut::new() };
        (!requests.is_empty()).then(|| Reads {
            read,
            keys,
            requests,
            format,
            description,
            statement: Arc::clone(&statement),
        })
    }

    /// How a statement reads by key, if it does and the client binds values of types that are taken here.
    fn read_of(&self, statement: &StoredStatement<Prepared>) -> Option<Arc<KeyRead>> {
        let prepared = &statement.statement;
        let mut known = prepared.form.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*known, ReadForm::Unknown) {
            *known = match self.server.database.read_form(&prepared.statement) {
                ReadForm::ByKey(read) if !takes(statement, &read) => ReadForm::Otherwise,
                form => form,
            };
        }
        match &*known {
            ReadForm::ByKey(read) => Some(Arc::clone(read)),
            ReadForm::Unknown | ReadForm::Otherwise => None,
        }
    }

    /// Tells that the first of some reads has failed. Gives the length of what is answered.
    fn put_error(&self, socket: &mut Socket, reads: &Reads, mut error: PgWireError) -> io::Result<usize> {
        self.on_error(socket, &mut error);
        let (end, is_described) = reads.requests[0];
        let out = socket.write_buffer_mut();
        put_begun(out, is_described.then_some(&reads.description));
        ErrorResponse::from(ErrorInfo::from(error)).encode(out).map_err(io::Error::other)?;
        out.put_slice(READY_IDLE);
        Ok(end)
    }
}

/// Whether the values that a client binds, and the columns that it was told, are those of a read.
fn takes(statement: &StoredStatement<Prepared>, read: &KeyRead) -> bool {
    let prepared = &statement.statement;
    let takes = |place: usize, own: &DataType| {
        let is_number = own.is_signed_integer();
        let is_told = match statement.parameter_types.get(place).cloned().flatten() {
            None => true,
            Some(Type::INT2 | Type::INT4 | Type::INT8) => is_number,
            Some(Type::TEXT | Type::VARCHAR) => !is_number,
            Some(_) => false,
        };
        let given = prepared.parameters.get(place);
        is_told && given.is_some_and(|given| if is_number { given.is_signed_integer() } else { given == own })
    };
    let mut places: Vec<usize> = read.key().map(|(place, _)| place).collect();
    places.sort_unstable();
    places.dedup();
    let Some(columns) = &prepared.columns else { return false };
    places.len() == prepared.parameters.len()
        && read.key().all(|(place, own)| takes(place, own))
        && read.types().eq(columns.fields().iter().map(|field| field.data_type()))
}

impl Prepared {
    /// What it reads is not as it was, or cannot be read now.
    fn forget_form(&self) {
        *self.form.lock().unwrap_or_else(PoisonError::into_inner) = ReadForm::Unknown;
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

/// Tells the rows of reads, as far as there are any. Gives the length of what is answered.
fn put_rows(out: &mut BytesMut, reads: &Reads, cells: &[BinaryArray], ends: &[usize]) -> usize {
    let (mut from, mut length) = (0, 0);
    for (end, (request, is_described)) in ends.iter().zip(&reads.requests) {
        put_begun(out, is_described.then_some(&reads.description));
        for row in from..*end {
            put_row(out, cells, row);
        }
        put_complete(out, *end - from);
        (from, length) = (*end, *request);
    }
    length
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
