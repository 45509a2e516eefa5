//! The stack as its driver and its application see it. (Skeleton: the bodies are being written.)
#![allow(missing_docs, clippy::todo, unused_variables, dead_code)]

use crate::*;
use alloc::boxed::Box;
use core::net::{IpAddr, SocketAddr};
use estab_proto::{SockDiag, TcpInfo};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    V4,
    V6,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// TCP.
    Stream,
    /// UDP.
    Datagram,
    /// ICMP echo: on a transparent interface it sees the echo requests sent to foreign addresses.
    Echo,
}

/// Why a destination can't be reached: becomes an ICMPv4 or ICMPv6 error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unreachable {
    Network,
    Host,
    Port,
    Prohibited,
}

pub struct Stack {}

impl Stack {
    pub fn new(now: Instant, config: Config) -> Self {
        todo!()
    }
    pub fn add_iface(&mut self, config: IfaceConfig) -> IfaceId {
        todo!()
    }
    pub fn add_addr(&mut self, iface: IfaceId, addr: IpAddr, prefix: u8) -> Result<()> {
        todo!()
    }
    pub fn add_route(&mut self, dst: IpAddr, prefix: u8, via: Option<IpAddr>, iface: IfaceId) -> Result<()> {
        todo!()
    }

    pub fn handle_packet(&mut self, now: Instant, on: IfaceId, packet: &[u8], meta: RxMeta) {
        todo!()
    }
    pub fn handle_timeout(&mut self, now: Instant) {
        todo!()
    }
    pub fn poll_transmit(&mut self, now: Instant, buf: &mut [u8]) -> Option<Transmit> {
        todo!()
    }
    pub fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    pub fn socket(&mut self, family: Family, kind: Kind) -> Result<SocketId> {
        todo!()
    }
    pub fn sock(&mut self, now: Instant, id: SocketId) -> Result<Sock<'_>> {
        todo!()
    }

    /// Answers a transparent open with SYN-ACK; the connection exists at once (SYN_RCVD) and becomes
    /// WRITABLE when the peer's ACK comes. It is not queued for `accept`.
    pub fn open_accept(&mut self, now: Instant, open: OpenId) -> Result<SocketId> {
        todo!()
    }
    pub fn open_reset(&mut self, now: Instant, open: OpenId) {
        todo!()
    }
    pub fn open_unreachable(&mut self, now: Instant, open: OpenId, why: Unreachable) {
        todo!()
    }
    /// Says nothing; the open is forgotten and the peer's next SYN is a new one.
    pub fn open_ignore(&mut self, now: Instant, open: OpenId) {
        todo!()
    }
    /// Whether the packet belongs to a connection, request, TIME_WAIT or specific listener of this stack
    /// (used to steer packets between the stacks of a gateway's threads).
    pub fn owns(&self, packet: &[u8]) -> bool {
        todo!()
    }

    pub fn set_sysctl(&mut self, name: &str, value: &str) -> core::result::Result<(), SysctlError> {
        todo!()
    }
    pub fn diag(&self, now: Instant) -> Box<dyn Iterator<Item = SockDiag> + '_> {
        todo!()
    }
    pub fn trace_to(&mut self, sink: Option<Box<dyn TraceSink + Send>>) {
        todo!()
    }
    /// Bytes of memory held by connections: buffers and tables.
    pub fn memory_used(&self) -> u64 {
        todo!()
    }
    // counters(&self) -> &Mib, sysctls(): see mib.rs, sysctl.rs
}

/// One socket of a stack, at one moment.
pub struct Sock<'a> {
    stack: &'a mut Stack,
    id: SocketId,
}

impl Sock<'_> {
    pub fn bind(&mut self, addr: SocketAddr) -> Result<()> {
        todo!()
    }
    pub fn listen(&mut self, backlog: i32) -> Result<()> {
        todo!()
    }
    /// Starts an open (TCP: EINPROGRESS is not an error here: Ok, then WRITABLE or ERROR) or sets UDP's peer.
    pub fn connect(&mut self, addr: SocketAddr) -> Result<()> {
        todo!()
    }
    pub fn accept(&mut self) -> Result<(SocketId, SocketAddr)> {
        todo!()
    }
    /// Bytes taken; EAGAIN when the buffer is full.
    pub fn send(&mut self, data: &[u8], flags: SendFlags) -> Result<usize> {
        todo!()
    }
    /// Bytes read; 0 is the end of the stream; EAGAIN when there is nothing yet.
    pub fn recv(&mut self, buf: &mut [u8], flags: RecvFlags) -> Result<usize> {
        todo!()
    }
    /// The readable bytes in place, as up to `out.len()` slices in order; returns how many were filled.
    /// Then `consume` what was used. (No copy: for writev to a host socket.)
    pub fn recv_slices<'b>(&'b mut self, out: &mut [&'b [u8]]) -> Result<usize> {
        todo!()
    }
    pub fn consume(&mut self, bytes: usize) {
        todo!()
    }
    /// Room in the send buffer, in bytes.
    pub fn send_room(&self) -> usize {
        todo!()
    }
    /// Bytes received and not read.
    pub fn recv_queued(&self) -> usize {
        todo!()
    }
    /// Bytes written and not acknowledged (FIN not counted).
    pub fn send_queued(&self) -> usize {
        todo!()
    }
    pub fn shutdown(&mut self, how: Shutdown) -> Result<()> {
        todo!()
    }
    /// close(2): the handle is void; the connection ends in order (RST if data is unread).
    pub fn close(self) {
        todo!()
    }
    /// RST at once; the handle is void.
    pub fn abort(self) {
        todo!()
    }
    pub fn set_option(&mut self, option: SockOption) -> Result<()> {
        todo!()
    }
    /// The option of the same name as `like`, with its value.
    pub fn option(&self, like: SockOption) -> Result<SockOption> {
        todo!()
    }
    pub fn local_addr(&self) -> Result<SocketAddr> {
        todo!()
    }
    pub fn peer_addr(&self) -> Result<SocketAddr> {
        todo!()
    }
    pub fn readiness(&self) -> Readiness {
        todo!()
    }
    /// SO_ERROR: the pending error, cleared.
    pub fn take_error(&mut self) -> Option<SockError> {
        todo!()
    }
    pub fn state(&self) -> estab_proto::State {
        todo!()
    }
    pub fn info(&self) -> Result<TcpInfo> {
        todo!()
    }

    /// UDP and Echo: sends from `src` (None: the bound address; a transparent socket may claim any) to `dst`.
    /// Echo: `data` is the ICMP message from its identifier on (identifier, sequence, payload).
    pub fn send_to(&mut self, data: &[u8], src: Option<SocketAddr>, dst: SocketAddr) -> Result<usize> {
        todo!()
    }
    /// UDP and Echo: one datagram, its source and the destination it was sent to.
    pub fn recv_from(&mut self, buf: &mut [u8]) -> Result<(usize, SocketAddr, SocketAddr)> {
        todo!()
    }
    /// UDP, transparent: tells `src` that its datagram of `payload` to `dst` could not be delivered (ICMP).
    pub fn reject(&mut self, src: SocketAddr, dst: SocketAddr, payload: &[u8], why: Unreachable) -> Result<()> {
        todo!()
    }
}
