//! What leaves when: windows, Nagle, records and their PSH, FIN, urgent data, buffers.

use super::*;

fn more() -> SendFlags {
    SendFlags {
        more: true,
        ..SendFlags::default()
    }
}

fn eor() -> SendFlags {
    SendFlags {
        eor: true,
        ..SendFlags::default()
    }
}

#[test]
fn ten_segments_leave_at_once_and_each_ack_lets_more_go() {
    let mut host = Host::new();
    host.write(30_000);
    // Two segments are a super-packet at this rate; each ends with PSH for the peer's GRO.
    let first: Vec<_> = (0..5)
        .map(|i| format!("P. {}:{}(2000)", i * 2000 + 1, i * 2000 + 2001))
        .collect();
    assert_eq!(host.sent(), first);
    host.wait(100);
    host.ack(2001);
    assert_eq!(host.sent(), ["P. 10001:12001(2000)", "P. 12001:14001(2000)"]);
    assert_eq!(host.cwnd(), 12);
}

#[test]
fn a_device_without_gso_gets_segments_with_psh_only_at_the_record_s_end() {
    let mut host = Host::new();
    host.room = 1000;
    host.write(2500);
    assert_eq!(
        host.sent(),
        [". 1:1001(1000)", "P. 1001:2001(1000)", "P. 2001:2501(500)"]
    );
}

#[test]
fn a_segment_shrinks_by_the_options_that_others_don_t_have() {
    let mut host = Host::new();
    host.snd.set_extra_options(12);
    host.room = 988;
    host.write(1000);
    assert_eq!(host.sent(), [". 1:989(988)", "P. 989:1001(12)"]);
}

#[test]
fn options_that_come_after_the_decision_shrink_what_is_cut_out_of_it() {
    let mut host = Host::new();
    host.write(2000);
    let mut lengths = Vec::new();
    while let Some(tx) = host.snd.poll(
        &mut host.env,
        TxRoom {
            max_payload: 988,
            mss: 988,
        },
    ) {
        lengths.push(tx.len);
    }
    assert_eq!(lengths, [988, 988, 24]);
}

#[test]
fn nagle_holds_a_second_small_segment_until_the_first_is_acknowledged() {
    let mut host = Host::new();
    host.write(100);
    assert_eq!(host.sent(), ["P. 1:101(100)"]);
    host.write(50);
    host.write(50);
    assert!(host.sent().is_empty());
    host.ack(101);
    assert_eq!(host.sent(), ["P. 101:201(100)"]);
}

#[test]
fn nagle_lets_a_small_segment_go_after_full_ones() {
    let mut host = Host::new();
    host.write(2000);
    host.write(10);
    assert_eq!(host.sent(), ["P. 1:2001(2000)", "P. 2001:2011(10)"]);
}

#[test]
fn nodelay_sends_small_segments_at_once() {
    let mut host = Host::new();
    host.write(100);
    host.write(50);
    host.sent();
    host.snd.set_nodelay(&mut host.env, true);
    assert_eq!(host.sent(), ["P. 101:151(50)"]);
    host.write(1);
    assert_eq!(host.sent(), ["P. 151:152(1)"]);
}

#[test]
fn cork_holds_all_but_full_segments_until_it_is_pulled() {
    let mut host = Host::new();
    host.snd.set_cork(&mut host.env, true);
    host.write(300);
    assert!(host.sent().is_empty());
    host.write(900);
    assert_eq!(host.sent(), [". 1:1001(1000)"]);
    host.snd.set_cork(&mut host.env, false);
    assert_eq!(host.sent(), ["P. 1001:1201(200)"]);
}

#[test]
fn msg_more_holds_one_write_back_for_the_next() {
    let mut host = Host::new();
    host.write_with(300, more());
    assert!(host.sent().is_empty());
    host.write(200);
    assert_eq!(host.sent(), ["P. 1:501(500)"]);
}

