//! What the server was started with. Text becomes typed values here and nowhere else.

use larder_base::number;

use crate::events::EventFlags;

/// Settings of a running server.
#[derive(Clone, Debug)]
pub struct Options {
    /// TCP port; 0 = none.
    pub port: u16,
    /// Addresses to listen on; a leading `-` marks one that may be missing.
    pub bind: Vec<String>,
    /// Path of a unix socket, if wanted.
    pub unixsocket: Option<String>,
    /// Its permissions, octal.
    pub unixsocketperm: u32,
    /// Worker threads.
    pub workers: usize,
    /// Databases, 1..=16.
    pub databases: usize,
    /// Password of the default user; empty = none.
    pub requirepass: String,
    /// Connections at once.
    pub maxclients: usize,
    /// Seconds after which an idle connection is closed; 0 = never.
    pub timeout_s: u64,
    /// Seconds of silence after which a peer is probed; 0 = never.
    pub tcp_keepalive_s: u32,
    /// Connections waiting to be accepted.
    pub tcp_backlog: i32,
    /// Bytes; 0 = no limit. At the limit, writes that need memory are refused.
    pub maxmemory: u64,
    /// Refuse foreign hosts while there is no password.
    pub protected_mode: bool,
    /// `notify-keyspace-events`.
    pub notify_keyspace_events: EventFlags,
    /// Milliseconds from which a delay is an event; 0 = none is.
    pub latency_monitor_threshold_ms: u64,
    /// Limit (-1 = none is kept) and length of the logs of slow commands, large requests and large replies.
    pub commandlogs: [(i64, usize); 3],
}

impl Default for Options {
    fn default() -> Options {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Options {
            port: 6379,
            bind: vec!["127.0.0.1".to_owned(), "-::1".to_owned()],
            unixsocket: None,
            unixsocketperm: 0,
            workers: cores,
            databases: 16,
            requirepass: String::new(),
            maxclients: 10_000,
            timeout_s: 0,
            tcp_keepalive_s: 300,
            tcp_backlog: 511,
            maxmemory: 0,
            protected_mode: true,
            notify_keyspace_events: EventFlags(0),
            latency_monitor_threshold_ms: 0,
            commandlogs: [(10_000, 128), (1 << 20, 128), (1 << 20, 128)],
        }
    }
}

/// Names that can be set; for CONFIG GET and for the message on an unknown one.
pub const NAMES: &[&str] = &[
    "port",
    "bind",
    "unixsocket",
    "unixsocketperm",
    "workers",
    "databases",
    "requirepass",
    "maxclients",
    "timeout",
    "tcp-keepalive",
    "tcp-backlog",
    "maxmemory",
    "protected-mode",
    "notify-keyspace-events",
    "latency-monitor-threshold",
    "slowlog-log-slower-than",
    "slowlog-max-len",
    "commandlog-execution-slower-than",
    "commandlog-slow-execution-max-len",
    "commandlog-request-larger-than",
    "commandlog-large-request-max-len",
    "commandlog-reply-larger-than",
    "commandlog-large-reply-max-len",
];

/// Which log an option is about, and whether it is its length.
fn log_option(name: &str) -> Option<(usize, bool)> {
    Some(match name {
        "slowlog-log-slower-than" | "commandlog-execution-slower-than" => (0, false),
        "slowlog-max-len" | "commandlog-slow-execution-max-len" => (0, true),
        "commandlog-request-larger-than" => (1, false),
        "commandlog-large-request-max-len" => (1, true),
        "commandlog-reply-larger-than" => (2, false),
        "commandlog-large-reply-max-len" => (2, true),
        _ => return None,
    })
}

