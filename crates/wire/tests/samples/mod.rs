//! Sound packets of every kind, made by etherparse where it knows the kind.
#![allow(dead_code, reason = "each test uses its own part")]
use std::net::Ipv6Addr;

use estab_wire::checksum::checksum;
use estab_wire::ethernet::MacAddr;
use estab_wire::{icmpv6, ip, ndp};
use etherparse::{PacketBuilder, TcpOptionElement};

pub(crate) const A4: [u8; 4] = [192, 168, 1, 1];
pub(crate) const B4: [u8; 4] = [10, 0, 2, 15];
pub(crate) const A6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
pub(crate) const B6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 2];
pub(crate) const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);

/// Name and bytes of each: IP packets but for the last, an ARP packet.
pub(crate) fn all() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = vec![
        ("tcp4", tcp4()),
        ("tcp6", tcp6()),
        ("udp4", built(PacketBuilder::ipv4(A4, B4, 64).udp(68, 67), b"hello")),
        (
            "udp6",
            built(PacketBuilder::ipv6(A6, B6, 64).udp(68, 67), b"hello, world"),
        ),
        (
            "echo4",
            built(PacketBuilder::ipv4(A4, B4, 64).icmpv4_echo_request(7, 9), b"ping"),
        ),
        (
            "echo6",
            built(PacketBuilder::ipv6(A6, B6, 64).icmpv6_echo_request(7, 9), b"ping"),
        ),
        (
            "icmp4 error",
            built(
                PacketBuilder::ipv4(A4, B4, 64).icmpv4_raw(3, 4, [0, 0, 5, 0xdc]),
                &tcp4()[..28],
            ),
        ),
        (
            "icmp6 error",
            built(PacketBuilder::ipv6(A6, B6, 64).icmpv6_raw(2, 0, [0, 0, 5, 0]), &tcp6()),
        ),
        ("extended6", extended6()),
        ("fragment4", fragment4()),
        ("fragment6", fragment6()),
    ];
    for message in ndp_messages() {
        all.push(("ndp", ndp6(message)));
    }
    all.push(("arp", arp()));
    all
}

/// A SYN with every option etherparse knows.
pub(crate) fn tcp4() -> Vec<u8> {
    let options = [
        TcpOptionElement::MaximumSegmentSize(1460),
        TcpOptionElement::SelectiveAcknowledgementPermitted,
        TcpOptionElement::Timestamp(1, 0),
        TcpOptionElement::Noop,
        TcpOptionElement::WindowScale(7),
    ];
    let builder = PacketBuilder::ipv4(A4, B4, 64)
        .tcp(40_000, 80, 0x1234_5678, 65_535)
        .syn();
    let builder = builder.options(&options).expect("20 bytes");
    let mut bytes = Vec::new();
    builder.write(&mut bytes, b"").expect("a vector takes it");
    bytes
}

/// Data with timestamps and two SACK blocks.
pub(crate) fn tcp6() -> Vec<u8> {
    let options = [
        TcpOptionElement::Noop,
        TcpOptionElement::Noop,
        TcpOptionElement::Timestamp(77, 66),
        TcpOptionElement::Noop,
        TcpOptionElement::Noop,
        TcpOptionElement::SelectiveAcknowledgement((100, 200), [Some((300, 400)), None, None]),
    ];
    let builder = PacketBuilder::ipv6(A6, B6, 64)
        .tcp(40_000, 80, 1, 512)
        .ack(0xffff_fff0)
        .psh();
    let builder = builder.options(&options).expect("32 bytes");
    let mut bytes = Vec::new();
    builder
        .write(&mut bytes, b"GET / HTTP/1.0\r\n\r\n")
        .expect("a vector takes it");
    bytes
}

trait Build {
    fn build(self, bytes: &mut Vec<u8>, payload: &[u8]);
}

macro_rules! build {
    ($($kind:ty),+) => {$(
        impl Build for etherparse::PacketBuilderStep<$kind> {
            fn build(self, bytes: &mut Vec<u8>, payload: &[u8]) {
                self.write(bytes, payload).expect("a vector takes it");
            }
        }
    )+};
}
build!(
    etherparse::UdpHeader,
    etherparse::Icmpv4Header,
    etherparse::Icmpv6Header
);

