//! A link does to packets what its configuration says, no more and no less, and alike for the same seed.

use estab_engine::Instant;
use estab_sim::{Fate, Link, LinkConfig};
use std::time::Duration;

fn drain(link: &mut Link) -> Vec<(Instant, Vec<u8>)> {
    let mut out = Vec::new();
    while let Some(at) = link.next() {
        out.push((at, link.poll(at).expect("a packet is due at its own arrival")));
    }
    out
}

#[test]
fn a_plain_link_delays_and_keeps_order() {
    let mut link = Link::new(LinkConfig {
        delay: Duration::from_millis(20),
        ..Default::default()
    });
    for i in 0..100u8 {
        link.offer(Instant::from_millis(u64::from(i)), &[i]);
    }
    assert_eq!(link.poll(Instant::from_millis(19)), None);
    let arrivals = drain(&mut link);
    let expected: Vec<_> = (0..100u8)
        .map(|i| (Instant::from_millis(u64::from(i) + 20), vec![i]))
        .collect();
    assert_eq!(arrivals, expected);
}

#[test]
fn rate_and_buffer_hold_packets_back_and_then_drop_them() {
    // 8 Mbit/s: a packet of 1,000 bytes takes 1 ms; room for 4,000 bytes.
    let mut link = Link::new(LinkConfig {
        rate: Some(8_000_000),
        buffer: 4_000,
        ..Default::default()
    });
    let fates: Vec<_> = (0..6).map(|_| link.offer(Instant::ZERO, &[0; 1_000])).collect();
    assert_eq!(
        fates,
        [
            Fate::Carried,
            Fate::Carried,
            Fate::Carried,
            Fate::Carried,
            Fate::Overflowed,
            Fate::Overflowed
        ]
    );
    let times: Vec<_> = drain(&mut link).into_iter().map(|(at, _)| at.millis()).collect();
    assert_eq!(times, [1, 2, 3, 4]);
    assert_eq!(link.offer(Instant::from_millis(4), &[0; 1_000]), Fate::Carried);
    assert_eq!(link.next(), Some(Instant::from_millis(5)));
}

#[test]
fn probabilities_hold_over_many_packets() {
    let config = LinkConfig {
        delay: Duration::from_millis(10),
        loss: 0.02,
        duplicate: 0.1,
        reorder: 0.05,
        corrupt: 0.01,
        seed: 7,
        ..Default::default()
    };
    let mut link = Link::new(config.clone());
    for _ in 0..100_000 {
        link.offer(Instant::ZERO, &[0; 100]);
    }
    let stats = link.stats();
    assert!((1_800..2_200).contains(&stats.lost), "{stats:?}");
    assert!((9_300..10_300).contains(&stats.duplicated), "{stats:?}");
    assert!((4_600..5_200).contains(&stats.reordered), "{stats:?}");
    assert!((880..1_080).contains(&stats.corrupted), "{stats:?}");
    let flipped = drain(&mut link)
        .iter()
        .filter(|(_, p)| p.iter().map(|b| b.count_ones()).sum::<u32>() == 1)
        .count();
    assert!(flipped as u64 >= stats.corrupted);
    let mut again = Link::new(config);
    for _ in 0..100_000 {
        again.offer(Instant::ZERO, &[0; 100]);
    }
    assert_eq!(again.stats(), stats);
}

#[test]
fn a_blackout_swallows_what_is_sent_in_it() {
    let dark = (Instant::from_millis(10), Instant::from_millis(20));
    let mut link = Link::new(LinkConfig {
        blackouts: vec![dark],
        ..Default::default()
    });
    let fates: Vec<_> = [9, 10, 19, 20]
        .map(|ms| link.offer(Instant::from_millis(ms), &[1]))
        .into();
    assert_eq!(fates, [Fate::Carried, Fate::Lost, Fate::Lost, Fate::Carried]);
}

#[test]
fn a_driver_that_falls_behind_is_told_so() {
    let mut link = Link::new(LinkConfig::default());
    for _ in 0..3 {
        link.offer(Instant::ZERO, &[1]);
    }
    link.poll(Instant::ZERO);
    link.poll(Instant::from_millis(1));
    assert_eq!((link.stats().late, link.stats().latest), (0, Duration::from_millis(1)));
    link.poll(Instant::from_millis(7));
    assert_eq!((link.stats().late, link.stats().latest), (1, Duration::from_millis(7)));
}
