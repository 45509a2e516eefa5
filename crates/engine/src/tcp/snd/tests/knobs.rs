//! Each of the sender's sysctls changes what it does.

use super::*;

fn quiet(env: &mut Env) {
    env.sysctl.tcp_early_retrans = 0;
}

#[test]
fn tcp_retrans_collapse_joins_small_segments() {
    let again = |collapse| {
        let mut host = Host::with(USUAL, |env| {
            quiet(env);
            env.sysctl.tcp_retrans_collapse = collapse;
        });
        host.snd.set_nodelay(&mut host.env, true);
        for _ in 0..3 {
            host.write(100);
            host.sent();
        }
        host.next().1
    };
    assert_eq!(again(1), "P. 1:301(300) again");
    assert_eq!(again(0), "P. 1:101(100) again");
}

#[test]
fn tcp_min_tso_segs_and_tcp_tso_rtt_log_size_super_packets() {
    let segments = |rtt_ms, least, log| {
        let host = Host::with(Given { rtt_ms, ..USUAL }, |env| {
            (env.sysctl.tcp_min_tso_segs, env.sysctl.tcp_tso_rtt_log) = (least, log);
        });
        host.snd.tso_segs(&host.env, 1000)
    };
    assert_eq!((segments(100, 2, 9), segments(100, 4, 9)), (2, 4));
    // A millisecond at the pacing rate is 19 segments; on a path this short bursts may be larger.
    assert_eq!((segments(1, 2, 0), segments(1, 2, 9)), (19, 52));
}

#[test]
fn the_pacing_ratios_are_percents_of_window_over_rtt() {
    let rate = |ssthresh, ss, ca| {
        let mut host = Host::with(USUAL, |env| {
            (env.sysctl.tcp_pacing_ss_ratio, env.sysctl.tcp_pacing_ca_ratio) = (ss, ca);
        });
        host.snd.cwnd.ssthresh = ssthresh;
        host.snd.update_pacing_rate(&host.env);
        host.info().pacing_rate
    };
    assert_eq!((rate(100, 200, 120), rate(100, 150, 120)), (200_000, 150_000));
    assert_eq!((rate(10, 200, 120), rate(10, 200, 130)), (120_000, 130_000));
}

#[test]
fn tcp_recovery_and_tcp_reordering_say_when_three_sacks_mean_loss() {
    let repaired = |recovery, reordering| {
        let mut host = Host::with(USUAL, |env| {
            (env.sysctl.tcp_recovery, env.sysctl.tcp_reordering) = (recovery, reordering);
        });
        host.write(10_000);
        host.sent();
        host.wait(100);
        host.sack(1, &[(1001, 4001)]);
        !host.sent().is_empty()
    };
    assert!(repaired(1, 3));
    assert!(!repaired(1 | 4, 3), "duplicate ACKs are not counted");
    assert!(!repaired(1, 4), "more reordering is expected");
}

#[test]
fn tcp_frto_tries_new_data_before_it_repeats_the_window() {
    let after_timeout = |frto| {
        let mut host = Host::with(USUAL, |env| {
            quiet(env);
            env.sysctl.tcp_frto = frto;
        });
        host.write(20_000);
        host.sent();
        assert!(host.next().1.ends_with("again"));
        host.ack(1001);
        host.sent().iter().any(|segment| segment.ends_with("again"))
    };
    assert!(!after_timeout(2));
    assert!(after_timeout(0));
}

#[test]
fn tcp_rto_min_us_and_tcp_rto_max_ms_bound_the_timeout() {
    let given = Given { rtt_ms: 10, ..USUAL };
    let rto = |us| Host::with(given, |env| env.sysctl.tcp_rto_min_us = us).info().rto;
    assert_eq!((rto(200_000), rto(40_000)), (212_000, 52_000));
    let mut host = Host::with(given, |env| {
        quiet(env);
        env.sysctl.tcp_rto_max_ms = 1000;
    });
    host.write(1000);
    host.sent();
    for _ in 0..6 {
        host.next();
    }
    assert_eq!(host.info().rto, 1_000_000);
}
