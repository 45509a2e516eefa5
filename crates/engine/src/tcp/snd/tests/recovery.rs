//! Which segments are sent again, and when; and what is undone.

use super::*;

/// Ten segments in flight, one RTT later.
fn ten_out(given: Given) -> Host {
    let mut host = Host::with(given, |_| {});
    host.write(10_000);
    host.sent();
    host.wait(given.rtt_ms);
    host
}

#[test]
fn three_sacks_repair_the_hole_at_once() {
    let mut host = ten_out(USUAL);
    host.write(10_000);
    host.sack(1, &[(1001, 2001)]);
    host.wait(2);
    host.sack(1, &[(1001, 3001)]);
    // Limited transmit: new data for each of the first two.
    assert_eq!(host.sent(), [". 10001:11001(1000)", ". 11001:12001(1000)"]);
    assert_eq!(host.state(), CaState::Disorder);
    host.sack(1, &[(1001, 4001)]);
    assert_eq!(host.sent(), [". 1:1001(1000) again"]);
    assert_eq!(host.state(), CaState::Recovery);
    assert_eq!(host.info().snd_ssthresh, 5);
    assert_eq!(host.count(Counter::TcpExtTCPSackRecovery), 1);
    assert_eq!(host.count(Counter::TcpExtTCPFastRetrans), 1);
    // The repair arrives: recovery ends at what was in flight, with half the window.
    host.wait(100);
    host.ack(12_001);
    assert_eq!(host.state(), CaState::Open);
    assert!((5..=6).contains(&host.cwnd()), "{}", host.cwnd());
}

#[test]
fn the_window_comes_down_with_what_is_delivered() {
    let mut host = ten_out(USUAL);
    host.write(20_000);
    host.sent();
    let mut windows = Vec::new();
    for end in 2..=10 {
        host.sack(1, &[(1001, end * 1000 + 1)]);
        windows.push(host.cwnd());
        host.sent();
    }
    // PRR: 1 in 2 deliveries lets one go, until 5 are in flight.
    assert_eq!(windows[0], 10);
    assert!(windows.windows(2).all(|w| w[1] <= w[0]), "{windows:?}");
    assert_eq!(host.info().snd_ssthresh, 5);
    let in_flight = host.snd.in_flight();
    assert!((4..=6).contains(&in_flight), "{in_flight}");
}

#[test]
fn without_sack_three_duplicates_repair_one_hole_and_a_partial_ack_the_next() {
    let mut host = ten_out(Given { sack: false, ..USUAL });
    for _ in 0..2 {
        host.ack(1);
    }
    assert!(host.sent().is_empty());
    host.ack(1);
    assert_eq!(host.sent(), [". 1:1001(1000) again"]);
    assert_eq!(host.count(Counter::TcpExtTCPRenoRecovery), 1);
    for _ in 0..4 {
        host.ack(1);
    }
    host.wait(100);
    host.ack(3001); // 3001 is missing too.
    let sent = host.sent();
    assert_eq!(
        sent.first().map(String::as_str),
        Some(". 3001:4001(1000) again"),
        "{sent:?}"
    );
    host.wait(100);
    host.ack(10_001);
    host.write(1000);
    host.ack(11_001);
    assert_eq!(host.state(), CaState::Open);
}

#[test]
fn reordering_within_a_quarter_rtt_repairs_nothing() {
    let mut host = ten_out(USUAL);
    host.sack(1, &[(1001, 2001)]);
    assert_eq!(host.timer(), Some(TimerKind::Reorder));
    host.wait(20);
    host.ack(2001);
    assert!(host.sent().is_empty());
    assert_eq!((host.state(), host.info().reord_seen), (CaState::Open, 1));
    assert_eq!(host.count(Counter::TcpExtTCPSACKReorder), 1);
}

#[test]
fn a_hole_is_repaired_when_the_reordering_window_has_passed() {
    let mut host = ten_out(USUAL);
    host.sack(1, &[(3001, 4001)]);
    let sent = host.next();
    // A quarter of the RTT and 2 ms, in ticks of 4 ms.
    assert_eq!(sent, (128, ". 1:1001(1000) again".into()));
    assert_eq!((host.state(), host.info().lost), (CaState::Recovery, 3));
}

#[test]
fn a_lost_retransmission_is_noticed_and_repeated() {
    let mut host = ten_out(USUAL);
    host.write(10_000);
    host.sent();
    host.sack(1, &[(1001, 4001)]);
    assert!(host.sent().contains(&". 1:1001(1000) again".into()));
    // It is lost again, while data sent after it arrives.
    host.wait(100);
    host.sack(1, &[(1001, 10_001)]);
    host.sent();
    host.wait(100);
    host.sack(1, &[(1001, 12_001)]);
    host.wait(120);
    let sent = host.sent();
    assert!(sent.contains(&". 1:1001(1000) again".into()), "{sent:?}");
    assert_eq!(host.count(Counter::TcpExtTCPLostRetransmit), 1);
    assert_eq!(host.count(Counter::TcpExtTCPTimeouts), 0);
}

