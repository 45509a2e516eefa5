//! UDP, names and pings out of the guest.

use crate::*;
use std::net::UdpSocket;
use std::time::Duration;

pub(crate) const SCENARIOS: &[Scenario] = &[
    (
        "datagrams_come_back_to_who_asked",
        datagrams_come_back_to_who_asked,
        asks_from_several_ports,
    ),
    (
        "a_closed_udp_port_is_an_icmp_error",
        a_closed_udp_port_is_an_icmp_error,
        is_told,
    ),
    (
        "names_are_asked_of_the_hosts_resolvers",
        names_are_asked_of_the_hosts_resolvers,
        asks_for_names,
    ),
    ("the_gateway_answers_pings", the_gateway_answers_pings, pings),
];

/// Sends back each datagram, reversed.
fn mirror(socket: UdpSocket) {
    let mut buf = [0; 65536];
    while let Ok((len, from)) = socket.recv_from(&mut buf) {
        buf[..len].reverse();
        socket.send_to(&buf[..len], from).expect("loopback takes it");
    }
}

fn bound(address: &str) -> UdpSocket {
    UdpSocket::bind(address).unwrap_or_else(|err| panic!("{address}: {err}"))
}

/// A socket of the guest's that doesn't wait for ever.
fn guest_socket(to: impl ToSocketAddrs) -> UdpSocket {
    let to = to.to_socket_addrs().expect("an address").next().expect("one");
    let socket = bound(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" });
    socket.connect(to).expect("there is a route");
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("SO_RCVTIMEO is known");
    socket
}

fn datagrams_come_back_to_who_asked(host: &Host) {
    host.outside();
    for address in [format!("{OUTSIDE}:7007"), format!("[{OUTSIDE6}]:7007")] {
        let socket = bound(&address);
        std::thread::spawn(|| mirror(socket));
    }
    host.run(&[], &[]);
}

fn asks_from_several_ports(_: &[String]) {
    for to in [format!("{OUTSIDE}:7007"), format!("[{OUTSIDE6}]:7007")] {
        let sockets: Vec<UdpSocket> = (0..8).map(|_| guest_socket(&to)).collect();
        for (n, socket) in sockets.iter().enumerate() {
            socket.send(&[b'a', n as u8]).expect("sent");
        }
        let mut buf = [0; 65536];
        for (n, socket) in sockets.iter().enumerate() {
            let len = socket.recv(&mut buf).expect("an answer");
            assert_eq!(buf[..len], [n as u8, b'a']);
        }
        // Larger than any packet of the outside, and the smallest there is.
        for len in [60_000, 0] {
            sockets[0].send(&vec![5; len]).expect("sent");
            assert_eq!(sockets[0].recv(&mut buf).expect("an answer"), len);
        }
    }
}

fn a_closed_udp_port_is_an_icmp_error(host: &Host) {
    host.outside();
    common::stdout(Command::new("ip").args(["route", "add", "unreachable", "203.0.113.0/24"]));
    host.run(&[], &[]);
}

fn is_told(_: &[String]) {
    let told = |to: &str| {
        let socket = guest_socket(to);
        socket.send(b"anybody?").expect("sent");
        socket.recv(&mut [0; 16]).expect_err("nobody").raw_os_error()
    };
    assert_eq!(told(&format!("{OUTSIDE}:1")), Some(libc::ECONNREFUSED));
    assert_eq!(told(&format!("[{OUTSIDE6}]:1")), Some(libc::ECONNREFUSED));
    assert_eq!(told("gateway.estab:9"), Some(libc::ECONNREFUSED));
    assert_eq!(told("host.estab:9"), Some(libc::ECONNREFUSED));
}

/// A query for one A record.
fn query(name: &str) -> Vec<u8> {
    let mut out = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.extend([0, 0, 1, 0, 1]);
    out
}

/// The first resolver is gone, the second is silent, the third answers everything with its own four bytes.
fn names_are_asked_of_the_hosts_resolvers(host: &Host) {
    let _silent = bound("127.0.0.1:5302");
    let socket = bound("127.0.0.1:5303");
    std::thread::spawn(move || {
        let mut buf = [0; 512];
        while let Ok((len, from)) = socket.recv_from(&mut buf) {
            let mut reply = buf[..len].to_vec();
            reply[2] |= 0x80;
            reply.extend([9, 9, 9, 9]);
            socket.send_to(&reply, from).expect("loopback takes it");
        }
    });
    let listener = TcpListener::bind("127.0.0.1:5303").expect("the port is free");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the guest comes");
        write_all(&mut stream, b"over TCP");
    });
    host.run(&["dns=127.0.0.1:5301", "dns=127.0.0.1:5302", "dns=127.0.0.1:5303"], &[]);
}

fn asks_for_names(_: &[String]) {
    let ask = |name: &str| {
        let socket = guest_socket("gateway.estab:53");
        let mut buf = [0; 512];
        socket.send(&query(name)).expect("sent");
        let len = socket.recv(&mut buf).expect("an answer");
        buf[len - 4..len].to_vec()
    };
    assert_eq!(ask("example.com"), [9, 9, 9, 9]);
    let host = ("host.estab", 0)
        .to_socket_addrs()
        .expect("in /etc/hosts")
        .find(SocketAddr::is_ipv4);
    let Some(IpAddr::V4(host)) = host.map(|address| address.ip()) else {
        panic!("no IPv4 address")
    };
    assert_eq!(ask("host.estab"), host.octets());
    let mut stream = TcpStream::connect("gateway.estab:53").expect("the resolver answers");
    assert_eq!(read_all(&mut stream), b"over TCP");
}

fn the_gateway_answers_pings(host: &Host) {
    host.outside();
    // Who may ping on the host: everybody, for this one.
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").expect("the host is ours");
    common::stdout(Command::new("ip").args(["route", "add", "unreachable", "203.0.113.0/24"]));
    host.run(&[], &[]);
}

fn pings(_: &[String]) {
    use rustix::net::{AddressFamily, SocketType, ipproto};
    let ping = |to: &str, seq: u8| {
        let to = (to, 0).to_socket_addrs().expect("an address").next().expect("one");
        let (family, protocol, request, reply) = match to {
            SocketAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8, 0),
            SocketAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129),
        };
        let socket = rustix::net::socket(family, SocketType::DGRAM, Some(protocol)).expect("the guest may ping");
        let wait = Some(Duration::from_secs(10));
        rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, wait).expect("known");
        let on: libc::c_int = 1;
        // SAFETY: IP_RECVERR takes one int.
        unsafe {
            let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
            libc::setsockopt(fd, libc::SOL_IP, libc::IP_RECVERR, (&raw const on).cast(), 4);
        }
        rustix::net::connect(&socket, &to).expect("there is a route");
        let message = [request, 0, 0, 0, 0, 0, 0, seq, b'h', b'i'];
        rustix::net::send(&socket, &message, rustix::net::SendFlags::empty()).expect("sent");
        let mut buf = [0; 64];
        let (len, _) = rustix::net::recv(&socket, &mut buf, rustix::net::RecvFlags::empty())?;
        assert_eq!((buf[0], &buf[6..len]), (reply, &[0, seq, b'h', b'i'][..]), "{to}");
        Ok(())
    };
    for (to, seq) in [
        ("gateway.estab", 1),
        ("host.estab", 2),
        (OUTSIDE, 3),
        (OUTSIDE6, 4),
        (OUTSIDE, 5),
    ] {
        assert_eq!(ping(to, seq), Ok(()), "{to}");
    }
    assert_eq!(ping("203.0.113.1", 6), Err(rustix::io::Errno::HOSTUNREACH));
}
