//! Lives of a log on a simulated disk: random work (appending, forcing to disk, rewriting, ending, starting
//! again), a fault at any one operation, any outcome of a power cut, and then the question what is left. What a
//! command does here is to say its number, so that the state is how many there were: a loss, a hole, a
//! doubled command or a half transaction shows at once. One seed decides everything.

use std::io::{self, BufRead, Write};

use larder_base::Rng;
use larder_store::{Payload, Thresholds};

use super::load::{LoadError, Loaded, Repeat, load};
use super::log::{LogError, LogReason, encode_command};
use super::set::{LogSet, SetError, TEMPORARY};
use crate::disk::simulated::{Fault, SimulatedDisk};
use crate::disk::{Disk, DiskWriter};
use crate::rdb::{Item, Options, Reader, Writer};

const PREFIX: &str = "log.aof";

/// What was tried.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Moments at which something failed, times the outcomes looked at.
    pub points: u64,
    /// Of these, power cuts.
    pub cuts: u64,
    /// Errors, full disks and short writes that were lived through.
    pub faults: u64,
    /// Ends that were found torn, and cut.
    pub torn: u64,
}

/// Lives the life of this seed once for each of its operations, with a fault there.
///
/// # Errors
/// What was lost, invented, or could not be started.
pub fn try_all(seed: u64, outcomes: u64, tally: &mut Tally) -> Result<(), String> {
    let whole = Life::new(seed, SimulatedDisk::new());
    let operations = whole.live()?.disk.operations();
    for at in 0..operations {
        for fault in [Fault::PowerCut, Fault::Error, Fault::Short] {
            let disk = SimulatedDisk::new();
            disk.fail_at(at, fault);
            let place = |text: String| format!("seed {seed}, {fault:?} at operation {at}: {text}");
            let life = Life::new(seed, disk).live().map_err(place)?;
            if fault != Fault::PowerCut {
                tally.faults += 1;
            }
            for outcome in 0..outcomes {
                let mut rng = Rng::new(seed ^ (at << 20) ^ (outcome << 40));
                let disk = life.disk.after_power_cut(&mut rng);
                tally.points += 1;
                tally.cuts += 1;
                let place = |text: String| {
                    format!("seed {seed}, {fault:?} at operation {at}, outcome {outcome}: {text}")
                };
                life.check(&disk, &mut rng, tally).map_err(place)?;
            }
        }
    }
    Ok(())
}

/// The work of one server, and what it has promised.
struct Life {
    disk: SimulatedDisk,
    rng: Rng,
    /// What every random choice of files' sums begins with; none: no notes.
    notes: Option<u64>,
    /// Commands handed over so far.
    sent: u64,
    /// Commands that were said to be on disk.
    promised: u64,
    /// Commands by number of their last one, as they were handed over.
    units: Vec<(u64, Vec<u8>)>,
}

impl Life {
    fn new(seed: u64, disk: SimulatedDisk) -> Life {
        let mut rng = Rng::new(seed);
        let notes = Some(rng.next_u64());
        Life { disk, rng, notes, sent: 0, promised: 0, units: Vec::new() }
    }

    /// Lives until its end or the power's.
    fn live(mut self) -> Result<Life, String> {
        for _ in 0..2 {
            match self.run() {
                Ok(()) => {}
                Err(End::Disk) if self.disk.is_powerless() => return Ok(self),
                // A start that failed: the next one succeeds, since each fault comes once.
                Err(End::Disk) => {
                    self.run().map_err(|end| format!("the second start: {end:?}"))?;
                }
                Err(End::Wrong(text)) => return Err(text),
            }
        }
        Ok(self)
    }

    /// From a start to an end, orderly or not.
    fn run(&mut self) -> Result<(), End> {
        let (set, found) = start(&self.disk, self.notes, &mut Tally::default())?;
        if found < self.promised || found > self.sent {
            let (promised, sent) = (self.promised, self.sent);
            let text = format!("{found} commands found, {promised} promised, {sent} sent");
            return Err(End::Wrong(text));
        }
        // What was sent and not promised may be gone; its numbers are used again.
        (self.sent, self.promised) = (found, found);
        self.units.clear();
        let mut set = set;
        if set.manifest().base.is_none() && set.increment() == 0 {
            self.first_start(&mut set)?;
        }
        let mut rewrite: Option<Rewrite> = None;
        for _ in 0..6 + self.rng.below(10) {
            self.step(&mut set, &mut rewrite)?;
        }
        if self.rng.below(2) == 0 {
            self.promised = self.until_it_works(&mut set, LogSet::close)?;
        }
        Ok(())
    }

