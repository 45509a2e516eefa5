//! TIME_WAIT, and orphaned FIN_WAIT_2 in its last minute (RFC 9293 §3.10.7.4, §3.6.1; RFC 1337; RFC 6191;
//! Linux: `tcp_timewait_state_process`, `struct tcp_timewait_sock`). At most 64 bytes over IPv4, 96 over IPv6.

use super::auth::Key;
use super::conn::Conn;
use super::demux::{Object, Tuple};
use super::segment::Segment;
use super::validate::{in_window, may_answer, paws_rejects};
use crate::Instant;
use crate::drop::DropReason;
use crate::env::Env;
use crate::event::SocketId;
use crate::rows::{Place, Places, Rows};
use crate::sock::bind::PackedBinding;
use crate::timer::TimerKey;
use alloc::collections::BTreeMap;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use estab_proto::{Counter, SeqNum, State};
use slab::Slab;

/// TCP_TIMEWAIT_LEN: 2·MSL (`estab.tcp_msl_ms`).
pub(crate) fn two_msl(env: &Env) -> Duration {
    Duration::from_millis(2 * u64::from(env.sysctl.estab_tcp_msl_ms))
}

/// What is kept of a connection, addresses aside.
#[derive(Clone, Copy)]
pub(crate) struct Rest {
    pub(crate) snd_nxt: SeqNum,
    pub(crate) rcv_nxt: SeqNum,
    pub(crate) rcv_wnd: u32,
    /// The peer's last timestamp.
    pub(crate) ts_recent: u32,
    /// When it came, in milliseconds of our clock.
    pub(crate) ts_stamp: u32,
    pub(crate) ts_offset: u32,
    pub(crate) last_oow_ack: u32,
    /// When it ends.
    pub(crate) ends: Place,
    /// The handle it had, if the application closed it.
    pub(crate) sock: Option<SocketId>,
    pub(crate) ts_ok: bool,
    /// FIN_WAIT_2: the peer's FIN is missing still.
    pub(crate) fin_wait2: bool,
    /// Shift of the window that ACKs show.
    pub(crate) rcv_scale: u8,
    /// The hold on the port, and its flags (Linux: `tw_reuse`, `tw_bind_node`).
    pub(crate) bind: PackedBinding,
}

#[derive(Clone, Copy)]
struct Entry<A> {
    local: A,
    remote: A,
    local_port: u16,
    remote_port: u16,
    rest: Rest,
}

const _: () = assert!(core::mem::size_of::<Entry<Ipv4Addr>>() <= 64);
const _: () = assert!(core::mem::size_of::<Entry<Ipv6Addr>>() <= 96);

/// All TIME_WAITs of a stack.
#[derive(Clone)]
pub(crate) struct TimeWaits {
    v4: Slab<Entry<Ipv4Addr>>,
    v6: Slab<Entry<Ipv6Addr>>,
    /// Their ends: those of 2·MSL in one row, others in another.
    ends: Rows<2>,
    /// What signs the ACKs of those that had a key, by [`key_index`].
    keys: BTreeMap<u32, Key>,
}

impl Default for TimeWaits {
    fn default() -> TimeWaits {
        TimeWaits {
            v4: Slab::new(),
            v6: Slab::new(),
            ends: Rows::new(TimerKey::TimeWaits),
            keys: BTreeMap::new(),
        }
    }
}

/// The two tables as one, by [`key_index`].
struct Both<'a>(&'a mut Slab<Entry<Ipv4Addr>>, &'a mut Slab<Entry<Ipv6Addr>>);

impl Places for Both<'_> {
    fn place(&mut self, index: u32) -> &mut Place {
        match object(index) {
            Object::TimeWait6(i) => &mut self.1[i as usize].rest.ends,
            _ => &mut self.0[index as usize].rest.ends,
        }
    }
}

