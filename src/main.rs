//! All of Petrel in one process: edge, persist and router on the embedded log, store and routes.
//!
//! Each service is a library; this program opens the data folder, starts them in the order in which they need each
//! other, and stops them in the opposite order.

mod config;
mod data;
mod serve;
mod token;

use std::process::ExitCode;

use clap::Parser;

use config::{Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code of a start that cannot succeed as it was asked for.
const BAD_START: u8 = 2;

fn main() -> ExitCode {
    // Every shard's allocator would hold huge pages that it does not fill: megabytes a thread. A kernel that does not know
    // the setting has none to turn off.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let cli = Cli::parse();
    let done = match &cli.command {
        Some(Command::Token(args)) => token::print(args),
        None => serve::run(&cli.serve),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("petrel: {text}");
            ExitCode::from(BAD_START)
        }
    }
}
