//! Cookies as the server makes them: SipHash-2-4 of source and destination address, as they stand in the SYN, under the
//! key of `tcp_fastopen_key` or TCP_FASTOPEN_KEY (Linux: `tcp_fastopen_cookie_gen`, `tcp_fastopen_cookie_gen_check`).

use crate::env::Env;
use crate::rng::HashKey;
use crate::sysctl::FastOpenKeys;
use core::net::IpAddr;
use siphasher::sip::SipHasher24;

/// Bytes of a cookie (Linux: TCP_FASTOPEN_COOKIE_SIZE).
pub(super) const SIZE: usize = 8;

/// Which key a cookie was made with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MadeWith {
    Primary,
    /// The backup key: the client is to be given a new one.
    Backup,
}

/// The SYN's addresses, as the cookie hashes them.
fn addresses(from: IpAddr, to: IpAddr) -> ([u8; 32], usize) {
    let mut bytes = [0; 32];
    let mut len = 0;
    for ip in [from, to] {
        match ip {
            IpAddr::V4(ip) => {
                bytes[len..len + 4].copy_from_slice(&ip.octets());
                len += 4;
            }
            IpAddr::V6(ip) => {
                bytes[len..len + 16].copy_from_slice(&ip.octets());
                len += 16;
            }
        }
    }
    (bytes, len)
}

/// The cookie for a client at `from`; without a key the stack's own secret serves.
pub(super) fn make(env: &Env, keys: &FastOpenKeys, from: IpAddr, to: IpAddr) -> [u8; SIZE] {
    let (bytes, len) = addresses(from, to);
    match &keys.primary {
        Some(key) => under(key, &bytes[..len]),
        None => env.rng.siphash(HashKey::FastOpen, &bytes[..len]).to_le_bytes(),
    }
}

/// Whether `cookie` is one that we gave to a client at `from`.
pub(super) fn check(env: &Env, keys: &FastOpenKeys, from: IpAddr, to: IpAddr, cookie: &[u8]) -> Option<MadeWith> {
    let (bytes, len) = addresses(from, to);
    if cookie == make(env, keys, from, to) {
        return Some(MadeWith::Primary);
    }
    match &keys.backup {
        Some(key) if cookie == under(key, &bytes[..len]) => Some(MadeWith::Backup),
        _ => None,
    }
}

fn under(key: &[u8; 16], bytes: &[u8]) -> [u8; SIZE] {
    SipHasher24::new_with_key(key).hash(bytes).to_le_bytes()
}
