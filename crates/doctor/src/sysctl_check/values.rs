//! Rules for values that the kernel takes and that are wrong all the same: in the wrong unit, in the wrong order,
//! dangerous, or believed to do what they don't.

use super::live::{default_of, numbers};
use super::{Context, IP_SYSCTL, Setting, Verdict};
use crate::finding::{Confidence, Severity};
use estab_proto::sysctl::{Key, Unit};

const PAGE: u64 = 4096;
/// What an orphan may pin (Documentation/networking/ip-sysctl.rst, tcp_max_orphans).
const ORPHAN: u64 = 64 * 1024;

/// What is wrong with the value, if anything is.
pub(super) fn judge(setting: &Setting, context: &Context<'_>) -> Option<Verdict> {
    let key = setting.key?;
    let value = key.parse(&setting.value).ok()?;
    let values = numbers(value);
    let pages = key.unit == Unit::Pages && values.len() == 3;
    if pages && let Some(verdict) = bytes_for_pages(setting, key, &values, context) {
        return Some(verdict);
    }
    if values.len() == 3
        && let Some(verdict) = not_ascending(setting, key, &values)
    {
        return Some(verdict);
    }
    let first = values.first().copied().unwrap_or(0);
    match key.name {
        "net.ipv4.tcp_rmem" | "net.ipv4.tcp_wmem" => large_minimum(setting, key, first),
        "net.ipv4.tcp_max_tw_buckets" => few_tw_buckets(setting, key, first, context),
        "net.ipv4.tcp_max_orphans" => many_orphans(setting, first, context),
        "net.ipv4.tcp_tw_reuse" => tw_reuse(setting, first, context),
        "net.ipv4.tcp_fin_timeout" => fin_timeout(setting, first),
        "net.ipv4.tcp_syncookies" => syncookies(setting, first),
        "net.ipv4.tcp_max_syn_backlog" => syn_backlog(setting, first, context),
        "net.ipv4.tcp_abort_on_overflow" if first != 0 => Some(abort_on_overflow(setting)),
        "net.ipv4.tcp_timestamps"
        | "net.ipv4.tcp_sack"
        | "net.ipv4.tcp_window_scaling"
        | "net.ipv4.tcp_moderate_rcvbuf"
            if first == 0 =>
        {
            Some(switched_off(setting, key))
        }
        "net.ipv4.tcp_retries2" if first < 8 => Some(few_retries(setting, first)),
        "net.ipv4.tcp_syn_retries" | "net.ipv4.tcp_synack_retries" if first < 3 => Some(few_syns(setting, key, first)),
        "net.ipv4.tcp_keepalive_time" => keepalive(setting, first),
        "net.ipv4.ip_local_port_range" => port_range(setting, &values, context),
        "net.netfilter.nf_conntrack_tcp_timeout_established" => conntrack_timeout(setting, first, context),
        "net.netfilter.nf_conntrack_tcp_timeout_time_wait" if setting.in_file() => Some(conntrack_time_wait(setting)),
        "net.ipv4.conf.*.rp_filter" => rp_filter(setting, first),
        "net.ipv4.tcp_congestion_control" => congestion_control(setting, context),
        _ => None,
    }
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut n = bytes as f64;
    let mut unit = 0;
    while n >= 1024.0 && unit + 1 < UNITS.len() {
        n /= 1024.0;
        unit += 1;
    }
    if n < 10.0 && n.fract() > 0.05 {
        format!("{n:.1} {}", UNITS[unit])
    } else {
        format!("{n:.0} {}", UNITS[unit])
    }
}

