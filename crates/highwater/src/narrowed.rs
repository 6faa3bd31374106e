//! Queries that name rows of a view, or of a table with an index, in whatever form they are written: these rows are
//! looked up by the view's key or by the index, and the query's plan runs over them alone.
//!
//! The plan is optimized once to see which conditions come down to the relation, and runs as it was bound. Queries
//! over one relation alone are read so: several are read as of one moment. Tables find their primary key themselves
//! ([`crate::provider`]), and the simplest form has a way without a plan ([`crate::point`]). Invariant: what is looked
//! up are all rows for which the conditions may be true, which are looked at again, so a query gives what it gives
//! over all rows.

use crate::connection::Connection;
use crate::database::Database;
use crate::error::Result;
use crate::index::IndexOver;
use crate::keyed_values::{keys_of, together};
use crate::objects::{Body, Object, Reading};
use crate::parameters::Parameters;
use crate::prepare::check_parameters;
use crate::provider::TableRows;
use crate::views::{KeyedView, Tables};
use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::datasource::{MemTable, provider_as_source, source_as_provider};
use datafusion::logical_expr::{Expr, LogicalPlan, TableProviderFilterPushDown, TableScan, TableSource, TableType};
use datafusion::physical_plan::ExecutionPlan;
use highwater_sql::references;
use highwater_sql::statement::Query;
use std::any::Any;
use std::sync::{Arc, OnceLock};

/// A query's plan over the rows that it names.
pub(crate) struct Narrowed {
    pub(crate) plan: LogicalPlan,
    /// The line of EXPLAIN.
    pub(crate) told: String,
}

/// How some rows of a relation are found.
struct Way {
    /// The columns of the key, by their places in the relation.
    key: Vec<usize>,
    /// Which of the relation's columns the rows have.
    has: Vec<bool>,
    told: String,
    by: By,
}

enum By {
    Key(KeyedView),
    Index(IndexOver),
}

impl Database {
    /// A query's plan over the rows that it names by a key or an index; none when it reads more than one relation, or
    /// rows that are not so named.
    pub(crate) async fn narrowed(
        &self,
        connection: &Connection,
        query: &Query,
        parameters: &Parameters,
    ) -> Result<Option<Narrowed>> {
        let names = references(query);
        let leaf = {
            let state = self.state();
            let leaves = state.objects.leaves(&names);
            let [leaf] = leaves.as_slice() else { return Ok(None) };
            (*leaf).clone()
        };
        let mut ways = self.ways(connection, &leaf);
        if names.len() == 1 && names.contains(leaf.name()) {
            let text = query.text.to_lowercase();
            let has_condition = text.contains("where") || text.contains("join");
            ways.retain(|way| has_condition && way.may_be_in(&text, &leaf.schema));
        }
        if ways.is_empty() {
            return Ok(None);
        }
        check_parameters(query, parameters)?;
        let later = Arc::new(Later { schema: nullable(&leaf.schema), found: OnceLock::new() });
        let source = provider_as_source(Arc::clone(&later) as Arc<dyn TableProvider>);
        let tables = Tables::from([(leaf.name().to_owned(), Arc::clone(&source))]);
        let relations = self.state().objects.relations(&self.session, &names, Reading::Tables(&tables))?;
        let plan = self.bound(connection, query, parameters, relations).await?;
        let (session, bound) = (Arc::clone(&self.session), plan.clone());
        let scans = self.aside(move || Ok(scans(&session, &bound, &source))).await?;
        let Some(scans) = scans.filter(|scans| !is_by_own_key(&leaf, scans)) else { return Ok(None) };
        let with_keys = |way: Way| way.keys(&scans, &leaf.schema).map(|keys| (way, keys));
        let Some((way, keys)) = ways.into_iter().find_map(with_keys) else { return Ok(None) };
        let rows = tokio::task::block_in_place(|| self.named_rows(&leaf, &way, &keys))?;
        let Some(rows) = rows else { return Ok(None) };
        let bytes: usize = rows.iter().map(RecordBatch::get_array_memory_size).sum();
        if bytes as u64 > self.config.query_memory.0 {
            return Ok(None);
        }
        later.fill(&rows, way.has)?;
        Ok(Some(Narrowed { plan, told: way.told }))
    }

