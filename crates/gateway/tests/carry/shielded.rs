//! Published ports behind the SYN proxy.

use crate::flood::Flood;
use crate::published::{ends_well, port, ready};
use crate::*;
use rustix::net::sockopt;
use std::net::{IpAddr, Ipv4Addr, Shutdown};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Child;
use std::time::{Duration, Instant};

pub(crate) const SCENARIOS: &[Scenario] = &[
    (
        "a_shielded_port_carries_both_ways",
        a_shielded_port_carries_both_ways,
        answers_four,
    ),
    (
        "a_shielded_server_may_end_first",
        a_shielded_server_may_end_first,
        ends_first,
    ),
    (
        "a_shielded_server_that_refuses_resets",
        a_shielded_server_that_refuses_resets,
        listens_later,
    ),
    (
        "what_a_client_sends_at_once_waits_for_the_server",
        what_a_client_sends_at_once_waits_for_the_server,
        is_full_at_first,
    ),
    (
        "a_shielded_clients_reset_comes_after_its_data",
        a_shielded_clients_reset_comes_after_its_data,
        reads_until_reset,
    ),
    (
        "a_client_that_gives_up_while_the_server_is_asked",
        a_client_that_gives_up_while_the_server_is_asked,
        is_full_and_then_alone,
    ),
    (
        "a_shielded_servers_reset_comes_after_its_data",
        a_shielded_servers_reset_comes_after_its_data,
        writes_and_resets,
    ),
    (
        "a_client_that_does_not_read_stops_the_shielded_server",
        a_client_that_does_not_read_stops_the_shielded_server,
        writes_until_it_stalls,
    ),
    (
        "the_last_words_of_a_shielded_server_arrive",
        the_last_words_of_a_shielded_server_arrive,
        writes_and_ends,
    ),
    (
        "a_flood_does_not_reach_the_shielded_server",
        a_flood_does_not_reach_the_shielded_server,
        serves_a_hundred,
    ),
    (
        "shielded_clients_come_from_elsewhere",
        shielded_clients_come_from_elsewhere,
        answers_three,
    ),
    (
        "the_syn_proxy_names_what_is_in_its_way",
        the_syn_proxy_names_what_is_in_its_way,
        never,
    ),
    (
        "without_privilege_root_prepares_the_syn_proxy",
        without_privilege_root_prepares_the_syn_proxy,
        answers_one,
    ),
];

/// Where the guest's ports are answered when no address is named, and where the host's clients seem to be.
const GUEST: &str = "10.0.2.15";
const GUEST6: &str = "fd65:7374:6162::15";
const HOST: &str = "10.0.2.2";
const HOST6: &str = "fd65:7374:6162::2";
/// An address that nobody has.
const OWN: &str = "198.51.100.80";

const SHIELDED: [&str; 3] = ["syn-proxy", "publish=8080:80", "queues=2"];

fn tell(guest: &mut Child, line: &str) {
    let input = guest.stdin.as_mut().expect("a pipe");
    writeln!(input, "{line}").expect("the guest listens");
}

fn hear(guest: &mut Child) -> String {
    common::hear(guest).expect("the guest goes on")
}

/// The host's next line.
fn told() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("the host speaks");
    line.trim().to_owned()
}

fn dial(ip: &str, port: u16) -> TcpStream {
    TcpStream::connect((ip, port)).expect("estab answers")
}

fn listen(address: &str) -> TcpListener {
    TcpListener::bind(address).expect("the port is free")
}

/// A TCP counter of this network's kernel, by its name in /proc/net/snmp or netstat.
fn kernel_counter(name: &str) -> u64 {
    let files =
        ["/proc/self/net/snmp", "/proc/self/net/netstat"].map(|path| std::fs::read_to_string(path).expect(path));
    for file in &files {
        let lines: Vec<&str> = file.lines().filter(|line| line.starts_with("Tcp")).collect();
        for pair in lines.chunks(2) {
            let [names, values] = pair else { continue };
            let found = names
                .split(' ')
                .zip(values.split(' '))
                .find(|(found, _)| *found == name);
            if let Some((_, value)) = found {
                return value.parse().expect("a number");
            }
        }
    }
    panic!("the kernel counts no {name}");
}

