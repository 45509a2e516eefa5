//! Datagrams in pieces.

use super::*;
use crate::{IfaceConfig, SockOption};

const PAIRS: [(&str, &str); 2] = [("10.0.0.1:1000", "10.0.0.2:53"), ("[fd00::1]:1000", "[fd00::2]:53")];

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 256) as u8).collect()
}

/// The fragments of a datagram as our own stack cuts it.
fn pieces(src: &str, dst: &str, data: &[u8]) -> Vec<Vec<u8>> {
    let mut node = Node::host(&["10.0.0.1", "fd00::1"]);
    let sock = node.bound(src);
    node.udp.send(&mut node.env, sock, data, None, Some(at(dst))).unwrap();
    node.output()
}

fn receiver(dst: &str) -> (Node, SocketId) {
    let mut node = Node::host(&["10.0.0.2", "fd00::2"]);
    let sock = node.bound(dst);
    (node, sock)
}

#[test]
fn a_datagram_larger_than_the_mtu_is_cut_and_put_together() {
    for (src, dst) in PAIRS {
        for len in [1473, 4000, 65_000] {
            let data = payload(len);
            let cut = pieces(src, dst, &data);
            assert!(cut.len() > 1 && cut.iter().all(|piece| piece.len() <= MTU as usize));
            let (mut node, sock) = receiver(dst);
            cut.iter().for_each(|piece| node.input(IF0, piece));
            assert_eq!(node.recv(sock).map(|got| got.0), Some(data), "{dst} {len}");
            assert_eq!(node.env.ip.frags.bytes, [0, 0]);
        }
    }
}

#[test]
fn order_and_repetition_do_not_matter() {
    for (src, dst) in PAIRS {
        let data = payload(9000);
        let cut = pieces(src, dst, &data);
        let (mut node, sock) = receiver(dst);
        for piece in cut.iter().skip(1).rev() {
            node.input(IF0, piece);
            node.input(IF0, piece);
        }
        assert_eq!(node.recv(sock), None);
        node.input(IF0, &cut[0]);
        assert_eq!(node.recv(sock).map(|got| got.0), Some(data));
        assert_eq!(node.dropped(DropReason::DupFrag), cut.len() as u64 - 1);
    }
}

#[test]
fn the_largest_datagram_passes_and_a_larger_one_is_refused() {
    for ((src, dst), most) in PAIRS.into_iter().zip([65_507, 65_527]) {
        let data = payload(most);
        let (mut node, sock) = receiver(dst);
        pieces(src, dst, &data).iter().for_each(|piece| node.input(IF0, piece));
        assert_eq!(node.recv(sock).map(|got| got.0.len()), Some(most));
        let from = node.bound(if at(dst).is_ipv4() { "0.0.0.0:9" } else { "[::]:9" });
        let sent = node
            .udp
            .send(&mut node.env, from, &payload(most + 1), None, Some(at(src)));
        assert_eq!(sent, Err(crate::SockError::EMSGSIZE));
    }
}

/// A fragment of our own making, of 8-byte blocks `from..to`.
fn piece(v4: bool, id: u32, from: u32, to: u32, more: bool) -> Vec<u8> {
    let data = payload(((to - from) * 8) as usize);
    let fragment = wire::Fragment {
        id,
        offset: from * 8,
        more,
    };
    if v4 {
        let header = wire::ipv4::Header {
            id: id as u16,
            dont_fragment: false,
            fragment_offset: fragment.offset,
            more_fragments: more,
            ..wire::ipv4::Header::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 17)
        };
        let mut bytes = vec![0; 20];
        header.write(&mut bytes, data.len()).unwrap();
        bytes.extend_from_slice(&data);
        return bytes;
    }
    let mut bytes = vec![0; 48];
    let (IpAddr::V6(src), IpAddr::V6(dst)) = (ip("fd00::1"), ip("fd00::2")) else {
        unreachable!()
    };
    let header = wire::ipv6::Header::new(src, dst, wire::protocol::FRAGMENT);
    header.write(&mut bytes, data.len() + 8).unwrap();
    wire::ipv6::write_fragment(&mut bytes[40..], 17, fragment).unwrap();
    bytes.extend_from_slice(&data);
    bytes
}

/// RFC 5722, and Linux for IPv4: an overlap discards all that came; the rest of the fragments begin anew.
#[test]
fn an_overlap_discards_the_datagram() {
    for v4 in [true, false] {
        for (from, to) in [(1, 3), (0, 1), (3, 6), (2, 5)] {
            let mut node = Node::host(&["10.0.0.2", "fd00::2"]);
            node.input(IF0, &piece(v4, 5, 0, 2, true));
            node.input(IF0, &piece(v4, 5, 4, 5, true));
            node.input(IF0, &piece(v4, 5, from, to, true));
            let repeats = (from, to) == (0, 1);
            assert_eq!(
                node.dropped(DropReason::DupFrag),
                u64::from(repeats),
                "{v4} {from}..{to}"
            );
            let fails = node.count(if v4 {
                Counter::IpReasmFails
            } else {
                Counter::Ip6ReasmFails
            });
            assert_eq!(fails, u64::from(!repeats), "{v4} {from}..{to}");
            assert_eq!(node.env.ip.frags.by_key.len(), usize::from(repeats));
        }
    }
}

