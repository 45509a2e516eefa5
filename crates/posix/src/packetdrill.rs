//! packetdrill's interface to a stack under test (`--so_filename`), on a virtual clock.

use crate::calls::{self, Errno, Result};
use crate::epoll::{self, Epoll};
use crate::fd::File;
use crate::world::{self, Setup, World};
use crate::{addr, sockopt};
use libc::{
    c_char, c_int, c_long, c_longlong, c_uint, c_ulong, c_void, epoll_event, iovec, loff_t, msghdr, nfds_t, off_t,
    pollfd, size_t, sockaddr, socklen_t, ssize_t, timeval,
};
use std::collections::VecDeque;
use std::ffi::CStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long packetdrill may wait for a packet before the answer is that none comes.
const PATIENCE: Duration = Duration::from_secs(3_600);

type Ud = *mut c_void;

macro_rules! interface {
    ($($(#[$doc:meta])* $name:ident($($arg:ty),*) -> $ret:ty;)*) => {
        /// `struct packetdrill_interface` (packetdrill.h): the functions that packetdrill calls instead of the
        /// kernel's. Each takes `userdata` first, which is not used here.
        #[repr(C)]
        #[derive(Debug)]
        pub struct PacketdrillInterface {
            userdata: Ud,
            free: Option<unsafe extern "C" fn(Ud)>,
            $($name: Option<unsafe extern "C" fn(Ud, $($arg),*) -> $ret>,)*
        }

        impl PacketdrillInterface {
            fn new() -> PacketdrillInterface {
                PacketdrillInterface { userdata: std::ptr::null_mut(), free: Some(free), $($name: Some($name),)* }
            }
        }
    };
}

interface! {
    socket(c_int, c_int, c_int) -> c_int;
    bind(c_int, *const sockaddr, socklen_t) -> c_int;
    listen(c_int, c_int) -> c_int;
    accept(c_int, *mut sockaddr, *mut socklen_t) -> c_int;
    connect(c_int, *const sockaddr, socklen_t) -> c_int;
    read(c_int, *mut c_void, size_t) -> ssize_t;
    readv(c_int, *const iovec, c_int) -> ssize_t;
    recv(c_int, *mut c_void, size_t, c_int) -> ssize_t;
    recvfrom(c_int, *mut c_void, size_t, c_int, *mut sockaddr, *mut socklen_t) -> ssize_t;
    recvmsg(c_int, *mut msghdr, c_int) -> ssize_t;
    write(c_int, *const c_void, size_t) -> ssize_t;
    writev(c_int, *const iovec, c_int) -> ssize_t;
    send(c_int, *const c_void, size_t, c_int) -> ssize_t;
    sendto(c_int, *const c_void, size_t, c_int, *const sockaddr, socklen_t) -> ssize_t;
    sendmsg(c_int, *const msghdr, c_int) -> ssize_t;
    fcntl(c_int, c_int, c_long) -> c_int;
    ioctl(c_int, c_ulong, *mut c_int) -> c_int;
    close(c_int) -> c_int;
    shutdown(c_int, c_int) -> c_int;
    getsockopt(c_int, c_int, c_int, *mut c_void, *mut socklen_t) -> c_int;
    setsockopt(c_int, c_int, c_int, *const c_void, socklen_t) -> c_int;
    poll(*mut pollfd, nfds_t, c_int) -> c_int;
    netdev_send(*const c_void, size_t) -> c_int;
    netdev_receive(*mut c_void, *mut size_t, *mut c_longlong) -> c_int;
    usleep(c_uint) -> c_int;
    gettimeofday(*mut timeval, *mut c_void) -> c_int;
    epoll_create(c_int) -> c_int;
    epoll_ctl(c_int, c_int, c_int, *mut epoll_event) -> c_int;
    epoll_wait(c_int, *mut epoll_event, c_int, c_int) -> c_int;
    pipe(*mut c_int) -> c_int;
    splice(c_int, *mut loff_t, c_int, *mut loff_t, size_t, c_uint) -> ssize_t;
}

/// Fills in `interface` and makes a new stack, as `flags` (`--so_flags`) say: `local=ADDR mtu=N sysctls=DIR`.
///
/// # Safety
/// `flags` is null or a C string; `interface` points to a `struct packetdrill_interface`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn packetdrill_interface_init(flags: *const c_char, interface: *mut PacketdrillInterface) {
    let flags = if flags.is_null() {
        String::new()
    } else {
        // SAFETY: not null, and so a C string, by the caller's promise.
        unsafe { CStr::from_ptr(flags) }.to_string_lossy().into_owned()
    };
    *world::lock() = Some(World::new(Setup::parse(&flags)));
    // SAFETY: the caller gives a structure to fill in.
    unsafe { interface.write(PacketdrillInterface::new()) };
}

unsafe extern "C" fn free(_: Ud) {
    let files = world::lock().as_ref().map_or_else(Vec::new, |world| world.files.all());
    for fd in files {
        // A connection that is gone already has nothing to close.
        let _ = calls::close(fd);
    }
    *world::lock() = None;
}

/// C's way to say how a call went: the value, or -1 and errno.
pub(crate) fn answer<T: TryInto<isize>>(result: Result<T>) -> isize {
    match result {
        Ok(value) => value.try_into().unwrap_or(isize::MAX),
        Err(Errno(errno)) => {
            // SAFETY: the location of this thread's errno is always valid.
            unsafe { *libc::__errno_location() = errno };
            -1
        }
    }
}

fn int(result: Result<i32>) -> c_int {
    answer(result) as c_int
}

/// A caller's buffer to be written; EFAULT for null.
///
/// # Safety
/// `buf` is null or points to `len` writable bytes.
unsafe fn out<'a>(buf: *mut c_void, len: size_t) -> Result<&'a mut [u8]> {
    match (buf.is_null(), len) {
        (_, 0) => Ok(&mut []),
        (true, _) => Err(Errno(libc::EFAULT)),
        // SAFETY: not null, and so `len` bytes, by the caller's promise.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts_mut(buf.cast(), len) }),
    }
}

/// A caller's buffer to be read; EFAULT for null.
///
/// # Safety
/// `buf` is null or points to `len` readable bytes.
pub(crate) unsafe fn given<'a>(buf: *const c_void, len: size_t) -> Result<&'a [u8]> {
    match (buf.is_null(), len) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(Errno(libc::EFAULT)),
        // SAFETY: not null, and so `len` bytes, by the caller's promise.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts(buf.cast(), len) }),
    }
}

