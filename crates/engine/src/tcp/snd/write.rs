//! The application's bytes become records (Linux: `tcp_sendmsg_locked`, `tcp_push`, `tcp_send_fin`), and how many may wait
//! (SO_SNDBUF with its autotuning, TCP_NOTSENT_LOWAT; Linux: `tcp_sndbuf_expand`, `sk_stream_is_writeable`).

use super::output::GSO_MAX;
use super::{Nagle, Sender, cwnd};
use crate::SendFlags;
use crate::buf::Memory;
use crate::env::Env;

/// What a record costs beside its bytes (Linux: the truesize of an skb without data).
pub(super) const RECORD_COST: u32 = 1280;
/// Linux: `MAX_TCP_HEADER`, the aligned `skb_shared_info` and `sk_buff`, for the cost of one MSS.
const HEADER_COST: u32 = 320 + 320;
const SKB_COST: u32 = 256;
/// SO_SNDBUF's least value (Linux: `SOCK_MIN_SNDBUF`).
const SNDBUF_MIN: u32 = 4608;

impl Sender {
    /// Appends to the stream as much as fits and sends what may be sent; returns the bytes taken, less than all when the
    /// buffer is full (then [`Self::take_writable`] says when to try again).
    pub(crate) fn write(&mut self, env: &mut Env, data: &[u8], flags: SendFlags) -> usize {
        self.append(env, data.len(), Some(data), flags)
    }

    /// [`Self::write`] of up to `most` bytes that `fill` puts into place: it returns how many, and all of them are taken.
    pub(crate) fn write_with(
        &mut self,
        env: &mut Env,
        most: usize,
        flags: SendFlags,
        fill: impl FnOnce(&mut [&mut [u8]]) -> usize,
    ) -> usize {
        if self.flags.fin_queued {
            return 0;
        }
        if !self.may_queue(env, 0) || !self.memory_allows(env) {
            self.flags.no_space = true;
            return 0;
        }
        let most = most.min(self.room());
        self.queue.fill(|| env.queues.take());
        let n = self.queue.place(&mut env.pool, most, fill);
        if n == 0 {
            self.settle(env);
        }
        self.append(env, n, None, flags)
    }

    /// Appends `total` bytes: those of `data`, or else those that are in place already.
    fn append(&mut self, env: &mut Env, total: usize, data: Option<&[u8]>, flags: SendFlags) -> usize {
        if self.flags.fin_queued {
            return 0;
        }
        self.rate_check_app_limited();
        let mss = self.current_mss();
        let goal = if flags.oob { mss } else { self.size_goal(mss) };
        let mut taken = 0;
        let mut full = false;
        while taken < total {
            let room = match self.queue.tail() {
                Some(tail) if !tail.eor && !tail.fin => goal.saturating_sub(tail.len),
                _ => 0,
            };
            let room = if room > 0 {
                room
            } else if data.is_none() || self.may_queue(env, 0) && self.memory_allows(env) {
                self.new_record(env);
                goal
            } else {
                full = true;
                break;
            };
            let n = (room as usize).min(total - taken);
            match data {
                Some(data) => self.queue.append(&mut env.pool, &data[taken..taken + n]),
                None => self.queue.append_placed(n),
            }
            self.write_seq += n as u32;
            self.wmem += n as u32;
            let first = taken == 0;
            taken += n;
            let done = taken == total;
            let Some(tail) = self.queue.tail_mut() else { break };
            if first {
                tail.psh = false;
            }
            if done {
                tail.eor |= flags.eor;
                break;
            }
            if tail.len < goal || flags.oob {
                continue;
            }
            if self.forced_push() {
                self.mark_push();
                self.transmit(env, Nagle::PUSH, false);
            } else if self.queue.len() - self.queue.sent() == 1 {
                self.push_one(env);
            }
        }
        if full {
            self.flags.no_space = true;
        }
        if taken > 0 {
            // What more there is can't follow before room is made (Linux: `tcp_sendmsg_locked` before it waits for some).
            let stuck = full || data.is_none() && !self.has_space(env);
            let more = flags.more && !stuck;
            self.push_written(env, SendFlags { more, ..flags }, goal);
        }
        taken
    }

    /// Ends a write: PSH, the urgent mark, and off with it (Linux: `tcp_push`).
    fn push_written(&mut self, env: &mut Env, flags: SendFlags, goal: u32) {
        if !self.queue.has_unsent() {
            return;
        }
        if !flags.more || self.forced_push() {
            self.mark_push();
        }
        if flags.oob {
            self.urgent = self.write_seq;
        }
        if self.autocorks(env, goal) {
            return;
        }
        let nagle = if flags.more { Nagle::CORK } else { self.nagle };
        self.push_pending_as(env, nagle);
    }

    /// Starts a record (Linux: `tcp_skb_entail`).
    fn new_record(&mut self, env: &mut Env) {
        self.add_record(env);
        self.nagle.set(Nagle::PUSH, false);
        self.idle_check(env);
    }

    pub(super) fn add_record(&mut self, env: &mut Env) {
        self.queue.fill(|| env.queues.take());
        if !self.queue.has_unsent() {
            self.chrono.start(env.now_ms(), super::chrono::Why::Busy);
        }
        self.queue.push(self.write_seq);
        self.wmem += RECORD_COST;
    }

    /// Half a window was written since the last push (Linux: `forced_push`).
    fn forced_push(&self) -> bool {
        self.write_seq.after(self.pushed_seq + (self.max_wnd >> 1))
    }

