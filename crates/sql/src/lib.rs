//! Highwater's SQL: text to statements, queries to bound plans, and plans to the engine's operators.
//!
//! The way of a statement: [`text`] divides a script, [`parse`] makes a [`statement::Statement`],
//! [`session`] binds its query, `maintain` refuses what cannot be kept current, [`lower`] makes the
//! pipeline's plan, [`explain`] shows it. The crate knows no connector, no catalog and no files:
//! sources and sinks come in as the engine's traits, a program's functions as [`ScalarFunction`]s.

mod aggregates;
mod alike;
mod arithmetic;
pub mod arrays;
mod asof;
mod averages;
mod bounded;
mod chains;
mod close;
mod composites;
mod copy;
mod correlated;
mod correlation;
mod cursor;
mod date_bin;
mod division;
pub mod error;
mod exact;
mod explain;
mod floats;
mod formats;
mod frame_bounds;
mod frames;
mod function;
mod generated;
mod growth;
mod guards;
mod hidden;
mod ignored;
mod interval_sums;
mod intervals;
pub mod jsonb;
mod lateral;
mod lengths;
mod literals;
pub mod lower;
mod maintain;
mod merged;
mod named;
mod nulls;
mod numbers;
mod numerals;
mod order_by;
mod ordered_sets;
mod parameters;
mod parse;
mod patterns;
mod positions;
mod precedence;
mod present;
mod printed;
mod ranks;
mod references;
mod respell;
mod rewrite;
pub mod rounding;
mod row_values;
mod scalars;
mod scopes;
mod series;
pub mod session;
mod session_window;
mod sets;
pub mod sql_function;
pub mod statement;
mod subquery;
mod temporal;
pub mod text;
mod titles;
mod trims;
pub mod type_of;
pub mod types;
mod undealt;
mod upsert;
mod walk;
mod window;
pub mod zoned;
pub mod zones;

pub use datafusion::sql::sqlparser::ast::SelectItem;
pub use error::{DataError, Error, Kind, Result};
pub use exact::physical_rules;
pub use explain::explain;
pub use function::{CallError, CallFailed, ScalarFunction, Volatility};
pub use generated::{Generated, is_proctime};
pub use highwater_values::{bytea, input, spelling};
pub use maintain::check_functions;
pub use numerals::numeral;
pub use parameters::{are_told, parameter_types};
pub use parse::{is_default, parse, rows_of};
pub use precedence::group_operands;
pub use references::{calls, named, references};
pub use respell::name_repeated;
pub use rewrite::{renamed, retitled, with_column};
pub use row_values::{columns as row_columns, row_of};
pub use session::{Relations, Session};
pub use text::{Piece, Position, same_text, split};
pub use titles::titled;
pub use walk::{walk_expr_mut, walk_query, walk_statement_mut};

#[cfg(test)]
mod tests;
