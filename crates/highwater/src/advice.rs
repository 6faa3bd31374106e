//! What to do about a view or sink that fails for a row, in words.

use crate::connection::invalid;
use crate::database::{Database, State};
use crate::error::Error;
use crate::objects::{Body, Object};
use crate::pipelines::policy;
use highwater_engine::Pipeline;
use highwater_engine::plan::OnError;

impl Database {
    /// What is told of a pipeline and, where a row is to blame, the statement that leaves such rows out.
    pub(crate) fn advised(&self, pipeline: &Pipeline, told: String) -> String {
        match pipeline.failed_at_row().and_then(|operator| self.statement_for(&operator)) {
            Some(statement) => format!("{told}; {statement} leaves such rows out"),
            None => told,
        }
    }

    /// None where such rows are left out already, and this one cannot be.
    fn statement_for(&self, operator: &str) -> Option<String> {
        let state = self.state();
        let its = state.objects.iter().filter(|object| is_of(operator, object));
        // A name may begin with another one and a slash.
        let object = its.max_by_key(|object| object.kept().len())?;
        if policy(&state, object).ok()? != OnError::Fail {
            return None;
        }
        let (kind, name) = match &object.body {
            Body::Materialized(_) => ("MATERIALIZED VIEW", object.name()),
            Body::Index(index) => ("MATERIALIZED VIEW", index.on.value.as_str()),
            Body::Subscription(subscribed) => ("MATERIALIZED VIEW", subscribed.statement.from.value.as_str()),
            Body::Sink(_) => ("SINK", object.name()),
            Body::Table(_) | Body::Fed(_) | Body::Source(_) | Body::View(_) => return None,
        };
        Some(format!("ALTER {kind} {} SET (on_error = 'skip')", quoted(name)))
    }
}

/// Why a view is not made and, where one of its first rows is to blame, what leaves such rows out.
pub(crate) fn advised_to_create(state: &State, view: &str, pipeline: &Pipeline, refused: Error) -> Error {
    let Error::Engine(error @ highwater_engine::Error::NotRunning { .. }) = &refused else { return refused };
    if pipeline.failed_of_memory() {
        return invalid("53200", error.to_string(), None);
    }
    let (Some(operator), Some(object)) = (pipeline.failed_at_row(), state.objects.get(view)) else { return refused };
    if !is_of(&operator, object) || !matches!(policy(state, object), Ok(OnError::Fail)) {
        return refused;
    }
    let is_index = matches!(object.body, Body::Index(_));
    let how = if is_index { "on_error = 'skip' of its view" } else { "WITH (on_error = 'skip')" };
    invalid("55000", format!("{error}; {how} leaves such rows out"), None)
}

/// Whether an operator was made for an object.
fn is_of(operator: &str, object: &Object) -> bool {
    operator.strip_prefix(object.kept()).is_some_and(|rest| rest.starts_with('/'))
}

/// A name as it is written in a statement.
fn quoted(name: &str) -> String {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}
