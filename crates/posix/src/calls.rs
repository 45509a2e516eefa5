//! The socket calls, in Rust's terms: `Err` is errno.

use crate::fd::{File, Socket};
use crate::world::{self, Guard, World};
use estab_engine::proto::State;
use estab_engine::{Family, Kind, Readiness, RecvFlags, SendFlags, Shutdown, Sock, SockError, SockOption};
use std::net::SocketAddr;

/// Linux's number for what went wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Errno(pub(crate) i32);

pub(crate) type Result<T> = std::result::Result<T, Errno>;

impl From<SockError> for Errno {
    fn from(error: SockError) -> Errno {
        Errno(error.errno())
    }
}

/// One call that does not wait.
pub(crate) fn now<T>(call: impl FnOnce(&mut World) -> Result<T>) -> Result<T> {
    let mut guard = world::lock();
    let world = guard.as_mut().ok_or(Errno(libc::ENOTCONN))?;
    world.take_commands();
    let result = call(world);
    world.settle();
    drop(world::let_others_see(guard));
    result
}

/// One call on a socket that does not wait.
pub(crate) fn on<T>(fd: i32, call: impl FnOnce(&mut Sock<'_>) -> estab_engine::Result<T>) -> Result<T> {
    now(|world| {
        let id = world.files.socket(fd)?.id;
        let now = world.now();
        let result = call(&mut world.stack.sock(now, id)?);
        world.show(id, false);
        Ok(result?)
    })
}

/// The socket behind a descriptor. Only looks: nothing has to leave or wake for it.
pub(crate) fn opened(fd: i32) -> Result<Socket> {
    world::lock().as_ref().ok_or(Errno(libc::ENOTCONN))?.files.socket(fd)
}

/// What a call that waits waits for: its patience is SO_RCVTIMEO or SO_SNDTIMEO.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// None: EAGAIN at once.
    None,
    Receive,
    Send,
}

impl Patience {
    fn unless(self, dont_wait: bool) -> Patience {
        if dont_wait { Patience::None } else { self }
    }
}

/// One call that waits while it gives EAGAIN, unless the socket or the caller says not to.
fn waiting<T>(fd: i32, patience: Patience, mut call: impl FnMut(&mut World, Socket) -> Result<T>) -> Result<T> {
    let mut guard: Guard = world::lock();
    let began = guard.as_ref().map(World::now);
    loop {
        let world = guard.as_mut().ok_or(Errno(libc::EBADF))?;
        let socket = world.files.socket(fd)?;
        let result = call(world, socket);
        world.show(socket.id, false);
        world.settle();
        let most = match patience {
            Patience::Receive => socket.recv_timeout,
            Patience::Send => socket.send_timeout,
            Patience::None => None,
        };
        let until = most.zip(began).map(|(most, began)| began + most);
        let over = patience == Patience::None || socket.nonblocking || until.is_some_and(|until| world.now() >= until);
        if result.as_ref().err() != Some(&Errno(libc::EAGAIN)) || over {
            // A thread that slept lets time go on by reading the clock; any other shows what it did right away.
            if result.is_ok() {
                drop(world::let_others_see_unless_returning(guard));
            }
            return result;
        }
        world::not_yet(world);
        guard = world::sleep(guard, until);
    }
}

pub(crate) fn socket(domain: i32, kind: i32, protocol: i32) -> Result<i32> {
    let family = match domain {
        libc::AF_INET => Family::V4,
        libc::AF_INET6 => Family::V6,
        _ => return Err(Errno(libc::EAFNOSUPPORT)),
    };
    let nonblocking = kind & libc::SOCK_NONBLOCK != 0;
    let of = match (kind & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC), protocol) {
        (libc::SOCK_STREAM, 0 | libc::IPPROTO_TCP) => Kind::Stream,
        (libc::SOCK_DGRAM, 0 | libc::IPPROTO_UDP) => Kind::Datagram,
        _ => return Err(Errno(libc::EPROTONOSUPPORT)),
    };
    now(|world| {
        world.read_sysctls();
        let socket = Socket {
            id: world.stack.socket(family, of)?,
            domain,
            stream: of == Kind::Stream,
            nonblocking,
            inq: false,
            recv_timeout: None,
            send_timeout: None,
        };
        world.open(socket, kind & libc::SOCK_CLOEXEC != 0)
    })
}

