//! The statements that Highwater speaks, as plain data with the positions that errors need.

pub use crate::alter::{AddKey, RenameColumn};
pub use crate::copy::{Copy, CopyOptions, CopyOut};
use crate::error::{Error, Kind, Result};
pub use crate::row_changes::{Joined, ROW_TARGET, returning_joined};
pub use crate::show::Show;
pub use crate::sql_function::{Argument, CreateFunction, DropFunction};
use crate::text::Position;
pub use crate::upsert::{ConflictUpdate, OnConflict, ROW_EXCLUDED, ROW_EXISTING, ROW_NUMBER};
use arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion::sql::sqlparser::ast;
use std::fmt;

/// A name and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Folded to lower case unless it was quoted.
    pub value: String,
    /// Where it stands.
    pub at: Position,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.value)
    }
}

/// One `key = value` of a WITH or ENCODE clause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// Lower case, dots included.
    pub key: String,
    /// As written, without quotes.
    pub value: String,
    /// Where the key stands.
    pub at: Position,
}

/// FORMAT ... ENCODE ... (...).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// What an item stands for.
    pub envelope: Envelope,
    /// Where the envelope's name stands.
    pub at: Position,
    /// How rows are written.
    pub encoding: Encoding,
    /// What stands in parentheses.
    pub options: Vec<Property>,
}

/// What an item of a source or sink stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// A row.
    Plain,
    /// A key and its row, or a key without one.
    Upsert,
    /// A change as Debezium writes it.
    Debezium,
}

impl Envelope {
    /// Its name in the statement.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Upsert => "UPSERT",
            Self::Debezium => "DEBEZIUM",
        }
    }
}

/// INCLUDE what AS name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Included {
    /// What the column holds.
    pub what: Metadata,
    /// The column.
    pub name: Name,
}

/// What a source knows of a row beside its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metadata {
    /// The key that came with it.
    Key,
    /// The file that it stands in.
    File,
    /// Where it stands in there.
    Offset,
}

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// One JSON object a line.
    Json,
    /// Comma-separated values.
    Csv,
    /// Parquet.
    Parquet,
}

impl Encoding {
    /// Its name in the statement.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Csv => "CSV",
            Self::Parquet => "PARQUET",
        }
    }
}

/// A query with the text it was parsed from.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// As sqlparser gives it; its spans are places in `text`.
    pub ast: Box<ast::Query>,
    /// The whole statement's text, for positions.
    pub text: String,
}

/// CREATE SOURCE.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateSource {
    /// The new source.
    pub name: Name,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// Those of the connector, unless it knows them itself, and generated ones.
    pub columns: Vec<Column>,
    /// INCLUDE.
    pub included: Vec<Included>,
    /// WATERMARK FOR.
    pub watermark: Option<Watermark>,
    /// WITH.
    pub options: Vec<Property>,
    /// FORMAT ... ENCODE.
    pub format: Option<Format>,
}

/// A column of a CREATE SOURCE or CREATE TABLE.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: Name,
    /// Its Arrow type.
    pub data_type: DataType,
    /// NOT NULL.
    pub not_null: bool,
    /// AS: what it is computed from in the row's other columns.
    pub generated: Option<ast::Expr>,
}

/// WATERMARK FOR column AS column - INTERVAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// The event time.
    pub column: Name,
    /// How far behind the greatest time it is.
    pub delay_us: i64,
    /// Where the clause stands.
    pub at: Position,
}

impl Watermark {
    /// The place of its column among these.
    ///
    /// # Errors
    /// `Unknown` when there is no such column, `Invalid` when it is not a timestamp in microseconds (42804).
    pub fn place(&self, columns: &Schema) -> Result<usize> {
        let Name { value, at } = &self.column;
        let Ok(place) = columns.index_of(value) else {
            return Err(Error::Unknown { kind: Kind::Column, name: value.clone(), position: Some(*at) });
        };
        if matches!(columns.field(place).data_type(), DataType::Timestamp(TimeUnit::Microsecond, _)) {
            return Ok(place);
        }
        Err(Error::Invalid {
            sqlstate: "42804",
            message: format!("the watermark's column {value:?} is not a timestamp"),
            position: Some(*at),
        })
    }
}

