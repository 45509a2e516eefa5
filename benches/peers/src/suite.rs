//! The comparison: a process for each subject and work, so that one's crash or leak doesn't touch the others.
//!
//! A subject is a program: `PROGRAM WORK MILLISECONDS RUNS POINT…` does the work at each point, in order, measuring RUNS times
//! for MILLISECONDS of CPU time, and prints a sample of each point at once, as a line of JSON:
//! `{"work":"rr","point":100,"unit":"ns","value":412.5,"runs":[412.5,411.0,414.2]}`, or `{"work":…,"point":…,"unit":…,"note":"why not"}`.

use crate::subjects::{self, How};
use anyhow::{Context, Result};
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
        &[0, 1000, 10_000, 60_000, 300_000, 1_000_000],
        &[0, 1000, 10_000],
    ),
    // Connections open.
    (
        "rr",
        &[1, 100, 1000, 10_000, 100_000, 1_000_000],
        &[1, 100, 1000, 10_000],
    ),
    // SYNs.
    ("flood", &[1_000_000], &[100_000]),
    // Connections, half-open connections, TIME_WAITs.
    ("idle", &[10_000], &[5000]),
    ("halfopen", &[10_000], &[5000]),
    ("timewait", &[10_000], &[5000]),
];

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
            let points = if self.quick { few } else { all };
            for (name, program) in &programs {
                eprintln!("{name}: {work}");
                self.one(program, work, points, &mut |sample| {
                    keep(Sample {
                        subject: name.to_string(),
                        ..sample
                    })
                })?;
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
        }
    }

    /// Has a subject do a work within its time.
    fn one(
        &self,
        program: &[PathBuf],
        work: &str,
        points: &[u64],
        keep: &mut impl FnMut(Sample) -> Result<()>,
    ) -> Result<()> {
        let plan = Plan::new(self.quick);
        let limit = Duration::from_secs(if self.quick { 5 } else { 60 });
        let mut child = Command::new(&program[0])
            .args(&program[1..])
            .args([work, &plan.run.as_millis().to_string(), &plan.runs.to_string()])
            .args(points.iter().map(u64::to_string))
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
        let (begin, mut left, mut failed) = (Instant::now(), points.to_vec(), false);
        let late = loop {
            match told.recv_timeout(limit.saturating_sub(begin.elapsed())) {
                Ok(line) => {
                    let sample: Sample = serde_json::from_str(&line).with_context(|| line.clone())?;
                    left.retain(|point| *point != sample.point);
                    failed |= sample.value.is_none();
                    keep(sample)?;
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
        match left.first() {
            Some(&point) if late => keep(Sample::failed(work, point, "", format!("took more than {limit:?}"))),
            Some(&point) if !failed => keep(Sample::failed(work, point, "", format!("ended: {status}"))),
            _ => Ok(()),
        }
    }
}