pub(crate) fn bind(fd: i32, addr: SocketAddr) -> Result<()> {
    on(fd, |sock| sock.bind(addr))
}

pub(crate) fn listen(fd: i32, backlog: i32) -> Result<()> {
    on(fd, |sock| sock.listen(backlog))
}

/// connect(2) to AF_UNSPEC.
pub(crate) fn disconnect(fd: i32) -> Result<()> {
    on(fd, |sock| sock.disconnect())
}

pub(crate) fn connect(fd: i32, addr: SocketAddr) -> Result<()> {
    let socket = now(|world| {
        let socket = world.files.socket(fd)?;
        let now = world.now();
        world.stack.sock(now, socket.id)?.connect(addr)?;
        world.show(socket.id, false);
        Ok(socket)
    })?;
    if !socket.stream {
        return Ok(());
    }
    match connected(fd, addr) {
        // Not blocking, or SO_SNDTIMEO over.
        Err(Errno(libc::EAGAIN)) => Err(Errno(libc::EINPROGRESS)),
        other => other,
    }
}

/// Waits for an open that is under way.
fn connected(fd: i32, addr: SocketAddr) -> Result<()> {
    waiting(fd, Patience::Send, |world, socket| {
        let now = world.now();
        let mut sock = world.stack.sock(now, socket.id)?;
        let level = sock.readiness();
        if level.contains(Readiness::ERROR) || level.contains(Readiness::HANGUP) {
            return Err(sock.take_error().map_or(Errno(libc::ECONNABORTED), Errno::from));
        }
        if !level.contains(Readiness::WRITABLE) {
            return Err(Errno(libc::EAGAIN));
        }
        if !socket.nonblocking {
            // The caller learns now that it is connected: later calls say EISCONN.
            let _ = sock.connect(addr);
        }
        Ok(())
    })
}

/// The SYN of this socket waits for the first write (TCP_FASTOPEN_CONNECT).
fn is_deferred(sock: &mut Sock<'_>) -> bool {
    sock.state() == State::SynSent && sock.readiness().contains(Readiness::WRITABLE)
}

/// sendto(2) with MSG_FASTOPEN, and the first write after a connect(2) with TCP_FASTOPEN_CONNECT. A call that may wait does
/// so until the connection stands and the rest is written, and fails if the open does.
pub(crate) fn send_fast_open(fd: i32, to: Option<SocketAddr>, data: &[u8], flags: i32) -> Result<usize> {
    let (first, blocking) = now(|world| {
        world.read_sysctls();
        let socket = world.files.socket(fd)?;
        let blocking = flags & libc::MSG_DONTWAIT == 0 && !socket.nonblocking;
        let now = world.now();
        let how = send_flags(flags, blocking);
        let first = world.stack.sock(now, socket.id)?.send_fast_open(to, data, how);
        Ok((first, blocking))
    })?;
    let taken = match first {
        Ok(n) if blocking => n,
        Err(SockError::EINPROGRESS | SockError::EALREADY) if blocking => 0,
        other => return Ok(other?),
    };
    let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
    connected(fd, to.unwrap_or(unspecified))?;
    match taken == data.len() {
        true => Ok(taken),
        false => Ok(taken + send(fd, &data[taken..], flags & !libc::MSG_FASTOPEN)?),
    }
}