impl TimeWaits {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Adds one and starts its timer.
    pub(crate) fn insert(&mut self, env: &mut Env, tuple: &Tuple, rest: Rest, life: Duration) -> Object {
        let object = match (tuple.local_ip, tuple.remote_ip) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => Object::TimeWait4(self.v4.insert(Entry {
                local,
                remote,
                local_port: tuple.local_port,
                remote_port: tuple.remote_port,
                rest,
            }) as u32),
            (local, remote) => Object::TimeWait6(self.v6.insert(Entry {
                local: v6(local),
                remote: v6(remote),
                local_port: tuple.local_port,
                remote_port: tuple.remote_port,
                rest,
            }) as u32),
        };
        self.schedule(env, object, life);
        object
    }

    /// Its ACKs are signed with `key`.
    pub(crate) fn sign(&mut self, object: Object, key: Key) {
        self.keys.insert(key_index(object), key);
    }

    /// What its ACKs are signed with.
    pub(crate) fn key(&self, object: Object) -> Option<&Key> {
        self.keys.get(&key_index(object))
    }

    /// (Re)starts its timer.
    pub(crate) fn schedule(&mut self, env: &mut Env, object: Object, life: Duration) {
        if self.rest(object).is_some() {
            let (index, row) = (key_index(object), usize::from(life != two_msl(env)));
            let mut both = Both(&mut self.v4, &mut self.v6);
            let how = (row, TimerKey::TimeWait(index));
            self.ends.set(&mut env.timers, &mut both, index, env.now + life, how);
        }
    }

    /// Takes the next of a row whose time is over out of it.
    pub(crate) fn pop(&mut self, row: u8, now: Instant) -> Option<Object> {
        let mut both = Both(&mut self.v4, &mut self.v6);
        self.ends.pop(&mut both, row, now).map(object)
    }

    /// Waits for the row's next.
    pub(crate) fn arm(&mut self, env: &mut Env, row: u8) {
        self.ends.arm(&mut env.timers, row.into());
    }

    pub(crate) fn rest(&self, object: Object) -> Option<&Rest> {
        match object {
            Object::TimeWait4(i) => self.v4.get(i as usize).map(|e| &e.rest),
            Object::TimeWait6(i) => self.v6.get(i as usize).map(|e| &e.rest),
            _ => None,
        }
    }

    pub(crate) fn rest_mut(&mut self, object: Object) -> Option<&mut Rest> {
        match object {
            Object::TimeWait4(i) => self.v4.get_mut(i as usize).map(|e| &mut e.rest),
            Object::TimeWait6(i) => self.v6.get_mut(i as usize).map(|e| &mut e.rest),
            _ => None,
        }
    }

    pub(crate) fn tuple(&self, object: Object) -> Option<Tuple> {
        match object {
            Object::TimeWait4(i) => self.v4.get(i as usize).map(tuple),
            Object::TimeWait6(i) => self.v6.get(i as usize).map(tuple),
            _ => None,
        }
    }

    /// Removes one; its hold on the port is the caller's to release.
    pub(crate) fn remove(&mut self, env: &mut Env, object: Object) -> Option<(Tuple, Rest)> {
        self.rest(object)?;
        let mut both = Both(&mut self.v4, &mut self.v6);
        self.ends.cancel(&mut env.timers, &mut both, key_index(object));
        let (tuple, rest) = match object {
            Object::TimeWait4(i) => self.v4.try_remove(i as usize).map(|e| (tuple(&e), e.rest)),
            Object::TimeWait6(i) => self.v6.try_remove(i as usize).map(|e| (tuple(&e), e.rest)),
            _ => None,
        }?;
        self.keys.remove(&key_index(object));
        if self.v4.is_empty() && self.v4.capacity() > 64 {
            self.v4 = Slab::new();
        }
        if self.v6.is_empty() && self.v6.capacity() > 64 {
            self.v6 = Slab::new();
        }
        Some((tuple, rest))
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Tuple, &Rest)> + '_ {
        let v4 = self.v4.iter().map(|(_, e)| (tuple(e), &e.rest));
        v4.chain(self.v6.iter().map(|(_, e)| (tuple(e), &e.rest)))
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> u64 {
        let v4 = self.v4.capacity() * core::mem::size_of::<Entry<Ipv4Addr>>();
        let v6 = self.v6.capacity() * core::mem::size_of::<Entry<Ipv6Addr>>();
        (v4 + v6 + self.keys.len() * core::mem::size_of::<(u32, Key)>()) as u64
    }
}

/// Above every index, and within a timer's key.
const V6_KEY: u32 = 1 << 28;

/// The entry of a [`key_index`].
pub(super) fn object(index: u32) -> Object {
    match index & V6_KEY {
        0 => Object::TimeWait4(index),
        _ => Object::TimeWait6(index & !V6_KEY),
    }
}

fn key_index(object: Object) -> u32 {
    match object {
        Object::TimeWait6(i) => i | V6_KEY,
        Object::TimeWait4(i) | Object::Conn(i) | Object::Request(i) => i,
    }
}

fn v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(a) => a.to_ipv6_mapped(),
        IpAddr::V6(a) => a,
    }
}

fn tuple<A: Into<IpAddr> + Copy>(e: &Entry<A>) -> Tuple {
    Tuple {
        local_ip: e.local.into(),
        remote_ip: e.remote.into(),
        local_port: e.local_port,
        remote_port: e.remote_port,
    }
}

impl Conn {
    /// What is kept of the connection; neither its handle nor its hold on the port.
    pub(crate) fn rest(&self, fin_wait2: bool) -> Rest {
        Rest {
            snd_nxt: self.snd.nxt(),
            rcv_nxt: self.rcv.rcv_nxt(),
            rcv_wnd: self.rcv.receive_window(),
            ts_recent: self.ts.recent,
            ts_stamp: self.ts.stamp,
            ts_offset: self.ts.offset,
            last_oow_ack: 0,
            ends: Place::NONE,
            sock: None,
            ts_ok: self.ts.ok,
            fin_wait2,
            rcv_scale: self.rcv_scale.bits(),
            bind: PackedBinding::default(),
        }
    }
}

