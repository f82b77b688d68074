//! From arguments and configuration file to a running server: reads them, opens the listeners, starts
//! the workers, says what it does, and waits for the end.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use larder_net::{Listener, Mailbox, Reactor};
use parking_lot::Mutex;

use crate::options::Options;
use crate::shared::{MemoryProbe, Server, WorkerHandle};
use crate::worker::{Worker, WorkerState};

/// Reads `[FILE | -] [--option value ...]`, as redis-server does.
///
/// # Errors
/// A text that names file, line and reason.
pub fn read_arguments(options: &mut Options, args: &[String]) -> Result<(), String> {
    let mut rest = args;
    if let Some((first, tail)) = args.split_first() {
        if first == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|error| {
                format!("Can't read the configuration from standard input: {error}")
            })?;
            read_text(options, &text, "standard input")?;
            rest = tail;
        } else if !first.starts_with("--") {
            let text = std::fs::read_to_string(first)
                .map_err(|error| format!("Can't open config file '{first}': {error}"))?;
            read_text(options, &text, first)?;
            rest = tail;
        }
    }
    let mut at = rest.iter().peekable();
    while let Some(word) = at.next() {
        let Some(name) = word.strip_prefix("--") else {
            return Err(format!("Unexpected argument '{word}': options begin with --"));
        };
        let mut values = Vec::new();
        while let Some(value) = at.next_if(|word| !word.starts_with("--")) {
            values.push(value.clone());
        }
        options.set(name, &values).map_err(|reason| fatal("the command line", 0, word, &reason))?;
    }
    Ok(())
}

fn read_text(options: &mut Options, text: &str, source: &str) -> Result<(), String> {
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words = split(line).ok_or_else(|| {
            fatal(source, number + 1, line, "Unbalanced quotes in configuration line")
        })?;
        let Some((name, values)) = words.split_first() else { continue };
        options.set(name, values).map_err(|reason| fatal(source, number + 1, line, &reason))?;
    }
    Ok(())
}

fn fatal(source: &str, line: usize, text: &str, reason: &str) -> String {
    format!(
        "\n*** FATAL CONFIG FILE ERROR (Larder {}) ***\nReading {source}, at line {line}\n>>> '{text}'\n{reason}",
        env!("CARGO_PKG_VERSION")
    )
}

/// Words of a line, with "double" and 'single' quotes; `None` if a quote stays open.
fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let Some(first) = chars.peek().copied() else { return Some(words) };
        let mut word = String::new();
        if first == '"' || first == '\'' {
            chars.next();
            loop {
                match chars.next()? {
                    c if c == first => break,
                    '\\' if first == '"' => word.push(match chars.next()? {
                        'n' => '\n',
                        'r' => '\r',
                        't' => '\t',
                        other => other,
                    }),
                    other => word.push(other),
                }
            }
            if chars.peek().is_some_and(|c| !c.is_whitespace()) {
                return None;
            }
        } else {
            while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
                word.push(c);
            }
        }
        words.push(word);
    }
}

/// Runs a server until it is told to end.
///
/// # Errors
/// A text that says what could not be opened.
pub fn serve(mut options: Options, memory: MemoryProbe) -> Result<(), String> {
    allow_descriptors(&mut options);
    let listeners = listen(&options)?;
    let mut reactors = Vec::new();
    let mut workers = Vec::new();
    for _ in 0..options.workers {
        let reactor = Reactor::new().map_err(|error| format!("No event loop: {error}"))?;
        let mailbox = Mailbox::new(reactor.waker());
        workers.push(WorkerHandle { state: Mutex::new(WorkerState::default()), mailbox });
        reactors.push(reactor);
    }
    let seed = [random()?, random()?];
    let server = Arc::new(Server::new(options, workers, memory, seed));
    announce(&server);
    let ending = watch_signals()?;
    let mut threads = Vec::new();
    let mut listeners = Some(listeners);
    for (number, reactor) in reactors.into_iter().enumerate() {
        let listeners = listeners.take().unwrap_or_default();
        let worker = Worker::new(Arc::clone(&server), number, reactor, listeners, random()?);
        let stop = Arc::clone(&server);
        let thread =
            std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                let result = worker.run();
                // One worker that breaks ends the server: half a server answers half its clients.
                stop.stop();
                result
            });
        threads.push(thread.map_err(|error| format!("No thread for a worker: {error}"))?);
    }
    while !server.stopping.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(50));
        if ending.load(Ordering::Acquire) {
            println!("# Received a signal to end: bye");
            server.stop();
        }
    }
    for thread in threads {
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(format!("A worker's event loop broke: {error}")),
            Err(_) => return Err("A worker panicked".to_owned()),
        }
    }
    Ok(())
}

/// Asks for descriptors for all clients, and lowers `maxclients` to what the system grants.
fn allow_descriptors(options: &mut Options) {
    /// For listeners, event loops and files.
    const OWN: usize = 32;
    let wanted = options.maxclients.saturating_add(OWN);
    let granted = larder_net::raise_descriptor_limit(wanted as u64).unwrap_or(1024);
    let granted = usize::try_from(granted).unwrap_or(usize::MAX);
    if granted < wanted {
        options.maxclients = granted.saturating_sub(OWN).max(1);
        println!("# warning: only {granted} descriptors: maxclients is {}", options.maxclients);
    }
}

fn listen(options: &Options) -> Result<Vec<Listener>, String> {
    let mut listeners = Vec::new();
    for host in options.bind.iter().filter(|_| options.port != 0) {
        let (optional, host) = match host.strip_prefix('-') {
            Some(host) => (true, host),
            None => (false, host.as_str()),
        };
        match Listener::tcp(host, options.port, options.tcp_backlog) {
            Ok(listener) => listeners.push(listener),
            // An address that this machine lacks may be missing; a taken port may not.
            Err(error) if optional && error.kind() != std::io::ErrorKind::AddrInUse => {}
            Err(error) => {
                return Err(format!("Could not listen on {host} port {}: {error}", options.port));
            }
        }
    }
    if let Some(path) = &options.unixsocket {
        let listener = Listener::unix(Path::new(path), options.unixsocketperm, options.tcp_backlog)
            .map_err(|error| format!("Could not listen on the unix socket {path}: {error}"))?;
        listeners.push(listener);
    }
    if listeners.is_empty() {
        return Err("Nothing to listen on: set port, bind or unixsocket".to_owned());
    }
    Ok(listeners)
}

/// What an operator must know at once: where it listens, where data is, what is unsafe.
fn announce(server: &Server) {
    let options = server.options.read();
    println!("# Larder {} starts, process {}", env!("CARGO_PKG_VERSION"), std::process::id());
    for host in options.bind.iter().filter(|_| options.port != 0) {
        println!("# listening on {} port {}", host.trim_start_matches('-'), options.port);
    }
    if let Some(path) = &options.unixsocket {
        println!("# listening on the unix socket {path}");
    }
    println!("# {} workers, {} databases", options.workers, options.databases);
    println!("# data is in memory only: nothing is kept on disk");
    if options.requirepass.is_empty() {
        println!("# warning: no password is set (requirepass)");
    }
    if !options.protected_mode {
        println!("# warning: protected mode is off");
    }
    if options.maxmemory == 0 {
        println!("# warning: maxmemory is 0: memory is not limited");
    }
}

fn watch_signals() -> Result<Arc<AtomicBool>, String> {
    let ending = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&ending))
            .map_err(|error| format!("Cannot watch for signals: {error}"))?;
    }
    Ok(ending)
}

fn random() -> Result<u64, String> {
    getrandom::u64().map_err(|error| format!("The system gives no randomness: {error}"))
}
