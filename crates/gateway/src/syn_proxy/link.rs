//! A client's connection and the server's, made one stream each way.
//!
//! Bytes wait in the two connections' own buffers only, so that back-pressure reaches from end to end; between them
//! they are copied once. Each direction ends by itself: FIN becomes FIN. A reset of one end becomes a reset of the
//! other once the bytes that came before it have got there.

use crate::core::{Core, Stats};
use crate::patience::Patience;
use crate::tcp::Remains;
use estab_engine::proto::State;
use estab_engine::{Instant, Readiness, SendFlags, Shutdown, SockError, SocketId, Stack};
use std::sync::atomic::AtomicU64;

/// Bytes carried in one direction of a connection before the others have their turn.
const TURN: usize = 256 * 1024;
/// Pieces of a receive queue copied at once.
const PIECES: usize = 64;

pub(crate) struct Link {
    pub(super) client: End,
    pub(super) server: End,
    /// The server has not answered our SYN; what the client sends meanwhile waits.
    pub(super) dialing: bool,
    /// It stands among those that have something to do.
    pub(super) queued: bool,
    pub(super) reset: Option<Patience>,
}

/// One connection of the two, in its stack.
pub(super) struct End {
    pub(super) id: SocketId,
    /// Its FIN has been handed to the other end.
    done: bool,
    error: Option<SockError>,
}

/// What a link does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Waits for an event.
    Wait,
    /// Goes on when the others had their turn.
    Again,
    /// Looks again a little later whether the bytes before a reset have arrived.
    Look,
    /// Both directions are done.
    Closed,
    /// One end is gone, and the other is told by a reset.
    Reset,
}

impl Link {
    pub(super) fn new(client: SocketId, server: SocketId) -> Link {
        let end = |id| End {
            id,
            done: false,
            error: None,
        };
        Link {
            client: end(client),
            server: end(server),
            dialing: true,
            queued: false,
            reset: None,
        }
    }

    /// Carries what can be carried now between the client's connection, in `clients`, and the server's, in the worker's
    /// own stack.
    pub(super) fn advance(&mut self, clients: &mut Stack, core: &mut Core) -> Next {
        let Core {
            stack: guest,
            now,
            stats,
            ..
        } = core;
        let (client, server) = (&mut self.client, &mut self.server);
        if self.dialing {
            client.take_error(clients, *now);
            server.take_error(guest, *now);
            if client.error.or(server.error).is_some() {
                return Next::Reset;
            }
            match guest.sock(*now, server.id).map_or(State::Closed, |sock| sock.state()) {
                State::Closed => return Next::Reset,
                state if !state.is_synchronized() => return Next::Wait,
                _ => self.dialing = false,
            }
            Stats::add(&stats.connections, 1);
        }
        let more_in = client.carry(clients, server, guest, *now, &stats.bytes_in);
        let more_out = server.carry(guest, client, clients, *now, &stats.bytes_out);
        client.take_error(clients, *now);
        server.take_error(guest, *now);
        let over = match (client.error, server.error) {
            (Some(_), None) => client.arrived(clients, server, guest, *now),
            (None, Some(_)) => server.arrived(guest, client, clients, *now),
            (Some(_), Some(_)) => true,
            (None, None) if client.done && server.done => return Next::Closed,
            (None, None) if more_in | more_out => return Next::Again,
            (None, None) => return Next::Wait,
        };
        match over || self.reset.is_some_and(|patience| patience.ended(*now)) {
            true => Next::Reset,
            false => Next::Look,
        }
    }

    /// What of the server's is still on its way to the client.
    pub(super) fn remains(&self, clients: &mut Stack, core: &mut Core) -> Remains {
        if self.dialing {
            return Remains::Nothing;
        }
        let unread = core.sock(self.server.id).is_ok_and(|sock| sock.recv_queued() > 0);
        let unsent = clients
            .sock(core.now, self.client.id)
            .is_ok_and(|sock| sock.send_queued() > 0);
        match self.server.done && self.server.error.is_none() {
            _ if unread || unsent => Remains::Bytes,
            true => Remains::Nothing,
            false => Remains::Silence,
        }
    }

