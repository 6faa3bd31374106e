//! Tests of the program as a process: started, killed, starved and asked from outside.

mod cli;
mod damage;
mod kill;
mod nospace;
mod program;
