//! Rules for any key: whether Linux, and this kernel, has it, takes the value, and does anything with it.

use super::live::{default_of, numbers, version};
use super::{Context, IP_SYSCTL, Live, Setting, Verdict, values};
use crate::finding::{Confidence, Finding, Place, Severity};
use estab_proto::sysctl::{Key, Kind, Reason, Unit, Value, lookup, suggestions};

/// Why Linux dropped tcp_tw_recycle.
const TW_RECYCLE: &str = "https://git.kernel.org/linus/4396e46187ca5070219b81773c4e65088dac50cc";

/// A line that is no setting.
pub(super) fn odd_line(place: Place, meant: Option<(&str, &str)>) -> Verdict {
    let finding = Finding::new(
        "sysctl-syntax",
        Severity::Warning,
        "the line is no setting: key = value",
    )
    .seen_at(place, "sysctl reports an invalid line and goes on with the next")
    .cause("A sysctl.conf file holds lines `key = value`, comments after # or ;, and no commands.");
    match meant.filter(|(key, _)| lookup(key).is_some()) {
        Some((key, value)) => {
            let line = format!("{} = {value}", key.trim_start_matches("/proc/sys/").replace('/', "."));
            finding.fix(format!("Write: {line}")).replace_line(line)
        }
        None => finding
            .fix("Write it as key = value, or make it a comment.")
            .drop_line(),
    }
}

/// All that is to be said of a line.
pub(super) fn judge(setting: &Setting, context: &Context<'_>) -> Vec<Verdict> {
    if let Some(verdict) = overridden(setting) {
        return vec![verdict];
    }
    let Some(key) = setting.key else {
        return unknown(setting, context.live).into_iter().collect();
    };
    if let Some(verdict) = gone(setting, key, context.live).or_else(|| refused(setting, key)) {
        return vec![verdict];
    }
    if !key.effect {
        return if key.removed.is_some() {
            Vec::new()
        } else {
            vec![without_effect(setting, key)]
        };
    }
    let mut verdicts: Vec<Verdict> = missing(setting, key, context.live).into_iter().collect();
    match values::judge(setting, context) {
        Some(verdict) => verdicts.push(verdict),
        None => verdicts.extend(beside_default(setting, key, context.live)),
    }
    // What is to change anyway need not be applied.
    if verdicts.iter().all(|verdict| verdict.edit.is_none()) {
        verdicts.extend(not_applied(setting, key, context.live));
    }
    verdicts
}

fn overridden(setting: &Setting) -> Option<Verdict> {
    let (place, value) = setting.overridden.as_ref()?;
    let (severity, how) = if *value == setting.value {
        (Severity::Info, "again, to the same value")
    } else {
        (Severity::Notice, "again, to another value")
    };
    let finding = setting
        .finding(
            "sysctl-overridden",
            severity,
            format!("{} is set {how}, at {place}", setting.name),
        )
        .seen_at(place.clone(), format!("{} = {value}", setting.name))
        .cause(
            "The last line that sets a key decides; files are read in the order of their names, /etc/sysctl.conf last.",
        )
        .fix("Keep one of the lines.")
        .source("https://man7.org/linux/man-pages/man5/sysctl.d.5.html");
    Some(finding.drop_line())
}