/// Waits for what must come.
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(Instant::now() < deadline, "{what} does not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn is_reset(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(libc::ECONNRESET)
}

/// Tells what came, and from whom it seems to be.
fn answer(listener: &TcpListener) {
    let (mut stream, client) = listener.accept().expect("the host comes");
    let client = SocketAddr::new(client.ip().to_canonical(), client.port());
    let got = read_all(&mut stream);
    assert!(got == pattern(got.len()), "what came differs");
    write_all(&mut stream, format!("{} {client}", got.len()).as_bytes());
}

/// What [`answer`] says to `len` bytes.
fn ask(stream: &mut TcpStream, len: usize) -> SocketAddr {
    write_all(stream, &pattern(len));
    stream.shutdown(Shutdown::Write).expect("it is up");
    let said = String::from_utf8(read_all(stream)).expect("text");
    let (bytes, client) = said.split_once(' ').expect("two words");
    assert_eq!(bytes, len.to_string());
    client.parse().expect("an address")
}

fn a_shielded_port_carries_both_ways(host: &Host) {
    let named = format!("publish={OWN}:8000:80");
    let options = [&SHIELDED[..], &[named.as_str()]].concat();
    let guest = ready(host, &options);
    for (at, port_there, seen) in [(GUEST, 8080, HOST), (GUEST6, 8080, HOST6), (OWN, 8000, HOST)] {
        let mut stream = dial(at, port_there);
        let from = ask(&mut stream, 2_000_000);
        assert_eq!(from, SocketAddr::new(seen.parse().expect("an address"), port(&stream)));
    }
    ask(&mut dial(GUEST, 8080), 1);
    ends_well(guest);
}

fn answers_four(_: &[String]) {
    let listener = listen("[::]:80");
    println!("ready");
    (0..4).for_each(|_| answer(&listener));
}

fn answers_three(_: &[String]) {
    let listener = listen("[::]:80");
    println!("ready");
    (0..3).for_each(|_| answer(&listener));
}

fn answers_one(_: &[String]) {
    let listener = listen("[::]:8000");
    println!("ready");
    answer(&listener);
}

fn a_shielded_server_may_end_first(host: &Host) {
    let guest = ready(host, &SHIELDED);
    let mut stream = dial(GUEST, 8080);
    assert!(read_all(&mut stream) == pattern(1_000_000), "what came differs");
    // The other direction is open as long as the client likes.
    write_all(&mut stream, &pattern(1_000_000));
    drop(stream);
    ends_well(guest);
}

fn ends_first(_: &[String]) {
    let listener = listen("0.0.0.0:80");
    println!("ready");
    let (mut stream, _) = listener.accept().expect("the host comes");
    write_all(&mut stream, &pattern(1_000_000));
    stream.shutdown(Shutdown::Write).expect("it is up");
    assert!(read_all(&mut stream) == pattern(1_000_000), "what came differs");
}

fn a_shielded_server_that_refuses_resets(host: &Host) {
    let mut guest = ready(host, &SHIELDED);
    let mut stream = dial(GUEST, 8080);
    let error = stream.read(&mut [0; 8]).expect_err("the server is not there");
    assert!(is_reset(&error), "{error}");
    tell(&mut guest, "listen");
    assert_eq!(hear(&mut guest), "listening");
    ask(&mut dial(GUEST, 8080), 10);
    ends_well(guest);
}

fn listens_later(_: &[String]) {
    println!("ready");
    told();
    let listener = listen("0.0.0.0:80");
    println!("listening");
    answer(&listener);
}

/// A server whose accept queue is full, and the clients that fill it: what else comes is dropped, and counted.
fn full() -> (TcpListener, Vec<TcpStream>) {
    let listener = listen("0.0.0.0:80");
    rustix::net::listen(&listener, 0).expect("fewer may wait");
    let mine = TcpStream::connect("127.0.0.1:80").expect("one may wait");
    (listener, vec![mine])
}

