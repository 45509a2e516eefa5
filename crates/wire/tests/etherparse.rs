//! What etherparse writes is read here, and what is written here etherparse reads.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use estab_wire::checksum::copy_and_sum;
use estab_wire::{arp, ethernet, icmpv4, icmpv6, ip, tcp, udp};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TcpOptionElement, TransportSlice};
use proptest::prelude::*;

fn addrs() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    prop_oneof![
        any::<(Ipv4Addr, Ipv4Addr)>().prop_map(|(a, b)| (a.into(), b.into())),
        any::<(Ipv6Addr, Ipv6Addr)>().prop_map(|(a, b)| (a.into(), b.into())),
    ]
}

/// A header of either version in front of `body`, written here.
fn ip_packet((src, dst): (IpAddr, IpAddr), protocol: u8, hop_limit: u8, tos: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 40];
    let len = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let header = ip::ipv4::Header {
                ttl: hop_limit,
                tos,
                ..ip::ipv4::Header::new(src, dst, protocol)
            };
            header.write(&mut bytes, body.len())
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let header = ip::ipv6::Header {
                hop_limit,
                tos,
                ..ip::ipv6::Header::new(src, dst, protocol)
            };
            header.write(&mut bytes, body.len())
        }
        _ => unreachable!("made of one family"),
    };
    bytes.truncate(len.expect("40 bytes are enough"));
    bytes.extend(body);
    bytes
}

fn builder((src, dst): (IpAddr, IpAddr), hop_limit: u8) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => PacketBuilder::ipv4(src.octets(), dst.octets(), hop_limit),
        (IpAddr::V6(src), IpAddr::V6(dst)) => PacketBuilder::ipv6(src.octets(), dst.octets(), hop_limit),
        _ => unreachable!("made of one family"),
    }
}

fn etherparse_addrs(net: &NetSlice<'_>) -> (IpAddr, IpAddr) {
    match net {
        NetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        _ => panic!("not IP"),
    }
}

