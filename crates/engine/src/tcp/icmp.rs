//! ICMP errors about segments of ours, believed only if they quote a sequence number in flight (RFC 5927 §4; RFC 1122
//! §4.2.3.9, RFC 5461, RFC 6069; Linux: `tcp_v4_err`, `tcp_v6_err`, `tcp_v4_mtu_reduced`).

use super::Tcp;
use super::conn::Conn;
use super::demux::{Demux, Object, Tuple};
use crate::env::Env;
use crate::ip::{IcmpError, IcmpKind, Ip};
use estab_proto::state::Trigger;
use estab_proto::{Counter, State};

impl Tcp {
    /// Somebody says that a segment of ours went wrong.
    pub(crate) fn icmp(&mut self, env: &mut Env, error: &IcmpError) {
        let tuple = Tuple::new(error.local, error.remote);
        match self.find(Demux::hash(env, &tuple), &tuple) {
            Some(Object::Conn(index)) => {
                self.conns[index as usize].icmp(env, error);
                self.settle(env, index);
            }
            Some(Object::Request(index)) => {
                let request = &self.requests[index as usize];
                if request.is_held() || error.seq != request.iss {
                    return env.mib.inc(Counter::TcpExtOutOfWindowIcmps);
                }
                // POSIX wants no network errors from accept: the request just goes.
                let ends = matches!(
                    error.kind,
                    IcmpKind::ParamProblem | IcmpKind::TimeExceeded | IcmpKind::NetUnreach | IcmpKind::HostUnreach
                );
                if ends {
                    env.mib.inc(Counter::TcpExtListenDrops);
                    self.drop_request(env, index, State::Closed, Trigger::Timeout);
                }
            }
            Some(_) => {}
            None => env.mib.inc(Counter::IcmpInErrors),
        }
    }
}

impl Conn {
    fn icmp(&mut self, env: &mut Env, error: &IcmpError) {
        let oldest = match &self.opening {
            Some(opening) => opening.iss,
            None => self.snd.una(),
        };
        if self.state == State::Closed || !error.seq.between(oldest, self.snd.nxt()) {
            return env.mib.inc(Counter::TcpExtOutOfWindowIcmps);
        }
        match error.kind {
            IcmpKind::FragNeeded { mtu } => {
                if Ip::update_pmtu(env, self.tuple.remote_ip, mtu).is_some() {
                    if self.state == State::SynSent {
                        return self.fast_open_too_big(env);
                    }
                    let mss = self.current_mss(env);
                    self.snd.set_mss(env, mss, true);
                }
                return;
            }
            IcmpKind::NetUnreach | IcmpKind::HostUnreach => self.snd.on_unreachable(env, error.seq),
            _ => {}
        }
        match self.state {
            // A Fast Open's child that was accepted is open to its application.
            State::SynSent | State::SynRcvd if !self.is_fast_open_child() || self.in_accept_queue => {
                env.mib.inc(Counter::TcpAttemptFails);
                self.fail(env, error.error);
            }
            // An open connection keeps trying until it times out; this is what it will then say.
            _ => self.soft_error = Some(error.error),
        }
    }
}
