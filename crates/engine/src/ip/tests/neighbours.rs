//! Neighbours on Ethernet.

use super::*;
use crate::{SockError, SockOption};
use estab_wire::ethernet::{Frame, MacAddr, ethertype};
use estab_wire::{arp, ndp};

const MAC_A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
const MAC_B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

fn ether(mac: [u8; 6], addrs: &[&str]) -> Node {
    let mut node = Node::new();
    node.iface(Medium::Ethernet(mac), addrs, false);
    node
}

fn two() -> (Node, Node) {
    (
        ether(MAC_A, &["10.0.0.1", "fd00::1"]),
        ether(MAC_B, &["10.0.0.2", "fd00::2"]),
    )
}

fn kind(frame: &[u8]) -> u16 {
    Frame::parse(frame).unwrap().ethertype
}

fn send(node: &mut Node, sock: SocketId, dst: &str) {
    node.udp
        .send(&mut node.env, sock, b"hello", None, Some(at(dst)))
        .unwrap();
}

#[test]
fn packets_wait_for_the_address_and_then_all_go() {
    for (dst, asks) in [("10.0.0.2:53", ethertype::ARP), ("[fd00::2]:53", ethertype::IPV6)] {
        let (mut a, mut b) = two();
        let server = b.bound(dst);
        let client = a.udp(if at(dst).is_ipv4() { Family::V4 } else { Family::V6 });
        (0..3).for_each(|_| send(&mut a, client, dst));
        let first = a.output();
        assert_eq!(first.len(), 1, "one question for three packets");
        assert_eq!(kind(&first[0]), asks);
        first.iter().for_each(|frame| b.input(IF0, frame));
        link(&mut a, &mut b);
        assert_eq!(core::iter::from_fn(|| b.recv(server)).count(), 3);
        // Now it is known.
        send(&mut a, client, dst);
        let out = a.output();
        assert_eq!(Frame::parse(&out[0]).unwrap().dst, MacAddr(MAC_B));
        // And who asked is known to the one asked.
        b.udp
            .send(
                &mut b.env,
                server,
                b"back",
                None,
                Some(at(if at(dst).is_ipv4() { "10.0.0.1:9" } else { "[fd00::1]:9" })),
            )
            .unwrap();
        assert_eq!(Frame::parse(&b.output()[0]).unwrap().dst, MacAddr(MAC_A));
    }
}

#[test]
fn a_neighbour_that_does_not_answer_is_asked_three_times_and_is_unreachable() {
    for dst in ["10.0.0.9:53", "[fd00::9]:53"] {
        let (mut a, _) = two();
        let sock = a.udp(if at(dst).is_ipv4() { Family::V4 } else { Family::V6 });
        a.udp.connect(&mut a.env, sock, at(dst)).unwrap();
        a.udp.send(&mut a.env, sock, b"x", None, None).unwrap();
        for second in 0..3 {
            assert_eq!(a.output().len(), 1, "request at {second} s");
            a.pass(Duration::from_millis(999));
            assert_eq!(a.output().len(), 0);
            a.pass(Duration::from_millis(1));
        }
        assert_eq!(a.output().len(), 0);
        assert_eq!(a.dropped(DropReason::NeighFailed), 1);
        assert_eq!(a.errors.len(), 1);
        assert_eq!(a.errors[0].error, SockError::EHOSTUNREACH);
        assert_eq!(a.errors[0].remote, at(dst));
        // The next packet asks anew.
        a.udp.send(&mut a.env, sock, b"x", None, None).unwrap();
        assert_eq!(a.output().len(), 1);
    }
}

#[test]
fn the_number_and_the_pace_of_questions_are_the_sysctls() {
    let (mut a, _) = two();
    (a.env.sysctl.mcast_solicit, a.env.sysctl.retrans_time_ms) = (5, 100);
    let sock = a.bound("10.0.0.1:1");
    send(&mut a, sock, "10.0.0.9:1");
    let mut asked = a.output().len();
    for _ in 0..10 {
        a.pass(Duration::from_millis(100));
        asked += a.output().len();
    }
    assert_eq!(asked, 5);
}

#[test]
fn what_waits_for_a_neighbour_is_bounded_in_bytes() {
    let (mut a, mut b) = two();
    a.env.sysctl.unres_qlen_bytes = 1000;
    let server = b.bound("10.0.0.2:53");
    let client = a.udp(Family::V4);
    a.udp.set_option(&a.env, client, SockOption::Ttl(9)).unwrap();
    for n in 0..100u8 {
        let data = [n; 172];
        a.udp
            .send(&mut a.env, client, &data, None, Some(at("10.0.0.2:53")))
            .unwrap();
        a.output().iter().for_each(|frame| b.input(IF0, frame));
    }
    link(&mut a, &mut b);
    let got: Vec<u8> = core::iter::from_fn(|| b.recv(server)).map(|got| got.0[0]).collect();
    assert_eq!(got, [95, 96, 97, 98, 99], "the oldest go first");
    assert_eq!(a.dropped(DropReason::NeighQueuefull), 95);
}

