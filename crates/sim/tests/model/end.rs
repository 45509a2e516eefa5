//! One end: a stack, its application, and all that ever happened to it.

use crate::{GiveUp, Step};
use estab_engine::proto::{SockDiag, State, TcpInfo};
use estab_engine::*;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A packet as it was sent.
pub(crate) type Packet = Arc<[u8]>;

/// What an application does from its beginning to its end: see [`Step`].
pub(crate) type Script = &'static [Step];

/// The byte at `at` of what `end` writes.
pub(crate) fn byte(end: usize, at: usize) -> u8 {
    ((at as u32 + 1).wrapping_mul(2654435761) >> 24) as u8 ^ (end as u8 + 1)
}

/// One end. Its stack is shared between states until something happens to it.
#[derive(Clone)]
pub(crate) struct End {
    stack: Arc<Mutex<Stack>>,
    number: usize,
    iface: IfaceId,
    listener: Option<SocketId>,
    sock: Option<SocketId>,
    script: Script,
    /// Steps of the script that were done, and the bytes written.
    done: usize,
    pub(crate) written: usize,
    pub(crate) read: usize,
    pub(crate) ended: bool,
    pub(crate) gave_up: bool,
    pub(crate) error: Option<SockError>,
    /// Of every packet, call and timeout with its time. The engine being deterministic, ends of one history are the same.
    history: u64,
    /// Something has happened since `now` was looked up.
    stirred: bool,
    /// What follows from the stack.
    pub(crate) now: Seen,
}

/// What an end looks like.
#[derive(Clone, Default, Debug)]
pub(crate) struct Seen {
    /// Its connections, requests and TIME_WAITs.
    pub(crate) states: Vec<State>,
    pub(crate) readable: bool,
    pub(crate) next_step: bool,
    pub(crate) deadline: Option<Instant>,
    /// Of all that its diagnoses tell of them, but for counts that steer nothing.
    digest: u64,
    /// A zero window is being probed.
    pub(crate) probing: bool,
    pub(crate) retransmitted: bool,
}

impl End {
    pub(crate) fn new(number: usize, script: Script, now: Instant) -> End {
        let mut stack = Stack::new(
            now,
            Config {
                seed: [number as u8 + 1; 32],
                memory: 1 << 30,
                unix_time: 1_700_000_000,
            },
        );
        let iface = stack.add_iface(IfaceConfig {
            name: "wire",
            mtu: 1500,
            medium: Medium::Ip,
            gso_max_size: 0,
            csum_offload: false,
            transparent: false,
        });
        stack
            .add_addr(iface, address(number).ip(), 24)
            .expect("an address of its own");
        End {
            stack: Arc::new(Mutex::new(stack)),
            number,
            iface,
            listener: None,
            sock: None,
            script,
            done: 0,
            written: 0,
            read: 0,
            ended: false,
            gave_up: false,
            error: None,
            history: 0,
            stirred: true,
            now: Seen::default(),
        }
    }

    /// A socket bound to this end's address, with a window of two segments.
    fn socket(&mut self, now: Instant) -> SocketId {
        let at = address(self.number);
        let mut stack = self.stack();
        let id = stack.socket(Family::V4, Kind::Stream).expect("a first socket");
        let mut sock = stack.sock(now, id).expect("it was just made");
        for option in [
            SockOption::RcvBuf(1),
            SockOption::NoDelay(true),
            SockOption::KeepAlive(true),
            SockOption::KeepIdle(Duration::from_secs(5)),
            SockOption::KeepIntvl(Duration::from_secs(1)),
        ] {
            sock.set_option(option).expect("within its range");
        }
        sock.bind(at).expect("a free port");
        drop(stack);
        id
    }

    pub(crate) fn listen(&mut self, now: Instant) {
        let id = self.socket(now);
        self.stack()
            .sock(now, id)
            .and_then(|mut sock| sock.listen(8))
            .expect("a bound socket listens");
        self.listener = Some(id);
    }

