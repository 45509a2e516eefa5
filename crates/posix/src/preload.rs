//! What a preloaded library (`LD_PRELOAD`) answers instead of the C library: the calls on its own descriptors; the kernel
//! gets the rest.
//!
//! With ESTAB_STACK in the environment (`tun=tun0 local=10.0.0.2/24 gateway=10.0.0.1 timewaits=FILE`, see
//! [`estab_start`]) an unchanged program's IPv4 and IPv6 sockets open on a stack of its own,
//! started at its first socket. Names are still looked up through the kernel, by the C library itself. A child made by
//! fork(2) without exec(2) has no stack: its calls on inherited sockets fail with ENETDOWN.

use crate::{abi::*, calls, fd, live, world};
use libc::{c_int, c_long, c_uint, c_ulong, c_void, iovec, msghdr, off_t, size_t, sockaddr, socklen_t, ssize_t};
use std::sync::OnceLock;

fn ours(fd: c_int) -> bool {
    // Past the marks only the table knows.
    fd::is_marked(fd) && (fd < 1 << 16 || world::lock().as_ref().is_some_and(|world| world.files.has(fd)))
}

fn fail(errno: c_int) -> c_int {
    // SAFETY: the location of this thread's errno is always valid.
    unsafe { *libc::__errno_location() = errno };
    -1
}

macro_rules! answered {
    ($($name:ident($fd:ident: c_int $(, $arg:ident: $of:ty)*) -> $ret:ty = $call:ident, $sys:ident;)*) => {
        $(
            #[doc = concat!(stringify!($name), "(2).")]
            ///
            /// # Safety
            /// The contract of the C library's function of that name.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($fd: c_int $(, $arg: $of)*) -> $ret {
                if !ours($fd) {
                    // SAFETY: passed on to the kernel as it came.
                    return unsafe { libc::syscall(libc::$sys, $fd $(, $arg)*) as $ret };
                }
                if live::is_lost() {
                    return fail(libc::ENETDOWN) as $ret;
                }
                // SAFETY: passed on as it came.
                unsafe { $call($fd $(, $arg)*) }
            }
        )*
    };
}

answered! {
    bind(fd: c_int, to: *const sockaddr, len: socklen_t) -> c_int = estab_bind, SYS_bind;
    listen(fd: c_int, backlog: c_int) -> c_int = estab_listen, SYS_listen;
    accept(fd: c_int, from: *mut sockaddr, len: *mut socklen_t) -> c_int = estab_accept, SYS_accept;
    accept4(fd: c_int, from: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int = estab_accept4, SYS_accept4;
    connect(fd: c_int, to: *const sockaddr, len: socklen_t) -> c_int = estab_connect, SYS_connect;
    shutdown(fd: c_int, how: c_int) -> c_int = estab_shutdown, SYS_shutdown;
    getsockname(fd: c_int, local: *mut sockaddr, len: *mut socklen_t) -> c_int = estab_getsockname, SYS_getsockname;
    getpeername(fd: c_int, peer: *mut sockaddr, len: *mut socklen_t) -> c_int = estab_getpeername, SYS_getpeername;
    read(fd: c_int, buf: *mut c_void, len: size_t) -> ssize_t = estab_read, SYS_read;
    readv(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t = estab_readv, SYS_readv;
    recvfrom(fd: c_int, buf: *mut c_void, len: size_t, flags: c_int, from: *mut sockaddr, from_len: *mut socklen_t)
        -> ssize_t = estab_recvfrom, SYS_recvfrom;
    recvmsg(fd: c_int, msg: *mut msghdr, flags: c_int) -> ssize_t = estab_recvmsg, SYS_recvmsg;
    write(fd: c_int, buf: *const c_void, len: size_t) -> ssize_t = estab_write, SYS_write;
    writev(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t = estab_writev, SYS_writev;
    sendto(fd: c_int, buf: *const c_void, len: size_t, flags: c_int, to: *const sockaddr, to_len: socklen_t)
        -> ssize_t = estab_sendto, SYS_sendto;
    sendmsg(fd: c_int, msg: *const msghdr, flags: c_int) -> ssize_t = estab_sendmsg, SYS_sendmsg;
    sendfile(to: c_int, from: c_int, at: *mut off_t, len: size_t) -> ssize_t = estab_sendfile, SYS_sendfile;
    sendfile64(to: c_int, from: c_int, at: *mut off_t, len: size_t) -> ssize_t = estab_sendfile, SYS_sendfile;
    ioctl(fd: c_int, request: c_ulong, argument: *mut c_int) -> c_int = estab_ioctl, SYS_ioctl;
    getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut socklen_t) -> c_int
        = estab_getsockopt, SYS_getsockopt;
    setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, len: socklen_t) -> c_int
        = estab_setsockopt, SYS_setsockopt;
}

/// recv(2).
///
/// # Safety
/// recv(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recv(fd: c_int, buf: *mut c_void, len: size_t, flags: c_int) -> ssize_t {
    // SAFETY: recv(2) is recvfrom(2) without an address.
    unsafe { recvfrom(fd, buf, len, flags, std::ptr::null_mut(), std::ptr::null_mut()) }
}