/// CREATE TABLE.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateTable {
    /// The new table.
    pub name: Name,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// At least one.
    pub columns: Vec<TableColumn>,
    /// PRIMARY KEY, in its order; empty for none.
    pub key: Vec<Name>,
    /// WATERMARK FOR.
    pub watermark: Option<Watermark>,
    /// APPEND ONLY.
    pub append_only: bool,
    /// What fills it; none for a table that clients write.
    pub feed: Option<Feed>,
    /// The statement's text, for positions.
    pub text: String,
}

/// The connector that fills a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// INCLUDE.
    pub included: Vec<Included>,
    /// WITH.
    pub options: Vec<Property>,
    /// FORMAT ... ENCODE.
    pub format: Option<Format>,
}

/// A column of a CREATE TABLE.
#[derive(Clone, Debug, PartialEq)]
pub struct TableColumn {
    /// Its name, type and whether it takes nulls.
    pub column: Column,
    /// Of a text of so many characters: how many.
    pub characters: Option<Characters>,
    /// DEFAULT.
    pub default: Option<ast::Expr>,
}

/// ALTER TABLE ... ADD COLUMN.
#[derive(Clone, Debug, PartialEq)]
pub struct AddColumn {
    /// The table.
    pub table: Name,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// The new column.
    pub column: TableColumn,
    /// The column as it was written.
    pub definition: String,
    /// The statement's text, for positions.
    pub text: String,
}

/// How many characters a text of a column has at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Characters {
    /// `char(n)`: blanks at the end of a text are no part of it.
    Fixed(usize),
    /// `varchar(n)`: blanks beyond so many characters are left out.
    Varying(usize),
}

/// VACUUM and ANALYZE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vacuum {
    /// ANALYZE, and not VACUUM.
    pub analyzes: bool,
    /// The tables, each with the columns that are named; all when there are none.
    pub tables: Vec<(Name, Vec<Name>)>,
}

/// The column under which a table gives a row's key to UPDATE and DELETE.
pub const ROW_KEY: &str = "__row_key";
/// The column under which it gives the row as it is stored.
pub const ROW_VALUE: &str = "__row_value";

/// INSERT.
#[derive(Clone, Debug, PartialEq)]
pub struct Insert {
    /// The table.
    pub table: Name,
    /// What it is called in DO UPDATE and RETURNING.
    pub alias: Option<Name>,
    /// The columns that the rows give; empty for all from the first on.
    pub columns: Vec<Name>,
    /// The rows; absent for DEFAULT VALUES.
    pub source: Option<Query>,
    /// ON CONFLICT.
    pub on_conflict: Option<OnConflict>,
    /// RETURNING.
    pub returning: Vec<ast::SelectItem>,
    /// The statement's text, for positions.
    pub text: String,
}

/// UPDATE.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// The table.
    pub table: Name,
    /// What it is called in expressions.
    pub alias: Option<Name>,
    /// SET.
    pub assignments: Vec<(Name, ast::Expr)>,
    /// FROM, and WITH before the statement.
    pub joined: Joined,
    /// WHERE.
    pub selection: Option<ast::Expr>,
    /// RETURNING.
    pub returning: Vec<ast::SelectItem>,
    /// The statement's text, for positions.
    pub text: String,
}

/// DELETE, or TRUNCATE.
#[derive(Clone, Debug, PartialEq)]
pub struct Delete {
    /// The table.
    pub table: Name,
    /// What it is called in expressions.
    pub alias: Option<Name>,
    /// USING, and WITH before the statement.
    pub joined: Joined,
    /// WHERE.
    pub selection: Option<ast::Expr>,
    /// RETURNING.
    pub returning: Vec<ast::SelectItem>,
    /// The other tables of a TRUNCATE, if it was written as one.
    pub truncates: Option<Vec<Name>>,
    /// The statement's text, for positions.
    pub text: String,
}