impl Options {
    /// Sets one option from its text.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn set(&mut self, name: &str, values: &[String]) -> Result<(), String> {
        let value = values.join(" ");
        let number = |low: u64, high: u64| -> Result<u64, String> {
            let parsed = number::parse_u64(value.as_bytes()).filter(|n| (low..=high).contains(n));
            parsed.ok_or_else(|| format!("argument must be between {low} and {high} inclusive"))
        };
        let small = |low, high| number(low, high).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        match name.to_ascii_lowercase().as_str() {
            "port" => self.port = u16::try_from(number(0, 65_535)?).unwrap_or(0),
            "bind" => self.bind = values.to_vec(),
            "unixsocket" => self.unixsocket = Some(value).filter(|path| !path.is_empty()),
            "unixsocketperm" => {
                self.unixsocketperm = u32::from_str_radix(&value, 8)
                    .ok()
                    .filter(|mode| *mode <= 0o777)
                    .ok_or("argument must be an octal mode up to 777")?;
            }
            "workers" => self.workers = small(1, 64)? as usize,
            "databases" => self.databases = small(1, 16)? as usize,
            "requirepass" => self.requirepass = value,
            "maxclients" => self.maxclients = small(1, u32::MAX.into())? as usize,
            "timeout" => self.timeout_s = number(0, i32::MAX.cast_unsigned().into())?,
            "tcp-keepalive" => self.tcp_keepalive_s = small(0, 86_400)?,
            "tcp-backlog" => self.tcp_backlog = i32::try_from(number(0, 65_535)?).unwrap_or(511),
            "maxmemory" => {
                self.maxmemory = number::parse_memory(value.as_bytes())
                    .ok_or("argument must be a memory value")?;
            }
            "protected-mode" => {
                self.protected_mode = match value.to_ascii_lowercase().as_str() {
                    "yes" => true,
                    "no" => false,
                    _ => return Err("argument must be 'yes' or 'no'".to_owned()),
                }
            }
            "notify-keyspace-events" => {
                self.notify_keyspace_events = EventFlags::parse(&value)
                    .ok_or("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")?;
            }
            "latency-monitor-threshold" => {
                self.latency_monitor_threshold_ms = number(0, i64::MAX.cast_unsigned())?;
            }
            other if log_option(other).is_some() => {
                let (at, is_length) = log_option(other).unwrap_or_default();
                let low = if is_length { 0 } else { -1 };
                let parsed =
                    number::parse_i64(value.as_bytes()).filter(|n| *n >= low).ok_or_else(|| {
                        format!("argument must be between {low} and {} inclusive", i64::MAX)
                    })?;
                if let Some(log) = self.commandlogs.get_mut(at) {
                    if is_length {
                        log.1 = usize::try_from(parsed).unwrap_or(usize::MAX);
                    } else {
                        log.0 = parsed;
                    }
                }
            }
            // No persistence yet: saying so is all that these may do.
            "save" if value.is_empty() => {}
            "appendonly" if value.eq_ignore_ascii_case("no") => {}
            "save" | "appendonly" => {
                return Err(
                    "persistence is not supported yet; only '' and 'no' are accepted".to_owned()
                );
            }
            _ => return Err("unknown option".to_owned()),
        }
        Ok(())
    }

    /// The value of an option as CONFIG GET shows it.
    pub fn get(&self, name: &str) -> Option<String> {
        Some(match name {
            "port" => self.port.to_string(),
            "bind" => self.bind.join(" "),
            "unixsocket" => self.unixsocket.clone().unwrap_or_default(),
            "unixsocketperm" => format!("{:o}", self.unixsocketperm),
            "workers" => self.workers.to_string(),
            "databases" => self.databases.to_string(),
            "requirepass" => self.requirepass.clone(),
            "maxclients" => self.maxclients.to_string(),
            "timeout" => self.timeout_s.to_string(),
            "tcp-keepalive" => self.tcp_keepalive_s.to_string(),
            "tcp-backlog" => self.tcp_backlog.to_string(),
            "maxmemory" => self.maxmemory.to_string(),
            "protected-mode" => if self.protected_mode { "yes" } else { "no" }.to_owned(),
            "notify-keyspace-events" => self.notify_keyspace_events.to_text(),
            "latency-monitor-threshold" => self.latency_monitor_threshold_ms.to_string(),
            other if log_option(other).is_some() => {
                let (at, is_length) = log_option(other)?;
                let (limit, len_max) = self.commandlogs.get(at)?;
                if is_length { len_max.to_string() } else { limit.to_string() }
            }
            "save" => String::new(),
            "appendonly" => "no".to_owned(),
            _ => return None,
        })
    }
}
