//! Look-ups of views, together: those that come while one of the same view is under way wait for it, and are one
//! when it is over.
//!
//! A look-up goes to all workers of a pipeline and back, which takes about as long for one key as for some
//! hundred. Invariant: whoever asks is answered, or told that nobody will.

use crate::database::Database;
use crate::error::Result;
use crate::key_reads::KeyRows;
use crate::views::KeyedView;
use arrow::array::{Array as _, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{concat, concat_batches, take, take_record_batch};
use arrow::row::{RowConverter, Rows as Encoded, SortField};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long one is waited for; then whoever asked takes another way, which tells what is wrong.
const PATIENCE: Duration = Duration::from_secs(5);
/// With more bytes than this, or more rows that several readers want, nobody is answered: each is to read by itself.
const MOST_BYTES: usize = 64 << 20;
const MOST_ROWS: usize = 100_000;

/// What is asked of each view and not yet under way, by its pipeline's name and its own. A view is here as long as
/// somebody serves it.
#[derive(Default)]
pub(crate) struct Lookups(Mutex<HashMap<Name, Vec<Asked>>>);

type Name = (String, String);

/// Keys of one reader: one array a column of the view's key.
struct Asked {
    view: KeyedView,
    keys: Vec<ArrayRef>,
    tell: oneshot::Sender<KeyRows>,
}

impl Database {
    /// The rows of a view with some keys, which have no nulls. None when they cannot be looked up now.
    pub(crate) async fn look_up(&self, view: KeyedView, keys: Vec<ArrayRef>) -> Option<KeyRows> {
        let (tell, told) = oneshot::channel();
        let name = view.name();
        if self.lookups.ask(&name, Asked { view, keys, tell }) {
            let serving = Serving { lookups: Arc::clone(&self.lookups), name, is_over: false };
            self.runtime.spawn_blocking(move || serving.serve());
        }
        tokio::time::timeout(PATIENCE, told).await.ok()?.ok()
    }
}

impl Lookups {
    fn asked(&self) -> MutexGuard<'_, HashMap<Name, Vec<Asked>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody has to begin to serve the view.
    fn ask(&self, name: &Name, asked: Asked) -> bool {
        match self.asked().entry(name.clone()) {
            Entry::Occupied(mut waiting) => {
                waiting.get_mut().push(asked);
                false
            }
            Entry::Vacant(free) => {
                free.insert(vec![asked]);
                true
            }
        }
    }

    /// What waits for a view; none when nothing does, and nobody serves it any more.
    fn take(&self, name: &Name) -> Option<Vec<Asked>> {
        let mut all = self.asked();
        let waiting = all.get_mut(name).map(std::mem::take)?;
        if waiting.is_empty() {
            all.remove(name);
            return None;
        }
        Some(waiting)
    }
}

/// Serves a view, and does not leave anybody waiting when it cannot go on.
struct Serving {
    lookups: Arc<Lookups>,
    name: Name,
    is_over: bool,
}

impl Serving {
    fn serve(mut self) {
        while let Some(mut asked) = self.lookups.take(&self.name) {
            // Whoever has given up is not looked up for.
            asked.retain(|asked| !asked.tell.is_closed());
            match of_all(&asked) {
                Ok(Some(rows)) => tell(&rows, asked),
                // They are dropped, which tells them that they are not answered.
                Ok(None) => {}
                Err(error) => {
                    let (pipeline, view) = &self.name;
                    tracing::debug!(%pipeline, %view, %error, "no look-up");
                }
            }
        }
        self.is_over = true;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if !self.is_over {
            self.lookups.asked().remove(&self.name);
        }
    }
}

/// Tells each reader the rows of its keys.
fn tell(rows: &KeyRows, asked: Vec<Asked>) {
    let (mut read, mut from) = (0, 0);
    for Asked { keys, tell, .. } in asked {
        let reads = read..read + keys.first().map_or(0, |column| column.len());
        let end = reads.clone().last().map_or(from, |last| rows.ends[last]);
        let ends = rows.ends[reads.clone()].iter().map(|end| end - from).collect();
        // Whoever has asked may have gone.
        let _ = tell.send(KeyRows { rows: rows.rows.slice(from, end - from), ends });
        (read, from) = (reads.end, end);
    }
}

/// The rows of all keys together. None when each reader has to take another way.
fn of_all(asked: &[Asked]) -> Result<Option<KeyRows>> {
    let Some(Asked { view, .. }) = asked.last() else { return Ok(None) };
    if asked.iter().any(|asked| asked.keys.len() != view.key.len()) {
        return Ok(None);
    }
    let column = |at: usize| {
        let parts: Vec<_> = asked.iter().map(|asked| asked.keys[at].as_ref()).collect();
        concat(&parts)
    };
    let keys: Vec<ArrayRef> = (0..view.key.len()).map(column).collect::<std::result::Result<_, _>>()?;
    let fields = keys.iter().map(|array| SortField::new(array.data_type().clone())).collect();
    let converter = RowConverter::new(fields)?;
    let encoded = converter.convert_columns(&keys)?;
    let order = ascending(&encoded);
    let mut different = order.clone();
    different.dedup_by_key(|at| encoded.row(*at as usize));
    let different = UInt32Array::from(different);
    let different = keys.iter().map(|array| take(array, &different, None));
    let found = view.lookup(different.collect::<std::result::Result<_, _>>()?)?;
    if found.iter().map(RecordBatch::get_array_memory_size).sum::<usize>() > MOST_BYTES {
        return Ok(None);
    }
    let found = concat_batches(&view.schema, &found)?;
    let found_keys: Vec<ArrayRef> = view.key.iter().map(|at| Arc::clone(found.column(*at))).collect();
    let found_keys = converter.convert_columns(&found_keys)?;
    by_key(&encoded, &order, &found_keys, &found)
}

/// The rows `found` of each of the keys `asked`, which may be equal; `order` is the ascending order of these. None
/// when one of the rows is of no such key, or there are too many.
fn by_key(asked: &Encoded, order: &[u32], found_keys: &Encoded, found: &RecordBatch) -> Result<Option<KeyRows>> {
    let found_order = ascending(found_keys);
    let mut ranges = vec![0..0; asked.num_rows()];
    let (mut last, mut range) = (None, 0..0);
    for at in order {
        let key = asked.row(*at as usize);
        if last != Some(key) {
            let behind = &found_order[range.end..];
            let rows = behind.iter().take_while(|row| found_keys.row(**row as usize) == key).count();
            (last, range) = (Some(key), range.end..range.end + rows);
        }
        ranges[*at as usize] = range.clone();
    }
    let all: usize = ranges.iter().map(ExactSizeIterator::len).sum();
    if range.end < found.num_rows() || all > MOST_ROWS.max(found.num_rows()) {
        return Ok(None);
    }
    let rows = ranges.iter().flat_map(|range| found_order[range.clone()].iter().copied());
    let rows = take_record_batch(found, &UInt32Array::from_iter_values(rows))?;
    let ends = ranges.iter().scan(0, |end, range| {
        *end += range.len();
        Some(*end)
    });
    Ok(Some(KeyRows { rows, ends: ends.collect() }))
}

/// The places of rows in ascending order, equal ones in the order in which they stand.
fn ascending(rows: &Encoded) -> Vec<u32> {
    let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
    order.sort_by(|one, other| rows.row(*one as usize).cmp(&rows.row(*other as usize)));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray as _, Int64Array};
    use arrow::datatypes::Int64Type;
    use highwater_engine::core::Rng;

    fn encoded(keys: &[i64]) -> (Encoded, ArrayRef) {
        let keys: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
        let converter = RowConverter::new(vec![SortField::new(keys.data_type().clone())]).expect("a converter");
        (converter.convert_columns(std::slice::from_ref(&keys)).expect("keys"), keys)
    }

    #[test]
    fn each_reader_gets_the_rows_of_its_own_keys() {
        let (asked, _) = encoded(&[7, -3, 5, 7, 9]);
        let (found_keys, keys) = encoded(&[7, 5, 7, -3]);
        let number: ArrayRef = Arc::new(Int64Array::from(vec![70, 50, 71, 30]));
        let found = RecordBatch::try_from_iter([("k", keys), ("number", number)]).expect("rows");
        let rows =
            by_key(&asked, &ascending(&asked), &found_keys, &found).expect("rows").expect("keys that were asked for");
        assert_eq!(rows.ends, [2, 3, 4, 6, 6]);
        let numbers = rows.rows.column(1).as_primitive::<Int64Type>();
        assert_eq!(numbers.values(), &[70, 71, 30, 50, 70, 71]);
        let (fewer, _) = encoded(&[7, 9]);
        assert!(by_key(&fewer, &ascending(&fewer), &found_keys, &found).expect("rows").is_none(), "nobody wants 5");
    }

    /// Each reader's rows one key after another.
    fn twin(asked: &[i64], found: &[i64]) -> (Vec<i64>, Vec<usize>) {
        let mut rows = Vec::new();
        let mut ends = Vec::new();
        for key in asked {
            rows.extend((0_i64..).zip(found).filter(|(_, found)| *found == key).map(|(place, _)| place));
            ends.push(rows.len());
        }
        (rows, ends)
    }

    #[test]
    fn rows_are_those_that_a_search_for_each_key_finds() {
        let mut random = Rng::seeded(7);
        for _ in 0..200 {
            let range = 1 + random.next_u64() % 20;
            let mut some = |most: u64| -> Vec<i64> {
                let count = random.next_u64() % most;
                (0..count).map(|_| (random.next_u64() % range) as i64 - 10).collect()
            };
            let asked_keys = some(40);
            let found_keys: Vec<i64> = some(40).into_iter().filter(|key| asked_keys.contains(key)).collect();
            let (asked, _) = encoded(&asked_keys);
            let (found, _) = encoded(&found_keys);
            let places: ArrayRef = Arc::new(Int64Array::from_iter_values(0..found_keys.len() as i64));
            let batch = RecordBatch::try_from_iter([("place", places)]).expect("rows");
            let rows = by_key(&asked, &ascending(&asked), &found, &batch).expect("rows").expect("keys asked for");
            let places = rows.rows.column(0).as_primitive::<Int64Type>().values().to_vec();
            assert_eq!((places, rows.ends), twin(&asked_keys, &found_keys), "{asked_keys:?} in {found_keys:?}");
        }
    }

    #[test]
    fn whoever_waits_for_a_view_that_nobody_serves_any_more_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Database::open(crate::Config::new(folder.path())).expect("a database");
        database.execute("CREATE TABLE t (a int)").expect("a table");
        database.execute("CREATE MATERIALIZED VIEW v AS SELECT a, count(*) AS n FROM t GROUP BY a").expect("a view");
        let lookups = Lookups::default();
        let asked = || {
            let view = database.keyed_view("v").expect("a view with a key");
            let (tell, told) = oneshot::channel();
            (Asked { view, keys: Vec::new(), tell }, told)
        };
        let name = |name: &str| ("p".to_owned(), name.to_owned());
        let (v, w) = (name("v"), name("w"));
        assert!(lookups.ask(&v, asked().0));
        assert!(!lookups.ask(&v, asked().0), "it is served");
        assert!(lookups.ask(&w, asked().0), "another view");
        assert_eq!(lookups.take(&v).map(|waiting| waiting.len()), Some(2));
        assert!(!lookups.ask(&v, asked().0), "it is served still");
        assert_eq!(lookups.take(&v).map(|waiting| waiting.len()), Some(1));
        assert!(lookups.take(&v).is_none());
        let (last, mut told) = asked();
        assert!(lookups.ask(&v, last), "nobody serves it");
        assert_eq!(told.try_recv().err(), Some(oneshot::error::TryRecvError::Empty));
        drop(Serving { lookups: Arc::new(lookups), name: v, is_over: false });
        assert_eq!(told.try_recv().err(), Some(oneshot::error::TryRecvError::Closed));
        database.shutdown().expect("a clean end");
    }
}
