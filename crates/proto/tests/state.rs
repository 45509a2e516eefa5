//! The eleven states' names and the table of transitions.

use estab_proto::State;
use estab_proto::state::{TRANSITIONS, Trigger, allowed};
use std::collections::HashSet;
use std::fmt::Write;

#[test]
fn every_spelling_is_understood_and_round_trips() {
    for state in State::ALL {
        for name in [
            state.netstat(),
            state.ss(),
            state.rfc(),
            &state.to_string(),
            &format!("{state:?}"),
        ] {
            assert_eq!(name.parse(), Ok(state), "{name}");
            assert_eq!(name.to_lowercase().parse(), Ok(state), "{name}");
            assert_eq!(name.to_uppercase().parse(), Ok(state), "{name}");
            assert_eq!(name.replace('-', "_").parse(), Ok(state), "{name}");
            assert_eq!(name.replace('_', "-").parse(), Ok(state), "{name}");
        }
    }
    for (name, state) in [
        ("TIME_WAIT", State::TimeWait),
        ("TIME-WAIT", State::TimeWait),
        ("time-wait", State::TimeWait),
        ("FIN_WAIT1", State::FinWait1),
        ("FIN_WAIT_1", State::FinWait1),
        ("FIN-WAIT-1", State::FinWait1),
        ("FIN-WAIT-2", State::FinWait2),
        ("SYN_RECV", State::SynRcvd),
        ("SYN_RCVD", State::SynRcvd),
        ("SYN-RECEIVED", State::SynRcvd),
        ("CLOSE", State::Closed),
        ("CLOSED", State::Closed),
        ("UNCONN", State::Closed),
        ("ESTAB", State::Established),
        ("LISTEN", State::Listen),
    ] {
        assert_eq!(name.parse(), Ok(state), "{name}");
    }
    for name in [
        "",
        "-",
        "FIN_WAIT",
        "FIN_WAIT_3",
        "ESTABLISHE",
        "TIME_WAITS",
        "NEW_SYN_RECV ",
    ] {
        assert!(name.parse::<State>().is_err(), "{name:?}");
    }
}

#[test]
fn no_two_states_share_a_name() {
    for names in [State::netstat, State::ss, State::rfc] {
        let distinct: HashSet<_> = State::ALL.into_iter().map(names).collect();
        assert_eq!(distinct.len(), State::ALL.len());
    }
}

#[test]
fn linuxs_numbers_are_the_discriminants() {
    for state in State::ALL {
        assert_eq!(State::from_linux(state as u8), Some(state));
    }
    assert_eq!(State::from_linux(12), Some(State::SynRcvd), "TCP_NEW_SYN_RECV");
    assert_eq!(State::from_linux(0), None);
    assert_eq!(State::from_linux(13), None);
}

fn reachable(from: State) -> HashSet<State> {
    let mut seen = HashSet::from([from]);
    let mut next = vec![from];
    while let Some(state) = next.pop() {
        next.extend(
            TRANSITIONS
                .iter()
                .filter(|t| t.from == state && seen.insert(t.to))
                .map(|t| t.to),
        );
    }
    seen
}

#[test]
fn every_state_is_reached_and_left() {
    for state in State::ALL {
        assert!(reachable(State::Closed).contains(&state), "{state} is never entered");
        assert!(reachable(state).contains(&State::Closed), "{state} never ends");
    }
}

#[test]
fn the_table_names_each_arrow_once() {
    let mut seen = HashSet::new();
    for t in TRANSITIONS {
        assert!(
            seen.insert((t.from, t.on, t.to)),
            "{} {:?} {} twice",
            t.from,
            t.on,
            t.to
        );
        assert_ne!(t.from, t.to);
        assert!(allowed(t.from, t.on, t.to));
    }
    assert!(!allowed(State::Closed, Trigger::RcvSyn, State::SynRcvd));
    assert!(!allowed(State::TimeWait, Trigger::RcvFin, State::Closed));
}

#[test]
fn what_rfc_9293_asks_of_whole_groups_of_states() {
    let targets = |from, on| {
        TRANSITIONS
            .iter()
            .filter(move |t| t.from == from && t.on == on)
            .map(|t| t.to)
            .collect::<Vec<_>>()
    };
    for state in State::ALL {
        if state.is_synchronized() {
            assert_eq!(
                targets(state, Trigger::RcvRst),
                [State::Closed],
                "a valid RST ends {state}"
            );
            assert_eq!(targets(state, Trigger::Timeout), [State::Closed], "{state} is bounded");
        }
        // One FIN each way: whoever has the peer's can't get another, whoever sent ours can't close again.
        let has_peers = matches!(
            state,
            State::CloseWait
                | State::Closing
                | State::LastAck
                | State::TimeWait
                | State::Closed
                | State::Listen
                | State::SynSent
        );
        assert_eq!(targets(state, Trigger::RcvFin).is_empty(), has_peers, "{state}");
        let sent_ours = matches!(
            state,
            State::FinWait1 | State::FinWait2 | State::Closing | State::LastAck | State::TimeWait | State::Closed
        );
        assert_eq!(targets(state, Trigger::Close).is_empty(), sent_ours, "{state}");
    }
    for t in TRANSITIONS {
        let sends = |flag| t.sends.split(',').any(|sent| sent == flag);
        assert_eq!(sends("RST"), t.on == Trigger::Abort, "{} {:?}", t.from, t.on);
        assert_eq!(
            sends("FIN"),
            matches!(t.to, State::FinWait1 | State::LastAck),
            "{} {:?}",
            t.from,
            t.on
        );
        assert!(
            t.on != Trigger::RcvFin || sends("ACK"),
            "a FIN is acknowledged in {}",
            t.from
        );
    }
}

#[test]
fn the_table_as_text() {
    let mut text = String::new();
    for state in State::ALL {
        writeln!(text, "{}", state.rfc()).expect("a String takes all");
        for t in TRANSITIONS.iter().filter(|t| t.from == state) {
            let line = format!(
                "    {:<15}{:<10}-> {:<15}§{}",
                format!("{:?}", t.on),
                t.sends,
                t.to.rfc(),
                t.section
            );
            writeln!(text, "{line}").expect("a String takes all");
        }
    }
    insta::assert_snapshot!(text);
}
