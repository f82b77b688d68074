//! The policies take the keys that they should, on a keyspace without a server.

use larder_base::hash::KeyHasher;

use super::*;
use crate::view::Deadline;

struct Cache {
    keyspace: Keyspace,
    settings: Settings,
    pool: Pool,
    rng: Rng,
    now: Millis,
}

impl Cache {
    fn new(policy: Policy, volatile_only: bool) -> Cache {
        let eviction = Eviction { policy, volatile_only, samples: 5 };
        let settings = Settings {
            eviction: Some(eviction),
            eviction_bits: eviction.bits(),
            ..Settings::default()
        };
        Cache {
            keyspace: Keyspace::new(KeyHasher::new(5, 6), 2),
            settings,
            pool: Pool::default(),
            rng: Rng::new(9),
            now: Millis(1_700_000_000_000),
        }
    }

    fn view(&self) -> crate::view::View<'_> {
        self.keyspace.view_all(&self.settings, DbIndex(0), self.now)
    }

    fn set(&mut self, key: &str, ttl_ms: Option<i64>) {
        let when = ttl_ms.map_or(Deadline::None, |ms| Deadline::At(Millis(self.now.0 + ms)));
        self.view().set_string(key.as_bytes(), b"v", when);
    }

    fn get(&mut self, key: &str) -> bool {
        self.view().read_string(key.as_bytes()).is_ok_and(|text| text.is_some())
    }

    /// Evicts one key and says which.
    fn evict(&mut self) -> Option<String> {
        let eviction = self.settings.eviction.expect("a policy");
        let (keyspace, settings, now) = (&self.keyspace, &self.settings, self.now);
        let choice = Choice { keyspace, settings, eviction, now };
        for _ in 0..10 {
            let victim = self.pool.victim(&choice, &mut self.rng)?;
            let mut view = keyspace.view_slots(settings, victim.db, &[victim.at.slot], now);
            if view.evict(&victim.key).is_some() {
                return Some(String::from_utf8_lossy(&victim.key).into_owned());
            }
        }
        None
    }

    /// Misses of a cache-aside reader with room for `room` keys.
    fn misses(&mut self, requests: &[u32], room: usize) -> f64 {
        let mut misses = 0usize;
        for (at, key) in requests.iter().enumerate() {
            if at % 10 == 0 {
                self.now.0 += 128;
            }
            let key = key.to_string();
            if self.get(&key) {
                continue;
            }
            misses += 1;
            self.set(&key, None);
            while self.keyspace.len(DbIndex(0)) > room {
                self.evict().expect("a victim");
            }
        }
        misses as f64 / requests.len() as f64
    }
}

/// Requests by Zipf's law, mixed with keys that come once.
fn requests(count: usize) -> Vec<u32> {
    let mut rng = Rng::new(3);
    (0..count)
        .map(|at| {
            if at % 4 == 0 {
                return 1_000_000 + u32::try_from(at).unwrap_or(0);
            }
            // About the harmonic law: each power of two is as likely as the others.
            let magnitude = rng.below(15);
            u32::try_from((1 << magnitude) + rng.below(1 << magnitude)).unwrap_or(0)
        })
        .collect()
}

#[test]
fn the_longest_unused_go_first() {
    let mut cache = Cache::new(Policy::LeastRecent, false);
    for key in 0..1000 {
        cache.set(&key.to_string(), None);
    }
    cache.now.0 += 60_000;
    for key in 500..1000 {
        cache.get(&key.to_string());
    }
    let evicted: Vec<String> = (0..200).filter_map(|_| cache.evict()).collect();
    let wrong = evicted.iter().filter(|key| key.parse().unwrap_or(0) >= 500).count();
    assert_eq!(evicted.len(), 200);
    assert!(wrong <= 12, "{wrong} of the recently used went");
}

#[test]
fn the_least_used_go_first() {
    let mut cache = Cache::new(Policy::LeastFrequent, false);
    for key in 0..400 {
        cache.set(&key.to_string(), None);
        for _ in 0..if key < 200 { 60 } else { 0 } {
            cache.get(&key.to_string());
        }
    }
    let evicted: Vec<String> = (0..100).filter_map(|_| cache.evict()).collect();
    let wrong = evicted.iter().filter(|key| key.parse().unwrap_or(0) < 200).count();
    assert!(wrong <= 6, "{wrong} of the often used went");
}

#[test]
fn volatile_policies_take_keys_with_a_deadline_only() {
    for policy in [Policy::LeastRecent, Policy::Random, Policy::NextToExpire, Policy::S3Fifo] {
        let mut cache = Cache::new(policy, true);
        for key in 0..3000 {
            cache.set(&key.to_string(), (key % 300 == 7).then_some(100_000 + key));
        }
        let mut evicted: Vec<i64> =
            std::iter::from_fn(|| cache.evict()).map(|key| key.parse().unwrap_or(0)).collect();
        if policy == Policy::NextToExpire {
            // Sampled, so about in order: the first half holds most of the earliest.
            let early = evicted.iter().take(5).filter(|key| **key < 1500).count();
            assert!(early >= 3, "{evicted:?}");
        }
        evicted.sort_unstable();
        let wanted: Vec<i64> = (0..3000).filter(|key| key % 300 == 7).collect();
        assert_eq!(evicted, wanted, "{policy:?}");
    }
}

#[test]
fn a_slot_that_a_hash_tag_swells_loses_keys_as_others_do() {
    let mut cache = Cache::new(Policy::Random, false);
    for key in 0..2000 {
        cache.set(&format!("{{tag}}{key}"), None);
        if key % 20 == 0 {
            cache.set(&format!("alone{key}"), None);
        }
    }
    let evicted: Vec<String> = (0..500).filter_map(|_| cache.evict()).collect();
    let alone = evicted.iter().filter(|key| key.starts_with("alone")).count();
    // Their share is 5 %; by slots alone it would be nearly all.
    assert!(alone < 100, "{alone} of 100 single keys went, {} of the tag", 500 - alone);
}

#[test]
fn nothing_to_take_is_said() {
    let mut cache = Cache::new(Policy::LeastRecent, true);
    cache.set("a", None);
    assert_eq!(cache.evict(), None);
    assert_eq!(Cache::new(Policy::S3Fifo, false).evict(), None);
}

#[test]
fn s3fifo_misses_less_than_lru_where_many_keys_come_once() {
    let requests = requests(60_000);
    let lru = Cache::new(Policy::LeastRecent, false).misses(&requests, 1000);
    let s3 = Cache::new(Policy::S3Fifo, false).misses(&requests, 1000);
    assert!(s3 < lru - 0.03, "s3fifo {s3:.3}, lru {lru:.3}");
}
