//! TCP connections, each spliced from a socket of the engine (the guest's side) to one of the host.
//!
//! Bytes wait in the engine's and the host's own buffers only, so that back-pressure reaches from end to end. Each
//! direction ends by itself: FIN becomes FIN. A reset of one side becomes a reset of the other once the bytes that
//! came before it have got there.

use crate::core::{Core, Owner, Stats};
use crate::open::{Opening, Verdict};
use crate::patience::Patience;
use crate::sys::{self, EDGE, EDGE_IN, EventFlags};
use crate::table::{Key, Table, Token};
use estab_engine::{OpenId, Readiness, SendFlags, Shutdown, SockError, SocketId};
use rustix::io::Errno;
use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::os::fd::OwnedFd;

/// Bytes carried in one direction of a connection before the others have their turn.
const TURN: usize = 256 * 1024;
/// Text of a packet that is written to the host from there: a shorter one is copied, to be written together with the next.
const DIRECT: usize = 8 * 1024;
/// Pieces of the engine's queue handed to one writev.
const PIECES: usize = 64;

pub(crate) struct Conns {
    table: Table<Conn>,
    /// Connections with something to do.
    ready: VecDeque<Key>,
    /// Connections that the host is opening, by `OpenId::index`.
    opens: Vec<Option<(Key, Box<Opening>)>>,
    /// Resets that wait for the bytes before them.
    resets: BTreeMap<Key, Patience>,
}

/// In few bytes, as there are as many as idle connections: what most of them never or no longer need stands in [`Conns`].
struct Conn {
    host: OwnedFd,
    phase: Phase,
    /// In `ready`.
    queued: bool,
    /// The host socket has not said EAGAIN since it was last readable, or writable.
    host_in: bool,
    host_out: bool,
    /// The poller tells when the host socket is writable; few that are up fill it, and need to know.
    host_out_watched: bool,
    /// An end or an error is behind what can be read: a short read isn't the last.
    host_end: bool,
    /// The guest's FIN has been handed to the host.
    up_done: bool,
    /// The host's FIN has been handed to the guest.
    down_done: bool,
    host_error: Option<HostError>,
    guest_error: Option<SockError>,
    appetite: Appetite,
}

/// What became of the host socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum HostError {
    /// EPIPE: its FIN came before what a write met.
    Pipe,
    Other,
}

impl From<Errno> for HostError {
    fn from(err: Errno) -> HostError {
        match err {
            Errno::PIPE => HostError::Pipe,
            _ => HostError::Other,
        }
    }
}

/// How much of the host's bytes a read makes room for: little at first, more while reads fill it.
#[derive(Clone, Copy)]
struct Appetite(u8);

impl Appetite {
    const LEAST: u8 = 14;
    const MOST: u8 = 18;

    fn bytes(self) -> usize {
        1 << self.0
    }

    fn learn(&mut self, len: usize, asked: usize) {
        if len == asked {
            self.0 = (self.0 + 1).min(Self::MOST);
        } else if len < asked / 4 {
            self.0 = (self.0 - 1).max(Self::LEAST);
        }
    }
}

impl Default for Appetite {
    fn default() -> Self {
        Appetite(Self::LEAST)
    }
}

enum Phase {
    /// The host connects; the guest's SYN waits.
    Opening(OpenId),
    /// A client of the host waits for the guest to answer our SYN.
    Dialing(SocketId),
    /// Both sides are up.
    Carrying(SocketId),
}

/// What a gateway about to stop would cut off.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Remains {
    /// Nothing: the guest has ended its streams.
    Nothing,
    /// Streams that the guest may or may not use again.
    Silence,
    /// Bytes that the guest has sent.
    Bytes,
}

/// What a connection does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    /// Waits for an event.
    Wait,
    /// Goes on when the others had their turn.
    Again,
    /// Looks again a little later whether the bytes before a reset have arrived.
    Look,
    /// Both directions are done.
    Closed,
    /// The host's side is gone: the guest gets a reset.
    ResetGuest,
    /// The guest's side is gone: the host gets a reset.
    ResetHost,
}

impl Conns {
    pub(crate) fn new() -> Conns {
        Conns {
            table: Table::new(),
            ready: VecDeque::new(),
            opens: Vec::new(),
            resets: BTreeMap::new(),
        }
    }

