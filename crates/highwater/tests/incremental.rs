//! Views of every kind of query against the same query from scratch, under random changes of their
//! tables, after a clean restart and after a stop without one; and the keys that views are told to have.

use arrow::array::AsArray;
use highwater::{Config, Database, same_rows};
use std::fmt::Write as _;
use std::path::Path;

const TABLES: &str = "
CREATE TABLE l (id int PRIMARY KEY, k int, g varchar, x int);
CREATE TABLE r (id int PRIMARY KEY, k int, h varchar, y int);
CREATE TABLE m (k int, z int);
CREATE TABLE e (k int, t timestamp, x int) APPEND ONLY;
CREATE SOURCE s (k bigint, v bigint) WITH (connector = 'datagen', datagen.rows = 300,
    fields.k.kind = 'random', fields.k.min = 0, fields.k.max = 6, fields.v.kind = 'event_number');
";

/// Queries whose result is determined, also in batch: orders have no ties, or ties make no difference.
const QUERIES: [(&str, &str); 79] = [
    ("inner_join", "SELECT l.id AS lid, r.id AS rid, x, y FROM l JOIN r ON l.k = r.k"),
    ("left_join", "SELECT l.id AS lid, r.id AS rid, y FROM l LEFT JOIN r ON l.k = r.k"),
    ("right_join", "SELECT l.id AS lid, r.id AS rid, x FROM l RIGHT JOIN r ON l.k = r.k"),
    ("full_join", "SELECT l.id AS lid, r.id AS rid FROM l FULL JOIN r ON l.k = r.k"),
    ("full_two_keys", "SELECT l.id AS lid, r.id AS rid FROM l FULL JOIN r ON l.k = r.k AND l.g = r.h"),
    ("left_filter", "SELECT l.id AS lid, r.id AS rid FROM l LEFT JOIN r ON l.k = r.k AND l.x < r.y"),
    ("full_filter", "SELECT l.id AS lid, r.id AS rid FROM l FULL JOIN r ON l.k = r.k AND l.x < r.y"),
    ("where_filter", "SELECT l.id AS lid, r.id AS rid FROM l JOIN r ON l.k = r.k WHERE l.x + r.y > 8"),
    ("cross_join", "SELECT l.id AS lid, m.z FROM l CROSS JOIN m"),
    ("less_join", "SELECT l.id AS lid, r.id AS rid FROM l JOIN r ON l.x < r.y"),
    ("left_less", "SELECT l.id AS lid, r.id AS rid FROM l LEFT JOIN r ON l.x > r.y + 5"),
    ("self_join", "SELECT a.id AS one, b.id AS other FROM l a JOIN l b ON a.k = b.k WHERE a.id <= b.id"),
    ("duplicates", "SELECT m.k, z, x FROM m JOIN l ON m.k = l.k"),
    ("asof", "SELECT l.id AS lid, r.id AS rid, y FROM l ASOF JOIN r ON l.k = r.k AND l.x >= r.y"),
    ("asof_left", "SELECT l.id AS lid, r.id AS rid FROM l ASOF LEFT JOIN r ON l.k = r.k AND r.y > l.x"),
    ("asof_copies", "SELECT m.k, z, r.id AS rid FROM m ASOF JOIN r ON m.z > r.y AND m.k = r.k"),
    ("asof_all", "SELECT l.id AS lid, r.id AS rid FROM l ASOF LEFT JOIN r ON l.x <= r.y"),
    ("not_distinct", "SELECT l.id AS lid, r.id AS rid FROM l JOIN r ON l.k IS NOT DISTINCT FROM r.k"),
    ("three_ways", "SELECT l.id AS lid, r.id AS rid, z FROM l JOIN r ON l.k = r.k LEFT JOIN m ON m.k = r.k"),
    ("using_key", "SELECT k, x, y FROM l JOIN r USING (k)"),
    ("joined_groups", "SELECT l.g, count(*) AS n, sum(y) AS total FROM l JOIN r ON l.k = r.k GROUP BY l.g"),
    (
        "group_join",
        "SELECT a.k, n, total FROM (SELECT k, count(*) AS n FROM l GROUP BY k) a
        FULL JOIN (SELECT k, sum(y) AS total FROM r GROUP BY k) b ON a.k = b.k",
    ),
    ("union_all", "SELECT k, x FROM l UNION ALL SELECT k, y FROM r UNION ALL SELECT k, z FROM m"),
    ("union_same", "SELECT k FROM l UNION ALL SELECT k FROM l"),
    ("union_distinct", "SELECT k FROM l UNION SELECT k FROM m"),
    ("except_set", "SELECT k FROM l EXCEPT SELECT k FROM r"),
    ("intersect_set", "SELECT k FROM l INTERSECT SELECT k FROM m"),
    ("set_groups", "SELECT k, count(*) AS n FROM (SELECT k FROM l UNION ALL SELECT k FROM r) u GROUP BY k"),
    ("in_query", "SELECT id FROM l WHERE k IN (SELECT k FROM r)"),
    ("not_in_query", "SELECT id FROM l WHERE x IS NOT NULL AND x NOT IN (SELECT y FROM r WHERE y > 6)"),
    ("exists_query", "SELECT id FROM l WHERE EXISTS (SELECT 1 FROM r WHERE r.k = l.k AND r.y > l.x)"),
    ("not_exists_query", "SELECT id FROM l WHERE NOT EXISTS (SELECT 1 FROM r WHERE r.k = l.k)"),
    ("exists_or", "SELECT id FROM l WHERE x > 7 OR EXISTS (SELECT 1 FROM r WHERE r.k = l.k)"),
    ("scalar_query", "SELECT id, x - (SELECT max(y) FROM r) AS d FROM l"),
    ("above_average", "SELECT id FROM l WHERE x > (SELECT avg(y) FROM r)"),
    ("correlated_count", "SELECT id, (SELECT count(*) FROM r WHERE r.k = l.k) AS n FROM l"),
    ("correlated_max", "SELECT id FROM l WHERE x >= (SELECT max(y) FROM r WHERE r.k = l.k)"),
    (
        "with_query",
        "WITH big AS (SELECT k, sum(x) AS total FROM l GROUP BY k) SELECT r.id, total FROM r JOIN big ON big.k = r.k",
    ),
    ("distinct_on", "SELECT DISTINCT ON (k) k, id, x FROM l ORDER BY k, x DESC NULLS LAST, id"),
    ("distinct_join", "SELECT DISTINCT l.g, r.h FROM l JOIN r ON l.k = r.k"),
    (
        "top_per_group",
        "SELECT k, id FROM (SELECT k, id, row_number() OVER (PARTITION BY k ORDER BY x DESC NULLS LAST, id) AS n
        FROM l) t WHERE n <= 2",
    ),
    (
        "top_ranks",
        "SELECT k, id, n FROM (SELECT k, id, rank() OVER (PARTITION BY k ORDER BY x DESC NULLS LAST) AS n FROM l) t
        WHERE n <= 2",
    ),
    ("top_places", "SELECT id FROM (SELECT id, dense_rank() OVER (ORDER BY x) AS n FROM l) t WHERE n < 4"),
    ("numbered", "SELECT id, row_number() OVER (ORDER BY x, id) AS n FROM l"),
    (
        "ranked",
        "SELECT id, rank() OVER (PARTITION BY g ORDER BY x) AS r, dense_rank() OVER (PARTITION BY g ORDER BY x) AS d FROM l",
    ),
    (
        "lagged",
        "SELECT id, lag(x) OVER (PARTITION BY g ORDER BY id) AS a, lead(x, 2, -1) OVER (PARTITION BY g ORDER BY id) AS b FROM l",
    ),
    ("running", "SELECT id, sum(x) OVER (PARTITION BY k ORDER BY id) AS a, count(*) OVER (PARTITION BY k) AS n FROM l"),
    ("framed", "SELECT id, sum(x) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS a FROM l"),
    (
        "peers",
        "SELECT id, sum(x) OVER (PARTITION BY g ORDER BY x) AS a, last_value(x) OVER (PARTITION BY g ORDER BY x) AS b FROM l",
    ),
    ("over_groups", "SELECT g, sum(x) AS total, rank() OVER (ORDER BY count(*) DESC) AS place FROM l GROUP BY g"),
    ("limited", "SELECT id, x FROM l ORDER BY x DESC NULLS LAST, id LIMIT 5"),
    ("paged", "SELECT id FROM r ORDER BY id LIMIT 4 OFFSET 3"),
    ("limited_join", "SELECT t.id, r.id AS rid FROM (SELECT id, k FROM l ORDER BY id LIMIT 6) t JOIN r ON r.k = t.k"),
    (
        "listed",
        "SELECT g, string_agg(id::varchar, ',' ORDER BY id) AS ids, array_agg(x ORDER BY id) AS xs FROM l GROUP BY g",
    ),
    ("spread", "SELECT k, stddev(x) AS sd, var_pop(x) AS vp FROM l GROUP BY k"),
    ("distinct_count", "SELECT g, count(DISTINCT x) AS n FROM l GROUP BY g"),
    ("distinct_more", "SELECT g, count(DISTINCT x) AS n, sum(DISTINCT x) AS total, avg(id) AS mean FROM l GROUP BY g"),
    ("global_others", "SELECT count(DISTINCT x) AS n, stddev(x) AS sd, bool_or(x > 5) AS more FROM l"),
    ("rolled_up", "SELECT g, k, count(*) AS n, sum(x) AS total FROM l GROUP BY ROLLUP (g, k)"),
    ("cubed", "SELECT g, k, count(*) AS n, grouping(g) AS gg, grouping(k) AS gk FROM l GROUP BY CUBE (g, k)"),
    ("chosen_sets", "SELECT g, k, count(DISTINCT x) AS n FROM l GROUP BY GROUPING SETS ((g), (k), ())"),
    ("with_source", "SELECT l.id, s.v FROM l JOIN s ON s.k = l.k WHERE s.v < 60"),
    ("source_groups", "SELECT s.k, count(*) AS n, max(y) AS top FROM s LEFT JOIN r ON r.k = s.k GROUP BY s.k"),
    ("arrays", "SELECT id, ARRAY[k, x] AS a, ARRAY[x] || k AS b, k = ANY (ARRAY[x, 3]) AS c FROM l"),
    ("array_groups", "SELECT a, count(*) AS n FROM (SELECT ARRAY[k, x % 2] AS a FROM l) t GROUP BY a"),
    ("unnested", "SELECT id, unnest(ARRAY[k, x]) AS v FROM l"),
    ("unnested_groups", "SELECT v, count(*) AS n FROM l, unnest(ARRAY[k, x]) AS u(v) GROUP BY v"),
    ("unnested_left", "SELECT id, v FROM l LEFT JOIN unnest(string_to_array(g, 'a')) AS u(v) ON true"),
    ("series", "SELECT l.id, i FROM l, generate_series(1, l.k) AS g(i) WHERE i <> 2"),
    (
        "session_groups",
        "SELECT k, count(*) AS n, sum(x) AS total, min(x) AS least, max(t) AS latest, avg(x) AS mean, window_start,
        window_end FROM SESSION(e, k, t, INTERVAL '20' SECOND) GROUP BY k, window_start, window_end",
    ),
    (
        "session_ends",
        "SELECT w.window_end AS ends, count(w.x) FILTER (WHERE w.x > 4) AS n
        FROM SESSION(e, t, INTERVAL '4' SECOND) AS w GROUP BY w.window_end",
    ),
    (
        "session_totals",
        "SELECT k, max(n) AS most FROM (SELECT window_start, k, count(*) AS n
        FROM SESSION(e, k, t, INTERVAL '20' SECOND) GROUP BY window_start, k) s GROUP BY k",
    ),
    (
        "session_others",
        "SELECT k, window_start, count(DISTINCT x) AS n FROM SESSION(e, k, t, INTERVAL '20' SECOND)
        GROUP BY k, window_start",
    ),
    (
        "ordered_sets",
        "SELECT k, mode() WITHIN GROUP (ORDER BY x DESC) AS m, percentile_disc(0.4) WITHIN GROUP (ORDER BY g) AS p
        FROM l GROUP BY k",
    ),
    ("constants", "VALUES (1, 'a'), (2, 'b'), (2, 'b')"),
    ("one_row", "SELECT 1 AS a, 'x' AS b"),
    ("with_constants", "SELECT l.id, v.name FROM l JOIN (VALUES (1, 'one'), (2, 'two')) AS v(k, name) ON v.k = l.k"),
    ("more_constants", "SELECT k FROM l UNION ALL VALUES (1), (NULL)"),
    ("of_two_tables", "SELECT l.id FROM l WHERE k IN (SELECT k FROM m WHERE z IN (SELECT y FROM r))"),
];

