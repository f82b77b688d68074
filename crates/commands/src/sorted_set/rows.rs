//! The rows of the sorted sets' commands.

use larder_store::value::SortedSet;

use super::{combine, ranges};
use crate::pops;
use crate::support::{Family, READ_ONE};
use crate::table::{Command, Flags, Group, KeySpec};

const READ: Flags = Flags::READONLY;
const WRITE: Flags = Flags::WRITE;
const FAST: Flags = Flags::FAST;
const MOVES: Flags = Flags::MOVABLE_KEYS;
const FAST_READ: Flags = READ.or(FAST);
const GROW: Flags = WRITE.or(Flags::DENYOOM);
const WAIT: Flags = WRITE.or(Flags::BLOCKING);

const COUNTED: &[KeySpec] = &[KeySpec::one(1, "RO")];
const POP: &[KeySpec] = &[KeySpec::one(1, "RW access delete")];
const POP_MANY: &[KeySpec] = &[KeySpec::range(1, -2, 1, "RW access delete")];
const REMOVE: &[KeySpec] = &[KeySpec::one(1, "RW delete")];
const READ_MANY: &[KeySpec] = &[KeySpec::numkeys(1, "RO access")];
const STORE_MANY: &[KeySpec] = &[KeySpec::one(1, "OW update"), KeySpec::numkeys(2, "RO access")];

const LOG: &str = "O(log(N)) with N = size of the sorted set";
const RANGE: &str = "O(log(N)+M) with M = members in the range";
const MPOP: &str = "O(K)+O(M*log(N)) with K = number of keys and M = members returned";
const DIFF: &str = "O(L+(N-K)log(N)) with L = members of all and K = size of the result";
const MEET: &str = "O(N*K)+O(M*log(M)) with N = members of the smallest, K = number of keys and M = size of the result";
const ALL: &str = "O(N)+O(M*log(M)) with N = members of all and M = size of the result";

const SORTED_SET: Family = Family(Group::SortedSet);

