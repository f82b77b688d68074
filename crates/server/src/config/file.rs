//! Loading: files with includes, the command line and the standard input become a [`RawConfig`], and that a
//! [`Config`]. The only part of the configuration that reads files; it must never know what options mean.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use larder_base::glob;

use super::options;
use super::split::{quote, split_words};
use super::typed::Config;

/// Most files inside files.
const NESTING_MAX: usize = 16;
/// Most lines of all sources together: an include of itself through many names must end.
const LINES_MAX: usize = 1_000_000;
/// Directives of old files that Redis itself passes over.
const RETIRED: [&str; 2] = ["list-max-ziplist-entries", "list-max-ziplist-value"];

/// One line as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    source: String,
    number: usize,
    text: String,
    words: Vec<String>,
}

impl Line {
    /// Whether it is about the option of this name.
    fn names(&self, name: &str) -> bool {
        let own = self.words.first().and_then(|own| options::find(own)).map(|(id, ..)| id);
        own.is_some() && own == options::find(name).map(|(id, ..)| id)
    }

    fn fault(&self, reason: String) -> LoadError {
        LoadError {
            source: self.source.clone(),
            line: self.number,
            text: self.text.clone(),
            reason,
        }
    }
}

/// What was typed, and where. Nothing is checked but the quotes and the includes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawConfig {
    lines: Vec<Line>,
    /// The main file, for CONFIG REWRITE; `None` without one.
    pub path: Option<PathBuf>,
}

/// A line that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    /// File, command line or standard input.
    pub source: String,
    /// From 1; 0 = the source as a whole.
    pub line: usize,
    /// The line itself.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = env!("CARGO_PKG_VERSION");
        writeln!(f, "\n*** FATAL CONFIG FILE ERROR (Larder {version}) ***")?;
        writeln!(f, "Reading the configuration file {}, at line {}", self.source, self.line)?;
        writeln!(f, ">>> '{}'", shown(&self.text))?;
        write!(f, "{}", self.reason)
    }
}

impl std::error::Error for LoadError {}

/// The line without the secret that it may hold.
fn shown(text: &str) -> String {
    let name = text.split_whitespace().next().unwrap_or_default().trim_matches(['"', '\'']);
    let secret = options::find(name).is_some_and(|(_, row, _)| row.kind == options::Kind::Secret);
    if secret { format!("{name} ****") } else { text.to_owned() }
}

impl RawConfig {
    /// Reads the arguments of the program (without its name): `[file] [-] [--option value ...]`.
    ///
    /// # Errors
    /// If a file cannot be read, or a line has open quotes or a bad include.
    pub fn from_arguments(arguments: &[String]) -> Result<RawConfig, LoadError> {
        let mut raw = RawConfig::default();
        let mut rest = arguments;
        if let Some((first, tail)) = rest.split_first()
            && first != "-"
            && !first.starts_with("--")
        {
            let path = std::path::absolute(first).unwrap_or_else(|_| PathBuf::from(first));
            raw.read_file(&path, 0)?;
            raw.path = Some(path);
            rest = tail;
        }
        let reads_stdin = match rest {
            [first, tail @ ..] if first == "-" => Some(tail),
            [head @ .., last] if last == "-" => Some(head),
            _ => None,
        };
        if let Some(others) = reads_stdin {
            let mut text = Vec::new();
            if let Err(error) = std::io::stdin().read_to_end(&mut text) {
                return Err(whole("stdin", format!("Can't read it: {error}")));
            }
            raw.read_text("stdin", &text, 0)?;
            rest = others;
        }
        raw.read_options(rest)?;
        Ok(raw)
    }

    /// Reads text that comes from no file; includes in it are followed.
    ///
    /// # Errors
    /// If a line has open quotes or a bad include.
    pub fn from_text(source: &str, text: &[u8]) -> Result<RawConfig, LoadError> {
        let mut raw = RawConfig::default();
        raw.read_text(source, text, 0)?;
        Ok(raw)
    }

    fn read_file(&mut self, path: &Path, depth: usize) -> Result<(), LoadError> {
        let source = path.display().to_string();
        match std::fs::read(path) {
            Ok(text) => self.read_text(&source, &text, depth),
            Err(error) => Err(whole(&source, format!("Can't open config file: {error}"))),
        }
    }

