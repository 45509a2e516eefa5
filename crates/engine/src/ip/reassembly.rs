//! Fragments put together (RFC 791 §3.2, RFC 8200 §4.5), with bounds on time, memory and senders
//! (Linux: net/ipv4/ip_fragment.c, net/ipv6/reassembly.c, net/ipv4/inet_fragment.c).
//!
//! A fragment that repeats what is there is dropped; one that overlaps in part discards the whole datagram
//! (RFC 5722; Linux does so for IPv4 too).

use super::output::version;
use super::{Ip, Packet, Problem};
use crate::IfaceId;
use crate::env::Env;
use crate::rng::{Keyed, Rng};
use crate::timer::{TimerHandle, TimerKey};
use crate::{DropReason, RxMeta};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;
use estab_proto::Counter;
use estab_wire::ip::{self, ipv4, ipv6, protocol};
use hashbrown::HashMap;

/// What a fragment costs besides its bytes (Linux counts an sk_buff's truesize).
const OVERHEAD: usize = 256;
/// Datagrams one source may have in pieces at a time.
const MAX_PER_SOURCE: u32 = 64;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    src: IpAddr,
    dst: IpAddr,
    id: u32,
    /// IPv4 only: IPv6 takes the first fragment's.
    protocol: u8,
    iface: u16,
}

#[derive(Clone)]
struct Datagram {
    key: Key,
    /// By offset; they don't overlap.
    pieces: BTreeMap<u32, Vec<u8>>,
    received: usize,
    /// Where the last one seen so far ends, and whether that is the datagram's end.
    end: u32,
    end_known: bool,
    /// ECN codepoints seen: bit n for codepoint n (RFC 3168 §5.3).
    ecn: u8,
    /// The first fragment's: protocol, hop limit, TOS, and what an error would quote.
    head: Option<(u8, u8, u8, Vec<u8>)>,
    timer: TimerHandle,
}

/// All datagrams in pieces.
#[derive(Clone)]
pub(super) struct Reassembly {
    pub(super) by_key: HashMap<Key, u32, Keyed>,
    slots: Vec<Option<Datagram>>,
    free: Vec<u32>,
    per_source: HashMap<IpAddr, u32, Keyed>,
    /// IPv4's and IPv6's, which have bounds of their own.
    pub(super) bytes: [usize; 2],
}

impl Reassembly {
    pub(super) fn new(rng: &Rng) -> Reassembly {
        Reassembly {
            by_key: HashMap::with_hasher(rng.keyed()),
            slots: Vec::new(),
            free: Vec::new(),
            per_source: HashMap::with_hasher(rng.keyed()),
            bytes: [0; 2],
        }
    }

    pub(super) fn memory(&self) -> u64 {
        (self.bytes[0] + self.bytes[1] + self.slots.len() * core::mem::size_of::<Option<Datagram>>()) as u64
    }

    fn get(&mut self, index: u32) -> Option<&mut Datagram> {
        self.slots.get_mut(index as usize)?.as_mut()
    }

    fn insert(&mut self, datagram: Datagram) -> u32 {
        let key = datagram.key;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[index as usize] = Some(datagram);
        self.by_key.insert(key, index);
        *self.per_source.entry(key.src).or_insert(0) += 1;
        self.bytes[usize::from(key.src.is_ipv6())] += OVERHEAD;
        index
    }

    fn remove(&mut self, index: u32) -> Option<Datagram> {
        let datagram = self.slots.get_mut(index as usize)?.take()?;
        self.free.push(index);
        self.by_key.remove(&datagram.key);
        if let Some(count) = self.per_source.get_mut(&datagram.key.src) {
            *count -= 1;
            if *count == 0 {
                self.per_source.remove(&datagram.key.src);
            }
        }
        let held = datagram.received + OVERHEAD * (datagram.pieces.len() + 1);
        let bytes = &mut self.bytes[usize::from(datagram.key.src.is_ipv6())];
        *bytes = bytes.saturating_sub(held);
        Some(datagram)
    }
}

/// Whether a datagram may take a piece.
enum Fit {
    Fits,
    /// All of it is there already.
    Duplicate,
    /// It contradicts what is there.
    Overlap,
}

