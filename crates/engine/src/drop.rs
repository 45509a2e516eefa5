//! Why a packet was discarded: every discard has a name and a counter of its own.

macro_rules! reasons {
    ($($name:ident $linux:literal $text:literal;)*) => {
        /// Why a packet was discarded; the names are Linux's `SKB_DROP_REASON_…`
        /// (include/net/dropreason-core.h), or estab's own where Linux has none.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $(#[doc = $text] $name,)*
        }

        impl DropReason {
            /// Every reason.
            pub const ALL: &[DropReason] = &[$(DropReason::$name,)*];

            /// Linux's name for it, as `perf trace -e skb:kfree_skb` prints it.
            pub const fn name(self) -> &'static str {
                match self { $(DropReason::$name => $linux,)* }
            }

            /// What it means, in one sentence.
            pub const fn about(self) -> &'static str {
                match self { $(DropReason::$name => $text,)* }
            }
        }
    };
}

reasons! {
    NoSocket "NO_SOCKET" "No socket is there for it.";
    PktTooSmall "PKT_TOO_SMALL" "It ends before its headers do.";
    TcpCsum "TCP_CSUM" "Its TCP checksum is wrong.";
    UdpCsum "UDP_CSUM" "Its UDP checksum is wrong.";
    IcmpCsum "ICMP_CSUM" "Its ICMP checksum is wrong.";
    SocketRcvbuff "SOCKET_RCVBUFF" "The socket's receive buffer is full.";
    ProtoMem "PROTO_MEM" "The protocol's memory (tcp_mem, udp_mem) is used up.";
    SocketFilter "SOCKET_FILTER" "The socket doesn't want it.";
    SocketBacklog "SOCKET_BACKLOG" "The accept queue or the queue of requests is full.";
    TcpMd5NotFound "TCP_MD5NOTFOUND" "An MD5 signature is expected; it has none.";
    TcpMd5Unexpected "TCP_MD5UNEXPECTED" "It has an MD5 signature; none is expected.";
    TcpMd5Failure "TCP_MD5FAILURE" "Its MD5 signature is wrong.";
    TcpAuthHdr "TCP_AUTH_HDR" "Its options tell of two signatures, of one of a wrong length, or make no sense.";
    TcpFlags "TCP_FLAGS" "Its control bits make no sense in this state.";
    TcpAbortOnData "TCP_ABORT_ON_DATA" "Data came for a connection nobody reads any more.";
    TcpZeroWindow "TCP_ZEROWINDOW" "It has data, and the window is closed.";
    TcpOldData "TCP_OLD_DATA" "All of its data was received before.";
    TcpOverwindow "TCP_OVERWINDOW" "Its data lies past the window.";
    TcpOfomerge "TCP_OFOMERGE" "Its data is already in the out-of-order queue.";
    TcpOfoDrop "TCP_OFO_DROP" "There is no memory for out-of-order data.";
    TcpOfoQueuePrune "TCP_OFO_QUEUE_PRUNE" "It was thrown out of the out-of-order queue to free memory.";
    TcpRfc7323Paws "TCP_RFC7323_PAWS" "Its timestamp is older than the connection's (PAWS).";
    TcpRfc7323PawsAck "TCP_RFC7323_PAWS_ACK" "An old pure ACK with an older timestamp (reordered).";
    TcpRfc7323TwPaws "TCP_RFC7323_TW_PAWS" "Its timestamp is older than the TIME_WAIT's.";
    TcpRfc7323Tsecr "TCP_RFC7323_TSECR" "It echoes a timestamp that was never sent.";
    TcpOldSequence "TCP_OLD_SEQUENCE" "It ends before the window begins.";
    TcpInvalidSequence "TCP_INVALID_SEQUENCE" "It begins past the window.";
    TcpInvalidAckSequence "TCP_INVALID_ACK_SEQUENCE" "Its ACK is not one that this request can get.";
    TcpInvalidEndSequence "TCP_INVALID_END_SEQUENCE" "It ends past the window.";
    TcpReset "TCP_RESET" "It is a valid reset: nothing to keep.";
    TcpInvalidSyn "TCP_INVALID_SYN" "A SYN where none may be.";
    TcpClose "TCP_CLOSE" "The connection is closed.";
    TcpFastopen "TCP_FASTOPEN" "A duplicate of data that Fast Open took.";
    TcpOldAck "TCP_OLD_ACK" "Its ACK is older than what was acknowledged.";
    TcpTooOldAck "TCP_TOO_OLD_ACK" "Its ACK is older than any window the peer ever offered.";
    TcpAckUnsentData "TCP_ACK_UNSENT_DATA" "It acknowledges data that was never sent.";
    TcpMinttl "TCP_MINTTL" "Its TTL is below IP_MINTTL.";
    TcpListenOverflow "TCP_LISTEN_OVERFLOW" "The listener's accept queue is full.";
    TcpReqQueueFull "TCP_REQQ_FULL" "The listener's queue of requests is full and cookies are off.";
    TcpTwRecycle "TCP_TW_RECYCLE" "A SYN refused by tcp_tw_recycle: an older timestamp from the same address.";
    TcpQuietTime "TCP_QUIET_TIME" "The stack keeps quiet after a restart (estab.tcp_quiet_time).";
    TcpOpensFull "TCP_OPENS_FULL" "Too many transparent opens wait for the application.";
    TcpOpenWaits "TCP_OPEN_WAITS" "The open it repeats still waits for the application.";
    IpCsum "IP_CSUM" "Its IPv4 header checksum is wrong.";
    IpInHdr "IP_INHDR" "Its IP header is malformed.";
    IpRpfilter "IP_RPFILTER" "rp_filter: it came from where no answer would go.";
    IpNoproto "IP_NOPROTO" "Nobody speaks its protocol.";
    IpInvalidSource "IP_INVALID_SOURCE" "Its source can't be one (multicast, broadcast).";
    IpLocalSource "IP_LOCAL_SOURCE" "Its source is one of our own addresses.";
    IpLocalnet "IP_LOCALNET" "Loopback addresses on a wire.";
    IpInvalidDest "IP_INVALID_DEST" "Its destination can't be one.";
    IpInAddrErrors "IP_INADDRERRORS" "Its destination is not ours, and nothing forwards it.";
    IpInNoroutes "IP_INNOROUTES" "There is no way to its destination.";
    NoRoute "IP_OUTNOROUTES" "There is no way out to the destination.";
    PktTooBig "PKT_TOO_BIG" "It is bigger than the MTU and may not be fragmented.";
    DupFrag "DUP_FRAG" "A fragment that was there already.";
    FragReasmTimeout "FRAG_REASM_TIMEOUT" "The rest of its fragments did not come in time.";
    FragTooFar "FRAG_TOO_FAR" "Too many fragments from one source wait.";
    FragOverlap "FRAG_OVERLAP" "Its fragments overlap.";
    FragMem "FRAG_MEM" "The memory for fragments (ipfrag_high_thresh) is used up.";
    TtlExpired "TTL_EXPIRED" "Its TTL or hop limit reached zero on the way through.";
    Ipv6BadExthdr "IPV6_BAD_EXTHDR" "An IPv6 extension header is malformed.";
    Ipv6NdiscFrag "IPV6_NDISC_FRAG" "A neighbour message in fragments.";
    Ipv6NdiscHopLimit "IPV6_NDISC_HOP_LIMIT" "A neighbour message from off the link.";
    Ipv6NdiscBadCode "IPV6_NDISC_BAD_CODE" "A neighbour message with a code.";
    Ipv6NdiscBadOptions "IPV6_NDISC_BAD_OPTIONS" "A neighbour message with malformed options.";
    IcmpIgnored "ICMP_IGNORED" "An ICMP message that this stack does not act on.";
    IcmpMalformed "ICMP_MALFORMED" "An ICMP message that is too short or contradicts itself.";
    IcmpRatelimit "ICMP_RATELIMIT" "An ICMP error held back by icmp_ratelimit or icmp_msgs_per_sec.";
    ArpMalformed "ARP_MALFORMED" "A malformed ARP packet.";
    NeighCreatefail "NEIGH_CREATEFAIL" "The neighbour table is full.";
    NeighFailed "NEIGH_FAILED" "The neighbour does not answer.";
    NeighQueuefull "NEIGH_QUEUEFULL" "Too many packets wait for the neighbour's address.";
    UnhandledProto "UNHANDLED_PROTO" "Neither IP nor ARP.";
    OtherHost "OTHERHOST" "An Ethernet frame for another station.";
    Multicast "UNICAST_IN_L2_MULTICAST" "Multicast or broadcast that nobody here joined.";
    QueueFull "CPU_BACKLOG" "A queue inside the stack is full (netdev_max_backlog).";
    NoBuffer "NOMEM" "The caller's transmit buffer is too small for it.";
}

impl DropReason {
    /// How many there are.
    pub const COUNT: usize = DropReason::ALL.len();
}

impl core::fmt::Display for DropReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.name())
    }
}
