//! Reads bytes as everything they could be, and checks what holds for anything that was read. Shared by the property
//! tests and the fuzz target.
use std::net::{IpAddr, Ipv6Addr};

use estab_wire::checksum::{Sum, copy_and_sum};
use estab_wire::{arp, ethernet, icmpv4, icmpv6, ip, ndp, tcp, udp};

/// Reads `bytes` from the link's layer, the network's and the transport's on.
pub(crate) fn read(bytes: &[u8]) {
    if let Ok(frame) = ethernet::Frame::parse(bytes) {
        assert!(within(frame.payload, bytes));
        network(frame.payload);
    }
    network(bytes);
    for src in ["10.0.0.1", "fd00::1"] {
        let addr: IpAddr = src.parse().expect("a literal address");
        transport(addr, addr, bytes);
    }
    let _ = icmpv4::Quote::parse(bytes).map(quote);
    for next in 0..=255 {
        if let Ok(ext) = ip::ipv6::skip_extensions(next, bytes) {
            assert!(ext.len <= bytes.len());
        }
    }
    checksums(bytes);
}

fn network(bytes: &[u8]) {
    if let Ok(arp) = arp::Packet::parse(bytes) {
        let mut buf = [0; arp::LEN];
        assert_eq!(arp.write(&mut buf), Some(arp::LEN));
        assert_eq!(buf, bytes[..arp::LEN]);
    }
    if let Ok(packet) = ip::Packet::parse(bytes) {
        assert!(bytes.starts_with(packet.bytes));
        assert_eq!(packet.header_len + packet.payload.len(), packet.bytes.len());
        assert_eq!(packet.src.is_ipv4(), packet.dst.is_ipv4());
        if let Some(fragment) = packet.fragment {
            assert!(fragment.more || fragment.offset > 0);
            assert!(fragment.offset as usize + packet.payload.len() <= 65_535);
        }
        if let Some(Ok(message)) = ndp::Message::parse(&packet) {
            let mut buf = [0; 64];
            let addrs = (Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
            let len = message.write(&mut buf, addrs).expect("64 bytes are enough");
            assert!(icmpv6::Message::parse(addrs.0, addrs.1, &buf[..len]).is_ok());
        }
        let quoted = icmpv4::Quote::parse(packet.bytes);
        if let Ok(quoted) = quoted {
            assert_eq!(
                (quoted.src, quoted.dst, quoted.len),
                (packet.src, packet.dst, packet.bytes.len())
            );
            quote(quoted);
        }
        transport(packet.src, packet.dst, packet.payload);
    }
    let mut forwarded = bytes.to_vec();
    if ip::ipv4::parse(bytes).is_ok() && ip::ipv4::decrement_ttl(&mut forwarded) {
        let packet = ip::ipv4::parse(&forwarded).expect("the checksum was put right");
        assert_eq!(packet.hop_limit + 1, bytes[8]);
    }
}

fn transport(src: IpAddr, dst: IpAddr, bytes: &[u8]) {
    if let Ok(segment) = tcp::Segment::parse(bytes) {
        assert!(segment.header_len + segment.payload.len() == bytes.len());
        assert!(segment.option_iter().count() <= tcp::MAX_OPTIONS_LEN);
        let _ = tcp::checksum_ok(src, dst, bytes);
        tcp_again(src, dst, &segment);
    }
    if let Ok(datagram) = udp::Datagram::parse(bytes) {
        assert!(within(datagram.payload, bytes));
        let _ = udp::check(src, dst, bytes);
    }
    if let Ok(icmpv4::Message::Unreachable { quote: bytes, .. }) = icmpv4::Message::parse(bytes) {
        let _ = icmpv4::Quote::parse(bytes).map(quote);
    }
    if let (IpAddr::V6(src), IpAddr::V6(dst)) = (src, dst)
        && let Ok(icmpv6::Message::PacketTooBig { quote: bytes, .. }) = icmpv6::Message::parse(src, dst, bytes)
    {
        let _ = icmpv6::Quote::parse(bytes).map(quote);
    }
}

/// What was understood of a segment, written and read again, is the same.
fn tcp_again(src: IpAddr, dst: IpAddr, segment: &tcp::Segment<'_>) {
    let header = tcp::Header {
        src_port: segment.src_port,
        dst_port: segment.dst_port,
        seq: segment.seq,
        ack: segment.ack,
        flags: segment.flags,
        window: segment.window,
        urgent: segment.urgent,
    };
    let mut buf = [0; 60];
    let Some(len) = header.write(&mut buf, &segment.options) else {
        assert!(segment.options.encoded_len() > tcp::MAX_OPTIONS_LEN);
        return;
    };
    assert_eq!(len, tcp::HEADER_LEN + segment.options.encoded_len());
    tcp::set_checksum(&mut buf[..len], src, dst, Sum::new(), 0);
    assert!(tcp::checksum_ok(src, dst, &buf[..len]));
    let again = tcp::Segment::parse(&buf[..len]).expect("what was written is sound");
    assert_eq!(again.options, segment.options);
    assert_eq!(
        (again.seq, again.ack, again.flags),
        (segment.seq, segment.ack, segment.flags)
    );
}

fn quote(quote: icmpv4::Quote<'_>) {
    let _ = (quote.ports(), quote.tcp_seq(), quote.echo());
    assert!(quote.transport.len() >= 8);
}

fn checksums(bytes: &[u8]) {
    let mut copy = vec![0; bytes.len()];
    let sum = copy_and_sum(&mut copy, bytes);
    assert_eq!(copy, bytes);
    assert_eq!(sum.finish(), Sum::of(bytes).finish());
}

fn within(part: &[u8], whole: &[u8]) -> bool {
    let (part, whole) = (part.as_ptr_range(), whole.as_ptr_range());
    whole.start <= part.start && part.end <= whole.end
}