    /// The server has ended its stream, and the client has all of it.
    pub(super) fn is_served(&self, clients: &mut Stack, now: Instant) -> bool {
        let state = clients
            .sock(now, self.client.id)
            .map_or(State::Closed, |sock| sock.state());
        self.server.done && self.server.error.is_none() && state == State::FinWait2
    }
}

impl End {
    /// A reset shows here even when nothing can be carried.
    fn take_error(&mut self, stack: &mut Stack, now: Instant) {
        if self.error.is_none() {
            self.error = stack
                .sock(now, self.id)
                .map_or(Some(SockError::EBADF), |mut sock| sock.take_error());
        }
    }

    /// Hands what has come in here on to `to`, as far as there is room. Whether there is more to carry at once.
    fn carry(
        &mut self,
        stack: &mut Stack,
        to: &mut End,
        to_stack: &mut Stack,
        now: Instant,
        counter: &AtomicU64,
    ) -> bool {
        let mut carried = 0;
        while !self.done && to.error.is_none() {
            if carried >= TURN {
                return true;
            }
            let (Ok(mut source), Ok(mut sink)) = (stack.sock(now, self.id), to_stack.sock(now, to.id)) else {
                // take_error finds which.
                break;
            };
            // Asking is what makes the engine tell when there is room again, a third of the buffer at least.
            if !sink.readiness().contains(Readiness::WRITABLE) {
                break;
            }
            // The FIN behind the last bytes goes with them.
            let level = source.readiness();
            let flags = SendFlags {
                more: level.contains(Readiness::READ_HANGUP)
                    && !level.contains(Readiness::ERROR)
                    && self.error.is_none(),
                ..SendFlags::default()
            };
            let mut slices: [&[u8]; PIECES] = [&[]; PIECES];
            let filled = match source.recv_slices(&mut slices) {
                Ok(filled) => filled,
                Err(SockError::EAGAIN) => break,
                Err(err) => {
                    self.error = self.error.or(Some(err));
                    break;
                }
            };
            if filled == 0 {
                // The end of the stream; after a reset that a write has seen already, it is not one.
                if matches!(self.error, None | Some(SockError::EPIPE)) {
                    to.error = sink.shutdown(Shutdown::Write).err();
                    self.done = true;
                }
                break;
            }
            let slices = &slices[..filled];
            let len = slices.iter().map(|slice| slice.len()).sum();
            match sink.send_with(len, flags, |areas| copy(slices, areas)) {
                // No room after all: the engine tells when there is some.
                Ok(0) | Err(SockError::EAGAIN) => break,
                Ok(taken) => {
                    source.consume(taken);
                    carried += taken;
                    Stats::add(counter, taken as u64);
                }
                Err(err) => to.error = Some(err),
            }
        }
        false
    }

    /// All that came in here, before this end failed, has reached the peer of `to`.
    fn arrived(&self, stack: &mut Stack, to: &End, to_stack: &mut Stack, now: Instant) -> bool {
        let read = self.done || stack.sock(now, self.id).map_or(true, |sock| sock.recv_queued() == 0);
        read && to_stack.sock(now, to.id).map_or(true, |sock| sock.send_queued() == 0)
    }
}

/// Copies `from`, one after the other, into `to`, one after the other; how many bytes.
fn copy(from: &[&[u8]], to: &mut [&mut [u8]]) -> usize {
    let mut from = from.iter().copied();
    let mut rest: &[u8] = &[];
    let mut copied = 0;
    for area in to {
        let mut filled = 0;
        while filled < area.len() {
            if rest.is_empty() {
                match from.next() {
                    Some(next) => rest = next,
                    None => return copied,
                }
            }
            let len = rest.len().min(area.len() - filled);
            area[filled..filled + len].copy_from_slice(&rest[..len]);
            rest = &rest[len..];
            filled += len;
            copied += len;
        }
    }
    copied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_copied_across_their_borders() {
        let (mut a, mut b, mut c) = ([0; 2], [0; 0], [0; 5]);
        assert_eq!(copy(&[b"abc", b"", b"de"], &mut [&mut a, &mut b, &mut c]), 5);
        assert_eq!((&a, &c), (b"ab", b"cde\0\0"));
        let mut few = [0; 3];
        assert_eq!(copy(&[b"ab", b"cd"], &mut [&mut few]), 3);
        assert_eq!(&few, b"abc");
    }
}