    /// The ways to rows of a relation, that by most columns first among the indexes.
    fn ways(&self, connection: &Connection, leaf: &Object) -> Vec<Way> {
        let schema = &leaf.schema;
        let names = |key: &[usize]| {
            let names: Vec<&str> = key.iter().map(|at| schema.field(*at).name().as_str()).collect();
            names.join(", ")
        };
        let is_read_here = match &leaf.body {
            Body::Materialized(_) | Body::Fed(_) => true,
            // A transaction sees its own writes, which are not in an index.
            Body::Table(target) => connection.transaction.is_none() && target.schema().fields() == schema.fields(),
            _ => false,
        };
        if !is_read_here {
            return Vec::new();
        }
        let own = self.keyed_view(leaf.name()).filter(|view| view.schema.fields() == schema.fields()).map(|view| Way {
            key: view.key.clone(),
            has: vec![true; schema.fields().len()],
            told: format!("-- KeyScan: {} by {}", leaf.name(), names(&view.key)),
            by: By::Key(view),
        });
        let mut indexes = self.indexes_over(leaf);
        indexes.sort_by_key(|index| std::cmp::Reverse(index.key.len()));
        let indexes = indexes.into_iter().map(|index| Way {
            key: index.key.clone(),
            has: index.has.clone(),
            told: format!("-- IndexScan: {} on {} by {}", index.name, leaf.name(), names(&index.key)),
            by: By::Index(index),
        });
        let is_exact = |way: &Way| way.key.iter().all(|at| is_exact(schema.field(*at).data_type()));
        own.into_iter().chain(indexes).filter(is_exact).collect()
    }

    /// The rows with some keys, of which each comes once; none when they cannot be looked up now. Blocks.
    fn named_rows(&self, leaf: &Object, way: &Way, keys: &[Vec<ScalarValue>]) -> Result<Option<Vec<RecordBatch>>> {
        if keys.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let column = |at: usize| ScalarValue::iter_to_array(keys.iter().map(|key| key[at].clone()));
        let columns: Vec<ArrayRef> =
            (0..way.key.len()).map(column).collect::<std::result::Result<_, DataFusionError>>()?;
        let rows = match &way.by {
            By::Key(view) => view.lookup(columns).map(Some),
            By::Index(index) => self.rows_by_index(leaf, index, columns),
        };
        match rows {
            Err(error) if error.is_of_look_up() => Ok(None),
            rows => rows,
        }
    }
}

impl Way {
    /// Whether the text of a query, in small letters, may name all columns of the key.
    fn may_be_in(&self, text: &str, schema: &Schema) -> bool {
        self.key.iter().all(|at| text.contains(&schema.field(*at).name().to_lowercase()))
    }

    /// The keys of the rows that scans want; none when one of them wants others too, or columns that are not there.
    fn keys(&self, scans: &[TableScan], schema: &Schema) -> Option<Vec<Vec<ScalarValue>>> {
        let mut keys = Vec::new();
        for scan in scans {
            if !has_all(&self.has, scan.projection.as_ref()) {
                return None;
            }
            keys.extend(keys_of(&scan.filters, schema, &self.key)?);
        }
        together(keys)
    }
}

/// Values of which those are equal that are the same, and no others.
fn is_exact(data_type: &DataType) -> bool {
    !data_type.is_floating() && !data_type.is_nested() && !matches!(data_type, DataType::Interval(_))
}

/// Whether rows have all columns that are wanted.
fn has_all(has: &[bool], wanted: Option<&Vec<usize>>) -> bool {
    wanted.map_or_else(|| has.iter().all(|has| *has), |wanted| wanted.iter().all(|at| has[*at]))
}

