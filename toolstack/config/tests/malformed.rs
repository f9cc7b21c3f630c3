//! The corpus in `tests/malformed`: each configuration is refused, at the place and with the
//! message that its last lines tell:
//!
//! ```text
//! #! 3:10 memory wants a number
//! #! xl: warns and gives the domain its default
//! ```
//!
//! `xl-4.17.txt` beside them is what `xl` of Xen 4.17 does with each in rig X, recorded by
//! `cargo xtask record-xl`. Where xl accepts one, the second line is there and says what becomes of
//! it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use xt_config::document::parse_bytes;
use xt_config::domain::Host;
use xt_config::libxl::DomainConfig;
use xt_config::{ConfigErrors, Diagnostic};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/malformed")
}

/// Names and bytes.
fn corpus() -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.extension().is_some_and(|e| e == "cfg"));
    let named = files.map(|path| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (name, fs::read(path).unwrap())
    });
    named.collect()
}

/// The lines for the test, without their mark.
fn notes(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let notes = text.lines().filter_map(|line| line.strip_prefix("#! "));
    notes.map(str::to_owned).collect()
}

fn errors_of(bytes: &[u8]) -> Result<(), ConfigErrors> {
    let document = parse_bytes(bytes, "f")?;
    DomainConfig::from_document(&document, &Host::uniform(2)).map(drop)
}

/// Place and message on one line.
fn shown(error: &Diagnostic) -> String {
    match &error.location {
        Ok(at) => format!("{}:{} {}", at.line, at.column, error.message),
        Err(_) => format!("- {}", error.message),
    }
}

#[test]
fn each_is_refused_at_its_place() {
    let corpus = corpus();
    assert!(corpus.len() >= 60, "{}", corpus.len());
    let mut wrong = Vec::new();
    for (name, bytes) in &corpus {
        let first = match errors_of(bytes) {
            Ok(()) => "accepted".to_owned(),
            Err(errors) => shown(&errors.errors[0]),
        };
        let notes = notes(bytes);
        if notes.first() != Some(&first) {
            wrong.push(format!("{name}: {first}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_xl_accepts_has_a_reason() {
    let table = fs::read_to_string(folder().join("xl-4.17.txt")).unwrap();
    let recorded: BTreeMap<&str, bool> = table
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut words = line.split_whitespace();
            let (name, verdict) = (words.next().unwrap(), words.next().unwrap());
            assert!(["accepts", "refuses"].contains(&verdict), "{line}");
            (name, verdict == "accepts")
        })
        .collect();
    let corpus = corpus();
    let names: Vec<&str> = corpus.keys().map(String::as_str).collect();
    assert_eq!(
        recorded.keys().copied().collect::<Vec<_>>(),
        names,
        "record them anew"
    );
    for (name, bytes) in &corpus {
        let explained = notes(bytes).iter().any(|note| note.starts_with("xl: "));
        assert_eq!(recorded[name.as_str()], explained, "{name}");
    }
}
