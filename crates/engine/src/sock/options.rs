//! The options of a TCP socket, kept small: every connection carries them.

use crate::env::Env;
use crate::sysctl::{FastOpenKeys, Sysctls};
use crate::tcp::auth::Keys;
use crate::tcp::conn::Conn;
use crate::{Result, SockError, SockOption};
use alloc::sync::Arc;
use core::time::Duration;
use estab_proto::diag::CcName;

/// Options as set by the application; zero or `None` means the sysctl's or the default.
#[derive(Clone, Debug)]
pub(crate) struct SockOpts {
    pub(crate) reuse_addr: bool,
    pub(crate) reuse_port: bool,
    pub(crate) keepalive: bool,
    pub(crate) nodelay: bool,
    pub(crate) cork: bool,
    pub(crate) quickack: Option<bool>,
    pub(crate) v6only: bool,
    pub(crate) oob_inline: bool,
    pub(crate) inq: bool,
    pub(crate) fastopen_connect: bool,
    pub(crate) fastopen_no_cookie: bool,
    pub(crate) transparent: bool,
    /// IP_TTL; 0: the default.
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    /// TCP_KEEPCNT
    pub(crate) keepcnt: u8,
    /// TCP_SYNCNT
    pub(crate) syncnt: u8,
    /// TCP_DEFER_ACCEPT as a number of SYN-ACK timeouts.
    pub(crate) defer_accept: u8,
    /// TCP_DELACK_MAX_US in milliseconds.
    pub(crate) delack_max: u8,
    /// TCP_MAXSEG
    pub(crate) maxseg: u16,
    /// SO_LINGER in milliseconds; `u32::MAX` is off.
    pub(crate) linger: u32,
    /// SO_SNDBUF and SO_RCVBUF, doubled already.
    pub(crate) sndbuf: u32,
    pub(crate) rcvbuf: u32,
    /// TCP_KEEPIDLE, TCP_KEEPINTVL in seconds.
    pub(crate) keepidle: u32,
    pub(crate) keepintvl: u32,
    /// TCP_LINGER2 in seconds; -1: none.
    pub(crate) linger2: i32,
    pub(crate) window_clamp: u32,
    /// TCP_USER_TIMEOUT in milliseconds.
    pub(crate) user_timeout: u32,
    pub(crate) notsent_lowat: u32,
    /// TCP_FASTOPEN
    pub(crate) fastopen: u32,
    /// TCP_FASTOPEN_KEY
    pub(crate) fastopen_keys: Option<FastOpenKeys>,
    pub(crate) max_pacing_rate: u64,
    pub(crate) cc: Option<CcName>,
    /// TCP_MD5SIG
    pub(crate) keys: Keys,
}

impl Default for SockOpts {
    fn default() -> Self {
        SockOpts {
            reuse_addr: false,
            reuse_port: false,
            keepalive: false,
            nodelay: false,
            cork: false,
            quickack: None,
            v6only: false,
            oob_inline: false,
            inq: false,
            fastopen_connect: false,
            fastopen_no_cookie: false,
            transparent: false,
            ttl: 0,
            tos: 0,
            keepcnt: 0,
            syncnt: 0,
            defer_accept: 0,
            delack_max: 0,
            maxseg: 0,
            linger: u32::MAX,
            sndbuf: 0,
            rcvbuf: 0,
            keepidle: 0,
            keepintvl: 0,
            linger2: 0,
            window_clamp: 0,
            user_timeout: 0,
            notsent_lowat: 0,
            fastopen: 0,
            fastopen_keys: None,
            max_pacing_rate: u64::MAX,
            cc: None,
            keys: Keys::default(),
        }
    }
}

/// The buffer sizes of net.core that bound SO_SNDBUF and SO_RCVBUF.
#[derive(Clone, Copy)]
pub(crate) struct BufLimits {
    pub(crate) wmem_max: u32,
    pub(crate) rmem_max: u32,
}

/// SOCK_MIN_SNDBUF and SOCK_MIN_RCVBUF of Linux on 64 bits.
const MIN_SNDBUF: u32 = 4608;
const MIN_RCVBUF: u32 = 2304;
/// MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL (include/net/tcp.h).
const MAX_KEEP_SECONDS: u64 = 32767;
/// MAX_TCP_WINDOW: the largest MSS.
const MAX_MSS: u16 = 32767;

fn seconds(d: Duration) -> Result<u32> {
    match d.as_secs() {
        s @ 1..=MAX_KEEP_SECONDS => Ok(s as u32),
        _ => Err(SockError::EINVAL),
    }
}

