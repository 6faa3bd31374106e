//! The 22 TPC-H queries as materialized views: against the same SELECTs, while rows come, change and
//! go, and after a crash.

mod benchmark;

use benchmark::queries;
use highwater::engine::core::Rng;
use highwater::{Config, Database, same_rows};
use std::fmt::Write;
use std::path::Path;

const SCHEMA: &str = include_str!("../../../tests/tpch/schema.sql");
const QUERIES: &str = include_str!("../../../tests/tpch/queries.sql");

const NATIONS: [&str; 25] = [
    "ALGERIA",
    "ARGENTINA",
    "BRAZIL",
    "CANADA",
    "EGYPT",
    "ETHIOPIA",
    "FRANCE",
    "GERMANY",
    "INDIA",
    "INDONESIA",
    "IRAN",
    "IRAQ",
    "JAPAN",
    "JORDAN",
    "KENYA",
    "MOROCCO",
    "MOZAMBIQUE",
    "PERU",
    "CHINA",
    "ROMANIA",
    "SAUDI ARABIA",
    "VIETNAM",
    "RUSSIA",
    "UNITED KINGDOM",
    "UNITED STATES",
];
const REGION_OF: [u32; 25] = [0, 1, 1, 1, 4, 0, 3, 3, 2, 2, 4, 4, 2, 4, 0, 0, 0, 1, 2, 3, 4, 2, 3, 3, 1];
const TYPES: [&str; 6] = [
    "STANDARD PLATED BRASS",
    "ECONOMY ANODIZED STEEL",
    "PROMO BURNISHED TIN",
    "MEDIUM POLISHED NICKEL",
    "LARGE BRUSHED BRASS",
    "PROMO PLATED COPPER",
];
const NAMES: [&str; 5] = ["forest green", "dark green lace", "blush thistle", "forest pale", "misty rose"];
const CONTAINERS: [&str; 6] = ["SM CASE", "SM BOX", "MED BOX", "MED BAG", "LG CASE", "LG PKG"];
const BRANDS: [&str; 5] = ["Brand#12", "Brand#23", "Brand#34", "Brand#45", "Brand#51"];
const SIZES: [u32; 10] = [49, 14, 23, 45, 19, 3, 36, 9, 5, 1];
const PRIORITIES: [&str; 4] = ["1-URGENT", "2-HIGH", "3-MEDIUM", "5-LOW"];
const MODES: [&str; 5] = ["MAIL", "SHIP", "AIR", "AIR REG", "TRUCK"];
const PARTS: u64 = 40;
const SUPPLIERS: u64 = 25;
const CUSTOMERS: u64 = 60;

fn open(folder: &Path) -> Database {
    let mut config = Config::new(folder);
    config.workers = Some(2);
    Database::open(config).expect("a database")
}

/// Rows of all tables, whatever a seed makes of them.
struct Data {
    rng: Rng,
}

impl Data {
    fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// A date in the years that the queries look at.
    fn date(&mut self) -> String {
        format!("{}-{:02}-{:02}", 1993 + self.below(5), 1 + self.below(12), 1 + self.below(28))
    }

    fn fixed(&mut self) -> String {
        let mut sql = String::new();
        for (key, name) in ["AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST"].iter().enumerate() {
            insert(&mut sql, "region", &format!("{key}, '{name}', ''"));
        }
        for (key, name) in NATIONS.iter().enumerate() {
            insert(&mut sql, "nation", &format!("{key}, '{name}', {}, ''", REGION_OF[key]));
        }
        for key in 0..PARTS {
            let row = format!(
                "{key}, '{} {key}', 'Manufacturer#{}', '{}', '{}', {}, '{}', {}.00, ''",
                self.of(&NAMES),
                key % 5,
                self.of(&BRANDS),
                self.of(&TYPES),
                self.of(&SIZES),
                self.of(&CONTAINERS),
                900 + key
            );
            insert(&mut sql, "part", &row);
            for step in 0..3 {
                let (supplier, quantity) = ((key * 7 + step * 5) % SUPPLIERS, 1 + self.below(200));
                let row = format!("{key}, {supplier}, {quantity}, {}.50, ''", 1 + self.below(8));
                insert(&mut sql, "partsupp", &row);
            }
        }
        for key in 0..SUPPLIERS {
            let comment = if self.below(4) == 0 { "Customer some Complaints" } else { "fine" };
            let row = format!(
                "{key}, 'Supplier {key}', 'street {key}', {key}, '{}-1', {}.00, '{comment}'",
                10 + key,
                self.below(9000)
            );
            insert(&mut sql, "supplier", &row);
        }
        for key in 0..CUSTOMERS {
            let segment = self.of(&["BUILDING", "MACHINERY"]);
            let row = format!(
                "{key}, 'Customer {key}', 'road {key}', {}, '{}-2', {}.00, '{segment}', ''",
                self.below(25),
                self.of(&[13, 31, 23, 29, 30, 18, 17, 40]),
                self.below(9000)
            );
            insert(&mut sql, "customer", &row);
        }
        sql
    }

