//! ICMP errors, in and out.

use super::*;
use crate::ip::{IcmpKind, Problem, Subject};
use crate::{SockError, Unreachable};
use estab_proto::SeqNum;

#[test]
fn a_closed_port_is_answered_and_the_connected_sender_refused() {
    for (src, dst, local) in [
        ("10.0.0.1:0", "10.0.0.2:53", "10.0.0.1:0"),
        ("[fd00::1]:0", "[fd00::2]:53", "[fd00::1]:0"),
    ] {
        let mut a = Node::host(&["10.0.0.1", "fd00::1"]);
        let mut b = Node::host(&["10.0.0.2", "fd00::2"]);
        let sock = a.bound(local);
        a.udp.connect(&mut a.env, sock, at(dst)).unwrap();
        a.udp.send(&mut a.env, sock, b"hello", None, None).unwrap();
        link(&mut a, &mut b);
        let v4 = at(src).is_ipv4();
        assert_eq!(b.count(if v4 { Counter::UdpNoPorts } else { Counter::Udp6NoPorts }), 1);
        assert_eq!(a.errors.len(), 1);
        assert_eq!(a.errors[0].kind, IcmpKind::PortUnreach);
        assert_eq!(
            a.udp.recv(sock, &mut [0; 9], Default::default()),
            Err(SockError::ECONNREFUSED)
        );
        // Reported once.
        assert_eq!(
            a.udp.recv(sock, &mut [0; 9], Default::default()),
            Err(SockError::EAGAIN)
        );
    }
}

#[test]
fn an_unconnected_socket_hears_of_no_error() {
    let mut a = Node::host(&["10.0.0.1"]);
    let mut b = Node::host(&["10.0.0.2"]);
    let sock = a.bound("10.0.0.1:99");
    a.udp
        .send(&mut a.env, sock, b"hello", None, Some(at("10.0.0.2:53")))
        .unwrap();
    link(&mut a, &mut b);
    assert_eq!(a.errors.len(), 1);
    assert_eq!(
        a.udp.recv(sock, &mut [0; 9], Default::default()),
        Err(SockError::EAGAIN)
    );
}

/// Every error of RFC 792 and RFC 4443 as a socket reports it on Linux.
#[test]
fn errors_become_the_errno_linux_gives() {
    use IcmpKind::*;
    use SockError::*;
    for (kind, code, meaning, errno, fatal) in [
        (3, 0, NetUnreach, ENETUNREACH, false),
        (3, 1, HostUnreach, EHOSTUNREACH, false),
        (3, 2, ProtoUnreach, ENOPROTOOPT, true),
        (3, 3, PortUnreach, ECONNREFUSED, true),
        (3, 4, FragNeeded { mtu: 576 }, EMSGSIZE, false),
        (3, 5, Other, EOPNOTSUPP, false),
        (3, 6, NetUnreach, ENETUNREACH, true),
        (3, 7, HostUnreach, EHOSTDOWN, true),
        (3, 9, AdminProhib, ENETUNREACH, true),
        (3, 10, AdminProhib, EHOSTUNREACH, true),
        (3, 13, AdminProhib, EHOSTUNREACH, true),
        (11, 0, TimeExceeded, EHOSTUNREACH, false),
        (12, 0, ParamProblem, EPROTO, true),
    ] {
        let mut node = Node::host(&["10.0.0.1"]);
        let quote = packet(ip("10.0.0.1"), ip("10.9.9.9"), 6, &[0x10, 0x20, 0, 80, 0xff, 0, 0, 7]);
        let mut message = vec![0; 8 + quote.len()];
        estab_wire::icmpv4::write(&mut message, kind, code, [0, 0, 2, 0x40], &quote).unwrap();
        // It may come from any router on the way.
        node.input(IF0, &packet(ip("10.0.0.77"), ip("10.0.0.1"), 1, &message));
        let error = node.errors[0];
        assert_eq!(
            (error.kind, error.error, error.fatal),
            (meaning, errno, fatal),
            "{kind}/{code}"
        );
        assert_eq!((error.local, error.remote), (at("10.0.0.1:4128"), at("10.9.9.9:80")));
        assert_eq!((error.protocol, error.seq), (6, SeqNum(0xff000007)));
    }
    for (kind, code, meaning, errno, fatal) in [
        (1, 0, NetUnreach, ENETUNREACH, false),
        (1, 1, AdminProhib, EACCES, true),
        (1, 3, HostUnreach, EHOSTUNREACH, false),
        (1, 4, PortUnreach, ECONNREFUSED, true),
        (1, 6, AdminProhib, EACCES, true),
        (2, 0, FragNeeded { mtu: 1400 }, EMSGSIZE, false),
        (3, 0, TimeExceeded, EHOSTUNREACH, false),
        (4, 1, ParamProblem, EPROTO, true),
    ] {
        let mut node = Node::host(&["fd00::1"]);
        let (IpAddr::V6(us), IpAddr::V6(router)) = (ip("fd00::1"), ip("fd00::77")) else {
            unreachable!()
        };
        let quote = packet(us.into(), ip("fd09::9"), 6, &[0x10, 0x20, 0, 80, 0xff, 0, 0, 7]);
        let mut message = vec![0; 8 + quote.len()];
        let rest = 1400u32.to_be_bytes();
        estab_wire::icmpv6::write(&mut message, (router, us), kind, code, rest, &quote).unwrap();
        node.input(IF0, &packet(router.into(), us.into(), 58, &message));
        let error = node.errors[0];
        assert_eq!(
            (error.kind, error.error, error.fatal),
            (meaning, errno, fatal),
            "{kind}/{code}"
        );
    }
}

