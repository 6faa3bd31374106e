//! Highwater checkpoint.
