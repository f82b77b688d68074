//! Making room: at `maxmemory`, keys go before a command that needs memory runs, within a bounded time. Which
//! keys, `store::eviction` decides. What went, by which policy and how long it had not been used, is counted here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use larder_base::rng::Rng;
use larder_base::time::Millis;
use larder_store::eviction::{Choice, Eviction, Policy, Pool};
use parking_lot::Mutex;

use crate::config::EvictionPolicy;
use crate::dispatch::{self, Ready};
use crate::shared::Server;
use crate::stats::Stats;

/// Powers of two of milliseconds.
const AGES: usize = 40;
const POLICIES: usize = 10;

/// What was evicted, by policy.
pub struct Evictions {
    pool: Mutex<Pool>,
    by_policy: [Book; POLICIES],
}

struct Book {
    count: AtomicU64,
    /// How long the keys had not been used: number of those below 2^n milliseconds, and not below 2^(n-1).
    ages: [AtomicU64; AGES],
}

impl Default for Evictions {
    fn default() -> Evictions {
        let book =
            || Book { count: AtomicU64::new(0), ages: std::array::from_fn(|_| AtomicU64::new(0)) };
        Evictions { pool: Mutex::default(), by_policy: std::array::from_fn(|_| book()) }
    }
}

/// The policies that evict, in the order of the books.
const NAMED: [(EvictionPolicy, Policy, bool); POLICIES - 1] = [
    (EvictionPolicy::VolatileLru, Policy::LeastRecent, true),
    (EvictionPolicy::VolatileLfu, Policy::LeastFrequent, true),
    (EvictionPolicy::VolatileRandom, Policy::Random, true),
    (EvictionPolicy::VolatileTtl, Policy::NextToExpire, true),
    (EvictionPolicy::AllKeysLru, Policy::LeastRecent, false),
    (EvictionPolicy::AllKeysLfu, Policy::LeastFrequent, false),
    (EvictionPolicy::AllKeysRandom, Policy::Random, false),
    (EvictionPolicy::AllKeysS3Fifo, Policy::S3Fifo, false),
    (EvictionPolicy::VolatileS3Fifo, Policy::S3Fifo, true),
];

/// What the data must know of a policy.
pub fn eviction_of(policy: EvictionPolicy, samples: u32) -> Option<Eviction> {
    let (_, policy, volatile_only) = NAMED.iter().find(|(named, ..)| *named == policy)?;
    let samples = usize::try_from(samples).unwrap_or(5).max(1);
    Some(Eviction { policy: *policy, volatile_only: *volatile_only, samples })
}

/// What was evicted by one policy.
pub struct Evicted {
    /// The policy's name.
    pub policy: &'static str,
    /// Keys.
    pub count: u64,
    /// Milliseconds without use below which half, and 99 % of them had stayed (upper bounds, powers of two).
    pub ages_ms: [u64; 2],
}

