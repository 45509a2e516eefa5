//! TCP out of the guest.

use crate::*;
use rustix::net::sockopt;
use std::io::ErrorKind;
use std::time::Duration;

pub(crate) const SCENARIOS: &[Scenario] = &[
    (
        "the_gateway_serves_its_page",
        the_gateway_serves_its_page,
        reads_the_page,
    ),
    (
        "bytes_arrive_whole_both_ways",
        bytes_arrive_whole_both_ways,
        sends_and_gets_back,
    ),
    ("ipv6_is_carried", ipv6_is_carried, sends_and_gets_back),
    (
        "several_queues_share_the_work",
        several_queues_share_the_work,
        sends_and_gets_back_at_once,
    ),
    ("a_closed_port_refuses", a_closed_port_refuses, is_refused),
    (
        "the_hosts_loopback_needs_permission",
        the_hosts_loopback_needs_permission,
        is_refused,
    ),
    ("no_route_is_an_icmp_error", no_route_is_an_icmp_error, is_unreachable),
    (
        "a_full_backlog_answers_no_more",
        a_full_backlog_answers_no_more,
        fills_the_backlog,
    ),
    (
        "half_closed_by_the_guest",
        half_closed_by_the_guest,
        shuts_down_and_reads,
    ),
    (
        "half_closed_by_the_server",
        half_closed_by_the_server,
        reads_the_end_and_writes,
    ),
    (
        "a_servers_reset_comes_after_its_data",
        a_servers_reset_comes_after_its_data,
        reads_then_is_reset,
    ),
    (
        "closing_with_unread_data_resets_the_server",
        closing_with_unread_data_resets_the_server,
        closes_unread,
    ),
    (
        "a_killed_guest_is_a_reset_if_it_left_data",
        a_killed_guest_is_a_reset_if_it_left_data,
        is_killed_unread,
    ),
    (
        "what_was_written_before_the_end_arrives",
        what_was_written_before_the_end_arrives,
        writes_and_exits,
    ),
    (
        "a_server_that_does_not_read_stops_the_guest",
        a_server_that_does_not_read_stops_the_guest,
        writes_to_a_wall,
    ),
    (
        "a_guest_that_does_not_read_stops_the_server",
        a_guest_that_does_not_read_stops_the_server,
        does_not_read,
    ),
    (
        "a_stream_cut_off_is_a_reset",
        a_stream_cut_off_is_a_reset,
        leaves_a_child_behind,
    ),
];

const LEN: usize = 16 << 20;
const LOOPBACK: &str = "127.0.0.1";

fn the_gateway_serves_its_page(host: &Host) {
    host.run(&[], &[]);
}

fn reads_the_page(_: &[String]) {
    let mut stream = TcpStream::connect("gateway.estab:80").expect("the page is there");
    write_all(&mut stream, b"GET / HTTP/1.1\r\nHost: gateway.estab\r\n\r\n");
    let page = String::from_utf8(read_all(&mut stream)).expect("text");
    let (head, body) = page.split_once("\r\n\r\n").expect("a header and a body");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    assert!(body.contains("estab"), "{body}");
    let closed = TcpStream::connect("gateway.estab:81").expect_err("nothing else is");
    assert_eq!(closed.kind(), ErrorKind::ConnectionRefused);
}

/// Sends all it gets back, at once.
fn echo(mut stream: TcpStream) {
    let mut copy = stream.try_clone().expect("dup works");
    std::io::copy(&mut stream, &mut copy).expect("the guest sends and takes");
    stream.shutdown(std::net::Shutdown::Write).expect("the guest is there");
}

fn bytes_arrive_whole_both_ways(host: &Host) {
    let (port, server) = serve(LOOPBACK, echo);
    host.run(&["loopback"], &[&port.to_string()]);
    server.join().expect("the server saw nothing odd");
}

