//! What an enemy may send: nothing panics, nothing grows without bound, and honest work goes on beside it.

mod common;

use common::*;
use estab_engine::*;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// xorshift64*: the same numbers each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n.max(1)
    }
}

/// Puts the IPv4 header's checksum right, so that the damage gets past it.
fn mend(bytes: &mut [u8]) {
    if bytes.len() < 20 || bytes[0] != 0x45 {
        return;
    }
    bytes[10..12].fill(0);
    let sum: u32 = bytes[..20]
        .chunks(2)
        .map(|w| u32::from(w[0]) << 8 | u32::from(w[1]))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
}

const VERIFIED: RxMeta = RxMeta {
    csum: RxCsum::Verified,
    gso_size: None,
};

/// Connections open, carry data and close while damaged copies of all they send rain on both ends.
#[test]
fn damaged_copies_of_real_traffic_do_no_harm() {
    for seed in 1..4 {
        let mut pair = Pair::new();
        let heard: Rc<RefCell<Vec<Vec<u8>>>> = Rc::default();
        for link in &mut pair.links {
            let heard = heard.clone();
            *link = Box::new(move |bytes| {
                let mut heard = heard.borrow_mut();
                if heard.len() < 400 {
                    heard.push(bytes.to_vec());
                }
                Some(Duration::from_millis(3))
            });
        }
        let mut random = Random(seed);
        let listener = pair.listen(B, 80, 16);
        let mut socks = Vec::new();
        for round in 0..400 {
            match random.below(6) {
                0 if socks.len() < 20 => socks.push((A, pair.connect(A, addr(B_ADDR, 80)))),
                1 if !socks.is_empty() => {
                    let (host, id) = socks.swap_remove(random.below(socks.len()));
                    pair.close(host, id);
                }
                2 => {
                    if let Ok((id, _)) = pair.sock(B, listener).accept() {
                        socks.push((B, id));
                    }
                }
                _ => {}
            }
            for (host, id) in socks.clone() {
                let _ = pair.send(host, id, &[round as u8; 3000]);
                let _ = pair.recv(host, id);
            }
            for _ in 0..30 {
                let Some(mut bytes) = ({
                    let heard = heard.borrow();
                    heard.get(random.below(heard.len())).cloned()
                }) else {
                    break;
                };
                for _ in 0..random.below(4) {
                    let len = bytes.len();
                    bytes[random.below(len)] = random.next() as u8;
                }
                mend(&mut bytes);
                let to = random.below(2);
                let meta = RxMeta {
                    gso_size: (random.below(8) == 0).then_some(random.below(2000) as u16),
                    ..VERIFIED
                };
                let (now, host) = (pair.now, &mut pair.hosts[to]);
                host.stack.handle_packet(now, host.iface, &bytes, meta);
            }
            heard.borrow_mut().truncate(200);
            pair.run_ms(random.below(40) as u64);
        }
        for (host, id) in socks {
            pair.close(host, id);
        }
        // What was left half open gives up; then both have let go of everything.
        pair.run_s(1500);
        pair.sock(B, listener).close();
        pair.run_s(1500);
        for host in &pair.hosts {
            let left: Vec<_> = host.stack.diag(pair.now).map(|d| d.state).collect();
            assert!(left.is_empty(), "seed {seed}: {left:?} stay behind");
        }
    }
}

/// A TCP segment of 10.9.x.y to 10.0.0.2:80 of random kind.
fn segment(random: &mut Random) -> Vec<u8> {
    let options = 4 * random.below(11);
    let payload = if random.below(3) == 0 { random.below(1400) } else { 0 };
    let total = 40 + options + payload;
    let mut bytes = vec![0; total];
    bytes[0] = 0x45;
    bytes[2..4].copy_from_slice(&(total as u16).to_be_bytes());
    (bytes[8], bytes[9]) = (64, 6);
    bytes[12..16].copy_from_slice(&[10, 9, random.below(256) as u8, random.next() as u8]);
    bytes[16..20].copy_from_slice(&[10, 0, 0, 2]);
    for byte in &mut bytes[20..] {
        *byte = random.next() as u8;
    }
    bytes[22..24].copy_from_slice(&80u16.to_be_bytes());
    bytes[32] = ((5 + options / 4) << 4) as u8;
    // SYNs mostly: they are what costs.
    bytes[33] = match random.below(4) {
        0 => random.next() as u8,
        1 => 0x10,
        _ => 0x02,
    };
    mend(&mut bytes);
    bytes
}

#[test]
fn a_flood_of_random_segments_costs_a_bounded_memory_and_shuts_nobody_out() {
    let mut pair = Pair::new();
    pair.hosts[B]
        .stack
        .add_route("0.0.0.0".parse().unwrap(), 0, None, IfaceId(0))
        .unwrap();
    let listener = pair.listen(B, 80, 128);
    let mut random = Random(7);
    let mut buf = vec![0; 70_000];
    let mut most = 0;
    for n in 0..50_000 {
        let bytes = segment(&mut random);
        let (now, host) = (pair.now, &mut pair.hosts[B]);
        host.stack.handle_packet(now, host.iface, &bytes, VERIFIED);
        while host.stack.poll_transmit(now, &mut buf).is_some() {}
        if n % 1000 == 0 {
            most = most.max(host.stack.memory_used());
            pair.now += Duration::from_millis(10);
            let now = pair.now;
            pair.hosts[B].stack.handle_timeout(now);
            while pair.hosts[B].stack.poll_event().is_some() {}
        }
    }
    assert!(most < 1 << 20, "{most} bytes");
    assert!(pair.hosts[B].counter("TcpExtSyncookiesSent") > 5_000);
    // An honest client among them.
    let client = pair.connect(A, addr(B_ADDR, 80));
    pair.run_ms(200);
    pair.send(A, client, b"hello").unwrap();
    pair.run_ms(200);
    let (accepted, _) = pair.sock(B, listener).accept().unwrap();
    assert_eq!(pair.recv(B, accepted).unwrap(), b"hello");
}