    /// A connection whose host side is being opened for the guest.
    pub(crate) fn opening(&mut self, core: &mut Core, host: OwnedFd, opening: Opening) {
        let open = opening.open;
        let key = self.insert(core, host, Phase::Opening(open));
        if self.opens.len() <= open.index() {
            self.opens.resize_with(open.index() + 1, || None);
        }
        self.opens[open.index()] = Some((key, Box::new(opening)));
        if self.watch(core, key, EDGE).is_none() {
            self.forget(core, key);
            core.stack.open_reset(core.now, open);
        }
    }

    /// A connection whose host side is up: the guest gets its SYN-ACK.
    pub(crate) fn opened(&mut self, core: &mut Core, host: OwnedFd, open: OpenId) {
        let Ok(guest) = core.stack.open_accept(core.now, open) else {
            return sys::reset(host);
        };
        let key = self.insert(core, host, Phase::Carrying(guest));
        core.own(guest, Owner::Tcp(key));
        Stats::add(&core.stats.connections, 1);
        if self.watch_up(core, key).is_none() {
            self.end(core, key, Next::ResetGuest);
        }
    }

    /// A connection of a host's client, for which the engine opens one to the guest.
    pub(crate) fn dialing(&mut self, core: &mut Core, host: OwnedFd, guest: SocketId) {
        let key = self.insert(core, host, Phase::Dialing(guest));
        core.own(guest, Owner::Tcp(key));
        if self.watch_up(core, key).is_none() {
            self.end(core, key, Next::ResetHost);
        }
    }

    fn insert(&mut self, core: &mut Core, host: OwnedFd, phase: Phase) -> Key {
        Stats::add(&core.stats.open, 1);
        self.table.insert(Conn {
            host,
            phase,
            queued: false,
            host_in: false,
            host_out: false,
            host_out_watched: true,
            host_end: false,
            up_done: false,
            down_done: false,
            host_error: None,
            guest_error: None,
            appetite: Appetite::default(),
        })
    }

    fn watch(&mut self, core: &mut Core, key: Key, flags: EventFlags) -> Option<()> {
        let conn = self.table.get_mut(key)?;
        core.watch(&conn.host, flags, Token::Tcp(key))
    }

    /// Watches a host socket that is up, and so writable until a write has filled it.
    fn watch_up(&mut self, core: &mut Core, key: Key) -> Option<()> {
        let conn = self.table.get_mut(key)?;
        conn.host_out = true;
        conn.host_out_watched = false;
        self.watch(core, key, EDGE_IN)
    }

    /// The host socket is ready for `flags`.
    pub(crate) fn host_event(&mut self, core: &mut Core, key: Key, flags: EventFlags) {
        let Some(conn) = self.table.get_mut(key) else { return };
        if let Phase::Opening(_) = conn.phase {
            return self.host_answered(core, key, flags);
        }
        conn.note(flags);
        self.enqueue(key);
    }

    /// The engine's socket is ready for something, or failed; or a deadline of the connection's has come.
    pub(crate) fn guest_event(&mut self, key: Key) {
        self.enqueue(key);
    }

    /// Text of the guest's in the packet that brought it, while none waits before it: written to the host at once if it is
    /// worth a call of its own. How many bytes were; the others wait in the engine for [`Self::turn`].
    pub(crate) fn shown(&mut self, stats: &Stats, key: Key, text: &[u8]) -> usize {
        let Some(conn) = self.table.get_mut(key) else { return 0 };
        let carries = matches!(conn.phase, Phase::Carrying(_)) && !conn.up_done && conn.guest_error.is_none();
        if text.len() < DIRECT || !carries || !conn.host_out || conn.host_error.is_some() {
            return 0;
        }
        // What fails, fails again for the turn, which knows what to do then.
        let written = rustix::io::write(&conn.host, text).unwrap_or(0);
        Stats::add(&stats.bytes_out, written as u64);
        written
    }

    fn enqueue(&mut self, key: Key) {
        if let Some(conn) = self.table.get_mut(key)
            && !conn.queued
        {
            conn.queued = true;
            self.ready.push_back(key);
        }
    }

