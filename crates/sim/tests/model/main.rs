//! Two real engines and a network between them, explored by a model checker: whatever is lost, duplicated or reordered and in
//! whatever order the applications write, read and close, no byte is lost or invented, nothing gets stuck, and both ends end.
//!
//! A state is two stacks with their applications, the packets on their way, and the faults that may still happen. Nothing
//! takes time but waiting for a timer (and a millisecond, a SYN that is late). Every choice is explored: which packet arrives, which is put aside (to arrive later than
//! others, or never) or comes twice, which application acts next, and when an end gives up.
//!
//! CI explores one fault anywhere; `ESTAB_MODEL_FAULTS=2` (and more) goes further:
//! `ESTAB_MODEL_FAULTS=2 cargo test --release -p estab-sim --test model -- --nocapture`

mod end;

use end::{End, Packet, Script};
use estab_engine::Instant;
use estab_engine::proto::State;
use stateright::{Checker, Model, Property};
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::time::Duration;

/// What an application does next, as soon as it can and whenever it gets to it. A script ends with `Shut, Close`.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Writes so many bytes, once the connection is open.
    Write(usize),
    /// Sends FIN after what was written.
    Shut,
    /// Closes, having read to the end (or to an error).
    Close,
}

/// How an application goes before its script has ended.
#[derive(Clone, Copy, PartialEq, Debug, Hash)]
enum GiveUp {
    /// RST.
    Abort,
    /// close(2), whatever is unread or comes later: RST then.
    Close,
}

/// By when an exchange must be over, TIME_WAIT not counted: several retransmissions of each kind fit.
const PATIENCE: Duration = Duration::from_secs(100);
/// More happens in no exchange of these few packets.
const MAX_STEPS: u32 = 500;

const NO_BYTE_LOST: &str = "no byte is lost or invented";
const NOTHING_STUCK: &str = "nothing gets stuck";
const BOTH_END: &str = "both ends end";

/// What is explored.
#[derive(Clone, Debug)]
struct Exchange {
    /// A's application and B's.
    scripts: [Script; 2],
    /// B connects too, instead of listening.
    simultaneous: bool,
    /// A may give up at any time.
    give_up: Option<GiveUp>,
    /// How often a packet may be put aside or doubled, or a timer fire while packets and applications could still move.
    faults: u8,
    /// States are the same only if the same packets, calls and timeouts led to them; otherwise if they look the same.
    exact: bool,
    /// What is done to A's packets, to see that it is found.
    sabotage: Option<fn(&mut [u8])>,
    /// What must happen somewhere, for the exploration to be worth something.
    shown: &'static [Shown],
}

/// What can happen.
#[derive(Clone, PartialEq, Debug)]
enum Action {
    /// The oldest packet on the way to an end arrives.
    Deliver(usize),
    /// It is put aside.
    PutAside(usize),
    /// It arrives, and a copy is put aside.
    Double(usize),
    /// One that was put aside arrives.
    Late(usize),
    /// An application does its next step.
    Step(usize),
    /// An application reads.
    Read(usize),
    /// A gives up.
    GiveUp(GiveUp),
    /// Time passes until the next timer fires.
    Wait,
}

#[derive(Clone, Debug)]
struct World {
    now: Instant,
    ends: [End; 2],
    /// Packets on their way to each end, in the order they were sent.
    wires: [VecDeque<Packet>; 2],
    /// Packets put aside, and whom they are for; sorted.
    aside: Vec<(usize, Packet)>,
    faults: u8,
    steps: u32,
    exact: bool,
    /// What was found to be wrong.
    wrong: Option<String>,
}

impl World {
    /// Something other than time can make it go on.
    fn moves(&self) -> bool {
        self.wires.iter().any(|wire| !wire.is_empty())
            || self.ends.iter().any(|end| end.now.readable || end.now.next_step)
    }

    /// An end whose moves alone are explored now; the other's come later and find the same (a persistent set, after
    /// Godefroid). With no faults left and a packet on the way to it, nothing the other end does changes what this one
    /// may do or what comes of it: packets join the end of a queue, and no time passes before this end has moved.
    fn alone(&self) -> Option<usize> {
        let late_syn = self.aside.iter().any(|(_, packet)| is_syn(packet));
        let busy = |end: &usize| !self.wires[*end].is_empty();
        [0, 1].into_iter().find(busy).filter(|_| self.faults == 0 && !late_syn)
    }

    fn deadline(&self) -> Option<Instant> {
        self.ends.iter().filter_map(|end| end.now.deadline).min()
    }

    fn is_over(&self) -> bool {
        let [a, b] = &self.ends;
        a.is_over() && (b.is_over() || a.gave_up && b.is_untouched())
    }

    /// The socket of either end is in `state`.
    fn any(&self, state: State) -> bool {
        self.ends.iter().any(|end| end.now.states.contains(&state))
    }

    /// It becomes `then`, if it isn't later.
    fn pass(&mut self, then: Instant) {
        self.now = self.now.max(then);
        for end in &mut self.ends {
            if end.now.deadline.is_some_and(|at| at <= self.now) {
                end.timeout(self.now);
            }
        }
    }

