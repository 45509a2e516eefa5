//! Keys that Linux had and has no more, and some that only other people's kernels had: they live on in
//! tuning guides. `sysctl -p` fails on each of them ("cannot stat …: No such file or directory").

use super::Applies::{Conntrack, Host, Ip};
use super::Unit::{Bytes, Count, Flag, Mode, Seconds};
use super::{BOOL, INT, Key, SECONDS, key};

const RENAMED: &str = "ip_conntrack became nf_conntrack";

const MODULES: &str = "congestion control became modules";
const CHOOSE: &str = "choose by net.ipv4.tcp_congestion_control";

#[rustfmt::skip]
pub(super) const KEYS: &[Key] = &[
    key("net.ipv4.tcp_tw_recycle", BOOL, Flag, "0",
        "Ended TIME_WAITs after one retransmission timeout and refused SYNs whose timestamp was older than their address's last.").since("2.4")
        .removed("4.12", "behind one NAT address hosts have different clocks, so all but one of them were refused at random; and since 4.10 offsets per connection made timestamps useless for it",
            "nothing for a server, where TIME_WAITs are harmless; for a client with many connections to one address net.ipv4.tcp_tw_reuse 1, or better, connections kept open"),
    key("net.ipv4.tcp_thin_dupack", BOOL, Flag, "0",
        "Thin streams retransmitted on the first duplicate ACK.").since("2.6.34")
        .removed("4.11", "RACK finds such losses by time", "nothing: net.ipv4.tcp_recovery 1 is the default"),
    key("net.ipv4.tcp_abc", INT, Mode, "0",
        "Appropriate byte counting (RFC 3465).").since("2.6.15")
        .removed("3.9", "it was off and its code in the way; acknowledged segments are counted since", "nothing"),
    key("net.ipv4.tcp_frto_response", INT, Mode, "0",
        "What F-RTO did after a needless timeout.").since("2.6.22")
        .removed("3.10", "F-RTO was rewritten and undoes the whole reduction", "nothing: net.ipv4.tcp_frto 2 is the default"),
    key("net.ipv4.tcp_max_ssthresh", INT, Count, "0",
        "Limited slow start (RFC 3742).").since("2.6.22")
        .removed("3.13", "it was experimental and off; CUBIC's HyStart ends slow start in time", "nothing"),
    key("net.ipv4.tcp_cookie_size", INT, Bytes, "0",
        "TCP cookie transactions (RFC 6013).").since("2.6.33")
        .removed("3.10", "nobody used them", "net.ipv4.tcp_fastopen for data in the SYN"),
    key("net.ipv4.tcp_dma_copybreak", INT, Bytes, "4096",
        "The least read that a DMA engine copied.").since("2.6.24")
        .removed("3.18", "NET_DMA was removed", "nothing"),
    key("net.ipv4.tcp_tx_skb_cache", BOOL, Flag, "0",
        "Kept one freed buffer per socket for sending.").since("5.3")
        .removed("5.16", "memory is cached per core instead", "nothing"),
    key("net.ipv4.tcp_rx_skb_cache", BOOL, Flag, "0",
        "Kept one freed buffer per socket for receiving.").since("5.3")
        .removed("5.16", "memory is cached per core instead", "nothing"),
    key("net.ipv4.tcp_bic", BOOL, Flag, "0",
        "BIC congestion control.").since("2.6.6").removed("2.6.13", MODULES, CHOOSE),
    key("net.ipv4.tcp_bic_fast_convergence", BOOL, Flag, "1",
        "BIC gave way to new connections.").since("2.6.6").removed("2.6.13", MODULES, CHOOSE),
    key("net.ipv4.tcp_bic_low_window", INT, Count, "14",
        "The window at which BIC began.").since("2.6.6").removed("2.6.13", MODULES, CHOOSE),
    key("net.ipv4.tcp_bic_beta", INT, Count, "819",
        "BIC's reduction after a loss, in 1024ths.").removed("2.6.13", MODULES, CHOOSE),
    key("net.ipv4.tcp_vegas_cong_avoid", BOOL, Flag, "0",
        "Vegas congestion avoidance.").since("2.2").removed("2.6.13", MODULES, CHOOSE),
    key("net.ipv4.tcp_vegas_alpha", INT, Count, "2",
        "The fewest segments Vegas kept queued.").removed("2.6.13", MODULES, CHOOSE),
    key("net.ipv4.tcp_vegas_beta", INT, Count, "6",
        "The most segments Vegas kept queued.").removed("2.6.13", MODULES, CHOOSE),
    key("net.ipv4.tcp_vegas_gamma", INT, Count, "2",
        "Vegas's limit of slow start.").removed("2.6.13", MODULES, CHOOSE),
    key("net.ipv4.tcp_westwood", BOOL, Flag, "0",
        "Westwood+ congestion control.").since("2.6.3").removed("2.6.13", MODULES, CHOOSE),
    key("net.ipv4.tcp_tw_timeout", SECONDS, Seconds, "60",
        "The length of TIME_WAIT on Alibaba Cloud's kernels.")
        .gone("Linux itself never had it: TIME_WAIT is 60 s there", "nothing; estab's own stacks have estab.tcp_msl_ms"),
    key("net.ipv4.tcp_init_cwnd", INT, Count, "10",
        "The initial window on some vendors' kernels.")
        .gone("Linux itself never had it", "ip route change … initcwnd N, per route"),
    key("net.ipv4.tcp_default_init_rwnd", INT, Count, "60",
        "The initial receive window on Android's kernels.")
        .gone("Linux itself never had it", "ip route change … initrwnd N, per route"),
    key("net.ipv4.tcp_delack_seg", INT, Count, "1",
        "Segments per ACK on some phones' kernels.")
        .gone("Linux itself never had it", "nothing: TCP_QUICKACK per socket, or ip route change … quickack 1"),
    key("net.ipv4.tcp_use_userconfig", INT, Flag, "0",
        "Switched tcp_delack_seg on, on some phones' kernels.")
        .gone("Linux itself never had it", "nothing"),

    key("net.ipv4.ip_always_defrag", BOOL, Flag, "0",
        "Reassembled every fragment, forwarded ones too.").since("2.2.13").on(Ip)
        .removed("2.4", "connection tracking reassembles what it needs", "nothing"),
    key("net.ipv4.ip_autoconfig", BOOL, Flag, "0",
        "The address came from RARP, BOOTP or DHCP at boot.").since("2.2").on(Ip)
        .removed("2.6.18", "nothing used it", "nothing"),
    key("net.ipv4.rt_cache_rebuild_count", INT, Count, "4",
        "How often the route cache was rebuilt before it was given up.").since("2.6.29").on(Ip)
        .gone("Linux 3.6 has no IPv4 route cache", "nothing"),
    key("net.ipv4.route.secret_interval", SECONDS, Seconds, "600",
        "How often the route cache's hash changed.").on(Ip)
        .gone("Linux 3.6 has no IPv4 route cache", "nothing"),
    key("net.ipv4.inet_peer_gc_mintime", SECONDS, Seconds, "10",
        "The least time between collections of entries about single hosts.").on(Ip)
        .gone("entries are collected as they are looked up", "nothing"),
    key("net.ipv4.inet_peer_gc_maxtime", SECONDS, Seconds, "120",
        "The longest time between collections of entries about single hosts.").on(Ip)
        .gone("entries are collected as they are looked up", "nothing"),
    key("net.ipv4.ip_conntrack_max", INT, Count, "65536", "Connections tracked at most.").on(Conntrack)
        .gone(RENAMED, "net.netfilter.nf_conntrack_max"),
    key("net.ipv4.netfilter.ip_conntrack_max", INT, Count, "65536", "Connections tracked at most.").on(Conntrack)
        .gone(RENAMED, "net.netfilter.nf_conntrack_max"),
    key("net.ipv4.netfilter.ip_conntrack_buckets", INT, Count, "16384", "Buckets of the table.").on(Conntrack)
        .gone(RENAMED, "net.netfilter.nf_conntrack_buckets"),
    key("net.ipv4.netfilter.ip_conntrack_generic_timeout", SECONDS, Seconds, "600", "How long flows of other protocols were tracked.").on(Conntrack)
        .gone(RENAMED, "net.netfilter.nf_conntrack_generic_timeout"),
    key("net.ipv4.netfilter.ip_conntrack_tcp_timeout_syn_sent", SECONDS, Seconds, "120", "How long a SYN without answer was tracked.").on(Conntrack)
        .gone(RENAMED, "net.netfilter.nf_conntrack_tcp_timeout_syn_sent"),
    key("net.ipv4.netfilter.ip_conntrack_tcp_timeout_syn_recv", SECONDS, Seconds, "60", "How long a SYN-ACK without answer was tracked.").on(Conntrack)
        .gone(RENAMED, "net.netfilter.nf_conntrack_tcp_timeout_syn_recv"),
    key("net.ipv4.netfilter.ip_conntrack_tcp_timeout_established", SECONDS, Seconds, "432000", "How long an idle connection was tracked.").on(Conntrack)
        .gone(RENAMED, "net.netfilter.nf_conntrack_tcp_timeout_established"),
    key("net.ipv4.netfilter.ip_conntrack_tcp_timeout_fin_wait", SECONDS, Seconds, "120", "How long a connection was tracked after its first FIN.").on(Conntrack)
        .gone(RENAMED, "net.netfilter.nf_conntrack_tcp_timeout_fin_wait"),
    key("net.ipv4.netfilter.ip_conntrack_tcp_timeout_close_wait", SECONDS, Seconds, "60", "How long a connection was tracked after that FIN was acknowledged.").on(Conntrack)
        .gone(RENAMED, "net.netfilter.nf_conntrack_tcp_timeout_close_wait"),
    key("net.ipv4.netfilter.ip_conntrack_tcp_timeout_last_ack", SECONDS, Seconds, "30", "How long a connection was tracked after the second FIN.").on(Conntrack)
        .gone(RENAMED, "net.netfilter.nf_conntrack_tcp_timeout_last_ack"),
    key("net.ipv4.netfilter.ip_conntrack_tcp_timeout_time_wait", SECONDS, Seconds, "120", "How long a closed connection was tracked.").on(Conntrack)
        .gone(RENAMED, "net.netfilter.nf_conntrack_tcp_timeout_time_wait"),
    key("net.ipv4.netfilter.ip_conntrack_tcp_timeout_close", SECONDS, Seconds, "10", "How long a connection was tracked after an RST.").on(Conntrack)
        .gone(RENAMED, "net.netfilter.nf_conntrack_tcp_timeout_close"),
    key("net.ipv4.netfilter.ip_conntrack_udp_timeout", SECONDS, Seconds, "30", "How long a UDP flow in one direction was tracked.").on(Conntrack)
        .gone(RENAMED, "net.netfilter.nf_conntrack_udp_timeout"),
    key("net.ipv4.netfilter.ip_conntrack_udp_timeout_stream", SECONDS, Seconds, "180", "How long a UDP flow in both directions was tracked.").on(Conntrack)
        .gone(RENAMED, "net.netfilter.nf_conntrack_udp_timeout_stream"),
    key("net.ipv4.netfilter.ip_conntrack_icmp_timeout", SECONDS, Seconds, "30", "How long a ping was tracked.").on(Conntrack)
        .gone(RENAMED, "net.netfilter.nf_conntrack_icmp_timeout"),
    key("net.netfilter.nf_conntrack_helper", BOOL, Flag, "0",
        "Gave helpers (FTP, SIP) connections by port number alone.").since("3.5").on(Conntrack)
        .removed("6.1", "it let outsiders open holes in a firewall", "rules that assign helpers: nft's ct helper, iptables' CT target"),
    key("net.netfilter.nf_conntrack_skip_filter", BOOL, Flag, "0",
        "Tracked connections passed rules, on some vendors' kernels.").on(Conntrack)
        .gone("Linux itself never had it", "nothing"),
    key("kernel.maps_protect", BOOL, Flag, "1", "Hid other people's memory maps.").on(Host)
        .gone("they are always protected", "nothing"),
    key("kernel.exec-shield", BOOL, Flag, "1", "No-execute emulation on Red Hat's kernels.").on(Host)
        .gone("Linux itself never had it; processors do it", "nothing"),
    key("vm.pagecache", INT, Mode, "1 15 30", "Limits of the page cache on Red Hat's kernels.").on(Host)
        .gone("Linux itself never had it", "nothing").by_config(),
    key("kernel.sched_migration_cost_ns", INT, Count, "500000", "How long a task counted as cached on its core.").on(Host)
        .removed("5.13", "scheduler settings moved to debugfs", "/sys/kernel/debug/sched/migration_cost_ns"),
];
