//! A server on a disk that fails: started, or refused to start; ended by a signal, with what it said and its exit code
//! looked at. A panic anywhere in it is an error here.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use larder_protocol::response::Value;

use super::control::Control;
use crate::process::{Client, Patience, free_port};

/// Where a server runs, and with what.
pub struct Setup<'a> {
    pub program: &'a str,
    pub shim: &'a Path,
    pub control: &'a Control,
    /// The folder of its data.
    pub folder: &'a Path,
    /// What it says; outside of that folder.
    pub log: &'a Path,
}

/// A running server.
pub struct Subject {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Setup<'_> {
    /// Starts a server, and waits until it has loaded its data; `None` if it says why not and ends.
    pub fn start(&self, options: &[&str]) -> Result<Option<Subject>> {
        let port = free_port()?;
        // What the one before said may be the clue.
        let _ = std::fs::rename(self.log, self.log.with_extension("before"));
        let log = File::create(self.log)?;
        let mut command = Command::new(self.program);
        command.args(["server", "--port", &port.to_string(), "--workers", "2", "--dir"]);
        command.arg(self.folder).args(options).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        self.control.put_under(&mut command, self.shim, self.folder);
        let child = command.spawn().with_context(|| format!("{} does not start", self.program))?;
        let mut subject = Subject { child, port, log: self.log.to_path_buf() };
        let mut patience = Patience::of(Duration::from_secs(10));
        while patience.nap(Duration::from_millis(3)) {
            if let Some(status) = subject.child.try_wait()? {
                subject.look_for_panics()?;
                ensure!(status.code() == Some(1), "a start was refused with {status}");
                return Ok(None);
            }
            let ready = subject.connect().and_then(|mut client| client.call(&["DBSIZE"]));
            if matches!(ready, Ok(Value::Integer(_))) {
                return Ok(Some(subject));
            }
        }
        bail!("neither a start nor a refusal")
    }
}

impl Subject {
    /// A connection to it.
    pub fn connect(&self) -> Result<Client> {
        Client::connect(self.port)
    }

    /// That it still runs.
    pub fn is_alive(&mut self) -> Result<()> {
        ensure!(self.child.try_wait()?.is_none(), "the server has ended");
        self.look_for_panics()
    }

    /// Kills it.
    pub fn kill(mut self) -> Result<()> {
        self.is_alive()?;
        self.child.kill()?;
        self.child.wait()?;
        self.look_for_panics()
    }

    /// Asks it to end; its exit code.
    pub fn end(mut self) -> Result<i32> {
        self.is_alive()?;
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        ensure!(asked.success(), "kill does not work");
        let mut patience = Patience::of(Duration::from_secs(10));
        while patience.nap(Duration::from_millis(3)) {
            if let Some(status) = self.child.try_wait()? {
                self.look_for_panics()?;
                return status.code().context("it was killed by a signal");
            }
        }
        bail!("it does not end on SIGTERM")
    }

    fn look_for_panics(&self) -> Result<()> {
        let said = std::fs::read(&self.log)?;
        let said = String::from_utf8_lossy(&said);
        if let Some(line) = said.lines().find(|line| line.contains("panicked")) {
            bail!("a panic: {line}");
        }
        Ok(())
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
