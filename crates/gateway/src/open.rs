//! A SYN of the guest is answered as the host's own connect is: with SYN-ACK once it succeeded, with RST, an ICMP
//! error or silence when it failed.

use crate::core::Core;
use crate::hostaddr::Dest;
use crate::limits::Answer;
use crate::status::Pages;
use crate::sys;
use crate::tcp::Conns;
use estab_engine::{Incoming, OpenId, Unreachable};
use rustix::io::Errno;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// The port of the gateway's status page.
pub(crate) const HTTP: u16 = 80;
/// The port of the gateway's resolver.
pub(crate) const DOMAIN: u16 = 53;

/// A connection that the host is opening for the guest.
pub(crate) struct Opening {
    pub(crate) open: OpenId,
    to: SocketAddr,
    /// Where else the same can be had: the other resolvers.
    others: Vec<SocketAddr>,
}

/// What became of an attempt to connect.
pub(crate) enum Verdict {
    /// The host connects.
    Connecting(OwnedFd),
    /// It has connected.
    Connected(OwnedFd),
    /// It failed, and the guest was told.
    Answered,
}

/// The guest opens a connection.
pub(crate) fn incoming(core: &mut Core, conns: &mut Conns, pages: &mut Pages, incoming: Incoming) {
    let Incoming { open, local, .. } = incoming;
    let (to, others) = match core.map.dest(local) {
        Dest::Gateway if local.port() == HTTP => return pages.open(core, open),
        Dest::Gateway if local.port() == DOMAIN && !core.config.resolvers.is_empty() => {
            let mut others = core.config.resolvers.clone();
            (others.remove(0), others)
        }
        Dest::Gateway | Dest::Forbidden => return core.stack.open_reset(core.now, open),
        Dest::Nowhere => return core.stack.open_unreachable(core.now, open, Unreachable::Network),
        Dest::Outside(to) => (to, Vec::new()),
    };
    let mut opening = Opening { open, to, others };
    match opening.connect(core) {
        Verdict::Connecting(host) => conns.opening(core, host, opening),
        Verdict::Connected(host) => conns.opened(core, host, open),
        Verdict::Answered => {}
    }
}

impl Opening {
    fn connect(&mut self, core: &mut Core) -> Verdict {
        match sys::tcp_connect(self.to) {
            Ok((host, true)) => Verdict::Connected(host),
            Ok((host, false)) => Verdict::Connecting(host),
            Err(err) => self.failed(core, err),
        }
    }

    /// The attempt failed: the next one is made, or the guest is told.
    pub(crate) fn failed(&mut self, core: &mut Core, err: Errno) -> Verdict {
        tracing::debug!("connect to {}: {err}", self.to);
        core.limit(err, &format!("a connection to {}", self.to));
        if !self.others.is_empty() {
            self.to = self.others.remove(0);
            return self.connect(core);
        }
        match Answer::to(err) {
            Answer::Refuse => core.stack.open_reset(core.now, self.open),
            Answer::Unreachable(why) => core.stack.open_unreachable(core.now, self.open, why),
            Answer::Ignore => core.stack.open_ignore(core.now, self.open),
        }
        Verdict::Answered
    }
}
