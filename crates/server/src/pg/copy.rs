//! COPY FROM STDIN over the protocol. It is one statement from its text to the end of its data: it ends, too, when
//! that takes longer than a statement may, or when somebody cancels it, whether the client sends anything or not.

use super::{Session, errors, status_of};
use futures::Sink;
use highwater::{Connection, CopyIn};
use pgwire::api::ClientInfo;
use pgwire::api::copy::CopyHandler;
use pgwire::api::query::send_execution_response;
use pgwire::api::results::Tag;
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::copy::{CopyData, CopyDone, CopyFail};
use std::fmt::Debug;
use std::sync::PoisonError;
use tokio::time::Instant;

/// A COPY whose data is not all there.
pub(super) struct Copying {
    copy: CopyIn,
    /// When it has taken as long as a statement may.
    until: Option<Instant>,
}

impl Session {
    /// From now on the client sends data.
    pub(super) fn begin_copying(&self, connection: &Connection, copy: CopyIn) {
        let until = connection.statement_timeout().and_then(|limit| Instant::now().checked_add(limit));
        self.keep_copy(Some(Copying { copy, until }));
    }

    fn keep_copy(&self, copying: Option<Copying>) {
        *self.copy.lock().unwrap_or_else(PoisonError::into_inner) = copying;
    }

    /// What is under way, if anything is; it is over then.
    pub(super) fn take_copy(&self) -> Option<Copying> {
        self.copy.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits until a COPY has to end before its data does, and ends it; for ever when there is none.
    pub(super) async fn copy_over(&self) -> PgWireError {
        let until = self.copy.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|copying| copying.until);
        let Some(until) = until else { return std::future::pending().await };
        let late = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        // One that comes between the look and the wait is heard, too.
        let cancelled = self.cancelled.notified();
        let by = if self.canceller.is_cancelled() {
            "user request"
        } else {
            tokio::select! {
                () = late => "statement timeout",
                () = cancelled => "user request",
            }
        };
        let place = self.take_copy().map(|copying| copying.copy.place());
        errors::within(errors::error("57014", format!("canceling statement due to {by}")), place)
    }
}

#[async_trait::async_trait]
impl CopyHandler for Session {
    async fn on_copy_data<C>(&self, _: &mut C, data: CopyData) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let Some(mut copying) = self.take_copy() else { return Ok(()) };
        self.server.database.push_copy(&mut copying.copy, &data.data).map_err(|error| errors::of(&error, 0))?;
        self.keep_copy(Some(copying));
        Ok(())
    }

    async fn on_copy_done<C>(&self, client: &mut C, _: CopyDone) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let copying = self.take_copy().ok_or_else(|| errors::error("08P01", "no COPY is under way"))?;
        let left = copying.until.map(|until| until.saturating_duration_since(Instant::now()));
        let mut connection = self.connection.lock().await;
        let end = async {
            let done = self.server.database.end_copy(&mut connection, copying.copy).await;
            done.map_err(|error| errors::of(&error, 0))
        };
        let done = self.limited(end, left).await;
        if done.is_err() {
            connection.fail_transaction();
        }
        connection.rests();
        client.set_transaction_status(status_of(&connection));
        let answer = done?;
        send_execution_response(client, Tag::new(&answer.tag.text(0))).await
    }

    async fn on_copy_fail<C>(&self, _: &mut C, fail: CopyFail) -> PgWireError
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let place = self.take_copy().map(|copying| copying.copy.place());
        let failed = errors::error("57014", format!("COPY from stdin failed: {}", fail.message));
        errors::within(failed, place)
    }
}
