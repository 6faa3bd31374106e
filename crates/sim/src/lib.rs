//! Highwater sim.
