//! The stacks compared.

mod estab;
mod ipstack;
mod kernel;
#[cfg(lwip)]
mod lwip;
mod smoltcp;

use crate::works;
use anyhow::{Context, Result, bail, ensure};
use peers_common::Plan;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a subject's works are done.
pub enum How {
    /// By this program.
    Here,
    /// By a program in Go, built when it is needed.
    Go,
    /// By nobody, and why.
    #[allow(dead_code, reason = "unless a library is missing")]
    Absent(&'static str),
}

#[cfg(lwip)]
const LWIP: How = How::Here;
#[cfg(not(lwip))]
const LWIP: How = How::Absent("liblwip-dev was not installed when this was built");

/// All subjects, in the table's order.
pub const ALL: [(&str, How); 6] = [
    ("estab", How::Here),
    ("smoltcp", How::Here),
    ("lwip", LWIP),
    ("ipstack", How::Here),
    ("gvisor", How::Go),
    ("kernel", How::Here),
];

/// Builds gvisor/main.go with Debian's packages, which need GOPATH; the program's path.
pub fn build_gvisor() -> Result<PathBuf> {
    const GOPATH: &str = "/usr/share/gocode";
    if !Path::new(GOPATH).join("src/gvisor.dev/gvisor").exists() {
        bail!("Debian's golang-gvisor-gvisor-dev is not installed");
    }
    let program = std::env::current_exe()?.with_file_name("gvisor");
    let status = Command::new("go")
        .args(["build", "-o"])
        .args([program.as_os_str(), ".".as_ref()])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/gvisor"))
        .envs([("GO111MODULE", "off"), ("GOPATH", GOPATH)])
        .status()
        .context("go: Debian's package golang has it")?;
    ensure!(status.success(), "go build failed");
    Ok(program)
}

/// Does a work of a subject of this program.
pub fn run(name: &str, work: &str, point: u64, plan: &Plan) -> Result<()> {
    match name {
        "estab" => works::run::<estab::Estab>(work, point, plan),
        "smoltcp" => works::run::<smoltcp::Smoltcp>(work, point, plan),
        #[cfg(lwip)]
        "lwip" => works::run::<lwip::Lwip>(work, point, plan),
        "ipstack" => works::run::<ipstack::Ipstack>(work, point, plan),
        "kernel" => works::run::<kernel::Kernel>(work, point, plan),
        _ => bail!("{name}: no such subject"),
    }
}
