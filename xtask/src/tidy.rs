//! `cargo xtask tidy`: what the compiler does not check of our habits, read from the text: the head of each file, the
//! lengths of files and functions, where `unsafe` stands, which crate uses which, licences. ARCHITECTURE.md is the
//! source of the last three. It runs no program but git and cargo.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::foreign::root;

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
/// What was too long before this was checked: it may shrink, not grow. One `path lines` or `path function lines` a line.
const ALLOWED: &str = "xtask/tidy-allowed.txt";
/// Licences that may stand alone in an expression of a dependency.
const LICENCES: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unlicense",
    "Unicode-3.0",
    "BSL-1.0",
    "0BSD",
];

/// Runs all checks and tells everything that is wrong.
pub fn run() -> Result<()> {
    let mut wrong = Vec::new();
    let files = files()?;
    let mut long = BTreeMap::new();
    let mut with_unsafe = BTreeSet::new();
    for (path, text) in &files {
        if !text.starts_with("//! ") {
            wrong.push(format!("{path}: no head that says what it holds"));
        }
        lengths(path, text, &mut long);
        if path.starts_with("crates/") && has_unsafe(text) {
            with_unsafe.insert(module(path));
        }
        // Parted, or this line would find itself.
        for word in [concat!("FIX", "ME"), concat!("XX", "X:"), concat!("TO", "DO")] {
            if text.contains(word) {
                wrong.push(format!("{path}: {word}: do it, or write an issue"));
            }
        }
    }
    let architecture = std::fs::read_to_string(root().join("ARCHITECTURE.md"))?;
    wrong.extend(ratchet(&long)?);
    wrong.extend(unsafe_modules(&architecture, &with_unsafe));
    wrong.extend(edges(&architecture)?);
    wrong.extend(licences()?);
    if wrong.is_empty() {
        println!("{} files tidy", files.len());
        return Ok(());
    }
    bail!("{}", wrong.join("\n"))
}

/// Every Rust file that git knows.
fn files() -> Result<Vec<(String, String)>> {
    let listed = output(Command::new("git").args(["ls-files", "*.rs"]))?;
    let mut files = Vec::new();
    for path in listed.lines() {
        // Moved or deleted, and not committed yet.
        if let Ok(text) = std::fs::read_to_string(root().join(path)) {
            files.push((path.to_owned(), text));
        }
    }
    Ok(files)
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.current_dir(root()).output()?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Adds what is too long: a file by its path, a function by path and name.
fn lengths(path: &str, text: &str, long: &mut BTreeMap<String, usize>) {
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() > FILE_LINES_MAX {
        long.insert(path.to_owned(), lines.len());
    }
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function(line) else { continue };
        // A trait may only name it.
        let head_end = lines.iter().skip(at).find(|line| line.ends_with(['{', ';', '}']));
        if head_end.is_none_or(|line| !line.ends_with('{')) {
            continue;
        }
        // rustfmt puts the closing brace below the first letter of the function.
        let indent = line.len() - line.trim_start().len();
        let end = format!("{}}}", " ".repeat(indent));
        let len = lines.iter().skip(at).position(|line| *line == end).map_or(1, |len| len + 1);
        if len > FUNCTION_LINES_MAX {
            let entry = long.entry(format!("{path} {name}")).or_default();
            *entry = len.max(*entry);
        }
    }
}

/// The name of the function that a line begins.
fn function(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    for word in ["pub ", "pub(crate) ", "pub(super) ", "const ", "async ", "unsafe "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    rest.strip_prefix("fn ")?.split(['(', '<']).next()
}

fn has_unsafe(text: &str) -> bool {
    let code = |line: &str| line.split("//").next().unwrap_or("").to_owned();
    text.lines().map(code).any(|line| {
        ["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait", "unsafe extern"]
            .iter()
            .any(|form| line.contains(form))
    })
}

/// `crates/store/src/value/packed.rs` is `store::value::packed`.
fn module(path: &str) -> String {
    let path = path.trim_start_matches("crates/").trim_end_matches(".rs").trim_end_matches("/mod");
    path.replace("/src/", "/").replace('/', "::")
}

fn ratchet(long: &BTreeMap<String, usize>) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let text = std::fs::read_to_string(root().join(ALLOWED)).unwrap_or_default();
    let mut allowed = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (what, lines) = line.rsplit_once(' ').context("a line of the list has no number")?;
        allowed.insert(what, lines.parse::<usize>()?);
    }
    for (what, lines) in long {
        match allowed.remove(what.as_str()) {
            Some(limit) if *lines <= limit => {}
            Some(limit) => {
                wrong.push(format!("{what}: grew from {limit} to {lines} lines: split it"))
            }
            None => wrong.push(format!("{what}: {lines} lines: split it by meaning")),
        }
    }
    let done = allowed.keys().map(|what| format!("{what} is short now: take it off {ALLOWED}"));
    wrong.extend(done);
    Ok(wrong)
}

