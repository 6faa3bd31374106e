//! The engine's one error type, classed by what the caller must do.

use arrow::error::ArrowError;
use datafusion_common::DataFusionError;
use datafusion_common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion_expr::Operator;
use datafusion_physical_expr::expressions::{BinaryExpr, NegativeExpr};
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use std::fmt;
use std::sync::Arc;
use thiserror::Error as ThisError;

/// Why the engine could not do something.
#[derive(Debug, ThisError)]
pub enum Error {
    /// The statement or plan asks for what cannot be done; fix the statement.
    #[error("{0}")]
    Plan(String),
    /// A row or value that an expression, source or sink cannot take; fix the data or its policy.
    #[error("{object}: {reason}")]
    Data {
        /// The source, operator or sink.
        object: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// An expression that cannot be computed for a row; fix the data or the expression, or have such
    /// rows left out.
    #[error("{} in {expression}{}", said(source), of(row.as_deref()))]
    Expression {
        /// The expression as SQL has it.
        expression: String,
        /// The row, where it is known which one it was.
        row: Option<String>,
        /// What went wrong.
        source: Box<DataFusionError>,
    },
    /// A source or sink could not be reached or read; retried by restarting the pipeline.
    #[error("{object}: {reason}")]
    Connector {
        /// The source or sink.
        object: String,
        /// What happened.
        reason: String,
    },
    /// The state on this machine could not be read or written.
    #[error("state: {0}")]
    State(#[from] highwater_state::Error),
    /// A checkpoint could not be written, published or restored.
    #[error("checkpoint: {0}")]
    Checkpoint(#[from] highwater_checkpoint::Error),
    /// The pipeline has failed, stopped or was dropped; the reason is told.
    #[error("pipeline {pipeline} is not running: {reason}")]
    NotRunning {
        /// Its name.
        pipeline: String,
        /// Why.
        reason: String,
    },
    /// The pipeline keeps no such view, or another one under its name by now.
    #[error("{pipeline} has no view {view}")]
    NoView {
        /// The pipeline's name.
        pipeline: String,
        /// The view's.
        view: String,
    },
    /// Something was waited for beyond its deadline.
    #[error("timed out: {0}")]
    Timeout(String),
    /// The rows that a read asks for take more memory than it may have.
    #[error("the rows of {pipeline} take more than {bytes} bytes of memory: ask for fewer, or raise query_memory")]
    TooMuch {
        /// The pipeline that is read.
        pipeline: String,
        /// What the read may take.
        bytes: u64,
    },
    /// The checkpoint root has nothing of what was put there, so it is away or another one; tried again.
    #[error("{0}")]
    Away(String),
    /// The machine gave an error that is none of the above.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
}

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An expression that failed on data.
    #[must_use]
    pub fn data(object: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::Data { object: object.into(), reason: reason.to_string() }
    }

    /// An expression that cannot be computed.
    pub(crate) fn expression(expression: &Arc<dyn PhysicalExpr>, source: DataFusionError) -> Self {
        let expression = AsSql(written(expression).as_ref()).to_string();
        Self::Expression { expression, row: None, source: Box::new(source) }
    }

    /// The same, with the row for which it cannot be computed.
    pub(crate) fn of_row(self, told: String) -> Self {
        match self {
            Self::Expression { expression, source, .. } => Self::Expression { expression, row: Some(told), source },
            other => other,
        }
    }

    /// Whether freeing disk space can cure it.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::State(error) => error.is_no_space(),
            Self::Checkpoint(highwater_checkpoint::Error::NoSpace { .. }) => true,
            Self::Io { source, .. } => highwater_checkpoint::error::is_full(source),
            _ => false,
        }
    }

    /// A source or sink that failed.
    #[must_use]
    pub fn connector(object: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::Connector { object: object.into(), reason: reason.to_string() }
    }
}

/// An expression in the words of SQL, with the names of its columns alone.
struct AsSql<'a>(&'a dyn PhysicalExpr);

impl fmt::Display for AsSql<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_sql(f)
    }
}

/// An expression as it is written: with operators in the place of functions that have an operator's sign
/// for their first alias, and without those that have an empty one, which are written as what they are
/// called with. So the query language says how a function of its own is written.
#[must_use]
pub fn written(expression: &Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    let changed = Arc::clone(expression).transform_up(|part| {
        let operated = operated(&part);
        Ok(operated.map_or_else(|| Transformed::no(part), Transformed::yes))
    });
    changed.data().unwrap_or_else(|_| Arc::clone(expression))
}

fn operated(part: &Arc<dyn PhysicalExpr>) -> Option<Arc<dyn PhysicalExpr>> {
    const SIGNS: [(&str, Operator); 6] = [
        ("+", Operator::Plus),
        ("-", Operator::Minus),
        ("*", Operator::Multiply),
        ("/", Operator::Divide),
        ("%", Operator::Modulo),
        ("||", Operator::StringConcat),
    ];
    let call = part.downcast_ref::<ScalarFunctionExpr>()?;
    let alias = call.fun().aliases().first()?;
    if let ("", [of]) = (alias.as_str(), call.args()) {
        return Some(Arc::clone(of));
    }
    let (sign, operator) = SIGNS.into_iter().find(|(sign, _)| *sign == alias.as_str())?;
    match call.args() {
        [of] if sign == "-" => Some(Arc::new(NegativeExpr::new(Arc::clone(of)))),
        [left, right] => Some(Arc::new(BinaryExpr::new(Arc::clone(left), operator, Arc::clone(right)))),
        _ => None,
    }
}

/// What went wrong in one line, without the layers that it went through.
fn said(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::ArrowError(arrow, _) => match arrow.as_ref() {
            ArrowError::DivideByZero => "division by zero".to_owned(),
            ArrowError::CastError(text) | ArrowError::ComputeError(text) | ArrowError::ParseError(text) => text.clone(),
            other => other.to_string(),
        },
        DataFusionError::External(source) => source.to_string(),
        other => other.message().lines().next().unwrap_or_default().to_owned(),
    }
}

fn of(row: Option<&str>) -> String {
    row.map_or_else(String::new, |row| format!(" for the row {row}"))
}
