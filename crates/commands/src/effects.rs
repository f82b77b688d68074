//! What a write did, as requests that repeat it on any copy of the data: no clock, no randomness, absolute
//! deadlines. Most commands repeat as they were sent; those whose outcome depends on the moment or on
//! chance say here what to repeat instead. It does not know who records them.

use larder_protocol::encode::encode_command;

/// The effects of one command. See the head of this file.
#[derive(Debug, Default)]
pub struct Effects {
    wanted: bool,
    replaced: bool,
    count: usize,
    /// Changes that were made aside of the command proper.
    aside: u64,
    /// What stands for the request if it changed something.
    spoken: Vec<Vec<u8>>,
    bytes: Vec<u8>,
}

impl Effects {
    /// Effects that are recorded only if somebody wants them.
    #[must_use]
    pub fn new(wanted: bool) -> Effects {
        Effects { wanted, ..Effects::default() }
    }

    /// Whether anybody wants them; a handler that would have to build something asks first.
    #[inline]
    #[must_use]
    pub fn are_wanted(&self) -> bool {
        self.wanted
    }

    /// Repeats this request in place of the one that was sent; several calls make several, in order.
    #[inline]
    pub fn instead(&mut self, request: &[&[u8]]) {
        if self.wanted {
            self.replaced = true;
            self.push(request);
        }
    }

    /// As `instead`, but only if the command turns out to have changed something.
    #[inline]
    pub fn instead_if_changed(&mut self, request: &[&[u8]]) {
        if self.wanted {
            self.spoken = request.iter().map(|word| word.to_vec()).collect();
        }
    }

    /// Repeats a request beside what the command itself does, before it: something had expired on the way
    /// and made one change of its own.
    pub fn aside(&mut self, request: &[&[u8]]) {
        self.aside += 1;
        if self.wanted {
            self.push(request);
        }
    }

    /// Ends the command, which made this many changes: if the handler named nothing else and it changed
    /// something, the request is repeated as it was sent. Returns how many requests there are.
    pub fn close(&mut self, changes: u64, sent: &[&[u8]]) -> usize {
        if self.wanted && !self.replaced && changes > self.aside {
            match std::mem::take(&mut self.spoken) {
                spoken if spoken.is_empty() => self.push(sent),
                spoken => self.push(&spoken),
            }
        }
        self.count
    }

    /// Whether nothing was named: what was sent, if it changed something, says it all.
    #[inline]
    #[must_use]
    pub fn is_plain(&self) -> bool {
        !self.replaced && self.count == 0 && self.spoken.is_empty()
    }

    fn push(&mut self, request: &[impl AsRef<[u8]>]) {
        encode_command(&mut self.bytes, request);
        self.count += 1;
    }

