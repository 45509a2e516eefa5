//! A stack's sockets in as many numbers as a diagnosis needs: what grows with the sockets is counted, not kept.

use crate::census::Census;
use crate::kernel::owners::Owners;
use crate::socket::Socket;
use estab_proto::{State, TimerKind};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

/// Of each list only so many, the largest first, are kept.
const KEPT: usize = 50;
/// Descriptors and remote addresses named as examples.
const EXAMPLES: usize = 8;
/// Nothing heard and nothing said for an hour: idle (ms).
const IDLE: u32 = 3_600_000;

/// A process by number and name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Owner {
    /// Its number.
    pub pid: u32,
    /// Its program.
    pub name: String,
}

/// How many are at least a second, ten, a minute and an hour old.
pub type Ages = [u64; 4];

/// Ephemeral ports in use from one source address to one destination: what `ip_local_port_range` limits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PortUse {
    /// From here.
    pub source: IpAddr,
    /// To there.
    pub destination: SocketAddr,
    /// Local ports of the range in use, those in TIME_WAIT too.
    pub used: u64,
    /// Those in TIME_WAIT.
    pub time_wait: u64,
}

/// A listening socket and what waits for it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// Connections that wait to be accepted.
    pub queue: u64,
    /// The most it lets wait; one more still fits. All ones where it can't be told.
    pub backlog: u64,
    /// Half-open connections to its port.
    pub half_open: u64,
    /// Those whose SYN-ACK was sent more than once.
    pub unanswered: u64,
    /// From how many addresses.
    pub sources: u64,
    /// Some of them.
    pub examples: Vec<IpAddr>,
    /// Who listens.
    pub owners: Vec<Owner>,
}

/// Connections of one owner whose peer has closed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CloseWait {
    /// Who holds them, where it can be told.
    pub owner: Option<Owner>,
    /// How many.
    pub count: u64,
    /// Recv-Q 0: the application has read the end and has not closed.
    pub end_read: u64,
    /// Recv-Q 1: only the FIN is unread.
    pub fin_unread: u64,
    /// Recv-Q above 1: data is unread.
    pub data_unread: u64,
    /// Bytes unread.
    pub bytes_unread: u64,
    /// By the time since the peer was last heard.
    pub ages: Ages,
    /// That of the oldest, in ms.
    pub oldest_ms: u64,
    /// Some descriptors.
    pub fds: Vec<u32>,
    /// Some local ports, most used first.
    pub ports: BTreeMap<u16, u64>,
}

/// Connections to or from one peer address in one state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerCount {
    /// The peer; its port where that is a service's.
    pub peer: SocketAddr,
    /// How many.
    pub count: u64,
}

/// Connections of one owner that have long been idle and have no keepalive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Idle {
    /// Who holds them.
    pub owner: Option<Owner>,
    /// How many.
    pub count: u64,
    /// The longest silence, in ms.
    pub oldest_ms: u64,
}

/// What a diagnosis needs to know of a stack's TCP sockets.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    /// By state.
    pub states: Census,
    /// TIME_WAITs of connections opened from here.
    pub time_wait_outgoing: u64,
    /// Orphaned FIN_WAIT_2s that the stack keeps as time-wait entries.
    pub fin_wait2_entries: u64,
    /// Connections no process holds: in FIN_WAIT_1, FIN_WAIT_2 (not the entries), CLOSING or LAST_ACK.
    pub orphans: u64,
    /// Children in accept queues whose peer has closed already.
    pub closed_before_accept: u64,
    /// Connections whose retransmission timer has backed off.
    pub backed_off: u64,
    /// Ports used towards the busiest destinations.
    pub ports: Vec<PortUse>,
    /// All listeners, the fullest first.
    pub listeners: Vec<Listener>,
    /// CLOSE_WAITs by owner, most first.
    pub close_wait: Vec<CloseWait>,
    /// Connects whose SYN was sent more than once, by destination.
    pub syn_sent: Vec<PeerCount>,
    /// FIN_WAIT_2s by peer, those that a process still holds.
    pub fin_wait2_held: Vec<PeerCount>,
    /// FIN_WAIT_1, CLOSING and LAST_ACK whose FIN, or data before it, was sent more than once, by peer.
    pub closing: Vec<PeerCount>,
    /// Peers that let us send nothing.
    pub zero_window: Vec<PeerCount>,
    /// Idle connections without keepalive, by owner.
    pub idle: Vec<Idle>,
}

