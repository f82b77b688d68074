//! The commands of the differential test, as templates. It knows nothing of how they are filled.
//!
//! A template is a line of words. `[a|b]` is one of them or nothing, `<a|b>` one of them, `(a)` one to four
//! times; inside of these `_` parts words, and they may nest. `$x` is a value of the kind that
//! `Generator::atom` lists. ` ; ` parts commands that follow each other on one connection.
//!
//! A transaction is never left open by a template, since deadlines that pass must not fall into one.
//!
//! What is read while tracking is on is written before it ends: Redis remembers it beyond that.
//!
//! Keys are named by the type they mostly hold. Some are kept apart, because their neighbours' commands
//! would make what Redis leaves undefined: `g` (scores that are no places), `x` (members of unequal
//! scores in a lexical range), `q` (damaged registers), `c` (values of a length whose LCS is too dear),
//! `i0` (a list whose order SORT ... BY nosort keeps), `j` (SORT makes Redis change a sorted set's form). `w0` holds a string and `w1` a list, always.

use super::event::Kind;

/// Templates that are alike in how their replies are read.
pub struct Group {
    /// How often it comes.
    pub weight: u64,
    /// How the replies are read.
    pub kind: Kind,
    /// Whether it needs several connections.
    pub crowd: bool,
    /// Its templates.
    pub templates: &'static [&'static str],
}

const fn plain(weight: u64, templates: &'static [&'static str]) -> Group {
    Group { weight: 10 * weight, kind: Kind::Plain, crowd: false, templates }
}

/// What every epoch begins with.
pub const PREAMBLE: &[&str] =
    &["SELECT 1", "SET w0 text", "RPUSH w1 a b", "SELECT 0", "SET w0 text", "RPUSH w1 a b"];

