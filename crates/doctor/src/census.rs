//! The count by state, as `netstat -ant | awk '/^tcp/ {++S[$NF]} END {for (s in S) print s, S[s]}'` gives it.

use estab_proto::{SockDiag, State};
use serde::de::Error;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;

/// How many TCP sockets are in each of the eleven states.
///
/// It prints one `STATE count` line for each state that has any, in the order of a connection's life;
/// as JSON it has all eleven, in netstat's spelling.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Census {
    counts: [u64; State::ALL.len()],
}

impl Census {
    /// Counts the TCP sockets among `sockets`.
    pub fn of<'a>(sockets: impl IntoIterator<Item = &'a SockDiag>) -> Census {
        let mut census = Census::default();
        for socket in sockets {
            census.add(socket);
        }
        census
    }

    /// Counts `socket`, if it speaks TCP.
    pub fn add(&mut self, socket: &SockDiag) {
        if socket.protocol == 6 {
            self.counts[index(socket.state)] += 1;
        }
    }

    /// Counts `n` more in `state`.
    pub fn add_many(&mut self, state: State, n: u64) {
        self.counts[index(state)] += n;
    }

    /// How many are in `state`.
    pub fn count(&self, state: State) -> u64 {
        self.counts[index(state)]
    }

    /// Every state with its count, zeros included, in the order of a connection's life.
    pub fn iter(&self) -> impl Iterator<Item = (State, u64)> + '_ {
        State::ALL.into_iter().zip(self.counts)
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}

fn index(state: State) -> usize {
    State::ALL
        .iter()
        .position(|s| *s == state)
        .expect("State::ALL holds every state")
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter()
            .filter(|(_, n)| *n > 0)
            .try_for_each(|(state, n)| writeln!(f, "{state} {n}"))
    }
}

impl Serialize for Census {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(State::ALL.len()))?;
        for (state, n) in self.iter() {
            map.serialize_entry(state.netstat(), &n)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Census {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Census, D::Error> {
        let mut census = Census::default();
        for (name, n) in BTreeMap::<String, u64>::deserialize(deserializer)? {
            census.add_many(name.parse().map_err(D::Error::custom)?, n);
        }
        Ok(census)
    }
}