/// What a segment means for a TIME_WAIT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Nothing, or an ACK that needs no answer.
    Quiet(DropReason),
    /// Answer with an ACK.
    Ack(DropReason),
    /// Answer with an RST and end it.
    Reset(DropReason),
    /// End it without a word.
    Kill(DropReason),
    /// A new connection may take its place, with this ISN.
    Reopen(SeqNum),
}

impl Rest {
    pub(crate) fn state(&self) -> State {
        if self.fin_wait2 {
            State::FinWait2
        } else {
            State::TimeWait
        }
    }

    /// The ISN of a connection that takes this one's place: past anything the old one sent
    /// (Linux: `tcp_timewait_state_process`, `tcp_twsk_unique`).
    pub(crate) fn next_isn(&self) -> SeqNum {
        match self.snd_nxt + 65537 {
            SeqNum(0) => SeqNum(1),
            isn => isn,
        }
    }

    /// What `segment` means; `true`: the 2·MSL begin again.
    pub(crate) fn check(&mut self, env: &mut Env, segment: &Segment<'_>) -> (Verdict, bool) {
        let ts = segment.options.timestamps.filter(|_| self.ts_ok);
        let paws_reject = ts.is_some_and(|ts| !segment.rst() && paws_rejects(self.ts_recent, ts.val));
        if self.fin_wait2 {
            return self.check_fin_wait2(env, segment, paws_reject);
        }
        // An RST or a bare ACK exactly where it should be.
        if !paws_reject && segment.seq == self.rcv_nxt && (segment.len() == 0 || segment.rst()) {
            if segment.rst() {
                if env.sysctl.tcp_rfc1337 == 0 {
                    return (Verdict::Kill(DropReason::TcpReset), false);
                }
                self.store_ts(env, ts.map(|ts| ts.val));
                return (Verdict::Quiet(DropReason::TcpReset), false);
            }
            self.store_ts(env, ts.map(|ts| ts.val));
            return (Verdict::Quiet(DropReason::TcpOldAck), true);
        }
        let newer =
            segment.seq.after(self.rcv_nxt) || ts.is_some_and(|ts| SeqNum(ts.val).after(SeqNum(self.ts_recent)));
        if segment.syn() && !segment.rst() && !segment.ack_set() && !paws_reject && newer {
            return (Verdict::Reopen(self.next_isn()), false);
        }
        let reason = if paws_reject {
            env.mib.inc(Counter::TcpExtPAWSTimewait);
            DropReason::TcpRfc7323TwPaws
        } else {
            DropReason::TcpOldSequence
        };
        if segment.rst() {
            return (Verdict::Quiet(reason), false);
        }
        // A SYN without ACK may be a new connection whose ISN is lower: it must not hold this one up.
        let restart = paws_reject || segment.ack_set();
        (
            self.limited_ack(env, segment, Counter::TcpExtTCPACKSkippedTimeWait, reason),
            restart,
        )
    }

    fn check_fin_wait2(&mut self, env: &mut Env, segment: &Segment<'_>, paws_reject: bool) -> (Verdict, bool) {
        if paws_reject || !in_window(segment, self.rcv_nxt, self.rcv_nxt + self.rcv_wnd) {
            let reason = match paws_reject {
                true => DropReason::TcpRfc7323TwPaws,
                false => DropReason::TcpOverwindow,
            };
            return (
                self.limited_ack(env, segment, Counter::TcpExtTCPACKSkippedFinWait2, reason),
                false,
            );
        }
        if segment.rst() {
            return (Verdict::Kill(DropReason::TcpReset), false);
        }
        if segment.syn() && !segment.seq.before(self.rcv_nxt) {
            return (Verdict::Reset(DropReason::TcpInvalidSyn), false);
        }
        if !segment.ack_set() || !segment.end().after(self.rcv_nxt) || segment.len() == 0 {
            return (Verdict::Quiet(DropReason::TcpOldAck), false);
        }
        // New data after a half-duplex close, or a FIN behind some.
        if !segment.fin() || segment.end() != self.rcv_nxt + 1 {
            return (Verdict::Reset(DropReason::TcpAbortOnData), false);
        }
        self.fin_wait2 = false;
        self.rcv_nxt = segment.end();
        self.store_ts(env, segment.options.timestamps.filter(|_| self.ts_ok).map(|ts| ts.val));
        (Verdict::Ack(DropReason::TcpOldSequence), true)
    }

    fn store_ts(&mut self, env: &Env, val: Option<u32>) {
        if let Some(val) = val {
            self.ts_recent = val;
            self.ts_stamp = super::clock_ms(env);
        }
    }

    fn limited_ack(&mut self, env: &mut Env, segment: &Segment<'_>, skipped: Counter, reason: DropReason) -> Verdict {
        match may_answer(env, segment, &mut self.last_oow_ack, skipped) {
            true => Verdict::Ack(reason),
            false => Verdict::Quiet(reason),
        }
    }
}