    /// Nothing may be promised before the first base and increment are there.
    fn first_start(&mut self, set: &mut LogSet<SimulatedDisk>) -> Result<(), End> {
        write_base(&self.disk, "temp-rewriteaof-first", self.sent)?;
        set.begin_anew(self.sent)?;
        set.install_base("temp-rewriteaof-first", true, set.increment())?;
        set.collect()?;
        Ok(())
    }

    fn step(
        &mut self,
        set: &mut LogSet<SimulatedDisk>,
        rewrite: &mut Option<Rewrite>,
    ) -> Result<(), End> {
        match self.rng.below(9) {
            0..=3 => {
                for _ in 0..=self.rng.below(4) {
                    self.unit();
                }
                self.until_it_works(set, |_| Ok(0))?;
            }
            4 => {
                self.until_it_works(set, |set| set.flush().map(|()| 0))?;
            }
            5 | 6 => {
                self.promised = self.until_it_works(set, LogSet::sync)?;
            }
            7 => {
                self.until_it_works(set, |set| set.confirm().map(|()| 0))?;
            }
            _ => match rewrite.take() {
                None => {
                    // The cut: everything so far is in the snapshot.
                    let cut = self.sent;
                    let rolled = self.until_it_works(set, LogSet::sync).is_ok();
                    if rolled && set.roll(cut).is_ok() {
                        *rewrite = Some(Rewrite { cut, from: set.increment() });
                    }
                }
                Some(Rewrite { cut, from }) => {
                    let name = format!("{TEMPORARY}{cut}");
                    // A rewrite that fails leaves everything as it was.
                    let written = write_base(&self.disk, &name, cut);
                    let _ = written
                        .and_then(|()| set.install_base(&name, true, from))
                        .and_then(|()| set.collect());
                }
            },
        }
        if self.disk.is_powerless() { Err(End::Disk) } else { Ok(()) }
    }

    /// Hands over what the log lacks and does something, mending until it works.
    fn until_it_works(
        &mut self,
        set: &mut LogSet<SimulatedDisk>,
        act: impl Fn(&mut LogSet<SimulatedDisk>) -> io::Result<u64>,
    ) -> Result<u64, End> {
        for _ in 0..20 {
            let worked = set.mend().and_then(|from| {
                for (mark, bytes) in self.units.iter().filter(|(mark, _)| *mark > from) {
                    set.append(bytes, *mark)?;
                }
                act(set)
            });
            match worked {
                Ok(mark) => return Ok(mark),
                Err(_) if self.disk.is_powerless() => return Err(End::Disk),
                Err(_) => {}
            }
        }
        Err(End::Wrong("it cannot be mended".to_owned()))
    }

    /// One command, or a transaction.
    fn unit(&mut self) {
        let mut bytes = Vec::new();
        let count = match self.rng.below(4) {
            0 => 1 + self.rng.below(3),
            _ => 1,
        };
        let transaction = count > 1;
        if transaction {
            encode_command(&mut bytes, &[b"MULTI"]);
        }
        for _ in 0..count {
            self.sent += 1;
            let number = self.sent.to_string();
            let len = match self.rng.below(3) {
                0 => 2000,
                1 => 100,
                _ => 10,
            };
            // As long as the number says; zeros look like what a power cut leaves.
            let filling =
                vec![if self.rng.below(8) == 0 { 0 } else { b'x' }; self.rng.below_usize(len)];
            encode_command(&mut bytes, &[number.as_bytes(), &filling, sum(&filling).as_bytes()]);
        }
        if transaction {
            encode_command(&mut bytes, &[b"EXEC"]);
        }
        self.units.push((self.sent, bytes));
    }

    /// What is left starts, holds what was promised, and lives on, through a second end too.
    fn check(&self, disk: &SimulatedDisk, rng: &mut Rng, tally: &mut Tally) -> Result<(), String> {
        let next = Life {
            disk: disk.clone(),
            rng: Rng::new(rng.next_u64()),
            notes: self.notes,
            sent: self.sent,
            promised: self.promised,
            units: Vec::new(),
        };
        let mut found = Tally::default();
        if rng.below(8) > 0 {
            let (_, count) =
                start(disk, self.notes, &mut found).map_err(|end| format!("{end:?}"))?;
            tally.torn += found.torn;
            if count < self.promised || count > self.sent {
                let (promised, sent) = (self.promised, self.sent);
                return Err(format!("{count} commands found, {promised} promised, {sent} sent"));
            }
            return Ok(());
        }
        let next = next.live().map_err(|text| format!("the next life: {text}"))?;
        let disk = next.disk.after_power_cut(rng);
        let (_, count) = start(&disk, self.notes, &mut found)
            .map_err(|end| format!("the third start: {end:?}"))?;
        if count < next.promised || count > next.sent {
            let (promised, sent) = (next.promised, next.sent);
            return Err(format!("then {count} commands found, {promised} promised, {sent} sent"));
        }
        Ok(())
    }
}

