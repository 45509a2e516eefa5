//! BBR over links with 40 ms there and back, on virtual time: each figure is exact and repeats.

use estab_engine::proto::TcpInfo;
use estab_engine::{
    Config, Event, Family, IfaceConfig, Instant, Kind, Medium, RecvFlags, SendFlags, SockOption, SocketId, Stack,
};
use estab_sim::{Host, LinkConfig, Net};
use std::net::SocketAddr;
use std::time::Duration;

const RTT_MS: u64 = 40;

/// A link of `mbit` Mbit/s whose buffer holds `bdps` times what fills it.
fn link(mbit: u64, loss: f64, bdps: u64) -> LinkConfig {
    LinkConfig {
        rate: Some(mbit * 1_000_000),
        delay: Duration::from_millis(RTT_MS / 2),
        buffer: (mbit * 1_000_000 / 8 * RTT_MS / 1000 * bdps) as usize,
        loss,
        seed: 4,
        ..LinkConfig::default()
    }
}

fn host(seed: u8, cc: &str, address: &str) -> Host {
    let config = Config {
        seed: [seed; 32],
        memory: 8 << 30,
        unix_time: 1_700_000_000,
    };
    let iface = IfaceConfig {
        name: "wire",
        mtu: 1500,
        medium: Medium::Ip,
        gso_max_size: 65_536,
        csum_offload: true,
        transparent: false,
    };
    let mut host = Host::new(Stack::new(Instant::ZERO, config), iface);
    let iface = host.iface();
    host.stack.add_addr(iface, address.parse().unwrap(), 24).unwrap();
    host.stack.set_sysctl("net.ipv4.tcp_congestion_control", cc).unwrap();
    host
}

struct Flow {
    sender: SocketId,
    receiver: SocketId,
    received: u64,
}

/// Host 0 sends to host 1 as much as goes.
struct Run {
    net: Net,
    /// Bits per second of the link.
    rate: u64,
    listener: SocketId,
    flows: Vec<Flow>,
}

const SERVER: &str = "10.0.0.2:80";

impl Run {
    fn new(cc: &str, data: LinkConfig) -> Run {
        let rate = data.rate.expect("the link has a rate");
        let acks = LinkConfig {
            loss: 0.0,
            buffer: usize::MAX,
            ..data.clone()
        };
        let hosts = [host(1, cc, "10.0.0.1"), host(2, "cubic", "10.0.0.2")];
        let mut net = Net::new(hosts, [data, acks]);
        let listener = net.host(1).stack.socket(Family::V4, Kind::Stream).unwrap();
        let mut sock = net.sock(1, listener).unwrap();
        sock.bind(SERVER.parse().unwrap()).unwrap();
        sock.listen(16).unwrap();
        let mut run = Run {
            net,
            rate,
            listener,
            flows: Vec::new(),
        };
        run.open();
        run
    }

    /// One flow more.
    fn open(&mut self) {
        let (to, listener): (SocketAddr, _) = (SERVER.parse().unwrap(), self.listener);
        let sender = self.net.host(0).stack.socket(Family::V4, Kind::Stream).unwrap();
        self.net.sock(0, sender).unwrap().connect(to).unwrap();
        let receiver = loop {
            assert!(self.net.step(Instant::from_millis(600_000)), "it never connects");
            if let Ok((id, _)) = self.net.sock(1, listener).unwrap().accept() {
                break id;
            }
            self.work();
        };
        self.flows.push(Flow {
            sender,
            receiver,
            received: 0,
        });
        self.write(self.flows.len() - 1);
    }

    fn write(&mut self, flow: usize) {
        let Ok(mut sock) = self.net.sock(0, self.flows[flow].sender) else {
            return;
        };
        let data = [0; 65_536];
        while sock.send(&data, SendFlags::default()).is_ok() {}
    }

    fn work(&mut self) {
        for event in self.net.host(0).take_events() {
            if let Event::Ready(id, _) = event
                && let Some(flow) = self.flows.iter().position(|f| f.sender == id)
            {
                self.write(flow);
            }
        }
        let mut buf = vec![0; 1 << 20];
        for event in self.net.host(1).take_events() {
            if let Event::Ready(id, _) = event
                && let Some(flow) = self.flows.iter_mut().find(|f| f.receiver == id)
            {
                let mut sock = self.net.sock(1, id).unwrap();
                while let Ok(n) = sock.recv(&mut buf, RecvFlags::default()) {
                    assert!(n > 0, "nobody closed");
                    flow.received += n as u64;
                }
            }
        }
    }

