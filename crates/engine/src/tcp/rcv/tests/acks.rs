use super::*;

#[test]
fn a_connection_begins_by_acknowledging_every_segment() {
    let mut host = Host::new();
    for i in 0..10 {
        host.data(1 + i * 1000, 1000);
        host.read(1000);
    }
    assert_eq!(host.acks().len(), 10);
}

#[test]
fn every_second_full_segment_is_acknowledged_at_once() {
    let mut host = Host::new();
    host.data(1, MSS);
    host.read(MSS);
    host.acks();
    let mut seq = 1 + MSS as u32;
    for i in 0..10 {
        host.leave_quickack();
        host.data(seq, MSS);
        seq += MSS as u32;
        host.read(MSS);
        assert_eq!(host.acks().len(), i % 2, "segment {i}");
    }
}

#[test]
fn a_merged_packet_counts_as_what_it_was_merged_from() {
    let mut host = Host::new();
    host.data(1, MSS);
    host.read(MSS);
    host.acks();
    host.leave_quickack();
    host.arrive_merged(
        1 + MSS as u32,
        &bytes(1 + MSS, 2 * MSS),
        TcpFlags::default(),
        Some(MSS as u16),
        0,
    );
    assert_eq!(host.acks(), [1 + 3 * MSS as u32]);
}

#[test]
fn a_lone_segment_is_acknowledged_after_40_ms() {
    let mut host = Host::new();
    host.data(1, MSS);
    host.read(MSS);
    host.acks.clear();
    host.leave_quickack();
    host.data(1 + MSS as u32, 100);
    host.pass_ms(39);
    assert_eq!(host.acks(), []);
    host.pass_ms(1);
    assert_eq!(host.acks.len(), 1);
    assert_eq!(host.acks[0].at_us, 40_000);
    assert_eq!(host.count(Counter::TcpExtDelayedACKs), 1);
}

#[test]
fn a_missed_delayed_ack_doubles_the_timeout_up_to_200_ms() {
    let mut host = Host::new();
    host.data(1, MSS);
    host.path.rto = Duration::from_millis(1000);
    let mut seq = 1 + MSS as u32;
    let mut waits = Vec::new();
    for _ in 0..6 {
        host.acks.clear();
        host.leave_quickack();
        let sent = host.now.micros() - 1_000_000;
        host.data(seq, 100);
        seq += 100;
        host.pass_ms(900);
        waits.push((host.acks[0].at_us - sent) / 1000);
    }
    assert_eq!(
        waits,
        [40, 80, 160, 199, 199, 199],
        "at most a tick less than the least RTO"
    );
}

#[test]
fn a_short_round_trip_bounds_the_timeout() {
    let mut host = Host::new();
    host.data(1, MSS);
    host.leave_quickack();
    host.rcv.ato = 200;
    host.path.srtt = Some(Duration::from_millis(60));
    host.acks.clear();
    host.rcv.last_data = host.now.millis() as u32;
    host.pass_ms(150);
    host.data(1 + MSS as u32, 100);
    let sent = host.now.micros() - 1_000_000;
    host.pass_ms(300);
    assert_eq!(host.acks[0].at_us - sent, 60_000);
}

#[test]
fn a_dialogue_delays_acks_until_the_reply() {
    let mut host = Host::new();
    host.data(1, 100);
    host.read(100);
    let now = host.now;
    host.rcv.on_data_sent(now); // The reply: from here on it is a dialogue.
    host.leave();
    host.acks();
    host.pass_ms(10);
    host.data(101, 100);
    host.read(100);
    assert_eq!(host.acks(), [], "quick ACKs are over, the reply will carry it");
    host.pass_ms(100);
    assert_eq!(host.acks(), [201], "it did not come");
    host.data(201, 100);
    assert_eq!(host.acks(), [301], "so the dialogue is over, and quick ACKs are left");
}

#[test]
fn tcp_pingpong_thresh_says_how_many_replies_make_a_dialogue() {
    for (thresh, quick) in [(1, false), (3, true)] {
        let mut host = Host::with(USUAL, |s| s.tcp_pingpong_thresh = thresh);
        host.data(1, 100);
        host.rcv.on_data_sent(host.now);
        assert_eq!(host.rcv.quickack(&host.sysctl), quick);
    }
}

#[test]
fn tcp_quickack_sends_what_is_held_back_and_turns_delay_off_and_on() {
    let mut host = Host::new();
    host.cx(|rcv, cx| rcv.set_quickack(cx, 0, true));
    host.data(1, 100);
    host.read(100);
    assert_eq!(host.acks(), []);
    host.cx(|rcv, cx| rcv.set_quickack(cx, 1, true));
    host.decide();
    assert_eq!(host.acks(), [101]);
    host.data(101, 100);
    assert_eq!(host.acks(), [201]);
}

#[test]
fn reading_a_small_segment_acknowledges_it_outside_a_dialogue() {
    let mut host = Host::new();
    host.data(1, MSS);
    host.read(MSS);
    host.acks();
    host.leave_quickack();
    host.arrive(1 + MSS as u32, 100, TcpFlags::PSH);
    assert_eq!(host.acks(), []);
    host.read(50);
    assert_eq!(host.acks(), [], "not all is read");
    host.read(50);
    assert_eq!(host.acks(), [1 + MSS as u32 + 100]);
}

