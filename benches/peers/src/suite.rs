//! The comparison: a process for each subject, work and point, so that one's crash or leak doesn't touch the others.
//!
//! A subject is a program: `PROGRAM WORK MILLISECONDS RUNS POINT` does the work at the point, measuring RUNS times for
//! MILLISECONDS of CPU time, and prints each figure as a line of JSON:
//! `{"work":"rr","point":100,"unit":"ns","value":412.5,"runs":[412.5,411.0,414.2]}`, or `{"work":…,"point":…,"unit":…,"note":"why not"}`.

use crate::subjects::{self, How};
use anyhow::{Context, Result, bail};
use peers_common::{Plan, Sample};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The works, and what their points are.
pub const WORKS: [(&str, &[u64], &[u64]); 7] = [
    // Bytes of the largest IP packet.
    ("bulk", &[1500, 9000, 65_535], &[1500, 65_535]),
    // TIME_WAITs held.
    (
        "conn",
        &[0, 1000, 3000, 10_000, 60_000, 300_000, 1_000_000],
        &[0, 1000, 10_000],
    ),
    // Connections open.
    (
        "rr",
        &[1, 100, 1000, 10_000, 100_000, 1_000_000],
        &[1, 100, 1000, 10_000],
    ),
    // SYNs.
    ("flood", &[100_000], &[50_000]),
    // Connections, half-open connections, TIME_WAITs.
    ("idle", &[10_000], &[10_000]),
    ("halfopen", &[10_000], &[10_000]),
    ("timewait", &[10_000], &[10_000]),
];

/// The works in which subjects take turns at a point, so that the machine's other work hits all alike: so many rounds of one
/// run each, where a point is reached soon.
const TIMED: [&str; 3] = ["bulk", "conn", "rr"];
const ROUNDS: usize = 3;
const TURNS_UP_TO: u64 = 65_535;

/// What to compare.
pub struct Suite {
    pub quick: bool,
    /// Subjects; empty: all.
    pub only: Vec<String>,
    /// Works; empty: all.
    pub works: Vec<String>,
    /// Other builds of peers.
    pub others: Vec<(String, PathBuf)>,
}

impl Suite {
    /// Measures all, giving each sample to `keep` as it comes.
    pub fn measure(&self, mut keep: impl FnMut(Sample) -> Result<()>) -> Result<()> {
        let known = subjects::ALL.iter().map(|(name, _)| *name);
        let others = self.others.iter().map(|(name, _)| name.as_str());
        let wanted = |name: &str| self.only.is_empty() || self.only.iter().any(|o| o == name);
        let mut programs = Vec::new();
        for name in known.chain(others).filter(|name| wanted(name)) {
            match self.program(name) {
                Ok(program) => programs.push((name, program)),
                Err(why) => eprintln!("{name}: absent: {why:#}"),
            }
        }
        for (work, all, few) in WORKS {
            if !self.works.is_empty() && !self.works.iter().any(|w| w == work) {
                continue;
            }
            // What was too much for a subject at one point is at the next; but bulk's packets may be too small.
            let mut beaten: Vec<&str> = Vec::new();
            for &point in if self.quick { few } else { all } {
                let mut found: Vec<Vec<Sample>> = vec![Vec::new(); programs.len()];
                let turns = TIMED.contains(&work) && point <= TURNS_UP_TO;
                let rounds = if turns { ROUNDS } else { 1 };
                for round in 1..=rounds {
                    for ((name, program), found) in programs.iter().zip(&mut found) {
                        if beaten.contains(name) {
                            continue;
                        }
                        eprintln!("{name}: {work} {point}, round {round} of {rounds}");
                        let mut plan = Plan::new(self.quick);
                        plan.runs = plan.runs.div_ceil(rounds);
                        let able = self.one(program, work, point, &plan, found)?;
                        if !able && work != "bulk" {
                            beaten.push(name);
                        }
                    }
                }
                for ((name, _), found) in programs.iter().zip(found) {
                    for sample in merged(found) {
                        keep(Sample {
                            subject: name.to_string(),
                            ..sample
                        })?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The command line that does a subject's works.
    fn program(&self, name: &str) -> Result<Vec<PathBuf>> {
        if let Some((_, path)) = self.others.iter().find(|(other, _)| other == name) {
            return Ok(vec![path.clone()]);
        }
        let how = subjects::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, how)| how);
        match how.context("no such subject")? {
            How::Here => Ok(vec![std::env::current_exe()?, "subject".into(), name.into()]),
            How::Go => Ok(vec![subjects::build_gvisor()?]),
            How::Absent(why) => bail!("{why}"),
        }
    }

    /// Has a subject do a work within its time; whether it could.
    fn one(&self, program: &[PathBuf], work: &str, point: u64, plan: &Plan, found: &mut Vec<Sample>) -> Result<bool> {
        let limit = Duration::from_secs(if self.quick { 4 } else { 60 });
        let mut child = Command::new(&program[0])
            .args(&program[1..])
            .arg(work)
            .args([plan.run.as_millis() as u64, plan.runs as u64, point].map(|n| n.to_string()))
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{}", program[0].display()))?;
        let out = BufReader::new(child.stdout.take().context("no pipe")?);
        let (tell, told) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        let (begin, mut done, mut told_why) = (Instant::now(), false, false);
        let late = loop {
            match told.recv_timeout(limit.saturating_sub(begin.elapsed())) {
                Ok(line) => {
                    let sample: Sample = serde_json::from_str(&line).with_context(|| line.clone())?;
                    done |= sample.value.is_some();
                    told_why |= sample.value.is_none();
                    found.push(sample);
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break false,
                Err(mpsc::RecvTimeoutError::Timeout) => break true,
            }
        };
        if late {
            child.kill()?;
        }
        let status = child.wait()?;
        let _ = reader.join();
        if !done && !told_why {
            let why = if late {
                format!("took more than {limit:?}")
            } else {
                format!("ended: {status}")
            };
            found.push(Sample::failed(work, point, "", why));
        }
        Ok(done)
    }
}

/// One sample per figure, of all its rounds; of a figure that some round could not give, the reason.
fn merged(found: Vec<Sample>) -> Vec<Sample> {
    let mut all: Vec<Sample> = Vec::new();
    for sample in found {
        let same = |s: &Sample| s.work == sample.work && s.point == sample.point;
        match all.iter_mut().find(|s| same(s)) {
            Some(one) if one.value.is_some() && sample.value.is_some() => {
                one.runs.extend(sample.runs);
                one.value = Some(peers_common::median(&one.runs));
            }
            Some(one) if one.value.is_some() => *one = sample,
            Some(_) => {}
            None => all.push(sample),
        }
    }
    all
}
