//! The least value of a sliding stretch of time, from three samples (Kathleen Nichols' windowed filter;
//! Linux: lib/win_minmax.c).

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: u32,
    value: u32,
}

/// Keeps the best, the second and the third best value, each later than the one before.
#[derive(Clone, Debug)]
pub(crate) struct MinFilter([Sample; 3]);

impl MinFilter {
    /// A filter that has seen nothing: its value is `u32::MAX`.
    pub(crate) fn new() -> MinFilter {
        MinFilter([Sample { at: 0, value: u32::MAX }; 3])
    }

    /// The least value.
    pub(crate) fn get(&self) -> u32 {
        self.0[0].value
    }

    /// Forgets all but `value`.
    pub(crate) fn reset(&mut self, at: u32, value: u32) {
        self.0 = [Sample { at, value }; 3];
    }

    /// Takes `value` at the time `at`; what is older than `window` is forgotten.
    pub(crate) fn sample(&mut self, window: u32, at: u32, value: u32) {
        let new = Sample { at, value };
        let [best, second, third] = &mut self.0;
        if value <= best.value || at.wrapping_sub(third.at) > window {
            return self.reset(at, value);
        }
        if value <= second.value {
            (*second, *third) = (new, new);
        } else if value <= third.value {
            *third = new;
        }
        let age = at.wrapping_sub(best.at);
        if age > window {
            // The best is too old: the others move up.
            (*best, *second, *third) = (*second, *third, new);
            if at.wrapping_sub(best.at) > window {
                (*best, *second, *third) = (*second, *third, new);
            }
        } else if second.at == best.at && age > window / 4 {
            // A quarter of the window without a better one: take a second choice from the second quarter,
            (*second, *third) = (new, new);
        } else if third.at == second.at && age > window / 2 {
            // and a third choice from the last half.
            *third = new;
        }
    }
}
