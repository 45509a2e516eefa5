//! Checksums at their edges, and those that a device completes.
use std::net::IpAddr;

use estab_wire::checksum::Sum;
use estab_wire::{tcp, udp};

const ADDRS: [(&str, &str); 2] = [("10.0.0.1", "10.0.0.2"), ("fd00::1", "2001:db8::2")];

fn addrs() -> impl Iterator<Item = (IpAddr, IpAddr)> {
    ADDRS
        .iter()
        .map(|(a, b)| (a.parse().expect("a literal"), b.parse().expect("a literal")))
}

/// What a device does with NEEDS_CSUM: sum everything, the field included, and put the result in the field.
fn complete(bytes: &mut [u8], field: usize) {
    let sum = Sum::of(bytes).finish_udp();
    bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn a_device_completes_what_was_left_partial() {
    for (src, dst) in addrs() {
        let mut bytes = [7; 40];
        udp::write_partial(&mut bytes, (src, 53), (dst, 4000), 32).expect("it fits");
        assert_eq!(
            udp::check(src, dst, &bytes),
            Err(estab_wire::Malformed::UdpChecksumWrong)
        );
        complete(&mut bytes, udp::CHECKSUM_OFFSET);
        assert_eq!(udp::check(src, dst, &bytes), Ok(()));

        let header = tcp::Header {
            src_port: 1,
            dst_port: 2,
            flags: tcp::flags::ACK,
            ..tcp::Header::default()
        };
        let len = header.write(&mut bytes, &tcp::Options::default()).expect("it fits");
        tcp::set_partial_checksum(&mut bytes[..len], src, dst, 40);
        complete(&mut bytes, tcp::CHECKSUM_OFFSET);
        assert!(tcp::checksum_ok(src, dst, &bytes));
    }
}

#[test]
fn a_udp_checksum_of_zero_is_written_as_ones() {
    for (src, dst) in addrs() {
        let mut bytes = [0; 10];
        udp::write(&mut bytes, (src, 53), (dst, 4000), Sum::new(), 2).expect("it fits");
        // A payload that is the checksum so far takes the sum to all ones.
        let missing = [bytes[6], bytes[7]];
        bytes[8..].copy_from_slice(&missing);
        udp::write(&mut bytes, (src, 53), (dst, 4000), Sum::of(&missing), 2).expect("it fits");
        assert_eq!(bytes[6..8], [0xff, 0xff], "0 would mean there is none");
        assert_eq!(udp::check(src, dst, &bytes), Ok(()));
    }
}

#[test]
fn longer_than_a_datagram_can_be() {
    let addr = IpAddr::from([1, 1, 1, 1]);
    assert_eq!(
        udp::write(&mut [0; 8], (addr, 1), (addr, 2), Sum::new(), 65_527),
        Some(8)
    );
    assert_eq!(udp::write(&mut [0; 8], (addr, 1), (addr, 2), Sum::new(), 65_528), None);
    assert_eq!(udp::write(&mut [0; 7], (addr, 1), (addr, 2), Sum::new(), 0), None);
}