#[test]
fn a_sack_of_part_of_a_super_packet_splits_it() {
    let mut host = ten_out(USUAL);
    host.sack(1, &[(1001, 2001), (4001, 6001), (8001, 9001)]);
    assert_eq!(host.info().sacked, 4);
    // A block that ends within a segment counts for the whole ones before.
    host.sack(1, &[(6001, 7501)]);
    assert_eq!(host.info().sacked, 5);
    host.wait(28);
    assert_eq!(host.sent().first().map(String::as_str), Some(". 1:1001(1000) again"));
}

#[test]
fn sack_blocks_that_cannot_be_true_are_ignored() {
    let mut host = ten_out(USUAL);
    host.sack(1, &[(10_001, 12_001)]); // Never sent.
    host.sack(1, &[(3001, 2001)]); // Reversed.
    assert_eq!(host.info().sacked, 0);
    assert_eq!(host.count(Counter::TcpExtTCPSACKDiscard), 2);
    assert!(host.sent().is_empty());
}

#[test]
fn the_tail_is_probed_after_two_rtts() {
    let mut host = Host::new();
    host.write(3000);
    host.sent();
    assert_eq!(host.timer(), Some(TimerKind::LossProbe));
    assert_eq!(host.next(), (204, "P. 2001:3001(1000) again".into()));
    assert_eq!(host.count(Counter::TcpExtTCPLossProbes), 1);
    // Its SACK shows the loss, before any timeout.
    host.wait(100);
    host.sack(1, &[(2001, 3001)]);
    host.wait(100);
    assert_eq!(host.sent(), [". 1:1001(1000) again"]);
    host.wait(100);
    host.ack(1001);
    assert_eq!(host.sent(), [". 1001:2001(1000) again"]);
    assert_eq!(host.count(Counter::TcpExtTCPTimeouts), 0);
}

#[test]
fn the_probe_is_new_data_where_there_is_some() {
    let mut host = Host::new();
    host.write(11_000);
    host.sent();
    assert_eq!(host.next().1, "P. 10001:11001(1000)");
}

#[test]
fn a_probe_that_repairs_a_loss_reduces_the_window() {
    let mut host = Host::new();
    host.write(2000);
    host.sent();
    host.wait(100);
    host.ack(1001);
    assert_eq!(host.next().1, "P. 1001:2001(1000) again");
    host.wait(100);
    host.write(1000);
    host.ack(3001);
    assert_eq!(host.count(Counter::TcpExtTCPLossProbeRecovery), 1);
    assert!(host.cwnd() < 10);
}

#[test]
fn a_probe_that_was_needless_changes_nothing() {
    let mut host = Host::new();
    host.write(2000);
    host.sent();
    host.wait(100);
    host.ack(1001);
    host.next();
    host.ack(2001); // The original's ACK, late,
    host.sack(2001, &[(1001, 2001)]); // and the DSACK for the probe.
    host.write(1000);
    host.ack(3001);
    assert_eq!(host.count(Counter::TcpExtTCPLossProbeRecovery), 0);
    assert_eq!((host.cwnd(), host.state()), (10, CaState::Open));
}

#[test]
fn dsacks_for_every_retransmission_undo_the_reduction() {
    let mut host = ten_out(USUAL);
    for end in [2001, 3001, 4001] {
        host.sack(1, &[(1001, end)]);
    }
    assert_eq!(host.sent(), [". 1:1001(1000) again"]);
    host.ack(10_001); // Only late.
    host.sack(10_001, &[(1, 1001)]);
    assert_eq!(host.count(Counter::TcpExtTCPDSACKUndo), 1);
    assert_eq!(host.count(Counter::TcpExtTCPDSACKRecv), 1);
    assert!(host.cwnd() >= 10, "{}", host.cwnd());
    assert!(host.info().snd_ssthresh >= 10);
}

#[test]
fn an_older_timestamp_undoes_the_reduction() {
    let mut host = ten_out(Given { ts: true, ..USUAL });
    let sent_at = (START_MS) as u32;
    for end in [2001, 3001, 4001] {
        host.ack_with(1, &[(1001, end)], |ack| ack.ts_ecr = Some(sent_at));
    }
    assert_eq!(host.sent(), [". 1:1001(1000) again"]);
    host.wait(10);
    // The ACK echoes the original's timestamp.
    host.ack_with(10_001, &[], |ack| ack.ts_ecr = Some(sent_at));
    assert_eq!(host.count(Counter::TcpExtTCPFullUndo), 1);
    assert!(host.cwnd() >= 10);
    assert_eq!(host.state(), CaState::Open);
}

