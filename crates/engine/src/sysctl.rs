//! The knobs this stack obeys, in Linux's units and with Linux 6.18's defaults. Names, ranges and meanings
//! for people are proto's table; this is what the engine reads.

use crate::tcp::cc::Cc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use estab_proto::diag::CcName;
use estab_proto::sysctl::{BadValue, Value, lookup};

macro_rules! sysctls {
    ($($key:literal $name:ident: $type:ty = $default:expr, $about:literal;)*) => {
        /// Every knob that changes what a stack does. The fields are the last part of Linux's names.
        #[derive(Clone, Debug)]
        pub struct Sysctls {
            $(#[doc = concat!("`", $key, "`: ", $about)] pub $name: $type,)*
        }

        impl Sysctls {
            /// The names of all of them, as sysctl(8) writes them.
            pub const NAMES: &[&str] = &[$($key,)*];

            fn unscaled() -> Sysctls {
                Sysctls { $($name: $default,)* }
            }

            /// The value of `name` as /proc/sys prints it; `None` if this stack has no such knob.
            pub fn get(&self, name: &str) -> Option<String> {
                if lookup(name)?.name == AVAILABLE {
                    return Some(Cc::NAMES.join(" "));
                }
                match own_name(name)? {
                    $($key => Some(self.$name.print()),)*
                    _ => None,
                }
            }

            fn field(&mut self, name: &str) -> Option<&mut dyn Field> {
                match name {
                    $($key => Some(&mut self.$name),)*
                    _ => None,
                }
            }
        }
    };
}

sysctls! {
    // net.core
    "net.core.somaxconn" somaxconn: u32 = 4096, "The largest backlog a listener gets.";
    "net.core.rmem_default" rmem_default: u32 = 212992, "Bytes of receive buffer a UDP or echo socket begins with.";
    "net.core.rmem_max" rmem_max: u32 = 4 << 20, "The most SO_RCVBUF may ask for.";
    "net.core.wmem_default" wmem_default: u32 = 212992, "Bytes of send buffer a UDP or echo socket begins with.";
    "net.core.wmem_max" wmem_max: u32 = 4 << 20, "The most SO_SNDBUF may ask for.";
    "net.core.default_qdisc" default_qdisc: Qdisc = Qdisc::Fifo, "fq: new connections are paced; pfifo_fast: as fast as the window lets them.";
    "net.core.optmem_max" optmem_max: u32 = 131072, "Bytes of keys (TCP_MD5SIG) one socket may hold.";
    "net.core.netdev_max_backlog" netdev_max_backlog: u32 = 1000, "Packets that may wait for a stack; datagrams, stateless answers and looped packets that may wait in it.";
    // IP
    "net.ipv4.ip_local_port_range" ip_local_port_range: [u16; 2] = [32768, 60999], "First and last ephemeral port.";
    "net.ipv4.ip_local_reserved_ports" ip_local_reserved_ports: PortRanges = PortRanges::new(), "Ports never given out as ephemeral.";
    "net.ipv4.ip_forward" ip_forward: u32 = 0, "IPv4 packets for others are forwarded.";
    "net.ipv4.ip_default_ttl" ip_default_ttl: u32 = 64, "TTL of IPv4 packets.";
    "net.ipv4.ip_no_pmtu_disc" ip_no_pmtu_disc: u32 = 0, "1: no DF on TCP; fragmentation-needed errors set the MTU to min_pmtu.";
    "net.ipv4.ip_nonlocal_bind" ip_nonlocal_bind: u32 = 0, "A bind to an address that is not ours succeeds.";
    "net.ipv4.ip_autobind_reuse" ip_autobind_reuse: u32 = 0, "A bind to port 0 may share ports of SO_REUSEADDR sockets.";
    "net.ipv4.ipfrag_high_thresh" ipfrag_high_thresh: u32 = 4 << 20, "Bytes of IPv4 fragments that may wait.";
    "net.ipv4.ipfrag_time" ipfrag_time: u32 = 30, "Seconds IPv4 fragments wait for the rest.";
    "net.ipv4.icmp_echo_ignore_all" icmp_echo_ignore_all: u32 = 0, "Echo requests (ping) are not answered.";
    "net.ipv4.icmp_echo_ignore_broadcasts" icmp_echo_ignore_broadcasts: u32 = 1, "Echo requests to broadcast and multicast are not answered.";
    "net.ipv4.icmp_ratelimit" icmp_ratelimit: u32 = 1000, "Milliseconds between two ICMP errors to one destination (a bucket of six); 0: no limit.";
    "net.ipv4.icmp_ratemask" icmp_ratemask: u32 = 6168, "The ICMP types that icmp_ratelimit holds back.";
    "net.ipv4.icmp_msgs_per_sec" icmp_msgs_per_sec: u32 = 1000, "ICMP messages of those types per second in all.";
    "net.ipv4.icmp_msgs_burst" icmp_msgs_burst: u32 = 50, "How many of them at once.";
    "net.ipv4.udp_rmem_min" udp_rmem_min: u32 = 4096, "Bytes of receive buffer that a UDP socket has even when udp_mem's first value is used up.";
    "net.ipv4.udp_mem" udp_mem: [u64; 3] = [0; 3], "Pages of memory for all UDP sockets: past the first, udp_rmem_min each; past the last, nothing.";
    "net.ipv4.route.min_pmtu" min_pmtu: u32 = 552, "The least path MTU that an ICMP error can set.";
    "net.ipv4.route.mtu_expires" mtu_expires: u32 = 600, "Seconds a learned path MTU holds (IPv6: net.ipv6.route.mtu_expires, the same field).";
    "net.ipv4.route.min_adv_mss" min_adv_mss: u32 = 256, "The least MSS a SYN offers, whatever the MTU.";
    "net.ipv4.conf.all.rp_filter" rp_filter: u32 = 0, "Reverse path filter: 0 off, 1 strict, 2 loose (RFC 3704).";
    "net.ipv4.conf.all.arp_announce" arp_announce: u32 = 0, "Which source ARP requests carry: 0 any, 1 one of the target's subnet, 2 the best.";
    "net.ipv4.conf.all.arp_ignore" arp_ignore: u32 = 0, "Which ARP requests are answered: 0 for any of our addresses, 1 only for the interface's own.";
    "net.ipv4.conf.all.accept_local" accept_local: u32 = 0, "Packets with one of our addresses as source are taken.";
    "net.ipv4.conf.all.route_localnet" route_localnet: u32 = 0, "127.0.0.0/8 is routed like any other.";
    "net.ipv6.conf.all.forwarding" ipv6_forwarding: u32 = 0, "IPv6 packets for others are forwarded.";
    "net.ipv6.conf.all.hop_limit" ipv6_hop_limit: u32 = 64, "Hop limit of IPv6 packets.";
    "net.ipv6.bindv6only" bindv6only: u32 = 0, "An IPv6 wildcard takes IPv6 only.";
    "net.ipv6.ip6frag_high_thresh" ip6frag_high_thresh: u32 = 4 << 20, "Bytes of IPv6 fragments that may wait.";
    "net.ipv6.ip6frag_time" ip6frag_time: u32 = 60, "Seconds IPv6 fragments wait for the rest.";
    "net.ipv6.icmp.ratelimit" icmpv6_ratelimit: u32 = 100, "Milliseconds between two ICMPv6 errors to one destination; 0: no limit.";
    "net.ipv6.icmp.echo_ignore_all" icmpv6_echo_ignore_all: u32 = 0, "ICMPv6 echo requests are not answered.";
    "net.ipv4.neigh.default.gc_stale_time" gc_stale_time: u32 = 60, "Seconds without use after which a neighbour's entry may go.";
    "net.ipv4.neigh.default.gc_thresh1" gc_thresh1: u32 = 128, "Neighbours below which none is removed.";
    "net.ipv4.neigh.default.gc_thresh2" gc_thresh2: u32 = 512, "Neighbours above which entries older than 5 s go.";
    "net.ipv4.neigh.default.gc_thresh3" gc_thresh3: u32 = 1024, "Neighbours there may be.";
    "net.ipv4.neigh.default.base_reachable_time_ms" base_reachable_time_ms: u32 = 30000, "Milliseconds a confirmed neighbour counts as reachable (×0.5 to ×1.5 at random).";
    "net.ipv4.neigh.default.delay_first_probe_time" delay_first_probe_time: u32 = 5, "Seconds a stale neighbour is used before it is probed.";
    "net.ipv4.neigh.default.retrans_time_ms" retrans_time_ms: u32 = 1000, "Milliseconds between two requests for one neighbour.";
    "net.ipv4.neigh.default.mcast_solicit" mcast_solicit: u32 = 3, "Broadcast or multicast requests before a neighbour is given up.";
    "net.ipv4.neigh.default.ucast_solicit" ucast_solicit: u32 = 3, "Unicast requests before a neighbour is given up.";
    "net.ipv4.neigh.default.unres_qlen_bytes" unres_qlen_bytes: u32 = 212992, "Bytes of packets that may wait for one neighbour.";
    // TCP: opening
    "net.ipv4.tcp_syn_retries" tcp_syn_retries: u32 = 6, "How often a SYN is repeated (after the linear ones, counted apart).";
    "net.ipv4.tcp_syn_linear_timeouts" tcp_syn_linear_timeouts: u32 = 4, "How many SYN repeats come a second apart before the backoff doubles.";
    "net.ipv4.tcp_synack_retries" tcp_synack_retries: u32 = 5, "How often a SYN-ACK is repeated.";
    "net.ipv4.tcp_syncookies" tcp_syncookies: u32 = 1, "SYN cookies: 0 never, 1 when the queue is full, 2 always.";
    "net.ipv4.tcp_max_syn_backlog" tcp_max_syn_backlog: u32 = 128, "Requests a listener may hold with cookies off.";
    "net.ipv4.tcp_abort_on_overflow" tcp_abort_on_overflow: u32 = 0, "A full accept queue answers with RST.";
    "net.ipv4.tcp_migrate_req" tcp_migrate_req: u32 = 0, "What a closing SO_REUSEPORT listener's queues hold moves to another of its group.";
    "net.ipv4.tcp_fastopen" tcp_fastopen: u32 = 1, "Fast Open: 1 client, 2 server, 4 client without cookie, 0x200 server without cookie, 0x400 all listeners.";
    "net.ipv4.tcp_fastopen_key" tcp_fastopen_key: FastOpenKeys = FastOpenKeys::default(), "Keys of Fast Open's cookies: the first makes them, both prove them.";
    "net.ipv4.tcp_fastopen_blackhole_timeout_sec" tcp_fastopen_blackhole_timeout_sec: u32 = 0, "Seconds Fast Open is off after a black hole was met; doubled each time.";
    "net.ipv4.tcp_timestamps" tcp_timestamps: u32 = 1, "Timestamps: 0 off, 1 with a random offset per connection, 2 without.";
    "net.ipv4.tcp_window_scaling" tcp_window_scaling: u32 = 1, "Window scaling (RFC 7323).";
    "net.ipv4.tcp_sack" tcp_sack: u32 = 1, "Selective acknowledgments (RFC 2018).";
    "net.ipv4.tcp_dsack" tcp_dsack: u32 = 1, "Duplicate SACK (RFC 2883).";
    "net.ipv4.tcp_ecn" tcp_ecn: u32 = 2, "ECN: 0 off, 1 asked for and granted, 2 granted only; 3 to 5 grant Accurate ECN too, and ask for it, for ECN, for neither.";
    "net.ipv4.tcp_ecn_option" tcp_ecn_option: u32 = 2, "The Accurate ECN option: 0 never, 1 when it has news and as a beacon, 2 always, 3 even where the path seems to drop it.";
    "net.ipv4.tcp_ecn_option_beacon" tcp_ecn_option_beacon: u32 = 3, "How often per round trip the Accurate ECN option is sent at least.";
    "net.ipv4.tcp_ecn_fallback" tcp_ecn_fallback: u32 = 1, "An ECN SYN that gets no answer is repeated without.";
    "net.ipv4.tcp_reflect_tos" tcp_reflect_tos: u32 = 0, "A passive open takes the SYN's TOS.";
    "net.ipv4.tcp_min_snd_mss" tcp_min_snd_mss: u32 = 48, "The least MSS used for sending, whatever the peer offers.";
    "net.ipv4.tcp_base_mss" tcp_base_mss: u32 = 1024, "The MSS that MTU probing begins with.";
    "net.ipv4.tcp_mtu_probing" tcp_mtu_probing: u32 = 0, "Path MTU probing (RFC 4821): 0 off, 1 once a black hole is met, 2 always.";
    "net.ipv4.tcp_mtu_probe_floor" tcp_mtu_probe_floor: u32 = 48, "The least MSS that probing falls to.";
    "net.ipv4.tcp_probe_interval" tcp_probe_interval: u32 = 600, "Seconds between two searches for a larger path MTU.";
    "net.ipv4.tcp_probe_threshold" tcp_probe_threshold: u32 = 8, "Probing ends when the search interval is at most this many bytes.";
    // TCP: closing and TIME_WAIT
    "net.ipv4.tcp_fin_timeout" tcp_fin_timeout: u32 = 60, "Seconds an orphan stays in FIN_WAIT_2.";
    "net.ipv4.tcp_orphan_retries" tcp_orphan_retries: u32 = 0, "Retransmissions for an orphan; 0 means 8.";
    "net.ipv4.tcp_max_orphans" tcp_max_orphans: u32 = 4096, "Connections without an application there may be.";
    "net.ipv4.tcp_max_tw_buckets" tcp_max_tw_buckets: u32 = 4096, "TIME_WAITs there may be.";
    "net.ipv4.tcp_tw_reuse" tcp_tw_reuse: u32 = 2, "A connect may take over a TIME_WAIT: 0 no, 1 yes, 2 on loopback only.";
    "net.ipv4.tcp_tw_reuse_delay" tcp_tw_reuse_delay: u32 = 1000, "Milliseconds a TIME_WAIT rests before it may be reused.";
    "net.ipv4.tcp_tw_recycle" tcp_tw_recycle: u32 = 0, "Gone from Linux since 4.12; behaves here as it did, NAT failures included.";
    "net.ipv4.tcp_rfc1337" tcp_rfc1337: u32 = 0, "A reset does not end TIME_WAIT.";
    "estab.tcp_msl_ms" estab_tcp_msl_ms: u32 = 30000, "The maximum segment lifetime in milliseconds; TIME_WAIT is twice that.";
    "estab.tcp_quiet_time" estab_tcp_quiet_time: u32 = 0, "The stack opens nothing for one MSL after it starts.";
    // TCP: keepalive and giving up
    "net.ipv4.tcp_keepalive_time" tcp_keepalive_time: u32 = 7200, "Seconds of silence before the first keepalive probe.";
    "net.ipv4.tcp_keepalive_intvl" tcp_keepalive_intvl: u32 = 75, "Seconds between two keepalive probes.";
    "net.ipv4.tcp_keepalive_probes" tcp_keepalive_probes: u32 = 9, "Unanswered probes before the connection is given up.";
    "net.ipv4.tcp_retries1" tcp_retries1: u32 = 3, "Retransmissions before the path is doubted.";
    "net.ipv4.tcp_retries2" tcp_retries2: u32 = 15, "Retransmissions (as the time they would take) before the connection is given up.";
    "net.ipv4.tcp_challenge_ack_limit" tcp_challenge_ack_limit: u32 = i32::MAX as u32, "Challenge ACKs per second in all (RFC 5961).";
    "net.ipv4.tcp_invalid_ratelimit" tcp_invalid_ratelimit: u32 = 500, "Milliseconds between two answers to invalid segments of one connection.";
    // TCP: memory and windows
    "net.ipv4.tcp_mem" tcp_mem: [u64; 3] = [0; 3], "Pages of memory for all of TCP: low, pressure, high.";
    "net.ipv4.tcp_rmem" tcp_rmem: [u64; 3] = [4096, 131072, 0], "Bytes of receive buffer: least, initial, most.";
    "net.ipv4.tcp_wmem" tcp_wmem: [u64; 3] = [4096, 16384, 0], "Bytes of send buffer: least, initial, most.";
    "net.ipv4.tcp_moderate_rcvbuf" tcp_moderate_rcvbuf: u32 = 1, "The receive buffer grows with the rate.";
    "net.ipv4.tcp_app_win" tcp_app_win: u32 = 31, "The part of the window kept for the application: window >> this; 31 none.";
    "net.ipv4.tcp_shrink_window" tcp_shrink_window: u32 = 0, "The window may shrink when memory is short.";
    "net.ipv4.tcp_notsent_lowat" tcp_notsent_lowat: u32 = u32::MAX, "Bytes unsent below which a socket is writable.";
    "net.ipv4.tcp_workaround_signed_windows" tcp_workaround_signed_windows: u32 = 0, "Peers that treat windows as signed get at most 32767 without scaling.";
    "net.ipv4.tcp_stdurg" tcp_stdurg: u32 = 0, "The urgent pointer points past the urgent byte, as RFC 793 said, not at it.";
    // TCP: sending and loss
    "net.ipv4.tcp_congestion_control" tcp_congestion_control: CcName = CcName::new("cubic"), "The congestion control of new sockets.";
    "net.ipv4.tcp_rto_min_us" tcp_rto_min_us: u32 = 200000, "The least retransmission timeout, in microseconds.";
    "net.ipv4.tcp_rto_max_ms" tcp_rto_max_ms: u32 = 120000, "The largest retransmission timeout, in milliseconds.";
    "net.ipv4.tcp_reordering" tcp_reordering: u32 = 3, "Segments of reordering assumed at first.";
    "net.ipv4.tcp_max_reordering" tcp_max_reordering: u32 = 300, "The most reordering that is learned.";
    "net.ipv4.tcp_early_retrans" tcp_early_retrans: u32 = 3, "Tail loss probes: 3 or 4 on, 0 off.";
    "net.ipv4.tcp_recovery" tcp_recovery: u32 = 1, "RACK: 1 on, 2 static reordering window, 4 no DUPACK threshold.";
    "net.ipv4.tcp_frto" tcp_frto: u32 = 2, "F-RTO (RFC 5682).";
    "net.ipv4.tcp_thin_linear_timeouts" tcp_thin_linear_timeouts: u32 = 0, "Thin streams back off linearly for six retransmissions.";
    "net.ipv4.tcp_retrans_collapse" tcp_retrans_collapse: u32 = 1, "A retransmission may take in the segments after it.";
    "net.ipv4.tcp_slow_start_after_idle" tcp_slow_start_after_idle: u32 = 1, "The congestion window shrinks after an idle RTO.";
    "net.ipv4.tcp_no_metrics_save" tcp_no_metrics_save: u32 = 0, "Nothing is remembered of a destination when a connection closes.";
    "net.ipv4.tcp_no_ssthresh_metrics_save" tcp_no_ssthresh_metrics_save: u32 = 1, "ssthresh is not remembered.";
    "net.ipv4.tcp_autocorking" tcp_autocorking: u32 = 1, "Small writes wait while earlier packets are still in the device.";
    "net.ipv4.tcp_limit_output_bytes" tcp_limit_output_bytes: u32 = 4 << 20, "Bytes one connection may have in the device.";
    "net.ipv4.tcp_min_tso_segs" tcp_min_tso_segs: u32 = 2, "The least segments of a super-packet.";
    "net.ipv4.tcp_tso_win_divisor" tcp_tso_win_divisor: u32 = 3, "The part of the congestion window one super-packet may use.";
    "net.ipv4.tcp_tso_rtt_log" tcp_tso_rtt_log: u32 = 9, "Super-packets grow for RTTs below 2^this microseconds.";
    "net.ipv4.tcp_min_rtt_wlen" tcp_min_rtt_wlen: u32 = 300, "Seconds over which the least RTT is kept.";
    "net.ipv4.tcp_pacing_ss_ratio" tcp_pacing_ss_ratio: u32 = 200, "Percent of cwnd/srtt that pacing allows in slow start.";
    "net.ipv4.tcp_pacing_ca_ratio" tcp_pacing_ca_ratio: u32 = 120, "Percent of cwnd/srtt that pacing allows afterwards.";
    "net.ipv4.tcp_pingpong_thresh" tcp_pingpong_thresh: u32 = 1, "Replies after which a connection counts as interactive.";
    "net.ipv4.tcp_comp_sack_delay_ns" tcp_comp_sack_delay_ns: u32 = 1000000, "Nanoseconds SACKs may be held back to be merged.";
    "net.ipv4.tcp_comp_sack_slack_ns" tcp_comp_sack_slack_ns: u32 = 100000, "Nanoseconds of slack of that timer.";
    "net.ipv4.tcp_comp_sack_nr" tcp_comp_sack_nr: u32 = 44, "SACKs that may be merged.";
}

/// What `tcp_congestion_control` can be set to; it can only be read.
const AVAILABLE: &str = "net.ipv4.tcp_available_congestion_control";

/// Why a knob could not be set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SysctlError {
    /// Nothing of this stack has that name; Linux may (proto's table tells).
    Unknown,
    /// The kernel would refuse the value.
    Bad(BadValue),
    /// This stack can't do what the value asks.
    Refused(&'static str),
}

impl fmt::Display for SysctlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SysctlError::Unknown => f.write_str("no sysctl of this stack; `estab sysctl -a` lists them"),
            SysctlError::Bad(bad) => bad.fmt(f),
            SysctlError::Refused(why) => f.write_str(why),
        }
    }
}

