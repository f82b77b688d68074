//! The generator of the differential test: commands from templates, the same for the same seed. Keys are
//! named by the type they mostly hold, so that most commands meet the type they are for. It knows nothing
//! of servers and replies.
//!
//! A template is a line of words. `[a|b]` is one of them or nothing, `<a|b>` one of them, `(a)` one to four
//! times; inside of these `_` parts words. `$x` is a value of the kind that `Generator::atom` lists.

use std::collections::HashSet;

use larder_base::rng::Rng;

/// Name of the group, how often it comes, its templates.
type Group = (u64, &'static [&'static str]);

#[rustfmt::skip]
const GROUPS: &[Group] = &[
    // Strings.
    (20, &[
        "GET $s", "SET $s $v", "SET $s $i", "SET $s $v [NX|XX] [GET] [EX_$S|PX_$P|EXAT_$T|PXAT_$M|KEEPTTL]", "SETNX $s $v", "SETEX $s $S $v",
        "PSETEX $s $P $v", "GETSET $s $v", "GETDEL $s", "GETEX $s [EX_$S|PX_$P|EXAT_$T|PXAT_$M|PERSIST]", "APPEND $s $v", "STRLEN $s",
        "GETRANGE $s $x $x", "SUBSTR $s $x $x", "SETRANGE $s $o $v", "INCR $s", "DECR $s", "INCRBY $s $i", "DECRBY $s $i", "INCRBYFLOAT $s $f",
        "MGET ($s)", "MSET ($s_$v)", "MSETNX ($s_$v)", "LCS $s $s [LEN|IDX] [MINMATCHLEN_$n] [WITHMATCHLEN]",
    ]),
    // Keys.
    (16, &[
        "DEL ($k)", "UNLINK ($k)", "EXISTS ($k)", "TOUCH ($k)", "TYPE $k", "EXPIRE $k $S [NX|XX|GT|LT]", "PEXPIRE $k $P [NX|XX|GT|LT]",
        "EXPIREAT $k $T [NX|XX|GT|LT]", "PEXPIREAT $k $M [NX|XX|GT|LT]", "TTL $k", "PTTL $k", "EXPIRETIME $k", "PEXPIRETIME $k", "PERSIST $k",
        "RENAME $k $k", "RENAMENX $k $k", "COPY $k $k [DB_<0|1>] [REPLACE]", "MOVE $k <1|0|99|x>", "KEYS $p", "DBSIZE", "RANDOMKEY",
        "OBJECT <ENCODING|FREQ> $k", "SCAN 0 COUNT 100000 [MATCH_$p] [TYPE_<string|list|hash|zset|set|what>]",
        "SORT <$l|$t|$z> [LIMIT_$x_$x] [GET_<#|s*|h*->f1>] [ASC|DESC] [ALPHA] [STORE_$l]", "SORT $l [BY_<s*|nosort|h*->f1>] [GET_<#|s*|h*->f1>] [ASC|DESC] [ALPHA]", "SORT_RO <$l|$t|$z> [ALPHA]",
    ]),
    // Hashes.
    (16, &[
        "HSET $h ($e_$v)", "HSET $h ($e_$i)", "HMSET $h ($e_$v)", "HSETNX $h $e $v", "HGET $h $e", "HMGET $h ($e)", "HGETALL $h", "HDEL $h ($e)",
        "HEXISTS $h $e", "HLEN $h", "HSTRLEN $h $e", "HKEYS $h", "HVALS $h", "HINCRBY $h $e $i", "HINCRBYFLOAT $h $e $f",
        "HRANDFIELD $h [$r] [WITHVALUES]", "HSCAN $h 0 COUNT 100000 [MATCH_$p]",
    ]),
    // Lists.
    (16, &[
        "LPUSH $l ($e)", "RPUSH $l ($e)", "RPUSH $l ($i)", "LPUSHX $l ($e)", "RPUSHX $l ($e)", "LPOP $l [$n]", "RPOP $l [$n]", "LLEN $l", "LINDEX $l $x",
        "LSET $l $x $v", "LRANGE $l $x $x", "LTRIM $l $x $x", "LREM $l $x $e", "LINSERT $l <BEFORE|AFTER> $e $v",
        "LPOS $l $e [RANK_$x] [COUNT_$n] [MAXLEN_$n]", "LMOVE $l $l <LEFT|RIGHT> <LEFT|RIGHT>", "RPOPLPUSH $l $l",
        "LMPOP <1|2|0> ($l) <LEFT|RIGHT> [COUNT_$n]",
    ]),
    // Sets.
    (14, &[
        "SADD $t ($e)", "SADD $t ($i)", "SREM $t ($e)", "SISMEMBER $t $e", "SMISMEMBER $t ($e)", "SCARD $t", "SMEMBERS $t", "SMOVE $t $t $e",
        "SINTER ($t)", "SUNION ($t)", "SDIFF ($t)", "SINTERSTORE $t ($t)", "SUNIONSTORE $t ($t)", "SDIFFSTORE $t ($t)",
        "SINTERCARD 2 $t $t [LIMIT_$n]", "SRANDMEMBER $t [$r]", "SPOP $t 100000", "SSCAN $t 0 COUNT 100000 [MATCH_$p]",
    ]),
    // Sorted sets.
    (24, &[
        "ZADD $z [NX|XX] [GT|LT] [CH] ($m_$e)", "ZADD $z ($m_$e)", "ZADD $z [NX|XX] INCR $m $e", "ZINCRBY $z $m $e", "ZREM $z ($e)", "ZSCORE $z $e",
        "ZMSCORE $z ($e)", "ZCARD $z", "ZCOUNT $z $b $b", "ZLEXCOUNT $z $y $y", "ZRANK $z $e", "ZREVRANK $z $e",
        "ZRANGE $z $x $x [REV] [WITHSCORES]", "ZRANGE $z $b $b BYSCORE [REV] [LIMIT_$x_$x] [WITHSCORES]", "ZRANGE $z $y $y BYLEX [REV] [LIMIT_$x_$x]",
        "ZREVRANGE $z $x $x [WITHSCORES]", "ZRANGEBYSCORE $z $b $b [WITHSCORES] [LIMIT_$x_$x]", "ZREVRANGEBYSCORE $z $b $b [WITHSCORES] [LIMIT_$x_$x]",
        "ZRANGEBYLEX $z $y $y [LIMIT_$x_$x]", "ZREVRANGEBYLEX $z $y $y [LIMIT_$x_$x]", "ZRANGESTORE $z $z $x $x [REV]",
        "ZRANGESTORE $z $z $b $b BYSCORE [LIMIT_$x_$x]", "ZREMRANGEBYRANK $z $x $x", "ZREMRANGEBYSCORE $z $b $b", "ZREMRANGEBYLEX $z $y $y",
        "ZPOPMIN $z [$n]", "ZPOPMAX $z [$n]", "ZMPOP <1|2> ($z) <MIN|MAX> [COUNT_$n]", "ZRANDMEMBER $z [$r] [WITHSCORES]",
        "ZUNION 2 $z <$z|$t> [WEIGHTS_$m_$m] [AGGREGATE_<SUM|MIN|MAX>] [WITHSCORES]", "ZINTER 2 $z <$z|$t> [AGGREGATE_<SUM|MIN|MAX>] [WITHSCORES]",
        "ZDIFF 2 $z <$z|$t> [WITHSCORES]", "ZUNIONSTORE $z 2 $z <$z|$t> [WEIGHTS_$m_$m] [AGGREGATE_<SUM|MIN|MAX>]",
        "ZINTERSTORE $z 2 $z <$z|$t> [WEIGHTS_$m_$m]", "ZDIFFSTORE $z 2 $z $z", "ZINTERCARD 2 $z $z [LIMIT_$n]", "ZSCAN $z 0 COUNT 100000",
    ]),
    // Bits, HyperLogLogs, places.
    (14, &[
        "SETBIT $s $o <0|1|2>", "GETBIT $s $o", "BITCOUNT $s [$x_$x] [BIT|BYTE]", "BITPOS $s <0|1> [$x] [$x] [BIT|BYTE]",
        "BITOP <AND|OR|XOR> $s ($s)", "BITOP NOT $s $s",
        "BITFIELD $s ([OVERFLOW_<WRAP|SAT|FAIL>]_<GET_$w_$o|SET_$w_$o_$i|INCRBY_$w_$o_$i>)", "BITFIELD_RO $s GET $w $o",
        "PFADD $q ($e)", "PFCOUNT ($q)", "PFMERGE $q ($q)",
        "GEOADD $g [NX|XX] [CH] ($c_$c_$e)", "GEODIST $g $e $e [m|km|mi|ft|xx]", "GEOPOS $g ($e)", "GEOHASH $g ($e)",
        "GEOSEARCH $g <FROMMEMBER_$e|FROMLONLAT_$c_$c> <BYRADIUS_$d_<m|km|mi|ft>|BYBOX_$d_$d_km> <ASC|DESC> [COUNT_$n] [WITHDIST] [WITHHASH] [WITHCOORD]",
        "GEOSEARCHSTORE $g $g FROMLONLAT $c $c BYRADIUS $d km ASC [COUNT_$n] [STOREDIST]", "GEORADIUS $g $c $c $d km ASC [WITHDIST]",
        "GEORADIUSBYMEMBER $g $e $d <m|km> ASC [STORE_$g]",
    ]),
    // Blocking commands: what they do at once. In a transaction they never wait.
    (1, &["BLPOP ($l) 0.001", "BRPOP ($l) 0.001", "BLMOVE $l $l <LEFT|RIGHT> <LEFT|RIGHT> 0.001", "BRPOPLPUSH $l $l 0.001",
        "BLMPOP 0.001 1 $l <LEFT|RIGHT>", "BZPOPMIN ($z) 0.001", "BZPOPMAX ($z) 0.001", "BZMPOP 0.001 1 $z <MIN|MAX> [COUNT_$n]"]),
    // Transactions and connections.
    (7, &["MULTI", "MULTI", "EXEC", "EXEC", "EXEC", "DISCARD", "WATCH ($k)", "UNWATCH", "PING [$v]", "ECHO $v", "SELECT <0|99|x|->", "NOSUCH $v"]),
];

