//! The command table beside the facts of `tests/commands.tsv`: nothing is missing, nothing is called
//! otherwise, and where a row differs the data say how and why.

use std::collections::BTreeMap;

use larder_commands::{Begin, Command, Find};
use larder_server::registry::Registry;

const FACTS: &str = include_str!("../../../tests/commands.tsv");

/// A row of either side, its fields by name.
type Row = BTreeMap<&'static str, String>;

/// What the facts say of one command.
struct Fact {
    wanted: bool,
    row: Row,
    /// Fields in which Larder is another, with its values.
    differences: Vec<(String, String)>,
}

fn facts() -> Result<BTreeMap<String, Fact>, String> {
    let mut lines = FACTS.lines().filter(|line| !line.starts_with('#'));
    let head: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    assert_eq!(
        head,
        [
            "name",
            "group",
            "since",
            "wanted",
            "arity",
            "flags",
            "acl_categories",
            "keys",
            "difference"
        ]
    );
    let mut all = BTreeMap::new();
    for line in lines {
        let fields: Vec<&str> = line.split('\t').collect();
        let [name, _, _, wanted, arity, flags, categories, keys, difference] = fields[..] else {
            return Err(format!("not nine fields: {line}"));
        };
        assert!(wanted == "now" || wanted.starts_with("later: "), "{line}");
        let row = Row::from([
            ("arity", arity.to_owned()),
            ("flags", flags.to_owned()),
            ("acl_categories", categories.to_owned()),
            ("keys", keys.to_owned()),
        ]);
        let differences = if difference.is_empty() { Vec::new() } else { read(difference)? };
        let fact = Fact { wanted: wanted == "now", row, differences };
        assert!(all.insert(name.to_owned(), fact).is_none(), "{name} stands there twice");
    }
    Ok(all)
}

/// `field=value; field=value: reason`.
fn read(difference: &str) -> Result<Vec<(String, String)>, String> {
    let (values, reason) =
        difference.split_once(": ").ok_or(format!("no colon before the reason: {difference}"))?;
    assert!(reason.len() > 8, "no reason: {difference}");
    let pair = |text: &str| {
        let (field, value) = text.split_once('=').ok_or(format!("not field=value: {text}"))?;
        Ok((field.to_owned(), value.to_owned()))
    };
    values.split("; ").map(pair).collect()
}

fn sorted<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let mut words: Vec<&str> = words.into_iter().collect();
    words.sort_unstable();
    if words.is_empty() { "-".to_owned() } else { words.join(" ") }
}

fn row(command: &Command) -> Row {
    let mut flags: Vec<&str> = command.flags.names().collect();
    if command.has_movable_keys() && !flags.contains(&"movablekeys") {
        flags.push("movablekeys");
    }
    Row::from([
        ("arity", command.arity.to_string()),
        ("flags", sorted(flags)),
        ("acl_categories", sorted(command.all_categories())),
        ("keys", keys(command)),
    ])
}

/// The range, further specifications if there is more than the range, and what happens to the keys.
fn keys(command: &Command) -> String {
    let (first, last, step) = command.key_range();
    let mut text = format!("{first},{last},{step}");
    let plain = |spec: &larder_commands::KeySpec| {
        matches!((spec.begin, spec.find), (Begin::Index(_), Find::Range { .. }))
    };
    if !command.keys.iter().all(plain) {
        for spec in command.keys {
            text.push_str("; ");
            text.push_str(&match spec.begin {
                Begin::Index(at) => format!("index {at}"),
                Begin::Keyword(word, from) => format!("keyword {word} from {from}"),
                Begin::LastOption(..) | Begin::Unknown => "unknown".to_owned(),
            });
            text.push_str(&match spec.find {
                Find::Range { last, step, .. } => format!(" range last={last} step={step}"),
                Find::KeyNum { index, first, step } => {
                    format!(" keynum idx={index} first={first} step={step}")
                }
                Find::Unknown => String::new(),
            });
        }
    }
    let mut words: Vec<String> = Vec::new();
    for word in command.keys.iter().flat_map(|spec| spec.flags.split_whitespace()) {
        let word = word.to_ascii_uppercase();
        let shown =
            ["RO", "RW", "OW", "RM", "NOT_KEY", "VARIABLE_FLAGS", "INCOMPLETE"].contains(&&*word);
        if shown && !words.contains(&word) {
            words.push(word);
        }
    }
    if !words.is_empty() {
        text.push_str(&format!(" [{}]", words.join("/")));
    }
    text
}

fn ours() -> BTreeMap<String, Row> {
    let mut all = BTreeMap::new();
    for entry in Registry::new(&[]).iter() {
        let command = entry.command;
        all.insert(command.name.to_owned(), row(command));
        for sub in command.subcommands {
            all.insert(format!("{}|{}", command.name, sub.name), row(sub));
        }
    }
    all
}

#[test]
fn the_table_agrees_with_the_facts() {
    let facts = facts().unwrap();
    let ours = ours();
    let mut wrong = Vec::new();
    for (name, fact) in &facts {
        let Some(row) = ours.get(name) else {
            if fact.wanted {
                wrong.push(format!("{name} is missing"));
            }
            continue;
        };
        for (field, wanted) in &fact.row {
            let listed = fact.differences.iter().find(|(known, _)| known == field);
            match listed {
                Some((_, value)) if value == wanted => {
                    wrong.push(format!("{name}: {field} does not differ, but is listed so"));
                }
                Some((_, value)) if value == &row[field] => {}
                None if wanted == &row[field] => {}
                _ => wrong.push(format!("{name}: {field} is {}, not {wanted}", row[field])),
            }
        }
        for (field, _) in &fact.differences {
            assert!(fact.row.contains_key(field.as_str()), "{name}: no field {field}");
        }
    }
    for name in ours.keys().filter(|name| !facts.contains_key(*name)) {
        wrong.push(format!("{name} is unknown to the facts"));
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

/// Everybody can look up what a command does: in words, and in the notation of its arguments.
#[test]
fn every_row_is_documented() {
    for entry in Registry::new(&[]).iter() {
        let rows = std::iter::once(entry.command).chain(entry.command.subcommands);
        for row in rows {
            assert!(row.summary.ends_with('.'), "{}: {}", row.name, row.summary);
            assert!(!row.complexity.is_empty() && !row.since.is_empty(), "{}", row.name);
        }
    }
}
