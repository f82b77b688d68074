//! The part of the configuration that the data itself depends on. Who reads configuration files, and
//! how the values got here, is not known here.

use crate::eviction::Eviction;
use crate::value::Thresholds;

/// How the 24 eviction bits of a record are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum EvictionBits {
    /// Time of the last access, in units of 128 ms (wraps after 24 days).
    #[default]
    LastAccess,
    /// Minutes of the last decrement (16 bits) and a logarithmic counter (8 bits), as Redis's LFU.
    Frequency,
    /// Two bits of uses, one of the queue and 21 bits of logical time, for S3-FIFO.
    Small,
}

/// Data-relevant settings of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// When collections leave their small forms.
    pub thresholds: Thresholds,
    /// Which keys go when memory is full; `None` = none.
    pub eviction: Option<Eviction>,
    /// What the eviction bits mean.
    pub eviction_bits: EvictionBits,
    /// Larger grows the frequency counter more slowly (`lfu-log-factor`).
    pub lfu_log_factor: u32,
    /// Minutes after which the frequency counter loses one (`lfu-decay-time`); 0 = never.
    pub lfu_decay_minutes: u32,
    /// The longest string, in bytes (`proto-max-bulk-len`).
    pub text_max: usize,
    /// Bytes above which a sparse HyperLogLog becomes dense (`hll-sparse-max-bytes`).
    pub hll_sparse_max: usize,
    /// Payloads are judged by what they say alone, not by their checksum (DEBUG, for tests).
    pub skip_checksums: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            thresholds: Thresholds::default(),
            eviction: None,
            eviction_bits: EvictionBits::LastAccess,
            lfu_log_factor: 10,
            lfu_decay_minutes: 1,
            text_max: 512 << 20,
            hll_sparse_max: 3000,
            skip_checksums: false,
        }
    }
}
