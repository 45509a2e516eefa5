//! Neighbours on Ethernet: who has which address (ARP, RFC 826; neighbour discovery, RFC 4861), how long that is
//! believed, and the packets that wait for it (Linux: net/core/neighbour.c, net/ipv4/arp.c, net/ipv6/ndisc.c).

use super::output::Offload;
use super::reply::Queued;
use super::route::in_prefix;
use super::{Ip, Packet, Problem, Route};
use crate::env::Env;
use crate::rng::{Keyed, Rng};
use crate::timer::{TimerHandle, TimerKey};
use crate::{DropReason, IfaceId, Instant, Medium, RxMeta, Unreachable};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use estab_proto::Counter;
use estab_wire::ethernet::{self, MacAddr, ethertype};
use estab_wire::ip::protocol;
use estab_wire::{arp, icmpv6, ndp};
use hashbrown::HashMap;

/// What is believed of a neighbour (RFC 4861 §7.3.2; Linux: NUD_…).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Asked for; no address yet.
    Incomplete,
    /// Confirmed a short while ago.
    Reachable,
    /// Was confirmed once; used as it is, until somebody uses it.
    Stale,
    /// Used since; about to be asked again.
    Delay,
    /// Being asked, one to one.
    Probe,
}

#[derive(Clone)]
struct Neighbour {
    iface: IfaceId,
    addr: IpAddr,
    mac: MacAddr,
    state: State,
    probes: u32,
    used: Instant,
    updated: Instant,
    /// Packets that wait for the address, with what the device was to do with each.
    waiting: VecDeque<(Route, Vec<u8>, Offload)>,
    waiting_bytes: usize,
    timer: TimerHandle,
}

/// The table.
#[derive(Clone)]
pub(super) struct Neighbours {
    pub(super) by_addr: HashMap<(u16, IpAddr), u32, Keyed>,
    slots: Vec<Option<Neighbour>>,
    free: Vec<u32>,
}