impl Evictions {
    fn note(&self, eviction: Eviction, idle_ms: u64) {
        let at = NAMED.iter().position(|(_, policy, volatile)| {
            *policy == eviction.policy && *volatile == eviction.volatile_only
        });
        let Some(book) = at.and_then(|at| self.by_policy.get(at)) else { return };
        book.count.fetch_add(1, Ordering::Relaxed);
        let width = usize::try_from(u64::BITS - idle_ms.leading_zeros()).unwrap_or(0);
        if let Some(age) = book.ages.get(width.min(AGES - 1)) {
            age.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was evicted, by the policies that evicted anything.
    pub fn by_policy(&self) -> Vec<Evicted> {
        let books = NAMED.iter().zip(&self.by_policy);
        let used = books.filter_map(|((policy, ..), book)| {
            let count = book.count.load(Ordering::Relaxed);
            (count > 0).then(|| Evicted {
                policy: policy.name(),
                count,
                ages_ms: [50, 99].map(|percent| book.percentile(percent)),
            })
        });
        used.collect()
    }

    /// CONFIG RESETSTAT.
    pub fn reset(&self) {
        for book in &self.by_policy {
            book.count.store(0, Ordering::Relaxed);
            book.ages.iter().for_each(|age| age.store(0, Ordering::Relaxed));
        }
    }
}

impl Book {
    fn percentile(&self, percent: u64) -> u64 {
        let total: u64 = self.ages.iter().map(|age| age.load(Ordering::Relaxed)).sum();
        let (mut seen, wanted) = (0, (total * percent).div_ceil(100));
        for (width, age) in self.ages.iter().enumerate() {
            seen += age.load(Ordering::Relaxed);
            if seen >= wanted {
                return (1u64 << width) - 1;
            }
        }
        u64::MAX
    }
}

/// How long one command may be held up by eviction, as Redis reads `maxmemory-eviction-tenacity`.
fn patience(tenacity: u32) -> Duration {
    match tenacity {
        0..=10 => Duration::from_micros(50 * u64::from(tenacity)),
        // Grows by 15 % a step, to about two minutes at 99.
        11..=99 => {
            let steps = i32::try_from(tenacity - 10).unwrap_or(0);
            Duration::from_secs_f64(500e-6 * 1.15f64.powi(steps))
        }
        _ => Duration::MAX,
    }
}

impl Server {
    /// Evicts until as much has gone as memory was above the limit, or patience ends: then the next command goes on with
    /// it. What telling of that takes (invalidations, the journal) is nobody's reason to go. False if nothing more can
    /// go. The caller holds no slot.
    pub fn make_room(
        &self,
        now: Millis,
        rng: &mut Rng,
        stats: &mut Stats,
        ready: &mut Vec<Ready>,
    ) -> bool {
        let Some(eviction) = self.settings.eviction else { return false };
        let begun = Instant::now();
        let patience = patience(self.config().maxmemory_eviction_tenacity);
        let choice = Choice { keyspace: &self.keyspace, settings: &self.settings, eviction, now };
        // Another worker that evicts now has the pool; fresh samples alone do nearly as well.
        let mut own = Pool::default();
        let mut shared = self.evictions.pool.try_lock();
        let pool = shared.as_deref_mut().unwrap_or(&mut own);
        let (mut evicted, mut vain) = (0u32, 0u32);
        let (wanted, mut gone) = (self.memory_excess(), 0usize);
        while gone < wanted && self.is_out_of_memory() {
            let Some(victim) = pool.victim(&choice, rng) else { break };
            let (keyspace, at) = (&self.keyspace, victim.at);
            let mut view = keyspace.view_slots(&self.settings, victim.db, &[at.slot], now);
            if let Some(bytes) = view.evict(&victim.key) {
                evicted += 1;
                gone = gone.saturating_add(bytes);
                self.evictions.note(eviction, victim.idle_ms);
            } else {
                vain += 1;
            }
            dispatch::tally(stats, &view);
            dispatch::settle(self, &mut view, 0, ready);
            if vain > 1000 {
                break;
            }
            if evicted % 16 == 15 && begun.elapsed() >= patience {
                break;
            }
        }
        let took = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.latency.note("eviction-cycle", took, now);
        evicted > 0 || !self.is_out_of_memory()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_by_powers_of_two() {
        let evictions = Evictions::default();
        let eviction = eviction_of(EvictionPolicy::AllKeysLru, 5).expect("it evicts");
        for idle in 0..100 {
            evictions.note(eviction, idle * 10);
        }
        let told = evictions.by_policy();
        let [only] = told.as_slice() else { panic!("one policy") };
        assert_eq!((only.policy, only.count, only.ages_ms), ("allkeys-lru", 100, [511, 1023]));
        evictions.reset();
        assert!(evictions.by_policy().is_empty());
    }

    #[test]
    fn every_policy_but_one_evicts() {
        assert_eq!(eviction_of(EvictionPolicy::NoEviction, 5), None);
        assert_eq!(NAMED.len(), EvictionPolicy::NAMES.len() - 1);
        assert!(patience(10) == Duration::from_micros(500) && patience(100) == Duration::MAX);
    }
}
