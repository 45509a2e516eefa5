//! The `estab` command: one file per subcommand in `cmd`.

mod cmd;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// A userspace TCP/IP stack that behaves as Linux does and says what each connection is doing and why
#[derive(Parser)]
#[command(name = "estab", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Doctor(cmd::doctor::Args),
    Gateway(cmd::gateway::Args),
    Ss(cmd::ss::Args),
    States(cmd::states::Args),
    Sysctl(cmd::sysctl::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Doctor(args) => cmd::doctor::run(&args),
        Command::Gateway(args) => cmd::gateway::run(args),
        Command::Ss(args) => cmd::ss::run(&args),
        Command::States(args) => cmd::states::run(&args),
        Command::Sysctl(args) => cmd::sysctl::run(&args),
    };
    result.unwrap_or_else(|error| {
        anstream::eprintln!("estab: {error:#}");
        ExitCode::from(1)
    })
}
