//! A streaming database inside a program: a source, two views, and what they hold.
//!
//! Run it twice: the second run goes on from the first one's last checkpoint.
//! `cargo run --release -p highwater --example embedded`

use highwater::arrow::array::AsArray;
use highwater::arrow::datatypes::Int64Type;
use highwater::arrow::util::pretty::pretty_format_batches;
use highwater::{Config, Database, Result};

const SCRIPT: &str = "
CREATE SOURCE bid WITH (
    connector = 'nexmark', nexmark.table.type = 'Bid', nexmark.event.num = 1000000
);
CREATE MATERIALIZED VIEW bids_per_auction AS
    SELECT auction, count(*) AS bids, max(price) AS highest FROM bid GROUP BY auction;
CREATE MATERIALIZED VIEW busiest AS
    SELECT max(bids) AS most FROM bids_per_auction;
FLUSH;
";

fn main() -> Result<()> {
    let mut config = Config::new(std::env::temp_dir().join("highwater-embedded"));
    config.resume = true;
    let database = Database::open(config)?;
    for outcome in database.script(SCRIPT)? {
        println!("{} {}", outcome.tag, outcome.notices.join("; "));
    }
    for sql in [
        "SELECT * FROM bids_per_auction ORDER BY bids DESC, auction LIMIT 5",
        "SELECT * FROM busiest",
        "SELECT b.auction FROM bids_per_auction b JOIN busiest m ON b.bids = m.most",
        "SHOW JOBS",
    ] {
        let rows = database.query(sql)?;
        println!("\n{sql}\n{}", pretty_format_batches(&rows.batches)?);
    }
    let total = database.query("SELECT CAST(sum(bids) AS bigint) AS bids FROM bids_per_auction")?;
    let bids = total.batches[0].column(0).as_primitive::<Int64Type>().value(0);
    assert_eq!(bids, 920_000, "46 of 50 events are bids, and each is counted once, however often this runs");
    database.shutdown()
}
