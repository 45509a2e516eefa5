//! `estab states`: how many connections are in each of the eleven states.

use super::doctor::{duration, wrapped};
use super::{Source, Which, print};
use anyhow::Result;
use clap::ValueEnum;
use estab_doctor::census::Census;
use estab_doctor::kernel::owners::Owners;
use estab_doctor::kernel::{self, Ask};
use estab_doctor::socket::Socket;
use estab_doctor::states::{DIFFERENCES, diagram, meaning};
use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Count TCP sockets by state, as netstat and awk do: a running estab stack's, or the kernel's where none runs
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Count for each local port, remote address or process
    #[arg(long, value_enum, value_name = "WHAT")]
    by: Option<By>,
    /// Say what each state means and when it is worth worry (so on a terminal), and where ss and netstat differ
    #[arg(long)]
    explain: bool,
    /// Draw the state machine with the counts on it
    #[arg(long, conflicts_with_all = ["by", "json"])]
    diagram: bool,
    /// Count again and again, every two seconds or as told
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "2s", value_parser = duration)]
    watch: Option<Duration>,
    /// JSON with all eleven states, in netstat's spelling
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// The local port
    Port,
    /// The remote address
    Remote,
    /// The process; a TIME_WAIT has none
    Process,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let source = args.which.source()?;
    loop {
        let text = count(args, &source)?;
        let Some(pause) = args.watch else {
            return print(&text);
        };
        let clear = if args.json { "" } else { "\x1b[H\x1b[J" };
        print(&format!("{clear}{text}"))?;
        std::thread::sleep(pause);
    }
}

fn count(args: &Args, source: &Source) -> Result<String> {
    let owners = match (args.by, source) {
        (Some(By::Process), Source::Kernel) => Some(Owners::read(Path::new("/proc"))),
        _ => None,
    };
    let mut all = Census::default();
    let mut groups: HashMap<String, Census> = HashMap::new();
    let mut add = |socket: Socket| {
        all.add(&socket.diag);
        if let Some(by) = args.by.filter(|_| socket.is_tcp()) {
            groups
                .entry(group(by, &socket, owners.as_ref()))
                .or_default()
                .add(&socket.diag);
        }
    };
    match source {
        Source::Stack(client) => client.sockets()?.sockets.into_iter().map(Socket::from).for_each(add),
        Source::Kernel => {
            kernel::sockets(Ask::TCP, &mut add)?;
        }
    }
    let mut groups: Vec<(String, Census)> = groups.into_iter().collect();
    groups.sort_by(|a, b| b.1.total().cmp(&a.1.total()).then_with(|| a.0.cmp(&b.0)));
    if args.json {
        let mut json = serde_json::json!({ "schema": estab_control::SCHEMA, "states": all });
        if args.by.is_some() {
            let groups: Vec<_> = groups
                .iter()
                .map(|(name, census)| serde_json::json!({ "name": name, "states": census }))
                .collect();
            json["groups"] = groups.into();
        }
        return Ok(format!("{json}\n"));
    }
    if args.diagram {
        return Ok(diagram(&all));
    }
    if args.by.is_some() {
        // One line each, so that sort and awk can go on with it.
        let lines = groups.iter().flat_map(|(name, census)| {
            let present = census.iter().filter(|(_, n)| *n > 0);
            present.map(move |(state, n)| format!("{name} {state} {n}\n"))
        });
        return Ok(lines.collect());
    }
    if args.explain || std::io::stdout().is_terminal() {
        let mut out = String::new();
        for (state, n) in all.iter().filter(|(_, n)| args.explain || *n > 0) {
            out.push_str(&wrapped(&format!("{state:<11} {n:>7}  "), meaning(state)));
        }
        if args.explain {
            out.push('\n');
            out.push_str(&wrapped("", DIFFERENCES));
        }
        return Ok(out);
    }
    Ok(all.to_string())
}

fn group(by: By, socket: &Socket, owners: Option<&Owners>) -> String {
    match by {
        By::Port => socket.diag.local.port().to_string(),
        By::Remote => socket.remote().ip().to_string(),
        By::Process => {
            let holder = owners.and_then(|owners| owners.of(socket.diag.id).next());
            holder.map_or_else(
                || "-".to_owned(),
                |(process, _)| format!("{}/{}", process.pid, process.name),
            )
        }
    }
}
