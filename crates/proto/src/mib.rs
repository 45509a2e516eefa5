//! The counters of a stack, by the names `nstat` gives the kernel's: the columns of /proc/net/snmp,
//! /proc/net/snmp6 and /proc/net/netstat with their group in front (Linux: net/ipv4/proc.c, net/ipv6/proc.c).

use core::fmt;
use core::str::FromStr;

/// Where the kernel prints a counter, and the first part of its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[allow(missing_docs)] // The names are the kernel's.
pub enum Group {
    Ip,
    Icmp,
    Tcp,
    Udp,
    TcpExt,
    IpExt,
    Ip6,
    Icmp6,
    Udp6,
}

impl Group {
    /// The prefix of the group's names: `TcpExt`.
    pub const fn name(self) -> &'static str {
        match self {
            Group::Ip => "Ip",
            Group::Icmp => "Icmp",
            Group::Tcp => "Tcp",
            Group::Udp => "Udp",
            Group::TcpExt => "TcpExt",
            Group::IpExt => "IpExt",
            Group::Ip6 => "Ip6",
            Group::Icmp6 => "Icmp6",
            Group::Udp6 => "Udp6",
        }
    }

    /// The file of /proc/net that shows it.
    pub const fn file(self) -> &'static str {
        match self {
            Group::Ip | Group::Icmp | Group::Tcp | Group::Udp => "snmp",
            Group::TcpExt | Group::IpExt => "netstat",
            Group::Ip6 | Group::Icmp6 | Group::Udp6 => "snmp6",
        }
    }
}

macro_rules! counters {
    ($($group:ident { $($name:ident $about:literal;)* })*) => {
        /// One counter. Its discriminant is its place in [`Counter::ALL`], so an array of
        /// [`Counter::COUNT`] numbers holds them all.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Counter {
            $($(#[doc = $about] $name,)*)*
        }

        impl Counter {
            /// Every counter, group by group in the kernel's order.
            pub const ALL: &[Counter] = &[$($(Counter::$name,)*)*];

            /// nstat's name: `TcpExtListenOverflows`.
            pub const fn name(self) -> &'static str {
                match self { $($(Counter::$name => stringify!($name),)*)* }
            }

            /// What it counts, in one sentence.
            pub const fn about(self) -> &'static str {
                match self { $($(Counter::$name => $about,)*)* }
            }

            /// The group it is printed in.
            pub const fn group(self) -> Group {
                match self { $($(Counter::$name => Group::$group,)*)* }
            }
        }
    };
}

impl Counter {
    /// How many there are.
    pub const COUNT: usize = Counter::ALL.len();

    /// Its place in [`Counter::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name within its group, as /proc/net/snmp and /proc/net/netstat have it: `ListenOverflows`.
    pub fn short_name(self) -> &'static str {
        self.name().strip_prefix(self.group().name()).unwrap_or(self.name())
    }

    /// It shows how many there are now, not how often something happened: it can fall.
    pub const fn is_gauge(self) -> bool {
        matches!(self, Counter::TcpCurrEstab)
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No counter has that name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownCounter;

impl fmt::Display for UnknownCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no counter has that name; names are nstat's, such as TcpExtListenOverflows")
    }
}

impl core::error::Error for UnknownCounter {}

/// nstat's name, in any case.
impl FromStr for Counter {
    type Err = UnknownCounter;
    fn from_str(s: &str) -> Result<Counter, UnknownCounter> {
        Counter::ALL
            .iter()
            .find(|c| c.name().eq_ignore_ascii_case(s))
            .copied()
            .ok_or(UnknownCounter)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Counter {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.name())
    }
}

