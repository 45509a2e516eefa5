//! The checksums against etherparse's, a plain loop, and each other.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use estab_wire::checksum::{Sum, checksum, copy_and_sum, update_u16, update_u32};
use etherparse::checksum::u64_16bit_word as oracle;
use proptest::prelude::*;

fn plain(bytes: &[u8]) -> u16 {
    let mut sum = 0u64;
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

/// 0 and 0xffff are the same number in ones' complement; which of them a sum comes to is checked where it matters.
fn same(a: u16, b: u16) -> bool {
    a % 0xffff == b % 0xffff
}

#[test]
fn rfc_1071s_example() {
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(Sum::of(&bytes).fold(), 0xddf2);
    assert_eq!(checksum(&bytes), !0xddf2);
}

#[test]
fn nothing_and_zeros_sum_to_zero() {
    assert_eq!(checksum(&[]), 0xffff);
    assert_eq!(checksum(&[0; 100]), 0xffff);
    assert_eq!(checksum(&[0xff; 100]), 0, "ones sum to ones, never to 0");
    assert_eq!(checksum(&vec![0xff; 1 << 20]), 0);
}

#[test]
fn udp_writes_ones_where_zero_would_mean_none() {
    assert_eq!(Sum::of(&[0xff, 0xff]).finish(), 0);
    assert_eq!(Sum::of(&[0xff, 0xff]).finish_udp(), 0xffff);
    assert_eq!(Sum::of(&[0x12, 0x34]).finish_udp(), !0x1234);
}

#[test]
fn every_length_up_to_a_few_blocks() {
    let bytes: Vec<u8> = (0..5000u32).map(|i| (i * 31 + i / 255) as u8).collect();
    for len in (0..300).chain(2040..2060).chain([4095, 4096, 4097, 5000]) {
        let piece = &bytes[..len];
        assert_eq!(checksum(piece), plain(piece), "length {len}");
        let mut copy = vec![0; len];
        assert_eq!(
            copy_and_sum(&mut copy, piece).finish(),
            plain(piece),
            "copying length {len}"
        );
        assert_eq!(copy, piece);
    }
}

#[test]
fn copies_what_fits() {
    let mut short = [0; 3];
    assert_eq!(copy_and_sum(&mut short, &[1, 2, 3, 4, 5]).finish(), plain(&[1, 2, 3]));
    assert_eq!(short, [1, 2, 3]);
    let mut long = [9; 5];
    assert_eq!(copy_and_sum(&mut long, &[1, 2, 3]).finish(), plain(&[1, 2, 3]));
    assert_eq!(long, [1, 2, 3, 9, 9]);
}

#[test]
fn pseudo_headers_are_the_rfcs() {
    let (a, b) = (Ipv4Addr::new(192, 168, 1, 2), Ipv4Addr::new(10, 0, 0, 255));
    let header = [192, 168, 1, 2, 10, 0, 0, 255, 0, 6, 0x05, 0xdc];
    assert_eq!(Sum::pseudo_v4(a, b, 6, 1500).finish(), plain(&header));

    let (a, b): (Ipv6Addr, Ipv6Addr) = ("2001:db8::1".parse().unwrap(), "fe80::ffff:1".parse().unwrap());
    let mut header = [a.octets(), b.octets()].concat();
    header.extend([0, 1, 0x11, 0x70, 0, 0, 0, 17]);
    assert_eq!(Sum::pseudo_v6(a, b, 17, 70_000).finish(), plain(&header));
    assert_eq!(
        Sum::pseudo(IpAddr::V6(a), IpAddr::V6(b), 17, 70_000).finish(),
        plain(&header)
    );
}

proptest! {
    #[test]
    fn agrees_with_etherparse(bytes: Vec<u8>) {
        prop_assert_eq!(checksum(&bytes), plain(&bytes));
        // etherparse leaves the result in the order of its machine.
        prop_assert_eq!(checksum(&bytes), oracle::ones_complement(oracle::add_slice(0, &bytes)).to_be());
    }

    #[test]
    fn pieces_add_up_to_the_whole(pieces: Vec<Vec<u8>>) {
        let whole = pieces.concat();
        let mut bytes = Sum::new();
        let mut sums = Sum::new();
        for piece in &pieces {
            bytes.add_bytes(piece);
            sums.add(copy_and_sum(&mut vec![0; piece.len()], piece));
        }
        prop_assert_eq!(bytes.finish(), plain(&whole));
        prop_assert_eq!(sums.finish(), plain(&whole));
    }

    #[test]
    fn numbers_are_their_bytes(before: Vec<u8>, a: u16, b: u32, after: Vec<u8>) {
        let mut sum = Sum::of(&before);
        sum.add_u16(a);
        sum.add_u32(b);
        sum.add_bytes(&after);
        let whole = [&before[..], &a.to_be_bytes(), &b.to_be_bytes(), &after].concat();
        prop_assert_eq!(sum.finish(), plain(&whole));
    }

    #[test]
    fn offset_in_memory_is_no_matter(bytes in prop::collection::vec(any::<u8>(), 16..200), at in 0usize..16) {
        prop_assert_eq!(checksum(&bytes[at..]), plain(&bytes[at..]));
    }

    #[test]
    fn with_its_own_checksum_it_is_right(
        mut bytes in prop::collection::vec(any::<u8>(), 2..100),
        flip in any::<prop::sample::Index>(),
    ) {
        bytes[..2].fill(0);
        let sum = checksum(&bytes);
        bytes[..2].copy_from_slice(&sum.to_be_bytes());
        prop_assert!(Sum::of(&bytes).is_right());
        let at = flip.index(bytes.len() * 8);
        bytes[at / 8] ^= 1 << (at % 8);
        prop_assert!(!Sum::of(&bytes).is_right(), "one bit always shows");
    }

    #[test]
    fn updates_are_recalculations(mut bytes in prop::collection::vec(any::<u8>(), 8..64), new: u32) {
        bytes.truncate(bytes.len() & !3);
        let old = checksum(&bytes);
        let word = u32::from_be_bytes(bytes[4..8].try_into().unwrap());
        bytes[4..8].copy_from_slice(&new.to_be_bytes());
        prop_assert!(same(update_u32(old, word, new), checksum(&bytes)));

        let (before, word) = (checksum(&bytes), u16::from_be_bytes([bytes[0], bytes[1]]));
        bytes[..2].copy_from_slice(&(new as u16).to_be_bytes());
        prop_assert!(same(update_u16(before, word, new as u16), checksum(&bytes)));
    }
}

/// RFC 1624 §4: the case that RFC 1141's shortcut got wrong.
#[test]
fn rfc_1624s_example() {
    assert_eq!(update_u16(0xdd2f, 0x5555, 0x3285), 0x0000);
}
