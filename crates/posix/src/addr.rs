//! `struct sockaddr` in and out.

use crate::calls::{Errno, Result};
use libc::{AF_INET, AF_INET6, sa_family_t, sockaddr, sockaddr_in, sockaddr_in6, socklen_t};
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Reads an address as bind(2) and connect(2) do: EINVAL when too short, EAFNOSUPPORT for other families.
///
/// # Safety
/// `addr` is null or points to `len` readable bytes.
pub(crate) unsafe fn read(addr: *const sockaddr, len: socklen_t) -> Result<SocketAddr> {
    if addr.is_null() {
        return Err(Errno(libc::EFAULT));
    }
    if (len as usize) < size_of::<sa_family_t>() {
        return Err(Errno(libc::EINVAL));
    }
    // SAFETY: at least the family can be read, by the caller's promise and the check above.
    let family = i32::from(unsafe { (*addr).sa_family });
    let need = match family {
        AF_INET => size_of::<sockaddr_in>(),
        AF_INET6 => size_of::<sockaddr_in6>(),
        _ => return Err(Errno(libc::EAFNOSUPPORT)),
    };
    if (len as usize) < need {
        return Err(Errno(libc::EINVAL));
    }
    if family == AF_INET {
        // SAFETY: the length was checked to hold this structure.
        let v4 = unsafe { addr.cast::<sockaddr_in>().read_unaligned() };
        let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
        return Ok(SocketAddr::from((ip, u16::from_be(v4.sin_port))));
    }
    // SAFETY: the length was checked to hold this structure.
    let v6 = unsafe { addr.cast::<sockaddr_in6>().read_unaligned() };
    let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
    Ok(SocketAddr::V6(SocketAddrV6::new(
        ip,
        u16::from_be(v6.sin6_port),
        v6.sin6_flowinfo,
        v6.sin6_scope_id,
    )))
}

/// The family is AF_UNSPEC: connect(2) then ends a connection.
///
/// # Safety
/// As [`read`].
pub(crate) unsafe fn is_unspec(addr: *const sockaddr, len: socklen_t) -> bool {
    // SAFETY: the family can be read, by the caller's promise and the length.
    !addr.is_null()
        && len as usize >= size_of::<sa_family_t>()
        && i32::from(unsafe { (*addr).sa_family }) == libc::AF_UNSPEC
}

/// Writes an address as accept(2) does: cut to `len`, which becomes the whole length. An IPv4 address goes out
/// mapped (`::ffff:a.b.c.d`) where the socket is of `domain` AF_INET6.
///
/// # Safety
/// `addr` is null, or `len` points to a length and `addr` to that many writable bytes.
pub(crate) unsafe fn write(from: SocketAddr, domain: i32, addr: *mut sockaddr, len: *mut socklen_t) {
    if addr.is_null() || len.is_null() {
        return;
    }
    let copy = |bytes: *const u8, size: usize| {
        // SAFETY: `bytes` points to a local of `size` bytes; the caller vouches for the rest, and no more than it
        // has room for is copied.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes, addr.cast::<u8>(), size.min(*len as usize));
            *len = size as socklen_t;
        }
    };
    match (from, domain) {
        (SocketAddr::V4(v4), AF_INET) => {
            // SAFETY: all zeros is a valid sockaddr_in.
            let mut out: sockaddr_in = unsafe { zeroed() };
            out.sin_family = AF_INET as sa_family_t;
            out.sin_port = v4.port().to_be();
            out.sin_addr.s_addr = u32::from(*v4.ip()).to_be();
            copy((&raw const out).cast(), size_of::<sockaddr_in>());
        }
        _ => {
            let ip = match from.ip() {
                std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                std::net::IpAddr::V6(ip) => ip,
            };
            // SAFETY: all zeros is a valid sockaddr_in6.
            let mut out: sockaddr_in6 = unsafe { zeroed() };
            out.sin6_family = AF_INET6 as sa_family_t;
            out.sin6_port = from.port().to_be();
            out.sin6_addr.s6_addr = ip.octets();
            copy((&raw const out).cast(), size_of::<sockaddr_in6>());
        }
    }
}
