//! PostgreSQL's protocol: what one client connection does with the database.
//!
//! The crate pgwire reads and writes messages and keeps prepared statements and portals; arrow-pg
//! turns batches into rows. Here stands what is ours: sessions, errors, notices, roles, limits, and a shorter
//! way for reads by key ([`reads`]).

mod binary;
mod copy;
mod copy_out;
mod encode;
mod errors;
mod extended;
mod frames;
mod messages;
mod parameters;
mod pipeline;
mod reads;
mod requests;
mod settings;
mod simple;
mod startup;

pub(crate) use messages::serve;

use crate::users::{Role, Users};
use highwater::{Canceller, Connection, Database, Statement, TransactionState};
use pgwire::api::cancel::CancelHandler;
use pgwire::api::{ClientInfo, ConnectionManager, ErrorHandler};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::response::TransactionStatus;
use settings::Settings;
use std::collections::{BTreeSet, HashMap};
use std::hash::RandomState;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// What all connections of a server share.
pub(crate) struct Server {
    pub(crate) database: Arc<Database>,
    pub(crate) users: Users,
    /// Gives salts to names that are nobody's.
    nobody: RandomState,
    /// One permit a connection.
    connections: Arc<Semaphore>,
    manager: Arc<ConnectionManager>,
    /// By process number, what ends the statement under way.
    cancellers: Mutex<HashMap<i32, Cancel>>,
}

impl Server {
    pub(crate) fn new(database: Arc<Database>, users: Users, connections: usize) -> Self {
        Self {
            database,
            users,
            nobody: RandomState::new(),
            connections: Arc::new(Semaphore::new(connections)),
            manager: Arc::default(),
            cancellers: Mutex::default(),
        }
    }

    fn cancellers(&self) -> std::sync::MutexGuard<'_, HashMap<i32, Cancel>> {
        self.cancellers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the statement under way: the first half when it blocks, the second when it waits.
struct Cancel(Canceller, Arc<Notify>);

/// Whether another session has ended this one.
#[derive(Default)]
struct Ended {
    is_ended: AtomicBool,
    told: Notify,
}

impl Ended {
    fn end(&self) {
        self.is_ended.store(true, Ordering::Relaxed);
        self.told.notify_one();
    }

    fn is_ended(&self) -> bool {
        self.is_ended.load(Ordering::Relaxed)
    }
}

/// One client's connection.
pub(crate) struct Session {
    server: Arc<Server>,
    startup: startup::Startup,
    connection: Arc<tokio::sync::Mutex<Connection>>,
    cancelled: Arc<Notify>,
    canceller: Canceller,
    copy: Mutex<Option<copy::Copying>>,
    pipeline: Mutex<pipeline::Pipeline>,
    reads_at_once: reads::AtOnce,
    /// The names of statements that the client has prepared by the protocol.
    prepared: Mutex<BTreeSet<String>>,
    role: Mutex<Role>,
    /// The settings that the client knows of.
    reported: Mutex<Settings>,
    /// Told when another session ends this one.
    ended: Arc<Ended>,
    /// Its number among all connections, once it is admitted.
    number: Mutex<Option<i32>>,
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Session {
    pub(crate) fn new(server: &Arc<Server>) -> Arc<Self> {
        let connection = server.database.connect();
        Arc::new(Self {
            startup: startup::Startup::new(server),
            canceller: connection.canceller(),
            connection: Arc::new(tokio::sync::Mutex::new(connection)),
            cancelled: Arc::default(),
            server: Arc::clone(server),
            copy: Mutex::default(),
            pipeline: Mutex::default(),
            reads_at_once: reads::AtOnce::default(),
            prepared: Mutex::default(),
            role: Mutex::new(Role::Reader),
            reported: Mutex::default(),
            ended: Arc::default(),
            number: Mutex::default(),
            permit: Mutex::default(),
        })
    }

    /// Work that ends with an error when it is cancelled, or takes longer than a statement may.
    async fn limited<T>(
        &self,
        work: impl Future<Output = PgWireResult<T>>,
        limit: Option<Duration>,
    ) -> PgWireResult<T> {
        let timeout = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        // What blocks does not see that the time is over here; it looks at the canceller.
        let canceller = self.canceller.clone();
        let watchdog = limit.map(|limit| {
            tokio::spawn(async move {
                tokio::time::sleep(limit).await;
                canceller.time_out();
            })
        });
        let mut work = std::pin::pin!(work);
        let done = tokio::select! {
            done = &mut work => Ok(done),
            () = self.cancelled.notified() => Err("user request"),
            () = timeout => Err("statement timeout"),
        };
        if let Some(watchdog) = watchdog {
            watchdog.abort();
        }
        match done {
            Ok(done) => done,
            // It is too late: what is being written will be, and the client is told so.
            Err(_) if self.canceller.is_committing() => work.await,
            Err(by) => Err(errors::error("57014", format!("canceling statement due to {by}"))),
        }
    }

    /// Refuses what the client's role may not do.
    fn check_role(&self, statement: &Statement) -> Result<(), PgWireError> {
        let role = *self.role.lock().unwrap_or_else(PoisonError::into_inner);
        if role.may(statement) {
            return Ok(());
        }
        let needed = Role::needed(statement);
        Err(errors::error("42501", format!("permission denied: role {role} may not do this, role {needed} may")))
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

impl ErrorHandler for Session {
    fn on_error<C: ClientInfo>(&self, _: &C, error: &mut PgWireError) {
        // Whatever failed, the transaction has. Messages are handled one after another, so that
        // nobody else holds the connection.
        self.forget_pipeline();
        if let Ok(mut connection) = self.connection.try_lock() {
            connection.fail_transaction();
        }
        if let Some(told) = errors::in_postgres_words(error) {
            *error = told;
        }
        tracing::debug!(%error, "told a client");
    }
}

#[async_trait::async_trait]
impl CancelHandler for Session {
    async fn on_cancel_request(&self, request: CancelRequest) {
        if self.server.manager.cancel(request.pid, &request.secret_key).await
            && let Some(Cancel(blocked, waits)) = self.server.cancellers().get(&request.pid)
        {
            blocked.cancel();
            waits.notify_waiters();
        }
    }
}
