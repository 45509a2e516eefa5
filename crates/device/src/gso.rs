//! What a network card does with offloads, in software: super-packets cut into segments, checksums completed.

use std::net::IpAddr;

use estab_wire::checksum::{Sum, checksum};
use estab_wire::ip::{Packet, protocol};

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// Calls `each` with every segment of the super-packet in `frame`, whose IP header begins at `link`: `size` bytes of
/// payload in each but the last, complete with lengths, sequence numbers, IPv4 ids and checksums. FIN and PSH stay
/// with the last segment, CWR with the first (RFC 3168 §6.1.2; Linux's tcp_gso_segment). `scratch` is working space.
///
/// Returns `false`, having called nothing, for what can't be cut: fragments, and what is neither TCP nor UDP.
pub fn segments(frame: &[u8], link: usize, size: u16, scratch: &mut Vec<u8>, mut each: impl FnMut(&[u8])) -> bool {
    let Some(plan) = Plan::of(frame, link) else {
        return false;
    };
    let (headers, payload) = frame[..plan.end].split_at(plan.payload);
    let size = usize::from(size.max(1));
    let count = payload.len().div_ceil(size).max(1);
    for index in 0..count {
        let at = index * size;
        scratch.clear();
        scratch.extend_from_slice(headers);
        scratch.extend_from_slice(&payload[at..payload.len().min(at + size)]);
        plan.finish(scratch, link, index, at, index + 1 == count);
        each(scratch);
    }
    true
}

/// Completes a partial checksum: the transport header begins at `start`, the field holds the pseudo-header's sum and
/// stands `offset` bytes further (virtio's csum_start and csum_offset). Offsets past the end change nothing.
pub fn complete_checksum(frame: &mut [u8], start: usize, offset: usize) {
    let Some(transport) = frame.get_mut(start..) else {
        return;
    };
    // The sum takes in the field itself, and so the pseudo-header. 0 would say "none" in UDP; 0xffff is the same.
    let sum = Sum::of(transport).finish_udp();
    if let Some(field) = transport.get_mut(offset..offset + 2) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

/// Where things are in a frame.
struct Plan {
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    /// Offset of the transport header.
    transport: usize,
    /// Offset of the payload.
    payload: usize,
    /// Where the packet ends and padding of the link's begins.
    end: usize,
}

impl Plan {
    fn of(frame: &[u8], link: usize) -> Option<Self> {
        let packet = Packet::parse(frame.get(link..)?).ok()?;
        let header_len = match packet.protocol {
            protocol::TCP => usize::from(packet.payload.get(12)? >> 4) * 4,
            protocol::UDP => 8,
            _ => return None,
        };
        let least = if packet.protocol == protocol::TCP { 20 } else { 8 };
        let transport = link + packet.header_len;
        let plan = Self {
            src: packet.src,
            dst: packet.dst,
            protocol: packet.protocol,
            transport,
            payload: transport + header_len,
            end: link + packet.bytes.len(),
        };
        (packet.fragment.is_none() && header_len >= least && plan.payload <= plan.end).then_some(plan)
    }

    /// Puts the headers of segment `index` right, whose payload was `at` bytes into the super-packet's.
    fn finish(&self, segment: &mut [u8], link: usize, index: usize, at: usize, last: bool) {
        let len = segment.len();
        let put = |segment: &mut [u8], at: usize, value: u16| {
            segment[at..at + 2].copy_from_slice(&value.to_be_bytes());
        };
        // No length here exceeds the super-packet's own, which had 16 bits.
        if self.src.is_ipv4() {
            put(segment, link + 2, (len - link) as u16);
            let id = u16::from_be_bytes([segment[link + 4], segment[link + 5]]);
            put(segment, link + 4, id.wrapping_add(index as u16));
            put(segment, link + 10, 0);
            let sum = checksum(&segment[link..self.transport]);
            put(segment, link + 10, sum);
        } else {
            put(segment, link + 4, (len - link - 40) as u16);
        }
        let transport = &mut segment[self.transport..];
        let field = if self.protocol == protocol::TCP {
            let seq = u32::from_be_bytes([transport[4], transport[5], transport[6], transport[7]]);
            transport[4..8].copy_from_slice(&seq.wrapping_add(at as u32).to_be_bytes());
            if index > 0 {
                transport[13] &= !CWR;
            }
            if !last {
                transport[13] &= !(FIN | PSH);
            }
            16
        } else {
            let len = transport.len() as u16;
            put(transport, 4, len);
            6
        };
        put(transport, field, 0);
        let mut sum = Sum::pseudo(self.src, self.dst, self.protocol, transport.len());
        sum.add_bytes(transport);
        let sum = if self.protocol == protocol::TCP {
            sum.finish()
        } else {
            sum.finish_udp()
        };
        put(transport, field, sum);
    }
}
