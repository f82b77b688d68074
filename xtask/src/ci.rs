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
    fuzz_targets()?;
    println!("== conformance");
    let subject = "--subject".to_owned();
    let tally = crate::conformance::run(&[subject, "target/quick/larder".to_owned()])?;
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed > 0 {
        bail!("Larder and redis-server differ");
    }
    Ok(())
}

/// The fuzz targets must build, where a nightly compiler is at hand to build them.
fn fuzz_targets() -> Result<()> {
    println!("== fuzz targets");
    let nightly = Command::new("cargo")
        .env_remove("RUSTUP_TOOLCHAIN")
        .args(["+nightly", "--version"])
        .output();
    if !nightly.is_ok_and(|output| output.status.success()) {
        println!("no nightly compiler: passed over");
        return Ok(());
    }
    let args = ["+nightly", "check", "--manifest-path", "fuzz/Cargo.toml"];
    // The toolchain that runs us must not be inherited.
    let mut cargo = Command::new("cargo");
    let status = cargo.env_remove("RUSTUP_TOOLCHAIN").args(args).status()?;
    if !status.success() {
        bail!("a fuzz target does not build");
    }
    Ok(())
}
