//! What a connection sends: SYNs, the sender's segments, ACKs, keepalive probes; header and options around them
//! (RFC 9293 §3.1, RFC 7323 §3; Linux: `__tcp_transmit_skb`, `tcp_send_ack`).

use super::auth::{self, Key};
use super::clock_ms;
use super::conn::Conn;
use super::segment::trace_options;
use super::snd::TxRoom;
use crate::Result;
use crate::env::Env;
use crate::iface::Transmit;
use crate::ip::{HeaderSpec, Ip, Route};
use estab_proto::{Counter, ScaledWindow, SegmentTrace, SeqNum, State, TcpFlags, TraceKind};
use estab_wire::checksum::Sum;
use estab_wire::ip::protocol;
use estab_wire::tcp::{Header, Options, Timestamps};

/// Less payload than this is copied in any case: a copy costs less than another part of a packet.
const IN_PLACE: u32 = 2048;

/// What of a packet is not in the buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Left {
    Nothing,
    /// So many bytes from a sequence number on.
    Payload(SeqNum, usize),
}

/// One segment's fixed parts. It is filled where it stays: moving it costs more than making it.
#[derive(Default)]
pub(super) struct Out {
    seq: SeqNum,
    pub(super) ack: SeqNum,
    pub(super) flags: TcpFlags,
    window: u16,
    urgent: u16,
    pub(super) timestamps: Option<Timestamps>,
    /// All options, where there are others than timestamps.
    pub(super) unusual: Option<Options>,
    pub(super) len: u32,
    gso: Option<u16>,
    pub(super) ect: bool,
    /// All of it was sent before.
    again: bool,
}

impl Out {
    /// The sequence number of the first byte of payload.
    fn payload(&self) -> SeqNum {
        self.seq + u32::from(self.flags.contains(TcpFlags::SYN))
    }

    fn options(&self) -> Options {
        self.unusual.unwrap_or(Options {
            timestamps: self.timestamps,
            ..Options::default()
        })
    }
}

/// Bytes of IP and TCP header without options.
pub(crate) fn fixed_headers(v4: bool) -> u32 {
    if v4 { 40 } else { 60 }
}

impl Conn {
    /// The way out.
    pub(crate) fn route(&self, env: &Env) -> Result<Route> {
        match self.iface {
            Some(iface) => env.ip.route_on(iface, self.tuple.remote_ip, self.tuple.local_ip),
            None => env.ip.route(self.tuple.remote_ip, Some(self.tuple.local_ip)),
        }
    }

    /// [`Self::route`], looked up only when something has changed.
    #[inline]
    fn known_route(&mut self, env: &Env) -> Result<Route> {
        let (dst, src) = (self.tuple.remote_ip, self.tuple.local_ip);
        if let Some(route) = env.ip.recall(self.way, dst, src) {
            return Ok(route);
        }
        let route = self.route(env)?;
        self.way = env.ip.remember(&route);
        Ok(route)
    }

    /// The path's MTU, or Ethernet's without a route.
    #[inline(never)] // For the handshake: what sends has the route itself.
    pub(super) fn path_mtu(&mut self, env: &Env) -> u32 {
        self.known_route(env).map_or(1500, |route| route.mtu)
    }

    /// Payload bytes of a full segment: what MTU and peer allow, less timestamps (Linux: `tcp_sync_mss`).
    pub(super) fn current_mss(&self, env: &Env) -> u16 {
        self.mss_within(env, self.route(env).map_or(1500, |route| route.mtu))
    }

    /// The same where the path's MTU is known.
    pub(super) fn mss_within(&self, env: &Env, mtu: u32) -> u16 {
        let v4 = self.tuple.local_ip.is_ipv4();
        let by_mtu = mtu.saturating_sub(fixed_headers(v4)).min(u32::from(self.mss_clamp));
        let options = if self.ts.ok { 12 } else { 0 };
        by_mtu
            .max(env.sysctl.tcp_min_snd_mss)
            .saturating_sub(options)
            .clamp(1, 0xffff) as u16
    }

