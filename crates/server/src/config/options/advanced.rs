//! Rows: the process, its log, signals, threads and debugging. They must never know the process itself.

use super::super::values::{LogLevel, OomScoreAdj, Supervision};
use super::{INT, Kind, Row};

const SYSLOG: &str = "there is no system log: lines go to the standard output or to 'logfile'";
const CPULIST: &str = "threads are not bound to cores";
const PANIC: &str = "a failure is reported in the log and the process ends";
const SIGNALS: &[&str] = &["default", "save", "nosave", "now", "force"];

pub(super) static ROWS: &[Row] = &[
    Row::new(
        "workers",
        Kind::Integer(0, 1024),
        "0",
        "Threads that serve clients; 0 = one for each core. Larder's own.",
    )
    .immutable(),
    Row::new(
        "huge-pages",
        Kind::Bool,
        "yes",
        "Puts the data into huge pages, where the system has them. Larder's own.",
    )
    .immutable(),
    Row::new("io-threads", Kind::Integer(1, 128), "1", "Threads for reading and writing.")
        .immutable()
        .harmless("'workers' says how many threads run"),
    Row::new("io-threads-do-reads", Kind::Bool, "no", "Whether those threads read, too.")
        .immutable()
        .harmless("every worker reads and writes"),
    Row::new(
        "hz",
        Kind::Integer(0, INT),
        "10",
        "Rounds of background work each second; taken as 1 to 500.",
    ),
    Row::new("dynamic-hz", Kind::Bool, "yes", "More rounds with more clients.")
        .harmless("background work is shared by the workers and follows the load"),
    Row::new(
        "loglevel",
        Kind::Choice(LogLevel::NAMES),
        "notice",
        "Least important lines that are logged.",
    ),
    Row::new("logfile", Kind::Text, "", "File for the log; empty = standard output.").immutable(),
    Row::new("log-format", Kind::Choice(&["legacy", "logfmt"]), "legacy", "Form of a log line.")
        .harmless("there is one form"),
    Row::new(
        "log-timestamp-format",
        Kind::Choice(&["legacy", "iso8601", "milliseconds"]),
        "legacy",
        "Form of the time in a log line.",
    )
    .harmless("there is one form"),
    Row::new("syslog-enabled", Kind::Bool, "no", "Log to the system log.")
        .immutable()
        .harmless(SYSLOG),
    Row::new("syslog-ident", Kind::Text, "larder", "Name in the system log.")
        .immutable()
        .harmless(SYSLOG),
    Row::new(
        "syslog-facility",
        Kind::Choice(&[
            "user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
        ]),
        "local0",
        "Facility in the system log.",
    )
    .immutable()
    .harmless(SYSLOG),
    Row::new("pidfile", Kind::Text, "", "File that holds the process number.").immutable(),
    Row::new("daemonize", Kind::Bool, "no", "Run in the background.")
        .immutable()
        .later("forking is left to a service manager, which does it safely (systemd, a container)"),
    Row::new(
        "supervised",
        Kind::Choice(Supervision::NAMES),
        "no",
        "Tells systemd (a service of type 'notify') that the server is ready, and that it ends.",
    )
    .immutable(),
    Row::new(
        "shutdown-timeout",
        Kind::Integer(0, INT),
        "10",
        "Seconds a shutdown waits for replicas.",
    ),
    Row::new("shutdown-on-sigint", Kind::Words(SIGNALS), "default", "How SIGINT shuts down."),
    Row::new("shutdown-on-sigterm", Kind::Words(SIGNALS), "default", "How SIGTERM shuts down."),
    Row::new("always-show-logo", Kind::Bool, "no", "Picture at the start.")
        .immutable()
        .harmless("there is no picture"),
    Row::new("set-proc-title", Kind::Bool, "yes", "Shows the state in the title of the process.")
        .immutable()
        .harmless("the title is left alone"),
    Row::new(
        "proc-title-template",
        Kind::Title,
        "{title} {listen-addr} {server-mode}",
        "Title of the process.",
    )
    .harmless("the title is left alone"),
    Row::new("locale-collate", Kind::Text, "", "Locale for comparing texts in SORT ALPHA.")
        .later("texts are compared by their bytes")
        .inert(&["C", "POSIX"]),
    Row::new(
        "oom-score-adj",
        Kind::Choice(OomScoreAdj::NAMES),
        "no",
        "Whether the kernel is told how willingly to kill this process.",
    ),
    Row::new(
        "oom-score-adj-values",
        Kind::OomScores,
        "0 200 800",
        "The scores for a primary, a replica and a saving child; only the first one is used, as there are no others.",
    ),
    Row::new("disable-thp", Kind::Bool, "yes", "Turns huge pages off for this process.")
        .immutable()
        .harmless("without a forked child huge pages do no harm"),
    Row::new("crash-log-enabled", Kind::Bool, "yes", "Report after a crash.").harmless(PANIC),
    Row::new("crash-memcheck-enabled", Kind::Bool, "yes", "Memory test after a crash.")
        .harmless(PANIC),
    Row::new("use-exit-on-panic", Kind::Bool, "no", "Exit without a core file.")
        .hidden()
        .harmless(PANIC),
    Row::new("enable-debug-assert", Kind::Bool, "no", "More checks while running.")
        .immutable()
        .hidden()
        .harmless("checks are chosen when the program is built"),
    Row::new(
        "propagation-error-behavior",
        Kind::Choice(&["ignore", "panic", "panic-on-replicas"]),
        "ignore",
        "What a failed replicated command does.",
    )
    .harmless("it is logged and counted, and the stream goes on"),
    Row::new(
        "watchdog-period",
        Kind::Integer(0, INT),
        "0",
        "Milliseconds after which a stuck server reports itself.",
    )
    .hidden()
    .harmless("there is no watchdog"),
    Row::new("ignore-warnings", Kind::Text, "", "Warnings of the start to pass over.")
        .harmless("none of those warnings is given"),
    Row::new("server-cpulist", Kind::Text, "", "Cores for the serving threads.")
        .alias("server_cpulist")
        .immutable()
        .harmless(CPULIST),
    Row::new("bio-cpulist", Kind::Text, "", "Cores for background threads.")
        .alias("bio_cpulist")
        .immutable()
        .harmless(CPULIST),
    Row::new("aof-rewrite-cpulist", Kind::Text, "", "Cores for rewriting the append-only file.")
        .alias("aof_rewrite_cpulist")
        .immutable()
        .harmless(CPULIST),
    Row::new("bgsave-cpulist", Kind::Text, "", "Cores for saving.")
        .alias("bgsave_cpulist")
        .immutable()
        .harmless(CPULIST),
    Row::new("dir", Kind::Text, ".", "Directory of the data files.").protected(),
];
