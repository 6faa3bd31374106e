//! Tests of `highwater serve` from outside, with clients that people use: statements and their
//! results (`tests/slt`), also with kills between them, drivers, roles and TLS, and SIGKILL under concurrent writers.

mod bad_row;
mod clients;
mod kill;
mod quiet;
mod scripts;
mod server;
mod slt;
mod subscription;
mod wire;
