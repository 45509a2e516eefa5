//! Randomness from the caller's seed: a public stream (ports, jitter, IDs: values a peer may see), a secret
//! one (keys), and keyed hashes wherever a peer picks what is hashed. The same seed gives the same values.

use crate::tcp::demux::Tuple;
use core::hash::{BuildHasher, Hasher};
use core::net::{IpAddr, SocketAddr};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng};
use siphasher::sip::{SipHasher13, SipHasher24};

/// What a keyed hash is for: each purpose has its own secret, so one's output tells nothing of another's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum HashKey {
    /// The demultiplexing tables (Linux: `inet_ehash_secret`).
    Demux,
    /// Initial sequence numbers and timestamp offsets (Linux: `net_secret`, `ts_secret`).
    Isn,
    /// Ephemeral ports (RFC 6056 algorithm 3 and 4).
    Port,
    /// SYN cookies (Linux: `syncookie_secret`).
    Cookie,
    /// Fast Open cookies, until `tcp_fastopen_key` sets their key.
    #[allow(dead_code)] // For Fast Open's server side.
    FastOpen,
    /// Identification of IPv4 datagrams and fragments (Linux: `ip_idents`).
    IpId,
    /// The tables of fragments, path MTUs, neighbours and UDP sockets.
    Table,
    /// Spreading over SO_REUSEPORT sockets.
    ReusePort,
}

const HASH_KEYS: usize = HashKey::ReusePort as usize + 1;

/// The public random stream of one stack, and the hash keys, which the secret stream gave.
#[derive(Clone)]
pub(crate) struct Rng {
    public: ChaCha12Rng,
    keys: [SipHasher24; HASH_KEYS],
    /// For [`HashKey::Demux`] and for maps: of a hash that no peer ever sees, fewer rounds are enough.
    demux: SipHasher13,
    table: SipHasher13,
}

impl Rng {
    /// All streams and keys follow from `seed`.
    pub(crate) fn new(seed: [u8; 32]) -> Rng {
        let mut public = ChaCha12Rng::from_seed(seed);
        public.set_stream(1);
        let mut secret = ChaCha12Rng::from_seed(seed);
        secret.set_stream(2);
        let secrets: [(u64, u64); HASH_KEYS] = core::array::from_fn(|_| (secret.next_u64(), secret.next_u64()));
        let short = |key: HashKey| {
            let (first, second) = secrets[key as usize];
            SipHasher13::new_with_keys(first, second)
        };
        Rng {
            public,
            keys: secrets.map(|(first, second)| SipHasher24::new_with_keys(first, second)),
            demux: short(HashKey::Demux),
            table: short(HashKey::Table),
        }
    }

    /// 32 bits of the public stream.
    pub(crate) fn u32(&mut self) -> u32 {
        self.public.next_u32()
    }

    /// A number of the public stream in `0..bound`; 0 when `bound` is 0 (Linux: `get_random_u32_below`).
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        // Multiply-shift: the bias is below bound/2^32, as good as none for what this is used for.
        ((u64::from(self.u32()) * u64::from(bound)) >> 32) as u32
    }

    /// SipHash-2-4 of `bytes` under the secret for `key`.
    #[inline]
    pub(crate) fn siphash(&self, key: HashKey, bytes: &[u8]) -> u64 {
        self.keys[key as usize].hash(bytes)
    }

    /// A keyed hasher to write to, for what isn't in one slice.
    pub(crate) fn hasher(&self, key: HashKey) -> SipHasher24 {
        self.keys[key as usize]
    }

    /// Keyed hashing for a map.
    pub(crate) fn keyed(&self) -> Keyed {
        Keyed(self.table)
    }

    /// The keyed hash of two addresses.
    pub(crate) fn hash_pair(&self, key: HashKey, a: IpAddr, b: IpAddr) -> u64 {
        let mut hasher = self.hasher(key);
        write_ip(&mut hasher, a);
        write_ip(&mut hasher, b);
        hasher.finish()
    }

    /// The hash of a connection's two ends under [`HashKey::Demux`], for tables.
    #[inline]
    pub(crate) fn hash_demux(&self, tuple: &Tuple) -> u64 {
        match ends(tuple, 0) {
            EndsBytes::V4(bytes) => self.demux.hash(&bytes),
            EndsBytes::V6(bytes) => self.demux.hash(&bytes),
        }
    }

    /// The keyed hash of a connection's two ends, and of a number beside them.
    pub(crate) fn hash_ends(&self, key: HashKey, tuple: &Tuple, beside: u32) -> u64 {
        match ends(tuple, beside) {
            EndsBytes::V4(bytes) => self.siphash(key, &bytes),
            EndsBytes::V6(bytes) => self.siphash(key, &bytes),
        }
    }

    /// The keyed hash of a connection's two ends.
    pub(crate) fn hash_tuple(&self, key: HashKey, local: SocketAddr, remote: SocketAddr) -> u64 {
        self.hash_ends(key, &Tuple::new(local, remote), 0)
    }
}

