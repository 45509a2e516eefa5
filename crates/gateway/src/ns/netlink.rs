//! Interfaces, addresses and routes, over one netlink socket (rtnetlink(7)): the guest's, and the SYN proxy's on the host.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST};
use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol};
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
pub(crate) fn no_ipv6(err: &io::Error) -> bool {
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

fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

fn address(index: u32, ip: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(ip);
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

/// A route out of the interface `index`: the default one by way of `gateway`.
fn default_route(index: u32, gateway: IpAddr) -> RouteMessage {
    let mut message = route(index, gateway);
    message.attributes.push(RouteAttribute::Gateway(gateway.into()));
    message
}

/// The same, to one address that is on its link.
fn host_route(index: u32, to: IpAddr) -> RouteMessage {
    let mut message = route(index, to);
    message.header.destination_prefix_length = whole(to);
    if to.is_ipv4() {
        message.header.scope = RouteScope::Link;
    }
    message.attributes.push(RouteAttribute::Destination(to.into()));
    message
}

fn route(index: u32, of: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(of);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Oif(index));
    message
}

/// The prefix length of one address.
fn whole(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// Where the kernel would send a packet (`ip route get`).
pub(crate) struct Way {
    /// The address is one of this machine's own, or of many.
    pub(crate) ends_here: bool,
    /// The interface it leaves by.
    pub(crate) interface: Option<u32>,
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

pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    pub(crate) fn open() -> io::Result<Self> {
        let family = rustix::net::AddressFamily::NETLINK;
        let socket = rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket, sequence: 0 })
    }

    pub(crate) fn index(&self, name: &str) -> io::Result<u32> {
        Ok(rustix::net::netdevice::name_to_index(&self.socket, name)?)
    }

    /// An interface's MTU, bytes.
    pub(crate) fn mtu(&mut self, index: u32) -> io::Result<u32> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        let RouteNetlinkMessage::NewLink(link) = self.get(RouteNetlinkMessage::GetLink(link))? else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let mtu = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        });
        mtu.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Where packets to `ip` go; an error where none can.
    pub(crate) fn way_to(&mut self, ip: IpAddr) -> io::Result<Way> {
        let mut question = RouteMessage::default();
        question.header.address_family = family(ip);
        question.header.destination_prefix_length = whole(ip);
        question.attributes.push(RouteAttribute::Destination(ip.into()));
        let RouteNetlinkMessage::NewRoute(route) = self.get(RouteNetlinkMessage::GetRoute(question))? else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let interface = route.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        });
        Ok(Way {
            ends_here: route.header.kind != RouteType::Unicast,
            interface,
        })
    }

    /// Brings an interface up.
    pub(crate) fn bring_up(&mut self, index: u32) -> io::Result<()> {
        let mut link = up(index);
        link.attributes.push(LinkAttribute::TxQueueLen(TX_QUEUE));
        self.ask(link)
    }

    /// Gives an interface an address of a network with nobody else in it.
    pub(crate) fn add_address(&mut self, index: u32, ip: IpAddr) -> io::Result<()> {
        self.ask(Request::Address(address(index, ip, whole(ip))))
    }

    /// Leads one address to an interface.
    pub(crate) fn add_host_route(&mut self, index: u32, to: IpAddr) -> io::Result<()> {
        self.ask(Request::Route(host_route(index, to)))
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
        let mut flags = NLM_F_ACK;
        let message = match request.into() {
            Request::Link(link) => RouteNetlinkMessage::SetLink(link),
            Request::Address(address) => {
                flags |= NLM_F_CREATE | NLM_F_EXCL;
                RouteNetlinkMessage::NewAddress(address)
            }
            Request::Route(route) => {
                flags |= NLM_F_CREATE | NLM_F_EXCL;
                RouteNetlinkMessage::NewRoute(route)
            }
        };
        self.exchange(message, flags).map(drop)
    }

    /// Sends one question and waits for its answer.
    fn get(&mut self, question: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
        let answer = self.exchange(question, 0)?;
        answer.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn exchange(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Option<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.sequence_number = self.sequence;
        header.flags = NLM_F_REQUEST | flags;
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
            NetlinkPayload::InnerMessage(answer) => Ok(Some(answer)),
            NetlinkPayload::Error(error) => match error.code {
                None => Ok(None),
                Some(code) => Err(io::Error::from_raw_os_error(code.get().abs())),
            },
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
