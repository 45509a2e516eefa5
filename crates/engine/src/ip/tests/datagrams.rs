//! UDP and echo sockets.

use super::*;
use crate::{Readiness, RecvFlags, Shutdown, SockError, SockOption, Unreachable};

fn two() -> (Node, Node) {
    (
        Node::host(&["10.0.0.1", "fd00::1"]),
        Node::host(&["10.0.0.2", "fd00::2"]),
    )
}

fn option(node: &mut Node, id: SocketId, option: SockOption) {
    node.udp.set_option(&node.env, id, option).unwrap();
}

#[test]
fn datagrams_go_there_and_back_with_their_boundaries() {
    for addr in ["10.0.0.2:53", "[fd00::2]:53"] {
        let (mut a, mut b) = two();
        let server = b.bound(addr);
        let client = a.udp(if at(addr).is_ipv4() { Family::V4 } else { Family::V6 });
        for data in [&b"one"[..], b"", b"three"] {
            a.udp.send(&mut a.env, client, data, None, Some(at(addr))).unwrap();
        }
        link(&mut a, &mut b);
        let port = a.udp.get(client).unwrap().local_addr().port();
        assert!((32768..=60999).contains(&port));
        for data in [&b"one"[..], b"", b"three"] {
            let (got, src, dst) = b.recv(server).unwrap();
            assert_eq!((got, src.port(), dst), (data.to_vec(), port, at(addr)));
            b.udp.send(&mut b.env, server, b"ok", None, Some(src)).unwrap();
        }
        assert_eq!(b.recv(server), None);
        link(&mut a, &mut b);
        assert_eq!(core::iter::from_fn(|| a.recv(client)).count(), 3);
        let out = if at(addr).is_ipv4() {
            Counter::UdpOutDatagrams
        } else {
            Counter::Udp6OutDatagrams
        };
        assert_eq!(a.count(out), 3);
    }
}

#[test]
fn readable_is_told_on_the_edge() {
    let (mut a, mut b) = two();
    let server = b.bound("10.0.0.2:53");
    let client = a.udp(Family::V4);
    for _ in 0..3 {
        a.udp
            .send(&mut a.env, client, b"x", None, Some(at("10.0.0.2:53")))
            .unwrap();
    }
    assert_eq!(b.udp.get(server).unwrap().readiness(), Readiness::WRITABLE);
    link(&mut a, &mut b);
    assert!(b.udp.get(server).unwrap().readiness().contains(Readiness::READABLE));
    assert_eq!(b.told(), [server]);
    while b.recv(server).is_some() {}
    assert_eq!(b.udp.get(server).unwrap().readiness(), Readiness::WRITABLE);
}

#[test]
fn peek_leaves_and_trunc_tells_the_length() {
    let (mut a, mut b) = two();
    let server = b.bound("10.0.0.2:53");
    let client = a.udp(Family::V4);
    a.udp
        .send(&mut a.env, client, b"abcdef", None, Some(at("10.0.0.2:53")))
        .unwrap();
    link(&mut a, &mut b);
    let mut buf = [0; 3];
    let mut flags = RecvFlags {
        peek: true,
        trunc: true,
        ..RecvFlags::default()
    };
    assert_eq!(b.udp.recv(server, &mut buf, flags).unwrap().0, 6);
    assert_eq!(buf, *b"abc");
    flags.peek = false;
    flags.trunc = false;
    assert_eq!(b.udp.recv(server, &mut buf, flags).unwrap().0, 3);
    assert_eq!(b.recv(server), None, "the rest of a datagram is lost");
}

