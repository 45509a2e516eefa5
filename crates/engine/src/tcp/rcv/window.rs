//! The window we offer (RFC 9293 §3.8.6, RFC 7323 §2), and what the buffer behind it is charged.

use super::*;

/// 256ths of the buffer taken to be payload before any segment has been seen (Linux: TCP_DEFAULT_SCALING_RATIO).
pub(super) const DEFAULT_SCALING_RATIO: u8 = 128;
/// The least SO_RCVBUF (Linux: SOCK_MIN_RCVBUF).
const MIN_RCVBUF: u32 = 2304;
/// What a packet is charged against SO_RCVBUF: what Linux's buffer for it takes (`skb->truesize`), measured on 6.18 over a
/// TUN: 2304 bytes for a full segment of 1460. The queue itself takes little more than the payload, but windows, and
/// programs that set SO_RCVBUF, are tuned to these charges.
pub(super) fn truesize(payload: usize) -> u32 {
    const DESCRIPTOR: u32 = 256;
    DESCRIPTOR + block(payload) + (payload as u32).saturating_sub(PAYLOAD_OF_PAGE).next_multiple_of(PAGE)
}

const PAGE: u32 = 4096;
/// What a block holds besides payload: room ahead, IP and TCP headers, the end's bookkeeping.
const BLOCK_OVERHEAD: u32 = 64 + 40 + 320;
/// The payload that the largest block takes; the rest lies in pages of its own.
const PAYLOAD_OF_PAGE: u32 = PAGE - BLOCK_OVERHEAD;

/// The memory block in which a packet, or its head, lies.
fn block(payload: usize) -> u32 {
    let size = (payload as u32).saturating_add(BLOCK_OVERHEAD);
    [576, 1024, 2048]
        .into_iter()
        .find(|block| size <= *block)
        .unwrap_or(PAGE)
}

/// The window offered in a SYN or SYN-ACK, kept by whoever sends it until the connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct InitialWindow {
    /// The window in bytes; a SYN's field, which is never scaled, says at most 65535 of it ([`Self::field`]).
    pub(crate) rcv_wnd: u32,
    /// The most that can ever be advertised.
    pub(crate) clamp: u32,
    /// The scale to offer.
    pub(crate) scale: WindowScale,
}

impl InitialWindow {
    /// Chooses it (Linux: `tcp_select_initial_window`). `mss` is the MSS we announce, less 12 on a SYN-ACK with timestamps;
    /// `clamp` is TCP_WINDOW_CLAMP or 0; `locked`: SO_RCVBUF set `rcvbuf`.
    pub(crate) fn select(
        sysctl: &Sysctls,
        rcvbuf: u32,
        locked: bool,
        mss: u16,
        clamp: u32,
        wscale_ok: bool,
    ) -> InitialWindow {
        let full = win_from_space(rcvbuf, DEFAULT_SCALING_RATIO);
        let clamp = match clamp {
            0 if locked => full,
            0 => 0xffff << WindowScale::MAX.bits(),
            clamp if locked => clamp.min(full),
            clamp => clamp,
        };
        let mut space = full.min(clamp);
        let mss = u32::from(mss);
        if mss > 0 && space > mss {
            space -= space % mss;
        }
        let rcv_wnd = if sysctl.tcp_workaround_signed_windows != 0 {
            space.min(32767)
        } else {
            space
        };
        let mut scale = WindowScale::default();
        if wscale_ok {
            let most = space
                .max(sysctl.tcp_rmem[2] as u32)
                .max(sysctl.rmem_max)
                .min(clamp)
                .max(1);
            scale = WindowScale::new(most.ilog2().saturating_sub(15) as u8);
        }
        InitialWindow {
            rcv_wnd,
            clamp: clamp.min(0xffff << scale.bits()),
            scale,
        }
    }

    /// The window field of the SYN or SYN-ACK.
    pub(crate) fn field(&self) -> u16 {
        self.rcv_wnd.min(0xffff) as u16
    }
}

fn win_from_space(space: u32, ratio: u8) -> u32 {
    ((u64::from(space) * u64::from(ratio)) >> 8) as u32
}

fn align(window: u32, scale: WindowScale) -> u32 {
    window.next_multiple_of(1 << scale.bits())
}

impl Receiver {
    /// Linux: `tcp_win_from_space`.
    pub(super) fn win_from_space(&self, space: u32) -> u32 {
        win_from_space(space, self.scaling_ratio)
    }

    /// Linux: `tcp_space_from_win`.
    pub(super) fn space_from_win(&self, window: u64) -> u64 {
        (window << 8) / u64::from(self.scaling_ratio.max(1))
    }

    /// The window that the free part of the buffer is good for (Linux: `tcp_space`).
    fn space_left(&self) -> u32 {
        self.win_from_space(self.rcvbuf.saturating_sub(self.charged))
    }

