//! Highwater engine.
