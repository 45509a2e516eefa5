//! BBR over links with 40 ms there and back, on virtual time: each figure is exact and repeats.

mod common;

use common::Run;
use estab_engine::SockOption;
use estab_sim::LinkConfig;
use std::time::Duration;

const RTT_MS: u64 = 40;

/// A link of `mbit` Mbit/s whose buffer holds `bdps` times what fills it.
fn link(mbit: u64, loss: f64, bdps: u64) -> LinkConfig {
    LinkConfig {
        rate: Some(mbit * 1_000_000),
        delay: Duration::from_millis(RTT_MS / 2),
        buffer: (mbit * 1_000_000 / 8 * RTT_MS / 1000 * bdps) as usize,
        loss,
        seed: 4,
        ..LinkConfig::default()
    }
}

#[test]
fn it_fills_the_link_and_keeps_the_queue_short() {
    let mut run = Run::new("bbr", link(100, 0.0, 4), 1);
    run.run(1000, |_, _| {});
    let (mut most, mut sum, mut n) = (0, 0, 0);
    let rate = run.run(5000, |_, info| {
        most = most.max(info.rtt);
        (sum, n) = (sum + u64::from(info.rtt), n + 1);
    });
    assert!(rate[0] >= 90, "{rate:?}");
    let mean = sum / n;
    assert!(mean < RTT_MS * 1000 * 5 / 4, "{mean} µs");
    assert!(u64::from(most) < RTT_MS * 1000 * 5 / 2, "{most} µs");
    let info = run.info(0).bbr.expect("BBR tells of itself");
    assert!((38_000..=42_000).contains(&info.min_rtt), "{info:?}");
    assert!((info.bw * 8).abs_diff(run.rate) < run.rate / 10, "{info:?}");
}

#[test]
fn one_percent_of_random_loss_costs_bbr_little_and_reno_most() {
    let rate = |cc, ms| {
        let mut run = Run::new(cc, link(100, 0.01, 2), 1);
        run.run(1000, |_, _| {});
        run.run(ms, |_, _| {})[0]
    };
    let (bbr, reno) = (rate("bbr", 8000), rate("reno", 8000));
    assert!(bbr >= 80, "{bbr}");
    assert!(reno <= 20, "{reno}");
}

#[test]
fn two_share_the_link() {
    let mut run = Run::new("bbr", link(20, 0.0, 2), 1);
    run.run(3000, |_, _| {});
    run.open(1);
    run.run(17_000, |_, _| {});
    let rate = run.run(20_000, |_, _| {});
    assert!(rate[0] + rate[1] >= 90, "{rate:?}");
    assert!(rate.iter().all(|r| *r >= 30), "{rate:?}");
}

#[test]
fn it_shrinks_for_a_moment_every_five_seconds_to_see_the_least_rtt() {
    let mut run = Run::new("bbr", link(20, 0.0, 2), 1);
    let mut probes = Vec::new();
    let mut small = false;
    run.run(21_000, |at, info| {
        let bbr = info.bbr.expect("BBR tells of itself");
        let probing = bbr.cwnd_gain == 128;
        if probing && !small {
            probes.push(at);
        }
        if probing {
            assert!(info.snd_cwnd <= 100, "{}", info.snd_cwnd);
        }
        small = probing;
    });
    assert!((3..=4).contains(&probes.len()), "{probes:?}");
    assert!(probes[0].abs_diff(5000) < 1000, "{probes:?}");
}

#[test]
fn a_socket_chooses_it_and_leaves_it() {
    let mut run = Run::new("cubic", link(20, 0.0, 2), 1);
    let sender = run.flows[0].sender;
    let set = |run: &mut Run, name| {
        let option = SockOption::Congestion(estab_engine::proto::diag::CcName::new(name));
        run.net.sock(0, sender).unwrap().set_option(option)
    };
    assert!(run.info(0).bbr.is_none());
    set(&mut run, "bbr").unwrap();
    let rate = run.run(5000, |_, _| {});
    assert!(rate[0] >= 80, "{rate:?}");
    assert!(run.info(0).bbr.is_some());
    set(&mut run, "reno").unwrap();
    let rate = run.run(5000, |_, _| {});
    assert!(rate[0] >= 80, "{rate:?}");
    assert!(set(&mut run, "vegas").is_err());
}