/// Hashes the keys of a map that a peer may pick, under the secret of [`HashKey::Table`].
#[derive(Clone)]
pub(crate) struct Keyed(SipHasher13);

impl Keyed {
    /// The hash of an address, for tables that hash their keys themselves.
    pub(crate) fn hash_ip(&self, ip: IpAddr) -> u64 {
        self.0.hash(&v6_octets(ip))
    }
}

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;
    fn build_hasher(&self) -> SipHasher13 {
        self.0
    }
}

/// Hashes small keys that only the application chooses: no peer can make them collide.
#[derive(Clone, Copy, Default)]
pub(crate) struct OwnKeys(u64);

impl Hasher for OwnKeys {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32((*byte).into()));
    }
    fn write_u16(&mut self, n: u16) {
        self.write_u32(n.into());
    }
    fn write_u32(&mut self, n: u32) {
        // Knuth's multiplier; the table takes its bits from both ends, so they are folded.
        let product = u128::from(self.0 ^ u64::from(n)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }
}

/// A map by small keys that only the application chooses.
pub(crate) type OwnMap<K, V> = hashbrown::HashMap<K, V, core::hash::BuildHasherDefault<OwnKeys>>;

/// Two ends as a map's key: hashed in one go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ends {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
}

impl core::hash::Hash for Ends {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match ends(&Tuple::new(self.local, self.remote), 0) {
            EndsBytes::V4(bytes) => state.write(&bytes),
            EndsBytes::V6(bytes) => state.write(&bytes),
        }
    }
}

/// What stands for a connection in every keyed hash: whole words, for which SipHash takes no detours.
enum EndsBytes {
    V4([u8; 16]),
    V6([u8; 40]),
}

/// A connection's two ends, and a number beside them.
#[inline]
fn ends(tuple: &Tuple, beside: u32) -> EndsBytes {
    let ports = u64::from(tuple.local_port) << 48 | u64::from(tuple.remote_port) << 32 | u64::from(beside);
    match (tuple.local_ip, tuple.remote_ip) {
        (IpAddr::V4(l), IpAddr::V4(r)) => {
            let addresses = u128::from(l.to_bits()) << 96 | u128::from(r.to_bits()) << 64;
            EndsBytes::V4((addresses | u128::from(ports)).to_be_bytes())
        }
        (l, r) => {
            let mut bytes = [0; 40];
            bytes[..16].copy_from_slice(&v6_octets(l));
            bytes[16..32].copy_from_slice(&v6_octets(r));
            bytes[32..].copy_from_slice(&ports.to_be_bytes());
            EndsBytes::V6(bytes)
        }
    }
}

fn v6_octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn write_ip(hasher: &mut SipHasher24, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => hasher.write(&ip.octets()),
        IpAddr::V6(ip) => hasher.write(&ip.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_values_and_another_gives_others() {
        let mut a = Rng::new([7; 32]);
        let mut b = Rng::new([7; 32]);
        let mut c = Rng::new([8; 32]);
        assert_eq!(a.u32(), b.u32());
        assert_ne!(a.u32(), c.u32());
        assert_eq!(a.siphash(HashKey::Isn, b"x"), b.siphash(HashKey::Isn, b"x"));
        assert_ne!(a.siphash(HashKey::Isn, b"x"), a.siphash(HashKey::Cookie, b"x"));
    }

    #[test]
    fn below_stays_below_and_reaches_both_ends() {
        let mut rng = Rng::new([1; 32]);
        let mut seen = [false; 5];
        (0..200).for_each(|_| seen[rng.below(5) as usize] = true);
        assert_eq!(seen, [true; 5]);
        assert_eq!(rng.below(0), 0);
    }
}
