//! A snapshot shows exactly what was there at the cut, whatever happens between its steps: against a
//! picture of the whole keyspace that is taken at the cut.

use std::collections::BTreeMap;

use larder_base::hash::KeyHasher;
use proptest::prelude::*;

use super::*;
use crate::settings::Settings;
use crate::value::{End, Hash, List, Set, SortedSet, ValueRef};
use crate::view::{Deadline, View};

/// What a key holds, as text: its type, deadline and sorted members.
type Picture = BTreeMap<(u8, Vec<u8>), String>;

fn describe(record: RecordRef<'_>) -> String {
    let text = match record.payload() {
        Payload::Text(text) => format!("{}", text.escape_ascii()),
        Payload::Int(value) => value.to_string(),
        Payload::Boxed(value) => match value {
            ValueRef::Text(text) => format!("{}", text.escape_ascii()),
            ValueRef::List(list) => {
                format!("{:?}", list.iter().map(|t| t.to_vec()).collect::<Vec<_>>())
            }
            ValueRef::Set(set) => sorted(set.iter().map(|t| format!("{:?}", t.to_vec()))),
            ValueRef::Hash(hash) => {
                sorted(hash.entries().map(|(f, v, d)| field(&f.to_vec(), &v.to_vec(), d)))
            }
            ValueRef::SortedSet(set) => {
                sorted(set.iter().map(|(m, s)| format!("{:?} {s}", m.to_vec())))
            }
        },
    };
    format!("{:?} {:?} {text}", record.kind(), record.deadline())
}

fn field(name: &[u8], value: &[u8], deadline: Option<Millis>) -> String {
    format!("{name:?} {value:?} {deadline:?}")
}

fn sorted(members: impl Iterator<Item = String>) -> String {
    let mut members: Vec<String> = members.collect();
    members.sort();
    members.join(", ")
}

fn picture(keyspace: &Keyspace, settings: &Settings) -> Picture {
    let mut all = Picture::new();
    for db in 0..2 {
        // A moment before every deadline: what has expired and was not looked at is still there.
        let mut view = keyspace.view_all(settings, DbIndex(db), Millis(0));
        view.for_each_key(|key, record| {
            all.insert((db, key.to_vec()), describe(record));
        });
    }
    all
}

/// A big collection under way: database, key, type, deadline, announced members.
type Opened = (u8, Vec<u8>, Kind, Option<Millis>, usize);

/// Gathers what a snapshot shows.
#[derive(Default)]
struct Taken {
    all: Picture,
    open: Option<Opened>,
    members: Vec<String>,
}

impl Taken {
    fn visit(&mut self, item: Item<'_>) {
        match item {
            Item::Record(db, record) => self.put(db.0, record.key().to_vec(), describe(record)),
            Item::Begin(head) => {
                self.open =
                    Some((head.db.0, head.key.to_vec(), head.kind, head.deadline, head.len));
            }
            Item::Member(record, score) => self.members.push(match (score, &self.open) {
                (Some(score), _) => format!("{:?} {score}", record.key()),
                (None, Some((_, _, Kind::Hash, ..))) => {
                    field(record.key(), record.inline_text(), record.deadline())
                }
                (None, _) => format!("{:?}", record.key()),
            }),
            Item::End => {
                let (db, key, kind, deadline, len) = self.open.take().expect("begun");
                assert_eq!(self.members.len(), len, "as many members as were announced");
                let text = sorted(std::mem::take(&mut self.members).into_iter());
                self.put(db, key, format!("{kind:?} {deadline:?} {text}"));
            }
        }
    }

    fn put(&mut self, db: u8, key: Vec<u8>, text: String) {
        let before = self.all.insert((db, key.clone()), text);
        assert!(before.is_none(), "{} was shown twice", key.escape_ascii());
    }
}