fn ipv6_is_carried(host: &Host) {
    host.outside();
    let (port, server) = serve(OUTSIDE6, echo);
    host.run(&["-6"], &[OUTSIDE6, &port.to_string()]);
    server.join().expect("the server saw nothing odd");
}

fn sends_and_gets_back(args: &[String]) {
    let mut stream = connect(args);
    let sent = pattern(LEN);
    let mut copy = stream.try_clone().expect("dup works");
    let writer = std::thread::spawn(move || {
        write_all(&mut copy, &sent);
        copy.shutdown(std::net::Shutdown::Write).expect("the server is there");
    });
    assert!(read_all(&mut stream) == pattern(LEN), "what came back differs");
    writer.join().expect("all was taken");
}

fn several_queues_share_the_work(host: &Host) {
    host.outside();
    let listener = TcpListener::bind((OUTSIDE, 0)).expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(|| echo(stream.expect("the guest comes")));
        }
    });
    host.run(&["queues=3"], &[OUTSIDE, &port.to_string()]);
}

fn sends_and_gets_back_at_once(args: &[String]) {
    let one = || {
        let mut stream = connect(args);
        let sent = pattern(100_000);
        write_all(&mut stream, &sent);
        stream.shutdown(std::net::Shutdown::Write).expect("the server is there");
        assert!(read_all(&mut stream) == sent, "what came back differs");
    };
    std::thread::scope(|scope| (0..24).for_each(|_| drop(scope.spawn(one))));
}

fn a_closed_port_refuses(host: &Host) {
    host.outside();
    host.run(&[], &[OUTSIDE, "1"]);
    host.run(&[], &[OUTSIDE6, "1"]);
    host.run(&["loopback"], &["1"]);
}

fn the_hosts_loopback_needs_permission(host: &Host) {
    let listener = TcpListener::bind((LOOPBACK, 0)).expect("a port is free");
    host.run(&[], &[&listener.local_addr().expect("it is bound").port().to_string()]);
}

fn is_refused(args: &[String]) {
    let refused = TcpStream::connect(address(args)).expect_err("nobody listens");
    assert_eq!(refused.raw_os_error(), Some(libc::ECONNREFUSED), "{refused}");
}

/// The host has no route but to itself, and one that says so more closely.
fn no_route_is_an_icmp_error(host: &Host) {
    for route in [["unreachable", "203.0.113.0/24"], ["prohibit", "198.51.100.0/24"]] {
        common::stdout(Command::new("ip").args(["route", "add"]).args(route));
    }
    host.run(&[], &[]);
}

fn is_unreachable(_: &[String]) {
    let fails = |to: &str| TcpStream::connect(to).expect_err("nothing is there").raw_os_error();
    assert_eq!(fails("192.0.2.99:80"), Some(libc::ENETUNREACH));
    assert_eq!(fails("203.0.113.1:80"), Some(libc::EHOSTUNREACH));
    // A veth's router would say "communication administratively prohibited": EHOSTUNREACH too (icmp_err_convert).
    assert_eq!(fails("198.51.100.1:80"), Some(libc::EHOSTUNREACH));
    assert_eq!(fails("[2001:db8::99]:80"), Some(libc::ENETUNREACH));
}

/// With a backlog of 1, the kernel holds 2 connections that nobody accepts.
fn a_full_backlog_answers_no_more(host: &Host) {
    let listener = TcpListener::bind((LOOPBACK, 0)).expect("a port is free");
    rustix::net::listen(&listener, 1).expect("a listener's backlog can change");
    host.run(
        &["loopback"],
        &[&listener.local_addr().expect("it is bound").port().to_string()],
    );
}

fn fills_the_backlog(args: &[String]) {
    let _held = [connect(args), connect(args)];
    let third = TcpStream::connect_timeout(&address(args), Duration::from_millis(300));
    assert_eq!(third.expect_err("no room").kind(), ErrorKind::TimedOut);
}

