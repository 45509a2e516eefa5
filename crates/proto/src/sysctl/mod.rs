//! Every TCP/IP knob that Linux has or had, and estab's own: what kind of value it takes, in which unit,
//! its default, since and until when, and what it does.
//!
//! Ranges and defaults were measured on Linux 6.18; the texts say what today's kernel does, which is often
//! not what tuning guides say. [`lookup`] finds a key by any spelling of its name, [`Key::parse`] takes and
//! refuses values as the kernel's handlers do (kernel/sysctl.c, `proc_dointvec_minmax` and its kin).

mod core;
mod elsewhere;
mod estab;
mod ipv4_ip;
mod ipv4_tcp;
mod ipv6;
mod name;
mod netfilter;
mod removed;
mod value;

pub use name::{lookup, suggestions};
pub use value::{BadValue, Ints, PortList, Reason, Value};

/// One knob.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Key {
    /// Its full name with dots; a `*` stands for an interface, `all` or `default`.
    pub name: &'static str,
    /// The form of its value.
    pub kind: Kind,
    /// What its numbers count.
    pub unit: Unit,
    /// Its value on a kernel nobody tuned.
    pub default: DefaultValue,
    /// An earlier default, where it changed.
    pub former: Option<Former>,
    /// The first Linux that has it; `None` where that is older than anyone runs, or not known.
    pub since: Option<&'static str>,
    /// Today's Linux has it no more.
    pub removed: Option<Removed>,
    /// Each network namespace has its own; `false`: one for the whole host, absent or read-only
    /// in other namespaces.
    pub per_netns: bool,
    /// What it works on.
    pub applies: Applies,
    /// It does something today.
    pub effect: bool,
    /// It can be set.
    pub writable: bool,
    /// What it does, in a sentence or two.
    pub about: &'static str,
}

/// The form of a value, and the numbers the kernel takes (others are EINVAL).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One whole number.
    Int {
        /// The smallest.
        min: i64,
        /// The largest.
        max: i64,
    },
    /// Several whole numbers with blanks between them, as in `tcp_rmem`.
    Ints {
        /// How many, at most four.
        count: u8,
        /// The smallest.
        min: i64,
        /// The largest.
        max: i64,
    },
    /// Two ports with a blank between them, the lower first.
    PortRange,
    /// Ports and ranges with commas between them: `8080,9000-9010`.
    Ports,
    /// A word or a text of its own form.
    Text {
        /// The longest, in bytes.
        max: u16,
    },
}

/// What a knob's numbers count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[allow(missing_docs)] // The names say it.
pub enum Unit {
    Count,
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
    /// Ticks of 10 ms (USER_HZ).
    Jiffies,
    Centiseconds,
    Bytes,
    Kilobytes,
    /// Pages of memory, 4096 bytes on most machines.
    Pages,
    Percent,
    /// 0 is off; anything else is on.
    Flag,
    /// Each number means something else.
    Mode,
    /// A sum of bits.
    Bits,
    /// A power of two.
    Shift,
    Port,
    Group,
    Name,
}

/// A knob's value where nobody set it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DefaultValue {
    /// The same everywhere.
    Fixed(&'static str),
    /// Computed from the machine's memory: how.
    ScaledByMemory(&'static str),
    /// As the kernel was built or the machine is made: what to expect.
    PerKernelConfig(&'static str),
}

/// An earlier default.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Former {
    /// What it was.
    pub value: &'static str,
    /// The first Linux with today's.
    pub until: &'static str,
}

/// Why Linux has a knob no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Removed {
    /// The first Linux without it; `None` where not known.
    pub version: Option<&'static str>,
    /// Why it went.
    pub why: &'static str,
    /// What to do instead.
    pub instead: &'static str,
}

/// What a knob works on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Applies {
    /// TCP connections.
    Tcp,
    /// UDP sockets.
    Udp,
    /// IP packets, routes and neighbours.
    Ip,
    /// Sockets of every kind.
    Socket,
    /// Network devices and their queues.
    Device,
    /// Connection tracking.
    Conntrack,
    /// The whole host, and not its network alone.
    Host,
}

