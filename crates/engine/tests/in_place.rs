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
        let taken = pair.sock(A, a).send_with(50_000, |areas| {
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
        .send_with(100_000, |areas| areas.iter().map(|area| area.len()).sum())
        .unwrap()
        > 0
    {}
    assert_eq!(pair.sock(A, a).send_with(1, |_| panic!("there is no room")), Ok(0));
    pair.hosts[A].events.clear();
    for _ in 0..20 {
        pair.run_ms(100);
        while pair.recv(B, b).is_ok() {}
    }
    let told =
        |event: &Event| matches!(event, Event::Ready(id, level) if *id == a && level.contains(Readiness::WRITABLE));
    assert!(pair.hosts[A].events.iter().any(told));
    pair.sock(A, a).shutdown(Shutdown::Write).unwrap();
    assert_eq!(pair.sock(A, a).send_with(1, |_| 1), Err(SockError::EPIPE));
}
