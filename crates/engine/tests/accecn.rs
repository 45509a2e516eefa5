//! Accurate ECN (RFC 9768) as a peer sees it. Expectations are those of Linux's own scripts (tcp_accecn_*.pkt, written for
//! 7.0) where there is one.

mod common;

use common::script::Script;
use estab_engine::proto::TcpInfo;
use estab_engine::*;

const SYN: &str = "<mss 1460,sackOK,nop,wscale 8>";
/// What the peer's first option says.
const START: &str = "<ECN e0b 1 ceb 0 e1b 1,nop>";

/// A stack with `tcp_ecn` 3 and no timestamps, as the scripts have it.
fn script(knobs: &[(&str, &str)]) -> Script {
    script_on(common::wire(), knobs)
}

fn script_on(config: IfaceConfig, knobs: &[(&str, &str)]) -> Script {
    let mut s = Script::with(config);
    s.host.sysctl("net.ipv4.tcp_timestamps", "0");
    s.host.sysctl("net.ipv4.tcp_ecn", "3");
    s.host.sysctl("net.ipv4.tcp_congestion_control", "reno");
    for (name, value) in knobs {
        s.host.sysctl(name, value);
    }
    s
}

/// A connection that the peer opened, past its handshake without a mark.
fn accepted(knobs: &[(&str, &str)]) -> (Script, SocketId) {
    accepted_by(script(knobs))
}

fn accepted_by(mut s: Script) -> (Script, SocketId) {
    let listener = s.listen(16);
    s.inject(&format!("SEWA 0:0(0) win 32792 {SYN}"));
    s.expect("[noecn] S.W 0:0(0) ack 1");
    s.inject(&format!("[ect0] W. 1:1(0) ack 1 win 264 {START}"));
    let (id, _) = s.sock(listener).accept().unwrap();
    (s, id)
}

/// A connection that we opened.
fn connected(knobs: &[(&str, &str)]) -> (Script, SocketId) {
    let mut s = script(knobs);
    let id = s.connect();
    s.expect("[noecn] SEWA 0:0(0)");
    s.run_ms(50);
    s.inject("SW. 0:0(0) ack 1 win 32767 <mss 1460,ECN e0b 1 ceb 0 e1b 1,sackOK,nop,wscale 8>");
    s.expect("[ect0] .W 1:1(0) ack 1 <ECN e1b 1 ceb 0 e0b 1,nop>");
    (s, id)
}

fn write(s: &mut Script, id: SocketId, bytes: usize) {
    let data = vec![7; bytes];
    assert_eq!(s.sock(id).send(&data, SendFlags::default()).unwrap(), bytes);
    s.drain();
}

fn info(s: &mut Script, id: SocketId) -> TcpInfo {
    s.sock(id).info().unwrap()
}

/// RFC 9768, table 2, as a server: what each SYN gets at each setting.
#[test]
fn a_syn_is_granted_the_best_that_both_know() {
    for (tcp_ecn, syn, synack) in [
        ("0", "SEWA", "S."),
        ("0", "SEW", "S."),
        ("1", "SEW", "S.E"),
        ("1", "SEWA", "S.E"), // Who knows RFC 3168 only does not look at AE.
        ("2", "SEWA", "S.E"),
        ("2", "SA", "S."),
        ("3", "S", "S."),
        ("3", "SEW", "S.E"),
        ("3", "SEWA", "S.W"),
        ("4", "SEWA", "S.W"),
        ("5", "SEWA", "S.W"),
        // Combinations to come are taken for Accurate ECN.
        ("3", "SE", "S.W"),
        ("3", "SA", "S.W"),
        ("3", "SWA", "S.W"),
    ] {
        let mut s = script(&[("net.ipv4.tcp_ecn", tcp_ecn)]);
        s.listen(16);
        s.inject(&format!("{syn} 0:0(0) win 32792 {SYN}"));
        let found = s.next("").1;
        assert_eq!(found, format!("{synack} 0:0(0) ack 1"), "{syn} at tcp_ecn {tcp_ecn}");
    }
}

