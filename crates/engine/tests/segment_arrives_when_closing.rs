//! RFC 9293 §3.10.7.4 in the states between the first FIN and the last ACK.

mod common;

use common::script::Script;
use common::table::segment_arrives;
use estab_engine::proto::State::*;
use estab_engine::{Shutdown, SocketId};

/// The application still holds the socket: nothing here is an orphan's rule.
fn fin_wait_1(s: &mut Script) -> Option<SocketId> {
    let (id, listener) = s.accepted();
    s.sock(listener).close();
    s.sock(id).shutdown(Shutdown::Write).unwrap();
    s.expect("F. 1:1(0) ack 1");
    Some(id)
}

fn fin_wait_2(s: &mut Script) -> Option<SocketId> {
    let id = fin_wait_1(s);
    s.inject(". 1:1(0) ack 2 win 1000");
    id
}

fn close_wait(s: &mut Script) -> Option<SocketId> {
    let (id, listener) = s.accepted();
    s.sock(listener).close();
    s.inject("F. 1:1(0) ack 1 win 1000");
    s.expect(". 1:1(0) ack 2");
    Some(id)
}

fn last_ack(s: &mut Script) -> Option<SocketId> {
    let id = close_wait(s);
    s.sock(id.unwrap()).close();
    s.expect("F. 1:1(0) ack 2");
    None
}

fn closing(s: &mut Script) -> Option<SocketId> {
    let id = fin_wait_1(s);
    s.inject("F. 1:1(0) ack 1 win 1000");
    s.expect(". 2:2(0) ack 2");
    id
}

#[test]
fn segment_arrives_when_fin_wait_1() {
    segment_arrives(
        fin_wait_1,
        &[
            (". 1:1(0) ack 2 win 9", &[], FinWait2, None),
            ("F. 1:1(0) ack 1 win 9", &[". 2:2(0) ack 2"], Closing, None),
            ("F. 1:1(0) ack 2 win 9", &[". 2:2(0) ack 2"], TimeWait, None),
            ("FP. 1:11(10) ack 2 win 9", &[". 2:2(0) ack 12"], TimeWait, None),
            ("P. 1:11(10) ack 1 win 9", &[". 2:2(0) ack 11"], FinWait1, None),
            ("P. 1:11(10) ack 2 win 9", &[". 2:2(0) ack 11"], FinWait2, None),
            ("R 1:1(0) win 9", &[], Closed, Some("TCP_RESET")),
            ("R 5:5(0) win 9", &[". 2:2(0) ack 1"], FinWait1, Some("TCP_RESET")),
            ("S 1:1(0) win 9", &[". 2:2(0) ack 1"], FinWait1, Some("TCP_INVALID_SYN")),
            (
                ". 1:1(0) ack 3 win 9",
                &[". 2:2(0) ack 1"],
                FinWait1,
                Some("TCP_ACK_UNSENT_DATA"),
            ),
        ],
    );
}

#[test]
fn segment_arrives_when_fin_wait_2() {
    segment_arrives(
        fin_wait_2,
        &[
            ("F. 1:1(0) ack 2 win 9", &[". 2:2(0) ack 2"], TimeWait, None),
            ("P. 1:11(10) ack 2 win 9", &[". 2:2(0) ack 11"], FinWait2, None),
            // A FIN ahead of missing data must wait for it.
            ("F. 11:11(0) ack 2 win 9", &[". 2:2(0) ack 1"], FinWait2, None),
            ("R 1:1(0) win 9", &[], Closed, Some("TCP_RESET")),
            ("S 1:1(0) win 9", &[". 2:2(0) ack 1"], FinWait2, Some("TCP_INVALID_SYN")),
        ],
    );
}

#[test]
fn segment_arrives_when_close_wait() {
    segment_arrives(
        close_wait,
        &[
            // The FIN again.
            (
                "F. 1:1(0) ack 1 win 9",
                &[". 1:1(0) ack 2"],
                CloseWait,
                Some("TCP_OLD_DATA"),
            ),
            // Nothing comes after a FIN.
            ("P. 2:12(10) ack 1 win 9", &[], CloseWait, None),
            ("F. 2:2(0) ack 1 win 9", &[], CloseWait, None),
            ("R 2:2(0) win 9", &[], Closed, Some("TCP_RESET")),
            // An RST that knows nothing of its own FIN.
            ("R 1:1(0) win 9", &[], Closed, Some("TCP_RESET")),
            ("R 0:0(0) win 9", &[], CloseWait, Some("TCP_OLD_SEQUENCE")),
            (
                "S 2:2(0) win 9",
                &[". 1:1(0) ack 2"],
                CloseWait,
                Some("TCP_INVALID_SYN"),
            ),
        ],
    );
}

#[test]
fn segment_arrives_when_last_ack() {
    segment_arrives(
        last_ack,
        &[
            (". 2:2(0) ack 2 win 9", &[], Closed, None),
            (". 2:2(0) ack 1 win 9", &[], LastAck, None),
            (
                "F. 1:1(0) ack 1 win 9",
                &[". 2:2(0) ack 2"],
                LastAck,
                Some("TCP_OLD_DATA"),
            ),
            ("F. 1:1(0) ack 2 win 9", &[], Closed, None),
            ("R 2:2(0) win 9", &[], Closed, Some("TCP_RESET")),
            ("S 2:2(0) win 9", &[". 2:2(0) ack 2"], LastAck, Some("TCP_INVALID_SYN")),
        ],
    );
}

#[test]
fn segment_arrives_when_closing() {
    segment_arrives(
        closing,
        &[
            (". 2:2(0) ack 2 win 9", &[], TimeWait, None),
            (". 2:2(0) ack 1 win 9", &[], Closing, None),
            ("F. 1:1(0) ack 2 win 9", &[], TimeWait, None),
            ("R 2:2(0) win 9", &[], Closed, Some("TCP_RESET")),
            ("S 2:2(0) win 9", &[". 2:2(0) ack 2"], Closing, Some("TCP_INVALID_SYN")),
        ],
    );
}
