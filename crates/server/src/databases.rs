//! Changes of whole databases, for a client's command and for a stream that repeats one: emptying, exchanging and replacing,
//! with all that watchers, waiters and caches must hear of it. Everything here runs in the exclusive section. It
//! knows no client.

use larder_base::time::Millis;
use larder_store::{DbIndex, Keyspace};

use crate::dispatch::Ready;
use crate::shared::Server;

/// Empties a database; what was in it is freed in the background, or `at_once`. Returns how many keys it had.
pub fn flush(server: &Server, db: DbIndex, now: Millis, at_once: bool) -> u64 {
    touch_watchers(server, db, now);
    let trash = server.keyspace.flush(db);
    let keys = trash.len() as u64;
    server.background.free_tables(trash, at_once);
    keys
}

/// Empties all databases. Returns how many keys there were.
pub fn flush_all(server: &Server, now: Millis, at_once: bool) -> u64 {
    let numbers = (0..server.keyspace.databases()).filter_map(|number| u8::try_from(number).ok());
    let keys = numbers.map(|number| flush(server, DbIndex(number), now, at_once)).sum();
    tell_flushed(server);
    keys
}

/// Puts what was gathered beside in the place of all that there is; the old is freed in the background, or `at_once`.
pub fn replace(server: &Server, with: &Keyspace, now: Millis, at_once: bool) {
    flush_all(server, now, at_once);
    server.keyspace.adopt(with);
    for number in (0..server.keyspace.databases()).filter_map(|number| u8::try_from(number).ok()) {
        touch_watchers(server, DbIndex(number), now);
    }
}

/// Lets go what was gathered beside and is not wanted.
pub fn give_up(server: &Server, beside: &Keyspace) {
    for number in (0..beside.databases()).filter_map(|number| u8::try_from(number).ok()) {
        server.background.free_tables(beside.flush(DbIndex(number)), false);
    }
}

/// Caches hear that a database was emptied: they forget everything.
pub fn tell_flushed(server: &Server) {
    if !server.tracking.is_idle() {
        server.tracking.flushed(server);
    }
}

/// Exchanges two databases; what somebody waits for may be there now.
pub fn swap(server: &Server, a: DbIndex, b: DbIndex, now: Millis, ready: &mut Vec<Ready>) {
    if a == b {
        // Nothing changes, so no transaction fails for it.
        return;
    }
    touch_watchers(server, a, now);
    touch_watchers(server, b, now);
    server.keyspace.swap(a, b);
    touch_watchers(server, a, now);
    touch_watchers(server, b, now);
    for db in [a, b] {
        ready.extend(server.blocked.waited_for(db));
    }
}

/// Watched keys of a database that goes away: those that exist count as changed.
fn touch_watchers(server: &Server, db: DbIndex, now: Millis) {
    let watched: Vec<Box<[u8]>> = {
        let watch = server.watch.lock();
        watch.keys().filter(|(at, _)| *at == db).map(|(_, key)| key.clone()).collect()
    };
    for key in watched {
        let mut view = server.keyspace.view_all(&server.settings, db, now);
        let there = view.contains(&key);
        drop(view);
        if there {
            crate::transactions::touch_watchers(server, db, &key);
        }
    }
}
