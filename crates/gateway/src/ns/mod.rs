//! A command in namespaces of its own, without root: user, network and mount namespaces whose only way out is a
//! TUN that the caller holds.
//!
//! [`launch`] forks. The child makes the namespaces, opens and configures the TUN, sends its queues to the parent
//! and waits; [`Guest::start`] lets it become the command. What stands in the way is told in one line
//! ([`LaunchError`]).

mod addr;
mod child;
mod error;
mod guest;
mod mounts;
pub(crate) mod netlink;

pub(crate) use child::set_sysctl;

pub use addr::{Subnet, pick_ipv4, pick_ipv6};
pub use error::LaunchError;
pub use guest::{Guest, exit_code, launch};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use estab_device::Offloads;

/// The guest's network and who the command runs as.
#[derive(Clone, Debug)]
pub struct LaunchConfig {
    /// The interface's name in the guest, 15 bytes at most.
    pub name: String,
    /// Its MTU, bytes: 1280 (68 without IPv6) to 65535.
    pub mtu: u32,
    /// IPv4 in the guest; `None`: none.
    pub ipv4: Option<Subnet<Ipv4Addr>>,
    /// IPv6 in the guest; `None`: none.
    pub ipv6: Option<Subnet<Ipv6Addr>>,
    /// Queues of the TUN.
    pub queues: usize,
    /// What the guest's kernel may leave to the gateway.
    pub offloads: Offloads,
    /// The `nameserver` lines of the guest's resolv.conf; empty: the gateway's own addresses.
    pub nameservers: Vec<IpAddr>,
    /// Lines added to the guest's /etc/hosts.
    pub hosts: Vec<(IpAddr, String)>,
    /// Run the command as root of its namespace, with its capabilities there. Otherwise it is who the caller is.
    pub root: bool,
    /// sysctls set in the guest, as ("net.ipv4.tcp_tw_reuse", "1"). One that can't be set is a warning.
    pub sysctls: Vec<(String, String)>,
}

impl LaunchConfig {
    /// The default guest: one queue, both families, addresses that no route of this host covers, `host.estab` and
    /// `gateway.estab` in /etc/hosts.
    pub fn detect() -> Self {
        let mut config = Self {
            name: "estab0".into(),
            // No wire bounds it, and one long segment costs both kernels less than a super-packet of short ones.
            mtu: 65520,
            ipv4: Some(pick_ipv4()),
            ipv6: Some(pick_ipv6()),
            queues: 1,
            offloads: Offloads::default(),
            nameservers: Vec::new(),
            hosts: Vec::new(),
            root: false,
            // Connections that the guest closes first would hold its ports for a minute each.
            sysctls: vec![("net.ipv4.tcp_tw_reuse".into(), "1".into())],
        };
        config.name_hosts();
        config
    }

    /// Fills `hosts` anew with `gateway.estab` and `host.estab` for the families that are on.
    pub fn name_hosts(&mut self) {
        self.hosts.clear();
        if let Some(v4) = self.ipv4 {
            self.hosts.push((v4.gateway.into(), "gateway.estab".into()));
            self.hosts.push((v4.host.into(), "host.estab".into()));
        }
        if let Some(v6) = self.ipv6 {
            self.hosts.push((v6.gateway.into(), "gateway.estab".into()));
            self.hosts.push((v6.host.into(), "host.estab".into()));
        }
    }

    /// The nameservers the guest is given.
    pub fn effective_nameservers(&self) -> Vec<IpAddr> {
        if !self.nameservers.is_empty() {
            return self.nameservers.clone();
        }
        let v4 = self.ipv4.map(|net| net.gateway.into());
        let v6 = self.ipv6.map(|net| net.gateway.into());
        v4.into_iter().chain(v6).collect()
    }
}

/// Finds what can't work before anything is made.
fn check(config: &LaunchConfig) -> Result<(), LaunchError> {
    let bad = |text: String| Err(LaunchError::Config(text));
    let name = &config.name;
    if name.is_empty() || name.len() > 15 || name.contains(['/', ':', '%', '.']) || name.contains(char::is_whitespace) {
        return bad(format!(
            "`{name}` is no interface name: 1 to 15 bytes without / : % . or spaces"
        ));
    }
    let least = if config.ipv6.is_some() { 1280 } else { 68 };
    if !(least..=65535).contains(&config.mtu) {
        let family = if config.ipv6.is_some() {
            "IPv6 (use -4 for less)"
        } else {
            "IPv4"
        };
        return bad(format!(
            "an MTU of {} can't be: {least} to 65535 with {family}",
            config.mtu
        ));
    }
    if config.ipv4.is_none() && config.ipv6.is_none() {
        return bad("neither IPv4 nor IPv6 is left for the guest".into());
    }
    if !(1..=guest::MAX_QUEUES).contains(&config.queues) {
        return bad(format!("{} queues can't be: 1 to {}", config.queues, guest::MAX_QUEUES));
    }
    if let Some(net) = config.ipv4 {
        net.check()?;
    }
    if let Some(net) = config.ipv6 {
        net.check()?;
    }
    Ok(())
}
