//! How the window moves: slow start, avoidance, CUBIC, HyStart, ECN, idle times.

use super::*;

/// Acknowledges all that is in flight, `per` segments an ACK, and keeps the pipe full.
fn round(host: &mut Host, per: u32, rtt_ms: u64) {
    host.write(1 << 20);
    host.sent();
    host.wait(rtt_ms);
    let end = (host.snd.nxt() - ISS) as u32;
    let mut at = (host.snd.una() - ISS) as u32;
    while at < end {
        at = (at + per * 1000).min(end);
        host.ack(at);
        host.sent();
    }
}

fn lose_one(host: &mut Host) {
    host.write(1 << 20);
    host.sent();
    host.wait(100);
    let una = (host.snd.una() - ISS) as u32;
    let end = (host.snd.nxt() - ISS) as u32;
    for segments in 1..=3 {
        host.sack(una, &[(una + 1000, una + 1000 + segments * 1000)]);
        host.sent();
    }
    host.wait(100);
    host.ack(end);
    host.sent();
}

#[test]
fn slow_start_doubles_and_avoidance_adds_one() {
    let mut host = Host::new();
    for expected in [20, 40, 80] {
        round(&mut host, 2, 100);
        assert_eq!(host.cwnd(), expected);
    }
    lose_one(&mut host);
    let after = host.cwnd();
    assert!((39..=45).contains(&after), "{after}");
    for _ in 0..5 {
        round(&mut host, 2, 100);
    }
    assert!(
        (after + 4..=after + 6).contains(&host.cwnd()),
        "{after} {}",
        host.cwnd()
    );
}

#[test]
fn a_window_that_is_not_used_does_not_grow() {
    let mut host = Host::new();
    for _ in 0..20 {
        host.write(2000);
        host.sent();
        host.wait(100);
        let end = (host.snd.nxt() - ISS) as u32;
        host.ack(end);
    }
    assert_eq!(host.cwnd(), 10);
}

#[test]
fn an_idle_time_halves_the_window_per_timeout() {
    let mut host = Host::new();
    for _ in 0..3 {
        round(&mut host, 2, 100);
    }
    let end = host.snd.write_seq() - ISS;
    while host.snd.una() - ISS < end {
        let sent = (host.snd.nxt() - ISS) as u32;
        host.wait(100);
        host.ack(sent);
        host.sent();
    }
    let before = host.cwnd();
    host.wait(800); // Two timeouts and a bit.
    host.write(1000);
    assert!(
        host.cwnd() <= before / 4 + 1 && host.cwnd() >= 10,
        "{before} {}",
        host.cwnd()
    );

    let mut kept = Host::with(USUAL, |env| env.sysctl.tcp_slow_start_after_idle = 0);
    round(&mut kept, 2, 100);
    kept.wait(5000);
    let before = kept.cwnd();
    kept.write(1000);
    assert_eq!(kept.cwnd(), before);
}

#[test]
fn cubic_falls_to_seven_tenths_and_returns_to_the_old_window_in_k_seconds() {
    let mut host = Host::with(Given { cc: "cubic", ..USUAL }, |_| {});
    for _ in 0..3 {
        round(&mut host, 2, 100);
    }
    let peak = host.cwnd();
    lose_one(&mut host);
    let low = host.cwnd();
    assert_eq!(low, peak * 7 / 10);
    // K = ∛((Wmax − cwnd) / 0.4) seconds (RFC 9438 §4.2).
    let k = (f64::from(peak - low) / 0.4).cbrt();
    let rounds = (k * 10.0) as u32;
    for _ in 0..rounds {
        round(&mut host, 1, 100);
    }
    let near = host.cwnd();
    assert!(
        (peak - 6..=peak + 2).contains(&near),
        "peak {peak} low {low} near {near} after {rounds} rounds"
    );
    for _ in 0..rounds {
        round(&mut host, 1, 100);
    }
    assert!(host.cwnd() > peak + 5, "then it probes for more: {}", host.cwnd());
}

#[test]
fn cubic_is_not_slower_than_reno_on_short_paths() {
    let start = |cc| {
        let mut host = Host::with(Given { cc, rtt_ms: 5, ..USUAL }, |_| {});
        host.snd.cwnd.ssthresh = 10;
        for _ in 0..100 {
            round(&mut host, 1, 5);
        }
        host.cwnd()
    };
    let (cubic, reno) = (start("cubic"), start("reno"));
    assert!(cubic * 10 >= reno * 5, "cubic {cubic} reno {reno}");
}

#[test]
fn hystart_leaves_slow_start_when_the_delay_rises() {
    let mut host = Host::with(Given { cc: "cubic", ..USUAL }, |_| {});
    round(&mut host, 1, 100);
    assert_eq!(host.info().snd_ssthresh, cwnd::INFINITE);
    round(&mut host, 1, 130);
    assert_eq!(host.count(Counter::TcpExtTCPHystartDelayDetect), 1);
    assert!(host.info().snd_ssthresh < 40);
}