#[derive(Clone, Debug)]
enum Act {
    Set(u8, u8, u16),
    Append(u8, u16),
    Fill(u8, u8, u16),
    Change(u8, u16),
    Shrink(u8, u16),
    Expire(u8, u8),
    Delete(u8),
    Rename(u8, u8),
    Copy(u8, u8),
    MoveDb(u8),
    Pass(u8),
    Step(u8),
    Begin,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let key = 0u8..24;
    let one = prop_oneof![
        4 => (key.clone(), 0u8..3, any::<u16>()).prop_map(|(k, d, n)| Act::Set(k, d, n)),
        1 => (key.clone(), any::<u16>()).prop_map(|(k, n)| Act::Append(k, n)),
        5 => (key.clone(), 0u8..4, 0u16..900).prop_map(|(k, t, n)| Act::Fill(k, t, n)),
        6 => (key.clone(), 0u16..900).prop_map(|(k, n)| Act::Change(k, n)),
        2 => (key.clone(), 0u16..900).prop_map(|(k, n)| Act::Shrink(k, n)),
        2 => (key.clone(), 0u8..5).prop_map(|(k, d)| Act::Expire(k, d)),
        2 => key.clone().prop_map(Act::Delete),
        3 => (key.clone(), key.clone()).prop_map(|(a, b)| Act::Rename(a, b)),
        1 => (key.clone(), key.clone()).prop_map(|(a, b)| Act::Copy(a, b)),
        1 => key.prop_map(Act::MoveDb),
        1 => (0u8..4).prop_map(Act::Pass),
        8 => (1u8..200).prop_map(Act::Step),
        2 => Just(Act::Begin),
    ];
    proptest::collection::vec(one, 1..120)
}

fn name(number: u8) -> Vec<u8> {
    // Some share a slot, so that tables have more than one record.
    format!("{{{}}}k{number}", number % 5).into_bytes()
}

fn number(n: u16) -> Vec<u8> {
    format!("member-{n}").into_bytes()
}

/// Fills a key with up to `n` members of the type `t`, if it has that type or none.
fn fill(view: &mut View<'_>, key: &[u8], t: u8, n: u16) {
    let limits = view.settings().thresholds;
    let members = (0..n).step_by(1 + usize::from(n % 7));
    match t {
        0 => {
            let Ok(list) = view.write_or_create::<List>(key) else { return };
            members
                .for_each(|m| list.push(&[number(m), vec![b'.'; 40]].concat(), End::Back, &limits));
        }
        1 => {
            let Ok(set) = view.write_or_create::<Set>(key) else { return };
            members.for_each(|m| {
                set.insert(&number(m), &limits);
            });
        }
        2 => {
            let Ok(hash) = view.write_or_create::<Hash>(key) else { return };
            for m in members {
                hash.set(&number(m), &number(m / 2), Millis(1), &limits);
                if m % 3 == 0 {
                    hash.set_deadline(
                        &number(m),
                        Some(Millis(90_000 + i64::from(m))),
                        Millis(1),
                        &limits,
                    );
                }
            }
        }
        _ => {
            let Ok(set) = view.write_or_create::<SortedSet>(key) else { return };
            members.for_each(|m| {
                set.insert(&number(m), f64::from(m % 50), &limits);
            });
        }
    }
    view.remove_if_empty(key);
}

/// Changes one member of whatever a key holds.
fn change(view: &mut View<'_>, key: &[u8], n: u16) {
    let limits = view.settings().thresholds;
    if let Ok(Some(list)) = view.write::<List>(key) {
        list.set(usize::from(n) % list.len().max(1), &number(n), &limits);
    } else if let Ok(Some(set)) = view.write::<Set>(key) {
        set.remove(&number(n));
        set.insert(&number(n + 1), &limits);
    } else if let Ok(Some(hash)) = view.write::<Hash>(key) {
        hash.set(&number(n), &number(n ^ 1), Millis(1), &limits);
        hash.set_deadline(&number(n + 1), None, Millis(1), &limits);
    } else if let Ok(Some(set)) = view.write::<SortedSet>(key) {
        set.insert(&number(n), f64::from(n % 77), &limits);
    }
}

fn shrink(view: &mut View<'_>, key: &[u8], n: u16) {
    let limits = view.settings().thresholds;
    if let Ok(Some(list)) = view.write::<List>(key) {
        list.trim(usize::from(n) % list.len().max(1), 30, &limits);
    } else if let Ok(Some(set)) = view.write::<Set>(key) {
        (n..900).for_each(|m| {
            set.remove(&number(m));
        });
    } else if let Ok(Some(hash)) = view.write::<Hash>(key) {
        (n..900).for_each(|m| {
            hash.remove(&number(m), Millis(1));
        });
    } else if let Ok(Some(set)) = view.write::<SortedSet>(key) {
        set.remove_range(usize::from(n) / 4..usize::from(n));
    }
    view.remove_if_empty(key);
}

