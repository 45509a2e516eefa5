//! The socket calls on TCP sockets (Linux: net/ipv4/af_inet.c, net/ipv4/tcp.c).

use super::SockOpts;
use super::bind::{BindAddr, BindClass, Binding};
use super::fastopen::{checked, queue_of_listener};
use super::id::{Body, Idle};
use super::options::BufLimits;
use crate::event::SocketId;
use crate::stack::Stack;
use crate::tcp::close::Leave;
use crate::tcp::conn::Conn;
use crate::tcp::listen::Listener;
use crate::{Family, Readiness, Result, Shutdown, SockError, SockOption};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::net::{IpAddr, SocketAddr};
use estab_proto::{State, TcpInfo};

/// `::ffff:a.b.c.d` is an IPv4 address.
fn unmap(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// An address as a socket of `family` shows it.
fn shown(addr: SocketAddr, family: Family) -> SocketAddr {
    match (addr.ip(), family) {
        (IpAddr::V4(a), Family::V6) => SocketAddr::new(a.to_ipv6_mapped().into(), addr.port()),
        _ => addr,
    }
}

fn class(opts: &SockOpts) -> BindClass {
    BindClass {
        reuse_addr: opts.reuse_addr,
        reuse_port: opts.reuse_port,
        listen: false,
    }
}

/// What a handle stands for, without the borrow.
pub(super) enum Which {
    Idle,
    Listener(u32),
    Conn(u32),
}

impl Stack {
    pub(super) fn which(&self, id: SocketId) -> Result<Which> {
        match self.socks.get(id).ok_or(SockError::EBADF)?.body {
            Body::Idle(_) => Ok(Which::Idle),
            Body::Listener(i) => Ok(Which::Listener(i)),
            Body::Conn(i) => Ok(Which::Conn(i)),
            _ => Err(SockError::EOPNOTSUPP),
        }
    }

    fn idle(&mut self, id: SocketId) -> Option<(&mut Idle, Family)> {
        let slot = self.socks.get_mut(id)?;
        match &mut slot.body {
            Body::Idle(idle) => Some((idle, slot.family)),
            _ => None,
        }
    }

    pub(super) fn conn(&self, id: SocketId) -> Option<&Conn> {
        match self.socks.get(id)?.body {
            Body::Conn(i) => self.tcp.conns.get(i as usize),
            _ => None,
        }
    }

    pub(crate) fn tcp_bind(&mut self, id: SocketId, addr: SocketAddr) -> Result<()> {
        let env = &mut self.env;
        let slot = self.socks.get_mut(id).ok_or(SockError::EBADF)?;
        let family = slot.family;
        let Body::Idle(idle) = &mut slot.body else {
            return Err(SockError::EINVAL);
        };
        let v6only = idle.opts.v6only || (family == Family::V6 && env.sysctl.bindv6only != 0);
        let bind_addr = BindAddr::new(family, addr.ip(), v6only)?;
        if let Some(ip) = bind_addr.ip()
            && !(env.ip.is_local(ip) || idle.opts.transparent || env.sysctl.ip_nonlocal_bind != 0)
        {
            return Err(SockError::EADDRNOTAVAIL);
        }
        if idle.binding.is_some() {
            return Err(SockError::EINVAL);
        }
        let binding = hold_port(env, &mut self.tcp.binds, &idle.opts, bind_addr, addr.port())?;
        idle.binding = Some(binding);
        Ok(())
    }

    pub(crate) fn tcp_listen(&mut self, id: SocketId, backlog: i32) -> Result<()> {
        let backlog = (backlog as u32).min(self.env.sysctl.somaxconn);
        match self.which(id)? {
            Which::Conn(i) if self.tcp.conns[i as usize].state != State::Closed => return Err(SockError::EINVAL),
            Which::Listener(i) => {
                self.tcp.listeners[i as usize].backlog = backlog;
                return Ok(());
            }
            Which::Conn(_) => self.tcp_disconnect(id)?,
            Which::Idle => {}
        }
        let env = &mut self.env;
        let slot = self.socks.get_mut(id).ok_or(SockError::EBADF)?;
        let family = slot.family;
        let Body::Idle(idle) = &mut slot.body else {
            return Err(SockError::EINVAL);
        };
        let transparent = idle.opts.transparent && idle.binding.is_none();
        let mut binding = match idle.binding {
            Some(binding) => binding,
            None if transparent => Binding {
                addr: wildcard(family, false),
                port: 0,
                explicit: false,
                port_fixed: false,
                addr_fixed: false,
                class: class(&idle.opts),
            },
            None => {
                let addr = wildcard(family, idle.opts.v6only);
                hold_port(env, &mut self.tcp.binds, &idle.opts, addr, 0)?
            }
        };
        let listening = BindClass {
            listen: true,
            ..class(&idle.opts)
        };
        if !transparent {
            idle.binding = Some(binding);
            if self
                .tcp
                .binds
                .conflict(binding.addr, binding.port, listening, Some(&binding))
            {
                return Err(SockError::EADDRINUSE);
            }
            self.tcp.binds.change(&mut binding, listening);
        }
        let mut opts = idle.opts.clone();
        let queue = queue_of_listener(env, opts.fastopen, backlog);
        if queue != opts.fastopen {
            Arc::make_mut(&mut opts).fastopen = queue;
        }
        let listener = Listener::new(id, family, opts, binding, backlog);
        let index = self.tcp.listeners.insert(Box::new(listener)) as u32;
        self.tcp.demux.listen(binding.addr, binding.port, index, transparent);
        slot.body = Body::Listener(index);
        Ok(())
    }

    pub(crate) fn tcp_connect(&mut self, id: SocketId, addr: SocketAddr) -> Result<()> {
        self.connect_from(id, addr, State::Closed)
    }

    /// LISTEN to SYN_SENT (RFC 9293 §3.10.1): what the listener's queues held is gone as by close.
    pub(crate) fn tcp_reopen(&mut self, id: SocketId, addr: SocketAddr) -> Result<()> {
        let Which::Listener(_) = self.which(id)? else {
            return Err(SockError::EINVAL);
        };
        self.tcp_shutdown(id, Shutdown::Both)?;
        self.connect_from(id, addr, State::Listen)
    }

    fn connect_from(&mut self, id: SocketId, addr: SocketAddr, from: State) -> Result<()> {
        let Some(index) = self.active_open(id, addr, from)? else {
            return Ok(());
        };
        let conn = &mut self.tcp.conns[index as usize];
        if conn.opts.fastopen_connect {
            conn.fast_open_connect(&self.env);
        }
        self.tcp.settle(&mut self.env, index);
        Ok(())
    }

    /// A connection in SYN_SENT for a socket, whose SYN has not left yet; `None`: connect(2) now tells that an open has
    /// succeeded (Linux: `__inet_stream_connect`).
    pub(crate) fn active_open(&mut self, id: SocketId, addr: SocketAddr, from: State) -> Result<Option<u32>> {
        match self.which(id)? {
            Which::Listener(_) => return Err(SockError::EISCONN),
            Which::Conn(i) => {
                let conn = &mut self.tcp.conns[i as usize];
                match conn.state {
                    State::SynSent if conn.is_connect_deferred() => return Err(SockError::EISCONN),
                    State::SynSent | State::SynRcvd if conn.connecting => return Err(SockError::EALREADY),
                    State::Closed if !conn.was_open => {
                        let error = conn.error.take();
                        self.tcp_disconnect(id)?;
                        if let Some(error) = error {
                            return Err(error);
                        }
                    }
                    State::Established | State::CloseWait if core::mem::take(&mut conn.connecting) => return Ok(None),
                    _ => return Err(SockError::EISCONN),
                }
            }
            Which::Idle => {}
        }
        let slot = self.socks.get_mut(id).ok_or(SockError::EBADF)?;
        let family = slot.family;
        let Body::Idle(idle) = &mut slot.body else {
            return Err(SockError::EINVAL);
        };
        let remote = unmap(addr);
        match (family, addr.ip(), remote.ip()) {
            (Family::V4, IpAddr::V6(_), _) | (Family::V6, IpAddr::V4(_), _) => return Err(SockError::EAFNOSUPPORT),
            (Family::V6, _, IpAddr::V4(_)) if idle.opts.v6only => return Err(SockError::ENETUNREACH),
            _ => {}
        }
        let index = self
            .tcp
            .connect(&mut self.env, family, idle.opts.clone(), idle.binding, remote, from)?;
        if let Body::Idle(mut idle) = core::mem::replace(&mut slot.body, Body::Conn(index)) {
            if idle.opts.hold_secrets() {
                idle.opts = Default::default();
            }
            self.env.idles.give(idle);
        }
        let conn = &mut self.tcp.conns[index as usize];
        conn.sock = Some(id);
        conn.connecting = true;
        Ok(Some(index))
    }

    /// Back to a socket without connection; options stay, and what bind(2) named (Linux: `tcp_disconnect`).
    fn tcp_disconnect(&mut self, id: SocketId) -> Result<()> {
        let slot = self.socks.get_mut(id).ok_or(SockError::EBADF)?;
        let Body::Conn(index) = slot.body else {
            return Ok(());
        };
        let Some(conn) = self.tcp.conns.get_mut(index as usize) else {
            return Err(SockError::EBADF);
        };
        conn.sock = Some(id);
        let (opts, was) = (conn.opts.clone(), conn.binding.unpack(conn.tuple.local()));
        // Out of the tables, with nothing but its hold on the port.
        self.tcp.settle(&mut self.env, index);
        let conn = &mut self.tcp.conns[index as usize];
        let held = core::mem::take(&mut conn.binding).unpack(conn.tuple.local());
        conn.sock = None;
        self.tcp.settle(&mut self.env, index);
        let binds = &mut self.tcp.binds;
        let binding = match (held, was) {
            (Some(mut binding), _) => {
                if !binding.addr_fixed {
                    binds.release(&binding);
                    binding.addr = wildcard(slot.family, opts.v6only);
                    binds.hold(&binding);
                }
                Some(binding)
            }
            // The address stays, and another port will do.
            (None, Some(was)) if was.addr_fixed => hold_port(&mut self.env, binds, &opts, was.addr, 0).ok(),
            _ => None,
        };
        slot.body = Body::Idle(Box::new(Idle {
            opts,
            binding,
            error: None,
        }));
        Ok(())
    }

    /// connect(2) to AF_UNSPEC (Linux: `tcp_disconnect`).
    pub(crate) fn tcp_dissolve(&mut self, id: SocketId) -> Result<()> {
        match self.which(id)? {
            Which::Idle => Ok(()),
            Which::Listener(_) => self.tcp_shutdown(id, Shutdown::Both),
            Which::Conn(index) => {
                let conn = &mut self.tcp.conns[index as usize];
                conn.leave(&mut self.env, Leave::Abort);
                // The handle lives on.
                conn.closed = None;
                self.tcp_disconnect(id)
            }
        }
    }

    pub(crate) fn tcp_accept(&mut self, id: SocketId) -> Result<(SocketId, SocketAddr)> {
        let Which::Listener(index) = self.which(id)? else {
            return Err(SockError::EINVAL);
        };
        let listener = &mut self.tcp.listeners[index as usize];
        let family = listener.family;
        let child = listener.accept.pop_front().ok_or(SockError::EAGAIN)?;
        let new = self.socks.insert(family, Body::Conn(child))?;
        let conn = &mut self.tcp.conns[child as usize];
        conn.in_accept_queue = false;
        conn.sock = Some(new);
        let remote = shown(conn.tuple.remote(), family);
        self.env.events.ready(new);
        Ok((new, remote))
    }

    pub(crate) fn tcp_shutdown(&mut self, id: SocketId, how: Shutdown) -> Result<()> {
        match self.which(id)? {
            Which::Idle => Err(SockError::ENOTCONN),
            Which::Listener(_) if how == Shutdown::Write => Ok(()),
            Which::Listener(index) => {
                // Linux: `inet_shutdown` of a listener is `tcp_disconnect`.
                if let Some(listener) = self.tcp.close_listener(&mut self.env, index) {
                    let binding = self.unlisten(listener.binding);
                    if let Some(slot) = self.socks.get_mut(id) {
                        slot.body = Body::Idle(Box::new(Idle {
                            opts: listener.opts,
                            binding,
                            error: None,
                        }));
                    }
                }
                self.env.events.ready(id);
                Ok(())
            }
            Which::Conn(index) => {
                let result = self.tcp.conns[index as usize].shutdown(&mut self.env, how);
                self.tcp.settle(&mut self.env, index);
                result
            }
        }
    }

    /// A binding that listened and listens no more; `None`: it is gone, as nobody had named its port.
    fn unlisten(&mut self, mut binding: Binding) -> Option<Binding> {
        if !binding.class.listen {
            return None;
        }
        if !binding.port_fixed {
            self.tcp.binds.release(&binding);
            return None;
        }
        let class = BindClass {
            listen: false,
            ..binding.class
        };
        self.tcp.binds.change(&mut binding, class);
        Some(binding)
    }

    pub(crate) fn tcp_close(&mut self, id: SocketId, how: Leave) {
        let Some(body) = self.socks.remove(id) else {
            return;
        };
        self.env.events.forget(id);
        match body {
            Body::Idle(idle) => {
                if let Some(binding) = idle.binding {
                    self.tcp.binds.release(&binding);
                }
            }
            Body::Listener(index) => {
                if let Some(listener) = self.tcp.close_listener(&mut self.env, index)
                    && let Some(binding) = self.unlisten(listener.binding)
                {
                    self.tcp.binds.release(&binding);
                }
            }
            Body::Conn(index) => {
                if let Some(conn) = self.tcp.conns.get_mut(index as usize) {
                    conn.leave(&mut self.env, how);
                    self.tcp.settle(&mut self.env, index);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn tcp_set_option(&mut self, id: SocketId, option: SockOption) -> Result<()> {
        let limits = BufLimits {
            wmem_max: self.env.sysctl.wmem_max,
            rmem_max: self.env.sysctl.rmem_max,
        };
        let option = checked(&self.env, self.tcp_state(id), option)?;
        let which = self.which(id)?;
        let (opts, binding) = match which {
            Which::Conn(index) => {
                let result = self.tcp.conns[index as usize].set_option(&mut self.env, option, limits);
                self.tcp.settle(&mut self.env, index);
                return result;
            }
            Which::Listener(index) => {
                let listener = &mut self.tcp.listeners[index as usize];
                let held = listener.binding.class.listen;
                (&mut listener.opts, Some(&mut listener.binding).filter(|_| held))
            }
            Which::Idle => match self.socks.get_mut(id).map(|slot| &mut slot.body) {
                Some(Body::Idle(idle)) => (&mut idle.opts, idle.binding.as_mut()),
                _ => return Err(SockError::EBADF),
            },
        };
        if let SockOption::Congestion(name) = option
            && !crate::tcp::cc::Cc::exists(name)
        {
            return Err(SockError::EINVAL);
        }
        let opts = Arc::make_mut(opts);
        opts.set(option, limits)?;
        if let Some(binding) = binding {
            let class = BindClass {
                listen: binding.class.listen,
                ..class(opts)
            };
            self.tcp.binds.change(binding, class);
        }
        Ok(())
    }

    pub(crate) fn tcp_option(&self, id: SocketId, like: SockOption) -> Result<SockOption> {
        Ok(match self.which(id)? {
            Which::Conn(index) => self.tcp.conns[index as usize].option(&self.env, like),
            Which::Listener(index) => self.tcp.listeners[index as usize]
                .opts
                .get_default(&self.env.sysctl, like),
            Which::Idle => match self.socks.get(id).map(|slot| &slot.body) {
                Some(Body::Idle(idle)) => idle.opts.get_default(&self.env.sysctl, like),
                _ => return Err(SockError::EBADF),
            },
        })
    }

    pub(crate) fn tcp_local_addr(&self, id: SocketId) -> Result<SocketAddr> {
        let slot = self.socks.get(id).ok_or(SockError::EBADF)?;
        let family = slot.family;
        Ok(match &slot.body {
            Body::Idle(idle) => match &idle.binding {
                Some(binding) => binding.shown(family),
                None => SocketAddr::new(wildcard(family, false).shown(family), 0),
            },
            Body::Listener(i) => self.tcp.listeners[*i as usize].binding.shown(family),
            Body::Conn(i) => shown(self.tcp.conns[*i as usize].tuple.local(), family),
            _ => return Err(SockError::EOPNOTSUPP),
        })
    }

    pub(crate) fn tcp_peer_addr(&self, id: SocketId) -> Result<SocketAddr> {
        let conn = self.conn(id).ok_or(SockError::ENOTCONN)?;
        match conn.state {
            State::Closed | State::SynSent => Err(SockError::ENOTCONN),
            _ => Ok(shown(conn.tuple.remote(), conn.family)),
        }
    }

    pub(crate) fn tcp_readiness(&mut self, id: SocketId) -> Readiness {
        match self.which(id) {
            Ok(Which::Conn(i)) => self.tcp.conns[i as usize].readiness(&self.env),
            Ok(Which::Listener(i)) => match self.tcp.listeners[i as usize].accept.is_empty() {
                true => Readiness::default(),
                false => Readiness::READABLE,
            },
            Ok(Which::Idle) => Readiness::WRITABLE.union(Readiness::HANGUP),
            Err(_) => Readiness::default(),
        }
    }

    pub(crate) fn tcp_take_error(&mut self, id: SocketId) -> Option<SockError> {
        match self.which(id) {
            Ok(Which::Conn(i)) => {
                let conn = &mut self.tcp.conns[i as usize];
                conn.error.take()
            }
            Ok(Which::Idle) => self.idle(id).and_then(|(idle, _)| idle.error.take()),
            _ => None,
        }
    }

    pub(crate) fn tcp_state(&self, id: SocketId) -> State {
        match self.which(id) {
            Ok(Which::Conn(i)) => self.tcp.conns[i as usize].state,
            Ok(Which::Listener(_)) => State::Listen,
            _ => State::Closed,
        }
    }

    pub(crate) fn tcp_info(&self, id: SocketId) -> Result<TcpInfo> {
        match self.which(id)? {
            Which::Conn(i) => Ok(self.tcp.conns[i as usize].info(&self.env)),
            Which::Listener(i) => {
                let listener = &self.tcp.listeners[i as usize];
                Ok(TcpInfo {
                    unacked: listener.accept.len() as u32,
                    sacked: listener.backlog,
                    ..TcpInfo::default()
                })
            }
            Which::Idle => Ok(TcpInfo::default()),
        }
    }
}

/// The wildcard of a family.
pub(crate) fn wildcard(family: Family, v6only: bool) -> BindAddr {
    match (family, v6only) {
        (Family::V4, _) => BindAddr::AnyV4,
        (Family::V6, true) => BindAddr::AnyV6,
        (Family::V6, false) => BindAddr::AnyDual,
    }
}

/// Takes hold of a port for bind(2) and listen(2); 0 chooses one.
fn hold_port(
    env: &mut crate::env::Env,
    binds: &mut super::bind::BindTable,
    opts: &SockOpts,
    addr: BindAddr,
    asked: u16,
) -> Result<Binding> {
    let class = class(opts);
    let port = match asked {
        0 => {
            let [low, high] = env.sysctl.ip_local_port_range;
            let random = env.rng.u32();
            let reserved = |p| env.sysctl.port_is_reserved(p);
            match binds.choose(addr, class, (low, high), reserved, random, false) {
                Err(_) if env.sysctl.ip_autobind_reuse != 0 => {
                    binds.choose(addr, class, (low, high), reserved, random, true)?
                }
                chosen => chosen?,
            }
        }
        port if binds.conflict(addr, port, class, None) => return Err(SockError::EADDRINUSE),
        port => port,
    };
    let binding = Binding {
        addr,
        port,
        explicit: true,
        port_fixed: asked != 0,
        addr_fixed: addr.ip().is_some(),
        class,
    };
    binds.hold(&binding);
    Ok(binding)
}
