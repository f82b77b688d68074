//! The rows of the strings' commands.

use crate::table::{Begin, Command, Find, Flags, Group, KeySpec};

const READ: Flags = Flags::READONLY;
const READ_FAST: Flags = Flags::READONLY.or(Flags::FAST);
const WRITE_FAST: Flags = Flags::WRITE.or(Flags::FAST);
const GROW: Flags = Flags::WRITE.or(Flags::DENYOOM);
const GROW_FAST: Flags = GROW.or(Flags::FAST);
const UPDATE: &[KeySpec] = &[KeySpec::one(1, "RW access update")];
const OVERWRITE: &[KeySpec] = &[KeySpec::one(1, "OW update")];
const ACCESS: &[KeySpec] = &[KeySpec::one(1, "RO access")];

/// The string commands.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "append",
        arity: 3,
        flags: GROW_FAST,
        keys: &[KeySpec::one(1, "RW insert")],
        since: "2.0.0",
        summary: "Adds text to the end of a string, which is created if need be.",
        usage: "key value",
        ..Command::data(Group::String, super::append)
    },
    Command {
        name: "decr",
        arity: 2,
        flags: GROW_FAST,
        keys: UPDATE,
        summary: "Takes one from the integer at a key; an absent key counts as 0.",
        usage: "key",
        ..Command::data(Group::String, super::decr)
    },
    Command {
        name: "decrby",
        arity: 3,
        flags: GROW_FAST,
        keys: UPDATE,
        summary: "Subtracts a number from the integer at a key; an absent key counts as 0.",
        usage: "key decrement",
        ..Command::data(Group::String, super::decrby)
    },
    Command {
        name: "delifeq",
        arity: 3,
        flags: Flags::WRITE,
        keys: &[KeySpec::one(1, "RM delete")],
        since: "9.0.0",
        summary: "Deletes a key whose string equals the given one.",
        usage: "key value",
        ..Command::data(Group::String, super::delifeq)
    },
    Command {
        name: "get",
        arity: 2,
        flags: READ_FAST,
        keys: ACCESS,
        summary: "Answers the string at a key.",
        usage: "key",
        ..Command::data(Group::String, super::get)
    },
    Command {
        name: "getdel",
        arity: 2,
        flags: WRITE_FAST,
        keys: &[KeySpec::one(1, "RW access delete")],
        since: "6.2.0",
        summary: "Answers the string at a key and deletes the key.",
        usage: "key",
        ..Command::data(Group::String, super::getdel)
    },
    Command {
        name: "getex",
        arity: -2,
        flags: WRITE_FAST,
        keys: UPDATE,
        since: "6.2.0",
        summary: "Answers the string at a key and changes when the key expires.",
        usage: "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | \
                PXAT unix-time-milliseconds | PERSIST]",
        ..Command::data(Group::String, super::getex)
    },
    Command {
        name: "getrange",
        arity: 4,
        flags: READ,
        keys: ACCESS,
        since: "2.4.0",
        complexity: "O(N) where N is the length of the answer",
        summary: "Answers a part of the string at a key.",
        usage: "key start end",
        ..Command::data(Group::String, super::getrange)
    },
    Command {
        name: "getset",
        arity: 3,
        flags: GROW_FAST,
        keys: UPDATE,
        summary: "Sets a key to a string and answers the one it held before.",
        usage: "key value",
        ..Command::data(Group::String, super::getset)
    },
    Command {
        name: "incr",
        arity: 2,
        flags: GROW_FAST,
        keys: UPDATE,
        summary: "Adds one to the integer at a key; an absent key counts as 0.",
        usage: "key",
        ..Command::data(Group::String, super::incr)
    },
    Command {
        name: "incrby",
        arity: 3,
        flags: GROW_FAST,
        keys: UPDATE,
        summary: "Adds a number to the integer at a key; an absent key counts as 0.",
        usage: "key increment",
        ..Command::data(Group::String, super::incrby)
    },
    Command {
        name: "incrbyfloat",
        arity: 3,
        flags: GROW_FAST,
        keys: UPDATE,
        since: "2.6.0",
        summary: "Adds a fractional number to the number at a key; an absent key counts as 0.",
        usage: "key increment",
        ..Command::data(Group::String, super::incrbyfloat)
    },
    Command {
        name: "mget",
        arity: -2,
        flags: READ_FAST,
        keys: &[KeySpec::range(1, -1, 1, "RO access")],
        complexity: "O(N) where N is the number of keys",
        summary: "Answers the strings at several keys, null where there is none.",
        usage: "key [key ...]",
        tips: &["request_policy:multi_shard"],
        ..Command::data(Group::String, super::mget)
    },
    Command {
        name: "mset",
        arity: -3,
        flags: GROW,
        keys: &[KeySpec::range(1, -1, 2, "OW update")],
        since: "1.0.1",
        complexity: "O(N) where N is the number of keys",
        summary: "Sets several keys to strings, all at once.",
        usage: "key value [key value ...]",
        tips: &["request_policy:multi_shard", "response_policy:all_succeeded"],
        ..Command::data(Group::String, super::mset)
    },
    Command {
        name: "msetex",
        arity: -4,
        flags: GROW.or(Flags::MOVABLE_KEYS),
        keys: &[KeySpec {
            flags: "OW update",
            begin: Begin::Index(1),
            find: Find::KeyNum { index: 0, first: 1, step: 2 },
        }],
        since: "9.1.0",
        complexity: "O(N) where N is the number of keys",
        summary: "Sets several keys at once, on a condition and with one time to expire.",
        usage: "numkeys key value [key value ...] [NX | XX] [EX seconds | PX milliseconds | \
                EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
        ..Command::data(Group::String, super::msetex)
    },
    Command {
        name: "msetnx",
        arity: -3,
        flags: GROW,
        keys: &[KeySpec::range(1, -1, 2, "OW insert")],
        since: "1.0.1",
        complexity: "O(N) where N is the number of keys",
        summary: "Sets several keys to strings if none of them exists.",
        usage: "key value [key value ...]",
        tips: &["request_policy:multi_shard", "response_policy:agg_min"],
        ..Command::data(Group::String, super::msetnx)
    },
    Command {
        name: "psetex",
        arity: 4,
        flags: GROW,
        keys: OVERWRITE,
        since: "2.6.0",
        summary: "Sets a key to a string that expires after some milliseconds.",
        usage: "key milliseconds value",
        ..Command::data(Group::String, super::psetex)
    },
    Command {
        name: "set",
        arity: -3,
        flags: GROW,
        keys: &[KeySpec::one(1, "RW access update variable_flags")],
        summary: "Sets a key to a string, whatever it held, on conditions if wanted.",
        usage: "key value [NX | XX | IFEQ comparison-value] [GET] [EX seconds | \
                PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
        ..Command::data(Group::String, super::set)
    },
    Command {
        name: "setex",
        arity: 4,
        flags: GROW,
        keys: OVERWRITE,
        since: "2.0.0",
        summary: "Sets a key to a string that expires after some seconds.",
        usage: "key seconds value",
        ..Command::data(Group::String, super::setex)
    },
    Command {
        name: "setnx",
        arity: 3,
        flags: GROW_FAST,
        keys: &[KeySpec::one(1, "OW insert")],
        summary: "Sets a key to a string if the key does not exist.",
        usage: "key value",
        ..Command::data(Group::String, super::setnx)
    },
    Command {
        name: "setrange",
        arity: 4,
        flags: GROW,
        keys: &[KeySpec::one(1, "RW update")],
        since: "2.2.0",
        complexity: "O(N) where N is the length of the value",
        summary: "Overwrites a part of the string at a key, filling gaps with zero bytes.",
        usage: "key offset value",
        ..Command::data(Group::String, super::setrange)
    },
    Command {
        name: "strlen",
        arity: 2,
        flags: READ_FAST,
        keys: &[KeySpec::one(1, "RO")],
        since: "2.2.0",
        summary: "Answers the length of the string at a key in bytes.",
        usage: "key",
        ..Command::data(Group::String, super::strlen)
    },
    Command {
        name: "substr",
        arity: 4,
        flags: READ,
        keys: ACCESS,
        complexity: "O(N) where N is the length of the answer",
        summary: "The old name of GETRANGE.",
        usage: "key start end",
        ..Command::data(Group::String, super::getrange)
    },
];
