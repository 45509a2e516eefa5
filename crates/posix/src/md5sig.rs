//! `struct tcp_md5sig` (include/uapi/linux/tcp.h), what TCP_MD5SIG and TCP_MD5SIG_EXT take
//! (Linux: `tcp_v4_parse_md5_keys`, `tcp_v6_parse_md5_keys`).

use crate::calls::{Errno, Result};
use estab_engine::Md5Peer;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) const TCP_MD5SIG: i32 = libc::TCP_MD5SIG;
pub(crate) const TCP_MD5SIG_EXT: i32 = 32;

const FLAG_PREFIX: u8 = 1;
const FLAG_IFINDEX: u8 = 2;

/// A `sockaddr_storage`, flags, prefix length, key length, interface, key.
const SIZE: usize = 216;
const AT_FLAGS: usize = 128;
const AT_PREFIX: usize = 129;
const AT_KEY_LEN: usize = 130;
const AT_IFINDEX: usize = 132;
const AT_KEY: usize = 136;

/// Reads the structure for a socket of `domain`: whose segments, and the key (none: it is to go).
pub(crate) fn parse(domain: i32, name: i32, value: &[u8]) -> Result<(Md5Peer, &[u8])> {
    let invalid = Err(Errno(libc::EINVAL));
    let Some(value) = value.get(..SIZE) else {
        return invalid;
    };
    if i32::from(u16::from_ne_bytes([value[0], value[1]])) != domain {
        return invalid;
    }
    let addr: IpAddr = match domain {
        libc::AF_INET => Ipv4Addr::from_octets(field(value, 4)).into(),
        _ => Ipv6Addr::from_octets(field(value, 8)).into(),
    };
    let mut peer = Md5Peer::host(addr);
    let flags = value[AT_FLAGS];
    if name == TCP_MD5SIG_EXT && flags & FLAG_PREFIX != 0 {
        peer.prefix = value[AT_PREFIX];
    }
    peer.ifindex = flags & FLAG_IFINDEX != 0;
    if name == TCP_MD5SIG_EXT && peer.ifindex && i32::from_ne_bytes(field(value, AT_IFINDEX)) != 0 {
        // It would have to be a VRF's.
        return invalid;
    }
    let len = usize::from(u16::from_ne_bytes(field(value, AT_KEY_LEN)));
    match value.get(AT_KEY..AT_KEY + len) {
        Some(key) => Ok((peer, key)),
        None => invalid,
    }
}

fn field<const N: usize>(value: &[u8], at: usize) -> [u8; N] {
    core::array::from_fn(|i| value[at + i])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn structure(family: i32, addr: &[u8], flags: u8, prefix: u8, ifindex: i32, key: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; SIZE];
        bytes[..2].copy_from_slice(&(family as u16).to_ne_bytes());
        let at = if family == libc::AF_INET { 4 } else { 8 };
        bytes[at..at + addr.len()].copy_from_slice(addr);
        bytes[AT_FLAGS] = flags;
        bytes[AT_PREFIX] = prefix;
        bytes[AT_KEY_LEN..AT_IFINDEX].copy_from_slice(&(key.len() as u16).to_ne_bytes());
        bytes[AT_IFINDEX..AT_KEY].copy_from_slice(&ifindex.to_ne_bytes());
        let kept = key.len().min(SIZE - AT_KEY);
        bytes[AT_KEY..AT_KEY + kept].copy_from_slice(&key[..kept]);
        bytes
    }

    /// As tried on Linux 6.18.
    #[test]
    fn takes_and_refuses_what_linux_does() {
        let v4 = |flags, prefix, ifindex, key| structure(libc::AF_INET, &[10, 1, 2, 3], flags, prefix, ifindex, key);
        let bytes = v4(FLAG_PREFIX, 8, 7, b"abc");
        let (peer, key) = parse(libc::AF_INET, TCP_MD5SIG, &bytes).unwrap();
        assert_eq!((peer.addr, peer.prefix, key), ([10, 1, 2, 3].into(), 32, &b"abc"[..]));
        let (peer, _) = parse(libc::AF_INET, TCP_MD5SIG_EXT, &bytes).unwrap();
        assert_eq!((peer.prefix, peer.ifindex), (8, false));
        let bytes = v4(FLAG_IFINDEX, 0, 0, b"");
        let (peer, key) = parse(libc::AF_INET, TCP_MD5SIG_EXT, &bytes).unwrap();
        assert!(peer.ifindex && key.is_empty());

        let mapped: [u8; 16] = Ipv4Addr::new(10, 1, 2, 3).to_ipv6_mapped().octets();
        let bytes = structure(libc::AF_INET6, &mapped, 0, 0, 0, b"abc");
        let (peer, _) = parse(libc::AF_INET6, TCP_MD5SIG, &bytes).unwrap();
        assert_eq!((peer.addr, peer.prefix), ([10, 1, 2, 3].into(), 32));

        let refused = |domain, name, value: &[u8]| assert_eq!(parse(domain, name, value), Err(Errno(libc::EINVAL)));
        refused(libc::AF_INET, TCP_MD5SIG, &v4(0, 0, 0, b"abc")[..SIZE - 1]);
        refused(libc::AF_INET6, TCP_MD5SIG, &v4(0, 0, 0, b"abc"));
        refused(libc::AF_INET, TCP_MD5SIG_EXT, &v4(FLAG_IFINDEX, 0, 1, b"abc"));
        refused(libc::AF_INET, TCP_MD5SIG, &v4(0, 0, 0, &[1; 81]));
    }
}
