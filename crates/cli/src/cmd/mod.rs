//! The subcommands.

pub(crate) mod gateway;
pub(crate) mod ss;
pub(crate) mod states;

use anyhow::Result;
use estab_control::Client;
use std::io::Write;
use std::process::ExitCode;

/// Which running stack is meant.
#[derive(clap::Args)]
pub(crate) struct Which {
    /// The process that runs the stack, where there are several
    #[arg(long)]
    pid: Option<u32>,
}

impl Which {
    pub(crate) fn client(&self) -> Result<Client> {
        Ok(Client::find(&estab_control::path::dir(), self.pid)?)
    }
}

/// Prints to standard output; a reader that has had enough (`| head`) ends the command in peace.
pub(crate) fn print(text: &str) -> Result<ExitCode> {
    match anstream::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}
