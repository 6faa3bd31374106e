//! The crate's golden scripts: `testscripts/*.txt` hold statements and what comes of them.
//!
//! A case is a statement, a line `----`, what is expected, and an empty line. To accept what comes
//! out now, run the tests with `UPDATE_TESTSCRIPTS=1` and read the difference.

use crate::lower::{Builder, Maintained, Planning};
use crate::naming::{Naming, rename};
use crate::session::{plain, view_schema};
use crate::statement::{CreateSink, CreateSource, CreateView, Name, Query, Statement};
use crate::{Error, Relations, Result, Session, check_constants, explain, parse, references, unbounded};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use highwater_engine::plan::{Operator, Watermark};
use highwater_engine::sink::{Sink, Target};
use highwater_engine::source::{Offset, Source, SplitReader};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

#[derive(Debug)]
struct Columns(SchemaRef);

impl Source for Columns {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0)
    }

    fn splits(&self) -> highwater_engine::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn blocking(&self) -> bool {
        false
    }

    fn open(&self, _: &str, _: Option<&Offset>) -> highwater_engine::Result<Box<dyn SplitReader>> {
        Err(highwater_engine::Error::Plan("plans only".to_owned()))
    }
}

#[derive(Debug)]
struct Nowhere;

impl Sink for Nowhere {
    fn check(&self, _: &SchemaRef, append_only: bool) -> highwater_engine::Result<()> {
        if append_only {
            return Ok(());
        }
        Err(highwater_engine::Error::Plan("rows are deleted".to_owned()))
    }

    fn open(&self, _: &SchemaRef) -> highwater_engine::Result<Box<dyn Target>> {
        Err(highwater_engine::Error::Plan("plans only".to_owned()))
    }
}

/// What a database would remember: sources, plain views and materialized views.
struct World {
    session: Session,
    relations: Relations,
    sources: Vec<(String, SchemaRef)>,
    watermarks: Vec<(String, Watermark)>,
    views: Vec<CreateView>,
}

impl World {
    fn new() -> Self {
        let (sources, watermarks, views) = (Vec::new(), Vec::new(), Vec::new());
        Self { session: Session::new(1), relations: Relations::default(), sources, watermarks, views }
    }

    fn run(&mut self, text: &str) -> Result<String> {
        match parse(text)? {
            Statement::CreateSource(source) => Ok(self.source(source)),
            Statement::CreateTable(table) => {
                let names = |names: &[Name]| names.iter().map(|n| n.value.clone()).collect::<Vec<_>>().join(", ");
                let columns: Vec<Name> = table.columns.iter().map(|c| c.column.name.clone()).collect();
                let ends = if table.append_only { " append only" } else { "" };
                let fed = if table.feed.is_some() { " fed" } else { "" };
                Ok(format!("CREATE TABLE ({}) key ({}){ends}{fed}\n", names(&columns), names(&table.key)))
            }
            Statement::Insert(insert) => {
                let rows = insert.source.as_ref().map_or("defaults".to_owned(), |query| query.ast.to_string());
                Ok(format!("INSERT INTO {} {rows}, {} returned\n", insert.table, insert.returning.len()))
            }
            Statement::Update(update) => {
                let columns = ["a".to_owned(), "b".to_owned()];
                Ok(format!("UPDATE: {}\n", update.query(&columns).ast))
            }
            Statement::Delete(delete) => Ok(format!("DELETE: {}\n", delete.query(&["a".to_owned()]).ast)),
            Statement::Prepare(prepare) => {
                let types: Vec<String> = prepare.types.iter().map(crate::types::pg_name).collect();
                Ok(format!("PREPARE {} ({}): {}", prepare.name, types.join(", "), self.run(&prepare.text)?))
            }
            Statement::Execute { name, values } => {
                let values: Vec<String> = values.iter().map(ToString::to_string).collect();
                Ok(format!("EXECUTE {name} ({})\n", values.join(", ")))
            }
            Statement::Declare { cursor, query, .. } => Ok(format!("DECLARE {cursor}: {}", self.run(&query.text)?)),
            Statement::CopyOut(copy) => Ok(format!("COPY OUT of {}\n", copy.query.ast)),
            Statement::CreateView(view) => {
                let plan = self.session.bind(&view.query, &self.relations)?;
                let plan = rename(plan, Naming::Listed(&view.columns), &view.query)?;
                self.relations.view(&view.name.value, plan);
                Ok("CREATE VIEW\n".to_owned())
            }
            Statement::CreateMaterializedView(view) => {
                check_constants(&view.query, &self.session)?;
                let plan = self.pipeline(Some(&view), None)?;
                let schema = Arc::clone(&plan.views.last().expect("the view").schema);
                self.relations.stream(&view.name.value, schema);
                self.views.push(view);
                Ok(lines(&explain(&plan)))
            }
            Statement::CreateSink(sink) => {
                check_constants(&sink.query, &self.session)?;
                let plan = self.pipeline(None, Some(&sink))?;
                Ok(lines(&explain(&plan)))
            }
            Statement::Query(query) => {
                let plan = self.session.bind(&query, &self.relations)?;
                let schema = view_schema(plan.schema());
                let names =
                    schema.fields().iter().map(|f| format!("{} {}", f.name(), crate::types::pg_name(f.data_type())));
                let names: Vec<String> = names.collect();
                let reads: Vec<String> = references(&query).into_iter().collect();
                Ok(format!("{}\nreads {}\n", names.join(", "), reads.join(", ")))
            }
            other => Ok(format!("{}\n", strip_positions(&format!("{other:?}")))),
        }
    }

