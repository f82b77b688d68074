//! DUMP payloads of every type from hostile bytes, with a footer made right: no panic, and what was restored is
//! dumped and restored again.
#![no_main]

use larder_persist::crc64::Crc64;
use larder_persist::rdb::{Version, dump, restore};
use larder_store::{Payload, Thresholds};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((version, value)) = bytes.split_first() else { return };
    let version: u16 = match version % 4 {
        0 => 9,
        1 => 11,
        2 => 12,
        _ => 80,
    };
    let mut payload = [value, &version.to_le_bytes()].concat();
    payload.extend_from_slice(&Crc64::of(&payload).to_le_bytes());
    let limits = Thresholds::default();
    let Ok(value) = restore(&payload, &limits) else { return };
    let dumped =
        dump(&Payload::Boxed(value.as_ref()), Version::Valkey(80)).expect("80 has all forms");
    let again = restore(&dumped, &limits).expect("our own payload");
    assert_eq!(value.as_ref().kind(), again.as_ref().kind());
    let twice =
        dump(&Payload::Boxed(again.as_ref()), Version::Valkey(80)).expect("80 has all forms");
    assert_eq!(dumped.len(), twice.len());
});
