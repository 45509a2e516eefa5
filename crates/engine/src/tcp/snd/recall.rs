//! What a connection leaves to the next one on its path, and takes from the one before (Linux: `tcp_update_metrics`,
//! `tcp_init_metrics`).

use super::Sender;
use crate::env::Env;
use crate::sysctl::Sysctls;
use crate::tcp::loss::{CaState, rto};
use crate::tcp::metrics::Path;

impl Sender {
    /// The connection ends: what it has learned, for `path`.
    pub(crate) fn remember(&self, sysctl: &Sysctls, path: &mut Path) {
        let srtt8 = self.rtt.srtt8();
        if srtt8 == 0 {
            return;
        }
        if self.rtt.backoff > 0 {
            // The last timeouts found nobody: what was known is in doubt.
            path.srtt8 = 0;
            return;
        }
        // A higher RTT counts at once, a lower one by an eighth.
        path.srtt8 = match path.srtt8.saturating_sub(srtt8) {
            0 => srtt8,
            above => path.srtt8 - (above >> 3),
        };
        if sysctl.tcp_no_ssthresh_metrics_save == 0 {
            let (window, ssthresh) = (self.cwnd.window, self.cwnd.ssthresh);
            path.ssthresh = if self.in_initial_slow_start() {
                match path.ssthresh {
                    0 => 0,
                    known => known.max(window >> 1),
                }
            } else if !self.cwnd.in_slow_start() && self.state == CaState::Open {
                ssthresh.max(window >> 1)
            } else {
                match path.ssthresh {
                    0 => 0,
                    known => known.max(ssthresh),
                }
            };
        }
        if self.reordering != sysctl.tcp_reordering {
            path.reordering = path.reordering.max(self.reordering);
        }
    }

    /// The connection begins.
    pub(crate) fn recall(&mut self, env: &Env, path: &Path) {
        if path.ssthresh != 0 && env.sysctl.tcp_no_ssthresh_metrics_save == 0 && !self.cc.has_cong_control() {
            self.cwnd.ssthresh = path.ssthresh;
        }
        if path.reordering != 0 {
            self.reordering = path.reordering;
        }
        // A SYN travels faster than data: until there are samples, the timeout is that of the path.
        if self.rtt.srtt8() != 0 && path.srtt8 > self.rtt.srtt8() {
            let srtt = path.srtt8 >> 3;
            let us = srtt.saturating_add((2 * srtt).max(env.sysctl.tcp_rto_min_us));
            self.rtt.set_rto(rto::ticks(us).min(rto::max_us(&env.sysctl)));
        }
    }
}