    fn source(&mut self, source: CreateSource) -> String {
        let fields = source.columns.iter().map(|c| Field::new(&c.name.value, c.data_type.clone(), !c.not_null));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        self.relations.stream(&source.name.value, Arc::clone(&schema));
        if let Some(watermark) = &source.watermark {
            let time = watermark.place(&schema).expect("the parser has checked it");
            self.watermarks.push((source.name.value.clone(), Watermark { time, delay_us: watermark.delay_us }));
        }
        self.sources.push((source.name.value, schema));
        let options: Vec<String> = source.options.iter().map(|p| format!("{}={}", p.key, p.value)).collect();
        let format = source.format.map(|f| format!(" {:?}", f.encoding)).unwrap_or_default();
        format!("CREATE SOURCE {}{format}\n", options.join(" "))
    }

    fn pipeline(&self, view: Option<&CreateView>, sink: Option<&CreateSink>) -> Result<highwater_engine::plan::Plan> {
        let mut builder = Builder::new(&self.session);
        for (name, schema) in &self.sources {
            builder.source(name, Arc::new(Columns(Arc::clone(schema))));
        }
        for (name, watermark) in &self.watermarks {
            builder.watermark(name, watermark.clone());
        }
        let asked = view.map(|v| &v.query).or(sink.map(|s| &s.query)).expect("one of both");
        for view in self.needed(asked).into_iter().chain(view) {
            builder.view(maintained(&view.name.value, view, &self.relations))?;
        }
        if let Some(CreateSink { name, query, closes, .. }) = sink {
            let (columns, relations) = (Naming::Listed(&[]), &self.relations);
            let sink = Maintained { name: &name.value, columns, query, relations, closes: *closes };
            builder.sink(sink, |_, _| Ok(Arc::new(Nowhere)))?;
        }
        let plan = builder.finish();
        let fields = plan.nodes.iter().flat_map(|n| n.schema.fields().iter().cloned());
        let is_view = |t: &DataType| matches!(t, DataType::Utf8View | DataType::BinaryView);
        assert_eq!(fields.into_iter().find(|f| is_view(f.data_type())), None, "one type of text");
        Ok(plan)
    }

    /// The materialized views that a query reads, directly or not, in the order of creation.
    fn needed(&self, query: &Query) -> Vec<&CreateView> {
        let mut names = references(query);
        let mut needed = Vec::new();
        for view in self.views.iter().rev() {
            if names.contains(&view.name.value) {
                names.extend(references(&view.query));
                needed.push(view);
            }
        }
        needed.reverse();
        needed
    }
}

