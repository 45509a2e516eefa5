//! Settings for a running stack: all of them are looked at before the first is applied.

use super::{print, unknown};
use anyhow::{Context, Result, bail};
use estab_control::Client;
use estab_doctor::sysctl_check::{Assignment, ConfFile};
use estab_engine::proto::sysctl::{Applies, lookup};
use estab_engine::{Config, Instant, Stack, SysctlError};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What is to become of some settings.
#[derive(Default)]
pub(super) struct Plan {
    /// Taken by a stack like the running one, in order.
    settings: Vec<Assignment>,
    /// Left out, and why that is none of our business, or was asked for.
    notes: Vec<String>,
    /// Why nothing is applied.
    errors: Vec<String>,
}

/// What a setting is to a stack.
enum Verdict {
    Taken,
    /// Something else keeps it.
    NotOurs(String),
    Wrong(String),
}

impl Plan {
    /// The settings of files; `-` is standard input.
    pub(super) fn of_files(paths: &[PathBuf]) -> Result<Plan> {
        let mut plan = Plan::default();
        let mut stack = stack();
        for path in paths {
            for setting in read(path)?.settings() {
                match setting {
                    Ok(setting) => plan.add(&mut stack, setting),
                    Err(place) => plan.errors.push(format!(
                        "{place}: no setting; write it as NAME = VALUE, or as a comment"
                    )),
                }
            }
        }
        Ok(plan)
    }

    /// The settings of a command line.
    pub(super) fn of_arguments(arguments: &[String]) -> Result<Plan> {
        let mut plan = Plan::default();
        let mut stack = stack();
        for argument in arguments {
            let Some((name, value)) = argument.split_once('=') else {
                bail!("`{argument}`: -w wants NAME=VALUE");
            };
            let setting = Assignment {
                name: name.trim().into(),
                value: value.trim().into(),
                optional: false,
                place: "-w".into(),
            };
            plan.add(&mut stack, setting);
        }
        Ok(plan)
    }

    fn add(&mut self, stack: &mut Stack, setting: Assignment) {
        let place = &setting.place;
        match judge(stack, &setting) {
            Verdict::Taken => {
                if let Some(removed) = lookup(&setting.name).and_then(|key| key.removed) {
                    let why = format!("Linux has it no more: {}. Instead: {}", removed.why, removed.instead);
                    self.notes.push(format!("{place}: {}: {why}", setting.name));
                }
                self.settings.push(setting);
            }
            Verdict::NotOurs(why) => self.notes.push(format!("{place}: left out: {why}")),
            Verdict::Wrong(why) if setting.optional => {
                self.notes.push(format!("{place}: left out, as its - asks: {why}"))
            }
            Verdict::Wrong(why) => self.errors.push(format!("{place}: {why}")),
        }
    }

    /// Applies all, or nothing.
    pub(super) fn apply(self, client: &Client) -> Result<ExitCode> {
        for note in &self.notes {
            anstream::eprintln!("estab sysctl: {note}");
        }
        if !self.errors.is_empty() {
            bail!("nothing was applied\n{}", self.errors.join("\n"));
        }
        let mut out = String::new();
        let mut before: Vec<(String, String)> = Vec::new();
        for Assignment { name, value, place, .. } in &self.settings {
            let name = dotted(name);
            let set = client.sysctl(&name).and_then(|old| {
                let new = client.set_sysctl(&name, value)?;
                before.push((name.clone(), old.value));
                Ok(new)
            });
            match set {
                Ok(answer) => out.push_str(&format!("{name} = {}\n", answer.value)),
                Err(err) => {
                    // It runs another version of estab, or has just ended.
                    for (name, value) in before.iter().rev() {
                        client
                            .set_sysctl(name, value)
                            .with_context(|| format!("{name} stays changed"))?;
                    }
                    bail!("nothing was applied\n{place}: {name}: {err}");
                }
            }
        }
        print(&out)
    }
}

/// A stack to try settings on.
fn stack() -> Stack {
    Stack::new(
        Instant::ZERO,
        Config {
            seed: [0; 32],
            memory: estab_gateway::host_memory(),
            unix_time: 0,
        },
    )
}

fn judge(stack: &mut Stack, setting: &Assignment) -> Verdict {
    let name = dotted(&setting.name);
    match stack.set_sysctl(&name, &setting.value) {
        Ok(()) => Verdict::Taken,
        Err(SysctlError::Unknown) => match lookup(&setting.name) {
            None if !name.starts_with("net.") => Verdict::NotOurs(format!("{name} is the host's; sysctl(8) sets it")),
            None => Verdict::Wrong(format!("no stack has {}", unknown(&name))),
            Some(key) => match key.removed {
                Some(removed) => Verdict::Wrong(format!("{}. Instead: {}", unknown(&name), removed.instead)),
                None => Verdict::NotOurs(format!("{name} {}", whose(key.applies))),
            },
        },
        Err(SysctlError::Bad(bad)) => Verdict::Wrong(bad.to_string()),
        Err(SysctlError::Refused(why)) => Verdict::Wrong(format!("{name}: {why}")),
    }
}

/// Why a key that Linux has is none of a stack's.
fn whose(applies: Applies) -> &'static str {
    match applies {
        Applies::Host => "is the host's; sysctl(8) sets it",
        Applies::Device => "is about the kernel's devices; sysctl(8) sets it",
        Applies::Conntrack => "is about the kernel's connection tracking, which a stack has not",
        _ => "changes nothing in an estab stack",
    }
}

/// A name as the API has it.
fn dotted(name: &str) -> String {
    name.trim_start_matches("/proc/sys/").replace('/', ".")
}

fn read(path: &Path) -> Result<ConfFile> {
    if path != Path::new("-") {
        return ConfFile::read(path).with_context(|| format!("cannot read {}", path.display()));
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("cannot read standard input")?;
    Ok(ConfFile { path: "-".into(), text })
}
