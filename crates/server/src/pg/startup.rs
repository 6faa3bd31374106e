//! The beginning of a connection: who it is, whether it may come in, what it is told.

use super::{Cancel, Server, Session, errors, settings};
use crate::users::{ITERATIONS, Role};
use futures::Sink;
use highwater::{Client, Connection, Ending};
use pgwire::api::auth::sasl::SASLAuthStartupHandler;
use pgwire::api::auth::sasl::scram::ScramAuth;
use pgwire::api::auth::{
    AuthSource, DefaultServerParameterProvider, LoginInfo, Password, ServerParameterProvider, StartupHandler,
    finish_authentication, protocol_negotiation, save_startup_parameters_to_metadata,
};
use pgwire::api::{
    ClientInfo, METADATA_DATABASE, METADATA_USER, PgWireConnectionState, PidSecretKeyGenerator as _,
    RandomPidSecretKeyGenerator,
};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, LazyLock, PoisonError};

/// Numbers of connections are never used twice in a process.
static NUMBERS: LazyLock<Arc<RandomPidSecretKeyGenerator>> = LazyLock::new(Arc::default);

/// How connections begin.
pub(super) struct Startup {
    scram: Option<SASLAuthStartupHandler<Told>>,
}

/// What a client is told of the server and of its own settings.
struct Told(Arc<Server>);

impl ServerParameterProvider for Told {
    fn server_parameters<C: ClientInfo>(&self, client: &C) -> Option<HashMap<String, String>> {
        let mut provider = DefaultServerParameterProvider::default();
        provider.server_version = highwater::SERVER_VERSION.to_owned();
        let mut told = provider.server_parameters(client)?;
        let mut connection = self.0.database.connect();
        take_settings(client, &mut connection);
        told.extend(settings::named(settings::of(&connection)));
        Some(told)
    }
}

/// Takes the settings that a client wants from the start, and goes back to; those by their names go before its
/// options.
fn take_settings<C: ClientInfo>(client: &C, connection: &mut Connection) {
    let is_setting =
        |key: &str| !["user", "database", "replication", "options"].contains(&key) && !key.starts_with("_pq_");
    let mut settings = client.metadata().get("options").map(|options| of_options(options)).unwrap_or_default();
    let named = client.metadata().iter().filter(|(key, _)| is_setting(key));
    settings.extend(named.map(|(key, value)| (key.to_ascii_lowercase(), value.clone())));
    for (key, value) in settings {
        if let Err(error) = connection.set(&key, &value) {
            tracing::debug!(setting = key, %error, "a client's setting cannot be used");
        }
    }
    connection.keep_as_defaults();
}

/// The settings among the options of a client, as libpq's `PGOPTIONS` has them: `-c name=value` and `--name=value`,
/// with a backslash before spaces that part nothing.
fn of_options(options: &str) -> Vec<(String, String)> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        if character.is_ascii_whitespace() {
            words.extend(word.take());
        } else {
            let own = if character == '\\' { characters.next() } else { Some(character) };
            word.get_or_insert_default().extend(own);
        }
    }
    words.extend(word);
    let mut settings = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let setting = match (word.strip_prefix("--"), word.strip_prefix("-c")) {
            (Some(setting), _) => Some(setting.to_owned()),
            (None, Some("")) => words.next(),
            (None, setting) => setting.map(str::to_owned),
        };
        if let Some((name, value)) = setting.as_deref().and_then(|setting| setting.split_once('=')) {
            settings.push((name.replace('-', "_").to_ascii_lowercase(), value.to_owned()));
        }
    }
    settings
}

/// Where SCRAM finds what it knows of a user. Names that it does not know get a salt of their own,
/// always the same, so that nobody learns who exists.
struct Known(Arc<Server>, RandomState);

impl Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Known")
    }
}

#[async_trait::async_trait]
impl AuthSource for Known {
    async fn get_password(&self, login: &LoginInfo) -> PgWireResult<Password> {
        let name = login.user().unwrap_or_default();
        let Some(user) = self.0.users.get(name) else { return Ok(self.nobody(name)) };
        Ok(Password::new(Some(user.salt.clone()), user.salted_password.clone()))
    }
}

impl Known {
    /// What no password gives.
    fn nobody(&self, name: &str) -> Password {
        let bytes =
            |count: u64| (0..count).flat_map(|part| self.1.hash_one((name, count, part)).to_be_bytes()).collect();
        Password::new(Some(bytes(2)), bytes(4))
    }
}

fn refused(name: &str) -> PgWireError {
    errors::fatal("28P01", format!("password authentication failed for user {name:?}"))
}

