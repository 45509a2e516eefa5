//! Signed segments: MD5 signatures (RFC 2385; Linux: `tcp_md5_do_add`, `tcp_inbound_hash`, `tcp_v4_md5_hash_skb`).
//!
//! Keys belong to a socket and are found by the peer's address; an accepted connection takes its peer's along. They stand
//! among a socket's options, which many connections share, so that a connection, a request and a TIME_WAIT don't grow.
//!
//! TCP-AO (RFC 5925) would be a second kind of [`Key`]: what is asked of keys here (find a peer's, sign, verify) stays.

use super::demux::Object;
use super::segment::Segment;
use super::{Tcp, reset};
use crate::drop::DropReason;
use crate::env::Env;
use crate::ip::{TcpReply, in_prefix};
use crate::options::Md5Peer;
use crate::{Result, SockError};
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use estab_proto::Counter;
use estab_wire::ip::protocol;
use estab_wire::tcp::{HEADER_LEN, MAX_OPTIONS_LEN, MD5_OFFSET, OptionIter, Options, kind};
use md5::{Digest, Md5};
use zeroize::Zeroize;

/// Bytes of options that a signature takes.
pub(crate) const OPTION_LEN: u32 = 20;
/// TCP_MD5SIG_MAXKEYLEN
const MAX_KEY: usize = 80;
/// What a key is charged (Linux on 64 bits: `struct tcp_md5sig_key`).
const KEY_CHARGE: u32 = 136;

/// A secret that two ends share, wiped where it is no longer needed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key {
    len: u8,
    bytes: [u8; MAX_KEY],
}

impl Drop for Key {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    fn new(secret: &[u8]) -> Option<Key> {
        let mut bytes = [0; MAX_KEY];
        bytes.get_mut(..secret.len())?.copy_from_slice(secret);
        Some(Key {
            len: secret.len() as u8,
            bytes,
        })
    }

    /// RFC 2385 §2: the digest of pseudo-header, header without options and checksum, data, key.
    pub(crate) fn digest(&self, src: IpAddr, dst: IpAddr, header: &[u8], payload: &[u8]) -> [u8; 16] {
        let len = header.len() + payload.len();
        let mut md5 = Md5::new();
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                md5.update(src.octets());
                md5.update(dst.octets());
                md5.update([0, protocol::TCP]);
                md5.update((len as u16).to_be_bytes());
            }
            (src, dst) => {
                for ip in [src, dst] {
                    match ip {
                        IpAddr::V4(ip) => md5.update(ip.octets()),
                        IpAddr::V6(ip) => md5.update(ip.octets()),
                    }
                }
                md5.update((len as u32).to_be_bytes());
                md5.update(u32::from(protocol::TCP).to_be_bytes());
            }
        }
        let mut fixed = [0; HEADER_LEN];
        fixed.copy_from_slice(&header[..HEADER_LEN]);
        fixed[16..18].fill(0);
        md5.update(fixed);
        md5.update(payload);
        md5.update(&self.bytes[..usize::from(self.len)]);
        md5.finalize().into()
    }

    /// Signs a segment whose header has the option, still zero, where wire writes it.
    pub(crate) fn sign(&self, src: IpAddr, dst: IpAddr, header: &mut [u8], payload: &[u8]) {
        let digest = self.digest(src, dst, header, payload);
        if let Some(place) = header.get_mut(MD5_OFFSET..MD5_OFFSET + digest.len()) {
            place.copy_from_slice(&digest);
        }
    }

    /// Whether `signature` is this segment's; takes as long whichever byte is wrong.
    fn signed(&self, segment: &Segment<'_>, signature: &[u8; 16]) -> bool {
        let (src, dst) = (segment.tuple.remote_ip, segment.tuple.local_ip);
        let digest = self.digest(src, dst, segment.header, segment.payload);
        let wrong = digest.iter().zip(signature).fold(0, |wrong, (a, b)| wrong | (a ^ b));
        wrong == 0
    }
}

/// Whether a segment may go on.
pub(super) type Verified = core::result::Result<(), DropReason>;

/// The keys of a socket, in the order they were added.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys(Vec<(Md5Peer, Key)>);

impl Keys {
    /// The key for a peer: that of the longest prefix, of equals the newest (Linux: `__tcp_md5_do_lookup`).
    #[inline]
    pub(crate) fn find(&self, peer: IpAddr) -> Option<&Key> {
        match self.0.is_empty() {
            true => None,
            false => self.look_up(peer),
        }
    }