#[test]
fn damaged_errors_say_nothing() {
    let mut node = Node::host(&["10.0.0.1"]);
    let quote = packet(ip("10.0.0.1"), ip("10.9.9.9"), 6, &[0; 8]);
    for len in 0..quote.len() {
        let mut message = vec![0; 8 + len];
        estab_wire::icmpv4::write(&mut message, 3, 3, [0; 4], &quote[..len]).unwrap();
        node.input(IF0, &packet(ip("10.0.0.77"), ip("10.0.0.1"), 1, &message));
    }
    let mut message = vec![0; 8 + quote.len()];
    estab_wire::icmpv4::write(&mut message, 3, 3, [0; 4], &quote).unwrap();
    message[2] ^= 1;
    node.input(IF0, &packet(ip("10.0.0.77"), ip("10.0.0.1"), 1, &message));
    assert_eq!(node.errors.len(), 0);
    assert_eq!(node.count(Counter::IcmpInErrors), quote.len() as u64 + 1);
    assert_eq!(node.count(Counter::IcmpInCsumErrors), 1);
}

#[test]
fn our_own_addresses_answer_pings() {
    for (src, dst, kind) in [("10.0.0.1", "10.0.0.2", 0), ("fd00::1", "fd00::2", 129)] {
        let mut node = Node::host(&["10.0.0.2", "fd00::2"]);
        node.input(IF0, &ping(src, dst, b"abcdefgh"));
        let out = node.output();
        assert_eq!(out.len(), 1);
        let view = parse(&out[0]);
        assert_eq!((view.src, view.dst), (ip(dst), ip(src)));
        assert_eq!(view.payload[0], kind);
        assert_eq!(view.payload[4..], *b"\0\x07\0\x01abcdefgh");
        (
            node.env.sysctl.icmp_echo_ignore_all,
            node.env.sysctl.icmpv6_echo_ignore_all,
        ) = (1, 1);
        node.input(IF0, &ping(src, dst, b"abcdefgh"));
        assert_eq!(node.output().len(), 0);
    }
}

#[test]
fn a_broadcast_ping_is_answered_only_where_the_sysctl_says_so() {
    let mut node = Node::host(&["10.0.0.2"]);
    node.input(IF0, &ping("10.0.0.1", "10.0.0.255", b"x"));
    assert_eq!(node.output().len(), 0);
    node.env.sysctl.icmp_echo_ignore_broadcasts = 0;
    node.input(IF0, &ping("10.0.0.1", "10.0.0.255", b"x"));
    let out = node.output();
    assert_eq!(parse(&out[0]).src, ip("10.0.0.2"));
}