#[test]
fn a_connected_socket_hears_its_peer_only() {
    let (mut a, mut b) = two();
    let sock = b.bound("10.0.0.2:53");
    b.udp.connect(&mut b.env, sock, at("10.0.0.1:7")).unwrap();
    for port in [6, 7, 8] {
        let from = a.bound(&alloc::format!("10.0.0.1:{port}"));
        a.udp
            .send(&mut a.env, from, &[port], None, Some(at("10.0.0.2:53")))
            .unwrap();
    }
    link(&mut a, &mut b);
    assert_eq!(b.recv(sock).unwrap().0, [7]);
    assert_eq!(b.recv(sock), None);
    assert_eq!(b.count(Counter::UdpNoPorts), 2);
    assert_eq!(b.udp.get(sock).unwrap().peer_addr(), Ok(at("10.0.0.1:7")));
}

#[test]
fn the_closest_binding_gets_the_datagram() {
    let (mut a, mut b) = two();
    let wild = b.udp(Family::V4);
    let exact = b.udp(Family::V4);
    let connected = b.udp(Family::V4);
    for (sock, addr) in [(wild, "0.0.0.0:53"), (exact, "10.0.0.2:53"), (connected, "10.0.0.2:53")] {
        option(&mut b, sock, SockOption::ReuseAddr(true));
        b.udp.bind(&mut b.env, sock, at(addr)).unwrap();
    }
    b.udp.connect(&mut b.env, connected, at("10.0.0.1:7")).unwrap();
    let from = |a: &mut Node, b: &mut Node, port: u16| {
        a.udp.close(SocketId {
            index: a.next_sock,
            generation: core::num::NonZeroU32::MIN,
        });
        let sock = a.bound(&alloc::format!("10.0.0.1:{port}"));
        a.udp
            .send(&mut a.env, sock, b"x", None, Some(at("10.0.0.2:53")))
            .unwrap();
        link(a, b);
        [wild, exact, connected].map(|sock| b.recv(sock).is_some())
    };
    assert_eq!(from(&mut a, &mut b, 7), [false, false, true]);
    assert_eq!(from(&mut a, &mut b, 8), [false, true, false]);
    b.udp.close(connected);
    assert_eq!(from(&mut a, &mut b, 7), [false, true, false]);
    b.udp.close(exact);
    assert_eq!(from(&mut a, &mut b, 7), [true, false, false]);
}

#[test]
fn bindings_conflict_as_on_linux() {
    let mut node = Node::host(&["10.0.0.1", "10.0.0.2", "fd00::1"]);
    let try_bind = |node: &mut Node, addr: &str, reuse: Option<SockOption>| {
        let id = node.udp(if at(addr).is_ipv4() { Family::V4 } else { Family::V6 });
        reuse.into_iter().for_each(|on| option(node, id, on));
        node.udp.bind(&mut node.env, id, at(addr))
    };
    let in_use = Err(SockError::EADDRINUSE);
    assert_eq!(try_bind(&mut node, "10.0.0.1:1", None), Ok(()));
    assert_eq!(try_bind(&mut node, "10.0.0.1:1", None), in_use);
    assert_eq!(try_bind(&mut node, "10.0.0.2:1", None), Ok(()));
    assert_eq!(try_bind(&mut node, "0.0.0.0:1", None), in_use);
    assert_eq!(try_bind(&mut node, "[::]:1", None), in_use, "it takes IPv4 too");
    assert_eq!(try_bind(&mut node, "[fd00::1]:1", None), Ok(()));
    assert_eq!(try_bind(&mut node, "[::]:1", Some(SockOption::V6Only(true))), in_use);
    assert_eq!(try_bind(&mut node, "[::]:2", Some(SockOption::V6Only(true))), Ok(()));
    assert_eq!(try_bind(&mut node, "0.0.0.0:2", None), Ok(()));
    assert_eq!(
        try_bind(&mut node, "10.0.0.1:3", Some(SockOption::ReuseAddr(true))),
        Ok(())
    );
    assert_eq!(try_bind(&mut node, "10.0.0.1:3", None), in_use);
    assert_eq!(
        try_bind(&mut node, "10.0.0.1:3", Some(SockOption::ReuseAddr(true))),
        Ok(())
    );
    assert_eq!(
        try_bind(&mut node, "10.0.0.1:3", Some(SockOption::ReusePort(true))),
        in_use
    );
    assert_eq!(try_bind(&mut node, "9.9.9.9:4", None), Err(SockError::EADDRNOTAVAIL));
    node.env.sysctl.ip_nonlocal_bind = 1;
    assert_eq!(try_bind(&mut node, "9.9.9.9:4", None), Ok(()));
}

