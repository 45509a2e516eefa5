//! The running kernel as a source: its sockets, who holds them, and what it counts. Nothing here needs root, but
//! without it only one's own processes can be told.

pub mod counters;
pub mod message;
pub mod netlink;
pub mod owners;
pub mod proc_net;

use crate::socket::Socket;
use message::{ALL_STATES, Query};
use rustix::io::Errno;
use std::fmt;
use std::path::Path;

/// What is asked of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    /// TCP sockets.
    pub tcp: bool,
    /// UDP sockets.
    pub udp: bool,
    /// IPv4.
    pub ipv4: bool,
    /// IPv6.
    pub ipv6: bool,
    /// One bit for each of Linux's state numbers; [`ALL_STATES`].
    pub states: u32,
    /// tcp_info and the congestion control.
    pub info: bool,
    /// The memory of each.
    pub memory: bool,
}

impl Ask {
    /// Every TCP socket, without details.
    pub const TCP: Ask = Ask {
        tcp: true,
        udp: false,
        ipv4: true,
        ipv6: true,
        states: ALL_STATES,
        info: false,
        memory: false,
    };
}

/// Why the kernel's sockets can't be seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unseen {
    /// tcp or udp.
    pub protocol: &'static str,
    /// What the kernel said.
    pub error: Errno,
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unseen { protocol, error } = self;
        match *error {
            Errno::NOENT => write!(
                f,
                "the kernel can't list {protocol} sockets: {protocol}_diag is not there (modprobe {protocol}_diag)"
            ),
            Errno::PERM | Errno::ACCESS | Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT => {
                write!(
                    f,
                    "{protocol} sockets can't be listed: netlink is forbidden here ({error}); a container's seccomp profile does that"
                )
            }
            _ => write!(f, "{protocol} sockets can't be listed: {error}"),
        }
    }
}

impl std::error::Error for Unseen {}

/// How a look at the kernel's sockets went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Looked {
    /// The tables changed meanwhile: a socket may be missing or double.
    pub interrupted: bool,
    /// Netlink failed so, and /proc/net was read instead: no details, and no listener's backlog.
    pub without_netlink: Option<Unseen>,
}

/// Hands every socket of this network namespace that `ask` wants to `each`, in the kernel's order.
///
/// # Errors
/// Neither netlink nor /proc/net tells.
pub fn sockets(ask: Ask, mut each: impl FnMut(Socket)) -> Result<Looked, Unseen> {
    let mut looked = Looked::default();
    let mut told = false;
    for (protocol, number, wanted) in [("udp", 17, ask.udp), ("tcp", 6, ask.tcp)] {
        for (ipv6, wanted) in [(false, wanted && ask.ipv4), (true, wanted && ask.ipv6)] {
            if !wanted {
                continue;
            }
            let query = Query {
                ipv6,
                protocol: number,
                states: ask.states,
                info: ask.info,
                memory: ask.memory,
            };
            let dumped = netlink::dump(query, |socket| {
                told = true;
                each(socket);
            });
            match dumped {
                Ok(dumped) => looked.interrupted |= dumped.interrupted,
                // A kernel without IPv6.
                Err(Errno::NOENT | Errno::AFNOSUPPORT) if ipv6 && ask.ipv4 && looked.without_netlink.is_none() => {}
                Err(error) => {
                    let unseen = Unseen { protocol, error };
                    if told {
                        return Err(unseen);
                    }
                    proc_net::read(Path::new("/proc"), ask, each).map_err(|_| unseen)?;
                    looked.without_netlink = Some(unseen);
                    return Ok(looked);
                }
            }
        }
    }
    Ok(looked)
}