#[test]
fn a_second_end_discards_the_datagram() {
    for v4 in [true, false] {
        let mut node = Node::host(&["10.0.0.2", "fd00::2"]);
        node.input(IF0, &piece(v4, 5, 4, 5, false));
        node.input(IF0, &piece(v4, 5, 6, 7, true));
        assert_eq!(node.env.ip.frags.by_key.len(), 0);
        node.input(IF0, &piece(v4, 5, 6, 7, true));
        node.input(IF0, &piece(v4, 5, 4, 5, false));
        assert_eq!(node.env.ip.frags.by_key.len(), 0);
        assert_eq!(node.dropped(DropReason::FragOverlap), 4);
    }
}

#[test]
fn what_stays_incomplete_is_given_up_in_time_and_the_sender_told() {
    for (v4, seconds) in [(true, 30), (false, 60)] {
        let mut node = Node::host(&["10.0.0.2", "fd00::2"]);
        node.input(IF0, &piece(v4, 1, 0, 2, true));
        node.input(IF0, &piece(v4, 2, 2, 4, true));
        node.pass(Duration::from_millis(seconds * 1000 - 1));
        assert_eq!(node.env.ip.frags.by_key.len(), 2);
        assert_eq!(node.output().len(), 0);
        node.pass(Duration::from_millis(1));
        assert_eq!(node.env.ip.frags.by_key.len(), 0);
        // Only the one whose first fragment came can be told of (RFC 792).
        let out = node.output();
        assert_eq!(out.len(), 1);
        assert_eq!(icmp_kind(&out[0]), if v4 { (11, 1) } else { (3, 1) });
        let timeouts = node.count(if v4 {
            Counter::IpReasmTimeout
        } else {
            Counter::Ip6ReasmTimeout
        });
        assert_eq!(timeouts, 2);
        assert_eq!(node.dropped(DropReason::FragReasmTimeout), 2);
    }
}

#[test]
fn the_time_to_wait_is_the_sysctls() {
    let mut node = Node::host(&["10.0.0.2", "fd00::2"]);
    (node.env.sysctl.ipfrag_time, node.env.sysctl.ip6frag_time) = (3, 4);
    node.input(IF0, &piece(true, 1, 0, 2, true));
    node.input(IF0, &piece(false, 1, 0, 2, true));
    node.pass(Duration::from_secs(3));
    assert_eq!(node.env.ip.frags.by_key.len(), 1);
    node.pass(Duration::from_secs(1));
    assert_eq!(node.env.ip.frags.by_key.len(), 0);
}

#[test]
fn memory_for_fragments_is_bounded() {
    for v4 in [true, false] {
        let mut node = Node::host(&["10.0.0.2", "fd00::2"]);
        let limit = 100_000;
        (node.env.sysctl.ipfrag_high_thresh, node.env.sysctl.ip6frag_high_thresh) = (limit, limit);
        for id in 0..10_000 {
            node.input(IF0, &piece(v4, id % 60, (id / 60) * 4, (id / 60) * 4 + 2, true));
        }
        assert!(
            node.env.ip.frags.memory() < u64::from(limit) + 20_000,
            "{}",
            node.env.ip.frags.memory()
        );
        assert!(node.dropped(DropReason::FragMem) > 0);
        // When their time is over others have room again.
        node.pass(Duration::from_secs(60));
        assert!(node.env.ip.frags.memory() < 20_000);
    }
}

#[test]
fn one_source_cannot_take_all_the_room() {
    let mut node = Node::host(&["10.0.0.2", "fd00::2"]);
    for id in 0..1000 {
        node.input(IF0, &piece(false, id, 0, 2, true));
    }
    assert_eq!(node.env.ip.frags.by_key.len(), 64);
    assert_eq!(node.dropped(DropReason::FragTooFar), 1000 - 64);
    let sock = node.bound("10.0.0.2:53");
    let data = payload(5000);
    let cut = pieces("10.0.0.1:1000", "10.0.0.2:53", &data);
    cut.iter().for_each(|piece| node.input(IF0, piece));
    assert_eq!(node.recv(sock).map(|got| got.0), Some(data));
}

#[test]
fn two_datagrams_at_once_are_kept_apart_by_their_identification() {
    let (src, dst) = PAIRS[0];
    let (mut node, sock) = receiver(dst);
    let mut sender = Node::host(&["10.0.0.1"]);
    let from = sender.bound(src);
    let (a, b) = (payload(3000), vec![9; 3000]);
    for data in [&a, &b] {
        sender
            .udp
            .send(&mut sender.env, from, data, None, Some(at(dst)))
            .unwrap();
    }
    let out = sender.output();
    let (first, second) = out.split_at(out.len() / 2);
    first.iter().zip(second).for_each(|(x, y)| {
        node.input(IF0, x);
        node.input(IF0, y);
    });
    assert_eq!(node.recv(sock).map(|got| got.0), Some(a));
    assert_eq!(node.recv(sock).map(|got| got.0), Some(b));
}

