//! setsockopt(2) and getsockopt(2): Linux's numbers, sizes and errors.

use crate::calls::{self, Errno, Result};
use crate::{md5sig, tcp_info};
use estab_engine::proto::State;
use estab_engine::proto::diag::CcName;
use estab_engine::{FastOpenKeys, SockOption as O};
use std::time::Duration;

const TCP_CC_INFO: i32 = 26;
const TCP_FASTOPEN_CONNECT: i32 = 30;
const TCP_FASTOPEN_KEY: i32 = 33;
const TCP_FASTOPEN_NO_COOKIE: i32 = 34;
const TCP_INQ: i32 = 36;
const TCP_DELACK_MAX_US: i32 = 46;
const SO_MAX_PACING_RATE: i32 = 47;
const SO_MEMINFO: i32 = 55;
const SO_ZEROCOPY: i32 = 60;

/// What an integer option becomes in the engine.
fn integer(level: i32, name: i32, v: i32) -> Option<Result<O>> {
    let on = v != 0;
    let positive = |v: i32| u32::try_from(v).map_err(|_| Errno(libc::EINVAL));
    let seconds = |v: i32| positive(v).map(|s| Duration::from_secs(s.into()));
    let byte = |v: i32| u8::try_from(v).map_err(|_| Errno(libc::EINVAL));
    Some(match (level, name) {
        (libc::SOL_SOCKET, libc::SO_REUSEADDR) => Ok(O::ReuseAddr(on)),
        (libc::SOL_SOCKET, libc::SO_REUSEPORT) => Ok(O::ReusePort(on)),
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE) => Ok(O::KeepAlive(on)),
        // Linux takes negative sizes for huge ones, which the limits then cut.
        (libc::SOL_SOCKET, libc::SO_SNDBUF | libc::SO_SNDBUFFORCE) => Ok(O::SndBuf(v as u32)),
        (libc::SOL_SOCKET, libc::SO_RCVBUF | libc::SO_RCVBUFFORCE) => Ok(O::RcvBuf(v as u32)),
        (libc::SOL_SOCKET, libc::SO_OOBINLINE) => Ok(O::OobInline(on)),
        (libc::SOL_SOCKET, SO_MAX_PACING_RATE) => Ok(O::MaxPacingRate(v as u32 as u64)),
        (libc::IPPROTO_IP, libc::IP_TTL) if v == -1 => Ok(O::Ttl(64)),
        (libc::IPPROTO_IP, libc::IP_TTL) => byte(v).map(O::Ttl),
        (libc::IPPROTO_IP, libc::IP_TOS) => Ok(O::Tos(v as u8)),
        (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY) => Ok(O::V6Only(on)),
        (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS) => byte(if v == -1 { 64 } else { v }).map(O::Ttl),
        (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => Ok(O::Tos(v as u8)),
        (libc::IPPROTO_TCP, libc::TCP_NODELAY) => Ok(O::NoDelay(on)),
        (libc::IPPROTO_TCP, libc::TCP_CORK) => Ok(O::Cork(on)),
        (libc::IPPROTO_TCP, libc::TCP_MAXSEG) => u16::try_from(v).map(O::MaxSeg).map_err(|_| Errno(libc::EINVAL)),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE) => seconds(v).map(O::KeepIdle),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL) => seconds(v).map(O::KeepIntvl),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT) => byte(v).map(O::KeepCnt),
        (libc::IPPROTO_TCP, libc::TCP_SYNCNT) => byte(v).map(O::SynCnt),
        (libc::IPPROTO_TCP, libc::TCP_LINGER2) => Ok(O::Linger2(v)),
        (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT) => Ok(O::DeferAccept(v.max(0) as u32)),
        (libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP) => positive(v).map(O::WindowClamp),
        (libc::IPPROTO_TCP, libc::TCP_QUICKACK) => Ok(O::QuickAck(on)),
        (libc::IPPROTO_TCP, TCP_DELACK_MAX_US) => positive(v).map(|us| O::DelackMax(Duration::from_micros(us.into()))),
        (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT) => {
            positive(v).map(|ms| O::UserTimeout(Duration::from_millis(ms.into())))
        }
        (libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT) => Ok(O::NotsentLowat(v as u32)),
        (libc::IPPROTO_TCP, libc::TCP_FASTOPEN) => positive(v).map(O::FastOpen),
        (libc::IPPROTO_TCP, TCP_FASTOPEN_CONNECT) if (0..=1).contains(&v) => Ok(O::FastOpenConnect(on)),
        (libc::IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE) if (0..=1).contains(&v) => Ok(O::FastOpenNoCookie(on)),
        (libc::IPPROTO_TCP, TCP_FASTOPEN_CONNECT | TCP_FASTOPEN_NO_COOKIE) => Err(Errno(libc::EINVAL)),
        (libc::IPPROTO_TCP, TCP_INQ) if (0..=1).contains(&v) => Ok(O::Inq(on)),
        (libc::IPPROTO_TCP, TCP_INQ) => Err(Errno(libc::EINVAL)),
        _ => return None,
    })
}