/// Seconds as a number of SYN-ACK timeouts, rounded up (Linux: `secs_to_retrans`): 1 s, then doubling up to `rto_max`.
fn secs_to_retrans(seconds: u32, rto_max: u32) -> u8 {
    let (mut n, mut period, mut timeout) = (0u8, 1u32, 1u32);
    if seconds > 0 {
        n = 1;
        while seconds > period && n < 255 {
            n += 1;
            timeout = (timeout << 1).min(rto_max);
            period = period.saturating_add(timeout);
        }
    }
    n
}

/// The inverse of [`secs_to_retrans`] (Linux: `retrans_to_secs`).
fn retrans_to_secs(n: u8, rto_max: u32) -> u32 {
    let mut period = u32::from(n > 0);
    let mut timeout = 1u32;
    for _ in 1..n {
        timeout = (timeout << 1).min(rto_max);
        period = period.saturating_add(timeout);
    }
    period
}

impl SockOpts {
    /// Takes an option (setsockopt(2)); EINVAL outside Linux's ranges.
    pub(crate) fn set(&mut self, option: SockOption, limits: BufLimits) -> Result<()> {
        match option {
            SockOption::ReuseAddr(on) => self.reuse_addr = on,
            SockOption::ReusePort(on) => self.reuse_port = on,
            SockOption::KeepAlive(on) => self.keepalive = on,
            SockOption::Linger(time) => {
                self.linger = time.map_or(u32::MAX, |d| u32::try_from(d.as_millis()).unwrap_or(u32::MAX - 1));
            }
            SockOption::SndBuf(n) => self.sndbuf = n.min(limits.wmem_max).saturating_mul(2).max(MIN_SNDBUF),
            SockOption::RcvBuf(n) => self.rcvbuf = n.min(limits.rmem_max).saturating_mul(2).max(MIN_RCVBUF),
            SockOption::OobInline(on) => self.oob_inline = on,
            SockOption::MaxPacingRate(rate) => self.max_pacing_rate = rate,
            SockOption::V6Only(on) => self.v6only = on,
            SockOption::Ttl(0) => return Err(SockError::EINVAL),
            SockOption::Ttl(ttl) => self.ttl = ttl,
            // The low two bits are ECN's (INET_ECN_MASK).
            SockOption::Tos(tos) => self.tos = tos & !3,
            SockOption::NoDelay(on) => self.nodelay = on,
            SockOption::Cork(on) => self.cork = on,
            SockOption::MaxSeg(mss) => match mss {
                0 | 88..=MAX_MSS => self.maxseg = mss,
                _ => return Err(SockError::EINVAL),
            },
            SockOption::KeepIdle(d) => self.keepidle = seconds(d)?,
            SockOption::KeepIntvl(d) => self.keepintvl = seconds(d)?,
            SockOption::KeepCnt(n @ 1..=127) => self.keepcnt = n,
            SockOption::KeepCnt(_) => return Err(SockError::EINVAL),
            SockOption::SynCnt(n @ 1..=127) => self.syncnt = n,
            SockOption::SynCnt(_) => return Err(SockError::EINVAL),
            // Linux: above TCP_FIN_TIMEOUT_MAX (120 s) the default serves.
            SockOption::Linger2(n) => {
                self.linger2 = if n < 0 {
                    -1
                } else if n > 120 {
                    0
                } else {
                    n
                }
            }
            SockOption::DeferAccept(s) => self.defer_accept = secs_to_retrans(s, 120),
            SockOption::WindowClamp(n) => self.window_clamp = n,
            SockOption::QuickAck(on) => self.quickack = Some(on),
            // Linux: from TCP_TIMEOUT_MIN, two ticks, to TCP_DELACK_MAX.
            SockOption::DelackMax(d) => match d.as_micros().div_ceil(1000) {
                ms @ 2..=200 => self.delack_max = ms as u8,
                _ => return Err(SockError::EINVAL),
            },
            SockOption::Congestion(name) => self.cc = Some(name),
            SockOption::UserTimeout(d) => {
                self.user_timeout = u32::try_from(d.as_millis())
                    .ok()
                    .filter(|ms| *ms <= i32::MAX as u32)
                    .ok_or(SockError::EINVAL)?;
            }
            SockOption::NotsentLowat(n) => self.notsent_lowat = n,
            SockOption::FastOpen(n) => self.fastopen = n,
            SockOption::FastOpenConnect(on) => self.fastopen_connect = on,
            SockOption::FastOpenNoCookie(on) => self.fastopen_no_cookie = on,
            SockOption::FastOpenKey(keys) => self.fastopen_keys = keys.primary.map(|_| keys),
            SockOption::Inq(on) => self.inq = on,
            SockOption::Transparent(on) => self.transparent = on,
        }
        Ok(())
    }