fn what_a_client_sends_at_once_waits_for_the_server(host: &Host) {
    for cookies in ["1", "2"] {
        let setting = format!("sysctl=net.ipv4.tcp_syncookies {cookies}");
        let counters = common::host_dir().join("counters");
        let option = format!("counters={}", counters.display());
        let mut guest = ready(host, &[&SHIELDED[..], &[setting.as_str(), &option]].concat());
        let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None);
        let socket = socket.expect("a socket");
        // The handshake's last segment waits for data to carry.
        sockopt::set_tcp_quickack(&socket, false).expect("TCP_QUICKACK is known");
        let to = SocketAddr::new(GUEST.parse().expect("an address"), 8080);
        rustix::net::connect(&socket, &to).expect("estab answers");
        let mut stream = TcpStream::from(socket);
        write_all(&mut stream, &pattern(30_000));
        stream.shutdown(Shutdown::Write).expect("it is up");
        tell(&mut guest, "a client has come");
        assert_eq!(hear(&mut guest), "its SYN was dropped");
        assert_eq!(read_all(&mut stream), b"30000");
        ends_well(guest);
        assert_eq!(counter(&counters, "TcpExtSyncookiesRecv"), usize::from(cookies == "2"));
    }
}

fn is_full_at_first(_: &[String]) {
    let (listener, _waiting) = full();
    println!("ready");
    told();
    until("a SYN", || kernel_counter("ListenOverflows") > 0);
    println!("its SYN was dropped");
    drop(listener.accept().expect("who has waited"));
    let (mut stream, _) = listener.accept().expect("the host comes again");
    let got = read_all(&mut stream);
    assert!(got == pattern(got.len()), "what came differs");
    write_all(&mut stream, got.len().to_string().as_bytes());
}

fn a_client_that_gives_up_while_the_server_is_asked(host: &Host) {
    let mut guest = ready(host, &["syn-proxy", "publish=8080:80", "queues=1"]);
    let mut stream = dial(GUEST, 8080);
    write_all(&mut stream, b"never mind");
    tell(&mut guest, "a client has come");
    assert_eq!(hear(&mut guest), "its SYN was dropped");
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("SO_LINGER is known");
    drop(stream);
    // Its reset came before this one's handshake: the server hears of this one only.
    let mut stream = dial(GUEST, 8080);
    tell(&mut guest, "it has gone");
    ask(&mut stream, 100);
    ends_well(guest);
}

fn is_full_and_then_alone(_: &[String]) {
    let (listener, _waiting) = full();
    println!("ready");
    told();
    until("a SYN", || kernel_counter("ListenOverflows") > 0);
    println!("its SYN was dropped");
    told();
    drop(listener.accept().expect("who has waited"));
    answer(&listener);
}

fn a_shielded_clients_reset_comes_after_its_data(host: &Host) {
    let mut guest = ready(host, &SHIELDED);
    let mut stream = dial(GUEST, 8080);
    write_all(&mut stream, &pattern(100_000));
    assert_eq!(hear(&mut guest), "connected");
    // What the client's kernel has not sent, a reset throws away.
    until("an empty send queue", || unsent(&stream) == 0);
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("SO_LINGER is known");
    drop(stream);
    tell(&mut guest, "it has gone");
    ends_well(guest);
}

/// Bytes that the peer has not acknowledged (SIOCOUTQ).
fn unsent(stream: &TcpStream) -> libc::c_int {
    let mut bytes = 0;
    // SAFETY: SIOCOUTQ (TIOCOUTQ) writes one int.
    unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    bytes
}

fn reads_until_reset(_: &[String]) {
    let listener = listen("0.0.0.0:80");
    println!("ready");
    let (mut stream, _) = listener.accept().expect("the host comes");
    println!("connected");
    told();
    let mut got = Vec::new();
    let error = stream.read_to_end(&mut got).expect_err("no orderly end");
    assert!(is_reset(&error), "{error}");
    assert!(got == pattern(100_000), "{} bytes came before the reset", got.len());
}

