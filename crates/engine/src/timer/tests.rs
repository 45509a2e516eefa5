#![cfg_attr(test, allow(unused_imports))] // The bench includes this file, without a test harness.

use super::*;
use alloc::collections::BTreeMap;

fn at(ns: u64) -> Instant {
    Instant::from_nanos(ns)
}

/// Steps the wheel as a driver does: next, then pop; returns (when, key) and how often it woke for nothing.
fn drain(wheel: &mut Wheel<u32>) -> (Vec<(u64, u32)>, u32) {
    let (mut fired, mut idle) = (Vec::new(), 0);
    while let Some(now) = wheel.next() {
        let before = fired.len();
        while let Some(key) = wheel.pop(now) {
            fired.push((now.nanos(), key));
        }
        idle += (fired.len() == before) as u32;
    }
    (fired, idle)
}

#[test]
fn deadlines_are_exact_to_the_nanosecond_at_every_distance() {
    for shift in 0..63 {
        let mut wheel = Wheel::new(at(12_345));
        let deadline = 12_345 + (1u64 << shift) + 7;
        wheel.set(&mut TimerHandle::NONE.clone(), at(deadline), 1);
        assert_eq!(wheel.next(), Some(at(deadline)));
        assert_eq!(wheel.pop(at(deadline - 1)), None);
        assert_eq!(wheel.next(), Some(at(deadline)));
        assert_eq!(wheel.pop(at(deadline)), Some(1));
        assert_eq!(wheel.next(), None);
    }
}

#[test]
fn equal_deadlines_fire_in_the_order_they_were_set() {
    let mut wheel = Wheel::new(Instant::ZERO);
    for key in 0..100 {
        wheel.set(&mut TimerHandle::default(), at(200_000_000), key);
        if key == 50 {
            assert_eq!(wheel.pop(at(199_999_000)), None);
        }
    }
    let (fired, _) = drain(&mut wheel);
    assert!(fired.iter().map(|f| f.1).eq(0..100));
}

#[test]
fn a_past_deadline_is_due_at_once_and_an_old_handle_touches_nothing() {
    let mut wheel = Wheel::new(at(1000));
    let mut old = TimerHandle::NONE;
    wheel.set(&mut old, at(5), 1);
    assert_eq!(wheel.next(), Some(at(5)));
    assert_eq!(wheel.pop(at(1000)), Some(1));
    let mut new = TimerHandle::NONE;
    wheel.set(&mut new, at(2000), 2);
    assert!(!wheel.is_set(old));
    wheel.cancel(&mut old);
    assert_eq!(wheel.deadline(new), Some(at(2000)));
    assert_eq!(wheel.pop(at(2000)), Some(2));
}

#[test]
fn waking_early_repairs_itself() {
    let mut wheel = Wheel::new(Instant::ZERO);
    let mut first = TimerHandle::NONE;
    wheel.set(&mut first, at(1_000_000_000), 0);
    for key in 1..1000 {
        wheel.set(&mut TimerHandle::default(), at(1_000_000_000 + 1000 * key as u64), key);
    }
    wheel.cancel(&mut first);
    let (fired, idle) = drain(&mut wheel);
    assert_eq!(fired.len(), 999);
    assert!(
        fired
            .iter()
            .all(|&(when, key)| when == 1_000_000_000 + 1000 * key as u64)
    );
    assert!(idle <= 2, "{idle} idle wake-ups");
}

#[test]
fn a_burst_gives_its_memory_back() {
    let mut wheel = Wheel::new(Instant::ZERO);
    let mut handles: Vec<_> = (0..10_000).map(|_| TimerHandle::NONE).collect();
    for (key, handle) in handles.iter_mut().enumerate() {
        wheel.set(handle, at(1_000 + key as u64), key as u32);
    }
    handles.iter_mut().for_each(|handle| wheel.cancel(handle));
    assert_eq!((wheel.running, wheel.entries.capacity()), (0, 0));
    assert_eq!(wheel.next(), None);
}

#[test]
fn an_entry_for_a_timer_key_takes_32_bytes() {
    assert_eq!(size_of::<Entry<TimerKey>>(), 32);
}

/// Against a sorted map: random sets, re-arms, cancels and steps of time.
#[test]
fn agrees_with_a_sorted_map() {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for _ in 0..50 {
        let mut now = random(1 << 40);
        let mut wheel = Wheel::new(at(now));
        let mut model: BTreeMap<(u64, u64), usize> = BTreeMap::new();
        let mut place: Vec<Option<(u64, u64)>> = vec![None; 64];
        let mut handles = [TimerHandle::NONE; 64];
        for turn in 0..2000u64 {
            let n = random(64) as usize;
            match random(10) {
                0..6 => {
                    let spread = 1 << random(36);
                    let when = now + random(spread);
                    if let Some(old) = place[n].take() {
                        model.remove(&old);
                    }
                    wheel.set(&mut handles[n], at(when), n);
                    model.insert((when, turn), n);
                    place[n] = Some((when, turn));
                }
                6..8 => {
                    wheel.cancel(&mut handles[n]);
                    if let Some(old) = place[n].take() {
                        model.remove(&old);
                    }
                }
                _ => {
                    now = match wheel.next() {
                        Some(next) if random(2) == 0 => now.max(next.nanos()),
                        _ => {
                            let spread = 1 << random(34);
                            now + random(spread)
                        }
                    };
                    let mut last = 0;
                    while let Some(key) = wheel.pop(at(now)) {
                        let due = place[key].take().expect("a running timer");
                        assert!(due.0 <= now && due.0 >= last, "early or out of order");
                        last = due.0;
                        assert_eq!(model.remove(&due), Some(key));
                    }
                    assert!(model.keys().next().is_none_or(|first| first.0 > now), "a timer is late");
                }
            }
            let (next, first) = (wheel.next().map(|t| t.nanos()), model.keys().next().map(|k| k.0));
            assert_eq!(next.is_some(), first.is_some());
            assert!(next <= first, "next() is later than the first deadline");
            assert_eq!(wheel.running as usize, model.len());
        }
    }
}
