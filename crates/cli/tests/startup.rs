//! Starts the real program: configurations that it must refuse with a reason, and such that it must obey. Talks to
//! it as a client does, and must never touch a server that it did not start.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops where it is surprised"
)]

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

mod harness;

use harness::{Client, Folder, PROGRAM, Server, free_port, refusal, run};

#[test]
fn what_is_wrong_is_said_with_file_line_and_reason() {
    let folder = Folder::new("refusals");
    let bad = folder.file("bad.conf", "# mine\nport 1\nmaxmemry 1\n");
    let text = refusal(&[&bad]);
    assert!(text.contains("FATAL CONFIG FILE ERROR"), "{text}");
    assert!(text.contains(&format!("file {bad}, at line 3\n>>> 'maxmemry 1'")), "{text}");
    assert!(text.contains("Did you mean 'maxmemory'?"), "{text}");
    let quotes = folder.file("quotes.conf", "\n\nrequirepass \"never closed\n");
    let text = refusal(&["server", &quotes]);
    assert!(text.contains("at line 3") && text.contains("Unbalanced quotes"), "{text}");
    assert!(!text.contains("never closed"), "a secret: {text}");
    let nested = folder.file("outer.conf", &format!("hz 20\ninclude {bad}\n"));
    assert!(refusal(&[&nested]).contains(&format!("file {bad}, at line 3")));
    let missing = folder.path("missing.conf").display().to_string();
    assert!(refusal(&[&missing]).contains("Can't open config file"));
    assert!(refusal(&["--port", "70000"]).contains("between 0 and 65535"));
    assert!(refusal(&["--no-such-option", "1"]).contains("Bad directive"));
    assert!(refusal(&["--appendonly"]).contains("wrong number of arguments"));
    assert!(refusal(&["--daemonize", "yes"]).contains("only no is accepted"));
    assert!(refusal(&["--port", "0"]).contains("Nothing to listen on"));
    assert!(refusal(&["--bind", "203.0.113.7", "--port", "1"]).contains("203.0.113.7 port 1"));
    assert!(refusal(&["--rename-command", "gett", "x"]).contains("No such command"));
    assert!(refusal(&["--rename-command", "get", "set"]).contains("already exists"));
    assert!(refusal(&["--logfile", "/no/such/folder/log"]).contains("/no/such/folder/log"));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let text = refusal(&["--port", &port]);
    assert!(text.contains(&format!("127.0.0.1 port {port}: Address")), "{text}");
}

#[test]
fn version_and_help_are_answered() {
    for flag in ["--version", "-v"] {
        let output = run(&[flag]);
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains(env!("CARGO_PKG_VERSION")));
    }
    let output = run(&["--help"]);
    assert!(output.status.success() && String::from_utf8(output.stdout).unwrap().contains("Usage"));
}

#[test]
fn file_then_standard_input_then_arguments() {
    let folder = Folder::new("order");
    let port = free_port();
    let file = folder.file("a.conf", "port 1\ntimeout 5\nhz 20\nmaxmemory 100mb\n");
    let args = [&file, "-", "--port", &port.to_string(), "--save", "", "--bind", "127.0.0.1"];
    let server = Server::start(PROGRAM, &args, port, Some("timeout 6\nmaxmemory 200mb\n"));
    let options = server.ask("CONFIG GET timeout hz maxmemory save bind");
    let value = |name: &str| {
        let at = options.iter().position(|text| text == name).unwrap();
        options[at + 1].clone()
    };
    assert_eq!((value("timeout"), value("hz")), ("6".to_owned(), "20".to_owned()));
    assert_eq!((value("maxmemory"), value("save")), ("209715200".to_owned(), String::new()));
    assert_eq!(value("bind"), "127.0.0.1");
    assert!(server.ask("INFO server")[0].contains(&format!("config_file:{file}")));
}

