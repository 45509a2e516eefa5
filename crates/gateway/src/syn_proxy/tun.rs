//! The SYN proxy's TUN in the host's network, and the routes that lead to it.

use super::endpoints;
use crate::config::Config;
use crate::ns::netlink::{Netlink, no_ipv6};
use crate::ns::set_sysctl;
use estab_device::{Tun, TunConfig};
use std::io;
use std::net::{IpAddr, SocketAddr};

/// The name of a TUN of our own; the kernel fills in the number.
const NAME: &str = "estab-syn%d";
/// The MTU of paths that nobody told anything of, and the kernel's for a new TUN.
const MTU: u32 = 1500;

/// The SYN proxy's TUN, ready to be served.
#[derive(Debug)]
pub struct SynProxyTun {
    /// Its queues.
    pub queues: Vec<Tun>,
    /// Where clients find the published ports.
    pub published: Vec<SocketAddr>,
    /// What works less well than it could, one line each.
    pub warnings: Vec<String>,
}

/// Why there is no SYN proxy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SynProxyError {
    /// It has no port to shield.
    #[error("--syn-proxy shields published TCP ports: give at least one by -p PORT:GUEST")]
    NothingPublished,
    /// The host's kernel answers there before anybody else.
    #[error(
        "--syn-proxy cannot answer at {0}: that is this host's own address, where its kernel answers. Leave ADDR out of -p \
         (the guest's address is used then), or give an address that is routed to this host and is none of its own"
    )]
    OwnAddress(SocketAddr),
    /// The TUN was made by root, and so are its routes: there must be an address to route.
    #[error("with --syn-proxy={0} each -p needs the address that is routed to {0}: -p ADDR:PORT:GUEST")]
    NoAddress(String),
    /// Interfaces and routes of the host are its administrator's.
    #[error(
        "--syn-proxy needs CAP_NET_ADMIN on the host, for an interface and a route of its own: run estab as root; or have root \
         make them, `ip tuntap add estab-syn mode tun multi_queue user {user} && ip link set estab-syn up && ip route add ADDR \
         dev estab-syn`, and use --syn-proxy=estab-syn -p ADDR:PORT:GUEST"
    )]
    NotPermitted {
        /// Who runs estab.
        user: u32,
    },
    /// The named TUN can't be used.
    #[error("--syn-proxy={name}: {why}; as root, `ip tuntap add {name} mode tun multi_queue user {user}`")]
    NoTun {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: String,
        /// Who runs estab.
        user: u32,
    },
    /// Packets to a published address don't come to the TUN.
    #[error(
        "--syn-proxy: {ip} is routed elsewhere (see `ip route get {ip}`): as root, `ip route replace {ip} dev {tun}`"
    )]
    Routed {
        /// The published address.
        ip: IpAddr,
        /// The TUN's name.
        tun: String,
    },
    /// A step failed in a way not foreseen.
    #[error("cannot {0} for --syn-proxy: {1}")]
    Step(&'static str, io::Error),
}

