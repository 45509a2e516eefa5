//! The way out: routes, source addresses, forwarding, headers.

use super::*;
use crate::ip::HeaderSpec;
use crate::{CsumTx, RxCsum, SockError};
use estab_wire::checksum::Sum;
use estab_wire::tcp;

#[test]
fn the_longest_prefix_wins_and_no_route_is_enetunreach() {
    let mut node = Node::host(&["10.0.0.1"]);
    let second = node.iface(Medium::Ip, &["10.1.0.1"], false);
    let routes = &mut node.env.ip;
    assert_eq!(routes.route(ip("8.8.8.8"), None), Err(SockError::ENETUNREACH));
    routes.add_route(ip("0.0.0.0"), 0, Some(ip("10.0.0.254")), IF0).unwrap();
    routes
        .add_route(ip("8.8.0.0"), 16, Some(ip("10.1.0.254")), second)
        .unwrap();
    routes
        .add_route(ip("8.8.8.8"), 32, Some(ip("10.0.0.253")), IF0)
        .unwrap();
    for (dst, iface, src) in [
        ("1.1.1.1", IF0, "10.0.0.1"),
        ("8.8.1.1", second, "10.1.0.1"),
        ("8.8.8.8", IF0, "10.0.0.1"),
        ("10.1.0.77", second, "10.1.0.1"),
    ] {
        let route = routes.route(ip(dst), None).unwrap();
        assert_eq!((route.iface, route.src), (iface, ip(src)), "{dst}");
    }
    assert_eq!(routes.route(ip("fd00::1"), None), Err(SockError::ENETUNREACH));
    assert_eq!(routes.add_route(ip("1.0.0.0"), 33, None, IF0), Err(SockError::EINVAL));
    assert_eq!(
        routes.add_route(ip("1.0.0.0"), 8, Some(ip("fd00::1")), IF0),
        Err(SockError::EINVAL)
    );
    assert_eq!(
        routes.add_route(ip("1.0.0.0"), 8, None, IfaceId(7)),
        Err(SockError::EINVAL)
    );
    assert_eq!(routes.add_addr(IF0, ip("224.0.0.1"), 24), Err(SockError::EINVAL));
}

#[test]
fn a_source_of_the_right_subnet_and_scope_is_chosen() {
    let node = Node::host(&["fe80::1", "fd00::1", "fd01::1", "10.0.0.1", "10.1.0.1"]);
    for (dst, src) in [
        ("fd00::9", "fd00::1"),
        ("fd01::9", "fd01::1"),
        ("fe80::9", "fe80::1"),
        ("10.1.0.9", "10.1.0.1"),
    ] {
        assert_eq!(node.env.ip.route(ip(dst), None).unwrap().src, ip(src), "{dst}");
    }
    let asked = node.env.ip.route(ip("10.1.0.9"), Some(ip("10.0.0.1"))).unwrap();
    assert_eq!(asked.src, ip("10.0.0.1"));
}

#[test]
fn a_network_without_an_address_of_ours_is_eaddrnotavail() {
    let mut node = Node::new();
    node.iface(Medium::Ip, &[], true);
    node.env.ip.add_route(ip("0.0.0.0"), 0, None, IF0).unwrap();
    assert_eq!(node.env.ip.route(ip("1.1.1.1"), None), Err(SockError::EADDRNOTAVAIL));
    assert!(node.env.ip.route(ip("1.1.1.1"), Some(ip("9.9.9.9"))).is_ok());
}

#[test]
fn our_own_addresses_are_reached_without_a_device() {
    let mut node = Node::host(&["10.0.0.1", "fd00::1"]);
    for dst in ["127.0.0.1:53", "10.0.0.1:54", "[::1]:55", "[fd00::1]:56"] {
        let server = node.bound(dst);
        let client = node.udp(if at(dst).is_ipv4() { Family::V4 } else { Family::V6 });
        let data = vec![3; 40_000];
        node.udp
            .send(&mut node.env, client, &data, None, Some(at(dst)))
            .unwrap();
        assert_eq!(node.output().len(), 0);
        let (got, src, to) = node.recv(server).unwrap();
        assert!(got == data);
        assert_eq!((src.ip(), to), (at(dst).ip(), at(dst)));
        node.udp.send(&mut node.env, server, b"back", None, Some(src)).unwrap();
        node.output();
        assert_eq!(node.recv(client).unwrap().0, b"back");
    }
}

