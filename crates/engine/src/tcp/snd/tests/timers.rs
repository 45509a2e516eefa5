//! Timeouts, their backoff and their end; probes of closed windows.

use super::*;

/// Milliseconds between the transmissions of a lone segment that nobody answers, and the end.
fn unanswered(host: &mut Host) -> (Vec<u64>, TimerOut) {
    let (mut gaps, mut last) = (Vec::new(), host.now_ms());
    while !matches!(host.out, TimerOut::Fail(_) | TimerOut::Abort { .. }) {
        host.fire(Instant::from_millis(u64::MAX / 2_000_000));
        if !host.sent().is_empty() {
            gaps.push(host.now_ms() - last);
            last = host.now_ms();
        }
    }
    (gaps, host.out)
}

#[test]
fn timeouts_double_up_to_two_minutes_and_end_in_etimedout() {
    let mut host = Host::with(USUAL, |env| env.sysctl.tcp_early_retrans = 0);
    host.write(1000);
    host.sent();
    let (gaps, out) = unanswered(&mut host);
    assert_eq!(out, TimerOut::Fail(SockError::ETIMEDOUT));
    assert_eq!(gaps[..8], [300, 600, 1200, 2400, 4800, 9600, 19_200, 38_400]);
    assert!(gaps[9..].iter().all(|gap| *gap == 120_000), "{gaps:?}");
    // tcp_retries2 15 means as long as 15 retransmissions from 200 ms take: 924.6 s.
    assert!((924_600..1_050_000).contains(&host.now_ms()), "{}", host.now_ms());
}

#[test]
fn tcp_retries2_shortens_it() {
    let few = |env: &mut Env| (env.sysctl.tcp_early_retrans, env.sysctl.tcp_retries2) = (0, 3);
    let mut host = Host::with(USUAL, few);
    host.write(1000);
    host.sent();
    unanswered(&mut host);
    // 0.2 · (2⁴ − 1) = 3 s of retransmitting.
    assert!((3_000..6_000).contains(&host.now_ms()), "{}", host.now_ms());
}

/// As 6.18 does it, measured with packetdrill: while one timeout follows another, the limit counts from the first one's
/// retransmission, progress or not; but the first timeout after progress never ends the connection.
#[test]
fn timeouts_with_progress_between_count_from_the_first_of_them() {
    let mut host = Host::with(Given { sack: false, ..USUAL }, |env| {
        (env.sysctl.tcp_early_retrans, env.sysctl.tcp_frto) = (0, 0);
        (env.sysctl.tcp_retries2, env.sysctl.tcp_rto_max_ms) = (5, 1000);
    });
    host.write(10_000);
    host.sent();
    for una in (1001..8000).step_by(1000) {
        while host.sent().iter().all(|sent| !sent.ends_with("again")) {
            assert!(host.fire(Instant::from_millis(u64::MAX / 2_000_000)), "{:?}", host.out);
        }
        host.wait(100);
        host.ack(una);
        host.sent();
    }
    let (gaps, out) = unanswered(&mut host);
    assert_eq!(out, TimerOut::Fail(SockError::ETIMEDOUT));
    assert_eq!(gaps.len(), 1, "{gaps:?}");
}

#[test]
fn the_user_timeout_ends_it_to_the_millisecond() {
    let mut host = Host::with(USUAL, |env| env.sysctl.tcp_early_retrans = 0);
    host.snd.set_user_timeout(5000);
    host.write(1000);
    host.sent();
    let (_, out) = unanswered(&mut host);
    assert_eq!(out, TimerOut::Fail(SockError::ETIMEDOUT));
    // Counted from the first retransmission, at 300 ms.
    assert_eq!(host.now_ms(), 5300);
}

#[test]
fn the_icmp_error_that_came_in_between_is_what_the_application_learns() {
    let mut host = Host::with(USUAL, |env| env.sysctl.tcp_retries2 = 3);
    host.cx.soft_error = Some(SockError::EHOSTUNREACH);
    host.write(1000);
    let (_, out) = unanswered(&mut host);
    assert_eq!(out, TimerOut::Fail(SockError::EHOSTUNREACH));
}