/// Views over views: of one pipeline with a table that it reads already, of two pipelines, and of a
/// pipeline and a source.
const STACKED: [(&str, &str); 4] = [
    ("over_one", "SELECT j.lid, j.rid, l.g FROM inner_join j JOIN l ON l.id = j.lid"),
    ("over_two", "SELECT a.k, a.n, b.n AS others FROM set_groups a JOIN rolled_up b ON b.k = a.k"),
    ("over_source", "SELECT s.v, n FROM set_groups g JOIN s ON s.k = g.k"),
    ("over_itself", "SELECT a.lid, b.rid FROM inner_join a JOIN inner_join b ON a.rid = b.lid"),
];

/// Keys of views, as EXPLAIN tells them.
const KEYS: [(&str, &str); 15] = [
    ("inner_join", "(lid, rid)"),
    ("left_join", "(lid, rid)"),
    ("full_join", "(lid, rid)"),
    ("group_join", "none, rows may repeat"),
    ("cross_join", "none, rows may repeat"),
    ("joined_groups", "(g)"),
    ("union_all", "none, rows may repeat"),
    ("union_distinct", "(k)"),
    ("in_query", "(id)"),
    ("not_exists_query", "(id)"),
    ("distinct_on", "(k) or (id)"),
    ("numbered", "(id) or (n)"),
    ("top_per_group", "(id)"),
    ("limited", "(id)"),
    ("unnested", "none, rows may repeat"),
];