#[test]
fn a_refused_port_on_the_loopback_is_refused_at_once() {
    let mut node = Node::host(&["10.0.0.1"]);
    let sock = node.udp(Family::V4);
    // 0.0.0.0 means this host.
    node.udp.connect(&mut node.env, sock, at("0.0.0.0:9")).unwrap();
    for _ in 0..30 {
        node.udp.send(&mut node.env, sock, b"x", None, None).unwrap();
        node.output();
        // Nothing is held back on the loopback.
        assert_eq!(
            node.udp.recv(sock, &mut [0; 9], Default::default()),
            Err(SockError::ECONNREFUSED)
        );
    }
}

#[test]
fn forwarding_takes_a_hop_and_is_off_by_default() {
    for (src, dst, v4) in [
        ("10.0.0.1:1", "10.1.0.9:53", true),
        ("[fd00::1]:1", "[fd01::9]:53", false),
    ] {
        let mut router = Node::host(&["10.0.0.254", "fd00::fe"]);
        let far = router.iface(Medium::Ip, &["10.1.0.254", "fd01::fe"], false);
        let bytes = udp_packet(src, dst, b"hello");
        router.input(IF0, &bytes);
        assert_eq!(router.output().len(), 0);
        (router.env.sysctl.ip_forward, router.env.sysctl.ipv6_forwarding) = (1, 1);
        router.input(IF0, &bytes);
        let out = router.output_full();
        assert_eq!((out.len(), out[0].0.iface), (1, far));
        assert_eq!(parse(&out[0].1).hop_limit, 63);
        let mut end = Node::host(&["10.1.0.9", "fd01::9"]);
        let sock = end.bound(dst);
        end.input(IF0, &out[0].1);
        assert_eq!(end.recv(sock).unwrap().0, b"hello");
        // The last hop ends here.
        let mut last = bytes.clone();
        if v4 {
            (0..63).for_each(|_| assert!(wire::ipv4::decrement_ttl(&mut last)));
        } else {
            last[7] = 1;
        }
        router.input(IF0, &last);
        let out = router.output_full();
        assert_eq!(icmp_kind(&out[0].1), if v4 { (11, 0) } else { (3, 0) });
        assert_eq!(out[0].0.iface, IF0);
        assert_eq!(router.dropped(DropReason::TtlExpired), 1);
        // Nowhere to go.
        let lost = udp_packet(src, if v4 { "99.0.0.1:5" } else { "[99::1]:5" }, b"x");
        router.input(IF0, &lost);
        assert_eq!(icmp_kind(&router.output()[0]), if v4 { (3, 0) } else { (1, 0) });
    }
}

#[test]
fn a_forwarded_partial_checksum_is_finished() {
    let mut router = Node::host(&["10.0.0.254"]);
    router.iface(Medium::Ip, &["10.1.0.254"], false);
    router.env.sysctl.ip_forward = 1;
    let mut bytes = udp_packet("10.0.0.1:1", "10.1.0.9:53", b"hello");
    let view = parse(&bytes);
    let partial = Sum::pseudo(view.src, view.dst, 17, view.payload.len()).fold();
    bytes[26..28].copy_from_slice(&partial.to_be_bytes());
    let meta = RxMeta {
        csum: RxCsum::Partial,
        gso_size: None,
    };
    router.input_with(IF0, &bytes, meta);
    let out = router.output();
    let view = parse(&out[0]);
    assert_eq!(estab_wire::udp::check(view.src, view.dst, view.payload), Ok(()));
}

