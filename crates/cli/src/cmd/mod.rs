//! The subcommands.

pub(crate) mod doctor;
pub(crate) mod gateway;
pub(crate) mod ss;
pub(crate) mod states;
pub(crate) mod sysctl;

use anyhow::{Result, bail};
use estab_control::{Client, ClientError};
use std::io::Write;
use std::process::ExitCode;

/// Which stack is meant.
#[derive(clap::Args)]
pub(crate) struct Which {
    /// The kernel's own sockets, in this network namespace; so anyway where no estab stack runs
    #[arg(long, conflicts_with = "pid")]
    kernel: bool,
    /// The process that runs the stack, where there are several; within a gateway, that gateway's
    #[arg(long, env = "ESTAB_PID")]
    pid: Option<u32>,
}

/// Whose sockets are looked at.
pub(crate) enum Source {
    Kernel,
    Stack(Client),
}

impl Which {
    pub(crate) fn source(&self) -> Result<Source> {
        if self.kernel {
            return Ok(Source::Kernel);
        }
        match Client::find(&estab_control::path::dir(), self.pid) {
            Ok(client) => Ok(Source::Stack(client)),
            Err(ClientError::None(_)) => Ok(Source::Kernel),
            Err(ClientError::Several(pids)) => {
                let list: Vec<String> = pids.iter().map(u32::to_string).collect();
                bail!(
                    "several estab stacks run: name one with --pid ({}), or the kernel with --kernel",
                    list.join(", ")
                )
            }
            Err(err) => Err(err.into()),
        }
    }
}

/// Prints to standard output; a reader that has had enough (`| head`) ends the command in peace.
pub(crate) fn print(text: &str) -> Result<ExitCode> {
    match anstream::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}
