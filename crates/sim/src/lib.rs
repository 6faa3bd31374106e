//! Seeded simulation of the checkpoint protocol: the real code of `highwater-checkpoint` over a store
//! that fails in every way, processes that crash at any step and a clock that the simulation owns.
//!
//! [`executor`] runs futures one step at a time in virtual time; [`faults`] is the store; [`model`]
//! is the service whose state is checkpointed; [`process`] is one run of it and [`scenario`] the
//! play of one seed; [`invariants`] says what must hold after each step. One seed gives one run, to
//! the letter of its trace.
//!
//! What is simulated: a call is done or not, and reported or not; it arrives late; a read is cut
//! short; objects rot; two processes claim one root; uploads are overtaken by collection; somebody
//! prunes beside a running pipeline; clocks differ. What is not: Timely, SQL and RocksDB.

pub mod executor;
pub mod faults;
pub mod invariants;
pub mod model;
pub mod process;
pub mod scenario;
pub mod trace;
pub mod world;

pub use scenario::{Plan, Run, run, run_plan};
