//! What an embedding program adds to the database: sources, sinks and functions of its own, over
//! crashes, over restarts without them, and the errors that a program meets.

mod errors;
mod fed;
mod functions;
mod parts;
mod restart;
