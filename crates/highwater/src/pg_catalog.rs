//! PostgreSQL's catalog as clients ask for it.
//!
//! Most of it is the crate datafusion-pg-catalog's, which knows relations and columns. Here is what
//! it leaves out: materialized views, primary keys, indexes, defaults, definitions, and the session.

use crate::catalog_queries::DEFAULT_COLUMN;
use crate::characters;
use crate::connection::Connection;
use crate::functions::Told;
use crate::sessions::{Sessions, without_rows};
use crate::system::Shown;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int16Array, Int32Array, ListBuilder, RecordBatch};
use arrow::array::{Int16Builder, StringArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Int16Type, Int32Type, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::{Result, ScalarValue};
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use datafusion_pg_catalog::pg_catalog::oid_field::{kind, oid_field};
use highwater_sql::statement::Characters;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The owner of everything, as PostgreSQL numbers the first user.
const OWNER: i32 = 10;
/// The primary key's index and constraint of a relation have its number and these more.
const INDEX: i32 = 1 << 29;
const CONSTRAINT: i32 = 1 << 30;
/// Another index has its object's number and this more.
const OTHER_INDEX: i32 = 3 << 28;
/// SQL functions are numbered from here on, in the order of their names.
const FUNCTION: i32 = 5 << 28;
/// The language `sql`.
const LANGUAGE: i32 = 14;
/// PostgreSQL's numbers of types that datafusion-pg-catalog takes for text.
const BPCHAR: i32 = 1042;
const VARCHAR: i32 = 1043;
const INTERVAL: i32 = 1186;
const JSONB: i32 = 3802;
const JSONB_ARRAY: i32 = 3807;

/// What marks columns of lists that PostgreSQL has as `int2vector` or `oidvector`: their texts are numbers with
/// spaces between them.
pub const VECTOR: &str = "hw.int2vector";

/// All relations by name.
pub(crate) type Relations = BTreeMap<String, Arc<Shown>>;

/// The schema `pg_catalog` for one query.
#[derive(Debug)]
pub(crate) struct PgCatalog {
    inner: Arc<dyn SchemaProvider>,
    relations: Relations,
    /// `pg_class`, before anything was added.
    class: RecordBatch,
    session: BTreeMap<&'static str, RecordBatch>,
    functions: Vec<Told>,
}

/// What functions say of a relation, index or constraint by its number.
#[derive(Debug, Default)]
pub(crate) struct Definitions {
    pub(crate) views: BTreeMap<i32, String>,
    pub(crate) indexes: BTreeMap<i32, String>,
    /// Of indexes: their columns.
    pub(crate) index_columns: BTreeMap<i32, Vec<String>>,
    pub(crate) constraints: BTreeMap<i32, String>,
    /// Of functions: their arguments, results and statements.
    pub(crate) arguments: BTreeMap<i32, String>,
    pub(crate) results: BTreeMap<i32, String>,
    pub(crate) functions: BTreeMap<i32, String>,
}

/// An index: of a primary key, or one that was made.
struct Indexed<'a> {
    number: i32,
    name: String,
    /// The relation's number and name.
    of: (i32, &'a str),
    schema: &'a SchemaRef,
    /// The places of its columns.
    key: &'a [usize],
    is_primary: bool,
}

impl Indexed<'_> {
    fn column_names(&self) -> Vec<String> {
        self.key.iter().map(|at| self.schema.field(*at).name().clone()).collect()
    }

    /// Its columns, with commas between them.
    fn columns(&self) -> String {
        self.column_names().join(", ")
    }

    fn definition(&self) -> String {
        let unique = if self.is_primary { "UNIQUE " } else { "" };
        format!("CREATE {unique}INDEX {} ON public.{} USING btree ({})", self.name, self.of.1, self.columns())
    }
}

impl PgCatalog {
    /// # Errors
    /// When the inner catalog cannot be read.
    pub(crate) async fn new(
        inner: Arc<dyn SchemaProvider>,
        relations: Relations,
        connection: &Connection,
        functions: Vec<Told>,
        sessions: &Sessions,
    ) -> Result<Self> {
        let class = read(&inner, "pg_class").await?;
        let session = [
            ("pg_stat_activity", sessions.activity(connection)?),
            ("pg_settings", settings(connection)),
            ("pg_roles", roles(connection)),
            ("pg_cursors", cursors(connection)),
            ("pg_prepared_statements", prepared_statements(connection)),
        ];
        let session = session.into_iter().chain(without_rows()?).collect();
        Ok(Self { inner, relations, class, session, functions })
    }

