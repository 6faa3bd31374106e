//! SQL functions of the catalog: CREATE FUNCTION, DROP FUNCTION and what shows them.
//!
//! Their expressions are in everything that was planned with them, so a function stays as it is while
//! anything kept calls it. Invariant: the session knows the functions of the catalog that can be bound;
//! an object that calls another one is broken.

use crate::catalog::FunctionEntry;
use crate::connection::{Connection, invalid};
use crate::database::{Database, State};
use crate::error::{Error, Result};
use crate::outcome::{Outcome, Rows};
use crate::show::texts;
use crate::system::is_about_session;
use highwater_sql::sql_function::{type_name, type_names};
use highwater_sql::statement::{CreateFunction, DropFunction, Name, Statement};
use highwater_sql::{Kind, Volatility, calls};
use std::collections::BTreeSet;

impl Database {
    pub(crate) fn create_function(&self, function: &CreateFunction, text: &str) -> Result<Outcome> {
        let mut state = self.state();
        let (name, done) = (&function.name, Outcome::done("CREATE FUNCTION"));
        if let Ok(known) = find(&state, name) {
            let known = parsed(known)?;
            if is_same(&known, function) && (function.or_replace || self.config.resume) {
                return Ok(if function.or_replace { done } else { done.noticed(format!("{name} goes on")) });
            }
            check_replaced(&known, function)?;
            let users = Users::of(&state, &name.value);
            if !users.is_empty() {
                let message = format!("cannot replace function {name} because {} it", needs(&users.names()));
                return Err(invalid("2BP01", message, Some(name)));
            }
        } else if is_about_session(&name.value) {
            let message = format!("{name} tells about the session: give the function another name");
            return Err(invalid("42723", message, Some(name)));
        } else {
            self.session.check_function_name(name)?;
        }
        let made = self.session.sql_function(function)?;
        state.catalog.add_function(FunctionEntry { name: name.value.clone(), sql: text.to_owned() })?;
        self.session.declare(made);
        Ok(done)
    }

    pub(crate) fn drop_function(&self, connection: &Connection, dropped: &DropFunction) -> Result<Outcome> {
        let mut state = self.state_to_define(connection)?;
        let (name, done) = (&dropped.name, Outcome::done("DROP FUNCTION"));
        let is_it = |known: &FunctionEntry| -> Result<bool> {
            let Some(types) = &dropped.arguments else { return Ok(true) };
            Ok(parsed(known)?.types() == *types)
        };
        let found = match find(&state, name) {
            Ok(known) => is_it(known)?,
            Err(_) => false,
        };
        if !found {
            let called = match &dropped.arguments {
                Some(types) => format!("{name}({})", type_names(types)),
                None => name.value.clone(),
            };
            if dropped.if_exists {
                return Ok(done.noticed(format!("function {called} does not exist, skipping")));
            }
            return Err(unknown(name, called));
        }
        let users = Users::of(&state, &name.value);
        if !users.is_empty() && !dropped.cascade {
            return Err(Error::InUse { name: name.value.clone(), needed_by: users.names() });
        }
        users.check_dropped(name)?;
        if !users.objects.is_empty() {
            self.forget(&mut state, &users.objects)?;
        }
        let mut functions = users.functions.clone();
        functions.push(name.value.clone());
        state.catalog.remove_functions(&functions)?;
        self.session.forget_functions(&functions);
        self.begin_rest(state);
        Ok(users.names().into_iter().fold(done, |done, name| done.noticed(format!("drop cascades to {name}"))))
    }

    /// Makes the functions of the catalog known to the session again.
    pub(crate) fn restore_functions(&self, state: &State) {
        for entry in state.catalog.functions() {
            match parsed(entry).and_then(|function| Ok(self.session.sql_function(&function)?)) {
                Ok(function) => self.session.declare(function),
                Err(reason) => {
                    let name = &entry.name;
                    tracing::error!(name, %reason, "this function cannot be used; DROP FUNCTION removes it");
                }
            }
        }
    }
}

/// What calls a function, directly or not, in the order of creation.
struct Users {
    functions: Vec<String>,
    /// With what reads them.
    objects: Vec<String>,
    /// Those of the objects that would lose rows with it.
    holding: Vec<String>,
}

impl Users {
    fn of(state: &State, name: &str) -> Self {
        let mut functions = vec![name.to_owned()];
        for entry in state.catalog.functions() {
            let Ok(statement) = highwater_sql::parse(&entry.sql) else { continue };
            if calls(&statement).iter().any(|called| functions.contains(called)) {
                functions.push(entry.name.clone());
            }
        }
        let (mut users, mut holding) = (BTreeSet::new(), Vec::new());
        for entry in state.catalog.entries() {
            let Ok(statement) = highwater_sql::parse(&entry.sql) else { continue };
            if !calls(&statement).iter().any(|called| functions.contains(called)) {
                continue;
            }
            if matches!(statement, Statement::CreateTable(_) | Statement::CreateSource(_)) {
                holding.push(entry.name.clone());
            }
            users.extend(state.dependents(std::slice::from_ref(&entry.name)));
            users.insert(entry.name.clone());
        }
        let entries = state.catalog.entries().iter().filter(|entry| users.contains(&entry.name));
        let objects = entries.map(|entry| entry.name.clone()).collect();
        Self { functions: functions.split_off(1), objects, holding }
    }

    fn is_empty(&self) -> bool {
        self.functions.is_empty() && self.objects.is_empty()
    }

    fn names(&self) -> Vec<String> {
        let functions = self.functions.iter().map(|name| format!("function {name}"));
        functions.chain(self.objects.iter().cloned()).collect()
    }