fn open(folder: &Path) -> Database {
    let mut config = Config::new(folder);
    config.workers = Some(2);
    config.checkpoints.interval = None;
    Database::open(config).expect("a database")
}

/// A sequence that looks random and is the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    fn or_null(&mut self, most: u64) -> String {
        if self.below(8) == 0 { "NULL".to_owned() } else { self.below(most).to_string() }
    }
}

/// Some rows come, some change and some go, in each of the tables.
fn change(database: &Database, dice: &mut Dice, next: &mut u64) {
    for (table, name) in [("l", "g"), ("r", "h")] {
        let value = if table == "l" { "x" } else { "y" };
        let mut rows = String::new();
        for _ in 0..6 {
            let comma = if rows.is_empty() { "" } else { ", " };
            let (k, group, x) = (dice.or_null(7), dice.below(4), dice.or_null(10));
            write!(rows, "{comma}({next}, {k}, 'g{group}', {x})").expect("strings take all");
            *next += 1;
        }
        let (some, k, x) = (dice.below(5), dice.or_null(7), dice.or_null(10));
        for sql in [
            format!("INSERT INTO {table} VALUES {rows}"),
            format!("UPDATE {table} SET k = {k}, {value} = {x} WHERE id % 5 = {some}"),
            format!("UPDATE {table} SET {name} = 'g{}' WHERE id % 7 = {}", dice.below(4), dice.below(7)),
            format!("DELETE FROM {table} WHERE id % 6 = {}", dice.below(6)),
        ] {
            database.execute(&sql).expect(&sql);
        }
    }
    for _ in 0..4 {
        let time = |dice: &mut Dice| match dice.below(12) {
            0 => "NULL".to_owned(),
            _ => format!("'2026-01-01 00:{:02}:{:02}'", dice.below(12), dice.below(60)),
        };
        let (k, x, one, other) = (dice.or_null(4), dice.or_null(10), time(dice), time(dice));
        let sql = format!("INSERT INTO e VALUES ({k}, {one}, {x}), ({k}, {other}, {})", dice.or_null(10));
        database.execute(&sql).expect(&sql);
    }
    let (k, z) = (dice.or_null(7), dice.below(10));
    for sql in [
        format!("INSERT INTO m VALUES ({k}, {z}), ({k}, {z}), ({}, {})", dice.or_null(7), dice.below(10)),
        format!("DELETE FROM m WHERE z = {}", dice.below(10)),
    ] {
        database.execute(&sql).expect(&sql);
    }
}