    /// The relations with their numbers.
    fn numbered(&self) -> Vec<(i32, &String, &Arc<Shown>)> {
        let (Some(numbers), Some(names)) = (self.class.column_by_name("oid"), self.class.column_by_name("relname"))
        else {
            return Vec::new();
        };
        let pairs = numbers.as_primitive::<Int32Type>().iter().zip(names.as_string::<i32>());
        let known = |(number, name): (Option<i32>, Option<&str>)| {
            let (name, shown) = self.relations.get_key_value(name?)?;
            Some((number?, name, shown))
        };
        pairs.filter_map(known).collect()
    }

    /// The indexes of all relations, of each that of its primary key first.
    fn indexes(&self) -> Vec<Indexed<'_>> {
        let mut all = Vec::new();
        for (of, relation, shown) in self.numbered() {
            let (of, schema) = ((of, relation.as_str()), &shown.schema);
            let index = move |number, name, key, is_primary| Indexed { number, name, of, schema, key, is_primary };
            if !shown.key.is_empty() {
                all.push(index(of.0 + INDEX, format!("{relation}_pkey"), shown.key.as_slice(), true));
            }
            for made in &shown.indexes {
                all.push(index(OTHER_INDEX + made.id as i32, made.name.clone(), made.key.as_slice(), false));
            }
        }
        all
    }

    pub(crate) fn definitions(&self) -> Definitions {
        let mut found = Definitions::default();
        for (number, _, shown) in self.numbered() {
            if let Some(definition) = &shown.definition {
                found.views.insert(number, format!(" {definition};"));
            }
        }
        for (number, function) in (FUNCTION..).zip(&self.functions) {
            found.arguments.insert(number, function.arguments.clone());
            found.results.insert(number, function.returns.clone());
            found.functions.insert(number, function.definition.clone());
        }
        for index in self.indexes() {
            found.indexes.insert(index.number, index.definition());
            found.index_columns.insert(index.number, index.column_names());
            if index.is_primary {
                found.constraints.insert(index.of.0 + CONSTRAINT, format!("PRIMARY KEY ({})", index.columns()));
            }
        }
        found
    }

    /// `pg_class` with the right kinds, owners and indexes.
    fn class(&self) -> Result<RecordBatch> {
        let class = &self.class;
        let column = |name: &str| class.column_by_name(name).map(|array| array.as_string::<i32>());
        let (Some(names), Some(kinds)) = (column("relname"), column("relkind")) else { return Ok(class.clone()) };
        let shown = |name: Option<&str>| name.and_then(|name| self.relations.get(name));
        let kinds = names.iter().zip(kinds).map(|(name, kind)| shown(name).map_or(kind, |shown| Some(shown.kind)));
        let has_index = |shown: &Arc<Shown>| !shown.key.is_empty() || !shown.indexes.is_empty();
        let keyed = names.iter().map(|name| Some(shown(name).is_some_and(has_index)));
        let changed: [(&str, ArrayRef); 3] = [
            ("relkind", Arc::new(kinds.collect::<StringArray>())),
            ("relhasindex", Arc::new(keyed.collect::<BooleanArray>())),
            ("relowner", Arc::new(Int32Array::from(vec![OWNER; class.num_rows()]))),
        ];
        let relations = with(class, &changed)?;
        let all = self.indexes();
        let count = all.len();
        let space = class.column_by_name("relnamespace").map(|array| array.as_primitive::<Int32Type>());
        let at = |name: &str| names.iter().position(|known| known == Some(name));
        let space_of = |name: &str| space.zip(at(name)).map_or(0, |(space, at)| space.value(at));
        let indexes: [(&str, ArrayRef); 9] = [
            ("oid", numbers(all.iter().map(|index| index.number))),
            ("relname", texts(all.iter().map(|index| index.name.clone()))),
            ("relnamespace", numbers(all.iter().map(|index| space_of(index.of.1)))),
            ("relowner", numbers(all.iter().map(|_| OWNER))),
            // btree
            ("relam", numbers(all.iter().map(|_| 403))),
            ("relkind", texts(all.iter().map(|_| "i".to_owned()))),
            ("relnatts", smalls(all.iter().map(|index| index.key.len() as i16))),
            ("relpersistence", texts(all.iter().map(|_| "p".to_owned()))),
            ("relispopulated", Arc::new(BooleanArray::from(vec![true; count]))),
        ];
        let indexes = filled(&class.schema(), count, &indexes)?;
        let both = concat_batches(&class.schema(), [&relations, &indexes])?;
        let none = arrow::array::new_null_array(&DataType::new_list(DataType::Utf8, true), both.num_rows());
        widened(&widened(&both, "reloptions", Arc::clone(&none))?, "relacl", none)
    }

    /// `pg_attribute` with precise types, defaults, and the columns of indexes.
    async fn attribute(&self) -> Result<RecordBatch> {
        let attribute = read(&self.inner, "pg_attribute").await?;
        let column = |name: &str| attribute.column_by_name(name).cloned();
        let (Some(of), Some(places), Some(types)) = (column("attrelid"), column("attnum"), column("atttypid")) else {
            return Ok(attribute);
        };
        let (of, places) = (of.as_primitive::<Int32Type>(), places.as_primitive::<Int16Type>());
        let numbered: BTreeMap<i32, &Arc<Shown>> =
            self.numbered().into_iter().map(|(number, _, shown)| (number, shown)).collect();
        let field = |row: usize| {
            let shown = numbered.get(&of.value(row))?;
            let at = usize::try_from(places.value(row) - 1).ok()?;
            let characters = shown.characters.get(at).copied().flatten();
            Some((shown.schema.fields().get(at)?, shown.columns.get(at), characters))
        };
        let typed = |row| field(row).map(|(field, _, characters)| (field.data_type(), characters));
        let rows = 0..attribute.num_rows();
        let modifier = |row| match typed(row) {
            Some((_, Some(characters))) => characters::number(characters) as i32 + 4,
            Some((DataType::Decimal128(digits, scale), _)) => ((i32::from(*digits) << 16) | i32::from(*scale)) + 4,
            _ => -1,
        };
        let data_type = |row| match typed(row) {
            Some((_, Some(Characters::Fixed(_)))) => BPCHAR,
            Some((_, Some(Characters::Varying(_)))) => VARCHAR,
            Some((DataType::Interval(_), _)) => INTERVAL,
            Some((DataType::LargeUtf8, _)) => JSONB,
            Some((DataType::List(of), _)) if of.data_type() == &DataType::LargeUtf8 => JSONB_ARRAY,
            _ => types.as_primitive::<Int32Type>().value(row),
        };
        let default = |row| field(row).and_then(|(_, column, _)| column?.1.clone());
        let not_null = |row| Some(field(row).is_some_and(|(_, column, _)| column.is_some_and(|column| column.0)));
        let changed: [(&str, ArrayRef); 4] = [
            ("attnotnull", Arc::new(rows.clone().map(not_null).collect::<BooleanArray>())),
            ("atttypmod", numbers(rows.clone().map(modifier))),
            ("atttypid", numbers(rows.clone().map(data_type))),
            ("atthasdef", Arc::new(rows.clone().map(|row| Some(default(row).is_some())).collect::<BooleanArray>())),
        ];
        let relations = with(&attribute, &changed)?;
        let row_of: BTreeMap<(i32, i16), usize> =
            rows.clone().map(|row| ((of.value(row), places.value(row)), row)).collect();
        let indexes = self.indexes();
        let columns_of = |index: &Indexed<'_>| {
            let columns = index.key.iter().enumerate();
            let row = |place: usize| row_of.get(&(index.of.0, place as i16 + 1)).copied();
            let name = |place: usize| index.schema.field(place).name().clone();
            columns.map(|(at, place)| (index.number, at, name(*place), row(*place))).collect::<Vec<_>>()
        };
        let all: Vec<(i32, usize, String, Option<usize>)> = indexes.iter().flat_map(columns_of).collect();
        let columns: [(&str, ArrayRef); 5] = [
            ("attrelid", numbers(all.iter().map(|(number, ..)| *number))),
            ("attname", texts(all.iter().map(|(_, _, name, _)| name.clone()))),
            ("attnum", smalls(all.iter().map(|(_, at, ..)| *at as i16 + 1))),
            ("atttypid", numbers(all.iter().map(|(.., row)| row.map_or(0, data_type)))),
            ("atttypmod", numbers(all.iter().map(|(.., row)| row.map_or(-1, modifier)))),
        ];
        let columns = filled(&attribute.schema(), all.len(), &columns)?;
        let both = concat_batches(&attribute.schema(), [&relations, &columns])?;
        let defaults = rows.map(default).chain(all.iter().map(|_| None)).collect::<StringArray>();
        widened(&both, DEFAULT_COLUMN, Arc::new(defaults))
    }

    /// `pg_proc` with the SQL functions.
    async fn proc(&self) -> Result<RecordBatch> {
        let known = read(&self.inner, "pg_proc").await?;
        let spaces = read(&self.inner, "pg_namespace").await?;
        let named = spaces.column_by_name("nspname").zip(spaces.column_by_name("oid"));
        let public = named.and_then(|(names, numbers)| {
            let at = names.as_string::<i32>().iter().position(|name| name == Some("public"))?;
            Some(numbers.as_primitive::<Int32Type>().value(at))
        });
        let (all, count) = (&self.functions, self.functions.len());
        let words = |word: &str| texts(vec![word.to_owned(); count]);
        let strict: Vec<bool> = all.iter().map(|function| function.is_strict).collect();
        let functions: [(&str, ArrayRef); 12] = [
            ("oid", numbers((FUNCTION..).take(count))),
            ("proname", texts(all.iter().map(|function| function.name.clone()))),
            ("pronamespace", numbers(vec![public.unwrap_or_default(); count])),
            ("proowner", numbers(vec![OWNER; count])),
            ("prolang", numbers(vec![LANGUAGE; count])),
            ("prokind", words("f")),
            ("provolatile", texts(all.iter().map(|function| function.volatility.to_owned()))),
            ("proparallel", words("u")),
            ("prosecdef", Arc::new(BooleanArray::from(vec![false; count]))),
            ("proisstrict", Arc::new(BooleanArray::from(strict))),
            ("pronargs", smalls(all.iter().map(|function| i16::try_from(function.count).unwrap_or(i16::MAX)))),
            ("prosrc", texts(all.iter().map(|function| function.definition.clone()))),
        ];
        let functions = filled(&known.schema(), count, &functions)?;
        Ok(concat_batches(&known.schema(), [&known, &functions])?)
    }

    /// `pg_database`: text is compared by its bytes.
    async fn database(&self) -> Result<RecordBatch> {
        let database = read(&self.inner, "pg_database").await?;
        let all = |word: &str| texts(vec![word.to_owned(); database.num_rows()]);
        with(&database, &[("datcollate", all("C")), ("datctype", all("C")), ("datlocprovider", all("c"))])
    }

    /// `pg_attrdef`: the defaults of columns, as text.
    fn attrdef(&self) -> Result<RecordBatch> {
        let mut all = Vec::new();
        for (number, _, shown) in self.numbered() {
            let columns = shown.columns.iter().enumerate();
            all.extend(columns.filter_map(|(at, (_, default))| Some((number, at as i16 + 1, default.clone()?))));
        }
        table(vec![
            oids("oid", all.iter().map(|(number, at, _)| number + CONSTRAINT + INDEX + i32::from(*at))),
            oids("adrelid", all.iter().map(|(number, ..)| *number)),
            plain("adnum", smalls(all.iter().map(|(_, at, _)| *at))),
            plain("adbin", texts(all.iter().map(|(.., default)| default.clone()))),
        ])
    }

    /// `pg_index`: the primary keys, and the indexes that were made.
    fn index(&self) -> Result<RecordBatch> {
        let all = self.indexes();
        let count = all.len();
        let flags = |name, value| plain(name, Arc::new(BooleanArray::from(vec![value; count])) as ArrayRef);
        let primary: Vec<bool> = all.iter().map(|index| index.is_primary).collect();
        let if_primary = |name| plain(name, Arc::new(BooleanArray::from(primary.clone())) as ArrayRef);
        let width = || smalls(all.iter().map(|index| index.key.len() as i16));
        table(vec![
            oids("indexrelid", all.iter().map(|index| index.number)),
            oids("indrelid", all.iter().map(|index| index.of.0)),
            plain("indnatts", width()),
            plain("indnkeyatts", width()),
            if_primary("indisunique"),
            flags("indnullsnotdistinct", false),
            if_primary("indisprimary"),
            flags("indisexclusion", false),
            flags("indimmediate", true),
            flags("indisclustered", false),
            flags("indisvalid", true),
            flags("indcheckxmin", false),
            flags("indisready", true),
            flags("indislive", true),
            flags("indisreplident", false),
            vector("indkey", places(&all, |at| at as i16 + 1)),
            vector("indcollation", places(&all, |_| 0)),
            vector("indclass", places(&all, |_| 0)),
            vector("indoption", places(&all, |_| 0)),
            plain("indexprs", arrow::array::new_null_array(&DataType::Utf8, count)),
            plain("indpred", arrow::array::new_null_array(&DataType::Utf8, count)),
        ])
    }

    /// `pg_indexes`: the same, for people.
    fn index_definitions(&self) -> Result<RecordBatch> {
        let all = self.indexes();
        table(vec![
            plain("schemaname", texts(all.iter().map(|_| "public".to_owned()))),
            plain("tablename", texts(all.iter().map(|index| index.of.1.to_owned()))),
            plain("indexname", texts(all.iter().map(|index| index.name.clone()))),
            plain("tablespace", arrow::array::new_null_array(&DataType::Utf8, all.len())),
            plain("indexdef", texts(all.iter().map(Indexed::definition))),
        ])
    }

    /// `pg_constraint`: the primary keys.
    fn constraint(&self) -> Result<RecordBatch> {
        let mut all = self.indexes();
        all.retain(|index| index.is_primary);
        let count = all.len();
        let flags = |name, value| plain(name, Arc::new(BooleanArray::from(vec![value; count])) as ArrayRef);
        let words = |name, word: &str| plain(name, texts(all.iter().map(|_| word.to_owned())));
        let spaces = self.class.column_by_name("relnamespace").map(|array| array.as_primitive::<Int32Type>().clone());
        let ids = self.class.column_by_name("oid").map(|array| array.as_primitive::<Int32Type>().clone());
        let space = |number: i32| {
            let at = ids.as_ref()?.values().iter().position(|id| *id == number)?;
            Some(spaces.as_ref()?.value(at))
        };
        table(vec![
            oids("oid", all.iter().map(|index| index.of.0 + CONSTRAINT)),
            plain("conname", texts(all.iter().map(|index| index.name.clone()))),
            oids("connamespace", all.iter().map(|index| space(index.of.0).unwrap_or_default())),
            words("contype", "p"),
            flags("condeferrable", false),
            flags("condeferred", false),
            flags("convalidated", true),
            oids("conrelid", all.iter().map(|index| index.of.0)),
            oids("contypid", all.iter().map(|_| 0)),
            oids("conindid", all.iter().map(|index| index.number)),
            oids("conparentid", all.iter().map(|_| 0)),
            oids("confrelid", all.iter().map(|_| 0)),
            words("confupdtype", " "),
            words("confdeltype", " "),
            words("confmatchtype", " "),
            flags("conislocal", true),
            plain("coninhcount", numbers(all.iter().map(|_| 0))),
            flags("connoinherit", true),
            plain("conkey", places(&all, |at| at as i16 + 1)),
            plain("confkey", arrow::array::new_null_array(&DataType::new_list(DataType::Int16, true), count)),
        ])
    }

    /// `pg_views` and `pg_matviews`.
    fn views(&self, kind: &str, prefix: &str) -> Result<RecordBatch> {
        let all: Vec<_> = self.relations.iter().filter(|(_, shown)| shown.kind == kind).collect();
        let words = |word: &str| texts(all.iter().map(|_| word.to_owned()));
        let mut columns = vec![
            plain("schemaname", words("public")),
            plain(&format!("{prefix}name"), texts(all.iter().map(|(name, _)| (*name).clone()))),
            plain(&format!("{prefix}owner"), texts(all.iter().map(|_| "highwater".to_owned()))),
        ];
        if prefix == "matview" {
            columns.push(plain("tablespace", arrow::array::new_null_array(&DataType::Utf8, all.len())));
            let indexed: Vec<bool> = all.iter().map(|(_, shown)| !shown.indexes.is_empty()).collect();
            columns.push(plain("hasindexes", Arc::new(BooleanArray::from(indexed))));
            columns.push(plain("ispopulated", Arc::new(BooleanArray::from(vec![true; all.len()]))));
        }
        let definition = |shown: &Arc<Shown>| format!(" {};", shown.definition.as_deref().unwrap_or_default());
        columns.push(plain("definition", texts(all.iter().map(|(_, shown)| definition(shown)))));
        table(columns)
    }
}

