//! What a differential run is made of: commands on connections, and how their replies are to be read.
//! It knows nothing of servers.

/// A command's words.
pub type Words = Vec<Vec<u8>>;

/// How the replies of an event are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One reply; pipelined with its neighbours.
    Plain,
    /// May block until another connection serves it.
    Waits,
    /// Any number of replies (subscriptions, CLIENT REPLY): all up to a fence are compared.
    Sealed,
    /// The connection ends.
    Ends,
    /// Nothing is sent for a few milliseconds, so that short deadlines pass on both servers.
    Pause,
}

/// One step.
#[derive(Clone, Debug)]
pub struct Event {
    /// Which connection.
    pub lane: usize,
    /// What is sent.
    pub words: Words,
    /// How it is read.
    pub kind: Kind,
}

/// A command in redis-cli's quoting.
pub fn line(words: &[Vec<u8>]) -> String {
    let quoted = words.iter().map(|word| {
        let plain = !word.is_empty() && word.iter().all(|b| b.is_ascii_graphic() && *b != b'"');
        match std::str::from_utf8(word) {
            Ok(text) if plain => text.to_owned(),
            _ => format!("\"{}\"", word.escape_ascii()),
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// A whole script, in the language of tests/conformance.
pub fn script(events: &[Event]) -> String {
    let mut text = String::new();
    let mut lane = 0;
    for event in events {
        if event.lane != lane {
            lane = event.lane;
            text.push_str(&format!("@conn c{lane}\n"));
        }
        let prefix = match event.kind {
            Kind::Plain | Kind::Ends => "",
            Kind::Waits => "@send ",
            Kind::Sealed => "(all replies) ",
            Kind::Pause => "(pause) ",
        };
        text.push_str(&format!("{prefix}{}\n", line(&event.words)));
    }
    text
}

/// The command's name: two words for those that have subcommands.
pub fn name(words: &[Vec<u8>]) -> String {
    let upper = |at: usize| words.get(at).map(|word| word.to_ascii_uppercase());
    let first = upper(0).unwrap_or_default();
    let text = String::from_utf8_lossy(&first).into_owned();
    match (&first[..], upper(1)) {
        (b"CLIENT" | b"OBJECT" | b"PUBSUB", Some(second)) => {
            format!("{text}|{}", String::from_utf8_lossy(&second))
        }
        _ => text,
    }
}
