//! What a packet must be to be taken.

use super::*;
use crate::RxCsum;

fn v4() -> Vec<u8> {
    udp_packet("10.0.0.1:1000", "10.0.0.2:53", b"hello")
}

#[test]
fn a_wrong_header_checksum_is_dropped_and_counted() {
    let mut node = Node::host(&["10.0.0.2"]);
    let mut bytes = v4();
    bytes[10] ^= 1;
    node.input(IF0, &bytes);
    assert_eq!(node.dropped(DropReason::IpCsum), 1);
    assert_eq!(node.count(Counter::IpInHdrErrors), 1);
    assert_eq!(node.count(Counter::IpExtInCsumErrors), 1);
    assert_eq!(node.count(Counter::IpInReceives), 1);
    assert_eq!(node.count(Counter::IpInDelivers), 0);
}

#[test]
fn cut_packets_are_dropped_wherever_they_are_cut() {
    for text in [("10.0.0.1:1", "10.0.0.2:53"), ("[fd00::1]:1", "[fd00::2]:53")] {
        let mut node = Node::host(&["10.0.0.2", "fd00::2"]);
        let sock = node.bound(text.1);
        let bytes = udp_packet(text.0, text.1, b"hello");
        for len in 0..bytes.len() {
            node.input(IF0, &bytes[..len]);
        }
        assert_eq!(node.recv(sock), None);
        assert_eq!(node.output(), Vec::<Vec<u8>>::new());
        node.input(IF0, &bytes);
        assert!(node.recv(sock).is_some());
    }
}

#[test]
fn padding_behind_a_packet_is_no_part_of_it() {
    let mut node = Node::host(&["10.0.0.2"]);
    let sock = node.bound("10.0.0.2:53");
    let mut bytes = v4();
    bytes.extend_from_slice(&[0xaa; 20]);
    node.input(IF0, &bytes);
    assert_eq!(node.recv(sock).unwrap().0, b"hello");
}

#[test]
fn martians_are_dropped_by_name() {
    for (src, dst, reason) in [
        ("224.0.0.1:1", "10.0.0.2:53", DropReason::IpInvalidSource),
        ("255.255.255.255:1", "10.0.0.2:53", DropReason::IpInvalidSource),
        ("0.0.0.0:1", "10.0.0.2:53", DropReason::IpInvalidSource),
        ("127.0.0.1:1", "10.0.0.2:53", DropReason::IpLocalnet),
        ("10.0.0.1:1", "127.0.0.1:53", DropReason::IpLocalnet),
        ("10.0.0.2:1", "10.0.0.2:53", DropReason::IpLocalSource),
        ("10.0.0.1:1", "0.0.0.0:53", DropReason::IpInvalidDest),
        ("10.0.0.1:1", "10.0.0.3:53", DropReason::IpInAddrErrors),
        ("[ff02::1]:1", "[fd00::2]:53", DropReason::IpInvalidSource),
        ("[::1]:1", "[fd00::2]:53", DropReason::IpLocalnet),
        ("[::]:1", "[fd00::2]:53", DropReason::IpInvalidSource),
        ("[fd00::1]:1", "[fd00::3]:53", DropReason::IpInAddrErrors),
    ] {
        let mut node = Node::host(&["10.0.0.2", "fd00::2"]);
        let sock = node.bound(if dst.starts_with('[') { "[::]:53" } else { "0.0.0.0:53" });
        node.input(IF0, &udp_packet(src, dst, b"x"));
        assert_eq!(node.dropped(reason), 1, "{src} -> {dst}");
        assert_eq!(node.recv(sock), None, "{src} -> {dst}");
        assert_eq!(node.output().len(), 0, "{src} -> {dst}");
    }
}

#[test]
fn accept_local_takes_packets_with_our_own_source() {
    let mut node = Node::host(&["10.0.0.2"]);
    let sock = node.bound("10.0.0.2:53");
    let bytes = udp_packet("10.0.0.2:1", "10.0.0.2:53", b"x");
    node.input(IF0, &bytes);
    assert_eq!(node.recv(sock), None);
    node.env.sysctl.accept_local = 1;
    node.input(IF0, &bytes);
    assert!(node.recv(sock).is_some());
}

#[test]
fn rp_filter_drops_what_came_the_wrong_way() {
    let mut node = Node::host(&["10.0.0.2"]);
    node.iface(Medium::Ip, &["10.1.0.2"], false);
    let sock = node.bound("0.0.0.0:53");
    let from_other_side = udp_packet("10.1.0.1:1", "10.0.0.2:53", b"x");
    let from_nowhere = udp_packet("10.9.0.1:1", "10.0.0.2:53", b"x");
    for (filter, taken) in [(0, 2), (1, 0), (2, 1)] {
        node.env.sysctl.rp_filter = filter;
        node.input(IF0, &from_other_side);
        node.input(IF0, &from_nowhere);
        let got = core::iter::from_fn(|| node.recv(sock)).count();
        assert_eq!(got, taken, "rp_filter {filter}");
    }
    assert_eq!(node.count(Counter::TcpExtIPReversePathFilter), 3);
    assert_eq!(node.dropped(DropReason::IpRpfilter), 3);
}

#[test]
fn a_wrong_udp_checksum_is_dropped_unless_the_device_vouches_for_it() {
    for (text, counter) in [
        (("10.0.0.1:1", "10.0.0.2:53"), Counter::UdpInCsumErrors),
        (("[fd00::1]:1", "[fd00::2]:53"), Counter::Udp6InCsumErrors),
    ] {
        let mut node = Node::host(&["10.0.0.2", "fd00::2"]);
        let sock = node.bound(text.1);
        let mut bytes = udp_packet(text.0, text.1, b"hello");
        *bytes.last_mut().unwrap() ^= 1;
        node.input(IF0, &bytes);
        assert_eq!(node.recv(sock), None);
        assert_eq!(node.count(counter), 1);
        assert_eq!(node.dropped(DropReason::UdpCsum), 1);
        for csum in [RxCsum::Verified, RxCsum::Partial] {
            let meta = RxMeta { csum, gso_size: None };
            node.input_with(IF0, &bytes, meta);
            assert!(node.recv(sock).is_some(), "{csum:?}");
        }
    }
}

