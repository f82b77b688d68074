//! WAIT and WAITAOF: clients that wait until replicas, or disks, have what they wrote. Each acknowledgement looks
//! through those who wait. It knows no connection but by its address.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use larder_cluster::replication::Offset;
use larder_commands::Fault;
use larder_protocol::reply::Reply;
use parking_lot::Mutex;

use crate::blocking::Waiter;
use crate::shared::{Letter, Server};

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// So many replicas have applied it.
    Applied(usize),
    /// It is on the own disk (or that is not asked for), and on the disks of so many replicas.
    OnDisk {
        /// The own disk counts.
        here: bool,
        /// Replicas.
        replicas: usize,
    },
}

struct Pending {
    waiter: Arc<Waiter>,
    offset: Offset,
    wish: Wish,
}

/// Those who wait.
#[derive(Default)]
pub struct Waits {
    list: Mutex<Vec<Pending>>,
    count: AtomicUsize,
    /// Where acknowledgements were asked for last.
    asked: AtomicU64,
}

/// There is no own disk to wait for.
pub const NO_LOG: Fault =
    Fault::text("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.");

/// Asks every replica how far it is.
const GETACK: &[u8] = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";

impl Waits {
    /// A client begins to wait.
    pub fn add(&self, waiter: Arc<Waiter>, offset: Offset, wish: Wish) {
        let mut list = self.list.lock();
        list.push(Pending { waiter, offset, wish });
        self.count.store(list.len(), Ordering::Release);
    }

    /// Asks the replicas how far they are, unless they were asked since this offset. The caller holds a worker's
    /// state, so that nothing of it falls into another's transaction.
    pub fn ask(&self, server: &Server, offset: Offset) {
        if server.journal.records_effects()
            && !server.replication.replicas.is_empty()
            && self.asked.load(Ordering::Acquire) <= offset.0
        {
            let end = server.journal.append_stream_only(GETACK);
            self.asked.store(end.0, Ordering::Release);
            server.journal.hurry();
        }
    }

    /// Answers those whose wish is fulfilled, and forgets those who went away.
    pub fn check(&self, server: &Server) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let logs = server.aof.status().on;
        let mut list = self.list.lock();
        list.retain(|pending| {
            if pending.waiter.ended.load(Ordering::Acquire) {
                return false;
            }
            let got = measure(server, pending.offset, pending.wish);
            let lost = matches!(pending.wish, Wish::OnDisk { here: true, .. }) && !logs;
            if !(lost || is_enough(pending.wish, got)) || !pending.waiter.end() {
                return true;
            }
            let mut out = Vec::new();
            let mut reply = Reply::new(&mut out, pending.waiter.version);
            if lost {
                reply.error_bytes(NO_LOG.as_bytes());
            } else {
                answer(&mut reply, pending.wish, got);
            }
            let address = pending.waiter.address;
            let letter = Letter::Served(address.token, out, Some(Arc::clone(&pending.waiter)));
            server.post(address.worker, letter);
            false
        });
        self.count.store(list.len(), Ordering::Release);
        drop(list);
        server.wake_all();
    }

    /// What a client is answered that has waited long enough; false if it waits for something else.
    pub fn give_up(&self, server: &Server, waiter: &Arc<Waiter>, reply: &mut Reply<'_>) -> bool {
        let mut list = self.list.lock();
        let Some(at) = list.iter().position(|pending| Arc::ptr_eq(&pending.waiter, waiter)) else {
            return false;
        };
        let pending = list.swap_remove(at);
        self.count.store(list.len(), Ordering::Release);
        drop(list);
        answer(reply, pending.wish, measure(server, pending.offset, pending.wish));
        true
    }
}

/// How many have it now: own disk, replicas.
pub fn measure(server: &Server, offset: Offset, wish: Wish) -> (bool, usize) {
    let replicas = &server.replication.replicas;
    match wish {
        Wish::Applied(_) => (false, replicas.have(offset)),
        Wish::OnDisk { .. } => {
            let here = server.durable().is_some_and(|durable| durable >= offset);
            (here, replicas.have_on_disk(offset))
        }
    }
}

/// Whether that is what was wished for.
pub fn is_enough(wish: Wish, (on_disk, count): (bool, usize)) -> bool {
    match wish {
        Wish::Applied(wanted) => count >= wanted,
        Wish::OnDisk { here, replicas } => (on_disk || !here) && count >= replicas,
    }
}

/// The reply.
pub fn answer(reply: &mut Reply<'_>, wish: Wish, (on_disk, count): (bool, usize)) {
    match wish {
        Wish::Applied(_) => reply.count(count),
        Wish::OnDisk { .. } => {
            reply.array(2);
            reply.integer(i64::from(on_disk));
            reply.count(count);
        }
    }
}
