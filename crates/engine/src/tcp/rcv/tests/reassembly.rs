use super::*;
use proptest::prelude::*;

#[test]
fn data_is_read_in_order_whatever_order_it_came_in() {
    let mut host = Host::new();
    for seq in [3001, 1001, 4001, 2001] {
        host.data(seq, 1000);
        assert_eq!(host.rcv.readable(), 0);
    }
    assert_eq!(host.data(1, 1000).readable, 5000);
    assert_eq!(host.read(10_000), bytes(1, 5000));
    assert!(host.rcv.ofo.is_none());
    assert_eq!(host.rcv.truesize(), 0);
}

#[test]
fn sack_blocks_come_the_most_recent_first() {
    let mut host = Host::new();
    for seq in [1001, 3001, 5001, 7001, 9001] {
        host.data(seq, 1000);
        host.pass_ms(1);
    }
    let last = host.acks.pop().expect("an ACK");
    assert_eq!(last.sacks, [(9001, 10_001), (7001, 8001), (5001, 6001), (3001, 4001)]);
    host.data(6001, 1000);
    host.pass_ms(1);
    let last = host.acks.pop().expect("an ACK");
    assert_eq!(last.sacks, [(5001, 8001), (9001, 10_001), (3001, 4001)]);
}

#[test]
fn a_duplicate_beyond_the_gap_gives_a_dsack_then_the_block() {
    let mut host = Host::new();
    host.data(1001, 2000);
    host.data(1501, 500);
    let last = host.acks.pop().expect("an ACK");
    assert_eq!(last.sacks, [(1501, 2001), (1001, 3001)]);
    assert_eq!(host.count(Counter::TcpExtTCPDSACKOfoSent), 1);
    assert_eq!(host.count(Counter::TcpExtTCPOFOMerge), 1);
    host.data(5001, 1000);
    let last = host.acks.pop().expect("an ACK");
    assert_eq!(last.sacks, [(5001, 6001), (1001, 3001)], "a DSACK is said once");
}

#[test]
fn data_that_overlaps_what_came_early_reports_the_overlap() {
    let mut host = Host::new();
    host.data(1001, 1000);
    host.data(1, 1500);
    let last = host.acks.pop().expect("an ACK");
    assert_eq!((last.ack, last.sacks), (2001, vec![(1001, 1501)]));
    assert_eq!(host.read(9999), bytes(1, 2000));
}

#[test]
fn an_early_fin_ends_the_stream_when_its_turn_comes() {
    let mut host = Host::new();
    host.arrive(1001, 500, TcpFlags::FIN);
    assert_eq!(host.acks[0].sacks, [(1001, 1502)]);
    assert!(!host.rcv.fin_received());
    let out = host.data(1, 1000);
    assert_eq!((out.readable, out.fin), (1500, true));
    assert_eq!(host.acks().pop(), Some(1502));
    assert_eq!(host.read(9999), bytes(1, 1500));
    assert_eq!(host.rcv.copied_seq(), IRS + 1501);
}

#[test]
fn a_bare_fin_after_a_gap_waits_for_the_gap() {
    let mut host = Host::new();
    host.arrive(1001, 0, TcpFlags::FIN);
    assert_eq!(host.acks[0].sacks, [(1001, 1002)]);
    let out = host.data(1, 1000);
    assert_eq!((out.readable, out.fin), (1000, true));
    assert_eq!(
        host.data(1002, 10).drop,
        Some(DropReason::TcpInvalidSequence),
        "nothing follows a FIN"
    );
    assert_eq!(host.read(9999).len(), 1000);
}

#[test]
fn a_fin_is_taken_while_the_window_is_closed() {
    let mut host = Host::with(
        Setup {
            rcvbuf: Some(2304),
            ..USUAL
        },
        |_| {},
    );
    let window = host.rcv.receive_window();
    host.data(1, window as usize);
    assert_eq!(host.rcv.receive_window(), 0);
    assert_eq!(host.data(1 + window, 10).drop, Some(DropReason::TcpInvalidEndSequence));
    assert!(host.arrive(1 + window, 0, TcpFlags::FIN).fin);
}