/// The pieces of a vector.
///
/// # Safety
/// `iov` is null or points to `count` vectors.
unsafe fn pieces<'a>(iov: *const iovec, count: usize) -> Result<&'a [iovec]> {
    match (iov.is_null(), count) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(Errno(libc::EFAULT)),
        // SAFETY: not null, and so `count` vectors, by the caller's promise.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts(iov, count) }),
    }
}

/// Receives into the pieces of `iov`.
///
/// # Safety
/// As [`pieces`]; each piece is writable.
unsafe fn scatter(fd: c_int, iov: *const iovec, count: usize, flags: c_int) -> Result<usize> {
    // SAFETY: passed on from the caller.
    let pieces = unsafe { pieces(iov, count)? };
    let mut buf = vec![0; pieces.iter().map(|piece| piece.iov_len).sum()];
    let (n, _) = calls::recv(fd, &mut buf, flags)?;
    let mut rest = &buf[..n.min(buf.len())];
    for piece in pieces {
        // SAFETY: each piece is writable, by the caller's promise.
        let room = unsafe { out(piece.iov_base, piece.iov_len)? };
        let part = rest.len().min(room.len());
        room[..part].copy_from_slice(&rest[..part]);
        rest = &rest[part..];
    }
    Ok(n)
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

/// Where a message goes: an address and its length, as the caller gave them.
type Target = (*const sockaddr, socklen_t);

const NOWHERE: Target = (std::ptr::null(), 0);

/// Sends `data`; with MSG_FASTOPEN the address counts.
///
/// # Safety
/// The address is null or as long as its length says.
unsafe fn send_to(fd: c_int, data: &[u8], flags: c_int, (addr, len): Target) -> Result<usize> {
    if flags & libc::MSG_FASTOPEN == 0 {
        return calls::send(fd, data, flags);
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

unsafe extern "C" fn socket(_: Ud, domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    int(calls::socket(domain, kind, protocol))
}

unsafe extern "C" fn bind(_: Ud, fd: c_int, to: *const sockaddr, len: socklen_t) -> c_int {
    // SAFETY: bind(2)'s contract.
    int(unsafe { addr::read(to, len) }
        .and_then(|to| calls::bind(fd, to))
        .map(|()| 0))
}

unsafe extern "C" fn listen(_: Ud, fd: c_int, backlog: c_int) -> c_int {
    int(calls::listen(fd, backlog).map(|()| 0))
}

unsafe extern "C" fn accept(_: Ud, fd: c_int, from: *mut sockaddr, len: *mut socklen_t) -> c_int {
    int(calls::accept(fd).map(|(fd, peer, domain)| {
        // SAFETY: accept(2)'s contract.
        unsafe { addr::write(peer, domain, from, len) };
        fd
    }))
}

unsafe extern "C" fn connect(_: Ud, fd: c_int, to: *const sockaddr, len: socklen_t) -> c_int {
    // SAFETY: connect(2)'s contract.
    int(unsafe { addr::read(to, len) }
        .and_then(|to| calls::connect(fd, to))
        .map(|()| 0))
}

unsafe extern "C" fn read(ud: Ud, fd: c_int, buf: *mut c_void, len: size_t) -> ssize_t {
    // SAFETY: read(2)'s contract is recv(2)'s.
    unsafe { recv(ud, fd, buf, len, 0) }
}

unsafe extern "C" fn readv(_: Ud, fd: c_int, iov: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: readv(2)'s contract.
    answer(unsafe { scatter(fd, iov, count.max(0) as usize, 0) })
}

unsafe extern "C" fn recv(_: Ud, fd: c_int, buf: *mut c_void, len: size_t, flags: c_int) -> ssize_t {
    // SAFETY: recv(2)'s contract.
    answer(
        unsafe { out(buf, len) }
            .and_then(|buf| calls::recv(fd, buf, flags))
            .map(|(n, _)| n),
    )
}

unsafe extern "C" fn recvfrom(
    _: Ud,
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
            unsafe { addr::write(source, libc::AF_INET, from, from_len) };
        }
        n
    }))
}

