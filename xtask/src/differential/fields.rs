//! The commands of `cargo xtask differential --fields`, as templates: hashes whose fields have deadlines, which redis-server 7.0
//! lacks. It knows nothing of how they are filled; `templates` says what the signs mean.
//!
//! Keys `h0` to `h5` hold hashes, and sometimes another type. What is let expire lies at `h9`, which each template empties first.
//! Until Redis has removed fields that are due it counts them in HLEN and HDEL, and HEXPIRE wakes them again: none of these
//! is asked of `h9` after a pause.

use super::event::Kind;
use super::templates::Group;

const fn plain(weight: u64, templates: &'static [&'static str]) -> Group {
    Group { weight: 10 * weight, kind: Kind::Plain, crowd: false, templates }
}

#[rustfmt::skip]
pub const GROUPS: &[Group] = &[
    // Deadlines of fields, given, told and taken.
    plain(30, &[
        "HEXPIRE $h $S [NX|XX|GT|LT] FIELDS 1 $e", "HEXPIRE $h $S [NX|XX|GT|LT] FIELDS 2 $e $e", "HPEXPIRE $h $P [NX|XX|GT|LT] FIELDS 1 $e", "HPEXPIRE $h $P [NX|XX|GT|LT] FIELDS 3 $e $e $e",
        "HEXPIREAT $h $U [NX|XX|GT|LT] FIELDS 1 $e", "HEXPIREAT $h $U [NX|XX|GT|LT] FIELDS 2 $e $e", "HPEXPIREAT $h $V [NX|XX|GT|LT] FIELDS 1 $e", "HPEXPIREAT $h $V [NX|XX|GT|LT] FIELDS 3 $e $e $e",
        "HEXPIRE $h 0 FIELDS 1 $e", "HPEXPIRE $h 0 [NX|XX|GT|LT] FIELDS 2 $e $e", "HEXPIRE $h $D FIELDS 1 $e", "HPEXPIRE $h $D FIELDS $n $e $e", "HEXPIREAT $h $i NX FIELDS 1 $e", "HPEXPIREAT $h $i FIELDS $x $e",
        "HPEXPIRE $h $P <NX|XX> <GT|LT|FIELDS> 1 $e", "HEXPIRE $h $S FIELDS 2 $e", "HEXPIRE $h $S FIELDS 1 $e $e",
        "HTTL $h FIELDS 1 $e", "HTTL $h FIELDS 3 $e $e $e", "HPTTL $h FIELDS 2 $e $e", "HPTTL $h FIELDS 1 $e", "HPTTL $h FIELDS $n $e $e", "HEXPIRETIME $h FIELDS 2 $e $e", "HPEXPIRETIME $h FIELDS 3 $e $e $e", "HPEXPIRETIME $h FIELDS 1 $e", "HPEXPIRETIME $h FIELDS $x $e",
        "HPERSIST $h FIELDS 1 $e", "HPERSIST $h FIELDS 3 $e $e $e", "HPERSIST $h FIELDS 2 $e $e", "HPERSIST $h FIELDS $x $e",
    ]),
    // Read, written and deleted with them.
    plain(16, &[
        "HGETEX $h [EX_$S|PX_$P|EXAT_$U|PXAT_$V|PERSIST] FIELDS 1 $e", "HGETEX $h [EX_$S|PX_$P|EXAT_$T|PXAT_$M|PERSIST] FIELDS 3 $e $e $e", "HGETEX $h <EX|PX|PERSIST> [<EX|PX|PERSIST>_$M] FIELDS 1 $e", "HGETEX $h EX $D FIELDS $n $e $e",
        "HSETEX $h [FNX|FXX] [EX_$S|PX_$P|EXAT_$U|PXAT_$V|KEEPTTL] FIELDS 1 $e $v", "HSETEX $h [FNX|FXX] [EX_$S|PX_$P|EXAT_$T|PXAT_$M|KEEPTTL] FIELDS 3 $e $v $e $i $e $v", "HSETEX $h <EX|PX|KEEPTTL|FNX> [<EX|PX|KEEPTTL|FXX>_$M] FIELDS 1 $e $v",
        "HSETEX $h PX $D FIELDS $n $e $v", "HGETDEL $h FIELDS 1 $e", "HGETDEL $h FIELDS 2 $e $e", "HGETDEL $h FIELDS 1 $e", "HGETDEL $h FIELDS $x $e $e",
    ]),
    // What the other commands on hashes do to deadlines.
    plain(20, &[
        "HSET $h ($e_$v)", "HSET $h ($e_$i)", "HSET $h ($e_$v)", "HMSET $h ($e_$v)", "HSETNX $h $e $v", "HGET $h $e", "HMGET $h ($e)", "HGETALL $h", "HDEL $h ($e)", "HEXISTS $h $e", "HLEN $h", "HSTRLEN $h $e",
        "HKEYS $h", "HVALS $h", "HINCRBY $h $e $i", "HINCRBYFLOAT $h $e $f", "HRANDFIELD $h [$r] [WITHVALUES]", "HSCAN $h 0 COUNT 100000 [MATCH_$p] [NOVALUES]",
    ]),
    // A deadline stays or goes by what writes its field.
    plain(4, &[
        "DEL h8 ; HSETEX h8 EX $S FIELDS 2 a 1 b 2 ; HSET h8 a 5 ; HTTL h8 FIELDS 2 a b", "DEL h8 ; HSETEX h8 EX $S FIELDS 2 a 1 b 2 ; HINCRBY h8 a 5 ; HTTL h8 FIELDS 2 a b", "DEL h8 ; HSETEX h8 EX $S FIELDS 2 a 1 b 2 ; HINCRBYFLOAT h8 a 1.5 ; HTTL h8 FIELDS 2 a b",
        "DEL h8 ; HSETEX h8 EX $S FIELDS 2 a 1 b 2 ; HSETEX h8 KEEPTTL FIELDS 1 a 3 ; HTTL h8 FIELDS 2 a b", "DEL h8 ; HSETEX h8 EX $S FIELDS 2 a 1 b 2 ; HSETNX h8 a 3 ; HGETEX h8 FIELDS 1 b ; HTTL h8 FIELDS 2 a b",
    ]),
    // What keys do to them.
    plain(8, &[
        "DEL $h", "UNLINK $h", "EXISTS $h", "TYPE $h", "RENAME $h $h", "RENAMENX $h $h", "COPY $h $h [REPLACE]", "COPY $h $h DB 1 REPLACE ; MOVE $h 1 ; SELECT 1 ; HPEXPIRETIME $h FIELDS 2 $e $e ; MOVE $h 0 ; SELECT 0",
        "EXPIRE $h $S", "PEXPIREAT $h $M", "PERSIST $h", "TTL $h", "EXPIRETIME $h", "SET $s $v", "RPUSH $l $e", "SADD $t $e", "ZADD $z $m $e", "DEL ($k)", "SORT $l BY nosort GET h*->m1", "SWAPDB 0 1",
        "WATCH $h ; HPERSIST $h FIELDS 1 $e ; MULTI ; HGET $h $e ; EXEC", "WATCH $h ; HPEXPIRE $h $P FIELDS 1 $e ; MULTI ; HGET $h $e ; EXEC", "WATCH $h ; HGETEX $h PERSIST FIELDS 1 $e ; MULTI ; HGET $h $e ; EXEC",
        "WATCH $h ; HPEXPIREAT $h 1 FIELDS 1 $e ; MULTI ; HGET $h $e ; EXEC", "WATCH $h ; HSETEX $h FNX FIELDS 1 $e $v ; MULTI ; HGET $h $e ; EXEC", "WATCH $h ; HGETDEL $h FIELDS 1 $e ; MULTI ; HGET $h $e ; EXEC", "UNWATCH",
    ]),
    // Deadlines that pass.
    Group { weight: 8, kind: Kind::Pause, crowd: false, templates: &[
        "DEL h9 ; HSET h9 a 1 b 2 c 3 ; HPEXPIRE h9 1 FIELDS 2 a b ; @pause ; HGETALL h9 ; HMGET h9 a b c ; HTTL h9 FIELDS 3 a b c ; HEXISTS h9 a",
        "DEL h9 ; HSET h9 a 1 ; HPEXPIRE h9 1 FIELDS 1 a ; @pause ; HGETALL h9 ; HSETNX h9 a 2 ; HGET h9 a ; HPTTL h9 FIELDS 1 a", "DEL h9 ; HSETEX h9 PX 1 FIELDS 2 a 1 b 2 ; @pause ; HGETALL h9 ; HGETEX h9 PERSIST FIELDS 2 a b",
        "DEL h9 ; HSETEX h9 PX 1 FIELDS 1 a 1 ; HSET h9 b 1 ; @pause ; HINCRBY h9 a 5 ; HPERSIST h9 FIELDS 2 a b ; HGETALL h9", "DEL h9 ; HSETEX h9 PX 1 FIELDS 1 a 1 ; HSET h9 b 1 ; @pause ; HSETEX h9 FNX KEEPTTL FIELDS 1 a 7 ; HPTTL h9 FIELDS 2 a b ; HGETALL h9",
        "DEL h9 ; HSET h9 a 1 b 2 ; HGETEX h9 PX 1 FIELDS 1 a ; @pause ; HSETEX h9 FXX EX 100000 FIELDS 2 a 5 b 5 ; HGETALL h9", "DEL h9 ; HSET h9 a 1 b 2 ; HPEXPIRE h9 1 FIELDS 1 a ; @pause ; COPY h9 h8 REPLACE ; HGETALL h8 ; RENAME h8 h9 ; HVALS h9",
        "DEL h9 ; HSETEX h9 PX 1 FIELDS 1 a 1 ; HSET h9 b 1 ; @pause ; HRANDFIELD h9 5 ; HSTRLEN h9 a ; HSCAN h9 0 ; HINCRBYFLOAT h9 a 1.5",
        "DEL h9 ; HSET h9 a 1 b 2 ; HPEXPIRE h9 1 FIELDS 1 a ; @pause ; HGETDEL h9 FIELDS 2 a b ; EXISTS h9",
    ] },
];
