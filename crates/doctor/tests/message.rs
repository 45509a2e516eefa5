//! sock_diag's bytes and /proc/net's lines: read rightly, and never a panic on what is cut or strange.

use estab_doctor::kernel::message::{ALL_STATES, Query, parse};
use estab_doctor::kernel::proc_net;
use estab_proto::{State, TimerKind};

/// A TIME_WAIT of 10.0.0.1:80 to 10.0.0.2:40000 with 42 s left, then attributes.
fn message(state: u8, timer: u8) -> Vec<u8> {
    let mut bytes = vec![2, state, timer, 3];
    bytes.extend_from_slice(&80u16.to_be_bytes());
    bytes.extend_from_slice(&40_000u16.to_be_bytes());
    let address = |last: u8| [10, 0, 0, last, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend_from_slice(&address(1));
    bytes.extend_from_slice(&address(2));
    for word in [7u32, 0x89ab, 1, 42_000, 11, 12, 1_000, 0] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[test]
fn a_message_s_fields_come_out() {
    let mut bytes = message(8, 1);
    bytes.extend(attribute(8, &[1]));
    bytes.extend(attribute(4, b"cubic\0"));
    let mut info = vec![0u8; 104];
    info[6] = 0xa7;
    info[8..12].copy_from_slice(&204_000u32.to_ne_bytes());
    bytes.extend(attribute(2, &info));
    let memory: Vec<u8> = (1..=9u32).flat_map(u32::to_ne_bytes).collect();
    bytes.extend(attribute(7, &memory));
    let bbr: Vec<u8> = [5, 1, 38_000, 320, 512u32]
        .into_iter()
        .flat_map(u32::to_ne_bytes)
        .collect();
    bytes.extend(attribute(16, &bbr));
    let socket = parse(6, &bytes).expect("a socket");
    assert_eq!(socket.diag.state, State::CloseWait);
    assert_eq!(socket.diag.local.to_string(), "10.0.0.1:80");
    assert_eq!(socket.diag.remote.to_string(), "10.0.0.2:40000");
    assert_eq!((socket.diag.recv_q, socket.diag.send_q), (11, 12));
    let timer = socket.diag.timer.expect("a timer");
    assert_eq!(
        (timer.kind, timer.expires_in_ns, timer.retries),
        (TimerKind::Retransmit, 42_000_000_000, 3)
    );
    let info = socket.diag.info.expect("tcp_info");
    assert_eq!(
        (info.rto, info.snd_wscale, info.rcv_wscale, info.cc.as_str()),
        (204_000, 7, 10, "cubic")
    );
    let bbr = info.bbr.expect("tcp_bbr_info");
    assert_eq!(
        (bbr.bw, bbr.min_rtt, bbr.pacing_gain, bbr.cwnd_gain),
        (0x1_0000_0005, 38_000, 320, 512)
    );
    assert_eq!(info.snd_wnd, 0, "an older kernel's tcp_info is shorter");
    let kernel = socket.kernel.expect("the kernel's side");
    assert_eq!(
        (kernel.uid, kernel.iface, kernel.cookie, kernel.shutdown),
        (1_000, 7, 0x1_0000_89ab, Some(1))
    );
    assert_eq!(kernel.memory.expect("memory").drops, 9);
}

#[test]
fn what_has_no_process_is_told_apart() {
    let orphan = |state, timer| {
        let socket = parse(6, &message(state, timer)).expect("a socket");
        (
            socket.diag.orphan,
            socket.is_time_wait_entry(),
            socket.diag.timer.map(|t| t.kind),
        )
    };
    assert_eq!(orphan(6, 3), (false, true, Some(TimerKind::TimeWait)));
    assert_eq!(
        orphan(5, 3),
        (false, true, Some(TimerKind::FinWait2)),
        "a time-wait entry"
    );
    assert_eq!(
        orphan(5, 2),
        (true, false, Some(TimerKind::Keepalive)),
        "still a full socket"
    );
    assert_eq!(orphan(9, 1), (true, false, Some(TimerKind::Retransmit)));
    assert_eq!(orphan(1, 0), (false, false, None), "in an accept queue");
    assert_eq!(
        orphan(12, 1),
        (false, false, Some(TimerKind::SynAck)),
        "TCP_NEW_SYN_RECV"
    );
}

#[test]
fn nothing_cut_or_strange_panics() {
    let mut whole = message(1, 2);
    whole.extend(attribute(2, &[0xff; 240]));
    whole.extend(attribute(7, &[0xff; 36]));
    for length in 0..whole.len() {
        let found = parse(6, &whole[..length]);
        assert_eq!(found.is_some(), length >= 72, "{length}");
    }
    for at in 0..whole.len() {
        for byte in [0, 1, 3, 0x7f, 0xff] {
            let mut strange = whole.clone();
            strange[at] = byte;
            let _ = parse(17, &strange);
            let _ = parse(6, &strange);
        }
    }
}

#[test]
fn the_request_asks_for_syn_recv_and_bound_sockets() {
    let query = Query {
        ipv6: true,
        protocol: 6,
        states: ALL_STATES,
        info: true,
        memory: true,
    };
    let bytes = query.bytes();
    assert_eq!(bytes[..3], [10, 6, 1 << 1 | 1 << 2 | 1 << 3 | 1 << 6]);
    let states = u32::from_ne_bytes(bytes[4..8].try_into().unwrap());
    assert!(states & 1 << 12 != 0 && states & 1 << 13 != 0 && states & 1 << 3 != 0);
}

#[test]
#[cfg(target_endian = "little")]
fn proc_net_s_lines_come_out() {
    let line = "   1: 0100007F:1F90 0200000A:9C40 08 00000002:00000001 01:000000C8 00000001  1000        0 4711 1 0000 20 4 30 10 -1";
    let socket = proc_net::parse(6, line).expect("a socket").diag;
    assert_eq!(socket.local.to_string(), "127.0.0.1:8080");
    assert_eq!(socket.remote.to_string(), "10.0.0.2:40000");
    assert_eq!(
        (socket.state, socket.recv_q, socket.send_q, socket.id),
        (State::CloseWait, 1, 2, 4711)
    );
    assert_eq!(
        socket.timer.map(|t| (t.expires_in_ns, t.retries)),
        Some((2_000_000_000, 1))
    );
    let six = "0: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 9 1";
    assert_eq!(
        proc_net::parse(6, six).expect("a socket").diag.local.to_string(),
        "[::1]:80"
    );
    for end in 0..line.len() {
        let _ = proc_net::parse(6, &line[..end]);
    }
    assert!(proc_net::parse(6, "1: é:1 é:2 01 0:0 0:0 0 0 0 1 1").is_none());
}