/// RFC 4861 §7.3: reachable, stale, delay, probe; an answer confirms, silence ends it.
#[test]
fn a_known_neighbour_is_asked_again_when_it_has_been_silent() {
    let (mut a, mut b) = two();
    let sock = a.bound("10.0.0.1:1");
    let server = b.bound("10.0.0.2:53");
    send(&mut a, sock, "10.0.0.2:53");
    link(&mut a, &mut b);
    // At most 45 s reachable; after that it is used, and asked five seconds later, one to one.
    a.pass(Duration::from_secs(46));
    send(&mut a, sock, "10.0.0.2:53");
    assert_eq!(a.output().len(), 1);
    a.pass(Duration::from_secs(5));
    let out = a.output();
    assert_eq!((out.len(), kind(&out[0])), (1, ethertype::ARP));
    assert_eq!(Frame::parse(&out[0]).unwrap().dst, MacAddr(MAC_B));
    out.iter().for_each(|frame| b.input(IF0, frame));
    b.output().iter().for_each(|frame| a.input(IF0, frame));
    a.pass(Duration::from_secs(10));
    assert_eq!(a.output().len(), 0, "confirmed");
    // Silence: three questions, and it is forgotten.
    a.pass(Duration::from_secs(46));
    send(&mut a, sock, "10.0.0.2:53");
    assert_eq!(a.output().len(), 1);
    a.pass(Duration::from_secs(9));
    assert_eq!(a.output().len(), 3);
    send(&mut a, sock, "10.0.0.2:53");
    let out = a.output();
    assert_eq!(Frame::parse(&out[0]).unwrap().dst, MacAddr::BROADCAST);
    while b.recv(server).is_some() {}
}

#[test]
fn how_long_a_neighbour_is_believed_and_how_often_it_is_asked_are_the_sysctls() {
    let (mut a, mut b) = two();
    a.env.sysctl.base_reachable_time_ms = 1000;
    a.env.sysctl.delay_first_probe_time = 1;
    a.env.sysctl.ucast_solicit = 5;
    let sock = a.bound("10.0.0.1:1");
    send(&mut a, sock, "10.0.0.2:53");
    link(&mut a, &mut b);
    // Believed for at most a second and a half, asked a second after its next use, five times.
    a.pass(Duration::from_millis(1500));
    send(&mut a, sock, "10.0.0.2:53");
    assert_eq!(a.output().len(), 1);
    a.pass(Duration::from_millis(999));
    assert_eq!(a.output().len(), 0);
    a.pass(Duration::from_secs(60));
    assert_eq!(a.output().len(), 5);
}

#[test]
fn stale_neighbours_go_after_gc_stale_time_when_there_are_many() {
    let (mut a, _) = two();
    (a.env.sysctl.gc_thresh1, a.env.sysctl.gc_stale_time) = (4, 20);
    let meet = |a: &mut Node, n: u8| {
        let request = arp::Packet {
            operation: arp::operation::REQUEST,
            sender_mac: MacAddr([2, 0, 0, 0, 1, n]),
            sender_ip: [10, 0, 0, n].into(),
            target_mac: MacAddr::default(),
            target_ip: [10, 0, 0, 1].into(),
        };
        let mut frame = vec![0; 60];
        let at = estab_wire::ethernet::write(&mut frame, MacAddr::BROADCAST, request.sender_mac, ethertype::ARP);
        request.write(&mut frame[at.unwrap()..]).unwrap();
        a.input(IF0, &frame);
    };
    (10..20).for_each(|n| meet(&mut a, n));
    assert_eq!(a.output().len(), 10);
    assert_eq!(a.env.ip.neigh.by_addr.len(), 10);
    a.pass(Duration::from_secs(19));
    assert_eq!(a.env.ip.neigh.by_addr.len(), 10);
    a.pass(Duration::from_secs(1));
    assert_eq!(a.env.ip.neigh.by_addr.len(), 4);
    // And never more than gc_thresh3.
    (a.env.sysctl.gc_thresh2, a.env.sysctl.gc_thresh3) = (8, 8);
    (20..80).for_each(|n| meet(&mut a, n));
    assert_eq!(a.env.ip.neigh.by_addr.len(), 8);
    assert!(a.dropped(DropReason::NeighCreatefail) > 0);
    a.pass(Duration::from_secs(6));
    meet(&mut a, 99);
    assert!(
        a.env.ip.neigh.find(IF0, ip("10.0.0.99")).is_some(),
        "an old entry made room"
    );
}