#[test]
fn congestion_met_by_one_fragment_is_the_datagrams() {
    for (marks, tos) in [([2, 3], Some(3)), ([2, 2], Some(2)), ([0, 0], Some(0)), ([0, 3], None)] {
        let mut node = Node::transparent(&["10.0.0.2"]);
        let mut seen = None;
        for (n, ecn) in marks.into_iter().enumerate() {
            let mut bytes = piece(true, 3, n as u32 * 2, n as u32 * 2 + 2, n == 0);
            bytes[1] = ecn;
            bytes[10..12].fill(0);
            let sum = estab_wire::checksum::checksum(&bytes[..20]).to_be_bytes();
            bytes[10..12].copy_from_slice(&sum);
            let mut whole = Vec::new();
            if let Some(Delivery::Udp(packet)) = input(&mut node.env, IF0, &bytes, RxMeta::default(), &mut whole) {
                seen = Some(packet.ecn());
            }
        }
        assert_eq!(seen, tos, "{marks:?}");
    }
}

#[test]
fn small_datagrams_carry_df_and_cut_ones_do_not() {
    let cut = pieces("10.0.0.1:1000", "10.0.0.2:53", &payload(3000));
    assert!(cut.iter().all(|piece| !parse(piece).dont_fragment));
    let whole = pieces("10.0.0.1:1000", "10.0.0.2:53", &payload(300));
    assert!(parse(&whole[0]).dont_fragment);
    // What may not be cut needs no identification (RFC 6864).
    assert_eq!(whole[0][4..6], [0, 0]);
}

#[test]
fn a_router_cuts_what_may_be_cut_and_says_so_of_the_rest() {
    let mut router = Node::host(&["10.0.0.254", "fd00::fe"]);
    let narrow = router.env.ip.add_iface(IfaceConfig {
        name: "narrow",
        mtu: 1280,
        medium: Medium::Ip,
        gso_max_size: 0,
        csum_offload: false,
        transparent: false,
    });
    router.env.ip.add_route(ip("10.9.0.0"), 16, None, narrow).unwrap();
    router.env.ip.add_route(ip("fd09::"), 16, None, narrow).unwrap();
    (router.env.sysctl.ip_forward, router.env.sysctl.ipv6_forwarding) = (1, 1);

    let data = payload(1400);
    let mut bytes = udp_packet("10.0.0.1:1", "10.9.0.1:53", &data);
    router.input(IF0, &bytes);
    let out = router.output();
    assert_eq!(out.len(), 2);
    assert!(
        out.iter()
            .all(|piece| piece.len() <= 1280 && parse(piece).hop_limit == 63)
    );
    let mut end = Node::host(&["10.9.0.1"]);
    let sock = end.bound("10.9.0.1:53");
    out.iter().for_each(|piece| end.input(IF0, piece));
    assert_eq!(end.recv(sock).map(|got| got.0), Some(data.clone()));

    bytes[6] |= 0x40;
    bytes[10..12].fill(0);
    let sum = estab_wire::checksum::checksum(&bytes[..20]).to_be_bytes();
    bytes[10..12].copy_from_slice(&sum);
    router.input(IF0, &bytes);
    let out = router.output();
    assert_eq!((out.len(), icmp_kind(&out[0])), (1, (3, 4)));
    assert_eq!(parse(&out[0]).payload[6..8], 1280u16.to_be_bytes());

    router.input(IF0, &udp_packet("[fd00::1]:1", "[fd09::1]:53", &data));
    let out = router.output();
    assert_eq!((out.len(), icmp_kind(&out[0])), (1, (2, 0)));
    assert_eq!(parse(&out[0]).payload[4..8], 1280u32.to_be_bytes());
    assert!(out[0].len() <= 1280);
}

#[test]
fn receive_buffers_hold_whole_datagrams_up_to_their_bytes() {
    let (mut node, sock) = receiver("10.0.0.2:53");
    node.udp.set_option(&node.env, sock, SockOption::RcvBuf(5000)).unwrap();
    for _ in 0..100 {
        node.input(IF0, &udp_packet("10.0.0.1:1", "10.0.0.2:53", &payload(1000)));
    }
    let got = core::iter::from_fn(|| node.recv(sock)).count() as u64;
    assert!((7..=9).contains(&got), "{got}");
    assert_eq!(node.count(Counter::UdpRcvbufErrors), 100 - got);
    assert_eq!(node.dropped(DropReason::SocketRcvbuff), 100 - got);
    assert_eq!(node.udp.memory(), 0);
}
