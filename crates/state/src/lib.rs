//! Highwater state.
