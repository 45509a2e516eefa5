//! What a script's `ip` and `tc` ask for: stand-ins for them leave their command lines in a file of the folder of settings.

use crate::world::World;
use estab_engine::RouteMetrics;
use std::net::IpAddr;

/// The file, beside the settings; taken away when it was read.
pub(crate) const FILE: &str = "estab_commands";

impl World {
    /// Does one command's bidding; what is unknown has no effect here.
    pub(crate) fn run_command(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().filter(|word| !word.starts_with('-')).collect();
        match words.as_slice() {
            ["ip", "tcp_metrics", "flush", ..] => self.stack.flush_tcp_metrics(),
            ["ip", "route" | "r", "add" | "change" | "replace", to, with @ ..] => self.change_route(to, with),
            ["tc", "qdisc", "add" | "change" | "replace", with @ ..] => self.change_qdisc(with),
            ["tc", "qdisc", "del" | "delete", ..] => self.change_qdisc(&[]),
            _ => {}
        }
    }

    /// fq paces, a fifo without room drops everything.
    fn change_qdisc(&mut self, with: &[&str]) {
        let qdisc = if with.contains(&"fq") { "fq" } else { "pfifo_fast" };
        // Both are values that it takes.
        let _ = self.stack.set_sysctl("net.core.default_qdisc", qdisc);
        self.stack.set_output_full(with.ends_with(&["limit", "0"]));
    }

    fn change_route(&mut self, to: &str, with: &[&str]) {
        let (addr, prefix) = to.split_once('/').unwrap_or((to, ""));
        let Ok(addr) = addr.parse::<IpAddr>() else { return };
        let prefix = prefix.parse().unwrap_or(if addr.is_ipv4() { 32 } else { 128 });
        if let Ok(()) = self.stack.add_route(addr, prefix, None, self.iface) {
            let _ = self.stack.set_route_metrics(addr, prefix, metrics(with));
        }
    }
}

/// The numbers of `ip route`'s options: `mtu lock 640 advmss 600`.
fn metrics(words: &[&str]) -> RouteMetrics {
    let mut metrics = RouteMetrics::default();
    let mut words = words.iter().copied().peekable();
    while let Some(word) = words.next() {
        let lock = word == "mtu" && words.next_if_eq(&"lock").is_some();
        let number = words.peek().and_then(|n| n.parse::<u32>().ok());
        let short = number.and_then(|n| u16::try_from(n).ok());
        match word {
            "mtu" => (metrics.mtu, metrics.mtu_lock) = (number.unwrap_or(0), lock),
            "advmss" => metrics.advmss = short.unwrap_or(0),
            "initcwnd" => metrics.initcwnd = short.unwrap_or(0),
            _ => {}
        }
    }
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_s_numbers_are_read_wherever_they_stand() {
        let words: Vec<&str> = "via 192.0.2.9 dev tun0 advmss 700 mtu lock 740 initcwnd 12"
            .split(' ')
            .collect();
        let expected = RouteMetrics {
            mtu: 740,
            mtu_lock: true,
            advmss: 700,
            initcwnd: 12,
        };
        assert_eq!(metrics(&words), expected);
        assert_eq!(metrics(&["dev", "tun0", "mtu", "1400"]).mtu, 1400);
        assert_eq!(metrics(&["mtu"]), RouteMetrics::default());
    }
}
