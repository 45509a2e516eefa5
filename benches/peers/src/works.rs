//! The works, each the same for all subjects that are two [`Ends`].

use crate::ends::{End, Ends, Packet, Setup, syn};
use anyhow::{Context, Result, bail, ensure};
use peers_common::{Plan, Sample, cpu_time};
use std::net::Ipv4Addr;
use std::time::Duration;

/// A small message, each way.
const MESSAGE: usize = 64;

/// Does `work` at `point`, and prints its samples.
pub fn run<E: Ends>(work: &str, point: u64, plan: &Plan) -> Result<()> {
    let done = match work {
        "bulk" => bulk::<E>(point, plan),
        "conn" => conn::<E>(point, plan),
        "rr" => rr::<E>(point, plan),
        "flood" => flood::<E>(point, plan),
        "idle" | "halfopen" | "timewait" => memory::<E>(work, point),
        _ => bail!("{work}: no such work; there are bulk, conn, rr, flood, idle, halfopen and timewait"),
    };
    match done {
        Ok(samples) => samples.iter().for_each(Sample::print),
        Err(e) => Sample::failed(work, point, unit(work), format!("{e:#}")).print(),
    }
    Ok(())
}

fn unit(work: &str) -> &'static str {
    match work {
        "idle" | "halfopen" | "timewait" => "bytes",
        _ => "ns",
    }
}

/// One stream, at an MTU of `mtu`: nanoseconds per 1460 bytes.
fn bulk<E: Ends>(mtu: u64, plan: &Plan) -> Result<Vec<Sample>> {
    const ROUND: usize = 1 << 20;
    let setup = Setup {
        mtu: mtu as usize,
        buffer: 256 << 10,
        ..Setup::small(1)
    };
    let mut ends = E::new(setup)?;
    let conn = ends.open()?;
    let data: Vec<u8> = (0..64 << 10).map(|i| (i % 251) as u8).collect();
    let mut sink = vec![0; 64 << 10];
    let mut verify = true;
    let mut round = || -> Result<()> {
        let (mut sent, mut got, mut idle) = (0, 0, 0);
        while got < ROUND {
            while sent < ROUND {
                let from = sent % data.len();
                match ends.send(conn, End::Client, &data[from..])? {
                    0 => break,
                    n => sent += n,
                }
            }
            ends.carry()?;
            let before = got;
            loop {
                match ends.recv(conn, End::Server, &mut sink)? {
                    0 => break,
                    n if verify => {
                        let right = (0..n).all(|i| sink[i] == data[(got + i) % data.len()]);
                        ensure!(right, "bytes changed on their way");
                        got += n;
                    }
                    n => got += n,
                }
            }
            idle = if got > before { 0 } else { idle + 1 };
            ensure!(idle < 100_000, "the stream stalled");
            ends.pass(Duration::from_micros(10))?;
        }
        ensure!(got == ROUND, "{got} bytes came of {ROUND}");
        verify = false;
        Ok(())
    };
    let per_round = plan.ns_per_op(&mut round)?;
    let per_1460 = per_round.iter().map(|ns| ns * 1460.0 / ROUND as f64).collect();
    Ok(vec![Sample::of("bulk", mtu, "ns", per_1460)])
}

/// A message over, and one back.
fn exchange<E: Ends>(ends: &mut E, conn: E::Conn) -> Result<()> {
    let message = [7; MESSAGE];
    let mut buf = [0; 2 * MESSAGE];
    for (from, to) in [(End::Client, End::Server), (End::Server, End::Client)] {
        ensure!(
            ends.send(conn, from, &message)? == MESSAGE,
            "{from:?} took less than 64 bytes"
        );
        ends.carry()?;
        let got = ends.recv(conn, to, &mut buf)?;
        ensure!(got == MESSAGE, "{got} bytes of 64 came from {from:?}");
    }
    Ok(())
}

/// Connect, accept, 64 bytes each way, close.
fn whole<E: Ends>(ends: &mut E) -> Result<()> {
    let conn = ends.open()?;
    exchange(ends, conn)?;
    ends.close(conn)
}

/// Whole connections while `held` TIME_WAITs are held: as one comes, the oldest goes.
fn conn<E: Ends>(held: u64, plan: &Plan) -> Result<Vec<Sample>> {
    let mut ends = E::new(Setup::small(held as usize))?;
    ensure!(
        held == 0 || ends.holds_time_waits(),
        "it only serves: its client holds them"
    );
    for n in 0..held {
        whole(&mut ends).with_context(|| format!("with {n} TIME_WAITs held"))?;
    }
    let pause = match (ends.time_wait(), held) {
        (None, _) => Duration::ZERO,
        (Some(lasts), 0) => lasts + Duration::from_secs(1),
        (Some(lasts), held) => lasts / held as u32,
    };
    let ns = plan.ns_per_op(|| {
        whole(&mut ends)?;
        ends.pass(pause)
    })?;
    Ok(vec![Sample::of("conn", held, "ns", ns)])
}