#[test]
fn arguments_are_parted_as_redis_parts_them() {
    for (args, option, value) in [
        (&["--maxmemory 700mb", "--hz", "20"][..], "maxmemory", "734003200"),
        (
            &["--proc-title-template", "--my--title", "--hz", "20"],
            "proc-title-template",
            "--my--title",
        ),
        (&["--proc-title-template --my--title", "--hz 20"], "proc-title-template", "--my--title"),
        (&["--save", "--hz", "20"], "save", ""),
        (
            &["--shutdown-on-sigint", "now", "force", "--hz", "20"],
            "shutdown-on-sigint",
            "now force",
        ),
        (&["--shutdown-on-sigint", "now force", "--hz", "20"], "shutdown-on-sigint", "now force"),
    ] {
        let port = free_port();
        let server = Server::larder(&[args, &["--port", &port.to_string()]].concat(), port);
        assert_eq!(server.ask(&format!("CONFIG GET {option}")), [option, value], "{args:?}");
        assert_eq!(server.ask("CONFIG GET hz"), ["hz", "20"], "{args:?}");
    }
    let text = refusal(&["--port", "--loglevel", "verbose"]);
    assert!(text.contains("'port \"--loglevel\" \"verbose\"'\nwrong number"), "{text}");
    let text = refusal(&["--port", "--bla", "--loglevel", "verbose"]);
    assert!(text.contains("couldn't be parsed into an integer"), "{text}");
    assert!(refusal(&["--shutdown-on-sigint"]).contains("must be one of the following"));
    assert!(refusal(&["--port"]).contains("wrong number of arguments"));
}

#[test]
fn a_supervisor_is_told_and_a_later_line_takes_back_what_an_earlier_one_asked_for() {
    let folder = Folder::new("supervised");
    let file = folder.file("redis.conf", "daemonize yes\ncluster-enabled yes\nsupervised auto\n");
    let path = folder.path("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let port = free_port().to_string();
    let args = [&file, "--supervised", "systemd", "--daemonize", "no", "--cluster-enabled", "no"];
    let mut child = Command::new(PROGRAM)
        .args(args)
        .args(["--port", &port])
        .env("NOTIFY_SOCKET", &path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let told = || {
        let mut text = [0; 200];
        let size = socket.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..size]).into_owned()
    };
    assert!(told().starts_with("READY=1\n"));
    let mut client = Client::to(port.parse().unwrap());
    assert!(client.ask("INFO server")[0].contains("process_supervised:systemd"));
    assert_eq!(client.ask("SHUTDOWN"), ["closed"]);
    assert!(told().starts_with("STOPPING=1\n"));
    assert!(child.wait().unwrap().success());
    let text = refusal(&[&file, "--daemonize", "no"]);
    assert!(text.contains("at line 2\n>>> 'cluster-enabled yes'"), "{text}");
}

#[test]
fn the_kernel_is_told_the_score() {
    let port = free_port();
    let args = ["--port", &port.to_string(), "--oom-score-adj-values", "700", "0", "0"];
    let server = Server::larder(&args, port);
    let path = format!("/proc/{}/oom_score_adj", server.child.id());
    let score = || fs::read_to_string(&path).unwrap().trim().parse::<i64>().unwrap();
    let first = score();
    assert_eq!(server.ask("CONFIG SET oom-score-adj absolute"), ["OK"]);
    assert_eq!(score(), 700);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_port = taken.local_addr().unwrap().port();
    let refused =
        server.ask(&format!("CONFIG SET oom-score-adj-values \"800 0 0\" port {taken_port} hz 33"));
    assert!(refused[0].contains("'port'"), "{refused:?}");
    assert_eq!((score(), server.ask("CONFIG GET hz")[1].as_str()), (700, "10"));
    assert_eq!(server.ask("CONFIG SET oom-score-adj no"), ["OK"]);
    assert_eq!(score(), first);
}