/// Whether a table finds the rows of all scans by its primary key, which needs no index.
fn is_by_own_key(leaf: &Object, scans: &[TableScan]) -> bool {
    let Body::Table(target) = &leaf.body else { return false };
    let key = &target.table.spec().key;
    scans.iter().all(|scan| keys_of(&scan.filters, &leaf.schema, key).is_some())
}

/// The scans of a relation in a plan when it is optimized; none when it has no conditions, or not all scans are seen.
fn scans(session: &highwater_sql::Session, plan: &LogicalPlan, of: &Arc<dyn TableSource>) -> Option<Vec<TableScan>> {
    let mut has_condition = false;
    let looked = plan.apply_with_subqueries(|node| {
        has_condition |= match node {
            LogicalPlan::Filter(_) => true,
            LogicalPlan::Join(join) => join.filter.is_some(),
            _ => false,
        };
        Ok(TreeNodeRecursion::Continue)
    });
    if looked.is_err() || !has_condition {
        return None;
    }
    let plan = session.state().optimize(plan).ok()?;
    let (mut found, mut hides) = (Vec::new(), false);
    let looked = plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::TableScan(scan) if Arc::ptr_eq(&scan.source, of) => found.push(scan.clone()),
            // It may read the relation too.
            LogicalPlan::TableScan(_) => hides = true,
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    });
    (looked.is_ok() && !hides && !found.is_empty()).then_some(found)
}

/// The lines of EXPLAIN for the scans of tables that read rows by their primary keys.
pub(crate) fn key_scans(plan: &LogicalPlan) -> Vec<String> {
    let mut lines = Vec::new();
    // What cannot be walked through has no such lines.
    let _ = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = source_as_provider(&scan.source)
        {
            let any: &dyn Any = provider.as_ref();
            let rows = any.downcast_ref::<TableRows>();
            lines.extend(rows.and_then(|rows| rows.explained(scan.table_name.table(), &scan.filters)));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    lines
}

/// A relation's columns, any of which may be null.
fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true)));
    Arc::new(Schema::new(fields.collect::<Vec<FieldRef>>()))
}

/// A relation whose rows are read when the query over it is bound.
#[derive(Debug)]
struct Later {
    schema: SchemaRef,
    found: OnceLock<Found>,
}

/// Rows, and which columns they have: the others are null.
#[derive(Debug)]
struct Found {
    rows: MemTable,
    has: Vec<bool>,
}

impl Later {
    /// Takes the rows, which have columns of the relation under their names.
    fn fill(&self, rows: &[RecordBatch], has: Vec<bool>) -> Result<()> {
        let whole = |rows: &RecordBatch| {
            let column = |(field, has): (&FieldRef, &bool)| match rows.column_by_name(field.name()) {
                Some(column) if *has => Arc::clone(column),
                _ => new_null_array(field.data_type(), rows.num_rows()),
            };
            let columns = self.schema.fields().iter().zip(&has).map(column).collect();
            RecordBatch::try_new(Arc::clone(&self.schema), columns)
        };
        let rows: Vec<RecordBatch> = rows.iter().map(whole).collect::<std::result::Result<_, _>>()?;
        let rows = MemTable::try_new(Arc::clone(&self.schema), vec![rows])?;
        // It is filled once.
        let _ = self.found.set(Found { rows, has });
        Ok(())
    }
}

