//! Ping: echo requests to the outside go by the host's ping sockets, where it permits them.

use crate::core::{Core, Owner};
use crate::hostaddr::Dest;
use crate::limits::Answer;
use crate::sys::{self, EventFlags, LEVEL};
use crate::table::{Key, Table, Token};
use crate::udp::transparent;
use estab_engine::{Instant, Kind, Result, SocketId};
use rustix::io::Errno;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Silence that ends a ping (nf_conntrack_icmp_timeout).
const SILENCE: Duration = Duration::from_secs(30);
/// Pings at once; past it new ones are lost.
const MAX_PINGS: usize = 256;
/// The ICMP header: type, code, checksum, identifier, sequence.
const HEADER: usize = 8;
const ECHO_V4: u8 = 8;
const ECHO_V6: u8 = 128;
const REPLY_V4: u8 = 0;
const REPLY_V6: u8 = 129;

pub(crate) struct Ping {
    v4: Option<SocketId>,
    v6: Option<SocketId>,
    pings: Table<Echo>,
    /// By the guest's address, the destination as it sees it, and its identifier.
    by_ends: HashMap<(IpAddr, IpAddr, [u8; 2]), Key>,
    /// Said once that the host doesn't permit it.
    told: bool,
    buf: Box<[u8]>,
}

struct Echo {
    fd: OwnedFd,
    guest: SocketAddr,
    other: SocketAddr,
    /// The guest's; the host's kernel uses one of its own.
    identifier: [u8; 2],
    last: Instant,
}

impl Ping {
    pub(crate) fn new(core: &mut Core) -> Result<Ping> {
        let [v4, v6] = transparent(core, Kind::Echo, Owner::Echo)?;
        let buf = vec![0; 65536].into_boxed_slice();
        Ok(Ping {
            v4,
            v6,
            pings: Table::new(),
            by_ends: HashMap::new(),
            told: false,
            buf,
        })
    }

    fn sock(&self, like: SocketAddr) -> Option<SocketId> {
        if like.is_ipv4() { self.v4 } else { self.v6 }
    }

    /// Echo requests of the guest wait in the engine's socket.
    pub(crate) fn guest_event(&mut self, core: &mut Core, id: SocketId) {
        let mut buf = std::mem::take(&mut self.buf);
        while let Ok((len, guest, other)) = core.sock(id).and_then(|mut sock| sock.recv_from(&mut buf)) {
            self.guest_sent(core, &buf[..len], guest, other);
        }
        self.buf = buf;
    }

    fn guest_sent(&mut self, core: &mut Core, echo: &[u8], guest: SocketAddr, other: SocketAddr) {
        let Some((&identifier, _)) = echo.split_first_chunk::<2>() else {
            return;
        };
        // The port tells of nothing here; Dest wants one that is not 0.
        let to = match core.map.dest(SocketAddr::new(other.ip(), 1)) {
            // The host is where the gateway is.
            Dest::Gateway | Dest::Forbidden => return self.to_guest(core, echo, other, guest),
            Dest::Outside(to) if core.map.is_host(other.ip()) && to.ip().is_loopback() => {
                return self.to_guest(core, echo, other, guest);
            }
            Dest::Outside(to) => SocketAddr::new(to.ip(), 0),
            Dest::Nowhere => return,
        };
        let ends = (guest.ip(), other.ip(), identifier);
        let key = match self.by_ends.get(&ends) {
            Some(key) => *key,
            None => match self.open(core, to, guest, other, identifier) {
                Ok(key) => key,
                Err(Some(err)) => return self.failed(core, err, echo, guest, other),
                Err(None) => return,
            },
        };
        let Some(ping) = self.pings.get_mut(key) else { return };
        ping.last = core.now;
        // The kernel puts in the identifier and the checksum.
        let mut message = vec![if to.is_ipv4() { ECHO_V4 } else { ECHO_V6 }, 0, 0, 0];
        message.extend_from_slice(echo);
        if let Err(err) = rustix::net::send(&ping.fd, &message, rustix::net::SendFlags::empty()) {
            self.failed(core, err, echo, guest, other);
        }
    }

