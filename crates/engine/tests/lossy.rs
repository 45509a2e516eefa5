//! Whole lives of connections over links that lose, delay, reorder and duplicate: every byte arrives once, in order, and
//! both ends end.

mod common;

use common::*;
use estab_engine::proto::State;
use estab_engine::*;
use std::time::Duration;

/// A small generator: tests need their own, the same each run.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % sides
    }
}

fn link(seed: u64, loss: u64, reorder: u64) -> Link {
    let mut dice = Dice(seed);
    Box::new(move |_| {
        if dice.roll(1000) < loss {
            return None;
        }
        let late = if dice.roll(1000) < reorder { dice.roll(30) } else { 0 };
        Some(Duration::from_millis(10 + late))
    })
}

fn byte(stream: u8, at: usize) -> u8 {
    (at as u32).wrapping_mul(2654435761).to_be_bytes()[0] ^ stream
}

/// One direction of one connection: what was written, and what was read and found right.
struct Stream {
    tag: u8,
    total: usize,
    written: usize,
    read: usize,
    shut: bool,
    ended: bool,
}

impl Stream {
    fn new(tag: u8, total: usize) -> Stream {
        Stream {
            tag,
            total,
            written: 0,
            read: 0,
            shut: false,
            ended: false,
        }
    }

    fn write(&mut self, p: &mut Pair, host: usize, id: SocketId, most: usize) {
        while self.written < self.total {
            let n = (self.total - self.written).min(most);
            let data: Vec<u8> = (self.written..self.written + n).map(|at| byte(self.tag, at)).collect();
            match p.send(host, id, &data) {
                Ok(n) => self.written += n,
                Err(SockError::EAGAIN) => return,
                Err(error) => panic!("write: {error}"),
            }
        }
        if !self.shut {
            self.shut = true;
            p.sock(host, id).shutdown(Shutdown::Write).unwrap();
        }
    }

    fn read(&mut self, p: &mut Pair, host: usize, id: SocketId) {
        loop {
            match p.recv(host, id) {
                Ok(bytes) if bytes.is_empty() => {
                    assert_eq!(self.read, self.total);
                    self.ended = true;
                    return;
                }
                Ok(bytes) => {
                    for b in bytes {
                        assert_eq!(b, byte(self.tag, self.read), "byte {}", self.read);
                        self.read += 1;
                    }
                }
                Err(SockError::EAGAIN) => return,
                Err(error) => panic!("read at {}: {error}", self.read),
            }
        }
    }
}

fn life(seed: u64, loss: u64, reorder: u64, there: usize, back: usize, setup: impl Fn(&mut Pair)) -> Pair {
    let mut p = Pair::new();
    setup(&mut p);
    p.links = [link(seed, loss, reorder), link(seed + 1, loss, reorder)];
    let listener = p.listen(B, 80, 10);
    let a = p.connect(A, addr(B_ADDR, 80));
    let mut b = None;
    let (mut up, mut down) = (Stream::new(1, there), Stream::new(2, back));
    let mut dice = Dice(seed);
    for _ in 0..200_000 {
        p.run_ms(5);
        let b = match b {
            Some(b) => b,
            None => match p.sock(B, listener).accept() {
                Ok((id, _)) => *b.insert(id),
                Err(_) => continue,
            },
        };
        if p.state(A, a) == State::SynSent {
            continue;
        }
        let most = 1 + dice.roll(20_000) as usize;
        up.write(&mut p, A, a, most);
        down.write(&mut p, B, b, most);
        // A reader that pauses now and then closes the window.
        if dice.roll(4) > 0 {
            up.read(&mut p, B, b);
            down.read(&mut p, A, a);
        }
        if up.ended && down.ended {
            break;
        }
    }
    assert!(
        up.ended && down.ended,
        "seed {seed}: stalled at {} and {}",
        up.read,
        down.read
    );
    p.close(A, a);
    p.close(B, b.unwrap());
    p.run_s(200);
    assert_eq!(p.hosts[A].states(p.now), []);
    assert_eq!(p.hosts[B].states(p.now), []);
    assert!(p.hosts[A].events.contains(&Event::Closed(a)));
    p
}

#[test]
fn clean_links() {
    life(1, 0, 0, 2_000_000, 300_000, |_| {});
}

#[test]
fn loss() {
    for seed in 0..6 {
        life(seed, 20, 0, 300_000, 100_000, |_| {});
    }
}

#[test]
fn heavy_loss_and_reordering() {
    for seed in 10..18 {
        life(seed, 100, 100, 60_000, 60_000, |_| {});
    }
}

#[test]
fn without_timestamps_sack_or_window_scaling() {
    for (n, knob) in ["tcp_timestamps", "tcp_sack", "tcp_window_scaling"].iter().enumerate() {
        life(20 + n as u64, 50, 50, 60_000, 60_000, |p| {
            p.hosts[A].sysctl(&format!("net.ipv4.{knob}"), "0");
        });
    }
}

#[test]
fn small_buffers() {
    for seed in 30..34 {
        life(seed, 30, 30, 60_000, 60_000, |p| {
            for host in [A, B] {
                p.hosts[host].sysctl("net.ipv4.tcp_rmem", "4096 8192 8192");
                p.hosts[host].sysctl("net.ipv4.tcp_wmem", "4096 8192 8192");
            }
        });
    }
}

/// Loss, disorder and ACKs of many segments are not taken for marks, of which there are none.
#[test]
fn with_accurate_ecn() {
    for (seed, option) in [(40, "2"), (41, "2"), (42, "1"), (43, "1")] {
        let p = life(seed, 30, 30, 200_000, 60_000, |p| {
            for host in [A, B] {
                p.hosts[host].sysctl("net.ipv4.tcp_ecn", "3");
                p.hosts[host].sysctl("net.ipv4.tcp_ecn_option", option);
            }
        });
        for host in [A, B] {
            let marks = p.hosts[host].counter("TcpExtTCPDeliveredCE");
            assert_eq!(marks, 0, "seed {seed}, tcp_ecn_option {option}");
        }
    }
}
