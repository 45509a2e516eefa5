//! The findings about a stack's connections, for `--explain`.

use crate::finding::Rule;

const fn rule(id: &'static str, about: &'static str) -> Rule {
    Rule { id, about }
}

/// Every kind of finding that [`diagnose`](super::diagnose) makes.
#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    rule("ephemeral-ports", "Local ports towards one destination are nearly used up: counted for each source address, destination and port, out of ip_local_port_range less reserved ports and those that something listens on. TIME_WAITs that tcp_tw_reuse lets a connect take over don't count. Warning from 80 %, critical from 97 %."),
    rule("time-wait", "Many TIME_WAITs (1000 or more) that do no harm: whose they are, and how many the rate of closes makes one expect."),
    rule("time-wait-overflow", "TIME_WAITs destroyed at once, past tcp_max_tw_buckets (TCPTimeWaitOverflow grows)."),
    rule("close-wait-leak", "Connections whose peer has closed and whose process does not: by process, with descriptors, age and unread bytes. Warning from 10 that have been silent for 10 s, or for 1 s while they become more."),
    rule("fd-limit", "A process that is near RLIMIT_NOFILE, and when it meets it at this rate. Warning from 80 %, critical from 95 %."),
    rule("accept-queue", "A listener whose accept queue is full (Recv-Q above Send-Q) or has overflowed between the samples (ListenOverflows), and which limit binds it."),
    rule("listen-backlog-capped", "An accept queue that overflows though connections are accepted: its backlog is shorter than the bursts. The kernel shows min(backlog, somaxconn) alone (Send-Q), so what the application asked for is known only where that is below somaxconn."),
    rule("syn-flood", "Many handshakes that are never finished while the application keeps up with accepting: a flood, or SYN-ACKs that get lost."),
    rule("listen-drops", "ListenDrops that neither a full accept queue nor a full SYN queue explains."),
    rule("fin-wait-2", "Half-closed connections that a process still holds while the peer does not close."),
    rule("last-ack", "Connections whose FIN, or data before it, is sent again and again without an ACK: LAST_ACK, FIN_WAIT_1, CLOSING."),
    rule("orphans", "Connections without a process, against tcp_max_orphans; in a network namespace, which shows no limit, its own from 256."),
    rule("syn-sent", "Five connects or more to one destination whose SYNs are sent again without an answer."),
    rule("retransmissions", "The share of segments sent again between the samples, SYNs left out. Notice from 1 %, warning from 5 %."),
    rule("zero-window", "Peers that take no data, in both samples."),
    rule("resets", "Many resets sent between the samples, against the connections opened."),
    rule("paws-drops", "Segments or SYNs refused for an old timestamp: mostly hosts behind one NAT."),
    rule("no-keepalive", "Connections silent for over an hour without a keepalive timer."),
    rule("tcp-mem", "TCP's memory against tcp_mem: the host's, also in a network namespace."),
    rule("memory-pressure", "Counters that tell of segments or connections lost for want of memory."),
    rule("conntrack-full", "Connection tracking's table is nearly full. Warning from 80 %, critical from 95 %."),
    rule("conntrack-forgets-idle", "Connection tracking forgets idle connections before keepalive probes them."),
];
