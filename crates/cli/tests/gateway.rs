//! `estab gateway` from the command line: what a person sees of it.

mod common;

use std::io::BufRead;
use std::process::{Command, Output, Stdio};

fn gateway(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_estab"));
    command.arg("gateway").args(args);
    command.output().expect("estab was built for this test")
}

/// Whether a guest can be made here; where everything must run (CI=true), it can.
fn guests_work() -> bool {
    let output = gateway(&["--", "true"]);
    let works = output.status.success();
    let said = err(&output);
    assert!(works || std::env::var("CI").as_deref() != Ok("true"), "{said}");
    if !works {
        eprintln!("skipped: {said}");
    }
    works
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const FETCH: &str = r"exec 3<>/dev/tcp/gateway.estab/80; printf 'GET / HTTP/1.1\r\n\r\n' >&3; cat <&3";

#[test]
fn the_first_command_needs_no_internet_and_no_tools() {
    if !guests_work() {
        return;
    }
    let output = gateway(&["--", "bash", "-c", FETCH]);
    assert!(output.status.success(), "{}", err(&output));
    assert!(out(&output).starts_with("HTTP/1.1 200 OK\r\n"), "{}", out(&output));
    assert_eq!(err(&output), "");
}

#[test]
fn a_ladder_shows_the_handshake_and_the_close() {
    if !guests_work() {
        return;
    }
    let output = gateway(&["-4", "--ladder", "--", "bash", "-c", FETCH]);
    let ladder = err(&output);
    for step in ["SYN_SENT", "S. 0:0(0) ack 1", "ESTABLISHED", "FIN_WAIT", "CLOSE"] {
        assert!(ladder.contains(step), "no {step} in\n{ladder}");
    }
}

#[test]
fn a_capture_holds_the_packets() {
    if !guests_work() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder for the test");
    let file = dir.path().join("guest.pcapng");
    let output = gateway(&["--pcap", &file.to_string_lossy(), "--", "bash", "-c", FETCH]);
    assert!(output.status.success(), "{}", err(&output));
    let capture = std::fs::read(&file).expect("the capture is there");
    assert!(capture.windows(15).any(|bytes| bytes == b"HTTP/1.1 200 OK"));
}

#[test]
fn a_command_inside_sees_its_own_connection() {
    if !guests_work() {
        return;
    }
    let script = format!(
        "exec 3<>/dev/tcp/gateway.estab/80; {} states --json",
        env!("CARGO_BIN_EXE_estab")
    );
    let output = gateway(&["-4", "--threads", "2", "--", "bash", "-c", &script]);
    let said = out(&output) + &err(&output);
    assert!(said.contains("\"ESTABLISHED\":1"), "{said}");
    // Everything else, and the ports 80 and 53 of the gateway.
    assert!(said.contains("\"LISTEN\":3"), "{said}");
}

#[test]
fn a_shielded_port_shows_the_clients_connection_and_the_servers() {
    common::in_own_network("a_shielded_port_shows_the_clients_connection_and_the_servers", || {
        let serve =
            "import socket; s = socket.create_server(('', 80)); print('ready', flush=True); s.accept()[0].recv(1)";
        let mut gateway = Command::new(env!("CARGO_BIN_EXE_estab"))
            .args([
                "gateway",
                "-4",
                "-p",
                "8080:80",
                "--syn-proxy",
                "--",
                "python3",
                "-c",
                serve,
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("estab was built for this test");
        let mut line = String::new();
        let pipe = gateway.stdout.as_mut().expect("a pipe was asked for");
        std::io::BufReader::new(pipe).read_line(&mut line).expect("text");
        assert_eq!(line, "ready\n");
        let look = |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_estab"));
            let output = command
                .args(arguments)
                .env("ESTAB_PID", gateway.id().to_string())
                .output();
            let output = output.expect("estab was built for this test");
            assert!(output.status.success(), "{arguments:?}: {}", err(&output));
            out(&output)
        };
        look(&["sysctl", "-w", "net.ipv4.tcp_syncookies=2"]);
        let client = std::net::TcpStream::connect("10.0.2.15:8080").expect("estab answers");
        let port = client.local_addr().expect("it is connected").port();
        let both = [
            ["ESTAB".to_owned(), "10.0.2.15:8080".into(), format!("10.0.2.2:{port}")],
            ["ESTAB".to_owned(), format!("10.0.2.2:{port}"), "10.0.2.15:80".into()],
        ];
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            let shown = look(&["ss", "-tan"]);
            let found = |words: &&[String; 3]| {
                shown
                    .lines()
                    .any(|line| words.iter().all(|word| line.contains(word.as_str())))
            };
            if both.iter().filter(found).count() == 2 {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{shown}");
        }
        assert!(look(&["states", "--json"]).contains("\"ESTABLISHED\":2"));
        drop(client);
        let output = gateway.wait_with_output().expect("it is ours");
        assert!(output.status.success(), "{}", err(&output));
        assert_eq!(err(&output), "estab gateway: published at 10.0.2.15:8080\n");
    });
}

#[test]
fn what_is_wrong_takes_one_line_and_has_a_status() {
    if !guests_work() {
        return;
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = taken.local_addr().expect("it is bound").port();
    let publish = format!("{port}:80");
    let cases: [(&[&str], i32, String); 5] = [
        (&["--", "/nonexistent/command"], 127, "not found".into()),
        (&["--mtu", "1000", "--", "true"], 125, "1280 to 65535".into()),
        (
            &["-p", &publish, "--", "true"],
            125,
            format!("127.0.0.1:{port}: the address is in use"),
        ),
        (
            &["--syn-proxy", "--", "true"],
            125,
            "give at least one by -p PORT:GUEST".into(),
        ),
        (
            &["--pcap", "/nonexistent/file", "--", "true"],
            125,
            "/nonexistent/file".into(),
        ),
    ];
    for (args, status, text) in cases {
        let output = gateway(args);
        let said = err(&output);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {said}");
        assert!(said.contains(&text), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
    }
    assert_eq!(gateway(&["--", "sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(gateway(&["--", "sh", "-c", "kill -TERM $$"]).status.code(), Some(143));
}

#[test]
fn arguments_that_cannot_be_read_are_named() {
    for (args, text) in [
        (["-p", "80", "--", "true"], "[ADDR:]PORT:GUEST[/udp]"),
        (["-p", "0:80", "--", "true"], "from 1 to 65535"),
        (["--dns", "example.com", "--", "true"], "not an IP address"),
    ] {
        let output = gateway(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(err(&output).contains(text), "{args:?}: {}", err(&output));
    }
}