/// The same as a client: what our SYN asks for, and what each SYN-ACK makes of it: the bits of the third ACK, and whether the
/// first data is ECT.
#[test]
fn a_syn_ack_settles_what_we_asked_for() {
    for (tcp_ecn, syn, synack, third, data) in [
        ("0", "S", "S.", ".", "[noecn] P."),
        ("1", "SEW", "S.E", ".", "[ect0] P."),
        ("2", "S", "S.E", ".", "[noecn] P."),
        ("3", "SEWA", "S.", ".", "[noecn] P."),
        ("3", "SEWA", "SEWA.", ".", "[noecn] P."),
        ("3", "SEWA", "SE.", ".", "[ect0] P."),
        ("3", "SEWA", "SW.", ".W", "[ect0] P.EA"),
        ("3", "SEWA", "SEA.", ".W", "[ect0] P.EA"),
        ("3", "SEWA", "SWA.", ".W", "[ect0] P.EA"),
        ("4", "SEW", "SE.", ".", "[ect0] P."),
        ("5", "S", "S.", ".", "[noecn] P."),
    ] {
        let mut s = script(&[("net.ipv4.tcp_ecn", tcp_ecn)]);
        let id = s.connect();
        s.expect(&format!("{syn} 0:0(0)"));
        s.inject(&format!(
            "{synack} 0:0(0) ack 1 win 32767 <mss 1460,sackOK,nop,wscale 8>"
        ));
        let case = format!("{synack} for {syn}");
        assert_eq!(s.next("").1, format!("{third} 1:1(0) ack 1"), "{case}");
        write(&mut s, id, 100);
        assert_eq!(s.next("[").1, format!("{data} 1:101(100) ack 1"), "{case}");
    }
}

#[test]
fn the_codepoint_of_a_syn_and_of_a_syn_ack_is_told_back() {
    for (codepoint, bits) in [("noecn", "W"), ("ect1", "EW"), ("ect0", "A"), ("ce", "WA")] {
        let mut s = script(&[]);
        s.listen(16);
        s.inject(&format!("[{codepoint}] SEWA 0:0(0) win 32792 {SYN}"));
        s.expect(&format!(
            "S.{bits} 0:0(0) ack 1 <mss 1460,ECN e1b 1 ceb 0 e0b 1,nop,nop,nop,sackOK,nop,wscale 10>"
        ));
        let mut s = script(&[]);
        let id = s.connect();
        s.expect("SEWA 0:0(0)");
        s.inject(&format!(
            "[{codepoint}] SW. 0:0(0) ack 1 win 32767 <mss 1460,ECN e0b 1 ceb 0 e1b 1,sackOK,nop,wscale 8>"
        ));
        s.expect(&format!("[ect0] .{bits} 1:1(0) ack 1 <ECN e1b 1 ceb 0 e0b 1,nop>"));
        write(&mut s, id, 100);
        let count = if codepoint == "ce" { "WA" } else { "EA" };
        s.expect(&format!("[ect0] P.{count} 1:101(100) ack 1"));
        assert_eq!(info(&mut s, id).received_ce, u32::from(codepoint == "ce"));
        // Again, with another codepoint: the answer tells of the last.
        s.inject("[ect0] S. 0:0(0) ack 1 win 32767 <mss 1460,sackOK,nop,wscale 8>");
        s.expect("[ect0] .A 101:101(0) ack 1");
    }
}

#[test]
fn accurate_ecn_is_asked_for_twice_and_may_be_granted_later() {
    for (fallback, third) in [("1", "S 0:0(0)"), ("0", "SEWA 0:0(0)")] {
        let mut s = script(&[("net.ipv4.tcp_ecn_fallback", fallback)]);
        s.connect();
        s.expect_at(0, "SEWA 0:0(0)");
        s.expect_at(1000, "SEWA 0:0(0)");
        s.expect_at(2000, third);
        s.inject("SW. 0:0(0) ack 1 win 32767 <mss 1016,ECN e0b 1 ceb 0 e1b 1,sackOK,nop,wscale 8>");
        s.expect("[ect0] .W 1:1(0) ack 1 <ECN e1b 1 ceb 0 e0b 1,nop>");
    }
}