/// Keys the table does not know: only net.* can be called unknown to Linux, the rest is too wide.
fn unknown(setting: &Setting, live: Option<&Live>) -> Option<Verdict> {
    if setting.name.contains('*') || live.is_some_and(|live| live.has(&setting.name)) {
        return None;
    }
    let known_field = [
        "net.ipv4.",
        "net.ipv6.",
        "net.core.",
        "net/ipv4/",
        "net/ipv6/",
        "net/core/",
    ]
    .iter()
    .any(|field| setting.name.trim_start_matches("/proc/sys/").starts_with(field));
    let alike: Vec<&str> = suggestions(&setting.name)
        .into_iter()
        .flatten()
        .filter(|key| key.removed.is_none())
        .map(|key| key.name)
        .collect();
    if !known_field && live.is_none() && alike.is_empty() {
        return None;
    }
    let fix = match alike.as_slice() {
        [] => "Delete the line, unless a module that is loaded later brings the key.".to_owned(),
        names => format!("Perhaps {} was meant; otherwise delete the line.", names.join(" or ")),
    };
    let finding = setting
        .finding(
            "sysctl-unknown",
            Severity::Warning,
            format!("no key is called {}", setting.name),
        )
        .confidence(if live.is_some() {
            Confidence::Certain
        } else {
            Confidence::Likely
        })
        .cause(match live {
            Some(_) => "This kernel has no such key, so setting it fails: cannot stat … No such file or directory.",
            None => "No Linux that estab knows of has it; a vendor's kernel or a module may.",
        })
        .fix(fix)
        .source(IP_SYSCTL);
    Some(finding.drop_line())
}

/// Keys that Linux had.
pub(super) fn gone(setting: &Setting, key: &'static Key, live: Option<&Live>) -> Option<Verdict> {
    let removed = key.removed?;
    let recycle = key.name == "net.ipv4.tcp_tw_recycle";
    let source = if recycle { TW_RECYCLE } else { IP_SYSCTL };
    if live.is_some_and(|live| live.has(&setting.name)) {
        if !recycle || setting.value == "0" {
            return None;
        }
        let finding = setting
            .finding(
                "tcp-tw-recycle",
                Severity::Critical,
                "tcp_tw_recycle refuses clients behind a NAT",
            )
            .seen("this kernel still has the key")
            .cause(format!(
                "{} SYNs are dropped in silence and counted as PAWSPassive.",
                capital(removed.why)
            ))
            .fix(format!("Set it to 0. Instead: {}.", removed.instead))
            .dont("Do not believe that it cures TIME_WAITs: they cost a server nothing but 256 bytes each.")
            .source(source);
        return Some(finding.replace_line(format!("{} = 0", setting.name)));
    }
    let title = match removed.version {
        Some(version) => format!("{} is gone from Linux since {version}", key.name),
        None => format!("{} is no key of today's Linux", key.name),
    };
    let mut finding = setting
        .finding("sysctl-removed", Severity::Warning, title)
        .cause(format!(
            "It is gone because {}. Setting it fails, and `sysctl -p` with it.",
            removed.why
        ))
        .fix(format!("Delete the line. Instead: {}.", removed.instead))
        .source(source);
    if recycle {
        finding = finding.dont(
            "Do not put another setting in its place against TIME_WAITs: tcp_fin_timeout does not shorten them, \
             and a low tcp_max_tw_buckets only gives up their protection.",
        );
    }
    finding.since = removed.version.map(str::to_owned);
    Some(finding.drop_line())
}

/// Values the kernel answers with EINVAL.
fn refused(setting: &Setting, key: &'static Key) -> Option<Verdict> {
    let bad = key.parse(&setting.value).err()?;
    if bad.reason == Reason::ReadOnly {
        let finding = setting
            .finding(
                "sysctl-read-only",
                Severity::Warning,
                format!("{} can't be set, only read", key.name),
            )
            .cause(key.about)
            .fix("Delete the line.");
        return Some(finding.drop_line());
    }
    let finding = setting
        .finding("sysctl-bad-value", Severity::Warning, bad.to_string())
        .cause("The kernel refuses the value with EINVAL (Invalid argument) and keeps the one it has.")
        .source(IP_SYSCTL);
    Some(match meant(key, &setting.value) {
        Some(value) => {
            let line = format!("{} = {value}", setting.name);
            finding.fix(format!("Write: {line}")).replace_line(line)
        }
        None => finding.fix(format!("Write {key:#}.")).drop_line(),
    })
}