impl Neighbours {
    pub(super) fn new(rng: &Rng) -> Neighbours {
        Neighbours {
            by_addr: HashMap::with_hasher(rng.keyed()),
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(super) fn memory(&self) -> u64 {
        let slots = self.slots.len() * core::mem::size_of::<Option<Neighbour>>();
        let held = |slot: &Option<Neighbour>| slot.as_ref().map_or(0, |n| n.waiting_bytes);
        (slots + self.slots.iter().map(held).sum::<usize>()) as u64
    }

    pub(super) fn find(&self, iface: IfaceId, addr: IpAddr) -> Option<u32> {
        self.by_addr.get(&(iface.0, addr)).copied()
    }

    fn get(&mut self, index: u32) -> Option<&mut Neighbour> {
        self.slots.get_mut(index as usize)?.as_mut()
    }

    fn remove(&mut self, index: u32) -> Option<Neighbour> {
        let neighbour = self.slots.get_mut(index as usize)?.take()?;
        self.by_addr.remove(&(neighbour.iface.0, neighbour.addr));
        self.free.push(index);
        Some(neighbour)
    }
}

/// The link-layer address of the route's next hop. `None`: it is being asked for, and a copy of `packet` waits; or
/// the packet was dropped and counted (Linux: `neigh_resolve_output`).
pub(super) fn resolve(env: &mut Env, route: &Route, packet: &[u8], offload: Offload) -> Option<MacAddr> {
    let addr = route.next_hop;
    if let Some(group) = MacAddr::of_multicast(addr) {
        return Some(group);
    }
    if env.ip.is_broadcast(addr) {
        return Some(MacAddr::BROADCAST);
    }
    let index = match env.ip.neigh.find(route.iface, addr) {
        Some(index) => index,
        None => create(env, route.iface, addr, State::Incomplete)?,
    };
    let (now, limit) = (env.now, env.sysctl.unres_qlen_bytes as usize);
    let neighbour = env.ip.neigh.get(index)?;
    neighbour.used = now;
    match neighbour.state {
        State::Reachable | State::Delay | State::Probe => return Some(neighbour.mac),
        State::Stale => {
            neighbour.state = State::Delay;
            let mac = neighbour.mac;
            let wait = Duration::from_secs(env.sysctl.delay_first_probe_time.into());
            arm(env, index, wait);
            return Some(mac);
        }
        State::Incomplete => {}
    }
    let mut dropped = 0;
    neighbour.waiting.push_back((*route, packet.to_vec(), offload));
    neighbour.waiting_bytes += packet.len();
    while neighbour.waiting_bytes > limit {
        let Some((_, oldest, _)) = neighbour.waiting.pop_front() else {
            break;
        };
        neighbour.waiting_bytes -= oldest.len();
        dropped += 1;
    }
    let first = neighbour.probes == 0;
    (0..dropped).for_each(|_| env.mib.drop(DropReason::NeighQueuefull));
    if first {
        solicit(env, index);
    }
    None
}

/// A new entry; room is made for it by the rules of `gc_thresh1` to `gc_thresh3`.
fn create(env: &mut Env, iface: IfaceId, addr: IpAddr, state: State) -> Option<u32> {
    let count = env.ip.neigh.by_addr.len() as u32;
    if count >= env.sysctl.gc_thresh3 || count >= env.sysctl.gc_thresh2 {
        collect(env);
        if env.ip.neigh.by_addr.len() as u32 >= env.sysctl.gc_thresh3 {
            env.mib.drop(DropReason::NeighCreatefail);
            return None;
        }
    }
    let neighbour = Neighbour {
        iface,
        addr,
        mac: MacAddr::default(),
        state,
        probes: 0,
        used: env.now,
        updated: env.now,
        waiting: VecDeque::new(),
        waiting_bytes: 0,
        timer: TimerHandle::NONE,
    };
    let table = &mut env.ip.neigh;
    let index = table.free.pop().unwrap_or_else(|| {
        table.slots.push(None);
        table.slots.len() as u32 - 1
    });
    table.slots[index as usize] = Some(neighbour);
    table.by_addr.insert((iface.0, addr), index);
    Some(index)
}

/// Removes the entry that was used least lately of those nobody waits for and nobody updated in the last 5 s
/// (Linux: `neigh_forced_gc`).
fn collect(env: &mut Env) {
    let now = env.now;
    let old = |n: &Neighbour| n.state == State::Stale && now.since(n.updated) > Duration::from_secs(5);
    let oldest = env
        .ip
        .neigh
        .slots
        .iter()
        .enumerate()
        .filter_map(|(index, slot)| Some((index, slot.as_ref()?)))
        .filter(|(_, n)| old(n))
        .min_by_key(|(_, n)| n.used);
    if let Some(index) = oldest.map(|(index, _)| index as u32) {
        forget(env, index);
    }
}

fn forget(env: &mut Env, index: u32) -> Option<Neighbour> {
    let mut neighbour = env.ip.neigh.remove(index)?;
    env.timers.cancel(&mut neighbour.timer);
    Some(neighbour)
}

fn arm(env: &mut Env, index: u32, wait: Duration) {
    let at = env.now + wait;
    if let Some(neighbour) = env.ip.neigh.get(index) {
        env.timers.set(&mut neighbour.timer, at, TimerKey::Neigh(index).pack());
    }
}

/// Asks once more, and waits `retrans_time_ms`.
fn solicit(env: &mut Env, index: u32) {
    let Some(neighbour) = env.ip.neigh.get(index) else {
        return;
    };
    neighbour.probes += 1;
    let (iface, addr) = (neighbour.iface, neighbour.addr);
    let unicast = (neighbour.state == State::Probe).then_some(neighbour.mac);
    let asker = neighbour.waiting.front().map(|(route, ..)| route.src);
    arm(env, index, Duration::from_millis(env.sysctl.retrans_time_ms.into()));
    match (addr, source(env, iface, addr, asker)) {
        (IpAddr::V4(target), Some(IpAddr::V4(src))) => send_arp(env, iface, src, target, unicast, false),
        (IpAddr::V6(target), Some(IpAddr::V6(src))) => {
            let message = ndp::Message::NeighborSolicitation {
                target,
                source: mac_of(env, iface),
            };
            let dst = match unicast {
                Some(_) => target,
                None => ndp::solicited_node(target),
            };
            let to = unicast.or_else(|| MacAddr::of_multicast(dst.into()));
            send_ndp(env, iface, src, dst, to, message);
            env.mib.inc(Counter::Icmp6OutNeighborSolicits);
        }
        _ => {}
    }
}

/// The source of a request (Linux: `arp_solicit`): `arp_announce` 0 the waiting packet's own, 1 that if it is of the
/// target's subnet, 2 the interface's best.
fn source(env: &Env, iface: IfaceId, target: IpAddr, asker: Option<IpAddr>) -> Option<IpAddr> {
    let own = asker.filter(|addr| env.ip.is_local(*addr) && addr.is_ipv4() == target.is_ipv4());
    let fits = own.filter(|addr| match env.sysctl.arp_announce {
        _ if target.is_ipv6() => true,
        0 => true,
        1 => {
            let holds =
                |(net, prefix): &(IpAddr, u8)| in_prefix(*addr, *net, *prefix) && in_prefix(target, *net, *prefix);
            env.ip.addrs(iface).iter().any(holds)
        }
        _ => false,
    });
    fits.or_else(|| env.ip.source_for(iface, target))
}

fn mac_of(env: &Env, iface: IfaceId) -> Option<MacAddr> {
    match env.ip.iface(iface)?.medium {
        Medium::Ethernet(mac) => Some(MacAddr(mac)),
        Medium::Ip => None,
    }
}

/// Queues an ARP request for `target`, or a reply to it.
fn send_arp(env: &mut Env, iface: IfaceId, src: Ipv4Addr, target: Ipv4Addr, to: Option<MacAddr>, reply: bool) {
    let Some(mac) = mac_of(env, iface) else { return };
    let packet = arp::Packet {
        operation: if reply {
            arp::operation::REPLY
        } else {
            arp::operation::REQUEST
        },
        sender_mac: mac,
        sender_ip: src,
        target_mac: to.unwrap_or_default(),
        target_ip: target,
    };
    let mut bytes = alloc::vec![0; ethernet::HEADER_LEN + arp::LEN];
    let written = ethernet::write(&mut bytes, to.unwrap_or(MacAddr::BROADCAST), mac, ethertype::ARP)
        .and_then(|at| packet.write(&mut bytes[at..]));
    if written.is_some() {
        let _ = Ip::push_reply(env, Queued::Frame { iface, bytes });
    }
}

/// Queues a neighbour discovery message; `to`: the link-layer address, if the table isn't to be asked.
fn send_ndp(env: &mut Env, iface: IfaceId, src: Ipv6Addr, dst: Ipv6Addr, to: Option<MacAddr>, message: ndp::Message) {
    let (Some(mac), Some(to)) = (mac_of(env, iface), to) else {
        return;
    };
    let mut bytes = alloc::vec![0; ethernet::HEADER_LEN + 40 + icmpv6::HEADER_LEN + ndp::MAX_LEN];
    let body = ethernet::HEADER_LEN + 40;
    let header = estab_wire::ip::ipv6::Header {
        hop_limit: 255,
        ..estab_wire::ip::ipv6::Header::new(src, dst, protocol::ICMPV6)
    };
    let written = message.write(&mut bytes[body..], (src, dst)).and_then(|len| {
        header.write(&mut bytes[ethernet::HEADER_LEN..], len)?;
        ethernet::write(&mut bytes, to, mac, ethertype::IPV6)?;
        Some(body + len)
    });
    if let Some(len) = written {
        bytes.truncate(len);
        env.mib.inc(Counter::Icmp6OutMsgs);
        let _ = Ip::push_reply(env, Queued::Frame { iface, bytes });
    }
}

/// An ARP packet (RFC 826; Linux: `arp_process`).
pub(super) fn arp_input(env: &mut Env, on: IfaceId, bytes: &[u8]) {
    let Ok(packet) = arp::Packet::parse(bytes) else {
        return env.mib.drop(DropReason::ArpMalformed);
    };
    let (sender, target) = (IpAddr::V4(packet.sender_ip), IpAddr::V4(packet.target_ip));
    if packet.target_ip.is_multicast() || packet.target_ip.is_loopback() || packet.sender_mac.is_multicast() {
        return env.mib.drop(DropReason::ArpMalformed);
    }
    let ours = match env.sysctl.arp_ignore {
        0 => env.ip.is_local(target),
        _ => env.ip.addrs(on).iter().any(|(addr, _)| *addr == target),
    };
    if packet.operation == arp::operation::REQUEST {
        if ours {
            send_arp(
                env,
                on,
                packet.target_ip,
                packet.sender_ip,
                Some(packet.sender_mac),
                true,
            );
            // Who asks for us will be spoken with; a probe (RFC 5227) has no address yet.
            if !packet.sender_ip.is_unspecified() && !env.ip.is_local(sender) {
                learn(env, on, sender, packet.sender_mac, false, true);
            }
        }
        return;
    }
    // A reply, or an announcement, is only believed of whom we know (`arp_accept` 0).
    if packet.operation == arp::operation::REPLY && !env.ip.is_local(sender) {
        learn(env, on, sender, packet.sender_mac, ours, false);
    }
}

/// A neighbour solicitation or advertisement that came over the link (RFC 4861 §7.2; Linux: `ndisc_rcv`).
pub(super) fn ndp_input(env: &mut Env, packet: &Packet<'_>, message: ndp::Message) {
    let (IpAddr::V6(src), Some(_)) = (packet.src, mac_of(env, packet.iface)) else {
        return env.mib.drop(DropReason::IcmpIgnored);
    };
    match message {
        ndp::Message::NeighborSolicitation { target, source } => {
            let own = |(addr, _): &(IpAddr, u8)| *addr == IpAddr::V6(target);
            if !env.ip.addrs(packet.iface).iter().any(own) {
                return env.mib.drop(DropReason::IcmpIgnored);
            }
            // Nobody asks: somebody looks whether the address is free, and everybody hears that it isn't.
            let probe = src.is_unspecified();
            if let (false, Some(mac)) = (probe, source) {
                learn(env, packet.iface, packet.src, mac, false, true);
            }
            let answer = ndp::Message::NeighborAdvertisement {
                target,
                router: env.sysctl.ipv6_forwarding != 0,
                solicited: !probe,
                override_: true,
                link_layer: mac_of(env, packet.iface),
            };
            const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
            env.mib.inc(Counter::Icmp6OutNeighborAdvertisements);
            if probe {
                let to = MacAddr::of_multicast(ALL_NODES.into());
                return send_ndp(env, packet.iface, target, ALL_NODES, to, answer);
            }
            let known = env.ip.neigh.find(packet.iface, packet.src);
            let mac = source.or_else(|| env.ip.neigh.get(known?).map(|n| n.mac));
            send_ndp(env, packet.iface, target, src, mac, answer);
        }
        ndp::Message::NeighborAdvertisement {
            target,
            solicited,
            override_,
            link_layer,
            ..
        } => {
            let Some(mac) = link_layer else { return };
            let known = env.ip.neigh.find(packet.iface, target.into());
            let differs = known
                .and_then(|index| env.ip.neigh.get(index))
                .is_some_and(|n| n.state != State::Incomplete && n.mac != mac);
            // RFC 4861 §7.2.5: without override another address only raises doubt.
            if !differs || override_ {
                learn(env, packet.iface, target.into(), mac, solicited, false);
            }
        }
        _ => env.mib.drop(DropReason::IcmpIgnored),
    }
}

/// `addr` is at `mac`; `confirmed`: it answered us. Unknown neighbours are only taken in with `create_it`.
fn learn(env: &mut Env, iface: IfaceId, addr: IpAddr, mac: MacAddr, confirmed: bool, create_it: bool) {
    if mac.is_multicast() || addr.is_multicast() || addr.is_unspecified() {
        return;
    }
    let index = match env.ip.neigh.find(iface, addr) {
        Some(index) => index,
        None if create_it => match create(env, iface, addr, State::Stale) {
            Some(index) => index,
            None => return,
        },
        None => return,
    };
    let now = env.now;
    let Some(neighbour) = env.ip.neigh.get(index) else {
        return;
    };
    let same = neighbour.mac == mac && neighbour.state != State::Incomplete;
    // What is said unasked changes nothing that holds.
    if !confirmed && same {
        neighbour.updated = now;
        if neighbour.state == State::Stale {
            arm_stale(env, index);
        }
        return;
    }
    neighbour.mac = mac;
    neighbour.updated = now;
    neighbour.probes = 0;
    neighbour.state = if confirmed { State::Reachable } else { State::Stale };
    let waiting = core::mem::take(&mut neighbour.waiting);
    neighbour.waiting_bytes = 0;
    if confirmed {
        // RFC 4861 §6.3.2: half to one and a half times, so that neighbours don't ask in step.
        let base = env.sysctl.base_reachable_time_ms;
        let wait = base / 2 + env.rng.below(base.max(1));
        arm(env, index, Duration::from_millis(wait.into()));
    } else {
        arm_stale(env, index);
    }
    for (route, bytes, offload) in waiting {
        let _ = Ip::push_reply(env, Queued::Packet { route, bytes, offload });
    }
}

fn arm_stale(env: &mut Env, index: u32) {
    arm(env, index, Duration::from_secs(env.sysctl.gc_stale_time.into()));
}

/// A neighbour's time is up.
pub(super) fn on_timer(env: &mut Env, index: u32) {
    let Some(neighbour) = env.ip.neigh.get(index) else {
        return;
    };
    let (state, probes, used) = (neighbour.state, neighbour.probes, neighbour.used);
    match state {
        State::Reachable => {
            neighbour.state = State::Stale;
            arm_stale(env, index);
        }
        State::Delay => {
            neighbour.state = State::Probe;
            neighbour.probes = 0;
            solicit(env, index);
        }
        State::Incomplete if probes < env.sysctl.mcast_solicit => solicit(env, index),
        State::Probe if probes < env.sysctl.ucast_solicit => solicit(env, index),
        State::Incomplete | State::Probe => fail(env, index),
        State::Stale => {
            let age = Duration::from_secs(env.sysctl.gc_stale_time.into());
            let many = env.ip.neigh.by_addr.len() as u32 > env.sysctl.gc_thresh1;
            if many && env.now.since(used) >= age {
                forget(env, index);
            } else {
                arm(env, index, age.max(Duration::from_secs(1)));
            }
        }
    }
}

/// The neighbour does not answer: those whose packets waited hear that the host can't be reached
/// (Linux: `arp_error_report`, `ndisc_error_report`).
fn fail(env: &mut Env, index: u32) {
    let Some(neighbour) = forget(env, index) else { return };
    for (route, bytes, _) in neighbour.waiting {
        env.mib.drop(DropReason::NeighFailed);
        let Ok(view) = estab_wire::ip::Packet::parse(&bytes) else {
            continue;
        };
        let packet = Packet {
            iface: route.iface,
            src: view.src,
            dst: view.dst,
            protocol: view.protocol,
            hop_limit: view.hop_limit,
            tos: view.tos,
            local: false,
            multicast: false,
            payload: view.payload,
            bytes: view.bytes,
            meta: RxMeta::default(),
        };
        Ip::queue_icmp_error(env, Problem::Unreachable(Unreachable::Host), &packet);
    }
}