/// PREPARE name (types) AS statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepare {
    /// What it is to be called.
    pub name: Name,
    /// The types that it gives to the first parameters.
    pub types: Vec<DataType>,
    /// A query, INSERT, UPDATE or DELETE.
    pub statement: Box<Statement>,
    /// What the statement was parsed from: blanks stand for what is before it.
    pub text: String,
}

/// FETCH or MOVE, forwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The cursor.
    pub cursor: Name,
    /// How many rows, 0 for the one that was taken last; all that are left when absent.
    pub count: Option<u64>,
    /// MOVE: the rows are skipped.
    pub skips: bool,
    /// WITH, of a subscription's cursor: how long to wait for rows.
    pub options: Vec<Property>,
}

/// DECLARE cursor SUBSCRIPTION CURSOR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclareSubscription {
    /// The cursor.
    pub cursor: Name,
    /// What it reads.
    pub subscription: Name,
    /// From where on.
    pub since: Since,
    /// Where that stands.
    pub at: Position,
}

/// From where on a subscription's cursor reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// What changes after it was declared.
    Now,
    /// The oldest change that is kept.
    Begin,
    /// What changed at this time or later, in milliseconds since 1970-01-01 UTC.
    Time(i64),
    /// All rows of the view, and then what changes in them.
    Full,
}

/// CREATE SUBSCRIPTION.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateSubscription {
    /// The new subscription.
    pub name: Name,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// The view whose changes it keeps.
    pub from: Name,
    /// All columns of that view.
    pub query: Query,
    /// WITH.
    pub options: Vec<Property>,
}

/// CREATE INDEX.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateIndex {
    /// The new index.
    pub name: Name,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// The relation whose rows it finds.
    pub on: Name,
    /// By which columns; at least one.
    pub columns: Vec<Name>,
    /// INCLUDE: the other columns that it has, all of the relation when there are none.
    pub included: Vec<Name>,
    /// The columns that it has.
    pub query: Query,
}

/// For how long SET sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetScope {
    /// SET LOCAL: until the transaction ends.
    Transaction,
    /// SET: for the session.
    Session,
    /// ALTER SYSTEM: for all sessions, now and later.
    System,
}

/// What a transaction sees of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// READ UNCOMMITTED, which sees what READ COMMITTED does.
    ReadUncommitted,
    /// READ COMMITTED.
    #[default]
    ReadCommitted,
    /// REPEATABLE READ: nothing that was committed after its first statement.
    RepeatableRead,
}

impl Isolation {
    /// As PostgreSQL's settings call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReadUncommitted => "read uncommitted",
            Self::ReadCommitted => "read committed",
            Self::RepeatableRead => "repeatable read",
        }
    }

    /// The level of a name, whatever its case.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let all = [Self::ReadUncommitted, Self::ReadCommitted, Self::RepeatableRead];
        all.into_iter().find(|level| level.name().eq_ignore_ascii_case(name))
    }
}

/// What a statement says of transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransactionModes {
    /// READ ONLY or READ WRITE.
    pub read_only: Option<bool>,
    /// ISOLATION LEVEL.
    pub isolation: Option<Isolation>,
}

/// What is done with a transaction's savepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SavepointVerb {
    /// SAVEPOINT.
    Begin,
    /// RELEASE.
    Release,
    /// ROLLBACK TO.
    RollbackTo,
}

/// CREATE VIEW and CREATE MATERIALIZED VIEW.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateView {
    /// The new view.
    pub name: Name,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// New names for the query's columns, all or none.
    pub columns: Vec<Name>,
    /// WITH; always empty for a plain view.
    pub options: Vec<Property>,
    /// AS.
    pub query: Query,
    /// Where EMIT ON WINDOW CLOSE stands, if it does.
    pub closes: Option<Position>,
}

/// CREATE SINK.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateSink {
    /// The new sink.
    pub name: Name,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// INTO: a table that takes the changes, instead of a connector.
    pub into: Option<Name>,
    /// AS SELECT, or FROM as `SELECT * FROM`.
    pub query: Query,
    /// Where EMIT ON WINDOW CLOSE stands, if it does.
    pub closes: Option<Position>,
    /// WITH; on_error at most for a table.
    pub options: Vec<Property>,
    /// FORMAT ... ENCODE.
    pub format: Option<Format>,
}

