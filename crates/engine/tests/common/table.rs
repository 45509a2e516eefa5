//! "Segment arrives" as tables: a state, a segment, what is answered, where it leads (RFC 9293 §3.10.7).

use super::script::Script;
use estab_engine::SocketId;
use estab_engine::proto::State;

/// One row: what arrives, what is sent at once, the state after, and the reason if it was discarded.
pub type Row<'a> = (&'a str, &'a [&'a str], State, Option<&'a str>);

/// Plays each row against a fresh stack that `reach` has brought to its state.
#[track_caller]
pub fn segment_arrives(reach: impl Fn(&mut Script) -> Option<SocketId>, rows: &[Row<'_>]) {
    for (segment, answers, state, reason) in rows {
        let mut s = Script::new();
        let id = reach(&mut s);
        // Past the rate limit of what came before.
        s.host.take_trace();
        s.inject(segment);
        for answer in *answers {
            assert_eq!(s.peek(answer), *answer, "to {segment}");
        }
        assert_eq!(
            s.pending(),
            0,
            "more than expected was sent to {segment}: {}",
            s.peek("<win ")
        );
        let now = s.host.states(s.now).first().copied();
        let found = match (now, id) {
            (Some(state), _) => state,
            (None, _) => State::Closed,
        };
        assert_eq!(found, *state, "after {segment}");
        let dropped = s.host.dropped();
        assert_eq!(dropped.as_deref(), *reason, "why {segment} was discarded");
    }
}
