//! Many connections: none fails, and none stays behind.

use crate::*;

pub(crate) const SCENARIOS: &[Scenario] = &[
    (
        "short_connections_in_a_row_leave_nothing",
        short_connections_in_a_row_leave_nothing,
        opens_in_a_row,
    ),
    ("many_connections_at_once", many_connections_at_once, opens_at_once),
    (
        "without_descriptors_the_guest_is_refused",
        without_descriptors_the_guest_is_refused,
        opens_too_many,
    ),
    (
        "without_ports_the_guest_is_refused",
        without_ports_the_guest_is_refused,
        opens_too_many,
    ),
];

/// The server greets each guest and closes first.
fn greet(listener: TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.expect("the guest comes");
        write_all(&mut stream, b"hello");
    }
}

fn serve_all(serve: fn(TcpListener)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    rustix::net::listen(&listener, 4096).expect("a listener's backlog can change");
    let port = listener.local_addr().expect("it is bound").port().to_string();
    std::thread::spawn(move || serve(listener));
    port
}

fn short_connections_in_a_row_leave_nothing(host: &Host) {
    host.run(&["loopback"], &[&serve_all(greet)]);
}

fn opens_in_a_row(args: &[String]) {
    for n in 0..3000 {
        let greeting = read_all(&mut connect(args));
        assert_eq!(greeting, b"hello", "connection {n}");
    }
    assert_eq!(still_open(), 0);
}

/// What the gateway says it still carries.
fn still_open() -> u64 {
    let mut stream = TcpStream::connect("gateway.estab:80").expect("the page is there");
    write_all(&mut stream, b"GET / HTTP/1.1\r\n\r\n");
    let page = String::from_utf8(read_all(&mut stream)).expect("text");
    let (_, rest) = page.split_once("<td>connections open<td>").expect("the page tells");
    rest.lines().next().and_then(|n| n.parse().ok()).expect("a number")
}

fn many_connections_at_once(host: &Host) {
    host.run(&["loopback", "queues=2"], &[&serve_all(hold)]);
}

/// The server reads to the end before it greets.
fn hold(listener: TcpListener) {
    let mut streams = Vec::new();
    for stream in listener.incoming().take(AT_ONCE) {
        streams.push(stream.expect("the guest comes"));
    }
    for mut stream in streams {
        assert_eq!(read_all(&mut stream), b"x");
        write_all(&mut stream, b"hello");
    }
}

const AT_ONCE: usize = 400;

fn opens_at_once(args: &[String]) {
    let mut streams: Vec<TcpStream> = (0..AT_ONCE).map(|_| connect(args)).collect();
    assert_eq!(still_open(), AT_ONCE as u64);
    for stream in &mut streams {
        write_all(stream, b"x");
        stream.shutdown(std::net::Shutdown::Write).expect("the server is there");
    }
    for stream in &mut streams {
        assert_eq!(read_all(stream), b"hello");
    }
    assert_eq!(still_open(), 0);
}

fn without_descriptors_the_guest_is_refused(host: &Host) {
    let port = serve_all(|listener| {
        let _held: Vec<_> = listener.incoming().collect();
    });
    let output = host
        .guest(&["loopback", "nofile=64"], &[&port])
        .output()
        .expect("the test binary runs");
    let said = common::both(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("64 file descriptors are in use (RLIMIT_NOFILE"), "{said}");
}

fn opens_too_many(args: &[String]) {
    let mut held = Vec::new();
    let refused = loop {
        match TcpStream::connect(address(args)) {
            Ok(stream) => held.push(stream),
            Err(err) => break err,
        }
        assert!(held.len() < 64, "64 descriptors carry {} connections", held.len());
    };
    assert_eq!(refused.raw_os_error(), Some(libc::ECONNREFUSED), "{refused}");
}

fn without_ports_the_guest_is_refused(host: &Host) {
    let port = serve_all(|listener| {
        let _held: Vec<_> = listener.incoming().collect();
    });
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40019").expect("the host is ours");
    let output = host
        .guest(&["loopback"], &[&port])
        .output()
        .expect("the test binary runs");
    let said = common::both(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("net.ipv4.ip_local_port_range"), "{said}");
}