counters! {
    Ip {
        IpInReceives "IPv4 packets received, before any check.";
        IpInHdrErrors "IPv4 packets dropped for a bad header or an expired TTL.";
        IpInAddrErrors "IPv4 packets dropped because their destination is neither ours nor to be forwarded.";
        IpForwDatagrams "IPv4 packets forwarded.";
        IpInUnknownProtos "IPv4 packets for a transport protocol nobody here speaks.";
        IpInDiscards "Good IPv4 packets dropped on the way in, for want of memory for example.";
        IpInDelivers "IPv4 packets handed to TCP, UDP, ICMP or a raw socket.";
        IpOutRequests "IPv4 packets that local protocols asked to send.";
        IpOutDiscards "Good IPv4 packets dropped on the way out, for want of memory for example.";
        IpOutNoRoutes "IPv4 packets dropped for want of a route.";
        IpReasmTimeout "IPv4 packets given up because a fragment did not come in time.";
        IpReasmReqds "IPv4 fragments received for reassembly.";
        IpReasmOKs "IPv4 packets put together from fragments.";
        IpReasmFails "Failures of IPv4 reassembly: time out, overlap, or no memory.";
        IpFragOKs "IPv4 packets sent as fragments.";
        IpFragFails "IPv4 packets that had to be fragmented and could not be.";
        IpFragCreates "IPv4 fragments made.";
        IpOutTransmits "IPv4 packets given to the link layer, forwarded ones included.";
    }
    Icmp {
        IcmpInMsgs "ICMP messages received.";
        IcmpInErrors "ICMP messages received that were malformed or of no use.";
        IcmpInCsumErrors "ICMP messages received with a wrong checksum.";
        IcmpInDestUnreachs "Destination Unreachable messages received.";
        IcmpInTimeExcds "Time Exceeded messages received.";
        IcmpInParmProbs "Parameter Problem messages received.";
        IcmpInSrcQuenchs "Source Quench messages received.";
        IcmpInRedirects "Redirect messages received.";
        IcmpInEchos "Echo requests received.";
        IcmpInEchoReps "Echo replies received.";
        IcmpInTimestamps "Timestamp requests received.";
        IcmpInTimestampReps "Timestamp replies received.";
        IcmpInAddrMasks "Address mask requests received.";
        IcmpInAddrMaskReps "Address mask replies received.";
        IcmpOutMsgs "ICMP messages sent.";
        IcmpOutErrors "ICMP messages that could not be sent.";
        IcmpOutRateLimitGlobal "ICMP messages not sent: the host-wide limit icmp_msgs_per_sec was reached.";
        IcmpOutRateLimitHost "ICMP messages not sent: the destination's limit icmp_ratelimit was reached.";
        IcmpOutDestUnreachs "Destination Unreachable messages sent.";
        IcmpOutTimeExcds "Time Exceeded messages sent.";
        IcmpOutParmProbs "Parameter Problem messages sent.";
        IcmpOutSrcQuenchs "Source Quench messages sent.";
        IcmpOutRedirects "Redirect messages sent.";
        IcmpOutEchos "Echo requests sent.";
        IcmpOutEchoReps "Echo replies sent.";
        IcmpOutTimestamps "Timestamp requests sent.";
        IcmpOutTimestampReps "Timestamp replies sent.";
        IcmpOutAddrMasks "Address mask requests sent.";
        IcmpOutAddrMaskReps "Address mask replies sent.";
    }
    Tcp {
        TcpActiveOpens "Connections opened from here: entries into SYN_SENT.";
        TcpPassiveOpens "Connections opened by a peer: children made for a listener when its handshake completed.";
        TcpAttemptFails "Opens that failed: from SYN_SENT or SYN_RECV to CLOSE, or a half-open request that was reset.";
        TcpEstabResets "Connections that went from ESTABLISHED or CLOSE_WAIT straight to CLOSE.";
        TcpCurrEstab "Connections now in ESTABLISHED or CLOSE_WAIT.";
        TcpInSegs "Segments received, bad ones included.";
        TcpOutSegs "Segments sent, without those that only retransmit and without resets.";
        TcpRetransSegs "Segments sent again.";
        TcpInErrs "Segments received with a bad header length or checksum.";
        TcpOutRsts "Segments sent with RST.";
        TcpInCsumErrors "Segments received with a wrong checksum.";
    }
    Udp {
        UdpInDatagrams "UDP datagrams delivered over IPv4.";
        UdpNoPorts "UDP datagrams over IPv4 for a port nobody listens on.";
        UdpInErrors "UDP datagrams over IPv4 dropped for any other reason.";
        UdpOutDatagrams "UDP datagrams sent over IPv4.";
        UdpRcvbufErrors "UDP datagrams over IPv4 dropped because the socket's receive buffer was full.";
        UdpSndbufErrors "UDP datagrams over IPv4 not sent because a send buffer was full.";
        UdpInCsumErrors "UDP datagrams received over IPv4 with a wrong checksum.";
        UdpIgnoredMulti "Multicast UDP datagrams over IPv4 that no socket wanted.";
        UdpMemErrors "UDP datagrams over IPv4 dropped because udp_mem was reached.";
    }
    TcpExt {
        TcpExtSyncookiesSent "SYN-ACKs sent that carry a SYN cookie.";
        TcpExtSyncookiesRecv "ACKs received whose SYN cookie was good.";
        TcpExtSyncookiesFailed "ACKs received whose SYN cookie was bad or too old.";
        TcpExtEmbryonicRsts "RSTs received for a request still in SYN_RECV.";
        TcpExtPruneCalled "Times a receive queue had to be shrunk because its buffer was over its limit.";
        TcpExtRcvPruned "Segments dropped because shrinking the receive queue did not make room.";
        TcpExtOfoPruned "Times out-of-order data was thrown away to make room in a receive buffer.";
        TcpExtOutOfWindowIcmps "ICMP errors ignored because the sequence number they quote is outside the window.";
        TcpExtLockDroppedIcmps "ICMP errors ignored because an application was busy in the socket.";
        TcpExtArpFilter "ARP requests not answered because of arp_filter.";
        TcpExtTW "TIME_WAITs that ended when their time was up.";
        TcpExtTWRecycled "TIME_WAITs taken over early by an outgoing connection to the same destination (tcp_tw_reuse).";
        TcpExtTWKilled "TIME_WAITs ended by the slow timer; no longer counted since Linux 4.1.";
        TcpExtPAWSActive "SYN-ACKs rejected because the timestamp they echo was not sent by this connection.";
        TcpExtPAWSEstab "Segments of a connection dropped because their timestamp is older than one already seen.";
        TcpExtBeyondWindow "Segments dropped because they end beyond the receive window.";
        TcpExtTSEcrRejected "Handshake ACKs dropped because the timestamp they echo was never sent.";
        TcpExtPAWSOldAck "Pure ACKs dropped for an old timestamp, which reordering alone explains.";
        TcpExtPAWSTimewait "Segments for a TIME_WAIT dropped because their timestamp is old.";
        TcpExtDelayedACKs "Delayed ACKs that the timer sent.";
        TcpExtDelayedACKLocked "Delayed ACKs put off once more because an application was busy in the socket.";
        TcpExtDelayedACKLost "Segments received again in full: the peer did not get our ACK in time.";
        TcpExtListenOverflows "Connections or SYNs dropped because a listener's accept queue was full.";
        TcpExtListenDrops "SYNs and handshake ACKs a listener dropped for any reason, overflows included.";
        TcpExtTCPHPHits "Segments with data taken on the fast path (header prediction).";
        TcpExtTCPPureAcks "ACKs without data taken on the slow path.";
        TcpExtTCPHPAcks "ACKs without data taken on the fast path (header prediction).";
        TcpExtTCPRenoRecovery "Fast recoveries entered on duplicate ACKs, the peer having no SACK.";
        TcpExtTCPSackRecovery "Fast recoveries entered with SACK.";
        TcpExtTCPSACKReneging "Times a peer took back data it had acknowledged selectively.";
        TcpExtTCPSACKReorder "Times SACK showed that the network reorders.";
        TcpExtTCPRenoReorder "Times duplicate ACKs showed that the network reorders.";
        TcpExtTCPTSReorder "Times timestamps, on a partial ACK, showed that the network reorders.";
        TcpExtTCPFullUndo "Recoveries undone because timestamps showed every retransmission was needless.";
        TcpExtTCPPartialUndo "Recoveries undone on a partial ACK, by Hoe's test or timestamps.";
        TcpExtTCPDSACKUndo "Recoveries undone because DSACKs showed every retransmission was needless.";
        TcpExtTCPLossUndo "Timeouts' loss states undone because the timeout was needless.";
        TcpExtTCPLostRetransmit "Retransmitted segments found lost in their turn.";
        TcpExtTCPRenoFailures "Retransmission timeouts after duplicate ACKs too few for recovery, without SACK.";
        TcpExtTCPSackFailures "Retransmission timeouts after selective acknowledgments too few for recovery.";
        TcpExtTCPLossFailures "Retransmission timeouts while recovering from an earlier one.";
        TcpExtTCPFastRetrans "Segments sent again in fast recovery.";
        TcpExtTCPSlowStartRetrans "Segments sent again in slow start after a timeout.";
        TcpExtTCPTimeouts "Retransmission timeouts, those of SYNs and SYN-ACKs included.";
        TcpExtTCPLossProbes "Tail loss probes sent.";
        TcpExtTCPLossProbeRecovery "Losses that a tail loss probe repaired.";
        TcpExtTCPRenoRecoveryFail "Retransmission timeouts during fast recovery without SACK.";
        TcpExtTCPSackRecoveryFail "Retransmission timeouts during fast recovery with SACK.";
        TcpExtTCPRcvCollapsed "Segments squeezed together in a receive queue that was over its limit.";
        TcpExtTCPBacklogCoalesce "Segments merged while they waited for an application busy in the socket.";
        TcpExtTCPDSACKOldSent "DSACKs sent for data already delivered.";
        TcpExtTCPDSACKOfoSent "DSACKs sent for data already in the out-of-order queue.";
        TcpExtTCPDSACKRecv "DSACKs received for data below the cumulative ACK.";
        TcpExtTCPDSACKOfoRecv "DSACKs received for data above the cumulative ACK.";
        TcpExtTCPAbortOnData "Connections reset because data came after the application had closed, or by linger 0.";
        TcpExtTCPAbortOnClose "Connections reset because the application closed with data unread.";
        TcpExtTCPAbortOnMemory "Connections reset because memory or tcp_max_orphans was exhausted.";
        TcpExtTCPAbortOnTimeout "Connections given up because the peer stopped answering.";
        TcpExtTCPAbortOnLinger "Connections reset in FIN_WAIT_2 because of TCP_LINGER2.";
        TcpExtTCPAbortFailed "Resets that could not be sent, for want of memory for example.";
        TcpExtTCPMemoryPressures "Times TCP came under memory pressure (the middle value of tcp_mem).";
        TcpExtTCPMemoryPressuresChrono "Milliseconds spent under memory pressure.";
        TcpExtTCPSACKDiscard "SACK blocks received that made no sense.";
        TcpExtTCPDSACKIgnoredOld "DSACK blocks ignored because the data was acknowledged too long ago.";
        TcpExtTCPDSACKIgnoredNoUndo "DSACK blocks ignored because no recovery was left to undo.";
        TcpExtTCPSpuriousRTOs "Retransmission timeouts that F-RTO found to be needless.";
        TcpExtTCPMD5NotFound "Segments dropped because they lack the MD5 signature that is required.";
        TcpExtTCPMD5Unexpected "Segments dropped because they carry an MD5 signature nobody asked for.";
        TcpExtTCPMD5Failure "Segments dropped because their MD5 signature is wrong.";
        TcpExtTCPSackShifted "Times SACKed data was moved from one queued segment to its neighbour.";
        TcpExtTCPSackMerged "Times two SACKed segments in the queue became one.";
        TcpExtTCPSackShiftFallback "Times SACKed segments could not be merged.";
        TcpExtTCPBacklogDrop "Segments dropped because too many waited for an application busy in the socket.";
        TcpExtPFMemallocDrop "Packets dropped because they used emergency memory and the socket may not.";
        TcpExtTCPMinTTLDrop "Segments dropped because their TTL is below the socket's IP_MINTTL.";
        TcpExtTCPDeferAcceptDrop "Bare handshake ACKs ignored because of TCP_DEFER_ACCEPT.";
        TcpExtIPReversePathFilter "Packets dropped by rp_filter: their source is not reached through that interface.";
        TcpExtTCPTimeWaitOverflow "TIME_WAITs not kept because tcp_max_tw_buckets was reached.";
        TcpExtTCPReqQFullDoCookies "SYNs answered by a cookie because the SYN queue was full.";
        TcpExtTCPReqQFullDrop "SYNs dropped because the SYN queue was full and cookies are off.";
        TcpExtTCPRetransFail "Retransmissions that failed before they left this host.";
        TcpExtTCPRcvCoalesce "Segments merged into the one before them in a receive queue.";
        TcpExtTCPOFOQueue "Segments queued out of order.";
        TcpExtTCPOFODrop "Segments out of order dropped for want of memory.";
        TcpExtTCPOFOMerge "Segments out of order dropped because the queue held their data already.";
        TcpExtTCPChallengeACK "Challenge ACKs sent for a suspicious RST, SYN or ACK (RFC 5961).";
        TcpExtTCPSYNChallenge "Challenge ACKs sent for a SYN on an open connection (RFC 5961).";
        TcpExtTCPFastOpenActive "Outgoing connections whose data in the SYN was acknowledged (Fast Open).";
        TcpExtTCPFastOpenActiveFail "Outgoing connections whose data in the SYN was not taken.";
        TcpExtTCPFastOpenPassive "Incoming connections accepted by Fast Open.";
        TcpExtTCPFastOpenPassiveFail "Incoming Fast Opens refused because of their cookie.";
        TcpExtTCPFastOpenListenOverflow "Incoming Fast Opens refused because too many were pending.";
        TcpExtTCPFastOpenCookieReqd "SYNs that asked for a Fast Open cookie.";
        TcpExtTCPFastOpenBlackhole "Times Fast Open was switched off because a middlebox seemed to eat it.";
        TcpExtTCPSpuriousRtxHostQueues "Retransmissions left out because the original is still in this host's own queues.";
        TcpExtBusyPollRxPackets "Packets received by busy polling.";
        TcpExtTCPAutoCorking "Times a small segment waited because an earlier one had not left the host (tcp_autocorking).";
        TcpExtTCPFromZeroWindowAdv "Times a zero receive window was opened again.";
        TcpExtTCPToZeroWindowAdv "Times the receive window went to zero.";
        TcpExtTCPWantZeroWindowAdv "Times the receive window should have gone to zero, had that not shrunk it.";
        TcpExtTCPSynRetrans "SYNs and SYN-ACKs sent again.";
        TcpExtTCPOrigDataSent "Segments with data sent for the first time.";
        TcpExtTCPHystartTrainDetect "Slow starts ended by HyStart's ACK train.";
        TcpExtTCPHystartTrainCwnd "The sum of the congestion windows at which HyStart's ACK train ended slow start.";
        TcpExtTCPHystartDelayDetect "Slow starts ended by HyStart's delay increase.";
        TcpExtTCPHystartDelayCwnd "The sum of the congestion windows at which HyStart's delay increase ended slow start.";
        TcpExtTCPACKSkippedSynRecv "ACKs in SYN_RECV not sent because of tcp_invalid_ratelimit.";
        TcpExtTCPACKSkippedPAWS "ACKs for segments with an old timestamp not sent because of tcp_invalid_ratelimit.";
        TcpExtTCPACKSkippedSeq "ACKs for segments outside the window not sent because of tcp_invalid_ratelimit.";
        TcpExtTCPACKSkippedFinWait2 "ACKs in FIN_WAIT_2 not sent because of tcp_invalid_ratelimit.";
        TcpExtTCPACKSkippedTimeWait "ACKs in TIME_WAIT not sent because of tcp_invalid_ratelimit.";
        TcpExtTCPACKSkippedChallenge "Challenge ACKs not sent because of tcp_invalid_ratelimit.";
        TcpExtTCPWinProbe "Zero-window probes sent.";
        TcpExtTCPKeepAlive "Keepalive probes sent.";
        TcpExtTCPMTUPFail "Path MTU probes that were lost (tcp_mtu_probing).";
        TcpExtTCPMTUPSuccess "Path MTU probes that arrived (tcp_mtu_probing).";
        TcpExtTCPDelivered "Segments with data that peers acknowledged, retransmitted ones included.";
        TcpExtTCPDeliveredCE "Segments with data that peers acknowledged with an ECN congestion mark.";
        TcpExtTCPAckCompressed "Duplicate ACKs left out by ACK compression (tcp_comp_sack_nr).";
        TcpExtTCPZeroWindowDrop "Segments dropped because the receive window was zero.";
        TcpExtTCPRcvQDrop "Segments dropped because the receive buffer was full.";
        TcpExtTCPWqueueTooBig "Segments not split because the send queue had grown past its buffer.";
        TcpExtTCPFastOpenPassiveAltKey "Incoming Fast Opens accepted by the backup key.";
        TcpExtTcpTimeoutRehash "Times a timeout made a socket choose another path hash.";
        TcpExtTcpDuplicateDataRehash "Times data received again made a socket choose another path hash.";
        TcpExtTCPDSACKRecvSegs "Segments that received DSACKs reported as duplicates.";
        TcpExtTCPDSACKIgnoredDubious "DSACK blocks ignored because they report more than was ever sent again.";
        TcpExtTCPMigrateReqSuccess "Requests moved from a closing listener to another of its group (tcp_migrate_req).";
        TcpExtTCPMigrateReqFailure "Requests lost because moving them to another listener failed (tcp_migrate_req).";
        TcpExtTCPPLBRehash "Times protective load balancing chose another path (tcp_plb_enabled).";
        TcpExtTCPAORequired "Segments dropped because they lack the TCP-AO signature that is required.";
        TcpExtTCPAOBad "Segments dropped because their TCP-AO signature is wrong.";
        TcpExtTCPAOKeyNotFound "Segments dropped because no TCP-AO key matches them.";
        TcpExtTCPAOGood "Segments whose TCP-AO signature was good.";
        TcpExtTCPAODroppedIcmps "ICMP errors ignored because the connection is signed by TCP-AO.";
        TcpExtPAWSPassive "SYNs dropped for a timestamp older than their host's last (tcp_tw_recycle; gone from Linux since 4.12).";
    }
    IpExt {
        IpExtInNoRoutes "IPv4 packets received that no route could be found for.";
        IpExtInTruncatedPkts "IPv4 packets received shorter than their header says.";
        IpExtInMcastPkts "IPv4 multicast packets received.";
        IpExtOutMcastPkts "IPv4 multicast packets sent.";
        IpExtInBcastPkts "IPv4 broadcast packets received.";
        IpExtOutBcastPkts "IPv4 broadcast packets sent.";
        IpExtInOctets "Bytes of IPv4 packets received.";
        IpExtOutOctets "Bytes of IPv4 packets sent.";
        IpExtInMcastOctets "Bytes of IPv4 multicast packets received.";
        IpExtOutMcastOctets "Bytes of IPv4 multicast packets sent.";
        IpExtInBcastOctets "Bytes of IPv4 broadcast packets received.";
        IpExtOutBcastOctets "Bytes of IPv4 broadcast packets sent.";
        IpExtInCsumErrors "IPv4 packets received with a wrong header checksum.";
        IpExtInNoECTPkts "IPv4 packets received that do not support ECN.";
        IpExtInECT1Pkts "IPv4 packets received marked ECT(1).";
        IpExtInECT0Pkts "IPv4 packets received marked ECT(0).";
        IpExtInCEPkts "IPv4 packets received marked by ECN as having met congestion.";
        IpExtReasmOverlaps "IPv4 packets dropped because their fragments overlap.";
    }
    Ip6 {
        Ip6InReceives "IPv6 packets received, before any check.";
        Ip6InHdrErrors "IPv6 packets dropped for a bad header or an expired hop limit.";
        Ip6InTooBigErrors "IPv6 packets not forwarded because they exceed the next link's MTU.";
        Ip6InNoRoutes "IPv6 packets received that no route could be found for.";
        Ip6InAddrErrors "IPv6 packets dropped because their destination is neither ours nor to be forwarded.";
        Ip6InUnknownProtos "IPv6 packets for a transport protocol nobody here speaks.";
        Ip6InTruncatedPkts "IPv6 packets received shorter than their header says.";
        Ip6InDiscards "Good IPv6 packets dropped on the way in, for want of memory for example.";
        Ip6InDelivers "IPv6 packets handed to TCP, UDP, ICMPv6 or a raw socket.";
        Ip6OutForwDatagrams "IPv6 packets forwarded.";
        Ip6OutRequests "IPv6 packets that local protocols asked to send.";
        Ip6OutDiscards "Good IPv6 packets dropped on the way out, for want of memory for example.";
        Ip6OutNoRoutes "IPv6 packets dropped for want of a route.";
        Ip6ReasmTimeout "IPv6 packets given up because a fragment did not come in time.";
        Ip6ReasmReqds "IPv6 fragments received for reassembly.";
        Ip6ReasmOKs "IPv6 packets put together from fragments.";
        Ip6ReasmFails "Failures of IPv6 reassembly: time out, overlap, or no memory.";
        Ip6FragOKs "IPv6 packets sent as fragments.";
        Ip6FragFails "IPv6 packets that had to be fragmented and could not be.";
        Ip6FragCreates "IPv6 fragments made.";
        Ip6InMcastPkts "IPv6 multicast packets received.";
        Ip6OutMcastPkts "IPv6 multicast packets sent.";
        Ip6InOctets "Bytes of IPv6 packets received.";
        Ip6OutOctets "Bytes of IPv6 packets sent.";
        Ip6InMcastOctets "Bytes of IPv6 multicast packets received.";
        Ip6OutMcastOctets "Bytes of IPv6 multicast packets sent.";
        Ip6InBcastOctets "Always 0: IPv6 has no broadcast.";
        Ip6OutBcastOctets "Always 0: IPv6 has no broadcast.";
        Ip6InNoECTPkts "IPv6 packets received that do not support ECN.";
        Ip6InECT1Pkts "IPv6 packets received marked ECT(1).";
        Ip6InECT0Pkts "IPv6 packets received marked ECT(0).";
        Ip6InCEPkts "IPv6 packets received marked by ECN as having met congestion.";
        Ip6OutTransmits "IPv6 packets given to the link layer, forwarded ones included.";
    }
    Icmp6 {
        Icmp6InMsgs "ICMPv6 messages received.";
        Icmp6InErrors "ICMPv6 messages received that were malformed or of no use.";
        Icmp6OutMsgs "ICMPv6 messages sent.";
        Icmp6OutErrors "ICMPv6 messages that could not be sent.";
        Icmp6InCsumErrors "ICMPv6 messages received with a wrong checksum.";
        Icmp6OutRateLimitHost "ICMPv6 messages not sent because the destination's rate limit was reached.";
        Icmp6InDestUnreachs "Destination Unreachable messages received.";
        Icmp6InPktTooBigs "Packet Too Big messages received.";
        Icmp6InTimeExcds "Time Exceeded messages received.";
        Icmp6InParmProblems "Parameter Problem messages received.";
        Icmp6InEchos "Echo requests received.";
        Icmp6InEchoReplies "Echo replies received.";
        Icmp6InGroupMembQueries "Multicast listener queries received.";
        Icmp6InGroupMembResponses "Multicast listener reports received.";
        Icmp6InGroupMembReductions "Multicast listener done messages received.";
        Icmp6InRouterSolicits "Router solicitations received.";
        Icmp6InRouterAdvertisements "Router advertisements received.";
        Icmp6InNeighborSolicits "Neighbour solicitations received.";
        Icmp6InNeighborAdvertisements "Neighbour advertisements received.";
        Icmp6InRedirects "Redirects received.";
        Icmp6InMLDv2Reports "MLDv2 reports received.";
        Icmp6OutDestUnreachs "Destination Unreachable messages sent.";
        Icmp6OutPktTooBigs "Packet Too Big messages sent.";
        Icmp6OutTimeExcds "Time Exceeded messages sent.";
        Icmp6OutParmProblems "Parameter Problem messages sent.";
        Icmp6OutEchos "Echo requests sent.";
        Icmp6OutEchoReplies "Echo replies sent.";
        Icmp6OutGroupMembQueries "Multicast listener queries sent.";
        Icmp6OutGroupMembResponses "Multicast listener reports sent.";
        Icmp6OutGroupMembReductions "Multicast listener done messages sent.";
        Icmp6OutRouterSolicits "Router solicitations sent.";
        Icmp6OutRouterAdvertisements "Router advertisements sent.";
        Icmp6OutNeighborSolicits "Neighbour solicitations sent.";
        Icmp6OutNeighborAdvertisements "Neighbour advertisements sent.";
        Icmp6OutRedirects "Redirects sent.";
        Icmp6OutMLDv2Reports "MLDv2 reports sent.";
    }
    Udp6 {
        Udp6InDatagrams "UDP datagrams delivered over IPv6.";
        Udp6NoPorts "UDP datagrams over IPv6 for a port nobody listens on.";
        Udp6InErrors "UDP datagrams over IPv6 dropped for any other reason.";
        Udp6OutDatagrams "UDP datagrams sent over IPv6.";
        Udp6RcvbufErrors "UDP datagrams over IPv6 dropped because the socket's receive buffer was full.";
        Udp6SndbufErrors "UDP datagrams over IPv6 not sent because a send buffer was full.";
        Udp6InCsumErrors "UDP datagrams received over IPv6 with a wrong checksum.";
        Udp6IgnoredMulti "Multicast UDP datagrams over IPv6 that no socket wanted.";
        Udp6MemErrors "UDP datagrams over IPv6 dropped because udp_mem was reached.";
    }
}