#[test]
fn hystart_leaves_slow_start_when_acks_come_in_a_long_train() {
    let mut host = Host::with(Given { cc: "cubic", ..USUAL }, |_| {});
    round(&mut host, 1, 100);
    host.write(1 << 20);
    host.sent();
    host.wait(40);
    // An ACK each 1.5 ms, for more than half the least RTT.
    let mut at = (host.snd.una() - ISS) as u32;
    for _ in 0..80 {
        host.env.now += Duration::from_micros(1500);
        at += 1000;
        if at > (host.snd.nxt() - ISS) as u32 {
            break;
        }
        host.ack(at);
        host.sent();
    }
    assert_eq!(host.count(Counter::TcpExtTCPHystartTrainDetect), 1);
    assert!(host.count(Counter::TcpExtTCPHystartTrainCwnd) >= 16);
}

#[test]
fn ecn_echoes_reduce_once_per_window_and_are_answered_with_cwr() {
    let mut host = Host::with(Given { ecn: true, ..USUAL }, |_| {});
    host.write(20_000);
    assert!(host.sent().iter().all(|s| s.ends_with("[ect0]")));
    host.wait(100);
    host.ack_with(1001, &[], |ack| ack.ece = true);
    assert_eq!(host.state(), CaState::Cwr);
    host.ack_with(2001, &[], |ack| ack.ece = true);
    host.ack_with(4001, &[], |ack| ack.ece = true);
    assert_eq!(host.info().snd_ssthresh, 5);
    let sent = host.sent();
    assert_eq!(sent.iter().filter(|s| s.contains('W')).count(), 1, "{sent:?}");
    assert!(sent[0].contains('W'));
    host.wait(100);
    let end = (host.snd.nxt() - ISS) as u32;
    host.ack(end);
    assert_eq!(host.state(), CaState::Open);
    assert!((5..=6).contains(&host.cwnd()), "{}", host.cwnd());
    assert!(host.info().delivered_ce >= 4);
}

#[test]
fn what_is_sent_again_is_not_marked() {
    let mut host = Host::with(Given { ecn: true, ..USUAL }, |_| {});
    host.write(10_000);
    host.sent();
    host.wait(100);
    host.sack(1, &[(1001, 4001)]);
    let sent = host.sent();
    assert_eq!(sent, [". 1:1001(1000) again"]);
}

#[test]
fn the_congestion_control_is_chosen_by_name() {
    let mut host = Host::new();
    assert!(host.snd.set_cc(&host.env, CcName::new("cubic")));
    assert_eq!(host.info().cc.as_str(), "cubic");
    assert!(!host.snd.set_cc(&host.env, CcName::new("vegas")));
    assert_eq!(host.snd.cc_name().as_str(), "cubic");
}

#[test]
fn the_delivery_rate_is_measured() {
    let mut host = Host::new();
    for _ in 0..3 {
        round(&mut host, 2, 100);
    }
    // 40 segments of 1000 bytes per 100 ms.
    let info = host.info();
    let rate = info.delivery_rate;
    assert!((350_000..=450_000).contains(&rate), "{rate}");
    assert!(!info.delivery_rate_app_limited);
}

#[test]
fn why_sending_waits_is_timed() {
    let mut host = Host::with(Given { window: 5000, ..USUAL }, |_| {});
    host.write(20_000);
    host.wait(100);
    let info = host.info();
    assert_eq!((info.busy_time, info.rwnd_limited), (100_000, 100_000));
    host.ack_with(5001, &[], |ack| ack.window = 1 << 20);
    host.sent();
    host.wait(50);
    let info = host.info();
    assert_eq!((info.busy_time, info.rwnd_limited), (150_000, 100_000));
}

#[test]
fn a_buffer_too_small_for_the_congestion_window_is_told_from_a_closed_window() {
    let sndbuf = Some(30_000);
    let mut host = Host::with(Given { sndbuf, ..USUAL }, |_| {});
    while host.write(10_000) > 0 {}
    let all = host.written as u32;
    // The congestion window opens: all that is queued leaves, and the application waits for room to queue more.
    host.snd.cwnd.window = 400;
    host.ack(10_001);
    host.sent();
    host.wait(70);
    let times = |host: &Host| {
        let info = host.info();
        (info.busy_time, info.rwnd_limited, info.sndbuf_limited)
    };
    assert_eq!(times(&host), (70_000, 0, 70_000));
    // Room again, then nothing in flight: busy no longer limited, then not even busy.
    host.ack(all - 5000);
    host.wait(30);
    assert_eq!(times(&host), (100_000, 0, 70_000));
    host.ack(all + 1);
    host.wait(50);
    assert_eq!(times(&host), (100_000, 0, 70_000));
}

/// BBR's pacing gain after five round trips, of which the last `marked` bring ECN-Echo.
fn bbr_gain(marked: u32) -> u32 {
    let mut host = Host::with(
        Given {
            cc: "bbr",
            ecn: true,
            ..USUAL
        },
        |_| {},
    );
    let mut sent = Vec::new();
    for round in 0..5 {
        host.write(1 << 20);
        sent.extend(host.sent());
        host.wait(100);
        let end = (host.snd.nxt() - ISS) as u32;
        host.ack_with(end, &[], |ack| ack.ece = round + marked >= 5);
    }
    host.write(1 << 20);
    host.wait(100);
    sent.extend(host.sent());
    // The peer is told, as of any reduction.
    assert_eq!(sent.iter().any(|segment| segment.contains('W')), marked > 0);
    host.info().bbr.expect("BBR tells of itself").pacing_gain
}

#[test]
fn bbr_ends_its_startup_when_routers_mark() {
    assert_eq!((bbr_gain(0), bbr_gain(1)), (709, 709));
    assert!(bbr_gain(2) <= 256);
}