/// The kinds of objects that DROP names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// TABLE.
    Table,
    /// SOURCE.
    Source,
    /// VIEW.
    View,
    /// MATERIALIZED VIEW.
    MaterializedView,
    /// INDEX.
    Index,
    /// SINK.
    Sink,
    /// SUBSCRIPTION.
    Subscription,
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

/// One statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// CREATE TABLE.
    CreateTable(CreateTable),
    /// INSERT.
    Insert(Insert),
    /// UPDATE.
    Update(Update),
    /// DELETE.
    Delete(Delete),
    /// COPY t FROM STDIN.
    Copy(Copy),
    /// COPY ... TO STDOUT.
    CopyOut(CopyOut),
    /// BEGIN or START TRANSACTION.
    Begin(TransactionModes),
    /// SET TRANSACTION, or SET SESSION CHARACTERISTICS AS TRANSACTION.
    SetTransaction {
        /// For this transaction, or for all that the session begins from now on.
        scope: SetScope,
        /// What it says.
        modes: TransactionModes,
    },
    /// COMMIT or END.
    Commit,
    /// ROLLBACK or ABORT.
    Rollback,
    /// SAVEPOINT, RELEASE SAVEPOINT or ROLLBACK TO SAVEPOINT.
    Savepoint {
        /// What is done with it.
        verb: SavepointVerb,
        /// Its name.
        name: Name,
    },
    /// DISCARD ALL.
    DiscardAll,
    /// RESET ALL.
    ResetAll,
    /// UNLISTEN, which ends nothing: there is no LISTEN.
    Unlisten,
    /// PREPARE.
    Prepare(Prepare),
    /// EXECUTE name (values).
    Execute {
        /// The prepared statement.
        name: Name,
        /// What its parameters stand for.
        values: Vec<ast::Expr>,
    },
    /// DEALLOCATE name, or ALL when absent.
    Deallocate(Option<Name>),
    /// DECLARE cursor CURSOR FOR query.
    Declare {
        /// The cursor.
        cursor: Name,
        /// WITH HOLD: it outlives its transaction.
        hold: bool,
        /// What it reads.
        query: Query,
    },
    /// DECLARE cursor SUBSCRIPTION CURSOR FOR subscription.
    DeclareSubscription(DeclareSubscription),
    /// FETCH or MOVE.
    Fetch(Fetch),
    /// CLOSE cursor, or ALL when absent.
    Close(Option<Name>),
    /// CREATE SOURCE.
    CreateSource(CreateSource),
    /// CREATE VIEW.
    CreateView(CreateView),
    /// CREATE MATERIALIZED VIEW.
    CreateMaterializedView(CreateView),
    /// CREATE INDEX.
    CreateIndex(CreateIndex),
    /// CREATE SINK.
    CreateSink(CreateSink),
    /// CREATE SUBSCRIPTION.
    CreateSubscription(CreateSubscription),
    /// CREATE FUNCTION.
    CreateFunction(CreateFunction),
    /// DROP FUNCTION.
    DropFunction(DropFunction),
    /// SELECT, VALUES, WITH.
    Query(Query),
    /// EXPLAIN of a query.
    ExplainQuery(Query),
    /// EXPLAIN ANALYZE of a query, which is run.
    ExplainAnalyze(Query),
    /// EXPLAIN CREATE MATERIALIZED VIEW.
    ExplainView(CreateView),
    /// EXPLAIN CREATE SINK.
    ExplainSink(CreateSink),
    /// EXPLAIN CREATE INDEX.
    ExplainIndex(CreateIndex),
    /// SHOW.
    Show(Show),
    /// DESCRIBE x.
    Describe(Name),
    /// `CHECKPOINT [v] [WAIT]`.
    Checkpoint {
        /// All pipelines when absent.
        view: Option<Name>,
        /// Return only when it is published.
        wait: bool,
    },
    /// ALTER MATERIALIZED VIEW v SET (...).
    AlterView {
        /// The kind that was named: a materialized view or a sink.
        kind: ObjectKind,
        /// The view or sink.
        name: Name,
        /// The settings.
        options: Vec<Property>,
    },
    /// ALTER ... RENAME TO.
    Rename {
        /// The kind that was named.
        kind: ObjectKind,
        /// The object.
        name: Name,
        /// What it is to be called.
        to: Name,
    },
    /// ALTER TABLE ... ADD COLUMN.
    AddColumn(Box<AddColumn>),
    /// ALTER TABLE ... ADD PRIMARY KEY.
    AddKey(AddKey),
    /// ALTER TABLE ... RENAME COLUMN.
    RenameColumn(RenameColumn),
    /// VACUUM and ANALYZE.
    Vacuum(Vacuum),
    /// DROP.
    Drop {
        /// The kind that was named.
        kind: ObjectKind,
        /// The objects.
        names: Vec<Name>,
        /// IF EXISTS.
        if_exists: bool,
        /// CASCADE.
        cascade: bool,
    },
    /// FLUSH.
    Flush,
    /// SET x TO y.
    Set {
        /// For how long.
        scope: SetScope,
        /// The setting.
        name: Name,
        /// Its new value; `default` for DEFAULT.
        value: String,
    },
}