    /// The option of the same name as `like`, with the value it has here (getsockopt(2)); what is left to the
    /// sysctls or to the connection reads as zero.
    pub(crate) fn get(&self, like: SockOption) -> SockOption {
        let secs = |n: u32| Duration::from_secs(n.into());
        match like {
            SockOption::ReuseAddr(_) => SockOption::ReuseAddr(self.reuse_addr),
            SockOption::ReusePort(_) => SockOption::ReusePort(self.reuse_port),
            SockOption::KeepAlive(_) => SockOption::KeepAlive(self.keepalive),
            SockOption::Linger(_) => SockOption::Linger(self.linger_time()),
            SockOption::SndBuf(_) => SockOption::SndBuf(self.sndbuf),
            SockOption::RcvBuf(_) => SockOption::RcvBuf(self.rcvbuf),
            SockOption::OobInline(_) => SockOption::OobInline(self.oob_inline),
            SockOption::MaxPacingRate(_) => SockOption::MaxPacingRate(self.max_pacing_rate),
            SockOption::V6Only(_) => SockOption::V6Only(self.v6only),
            SockOption::Ttl(_) => SockOption::Ttl(self.ttl),
            SockOption::Tos(_) => SockOption::Tos(self.tos),
            SockOption::NoDelay(_) => SockOption::NoDelay(self.nodelay),
            SockOption::Cork(_) => SockOption::Cork(self.cork),
            SockOption::MaxSeg(_) => SockOption::MaxSeg(self.maxseg),
            SockOption::KeepIdle(_) => SockOption::KeepIdle(secs(self.keepidle)),
            SockOption::KeepIntvl(_) => SockOption::KeepIntvl(secs(self.keepintvl)),
            SockOption::KeepCnt(_) => SockOption::KeepCnt(self.keepcnt),
            SockOption::SynCnt(_) => SockOption::SynCnt(self.syncnt),
            SockOption::Linger2(_) => SockOption::Linger2(self.linger2),
            SockOption::DeferAccept(_) => SockOption::DeferAccept(retrans_to_secs(self.defer_accept, 120)),
            SockOption::WindowClamp(_) => SockOption::WindowClamp(self.window_clamp),
            SockOption::QuickAck(_) => SockOption::QuickAck(self.quickack.unwrap_or(true)),
            SockOption::DelackMax(_) => SockOption::DelackMax(Duration::from_millis(self.delack_max.into())),
            SockOption::Congestion(_) => SockOption::Congestion(self.cc.unwrap_or_default()),
            SockOption::UserTimeout(_) => SockOption::UserTimeout(Duration::from_millis(self.user_timeout.into())),
            SockOption::NotsentLowat(_) => SockOption::NotsentLowat(self.notsent_lowat),
            SockOption::FastOpen(_) => SockOption::FastOpen(self.fastopen),
            SockOption::FastOpenConnect(_) => SockOption::FastOpenConnect(self.fastopen_connect),
            SockOption::FastOpenNoCookie(_) => SockOption::FastOpenNoCookie(self.fastopen_no_cookie),
            SockOption::FastOpenKey(_) => SockOption::FastOpenKey(self.fastopen_keys.unwrap_or_default()),
            SockOption::Inq(_) => SockOption::Inq(self.inq),
            SockOption::Transparent(_) => SockOption::Transparent(self.transparent),
        }
    }

    /// There are keys among them.
    pub(crate) fn hold_secrets(&self) -> bool {
        !self.keys.is_empty() || self.fastopen_keys.is_some()
    }

    /// How long a delayed ACK may wait (Linux: TCP_DELACK_MAX unless TCP_DELACK_MAX_US says less).
    pub(crate) fn delack_max(&self) -> Duration {
        Duration::from_millis(match self.delack_max {
            0 => 200,
            ms => ms.into(),
        })
    }

    /// SO_LINGER.
    pub(crate) fn linger_time(&self) -> Option<Duration> {
        (self.linger != u32::MAX).then(|| Duration::from_millis(self.linger.into()))
    }
}

