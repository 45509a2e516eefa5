//! RFC 9293 §3.10.7.3.

mod common;

use common::script::Script;
use common::table::segment_arrives;
use estab_engine::SocketId;
use estab_engine::proto::State::*;

fn syn_sent(s: &mut Script) -> Option<SocketId> {
    let id = s.connect();
    s.expect("S 0:0(0)");
    Some(id)
}

#[test]
fn segment_arrives_when_syn_sent() {
    segment_arrives(
        syn_sent,
        &[
            // First, the ACK: only ISS + 1 will do.
            (
                ". 9:9(0) ack 0 win 9",
                &["R 0:0(0)"],
                SynSent,
                Some("TCP_INVALID_ACK_SEQUENCE"),
            ),
            (
                ". 9:9(0) ack 2 win 9",
                &["R 2:2(0)"],
                SynSent,
                Some("TCP_INVALID_ACK_SEQUENCE"),
            ),
            (
                "S. 9:9(0) ack 7 win 9",
                &["R 7:7(0)"],
                SynSent,
                Some("TCP_INVALID_ACK_SEQUENCE"),
            ),
            ("R. 9:9(0) ack 2 win 9", &[], SynSent, Some("TCP_INVALID_ACK_SEQUENCE")),
            // Second, the RST.
            ("R. 9:9(0) ack 1 win 9", &[], Closed, Some("TCP_RESET")),
            ("R 9:9(0) win 9", &[], SynSent, Some("TCP_RESET")),
            // Fourth, the SYN.
            ("S. 0:0(0) ack 1 win 9", &[". 1:1(0) ack 1"], Established, None),
            ("S 0:0(0) win 9", &["S. 0:0(0) ack 1"], SynRcvd, None),
            // Fifth, neither SYN nor RST.
            (". 9:9(0) ack 1 win 9", &[], SynSent, Some("TCP_FLAGS")),
            ("F. 9:9(0) ack 1 win 9", &[], SynSent, Some("TCP_FLAGS")),
            ("P 9:19(10) win 9", &[], SynSent, Some("TCP_FLAGS")),
            ("- 9:9(0) win 9", &[], SynSent, Some("TCP_FLAGS")),
        ],
    );
}
