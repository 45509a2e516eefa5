//! What is read from sound IP packets.
use estab_wire::ethernet::MacAddr;
use estab_wire::ip::{self, Packet};
use estab_wire::{Malformed, ndp};

mod samples;
use samples::{repair_ipv4_checksum, tcp4, tcp6};

#[test]
fn the_links_padding_is_no_payload() {
    let mut padded = tcp4();
    padded.extend([0; 6]);
    let packet = Packet::parse(&padded).unwrap();
    assert_eq!((packet.bytes, packet.payload), (&tcp4()[..], &tcp4()[20..]));
    let mut padded = tcp6();
    padded.extend([0; 6]);
    assert_eq!(Packet::parse(&padded).unwrap().payload, &tcp6()[40..]);
}

#[test]
fn extension_headers_are_walked_to_the_payload() {
    let bytes = samples::extended6();
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!((packet.protocol, packet.header_len, packet.options.len()), (17, 84, 44));
    assert_eq!(&packet.payload[8..], b"deep");
    assert_eq!(
        packet.fragment, None,
        "a fragment that is all of its packet is none (RFC 6946)"
    );
    assert!(packet.dont_fragment && !packet.source_routed);
}

#[test]
fn a_walk_ends_at_no_next_header_and_at_what_is_not_known() {
    for next in [ip::protocol::NO_NEXT_HEADER, 50, 132] {
        let bytes = samples::ipv6(60, 1, &[next, 0, 1, 4, 0, 0, 0, 0, 1, 2, 3]);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!((packet.protocol, packet.payload), (next, &[1, 2, 3][..]));
    }
}

#[test]
fn a_fragment_ends_the_walk() {
    // What follows a fragment header belongs to the whole packet, destination options included.
    let bytes = samples::ipv6(44, 1, &[60, 0, 0, 1, 0, 0, 0, 5, 17, 0, 1, 4, 0, 0, 0, 0]);
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!((packet.protocol, packet.payload.len()), (60, 8));
    assert_eq!(
        packet.fragment,
        Some(ip::Fragment {
            id: 5,
            offset: 0,
            more: true
        })
    );
}

#[test]
fn source_routes_are_noticed() {
    for (options, routed) in [
        ([131u8, 3, 4, 0], true),
        ([1, 137, 3, 4], true),
        ([148, 4, 0, 0], false), // router alert
        ([1, 1, 1, 1], false),
        ([0, 131, 3, 4], false), // behind the list's end
    ] {
        let mut bytes = vec![0x46, 0, 0, 24, 0, 0, 0, 0, 64, 17, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2];
        bytes.extend(options);
        repair_ipv4_checksum(&mut bytes);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(
            (packet.source_routed, packet.options),
            (routed, &options[..]),
            "{options:?}"
        );
    }
    for (left, routed) in [(0, false), (1, true)] {
        let bytes = samples::ipv6(43, 1, &[59, 0, 0, left, 0, 0, 0, 0]);
        assert_eq!(Packet::parse(&bytes).unwrap().source_routed, routed);
    }
}

#[test]
fn traffic_class_is_split() {
    for version in [4, 6] {
        let mut bytes = if version == 4 { tcp4() } else { tcp6() };
        match version {
            4 => bytes[1] = 0xb9,
            _ => (bytes[0], bytes[1]) = (0x6b, 0x90),
        }
        repair_ipv4_checksum(&mut bytes);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(
            (packet.version(), packet.tos, packet.dscp(), packet.ecn()),
            (version, 0xb9, 46, 1)
        );
    }
}

#[test]
fn options_are_passed_over_or_not_as_their_kind_says() {
    // The upper two bits of 0x1e say pass over, those of 0x9e don't; home address is known.
    for (kind, result) in [(0x1e, Ok(6)), (0xc9, Ok(6)), (0x9e, Err(Malformed::Ipv6OptionUnknown))] {
        let read = ip::ipv6::skip_extensions(60, &[6, 0, kind, 2, 0, 0, 0, 0]);
        assert_eq!(read.map(|ext| ext.protocol), result);
    }
}

#[test]
fn forwarding_takes_one_hop() {
    let mut bytes = tcp4();
    for left in (1..64).rev() {
        assert!(ip::ipv4::decrement_ttl(&mut bytes));
        assert_eq!(
            Packet::parse(&bytes).map(|packet| packet.hop_limit),
            Ok(left),
            "the checksum stays right"
        );
    }
    let last = bytes.clone();
    assert!(!ip::ipv4::decrement_ttl(&mut bytes));
    assert_eq!(bytes, last);
    assert!(!ip::ipv4::decrement_ttl(&mut tcp6()));
    assert!(!ip::ipv4::decrement_ttl(&mut [0x45; 19]));
}

#[test]
fn what_does_not_fit_is_not_written() {
    let mut buf = [0xaa; 40];
    let v4 = ip::ipv4::Header::new([1, 1, 1, 1].into(), [2, 2, 2, 2].into(), 6);
    assert_eq!(v4.write(&mut buf[..19], 0), None);
    assert_eq!(v4.write(&mut buf, 65_516), None, "one byte more than a length can tell");
    assert_eq!(v4.write(&mut [0; 20], 65_515), Some(20));
    let v6 = ip::ipv6::Header::new([1; 16].into(), [2; 16].into(), 6);
    assert_eq!(v6.write(&mut buf[..39], 0), None);
    assert_eq!(v6.write(&mut buf, 65_536), None);
    assert_eq!(v6.write(&mut [0; 40], 65_535), Some(40));
    assert_eq!(buf, [0xaa; 40]);
}

#[test]
fn multicast_maps_to_the_links() {
    let mac = |addr: &str| MacAddr::of_multicast(addr.parse().unwrap()).map(|mac| mac.to_string());
    assert_eq!(mac("224.129.2.3").as_deref(), Some("01:00:5e:01:02:03"));
    assert_eq!(mac("255.255.255.255").as_deref(), Some("ff:ff:ff:ff:ff:ff"));
    assert_eq!(mac("ff02::1:ff12:3456").as_deref(), Some("33:33:ff:12:34:56"));
    assert_eq!(mac("10.0.0.1"), None);
    let asked = ndp::solicited_node("2001:db8::12:3456".parse().unwrap());
    assert_eq!(asked.to_string(), "ff02::1:ff12:3456");
}

#[test]
fn fragments_may_add_up_to_the_longest_packet_and_no_more() {
    for (len, sound) in [(3, true), (4, false)] {
        let mut header = ip::ipv4::Header::new([1, 1, 1, 1].into(), [2, 2, 2, 2].into(), 17);
        (header.dont_fragment, header.fragment_offset) = (false, 65_512);
        let mut bytes = vec![0; 20 + len];
        header.write(&mut bytes, len).unwrap();
        let read = Packet::parse(&bytes).map(|packet| packet.fragment.map(|fragment| fragment.offset));
        assert_eq!(
            read,
            if sound {
                Ok(Some(65_512))
            } else {
                Err(Malformed::Ipv4FragmentTooLong)
            }
        );
    }
}
