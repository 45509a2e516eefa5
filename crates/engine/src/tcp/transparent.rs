//! Opens that a transparent listener holds, unanswered, until the application says what becomes of them: the gateway
//! answers only for destinations that answered it.
//!
//! A peer that gives up says nothing, so an open lasts as long as its SYNs come; it is replaced when one comes with another
//! ISN. Their number is bounded, they take no cookie and no data.

use super::conn::Reject;
use super::demux::{Demux, Object};
use super::passive::{Asked, make_request};
use super::segment::Segment;
use super::synq::Kind;
use super::{Tcp, trace_move};
use crate::drop::DropReason;
use crate::env::Env;
use crate::event::{Event, Incoming, OpenId, SocketId};
use crate::ip::{Ip, Problem, Subject};
use crate::{Family, Result, SockError, Unreachable};
use core::time::Duration;
use estab_proto::state::Trigger;
use estab_proto::{Counter, State};

/// Most opens that wait at once; `tcp_max_syn_backlog` raises it.
const MAX_HELD: u32 = 4096;
/// The peer's next SYN comes at most this factor later than the last interval (exponential backoff), plus a margin.
const PATIENCE: u32 = 3;
const LEAST_PATIENCE: Duration = Duration::from_secs(4);

impl Tcp {
    /// A SYN for a transparent listener: the application decides.
    pub(super) fn hold_open(
        &mut self,
        env: &mut Env,
        index: u32,
        segment: &Segment<'_>,
        hash: u32,
    ) -> core::result::Result<(), Reject> {
        if self.held >= env.sysctl.tcp_max_syn_backlog.max(MAX_HELD) {
            env.mib.inc(Counter::TcpExtListenDrops);
            return Err(DropReason::TcpOpensFull.into());
        }
        let generation = self.next_generation();
        let listener = &self.listeners[index as usize];
        let sock = listener.sock;
        let Some((mut request, _)) = make_request(
            env,
            listener,
            index,
            generation,
            segment,
            &Asked::by(&env.sysctl, segment),
        ) else {
            return Err(DropReason::NoRoute.into());
        };
        request.kind = Kind::Held;
        let tuple = request.tuple;
        trace_move(env, &tuple, State::Listen, State::SynRcvd, Trigger::RcvSyn);
        let slot = self.requests.insert(request) as u32;
        self.held += 1;
        self.enter(env, hash, Object::Request(slot));
        self.request_deadline(env, slot, LEAST_PATIENCE);
        env.events.push(Event::Incoming(Incoming {
            listener: sock,
            open: OpenId {
                index: slot,
                generation,
            },
            local: tuple.local(),
            remote: tuple.remote(),
        }));
        Ok(())
    }

    /// A segment for an open that waits.
    pub(super) fn held_arrives(
        &mut self,
        env: &mut Env,
        index: u32,
        segment: &Segment<'_>,
        hash: u32,
    ) -> core::result::Result<(), Reject> {
        let request = &mut self.requests[index as usize];
        let listener = request.listener;
        if segment.rst() {
            if segment.seq == request.irs + 1 || segment.seq == request.irs {
                self.forget_open(env, index);
                self.end_open(env, index, State::Listen, Trigger::RcvRst);
            }
            return Err(DropReason::TcpReset.into());
        }
        if segment.ack_set() {
            // We sent nothing that could be acknowledged.
            return Err(Reject::reset(DropReason::TcpInvalidAckSequence));
        }
        if !segment.syn() {
            return Err(DropReason::TcpFlags.into());
        }
        if segment.seq != request.irs {
            self.forget_open(env, index);
            self.end_open(env, index, State::Listen, Trigger::RcvRst);
            return self.hold_open(env, listener, segment, hash);
        }
        let interval = env.now.since(request.sent_at);
        request.sent_at = env.now;
        request.retrans = request.retrans.saturating_add(1);
        if let Some(ts) = segment.options.timestamps {
            request.ts_recent = ts.val;
        }
        let patience = (interval * PATIENCE).max(LEAST_PATIENCE);
        self.request_deadline(env, index, patience);
        Err(DropReason::TcpOpenWaits.into())
    }

    /// The peer's SYNs have stopped.
    pub(super) fn held_timeout(&mut self, env: &mut Env, index: u32) {
        self.forget_open(env, index);
        self.end_open(env, index, State::Closed, Trigger::Timeout);
    }

    /// Tells the application that an open's handle is void.
    pub(super) fn forget_open(&mut self, env: &mut Env, index: u32) {
        if let Some(request) = self.requests.get(index as usize).filter(|r| r.is_held()) {
            env.events.push(Event::OpenGone(OpenId {
                index,
                generation: request.generation,
            }));
        }
    }

    fn end_open(&mut self, env: &mut Env, index: u32, to: State, on: Trigger) {
        if let Some(request) = self.take_request(env, index) {
            trace_move(env, &request.tuple, State::SynRcvd, to, on);
        }
    }

    fn held(&self, open: OpenId) -> Option<u32> {
        self.requests
            .get(open.index as usize)
            .filter(|r| r.is_held() && r.generation == open.generation)
            .map(|_| open.index)
    }

    /// Answers an open with SYN-ACK: a connection in SYN_RCVD that the application holds as `sock`.
    pub(crate) fn open_accept(
        &mut self,
        env: &mut Env,
        open: OpenId,
        sock: impl FnOnce(u32, Family) -> Result<SocketId>,
    ) -> Result<SocketId> {
        let index = self.held(open).ok_or(SockError::EBADF)?;
        let mut request = self.take_request(env, index).ok_or(SockError::EBADF)?;
        let hash = Demux::hash(env, &request.tuple);
        // From here on the SYN-ACK counts.
        request.retrans = 0;
        let child = self.spawn(env, request, hash, false, None);
        let family = self.conns[child as usize].family;
        let id = match sock(child, family) {
            Ok(id) => id,
            Err(error) => {
                self.conns[child as usize].abort(env, Trigger::Abort);
                self.settle(env, child);
                return Err(error);
            }
        };
        let conn = &mut self.conns[child as usize];
        conn.sock = Some(id);
        if let Some(opening) = conn.opening.as_mut() {
            opening.due = true;
            opening.first_sent = None;
        }
        self.settle(env, child);
        Ok(id)
    }

    /// Takes an open out, for an answer that ends it; its two ends and the SYN's numbers.
    pub(crate) fn open_take(&mut self, env: &mut Env, open: OpenId) -> Option<super::Request> {
        let index = self.held(open)?;
        let request = self.take_request(env, index)?;
        trace_move(env, &request.tuple, State::SynRcvd, State::Closed, Trigger::Abort);
        Some(request)
    }

    /// Answers an open with RST.
    pub(crate) fn open_reset(&mut self, env: &mut Env, open: OpenId) {
        if let Some(request) = self.open_take(env, open) {
            super::reset::refuse(env, &request);
        }
    }

    /// Answers an open with an ICMP error about its SYN.
    pub(crate) fn open_unreachable(&mut self, env: &mut Env, open: OpenId, why: Unreachable) {
        if let Some(request) = self.open_take(env, open) {
            let subject = Subject::Tcp {
                from: request.tuple.remote(),
                to: request.tuple.local(),
                seq: request.irs,
            };
            Ip::queue_icmp_about(env, Problem::Unreachable(why), subject);
        }
    }
}
