//! What the tests of the real program share: a folder, a free port, a running server, a client. It must never talk to
//! a server that it did not start.

#![allow(dead_code, reason = "no test uses all of it")]

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_larder");

/// A folder of our own, removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("larder-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// Whether the log of the server in the folder has these words.
pub fn in_log(folder: &Folder, words: &str) -> bool {
    fs::read_to_string(folder.path("log")).unwrap().contains(words)
}

/// Patience with a busy machine and a slow disk: what is waited for is a state, which mostly comes at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until it is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(log) = fs::read_to_string(self.path("log"))
        {
            let lines: Vec<&str> = log.lines().collect();
            let last = lines.get(lines.len().saturating_sub(30)..).unwrap_or_default();
            eprintln!("{} ends with:\n{}", self.path("log").display(), last.join("\n"));
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A port that nobody else asks for: below those that the system gives to clients, and locked by a file of its own as
/// long as this process lives, so that tests of several checkouts may run at once.
pub fn free_port() -> u16 {
    static LOCKS: Mutex<Vec<fs::File>> = Mutex::new(Vec::new());
    let folder = std::env::temp_dir().join("larder-ports");
    fs::create_dir_all(&folder).unwrap();
    let begin = std::process::id() * 131 % 20_000;
    for number in 0..20_000 {
        let port = u16::try_from(11_000 + (begin + number) % 20_000).unwrap();
        let file = fs::File::create(folder.join(port.to_string())).unwrap();
        let mut locks = LOCKS.lock().unwrap();
        if file.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            locks.push(file);
            return port;
        }
    }
    panic!("no port is free");
}

/// A running server, killed at the end if it still runs.
pub struct Server {
    pub child: Child,
    pub port: u16,
}

impl Server {
    pub fn start(program: &str, args: &[&str], port: u16, input: Option<&str>) -> Server {
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // What it has to say there is the reason of its end.
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.unwrap_or_default().as_bytes()).unwrap();
        let mut server = Server { child, port };
        let begun = Instant::now();
        // The kernel connects before the server is ready, and that answers before it has looked whether there is
        // anything to load. And there may be one more who listens, for a moment: a neighbour that was started while this
        // test tried the port had a copy of that socket, and whoever asks there is cut off.
        while !server.serves() {
            assert!(begun.elapsed() < PATIENCE, "no answer on port {port}");
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none(), "{program} ended at its start: {ended:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    pub fn larder(args: &[&str], port: u16) -> Server {
        Server::start(PROGRAM, args, port, None)
    }

    /// With its files in the folder, and a log; it saves by itself nothing.
    pub fn in_folder(folder: &Folder, options: &[&str]) -> Server {
        let (port, place) = (free_port(), folder.0.display().to_string());
        let log = folder.path("log").display().to_string();
        let port_text = port.to_string();
        let args = ["--port", &port_text, "--dir", &place, "--logfile", &log, "--save", ""];
        Server::larder(&[&args[..], options].concat(), port)
    }

    pub fn connect(&self) -> Client {
        Client::to(self.port)
    }

    pub fn ask(&self, line: &str) -> Vec<String> {
        self.connect().ask(line)
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Whether it answers, and by more than that it loads.
    fn serves(&self) -> bool {
        let Ok(mut client) = Client::try_to(self.port) else { return false };
        let Ok(answer) = client.try_ask("PING") else { return false };
        answer != ["closed"] && !answer[0].starts_with("LOADING")
    }

    /// Waits for its end; the code it ends with.
    pub fn ended(&mut self) -> Option<i32> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not end");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Client(pub BufReader<TcpStream>);

impl Client {
    pub fn to(port: u16) -> Client {
        Client::try_to(port).unwrap()
    }

    fn try_to(port: u16) -> io::Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Client(BufReader::new(stream)))
    }

    /// Sends an inline command; the reply as a flat list of texts.
    pub fn ask(&mut self, line: &str) -> Vec<String> {
        let answer = self.try_ask(line);
        answer.unwrap_or_else(|error| panic!("{line} is not answered: {error}"))
    }

    fn try_ask(&mut self, line: &str) -> io::Result<Vec<String>> {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
        self.0.fill_buf()?;
        let mut texts = Vec::new();
        self.reply(&mut texts);
        Ok(texts)
    }

    pub fn reply(&mut self, texts: &mut Vec<String>) {
        let mut head = String::new();
        self.0.read_line(&mut head).unwrap();
        let head = head.trim_end();
        match head.split_at_checked(1) {
            Some(("*" | "$", "-1")) => texts.push("nil".to_owned()),
            Some((kind @ ("*" | "%"), count)) => {
                let each = if kind == "%" { 2 } else { 1 };
                for _ in 0..each * count.parse::<usize>().unwrap() {
                    self.reply(texts);
                }
            }
            Some(("$", size)) => {
                let mut text = vec![0; size.parse::<usize>().unwrap() + 2];
                self.0.read_exact(&mut text).unwrap();
                text.truncate(text.len() - 2);
                texts.push(String::from_utf8(text).unwrap());
            }
            Some((_, text)) => texts.push(text.to_owned()),
            None => texts.push("closed".to_owned()),
        }
    }

    pub fn is_closed_within(&mut self, limit: Duration) -> bool {
        let begun = Instant::now();
        self.0.get_ref().set_read_timeout(Some(limit)).unwrap();
        loop {
            match self.0.read(&mut [0; 1]) {
                // A stopped process that goes on.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                read => return matches!(read, Ok(0)) && begun.elapsed() < limit,
            }
        }
    }
}

/// Runs the program, which must end by itself.
pub fn run(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).stdin(Stdio::null()).output().unwrap()
}

pub fn refusal(args: &[&str]) -> String {
    let output = run(args);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}
