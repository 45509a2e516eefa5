//! Two stacks in memory: how fast bytes and connections go through both.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use estab_engine::*;
use std::hint::black_box;

struct Two {
    now: Instant,
    stacks: [Stack; 2],
    ifaces: [IfaceId; 2],
    buf: Vec<u8>,
}

impl Two {
    fn new(gso: u32) -> Two {
        let mut ifaces = Vec::new();
        let stacks = [1u8, 2].map(|n| {
            let mut stack = Stack::new(
                Instant::ZERO,
                Config {
                    seed: [n; 32],
                    memory: 8 << 30,
                    unix_time: 0,
                },
            );
            let iface = stack.add_iface(IfaceConfig {
                name: "bench",
                mtu: 1500,
                medium: Medium::Ip,
                gso_max_size: gso,
                csum_offload: gso > 0,
                transparent: false,
            });
            ifaces.push(iface);
            stack.add_addr(iface, [10, 0, 0, n].into(), 24).unwrap();
            stack
        });
        Two {
            now: Instant::from_millis(1),
            stacks,
            ifaces: [ifaces[0], ifaces[1]],
            buf: vec![0; 70_000],
        }
    }

    /// Carries packets until none is left.
    fn exchange(&mut self) {
        loop {
            let mut moved = false;
            for from in [0, 1] {
                while let Some(t) = self.stacks[from].poll_transmit(self.now, &mut self.buf) {
                    let meta = RxMeta {
                        csum: match t.csum {
                            CsumTx::Full => RxCsum::Unchecked,
                            CsumTx::Partial { .. } => RxCsum::Partial,
                        },
                        gso_size: t.gso,
                    };
                    self.stacks[1 - from].handle_packet(self.now, self.ifaces[1 - from], &self.buf[..t.len], meta);
                    moved = true;
                }
                while self.stacks[from].poll_event().is_some() {}
            }
            if !moved {
                return;
            }
        }
    }

    fn tick(&mut self, us: u64) {
        self.now += std::time::Duration::from_micros(us);
        for stack in &mut self.stacks {
            if stack.poll_timeout().is_some_and(|at| at <= self.now) {
                stack.handle_timeout(self.now);
            }
        }
    }

    fn listen(&mut self) -> SocketId {
        let id = self.stacks[1].socket(Family::V4, Kind::Stream).unwrap();
        let mut sock = self.stacks[1].sock(self.now, id).unwrap();
        sock.bind("10.0.0.2:80".parse().unwrap()).unwrap();
        sock.listen(1000).unwrap();
        id
    }

    fn open(&mut self, listener: SocketId) -> (SocketId, SocketId) {
        let a = self.stacks[0].socket(Family::V4, Kind::Stream).unwrap();
        self.stacks[0]
            .sock(self.now, a)
            .unwrap()
            .connect("10.0.0.2:80".parse().unwrap())
            .unwrap();
        self.exchange();
        let (b, _) = self.stacks[1].sock(self.now, listener).unwrap().accept().unwrap();
        (a, b)
    }
}

fn bytes(c: &mut Criterion) {
    let mut group = c.benchmark_group("bytes");
    const BYTES: usize = 4 << 20;
    group.throughput(Throughput::Bytes(BYTES as u64));
    for (name, gso) in [("super-packets", 65_535), ("packets", 0)] {
        let mut two = Two::new(gso);
        let listener = two.listen();
        let (a, b) = two.open(listener);
        let data = vec![7; 256 << 10];
        let mut sink = vec![0; 256 << 10];
        group.bench_function(name, |bench| {
            bench.iter(|| {
                let (mut sent, mut got) = (0, 0);
                while got < BYTES {
                    let n = data.len().min(BYTES - sent);
                    if n > 0 {
                        let mut sock = two.stacks[0].sock(two.now, a).unwrap();
                        sent += sock.send(&data[..n], SendFlags::default()).unwrap_or(0);
                    }
                    two.exchange();
                    let mut sock = two.stacks[1].sock(two.now, b).unwrap();
                    while let Ok(n @ 1..) = sock.recv(&mut sink, RecvFlags::default()) {
                        got += n;
                    }
                    two.exchange();
                    two.tick(50);
                }
                black_box(got)
            });
        });
    }
    group.finish();
}

fn connections(c: &mut Criterion) {
    let mut two = Two::new(0);
    two.stacks[0].set_sysctl("net.ipv4.tcp_max_tw_buckets", "0").unwrap();
    let listener = two.listen();
    c.bench_function("connection opened, used and closed", |bench| {
        bench.iter(|| {
            let (a, b) = two.open(listener);
            two.stacks[0]
                .sock(two.now, a)
                .unwrap()
                .send(b"x", SendFlags::default())
                .unwrap();
            two.exchange();
            let mut buf = [0; 16];
            two.stacks[1]
                .sock(two.now, b)
                .unwrap()
                .recv(&mut buf, RecvFlags::default())
                .unwrap();
            two.stacks[0].sock(two.now, a).unwrap().close();
            two.exchange();
            two.stacks[1].sock(two.now, b).unwrap().close();
            two.exchange();
            two.tick(100);
        });
    });
}

criterion_group!(benches, bytes, connections);
criterion_main!(benches);