    fn arrive(&mut self, to: usize, packet: &Packet) {
        self.ends[to].packet(self.now, packet);
    }

    fn put_aside(&mut self, to: usize, packet: Packet) {
        self.faults -= 1;
        let place = self.aside.partition_point(|(t, p)| (*t, p) < (to, &packet));
        self.aside.insert(place, (to, packet));
    }

    /// What must hold after everything.
    fn check(&self) -> Result<(), String> {
        for (n, end) in self.ends.iter().enumerate() {
            let total = self.ends[1 - n].written;
            if end.read > total {
                return Err(format!("{} bytes read, {total} written", end.read));
            }
            if end.ended && end.read < total {
                return Err(format!("the end was read after {} bytes of {total}", end.read));
            }
            if let (Some(error), false) = (end.error, self.ends[0].gave_up) {
                return Err(format!("{error}, though nobody gave up"));
            }
        }
        Ok(())
    }

    /// What makes it the same world as another.
    fn identity(&self) -> impl Hash + PartialEq + '_ {
        let ends = [0, 1].map(|end| self.ends[end].identity(self.exact));
        (self.now.nanos(), ends, &self.wires, &self.aside, self.faults)
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl PartialEq for World {
    fn eq(&self, other: &World) -> bool {
        self.identity() == other.identity()
    }
}

impl Exchange {
    fn apply(&self, world: &mut World, action: &Action) -> Result<(), String> {
        let now = world.now;
        match *action {
            Action::Deliver(to) | Action::Double(to) => {
                let packet = world.wires[to].pop_front().ok_or("no packet")?;
                world.arrive(to, &packet);
                if let Action::Double(_) = action {
                    world.put_aside(to, packet);
                }
            }
            Action::PutAside(to) => {
                let packet = world.wires[to].pop_front().ok_or("no packet")?;
                world.put_aside(to, packet);
            }
            Action::Late(which) => {
                let (to, packet) = world.aside.remove(which);
                // Initial sequence numbers grow with time: a connection that took none would get its predecessor's.
                if is_syn(&packet) {
                    world.pass(now + Duration::from_millis(1));
                }
                world.arrive(to, &packet);
            }
            Action::Step(end) => world.ends[end].step(now)?,
            Action::Read(end) => world.ends[end].read(now)?,
            Action::GiveUp(how) => world.ends[0].give_up(now, how),
            Action::Wait => {
                world.faults -= u8::from(world.moves());
                world.pass(world.deadline().ok_or("no timer")?);
            }
        }
        self.drain(world)?;
        world.check()
    }

