//! What a gateway is told at its start.

use crate::ns::Subnet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// How a gateway behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// IPv4 between guest and gateway.
    pub ipv4: Option<Subnet<Ipv4Addr>>,
    /// IPv6 between guest and gateway.
    pub ipv6: Option<Subnet<Ipv6Addr>>,
    /// Guest ports that the host sees.
    pub publish: Vec<Publish>,
    /// `host.estab` reaches the host's loopback.
    pub host_loopback: bool,
    /// Where DNS queries to the gateway go, in the order they are tried; see [`host_resolvers`](crate::host_resolvers).
    pub resolvers: Vec<SocketAddr>,
    /// Bytes of memory the machine has: the buffers' bounds follow from it as Linux's do.
    pub memory: u64,
    /// sysctls of the gateway's stacks.
    pub sysctls: Vec<(String, String)>,
}

/// What is published of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A port of the guest that is reachable on the host: `[ADDR:]PORT:GUEST[/udp]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Publish {
    /// The address on the host, if one was given.
    pub address: Option<IpAddr>,
    /// The port there.
    pub port: u16,
    /// The guest's port.
    pub guest: u16,
    /// TCP or UDP.
    pub transport: Transport,
}

impl Publish {
    /// Where the host listens: on its loopback unless an address was given.
    pub fn host(&self) -> SocketAddr {
        SocketAddr::new(self.address.unwrap_or(Ipv4Addr::LOCALHOST.into()), self.port)
    }
}

/// Why a `-p` argument can't be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PublishError {
    /// It does not have the form.
    #[error("expected [ADDR:]PORT:GUEST[/udp], as in 8080:80, 0.0.0.0:8080:80 or [::1]:5353:53/udp")]
    Form,
    /// A port is no number from 1 to 65535.
    #[error("{0:?} is not a port: expected a number from 1 to 65535")]
    Port(String),
    /// The address is none.
    #[error("{0:?} is not an IP address (an IPv6 address stands in brackets)")]
    Address(String),
    /// What follows the slash is neither tcp nor udp.
    #[error("{0:?} is neither tcp nor udp")]
    Transport(String),
}

impl FromStr for Publish {
    type Err = PublishError;

    fn from_str(text: &str) -> Result<Publish, PublishError> {
        let port = |text: &str| match text.parse() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(PublishError::Port(text.into())),
        };
        let (ports, transport) = match text.split_once('/') {
            None => (text, Transport::Tcp),
            Some((ports, "tcp")) => (ports, Transport::Tcp),
            Some((ports, "udp")) => (ports, Transport::Udp),
            Some((_, other)) => return Err(PublishError::Transport(other.into())),
        };
        let (rest, guest) = ports.rsplit_once(':').ok_or(PublishError::Form)?;
        let (address, host) = match rest.rsplit_once(':') {
            None => (None, rest),
            Some((address, host)) => {
                let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
                let bad = || PublishError::Address(address.into());
                let parsed = match bare {
                    Some(v6) => v6.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| bad())?,
                    None => address.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| bad())?,
                };
                (Some(parsed), host)
            }
        };
        Ok(Publish {
            address,
            port: port(host)?,
            guest: port(guest)?,
            transport,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(String, u16, Transport), PublishError> {
        text.parse::<Publish>()
            .map(|p| (p.host().to_string(), p.guest, p.transport))
    }

    #[test]
    fn a_published_port_has_an_optional_address_and_transport() {
        assert_eq!(parse("8080:80"), Ok(("127.0.0.1:8080".into(), 80, Transport::Tcp)));
        assert_eq!(parse("8080:80/tcp"), Ok(("127.0.0.1:8080".into(), 80, Transport::Tcp)));
        assert_eq!(
            parse("0.0.0.0:8080:80"),
            Ok(("0.0.0.0:8080".into(), 80, Transport::Tcp))
        );
        assert_eq!(
            parse("[::1]:5353:53/udp"),
            Ok(("[::1]:5353".into(), 53, Transport::Udp))
        );
    }

    #[test]
    fn what_is_wrong_with_a_published_port_is_named() {
        assert_eq!(parse("8080"), Err(PublishError::Form));
        assert_eq!(parse("0:80"), Err(PublishError::Port("0".into())));
        assert_eq!(parse("80:65536"), Err(PublishError::Port("65536".into())));
        assert_eq!(parse("::1:80:80"), Err(PublishError::Address("::1".into())));
        assert_eq!(parse("localhost:80:80"), Err(PublishError::Address("localhost".into())));
        assert_eq!(parse("80:80/sctp"), Err(PublishError::Transport("sctp".into())));
    }
}