/// The value that was probably meant: quotes gone, blanks for commas and dashes, units applied.
fn meant(key: &'static Key, value: &str) -> Option<String> {
    let plain = value.trim_matches(['"', '\'', ';', ',']).trim();
    let scaled = |word: &str| -> Option<String> {
        let digits = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
        let number: u64 = word[..digits].parse().ok()?;
        let factor = match (word[digits..].to_ascii_lowercase().as_str(), key.unit) {
            ("", _) => 1,
            ("s" | "sec", Unit::Seconds) | ("ms", Unit::Milliseconds) | ("b", Unit::Bytes) => 1,
            ("m" | "min", Unit::Seconds) => 60,
            ("h", Unit::Seconds) => 3600,
            ("s", Unit::Milliseconds) => 1000,
            ("k" | "kb", Unit::Bytes) => 1 << 10,
            ("m" | "mb", Unit::Bytes) => 1 << 20,
            ("g" | "gb", Unit::Bytes) => 1 << 30,
            _ => return None,
        };
        Some(number.checked_mul(factor)?.to_string())
    };
    let candidate = match (key.kind, plain.to_ascii_lowercase().as_str()) {
        (Kind::Int { .. }, "yes" | "on" | "true" | "enable" | "enabled") if key.unit == Unit::Flag => "1".to_owned(),
        (Kind::Int { .. }, "no" | "off" | "false" | "disable" | "disabled") if key.unit == Unit::Flag => "0".to_owned(),
        (Kind::PortRange | Kind::Ints { .. }, _) => plain
            .split(|c: char| c.is_whitespace() || [',', '-', ':', ';'].contains(&c))
            .filter(|word| !word.is_empty())
            .map(scaled)
            .collect::<Option<Vec<_>>>()?
            .join(" "),
        (Kind::Int { .. }, _) => scaled(plain)?,
        (Kind::Ports, _) => plain
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(",")
            .replace(",,", ","),
        (Kind::Text { .. }, _) => return None,
    };
    let taken = key.parse(&candidate).is_ok();
    taken.then_some(candidate)
}

fn without_effect(setting: &Setting, key: &'static Key) -> Verdict {
    setting
        .finding(
            "sysctl-no-effect",
            Severity::Notice,
            format!("{} has no effect", key.name),
        )
        .cause(key.about)
        .fix("Delete the line.")
        .source(IP_SYSCTL)
        .drop_line()
}

/// Keys that Linux has and this kernel does not show.
fn missing(setting: &Setting, key: &'static Key, live: Option<&Live>) -> Option<Verdict> {
    let live = live?;
    if setting.name.contains('*') || live.has(&setting.name) {
        return None;
    }
    if !key.per_netns && live.in_namespace() {
        let finding = setting
            .finding("sysctl-not-in-namespace", Severity::Info, format!("{} is not to be set in a network namespace", key.name))
            .cause("It is one for the whole host: only the initial network namespace shows it. The kernel has it all the same.")
            .fix("Set it on the host; in a container's file leave it out.");
        return Some(finding.into());
    }
    if let Some(since) = key.since.filter(|since| version(since) > live.release()) {
        let finding = setting
            .finding(
                "sysctl-too-new",
                Severity::Notice,
                format!("{} came with Linux {since}", key.name),
            )
            .seen(format!("the running kernel is {}", dotted(live.release())))
            .cause("This kernel lacks the key, so setting it fails.")
            .fix(
                "Leave the line out until the kernel is newer, or write `-` before the key, which ignores the failure.",
            )
            .since(since);
        return Some(finding.into());
    }
    let module = if key.name.contains("nf_conntrack") {
        Some("nf_conntrack")
    } else if key.name.contains("bridge-nf") {
        Some("br_netfilter")
    } else {
        None
    };
    let interface = key.name.contains('*');
    let (cause, fix) = match module {
        Some(module) => (
            format!(
                "The key comes with the module {module}, which is not loaded; at boot the line fails if it is read before."
            ),
            format!("Name {module} in /etc/modules-load.d/, which is read before the sysctl files."),
        ),
        None if interface => (
            "The interface does not exist now. A line for an interface that comes later has no effect.".to_owned(),
            "Set …default… for interfaces to come, or let a udev rule set it.".to_owned(),
        ),
        None => (
            "This kernel was built without it, or is too old for it, so setting it fails.".to_owned(),
            "Delete the line, or write `-` before the key, which ignores the failure.".to_owned(),
        ),
    };
    let finding = setting
        .finding(
            "sysctl-absent",
            Severity::Notice,
            format!("this kernel has no {}", setting.name),
        )
        .cause(cause)
        .fix(fix);
    Some(finding.into())
}

