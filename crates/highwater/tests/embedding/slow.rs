//! Connectors that take long to tell what they have: nobody waits for that but who asks them.

use crate::parts::{Log, Store, number, open, wait_until};
use highwater::connector::{OptionSpec, Result, Source, SourceConnector, SourceRequest};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

/// A log whose sources are made once its gate is open.
#[derive(Debug)]
struct Gated {
    log: Log,
    asked: Arc<AtomicU32>,
    gate: Mutex<Receiver<()>>,
}

impl Gated {
    /// One that is shut, how often it was asked, and what opens it when it is dropped.
    fn over(log: &Log) -> (Self, Arc<AtomicU32>, Sender<()>) {
        let (opens, gate) = channel();
        let asked = Arc::new(AtomicU32::new(0));
        (Self { log: log.clone(), asked: Arc::clone(&asked), gate: Mutex::new(gate) }, asked, opens)
    }
}

impl SourceConnector for Gated {
    fn name(&self) -> &str {
        "gated"
    }

    fn options(&self) -> &[OptionSpec] {
        self.log.options()
    }

    fn source(&self, asked: &SourceRequest<'_>) -> Result<Arc<dyn Source>> {
        self.asked.fetch_add(1, SeqCst);
        // A gate that is gone is open.
        let _ = self.gate.lock().unwrap_or_else(PoisonError::into_inner).recv();
        self.log.source(asked)
    }
}

#[test]
fn others_go_on_while_sources_are_made_and_a_start_asks_all_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, store) = (Log::of(10), Store::default());
    let (gated, asked, gate) = Gated::over(&log);
    let database = open(folder.path(), &log, &store, |config| config.sources.push(Arc::new(gated)));
    let definitions = [
        "CREATE SOURCE s WITH (connector = 'gated')",
        "CREATE TABLE f (id bigint, part bigint) WITH (connector = 'gated')",
    ];
    std::thread::scope(|scope| {
        let made = definitions.map(|definition| {
            let database = &database;
            scope.spawn(move || database.execute_for(&mut database.connect(), definition))
        });
        wait_until("both are asked for", || asked.load(SeqCst) == 2);
        // It takes the number that each of them was to have.
        database.execute("CREATE TABLE t (a int)").expect("a table");
        drop(gate);
        for made in made {
            made.join().expect("it does not panic").expect("it is made");
        }
    });
    database.execute("FLUSH").expect("flushes");
    for relation in ["s", "f"] {
        assert_eq!(number(&database, &format!("SELECT count(*) FROM {relation}")), 10);
    }
    database.shutdown().expect("a clean stop");
    drop(database);

    let (gated, asked, gate) = Gated::over(&log);
    std::thread::scope(|scope| {
        let opened = scope.spawn(|| open(folder.path(), &log, &store, |config| config.sources.push(Arc::new(gated))));
        wait_until("both are asked for", || asked.load(SeqCst) == 2);
        drop(gate);
        let database = opened.join().expect("it opens");
        assert_eq!(number(&database, "SELECT count(*) FROM f"), 10);
        database.shutdown().expect("a clean stop");
    });
}
