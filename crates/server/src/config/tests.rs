//! Tests of the configuration as a whole; they read no file but the committed reference page.

use super::super::file::RawConfig;
use super::super::{reference, rewrite::rewrite};
use super::*;

fn load(text: &str) -> Config {
    RawConfig::from_text("test", text.as_bytes()).unwrap().parse().unwrap()
}

fn refused(text: &str) -> String {
    let raw = RawConfig::from_text("test", text.as_bytes());
    raw.and_then(|raw| raw.parse()).unwrap_err().to_string()
}

#[test]
fn every_default_parses_and_every_supported_option_has_a_field() {
    let mut names = Vec::new();
    for (_, row) in options::all() {
        let words: Vec<&str> = match row.takes_words() {
            true => row.default.split(' ').collect(),
            false => vec![row.default],
        };
        assert!(parse(row.kind, &Value::Bool(false), &words).is_ok(), "{}", row.name);
        names.extend([Some(row.name), row.alias].into_iter().flatten());
        let supported = row.support == Support::Supported;
        assert_eq!(supported, FIELDS.contains(&row.name), "{}", row.name);
    }
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "a name twice");
    assert_eq!(Config::default().port, 6379);
}

#[test]
fn lines_become_values() {
    let config = load(
        "# comment\n\nport 7000\nBIND 10.0.0.1 -::1\nmaxmemory 1gb\nmaxmemory-clients 5%\n\
         requirepass \"a b\\x41\"\nunixsocketperm 700\nclient-output-buffer-limit pubsub 1mb 2k 3\n\
         notify-keyspace-events KEA\nrename-command FLUSHALL \"\"\nslave-read-only no\n\
         repl-diskless-sync-delay 3\ndynamic-hz no\n",
    );
    assert_eq!((config.port, config.maxmemory), (7000, 1 << 30));
    assert_eq!(config.bind, ["10.0.0.1", "-::1"]);
    assert_eq!(config.maxmemory_clients, MemoryLimit::Percent(5));
    assert_eq!(config.requirepass.reveal(), "a bA");
    assert!(!format!("{config:?}").contains("a bA"));
    assert_eq!(config.unixsocketperm, 0o700);
    assert_eq!(config.client_output_buffer_limit.pubsub.soft, 2000);
    assert!(config.notify_keyspace_events.has(b'x') && !config.notify_keyspace_events.is_silent());
    assert_eq!(config.renamed_commands, [("flushall".to_owned(), String::new())]);
    assert!(!config.replica_read_only);
    assert_eq!(config.repl_diskless_sync_delay, 3);
    assert_eq!(config.notices().len(), 1);
}

#[test]
fn bad_lines_name_their_place() {
    let text = refused("port 1\nmaxmemry 1\n");
    assert!(text.contains("Reading the configuration file test, at line 2\n>>> 'maxmemry 1'\n"));
    assert!(text.ends_with("Did you mean 'maxmemory'?"), "{text}");
    assert!(refused("cluster-enabled yes").ends_with("only no is accepted"));
    let last = refused("daemonize yes\ndaemonize yes\nhz 1");
    assert!(last.contains("at line 2"), "{last}");
    assert_eq!(load("daemonize yes\nhz 7\ndaemonize no").hz, 7);
    assert!(refused("port \"1").contains("Unbalanced quotes"));
    assert!(!refused("requirepass geheim zwei").contains("geheim"));
    assert!(refused("port 1 2").contains("wrong number of arguments"));
}

#[test]
fn the_default_user_of_a_rewritten_file_is_understood() {
    let line = "user default on #ec0e ~* &* +@all";
    assert_eq!(load(&format!("requirepass x\n{line}\n")).requirepass.reveal(), "x");
    assert!(refused(line).contains("hash only"));
    let open = "user default on nopass sanitize-payload ~* &* +@all\n";
    assert_eq!(rewrite(open, &load(open)), "");
    for other in [
        "user bob on nopass ~* &* +@all",
        "user default off nopass ~* &* +@all",
        "user default on nopass +@all",
    ] {
        assert!(refused(other).contains("access control"), "{other}");
    }
}

#[test]
fn the_command_line_wins() {
    let arguments = ["--save", "--port", "1", "--bind", "a", "b", "--port", "2"];
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let config = RawConfig::from_arguments(&arguments).unwrap().parse().unwrap();
    assert_eq!((config.port, config.bind), (2, vec!["a".to_owned(), "b".to_owned()]));
}