/// More is better for these, so less than the default takes something away.
const MORE_IS_MORE: [&str; 16] = [
    "net.core.somaxconn",
    "net.core.rmem_max",
    "net.core.wmem_max",
    "net.core.optmem_max",
    "net.core.netdev_max_backlog",
    "net.core.netdev_budget",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_max_orphans",
    "net.ipv4.tcp_max_syn_backlog",
    "net.netfilter.nf_conntrack_max",
    "fs.file-max",
    "kernel.shmmax",
    "kernel.shmall",
    "vm.max_map_count",
];

/// Lines that say what would be so without them, and lines that take back what newer kernels give.
fn beside_default(setting: &Setting, key: &'static Key, live: Option<&Live>) -> Option<Verdict> {
    let default = default_of(key, live)?;
    let (set, normal) = (key.parse(&setting.value).ok()?, key.parse(&default).ok()?);
    if set == normal {
        let finding = setting
            .finding(
                "sysctl-default",
                Severity::Info,
                format!("{} is {default} anyway", setting.name),
            )
            .cause(format!("The line restates the kernel's default. {}", key.about))
            .fix("It may go; it will only hide a better default of a later kernel.");
        return Some(finding.into());
    }
    let (set, normal) = (numbers(set), numbers(normal));
    // Computed defaults are approximate.
    let slack = |normal: i64| {
        if key.name == "net.ipv4.tcp_mem" {
            normal / 4 * 3
        } else {
            normal
        }
    };
    let lower = set.iter().zip(&normal).any(|(set, normal)| *set < slack(*normal));
    if !lower || !MORE_IS_MORE.contains(&key.name) {
        return None;
    }
    let mut finding = setting
        .finding(
            "sysctl-below-default",
            Severity::Notice,
            format!("{} is set below the kernel's own default, {default}", setting.name),
        )
        .cause(key.about)
        .fix("Delete the line: today's default is larger than what was once good advice.")
        .source(IP_SYSCTL);
    if let Some(former) = key.former {
        finding = finding
            .seen(format!(
                "before Linux {} the default was {}",
                former.until, former.value
            ))
            .since(former.until);
    }
    if live.is_none() {
        finding = finding.confidence(Confidence::Likely);
    }
    Some(finding.drop_line())
}

/// The running kernel has another value than the file.
fn not_applied(setting: &Setting, key: &'static Key, live: Option<&Live>) -> Option<Verdict> {
    if setting.name.contains('*') {
        return None;
    }
    let now = live?.get(&setting.name)?;
    let (set, running) = (key.parse(&setting.value).ok()?, key.parse(&now).ok()?);
    let same = match (set, running) {
        (Value::Text(a), Value::Text(b)) => a == b,
        (Value::Ports(a), Value::Ports(b)) => a.ranges().eq(b.ranges()),
        // Left-out numbers stay as they are; milliseconds are rounded to the kernel's clock.
        (a, b) => numbers(a)
            .iter()
            .zip(numbers(b))
            .all(|(a, b)| *a == b || (key.unit == Unit::Milliseconds && (a - b).abs() < 10)),
    };
    if same {
        return None;
    }
    let finding = setting
        .finding(
            "sysctl-not-applied",
            Severity::Notice,
            format!("the kernel runs with another {}", setting.name),
        )
        .seen(format!("the running kernel has {}", now.replace('\t', " ")))
        .cause("The file was not loaded since it changed, or something set the key after it.")
        .fix("`sysctl --system` loads the files again.");
    Some(finding.into())
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

fn dotted([major, minor, patch]: [u32; 3]) -> String {
    format!("{major}.{minor}.{patch}")
}
