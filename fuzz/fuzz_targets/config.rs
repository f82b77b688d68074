//! Any text as a configuration file: loading never panics, what loads is written and loaded again as the same, and
//! rewriting the text a second time changes nothing. Includes are left out: a fuzzer must not read files.
#![no_main]

use larder_server::config::{RawConfig, rewrite::rewrite, split::quote};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut bare = data.to_ascii_lowercase();
    bare.retain(|byte| !b"'\"".contains(byte));
    if bare.windows(7).any(|part| part == b"include") || bare.contains(&b'\\') {
        return;
    }
    let Ok(raw) = RawConfig::from_text("fuzz", data) else { return };
    let Ok(config) = raw.parse() else { return };
    let mut written = rewrite("", &config);
    for (command, name) in &config.renamed_commands {
        written.push_str(&format!("rename-command {} {}\n", quote(command), quote(name)));
    }
    let again = RawConfig::from_text("again", written.as_bytes()).and_then(|raw| raw.parse());
    assert_eq!(again.as_ref().ok(), Some(&config), "{written}");
    let text = String::from_utf8_lossy(data);
    let once = rewrite(&text, &config);
    assert_eq!(rewrite(&once, &config), once);
});