fn half_closed_by_the_guest(host: &Host) {
    let (port, server) = serve(LOOPBACK, |mut stream| {
        assert_eq!(read_all(&mut stream), b"all of it, please");
        write_all(&mut stream, &pattern(LEN));
    });
    host.run(&["loopback"], &[&port.to_string()]);
    server.join().expect("the server saw nothing odd");
}

fn shuts_down_and_reads(args: &[String]) {
    let mut stream = connect(args);
    write_all(&mut stream, b"all of it, please");
    stream.shutdown(std::net::Shutdown::Write).expect("the server is there");
    assert!(read_all(&mut stream) == pattern(LEN), "the reply differs");
}

fn half_closed_by_the_server(host: &Host) {
    let (port, server) = serve(LOOPBACK, |mut stream| {
        write_all(&mut stream, b"go on");
        stream.shutdown(std::net::Shutdown::Write).expect("the guest is there");
        assert!(read_all(&mut stream) == pattern(LEN), "what the guest sent differs");
    });
    host.run(&["loopback"], &[&port.to_string()]);
    server.join().expect("the server saw nothing odd");
}

fn reads_the_end_and_writes(args: &[String]) {
    let mut stream = connect(args);
    assert_eq!(read_all(&mut stream), b"go on");
    write_all(&mut stream, &pattern(LEN));
}

fn reset_on_close(stream: &TcpStream) {
    sockopt::set_socket_linger(stream, Some(Duration::ZERO)).expect("SO_LINGER is known");
}

fn a_servers_reset_comes_after_its_data(host: &Host) {
    let (port, server) = serve(LOOPBACK, |mut stream| {
        write_all(&mut stream, &pattern(100_000));
        // The guest has it all: a reset throws away what the host's kernel has not sent.
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the guest says so");
        write_all(&mut stream, b"last words");
        while unsent(&stream) > 0 {
            std::thread::yield_now();
        }
        reset_on_close(&stream);
    });
    host.run(&["loopback"], &[&port.to_string()]);
    server.join().expect("the server saw nothing odd");
}

/// Bytes the other side has not acknowledged.
fn unsent(stream: &TcpStream) -> u64 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ writes one int.
    let done = unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(stream), libc::TIOCOUTQ, &raw mut bytes) };
    assert_eq!(done, 0);
    bytes as u64
}

fn reads_then_is_reset(args: &[String]) {
    let mut stream = connect(args);
    let mut first = vec![0; 100_000];
    stream.read_exact(&mut first).expect("the data came");
    write_all(&mut stream, b"!");
    let mut last = [0; 10];
    stream.read_exact(&mut last).expect("the data before the reset came");
    assert_eq!(&last, b"last words");
    let reset = stream.read(&mut first).expect_err("no orderly end");
    assert_eq!(reset.raw_os_error(), Some(libc::ECONNRESET), "{reset}");
}

/// The server's reads end in a reset, after `len` bytes.
fn expect_reset_after(stream: &mut TcpStream, len: usize) {
    let (mut got, mut buf) = (0, vec![0; 65536]);
    let error = loop {
        match stream.read(&mut buf) {
            Ok(0) => panic!("an orderly end after {got} bytes"),
            Ok(n) => got += n,
            Err(error) => break error,
        }
    };
    assert_eq!((error.raw_os_error(), got), (Some(libc::ECONNRESET), len));
}

fn closing_with_unread_data_resets_the_server(host: &Host) {
    let (port, server) = serve(LOOPBACK, |mut stream| {
        write_all(&mut stream, &pattern(1000));
        expect_reset_after(&mut stream, 5);
    });
    host.run(&["loopback"], &[&port.to_string()]);
    server.join().expect("the server saw nothing odd");
}

fn closes_unread(args: &[String]) {
    let mut stream = connect(args);
    let mut byte = [0];
    stream.read_exact(&mut byte).expect("data came");
    write_all(&mut stream, b"hello");
    // What was written must have left before a reset throws it away.
    while unsent(&stream) > 0 {
        std::thread::yield_now();
    }
}