/// `unsafe` stands in exactly the modules that ARCHITECTURE.md names.
fn unsafe_modules(architecture: &str, found: &BTreeSet<String>) -> Vec<String> {
    let line = architecture.lines().find(|line| line.starts_with("- `unsafe` only in"));
    let named: BTreeSet<String> =
        quoted(line.unwrap_or("").trim_start_matches("- `unsafe`")).map(str::to_owned).collect();
    let unnamed = found
        .difference(&named)
        .map(|it| format!("unsafe in {it}: ARCHITECTURE.md does not name it"));
    let gone = named
        .difference(found)
        .map(|it| format!("ARCHITECTURE.md names {it}, which has no unsafe"));
    unnamed.chain(gone).collect()
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Each crate uses exactly the crates that the table says.
fn edges(architecture: &str) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let mut crates = 0;
    for line in architecture.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, uses, _, _, _] = cells.as_slice() else { continue };
        if !root().join("crates").join(name).join("Cargo.toml").exists() && *name != "xtask" {
            continue;
        }
        crates += 1;
        let said: BTreeSet<&str> = uses.split([',', ' ']).filter(|word| !word.is_empty()).collect();
        let package = if *name == "xtask" { "xtask".to_owned() } else { format!("larder-{name}") };
        let tree = [
            "tree",
            "--package",
            &package,
            "--depth",
            "1",
            "--edges",
            "normal",
            "--prefix",
            "none",
        ];
        let tree = output(Command::new("cargo").args(tree).args(["--format", "{p}"]))?;
        let used: BTreeSet<&str> = tree
            .lines()
            .skip(1)
            .filter_map(|line| line.split(' ').next()?.strip_prefix("larder-"))
            .collect();
        if said != used {
            wrong.push(format!("{name} uses {used:?}, ARCHITECTURE.md says {said:?}"));
        }
    }
    let there = std::fs::read_dir(Path::new(&root()).join("crates"))?.count();
    if crates != there + 1 {
        wrong.push(format!("ARCHITECTURE.md has {crates} rows for {there} crates and xtask"));
    }
    Ok(wrong)
}

/// Every dependency may be used under licences that we accept, and each is there in one version.
fn licences() -> Result<Vec<String>> {
    let tree = [
        "tree",
        "--workspace",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}|{l}",
    ];
    let tree = output(Command::new("cargo").args(tree))?;
    let (mut wrong, mut versions) = (BTreeSet::new(), BTreeMap::<&str, BTreeSet<&str>>::new());
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let (package, licence) =
            line.trim_end_matches(" (*)").split_once('|').unwrap_or((line, ""));
        let mut words = package.split(' ');
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            versions.entry(name).or_default().insert(version);
        }
        if !accepted(licence) {
            wrong.insert(format!("{package}: licence {licence:?}"));
        }
    }
    let twice = versions.iter().filter(|(_, versions)| versions.len() > 1);
    wrong.extend(twice.map(|(name, versions)| format!("{name} in several versions: {versions:?}")));
    Ok(wrong.into_iter().collect())
}

/// All parts that are joined by AND must be accepted, of those joined by OR (or `/`) one.
fn accepted(licence: &str) -> bool {
    licence.replace('/', " OR ").split(" AND ").all(|part| {
        let part = part.trim_matches(['(', ')', ' ']);
        part.split(" OR ").any(|one| LICENCES.contains(&one.trim_matches(['(', ')', ' '])))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_functions_are_found_by_name() {
        let body = "    x();\n".repeat(70);
        let text = format!(
            "//! Head.\nimpl X {{\n    pub fn short() {{\n    }}\n}}\npub fn long<T>() {{\n{body}}}\n"
        );
        let text = format!("{text}trait T {{\n    fn named(\n    );\n{body}    }}\n}}\n");
        let mut long = BTreeMap::new();
        lengths("a.rs", &text, &mut long);
        assert_eq!(long, BTreeMap::from([("a.rs long".to_owned(), 72)]));
    }

    #[test]
    fn unsafe_in_comments_is_none() {
        assert!(!has_unsafe("// unsafe { }\n#![deny(unsafe_code)]"));
        assert!(has_unsafe("let x = unsafe { y };"));
        assert_eq!(module("crates/store/src/value/packed.rs"), "store::value::packed");
    }

    #[test]
    fn licences_are_read_as_expressions() {
        assert!(accepted("MIT/Apache-2.0") && accepted("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(accepted("GPL-3.0 OR MIT"));
        assert!(!accepted("GPL-3.0") && !accepted("MIT AND GPL-3.0") && !accepted(""));
    }
}