#[async_trait]
impl SchemaProvider for PgCatalog {
    fn table_names(&self) -> Vec<String> {
        self.inner.table_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let name = name.to_ascii_lowercase();
        let batch = match name.as_str() {
            "pg_class" => self.class()?,
            "pg_attribute" => self.attribute().await?,
            "pg_attrdef" => self.attrdef()?,
            "pg_proc" if !self.functions.is_empty() => self.proc().await?,
            "pg_database" => self.database().await?,
            "pg_index" => self.index()?,
            "pg_indexes" => self.index_definitions()?,
            "pg_constraint" => self.constraint()?,
            "pg_views" => self.views("v", "view")?,
            "pg_matviews" => self.views("m", "matview")?,
            other => match self.session.get(other) {
                Some(batch) => batch.clone(),
                None => return self.inner.table(&name).await,
            },
        };
        let table: Arc<dyn TableProvider> = Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?);
        Ok(Some(table))
    }

    fn table_exist(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        name == "pg_indexes" || self.session.contains_key(name.as_str()) || self.inner.table_exist(&name)
    }
}

/// `pg_settings` of the session.
fn settings(connection: &Connection) -> RecordBatch {
    let all = connection.settings();
    let count = all.len();
    let nulls = |name: &str| plain(name, arrow::array::new_null_array(&DataType::Utf8, count));
    let words = |name: &str, word: &str| plain(name, texts(all.iter().map(|_| word.to_owned())));
    let values = || texts(all.values().cloned());
    let columns = vec![
        plain("name", texts(all.keys().cloned())),
        plain("setting", values()),
        nulls("unit"),
        nulls("category"),
        nulls("short_desc"),
        nulls("extra_desc"),
        words("context", "user"),
        words("vartype", "string"),
        words("source", "session"),
        nulls("min_val"),
        nulls("max_val"),
        nulls("enumvals"),
        nulls("boot_val"),
        plain("reset_val", values()),
        nulls("sourcefile"),
        plain("sourceline", arrow::array::new_null_array(&DataType::Int32, count)),
        plain("pending_restart", Arc::new(BooleanArray::from(vec![false; count]))),
    ];
    table(columns).expect("columns of one length")
}