#[test]
fn it_starts_under_the_name_of_redis_server() {
    let folder = Folder::new("name");
    let program = folder.path("redis-server");
    std::os::unix::fs::symlink(PROGRAM, &program).unwrap();
    let port = free_port();
    let file = folder.file("redis.conf", &format!("port {port}\nbind 127.0.0.1\n"));
    let server = Server::start(program.to_str().unwrap(), &[&file, "--hz", "11"], port, None);
    assert_eq!(server.ask("CONFIG GET hz"), ["hz", "11"]);
}

#[test]
fn settings_take_effect_at_once_and_all_or_none() {
    let port = free_port();
    let server = Server::larder(&["--port", &port.to_string()], port);
    let mut client = server.connect();
    assert_eq!(client.ask("RPUSH l a b c"), ["3"]);
    assert_eq!(
        client.ask("CONFIG SET list-max-listpack-size 2 hash-max-listpack-entries 1"),
        ["OK"]
    );
    assert_eq!(client.ask("RPUSH l d"), ["4"]);
    assert_eq!(client.ask("OBJECT ENCODING l"), ["quicklist"]);
    assert_eq!(client.ask("HSET h a 1 b 2"), ["2"]);
    assert_eq!(client.ask("OBJECT ENCODING h"), ["hashtable"]);
    let refused = client.ask("CONFIG SET hz 50 maxmemory x");
    assert!(refused[0].contains("possibly related to argument 'maxmemory'"), "{refused:?}");
    assert_eq!(client.ask("CONFIG GET hz"), ["hz", "10"]);
    assert_eq!(client.ask("CONFIG SET proto-max-bulk-len 1mb"), ["OK"]);
    let stream = client.0.get_mut();
    stream.write_all(b"*2\r\n$4\r\necho\r\n$2000000\r\n").unwrap();
    let mut texts = Vec::new();
    client.reply(&mut texts);
    assert_eq!(texts, ["ERR Protocol error: invalid bulk length"]);
    let refused = server.ask("CONFIG SET maxclients 4000000000");
    assert!(refused[0].contains("The operating system is not able to handle"), "{refused:?}");
    assert_eq!(
        server.ask("CONFIG SET daemonize yes")[0].split(" - ").last().unwrap(),
        "can't set immutable config"
    );
    assert_eq!(
        server.ask("CONFIG SET dir /tmp")[0].split(" - ").last().unwrap(),
        "can't set protected config"
    );
    assert_eq!(server.ask("CONFIG REWRITE"), ["ERR The server is running without a config file"]);
}

#[test]
fn clients_are_limited_dropped_and_asked_for_passwords() {
    let port = free_port();
    let server = Server::larder(&["--port", &port.to_string(), "--maxclients", "3"], port);
    let mut first = server.connect();
    assert_eq!(first.ask("PING"), ["PONG"]);
    assert_eq!(first.ask("CONFIG SET maxclients 1"), ["OK"]);
    assert_eq!(server.ask("PING"), ["ERR max number of clients reached"]);
    assert_eq!(first.ask("CONFIG SET maxclients 10"), ["OK"]);
    assert_eq!(first.ask("CONFIG SET requirepass p"), ["OK"]);
    assert_eq!(first.ask("PING"), ["PONG"], "who is in stays in");
    let mut second = server.connect();
    assert!(second.ask("PING")[0].starts_with("NOAUTH"));
    assert_eq!(first.ask("CONFIG SET requirepass \"\""), ["OK"]);
    assert_eq!(second.ask("PING"), ["PONG"], "no password is asked for any more");
    let mut idle = server.connect();
    assert_eq!(first.ask("CONFIG SET timeout 1"), ["OK"]);
    assert_eq!(first.ask("SUBSCRIBE c").len(), 3);
    assert!(idle.is_closed_within(Duration::from_secs(5)));
    assert!(!first.is_closed_within(Duration::from_secs(1)), "a subscriber is not idle");
}

