//! Who may ask for what: HTTP Basic over the same users as PostgreSQL's clients have.
//!
//! Reading is for every user, changing for administrators. A password takes milliseconds to check, so
//! one that was right is remembered for a minute, as a keyed digest. Invariants: no password is kept;
//! at most [`CHECKS`] are being checked at a time; an unknown name takes as long as a wrong password.

use super::Shared;
use super::failed::Failed;
use crate::users::{Role, User};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How long a right password is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How many passwords are checked at the same time.
const CHECKS: usize = 2;

/// A name and a password, as a request gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) name: String,
    pub(super) password: String,
}

/// The logins of the last minute.
#[derive(Debug)]
pub(super) struct Logins {
    /// Secrets of this process, so that nobody can say which passwords have one digest.
    keys: [RandomState; 2],
    good: Mutex<HashMap<String, Good>>,
    checks: Arc<Semaphore>,
}

#[derive(Debug)]
struct Good {
    digest: [u64; 2],
    at: Instant,
}

impl Default for Logins {
    fn default() -> Self {
        Self {
            keys: [RandomState::new(), RandomState::new()],
            good: Mutex::default(),
            checks: Arc::new(Semaphore::new(CHECKS)),
        }
    }
}

impl Logins {
    /// A digest of a login and of what is kept of the user, so that a changed password is a new one.
    fn digest(&self, login: &Login, user: &User) -> [u64; 2] {
        [0, 1].map(|key: usize| self.keys[key].hash_one((&login.name, &login.password, &user.salted_password)))
    }

    /// Whether the login was right less than a minute ago.
    pub(super) fn remembers(&self, login: &Login, user: &User, now: Instant) -> bool {
        let digest = self.digest(login, user);
        let good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |good: &Good| good.digest == digest && now.saturating_duration_since(good.at) < REMEMBERED;
        good.get(&login.name).is_some_and(is_it)
    }

    /// Remembers a login that is right.
    pub(super) fn remember(&self, login: &Login, user: &User, now: Instant) {
        let good = Good { digest: self.digest(login, user), at: now };
        self.good.lock().unwrap_or_else(PoisonError::into_inner).insert(login.name.clone(), good);
    }

    /// Whether the password is the user's; for no user it takes as long and is not.
    async fn is_right(&self, login: &Login, user: Option<User>) -> bool {
        if let Some(user) = &user
            && self.remembers(login, user, Instant::now())
        {
            return true;
        }
        let permit = Arc::clone(&self.checks).acquire_owned().await;
        let (password, kept) = (login.password.clone(), user.clone().unwrap_or_else(nobody));
        let checked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            kept.is_password(&password)
        });
        let is_right = matches!(checked.await, Ok(true));
        match user {
            Some(user) if is_right => self.remember(login, &user, Instant::now()),
            _ => return false,
        }
        true
    }
}

/// A user whom no password lets in.
fn nobody() -> User {
    User { role: Role::Reader, salt: vec![0; 16], salted_password: Vec::new() }
}

/// Lets a request through, or says why not.
pub(super) async fn check(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    match admit(&shared, request.method(), request.headers()).await {
        Ok(()) => next.run(request).await,
        Err(failed) => failed.into_response(),
    }
}

async fn admit(shared: &Shared, method: &Method, headers: &HeaderMap) -> Result<(), Failed> {
    let reads = *method == Method::GET || *method == Method::HEAD;
    if !reads && headers.contains_key(header::ORIGIN) {
        // A browser tells whose page asks, and no page is ours.
        return Err(Failed::new("42501", "pages of browsers may not change anything"));
    }
    if shared.users.is_empty() {
        return Ok(());
    }
    let refused = || Failed::new("28P01", "a user's name and password are needed");
    let login = login(headers).ok_or_else(refused)?;
    let user = shared.users.get(&login.name);
    let role = user.as_ref().map(|user| user.role);
    if !shared.logins.is_right(&login, user).await {
        tracing::debug!(user = login.name, "password authentication failed");
        return Err(refused());
    }
    match role {
        Some(role) if reads || role == Role::Admin => Ok(()),
        Some(role) => {
            Err(Failed::new("42501", format!("permission denied: role {role} may not do this, role admin may")))
        }
        None => Err(refused()),
    }
}

/// The login of a request, if it has one.
pub(super) fn login(headers: &HeaderMap) -> Option<Login> {
    let (scheme, encoded) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let text = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(encoded.trim()).ok())??;
    let text = String::from_utf8(text).ok()?;
    let (name, password) = text.split_once(':')?;
    Some(Login { name: name.to_owned(), password: password.to_owned() })
}
