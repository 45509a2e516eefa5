//! sysctl.conf files as sysctl(8) and systemd-sysctl(8) read them.

use crate::finding::Place;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// One file of settings.
#[derive(Clone, Debug)]
pub struct ConfFile {
    /// How to name it in findings.
    pub path: String,
    /// What it says.
    pub text: String,
}

impl ConfFile {
    /// Reads `path`; bytes that are no UTF-8 are replaced, as only comments have them.
    pub fn read(path: &Path) -> io::Result<ConfFile> {
        let bytes = fs::read(path)?;
        Ok(ConfFile {
            path: path.display().to_string(),
            text: String::from_utf8_lossy(&bytes).into_owned(),
        })
    }

    /// What is to be set, in order; `Err`: a line that is no setting.
    pub fn settings(&self) -> impl Iterator<Item = Result<Assignment, Place>> + '_ {
        self.lines().enumerate().filter_map(|(index, line)| {
            let place = Place {
                file: self.path.clone(),
                line: index + 1,
            };
            match line {
                Line::Nothing => None,
                Line::Odd { .. } => Some(Err(place)),
                Line::Setting { key, value, optional } => Some(Ok(Assignment {
                    name: key.into(),
                    value: value.into(),
                    optional,
                    place: place.to_string(),
                })),
            }
        })
    }

    /// What each line says.
    pub(super) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.text.lines().map(Line::of)
    }
}

/// A setting as somebody wrote it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assignment {
    /// With dots or slashes.
    pub name: String,
    /// All that follows the first `=`, without the blanks around it.
    pub value: String,
    /// A `-` in front: a failure is no error.
    pub optional: bool,
    /// Where: `FILE:LINE`.
    pub place: String,
}

/// What a line says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Line<'a> {
    /// Nothing: blank, a comment, or systemd's `-key` that leaves a key out of a pattern.
    Nothing,
    /// `key = value`; `-key = value` ignores a failure.
    Setting {
        key: &'a str,
        value: &'a str,
        optional: bool,
    },
    /// Neither; perhaps this was meant.
    Odd { meant: Option<(&'a str, &'a str)> },
}

impl<'a> Line<'a> {
    fn of(line: &'a str) -> Line<'a> {
        let line = line.trim_start_matches('\u{feff}').trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            return Line::Nothing;
        }
        // A command instead of a setting has blanks before the first `=`, or none of these.
        if let Some((key, value)) = line.split_once('=') {
            let key = key.trim();
            let optional = key.starts_with('-');
            let key = key.trim_start_matches('-').trim();
            if !key.is_empty() && !key.contains(char::is_whitespace) {
                return Line::Setting {
                    key,
                    value: value.trim(),
                    optional,
                };
            }
        } else if line.starts_with('-') && !line.contains(char::is_whitespace) {
            return Line::Nothing;
        }
        Line::Odd { meant: meant(line) }
    }
}

/// `sysctl -w key=value`, `echo value > /proc/sys/key` and `key value`.
fn meant(line: &str) -> Option<(&str, &str)> {
    let line = line.strip_prefix("sudo ").unwrap_or(line).trim_start();
    if let Some(rest) = line.strip_prefix("sysctl ") {
        let rest = rest.trim_start().trim_start_matches("-w").trim_start();
        let (key, value) = rest.split_once('=')?;
        return Some((key.trim(), value.trim().trim_matches(['"', '\''])));
    }
    if let Some(rest) = line.strip_prefix("echo ") {
        let (value, path) = rest.split_once('>')?;
        let key = path.trim_start_matches('>').trim();
        return key
            .starts_with("/proc/sys/")
            .then(|| (key, value.trim().trim_matches(['"', '\''])));
    }
    let (key, value) = line.split_once(char::is_whitespace)?;
    (key.contains(['.', '/']) && !value.contains('=')).then(|| (key, value.trim()))
}

/// The files that `sysctl --system` and systemd-sysctl read under `root`, in their order: by file name over all
/// folders, where the first folder's file of a name hides the others'; /etc/sysctl.conf comes last.
pub fn conf_files(root: &Path) -> Vec<PathBuf> {
    const FOLDERS: [&str; 5] = [
        "etc/sysctl.d",
        "run/sysctl.d",
        "usr/local/lib/sysctl.d",
        "usr/lib/sysctl.d",
        "lib/sysctl.d",
    ];
    let mut by_name = BTreeMap::new();
    for folder in FOLDERS {
        for entry in fs::read_dir(root.join(folder)).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().ends_with(".conf") {
                by_name.entry(name).or_insert_with(|| entry.path());
            }
        }
    }
    let last = root.join("etc/sysctl.conf");
    let same = |path: &PathBuf| matches!((path.canonicalize(), last.canonicalize()), (Ok(a), Ok(b)) if a == b);
    let mut files: Vec<PathBuf> = by_name.into_values().filter(|path| !same(path)).collect();
    if last.is_file() {
        files.push(last);
    }
    files
}
