//! RFC 9293 §3.10.7.2.

mod common;

use common::script::Script;
use common::table::segment_arrives;
use estab_engine::SocketId;
use estab_engine::proto::State::*;

fn listen(s: &mut Script) -> Option<SocketId> {
    Some(s.listen(5))
}

#[test]
fn segment_arrives_when_listen() {
    segment_arrives(
        listen,
        &[
            ("R 0:0(0) win 9", &[], Closed, Some("TCP_RESET")),
            ("R. 0:0(0) ack 5 win 9", &[], Closed, Some("TCP_RESET")),
            (". 0:0(0) ack 5 win 9", &["R 5:5(0)"], Closed, Some("TCP_FLAGS")),
            ("S. 0:0(0) ack 5 win 9", &["R 5:5(0)"], Closed, Some("TCP_FLAGS")),
            ("S 0:0(0) win 9", &["S. 0:0(0) ack 1"], SynRcvd, None),
            // Data on a SYN is not acknowledged; it comes again.
            ("S 0:10(10) win 9", &["S. 0:0(0) ack 1"], SynRcvd, None),
            ("SF 0:0(0) win 9", &[], Closed, Some("TCP_FLAGS")),
            ("F 0:0(0) win 9", &[], Closed, Some("TCP_FLAGS")),
            ("- 0:10(10) win 9", &[], Closed, Some("TCP_FLAGS")),
        ],
    );
}
