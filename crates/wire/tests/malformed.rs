//! Every offence is named as what it is.
use std::net::{IpAddr, Ipv6Addr};

use estab_wire::Malformed::{self, *};
use estab_wire::{arp, ethernet, icmpv4, icmpv6, ip, ndp, tcp, udp};

mod samples;
use samples::{A4, A6, B4, B6, repair_ipv4_checksum};

/// A sound packet with some bytes changed, its IPv4 checksum put right again.
fn with(mut bytes: Vec<u8>, changes: &[(usize, u8)]) -> Vec<u8> {
    for (at, value) in changes {
        bytes[*at] = *value;
    }
    repair_ipv4_checksum(&mut bytes);
    bytes
}

#[test]
fn ip_packets() {
    let (v4, v6) = (samples::tcp4(), samples::tcp6());
    // An IPv4 header with options in place of the TCP header's first words.
    let options4 = |options: [u8; 4]| {
        let [a, b, c, d] = options;
        with(v4.clone(), &[(0, 0x46), (20, a), (21, b), (22, c), (23, d)])
    };
    // Extension headers of 8 bytes, 4 of which can be told.
    let ext6 = |kind: u8, ext: &[u8]| samples::ipv6(kind, 64, ext);
    let table: &[(&str, Vec<u8>, Malformed)] = &[
        ("nothing", vec![], PacketEmpty),
        ("version 5", with(v4.clone(), &[(0, 0x55)]), IpVersionUnknown),
        ("19 bytes", v4[..19].to_vec(), Ipv4HeaderTruncated),
        (
            "header of 16 bytes",
            with(v4.clone(), &[(0, 0x44)]),
            Ipv4HeaderLengthTooSmall,
        ),
        (
            "header beyond the end",
            [&[0x4f], &v4[1..30]].concat(),
            Ipv4HeaderLengthTooLarge,
        ),
        (
            "total below header",
            with(v4.clone(), &[(2, 0), (3, 19)]),
            Ipv4TotalLengthTooSmall,
        ),
        (
            "total beyond the end",
            v4[..v4.len() - 1].to_vec(),
            Ipv4TotalLengthTooLarge,
        ),
        ("a flipped bit", [&[0x45, 0x01], &v4[2..]].concat(), Ipv4ChecksumWrong),
        ("option of length 0", options4([7, 0, 0, 0]), Ipv4OptionLengthWrong),
        ("option of length 1", options4([1, 7, 1, 0]), Ipv4OptionLengthWrong),
        ("option beyond header", options4([131, 5, 0, 0]), Ipv4OptionLengthWrong),
        ("option without length", options4([1, 1, 1, 7]), Ipv4OptionLengthWrong),
        (
            "ping of death",
            with(samples::fragment4(), &[(6, 0x1f), (7, 0xff)]),
            Ipv4FragmentTooLong,
        ),
        ("39 bytes", v6[..39].to_vec(), Ipv6HeaderTruncated),
        (
            "payload beyond the end",
            v6[..v6.len() - 1].to_vec(),
            Ipv6PayloadLengthTooLarge,
        ),
        ("jumbogram", ext6(0, &[6, 0, 0xc2, 4, 0, 1, 0, 0]), Ipv6JumboPayload),
        ("no room for a length", ext6(0, &[6]), Ipv6ExtensionTruncated),
        (
            "extension beyond the end",
            ext6(60, &[6, 1, 1, 4, 0, 0, 0, 0]),
            Ipv6ExtensionTruncated,
        ),
        ("fragment header cut", ext6(44, &[6, 0, 0, 0]), Ipv6ExtensionTruncated),
        (
            "authentication header cut",
            ext6(51, &[6, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            Ipv6ExtensionTruncated,
        ),
        (
            "hop-by-hop second",
            ext6(60, &[0, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0]),
            Ipv6HopByHopNotFirst,
        ),
        (
            "endless chain",
            ext6(60, &[60, 0, 1, 4, 0, 0, 0, 0].repeat(20)),
            Ipv6TooManyExtensions,
        ),
        (
            "option beyond its header",
            ext6(60, &[6, 0, 1, 5, 0, 0, 0, 0]),
            Ipv6OptionLengthWrong,
        ),
        (
            "option without length",
            ext6(60, &[6, 0, 1, 3, 0, 0, 0, 1]),
            Ipv6OptionLengthWrong,
        ),
        (
            "option to discard by",
            ext6(60, &[6, 0, 0x7e, 4, 0, 0, 0, 0]),
            Ipv6OptionUnknown,
        ),
        (
            "odd fragment",
            ext6(44, &[17, 0, 0, 1, 0, 0, 0, 1, 9]),
            Ipv6FragmentUnaligned,
        ),
        (
            "fragment too far",
            ext6(44, &[17, 0, 0xff, 0xf8, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9]),
            Ipv6FragmentTooLong,
        ),
    ];
    for (name, bytes, offence) in table {
        assert_eq!(ip::Packet::parse(bytes), Err(*offence), "{name}");
    }
}

#[test]
fn transport_headers() {
    let (a, b): (IpAddr, IpAddr) = (A4.into(), B4.into());
    let (a6, b6): (Ipv6Addr, Ipv6Addr) = (A6.into(), B6.into());
    let tcp = samples::tcp4()[20..].to_vec();
    assert_eq!(tcp::Segment::parse(&tcp[..19]), Err(TcpHeaderTruncated));
    assert_eq!(
        tcp::Segment::parse(&with(tcp.clone(), &[(12, 0x40)])),
        Err(TcpDataOffsetTooSmall)
    );
    assert_eq!(
        tcp::Segment::parse(&with(tcp.clone(), &[(12, 0xf0)])),
        Err(TcpDataOffsetTooLarge)
    );
    assert!(tcp::checksum_ok(a, b, &tcp));
    assert!(!tcp::checksum_ok(b, b, &tcp), "the addresses are part of it");
    assert!(!tcp::checksum_ok(a, b, &tcp[..tcp.len() - 1]));

    let (_, udp) = samples::all().swap_remove(2);
    let udp = &udp[20..];
    assert_eq!(udp::Datagram::parse(&udp[..7]), Err(UdpHeaderTruncated));
    assert_eq!(udp::check(a, b, &udp[..7]), Err(UdpHeaderTruncated));
    assert_eq!(
        udp::Datagram::parse(&with(udp.to_vec(), &[(5, 7)])),
        Err(UdpLengthTooSmall)
    );
    assert_eq!(udp::Datagram::parse(&udp[..udp.len() - 1]), Err(UdpLengthTooLarge));
    assert_eq!(udp::check(a, b, &udp[..udp.len() - 1]), Err(UdpLengthTooLarge));
    assert_eq!(
        udp::check(a, b, &with(udp.to_vec(), &[(8, b'j')])),
        Err(UdpChecksumWrong)
    );
    let without = with(udp.to_vec(), &[(6, 0), (7, 0)]);
    assert_eq!(
        udp::check(a, b, &without),
        Ok(()),
        "over IPv4 the checksum may be left out"
    );
    assert_eq!(udp::check(a6.into(), b6.into(), &without), Err(UdpChecksumMissing));

    let mut echo = [0; 12];
    icmpv4::write_echo(&mut echo, false, 1, 2, b"ping").unwrap();
    assert_eq!(icmpv4::Message::parse(&echo[..7]), Err(IcmpHeaderTruncated));
    assert_eq!(icmpv4::Message::parse(&echo[..11]), Err(IcmpChecksumWrong));
    icmpv6::write_echo(&mut echo, (a6, b6), false, 1, 2, b"ping").unwrap();
    assert_eq!(icmpv6::Message::parse(a6, b6, &echo[..7]), Err(IcmpHeaderTruncated));
    assert_eq!(icmpv6::Message::parse(a6, a6, &echo), Err(IcmpChecksumWrong));
}

#[test]
fn quotes_in_icmp_errors() {
    let (v4, v6) = (samples::tcp4(), samples::tcp6());
    for bytes in [&v4[..28], &v4] {
        let quote = icmpv4::Quote::parse(bytes).unwrap();
        assert_eq!(
            (quote.src, quote.dst, quote.protocol, quote.len),
            (A4.into(), B4.into(), 6, v4.len())
        );
        assert_eq!((quote.ports(), quote.tcp_seq()), ((40_000, 80), 0x1234_5678));
    }
    let quote = icmpv4::Quote::parse(&v6[..48]).unwrap();
    assert_eq!(
        (quote.src, quote.dst, quote.protocol, quote.len),
        (A6.into(), B6.into(), 6, v6.len())
    );
    let deep = samples::extended6();
    let quote = icmpv4::Quote::parse(&deep).unwrap();
    assert_eq!((quote.protocol, quote.ports()), (17, (1, 2)));

    let table: &[(&str, &[u8], Malformed)] = &[
        ("nothing", &[], IcmpQuoteTruncated),
        ("half an IPv4 header", &v4[..12], IcmpQuoteTruncated),
        ("7 bytes of TCP", &v4[..27], IcmpQuoteTruncated),
        ("half an IPv6 header", &v6[..30], IcmpQuoteTruncated),
        ("7 bytes of TCP over IPv6", &v6[..47], IcmpQuoteTruncated),
        ("half the extensions", &deep[..56], IcmpQuoteTruncated),
        ("a later IPv4 fragment", &samples::fragment4(), IcmpQuoteTruncated),
        ("a later IPv6 fragment", &samples::fragment6(), IcmpQuoteTruncated),
        ("something else", &[0; 40], IcmpQuoteNotIp),
        ("a header of 0 bytes", &[0x40; 40], IcmpQuoteNotIp),
    ];
    for (name, bytes, offence) in table {
        assert_eq!(icmpv4::Quote::parse(bytes), Err(*offence), "{name}");
    }
}

#[test]
fn the_link() {
    assert_eq!(ethernet::Frame::parse(&[0; 13]), Err(EthernetHeaderTruncated));
    let mut tagged = [0; 17];
    ethernet::write(&mut tagged, samples::MAC, samples::MAC, ethernet::ethertype::VLAN).unwrap();
    assert_eq!(ethernet::Frame::parse(&tagged), Err(EthernetTagTruncated));

    let arp = samples::arp();
    assert_eq!(arp::Packet::parse(&arp[..27]), Err(ArpTruncated));
    assert_eq!(arp::Packet::parse(&with(arp.clone(), &[(1, 6)])), Err(ArpNotEthernet));
    assert_eq!(arp::Packet::parse(&with(arp.clone(), &[(4, 8)])), Err(ArpNotEthernet));
    assert_eq!(
        arp::Packet::parse(&with(arp.clone(), &[(2, 0x86), (3, 0xdd)])),
        Err(ArpNotIpv4)
    );
    assert_eq!(arp::Packet::parse(&with(arp, &[(5, 16)])), Err(ArpNotIpv4));
}

#[test]
fn neighbour_discovery() {
    let [_, router, solicitation, plain, advertisement] = samples::ndp_messages().map(samples::ndp6);
    let read = |bytes: &[u8]| ndp::Message::parse(&ip::Packet::parse(bytes).unwrap());
    // Byte 7 of an IPv6 header is the hop limit, byte 5 the low half of its payload length; ICMPv6 starts at 40, NDP's
    // body at 48, and the options of a solicitation at 64.
    let cut = |bytes: &[u8], len: usize| with(bytes[..len].to_vec(), &[(5, (len - 40) as u8)]);
    let table: &[(&str, Vec<u8>, Malformed)] = &[
        (
            "through a router",
            with(solicitation.clone(), &[(7, 254)]),
            NdpHopLimitNot255,
        ),
        ("code 1", with(solicitation.clone(), &[(41, 1)]), NdpCodeNotZero),
        ("header cut", cut(&solicitation, 47), NdpTruncated),
        ("half a target", cut(&solicitation, 56), NdpTruncated),
        ("half a router", cut(&router, 52), NdpTruncated),
        ("multicast target", with(plain, &[(48, 0xff)]), NdpTargetMulticast),
        (
            "solicited by all",
            with(advertisement, &[(24, 0xff)]),
            NdpSolicitedToMulticast,
        ),
        (
            "option of length 0",
            with(solicitation.clone(), &[(65, 0)]),
            NdpOptionLengthZero,
        ),
        (
            "option beyond the end",
            with(solicitation.clone(), &[(65, 2)]),
            NdpOptionTruncated,
        ),
        ("option without length", cut(&solicitation, 65), NdpOptionTruncated),
    ];
    for (name, bytes, offence) in table {
        assert_eq!(read(bytes), Some(Err(*offence)), "{name}");
    }
    for (message, bytes) in samples::ndp_messages()
        .into_iter()
        .map(|message| (message, samples::ndp6(message)))
    {
        assert_eq!(read(&bytes), Some(Ok(message)));
        assert!(
            icmpv6::Message::parse(A6.into(), B6.into(), &bytes[40..]).is_ok(),
            "its checksum is right"
        );
    }
    assert_eq!(read(&samples::tcp6()), None, "TCP's ports are not an ICMPv6 type");
}

#[test]
fn says_what_is_wrong() {
    let mut texts: Vec<String> = Malformed::ALL.iter().map(|offence| offence.to_string()).collect();
    assert_eq!(Ipv4ChecksumWrong.to_string(), "the IPv4 header checksum is wrong");
    assert_eq!(Ipv4ChecksumWrong.name(), "Ipv4ChecksumWrong");
    let count = texts.len();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), count, "no two offences read the same");
}
