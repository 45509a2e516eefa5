//! Packetization layer path MTU discovery: larger segments are tried, and smaller ones where large ones vanish without
//! an ICMP error (RFC 4821; Linux: `tcp_mtu_probe`, `tcp_mtu_probing`). Sizes are payload bytes of a segment.

use super::Sender;
use super::queue::Kind;
use crate::env::Env;
use crate::tcp::loss::CaState;
use estab_proto::{Counter, SeqNum};

/// A window of fewer segments is not risked for a probe.
const LEAST_WINDOW: u32 = 11;

/// The search: `low` is known to arrive, more than `high` is known not to.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    low: u32,
    high: u32,
    /// The probe in flight, where it begins and ends.
    probe: Option<(SeqNum, SeqNum)>,
    /// Milliseconds when the search began.
    stamp: u32,
}

/// What came of the wish to probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Probe {
    /// No probe now: go on.
    No,
    /// Hold data back until there is room for one.
    Wait,
    Sent,
}

impl Sender {
    /// The search begins with the connection (`tcp_mtu_probing` 2; Linux: `tcp_mtup_init`); what it allows counts from the
    /// next [`Sender::sync_mss`].
    pub(super) fn mtu_init(&mut self, env: &Env) {
        if env.sysctl.tcp_mtu_probing > 1 {
            self.mtu_enable(env);
        }
    }

    fn mtu_enable(&mut self, env: &Env) {
        let options = if self.flags.ts_ok { 12 } else { 0 };
        let high = u32::from(self.mss_clamp).saturating_sub(options).max(1);
        let low = env.sysctl.tcp_base_mss.saturating_sub(options).clamp(1, high);
        self.mtu = Some(alloc::boxed::Box::new(Search {
            low,
            high,
            probe: None,
            stamp: env.now_ms(),
        }));
    }

    /// What the search allows, and what the path's MTU now makes of it.
    pub(super) fn mtu_bound(&mut self, mss: u32) -> u32 {
        let Some(search) = self.mtu.as_mut() else { return mss };
        search.high = search.high.min(u32::from(self.path_mss));
        mss.min(search.low)
    }

    /// A probe is in flight.
    pub(crate) fn mtu_probing(&self) -> bool {
        self.mtu.as_ref().is_some_and(|search| search.probe.is_some())
    }

    /// A retransmission: whatever comes of the probe now tells nothing.
    pub(super) fn mtu_inconclusive(&mut self) {
        if let Some(search) = self.mtu.as_mut() {
            search.probe = None;
        }
    }

    /// Large segments seem to vanish: go down (Linux: `tcp_mtu_probing` in tcp_timer.c).
    pub(super) fn mtu_black_hole(&mut self, env: &Env) {
        if env.sysctl.tcp_mtu_probing == 0 {
            return;
        }
        let Some(search) = self.mtu.as_mut() else {
            self.mtu_enable(env);
            return self.sync_mss();
        };
        let least = env.sysctl.tcp_mtu_probe_floor.max(env.sysctl.tcp_min_snd_mss);
        search.low = (search.low >> 1).min(env.sysctl.tcp_base_mss).max(least);
        self.sync_mss();
    }

    /// Sends a probe half way up, if there is data and window for it (Linux: `tcp_mtu_probe`).
    #[inline]
    pub(super) fn mtu_probe(&mut self, env: &mut Env) -> Probe {
        match self.mtu {
            None => Probe::No,
            Some(_) => self.search_mtu(env),
        }
    }

    fn search_mtu(&mut self, env: &mut Env) -> Probe {
        let Some(search) = self.mtu.as_mut() else {
            return Probe::No;
        };
        if search.probe.is_some()
            || self.state != CaState::Open
            || self.cwnd.window < LEAST_WINDOW
            || self.extra_options > 0
        {
            return Probe::No;
        }
        let size = (search.high + search.low) >> 1;
        if size > search.high || search.high.saturating_sub(search.low) < env.sysctl.tcp_probe_threshold {
            // Found; look again after a while: paths change.
            let wait = env.sysctl.tcp_probe_interval.saturating_mul(1000);
            if env.now_ms().wrapping_sub(search.stamp) >= wait {
                (search.high, search.low) = (u32::from(self.path_mss), u32::from(self.mss));
                search.stamp = env.now_ms();
            }
            return Probe::No;
        }
        let needed = size + (self.reordering + 1) * u32::from(self.mss);
        if self.unsent() < needed || self.wnd < needed {
            return Probe::No;
        }
        if (self.nxt + needed).after(self.window_end()) {
            return Probe::Wait;
        }
        if self.in_flight() + 2 > self.cwnd.window {
            return if self.in_flight() == 0 { Probe::No } else { Probe::Wait };
        }
        if !self.gather(size) {
            return Probe::No;
        }
        let position = self.queue.sent();
        let head = self.queue.at_mut(position);
        head.set_segs(size);
        let (start, end) = (head.seq, head.end());
        if !self.send_record(env, position, Kind::Data) {
            return Probe::No;
        }
        // It stands for two.
        self.cwnd.window -= 1;
        self.sent_new(env);
        if let Some(search) = self.mtu.as_mut() {
            search.probe = Some((start, end));
        }
        Probe::Sent
    }

    /// Makes the send head a record of `size` bytes.
    fn gather(&mut self, size: u32) -> bool {
        let position = self.queue.sent();
        loop {
            let head = self.queue.at(position);
            if head.len >= size {
                break;
            }
            if head.eor || head.fin || position + 1 >= self.queue.len() {
                return false;
            }
            self.grow_record(position, size);
        }
        if self.queue.at(position).len > size {
            self.queue.split(position, size, u32::from(self.mss));
            self.charge_record();
        }
        true
    }

    /// The probe's first byte is lost: too large (Linux: `tcp_mtup_probe_failed`). True: nothing else is wrong.
    pub(crate) fn mtu_probe_lost(&mut self, env: &mut Env) -> bool {
        let una = self.una;
        let Some(search) = self.mtu.as_mut() else { return false };
        let Some((start, end)) = search.probe.filter(|(start, _)| *start == una) else {
            return false;
        };
        search.high = end.since(start).saturating_sub(1);
        search.probe = None;
        env.mib.inc(Counter::TcpExtTCPMTUPFail);
        self.cwnd.window += 1;
        self.simple_retransmit(env);
        true
    }

    /// The probe arrived: segments may be as large (Linux: `tcp_mtup_probe_success`). The window stays as many bytes.
    #[inline(never)]
    pub(super) fn mtu_acked(&mut self, env: &mut Env) {
        let una = self.una;
        let Some(search) = self.mtu.as_mut() else { return };
        let Some((start, end)) = search.probe.filter(|(_, end)| !end.after(una)) else {
            return;
        };
        search.low = end.since(start);
        search.probe = None;
        let size = u64::from(search.low.max(1));
        self.cwnd.prior_ssthresh = self.current_ssthresh();
        let bytes = u64::from(self.cwnd.window) * u64::from(self.mss);
        self.cwnd.window = (bytes / size).max(1) as u32;
        self.cwnd.count = 0;
        self.cwnd.stamp = env.now_ms();
        self.cwnd.ssthresh = self.current_ssthresh();
        self.sync_mss();
        env.mib.inc(Counter::TcpExtTCPMTUPSuccess);
    }
}
