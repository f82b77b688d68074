//! The load of a comparison: requests with fresh random keys, and the connections that carry them.
//!
//! A pipeline is encoded once with places for digits, and those are written anew before each sending: a
//! few nanoseconds a request, so that the generator keeps any server busy and no server meets the same
//! keys again soon. It knows nothing of servers but their address.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use larder_base::rng::Rng;
use larder_net::{Event, Interest, Reactor, Token, Wait};
use larder_protocol::encode::encode_command;

/// A kind of load: its name, and the line ends of one reply.
#[derive(Clone, Copy)]
pub struct Workload {
    /// Its name.
    pub name: &'static str,
    lines: usize,
}

const fn workload(name: &'static str, lines: usize) -> Workload {
    Workload { name, lines }
}

/// All kinds of load.
pub const WORKLOADS: &[Workload] = &[
    workload("get", 2),
    workload("set", 1),
    workload("incr", 1),
    workload("hset", 1),
    workload("lpush", 1),
    workload("zadd", 1),
    workload("mget10", 21),
    workload("hot-get", 2),
    workload("hot-set", 1),
    workload("miss", 1),
    workload("ping", 1),
];

/// Stands for a digit in the words of a template; no word contains it otherwise.
const HOLE: u8 = b'#';

/// Digits of one number, drawn anew for each sending.
struct Place {
    at: usize,
    digits: usize,
    below: u64,
}

/// A pipeline of requests with its places.
pub struct Pipeline {
    bytes: Vec<u8>,
    places: Vec<Place>,
    lines: usize,
}

impl Pipeline {
    /// `depth` requests over `keys` keys.
    pub fn new(workload: Workload, depth: usize, keys: u64) -> Pipeline {
        // Few enough that each collection fills, many enough that none grows large.
        let groups = (keys / 10).max(1);
        let value = "y".repeat(32);
        let key = "key:000#########";
        let (words, bounds): (Vec<&str>, Vec<u64>) = match workload.name {
            "get" => (vec!["GET", key], vec![keys]),
            "set" => (vec!["SET", key, &value], vec![keys]),
            "miss" => (vec!["GET", "non:000#########"], vec![keys]),
            "hot-get" => (vec!["GET", "key:000000000000"], vec![]),
            "hot-set" => (vec!["SET", "key:000000000000", &value], vec![]),
            "incr" => (vec!["INCR", "int:000#########"], vec![keys]),
            "hset" => (vec!["HSET", "has:000#########", "field#", &value], vec![groups, 10]),
            "lpush" => (vec!["LPUSH", "lis:000#########", &value], vec![groups]),
            "zadd" => (vec!["ZADD", "zse:000#########", "1##", "member##"], vec![groups, 100, 20]),
            "ping" => (vec!["PING"], vec![]),
            _ => (
                std::iter::once("MGET").chain(std::iter::repeat_n(key, 10)).collect(),
                vec![keys; 10],
            ),
        };
        let lines = workload.lines * depth;
        let mut pipeline = Pipeline { bytes: Vec::new(), places: Vec::new(), lines };
        for _ in 0..depth {
            pipeline.push(&words, &bounds);
        }
        pipeline
    }

    fn push(&mut self, words: &[&str], bounds: &[u64]) {
        let mut at = self.bytes.len();
        encode_command(&mut self.bytes, words);
        for &below in bounds {
            let is_hole = |byte: &u8| *byte == HOLE;
            at += self.bytes[at..].iter().position(is_hole).unwrap_or(0);
            let digits = self.bytes[at..].iter().take_while(|byte| is_hole(byte)).count();
            self.places.push(Place { at, digits, below });
            at += digits;
        }
    }

    /// The same requests with other keys.
    fn refreshed(&mut self, rng: &mut Rng) -> &[u8] {
        for place in &self.places {
            let mut number = rng.below(place.below);
            for digit in self.bytes[place.at..place.at + place.digits].iter_mut().rev() {
                *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
                number /= 10;
            }
        }
        &self.bytes
    }
}

/// A connection with at most one pipeline under way.
struct Lane {
    stream: TcpStream,
    sent: Instant,
    lines: usize,
    busy: bool,
}

/// Connections to one server.
pub struct Lanes {
    lanes: Vec<Lane>,
    reactor: Reactor,
    /// Look again and again instead of sleeping: a server's replies then never pay for waking us.
    spin: bool,
    events: Vec<Event>,
    buffer: Vec<u8>,
}

impl Lanes {
    /// Connects so many times.
    pub fn connect(port: u16, count: usize, spin: bool) -> Result<Lanes> {
        let reactor = Reactor::new()?;
        let mut lanes = Vec::with_capacity(count);
        for number in 0..count {
            let stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            reactor.register(&stream, Token(number as u64), Interest::Read)?;
            lanes.push(Lane { stream, sent: Instant::now(), lines: 0, busy: false });
        }
        Ok(Lanes { lanes, reactor, spin, events: Vec::new(), buffer: vec![0; 1 << 17] })
    }

    /// Keeps every connection at one pipeline for a while, then takes what is still under way. Adds
    /// the nanoseconds that each pipeline took.
    pub fn drive(
        &mut self,
        pipeline: &mut Pipeline,
        rng: &mut Rng,
        time: Duration,
        took: &mut Vec<u32>,
    ) -> Result<()> {
        let mut end = Some(Instant::now() + time);
        for lane in &mut self.lanes {
            lane.send(pipeline, rng)?;
        }
        let mut under_way = self.lanes.len();
        while under_way > 0 {
            let wait = if self.spin { Wait::Now } else { Wait::AtMost(Duration::from_secs(5)) };
            self.reactor.poll(wait, &mut self.events)?;
            if end.is_some_and(|end| Instant::now() >= end) {
                end = None;
            }
            for event in &self.events {
                let lane = usize::try_from(event.token.0)?;
                let Some(lane) = self.lanes.get_mut(lane) else { continue };
                if !lane.receive(&mut self.buffer, pipeline.lines)? {
                    continue;
                }
                let now = Instant::now();
                let nanos = now.duration_since(lane.sent).as_nanos();
                took.push(u32::try_from(nanos).unwrap_or(u32::MAX));
                if end.is_some() {
                    lane.send(pipeline, rng)?;
                } else {
                    under_way -= 1;
                }
            }
        }
        Ok(())
    }
}

impl Lane {
    fn send(&mut self, pipeline: &mut Pipeline, rng: &mut Rng) -> Result<()> {
        let bytes = pipeline.refreshed(rng);
        (self.lines, self.sent, self.busy) = (0, Instant::now(), true);
        // A pipeline is far smaller than a socket's buffer, and the one before has been answered.
        Ok(self.stream.write_all(bytes)?)
    }

    /// True if the pipeline under way has its last reply.
    fn receive(&mut self, buffer: &mut [u8], lines: usize) -> Result<bool> {
        match self.stream.read(buffer) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(count) => {
                let bytes = &buffer[..count];
                if self.lines == 0 && bytes[0] == b'-' {
                    bail!("answered {}", bytes[..count.min(80)].escape_ascii());
                }
                self.lines += bytes.iter().filter(|byte| **byte == b'\n').count();
                let done = self.busy && self.lines >= lines;
                self.busy &= !done;
                Ok(done)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
