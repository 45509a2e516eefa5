//! After a restart nothing may be sent whose numbers an old connection's segments could be taken for (RFC 9293 §3.4.3): a stack
//! keeps quiet for one MSL (`estab.tcp_quiet_time`), or is given the TIME_WAITs its predecessor saved.

use super::demux::{Demux, Tuple};
use super::timewait::Rest;
use super::{Tcp, clock_ms};
use crate::Instant;
use crate::env::Env;
use alloc::format;
use alloc::string::String;
use core::net::SocketAddr;
use core::time::Duration;
use estab_proto::SeqNum;

/// The first line of what [`Tcp::save_timewaits`] writes.
const HEADER: &str = "estab timewaits 1";

/// Until when the stack keeps quiet, if it does.
pub(crate) fn quiet_until(env: &Env) -> Option<Instant> {
    let end = env.started + Duration::from_millis(env.sysctl.estab_tcp_msl_ms.into());
    (env.sysctl.estab_tcp_quiet_time != 0 && env.now < end).then_some(end)
}

/// The calendar's milliseconds.
fn unix_ms(env: &Env) -> u64 {
    env.unix_time.saturating_mul(1000).saturating_add(env.now.millis())
}

impl Tcp {
    /// All TIME_WAITs as text, for [`Tcp::restore_timewaits`] of a successor.
    pub(crate) fn save_timewaits(&self, env: &Env) -> String {
        let mut text = format!("{HEADER} at {}\n", unix_ms(env));
        for (tuple, rest) in self.timewaits.iter() {
            let left = env
                .timers
                .deadline(rest.timer)
                .map_or(0, |at| at.since(env.now).as_millis());
            text += &format!(
                "{} {} {} {} {} {} {} {} {} {} {} {}\n",
                tuple.local(),
                tuple.remote(),
                left,
                rest.snd_nxt.0,
                rest.rcv_nxt.0,
                rest.rcv_wnd,
                rest.rcv_scale,
                u8::from(rest.fin_wait2),
                u8::from(rest.ts_ok),
                rest.ts_recent,
                clock_ms(env).wrapping_sub(rest.ts_stamp),
                // Our clock of this connection, as the peer saw it.
                clock_ms(env).wrapping_add(rest.ts_offset),
            );
        }
        text
    }

    /// Takes over a predecessor's TIME_WAITs, those that have not run out meanwhile; how many. `None`: it is no such text.
    pub(crate) fn restore_timewaits(&mut self, env: &mut Env, text: &str) -> Option<usize> {
        let mut lines = text.lines();
        let saved_at: u64 = lines.next()?.strip_prefix(HEADER)?.strip_prefix(" at ")?.parse().ok()?;
        let away = unix_ms(env).saturating_sub(saved_at);
        let mut restored = 0;
        for line in lines {
            let mut words = line.split_ascii_whitespace();
            let local: SocketAddr = words.next()?.parse().ok()?;
            let remote: SocketAddr = words.next()?.parse().ok()?;
            let mut number = || words.next()?.parse::<u32>().ok();
            let left = u64::from(number()?);
            let generation = self.next_generation();
            let mut rest = Rest {
                snd_nxt: SeqNum(number()?),
                rcv_nxt: SeqNum(number()?),
                rcv_wnd: number()?,
                rcv_scale: number()?.min(14) as u8,
                fin_wait2: number()? != 0,
                ts_ok: number()? != 0,
                ts_recent: number()?,
                ts_stamp: number()?,
                ts_offset: number()?,
                last_oow_ack: 0,
                timer: Default::default(),
                generation,
                sock: None,
                bind: Default::default(),
            };
            let now = clock_ms(env);
            rest.ts_stamp = now.wrapping_sub(rest.ts_stamp.wrapping_add(away as u32));
            rest.ts_offset = rest.ts_offset.wrapping_add(away as u32).wrapping_sub(now);
            let tuple = Tuple::new(local, remote);
            let hash = Demux::hash(env, &tuple);
            let full = self.timewaits.len() >= env.sysctl.tcp_max_tw_buckets as usize;
            if left <= away || full || local.is_ipv4() != remote.is_ipv4() || self.find(hash, &tuple).is_some() {
                continue;
            }
            let object = self
                .timewaits
                .insert(env, &tuple, rest, Duration::from_millis(left - away));
            self.demux.insert(hash, object);
            restored += 1;
        }
        Some(restored)
    }
}
