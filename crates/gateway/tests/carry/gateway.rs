//! A small `estab gateway`: `[queues=N] [nofile=N] [loopback] [dns=ADDR]… [-4] [-6] [publish=…]… [syn-proxy[=TUN]]
//! [counters=FILE] [sysctl=NAME VALUE]… -- CMD`.

use estab_gateway::ns::{self, LaunchConfig};
use estab_gateway::{Config, Gateway, Queue};
use std::ffi::OsString;
use std::process::ExitCode;

pub(crate) fn main(args: &[OsString]) -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .without_time()
        .init();
    let mut launch = LaunchConfig::detect();
    let mut nofile = None;
    let mut syn_proxy = None;
    let mut counters = None;
    let mut config = Config {
        ipv4: None,
        ipv6: None,
        publish: Vec::new(),
        host_loopback: false,
        resolvers: Vec::new(),
        memory: estab_gateway::host_memory(),
        sysctls: Vec::new(),
    };
    let end = args.iter().position(|arg| arg == "--").expect("a command follows --");
    for option in &args[..end] {
        let option = option.to_str().expect("options are text");
        match option.split_once('=') {
            Some(("queues", n)) => launch.queues = n.parse().expect("a number"),
            Some(("nofile", n)) => nofile = Some(n.parse().expect("a number")),
            Some(("dns", address)) => config.resolvers.push(address.parse().expect("an address")),
            Some(("publish", port)) => config.publish.push(port.parse().expect("a published port")),
            Some(("counters", file)) => counters = Some(file),
            Some(("syn-proxy", tun)) => syn_proxy = Some(Some(tun)),
            Some(("sysctl", setting)) => {
                let (name, value) = setting.split_once(' ').expect("a name and a value");
                config.sysctls.push((name.into(), value.into()));
            }
            None if option == "syn-proxy" => syn_proxy = Some(None),
            None if option == "loopback" => config.host_loopback = true,
            None if option == "-4" => launch.ipv6 = None,
            None if option == "-6" => launch.ipv4 = None,
            _ => panic!("{option}?"),
        }
    }
    launch.name_hosts();
    (config.ipv4, config.ipv6) = (launch.ipv4, launch.ipv6);
    let mut guest = ns::launch(&launch, &args[end + 1..]).unwrap_or_else(|err| panic!("{err}"));
    if nofile.is_some() {
        // Of the gateway alone: the guest has begun.
        let limit = rustix::process::Rlimit {
            current: nofile,
            maximum: nofile,
        };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).expect("less is allowed");
    }
    let queues = Queue::of_tun(std::mem::take(&mut guest.tuns), None).expect("the TUN is there");
    let clients = match syn_proxy.map(|named| estab_gateway::open_syn_proxy(&config, named, queues.len())) {
        None => Vec::new(),
        Some(Ok(tun)) => Queue::of_tun(tun.queues, None).expect("the TUN is there"),
        Some(Err(err)) => return refused(&err),
    };
    let gateway = match Gateway::start(config, queues, clients, || None) {
        Ok(gateway) => gateway,
        Err(err) => return refused(&err),
    };
    guest.start().unwrap_or_else(|err| panic!("{err}"));
    let status = guest.wait().expect("the command is ours");
    if let Some(file) = counters {
        let all = gateway.handle().counters().into_iter();
        let lines: String = all.map(|(name, value)| format!("{name} {value}\n")).collect();
        std::fs::write(file, lines).expect("the test's folder");
    }
    gateway.finish();
    ExitCode::from(ns::exit_code(status))
}

fn refused(why: &dyn std::error::Error) -> ExitCode {
    eprintln!("{why}");
    ExitCode::from(125)
}
