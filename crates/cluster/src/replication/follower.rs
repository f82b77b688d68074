//! A primary's side of one link: what a replica told of itself, what it asks for, and how far it is. It
//! decides between continuing and a full resynchronisation; it moves no data.

use larder_base::number;
use larder_base::time::Millis;

use super::lineage::{Lineage, Offset, Position, ReplicationId};

/// What a replica can do (`REPLCONF capa`). Unknown words are ignored, as Redis does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// It reads a snapshot of unknown length, ended by a mark.
    pub eof: bool,
    /// It understands `+CONTINUE <id>`.
    pub psync2: bool,
}

/// How far the link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It introduces itself; no resynchronisation was asked for yet.
    Handshake,
    /// It waits for a snapshot to begin.
    Waiting,
    /// It is sent a snapshot; the stream is kept for it meanwhile.
    Sending,
    /// It follows the stream.
    Online,
}

impl Stage {
    /// The word for it in INFO.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stage::Handshake => "none",
            Stage::Waiting => "wait_bgsave",
            Stage::Sending => "send_bulk",
            Stage::Online => "online",
        }
    }
}

/// A parsed PSYNC or SYNC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncRequest {
    /// Where the replica stands; `None`: it holds nothing that we could continue.
    pub position: Option<Position>,
    /// It asks for the coordinated hand-over of FAILOVER.
    pub failover: bool,
    /// SYNC: no reply line before the snapshot, and no acknowledgements.
    pub old: bool,
}

impl SyncRequest {
    /// SYNC of old replicas.
    pub const OLD: SyncRequest = SyncRequest { position: None, failover: false, old: true };

    /// The arguments after `PSYNC`.
    ///
    /// # Errors
    /// The text of the error reply.
    pub fn parse(args: &[&[u8]]) -> Result<SyncRequest, &'static str> {
        let (id, next, failover) = match args {
            [id, next] => (*id, *next, false),
            [id, next, word] if word.eq_ignore_ascii_case(b"FAILOVER") => (*id, *next, true),
            _ => return Err("ERR syntax error"),
        };
        let next = number::parse_i64(next).ok_or("ERR value is not an integer or out of range")?;
        // It names the byte it wants next; it stands one before.
        let offset = u64::try_from(next).ok().and_then(|next| next.checked_sub(1));
        let position = ReplicationId::parse(id)
            .zip(offset)
            .map(|(id, offset)| Position { id, offset: Offset(offset) });
        Ok(SyncRequest { position, failover, old: false })
    }
}

/// The answer to a request for synchronisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The stream goes on from here; send this line first.
    Continue {
        /// Where the replica stands.
        from: Offset,
        /// `+CONTINUE`, with the present id for those who understand it.
        line: String,
    },
    /// It needs a snapshot.
    Full,
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Follower {
    /// How far the link is.
    pub stage: Stage,
    /// The port that it serves on; 0 = not told.
    pub port: u16,
    /// The address that it announced, if any.
    pub address: Option<String>,
    /// What it can do.
    pub capabilities: Capabilities,
    /// `major << 16 | minor << 8 | patch` of a Valkey from 8.0 on; 0 = not told.
    pub version: u32,
    /// It is a Larder.
    pub own_kind: bool,
    /// It wants a snapshot only, no stream (`redis-cli --rdb`).
    pub snapshot_only: bool,
    /// It has applied the stream up to here.
    pub acked: Offset,
    /// It has the stream on its disk up to here, if it told.
    pub durable: Option<Offset>,
    /// When it last acknowledged.
    pub acked_at: Millis,
}

/// What to answer to a REPLCONF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `+OK`.
    Ok,
    /// Nothing: acknowledgements are not answered.
    Silence,
}

impl Follower {
    /// A link that was just opened.
    #[must_use]
    pub fn new(now: Millis) -> Follower {
        Follower {
            stage: Stage::Handshake,
            port: 0,
            address: None,
            capabilities: Capabilities::default(),
            version: 0,
            own_kind: false,
            snapshot_only: false,
            acked: Offset(0),
            durable: None,
            acked_at: now,
        }
    }