#[test]
fn data_past_the_window_is_refused() {
    let mut host = Host::new();
    let window = host.rcv.receive_window();
    assert_eq!(host.data(window + 2, 100).drop, Some(DropReason::TcpInvalidSequence));
    let window = host.rcv.receive_window(); // It was rounded up to the scale.
    assert_eq!(host.data(window + 1, 100).drop, Some(DropReason::TcpOverwindow));
    host.data(1, 100);
    assert_eq!(host.data(window, 200).drop, Some(DropReason::TcpInvalidEndSequence));
}

#[test]
fn a_shower_of_single_bytes_is_bounded() {
    let mut host = Host::new();
    for i in 0..30_000 {
        host.data(2 + 2 * i, 1);
    }
    assert!(host.rcv.truesize() < 200_000, "{}", host.rcv.truesize());
    assert!(host.rcv.ofo.is_some());
    assert!(host.count(Counter::TcpExtTCPOFODrop) > 0);
}

#[test]
fn with_memory_exhausted_early_data_is_dropped_and_the_window_closes_behind_the_rest() {
    let mut host = Host::new();
    host.data(1, 1000);
    host.memory = Memory::Exhausted;
    assert_eq!(host.data(2001, 1000).drop, Some(DropReason::ProtoMem));
    assert_eq!(host.data(1001, 1000).drop, Some(DropReason::ProtoMem));
    assert_eq!(host.acks.pop().map(|ack| ack.window), Some(0));
    host.read(1000);
    host.memory = Memory::Plenty;
    host.right_edge = 0;
    host.leave();
    assert_eq!(host.data(1001, 1000).readable, 1000);
}

/// What arrives: a piece of the stream, or a read.
#[derive(Clone, Debug)]
enum Step {
    Segment { at: usize, len: usize },
    Read(usize),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..20_000usize, 0..3000usize).prop_map(|(at, len)| Step::Segment { at, len }),
        2 => (0..5000usize).prop_map(Step::Read),
        1 => (0..100u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Any permutation, overlap and duplication of a stream's segments gives the same bytes; the SACK blocks only ever say what
    /// was received and is not acknowledged; a DSACK says what was received; the right edge stays (checked in `leave`).
    #[test]
    fn any_segments_of_a_stream_reassemble_to_it(steps in steps(), setup in (any::<bool>(), any::<bool>())) {
        const LEN: usize = 20_000;
        let (sack, wscale) = setup;
        let mut host = Host::with(Setup { sack, wscale, ..USUAL }, |_| {});
        let mut seen = vec![false; LEN + 3];
        let mut stream = Vec::new();
        let tail = (0..LEN).step_by(1000).map(|at| Step::Segment { at, len: 1000 });
        let all = steps.into_iter().chain(tail).chain([Step::Read(LEN)]);
        for step in all {
            match step {
                Step::Segment { at, len } => {
                    let len = len.min(LEN - at);
                    let fin = if at + len == LEN { TcpFlags::FIN } else { TcpFlags::default() };
                    let out = host.arrive(1 + at as u32, len, fin);
                    if out.drop.is_none() || out.drop == Some(DropReason::TcpOfomerge) {
                        seen[1 + at..1 + at + len + (at + len == LEN) as usize].fill(true);
                    }
                }
                Step::Read(n) => stream.extend(host.read(n)),
                Step::Pass(ms) => host.pass_ms(ms),
            }
            for ack in core::mem::take(&mut host.acks) {
                prop_assert!(ack.sacks.len() <= 4 * sack as usize);
                for (i, (left, right)) in ack.sacks.iter().enumerate() {
                    prop_assert!(left < right);
                    let below = *right <= ack.ack;
                    prop_assert!(i == 0 || !below, "an old block that is no DSACK");
                    prop_assert!(seen[*left as usize..*right as usize].iter().all(|seen| *seen), "{ack:?} invents data");
                }
            }
            prop_assert!(host.rcv.truesize() <= LEN + 2 * crate::buf::LARGE + 4096);
        }
        prop_assert!(host.rcv.fin_received());
        prop_assert_eq!(stream, bytes(1, LEN));
        host.leave(); // The last DSACK.
        prop_assert_eq!((host.rcv.charged, host.rcv.truesize()), (0, 0));
    }
}