    /// The window that the whole buffer is good for (Linux: `tcp_full_space`).
    fn full_space(&self) -> u32 {
        self.win_from_space(self.rcvbuf)
    }

    /// Linux: `tcp_init_buffer_space`.
    pub(super) fn init_buffer_space(&mut self, cx: &mut Cx) {
        let (app_win, most, advmss) = (cx.sysctl.tcp_app_win, self.full_space(), u32::from(self.advmss));
        if self.window_clamp >= most {
            self.window_clamp = most;
            if app_win != 0 && most > 4 * advmss {
                self.window_clamp = (most - most.checked_shr(app_win).unwrap_or(0)).max(4 * advmss);
            }
        }
        // Room for one segment stays in reserve.
        if app_win != 0 && self.window_clamp > 2 * advmss && self.window_clamp + advmss > most {
            self.window_clamp = (2 * advmss).max(most.saturating_sub(advmss));
        }
        self.rcv_ssthresh = self.rcv_ssthresh.min(self.window_clamp);
        self.space = self.rcv_ssthresh.min(self.rcv_wnd).min(10 * advmss);
    }

    /// The window for a segment that leaves now, in bytes and as its field; it is what the peer will hold us to, so the
    /// segment must leave (Linux: `tcp_select_window`).
    pub(crate) fn select_window(&mut self, cx: &mut Cx) -> u16 {
        let old = self.rcv_wnd;
        self.rcv_wnd = if self.pending & delack::ACK_NOMEM != 0 {
            0
        } else {
            let (current, mut new) = (self.receive_window(), self.window_wanted(cx));
            let may_shrink = cx.sysctl.tcp_shrink_window != 0 && self.wscale.bits() > 0;
            if new < current && !may_shrink {
                // RFC 9293 §3.8.6: the right edge does not move left.
                if new == 0 {
                    cx.mib.inc(Counter::TcpExtTCPWantZeroWindowAdv);
                }
                new = align(current, self.wscale);
            }
            new
        };
        self.rcv_wup = self.rcv_nxt;
        let most = match self.wscale.bits() {
            0 if cx.sysctl.tcp_workaround_signed_windows != 0 => 32767,
            scale => 0xffff << scale,
        };
        let field = (self.rcv_wnd.min(most) >> self.wscale.bits()) as u16;
        if field == 0 && old != 0 {
            cx.mib.inc(Counter::TcpExtTCPToZeroWindowAdv);
        } else if field != 0 && old == 0 {
            cx.mib.inc(Counter::TcpExtTCPFromZeroWindowAdv);
        }
        field
    }

    /// The window the buffer allows, free of silly windows (RFC 9293 §3.8.6.2.2, Linux: `__tcp_select_window`).
    pub(super) fn window_wanted(&mut self, cx: &Cx) -> u32 {
        let allowed = self.full_space();
        let full = self.window_clamp.min(allowed);
        let mss = u32::from(self.rcv_mss).min(full);
        if mss == 0 {
            return 0;
        }
        let scale = self.wscale.bits();
        let shrink = cx.sysctl.tcp_shrink_window != 0 && scale > 0;
        let mut free = self.space_left();
        if shrink {
            free = free >> scale << scale;
        }
        if free < full / 2 {
            self.quick = 0;
            if cx.memory != Memory::Plenty {
                self.adjust_ssthresh(4 * u32::from(self.advmss));
            }
            free = free >> scale << scale;
            if free < allowed / 16 || free < mss || (shrink && free < 1 << scale) {
                return 0;
            }
        }
        if shrink {
            return if free > self.rcv_ssthresh {
                align(self.rcv_ssthresh, self.wscale)
            } else {
                free
            };
        }
        free = free.min(self.rcv_ssthresh);
        if scale > 0 {
            // Rounded up, so that scaling does not turn a small window into none.
            return align(free, self.wscale);
        }
        let window = self.rcv_wnd;
        if window + mss <= free || window > free {
            free - free % mss
        } else if mss == full && free > window + full / 2 {
            free
        } else {
            window
        }
    }

    /// Offers more of the buffer as data arrives that uses it well (Linux: `tcp_grow_window`).
    pub(super) fn grow_window(&mut self, cx: &Cx, payload: usize) {
        let Some(room) = self
            .window_clamp
            .min(self.space_left())
            .checked_sub(self.rcv_ssthresh)
            .filter(|room| *room > 0)
        else {
            return;
        };
        if cx.memory != Memory::Plenty {
            return self.adjust_ssthresh(4 * u32::from(self.advmss));
        }
        let (len, truesize) = (payload as u32, truesize(payload));
        let step = if self.win_from_space(truesize) <= len {
            2 * u32::from(self.advmss)
        } else {
            self.slow_growth(cx, len, truesize)
        };
        if step > 0 {
            self.rcv_ssthresh += room.min(step.max(2 * len));
            self.quick |= 1;
        }
    }

