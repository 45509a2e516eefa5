//! What an ACK's fields are taken to mean, case by case.

use super::*;
use alloc::boxed::Box;
use estab_wire::tcp::AccEcn as AccEcnOption;

const MSS: u32 = 1000;

/// What an ACK of full segments reports, after `marked` marks were known.
fn marks(state: &mut AccEcn, marked: u32, ace: u8, packets: u32, option: Option<AccEcnOption>) -> u32 {
    let feedback = Feedback {
        ace,
        option,
        newer: false,
    };
    let delivery = Delivery {
        progress: true,
        packets,
        bytes: packets * MSS,
        marked,
        bytes_sent: 1 << 20,
        mss: MSS,
        exact: true,
    };
    state.new_marks(&feedback, &delivery)
}

/// An option that tells of so many segments by ECT(0) and CE.
fn told(ect0: u32, ce: u32) -> Option<AccEcnOption> {
    Some(AccEcnOption::new(false, &[ect0 * MSS + 1, ce * MSS, 1]))
}

#[test]
fn the_ace_field_is_a_difference_modulo_eight() {
    for marked in [0, 1, 7, 8, 100, u32::MAX] {
        for new in 0..8 {
            let ace = (marked.wrapping_add(new).wrapping_add(5) & 7) as u8;
            assert_eq!(
                marks(&mut AccEcn::default(), marked, ace, 7, None),
                new,
                "{new} after {marked}"
            );
        }
    }
}

#[test]
fn more_packets_than_it_can_tell_may_all_have_been_marked() {
    // Of nine after ACKs of one: eight more than the field says, where nothing rules that out.
    for (ace, small, most) in [(5, 0, 8), (6, 1, 9), (7, 2, 2)] {
        let mut state = AccEcn::default();
        marks(&mut state, 0, 5, 1, None);
        assert_eq!(marks(&mut state.clone(), 0, ace, 9, None), most, "ACE {ace}");
        // After ACKs of nine they are nothing unusual.
        for _ in 0..200 {
            marks(&mut state, 0, 5, 9, told(0, 0));
        }
        state.estimate = 0;
        assert_eq!(marks(&mut state, 0, ace, 9, None), small, "ACE {ace}, large ACKs");
    }
}

#[test]
fn the_option_tells_how_often_the_field_wrapped() {
    for (packets, ace, ect0, ce, expected) in [
        (9, 5, 9, 0, 0),
        (9, 6, 8, 1, 1),
        (9, 5, 1, 8, 8),
        (32, 5, 32, 0, 0),
        (32, 5, 24, 8, 8),
        (32, 6, 15, 17, 17),
        (32, 5, 0, 32, 32),
    ] {
        let mut state = AccEcn::default();
        // All so far was ECT(0): the estimate.
        marks(&mut state, 0, 5, 1, told(1, 0));
        let found = marks(&mut state, 0, ace, packets, told(1 + ect0, ce));
        assert_eq!(found, expected, "{ce} of {packets}, ACE {ace}");
        assert_eq!(state.delivered, [0, (1 + ect0) * MSS, ce * MSS]);
    }
}

#[test]
fn bytes_without_an_option_go_where_the_last_ones_went_and_are_put_right_by_the_next() {
    let mut state = AccEcn::default();
    marks(&mut state, 0, 5, 2, told(2, 0));
    marks(&mut state, 0, 5, 3, None);
    assert_eq!(state.delivered, [0, 5 * MSS, 0]);
    marks(&mut state, 0, 6, 1, told(5, 1));
    assert_eq!(state.delivered, [0, 5 * MSS, MSS]);
    // Now it is CE that grew last.
    marks(&mut state, 1, 6, 2, None);
    assert_eq!(state.delivered, [0, 5 * MSS, 3 * MSS]);
    marks(&mut state, 1, 6, 1, told(8, 1));
    assert_eq!(state.delivered, [0, 8 * MSS, MSS], "it was a wrong guess");
    marks(&mut state, 1, 6, 1, None);
    assert_eq!(state.delivered, [0, 8 * MSS, MSS], "nothing is guessed after one");
}

#[test]
fn a_zeroed_option_is_not_believed() {
    let zeroed = Some(AccEcnOption::new(false, &[0, 0, 0]));
    let mut state = AccEcn::default();
    marks(&mut state, 0, 5, 1, zeroed);
    assert_eq!((state.seen, state.failed.option), (Seen::Spoilt, true));
    marks(&mut state, 0, 5, 1, told(2, 0));
    assert_eq!(state.delivered, [0, 0, 0]);
}

#[test]
fn the_option_makes_do_with_the_room_there_is() {
    let with = |fresh| {
        Box::new(AccEcn {
            fresh,
            ..AccEcn::default()
        })
    };
    for (fresh, space, sacks, expected) in [
        (0, 40, 0, Some((3, 0))),
        (0, 28, 2, Some((2, 2))),
        (3, 28, 2, None),
        (2, 28, 3, Some((2, 2))),
        (0, 28, 3, Some((0, 3))),
        (1, 20, 2, None),
        (1, 24, 2, Some((1, 2))),
        (3, 40, 4, Some((3, 3))),
    ] {
        let found = with(fresh).fit(space, sacks).map(|fit| (fit.counters, fit.sacks));
        assert_eq!(found, expected, "{fresh} fresh counters, {sacks} blocks, {space} bytes");
    }
}