#[test]
fn a_record_that_ends_with_eor_takes_nothing_more() {
    let mut host = Host::new();
    host.snd.set_nodelay(&mut host.env, true);
    host.write(10_000); // The window is full.
    host.sent();
    host.write_with(300, eor());
    host.write_with(300, eor());
    host.write(300);
    host.ack(10_001);
    let each = ["P. 10001:10301(300)", "P. 10301:10601(300)", "P. 10601:10901(300)"];
    assert_eq!(host.sent(), each);
    // Nor is it put together with others when it is sent again.
    host.sack(10_001, &[(10_601, 10_901)]);
    host.wait(1000);
    let again = host.sent();
    assert!(again.contains(&format!("{} again", each[0])), "{again:?}");
}

#[test]
fn half_a_window_written_at_once_is_pushed_in_between() {
    let mut host = Host::with(Given { window: 8000, ..USUAL }, |_| {});
    host.write(12_000);
    // Records end, with PSH, at half the largest window.
    let sent = host.sent();
    assert_eq!(
        sent,
        [
            "P. 1:2001(2000)",
            "P. 2001:4001(2000)",
            "P. 4001:6001(2000)",
            "P. 6001:8001(2000)"
        ]
    );
    host.wait(100);
    host.ack(8001);
    assert_eq!(host.sent(), ["P. 8001:10001(2000)", "P. 10001:12001(2000)"]);
}

#[test]
fn nothing_leaves_past_the_window_and_the_rest_when_it_opens() {
    let mut host = Host::with(Given { window: 2500, ..USUAL }, |_| {});
    host.write(5000);
    assert_eq!(host.sent(), [". 1:1001(1000)", "P. 1001:2001(1000)"]);
    host.wait(100);
    host.ack_with(2001, &[], |ack| ack.window = 10_000);
    assert_eq!(host.sent(), ["P. 2001:4001(2000)", "P. 4001:5001(1000)"]);
}

#[test]
fn a_window_that_shrinks_over_data_in_flight_holds_back_what_lies_beyond_it() {
    let given = Given {
        window: 20_000,
        ..USUAL
    };
    let mut host = Host::with(given, |env| env.sysctl.tcp_early_retrans = 0);
    host.write(30_000);
    host.sent();
    host.wait(100);
    // The right edge moves from 20001 to 3001 (RFC 9293 §3.8.6: a sender must be robust against that).
    host.ack_with(1001, &[], |ack| ack.window = 2000);
    assert!(host.sent().is_empty());
    // What has no data is where the peer takes it, unless scaling alone explains the difference.
    assert_eq!(host.snd.acceptable_seq(1), ISS + 3001);
    assert_eq!(host.snd.acceptable_seq(1 << 14), ISS + 10_001);
    // Only what the window has room for is sent again.
    assert_eq!(host.next().1, ". 1001:2001(1000) again");
    host.ack_with(2001, &[], |ack| ack.window = 2000);
    assert_eq!(host.sent(), ["P. 2001:4001(2000) again"]);
    // It was all received: the rest goes when the window opens.
    host.ack_with(10_001, &[], |ack| ack.window = 40_000);
    assert!(host.sent().concat().contains("10001:"));
}

#[test]
fn an_older_segment_does_not_bring_an_older_window_back() {
    let mut host = Host::new();
    host.ack_with(1, &[], |ack| (ack.seq, ack.window) = (SeqNum(10), 5000));
    host.ack_with(1, &[], |ack| (ack.seq, ack.window) = (SeqNum(5), 9000));
    assert_eq!(host.snd.window(), 5000);
}

#[test]
fn tiny_windows_halve_the_segments() {
    // SWS avoidance of the sender: never more than half the largest window in one segment.
    let mut host = Host::with(Given { window: 1200, ..USUAL }, |_| {});
    host.write(1200);
    assert_eq!(host.sent(), [". 1:601(600)", "P. 601:1201(600)"]);
}