#[test]
fn a_set_is_all_or_nothing() {
    let config = Config::default();
    let (new, changed) = config.set(&[(b"maxmemory", b"1kb"), (b"timeout", b"0")]).unwrap();
    assert_eq!((new.maxmemory, changed.len()), (1024, 1));
    let error = config.set(&[(b"maxmemory", b"1kb"), (b"timeout", b"x")]).unwrap_err();
    assert!(error.to_string().contains("argument 'timeout'"));
    assert!(config.set(&[(b"dbfilename", b"a\nport 1")]).is_err());
    // A password may hold anything, and writes no line of its own.
    let (new, _) = config.set(&[(b"requirepass", b"a\nport 1\0")]).unwrap();
    let written = rewrite("", &new);
    assert_eq!(load(&written).requirepass.reveal(), "a\nport 1\0");
    assert!(!written.lines().any(|line| line.starts_with("port")), "{written}");
}

#[test]
fn get_shows_each_name_once_and_hides_the_hidden() {
    let config = Config::default();
    assert_eq!(config.get(&[b"HZ", b"hz", b"h?"]), [("HZ".to_owned(), "10".to_owned())]);
    assert_eq!(config.get(&[b"zset-max-*-entries"]).len(), 2);
    assert!(config.get(&[b"watchdog*"]).is_empty());
    assert_eq!(config.get(&[b"watchdog-period"]).len(), 1);
}

#[test]
fn a_rewrite_keeps_the_file() {
    let old =
        "# mine\nport 1\n\nmaxmemory-policy allkeys-lru\n# two\nport 2\nrubbish 3\ninclude x\n";
    let (config, _) = load("maxmemory-policy noeviction").set(&[(b"hz", b"20")]).unwrap();
    let new = rewrite(old, &config);
    assert_eq!(
        new,
        "# mine\nport 6379\n\nmaxmemory-policy noeviction\n# two\n# ??? rubbish 3\ninclude x\n\
         # Generated by CONFIG REWRITE\nhz 20\n"
    );
    assert_eq!(rewrite(&new, &config), new);
    let (other, _) = load("").set(&[]).unwrap();
    assert_eq!(rewrite("# a\r\n\r\n# b\r", &other), "# a\n\n# b\n");
}

#[test]
fn the_reference_page_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let page = reference::page();
    if std::fs::read_to_string(path).ok().as_deref() != Some(page.as_str()) {
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs")).unwrap();
        std::fs::write(path, page).unwrap();
        panic!("docs/configuration.md was out of date; it is written anew");
    }
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_rendered_loads_again(
            port in 0u16.., memory in any::<u64>(), pass in "(?s).{0,12}",
            events in "[Ag$lshzxeKEtmdn]{0,9}", share in 0u8..=100, hard in 0u64..1 << 40,
            percentiles in prop::collection::vec(0.0f64..=100.0, 0..4),
        ) {
            let percentiles: Vec<String> = percentiles.iter().map(f64::to_string).collect();
            let percentiles = percentiles.join(" ");
            let limits = format!("normal {hard} 1mb 3");
            let (port, memory, share) = (port.to_string(), memory.to_string(), format!("{share}%"));
            let (config, _) = Config::default().set(&[
                (b"port", port.as_bytes()), (b"maxmemory", memory.as_bytes()),
                (b"requirepass", pass.as_bytes()), (b"maxmemory-clients", share.as_bytes()),
                (b"notify-keyspace-events", events.as_bytes()),
                (b"client-output-buffer-limit", limits.as_bytes()),
                (b"latency-tracking-info-percentiles", percentiles.as_bytes()),
            ]).unwrap();
            prop_assert_eq!(load(&rewrite("", &config)), config);
        }

        #[test]
        fn any_text_is_survived_and_rewriting_settles(text in "([a-z\\-]{0,9}[ \"'\\\\#x0-9a]{0,9}\n){0,9}") {
            if let Ok(raw) = RawConfig::from_text("test", text.as_bytes()) {
                drop(raw.parse());
            }
            let config = Config::default();
            let once = rewrite(&text, &config);
            prop_assert_eq!(rewrite(&once, &config), once);
        }
    }
}