#[test]
fn arp_announce_chooses_the_asker() {
    for (level, asker) in [(0, "10.9.0.1"), (1, "10.0.0.1"), (2, "10.0.0.1")] {
        let mut node = ether(MAC_A, &["10.9.0.1", "10.0.0.1"]);
        node.env.sysctl.arp_announce = level;
        let sock = node.bound("10.9.0.1:1");
        send(&mut node, sock, "10.0.0.9:1");
        let out = node.output();
        let packet = arp::Packet::parse(Frame::parse(&out[0]).unwrap().payload).unwrap();
        assert_eq!(IpAddr::V4(packet.sender_ip), ip(asker), "arp_announce {level}");
    }
}

#[test]
fn arp_ignore_keeps_addresses_to_their_interface() {
    let mut node = ether(MAC_A, &["10.0.0.1"]);
    node.iface(Medium::Ip, &["10.7.0.1"], false);
    let request = arp::Packet {
        operation: arp::operation::REQUEST,
        sender_mac: MacAddr(MAC_B),
        sender_ip: [10, 0, 0, 2].into(),
        target_mac: MacAddr::default(),
        target_ip: [10, 7, 0, 1].into(),
    };
    let mut frame = vec![0; 42];
    estab_wire::ethernet::write(&mut frame, MacAddr::BROADCAST, MacAddr(MAC_B), ethertype::ARP).unwrap();
    request.write(&mut frame[14..]).unwrap();
    node.input(IF0, &frame);
    assert_eq!(node.output().len(), 1);
    node.env.sysctl.arp_ignore = 1;
    node.input(IF0, &frame);
    assert_eq!(node.output().len(), 0);
}

#[test]
fn an_unasked_reply_teaches_nothing_new() {
    let (mut a, _) = two();
    let reply = arp::Packet {
        operation: arp::operation::REPLY,
        sender_mac: MacAddr([2, 9, 9, 9, 9, 9]),
        sender_ip: [10, 0, 0, 2].into(),
        target_mac: MacAddr(MAC_A),
        target_ip: [10, 0, 0, 1].into(),
    };
    let mut frame = vec![0; 42];
    estab_wire::ethernet::write(&mut frame, MacAddr(MAC_A), MacAddr(MAC_B), ethertype::ARP).unwrap();
    reply.write(&mut frame[14..]).unwrap();
    (0..100).for_each(|_| a.input(IF0, &frame));
    assert_eq!(a.env.ip.neigh.by_addr.len(), 0);
}

#[test]
fn duplicate_address_detection_is_answered_to_all() {
    let (_, mut b) = two();
    let target = "fd00::2".parse().unwrap();
    let message = ndp::Message::NeighborSolicitation { target, source: None };
    let mut frame = vec![0; 14 + 40 + 8 + ndp::MAX_LEN];
    let group = ndp::solicited_node(target);
    let len = message
        .write(&mut frame[54..], (core::net::Ipv6Addr::UNSPECIFIED, group))
        .unwrap();
    let header = wire::ipv6::Header {
        hop_limit: 255,
        ..wire::ipv6::Header::new(core::net::Ipv6Addr::UNSPECIFIED, group, 58)
    };
    header.write(&mut frame[14..], len).unwrap();
    let to = MacAddr::of_multicast(group.into()).unwrap();
    estab_wire::ethernet::write(&mut frame, to, MacAddr(MAC_A), ethertype::IPV6).unwrap();
    frame.truncate(54 + len);
    b.input(IF0, &frame);
    let out = b.output();
    assert_eq!(out.len(), 1);
    let view = parse(Frame::parse(&out[0]).unwrap().payload);
    assert_eq!(
        (view.src, view.dst, view.hop_limit),
        (ip("fd00::2"), ip("ff02::1"), 255)
    );
    // From off the link it is nobody's business.
    frame[14 + 7] = 254;
    b.input(IF0, &frame);
    assert_eq!(b.output().len(), 0);
    assert_eq!(b.dropped(DropReason::Ipv6NdiscHopLimit), 1);
}

#[test]
fn frames_for_others_and_of_other_protocols_are_dropped() {
    let (_, mut b) = two();
    let sock = b.bound("10.0.0.2:53");
    let mut frame = vec![0; 14];
    frame.extend(udp_packet("10.0.0.1:1", "10.0.0.2:53", b"x"));
    estab_wire::ethernet::write(&mut frame, MacAddr(MAC_A), MacAddr(MAC_A), ethertype::IPV4).unwrap();
    b.input(IF0, &frame);
    assert_eq!(b.dropped(DropReason::OtherHost), 1);
    estab_wire::ethernet::write(&mut frame, MacAddr(MAC_B), MacAddr(MAC_A), 0x1234).unwrap();
    b.input(IF0, &frame);
    assert_eq!(b.dropped(DropReason::UnhandledProto), 1);
    estab_wire::ethernet::write(&mut frame, MacAddr(MAC_B), MacAddr(MAC_A), ethertype::IPV4).unwrap();
    b.input(IF0, &frame);
    assert!(b.recv(sock).is_some());
}