#[test]
fn fin_leaves_with_the_last_data_or_alone() {
    let mut host = Host::new();
    host.write(11_000);
    host.sent();
    host.snd.queue_fin(&mut host.env);
    assert_ne!(host.snd.nxt(), host.snd.write_seq());
    host.ack(10_001);
    assert_eq!(host.sent(), ["FP. 10001:11001(1000)"]);
    assert!(host.snd.nxt() == host.snd.write_seq() && !host.snd.fin_acked());
    assert!(!host.ack(11_001).fin_acked);
    let out = host.ack(11_002);
    assert!(out.fin_acked && host.snd.fin_acked());
    assert_eq!(host.snd.packets_out(), 0);
    assert_eq!(host.timer(), None);

    let mut idle = Host::new();
    idle.snd.queue_fin(&mut idle.env);
    assert_eq!(idle.sent(), ["F. 1:1(0)"]);
    assert_eq!(idle.write(10), 0, "nothing follows a FIN");
}

#[test]
fn urgent_data_is_pointed_to_until_it_is_acknowledged() {
    let mut host = Host::new();
    host.write_with(
        100,
        SendFlags {
            oob: true,
            ..SendFlags::default()
        },
    );
    assert_eq!(host.sent(), ["P.U 1:101(100) urg 100"]);
    host.ack(101);
    host.write(100);
    assert_eq!(host.sent(), ["P. 101:201(100)"]);
}

#[test]
fn a_full_buffer_takes_no_more_and_says_when_a_third_is_free() {
    let mut host = Host::with(
        Given {
            sndbuf: Some(20_000),
            window: 20_000,
            ..USUAL
        },
        |_| {},
    );
    let taken = host.write(100_000);
    assert!((20_000..40_000).contains(&taken), "{taken}");
    assert_eq!(host.write(1), 0);
    assert!(!host.snd.take_writable());
    let mut acked = 1;
    while !host.snd.take_writable() {
        acked += 1000;
        assert!(acked < taken as u32, "never writable");
        host.ack(acked);
    }
    assert!(host.snd.room() > 6_000);
    assert!(host.write(1000) > 0);
    assert!(!host.snd.take_writable(), "told once");
}

#[test]
fn the_buffer_grows_with_the_window_unless_it_was_set() {
    let small = |env: &mut Env| env.sysctl.tcp_wmem = [4096, 16_384, 4 << 20];
    let mut host = Host::with(USUAL, small);
    let before = host.snd.sndbuf();
    for round in 1..=4 {
        host.write(1 << 20);
        host.wait(100);
        let end = host.snd.nxt() - ISS;
        host.ack(end as u32);
        assert!(round < 4 || host.snd.sndbuf() > before);
    }
    let mut fixed = Host::with(
        Given {
            sndbuf: Some(30_000),
            ..USUAL
        },
        small,
    );
    fixed.write(1 << 20);
    fixed.ack(10_001);
    assert_eq!(fixed.snd.sndbuf(), 30_000);
}

#[test]
fn notsent_lowat_bounds_what_waits_unsent() {
    let mut host = Host::new();
    host.snd.set_notsent_lowat(&host.env, 4000);
    let taken = host.write(1 << 20);
    let unsent = host.snd.unsent();
    assert_eq!(taken as u32, 10_000 + unsent);
    // What begins below the mark may grow to one record.
    assert!((4000..70_000).contains(&unsent), "{unsent}");
    assert!(!host.snd.is_writable(&host.env));
}

#[test]
fn small_segments_that_wait_leave_as_full_ones() {
    let mut host = Host::new();
    host.write(10_000);
    host.sent();
    for _ in 0..10 {
        host.write_with(150, eor());
        host.write(350);
    }
    host.ack(10_001);
    let total: usize = host.sent().len();
    assert!(total <= 11, "{total} packets for 5000 bytes");
}