    fn drain(&self, world: &mut World) -> Result<(), String> {
        for (n, end) in world.ends.iter_mut().enumerate() {
            let wire = &mut world.wires[1 - n];
            end.drain(world.now, |packet| {
                wire.push_back(match self.sabotage {
                    Some(sabotage) if n == 0 => {
                        let mut bytes = packet.to_vec();
                        sabotage(&mut bytes);
                        bytes.into()
                    }
                    _ => packet,
                });
            })?;
        }
        Ok(())
    }
}

impl Model for Exchange {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let now = Instant::from_millis(1000);
        let [a, b] = self.scripts;
        let mut world = World {
            now,
            ends: [End::new(0, a, now), End::new(1, b, now)],
            wires: Default::default(),
            aside: Vec::new(),
            faults: self.faults,
            steps: 0,
            exact: self.exact,
            wrong: None,
        };
        match self.simultaneous {
            true => world.ends[1].connect(now),
            false => world.ends[1].listen(now),
        }
        world.ends[0].connect(now);
        world.wrong = self.drain(&mut world).err();
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.wrong.is_some() {
            return;
        }
        let alone = world.alone();
        let ends = || [0, 1].into_iter().filter(|end| alone.is_none_or(|alone| alone == *end));
        for end in ends() {
            if !world.wires[end].is_empty() {
                actions.push(Action::Deliver(end));
                if world.faults > 0 {
                    actions.extend([Action::PutAside(end), Action::Double(end)]);
                }
            }
            if world.ends[end].now.next_step {
                actions.push(Action::Step(end));
            }
            if world.ends[end].now.readable {
                actions.push(Action::Read(end));
            }
        }
        let late = |which: &usize| ends().any(|end| end == world.aside[*which].0);
        actions.extend((0..world.aside.len()).filter(late).map(Action::Late));
        if alone != Some(1) && world.ends[0].is_open() {
            actions.extend(self.give_up.map(Action::GiveUp));
        }
        if world.deadline().is_some() && (world.faults > 0 || !world.moves()) {
            actions.push(Action::Wait);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        world.steps += 1;
        world.wrong = self.apply(&mut world, &action).err();
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let always = [
            Property::always(NO_BYTE_LOST, |_, world: &World| world.wrong.is_none()),
            Property::always(NOTHING_STUCK, |_, world: &World| {
                world.wrong.is_some() || world.moves() || world.deadline().is_some() || world.is_over()
            }),
            Property::always(BOTH_END, |_, world: &World| {
                let late = world.now > Instant::from_millis(1000) + PATIENCE;
                world.steps < MAX_STEPS && (!late || world.is_over())
            }),
        ];
        let shown = self.shown.iter().map(|(name, seen)| Property::sometimes(name, *seen));
        always.into_iter().chain(shown).collect()
    }
}

/// A SYN without ACK.
fn is_syn(packet: &[u8]) -> bool {
    const SYN: u8 = 2;
    const ACK: u8 = 16;
    packet[33] & (SYN | ACK) == SYN
}

/// Explores all of `exchange`, and says how much that was.
fn explore(name: &str, exchange: Exchange) {
    let faults = exchange.faults;
    let checker = exchange.checker().spawn_dfs().join();
    println!(
        "{name}: {} states ({} with repetitions), {} steps at most, {faults} faults",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
    );
    checker.assert_properties();
}

use Step::{Close, Shut, Write};

/// Something that must happen somewhere, for an exploration to be worth something.
type Shown = (&'static str, fn(&Exchange, &World) -> bool);

const CLOSING: Shown = ("both close at once", |_, w| w.any(State::Closing));
const LAST_ACK: Shown = ("one closes after the other", |_, w| w.any(State::LastAck));
const HALF_CLOSED: Shown = ("one sends though the other has closed", |_, w| {
    w.any(State::FinWait2) && w.any(State::CloseWait)
});
const PROBED: Shown = ("a closed window is probed", |_, w| {
    w.ends.iter().any(|end| end.now.probing)
});
const REPEATED: Shown = ("a segment is sent again", |_, w| {
    w.ends.iter().any(|end| end.now.retransmitted)
});
const RESET: Shown = ("the peer is reset", |_, w| w.ends[1].error.is_some());
const ORPHAN: Shown = ("nobody holds an open connection any more", |_, w| {
    w.ends[0].gave_up && w.ends[0].now.states.contains(&State::FinWait2)
});

fn exchange(faults: u8, a: Script, b: Script, shown: &'static [Shown]) -> Exchange {
    Exchange {
        scripts: [a, b],
        simultaneous: false,
        give_up: None,
        faults: asked("ESTAB_MODEL_FAULTS").unwrap_or(faults),
        exact: asked("ESTAB_MODEL_EXACT") == Some(1),
        sabotage: None,
        shown,
    }
}

fn asked(variable: &str) -> Option<u8> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a small number")))
}

#[test]
fn open_and_close() {
    let shown = &[CLOSING, LAST_ACK, REPEATED];
    explore("open and close", exchange(1, &[Shut, Close], &[Shut, Close], shown));
}

#[test]
fn simultaneous_open() {
    let exchange = Exchange {
        simultaneous: true,
        ..exchange(1, &[Shut, Close], &[Shut, Close], &[CLOSING, LAST_ACK])
    };
    explore("simultaneous open", exchange);
}

#[test]
fn data_one_way() {
    let exchange = exchange(1, &[Write(500), Write(500), Shut, Close], &[Shut, Close], &[REPEATED]);
    explore("data one way", exchange);
}

#[test]
fn a_window_that_closes() {
    let exchange = exchange(1, &[Write(1300), Shut, Close], &[Shut, Close], &[PROBED]);
    explore("a window that closes", exchange);
}

#[test]
fn data_each_way() {
    let shown = &[CLOSING, LAST_ACK, HALF_CLOSED];
    explore(
        "data each way",
        exchange(
            0,
            &[Write(500), Write(500), Shut, Close],
            &[Write(500), Shut, Close],
            shown,
        ),
    );
}

#[test]
fn one_gives_up() {
    let a = &[Shut, Close];
    let b = &[Write(500), Shut, Close];
    for (name, how, shown) in [
        ("A resets", GiveUp::Abort, &[RESET] as &[Shown]),
        ("A closes with data to come", GiveUp::Close, &[RESET, ORPHAN]),
    ] {
        let exchange = Exchange {
            give_up: Some(how),
            ..exchange(1, a, b, shown)
        };
        explore(name, exchange);
    }
}

/// The properties can fail: engines that do these things to what they send are found out.
#[test]
fn broken_engines_are_found() {
    fn swaps_bytes(packet: &mut [u8]) {
        if let Some(end) = packet.len().checked_sub(4).filter(|end| *end > 100) {
            // The checksum stays right.
            packet[end..].rotate_left(2);
        }
    }
    fn forgets_fins(packet: &mut [u8]) {
        const FIN: u8 = 1;
        if packet[33] & FIN != 0 {
            // No version of IP.
            packet[0] = 0;
        }
    }
    for (sabotage, property) in [(swaps_bytes as fn(&mut [u8]), NO_BYTE_LOST), (forgets_fins, BOTH_END)] {
        let exchange = Exchange {
            sabotage: Some(sabotage),
            ..exchange(0, &[Write(500), Shut, Close], &[Shut, Close], &[])
        };
        exchange.checker().spawn_dfs().join().assert_any_discovery(property);
    }
}