    /// The last record ends with PSH (Linux: `tcp_mark_push`).
    fn mark_push(&mut self) {
        if let Some(tail) = self.queue.tail_mut() {
            tail.psh = true;
        }
        self.pushed_seq = self.write_seq;
    }

    /// How long a record may grow: whole segments up to the largest super-packet and half the largest
    /// window (Linux: `tcp_xmit_size_goal`).
    fn size_goal(&self, mss: u32) -> u32 {
        let bound = self.bound_to_half_window(GSO_MAX);
        (bound / mss * mss).max(mss)
    }

    /// Queues FIN after what was written; it leaves with the last data if that has not left
    /// (RFC 9293 §3.6; Linux: `tcp_send_fin`). Later writes are the caller's to refuse.
    pub(crate) fn queue_fin(&mut self, env: &mut Env) {
        if self.flags.fin_queued {
            return;
        }
        if !self.queue.has_unsent() {
            self.add_record(env);
        }
        if let Some(tail) = self.queue.tail_mut() {
            tail.fin = true;
        }
        self.write_seq += 1;
        self.flags.fin_queued = true;
        self.push_pending_as(env, Nagle::OFF);
    }

    // --- the buffer

    /// Nothing new while TCP's memory is used up, but one record per connection (Linux: `sk_stream_alloc_skb` fails).
    fn memory_allows(&self, env: &Env) -> bool {
        env.memory != Memory::Exhausted || self.wmem == 0
    }

    /// A new record may begin: the buffer has room and not too much is unsent. Waking the application asks for
    /// twice the margin (Linux: `sk_stream_memory_free`, `tcp_stream_memory_free`).
    fn may_queue(&self, env: &Env, wake: u32) -> bool {
        self.wmem < self.sndbuf && (u64::from(self.unsent()) << wake) < u64::from(self.lowat(env))
    }

    fn lowat(&self, env: &Env) -> u32 {
        match self.notsent_lowat {
            0 => env.sysctl.tcp_notsent_lowat,
            bytes => bytes,
        }
    }

    /// Room in the buffer, in bytes.
    pub(crate) fn room(&self) -> usize {
        self.sndbuf.saturating_sub(self.wmem) as usize
    }

    /// What the buffer is charged: unacknowledged bytes and what their records cost (Linux: `sk_wmem_queued`).
    pub(crate) fn charged(&self) -> u32 {
        self.wmem
    }

    /// POLLOUT: a third of the buffer is free, and less than TCP_NOTSENT_LOWAT is unsent
    /// (Linux: `__sk_stream_is_writeable`). Where not, [`Self::take_writable`] will say when.
    pub(crate) fn is_writable(&mut self, env: &Env) -> bool {
        let writable = self.has_space(env);
        if !writable {
            self.flags.no_space = true;
        }
        writable
    }

    fn has_space(&self, env: &Env) -> bool {
        self.sndbuf.saturating_sub(self.wmem) >= self.wmem >> 1 && self.may_queue(env, 1)
    }

    /// The application waits for room and there is some (Linux: `tcp_check_space`, `tcp_new_space`).
    pub(super) fn check_space(&mut self, env: &Env) {
        if !self.flags.no_space {
            return;
        }
        if env.memory == Memory::Plenty && self.in_flight() < self.cwnd.window {
            self.expand_sndbuf(env);
            self.cwnd.stamp = env.now_ms();
        }
        if self.has_space(env) {
            (self.flags.no_space, self.flags.writable) = (false, true);
            self.chrono_stop(env, super::chrono::Why::SndbufLimited);
        }
    }

    /// Room has come since the application met a full buffer: tell it once.
    pub(crate) fn take_writable(&mut self) -> bool {
        core::mem::take(&mut self.flags.writable)
    }

    /// Sizes the buffer to two congestion windows (Linux: `tcp_sndbuf_expand`).
    #[inline(never)]
    pub(super) fn expand_sndbuf(&mut self, env: &Env) {
        if self.flags.sndbuf_locked {
            return;
        }
        let per_mss = (u32::from(self.mss_clamp.max(self.mss)) + HEADER_COST).next_power_of_two() + SKB_COST;
        let segments = cwnd::INITIAL.max(self.cwnd.window).max(self.reordering + 1);
        let bytes = u64::from(self.cc.sndbuf_factor()) * u64::from(segments) * u64::from(per_mss);
        if u64::from(self.sndbuf) < bytes {
            self.sndbuf = bytes.min(env.sysctl.tcp_wmem[2]) as u32;
        }
    }

    /// SO_SNDBUF in bytes, doubled and bounded already; turns autotuning off.
    pub(crate) fn set_sndbuf(&mut self, env: &Env, bytes: u32) {
        self.sndbuf = bytes.max(SNDBUF_MIN);
        self.flags.sndbuf_locked = true;
        self.check_space(env);
    }

    /// SO_SNDBUF's value now.
    pub(crate) fn sndbuf(&self) -> u32 {
        self.sndbuf
    }

    /// TCP_NOTSENT_LOWAT in bytes; 0: the sysctl's.
    pub(crate) fn set_notsent_lowat(&mut self, env: &Env, bytes: u32) {
        self.notsent_lowat = bytes;
        self.check_space(env);
    }

    /// Gives back what a removed record was charged.
    pub(super) fn uncharge_record(&mut self) {
        self.wmem = self.wmem.saturating_sub(RECORD_COST);
    }

    /// Gives back `n` acknowledged bytes.
    pub(super) fn uncharge_bytes(&mut self, n: u32) {
        self.wmem = self.wmem.saturating_sub(n);
    }

    /// Charges a record that splitting made.
    pub(super) fn charge_record(&mut self) {
        self.wmem += RECORD_COST;
    }
}