#[test]
fn ephemeral_ports_keep_to_the_range_and_off_the_reserved() {
    let mut node = Node::host(&["10.0.0.1"]);
    node.env.sysctl.ip_local_port_range = [100, 109];
    node.env.sysctl.ip_local_reserved_ports = vec![(102, 104)];
    let mut ports: Vec<u16> = (0..7)
        .map(|_| {
            let id = node.bound("0.0.0.0:0");
            node.udp.get(id).unwrap().local_addr().port()
        })
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, [100, 101, 105, 106, 107, 108, 109]);
    let id = node.udp(Family::V4);
    assert_eq!(
        node.udp.bind(&mut node.env, id, at("0.0.0.0:0")),
        Err(SockError::EADDRINUSE)
    );
    let sent = node.udp.send(&mut node.env, id, b"x", None, Some(at("10.0.0.9:1")));
    assert_eq!(sent, Err(SockError::EAGAIN));
}

#[test]
fn reuseport_spreads_flows_and_keeps_each_in_place() {
    let mut node = Node::host(&["10.0.0.2"]);
    let socks: Vec<SocketId> = (0..4)
        .map(|_| {
            let id = node.udp(Family::V4);
            option(&mut node, id, SockOption::ReusePort(true));
            node.udp.bind(&mut node.env, id, at("10.0.0.2:53")).unwrap();
            id
        })
        .collect();
    let mut got = [0; 4];
    for port in 0..2000 {
        let bytes = udp_packet(&alloc::format!("10.0.0.1:{}", port + 1), "10.0.0.2:53", b"x");
        node.input(IF0, &bytes);
        node.input(IF0, &bytes);
        for (n, sock) in socks.iter().enumerate() {
            let count = core::iter::from_fn(|| node.recv(*sock)).count();
            assert!(count == 0 || count == 2, "a flow was split");
            got[n] += count;
        }
    }
    assert!(got.iter().all(|n| (800..1200).contains(n)), "{got:?}");
}

#[test]
fn a_dual_socket_speaks_ipv4_in_mapped_addresses() {
    let (mut a, mut b) = two();
    let dual = b.bound("[::]:53");
    let client = a.bound("10.0.0.1:7");
    a.udp
        .send(&mut a.env, client, b"x", None, Some(at("10.0.0.2:53")))
        .unwrap();
    link(&mut a, &mut b);
    let (_, src, dst) = b.recv(dual).unwrap();
    assert_eq!((src, dst), (at("[::ffff:10.0.0.1]:7"), at("[::ffff:10.0.0.2]:53")));
    b.udp.send(&mut b.env, dual, b"y", None, Some(src)).unwrap();
    link(&mut a, &mut b);
    assert_eq!(a.recv(client).unwrap().1, at("10.0.0.2:53"));
    let only = b.udp(Family::V6);
    option(&mut b, only, SockOption::V6Only(true));
    let sent = b.udp.send(&mut b.env, only, b"y", None, Some(src));
    assert_eq!(sent, Err(SockError::ENETUNREACH));
    let v4 = b.udp(Family::V4);
    let sent = b.udp.send(&mut b.env, v4, b"y", None, Some(at("[fd00::1]:1")));
    assert_eq!(sent, Err(SockError::EAFNOSUPPORT));
}

