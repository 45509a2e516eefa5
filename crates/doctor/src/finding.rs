//! What a diagnosis is made of: one thing found, with its evidence, its cause and its cure.

use serde::Serialize;
use std::fmt;

/// How much it matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know; nothing is wrong.
    Info,
    /// Not as it was meant, or worth a look.
    Notice,
    /// Hurts now, or will under load.
    Warning,
    /// Breaks connections.
    Critical,
}

impl Severity {
    /// The word for it, as JSON has it.
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Notice => "notice",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }

    /// The exit code of a Nagios plugin: 0 OK, 1 WARNING, 2 CRITICAL.
    pub const fn nagios(self) -> u8 {
        match self {
            Severity::Info | Severity::Notice => 0,
            Severity::Warning => 1,
            Severity::Critical => 2,
        }
    }
}

/// How sure it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// Other explanations are as good.
    Possible,
    /// Hardly anything else explains it.
    Likely,
    /// Follows from what was seen.
    Certain,
}

/// A line of a file.
#[derive(Clone, PartialEq, Eq, Debug, Hash, Serialize)]
pub struct Place {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1; 0 is the whole file.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)
        } else {
            Ok(())
        }
    }
}

/// Something that was seen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Evidence {
    /// Where, if it stands somewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What, with its figures.
    pub text: String,
}

/// A kind of finding, for `--explain`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Rule {
    /// The id of its findings.
    pub id: &'static str,
    /// What it looks for, and why.
    pub about: &'static str,
}

/// One thing found. It prints as text that fits 80 columns.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// Its stable name, such as `sysctl-removed`: what `--explain` takes and scripts match.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// How sure it is.
    pub confidence: Confidence,
    /// The finding in one line.
    pub title: String,
    /// What was seen.
    pub evidence: Vec<Evidence>,
    /// Why it is so: the fact behind it.
    pub cause: String,
    /// What to do, and what that costs.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fix: String,
    /// What not to do, though it is often advised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dont: Option<String>,
    /// The Linux since which it is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Where to read more: the kernel's source or documentation, an RFC.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub source: &'static str,
}

impl Finding {
    /// A finding about which no doubt is; the other parts are added by the methods below.
    pub fn new(id: &'static str, severity: Severity, title: impl Into<String>) -> Finding {
        Finding {
            id,
            severity,
            confidence: Confidence::Certain,
            title: title.into(),
            evidence: Vec::new(),
            cause: String::new(),
            fix: String::new(),
            dont: None,
            since: None,
            source: "",
        }
    }

    /// Less sure than certain.
    pub fn confidence(mut self, confidence: Confidence) -> Finding {
        self.confidence = confidence;
        self
    }

    /// Adds something seen.
    pub fn seen(mut self, text: impl Into<String>) -> Finding {
        self.evidence.push(Evidence {
            place: None,
            text: text.into(),
        });
        self
    }

    /// Adds something seen at `place`.
    pub fn seen_at(mut self, place: Place, text: impl Into<String>) -> Finding {
        self.evidence.push(Evidence {
            place: Some(place),
            text: text.into(),
        });
        self
    }

    /// The fact behind it.
    pub fn cause(mut self, cause: impl Into<String>) -> Finding {
        self.cause = cause.into();
        self
    }

    /// What to do.
    pub fn fix(mut self, fix: impl Into<String>) -> Finding {
        self.fix = fix.into();
        self
    }

    /// What not to do.
    pub fn dont(mut self, dont: impl Into<String>) -> Finding {
        self.dont = Some(dont.into());
        self
    }

    /// The Linux since which it is so: `4.12`.
    pub fn since(mut self, version: impl Into<String>) -> Finding {
        self.since = Some(version.into());
        self
    }

    /// Where to read more.
    pub fn source(mut self, source: &'static str) -> Finding {
        self.source = source;
        self
    }
}

const WIDTH: usize = 80;
const INDENT: usize = 10;

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sure = match self.confidence {
            Confidence::Certain => "",
            Confidence::Likely => " (likely)",
            Confidence::Possible => " (possible)",
        };
        writeln!(f, "{:<9} {}{sure}", self.severity.name(), self.id)?;
        paragraph(f, "", &self.title)?;
        for evidence in &self.evidence {
            match &evidence.place {
                Some(place) => paragraph(f, "seen", &format!("{place}: {}", evidence.text))?,
                None => paragraph(f, "seen", &evidence.text)?,
            }
        }
        paragraph(f, "cause", &self.cause)?;
        paragraph(f, "fix", &self.fix)?;
        paragraph(f, "but", self.dont.as_deref().unwrap_or(""))?;
        if let Some(since) = &self.since {
            paragraph(f, "since", &format!("Linux {since}"))?;
        }
        paragraph(f, "source", self.source)
    }
}

/// `text` with its label before it, broken between words; empty text prints nothing.
fn paragraph(f: &mut fmt::Formatter<'_>, label: &str, text: &str) -> fmt::Result {
    let mut column = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column == 0 {
            write!(
                f,
                "{:<INDENT$}",
                if label.is_empty() {
                    String::new()
                } else {
                    format!("  {label}")
                }
            )?;
            column = INDENT;
        } else if column + 1 + length > WIDTH {
            write!(f, "\n{:INDENT$}", "")?;
            column = INDENT;
        } else {
            f.write_str(" ")?;
            column += 1;
        }
        f.write_str(word)?;
        column += length;
    }
    if column > 0 { writeln!(f) } else { Ok(()) }
}