    fn read_text(&mut self, source: &str, text: &[u8], depth: usize) -> Result<(), LoadError> {
        for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let fault = |reason: &str| LoadError {
                source: source.to_owned(),
                line: at + 1,
                text: String::from_utf8_lossy(line).into_owned(),
                reason: reason.to_owned(),
            };
            let words = split_words(line)
                .ok_or_else(|| fault("Unbalanced quotes in configuration line"))?;
            let words: Result<Vec<String>, _> = words.into_iter().map(String::from_utf8).collect();
            let words = words.map_err(|_| fault("The line is not valid UTF-8"))?;
            if self.lines.len() >= LINES_MAX {
                return Err(fault("Too many lines"));
            }
            match words.as_slice() {
                [] => {}
                [name, pattern] if name.eq_ignore_ascii_case("include") => {
                    if depth >= NESTING_MAX {
                        return Err(fault("Includes are nested too deeply"));
                    }
                    for path in included(pattern) {
                        self.read_file(&path, depth + 1)?;
                    }
                }
                _ => self.lines.push(Line {
                    source: source.to_owned(),
                    number: at + 1,
                    text: String::from_utf8_lossy(line).into_owned(),
                    words,
                }),
            }
        }
        Ok(())
    }

    /// `--name value ...`: words up to the next `--name` belong to it; the first one may begin with `--` itself. Name
    /// and value may also be one argument. Words before the first name are a line of their own, as in Redis.
    fn read_options(&mut self, arguments: &[String]) -> Result<(), LoadError> {
        let mut number = 0;
        let mut words: Vec<String> = Vec::new();
        let mut wants_value = false;
        let mut rest = arguments.iter().peekable();
        while let Some(argument) = rest.next() {
            let Some(option) = argument.strip_prefix("--").filter(|_| !wants_value) else {
                words.push(argument.clone());
                wants_value = false;
                continue;
            };
            self.push_option(std::mem::take(&mut words), number);
            number += 1;
            let parts = split_words(option.as_bytes()).map(|parts| {
                parts.into_iter().map(String::from_utf8).collect::<Result<Vec<_>, _>>()
            });
            let Some(Ok(parts)) =
                parts.filter(|parts| !matches!(parts, Ok(parts) if parts.is_empty()))
            else {
                return Err(whole("command line", format!("Can't read the option '{argument}'")));
            };
            // `--save --port 1` means no save points; any other name takes the next word, whatever it is.
            let is_bare_save = parts.len() == 1 && option.trim().eq_ignore_ascii_case("save");
            let ends = rest.peek().is_none_or(|next| next.starts_with("--"));
            wants_value = parts.len() == 1 && !(is_bare_save && ends);
            words = parts;
        }
        self.push_option(words, number);
        Ok(())
    }

    fn push_option(&mut self, words: Vec<String>, number: usize) {
        if words.is_empty() {
            return;
        }
        let mut text = words.first().cloned().unwrap_or_default();
        for word in words.iter().skip(1) {
            text.push(' ');
            text.push_str(&quote(word));
        }
        self.lines.push(Line { source: "command line".to_owned(), number, text, words });
    }

    /// Gives every line its meaning.
    ///
    /// # Errors
    /// For the first line that names no option or has a bad value.
    pub fn parse(&self) -> Result<Config, LoadError> {
        let mut config = Config::default();
        let mut seen = Vec::new();
        let mut hashed = None;
        for line in &self.lines {
            let Some((name, words)) = line.words.split_first() else { continue };
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let taken = match name.to_ascii_lowercase().as_str() {
                "rename-command" => take_rename(&mut config, &words),
                "user" => take_default_user(&words).map(|by_hash| {
                    hashed = by_hash.then_some(line);
                }),
                "loadmodule" => Err("modules are not part of this version".to_owned()),
                "sentinel" => Err("sentinel is not part of this version".to_owned()),
                retired if RETIRED.contains(&retired) && words.len() == 1 => Ok(()),
                _ => {
                    let id = options::find(name).map(|(id, _, _)| id);
                    let first = !seen.contains(&id);
                    seen.push(id);
                    let taken = config.take_line(name, &words, first);
                    taken.map_err(|reason| with_suggestion(name, id.is_some(), &reason))
                }
            };
            taken.map_err(|reason| line.fault(reason))?;
        }
        // Only what holds in the end is asked for: services start with a file and `--daemonize no` after it.
        for line in &self.lines {
            let name = line.words.first().map(String::as_str).unwrap_or_default();
            if let Some(reason) = config.refusal(name) {
                let last = self.lines.iter().rfind(|other| other.names(name));
                return Err(last.unwrap_or(line).fault(reason.into_owned()));
            }
        }
        let config = config.settle();
        match hashed {
            // Without it the server would be open to everybody.
            Some(line) if config.requirepass.is_empty() => Err(line.fault(
                "the password is known as a hash only: give it with 'requirepass', too".to_owned(),
            )),
            _ => Ok(config),
        }
    }

    /// Lines for the log about directives that were passed over.
    pub fn notices(&self) -> Vec<String> {
        let names = self.lines.iter().filter_map(|line| line.words.first());
        let retired = names.filter(|name| RETIRED.iter().any(|old| old.eq_ignore_ascii_case(name)));
        retired.map(|name| format!("The option '{name}' has no effect: Redis gave it up")).collect()
    }
}