impl core::error::Error for SysctlError {}

/// The name in [`Sysctls::NAMES`] of what `name` means, however it is spelled: with dots or slashes, behind
/// /proc/sys, and `default` for `all`, of which a stack has but one.
fn own_name(name: &str) -> Option<&'static str> {
    let key = lookup(name)?;
    if let Some(exact) = Sysctls::NAMES.iter().find(|own| **own == key.name) {
        return Some(exact);
    }
    // IPv6 shares IPv4's path MTU and neighbour settings.
    let name = match key.name {
        "net.ipv6.route.mtu_expires" => "net.ipv4.route.mtu_expires",
        name => name,
    };
    let (before, after) = name.split_once('*').unwrap_or((name, ""));
    let before = match before {
        "net.ipv6.neigh." => "net.ipv4.neigh.",
        before => before,
    };
    let whole = |own: &&&str| {
        let middle = own.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
        matches!(middle, Some("" | "all" | "default"))
    };
    Sysctls::NAMES.iter().find(whole).copied()
}

impl Sysctls {
    /// Sets `name` to `value`, which the kernel would take; nothing changes on an error.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), SysctlError> {
        let key = lookup(name).ok_or(SysctlError::Unknown)?;
        let named = own_name(name).or((key.name == AVAILABLE).then_some(AVAILABLE));
        let named = named.ok_or(SysctlError::Unknown)?;
        let value = key.parse(value).map_err(SysctlError::Bad)?;
        let field = self.field(named).ok_or(SysctlError::Unknown)?;
        field.take(value).map_err(SysctlError::Refused)
    }
}

