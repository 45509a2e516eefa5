//! What the receiver tells and counts where segments repeat, overlap or overshoot.

mod common;

use common::script::*;
use estab_engine::*;
use std::time::Duration;

/// A listener with SO_RCVBUF set.
fn listen_with_rcvbuf(s: &mut Script, bytes: u32) -> SocketId {
    let listener = s.socket();
    s.sock(listener).set_option(SockOption::RcvBuf(bytes)).unwrap();
    let local = s.local;
    s.sock(listener).bind(local).unwrap();
    s.sock(listener).listen(1).unwrap();
    listener
}

#[test]
fn a_fin_behind_repeated_data_is_acknowledged_without_dsack() {
    let mut s = Script::new();
    let listener = s.listen(1);
    s.inject("S 0:0(0) win 60000 <mss 1460,sackOK>");
    s.expect("S. 0:0(0) ack 1");
    s.inject(". 1:1(0) ack 1 win 60000");
    let (id, _) = s.sock(listener).accept().unwrap();
    s.inject(". 1:801(800) ack 1 win 60000");
    s.expect(". 1:1(0) ack 801");
    s.sock(id).recv(&mut [0; 1000], RecvFlags::default()).unwrap();
    s.inject("F. 1:801(800) ack 1 win 60000");
    let (_, ack) = s.next(". ack");
    assert!(ack.contains("ack 802") && !ack.contains("sack"), "{ack}");
}

#[test]
fn what_lies_beyond_the_window_is_counted_whole_or_in_part() {
    let mut s = Script::new();
    listen_with_rcvbuf(&mut s, 8000);
    s.inject("S 0:0(0) win 60000 <mss 1460>");
    s.expect("S. 0:0(0) ack 1");
    s.inject(". 1:1(0) ack 1 win 60000");
    s.inject("P. 1:1001(1000) ack 1 win 60000");
    s.expect(". 1:1(0) ack 1001");
    for (at, beyond) in [("1001:31001(30000)", 1), ("60001:60501(500)", 2)] {
        s.run_ms(1000);
        s.inject(&format!("P. {at} ack 1 win 60000"));
        s.expect(". 1:1(0) ack 1001");
        assert_eq!(s.host.counter("TcpExtBeyondWindow"), beyond);
    }
    s.inject("R. 60001:60001(0) ack 1 win 0");
    assert_eq!(s.host.counter("TcpExtBeyondWindow"), 2, "an RST is not");
}

#[test]
fn early_data_makes_the_buffer_grow_once_the_connection_was_accepted() {
    let grown = |accepted: bool| {
        let mut s = Script::new();
        let listener = s.listen(1);
        s.inject("S 0:0(0) win 60000 <mss 1460,sackOK,wscale 7>");
        s.expect("S. 0:0(0) ack 1");
        s.inject(". 1:1(0) ack 1 win 600");
        let mut id = accepted.then(|| s.sock(listener).accept().unwrap().0);
        for at in [3001, 33_001, 63_001] {
            s.inject(&format!(". {at}:{}(30000) ack 1 win 600", at + 30_000));
            s.next(". ack");
        }
        let id = *id.get_or_insert_with(|| s.sock(listener).accept().unwrap().0);
        let Ok(SockOption::RcvBuf(bytes)) = s.sock(id).option(SockOption::RcvBuf(0)) else {
            panic!("a size");
        };
        bytes
    };
    assert_eq!(grown(false), 131_072);
    assert!(grown(true) > 131_072, "{}", grown(true));
}

#[test]
fn an_ack_waits_for_a_reply_no_longer_than_a_listener_says() {
    let mut s = Script::new();
    let listener = s.listen(1);
    s.sock(listener).set_option(SockOption::QuickAck(false)).unwrap();
    for (us, taken) in [
        (1000, false),
        (1001, true),
        (200_000, true),
        (200_001, false),
        (2000, true),
    ] {
        let set = s
            .sock(listener)
            .set_option(SockOption::DelackMax(Duration::from_micros(us)));
        assert_eq!(set.is_ok(), taken, "{us} µs");
    }
    s.inject("S 0:0(0) win 60000 <mss 1460>");
    s.expect("S. 0:0(0) ack 1");
    s.inject(". 1:1(0) ack 1 win 60000");
    let (id, _) = s.sock(listener).accept().unwrap();
    let like = SockOption::DelackMax(Duration::ZERO);
    assert_eq!(
        s.sock(id).option(like),
        Ok(SockOption::DelackMax(Duration::from_millis(2)))
    );
    s.inject("P. 1:101(100) ack 1 win 60000");
    s.run_ms(1);
    s.sock(id).send(b"reply", SendFlags::default()).unwrap();
    s.expect("P. 1:6(5) ack 101");
    s.inject("P. 101:201(100) ack 6 win 60000");
    let at = s.ms();
    s.expect_at(at + 2, ". 6:6(0) ack 201");
}

/// RFC 7323 §2.3: a shift of 14 and a field of 65535 are nearly 1 GiB; larger shifts count as 14.
#[test]
fn windows_scale_to_1_gib_both_ways() {
    let most = 65_535 << 14;
    let mut s = Script::new();
    for (name, value) in [
        ("net.core.rmem_max", "2147483647"),
        ("net.ipv4.tcp_rmem", "4096 131072 2147483647"),
    ] {
        s.host.stack.set_sysctl(name, value).unwrap();
    }
    let listener = listen_with_rcvbuf(&mut s, 1 << 30);
    s.inject("S 0:0(0) win 65535 <mss 1460,sackOK,nop,wscale 15>");
    s.expect("S. 0:0(0) ack 1 win 65535 <mss 1460,nop,nop,sackOK,nop,wscale 14>");
    s.inject(". 1:1(0) ack 1 win 65535");
    let (id, _) = s.sock(listener).accept().unwrap();
    let info = s.sock(id).info().unwrap();
    assert_eq!((info.snd_wscale, info.rcv_wscale), (14, 14));
    assert_eq!(info.snd_wnd, most);
    // The window opens with what arrives, up to what the field can say.
    let mut at = 1;
    let mut field = 0;
    while field < 65_535 {
        let end = at + 60_000;
        s.inject(&format!(". {at}:{end}(60000) ack 1 win 65535"));
        at = end;
        s.sock(id).recv(&mut [0; 60_000], RecvFlags::default()).unwrap();
        let (_, ack) = s.next(". ack win ");
        let win = ack.split("win ").nth(1).and_then(|rest| rest.split(' ').next());
        let win: u32 = win.and_then(|win| win.parse().ok()).unwrap();
        assert!(win >= field, "the window's right edge never moves left");
        field = win;
    }
    // The last byte that was offered is taken.
    s.inject(&format!(". {}:{}(1) ack 1 win 65535", at + most - 1, at + most));
    assert!(s.next(". ack <").1.contains("sack"), "the last byte is kept");
    assert_eq!(s.host.counter("TcpExtBeyondWindow"), 0);
    // As on Linux, the buffer's own window may be a little more than the field can say; beyond that nothing is.
    let kept = s.sock(id).info().unwrap().rcv_wnd;
    assert!((most..most + (1 << 20)).contains(&kept), "{kept}");
    s.inject(&format!(". {}:{}(1) ack 1 win 65535", at + kept + 1, at + kept + 2));
    assert_eq!(s.host.counter("TcpExtBeyondWindow"), 1);
}