/// The engine's value of an option as the integer Linux gives.
fn as_integer(option: O) -> i32 {
    let secs = |d: Duration| d.as_secs() as i32;
    match option {
        O::ReuseAddr(on) | O::ReusePort(on) | O::KeepAlive(on) | O::OobInline(on) | O::V6Only(on) => i32::from(on),
        O::NoDelay(on) | O::Cork(on) | O::QuickAck(on) | O::FastOpenConnect(on) | O::Inq(on) => i32::from(on),
        O::Transparent(on) | O::FastOpenNoCookie(on) => i32::from(on),
        O::Linger(time) => time.map_or(-1, secs),
        O::SndBuf(n) | O::RcvBuf(n) | O::DeferAccept(n) | O::WindowClamp(n) | O::NotsentLowat(n) | O::FastOpen(n) => {
            n as i32
        }
        O::MaxPacingRate(rate) => u32::try_from(rate).unwrap_or(u32::MAX) as i32,
        O::Ttl(n) | O::Tos(n) | O::KeepCnt(n) | O::SynCnt(n) => n.into(),
        O::MaxSeg(n) => n.into(),
        O::KeepIdle(d) | O::KeepIntvl(d) => secs(d),
        O::Linger2(n) => n,
        O::UserTimeout(d) => d.as_millis() as i32,
        O::DelackMax(d) => d.as_micros() as i32,
        O::Congestion(_) | O::FastOpenKey(_) => 0,
    }
}

/// SO_RCVTIMEO and SO_SNDTIMEO: `struct timeval`, of which 0 is for ever (Linux: `sock_set_timeout`).
fn timeval(value: &[u8]) -> Result<Option<Duration>> {
    let word = |at: usize| {
        value
            .get(at..at + 8)
            .and_then(|b| b.try_into().ok())
            .map(i64::from_ne_bytes)
    };
    let (Some(seconds), Some(micros)) = (word(0), word(8)) else {
        return Err(Errno(libc::EINVAL));
    };
    if !(0..1_000_000).contains(&micros) {
        return Err(Errno(libc::EDOM));
    }
    let whole = Duration::from_secs(seconds.max(0) as u64);
    let time = whole + Duration::from_micros(if seconds < 0 { 0 } else { micros as u64 });
    // A negative time doesn't wait at all.
    Ok((!time.is_zero() || seconds < 0).then_some(time))
}