fn whole(source: &str, reason: String) -> LoadError {
    LoadError { source: source.to_owned(), line: 0, text: String::new(), reason }
}

/// The line that CONFIG REWRITE of Redis adds to every file: the default user with all rights. Whether its password
/// is given as a hash; the password itself comes from `requirepass`.
fn take_default_user(words: &[&str]) -> Result<bool, String> {
    const GRANTS: [[&str; 2]; 3] =
        [["~*", "allkeys"], ["&*", "allchannels"], ["+@all", "allcommands"]];
    const HARMLESS: [&str; 4] = ["on", "nopass", "sanitize-payload", "skip-sanitize-payload"];
    const REFUSAL: &str = "access control lists are not part of this version: \
         only the user 'default' with all rights is accepted";
    let Some((name, rules)) = words.split_first() else { return Err(REFUSAL.to_owned()) };
    let known = |rule: &&str| {
        rule.starts_with('#')
            || HARMLESS.contains(rule)
            || GRANTS.iter().flatten().any(|g| g == rule)
    };
    let all_rights = GRANTS.iter().all(|grant| grant.iter().any(|g| rules.contains(g)));
    if *name != "default" || !rules.contains(&"on") || !all_rights || !rules.iter().all(known) {
        return Err(REFUSAL.to_owned());
    }
    Ok(rules.iter().any(|rule| rule.starts_with('#')))
}

fn take_rename(config: &mut Config, words: &[&str]) -> Result<(), String> {
    let [command, name] = words else {
        return Err("Bad directive or wrong number of arguments".to_owned());
    };
    if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("Target command name must be one word".to_owned());
    }
    config.renamed_commands.push(((*command).to_ascii_lowercase(), (*name).to_ascii_lowercase()));
    Ok(())
}

/// The files an include names. Only the last part of the path may hold a pattern; a pattern may match nothing.
fn included(pattern: &str) -> Vec<PathBuf> {
    let path = Path::new(pattern);
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if glob::is_literal(name.as_bytes()) {
        return vec![path.to_owned()];
    }
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let entry_name = entry.file_name();
        let bytes = entry_name.as_encoded_bytes();
        let hidden = bytes.starts_with(b".") && !name.starts_with('.');
        if !hidden && glob::matches(name.as_bytes(), bytes) {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

fn with_suggestion(name: &str, known: bool, reason: &str) -> String {
    let near = |candidate: &str| distance(&name.to_ascii_lowercase(), candidate);
    let names = options::all().flat_map(|(_, row)| [Some(row.name), row.alias]).flatten();
    let best = names.map(|candidate| (near(candidate), candidate)).min();
    match best {
        Some((steps, best)) if !known && steps <= 1 + name.len() / 5 => {
            format!("{reason}. Did you mean '{best}'?")
        }
        _ => reason.to_owned(),
    }
}

/// Letters to insert, remove or replace to get from one name to the other; long names count as far.
fn distance(from: &str, to: &str) -> usize {
    if from.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, a) in from.bytes().enumerate() {
        let mut corner = at;
        let mut left = at + 1;
        let mut next = vec![left];
        for (b, above) in to.bytes().zip(row.iter().skip(1)) {
            left = (corner + usize::from(a != b)).min(left + 1).min(above + 1);
            corner = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}