fn built(builder: impl Build, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    builder.build(&mut bytes, payload);
    bytes
}

/// UDP behind one of each extension header, an atomic fragment header included.
pub(crate) fn extended6() -> Vec<u8> {
    let udp = &built(PacketBuilder::ipv6(A6, B6, 64).udp(1, 2), b"deep")[40..];
    let mut body = vec![
        60, 0, 5, 2, 0, 0, 1, 0, // hop-by-hop: router alert
        43, 0, 1, 4, 0, 0, 0, 0, // destination: padding
        44, 0, 0, 0, 0, 0, 0, 0, // routing, no segments left
        51, 0, 0, 0, 0, 0, 0, 9, // an atomic fragment
        17, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, // authentication
    ];
    body.extend(udp);
    ipv6(0, 64, &body)
}

pub(crate) fn fragment4() -> Vec<u8> {
    let mut header = ip::ipv4::Header::new(A4.into(), B4.into(), 17);
    (
        header.dont_fragment,
        header.more_fragments,
        header.fragment_offset,
        header.id,
    ) = (false, true, 1480, 77);
    let mut bytes = vec![0; 20];
    header.write(&mut bytes, 16).expect("20 bytes fit");
    bytes.extend([7; 16]);
    bytes
}

pub(crate) fn fragment6() -> Vec<u8> {
    let mut body = vec![0; 8];
    let fragment = ip::Fragment {
        id: 0xdead_beef,
        offset: 1232,
        more: true,
    };
    ip::ipv6::write_fragment(&mut body, 17, fragment).expect("8 bytes fit");
    body.extend([7; 16]);
    ipv6(44, 64, &body)
}

pub(crate) fn ipv6(next_header: u8, hop_limit: u8, body: &[u8]) -> Vec<u8> {
    let mut header = ip::ipv6::Header::new(A6.into(), B6.into(), next_header);
    header.hop_limit = hop_limit;
    let mut bytes = vec![0; 40];
    header.write(&mut bytes, body.len()).expect("40 bytes fit");
    bytes.extend(body);
    bytes
}

pub(crate) fn ndp_messages() -> [ndp::Message; 5] {
    let target: Ipv6Addr = A6.into();
    [
        ndp::Message::RouterSolicitation { source: Some(MAC) },
        ndp::Message::RouterAdvertisement {
            hop_limit: 64,
            lifetime: std::time::Duration::from_secs(1800),
            source: Some(MAC),
            mtu: Some(1280),
        },
        ndp::Message::NeighborSolicitation {
            target,
            source: Some(MAC),
        },
        ndp::Message::NeighborSolicitation { target, source: None },
        ndp::Message::NeighborAdvertisement {
            target,
            router: true,
            solicited: true,
            override_: false,
            link_layer: Some(MAC),
        },
    ]
}

pub(crate) fn ndp6(message: ndp::Message) -> Vec<u8> {
    let mut body = [0; icmpv6::HEADER_LEN + ndp::MAX_LEN];
    let len = message.write(&mut body, (A6.into(), B6.into())).expect("it fits");
    ipv6(58, 255, &body[..len])
}

pub(crate) fn arp() -> Vec<u8> {
    vec![
        0, 1, 8, 0, 6, 4, 0, 1, // Ethernet, IPv4, request
        2, 0, 0, 0, 0, 7, 192, 168, 1, 1, 0, 0, 0, 0, 0, 0, 10, 0, 2, 15,
    ]
}

/// Puts the header checksum of an IPv4 packet right, if there is one.
pub(crate) fn repair_ipv4_checksum(bytes: &mut [u8]) {
    let Some(first) = bytes.first() else { return };
    if first >> 4 == 4
        && let Some(header) = bytes.get_mut(..usize::from(first & 15) * 4)
        && header.len() >= 20
    {
        header[10..12].fill(0);
        let sum = checksum(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}
