//! What a person sees of an exchange: the handshake, the close, both ends' states.

use estab_ladder::{Collector, Limits, text};
use estab_proto::state::Trigger;
use estab_proto::trace::{OptionTrace, OptionsTrace};
use estab_proto::{ScaledWindow, SegmentTrace, SeqNum, State, TcpFlags, TraceEvent, TraceKind};
use std::net::SocketAddr;

const OURS: u32 = 4_000_000_000;
const THEIRS: u32 = 77;

fn event(us: u64, kind: TraceKind) -> TraceEvent {
    let local: SocketAddr = "10.0.2.2:80".parse().unwrap();
    let remote: SocketAddr = "10.0.2.100:40000".parse().unwrap();
    TraceEvent {
        at_ns: us * 1_000,
        local,
        remote,
        kind,
    }
}

fn segment(flags: TcpFlags, seq: u32, ack: u32, len: u32) -> SegmentTrace {
    SegmentTrace {
        seq: SeqNum(seq),
        ack: SeqNum(ack),
        flags,
        window: ScaledWindow(512),
        len,
        ..Default::default()
    }
}

fn state(from: State, to: State, on: Trigger) -> TraceKind {
    TraceKind::State { from, to, on }
}

fn short_connection() -> Vec<TraceEvent> {
    use TraceKind::{Received, Sent};
    let (syn, ack, fin, psh) = (TcpFlags::SYN, TcpFlags::ACK, TcpFlags::FIN, TcpFlags::PSH);
    let mut options = OptionsTrace::default();
    options.push(OptionTrace::Mss(1460));
    options.push(OptionTrace::SackPermitted);
    let mut first = segment(syn, THEIRS, 0, 0);
    first.options = options;
    let mut second = segment(syn | ack, OURS, THEIRS + 1, 0);
    second.options = options;
    vec![
        event(0, Received(first)),
        event(0, state(State::Listen, State::SynRcvd, Trigger::RcvSyn)),
        event(0, Sent(second)),
        event(90, Received(segment(ack, THEIRS + 1, OURS + 1, 0))),
        event(90, state(State::SynRcvd, State::Established, Trigger::RcvAckOfSyn)),
        event(200, Received(segment(psh | ack, THEIRS + 1, OURS + 1, 5))),
        event(200, Sent(segment(ack, OURS + 1, THEIRS + 6, 0))),
        event(300, state(State::Established, State::FinWait1, Trigger::Close)),
        event(300, Sent(segment(fin | ack, OURS + 1, THEIRS + 6, 0))),
        event(400, Received(segment(fin | ack, THEIRS + 6, OURS + 2, 0))),
        event(400, state(State::FinWait1, State::TimeWait, Trigger::RcvFinAckOfFin)),
        event(400, Sent(segment(ack, OURS + 2, THEIRS + 7, 0))),
    ]
}

#[test]
fn a_handshake_and_close_reads_as_in_the_textbook() {
    let mut collector = Collector::default();
    for event in short_connection() {
        collector.add(&event);
    }
    insta::assert_snapshot!(text::render_all(&collector));
    assert_eq!(collector.exchanges()[0].states(), (State::TimeWait, State::Closed));
}

#[test]
fn without_state_events_both_ends_are_inferred_alike() {
    let mut collector = Collector::default();
    for event in short_connection() {
        if !matches!(event.kind, TraceKind::State { .. }) {
            collector.add(&event);
        }
    }
    assert_eq!(collector.exchanges()[0].states(), (State::TimeWait, State::Closed));
}

#[test]
fn a_long_transfer_keeps_its_beginning_and_its_end() {
    let limits = Limits {
        exchanges: 1,
        head: 4,
        tail: 3,
    };
    let mut collector = Collector::new(limits);
    let mut events = short_connection();
    let end = events.split_off(7);
    let data = (0..1_000u32).map(|i| {
        let seq = THEIRS + 6 + i * 100;
        event(
            250 + u64::from(i),
            TraceKind::Received(segment(TcpFlags::ACK, seq, OURS + 1, 100)),
        )
    });
    for event in events.into_iter().chain(data).chain(end) {
        collector.add(&event);
    }
    let text = text::render_all(&collector);
    assert!(text.contains("⋮ 1000 segments with 100000 bytes ▶"), "{text}");
    assert!(text.contains("F. 1:1(0)"), "{text}");
    assert!(text.lines().count() < 12, "{text}");
}

#[test]
fn connections_past_the_limit_are_counted() {
    let mut collector = Collector::new(Limits {
        exchanges: 2,
        ..Limits::default()
    });
    for port in 0..5u16 {
        let mut syn = event(0, TraceKind::Received(segment(TcpFlags::SYN, 1, 0, 0)));
        syn.remote.set_port(1_000 + port);
        collector.add(&syn);
    }
    assert_eq!(collector.exchanges().len(), 2);
    assert!(text::render_all(&collector).contains("and 3 more connections"));
}
