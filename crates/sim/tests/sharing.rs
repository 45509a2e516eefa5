//! Two flows over one bottleneck without loss, CUBIC on each, a buffer of one bandwidth-delay product, on virtual time.
//! docs/LOSS.md tells how an estab's and a Linux's flow share.

mod common;

use common::Run;
use estab_sim::LinkConfig;
use std::time::Duration;

const RATE: u64 = 20_000_000;

fn two(rtt_ms: u64) -> Run {
    let link = LinkConfig {
        rate: Some(RATE),
        delay: Duration::from_millis(rtt_ms) / 2,
        buffer: (RATE / 8 * rtt_ms / 1000) as usize,
        ..LinkConfig::default()
    };
    Run::new("cubic", link, 2)
}

/// What part of what arrives in `ms` is the first flow's, in per cent.
fn of_first(run: &mut Run, ms: u64) -> u64 {
    let rates = run.run(ms, |_, _| {});
    let all = rates[0] + rates[1];
    assert!(all >= 85, "{rates:?}");
    rates[0] * 100 / all
}

#[test]
fn on_a_short_path_two_flows_share_evenly() {
    let part = of_first(&mut two(20), 20_000);
    assert!((40..=60).contains(&part), "{part}");
}

/// HyStart sees the queue of the flow ahead as delay of the one behind, which leaves slow start earlier, as Linux's does;
/// from there CUBIC comes to even shares over some tens of seconds.
#[test]
fn on_a_long_path_the_flow_ahead_takes_more_and_gives_it_back() {
    let mut run = two(100);
    let parts = [(); 4].map(|()| of_first(&mut run, 10_000));
    assert!((60..=80).contains(&parts[0]), "{parts:?}");
    assert!(parts.is_sorted_by(|a, b| a >= b), "{parts:?}");
    assert!((40..=60).contains(&parts[3]), "{parts:?}");
}
