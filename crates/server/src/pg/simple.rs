//! The simple query protocol: a text of one or more statements, each answered in turn.
//!
//! Statements of one text that nobody asks a transaction for are one, up to the next COMMIT, ROLLBACK or
//! BEGIN, which makes what came before it in the text a part of its transaction, as in PostgreSQL; a definition
//! commits what came before it. The first error ends the text.

use super::extended::is_write;
use super::{Session, encode, errors, status_of};
use futures::{Sink, StreamExt as _};
use highwater::{Answer, Connection, Parameters, Piece, SetScope, Statement, ToldWrite, TransactionState};
use pgwire::api::copy::send_copy_in_response;
use pgwire::api::portal::Format;
use pgwire::api::query::{SimpleQueryHandler, send_execution_response, send_query_response, send_ready_for_query};
use pgwire::api::results::{CopyResponse, Response, Tag};
use pgwire::api::store::PortalStore;
use pgwire::api::{ClientInfo, ClientPortalStore, PgWireConnectionState};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::response::{EmptyQueryResponse, TransactionStatus};
use pgwire::messages::simplequery::Query;
use std::fmt::Debug;
use std::sync::Arc;

#[async_trait::async_trait]
impl SimpleQueryHandler for Session {
    async fn on_query<C>(&self, client: &mut C, query: Query) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.go_on_without_portals(client).await?;
        self.forget_pipeline();
        client.set_state(PgWireConnectionState::QueryInProgress);
        let mut connection = self.connection.lock().await;
        let limit = connection.statement_timeout();
        let mut done = self.limited(self.text(client, &mut connection, &query.query), limit).await;
        if done.is_ok() && connection.is_in_implicit_transaction() {
            // It was begun by statements that had no Sync behind them.
            let none = Parameters::none();
            let committed = self.server.database.run(&mut connection, &Statement::Commit, "COMMIT", &none).await;
            done = committed.map(|_| ()).map_err(|error| errors::of(&error, 0));
        }
        if done.is_err() {
            connection.fail_transaction();
        }
        connection.rests();
        let status = status_of(&connection);
        client.set_transaction_status(status);
        if status == TransactionStatus::Idle {
            client.portal_store().clear_portals();
        }
        done?;
        if !matches!(client.state(), PgWireConnectionState::CopyInProgress(_)) {
            client.set_state(PgWireConnectionState::ReadyForQuery);
            self.report(client, &connection).await?;
            send_ready_for_query(client, status).await?;
        }
        Ok(())
    }

    async fn do_query<C>(&self, _: &mut C, _: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        Err(errors::error("XX000", "queries are answered as they come"))
    }
}

impl Session {
    /// Answers all statements of a text.
    async fn text<C>(&self, client: &mut C, connection: &mut Connection, text: &str) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        use futures::SinkExt as _;
        errors::check_text(text)?;
        let pieces = highwater::split(text).map_err(|error| errors::of(&error.into(), 0))?;
        if pieces.is_empty() {
            client.feed(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await?;
            return Ok(());
        }
        let parse = |piece: &Piece| {
            let parsed = highwater::parse(&piece.text);
            parsed.map_err(|error| errors::of(&error.into(), piece.start.offset - 1))
        };
        if let [piece] = pieces.as_slice() {
            let statement = parse(piece)?;
            return self.statement(client, connection, &statement, piece).await.map(|_| ());
        }
        // Of a text with a mistake in its grammar nothing is done. What is refused otherwise fails it when its
        // turn comes.
        let mut parsed: Vec<_> = pieces.iter().map(parse).collect();
        if let Some(mistake) = parsed.iter().position(is_syntax_error) {
            return parsed.swap_remove(mistake).map(|_| ());
        }
        // The writes of the transaction that nobody asked for, unless something else is told of it.
        let mut told = None;
        for (statement, piece) in parsed.into_iter().zip(&pieces) {
            let statement = statement?;
            if matches!(statement, Statement::Copy(_)) {
                return Err(errors::error("0A000", "COPY among other statements is not supported: send it alone"));
            }
            if ends_implicit(&statement) {
                self.commit_told(connection, told.take()).await?;
            }
            if is_transactional(&statement) && connection.transaction_state() == TransactionState::Idle {
                connection.begin_implicitly();
                told = Some(Vec::new());
            }
            let tag = self.statement(client, connection, &statement, piece).await?;
            told = told.zip(tag).map(|(mut told, tag)| {
                let (statement, text) = (Arc::new(statement), piece.text.as_str().into());
                told.push(ToldWrite { statement, text, parameters: Parameters::none(), tag });
                told
            });
        }
        self.commit_told(connection, told).await
    }

