//! Replies from hostile bytes: no panic, and what was read is read again from its own encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some((value, len))) = larder_protocol::parse(bytes) else { return };
    assert!(len > 0 && len <= bytes.len());
    let mut encoded = Vec::new();
    value.encode(&mut encoded);
    let again = larder_protocol::parse(&encoded);
    assert_eq!(again, Ok(Some((value, encoded.len()))));
    // A reply's prefixes are never replies nor errors.
    let cut = bytes.len() / 2 % len;
    assert_eq!(larder_protocol::parse(&bytes[..cut]), Ok(None));
});