#[test]
fn a_repeated_syn_ack_leaves_out_the_option_and_then_ecn() {
    let mut s = script(&[]);
    let listener = s.listen(16);
    s.inject(&format!("SEWA 0:0(0) win 32792 {SYN}"));
    s.expect_at(
        0,
        "S.W 0:0(0) ack 1 <mss 1460,ECN e1b 1 ceb 0 e0b 1,nop,nop,nop,sackOK,nop,wscale 10>",
    );
    s.expect_at(1000, "S.W 0:0(0) ack 1 <mss 1460,nop,nop,sackOK,nop,wscale 10>");
    s.expect_at(3000, "S. 0:0(0) ack 1 <mss 1460,nop,nop,sackOK,nop,wscale 10>");
    s.expect_at(7000, "S. 0:0(0) ack 1");
    s.inject(&format!("W. 1:1(0) ack 1 win 320 {START}"));
    let (id, _) = s.sock(listener).accept().unwrap();
    write(&mut s, id, 100);
    s.expect("[ect0] P.EA 1:101(100) ack 1 <ECN e1b 1 ceb 0 e0b 1,nop>");
}

/// Somebody on the way zeroes the bits: our packets go without ECT, since their marks might not come back.
#[test]
fn a_peer_whose_bits_vanish_gets_no_ect() {
    // A SYN came again without them.
    let mut s = script(&[]);
    let listener = s.listen(16);
    s.inject(&format!("[ect0] SEWA 0:0(0) win 32792 {SYN}"));
    s.expect("[noecn] S.A 0:0(0) ack 1");
    s.run_ms(100);
    s.inject(&format!("S 0:0(0) win 32792 {SYN}"));
    s.expect("[noecn] S.W 0:0(0) ack 1 <mss 1460,nop,nop,sackOK,nop,wscale 10>");
    s.inject(&format!("W. 1:1(0) ack 1 win 320 {START}"));
    let (id, _) = s.sock(listener).accept().unwrap();
    write(&mut s, id, 100);
    s.expect("[noecn] P.EA 1:101(100) ack 1 <ECN e1b 1 ceb 0 e0b 1,nop>");
    // The third ACK has none.
    let mut s = script(&[]);
    let listener = s.listen(16);
    s.inject(&format!("SEWA 0:0(0) win 32792 {SYN}"));
    s.expect("S.W 0:0(0) ack 1");
    s.inject(&format!("[ect0] . 1:1(0) ack 1 win 320 {START}"));
    let (id, _) = s.sock(listener).accept().unwrap();
    write(&mut s, id, 1000);
    s.expect("[noecn] P.EA 1:1001(1000) ack 1 <ECN e1b 1 ceb 0 e0b 1,nop>");
    s.inject("[ect0] EAP. 1:1(0) ack 1001 win 320");
    assert_eq!(info(&mut s, id).delivered_ce, 0);
    // The third ACK tells of a codepoint that our SYN-ACK did not have.
    for (fallback, marked, ect) in [("1", 0, "noecn"), ("0", 1, "ect0")] {
        let mut s = script(&[("net.ipv4.tcp_ecn_fallback", fallback)]);
        let listener = s.listen(16);
        s.inject(&format!("SEWA 0:0(0) win 32767 {SYN}"));
        s.expect("S.W 0:0(0) ack 1");
        s.inject(&format!("[ect0] WA. 1:1(0) ack 1 win 264 {START}"));
        let (id, _) = s.sock(listener).accept().unwrap();
        assert_eq!(info(&mut s, id).delivered_ce, marked);
        write(&mut s, id, 100);
        s.expect(&format!("[{ect}] P.EA 1:101(100) ack 1"));
    }
}

#[test]
fn what_came_is_told_in_both_fields() {
    let (mut s, id) = accepted(&[]);
    for (i, (codepoint, answer)) in [
        ("ce", ".WA 1:1(0) ack 1001 <ECN e1b 1 ceb 1000 e0b 1,nop>"),
        ("ect0", ".WA 1:1(0) ack 2001 <ECN e1b 1 ceb 1000 e0b 1001,nop>"),
        ("ce", ".EWA 1:1(0) ack 3001 <ECN e1b 1 ceb 2000 e0b 1001,nop>"),
        ("ect1", ".EWA 1:1(0) ack 4001 <ECN e1b 1001 ceb 2000 e0b 1001,nop>"),
        ("ce", ". 1:1(0) ack 5001 <ECN e1b 1001 ceb 3000 e0b 1001,nop>"),
    ]
    .into_iter()
    .enumerate()
    {
        let seq = 1 + 1000 * i;
        s.inject(&format!(
            "[{codepoint}] EAP. {seq}:{}(1000) ack 1 win 257 {START}",
            seq + 1000
        ));
        s.expect(&format!("[ect0] {answer}"));
    }
    let info = info(&mut s, id);
    let bytes = [info.received_e1_bytes, info.received_e0_bytes, info.received_ce_bytes];
    assert_eq!((info.received_ce, bytes), (3, [1000, 1000, 3000]));
    assert_eq!(info.options & 24, 24, "TCPI_OPT_ECN, TCPI_OPT_ECN_SEEN");
}