    /// Something waits to be sent.
    pub(super) fn wants_transmit(&self) -> bool {
        self.probe_now
            || self.opening.as_ref().is_some_and(|o| o.due)
            || (self.may_send() && (self.snd.has_output() || self.rcv.ack_undecided()))
    }

    /// The sender and the ACKs are at work.
    fn may_send(&self) -> bool {
        !matches!(
            self.state,
            State::Closed | State::SynSent | State::Listen | State::TimeWait
        )
    }

    /// Nothing but an ACK is to be sent, if that.
    fn has_only_ack(&self) -> bool {
        !self.probe_now && self.opening.is_none() && !self.snd.has_output()
    }

    /// Whether an ACK leaves now; if later, its timer runs from here on.
    fn ack_now(&mut self, env: &mut Env) -> bool {
        let path = self.path();
        self.rcv.poll_ack(&mut env.rcv(), &path)
    }

    /// Writes the next segment to `buf`; with `in_place` maybe without its payload, as the second result tells.
    pub(super) fn transmit(&mut self, env: &mut Env, buf: &mut [u8], in_place: bool) -> Option<(Transmit, Left)> {
        if self.has_only_ack() && !self.ack_now(env) {
            return None;
        }
        let route = match self.known_route(env) {
            Ok(route) => route,
            Err(_) => {
                env.mib.drop(crate::DropReason::NoRoute);
                self.forget_output(env);
                return None;
            }
        };
        if route.mtu != self.pmtu {
            // Somebody else's path has told of a smaller one, or a larger one has come back (Linux: `tcp_current_mss`).
            self.pmtu = route.mtu;
            let mss = self.current_mss(env);
            self.snd.set_mss(env, mss, false);
        }
        let mut out = Out::default();
        loop {
            if !self.next_segment(env, &route, buf.len(), &mut out) {
                return None;
            }
            let left = match in_place && out.len >= IN_PLACE && self.key().is_none() && Ip::takes_parts(env, &route) {
                true => Left::Payload(out.payload(), out.len as usize),
                false => Left::Nothing,
            };
            if let Some(transmit) = self.write_segment(env, &route, buf, &out, left != Left::Nothing) {
                return Some((transmit, left));
            }
        }
    }

    /// Without a route nothing leaves; retransmission will try again.
    #[cold]
    fn forget_output(&mut self, env: &mut Env) {
        if let Some(opening) = self.opening.as_mut().filter(|o| o.due) {
            opening.on_sent(env, self.opts.user_timeout);
        }
        self.probe_now = false;
        while self.next_segment_of_sender(env, 1460, 1460, &mut Out::default()) {}
        self.rcv.on_ack_sent(&mut env.rcv());
    }

    /// Fills in the next segment, if there is one.
    #[inline]
    fn next_segment(&mut self, env: &mut Env, route: &Route, room: usize, out: &mut Out) -> bool {
        if self.opening.as_ref().is_some_and(|o| o.due) {
            return self.syn(env, out);
        }
        if !self.may_send() {
            return false;
        }
        let headers = fixed_headers(self.tuple.local_ip.is_ipv4()) + self.options_len(env);
        let mss = route.mtu.saturating_sub(headers).clamp(1, 0xffff) as u16;
        let most = match self.key() {
            // A device that cuts super-packets could not sign the pieces (Linux: `sk_gso_disable`).
            Some(_) => 0,
            None if self.keeps_cwr() => 0,
            None => route.gso_max_size.min(room as u32).saturating_sub(headers),
        };
        if self.next_segment_of_sender(env, most, mss, out) {
            return true;
        }
        let seq = if core::mem::take(&mut self.probe_now) {
            // One byte before SND.NXT, which the peer must answer (Linux: `tcp_xmit_probe_skb`).
            self.snd.una() - 1
        } else {
            if !self.ack_now(env) {
                return false;
            }
            self.snd.acceptable_seq(self.rcv.grain())
        };
        self.dataless(env, seq, TcpFlags::ACK, out);
        if self.accecn.is_some() {
            self.accurate_ecn(env, out);
        }
        true
    }

