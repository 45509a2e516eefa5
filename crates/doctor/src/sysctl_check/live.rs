//! The running kernel's side: /proc/sys, its version, and the machine's memory.

use estab_proto::sysctl::{DefaultValue, Key, Value};
use std::fs;
use std::path::{Path, PathBuf};

/// A tree like /proc, from which the running kernel's values are read.
#[derive(Clone, Debug)]
pub struct Live {
    proc: PathBuf,
    release: [u32; 3],
    memory: Option<u64>,
    namespace: bool,
}

impl Live {
    /// Reads from `proc`: "/proc", or a copy of it. `None` where it has no sys/ (not Linux, not mounted).
    pub fn at(proc: &Path) -> Option<Live> {
        let sys = proc.join("sys");
        if !sys.is_dir() {
            return None;
        }
        let read = |file: &str| fs::read_to_string(proc.join(file)).unwrap_or_default();
        let memory = read("meminfo").lines().find_map(|line| {
            let kilobytes = line.strip_prefix("MemTotal:")?.split_whitespace().next()?;
            kilobytes.parse::<u64>().ok()?.checked_mul(1024)
        });
        let net = sys.join("net/ipv4");
        Some(Live {
            release: version(&read("sys/kernel/osrelease")),
            memory,
            // Every kernel has tcp_mem, but only the initial network namespace shows it.
            namespace: net.is_dir() && !net.join("tcp_mem").exists(),
            proc: proc.to_path_buf(),
        })
    }

    /// The kernel's version, such as [6, 18, 0]; zeros where it can't be told.
    pub fn release(&self) -> [u32; 3] {
        self.release
    }

    /// Bytes of memory.
    pub fn memory(&self) -> Option<u64> {
        self.memory
    }

    /// The tree is that of a network namespace other than the initial one.
    pub fn in_namespace(&self) -> bool {
        self.namespace
    }

    /// The file of a key.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        // Dots separate, and an interface's own dots are written as slashes (sysctl(8)), or the other way round.
        let first = name.find(['.', '/']).map(|at| &name[at..=at]);
        let relative: String = name
            .trim_start_matches("/proc/sys/")
            .chars()
            .map(|c| match (c, first) {
                ('.', Some(".")) => '/',
                ('/', Some(".")) => '.',
                _ => c,
            })
            .collect();
        self.proc.join("sys").join(relative.trim_start_matches('/'))
    }

    /// The kernel has the key.
    pub(super) fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Its value, where it can be read.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.path(name)).ok()?;
        Some(text.trim().to_owned())
    }

    /// Its value, where it is one number.
    pub(super) fn int(&self, name: &str) -> Option<i64> {
        self.get(name)?.split_whitespace().next()?.parse().ok()
    }
}

/// The numbers of "6.18.44-fc" or "2.6.34".
pub(super) fn version(text: &str) -> [u32; 3] {
    let mut numbers = text
        .trim()
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    [(); 3].map(|()| numbers.next().unwrap_or(0))
}

/// The numbers of a value.
pub(super) fn numbers(value: Value<'_>) -> Vec<i64> {
    match value {
        Value::Int(n) => vec![n],
        Value::Ints(ints) => ints.as_slice().to_vec(),
        Value::PortRange { low, high } => [Some(low), high].into_iter().flatten().map(i64::from).collect(),
        Value::Ports(_) | Value::Text(_) => Vec::new(),
    }
}

/// The value a key has if nobody sets it, on this kernel; computed where the kernel computes it and the
/// machine is known.
pub(super) fn default_of(key: &'static Key, live: Option<&Live>) -> Option<String> {
    if let Some(live) = live {
        let buckets = live.int("net.ipv4.tcp_ehash_entries").map(i64::abs).filter(|n| *n > 0);
        let memory = live.memory().and_then(|bytes| i64::try_from(bytes).ok());
        // tcp_init, cgroup and files_maxfiles_init: shares of the hash table and of memory.
        let computed = match key.name {
            "net.ipv4.tcp_max_tw_buckets" | "net.ipv4.tcp_max_orphans" => buckets.map(|n| (n / 2).to_string()),
            "net.ipv4.tcp_max_syn_backlog" => buckets.map(|n| (n / 128).max(128).to_string()),
            "net.ipv4.tcp_mem" => memory.map(|bytes| {
                let limit = bytes / 4096 / 16;
                format!("{} {limit} {}", limit / 4 * 3, limit / 4 * 6)
            }),
            "fs.file-max" => memory.map(|bytes| (bytes / 10240).to_string()),
            "net.netfilter.nf_conntrack_max" => live.get("net.netfilter.nf_conntrack_buckets"),
            _ => None,
        };
        if computed.is_some() {
            return computed;
        }
    }
    if let (Some(former), Some(live)) = (key.former, live)
        && live.release() < version(former.until)
    {
        return Some(former.value.to_owned());
    }
    match key.default {
        DefaultValue::Fixed(value) => Some(value.to_owned()),
        DefaultValue::ScaledByMemory(text) | DefaultValue::PerKernelConfig(text) => {
            let numbers_alone = text.chars().all(|c| c.is_ascii_digit() || c == ' ');
            numbers_alone.then(|| text.to_owned())
        }
    }
}