const PAGE: u64 = 4096;

impl Sysctls {
    /// Linux's defaults on a machine with `memory` bytes (Linux: `tcp_init`, `tcp_sk_init`, `udp_init`).
    pub fn with_memory(memory: u64) -> Sysctls {
        let mut s = Sysctls::unscaled();
        let pages = memory / PAGE;
        let limit = (pages / 16).max(128);
        s.tcp_mem = [limit / 4 * 3, limit, limit / 4 * 3 * 2];
        let limit = (pages / 8).max(128);
        s.udp_mem = [limit / 4 * 3, limit, limit / 4 * 3 * 2];
        let per_socket = pages.saturating_mul(PAGE / 128);
        s.tcp_wmem[2] = per_socket.clamp(64 << 10, 4 << 20);
        s.tcp_rmem[2] = per_socket.clamp(131072, 32 << 20);
        // The table of established connections: a slot for each 128 KiB, a power of two, at most 512 Ki.
        let slots = (memory >> 17).clamp(256, 1 << 19).next_power_of_two() as u32;
        s.tcp_max_orphans = slots / 2;
        s.tcp_max_tw_buckets = slots / 2;
        s.tcp_max_syn_backlog = (slots / 128).max(128);
        s
    }

    /// Whether `port` may be given out as an ephemeral port.
    pub(crate) fn port_is_reserved(&self, port: u16) -> bool {
        self.ip_local_reserved_ports
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&port))
    }
}

