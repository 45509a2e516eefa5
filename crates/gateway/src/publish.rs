//! Guest ports that the host sees (`-p`): a client of the host is spliced to a connection that the engine opens to
//! the guest, with the client's own address where the guest can have it.

use crate::config::{Publish, Transport};
use crate::core::Core;
use crate::sys::{self, SHARED};
use crate::table::Token;
use crate::tcp::Conns;
use estab_engine::{Family, Kind, Result, SockError, SockOption, SocketId};
use rustix::io::Errno;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Clients accepted before others have their turn.
const TURN: usize = 16;

/// Why a port can't be published.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error("cannot publish {0}: the address is in use on the host (see ss -lntup)")]
    InUse(SocketAddr),
    /// A port below `net.ipv4.ip_unprivileged_port_start`.
    #[error("cannot publish {0}: the port is reserved for root (sysctl net.ipv4.ip_unprivileged_port_start)")]
    Privileged(SocketAddr),
    /// The host doesn't have the address.
    #[error("cannot publish {0}: the host has no such address")]
    NoSuchAddress(SocketAddr),
    /// Anything else.
    #[error("cannot publish {0}: {1}")]
    Other(SocketAddr, std::io::Error),
}

/// The host's socket of a published port, which every worker may use.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) publish: Publish,
    pub(crate) socket: Arc<OwnedFd>,
}

/// Binds every published port.
pub(crate) fn bind<'a>(publish: impl Iterator<Item = &'a Publish>) -> std::result::Result<Vec<Port>, BindError> {
    let bind = |publish: &Publish| {
        let at = publish.host();
        let socket = match publish.transport {
            Transport::Tcp => sys::tcp_listen(at),
            Transport::Udp => sys::udp_bind(at),
        };
        match socket {
            Ok(socket) => Ok(Port {
                publish: *publish,
                socket: Arc::new(socket),
            }),
            Err(Errno::ADDRINUSE) => Err(BindError::InUse(at)),
            Err(Errno::ACCESS) => Err(BindError::Privileged(at)),
            Err(Errno::ADDRNOTAVAIL) => Err(BindError::NoSuchAddress(at)),
            Err(err) => Err(BindError::Other(at, err.into())),
        }
    };
    publish.map(bind).collect()
}

/// The guest's address and the client's as the guest sees it, for a client of a published port.
pub(crate) fn ends(core: &Core, client: SocketAddr, guest_port: u16) -> (Option<SocketAddr>, SocketAddr) {
    let seen = core.map.client(client, true);
    match core.map.guest(client.is_ipv4()) {
        Some(guest) => (Some(SocketAddr::new(guest, guest_port)), seen),
        // The guest has the other family only: it sees the host's address there.
        None => {
            let guest = core.map.guest(!client.is_ipv4());
            (
                guest.map(|ip| SocketAddr::new(ip, guest_port)),
                core.map.client(client, false),
            )
        }
    }
}

/// Clients wait at a published TCP port.
pub(crate) fn accept(core: &mut Core, conns: &mut Conns, ports: &[Port], port: u32) {
    let Some(Port { publish, socket }) = ports.get(port as usize) else {
        return;
    };
    for _ in 0..TURN {
        match sys::tcp_accept(socket) {
            Ok((host, Some(client))) => match dial(core, client, publish.host(), publish.guest) {
                Some(guest) => conns.dialing(core, host, guest),
                None => sys::reset(host),
            },
            Ok((host, None)) => sys::reset(host),
            Err(Errno::AGAIN) => return,
            // It gave up while it waited.
            Err(Errno::CONNABORTED | Errno::INTR) => {}
            Err(err) => {
                core.limit(err, &format!("a client of {}", publish.host()));
                return;
            }
        }
    }
}

/// Opens the engine's connection to the guest for a `client` of the port published at `at`. `None`: it can't be; where that
/// is no matter of course, it was told.
pub(crate) fn dial(core: &mut Core, client: SocketAddr, at: SocketAddr, guest_port: u16) -> Option<SocketId> {
    let (guest, seen) = ends(core, client, guest_port);
    let refused = |err: &SockError| tracing::warn!("a client of {at} refused: {err}");
    dial_from(core, seen, guest?).inspect_err(refused).ok()
}

fn dial_from(core: &mut Core, seen: SocketAddr, guest: SocketAddr) -> Result<SocketId> {
    let family = if guest.is_ipv4() { Family::V4 } else { Family::V6 };
    let id = core.stack.socket(family, Kind::Stream)?;
    let connect = |core: &mut Core, from: SocketAddr| -> Result<()> {
        let mut sock = core.sock(id)?;
        sock.set_option(SockOption::Transparent(true))?;
        sock.set_option(SockOption::NoDelay(true))?;
        sock.bind(from)?;
        sock.connect(guest)
    };
    // Another client may have the same port at an address that looks the same to the guest.
    let any_port = SocketAddr::new(seen.ip(), 0);
    let result = connect(core, seen).or_else(|_| connect(core, any_port));
    if let (Err(_), Ok(sock)) = (&result, core.sock(id)) {
        sock.abort();
    }
    result.map(|()| id)
}

/// Has a worker wait for clients of the published TCP ports.
pub(crate) fn listen(core: &mut Core, ports: &[Port]) {
    for (n, port) in ports
        .iter()
        .enumerate()
        .filter(|(_, port)| port.publish.transport == Transport::Tcp)
    {
        core.watch(&port.socket, SHARED, Token::TcpPort(n as u32));
    }
}
