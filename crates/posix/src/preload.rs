//! What a preloaded library answers instead of the C library, for its own descriptors; the kernel gets the rest.

use crate::{abi, world};
use libc::{c_int, c_void, off_t, size_t, socklen_t, ssize_t};

fn ours(fd: c_int) -> bool {
    world::lock().as_ref().is_some_and(|world| world.files.has(fd))
}

/// getsockopt(2).
///
/// # Safety
/// getsockopt(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    if ours(fd) {
        // SAFETY: passed on.
        return unsafe { abi::estab_getsockopt(fd, level, name, value, len) };
    }
    // SAFETY: passed on to the kernel.
    unsafe { libc::syscall(libc::SYS_getsockopt, fd, level, name, value, len) as c_int }
}

/// sendfile(2).
///
/// # Safety
/// sendfile(2)'s contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile(to: c_int, from: c_int, at: *mut off_t, len: size_t) -> ssize_t {
    if ours(to) {
        // SAFETY: passed on.
        return unsafe { abi::estab_sendfile(to, from, at, len) };
    }
    // SAFETY: passed on to the kernel.
    unsafe { libc::syscall(libc::SYS_sendfile, to, from, at, len) as ssize_t }
}