#[test]
fn it_moves_to_another_port_and_back() {
    let (old, new) = (free_port(), free_port());
    let server = Server::larder(&["--port", &old.to_string(), "--bind", "127.0.0.1"], old);
    let mut client = server.connect();
    assert_eq!(client.ask(&format!("CONFIG SET port {new}")), ["OK"]);
    assert_eq!(client.ask("PING"), ["PONG"], "connections stay");
    assert_eq!(Client::to(new).ask("PING"), ["PONG"]);
    assert!(TcpStream::connect(("127.0.0.1", old)).is_err());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let refused = client.ask(&format!("CONFIG SET port {port}"));
    assert!(
        refused[0].ends_with("Unable to listen on this port. Check server logs."),
        "{refused:?}"
    );
    assert_eq!(client.ask("CONFIG GET port"), ["port", &new.to_string()]);
    assert_eq!(Client::to(new).ask("PING"), ["PONG"]);
    assert_eq!(client.ask("CONFIG SET bind *"), ["OK"]);
    assert_eq!(Client::to(new).ask("PING"), ["PONG"]);
    let refused = client.ask("CONFIG SET bind 203.0.113.7");
    assert!(refused[0].ends_with("Failed to bind to specified addresses."), "{refused:?}");
    assert_eq!(Client::to(new).ask("CONFIG GET bind"), ["bind", "*"]);
}

#[test]
fn it_ends_in_order() {
    let folder = Folder::new("end");
    let (log, pid) = (folder.path("log"), folder.path("pid"));
    let (log_text, pid_text) = (log.display().to_string(), pid.display().to_string());
    for way in ["-TERM", "-INT", "SHUTDOWN", "SHUTDOWN NOSAVE NOW FORCE"] {
        let port = free_port();
        let socket = folder.path("socket");
        let port_text = port.to_string();
        let args = ["--port", &port_text, "--logfile", &log_text, "--pidfile", &pid_text];
        let args = [&args[..], &["--unixsocket", socket.to_str().unwrap()]].concat();
        let mut server = Server::larder(&args, port);
        assert_eq!(fs::read_to_string(&pid).unwrap().trim(), server.child.id().to_string());
        assert!(socket.exists());
        let mut client = server.connect();
        assert_eq!(client.ask("SHUTDOWN ABORT"), ["ERR No shutdown in progress."]);
        for wrong in ["SHUTDOWN x", "SHUTDOWN SAVE NOSAVE", "SHUTDOWN ABORT NOW"] {
            assert_eq!(client.ask(wrong), ["ERR syntax error"]);
        }
        match way {
            "-TERM" | "-INT" => server.signal(way),
            _ => assert_eq!(client.ask(way), ["closed"]),
        }
        assert_eq!(server.ended(), Some(0), "{way}");
        assert!(!pid.exists() && !socket.exists(), "{way}");
    }
    let log = fs::read_to_string(&log).unwrap();
    assert_eq!(log.matches("bye bye").count(), 4);
    let line = log.lines().find(|line| line.contains("Ready to accept connections")).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    assert!(words[0].ends_with(":M") && words[5] == "*", "{line}");
}

#[test]
fn the_log_obeys_its_level_and_a_rotation() {
    let folder = Folder::new("log");
    let (log, old) = (folder.path("log"), folder.path("log.1"));
    let port = free_port();
    let args = ["--port", &port.to_string(), "--logfile", log.to_str().unwrap()];
    let args = [&args[..], &["--io-threads", "4", "--loglevel", "notice"]].concat();
    let server = Server::larder(&args, port);
    fs::rename(&log, &old).unwrap();
    assert_eq!(server.ask("CONFIG SET maxmemory-policy allkeys-lru dynamic-hz no"), ["OK"]);
    let (before, after) = (fs::read_to_string(&old).unwrap(), fs::read_to_string(&log).unwrap());
    assert!(before.contains("The option 'io-threads' has no effect"), "{before}");
    assert!(after.contains("The option 'dynamic-hz' has no effect"), "{after}");
    assert_eq!(server.ask("CONFIG SET loglevel warning"), ["OK"]);
    assert_eq!(server.ask("CONFIG SET lazyfree-lazy-expire no"), ["OK"]);
    assert!(!fs::read_to_string(&log).unwrap().contains("lazyfree"));
}

