use core::fmt;

macro_rules! malformed {
    ($($name:ident: $text:literal,)+) => {
        /// What is wrong with a packet: one variant per offence, so that each can be counted and named.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Malformed {
            $(#[doc = $text] $name,)+
        }

        impl Malformed {
            /// Every offence there is.
            pub const ALL: &[Malformed] = &[$(Malformed::$name),+];

            /// The variant's name, for counters and traces.
            pub fn name(self) -> &'static str {
                match self { $(Malformed::$name => stringify!($name),)+ }
            }
        }

        impl fmt::Display for Malformed {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Malformed::$name => $text,)+ })
            }
        }
    };
}

malformed! {
    PacketEmpty: "the packet has no bytes",
    IpVersionUnknown: "the IP version is neither 4 nor 6",

    Ipv4HeaderTruncated: "fewer than the 20 bytes of an IPv4 header",
    Ipv4HeaderLengthTooSmall: "the IPv4 header length is below 20 bytes",
    Ipv4HeaderLengthTooLarge: "the IPv4 header length is beyond the packet's end",
    Ipv4TotalLengthTooSmall: "the IPv4 total length is below the header length",
    Ipv4TotalLengthTooLarge: "the IPv4 total length is beyond the bytes received",
    Ipv4ChecksumWrong: "the IPv4 header checksum is wrong",
    Ipv4OptionLengthWrong: "an IPv4 option's length is below 2 or beyond the header's end",
    Ipv4FragmentTooLong: "an IPv4 fragment ends beyond 65,535 bytes",

    Ipv6HeaderTruncated: "fewer than the 40 bytes of an IPv6 header",
    Ipv6PayloadLengthTooLarge: "the IPv6 payload length is beyond the bytes received",
    Ipv6JumboPayload: "an IPv6 jumbogram, which is not supported",
    Ipv6ExtensionTruncated: "an IPv6 extension header is beyond the packet's end",
    Ipv6HopByHopNotFirst: "an IPv6 hop-by-hop header that is not the first header",
    Ipv6TooManyExtensions: "more IPv6 extension headers than anyone has use for",
    Ipv6OptionLengthWrong: "an IPv6 option's length is beyond its extension header",
    Ipv6OptionUnknown: "an IPv6 option that isn't known and asks not to be passed over",
    Ipv6FragmentUnaligned: "an IPv6 fragment that isn't the last has a length that is no multiple of 8",
    Ipv6FragmentTooLong: "an IPv6 fragment ends beyond 65,535 bytes",

    TcpHeaderTruncated: "fewer than the 20 bytes of a TCP header",
    TcpDataOffsetTooSmall: "the TCP data offset is below 20 bytes",
    TcpDataOffsetTooLarge: "the TCP data offset is beyond the segment's end",
    TcpChecksumWrong: "the TCP checksum is wrong",

    UdpHeaderTruncated: "fewer than the 8 bytes of a UDP header",
    UdpLengthTooSmall: "the UDP length is below 8 bytes",
    UdpLengthTooLarge: "the UDP length is beyond the datagram's end",
    UdpChecksumWrong: "the UDP checksum is wrong",
    UdpChecksumMissing: "a UDP datagram over IPv6 without a checksum",

    IcmpHeaderTruncated: "fewer than the 8 bytes of an ICMP header",
    IcmpChecksumWrong: "the ICMP checksum is wrong",
    IcmpQuoteTruncated: "an ICMP error quotes less than an IP header and 8 bytes",
    IcmpQuoteNotIp: "an ICMP error quotes something that isn't an IP packet",

    EthernetHeaderTruncated: "fewer than the 14 bytes of an Ethernet header",
    EthernetTagTruncated: "an Ethernet VLAN tag is beyond the frame's end",

    ArpTruncated: "fewer than the 28 bytes of an ARP packet",
    ArpNotEthernet: "an ARP packet for other hardware than Ethernet",
    ArpNotIpv4: "an ARP packet for another protocol than IPv4",

    NdpTruncated: "a neighbour discovery message shorter than its kind requires",
    NdpHopLimitNot255: "a neighbour discovery message that came through a router: its hop limit isn't 255",
    NdpCodeNotZero: "a neighbour discovery message whose code isn't 0",
    NdpTargetMulticast: "a neighbour discovery target that is a multicast address",
    NdpSolicitedToMulticast: "a neighbour advertisement to many that claims to be solicited by one",
    NdpOptionLengthZero: "a neighbour discovery option of length 0",
    NdpOptionTruncated: "a neighbour discovery option beyond the message's end",
}

impl core::error::Error for Malformed {}
