//! What a stack at work allocates: nothing per packet, nothing per connection.

use estab_engine::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

/// Counts this thread's allocations.
struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    COUNT.with(|count| count.set(count.get() + 1));
}

// SAFETY: everything is handed to the system's allocator as it came; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: likewise.
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: likewise.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` allocates.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

/// Two stacks; packets go straight from one to the other.
struct Two {
    now: Instant,
    stacks: [Stack; 2],
    ifaces: [IfaceId; 2],
    buf: Vec<u8>,
    data: Vec<u8>,
    listener: SocketId,
}

impl Two {
    fn new() -> Two {
        let mut ifaces = Vec::new();
        let now = Instant::from_millis(1);
        let mut stacks = [1u8, 2].map(|n| {
            let mut stack = Stack::new(
                Instant::ZERO,
                Config {
                    seed: [n; 32],
                    memory: 1 << 30,
                    unix_time: 0,
                },
            );
            let iface = stack.add_iface(IfaceConfig {
                name: "test",
                mtu: 1500,
                medium: Medium::Ip,
                gso_max_size: 0,
                csum_offload: false,
                transparent: false,
            });
            stack.add_addr(iface, [10, 0, 0, n].into(), 24).unwrap();
            ifaces.push(iface);
            stack
        });
        let listener = stacks[1].socket(Family::V4, Kind::Stream).unwrap();
        let mut sock = stacks[1].sock(now, listener).unwrap();
        sock.bind(([10, 0, 0, 2], 80).into()).unwrap();
        sock.listen(10).unwrap();
        Two {
            now,
            stacks,
            ifaces: [ifaces[0], ifaces[1]],
            buf: vec![0; 2000],
            data: vec![7; 64 << 10],
            listener,
        }
    }

    fn sock(&mut self, side: usize, id: SocketId) -> Sock<'_> {
        self.stacks[side].sock(self.now, id).unwrap()
    }

    /// Carries packets until none is left; then 100 µs pass.
    fn exchange(&mut self) {
        let mut moved = true;
        while core::mem::take(&mut moved) {
            for from in [0, 1] {
                while let Some(t) = self.stacks[from].poll_transmit(self.now, &mut self.buf) {
                    let packet = &self.buf[..t.len];
                    self.stacks[1 - from].handle_packet(self.now, self.ifaces[1 - from], packet, RxMeta::default());
                    moved = true;
                }
                while self.stacks[from].poll_event().is_some() {}
            }
        }
        self.now += Duration::from_micros(100);
        for stack in &mut self.stacks {
            stack.handle_timeout(self.now);
        }
    }

    fn open(&mut self) -> (SocketId, SocketId) {
        let a = self.stacks[0].socket(Family::V4, Kind::Stream).unwrap();
        self.sock(0, a).connect(([10, 0, 0, 2], 80).into()).unwrap();
        self.exchange();
        let listener = self.listener;
        let (b, _) = self.sock(1, listener).accept().unwrap();
        (a, b)
    }

    /// `n` bytes from one side to the other.
    fn carry(&mut self, from: usize, a: SocketId, b: SocketId, n: usize) {
        let (mut sent, mut got) = (0, 0);
        while got < n {
            let data = core::mem::take(&mut self.data);
            let part = data.len().min(n - sent);
            sent += self
                .sock(from, a)
                .send(&data[..part], SendFlags::default())
                .unwrap_or(0);
            self.data = data;
            self.exchange();
            let mut sink = core::mem::take(&mut self.data);
            while let Ok(n @ 1..) = self.sock(1 - from, b).recv(&mut sink, RecvFlags::default()) {
                got += n;
            }
            self.data = sink;
        }
        assert_eq!(got, n);
    }

    fn close(&mut self, a: SocketId, b: SocketId) {
        self.sock(0, a).close();
        self.exchange();
        self.sock(1, b).close();
        self.exchange();
    }
}

#[test]
fn packets_cost_no_allocation() {
    let mut two = Two::new();
    let (a, b) = two.open();
    // Until windows, buffers and pools have their size.
    (0..3).for_each(|_| two.carry(0, a, b, 16 << 20));
    let bulk = allocations(|| two.carry(0, a, b, 16 << 20));
    assert_eq!(bulk, 0, "16 MiB in full segments");
    let talk = |two: &mut Two| {
        two.carry(0, a, b, 64);
        two.carry(1, b, a, 64);
    };
    (0..10).for_each(|_| talk(&mut two));
    let dialogue = allocations(|| (0..1000).for_each(|_| talk(&mut two)));
    assert_eq!(dialogue, 0, "1,000 requests and replies");
}

#[test]
fn connections_cost_no_allocation() {
    let mut two = Two::new();
    two.stacks[0].set_sysctl("net.ipv4.tcp_max_tw_buckets", "0").unwrap();
    let whole = |two: &mut Two| {
        let (a, b) = two.open();
        two.carry(0, a, b, 64);
        two.carry(1, b, a, 64);
        two.close(a, b);
    };
    (0..1000).for_each(|_| whole(&mut two));
    let all = allocations(|| (0..1000).for_each(|_| whole(&mut two)));
    assert_eq!(all, 0, "1,000 connections opened, used and closed");
}
