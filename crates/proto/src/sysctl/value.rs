//! Reading a value as the kernel's handlers do: what they take, what is EINVAL, and how to say why.

use super::{Key, Kind, Unit};
use core::fmt;
use core::ops::RangeInclusive;

/// A value that its key takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    /// One number.
    Int(i64),
    /// Several numbers; those left out stay as they are.
    Ints(Ints),
    /// A range of ports; without `high` that stays as it is.
    PortRange {
        /// The first port.
        low: u16,
        /// The last port.
        high: Option<u16>,
    },
    /// A list of ports.
    Ports(PortList<'a>),
    /// A text, without the blanks around it.
    Text(&'a str),
}

impl<'a> Value<'a> {
    /// The number, of a value that is one.
    pub fn int(self) -> Option<i64> {
        match self {
            Value::Int(n) => Some(n),
            _ => None,
        }
    }
}

/// Up to four numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ints {
    numbers: [i64; 4],
    given: u8,
}

impl Ints {
    /// The numbers that were written.
    pub fn as_slice(&self) -> &[i64] {
        &self.numbers[..usize::from(self.given).min(4)]
    }
}

/// Ports and ranges of ports as they were written, known to be well-formed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortList<'a>(&'a str);

impl<'a> PortList<'a> {
    /// Each port or range, in the order written.
    pub fn ranges(self) -> impl Iterator<Item = RangeInclusive<u16>> + 'a {
        self.0.split(',').filter_map(|part| port_range(part).ok())
    }
}

/// A value that the kernel refuses with EINVAL, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadValue {
    /// Whose value it would be.
    pub key: &'static Key,
    /// Why not.
    pub reason: Reason,
}

/// Why a value is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// The key can't be set.
    ReadOnly,
    /// There is no value.
    Empty,
    /// It does not begin with a digit.
    NotANumber,
    /// This follows the number: a unit, a quote, a dot.
    Suffix(char),
    /// Numbers are separated by this, not by a blank.
    Separator {
        /// What stands between them.
        found: char,
        /// The number before it.
        before: i64,
        /// The number after it.
        after: i64,
    },
    /// The number is too small or too large.
    OutOfRange(i64),
    /// The first port is higher than the last.
    Reversed {
        /// The first.
        low: u16,
        /// The last.
        high: u16,
    },
    /// Not a list of ports.
    NotPorts,
    /// The text is too long.
    TooLong,
}

impl Key {
    /// What the kernel would make of `value`: a blank may stand before it, and what follows the last number
    /// after a blank is ignored. Numbers may be hexadecimal (0x10) or octal (010).
    pub fn parse<'a>(&'static self, value: &'a str) -> Result<Value<'a>, BadValue> {
        let bad = |reason| BadValue { key: self, reason };
        if !self.writable {
            return Err(bad(Reason::ReadOnly));
        }
        let value = value.trim_matches(BLANKS);
        if value.is_empty() && !matches!(self.kind, Kind::Text { .. } | Kind::Ports) {
            return Err(bad(Reason::Empty));
        }
        match self.kind {
            Kind::Int { min, max } => numbers(value, 1, min, max).map(|ints| Value::Int(ints.numbers[0])),
            Kind::Ints { count, min, max } => numbers(value, count, min, max).map(Value::Ints),
            Kind::PortRange => numbers(value, 2, 1, 65535).and_then(|ints| {
                // Both are within 1..=65535.
                let (low, high) = (ints.numbers[0] as u16, ints.numbers[1] as u16);
                let high = (ints.given > 1).then_some(high);
                match high.filter(|high| *high < low) {
                    Some(high) => Err(Reason::Reversed { low, high }),
                    None => Ok(Value::PortRange { low, high }),
                }
            }),
            Kind::Ports => ports(value),
            Kind::Text { max } if value.len() > usize::from(max) => Err(Reason::TooLong),
            Kind::Text { .. } => Ok(Value::Text(value)),
        }
        .map_err(bad)
    }
}

const BLANKS: [char; 3] = [' ', '\t', '\n'];

fn numbers(text: &str, count: u8, min: i64, max: i64) -> Result<Ints, Reason> {
    let mut ints = Ints::default();
    let mut rest = text;
    while usize::from(ints.given) < usize::from(count).min(4) {
        rest = rest.trim_start_matches(BLANKS);
        if rest.is_empty() {
            break;
        }
        let (number, after) = number(rest)?;
        if let Some(found) = after.chars().next().filter(|c| !BLANKS.contains(c)) {
            return Err(match self::number(&after[found.len_utf8()..]) {
                Ok((after, _)) if count > 1 && !found.is_ascii_digit() && found != '.' => Reason::Separator {
                    found,
                    before: number,
                    after,
                },
                _ => Reason::Suffix(found),
            });
        }
        if number < min || number > max {
            return Err(Reason::OutOfRange(number));
        }
        ints.numbers[usize::from(ints.given)] = number;
        ints.given += 1;
        rest = after;
    }
    Ok(ints)
}

