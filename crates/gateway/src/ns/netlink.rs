//! The guest's interface, addresses and routes, over one netlink socket (rtnetlink(7)).

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST};
use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol};
use netlink_packet_route::route::{RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType};

use super::LaunchConfig;

/// Packets that the guest's kernel queues for a slow gateway; each may be a super-packet.
const TX_QUEUE: u32 = 1000;

type Step = (&'static str, io::Error);

/// Brings up `lo` and the TUN `name` with the MTU, addresses and default routes of `config`.
pub(super) fn configure(config: &LaunchConfig, name: &str, warnings: &mut Vec<String>) -> Result<(), Step> {
    let mut netlink = Netlink::open().map_err(|err| ("open a netlink socket", err))?;
    let index = netlink.index(name).map_err(|err| ("find the TUN's interface", err))?;
    let lo = netlink.index("lo").map_err(|err| ("find the guest's loopback", err))?;
    netlink
        .ask(up(lo))
        .map_err(|err| ("bring the guest's loopback up", err))?;
    let mut link = up(index);
    link.attributes
        .extend([LinkAttribute::Mtu(config.mtu), LinkAttribute::TxQueueLen(TX_QUEUE)]);
    netlink
        .ask(link)
        .map_err(|err| ("bring the TUN up with its MTU", err))?;
    if let Some(net) = config.ipv4 {
        netlink.family(index, net.guest.into(), net.prefix, net.gateway.into())?;
    }
    if let Some(net) = config.ipv6 {
        match netlink.family(index, net.guest.into(), net.prefix, net.gateway.into()) {
            Err((_, err)) if no_ipv6(&err) && config.ipv4.is_some() => {
                warnings.push("this kernel has IPv6 switched off: the guest has IPv4 only".into());
            }
            other => other?,
        }
    }
    Ok(())
}

/// What a kernel says that was built or started without IPv6.
fn no_ipv6(err: &io::Error) -> bool {
    matches!(
        err.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EACCES)
    )
}

fn up(index: u32) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link
}

fn address(index: u32, ip: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = if ip.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    message.header.prefix_len = prefix;
    message.header.index = index;
    message
        .attributes
        .extend([AddressAttribute::Local(ip), AddressAttribute::Address(ip)]);
    if ip.is_ipv6() {
        // Nobody else is on this link; without duplicate address detection the address works at once.
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    message
}

fn default_route(index: u32, gateway: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = if gateway.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    let gateway = match gateway {
        IpAddr::V4(ip) => RouteAddress::Inet(ip),
        IpAddr::V6(ip) => RouteAddress::Inet6(ip),
    };
    message
        .attributes
        .extend([RouteAttribute::Gateway(gateway), RouteAttribute::Oif(index)]);
    message
}

/// A request that makes or changes something.
enum Request {
    Link(LinkMessage),
    Address(AddressMessage),
    Route(RouteMessage),
}

impl From<LinkMessage> for Request {
    fn from(message: LinkMessage) -> Self {
        Self::Link(message)
    }
}

struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    fn open() -> io::Result<Self> {
        let family = rustix::net::AddressFamily::NETLINK;
        let socket = rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket, sequence: 0 })
    }

    fn index(&self, name: &str) -> io::Result<u32> {
        Ok(rustix::net::netdevice::name_to_index(&self.socket, name)?)
    }

    /// An address and the default route of its family.
    fn family(&mut self, index: u32, ip: IpAddr, prefix: u8, gateway: IpAddr) -> Result<(), Step> {
        self.ask(Request::Address(address(index, ip, prefix)))
            .map_err(|err| ("give the TUN its address", err))?;
        self.ask(Request::Route(default_route(index, gateway)))
            .map_err(|err| ("set the guest's default route", err))
    }

    /// Sends one request and waits for its acknowledgement.
    fn ask(&mut self, request: impl Into<Request>) -> io::Result<()> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.sequence_number = self.sequence;
        header.flags = NLM_F_REQUEST | NLM_F_ACK;
        let message = match request.into() {
            Request::Link(link) => RouteNetlinkMessage::SetLink(link),
            Request::Address(address) => {
                header.flags |= NLM_F_CREATE | NLM_F_EXCL;
                RouteNetlinkMessage::NewAddress(address)
            }
            Request::Route(route) => {
                header.flags |= NLM_F_CREATE | NLM_F_EXCL;
                RouteNetlinkMessage::NewRoute(route)
            }
        };
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        rustix::net::send(&self.socket, &bytes, SendFlags::empty())?;

        let mut bytes = [0; 8192];
        let (len, _) = rustix::net::recv(&self.socket, &mut bytes[..], RecvFlags::empty())?;
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes[..len])
            .map_err(|err| io::Error::new(io::ErrorKind::InvalidData, err))?;
        match answer.payload {
            NetlinkPayload::Error(error) => match error.code {
                None => Ok(()),
                Some(code) => Err(io::Error::from_raw_os_error(code.get().abs())),
            },
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