    #[cold]
    fn look_up(&self, peer: IpAddr) -> Option<&Key> {
        let matching = self.0.iter().filter(|(of, _)| in_prefix(peer, of.addr, of.prefix));
        matching.max_by_key(|(of, _)| of.prefix).map(|(_, key)| key)
    }

    /// Sets, replaces or (empty) takes away the key for just these peers: EINVAL for what can't be one, ENOENT for none
    /// to take away, ENOMEM past `optmem_max` (Linux: `tcp_v4_parse_md5_keys`).
    pub(crate) fn set(&mut self, peer: Md5Peer, secret: &[u8], optmem_max: u32) -> Result<()> {
        if peer.prefix > if peer.addr.is_ipv4() { 32 } else { 128 } {
            return Err(SockError::EINVAL);
        }
        let at = self.0.iter().position(|(of, _)| *of == peer);
        if secret.is_empty() {
            self.0.remove(at.ok_or(SockError::ENOENT)?);
            return Ok(());
        }
        let key = Key::new(secret).ok_or(SockError::EINVAL)?;
        match at {
            Some(at) => self.0[at].1 = key,
            None if (self.0.len() as u32 + 1).saturating_mul(KEY_CHARGE) >= optmem_max => {
                return Err(SockError::ENOMEM);
            }
            None => self.0.push((peer, key)),
        }
        Ok(())
    }