    /// The guest gave up before the host had answered.
    pub(crate) fn open_gone(&mut self, core: &mut Core, open: OpenId) {
        if let Some(Some((key, opening))) = self.opens.get(open.index())
            && opening.open == open
            && let Some(host) = self.forget(core, *key)
        {
            sys::reset(host);
        }
    }

    /// The host's connect has ended, well or not.
    fn host_answered(&mut self, core: &mut Core, key: Key, flags: EventFlags) {
        let Some(conn) = self.table.get_mut(key) else { return };
        let Phase::Opening(open) = conn.phase else { return };
        let Some(Some((_, opening))) = self.opens.get_mut(open.index()) else {
            return;
        };
        let failed = match flags.intersects(EventFlags::ERR | EventFlags::HUP) {
            true => sys::take_error(&conn.host),
            false => None,
        };
        match failed {
            // Not yet: a socket that has answered is writable, or hung up.
            None if !flags.intersects(EventFlags::OUT | EventFlags::HUP) => {}
            None => match core.stack.open_accept(core.now, open) {
                Ok(id) => {
                    conn.phase = Phase::Carrying(id);
                    conn.note(flags);
                    self.opens[open.index()] = None;
                    core.own(id, Owner::Tcp(key));
                    Stats::add(&core.stats.connections, 1);
                    self.enqueue(key);
                }
                Err(_) => {
                    if let Some(host) = self.forget(core, key) {
                        sys::reset(host);
                    }
                }
            },
            Some(err) => match opening.failed(core, err) {
                Verdict::Connecting(host) => {
                    conn.host = host;
                    if self.watch(core, key, EDGE).is_none() {
                        self.forget(core, key);
                        core.stack.open_reset(core.now, open);
                    }
                }
                Verdict::Connected(host) => {
                    self.forget(core, key);
                    self.opened(core, host, open);
                }
                Verdict::Answered => drop(self.forget(core, key)),
            },
        }
    }

    /// Takes the connection out of every table.
    fn forget(&mut self, core: &mut Core, key: Key) -> Option<OwnedFd> {
        let conn = self.table.remove(key)?;
        self.resets.remove(&key);
        Stats::sub(&core.stats.open, 1);
        match conn.phase {
            Phase::Opening(open) => self.opens[open.index()] = None,
            Phase::Dialing(id) | Phase::Carrying(id) => core.disown(id),
        }
        Some(conn.host)
    }

    /// Whether connections wait for their turn.
    pub(crate) fn pending(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The number of connections that have something to do now.
    pub(crate) fn turns(&self) -> usize {
        self.ready.len()
    }

    /// Carries what the next connection can carry now.
    pub(crate) fn turn(&mut self, core: &mut Core) {
        let Some(key) = self.ready.pop_front() else { return };
        let Some(conn) = self.table.get_mut(key) else { return };
        conn.queued = false;
        let late = self.resets.get(&key).is_some_and(|patience| patience.ended(core.now));
        match conn.advance(core, key, late) {
            Next::Wait => {}
            Next::Again => self.enqueue(key),
            Next::Look => {
                let patience = self.resets.entry(key).or_insert_with(|| Patience::new(core.now));
                if let Some(delay) = patience.look(core.now) {
                    core.wake_in(delay, Token::Tcp(key));
                }
            }
            end => self.end(core, key, end),
        }
    }

    fn end(&mut self, core: &mut Core, key: Key, how: Next) {
        let Some(conn) = self.table.get_mut(key) else { return };
        let guest = match conn.phase {
            Phase::Dialing(id) | Phase::Carrying(id) => Some(id),
            Phase::Opening(_) => None,
        };
        let host = self.forget(core, key);
        if let Some(sock) = guest.and_then(|id| core.sock(id).ok()) {
            match how {
                Next::ResetGuest => sock.abort(),
                _ => sock.close(),
            }
        }
        if let (Next::ResetHost, Some(host)) = (how, host) {
            sys::reset(host);
        }
    }

    /// What of the guest's is still on its way to the host: a gateway whose command has ended waits for it.
    pub(crate) fn remains(&mut self, core: &mut Core) -> Remains {
        let of = |(_, conn): (Key, &mut Conn)| match conn.phase {
            Phase::Opening(_) | Phase::Dialing(_) => Remains::Nothing,
            Phase::Carrying(id) => {
                let unread = core.sock(id).is_ok_and(|sock| sock.recv_queued() > 0);
                match conn.up_done && conn.guest_error.is_none() {
                    _ if unread => Remains::Bytes,
                    // The host's kernel sees to what it has, and to the FIN.
                    true => Remains::Nothing,
                    // The reset that will end it throws away what has not left by then.
                    false if conn.guest_error.is_some() || sys::unacknowledged(&conn.host) > 0 => Remains::Bytes,
                    false => Remains::Silence,
                }
            }
        };
        self.table.iter_mut().map(of).max().unwrap_or(Remains::Nothing)
    }

    /// Ends every connection as the end of the guest's network does: the host learns by a reset that a stream was
    /// cut off, not by a FIN.
    pub(crate) fn cut(&mut self, core: &mut Core) {
        let keys: Vec<Key> = self.table.iter_mut().map(|(key, _)| key).collect();
        for key in keys {
            let in_order = |conn: &mut Conn| conn.up_done && conn.guest_error.is_none();
            let orderly = self.table.get_mut(key).is_some_and(in_order);
            self.end(core, key, if orderly { Next::Closed } else { Next::ResetHost });
        }
    }
}

impl Conn {
    fn note(&mut self, flags: EventFlags) {
        let end = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        self.host_in |= flags.intersects(EventFlags::IN | end);
        self.host_out |= flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR);
        self.host_end |= flags.intersects(end);
        if flags.contains(EventFlags::ERR) {
            let error = sys::take_error(&self.host).map(HostError::from);
            self.host_error = self.host_error.or(error);
        }
    }

