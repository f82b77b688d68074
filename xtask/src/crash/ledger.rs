//! What writers sent to a server and what it acknowledged, and the judgement of what is there after its death: a cut of
//! everything that was sent. Of each connection it is a beginning, and over all connections no write is missing that was
//! acknowledged before one was sent that is there. It knows neither files nor modes.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use larder_base::Rng;
use larder_protocol::response::Value;

use crate::process::Client;

/// Connections that write at the same time.
pub const WRITERS: usize = 6;
/// Keys of each.
const KEYS: usize = 40;

/// A write that was sent.
struct Write {
    key: usize,
    value: u64,
    sent: Instant,
    acknowledged: Option<Instant>,
}

/// One writer's keys: what was there at the start, and what was sent since.
pub struct Ledger {
    number: usize,
    base: Vec<u64>,
    last: Vec<u64>,
    writes: Vec<Write>,
}

/// What a server holds, as a cut of what was sent.
#[derive(Default)]
pub struct Cut {
    /// Acknowledged writes, and those of them that are not there.
    pub acknowledged: u64,
    pub lost: u64,
    /// When the last of what is there was sent.
    pub latest_in: Option<Instant>,
    /// When the first of what is not there was acknowledged.
    pub earliest_out: Option<Instant>,
    /// When the last of all was acknowledged.
    pub last_acknowledged: Option<Instant>,
    /// Whether something is there that was not there at the start before.
    pub moved: bool,
}

impl Cut {
    /// How long before a moment the oldest acknowledged write that is not there was acknowledged.
    pub fn oldest_lost(&self, before: Instant) -> Option<Duration> {
        self.earliest_out.map(|moment| before.saturating_duration_since(moment))
    }
}

impl Ledger {
    /// Ledgers for an empty server.
    pub fn fresh() -> Vec<Ledger> {
        let one = |number| Ledger {
            number,
            base: vec![0; KEYS],
            last: vec![0; KEYS],
            writes: Vec::new(),
        };
        (0..WRITERS).map(one).collect()
    }

    /// A write is about to be sent; its value.
    fn send(&mut self, key: usize) -> Option<u64> {
        let last = self.last.get_mut(key)?;
        *last += 1;
        let value = *last;
        self.writes.push(Write { key, value, sent: Instant::now(), acknowledged: None });
        Some(value)
    }

    fn acknowledge(&mut self) {
        if let Some(write) = self.writes.last_mut() {
            write.acknowledged = Some(Instant::now());
        }
    }

    /// The last write was refused: it must not be there.
    fn take_back(&mut self) {
        let Some(write) = self.writes.pop() else { return };
        if let Some(last) = self.last.get_mut(write.key) {
            *last -= 1;
        }
    }

    /// What a server said after a moment counts for nothing: it had no power any more.
    pub fn forget_after(&mut self, moment: Instant) {
        for write in &mut self.writes {
            write.acknowledged = write.acknowledged.filter(|when| *when <= moment);
        }
    }

    /// Compares with what a server holds, and goes on from there.
    fn settle(&mut self, client: &mut Client, cut: &mut Cut) -> Result<()> {
        let mut found = Vec::with_capacity(KEYS);
        for key in 0..KEYS {
            let name = format!("w{}:{key}", self.number);
            found.push(match client.call(&["GET", &name])? {
                Value::Bulk(text) => String::from_utf8_lossy(&text).parse::<u64>()?,
                Value::Null => 0,
                other => bail!("{name}: {other:?}"),
            });
        }
        for (key, ((found, base), last)) in found.iter().zip(&self.base).zip(&self.last).enumerate()
        {
            let name = format!("w{}:{key}", self.number);
            ensure!(found <= last, "{name} is {found}, though only {last} was sent");
            ensure!(found >= base, "{name} is {found}, though {base} was there at the last start");
            cut.moved |= found > base;
        }
        let mut missing: Option<&Write> = None;
        for write in &self.writes {
            cut.acknowledged += u64::from(write.acknowledged.is_some());
            cut.last_acknowledged = cut.last_acknowledged.max(write.acknowledged);
            if found.get(write.key).is_none_or(|found| write.value > *found) {
                cut.lost += u64::from(write.acknowledged.is_some());
                cut.earliest_out = earlier(cut.earliest_out, write.acknowledged);
                missing.get_or_insert(write);
                continue;
            }
            if let Some(missing) = missing {
                bail!(
                    "w{}:{} has {}, which was sent after {} of w{0}:{}, which is missing",
                    self.number,
                    write.key,
                    write.value,
                    missing.value,
                    missing.key
                );
            }
            cut.latest_in = cut.latest_in.max(Some(write.sent));
        }
        self.writes.clear();
        self.last.clone_from(&found);
        self.base = found;
        Ok(())
    }
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Compares all ledgers with what a server holds; they then go on from what is there.
pub fn settle(client: &mut Client, ledgers: &mut [Ledger]) -> Result<Cut> {
    let mut cut = Cut::default();
    for ledger in ledgers {
        ledger.settle(client, &mut cut)?;
    }
    if let (Some(within), Some(without)) = (cut.latest_in, cut.earliest_out) {
        ensure!(
            within <= without,
            "what is there is no cut: it has a write sent {:?} after one was acknowledged that is missing",
            within.saturating_duration_since(without)
        );
    }
    Ok(cut)
}

/// How a writer's work ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to end, or the server is gone.
    Quietly,
    /// A write was refused with an error that it may not give.
    Refused(String),
}

/// Writes growing numbers until `go_on` says no or the server is gone. Refusals of a server whose disk fails are taken
/// as they are: such a write must not be there later.
pub fn write(
    client: &mut Client,
    ledger: &Mutex<Ledger>,
    rng: &mut Rng,
    go_on: &dyn Fn() -> bool,
) -> Ended {
    while go_on() {
        let key = rng.below_usize(KEYS);
        let Ok(mut locked) = ledger.lock() else { return Ended::Quietly };
        let name = format!("w{}:{key}", locked.number);
        let Some(value) = locked.send(key) else { return Ended::Quietly };
        drop(locked);
        // Half of them as increments: a write repeated twice would show.
        let answer = if rng.below(2) == 0 {
            client.call(&["SET", &name, &value.to_string()])
        } else {
            client.call(&["INCR", &name])
        };
        let Ok(answer) = answer else { return Ended::Quietly };
        let Ok(mut locked) = ledger.lock() else { return Ended::Quietly };
        match answer {
            Value::Error(text) if text.starts_with(b"MISCONF") => {
                locked.take_back();
                drop(locked);
                std::thread::sleep(Duration::from_millis(1));
            }
            Value::Error(text) => {
                return Ended::Refused(format!("{name}: {}", String::from_utf8_lossy(&text)));
            }
            Value::Integer(number) if u64::try_from(number) != Ok(value) => {
                return Ended::Refused(format!("{name}: {number} instead of {value}"));
            }
            _ => locked.acknowledge(),
        }
    }
    Ended::Quietly
}
