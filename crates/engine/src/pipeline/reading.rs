//! How a pipeline's views are read from outside the dataflow: all rows, at once or as they are taken,
//! those of some keys, or all rows and then every change.

use super::Pipeline;
use crate::batch::Batch;
use crate::control::Request;
use crate::error::{Error, Result};
use crate::ops::by_rows;
use crate::ops::expressions::Mapper;
use crate::plan::{Node, View};
use crate::reads::{Answered, Moment, Reading, Ticket, Wish};
use crate::run::RunSpec;
use crate::subscription::{Changes, tap};
use arrow::array::{ArrayRef, RecordBatch};
use highwater_core::{Epoch, WallMicros};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a read waits for rows before it gives up.
const READ_PATIENCE: Duration = Duration::from_secs(60);
/// How long one waits before a read is asked for again, at first and at most.
const AGAIN_AFTER: Duration = Duration::from_micros(500);
const LONGEST_AGAIN: Duration = Duration::from_millis(50);

/// The rows of views as of one epoch.
#[derive(Clone, Debug)]
pub struct Scan {
    /// The epoch.
    pub epoch: Epoch,
    /// The position in the log of changes that they show.
    pub horizon: u64,
    /// The time of day that now() is in them.
    pub wall: WallMicros,
    /// In the order asked for, in each view's schema.
    pub views: Vec<Vec<RecordBatch>>,
}

/// A scan of which the rows are yet to come.
#[derive(Debug)]
pub struct BegunScan {
    moment: Moment,
    ticket: Ticket,
    views: Vec<View>,
    pipeline: String,
    workers: usize,
}

impl BegunScan {
    /// The position in the log of changes that it shows.
    #[must_use]
    pub const fn horizon(&self) -> u64 {
        self.moment.horizon
    }

    /// Lets the rows come at once, which will all be asked for.
    pub fn hasten(&self) {
        self.ticket.hasten();
    }

    /// The same views with their rows as they are taken, of which so many bytes may wait for each when
    /// somebody else wants the view; none when the pipeline began anew meanwhile, and the scan has to as well.
    ///
    /// # Errors
    /// As [`Pipeline::scan`].
    pub fn open(self, most_bytes: u64) -> Result<Option<OpenScan>> {
        let Self { moment, ticket, views, pipeline, workers } = self;
        let Some(readings) = ticket.open(&pipeline, workers, (READ_PATIENCE, most_bytes))? else { return Ok(None) };
        let opened = views.into_iter().zip(readings);
        let views =
            opened.map(|(view, reading)| ViewReader { reading, view, pipeline: pipeline.clone(), workers }).collect();
        Ok(Some(OpenScan { epoch: moment.epoch, views }))
    }

    /// The rows, which may take so many bytes; none when the pipeline began anew meanwhile, and the
    /// scan has to as well.
    ///
    /// # Errors
    /// As [`Pipeline::scan`], and `TooMuch`.
    pub fn finish(mut self, most_bytes: u64) -> Result<Option<Scan>> {
        self.ticket.limit(most_bytes);
        let Some(answered) = self.ticket.wait(&self.pipeline, self.workers, READ_PATIENCE)? else { return Ok(None) };
        let rows = self.views.iter().zip(answered.nodes).map(|(view, batches)| finish(view, batches));
        let Moment { epoch, horizon, wall } = answered.moment;
        Ok(Some(Scan { epoch, horizon, wall, views: rows.collect::<Result<_>>()? }))
    }
}

/// Views of which the rows are taken as they are wanted, all as of one epoch.
#[derive(Debug)]
pub struct OpenScan {
    /// The epoch.
    pub epoch: Epoch,
    /// In the order asked for.
    pub views: Vec<ViewReader>,
}

/// The rows of a view as of one epoch, piece by piece: some MiB are read ahead, and the rest stays where it
/// is until it is asked for, or somebody else waits for the view. When it is dropped nothing is kept for it.
#[derive(Debug)]
pub struct ViewReader {
    reading: Reading,
    view: View,
    pipeline: String,
    workers: usize,
}

impl ViewReader {
    /// The next rows, in the view's schema, in batches of which there may be none; nothing at the end. Blocks.
    ///
    /// # Errors
    /// As [`Pipeline::scan`], and `TooMuch` when others waited for the view and nobody took its rows.
    pub fn piece(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        let batch = self.reading.next(&self.pipeline, self.workers, READ_PATIENCE)?;
        batch.map(|batch| finish(&self.view, vec![batch])).transpose()
    }

    /// Whether all rows have come, and take no more than so many bytes.
    #[must_use]
    pub const fn is_small(&self, most_bytes: u64) -> bool {
        let (are_all, bytes) = self.reading.come(self.workers);
        are_all && bytes <= most_bytes
    }

