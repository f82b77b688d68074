//! The `larder` program: one binary for every part. For now it is the server; started with a
//! configuration file as its first argument, or under the name of redis-server, it behaves as that.

mod alloc;

use std::process::ExitCode;

use larder_server::{MemoryProbe, Options};

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

const USAGE: &str = "\
Usage: larder server [CONFIG-FILE | -] [--OPTION VALUE ...]
       larder CONFIG-FILE [--OPTION VALUE ...]
       larder --version | --help";

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--version" | "-v") => {
            println!("larder v={}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Some("--help" | "-h" | "help") => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Some("server") => {
            args.remove(0);
        }
        _ => {}
    }
    let mut options = Options::default();
    if let Err(reason) = larder_server::startup::read_arguments(&mut options, &args) {
        eprintln!("{reason}");
        return ExitCode::from(1);
    }
    let memory = MemoryProbe {
        used: alloc::used_memory,
        allocator: "jemalloc-5.3.1",
        figures: alloc::figures,
        report: alloc::report,
        purge: alloc::purge,
    };
    match larder_server::startup::serve(options, memory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::from(1)
        }
    }
}
