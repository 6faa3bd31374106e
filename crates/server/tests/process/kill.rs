//! SIGKILL at random moments, again and again, over a folder that grows and a generator: every view
//! and every row of the sink's files must be what recomputation in this test gives.
//!
//! The moments follow from a seed; `HIGHWATER_TEST_SEED` gives another one.

use crate::program::{Scene, splitmix64, wait_until};
use std::collections::BTreeMap;
use std::time::Duration;

const KILLS: u64 = 50;
const FILES: u64 = 60;
const ROWS_PER_FILE: u64 = 500;
const GENERATED: u64 = 2_000_000;
const KEYS: u64 = 20_000;

/// A row of the file source.
struct Order {
    id: u64,
    customer: String,
    amount: i64,
}

/// The `n`th order of all.
fn order(n: u64) -> Order {
    let random = splitmix64(n ^ 0x5EED);
    Order { id: n, customer: format!("c{}", random % 97), amount: (random >> 20) as i64 % 1000 }
}

/// The text of the `n`th file.
fn file(n: u64) -> String {
    let orders = (n * ROWS_PER_FILE..(n + 1) * ROWS_PER_FILE).map(order);
    let line = |o: Order| format!("{{\"id\":{},\"customer\":\"{}\",\"amount\":{}}}\n", o.id, o.customer, o.amount);
    orders.map(line).collect()
}

fn script() -> String {
    format!(
        "CREATE SOURCE orders (id bigint, customer varchar, amount bigint)
            WITH (connector = 'file', path = 'orders/*.ndjson', file.watch = 'true', file.discovery.interval = '50ms')
            FORMAT PLAIN ENCODE JSON;
         CREATE MATERIALIZED VIEW spending AS
            SELECT customer, count(*) AS n, sum(amount) AS total, min(amount) AS lo, max(amount) AS hi
            FROM orders GROUP BY customer;
         CREATE VIEW big_orders AS SELECT id, amount FROM orders WHERE amount > 900;
         CREATE SINK big FROM big_orders WITH (connector = 'file', path = 'big') FORMAT PLAIN ENCODE JSON;
         CREATE SOURCE gen (k bigint, v bigint)
            WITH (connector = 'datagen', datagen.rows = '{GENERATED}', datagen.rows.per.second = '100000',
                  datagen.split.num = '2', fields.k.kind = 'keyed', fields.k.keys = '{KEYS}', fields.v.kind = 'event_number');
         CREATE MATERIALIZED VIEW counts AS SELECT k, count(*) AS n, sum(v) AS total FROM gen GROUP BY k;"
    )
}

const RUN: [&str; 8] = ["run", "script.sql", "--data", "data", "--checkpoint-interval", "100ms", "--progress", "off"];

#[test]
fn fifty_kills_lose_nothing_and_repeat_nothing() {
    let seed = std::env::var("HIGHWATER_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let scene = Scene::new();
    scene.write("script.sql", &script());
    let mut files = 0;
    for kill in 0..KILLS {
        while files < FILES * (kill + 1) / KILLS {
            scene.write(&format!("orders/{files:04}.ndjson"), &file(files));
            files += 1;
        }
        let moment = Duration::from_millis(30 + splitmix64(seed ^ kill) % 600);
        let mut running = scene.start(&RUN);
        if let Some(code) = running.wait(moment) {
            panic!("kill {kill} of seed {seed}: it ended by itself with {code:?}:\n{}", scene.log());
        }
        running.kill();
    }
    finish(&scene);
    compare_spending(&scene);
    compare_counts(&scene);
    compare_sink(&scene);
}

/// Runs until everything has been read and delivered, then stops it cleanly.
fn finish(scene: &Scene) {
    let mut running = scene.start(&RUN);
    // The sink may have everything already: a stop is asked for once it surely listens to signals.
    running.wait(Duration::from_secs(1));
    wait_until("the sink has everything", Duration::from_secs(120), || {
        scene.lines_of("big").len() >= big_orders().count()
    });
    assert_eq!(running.stop(), Some(0), "{}", scene.log());
    // The generator may have been further behind than the files.
    loop {
        let rows = scene.select("SELECT sum(n) FROM counts");
        if rows[0][0] == GENERATED.to_string() {
            return;
        }
        let mut running = scene.start(&RUN);
        running.wait(Duration::from_secs(2));
        assert_eq!(running.stop(), Some(0), "{}", scene.log());
    }
}

fn compare_spending(scene: &Scene) {
    let mut expected: BTreeMap<String, (i64, i64, i64, i64)> = BTreeMap::new();
    for order in (0..FILES * ROWS_PER_FILE).map(order) {
        let seen = expected.entry(order.customer).or_insert((0, 0, i64::MAX, i64::MIN));
        *seen = (seen.0 + 1, seen.1 + order.amount, seen.2.min(order.amount), seen.3.max(order.amount));
    }
    let expected: Vec<Vec<String>> = expected
        .into_iter()
        .map(|(customer, (n, total, lo, hi))| {
            vec![customer, n.to_string(), total.to_string(), lo.to_string(), hi.to_string()]
        })
        .collect();
    assert_eq!(scene.select("SELECT customer, n, total, lo, hi FROM spending ORDER BY customer"), expected);
}

fn compare_counts(scene: &Scene) {
    let mut expected: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for i in 0..GENERATED {
        let key = if i < KEYS { i } else { splitmix64(i) % KEYS };
        let seen = expected.entry(key).or_default();
        *seen = (seen.0 + 1, seen.1 + i);
    }
    let expected: Vec<Vec<String>> =
        expected.into_iter().map(|(k, (n, total))| vec![k.to_string(), n.to_string(), total.to_string()]).collect();
    assert_eq!(scene.select("SELECT k, n, total FROM counts ORDER BY k"), expected);
}

fn big_orders() -> impl Iterator<Item = Order> {
    (0..FILES * ROWS_PER_FILE).map(order).filter(|order| order.amount > 900)
}

fn compare_sink(scene: &Scene) {
    let mut expected: Vec<String> =
        big_orders().map(|order| format!("{{\"id\":{},\"amount\":{}}}", order.id, order.amount)).collect();
    let mut delivered = scene.lines_of("big");
    expected.sort();
    delivered.sort();
    assert_eq!(delivered.len(), expected.len(), "each row once");
    assert_eq!(delivered, expected);
}