fn a_shielded_servers_reset_comes_after_its_data(host: &Host) {
    let mut guest = ready(host, &SHIELDED);
    let mut stream = dial(GUEST, 8080);
    write_all(&mut stream, b"and?");
    let mut got = Vec::new();
    let error = stream.read_to_end(&mut got).expect_err("no orderly end");
    assert!(is_reset(&error), "{error}");
    assert!(got == pattern(100_000), "{} bytes came before the reset", got.len());
    drop(guest.stdin.take());
    ends_well(guest);
}

fn writes_and_resets(_: &[String]) {
    let listener = listen("0.0.0.0:80");
    println!("ready");
    let (mut stream, _) = listener.accept().expect("the host comes");
    stream.read_exact(&mut [0; 4]).expect("its question");
    write_all(&mut stream, &pattern(100_000));
    until("an empty send queue", || unsent(&stream) == 0);
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("SO_LINGER is known");
    drop(stream);
    // The network lasts until the host has seen it.
    told();
}

fn a_client_that_does_not_read_stops_the_shielded_server(host: &Host) {
    let mut guest = ready(host, &SHIELDED);
    let mut stream = dial(GUEST, 8080);
    let written: usize = hear(&mut guest).parse().expect("a number");
    assert!(written > 1_000_000, "{written} bytes fit the buffers");
    let mut got = vec![0; written];
    stream.read_exact(&mut got).expect("all of it comes");
    assert!(got == pattern(written), "what came differs");
    drop(stream);
    ends_well(guest);
}

/// Says how much it could write before nothing moved for a second.
fn writes_until_it_stalls(_: &[String]) {
    const MOST: usize = 1 << 28;
    let listener = listen("0.0.0.0:80");
    println!("ready");
    let (mut stream, _) = listener.accept().expect("the host comes");
    stream
        .set_write_timeout(Some(Duration::from_secs(1)))
        .expect("SO_SNDTIMEO is known");
    let block = pattern(MOST);
    let mut written = 0;
    while written < MOST {
        match stream.write(&block[written..]) {
            Ok(len) => written += len,
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
                break;
            }
        }
    }
    assert!(written < MOST, "nothing held the server back");
    println!("{written}");
    stream.shutdown(Shutdown::Write).expect("it is up");
    assert_eq!(stream.read(&mut [0; 1]).expect("the client ends"), 0);
}

fn the_last_words_of_a_shielded_server_arrive(host: &Host) {
    let guest = ready(host, &SHIELDED);
    let mut stream = dial(GUEST, 8080);
    write_all(&mut stream, b"go!!");
    assert!(read_all(&mut stream) == pattern(3_000_000), "what came differs");
    ends_well(guest);
}

/// Ends with its last words on their way.
fn writes_and_ends(_: &[String]) {
    let listener = listen("0.0.0.0:80");
    println!("ready");
    let (mut stream, _) = listener.accept().expect("the host comes");
    stream.read_exact(&mut [0; 4]).expect("its question");
    write_all(&mut stream, &pattern(3_000_000));
}

const HONEST: usize = 100;
const SYNS: usize = 20_000;

fn a_flood_does_not_reach_the_shielded_server(host: &Host) {
    let counters = common::host_dir().join("counters");
    let option = format!("counters={}", counters.display());
    let mut guest = ready(host, &["syn-proxy", "publish=8080:80", "queues=1", &option]);
    let before = resident(&guest);
    let mut floods = [GUEST, GUEST6].map(|ip| Flood::new(SocketAddr::new(ip.parse().expect("an address"), 8080)));
    for flood in &mut floods {
        flood.send(SYNS);
    }
    let grown = resident(&guest).saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes for {} SYNs", 2 * SYNS);
    tell(&mut guest, "segments?");
    assert_eq!(hear(&mut guest), "0");
    for n in 0..HONEST {
        floods[n % 2].send(100);
        let mut stream = dial([GUEST, GUEST6][n % 2], 8080);
        ask(&mut stream, 1000);
    }
    // The guest counts who came.
    ends_well(guest);

    let counter = |name: &str| counter(&counters, name);
    // A queue holds 4096 for each family; past that, all got cookies.
    let cookies = counter("TcpExtSyncookiesSent");
    assert!(
        (2 * (SYNS - 4200)..=2 * SYNS + HONEST * 101).contains(&cookies),
        "{cookies}"
    );
    assert!(counter("TcpExtTCPReqQFullDoCookies") >= cookies);
    assert!(counter("TcpExtSyncookiesRecv") > 0);
    assert_eq!(counter("TcpExtSyncookiesFailed"), 0);
    assert_eq!(counter("TcpExtListenOverflows"), 0);
    assert_eq!(counter("TcpActiveOpens"), HONEST);
}

