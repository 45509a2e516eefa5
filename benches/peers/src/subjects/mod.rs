//! The stacks compared.

mod estab;
mod kernel;
#[cfg(lwip)]
mod lwip;
mod smoltcp;

use crate::works;
use anyhow::{Result, bail};
use peers_common::Plan;

/// Where a subject's works are done.
pub enum How {
    /// By this program.
    Here,
    /// By nobody, and why.
    #[allow(dead_code, reason = "unless a library is missing")]
    Absent(&'static str),
}

#[cfg(lwip)]
const LWIP: How = How::Here;
#[cfg(not(lwip))]
const LWIP: How = How::Absent("liblwip-dev was not installed when this was built");

/// All subjects, in the table's order.
pub const ALL: [(&str, How); 4] = [
    ("estab", How::Here),
    ("smoltcp", How::Here),
    ("lwip", LWIP),
    ("kernel", How::Here),
];

/// Does a work of a subject of this program.
pub fn run(name: &str, work: &str, point: u64, plan: &Plan) -> Result<()> {
    match name {
        "estab" => works::run::<estab::Estab>(work, point, plan),
        "smoltcp" => works::run::<smoltcp::Smoltcp>(work, point, plan),
        #[cfg(lwip)]
        "lwip" => works::run::<lwip::Lwip>(work, point, plan),
        "kernel" => works::run::<kernel::Kernel>(work, point, plan),
        _ => bail!("{name}: no such subject"),
    }
}