fn check(database: &Database, when: &str) {
    database.execute("FLUSH").expect("flushes");
    for (name, query) in QUERIES.iter().chain(&STACKED) {
        let kept = database.query(&format!("SELECT * FROM {name}")).expect(name);
        let now = database.query(query).expect(name);
        let difference = same_rows(&kept.batches, &now.batches).expect(name);
        assert_eq!(difference, None, "{name}, {when}: {query}");
    }
    // Up to the offsets of a checkpoint, which each of these views reads under names of its own.
    for (name, _) in &STACKED {
        let compared = database.recompute(name).expect(name);
        let difference = same_rows(&compared.view.batches, &compared.recomputed.batches).expect(name);
        assert_eq!(difference, None, "{name} from scratch, {when}");
    }
}

/// What EXPLAIN says a view's key is.
fn told_key(database: &Database, query: &str) -> String {
    let explained = database.query(&format!("EXPLAIN CREATE MATERIALIZED VIEW told AS {query}")).expect(query);
    let lines = explained.batches[0].column(0).as_string::<i32>();
    let mut of_view = lines.iter().flatten().skip_while(|line| !line.starts_with("view told ("));
    of_view.find_map(|line| line.strip_prefix("  stream key: ")).expect(query).to_owned()
}

/// The groups of rows with one key, for each of the keys that are told.
fn groups_of(told: &str) -> Vec<String> {
    match told {
        "none, rows may repeat" => Vec::new(),
        "(), at most one row" => vec![String::new()],
        keys => keys.split(" or ").map(|key| format!("GROUP BY {}", key.trim_matches(['(', ')']))).collect(),
    }
}