#[test]
fn calls_fail_with_linux_errnos() {
    let mut node = Node::host(&["10.0.0.1"]);
    let id = node.udp(Family::V4);
    let nobody = SocketId {
        index: 99,
        generation: core::num::NonZeroU32::MAX,
    };
    assert_eq!(
        node.udp.send(&mut node.env, id, b"x", None, None),
        Err(SockError::EDESTADDRREQ)
    );
    assert_eq!(
        node.udp.send(&mut node.env, id, b"x", None, Some(at("8.8.8.8:1"))),
        Err(SockError::ENETUNREACH)
    );
    assert_eq!(
        node.udp.send(&mut node.env, id, b"x", None, Some(at("10.0.0.2:0"))),
        Err(SockError::EINVAL)
    );
    assert_eq!(
        node.udp.send(&mut node.env, nobody, b"x", None, None),
        Err(SockError::EBADF)
    );
    assert_eq!(
        node.udp.bind(&mut node.env, id, at("0.0.0.0:5")),
        Err(SockError::EINVAL),
        "bound by sending"
    );
    assert_eq!(
        node.udp.shutdown(&mut node.env, id, Shutdown::Both),
        Err(SockError::ENOTCONN)
    );
    assert_eq!(
        node.udp.recv(id, &mut [0; 4], Default::default()),
        Err(SockError::EAGAIN)
    );
    node.udp.connect(&mut node.env, id, at("10.0.0.2:9")).unwrap();
    node.udp.shutdown(&mut node.env, id, Shutdown::Both).unwrap();
    assert_eq!(
        node.udp.send(&mut node.env, id, b"x", None, None),
        Err(SockError::EPIPE)
    );
    assert_eq!(node.udp.recv(id, &mut [0; 4], Default::default()).unwrap().0, 0);
    assert_eq!(
        node.udp.reject(
            &mut node.env,
            id,
            at("10.0.0.2:1"),
            at("10.0.0.1:1"),
            b"",
            Unreachable::Port
        ),
        Err(SockError::EPERM)
    );
}

/// The gateway's socket: every destination, any source, errors in others' names.
#[test]
fn a_transparent_socket_stands_for_everybody() {
    for (guest, other, any) in [
        ("10.0.0.1:7", "1.2.3.4:443", "0.0.0.0:0"),
        ("[fd00::1]:7", "[2001:db8::1]:443", "[::]:0"),
    ] {
        let mut gateway = Node::transparent(&["10.0.0.254", "fd00::fe"]);
        let family = if at(guest).is_ipv4() { Family::V4 } else { Family::V6 };
        let id = gateway.udp(family);
        option(&mut gateway, id, SockOption::Transparent(true));
        gateway.udp.bind(&mut gateway.env, id, at(any)).unwrap();
        gateway.input(IF0, &udp_packet(guest, other, b"ask"));
        assert_eq!(gateway.recv(id), Some((b"ask".to_vec(), at(guest), at(other))));
        gateway
            .udp
            .send(&mut gateway.env, id, b"answer", Some(at(other)), Some(at(guest)))
            .unwrap();
        let out = gateway.output();
        let view = parse(&out[0]);
        assert_eq!((view.src, view.dst), (at(other).ip(), at(guest).ip()));
        assert_eq!(view.payload[..4], [1, 187, 0, 7]);

        let mut client = Node::host(&["10.0.0.1", "fd00::1"]);
        let sock = client.bound(guest);
        client
            .udp
            .connect(&mut client.env, sock, at(other))
            .unwrap_or_else(|_| {
                client.env.ip.add_route(at(any).ip(), 0, None, IF0).unwrap();
                client.udp.connect(&mut client.env, sock, at(other)).unwrap();
            });
        gateway
            .udp
            .reject(&mut gateway.env, id, at(guest), at(other), b"ask", Unreachable::Port)
            .unwrap();
        gateway.output().iter().for_each(|bytes| client.input(IF0, bytes));
        assert_eq!(
            client.udp.recv(sock, &mut [0; 9], Default::default()),
            Err(SockError::ECONNREFUSED)
        );

        // A port that another socket of the gateway holds on its own address is that one's.
        let own = gateway.bound(if at(guest).is_ipv4() {
            "10.0.0.254:53"
        } else {
            "[fd00::fe]:53"
        });
        let dns = if at(guest).is_ipv4() {
            "10.0.0.254:53"
        } else {
            "[fd00::fe]:53"
        };
        gateway.input(IF0, &udp_packet(guest, dns, b"query"));
        assert!(gateway.recv(own).is_some() && gateway.recv(id).is_none());
        gateway.udp.close(own);
        gateway.input(IF0, &udp_packet(guest, dns, b"query"));
        assert!(gateway.recv(id).is_some());
        gateway.udp.close(id);
        gateway.input(IF0, &udp_packet(guest, other, b"ask"));
        assert_eq!(gateway.output().len(), 1, "nobody is there: an error");
    }
}