fn maintained<'a>(name: &'a str, view: &'a CreateView, relations: &'a Relations) -> Maintained<'a> {
    Maintained { name, columns: Naming::Listed(&view.columns), query: &view.query, relations, closes: view.closes }
}

fn lines(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |mut text, line| {
        writeln!(text, "{line}").expect("strings take all");
        text
    })
}

/// Debug output without `at: Position {...}`, which other cases show in errors.
fn strip_positions(debug: &str) -> String {
    let mut rest = debug;
    let mut out = String::new();
    while let Some(start) = rest.find(", at: Position {") {
        out.push_str(&rest[..start]);
        let after = &rest[start..];
        rest = &after[after.find('}').map_or(after.len(), |end| end + 1)..];
    }
    out + rest
}

fn error_text(error: &Error) -> String {
    let at = error.position().map_or_else(|| "?".to_owned(), |p| p.offset.to_string());
    let detail = match error {
        Error::Unsupported { clause, hint, .. } => format!("{clause}: {hint}"),
        other => other.to_string(),
    };
    format!("ERROR {} at {at}: {detail}\n", error.sqlstate())
}

fn check(path: &Path) {
    let script = std::fs::read_to_string(path).expect("a readable script");
    let mut world = World::new();
    let mut replayed = String::new();
    for case in script.split("\n\n").map(str::trim).filter(|case| !case.is_empty()) {
        let (statement, _) = case.split_once("\n----").unwrap_or((case, ""));
        if statement.lines().all(|line| line.starts_with('#')) {
            writeln!(replayed, "{statement}\n").expect("strings take all");
            continue;
        }
        let text: String = statement.lines().filter(|l| !l.starts_with('#')).collect::<Vec<_>>().join("\n");
        let result = world.run(&text).unwrap_or_else(|error| error_text(&error));
        writeln!(replayed, "{statement}\n----\n{result}").expect("strings take all");
    }
    if std::env::var_os("UPDATE_TESTSCRIPTS").is_some() {
        return std::fs::write(path, &replayed).expect("a writable script");
    }
    assert_eq!(replayed.trim_end(), script.trim_end(), "{}", path.display());
}

#[test]
fn what_was_made_before_is_planned_as_it_was() {
    let mut world = World::new();
    world.run("CREATE SOURCE e (k bigint, i integer, b boolean) WITH (connector = 'file')").expect("a source");
    let made = "CREATE MATERIALIZED VIEW v AS SELECT k, bool_and(b) AS a, stddev(i) AS s FROM e GROUP BY k";
    let Statement::CreateMaterializedView(view) = parse(made).expect("a view") else { panic!("a view") };
    let planned = |planning: Planning| {
        let mut builder = Builder::new(&world.session);
        for (name, schema) in &world.sources {
            builder.source(name, Arc::new(Columns(Arc::clone(schema))));
        }
        builder.planning("v", planning);
        builder.view(maintained("v", &view, &world.relations)).expect("a view");
        builder.finish()
    };
    let (before, now) = (planned(Planning(0)), planned(Planning::NEWEST));
    let regroup = before.nodes.iter().find(|node| node.name == "v/regroup(k)").expect("it is computed anew");
    let Operator::Regroup(regroup) = &regroup.operator else { panic!("another operator") };
    let kept = regroup.recompute.identity().expect("words");
    assert_eq!(kept, "aggregate [bool_and(#2),stddev(cast(#1 as float64))] by [#0] of project [#0,#1,#2] of rows");
    assert!(now.nodes.iter().any(|node| node.name == "v/aggregate(k)"), "it is kept");
    let fields = |plan: &highwater_engine::plan::Plan| Arc::clone(&plan.views[0].schema);
    assert_eq!(fields(&before), fields(&now));
}

