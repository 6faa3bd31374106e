//! Who may connect and do what: the users' file, its roles, and what is kept of passwords.
//!
//! A password is kept salted and hashed as SCRAM-SHA-256 needs it, in a file that only its owner can
//! read (docs/formats/catalog.md). Without users everybody may do everything, which is for loopback only;
//! so a file beside it says that there were users, lest the loss of the users' file open the database.

use crate::exit::{self, Exit, Failure, Outcome};
use highwater::engine::core::Rng;
use highwater::{SetScope, Statement};
use pgwire::api::auth::sasl::scram::gen_salted_password;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// Rounds of hashing.
pub(crate) const ITERATIONS: usize = 4096;
/// The users' file in the data folder.
const FILE: &str = "users.json";
/// An empty file beside it: there are users, or were.
const MARK: &str = "users.exist";

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Read.
    Reader,
    /// Read and change rows.
    Writer,
    /// Everything.
    Admin,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Reader => "reader",
            Self::Writer => "writer",
            Self::Admin => "admin",
        })
    }
}

impl Role {
    /// The least role that may execute a statement.
    pub(crate) fn needed(statement: &Statement) -> Self {
        let all = [Self::Reader, Self::Writer];
        all.into_iter().find(|role| role.may(statement)).unwrap_or(Self::Admin)
    }

    /// Whether the role may execute a statement.
    pub(crate) fn may(self, statement: &Statement) -> bool {
        match statement {
            Statement::Prepare(prepare) => self.may(&prepare.statement),
            Statement::Query(_)
            | Statement::CopyOut(_)
            | Statement::ExplainQuery(_)
            | Statement::ExplainAnalyze(_)
            | Statement::ExplainView(_)
            | Statement::ExplainSink(_)
            | Statement::ExplainIndex(_)
            | Statement::Show(_)
            | Statement::Describe(_)
            | Statement::Begin(_)
            | Statement::SetTransaction { .. }
            | Statement::Commit
            | Statement::Rollback
            | Statement::Savepoint { .. }
            | Statement::DiscardAll
            | Statement::ResetAll
            | Statement::Unlisten
            | Statement::Execute { .. }
            | Statement::Deallocate(_)
            | Statement::Declare { .. }
            | Statement::DeclareSubscription(_)
            | Statement::Fetch(_)
            | Statement::Close(_)
            | Statement::Set { scope: SetScope::Session | SetScope::Transaction, .. } => true,
            Statement::Insert(_)
            | Statement::Update(_)
            | Statement::Delete(_)
            | Statement::Copy(_)
            | Statement::Vacuum(_)
            | Statement::Flush => !matches!(self, Self::Reader),
            _ => matches!(self, Self::Admin),
        }
    }
}

/// One user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) role: Role,
    pub(crate) salt: Vec<u8>,
    pub(crate) salted_password: Vec<u8>,
}

impl User {
    pub(crate) fn new(role: Role, password: &str) -> Self {
        let half = || Rng::from_os().next_u64().to_be_bytes();
        let salt = [half(), half()].concat();
        let salted_password = gen_salted_password(password, &salt, ITERATIONS);
        Self { role, salt, salted_password }
    }

    /// Whether this is the user's password.
    pub(crate) fn is_password(&self, password: &str) -> bool {
        let given = gen_salted_password(password, &self.salt, ITERATIONS);
        let differences = given.iter().zip(&self.salted_password).fold(0, |all, (a, b)| all | (a ^ b));
        given.len() == self.salted_password.len() && differences == 0
    }
}

/// All users, shared by all connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Users {
    all: Arc<RwLock<BTreeMap<String, User>>>,
}

impl Users {
    /// Reads the users of a data folder; there may be none.
    ///
    /// # Errors
    /// When the file is damaged, others than its owner can read it, or it is missing and there were users.
    pub(crate) fn load(data: &Path) -> Outcome<Self> {
        let (path, mark) = (data.join(FILE), data.join(MARK));
        let refused = |what: String| Failure::new(Exit::Storage, format!("{}: {what}", path.display()));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !mark.exists() => return Ok(Self::default()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mark = mark.display();
                let what = "it is missing, and there were users: put it back from a copy";
                let what = format!("{what}, or remove {mark} to begin without users");
                return Err(Failure::storage(path.display(), what));
            }
            Err(error) => return Err(refused(error.to_string())),
        };
        let mode = std::fs::metadata(&path).map_err(|error| refused(error.to_string()))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(refused("others can read it: chmod 600".to_owned()));
        }
        let all = serde_json::from_str(&text).map_err(|error| refused(error.to_string()))?;
        write_mark(data).map_err(|error| Failure::storage(mark.display(), error))?;
        Ok(Self { all: Arc::new(RwLock::new(all)) })
    }

    fn all(&self) -> RwLockReadGuard<'_, BTreeMap<String, User>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    pub(crate) fn get(&self, name: &str) -> Option<User> {
        self.all().get(name).cloned()
    }

    /// Adds, replaces or removes a user and writes the file.
    fn change(&self, data: &Path, change: impl FnOnce(&mut BTreeMap<String, User>)) -> Outcome<()> {
        let mut all = self.all().clone();
        change(&mut all);
        let path = data.join(FILE);
        let text = serde_json::to_string_pretty(&all).expect("names and bytes are JSON");
        write(&path, &text).map_err(|error| Failure::storage(path.display(), error))?;
        // Behind the file: when the process dies between the two, the next start reads the users and writes it.
        write_mark(data).map_err(|error| Failure::storage(data.join(MARK).display(), error))?;
        *self.all.write().unwrap_or_else(PoisonError::into_inner) = all;
        Ok(())
    }
}