/// Gathers a [`Summary`], socket by socket.
pub struct Builder<'a> {
    owners: Option<&'a Owners>,
    range: (u16, u16),
    summary: Summary,
    /// Ports that listen: a connection on one of them was opened by its peer.
    ports: HashSet<u16>,
    used: HashMap<(IpAddr, SocketAddr), (u64, u64)>,
    /// By port: count, unanswered, and addresses.
    half_open: HashMap<u16, (u64, u64, HashSet<IpAddr>)>,
    close_wait: HashMap<Option<u32>, CloseWait>,
    idle: HashMap<Option<u32>, Idle>,
    peers: [HashMap<SocketAddr, u64>; 4],
}

const SYN_SENT: usize = 0;
const FIN_WAIT2: usize = 1;
const CLOSING: usize = 2;
const ZERO_WINDOW: usize = 3;

impl<'a> Builder<'a> {
    /// `range` is `ip_local_port_range`; the listeners are to be given first, by [`listener`](Self::listener).
    pub fn new(range: (u16, u16), owners: Option<&'a Owners>) -> Builder<'a> {
        Builder {
            owners,
            range,
            summary: Summary::default(),
            ports: HashSet::new(),
            used: HashMap::new(),
            half_open: HashMap::new(),
            close_wait: HashMap::new(),
            idle: HashMap::new(),
            peers: Default::default(),
        }
    }

    fn owner(&self, socket: &Socket) -> Option<(Owner, u32)> {
        let (process, fd) = self.owners?.of(socket.diag.id).next()?;
        let owner = Owner {
            pid: process.pid,
            name: process.name.clone(),
        };
        Some((owner, fd))
    }

    /// Notes a listener.
    pub fn listener(&mut self, socket: &Socket) {
        if !socket.is_tcp() || socket.diag.state != State::Listen {
            return;
        }
        self.ports.insert(socket.diag.local.port());
        let owners = self.owners.into_iter().flat_map(|owners| owners.of(socket.diag.id));
        let mut owners: Vec<Owner> = owners
            .map(|(process, _)| Owner {
                pid: process.pid,
                name: process.name.clone(),
            })
            .collect();
        owners.sort();
        owners.dedup();
        owners.truncate(EXAMPLES);
        self.summary.listeners.push(Listener {
            address: socket.local(),
            queue: socket.diag.recv_q.into(),
            backlog: socket.diag.send_q.into(),
            half_open: 0,
            unanswered: 0,
            sources: 0,
            examples: Vec::new(),
            owners,
        });
    }

    /// The listeners' backlogs are not known.
    pub fn forget_backlogs(&mut self) {
        for listener in &mut self.summary.listeners {
            listener.backlog = u64::MAX;
        }
    }

    /// Notes any socket but a listener.
    pub fn add(&mut self, socket: &Socket) {
        if !socket.is_tcp() {
            return;
        }
        let diag = &socket.diag;
        self.summary.states.add(diag);
        let (local, remote) = (socket.local(), socket.remote());
        // A listener on port 0 takes every port: a gateway's.
        let incoming = self.ports.contains(&local.port()) || self.ports.contains(&0);
        let entry = socket.is_time_wait_entry();
        self.summary.orphans += u64::from(diag.orphan);
        if !incoming && remote.port() != 0 && diag.state != State::SynRcvd {
            if diag.state == State::TimeWait {
                self.summary.time_wait_outgoing += 1;
            }
            if (self.range.0..=self.range.1).contains(&local.port()) {
                let used = self.used.entry((local.ip(), remote)).or_default();
                used.0 += 1;
                used.1 += u64::from(diag.state == State::TimeWait);
            }
        }
        // The peer's port tells something only where we went to it.
        let peer = if incoming {
            SocketAddr::new(remote.ip(), 0)
        } else {
            remote
        };
        let repeated = diag.timer.is_some_and(|timer| timer.retries > 0);
        match diag.state {
            State::SynRcvd => {
                let half = self.half_open.entry(local.port()).or_default();
                half.0 += 1;
                half.1 += u64::from(repeated);
                half.2.insert(remote.ip());
            }
            State::SynSent if repeated => *self.peers[SYN_SENT].entry(peer).or_default() += 1,
            State::FinWait2 if entry => self.summary.fin_wait2_entries += 1,
            State::FinWait2 if !diag.orphan => *self.peers[FIN_WAIT2].entry(peer).or_default() += 1,
            State::FinWait1 | State::Closing | State::LastAck if repeated => {
                *self.peers[CLOSING].entry(peer).or_default() += 1
            }
            State::CloseWait if socket.kernel.is_some() && diag.id == 0 => self.summary.closed_before_accept += 1,
            State::CloseWait => self.close_wait(socket),
            State::Established => self.established(socket),
            _ => {}
        }
        if let Some(info) = &diag.info {
            self.summary.backed_off += u64::from(info.backoff > 0 && diag.state == State::Established);
            let persist = diag.timer.is_some_and(|timer| timer.kind == TimerKind::Persist);
            if persist && info.snd_wnd == 0 && info.probes > 0 {
                *self.peers[ZERO_WINDOW].entry(peer).or_default() += 1;
            }
        }
    }

    fn close_wait(&mut self, socket: &Socket) {
        let diag = &socket.diag;
        let (owner, fd) = self.owner(socket).unzip();
        let group = self
            .close_wait
            .entry(owner.as_ref().map(|owner| owner.pid))
            .or_default();
        group.owner = owner;
        group.count += 1;
        match diag.recv_q {
            0 => group.end_read += 1,
            1 => group.fin_unread += 1,
            n => {
                group.data_unread += 1;
                // The FIN takes one.
                group.bytes_unread += u64::from(n - 1);
            }
        }
        if let Some(info) = &diag.info {
            // The FIN acknowledged something, as every segment does.
            let age = u64::from(info.last_ack_recv);
            for (count, least) in group.ages.iter_mut().zip([1_000, 10_000, 60_000, 3_600_000]) {
                *count += u64::from(age >= least);
            }
            group.oldest_ms = group.oldest_ms.max(age);
        }
        if let Some(fd) = fd.filter(|_| group.fds.len() < EXAMPLES) {
            group.fds.push(fd);
        }
        *group.ports.entry(diag.local.port()).or_default() += 1;
    }

    fn established(&mut self, socket: &Socket) {
        let Some(info) = &socket.diag.info else {
            return;
        };
        let silent = info.last_data_recv.min(info.last_data_sent).min(info.last_ack_recv);
        // A keepalive timer, or data on its way, will notice a peer that is gone.
        if silent < IDLE || socket.diag.timer.is_some() || (socket.kernel.is_some() && socket.diag.id == 0) {
            return;
        }
        let (owner, _) = self.owner(socket).unzip();
        let key = owner.as_ref().map(|owner| owner.pid);
        let idle = self.idle.entry(key).or_insert(Idle {
            owner,
            count: 0,
            oldest_ms: 0,
        });
        idle.count += 1;
        idle.oldest_ms = idle.oldest_ms.max(silent.into());
    }

    /// The whole.
    pub fn finish(mut self) -> Summary {
        let mut summary = self.summary;
        for listener in &mut summary.listeners {
            // A kernel's request does not tell which of several listeners of a port it is for.
            if let Some((count, unanswered, sources)) = self.half_open.get(&listener.address.port()) {
                (listener.half_open, listener.unanswered) = (*count, *unanswered);
                listener.sources = sources.len() as u64;
                listener.examples = sources.iter().take(EXAMPLES).copied().collect();
            }
        }
        summary
            .listeners
            .sort_by_key(|l| std::cmp::Reverse((l.queue > l.backlog, l.half_open, l.queue)));
        let listening = summary.listeners.len() as u64;
        summary.states.add_many(State::Listen, listening);
        summary.listeners.truncate(KEPT * 4);

        summary.ports = self
            .used
            .into_iter()
            .map(|((source, destination), (used, time_wait))| PortUse {
                source,
                destination,
                used,
                time_wait,
            })
            .collect();
        summary
            .ports
            .sort_by_key(|at| std::cmp::Reverse((at.used, at.time_wait)));
        summary.ports.truncate(KEPT);
        summary.close_wait = self.close_wait.into_values().collect();
        summary.close_wait.sort_by_key(|group| std::cmp::Reverse(group.count));
        summary.close_wait.truncate(KEPT);
        for group in &mut summary.close_wait {
            group.fds.sort_unstable();
            while group.ports.len() > EXAMPLES {
                group.ports.pop_last();
            }
        }
        summary.idle = self.idle.into_values().collect();
        summary.idle.sort_by_key(|idle| std::cmp::Reverse(idle.count));
        summary.idle.truncate(KEPT);
        let [syn_sent, fin_wait2, closing, zero] = std::mem::take(&mut self.peers).map(top);
        (summary.syn_sent, summary.fin_wait2_held) = (syn_sent, fin_wait2);
        (summary.closing, summary.zero_window) = (closing, zero);
        summary
    }
}

fn top(peers: HashMap<SocketAddr, u64>) -> Vec<PeerCount> {
    let mut top: Vec<PeerCount> = peers
        .into_iter()
        .map(|(peer, count)| PeerCount { peer, count })
        .collect();
    top.sort_by_key(|at| (std::cmp::Reverse(at.count), at.peer));
    top.truncate(KEPT);
    top
}
