//! Zero-window probes: asking a closed window whether it has opened (RFC 9293 §3.8.6.1, RFC 1122 §4.2.2.17;
//! Linux: `tcp_probe_timer`, `tcp_send_probe0`, `tcp_write_wakeup`).

use super::queue::Kind;
use super::timer::orphan_retries;
use super::{Sender, TimerCx, TimerOut};
use crate::env::Env;
use crate::tcp::loss::rto;
use estab_proto::Counter;

impl Sender {
    /// Data waits and nothing is in flight: probing begins (Linux: `tcp_check_probe_timer`).
    pub(super) fn check_probe_timer(&mut self, env: &Env) {
        if self.packets_out == 0 && !self.timer.is_set() {
            self.set_timer_probe0(env, self.probe0_base());
        }
    }

    fn probe0_base(&self) -> u32 {
        self.rtt.rto().max(rto::BASE_US)
    }

    /// The next probe's delay, with its backoff (Linux: `tcp_probe0_when`).
    fn probe0_when(&self, env: &Env) -> u32 {
        let max = rto::max_us(&env.sysctl);
        let doublings = u32::from(self.rtt.backoff).min((max / rto::BASE_US).max(1).ilog2() + 1);
        let us = u64::from(self.probe0_base()) << doublings;
        us.min(u64::from(max)) as u32
    }

    /// The timer must not pass TCP_USER_TIMEOUT (Linux: `tcp_clamp_probe0_to_user_timeout`).
    fn clamp_probe0(&self, env: &Env, us: u32) -> u32 {
        if self.user_timeout == 0 || self.probes_stamp == 0 {
            return us;
        }
        let spent = env.now_ms().wrapping_sub(self.probes_stamp);
        us.min(
            self.user_timeout
                .saturating_sub(spent)
                .saturating_mul(1000)
                .max(rto::TIMEOUT_MIN_US),
        )
    }

    /// Another probe, or the end: a peer that answers is probed for ever (Linux: `tcp_probe_timer`).
    pub(super) fn probe_timeout(&mut self, env: &mut Env, cx: &TimerCx) -> TimerOut {
        if self.packets_out > 0 || !self.queue.has_unsent() {
            (self.probes_out, self.probes_stamp) = (0, 0);
            return TimerOut::Nothing;
        }
        let now = env.now_ms();
        if self.probes_stamp == 0 {
            self.probes_stamp = now.max(1);
        } else if self.user_timeout != 0 && now.wrapping_sub(self.probes_stamp) >= self.user_timeout {
            return self.give_up(cx);
        }
        let mut most = env.sysctl.tcp_retries2;
        if cx.orphan {
            let max = rto::max_us(&env.sysctl);
            let backed_off = u64::from(self.rtt.rto()) << u32::from(self.rtt.backoff).min(16);
            let alive = backed_off < u64::from(max);
            most = orphan_retries(env, cx, alive);
            if !alive && u32::from(self.rtt.backoff) >= most {
                return self.give_up(cx);
            }
            if let Some(out) = self.out_of_resources(env, cx, true) {
                return out;
            }
        }
        if u32::from(self.probes_out) >= most {
            return self.give_up(cx);
        }
        self.send_probe0(env);
        TimerOut::Send
    }

    fn send_probe0(&mut self, env: &mut Env) {
        let sent = self.write_wakeup(env, Counter::TcpExtTCPWinProbe);
        if self.packets_out > 0 || !self.queue.has_unsent() {
            (self.probes_out, self.probes_stamp, self.rtt.backoff) = (0, 0, 0);
            return;
        }
        self.probes_out = self.probes_out.saturating_add(1);
        let mut us = rto::RESOURCE_US;
        if sent {
            if u32::from(self.rtt.backoff) < env.sysctl.tcp_retries2 {
                self.rtt.backoff += 1;
            }
            us = self.probe0_when(env);
        }
        let us = self.clamp_probe0(env, us);
        self.set_timer_probe0(env, us);
    }

    /// Provokes an ACK: with data, if the window holds any, else with an old sequence number. Counts as `counter`:
    /// TCPWinProbe or, for keepalive, TCPKeepAlive. False if the device takes nothing (Linux: `tcp_write_wakeup`).
    pub(crate) fn write_wakeup(&mut self, env: &mut Env, counter: Counter) -> bool {
        let end = self.window_end();
        let mss = self.current_mss();
        let Some(head) = self.queue.send_head().filter(|head| head.seq.before(end)).copied() else {
            let ahead = self.urgent.since(self.una);
            if (1..=0xffff).contains(&ahead) {
                env.mib.inc(counter);
                self.queue_probe(env, self.una, ahead as u16);
            }
            env.mib.inc(counter);
            self.queue_probe(env, self.una - 1, 0);
            return !env.output_full;
        };
        self.pushed_seq = self.pushed_seq.max(head.end());
        let room = end.since(head.seq);
        let position = self.queue.sent();
        if room < head.end().since(head.seq) || head.len > mss {
            let len = room.min(mss);
            // FIN alone may lie outside.
            if len < head.len || head.fin {
                self.queue.split(position, len, mss);
                self.charge_record();
            }
        }
        let head = self.queue.at_mut(position);
        head.psh = true;
        if head.segs == 0 {
            head.set_segs(mss);
        }
        let sent = self.send_record(env, position, Kind::Data);
        if sent {
            self.sent_new(env);
        }
        sent
    }

    /// An ACK came while nothing was in flight: an open window ends probing, a closed one puts the next probe off
    /// (Linux: `tcp_ack_probe`).
    pub(super) fn ack_probe(&mut self, env: &Env) {
        let Some(head) = self.queue.send_head() else { return };
        if head.end().after(self.window_end()) {
            let us = self.clamp_probe0(env, self.probe0_when(env));
            self.set_timer_probe0(env, us);
        } else {
            (self.rtt.backoff, self.probes_stamp) = (0, 0);
            self.timer.clear();
        }
    }
}