/// tcp_mem and udp_mem count pages; most guides give them bytes.
fn bytes_for_pages(setting: &Setting, key: &'static Key, values: &[i64], context: &Context<'_>) -> Option<Verdict> {
    let bytes = |pages: i64| u64::try_from(pages).unwrap_or(0).saturating_mul(PAGE);
    let top = bytes(values[2]);
    // More pages than the machine has, the very numbers of a buffer's sizes, or a share of memory no machine gives.
    let copied = ["net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"].iter().any(|other| {
        context
            .last
            .get(*other)
            .is_some_and(|value| value.split_whitespace().eq(setting.value.split_whitespace()))
    });
    let shaped = values[0] > 0 && values[0] <= 16384 && values[2] / values[0] > 64;
    let (confidence, why) = match context.memory() {
        Some(memory) if top > memory => (Confidence::Certain, format!("the machine has {}", size(memory))),
        _ if copied => (
            Confidence::Likely,
            "the same numbers are given to tcp_rmem or tcp_wmem, which count bytes".into(),
        ),
        _ if shaped => (
            Confidence::Likely,
            "the numbers are those of one socket's buffer, in bytes".into(),
        ),
        None if values[2] >= 1 << 28 => (Confidence::Likely, "hardly a machine has that much memory".into()),
        _ => return None,
    };
    let name = key.name.rsplit('.').next().unwrap_or(key.name);
    let finding = setting
        .finding("sysctl-wrong-unit", Severity::Warning, format!("{name} counts pages, and this looks like bytes"))
        .confidence(confidence)
        .seen(format!(
            "{} {} {} pages are {}, {} and {}; {why}",
            values[0],
            values[1],
            values[2],
            size(bytes(values[0])),
            size(bytes(values[1])),
            size(top),
        ))
        .cause(format!(
            "{name} bounds the memory of all sockets together, in pages of 4096 bytes. Too large, the bound is gone and \
             sockets can take all memory; too small in its second number, buffers stop growing."
        ))
        .fix("Delete the line: the kernel computes it from the machine's memory (about 4.7, 6.25 and 9.4 percent).")
        .source(IP_SYSCTL);
    Some(finding.drop_line())
}

fn not_ascending(setting: &Setting, key: &'static Key, values: &[i64]) -> Option<Verdict> {
    if values.is_sorted()
        || !["tcp_rmem", "tcp_wmem", "tcp_mem", "udp_mem"]
            .iter()
            .any(|name| key.name.ends_with(name))
    {
        return None;
    }
    let finding = setting
        .finding(
            "sysctl-inconsistent",
            Severity::Warning,
            format!("{}'s three numbers must not fall", key.name),
        )
        .cause(format!(
            "They are the least, the usual and the most; the kernel takes them in any order and does not complain. {}",
            key.about
        ))
        .fix("Put them in order, or delete the line.")
        .source(IP_SYSCTL);
    Some(finding.drop_line())
}

fn large_minimum(setting: &Setting, key: &'static Key, first: i64) -> Option<Verdict> {
    if first < 1 << 20 {
        return None;
    }
    let finding = setting
        .finding("tcp-large-minimum", Severity::Warning, format!("{} promises every socket {}", key.name, size(first as u64)))
        .cause("The first number is what each socket may have even when memory runs out (tcp_mem), so a large one takes away the bound.")
        .fix("Keep 4096 as the first number; the third is the one that lets fast connections grow.")
        .source(IP_SYSCTL);
    Some(finding.drop_line())
}

fn few_tw_buckets(setting: &Setting, key: &'static Key, buckets: i64, context: &Context<'_>) -> Option<Verdict> {
    let default = default_of(key, context.live).and_then(|text| text.parse::<i64>().ok());
    if buckets >= default.unwrap_or(16384) {
        return None;
    }
    let mut finding = setting
        .finding("tcp-few-tw-buckets", Severity::Warning, format!("tcp_max_tw_buckets {buckets} gives up the protection of TIME_WAIT"))
        .confidence(if default.is_some() { Confidence::Certain } else { Confidence::Likely })
        .cause(
            "Beyond it each further TIME_WAIT is destroyed at once (TCPTimeWaitOverflow): segments that come late can then \
             hit a new connection between the same ports, and a lost last ACK is answered by RST. The limit is there against \
             attacks, not to lower load.",
        )
        .fix("Delete the line. A TIME_WAIT costs 256 bytes: 100,000 of them take 25 MiB.")
        .dont("Do not lower the number of TIME_WAITs at a server for its own sake: they hold no port that anyone else needs.")
        .source("https://www.rfc-editor.org/rfc/rfc1337");
    if let Some(default) = default {
        finding = finding.seen(format!("this machine's default is {default}"));
    }
    Some(finding.drop_line())
}