/// The third ACK may be marked, or lost: then the first data counts in its stead.
#[test]
fn the_third_ack_counts_and_so_does_data_without_one() {
    let mut s = script(&[]);
    let listener = s.listen(16);
    s.inject(&format!("SEWA 0:0(0) win 32767 {SYN}"));
    s.expect("S.W 0:0(0) ack 1");
    s.inject(&format!("[ce] W. 1:1(0) ack 1 win 264 {START}"));
    let (id, _) = s.sock(listener).accept().unwrap();
    write(&mut s, id, 1000);
    s.expect("[ect0] P.WA 1:1001(1000) ack 1 <ECN e1b 1 ceb 0 e0b 1,nop>");
    let mut s = script(&[]);
    s.listen(16);
    s.inject(&format!("SEWA 0:0(0) win 32767 {SYN}"));
    s.expect("S.W 0:0(0) ack 1");
    s.inject(&format!("[ce] EAP. 1001:2001(1000) ack 1 win 264 {START}"));
    s.expect("[ect0] .WA 1:1(0) ack 1 <ECN e1b 1 ceb 1000 e0b 1,nop,nop,nop,sack 1001:2001>");
    s.inject(&format!("[ce] EAP. 1:1001(1000) ack 1 win 264 {START}"));
    s.expect("[ect0] .EWA 1:1(0) ack 2001 <ECN e1b 1 ceb 2000 e0b 1,nop>");
}

#[test]
fn who_has_closed_its_half_still_tells_of_marks() {
    let (mut s, id) = connected(&[]);
    s.sock(id).shutdown(Shutdown::Write).unwrap();
    s.drain();
    s.expect("[ect0] F.EA 1:1(0) ack 1");
    s.inject("[ect0] EA. 1:1(0) ack 2 win 264");
    s.inject("[ce] EAP. 1:1001(1000) ack 2 win 264");
    s.expect("[ect0] .WA 2:2(0) ack 1001 <ECN e1b 1 ceb 1000 e0b 1,nop>");
}

/// `tcp_ecn_option`: 0 never; 1 on change, and as a beacon `tcp_ecn_option_beacon` times per round trip.
#[test]
fn the_option_is_sent_as_often_as_the_sysctls_say() {
    let (mut s, _) = connected(&[]);
    s.host.sysctl("net.ipv4.tcp_ecn_option", "0");
    s.inject("[ect0] EAP. 1:1001(1000) ack 1 win 264");
    s.expect("[ect0] .EA 1:1(0) ack 1001");
    for (beacon, due) in [("3", true), ("0", false)] {
        // A round trip of 50 ms.
        let (mut s, _) = connected(&[
            ("net.ipv4.tcp_ecn_option", "1"),
            ("net.ipv4.tcp_ecn_option_beacon", beacon),
        ]);
        s.run_ms(5);
        s.inject(".EA 1:1001(1000) ack 1 win 264");
        s.expect(".EA 1:1(0) ack 1001 <ECN e1b 1 ceb 0 e0b 1,nop>");
        s.inject(".EA 1001:2001(1000) ack 1 win 264");
        assert!(!s.next("<").1.contains("ECN"), "two told of the handshake");
        s.run_ms(16);
        s.inject(".EA 2001:3001(1000) ack 1 win 264");
        assert!(!s.next("<").1.contains("ECN"), "16 ms after the last");
        s.run_ms(1);
        s.inject(".EA 3001:4001(1000) ack 1 win 264");
        assert_eq!(
            s.next("<").1.contains("ECN"),
            due,
            "17 ms after the last, with a beacon of {beacon}"
        );
        s.inject("[ce] .EA 4001:5001(1000) ack 1 win 264");
        s.expect("[ect0] .WA 1:1(0) ack 5001 <ECN e1b 1 ceb 1000 e0b 1,nop>");
    }
}

