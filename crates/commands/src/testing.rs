//! A keyspace and a clock to run commands against in unit tests, without a server.

use larder_base::hash::KeyHasher;
use larder_base::rng::Rng;
use larder_base::time::Millis;
use larder_protocol::reply::{Reply, Version};
use larder_store::{DbIndex, Keyspace, Settings};

use crate::{Args, Command, Context, Flags, Outcome, Run};

/// One keyspace under test.
pub struct Bench {
    /// The data.
    pub keyspace: Keyspace,
    /// The configuration.
    pub settings: Settings,
    /// The present moment, moved by hand.
    pub now: Millis,
    /// The dialect of replies.
    pub version: Version,
    /// The names of the notifications of the last command.
    pub events: Vec<&'static str>,
    /// What a copy would repeat of the last command, words parted by spaces, requests by semicolons.
    pub effects: String,
}

/// Requests in RESP as a person reads them.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let requests = text.split('*').skip(1).map(|request| {
        let words: Vec<&str> = request.split("\r\n").skip(2).step_by(2).collect();
        words.join(" ").trim_end().to_owned()
    });
    requests.collect::<Vec<_>>().join("; ")
}

impl Bench {
    /// An empty keyspace of 16 databases.
    pub fn new() -> Bench {
        let keyspace = Keyspace::new(KeyHasher::new(1, 2), 16);
        keyspace.observe_all(true);
        Bench {
            keyspace,
            settings: Settings::default(),
            now: Millis(1_700_000_000_000),
            version: Version::Resp2,
            events: Vec::new(),
            effects: String::new(),
        }
    }

    /// Runs one command; the answer is its reply as bytes.
    pub fn raw(&mut self, args: &[&[u8]]) -> Vec<u8> {
        let name = String::from_utf8_lossy(args[0]).to_lowercase();
        let mut command: &Command =
            crate::families().find(|row| row.name == name).expect("a command of that name");
        if let Some(sub) = command.subcommands.iter().find(|sub| Args::new(args).is(1, sub.name)) {
            command = sub;
        }
        let Run::Data(handler) = command.run else { panic!("a control command") };
        let view = Args::new(args);
        let mut out = Vec::new();
        if !command.fits(args.len()) {
            return b"-ERR wrong number of arguments\r\n".to_vec();
        }
        let mut located = Vec::new();
        command.key_positions(view, |at| located.push(self.keyspace.locate(args[at])));
        let keys = if command.flags.has(Flags::WHOLE_KEYSPACE) {
            self.keyspace.view_all(&self.settings, DbIndex(0), self.now)
        } else {
            self.keyspace.view(&self.settings, DbIndex(0), &located, self.now)
        };
        let mut rng = Rng::new(7);
        let mut context = Context {
            keys,
            reply: Reply::new(&mut out, self.version),
            effects: crate::Effects::new(true),
            rng: &mut rng,
            settings: &self.settings,
            may_block: true,
            ready: None,
            reply_max: usize::MAX,
        };
        let result = handler(&mut context, view);
        let changes = context.keys.tally.dirty - context.keys.tally.expired;
        let writes = command.flags.has(Flags::WRITE) && matches!(result, Ok(Outcome::Done));
        context.effects.close(if writes { changes } else { 0 }, args);
        self.effects = shown(context.effects.bytes());
        self.events = context
            .keys
            .changes
            .iter()
            .filter_map(|change| match change.what {
                larder_store::What::Event(_, name) if name != "new" && name != "keymiss" => {
                    Some(name)
                }
                _ => None,
            })
            .collect();
        drop(context);
        match result {
            Ok(Outcome::Done) => out,
            Ok(Outcome::Wait(_)) => b"(waits)".to_vec(),
            Err(fault) => {
                format!("-{}\r\n", String::from_utf8_lossy(fault.as_bytes())).into_bytes()
            }
        }
    }

    /// Runs a command of plain words; line ends in the reply are shown as spaces.
    pub fn run(&mut self, line: &str) -> String {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let reply = self.raw(&args);
        String::from_utf8_lossy(&reply).replace("\r\n", " ").trim_end().to_owned()
    }

    /// Runs pairs of a command and its expected reply.
    pub fn script(&mut self, steps: &[(&str, &str)]) {
        for (line, expected) in steps {
            assert_eq!(&self.run(line), expected, "{line}");
        }
    }
}