    /// All rows that are left, which may take so many bytes. Blocks.
    ///
    /// # Errors
    /// As [`ViewReader::piece`], and `TooMuch`.
    pub fn rest(mut self, most_bytes: u64) -> Result<Vec<RecordBatch>> {
        self.reading.hasten();
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while let Some(piece) = self.piece()? {
            bytes += piece.iter().map(|batch| batch.get_array_memory_size() as u64).sum::<u64>();
            if bytes > most_bytes {
                return Err(Error::TooMuch { pipeline: self.pipeline, bytes: most_bytes });
            }
            rows.extend(piece);
        }
        Ok(rows)
    }
}

/// A view's rows as of one epoch, and its changes from then on.
#[derive(Debug)]
pub struct Subscription {
    /// The epoch of the first rows.
    pub epoch: Epoch,
    /// The view's rows as of that epoch, in the view's schema.
    pub rows: Vec<RecordBatch>,
    view: View,
    pipeline: String,
    changes: Changes,
}

impl Subscription {
    /// The next epoch that changed the view, and the changes: rows with weights, +1 for a row that
    /// came and -1 for one that went. Nothing when none came within `patience`.
    ///
    /// # Errors
    /// `NotRunning` when the pipeline's run has ended, or when more rows wait than a reader may be
    /// behind: then subscribe again.
    pub fn next(&mut self, patience: Duration) -> Result<Option<(Epoch, Vec<Batch>)>> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some((epoch, batches)) = self.changes.next(&self.pipeline, left)? else { return Ok(None) };
            let changes = finish_changes(&self.view, batches)?;
            if !changes.is_empty() {
                return Ok(Some((epoch, changes)));
            }
        }
    }
}

impl Pipeline {
    /// The rows of some of its views, all as of one epoch, without stopping the stream.
    ///
    /// # Errors
    /// `NoView` for a view it does not have, `NotRunning` when it has failed or stopped, `Timeout`.
    pub fn scan(&self, views: &[String]) -> Result<Scan> {
        loop {
            if let Some(scan) = self.begin_scan(views, None, &|| true)?.finish(u64::MAX)? {
                return Ok(scan);
            }
        }
    }

