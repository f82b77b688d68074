//! The rows of the commands on places.

use crate::support::{Family, READ_ONE};
use crate::table::{Command, Flags, Group, KeySpec};

const GEO: Family = Family(Group::Geo);
const READ: Flags = Flags::READONLY;
const GROW: Flags = Flags::WRITE.or(Flags::DENYOOM);
const AROUND: &str = "O(N+log(M)) with N = places near the shape and M = size of the set";

/// The rows of this family.
pub const COMMANDS: &[Command] = &[
    GEO.row(
        "geoadd",
        -5,
        GROW,
        &[KeySpec::one(1, "RW update")],
        "3.2.0",
        "O(log(N)) for each member",
        (
            "key [NX | XX] [CH] longitude latitude member [longitude latitude member ...]",
            "Adds places or moves them.",
        ),
        super::geoadd,
    ),
    GEO.row(
        "geodist",
        -4,
        READ,
        READ_ONE,
        "3.2.0",
        "O(1)",
        ("key member1 member2 [M | KM | FT | MI]", "Returns the distance of two places."),
        super::geodist,
    ),
    GEO.row(
        "geohash",
        -2,
        READ,
        READ_ONE,
        "3.2.0",
        "O(1) for each member",
        ("key [member [member ...]]", "Returns places as geohash texts."),
        super::geohash,
    ),
    GEO.row(
        "geopos",
        -2,
        READ,
        READ_ONE,
        "3.2.0",
        "O(1) for each member",
        ("key [member [member ...]]", "Returns the coordinates of places."),
        super::geopos,
    ),
    GEO.row(
        "georadius",
        -6,
        GROW.or(Flags::MOVABLE_KEYS),
        &[
            KeySpec::one(1, "RO access"),
            KeySpec::keyword("STORE", 6, "OW update"),
            KeySpec::keyword("STOREDIST", 6, "OW update"),
        ],
        "3.2.0",
        AROUND,
        (
            "key longitude latitude radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC] [STORE key | STOREDIST key]",
            "Finds the places within a distance of a point.",
        ),
        super::georadius,
    ),
    GEO.row(
        "georadius_ro",
        -6,
        READ,
        READ_ONE,
        "3.2.10",
        AROUND,
        (
            "key longitude latitude radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC]",
            "Finds the places within a distance of a point.",
        ),
        super::georadius_ro,
    ),
    GEO.row(
        "georadiusbymember",
        -5,
        GROW.or(Flags::MOVABLE_KEYS),
        &[
            KeySpec::one(1, "RO access"),
            KeySpec::keyword("STORE", 5, "OW update"),
            KeySpec::keyword("STOREDIST", 5, "OW update"),
        ],
        "3.2.0",
        AROUND,
        (
            "key member radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC] [STORE key | STOREDIST key]",
            "Finds the places within a distance of another.",
        ),
        super::georadiusbymember,
    ),
    GEO.row(
        "georadiusbymember_ro",
        -5,
        READ,
        READ_ONE,
        "3.2.10",
        AROUND,
        (
            "key member radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC]",
            "Finds the places within a distance of another.",
        ),
        super::georadiusbymember_ro,
    ),
    GEO.row(
        "geosearch",
        -7,
        READ,
        READ_ONE,
        "6.2.0",
        AROUND,
        (
            "key <FROMMEMBER member | FROMLONLAT longitude latitude> <BYRADIUS radius <M | KM | FT | MI> | BYBOX width height <M | KM | FT | MI>> [ASC | DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]",
            "Finds the places within a circle or box.",
        ),
        super::geosearch,
    ),
    GEO.row(
        "geosearchstore",
        -8,
        GROW,
        &[KeySpec::one(1, "OW update"), KeySpec::one(2, "RO access")],
        "6.2.0",
        AROUND,
        (
            "destination source <FROMMEMBER member | FROMLONLAT longitude latitude> <BYRADIUS radius <M | KM | FT | MI> | BYBOX width height <M | KM | FT | MI>> [ASC | DESC] [COUNT count [ANY]] [STOREDIST]",
            "Stores what GEOSEARCH finds.",
        ),
        super::geosearchstore,
    ),
];
