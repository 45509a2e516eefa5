//! A SYN flood: SYNs out of nowhere, through a raw socket of the host.

use estab_wire::checksum::Sum;
use estab_wire::ip::{ipv4, ipv6, protocol};
use estab_wire::tcp::{self, Options, Timestamps, flags};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

/// SYNs to one port, from random ports of random hosts in the networks that are set apart for benchmarks (RFC 6890):
/// nobody is there to answer.
pub(crate) struct Flood {
    socket: OwnedFd,
    to: SocketAddr,
    random: u64,
}

/// As many SYNs as surely fit the queue of a TUN.
const BURST: usize = 400;

impl Flood {
    pub(crate) fn new(to: SocketAddr) -> Flood {
        let family = match to {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        // IPPROTO_RAW: packets begin with the IP header (raw(7)).
        let socket = rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::RAW));
        Flood {
            socket: socket.expect("root may"),
            to,
            random: 1,
        }
    }

    /// Sends `count` SYNs, no faster than they are taken: after each burst, the port above is asked, which is closed. (With
    /// more than one queue, that tells of one of them only.)
    pub(crate) fn send(&mut self, count: usize) {
        for n in 1..=count {
            self.syn();
            if n % BURST == 0 || n == count {
                let closed = SocketAddr::new(self.to.ip(), self.to.port() + 1);
                let error = TcpStream::connect(closed).expect_err("nobody listens there");
                assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED), "{error}");
            }
        }
    }

    fn syn(&mut self) {
        // Knuth's MMIX generator; its upper half is random enough.
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let random = (self.random >> 32) as u32;
        let header = tcp::Header {
            src_port: 1024 + (random >> 17) as u16,
            dst_port: self.to.port(),
            seq: random,
            ack: 0,
            flags: flags::SYN,
            window: 64240,
            urgent: 0,
        };
        let options = Options {
            mss: Some(1460),
            sack_permitted: true,
            timestamps: Some(Timestamps { val: random, ecr: 0 }),
            window_scale: Some(7),
            ..Options::default()
        };
        let mut packet = [0; 120];
        let at = if self.to.is_ipv4() { 20 } else { 40 };
        let (ip, tcp) = packet.split_at_mut(at);
        let len = header.write(tcp, &options).expect("it fits");
        let from: IpAddr = match self.to.ip() {
            IpAddr::V4(to) => {
                let from = Ipv4Addr::from(0xc612_0000 | random & 0x1_ffff);
                let header = ipv4::Header::new(from, to, protocol::TCP);
                header.write(ip, len).expect("it fits");
                from.into()
            }
            IpAddr::V6(to) => {
                let from = Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, (random >> 16) as u16, random as u16);
                let header = ipv6::Header::new(from, to, protocol::TCP);
                header.write(ip, len).expect("it fits");
                from.into()
            }
        };
        tcp::set_checksum(&mut tcp[..len], from, self.to.ip(), Sum::default(), 0);
        let to = SocketAddr::new(self.to.ip(), 0);
        rustix::net::sendto(&self.socket, &packet[..at + len], SendFlags::empty(), &to).expect("sent");
    }
}
