//! The operators, one a file; how they live through epochs is `stateful` and `build`.

pub(crate) mod accumulate;
pub(crate) mod aggregate;
pub(crate) mod by_rows;
pub(crate) mod departing;
pub(crate) mod distinct;
pub(crate) mod expressions;
pub(crate) mod extremes;
pub(crate) mod first;
pub(crate) mod gathered;
pub(crate) mod grouping;
pub(crate) mod hop;
pub(crate) mod index;
pub(crate) mod join;
pub(crate) mod lifetime;
pub(crate) mod materialize;
pub(crate) mod outbox;
pub(crate) mod pairs;
pub(crate) mod regroup;
pub(crate) mod sessions;
pub(crate) mod source;
pub(crate) mod sweep;
pub(crate) mod unnest;
pub(crate) mod unpaired;
pub(crate) mod upsert;
pub(crate) mod watermark;
