//! `estab doctor`: what is wrong with a stack's connections, why, and what to do about it.

use super::{Source, Which, print};
use anyhow::{Context, Result, bail};
use estab_doctor::finding::{Finding, Rule, Severity};
use estab_doctor::findings::{self, Case, diagnose};
use estab_doctor::sample::{Of, SCHEMA, Sample};
use estab_doctor::socket::Socket;
use estab_doctor::sysctl_check::{self, Live};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Say what is wrong with the connections of this host or of an estab stack: the evidence, the cause, the fix
///
/// It looks twice, two seconds apart, for counters since boot mislead, and changes nothing. Without root it sees all
/// sockets but only your own processes.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    /// The time between the two looks: 10s, 500ms, 1min
    #[arg(long, visible_alias = "interval", value_name = "TIME", default_value = "2s", value_parser = duration)]
    sample: Duration,
    /// Look again and again
    #[arg(long, conflicts_with_all = ["nagios", "snapshot", "from", "explain"])]
    watch: bool,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
    /// One line and the exit code of a Nagios plugin: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN
    #[arg(long, conflicts_with = "json")]
    nagios: bool,
    /// Explain a finding by its id; `all` lists them
    #[arg(long, value_name = "ID")]
    explain: Option<String>,
    /// Save the two looks in a file instead, for a diagnosis elsewhere
    #[arg(long, value_name = "FILE")]
    snapshot: Option<PathBuf>,
    /// Diagnose from a saved file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["snapshot", "sample"])]
    from: Option<PathBuf>,
}

/// `10s`, `500ms`, `1min`, `2`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "" | "s" | "sec" => 1.0,
        "ms" => 0.001,
        "m" | "min" => 60.0,
        _ => return Err("expected a time such as 10s, 500ms or 1min".into()),
    };
    let seconds = number
        .parse::<f64>()
        .map_err(|_| "expected a time such as 10s, 500ms or 1min")?
        * scale;
    match seconds {
        0.0..=86_400.0 => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("expected at most a day".into()),
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if let Some(id) = &args.explain {
        return explain(id);
    }
    match examine(args) {
        Err(err) if args.nagios => {
            print(&format!("UNKNOWN - {err:#}\n"))?;
            Ok(ExitCode::from(3))
        }
        done => done,
    }
}

fn examine(args: &Args) -> Result<ExitCode> {
    if let Some(path) = &args.from {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let samples: Vec<Sample> =
            serde_json::from_str(&text).with_context(|| format!("{} holds no snapshot", path.display()))?;
        let (Some(before), Some(now)) = (samples.first(), samples.last()) else {
            bail!("{} holds no sample", path.display());
        };
        return report(args, before, now, &[]);
    }
    let source = args.which.source()?;
    let mut before = look(&source)?;
    loop {
        std::thread::sleep(args.sample);
        let now = look(&source)?;
        if let Some(path) = &args.snapshot {
            let json = serde_json::to_string(&[&before, &now])?;
            fs::write(path, json + "\n").with_context(|| format!("cannot write {}", path.display()))?;
            return print(&format!(
                "two looks are in {}: estab doctor --from it\n",
                path.display()
            ));
        }
        let settings = match source {
            Source::Kernel => settings(),
            Source::Stack(_) => Vec::new(),
        };
        if args.watch && !args.json {
            // Home, and clear what is below.
            print("\x1b[H\x1b[J")?;
        }
        let code = report(args, &before, &now, &settings)?;
        if !args.watch {
            return Ok(code);
        }
        before = now;
    }
}

fn look(source: &Source) -> Result<Sample> {
    static START: OnceLock<Instant> = OnceLock::new();
    match source {
        Source::Kernel => Ok(Sample::of_kernel(Path::new("/proc"))),
        Source::Stack(client) => {
            let sockets: Vec<Socket> = client.sockets()?.sockets.into_iter().map(Socket::from).collect();
            let counters = client.counters()?.counters;
            let at = START.get_or_init(Instant::now).elapsed().as_secs_f64();
            let sysctl = |name: &str| client.sysctl(name).ok().map(|sysctl| sysctl.value);
            Ok(Sample::of_stack(at, &sockets, counters, sysctl))
        }
    }
}

