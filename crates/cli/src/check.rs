//! `larder check FILE`: verifies an RDB file, a log or a manifest, and with `--fix` cuts the torn tail of a log. Opens
//! the files; what is in them is for `persist` to know.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use larder_persist::check::{CheckError, Summary, check};

const USAGE: &str = "Usage: larder check [--fix] FILE";
const BUFFER_BYTES: usize = 256 << 10;

/// Runs the program's task; the arguments are those after `check`.
pub fn run(args: &[String]) -> ExitCode {
    let (flags, files): (Vec<_>, Vec<_>) = args.iter().partition(|arg| arg.starts_with("--"));
    let fix = flags.iter().any(|flag| *flag == "--fix");
    let ([file], true) = (files.as_slice(), flags.iter().all(|flag| *flag == "--fix")) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let path = Path::new(file.as_str());
    match verify(path) {
        Ok(summary) => {
            println!("{}: sound. {}", path.display(), words(&summary));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            refused(path, &error, fix)
        }
    }
}

fn verify(path: &Path) -> Result<Summary, CheckError> {
    let open =
        |path: &Path| File::open(path).map(|file| BufReader::with_capacity(BUFFER_BYTES, file));
    check(open(path)?, &mut |name| open(&beside(path, name)))
}

fn beside(path: &Path, name: &[u8]) -> PathBuf {
    path.with_file_name(std::ffi::OsStr::from_bytes(name))
}

/// Cuts a torn tail if that is wanted and is all that is wrong; else says so.
fn refused(path: &Path, error: &CheckError, fix: bool) -> ExitCode {
    let Some((name, len)) = error.cut() else {
        if fix {
            eprintln!("nothing was changed: only the torn tail of a log can be cut");
        }
        return ExitCode::from(1);
    };
    let torn = name.map_or_else(|| path.to_path_buf(), |name| beside(path, name.as_bytes()));
    if !fix {
        eprintln!(
            "the tail of a log is torn: `larder check --fix` cuts {} to {len} bytes",
            torn.display()
        );
        return ExitCode::from(1);
    }
    match cut(&torn, len) {
        Ok(lost) => {
            println!("{}: cut to {len} bytes, {lost} bytes less", torn.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error}", torn.display());
            ExitCode::from(1)
        }
    }
}

fn cut(path: &Path, len: u64) -> io::Result<u64> {
    let file = OpenOptions::new().write(true).open(path)?;
    let before = file.metadata()?.len();
    file.set_len(len)?;
    file.sync_all()?;
    Ok(before.saturating_sub(len))
}

fn words(summary: &Summary) -> String {
    let mut words = Vec::new();
    if let Some(version) = summary.version {
        let checksum = if summary.checksum { "right checksum" } else { "no checksum" };
        words.push(format!(
            "RDB version {} ({checksum}), {} keys, {} of them with deadlines",
            version.number(),
            summary.keys,
            summary.volatile
        ));
    }
    for (count, what) in [
        (summary.empty, "empty keys that loading drops"),
        (summary.functions, "libraries of functions"),
        (summary.commands, "logged commands"),
        (summary.verified, "right checksums in the log"),
        (summary.files, "files"),
    ] {
        if count > 0 {
            words.push(format!("{count} {what}"));
        }
    }
    words.push(format!("{} bytes", summary.bytes));
    words.join(", ")
}