#[test]
fn a_peer_without_option_gets_none_until_it_sends_one() {
    let mut s = script(&[]);
    let id = s.connect();
    s.expect("SEWA 0:0(0)");
    s.inject("SW. 0:0(0) ack 1 win 32767 <mss 1460,sackOK,nop,wscale 8>");
    assert_eq!(s.next("<").1, ".W 1:1(0) ack 1");
    write(&mut s, id, 1000);
    assert_eq!(s.next("<").1, "P.EA 1:1001(1000) ack 1");
    s.inject("[ect0] EAP. 1:1(0) ack 1001 win 256 <ECN e0b 1001 ceb 0 e1b 1,nop>");
    write(&mut s, id, 1000);
    s.expect("P.EA 1001:2001(1000) ack 1 <ECN e1b 1 ceb 0 e0b 1,nop>");
}

#[test]
fn sack_blocks_beyond_the_second_give_way_to_the_option() {
    let mut s = script(&[]);
    s.host.sysctl("net.ipv4.tcp_timestamps", "2");
    s.listen(16);
    s.inject("SEWA 0:0(0) win 32792 <mss 1050,sackOK,TS val 1 ecr 0,nop,wscale 8>");
    s.expect("S.W 0:0(0) ack 1 <mss 1460,sackOK,TS val 1000 ecr 1,ECN e1b 1 ceb 0 e0b 1,nop,nop,wscale 10>");
    let ts = |val: u32| format!("nop,nop,TS val {val} ecr 1000");
    s.inject(&format!(
        "[ect0] W. 1:1(0) ack 1 win 264 <{},ECN e0b 1 ceb 0 e1b 1,nop>",
        ts(2)
    ));
    let echo = "nop,nop,TS val 1000 ecr 2";
    for (codepoint, seq, answer) in [
        ("ect1", 1001, "ECN e1b 1001 ceb 0 e0b 1,nop,nop,nop,sack 1001:2001>"),
        ("ect1", 3001, "ECN e1b 2001 ceb 0,nop,nop,sack 3001:4001 1001:2001>"),
        ("ce", 5001, "ECN e1b 2001 ceb 1000,nop,nop,sack 5001:6001 3001:4001>"),
        // Three counters and two blocks are too much: the blocks win.
        ("ect0", 6001, "nop,nop,sack 5001:7001 3001:4001 1001:2001>"),
    ] {
        s.inject(&format!(
            "[{codepoint}] EAP. {seq}:{}(1000) ack 1 win 264 <{}>",
            seq + 1000,
            ts(3)
        ));
        let found = s.next("<").1;
        let options = found.split_once('<').expect("options").1;
        assert_eq!(options, format!("{echo},{answer}"), "after {seq}");
    }
}

#[test]
fn an_option_that_seems_to_be_dropped_is_sent_no_more() {
    for (option, again) in [("2", false), ("3", true)] {
        let (mut s, _) = accepted(&[("net.ipv4.tcp_ecn_option", option)]);
        for answer in [true, true, again] {
            s.inject(&format!("[ect0] EAP. 1:1001(1000) ack 1 win 257 {START}"));
            assert_eq!(s.next("<").1.contains("ECN"), answer, "tcp_ecn_option {option}");
        }
        s.inject(&format!("[ect0] EAP. 1001:2001(1000) ack 1 win 257 {START}"));
        assert_eq!(s.next("<").1.contains("ECN"), again, "later, tcp_ecn_option {option}");
    }
}

/// Marks of ours, one after the other until the field of 3 bits has wrapped.
#[test]
fn delivered_marks_are_counted_past_eight() {
    let (mut s, id) = accepted(&[]);
    for n in 1..=20u32 {
        write(&mut s, id, 1000);
        s.skip();
        let ace = ["", "E", "W", "EW", "A", "EA", "WA", "EWA"][((5 + n) % 8) as usize];
        s.inject(&format!(
            "[ect0] {ace}. 1:1(0) ack {} win 264 <ECN e0b 1 ceb {} e1b 1,nop>",
            1 + 1000 * n,
            1000 * n
        ));
        let info = info(&mut s, id);
        assert_eq!((info.delivered_ce, info.delivered_ce_bytes), (n, 1000 * n));
    }
}

