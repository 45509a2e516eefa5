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

#[test]
fn tcp_mtu_probe_floor_is_where_a_black_hole_ends() {
    let least = |floor| {
        let mut host = Host::with(Given { mss: 1460, ..USUAL }, |env| {
            quiet(env);
            (env.sysctl.tcp_mtu_probing, env.sysctl.tcp_mtu_probe_floor) = (1, floor);
        });
        host.write(1460);
        host.sent();
        for _ in 0..10 {
            host.next();
            while host.poll().is_some() {}
        }
        host.snd.mss()
    };
    assert_eq!((least(48), least(300)), (48, 300));
}

/// A sender that searches between 1400 and 1460, and has just begun a probe of 1430 if it is to.
fn searching(tune: impl FnOnce(&mut Env)) -> (Host, bool) {
    let mut host = Host::with(Given { mss: 1460, ..USUAL }, |env| {
        (env.sysctl.tcp_mtu_probing, env.sysctl.tcp_base_mss) = (2, 1400);
        tune(env);
    });
    host.snd.cwnd.window = 20;
    host.write(28_000);
    let probes = host.sent()[0].contains("1:1431(1430)");
    (host, probes)
}

#[test]
fn tcp_probe_threshold_is_how_near_is_near_enough() {
    assert!(searching(|env| env.sysctl.tcp_probe_threshold = 8).1);
    assert!(!searching(|env| env.sysctl.tcp_probe_threshold = 61).1);
}

#[test]
fn tcp_probe_interval_is_when_what_was_found_is_doubted() {
    let again = |interval| {
        let (mut host, _) = searching(|env| {
            (env.sysctl.tcp_probe_threshold, env.sysctl.tcp_probe_interval) = (31, interval);
        });
        host.wait(100);
        for segments in 1..=3 {
            host.sack(1, &[(1431, 1431 + segments * 1400)]);
        }
        assert_eq!(
            host.count(Counter::TcpExtTCPMTUPFail),
            1,
            "the probe is lost: 1429 at most"
        );
        let mut probed = false;
        for _ in 0..4 {
            host.wait(500);
            let end = (host.snd.nxt() - ISS) as u32;
            host.ack(end);
            host.write(28_000);
            host.snd.cwnd.window = 20;
            probed |= host.sent().iter().any(|segment| segment.contains("(1430)"));
        }
        probed
    };
    assert!(again(1));
    assert!(!again(600));
}

#[test]
fn tcp_max_reordering_bounds_what_is_learned() {
    let learned = |most| {
        let mut host = Host::with(USUAL, |env| env.sysctl.tcp_max_reordering = most);
        host.snd.cwnd.window = 20;
        host.write(20_000);
        host.sent();
        host.wait(100);
        host.sack(1, &[(15_001, 16_001)]);
        host.sack(1, &[(1001, 2001), (15_001, 16_001)]);
        host.info().reordering
    };
    assert_eq!((learned(300), learned(10)), (15, 10));
}

#[test]
fn tcp_tso_win_divisor_says_which_part_of_the_window_is_worth_a_burst() {
    let sent = |divisor| {
        let mut host = Host::with(USUAL, |env| {
            (env.sysctl.tcp_min_tso_segs, env.sysctl.tcp_tso_win_divisor) = (10, divisor);
        });
        host.write(40_000);
        host.sent();
        host.wait(100);
        host.ack(1001);
        host.sent();
        // The next ACK is due at once: two segments may wait for its room.
        host.ack(2001);
        host.sent().len()
    };
    assert_eq!((sent(3), sent(10)), (0, 1));
}

#[test]
fn tcp_min_rtt_wlen_is_how_long_the_least_round_trip_counts() {
    let least = |seconds| {
        let mut host = Host::with(USUAL, |env| env.sysctl.tcp_min_rtt_wlen = seconds);
        for ms in [50, 200, 200, 200, 200, 200, 200, 200, 200] {
            host.write(1000);
            host.sent();
            host.wait(ms);
            let end = (host.snd.nxt() - ISS) as u32;
            host.ack(end);
        }
        host.info().min_rtt
    };
    assert_eq!((least(300), least(1)), (50_000, 200_000));
}
