//! Answers that belong to no connection's output: resets, SYN-ACKs, TIME_WAIT's ACKs, ICMP, datagrams, ARP. They
//! wait as small descriptors or whole packets, in order, bounded in number and bytes.

use super::output::{HeaderSpec, Offload};
use super::{Ip, Route, Way};
use crate::env::Env;
use crate::{CsumTx, DropReason, IfaceId, Result, SockError, Transmit};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::SocketAddr;
use estab_proto::{Counter, SeqNum, TcpFlags};
use estab_wire::checksum::Sum;
use estab_wire::ip::protocol;
use estab_wire::tcp;

/// Bytes of whole packets that may wait.
const MAX_BYTES: usize = 4 << 20;

/// The options of a stateless segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReplyOptions {
    pub(crate) mss: Option<u16>,
    pub(crate) window_scale: Option<u8>,
    pub(crate) sack_permitted: bool,
    /// TSval and TSecr.
    pub(crate) timestamps: Option<(u32, u32)>,
    /// A Fast Open cookie to grant.
    pub(crate) fast_open: Option<tcp::FastOpen>,
    /// One SACK block: a DSACK of a duplicate, or what came out of order.
    pub(crate) sack: Option<(SeqNum, SeqNum)>,
    /// Where a signature stands: see [`tcp::Options::md5_last`].
    pub(crate) md5_last: bool,
    pub(crate) accecn: Option<tcp::AccEcn>,
}

impl ReplyOptions {
    /// As wire writes them.
    pub(crate) fn to_wire(self) -> tcp::Options {
        tcp::Options {
            mss: self.mss,
            window_scale: self.window_scale,
            sack_permitted: self.sack_permitted,
            timestamps: self.timestamps.map(|(val, ecr)| tcp::Timestamps { val, ecr }),
            fast_open: self.fast_open,
            sack: self.sack.iter().map(|(left, right)| (left.0, right.0)).collect(),
            md5_last: self.md5_last,
            accecn: self.accecn,
            ..tcp::Options::default()
        }
    }
}

/// A segment that no connection sends: RST, SYN-ACK, an ACK of TIME_WAIT or of a request, a challenge ACK.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TcpReply {
    pub(crate) src: SocketAddr,
    pub(crate) dst: SocketAddr,
    pub(crate) seq: SeqNum,
    pub(crate) ack: SeqNum,
    pub(crate) flags: TcpFlags,
    /// As it stands in the header, scaled.
    pub(crate) window: u16,
    pub(crate) options: ReplyOptions,
    /// ECN bits included.
    pub(crate) tos: u8,
    /// 0: the default.
    pub(crate) ttl: u8,
    /// Where the segment it answers came in: the way back if no route leads there.
    pub(crate) iface: IfaceId,
    /// The way out, where it is known.
    pub(crate) way: Way,
    /// An MD5 signature (RFC 2385) to go with it.
    pub(crate) md5: Option<[u8; 16]>,
}

impl TcpReply {
    /// The header as wire writes it.
    pub(crate) fn header(&self) -> tcp::Header {
        tcp::Header {
            src_port: self.src.port(),
            dst_port: self.dst.port(),
            seq: self.seq.0,
            ack: self.ack.0,
            flags: self.flags.0,
            window: self.window,
            urgent: 0,
        }
    }

    /// All its options, the signature included.
    pub(crate) fn wire_options(&self) -> tcp::Options {
        tcp::Options {
            md5: self.md5,
            ..self.options.to_wire()
        }
    }
}

/// One answer on its way out.
#[derive(Clone)]
pub(super) enum Queued {
    Tcp(TcpReply),
    /// An IP packet, complete.
    Packet {
        route: Route,
        bytes: Vec<u8>,
        offload: Offload,
    },
    /// A link-layer frame, complete.
    Frame {
        iface: IfaceId,
        bytes: Vec<u8>,
    },
}

impl Queued {
    /// A packet with all its checksums.
    pub(super) fn packet(route: &Route, bytes: Vec<u8>) -> Queued {
        Queued::Packet {
            route: *route,
            bytes,
            offload: Offload::default(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Queued::Tcp(_) => 0,
            Queued::Packet { bytes, .. } | Queued::Frame { bytes, .. } => bytes.len(),
        }
    }
}

/// The queue.
#[derive(Clone)]
pub(super) struct Replies {
    queue: VecDeque<Queued>,
    bytes: usize,
}

impl Replies {
    pub(super) fn new() -> Replies {
        Replies {
            queue: VecDeque::new(),
            bytes: 0,
        }
    }

