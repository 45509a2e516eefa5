//! The gateway's resolver: answers for the gateway's own names, and carries every other query to the host's
//! resolvers as it is, to the next one when one is silent or gone.

use crate::core::Core;
use crate::sys::{self, EventFlags, LEVEL};
use crate::table::{Key, Table, Token};
use crate::udp::Udp;
use estab_engine::Instant;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// How long one resolver may take; the guest's own resolver waits 5 s (resolv.conf(5)).
const PATIENCE: Duration = Duration::from_secs(2);
/// How often each resolver is asked.
const ROUNDS: usize = 2;
/// Queries at once; past it they are not answered.
const MAX_QUERIES: usize = 1024;

pub(crate) struct Dns {
    queries: Table<Query>,
    buf: Box<[u8]>,
}

struct Query {
    /// The socket to the resolver being asked.
    fd: OwnedFd,
    message: Vec<u8>,
    guest: SocketAddr,
    gateway: SocketAddr,
    /// How many times a resolver has been asked.
    attempts: usize,
    until: Instant,
}

impl Dns {
    pub(crate) fn new() -> Dns {
        Dns {
            queries: Table::new(),
            buf: vec![0; 65536].into_boxed_slice(),
        }
    }

    /// The guest asks.
    pub(crate) fn query(&mut self, core: &mut Core, udp: &Udp, message: &[u8], guest: SocketAddr, gateway: SocketAddr) {
        // What is no query is not worth an answer.
        let Some(question) = Question::parse(message) else {
            return;
        };
        if let Some(answer) = question.answer(message, |name| core.map.named(name)) {
            return udp.to_guest(core, &answer, gateway, guest);
        }
        if self.queries.len() < MAX_QUERIES {
            self.ask(core, udp, message.to_vec(), guest, gateway, 0);
        }
    }

    /// Asks the next resolver that can be asked.
    fn ask(
        &mut self,
        core: &mut Core,
        udp: &Udp,
        message: Vec<u8>,
        guest: SocketAddr,
        gateway: SocketAddr,
        mut attempts: usize,
    ) {
        let resolvers = core.config.resolvers.len();
        while attempts < resolvers * ROUNDS {
            let resolver = core.config.resolvers[attempts % resolvers];
            attempts += 1;
            // A socket for each query: a port of its own is half of what keeps forged replies out (RFC 5452).
            let fd = match sys::udp_connect(resolver) {
                Ok(fd) => fd,
                Err(err) => {
                    core.limit(err, "a DNS query");
                    continue;
                }
            };
            if rustix::net::send(&fd, &message, rustix::net::SendFlags::empty()).is_err() {
                continue;
            }
            let until = core.now + PATIENCE;
            let key = self.queries.insert(Query {
                fd,
                message,
                guest,
                gateway,
                attempts,
                until,
            });
            if let Some(query) = self.queries.get_mut(key)
                && core.watch(&query.fd, LEVEL, Token::Dns(key)).is_none()
            {
                self.queries.remove(key);
                return;
            }
            core.deadlines.add(until, Token::Dns(key));
            return;
        }
        if let Some(question) = Question::parse(&message) {
            udp.to_guest(core, &question.reply(&message, SERVFAIL, &[]), gateway, guest);
        }
    }

    /// A resolver has answered, or is gone.
    pub(crate) fn host_event(&mut self, core: &mut Core, udp: &Udp, key: Key, flags: EventFlags) {
        let Some(query) = self.queries.get_mut(key) else { return };
        let received = rustix::net::recv(&query.fd, &mut *self.buf, rustix::net::RecvFlags::empty());
        match received {
            Ok((len, _)) if len >= HEADER && self.buf[..2] == query.message[..2] => {
                udp.to_guest(core, &self.buf[..len], query.gateway, query.guest);
                self.queries.remove(key);
            }
            // A reply to something else.
            Ok(_) => {}
            Err(rustix::io::Errno::AGAIN) if !flags.contains(EventFlags::ERR) => {}
            Err(_) => self.next(core, udp, key),
        }
    }

    /// A resolver had its time.
    pub(crate) fn deadline(&mut self, core: &mut Core, udp: &Udp, key: Key) {
        if self.queries.get_mut(key).is_some_and(|query| core.now >= query.until) {
            self.next(core, udp, key);
        }
    }

    fn next(&mut self, core: &mut Core, udp: &Udp, key: Key) {
        if let Some(Query {
            message,
            guest,
            gateway,
            attempts,
            ..
        }) = self.queries.remove(key)
        {
            self.ask(core, udp, message, guest, gateway, attempts);
        }
    }
}

const HEADER: usize = 12;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const TYPE_ANY: u16 = 255;
const CLASS_IN: u16 = 1;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
/// Seconds the gateway's names may be kept.
const TTL: u32 = 60;

/// The one question of a query (RFC 1035 §4.1.2).
struct Question {
    /// In lower case, without the last dot.
    name: String,
    kind: u16,
    class: u16,
    /// Where it ends in the message.
    end: usize,
}

impl Question {
    /// `None` for what is no standard query with one question.
    fn parse(message: &[u8]) -> Option<Question> {
        let header = message.get(..HEADER)?;
        let (query, standard) = (header[2] & 0x80 == 0, header[2] & 0x78 == 0);
        if !query || !standard || header[4..6] != [0, 1] {
            return None;
        }
        let mut name = String::new();
        let mut at = HEADER;
        loop {
            let len = usize::from(*message.get(at)?);
            at += 1;
            if len == 0 {
                break;
            }
            // A pointer has nothing to point at in a question, and a name has at most 255 bytes.
            if len > 63 || at + len > HEADER + 255 {
                return None;
            }
            if !name.is_empty() {
                name.push('.');
            }
            name.extend(
                message
                    .get(at..at + len)?
                    .iter()
                    .map(|b| char::from(b.to_ascii_lowercase())),
            );
            at += len;
        }
        let word = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
        Some(Question {
            name,
            kind: word(at)?,
            class: word(at + 2)?,
            end: at + 4,
        })
    }

