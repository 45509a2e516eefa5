//! What a sender tells of itself: to its connection, and to `struct tcp_info` (Linux: `tcp_get_info`).

use super::Sender;
use crate::env::Env;
use core::time::Duration;
use estab_proto::{SeqNum, TcpInfo};

/// `tcpi_options` bits (include/uapi/linux/tcp.h).
const OPT_TIMESTAMPS: u8 = 1;
const OPT_SACK: u8 = 2;
const OPT_ECN: u8 = 8;

impl Sender {
    /// Fills in the sending half's fields; the window scale's bits, the receiver's and `fastopen` are the caller's.
    pub(crate) fn info(&self, env: &Env, info: &mut TcpInfo) {
        for (on, bit) in [
            (self.flags.ts_ok, OPT_TIMESTAMPS),
            (self.flags.sack_ok, OPT_SACK),
            (self.ecn.ok(), OPT_ECN),
        ] {
            if on {
                info.options |= bit;
            }
        }
        info.ca_state = self.state as u8;
        info.retransmits = self.retransmits;
        info.probes = self.probes_out;
        info.backoff = self.rtt.backoff;
        info.rto = self.rtt.rto();
        info.snd_mss = u32::from(self.mss);
        info.unacked = self.packets_out;
        info.sacked = self.board.sacked_out;
        info.lost = self.board.lost_out;
        info.retrans = self.board.retrans_out;
        info.last_data_sent = self.last_sent_ms(env);
        info.last_ack_recv = self.last_ack_ms(env);
        info.rtt = self.rtt.srtt();
        info.rttvar = self.rtt.deviation();
        info.snd_ssthresh = self.cwnd.ssthresh;
        info.snd_cwnd = self.cwnd.window;
        info.reordering = self.reordering;
        info.total_retrans = self.troubles.retrans;
        info.pacing_rate = self.pacing.rate;
        info.max_pacing_rate = self.pacing.max_rate;
        info.bytes_acked = self.totals.bytes_acked;
        info.notsent_bytes = self.unsent();
        info.min_rtt = self.rtt.min();
        info.data_segs_out = self.totals.data_segs;
        (info.delivery_rate, info.delivery_rate_app_limited) = self.delivery_rate();
        (info.busy_time, info.rwnd_limited, info.sndbuf_limited) = self.chrono.times_us(env.now_ms());
        info.delivered = self.rate.delivered;
        info.delivered_ce = self.rate.delivered_ce;
        info.bytes_sent = self.totals.bytes_sent;
        info.bytes_retrans = self.troubles.bytes_retrans;
        info.dsack_dups = self.troubles.dsack_dups;
        info.reord_seen = self.troubles.reord_seen;
        info.snd_wnd = self.wnd;
        info.total_rto = self.troubles.rtos;
        info.total_rto_recoveries = self.troubles.rto_recoveries;
        info.total_rto_time = self.troubles.rto_time;
        if self.troubles.rto_stamp != 0 {
            let spent = env.now_ms().wrapping_sub(self.troubles.rto_stamp);
            info.total_rto_time = info.total_rto_time.saturating_add(spent);
        }
        info.cc = self.cc.name();
        info.bbr = self.cc.bbr_info();
    }
}

impl Sender {
    /// SND.UNA
    pub(crate) fn una(&self) -> SeqNum {
        self.una
    }
    /// SND.NXT
    pub(crate) fn nxt(&self) -> SeqNum {
        self.nxt
    }
    /// The sequence number that a segment without data carries: SND.NXT, or the window's end if it shrank by more than
    /// scaling rounds away, `grain` bytes (Linux: `tcp_acceptable_seq`).
    pub(crate) fn acceptable_seq(&self, grain: u32) -> SeqNum {
        let end = self.window_end();
        if end.at_or_after(self.nxt) || self.nxt.since(end) < grain {
            self.nxt
        } else {
            end
        }
    }
    /// The sequence number after the last byte (and FIN) queued.
    pub(crate) fn write_seq(&self) -> SeqNum {
        self.write_seq
    }
    /// FIN was acknowledged.
    pub(crate) fn fin_acked(&self) -> bool {
        self.fin_is_acked_by(self.una)
    }
    /// An ACK of `ack` acknowledges our FIN.
    pub(crate) fn fin_is_acked_by(&self, ack: SeqNum) -> bool {
        self.flags.fin_queued && ack == self.write_seq
    }
    /// Bytes written and not acknowledged, FIN not counted (SIOCOUTQ).
    pub(crate) fn queued(&self) -> u32 {
        self.queue.byte_len()
    }
    /// Bytes written and not yet sent (SIOCOUTQNSD).
    pub(crate) fn unsent(&self) -> u32 {
        self.write_seq.since(self.nxt)
    }
    /// SND.WND in bytes.
    pub(crate) fn window(&self) -> u32 {
        self.wnd
    }
    /// Payload bytes of a full segment.
    pub(crate) fn mss(&self) -> u16 {
        self.mss
    }
    /// Segments sent and unacknowledged (Linux: `packets_out`).
    pub(crate) fn packets_out(&self) -> u32 {
        self.packets_out
    }
    /// Smoothed round-trip time, once known.
    pub(crate) fn srtt(&self) -> Option<Duration> {
        match self.rtt.srtt8() {
            0 => None,
            us => Some(Duration::from_micros(u64::from(us >> 3))),
        }
    }
    /// The retransmission timeout now, backoff included.
    pub(crate) fn rto(&self) -> Duration {
        Duration::from_micros(u64::from(self.rtt.rto()))
    }
    /// Milliseconds since data was last sent (`tcpi_last_data_sent`; keepalive and delayed ACKs ask).
    pub(crate) fn last_sent_ms(&self, env: &Env) -> u32 {
        env.now_ms().wrapping_sub(self.last_data)
    }
    /// Milliseconds since the last ACK (`tcpi_last_ack_recv`; keepalive asks).
    pub(crate) fn last_ack_ms(&self, env: &Env) -> u32 {
        env.now_ms().wrapping_sub(self.last_ack)
    }
    /// Bytes of memory held beyond the struct itself.
    pub(crate) fn memory(&self) -> usize {
        let lazy = self.queue.truesize() + self.board.truesize() + self.troubles.truesize();
        lazy + self.queue.heap() + self.cc.heap()
    }
}
