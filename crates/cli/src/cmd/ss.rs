//! `estab ss`: the sockets of a running stack or of the kernel, with ss's columns, flags and filters.

use super::{Source, Which, print};
use anyhow::Result;
use estab_doctor::filter::{Filter, States};
use estab_doctor::kernel::message::ALL_STATES;
use estab_doctor::kernel::owners::Owners;
use estab_doctor::kernel::{self, Ask};
use estab_doctor::socket::Socket;
use estab_doctor::ss::{Select, View, render};
use estab_engine::proto::State;
use std::path::Path;
use std::process::ExitCode;

/// Show sockets as ss does: a running estab stack's, or the kernel's where none runs
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
    /// The user, the socket's numbers, its shut-down halves, and orphans
    #[arg(short, long)]
    extended: bool,
    /// TCP's details
    #[arg(short, long)]
    info: bool,
    /// The memory of each socket
    #[arg(short, long)]
    memory: bool,
    /// The processes that hold it; without root only your own
    #[arg(short, long)]
    processes: bool,
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
    /// ss's filter: state time-wait, exclude bucket, sport = :80, dst 10.0.0.0/8, with and, or, not and ( )
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let filter = Filter::parse(&args.filter)?;
    let select = Select {
        tcp: args.tcp,
        udp: args.udp,
        listening: args.listening,
        all: args.all,
        ipv4: args.ipv4,
        ipv6: args.ipv6,
    };
    let states = states(args, &filter);
    let view = View {
        timers: args.options,
        extended: args.extended,
        memory: args.memory,
        info: args.info,
        netid: args.tcp == args.udp,
        state: !states.is_single(),
        no_header: args.no_header,
    };
    let source = args.which.source()?;
    let mut sockets: Vec<Socket> = Vec::new();
    let mut owners = None;
    match &source {
        Source::Stack(client) => sockets.extend(client.sockets()?.sockets.into_iter().map(Socket::from)),
        Source::Kernel => {
            let ask = Ask {
                tcp: args.tcp || !args.udp,
                udp: args.udp || !args.tcp,
                ipv4: args.ipv4 || !args.ipv6,
                ipv6: args.ipv6 || !args.ipv4,
                states: if args.all { ALL_STATES } else { states.linux() },
                info: args.info || args.json,
                memory: args.memory || args.json,
            };
            let looked = kernel::sockets(ask, |socket| {
                if select.shows(&socket, &filter) {
                    sockets.push(socket);
                }
            })?;
            if let Some(unseen) = looked.without_netlink {
                anstream::eprintln!("estab ss: {unseen}; read from /proc/net, without details");
            }
            if looked.interrupted {
                anstream::eprintln!("estab ss: sockets came and went meanwhile: some may be missing or double");
            }
            owners = args.processes.then(|| Owners::read(Path::new("/proc")));
            if let Some(hidden) = owners.as_ref().map(|owners| owners.hidden).filter(|n| *n > 0) {
                anstream::eprintln!("estab ss: {hidden} processes of other users can't be looked into without root");
            }
        }
    }
    sockets.retain(|socket| select.shows(socket, &filter));
    if args.json {
        return print(&(json(&sockets, owners.as_ref())? + "\n"));
    }
    print(&render(&sockets, view, owners.as_ref()))
}

/// The states that may be shown: UDP's two are there with any choice of ss's own.
fn states(args: &Args, filter: &Filter) -> States {
    let default = || {
        let listening = States::NONE.with(State::Listen);
        let udp = States::NONE.with(State::Closed);
        let ss = States::all().without(listening.and(udp).with(State::SynRcvd).with(State::TimeWait));
        match (args.all, args.listening) {
            (true, _) => States::all(),
            (_, true) => listening.and(udp),
            _ => ss,
        }
    };
    filter.states.unwrap_or_else(default)
}

/// `{"schema": 1, "sockets": […]}`; each with `users` where -p was given.
fn json(sockets: &[Socket], owners: Option<&Owners>) -> Result<String> {
    let mut rows = Vec::with_capacity(sockets.len());
    for socket in sockets {
        let mut row = serde_json::to_value(socket)?;
        if let (Some(owners), Some(row)) = (owners, row.as_object_mut()) {
            let users: Vec<_> = owners
                .of(socket.diag.id)
                .map(|(process, fd)| serde_json::json!({ "pid": process.pid, "name": process.name, "fd": fd }))
                .collect();
            row.insert("users".into(), users.into());
        }
        rows.push(row);
    }
    let answer = serde_json::json!({ "schema": estab_control::SCHEMA, "sockets": rows });
    Ok(serde_json::to_string_pretty(&answer)?)
}