unsafe extern "C" fn recvmsg(_: Ud, fd: c_int, msg: *mut msghdr, flags: c_int) -> ssize_t {
    let received = (|| {
        // SAFETY: recvmsg(2)'s contract: a valid header or null.
        let msg = unsafe { msg.as_mut() }.ok_or(Errno(libc::EFAULT))?;
        // SAFETY: the header's vectors are valid and writable.
        let n = unsafe { scatter(fd, msg.msg_iov, msg.msg_iovlen, flags)? };
        msg.msg_flags = 0;
        let wants_inq = calls::now(|world| world.files.socket(fd)).is_ok_and(|socket| socket.inq);
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

unsafe extern "C" fn write(ud: Ud, fd: c_int, buf: *const c_void, len: size_t) -> ssize_t {
    // SAFETY: write(2)'s contract is send(2)'s.
    unsafe { send(ud, fd, buf, len, 0) }
}

unsafe extern "C" fn writev(_: Ud, fd: c_int, iov: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: writev(2)'s contract.
    answer(unsafe { gather(fd, iov, count.max(0) as usize, 0, NOWHERE) })
}

unsafe extern "C" fn send(_: Ud, fd: c_int, buf: *const c_void, len: size_t, flags: c_int) -> ssize_t {
    // SAFETY: send(2)'s contract.
    answer(unsafe { given(buf, len) }.and_then(|data| calls::send(fd, data, flags)))
}

unsafe extern "C" fn sendto(
    _: Ud,
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

unsafe extern "C" fn sendmsg(_: Ud, fd: c_int, msg: *const msghdr, flags: c_int) -> ssize_t {
    // SAFETY: sendmsg(2)'s contract: a valid header or null.
    let msg = unsafe { msg.as_ref() }.ok_or(Errno(libc::EFAULT));
    // SAFETY: the header's vectors are valid and readable.
    answer(msg.and_then(|msg| unsafe {
        let to = (msg.msg_name.cast_const().cast(), msg.msg_namelen);
        gather(fd, msg.msg_iov, msg.msg_iovlen, flags, to)
    }))
}

/// Variadic in C; its third argument is passed alike on the ABIs Linux has.
unsafe extern "C" fn fcntl(_: Ud, fd: c_int, command: c_int, argument: c_long) -> c_int {
    int(calls::fcntl(fd, command, argument as c_int))
}

/// Variadic in C; its third argument is passed alike on the ABIs Linux has.
unsafe extern "C" fn ioctl(_: Ud, fd: c_int, request: c_ulong, argument: *mut c_int) -> c_int {
    // SAFETY: the requests that are known take a pointer to an int.
    int(calls::ioctl(fd, request, unsafe { argument.as_mut() }))
}

unsafe extern "C" fn close(_: Ud, fd: c_int) -> c_int {
    int(calls::close(fd).map(|()| 0))
}

unsafe extern "C" fn shutdown(_: Ud, fd: c_int, how: c_int) -> c_int {
    int(calls::shutdown(fd, how).map(|()| 0))
}

/// getsockopt(2) on a descriptor of ours.
///
/// # Safety
/// getsockopt(2)'s contract.
pub(crate) unsafe extern "C" fn getsockopt(
    _: Ud,
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

unsafe extern "C" fn setsockopt(
    _: Ud,
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

/// Lets time pass until `look` finds something or `timeout` (milliseconds, negative: for ever) is over.
fn wait<T>(timeout: c_int, mut look: impl FnMut(&mut World) -> Option<T>) -> Option<T> {
    let mut guard = world::lock();
    let now = guard.as_ref().map(World::now)?;
    let patience = u64::try_from(timeout).map_or(PATIENCE, Duration::from_millis);
    let mut found = None;
    if guard.as_ref().is_some_and(|world| !world.is_clock_mine()) {
        // Time is another thread's to let pass.
        loop {
            let world = guard.as_mut()?;
            found = look(world);
            if found.is_some() || world.now() >= now + patience {
                return found;
            }
            world.wake_at(now + patience);
            world::not_yet(world);
            guard = world::sleep(guard);
        }
    }
    let guard = world::advance(guard, now + patience, |world| {
        found = look(world);
        found.is_some()
    });
    drop(guard);
    found
}

unsafe extern "C" fn poll(_: Ud, fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
    if fds.is_null() && count > 0 {
        return int(Err(Errno(libc::EFAULT)));
    }
    let fds: &mut [pollfd] = match count {
        0 => &mut [],
        // SAFETY: poll(2)'s contract, and not null.
        _ => unsafe { std::slice::from_raw_parts_mut(fds, count as usize) },
    };
    let always = libc::POLLERR | libc::POLLHUP | libc::POLLNVAL;
    let ready = wait(timeout, |world| {
        for fd in fds.iter_mut() {
            fd.revents = epoll::level(world, fd.fd) as i16 & (fd.events | always);
        }
        let ready = fds.iter().filter(|fd| fd.revents != 0).count();
        (ready > 0).then_some(ready)
    });
    ready.unwrap_or(0) as c_int
}

unsafe extern "C" fn netdev_send(_: Ud, packet: *const c_void, len: size_t) -> c_int {
    // SAFETY: packetdrill.h: `len` bytes of a packet.
    let packet = unsafe { given(packet, len) };
    int(packet.and_then(|packet| {
        calls::now(|world| {
            world.arrive(packet);
            Ok(0)
        })
    }))
}

unsafe extern "C" fn netdev_receive(_: Ud, buf: *mut c_void, count: *mut size_t, micros: *mut c_longlong) -> c_int {
    let sent = wait(-1, |world| {
        let (at, packet) = world.sent.pop_front()?;
        Some((world.unix_micros(at), packet))
    });
    let (at, packet) = sent.unwrap_or_default();
    // SAFETY: packetdrill.h: all three point to what their names say; `*count` bytes of room in `buf`.
    unsafe {
        let size = packet.len().min(*count);
        if size > 0 {
            std::ptr::copy_nonoverlapping(packet.as_ptr(), buf.cast(), size);
        }
        *count = size;
        *micros = at;
    }
    0
}

unsafe extern "C" fn usleep(_: Ud, micros: c_uint) -> c_int {
    let guard = world::lock();
    if let Some(now) = guard.as_ref().map(World::now) {
        let end = now + Duration::from_micros(micros.into());
        let mut guard = world::advance(guard, end, |_| false);
        let returned = guard.as_mut().is_some_and(World::take_returned);
        drop(guard);
        if returned {
            // A thread whose call is over has its result to hand over to packetdrill, which it can only while this one is
            // here; no time passes for the stack.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    0
}

unsafe extern "C" fn gettimeofday(_: Ud, tv: *mut timeval, _zone: *mut c_void) -> c_int {
    let micros = world::read_clock(world::lock());
    // SAFETY: gettimeofday(2)'s contract.
    if let Some(tv) = unsafe { tv.as_mut() } {
        tv.tv_sec = micros / 1_000_000;
        tv.tv_usec = micros % 1_000_000;
    }
    0
}

unsafe extern "C" fn epoll_create(_: Ud, size: c_int) -> c_int {
    if size <= 0 {
        return int(Err(Errno(libc::EINVAL)));
    }
    int(calls::now(|world| {
        world.files.add(File::Epoll(Arc::new(Mutex::new(Epoll::default()))))
    }))
}

fn epoll_of(epfd: c_int) -> Result<Arc<Mutex<Epoll>>> {
    calls::now(|world| match world.files.get(epfd)? {
        File::Epoll(epoll) => Ok(Arc::clone(epoll)),
        _ => Err(Errno(libc::EINVAL)),
    })
}

unsafe extern "C" fn epoll_ctl(_: Ud, epfd: c_int, op: c_int, fd: c_int, event: *mut epoll_event) -> c_int {
    int(epoll_of(epfd).and_then(|epoll| {
        calls::now(|world| world.files.get(fd).map(|_| ()))?;
        let (events, data) = if event.is_null() {
            (0, 0)
        } else {
            // SAFETY: not null: an event to read, by epoll_ctl(2)'s contract.
            let event = unsafe { event.read_unaligned() };
            (event.events, event.u64)
        };
        epoll
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .control(op, fd, events, data)
            .map(|()| 0)
    }))
}

unsafe extern "C" fn epoll_wait(_: Ud, epfd: c_int, events: *mut epoll_event, max: c_int, timeout: c_int) -> c_int {
    let epoll = match (epoll_of(epfd), max) {
        (Ok(epoll), 1..) if !events.is_null() => epoll,
        (Err(e), _) => return int(Err(e)),
        (Ok(_), 1..) => return int(Err(Errno(libc::EFAULT))),
        _ => return int(Err(Errno(libc::EINVAL))),
    };
    let ready = wait(timeout, |world| {
        let ready = epoll
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .collect(world, max as usize);
        (!ready.is_empty()).then_some(ready)
    });
    let ready = ready.unwrap_or_default();
    for (i, (bits, data)) in ready.iter().enumerate() {
        // SAFETY: `max` events of room, and no more were collected.
        unsafe {
            events.add(i).write_unaligned(epoll_event {
                events: *bits,
                u64: *data,
            })
        };
    }
    ready.len() as c_int
}

unsafe extern "C" fn pipe(_: Ud, fds: *mut c_int) -> c_int {
    let bytes = Arc::new(Mutex::new(VecDeque::new()));
    int(calls::now(|world| {
        let ends = [
            world.files.add(File::Pipe(Arc::clone(&bytes)))?,
            world.files.add(File::Pipe(bytes.clone()))?,
        ];
        // SAFETY: pipe(2)'s contract: room for two.
        unsafe { fds.cast::<[c_int; 2]>().write(ends) };
        Ok(0)
    }))
}

unsafe extern "C" fn splice(
    _: Ud,
    from: c_int,
    _from_at: *mut loff_t,
    to: c_int,
    _to_at: *mut loff_t,
    len: size_t,
    _flags: c_uint,
) -> ssize_t {
    answer(calls::splice(from, to, len))
}

/// sendfile(2) from a real file to a socket of ours.
///
/// # Safety
/// sendfile(2)'s contract.
pub(crate) unsafe fn sendfile(to: c_int, from: c_int, at: *mut off_t, len: size_t) -> ssize_t {
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
