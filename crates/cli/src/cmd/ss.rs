//! `estab ss`: the sockets of a running stack, with ss's columns and flags.

use super::{Which, print};
use anyhow::Result;
use estab_doctor::ss::{Select, View, render};
use std::process::ExitCode;

/// Show the sockets of a running stack, as ss does
#[derive(clap::Args)]
pub(crate) struct Args {
    /// TCP only
    #[arg(short, long)]
    tcp: bool,
    /// UDP only
    #[arg(short, long)]
    udp: bool,
    /// Every state
    #[arg(short, long)]
    all: bool,
    /// Listening sockets only
    #[arg(short, long, conflicts_with = "all")]
    listening: bool,
    /// Numbers for ports (always so: accepted for ss's sake)
    #[arg(short, long)]
    numeric: bool,
    /// The timer that runs, its rest and its retries
    #[arg(short, long)]
    options: bool,
    /// The socket's number within its stack, and orphans
    #[arg(short, long)]
    extended: bool,
    /// TCP's details
    #[arg(short, long)]
    info: bool,
    /// IPv4 only
    #[arg(short = '4', long)]
    ipv4: bool,
    /// IPv6 only
    #[arg(short = '6', long)]
    ipv6: bool,
    /// No heading
    #[arg(short = 'H', long)]
    no_header: bool,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let select = Select {
        tcp: args.tcp,
        udp: args.udp,
        listening: args.listening,
        all: args.all,
        ipv4: args.ipv4,
        ipv6: args.ipv6,
    };
    let view = View {
        timers: args.options,
        extended: args.extended,
        info: args.info,
        no_header: args.no_header,
    };
    let mut answer = args.which.client()?.sockets()?;
    answer.sockets.retain(|socket| select.shows(socket));
    if args.json {
        return print(&(serde_json::to_string_pretty(&answer)? + "\n"));
    }
    print(&render(&answer.sockets, view))
}
