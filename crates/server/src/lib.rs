//! Highwater server.
