//! The end of a listener, and what becomes of its queues: forgotten and reset, or moved to another listener of its
//! SO_REUSEPORT group (Linux: `inet_csk_listen_stop`, `reuseport_migrate_sock`).

use super::Tcp;
use super::close::Fate;
use super::demux::Demux;
use super::listen::Listener;
use crate::env::Env;
use alloc::vec::Vec;
use estab_proto::state::Trigger;
use estab_proto::{Counter, State};

impl Tcp {
    /// A listener goes: its requests are forgotten, and who was not accepted is reset.
    pub(crate) fn close_listener(&mut self, env: &mut Env, index: u32) -> Option<Listener> {
        let binding = self.listeners.get(index as usize)?.binding;
        self.demux.unlisten(binding.addr, binding.port, index);
        let of_it = self.requests.iter().filter(|(_, request)| request.listener == index);
        for request in of_it.map(|(at, _)| at as u32).collect::<Vec<_>>() {
            if !self.move_request(env, request) {
                self.forget_open(env, request);
                self.drop_request(env, request, State::Closed, Trigger::Abort);
            }
        }
        let mut listener = *self.listeners.try_remove(index as usize)?;
        for child in core::mem::take(&mut listener.accept) {
            if !self.move_child(env, &listener, child) {
                self.forget_child(env, child);
            }
        }
        Some(listener)
    }

    /// Who takes over what a listener leaves, by the hash of its tuple (`tcp_migrate_req`).
    fn heir(&self, env: &mut Env, listener: &Listener, hash: u32) -> Option<u32> {
        if env.sysctl.tcp_migrate_req == 0 || !listener.opts.reuse_port {
            return None;
        }
        let binding = listener.binding;
        let heir = self.demux.heir(binding.addr, binding.port, hash);
        if heir.is_none() {
            env.mib.inc(Counter::TcpExtTCPMigrateReqFailure);
        }
        heir
    }

    /// Moves a request to its heir's queue; `false` when it has none.
    fn move_request(&mut self, env: &mut Env, index: u32) -> bool {
        let request = &self.requests[index as usize];
        let (old, hash) = (request.listener, Demux::hash(env, &request.tuple));
        if request.is_held() {
            return false;
        }
        let Some(heir) = self.heir(env, &self.listeners[old as usize], hash) else {
            return false;
        };
        let request = &mut self.requests[index as usize];
        self.listeners[old as usize].leave(request);
        request.listener = heir;
        self.listeners[heir as usize].join(request);
        env.mib.inc(Counter::TcpExtTCPMigrateReqSuccess);
        true
    }

    /// Moves a connection nobody accepted to its heir's accept queue, however full; `false` when it has none.
    fn move_child(&mut self, env: &mut Env, listener: &Listener, child: u32) -> bool {
        let Some(hash) = self.conns.get(child as usize).map(|conn| conn.hash) else {
            return false;
        };
        let Some(index) = self.heir(env, listener, hash) else {
            return false;
        };
        let heir = &mut self.listeners[index as usize];
        let conn = &mut self.conns[child as usize];
        conn.fast_open_inherited(index, heir);
        heir.accept.push_back(child);
        env.events.ready(heir.sock);
        env.mib.inc(Counter::TcpExtTCPMigrateReqSuccess);
        true
    }

    /// Resets a connection that nobody will accept.
    fn forget_child(&mut self, env: &mut Env, child: u32) {
        let Some(conn) = self.conns.get_mut(child as usize) else {
            return;
        };
        conn.in_accept_queue = false;
        if conn.state != State::Closed {
            conn.abort(env, Trigger::Abort);
        } else if conn.fate == Fate::Stay {
            conn.rcv.release(&mut env.rcv());
        }
        self.settle(env, child);
    }
}
