//! The timing wheel with a million timers running: what one set and one cancel cost, and firing them all.

extern crate alloc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use estab_engine::Instant;

#[allow(dead_code)]
#[path = "../src/timer.rs"]
mod timer;
use timer::{PackedKey, TimerHandle, TimerKey, Wheel};

const TIMERS: u32 = 1_000_000;

/// Deadlines as a busy server has them: 40 ms to 60 s ahead.
fn ahead(n: u32) -> u64 {
    let spread = u64::from(n.wrapping_mul(2_654_435_761));
    if n.is_multiple_of(4) {
        60_000_000_000
    } else {
        40_000_000 + spread % 400_000_000
    }
}

fn full(now: u64) -> (Wheel<PackedKey>, Vec<TimerHandle>) {
    let mut wheel = Wheel::new(Instant::from_nanos(now));
    let mut handles = vec![TimerHandle::NONE; TIMERS as usize];
    for (n, handle) in (0..).zip(&mut handles) {
        wheel.set(handle, Instant::from_nanos(now + ahead(n)), TimerKey::Conn(n).pack());
    }
    (wheel, handles)
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("a million timers");
    group.sample_size(20);
    let mut now = 1_000_000_000;
    let (mut wheel, mut handles) = full(now);
    let mut n = 0u32;
    let mut step = || {
        now += 100;
        n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((n >> 8) % TIMERS, Instant::from_nanos(now + ahead(n)))
    };
    group.bench_function("cancel and set, at random", |b| {
        b.iter(|| {
            let (i, at) = step();
            wheel.cancel(&mut handles[i as usize]);
            wheel.set(&mut handles[i as usize], at, TimerKey::Conn(i).pack());
        })
    });
    group.bench_function("re-arm, at random", |b| {
        b.iter(|| {
            let (i, at) = step();
            wheel.set(&mut handles[i as usize], at, TimerKey::Conn(i).pack());
        })
    });
    let mut one = TimerHandle::NONE;
    group.bench_function("set and cancel one", |b| {
        b.iter(|| {
            let (i, at) = step();
            wheel.set(&mut one, at, TimerKey::Conn(i).pack());
            wheel.cancel(&mut one);
        })
    });
    group.sample_size(10);
    group.bench_function("fire all (per million)", |b| {
        b.iter_batched(
            || full(now),
            |(mut wheel, _)| {
                let mut fired = 0;
                while let Some(next) = wheel.next() {
                    while wheel.pop(next).is_some() {
                        fired += 1;
                    }
                }
                assert_eq!(fired, TIMERS);
            },
            BatchSize::LargeInput,
        )
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