/// Says that there are users.
fn write_mark(data: &Path) -> std::io::Result<()> {
    let mark = data.join(MARK);
    if mark.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(data)?;
    std::fs::File::create(mark)?.sync_all()?;
    std::fs::File::open(data)?.sync_all()
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let next: PathBuf = path.with_extension("json.new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&next, path)?;
    match path.parent() {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Arguments of `highwater users`.
#[derive(Debug, clap::Args)]
#[command(after_help = "A running server reads its users when it starts.

Examples:
  echo 'a long password' | highwater users add app --role writer --data /var/lib/highwater
  highwater users list --data /var/lib/highwater
  highwater users remove app --data /var/lib/highwater")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The server's data folder
    #[arg(long, global = true, default_value = "highwater-data", env = "HIGHWATER_DATA")]
    data: PathBuf,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Add a user, or change its role and password, which is read from standard input
    Add {
        /// The user's name
        name: String,
        /// What the user may do
        #[arg(long, value_enum, default_value = "reader")]
        role: Role,
    },
    /// Remove a user
    Remove {
        /// The user's name
        name: String,
    },
    /// Print the users and their roles
    List,
}

/// Looks after the users' file.
///
/// # Errors
/// When it cannot be read or written, or a user does not exist.
pub(crate) fn main(arguments: Arguments) -> Outcome {
    let users = Users::load(&arguments.data)?;
    match arguments.command {
        Command::Add { name, role } => {
            let mut password = String::new();
            std::io::stdin().read_line(&mut password).map_err(|error| Failure::usage(error.to_string()))?;
            let password = password.trim_end_matches(['\r', '\n']);
            if password.is_empty() {
                return Err(Failure::usage("a password is expected on standard input"));
            }
            let user = User::new(role, password);
            let folder = arguments.data.display();
            let done = format!("{name} has role {role} in {folder}; a server reads it when it starts");
            users.change(&arguments.data, |all| {
                all.insert(name, user);
            })?;
            eprintln!("highwater: {done}");
        }
        Command::Remove { name } => {
            if users.get(&name).is_none() {
                return Err(Failure::usage(format!("there is no user {name:?}")));
            }
            users.change(&arguments.data, |all| {
                all.remove(&name);
            })?;
        }
        Command::List => {
            for (name, user) in users.all().iter() {
                exit::print(&format!("{name} {}\n", user.role))?;
            }
        }
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_read_back_and_only_their_own_password_is_right() {
        let folder = tempfile::tempdir().expect("a folder");
        let users = Users::load(folder.path()).expect("none yet");
        assert!(users.is_empty());
        let change = |all: &mut BTreeMap<String, User>| {
            all.insert("app".to_owned(), User::new(Role::Writer, "secret"));
        };
        users.change(folder.path(), change).expect("written");
        let again = Users::load(folder.path()).expect("read");
        let user = again.get("app").expect("added");
        assert_eq!(user.role, Role::Writer);
        assert!(user.is_password("secret") && !user.is_password("Secret") && !user.is_password(""));
        let path = folder.path().join(FILE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("changed");
        assert!(Users::load(folder.path()).is_err(), "others can read it");
    }

    #[test]
    fn users_that_are_missing_are_an_error_where_there_were_some() {
        let folder = tempfile::tempdir().expect("a folder");
        let users = Users::load(folder.path()).expect("none yet");
        users
            .change(folder.path(), |all| drop(all.insert("app".to_owned(), User::new(Role::Writer, "secret"))))
            .expect("written");
        for with_mark in [true, false] {
            if !with_mark {
                // As an earlier build left it; whoever reads it leaves the mark.
                std::fs::remove_file(folder.path().join(MARK)).expect("removed");
                Users::load(folder.path()).expect("read");
            }
            let copy = std::fs::read(folder.path().join(FILE)).expect("read");
            std::fs::remove_file(folder.path().join(FILE)).expect("removed");
            let refused = Users::load(folder.path()).expect_err("there were users");
            assert_eq!(refused.exit, Exit::Storage);
            assert!(refused.message.contains("users.json: it is missing"), "{}", refused.message);
            write(&folder.path().join(FILE), &String::from_utf8(copy).expect("text")).expect("written");
            assert!(!Users::load(folder.path()).expect("put back").is_empty());
        }
        users.change(folder.path(), BTreeMap::clear).expect("written");
        assert!(Users::load(folder.path()).expect("nobody is left").is_empty());
    }

    #[test]
    fn users_of_format_1_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/format-1").join(FILE);
        let path = folder.path().join(FILE);
        std::fs::copy(fixture, &path).expect("the fixture");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("changed");
        let users = Users::load(folder.path()).expect("read");
        let expected = [
            ("app", Role::Writer, "secret"),
            ("look", Role::Reader, "a long password"),
            ("root", Role::Admin, "pässword"),
        ];
        assert_eq!(users.all().len(), expected.len());
        for (name, role, password) in expected {
            let user = users.get(name).expect(name);
            assert_eq!(user.role, role, "{name}");
            assert!(user.is_password(password) && !user.is_password("secrets"), "{name}");
        }
    }

    #[test]
    fn roles_may_more_and_more() {
        let statement = |sql: &str| highwater::parse(sql).expect("a statement");
        let cases = [
            ("SELECT 1", [true, true, true]),
            ("INSERT INTO t VALUES (1)", [false, true, true]),
            ("FLUSH", [false, true, true]),
            ("DROP TABLE t", [false, false, true]),
            ("ALTER SYSTEM SET a TO b", [false, false, true]),
        ];
        for (sql, wanted) in cases {
            let may = [Role::Reader, Role::Writer, Role::Admin].map(|role| role.may(&statement(sql)));
            assert_eq!(may, wanted, "{sql}");
            assert!(Role::needed(&statement(sql)).may(&statement(sql)), "{sql}");
        }
    }
}