/// What TCP's output is built on: one pass, checksum complete or left to the device.
#[test]
fn a_segment_is_written_once_with_its_checksum_or_half_of_it() {
    for offload in [false, true] {
        for (src, dst) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            for medium in [Medium::Ip, Medium::Ethernet([2, 0, 0, 0, 0, 1])] {
                let mut node = Node::new();
                let id = node.iface(medium, &[src], false);
                node.env.ip.ifaces[0].config.csum_offload = offload;
                let mut route = node.env.ip.route(ip(dst), None).unwrap();
                assert_eq!((route.iface, route.csum_offload), (id, offload));
                // A broadcast next hop needs nobody's address.
                if medium != Medium::Ip {
                    route.next_hop = ip(if dst.contains(':') { "ff02::1" } else { "10.0.0.255" });
                }
                let spec = HeaderSpec {
                    src: ip(src),
                    dst: ip(dst),
                    protocol: 6,
                    ttl: 0,
                    tos: 2,
                    dont_fragment: true,
                };
                let header = tcp::Header {
                    src_port: 1,
                    dst_port: 2,
                    seq: 3,
                    ack: 4,
                    flags: tcp::flags::ACK,
                    window: 5,
                    urgent: 0,
                };
                let timestamps = Some(tcp::Timestamps { val: 6, ecr: 7 });
                let data = b"some bytes, odd";
                let mut buf = vec![0xee; 2000];
                let write = |area: &mut [u8], _| {
                    let (head, mut sum) = header.write_usual(area, timestamps)?;
                    sum.add(estab_wire::checksum::copy_and_sum(&mut area[head..], data));
                    Some((head, sum))
                };
                let (env, len) = (&mut node.env, data.len());
                let sent = Ip::emit_tcp(env, &mut buf, &route, &spec, len, None, 0, write).unwrap();
                let link = if medium == Medium::Ip { 0 } else { 14 };
                let view = parse(&buf[link..sent.len]);
                assert_eq!((view.tos, view.hop_limit, view.dont_fragment), (2, 64, true));
                let segment = tcp::Segment::parse(view.payload).unwrap();
                assert_eq!((segment.payload, segment.ack), (&data[..], 4));
                if !offload {
                    assert_eq!(sent.csum, CsumTx::Full);
                    assert!(tcp::checksum_ok(view.src, view.dst, view.payload));
                    continue;
                }
                let start = (link + view.header_len) as u16;
                assert_eq!(sent.csum, CsumTx::Partial { start, offset: 16 });
                // As a device finishes it: the sum of all from `start` on goes to the field.
                let mut whole = buf[link..sent.len].to_vec();
                let at = view.header_len + 16;
                let sum = Sum::of(&whole[view.header_len..]).finish();
                whole[at..at + 2].copy_from_slice(&sum.to_be_bytes());
                let view = parse(&whole);
                assert!(tcp::checksum_ok(view.src, view.dst, view.payload));
            }
        }
    }
}

#[test]
fn what_does_not_fit_the_callers_buffer_is_dropped_and_counted() {
    let mut node = Node::host(&["10.0.0.2"]);
    node.input(IF0, &ping("10.0.0.1", "10.0.0.2", &[0; 500]));
    node.input(IF0, &ping("10.0.0.1", "10.0.0.2", &[0; 50]));
    let mut small = [0; 200];
    let sent = Ip::poll_reply(&mut node.env, &mut small).unwrap();
    assert_eq!(sent.len, 78);
    assert_eq!(node.dropped(DropReason::NoBuffer), 1);
}

#[test]
fn answers_that_nobody_fetches_are_bounded() {
    for most in [1000, 10] {
        let mut node = Node::host(&["10.0.0.2"]);
        node.env.sysctl.netdev_max_backlog = most;
        for _ in 0..5000 {
            node.input(IF0, &ping("10.0.0.1", "10.0.0.2", &[0; 1000]));
        }
        assert_eq!(node.dropped(DropReason::QueueFull), 5000 - u64::from(most));
        assert_eq!(node.output().len(), most as usize);
        assert_eq!(node.env.ip.replies.memory(), 0);
    }
}
