//! RFC 9293 §3.10.7.4 in SYN_RCVD: of a passive open (a request) and of a simultaneous one (a connection).

mod common;

use common::script::Script;
use common::table::segment_arrives;
use estab_engine::SocketId;
use estab_engine::proto::State::*;

fn passive(s: &mut Script) -> Option<SocketId> {
    s.listen(5);
    s.inject("S 0:0(0) win 1000 <mss 1000>");
    s.expect("S. 0:0(0) ack 1");
    None
}

fn simultaneous(s: &mut Script) -> Option<SocketId> {
    let id = s.connect();
    s.expect("S 0:0(0)");
    s.inject("S 0:0(0) win 1000 <mss 1000>");
    s.expect("S. 0:0(0) ack 1");
    Some(id)
}

#[test]
fn segment_arrives_when_syn_rcvd_by_a_passive_open() {
    segment_arrives(
        passive,
        &[
            (". 1:1(0) ack 1 win 9", &[], Established, None),
            ("P. 1:11(10) ack 1 win 9", &[". 1:1(0) ack 11"], Established, None),
            ("F. 1:1(0) ack 1 win 9", &[], CloseWait, None),
            // The SYN again.
            ("S 0:0(0) win 1000 <mss 1000>", &["S. 0:0(0) ack 1"], SynRcvd, None),
            // Another SYN, inside and outside of the window.
            ("S 100:100(0) win 9", &["R. 0:0(0) ack 101"], Closed, Some("TCP_RESET")),
            (
                "S 900000:900000(0) win 9",
                &[". 1:1(0) ack 1"],
                SynRcvd,
                Some("TCP_OVERWINDOW"),
            ),
            (
                ". 1:1(0) ack 0 win 9",
                &["R 0:0(0)"],
                SynRcvd,
                Some("TCP_INVALID_ACK_SEQUENCE"),
            ),
            (
                ". 1:1(0) ack 2 win 9",
                &["R 2:2(0)"],
                SynRcvd,
                Some("TCP_INVALID_ACK_SEQUENCE"),
            ),
            ("R 1:1(0) win 9", &[], Closed, Some("TCP_RESET")),
            ("R 900000:900000(0) win 9", &[], SynRcvd, Some("TCP_OVERWINDOW")),
            ("P 1:11(10) win 9", &[], SynRcvd, Some("TCP_FLAGS")),
        ],
    );
}

#[test]
fn segment_arrives_when_syn_rcvd_by_a_simultaneous_open() {
    segment_arrives(
        simultaneous,
        &[
            (". 1:1(0) ack 1 win 9", &[], Established, None),
            // The SYN in it came before: an ACK says so.
            ("S. 0:0(0) ack 1 win 9", &[". 1:1(0) ack 1"], Established, None),
            ("P. 1:11(10) ack 1 win 9", &[". 1:1(0) ack 11"], Established, None),
            ("F. 1:1(0) ack 1 win 9", &[], CloseWait, None),
            (
                ". 1:1(0) ack 0 win 9",
                &["R 0:0(0)"],
                SynRcvd,
                Some("TCP_INVALID_ACK_SEQUENCE"),
            ),
            (
                ". 1:1(0) ack 2 win 9",
                &["R 2:2(0)"],
                SynRcvd,
                Some("TCP_INVALID_ACK_SEQUENCE"),
            ),
            ("R 1:1(0) win 9", &[], Closed, Some("TCP_RESET")),
            ("R 2:2(0) win 9", &[". 1:1(0) ack 1"], SynRcvd, Some("TCP_RESET")),
            (
                "S 100:100(0) win 9",
                &[". 1:1(0) ack 1"],
                SynRcvd,
                Some("TCP_INVALID_SYN"),
            ),
        ],
    );
}