#[test]
fn an_ordinary_socket_claims_no_foreign_address() {
    let mut node = Node::transparent(&["10.0.0.254"]);
    let id = node.bound("0.0.0.0:53");
    node.input(IF0, &udp_packet("10.0.0.1:1", "1.2.3.4:53", b"not for us"));
    assert_eq!(node.recv(id), None);
    let sent = node
        .udp
        .send(&mut node.env, id, b"x", Some(at("1.2.3.4:53")), Some(at("10.0.0.1:1")));
    assert_eq!(sent, Err(SockError::EINVAL));
    assert!(
        node.udp
            .send(
                &mut node.env,
                id,
                b"x",
                Some(at("10.0.0.254:53")),
                Some(at("10.0.0.1:1"))
            )
            .is_ok()
    );
}

#[test]
fn broadcast_reaches_every_socket_of_the_port() {
    let mut node = Node::host(&["10.0.0.2"]);
    let socks = [(); 2].map(|()| {
        let id = node.udp(Family::V4);
        option(&mut node, id, SockOption::ReuseAddr(true));
        node.udp.bind(&mut node.env, id, at("0.0.0.0:68")).unwrap();
        id
    });
    node.input(IF0, &udp_packet("0.0.0.0:67", "255.255.255.255:68", b"dhcp"));
    assert!(socks.iter().all(|id| node.recv(*id).is_some()));
    node.input(IF0, &udp_packet("10.0.0.1:67", "10.0.0.255:69", b"x"));
    assert_eq!((node.output().len(), node.count(Counter::UdpIgnoredMulti)), (0, 1));
    // All hosts are every host's group; others nobody has joined.
    node.input(IF0, &udp_packet("10.0.0.1:67", "224.0.0.1:68", b"x"));
    assert!(socks.iter().all(|id| node.recv(*id).is_some()));
    node.input(IF0, &udp_packet("10.0.0.1:67", "224.0.0.251:68", b"x"));
    assert!(socks.iter().all(|id| node.recv(*id).is_none()));
}

#[test]
fn a_merged_train_of_datagrams_is_taken_apart() {
    let mut node = Node::host(&["10.0.0.2"]);
    let id = node.bound("10.0.0.2:53");
    let meta = RxMeta {
        csum: crate::RxCsum::Partial,
        gso_size: Some(10),
    };
    node.input_with(IF0, &udp_packet("10.0.0.1:1", "10.0.0.2:53", &[1; 25]), meta);
    let lens: Vec<usize> = core::iter::from_fn(|| node.recv(id)).map(|got| got.0.len()).collect();
    assert_eq!(lens, [10, 10, 5]);
}

