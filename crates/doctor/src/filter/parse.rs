//! The grammar of ss(8)'s filters.

use super::{Compare, Filter, Side, States, Test};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is wrong with a filter, and what would be right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FilterError(String);

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FilterError {}

fn error<T>(text: impl Into<String>) -> Result<T, FilterError> {
    Err(FilterError(text.into()))
}

/// Parentheses may nest this deep.
const DEPTH: u32 = 64;

pub(super) fn parse(words: &[String]) -> Result<Filter, FilterError> {
    let tokens = tokens(&words.join(" "));
    let mut rest = Tokens { tokens: &tokens };
    let mut filter = Filter::default();
    while let Some(word @ ("state" | "exclude")) = rest.peek() {
        rest.next();
        let Some(name) = rest.next() else {
            return error(format!(
                "`{word}` wants a state after it, like time-wait, or all, connected, synchronized, bucket, big"
            ));
        };
        let Some(named) = States::named(name) else {
            return error(format!(
                "`{name}` is no state: expected one like established, syn-recv, fin-wait-1 or time-wait, or all, connected, synchronized, bucket, big"
            ));
        };
        filter.states = Some(match (word, filter.states) {
            ("state", before) => before.unwrap_or_default().and(named),
            (_, before) => before.unwrap_or_else(States::all).without(named),
        });
    }
    if rest.peek().is_some() {
        filter.test = Some(rest.either(0)?);
    }
    match rest.peek() {
        None => Ok(filter),
        Some(")") => error("a `)` without its `(`"),
        Some(word) => error(format!("`{word}` can't stand there")),
    }
}

/// Words, parentheses and operators.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut operator = false;
    let mut open = false;
    for c in text.chars() {
        let kind = "=!<>&|".contains(c);
        if c.is_whitespace() || c == '(' || c == ')' {
            open = false;
            if !c.is_whitespace() {
                tokens.push(c.to_string());
            }
        } else if open && kind == operator {
            if let Some(last) = tokens.last_mut() {
                last.push(c);
            }
        } else {
            tokens.push(c.to_string());
            (open, operator) = (true, kind);
        }
    }
    tokens
}

struct Tokens<'a> {
    tokens: &'a [String],
}

impl<'a> Tokens<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.tokens.first().map(String::as_str)
    }

    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first)
    }

    fn either(&mut self, depth: u32) -> Result<Test, FilterError> {
        let mut test = self.both(depth)?;
        while let Some("or" | "|" | "||") = self.peek() {
            self.next();
            test = Test::Either(Box::new(test), Box::new(self.both(depth)?));
        }
        Ok(test)
    }

    fn both(&mut self, depth: u32) -> Result<Test, FilterError> {
        let mut test = self.one(depth)?;
        loop {
            match self.peek() {
                Some("and" | "&" | "&&") => {
                    self.next();
                }
                None | Some("or" | "|" | "||" | ")") => return Ok(test),
                // Side by side means and.
                Some(_) => {}
            }
            test = Test::Both(Box::new(test), Box::new(self.one(depth)?));
        }
    }

    fn one(&mut self, depth: u32) -> Result<Test, FilterError> {
        if depth > DEPTH {
            return error("too many parentheses within each other");
        }
        let Some(word) = self.next() else {
            return error("the filter ends too soon: expected sport, dport, src, dst, dev, not or `(`");
        };
        match word {
            "(" => {
                let test = self.either(depth + 1)?;
                match self.next() {
                    Some(")") => Ok(test),
                    _ => error("a `(` without its `)`"),
                }
            }
            "not" | "!" => Ok(Test::Not(Box::new(self.one(depth + 1)?))),
            "sport" | "dport" => self.port(word),
            "src" | "dst" => self.host(word),
            "dev" => self.device(),
            "state" | "exclude" => error(format!("`{word}` stands before the rest of the filter, not in it")),
            _ => error(format!(
                "`{word}` is no word of a filter: expected state, exclude, sport, dport, src, dst, dev, and, or, not"
            )),
        }
    }

    fn port(&mut self, word: &str) -> Result<Test, FilterError> {
        let compare = self.comparison()?.unwrap_or(Compare::Equal);
        let Some(text) = self.next() else {
            return error(format!("`{word}` wants a port after it: {word} = :80"));
        };
        let digits = text.strip_prefix(':').unwrap_or(text);
        Ok(Test::Port(side(word), compare, port(digits)?))
    }

    fn host(&mut self, word: &str) -> Result<Test, FilterError> {
        let compare = self.comparison()?.unwrap_or(Compare::Equal);
        let Some(text) = self.next() else {
            return error(format!(
                "`{word}` wants an address after it: {word} 10.0.0.0/8, {word} [fd00::1]:443"
            ));
        };
        let (network, port) = host(text)?;
        let test = Test::Host(side(word), network, port);
        match compare {
            Compare::Equal => Ok(test),
            Compare::Unequal => Ok(Test::Not(Box::new(test))),
            _ => error(format!(
                "addresses are equal or not: {word} = {text} or {word} != {text}"
            )),
        }
    }

    fn device(&mut self) -> Result<Test, FilterError> {
        let compare = self.comparison()?.unwrap_or(Compare::Equal);
        let Some(name) = self.next() else {
            return error("`dev` wants an interface after it: dev eth0");
        };
        let index = std::fs::read_to_string(format!("/sys/class/net/{}/ifindex", name.replace('/', "")));
        let index = index
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .or_else(|| name.parse().ok());
        let Some(index) = index else {
            return error(format!("`{name}` is no interface here"));
        };
        match compare {
            Compare::Equal => Ok(Test::Device(index)),
            Compare::Unequal => Ok(Test::Not(Box::new(Test::Device(index)))),
            _ => error("interfaces are equal or not: dev = eth0 or dev != eth0"),
        }
    }

    fn comparison(&mut self) -> Result<Option<Compare>, FilterError> {
        let compare = match self.peek() {
            Some("=" | "==" | "eq") => Compare::Equal,
            Some("!=" | "ne" | "neq") => Compare::Unequal,
            Some("<=" | "le" | "leq") => Compare::AtMost,
            Some(">=" | "ge" | "geq") => Compare::AtLeast,
            Some("<" | "lt") => Compare::Below,
            Some(">" | "gt") => Compare::Above,
            Some(word) if word.starts_with(['=', '!', '<', '>']) => {
                return error(format!("`{word}` compares nothing: expected =, !=, <, >, <= or >="));
            }
            _ => return Ok(None),
        };
        self.next();
        Ok(Some(compare))
    }
}