/// send(2).
///
/// # Safety
/// send(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn send(fd: c_int, buf: *const c_void, len: size_t, flags: c_int) -> ssize_t {
    // SAFETY: send(2) is sendto(2) without an address.
    unsafe { sendto(fd, buf, len, flags, std::ptr::null(), 0) }
}

/// What programs built with `_FORTIFY_SOURCE` call for read(2).
///
/// # Safety
/// read(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __read_chk(fd: c_int, buf: *mut c_void, len: size_t, _room: size_t) -> ssize_t {
    // SAFETY: read(2)'s contract.
    unsafe { read(fd, buf, len) }
}

/// What programs built with `_FORTIFY_SOURCE` call for recv(2).
///
/// # Safety
/// recv(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __recv_chk(fd: c_int, buf: *mut c_void, len: size_t, _room: size_t, flags: c_int) -> ssize_t {
    // SAFETY: recv(2)'s contract.
    unsafe { recv(fd, buf, len, flags) }
}

/// What programs built with `_FORTIFY_SOURCE` call for recvfrom(2).
///
/// # Safety
/// recvfrom(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __recvfrom_chk(
    fd: c_int,
    buf: *mut c_void,
    len: size_t,
    _room: size_t,
    flags: c_int,
    from: *mut sockaddr,
    from_len: *mut socklen_t,
) -> ssize_t {
    // SAFETY: recvfrom(2)'s contract.
    unsafe { recvfrom(fd, buf, len, flags, from, from_len) }
}

/// Starts the stack that ESTAB_STACK describes, once; whether there is one to open sockets on. Without the variable there is
/// none, and sockets are the kernel's; with one that can't be used they fail, and the reason is told once.
fn is_started() -> Option<bool> {
    static STARTED: OnceLock<Option<bool>> = OnceLock::new();
    *STARTED.get_or_init(|| {
        let plan = std::env::var("ESTAB_STACK").ok()?;
        let started = live::start(&plan);
        if let Err(wrong) = &started {
            eprintln!("estab: ESTAB_STACK={plan:?}: {wrong}");
        }
        Some(started.is_ok())
    })
}

/// socket(2): IPv4's and IPv6's streams and datagrams are the stack's, if ESTAB_STACK says so.
///
/// # Safety
/// socket(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    let of = kind & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC);
    let wanted = matches!(domain, libc::AF_INET | libc::AF_INET6) && matches!(of, libc::SOCK_STREAM | libc::SOCK_DGRAM);
    match if wanted { is_started() } else { None } {
        // SAFETY: passed on to the kernel as it came.
        None => unsafe { libc::syscall(libc::SYS_socket, domain, kind, protocol) as c_int },
        Some(started) if !started || live::is_lost() => fail(libc::ENETDOWN),
        // SAFETY: socket(2)'s contract.
        Some(_) => unsafe { estab_socket(domain, kind, protocol) },
    }
}