#[derive(Debug)]
enum End {
    /// The disk failed at a moment when a server ends, too.
    Disk,
    /// What must not be.
    Wrong(String),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> End {
        End::Disk
    }
}

struct Rewrite {
    cut: u64,
    from: u64,
}

/// Starts, as a server does; returns the log and the number of the last command.
fn start(
    disk: &SimulatedDisk,
    notes: Option<u64>,
    tally: &mut Tally,
) -> Result<(LogSet<SimulatedDisk>, u64), End> {
    let failed = |error: String| {
        if disk.is_powerless() { End::Disk } else { End::Wrong(error) }
    };
    let io_or = |error: SetError| match error {
        SetError::Io(..) => End::Disk,
        SetError::Manifest(..) => failed(error.to_string()),
    };
    let Some(mut set) = LogSet::open(disk.clone(), PREFIX, notes).map_err(io_or)? else {
        return Ok((LogSet::fresh(disk.clone(), PREFIX, notes).map_err(io_or)?, 0));
    };
    let mut counter = Counter::default();
    let loaded = load(&set, true, &mut counter).map_err(|error| match error {
        LoadError::Io(..) | LoadError::Log(_, LogError { reason: LogReason::Io(_), .. }) => {
            End::Disk
        }
        other => failed(other.to_string()),
    })?;
    tally.torn += u64::from(loaded.warning.is_some());
    let Loaded { last, cut, .. } = loaded;
    let cut = cut.as_ref().map(|(name, len)| (name.as_str(), *len));
    set.resume(last.as_ref(), cut, counter.count, "trial")?;
    set.collect()?;
    Ok((set, counter.count))
}

fn write_base(disk: &SimulatedDisk, name: &str, count: u64) -> io::Result<()> {
    let other = |error| io::Error::other(format!("{error}"));
    let mut writer = Writer::new(Vec::new(), Options::default()).map_err(other)?;
    writer.select(0).map_err(other)?;
    writer.entry(count.to_string().as_bytes(), None, None, &Payload::Int(1)).map_err(other)?;
    let bytes = writer.finish().map_err(other)?;
    let mut file = disk.create(name)?;
    for piece in bytes.chunks(40) {
        file.write_all(piece)?;
    }
    file.sync()
}

/// A text's own length and sum, by which damage shows.
fn sum(filling: &[u8]) -> String {
    format!("{}:{}", filling.len(), filling.iter().map(|byte| u64::from(*byte)).sum::<u64>())
}

/// Counts what is repeated.
#[derive(Default)]
struct Counter {
    count: u64,
    transaction: Option<u64>,
}

impl Repeat for Counter {
    fn snapshot<R: BufRead>(&mut self, _: &str, source: &mut R) -> Result<u64, String> {
        let fail = |error: crate::rdb::Error| error.to_string();
        let mut reader = Reader::new(source, &Thresholds::default()).map_err(fail)?;
        while let Some(item) = reader.next_item().map_err(fail)? {
            if let Item::Entry(entry) = item {
                let number = larder_base::number::parse_u64(&entry.key);
                self.count = number.ok_or("a base that is none")?;
            }
        }
        Ok(reader.offset())
    }

    fn command(&mut self, args: &[Vec<u8>]) -> Result<(), String> {
        let name = args.first().ok_or("no name")?;
        match (name.as_slice(), args.get(1), args.get(2)) {
            (b"MULTI", ..) => self.transaction = Some(self.count),
            (b"EXEC", ..) => self.transaction = None,
            (number, Some(filling), Some(written)) => {
                let number = larder_base::number::parse_u64(number).ok_or("no number")?;
                if number != self.count + 1 {
                    return Err(format!("command {number} follows {}", self.count));
                }
                if sum(filling).as_bytes() != written.as_slice() {
                    return Err(format!("command {number} is damaged"));
                }
                self.count = number;
            }
            _ => return Err("an unknown command".to_owned()),
        }
        Ok(())
    }

    fn give_up_transaction(&mut self) {
        if let Some(before) = self.transaction.take() {
            self.count = before;
        }
    }

    fn progress(&mut self, _: &str, _: u64) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_fault_at_any_moment_loses_what_was_promised() {
        let mut tally = Tally::default();
        for seed in 0..40 {
            try_all(seed, 3, &mut tally).unwrap();
        }
        assert!(tally.points > 10_000 && tally.torn > 100, "{tally:?}");
    }
}
