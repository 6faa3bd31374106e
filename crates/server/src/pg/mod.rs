//! PostgreSQL's protocol: what one client connection does with the database.
//!
//! The crate pgwire reads and writes messages and keeps prepared statements and portals; arrow-pg
//! turns batches into rows. Here stands what is ours: sessions, errors, notices, roles, limits.

mod copy;
mod encode;
mod errors;
mod extended;
mod simple;
mod startup;

use crate::users::{Role, Users};
use highwater::{Canceller, Connection, CopyIn, Database, Statement, TransactionState};
use pgwire::api::cancel::CancelHandler;
use pgwire::api::{ClientInfo, ConnectionManager, ErrorHandler, PgWireServerHandlers};
use pgwire::error::PgWireError;
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::response::TransactionStatus;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What all connections of a server share.
pub(crate) struct Server {
    pub(crate) database: Arc<Database>,
    pub(crate) users: Users,
    /// One permit a connection.
    connections: Arc<Semaphore>,
    manager: Arc<ConnectionManager>,
    /// By process number, what cancels the statement that blocks.
    cancellers: Mutex<HashMap<i32, Canceller>>,
}

impl Server {
    pub(crate) fn new(database: Arc<Database>, users: Users, connections: usize) -> Self {
        Self {
            database,
            users,
            connections: Arc::new(Semaphore::new(connections)),
            manager: Arc::default(),
            cancellers: Mutex::default(),
        }
    }

    fn cancellers(&self) -> std::sync::MutexGuard<'_, HashMap<i32, Canceller>> {
        self.cancellers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One client's connection.
pub(crate) struct Session {
    server: Arc<Server>,
    startup: startup::Startup,
    connection: tokio::sync::Mutex<Connection>,
    copy: Mutex<Option<CopyIn>>,
    role: Mutex<Role>,
    /// Its number among all connections, once it is admitted.
    number: Mutex<Option<i32>>,
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Session {
    pub(crate) fn new(server: &Arc<Server>) -> Arc<Self> {
        Arc::new(Self {
            startup: startup::Startup::new(server),
            connection: tokio::sync::Mutex::new(server.database.connect()),
            server: Arc::clone(server),
            copy: Mutex::default(),
            role: Mutex::new(Role::Reader),
            number: Mutex::default(),
            permit: Mutex::default(),
        })
    }

    /// Refuses what the client's role may not do.
    fn check_role(&self, statement: &Statement) -> Result<(), PgWireError> {
        let role = *self.role.lock().unwrap_or_else(PoisonError::into_inner);
        if role.may(statement) {
            return Ok(());
        }
        Err(errors::error("42501", format!("permission denied: role {role} may not do this")))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(number) = self.number.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.server.cancellers().remove(&number);
        }
    }
}

fn status_of(connection: &Connection) -> TransactionStatus {
    match connection.transaction_state() {
        TransactionState::Idle => TransactionStatus::Idle,
        TransactionState::Open => TransactionStatus::Transaction,
        TransactionState::Failed => TransactionStatus::Error,
    }
}

/// The handlers of one connection, as pgwire wants them.
pub(crate) struct Handlers(pub(crate) Arc<Session>);

impl PgWireServerHandlers for Handlers {
    fn simple_query_handler(&self) -> Arc<impl pgwire::api::query::SimpleQueryHandler> {
        Arc::clone(&self.0)
    }

    fn extended_query_handler(&self) -> Arc<impl pgwire::api::query::ExtendedQueryHandler> {
        Arc::clone(&self.0)
    }

    fn startup_handler(&self) -> Arc<impl pgwire::api::auth::StartupHandler> {
        Arc::clone(&self.0)
    }

    fn copy_handler(&self) -> Arc<impl pgwire::api::copy::CopyHandler> {
        Arc::clone(&self.0)
    }

    fn error_handler(&self) -> Arc<impl ErrorHandler> {
        Arc::clone(&self.0)
    }

    fn cancel_handler(&self) -> Arc<impl CancelHandler> {
        Arc::clone(&self.0)
    }
}

impl ErrorHandler for Session {
    fn on_error<C: ClientInfo>(&self, _: &C, error: &mut PgWireError) {
        if matches!(error, PgWireError::QueryCanceled) {
            *error = errors::error("57014", "canceling statement due to user request");
        }
        tracing::debug!(%error, "told a client");
    }
}

#[async_trait::async_trait]
impl CancelHandler for Session {
    async fn on_cancel_request(&self, request: CancelRequest) {
        if self.server.manager.cancel(request.pid, &request.secret_key).await
            && let Some(canceller) = self.server.cancellers().get(&request.pid)
        {
            canceller.cancel();
        }
    }
}
