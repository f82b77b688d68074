//! Manifests from hostile bytes: no panic, and what was read is written and read again.
#![no_main]

use larder_persist::aof::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(manifest) = Manifest::parse(bytes) else { return };
    let text = manifest.render(true);
    if text.is_empty() {
        return;
    }
    assert_eq!(Manifest::parse(&text), Ok(manifest));
});