fn many_orphans(setting: &Setting, orphans: i64, context: &Context<'_>) -> Option<Verdict> {
    let could_pin = u64::try_from(orphans).unwrap_or(0).saturating_mul(ORPHAN);
    let memory = context.memory();
    if could_pin <= memory.unwrap_or(16 << 30) {
        return None;
    }
    let finding = setting
        .finding("tcp-many-orphans", Severity::Warning, format!("{orphans} orphans could pin {}", size(could_pin)))
        .confidence(if memory.is_some() { Confidence::Certain } else { Confidence::Possible })
        .seen(match memory {
            Some(memory) => format!("the machine has {}", size(memory)),
            None => "the machine's memory is not known here".to_owned(),
        })
        .cause("A connection that its application has closed and that still has data to send holds up to 64 KiB that can't be swapped. Peers who read slowly can collect them.")
        .fix("Delete the line: the kernel's default grows with memory. \"Out of socket memory\" and TCPAbortOnMemory tell when it is too low.")
        .source(IP_SYSCTL);
    Some(finding.drop_line())
}

fn tw_reuse(setting: &Setting, mode: i64, context: &Context<'_>) -> Option<Verdict> {
    if mode != 1 {
        return None;
    }
    if context.effective_int("net.ipv4.tcp_timestamps") == Some(0) {
        let finding = setting
            .finding("tcp-tw-reuse-without-timestamps", Severity::Warning, "tcp_tw_reuse does nothing without timestamps")
            .seen("net.ipv4.tcp_timestamps = 0")
            .cause("A TIME_WAIT may be taken over only when a newer timestamp tells the new connection's segments from the old one's.")
            .fix("Set net.ipv4.tcp_timestamps to 1, its default.")
            .source("https://www.rfc-editor.org/rfc/rfc6191");
        return Some(finding.into());
    }
    let finding = setting
        .finding("tcp-tw-reuse", Severity::Info, "tcp_tw_reuse 1 works for outgoing connections only")
        .cause(
            "A new connect() to an address and port may take over a TIME_WAIT to the same, once it is a second old. It shortens \
             no TIME_WAIT and does nothing for connections that come in.",
        )
        .fix("Right for a client or proxy that opens many connections to one place; better there are connections kept open. A server can do without the line: since 4.19 the default is 2, loopback only.")
        .since("4.19")
        .source(IP_SYSCTL);
    Some(finding.into())
}

fn fin_timeout(setting: &Setting, seconds: i64) -> Option<Verdict> {
    const TRUTH: &str = "It is how long a connection that no application holds any more waits in FIN_WAIT_2 for the peer's FIN. \
                         TIME_WAIT lasts 60 s whatever it says (TCP_TIMEWAIT_LEN, a constant).";
    let finding = |severity, title: String| {
        setting
            .finding("tcp-fin-timeout", severity, title)
            .cause(TRUTH)
            .source(IP_SYSCTL)
    };
    if seconds >= 1000 {
        let finding = finding(
            Severity::Warning,
            format!(
                "tcp_fin_timeout {seconds} would be {} minutes: it counts seconds",
                seconds / 60
            ),
        )
        .confidence(Confidence::Likely)
        .fix("Delete the line; the default is 60 seconds.");
        return Some(finding.drop_line());
    }
    if seconds == 60 {
        return None;
    }
    if seconds < 5 {
        let finding = finding(
            Severity::Warning,
            format!("tcp_fin_timeout {seconds} cuts slow peers off"),
        )
        .fix("Delete the line. A peer that still sends after its time is up gets an RST.");
        return Some(finding.drop_line());
    }
    let finding = finding(
        Severity::Notice,
        "tcp_fin_timeout does not shorten TIME_WAIT".to_owned(),
    )
    .fix("Delete the line unless orphaned FIN_WAIT_2 are the trouble.")
    .dont("Do not expect fewer TIME_WAITs of it.");
    Some(finding.into())
}

