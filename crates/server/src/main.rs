//! The program `highwater`: parses the command line, runs one command, ends with a documented code.
//!
//! It calls what every embedding program can call and knows nothing of how the database works.

mod bench;
mod checkpoints;
mod cli;
mod demo;
mod exit;
mod figures;
mod http;
mod logs;
mod memory;
mod pg;
mod process;
mod progress;
mod run;
mod serve;
mod settings;
mod shell;
mod signals;
mod table;
mod users;
mod watch;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    memory::prepare();
    let code = cli::main().unwrap_or_else(|failure| {
        eprintln!("highwater: {}", failure.message);
        failure.exit.code()
    });
    exit::leave(code)
}