#[test]
fn durations_are_counted_as_configured() {
    let port = free_port();
    let args = ["--port", &port.to_string(), "--availability-zone", "zone-1"];
    let server = Server::larder(&args, port);
    let mut client = server.connect();
    client.ask("PING");
    assert!(client.ask("INFO latencystats")[0].contains("usec_ping:p50="));
    assert_eq!(client.ask("CONFIG SET latency-tracking-info-percentiles \"25 99.99\""), ["OK"]);
    let text = client.ask("INFO latencystats").remove(0);
    assert!(text.contains("usec_ping:p25=") && text.contains(",p99.99="), "{text}");
    assert_eq!(client.ask("CONFIG SET latency-tracking no"), ["OK"]);
    assert!(!client.ask("INFO latencystats")[0].contains("ping"));
    assert!(client.ask("INFO server")[0].contains("availability_zone:zone-1"));
    let hello = client.ask("HELLO 2");
    let at = hello.iter().position(|text| text == "availability_zone").unwrap();
    assert_eq!(hello[at + 1], "zone-1");
}

/// Both servers rewrite the same file; what they make of it must set the same options to the same values.
#[test]
fn a_rewritten_file_means_the_same_to_redis_server() {
    let version = Command::new("redis-server").arg("--version").output();
    if !version.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains("v=7.0.")) {
        println!("skipped: no redis-server 7.0 is installed");
        return;
    }
    let folder = Folder::new("rewrite");
    let changes = "CONFIG SET maxmemory 123mb maxmemory-policy allkeys-lfu timeout 7 \
         notify-keyspace-events KEA client-output-buffer-limit \"pubsub 1mb 2mb 30\" requirepass \"a \\\"b\"";
    let mut rewritten = Vec::new();
    for program in [PROGRAM, "redis-server"] {
        let port = free_port();
        let text = format!(
            "# first\nport {port}\n\n# second\nbind 127.0.0.1\nhz 20\nsave \"\"\n# last\ntimeout 3\n"
        );
        let file = folder.file("rewrite.conf", &text);
        let server = Server::start(program, &[&file], port, None);
        let mut client = server.connect();
        assert_eq!(client.ask(changes), ["OK"]);
        assert_eq!(client.ask("CONFIG REWRITE"), ["OK"]);
        drop(server);
        let text = fs::read_to_string(&file).unwrap();
        for comment in ["# first\n", "# second\n", "# last\n"] {
            assert!(text.contains(comment), "{program}: {text}");
        }
        rewritten.push((port, text));
    }
    let mut shown = Vec::new();
    for (port, text) in &rewritten {
        for program in [PROGRAM, "redis-server"] {
            let file = folder.file("again.conf", text);
            let server = Server::start(program, &[&file], *port, None);
            let mut client = server.connect();
            assert_eq!(client.ask("AUTH \"a \\\"b\""), ["OK"], "{program}: {text}");
            let mut options = Vec::new();
            for name in ["maxmemory", "maxmemory-policy", "timeout", "hz", "bind", "save"] {
                options.extend(client.ask(&format!("CONFIG GET {name}")));
            }
            options.extend(client.ask("CONFIG GET notify-keyspace-events"));
            options.extend(client.ask("CONFIG GET client-output-buffer-limit"));
            shown.push(options);
        }
    }
    assert!(shown.iter().all(|options| *options == shown[0]), "{shown:#?}\n{rewritten:#?}");
    assert!(Path::new(&folder.0).exists());
}