#[test]
fn joins_forget_by_the_watermarks_of_both_sides() {
    let mut world = World::new();
    let columns = "k bigint, v bigint, ts timestamp";
    for sql in [
        format!("CREATE SOURCE e ({columns}, WATERMARK FOR ts AS ts) WITH (connector = 'file')"),
        format!("CREATE SOURCE plain ({columns}) WITH (connector = 'file')"),
    ] {
        world.run(&sql).expect("a source");
    }
    let near = "b.ts BETWEEN a.ts - INTERVAL '1' MINUTE AND a.ts + INTERVAL '2' MINUTE";
    let cases: [(&str, String, &[&str]); 4] = [
        (
            "near",
            format!("e a JOIN e b ON a.k = b.k AND {near}"),
            &["right rows when: ts + 60000001 us", "left rows when: ts + 120000001 us"],
        ),
        ("below", "e a LEFT JOIN e b ON a.k = b.k AND a.ts < b.ts".to_owned(), &["right rows when: ts + 1 us"]),
        (
            "windows",
            "TUMBLE(e, ts, INTERVAL '10' SECOND) a JOIN TUMBLE(e, ts, INTERVAL '10' SECOND) b
             ON a.window_start = b.window_start AND a.window_end = b.window_end"
                .to_owned(),
            &["left rows when: window_start + 10000000 us", "right rows when: window_start + 10000000 us"],
        ),
        ("other", format!("e a JOIN plain b ON a.k = b.k AND {near}"), &[]),
    ];
    for (name, from, forgets) in cases {
        let view = format!("CREATE MATERIALIZED VIEW {name} AS SELECT a.v, b.v AS w FROM {from}");
        let explained = world.run(&view).expect(&view);
        for forgotten in forgets {
            assert!(explained.contains(&format!("forgets {forgotten} <= e/watermark")), "{forgotten}: {explained}");
        }
        assert_eq!(explained.matches("forgets").count(), forgets.len(), "{explained}");
    }
}

#[test]
fn temporal_joins_keep_the_right_side_and_give_each_row_once() {
    let mut world = World::new();
    for sql in [
        "CREATE SOURCE orders (id bigint, k bigint) WITH (connector = 'file')",
        "CREATE SOURCE prices (k bigint, price bigint) WITH (connector = 'file')",
        "CREATE MATERIALIZED VIEW newest AS SELECT k, max(price) AS price FROM prices GROUP BY k",
    ] {
        world.run(sql).expect(sql);
    }
    let now = "FOR SYSTEM_TIME AS OF PROCTIME()";
    for (name, from, kind) in [
        ("a", format!("orders o JOIN newest {now} AS n ON o.k = n.k"), "inner"),
        ("b", format!("orders o LEFT JOIN newest {now} n ON n.k = o.k AND n.price > 3"), "left"),
        ("c", format!("orders o LEFT JOIN newest {now} USING (k)"), "left"),
        ("c2", format!("orders o JOIN prices p ON o.k = p.k LEFT JOIN newest {now} n ON o.k = n.k"), "left"),
        ("d", format!("orders o, newest {now} n WHERE o.k = n.k"), "inner"),
        ("e", format!("orders o LEFT JOIN newest {now} n ON n.k = o.k WHERE n.price > o.id"), "inner"),
    ] {
        let view = format!("CREATE MATERIALIZED VIEW {name} AS SELECT o.id FROM {from}");
        let explained = world.run(&view).expect(&view);
        let at = explained.find(&format!("{name}/temporal join(")).expect(&explained);
        let node: Vec<&str> = explained[at..].lines().collect();
        assert!(node[1].starts_with(&format!("  kind: {kind}, each left row once")), "{explained}");
        assert!(node[2].starts_with("  key: k@"), "{explained}");
        let ends = node.iter().find(|line| line.starts_with("  append-only: "));
        assert_eq!(ends, Some(&"  append-only: yes"), "{explained}");
    }
}