fn side(word: &str) -> Side {
    if word.starts_with('s') {
        Side::Local
    } else {
        Side::Remote
    }
}

/// A number, or a service of /etc/services.
fn port(text: &str) -> Result<u16, FilterError> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let services = std::fs::read_to_string("/etc/services").unwrap_or_default();
    let named = services.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let name = words.next()?;
        let number = words.next()?.split('/').next()?.parse().ok()?;
        (name == text || words.any(|alias| alias == text)).then_some(number)
    });
    match named {
        Some(number) => Ok(number),
        None => error(format!("`{text}` is no port: expected 0 to 65535 or a service's name")),
    }
}

type Host = (Option<(IpAddr, u8)>, Option<u16>);

/// `10.0.0.1`, `10.0.0.0/8:443`, `[fd00::1]:443`, `fd00::/8`, `*:80`, `:80`.
fn host(text: &str) -> Result<Host, FilterError> {
    let (address, rest) = if let Some(bracketed) = text.strip_prefix('[') {
        match bracketed.split_once(']') {
            Some((address, rest)) => (address, rest),
            None => return error(format!("`{text}`: a `[` without its `]`")),
        }
    } else if text.matches(':').count() > 1 {
        (text, "")
    } else {
        text.find(':').map_or((text, ""), |at| text.split_at(at))
    };
    // A prefix length may stand within the brackets or after them.
    let (mask, port_text) = match rest.split_once(':') {
        Some((mask, port)) => (mask, Some(port)),
        None => (rest, None),
    };
    let port_number = match port_text {
        None | Some("*") => None,
        Some(digits) => Some(port(digits)?),
    };
    let whole = format!("{address}{mask}");
    Ok((network(&whole)?, port_number))
}

fn network(text: &str) -> Result<Option<(IpAddr, u8)>, FilterError> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let ip: IpAddr = match address {
        "" | "*" | "any" | "all" => return Ok(None),
        _ => match address
            .parse::<Ipv4Addr>()
            .map(IpAddr::V4)
            .or_else(|_| address.parse::<Ipv6Addr>().map(IpAddr::V6))
        {
            Ok(IpAddr::V6(v6)) if length.is_none() => v6.to_canonical(),
            Ok(ip) => ip,
            Err(_) => return error(format!("`{address}` is no address: names are not looked up")),
        },
    };
    let most = if ip.is_ipv4() { 32 } else { 128 };
    match length.map_or(Ok(most), str::parse::<u8>) {
        Ok(length) if length <= most => Ok(Some((ip, length))),
        _ => error(format!("`{text}`: a prefix of this address has 0 to {most} bits")),
    }
}