/// The TUN by which clients reach what `config` publishes: `named`, which root has made and routed, or one of our own, that
/// goes when its queues are closed.
///
/// # Errors
/// See [`SynProxyError`].
pub fn open(config: &Config, named: Option<&str>, queues: usize) -> Result<SynProxyTun, SynProxyError> {
    let published: Vec<SocketAddr> = endpoints(config).iter().map(|endpoint| endpoint.at).collect();
    if published.is_empty() {
        return Err(SynProxyError::NothingPublished);
    }
    let mut netlink = Netlink::open().map_err(|err| SynProxyError::Step("open a netlink socket", err))?;
    for at in &published {
        // Where no route leads yet, there is none to be in the way.
        if netlink.way_to(at.ip()).is_ok_and(|way| way.ends_here) {
            return Err(SynProxyError::OwnAddress(*at));
        }
    }
    let mut addresses: Vec<IpAddr> = published.iter().map(SocketAddr::ip).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let queues = match named {
        Some(name) => existing(&mut netlink, config, name, queues)?,
        None => own(&mut netlink, config, &mut addresses, queues)?,
    };
    let name = queues.first().map_or("", Tun::name);
    let index = netlink.index(name).ok();
    for ip in &addresses {
        let way = netlink.way_to(*ip).ok();
        if index.is_none() || way.and_then(|way| way.interface) != index {
            return Err(SynProxyError::Routed {
                ip: *ip,
                tun: name.to_owned(),
            });
        }
    }
    let published = published
        .into_iter()
        .filter(|at| addresses.contains(&at.ip()))
        .collect();
    Ok(SynProxyTun {
        queues,
        published,
        warnings: warnings(given(config).filter(|ip| addresses.contains(ip))),
    })
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A TUN that is there; its address, its state and its routes are its owner's to set.
fn existing(netlink: &mut Netlink, config: &Config, name: &str, queues: usize) -> Result<Vec<Tun>, SynProxyError> {
    if config.publish.iter().any(|publish| publish.address.is_none()) {
        return Err(SynProxyError::NoAddress(name.to_owned()));
    }
    let no_tun = |why: String| SynProxyError::NoTun {
        name: name.to_owned(),
        why,
        user: user(),
    };
    let index = netlink
        .index(name)
        .map_err(|_| no_tun("there is no such interface".into()))?;
    let mtu = netlink
        .mtu(index)
        .map_err(|err| SynProxyError::Step("read the TUN's MTU", err))?;
    let tun = TunConfig {
        name: name.to_owned(),
        mtu,
        ..TunConfig::default()
    };
    Tun::open(&tun, queues).map_err(|err| match err.raw_os_error() {
        Some(libc::EPERM) => no_tun("it belongs to another user".into()),
        Some(libc::EINVAL) => no_tun("it is no TUN with several queues".into()),
        Some(libc::EBUSY) => no_tun("another program serves it".into()),
        _ => no_tun(err.to_string()),
    })
}

/// A TUN of our own, with the host's address in the guest's network, from which the host's own clients come, and a route for
/// each of `addresses`. A host without IPv6 takes those out that nobody asked for.
fn own(
    netlink: &mut Netlink,
    config: &Config,
    addresses: &mut Vec<IpAddr>,
    queues: usize,
) -> Result<Vec<Tun>, SynProxyError> {
    let step = |step| {
        move |err: io::Error| match err.raw_os_error() {
            Some(libc::EPERM) => SynProxyError::NotPermitted { user: user() },
            _ => SynProxyError::Step(step, err),
        }
    };
    let tun = TunConfig {
        name: NAME.to_owned(),
        mtu: MTU,
        ..TunConfig::default()
    };
    let queues = Tun::open(&tun, queues).map_err(step("open /dev/net/tun"))?;
    let name = queues.first().map_or("", Tun::name);
    // Nobody is there to solicit; a kernel without IPv6 has neither.
    for (key, value) in [("accept_ra", "0"), ("addr_gen_mode", "1")] {
        let _ = set_sysctl(&format!("net.ipv6.conf.{name}.{key}"), value);
    }
    let index = netlink.index(name).map_err(step("find the TUN"))?;
    netlink.bring_up(index).map_err(step("bring the TUN up"))?;
    let host_v4 = config.ipv4.map(|net| IpAddr::from(net.host));
    let host_v6 = config.ipv6.map(|net| IpAddr::from(net.host));
    for host in [host_v4, host_v6].into_iter().flatten() {
        if !addresses.iter().any(|ip| ip.is_ipv4() == host.is_ipv4()) {
            continue;
        }
        match netlink.add_address(index, host) {
            Err(err) if host.is_ipv6() && no_ipv6(&err) && !given(config).any(|ip| ip.is_ipv6()) => {
                addresses.retain(IpAddr::is_ipv4);
            }
            other => other.map_err(step("give the TUN its address"))?,
        }
    }
    for ip in &*addresses {
        match netlink.add_host_route(index, *ip) {
            // It stands already; whether it leads here shows later.
            Err(err) if err.raw_os_error() == Some(libc::EEXIST) => {}
            other => other.map_err(step("route a published address to the TUN"))?,
        }
    }
    Ok(queues)
}

/// The addresses that ports are published at by name.
fn given(config: &Config) -> impl Iterator<Item = IpAddr> {
    config.publish.iter().filter_map(|publish| publish.address)
}

/// The kernel hands packets from elsewhere on only if it is told to.
fn warnings(foreign: impl Iterator<Item = IpAddr>) -> Vec<String> {
    let mut found = Vec::new();
    for ip in foreign {
        let key = match ip {
            IpAddr::V4(_) => "net.ipv4.ip_forward",
            IpAddr::V6(_) => "net.ipv6.conf.all.forwarding",
        };
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        let warning = format!("{key} = 0: {ip} is reached from this host only; `sysctl -w {key}=1` lets others in");
        if std::fs::read_to_string(path).is_ok_and(|value| value.trim() == "0") && !found.contains(&warning) {
            found.push(warning);
        }
    }
    found
}
