//! Bytes that are not copied on their way: put into the send buffer by the application, and left there by a packet.

mod common;

use common::*;
use estab_engine::*;

fn byte(i: usize) -> u8 {
    (i * 31 + i / 251) as u8
}

#[test]
fn what_is_put_and_left_in_place_arrives() {
    let offloads = || IfaceConfig {
        gso_max_size: 65_535,
        csum_offload: true,
        ..wire()
    };
    let mut pair = Pair::with(offloads(), offloads());
    let (a, b, _) = pair.open();
    let (mut sent, mut in_place, mut got) = (0, 0, Vec::new());
    let mut buf = vec![0; 70_000];
    for _ in 0..40 {
        let taken = pair.sock(A, a).send_with(50_000, SendFlags::default(), |areas| {
            let places = areas.iter_mut().flat_map(|area| area.iter_mut());
            places.enumerate().map(|(i, place)| *place = byte(sent + i)).count()
        });
        sent += taken.unwrap();
        let now = pair.now;
        let [from, to] = &mut pair.hosts;
        loop {
            let mut parts = [&[][..]; PAYLOAD_PARTS];
            let Some((transmit, count)) = from.stack.poll_transmit_parts(now, &mut buf, &mut parts) else {
                break;
            };
            in_place += count;
            let packet = [&buf[..transmit.len], &parts[..count].concat()].concat();
            let meta = RxMeta {
                csum: RxCsum::Partial,
                gso_size: transmit.gso,
            };
            to.stack.handle_packet(now, to.iface, &packet, meta);
        }
        pair.run_ms(50);
        while let Ok(bytes) = pair.recv(B, b) {
            got.extend(bytes);
        }
    }
    assert!(sent > 1_000_000, "{sent}");
    assert!(in_place > 40, "{in_place}");
    assert_eq!(got.len(), sent);
    assert!(got.iter().enumerate().all(|(i, got)| *got == byte(i)));
}

#[test]
fn a_full_buffer_takes_nothing_and_tells_of_room() {
    let mut pair = Pair::new();
    let (a, b, _) = pair.open();
    while pair
        .sock(A, a)
        .send_with(100_000, SendFlags::default(), |areas| {
            areas.iter().map(|area| area.len()).sum()
        })
        .unwrap()
        > 0
    {}
    assert_eq!(
        pair.sock(A, a)
            .send_with(1, SendFlags::default(), |_| panic!("there is no room")),
        Ok(0)
    );
    pair.hosts[A].events.clear();
    for _ in 0..20 {
        pair.run_ms(100);
        while pair.recv(B, b).is_ok() {}
    }
    let told =
        |event: &Event| matches!(event, Event::Ready(id, level) if *id == a && level.contains(Readiness::WRITABLE));
    assert!(pair.hosts[A].events.iter().any(told));
    pair.sock(A, a).shutdown(Shutdown::Write).unwrap();
    assert_eq!(
        pair.sock(A, a).send_with(1, SendFlags::default(), |_| 1),
        Err(SockError::EPIPE)
    );
}

#[test]
fn what_is_put_with_more_to_follow_leaves_with_the_fin() {
    let mut pair = Pair::new();
    let (a, b, _) = pair.open();
    pair.hosts[A].take_trace();
    let more = SendFlags {
        more: true,
        ..SendFlags::default()
    };
    assert_eq!(pair.sock(A, a).send_with(100, more, |_| 100), Ok(100));
    pair.sock(A, a).shutdown(Shutdown::Write).unwrap();
    pair.run_ms(15);
    let sent = sent(&pair.hosts[A].take_trace());
    let shapes: Vec<_> = sent.iter().map(|segment| segment.to_string()).collect();
    assert_eq!(shapes.len(), 1, "{shapes:?}");
    assert!(
        shapes[0].starts_with("F. ") && shapes[0].contains("(100) ack"),
        "{shapes:?}"
    );
    assert_eq!(pair.recv(B, b).map(|bytes| bytes.len()), Ok(100));
    assert_eq!(pair.recv(B, b).map(|bytes| bytes.len()), Ok(0));
}

#[test]
fn what_fills_the_buffer_leaves_whatever_is_to_follow() {
    let mut pair = Pair::new();
    let (a, b, _) = pair.open();
    // Less than a segment.
    pair.sock(A, a).set_option(SockOption::SndBuf(2304)).unwrap();
    let more = SendFlags {
        more: true,
        ..SendFlags::default()
    };
    let mut taken = 0;
    while pair.sock(A, a).readiness().contains(Readiness::WRITABLE) {
        taken += pair
            .sock(A, a)
            .send_with(1000, more, |areas| areas.iter().map(|area| area.len()).sum())
            .unwrap();
    }
    pair.run_ms(15);
    let mut got = 0;
    while let Ok(bytes) = pair.recv(B, b) {
        got += bytes.len();
    }
    assert_eq!(got, taken);
}

/// B takes what it is shown of the packets that A sends; what it was shown, and what it reads afterwards.
fn shown(pair: &mut Pair, most: usize, data: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (a, b, _) = pair.open();
    pair.send(A, a, data).unwrap();
    let (now, iface) = (pair.now, pair.hosts[B].iface);
    let mut buf = vec![0; 2000];
    let mut offers = Vec::new();
    while let Some(transmit) = pair.hosts[A].stack.poll_transmit(now, &mut buf) {
        let (packet, meta) = (&buf[..transmit.len], RxMeta::default());
        pair.hosts[B]
            .stack
            .handle_packet_with(now, iface, packet, meta, |id, text| {
                assert_eq!(id, b);
                offers.push(text.to_vec());
                most
            });
    }
    let mut read = Vec::new();
    while let Ok(bytes) = pair.recv(B, b) {
        read.extend(bytes);
    }
    pair.run_ms(100);
    assert_eq!(pair.sock(A, a).send_queued(), 0, "all is acknowledged");
    (offers, read)
}

#[test]
fn text_is_taken_from_the_packets_themselves() {
    let data: Vec<u8> = (0..5000).map(byte).collect();
    let (offers, read) = shown(&mut Pair::new(), usize::MAX, &data);
    assert!(offers.len() > 1);
    assert_eq!(offers.concat(), data);
    assert_eq!(read, []);
}

#[test]
fn text_that_is_left_waits_and_nothing_is_shown_before_it() {
    let data: Vec<u8> = (0..5000).map(byte).collect();
    for most in [0, 100] {
        let (offers, read) = shown(&mut Pair::new(), most, &data);
        assert_eq!(offers.len(), 1);
        assert_eq!(read, data[most..]);
    }
}