/// What the running kernel's settings have against them, if it is grave.
fn settings() -> Vec<Finding> {
    let Some(live) = Live::at(Path::new("/proc")) else {
        return Vec::new();
    };
    let mut found = sysctl_check::check(Vec::new(), Some(&live)).findings;
    found.retain(|finding| finding.severity >= Severity::Warning);
    found
}

fn report(args: &Args, before: &Sample, now: &Sample, settings: &[Finding]) -> Result<ExitCode> {
    let case = Case { before, now };
    let mut found = diagnose(case);
    found.extend_from_slice(settings);
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let worst = found
        .iter()
        .map(|finding| finding.severity)
        .max()
        .unwrap_or(Severity::Info);
    if args.nagios {
        print(&nagios(&found, worst))?;
        return Ok(ExitCode::from(worst.nagios()));
    }
    if args.json {
        let json = serde_json::json!({
            "schema": SCHEMA,
            "of": now.of,
            "release": now.release,
            "seconds": case.seconds(),
            "states": now.sockets.states,
            "findings": found,
            "unseen": now.unseen,
        });
        return print(&(serde_json::to_string_pretty(&json)? + "\n"));
    }
    print(&text(case, &found))
}

fn nagios(found: &[Finding], worst: Severity) -> String {
    let word = ["OK", "WARNING", "CRITICAL"][usize::from(worst.nagios().min(2))];
    let titles: Vec<&str> = found
        .iter()
        .filter(|finding| finding.severity >= Severity::Warning)
        .map(|finding| finding.title.as_str())
        .collect();
    let what = if titles.is_empty() {
        "nothing found".to_owned()
    } else {
        titles.join("; ")
    };
    format!("{word} - {what}\n")
}

fn text(case: Case<'_>, found: &[Finding]) -> String {
    let now = case.now;
    let of = match (now.of, now.namespace) {
        (Of::Stack, _) => "an estab stack".to_owned(),
        (Of::Kernel, false) => format!("Linux {}", now.release),
        (Of::Kernel, true) => format!("Linux {}, a network namespace", now.release),
    };
    let mut out = wrapped(
        "",
        &format!(
            "{of}: {} TCP sockets, two looks {:.1} s apart",
            now.sockets.states.total(),
            case.seconds()
        ),
    );
    for finding in found {
        let _ = write!(out, "\n{finding}");
    }
    if found.is_empty() {
        out.push_str("\nNothing found.\n");
    }
    if !now.unseen.is_empty() {
        out.push_str("\nNot seen:\n");
        for line in &now.unseen {
            out.push_str(&wrapped("- ", line));
        }
    }
    out
}

/// `text` after `label`, broken between words to fit 80 columns.
pub(super) fn wrapped(label: &str, text: &str) -> String {
    let mut out = String::new();
    let mut line = label.to_owned();
    let indent = " ".repeat(label.chars().count());
    for word in text.split_whitespace() {
        if line.chars().count() + word.chars().count() > 79 && line.trim() != label.trim() {
            out.push_str(line.trim_end());
            out.push('\n');
            line.clone_from(&indent);
        }
        line.push_str(word);
        line.push(' ');
    }
    out.push_str(line.trim_end());
    out.push('\n');
    out
}

fn explain(id: &str) -> Result<ExitCode> {
    let rules: Vec<&Rule> = findings::RULES.iter().chain(sysctl_check::RULES).collect();
    let wanted: Vec<&&Rule> = rules.iter().filter(|rule| id == "all" || rule.id == id).collect();
    if wanted.is_empty() {
        let ids: Vec<&str> = rules.iter().map(|rule| rule.id).collect();
        bail!("`{id}` is no finding's id; there are {}", ids.join(", "));
    }
    let text: String = wanted
        .iter()
        .map(|rule| format!("{}\n{}", rule.id, wrapped("    ", rule.about)))
        .collect();
    print(&text)
}
