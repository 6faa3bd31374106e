//! The operators, one a file; how they live through epochs is `stateful` and `build`.

pub(crate) mod accumulate;
pub(crate) mod aggregate;
pub(crate) mod expressions;
pub(crate) mod extremes;
pub(crate) mod hop;
pub(crate) mod materialize;
pub(crate) mod outbox;
pub(crate) mod source;