    /// Lets `ms` pass; every 10 ms `look` sees the first flow's information. The rate of each flow in that time,
    /// in percent of the link's.
    fn run(&mut self, ms: u64, mut look: impl FnMut(u64, &TcpInfo)) -> Vec<u64> {
        let before: Vec<u64> = self.flows.iter().map(|f| f.received).collect();
        let start = self.net.now();
        for tick in 1..=ms / 10 {
            let until = start + Duration::from_millis(10 * tick);
            while self.net.step(until) {
                self.work();
            }
            look(10 * tick, &self.info(0));
        }
        let percent = |bytes: u64| bytes * 8 * 1000 / ms * 100 / self.rate;
        let flows = self.flows.iter().zip(before);
        flows.map(|(flow, before)| percent(flow.received - before)).collect()
    }

    fn info(&mut self, flow: usize) -> TcpInfo {
        let sender = self.flows[flow].sender;
        self.net.sock(0, sender).unwrap().info().unwrap()
    }
}

#[test]
fn it_fills_the_link_and_keeps_the_queue_short() {
    let mut run = Run::new("bbr", link(100, 0.0, 4));
    run.run(1000, |_, _| {});
    let (mut most, mut sum, mut n) = (0, 0, 0);
    let rate = run.run(5000, |_, info| {
        most = most.max(info.rtt);
        (sum, n) = (sum + u64::from(info.rtt), n + 1);
    });
    assert!(rate[0] >= 90, "{rate:?}");
    let mean = sum / n;
    assert!(mean < RTT_MS * 1000 * 5 / 4, "{mean} µs");
    assert!(u64::from(most) < RTT_MS * 1000 * 5 / 2, "{most} µs");
    let info = run.info(0).bbr.expect("BBR tells of itself");
    assert!((38_000..=42_000).contains(&info.min_rtt), "{info:?}");
    assert!((info.bw * 8).abs_diff(run.rate) < run.rate / 10, "{info:?}");
}

#[test]
fn one_percent_of_random_loss_costs_bbr_little_and_reno_most() {
    let rate = |cc, ms| {
        let mut run = Run::new(cc, link(100, 0.01, 2));
        run.run(1000, |_, _| {});
        run.run(ms, |_, _| {})[0]
    };
    let (bbr, reno) = (rate("bbr", 8000), rate("reno", 8000));
    assert!(bbr >= 80, "{bbr}");
    assert!(reno <= 20, "{reno}");
}

#[test]
fn two_share_the_link() {
    let mut run = Run::new("bbr", link(20, 0.0, 2));
    run.run(3000, |_, _| {});
    run.open();
    run.run(17_000, |_, _| {});
    let rate = run.run(20_000, |_, _| {});
    assert!(rate[0] + rate[1] >= 90, "{rate:?}");
    assert!(rate.iter().all(|r| *r >= 30), "{rate:?}");
}

#[test]
fn it_shrinks_for_a_moment_every_five_seconds_to_see_the_least_rtt() {
    let mut run = Run::new("bbr", link(20, 0.0, 2));
    let mut probes = Vec::new();
    let mut small = false;
    run.run(21_000, |at, info| {
        let bbr = info.bbr.expect("BBR tells of itself");
        let probing = bbr.cwnd_gain == 128;
        if probing && !small {
            probes.push(at);
        }
        if probing {
            assert!(info.snd_cwnd <= 100, "{}", info.snd_cwnd);
        }
        small = probing;
    });
    assert!((3..=4).contains(&probes.len()), "{probes:?}");
    assert!(probes[0].abs_diff(5000) < 1000, "{probes:?}");
}

#[test]
fn a_socket_chooses_it_and_leaves_it() {
    let mut run = Run::new("cubic", link(20, 0.0, 2));
    let sender = run.flows[0].sender;
    let set = |run: &mut Run, name| {
        let option = SockOption::Congestion(estab_engine::proto::diag::CcName::new(name));
        run.net.sock(0, sender).unwrap().set_option(option)
    };
    assert!(run.info(0).bbr.is_none());
    set(&mut run, "bbr").unwrap();
    let rate = run.run(5000, |_, _| {});
    assert!(rate[0] >= 80, "{rate:?}");
    assert!(run.info(0).bbr.is_some());
    set(&mut run, "reno").unwrap();
    let rate = run.run(5000, |_, _| {});
    assert!(rate[0] >= 80, "{rate:?}");
    assert!(set(&mut run, "vegas").is_err());
}
