//! Reports of guests and how they differ from Xen's.

use std::collections::BTreeMap;
use std::fmt;

/// What `hello` prints on Xen 4.17.
pub const HELLO_XEN_4_17: &str = include_str!("../reference/hello.xen-4.17.txt");
/// What `checks` prints on Xen 4.17, in a domain with two virtual CPUs.
pub const CHECKS_XEN_4_17: &str = include_str!("../reference/checks.xen-4.17.txt");
/// How the modes of `hostile` end on Xen 4.17: `mode: poweroff` or `mode: crash`.
pub const HOSTILE_XEN_4_17: &str = include_str!("../reference/hostile.xen-4.17.txt");

/// Groups whose checks may differ from Xen's on every other hypervisor, and why.
pub const MAY_DIFFER: [(&str, &str); 4] = [
    (
        "typecount",
        "Xen counts how each page is used; a guest that is confined otherwise needs no such count",
    ),
    (
        "pteflags",
        "Xen marks kernel entries with GLOBAL or an available bit",
    ),
    (
        "selectors",
        "no kernel depends on the values of the flat segments' selectors",
    ),
    ("amd", "only one vendor's CPUs have the instruction"),
];

/// A report: what was observed, by check, and the number of failed checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Observed values by check.
    pub seen: BTreeMap<String, String>,
    /// Checks that failed by the guest's own judgement.
    pub failed: Vec<String>,
    /// Whether the `report:` line came, so that nothing is missing.
    pub complete: bool,
}

impl Report {
    /// Reads a guest's console. Lines that belong to no report are passed over.
    pub fn read(console: &str) -> Report {
        let mut report = Report::default();
        for line in console.lines() {
            report.line(line.trim_end());
        }
        report
    }

    fn line(&mut self, line: &str) {
        let Some((verdict, rest)) = line.split_once(' ') else {
            return;
        };
        if verdict == "report:" {
            self.complete = true;
            return;
        }
        let Some((check, observed)) = rest.split_once(": ") else {
            return;
        };
        if !matches!(verdict, "ok" | "FAIL" | "skip") || check.contains(' ') {
            return;
        }
        if verdict == "FAIL" {
            self.failed.push(check.to_owned());
        }
        // A failed check's line goes on with what the guest wanted.
        let observed = observed.split(" (want ").next().unwrap_or(observed);
        self.seen.insert(check.to_owned(), observed.to_owned());
    }
}

/// A check that two hypervisors answer differently; `None` where its line is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `group.check`.
    pub check: String,
    /// The reference's observation.
    pub reference: Option<String>,
    /// The other's.
    pub seen: Option<String>,
}

impl Difference {
    /// Why it may be, if it may: the reason that [`MAY_DIFFER`] gives for its group.
    pub fn excuse(&self) -> Option<&'static str> {
        let group = self.check.split('.').next();
        let entry = MAY_DIFFER.iter().find(|(name, _)| Some(*name) == group);
        entry.map(|(_, reason)| *reason)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |value: &Option<String>| value.clone().unwrap_or("no line".to_owned());
        write!(
            f,
            "{}: {}, on Xen {}",
            self.check,
            or_none(&self.seen),
            or_none(&self.reference)
        )
    }
}

/// All checks that differ, by name.
pub fn differences(reference: &Report, seen: &Report) -> Vec<Difference> {
    let checks: BTreeMap<&String, ()> = reference
        .seen
        .keys()
        .chain(seen.seen.keys())
        .map(|check| (check, ()))
        .collect();
    let differ = checks
        .into_keys()
        .filter(|check| reference.seen.get(*check) != seen.seen.get(*check));
    differ
        .map(|check| Difference {
            check: check.clone(),
            reference: reference.seen.get(check).cloned(),
            seen: seen.seen.get(check).cloned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_complete_and_without_failures() {
        for (text, lines) in [(HELLO_XEN_4_17, 30), (CHECKS_XEN_4_17, 1000)] {
            let report = Report::read(text);
            assert!(
                report.complete && report.failed.is_empty(),
                "{:?}",
                report.failed
            );
            assert!(report.seen.len() > lines, "{} lines", report.seen.len());
            let printed = text
                .lines()
                .filter(|line| !line.starts_with("report:") && line.contains(": "))
                .count();
            assert_eq!(report.seen.len(), printed, "a check's name is there twice");
        }
        let modes = HOSTILE_XEN_4_17.lines().map(|line| line.split_once(": "));
        assert!(
            modes
                .clone()
                .all(|mode| matches!(mode, Some((_, "poweroff" | "crash"))))
        );
        assert!(modes.count() > 20);
    }

    #[test]
    fn a_report_agrees_with_itself_whatever_surrounds_it() {
        let console = format!(
            "Booting\r\nx: y\r\n{}",
            CHECKS_XEN_4_17.replace('\n', "\r\n")
        );
        let (reference, seen) = (Report::read(CHECKS_XEN_4_17), Report::read(&console));
        assert_eq!(differences(&reference, &seen), []);
    }

    #[test]
    fn differences_name_the_check_and_both_values() {
        let reference = Report::read("ok a.b: 1\nok a.c: 2\nok typecount.x: 0\nreport: 3 ok\n");
        let seen = Report::read("FAIL a.b: -EINVAL (want 1)\nok typecount.x: 1\nok a.d: 4\n");
        assert!(!seen.complete);
        assert_eq!(seen.failed, ["a.b"]);
        let found = differences(&reference, &seen);
        let text: Vec<String> = found.iter().map(Difference::to_string).collect();
        assert_eq!(
            text,
            [
                "a.b: -EINVAL, on Xen 1",
                "a.c: no line, on Xen 2",
                "a.d: 4, on Xen no line",
                "typecount.x: 1, on Xen 0"
            ]
        );
        let excused: Vec<bool> = found.iter().map(|found| found.excuse().is_some()).collect();
        assert_eq!(excused, [false, false, false, true]);
    }
}