    fn orders(&mut self, keys: std::ops::Range<u64>) -> String {
        let mut sql = String::new();
        for key in keys {
            let comment = self.of(&["", "special packages requests"]);
            let row = format!(
                "{key}, {}, '{}', {}.00, '{}', '{}', 'Clerk', 0, '{comment}'",
                self.below(CUSTOMERS * 3 / 4),
                self.of(&["F", "O"]),
                self.below(9000),
                self.date(),
                self.of(&PRIORITIES)
            );
            insert(&mut sql, "orders", &row);
            for line in 0..=self.below(4) {
                let row = self.line(key, line);
                insert(&mut sql, "lineitem", &row);
            }
        }
        sql
    }

    fn line(&mut self, order: u64, line: u64) -> String {
        let part = self.below(PARTS);
        let supplier = (part * 7 + self.below(3) * 5) % SUPPLIERS;
        let (shipped, committed, received) = (self.date(), self.date(), self.date());
        format!(
            "{order}, {part}, {supplier}, {line}, {}.00, {}.00, 0.0{}, 0.0{}, '{}', '{}', '{shipped}', '{committed}', \
             '{received}', '{}', '{}', ''",
            1 + self.below(50),
            100 + self.below(5000),
            self.below(10),
            self.below(9),
            self.of(&["R", "A", "N"]),
            self.of(&["F", "O"]),
            self.of(&["DELIVER IN PERSON", "NONE"]),
            self.of(&MODES)
        )
    }

    /// Updates and deletes of what is there.
    fn changes(&mut self, orders: u64) -> String {
        let mut sql = String::new();
        for _ in 0..12 {
            let (order, part, customer) = (self.below(orders), self.below(PARTS), self.below(CUSTOMERS));
            let statement = match self.below(8) {
                0 => format!("DELETE FROM lineitem WHERE l_orderkey = {order}"),
                1 => format!("DELETE FROM orders WHERE o_orderkey = {order}"),
                2 => format!(
                    "UPDATE lineitem SET l_quantity = l_quantity + 1, l_discount = 0.06 WHERE l_partkey = {part}"
                ),
                3 => format!(
                    "UPDATE part SET p_brand = '{}', p_size = {} WHERE p_partkey = {part}",
                    self.of(&BRANDS),
                    self.of(&SIZES)
                ),
                4 => format!("UPDATE orders SET o_orderdate = '{}' WHERE o_custkey = {customer}", self.date()),
                5 => format!(
                    "UPDATE customer SET c_acctbal = c_acctbal + 100, c_nationkey = {} WHERE c_custkey = {customer}",
                    self.below(25)
                ),
                6 => format!(
                    "UPDATE supplier SET s_nationkey = {}, s_comment = 'fine' WHERE s_suppkey = {}",
                    self.below(25),
                    part % SUPPLIERS
                ),
                _ => format!("UPDATE partsupp SET ps_supplycost = {}.25 WHERE ps_partkey = {part}", 1 + self.below(5)),
            };
            writeln!(sql, "{statement};").expect("a string takes all");
        }
        sql
    }
}

fn insert(sql: &mut String, table: &str, row: &str) {
    writeln!(sql, "INSERT INTO {table} VALUES ({row});").expect("a string takes all");
}

fn compare(database: &Database, when: &str) {
    database.execute("FLUSH").expect("flushed");
    for (name, sql) in queries(QUERIES) {
        let ours = database.query(&format!("SELECT * FROM {name}")).expect(name);
        let theirs = database.query(sql).expect(name);
        assert_eq!(same_rows(&ours.batches, &theirs.batches).expect("comparable"), None, "{name} {when}");
    }
}

#[test]
fn the_queries_are_kept_current() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut data = Data { rng: Rng::seeded(7) };
    let database = open(folder.path());
    database.script(SCHEMA).expect("tables");
    database.script(&data.fixed()).expect("rows");
    database.script(&data.orders(0..150)).expect("rows");
    for (name, sql) in queries(QUERIES) {
        database.execute(&format!("CREATE MATERIALIZED VIEW {name} AS {sql}")).expect(name);
    }
    compare(&database, "after the backfill");
    database.script(&data.orders(150..300)).expect("rows");
    compare(&database, "after inserts");
    for round in 0..3 {
        database.script(&data.changes(300)).expect("changes");
        compare(&database, &format!("after changes {round}"));
    }
    // Without a final checkpoint.
    drop(database);
    let database = open(folder.path());
    compare(&database, "after a crash");
    database.script(&data.changes(300)).expect("changes");
    compare(&database, "after changes to what was restored");
    database.shutdown().expect("a clean stop");
}
