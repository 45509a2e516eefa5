//! `estab states`: how many connections are in each of the eleven states.

use super::{Source, Which, print};
use anyhow::Result;
use estab_doctor::census::Census;
use estab_doctor::kernel::{self, Ask};
use std::process::ExitCode;

/// Count TCP sockets by state, as netstat and awk do: a running estab stack's, or the kernel's where none runs
#[derive(clap::Args)]
pub(crate) struct Args {
    /// JSON with all eleven states, in netstat's spelling
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut census = Census::default();
    match args.which.source()? {
        Source::Stack(client) => census = Census::of(&client.sockets()?.sockets),
        Source::Kernel => {
            kernel::sockets(Ask::TCP, |socket| census.add(&socket.diag))?;
        }
    }
    if args.json {
        let json = serde_json::json!({ "schema": estab_control::SCHEMA, "states": census });
        return print(&format!("{json}\n"));
    }
    print(&census.to_string())
}