/// Ranges of ports, first and last of each.
pub type PortRanges = Vec<(u16, u16)>;

/// The keys of Fast Open's cookies: the current one, and the one before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FastOpenKeys {
    /// Makes cookies and proves them; `None`: the stack's own secret.
    pub primary: Option<[u8; 16]>,
    /// Only proves them.
    pub backup: Option<[u8; 16]>,
}

/// What becomes of packets between a connection and the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Qdisc {
    /// `pfifo_fast`: they leave in order, at once.
    Fifo,
    /// `fq`: each connection's leave at its pacing rate.
    Fq,
}

/// How a knob's type takes a value and prints.
trait Field {
    /// Takes a value that the kernel's handler took.
    fn take(&mut self, value: Value<'_>) -> Result<(), &'static str>;
    fn print(&self) -> String;
}

const OTHER_FORM: &str = "not this sysctl's form of value";

impl Field for u32 {
    fn take(&mut self, value: Value<'_>) -> Result<(), &'static str> {
        let number = value.int().ok_or(OTHER_FORM)?;
        *self = u32::try_from(number).map_err(|_| "the number must fit in 32 bits and not be negative")?;
        Ok(())
    }
    fn print(&self) -> String {
        self.to_string()
    }
}

impl Field for [u64; 3] {
    fn take(&mut self, value: Value<'_>) -> Result<(), &'static str> {
        let Value::Ints(ints) = value else {
            return Err(OTHER_FORM);
        };
        for (mine, number) in self.iter_mut().zip(ints.as_slice()) {
            *mine = u64::try_from(*number).map_err(|_| "the numbers must not be negative")?;
        }
        Ok(())
    }
    fn print(&self) -> String {
        alloc::format!("{}\t{}\t{}", self[0], self[1], self[2])
    }
}

impl Field for [u16; 2] {
    fn take(&mut self, value: Value<'_>) -> Result<(), &'static str> {
        let Value::PortRange { low, high } = value else {
            return Err(OTHER_FORM);
        };
        let high = high.unwrap_or(self[1]);
        if low > high {
            return Err("the first port is above the last");
        }
        *self = [low, high];
        Ok(())
    }
    fn print(&self) -> String {
        alloc::format!("{}\t{}", self[0], self[1])
    }
}

impl Field for PortRanges {
    fn take(&mut self, value: Value<'_>) -> Result<(), &'static str> {
        let Value::Ports(list) = value else {
            return Err(OTHER_FORM);
        };
        *self = list.ranges().map(|range| (*range.start(), *range.end())).collect();
        Ok(())
    }
    fn print(&self) -> String {
        let ranges: Vec<String> = self
            .iter()
            .map(|(first, last)| match first == last {
                true => first.to_string(),
                false => alloc::format!("{first}-{last}"),
            })
            .collect();
        ranges.join(",")
    }
}

impl Field for CcName {
    fn take(&mut self, value: Value<'_>) -> Result<(), &'static str> {
        let Value::Text(name) = value else {
            return Err(OTHER_FORM);
        };
        if !Cc::exists(CcName::new(name)) {
            return Err("no such congestion control in this stack: reno, cubic or bbr");
        }
        *self = CcName::new(name);
        Ok(())
    }
    fn print(&self) -> String {
        self.as_str().to_string()
    }
}

impl Field for Qdisc {
    fn take(&mut self, value: Value<'_>) -> Result<(), &'static str> {
        *self = match value {
            Value::Text("fq") => Qdisc::Fq,
            Value::Text("pfifo_fast") => Qdisc::Fifo,
            _ => return Err("this stack has pfifo_fast, and fq, which paces"),
        };
        Ok(())
    }
    fn print(&self) -> String {
        let name = match self {
            Qdisc::Fifo => "pfifo_fast",
            Qdisc::Fq => "fq",
        };
        name.to_string()
    }
}

/// `xxxxxxxx-xxxxxxxx-xxxxxxxx-xxxxxxxx[,…]`, each group a word stored little-endian, as Linux does.
impl Field for FastOpenKeys {
    fn take(&mut self, value: Value<'_>) -> Result<(), &'static str> {
        fn key(s: &str) -> Option<[u8; 16]> {
            let mut bytes = [0; 16];
            let mut words = s.trim().split('-');
            for chunk in bytes.chunks_exact_mut(4) {
                let word = words.next().filter(|word| (1..=8).contains(&word.len()))?;
                chunk.copy_from_slice(&u32::from_str_radix(word, 16).ok()?.to_le_bytes());
            }
            words.next().is_none().then_some(bytes)
        }
        let Value::Text(text) = value else {
            return Err(OTHER_FORM);
        };
        let form = "a key is four groups of hexadecimal digits with - between; two keys have a comma between";
        let mut keys = text.split(',').map(|text| key(text).ok_or(form));
        let primary = keys.next().transpose()?;
        let backup = keys.next().transpose()?;
        if keys.next().is_some() {
            return Err(form);
        }
        *self = FastOpenKeys { primary, backup };
        Ok(())
    }
    fn print(&self) -> String {
        let key = |key: &[u8; 16]| {
            let words: Vec<String> = key
                .chunks_exact(4)
                .map(|w| alloc::format!("{:08x}", u32::from_le_bytes([w[0], w[1], w[2], w[3]])))
                .collect();
            words.join("-")
        };
        match (&self.primary, &self.backup) {
            (Some(primary), Some(backup)) => alloc::format!("{},{}", key(primary), key(backup)),
            (Some(primary), None) => key(primary),
            _ => key(&[0; 16]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_with_memory_as_measured_on_linux_6_18() {
        // A machine of 24,684,092 KiB, whose free lowmem pages Linux counted as 6,141,888 when it booted.
        let s = Sysctls::with_memory(24_684_092 << 10);
        assert_eq!(s.tcp_max_orphans, 131072);
        assert_eq!(s.tcp_max_tw_buckets, 131072);
        assert_eq!(s.tcp_max_syn_backlog, 2048);
        assert_eq!(s.tcp_rmem, [4096, 131072, 33554432]);
        assert_eq!(s.tcp_wmem, [4096, 16384, 4194304]);
        let s = Sysctls::with_memory(6_141_888 * PAGE);
        assert_eq!(s.tcp_mem, [287901, 383868, 575802]);
        assert_eq!(s.udp_mem, [575802, 767736, 1151604]);
    }

    #[test]
    fn a_small_machine_gets_linux_floors() {
        let s = Sysctls::with_memory(0);
        assert_eq!(s.tcp_mem, [96, 128, 192]);
        assert_eq!(s.tcp_wmem[2], 65536);
        assert_eq!(s.tcp_rmem[2], 131072);
        assert_eq!(s.tcp_max_syn_backlog, 128);
    }

    #[test]
    fn every_name_prints_what_it_reads() {
        let mut s = Sysctls::with_memory(1 << 30);
        for name in Sysctls::NAMES {
            let value = s.get(name).expect("a name of the list");
            s.set(name, &value).unwrap_or_else(|e| panic!("{name} = {value}: {e}"));
            assert_eq!(s.get(name).as_deref(), Some(value.as_str()), "{name}");
        }
    }

    #[test]
    fn defaults_are_those_of_the_one_table_of_sysctls() {
        let s = Sysctls::with_memory(24_684_092 << 10);
        for name in Sysctls::NAMES {
            let key = lookup(name).unwrap_or_else(|| panic!("{name} is in no table"));
            // tcp_tw_recycle does something here only.
            assert!(key.effect || key.removed.is_some(), "{name} is said to do nothing");
            if let Some(default) = key.default.fixed().filter(|_| !name.ends_with("fastopen_key")) {
                let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
                assert_eq!(
                    words(&s.get(name).expect("a name of the list")),
                    words(default),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn any_spelling_finds_the_knob() {
        let mut s = Sysctls::with_memory(1 << 30);
        for (n, name) in [
            "net.ipv4.tcp_fin_timeout",
            "net/ipv4/tcp_fin_timeout",
            "/proc/sys/net/ipv4/tcp_fin_timeout",
        ]
        .into_iter()
        .enumerate()
        {
            s.set(name, &(n + 10).to_string()).unwrap();
            assert_eq!(s.tcp_fin_timeout, n as u32 + 10);
        }
        for name in ["net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter"] {
            s.rp_filter = 0;
            s.set(name, "2").unwrap();
            assert_eq!(s.rp_filter, 2, "{name}");
        }
        s.set("net.ipv6.neigh.default.gc_stale_time", "7").unwrap();
        assert_eq!(s.gc_stale_time, 7);
        s.set("net.ipv6.conf.all.forwarding", "1").unwrap();
        assert_eq!((s.ipv6_forwarding, s.ip_forward), (1, 0));
    }

    #[test]
    fn values_are_taken_and_refused_as_the_kernel_does() {
        let mut s = Sysctls::with_memory(1 << 30);
        s.set("net.ipv4.ip_local_reserved_ports", "8080,9000-9010\n").unwrap();
        assert!(s.port_is_reserved(8080) && s.port_is_reserved(9010) && !s.port_is_reserved(9011));
        s.set("net.ipv4.tcp_rmem", "8192").unwrap();
        assert_eq!(s.tcp_rmem[..2], [8192, 131072]);
        s.set("net.ipv4.ip_local_port_range", "1024 65000").unwrap();
        assert_eq!(s.ip_local_port_range, [1024, 65000]);
        s.set("net.ipv4.tcp_fastopen_key", "00000001-2-3-4,5-6-7-8").unwrap();
        assert_eq!(s.tcp_fastopen_key.primary.unwrap()[..5], [1, 0, 0, 0, 2]);
        for (name, value) in [
            ("net.ipv4.ip_local_reserved_ports", "9-8"),
            ("net.ipv4.tcp_syn_retries", "-1"),
            ("net.ipv4.tcp_syn_retries", "128"),
            ("net.ipv4.tcp_syn_retries", "six"),
            ("net.ipv4.tcp_rmem", "1,2,3"),
        ] {
            let before = s.get(name);
            assert!(
                matches!(s.set(name, value), Err(SysctlError::Bad(_))),
                "{name} = {value}"
            );
            assert_eq!(s.get(name), before);
        }
        for (name, value) in [
            ("net.ipv4.tcp_congestion_control", "vegas"),
            ("net.ipv4.tcp_fastopen_key", "1-2-3"),
        ] {
            assert!(
                matches!(s.set(name, value), Err(SysctlError::Refused(_))),
                "{name} = {value}"
            );
        }
        for name in ["net.ipv4.tcp_nope", "vm.swappiness", "net.ipv4.conf.eth0.nope"] {
            assert_eq!(s.set(name, "1"), Err(SysctlError::Unknown), "{name}");
        }
    }
}
