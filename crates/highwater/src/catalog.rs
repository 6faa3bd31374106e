//! The catalog's file (docs/formats/catalog.md): every object in the order of creation, with the text
//! that made it.
//!
//! It is the only thing that a database must remember besides its checkpoints. Invariants: the file
//! is replaced as a whole and is durable when what changes it returns; a damaged file is an error, and so
//! is one that is missing where there are tables, never an empty catalog; a number is never given twice.

use crate::error::{Error, Result};
use crate::leaving::Leaving;
use highwater_engine::checkpoint::sealed;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

const FORMAT: u32 = 1;
const NAME: &str = "catalog.json";
/// The folder of the tables' store, beside it.
pub(crate) const TABLES: &str = "tables";

/// What kind of object it is. The names are persisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// CREATE TABLE.
    Table,
    /// CREATE SOURCE.
    Source,
    /// CREATE VIEW.
    View,
    /// CREATE MATERIALIZED VIEW.
    MaterializedView,
    /// CREATE INDEX.
    Index,
    /// CREATE SINK.
    Sink,
    /// CREATE SUBSCRIPTION.
    Subscription,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Table => "TABLE",
            Self::Source => "SOURCE",
            Self::View => "VIEW",
            Self::MaterializedView => "MATERIALIZED VIEW",
            Self::Index => "INDEX",
            Self::Sink => "SINK",
            Self::Subscription => "SUBSCRIPTION",
        })
    }
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Never used twice.
    pub(crate) id: u64,
    /// Unique among all objects.
    pub(crate) name: String,
    /// The name under which its state, checkpoints and deliveries are kept, unless that is `name`: it
    /// stays what it was when the object is renamed. Unique among all objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kept: Option<String>,
    /// How many objects were dropped that were kept under the same name.
    #[serde(default)]
    pub(crate) incarnation: u64,
    /// What it is.
    pub(crate) kind: Kind,
    /// The statement that made it, without the semicolon.
    pub(crate) sql: String,
    /// The text was changed since, as an object was renamed or a table got a column.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) rewritten: bool,
    /// Of a table: for each column that it got later the number of the first object that sees it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) added: Vec<u64>,
    /// The pipeline that keeps it current, by the name under which its first object is kept; none for
    /// sources and plain views.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pipeline: Option<String>,
    /// How its query becomes operators: the number of the newest way when it was made.
    #[serde(default, skip_serializing_if = "is_first")]
    pub(crate) planning: u32,
    /// What ALTER has set since.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) settings: BTreeMap<String, String>,
}

/// Whether a query is planned as all were before the ways had numbers.
fn is_first(planning: &u32) -> bool {
    *planning == 0
}

impl Entry {
    /// The name under which the engine knows it.
    pub(crate) fn kept(&self) -> &str {
        self.kept.as_deref().unwrap_or(&self.name)
    }
}

/// An SQL function. It reads no object, so all of them come back before the first object does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FunctionEntry {
    /// Unique among all functions.
    pub(crate) name: String,
    /// The statement that made it, without the semicolon.
    pub(crate) sql: String,
}

/// The file's content.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Content {
    format: u32,
    next_id: u64,
    objects: Vec<Entry>,
    /// In the order of creation: what one calls stands before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    functions: Vec<FunctionEntry>,
    /// By the name under which they were kept, how many objects were dropped.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    dropped: BTreeMap<String, u64>,
    /// What ALTER SYSTEM has set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    system: BTreeMap<String, String>,
    /// The pipelines that take no rows until they are told to.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    paused: BTreeSet<String>,
    /// What dropped objects have left.
    #[serde(default, skip_serializing_if = "Leaving::is_empty")]
    leaving: Leaving,
}

/// The catalog and the file that it is kept in.
#[derive(Debug)]
pub(crate) struct Catalog {
    path: PathBuf,
    content: Content,
}