impl SockOpts {
    /// The option of the same name as `like`, the sysctls' values standing in for what was not set.
    pub(crate) fn get_default(&self, sysctl: &Sysctls, like: SockOption) -> SockOption {
        let secs = |n: u32| Duration::from_secs(n.into());
        match self.get(like) {
            SockOption::SndBuf(0) => SockOption::SndBuf(sysctl.tcp_wmem[1] as u32),
            SockOption::RcvBuf(0) => SockOption::RcvBuf(sysctl.tcp_rmem[1] as u32),
            SockOption::Ttl(0) => SockOption::Ttl(sysctl.ip_default_ttl as u8),
            SockOption::KeepIdle(Duration::ZERO) => SockOption::KeepIdle(secs(sysctl.tcp_keepalive_time)),
            SockOption::KeepIntvl(Duration::ZERO) => SockOption::KeepIntvl(secs(sysctl.tcp_keepalive_intvl)),
            SockOption::KeepCnt(0) => SockOption::KeepCnt(sysctl.tcp_keepalive_probes as u8),
            SockOption::SynCnt(0) => SockOption::SynCnt(sysctl.tcp_syn_retries as u8),
            SockOption::Linger2(0) => SockOption::Linger2(sysctl.tcp_fin_timeout as i32),
            SockOption::Congestion(name) if name == CcName::default() => {
                SockOption::Congestion(sysctl.tcp_congestion_control)
            }
            SockOption::DelackMax(Duration::ZERO) => SockOption::DelackMax(self.delack_max()),
            SockOption::MaxSeg(0) => SockOption::MaxSeg(536),
            SockOption::FastOpenKey(keys) if keys.primary.is_none() => SockOption::FastOpenKey(sysctl.tcp_fastopen_key),
            other => other,
        }
    }
}

impl Conn {
    /// setsockopt(2) on a connection: takes effect at once.
    pub(crate) fn set_option(&mut self, env: &mut Env, option: SockOption, limits: BufLimits) -> Result<()> {
        if let SockOption::Congestion(name) = option
            && !self.snd.set_cc(env, name)
        {
            return Err(SockError::EINVAL);
        }
        Arc::make_mut(&mut self.opts).set(option, limits)?;
        match option {
            SockOption::NoDelay(on) => self.snd.set_nodelay(env, on),
            SockOption::Cork(on) => self.snd.set_cork(env, on),
            SockOption::SndBuf(_) => {
                self.snd.set_sndbuf(env, self.opts.sndbuf);
                self.notify(env);
            }
            SockOption::RcvBuf(_) => self.rcv.set_rcvbuf(self.opts.rcvbuf),
            SockOption::NotsentLowat(bytes) => {
                self.snd.set_notsent_lowat(env, bytes);
                self.notify(env);
            }
            SockOption::MaxPacingRate(rate) => self.snd.set_max_pacing_rate(rate),
            SockOption::WindowClamp(bytes) => self.rcv.set_window_clamp(bytes),
            SockOption::OobInline(on) => self.rcv.set_oob_inline(on),
            SockOption::QuickAck(on) => {
                let open = matches!(
                    self.state,
                    estab_proto::State::Established | estab_proto::State::CloseWait
                );
                self.rcv.set_quickack(&mut env.rcv(), i32::from(on), open);
            }
            SockOption::UserTimeout(_) => self.snd.set_user_timeout(self.opts.user_timeout),
            SockOption::KeepAlive(_) | SockOption::KeepIdle(_) => self.keepalive_changed(env),
            _ => {}
        }
        Ok(())
    }

    /// What was set before the handshake made sender and receiver.
    pub(crate) fn apply_options(&mut self, env: &mut Env) {
        self.make_room_for_options(env);
        if self.opts.nodelay {
            self.snd.set_nodelay(env, true);
        }
        if self.opts.cork {
            self.snd.set_cork(env, true);
        }
        self.snd.set_user_timeout(self.opts.user_timeout);
        if self.opts.notsent_lowat > 0 {
            self.snd.set_notsent_lowat(env, self.opts.notsent_lowat);
        }
        if self.opts.max_pacing_rate != u64::MAX {
            self.snd.set_max_pacing_rate(self.opts.max_pacing_rate);
        }
    }

    /// getsockopt(2) on a connection.
    pub(crate) fn option(&self, env: &Env, like: SockOption) -> SockOption {
        match self.opts.get_default(&env.sysctl, like) {
            SockOption::SndBuf(_) => SockOption::SndBuf(self.snd.sndbuf()),
            SockOption::RcvBuf(_) => SockOption::RcvBuf(self.rcv.rmem().1),
            SockOption::MaxSeg(_) => SockOption::MaxSeg(self.snd.mss()),
            SockOption::QuickAck(_) => SockOption::QuickAck(self.rcv.quickack(&env.sysctl)),
            SockOption::Congestion(_) => SockOption::Congestion(self.snd.cc_name()),
            other => other,
        }
    }
}
