//! What an embedding program adds to the database: sources, sinks and functions of its own, over
//! crashes, over restarts without them, and the errors that a program meets, also of a database that has lost a part.

mod away;
mod errors;
mod fed;
mod functions;
mod lost;
mod parts;
mod pause;
mod restart;
mod slow;
