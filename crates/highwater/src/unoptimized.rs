//! Queries that are planned by no more rules than it takes to run them.
//!
//! A view and the same query run once have most of DataFusion's rules in common, so comparing them shows no fault of
//! a rule. Here is the third way, which has none of them, for checks only: it is as slow as the query is written.

use crate::answer::RowStream;
use crate::connection::invalid;
use crate::database::Database;
use crate::error::Result;
use crate::outcome::Rows;
use crate::parameters::Parameters;
use datafusion::execution::SessionStateBuilder;
use highwater_sql::statement::Statement;
use tokio::runtime::Handle;

impl Database {
    /// Executes a query without the rules that are there to make it fast, in one stream. It gives the rows of
    /// [`Database::query`], and is for checks of that. All rows are held in memory.
    ///
    /// # Errors
    /// Those of [`Database::query`]; `Sql` with 42601 for a statement that is no query; `Query` for a query
    /// that needs more rules.
    pub fn query_unoptimized(&self, sql: &str) -> Result<Rows> {
        let Statement::Query(query) = highwater_sql::parse(sql)? else {
            return Err(invalid("42601", "only a query can be run without its optimization", None));
        };
        let mut connection = self.connect();
        self.runtime.block_on(async {
            let plan = self.planned_with(&mut connection, &query, &Parameters::none(), None).await?;
            let mut state = self.session.state().clone();
            state.mark_start_execution();
            state.config_mut().options_mut().execution.target_partitions = 1;
            let rules = self.session.needed_rules();
            let state = SessionStateBuilder::new_from_existing(state).with_optimizer_rules(rules).build();
            let task = self.task(&state);
            let planned = self.aside(move || Ok(Handle::current().block_on(state.create_physical_plan(&plan))?));
            RowStream::new(self.computed(planned.await?, task)).plain().collect_within(u64::MAX).await
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::{Config, Database, same_rows};

    #[test]
    fn it_gives_the_rows_of_the_query() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Database::open(Config::new(folder.path())).expect("a database");
        database.execute("CREATE TABLE t (a int, b varchar)").expect("a table");
        database.execute("INSERT INTO t VALUES (1, 'x'), (2, NULL), (2, 'y'), (NULL, 'x')").expect("rows");
        for (sql, rows) in [
            ("SELECT DISTINCT a FROM t", 3),
            ("SELECT b, count(*) FROM t GROUP BY b HAVING count(*) > 1", 1),
            ("SELECT x.a, x.b, y.b AS other FROM t AS x LEFT JOIN t AS y ON x.a = y.a AND x.b < y.b", 4),
            ("SELECT * FROM t WHERE b NOT IN (SELECT b FROM t WHERE b IS NOT NULL AND a = 2)", 2),
            ("SELECT * FROM t AS x WHERE a = (SELECT max(a) FROM t AS y WHERE y.b = x.b)", 2),
            ("SELECT a FROM t AS x WHERE EXISTS (SELECT 1 FROM t AS y WHERE y.a > x.a) OR b = 'y'", 2),
        ] {
            let (once, plain) = (database.query(sql).expect(sql), database.query_unoptimized(sql).expect(sql));
            assert_eq!(plain.count(), rows, "{sql}");
            assert_eq!(same_rows(&plain.batches, &once.batches).expect("comparable"), None, "{sql}");
        }
        let refused = database.query_unoptimized("FLUSH").expect_err("no query");
        assert_eq!(refused.sqlstate(), "42601");
    }
}