impl Datagram {
    fn fit(&self, start: u32, end: u32) -> Fit {
        // The pieces that begin before `end`, from the one that may reach into `start` on.
        let first = self.pieces.range(..=start).next_back().map_or(start, |(at, _)| *at);
        let mut covered = start;
        let mut touched = false;
        for (at, piece) in self.pieces.range(first..end) {
            let to = at + piece.len() as u32;
            if to <= start {
                continue;
            }
            touched = true;
            if *at > covered {
                return Fit::Overlap;
            }
            covered = to;
        }
        match (touched, covered >= end) {
            (false, _) => Fit::Fits,
            (true, true) => Fit::Duplicate,
            (true, false) => Fit::Overlap,
        }
    }

    fn is_complete(&self) -> bool {
        self.end_known && self.received == self.end as usize && self.head.is_some()
    }
}

/// Takes a fragment. True when it was the one missing: the datagram stands in `whole`, an IP packet of its own.
pub(super) fn add(env: &mut Env, packet: &Packet<'_>, view: &ip::Packet<'_>, whole: &mut Vec<u8>) -> bool {
    let Some(fragment) = view.fragment else { return false };
    let v4 = packet.src.is_ipv4();
    env.mib.inc(version(v4, Counter::IpReasmReqds, Counter::Ip6ReasmReqds));
    let key = Key {
        src: packet.src,
        dst: packet.dst,
        id: fragment.id,
        protocol: if v4 { packet.protocol } else { 0 },
        iface: packet.iface.0,
    };
    let Some(index) = find_or_create(env, key, packet.payload.len()) else {
        return false;
    };
    // Neighbour messages must not be cut (RFC 6980), and IPv4's offsets count in eights.
    let payload = match v4 && fragment.more {
        true => &packet.payload[..packet.payload.len() & !7],
        false => packet.payload,
    };
    let (start, end) = (fragment.offset, fragment.offset + payload.len() as u32);
    // Found or made just above.
    let Some(datagram) = env.ip.frags.get(index) else {
        return false;
    };
    let contradicts = match fragment.more {
        true => datagram.end_known && end > datagram.end,
        false => end < datagram.end || datagram.end_known && end != datagram.end,
    };
    if contradicts || start == end {
        return discard(env, index, DropReason::FragOverlap);
    }
    match datagram.fit(start, end) {
        Fit::Fits => {}
        Fit::Duplicate => {
            env.mib.drop(DropReason::DupFrag);
            return false;
        }
        Fit::Overlap => {
            env.mib.inc(Counter::IpExtReasmOverlaps);
            return discard(env, index, DropReason::FragOverlap);
        }
    }
    datagram.end = datagram.end.max(end);
    datagram.end_known |= !fragment.more;
    datagram.ecn |= 1 << packet.ecn();
    datagram.received += payload.len();
    datagram.pieces.insert(start, payload.to_vec());
    if start == 0 {
        let quote = packet.bytes[..packet.bytes.len().min(1280)].to_vec();
        datagram.head = Some((packet.protocol, packet.hop_limit, packet.tos, quote));
    }
    let complete = datagram.is_complete();
    env.ip.frags.bytes[usize::from(!v4)] += payload.len() + OVERHEAD;
    complete && assemble(env, index, whole)
}

/// The datagram of `key`; a new one if there is room for it.
fn find_or_create(env: &mut Env, key: Key, len: usize) -> Option<u32> {
    let v4 = key.src.is_ipv4();
    let limit = if v4 {
        env.sysctl.ipfrag_high_thresh
    } else {
        env.sysctl.ip6frag_high_thresh
    };
    let held = env.ip.frags.bytes[usize::from(!v4)];
    let found = env.ip.frags.by_key.get(&key).copied();
    // An open datagram may overshoot by less than one piece, as on Linux.
    let over = held > limit as usize || found.is_none() && held + len + OVERHEAD > limit as usize;
    let crowded = found.is_none()
        && env
            .ip
            .frags
            .per_source
            .get(&key.src)
            .is_some_and(|n| *n >= MAX_PER_SOURCE);
    if over || crowded {
        env.mib.inc(version(v4, Counter::IpReasmFails, Counter::Ip6ReasmFails));
        env.mib.drop(if over {
            DropReason::FragMem
        } else {
            DropReason::FragTooFar
        });
        return None;
    }
    if found.is_some() {
        return found;
    }
    let index = env.ip.frags.insert(Datagram {
        key,
        pieces: BTreeMap::new(),
        received: 0,
        end: 0,
        end_known: false,
        ecn: 0,
        head: None,
        timer: TimerHandle::NONE,
    });
    let seconds = if v4 {
        env.sysctl.ipfrag_time
    } else {
        env.sysctl.ip6frag_time
    };
    let at = env.now + Duration::from_secs(seconds.into());
    let mut timer = TimerHandle::NONE;
    env.timers.set(&mut timer, at, TimerKey::Reassembly(index).pack());
    if let Some(datagram) = env.ip.frags.get(index) {
        datagram.timer = timer;
    }
    Some(index)
}

