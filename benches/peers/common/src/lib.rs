//! What every comparison needs: CPU time, medians, samples as JSON, tables with ratios, plots.

pub mod measure;
pub mod plot;
pub mod sample;
pub mod table;

pub use measure::{Plan, cpu_time, median, rss};
pub use sample::{Results, Sample};
