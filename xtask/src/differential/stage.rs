//! Both servers side by side: plays events on both and compares every reply. Connections take turns, so
//! that the order of what happens is the same on both. It knows nothing of how events are made.
//!
//! A connection that may be blocked is released by CLIENT UNBLOCK before it goes on. One that may have
//! been sent messages is drained up to a fence, a PING with a text of its own, before anything else.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result};
use larder_protocol::encode::encode_command;

use super::compare::{difference, shown};
use super::coverage::Coverage;
use super::event::{Event, Kind, Words, line};
use super::waivers::Waivers;
use super::wire::{Wire, elements, is_by_pattern, is_message};
use crate::process::Server;

/// Events in one write.
const BATCH: usize = 500;
/// Length of a pause: longer than the short deadlines that the generator sets.
const PAUSE: Duration = Duration::from_millis(4);
const FENCE: &[u8] = b"~fence~";
/// Pauses granted to a message that has not come yet.
const LATE: usize = 5;

/// The two servers.
pub struct Servers {
    /// Larder.
    pub ours: Server,
    /// redis-server.
    pub oracle: Server,
}

/// Two replies that should be one.
pub struct Difference {
    /// The event whose reply it is.
    pub at: usize,
    /// What was sent.
    pub words: Words,
    ours: String,
    oracle: String,
}

impl Difference {
    /// For a report.
    pub fn text(&self) -> String {
        let (ours, oracle) = (&self.ours, &self.oracle);
        format!("   {}\n   Larder {ours}\n   Redis  {oracle}\n", line(&self.words))
    }
}

/// A connection to each server.
struct Lane {
    wires: [Wire; 2],
    ids: [Vec<u8>; 2],
    /// Commands queued since MULTI.
    queued: Option<Vec<Words>>,
    /// Messages may come.
    noisy: bool,
    /// Those that came and were not compared yet.
    messages: [Vec<Vec<u8>>; 2],
    /// A command that may be blocked.
    waiting: Option<Words>,
}

/// Connections to both servers, which were emptied.
pub struct Stage<'s> {
    servers: &'s Servers,
    waivers: &'s Waivers,
    version: &'static str,
    wait: Duration,
    control: [Wire; 2],
    lanes: Vec<Lane>,
    found: Option<Difference>,
    /// What was compared.
    pub coverage: Coverage,
}

