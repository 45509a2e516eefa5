//! The stacks compared.

mod estab;
mod kernel;
mod smoltcp;

use crate::works;
use anyhow::{Result, bail};
use peers_common::Plan;

/// Where a subject's works are done.
pub enum How {
    /// By this program.
    Here,
}

/// All subjects, in the table's order.
pub const ALL: [(&str, How); 3] = [("estab", How::Here), ("smoltcp", How::Here), ("kernel", How::Here)];

/// Does a work of a subject of this program.
pub fn run(name: &str, work: &str, points: &[u64], plan: &Plan) -> Result<()> {
    match name {
        "estab" => works::run::<estab::Estab>(work, points, plan),
        "smoltcp" => works::run::<smoltcp::Smoltcp>(work, points, plan),
        "kernel" => works::run::<kernel::Kernel>(work, points, plan),
        _ => bail!("{name}: no such subject"),
    }
}
