//! RFC 9293 §3.10.7.4 and RFC 5961 in ESTABLISHED.

mod common;

use common::script::Script;
use common::table::segment_arrives;
use estab_engine::proto::State::*;
use estab_engine::{SendFlags, SocketId};

/// One byte of ours is in flight.
fn established(s: &mut Script) -> Option<SocketId> {
    let (id, listener) = s.accepted();
    s.sock(listener).close();
    s.sock(id).send(b"x", SendFlags::default()).unwrap();
    s.expect("P. 1:2(1) ack 1");
    Some(id)
}

#[test]
fn segment_arrives_when_established() {
    segment_arrives(
        established,
        &[
            (". 1:1(0) ack 2 win 9", &[], Established, None),
            ("P. 1:11(10) ack 2 win 9", &[". 2:2(0) ack 11"], Established, None),
            ("F. 1:1(0) ack 2 win 9", &[], CloseWait, None),
            ("FP. 1:11(10) ack 2 win 9", &[], CloseWait, None),
            // First, the sequence number.
            (
                ". 900000:900000(0) ack 2 win 9",
                &[". 2:2(0) ack 1"],
                Established,
                Some("TCP_INVALID_SEQUENCE"),
            ),
            (
                "P. 0:0(0) ack 2 win 9",
                &[". 2:2(0) ack 1"],
                Established,
                Some("TCP_OLD_SEQUENCE"),
            ),
            // Ahead, within the window: kept, and asked for again.
            ("P. 11:21(10) ack 2 win 9", &[". 2:2(0) ack 1"], Established, None),
            // Second, the RST: exact, inside, outside (RFC 5961 §3).
            ("R 1:1(0) win 9", &[], Closed, Some("TCP_RESET")),
            ("R. 1:1(0) ack 99 win 9", &[], Closed, Some("TCP_RESET")),
            ("R 2:2(0) win 9", &[". 2:2(0) ack 1"], Established, Some("TCP_RESET")),
            (
                "R 900000:900000(0) win 9",
                &[],
                Established,
                Some("TCP_INVALID_SEQUENCE"),
            ),
            // Fourth, the SYN: challenged wherever it lies (RFC 5961 §4).
            (
                "S 1:1(0) win 9",
                &[". 2:2(0) ack 1"],
                Established,
                Some("TCP_INVALID_SYN"),
            ),
            (
                "S 900000:900000(0) win 9",
                &[". 2:2(0) ack 1"],
                Established,
                Some("TCP_INVALID_SYN"),
            ),
            (
                "S. 0:0(0) ack 1 win 9",
                &[". 2:2(0) ack 1"],
                Established,
                Some("TCP_INVALID_SYN"),
            ),
            // Fifth, the ACK: of the future, of the past (RFC 5961 §5).
            (
                ". 1:1(0) ack 3 win 9",
                &[". 2:2(0) ack 1"],
                Established,
                Some("TCP_ACK_UNSENT_DATA"),
            ),
            (". 1:1(0) ack 1 win 9", &[], Established, None),
            // No ACK at all.
            ("P 1:11(10) win 9", &[], Established, Some("TCP_FLAGS")),
            ("- 1:1(0) win 9", &[], Established, Some("TCP_FLAGS")),
        ],
    );
}
