//! Goodput over bad paths in virtual time, estab at both ends: no cell of the matrix gets worse unnoticed.
//!
//! The same matrix as docs/LOSS.md measures beside Linux on real time, at a fifth of its rate; here it takes seconds and
//! gives the same figures everywhere. `cargo test --release -p estab-sim --test matrix -- --nocapture` prints it.

use estab_engine::{
    Config, Event, Family, IfaceConfig, Instant, Kind, Medium, RecvFlags, SendFlags, SockError, SocketId, Stack,
};
use estab_sim::{Host, LinkConfig, Net};
use std::time::Duration;

const RATE: u64 = 20_000_000;
const LENGTH: Duration = Duration::from_secs(5);
const SEEDS: u64 = 3;
const RTTS_MS: [u64; 3] = [5, 20, 100];
const LOSSES: [f64; 4] = [0.0, 0.001, 0.01, 0.05];

fn host(number: u8) -> Host {
    let config = Config {
        seed: [number; 32],
        memory: 4 << 30,
        unix_time: 1_700_000_000,
    };
    let iface = IfaceConfig {
        name: "wire",
        mtu: 1500,
        medium: Medium::Ip,
        gso_max_size: 65_535,
        csum_offload: true,
        transparent: false,
    };
    let mut host = Host::new(Stack::new(Instant::ZERO, config), iface);
    let (addr, iface) = (format!("10.0.0.{number}"), host.iface());
    let added = host.stack.add_addr(iface, addr.parse().expect("it is an address"), 24);
    added.expect("it is a good one");
    let set = host.stack.set_sysctl("net.ipv4.tcp_congestion_control", "cubic");
    set.expect("the engine has CUBIC");
    host
}

/// Mbit/s that host 1's application reads in the time after its first byte.
fn goodput(rtt_ms: u64, loss: f64, reorder: f64, seed: u64) -> f64 {
    let link = |direction| LinkConfig {
        rate: Some(RATE),
        delay: Duration::from_millis(rtt_ms) / 2,
        buffer: (RATE / 8 * rtt_ms / 1000) as usize,
        loss,
        reorder,
        seed: seed * 2 + direction,
        ..LinkConfig::default()
    };
    let mut net = Net::new([host(1), host(2)], [link(0), link(1)]);
    let socket = |net: &mut Net, host| net.host(host).stack.socket(Family::V4, Kind::Stream);
    let to = "10.0.0.2:80".parse().expect("it is an address");
    let listener = socket(&mut net, 1).expect("there is room");
    let mut sock = net.sock(1, listener).expect("it is new");
    sock.bind(to).expect("the port is free");
    sock.listen(1).expect("it is bound");
    let client = socket(&mut net, 0).expect("there is room");
    net.sock(0, client)
        .expect("it is new")
        .connect(to)
        .expect("there is a route");

    let mut server: Option<SocketId> = None;
    let mut first: Option<Instant> = None;
    let mut bytes = 0;
    let mut buf = vec![0; 1 << 16];
    loop {
        let end = first.map_or(Instant::from_millis(60_000), |first| first + LENGTH);
        if !net.step(end) {
            assert!(first.is_some(), "nothing came");
            return bytes as f64 * 8.0 / LENGTH.as_secs_f64() / 1e6;
        }
        for event in net.host(0).take_events() {
            if matches!(event, Event::Ready(id, _) if id == client) {
                let mut sock = net.sock(0, client).expect("the test holds it");
                while sock.send(&buf, SendFlags::default()).is_ok() {}
            }
        }
        for event in net.host(1).take_events() {
            if matches!(event, Event::Ready(id, _) if id == listener) {
                let accepted = net.sock(1, listener).expect("the test holds it").accept();
                server = server.or(accepted.ok().map(|(id, _)| id));
            }
            let Some(id) = server else { continue };
            let now = net.now();
            let mut sock = net.sock(1, id).expect("the test holds it");
            loop {
                match sock.recv(&mut buf, RecvFlags::default()) {
                    Ok(n) => bytes += n,
                    Err(SockError::EAGAIN) => break,
                    Err(e) => panic!("{e:?}"),
                }
                first.get_or_insert(now);
            }
        }
    }
}

/// What each cell gave when this was written, Mbit/s, by RTT and loss.
const IN_ORDER: [[f64; 4]; 3] = [
    [19.30, 19.12, 16.38, 5.51],
    [19.22, 17.59, 6.37, 2.05],
    [18.08, 14.58, 2.85, 0.78],
];
const REORDERED: [[f64; 4]; 3] = [
    [16.88, 16.75, 14.65, 5.38],
    [18.28, 14.38, 5.88, 2.13],
    [11.65, 5.81, 1.78, 0.70],
];

#[test]
fn no_cell_gets_worse() {
    let mut worse = Vec::new();
    for (reorder, table) in [(0.0, IN_ORDER), (0.05, REORDERED)] {
        for (rtt_ms, row) in RTTS_MS.into_iter().zip(table) {
            for (loss, before) in LOSSES.into_iter().zip(row) {
                let runs = (1..=SEEDS).map(|seed| goodput(rtt_ms, loss, reorder, seed));
                let now = runs.sum::<f64>() / SEEDS as f64;
                let cell = format!("reordered {reorder}, RTT {rtt_ms} ms, lost {loss}: {now:.2} Mbit/s, was {before}");
                println!("{cell}");
                if now < 0.9 * before {
                    worse.push(cell);
                }
            }
        }
    }
    assert!(worse.is_empty(), "{worse:#?}");
}
