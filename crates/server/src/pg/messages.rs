//! One client's messages, from the first to the last.
//!
//! Bytes are read here; pgwire decodes and dispatches them when they are whole messages that it can decode, and no
//! reads by key, which are answered together.
//! It does not know function calls (libpq's `PQfn`): these are refused here as a statement is, and the
//! connection goes on.

use super::extended::Prepared;
use super::frames::{self, Phase};
use super::{Session, errors, status_of};
use bytes::BytesMut;
use futures::Sink;
use pgwire::api::{ClientInfo, ErrorHandler as _, PgWireConnectionState};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use pgwire::tokio::server::{MaybeTls, PgWireMessageServerCodec, negotiate_tls, process_error, process_message};
use std::fmt::Debug;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::codec::{Decoder as _, Framed};

/// How long a client may take until it is let in.
const STARTUP: Duration = Duration::from_secs(60);
/// Bytes that are read at once, if they are there.
const READ_AHEAD: usize = 8 << 10;

/// It is written to; its own way to read decodes whatever comes.
pub(super) type Socket = Framed<MaybeTls, PgWireMessageServerCodec<Prepared>>;

/// Serves a client until it goes.
///
/// # Errors
/// Those of the socket.
pub(crate) async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, session: Arc<Session>) -> io::Result<()> {
    let mut startup = pin!(tokio::time::sleep(STARTUP));
    let negotiated = tokio::select! {
        negotiated = negotiate_tls(stream, tls) => negotiated?,
        () = &mut startup => return Ok(()),
    };
    let Some(mut socket): Option<Socket> = negotiated else { return Ok(()) };
    let mut unread = std::mem::take(socket.read_buffer_mut());
    let mut has_mechanism = false;
    loop {
        let state = socket.state();
        let phase = match state {
            PgWireConnectionState::AwaitingStartup => Phase::Startup,
            PgWireConnectionState::AuthenticationInProgress if has_mechanism => Phase::Password,
            PgWireConnectionState::AuthenticationInProgress => Phase::Mechanism,
            _ => Phase::Statements,
        };
        let read = if phase == Phase::Statements {
            tokio::select! {
                biased;
                () = session.ended.told.notified() => return tell_last(&mut socket, errors::terminated()).await,
                late = session.copy_over(), if matches!(state, PgWireConnectionState::CopyInProgress(_)) => {
                    let waits_for_sync = matches!(state, PgWireConnectionState::CopyInProgress(true));
                    if !tell(&mut socket, &session, late, phase, waits_for_sync).await? {
                        return Ok(());
                    }
                    continue;
                }
                read = wait_for_message(&mut socket, &mut unread, phase) => read,
            }
        } else {
            tokio::select! {
                read = wait_for_message(&mut socket, &mut unread, phase) => read,
                () = &mut startup => return Ok(()),
            }
        };
        let length = match read {
            Ok(Some(length)) => length,
            Ok(None) => return Ok(()),
            Err(why) => return tell_last(&mut socket, errors::fatal("08P01", why)).await,
        };
        if phase == Phase::Statements && session.answer_reads(&mut socket, &mut unread).await? {
            continue;
        }
        let message = unread.split_to(length);
        has_mechanism |= phase == Phase::Mechanism;
        let kind = message.first().copied().filter(|_| phase != Phase::Startup);
        if kind == Some(frames::TERMINATE) {
            return Ok(());
        }
        let waits_for_sync = match state {
            // PostgreSQL does not look into them either.
            PgWireConnectionState::AwaitingSync if kind != Some(frames::SYNC) => continue,
            PgWireConnectionState::CopyInProgress(is_extended) => is_extended,
            _ => kind.is_some_and(frames::is_of_pipeline),
        };
        if let Err(error) = handle(&mut socket, message, phase, &session).await
            && !tell(&mut socket, &session, error, phase, waits_for_sync).await?
        {
            return Ok(());
        }
    }
}

/// Tells an error. Whether anything comes behind it.
async fn tell(
    socket: &mut Socket,
    session: &Session,
    mut error: PgWireError,
    phase: Phase,
    waits_for_sync: bool,
) -> io::Result<bool> {
    session.take_copy();
    session.on_error(&*socket, &mut error);
    if session.ended.is_ended() {
        tell_last(socket, errors::terminated()).await?;
        return Ok(false);
    }
    let info = ErrorInfo::from(error);
    let is_last = info.is_fatal() || phase != Phase::Statements;
    let error = PgWireError::UserError(Box::new(info));
    if is_last {
        tell_last(socket, error).await?;
        return Ok(false);
    }
    if !waits_for_sync {
        let connection = session.connection.lock().await;
        session.report(socket, &connection).await?;
    }
    process_error(socket, error, waits_for_sync).await?;
    Ok(true)
}

/// Tells an error behind which nothing comes.
async fn tell_last(socket: &mut Socket, error: PgWireError) -> io::Result<()> {
    // What waits for Sync is not told that the server is ready.
    process_error(socket, error, true).await
}

/// Reads until the next message is there as a whole, and tells its length; none when the client has gone. Nothing
/// is lost when this is dropped.
async fn wait_for_message(socket: &mut Socket, unread: &mut BytesMut, phase: Phase) -> Result<Option<usize>, String> {
    loop {
        if let Some(length) = frames::first(unread, phase)? {
            return Ok(Some(length));
        }
        unread.reserve(READ_AHEAD);
        match socket.get_mut().read_buf(unread).await {
            Ok(read) if read > 0 => {}
            _ => return Ok(None),
        }
    }
}

/// Decodes a message and does what it asks for.
async fn handle(socket: &mut Socket, mut message: BytesMut, phase: Phase, session: &Arc<Session>) -> PgWireResult<()> {
    let kind = message[0];
    if matches!(socket.state(), PgWireConnectionState::CopyInProgress(_)) && !frames::is_of_copy(kind) {
        return Err(errors::error("08P01", format!("unexpected message type 0x{kind:02X} during COPY from stdin")));
    }
    if let Err(why) = frames::check(&message, phase) {
        if phase != Phase::Statements {
            return Err(errors::fatal("08P01", why));
        }
        return session.refuse(socket, errors::error("08P01", why)).await;
    }
    if phase == Phase::Statements && kind == frames::FUNCTION_CALL {
        let why = "function calls by the protocol are not supported: call functions in SELECT";
        return session.refuse(socket, errors::error("0A000", why)).await;
    }
    match socket.codec_mut().decode(&mut message)? {
        Some(message) => dispatch(socket, message, session).await,
        None => Err(errors::fatal("08P01", "invalid message format")),
    }
}

/// Does what a message asks for.
async fn dispatch(socket: &mut Socket, message: PgWireFrontendMessage, session: &Arc<Session>) -> PgWireResult<()> {
    let handler = || Arc::clone(session);
    process_message(message, socket, handler(), handler(), handler(), handler(), handler()).await
}

impl Session {
    /// Refuses a message, behind those before it. It fails the transaction, as a statement does.
    async fn refuse<C>(&self, client: &mut C, error: PgWireError) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.go_on_without_portals(client).await?;
        let mut connection = self.connection.lock().await;
        connection.fail_transaction();
        client.set_transaction_status(status_of(&connection));
        Err(error)
    }
}
