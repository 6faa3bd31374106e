//! The connection to the server: opens it, asks for a password, runs statements, cancels, reconnects.
//!
//! Notices are shown as they come. Does not know how results and errors look.

use super::errors::Report;
use super::interrupt::Interrupt;
use super::password;
use super::print::{Column, Table};
use super::tap::{Heard, Tap};
use futures::TryStreamExt;
use std::cell::RefCell;
use std::error::Error as _;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::{AsyncMessage, Client, Config, Error, NoTls, SimpleQueryMessage};

const CLOSED: &str = "server closed the connection unexpectedly\n\t\
    This probably means the server terminated abnormally\n\tbefore or while processing the request.\n";

/// Where to connect, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The server's name or address.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
    /// The role.
    pub(crate) user: String,
    /// The database.
    pub(crate) database: String,
}

/// What one statement gave.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Its rows, when it is one that gives rows.
    pub(crate) table: Option<Table>,
    /// Its command tag.
    pub(crate) tag: String,
}

/// Why a text of statements did not get to its end.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The server refused a statement.
    Refused(Box<Report>),
    /// The connection is of no more use; the text says why.
    Lost(String),
}

/// The open connection.
#[derive(Debug)]
struct Link {
    client: Client,
    heard: Arc<Mutex<Heard>>,
    /// Moves the bytes; gives what the server said last, when that was an error of its own accord.
    task: JoinHandle<Option<Error>>,
}

/// A connection that can be opened again when it was lost.
#[derive(Debug)]
pub(crate) struct Connection {
    runtime: Runtime,
    interrupt: Interrupt,
    target: Target,
    config: Config,
    link: RefCell<Option<Link>>,
}

impl Connection {
    /// Connects; asks for a password on the terminal when the server wants one and none is known.
    ///
    /// # Errors
    /// What is to be said to the user.
    pub(crate) fn open(target: Target, password: Option<String>, interrupt: Interrupt) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let mut config = Config::new();
        config.user(&target.user).dbname(&target.database).ssl_mode(SslMode::Disable);
        config.application_name("highwater sql");
        if let Some(password) = &password {
            config.password(password);
        }
        let mut opened = runtime.block_on(reach(&interrupt, &target, &config));
        if password.is_none() && opened.as_ref().is_err_and(|refusal| refusal.wants_password) {
            config.password(password::ask(&target.user)?);
            opened = runtime.block_on(reach(&interrupt, &target, &config));
        }
        let link = RefCell::new(Some(opened.map_err(|refusal| refusal.message)?));
        Ok(Self { runtime, interrupt, target, config, link })
    }

    /// Runs a text of statements. Gives the answers to those that were done, and why the next one was not.
    pub(crate) fn run(&self, text: &str) -> (Vec<Answer>, Option<Fault>) {
        let mut answers = Vec::new();
        let mut slot = self.link.borrow_mut();
        let Some(link) = slot.as_ref() else { return (answers, Some(Fault::Lost(CLOSED.to_owned()))) };
        let work = self.interrupt.watch(link.collect(text, &mut answers), async || {
            self.cancel(&link.client).await;
            false
        });
        let fault = self.runtime.block_on(work).and_then(Result::err);
        if matches!(fault, Some(Fault::Lost(_))) && !link.client.is_closed() {
            *slot = None;
        }
        (answers, fault)
    }

    /// Opens the connection again if it was lost, and says so.
    ///
    /// # Errors
    /// The last word on why it cannot be opened.
    pub(crate) fn restore(&self) -> Result<(), String> {
        let mut slot = self.link.borrow_mut();
        if slot.as_ref().is_some_and(|link| !link.client.is_closed()) {
            return Ok(());
        }
        let said = slot.take().and_then(|link| self.runtime.block_on(link.task).ok().flatten());
        if let Some(error) = said.as_ref().and_then(Error::as_db_error) {
            eprint!("{}", Report::new(error, "").render(false));
        }
        eprint!("The connection to the server was lost. Attempting reset: ");
        let opened = self.runtime.block_on(reach(&self.interrupt, &self.target, &self.config));
        *slot = Some(opened.map_err(|refusal| format!("Failed.\n{}", refusal.message))?);
        eprintln!("Succeeded.");
        Ok(())
    }

    /// Waits; tells whether Ctrl-C ended that early.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        let wait = async { tokio::time::sleep(time).await };
        self.runtime.block_on(self.interrupt.watch(wait, async || true)).is_none()
    }

    /// Where it leads to.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// The state of the transaction: `I` idle, `T` in one, `E` in a failed one; 0 when that is not known.
    pub(crate) fn transaction(&self) -> u8 {
        let slot = self.link.borrow();
        slot.as_ref().filter(|link| !link.client.is_closed()).map_or(0, |link| heard(&link.heard).transaction)
    }

    async fn cancel(&self, client: &Client) {
        let asked = async {
            let stream = TcpStream::connect((self.target.host.as_str(), self.target.port)).await.ok()?;
            client.cancel_token().cancel_query_raw(stream, NoTls).await.ok()
        };
        match tokio::time::timeout(Duration::from_secs(5), asked).await {
            Ok(Some(())) => eprintln!("Cancel request sent"),
            _ => eprintln!("Could not send cancel request"),
        }
    }
}