fn syncookies(setting: &Setting, mode: i64) -> Option<Verdict> {
    let finding = match mode {
        0 => setting
            .finding("tcp-syncookies", Severity::Warning, "without SYN cookies a small flood of SYNs closes every port")
            .cause("When a listener's SYN queue is full, new SYNs are dropped; each forged one holds its place for up to a minute.")
            .fix("Delete the line; the default is 1: cookies only while a queue overflows."),
        1 => return None,
        _ => setting
            .finding("tcp-syncookies", Severity::Warning, "every connection is made by SYN cookie")
            .cause("Mode 2 is there for tests: it gives up the SYN queue, and with timestamps off also window scaling, SACK and ECN.")
            .fix("Set 1: cookies only while a queue overflows."),
    };
    let finding = finding.source("https://www.rfc-editor.org/rfc/rfc4987");
    Some(finding.replace_line(format!("{} = 1", setting.name)))
}

fn syn_backlog(setting: &Setting, backlog: i64, context: &Context<'_>) -> Option<Verdict> {
    if !setting.in_file() || context.effective_int("net.ipv4.tcp_syncookies") == Some(0) {
        return None;
    }
    let somaxconn = context.effective_int("net.core.somaxconn").unwrap_or(4096);
    let finding = setting
        .finding("tcp-max-syn-backlog", Severity::Info, "tcp_max_syn_backlog is not looked at while SYN cookies are on")
        .seen(format!("net.core.somaxconn, which does bind, is {somaxconn}; the line says {backlog}"))
        .cause("A listener's SYN queue is as long as its accept queue: min(backlog of listen(), net.core.somaxconn). tcp_max_syn_backlog counts only with tcp_syncookies 0.")
        .fix("Raise the application's backlog (and somaxconn, if that is less) instead; the line may go.")
        .source("https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/tree/net/ipv4/tcp_input.c");
    Some(finding.into())
}

fn abort_on_overflow(setting: &Setting) -> Verdict {
    setting
        .finding("tcp-abort-on-overflow", Severity::Warning, "a full accept queue resets clients")
        .cause("Without it the handshake's last ACK is dropped and the connection completes a second later, when a burst is over; with it the client sees ECONNRESET.")
        .fix("Delete the line, and let the application accept faster or with a larger backlog.")
        .source(IP_SYSCTL)
        .drop_line()
}

fn switched_off(setting: &Setting, key: &'static Key) -> Verdict {
    let (id, lost) = match key.name {
        "net.ipv4.tcp_timestamps" => (
            "tcp-timestamps-off",
            "Lost with them: protection from old segments (PAWS), exact round-trip times, tcp_tw_reuse, and window scaling and SACK under SYN cookies. They cost 12 bytes per segment, and since 4.10 tell nobody the uptime.",
        ),
        "net.ipv4.tcp_sack" => (
            "tcp-sack-off",
            "One lost segment per round trip is all that recovery can then repair. The attacks of 2019 (SACK Panic) are mended in every kernel since.",
        ),
        "net.ipv4.tcp_window_scaling" => (
            "tcp-window-scaling-off",
            "Without it no more than 64 KiB are under way: 5 Mbit/s over 100 ms, on any line.",
        ),
        _ => (
            "tcp-autotuning-off",
            "Receive buffers then stay at tcp_rmem's second number, and so does the speed of long paths.",
        ),
    };
    setting
        .finding(id, Severity::Warning, format!("{} is switched off", key.name))
        .cause(lost)
        .fix("Delete the line; 1 is the default.")
        .source("https://www.rfc-editor.org/rfc/rfc7323")
        .drop_line()
}

