//! Numbers from hostile text: no panic, and a number read is the number that its text says.
#![no_main]

use larder_base::number::{self, LongDouble};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let standard = std::str::from_utf8(text).ok();
    if let Some(value) = number::parse_i64(text) {
        assert_eq!(standard.and_then(|text| text.parse().ok()), Some(value));
        assert_eq!(value.to_string().as_bytes(), text);
        assert_eq!(number::i64_len(value), text.len());
    }
    if let Some(value) = number::parse_f64(text) {
        let mut written = Vec::new();
        number::write_f64(&mut written, value);
        assert_eq!(number::parse_f64(&written), Some(value));
    }
    if let Some(value) = LongDouble::parse(text) {
        let doubled = value.add(value);
        assert!(!doubled.is_nan());
        let printed = value.to_text();
        assert!(LongDouble::parse(&printed).is_some() || value.is_infinite());
    }
    let _ = number::parse_memory(text);
});
