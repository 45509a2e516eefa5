//! The findings about settings, for `--explain`.

use crate::finding::Rule;

const fn rule(id: &'static str, about: &'static str) -> Rule {
    Rule { id, about }
}

/// Every kind of finding that [`check`](super::check) makes.
#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    rule("sysctl-syntax", "A line of a sysctl.conf file that is neither a setting, key = value, nor a comment; often a command copied from a guide."),
    rule("sysctl-unknown", "A key that no Linux and not this kernel has: misspelt, or of a vendor's kernel."),
    rule("sysctl-removed", "A key that Linux had and has no more; setting it fails."),
    rule("sysctl-read-only", "A key that can only be read."),
    rule("sysctl-bad-value", "A value that the kernel refuses with EINVAL: not a number, out of range, or with the wrong separator."),
    rule("sysctl-no-effect", "A key that is still there for compatibility and does nothing."),
    rule("sysctl-overridden", "A line that a later line makes void."),
    rule("sysctl-not-in-namespace", "A key of the whole host, absent in a container's network namespace though the kernel has it."),
    rule("sysctl-too-new", "A key that came with a later Linux than the one that runs."),
    rule("sysctl-absent", "A key that this kernel lacks for now or for good: a module is not loaded, an interface is not there, a part was not built."),
    rule("sysctl-default", "A line that restates the default. It does no harm until a later kernel has a better one."),
    rule("sysctl-below-default", "A limit that was once a raise and is below today's default."),
    rule("sysctl-not-applied", "The running kernel has another value than the files give."),
    rule("sysctl-wrong-unit", "A value that makes sense only in another unit: bytes for pages (tcp_mem), milliseconds for seconds."),
    rule("sysctl-inconsistent", "Three sizes - least, usual, most - that are not in that order."),
    rule("tcp-tw-recycle", "tcp_tw_recycle on a kernel that still has it: it refuses clients behind a NAT."),
    rule("tcp-tw-reuse", "tcp_tw_reuse 1: what it does, and for whom."),
    rule("tcp-tw-reuse-without-timestamps", "tcp_tw_reuse without timestamps, which it needs."),
    rule("tcp-fin-timeout", "tcp_fin_timeout, which is believed to shorten TIME_WAIT and does not."),
    rule("tcp-few-tw-buckets", "tcp_max_tw_buckets below the default: TIME_WAITs are destroyed before they have done their work."),
    rule("tcp-many-orphans", "tcp_max_orphans whose memory the machine has not got."),
    rule("tcp-large-minimum", "A least buffer size that is promised to each socket even when memory runs out."),
    rule("tcp-syncookies", "SYN cookies switched off, or always on."),
    rule("tcp-max-syn-backlog", "tcp_max_syn_backlog, which counts only without SYN cookies."),
    rule("tcp-abort-on-overflow", "Clients are reset when an application is slow to accept."),
    rule("tcp-timestamps-off", "Timestamps switched off."),
    rule("tcp-sack-off", "Selective acknowledgments switched off."),
    rule("tcp-window-scaling-off", "Window scaling switched off."),
    rule("tcp-autotuning-off", "Receive buffers that do not grow."),
    rule("tcp-few-retries", "tcp_retries2 below what RFC 1122 asks for."),
    rule("tcp-few-syn-retries", "Too few SYNs or SYN-ACKs to outlast a moment of loss."),
    rule("tcp-keepalive", "Keepalive settings, which work only for sockets with SO_KEEPALIVE."),
    rule("port-range-narrow", "Few ports for outgoing connections."),
    rule("port-range-wide", "A port range that takes in ports services listen on."),
    rule("conntrack-forgets-idle", "Connection tracking that forgets idle connections before keepalive would keep them."),
    rule("conntrack-time-wait", "Connection tracking's TIME_WAIT, taken for the sockets'."),
    rule("rp-filter", "rp_filter: its default and what it drops."),
    rule("congestion-control-absent", "A congestion control that is not loaded."),
];