#[rustfmt::skip]
pub const GROUPS: &[Group] = &[
    // Strings.
    plain(20, &[
        "GET $s", "SET $s $v", "SET $s $i", "SET $s $v [NX|XX] [GET] [EX_$S|PX_$P|EXAT_$T|PXAT_$M|KEEPTTL]", "SET $s $v <EX|PX|EX_$S|KEEPTTL|NX|XX|GET> [<EX|PX|EXAT|PXAT>_$M]",
        "SETNX $s $v", "SETEX $s $S $v", "PSETEX $s $P $v", "GETSET $s $v", "GETDEL $s", "GETEX $s [EX_$S|PX_$P|EXAT_$U|PXAT_$V|PERSIST]",
        "GETEX $s <EX|PX|PERSIST> [<EX|PX|EXAT|PXAT|PERSIST>_$M]", "APPEND $s $v", "STRLEN $s",
        "GETRANGE $s $x $x", "SUBSTR $s $x $x", "SETRANGE $s $o $v", "INCR $s", "DECR $s", "INCRBY $s $i", "DECRBY $s $i", "INCRBYFLOAT $s $f",
        "MGET ($s)", "MSET ($s_$v)", "MSETNX ($s_$v)", "SET $C $v", "SET $C $v", "LCS $C <$C|w1|w0> [LEN|IDX] [MINMATCHLEN_$n] [WITHMATCHLEN]",
        "SET s8 $v <EXAT_1000000|PXAT_1000000|PXAT_1> ; GET s8", "SET s8 $i ; INCR s8", "SET s8 $f ; INCRBYFLOAT s8 $f",
    ]),
    // Keys.
    plain(18, &[
        "DEL ($k)", "UNLINK ($k)", "EXISTS ($k)", "TOUCH ($k)", "TYPE $k", "EXPIRE $k $S [NX|XX|GT|LT]", "PEXPIRE $k $P [NX|XX|GT|LT]",
        "EXPIREAT $k $U [NX|XX|GT|LT]", "PEXPIREAT $k $V [NX|XX|GT|LT]", "EXPIRE $k $D <NX|XX|GT|LT> <NX|XX|GT|LT>", "TTL $k", "PTTL $k", "EXPIRETIME $k", "PEXPIRETIME $k", "PERSIST $k",
        "RENAME $k $k", "RENAMENX $k $k", "COPY $k $k [DB_<0|1|99|x>] [REPLACE]", "MOVE $k <1|0|99|x>", "KEYS $p", "DBSIZE", "RANDOMKEY",
        "OBJECT ENCODING $k", "OBJECT ENCODING $k", "OBJECT FREQ $k", "DEL i0 ; RPUSH i0 $e ; OBJECT IDLETIME i0 ; OBJECT REFCOUNT i0 ; OBJECT FREQ i0", "OBJECT HELP",
        "SCAN 0 COUNT 100000 [MATCH_$p] [TYPE_<string|list|hash|zset|set|what>]", "SCAN x [COUNT_$x]", "SCAN -1 COUNT <0|-1|x>", "WAIT 0 <0|1|-1|x>", "WAIT x 1",
        "SORT $j [LIMIT_$x_$x] [GET_<#|s*|h*->f1>] [ASC|DESC] [ALPHA] [STORE_$l]", "SORT $j BY <s*|h*->m1|m*> [LIMIT_$x_$x] [GET_<#|s*|h*->f1>] [ASC|DESC]",
        "SORT $j BY <nosort|s*|h*->m1|m*> [GET_<#|s*|h*->f1>] [ASC|DESC] ALPHA", "SORT_RO $j [BY_<s*|h*->m1>] [LIMIT_$x_$x] [GET_<#|s*>] [ASC|DESC]", "SORT_RO $j [LIMIT_$x_$x] [ALPHA] [DESC]", "ZADD $j ($m_$i)",
        "DEL i0 ; RPUSH i0 ($i) ($i) ; SORT i0 [BY_nosort] [LIMIT_$x_$x] [ASC|DESC] ; SORT i0 BY nosort [ALPHA] [DESC] [STORE_l0]",
        "DEL $J", "RPUSH $j ($i)", "RPUSH $j ($m)", "SADD $j ($i)", "SORT $j [DESC]", "MSET s1 $i s2 $m s3 $v s4 $i",
        "SELECT <0|1>", "SWAPDB <0|1|99|x> <0|1|99|x>",
    ]),
    // Hashes.
    plain(16, &[
        "HSET $h ($e_$v)", "HSET $h ($e_$i)", "HMSET $h ($e_$v)", "HSETNX $h $e $v", "HGET $h $e", "HMGET $h ($e)", "HGETALL $h", "HDEL $h ($e)",
        "HEXISTS $h $e", "HLEN $h", "HSTRLEN $h $e", "HKEYS $h", "HVALS $h", "HINCRBY $h $e $i", "HINCRBYFLOAT $h $e $f",
        "HSET $h f1 $i", "HRANDFIELD $h [$r] [WITHVALUES]", "HRANDFIELD $h $r WITHVALUES", "HSCAN $h 0 COUNT 100000 [MATCH_$p]", "DEL h9 ; HSET h9 a 1 ; HRANDFIELD h9 [$r] [WITHVALUES]",
    ]),
    // Lists.
    plain(16, &[
        "LPUSH $l ($e)", "RPUSH $l ($e)", "RPUSH $l ($i)", "LPUSHX $l ($e)", "RPUSHX $l ($e)", "LPOP $l [$n]", "RPOP $l [$n]", "LLEN $l", "LINDEX $l $x",
        "LSET $l $x $v", "LRANGE $l $x $x", "LTRIM $l $x $x", "LREM $l $x $e", "LINSERT $l <BEFORE|AFTER> $e $v",
        "LPOS $l $e [RANK_$x] [COUNT_$n] [MAXLEN_$n]", "LMOVE $l $l <LEFT|RIGHT> <LEFT|RIGHT>", "RPOPLPUSH $l $l",
        "LMPOP <1|2|0> ($l) <LEFT|RIGHT> [COUNT_$n]",
    ]),
    // Sets.
    plain(15, &[
        "SADD $t ($e)", "SADD $t ($i)", "SREM $t ($e)", "SISMEMBER $t $e", "SMISMEMBER $t ($e)", "SCARD $t", "SMEMBERS $t", "SMOVE $t $t $e",
        "SINTER ($t)", "SUNION ($t)", "SDIFF ($t)", "SINTERSTORE $t ($t)", "SUNIONSTORE $t ($t)", "SDIFFSTORE $t ($t)",
        "SINTERCARD 2 $t $t [LIMIT_$n]", "SINTERCARD $x ($t) [LIMIT_$x]", "SRANDMEMBER $t [$r]", "SPOP $t 100000", "SPOP $t 0", "SSCAN $t 0 COUNT 100000 [MATCH_$p]",
        "DEL t9 ; SADD t9 $e ; SPOP t9 [<1|0|-1|x>]", "DEL t9 ; SADD t9 $e ; SRANDMEMBER t9 [$r]", "DEL t9 ; SPOP t9",
    ]),
    // Sorted sets.
    plain(26, &[
        "ZADD $z [NX|XX] [GT|LT] [CH] ($m_$e)", "ZADD $z ($m_$e)", "ZADD $z [NX|XX] INCR $m $e", "ZADD $z [GT|LT] [CH] INCR $m $e", "ZINCRBY $z $m $e", "ZREM $z ($e)", "ZSCORE $z $e",
        "ZMSCORE $z ($e)", "ZCARD $z", "ZCOUNT $z $b $b", "ZRANK $z $e", "ZREVRANK $z $e",
        "ZRANGE $z $x $x [REV] [WITHSCORES]", "ZRANGE $z $b $b BYSCORE [REV] [LIMIT_$x_$x] [WITHSCORES]", "ZRANGE $z $x $x [LIMIT_$x_$x] [WITHSCORES]",
        "ZREVRANGE $z $x $x [WITHSCORES]", "ZRANGEBYSCORE $z $b $b [WITHSCORES] [LIMIT_$x_$x]", "ZREVRANGEBYSCORE $z $b $b [WITHSCORES] [LIMIT_$x_$x]",
        "ZRANGESTORE $z $z $x $x [REV]", "ZRANGESTORE $z $z $b $b BYSCORE [REV] [LIMIT_$x_$x]", "ZREMRANGEBYRANK $z $x $x", "ZREMRANGEBYSCORE $z $b $b",
        "ZPOPMIN $z [$n]", "ZPOPMAX $z [$n]", "ZMPOP <1|2> ($z) <MIN|MAX> [COUNT_$n]", "ZRANDMEMBER $z [$r] [WITHSCORES]", "ZRANDMEMBER $z $r WITHSCORES",
        "ZUNION 2 $z <$z|$t> [WEIGHTS_$m_$m] [AGGREGATE_<SUM|MIN|MAX>] [WITHSCORES]", "ZINTER 2 $z <$z|$t> [WEIGHTS_$m_$m] [AGGREGATE_<SUM|MIN|MAX>] [WITHSCORES]",
        "ZUNION $n ($z) [WEIGHTS_$m_$m] [AGGREGATE_<SUM|MIN|MAX>] [WITHSCORES]",
        "ZDIFF 2 $z <$z|$t> [WITHSCORES]", "ZUNIONSTORE $z 2 $z <$z|$t> [WEIGHTS_$m_$m] [AGGREGATE_<SUM|MIN|MAX>]", "ZUNIONSTORE $z 3 $z $t $z",
        "ZINTERSTORE $z 2 $z <$z|$t> [WEIGHTS_$m_$m] [AGGREGATE_<SUM|MIN|MAX>]", "ZDIFFSTORE $z 2 $z $z", "ZDIFFSTORE $z $n ($z)", "ZINTERCARD 2 $z $z [LIMIT_$n]",
        "ZSCAN $z 0 COUNT 100000 [MATCH_$p]", "DEL z9 ; ZADD z9 $m a ; ZRANDMEMBER z9 [$r] [WITHSCORES]",
    ]),
    // Lexical ranges, over members of one score.
    plain(6, &[
        "ZADD $L 0 $e 0 $e", "ZADD $L 0 $e 0 $e", "ZADD $L 0 a 0 b 0 c 0 $e", "ZREM $L $e", "DEL $X", "ZLEXCOUNT $L $y $y", "ZRANGE $L $y $y BYLEX [REV] [LIMIT_$x_$x]", "ZRANGE $L $x $x [REV]",
        "ZRANGEBYLEX $L $y $y [LIMIT_$x_$x]", "ZREVRANGEBYLEX $L $y $y [LIMIT_$x_$x]", "ZREMRANGEBYLEX $L $y $y", "ZRANGESTORE $X $L $y $y BYLEX [REV] [LIMIT_$x_$x]",
        "ZRANGE $L $y $y [BYLEX] [BYSCORE] [WITHSCORES]",
    ]),
    // Bits.
    plain(10, &[
        "SETBIT $s $o <0|1|2>", "GETBIT $s $o", "BITCOUNT $s [$x_$x] [BIT|BYTE]", "BITCOUNT $s $x $x [BIT|BYTE]", "BITPOS $s <0|1> [$x] [$x] [BIT|BYTE]", "BITPOS $s <0|1|2> $x $x [BIT|BYTE]",
        "BITOP <AND|OR|XOR> $s ($s)", "BITOP NOT $s $s",
        "BITFIELD $s ([OVERFLOW_<WRAP|SAT|FAIL>]_<GET_$w_$o|SET_$w_$o_$B|INCRBY_$w_$o_$B|SET_$w_#$n_$B>)", "BITFIELD_RO $s GET $w $o", "BITFIELD_RO $s <set|incrby> $w $o $i",
    ]),
    // HyperLogLogs.
    plain(4, &["PFADD $q ($e)", "PFADD $q", "PFADD $q ($E) ($E) ($E)", "PFCOUNT ($q)", "PFMERGE $q ($q)", "GET $q", "GETRANGE $q 0 15", "STRLEN $q", "DEL $Q"]),
    // Places.
    plain(8, &[
        "GEOADD $g [NX|XX] [CH] ($c_$c_$e)", "GEOADD $g ($c_$c_$e)", "ZREM $g $e", "DEL $G", "ZRANGE $g 0 -1 WITHSCORES",
        "GEODIST $g $e $e [m|km|mi|ft|xx]", "GEOPOS $g ($e)", "GEOHASH $g ($e)",
        "GEOSEARCH $g <FROMMEMBER_$e|FROMLONLAT_$c_$c> <BYRADIUS_$d_<m|km|mi|ft>|BYBOX_$d_$d_<km|m|mi>> <ASC|DESC> [COUNT_$n] [WITHDIST] [WITHHASH] [WITHCOORD]",
        "GEOSEARCH $g [FROMMEMBER_$e] [FROMLONLAT_$c_$c] [BYRADIUS_$d_km] [BYBOX_$d_$d_km] ASC [COUNT_$x|COUNT_100000_ANY|ANY]",
        "GEOSEARCHSTORE $G $g <FROMLONLAT_$c_$c|FROMMEMBER_$e> <BYRADIUS_$d_km|BYBOX_$d_$d_km> <ASC|DESC> [COUNT_$n]",
        "GEOSEARCHSTORE $z $g FROMLONLAT $c $c BYRADIUS $d km ASC [COUNT_$n] STOREDIST",
        "GEORADIUS $g $c $c $d km <ASC|DESC> [COUNT_$n] [WITHDIST] [WITHHASH] [WITHCOORD]", "GEORADIUS_RO $g $c $c $d km <ASC|DESC> [COUNT_$n] [WITHDIST] [WITHHASH] [WITHCOORD]",
        "GEORADIUSBYMEMBER $g $e $d <m|km> ASC [STORE_$G|STOREDIST_$z|WITHDIST]", "GEORADIUS $g $c $c $d km [STORE_$G|STOREDIST_$z]",
        "GEORADIUSBYMEMBER_RO $g $e $d <m|km> <ASC|DESC> [COUNT_$n] [WITHDIST] [WITHHASH] [WITHCOORD]", "GEORADIUS_RO $g $c $c $d km ASC store $G",
    ]),
    // Blocking commands. In a transaction they never wait.
    plain(1, &["BLPOP $l <-1|x|inf|1e30|nan>", "BZPOPMIN $z <-1|x>", "BLMPOP <-1|x> 1 $l LEFT", "BLMOVE $l $l <LEFT|up> RIGHT <-1|x>"]),
    // What waits for a tick of the servers' clocks: seldom.
    Group { weight: 1, kind: Kind::Plain, crowd: false, templates: &["WAIT 1 1", "CLIENT PAUSE 1 [ALL|WRITE] ; CLIENT UNPAUSE", "BLPOP ($l) 0.001", "BRPOP ($l) 0.001", "BLMOVE $l $l <LEFT|RIGHT> <LEFT|RIGHT> 0.001", "BRPOPLPUSH $l $l 0.001",
        "BLMPOP 0.001 1 $l <LEFT|RIGHT> [COUNT_$n]", "BZPOPMIN ($z) 0.001", "BZPOPMAX ($z) 0.001", "BZMPOP 0.001 1 $z <MIN|MAX> [COUNT_$n]"] },
    // Transactions and connections. The generator makes most transactions itself.
    plain(5, &["MULTI ; MULTI ; <EXEC|DISCARD>", "EXEC", "DISCARD", "WATCH ($k)", "WATCH ($k)", "UNWATCH", "PING [$v]", "ECHO $v", "SELECT <0|99|x|->", "NOSUCH $v", "AUTH $v [$v]", "AUTH default $v",
        "CLIENT GETNAME", "CLIENT SETNAME <n1|n2>", "CLIENT SETNAME $v", "CLIENT ID", "CLIENT INFO", "CLIENT LIST [TYPE_<normal|pubsub|what>]", "CLIENT NO-EVICT <on|off|x>", "CLIENT REPLY <ON|x>",
        "CLIENT GETREDIR", "CLIENT TRACKINGINFO", "CLIENT CACHING <yes|no|x>", "CLIENT UNBLOCK <99999999|x> [TIMEOUT|ERROR|x]",
        "CLIENT KILL <ID_99999999|ADDR_1.2.3.4:5|LADDR_1.2.3.4:5_SKIPME_<yes|no|x>|ID_x|type_what|user_nobody|1.2.3.4:5>", "CLIENT UNPAUSE", "CLIENT PAUSE <x|-1>", "CLIENT PAUSE 1 x", "CLIENT HELP", "CLIENT NOSUCH",
        "HELLO [2|3|4|x]", "HELLO <2|3> [AUTH_<default|x>_$v] [SETNAME_<n1|$v>]",
        "PUBSUB CHANNELS [$p]", "PUBSUB NUMSUB [($u)]", "PUBSUB NUMPAT", "PUBSUB SHARDCHANNELS [$p]", "PUBSUB SHARDNUMSUB [($u)]", "PUBSUB HELP", "PUBSUB NOSUCH", "RESET",
    ]),
    // Deadlines that pass.
    Group { weight: 3, kind: Kind::Pause, crowd: false, templates: &[
        "SET s9 $v PX 1 ; @pause ; GET s9 ; TTL s9", "DEL h9 ; HSET h9 a b ; PEXPIRE h9 1 ; @pause ; HGETALL h9 ; EXISTS h9", "PSETEX s9 1 $v ; @pause ; SETNX s9 $v ; PTTL s9",
        "PSETEX s9 1 $v ; @pause ; APPEND s9 $v", "PSETEX s9 1 $v ; @pause ; WATCH s9 ; MULTI ; SET s9 $v ; EXEC ; GET s9",
        "DEL l9 ; RPUSH l9 a ; PEXPIRE l9 1 ; @pause ; RPUSH l9 b ; LRANGE l9 0 -1", "PSETEX s9 1 $v ; @pause ; RENAME s9 s8", "PSETEX s9 1 $v ; @pause ; COPY s9 s8 REPLACE", "SET s9 $v ; GETEX s9 PX 1 ; @pause ; EXISTS s9",
    ] },
    Group { weight: 60, kind: Kind::Waits, crowd: true, templates: &[
        "BLPOP ($l) 0", "BRPOP ($l) 0", "BLMOVE $l $l <LEFT|RIGHT> <LEFT|RIGHT> 0", "BRPOPLPUSH $l $l 0", "BLMPOP 0 2 $l $l <LEFT|RIGHT> [COUNT_$n]",
        "BZPOPMIN ($z) 0", "BZPOPMAX ($z) 0", "BZMPOP 0 2 $z $z <MIN|MAX> [COUNT_$n]",
    ] },
    Group { weight: 30, kind: Kind::Sealed, crowd: true, templates: &[
        "SUBSCRIBE ($u)", "UNSUBSCRIBE ($u)", "UNSUBSCRIBE", "PSUBSCRIBE ($a)", "PUNSUBSCRIBE ($a)", "PUNSUBSCRIBE", "SSUBSCRIBE ($u)", "SUNSUBSCRIBE ($u)", "SUNSUBSCRIBE",
        "CLIENT REPLY SKIP ; GET $s ; GET $s", "CLIENT REPLY OFF ; SET $s $v ; PING ; CLIENT REPLY ON", "PING", "PUBLISH $u $v", "GET $s", "CLIENT TRACKING <x|on_x|on_redirect_99999999|on_OPTIN_OPTOUT|on_PREFIX_a|off>",
        "CLIENT TRACKING on <OPTIN|OPTIN_NOLOOP> ; CLIENT CACHING YES ; GET s7 ; CLIENT TRACKINGINFO ; SET s7 $v ; CLIENT GETREDIR ; CLIENT TRACKING off", "CLIENT TRACKING on OPTOUT ; CLIENT CACHING NO ; GET s7 ; DEL s7 ; CLIENT TRACKING off",
        "CLIENT TRACKING on BCAST PREFIX s ; SET s7 $v ; @pause ; CLIENT TRACKING on BCAST PREFIX s1 ; CLIENT TRACKINGINFO ; CLIENT TRACKING off", "CLIENT TRACKING on ; GET s7 ; SET s7 $v ; SET s7 $i ; CLIENT TRACKING off", "RESET", "RESET", "PUBSUB NUMPAT", "PUBSUB NUMSUB ($u)",
    ] },
    Group { weight: 80, kind: Kind::Plain, crowd: true, templates: &["PUBLISH $u $v", "PUBLISH $u $v", "SPUBLISH $u $v", "RPUSH $l ($e)", "LPUSH $l ($e)", "ZADD $z ($m_$e)",
        "DEL $l ; RPUSH $l a b c", "MULTI ; RPUSH $l a ; RPUSH $l b ; EXEC", "MULTI ; ZADD $z 1 a ; DEL $z ; EXEC", "RENAME $l $l", "SORT $j ALPHA STORE $l", "PUBSUB NUMSUB ($u)", "PUBSUB CHANNELS"] },
    Group { weight: 5, kind: Kind::Ends, crowd: true, templates: &["QUIT"] },
];
