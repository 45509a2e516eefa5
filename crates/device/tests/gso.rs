//! Super-packets are cut as the kernel's GSO would.

mod common;

use common::{Packet, pattern};
use estab_device::gso;
use estab_wire::ip;
use etherparse::{SlicedPacket, TransportSlice};

const FIN: u8 = 1;
const PSH: u8 = 8;
const ACK: u8 = 16;
const CWR: u8 = 128;

fn cut(frame: &[u8], size: u16) -> Vec<Vec<u8>> {
    let mut segments = Vec::new();
    assert!(gso::segments(frame, 0, size, &mut Vec::new(), |segment| segments
        .push(segment.to_vec())));
    segments
}

/// By a parser that is not ours.
fn assert_checksums(frame: &[u8]) {
    ip::Packet::parse(frame).expect("a sound IP header");
    let sliced = SlicedPacket::from_ip(frame).expect("a sound packet");
    let net = sliced.net.expect("IP");
    let transport = sliced.transport.expect("a transport header");
    let (found, right) = match (&net, &transport) {
        (etherparse::NetSlice::Ipv4(ip), TransportSlice::Tcp(tcp)) => (
            tcp.checksum(),
            tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination())
                .unwrap(),
        ),
        (etherparse::NetSlice::Ipv6(ip), TransportSlice::Tcp(tcp)) => (
            tcp.checksum(),
            tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination())
                .unwrap(),
        ),
        (etherparse::NetSlice::Ipv4(ip), TransportSlice::Udp(udp)) => (
            udp.checksum(),
            udp.to_header()
                .calc_checksum_ipv4(&ip.header().to_header(), udp.payload())
                .unwrap(),
        ),
        (etherparse::NetSlice::Ipv6(ip), TransportSlice::Udp(udp)) => (
            udp.checksum(),
            udp.to_header()
                .calc_checksum_ipv6(&ip.header().to_header(), udp.payload())
                .unwrap(),
        ),
        other => panic!("unexpected {other:?}"),
    };
    assert_eq!(found, right);
}

#[test]
fn tcp_segments_carry_the_payload_in_order_with_right_headers() {
    for (src, dst) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        let mut packet = Packet::new(src, dst, pattern(3001));
        packet.seq = u32::MAX - 1500;
        packet.flags = ACK | PSH | FIN | CWR;
        let segments = cut(&packet.partial(), 1000);

        assert_eq!(segments.len(), 4);
        let mut payload = Vec::new();
        for (i, segment) in segments.iter().enumerate() {
            assert_checksums(segment);
            let sliced = SlicedPacket::from_ip(segment).unwrap();
            let Some(TransportSlice::Tcp(tcp)) = sliced.transport else {
                panic!("not TCP")
            };
            assert_eq!(tcp.sequence_number(), packet.seq.wrapping_add(1000 * i as u32));
            assert_eq!(tcp.cwr(), i == 0, "CWR on the first segment only");
            assert_eq!((tcp.fin(), tcp.psh()), (i == 3, i == 3), "FIN and PSH on the last only");
            assert!(tcp.ack());
            assert_eq!(tcp.options().len(), 12);
            payload.extend_from_slice(tcp.payload());
        }
        assert_eq!(payload, packet.payload);
    }
}

#[test]
fn ipv4_ids_count_up_and_wrap() {
    let packet = Packet::new("10.0.0.1", "10.0.0.2", pattern(300));
    let ids: Vec<u32> = cut(&packet.partial(), 100)
        .iter()
        .map(|segment| u32::from(u16::from_be_bytes([segment[4], segment[5]])))
        .collect();
    assert_eq!(ids, [0xffff, 0, 1]);
}

#[test]
fn udp_is_cut_into_datagrams() {
    for (src, dst) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        let mut packet = Packet::new(src, dst, pattern(2500));
        packet.tcp = false;
        let datagrams = cut(&packet.partial(), 1200);
        let lengths: Vec<usize> = datagrams.iter().map(|d| d.len() - packet.transport() - 8).collect();
        assert_eq!(lengths, [1200, 1200, 100]);
        datagrams.iter().for_each(|datagram| assert_checksums(datagram));
    }
}

#[test]
fn a_packet_without_payload_stays_one() {
    let packet = Packet::new("10.0.0.1", "10.0.0.2", Vec::new());
    let segments = cut(&packet.partial(), 1000);
    assert_eq!(segments.len(), 1);
    assert_checksums(&segments[0]);
}

#[test]
fn padding_behind_the_packet_is_no_payload() {
    let mut frame = vec![0; 14];
    frame.extend_from_slice(&Packet::new("10.0.0.1", "10.0.0.2", vec![7; 3]).partial());
    frame.extend_from_slice(&[0xee; 20]);
    let mut segments = Vec::new();
    assert!(gso::segments(&frame, 14, 2, &mut Vec::new(), |segment| segments
        .push(segment[14..].to_vec())));
    assert_eq!(segments.len(), 2);
    segments.iter().for_each(|segment| assert_checksums(segment));
}

#[test]
fn what_cannot_be_cut_is_refused() {
    let refused = |frame: &[u8]| !gso::segments(frame, 0, 100, &mut Vec::new(), |_| panic!("called"));
    let good = Packet::new("fd00::1", "fd00::2", pattern(50)).partial();
    for len in 0..40 + 32 {
        assert!(refused(&good[..len]), "cut to {len} bytes");
    }
    let mut icmp = good.clone();
    icmp[6] = 58;
    assert!(refused(&icmp));
    let mut short_header = good;
    short_header[40 + 12] = 0x40;
    assert!(refused(&short_header));
}

#[test]
fn partial_checksums_are_completed() {
    for (src, dst) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        for (tcp, field) in [(true, 16), (false, 6)] {
            let mut packet = Packet::new(src, dst, pattern(333));
            packet.tcp = tcp;
            let mut frame = packet.partial();
            gso::complete_checksum(&mut frame, packet.transport(), field);
            assert_checksums(&frame);
        }
    }
}

#[test]
fn checksum_offsets_past_the_end_change_nothing() {
    let packet = Packet::new("10.0.0.1", "10.0.0.2", Vec::new()).partial();
    for (start, offset) in [(packet.len() + 1, 16), (20, packet.len() - 20), (20, packet.len() - 21)] {
        let mut copy = packet.clone();
        gso::complete_checksum(&mut copy, start, offset);
        assert_eq!(copy, packet);
    }
}

#[test]
fn no_frame_whatever_panics() {
    // A linear congruential generator: the same frames in every run.
    let mut state = 1_u64;
    let mut random = move |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut scratch = Vec::new();
    let mut cut = 0;
    for round in 0..50_000 {
        let (src, dst) = [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")][round % 2];
        let mut packet = Packet::new(src, dst, pattern(random(200)));
        packet.tcp = random(2) == 0;
        let mut frame = packet.partial();
        for _ in 0..random(4) {
            let at = random(frame.len());
            frame[at] = random(256) as u8;
        }
        frame.truncate(frame.len() - random(4).min(random(40)));
        let longest = frame.len();
        let each = |segment: &[u8]| assert!(segment.len() <= longest);
        cut += usize::from(gso::segments(
            &frame,
            random(3) * 7,
            random(300) as u16,
            &mut scratch,
            each,
        ));
        let (start, offset) = (random(300), random(300));
        gso::complete_checksum(&mut frame, start, offset);
    }
    assert!(cut > 1000, "only {cut} frames could be cut");
}