/// setsockopt(2); `value` is the option's bytes.
pub(crate) fn set(fd: i32, level: i32, name: i32, value: &[u8]) -> Result<()> {
    let word = |at: usize| {
        value
            .get(at..at + 4)
            .and_then(|b| b.try_into().ok())
            .map(i32::from_ne_bytes)
    };
    match (level, name) {
        (libc::IPPROTO_TCP, libc::TCP_CONGESTION) => {
            let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
            let text = std::str::from_utf8(&value[..end]).map_err(|_| Errno(libc::ENOENT))?;
            return calls::set(fd, O::Congestion(CcName::new(text)));
        }
        (libc::IPPROTO_TCP, TCP_FASTOPEN_KEY) => {
            // One key, or two: the second only proves cookies.
            let (primary, backup) = match value.len() {
                16 => (value.first_chunk(), None),
                32 => (value.first_chunk(), value.last_chunk()),
                _ => return Err(Errno(libc::EINVAL)),
            };
            let keys = FastOpenKeys {
                primary: primary.copied(),
                backup: backup.copied(),
            };
            return calls::set(fd, O::FastOpenKey(keys));
        }
        (libc::IPPROTO_TCP, md5sig::TCP_MD5SIG | md5sig::TCP_MD5SIG_EXT) => {
            let domain = calls::now(|world| Ok(world.files.socket(fd)?.domain))?;
            let (peer, key) = md5sig::parse(domain, name, value)?;
            return calls::on(fd, |sock| sock.set_md5_key(peer, key));
        }
        (libc::SOL_SOCKET, libc::SO_LINGER) => {
            let (Some(on), Some(seconds)) = (word(0), word(4)) else {
                return Err(Errno(libc::EINVAL));
            };
            let time = (on != 0).then(|| Duration::from_secs(seconds.max(0) as u64));
            return calls::set(fd, O::Linger(time));
        }
        (libc::SOL_SOCKET, libc::SO_RCVTIMEO | libc::SO_SNDTIMEO) => {
            let timeout = timeval(value)?;
            return calls::now(|world| {
                let socket = world.files.socket_mut(fd)?;
                match name {
                    libc::SO_RCVTIMEO => socket.recv_timeout = timeout,
                    _ => socket.send_timeout = timeout,
                }
                Ok(())
            });
        }
        _ => {}
    }
    let value = match value {
        // The options of IP may be given as a byte (Linux: `do_ip_setsockopt`).
        [byte, ..] if level == libc::IPPROTO_IP && value.len() < 4 => i32::from(*byte),
        _ => word(0).ok_or(Errno(libc::EINVAL))?,
    };
    if (level, name) == (libc::IPPROTO_TCP, TCP_FASTOPEN_CONNECT) {
        calls::now(|world| {
            world.read_sysctls();
            Ok(())
        })?;
    }
    if (level, name) == (libc::IPPROTO_TCP, TCP_INQ) {
        calls::now(|world| world.files.socket_mut(fd).map(|s| s.inq = value != 0))?;
    }
    if let Some(option) = integer(level, name, value) {
        return calls::set(fd, option?);
    }
    calls::opened(fd)?;
    match (level, name) {
        // They change nothing that this library's callers can see.
        (
            libc::SOL_SOCKET,
            libc::SO_PRIORITY | libc::SO_MARK | libc::SO_RCVLOWAT | SO_ZEROCOPY | libc::SO_TIMESTAMPING,
        )
        | (libc::IPPROTO_IP, libc::IP_FREEBIND | libc::IP_MTU_DISCOVER | libc::IP_RECVERR | libc::IP_TRANSPARENT)
        | (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER | libc::IPV6_RECVERR | libc::IPV6_FREEBIND) => Ok(()),
        _ => Err(Errno(libc::ENOPROTOOPT)),
    }
}

