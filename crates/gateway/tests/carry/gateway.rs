//! A small `estab gateway`: `[queues=N] [nofile=N] [loopback] [dns=ADDR]… [-4] [-6] [publish=…]… -- CMD`.

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
    let gateway = match Gateway::start(config, queues, || None) {
        Ok(gateway) => gateway,
        Err(err) => {
            eprintln!("{err}");
            return ExitCode::from(125);
        }
    };
    guest.start().unwrap_or_else(|err| panic!("{err}"));
    let status = guest.wait().expect("the command is ours");
    gateway.finish();
    ExitCode::from(ns::exit_code(status))
}
