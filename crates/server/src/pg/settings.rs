//! Settings that clients are told of when they change, as PostgreSQL does: by ParameterStatus, before they are
//! told that the server is ready.

use super::Session;
use futures::{Sink, SinkExt as _};
use highwater::Connection;
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::startup::ParameterStatus;
use std::fmt::Debug;
use std::sync::PoisonError;

/// The settings, as the protocol calls them and as they are kept.
const REPORTED: [(&str, &str); 7] = [
    ("application_name", "application_name"),
    ("client_encoding", "client_encoding"),
    ("DateStyle", "datestyle"),
    ("default_transaction_read_only", "default_transaction_read_only"),
    ("IntervalStyle", "intervalstyle"),
    ("standard_conforming_strings", "standard_conforming_strings"),
    ("TimeZone", "timezone"),
];

/// Their values, in the same order.
pub(super) type Settings = [String; REPORTED.len()];

/// What a connection has set.
pub(super) fn of(connection: &Connection) -> Settings {
    REPORTED.map(|(_, key)| connection.setting(key).unwrap_or_default().to_owned())
}

/// The settings with their names.
pub(super) fn named(settings: Settings) -> impl Iterator<Item = (String, String)> {
    REPORTED.into_iter().zip(settings).map(|((name, _), value)| (name.to_owned(), value))
}

impl Session {
    /// Keeps what the client was told when it came.
    pub(super) fn keep_reported(&self, settings: Settings) {
        *self.reported.lock().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// Tells what has changed since it was told last.
    pub(super) async fn report<C>(&self, client: &mut C, connection: &Connection) -> PgWireResult<()>
    where
        C: Sink<PgWireBackendMessage> + Unpin + Send,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        for status in self.unreported(connection) {
            client.feed(PgWireBackendMessage::ParameterStatus(status)).await?;
        }
        Ok(())
    }

    fn unreported(&self, connection: &Connection) -> Vec<ParameterStatus> {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = REPORTED.iter().zip(reported.iter_mut()).filter_map(|((name, key), told)| {
            let value = connection.setting(key).unwrap_or_default();
            (value != told.as_str()).then(|| {
                value.clone_into(told);
                ParameterStatus::new((*name).to_owned(), value.to_owned())
            })
        });
        changed.collect()
    }
}