impl Catalog {
    /// Reads the catalog of a data folder; a folder without one and without tables is a new database, whose
    /// catalog is written before there are tables.
    pub(crate) fn open(data_dir: &Path) -> Result<Self> {
        let path = data_dir.join(NAME);
        match fs::read(&path) {
            Ok(bytes) => {
                let content = sealed::open(&path.display().to_string(), &bytes, FORMAT).map_err(Error::Catalog)?;
                Ok(Self { path, content })
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Self::new(data_dir, path),
            Err(e) => Err(Error::folder(&path, &e)),
        }
    }

    fn new(data_dir: &Path, path: PathBuf) -> Result<Self> {
        let tables = data_dir.join(TABLES);
        if fs::read_dir(&tables).is_ok_and(|mut entries| entries.next().is_some()) {
            let what = format!(
                "it is missing, and {} holds tables that it names: put it back from a copy, or use another data \
                 folder to begin anew",
                tables.display()
            );
            return Err(Error::Folder { path, what, is_full: false });
        }
        let content = Content {
            format: FORMAT,
            next_id: 1,
            objects: Vec::new(),
            functions: Vec::new(),
            dropped: BTreeMap::new(),
            system: BTreeMap::new(),
            paused: BTreeSet::new(),
            leaving: Leaving::default(),
        };
        write(&path, sealed::seal(&content).as_bytes()).map_err(|e| Error::folder(&path, &e))?;
        Ok(Self { path, content })
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.content.objects
    }

    /// An object by its name.
    pub(crate) fn entry(&self, name: &str) -> Option<&Entry> {
        self.content.objects.iter().find(|entry| entry.name == name)
    }

    /// Gives no object a number up to this one, under which the tables' store has something. A catalog that
    /// would have is older than the store.
    pub(crate) fn number_from(&mut self, greatest: u32) {
        let next = u64::from(greatest) + 1;
        if self.content.next_id < next {
            tracing::error!(
                catalog = %self.path.display(),
                next_id = self.content.next_id,
                greatest,
                "the tables' store has rows of tables that the catalog does not know, as it is an older one: \
                 they stay where they are, and are not shown"
            );
            self.content.next_id = next;
        }
    }

    /// The next object's number.
    pub(crate) const fn next_id(&self) -> u64 {
        self.content.next_id
    }

    /// How many objects were dropped that were kept under a name.
    pub(crate) fn dropped(&self, kept: &str) -> u64 {
        self.content.dropped.get(kept).copied().unwrap_or_default()
    }

    /// The name under which a new object is kept: its own, unless one that was renamed is kept there, or one that
    /// was dropped has left something that is not removed yet.
    pub(crate) fn free_to_keep(&self, name: &str) -> String {
        let is_taken = |kept: &String| {
            let is_it = |entry: &Entry| entry.kept() == kept || entry.pipeline.as_ref() == Some(kept);
            self.content.leaving.pipelines.contains(kept) || self.content.objects.iter().any(is_it)
        };
        let numbered = (2..).map(|number: u64| format!("{name}#{number}"));
        let mut all = std::iter::once(name.to_owned()).chain(numbered);
        all.find(|kept| !is_taken(kept)).expect("there are more numbers than objects")
    }

    /// Adds an object and makes that durable.
    pub(crate) fn add(&mut self, entry: Entry) -> Result<()> {
        self.change(|content| {
            content.next_id = entry.id + 1;
            content.objects.push(entry);
        })
    }

    /// Gives nothing else a number, under which a table is going to be stored, and notes that this is to be removed:
    /// nobody knows the table yet. Makes that durable.
    pub(crate) fn reserve(&mut self, number: u32) -> Result<()> {
        self.change(|content| {
            content.next_id = content.next_id.max(u64::from(number) + 1);
            content.leaving.tables.insert(number);
        })
    }

    /// Puts a table, whose number was reserved, in the place of the one that has the number `old`; that is to be
    /// removed. Makes that durable.
    pub(crate) fn put_in_place(&mut self, old: u32, new: Entry) -> Result<()> {
        self.change(|content| {
            content.objects.retain(|object| object.id != u64::from(old));
            content.leaving.tables.retain(|table| u64::from(*table) != new.id);
            content.leaving.tables.insert(old);
            content.objects.push(new);
        })
    }

    /// Whether the file is what the catalog is: after a change that could not be made durable it may have it.
    pub(crate) fn is_on_disk(&self) -> bool {
        fs::read(&self.path).is_ok_and(|bytes| bytes == sealed::seal(&self.content).as_bytes())
    }

    /// Makes what the catalog is durable once more: the file may have a change that could not be made so.
    pub(crate) fn write_again(&mut self) -> Result<()> {
        self.change(|_| {})
    }

    /// Takes an object back that was added and has never run, and makes that durable: the next of its name is no
    /// other one.
    pub(crate) fn take_back(&mut self, name: &str) -> Result<()> {
        self.change(|content| content.objects.retain(|entry| entry.name != name))
    }

    /// What dropped objects have left.
    pub(crate) const fn leaving(&self) -> &Leaving {
        &self.content.leaving
    }

    /// Some of that is removed.
    pub(crate) fn left(&mut self, removed: &Leaving) -> Result<()> {
        self.change(|content| content.leaving.subtract(removed))
    }

    /// Removes objects, notes what they leave, and makes that durable.
    pub(crate) fn remove(&mut self, names: &[String], leaving: Leaving) -> Result<()> {
        self.change(|content| {
            content.leaving.extend(leaving);
            let all = std::mem::take(&mut content.objects).into_iter();
            let (gone, objects): (Vec<Entry>, Vec<Entry>) = all.partition(|entry| names.contains(&entry.name));
            content.objects = objects;
            let has_one = |pipeline: &String| content.objects.iter().any(|o| o.pipeline.as_ref() == Some(pipeline));
            content.paused.retain(has_one);
            for entry in gone {
                *content.dropped.entry(entry.kept().to_owned()).or_default() += 1;
            }
        })
    }

    /// Puts changed objects in the places of those with the same numbers, and makes that durable.
    pub(crate) fn replace(&mut self, changed: &[Entry]) -> Result<()> {
        self.change(|content| {
            for entry in &mut content.objects {
                if let Some(new) = changed.iter().find(|new| new.id == entry.id) {
                    entry.clone_from(new);
                }
            }
        })
    }

    pub(crate) fn functions(&self) -> &[FunctionEntry] {
        &self.content.functions
    }

    /// Adds a function, in the place of one of its name, and makes that durable.
    pub(crate) fn add_function(&mut self, function: FunctionEntry) -> Result<()> {
        self.change(|content| {
            content.functions.retain(|other| other.name != function.name);
            content.functions.push(function);
        })
    }

    /// Removes functions and makes that durable.
    pub(crate) fn remove_functions(&mut self, names: &[String]) -> Result<()> {
        self.change(|content| content.functions.retain(|function| !names.contains(&function.name)))
    }

    /// Changes an object's settings and makes that durable.
    pub(crate) fn set(&mut self, name: &str, settings: &[(String, String)]) -> Result<()> {
        self.change(|content| {
            for entry in content.objects.iter_mut().filter(|entry| entry.name == name) {
                entry.settings.extend(settings.iter().cloned());
            }
        })
    }

    /// What ALTER SYSTEM has set.
    pub(crate) const fn system(&self) -> &BTreeMap<String, String> {
        &self.content.system
    }

    /// Changes a setting of all sessions and makes that durable.
    pub(crate) fn set_system(&mut self, name: &str, value: &str) -> Result<()> {
        self.change(|content| {
            if value.eq_ignore_ascii_case("default") {
                content.system.remove(name);
            } else {
                content.system.insert(name.to_owned(), value.to_owned());
            }
        })
    }

    /// Whether a pipeline takes no rows until it is told to.
    pub(crate) fn is_paused(&self, pipeline: &str) -> bool {
        self.content.paused.contains(pipeline)
    }

    /// Notes that a pipeline takes no rows, or takes them again, and makes that durable.
    pub(crate) fn pause(&mut self, pipeline: &str, paused: bool) -> Result<()> {
        if self.is_paused(pipeline) == paused {
            return Ok(());
        }
        self.change(|content| {
            content.paused.remove(pipeline);
            content.paused.extend(paused.then(|| pipeline.to_owned()));
        })
    }

    fn change(&mut self, change: impl FnOnce(&mut Content)) -> Result<()> {
        let mut changed = self.content.clone();
        change(&mut changed);
        write(&self.path, sealed::seal(&changed).as_bytes()).map_err(|e| Error::folder(&self.path, &e))?;
        self.content = changed;
        Ok(())
    }
}

/// Replaces a file as a whole, durably.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let next = path.with_extension("json.new");
    let written = File::create(&next).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(error) = written {
        // On a full disk its part would be in the way; it is written over otherwise.
        let _ = fs::remove_file(&next);
        return Err(error);
    }
    fs::rename(&next, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u64, name: &str) -> Entry {
        Entry {
            id,
            name: name.to_owned(),
            kept: None,
            incarnation: 0,
            kind: Kind::View,
            sql: format!("CREATE VIEW {name} AS SELECT 1"),
            rewritten: false,
            added: Vec::new(),
            pipeline: None,
            planning: 0,
            settings: BTreeMap::new(),
        }
    }