    pub(super) fn memory(&self) -> u64 {
        (self.bytes + self.queue.len() * core::mem::size_of::<Queued>()) as u64
    }
}

impl Ip {
    /// Queues a stateless segment. When too many wait it is dropped and counted: the peer will ask again.
    pub(crate) fn queue_tcp(env: &mut Env, reply: TcpReply) {
        if reply.flags.contains(TcpFlags::RST) {
            env.mib.inc(Counter::TcpOutRsts);
        }
        let _ = Ip::push_reply(env, Queued::Tcp(reply));
    }

    /// Queues any answer; ENOBUFS when too many wait.
    pub(super) fn push_reply(env: &mut Env, queued: Queued) -> Result<()> {
        let len = queued.len();
        if !Ip::has_room(env, len) {
            env.mib.drop(DropReason::QueueFull);
            env.mib.inc(Counter::IpOutDiscards);
            return Err(SockError::ENOBUFS);
        }
        env.ip.replies.bytes += len;
        env.ip.replies.queue.push_back(queued);
        Ok(())
    }

    /// Whether one more packet of `len` bytes finds room (`netdev_max_backlog`). An arriving packet makes one answer at
    /// most, and the caller drains after each call: only floods of datagrams get so far.
    pub(crate) fn has_room(env: &Env, len: usize) -> bool {
        let replies = &env.ip.replies;
        let most = env.sysctl.netdev_max_backlog.max(1) as usize;
        replies.queue.len() < most && replies.bytes + len <= MAX_BYTES
    }

    /// No answer waits.
    #[inline]
    pub(crate) fn no_replies(env: &Env) -> bool {
        env.ip.replies.queue.is_empty()
    }

    /// Writes the next waiting answer to `buf`.
    pub(crate) fn poll_reply(env: &mut Env, buf: &mut [u8]) -> Option<Transmit> {
        while let Some(queued) = env.ip.replies.queue.pop_front() {
            env.ip.replies.bytes -= queued.len();
            if env.ip.replies.queue.is_empty() && env.ip.replies.queue.capacity() > 64 {
                env.ip.replies.queue.shrink_to(64);
            }
            let transmit = match queued {
                Queued::Tcp(reply) => Ip::emit_reply(env, buf, &reply),
                Queued::Packet { route, bytes, offload } => Ip::emit_packet(env, buf, &route, &bytes, offload),
                Queued::Frame { iface, bytes } => match buf.get_mut(..bytes.len()) {
                    Some(room) => {
                        room.copy_from_slice(&bytes);
                        Some(Transmit {
                            iface,
                            len: bytes.len(),
                            gso: None,
                            csum: CsumTx::Full,
                        })
                    }
                    None => {
                        env.mib.drop(DropReason::NoBuffer);
                        None
                    }
                },
            };
            if transmit.is_some() {
                return transmit;
            }
        }
        None
    }

    #[inline(never)]
    fn emit_reply(env: &mut Env, buf: &mut [u8], reply: &TcpReply) -> Option<Transmit> {
        let (src, dst) = (reply.src.ip(), reply.dst.ip());
        let known = env.ip.recall(reply.way, dst, src);
        let Some(route) = known.or_else(|| env.ip.route_on(reply.iface, dst, src).ok()) else {
            env.mib.drop(DropReason::NoRoute);
            env.mib.inc(Counter::IpOutNoRoutes);
            return None;
        };
        env.mib.inc(Counter::TcpOutSegs);
        let spec = HeaderSpec {
            src,
            dst,
            protocol: protocol::TCP,
            ttl: reply.ttl,
            tos: reply.tos,
            dont_fragment: env.sysctl.ip_no_pmtu_disc == 0,
        };
        let (header, options) = (reply.header(), reply.wire_options());
        Ip::emit_tcp(env, buf, &route, &spec, 0, None, 0, |area, _| {
            let len = header.write(area, &options)?;
            Some((len, Sum::of(&area[..len])))
        })
    }

    #[inline(never)]
    fn emit_packet(env: &mut Env, buf: &mut [u8], route: &Route, bytes: &[u8], offload: Offload) -> Option<Transmit> {
        let link = usize::from(route.link_len);
        let Some(room) = buf.get_mut(link..link + bytes.len()) else {
            env.mib.drop(DropReason::NoBuffer);
            env.mib.inc(Counter::IpOutDiscards);
            return None;
        };
        room.copy_from_slice(bytes);
        Ip::to_link(env, buf, route, bytes.len(), offload)
    }
}
