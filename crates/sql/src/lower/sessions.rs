//! SESSION: the rows that share its keys are a group, whose windows are computed anew when it changes.

use super::Builder;
use super::aggregate::key_names;
use super::compute::{Template, over_rows};
use super::flow::Flow;
use crate::error::{Error, Result};
use crate::session_window::Session;

impl Builder<'_> {
    pub(super) fn sessions(&mut self, session: &Session, owner: &str) -> Result<Flow> {
        let flow = self.lower(&session.input, owner)?;
        let input = session.input.schema();
        let node = session.over(over_rows(input)?).map_err(|e| Error::Plan(Box::new(e)))?;
        let what = format!("session({})", key_names(&session.keys)?);
        self.regroup(Template { node, keys: &session.keys, input, what }, flow, owner)
    }
}
