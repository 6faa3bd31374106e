//! Pipelines that somebody has paused. They stay so over definitions, failures and restarts, as the catalog has
//! it, until somebody resumes them.

use crate::database::Database;
use crate::error::Result;
use highwater_engine::{Error, Pipeline, Status};

impl Database {
    /// Has a pipeline take no more rows, or take them again, until the other is asked for: the catalog keeps it,
    /// so that it lasts over definitions, failures and restarts. Reads and checkpoints go on. Its views are those
    /// of the moment, `FLUSH` tells so, and what is written meanwhile is kept for them.
    ///
    /// # Errors
    /// `Engine` when the pipeline was dropped or does not run, `Folder` when the catalog cannot be written.
    pub fn pause(&self, pipeline: &Pipeline, paused: bool) -> Result<()> {
        let mut state = self.state();
        let name = pipeline.name();
        if state.objects.of_pipeline(name).next().is_none() {
            let (pipeline, reason) = (pipeline.title().to_owned(), "it was dropped".to_owned());
            return Err(Error::NotRunning { pipeline, reason }.into());
        }
        state.catalog.pause(name, paused)?;
        if state.restoring.holds(name) {
            // It is begun so.
            return Ok(());
        }
        let Some(running) = state.running.get(name) else { return Ok(()) };
        match running.pause(paused) {
            // It is begun anew so.
            Err(Error::NotRunning { .. }) if matches!(running.status(), Status::Failed { .. }) => Ok(()),
            told => Ok(told?),
        }
    }

    /// Has a pipeline that was stopped for a moment go on, if nobody wants it paused.
    pub(crate) fn resume_unless_paused(&self, pipeline: &Pipeline) -> Result<()> {
        let state = self.state();
        Ok(pipeline.pause(state.catalog.is_paused(pipeline.name()))?)
    }
}