impl Drop for Connection {
    /// Says goodbye, so that the server need not report a lost client.
    fn drop(&mut self) {
        if let Some(Link { client, task, .. }) = self.link.get_mut().take() {
            drop(client);
            let _late = self.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(1), task).await });
        }
    }
}

/// Why no connection was opened.
struct Refusal {
    wants_password: bool,
    message: String,
}

/// Opens a connection; Ctrl-C ends the attempt.
async fn reach(interrupt: &Interrupt, target: &Target, config: &Config) -> Result<Link, Refusal> {
    let stopped = || Refusal { wants_password: false, message: "interrupted while connecting\n".to_owned() };
    interrupt.watch(Link::open(target, config), async || true).await.unwrap_or_else(|| Err(stopped()))
}

impl Link {
    async fn open(target: &Target, config: &Config) -> Result<Self, Refusal> {
        let Target { host, port, .. } = target;
        let said = Arc::new(Mutex::new(Heard::default()));
        let refusal = |text: &str| Refusal {
            wants_password: heard(&said).wants_password,
            message: format!("connection to server at \"{host}\", port {port} failed: {}\n", text.trim_end()),
        };
        let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|error| {
            let hint = "\n\tIs the server running on that host and accepting TCP/IP connections?";
            let refused = error.kind() == std::io::ErrorKind::ConnectionRefused;
            refusal(&if refused { format!("Connection refused{hint}") } else { error.to_string() })
        })?;
        let delay = stream.set_nodelay(true);
        delay.map_err(|error| refusal(&error.to_string()))?;
        let opened = config.connect_raw(Tap::new(stream, said.clone()), NoTls).await;
        let (client, mut connection) = opened.map_err(|error| match (error.as_db_error(), error.source()) {
            (Some(error), _) => refusal(&Report::new(error, "").render(false)),
            (None, Some(source)) => refusal(&source.to_string()),
            (None, None) => refusal(&error.to_string()),
        })?;
        let task = tokio::spawn(async move {
            loop {
                match poll_fn(|cx| connection.poll_message(cx)).await {
                    Some(Ok(AsyncMessage::Notice(notice))) => eprint!("{}", Report::new(&notice, "").render(false)),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Some(error),
                    None => return None,
                }
            }
        });
        Ok(Self { client, heard: said, task })
    }

    /// Sends a text and takes in all that is answered.
    async fn collect(&self, text: &str, answers: &mut Vec<Answer>) -> Result<(), Fault> {
        heard(&self.heard).forget();
        let stream = self.client.simple_query_raw(text).await.map_err(|error| lost(&error))?;
        let mut stream = pin!(stream);
        let (mut table, mut refused) = (None, None);
        loop {
            match stream.try_next().await {
                Ok(Some(SimpleQueryMessage::RowDescription(columns))) => {
                    let types = heard(&self.heard).types.pop_front().unwrap_or_default();
                    let types = types.into_iter().chain(std::iter::repeat(0));
                    let columns = columns.iter().zip(types).map(|(column, oid)| Column::new(column.name(), oid));
                    table = Some(Table { columns: columns.collect(), rows: Vec::new() });
                }
                Ok(Some(SimpleQueryMessage::Row(row))) => {
                    let values = (0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect();
                    table.get_or_insert_with(Table::default).rows.push(values);
                }
                Ok(Some(SimpleQueryMessage::CommandComplete(_))) => {
                    let tag = heard(&self.heard).tags.pop_front().unwrap_or_default();
                    answers.push(Answer { table: table.take(), tag });
                }
                Ok(Some(_)) => {}
                Ok(None) => return refused.map_or(Ok(()), Err),
                Err(error) => match error.as_db_error() {
                    Some(error) => refused = Some(Fault::Refused(Box::new(Report::new(error, text)))),
                    None => return Err(refused.unwrap_or_else(|| lost(&error))),
                },
            }
        }
    }
}

fn heard(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lost(error: &Error) -> Fault {
    Fault::Lost(if error.is_closed() {
        CLOSED.to_owned()
    } else {
        format!("{error}: this shell cannot go on from it; COPY with standard input or output needs psql\n")
    })
}
