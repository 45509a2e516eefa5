//! After a restart nothing may be sent whose numbers an old connection's segments could be taken for (RFC 9293 §3.4.3): a stack
//! keeps quiet for one MSL (`estab.tcp_quiet_time`), or is given the TIME_WAITs its predecessor saved.

use super::demux::{Demux, Tuple};
use super::timewait::{Rest, TsOffset, two_msl};
use super::{Tcp, clock_ms};
use crate::Instant;
use crate::env::Env;
use crate::sock::bind::PackedBinding;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use estab_proto::{ScaledWindow, SeqNum, State, WindowScale};

/// How the first line of what [`Tcp::save_timewaits`] writes begins, before the version.
const TITLE: &str = "estab timewaits ";
/// The version written and read here.
const VERSION: u32 = 2;

/// Why saved TIME_WAITs could not be taken over; none of them was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimewaitsError {
    /// It is something else.
    Foreign,
    /// They are of this other version.
    Version(u32),
    /// This line is damaged, counted from 1.
    Line(u32),
}

impl fmt::Display for TimewaitsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TimewaitsError::Foreign => f.write_str("no TIME_WAITs that a stack has saved: another file was meant?"),
            TimewaitsError::Version(version) => write!(
                f,
                "TIME_WAITs of version {version}, and this stack reads version {VERSION}: start once without them, a minute \
                 after the other ended"
            ),
            TimewaitsError::Line(n) => write!(f, "line {n} is damaged: it is no saved TIME_WAIT"),
        }
    }
}

impl core::error::Error for TimewaitsError {}

/// Until when the stack keeps quiet, if it does.
#[inline]
pub(crate) fn quiet_until(env: &Env) -> Option<Instant> {
    if env.sysctl.estab_tcp_quiet_time == 0 {
        return None;
    }
    let end = env.started + Duration::from_millis(env.sysctl.estab_tcp_msl_ms.into());
    (env.now < end).then_some(end)
}

/// The calendar's milliseconds.
fn unix_ms(env: &Env) -> u64 {
    env.unix_time.saturating_mul(1000).saturating_add(env.now.millis())
}

impl Tcp {
    /// All TIME_WAITs as text, for [`Tcp::restore_timewaits`] of a successor; orphans in FIN_WAIT_2 too, as if their last
    /// 2·MSL had begun. MD5 keys are not among it: what answers for those is unsigned.
    pub(crate) fn save_timewaits(&self, env: &Env) -> String {
        let mut text = format!("{TITLE}{VERSION} at {}\n", unix_ms(env));
        for (tuple, rest, ends) in self.timewaits.iter() {
            let ends = ends.deadline(&env.timers, env.now);
            let left = ends.map_or(Duration::ZERO, |at| at.since(env.now));
            text += &line(env, &tuple, &rest, left);
        }
        for conn in self
            .conns
            .iter()
            .filter(|conn| conn.orphan && conn.state == State::FinWait2)
        {
            let rest = Rest {
                bind: conn.binding,
                ..conn.rest(true)
            };
            text += &line(env, &conn.tuple, &rest, two_msl(env));
        }
        text
    }

    /// Takes over a predecessor's TIME_WAITs, those that have not run out meanwhile; how many.
    pub(crate) fn restore_timewaits(&mut self, env: &mut Env, text: &str) -> Result<usize, TimewaitsError> {
        let (saved_at, lines) = body(text)?;
        let away = unix_ms(env).saturating_sub(saved_at);
        // All of it is read before any is taken.
        let parsed: Result<Vec<Saved>, _> = lines
            .map(|(n, line)| saved(line).ok_or(TimewaitsError::Line(n)))
            .collect();
        let mut restored = 0;
        for (tuple, mut rest, left) in parsed? {
            let now = clock_ms(env);
            rest.ts_stamp = now.wrapping_sub(rest.ts_stamp.wrapping_add(away as u32));
            let clock = rest.ts_offset.value(env, &tuple).wrapping_add(away as u32);
            rest.ts_offset = TsOffset::Other(clock.wrapping_sub(now));
            let hash = Demux::hash(env, &tuple);
            let full = self.timewaits.len() >= env.sysctl.tcp_max_tw_buckets as usize;
            if left <= away || full || self.find(hash, &tuple).is_some() {
                continue;
            }
            if let Some(binding) = rest.bind.unpack(tuple.local()) {
                self.binds.hold(&binding);
            }
            let life = Duration::from_millis(left - away);
            let object = self.timewaits.insert(env, &tuple, rest, life);
            self.enter(env, hash, object);
            restored += 1;
        }
        Ok(restored)
    }
}

fn line(env: &Env, tuple: &Tuple, rest: &Rest, left: Duration) -> String {
    format!(
        "{} {} {} {} {} {} {} {} {} {} {} {} {}\n",
        tuple.local(),
        tuple.remote(),
        left.as_millis(),
        rest.snd_nxt.0,
        rest.rcv_nxt.0,
        rest.window.bytes(rest.rcv_scale),
        rest.rcv_scale.bits(),
        u8::from(rest.fin_wait2),
        u8::from(rest.ts_ok),
        rest.ts_recent,
        clock_ms(env).wrapping_sub(rest.ts_stamp),
        // Our clock of this connection, as the peer saw it.
        clock_ms(env).wrapping_add(rest.ts_offset.value(env, tuple)),
        rest.bind.bits(),
    )
}

/// An entry as it was saved, and the milliseconds it had left.
type Saved = (Tuple, Rest, u64);

/// When it was saved, and the lines behind the header with their numbers.
fn body(text: &str) -> Result<(u64, impl Iterator<Item = (u32, &str)>), TimewaitsError> {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let (version, at) = first
        .strip_prefix(TITLE)
        .and_then(|words| words.split_once(" at "))
        .and_then(|(version, at)| Some((version.parse().ok()?, at.parse().ok()?)))
        .ok_or(TimewaitsError::Foreign)?;
    match version {
        VERSION => Ok((at, (2..).zip(rest.lines()))),
        other => Err(TimewaitsError::Version(other)),
    }
}

/// One line; its times count from when it was saved.
fn saved(line: &str) -> Option<Saved> {
    let mut words = line.split_ascii_whitespace();
    let local: SocketAddr = words.next()?.parse().ok()?;
    let remote: SocketAddr = words.next()?.parse().ok()?;
    let mut number = || words.next()?.parse::<u32>().ok();
    let left = u64::from(number()?);
    let (snd_nxt, rcv_nxt) = (SeqNum(number()?), SeqNum(number()?));
    let (window, rcv_scale) = (number()?, WindowScale::new(number()?.min(14) as u8));
    let rest = Rest {
        snd_nxt,
        rcv_nxt,
        window: ScaledWindow::of(window, rcv_scale),
        rcv_scale,
        fin_wait2: number()? != 0,
        ts_ok: number()? != 0,
        ts_recent: number()?,
        ts_stamp: number()?,
        // The clock itself, until it is known how late it is.
        ts_offset: TsOffset::Other(number()?),
        bind: PackedBinding::from_bits(number()? as u8),
        last_oow_ack: 0,
        sock: None,
    };
    (words.next().is_none() && local.is_ipv4() == remote.is_ipv4()).then(|| (Tuple::new(local, remote), rest, left))
}
