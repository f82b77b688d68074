//! The everyday gate, step by step; the first step that fails ends it.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Steps: a title and a cargo command line.
const STEPS: &[(&str, &[&str])] = &[
    ("format", &["fmt", "--all", "--check"]),
    ("lints", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    ("tests", &["test", "--workspace"]),
    ("program", &["build", "--profile", "quick", "--package", "larder-cli"]),
];

/// Runs everything.
pub fn run() -> Result<()> {
    for (title, args) in STEPS {
        println!("== {title}");
        let status = Command::new("cargo").args(*args).status().context("cargo does not start")?;
        if !status.success() {
            bail!("{title} failed");
        }
    }
    println!("== tidy");
    crate::tidy::run()?;
    fuzz_targets()?;
    println!("== conformance");
    let subject = ["--subject".to_owned(), "target/quick/larder".to_owned()];
    let tally = crate::conformance::run(&subject)?;
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed > 0 {
        bail!("Larder and redis-server differ");
    }
    println!("== propagation");
    crate::propagation::run(&subject)?;
    println!("== differential");
    let short = ["--seconds", "45"].map(str::to_owned);
    if crate::differential::run(&[&subject[..], &short].concat())?.failures > 0 {
        bail!("Larder and redis-server differ");
    }
    let short = ["--seconds", "15", "--fields"].map(str::to_owned);
    if crate::differential::run(&[&subject[..], &short].concat())?.failures > 0 {
        bail!("Larder and redis-server 8 differ");
    }
    println!("== crashes");
    crate::crash_points::run(&["20000".to_owned()])?;
    let short = ["--rounds", "5"].map(str::to_owned);
    crate::crash::run(&[&subject[..], &short].concat())?;
    let short = ["--count", "25"].map(str::to_owned);
    crate::faults::run(&[&subject[..], &short].concat())?;
    println!("== bad input");
    crate::bad_input::run(&subject)?;
    println!("== clients");
    crate::clients::run(&subject)?;
    println!("== cities");
    let short = ["--seconds", "3"].map(str::to_owned);
    crate::cities::run(&[&subject[..], &short].concat())?;
    Ok(())
}

/// The fuzz targets must build. They need no nightly compiler, only a stable one that is told to allow itself
/// what libFuzzer's macro asks for; a check finds what rots, without the instrumented build.
fn fuzz_targets() -> Result<()> {
    println!("== fuzz targets");
    let mut cargo = Command::new("cargo");
    cargo.env("RUSTC_BOOTSTRAP", "1").args(["check", "--manifest-path", "fuzz/Cargo.toml"]);
    // A folder of its own: fuzz/target holds the instrumented build.
    if !cargo.args(["--target-dir", "target/fuzz"]).status()?.success() {
        bail!("a fuzz target does not build");
    }
    Ok(())
}
