//! What the links do, which changes every few seconds.

use crate::dice::Dice;
use estab_engine::Instant;
use estab_sim::{LinkConfig, Net};
use std::time::Duration;

/// Most that a packet travels: the delay, and a full buffer.
pub(crate) const SLOWEST: Duration = Duration::from_millis(100 + 150);

pub(crate) struct Weather {
    dice: Dice,
    next: Instant,
}

impl Weather {
    pub(crate) fn new(seed: u64) -> Weather {
        Weather {
            dice: Dice::new(!seed),
            next: Instant::ZERO,
        }
    }

    /// The links to begin with.
    pub(crate) fn links(&mut self, seed: u64) -> [LinkConfig; 2] {
        [0, 1].map(|link| LinkConfig {
            seed: seed * 2 + link,
            ..self.link()
        })
    }

    /// When it changes.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// It changes.
    pub(crate) fn turn(&mut self, net: &mut Net) {
        let now = net.now();
        let dark = self.dice.chance(0.12);
        let which = self.dice.pick(&[[true, false], [false, true], [true, true]]);
        let length = Duration::from_millis(self.dice.spread(1_000, 60_000));
        for (link, hit) in which.into_iter().enumerate() {
            let mut config = self.link();
            if dark && hit {
                config.blackouts.push((now, now + length));
            }
            net.link(link).set(config);
        }
        let lull = self.dice.millis(2_000, 15_000);
        self.next = now + if dark { length + lull } else { lull };
    }

    /// Nothing goes wrong any more.
    pub(crate) fn clear(&mut self, net: &mut Net) {
        for link in [0, 1] {
            net.link(link).set(LinkConfig {
                rate: Some(10_000_000),
                delay: Duration::from_millis(10),
                buffer: 100_000,
                ..LinkConfig::default()
            });
        }
    }

    fn link(&mut self) -> LinkConfig {
        let dice = &mut self.dice;
        let rate = dice.spread(1_000_000, 20_000_000);
        let queue_ms = dice.spread(20, 150);
        LinkConfig {
            rate: Some(rate),
            delay: Duration::from_millis(dice.spread(1, 100)),
            buffer: (rate / 8 * queue_ms / 1000) as usize,
            loss: dice.pick(&[0.0, 0.0, 0.001, 0.01, 0.05, 0.2]),
            duplicate: dice.pick(&[0.0, 0.0, 0.01, 0.1]),
            reorder: dice.pick(&[0.0, 0.0, 0.01, 0.1]),
            corrupt: dice.pick(&[0.0, 0.0, 0.001, 0.02]),
            blackouts: Vec::new(),
            seed: 0,
        }
    }
}
