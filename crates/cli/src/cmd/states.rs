//! `estab states`: how many connections are in each of the eleven states.

use super::{Which, print};
use anyhow::Result;
use estab_doctor::census::Census;
use std::process::ExitCode;

/// Count the TCP sockets of a running stack by state, as netstat and awk do
#[derive(clap::Args)]
pub(crate) struct Args {
    /// JSON with all eleven states, in netstat's spelling
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let answer = args.which.client()?.sockets()?;
    let census = Census::of(&answer.sockets);
    if args.json {
        let json = serde_json::json!({ "schema": estab_control::SCHEMA, "states": census });
        return print(&format!("{json}\n"));
    }
    print(&census.to_string())
}
