//! `estab sysctl`: a stack's settings, and what sysctl.conf files have against them.

mod apply;

use super::{Source, Which, print};
use anyhow::{Context, Result, bail};
use apply::Plan;
use estab_doctor::finding::Severity;
use estab_doctor::sysctl_check::{ConfFile, Live, check, conf_files};
use estab_engine::proto::sysctl::{all, lookup, suggestions};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Read and set an estab stack's settings while it runs; check sysctl.conf files against today's facts
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    check: Option<Command>,
    /// Every setting
    #[arg(short, long, conflicts_with = "names")]
    all: bool,
    /// Set what sysctl.conf files say, or nothing if one line is wrong; without FILE /etc/sysctl.conf, `-` is standard input
    ///
    /// Keys that are the host's and no stack's are named and left out, and so is what fails behind a `-`.
    #[arg(short = 'p', long, value_name = "FILE", num_args = 0.., conflicts_with_all = ["names", "all", "write"])]
    load: Option<Vec<PathBuf>>,
    /// Set: NAME=VALUE; all of them or none
    #[arg(short, long, requires = "names")]
    write: bool,
    #[command(flatten)]
    which: Which,
    /// net.ipv4.tcp_syn_retries and the like; with -w, NAME=VALUE
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Say what is wrong or pointless in sysctl.conf files and in the running kernel's settings
    ///
    /// Without files: those that the system reads. The exit code is 1 if a finding is a warning or worse.
    Check(CheckArgs),
}

#[derive(clap::Args)]
struct CheckArgs {
    /// Print the first file as it should be; nothing is written
    #[arg(long)]
    fix: bool,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
    /// Leave the running kernel out
    #[arg(long)]
    no_live: bool,
    /// Files, in the order they are applied
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if let Some(Command::Check(args)) = &args.check {
        return check_files(args);
    }
    let plan = match &args.load {
        Some(files) if files.is_empty() => Some(Plan::of_files(&[PathBuf::from("/etc/sysctl.conf")])?),
        Some(files) => Some(Plan::of_files(files)?),
        None if args.write => Some(Plan::of_arguments(&args.names)?),
        None => None,
    };
    if !args.all && args.names.is_empty() && plan.is_none() {
        bail!("name a setting, -a for all, -w NAME=VALUE to set one, -p FILE to set a file's, or `check` for files");
    }
    match (args.which.source()?, plan) {
        (Source::Kernel, Some(_)) => bail!("no estab stack runs, and the kernel's settings are sysctl(8)'s to set"),
        (Source::Kernel, None) => show(args, kernel_value),
        (Source::Stack(client), Some(plan)) => plan.apply(&client),
        (Source::Stack(client), None) => show(args, |name| Ok(client.sysctl(name)?.value)),
    }
}

fn show(args: &Args, value: impl Fn(&str) -> Result<String>) -> Result<ExitCode> {
    let mut out = String::new();
    if args.all {
        for key in all().filter(|key| key.removed.is_none() && !key.name.contains('*')) {
            // A stack has not all the keys that Linux has.
            if let Ok(value) = value(key.name) {
                out.push_str(&format!("{} = {value}\n", key.name));
            }
        }
    }
    for name in &args.names {
        let name = name.replace('/', ".");
        let value = value(&name).with_context(|| unknown(&name))?;
        out.push_str(&format!("{name} = {value}\n"));
    }
    print(&out)
}

/// What is known of a name that was refused.
fn unknown(name: &str) -> String {
    match lookup(name) {
        Some(key) => match key.removed {
            Some(removed) => format!("{name} is gone: {}", removed.why),
            None => name.to_owned(),
        },
        None => match suggestions(name)[0] {
            Some(near) => format!("{name} (did you mean {}?)", near.name),
            None => name.to_owned(),
        },
    }
}

fn kernel_value(name: &str) -> Result<String> {
    if name.contains("..") {
        bail!("`{name}` is no setting's name");
    }
    let path = Path::new("/proc/sys").join(name.replace('.', "/"));
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn check_files(args: &CheckArgs) -> Result<ExitCode> {
    let paths = if args.files.is_empty() {
        conf_files(Path::new("/"))
    } else {
        args.files.clone()
    };
    let mut files = Vec::new();
    for path in &paths {
        files.push(ConfFile::read(path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    let live = if args.no_live {
        None
    } else {
        Live::at(Path::new("/proc"))
    };
    let first = files.first().map(|file| file.path.clone());
    let report = check(files, live.as_ref());
    if args.fix {
        let Some(fixed) = first.and_then(|path| report.fixed_file(&path)) else {
            bail!("there is no file to correct: name one");
        };
        return print(&fixed);
    }
    let code = match report.worst() {
        Some(Severity::Warning | Severity::Critical) => ExitCode::from(1),
        _ => ExitCode::SUCCESS,
    };
    if args.json {
        let json = serde_json::json!({ "schema": estab_doctor::sample::SCHEMA, "findings": report.findings });
        print(&(serde_json::to_string_pretty(&json)? + "\n"))?;
        return Ok(code);
    }
    let text: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    let text = if text.is_empty() {
        "Nothing found.\n".to_owned()
    } else {
        text.join("\n")
    };
    print(&text)?;
    Ok(code)
}