fn few_retries(setting: &Setting, retries: i64) -> Verdict {
    // Σ 0.2 s · 2ⁱ over the retransmissions and the last wait.
    let seconds = (0..=retries.max(0)).map(|i| 0.2 * 2f64.powi(i as i32)).sum::<f64>();
    setting
        .finding("tcp-few-retries", Severity::Warning, format!("on fast paths connections die after {seconds:.1} s without an answer"))
        .cause("RFC 1122 asks for 100 s at least, which takes 8 retransmissions; a path that heals in half a minute now loses every connection.")
        .fix("Set 8 or more (the default is 15), and TCP_USER_TIMEOUT on the sockets that should give up sooner.")
        .source("https://www.rfc-editor.org/rfc/rfc1122#section-4.2.3.5")
        .into()
}

fn few_syns(setting: &Setting, key: &'static Key, retries: i64) -> Verdict {
    let what = if key.name.ends_with("synack_retries") {
        "SYN-ACKs"
    } else {
        "SYNs"
    };
    setting
        .finding("tcp-few-syn-retries", Severity::Notice, format!("connections fail when {} {what} are lost", retries + 1))
        .cause("Each is sent a second or more after the other, so a short burst of loss now fails connections that would come about. Against floods SYN cookies help, not this.")
        .fix("Delete the line; applications have timeouts of their own.")
        .source(IP_SYSCTL)
        .into()
}

fn keepalive(setting: &Setting, seconds: i64) -> Option<Verdict> {
    if seconds > 7 * 86_400 {
        let finding = setting
            .finding(
                "sysctl-wrong-unit",
                Severity::Warning,
                format!(
                    "tcp_keepalive_time counts seconds: {seconds} are {} days",
                    seconds / 86_400
                ),
            )
            .confidence(Confidence::Likely)
            .cause("Milliseconds were probably meant, as in other systems' settings.")
            .fix(format!(
                "Write {} if {seconds} milliseconds were meant.",
                seconds / 1000
            ))
            .source(IP_SYSCTL);
        return Some(finding.drop_line());
    }
    if !setting.in_file() || seconds == 7200 {
        return None;
    }
    let finding = setting
        .finding("tcp-keepalive", Severity::Info, "keepalive works only where an application asked for it")
        .cause("Without SO_KEEPALIVE on a socket this setting does nothing, and CLOSE_WAITs that an application leaves open stay whatever it says.")
        .fix("Keep the line if your applications set SO_KEEPALIVE.")
        .source("https://man7.org/linux/man-pages/man7/tcp.7.html");
    Some(finding.into())
}

fn port_range(setting: &Setting, values: &[i64], context: &Context<'_>) -> Option<Verdict> {
    let [low, high] = *values else { return None };
    let privileged = context
        .effective_int("net.ipv4.ip_unprivileged_port_start")
        .unwrap_or(1024);
    if setting.in_file() && low < privileged {
        let finding = setting
            .finding("sysctl-bad-value", Severity::Warning, format!("the range may not begin below {privileged}"))
            .seen(format!("net.ipv4.ip_unprivileged_port_start is {privileged}"))
            .cause("Since 4.11 the kernel refuses a range that reaches into the privileged ports with EINVAL, and keeps the one it has.")
            .since("4.11")
            .source(IP_SYSCTL);
        let line = format!("{} = {privileged} {high}", setting.name);
        return Some(finding.fix(format!("Write: {line}")).replace_line(line));
    }
    let ports = high - low + 1;
    if ports < 10_000 {
        let finding = setting
            .finding("port-range-narrow", Severity::Notice, format!("only {ports} ports for outgoing connections"))
            .cause("So many connections can go from one address to one address and port, TIME_WAITs of the last minute included; then connect() fails with EADDRNOTAVAIL.")
            .fix("The default, 32768 60999, has 28,232.")
            .source(IP_SYSCTL);
        return Some(finding.into());
    }
    if setting.in_file() && low < 10_000 {
        let reserved = context
            .effective("net.ipv4.ip_local_reserved_ports")
            .is_some_and(|ports| !ports.is_empty());
        if reserved {
            return None;
        }
        let finding = setting
            .finding("port-range-wide", Severity::Notice, "outgoing connections may take services' ports")
            .cause(format!("From {low} on, databases, proxies and applications listen too; one that starts while an outgoing connection has its port fails with EADDRINUSE."))
            .fix("Name the services' ports in net.ipv4.ip_local_reserved_ports, or begin the range above them.")
            .source(IP_SYSCTL);
        return Some(finding.into());
    }
    None
}