    pub(crate) fn connect(&mut self, now: Instant) {
        let id = self.socket(now);
        self.sock = Some(id);
        let to = address(1 - self.number);
        self.with_sock(now, |mut sock| sock.connect(to))
            .expect("a route to the peer");
    }

    fn stack(&self) -> MutexGuard<'_, Stack> {
        self.stack.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The end's own copy of its stack, and a line in its history.
    fn happens(&mut self, now: Instant, what: impl Hash) {
        let copy = self.stack().clone();
        self.stack = Arc::new(Mutex::new(copy));
        let mut hasher = DefaultHasher::new();
        (self.history, now.nanos(), what).hash(&mut hasher);
        self.history = hasher.finish();
        self.stirred = true;
    }

    fn with_sock<T>(&self, now: Instant, f: impl FnOnce(Sock<'_>) -> Result<T>) -> Result<T> {
        let id = self.sock.ok_or(SockError::EBADF)?;
        f(self.stack().sock(now, id)?)
    }

    pub(crate) fn packet(&mut self, now: Instant, packet: &Packet) {
        self.happens(now, packet);
        let iface = self.iface;
        self.stack().handle_packet(now, iface, packet, RxMeta::default());
    }

    pub(crate) fn timeout(&mut self, now: Instant) {
        self.happens(now, "timeout");
        self.stack().handle_timeout(now);
    }

    /// The script's next step; what went wrong, if something did.
    pub(crate) fn step(&mut self, now: Instant) -> std::result::Result<(), String> {
        self.happens(now, "step");
        let done = match self.script[self.done] {
            Step::Write(len) => {
                let data: Vec<u8> = (0..len).map(|at| byte(self.number, self.written + at)).collect();
                self.written += len;
                match self.with_sock(now, |mut sock| sock.send(&data, SendFlags::default())) {
                    Ok(taken) if taken < len => {
                        return Err(format!("{taken} bytes of {len} taken into an empty buffer"));
                    }
                    taken => taken.map(drop),
                }
            }
            Step::Shut => self.with_sock(now, |mut sock| sock.shutdown(Shutdown::Write)),
            Step::Close => self.with_sock(now, |sock| {
                sock.close();
                Ok(())
            }),
        };
        self.done += 1;
        if let Err(error) = done {
            self.fails(error);
        }
        if self.is_done() {
            self.sock = None;
        }
        Ok(())
    }

    /// An error that a call got: what is left to do is to close.
    fn fails(&mut self, error: SockError) {
        self.error = Some(error);
        self.done = self.script.len() - 1;
    }

    /// The application goes, whatever is left to do.
    pub(crate) fn give_up(&mut self, now: Instant, how: GiveUp) {
        self.happens(now, how);
        self.gave_up = true;
        self.done = self.script.len();
        let gone = self.with_sock(now, |sock| {
            match how {
                GiveUp::Abort => sock.abort(),
                GiveUp::Close => sock.close(),
            }
            Ok(())
        });
        gone.expect("it was open");
        self.sock = None;
    }

    /// Reads once; what was wrong with it, if something was.
    pub(crate) fn read(&mut self, now: Instant) -> std::result::Result<(), String> {
        self.happens(now, "read");
        let mut buf = [0; 4096];
        match self.with_sock(now, |mut sock| sock.recv(&mut buf, RecvFlags::default())) {
            Ok(0) => self.ended = true,
            Ok(len) => {
                for got in &buf[..len] {
                    if *got != byte(1 - self.number, self.read) {
                        return Err(format!("byte {} is not the one that was written", self.read));
                    }
                    self.read += 1;
                }
            }
            Err(error) => self.fails(error),
        }
        Ok(())
    }

    /// Takes what the stack has to send, and looks at it anew. What went wrong, if something did.
    pub(crate) fn drain(&mut self, now: Instant, mut send: impl FnMut(Packet)) -> std::result::Result<(), String> {
        if !std::mem::take(&mut self.stirred) {
            return Ok(());
        }
        let mut buf = [0; 2048];
        let mut stack = self.stack();
        while let Some(transmit) = stack.poll_transmit(now, &mut buf) {
            send(buf[..transmit.len].into());
        }
        while stack.poll_event().is_some() {}
        drop(stack);
        self.accept(now)?;
        self.look(now);
        Ok(())
    }

    fn accept(&mut self, now: Instant) -> std::result::Result<(), String> {
        let Some(listener) = self.listener else { return Ok(()) };
        let accepted = self.stack().sock(now, listener).and_then(|mut sock| sock.accept());
        match (accepted, self.sock) {
            (Ok((id, _)), None) if self.done == 0 => self.sock = Some(id),
            (Ok(_), _) => return Err("a connection was accepted that nobody opened".into()),
            (Err(_), _) => {}
        }
        Ok(())
    }

    /// What makes it the same end as another: its whole history, or what can be seen of it.
    pub(crate) fn identity(&self, exact: bool) -> impl Hash + PartialEq + use<> {
        let progress = (self.done, self.read, self.ended, self.gave_up);
        (progress, if exact { self.history } else { self.now.digest })
    }

    fn look(&mut self, now: Instant) {
        let mut stack = self.stack();
        let diags: Vec<_> = stack.diag(now).filter(|d| d.state != State::Listen).collect();
        let mut seen = Seen {
            states: diags.iter().map(|d| d.state).collect(),
            deadline: stack.poll_timeout(),
            probing: diags.iter().any(|d| d.info.is_some_and(|i| i.probes > 0)),
            retransmitted: diags.iter().any(|d| d.info.is_some_and(|i| i.total_retrans > 0)),
            digest: digest(now, &diags),
            ..Seen::default()
        };
        if let Some(mut sock) = self.sock.and_then(|id| stack.sock(now, id).ok()) {
            let readiness = sock.readiness();
            let open = !matches!(sock.state(), State::SynSent | State::SynRcvd);
            seen.readable = !self.ended && self.error.is_none() && readiness.contains(Readiness::READABLE);
            seen.next_step = match self.script.get(self.done) {
                Some(Step::Close) => self.ended || self.error.is_some(),
                Some(_) => open,
                None => false,
            };
        }
        drop(stack);
        self.now = seen;
    }

    /// The application is done with its socket.
    pub(crate) fn is_done(&self) -> bool {
        self.done == self.script.len()
    }

    /// It has a socket.
    pub(crate) fn is_open(&self) -> bool {
        self.sock.is_some()
    }

    /// Nobody has come yet to its listener.
    pub(crate) fn is_untouched(&self) -> bool {
        self.done == 0 && self.sock.is_none()
    }

    /// Nothing is left of its connection, or TIME_WAIT.
    pub(crate) fn is_over(&self) -> bool {
        self.is_done() && self.now.states.iter().all(|state| *state == State::TimeWait)
    }
}

impl std::fmt::Debug for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?}, step {}, read {}, ended {}, {:?}",
            self.now, self.done, self.read, self.ended, self.error
        )
    }
}

fn address(end: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, end as u8 + 1], 80))
}

/// Of all that diagnoses tell, but for what is counted and steers nothing. What they tell of times counts from `now`.
fn digest(now: Instant, diags: &[SockDiag]) -> u64 {
    let mut hasher = DefaultHasher::new();
    now.nanos().hash(&mut hasher);
    for diag in diags {
        let info = diag.info.map(|info| TcpInfo {
            segs_in: 0,
            segs_out: 0,
            data_segs_in: 0,
            data_segs_out: 0,
            total_retrans: 0,
            bytes_sent: 0,
            bytes_retrans: 0,
            delivered: 0,
            delivery_rate: 0,
            delivery_rate_app_limited: false,
            dsack_dups: 0,
            rcv_ooopack: 0,
            busy_time: 0,
            rwnd_limited: 0,
            sndbuf_limited: 0,
            total_rto: 0,
            total_rto_recoveries: 0,
            total_rto_time: 0,
            ..info
        });
        format!("{:?}", SockDiag { info, id: 0, ..*diag }).hash(&mut hasher);
    }
    hasher.finish()
}