#[test]
fn an_orphan_is_given_up_after_eight_retries() {
    let mut host = Host::with(USUAL, |env| env.sysctl.tcp_early_retrans = 0);
    host.cx.orphan = true;
    host.write(1000);
    host.snd.queue_fin(&mut host.env);
    host.sent();
    let (gaps, out) = unanswered(&mut host);
    assert_eq!(out, TimerOut::Fail(SockError::ETIMEDOUT));
    assert!((7..=9).contains(&gaps.len()), "{gaps:?}");

    let mut many = Host::with(USUAL, |env| env.sysctl.tcp_max_orphans = 10);
    (many.cx.orphan, many.cx.orphans) = (true, 11);
    many.write(1000);
    assert_eq!(unanswered(&mut many).1, TimerOut::Abort { reset: true });
}

#[test]
fn thin_streams_back_off_linearly_if_asked_to() {
    let thin = |env: &mut Env| (env.sysctl.tcp_early_retrans, env.sysctl.tcp_thin_linear_timeouts) = (0, 1);
    let mut host = Host::with(USUAL, thin);
    host.snd.cwnd.ssthresh = 10; // Not in its first slow start.
    host.write(1000);
    host.sent();
    let (gaps, _) = unanswered(&mut host);
    assert_eq!(gaps[..9], [300, 300, 300, 300, 300, 300, 300, 600, 1200]);
}

#[test]
fn an_rtt_sample_ends_the_backoff_and_a_retransmission_gives_none() {
    let mut host = Host::with(USUAL, |env| env.sysctl.tcp_early_retrans = 0);
    host.write(1000);
    host.sent();
    for _ in 0..3 {
        host.next();
    }
    assert_eq!((host.info().backoff, host.info().rto), (3, 2_400_000));
    host.wait(50);
    host.ack(1001); // Karn: which transmission does this answer?
    assert_eq!((host.info().backoff, host.info().rto), (3, 2_400_000));
    host.write(1000);
    host.sent();
    host.wait(100);
    host.ack(2001);
    assert_eq!(host.info().backoff, 0);
    assert!(host.info().rto < 400_000);
}

#[test]
fn timestamps_give_samples_even_then() {
    let mut host = Host::with(Given { ts: true, ..USUAL }, |env| env.sysctl.tcp_early_retrans = 0);
    host.write(1000);
    host.sent();
    let at = host.next().0;
    host.wait(100);
    host.ack_with(1001, &[], |ack| ack.ts_ecr = Some((START_MS + at) as u32));
    assert_eq!(host.info().backoff, 0);
}

#[test]
fn the_timeout_follows_the_rtt_and_its_variation() {
    let mut host = Host::new();
    let steady = |host: &mut Host, n: usize, ms: u64| {
        for _ in 0..n {
            host.write(1000);
            host.sent();
            host.wait(ms);
            let end = (host.snd.nxt() - ISS) as u32;
            host.ack(end);
        }
    };
    steady(&mut host, 40, 100);
    let info = host.info();
    assert_eq!((info.rtt, info.min_rtt), (100_000, 100_000));
    // Never less than the RTT and 200 ms.
    assert_eq!(info.rto, 300_000);
    steady(&mut host, 5, 190);
    assert!(host.info().rto > 340_000, "{}", host.info().rto);
    assert_eq!(host.info().min_rtt, 100_000);
}

#[test]
fn a_closed_window_is_probed_for_ever_while_the_peer_answers() {
    let mut host = Host::with(Given { window: 0, ..USUAL }, |_| {});
    host.write(1000);
    let mut last = 0;
    let mut gaps = Vec::new();
    for _ in 0..100 {
        let (at, sent) = host.next();
        assert_eq!(sent, ". 0:0(0) probe");
        gaps.push(at - last);
        last = at;
        host.ack(1);
    }
    assert_eq!(gaps[..9], [300, 600, 1200, 2400, 4800, 9600, 19_200, 38_400, 76_800]);
    assert!(gaps[9..].iter().all(|gap| *gap == 120_000));
    assert_eq!(host.count(Counter::TcpExtTCPWinProbe), 100);
    // It opens: data leaves at once, and the next timeout is a short one.
    host.ack_with(1, &[], |ack| ack.window = 5000);
    assert_eq!(host.sent(), ["P. 1:1001(1000)"]);
    assert_eq!(host.info().backoff, 0);
}