    /// Small segments may fill the smaller windows only (Linux: `__tcp_grow_window`).
    fn slow_growth(&self, cx: &Cx, len: u32, truesize: u32) -> u32 {
        let mut truesize = self.win_from_space(truesize) / 2;
        let mut window = self.win_from_space(cx.sysctl.tcp_rmem[2] as u32) / 2;
        while self.rcv_ssthresh <= window {
            if truesize <= len {
                return 2 * u32::from(self.rcv_mss);
            }
            (truesize, window) = (truesize / 2, window / 2);
        }
        0
    }

    /// Linux: `__tcp_adjust_rcv_ssthresh`.
    pub(super) fn adjust_ssthresh(&mut self, to: u32) {
        self.rcv_ssthresh = self.rcv_ssthresh.min(to);
    }

    /// TCP_WINDOW_CLAMP on a connection (Linux: `tcp_set_window_clamp`).
    pub(crate) fn set_window_clamp(&mut self, bytes: u32) {
        let (old, new) = (self.window_clamp, bytes.max(MIN_RCVBUF / 2));
        self.window_clamp = new;
        if new < old {
            self.adjust_ssthresh(new);
        } else {
            self.rcv_ssthresh = self.rcv_ssthresh.max(self.rcv_wnd.min(new));
        }
    }

    /// SO_RCVBUF, doubled already; ends autotuning.
    pub(crate) fn set_rcvbuf(&mut self, bytes: u32) {
        self.rcvbuf = bytes.max(MIN_RCVBUF);
        self.flags.set(Flags::RCVBUF_LOCKED, true);
    }

    /// Charges a packet queued in order, of which the first `old` bytes were there before; what fits into the last one's
    /// block costs nothing (Linux: `tcp_try_coalesce`).
    pub(super) fn charge_in_order(&mut self, payload: usize, old: usize) {
        if payload <= old {
            return;
        }
        if let Some(left) = usize::from(self.tailroom).checked_sub(payload).filter(|_| old == 0) {
            self.tailroom = left as u16;
            return;
        }
        self.charge(payload);
        self.tailroom = (block(payload) - BLOCK_OVERHEAD).saturating_sub(payload as u32) as u16;
    }

    /// Charges a packet.
    pub(super) fn charge(&mut self, payload: usize) {
        self.charged = self.charged.saturating_add(truesize(payload));
    }

    /// Gives back the share of `n` of `held` bytes.
    pub(super) fn uncharge(&mut self, n: usize, held: usize) {
        self.charged = match held.checked_sub(n) {
            None | Some(0) => 0,
            Some(left) => (u64::from(self.charged) * left as u64 / held as u64) as u32,
        };
    }

    /// Payload bytes held, in order and out of order.
    pub(super) fn held(&self) -> usize {
        self.queue.len() + self.ofo.as_ref().map_or(0, |ofo| ofo.bytes())
    }

    /// Whether another packet, which begins at `seq`, may be queued; squeezes and prunes if that helps. The limit may be
    /// passed by one packet (Linux: `tcp_try_rmem_schedule`, `tcp_prune_queue`).
    pub(super) fn make_room(&mut self, cx: &mut Cx, seq: SeqNum) -> bool {
        if cx.memory == Memory::Exhausted {
            return false;
        }
        if self.charged <= self.rcvbuf {
            return true;
        }
        cx.mib.inc(Counter::TcpExtPruneCalled);
        self.clamp_window(cx);
        if self.charged <= self.rcvbuf {
            return true;
        }
        // Squeezed together, packets cost little more than their payload (Linux: `tcp_collapse`: 3776 bytes a page).
        let squeezed = (self.held() as u64 * 4352 / 3776) as u32;
        if squeezed < self.charged {
            self.charged = squeezed;
            self.tailroom = 0;
            cx.mib.inc(Counter::TcpExtTCPRcvCollapsed);
        }
        if self.charged > self.rcvbuf {
            self.prune_ofo(cx, seq);
        }
        let fits = self.charged <= self.rcvbuf;
        if !fits {
            cx.mib.inc(Counter::TcpExtRcvPruned);
        }
        fits
    }

    /// The buffer was too small for the window we offered (Linux: `tcp_clamp_window`).
    fn clamp_window(&mut self, cx: &Cx) {
        self.quick = 0;
        let most = cx.sysctl.tcp_rmem[2] as u32;
        if self.rcvbuf < most && !self.flags.has(Flags::RCVBUF_LOCKED) && cx.memory == Memory::Plenty {
            self.rcvbuf = self.charged.min(most).max(self.rcvbuf);
        }
        if self.charged > self.rcvbuf {
            self.rcv_ssthresh = self.window_clamp.min(2 * u32::from(self.advmss));
        }
    }
}