#[test]
fn explain_says_what_the_size_of_state_goes_by() {
    let mut world = World::new();
    let columns = "k bigint, v bigint, ts timestamp";
    for sql in [
        format!("CREATE SOURCE e ({columns}, WATERMARK FOR ts AS ts) WITH (connector = 'file')"),
        format!("CREATE SOURCE plain ({columns}) WITH (connector = 'file')"),
        "CREATE MATERIALIZED VIEW newest AS SELECT k, max(v) AS v FROM plain GROUP BY k".to_owned(),
    ] {
        world.run(&sql).expect(&sql);
    }
    let ten = "INTERVAL '10' SECOND";
    for (name, query, size) in [
        (
            "both",
            "SELECT a.v, b.v AS w FROM e a JOIN plain b ON a.k = b.k".to_owned(),
            "every row of e, which never ends, and every row of plain, which never ends: grows without bound; about",
        ),
        (
            "windows",
            format!(
                "SELECT a.v, b.v AS w FROM TUMBLE(e, ts, {ten}) a JOIN TUMBLE(e, ts, {ten}) b
                 ON a.window_start = b.window_start"
            ),
            "the rows of e that can still pair: bounded by watermarks; about",
        ),
        (
            "temporal",
            "SELECT p.v FROM plain p JOIN newest FOR SYSTEM_TIME AS OF PROCTIME() AS n ON p.k = n.k".to_owned(),
            "one row a distinct (k): grows with new keys; about",
        ),
        (
            "top",
            "SELECT k, v FROM (SELECT k, v, row_number() OVER (PARTITION BY k ORDER BY v DESC) AS n FROM plain) t
             WHERE n <= 3"
                .to_owned(),
            "at most 3 rows a distinct (k): grows with new keys; about",
        ),
        (
            "ranks",
            "SELECT v FROM (SELECT v, rank() OVER (PARTITION BY k ORDER BY ts DESC) AS n FROM plain) t WHERE n <= 3"
                .to_owned(),
            "at most 3 rows, and what is tied with the last, a distinct (k): grows with new keys; about",
        ),
        (
            "places",
            "SELECT v FROM (SELECT v, dense_rank() OVER (ORDER BY ts) AS n FROM plain) t WHERE n = 1".to_owned(),
            "the rows of at most 1 places; about",
        ),
        (
            "hour",
            "SELECT k FROM plain WHERE ts > now() - INTERVAL '1' HOUR".to_owned(),
            "the rows of plain that are not over: bounded by time; about",
        ),
        (
            "values",
            "SELECT k, count(DISTINCT v) AS n FROM plain GROUP BY k".to_owned(),
            // The key and two words; the key, a value, a word and where it is kept.
            "one row a distinct (k), and one a value in it: grows with new keys; about 24 and 25 bytes a row",
        ),
        (
            "sessions",
            format!("SELECT k, window_end, count(*) AS n FROM SESSION(plain, k, ts, {ten}) GROUP BY k, window_end"),
            "one row a distinct (k, window_end): grows with new keys; about",
        ),
    ] {
        let explained = world.run(&format!("CREATE MATERIALIZED VIEW {name} AS {query}")).expect(name);
        assert!(explained.contains(&format!("  size: {size}")), "{name}: {explained}");
    }
}

/// A source with a watermark, one without, and views over the latter.
fn of_two_sources() -> World {
    let mut world = World::new();
    let columns = "k bigint, b boolean, v bigint, ts timestamp";
    for sql in [
        format!("CREATE SOURCE e ({columns}, WATERMARK FOR ts AS ts) WITH (connector = 'file')"),
        format!("CREATE SOURCE plain ({columns}) WITH (connector = 'file')"),
        "CREATE MATERIALIZED VIEW newest AS SELECT k, max(v) AS v FROM plain GROUP BY k".to_owned(),
        "CREATE MATERIALIZED VIEW total AS SELECT count(*) AS n FROM plain".to_owned(),
    ] {
        world.run(&sql).expect(&sql);
    }
    world
}