    /// Commits the transaction that nobody asked for, if there is one. `told` are all its statements, if they
    /// can be done again.
    async fn commit_told(&self, connection: &mut Connection, told: Option<Vec<ToldWrite>>) -> PgWireResult<()> {
        if !connection.is_in_implicit_transaction() {
            return Ok(());
        }
        let committed = self.server.database.commit_implicit(connection, told.as_deref()).await;
        committed.map_err(|error| errors::of(&error, 0))
    }

    /// Answers a statement; gives the tag of a write that told nothing else.
    async fn statement<C>(
        &self,
        client: &mut C,
        connection: &mut Connection,
        statement: &Statement,
        piece: &Piece,
    ) -> PgWireResult<Option<highwater::Tag>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let before = piece.start.offset - 1;
        self.check_role(statement)?;
        if let Statement::Copy(copy) = statement {
            let begun =
                self.server.database.begin_copy(connection, copy).map_err(|error| errors::of(&error, before))?;
            let columns = begun.columns();
            self.begin_copying(connection, begun);
            send_copy_in_response(client, CopyResponse::new(0, columns, futures::stream::empty())).await?;
            client.set_state(PgWireConnectionState::CopyInProgress(false));
            return Ok(None);
        }
        if self.deallocated(client, statement) {
            send_execution_response(client, Tag::new("DEALLOCATE")).await?;
            return Ok(None);
        }
        let answer = self.server.database.run(connection, statement, &piece.text, &Parameters::none()).await;
        let answer = answer.map_err(|error| errors::of(&error, before))?;
        self.forget_prepared(client, statement);
        if let Statement::CopyOut(copy) = statement {
            let tag = super::copy_out::send(client, answer, &copy.options).await?;
            send_execution_response(client, tag).await?;
            return Ok(None);
        }
        let told = (is_write(statement) && answer.rows.is_none()).then(|| answer.tag.clone());
        send(client, answer).await?;
        Ok(told)
    }
}

/// Whether a statement only reads and writes rows, or concerns the session alone.
const fn is_transactional(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::Query(_)
            | Statement::Insert(_)
            | Statement::Update(_)
            | Statement::Delete(_)
            | Statement::CopyOut(_)
            | Statement::Prepare(_)
            | Statement::Execute { .. }
            | Statement::Deallocate(_)
            | Statement::Set { scope: SetScope::Session | SetScope::Transaction, .. }
            | Statement::SetTransaction { .. }
            | Statement::ResetAll
            | Statement::Unlisten
            | Statement::Show(_)
            | Statement::ExplainQuery(_)
            | Statement::ExplainAnalyze(_)
    )
}

/// Whether a transaction that nobody asked for is committed before a statement: one that is part of none, or
/// COMMIT.
pub(super) const fn ends_implicit(statement: &Statement) -> bool {
    let goes_on = matches!(statement, Statement::Begin(_) | Statement::Rollback | Statement::Savepoint { .. });
    !is_transactional(statement) && !goes_on
}

/// Whether a statement is none by the grammar, however it is meant.
fn is_syntax_error(parsed: &PgWireResult<Statement>) -> bool {
    matches!(parsed, Err(PgWireError::UserError(info)) if info.code == "42601")
}

/// Sends an answer with its notices, rows and tag.
async fn send<C>(client: &mut C, answer: Answer) -> PgWireResult<()>
where
    C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    C::Error: Debug,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    use futures::SinkExt as _;
    errors::notify(client, &answer.warnings, &answer.notices).await?;
    if answer.rows.is_none() {
        return send_execution_response(client, Tag::new(&answer.tag.text(0))).await;
    }
    let counts = !matches!(answer.tag, highwater::Tag::Plain(_));
    let tag = Tag::new(&encode::verb(&answer.tag));
    let mut response = encode::response(answer, &Format::UnifiedText)?;
    if counts {
        return send_query_response(client, response, true).await;
    }
    // SHOW and its like have a tag without a number.
    let description = response.row_schema().iter().map(Into::into).collect();
    let description = pgwire::messages::data::RowDescription::new(description);
    client.feed(PgWireBackendMessage::RowDescription(description)).await?;
    while let Some(row) = response.data_rows().next().await {
        client.feed(PgWireBackendMessage::DataRow(row?)).await?;
    }
    send_execution_response(client, tag).await
}
