//! A namespace that holds sockets in all eleven states, made on purpose: `estab ss` and `estab states` held line by line
//! against iproute2's ss and net-tools' netstat.

mod common;

use common::{KERNEL, PEER, Peer, estab, in_own_network, run};
use estab_doctor::kernel::{self, Ask, proc_net};
use estab_doctor::socket::Socket as Looked;
use estab_proto::State;
use estab_wire::tcp::flags;
use socket2::{Domain, Socket, Type};
use std::any::Any;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;

/// Sockets that stay as they are while the returned values live.
fn all_states(peer: &mut Peer) -> Vec<Box<dyn Any>> {
    let mut held: Vec<Box<dyn Any>> = Vec::new();
    let listener = TcpListener::bind((KERNEL, 80)).expect("a listener");
    let accepted = |peer: &mut Peer, port: u16| {
        let conn = peer.connect(port, 80);
        (conn, listener.accept().expect("a connection").0)
    };

    let (_, established) = accepted(peer, 1001);
    let (mut conn, close_wait) = accepted(peer, 1002);
    peer.fin(&mut conn);

    let (mut conn, last_ack) = accepted(peer, 1003);
    peer.fin(&mut conn);
    drop(last_ack);

    // The kernel's FIN stays without an answer.
    let (conn, fin_wait1) = accepted(peer, 1004);
    drop(fin_wait1);
    peer.wait(&conn, flags::FIN);

    // Half-closed by a process that holds on to it, and closed: there the kernel keeps a time-wait entry only.
    let (mut conn, fin_wait2) = accepted(peer, 1005);
    fin_wait2.shutdown(Shutdown::Write).expect("half a close");
    peer.take_fin(&mut conn);
    peer.send(&conn, flags::ACK);
    let (mut conn, orphan) = accepted(peer, 1006);
    drop(orphan);
    peer.take_fin(&mut conn);
    peer.send(&conn, flags::ACK);

    // FINs that cross.
    let (mut conn, closing) = accepted(peer, 1007);
    drop(closing);
    peer.wait(&conn, flags::FIN);
    peer.fin(&mut conn);

    let (mut conn, time_wait) = accepted(peer, 1008);
    drop(time_wait);
    peer.take_fin(&mut conn);
    peer.fin(&mut conn);

    peer.syn(PEER, 1009, 80);
    let syn_sent = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    syn_sent.set_nonblocking(true).expect("not to wait");
    let silent = SocketAddr::from((PEER, 9));
    assert!(syn_sent.connect(&silent.into()).is_err(), "it is in progress");
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    bound.bind(&SocketAddr::from((KERNEL, 7)).into()).expect("a free port");

    // IPv6, and IPv4 in an IPv6 socket.
    let dual = TcpListener::bind("[::]:81").expect("a listener");
    let mapped = TcpStream::connect("127.0.0.1:81").expect("a connection");
    let six = TcpStream::connect("[::1]:81").expect("a connection");
    held.push(Box::new((
        listener,
        established,
        close_wait,
        fin_wait2,
        syn_sent,
        bound,
    )));
    held.push(Box::new((dual, mapped, six)));
    held
}

/// Lines with single blanks, sorted, without ss's heading.
fn lines(text: &str) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut lines: Vec<String> = text
        .lines()
        .map(words)
        .filter(|line| !line.contains("Recv-Q"))
        .collect();
    lines.sort();
    lines
}

/// The same with the times and retries of timers masked: they go on from one command to the next.
fn without_times(text: &str) -> Vec<String> {
    let mask = |line: String| match line.split_once(" timer:(") {
        Some((before, timer)) => {
            let kind = timer.split(',').next().unwrap_or("");
            format!("{before} timer:({kind}")
        }
        None => line,
    };
    lines(text).into_iter().map(mask).collect()
}

