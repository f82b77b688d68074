//! How a thread of the background stands to those that serve. It knows no thread by name.

/// Lets others go first where cores are scarce: what the calling thread does can wait. Without effect where the system
/// refuses.
pub fn give_way() {
    // A third of the weight of a worker: it must still get on while all cores are busy.
    const NICE: i32 = 5;
    let _ = rustix::process::nice(NICE);
}