/// getsockopt(2): the option's bytes, to be cut to what the caller has room for.
pub(crate) fn get(fd: i32, level: i32, name: i32) -> Result<Vec<u8>> {
    let bytes = |v: i32| Ok(v.to_ne_bytes().to_vec());
    match (level, name) {
        (libc::IPPROTO_TCP, libc::TCP_INFO) => {
            return calls::on(fd, |sock| Ok(tcp_info::bytes(sock.state(), &sock.info()?).to_vec()));
        }
        (libc::IPPROTO_TCP, TCP_CC_INFO) => {
            let info = calls::on(fd, |sock| sock.info())?;
            return Ok(info.bbr.map(tcp_info::bbr).unwrap_or_default());
        }
        (libc::IPPROTO_TCP, libc::TCP_CONGESTION) => {
            let O::Congestion(cc) = calls::get(fd, O::Congestion(CcName::default()))? else {
                return bytes(0);
            };
            let mut name = [0; 16];
            name[..cc.as_str().len()].copy_from_slice(cc.as_str().as_bytes());
            return Ok(name.to_vec());
        }
        (libc::IPPROTO_TCP, TCP_FASTOPEN_KEY) => {
            let O::FastOpenKey(keys) = calls::get(fd, O::FastOpenKey(FastOpenKeys::default()))? else {
                return bytes(0);
            };
            return Ok([keys.primary, keys.backup].into_iter().flatten().flatten().collect());
        }
        (libc::SOL_SOCKET, libc::SO_ERROR) => {
            return bytes(calls::on(fd, |sock| Ok(sock.take_error().map_or(0, |e| e.errno())))?);
        }
        (libc::SOL_SOCKET, libc::SO_TYPE) => {
            let stream = calls::opened(fd)?.stream;
            return bytes(if stream { libc::SOCK_STREAM } else { libc::SOCK_DGRAM });
        }
        (libc::SOL_SOCKET, libc::SO_LINGER) => {
            let O::Linger(time) = calls::get(fd, O::Linger(None))? else {
                return bytes(0);
            };
            let words = [i32::from(time.is_some()), time.map_or(0, |d| d.as_secs() as i32)];
            return Ok(words.iter().flat_map(|w| w.to_ne_bytes()).collect());
        }
        (libc::SOL_SOCKET, libc::SO_RCVTIMEO | libc::SO_SNDTIMEO) => {
            let socket = calls::opened(fd)?;
            let timeout = match name {
                libc::SO_RCVTIMEO => socket.recv_timeout,
                _ => socket.send_timeout,
            };
            let timeout = timeout.unwrap_or_default();
            let words = [timeout.as_secs() as i64, timeout.subsec_micros().into()];
            return Ok(words.iter().flat_map(|w| w.to_ne_bytes()).collect());
        }
        (libc::SOL_SOCKET, libc::SO_DOMAIN) => return bytes(calls::opened(fd)?.domain),
        (libc::SOL_SOCKET, libc::SO_PROTOCOL) => {
            let stream = calls::opened(fd)?.stream;
            return bytes(if stream { libc::IPPROTO_TCP } else { libc::IPPROTO_UDP });
        }
        (libc::SOL_SOCKET, libc::SO_ACCEPTCONN) => {
            let listens = calls::on(fd, |sock| Ok(sock.state() == State::Listen))?;
            return bytes(i32::from(listens));
        }
        (libc::SOL_SOCKET, SO_MEMINFO) => {
            let (queued_in, queued_out) = calls::on(fd, |sock| Ok((sock.recv_queued(), sock.send_queued())))?;
            let (O::RcvBuf(rcvbuf), O::SndBuf(sndbuf)) = (calls::get(fd, O::RcvBuf(0))?, calls::get(fd, O::SndBuf(0))?)
            else {
                return bytes(0);
            };
            // SK_MEMINFO_*: rmem_alloc, rcvbuf, wmem_alloc, sndbuf, fwd_alloc, wmem_queued, optmem, backlog, drops.
            let words = [
                queued_in as u32,
                rcvbuf,
                queued_out as u32,
                sndbuf,
                0,
                queued_out as u32,
                0,
                0,
                0,
            ];
            return Ok(words.iter().flat_map(|w| w.to_ne_bytes()).collect());
        }
        _ => {}
    }
    // Any in-range value names the option; what matters is its kind.
    match integer(level, name, 1) {
        Some(like) => bytes(as_integer(calls::get(fd, like?)?)),
        None => Err(Errno(libc::ENOPROTOOPT)),
    }
}