    /// Begins a scan: returns as soon as it is known which epoch it is of. With a position and a
    /// patience it is of the first epoch that shows the log of changes up to there; of the newest one
    /// if the pipeline is paused. While others read the views it waits, for as long as it `is_wanted`.
    ///
    /// # Errors
    /// As [`Pipeline::scan`].
    pub fn begin_scan(
        &self,
        views: &[String],
        at: Option<(u64, Duration)>,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<BegunScan> {
        let spec = self.running()?;
        let found = views.iter().map(|name| view_of(&spec, name).cloned()).collect::<Result<Vec<_>>>()?;
        let position = at.map(|(position, _)| position);
        let patience = at.map_or(READ_PATIENCE, |(_, patience)| patience);
        let began = Instant::now();
        loop {
            let mut ticket = self.ask_to_read(&spec, &found.iter().collect::<Vec<_>>(), &Wish::All, position)?;
            if let Some(moment) = ticket.begin(self.name(), spec.workers(), patience)? {
                let (pipeline, workers) = (self.name().to_owned(), spec.workers());
                return Ok(BegunScan { moment, ticket, views: found, pipeline, workers });
            }
            drop(ticket);
            self.wait_to_ask(began)?;
            if !is_wanted() {
                return Err(Error::Timeout(format!("others read {}, and nobody waits for it any more", self.name())));
            }
        }
    }

    /// The rows of a view with given keys, as of one epoch: `keys` has one array a column of
    /// [`crate::plan::Plan::lookup_columns`], of that column's type and without nulls, and one entry a key.
    ///
    /// # Errors
    /// As [`Pipeline::scan`].
    pub fn lookup(&self, view: &str, keys: Vec<ArrayRef>) -> Result<Vec<RecordBatch>> {
        Ok(self.looked_up(view, keys, |_| true)?.1)
    }

    /// The same behind the position in the log of changes that the rows show, of a view whose node is of this
    /// [incarnation](crate::plan::Node::incarnation): one that was made again under the same name may have other keys.
    ///
    /// # Errors
    /// As [`Pipeline::scan`].
    pub fn lookup_as_of(
        &self,
        (view, incarnation): (&str, u64),
        keys: Vec<ArrayRef>,
    ) -> Result<(u64, Vec<RecordBatch>)> {
        self.looked_up(view, keys, |node| node.incarnation == incarnation)
    }

    fn looked_up(
        &self,
        name: &str,
        keys: Vec<ArrayRef>,
        is_it: impl Fn(&Node) -> bool,
    ) -> Result<(u64, Vec<RecordBatch>)> {
        let wish = Wish::Keys(keys.into());
        loop {
            let spec = self.running()?;
            let view = view_of(&spec, name)?;
            if !is_it(&spec.plan.nodes[view.node.0]) {
                return Err(no_view(&spec, name));
            }
            let ticket = self.ask_to_read(&spec, &[view], &wish, None)?;
            // A run that began before it was asked may have no view of this name, or another one.
            if Arc::ptr_eq(&spec, &self.running()?)
                && let Some(answered) = ticket.wait(self.name(), spec.workers(), READ_PATIENCE)?
            {
                let horizon = answered.moment.horizon;
                return Ok((horizon, finish(view, answered.nodes.into_iter().flatten().collect())?));
            }
        }
    }

    /// The columns by which a view can be looked up, see [`crate::plan::Plan::lookup_columns`].
    ///
    /// # Errors
    /// As [`Pipeline::scan`].
    pub fn lookup_columns(&self, view: &str) -> Result<Option<Vec<usize>>> {
        let spec = self.running()?;
        Ok(spec.plan.lookup_columns(view_of(&spec, view)?))
    }

    /// A view's rows as of one epoch, and from then on its changes.
    ///
    /// # Errors
    /// As [`Pipeline::scan`].
    pub fn subscribe(&self, view: &str) -> Result<Subscription> {
        let spec = self.running()?;
        let view = view_of(&spec, view)?;
        let began = Instant::now();
        loop {
            let (tap, changes) = tap(spec.workers());
            let Some(answered) = self.read_once(&spec, &[view], &Wish::Changes(tap))? else {
                self.wait_to_ask(began)?;
                continue;
            };
            let rows = finish(view, answered.nodes.into_iter().flatten().collect())?;
            let (epoch, view, pipeline) = (answered.moment.epoch, view.clone(), self.name().to_owned());
            return Ok(Subscription { epoch, rows, view, pipeline, changes });
        }
    }

    fn running(&self) -> Result<Arc<RunSpec>> {
        let run = self.inner.state().run.as_ref().map(|run| Arc::clone(&run.spec));
        run.ok_or_else(|| self.inner.not_running(self.inner.why_not()))
    }

    /// Lets a moment pass before something is asked for again that another read was in the way of.
    fn wait_to_ask(&self, began: Instant) -> Result<()> {
        let waited = began.elapsed();
        if waited >= READ_PATIENCE {
            let message = format!("others read {} for {READ_PATIENCE:?} and more: try again", self.name());
            return Err(Error::Timeout(message));
        }
        // Each time an epoch begins for it, and workers that others do not read give rows in vain.
        std::thread::sleep((waited / 16).clamp(AGAIN_AFTER, LONGEST_AGAIN));
        Ok(())
    }

    /// Nothing when the read has to be asked for again.
    fn read_once(&self, spec: &RunSpec, views: &[&View], wish: &Wish) -> Result<Option<Answered>> {
        self.ask_to_read(spec, views, wish, None)?.wait(&self.inner.name, spec.workers(), READ_PATIENCE)
    }

    fn ask_to_read(&self, spec: &RunSpec, views: &[&View], wish: &Wish, at: Option<u64>) -> Result<Ticket> {
        let nodes = views.iter().map(|view| spec.plan.nodes[view.node.0].name.clone()).collect();
        let ticket = self.inner.reads.ask(nodes, wish.clone()).map_err(|reason| self.inner.not_running(reason))?;
        self.inner.ask(Request::Read(ticket.read(), at))?;
        Ok(ticket)
    }
}

fn view_of<'a>(spec: &'a RunSpec, name: &str) -> Result<&'a View> {
    let view = spec.plan.views.iter().find(|view| view.name == name);
    view.ok_or_else(|| no_view(spec, name))
}

fn no_view(spec: &RunSpec, name: &str) -> Error {
    Error::NoView { pipeline: spec.run.pipeline.clone(), view: name.to_owned() }
}

/// The view's rows of those of its node.
pub(crate) fn finish(view: &View, batches: Vec<Batch>) -> Result<Vec<RecordBatch>> {
    Ok(finish_changes(view, batches)?.into_iter().map(|batch| batch.rows).collect())
}

fn finish_changes(view: &View, batches: Vec<Batch>) -> Result<Vec<Batch>> {
    let Some(map) = &view.finish else { return Ok(batches) };
    let mapper = Mapper::new(map.clone(), Arc::clone(&view.schema));
    let mut finished = Vec::new();
    for batch in batches {
        // They are not counted: they are left out anew each time that somebody reads.
        by_rows::apply(batch, view.on_error, &mut finished, &mut |batch: Batch, out: &mut Vec<Batch>| {
            out.extend(mapper.apply(batch)?);
            Ok(())
        })?;
    }
    finished.retain(|batch| !batch.is_empty());
    Ok(finished)
}