/// A counter of a gateway that has ended, out of the file where it left them.
fn counter(file: &std::path::Path, name: &str) -> usize {
    let text = std::fs::read_to_string(file).expect("the gateway wrote it");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().expect("a number"))
}

/// Bytes of memory that a process has.
fn resident(process: &Child) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).expect("proc(5)");
    kib.parse::<usize>().expect("a number") * 1024
}

fn serves_a_hundred(_: &[String]) {
    let listener = listen("[::]:80");
    println!("ready");
    told();
    println!("{}", kernel_counter("InSegs"));
    (0..HONEST).for_each(|_| answer(&listener));
    assert_eq!(kernel_counter("PassiveOpens"), HONEST as u64);
    assert_eq!(kernel_counter("ListenDrops"), 0);
    assert_eq!(kernel_counter("SyncookiesSent"), 0);
}

fn shielded_clients_come_from_elsewhere(host: &Host) {
    let mut other = Command::new("unshare");
    other.args(["--net", "sh", "-c", "ip link set lo up; echo ready; exec sleep 100"]);
    let mut other = common::start_and_await(&mut other, "ready");
    let pid = other.id().to_string();
    let ip = |text: &str| drop(common::stdout(Command::new("ip").args(text.split(' '))));
    let there = |text: &str| {
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid, "--net", "ip"]).args(text.split(' '));
        drop(common::stdout(&mut command));
    };
    ip(&format!("link add outside0 type veth peer name inside0 netns {pid}"));
    ip("addr add 192.0.2.1/24 dev outside0");
    ip("addr add 2001:db8::1/64 dev outside0 nodad");
    ip("link set outside0 up");
    there("addr add 192.0.2.9/24 dev inside0");
    there("addr add 2001:db8::9/64 dev inside0 nodad");
    there("link set inside0 up");
    there("route add default via 192.0.2.1");
    there("-6 route add default via 2001:db8::1");
    for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        std::fs::write(format!("/proc/sys/net/{key}"), "1").expect("the host's own");
    }
    // The host's own address, by a translation that keeps no state.
    let rules = format!(
        "table ip shield {{
            chain in {{ type filter hook prerouting priority raw;
                iifname outside0 ip daddr 192.0.2.1 tcp dport 443 notrack ip daddr set {GUEST}; iifname estab-syn0 notrack; }}
            chain out {{ type filter hook postrouting priority srcnat;
                oifname outside0 ip saddr {GUEST} tcp sport 443 ip saddr set 192.0.2.1; }}
        }}"
    );
    common::stdout(Command::new("nft").arg(rules));
    let named = [format!("publish={OWN}:80:80"), "publish=[2001:db8:1::80]:80:80".into()];
    let guest = ready(host, &["syn-proxy", "queues=2", "publish=443:80", &named[0], &named[1]]);
    let clients = std::thread::spawn(move || {
        let network = std::fs::File::open(format!("/proc/{pid}/ns/net")).expect("it runs");
        rustix::thread::move_into_link_name_space(network.as_fd(), Some(rustix::thread::LinkNameSpaceType::Network))
            .expect("root may");
        let cases = [
            ((OWN, 80), "192.0.2.9"),
            (("2001:db8:1::80", 80), "2001:db8::9"),
            (("192.0.2.1", 443), "192.0.2.9"),
        ];
        for ((ip, at), seen) in cases {
            let mut stream = dial(ip, at);
            let from = ask(&mut stream, 2_000_000);
            assert_eq!(
                from,
                SocketAddr::new(seen.parse().expect("an address"), port(&stream)),
                "{ip}"
            );
        }
    });
    clients.join().expect("each was answered");
    ends_well(guest);
    other.kill().expect("it is ours");
    other.wait().expect("it is ours");
}

