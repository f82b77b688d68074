//! Servers started for a test: on a free port, waited for, and killed when dropped. Some come back in between.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use larder_protocol::encode::encode_command;
use larder_protocol::response::{Value, parse};

/// A running server.
pub struct Server {
    child: Child,
    program: String,
    args: Vec<String>,
    /// Where it puts its files; removed with it.
    folder: PathBuf,
    /// Its port on loopback.
    pub port: u16,
}

impl Server {
    /// Starts a program as a server without persistence and waits until it serves.
    pub fn start(program: &str) -> Result<Server> {
        Server::start_with(program, &[])
    }

    /// The same with more options.
    pub fn start_with(program: &str, options: &[&str]) -> Result<Server> {
        let port = free_port()?;
        let text = port.to_string();
        // A test may save: the next server must not find that.
        let name = format!("larder-xtask-{}-{port}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder)?;
        let dir = folder.to_string_lossy();
        let fixed = ["--save", "", "--appendonly", "no", "--enable-debug-command", "yes"];
        let args: Vec<String> = (!program.ends_with("-server"))
            .then_some("server")
            .into_iter()
            .chain(["--port", &text, "--dir", &dir])
            .chain(fixed)
            .chain(options.iter().copied())
            .map(str::to_owned)
            .collect();
        let child = spawn(program, &args)?;
        let mut server = Server { child, program: program.to_owned(), args, folder, port };
        server.wait_for_answers()?;
        Ok(server)
    }

    /// Ends it, and starts it anew with what it kept.
    pub fn restart(&mut self, ending: Ending) -> Result<()> {
        match ending {
            Ending::Kill => self.child.kill()?,
            Ending::Term => {
                let pid = self.pid().to_string();
                let sent = Command::new("kill").args(["-TERM", &pid]).status()?;
                ensure!(sent.success(), "kill -TERM {pid}");
            }
        }
        self.child.wait()?;
        self.child = spawn(&self.program, &self.args)?;
        self.wait_for_answers()
    }

    fn wait_for_answers(&mut self) -> Result<()> {
        let mut patience = Patience::of(Duration::from_secs(10));
        while patience.nap(Duration::from_millis(20)) {
            // Whoever answers then is not it.
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at its start: {status}", self.program);
            }
            let answer = self.connect().and_then(|mut client| client.call(&["PING"]));
            match answer {
                // It answers before it has looked whether there is anything to load.
                Ok(Value::Error(text)) if text.starts_with(b"LOADING") => {}
                Ok(_) => return Ok(()),
                Err(_) => {}
            }
        }
        bail!("{} does not answer on port {}", self.program, self.port)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A connection to it.
    pub fn connect(&self) -> Result<Client> {
        Client::connect(self.port)
    }
}

/// How a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By kill -9.
    Kill,
    /// By a signal that it obeys.
    Term,
}

fn spawn(program: &str, args: &[String]) -> Result<Child> {
    let command = Command::new(program).args(args).stdout(Stdio::null()).spawn();
    command.with_context(|| format!("{program} does not start"))
}

/// Waits until a server has loaded its data: it answers before.
pub fn wait_until_loaded(client: &mut Client) -> Result<()> {
    let mut patience = Patience::of(Duration::from_secs(10));
    while matches!(client.call(&["DBSIZE"])?, Value::Error(_)) {
        ensure!(patience.nap(Duration::from_millis(5)), "it loads for ever");
    }
    Ok(())
}

/// A time to wait for something, told by naps and not by the clock: on a busy machine all of us may be stopped for a while.
pub struct Patience {
    left: Duration,
}

impl Patience {
    /// That long.
    pub fn of(left: Duration) -> Patience {
        Patience { left }
    }

    /// Waits a little; false if that was the last time.
    pub fn nap(&mut self, nap: Duration) -> bool {
        std::thread::sleep(nap);
        self.left = self.left.saturating_sub(nap);
        !self.left.is_zero()
    }
}

/// A port of loopback that nobody listens on, below those that the system gives to clients. A file of its own is locked for
/// it, so that runs side by side do not get the same; only the last ones stay locked, or a long run had too many files.
pub fn free_port() -> Result<u16> {
    /// Ports that one test may need at the same time, and more.
    const LOCKED_MAX: usize = 200;
    static LOCKS: Mutex<VecDeque<File>> = Mutex::new(VecDeque::new());
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let folder = std::env::temp_dir().join("larder-ports");
    std::fs::create_dir_all(&folder)?;
    let begin = std::process::id() % 20_000;
    for _ in 0..20_000 {
        let number = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(11_000 + (begin * 131 + number) % 20_000)?;
        let file = File::create(folder.join(port.to_string()))?;
        if file.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            let mut locks = LOCKS.lock().unwrap_or_else(PoisonError::into_inner);
            locks.push_back(file);
            if locks.len() > LOCKED_MAX {
                locks.pop_front();
            }
            return Ok(port);
        }
    }
    bail!("no port is free")
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A blocking connection.
pub struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    /// Bytes of `received` already returned.
    taken: usize,
}

impl Client {
    /// To a port of loopback.
    pub fn connect(port: u16) -> Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, received: Vec::new(), taken: 0 })
    }

    /// Sends a command without waiting.
    pub fn send(&mut self, args: &[impl AsRef<[u8]>]) -> Result<()> {
        let mut bytes = Vec::new();
        encode_command(&mut bytes, args);
        Ok(self.stream.write_all(&bytes)?)
    }

    /// Sends many commands in one write.
    pub fn send_all(&mut self, commands: &[Vec<Vec<u8>>]) -> Result<()> {
        let mut bytes = Vec::new();
        for args in commands {
            encode_command(&mut bytes, args);
        }
        Ok(self.stream.write_all(&bytes)?)
    }

    /// The next reply or push; an error after `wait`.
    pub fn read(&mut self, wait: Duration) -> Result<Value> {
        loop {
            let rest = self.received.get(self.taken..).unwrap_or(&[]);
            if let Some((value, used)) = parse(rest).context("not RESP")? {
                self.taken += used;
                return Ok(value);
            }
            self.received.drain(..self.taken);
            self.taken = 0;
            self.stream.set_read_timeout(Some(wait))?;
            let mut buffer = [0; 16_384];
            let count = match self.stream.read(&mut buffer) {
                // Stopped and set going again.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                read => read.context("no reply in time")?,
            };
            if count == 0 {
                bail!("the server closed the connection");
            }
            self.received.extend_from_slice(buffer.get(..count).unwrap_or(&[]));
        }
    }

    /// Sends a command and reads its reply.
    pub fn call(&mut self, args: &[impl AsRef<[u8]>]) -> Result<Value> {
        self.send(args)?;
        self.read(Duration::from_secs(5))
    }
}