#[test]
fn max_pacing_rate_spreads_packets_in_time() {
    let mut host = Host::new();
    host.snd.set_max_pacing_rate(100_000); // A segment each 10 ms.
    host.write(20_000);
    let mut times = Vec::new();
    for _ in 0..7 {
        times.push(host.next().0);
    }
    // The first ten segments are not paced.
    assert!(times[..5].iter().all(|at| *at <= 20), "{times:?}");
    host.ack(10_001);
    let (first, second) = (host.next().0, host.next().0);
    assert!((18..=22).contains(&(second - first)), "{first} {second}");
}

#[test]
fn an_idle_sender_is_small() {
    let mut host = Host::new();
    let nothing = host.snd.memory();
    host.write(100_000);
    assert!(host.snd.memory() > 100_000);
    host.sent();
    while host.snd.una() != host.snd.write_seq() {
        host.wait(100);
        let end = (host.snd.nxt() - ISS) as u32;
        host.ack(end);
        host.sent();
    }
    assert_eq!(host.snd.memory(), nothing);
    assert!(size_of::<Sender>() <= 512, "{}", size_of::<Sender>());
}

#[test]
fn what_was_acknowledged_before_it_left_is_left_out() {
    let mut host = Host::new();
    host.write(4000); // Decided, not polled.
    host.ack(2501);
    assert_eq!(host.sent(), ["P. 2501:4001(1500)"]);
}

#[test]
fn a_probe_finds_a_larger_path_mtu() {
    let tune = |env: &mut Env| (env.sysctl.tcp_mtu_probing, env.sysctl.tcp_base_mss) = (2, 512);
    let mut host = Host::with(Given { mss: 1460, ..USUAL }, tune);
    assert_eq!(host.snd.mss(), 512);
    host.snd.cwnd.window = 20;
    host.write(20_000);
    assert_eq!(host.sent()[0], ". 1:987(986)", "half way from 512 to 1460");
    host.wait(100);
    host.ack(987);
    assert_eq!((host.snd.mss(), host.count(Counter::TcpExtTCPMTUPSuccess)), (986, 1));
}

#[test]
fn a_lost_probe_is_sent_again_in_small_segments_and_blames_no_congestion() {
    let tune = |env: &mut Env| (env.sysctl.tcp_mtu_probing, env.sysctl.tcp_base_mss) = (2, 512);
    let mut host = Host::with(Given { mss: 1460, ..USUAL }, tune);
    host.snd.cwnd.window = 20;
    host.write(10_000);
    host.sent();
    host.wait(100);
    for end in [2011, 3035, 4059] {
        host.sack(1, &[(987, end)]);
    }
    let again: Vec<_> = host.sent().into_iter().filter(|s| s.ends_with("again")).collect();
    assert_eq!(again, ["P. 1:987(986) again"]);
    let info = host.info();
    assert_eq!((info.snd_mss, info.snd_ssthresh), (512, cwnd::INFINITE));
    assert_eq!(host.count(Counter::TcpExtTCPMTUPFail), 1);
}

#[test]
fn a_black_hole_makes_segments_smaller() {
    let tune = |env: &mut Env| (env.sysctl.tcp_mtu_probing, env.sysctl.tcp_early_retrans) = (1, 0);
    let mut host = Host::with(Given { mss: 1460, ..USUAL }, tune);
    host.write(1460);
    assert_eq!(host.sent(), ["P. 1:1461(1460)"]);
    let mut least = 1460;
    for _ in 0..8 {
        let (_, sent) = host.next();
        assert!(sent.contains("1:"), "{sent}");
        least = least.min(host.snd.mss());
        while host.poll().is_some() {}
    }
    assert!(least <= 512, "{least}");
}