    /// The arguments after `REPLCONF`, in pairs.
    ///
    /// # Errors
    /// The text of the error reply.
    pub fn replconf(&mut self, now: Millis, args: &[&[u8]]) -> Result<Answer, String> {
        if !args.len().is_multiple_of(2) {
            return Err("ERR syntax error".to_owned());
        }
        for pair in args.chunks_exact(2) {
            let [name, value] = pair else { continue };
            if self.option(now, name, value)? == Answer::Silence {
                // The rest belongs to it (ACK <n> FACK <n>).
                for pair in args.chunks_exact(2) {
                    if let [name, value] = pair
                        && name.eq_ignore_ascii_case(b"FACK")
                    {
                        self.durable = number::parse_u64(value).map(Offset).max(self.durable);
                    }
                }
                return Ok(Answer::Silence);
            }
        }
        Ok(Answer::Ok)
    }

    fn option(&mut self, now: Millis, name: &[u8], value: &[u8]) -> Result<Answer, String> {
        const NOT_A_NUMBER: &str = "ERR value is not an integer or out of range";
        let number = || number::parse_u64(value).ok_or_else(|| NOT_A_NUMBER.to_owned());
        match name.to_ascii_lowercase().as_slice() {
            b"listening-port" => {
                self.port = u16::try_from(number()?).map_err(|_| NOT_A_NUMBER.to_owned())?;
            }
            b"ip-address" => {
                const LONGEST: usize = 46;
                if value.len() > LONGEST {
                    let sent = value.len();
                    return Err(format!(
                        "ERR REPLCONF ip-address provided by replica instance is too long: {sent} bytes"
                    ));
                }
                self.address = Some(String::from_utf8_lossy(value).into_owned());
            }
            b"capa" if value.eq_ignore_ascii_case(b"eof") => self.capabilities.eof = true,
            b"capa" if value.eq_ignore_ascii_case(b"psync2") => self.capabilities.psync2 = true,
            b"capa" => {}
            b"version" => {
                self.version = version_number(value)
                    .ok_or_else(|| "ERR Unrecognized version format".to_owned())?;
            }
            b"larder" => self.own_kind = number()? >= 1,
            b"rdb-only" => self.snapshot_only = number()? == 1,
            b"ack" => {
                // Late or reordered news are no news; a lie about the future is the caller's to see.
                if let Some(offset) = number::parse_u64(value) {
                    self.acked = self.acked.max(Offset(offset));
                }
                self.acked_at = now;
                return Ok(Answer::Silence);
            }
            b"getack" => return Ok(Answer::Silence),
            _ => {
                let name = String::from_utf8_lossy(name).into_owned();
                return Err(format!("ERR Unrecognized REPLCONF option: {name}"));
            }
        }
        Ok(Answer::Ok)
    }

    /// Whether it can go on from where it stands, given what we hold: the bytes from `first` to `end`.
    #[must_use]
    pub fn decide(
        &self,
        request: &SyncRequest,
        lineage: &Lineage,
        first: Offset,
        end: Offset,
    ) -> Decision {
        match request.position {
            Some(position) if lineage.can_continue(position, first, end) => {
                let line = if self.capabilities.psync2 {
                    format!("+CONTINUE {}\r\n", lineage.id)
                } else {
                    "+CONTINUE\r\n".to_owned()
                };
                Decision::Continue { from: position.offset, line }
            }
            Some(_) | None => Decision::Full,
        }
    }

    /// The line before a snapshot as of this position; empty for SYNC.
    #[must_use]
    pub fn full_sync_line(request: &SyncRequest, position: Position) -> String {
        if request.old {
            return String::new();
        }
        format!("+FULLRESYNC {} {}\r\n", position.id, position.offset)
    }

    /// Seconds since the last acknowledgement, as INFO's `lag` and min-replicas-max-lag want them.
    #[must_use]
    pub fn lag_s(&self, now: Millis) -> i64 {
        now.since(self.acked_at).max(0) / 1000
    }
}