fn never(_: &[String]) {
    panic!("the guest was started");
}

/// Why a gateway with these options did not start, in one line.
fn refusal(mut command: Command) -> String {
    let output = command.output().expect("the test binary runs");
    let said = common::both(&output);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    said
}

fn the_syn_proxy_names_what_is_in_its_way(host: &Host) {
    host.outside();
    let taken = Ipv4Addr::new(198, 51, 100, 1);
    common::stdout(Command::new("ip").args(["route", "add", &taken.to_string(), "dev", "lo"]));
    let on_the_host = format!("publish={OUTSIDE}:80:80");
    let elsewhere = format!("publish={taken}:80:80");
    let cases: [(&[&str], &str); 8] = [
        (&["syn-proxy"], "give at least one by -p PORT:GUEST"),
        (
            &["syn-proxy", "publish=53:53/udp"],
            "give at least one by -p PORT:GUEST",
        ),
        (
            &["syn-proxy", "publish=127.0.0.1:80:80"],
            "127.0.0.1:80: that is this host's own address",
        ),
        (
            &["syn-proxy", &on_the_host],
            "192.0.2.7:80: that is this host's own address",
        ),
        (
            &["syn-proxy", &elsewhere],
            "198.51.100.1 is routed elsewhere (see `ip route get 198.51.100.1`)",
        ),
        (
            &["syn-proxy", "publish=80:80", "publish=80:81"],
            "cannot publish 10.0.2.15:80: Address already in use",
        ),
        (
            &["syn-proxy=none0", "publish=198.51.100.80:80:80"],
            "--syn-proxy=none0: there is no such interface",
        ),
        (&["syn-proxy=lo", "publish=80:80"], "-p ADDR:PORT:GUEST"),
    ];
    for (options, text) in cases {
        let said = refusal(host.guest(options, &[]));
        assert!(said.contains(text), "{options:?}: {said}");
    }
    // An interface of another kind.
    let said = refusal(host.guest(&["syn-proxy=lo", "publish=198.51.100.80:80:80"], &[]));
    assert!(
        said.contains("--syn-proxy=lo: it is no TUN with several queues"),
        "{said}"
    );
}

fn without_privilege_root_prepares_the_syn_proxy(host: &Host) {
    if !common::is_root() {
        return common::skip("only root can become somebody else");
    }
    let publish = format!("publish={OWN}:80:8000");
    let said = refusal(common::as_nobody(&host.guest(&["syn-proxy", &publish], &[])));
    assert!(said.contains("needs CAP_NET_ADMIN on the host"), "{said}");
    // What it says to do, done.
    let commands = said
        .split('`')
        .nth(1)
        .expect("commands stand in it")
        .replace("ADDR", OWN);
    let made = commands.split_once("&& ip route").expect("the route is the last").0;
    common::stdout(Command::new("sh").args(["-c", made.trim()]));
    let named = ["syn-proxy=estab-syn", &publish, "queues=2"];
    let said = refusal(common::as_nobody(&host.guest(&named, &[])));
    assert!(
        said.contains(&format!("`ip route replace {OWN} dev estab-syn`")),
        "{said}"
    );
    // With the route, and an address for the host's own clients.
    host.outside();
    common::stdout(Command::new("ip").args(["route", "add", OWN, "dev", "estab-syn"]));
    let mut guest = common::as_nobody(&host.guest(&named, &[]));
    let guest = common::start_and_await(guest.stdin(std::process::Stdio::piped()), "ready");
    let mut stream = dial(OWN, 80);
    let from = ask(&mut stream, 1_000_000);
    assert_eq!(from.ip(), OUTSIDE.parse::<IpAddr>().expect("an address"));
    ends_well(guest);
}
