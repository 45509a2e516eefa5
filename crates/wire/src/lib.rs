//! Packets as they are on the wire: IP, ICMP, UDP and TCP headers and options as views over the bytes they came
//! in, writers for the same, and fast Internet checksums.
//!
//! No allocation, no `std`, no `unsafe` of its own. Numbers come out in host order and otherwise raw: sequence
//! numbers are `u32`, flags `u16`; what they mean is for the layers above.
//!
//! Nothing here panics on any input. Every refusal is a named [`Malformed`].
//!
//! # Reading
//!
//! [`ip::Packet`] is either version's, with extension headers walked, lengths checked and the link's padding cut off;
//! its payload goes to [`tcp::Segment`], [`udp::Datagram`], [`icmpv4::Message`], [`icmpv6::Message`] or
//! [`ndp::Message`]. Below it, on a TAP, are [`ethernet::Frame`] and [`arp::Packet`].
//!
//! ```
//! use estab_wire::{ip, tcp, Malformed};
//!
//! fn mss_of_syn(packet: &[u8]) -> Result<Option<u16>, Malformed> {
//!     let packet = ip::Packet::parse(packet)?;
//!     if packet.protocol != ip::protocol::TCP || packet.fragment.is_some() {
//!         return Ok(None);
//!     }
//!     if !tcp::checksum_ok(packet.src, packet.dst, packet.payload) {
//!         return Err(Malformed::TcpChecksumWrong);
//!     }
//!     Ok(tcp::Segment::parse(packet.payload)?.options.mss)
//! }
//!
//! # assert_eq!(mss_of_syn(&[0x45; 20]), Err(Malformed::Ipv4ChecksumWrong));
//! assert_eq!(mss_of_syn(&[]), Err(Malformed::PacketEmpty));
//! ```
//!
//! # Writing
//!
//! Writers fill the front of a buffer and return the length of what they wrote, or `None` when it doesn't fit. TCP's
//! checksum comes last, so that the payload can be summed while it is copied to its place:
//!
//! ```
//! use estab_wire::{checksum::copy_and_sum, ip, tcp};
//!
//! fn segment(buf: &mut [u8], payload: &[u8]) -> Option<usize> {
//!     let (src, dst) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
//!     let header = tcp::Header {
//!         src_port: 40_000,
//!         dst_port: 80,
//!         seq: 1,
//!         ack: 1,
//!         flags: tcp::flags::PSH | tcp::flags::ACK,
//!         window: 502,
//!         ..tcp::Header::default()
//!     };
//!     let options = tcp::Options {
//!         timestamps: Some(tcp::Timestamps { val: 7, ecr: 6 }),
//!         ..tcp::Options::default()
//!     };
//!     let (network, transport) = buf.split_at_mut_checked(ip::ipv4::HEADER_LEN)?;
//!     let header_len = header.write(transport, &options)?;
//!     let (header, data) = transport.split_at_mut(header_len);
//!     let sum = copy_and_sum(data.get_mut(..payload.len())?, payload);
//!     tcp::set_checksum(header, src, dst, sum, payload.len());
//!     let ip = ip::ipv4::Header::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), ip::protocol::TCP);
//!     Some(ip.write(network, header_len + payload.len())? + header_len + payload.len())
//! }
//!
//! let mut buf = [0; 1500];
//! let len = segment(&mut buf, b"GET / HTTP/1.0\r\n\r\n").expect("1500 bytes are enough");
//! let packet = ip::Packet::parse(&buf[..len]).expect("what was written is sound");
//! assert!(tcp::checksum_ok(packet.src, packet.dst, packet.payload));
//! assert_eq!(tcp::Segment::parse(packet.payload).expect("sound").payload, b"GET / HTTP/1.0\r\n\r\n");
//! ```
//!
//! For a device that completes checksums itself there are [`tcp::set_partial_checksum`] and [`udp::write_partial`].
//!
//! # What Linux does
//!
//! Where RFCs leave a choice, packets are taken and refused as Linux 6.x takes and refuses them; each function names
//! the one whose behaviour it matches. Stricter than Linux: more than 16 IPv6 extension headers are refused, and
//! jumbograms.
#![no_std]
#![forbid(unsafe_code)]

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod icmpv4;
pub mod icmpv6;
pub mod ip;
mod malformed;
pub mod ndp;
pub mod tcp;
pub mod udp;

pub use malformed::Malformed;