#[test]
fn a_large_ping_comes_back_whole() {
    let mut node = Node::host(&["10.0.0.2"]);
    let mut peer = Node::host(&["10.0.0.1"]);
    let data = vec![5; 20_000];
    let sock = peer.echo(Family::V4);
    let mut request = vec![0, 0, 0, 1];
    request.extend_from_slice(&data);
    peer.echo
        .send(&mut peer.env, sock, &request, None, Some(at("10.0.0.2:0")))
        .unwrap();
    link(&mut peer, &mut node);
    let mut buf = vec![0; 30_000];
    let (len, src, _) = peer.echo.recv(sock, &mut buf, Default::default()).unwrap();
    assert_eq!((len, src), (20_004, at("10.0.0.2:0")));
    assert!(buf[4..len] == data);
}

#[test]
fn no_error_is_sent_about_an_error_a_group_or_a_later_fragment() {
    let mut node = Node::host(&["10.0.0.2", "fd00::2"]);
    node.env.sysctl.ip_forward = 1;
    node.env.sysctl.ipv6_forwarding = 1;
    let about = |mut bytes: Vec<u8>| {
        // Its time to live ends here: there would be something to say.
        match bytes[0] >> 4 {
            4 => {
                bytes[8] = 1;
                bytes[10..12].fill(0);
                let sum = estab_wire::checksum::checksum(&bytes[..20]).to_be_bytes();
                bytes[10..12].copy_from_slice(&sum);
            }
            _ => bytes[7] = 1,
        }
        bytes
    };
    let control = about(udp_packet("10.0.0.1:1", "10.9.0.1:2", b"x"));
    node.input(IF0, &control);
    assert_eq!(node.output().len(), 1);
    let quote = packet(ip("10.9.0.1"), ip("10.0.0.1"), 6, &[0; 8]);
    let mut message = vec![0; 8 + quote.len()];
    estab_wire::icmpv4::write(&mut message, 3, 3, [0; 4], &quote).unwrap();
    node.input(IF0, &about(packet(ip("10.0.0.1"), ip("10.9.0.1"), 1, &message)));
    node.input(IF0, &udp_packet("10.0.0.1:1", "10.0.0.255:2", b"x"));
    node.input(IF0, &udp_packet("10.0.0.1:1", "224.0.0.9:2", b"x"));
    node.input(IF0, &udp_packet("[fd00::1]:1", "[ff02::1]:2", b"x"));
    assert_eq!(node.output().len(), 0);
    let mut later = control;
    later[7] = 5;
    node.input(IF0, &about(later));
    assert_eq!(node.output().len(), 0, "a later fragment");
}

#[test]
fn a_protocol_nobody_speaks_is_answered() {
    let mut node = Node::host(&["10.0.0.2", "fd00::2"]);
    node.input(IF0, &packet(ip("10.0.0.1"), ip("10.0.0.2"), 132, &[0; 16]));
    node.input(IF0, &packet(ip("fd00::1"), ip("fd00::2"), 132, &[0; 16]));
    let out = node.output();
    assert_eq!(icmp_kind(&out[0]), (3, 2));
    assert_eq!(icmp_kind(&out[1]), (4, 1));
    assert_eq!(node.count(Counter::IpInUnknownProtos), 1);
    assert_eq!(node.count(Counter::Ip6InUnknownProtos), 1);
}

/// Linux: six at once to one host, then one each `icmp_ratelimit` milliseconds.
#[test]
fn errors_to_one_host_are_held_back() {
    let mut node = Node::host(&["10.0.0.2"]);
    let burst = |node: &mut Node, host: &str| {
        (0..20).for_each(|_| node.input(IF0, &udp_packet(host, "10.0.0.2:9", b"x")));
        node.output().len()
    };
    assert_eq!(burst(&mut node, "10.0.0.1:1"), 6);
    assert_eq!(burst(&mut node, "10.0.0.3:1"), 6, "another host has a limit of its own");
    assert_eq!(node.count(Counter::IcmpOutRateLimitHost), 28);
    node.pass(Duration::from_millis(999));
    assert_eq!(burst(&mut node, "10.0.0.1:1"), 0);
    node.pass(Duration::from_millis(1));
    assert_eq!(burst(&mut node, "10.0.0.1:1"), 1);
    node.env.sysctl.icmp_ratelimit = 0;
    assert_eq!(burst(&mut node, "10.0.0.1:1"), 20);
    // Types outside of the mask are never held back.
    node.env.sysctl.icmp_ratelimit = 1000;
    node.env.sysctl.icmp_ratemask = 0;
    assert_eq!(burst(&mut node, "10.0.0.1:1"), 20);
}