#[test]
fn ss_and_states_show_all_eleven_states_as_iproute2_and_netstat_do() {
    in_own_network(
        "ss_and_states_show_all_eleven_states_as_iproute2_and_netstat_do",
        || {
            let mut peer = Peer::new();
            let _held = all_states(&mut peer);

            // iproute2's ss shows sockets that are only bound with -B alone, and netstat can't.
            let only_bound = "UNCONN 0 0 10.7.0.1:7 0.0.0.0:*";
            let all = lines(&estab(&["ss", "--kernel", "-tan"]));
            assert!(all.contains(&only_bound.to_owned()), "{all:#?}");
            let rest: Vec<String> = all.into_iter().filter(|line| line != only_bound).collect();
            assert_eq!(rest, lines(&run("ss -tan")));

            for options in [
                "-tn",
                "-ltn",
                "-tn4",
                "-tn6",
                "-tano state time-wait",
                "-tn state connected",
                "-tn state synchronized",
                "-tn state bucket",
                "-tn state syn-recv",
                "-tn state close-wait",
                "-tn exclude connected exclude closed",
                "-tan sport = :80",
                "-tn dst 10.0.0.0/8",
                "-tn sport = :80 and not dport = :1001",
                "-tn ( dport = :1001 or dport = :1002 ) and src 10.7.0.1",
                "-tn dport ge :1004 dport le :1006",
            ] {
                let arguments: Vec<&str> = ["ss", "--kernel"]
                    .into_iter()
                    .chain(options.split_whitespace())
                    .collect();
                let (ours, theirs) = (estab(&arguments), run(&format!("ss {options}")));
                assert_eq!(without_times(&ours), without_times(&theirs), "ss {options}");
            }
            let timers = without_times(&estab(&["ss", "--kernel", "-tno", "state", "connected"]));
            assert_eq!(timers, without_times(&run("ss -tno state connected")));
            let ours = lines(&estab(&["ss", "--kernel", "-tnp", "state", "close-wait"]));
            assert_eq!(ours, lines(&run("ss -tnp state close-wait")), "with its process");
            assert!(ours[0].contains(&format!("pid={}", std::process::id())), "{ours:?}");

            // netstat -ant | awk '/^tcp/ {++S[$NF]} END {for (s in S) print s, S[s]}'
            let netstat = run("netstat -ant");
            let mut counts = std::collections::BTreeMap::new();
            for state in netstat
                .lines()
                .filter(|l| l.starts_with("tcp"))
                .filter_map(|l| l.split_whitespace().last())
            {
                *counts.entry(state.to_owned()).or_insert(0) += 1;
            }
            let theirs: Vec<String> = counts.iter().map(|(state, n)| format!("{state} {n}")).collect();
            let mut ours = lines(&estab(&["states", "--kernel"]));
            assert_eq!(ours.len(), 11, "all eleven: {ours:?}");
            ours.retain(|line| line != "CLOSE 1");
            assert_eq!(ours, theirs);

            // Socket by socket, as netstat has them.
            let mut theirs: Vec<String> = netstat
                .lines()
                .filter(|line| line.starts_with("tcp"))
                .map(|line| line.split_whitespace().skip(3).collect::<Vec<_>>().join(" "))
                .collect();
            theirs.sort();
            let json: serde_json::Value =
                serde_json::from_str(&estab(&["ss", "--kernel", "-tan", "--json"])).expect("JSON");
            assert_eq!(json["schema"], 1);
            let end = |value: &serde_json::Value| {
                let text = value.as_str().expect("an address");
                let (ip, port) = text.rsplit_once(':').expect("a port");
                let port = if port == "0" { "*" } else { port };
                let ip = ip.trim_matches(['[', ']']).trim_start_matches("::ffff:");
                format!("{ip}:{port}")
            };
            let word = |state: &str| match state {
                "SynRcvd" => "SYN_RECV".to_owned(),
                name => name.parse::<State>().expect("a state").netstat().to_owned(),
            };
            let mut ours: Vec<String> = json["sockets"]
                .as_array()
                .expect("a list")
                .iter()
                .filter(|row| row["state"] != "Closed")
                .map(|row| {
                    let state = word(row["state"].as_str().expect("a state"));
                    format!("{} {} {state}", end(&row["local"]), end(&row["remote"]))
                })
                .collect();
            ours.sort();
            assert_eq!(ours, theirs);

            // Where netlink is forbidden /proc/net is read: the same sockets, but for those that are only bound.
            let (mut by_proc, mut by_netlink) = (Vec::new(), Vec::new());
            let told = |socket: Looked| {
                let d = socket.diag;
                let queue = if d.state == State::Listen { 0 } else { d.send_q };
                (
                    d.local,
                    d.remote,
                    d.state.netstat(),
                    d.recv_q,
                    queue,
                    d.timer.map(|timer| timer.kind),
                    d.id,
                    d.orphan,
                )
            };
            proc_net::read(Path::new("/proc"), Ask::TCP, |socket| by_proc.push(told(socket))).expect("/proc/net");
            kernel::sockets(Ask::TCP, |socket| by_netlink.push(told(socket))).expect("netlink");
            by_netlink.retain(|socket| socket.2 != "CLOSE");
            by_proc.sort_by_key(|socket| (socket.0, socket.1));
            by_netlink.sort_by_key(|socket| (socket.0, socket.1));
            assert_eq!(by_proc, by_netlink);
        },
    );
}
