//! The corpus in `tests/xl`: what this crate makes of each configuration is what `xl -N create` of
//! Xen 4.17 printed in rig X, byte for byte. `cargo xtask record-xl` records anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use xt_config::domain::Host;
use xt_config::libxl::{DomainConfig, Genid, KindInfo};
use xt_config::{keys, parse};

fn corpus() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/xl");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|e| e == "cfg"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn read(path: &Path) -> DomainConfig {
    let text = fs::read_to_string(path).unwrap();
    let name = path.file_name().unwrap().to_string_lossy();
    let document = parse(&text, &name).unwrap_or_else(|errors| panic!("{errors}"));
    // The rig has two CPUs in one node, and Debian's Xen.
    let mut host = Host::uniform(2);
    host.defaults.firmware_directory = "/usr/lib/xen-4.17/boot".into();
    let checked = DomainConfig::from_document(&document, &host);
    checked.unwrap_or_else(|errors| panic!("{errors}")).value
}

/// What is random, taken from `recorded`.
fn settle(config: &mut DomainConfig, recorded: &DomainConfig, path: &Path) {
    if !fs::read_to_string(path).unwrap().contains("\nuuid") {
        config.c_info.uuid = recorded.c_info.uuid;
    }
    if let (Some(KindInfo::Hvm(ours)), Some(KindInfo::Hvm(theirs))) =
        (&mut config.b_info.kind, &recorded.b_info.kind)
        && ours.ms_vm_genid != Genid::default()
    {
        assert_ne!(theirs.ms_vm_genid, Genid::default());
        ours.ms_vm_genid = theirs.ms_vm_genid;
    }
}

#[test]
fn the_same_as_xl_prints() {
    let mut differ = Vec::new();
    for path in corpus() {
        let recorded = fs::read_to_string(path.with_extension("json")).unwrap();
        let theirs = DomainConfig::from_json(&recorded).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        let mut ours = read(&path);
        settle(&mut ours, &theirs, &path);
        let printed = ours.to_json().unwrap();
        let lines = || recorded.lines().zip(printed.lines());
        if printed != recorded.trim_end() {
            let first = lines().find(|(theirs, ours)| theirs != ours);
            differ.push(format!("{path:?}: xl prints, we print: {first:#?}"));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

#[test]
fn what_xl_prints_reads_back_and_prints_the_same() {
    for path in corpus() {
        let recorded = fs::read_to_string(path.with_extension("json")).unwrap();
        let config = DomainConfig::from_json(&recorded).unwrap();
        assert_eq!(config.to_json().unwrap(), recorded.trim_end(), "{path:?}");
    }
}

/// Keys that cannot be compared, with the reason.
const NOT_COMPARED: &[(&str, &str)] = &[(
    "rdm",
    "xl 4.17 takes no notice of rdm with a policy, and prints an uninitialised policy without one",
)];

#[test]
fn the_corpus_sets_every_key_of_4_17() {
    let mut set = BTreeSet::new();
    for path in corpus() {
        let document = parse(&fs::read_to_string(path).unwrap(), "f").unwrap();
        set.extend(document.entries().map(|(key, _)| key.to_owned()));
    }
    let of_4_17 = keys::known().filter(|(key, _)| keys::since(key) == "4.17");
    let missing: Vec<&str> = of_4_17
        .map(|(key, _)| key)
        .filter(|key| !set.contains(*key))
        .collect();
    let excused: Vec<&str> = NOT_COMPARED.iter().map(|(key, _)| *key).collect();
    assert_eq!(missing, excused);
}
