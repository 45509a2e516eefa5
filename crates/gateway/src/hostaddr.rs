//! Which address of the guest's network means what on the host, and the other way round.

use crate::config::Config;
use crate::ns::Subnet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a destination that the guest names stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dest {
    /// estab itself.
    Gateway,
    /// Somewhere the host can connect to.
    Outside(SocketAddr),
    /// The host, whose loopback this gateway keeps to itself.
    Forbidden,
    /// Nothing can be there.
    Nowhere,
}

/// The addresses of the guest's network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AddrMap {
    v4: Option<Subnet<Ipv4Addr>>,
    v6: Option<Subnet<Ipv6Addr>>,
    host_loopback: bool,
}

impl AddrMap {
    pub(crate) fn new(config: &Config) -> AddrMap {
        AddrMap {
            v4: config.ipv4,
            v6: config.ipv6,
            host_loopback: config.host_loopback,
        }
    }

    /// What the guest means by `to`. The host's loopback is never reached by its own address: a guest that routes
    /// 127.0.0.1 here, or asks for 0.0.0.0 (which connects to loopback), gets nowhere.
    pub(crate) fn dest(&self, to: SocketAddr) -> Dest {
        let ip = to.ip();
        if self.is_gateway(ip) {
            return Dest::Gateway;
        }
        if self.is_host(ip) {
            let loopback = if to.is_ipv4() {
                Ipv4Addr::LOCALHOST.into()
            } else {
                Ipv6Addr::LOCALHOST.into()
            };
            let there = SocketAddr::new(loopback, to.port());
            return if self.host_loopback {
                Dest::Outside(there)
            } else {
                Dest::Forbidden
            };
        }
        let nowhere = match ip {
            IpAddr::V4(ip) => no_host_v4(ip),
            IpAddr::V6(ip) => no_host_v6(ip),
        };
        if nowhere || to.port() == 0 {
            Dest::Nowhere
        } else {
            Dest::Outside(to)
        }
    }

    pub(crate) fn is_gateway(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.v4.is_some_and(|net| net.gateway == ip),
            IpAddr::V6(ip) => self.v6.is_some_and(|net| net.gateway == ip),
        }
    }

    pub(crate) fn is_host(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.v4.is_some_and(|net| net.host == ip),
            IpAddr::V6(ip) => self.v6.is_some_and(|net| net.host == ip),
        }
    }

    /// The guest's address in a family; `None` where it has none.
    pub(crate) fn guest(&self, ipv4: bool) -> Option<IpAddr> {
        if ipv4 {
            self.v4.map(|net| net.guest.into())
        } else {
            self.v6.map(|net| net.guest.into())
        }
    }

    /// The address that a client of a published port has in the guest's eyes: its own where that can be; the
    /// host's for one on the host's loopback, or (not `same_family`) of a family that the guest doesn't have.
    pub(crate) fn client(&self, client: SocketAddr, same_family: bool) -> SocketAddr {
        let host: Option<IpAddr> = if client.is_ipv4() == same_family {
            self.v4.map(|net| net.host.into())
        } else {
            self.v6.map(|net| net.host.into())
        };
        let taken = self.guest(client.is_ipv4()) == Some(client.ip())
            || self.is_gateway(client.ip())
            || match client.ip() {
                IpAddr::V4(ip) => no_host_v4(ip),
                IpAddr::V6(ip) => no_host_v6(ip),
            };
        match host {
            Some(host) if taken || !same_family => SocketAddr::new(host, client.port()),
            _ => client,
        }
    }

    /// Addresses by name, without a resolver: those of `gateway.estab` and `host.estab`.
    pub(crate) fn named(&self, name: &str) -> Option<(Option<Ipv4Addr>, Option<Ipv6Addr>)> {
        match name {
            "gateway.estab" => Some((self.v4.map(|net| net.gateway), self.v6.map(|net| net.gateway))),
            "host.estab" => Some((self.v4.map(|net| net.host), self.v6.map(|net| net.host))),
            _ => None,
        }
    }
}

/// Addresses that name no host (RFC 6890), or the host itself.
fn no_host_v4(ip: Ipv4Addr) -> bool {
    ip.is_loopback() || ip.is_multicast() || ip.is_broadcast() || ip.octets()[0] == 0
}

/// The same for IPv6; link-local addresses would mean another link on the host.
fn no_host_v6(ip: Ipv6Addr) -> bool {
    let mapped = ip.to_ipv4_mapped().is_some();
    mapped || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(host_loopback: bool) -> AddrMap {
        let v4 = Subnet {
            guest: Ipv4Addr::new(10, 0, 2, 15),
            prefix: 24,
            gateway: Ipv4Addr::new(10, 0, 2, 1),
            host: Ipv4Addr::new(10, 0, 2, 2),
        };
        let v6 = |last| Ipv6Addr::new(0xfd65, 0, 0, 0, 0, 0, 0, last);
        let v6 = Subnet {
            guest: v6(0x15),
            prefix: 64,
            gateway: v6(1),
            host: v6(2),
        };
        AddrMap {
            v4: Some(v4),
            v6: Some(v6),
            host_loopback,
        }
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("a test's address")
    }

    #[test]
    fn the_hosts_loopback_is_reached_by_permission_and_by_the_hosts_name_only() {
        assert_eq!(map(true).dest(addr("10.0.2.2:80")), Dest::Outside(addr("127.0.0.1:80")));
        assert_eq!(map(true).dest(addr("[fd65::2]:80")), Dest::Outside(addr("[::1]:80")));
        assert_eq!(map(false).dest(addr("10.0.2.2:80")), Dest::Forbidden);
        let loopbacks = [
            "127.0.0.1:80",
            "127.9.9.9:80",
            "0.0.0.0:80",
            "0.1.2.3:80",
            "[::1]:80",
            "[::]:80",
            "[::ffff:127.0.0.1]:80",
        ];
        for other in loopbacks {
            assert_eq!(map(true).dest(addr(other)), Dest::Nowhere, "{other}");
        }
    }

    #[test]
    fn other_destinations_are_themselves() {
        assert_eq!(
            map(false).dest(addr("192.0.2.7:443")),
            Dest::Outside(addr("192.0.2.7:443"))
        );
        assert_eq!(
            map(false).dest(addr("[2001:db8::7]:443")),
            Dest::Outside(addr("[2001:db8::7]:443"))
        );
        assert_eq!(map(false).dest(addr("10.0.2.1:80")), Dest::Gateway);
        for nowhere in [
            "224.0.0.1:80",
            "255.255.255.255:80",
            "[ff02::1]:80",
            "[fe80::1]:80",
            "192.0.2.7:0",
        ] {
            assert_eq!(map(false).dest(addr(nowhere)), Dest::Nowhere, "{nowhere}");
        }
    }

    #[test]
    fn clients_keep_their_address_unless_it_is_the_hosts_loopback_or_the_guests() {
        let seen = |client| map(false).client(addr(client), true);
        assert_eq!(seen("192.0.2.7:4000"), addr("192.0.2.7:4000"));
        assert_eq!(seen("127.0.0.1:4000"), addr("10.0.2.2:4000"));
        assert_eq!(seen("10.0.2.15:4000"), addr("10.0.2.2:4000"));
        assert_eq!(seen("[::1]:4000"), addr("[fd65::2]:4000"));
        assert_eq!(map(false).client(addr("192.0.2.7:4000"), false), addr("[fd65::2]:4000"));
    }
}