/// 64 bytes over and 64 back on one of `n` connections, another one each time.
fn rr<E: Ends>(n: u64, plan: &Plan) -> Result<Vec<Sample>> {
    let mut ends = E::new(Setup::small(n as usize))?;
    let mut conns = Vec::new();
    let most = ends.most();
    ensure!(most >= n / 10 * 9, "there can be {most} connections");
    for i in 0..n.min(most) {
        let conn = ends.open().with_context(|| format!("with {i} connections open"))?;
        conns.push(conn);
        ends.pass(Duration::from_micros(1))?;
    }
    for &conn in conns.iter().take(10_000) {
        exchange(&mut ends, conn)?;
    }
    let mut random = Random(1);
    let ns = plan.ns_per_op(|| {
        let conn = conns[random.below(conns.len())];
        exchange(&mut ends, conn)?;
        ends.pass(Duration::from_micros(1))
    })?;
    let sample = Sample::of("rr", n, "ns", ns);
    Ok(vec![if most < n {
        sample.noted(format!("with {most}, the most there can be"))
    } else {
        sample
    }])
}

/// SYNs from everywhere, 100,000 a second, while 100 honest clients connect and exchange 64 bytes each way. Nanoseconds per
/// SYN, the clients' included, and how many of them were served.
fn flood<E: Ends>(syns: u64, plan: &Plan) -> Result<Vec<Sample>> {
    const CLIENTS: u64 = 100;
    const BURST: usize = 64;
    let mut random = Random(7);
    let foreign: Vec<Packet> = (0..64 * 1024)
        .map(|_| {
            let from = Ipv4Addr::from(0x0b00_0000 + random.below(1 << 24) as u32);
            syn(from, 1024 + random.below(60_000) as u16, random.next() as u32)
        })
        .collect();
    let (mut costs, mut served_least) = (Vec::new(), CLIENTS);
    for _ in 0..plan.runs {
        let mut ends = E::new(Setup::small(1))?;
        whole(&mut ends)?;
        let (mut served, mut begun) = (0, Vec::new());
        let (mut given, mut bursts) = (0, foreign.chunks(BURST).cycle());
        let begin = cpu_time();
        // Clients come evenly; after the flood the last ones have three seconds.
        while given < syns || given < syns + 300_000 && !begun.is_empty() {
            if given < syns {
                ends.inject(bursts.next().context("no SYNs")?)?;
                let due = |given: u64| given * CLIENTS / syns;
                if due(given + BURST as u64) > due(given) {
                    begun.push(ends.begin()?);
                }
            }
            given += BURST as u64;
            ends.pass(Duration::from_micros(10) * BURST as u32)?;
            let mut waiting = Vec::new();
            for mut client in begun {
                match ends.finish(&mut client) {
                    Ok(Some(conn)) => served += u64::from(exchange(&mut ends, conn).is_ok()),
                    Ok(None) => waiting.push(client),
                    Err(_) => {} // refused
                }
            }
            begun = waiting;
        }
        let spent = cpu_time() - begin;
        costs.push(spent.as_nanos() as f64 / syns.next_multiple_of(BURST as u64) as f64);
        served_least = served_least.min(served);
    }
    Ok(vec![
        Sample::of("flood", syns, "ns", costs),
        Sample::of("served", syns, "count", vec![served_least as f64]),
    ])
}

/// Growth of resident memory for each of `n`: idle connections (each of their two ends), half-open ones, TIME_WAITs.
fn memory<E: Ends>(what: &str, point: u64) -> Result<Vec<Sample>> {
    let mut ends = E::new(Setup {
        backlog: point as usize + Setup::BACKLOG,
        ..Setup::small(point as usize)
    })?;
    ensure!(
        what != "timewait" || ends.holds_time_waits(),
        "it only serves: its client holds them"
    );
    let n = if what == "idle" {
        point.min(ends.most() - 100)
    } else {
        point
    };
    let mut kept = Vec::with_capacity(n as usize + 100);
    let mut add = |ends: &mut E, count: u64| -> Result<()> {
        for i in 0..count {
            match what {
                "idle" => {
                    let conn = ends.open()?;
                    exchange(ends, conn)?;
                    kept.push(conn);
                    ends.pass(Duration::from_micros(1))?;
                }
                "timewait" => whole(ends)?,
                _ => {
                    let from = Ipv4Addr::from(0x0b00_0000 + (count + i) as u32);
                    ends.inject(&[syn(from, 4000, i as u32)])?;
                }
            }
        }
        Ok(())
    };
    add(&mut ends, 100)?;
    let before = ends.memory();
    add(&mut ends, n)?;
    let each = if what == "idle" { 2 * n } else { n };
    let growth = ends.memory().saturating_sub(before);
    Ok(vec![Sample::of(
        what,
        point,
        "bytes",
        vec![growth as f64 / each as f64],
    )])
}

/// A small generator (xorshift64*): the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}