/// No two rows of a view have one of its keys.
fn check_keys(database: &Database, told: &[(&str, String)], when: &str) {
    for (name, told) in told {
        for group in groups_of(told) {
            let sql = format!("SELECT count(*) AS n FROM {name} {group} HAVING count(*) > 1");
            assert_eq!(database.query(&sql).expect(&sql).count(), 0, "{name}, {when}: {told}");
        }
    }
}

#[test]
fn views_of_every_kind_equal_their_queries() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut dice, mut next) = (Dice(7), 1);
    let database = open(folder.path());
    database.script(TABLES).expect("tables");
    change(&database, &mut dice, &mut next);
    for (name, query) in QUERIES.iter().chain(&STACKED) {
        database.execute(&format!("CREATE MATERIALIZED VIEW {name} AS {query}")).expect(name);
    }
    let key_of = |(name, query): &(&'static str, &str)| (*name, told_key(&database, query));
    let told: Vec<(&str, String)> = QUERIES.iter().chain(&STACKED).map(key_of).collect();
    for (view, key) in KEYS {
        let found = told.iter().find(|(name, _)| *name == view).map(|(_, told)| told.as_str());
        assert_eq!(found, Some(key), "{view}");
    }
    check(&database, "filled");
    check_keys(&database, &told, "filled");
    for round in 0..4 {
        change(&database, &mut dice, &mut next);
        check(&database, &format!("round {round}"));
        check_keys(&database, &told, &format!("round {round}"));
    }
    database.shutdown().expect("a clean stop");
    drop(database);

    let database = open(folder.path());
    assert!(database.broken().is_empty(), "{:?}", database.broken());
    check(&database, "after a clean restart");
    change(&database, &mut dice, &mut next);
    check(&database, "changed after a clean restart");
    database.execute("CHECKPOINT").expect("a checkpoint");
    change(&database, &mut dice, &mut next);
    // No clean stop: what came after the checkpoint is in the log of tables alone.
    drop(database);

    let database = open(folder.path());
    check(&database, "after a crash");
    change(&database, &mut dice, &mut next);
    check(&database, "changed after a crash");
    for table in ["l", "r", "m"] {
        database.execute(&format!("DELETE FROM {table}")).expect("emptied");
    }
    check(&database, "emptied");
    change(&database, &mut dice, &mut next);
    check(&database, "filled again");
    check_keys(&database, &told, "filled again");
    database.shutdown().expect("a clean stop");
}

#[test]
fn in_and_not_in_have_the_nulls_of_sql() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    database
        .script(
            "CREATE TABLE t (a int); CREATE TABLE u (b int);
             CREATE MATERIALIZED VIEW values_of AS
                 SELECT a, CASE WHEN a IN (SELECT b FROM u) THEN 1 WHEN NOT a IN (SELECT b FROM u) THEN 0 END AS is_in FROM t;
             CREATE MATERIALIZED VIEW outside AS SELECT a FROM t WHERE a NOT IN (SELECT b FROM u);
             INSERT INTO t VALUES (1), (2), (NULL); FLUSH;",
        )
        .expect("created");
    let shown = |sql: &str| {
        database.execute("FLUSH").expect("flushes");
        let rows = database.query(sql).expect(sql);
        let shown = arrow::util::pretty::pretty_format_batches(&rows.batches).expect("printable").to_string();
        shown.replace(' ', "")
    };
    let values = "SELECT * FROM values_of ORDER BY a";
    let outside = "SELECT count(*) AS n FROM outside";
    assert!(shown(values).contains("|1|0|\n|2|0|\n||0|"), "{}", shown(values));
    assert!(shown(outside).contains("|3|"));
    database.execute("INSERT INTO u VALUES (1)").expect("inserted");
    assert!(shown(values).contains("|1|1|\n|2|0|\n|||"), "{}", shown(values));
    assert!(shown(outside).contains("|1|"));
    database.execute("INSERT INTO u VALUES (NULL)").expect("inserted");
    assert!(shown(values).contains("|1|1|\n|2||\n|||"), "{}", shown(values));
    assert!(shown(outside).contains("|0|"));
    database.shutdown().expect("a clean stop");
}