    /// The same, taken out.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// The requests in RESP, one after the other.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    /// What redis-server 7.0.15 writes into its AOF for the same commands (field deadlines: Valkey 9).
    #[test]
    fn a_copy_repeats_what_happened_not_what_was_asked() {
        let mut bench = Bench::new();
        let at = |ms: i64| (1_700_000_000_000 + ms).to_string();
        let cases: &[(&str, String)] = &[
            ("SET a 1", "SET a 1".into()),
            ("SET a 1 EX 10", format!("SET a 1 PXAT {}", at(10_000))),
            ("SET a 2 KEEPTTL", "SET a 2 KEEPTTL".into()),
            ("SET a 3 XX GET", "SET a 3 XX".into()),
            ("SET a 3 NX", String::new()),
            ("SET a 3 NX EX 5 GET", String::new()),
            ("SETEX a 5 x", format!("SET a x PXAT {}", at(5_000))),
            ("GETSET a y", "SET a y".into()),
            ("GETEX a", String::new()),
            ("GETEX a PX 700", format!("PEXPIREAT a {}", at(700))),
            ("GETEX a PERSIST", "PERSIST a".into()),
            ("GETEX a EXAT 1", "DEL a".into()),
            ("SET a z", "SET a z".into()),
            ("EXPIRE a 5 NX", format!("PEXPIREAT a {}", at(5_000))),
            ("EXPIRE a 5 NX", String::new()),
            ("EXPIRE a -1", "DEL a".into()),
            ("GETDEL a", String::new()),
            ("SET a 1", "SET a 1".into()),
            ("GETDEL a", "DEL a".into()),
            ("INCRBYFLOAT f 1.5", "SET f 1.5 KEEPTTL".into()),
            ("INCR n", "INCR n".into()),
            ("SETNX n 5", String::new()),
            ("DEL nothing", String::new()),
            (
                "BITFIELD bits OVERFLOW FAIL INCRBY u2 100 5",
                "BITFIELD bits OVERFLOW FAIL INCRBY u2 100 5".into(),
            ),
            ("BITFIELD bits OVERFLOW FAIL INCRBY u2 100 5", String::new()),
            ("RPUSH l 1 2 3 4 5 6", "RPUSH l 1 2 3 4 5 6".into()),
            ("BLPOP l 0", "LPOP l".into()),
            ("BRPOP nothing l 0", "RPOP l".into()),
            ("LMPOP 2 x l LEFT COUNT 2", "LPOP l 2".into()),
            ("BLMOVE l m LEFT RIGHT 0", "LMOVE l m LEFT RIGHT".into()),
            ("BRPOPLPUSH l m 0", "RPOPLPUSH l m".into()),
            ("BLMOVE l m LEFT RIGHT 0", String::new()),
            ("LPUSHX l 1", String::new()),
            ("SADD s a", "SADD s a".into()),
            ("SADD s a", String::new()),
            ("SPOP s", "SREM s a".into()),
            ("SADD s a", "SADD s a".into()),
            ("SPOP s 5", "DEL s".into()),
            ("ZADD z 1 a 2 b 3 c", "ZADD z 1 a 2 b 3 c".into()),
            ("ZADD z 1 a", String::new()),
            ("BZPOPMIN z 0", "ZPOPMIN z".into()),
            ("ZMPOP 1 z MAX COUNT 10", "ZPOPMAX z 2".into()),
            ("GEOADD g 13.361389 38.115556 P", "ZADD g 3479099956230698 P".into()),
            ("GEOADD g XX CH 15 37 P", "ZADD g XX CH 3476504601741708 P".into()),
            ("GEOADD g NX 15 37 P", String::new()),
            ("HSET h f 1", "HSET h f 1".into()),
            ("HINCRBYFLOAT h f 0.5", "HSET h f 1.5".into()),
            ("HEXPIRE h 5 FIELDS 2 f g", format!("HPEXPIREAT h {} FIELDS 1 f", at(5_000))),
            ("HINCRBYFLOAT h f 1", format!("HSET h f 2.5; HPEXPIREAT h {} FIELDS 1 f", at(5_000))),
            ("HPERSIST h FIELDS 1 f", "HPERSIST h FIELDS 1 f".into()),
            ("HSETEX h EX 1 FIELDS 1 g 2", format!("HSETEX h PXAT {} FIELDS 1 g 2", at(1_000))),
            ("HGETEX h PERSIST FIELDS 1 g", "HPERSIST h FIELDS 1 g".into()),
            ("HGETDEL h FIELDS 2 g nope", "HDEL h g".into()),
            ("HEXPIREAT h 1 FIELDS 1 f", "HDEL h f".into()),
        ];
        for (command, effects) in cases {
            bench.run(command);
            assert_eq!(&bench.effects, effects, "{command}");
        }
    }

    #[test]
    fn what_expired_on_the_way_is_told_first() {
        let mut bench = Bench::new();
        bench.run("HSETEX h PX 10 FIELDS 1 f v");
        bench.run("HSET h g w");
        bench.now.0 += 20;
        bench.run("HGET h g");
        assert_eq!(bench.effects, "HDEL h f");
        bench.run("HSETEX h PX 10 FIELDS 1 f v");
        bench.now.0 += 20;
        bench.run("HDEL h g nope");
        assert_eq!(bench.effects, "HDEL h f; HDEL h g nope");
    }
}
