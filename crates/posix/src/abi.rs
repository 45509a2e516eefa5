//! The socket calls as C has them: `estab_socket`, `estab_connect` and so on take what socket(2), connect(2) … take, and
//! answer as they do: the value, or -1 and errno.

use crate::calls::{self, Errno, Result};
use crate::memory::{answer, given, int, out, pieces};
use crate::{addr, live, sockopt};
use libc::{
    c_char, c_int, c_long, c_uint, c_ulong, c_void, iovec, msghdr, off_t, size_t, sockaddr, socklen_t, ssize_t,
};
use std::ffi::CStr;
use std::net::SocketAddr;

/// Where a message goes: an address and its length, as the caller gave them.
type Target = (*const sockaddr, socklen_t);

const NOWHERE: Target = (std::ptr::null(), 0);

/// Receives into the pieces of `iov`.
///
/// # Safety
/// As [`pieces`]; each piece is writable.
unsafe fn scatter(fd: c_int, iov: *const iovec, count: usize, flags: c_int) -> Result<(usize, Option<SocketAddr>)> {
    // SAFETY: passed on from the caller.
    let pieces = unsafe { pieces(iov, count)? };
    let mut buf = vec![0; pieces.iter().map(|piece| piece.iov_len).sum()];
    let (n, from) = calls::recv(fd, &mut buf, flags)?;
    let mut rest = &buf[..n.min(buf.len())];
    for piece in pieces {
        // SAFETY: each piece is writable, by the caller's promise.
        let room = unsafe { out(piece.iov_base, piece.iov_len)? };
        let part = rest.len().min(room.len());
        room[..part].copy_from_slice(&rest[..part]);
        rest = &rest[part..];
    }
    Ok((n, from))
}

/// Sends the pieces of `iov` as one.
///
/// # Safety
/// As [`pieces`]; each piece is readable.
unsafe fn gather(fd: c_int, iov: *const iovec, count: usize, flags: c_int, to: Target) -> Result<usize> {
    let mut data = Vec::new();
    // SAFETY: passed on from the caller.
    for piece in unsafe { pieces(iov, count)? } {
        // SAFETY: each piece is readable, by the caller's promise.
        data.extend_from_slice(unsafe { given(piece.iov_base, piece.iov_len)? });
    }
    // SAFETY: passed on from the caller.
    unsafe { send_to(fd, &data, flags, to) }
}

/// Sends `data`; of a stream the address counts with MSG_FASTOPEN only.
///
/// # Safety
/// The address is null or as long as its length says.
unsafe fn send_to(fd: c_int, data: &[u8], flags: c_int, (addr, len): Target) -> Result<usize> {
    if flags & libc::MSG_FASTOPEN == 0 {
        // A connected stream has no use for an address (Linux: `tcp_sendmsg_locked`).
        if addr.is_null() || calls::opened(fd)?.stream {
            return calls::send(fd, data, flags);
        }
        // SAFETY: passed on from the caller.
        return calls::send_datagram(fd, data, unsafe { addr::read(addr, len)? }, flags);
    }
    if addr.is_null() {
        return calls::send_fast_open(fd, None, data, flags);
    }
    // SAFETY: passed on from the caller.
    match unsafe { addr::read(addr, len) } {
        Ok(to) => calls::send_fast_open(fd, Some(to), data, flags),
        // AF_UNSPEC would disconnect: not here.
        Err(Errno(libc::EAFNOSUPPORT)) => Err(Errno(libc::EOPNOTSUPP)),
        Err(e) => Err(e),
    }
}

/// The family in which a socket's addresses are told.
fn domain_of(fd: c_int) -> c_int {
    calls::opened(fd).map_or(libc::AF_INET, |socket| socket.domain)
}