    /// Carries what can be carried now. `late`: a reset has waited long enough.
    fn advance(&mut self, core: &mut Core, key: Key, late: bool) -> Next {
        let id = match self.phase {
            Phase::Opening(_) => return Next::Wait,
            Phase::Dialing(id) => match self.dialled(core, id) {
                Some(next) => return next,
                None => id,
            },
            Phase::Carrying(id) => id,
        };
        let more_up = self.up(core, key, id);
        let more_down = self.down(core, id);
        self.next(core, id, more_up | more_down, late)
    }

    /// Whether the guest has answered our SYN: `None` when the connection is up.
    fn dialled(&mut self, core: &mut Core, id: SocketId) -> Option<Next> {
        if self.host_error.is_some() {
            return Some(Next::ResetGuest);
        }
        let Ok(mut sock) = core.sock(id) else {
            return Some(Next::ResetHost);
        };
        if sock.take_error().is_some() || sock.state() == estab_engine::proto::State::Closed {
            return Some(Next::ResetHost);
        }
        if !sock.state().is_synchronized() {
            return Some(Next::Wait);
        }
        self.phase = Phase::Carrying(id);
        Stats::add(&core.stats.connections, 1);
        None
    }

    /// Guest to host. Whether there is more to carry at once.
    fn up(&mut self, core: &mut Core, key: Key, id: SocketId) -> bool {
        let mut carried = 0;
        while !self.up_done && self.host_out && self.host_error.is_none() {
            if carried >= TURN {
                return true;
            }
            let Ok(mut sock) = core.sock(id) else {
                self.guest_error = self.guest_error.or(Some(SockError::EBADF));
                break;
            };
            let mut slices: [&[u8]; PIECES] = [&[]; PIECES];
            let filled = match sock.recv_slices(&mut slices) {
                Ok(filled) => filled,
                Err(SockError::EAGAIN) => break,
                Err(err) => {
                    self.guest_error = self.guest_error.or(Some(err));
                    break;
                }
            };
            if filled == 0 {
                // The end of the stream; after a reset that a write has seen already, it is not one.
                if matches!(self.guest_error, None | Some(SockError::EPIPE)) {
                    // After the host's own FIN the close that follows at once says the same.
                    if !self.down_done || self.guest_error.is_some() {
                        let _ = rustix::net::shutdown(&self.host, rustix::net::Shutdown::Write);
                    }
                    self.up_done = true;
                }
                break;
            }
            let pieces = slices.map(IoSlice::new);
            let len: usize = pieces[..filled].iter().map(|piece| piece.len()).sum();
            match rustix::io::writev(&self.host, &pieces[..filled]) {
                Ok(written) => {
                    sock.consume(written);
                    carried += written;
                    Stats::add(&core.stats.bytes_out, written as u64);
                    if written < len {
                        // It has armed the next EPOLLOUT as EAGAIN would have.
                        self.host_full(core, key);
                    }
                }
                Err(Errno::AGAIN) => self.host_full(core, key),
                Err(Errno::INTR) => {}
                Err(err) => self.host_error = Some(err.into()),
            }
        }
        false
    }