    /// The answer to a question about `.estab`, which is the gateway's own; `None`: ask a resolver.
    fn answer(
        &self,
        message: &[u8],
        named: impl Fn(&str) -> Option<(Option<Ipv4Addr>, Option<Ipv6Addr>)>,
    ) -> Option<Vec<u8>> {
        if self.class != CLASS_IN || !(self.name == "estab" || self.name.ends_with(".estab")) {
            return None;
        }
        let Some((v4, v6)) = named(&self.name) else {
            return Some(self.reply(message, NXDOMAIN, &[]));
        };
        let v4 = v4.filter(|_| matches!(self.kind, TYPE_A | TYPE_ANY)).map(IpAddr::V4);
        let v6 = v6.filter(|_| matches!(self.kind, TYPE_AAAA | TYPE_ANY)).map(IpAddr::V6);
        let addresses: Vec<IpAddr> = v4.into_iter().chain(v6).collect();
        Some(self.reply(message, 0, &addresses))
    }

    /// A reply to `message`, which holds this question, with one record per address.
    fn reply(&self, message: &[u8], code: u8, addresses: &[IpAddr]) -> Vec<u8> {
        let mut out = message[..self.end].to_vec();
        // A response, authoritative, recursion desired as it was; recursion available.
        out[2] = 0x84 | message[2] & 0x01;
        out[3] = 0x80 | code;
        out[6..HEADER].fill(0);
        out[7] = addresses.len() as u8;
        for address in addresses {
            let (kind, bytes) = match address {
                IpAddr::V4(ip) => (TYPE_A, ip.octets().to_vec()),
                IpAddr::V6(ip) => (TYPE_AAAA, ip.octets().to_vec()),
            };
            // The name is a pointer to the question's.
            out.extend([0xc0, HEADER as u8]);
            out.extend(kind.to_be_bytes());
            out.extend(CLASS_IN.to_be_bytes());
            out.extend(TTL.to_be_bytes());
            out.extend((bytes.len() as u16).to_be_bytes());
            out.extend(bytes);
        }
        out
    }
}

/// The resolvers of a resolv.conf(5), in order; the C library's default, the host itself, when it names none.
pub fn resolvers_of(resolv_conf: &str) -> Vec<SocketAddr> {
    let named = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        // A scoped address (fe80::1%eth0) is told without its zone by nobody; it can't be used here.
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        Some(SocketAddr::new(address.parse().ok()?, crate::open::DOMAIN))
    });
    let mut all: Vec<SocketAddr> = named.collect();
    if all.is_empty() {
        all.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), crate::open::DOMAIN));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut out = vec![0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            out.push(label.len() as u8);
            out.extend(label.as_bytes());
        }
        out.push(0);
        out.extend(kind.to_be_bytes());
        out.extend(CLASS_IN.to_be_bytes());
        out
    }

    fn named(name: &str) -> Option<(Option<Ipv4Addr>, Option<Ipv6Addr>)> {
        (name == "host.estab").then_some((Some(Ipv4Addr::new(10, 0, 2, 2)), None))
    }

    fn answer(message: &[u8]) -> Option<Vec<u8>> {
        Question::parse(message)?.answer(message, named)
    }

    #[test]
    fn the_gateways_own_names_are_answered_whatever_their_case() {
        let message = query("Host.Estab", TYPE_A);
        let reply = answer(&message).expect("an answer");
        assert_eq!(reply[..2], message[..2], "the identifier");
        assert_eq!(
            reply[2..8],
            [0x85, 0x80, 0, 1, 0, 1],
            "a response without error, one question, one answer"
        );
        assert_eq!(reply[reply.len() - 4..], [10, 0, 2, 2]);
        assert_eq!(reply[12..message.len()], message[12..], "the question as it was asked");
    }

    #[test]
    fn a_name_without_the_address_asked_for_exists_and_an_unknown_one_does_not() {
        let reply = answer(&query("host.estab", TYPE_AAAA)).expect("an answer");
        assert_eq!((reply[3] & 0x0f, reply[7]), (0, 0));
        let reply = answer(&query("nobody.estab", TYPE_A)).expect("an answer");
        assert_eq!((reply[3] & 0x0f, reply[7]), (NXDOMAIN, 0));
        assert_eq!(answer(&query("example.com", TYPE_A)), None);
        assert_eq!(answer(&query("hostestab", TYPE_A)), None);
    }

    #[test]
    fn what_is_no_query_has_no_answer() {
        let whole = query("host.estab", TYPE_A);
        for len in 0..whole.len() {
            assert!(Question::parse(&whole[..len]).is_none(), "cut to {len} bytes");
        }
        let mut response = whole.clone();
        response[2] |= 0x80;
        assert!(Question::parse(&response).is_none());
        let mut pointer = whole;
        pointer[12] = 0xc0;
        assert!(Question::parse(&pointer).is_none());
    }

    #[test]
    fn resolvers_are_read_as_the_c_library_reads_them() {
        let text = "# comment\nsearch example.com\nnameserver 127.0.0.53\n nameserver\t::1 \nnameserver bad\n";
        let expected: Vec<SocketAddr> = vec!["127.0.0.53:53".parse().unwrap(), "[::1]:53".parse().unwrap()];
        assert_eq!(resolvers_of(text), expected);
        assert_eq!(resolvers_of(""), vec!["127.0.0.1:53".parse::<SocketAddr>().unwrap()]);
    }
}
