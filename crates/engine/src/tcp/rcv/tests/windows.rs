use super::*;

/// As Linux 6.18 shows them with `tcp_rmem` 4096 131072 33554432.
#[test]
fn first_windows_are_linux_s() {
    let sysctl = Sysctls::with_memory(64 << 30);
    let select = |mss, wscale| InitialWindow::select(&sysctl, 131_072, false, mss, 0, wscale);
    assert_eq!(select(1460, true).field(), 64_240, "SYN");
    assert_eq!(select(1448, true).field(), 65_160, "SYN-ACK with timestamps");
    assert_eq!(select(65_483, true).field(), 65_483, "loopback, SYN-ACK");
    assert_eq!(select(1460, true).scale.bits(), 10, "for 32 MiB");
    assert_eq!(select(1460, false).scale.bits(), 0);
    assert_eq!(select(1460, false).clamp, 65_535);
}

#[test]
fn tcp_rmem_moves_the_first_window_and_the_scale() {
    let mut sysctl = Sysctls::with_memory(64 << 30);
    sysctl.tcp_rmem = [4096, 32_768, 6 << 20];
    let window = InitialWindow::select(&sysctl, 32_768, false, 1460, 0, true);
    assert_eq!((window.field(), window.scale.bits()), (16_060, 7));
    let locked = InitialWindow::select(&sysctl, 8192, true, 1460, 0, true);
    assert_eq!((locked.field(), locked.scale.bits(), locked.clamp), (2920, 0, 4096));
    sysctl.tcp_workaround_signed_windows = 1;
    assert_eq!(
        InitialWindow::select(&sysctl, 131_072, false, 1460, 0, true).rcv_wnd,
        32_767
    );
}

#[test]
fn the_window_closes_behind_a_reader_that_does_not_read_and_opens_when_it_does() {
    let mut host = Host::with(
        Setup {
            rcvbuf: Some(65_536),
            ..USUAL
        },
        |_| {},
    );
    let mut seq = 1u32;
    while host.rcv.receive_window() > 0 {
        let n = (host.rcv.receive_window() as usize).min(MSS);
        let out = host.data(seq, n);
        assert_eq!(out.drop, None, "what the window invites is taken");
        seq += n as u32;
        host.pass_ms(300);
    }
    assert_eq!(host.count(Counter::TcpExtTCPToZeroWindowAdv), 1);
    // A probe of one byte is refused and answered with the closed window.
    host.acks.clear();
    assert!(host.data(seq, 1).drop.is_some());
    assert_eq!(host.acks[0].window, 0);
    let total = seq as usize - 1;
    host.acks.clear();
    // SWS avoidance: no update for a small read, one when twice as much can be offered.
    host.read(100);
    assert_eq!(host.acks, []);
    assert_eq!(host.read(total).len(), total - 100);
    assert_eq!(host.acks.len(), 1);
    assert!(host.acks[0].window > 20_000);
    assert_eq!(host.count(Counter::TcpExtTCPFromZeroWindowAdv), 1);
}

#[test]
fn without_scaling_the_window_fits_16_bits_and_a_small_one_is_whole_segments() {
    for (rcvbuf, whole) in [(400_000, false), (40_000, true)] {
        let setup = Setup {
            wscale: false,
            rcvbuf: Some(rcvbuf),
            ..USUAL
        };
        let mut host = Host::with(setup, |_| {});
        let mut seq = 1u32;
        for _ in 0..200 {
            host.data(seq, MSS);
            seq += MSS as u32;
            host.read(MSS);
            host.pass_ms(1);
        }
        let last = host.acks.last().expect("ACKs");
        assert!(last.window <= 65_535 && last.window > 10_000, "{last:?}");
        assert_eq!(last.window.is_multiple_of(MSS as u32), whole, "{last:?}");
    }
}

/// A bulk sender that always fills the window, a reader that always reads: the buffer follows.
fn bulk(host: &mut Host, rounds: usize, rtt_ms: u64) {
    let mut seq = (host.rcv.rcv_nxt() - IRS) as u32;
    for _ in 0..rounds {
        let edge = host.right_edge;
        while seq + MSS as u32 <= edge {
            host.data(seq, MSS);
            seq += MSS as u32;
            host.read(MSS);
        }
        host.pass_ms(rtt_ms);
    }
}

#[test]
fn the_buffer_grows_with_the_rate_up_to_tcp_rmem() {
    let mut host = Host::new();
    bulk(&mut host, 12, 20);
    let window = host.right_edge - (host.rcv.rcv_nxt() - IRS) as u32;
    assert!(host.rcv.rcvbuf > 1 << 20, "{}", host.rcv.rcvbuf);
    assert!(window > 500_000, "{window}");
    assert!(host.rcv.rcvbuf <= 6 << 20);
}

#[test]
fn it_does_not_grow_with_so_rcvbuf_or_without_tcp_moderate_rcvbuf() {
    let mut locked = Host::with(
        Setup {
            rcvbuf: Some(200_000),
            ..USUAL
        },
        |_| {},
    );
    bulk(&mut locked, 12, 20);
    assert_eq!(locked.rcv.rcvbuf, 200_000);
    let mut off = Host::with(USUAL, |s| s.tcp_moderate_rcvbuf = 0);
    bulk(&mut off, 12, 20);
    assert_eq!(off.rcv.rcvbuf, 131_072);
}

#[test]
fn under_memory_pressure_the_window_does_not_grow() {
    let mut host = Host::new();
    host.memory = Memory::Pressure;
    let before = host.rcv.rcv_ssthresh;
    for i in 0..20 {
        host.data(1 + i * MSS as u32, MSS);
        host.read(MSS);
    }
    assert!(host.rcv.rcv_ssthresh <= before);
}

#[test]
fn with_tcp_shrink_window_the_right_edge_may_move_left() {
    for (shrink, closed) in [(0, false), (1, true)] {
        let mut host = Host::with(USUAL, |s| {
            s.tcp_shrink_window = shrink;
            s.tcp_moderate_rcvbuf = 0;
        });
        // Small segments cost far more than their payload.
        for i in 0..100 {
            host.data(1 + i * 400, 400);
        }
        host.leave();
        let ack = host.acks.last().expect("an ACK");
        assert_eq!(ack.window == 0, closed, "{ack:?}");
    }
}

#[test]
fn tcp_app_win_keeps_a_share_for_the_application() {
    let clamp = |app_win| Host::with(USUAL, |s| s.tcp_app_win = app_win).rcv.window_clamp;
    assert!(clamp(2) <= 65_536 * 3 / 4);
    assert!(clamp(31) > 60_000);
}

#[test]
fn tcp_window_clamp_bounds_what_is_offered() {
    let mut host = Host::new();
    host.data(1, MSS);
    host.read(MSS);
    host.rcv.set_window_clamp(10_000);
    host.data(1 + MSS as u32, MSS);
    let edge = host.right_edge;
    let mut seq = 1 + 2 * MSS as u32;
    while seq + (MSS as u32) < edge {
        host.data(seq, MSS);
        host.read(MSS);
        seq += MSS as u32;
    }
    host.leave();
    let last = host.acks.last().expect("ACKs");
    assert!(last.window <= 10_000 + 128, "{last:?}");
}

#[test]
fn a_receiver_is_small() {
    assert!(size_of::<Receiver>() <= 250, "{}", size_of::<Receiver>());
    assert!(size_of::<ByteQueue>() <= 64);
}