/// What one ACK of ten segments says, without option and with.
#[test]
fn a_large_ack_is_read_for_the_worst_unless_the_option_rules_it_out() {
    for (first, second, marked) in [
        // One ACK of all: large ACKs are usual here, so the small number it is.
        (None, "EA. 1:1(0) ack 14601 win 264", 0),
        (None, "WA. 1:1(0) ack 14601 win 264", 1),
        (None, "A. 1:1(0) ack 14601 win 264", 7),
        // After an ACK of one, an ACK of nine may hide that the field wrapped.
        (Some("EA. 1:1(0) ack 1461 win 264"), "EA. 1:1(0) ack 14601 win 264", 8),
        (
            Some("EA. 1:1(0) ack 1461 win 264 <ECN e0b 1461 ceb 0 e1b 1>"),
            "EA. 1:1(0) ack 14601 win 264 <ECN e0b 14601 ceb 0 e1b 1>",
            0,
        ),
        (
            Some("EA. 1:1(0) ack 1461 win 264 <ECN e0b 1461 ceb 0 e1b 1>"),
            "EA. 1:1(0) ack 14601 win 264 <ECN e0b 2921 ceb 11680 e1b 1>",
            8,
        ),
    ] {
        let (mut s, id) = accepted(&[("net.ipv4.tcp_ecn_option", "0")]);
        write(&mut s, id, 14600);
        s.skip();
        if let Some(first) = first {
            s.inject(&format!("[ect0] {first}"));
        }
        s.inject(&format!("[ect0] {second}"));
        assert_eq!(info(&mut s, id).delivered_ce, marked, "{first:?} {second}");
    }
}

#[test]
fn an_ack_that_brings_nothing_new_says_nothing_of_marks() {
    let (mut s, id) = accepted(&[]);
    write(&mut s, id, 1000);
    s.inject("[ect0] WA. 1:1(0) ack 1 win 264 <ECN e0b 1 ceb 1000 e1b 1,nop>");
    let now = info(&mut s, id);
    assert_eq!((now.delivered_ce, now.delivered_ce_bytes), (0, 0));
    // Unless a timestamp proves that it is the newest.
    for (val, marked) in [(2, 0), (3, 1)] {
        let mut s = script(&[]);
        s.host.sysctl("net.ipv4.tcp_timestamps", "2");
        let listener = s.listen(16);
        s.inject("SEWA 0:0(0) win 32792 <mss 1050,sackOK,TS val 1 ecr 0,nop,wscale 8>");
        s.skip();
        s.inject("[ect0] W. 1:1(0) ack 1 win 264 <nop,nop,TS val 2 ecr 1000>");
        let (id, _) = s.sock(listener).accept().unwrap();
        write(&mut s, id, 1000);
        s.inject(&format!(
            "[ect0] WA. 1:1(0) ack 1 win 264 <nop,nop,TS val {val} ecr 1000>"
        ));
        assert_eq!(info(&mut s, id).delivered_ce, marked, "TSval {val}");
    }
}

/// Congestion control hears of marks as of RFC 3168's echoes: one reduction a round trip, and no CWR in answer.
#[test]
fn marks_reduce_the_window_once_a_round_trip() {
    let (mut s, id) = connected(&[]);
    write(&mut s, id, 14480);
    s.skip();
    s.inject("[ect0] WA. 1:1(0) ack 1449 win 264 <ECN e1b 1 ceb 1448 e0b 1,nop>");
    let now = info(&mut s, id);
    assert_eq!((now.ca_state, now.snd_ssthresh, now.delivered_ce), (2, 5, 1), "in CWR");
    s.inject("[ect0] EWA. 1:1(0) ack 2897 win 264 <ECN e1b 1 ceb 2896 e0b 1,nop>");
    let now = info(&mut s, id);
    assert_eq!(
        (now.ca_state, now.snd_ssthresh, now.delivered_ce),
        (2, 5, 2),
        "the same round"
    );
    s.inject("[ect0] EWA. 1:1(0) ack 14481 win 264 <ECN e1b 1 ceb 2896 e0b 11585,nop>");
    write(&mut s, id, 1448);
    let sent = s.next("").1;
    assert_eq!(sent.split(' ').next(), Some("P.EA"), "no CWR: the bits are the count");
    s.inject("[ect0] . 1:1(0) ack 15929 win 264 <ECN e1b 1 ceb 4344 e0b 11585,nop>");
    let now = info(&mut s, id);
    assert_eq!((now.ca_state, now.delivered_ce), (2, 3));
    assert!(now.snd_ssthresh < 5, "another round, another reduction");
}