    #[test]
    fn what_was_made_before_the_ways_had_numbers_is_planned_the_first_one() {
        let first = serde_json::to_string(&entry(1, "a")).expect("written");
        assert!(!first.contains("planning"), "as it was written then: {first}");
        assert_eq!(serde_json::from_str::<Entry>(&first).expect("read"), entry(1, "a"));
        let second = Entry { planning: 1, ..entry(1, "a") };
        let written = serde_json::to_string(&second).expect("written");
        assert_eq!(serde_json::from_str::<Entry>(&written).expect("read"), second);
    }

    #[test]
    fn it_is_read_back_as_it_was_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut catalog = Catalog::open(folder.path()).expect("new");
        catalog.add(entry(1, "a")).expect("written");
        catalog.add(entry(2, "b")).expect("written");
        catalog.set("a", &[("retain".to_owned(), "5".to_owned())]).expect("written");
        catalog.remove(&["b".to_owned()], Leaving::default()).expect("written");
        let again = Catalog::open(folder.path()).expect("read");
        assert_eq!(again.entries(), catalog.entries());
        assert_eq!(again.next_id(), 3);
        assert_eq!(again.entries()[0].settings["retain"], "5");
    }

    #[test]
    fn a_table_in_another_ones_place_is_the_newest_and_leaves_that_to_be_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut catalog = Catalog::open(folder.path()).expect("new");
        catalog.add(entry(1, "a")).expect("written");
        catalog.add(entry(2, "b")).expect("written");
        catalog.reserve(3).expect("written");
        assert_eq!((catalog.next_id(), &catalog.leaving().tables), (4, &BTreeSet::from([3])));
        catalog.put_in_place(1, entry(3, "a")).expect("written");
        let again = Catalog::open(folder.path()).expect("read");
        assert_eq!(again.entries(), [entry(2, "b"), entry(3, "a")]);
        assert_eq!((again.next_id(), &again.leaving().tables), (4, &BTreeSet::from([1])));
        assert!(catalog.is_on_disk());
        fs::write(folder.path().join(NAME), "x").expect("written");
        assert!(!catalog.is_on_disk());
        catalog.write_again().expect("written");
        assert!(catalog.is_on_disk());
    }

    #[test]
    fn a_file_that_is_missing_beside_tables_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(NAME);
        Catalog::open(folder.path()).expect("new");
        assert!(path.exists(), "it is there before the tables are");
        fs::create_dir(folder.path().join(TABLES)).expect("a folder");
        fs::remove_file(&path).expect("removed");
        Catalog::open(folder.path()).expect("nothing is lost");
        fs::write(folder.path().join(TABLES).join("CURRENT"), "x").expect("written");
        Catalog::open(folder.path()).expect("both are there");
        fs::remove_file(&path).expect("removed");
        let told = Catalog::open(folder.path()).expect_err("tables without a catalog").to_string();
        assert!(told.starts_with(&format!("{}: it is missing", path.display())), "{told}");
        assert!(!path.exists(), "nothing is made");
    }

    #[test]
    fn numbers_go_on_behind_those_that_the_store_has() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut catalog = Catalog::open(folder.path()).expect("new");
        catalog.add(entry(1, "a")).expect("written");
        catalog.number_from(1);
        assert_eq!(catalog.next_id(), 2);
        catalog.number_from(7);
        assert_eq!(catalog.next_id(), 8);
        catalog.add(entry(8, "b")).expect("written");
        assert_eq!(Catalog::open(folder.path()).expect("read").next_id(), 9);
    }

    #[test]
    fn what_is_paused_stays_so_until_it_is_resumed_or_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut catalog = Catalog::open(folder.path()).expect("new");
        let kept = |id: u64, name: &str| Entry { pipeline: Some(name.to_owned()), ..entry(id, name) };
        catalog.add(kept(1, "a")).expect("written");
        catalog.add(kept(2, "b")).expect("written");
        for name in ["a", "b", "b"] {
            catalog.pause(name, true).expect("written");
        }
        let mut again = Catalog::open(folder.path()).expect("read");
        assert!(again.is_paused("a") && again.is_paused("b"));
        again.pause("a", false).expect("written");
        again.remove(&["b".to_owned()], Leaving::default()).expect("written");
        let last = Catalog::open(folder.path()).expect("read");
        assert!(!last.is_paused("a") && !last.is_paused("b"));
    }

    #[test]
    fn functions_have_names_of_their_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut catalog = Catalog::open(folder.path()).expect("new");
        let function = |name: &str, sql: &str| FunctionEntry { name: name.to_owned(), sql: sql.to_owned() };
        catalog.add(entry(1, "a")).expect("written");
        for (name, sql) in [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4")] {
            catalog.add_function(function(name, sql)).expect("written");
        }
        catalog.remove_functions(&["c".to_owned()]).expect("written");
        let again = Catalog::open(folder.path()).expect("read");
        assert_eq!(again.functions(), [function("b", "2"), function("a", "3")]);
        assert_eq!(again.entries().len(), 1);
    }

    #[test]
    fn a_name_is_free_at_once_and_what_is_kept_under_it_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut catalog = Catalog::open(folder.path()).expect("new");
        catalog.add(entry(1, "a")).expect("written");
        catalog.replace(&[Entry { kept: Some("a".to_owned()), ..entry(1, "b") }]).expect("written");
        assert_eq!((catalog.entries()[0].name.as_str(), catalog.entries()[0].kept()), ("b", "a"));
        assert_eq!((catalog.free_to_keep("a"), catalog.free_to_keep("b")), ("a#2".to_owned(), "b".to_owned()));
        catalog.add(Entry { kept: Some("a#2".to_owned()), ..entry(2, "a") }).expect("written");
        assert_eq!(catalog.free_to_keep("a"), "a#3");
        catalog.remove(&["b".to_owned()], Leaving::default()).expect("written");
        let again = Catalog::open(folder.path()).expect("read");
        assert_eq!((again.free_to_keep("a"), again.dropped("a"), again.dropped("b")), ("a".to_owned(), 1, 0));
    }

    #[test]
    fn nothing_new_is_kept_where_something_is_to_be_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut catalog = Catalog::open(folder.path()).expect("new");
        let left = || Leaving { pipelines: BTreeSet::from(["a".to_owned()]), ..Leaving::default() };
        catalog.add(Entry { pipeline: Some("a".to_owned()), ..entry(1, "a") }).expect("written");
        catalog.remove(&["a".to_owned()], left()).expect("written");
        let mut again = Catalog::open(folder.path()).expect("read");
        assert_eq!(again.free_to_keep("a"), "a#2");
        let new = Entry { pipeline: Some("a#2".to_owned()), kept: Some("a#2".to_owned()), ..entry(2, "a") };
        again.add(new).expect("written");
        assert_eq!(again.leaving(), &left(), "it is still to be removed");
        again.take_back("a").expect("written");
        assert_eq!((again.free_to_keep("a"), again.dropped("a#2")), ("a#2".to_owned(), 0));
        again.left(&left()).expect("written");
        assert_eq!((again.free_to_keep("a"), again.dropped("a")), ("a".to_owned(), 1));
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_an_empty_catalog() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut catalog = Catalog::open(folder.path()).expect("new");
        catalog.add(entry(1, "a")).expect("written");
        let path = folder.path().join(NAME);
        let whole = fs::read(&path).expect("read");
        for length in 0..whole.len() - 1 {
            fs::write(&path, &whole[..length]).expect("cut");
            assert!(Catalog::open(folder.path()).is_err(), "cut to {length}");
        }
        let at = whole.iter().position(|b| *b == b'a').expect("a letter");
        let mut flipped = whole;
        flipped[at] ^= 1;
        fs::write(&path, &flipped).expect("flip");
        assert!(Catalog::open(folder.path()).is_err());
    }
}