impl Startup {
    pub(super) fn new(server: &Arc<Server>) -> Self {
        let scram = (!server.users.is_empty()).then(|| {
            let mut scram = ScramAuth::new(Arc::new(Known(Arc::clone(server), server.nobody.clone())));
            scram.set_iterations(ITERATIONS);
            let numbers = Arc::clone(&NUMBERS);
            SASLAuthStartupHandler::new(Arc::new(Told(Arc::clone(server))))
                .with_scram(scram)
                .with_pid_secret_key_generator(numbers)
        });
        Self { scram }
    }
}

#[async_trait::async_trait]
impl StartupHandler for Session {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if matches!(message, PgWireFrontendMessage::Startup(_)) {
            let permit = Arc::clone(&self.server.connections).try_acquire_owned();
            let permit = permit.map_err(|_| errors::fatal("53300", "sorry, too many clients already"))?;
            *self.permit.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
        }
        match &self.startup.scram {
            Some(scram) => {
                let user = client.metadata().get(METADATA_USER).cloned().unwrap_or_default();
                let done = scram.on_startup(client, message).await;
                done.map_err(|error| match error {
                    PgWireError::UserError(_) | PgWireError::IoError(_) => error,
                    _ => refused(&user),
                })?;
                if !matches!(client.state(), PgWireConnectionState::ReadyForQuery) {
                    return Ok(());
                }
            }
            None => {
                if let PgWireFrontendMessage::Startup(startup) = &message {
                    protocol_negotiation(client, startup).await?;
                    save_startup_parameters_to_metadata(client, startup);
                    let (number, secret) = NUMBERS.generate(client);
                    client.set_pid_and_secret_key(number, secret);
                    finish_authentication(client, &Told(Arc::clone(&self.server))).await?;
                }
            }
        }
        self.admit(client).await;
        Ok(())
    }
}

impl Session {
    /// Others see it from now on, and may end it or its statements.
    fn seat<C: ClientInfo>(&self, client: &C, connection: &mut Connection, number: i32, role: Role) {
        let (canceller, cancelled, ended) =
            (connection.canceller(), Arc::clone(&self.cancelled), Arc::clone(&self.ended));
        let end = move |ending: Ending| {
            if ending == Ending::Session {
                ended.end();
            }
            canceller.cancel();
            cancelled.notify_waiters();
        };
        let client = Client {
            number,
            user: connection.user().to_owned(),
            database: client.metadata().get(METADATA_DATABASE).map_or("highwater", String::as_str).to_owned(),
            address: client.socket_addr(),
            is_admin: role == Role::Admin,
        };
        self.server.database.admit(connection, client, end);
    }

    /// The client is who it says: from now on it can be cancelled, and has its role and settings.
    async fn admit<C: ClientInfo>(&self, client: &C) {
        let (number, secret) = client.pid_and_secret_key();
        // With its handle at hand pgwire would drop a statement that is cancelled, also one whose writes
        // are on their way to the disk; `limited` knows when it must not.
        let (_, guard) = self.server.manager.register(number, secret);
        client.session_extensions().insert(guard);
        let mut connection = self.connection.lock().await;
        let cancel = Cancel(connection.canceller(), Arc::clone(&self.cancelled));
        self.server.cancellers().insert(number, cancel);
        *self.number.lock().unwrap_or_else(PoisonError::into_inner) = Some(number);
        let name = client.metadata().get(METADATA_USER).map_or("highwater", String::as_str);
        connection.set_user(name);
        let role = if self.server.users.is_empty() {
            Role::Admin
        } else {
            self.server.users.get(name).map_or(Role::Reader, |user| user.role)
        };
        *self.role.lock().unwrap_or_else(PoisonError::into_inner) = role;
        take_settings(client, &mut connection);
        self.keep_reported(settings::of(&connection));
        self.seat(client, &mut connection, number, role);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_settings() {
        let cases: [(&str, &[(&str, &str)]); 5] = [
            ("", &[]),
            ("-c statement_timeout=5s", &[("statement_timeout", "5s")]),
            (
                " -cTimeZone=Europe/Berlin  --extra-float-digits=3 ",
                &[("timezone", "Europe/Berlin"), ("extra_float_digits", "3")],
            ),
            (r"-c datestyle=ISO,\ DMY -c", &[("datestyle", "ISO, DMY")]),
            ("-v -c nothing x", &[]),
        ];
        for (options, settings) in cases {
            let read = of_options(options);
            let read: Vec<(&str, &str)> = read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(read, settings, "{options}");
        }
    }
}
