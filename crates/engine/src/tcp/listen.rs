//! Listeners: the accept queue, and how full it and the queue of requests are (Linux: `struct inet_connection_sock`,
//! `request_sock_queue`).

use super::synq::Request;
use crate::event::SocketId;
use crate::sock::SockOpts;
use crate::sock::bind::Binding;
use crate::{Family, Instant};
use alloc::collections::VecDeque;
use alloc::sync::Arc;

/// A socket in LISTEN.
#[derive(Clone)]
pub(crate) struct Listener {
    pub(crate) sock: SocketId,
    pub(crate) family: Family,
    pub(crate) opts: Arc<SockOpts>,
    pub(crate) binding: Binding,
    /// min(listen's argument, somaxconn) (Linux: `sk_max_ack_backlog`).
    pub(crate) backlog: u32,
    /// Connections nobody has accepted yet.
    pub(crate) accept: VecDeque<u32>,
    /// Requests that wait for their ACK.
    pub(crate) requests: u32,
    /// Of these, those without a timeout yet (Linux: `young`).
    pub(crate) young: u32,
    /// When a cookie was last needed (Linux: `ts_recent_stamp` of the listener).
    pub(crate) last_overflow: Option<Instant>,
    /// Fast Open's children before their final ACK.
    pub(crate) fast_open: super::fastopen::Queue,
}

impl Listener {
    pub(crate) fn new(sock: SocketId, family: Family, opts: Arc<SockOpts>, binding: Binding, backlog: u32) -> Listener {
        Listener {
            sock,
            family,
            opts,
            binding,
            backlog,
            accept: VecDeque::new(),
            requests: 0,
            young: 0,
            last_overflow: None,
            fast_open: Default::default(),
        }
    }

    /// The accept queue takes no more: it holds backlog + 1 (Linux: `sk_acceptq_is_full`).
    pub(crate) fn accept_full(&self) -> bool {
        self.accept.len() > self.backlog as usize
    }

    /// The queue of requests takes no more without a cookie (Linux: `inet_csk_reqsk_queue_is_full`).
    pub(crate) fn requests_full(&self) -> bool {
        self.requests > self.backlog
    }

    /// How often a SYN-ACK is repeated now: fewer the fuller the queue is with old requests
    /// (Linux: `reqsk_timer_handler`).
    pub(crate) fn synack_retries(&self, normal: u8) -> u8 {
        let mut retries = normal;
        if self.requests.saturating_mul(2) > self.backlog.max(8) {
            let mut young = self.young.saturating_mul(2);
            while retries > 2 && self.requests >= young {
                retries -= 1;
                young = young.saturating_mul(2);
            }
        }
        retries
    }

    /// A request is in its queue from now on.
    pub(crate) fn join(&mut self, request: &Request) {
        if !request.is_held() {
            self.requests += 1;
            self.young += u32::from(request.timeouts == 0);
        }
    }

    /// A request leaves its queue.
    pub(crate) fn leave(&mut self, request: &Request) {
        if !request.is_held() {
            self.requests -= 1;
            self.young -= u32::from(request.timeouts == 0);
        }
    }
}