/// A device that cuts up a super-packet keeps CWR for the first piece only, as RFC 3168 has it.
#[test]
fn no_super_packet_leaves_while_cwr_is_part_of_the_count() {
    for (marks, bits, packets) in [(0, "EA", 2), (1, "WA", 10), (3, "", 2), (5, "W", 10)] {
        let cuts = IfaceConfig {
            gso_max_size: 65_536,
            ..common::wire()
        };
        let (mut s, id) = accepted_by(script_on(cuts, &[("net.ipv4.tcp_ecn_option", "0")]));
        for n in 0..marks {
            s.inject(&format!(
                "[ce] EA. {}:{}(100) ack 1 win 264",
                1 + 100 * n,
                101 + 100 * n
            ));
        }
        s.run_ms(100);
        while s.peek("") != "nothing" {}
        write(&mut s, id, 14600);
        assert_eq!(s.pending(), packets, "after {marks} marks");
        for _ in 0..packets {
            let found = s.next("").1;
            let flags = found
                .split(' ')
                .next()
                .unwrap()
                .trim_start_matches('P')
                .trim_start_matches('.');
            assert_eq!(flags, bits, "each tells the count");
        }
    }
}

/// What a cookie cannot keep, the third ACK's bits tell (RFC 9768 §5.1).
#[test]
fn a_cookie_finds_accurate_ecn_again_by_the_third_ack() {
    for (bits, data) in [("W.", "[ect0] P.EA"), (".", "[ect0] P.")] {
        let mut s = script(&[("net.ipv4.tcp_syncookies", "2"), ("net.ipv4.tcp_timestamps", "2")]);
        s.now = Instant::from_millis(5000);
        let listener = s.listen(16);
        s.inject("SEWA 0:0(0) win 32792 <mss 1460,sackOK,TS val 1 ecr 0,nop,wscale 7>");
        let (_, synack) = s.next("<");
        assert!(
            synack.starts_with("S.W 0:0(0) ack 1") && synack.contains("ECN e1b 1"),
            "{synack}"
        );
        let ts = synack.split("TS val ").nth(1).unwrap().split(' ').next().unwrap();
        s.inject(&format!("{bits} 1:1(0) ack 1 win 320 <nop,nop,TS val 2 ecr {ts}>"));
        let (id, _) = s.sock(listener).accept().unwrap();
        write(&mut s, id, 100);
        s.expect(&format!("{data} 1:101(100) ack 1"));
    }
}

#[test]
fn crossing_syns_settle_it_too() {
    for (syn, synack, data) in [("SEWA", "S.W", "P.EA"), ("SEW", "S.E", "P."), ("S", "S.", "P.")] {
        let mut s = script(&[]);
        let id = s.connect();
        s.expect("SEWA 0:0(0)");
        s.inject(&format!("{syn} 0:0(0) win 5792 {SYN}"));
        s.expect(&format!("{synack} 0:0(0) ack 1"));
        s.inject(&format!(
            "{} 0:0(0) ack 1 win 5792 {SYN}",
            synack.replace('.', "") + "."
        ));
        let answer = data.trim_start_matches('P');
        s.expect(&format!("{answer} 1:1(0) ack 1"));
        write(&mut s, id, 100);
        s.expect(&format!("{data} 1:101(100) ack 1"));
        assert_eq!(info(&mut s, id).delivered_ce, 0, "{syn}");
    }
}

#[test]
fn fast_open_carries_it() {
    let mut s = script(&[("net.ipv4.tcp_fastopen", "0x203"), ("net.ipv4.tcp_timestamps", "2")]);
    let listener = s.socket();
    let local = s.local;
    s.sock(listener).set_option(SockOption::FastOpen(16)).unwrap();
    s.sock(listener).bind(local).unwrap();
    s.sock(listener).listen(16).unwrap();
    s.inject("SEWA 0:1000(1000) win 32792 <mss 1460,sackOK,TS val 1 ecr 0,nop,wscale 8>");
    s.expect("S.W 0:0(0) ack 1001");
    let (id, _) = s.sock(listener).accept().unwrap();
    write(&mut s, id, 100);
    s.expect("[ect0] P.EA 1:101(100) ack 1001");
    s.inject("[ce] W. 1001:1001(0) ack 101 win 264 <nop,nop,TS val 2 ecr 1000,ECN e0b 1 ceb 0 e1b 1,nop>");
    write(&mut s, id, 100);
    s.expect("[ect0] P.WA 101:201(100) ack 1001");
    assert_eq!(info(&mut s, id).delivered_ce, 0, "the third ACK's bits are no count");
}
