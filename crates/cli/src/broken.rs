//! What becomes of a process in which an invariant does not hold (a panic, in any thread): it says so and ends at once.
//! Unwinding would let go of locked data that is changed in part, for other workers to serve, and to save. It knows no
//! server, and nothing of what broke.

use std::panic;
use std::process;

use larder_server::log;

/// From now on a panic ends the process, as if it had been killed: what the disk has is what counts.
pub fn end_at_once() {
    panic::set_hook(Box::new(|what| {
        log::warning(&format!("BUG, the server ends: {what}"));
        process::abort();
    }));
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;

    /// The half of the test below that dies.
    #[test]
    #[ignore = "kills its process"]
    fn a_thread_breaks() {
        end_at_once();
        let thread = std::thread::spawn(|| panic!("an invariant"));
        assert!(thread.join().is_ok());
        std::thread::sleep(Duration::from_secs(60));
    }

    #[test]
    fn a_broken_thread_ends_the_process() {
        let own = env::current_exe().unwrap();
        let mut half = Command::new(own);
        half.args(["--ignored", "--exact", "broken::tests::a_thread_breaks"]);
        let status = half.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        const ABORTED: i32 = 6;
        assert_eq!(status.signal(), Some(ABORTED));
    }
}