/// accept4(2): the descriptor, the peer, and the family in which its address is told.
pub(crate) fn accept(fd: i32, flags: i32) -> Result<(i32, SocketAddr, i32)> {
    if flags & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) != 0 {
        return Err(Errno(libc::EINVAL));
    }
    waiting(fd, Patience::Receive, |world, listener| {
        let now = world.now();
        let (id, peer) = world.stack.sock(now, listener.id)?.accept()?;
        let nonblocking = flags & libc::SOCK_NONBLOCK != 0;
        let socket = Socket {
            id,
            nonblocking,
            ..listener
        };
        let fd = world.open(socket, flags & libc::SOCK_CLOEXEC != 0)?;
        Ok((fd, peer, listener.domain))
    })
}

/// getsockname(2): the address, and the family in which it is told.
pub(crate) fn local(fd: i32) -> Result<(SocketAddr, i32)> {
    Ok((on(fd, |sock| sock.local_addr())?, opened(fd)?.domain))
}

/// getpeername(2): the address, and the family in which it is told.
pub(crate) fn peer(fd: i32) -> Result<(SocketAddr, i32)> {
    Ok((on(fd, |sock| sock.peer_addr())?, opened(fd)?.domain))
}

/// dup(2) was called: `copy` names what `fd` does.
pub(crate) fn duplicate(fd: i32, copy: i32) -> Result<()> {
    now(|world| world.files.duplicate(fd, copy))
}

fn recv_flags(flags: i32) -> RecvFlags {
    RecvFlags {
        peek: flags & libc::MSG_PEEK != 0,
        oob: flags & libc::MSG_OOB != 0,
        trunc: flags & libc::MSG_TRUNC != 0,
    }
}

/// Receives into `buf`: bytes, and where a datagram came from.
pub(crate) fn recv(fd: i32, buf: &mut [u8], flags: i32) -> Result<(usize, Option<SocketAddr>)> {
    if flags & libc::MSG_ERRQUEUE != 0 {
        return Err(Errno(libc::EAGAIN));
    }
    let patience = Patience::Receive.unless(flags & libc::MSG_DONTWAIT != 0);
    waiting(fd, patience, |world, socket| {
        let now = world.now();
        let mut sock = world.stack.sock(now, socket.id)?;
        // Only a stream can be peeked into without losing where a datagram came from.
        if socket.stream || flags & libc::MSG_PEEK != 0 {
            return Ok((sock.recv(buf, recv_flags(flags))?, None));
        }
        let (n, from, _) = sock.recv_from(buf)?;
        Ok((n, Some(from)))
    })
}

/// Bytes still to be read, an end that was not read yet counted as one: what TCP_INQ tells.
pub(crate) fn inq(fd: i32) -> Result<i32> {
    on(fd, |sock| {
        let queued = sock.recv_queued();
        let ended = sock.readiness().contains(Readiness::READ_HANGUP);
        Ok(queued as i32 + i32::from(ended && queued == 0))
    })
}

fn send_flags(flags: i32, waits: bool) -> SendFlags {
    SendFlags {
        more: flags & libc::MSG_MORE != 0,
        oob: flags & libc::MSG_OOB != 0,
        eor: flags & libc::MSG_EOR != 0,
        waits,
    }
}

/// Sends all of `data`, waiting for room unless told not to; the bytes taken.
pub(crate) fn send(fd: i32, data: &[u8], flags: i32) -> Result<usize> {
    if on(fd, |sock| Ok(is_deferred(sock)))? {
        return send_fast_open(fd, None, data, flags);
    }
    let dont_wait = flags & libc::MSG_DONTWAIT != 0;
    let (mut taken, mut waited) = (0, false);
    let result = waiting(fd, Patience::Send.unless(dont_wait), |world, socket| {
        let now = world.now();
        let how = send_flags(flags, !dont_wait && !socket.nonblocking);
        let mut sock = world.stack.sock(now, socket.id)?;
        // Once the buffer was full, room is what poll(2) calls room (Linux: `sk_stream_write_space` wakes the writer).
        if core::mem::replace(&mut waited, true) {
            let level = sock.readiness();
            let ends = [Readiness::WRITABLE, Readiness::ERROR, Readiness::HANGUP];
            if !ends.into_iter().any(|bit| level.contains(bit)) {
                return Err(Errno(libc::EAGAIN));
            }
        }
        loop {
            taken += sock.send(&data[taken..], how)?;
            if taken >= data.len() {
                return Ok(taken);
            }
        }
    });
    match result {
        // What was taken before the failure counts; the failure shows at the next call.
        Err(_) if taken > 0 => Ok(taken),
        other => other,
    }
}