    /// CASCADE takes no tables and sources away for a column's sake.
    fn check_dropped(&self, function: &Name) -> Result<()> {
        let Some(relation) = self.holding.first() else { return Ok(()) };
        let message =
            format!("cannot drop function {function} because a column of {relation} needs it: drop that first");
        Err(invalid("2BP01", message, Some(function)))
    }
}

fn needs(users: &[String]) -> String {
    let verb = if users.len() == 1 { "needs" } else { "need" };
    format!("{} {verb}", users.join(", "))
}

/// A function of the catalog.
pub(crate) fn find<'a>(state: &'a State, name: &Name) -> Result<&'a FunctionEntry> {
    let found = state.catalog.functions().iter().find(|function| function.name == name.value);
    found.ok_or_else(|| unknown(name, name.value.clone()))
}

fn unknown(name: &Name, called: String) -> Error {
    highwater_sql::Error::Unknown { kind: Kind::Function, name: called, position: Some(name.at) }.into()
}

/// A function's statement.
fn parsed(entry: &FunctionEntry) -> Result<CreateFunction> {
    match highwater_sql::parse(&entry.sql)? {
        Statement::CreateFunction(function) => Ok(function),
        _ => Err(invalid("XX001", format!("the catalog's text of {:?} creates no function", entry.name), None)),
    }
}

/// Whether two functions are declared alike.
fn is_same(known: &CreateFunction, new: &CreateFunction) -> bool {
    let facts = |function: &CreateFunction| (function.volatility, function.strict, function.signature());
    facts(known) == facts(new) && known.returns == new.returns && known.body == new.body
}

/// Whether a function may take another one's place, as PostgreSQL has it; of one name there is one.
fn check_replaced(known: &CreateFunction, new: &CreateFunction) -> Result<()> {
    let name = &new.name;
    let refused = |sqlstate, message: String| Err(invalid(sqlstate, message, Some(name)));
    if known.types() != new.types() {
        let (is, types) = (type_names(&known.types()), type_names(&new.types()));
        return refused(
            "42723",
            format!("function {name}({is}) exists, and there is no other one beside it: ({types})"),
        );
    }
    if !new.or_replace {
        return refused("42723", format!("function {name}({}) already exists", type_names(&known.types())));
    }
    if known.returns != new.returns {
        return refused("42P13", "cannot change return type of existing function: drop it first".to_owned());
    }
    for (is, becomes) in known.arguments.iter().zip(&new.arguments) {
        let value = |name: &Option<Name>| name.as_ref().map(|name| name.value.clone());
        if let Some(named) = value(&is.name).filter(|named| Some(named) != value(&becomes.name).as_ref()) {
            return refused(
                "42P13",
                format!("cannot change name of input parameter {named:?}: drop the function first"),
            );
        }
    }
    Ok(())
}

/// SHOW FUNCTIONS.
pub(crate) fn shown(database: &Database) -> Rows {
    let all = all(database);
    Rows::of(vec![
        ("name", texts(all.iter().map(|(entry, _)| entry.name.clone()))),
        ("arguments", texts(all.iter().map(|(_, function)| function.signature()))),
        ("return_type", texts(all.iter().map(|(_, function)| type_name(&function.returns)))),
        ("language", texts(all.iter().map(|_| "sql".to_owned()))),
    ])
}

/// `hw_catalog.functions`.
pub(crate) fn listed(database: &Database) -> Rows {
    let all = all(database);
    let volatility = |function: &CreateFunction| match function.volatility {
        Volatility::Immutable => "immutable",
        Volatility::Stable => "stable",
        Volatility::Volatile => "volatile",
    };
    Rows::of(vec![
        ("name", texts(all.iter().map(|(entry, _)| entry.name.clone()))),
        ("arguments", texts(all.iter().map(|(_, function)| function.signature()))),
        ("return_type", texts(all.iter().map(|(_, function)| type_name(&function.returns)))),
        ("volatility", texts(all.iter().map(|(_, function)| volatility(function).to_owned()))),
        ("strict", texts(all.iter().map(|(_, function)| function.strict.to_string()))),
        ("definition", texts(all.iter().map(|(entry, _)| entry.sql.clone()))),
    ])
}

/// What `pg_proc` tells of a function.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) name: String,
    /// As in `CREATE FUNCTION`, without parentheses.
    pub(crate) arguments: String,
    pub(crate) count: usize,
    pub(crate) returns: String,
    /// `i`, `s` or `v`.
    pub(crate) volatility: &'static str,
    pub(crate) is_strict: bool,
    /// The statement that makes it.
    pub(crate) definition: String,
}

/// The same of all functions, by name.
pub(crate) fn told(database: &Database) -> Vec<Told> {
    let volatility = |function: &CreateFunction| match function.volatility {
        Volatility::Immutable => "i",
        Volatility::Stable => "s",
        Volatility::Volatile => "v",
    };
    let told = |(entry, function): (FunctionEntry, CreateFunction)| Told {
        arguments: function.signature(),
        count: function.arguments.len(),
        returns: type_name(&function.returns),
        volatility: volatility(&function),
        is_strict: function.strict,
        name: entry.name,
        definition: entry.sql,
    };
    all(database).into_iter().map(told).collect()
}

/// All functions, by name.
fn all(database: &Database) -> Vec<(FunctionEntry, CreateFunction)> {
    let state = database.state();
    let whole = |entry: &FunctionEntry| Some((entry.clone(), parsed(entry).ok()?));
    let mut all: Vec<_> = state.catalog.functions().iter().filter_map(whole).collect();
    all.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    all
}