impl Unit {
    /// The unit as a word after a number; empty where a number needs none.
    pub const fn word(self) -> &'static str {
        match self {
            Unit::Seconds => "seconds",
            Unit::Milliseconds => "milliseconds",
            Unit::Microseconds => "microseconds",
            Unit::Nanoseconds => "nanoseconds",
            Unit::Jiffies => "ticks of 10 ms",
            Unit::Centiseconds => "hundredths of a second",
            Unit::Bytes => "bytes",
            Unit::Kilobytes => "KiB",
            Unit::Pages => "pages",
            Unit::Percent => "percent",
            Unit::Count
            | Unit::Flag
            | Unit::Mode
            | Unit::Bits
            | Unit::Shift
            | Unit::Port
            | Unit::Group
            | Unit::Name => "",
        }
    }
}

impl DefaultValue {
    /// The value where it is the same everywhere.
    pub const fn fixed(self) -> Option<&'static str> {
        match self {
            DefaultValue::Fixed(value) => Some(value),
            _ => None,
        }
    }

    /// The value, or how it comes about.
    pub const fn text(self) -> &'static str {
        match self {
            DefaultValue::Fixed(text) | DefaultValue::ScaledByMemory(text) | DefaultValue::PerKernelConfig(text) => {
                text
            }
        }
    }
}

const TABLES: [&[Key]; 8] = [
    ipv4_tcp::KEYS,
    ipv4_ip::KEYS,
    core::KEYS,
    ipv6::KEYS,
    netfilter::KEYS,
    elsewhere::KEYS,
    estab::KEYS,
    removed::KEYS,
];

/// Every key.
pub fn all() -> impl Iterator<Item = &'static Key> {
    TABLES.into_iter().flatten()
}

// The tables' words: `key(name, kind, unit, default, about)` and what is out of the ordinary after it.

const fn key(name: &'static str, kind: Kind, unit: Unit, default: &'static str, about: &'static str) -> Key {
    Key {
        name,
        kind,
        unit,
        default: DefaultValue::Fixed(default),
        former: None,
        since: None,
        removed: None,
        per_netns: true,
        applies: Applies::Tcp,
        effect: true,
        writable: true,
        about,
    }
}

impl Key {
    const fn since(mut self, version: &'static str) -> Key {
        self.since = Some(version);
        self
    }

    /// The default was `value` before Linux `until`.
    const fn was(mut self, value: &'static str, until: &'static str) -> Key {
        self.former = Some(Former { value, until });
        self
    }

    const fn removed(mut self, version: &'static str, why: &'static str, instead: &'static str) -> Key {
        self.removed = Some(Removed {
            version: Some(version),
            why,
            instead,
        });
        self.effect = false;
        self
    }

    const fn gone(mut self, why: &'static str, instead: &'static str) -> Key {
        self.removed = Some(Removed {
            version: None,
            why,
            instead,
        });
        self.effect = false;
        self
    }

    const fn by_memory(mut self) -> Key {
        self.default = DefaultValue::ScaledByMemory(self.default.text());
        self
    }

    const fn by_config(mut self) -> Key {
        self.default = DefaultValue::PerKernelConfig(self.default.text());
        self
    }

    const fn host_wide(mut self) -> Key {
        self.per_netns = false;
        self
    }

    const fn inert(mut self) -> Key {
        self.effect = false;
        self
    }

    const fn read_only(mut self) -> Key {
        self.writable = false;
        self
    }

    const fn on(mut self, applies: Applies) -> Key {
        self.applies = applies;
        self
    }
}

const fn int(min: i64, max: i64) -> Kind {
    Kind::Int { min, max }
}

const fn text(max: u16) -> Kind {
    Kind::Text { max }
}

/// `proc_dobool` and `proc_dointvec_minmax` with 0 and 1.
const BOOL: Kind = int(0, 1);
/// `proc_dou8vec_minmax` without bounds of its own.
const U8: Kind = int(0, 255);
/// `proc_dointvec`.
const INT: Kind = int(i32::MIN as i64, i32::MAX as i64);
/// `proc_dointvec_minmax` from zero.
const POSITIVE: Kind = int(0, i32::MAX as i64);
/// `proc_douintvec`.
const UINT: Kind = int(0, u32::MAX as i64);
/// `proc_doulongvec_minmax`.
const ULONG: Kind = int(0, i64::MAX);
/// `proc_dointvec_jiffies`: what fits an int at the kernel's slowest clock (HZ 100), negative numbers too.
const SECONDS: Kind = int(-(i32::MAX as i64) / 100, i32::MAX as i64 / 100);
/// `proc_dointvec_ms_jiffies`.
const MILLIS: Kind = int(0, i32::MAX as i64);