#[async_trait]
impl TableProvider for Later {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion::common::Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        match self.found.get() {
            Some(found) if has_all(&found.has, projection) => found.rows.scan(session, projection, &[], limit).await,
            _ => Err(DataFusionError::Internal("a query reads rows that were not looked up".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Config, Database, same_rows};
    use arrow::array::{ArrayRef, AsArray as _, Int64Array};
    use std::sync::Arc;

    /// By the key of a view, (a, b), of which `a` is an int and `b` a bigint.
    const BY_KEY: [&str; 25] = [
        "SELECT * FROM v WHERE a = 2 AND b = 1",
        "SELECT v.*, n * 2 AS twice FROM public.v WHERE (b = 1) AND (2 = v.a)",
        "SELECT x.n + x.a FROM v AS x WHERE x.a = CAST('2' AS int) AND x.b = 1::bigint",
        "SELECT \"n\" FROM \"v\" WHERE \"a\" = '2' AND b = '1'",
        "SELECT n FROM v WHERE a = 2 AND b = 1 AND n > 100",
        "SELECT n FROM v WHERE a = 2 AND b = 1 AND n IS NOT NULL LIMIT 5",
        "SELECT n FROM v WHERE a = 2 AND b = 1 OFFSET 1",
        "SELECT n FROM v WHERE a = 2 AND b = 1 ORDER BY n + 1 FETCH FIRST 1 ROW ONLY",
        "SELECT n FROM v WHERE a IN (1, 2, 3) AND b = 1",
        "SELECT n FROM v WHERE a IN (1, 2, 3, 4, 5, 6, NULL) AND b IN (0, 1)",
        "SELECT n FROM v WHERE a = ANY (ARRAY[1, 2, NULL]) AND b = 1",
        "SELECT n FROM v WHERE a = ANY ('{1,2}'::int[]) AND b = 1",
        "SELECT n FROM v WHERE (a = 1 OR a = 2) AND b = 1",
        "SELECT n FROM v WHERE (a = 1 AND b = 1) OR (b = 0 AND a = 4)",
        "SELECT n FROM v WHERE a = 1 + 1 AND b = 3 - 2",
        "SELECT n FROM v WHERE a = 2 AND b IN (1, 5000000000)",
        "SELECT n FROM v WHERE a::bigint IN (2, 5000000000) AND b = 1",
        "SELECT x.n, y.n AS m FROM v AS x JOIN v AS y ON x.a = 1 AND x.b = 1 AND y.a = 2 AND y.b = 1",
        "SELECT n FROM v WHERE a = 1 AND b = 1 UNION ALL SELECT n FROM v WHERE a = 2 AND b = 1",
        "SELECT count(*), sum(n) FROM v WHERE a IN (1, 2) AND b = 1",
        "SELECT m FROM (SELECT a AS c, b AS d, n AS m FROM v) AS q WHERE c = 2 AND d = 1",
        "WITH q AS (SELECT * FROM v) SELECT n FROM q WHERE a = 2 AND b = 1 ORDER BY n",
        "SELECT c, m FROM other WHERE c = 2 AND d = 1",
        "SELECT count(*) FROM v WHERE a = 99 AND b = 1",
        "SELECT n FROM v WHERE a = 2 AND b = 1 AND n NOT IN (SELECT n FROM v WHERE a = 1 AND b = 1)",
    ];

    /// By the index of the view over `n`, and of the table over `b`.
    const BY_INDEX: [&str; 7] = [
        "SELECT a FROM v WHERE n = 3 AND a > 1",
        "SELECT a FROM v WHERE n IN (2, 3) ORDER BY a, b LIMIT 2",
        "SELECT count(*) FROM v WHERE n = 3 OR n = 2",
        "SELECT * FROM t WHERE b = 1 AND id > 4",
        "SELECT id FROM t WHERE b IN (0, 1) AND a = 2 ORDER BY id",
        "SELECT sum(a) FROM t WHERE b = 1",
        "SELECT id + 1 FROM t WHERE b = CAST('0' AS bigint)",
    ];

    /// By a table's primary key.
    const BY_PRIMARY_KEY: [&str; 4] = [
        "SELECT a + b FROM t WHERE id IN (1, 5)",
        "SELECT a FROM t WHERE id = 3 OR (id = 4 AND a > 0) ORDER BY id DESC",
        "SELECT a FROM t WHERE id = ANY (ARRAY[3, 4])",
        "SELECT a FROM t WHERE id = 3 AND b > 1",
    ];

    /// All rows.
    const BY_NOTHING: [&str; 8] = [
        "SELECT n FROM v WHERE a = 2",
        "SELECT n FROM v WHERE a = 2 OR b = 1",
        "SELECT n FROM v WHERE a = 2 AND b <> 1",
        "SELECT n FROM v WHERE a NOT IN (2, 3) AND b = 1",
        "SELECT n FROM v WHERE a = 2.5 AND b = 1",
        "SELECT n FROM v WHERE abs(a) = 2 AND b = 1",
        "SELECT x.n FROM v AS x JOIN v AS y ON x.n = y.n WHERE x.a = 2 AND x.b = 1",
        "SELECT n FROM v WHERE a IS NULL AND b = 1",
    ];

    fn database(folder: &std::path::Path) -> Database {
        let database = Database::open(Config::new(folder)).expect("a database");
        database
            .script(
                "CREATE TABLE t (id int PRIMARY KEY, a int, b bigint);
                 CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n, b, a FROM t GROUP BY a, b;
                 CREATE VIEW other AS SELECT a AS c, b AS d, n AS m FROM v;
                 CREATE INDEX of_n ON v (n);
                 CREATE INDEX of_b ON t (b);",
            )
            .expect("a view");
        for id in 0..60 {
            let a = if id % 9 == 0 { "NULL".to_owned() } else { (id % 5).to_string() };
            database.execute(&format!("INSERT INTO t VALUES ({id}, {a}, {})", id % 4)).expect("a row");
        }
        database.execute("FLUSH").expect("a flush");
        database
    }

    fn explained(database: &Database, sql: &str) -> String {
        let plan = database.query(&format!("EXPLAIN {sql}")).expect(sql);
        let lines = plan.batches.iter().flat_map(|lines| lines.column(0).as_string::<i32>().iter().flatten());
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn an_index_that_was_made_again_is_not_the_one_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = database(folder.path());
        let view = database.state().objects.get("v").expect("it is there").clone();
        let before = database.indexes_over(&view).remove(0);
        let rows = || {
            let keys: ArrayRef = Arc::new(Int64Array::from(vec![3]));
            database.rows_by_index(&view, &before, vec![keys]).expect("it is looked up")
        };
        assert!(rows().is_some());
        database.execute("DROP INDEX of_n").expect("it is dropped");
        assert!(rows().is_none());
        database.execute("CREATE INDEX of_n ON v (n) INCLUDE (a)").expect("an index");
        assert!(rows().is_none(), "it has not all columns");
        database.shutdown().expect("a clean end");
    }

    #[test]
    fn rows_that_are_looked_up_are_those_that_reading_all_gives() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = database(folder.path());
        let mut others = Vec::new();
        let forms = [(&BY_KEY[..], "KeyScan: v"), (&BY_INDEX[..], "IndexScan: "), (&BY_PRIMARY_KEY[..], "KeyScan: t")];
        for (queries, told) in forms {
            for sql in queries {
                let (found, all) = (database.query(sql).expect(sql), database.query_unoptimized(sql).expect(sql));
                assert_eq!(same_rows(&found.batches, &all.batches).expect("comparable"), None, "{sql}");
                let plan = explained(&database, sql);
                if !plan.contains(told) {
                    others.push(format!("{sql}:\n{plan}"));
                }
            }
        }
        assert!(others.is_empty(), "{}", others.join("\n"));
        for sql in BY_NOTHING {
            let (found, all) = (database.query(sql).expect(sql), database.query_unoptimized(sql).expect(sql));
            assert_eq!(same_rows(&found.batches, &all.batches).expect("comparable"), None, "{sql}");
            let plan = explained(&database, sql);
            assert!(!plan.contains("KeyScan") && !plan.contains("IndexScan"), "{sql}:\n{plan}");
        }
        database.shutdown().expect("a clean end");
    }
}
