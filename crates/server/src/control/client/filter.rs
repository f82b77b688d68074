//! Which connections CLIENT LIST and CLIENT KILL mean: conditions that must all hold, each of them or its
//! contrary (`NOT-...`). It looks at connections and does nothing to them.

use larder_base::number;
use larder_base::time::Millis;
use larder_commands::{Args, Fault};

use crate::client::Client;

/// See the head of this file.
pub struct Filter<'a> {
    conditions: Vec<(bool, Condition<'a>)>,
    /// The connection that asks is left out, whatever it is.
    pub skip_me: bool,
}

enum Condition<'a> {
    Id(Vec<i64>),
    Type(&'static str),
    User(&'a [u8]),
    Address(&'a [u8]),
    LocalAddress(&'a [u8]),
    Ip(&'a [u8]),
    Name(&'a [u8]),
    LibraryName(&'a [u8]),
    LibraryVersion(&'a [u8]),
    Flags(&'a [u8]),
    Capabilities(&'a [u8]),
    Database(i64),
    /// Connected for so many seconds.
    Age(i64),
    /// Silent for so many seconds.
    Idle(i64),
}

/// Letters of CLIENT LIST's flags, of this server and of those that it may stand in for.
const FLAG_LETTERS: &[u8] = b"AbcdeEGiIMNOPrRSTtuUxB";

impl<'a> Filter<'a> {
    /// One address, as the old form of CLIENT KILL names it.
    pub fn address(address: &'a [u8]) -> Filter<'a> {
        Filter { conditions: vec![(true, Condition::Address(address))], skip_me: false }
    }

    /// The conditions of CLIENT KILL: whoever asks is spared, and numbers begin at 1.
    ///
    /// # Errors
    /// Redis's, for each kind of mistake.
    pub fn for_kill(args: Args<'a>) -> Result<Filter<'a>, Fault> {
        const BAD_ID: Fault = Fault::text("ERR client-id should be greater than 0");
        let filter = Filter::parse(args, true, &BAD_ID)?;
        let good = |(_, condition): &(bool, Condition<'_>)| match condition {
            Condition::Id(ids) => ids.iter().all(|id| *id > 0),
            _ => true,
        };
        if filter.conditions.iter().all(good) { Ok(filter) } else { Err(BAD_ID) }
    }

    /// The conditions of CLIENT LIST.
    ///
    /// # Errors
    /// Redis's, for each kind of mistake.
    pub fn for_list(args: Args<'a>) -> Result<Filter<'a>, Fault> {
        const BAD_ID: Fault = Fault::text("ERR Invalid client ID");
        let filter = Filter::parse(args, false, &BAD_ID);
        // Words that follow numbers and are no condition were meant as numbers.
        let numbers = args.len() > 3 && args.is(2, "ID");
        match filter {
            Err(fault) if numbers && fault == Fault::SYNTAX => Err(BAD_ID),
            filter => filter,
        }
    }

    fn parse(args: Args<'a>, skip_me: bool, bad_id: &Fault) -> Result<Filter<'a>, Fault> {
        let mut filter = Filter { conditions: Vec::new(), skip_me };
        let mut at = 2;
        while at < args.len() {
            let word = args.at(at).to_ascii_uppercase();
            let Some(value) = args.get(at + 1) else { return Err(Fault::SYNTAX) };
            let (wanted, name) = match word.strip_prefix(b"NOT-") {
                Some(name) => (false, name),
                None => (true, &*word),
            };
            if name == b"ID" {
                let mut ids = vec![number::parse_i64(value).ok_or(bad_id.clone())?];
                at += 2;
                // More of them may follow.
                while let Some(more) = args.get(at).and_then(number::parse_i64) {
                    ids.push(more);
                    at += 1;
                }
                filter.conditions.push((wanted, Condition::Id(ids)));
                continue;
            }
            at += 2;
            if name == b"SKIPME" && wanted {
                filter.skip_me = match () {
                    () if value.eq_ignore_ascii_case(b"yes") => true,
                    () if value.eq_ignore_ascii_case(b"no") => false,
                    () => return Err(Fault::SYNTAX),
                };
                continue;
            }
            filter.conditions.push((wanted, condition(name, value)?));
        }
        Ok(filter)
    }

    /// Whether a connection is meant.
    pub fn has(&self, client: &Client, now: Millis) -> bool {
        self.conditions.iter().all(|(wanted, condition)| condition.holds(client, now) == *wanted)
    }
}

fn condition<'a>(name: &[u8], value: &'a [u8]) -> Result<Condition<'a>, Fault> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let seconds = |what: &str| match number::parse_i64(value) {
        None => Err(Fault::new(format!("ERR {what} is not an integer or out of range"))),
        Some(..1) => Err(Fault::new(format!("ERR {what} should be greater than 0"))),
        Some(seconds) => Ok(seconds),
    };
    Ok(match name {
        b"TYPE" => Condition::Type(kind_of(value)?),
        b"USER" if value == b"default" => Condition::User(value),
        b"USER" => return Err(Fault::new(format!("ERR No such user '{}'", text(value)))),
        b"ADDR" => Condition::Address(value),
        b"LADDR" => Condition::LocalAddress(value),
        b"IP" => Condition::Ip(value),
        b"NAME" => Condition::Name(value),
        b"LIB-NAME" => Condition::LibraryName(value),
        b"LIB-VER" => Condition::LibraryVersion(value),
        b"FLAGS" => match value.iter().find(|letter| !FLAG_LETTERS.contains(letter)) {
            None => Condition::Flags(value),
            Some(_) => {
                let value = text(value);
                return Err(Fault::new(format!(
                    "ERR Unknown flags found in the provided filter: {value}"
                )));
            }
        },
        b"CAPA" => Condition::Capabilities(value),
        b"DB" => Condition::Database(
            number::parse_i64(value)
                .filter(|db| *db >= 0)
                .ok_or(Fault::text("ERR DB number should be between 0 and 2147483647"))?,
        ),
        b"MAXAGE" => Condition::Age(seconds("maxage")?),
        b"IDLE" => Condition::Idle(seconds("idletime")?),
        _ => return Err(Fault::SYNTAX),
    })
}

impl Condition<'_> {
    fn holds(&self, client: &Client, now: Millis) -> bool {
        match self {
            Condition::Id(ids) => i64::try_from(client.id).is_ok_and(|id| ids.contains(&id)),
            Condition::Type(kind) => client.kind() == *kind,
            // The only one.
            Condition::User(name) => *name == b"default",
            Condition::Address(address) => client.stream.peer().to_string().as_bytes() == *address,
            Condition::LocalAddress(address) => client.stream.local().as_bytes() == *address,
            Condition::Ip(ip) => {
                let peer = client.stream.peer().to_string();
                peer.rsplit_once(':').map_or(&*peer, |(ip, _)| ip).as_bytes() == *ip
            }
            Condition::Name(name) => client.name == *name,
            Condition::LibraryName(name) => client.lib.0 == *name,
            Condition::LibraryVersion(version) => client.lib.1 == *version,
            Condition::Flags(letters) => {
                let flags = client.flags();
                letters.iter().all(|letter| flags.as_bytes().contains(letter))
            }
            Condition::Capabilities(letters) => {
                letters.iter().all(|letter| *letter == b'r' && client.redirects)
            }
            Condition::Database(db) => i64::from(client.db.0) == *db,
            Condition::Age(seconds) => now.since(client.since) / 1000 >= *seconds,
            Condition::Idle(seconds) => now.since(client.active) / 1000 >= *seconds,
        }
    }
}

/// The value of `TYPE`.
fn kind_of(name: &[u8]) -> Result<&'static str, Fault> {
    for known in ["normal", "pubsub", "master", "replica"] {
        if name.eq_ignore_ascii_case(known.as_bytes()) {
            return Ok(known);
        }
    }
    if name.eq_ignore_ascii_case(b"slave") {
        return Ok("replica");
    }
    if name.eq_ignore_ascii_case(b"primary") {
        return Ok("master");
    }
    let name = String::from_utf8_lossy(name).into_owned();
    Err(Fault::new(format!("ERR Unknown client type '{name}'")))
}