/// The rows of this family.
pub const COMMANDS: &[Command] = &[
    SORTED_SET.row(
        "bzmpop",
        -5,
        WAIT.or(MOVES),
        &[KeySpec::numkeys(2, "RW access delete")],
        "7.0.0",
        MPOP,
        (
            "timeout numkeys key [key ...] <MIN | MAX> [COUNT count]",
            "Takes members from an end of the first sorted set that has any; waits if none has.",
        ),
        pops::blocking_pop_many::<SortedSet>,
    ),
    SORTED_SET.row(
        "bzpopmax",
        -3,
        WAIT.or(FAST),
        POP_MANY,
        "5.0.0",
        LOG,
        (
            "key [key ...] timeout",
            "Takes the member with the highest score from the first sorted set that has any; waits if none has.",
        ),
        super::bzpopmax,
    ),
    SORTED_SET.row(
        "bzpopmin",
        -3,
        WAIT.or(FAST),
        POP_MANY,
        "5.0.0",
        LOG,
        (
            "key [key ...] timeout",
            "Takes the member with the lowest score from the first sorted set that has any; waits if none has.",
        ),
        super::bzpopmin,
    ),
    SORTED_SET.row(
        "zadd",
        -4,
        GROW.or(FAST),
        &[KeySpec::one(1, "RW update")],
        "1.2.0",
        "O(log(N)) for each member",
        (
            "key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]",
            "Adds members or changes their scores.",
        ),
        super::zadd,
    ),
    SORTED_SET.row(
        "zcard",
        2,
        FAST_READ,
        COUNTED,
        "1.2.0",
        "O(1)",
        ("key", "Returns the number of members."),
        super::zcard,
    ),
    SORTED_SET.row(
        "zcount",
        4,
        FAST_READ,
        READ_ONE,
        "2.0.0",
        LOG,
        ("key min max", "Counts the members with scores between two."),
        ranges::zcount,
    ),
    SORTED_SET.row(
        "zdiff",
        -3,
        READ.or(MOVES),
        READ_MANY,
        "6.2.0",
        DIFF,
        (
            "numkeys key [key ...] [WITHSCORES]",
            "Returns the members of the first sorted set that are in none of the others.",
        ),
        combine::zdiff,
    ),
    SORTED_SET.row(
        "zdiffstore",
        -4,
        GROW.or(MOVES),
        STORE_MANY,
        "6.2.0",
        DIFF,
        ("destination numkeys key [key ...]", "Stores what ZDIFF returns."),
        combine::zdiffstore,
    ),
    SORTED_SET.row(
        "zincrby",
        4,
        GROW.or(FAST),
        &[KeySpec::one(1, "RW access update")],
        "1.2.0",
        LOG,
        ("key increment member", "Adds to the score of a member."),
        super::zincrby,
    ),
    SORTED_SET.row(
        "zinter",
        -3,
        READ.or(MOVES),
        READ_MANY,
        "6.2.0",
        MEET,
        (
            "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]",
            "Returns the members that are in all of the sorted sets.",
        ),
        combine::zinter,
    ),
    SORTED_SET.row(
        "zintercard",
        -3,
        READ.or(MOVES),
        READ_MANY,
        "7.0.0",
        "O(N*K) with N = members of the smallest and K = number of sorted sets",
        (
            "numkeys key [key ...] [LIMIT limit]",
            "Counts the members that are in all of the sorted sets.",
        ),
        combine::zintercard,
    ),
    SORTED_SET.row(
        "zinterstore",
        -4,
        GROW.or(MOVES),
        STORE_MANY,
        "2.0.0",
        MEET,
        (
            "destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>]",
            "Stores what ZINTER returns.",
        ),
        combine::zinterstore,
    ),
    SORTED_SET.row(
        "zlexcount",
        4,
        FAST_READ,
        READ_ONE,
        "2.8.9",
        LOG,
        ("key min max", "Counts the members between two texts."),
        ranges::zlexcount,
    ),
    SORTED_SET.row(
        "zmpop",
        -4,
        WRITE.or(MOVES),
        &[KeySpec::numkeys(1, "RW access delete")],
        "7.0.0",
        MPOP,
        (
            "numkeys key [key ...] <MIN | MAX> [COUNT count]",
            "Takes members from an end of the first sorted set that has any.",
        ),
        pops::pop_many::<SortedSet>,
    ),
    SORTED_SET.row(
        "zmscore",
        -3,
        FAST_READ,
        READ_ONE,
        "6.2.0",
        "O(N) with N = members asked for",
        ("key member [member ...]", "Returns the scores of members."),
        super::zmscore,
    ),
    SORTED_SET.row(
        "zpopmax",
        -2,
        WRITE.or(FAST),
        POP,
        "5.0.0",
        "O(log(N)*M) with M = members returned",
        ("key [count]", "Takes the members with the highest scores."),
        super::zpopmax,
    ),
    SORTED_SET.row(
        "zpopmin",
        -2,
        WRITE.or(FAST),
        POP,
        "5.0.0",
        "O(log(N)*M) with M = members returned",
        ("key [count]", "Takes the members with the lowest scores."),
        super::zpopmin,
    ),
    SORTED_SET.row(
        "zrandmember",
        -2,
        READ,
        READ_ONE,
        "6.2.0",
        "O(N) with N = members returned",
        ("key [count [WITHSCORES]]", "Returns members drawn at random."),
        super::zrandmember,
    ),
    SORTED_SET.row(
        "zrange",
        -4,
        READ,
        READ_ONE,
        "1.2.0",
        RANGE,
        (
            "key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]",
            "Returns the members of a range of ranks, scores or texts.",
        ),
        ranges::zrange,
    ),
    SORTED_SET.row(
        "zrangebylex",
        -4,
        READ,
        READ_ONE,
        "2.8.9",
        RANGE,
        ("key min max [LIMIT offset count]", "Returns the members between two texts."),
        ranges::zrangebylex,
    ),
    SORTED_SET.row(
        "zrangebyscore",
        -4,
        READ,
        READ_ONE,
        "1.0.5",
        RANGE,
        (
            "key min max [WITHSCORES] [LIMIT offset count]",
            "Returns the members with scores between two.",
        ),
        ranges::zrangebyscore,
    ),
    SORTED_SET.row(
        "zrangestore",
        -5,
        GROW,
        &[KeySpec::one(1, "OW update"), KeySpec::one(2, "RO access")],
        "6.2.0",
        RANGE,
        (
            "dst src min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]",
            "Stores what ZRANGE returns.",
        ),
        ranges::zrangestore,
    ),
    SORTED_SET.row(
        "zrank",
        -3,
        FAST_READ,
        READ_ONE,
        "2.0.0",
        LOG,
        ("key member [WITHSCORE]", "Returns how many members come before one."),
        super::zrank,
    ),
    SORTED_SET.row(
        "zrem",
        -3,
        WRITE.or(FAST),
        REMOVE,
        "1.2.0",
        "O(M*log(N)) with M = members named",
        ("key member [member ...]", "Removes members, and the sorted set if none is left."),
        super::zrem,
    ),
    SORTED_SET.row(
        "zremrangebylex",
        4,
        WRITE,
        REMOVE,
        "2.8.9",
        RANGE,
        ("key min max", "Removes the members between two texts."),
        ranges::zremrangebylex,
    ),
    SORTED_SET.row(
        "zremrangebyrank",
        4,
        WRITE,
        REMOVE,
        "2.0.0",
        RANGE,
        ("key start stop", "Removes the members of a range of ranks."),
        ranges::zremrangebyrank,
    ),
    SORTED_SET.row(
        "zremrangebyscore",
        4,
        WRITE,
        REMOVE,
        "1.2.0",
        RANGE,
        ("key min max", "Removes the members with scores between two."),
        ranges::zremrangebyscore,
    ),
    SORTED_SET.row(
        "zrevrange",
        -4,
        READ,
        READ_ONE,
        "1.2.0",
        RANGE,
        (
            "key start stop [WITHSCORES]",
            "Returns the members of a range of ranks, counted from the highest score.",
        ),
        ranges::zrevrange,
    ),
    SORTED_SET.row(
        "zrevrangebylex",
        -4,
        READ,
        READ_ONE,
        "2.8.9",
        RANGE,
        (
            "key max min [LIMIT offset count]",
            "Returns the members between two texts, the greatest first.",
        ),
        ranges::zrevrangebylex,
    ),
    SORTED_SET.row(
        "zrevrangebyscore",
        -4,
        READ,
        READ_ONE,
        "2.2.0",
        RANGE,
        (
            "key max min [WITHSCORES] [LIMIT offset count]",
            "Returns the members with scores between two, the highest first.",
        ),
        ranges::zrevrangebyscore,
    ),
    SORTED_SET.row(
        "zrevrank",
        -3,
        FAST_READ,
        READ_ONE,
        "2.0.0",
        LOG,
        ("key member [WITHSCORE]", "Returns how many members come after one."),
        super::zrevrank,
    ),
    SORTED_SET.row(
        "zscan",
        -3,
        READ,
        READ_ONE,
        "2.8.0",
        "O(1) a call, O(N) for the whole iteration",
        ("key cursor [MATCH pattern] [COUNT count] [NOSCORES]", "Walks over members and scores step by step."),
        super::zscan,
    ),
    SORTED_SET.row(
        "zscore",
        3,
        FAST_READ,
        READ_ONE,
        "1.2.0",
        "O(1)",
        ("key member", "Returns the score of a member."),
        super::zscore,
    ),
    SORTED_SET.row(
        "zunion",
        -3,
        READ.or(MOVES),
        READ_MANY,
        "6.2.0",
        ALL,
        (
            "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]",
            "Returns the members that are in any of the sorted sets.",
        ),
        combine::zunion,
    ),
    SORTED_SET.row(
        "zunionstore",
        -4,
        GROW.or(MOVES),
        STORE_MANY,
        "2.0.0",
        ALL,
        (
            "destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>]",
            "Stores what ZUNION returns.",
        ),
        combine::zunionstore,
    ),
];