    /// The host socket takes no more until the poller tells.
    fn host_full(&mut self, core: &mut Core, key: Key) {
        self.host_out = false;
        if !self.host_out_watched {
            self.host_out_watched = true;
            if let Err(err) = core.poller.modify(&self.host, EDGE, Token::Tcp(key).pack()) {
                self.host_error = Some(err.into());
            }
        }
    }

    /// Host to guest. Whether there is more to carry at once.
    fn down(&mut self, core: &mut Core, id: SocketId) -> bool {
        let mut carried = 0;
        while !self.down_done && self.host_in && self.guest_error.is_none() {
            if carried >= TURN {
                return true;
            }
            let Ok(mut sock) = core.sock(id) else {
                self.guest_error = Some(SockError::EBADF);
                break;
            };
            // Asking is what makes the engine tell when there is room again, a third of the buffer at least.
            if !sock.readiness().contains(Readiness::WRITABLE) {
                break;
            }
            // The FIN behind the last bytes goes with them.
            let flags = SendFlags {
                more: self.host_end && self.host_error.is_none(),
                ..SendFlags::default()
            };
            let mut asked = 0;
            let mut read = Err(Errno::AGAIN);
            let sent = sock.send_with(self.appetite.bytes(), flags, |areas| {
                asked = areas.iter().map(|area| area.len()).sum();
                read = sys::read_into(&self.host, areas);
                read.unwrap_or(0)
            });
            match sent {
                // No room after all: the engine tells when there is some.
                Ok(_) if asked == 0 => break,
                Err(SockError::EAGAIN) => break,
                Ok(_) => {}
                Err(err) => {
                    self.guest_error = Some(err);
                    break;
                }
            }
            match read {
                Ok(0) => {
                    self.host_in = false;
                    // After a reset that a write has seen already, it is no end; EPIPE tells of a FIN before it.
                    if matches!(self.host_error, None | Some(HostError::Pipe)) {
                        if let Err(err) = sock.shutdown(Shutdown::Write) {
                            self.guest_error = Some(err);
                        }
                        self.down_done = true;
                    }
                }
                Ok(len) => {
                    carried += len;
                    Stats::add(&core.stats.bytes_in, len as u64);
                    // A short read was the last, unless an end is behind it.
                    self.host_in = len == asked || self.host_end;
                    self.appetite.learn(len, asked);
                }
                Err(Errno::AGAIN) => self.host_in = false,
                Err(Errno::INTR) => {}
                Err(err) => {
                    self.host_in = false;
                    self.host_error = self.host_error.or(Some(err.into()));
                }
            }
        }
        false
    }

    fn next(&mut self, core: &mut Core, id: SocketId, more: bool, late: bool) -> Next {
        if self.guest_error.is_none() {
            // A reset shows here even when nothing can be carried.
            self.guest_error = core
                .sock(id)
                .map_or(Some(SockError::EBADF), |mut sock| sock.take_error());
        }
        if self.guest_error.is_some() {
            // What the guest sent before its reset goes out first.
            let drained = self.host_error.is_some() || self.up_done || self.drained(core, id);
            let arrived = drained && (self.host_error.is_some() || sys::unacknowledged(&self.host) == 0);
            return if arrived || late { Next::ResetHost } else { Next::Look };
        }
        if self.host_error.is_some() && !self.host_in {
            let sent = core.sock(id).is_ok_and(|sock| sock.send_queued() == 0);
            return if sent || late { Next::ResetGuest } else { Next::Look };
        }
        if self.host_error.is_some() {
            return if late { Next::ResetGuest } else { Next::Look };
        }
        if self.up_done && self.down_done {
            return Next::Closed;
        }
        if more { Next::Again } else { Next::Wait }
    }

    /// Nothing of the guest's is left to be read.
    fn drained(&self, core: &mut Core, id: SocketId) -> bool {
        core.sock(id).map_or(true, |sock| sock.recv_queued() == 0)
    }
}