fn act(keyspace: &Keyspace, settings: &Settings, now: Millis, act: &Act) {
    let mut view = keyspace.view_all(settings, DbIndex(0), now);
    match *act {
        Act::Set(k, d, n) => {
            let deadline = match d {
                0 => Deadline::None,
                1 => Deadline::Keep,
                _ => Deadline::At(Millis(100_000 + i64::from(n))),
            };
            let long = if n % 9 == 0 { 3000 } else { usize::from(n % 40) };
            let text = if n % 2 == 0 { n.to_string().into_bytes() } else { vec![b'x'; long] };
            view.set_string(&name(k), &text, deadline);
        }
        Act::Append(k, n) => {
            let _ = view.edit_string(&name(k), |text| text.extend_from_slice(&number(n)));
        }
        Act::Fill(k, t, n) => fill(&mut view, &name(k), t, n),
        Act::Change(k, n) => change(&mut view, &name(k), n),
        Act::Shrink(k, n) => shrink(&mut view, &name(k), n),
        Act::Expire(k, d) => {
            let when = (d > 0).then(|| Millis(now.0 + 10 * i64::from(d)));
            view.set_deadline(&name(k), when);
        }
        Act::Delete(k) => {
            view.remove(&name(k));
        }
        Act::Rename(a, b) => {
            if let Some(record) = view.take_record(&name(a)) {
                view.put_record(record.with_key(&name(b)));
            }
        }
        Act::Copy(a, b) => {
            let copy = view.record(&name(a)).map(|record| record.copy_as(&name(b)));
            if let Some(copy) = copy.filter(|_| a != b) {
                view.put_record(copy);
            }
        }
        Act::MoveDb(k) => {
            if let Some(record) = view.take_record(&name(k)) {
                view.select(DbIndex(1));
                view.put_record(record);
            }
        }
        Act::Pass(_) | Act::Step(_) | Act::Begin => {}
    }
}

fn check(acts: &[Act]) {
    let keyspace = Keyspace::new(KeyHasher::new(3, 4), 2);
    let settings = Settings::default();
    let mut now = Millis(1_000);
    let mut running: Vec<(Snapshot, Picture, Taken)> = Vec::new();
    for one in acts {
        match one {
            Act::Begin => {
                let expected = picture(&keyspace, &settings);
                match keyspace.begin_snapshot() {
                    Ok(snapshot) => running.push((snapshot, expected, Taken::default())),
                    Err(Busy) => assert_eq!(running.len(), LANES),
                }
            }
            Act::Step(budget) => {
                let at = usize::from(*budget) % running.len().max(1);
                let Some((snapshot, _, taken)) = running.get_mut(at) else { continue };
                if !snapshot.step(&keyspace, usize::from(*budget), &mut |item| taken.visit(item)) {
                    let (_, expected, taken) = running.remove(at);
                    assert_eq!(taken.all, expected);
                }
            }
            Act::Pass(ms) => now.0 += i64::from(*ms),
            other => act(&keyspace, &settings, now, other),
        }
    }
    for (mut snapshot, expected, mut taken) in running {
        while snapshot.step(&keyspace, 50, &mut |item| taken.visit(item)) {}
        assert_eq!(taken.all, expected);
    }
    assert_eq!(keyspace.snapshot_bytes(), 0);
    assert!(keyspace.snapshots().strays.lock().orphans.is_empty());
    // What changed meanwhile is as right as ever: a last snapshot of the end says the same.
    let expected = picture(&keyspace, &settings);
    let mut snapshot = keyspace.begin_snapshot().expect("a free lane");
    let mut taken = Taken::default();
    while snapshot.step(&keyspace, 1000, &mut |item| taken.visit(item)) {}
    assert_eq!(taken.all, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_snapshot_shows_the_moment_of_its_cut(acts in acts()) {
        check(&acts);
    }
}

#[test]
fn a_collection_that_is_emptied_is_shown_as_it_was() {
    for kind in 0..4 {
        check(&[Act::Fill(0, kind, 427), Act::Begin, Act::Shrink(0, 0), Act::Set(0, 0, 0)]);
    }
}

#[test]
fn a_flush_breaks_the_snapshot_and_its_lane_is_free_again() {
    let keyspace = Keyspace::new(KeyHasher::new(3, 4), 2);
    let settings = Settings::default();
    for k in 0..20 {
        act(&keyspace, &settings, Millis(1), &Act::Fill(k, k % 4, 800));
    }
    let mut snapshot = keyspace.begin_snapshot().expect("a free lane");
    assert!(snapshot.step(&keyspace, 10, &mut |_| {}));
    for k in 0..10 {
        act(&keyspace, &settings, Millis(1), &Act::Change(k, 7));
    }
    drop(keyspace.flush(DbIndex(0)));
    assert!(snapshot.is_broken(&keyspace));
    while snapshot.step(&keyspace, 1000, &mut |_| {}) {}
    assert_eq!(keyspace.snapshot_bytes(), 0);
    check(&[]);
    assert!(keyspace.begin_snapshot().is_ok() && keyspace.begin_snapshot().is_ok());
    assert_eq!(keyspace.begin_snapshot().expect_err("both taken"), Busy);
}