fn conntrack_timeout(setting: &Setting, seconds: i64, context: &Context<'_>) -> Option<Verdict> {
    let keepalive = context.effective_int("net.ipv4.tcp_keepalive_time").unwrap_or(7200);
    if seconds >= keepalive {
        return None;
    }
    let finding = setting
        .finding("conntrack-forgets-idle", Severity::Notice, format!("connections idle for {seconds} s are forgotten by the firewall"))
        .seen(format!("net.ipv4.tcp_keepalive_time is {keepalive} s"))
        .cause("The first segment after that is dropped, or answered by RST, where rules accept only tracked connections or NAT needs the entry; keepalive comes too late to prevent it.")
        .fix("Set it above the longest idle time you allow, 7440 at least (RFC 5382), or lower tcp_keepalive_time as well.")
        .source("https://www.rfc-editor.org/rfc/rfc5382#section-5");
    Some(finding.into())
}

fn conntrack_time_wait(setting: &Setting) -> Verdict {
    setting
        .finding("conntrack-time-wait", Severity::Info, "this is conntrack's TIME_WAIT, not the sockets'")
        .cause("It says how long the firewall's table remembers a closed connection. The sockets' TIME_WAIT lasts 60 s whatever it says.")
        .fix("Keep the line only if the conntrack table is what runs full.")
        .into()
}

fn rp_filter(setting: &Setting, mode: i64) -> Option<Verdict> {
    let finding = match mode {
        0 => setting
            .finding("rp-filter", Severity::Info, "rp_filter 0 is the kernel's default, though distributions set 2")
            .cause("systemd's own file sets 2 (loose); the larger of `all` and the interface's value counts, so `all` = 0 alone switches nothing off."),
        1 => setting
            .finding("rp-filter", Severity::Info, "strict rp_filter drops what comes by another way than it would go")
            .cause("Hosts with two uplinks, VPNs or policy routing lose packets in silence (IPReversePathFilter counts them). The larger of `all` and the interface's value counts."),
        _ => return None,
    };
    let finding = finding
        .fix("2 (loose) suits nearly every host.")
        .source("https://www.rfc-editor.org/rfc/rfc3704");
    Some(finding.into())
}

fn congestion_control(setting: &Setting, context: &Context<'_>) -> Option<Verdict> {
    let available = context.live?.get("net.ipv4.tcp_available_congestion_control")?;
    if available.split_whitespace().any(|name| name == setting.value) {
        return None;
    }
    let finding = setting
        .finding("congestion-control-absent", Severity::Notice, format!("congestion control {} is not loaded", setting.value))
        .confidence(Confidence::Possible)
        .seen(format!("available now: {available}"))
        .cause("The kernel loads the module tcp_… when the key is set, if it has it; otherwise the line fails with ENOENT.")
        .fix("modprobe tcp_NAME shows whether the module is there.")
        .source(IP_SYSCTL);
    Some(finding.into())
}
