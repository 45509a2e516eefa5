//! Fast Open: data in the SYN (RFC 7413; Linux: net/ipv4/tcp_fastopen.c).
//!
//! | file | concept |
//! |---|---|
//! | `cookie.rs` | cookies as the server makes them |
//! | `cache.rs` | what a client remembers of its servers; black holes |
//! | `client.rs` | the SYN with data, its answer, its loss |
//! | `server.rs` | whom a listener believes, and the child that lives before the final ACK |

pub(crate) mod cache;
mod client;
mod cookie;
mod server;

use super::conn::Conn;
use super::synq::Request;
use crate::env::Env;
use crate::event::SocketId;
use alloc::boxed::Box;
use estab_proto::TcpInfo;

pub(crate) use server::{Answer, Queue};

/// Bits of `tcp_fastopen` (Linux: `TFO_…` of include/net/tcp.h).
pub(crate) mod mode {
    /// Connections of ours may send data in the SYN.
    pub(crate) const CLIENT: u32 = 0x1;
    /// Listeners may take it.
    pub(crate) const SERVER: u32 = 0x2;
    /// We send it without a cookie.
    pub(crate) const CLIENT_NO_COOKIE: u32 = 0x4;
    /// Listeners take it without a cookie.
    pub(crate) const SERVER_NO_COOKIE: u32 = 0x200;
    /// Every listener does, without TCP_FASTOPEN.
    pub(crate) const SERVER_ALWAYS: u32 = 0x400;
}

/// TCPI_OPT_SYN_DATA (include/uapi/linux/tcp.h).
const OPT_SYN_DATA: u8 = 32;

/// Why data did not go with the SYN (Linux: `enum tcp_fastopen_client_fail`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub(crate) enum Fail {
    #[default]
    None,
    /// There was no cookie yet.
    CookieUnavailable,
    /// The SYN-ACK acknowledged the SYN alone.
    DataNotAcked,
    /// The SYN had to be repeated, without data.
    SynRetransmitted,
}

/// What a connection that has to do with Fast Open keeps.
#[derive(Clone, Default)]
pub(crate) struct FastOpen {
    /// connect(2) has succeeded; the SYN waits for the first write (TCP_FASTOPEN_CONNECT).
    deferred: bool,
    /// Our SYN carried the option (Linux: `syn_fastopen`), and in its experimental form.
    asked: bool,
    experimental: bool,
    /// Our SYN carried data.
    syn_data: bool,
    /// The SYN's data arrived, ours or the peer's.
    syn_data_acked: bool,
    /// It is the first since black holes were suspected: if it thrives, the suspicion ends (Linux: `syn_fastopen_ch`).
    probing: bool,
    fail: Fail,
    /// The request of a child whose SYN-ACK is not acknowledged yet (Linux: `fastopen_rsk`), and whose child it is.
    request: Option<Request>,
    listener: Option<(u32, SocketId)>,
    /// The request is over; `true`: an RST ended it after the application had accepted the child.
    released: Option<bool>,
}

impl Conn {
    fn fast_open_mut(&mut self) -> &mut FastOpen {
        self.fast_open.get_or_insert_with(Box::default)
    }

    /// It is a child of a listener that lives before the peer's final ACK (Linux: `tcp_passive_fastopen`).
    pub(crate) fn is_fast_open_child(&self) -> bool {
        self.fast_open.as_ref().is_some_and(|f| f.request.is_some())
    }

    /// connect(2) has succeeded, but the SYN waits for data.
    pub(crate) fn is_connect_deferred(&self) -> bool {
        self.fast_open.as_ref().is_some_and(|f| f.deferred)
    }

    /// Fast Open's part of `struct tcp_info`.
    pub(crate) fn fast_open_info(&self, info: &mut TcpInfo) {
        let Some(fast_open) = self.fast_open.as_ref() else {
            return;
        };
        if fast_open.syn_data_acked {
            info.options |= OPT_SYN_DATA;
        }
        info.fastopen_client_fail = fast_open.fail as u8;
    }

    /// The connection leaves the tables.
    pub(super) fn fast_open_done(&mut self, env: &mut Env) {
        let Some(fast_open) = self.fast_open.as_ref().filter(|f| f.asked) else {
            return;
        };
        env.fast_open.judge(
            env.now,
            &env.sysctl,
            &mut env.mib,
            &cache::Outcome {
                received: self.rcv.received_any(),
                fin_alone: self.rcv.holds_only_fin(),
                probing: fast_open.probing,
                loopback: self.tuple.remote_ip.is_loopback(),
            },
        );
    }
}