/// `pg_roles`: whose session it is. Nobody sees others.
fn roles(connection: &Connection) -> RecordBatch {
    let flag = |name: &str, value| plain(name, Arc::new(BooleanArray::from(vec![value])) as ArrayRef);
    let null = |name: &str, data_type| plain(name, arrow::array::new_null_array(data_type, 1));
    let columns = vec![
        plain("rolname", texts([connection.user().to_owned()])),
        flag("rolsuper", true),
        flag("rolinherit", true),
        flag("rolcreaterole", false),
        flag("rolcreatedb", false),
        flag("rolcanlogin", true),
        flag("rolreplication", false),
        plain("rolconnlimit", numbers([-1])),
        null("rolpassword", &DataType::Utf8),
        null("rolvaliduntil", &DataType::Utf8),
        flag("rolbypassrls", false),
        null("rolconfig", &DataType::new_list(DataType::Utf8, true)),
        oids("oid", [OWNER]),
    ];
    table(columns).expect("columns of one length")
}

/// `pg_cursors` of the session and its transaction.
fn cursors(connection: &Connection) -> RecordBatch {
    let all = connection.cursors();
    let flag = |name: &str| plain(name, Arc::new(BooleanArray::from(vec![false; all.len()])) as ArrayRef);
    let hold: Vec<bool> = all.iter().map(|cursor| cursor.hold).collect();
    let columns = vec![
        plain("name", texts(all.iter().map(|cursor| cursor.name.clone()))),
        plain("statement", texts(all.iter().map(|cursor| cursor.text.clone()))),
        plain("is_holdable", Arc::new(BooleanArray::from(hold)) as ArrayRef),
        flag("is_binary"),
        flag("is_scrollable"),
    ];
    table(columns).expect("columns of one length")
}

