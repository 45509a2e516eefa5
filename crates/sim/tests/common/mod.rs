//! Flows that share one link, on virtual time: each figure is exact and repeats.

use estab_engine::proto::TcpInfo;
use estab_engine::{Config, Event, Family, IfaceConfig, Instant, Kind, Medium, RecvFlags, SendFlags, SocketId, Stack};
use estab_sim::{Host, LinkConfig, Net};
use std::net::SocketAddr;
use std::time::Duration;

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

pub(crate) struct Flow {
    pub(crate) sender: SocketId,
    receiver: SocketId,
    received: u64,
}

/// Host 0 sends to host 1 as much as goes.
pub(crate) struct Run {
    pub(crate) net: Net,
    /// Bits per second of the link.
    pub(crate) rate: u64,
    listener: SocketId,
    pub(crate) flows: Vec<Flow>,
}

const SERVER: &str = "10.0.0.2:80";

impl Run {
    /// `flows` that begin together, the first of them a moment ahead.
    pub(crate) fn new(cc: &str, data: LinkConfig, flows: usize) -> Run {
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
        run.open(flows);
        run
    }

    /// So many flows more.
    pub(crate) fn open(&mut self, flows: usize) {
        let (to, listener): (SocketAddr, _) = (SERVER.parse().unwrap(), self.listener);
        let connect = |_| {
            let sender = self.net.host(0).stack.socket(Family::V4, Kind::Stream).unwrap();
            self.net.sock(0, sender).unwrap().connect(to).unwrap();
            sender
        };
        let senders: Vec<SocketId> = (0..flows).map(connect).collect();
        let first = self.flows.len();
        for sender in senders {
            let receiver = loop {
                if let Ok((id, _)) = self.net.sock(1, listener).unwrap().accept() {
                    break id;
                }
                assert!(self.net.step(Instant::from_millis(600_000)), "it never connects");
                self.work();
            };
            self.flows.push(Flow {
                sender,
                receiver,
                received: 0,
            });
        }
        (first..self.flows.len()).for_each(|flow| self.write(flow));
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
    pub(crate) fn run(&mut self, ms: u64, mut look: impl FnMut(u64, &TcpInfo)) -> Vec<u64> {
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

    pub(crate) fn info(&mut self, flow: usize) -> TcpInfo {
        let sender = self.flows[flow].sender;
        self.net.sock(0, sender).unwrap().info().unwrap()
    }
}