    /// The key that signs what goes to the peer (Linux: `tcp_get_current_key`).
    pub(super) fn key(&self) -> Option<&Key> {
        self.opts.keys.find(self.tuple.remote_ip)
    }

    /// Bytes of options that the next segment carries.
    fn options_len(&self, env: &Env) -> u32 {
        self.extra_options(env) + if self.ts.ok { 12 } else { 0 }
    }

    /// Bytes of options that come and go: a signature, SACK blocks and Accurate ECN (Linux: `tcp_established_options`).
    #[inline]
    pub(super) fn extra_options(&self, env: &Env) -> u32 {
        match self.opts.keys.is_empty() && self.rcv.sack_count() == 0 && self.accecn.is_none() {
            true => 0,
            false => self.some_extra_options(env),
        }
    }

    #[inline(never)] // Most segments have none.
    fn some_extra_options(&self, env: &Env) -> u32 {
        let key = self.key().map_or(0, |_| auth::OPTION_LEN);
        let sacks = self.rcv.sack_count().min(self.most_sacks());
        if self.accecn.is_some() {
            return key + self.accurate_ecn_len(env, sacks);
        }
        let sacks = match sacks {
            0 => 0,
            n => 4 + 8 * n as u32,
        };
        sacks + key
    }

    /// SACK blocks that a header has room for.
    fn most_sacks(&self) -> usize {
        match (self.ts.ok, self.key().is_some()) {
            (false, false) => 4,
            (true, false) => 3,
            (false, true) => 2,
            (true, true) => 0,
        }
    }

    #[inline]
    fn next_segment_of_sender(&mut self, env: &mut Env, max_payload: u32, mss: u16, out: &mut Out) -> bool {
        let Some(tx) = self.snd.poll(env, TxRoom { max_payload, mss }) else {
            return false;
        };
        self.dataless(env, tx.seq, TcpFlags::ACK | tx.flags, out);
        out.urgent = tx.urg_ptr;
        out.len = tx.len;
        out.gso = (tx.len > u32::from(tx.mss)).then_some(tx.mss);
        out.ect = tx.ect;
        out.again = tx.retransmit;
        if self.accecn.is_some() {
            self.accurate_ecn(env, out);
        }
        if tx.len > 0 && !tx.retransmit {
            self.rcv.on_data_sent(env.now);
        }
        true
    }

    /// A segment's header as of now: it acknowledges all that was received.
    #[inline]
    fn dataless(&mut self, env: &mut Env, seq: SeqNum, flags: TcpFlags, out: &mut Out) {
        out.timestamps = self.ts.ok.then(|| Timestamps {
            val: clock_ms(env).wrapping_add(self.ts.offset),
            ecr: self.ts.recent,
        });
        out.unusual = match self.rcv.may_sack() || self.key().is_some() {
            true => Some(self.unusual_options(out.timestamps)),
            false => None,
        };
        let window = self.rcv.select_window(&mut env.rcv());
        let ece = if self.rcv.ece() {
            TcpFlags::ECE
        } else {
            TcpFlags::default()
        };
        (out.seq, out.ack) = (seq, self.rcv.rcv_nxt());
        (out.flags, out.window, out.urgent) = (flags | ece, window, 0);
        (out.len, out.gso, out.ect, out.again) = (0, None, false, false);
        self.rcv.on_ack_sent(&mut env.rcv());
    }

    /// The options of a segment that is signed or tells what came out of order.
    #[cold]
    fn unusual_options(&mut self, timestamps: Option<Timestamps>) -> Options {
        let mut options = Options {
            timestamps,
            md5: self.key().map(|_| [0; 16]),
            ..Options::default()
        };
        if self.rcv.may_sack() {
            let sacks = self.rcv.take_sacks(self.most_sacks());
            options.sack = sacks.as_slice().iter().map(|(l, r)| (l.0, r.0)).collect();
        }
        options
    }

