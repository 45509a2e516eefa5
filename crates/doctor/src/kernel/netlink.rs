//! The kernel's sockets by netlink sock_diag, one at a time: a hundred thousand need no more memory than one.

use super::message::{Query, parse};
use crate::socket::Socket;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `struct nlmsghdr`
const HEADER: usize = 16;

/// How a dump went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dumped {
    /// The tables changed under the dump: a socket may be missing or double.
    pub interrupted: bool,
}

/// Hands every socket that `query` asks for to `each`.
///
/// # Errors
/// EPERM, EACCES or EPROTONOSUPPORT where a container forbids netlink; ENOENT where the kernel lacks the part (tcp_diag, udp_diag).
pub fn dump(query: Query, mut each: impl FnMut(Socket)) -> Result<Dumped, Errno> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(SOCK_DIAG),
    )?;
    ask(&socket, query)?;
    let mut dumped = Dumped::default();
    // The kernel fills at most 32 KiB at a time.
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        let (length, _) = match recv(&socket, buffer.as_mut_slice(), RecvFlags::empty()) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        let mut rest = buffer.get(..length).unwrap_or(&buffer);
        while let Some((kind, flags, payload, next)) = split(rest) {
            dumped.interrupted |= flags & NLM_F_DUMP_INTR != 0;
            match kind {
                NLMSG_DONE => return status(payload).map(|()| dumped),
                NLMSG_ERROR => return status(payload).map(|()| dumped),
                SOCK_DIAG_BY_FAMILY => {
                    if let Some(found) = parse(query.protocol, payload) {
                        each(found);
                    }
                }
                _ => {}
            }
            rest = next;
        }
        if length == 0 {
            return Err(Errno::IO);
        }
    }
}

fn ask(socket: &OwnedFd, query: Query) -> Result<(), Errno> {
    let body = query.bytes();
    let mut message = Vec::with_capacity(HEADER + body.len());
    // The length fits: it is 72.
    message.extend_from_slice(&((HEADER + body.len()) as u32).to_ne_bytes());
    message.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(&body);
    sendto(socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    Ok(())
}

/// The first message of `bytes`: its type, flags and payload, and what follows.
fn split(bytes: &[u8]) -> Option<(u16, u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let flags = u16::from_ne_bytes(*bytes.get(6..)?.first_chunk()?);
    let payload = bytes.get(HEADER..length)?;
    let next = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    Some((kind, flags, payload, next))
}

/// The error that a message's first number tells, negated; 0 is none.
fn status(payload: &[u8]) -> Result<(), Errno> {
    let code = payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    if code < 0 {
        return Err(Errno::from_raw_os_error(-code));
    }
    Ok(())
}
