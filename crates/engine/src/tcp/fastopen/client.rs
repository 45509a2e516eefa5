//! The client: data goes with the SYN if the server's cookie is known, else the SYN asks for one; what the SYN-ACK leaves
//! unacknowledged is sent again at once (RFC 7413 §4.2.2; Linux: `tcp_send_syn_data`, `tcp_rcv_fastopen_synack`).

use super::cache::TryExperimental;
use super::{Fail, mode};
use crate::env::Env;
use crate::tcp::conn::Conn;
use crate::tcp::passive::own_mss;
use crate::tcp::segment::Segment;
use estab_proto::{Counter, State};
use estab_wire::tcp::FastOpen as Cookie;

/// Room that a SYN with data leaves for options, which boxes on the way may add (Linux: MAX_TCP_OPTION_SPACE).
const OPTION_SPACE: u16 = 40;

/// What a SYN may carry.
enum Offer {
    /// Data, with the server's cookie or, where none is needed, without.
    Data(Option<Cookie>),
    /// A request for a cookie, perhaps in its experimental form.
    Request(bool),
    /// Nothing: Fast Open rests.
    Nothing,
}

impl Conn {
    /// Linux: `tcp_fastopen_cookie_check`.
    fn fast_open_offer(&mut self, env: &Env) -> (Offer, u16) {
        let entry = env.fast_open.get(self.tuple.local_ip, self.tuple.remote_ip);
        let (off, probing) = env.fast_open.is_off(env.now, &env.sysctl);
        let no_cookie = env.sysctl.tcp_fastopen & mode::CLIENT_NO_COOKIE != 0 || self.opts.fastopen_no_cookie;
        let fast_open = self.fast_open_mut();
        fast_open.probing |= probing;
        let offer = if off {
            Offer::Nothing
        } else if no_cookie {
            Offer::Data(None)
        } else if entry.cookie.is_some() {
            Offer::Data(entry.cookie)
        } else {
            fast_open.fail = Fail::CookieUnavailable;
            Offer::Request(entry.asks_experimental())
        };
        (offer, entry.mss)
    }

    /// connect(2) with TCP_FASTOPEN_CONNECT: the SYN waits for the first write if that could go with it, else it leaves
    /// and asks for a cookie (Linux: `tcp_fastopen_defer_connect`).
    pub(crate) fn fast_open_connect(&mut self, env: &Env) {
        let (offer, _) = self.fast_open_offer(env);
        match offer {
            Offer::Data(_) if self.opening.as_ref().is_some_and(|o| o.deadline.is_some()) => {}
            Offer::Data(_) => {
                self.fast_open_mut().deferred = true;
                if let Some(opening) = self.opening.as_deref_mut() {
                    opening.due = false;
                }
            }
            Offer::Request(experimental) => self.ask_for_cookie(Cookie::request(experimental)),
            Offer::Nothing => {}
        }
    }

    fn ask_for_cookie(&mut self, option: Cookie) {
        let fast_open = self.fast_open_mut();
        (fast_open.asked, fast_open.experimental) = (true, option.experimental);
        if let Some(opening) = self.opening.as_deref_mut() {
            opening.fast_open = Some(option);
        }
    }

    /// Sends the SYN, with as much of `data` as fits if it may have some; how much that is (Linux: `tcp_send_syn_data`).
    pub(crate) fn fast_open_send(&mut self, env: &mut Env, data: &[u8]) -> usize {
        let (offer, cached) = self.fast_open_offer(env);
        self.fast_open_mut().deferred = false;
        let mut taken = 0;
        match offer {
            Offer::Data(cookie) => {
                taken = data.len().min(self.syn_data_room(env, cached));
                if taken > 0 {
                    self.snd.write_with_syn(env, &data[..taken]);
                    self.fast_open_mut().syn_data = true;
                }
                if let Some(opening) = self.opening.as_deref_mut() {
                    opening.data = taken as u16;
                }
                if let Some(cookie) = cookie {
                    self.ask_for_cookie(cookie);
                }
            }
            Offer::Request(experimental) => self.ask_for_cookie(Cookie::request(experimental)),
            Offer::Nothing => {}
        }
        if let Some(opening) = self.opening.as_deref_mut() {
            // During the quiet time it waits.
            opening.due = opening.deadline.is_none();
        }
        taken
    }

