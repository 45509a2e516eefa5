//! Which addresses the guest gets: private ones that no route of the host covers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::LaunchError;

/// One family of the guest's network. `gateway` is estab itself, `host` stands for the host's loopback.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subnet<A> {
    /// The guest's address.
    pub guest: A,
    /// Its prefix length.
    pub prefix: u8,
    /// The default route; `gateway.estab`.
    pub gateway: A,
    /// `host.estab`.
    pub host: A,
}

/// RFC 1918 and RFC 6598 networks in the order they are tried; the first is what QEMU and slirp use too.
const IPV4: [[u8; 3]; 8] = [
    [10, 0, 2],
    [10, 101, 116],
    [172, 29, 65],
    [192, 168, 197],
    [10, 197, 98],
    [172, 22, 197],
    [192, 168, 65],
    [100, 101, 116],
];

/// RFC 4193: `fd` and a global ID, which spells "estab"; the subnet ID is picked.
const IPV6: [u16; 3] = [0xfd65, 0x7374, 0x6162];

/// The first IPv4 network of ours that overlaps no route of this network namespace.
pub fn pick_ipv4() -> Subnet<Ipv4Addr> {
    free_ipv4(&std::fs::read_to_string("/proc/net/route").unwrap_or_default())
}

fn free_ipv4(routes: &str) -> Subnet<Ipv4Addr> {
    let taken: Vec<(u32, u32)> = routes.lines().skip(1).filter_map(ipv4_route).collect();
    let free = |net: &[u8; 3]| {
        let ours = u32::from(Ipv4Addr::new(net[0], net[1], net[2], 0));
        // Networks overlap when they agree in the bits that both fix.
        !taken.iter().any(|&(dst, mask)| (ours ^ dst) & mask & 0xffff_ff00 == 0)
    };
    let [a, b, c] = IPV4.into_iter().find(free).unwrap_or(IPV4[0]);
    let address = |last| Ipv4Addr::new(a, b, c, last);
    Subnet {
        guest: address(15),
        prefix: 24,
        gateway: address(1),
        host: address(2),
    }
}

/// A line of /proc/net/route as (destination, mask); not the default route.
fn ipv4_route(line: &str) -> Option<(u32, u32)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let hex = |field: &str| u32::from_str_radix(field, 16).ok().map(u32::from_be);
    let (dst, mask) = (hex(fields.get(1)?)?, hex(fields.get(7)?)?);
    (mask != 0).then_some((dst, mask))
}

/// The first IPv6 network of ours that is no route of this network namespace.
pub fn pick_ipv6() -> Subnet<Ipv6Addr> {
    free_ipv6(&std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default())
}

fn free_ipv6(routes: &str) -> Subnet<Ipv6Addr> {
    let [a, b, c] = IPV6;
    let free = |&subnet: &u16| {
        let prefix = format!("{a:04x}{b:04x}{c:04x}{subnet:04x}");
        !routes.lines().any(|line| line.starts_with(&prefix))
    };
    let subnet = (0..256).find(free).unwrap_or(0);
    let address = |last| Ipv6Addr::new(a, b, c, subnet, 0, 0, 0, last);
    Subnet {
        guest: address(0x15),
        prefix: 64,
        gateway: address(1),
        host: address(2),
    }
}

impl<A: Copy + Into<IpAddr>> Subnet<A> {
    /// Three different unicast addresses of one network.
    pub(super) fn check(&self) -> Result<(), LaunchError> {
        let [guest, gateway, host] = [self.guest, self.gateway, self.host].map(Into::into);
        let bad = |text: String| Err(LaunchError::Config(text));
        let bits = if guest.is_ipv4() { 32 } else { 128 };
        if self.prefix == 0 || self.prefix > bits - 2 {
            return bad(format!("a prefix of /{} can't be: /1 to /{}", self.prefix, bits - 2));
        }
        let net = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => u128::from(u32::from(ip)) >> (32 - self.prefix),
            IpAddr::V6(ip) => u128::from(ip) >> (128 - self.prefix),
        };
        for ip in [guest, gateway, host] {
            if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
                return bad(format!("{ip} can't be an address of the guest's network"));
            }
            if net(ip) != net(guest) {
                return bad(format!("{ip} is not in the guest's network {guest}/{}", self.prefix));
            }
        }
        if guest == gateway || guest == host || gateway == host {
            return bad(format!(
                "the guest {guest}, the gateway {gateway} and the host {host} must differ"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

    fn route(dst: [u8; 4], mask: [u8; 4]) -> String {
        let hex = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
        format!("eth0\t{}\t00000000\t0001\t0\t0\t0\t{}\t0\t0\t0\n", hex(dst), hex(mask))
    }

    #[test]
    fn a_network_that_overlaps_no_route_is_picked() {
        let default = route([0; 4], [0; 4]);
        let guest = |routes: String| free_ipv4(&(HEADER.to_owned() + &default + &routes)).guest;
        assert_eq!(guest(String::new()), Ipv4Addr::new(10, 0, 2, 15));
        assert_eq!(
            guest(route([10, 0, 2, 128], [255, 255, 255, 128])),
            Ipv4Addr::new(10, 101, 116, 15)
        );
        assert_eq!(
            guest(route([10, 0, 0, 0], [255, 0, 0, 0])),
            Ipv4Addr::new(172, 29, 65, 15)
        );
        assert_eq!(
            guest(route([192, 168, 1, 0], [255, 255, 255, 0])),
            Ipv4Addr::new(10, 0, 2, 15)
        );
    }

    #[test]
    fn ipv6_subnets_are_counted_up() {
        let taken = "fd657374616200000000000000000000 40 0 00 0 0 0 0 0 estab0\n";
        assert_eq!(free_ipv6("").guest, "fd65:7374:6162::15".parse::<Ipv6Addr>().unwrap());
        assert_eq!(
            free_ipv6(taken).gateway,
            "fd65:7374:6162:1::1".parse::<Ipv6Addr>().unwrap()
        );
    }

    #[test]
    fn impossible_networks_are_refused() {
        let good = free_ipv4("");
        good.check().unwrap();
        free_ipv6("").check().unwrap();
        let outside = Subnet {
            gateway: Ipv4Addr::new(10, 0, 3, 1),
            ..good
        };
        let same = Subnet {
            host: good.guest,
            ..good
        };
        let multicast = Subnet {
            guest: Ipv4Addr::new(224, 0, 0, 1),
            ..good
        };
        for bad in [
            outside,
            same,
            multicast,
            Subnet { prefix: 0, ..good },
            Subnet { prefix: 31, ..good },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
