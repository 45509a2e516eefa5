//! Settings: what stands in sysctl.conf files and in /proc/sys, held against what Linux does with it today.
//!
//! [`check`] reads each line as sysctl(8) would, says what is wrong or pointless about it, with the modern fact and
//! its source, and [`Report::fixed_file`] prints the file as it should be. Nothing is ever written.

mod conf;
mod keys;
mod live;
mod rules;
mod values;

pub use conf::{Assignment, ConfFile, conf_files};
pub use live::Live;
pub use rules::RULES;

use crate::finding::{Finding, Place, Severity};
use conf::Line;
use estab_proto::sysctl::{Key, all, lookup};
use std::collections::HashMap;

/// The kernel's documentation of net.ipv4 and net.ipv6.
const IP_SYSCTL: &str = "https://docs.kernel.org/networking/ip-sysctl.html";

/// One line `key = value`, or one value of the running kernel.
struct Setting {
    /// As written, dots or slashes.
    name: String,
    value: String,
    place: Place,
    key: Option<&'static Key>,
    /// Where it is set again, later, and to what.
    overridden: Option<(Place, String)>,
}

/// What `--fix` makes of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Edit {
    /// Comments it out.
    Drop,
    /// Puts this line in its place.
    Replace(String),
}

/// A finding, and what becomes of the line it is about.
struct Verdict {
    finding: Finding,
    edit: Option<Edit>,
}

impl From<Finding> for Verdict {
    fn from(finding: Finding) -> Verdict {
        Verdict { finding, edit: None }
    }
}

impl Finding {
    fn drop_line(self) -> Verdict {
        Verdict {
            finding: self,
            edit: Some(Edit::Drop),
        }
    }

    fn replace_line(self, line: String) -> Verdict {
        Verdict {
            finding: self,
            edit: Some(Edit::Replace(line)),
        }
    }
}

/// What rules look at besides the setting itself.
struct Context<'a> {
    live: Option<&'a Live>,
    /// The last value of each key in the files.
    last: HashMap<String, String>,
}

impl Context<'_> {
    /// What `name` will be once the files are applied: the files' value, else the running kernel's, else the default.
    fn effective(&self, name: &str) -> Option<String> {
        let default = || live::default_of(lookup(name)?, self.live);
        self.last
            .get(name)
            .cloned()
            .or_else(|| self.live?.get(name))
            .or_else(default)
    }

    fn effective_int(&self, name: &str) -> Option<i64> {
        self.effective(name)?.split_whitespace().next()?.parse().ok()
    }

    fn memory(&self) -> Option<u64> {
        self.live?.memory()
    }
}

/// The findings about some files and a running kernel.
#[derive(Debug)]
pub struct Report {
    /// The gravest first, otherwise in the order of the lines.
    pub findings: Vec<Finding>,
    files: Vec<ConfFile>,
    edits: HashMap<Place, (Edit, String)>,
}

impl Report {
    /// The gravest severity found.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }

    /// The text of file `path` as it should be: lines that fail, do nothing or do harm are commented out with the
    /// reason, those with a slip are put right; all else stays as it is. `None` if no such file was checked.
    pub fn fixed_file(&self, path: &str) -> Option<String> {
        let file = self.files.iter().find(|file| file.path == path)?;
        let mut fixed = String::new();
        for (index, line) in file.text.lines().enumerate() {
            let place = Place {
                file: file.path.clone(),
                line: index + 1,
            };
            match self.edits.get(&place) {
                None => fixed.push_str(line),
                Some((Edit::Drop, why)) => fixed.push_str(&format!("# estab: {why}\n#{line}")),
                Some((Edit::Replace(with), why)) => fixed.push_str(&format!("# estab: {why}\n#{line}\n{with}")),
            }
            fixed.push('\n');
        }
        Some(fixed)
    }
}

/// Checks `files` in the order they are applied, and the running kernel's own values where `live` is given.
pub fn check(files: Vec<ConfFile>, live: Option<&Live>) -> Report {
    let mut verdicts = Vec::new();
    let mut settings: Vec<Setting> = Vec::new();
    for file in &files {
        for (index, line) in file.lines().enumerate() {
            let place = Place {
                file: file.path.clone(),
                line: index + 1,
            };
            match line {
                Line::Nothing => {}
                Line::Setting { key, value, .. } => settings.push(Setting {
                    name: key.to_owned(),
                    value: value.to_owned(),
                    place,
                    key: lookup(key),
                    overridden: None,
                }),
                Line::Odd { meant } => verdicts.push((place.clone(), keys::odd_line(place, meant))),
            }
        }
    }
    let mut last: HashMap<String, (Place, String)> = HashMap::new();
    for setting in settings.iter_mut().rev() {
        let here = (setting.place.clone(), setting.value.clone());
        setting.overridden = last.get(&setting.canonical()).cloned();
        last.entry(setting.canonical()).or_insert(here);
    }
    let context = Context {
        live,
        last: last.into_iter().map(|(name, (_, value))| (name, value)).collect(),
    };
    for setting in &settings {
        for verdict in keys::judge(setting, &context) {
            verdicts.push((setting.place.clone(), verdict));
        }
    }
    if let Some(live) = live {
        for setting in running(live, &context) {
            let gone = setting.key.and_then(|key| keys::gone(&setting, key, Some(live)));
            let verdict = gone.or_else(|| values::judge(&setting, &context));
            verdicts.extend(verdict.map(|verdict| (setting.place.clone(), verdict.finding.into())));
        }
    }
    let mut edits = HashMap::new();
    let mut findings = Vec::new();
    for (place, Verdict { finding, edit }) in verdicts {
        if let Some(edit) = edit {
            // The first reason stands; a line is dropped rather than repaired.
            edits.entry(place).or_insert_with(|| (edit, finding.title.clone()));
        }
        findings.push(finding);
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Report { findings, files, edits }
}

/// The running kernel's values of keys that no file sets.
fn running(live: &Live, context: &Context<'_>) -> Vec<Setting> {
    all()
        .filter(|key| {
            key.writable
                && (key.effect || key.removed.is_some())
                && !key.name.contains('*')
                && !context.last.contains_key(key.name)
        })
        .filter_map(|key| {
            Some(Setting {
                name: key.name.to_owned(),
                value: live.get(key.name)?,
                place: Place {
                    file: live.path(key.name).display().to_string(),
                    line: 0,
                },
                key: Some(key),
                overridden: None,
            })
        })
        .collect()
}

impl Setting {
    /// The name by which settings of the same key are told to be the same.
    fn canonical(&self) -> String {
        match self.key {
            Some(key) if !key.name.contains('*') => key.name.to_owned(),
            _ if self
                .name
                .find('/')
                .is_some_and(|slash| self.name.find('.').is_none_or(|dot| slash < dot)) =>
            {
                self.name
                    .trim_start_matches("/proc/sys/")
                    .chars()
                    .map(|c| match c {
                        '/' => '.',
                        '.' => '/',
                        c => c,
                    })
                    .collect()
            }
            _ => self.name.clone(),
        }
    }

    /// It stands in a file, not in the running kernel.
    fn in_file(&self) -> bool {
        self.place.line > 0
    }

    /// A finding about it, with its line as evidence.
    fn finding(&self, id: &'static str, severity: Severity, title: impl Into<String>) -> Finding {
        Finding::new(id, severity, title).seen_at(self.place.clone(), format!("{} = {}", self.name, self.value))
    }
}