#[test]
fn memory_pressure_stops_buffers_from_growing_and_exhaustion_leaves_one_record() {
    use crate::buf::Memory;
    let small = |env: &mut Env| env.sysctl.tcp_wmem = [4096, 16_384, 4 << 20];
    let mut host = Host::with(USUAL, small);
    let before = host.snd.sndbuf();
    host.env.memory = Memory::Pressure;
    for _ in 0..4 {
        host.write(1 << 20);
        host.wait(100);
        let end = (host.snd.nxt() - ISS) as u32;
        host.ack(end);
    }
    assert_eq!(host.snd.sndbuf(), before);

    let mut poor = Host::new();
    poor.env.memory = Memory::Exhausted;
    let taken = poor.write(1 << 20);
    assert!((1000..=100_000).contains(&taken), "{taken}");
    assert_eq!(poor.write(1000), 0);
    poor.ack(taken.min(10_000) as u32 + 1);
    assert!(poor.snd.room() > 0);
}

#[test]
fn default_qdisc_fq_paces_after_the_first_ten_segments() {
    let rate = |qdisc| {
        let mut host = Host::with(USUAL, |env| env.sysctl.set("net.core.default_qdisc", qdisc).unwrap());
        host.write(100_000);
        host.sent();
        host.wait(100);
        host.ack(10_001);
        // What left with the ACK and in the 60 ms after it, at twice 20 segments per 100 ms.
        let at_once = host.sent().len();
        host.wait(60);
        (at_once, host.sent().len(), host.snd.packets_out())
    };
    assert_eq!(rate("pfifo_fast"), (10, 0, 20));
    let (at_once, later, _) = rate("fq");
    assert_eq!(at_once, 1);
    assert!((6..10).contains(&later), "{later}");
}

#[test]
fn tcp_autocorking_merges_what_is_written_before_the_device_looks() {
    let sent = |autocorking| {
        let mut host = Host::with(USUAL, |env| env.sysctl.tcp_autocorking = autocorking);
        host.snd.set_nodelay(&mut host.env, true);
        for n in [100, 100, 50] {
            host.write(n);
        }
        (host.sent(), host.count(Counter::TcpExtTCPAutoCorking))
    };
    let (separate, waits) = sent(0);
    assert_eq!(separate, ["P. 1:101(100)", "P. 101:201(100)", "P. 201:251(50)"]);
    assert_eq!(waits, 0);
    // The second write waits for the first to leave; the third makes it larger than what waits, so both go.
    let (merged, waits) = sent(1);
    assert_eq!(merged, ["P. 1:101(100)", "P. 101:251(150)"]);
    assert_eq!(waits, 1);
    // Alone it leaves as soon as the device has taken the first.
    let mut host = Host::new();
    host.snd.set_nodelay(&mut host.env, true);
    host.write(100);
    host.write(100);
    assert_eq!(host.sent(), ["P. 1:101(100)", "P. 101:201(100)"]);
}

#[test]
fn a_path_s_metrics_pass_from_one_connection_to_the_next() {
    let mut path = crate::tcp::metrics::Path::default();
    let mut host = Host::with(USUAL, |env| env.sysctl.tcp_no_ssthresh_metrics_save = 0);
    host.snd.cwnd.ssthresh = 7;
    host.snd.reordering = 9;
    host.snd.remember(&host.env.sysctl, &mut path);
    assert_eq!((path.srtt8, path.ssthresh, path.reordering), (800_000, 7, 9));

    let given = Given { rtt_ms: 10, ..USUAL };
    let next = |saves| {
        let mut host = Host::with(given, |env| env.sysctl.tcp_no_ssthresh_metrics_save = saves);
        host.snd.recall(&host.env, &path);
        let info = host.info();
        (info.rto, info.snd_ssthresh, info.reordering)
    };
    // 100 ms and three times that; ssthresh is not used by default.
    assert_eq!(next(0), (300_000, 7, 9));
    assert_eq!(next(1), (300_000, cwnd::INFINITE, 9));
    // A lower RTT counts by an eighth.
    Host::with(given, |_| {}).snd.remember(&host.env.sysctl, &mut path);
    assert_eq!(path.srtt8, 800_000 - 720_000 / 8);
}
