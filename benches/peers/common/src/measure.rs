//! Measuring: CPU time, memory, and how often to repeat.

use std::time::Duration;

/// CPU time of this process, all threads.
pub fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to write to; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Resident bytes of this process.
pub fn rss() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

/// The middle of `values`; of an even number, the lower middle.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len().max(1) - 1) / 2).copied().unwrap_or(f64::NAN)
}

/// How long and how often to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// CPU time of one run; zero: nothing is measured, but the op done `runs` times (to count its instructions).
    pub run: Duration,
    /// Runs, of which the median counts.
    pub runs: usize,
}

impl Plan {
    /// The plan that `--quick` or its absence means.
    pub fn new(quick: bool) -> Plan {
        Plan {
            run: Duration::from_millis(if quick { 40 } else { 300 }),
            runs: 3,
        }
    }

    /// Nanoseconds of CPU time that one `op` takes, of each run. `op` runs once before, unmeasured; an error ends it.
    pub fn ns_per_op<E>(&self, mut op: impl FnMut() -> Result<(), E>) -> Result<Vec<f64>, E> {
        op()?;
        if self.run.is_zero() {
            (0..self.runs).try_for_each(|_| op())?;
            return Ok(Vec::new());
        }
        let mut batch = 1u64;
        let mut all = Vec::new();
        while all.len() < self.runs {
            let (begin, mut ops) = (cpu_time(), 0);
            let spent = loop {
                for _ in 0..batch {
                    op()?;
                }
                ops += batch;
                let spent = cpu_time() - begin;
                if spent >= self.run {
                    break spent;
                }
                // Look at the clock about a hundred times a run: it costs a system call.
                if spent < self.run / 100 * (ops / batch) as u32 {
                    batch = (batch * 2).min(1 << 20);
                }
            };
            all.push(spent.as_nanos() as f64 / ops as f64);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn an_op_that_takes_twice_as_long_measures_longer() {
        let plan = Plan {
            run: Duration::from_millis(5),
            runs: 3,
        };
        let cost = |n: u64| {
            let mut x = 1u64;
            let ns = plan.ns_per_op(|| {
                (0..n).for_each(|i| x = std::hint::black_box(x.wrapping_mul(31) + i));
                Ok::<(), ()>(())
            });
            median(&ns.unwrap())
        };
        assert!(cost(20_000) > cost(100));
    }
}