proptest! {
    #[test]
    fn reads_etherparses_tcp(
        (addrs, hop_limit) in (addrs(), 1u8..),
        ports: (u16, u16),
        (seq, ack) in any::<(u32, u32)>(),
        (window, urgent) in any::<(u16, u16)>(),
        flags in 0u16..0x200,
        (mss, shift, ts) in any::<(u16, u8, (u32, u32))>(),
        sack in prop::collection::vec(any::<(u32, u32)>(), 1..3),
        payload: Vec<u8>,
    ) {
        let mut header = etherparse::TcpHeader::new(ports.0, ports.1, seq, window);
        header.acknowledgment_number = ack;
        header.urgent_pointer = urgent;
        for (bit, flag) in [
            &mut header.fin, &mut header.syn, &mut header.rst, &mut header.psh, &mut header.ack, &mut header.urg,
            &mut header.ece, &mut header.cwr, &mut header.ns,
        ].into_iter().enumerate() {
            *flag = flags & (1 << bit) != 0;
        }
        let syn = header.syn;
        header.set_options(&if syn {
            vec![
                TcpOptionElement::MaximumSegmentSize(mss),
                TcpOptionElement::SelectiveAcknowledgementPermitted,
                TcpOptionElement::Timestamp(ts.0, ts.1),
                TcpOptionElement::Noop,
                TcpOptionElement::WindowScale(shift),
            ]
        } else {
            vec![
                TcpOptionElement::Timestamp(ts.0, ts.1),
                TcpOptionElement::SelectiveAcknowledgement(sack[0], [sack.get(1).copied(), None, None]),
            ]
        }).expect("they fit");
        let mut bytes = Vec::new();
        builder(addrs, hop_limit).tcp_header(header).write(&mut bytes, &payload).expect("a vector takes it");

        let packet = ip::Packet::parse(&bytes).expect("sound");
        prop_assert_eq!((packet.src, packet.dst, packet.protocol, packet.hop_limit), (addrs.0, addrs.1, 6, hop_limit));
        prop_assert!(tcp::checksum_ok(packet.src, packet.dst, packet.payload));
        let segment = tcp::Segment::parse(packet.payload).expect("sound");
        prop_assert_eq!((segment.src_port, segment.dst_port), ports);
        prop_assert_eq!((segment.seq, segment.ack), (seq, ack));
        prop_assert_eq!((segment.flags, segment.window, segment.urgent), (flags, window, urgent));
        prop_assert_eq!(segment.payload, &payload);
        prop_assert_eq!(segment.options.timestamps, Some(tcp::Timestamps { val: ts.0, ecr: ts.1 }));
        prop_assert_eq!(segment.options.sack_permitted, syn);
        prop_assert_eq!(segment.options.mss, (syn && mss > 0).then_some(mss));
        prop_assert_eq!(segment.options.window_scale, syn.then_some(shift));
        prop_assert_eq!(&*segment.options.sack, if syn { &[] } else { &sack[..] });
    }

    #[test]
    fn etherparse_reads_our_tcp(
        (addrs, hop_limit, tos) in (addrs(), any::<u8>(), any::<u8>()),
        ports: (u16, u16),
        (seq, ack) in any::<(u32, u32)>(),
        (window, urgent) in any::<(u16, u16)>(),
        flags in 0u16..0x200,
        (mss, shift, ts) in (1u16.., any::<u8>(), any::<(u32, u32)>()),
        sack in prop::collection::vec(any::<(u32, u32)>(), 0..2),
        payload: Vec<u8>,
    ) {
        let header = tcp::Header { src_port: ports.0, dst_port: ports.1, seq, ack, flags, window, urgent };
        let options = tcp::Options {
            mss: Some(mss),
            window_scale: Some(shift),
            sack_permitted: true,
            timestamps: Some(tcp::Timestamps { val: ts.0, ecr: ts.1 }),
            sack: sack.iter().copied().collect(),
            ..tcp::Options::default()
        };
        let mut body = vec![0; 60 + payload.len()];
        let len = header.write(&mut body, &options).expect("it fits");
        body.truncate(len + payload.len());
        let sum = copy_and_sum(&mut body[len..], &payload);
        tcp::set_checksum(&mut body[..len], addrs.0, addrs.1, sum, payload.len());
        prop_assert!(tcp::checksum_ok(addrs.0, addrs.1, &body));
        let bytes = ip_packet(addrs, 6, hop_limit, tos, &body);

        let sliced = SlicedPacket::from_ip(&bytes).expect("sound");
        let net = sliced.net.expect("IP");
        prop_assert_eq!(etherparse_addrs(&net), addrs);
        match &net {
            NetSlice::Ipv4(ip) => {
                let header = ip.header().to_header();
                prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
                prop_assert_eq!((header.time_to_live, header.dscp.value() << 2 | header.ecn.value()), (hop_limit, tos));
                prop_assert!(header.dont_fragment && !header.is_fragmenting_payload());
            }
            NetSlice::Ipv6(ip) => {
                prop_assert_eq!((ip.header().hop_limit(), ip.header().traffic_class()), (hop_limit, tos));
            }
            _ => unreachable!(),
        }
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("not TCP") };
        let theirs = tcp.to_header();
        let sum = match addrs {
            (IpAddr::V4(a), IpAddr::V4(b)) => theirs.calc_checksum_ipv4_raw(a.octets(), b.octets(), &payload),
            (IpAddr::V6(a), IpAddr::V6(b)) => theirs.calc_checksum_ipv6_raw(a.octets(), b.octets(), &payload),
            _ => unreachable!(),
        };
        prop_assert_eq!(sum.expect("not too long"), theirs.checksum);
        prop_assert_eq!((theirs.source_port, theirs.destination_port), ports);
        prop_assert_eq!((theirs.sequence_number, theirs.acknowledgment_number), (seq, ack));
        prop_assert_eq!((theirs.window_size, theirs.urgent_pointer), (window, urgent));
        let t = &theirs;
        let theirs_flags = [t.fin, t.syn, t.rst, t.psh, t.ack, t.urg, t.ece, t.cwr, t.ns];
        prop_assert_eq!(theirs_flags, std::array::from_fn(|bit| flags & (1 << bit) != 0));
        prop_assert_eq!(tcp.payload(), &payload);
        let mut expected = vec![
            TcpOptionElement::MaximumSegmentSize(mss),
            TcpOptionElement::SelectiveAcknowledgementPermitted,
            TcpOptionElement::Timestamp(ts.0, ts.1),
            TcpOptionElement::Noop,
            TcpOptionElement::WindowScale(shift),
        ];
        if let [block] = sack[..] {
            let sack = TcpOptionElement::SelectiveAcknowledgement(block, [None; 3]);
            expected.extend([TcpOptionElement::Noop, TcpOptionElement::Noop, sack]);
        }
        let elements: Result<Vec<_>, _> = tcp.options_iterator().collect();
        prop_assert_eq!(elements.expect("sound options"), expected);
    }

    #[test]
    fn the_usual_header_is_the_one_written_option_by_option(
        addrs in addrs(),
        (src_port, dst_port, window, urgent) in any::<(u16, u16, u16, u16)>(),
        (seq, ack) in any::<(u32, u32)>(),
        flags in 0u16..0x200,
        ts: Option<(u32, u32)>,
        payload: Vec<u8>,
    ) {
        let header = tcp::Header { src_port, dst_port, seq, ack, flags, window, urgent };
        let timestamps = ts.map(|(val, ecr)| tcp::Timestamps { val, ecr });
        let options = tcp::Options { timestamps, ..tcp::Options::default() };
        let (mut slow, mut quick) = (vec![0; 60 + payload.len()], vec![0xee; 60 + payload.len()]);
        let len = header.write(&mut slow, &options).expect("it fits");
        let sum = copy_and_sum(&mut slow[len..], &payload);
        tcp::set_checksum(&mut slow[..len], addrs.0, addrs.1, sum, payload.len());

        let (head, mut sum) = header.write_usual(&mut quick, timestamps).expect("it fits");
        sum.add(copy_and_sum(&mut quick[head..], &payload));
        tcp::finish_checksum(&mut quick[..head], addrs.0, addrs.1, sum, head + payload.len());
        prop_assert_eq!(&quick[..head + payload.len()], &slow[..len + payload.len()]);
        prop_assert_eq!(header.write_usual(&mut quick[..head - 1], timestamps).is_none(), true);
    }

    #[test]
    fn udp_both_ways(addrs in addrs(), ports: (u16, u16), payload: Vec<u8>) {
        let mut theirs = Vec::new();
        builder(addrs, 64).udp(ports.0, ports.1).write(&mut theirs, &payload).expect("a vector takes it");
        let packet = ip::Packet::parse(&theirs).expect("sound");
        prop_assert_eq!(udp::check(packet.src, packet.dst, packet.payload), Ok(()));
        let datagram = udp::Datagram::parse(packet.payload).expect("sound");
        prop_assert_eq!((datagram.src_port, datagram.dst_port, datagram.payload), (ports.0, ports.1, &payload[..]));

        let mut ours = vec![0; udp::HEADER_LEN + payload.len()];
        let sum = copy_and_sum(&mut ours[udp::HEADER_LEN..], &payload);
        udp::write(&mut ours, (addrs.0, ports.0), (addrs.1, ports.1), sum, payload.len()).expect("it fits");
        prop_assert_eq!(&ours[..], packet.payload);
    }

    #[test]
    fn icmpv4_both_ways(
        (a, b) in any::<(Ipv4Addr, Ipv4Addr)>(), reply: bool, ident: u16, seq: u16, mtu: u16, data: Vec<u8>,
    ) {
        let step = || PacketBuilder::ipv4(a.octets(), b.octets(), 64);
        let (mut theirs, mut ours) = (Vec::new(), vec![0; 8 + data.len()]);
        let echo = if reply { step().icmpv4_echo_reply(ident, seq) } else { step().icmpv4_echo_request(ident, seq) };
        echo.write(&mut theirs, &data).expect("a vector takes it");
        let expected = match reply {
            true => icmpv4::Message::EchoReply { ident, seq, data: &data },
            false => icmpv4::Message::EchoRequest { ident, seq, data: &data },
        };
        prop_assert_eq!(icmpv4::Message::parse(&theirs[20..]), Ok(expected));
        prop_assert_eq!(icmpv4::write_echo(&mut ours, reply, ident, seq, &data), Some(8 + data.len()));
        prop_assert_eq!(&ours, &theirs[20..]);

        theirs.clear();
        let [hi, lo] = mtu.to_be_bytes();
        step().icmpv4_raw(3, 4, [0, 0, hi, lo]).write(&mut theirs, &data).expect("a vector takes it");
        let code = icmpv4::unreachable::FRAG_NEEDED;
        let expected = icmpv4::Message::Unreachable { code, mtu, quote: &data };
        prop_assert_eq!(icmpv4::Message::parse(&theirs[20..]), Ok(expected));
        icmpv4::write_unreachable(&mut ours, code, mtu, &data).expect("it fits");
        prop_assert_eq!(&ours, &theirs[20..]);
    }

    #[test]
    fn icmpv6_both_ways(
        (a, b) in any::<(Ipv6Addr, Ipv6Addr)>(), reply: bool, ident: u16, seq: u16, mtu: u32, data: Vec<u8>,
    ) {
        let step = || PacketBuilder::ipv6(a.octets(), b.octets(), 64);
        let (mut theirs, mut ours) = (Vec::new(), vec![0; 8 + data.len()]);
        let echo = if reply { step().icmpv6_echo_reply(ident, seq) } else { step().icmpv6_echo_request(ident, seq) };
        echo.write(&mut theirs, &data).expect("a vector takes it");
        let expected = match reply {
            true => icmpv6::Message::EchoReply { ident, seq, data: &data },
            false => icmpv6::Message::EchoRequest { ident, seq, data: &data },
        };
        prop_assert_eq!(icmpv6::Message::parse(a, b, &theirs[40..]), Ok(expected));
        icmpv6::write_echo(&mut ours, (a, b), reply, ident, seq, &data).expect("it fits");
        prop_assert_eq!(&ours, &theirs[40..]);

        theirs.clear();
        step().icmpv6_raw(2, 0, mtu.to_be_bytes()).write(&mut theirs, &data).expect("a vector takes it");
        let expected = icmpv6::Message::PacketTooBig { mtu, quote: &data };
        prop_assert_eq!(icmpv6::Message::parse(a, b, &theirs[40..]), Ok(expected));
        icmpv6::write_packet_too_big(&mut ours, (a, b), mtu, &data).expect("it fits");
        prop_assert_eq!(&ours, &theirs[40..]);
    }

    #[test]
    fn fragments_both_ways(
        (a, b) in any::<(Ipv4Addr, Ipv4Addr)>(), id: u32, units in 0u16..1000, more: bool, words in 1usize..20,
    ) {
        let (offset, payload) = (u32::from(units) * 8, vec![1; words * 8]);
        let expected = |id| (more || offset > 0).then_some(ip::Fragment { id, offset, more });
        let (len, udp) = (payload.len() as u16, etherparse::IpNumber::UDP);

        let mut header = etherparse::Ipv4Header::new(len, 9, udp, a.octets(), b.octets()).expect("short");
        header.identification = id as u16;
        header.dont_fragment = false;
        header.more_fragments = more;
        header.fragment_offset = units.try_into().expect("13 bits");
        header.header_checksum = header.calc_header_checksum();
        let theirs = [&header.to_bytes()[..], &payload].concat();
        let packet = ip::Packet::parse(&theirs).expect("sound");
        prop_assert_eq!(packet.fragment, expected(id & 0xffff));
        prop_assert!(!packet.dont_fragment);
        let ours = ip::ipv4::Header {
            id: id as u16,
            dont_fragment: false,
            fragment_offset: offset,
            more_fragments: more,
            ttl: 9,
            ..ip::ipv4::Header::new(a, b, 17)
        };
        let mut buf = [0; 20];
        ours.write(&mut buf, payload.len()).expect("it fits");
        prop_assert_eq!(&buf[..], &theirs[..20]);

        let header = etherparse::Ipv6FragmentHeader::new(udp, units.try_into().expect("13 bits"), more, id);
        let body = [&header.to_bytes()[..], &payload].concat();
        let ext = ip::ipv6::skip_extensions(44, &body).expect("sound");
        prop_assert_eq!((ext.protocol, ext.len, ext.fragment), (17, 8, expected(id)));
        let mut buf = [0; 8];
        ip::ipv6::write_fragment(&mut buf, 17, ip::Fragment { id, offset, more }).expect("it fits");
        prop_assert_eq!(&buf[..], &body[..8]);
    }

    #[test]
    fn frames_and_arp_both_ways(
        macs: ([u8; 6], [u8; 6]), vlan in prop::option::of(0u16..4096), ips: ([u8; 4], [u8; 4]),
    ) {
        let arp = etherparse::ArpPacket::new(
            etherparse::ArpHardwareId::ETHERNET,
            etherparse::EtherType::IPV4,
            etherparse::ArpOperation::REPLY,
            &macs.0,
            &ips.0,
            &macs.1,
            &ips.1,
        ).expect("lengths agree");
        let step = PacketBuilder::ethernet2(macs.0, macs.1);
        let mut theirs = Vec::new();
        match vlan {
            Some(id) => step.single_vlan(id.try_into().expect("12 bits")).arp(arp).write(&mut theirs),
            None => step.arp(arp).write(&mut theirs),
        }.expect("a vector takes it");

        let frame = ethernet::Frame::parse(&theirs).expect("sound");
        prop_assert_eq!((frame.src.0, frame.dst.0), macs);
        prop_assert_eq!((frame.vlan, frame.ethertype), (vlan, ethernet::ethertype::ARP));
        let packet = arp::Packet::parse(frame.payload).expect("sound");
        prop_assert_eq!(packet.operation, arp::operation::REPLY);
        prop_assert_eq!((packet.sender_mac.0, packet.target_mac.0), macs);
        prop_assert_eq!((packet.sender_ip.octets(), packet.target_ip.octets()), ips);

        if vlan.is_none() {
            let mut ours = [0; ethernet::HEADER_LEN + arp::LEN];
            ethernet::write(&mut ours, frame.dst, frame.src, frame.ethertype).expect("it fits");
            packet.write(&mut ours[ethernet::HEADER_LEN..]).expect("it fits");
            prop_assert_eq!(&ours[..], &theirs);
        }
    }

    /// Whatever IPv6 extension chain etherparse takes for sound is read the same.
    #[test]
    fn extension_headers(
        order in prop::collection::vec(prop::sample::select(vec![43u8, 44, 51, 60]), 0..4),
        payload in prop::collection::vec(any::<u8>(), 8..40),
    ) {
        let mut body = Vec::new();
        for (at, kind) in order.iter().enumerate() {
            let next = *order.get(at + 1).unwrap_or(&17);
            match kind {
                51 => body.extend([next, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 9, 9, 9, 9]),
                44 => body.extend([next, 0, 0, 0, 1, 2, 3, 4]),
                _ => body.extend([next, 0, 1, 0, 0, 0, 0, 0]),
            }
        }
        let len = body.len();
        body.extend(&payload);
        let first = *order.first().unwrap_or(&17);
        let ext = ip::ipv6::skip_extensions(first, &body).expect("sound");
        prop_assert_eq!((ext.protocol, ext.len, ext.fragment), (17, len, None));
        let theirs = etherparse::Ipv6ExtensionsSlice::from_slice(first.into(), &body);
        if let Ok((_, next, rest)) = theirs {
            // etherparse stops at a header that comes again or out of order.
            prop_assert!(next.0 != 17 || rest == &body[ext.len..]);
        }
    }
}
