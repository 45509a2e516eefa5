//! The few system calls the gateway makes, in the shapes it needs.

use rustix::event::{EventfdFlags, epoll};
use rustix::io::{Errno, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

pub(crate) use epoll::EventFlags;

/// Descriptors waited for, each under a number of the caller's.
pub(crate) struct Poller {
    fd: OwnedFd,
}

/// Level-triggered reading; edge-triggered reading, and everything; one of several pollers wakes.
pub(crate) const LEVEL: EventFlags = EventFlags::IN;
pub(crate) const EDGE_IN: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::ET);
pub(crate) const EDGE: EventFlags = EDGE_IN.union(EventFlags::OUT);
pub(crate) const SHARED: EventFlags = EventFlags::IN.union(EventFlags::EXCLUSIVE);

impl Poller {
    pub(crate) fn new() -> Result<Poller> {
        Ok(Poller {
            fd: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        })
    }

    /// Closing the descriptor takes it out again.
    pub(crate) fn add(&self, fd: impl AsFd, flags: EventFlags, token: u64) -> Result<()> {
        epoll::add(&self.fd, fd, epoll::EventData::new_u64(token), flags)
    }

    /// Waits for other flags of a descriptor; those that are set already are told at once.
    pub(crate) fn modify(&self, fd: impl AsFd, flags: EventFlags, token: u64) -> Result<()> {
        epoll::modify(&self.fd, fd, epoll::EventData::new_u64(token), flags)
    }

    /// No longer waits for a descriptor that stays open.
    pub(crate) fn remove(&self, fd: impl AsFd) {
        // It fails only when the descriptor isn't waited for.
        let _ = epoll::delete(&self.fd, fd);
    }

    /// Fills `events` with what is ready, at most `timeout` later (`None`: whenever).
    pub(crate) fn wait(&self, events: &mut Vec<epoll::Event>, timeout: Option<Duration>) -> Result<()> {
        events.clear();
        // Longer than a day is as good as a day, and always fits.
        let timeout = timeout.map(|t| rustix::event::Timespec {
            tv_sec: t.as_secs().min(86_400) as i64,
            tv_nsec: t.subsec_nanos().into(),
        });
        match epoll::wait(&self.fd, rustix::buffer::spare_capacity(events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(err) => Err(err),
        }
    }
}

/// Wakes a poller from another thread.
pub(crate) struct Waker(OwnedFd);

impl Waker {
    pub(crate) fn new() -> Result<Waker> {
        Ok(Waker(rustix::event::eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?))
    }

