//! The `larder` program: one binary for every part. For now it is the server; started with a
//! configuration file as its first argument, or under the name of redis-server, it behaves as that.

mod alloc;
mod broken;
mod check;
mod pages;
mod pieces;

use std::io::Write;
use std::process::ExitCode;

use larder_server::MemoryProbe;
use larder_server::config::{RawConfig, reference};

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

const USAGE: &str = "\
Usage: larder server [CONFIG-FILE | -] [--OPTION VALUE ...]
       larder CONFIG-FILE [--OPTION VALUE ...]
       larder check [--fix] FILE
       larder --version | --help";

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--version" | "-v") => {
            println!("{}", reference::version());
            return ExitCode::SUCCESS;
        }
        Some("--help" | "-h" | "help") => {
            println!("{USAGE}\n\n{}", reference::help());
            return ExitCode::SUCCESS;
        }
        Some("check") => return check::run(args.get(1..).unwrap_or_default()),
        Some("server") => {
            args.remove(0);
        }
        _ => {}
    }
    let raw = match RawConfig::from_arguments(&args) {
        Ok(raw) => raw,
        Err(error) => {
            complain(&error);
            return ExitCode::from(1);
        }
    };
    broken::end_at_once();
    pieces::install();
    alloc::purge_beside();
    let memory = MemoryProbe {
        used: alloc::used_memory,
        allocator: "jemalloc-5.3.1",
        figures: alloc::figures,
        report: alloc::report,
        purge: alloc::purge,
        make_huge: || pages::start(alloc::used_memory),
    };
    match larder_server::startup::serve(&raw, memory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            complain(&reason);
            ExitCode::from(1)
        }
    }
}

/// Says why it ends, where that can be said: the disk that is full may be this one, too.
fn complain(reason: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{reason}");
}