#[test]
fn what_keeps_ever_more_is_found() {
    let world = of_two_sources();
    let ten = "INTERVAL '10' SECOND";
    let hour = "WHERE ts > now() - INTERVAL '1' HOUR";
    let groups = "a row for each group";
    let first = "the first rows of each group";
    for (query, keeps) in [
        ("SELECT k, v FROM plain".to_owned(), Some("rows")),
        (format!("SELECT k, v FROM plain {hour}"), None),
        ("SELECT k, count(*) AS n FROM plain GROUP BY k".to_owned(), Some(groups)),
        (format!("SELECT k, count(*) AS n FROM plain {hour} GROUP BY k"), None),
        ("SELECT DISTINCT v FROM plain".to_owned(), Some(groups)),
        ("SELECT b, count(*) AS n FROM plain GROUP BY b".to_owned(), None),
        ("SELECT k % 7 AS r, count(*) AS n FROM plain GROUP BY k % 7".to_owned(), None),
        ("SELECT CASE WHEN k > 5 THEN 'a' ELSE 'b' END AS r, count(*) AS n FROM plain GROUP BY 1".to_owned(), None),
        ("SELECT count(*) AS n, max(v) AS v FROM plain".to_owned(), None),
        ("SELECT count(DISTINCT v) AS n FROM plain".to_owned(), Some("the distinct values")),
        ("SELECT string_agg(v::varchar, ',' ORDER BY v) AS s FROM plain".to_owned(), Some("rows")),
        ("SELECT DISTINCT ON (k) k, v FROM plain ORDER BY k, ts DESC".to_owned(), Some(first)),
        (format!("SELECT window_end, count(*) AS n FROM TUMBLE(e, ts, {ten}) GROUP BY window_end"), Some(groups)),
        (
            format!(
                "SELECT window_end, count(*) AS n FROM TUMBLE(e, ts, {ten}) GROUP BY window_end
                 EMIT ON WINDOW CLOSE"
            ),
            Some("rows for each group"),
        ),
        (
            format!("SELECT k, window_end, count(*) AS n FROM SESSION(e, k, ts, {ten}) GROUP BY k, window_end"),
            Some("a row for each session"),
        ),
        ("SELECT n + 1 AS n FROM total".to_owned(), None),
        // It is read from the other view's state.
        ("SELECT k FROM newest WHERE v > 3".to_owned(), None),
    ] {
        assert_eq!(found(&world, &query).map(|found| found.keeps), keeps, "{query}");
    }
}

#[test]
fn joins_that_keep_ever_more_are_found() {
    let world = of_two_sources();
    let near = "b.ts BETWEEN a.ts - INTERVAL '1' MINUTE AND a.ts + INTERVAL '2' MINUTE";
    for (from, is_join, surely) in [
        ("e a JOIN plain b ON a.k = b.k".to_owned(), true, true),
        (format!("e a JOIN e b ON a.k = b.k AND {near}"), false, true),
        (format!("plain a JOIN plain b ON a.k = b.k AND {near}"), true, true),
        ("total a JOIN plain b ON a.n = b.k".to_owned(), true, true),
        ("total a JOIN newest b ON a.n = b.k".to_owned(), true, false),
        ("plain a JOIN newest FOR SYSTEM_TIME AS OF PROCTIME() AS b ON a.k = b.k".to_owned(), true, false),
    ] {
        let found = found(&world, &format!("SELECT b.k FROM {from}")).expect("the view's rows, if nothing else");
        assert_eq!((found.node.contains("join("), found.surely), (is_join, surely), "{from}: {found:?}");
    }
}

/// What has no bound of a view with a query.
fn found(world: &World, query: &str) -> Option<crate::Unbounded> {
    let text = format!("CREATE MATERIALIZED VIEW x AS {query}");
    let Ok(Statement::CreateMaterializedView(view)) = parse(&text) else { panic!("{text} is a view") };
    unbounded(&world.pipeline(Some(&view), None).expect(&text), "x")
}