/// sendto(2) of a datagram.
pub(crate) fn send_datagram(fd: i32, data: &[u8], to: SocketAddr, flags: i32) -> Result<usize> {
    let patience = Patience::Send.unless(flags & libc::MSG_DONTWAIT != 0);
    waiting(fd, patience, |world, socket| {
        let now = world.now();
        Ok(world.stack.sock(now, socket.id)?.send_to(data, None, to)?)
    })
}

pub(crate) fn shutdown(fd: i32, how: i32) -> Result<()> {
    let how = match how {
        libc::SHUT_RD => Shutdown::Read,
        libc::SHUT_WR => Shutdown::Write,
        libc::SHUT_RDWR => Shutdown::Both,
        _ => return Err(Errno(libc::EINVAL)),
    };
    on(fd, |sock| sock.shutdown(how))
}

/// close(2); with SO_LINGER it waits first.
pub(crate) fn close(fd: i32) -> Result<()> {
    linger(fd);
    release(fd)
}

/// SO_LINGER: waits until the peer has acknowledged all, our FIN included, or the time is over; O_NONBLOCK changes nothing
/// (Linux: `__tcp_close`, `sk_stream_wait_close`). There is nothing to wait for while other descriptors name the socket, or
/// where unread data makes close(2) a reset.
fn linger(fd: i32) {
    let Ok(SockOption::Linger(Some(time))) = get(fd, SockOption::Linger(None)) else {
        return;
    };
    if time.is_zero() {
        return;
    }
    let ended = now(|world| {
        let id = world.files.socket(fd)?.id;
        let now = world.now();
        let mut sock = world.stack.sock(now, id)?;
        if world.files.of(id).len() > 1 || sock.recv_queued() > 0 {
            return Err(Errno(libc::EAGAIN));
        }
        Ok(sock.shutdown(Shutdown::Both)?)
    });
    let mut guard: Guard = world::lock();
    let until = guard.as_ref().map(|world| world.now() + time).filter(|_| ended.is_ok());
    while let (Some(world), Some(until)) = (guard.as_mut(), until)
        && world.now() < until
        && is_closing(world, fd)
    {
        world::not_yet(world);
        guard = world::sleep(guard, Some(until));
    }
}

/// Something that the peer has to acknowledge keeps the socket from being closed (Linux: `sk_stream_closing`).
fn is_closing(world: &mut World, fd: i32) -> bool {
    let now = world.now();
    let state = world
        .files
        .socket(fd)
        .ok()
        .and_then(|socket| world.stack.sock(now, socket.id).ok().map(|sock| sock.state()));
    matches!(state, Some(State::FinWait1 | State::Closing | State::LastAck))
}

/// Closes a descriptor at once.
pub(crate) fn release(fd: i32) -> Result<()> {
    now(|world| {
        world.epoll_forget(fd);
        if let Some(id) = world.files.remove(fd)? {
            let now = world.now();
            world.stack.sock(now, id)?.close();
        }
        Ok(())
    })
}

/// F_GETFL and F_SETFL; other commands succeed without effect.
pub(crate) fn fcntl(fd: i32, command: i32, argument: i32) -> Result<i32> {
    now(|world| match command {
        libc::F_GETFL => {
            let nonblocking = world.files.socket(fd).is_ok_and(|s| s.nonblocking);
            Ok(libc::O_RDWR | if nonblocking { libc::O_NONBLOCK } else { 0 })
        }
        libc::F_SETFL => {
            world.files.get(fd)?;
            if let Ok(socket) = world.files.socket_mut(fd) {
                socket.nonblocking = argument & libc::O_NONBLOCK != 0;
            }
            Ok(0)
        }
        _ => world.files.get(fd).map(|_| 0),
    })
}