/// Starts this process's stack over a TUN that exists or that the caller may make, as `config` says: `tun=NAME
/// local=ADDR/PREFIX gateway=ADDR mtu=N timewaits=FILE`, and settings by Linux's names (`net.ipv4.tcp_fin_timeout=30`), with
/// spaces between; `local` and `gateway` may be repeated. Then the calls below make and use its sockets; select(2), poll(2)
/// and epoll(7) work on their descriptors as on the kernel's.
///
/// With `timewaits` the stack leaves its TIME_WAITs in FILE when the process exits (not when a signal kills it), and the next
/// one on its address takes them over from there: no old segment is taken for new. With `estab.tcp_quiet_time=1` as well, a
/// stack that finds no such file, as after a crash, opens nothing for one MSL.
///
/// Returns 0, or -1 with EINVAL and what was wrong in `error` (a string of up to `error_len` bytes; may be null).
///
/// # Safety
/// `config` is a C string; `error` is null or has room for `error_len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn estab_start(config: *const c_char, error: *mut c_char, error_len: size_t) -> c_int {
    // SAFETY: a C string or null.
    let config = match unsafe { config.as_ref() } {
        // SAFETY: not null, and so a C string, by the caller's promise.
        Some(config) => unsafe { CStr::from_ptr(config) }.to_string_lossy(),
        None => return int(Err(Errno(libc::EFAULT))),
    };
    let Err(wrong) = live::start(&config) else { return 0 };
    // SAFETY: room for `error_len` bytes, or null.
    if let Ok([room @ .., end]) = unsafe { out(error.cast(), error_len) } {
        let len = wrong.len().min(room.len());
        room[..len].copy_from_slice(&wrong.as_bytes()[..len]);
        *room.get_mut(len).unwrap_or(end) = 0;
    }
    int(Err(Errno(libc::EINVAL)))
}

/// socket(2): AF_INET or AF_INET6, SOCK_STREAM or SOCK_DGRAM, with SOCK_NONBLOCK and SOCK_CLOEXEC.
///
/// # Safety
/// socket(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn estab_socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    int(calls::socket(domain, kind, protocol))
}

/// bind(2).
///
/// # Safety
/// bind(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn estab_bind(fd: c_int, to: *const sockaddr, len: socklen_t) -> c_int {
    // SAFETY: bind(2)'s contract.
    int(unsafe { addr::read(to, len) }
        .and_then(|to| calls::bind(fd, to))
        .map(|()| 0))
}

/// listen(2).
///
/// # Safety
/// listen(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn estab_listen(fd: c_int, backlog: c_int) -> c_int {
    int(calls::listen(fd, backlog).map(|()| 0))
}

/// accept(2).
///
/// # Safety
/// accept(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn estab_accept(fd: c_int, from: *mut sockaddr, len: *mut socklen_t) -> c_int {
    // SAFETY: accept(2)'s contract.
    unsafe { estab_accept4(fd, from, len, 0) }
}

/// accept4(2).
///
/// # Safety
/// accept4(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn estab_accept4(fd: c_int, from: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int {
    int(calls::accept(fd, flags).map(|(fd, peer, domain)| {
        // SAFETY: accept4(2)'s contract.
        unsafe { addr::write(peer, domain, from, len) };
        fd
    }))
}

/// getsockname(2).
///
/// # Safety
/// getsockname(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn estab_getsockname(fd: c_int, local: *mut sockaddr, len: *mut socklen_t) -> c_int {
    int(calls::local(fd).map(|(addr, domain)| {
        // SAFETY: getsockname(2)'s contract.
        unsafe { addr::write(addr, domain, local, len) };
        0
    }))
}

/// getpeername(2).
///
/// # Safety
/// getpeername(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn estab_getpeername(fd: c_int, peer: *mut sockaddr, len: *mut socklen_t) -> c_int {
    int(calls::peer(fd).map(|(addr, domain)| {
        // SAFETY: getpeername(2)'s contract.
        unsafe { addr::write(addr, domain, peer, len) };
        0
    }))
}

/// connect(2).
///
/// # Safety
/// connect(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn estab_connect(fd: c_int, to: *const sockaddr, len: socklen_t) -> c_int {
    // SAFETY: connect(2)'s contract.
    if unsafe { addr::is_unspec(to, len) } {
        return int(calls::disconnect(fd).map(|()| 0));
    }
    // SAFETY: connect(2)'s contract.
    int(unsafe { addr::read(to, len) }
        .and_then(|to| calls::connect(fd, to))
        .map(|()| 0))
}

/// shutdown(2).
///
/// # Safety
/// shutdown(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn estab_shutdown(fd: c_int, how: c_int) -> c_int {
    int(calls::shutdown(fd, how).map(|()| 0))
}