#[test]
fn errors_over_ipv6_have_a_pace_of_their_own() {
    for (ms, wait) in [(100, 100), (500, 500)] {
        let mut node = Node::host(&["fd00::2"]);
        node.env.sysctl.icmpv6_ratelimit = ms;
        let burst = |node: &mut Node| {
            (0..20).for_each(|_| node.input(IF0, &udp_packet("[fd00::1]:1", "[fd00::2]:9", b"x")));
            node.output().len()
        };
        assert_eq!(burst(&mut node), 6);
        node.pass(Duration::from_millis(wait - 1));
        assert_eq!(burst(&mut node), 0);
        node.pass(Duration::from_millis(1));
        assert_eq!(burst(&mut node), 1, "one each {ms} ms");
        node.env.sysctl.icmpv6_ratelimit = 0;
        assert_eq!(burst(&mut node), 20);
    }
}

#[test]
fn errors_in_all_are_held_back() {
    let mut node = Node::host(&["10.0.0.2"]);
    node.env.sysctl.icmp_ratelimit = 0;
    let storm = |node: &mut Node| {
        for n in 0..200 {
            node.input(
                IF0,
                &udp_packet(&alloc::format!("10.0.0.{}:1", n + 3), "10.0.0.2:9", b"x"),
            );
        }
        node.output().len()
    };
    assert_eq!(storm(&mut node), 50);
    node.pass(Duration::from_millis(10));
    assert_eq!(storm(&mut node), 10);
    assert_eq!(node.count(Counter::IcmpOutRateLimitGlobal), 340);
    (node.env.sysctl.icmp_msgs_burst, node.env.sysctl.icmp_msgs_per_sec) = (70, 100_000);
    node.pass(Duration::from_millis(10));
    assert_eq!(storm(&mut node), 70);
}

/// What a transparent open that is answered with an error becomes: the guest knows its SYN by the sequence number.
#[test]
fn an_error_can_be_made_from_addresses_alone() {
    let mut gateway = Node::transparent(&["10.0.0.254", "fd00::fe"]);
    for (from, to, why, kind, speaker) in [
        (
            "10.0.0.1:4000",
            "1.2.3.4:80",
            Unreachable::Network,
            (3, 0),
            "10.0.0.254",
        ),
        ("10.0.0.1:4000", "1.2.3.4:80", Unreachable::Host, (3, 1), "10.0.0.254"),
        ("10.0.0.1:4000", "1.2.3.4:80", Unreachable::Port, (3, 3), "1.2.3.4"),
        (
            "10.0.0.1:4000",
            "1.2.3.4:80",
            Unreachable::Prohibited,
            (3, 13),
            "10.0.0.254",
        ),
        (
            "[fd00::1]:4000",
            "[2001:db8::1]:80",
            Unreachable::Network,
            (1, 0),
            "fd00::fe",
        ),
        (
            "[fd00::1]:4000",
            "[2001:db8::1]:80",
            Unreachable::Host,
            (1, 3),
            "fd00::fe",
        ),
        (
            "[fd00::1]:4000",
            "[2001:db8::1]:80",
            Unreachable::Port,
            (1, 4),
            "2001:db8::1",
        ),
    ] {
        let (from, to) = (at(from), at(to));
        let seq = SeqNum(77);
        Ip::queue_icmp_about(
            &mut gateway.env,
            Problem::Unreachable(why),
            Subject::Tcp { from, to, seq },
        );
        let out = gateway.output();
        assert_eq!((icmp_kind(&out[0]), parse(&out[0]).src), (kind, ip(speaker)), "{why:?}");
        let mut guest = Node::host(&["10.0.0.1", "fd00::1"]);
        guest.input(IF0, &out[0]);
        let error = guest.errors[0];
        assert_eq!((error.local, error.remote, error.seq), (from, to, seq));
    }
}