    /// What a connection accepted from `peer` takes along (Linux: `tcp_v4_syn_recv_sock`).
    pub(crate) fn inherited(&self, peer: IpAddr) -> Keys {
        let found = self.find(peer).map(|key| (Md5Peer::host(peer), key.clone()));
        Keys(found.into_iter().collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What most headers carry: no options, timestamps alone, or what Linux's SYNs do.
#[inline]
fn is_plain(options: &[u8]) -> bool {
    matches!(
        options,
        [] | [kind::NOP, kind::NOP, kind::TIMESTAMPS, 10, _, _, _, _, _, _, _, _]
            | [
                kind::MSS,
                4,
                _,
                _,
                kind::SACK_PERMITTED,
                2,
                kind::TIMESTAMPS,
                10,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                kind::NOP,
                kind::WINDOW_SCALE,
                3,
                _
            ]
    )
}

/// The signature among a header's options; `Err`: they make no sense (Linux: `tcp_do_parse_auth_options`).
fn signature(options: &[u8]) -> core::result::Result<Option<[u8; 16]>, DropReason> {
    let (mut found, mut seen) = (None, false);
    let mut list = OptionIter::new(options);
    for option in list.by_ref() {
        let sound = match option.kind {
            kind::MD5 => option.data.len() == 16,
            // Key number, next key number, and a code of some length.
            kind::AO => option.data.len() > 2,
            _ => continue,
        };
        if !sound || core::mem::replace(&mut seen, true) {
            return Err(DropReason::TcpAuthHdr);
        }
        found = option.data.try_into().ok().filter(|_| option.kind == kind::MD5);
    }
    // The shortest signature has five bytes: what a shorter rest says is nobody's concern.
    match list.rest() {
        [first, rest @ ..] if *first != kind::END && rest.len() >= 4 => Err(DropReason::TcpAuthHdr),
        _ => Ok(found),
    }
}

impl Tcp {
    /// The keys of whom a segment is for.
    fn keys(&self, object: Object) -> Option<&Keys> {
        match object {
            Object::Conn(i) => self.conns.get(i as usize).map(|conn| &conn.opts.keys),
            Object::Request(i) => self.listener_keys(self.requests.get(i as usize)?.listener),
            // What a TIME_WAIT answers is signed; what it gets needs no signature.
            Object::TimeWait4(_) | Object::TimeWait6(_) => None,
        }
    }

    fn listener_keys(&self, index: u32) -> Option<&Keys> {
        self.listeners.get(index as usize).map(|l| &l.opts.keys)
    }

    /// Whether a segment is signed as the keys of whom it is for demand.
    #[inline]
    pub(super) fn check_signature(&self, env: &mut Env, object: Object, segment: &Segment<'_>) -> Verified {
        match self.signs_nothing(segment) {
            true => Ok(()),
            false => self.check(env, self.keys(object), segment),
        }
    }

    /// [`Self::check_signature`] of a segment for a listener.
    pub(super) fn check_for_listener(&self, env: &mut Env, index: u32, segment: &Segment<'_>) -> Verified {
        match self.signs_nothing(segment) {
            true => Ok(()),
            false => self.check(env, self.listener_keys(index), segment),
        }
    }

    /// Neither end of it has to do with signatures.
    #[inline]
    fn signs_nothing(&self, segment: &Segment<'_>) -> bool {
        !self.signing && is_plain(segment.raw_options())
    }

    /// Linux: `tcp_inbound_hash`.
    fn check(&self, env: &mut Env, keys: Option<&Keys>, segment: &Segment<'_>) -> Verified {
        let Some(keys) = keys else {
            return Ok(());
        };
        let (counter, reason) = match (keys.find(segment.tuple.remote_ip), signature(segment.raw_options())?) {
            (None, None) => return Ok(()),
            (Some(_), None) => (Counter::TcpExtTCPMD5NotFound, DropReason::TcpMd5NotFound),
            (None, Some(_)) => (Counter::TcpExtTCPMD5Unexpected, DropReason::TcpMd5Unexpected),
            (Some(key), Some(signature)) if key.signed(segment, &signature) => return Ok(()),
            _ => (Counter::TcpExtTCPMD5Failure, DropReason::TcpMd5Failure),
        };
        env.mib.inc(counter);
        Err(reason)
    }

    /// What an RST of `object`'s is signed with: asked before the segment is dealt with, which may end the object.
    pub(super) fn reset_key(&self, object: Option<Object>, segment: &Segment<'_>) -> Option<Key> {
        let keys = object.filter(|_| self.signing).and_then(|object| self.keys(object))?;
        keys.find(segment.tuple.remote_ip).cloned()
    }

    /// RST for a segment that `object`, whose key is `key`, or nobody wanted. Where there is no connection (any more), a
    /// signed segment gets one only if a listener's key proves it: the listener at its port, or at the port its sender
    /// connected from, as both ends of a BGP session have one (Linux: `tcp_v4_send_reset`).
    pub(super) fn reset(
        &self,
        env: &mut Env,
        segment: &Segment<'_>,
        object: Option<Object>,
        key: Option<Key>,
        hash: u32,
    ) {
        if self.signs_nothing(segment) {
            return reset::reset_segment(env, segment, None);
        }
        let Ok(signature) = signature(segment.raw_options()) else {
            return;
        };
        let peer = segment.tuple.remote_ip;
        let listener = |port| {
            let index = self.demux.listener(segment.tuple.local_ip, port, hash)?;
            self.listener_keys(index)
        };
        if matches!(object, Some(Object::Conn(_) | Object::Request(_))) {
            return reset::reset_segment(env, segment, key.as_ref());
        }
        if object.is_none()
            && let Some(keys) = listener(segment.tuple.local_port)
        {
            return reset::reset_segment(env, segment, keys.find(peer));
        }
        let Some(signature) = signature else {
            return reset::reset_segment(env, segment, None);
        };
        let key = listener(segment.tuple.remote_port).and_then(|keys| keys.find(peer));
        if let Some(key) = key.filter(|key| key.signed(segment, &signature)) {
            reset::reset_segment(env, segment, Some(key));
        }
    }
}

/// Signs a segment that no connection sends.
pub(super) fn sign_reply(reply: &mut TcpReply, key: &Key) {
    reply.md5 = Some([0; 16]);
    if reply.wire_options().encoded_len() > MAX_OPTIONS_LEN {
        reply.options.fast_open = None;
    }
    let mut header = [0; HEADER_LEN + MAX_OPTIONS_LEN];
    if let Some(len) = reply.header().write(&mut header, &reply.wire_options()) {
        reply.md5 = Some(key.digest(reply.src.ip(), reply.dst.ip(), &header[..len], &[]));
    }
}

/// Makes room for a signature among a SYN's options: a Fast Open cookie that then fits no more is left out
/// (Linux: `tcp_syn_options`, `tcp_synack_options`).
pub(crate) fn make_room(options: &mut Options, key: Option<&Key>) {
    if key.is_some() {
        options.md5 = Some([0; 16]);
        if options.encoded_len() > MAX_OPTIONS_LEN {
            options.fast_open = None;
        }
    }
}