impl<'s> Stage<'s> {
    /// Empties both servers and connects to them.
    pub fn open(
        servers: &'s Servers,
        waivers: &'s Waivers,
        version: &'static str,
        lanes: usize,
        wait: Duration,
    ) -> Result<Stage<'s>> {
        let control = [Wire::open(&servers.ours, wait)?, Wire::open(&servers.oracle, wait)?];
        let coverage = Coverage::default();
        let (found, lanes_max) = (None, lanes);
        let lanes = Vec::new();
        let mut stage = Stage { servers, waivers, version, wait, control, lanes, found, coverage };
        for wire in &mut stage.control {
            wire.send(&encoded(&[b"FLUSHALL"]))?;
            wire.frame()?;
        }
        for _ in 0..lanes_max {
            let lane = stage.connect()?;
            stage.lanes.push(lane);
        }
        Ok(stage)
    }

    fn connect(&self) -> Result<Lane> {
        let (ours, oracle) = (&self.servers.ours, &self.servers.oracle);
        let mut wires = [Wire::open(ours, self.wait)?, Wire::open(oracle, self.wait)?];
        let mut ids = [Vec::new(), Vec::new()];
        for (wire, id) in wires.iter_mut().zip(&mut ids) {
            wire.send(&encoded(&[b"HELLO", self.version.as_bytes()]))?;
            wire.send(&encoded(&[b"CLIENT", b"ID"]))?;
            wire.frame()?;
            let reply = wire.frame()?;
            let reply = wire.bytes(&reply);
            *id = reply[1..reply.len() - 2].to_vec();
        }
        Ok(Lane {
            wires,
            ids,
            queued: None,
            noisy: false,
            messages: Default::default(),
            waiting: None,
        })
    }

    /// Plays events up to the first difference.
    pub fn play(&mut self, events: &[Event]) -> Result<Option<Difference>> {
        let mut at = 0;
        while at < events.len() {
            let len = group(&events[at..]);
            self.group(at, &events[at..at + len])
                .with_context(|| format!("at {}", line(&events[at].words)))?;
            if self.found.is_some() {
                return Ok(self.found.take());
            }
            at += len;
        }
        for lane in 0..self.lanes.len() {
            self.settle(lane, events.len())?;
        }
        Ok(self.found.take())
    }

    /// Leaves nothing behind on the servers: no subscription, nobody blocked.
    pub fn close(&mut self) -> Result<()> {
        for lane in &mut self.lanes {
            for side in 0..2 {
                let unblock = encoded(&[b"CLIENT", b"UNBLOCK", &lane.ids[side]]);
                self.control[side].send(&unblock)?;
                self.control[side].frame()?;
                lane.wires[side].send(&encoded(&[b"CLIENT", b"REPLY", b"ON"]))?;
                lane.wires[side].send(&encoded(&[b"RESET"]))?;
                while let Some(frame) = lane.wires[side].next()? {
                    if lane.wires[side].bytes(&frame) == b"+RESET\r\n" {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn group(&mut self, at: usize, events: &[Event]) -> Result<()> {
        let first = &events[0];
        self.settle(first.lane, at)?;
        if self.swaps(events) {
            for lane in 0..self.lanes.len() {
                self.settle(lane, at)?;
            }
        }
        if self.found.is_some() {
            return Ok(());
        }
        match first.kind {
            Kind::Pause => std::thread::sleep(PAUSE),
            Kind::Plain => self.plain(at, events)?,
            Kind::Waits => self.waits(at, first)?,
            Kind::Sealed => self.sealed(at, events)?,
            Kind::Ends => {
                self.sealed(at, events)?;
                self.lanes[first.lane] = self.connect()?;
            }
        }
        Ok(())
    }

    /// Whether databases may be swapped now. Which of several keys that come so serves who waits for them is left to
    /// chance in Redis (the order of a table that is keyed at random), so nobody may wait then.
    fn swaps(&self, events: &[Event]) -> bool {
        let is = |words: &Words, name: &[u8]| words.first().is_some_and(|word| word == name);
        events.iter().any(|event| {
            let queued = self.lanes[event.lane].queued.iter().flatten();
            is(&event.words, b"SWAPDB")
                || is(&event.words, b"EXEC") && queued.into_iter().any(|words| is(words, b"SWAPDB"))
        })
    }

    fn plain(&mut self, at: usize, events: &[Event]) -> Result<()> {
        let mut bytes = Vec::new();
        for event in events {
            encode_command(&mut bytes, &event.words);
        }
        let lane = events[0].lane;
        self.send(lane, &bytes)?;
        let words: Vec<&Words> = events.iter().map(|event| &event.words).collect();
        self.read(lane, at, &words)
    }

    /// The PING's reply says that the command behind it, in the same write, was met too.
    fn waits(&mut self, at: usize, event: &Event) -> Result<()> {
        let ping = vec![b"PING".to_vec()];
        let mut bytes = Vec::new();
        encode_command(&mut bytes, &ping);
        encode_command(&mut bytes, &event.words);
        self.send(event.lane, &bytes)?;
        if self.lanes[event.lane].queued.is_some() {
            return self.read(event.lane, at, &[&ping, &event.words]);
        }
        self.lanes[event.lane].waiting = Some(event.words.clone());
        self.read(event.lane, at, &[&ping])
    }

    /// Releases the connection, if it is blocked, and takes the messages sent to it. What others did up to here may be
    /// why its answer differs: the difference is found at this event, not where it began to wait.
    fn settle(&mut self, lane: usize, at: usize) -> Result<()> {
        if let Some(words) = self.lanes[lane].waiting.take() {
            for side in 0..2 {
                self.control[side].forget();
                let unblock = encoded(&[b"CLIENT", b"UNBLOCK", &self.lanes[lane].ids[side]]);
                self.control[side].send(&unblock)?;
            }
            let [ours, oracle] = &mut self.control;
            let (left, right) = (ours.frame()?, oracle.frame()?);
            let unblock = vec![b"CLIENT".to_vec(), b"UNBLOCK".to_vec(), b"of".to_vec()];
            let (left, right) = (ours.bytes(&left), oracle.bytes(&right));
            self.coverage.compared += 1;
            self.coverage.count(&unblock, right);
            if let Some((ours, oracle)) = difference(&unblock, left, right) {
                let words = [unblock, words].concat();
                self.found = Some(Difference { at, words, ours, oracle });
                return Ok(());
            }
            self.read(lane, at, &[&words])?;
        }
        if self.lanes[lane].noisy && self.found.is_none() {
            self.end_transaction(lane, at)?;
            self.send(lane, &encoded(&[b"PING", FENCE]))?;
            self.fenced(lane, at, &[])?;
        }
        Ok(())
    }

    fn end_transaction(&mut self, lane: usize, at: usize) -> Result<()> {
        if self.lanes[lane].queued.is_some() {
            let exec = vec![b"EXEC".to_vec()];
            self.send(lane, &encoded(&[b"EXEC"]))?;
            self.read(lane, at, &[&exec])?;
        }
        Ok(())
    }

    fn sealed(&mut self, at: usize, events: &[Event]) -> Result<()> {
        let lane = events[0].lane;
        self.end_transaction(lane, at)?;
        if self.found.is_some() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        for event in events {
            encode_command(&mut bytes, &event.words);
        }
        let fence = vec![b"PING".to_vec(), FENCE.to_vec()];
        if events[0].kind == Kind::Sealed {
            self.lanes[lane].noisy = true;
            encode_command(&mut bytes, &fence);
        }
        self.send(lane, &bytes)?;
        let words: Vec<&Words> = events.iter().map(|event| &event.words).collect();
        self.fenced(lane, at, &words)
    }

    fn send(&mut self, lane: usize, bytes: &[u8]) -> Result<()> {
        for wire in &mut self.lanes[lane].wires {
            wire.forget();
            wire.send(bytes)?;
        }
        Ok(())
    }

    /// Reads as many replies as commands, with the messages between them.
    fn read(&mut self, lane: usize, at: usize, words: &[&Words]) -> Result<()> {
        let mut frames = [Vec::with_capacity(words.len()), Vec::new()];
        let Lane { wires, messages, .. } = &mut self.lanes[lane];
        for ((wire, frames), messages) in wires.iter_mut().zip(&mut frames).zip(messages) {
            while let Some(command) = words.get(frames.len()) {
                let frame =
                    wire.frame().with_context(|| format!("as reply to {}", line(command)))?;
                match is_message(wire.bytes(&frame)) {
                    true => messages.push(wire.bytes(&frame).to_vec()),
                    false => frames.push(frame),
                }
            }
        }
        self.compare(lane, at, words, &frames)
    }

    /// Reads up to the fence or the connection's end; compares the messages that came since the last.
    fn fenced(&mut self, lane: usize, at: usize, words: &[&Words]) -> Result<()> {
        let mut frames = [Vec::new(), Vec::new()];
        let Lane { wires, messages, .. } = &mut self.lanes[lane];
        for ((wire, frames), messages) in wires.iter_mut().zip(&mut frames).zip(messages) {
            while let Some(frame) = wire.next()? {
                let bytes = wire.bytes(&frame);
                match is_message(bytes) {
                    _ if bytes.windows(FENCE.len()).any(|part| part == FENCE) => break,
                    true => messages.push(bytes.to_vec()),
                    false => frames.push(frame),
                }
            }
        }
        self.compare(lane, at, words, &frames)?;
        self.compare_messages(lane, at)
    }

    /// Whether a message comes before the reply that is written at the same time is left open, so they
    /// are compared apart; so is the order in which the patterns of one client are met.
    fn compare_messages(&mut self, lane: usize, at: usize) -> Result<()> {
        for _ in 0..LATE {
            let counts = self.lanes[lane].messages.each_ref().map(Vec::len);
            let Some(late) = (0..2).find(|side| counts[*side] < counts[1 - *side]) else { break };
            std::thread::sleep(PAUSE);
            let Lane { wires, messages, .. } = &mut self.lanes[lane];
            wires[late].send(&encoded(&[b"PING", FENCE]))?;
            while let Some(frame) = wires[late].next()? {
                let bytes = wires[late].bytes(&frame);
                if bytes.windows(FENCE.len()).any(|part| part == FENCE) {
                    break;
                }
                messages[late].push(bytes.to_vec());
            }
        }
        let [ours, oracle] = self.lanes[lane].messages.each_mut().map(std::mem::take).map(|all| {
            let (mut patterns, others): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|message| is_by_pattern(message));
            patterns.sort();
            [others, patterns].concat()
        });
        self.coverage.compared += oracle.len();
        let place = |side: &[Vec<u8>], at: usize| shown(&[], side.get(at).map_or(b"", |m| m));
        if let Some(first) =
            (0..ours.len().max(oracle.len())).find(|n| ours.get(*n) != oracle.get(*n))
            && self.found.is_none()
        {
            let words = vec![b"MESSAGES".to_vec()];
            let (ours, oracle) = (place(&ours, first), place(&oracle, first));
            self.found = Some(Difference { at, words, ours, oracle });
        }
        Ok(())
    }

    fn compare(
        &mut self,
        lane: usize,
        at: usize,
        words: &[&Words],
        frames: &[Vec<Range<usize>>; 2],
    ) -> Result<()> {
        let none = Words::new();
        let [ours, oracle] = frames;
        for position in 0..ours.len().max(oracle.len()) {
            let Lane { wires: [left, right], queued, .. } = &mut self.lanes[lane];
            let left = ours.get(position).map_or(&b""[..], |range| left.bytes(range));
            let right = oracle.get(position).map_or(&b""[..], |range| right.bytes(range));
            let number = position.min(words.len().max(1) - 1);
            let words = words.get(number).copied().unwrap_or(&none);
            let event = at + number;
            self.coverage.compared += 1;
            let unequal =
                if right.first() == Some(&b'*') && words.first().is_some_and(|w| w == b"EXEC") {
                    let queued = queued.take().unwrap_or_default();
                    exec(&queued, left, right, &mut self.coverage)?
                } else {
                    difference(words, left, right).map(|pair| (words.clone(), pair))
                };
            if let Some((words, (ours, oracle))) = unequal
                && !self.waivers.cover(&words, &ours, &oracle)
            {
                self.found = Some(Difference { at: event, words, ours, oracle });
                return Ok(());
            }
            note(queued, words, right);
            if right != b"+QUEUED\r\n" {
                self.coverage.count(words, right);
            }
        }
        Ok(())
    }
}

/// How many of the events belong into one write.
fn group(events: &[Event]) -> usize {
    let first = &events[0];
    // Alone: what answers as often as there are subscriptions, so that all of it is known as its reply, and
    // what changes how messages are written, so that those before it are read first.
    let alone = |event: &Event| match &event.words[0][..] {
        b"UNSUBSCRIBE" | b"PUNSUBSCRIBE" | b"SUNSUBSCRIBE" => event.words.len() == 1,
        b"RESET" | b"HELLO" => true,
        _ => false,
    };
    if alone(first) {
        return 1;
    }
    let most = match first.kind {
        Kind::Plain => BATCH,
        // Whole, or the end of a silence would be cut off.
        Kind::Sealed => usize::MAX,
        Kind::Waits | Kind::Ends | Kind::Pause => 1,
    };
    let same =
        |event: &&Event| event.lane == first.lane && event.kind == first.kind && !alone(event);
    events.iter().take(most).take_while(same).count()
}

/// What a reply tells of the connection's transaction.
fn note(queued: &mut Option<Vec<Words>>, words: &Words, reply: &[u8]) {
    match (words.first().map_or(&b""[..], |word| word), reply) {
        (_, b"+QUEUED\r\n") => {
            if let Some(queued) = queued {
                queued.push(words.clone());
            }
        }
        (b"MULTI", b"+OK\r\n") => *queued = Some(Vec::new()),
        (b"DISCARD", b"+OK\r\n") | (b"RESET", b"+RESET\r\n") => *queued = None,
        (b"EXEC", [b'*' | b'_', ..]) => *queued = None,
        (b"EXEC", error) if error.starts_with(b"-EXECABORT") => *queued = None,
        _ => {}
    }
}

type Unequal = Option<(Words, (String, String))>;

/// Compares the replies of a transaction, each as its command's.
fn exec(queued: &[Words], ours: &[u8], oracle: &[u8], coverage: &mut Coverage) -> Result<Unequal> {
    let (left, right) = (elements(ours)?, elements(oracle)?);
    let exec = vec![b"EXEC".to_vec()];
    if left.len() != right.len() || right.len() != queued.len() {
        let same = ours == oracle;
        let texts = || (shown(&exec, ours), shown(&exec, oracle));
        return Ok((!same).then(|| (exec.clone(), texts())));
    }
    for ((left, right), words) in left.into_iter().zip(right).zip(queued) {
        let (left, right) = (&ours[left], &oracle[right]);
        if let Some(texts) = difference(words, left, right) {
            return Ok(Some((words.clone(), texts)));
        }
        coverage.count(words, right);
    }
    Ok(None)
}

fn encoded(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_command(&mut bytes, words);
    bytes
}