#[test]
fn path_mtus_are_learned_within_bounds_and_forgotten() {
    let mut node = Node::host(&["10.0.0.1", "fd00::1"]);
    let far = ip("10.0.0.9");
    assert_eq!(Ip::update_pmtu(&mut node.env, far, 1400), Some(1400));
    assert_eq!(node.env.ip.route(far, None).unwrap().mtu, 1400);
    assert_eq!(node.env.ip.route(ip("10.0.0.8"), None).unwrap().mtu, 1500);
    // Told again it holds for longer.
    node.pass(Duration::from_secs(400));
    assert_eq!(Ip::update_pmtu(&mut node.env, far, 1400), None);
    node.pass(Duration::from_secs(400));
    assert_eq!(node.env.ip.pmtu(far), Some(1400));
    // A larger one is no news; a tiny one is taken for the least, and DF comes off.
    assert_eq!(Ip::update_pmtu(&mut node.env, far, 1450), None);
    assert!(node.env.ip.route(far, None).unwrap().dont_fragment);
    assert_eq!(Ip::update_pmtu(&mut node.env, far, 68), Some(552));
    assert!(!node.env.ip.route(far, None).unwrap().dont_fragment);
    assert_eq!(Ip::update_pmtu(&mut node.env, ip("fd00::9"), 500), Some(1280));
    node.pass(Duration::from_secs(599));
    assert_eq!(node.env.ip.pmtu(far), Some(552));
    node.pass(Duration::from_secs(1));
    assert_eq!(node.env.ip.pmtu(far), None);
    assert_eq!(node.env.ip.route(ip("fd00::9"), None).unwrap().mtu, 1500);
    // However many destinations are told of.
    for n in 0..10_000u32 {
        let dst = IpAddr::V6((u128::from(n) << 1 | 0xfd00 << 112).into());
        Ip::update_pmtu(&mut node.env, dst, 1280);
    }
    let known = (0..10_000u32).filter(|n| {
        let dst = IpAddr::V6((u128::from(*n) << 1 | 0xfd00 << 112).into());
        node.env.ip.pmtu(dst).is_some()
    });
    assert_eq!(known.count(), 4096);
}

#[test]
fn ip_no_pmtu_disc_believes_no_router() {
    for (mode, told) in [(0, Some(1000)), (1, Some(0)), (2, None)] {
        let mut node = Node::host(&["10.0.0.1"]);
        node.env.sysctl.ip_no_pmtu_disc = mode;
        let quote = packet(ip("10.0.0.1"), ip("10.0.0.9"), 6, &[0; 8]);
        let mut message = vec![0; 8 + quote.len()];
        estab_wire::icmpv4::write_unreachable(&mut message, 4, 1000, &quote).unwrap();
        node.input(IF0, &packet(ip("10.0.0.77"), ip("10.0.0.1"), 1, &message));
        let kind = node.errors.first().map(|error| error.kind);
        assert_eq!(
            kind,
            told.map(|mtu| IcmpKind::FragNeeded { mtu }),
            "ip_no_pmtu_disc {mode}"
        );
    }
}

#[test]
fn a_connected_udp_socket_learns_the_path_mtu() {
    let mut node = Node::host(&["10.0.0.1"]);
    let sock = node.bound("10.0.0.1:5000");
    node.udp.connect(&mut node.env, sock, at("10.0.0.9:53")).unwrap();
    let tell = |node: &mut Node, port: u8| {
        let quote = packet(ip("10.0.0.1"), ip("10.0.0.9"), 17, &[0x13, 0x88, 0, port, 0, 8, 0, 0]);
        let mut message = vec![0; 8 + quote.len()];
        estab_wire::icmpv4::write_unreachable(&mut message, 4, 1000, &quote).unwrap();
        node.input(IF0, &packet(ip("10.0.0.77"), ip("10.0.0.1"), 1, &message));
    };
    tell(&mut node, 54);
    assert_eq!(node.env.ip.pmtu(ip("10.0.0.9")), None, "about a datagram nobody sent");
    tell(&mut node, 53);
    assert_eq!(node.env.ip.pmtu(ip("10.0.0.9")), Some(1000));
    assert_eq!(
        node.udp.send(&mut node.env, sock, &[0; 1200], None, None),
        Err(SockError::EMSGSIZE)
    );
    node.udp.send(&mut node.env, sock, &[0; 1200], None, None).unwrap();
    assert_eq!(node.output().len(), 2);
}