/// close(2).
///
/// # Safety
/// close(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn estab_close(fd: c_int) -> c_int {
    int(calls::close(fd).map(|()| 0))
}

/// read(2).
///
/// # Safety
/// read(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn estab_read(fd: c_int, buf: *mut c_void, len: size_t) -> ssize_t {
    // SAFETY: read(2)'s contract is recv(2)'s.
    unsafe { estab_recv(fd, buf, len, 0) }
}

/// readv(2).
///
/// # Safety
/// readv(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn estab_readv(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: readv(2)'s contract.
    answer(unsafe { scatter(fd, iov, count.max(0) as usize, 0) }.map(|(n, _)| n))
}

/// recv(2).
///
/// # Safety
/// recv(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn estab_recv(fd: c_int, buf: *mut c_void, len: size_t, flags: c_int) -> ssize_t {
    // SAFETY: recv(2)'s contract.
    answer(
        unsafe { out(buf, len) }
            .and_then(|buf| calls::recv(fd, buf, flags))
            .map(|(n, _)| n),
    )
}

/// recvfrom(2).
///
/// # Safety
/// recvfrom(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn estab_recvfrom(
    fd: c_int,
    buf: *mut c_void,
    len: size_t,
    flags: c_int,
    from: *mut sockaddr,
    from_len: *mut socklen_t,
) -> ssize_t {
    // SAFETY: recvfrom(2)'s contract.
    let received = unsafe { out(buf, len) }.and_then(|buf| calls::recv(fd, buf, flags));
    answer(received.map(|(n, source)| {
        if let Some(source) = source {
            // SAFETY: recvfrom(2)'s contract.
            unsafe { addr::write(source, domain_of(fd), from, from_len) };
        }
        n
    }))
}

/// recvmsg(2).
///
/// # Safety
/// recvmsg(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn estab_recvmsg(fd: c_int, msg: *mut msghdr, flags: c_int) -> ssize_t {
    let received = (|| {
        // SAFETY: recvmsg(2)'s contract: a valid header or null.
        let msg = unsafe { msg.as_mut() }.ok_or(Errno(libc::EFAULT))?;
        // SAFETY: the header's vectors are valid and writable.
        let (n, from) = unsafe { scatter(fd, msg.msg_iov, msg.msg_iovlen, flags)? };
        match from {
            // SAFETY: the header's name holds msg_namelen bytes, or is null.
            Some(from) => unsafe { addr::write(from, domain_of(fd), msg.msg_name.cast(), &mut msg.msg_namelen) },
            None => msg.msg_namelen = 0,
        }
        msg.msg_flags = 0;
        let wants_inq = calls::opened(fd).is_ok_and(|socket| socket.inq);
        msg.msg_controllen = if wants_inq {
            let left = calls::inq(fd)?;
            // SAFETY: the header's control buffer holds msg_controllen bytes.
            unsafe { put_inq(msg, left) }
        } else {
            0
        };
        Ok(n)
    })();
    answer(received)
}

/// Writes the TCP_CM_INQ control message; its length, 0 without room.
///
/// # Safety
/// `msg.msg_control` is null or holds `msg.msg_controllen` bytes.
unsafe fn put_inq(msg: &mut msghdr, left: i32) -> usize {
    const TCP_CM_INQ: c_int = 36;
    // SAFETY: the macros' arithmetic, on a header that the caller vouches for; CMSG_FIRSTHDR checks the room.
    unsafe {
        let size = libc::CMSG_SPACE(size_of::<c_int>() as c_uint) as usize;
        let first = libc::CMSG_FIRSTHDR(msg);
        if first.is_null() || msg.msg_controllen < size {
            return 0;
        }
        (*first).cmsg_level = libc::SOL_TCP;
        (*first).cmsg_type = TCP_CM_INQ;
        (*first).cmsg_len = libc::CMSG_LEN(size_of::<c_int>() as c_uint) as usize;
        libc::CMSG_DATA(first).cast::<c_int>().write_unaligned(left);
        size
    }
}

/// write(2).
///
/// # Safety
/// write(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn estab_write(fd: c_int, buf: *const c_void, len: size_t) -> ssize_t {
    // SAFETY: write(2)'s contract is send(2)'s.
    unsafe { estab_send(fd, buf, len, 0) }
}