/// The number at the start of `text` as C's strtoul reads it with base 0, and what follows; numbers beyond
/// 64 bits stop at their end.
fn number(text: &str) -> Result<(i64, &str), Reason> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Reason::NotANumber);
    }
    let hexadecimal = digits
        .strip_prefix("0x")
        .or(digits.strip_prefix("0X"))
        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_hexdigit()));
    let (digits, base) = match hexadecimal {
        Some(rest) => (rest, 16),
        None if digits.starts_with('0') => (digits, 8),
        None => (digits, 10),
    };
    let end = digits.find(|c: char| !c.is_digit(base)).unwrap_or(digits.len());
    let number = digits[..end]
        .chars()
        .filter_map(|c| c.to_digit(base))
        .fold(0i64, |n, digit| {
            n.saturating_mul(base.into()).saturating_add(digit.into())
        });
    Ok((if negative { -number } else { number }, &digits[end..]))
}

fn ports(text: &str) -> Result<Value<'_>, Reason> {
    // A comma may close the list; an empty value empties it.
    let list = text.strip_suffix(',').unwrap_or(text);
    if !list.is_empty() {
        list.split(',').try_for_each(|part| port_range(part).map(drop))?;
    }
    Ok(Value::Ports(PortList(list)))
}

fn port_range(part: &str) -> Result<RangeInclusive<u16>, Reason> {
    let port = |text: &str| -> Result<u16, Reason> {
        let (number, rest) = number(text).map_err(|_| Reason::NotPorts)?;
        if !rest.is_empty() {
            return Err(Reason::NotPorts);
        }
        u16::try_from(number).map_err(|_| Reason::OutOfRange(number))
    };
    let (low, high) = match part.split_once('-') {
        Some((low, high)) => (port(low)?, port(high)?),
        None => (port(part)?, port(part)?),
    };
    if low > high {
        return Err(Reason::Reversed { low, high });
    }
    Ok(low..=high)
}

impl core::error::Error for BadValue {}

/// What was wrong, and what to write instead.
impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key;
        write!(f, "{}: ", key.name)?;
        match self.reason {
            Reason::ReadOnly => f.write_str("can't be set, only read"),
            Reason::Empty => write!(f, "the value is missing; write {key:#}"),
            Reason::NotANumber => write!(f, "not a number; write {key:#}"),
            Reason::Suffix(found) => {
                write!(f, "{found:?} after the number; write {key:#}, digits only")
            }
            Reason::Separator { found, before, after } => write!(
                f,
                "{found:?} between the numbers, where a blank belongs; write \"{before} {after}{}\"",
                if matches!(key.kind, Kind::Ints { count: 3.., .. }) {
                    " …"
                } else {
                    ""
                }
            ),
            Reason::OutOfRange(number) => write!(f, "{number} is out of range; write {key:#}"),
            Reason::Reversed { low, high } => {
                write!(f, "the first port, {low}, is above the last; write \"{high} {low}\"")
            }
            Reason::NotPorts => f.write_str(
                "not a list of ports; separate ports and ranges by commas without blanks, as in 8080,9000-9010",
            ),
            Reason::TooLong => write!(f, "too long; write {key:#}"),
        }
    }
}

/// `{}` is the name; `{:#}` says what may be written.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return f.pad(self.name);
        }
        let (min, max) = match self.kind {
            Kind::Int { min, max } => (min, max),
            Kind::Ints { count, min, max } => {
                write!(
                    f,
                    "{} numbers with blanks between them, each ",
                    ["no", "one", "two", "three", "four"][usize::from(count).min(4)]
                )?;
                (min, max)
            }
            Kind::PortRange => return f.write_str("two ports with a blank between them, such as \"1024 65000\""),
            Kind::Ports => return f.write_str("ports and ranges with commas between them, such as 8080,9000-9010"),
            Kind::Text { max } => return write!(f, "a text of at most {max} characters"),
        };
        // Ends that only the type sets are not worth telling.
        let (open_below, open_above) = (min <= -(i32::MAX as i64) / 100, max >= i32::MAX as i64 / 100);
        match (self.unit, open_below, open_above) {
            (Unit::Flag, ..) => f.write_str("0 or 1")?,
            (_, true, true) => f.write_str("a number")?,
            (_, false, true) => write!(f, "a number of {min} or more")?,
            _ => write!(f, "a number from {min} to {max}")?,
        }
        match self.unit.word() {
            "" => Ok(()),
            unit => write!(f, " ({unit})"),
        }
    }
}
