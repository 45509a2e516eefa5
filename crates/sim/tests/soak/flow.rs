//! One connection: what its two applications write and read, and whether it gets on.

use crate::dice::Dice;
use crate::weather::SLOWEST;
use estab_engine::proto::{SockDiag, TimerKind};
use estab_engine::{Family, Instant, Kind, RecvFlags, SendFlags, Shutdown, SockError, SocketId};
use estab_sim::{Harmed, Net};
use std::hash::{DefaultHasher, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What a running timer does not account for: there and back, an ACK delayed as long as may be, and that progress is
/// looked for every 50 ms.
const SLACK: Duration = SLOWEST
    .saturating_mul(2)
    .saturating_add(Duration::from_millis(200 + 50));
/// Opens that fail do so no earlier: SYN-ACKs are given up after 63 s, SYNs after 127 s or more.
const OPEN_GIVEN_UP: Duration = Duration::from_secs(60);
/// What `tcp_retries2` 15 comes to.
const GIVEN_UP: Duration = Duration::from_millis(924_600);

/// How much each end writes, and how its reader reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    bytes: [u64; 2],
}

impl Plan {
    /// Both write until they are told to stop.
    pub(crate) fn endless() -> Plan {
        Plan { bytes: [u64::MAX; 2] }
    }

    /// A request and an answer of any size.
    pub(crate) fn short(dice: &mut Dice) -> Plan {
        Plan {
            bytes: [0, 1].map(|_| dice.spread(1, 4 << 20)),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Open,
    /// Both ends have read everything, and closed.
    Done,
    /// The handshake failed.
    Unopened,
    /// It was retransmitted for as long as `tcp_retries2` asks, and then the application was told. That happens to those
    /// without timestamps and SACK: a long blackout leaves them with a timeout of two minutes, and no measurement of a
    /// round trip to bring it down as long as every segment is a retransmission (RFC 6298 §3).
    GivenUp,
}

/// One application.
struct End {
    host: usize,
    id: Option<SocketId>,
    to_write: u64,
    written: u64,
    /// It has said that it writes no more.
    shut: bool,
    read: u64,
    eof: bool,
    hash: DefaultHasher,
    /// Bytes until it rests, and until when it does.
    read_until: u64,
    reads_from: Instant,
    write_until: u64,
    writes_from: Instant,
}

/// Whether what one end writes gets to the other.
#[derive(Default)]
struct Watch {
    progress: u64,
    since: Instant,
    /// By when there must be progress; `None` while there is nothing to do, or the reader does not read.
    deadline: Option<Instant>,
}

pub(crate) struct Flow {
    number: u64,
    port: u16,
    opened: Instant,
    listener: SocketId,
    ends: [End; 2],
    watches: [Watch; 2],
    dice: Dice,
    state: State,
    longest: Duration,
    buf: Vec<u8>,
    expected: Vec<u8>,
}

impl Flow {
    /// A client on host `client` connects to `server`, the other host's address.
    pub(crate) fn open(net: &mut Net, number: u64, client: usize, server: IpAddr, plan: Plan, dice: Dice) -> Flow {
        let now = net.now();
        let family = if server.is_ipv4() { Family::V4 } else { Family::V6 };
        let port = 1_000 + (number % 30_000) as u16;
        let server = SocketAddr::new(server, port);
        let socket = |net: &mut Net, host: usize| net.host(host).stack.socket(family, Kind::Stream);
        let listener = socket(net, 1 - client).expect("there is room for a socket");
        let mut sock = net.sock(1 - client, listener).expect("it is new");
        sock.bind(server).expect("the port is free");
        sock.listen(1).expect("it is bound");
        let id = socket(net, client).expect("there is room for a socket");
        net.sock(client, id)
            .expect("it is new")
            .connect(server)
            .expect("there is a route");
        let end = |host, id, to_write| End {
            host,
            id,
            to_write,
            written: 0,
            shut: false,
            read: 0,
            eof: false,
            hash: DefaultHasher::new(),
            read_until: 200_000,
            reads_from: now,
            write_until: 200_000,
            writes_from: now,
        };
        Flow {
            number,
            port,
            opened: now,
            listener,
            ends: [
                end(client, Some(id), plan.bytes[0]),
                end(1 - client, None, plan.bytes[1]),
            ],
            watches: Default::default(),
            dice,
            state: State::Open,
            longest: Duration::ZERO,
            buf: vec![0; 1 << 16],
            expected: vec![0; 1 << 16],
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn received(&self) -> u64 {
        self.ends.iter().map(|end| end.read).sum()
    }

    /// Of all that was read, by either end.
    pub(crate) fn digest(&self) -> u64 {
        self.ends[0].hash.finish() ^ self.ends[1].hash.finish().rotate_left(1)
    }

    /// The longest time without progress while there was something to do.
    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }

    /// Both ends write no more than they have; one byte where nothing was written, as ending an open that is under way
    /// ends the connection.
    pub(crate) fn finish(&mut self) {
        for end in &mut self.ends {
            end.to_write = end.to_write.min(end.written.max(1));
            end.writes_from = Instant::ZERO;
        }
    }

    /// Something may be possible on a socket of `host`.
    pub(crate) fn on_ready(&mut self, net: &mut Net, host: usize, id: SocketId) {
        if host == self.ends[1].host && id == self.listener && self.ends[1].id.is_none() {
            self.accept(net);
        }
        for end in [0, 1] {
            if self.ends[end].host == host && self.ends[end].id == Some(id) {
                self.pump(net, end);
            }
        }
    }

    fn accept(&mut self, net: &mut Net) {
        let host = self.ends[1].host;
        let mut listener = net.sock(host, self.listener).expect("the flow holds it");
        if let Ok((id, _)) = listener.accept() {
            listener.close();
            self.ends[1].id = Some(id);
            self.pump(net, 1);
        }
    }

    /// A packet was lost or corrupted, perhaps one of this connection's.
    pub(crate) fn on_harmed(&mut self, net: &mut Net, harmed: &Harmed) {
        let header = if harmed.packet[0] >> 4 == 4 { 20 } else { 40 };
        let port = |at: usize| u16::from_be_bytes([harmed.packet[header + at], harmed.packet[header + at + 1]]);
        if port(0) == self.port || port(2) == self.port {
            self.on_harm(net);
        }
    }

    /// A packet of this connection was lost: whatever had to come may now have to wait for the timer.
    pub(crate) fn on_harm(&mut self, net: &mut Net) {
        for end in [0, 1] {
            let bound = self.bound(net, end);
            if let Some(deadline) = &mut self.watches[end].deadline {
                *deadline = bound.max(*deadline);
            }
        }
    }

    /// Rests end, and stalls show.
    pub(crate) fn tick(&mut self, net: &mut Net) {
        for end in [0, 1] {
            self.pump(net, end);
        }
        // An end that has nothing more to write or read is told here.
        let error = |net: &mut Net, end: &End| net.sock(end.host, end.id?).ok()?.take_error();
        let errors = self.ends.each_ref().map(|end| error(net, end));
        if let Some(error) = errors.into_iter().flatten().next() {
            self.fail(net, error);
        }
        if self.state != State::Open {
            return;
        }
        for end in [0, 1] {
            self.watch(net, end);
        }
        let [client, server] = &self.ends;
        if client.eof && server.eof {
            for end in &self.ends {
                let id = end.id.expect("it has read to the end");
                net.sock(end.host, id).expect("the flow holds it").close();
            }
            self.state = State::Done;
        }
    }

    /// Writes and reads what can be.
    fn pump(&mut self, net: &mut Net, end: usize) {
        if self.state != State::Open {
            return;
        }
        if let Err(error) = self.write(net, end).and_then(|()| self.read(net, end)) {
            self.fail(net, error);
        }
    }

    /// Ends both ends: the error must be one that TCP owes its user.
    fn fail(&mut self, net: &mut Net, error: SockError) {
        let now = net.now();
        let age = now.since(self.opened);
        self.state = match error {
            _ if self.ends[1].id.is_none() && age >= OPEN_GIVEN_UP => State::Unopened,
            SockError::ETIMEDOUT if age >= GIVEN_UP => State::GivenUp,
            _ => panic!("connection {} failed at {now:?}: {error:?}", self.number),
        };
        let listener = (self.ends[1].host, Some(self.listener));
        for (host, id) in self.ends.iter().map(|end| (end.host, end.id)).chain([listener]) {
            if let Some(Ok(sock)) = id.map(|id| net.sock(host, id)) {
                sock.abort();
            }
        }
    }

    fn write(&mut self, net: &mut Net, end: usize) -> Result<(), SockError> {
        let stream = self.number * 2 + end as u64;
        let End { host, id: Some(id), .. } = self.ends[end] else {
            return Ok(());
        };
        let now = net.now();
        loop {
            let this = &mut self.ends[end];
            if now < this.writes_from || this.shut {
                return Ok(());
            }
            let n = (this.to_write - this.written).min(1 + self.dice.below(1 << 14)) as usize;
            if n == 0 {
                match net.sock(host, id)?.shutdown(Shutdown::Write) {
                    Err(SockError::ENOTCONN) => return Ok(()),
                    shut => shut?,
                }
                this.shut = true;
                return Ok(());
            }
            fill(stream, this.written, &mut self.buf[..n]);
            match net.sock(host, id)?.send(&self.buf[..n], SendFlags::default()) {
                Ok(n) => this.written += n as u64,
                Err(SockError::EAGAIN) => return Ok(()),
                Err(e) => return Err(e),
            }
            if this.written >= this.write_until {
                let rest = Duration::from_millis(self.dice.spread(1, 5_000));
                this.writes_from = now + rest;
                this.write_until = this.written + self.dice.spread(1, 10 << 20);
            }
        }
    }

    fn read(&mut self, net: &mut Net, end: usize) -> Result<(), SockError> {
        let stream = self.number * 2 + 1 - end as u64;
        let End { host, id: Some(id), .. } = self.ends[end] else {
            return Ok(());
        };
        let now = net.now();
        loop {
            let this = &mut self.ends[end];
            if now < this.reads_from || this.eof {
                return Ok(());
            }
            let n = match net.sock(host, id)?.recv(&mut self.buf, RecvFlags::default()) {
                Ok(n) => n,
                Err(SockError::EAGAIN) => return Ok(()),
                Err(e) => return Err(e),
            };
            let (got, expected) = (&self.buf[..n], &mut self.expected[..n]);
            fill(stream, this.read, expected);
            if let Some(at) = (0..n).find(|i| got[*i] != expected[*i]) {
                panic!(
                    "connection {}, end {end}: byte {} is wrong",
                    self.number,
                    this.read + at as u64
                );
            }
            this.hash.write(got);
            this.read += n as u64;
            this.eof = n == 0;
            if this.eof {
                let written = self.ends[1 - end].written;
                let whole = self.ends[end].read == written && self.ends[1 - end].shut;
                assert!(whole, "connection {}, end {end}: the end is not the end", self.number);
                return Ok(());
            }
            if this.read >= this.read_until {
                // Mostly a reader is only slow; now and then its window closes for long.
                let rest = match self.dice.chance(0.2) {
                    true => self.dice.spread(1_000, 60_000),
                    false => self.dice.spread(1, 200),
                };
                this.reads_from = now + Duration::from_millis(rest);
                this.read_until = this.read + self.dice.spread(1 << 10, 10 << 20);
            }
        }
    }

    /// By when there must be progress on what `end` writes if all goes well from now on: when the timer that is running
    /// has run out, or without one at once. After a timer that only looks for loss comes the retransmission timer.
    fn bound(&self, net: &mut Net, end: usize) -> Instant {
        let now = net.now();
        let diag = self.diag(net, end);
        let timer = diag.and_then(|diag| diag.timer);
        let runs = timer.map_or(Duration::ZERO, |timer| Duration::from_nanos(timer.expires_in_ns));
        let then = match timer.map(|timer| timer.kind) {
            Some(TimerKind::Reorder | TimerKind::LossProbe | TimerKind::Pacing) => {
                let rto = diag.and_then(|diag| diag.info).map_or(0, |info| info.rto);
                Duration::from_micros(rto.into())
            }
            _ => Duration::ZERO,
        };
        now + runs + then + SLACK
    }

    fn diag(&self, net: &mut Net, end: usize) -> Option<SockDiag> {
        let now = net.now();
        let all = net.host(self.ends[end].host).stack.diag(now);
        let port = |diag: &SockDiag| [diag.remote.port(), diag.local.port()][end];
        all.into_iter()
            .find(|diag| port(diag) == self.port && diag.remote.port() != 0)
    }

    /// There is progress when the reader reads or the sender learns that something arrived.
    fn watch(&mut self, net: &mut Net, end: usize) {
        let now = net.now();
        let (writer, reader) = (&self.ends[end], &self.ends[1 - end]);
        let opening = self.ends[1].id.is_none();
        let waits =
            writer.written + u64::from(writer.shut) > reader.read + u64::from(reader.eof) || opening && end == 0;
        let known = writer.id.and_then(|id| net.sock(writer.host, id).ok()?.info().ok());
        let known = known.map_or(0, |info| info.bytes_acked + u64::from(info.delivered));
        let progress = known + reader.read + u64::from(reader.eof) + u64::from(!opening);
        let rests = now < reader.reads_from;
        let bound = self.bound(net, end);
        let watch = &mut self.watches[end];
        if !waits || rests || watch.deadline.is_none() || progress != watch.progress {
            watch.since = now;
            watch.progress = progress;
            watch.deadline = (waits && !rests).then_some(bound);
            return;
        }
        self.longest = self.longest.max(now.since(watch.since));
        if watch.deadline.is_some_and(|deadline| now > deadline) {
            let since = watch.since;
            let ends = [0, 1].map(|end| self.diag(net, end));
            panic!(
                "connection {}: no progress from end {end} between {since:?} and {now:?}, though nothing was lost \
                 since a timer ran out\n{ends:#?}",
                self.number
            );
        }
    }
}

/// What stands at `at` in a stream, so that a byte out of its place shows.
fn fill(stream: u64, at: u64, out: &mut [u8]) {
    let mut at = at;
    let mut rest = out;
    while !rest.is_empty() {
        let word = mix((stream << 48) ^ (at / 8)).to_le_bytes();
        let from = (at % 8) as usize;
        let n = rest.len().min(8 - from);
        rest[..n].copy_from_slice(&word[from..from + n]);
        rest = &mut rest[n..];
        at += n as u64;
    }
}

/// The finalizer of SplitMix64.
fn mix(x: u64) -> u64 {
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}
