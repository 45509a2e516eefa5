//! The callers' memory, and how calls answer in C.

use crate::calls::{Errno, Result};
use libc::{c_int, c_void, iovec, size_t};

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

pub(crate) fn int(result: Result<i32>) -> c_int {
    answer(result) as c_int
}

/// A caller's buffer to be written; EFAULT for null.
///
/// # Safety
/// `buf` is null or points to `len` writable bytes.
pub(crate) unsafe fn out<'a>(buf: *mut c_void, len: size_t) -> Result<&'a mut [u8]> {
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
pub(crate) unsafe fn pieces<'a>(iov: *const iovec, count: usize) -> Result<&'a [iovec]> {
    match (iov.is_null(), count) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(Errno(libc::EFAULT)),
        // SAFETY: not null, and so `count` vectors, by the caller's promise.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts(iov, count) }),
    }
}
