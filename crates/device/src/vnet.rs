//! `struct virtio_net_hdr` (VIRTIO 1.3 §5.1.6): what goes before each packet of a TUN with `IFF_VNET_HDR`, in the
//! machine's own byte order.

use crate::{Rx, RxCsum, Tx, TxCsum};

/// Bytes of the header without `num_buffers`, which a TUN does not use.
pub(crate) const LEN: usize = 10;
/// The longest header a TUN may be set to here: with `num_buffers`.
pub(crate) const MAX_LEN: usize = 12;

const F_NEEDS_CSUM: u8 = 1;
const F_DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// Offset of the checksum field in a TCP header; what tells TCP from UDP here.
const TCP_CSUM: u16 = 16;
/// Offset of the checksum field in a UDP header.
const UDP_CSUM: u16 = 6;
const TCP_CWR: u8 = 0x80;

fn u16_at(header: &[u8; MAX_LEN], at: usize) -> u16 {
    u16::from_ne_bytes([header[at], header[at + 1]])
}

/// What a header says of the packet behind it, which has `len` bytes.
pub(crate) fn decode(header: &[u8; MAX_LEN], len: usize) -> Rx {
    let (flags, gso_type) = (header[0], header[1] & !GSO_ECN);
    let csum = if flags & F_NEEDS_CSUM != 0 {
        RxCsum::Partial {
            start: u16_at(header, 6),
            offset: u16_at(header, 8),
        }
    } else if flags & F_DATA_VALID != 0 {
        RxCsum::Verified
    } else {
        RxCsum::Unchecked
    };
    let gso_size = (gso_type != GSO_NONE)
        .then(|| u16_at(header, 4))
        .filter(|&size| size != 0);
    Rx { len, csum, gso_size }
}

/// The header for `packet`, whose IP header begins at `ip`; `None` when `tx` does not fit the packet: a
/// super-packet that is neither TCP nor UDP, one with a complete checksum, offsets past the end.
pub(crate) fn encode(packet: &[u8], ip: usize, tx: Tx) -> Option<[u8; MAX_LEN]> {
    let mut header = [0; MAX_LEN];
    let TxCsum::Partial { start, offset } = tx.csum else {
        return tx.gso_size.is_none().then_some(header);
    };
    header[0] = F_NEEDS_CSUM;
    header[6..8].copy_from_slice(&start.to_ne_bytes());
    header[8..10].copy_from_slice(&offset.to_ne_bytes());
    let transport = packet.get(usize::from(start)..)?;
    if transport.len() < usize::from(offset) + 2 {
        return None;
    }
    if let Some(size) = tx.gso_size {
        let (gso_type, transport_len) = match (offset, packet.get(ip)? >> 4) {
            (TCP_CSUM, version) => {
                let ecn = if transport[13] & TCP_CWR != 0 { GSO_ECN } else { 0 };
                let family = if version == 4 { GSO_TCPV4 } else { GSO_TCPV6 };
                (family | ecn, u16::from(transport[12] >> 4) * 4)
            }
            (UDP_CSUM, _) => (GSO_UDP_L4, 8),
            _ => return None,
        };
        header[1] = gso_type;
        header[2..4].copy_from_slice(&start.checked_add(transport_len)?.to_ne_bytes());
        header[4..6].copy_from_slice(&size.to_ne_bytes());
    }
    Some(header)
}
