//! Highwater highwater.