#[test]
fn a_recovery_right_after_another_is_undone_by_its_own_retransmission_s_time() {
    let mut host = Host::with(Given { ts: true, ..USUAL }, |_| {});
    host.write(40_000);
    host.sent();
    host.wait(100);
    host.sack(1, &[(1001, 10_001)]);
    assert_eq!(host.state(), CaState::Recovery);
    let sent = host.sent();
    assert_eq!(sent[0], ". 1:1001(1000) again");
    assert!(sent.contains(&"P. 12001:14001(2000)".into()), "and new data: {sent:?}");
    host.wait(100);
    // The recovery point is reached, and what follows it has a hole.
    host.sack(10_001, &[(11_001, 14_001)]);
    assert_eq!(host.state(), CaState::Recovery);
    assert_eq!(host.sent()[0], ". 10001:11001(1000) again");
    host.wait(50);
    // It was only late: the echo is older than this recovery's retransmission, though not than the first one's.
    let echo = host.env.now_ms() - 150 + 1;
    host.ack_with(14_001, &[], |ack| ack.ts_ecr = Some(echo));
    assert_eq!(host.count(Counter::TcpExtTCPFullUndo), 1);
    assert!(host.state() < CaState::Recovery);
}

#[test]
fn a_spurious_timeout_is_found_by_new_data() {
    // F-RTO: no SACK needed, no timestamps.
    let mut host = Host::with(USUAL, |env| env.sysctl.tcp_early_retrans = 0);
    host.write(20_000);
    host.sent();
    let (at, again) = host.next();
    assert_eq!((at, again.as_str()), (300, ". 1:1001(1000) again"));
    assert_eq!((host.state(), host.cwnd()), (CaState::Loss, 1));
    // The delay ends: ACKs of the originals arrive. The first lets new data go instead of retransmissions.
    host.ack(2001);
    let sent = host.sent();
    assert!(sent.iter().all(|s| !s.ends_with("again")), "{sent:?}");
    host.ack(4001);
    assert_eq!(host.count(Counter::TcpExtTCPSpuriousRTOs), 1);
    assert_eq!(host.state(), CaState::Open);
    assert!(host.cwnd() >= 10, "{}", host.cwnd());
    assert!(host.sent().iter().all(|s| !s.ends_with("again")));
}

#[test]
fn a_real_timeout_sends_everything_again_in_slow_start() {
    let mut host = Host::with(USUAL, |env| env.sysctl.tcp_early_retrans = 0);
    host.write(10_000);
    host.sent();
    assert_eq!(host.next().1, ". 1:1001(1000) again");
    host.wait(100);
    host.ack(1001);
    assert_eq!(host.sent(), [". 1001:2001(1000) again", ". 2001:3001(1000) again"]);
    host.wait(100);
    host.ack(3001);
    let four = [
        ". 3001:4001(1000) again",
        "P. 4001:6001(2000) again",
        ". 6001:7001(1000) again",
    ];
    assert_eq!(host.sent(), four);
    assert_eq!(host.count(Counter::TcpExtTCPSlowStartRetrans), 6);
    assert_eq!(host.info().snd_ssthresh, 5);
    assert_eq!(host.info().total_rto, 1);
}

#[test]
fn a_receiver_that_takes_back_its_sacks_gets_all_again() {
    let mut host = ten_out(USUAL);
    host.sack(1, &[(5001, 10_001)]);
    host.wait(30);
    host.sent();
    // It acknowledges up to SACKed data, and says no more of that.
    host.ack(5001);
    host.wait(400);
    let sent = host.sent();
    assert!(sent.contains(&". 5001:6001(1000) again".into()), "{sent:?}");
    assert_eq!(host.count(Counter::TcpExtTCPSACKReneging), 1);
    assert_eq!(host.info().sacked, 0);
    for end in [6001, 8001, 10_001] {
        host.wait(100);
        host.ack(end);
        host.sent();
    }
    assert_eq!(host.snd.packets_out(), 0);
}

#[test]
fn small_segments_are_sent_again_as_one() {
    let mut host = Host::with(USUAL, |env| env.sysctl.tcp_early_retrans = 0);
    host.snd.set_nodelay(&mut host.env, true);
    for _ in 0..5 {
        host.write(100);
        assert_eq!(host.sent().len(), 1);
    }
    assert_eq!(host.next().1, "P. 1:501(500) again");
}

#[test]
fn a_smaller_path_mtu_sends_the_lost_again_in_pieces() {
    let mut host = Host::new();
    host.write(2000);
    host.sent();
    host.snd.set_mss(&mut host.env, 600, true);
    // Two segments of 600 at a time, and what is left.
    assert_eq!(host.sent(), ["P. 1:1201(1200) again", "P. 1201:2001(800) again"]);
    assert_eq!(host.snd.packets_out(), 4);
    assert_eq!(host.info().snd_ssthresh, cwnd::INFINITE);
    host.check();
}

#[test]
fn an_ack_of_what_was_never_sent_or_far_too_old_is_refused() {
    let mut host = ten_out(USUAL);
    let out = host.ack(10_002);
    assert_eq!((out.drop, out.challenge), (Some(DropReason::TcpAckUnsentData), true));
    host.ack(10_001);
    assert!(host.ack(5001).old_ack);
    let out = host.ack_with(1, &[], |ack| ack.ack = ISS - (1 << 21));
    assert_eq!((out.drop, out.challenge), (Some(DropReason::TcpTooOldAck), true));
}