/// `8.1.240` as one number that compares.
fn version_number(text: &[u8]) -> Option<u32> {
    let mut parts = text.split(|byte| *byte == b'.');
    let mut packed = 0u32;
    for _ in 0..3 {
        let part = number::parse_u64(parts.next()?)?;
        packed = packed << 8 | u32::from(u8::try_from(part).ok()?);
    }
    parts.next().is_none().then_some(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(words: &[&str]) -> (Follower, Result<Answer, String>) {
        let mut follower = Follower::new(Millis(5));
        let args: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        let answer = follower.replconf(Millis(9_000), &args);
        (follower, answer)
    }

    #[test]
    fn it_learns_what_a_replica_tells() {
        let (follower, answer) = told(&[
            "capa",
            "eof",
            "CAPA",
            "psync2",
            "capa",
            "dual-channel",
            "listening-port",
            "7000",
        ]);
        assert_eq!(answer, Ok(Answer::Ok));
        assert_eq!(follower.capabilities, Capabilities { eof: true, psync2: true });
        assert_eq!(follower.port, 7000);
        assert_eq!(told(&["version", "8.1.240"]).0.version, 0x0008_01f0);
        assert!(told(&["larder", "1"]).0.own_kind);
    }

    #[test]
    fn acknowledgements_are_silent_and_never_go_back() {
        let (mut follower, answer) = told(&["ACK", "50", "FACK", "40"]);
        assert_eq!(answer, Ok(Answer::Silence));
        assert_eq!((follower.acked, follower.durable), (Offset(50), Some(Offset(40))));
        assert_eq!(follower.lag_s(Millis(11_500)), 2);
        follower.replconf(Millis(9_001), &[b"ack", b"30"]).expect("fine");
        assert_eq!(follower.acked, Offset(50));
    }

    #[test]
    fn nonsense_is_refused_in_redis_words() {
        let error = |words: &[&str]| told(words).1.expect_err("an error");
        assert_eq!(error(&["nosuch", "1"]), "ERR Unrecognized REPLCONF option: nosuch");
        assert_eq!(error(&["listening-port", "x"]), "ERR value is not an integer or out of range");
        assert_eq!(error(&["capa"]), "ERR syntax error");
        assert_eq!(error(&["version", "8"]), "ERR Unrecognized version format");
    }

    #[test]
    fn sync_requests_are_read_as_redis_reads_them() {
        let id = "a".repeat(40);
        let parse = |words: &[&str]| {
            SyncRequest::parse(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>())
        };
        assert_eq!(parse(&["?", "-1"]).expect("fine").position, None);
        let asked = parse(&[&id, "1"]).expect("fine").position.expect("position");
        assert_eq!(asked.offset, Offset(0));
        assert!(parse(&[&id, "10", "failover"]).expect("fine").failover);
        assert_eq!(parse(&[&id, "x"]), Err("ERR value is not an integer or out of range"));
        assert_eq!(parse(&[&id]), Err("ERR syntax error"));
    }

    #[test]
    fn the_answer_names_the_history_to_those_who_understand() {
        let lineage = Lineage::new(ReplicationId::from_bits([1; 20]));
        let position = Some(Position { id: lineage.id, offset: Offset(5) });
        let request = SyncRequest { position, failover: false, old: false };
        let mut follower = Follower::new(Millis(0));
        let decide =
            |follower: &Follower| follower.decide(&request, &lineage, Offset(0), Offset(9));
        assert_eq!(
            decide(&follower),
            Decision::Continue { from: Offset(5), line: "+CONTINUE\r\n".to_owned() }
        );
        follower.capabilities.psync2 = true;
        let line = format!("+CONTINUE {}\r\n", lineage.id);
        assert_eq!(decide(&follower), Decision::Continue { from: Offset(5), line });
        assert_eq!(follower.decide(&request, &lineage, Offset(6), Offset(9)), Decision::Full);
    }
}