/// What the new value of a table's column is called.
pub(crate) fn new_column(at: usize) -> ast::Ident {
    ast::Ident::with_quote('"', format!("__new_{at}"))
}

/// `SELECT items FROM table` for RETURNING.
#[must_use]
pub fn returning(table: &Name, alias: Option<&Name>, items: &[ast::SelectItem], text: &str) -> Query {
    select(table, alias, items.to_vec(), text)
}

/// The query that gives columns of a relation, all when none is named.
#[must_use]
pub fn columns_of(relation: &Name, columns: &[Name], text: &str) -> Query {
    let mut items: Vec<_> = columns.iter().map(|name| ast::SelectItem::UnnamedExpr(identifier(&name.value))).collect();
    if items.is_empty() {
        items.push(ast::SelectItem::Wildcard(ast::WildcardAdditionalOptions::default()));
    }
    select(relation, None, items, text)
}

/// The query that computes expressions from the columns of a relation.
pub(crate) fn computed_from(relation: &Name, expressions: impl Iterator<Item = ast::Expr>, text: &str) -> Query {
    let item = |(at, expr)| ast::SelectItem::ExprWithAlias { expr, alias: new_column(at) };
    select(relation, None, expressions.enumerate().map(item).collect(), text)
}

/// The query `SELECT expression, ...`, for what reads no rows.
#[must_use]
pub fn constants<'a>(expressions: impl IntoIterator<Item = &'a ast::Expr>, text: &str) -> Query {
    let mut query = crate::text::template("SELECT 1");
    if let ast::SetExpr::Select(select) = query.body.as_mut() {
        select.projection = expressions.into_iter().cloned().map(ast::SelectItem::UnnamedExpr).collect();
    }
    Query { ast: query, text: text.to_owned() }
}

fn identifier(name: &str) -> ast::Expr {
    ast::Expr::Identifier(ast::Ident::with_quote('"', name))
}

/// The query `SELECT items FROM table AS alias`.
pub(crate) fn select(table: &Name, alias: Option<&Name>, items: Vec<ast::SelectItem>, text: &str) -> Query {
    let mut query = crate::text::template("SELECT 1 FROM x AS y");
    if let ast::SetExpr::Select(select) = query.body.as_mut() {
        select.projection = items;
        if let Some(ast::TableFactor::Table { name, alias: place, .. }) =
            select.from.first_mut().map(|from| &mut from.relation)
        {
            *name = ast::ObjectName::from(vec![ast::Ident::with_quote('"', table.value.clone())]);
            match alias {
                Some(alias) => {
                    if let Some(place) = place {
                        place.name = ast::Ident::with_quote('"', alias.value.clone());
                    }
                }
                None => *place = None,
            }
        }
    }
    Query { ast: query, text: text.to_owned() }
}
