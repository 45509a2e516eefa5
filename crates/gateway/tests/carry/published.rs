//! Ports of the guest that the host sees.

use crate::*;
use std::net::UdpSocket;
use std::process::{Child, Stdio};
use std::time::Duration;

pub(crate) const SCENARIOS: &[Scenario] = &[
    (
        "a_published_port_reaches_the_guest",
        a_published_port_reaches_the_guest,
        serves_three,
    ),
    (
        "a_published_port_that_refuses_resets",
        a_published_port_that_refuses_resets,
        listens_nowhere,
    ),
    (
        "a_published_udp_port_reaches_the_guest",
        a_published_udp_port_reaches_the_guest,
        serves_datagrams,
    ),
    (
        "a_published_port_in_use_is_named",
        a_published_port_in_use_is_named,
        never,
    ),
    (
        "a_client_that_resets_resets_the_guest",
        a_client_that_resets_resets_the_guest,
        serves_until_reset,
    ),
];

/// The guest, once it says that it is ready.
pub(crate) fn ready(host: &Host, options: &[&str]) -> Child {
    common::start_and_await(host.guest(options, &[]).stdin(Stdio::piped()), "ready")
}

pub(crate) fn ends_well(child: Child) {
    finished(child.wait_with_output());
}

fn a_published_port_reaches_the_guest(host: &Host) {
    host.outside();
    let guest = ready(host, &["publish=0.0.0.0:8080:80", "publish=[::1]:8080:80", "queues=2"]);
    for (to, from) in [("127.0.0.1", None), (OUTSIDE, Some(OUTSIDE)), ("::1", None)] {
        let mut stream = TcpStream::connect((to, 8080)).expect("the host listens");
        write_all(&mut stream, &pattern(2_000_000));
        stream.shutdown(std::net::Shutdown::Write).expect("the guest is there");
        let answer = String::from_utf8(read_all(&mut stream)).expect("text");
        let (bytes, client) = answer.split_once(' ').expect("two words");
        assert_eq!(bytes, "2000000", "from {to}");
        if let Some(from) = from {
            assert_eq!(
                client,
                SocketAddr::new(from.parse().expect("an address"), port(&stream)).to_string()
            );
        } else {
            let client: SocketAddr = client.parse().expect("an address");
            assert!(!client.ip().is_loopback(), "{client}");
            assert_eq!(client.port(), port(&stream));
        }
    }
    ends_well(guest);
}

pub(crate) fn port(stream: &TcpStream) -> u16 {
    stream.local_addr().expect("it is connected").port()
}

/// Says how much came, and from whom it seems to be.
fn serves_three(_: &[String]) {
    // IPv4 comes here too, with mapped addresses.
    let listener = TcpListener::bind("[::]:80").expect("the port is free");
    println!("ready");
    for _ in 0..3 {
        let (mut stream, client) = listener.accept().expect("the host comes");
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        let got = read_all(&mut stream);
        assert!(got == pattern(got.len()), "what came differs");
        write_all(&mut stream, format!("{} {client}", got.len()).as_bytes());
    }
}

fn a_published_port_that_refuses_resets(host: &Host) {
    let mut guest = ready(host, &["publish=8080:80"]);
    let mut stream = TcpStream::connect("127.0.0.1:8080").expect("the host listens");
    let error = stream.read(&mut [0; 8]).expect_err("the guest does not");
    assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET), "{error}");
    drop(guest.stdin.take());
    ends_well(guest);
}

fn listens_nowhere(_: &[String]) {
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new()).expect("the host lets go");
}

fn a_published_udp_port_reaches_the_guest(host: &Host) {
    let guest = ready(host, &["publish=5353:53/udp", "queues=2"]);
    let clients: Vec<UdpSocket> = (0..4)
        .map(|_| UdpSocket::bind("127.0.0.1:0").expect("a port is free"))
        .collect();
    for (n, client) in clients.iter().enumerate() {
        client
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("SO_RCVTIMEO is known");
        client.connect("127.0.0.1:5353").expect("loopback");
        client.send(&[n as u8]).expect("sent");
    }
    for (n, client) in clients.iter().enumerate() {
        let mut buf = [0; 8];
        let len = client.recv(&mut buf).expect("an answer");
        assert_eq!(buf[..len], [n as u8, n as u8]);
    }
    ends_well(guest);
}

fn serves_datagrams(_: &[String]) {
    let socket = UdpSocket::bind("0.0.0.0:53").expect("the port is free");
    println!("ready");
    let mut buf = [0; 8];
    for _ in 0..4 {
        let (_, client) = socket.recv_from(&mut buf).expect("the host comes");
        socket.send_to(&[buf[0], buf[0]], client).expect("sent");
    }
}

fn a_published_port_in_use_is_named(host: &Host) {
    let _taken = TcpListener::bind("127.0.0.1:8080").expect("the port is free");
    let output = host
        .guest(&["publish=8080:80"], &[])
        .output()
        .expect("the test binary runs");
    let said = common::both(&output);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert_eq!(
        said.trim(),
        "cannot publish 127.0.0.1:8080: the address is in use on the host (see ss -lntup)"
    );
}

fn never(_: &[String]) {
    panic!("the guest was started");
}

fn a_client_that_resets_resets_the_guest(host: &Host) {
    let guest = ready(host, &["publish=8080:80"]);
    let mut stream = TcpStream::connect("127.0.0.1:8080").expect("the host listens");
    write_all(&mut stream, b"last words");
    // The guest has them: a reset throws away what the host's kernel has not delivered.
    stream.read_exact(&mut [0; 2]).expect("the guest says so");
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("SO_LINGER is known");
    drop(stream);
    ends_well(guest);
}

fn serves_until_reset(_: &[String]) {
    let listener = TcpListener::bind("0.0.0.0:80").expect("the port is free");
    println!("ready");
    let (mut stream, _) = listener.accept().expect("the host comes");
    stream.read_exact(&mut [0; 10]).expect("its words");
    write_all(&mut stream, b"ok");
    let reset = stream.read(&mut [0; 8]).expect_err("no orderly end");
    assert_eq!(reset.raw_os_error(), Some(libc::ECONNRESET), "{reset}");
}
