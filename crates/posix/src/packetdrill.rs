//! packetdrill's interface to a stack under test (`--so_filename`), on a virtual clock.

use crate::abi::*;
use crate::calls::{self, Errno, Result};
use crate::epoll::{self, Epoll};
use crate::fd::File;
use crate::memory::{answer, given, int};
use crate::world::{self, Setup, World};
use libc::{
    c_char, c_int, c_long, c_longlong, c_uint, c_ulong, c_void, epoll_event, iovec, loff_t, msghdr, nfds_t, pollfd,
    size_t, sockaddr, socklen_t, ssize_t, timeval,
};
use std::collections::VecDeque;
use std::ffi::CStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long packetdrill may wait for a packet before the answer is that none comes.
const PATIENCE: Duration = Duration::from_secs(3_600);

type Ud = *mut c_void;

macro_rules! interface {
    ($($name:ident = $call:ident($($arg:ident: $of:ty),*) -> $ret:ty;)*) => {
        /// `struct packetdrill_interface` (packetdrill.h): the functions that packetdrill calls instead of the
        /// kernel's. Each takes `userdata` first, which is not used here.
        #[repr(C)]
        #[derive(Debug)]
        pub struct PacketdrillInterface {
            userdata: Ud,
            free: Option<unsafe extern "C" fn(Ud)>,
            $($name: Option<unsafe extern "C" fn(Ud, $($of),*) -> $ret>,)*
        }

        $(unsafe extern "C" fn $name(_: Ud, $($arg: $of),*) -> $ret {
            // SAFETY: the call of that name's contract, passed on.
            unsafe { $call($($arg),*) }
        })*

        impl PacketdrillInterface {
            fn new() -> PacketdrillInterface {
                PacketdrillInterface { userdata: std::ptr::null_mut(), free: Some(free), $($name: Some($name),)* }
            }
        }
    };
}

interface! {
    socket = estab_socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    bind = estab_bind(fd: c_int, to: *const sockaddr, len: socklen_t) -> c_int;
    listen = estab_listen(fd: c_int, backlog: c_int) -> c_int;
    accept = estab_accept(fd: c_int, from: *mut sockaddr, len: *mut socklen_t) -> c_int;
    connect = estab_connect(fd: c_int, to: *const sockaddr, len: socklen_t) -> c_int;
    read = estab_read(fd: c_int, buf: *mut c_void, len: size_t) -> ssize_t;
    readv = estab_readv(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t;
    recv = estab_recv(fd: c_int, buf: *mut c_void, len: size_t, flags: c_int) -> ssize_t;
    recvfrom = estab_recvfrom(fd: c_int, buf: *mut c_void, len: size_t, flags: c_int, from: *mut sockaddr,
        from_len: *mut socklen_t) -> ssize_t;
    recvmsg = estab_recvmsg(fd: c_int, msg: *mut msghdr, flags: c_int) -> ssize_t;
    write = estab_write(fd: c_int, buf: *const c_void, len: size_t) -> ssize_t;
    writev = estab_writev(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t;
    send = estab_send(fd: c_int, buf: *const c_void, len: size_t, flags: c_int) -> ssize_t;
    sendto = estab_sendto(fd: c_int, buf: *const c_void, len: size_t, flags: c_int, to: *const sockaddr,
        to_len: socklen_t) -> ssize_t;
    sendmsg = estab_sendmsg(fd: c_int, msg: *const msghdr, flags: c_int) -> ssize_t;
    fcntl = estab_fcntl(fd: c_int, command: c_int, argument: c_long) -> c_int;
    ioctl = estab_ioctl(fd: c_int, request: c_ulong, argument: *mut c_int) -> c_int;
    close = estab_close(fd: c_int) -> c_int;
    shutdown = estab_shutdown(fd: c_int, how: c_int) -> c_int;
    getsockopt = estab_getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut c_void,
        len: *mut socklen_t) -> c_int;
    setsockopt = estab_setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void,
        len: socklen_t) -> c_int;
    poll = poll_sockets(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int;
    netdev_send = packet_in(packet: *const c_void, len: size_t) -> c_int;
    netdev_receive = packet_out(buf: *mut c_void, count: *mut size_t, micros: *mut c_longlong) -> c_int;
    usleep = sleep_micros(micros: c_uint) -> c_int;
    gettimeofday = clock(tv: *mut timeval, zone: *mut c_void) -> c_int;
    epoll_create = epoll_open(size: c_int) -> c_int;
    epoll_ctl = epoll_set(epfd: c_int, op: c_int, fd: c_int, event: *mut epoll_event) -> c_int;
    epoll_wait = epoll_ready(epfd: c_int, events: *mut epoll_event, max: c_int, timeout: c_int) -> c_int;
    pipe = pipe_open(fds: *mut c_int) -> c_int;
    splice = splice_bytes(from: c_int, from_at: *mut loff_t, to: c_int, to_at: *mut loff_t, len: size_t,
        flags: c_uint) -> ssize_t;
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

/// Lets time pass until `look` finds something or `timeout` (milliseconds, negative: for ever) is over.
fn wait<T>(timeout: c_int, mut look: impl FnMut(&mut World) -> Option<T>) -> Option<T> {
    let mut guard = world::lock();
    guard.as_mut()?.take_commands();
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
            guard = world::sleep(guard, None);
        }
    }
    let guard = world::advance(guard, now + patience, |world| {
        found = look(world);
        found.is_some()
    });
    drop(guard);
    found
}

unsafe fn poll_sockets(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
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

unsafe fn packet_in(packet: *const c_void, len: size_t) -> c_int {
    // SAFETY: packetdrill.h: `len` bytes of a packet.
    let packet = unsafe { given(packet, len) };
    int(packet.and_then(|packet| {
        calls::now(|world| {
            world.arrive(packet);
            Ok(0)
        })
    }))
}

unsafe fn packet_out(buf: *mut c_void, count: *mut size_t, micros: *mut c_longlong) -> c_int {
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

unsafe fn sleep_micros(micros: c_uint) -> c_int {
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

unsafe fn clock(tv: *mut timeval, _zone: *mut c_void) -> c_int {
    let micros = world::read_clock(world::lock());
    // SAFETY: gettimeofday(2)'s contract.
    if let Some(tv) = unsafe { tv.as_mut() } {
        tv.tv_sec = micros / 1_000_000;
        tv.tv_usec = micros % 1_000_000;
    }
    0
}

unsafe fn epoll_open(size: c_int) -> c_int {
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

unsafe fn epoll_set(epfd: c_int, op: c_int, fd: c_int, event: *mut epoll_event) -> c_int {
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

unsafe fn epoll_ready(epfd: c_int, events: *mut epoll_event, max: c_int, timeout: c_int) -> c_int {
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

unsafe fn pipe_open(fds: *mut c_int) -> c_int {
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

unsafe fn splice_bytes(
    from: c_int,
    _from_at: *mut loff_t,
    to: c_int,
    _to_at: *mut loff_t,
    len: size_t,
    _flags: c_uint,
) -> ssize_t {
    answer(calls::splice(from, to, len))
}