fn a_killed_guest_is_a_reset_if_it_left_data(host: &Host) {
    let (port, server) = serve(LOOPBACK, |mut stream| {
        write_all(&mut stream, &pattern(1000));
        expect_reset_after(&mut stream, 0);
    });
    let status = host
        .guest(&["loopback"], &[&port.to_string()])
        .status()
        .expect("the test binary runs");
    assert_eq!(status.code(), Some(128 + libc::SIGKILL));
    server.join().expect("the server saw nothing odd");
}

fn is_killed_unread(args: &[String]) {
    let mut stream = connect(args);
    let mut byte = [0];
    stream.read_exact(&mut byte).expect("data came");
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).expect("we may");
}

fn what_was_written_before_the_end_arrives(host: &Host) {
    let (port, server) = serve(LOOPBACK, |mut stream| {
        // It is slow to begin.
        std::thread::sleep(Duration::from_millis(50));
        assert!(read_all(&mut stream) == pattern(3_000_000), "the end is missing");
    });
    host.run(&["loopback"], &[&port.to_string()]);
    server.join().expect("the server saw nothing odd");
}

fn writes_and_exits(args: &[String]) {
    write_all(&mut connect(args), &pattern(3_000_000));
}

/// More than the buffers on the way may hold: the guest's and the host's kernels' and the gateway's.
const WALL: usize = 48 << 20;

fn a_server_that_does_not_read_stops_the_guest(host: &Host) {
    let (port, server) = serve(LOOPBACK, |stream| stream);
    host.run(&["loopback"], &[&port.to_string()]);
    drop(server.join().expect("the server saw nothing odd"));
}

fn writes_to_a_wall(args: &[String]) {
    let written = write_until_stopped(&mut connect(args));
    assert!(written < WALL, "{written} bytes were taken by nobody");
}

/// Writes until nothing was taken for a while.
fn write_until_stopped(stream: &mut TcpStream) -> usize {
    stream
        .set_write_timeout(Some(Duration::from_millis(300)))
        .expect("SO_SNDTIMEO is known");
    let (chunk, mut written) = (vec![7; 65536], 0);
    while written < WALL {
        match stream.write(&chunk) {
            Ok(n) => written += n,
            Err(_) => break,
        }
    }
    written
}

fn a_guest_that_does_not_read_stops_the_server(host: &Host) {
    let (port, server) = serve(LOOPBACK, |mut stream| {
        let written = write_until_stopped(&mut stream);
        assert!(written < WALL, "{written} bytes were taken by nobody");
    });
    host.run(&["loopback"], &[&port.to_string()]);
    server.join().expect("the server saw nothing odd");
}

fn does_not_read(args: &[String]) {
    let stream = connect(args);
    // The server's reset or FIN is behind data that nobody reads; the guest waits for its own end instead.
    std::thread::sleep(Duration::from_millis(1500));
    drop(stream);
}

/// The command ends while a child of its goes on writing: its network ends with the command.
fn a_stream_cut_off_is_a_reset(host: &Host) {
    let (port, server) = serve(LOOPBACK, |mut stream| {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the child has begun");
        let error = std::io::copy(&mut stream, &mut std::io::sink()).expect_err("no orderly end");
        assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET), "{error}");
    });
    host.run(&["loopback"], &[&port.to_string()]);
    server.join().expect("the server saw nothing odd");
}

#[allow(clippy::zombie_processes, reason = "to leave it behind is the point")]
fn leaves_a_child_behind(args: &[String]) {
    let mut stream = connect(args);
    write_all(&mut stream, b"!");
    let keep = std::process::Stdio::from(std::os::fd::OwnedFd::from(stream));
    // It holds the stream as its input, open and silent, and outlives the command.
    Command::new("sleep")
        .arg("5")
        .stdin(keep)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("sleep is there");
}