/// `pg_prepared_statements` that PREPARE has made.
fn prepared_statements(connection: &Connection) -> RecordBatch {
    let all = &connection.prepared;
    let columns = vec![
        plain("name", texts(all.keys().cloned())),
        plain("statement", texts(all.values().map(|prepared| prepared.text.trim().to_owned()))),
        plain("from_sql", Arc::new(BooleanArray::from(vec![true; all.len()]))),
    ];
    table(columns).expect("columns of one length")
}

/// A column with its values.
pub(crate) type Column = (Field, ArrayRef);

pub(crate) fn plain(name: &str, array: ArrayRef) -> Column {
    (Field::new(name, array.data_type().clone(), true), array)
}

/// A column whose lists are vectors.
fn vector(name: &str, lists: ArrayRef) -> Column {
    let (field, lists) = plain(name, lists);
    (field.with_metadata(HashMap::from([(VECTOR.to_owned(), String::new())])), lists)
}

fn oids(name: &str, values: impl IntoIterator<Item = i32>) -> Column {
    (oid_field(name, kind::OID, true), numbers(values))
}

fn numbers(values: impl IntoIterator<Item = i32>) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(values))
}

fn smalls(values: impl IntoIterator<Item = i16>) -> ArrayRef {
    Arc::new(Int16Array::from_iter_values(values))
}

