//! SYN cookies (RFC 4987 §3.6; Linux: net/ipv4/syncookies.c, net/ipv6/syncookies.c): a half-open connection kept
//! in the sequence number of its SYN-ACK, and its options in the timestamp.
//!
//! The number is the sum of a keyed hash of the connection and the minute, the peer's own number, and the index of an MSS.
//! (Linux takes a second hash, without the minute, and tells the minute in the top 8 bits; a guess is as unlikely here to be
//! one of the eight numbers that are good, and a SYN costs one hash less.)

use super::demux::Tuple;
use crate::env::Env;
use crate::rng::HashKey;
use crate::sysctl::Sysctls;
use estab_proto::SeqNum;

/// The MSSs a cookie can tell; what peers offer most (Linux: `msstab`).
const MSS_V4: [u16; 4] = [536, 1300, 1440, 1460];
const MSS_V6: [u16; 4] = [1280 - 60, 1480 - 60, 1500 - 60, 9000 - 60];

/// Minutes a cookie may be old: it is good for 60 to 120 s (Linux: MAX_SYNCOOKIE_AGE).
const MAX_AGE: u32 = 2;

/// The options that ride in the low bits of a timestamp.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct CookieOptions {
    /// The peer's window scale; `None`: no scaling.
    pub(crate) window_scale: Option<u8>,
    pub(crate) sack_ok: bool,
    pub(crate) ecn_ok: bool,
}

const TS_BITS: u32 = 6;
const TS_WSCALE: u32 = 0xf;
const TS_SACK: u32 = 1 << 4;
const TS_ECN: u32 = 1 << 5;

fn minute(env: &Env) -> u32 {
    (env.now.nanos() / 60_000_000_000) as u32
}

fn hash(env: &Env, tuple: &Tuple, minute: u32) -> u32 {
    env.rng.hash_ends(HashKey::Cookie, tuple, minute) as u32
}

fn table(tuple: &Tuple) -> &'static [u16; 4] {
    if tuple.local_ip.is_ipv4() { &MSS_V4 } else { &MSS_V6 }
}

/// The SYN-ACK's sequence number for a SYN with number `irs` that offered `mss`, and the MSS it will be taken for:
/// the largest of the table that is not larger, or the smallest.
pub(crate) fn make(env: &Env, tuple: &Tuple, irs: SeqNum, mss: u16) -> (SeqNum, u16) {
    let table = table(tuple);
    let index = table.iter().rposition(|known| *known <= mss).unwrap_or(0);
    let cookie = irs + hash(env, tuple, minute(env)).wrapping_add(index as u32);
    (cookie, table[index])
}

/// The MSS in a cookie of ours, not older than two minutes; `irs` is the number of the peer's SYN, one less than
/// that of its ACK, and `cookie` one less than what it acknowledges. `None`: it isn't one.
pub(crate) fn check(env: &Env, tuple: &Tuple, irs: SeqNum, cookie: SeqNum) -> Option<u16> {
    let sum = cookie.0.wrapping_sub(irs.0);
    (0..MAX_AGE).find_map(|age| {
        let then = hash(env, tuple, minute(env).wrapping_sub(age));
        table(tuple).get(sum.wrapping_sub(then) as usize).copied()
    })
}

/// The timestamp for a SYN-ACK sent at `now` (its clock, without the connection's offset): `options` in the low bits,
/// never later than `now` (Linux: `cookie_init_timestamp`).
pub(crate) fn to_timestamp(options: CookieOptions, now: u32) -> u32 {
    let wscale = options.window_scale.map_or(TS_WSCALE, |scale| u32::from(scale.min(14)));
    let sack = if options.sack_ok { TS_SACK } else { 0 };
    let ecn = if options.ecn_ok { TS_ECN } else { 0 };
    let ts = now >> TS_BITS << TS_BITS | wscale | sack | ecn;
    if ts > now { ts.wrapping_sub(1 << TS_BITS) } else { ts }
}