    #[inline(never)]
    fn syn(&mut self, env: &mut Env, out: &mut Out) -> bool {
        let (state, user_timeout) = (self.state, self.opts.user_timeout);
        let key = self.opts.keys.find(self.tuple.remote_ip);
        let Some(opening) = self.opening.as_mut() else {
            return false;
        };
        let mut options = opening.options(env, state, self.ts.offset, self.ts.recent);
        auth::make_room(&mut options, key);
        *out = Out {
            seq: opening.iss,
            ack: if state == State::SynSent {
                SeqNum(0)
            } else {
                self.rcv.rcv_nxt()
            },
            flags: opening.flags(env, state),
            window: opening.window.field(),
            urgent: 0,
            timestamps: None,
            unusual: Some(options),
            len: opening.data.into(),
            gso: None,
            ect: false,
            // A SYN-ACK counts whenever it leaves (Linux: `tcp_make_synack`).
            again: opening.first_sent.is_some() && !opening.passive,
        };
        opening.on_sent(env, user_timeout);
        true
    }

    #[inline]
    fn write_segment(
        &mut self,
        env: &mut Env,
        route: &Route,
        buf: &mut [u8],
        out: &Out,
        in_place: bool,
    ) -> Option<Transmit> {
        env.trace(&self.tuple, || {
            let mut bytes = [0; 40];
            let len = out.options().write(&mut bytes).unwrap_or(0);
            TraceKind::Sent(SegmentTrace {
                seq: out.seq,
                ack: out.ack,
                flags: out.flags,
                window: ScaledWindow(out.window),
                len: out.len,
                options: trace_options(&bytes[..len]),
            })
        });
        let segments = out.gso.map_or(1, |size| out.len.div_ceil(size.into()));
        self.segs_out = self.segs_out.saturating_add(segments);
        if !out.again {
            // RFC 4022: "excluding those containing only retransmitted octets" (Linux: `__tcp_transmit_skb`).
            env.mib.add(Counter::TcpOutSegs, segments.into());
        }
        let spec = HeaderSpec {
            src: self.tuple.local_ip,
            dst: self.tuple.remote_ip,
            protocol: protocol::TCP,
            ttl: self.opts.ttl,
            tos: self.opts.tos | if out.ect { 2 } else { 0 },
            dont_fragment: route.dont_fragment && env.sysctl.ip_no_pmtu_disc == 0,
        };
        let header = Header {
            src_port: self.tuple.local_port,
            dst_port: self.tuple.remote_port,
            seq: out.seq.0,
            ack: out.ack.0,
            flags: out.flags.0,
            window: out.window,
            urgent: out.urgent,
        };
        let len = out.len as usize;
        let left_out = if in_place { len } else { 0 };
        Ip::emit_tcp(env, buf, route, &spec, len, out.gso, left_out, |area, sum| {
            let Some(options) = &out.unusual else {
                let (head, mut summed) = header.write_usual(area, out.timestamps)?;
                summed.add(self.write_payload(out, area.get_mut(head..head + len - left_out)?, sum));
                return Some((head, summed));
            };
            let head = header.write(area, options)?;
            let (front, rest) = area.split_at_mut(head);
            let payload = rest.get_mut(..len - left_out)?;
            let of_payload = self.write_payload(out, payload, sum);
            if let Some(key) = self.key() {
                key.sign(spec.src, spec.dst, front, payload);
            }
            let mut summed = Sum::of(front);
            summed.add(of_payload);
            Some((head, summed))
        })
    }

    /// Copies a segment's payload, and sums it if asked to.
    #[inline]
    fn write_payload(&self, out: &Out, area: &mut [u8], sum: bool) -> Sum {
        if area.is_empty() {
            return Sum::new();
        }
        match sum {
            true => self.snd.copy_payload_sum(out.payload(), area),
            false => {
                self.snd.copy_payload(out.payload(), area);
                Sum::new()
            }
        }
    }
}
