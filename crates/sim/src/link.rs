//! One direction of a link: packets go in, and come out later, or twice, or in another order, or not at all.

use estab_engine::Instant;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::time::Duration;

/// What one direction of a link does to packets. Probabilities are per packet, 0 to 1.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Bits per second; `None` is infinitely fast.
    pub rate: Option<u64>,
    /// Time a packet travels after it was serialised.
    pub delay: Duration,
    /// Bytes that may wait for their turn to be serialised; a packet that finds no room is dropped.
    pub buffer: usize,
    /// Probability that a packet is lost.
    pub loss: f64,
    /// Probability that a packet arrives twice.
    pub duplicate: f64,
    /// Probability that a packet overtakes: it skips the delay, as netem's `reorder` does.
    pub reorder: f64,
    /// Probability that one bit of a packet is flipped.
    pub corrupt: f64,
    /// Times during which nothing passes: from, until.
    pub blackouts: Vec<(Instant, Instant)>,
    /// Two links with the same seed and the same packets behave alike.
    pub seed: u64,
}

impl Default for LinkConfig {
    fn default() -> LinkConfig {
        LinkConfig {
            rate: None,
            delay: Duration::ZERO,
            buffer: usize::MAX,
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            corrupt: 0.0,
            blackouts: Vec::new(),
            seed: 0,
        }
    }
}

/// What became of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It will arrive.
    Carried,
    /// It will arrive with a bit flipped.
    Corrupted,
    /// It was lost at random or in a blackout.
    Lost,
    /// The buffer was full.
    Overflowed,
}

/// What a link did so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LinkStats {
    /// Packets offered.
    pub offered: u64,
    /// Packets that came out, duplicates included.
    pub delivered: u64,
    /// Packets lost at random or in a blackout.
    pub lost: u64,
    /// Packets that found the buffer full.
    pub overflowed: u64,
    /// Packets delivered twice.
    pub duplicated: u64,
    /// Packets that overtook.
    pub reordered: u64,
    /// Packets with a flipped bit.
    pub corrupted: u64,
    /// Packets asked for more than [`LATE`] after their time: on real time, whoever drives the link fell behind.
    pub late: u64,
    /// The longest that a packet was asked for after its time.
    pub latest: Duration,
}

/// What counts as late.
pub const LATE: Duration = Duration::from_millis(1);

/// One direction of a link.
#[derive(Debug)]
pub struct Link {
    config: LinkConfig,
    rng: ChaCha8Rng,
    /// Until when the line is busy with what was offered before.
    busy_until: Instant,
    /// By arrival, then by the order in which they were offered.
    travelling: BTreeMap<(Instant, u64), Vec<u8>>,
    stats: LinkStats,
}

impl Link {
    /// A link that behaves as `config` says.
    pub fn new(config: LinkConfig) -> Link {
        let rng = ChaCha8Rng::seed_from_u64(config.seed);
        Link {
            config,
            rng,
            busy_until: Instant::ZERO,
            travelling: BTreeMap::new(),
            stats: LinkStats::default(),
        }
    }

    /// Sends `packet` at `now`.
    pub fn offer(&mut self, now: Instant, packet: &[u8]) -> Fate {
        self.stats.offered += 1;
        // All dice are thrown for every packet, so that changing one probability leaves the others' throws alone.
        let [loss, duplicate, reorder, corrupt] = std::array::from_fn(|_| self.throw());
        let Some(serialised) = self.serialise(now, packet.len()) else {
            self.stats.overflowed += 1;
            return Fate::Overflowed;
        };
        let dark = self
            .config
            .blackouts
            .iter()
            .any(|(from, until)| *from <= now && now < *until);
        if dark || loss < self.config.loss {
            self.stats.lost += 1;
            return Fate::Lost;
        }
        let mut packet = packet.to_vec();
        let mut fate = Fate::Carried;
        if corrupt < self.config.corrupt && !packet.is_empty() {
            let bit = self.rng.next_u64() as usize % (packet.len() * 8);
            packet[bit / 8] ^= 1 << (bit % 8);
            self.stats.corrupted += 1;
            fate = Fate::Corrupted;
        }
        let arrival = if reorder < self.config.reorder {
            self.stats.reordered += 1;
            serialised
        } else {
            serialised + self.config.delay
        };
        if duplicate < self.config.duplicate {
            self.stats.duplicated += 1;
            self.travelling
                .insert((arrival, self.stats.offered * 2 + 1), packet.clone());
        }
        self.travelling.insert((arrival, self.stats.offered * 2), packet);
        fate
    }

    /// Behaves as `config` says from now on; its seed is the old one. What travels is not touched.
    pub fn set(&mut self, config: LinkConfig) {
        self.config = config;
    }

    /// The next packet that has arrived by `now`.
    pub fn poll(&mut self, now: Instant) -> Option<Vec<u8>> {
        let entry = self.travelling.first_entry()?;
        let arrival = entry.key().0;
        if arrival > now {
            return None;
        }
        let late = now.since(arrival);
        self.stats.late += u64::from(late > LATE);
        self.stats.latest = self.stats.latest.max(late);
        self.stats.delivered += 1;
        Some(entry.remove())
    }

    /// When the next packet arrives.
    pub fn next(&self) -> Option<Instant> {
        self.travelling.first_key_value().map(|((arrival, _), _)| *arrival)
    }

    /// What it did so far.
    pub fn stats(&self) -> LinkStats {
        self.stats
    }

    /// When `bytes` offered at `now` have left the sender, or `None` when the buffer is full.
    fn serialise(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        let Some(rate) = self.config.rate else { return Some(now) };
        let nanos = |bits: u128| Duration::from_nanos((bits * 1_000_000_000 / u128::from(rate.max(1))) as u64);
        let start = self.busy_until.max(now);
        let waiting = start.since(now).as_nanos() * u128::from(rate) / 8_000_000_000;
        if waiting + bytes as u128 > self.config.buffer as u128 && waiting > 0 {
            return None;
        }
        self.busy_until = start + nanos(bytes as u128 * 8);
        Some(self.busy_until)
    }

    /// A number from 0 (included) to 1 (excluded).
    fn throw(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}