#[test]
fn a_gap_is_acknowledged_at_once_and_so_is_its_end() {
    let mut host = Host::new();
    host.data(1, MSS);
    host.read(MSS);
    host.acks();
    host.leave_quickack();
    let next = 1 + MSS as u32;
    host.data(next + 1000, 1000);
    assert_eq!(
        host.acks.pop().expect("a duplicate ACK"),
        Ack {
            at_us: 0,
            ack: next,
            window: host.right_edge - next,
            sacks: vec![(next + 1000, next + 2000)],
        }
    );
    host.leave_quickack();
    host.data(next, 1000);
    assert_eq!(host.acks(), [next + 2000]);
}

/// Linux: three duplicate ACKs at once, then one per 5 % of the round trip or `tcp_comp_sack_delay_ns`, and the timer's slack.
#[test]
fn duplicate_acks_are_merged_after_the_third() {
    for (rtt_ms, most_us, slack_us, delay_us) in [(10, 1000, 100, 600), (100, 1000, 100, 1100), (100, 2000, 0, 2000)] {
        let mut host = Host::with(USUAL, |s| {
            s.tcp_comp_sack_delay_ns = most_us * 1000;
            s.tcp_comp_sack_slack_ns = slack_us * 1000;
        });
        host.data(1, MSS);
        host.leave_quickack();
        host.rcv.rcv_rtt = rtt_ms * 8000;
        host.acks.clear();
        let hole = 1 + MSS as u32;
        host.leave_quickack();
        for i in 1..=10 {
            host.data(hole + i * 1000, 1000);
            host.leave_quickack();
            host.pass(Duration::from_micros(10));
        }
        host.pass_ms(20);
        let times: Vec<u64> = host.acks.iter().map(|ack| ack.at_us).collect();
        assert_eq!(times, [0, 10, 20, 30 + delay_us]);
        assert_eq!(host.acks[3].sacks, [(hole + 1000, hole + 11_000)]);
        assert_eq!(host.count(Counter::TcpExtTCPAckCompressed), 6);
    }
}

#[test]
fn tcp_comp_sack_nr_0_turns_merging_off() {
    let mut host = Host::with(USUAL, |s| s.tcp_comp_sack_nr = 0);
    host.data(1, MSS);
    host.rcv.rcv_rtt = 800_000;
    host.acks();
    for i in 1..=10 {
        host.leave_quickack();
        host.data(1 + MSS as u32 + i * 1000, 1000);
    }
    assert_eq!(host.acks().len(), 10);
}

#[test]
fn without_sack_every_duplicate_ack_leaves() {
    let mut host = Host::with(Setup { sack: false, ..USUAL }, |_| {});
    host.data(1, MSS);
    host.acks();
    for i in 1..=10 {
        host.leave_quickack();
        host.data(1 + MSS as u32 + i * 1000, 1000);
    }
    assert_eq!(host.acks.len(), 10);
    assert!(host.acks.iter().all(|ack| ack.sacks.is_empty()));
}

#[test]
fn data_that_leaves_carries_the_ack() {
    let mut host = Host::new();
    host.data(1, MSS);
    host.leave_quickack();
    host.acks();
    host.data(1 + MSS as u32, 100);
    assert!(host.rcv.deadline().is_some());
    host.leave();
    assert_eq!(host.rcv.deadline(), None);
    host.acks();
    host.pass_ms(500);
    assert_eq!(host.acks(), []);
}

#[test]
fn congestion_marks_are_echoed_until_cwr_and_acknowledged_at_once() {
    let mut host = Host::with(Setup { ecn: true, ..USUAL }, |_| {});
    host.data(1, MSS);
    host.leave_quickack();
    host.acks();
    let mut seq = 1 + MSS as u32;
    host.arrive_merged(seq, &bytes(seq as usize, 1000), TcpFlags::default(), None, 3);
    seq += 1000;
    assert!(host.rcv.ece());
    assert_eq!(host.acks(), [seq]);
    host.arrive_merged(seq, &bytes(seq as usize, 1000), TcpFlags::default(), None, 2);
    seq += 1000;
    assert!(host.rcv.ece());
    host.leave_quickack();
    host.acks();
    host.arrive_merged(seq, &bytes(seq as usize, 1000), TcpFlags::CWR, None, 2);
    assert!(!host.rcv.ece());
    assert_eq!(host.acks(), [seq + 1000]);
}

#[test]
fn a_segment_seen_before_is_answered_at_once_with_a_dsack() {
    let mut host = Host::new();
    host.data(1, 1000);
    host.data(1001, 1000);
    host.leave_quickack();
    host.acks.clear();
    let out = host.data(1, 1000);
    assert_eq!(out.drop, Some(DropReason::TcpOldSequence), "all of it was acknowledged");
    assert_eq!(host.acks[0].sacks, [(1, 1001)]);
    assert_eq!(host.count(Counter::TcpExtTCPDSACKOldSent), 1);
    assert_eq!(host.count(Counter::TcpExtDelayedACKLost), 1);

    let mut host = Host::with(USUAL, |s| s.tcp_dsack = 0);
    host.data(1, 1000);
    host.acks.clear();
    host.data(1, 1000);
    assert_eq!(host.acks[0].sacks, []);
}
