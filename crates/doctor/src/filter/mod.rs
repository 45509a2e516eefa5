//! ss's filters: `state time-wait`, `exclude listening`, `sport = :80 and not dst 10.0.0.0/8`, with and, or, not and parentheses.

mod parse;

pub use parse::FilterError;

use crate::socket::Socket;
use estab_proto::State;
use std::net::IpAddr;

/// Some of the eleven states.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct States(u16);

impl States {
    /// None of them.
    pub const NONE: States = States(0);

    /// All of them.
    pub fn all() -> States {
        State::ALL
            .into_iter()
            .fold(States::NONE, |states, state| states.with(state))
    }

    /// These and `state`.
    pub const fn with(self, state: State) -> States {
        States(self.0 | 1 << state as u16)
    }

    /// These and `others`.
    pub const fn and(self, others: States) -> States {
        States(self.0 | others.0)
    }

    /// These but not `others`.
    pub const fn without(self, others: States) -> States {
        States(self.0 & !others.0)
    }

    /// Whether `state` is among them.
    pub const fn has(self, state: State) -> bool {
        self.0 & 1 << state as u16 != 0
    }

    /// There is just one.
    pub const fn is_single(self) -> bool {
        self.0.is_power_of_two()
    }

    /// The state of that name, in any spelling, or ss's sets: all, connected, synchronized, bucket, big.
    pub fn named(word: &str) -> Option<States> {
        let unconnected = States::NONE.with(State::Closed).with(State::Listen);
        let bucket = States::NONE.with(State::SynRcvd).with(State::TimeWait);
        let all = States::all();
        Some(match word.to_ascii_lowercase().as_str() {
            "all" => all,
            "connected" => all.without(unconnected),
            "synchronized" => all.without(unconnected.with(State::SynSent)),
            "bucket" => bucket,
            "big" => all.without(bucket),
            "listening" => States::NONE.with(State::Listen),
            "unconnected" => States::NONE.with(State::Closed),
            // ss's own word for SYN_RECV in older versions.
            "syn-rcv" => States::NONE.with(State::SynRcvd),
            other => States::NONE.with(other.parse().ok()?),
        })
    }

    /// One bit for each of Linux's numbers, as sock_diag takes them.
    pub const fn linux(self) -> u32 {
        let mut bits = self.0 as u32;
        // What is SYN_RECV to us is two states to the kernel, and so is CLOSE since 6.8.
        if self.has(State::SynRcvd) {
            bits |= 1 << 12;
        }
        if self.has(State::Closed) {
            bits |= 1 << 13;
        }
        bits
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Local,
    Remote,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Compare {
    Equal,
    Unequal,
    AtMost,
    AtLeast,
    Below,
    Above,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Test {
    Port(Side, Compare, u16),
    /// An address with the length of its prefix, or any; and a port, or any.
    Host(Side, Option<(IpAddr, u8)>, Option<u16>),
    Device(u32),
    Not(Box<Test>),
    Both(Box<Test>, Box<Test>),
    Either(Box<Test>, Box<Test>),
}

/// A filter as ss has it: first states, then an expression.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// The states named by `state` and `exclude`; `None` if none were.
    pub states: Option<States>,
    test: Option<Test>,
}

impl Filter {
    /// Reads the words of a command line.
    pub fn parse(words: &[String]) -> Result<Filter, FilterError> {
        parse::parse(words)
    }

    /// Whether `socket` passes; its state only counts where the filter names any.
    pub fn passes(&self, socket: &Socket) -> bool {
        self.states.is_none_or(|states| states.has(socket.diag.state))
            && self.test.as_ref().is_none_or(|test| test.holds(socket))
    }
}

impl Test {
    fn holds(&self, socket: &Socket) -> bool {
        let end = |side: &Side| match side {
            Side::Local => socket.local(),
            Side::Remote => socket.remote(),
        };
        match self {
            Test::Port(side, compare, port) => {
                let found = end(side).port();
                match compare {
                    Compare::Equal => found == *port,
                    Compare::Unequal => found != *port,
                    Compare::AtMost => found <= *port,
                    Compare::AtLeast => found >= *port,
                    Compare::Below => found < *port,
                    Compare::Above => found > *port,
                }
            }
            Test::Host(side, network, port) => {
                let found = end(side);
                network.is_none_or(|(net, length)| within(found.ip(), net, length))
                    && port.is_none_or(|port| found.port() == port)
            }
            Test::Device(iface) => socket.kernel.is_some_and(|kernel| kernel.iface == *iface),
            Test::Not(test) => !test.holds(socket),
            Test::Both(a, b) => a.holds(socket) && b.holds(socket),
            Test::Either(a, b) => a.holds(socket) || b.holds(socket),
        }
    }
}

/// Whether `ip` lies in `net`/`length`. An IPv4 address never lies in an IPv6 network, but ::ffff:0:0/96 was told as IPv4 before.
fn within(ip: IpAddr, net: IpAddr, length: u8) -> bool {
    let length = u32::from(length);
    match (ip, net) {
        (IpAddr::V4(ip), IpAddr::V4(net)) => {
            let mask = u32::MAX.checked_shl(32 - length.min(32)).unwrap_or(0);
            (ip.to_bits() ^ net.to_bits()) & mask == 0
        }
        (IpAddr::V6(ip), IpAddr::V6(net)) => {
            let mask = u128::MAX.checked_shl(128 - length.min(128)).unwrap_or(0);
            (ip.to_bits() ^ net.to_bits()) & mask == 0
        }
        _ => false,
    }
}