    /// A socket for a new ping; the error is the guest's to know, unless it is the gateway's own.
    fn open(
        &mut self,
        core: &mut Core,
        to: SocketAddr,
        guest: SocketAddr,
        other: SocketAddr,
        identifier: [u8; 2],
    ) -> std::result::Result<Key, Option<Errno>> {
        if self.pings.len() >= MAX_PINGS {
            return Err(None);
        }
        let fd = match sys::ping_socket(to) {
            Ok(fd) => fd,
            Err(err) => {
                if core.limit(err, "a ping").is_none() && !std::mem::replace(&mut self.told, true) {
                    tracing::warn!(
                        "pings to the outside are not carried ({err}): the host permits ping sockets to groups in \
                         sysctl net.ipv4.ping_group_range only, and this process is in none of them"
                    );
                }
                return Err(None);
            }
        };
        rustix::net::connect(&fd, &to).map_err(Some)?;
        let ping = Echo {
            fd,
            guest,
            other,
            identifier,
            last: core.now,
        };
        let key = self.pings.insert(ping);
        let ping = self.pings.get_mut(key).ok_or(None)?;
        if core.watch(&ping.fd, LEVEL, Token::Ping(key)).is_none() {
            self.pings.remove(key);
            return Err(None);
        }
        self.by_ends.insert((guest.ip(), other.ip(), identifier), key);
        core.wake_in(SILENCE, Token::Ping(key));
        Ok(key)
    }

    fn to_guest(&self, core: &mut Core, echo: &[u8], from: SocketAddr, guest: SocketAddr) {
        if let Some(Ok(mut sock)) = self.sock(guest).map(|id| core.sock(id)) {
            let _ = sock.send_to(echo, Some(from), guest);
        }
    }

    fn failed(&self, core: &mut Core, err: Errno, echo: &[u8], guest: SocketAddr, other: SocketAddr) {
        if let Answer::Unreachable(why) = Answer::to(err)
            && let Some(Ok(mut sock)) = self.sock(guest).map(|id| core.sock(id))
        {
            let _ = sock.reject(guest, other, echo, why);
        }
    }

    /// A reply, or an error, has come back.
    pub(crate) fn host_event(&mut self, core: &mut Core, key: Key, flags: EventFlags) {
        let mut buf = std::mem::take(&mut self.buf);
        self.host_sent(core, key, flags, &mut buf);
        self.buf = buf;
    }

    fn host_sent(&mut self, core: &mut Core, key: Key, flags: EventFlags, buf: &mut [u8]) {
        let Some(ping) = self.pings.get_mut(key) else { return };
        let (guest, other) = (ping.guest, ping.other);
        let mut errors = Vec::new();
        if flags.contains(EventFlags::ERR) {
            while let Some((len, err)) = sys::take_rejected(&ping.fd, buf) {
                // The message as it was sent, from its type on.
                if let Some(echo) = buf.get_mut(4..len)
                    && let Some(identifier) = echo.get_mut(..2)
                {
                    identifier.copy_from_slice(&ping.identifier);
                    errors.push((err, echo.to_vec()));
                }
            }
        }
        let mut replies = Vec::new();
        loop {
            match rustix::net::recv(&ping.fd, &mut *buf, rustix::net::RecvFlags::empty()) {
                Ok((len, _)) if len >= HEADER && matches!(buf[0], REPLY_V4 | REPLY_V6) => {
                    ping.last = core.now;
                    buf[4..6].copy_from_slice(&ping.identifier);
                    replies.push(buf[4..len].to_vec());
                }
                Ok(_) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {}
            }
        }
        for echo in replies {
            self.to_guest(core, &echo, other, guest);
        }
        for (err, echo) in errors {
            self.failed(core, err, &echo, guest, other);
        }
    }

    /// The time has come to look whether a ping goes on.
    pub(crate) fn deadline(&mut self, core: &mut Core, key: Key) {
        let Some(ping) = self.pings.get_mut(key) else { return };
        let end = ping.last + SILENCE;
        if core.now < end {
            return core.deadlines.add(end, Token::Ping(key));
        }
        let ends = (ping.guest.ip(), ping.other.ip(), ping.identifier);
        self.by_ends.remove(&ends);
        self.pings.remove(key);
    }
}