/// writev(2).
///
/// # Safety
/// writev(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn estab_writev(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: writev(2)'s contract.
    answer(unsafe { gather(fd, iov, count.max(0) as usize, 0, NOWHERE) })
}

/// send(2).
///
/// # Safety
/// send(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn estab_send(fd: c_int, buf: *const c_void, len: size_t, flags: c_int) -> ssize_t {
    // SAFETY: send(2)'s contract.
    answer(unsafe { given(buf, len) }.and_then(|data| calls::send(fd, data, flags)))
}

/// sendto(2).
///
/// # Safety
/// sendto(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn estab_sendto(
    fd: c_int,
    buf: *const c_void,
    len: size_t,
    flags: c_int,
    to: *const sockaddr,
    to_len: socklen_t,
) -> ssize_t {
    // SAFETY: sendto(2)'s contract.
    answer(unsafe { given(buf, len).and_then(|data| send_to(fd, data, flags, (to, to_len))) })
}

/// sendmsg(2).
///
/// # Safety
/// sendmsg(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn estab_sendmsg(fd: c_int, msg: *const msghdr, flags: c_int) -> ssize_t {
    // SAFETY: sendmsg(2)'s contract: a valid header or null.
    let msg = unsafe { msg.as_ref() }.ok_or(Errno(libc::EFAULT));
    // SAFETY: the header's vectors are valid and readable.
    answer(msg.and_then(|msg| unsafe {
        let to = (msg.msg_name.cast_const().cast(), msg.msg_namelen);
        gather(fd, msg.msg_iov, msg.msg_iovlen, flags, to)
    }))
}

/// sendfile(2) from a real file to a socket of ours.
///
/// # Safety
/// sendfile(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn estab_sendfile(to: c_int, from: c_int, at: *mut off_t, len: size_t) -> ssize_t {
    let mut buf = vec![0u8; len.min(1 << 20)];
    // SAFETY: the buffer is ours; the offset is valid or null.
    let n = unsafe {
        match at.as_mut() {
            Some(at) => libc::pread(from, buf.as_mut_ptr().cast(), buf.len(), *at),
            None => libc::read(from, buf.as_mut_ptr().cast(), buf.len()),
        }
    };
    let Ok(n) = usize::try_from(n) else { return -1 };
    let sent = calls::send(to, &buf[..n], 0);
    // SAFETY: valid or null.
    if let (Ok(sent), Some(at)) = (&sent, unsafe { at.as_mut() }) {
        *at += *sent as off_t;
    }
    answer(sent)
}

/// fcntl(2): F_GETFL and F_SETFL. Variadic in C; its third argument is passed alike on the ABIs Linux has.
///
/// # Safety
/// fcntl(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn estab_fcntl(fd: c_int, command: c_int, argument: c_long) -> c_int {
    int(calls::fcntl(fd, command, argument as c_int))
}

/// ioctl(2): FIONREAD, TIOCOUTQ, SIOCOUTQNSD, FIONBIO. Variadic in C; its third argument is passed alike on the ABIs Linux has.
///
/// # Safety
/// ioctl(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn estab_ioctl(fd: c_int, request: c_ulong, argument: *mut c_int) -> c_int {
    // SAFETY: the requests that are known take a pointer to an int.
    int(calls::ioctl(fd, request, unsafe { argument.as_mut() }))
}

/// getsockopt(2): TCP_INFO in Linux's layout.
///
/// # Safety
/// getsockopt(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn estab_getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    int(sockopt::get(fd, level, name).and_then(|bytes| {
        // SAFETY: a length to read and write, or null.
        let len = unsafe { len.as_mut() }.ok_or(Errno(libc::EFAULT))?;
        let size = bytes.len().min(*len as usize);
        // SAFETY: `*len` writable bytes.
        unsafe { out(value, size)? }.copy_from_slice(&bytes[..size]);
        *len = size as socklen_t;
        Ok(0)
    }))
}

/// setsockopt(2).
///
/// # Safety
/// setsockopt(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn estab_setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
) -> c_int {
    // SAFETY: setsockopt(2)'s contract.
    int(unsafe { given(value, len as usize) }
        .and_then(|value| sockopt::set(fd, level, name, value))
        .map(|()| 0))
}