/// close(2).
///
/// # Safety
/// close(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    // In a forked child the connection is still the parent's; only the descriptor is closed.
    if ours(fd) && !live::is_lost() {
        // SAFETY: close(2)'s contract.
        return unsafe { estab_close(fd) };
    }
    // SAFETY: passed on to the kernel as it came.
    unsafe { libc::syscall(libc::SYS_close, fd) as c_int }
}

/// `copy` came from the kernel as a duplicate of `fd`.
fn duplicated(fd: c_int, copy: c_int) -> c_int {
    if copy >= 0 && copy != fd && ours(fd) && !live::is_lost() {
        // The kernel made the copy, so `fd` is open: it can only have been closed since, by another thread.
        let _ = calls::duplicate(fd, copy);
    }
    copy
}

/// dup(2).
///
/// # Safety
/// dup(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dup(fd: c_int) -> c_int {
    // SAFETY: passed on to the kernel as it came.
    duplicated(fd, unsafe { libc::syscall(libc::SYS_dup, fd) as c_int })
}

/// dup2(2).
///
/// # Safety
/// dup2(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dup2(fd: c_int, copy: c_int) -> c_int {
    if fd != copy && ours(copy) {
        // SAFETY: what `copy` names is closed first, as dup2(2) says.
        unsafe { close(copy) };
    }
    // SAFETY: passed on to the kernel as it came.
    duplicated(fd, unsafe { libc::syscall(libc::SYS_dup2, fd, copy) as c_int })
}

/// dup3(2).
///
/// # Safety
/// dup3(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dup3(fd: c_int, copy: c_int, flags: c_int) -> c_int {
    if fd != copy && ours(copy) {
        // SAFETY: what `copy` names is closed first, as dup3(2) says.
        unsafe { close(copy) };
    }
    // SAFETY: passed on to the kernel as it came.
    duplicated(fd, unsafe { libc::syscall(libc::SYS_dup3, fd, copy, flags) as c_int })
}

/// fcntl(2): variadic in C; its third argument is passed alike on the ABIs Linux has.
///
/// # Safety
/// fcntl(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl(fd: c_int, command: c_int, argument: c_long) -> c_int {
    match command {
        libc::F_GETFL | libc::F_SETFL if ours(fd) && !live::is_lost() => {
            // SAFETY: fcntl(2)'s contract.
            unsafe { estab_fcntl(fd, command, argument) }
        }
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => {
            // SAFETY: passed on to the kernel as it came.
            duplicated(fd, unsafe {
                libc::syscall(libc::SYS_fcntl, fd, command, argument) as c_int
            })
        }
        // SAFETY: passed on to the kernel as it came.
        _ => unsafe { libc::syscall(libc::SYS_fcntl, fd, command, argument) as c_int },
    }
}

/// fcntl(2), as programs built for large files call it.
///
/// # Safety
/// fcntl(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl64(fd: c_int, command: c_int, argument: c_long) -> c_int {
    // SAFETY: fcntl(2)'s contract.
    unsafe { fcntl(fd, command, argument) }
}

/// splice(2): a socket of ours is no end of it.
///
/// # Safety
/// splice(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn splice(
    from: c_int,
    from_at: *mut off_t,
    to: c_int,
    to_at: *mut off_t,
    len: size_t,
    flags: c_uint,
) -> ssize_t {
    if ours(from) || ours(to) {
        return fail(libc::EINVAL) as ssize_t;
    }
    // SAFETY: passed on to the kernel as it came.
    unsafe { libc::syscall(libc::SYS_splice, from, from_at, to, to_at, len, flags) as ssize_t }
}