#[test]
fn source_routed_packets_go_nowhere() {
    let mut node = Node::host(&["10.0.0.2"]);
    node.env.sysctl.ip_forward = 1;
    let sock = node.bound("10.0.0.2:53");
    let whole = v4();
    // Loose source route with one hop left.
    let options = [131, 7, 4, 10, 0, 0, 9, 0];
    let mut bytes = whole[..20].to_vec();
    bytes.extend_from_slice(&options);
    bytes.extend_from_slice(&whole[20..]);
    bytes[0] = 0x47;
    let total = (bytes.len() as u16).to_be_bytes();
    bytes[2..4].copy_from_slice(&total);
    bytes[10..12].fill(0);
    let sum = estab_wire::checksum::checksum(&bytes[..28]).to_be_bytes();
    bytes[10..12].copy_from_slice(&sum);
    node.input(IF0, &bytes);
    assert_eq!(node.recv(sock), None);
    assert_eq!(node.dropped(DropReason::IpInHdr), 1);
}

#[test]
fn the_ecn_bits_of_packets_are_counted() {
    let mut node = Node::host(&["10.0.0.2"]);
    for (ecn, counter) in [
        (0, Counter::IpExtInNoECTPkts),
        (1, Counter::IpExtInECT1Pkts),
        (2, Counter::IpExtInECT0Pkts),
        (3, Counter::IpExtInCEPkts),
    ] {
        let header = wire::ipv4::Header {
            tos: ecn,
            ..wire::ipv4::Header::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 6)
        };
        let mut bytes = vec![0; 20];
        header.write(&mut bytes, 0).unwrap();
        node.input(IF0, &bytes);
        assert_eq!(node.count(counter), 1, "{ecn}");
    }
    assert_eq!(node.tcp, 4);
}

#[test]
fn tcp_to_a_group_is_nobodys() {
    let mut node = Node::host(&["10.0.0.2"]);
    for dst in ["224.0.0.1", "10.0.0.255", "255.255.255.255"] {
        node.input(IF0, &packet(ip("10.0.0.1"), ip(dst), 6, &[0; 20]));
    }
    assert_eq!((node.tcp, node.output().len()), (0, 0));
    assert_eq!(node.dropped(DropReason::Multicast), 3);
    assert_eq!(node.count(Counter::IpExtInBcastPkts), 2);
}

/// Anything at all may come: nothing panics, and nothing stays behind but what the bounds allow.
#[test]
fn random_and_nearly_right_bytes_do_no_harm() {
    let mut node = Node::transparent(&["10.0.0.2", "fd00::2"]);
    let ether = node.iface(Medium::Ethernet([2, 0, 0, 0, 0, 1]), &["10.1.0.2", "fd01::2"], true);
    node.bound("0.0.0.0:53");
    node.env.sysctl.ip_forward = 1;
    node.env.sysctl.ipv6_forwarding = 1;
    let mut rng = crate::rng::Rng::new([4; 32]);
    let mut seeds = vec![
        v4(),
        udp_packet("[fd00::1]:1", "[fd00::2]:53", &[7; 100]),
        ping("10.0.0.1", "10.0.0.2", &[1; 64]),
        ping("fd00::1", "fd00::2", &[1; 64]),
    ];
    let mut big = Node::host(&["10.0.0.1", "fd00::1"]);
    for dst in ["10.0.0.2:53", "[fd00::2]:53"] {
        let sock = big.udp(if at(dst).is_ipv4() { Family::V4 } else { Family::V6 });
        big.udp
            .send(&mut big.env, sock, &[3; 4000], None, Some(at(dst)))
            .unwrap();
    }
    seeds.extend(big.output());
    for round in 0..40_000u32 {
        let mut bytes = match round % 4 {
            0 => (0..rng.below(120)).map(|_| rng.u32() as u8).collect(),
            _ => seeds[rng.below(seeds.len() as u32) as usize].clone(),
        };
        for _ in 0..rng.below(4) {
            let len = bytes.len() as u32;
            if let Some(byte) = bytes.get_mut(rng.below(len) as usize) {
                *byte = rng.u32() as u8;
            }
        }
        // A right header checksum lets the damage through to what comes next.
        if bytes.len() >= 20 && bytes[0] == 0x45 && round % 2 == 0 {
            bytes[10..12].fill(0);
            let sum = estab_wire::checksum::checksum(&bytes[..20]).to_be_bytes();
            bytes[10..12].copy_from_slice(&sum);
        }
        bytes.truncate(bytes.len() - rng.below(3).min(bytes.len() as u32) as usize);
        if round % 5 == 0 {
            let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9];
            let kind = [[8, 0], [8, 6], [0x86, 0xdd]][rng.below(3) as usize];
            frame.extend_from_slice(&kind);
            frame.extend_from_slice(&bytes);
            node.input(ether, &frame);
        } else {
            node.input(IF0, &bytes);
        }
        if round % 16 == 0 {
            node.output();
            node.pass(Duration::from_millis(rng.below(300).into()));
        }
    }
    node.output();
    node.pass(Duration::from_secs(200));
    node.output();
    assert!(node.env.ip.memory() < 1 << 20, "{} bytes stay", node.env.ip.memory());
}