fn take(env: &mut Env, index: u32) -> Option<Datagram> {
    let mut datagram = env.ip.frags.remove(index)?;
    env.timers.cancel(&mut datagram.timer);
    Some(datagram)
}

/// Gives a datagram up. Always false: nothing is complete.
fn discard(env: &mut Env, index: u32, reason: DropReason) -> bool {
    if let Some(datagram) = take(env, index) {
        let v4 = datagram.key.src.is_ipv4();
        env.mib.inc(version(v4, Counter::IpReasmFails, Counter::Ip6ReasmFails));
        (0..=datagram.pieces.len()).for_each(|_| env.mib.drop(reason));
    }
    false
}

/// Writes the packet that was cut: a plain header and all the pieces.
fn assemble(env: &mut Env, index: u32, whole: &mut Vec<u8>) -> bool {
    let Some(datagram) = take(env, index) else { return false };
    let v4 = datagram.key.src.is_ipv4();
    let fail = |env: &mut Env, reason| {
        env.mib.inc(version(v4, Counter::IpReasmFails, Counter::Ip6ReasmFails));
        env.mib.drop(reason);
        false
    };
    // Some capable, some not, and congestion met: nobody honest sends that (RFC 3168 §5.3).
    const CE: u8 = 1 << 3;
    const NOT_ECT: u8 = 1;
    if datagram.ecn & CE != 0 && datagram.ecn & NOT_ECT != 0 {
        return fail(env, DropReason::FragOverlap);
    }
    let Some((protocol, hop_limit, tos, _)) = datagram.head else {
        return false;
    };
    let tos = if datagram.ecn & CE != 0 { tos | 3 } else { tos };
    let len = datagram.received;
    let written = match (datagram.key.src, datagram.key.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            whole.resize(ipv4::HEADER_LEN, 0);
            let header = ipv4::Header {
                ttl: hop_limit,
                tos,
                id: datagram.key.id as u16,
                dont_fragment: false,
                ..ipv4::Header::new(src, dst, protocol)
            };
            header.write(whole, len)
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            whole.resize(ipv6::HEADER_LEN, 0);
            let header = ipv6::Header {
                hop_limit,
                tos,
                ..ipv6::Header::new(src, dst, protocol)
            };
            header.write(whole, len)
        }
        _ => None,
    };
    if written.is_none() {
        return fail(env, DropReason::IpInHdr);
    }
    datagram
        .pieces
        .values()
        .for_each(|piece| whole.extend_from_slice(piece));
    // A fragment header inside the whole would begin it all again.
    if !v4 && protocol == protocol::FRAGMENT {
        return fail(env, DropReason::Ipv6BadExthdr);
    }
    env.mib.inc(version(v4, Counter::IpReasmOKs, Counter::Ip6ReasmOKs));
    true
}

/// `ipfrag_time` is over: what came is dropped, and its sender told if the first fragment was there (RFC 792,
/// RFC 4443 §3.3; Linux: `ip_expire`, `ip6frag_expire_frag_queue`).
pub(super) fn expire(env: &mut Env, index: u32) {
    let Some(datagram) = take(env, index) else { return };
    let v4 = datagram.key.src.is_ipv4();
    env.mib
        .inc(version(v4, Counter::IpReasmTimeout, Counter::Ip6ReasmTimeout));
    env.mib.inc(version(v4, Counter::IpReasmFails, Counter::Ip6ReasmFails));
    datagram
        .pieces
        .iter()
        .for_each(|_| env.mib.drop(DropReason::FragReasmTimeout));
    let Some((protocol, hop_limit, tos, quote)) = datagram.head else {
        return;
    };
    let first = datagram.pieces.first_key_value().map_or(&[][..], |(_, piece)| piece);
    let packet = Packet {
        iface: IfaceId(datagram.key.iface),
        src: datagram.key.src,
        dst: datagram.key.dst,
        protocol,
        hop_limit,
        tos,
        local: env.ip.is_local(datagram.key.dst),
        multicast: datagram.key.dst.is_multicast() || env.ip.is_broadcast(datagram.key.dst),
        payload: first,
        bytes: &quote,
        meta: RxMeta::default(),
    };
    Ip::queue_icmp_error(env, Problem::Reassembly, &packet);
}
