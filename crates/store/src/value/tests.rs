//! Every collection against a plain model from the standard library, with thresholds so low that the
//! forms change all the time.
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Bound;

use larder_base::rng::Rng;
use larder_base::time::Millis;
use proptest::prelude::*;

use super::*;

fn limits(scale: usize) -> Thresholds {
    Thresholds {
        hash_entries: scale,
        hash_value: 12,
        set_intset: scale,
        set_entries: scale + 3,
        set_value: 24,
        zset_entries: scale,
        zset_value: 12,
        list_size: scale as i32,
        ..Thresholds::default()
    }
}

fn name(n: u16) -> Vec<u8> {
    match n % 5 {
        0 => format!("{}", i64::from(n) * 7_000_000).into_bytes(),
        1 => format!("m{n}").into_bytes(),
        2 if n.is_multiple_of(7) => format!("long-member-number-{n}").into_bytes(),
        _ => format!("{n}").into_bytes(),
    }
}

proptest! {
    #[test]
    fn set_behaves_as_a_set(steps in prop::collection::vec((0u8..10, 0u16..60, any::<bool>()), 1..250), scale in 0usize..20) {
        let limits = limits(scale);
        let mut rng = Rng::new(1);
        let (mut set, mut model) = (Set::new(), BTreeSet::new());
        for (what, n, integer) in steps {
            let member = if integer { (i64::from(n) << (n % 5 * 12)).to_string().into_bytes() } else { name(n) };
            match what {
                0..=5 => prop_assert_eq!(set.insert(&member, &limits), model.insert(member.clone())),
                6..=8 => prop_assert_eq!(set.remove(&member), model.remove(&member)),
                _ => {
                    let popped = set.pop_random(&mut rng);
                    prop_assert_eq!(popped.is_some(), !model.is_empty());
                    if let Some(popped) = popped { prop_assert!(model.remove(&popped)); }
                }
            }
            prop_assert_eq!(set.len(), model.len());
            prop_assert_eq!(set.contains(&member), model.contains(&member));
        }
        let all: BTreeSet<Vec<u8>> = set.clone().iter().map(Text::to_vec).collect();
        prop_assert_eq!(&all, &model);
        let (mut seen, mut cursor) = (BTreeSet::new(), 0);
        loop {
            cursor = set.scan(cursor, 3, |member| { seen.insert(member.to_vec()); });
            if cursor == 0 { break; }
        }
        prop_assert_eq!(&seen, &model);
    }

    #[test]
    fn hash_behaves_as_a_map(steps in prop::collection::vec((0u8..12, 0u16..40, 0u16..300), 1..250), scale in 0usize..20) {
        let limits = limits(scale);
        let (mut hash, mut model) = (Hash::new(), HashMap::<Vec<u8>, (Vec<u8>, Option<Millis>)>::new());
        for (step, (what, n, m)) in steps.into_iter().enumerate() {
            let now = Millis(step as i64);
            let (field, value) = (name(n), name(m));
            let live = model.get(&field).is_some_and(|(_, when)| when.is_none_or(|when| when > now));
            match what {
                0..=4 => {
                    prop_assert_eq!(hash.set(&field, &value, now, &limits), !live);
                    model.insert(field.clone(), (value, None));
                }
                5 => {
                    prop_assert_eq!(hash.overwrite(&field, &value, now, &limits), !live);
                    let kept = model.get(&field).and_then(|(_, when)| *when).filter(|_| live);
                    model.insert(field.clone(), (value, kept));
                }
                6 | 7 => {
                    prop_assert_eq!(hash.remove(&field, now), live);
                    model.remove(&field);
                }
                8 | 9 => {
                    let when = (m % 3 > 0).then_some(Millis(now.0 + 1 + i64::from(m)));
                    prop_assert_eq!(hash.set_deadline(&field, when, now, &limits), live);
                    if live && let Some(entry) = model.get_mut(&field) { entry.1 = when; }
                }
                _ => {
                    let budget = usize::from(m % 5);
                    let mut gone = Vec::new();
                    hash.remove_expired(now, budget, |field| gone.push(field.to_vec()));
                    let due = model.values().filter(|(_, when)| when.is_some_and(|when| when <= now)).count();
                    prop_assert_eq!(gone.len(), due.min(budget));
                    for field in gone {
                        prop_assert!(model.remove(&field).unwrap().1.unwrap() <= now);
                    }
                }
            }
            prop_assert_eq!(hash.len(), model.len());
            let ahead = |(_, when): &&(_, Option<Millis>)| when.is_none_or(|when| when > now);
            prop_assert_eq!(hash.live_len(now), model.values().filter(ahead).count());
            prop_assert_eq!(hash.live_len(now), hash.iter(now).count());
            prop_assert_eq!(hash.earliest_expiry(), model.values().filter_map(|(_, when)| *when).min());
            prop_assert_eq!(hash.volatile_len(), model.values().filter(|(_, when)| when.is_some()).count());
            let expected = model.get(&field).filter(|(_, when)| when.is_none_or(|when| when > now));
            prop_assert_eq!(hash.get(&field, now).map(Text::to_vec), expected.map(|(value, _)| value.clone()));
            prop_assert_eq!(hash.deadline(&field, now), expected.map(|(_, when)| *when));
        }
        let copy = hash.clone();
        drop(hash);
        prop_assert_eq!(copy.earliest_expiry(), model.values().filter_map(|(_, when)| *when).min());
        let all: HashMap<_, _> = copy.entries().map(|(f, v, when)| (f.to_vec(), (v.to_vec(), when))).collect();
        prop_assert_eq!(all, model);
    }

    #[test]
    fn list_behaves_as_a_deque(
        steps in prop::collection::vec((0u8..16, any::<u16>(), 0u16..30), 1..250),
        size in prop::sample::select(vec![-1i32, 0, 1, 2, 3, 8, 30]),
        big in any::<bool>(),
    ) {
        let limits = Thresholds { list_size: size, ..Thresholds::default() };
        let (mut list, mut model) = (List::new(), VecDeque::<Vec<u8>>::new());
        for (what, place, n) in steps {
            let mut element = name(n);
            if big && n % 6 == 0 { element.resize(700 * usize::from(n) + 1, b'.'); }
            let index = usize::from(place) % (model.len() + 1);
            match what {
                0..=3 => { list.push(&element, End::Back, &limits); model.push_back(element.clone()); }
                4..=6 => { list.push(&element, End::Front, &limits); model.push_front(element.clone()); }
                7 => prop_assert_eq!(list.pop(End::Front, &limits), model.pop_front()),
                8 => prop_assert_eq!(list.pop(End::Back, &limits), model.pop_back()),
                9 | 10 => {
                    prop_assert_eq!(list.set(index, &element, &limits), index < model.len());
                    if let Some(at) = model.get_mut(index) { *at = element.clone(); }
                }
                11 | 12 => {
                    let pivot = model.get(index).cloned().unwrap_or(b"nobody".to_vec());
                    let found = model.iter().position(|other| *other == pivot);
                    let after = place % 2 == 0;
                    prop_assert_eq!(list.insert_beside(&pivot, &element, after, &limits), found.is_some());
                    if let Some(found) = found { model.insert(found + usize::from(after), element.clone()); }
                }
                13 | 14 => {
                    let max = if place % 3 == 0 { usize::MAX } else { usize::from(place % 4) + 1 };
                    let from = if what == 13 { End::Front } else { End::Back };
                    let mut places: Vec<usize> = (0..model.len()).filter(|at| model[*at] == element).collect();
                    if from == End::Back { places.reverse(); }
                    let found: Vec<usize> = list.positions(&element, from, usize::MAX).collect();
                    prop_assert_eq!(&found, &places);
                    places.truncate(max);
                    prop_assert_eq!(list.remove(&element, max, from, &limits), places.len());
                    places.sort_unstable();
                    for at in places.into_iter().rev() { model.remove(at); }
                }
                _ => {
                    let len = model.len().saturating_sub(usize::from(n) / 3);
                    let start = usize::from(place) % 3;
                    list.trim(start, len, &limits);
                    model = model.into_iter().skip(start).take(len).collect();
                }
            }
            prop_assert_eq!(list.len(), model.len());
            prop_assert_eq!(list.get(index).map(Text::to_vec), model.get(index).cloned());
            let all: Vec<Vec<u8>> = list.iter_from(index).map(Text::to_vec).collect();
            let expected: Vec<Vec<u8>> = model.iter().skip(index).cloned().collect();
            prop_assert_eq!(all, expected);
            let back: Vec<Vec<u8>> = list.iter_back_from(index).map(Text::to_vec).collect();
            let expected: Vec<Vec<u8>> = model.iter().take(index + 1).rev().cloned().collect();
            prop_assert_eq!(back, expected);
        }
        prop_assert!(list.clone().iter().map(Text::to_vec).eq(model));
    }

    #[test]
    fn sorted_set_behaves_as_one(steps in prop::collection::vec((0u8..12, 0u16..50, -6i32..6), 1..250), scale in 0usize..40) {
        let limits = limits(scale);
        let (mut set, mut model) = (SortedSet::new(), HashMap::<Vec<u8>, f64>::new());
        for (what, n, score) in steps {
            let member = name(n);
            let score = f64::from(score) / 4.0;
            let mut order: Vec<(f64, Vec<u8>)> = model.iter().map(|(m, s)| (*s, m.clone())).collect();
            order.sort_by(|a, b| a.partial_cmp(b).unwrap());
            match what {
                0..=6 => prop_assert_eq!(set.insert(&member, score, &limits), model.insert(member.clone(), score)),
                7 | 8 => prop_assert_eq!(set.remove(&member), model.remove(&member)),
                9 => {
                    let start = usize::from(n) % 7;
                    let gone = set.remove_range(start..start + 2);
                    let expected: Vec<_> = order.iter().skip(start).take(2).collect();
                    prop_assert_eq!(gone, expected.len());
                    for (_, member) in expected { model.remove(member); }
                }
                _ => {
                    let (popped, expected) = if what == 10 { (set.pop_min(), order.first()) } else { (set.pop_max(), order.last()) };
                    prop_assert_eq!(popped.as_ref().map(|(m, s)| (*s, m.clone())), expected.cloned());
                    if let Some((member, _)) = popped { model.remove(&member); }
                }
            }
            let mut order: Vec<(f64, Vec<u8>)> = model.iter().map(|(m, s)| (*s, m.clone())).collect();
            order.sort_by(|a, b| a.partial_cmp(b).unwrap());
            prop_assert_eq!(set.len(), model.len());
            prop_assert_eq!(set.score(&member), model.get(&member).copied());
            let rank = order.iter().position(|(_, other)| *other == member);
            prop_assert_eq!(set.rank(&member).map(|(rank, _)| rank), rank);
            let all: Vec<_> = set.iter().map(|(m, s)| (s, m.to_vec())).collect();
            prop_assert_eq!(&all, &order);
            let mut back: Vec<_> = set.iter().rev().map(|(m, s)| (s, m.to_vec())).collect();
            back.reverse();
            prop_assert_eq!(&back, &order);
            let range = set.score_range(Bound::Excluded(score), Bound::Included(1.0));
            let expected = order.iter().filter(|(s, _)| *s > score && *s <= 1.0).count();
            prop_assert_eq!(range.len(), expected);
        }
        let copy = set.clone();
        drop(set);
        prop_assert_eq!(copy.iter().count(), model.len());
    }

    #[test]
    fn lexical_ranges_count_members(members in prop::collection::btree_set(0u16..90, 0..60), a in 0u16..90, b in 0u16..90, scale in 0usize..40) {
        let limits = limits(scale);
        let mut set = SortedSet::new();
        let mut model = BTreeSet::new();
        for n in members {
            set.insert(&name(n), 0.0, &limits);
            model.insert(name(n));
        }
        let (a, b) = (name(a), name(b));
        let range = set.lex_range(Bound::Included(&a), Bound::Excluded(&b));
        let expected: Vec<_> = model.iter().filter(|m| **m >= a && **m < b).cloned().collect();
        let found: Vec<_> = set.range(range).map(|(m, _)| m.to_vec()).collect();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn small_forms_meet_the_memory_targets() {
    let limits = Thresholds::default();
    let mut hash = Hash::new();
    for n in 0..5 {
        hash.set(format!("fld_{n}").as_bytes(), b"valuevalue", Millis(0), &limits);
    }
    assert!(hash.memory_usage() <= 104, "{}", hash.memory_usage());
    let mut set = SortedSet::new();
    for n in 0..10 {
        set.insert(format!("member:{n:03}").as_bytes(), f64::from(n * 37) / 10.0, &limits);
    }
    assert!(set.memory_usage() <= 170, "{}", set.memory_usage());
}

#[test]
fn encodings_follow_the_thresholds() {
    let limits = Thresholds::default();
    let mut set = Set::new();
    for n in 0..512 {
        set.insert(n.to_string().as_bytes(), &limits);
    }
    assert_eq!(set.encoding_name(), "intset");
    set.insert(b"512", &limits);
    assert_eq!(set.encoding_name(), "hashtable");
    let mut set = Set::new();
    set.insert(b"1", &limits);
    set.insert(b"a", &limits);
    assert_eq!(set.encoding_name(), "listpack");
    set.insert(&[b'x'; 65], &limits);
    assert_eq!((set.encoding_name(), set.len()), ("hashtable", 3));
    let mut list = List::new();
    while list.encoding_name() == "listpack" {
        list.push(&[b'x'; 100], End::Back, &limits);
    }
    assert!((75..85).contains(&list.len()));
    list.trim(0, 39, &limits);
    assert_eq!((list.encoding_name(), list.len()), ("listpack", 39));
}
