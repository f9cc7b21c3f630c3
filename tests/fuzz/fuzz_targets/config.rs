//! Guest configurations: file, then arguments, each behind a NUL.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xt_config::document::parse_bytes;
use xt_config::keys::SPEC_KEYS;
use xt_config::disk::DiskSpec;
use xt_config::domain::Host;
use xt_config::libxl::DomainConfig;
use xt_config::{ConfigErrors, Document, DomainSpec, parse, parse_with_overrides};

fuzz_target!(|data: &[u8]| {
    if let Err(errors) = parse_bytes(data, "f") {
        explained(&errors);
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut texts = text.split('\0');
    let file = texts.next().unwrap_or("");
    let overrides: Vec<&str> = texts.collect();
    let document = match parse_with_overrides(file, "f", &overrides) {
        Ok(document) => document,
        Err(errors) => return explained(&errors),
    };
    let printed = document.to_string();
    assert_eq!(
        parse(&printed, "f").expect("printed documents parse"),
        document
    );
    typed(&document);
    match DomainSpec::from_document(&document, SPEC_KEYS) {
        Err(errors) => explained(&errors),
        Ok(checked) => {
            let spec = checked.value;
            let json = serde_json::to_string(&spec).expect("specs have a JSON form");
            assert_eq!(
                serde_json::from_str::<DomainSpec>(&json).expect("which reads back"),
                spec
            );
            assert!(!spec.name.is_empty());
            assert!((1..=spec.max_memory_mib).contains(&spec.memory_mib));
            assert!((1..=spec.max_vcpus).contains(&spec.vcpus));
        }
    }
});

/// libxl's form of it: what was read can be written, and reads back as the same.
fn typed(document: &Document) {
    let config = match DomainConfig::from_document(document, &Host::uniform(4)) {
        Err(errors) => return explained(&errors),
        Ok(checked) => checked.value,
    };
    let json = config.to_json().expect("configurations have a JSON form");
    let again = DomainConfig::from_json(&json).expect("which reads back");
    assert_eq!(again.to_json().expect("and is written again"), json);
    for disk in &config.disks {
        let spec = DiskSpec::try_from(disk).expect("what was a disk is one");
        assert_eq!(spec.vdev.name(), disk.vdev.as_deref().unwrap_or_default());
    }
}

/// A refusal has a reason, and the reason can be printed.
fn explained(errors: &ConfigErrors) {
    assert!(!errors.errors.is_empty());
    assert!(!errors.to_string().is_empty());
}