/// FIONREAD (SIOCINQ), SIOCOUTQ, SIOCOUTQNSD and FIONBIO.
pub(crate) fn ioctl(fd: i32, request: u64, argument: Option<&mut i32>) -> Result<i32> {
    const SIOCOUTQNSD: u64 = 0x894B;
    let argument = argument.ok_or(Errno(libc::EFAULT))?;
    match request {
        libc::FIONREAD => *argument = on(fd, |sock| Ok(sock.recv_queued() as i32))?,
        libc::TIOCOUTQ => *argument = on(fd, |sock| Ok(sock.send_queued() as i32))?,
        SIOCOUTQNSD => *argument = on(fd, |sock| sock.info().map(|info| info.notsent_bytes as i32))?,
        libc::FIONBIO => {
            let nonblocking = *argument != 0;
            now(|world| world.files.socket_mut(fd).map(|s| s.nonblocking = nonblocking))?;
        }
        _ => return Err(Errno(libc::ENOTTY)),
    }
    Ok(0)
}

/// Sets a socket option of the engine.
pub(crate) fn set(fd: i32, option: SockOption) -> Result<()> {
    on(fd, |sock| sock.set_option(option))
}

/// Reads a socket option of the engine.
pub(crate) fn get(fd: i32, like: SockOption) -> Result<SockOption> {
    on(fd, |sock| sock.option(like))
}

/// Moves up to `len` bytes from a socket into a pipe or back (splice(2)).
pub(crate) fn splice(from: i32, to: i32, len: usize) -> Result<usize> {
    enum Way {
        Out(std::sync::Arc<std::sync::Mutex<std::collections::VecDeque<u8>>>),
        In(std::sync::Arc<std::sync::Mutex<std::collections::VecDeque<u8>>>),
    }
    let way = now(
        |world| match (world.files.get(from)?.clone(), world.files.get(to)?.clone()) {
            (File::Socket(_), File::Pipe(pipe)) => Ok(Way::Out(pipe)),
            (File::Pipe(pipe), File::Socket(_)) => Ok(Way::In(pipe)),
            _ => Err(Errno(libc::EINVAL)),
        },
    )?;
    let poisoned = |_| Errno(libc::EIO);
    match way {
        Way::Out(pipe) => {
            // An urgent byte is nothing that splice takes, but nothing to wait for either (Linux: `tcp_splice_read`).
            let urgent = on(from, |sock| {
                let here = sock.recv_queued() > 0 || sock.readiness().contains(Readiness::PRIORITY);
                Ok(here && sock.at_mark())
            })?;
            if urgent {
                return Ok(0);
            }
            let mut buf = vec![0; len.min(1 << 16)];
            let n = recv(from, &mut buf, 0)?.0;
            pipe.lock().map_err(poisoned)?.extend(&buf[..n]);
            Ok(n)
        }
        Way::In(pipe) => {
            let data: Vec<u8> = pipe.lock().map_err(poisoned)?.iter().take(len).copied().collect();
            let n = send(to, &data, 0)?;
            pipe.lock().map_err(poisoned)?.drain(..n);
            Ok(n)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Setup;

    #[test]
    fn an_ipv6_socket_takes_ipv4_addresses_mapped_and_no_others() {
        *world::lock() = Some(World::new(Setup::parse("local=192.168.0.1")));
        let fd = socket(libc::AF_INET6, libc::SOCK_STREAM, 0).unwrap();
        let plain = "192.168.0.1:80".parse().unwrap();
        assert_eq!(bind(fd, plain), Err(Errno(libc::EAFNOSUPPORT)));
        assert_eq!(bind(fd, "[::ffff:192.168.0.1]:80".parse().unwrap()), Ok(()));
        listen(fd, 1).unwrap();
        close(fd).unwrap();
        *world::lock() = None;
    }
}
