//! COPY FROM STDIN over the protocol.

use super::{Session, errors, status_of};
use futures::Sink;
use highwater::CopyIn;
use pgwire::api::ClientInfo;
use pgwire::api::copy::CopyHandler;
use pgwire::api::query::send_execution_response;
use pgwire::api::results::Tag;
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::copy::{CopyData, CopyDone, CopyFail};
use std::fmt::Debug;
use std::sync::PoisonError;

impl Session {
    fn take_copy(&self) -> Option<CopyIn> {
        self.copy.lock().unwrap_or_else(PoisonError::into_inner).take()
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
        let Some(mut copy) = self.take_copy() else { return Ok(()) };
        self.server.database.push_copy(&mut copy, &data.data).map_err(|error| errors::of(&error, 0))?;
        *self.copy.lock().unwrap_or_else(PoisonError::into_inner) = Some(copy);
        Ok(())
    }

    async fn on_copy_done<C>(&self, client: &mut C, _: CopyDone) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let copy = self.take_copy().ok_or_else(|| errors::error("08P01", "no COPY is under way"))?;
        let mut connection = self.connection.lock().await;
        let done = self.server.database.end_copy(&mut connection, copy).await;
        client.set_transaction_status(status_of(&connection));
        let answer = done.map_err(|error| errors::of(&error, 0))?;
        send_execution_response(client, Tag::new(&answer.tag.text(0))).await
    }

    async fn on_copy_fail<C>(&self, _: &mut C, fail: CopyFail) -> PgWireError
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.take_copy();
        errors::error("57014", format!("COPY from stdin failed: {}", fail.message))
    }
}
