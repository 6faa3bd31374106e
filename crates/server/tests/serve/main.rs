//! Tests of `highwater serve` from outside, with clients that people use: statements and their
//! results (`tests/slt`), also with kills between them, drivers, roles and TLS, SIGKILL under concurrent writers, and
//! a damaged log.

mod bad_row;
mod clients;
mod copying;
mod damage;
mod defaults;
mod gone;
mod kill;
mod long_epoch;
mod making;
mod quiet;
mod reads;
mod scripts;
mod server;
mod settled;
mod slt;
mod subscription;
mod wire;
mod written;