const HOSTILE: &[&str] = &[
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "-0",
    "nan",
    "inf",
    "-inf",
    "+inf",
    "",
    "4294967296",
    "4294967297",
    "1e400",
    "0x10",
    " 1",
    "1 ",
    "+1",
    "01",
    "1.0",
    "1e3",
    "-1",
    "0",
    "$-1\r\n",
];

/// Makes commands.
pub struct Generator {
    rng: Rng,
    missing: HashSet<Vec<u8>>,
    total: u64,
}

impl Generator {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Generator {
            rng: Rng::new(seed),
            missing: HashSet::new(),
            total: GROUPS.iter().map(|g| g.0).sum(),
        }
    }

    /// Leaves a command out from now on.
    pub fn skip(&mut self, name: &[u8]) {
        self.missing.insert(name.to_ascii_uppercase());
    }

    /// The next command.
    pub fn command(&mut self) -> Vec<Vec<u8>> {
        loop {
            let mut at = self.rng.below(self.total);
            let mut chosen = GROUPS[0].1;
            for (weight, templates) in GROUPS {
                if at < *weight {
                    chosen = templates;
                    break;
                }
                at -= weight;
            }
            let template = chosen[self.rng.below_usize(chosen.len())];
            let mut words = Vec::new();
            for word in template.split(' ') {
                self.expand(word, &mut words);
            }
            if self.missing.contains(&words[0]) {
                continue;
            }
            // Wrong arity, now and then; never of what ends or clears something.
            if words.len() > 1 && self.rng.below(50) == 0 && !template.contains("$r") {
                let at = 1 + self.rng.below_usize(words.len() - 1);
                if self.rng.below(2) == 0 {
                    words.remove(at);
                } else {
                    words.insert(at, words[at].clone());
                }
            }
            return words;
        }
    }

    fn expand(&mut self, word: &str, out: &mut Vec<Vec<u8>>) {
        let inner = |word: &str| word[1..word.len() - 1].to_owned();
        if word.starts_with('[') && word.ends_with(']') && closes_at_end(word) {
            if self.rng.below(2) == 0 {
                self.choose(&inner(word), out);
            }
        } else if word.starts_with('<') && closes_at_end(word) {
            self.choose(&inner(word), out);
        } else if word.starts_with('(') && closes_at_end(word) {
            for _ in 0..1 + self.rng.below(4) {
                self.choose(&inner(word), out);
            }
        } else if let Some(kind) = word.strip_prefix('$').filter(|kind| kind.len() == 1) {
            let value = if self.rng.below(60) == 0 && kind != "r" {
                HOSTILE[self.rng.below_usize(HOSTILE.len())].as_bytes().to_vec()
            } else {
                self.atom(kind.as_bytes()[0])
            };
            out.push(value);
        } else {
            out.push(word.as_bytes().to_vec());
        }
    }

    fn choose(&mut self, alternatives: &str, out: &mut Vec<Vec<u8>>) {
        let choices = parted(alternatives, b'|');
        let choice = choices[self.rng.below_usize(choices.len())];
        for word in parted(choice, b'_') {
            self.expand(word, out);
        }
    }

    fn number(&mut self, low: i64, high: i64) -> i64 {
        let span = u64::try_from(high - low).unwrap_or(0) + 1;
        low + i64::try_from(self.rng.below(span)).unwrap_or(0)
    }

    fn atom(&mut self, kind: u8) -> Vec<u8> {
        // One key in eight is of another type.
        const TYPES: &[u8] = b"sshltzqg";
        const WIDTHS: &[&str] = &["u8", "i8", "u1", "i64", "u63", "i5", "u16", "u64", "i65", "x"];
        match kind {
            b's' | b'h' | b'l' | b't' | b'z' | b'q' | b'g' | b'k' => {
                let kind = match kind == b'k' || self.rng.below(8) == 0 {
                    true => TYPES[self.rng.below_usize(TYPES.len())],
                    false => kind,
                };
                format!("{}{}", char::from(kind), self.rng.below(6)).into_bytes()
            }
            b'v' => match self.rng.below(8) {
                0 => vec![b'v'; self.rng.below_usize(100)],
                1 => b"\x00\xff\r\n\"".to_vec(),
                2 => self.number(-1000, 1000).to_string().into_bytes(),
                3 => vec![0xf0; self.rng.below_usize(40)],
                _ => format!("value{}", self.rng.below(1000)).into_bytes(),
            },
            b'i' => match self.rng.below(6) {
                0 => (self.rng.next_u64() as i64).to_string().into_bytes(),
                _ => self.number(-200, 70_000).to_string().into_bytes(),
            },
            b'f' => match self.rng.below(4) {
                0 => format!("{}", self.rng.unit_f64() * 1e6).into_bytes(),
                1 => format!("{}e{}", self.number(-99, 99), self.number(-20, 20)).into_bytes(),
                _ => format!("{}.{}", self.number(-99, 99), self.rng.below(100)).into_bytes(),
            },
            b'e' => match self.rng.below(20) {
                0 => vec![b'm'; 60 + self.rng.below_usize(10)],
                1 => self.number(0, 300).to_string().into_bytes(),
                2 => format!("m{}", self.rng.below(2000)).into_bytes(),
                _ => format!("m{}", self.rng.below(12)).into_bytes(),
            },
            b'n' => self.number(0, 12).to_string().into_bytes(),
            b'x' => self.number(-12, 12).to_string().into_bytes(),
            b'r' => self.number(-9, 9).to_string().into_bytes(),
            b'o' => self.number(0, 700).to_string().into_bytes(),
            b'S' => self.number(7_200, 99_999).to_string().into_bytes(),
            b'P' => self.number(7_200_000, 99_999_999).to_string().into_bytes(),
            b'T' => match self.rng.below(5) {
                0 => b"1000000".to_vec(),
                _ => self.number(4_000_000_000, 4_000_009_999).to_string().into_bytes(),
            },
            b'M' => match self.rng.below(5) {
                0 => b"1000000".to_vec(),
                _ => self.number(4_000_000_000_000, 4_000_009_999_999).to_string().into_bytes(),
            },
            b'm' => match self.rng.below(12) {
                0 => b"inf".to_vec(),
                1 => b"-inf".to_vec(),
                2 => format!("{}", self.rng.unit_f64()).into_bytes(),
                _ => self.number(-9, 9).to_string().into_bytes(),
            },
            b'b' => match self.rng.below(8) {
                0 => b"-inf".to_vec(),
                1 => b"+inf".to_vec(),
                2 | 3 => format!("({}", self.number(-9, 9)).into_bytes(),
                _ => self.number(-9, 9).to_string().into_bytes(),
            },
            b'y' => match self.rng.below(6) {
                0 => b"-".to_vec(),
                1 => b"+".to_vec(),
                2 => format!("(m{}", self.rng.below(12)).into_bytes(),
                _ => format!("[m{}", self.rng.below(12)).into_bytes(),
            },
            b'w' => WIDTHS[self.rng.below_usize(WIDTHS.len())].as_bytes().to_vec(),
            b'c' => format!("{}.{}", self.number(-86, 86), self.rng.below(10_000)).into_bytes(),
            b'd' => self.number(0, 9_000).to_string().into_bytes(),
            _ => [&b"*"[..], b"s*", b"?1", b"[lh]?", b"m*", b"*[^1]", b"\\"]
                [self.rng.below_usize(7)]
            .to_vec(),
        }
    }
}

fn opens(byte: u8) -> bool {
    matches!(byte, b'[' | b'<' | b'(')
}

fn closes(byte: u8, before: u8) -> bool {
    // The arrow of a hash pattern closes nothing.
    matches!(byte, b']' | b')') || (byte == b'>' && before != b'-')
}

fn closes_at_end(word: &str) -> bool {
    let mut depth = 0;
    let bytes = word.as_bytes();
    for at in 0..bytes.len() {
        if opens(bytes[at]) {
            depth += 1;
        } else if at > 0 && closes(bytes[at], bytes[at - 1]) {
            depth -= 1;
            if depth == 0 {
                return at + 1 == bytes.len();
            }
        }
    }
    false
}

/// Parts at a sign outside of all brackets.
fn parted(text: &str, sign: u8) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0, 0);
    let bytes = text.as_bytes();
    for at in 0..bytes.len() {
        if opens(bytes[at]) {
            depth += 1;
        } else if at > 0 && closes(bytes[at], bytes[at - 1]) {
            depth -= 1;
        } else if bytes[at] == sign && depth == 0 {
            parts.push(&text[from..at]);
            from = at + 1;
        }
    }
    parts.push(&text[from..]);
    parts
}