    /// The MSS that a SYN announces now; a small one without a route.
    fn own_mss(&self, env: &Env) -> u16 {
        self.route(env)
            .map_or(536, |route| own_mss(env, &route, self.opts.maxseg))
    }

    /// Bytes of data that go with a SYN: the MSS the server announced last, less room for options.
    fn syn_data_room(&self, env: &Env, cached: u16) -> usize {
        let own = self.own_mss(env);
        let mss = if cached > 0 { cached.min(own) } else { own };
        mss.max(env.sysctl.tcp_min_snd_mss as u16)
            .saturating_sub(OPTION_SPACE)
            .into()
    }

    /// The SYN-ACK came: keeps its cookie and MSS, and sends the SYN's data again if the server did not take it. True if it
    /// did that: the ACK goes with the data (Linux: `tcp_rcv_fastopen_synack`).
    pub(crate) fn fast_open_synack(&mut self, env: &mut Env, segment: &Segment<'_>, repeated: bool) -> bool {
        let unacked = self.snd.syn_data_acked(env, segment.ack);
        let Some(fast_open) = self.fast_open.as_deref_mut().filter(|f| f.asked || f.syn_data) else {
            return false;
        };
        let default = if self.tuple.remote_ip.is_ipv4() { 536 } else { 1220 };
        let mss = segment.options.mss.unwrap_or(default);
        // A cookie that nobody asked for is not kept.
        let cookie = segment.options.fast_open.filter(|c| fast_open.asked && !c.is_request());
        let ignored = fast_open.asked && !repeated && segment.options.fast_open.is_none() && !fast_open.syn_data;
        let next = match (ignored, fast_open.experimental) {
            (false, _) => TryExperimental::No,
            (true, false) => TryExperimental::Now,
            (true, true) => TryExperimental::Failed,
        };
        env.fast_open
            .set(self.tuple.local_ip, self.tuple.remote_ip, mss, cookie, next);
        if unacked {
            fast_open.fail = match repeated {
                true => Fail::SynRetransmitted,
                false => Fail::DataNotAcked,
            };
            env.mib.inc(Counter::TcpExtTCPFastOpenActiveFail);
            self.snd.repeat_syn_data(env);
            return true;
        }
        fast_open.syn_data_acked = fast_open.syn_data || !segment.payload.is_empty();
        if fast_open.syn_data {
            env.mib.inc(Counter::TcpExtTCPFastOpenActive);
        }
        false
    }

    /// A retransmission timeout after `retries` others: the third in a row, or one that ends the connection, may mean that
    /// a box on the way does not like Fast Open (Linux: `tcp_fastopen_active_detect_blackhole`).
    pub(crate) fn fast_open_timeout(&mut self, env: &mut Env, retries: u8, expired: bool) {
        let syn_sent = self.state == State::SynSent;
        let Some(fast_open) = self.fast_open.as_deref_mut() else {
            return;
        };
        let used = fast_open.asked || fast_open.syn_data || fast_open.syn_data_acked;
        if used && (retries == 2 || retries < 2 && expired) {
            env.fast_open.suspect(env.now, &env.sysctl, &mut env.mib);
            if syn_sent {
                fast_open.fail = Fail::SynRetransmitted;
            }
        }
    }

    /// A smaller path MTU is known: the SYN with data was too large, so a bare one leaves at once, with the MSS that holds now
    /// (Linux: `tcp_simple_retransmit` in SYN_SENT).
    pub(crate) fn fast_open_too_big(&mut self, env: &Env) {
        let mss = self.own_mss(env);
        let syn_data = self.fast_open.as_ref().is_some_and(|f| f.syn_data);
        if let Some(opening) = self.opening.as_deref_mut() {
            opening.mss = opening.mss.min(mss);
            if syn_data && opening.first_sent.is_some() {
                opening.retries = opening.retries.saturating_add(1);
                opening.due = true;
            }
        }
    }
}