#[test]
fn sessions_of_rows_that_only_come_are_kept() {
    let mut world = World::new();
    let source = "CREATE SOURCE e (k bigint, v bigint, w varchar, ts timestamp) WITH (connector = 'file')";
    world.run(source).expect(source);
    let newest = "CREATE MATERIALIZED VIEW newest AS SELECT k, max(ts) AS ts FROM e GROUP BY k";
    world.run(newest).expect(newest);
    let ten = "INTERVAL '10' SECOND";
    let of_e = format!("SESSION(e, k, ts, {ten}) AS s");
    for (name, query, operator) in [
        ("ends", format!("SELECT count(*) AS n, sum(v) AS v FROM {of_e} GROUP BY window_end, k"), "sessions"),
        ("starts", format!("SELECT DISTINCT s.window_start, k AS who FROM {of_e}"), "sessions"),
        (
            "of_all",
            format!("SELECT window_end, avg(v) AS v FROM SESSION(e, ts, {ten}) GROUP BY window_end"),
            "sessions",
        ),
        (
            "filtered",
            format!("SELECT k, min(v) FILTER (WHERE w = 'x') AS v FROM {of_e} GROUP BY k, window_end"),
            "sessions",
        ),
        ("without_key", format!("SELECT count(*) AS n FROM {of_e} GROUP BY window_end"), "session"),
        ("without_window", format!("SELECT k, max(window_end) AS ends FROM {of_e} GROUP BY k"), "session"),
        ("of_window", format!("SELECT k, max(window_end) AS ends FROM {of_e} GROUP BY k, window_start"), "session"),
        ("texts", format!("SELECT k, min(w) AS w FROM {of_e} GROUP BY k, window_start"), "session"),
        ("once", format!("SELECT k, count(DISTINCT v) AS n FROM {of_e} GROUP BY k, window_start"), "session"),
        ("left_out", format!("SELECT k, count(*) AS n FROM {of_e} WHERE v > 1 GROUP BY k, window_start"), "session"),
        (
            "changing",
            format!("SELECT k, count(*) AS n FROM SESSION(newest, k, ts, {ten}) GROUP BY k, window_start"),
            "session",
        ),
    ] {
        let explained = world.run(&format!("CREATE MATERIALIZED VIEW {name} AS {query}")).expect(name);
        assert!(explained.contains(&format!("{name}/{operator}(")), "{name}: {explained}");
    }
}

#[test]
fn a_plan_is_the_same_each_time() {
    let mut world = World::new();
    let source = "CREATE SOURCE t (id bigint, a bigint, b bigint, c bigint, d bigint, l bigint[])
                  WITH (connector = 'file')";
    world.run(source).expect(source);
    for query in [
        "SELECT id FROM t ORDER BY a + b * c - d DESC LIMIT 3",
        "SELECT x.id FROM (SELECT id FROM t ORDER BY CASE WHEN a > b THEN c ELSE d END LIMIT 9) AS x",
        "SELECT unnest(l) AS e, sum(a * b - c + d) AS s FROM t GROUP BY 1",
        "SELECT x.id FROM t AS x JOIN t AS y ON x.a + x.b = y.c - y.d AND x.c * x.d = y.a * y.b",
    ] {
        let create = format!("CREATE MATERIALIZED VIEW v AS {query}");
        let Statement::CreateMaterializedView(view) = parse(&create).expect(query) else { unreachable!("a view") };
        let explained = || lines(&explain(&world.pipeline(Some(&view), None).expect(query)));
        let first = explained();
        for _ in 0..20 {
            assert_eq!(explained(), first, "{query}");
        }
    }
}

#[test]
fn numbers_of_rows_are_bigints() {
    let mut world = World::new();
    world.run("CREATE SOURCE t (id bigint, k bigint) WITH (connector = 'file')").expect("a source");
    let text = "SELECT row_number() OVER () AS n, rank() OVER (ORDER BY id), id, t.k FROM t ORDER BY k";
    let Statement::Query(query) = parse(text).expect(text) else { unreachable!("a query") };
    let plan = plain(world.session.bind(&query, &world.relations).expect(text)).expect(text);
    assert!(plan.schema().fields().iter().all(|field| *field.data_type() == DataType::Int64), "{plan}");
    let names: Vec<&str> = plan.schema().fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!((names[0], &names[2..]), ("n", &["id", "k"][..]));
}

#[test]
fn scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder of scripts")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "there are scripts");
    paths.iter().for_each(|path| check(path));
}