#[test]
fn a_sender_that_met_a_full_queue_is_told_when_it_drained() {
    let mut node = Node::host(&["10.0.0.1"]);
    let id = node.bound("10.0.0.1:1");
    let mut sent = 0;
    let error = loop {
        match node
            .udp
            .send(&mut node.env, id, &[0; 1000], None, Some(at("10.0.0.2:1")))
        {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((sent, error), (1000, SockError::EAGAIN));
    assert_eq!(node.count(Counter::UdpSndbufErrors), 1);
    assert_eq!(node.output().len(), 1000);
    node.udp.drained(&mut node.env);
    assert_eq!(node.told(), [id]);
}

/// Linux: past the first value of udp_mem each socket still has udp_rmem_min; past the last nothing is taken.
#[test]
fn udp_mem_bounds_all_sockets_together() {
    // Each datagram counts 1000 bytes.
    for (mem, least, taken) in [
        ([1000, 1000, 1000], 4096, 40),
        ([2, 2, 1000], 4096, 10),
        ([2, 2, 1000], 8000, 16),
        ([2, 2, 3], 8000, 13),
    ] {
        let mut node = Node::host(&["10.0.0.2"]);
        (node.env.sysctl.udp_mem, node.env.sysctl.udp_rmem_min) = (mem, least);
        let socks = [node.bound("10.0.0.2:1"), node.bound("10.0.0.2:2")];
        for n in 0..40 {
            let to = if n % 2 == 0 { "10.0.0.2:1" } else { "10.0.0.2:2" };
            node.input(IF0, &udp_packet("10.0.0.1:9", to, &[0; 744]));
        }
        assert_eq!(node.count(Counter::UdpInDatagrams), taken, "{mem:?} {least}");
        assert_eq!(node.count(Counter::UdpMemErrors), 40 - taken);
        for id in socks {
            node.udp.close(id);
        }
        assert_eq!(node.udp.memory(), 0);
    }
}

#[test]
fn ping_sockets_ask_under_their_own_identifier() {
    let (mut a, mut b) = two();
    for dst in ["10.0.0.2:0", "[fd00::2]:0"] {
        let sock = a.echo(if at(dst).is_ipv4() { Family::V4 } else { Family::V6 });
        let data = [0xde, 0xad, 0, 5, b'h', b'i'];
        a.echo.send(&mut a.env, sock, &data, None, Some(at(dst))).unwrap();
        link(&mut a, &mut b);
        let ident = a.echo.get(sock).unwrap().local_addr().port();
        let mut buf = [0; 20];
        let (len, src, _) = a.echo.recv(sock, &mut buf, Default::default()).unwrap();
        let [hi, lo] = ident.to_be_bytes();
        assert_eq!(buf[..len], [hi, lo, 0, 5, b'h', b'i']);
        assert_eq!(src, at(dst));
    }
    assert_eq!(b.count(Counter::IcmpInEchos), 1);
    assert_eq!(b.count(Counter::Icmp6OutEchoReplies), 1);
}

#[test]
fn a_transparent_echo_socket_answers_in_others_names() {
    let mut gateway = Node::transparent(&["10.0.0.254"]);
    let id = gateway.echo(Family::V4);
    gateway
        .echo
        .set_option(&gateway.env, id, SockOption::Transparent(true))
        .unwrap();
    gateway.echo.bind(&mut gateway.env, id, at("0.0.0.0:0")).unwrap();
    gateway.input(IF0, &ping("10.0.0.1", "1.2.3.4", b"abc"));
    assert_eq!(gateway.output().len(), 0);
    let mut buf = [0; 20];
    let (len, src, dst) = gateway.echo.recv(id, &mut buf, Default::default()).unwrap();
    assert_eq!(
        (&buf[..len], src, dst),
        (&b"\0\x07\0\x01abc"[..], at("10.0.0.1:0"), at("1.2.3.4:0"))
    );
    gateway
        .echo
        .send(&mut gateway.env, id, &buf[..len], Some(dst), Some(src))
        .unwrap();
    let out = gateway.output();
    assert_eq!((icmp_kind(&out[0]), parse(&out[0]).src), ((0, 0), ip("1.2.3.4")));
    assert_eq!(parse(&out[0]).payload[4..], *b"\0\x07\0\x01abc");
    gateway
        .echo
        .reject(&mut gateway.env, id, src, dst, &buf[..len], Unreachable::Host)
        .unwrap();
    let out = gateway.output();
    assert_eq!((icmp_kind(&out[0]), parse(&out[0]).src), ((3, 1), ip("10.0.0.254")));
    // Its own addresses answer by themselves.
    gateway.input(IF0, &ping("10.0.0.1", "10.0.0.254", b"abc"));
    assert_eq!(gateway.output().len(), 1);
}