#[test]
fn a_peer_that_answers_no_probe_is_given_up() {
    let mut host = Host::with(Given { window: 0, ..USUAL }, |_| {});
    host.write(1000);
    let (gaps, out) = unanswered(&mut host);
    assert_eq!((gaps.len(), out), (15, TimerOut::Fail(SockError::ETIMEDOUT)));
}

#[test]
fn a_probe_carries_data_where_the_window_has_a_little_room() {
    let mut host = Host::new();
    host.write(1000);
    host.sent();
    host.wait(100);
    host.ack_with(1001, &[], |ack| ack.window = 300);
    host.write(1000);
    assert!(host.sent().is_empty(), "a window of less than a segment is left alone");
    let (at, sent) = host.next();
    assert_eq!((at, sent.as_str()), (400, "P. 1001:1301(300)"));
}

#[test]
fn a_window_that_closes_over_data_in_flight_is_probed_with_it() {
    let mut host = Host::with(USUAL, |env| env.sysctl.tcp_early_retrans = 0);
    host.write(3000);
    host.sent();
    host.ack_with(1, &[], |ack| ack.window = 0);
    for _ in 0..30 {
        let (_, sent) = host.next();
        assert_eq!(sent, ". 1:1001(1000) again");
        host.ack(1); // The peer lives.
    }
    host.ack_with(1, &[], |ack| ack.window = 10_000);
    host.wait(200_000);
    host.ack(3001);
    assert_eq!(host.snd.packets_out(), 0);
}

#[test]
fn an_unreachable_takes_one_backoff_step_back() {
    let mut host = Host::with(USUAL, |env| env.sysctl.tcp_early_retrans = 0);
    host.write(1000);
    host.sent();
    for _ in 0..4 {
        host.next();
    }
    let before = host.info().rto;
    let una = host.snd.una();
    host.snd.on_unreachable(&mut host.env, una);
    assert_eq!(host.info().rto, before / 2);
    let (at, _) = host.snd.deadline().expect("it runs");
    assert!(at <= host.env.now + Duration::from_millis(u64::from(before) / 2000));
}

#[test]
fn a_device_that_takes_nothing_is_tried_every_half_second() {
    let mut host = Host::new();
    host.env.output_full = true;
    host.write(1000);
    assert!(host.sent().is_empty());
    for _ in 0..4 {
        host.fire(Instant::from_millis(u64::MAX / 2_000_000));
        assert!(host.sent().is_empty());
    }
    let at = host.now_ms();
    assert_eq!((at - 300) % 500, 0, "{at}");
    host.env.output_full = false;
    let (next, sent) = host.next();
    assert_eq!((next - at, sent.as_str()), (500, "P. 1:1001(1000)"));
}

#[test]
fn the_handshake_s_samples_seed_the_timeout() {
    assert_eq!(Host::new().info().rto, 300_000);
    let mut env = Env::new(
        Instant::ZERO,
        Config {
            seed: [0; 32],
            memory: 1 << 30,
            unix_time: 0,
        },
    );
    let setup = SndSetup {
        mss: 1000,
        mss_clamp: 1000,
        window: 65_535,
        wl1: SeqNum(0),
        sack_ok: true,
        ts_ok: false,
        ecn_ok: false,
        syn_lost: true,
        rtt: None,
    };
    let mut snd = Sender::new(&env, ISS, None, None);
    snd.begin(&mut env, &setup);
    let mut info = TcpInfo::default();
    snd.info(&env, &mut info);
    // RFC 6298 §5.7, RFC 5681 §3.1: a SYN lost twice and no sample: 3 s, and one segment.
    assert_eq!((info.rto, info.snd_cwnd, info.cc.as_str()), (3_000_000, 1, "cubic"));
}