pub(crate) fn texts(values: impl IntoIterator<Item = String>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

/// One list an index, of what `of` makes of the places of its columns.
fn places(all: &[Indexed<'_>], of: fn(usize) -> i16) -> ArrayRef {
    let mut lists = ListBuilder::new(Int16Builder::new());
    for index in all {
        lists.append_value(index.key.iter().map(|at| Some(of(*at))));
    }
    Arc::new(lists.finish())
}

pub(crate) fn table(columns: Vec<Column>) -> Result<RecordBatch> {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

async fn read(inner: &Arc<dyn SchemaProvider>, name: &str) -> Result<RecordBatch> {
    let Some(table) = inner.table(name).await? else { return Ok(RecordBatch::new_empty(Arc::new(Schema::empty()))) };
    let schema = table.schema();
    let batches = SessionContext::new().read_table(table)?.collect().await?;
    Ok(concat_batches(&schema, &batches)?)
}

/// The batch with other columns in place of its own.
fn with(batch: &RecordBatch, changed: &[(&str, ArrayRef)]) -> Result<RecordBatch> {
    let schema = batch.schema();
    let column = |(field, own): (&Arc<Field>, &ArrayRef)| match changed.iter().find(|(name, _)| name == field.name()) {
        Some((_, other)) => cast(other, field.data_type()),
        None => Ok(Arc::clone(own)),
    };
    let columns = schema.fields().iter().zip(batch.columns()).map(column).collect::<Result<_, _>>()?;
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// Rows of which only some columns are given; the others are null, or what is nearest to it.
fn filled(schema: &SchemaRef, count: usize, given: &[(&str, ArrayRef)]) -> Result<RecordBatch> {
    let column = |field: &Arc<Field>| -> Result<ArrayRef> {
        match given.iter().find(|(name, _)| name == field.name()) {
            Some((_, array)) => Ok(cast(array, field.data_type())?),
            None if field.is_nullable() => Ok(arrow::array::new_null_array(field.data_type(), count)),
            None => ScalarValue::new_default(field.data_type())?.to_array_of_size(count),
        }
    };
    let columns = schema.fields().iter().map(column).collect::<Result<_>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// The batch with one more column.
fn widened(batch: &RecordBatch, name: &str, array: ArrayRef) -> Result<RecordBatch> {
    let mut fields = batch.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(name, array.data_type().clone(), true)));
    let mut columns = batch.columns().to_vec();
    columns.push(array);
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