/// The options in the timestamp a peer echoes (less the connection's offset). `None`: it claims what the sysctls
/// don't allow, so we never sent it (Linux: `cookie_timestamp_decode`, `cookie_ecn_ok`).
pub(crate) fn from_timestamp(sysctl: &Sysctls, echoed: u32) -> Option<CookieOptions> {
    let scale = (echoed & TS_WSCALE) as u8;
    let options = CookieOptions {
        window_scale: (u32::from(scale) != TS_WSCALE).then_some(scale),
        sack_ok: echoed & TS_SACK != 0,
        ecn_ok: echoed & TS_ECN != 0 && sysctl.tcp_ecn != 0,
    };
    let allowed = sysctl.tcp_timestamps != 0
        && !(options.sack_ok && sysctl.tcp_sack == 0)
        && !(options.window_scale.is_some() && sysctl.tcp_window_scaling == 0);
    allowed.then_some(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instant;
    use crate::tcp::isn::numbers;
    use core::time::Duration;

    const IRS: SeqNum = SeqNum(0xfffffff0);

    fn env() -> Env {
        Env::new(
            Instant::from_millis(59_999 + 7 * 60_000),
            crate::Config {
                seed: [3; 32],
                memory: 1 << 30,
                unix_time: 1_700_000_000,
            },
        )
    }

    fn ends(v6: bool) -> Tuple {
        let text = match v6 {
            true => ("[2001:db8::1]:80", "[2001:db8::2]:40000"),
            false => ("192.0.2.1:80", "192.0.2.2:40000"),
        };
        Tuple::new(text.0.parse().unwrap(), text.1.parse().unwrap())
    }

    #[test]
    fn a_cookie_tells_the_largest_mss_of_its_table_that_fits() {
        let env = env();
        for (v6, offered, told) in [
            (false, 100, 536),
            (false, 1299, 536),
            (false, 1300, 1300),
            (false, 9000, 1460),
            (true, 1460, 1440),
            (true, 9000, 8940),
        ] {
            let tuple = ends(v6);
            let (cookie, mss) = make(&env, &tuple, IRS, offered);
            assert_eq!(mss, told);
            assert_eq!(check(&env, &tuple, IRS, cookie), Some(told));
        }
    }

    #[test]
    fn a_cookie_is_good_for_one_to_two_minutes() {
        let mut env = env();
        let tuple = ends(false);
        let (cookie, _) = make(&env, &tuple, IRS, 1460);
        // It was made in the last millisecond of a minute: this is the shortest life.
        env.now += Duration::from_secs(60);
        assert_eq!(check(&env, &tuple, IRS, cookie), Some(1460));
        env.now += Duration::from_millis(1);
        assert_eq!(check(&env, &tuple, IRS, cookie), None);
        let (cookie, _) = make(&env, &tuple, IRS, 1460);
        env.now += Duration::from_millis(119_999);
        assert_eq!(check(&env, &tuple, IRS, cookie), Some(1460));
    }

    #[test]
    fn a_cookie_is_good_for_its_connection_only() {
        let env = env();
        let tuple = ends(false);
        let (cookie, _) = make(&env, &tuple, IRS, 1460);
        let other = Tuple {
            remote_port: 40001,
            ..tuple
        };
        assert_eq!(check(&env, &other, IRS, cookie), None);
        assert_eq!(check(&env, &tuple, IRS + 1000, cookie), None);
        let taken = (0..100_000).filter(|n| check(&env, &tuple, IRS, SeqNum(n * 40_009)).is_some());
        assert_eq!(taken.count(), 0);
    }

    #[test]
    fn options_ride_in_a_timestamp_that_is_never_ahead() {
        let sysctl = Sysctls::with_memory(1 << 30);
        for now in [1000, 1000 | 0x3f, 64, 0xffff_ffff] {
            for window_scale in [None, Some(0), Some(7), Some(14)] {
                for bits in 0..4 {
                    let options = CookieOptions {
                        window_scale,
                        sack_ok: bits & 1 != 0,
                        ecn_ok: bits & 2 != 0,
                    };
                    let ts = to_timestamp(options, now);
                    assert!(now.wrapping_sub(ts) < 128, "{now} {ts}");
                    assert_eq!(from_timestamp(&sysctl, ts), Some(options));
                }
            }
        }
    }

    #[test]
    fn a_timestamp_that_claims_what_is_switched_off_is_not_ours() {
        let mut sysctl = Sysctls::with_memory(1 << 30);
        sysctl.tcp_sack = 0;
        let with_sack = CookieOptions {
            sack_ok: true,
            ..CookieOptions::default()
        };
        assert_eq!(from_timestamp(&sysctl, to_timestamp(with_sack, 5000)), None);
        sysctl.tcp_window_scaling = 0;
        let with_scale = CookieOptions {
            window_scale: Some(7),
            ..CookieOptions::default()
        };
        assert_eq!(from_timestamp(&sysctl, to_timestamp(with_scale, 5000)), None);
        assert!(from_timestamp(&sysctl, to_timestamp(CookieOptions::default(), 5000)).is_some());
    }

    #[test]
    fn isns_of_one_connection_move_with_the_clock_and_differ_between_connections() {
        let mut env = env();
        let tuple = ends(false);
        let first = numbers(&env, &tuple);
        env.now += Duration::from_nanos(64 * 1000);
        assert_eq!(numbers(&env, &tuple).isn - first.isn, 1000);
        assert_eq!(numbers(&env, &tuple).ts_offset, first.ts_offset);
        let other = Tuple {
            remote_port: 40001,
            ..tuple
        };
        assert_ne!(numbers(&env, &other).isn - first.isn, 1000);
        assert_ne!(numbers(&env, &other).ts_offset, first.ts_offset);
    }
}
