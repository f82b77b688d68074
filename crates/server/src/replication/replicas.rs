//! Those who follow this server: who they are and how far, for the threads that feed them and for everybody who
//! asks. The lock of the list is a leaf; it knows no journal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

use larder_base::time::Millis;
use larder_cluster::replication::{Follower, Offset, Stage};
use parking_lot::Mutex;

use crate::client::Client;
use crate::shared::now;

/// One replica.
pub struct Replica {
    /// Its connection, as it was when it asked to follow.
    pub client: Client,
    /// What it told of itself, and how far it is.
    pub follower: Mutex<Follower>,
    /// The end of what was sent to it.
    sent: AtomicU64,
    /// It acknowledged something since its snapshot was sent.
    pub acknowledged: AtomicBool,
    gone: AtomicBool,
    heard: AtomicI64,
}

impl Replica {
    /// One that has just asked.
    pub fn new(client: Client, follower: Follower) -> Replica {
        Replica {
            client,
            follower: Mutex::new(follower),
            sent: AtomicU64::new(0),
            acknowledged: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            heard: AtomicI64::new(now().0),
        }
    }

    /// Ends the link: both of its threads notice.
    pub fn close(&self) {
        self.gone.store(true, Ordering::Release);
        self.client.stream.shutdown();
    }

    /// Whether the link has ended.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Something came from it.
    pub fn note_heard(&self, now: Millis) {
        self.heard.store(now.0, Ordering::Relaxed);
    }

    /// When something came from it last.
    pub fn heard(&self) -> Millis {
        Millis(self.heard.load(Ordering::Relaxed))
    }

    /// The stream was sent up to here.
    pub fn note_sent(&self, offset: Offset) {
        self.sent.store(offset.0, Ordering::Release);
    }

    /// The end of what was sent.
    pub fn sent(&self) -> Offset {
        Offset(self.sent.load(Ordering::Acquire))
    }

    /// Whether it follows the stream and does not have all of it. What was only sent may be lost when the connection
    /// ends; but one that acknowledges nothing tells no more.
    pub fn lags(&self, end: Offset) -> bool {
        let follower = self.follower.lock();
        let is_silent = !follower.capabilities.psync2 && follower.acked == Offset(0);
        let has = if is_silent { self.sent() } else { follower.acked };
        follower.stage == Stage::Online && has < end
    }

    /// The address under which others reach it, as far as it told.
    pub fn host(&self, follower: &Follower) -> String {
        follower.address.clone().unwrap_or_else(|| match self.client.stream.peer() {
            larder_net::PeerAddr::Tcp(address) => address.ip().to_canonical().to_string(),
            larder_net::PeerAddr::Unix(path) => path.clone(),
        })
    }
}

/// All of them. See the head of this file.
#[derive(Default)]
pub struct Replicas {
    list: Mutex<Vec<Arc<Replica>>>,
    count: AtomicUsize,
}

impl Replicas {
    /// One more.
    pub fn add(&self, replica: Arc<Replica>) {
        let mut list = self.list.lock();
        list.push(replica);
        self.count.store(list.len(), Ordering::Release);
    }

    /// One less.
    pub fn remove(&self, replica: &Arc<Replica>) {
        let mut list = self.list.lock();
        list.retain(|other| !Arc::ptr_eq(other, replica));
        self.count.store(list.len(), Ordering::Release);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All, in the order in which they came.
    pub fn all(&self) -> Vec<Arc<Replica>> {
        self.list.lock().clone()
    }

    /// Ends all links: they are to ask anew.
    pub fn close_all(&self) {
        self.all().iter().for_each(|replica| replica.close());
    }

    fn count(&self, wanted: impl Fn(&Follower) -> bool) -> usize {
        let all = self.all();
        let chosen = all.iter().filter(|replica| {
            let follower = replica.follower.lock();
            !replica.is_gone() && follower.stage == Stage::Online && wanted(&follower)
        });
        chosen.count()
    }

    /// How many have acknowledged within so many seconds.
    pub fn near(&self, seconds: u32, now: Millis) -> usize {
        if self.is_empty() {
            return 0;
        }
        self.count(|follower| follower.lag_s(now) <= i64::from(seconds))
    }

    /// How many have applied everything up to here.
    pub fn have(&self, offset: Offset) -> usize {
        self.count(|follower| follower.acked >= offset)
    }

    /// How many have everything up to here on their disks.
    pub fn have_on_disk(&self, offset: Offset) -> usize {
        self.count(|follower| follower.durable.is_some_and(|durable| durable >= offset))
    }

    /// Whether some follow the stream and do not have all of it.
    pub fn some_lag(&self, end: Offset) -> bool {
        self.all().iter().any(|replica| !replica.is_gone() && replica.lags(end))
    }
}