    pub(crate) fn wake(&self) {
        // It fails only when the counter is full: the poller is being woken already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    pub(crate) fn clear(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn family(of: SocketAddr) -> AddressFamily {
    if of.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    }
}

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// A TCP connection begun, and whether it is up; if not, it is up or has failed when the socket becomes writable.
///
/// A peer on this machine has answered before connect returns, but in the socket's backlog, which is looked at only on
/// the way out: asked again, connect tells.
pub(crate) fn tcp_connect(to: SocketAddr) -> Result<(OwnedFd, bool)> {
    let fd = rustix::net::socket_with(family(to), SocketType::STREAM, FLAGS, None)?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    let mut outcome = rustix::net::connect(&fd, &to);
    if outcome == Err(Errno::INPROGRESS) {
        outcome = rustix::net::connect(&fd, &to);
    }
    match outcome {
        Ok(()) => Ok((fd, true)),
        Err(Errno::INPROGRESS | Errno::ALREADY) => Ok((fd, false)),
        Err(err) => Err(err),
    }
}

/// A listening TCP socket.
pub(crate) fn tcp_listen(at: SocketAddr) -> Result<OwnedFd> {
    let fd = rustix::net::socket_with(family(at), SocketType::STREAM, FLAGS, None)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    if at.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    rustix::net::bind(&fd, &at)?;
    rustix::net::listen(&fd, 4096)?;
    Ok(fd)
}

/// The most areas that [`read_into`] fills.
const AREAS: usize = 32;

/// Reads into `areas`, one after the other.
pub(crate) fn read_into(fd: &OwnedFd, areas: &mut [&mut [u8]]) -> Result<usize> {
    let mut slices: [IoSliceMut<'_>; AREAS] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
    let filled = slices.iter_mut().zip(areas);
    let count = filled.map(|(slot, area)| *slot = IoSliceMut::new(area)).count();
    rustix::io::readv(fd, &mut slices[..count])
}

/// The next connection of a listener and who made it.
pub(crate) fn tcp_accept(listener: &OwnedFd) -> Result<(OwnedFd, Option<SocketAddr>)> {
    let (fd, peer) = rustix::net::acceptfrom_with(listener, FLAGS)?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    Ok((fd, peer.and_then(|peer| SocketAddr::try_from(peer).ok())))
}

/// A UDP socket that speaks with one peer, and keeps the ICMP errors that come back.
pub(crate) fn udp_connect(to: SocketAddr) -> Result<OwnedFd> {
    let fd = rustix::net::socket_with(family(to), SocketType::DGRAM, FLAGS, None)?;
    keep_errors(&fd, to)?;
    rustix::net::connect(&fd, &to)?;
    Ok(fd)
}

/// A UDP socket that hears from everybody.
pub(crate) fn udp_bind(at: SocketAddr) -> Result<OwnedFd> {
    let fd = rustix::net::socket_with(family(at), SocketType::DGRAM, FLAGS, None)?;
    if at.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    rustix::net::bind(&fd, &at)?;
    Ok(fd)
}

/// A ping socket (`net.ipv4.ping_group_range`) for `to`'s family: sends echo requests under an identifier of the
/// kernel's choice.
pub(crate) fn ping_socket(to: SocketAddr) -> Result<OwnedFd> {
    let protocol = if to.is_ipv4() {
        rustix::net::ipproto::ICMP
    } else {
        rustix::net::ipproto::ICMPV6
    };
    let fd = rustix::net::socket_with(family(to), SocketType::DGRAM, FLAGS, Some(protocol))?;
    keep_errors(&fd, to)?;
    Ok(fd)
}

/// IP_RECVERR: without it a UDP socket hears of refused ports only, not of unreachable hosts.
fn keep_errors(fd: &OwnedFd, peer: SocketAddr) -> Result<()> {
    let (level, option) = if peer.is_ipv4() {
        (libc::SOL_IP, libc::IP_RECVERR)
    } else {
        (libc::SOL_IPV6, libc::IPV6_RECVERR)
    };
    let on: libc::c_int = 1;
    // SAFETY: the option's value is one int, which outlives the call.
    let done = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
    }
}

/// The pending error of a socket (SO_ERROR), cleared.
pub(crate) fn take_error(fd: &OwnedFd) -> Option<Errno> {
    sockopt::socket_error(fd).ok().and_then(|error| error.err())
}

/// One datagram that an ICMP error came back for (IP_RECVERR, ip(7)): the length of its payload, which is put in
/// `buf`, and the error.
pub(crate) fn take_rejected(fd: &OwnedFd, buf: &mut [u8]) -> Option<(usize, Errno)> {
    // Room for a struct sock_extended_err with the address after it, aligned as control messages are.
    let mut control = [0u64; 32];
    let mut part = libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    };
    // SAFETY: msghdr is plain data for which zero is valid; it points at `buf` and `control`, which outlive the call.
    // The kernel leaves a well-formed list of control messages in it, which the CMSG macros walk within its length;
    // the payload of IP_RECVERR begins with a struct sock_extended_err, read unaligned.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        let len = usize::try_from(libc::recvmsg(fd.as_raw_fd(), &raw mut message, flags)).ok()?;
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            let of = ((*header).cmsg_level, (*header).cmsg_type);
            if matches!(
                of,
                (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR)
            ) {
                let error: libc::sock_extended_err = libc::CMSG_DATA(header)
                    .cast::<libc::sock_extended_err>()
                    .read_unaligned();
                return Some((len, Errno::from_raw_os_error(error.ee_errno as i32)));
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
        Some((len, Errno::HOSTUNREACH))
    }
}

/// Closes with a reset (SO_LINGER of 0): what the kernel has not sent is discarded.
pub(crate) fn reset(fd: OwnedFd) {
    let _ = sockopt::set_socket_linger(&fd, Some(Duration::ZERO));
}

/// Bytes the peer has not acknowledged yet (SIOCOUTQ).
pub(crate) fn unacknowledged(fd: &OwnedFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (TIOCOUTQ) writes one int.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if done == 0 {
        usize::try_from(bytes).unwrap_or(0)
    } else {
        0
    }
}

/// Raises the limit of open descriptors as far as it goes; what it is now.
pub(crate) fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
