//! Errors and notices as the protocol carries them.

use futures::{Sink, SinkExt as _};
use highwater::{Error, Warning};
use pgwire::api::DEFAULT_NAME;
use pgwire::error::{ErrorInfo, PgWireError};
use pgwire::messages::PgWireBackendMessage;
use std::fmt::Debug;

/// An error with its SQLSTATE.
pub(super) fn error(sqlstate: &str, message: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("ERROR".to_owned(), sqlstate.to_owned(), message.into())))
}

/// An error that ends the connection.
pub(super) fn fatal(sqlstate: &str, message: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("FATAL".to_owned(), sqlstate.to_owned(), message.into())))
}

/// Another session has ended this one.
pub(super) fn terminated() -> PgWireError {
    fatal("57P01", "terminating connection due to administrator command")
}

/// pgwire's own errors as PostgreSQL tells them, where it does otherwise.
pub(super) fn in_postgres_words(failed: &PgWireError) -> Option<PgWireError> {
    Some(match failed {
        PgWireError::QueryCanceled => error("57014", "canceling statement due to user request"),
        PgWireError::PortalNotFound(name) => error("34000", format!("portal {:?} does not exist", called(name))),
        PgWireError::StatementNotFound(name) => match called(name) {
            "" => error("26000", "unnamed prepared statement does not exist"),
            name => error("26000", format!("prepared statement {name:?} does not exist")),
        },
        _ => return None,
    })
}

/// What the client calls what pgwire keeps by a name.
fn called(name: &str) -> &str {
    if name == DEFAULT_NAME { "" } else { name }
}

/// Bytes that are no text.
pub(super) fn no_text() -> PgWireError {
    error("22021", "invalid byte sequence for encoding \"UTF8\"")
}

/// Refuses a statement that is no UTF-8. pgwire has put U+FFFD where it is none, which nobody can tell from
/// one that was sent.
pub(super) fn check_text(statement: &str) -> Result<(), PgWireError> {
    if !statement.contains(char::REPLACEMENT_CHARACTER) {
        return Ok(());
    }
    let message = "invalid byte sequence for encoding \"UTF8\", or U+FFFD, which stands for one: a text that has this \
                   character is sent as a parameter, or by COPY";
    Err(error("22021", message))
}

/// The database's error. `before` characters stand in the client's text before the statement.
pub(super) fn of(failed: &Error, before: usize) -> PgWireError {
    let mut message = failed.to_string();
    let mut info = ErrorInfo::new("ERROR".to_owned(), failed.sqlstate().to_owned(), String::new());
    if let Some(position) = failed.position() {
        // The client shows the place itself.
        message = message.replace(&format!(" (at {position})"), "");
        info.position = Some((before + position.offset).to_string());
    }
    if let Some(context) = failed.context() {
        message = message.replace(&format!(" ({context})"), "");
        info.where_context = Some(context.to_owned());
    }
    info.message = message;
    PgWireError::UserError(Box::new(info))
}

/// An error with what PostgreSQL calls its CONTEXT: where it was met in what the statement does.
pub(super) fn within(failed: PgWireError, context: Option<String>) -> PgWireError {
    match failed {
        PgWireError::UserError(mut info) => {
            info.where_context = context;
            PgWireError::UserError(info)
        }
        other => other,
    }
}

/// Sends warnings and notices.
pub(super) async fn notify<C>(client: &mut C, warnings: &[Warning], notices: &[String]) -> Result<(), PgWireError>
where
    C: Sink<PgWireBackendMessage> + Unpin + Send,
    C::Error: Debug,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    let info = |severity: &str, sqlstate: &str, message: &str| {
        ErrorInfo::new(severity.to_owned(), sqlstate.to_owned(), message.to_owned())
    };
    let mut told: Vec<ErrorInfo> =
        warnings.iter().map(|warning| info("WARNING", warning.sqlstate, warning.message)).collect();
    told.extend(notices.iter().map(|notice| info("NOTICE", "00000", notice)));
    for info in told {
        client.feed(PgWireBackendMessage::NoticeResponse(info.into())).await?;
    }
    Ok(())
}
