//! Commands that do one thing to one domain.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

use xt_host::{Host, Trigger};

use super::domid;
use crate::cli::{
    DmesgArgs, DumpCoreArgs, KeysArgs, MemArgs, RenameArgs, SysrqArgs, TriggerArgs, TriggerKind,
};
use crate::status::{Failure, Status};

/// The time of day, UTC.
pub fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = now.map_or(0, |since| since.as_secs()) % 86400;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}", seconds % 60)
}

/// `pause`
pub fn pause(host: &dyn Host, name: &str) -> Result<Status, Failure> {
    host.pause(domid(host, name)?)?;
    Ok(Status::Success)
}

/// `unpause`
pub fn unpause(host: &dyn Host, name: &str) -> Result<Status, Failure> {
    host.unpause(domid(host, name)?)?;
    Ok(Status::Success)
}

/// `rename`
pub fn rename(host: &dyn Host, arguments: &RenameArgs) -> Result<Status, Failure> {
    host.rename(domid(host, &arguments.domain)?, &arguments.name)?;
    Ok(Status::Success)
}

/// `sysrq`
pub fn sysrq(host: &dyn Host, arguments: &SysrqArgs) -> Result<Status, Failure> {
    let domid = domid(host, &arguments.domain)?;
    let mut keys = arguments.key.chars();
    let (Some(key), None) = (keys.next(), keys.next()) else {
        let message = format!("{:?} is no SysRq key; write one character", arguments.key);
        return Err(Failure::plain(message));
    };
    host.sysrq(domid, key)?;
    Ok(Status::Success)
}

/// `trigger`
pub fn trigger(host: &dyn Host, arguments: &TriggerArgs) -> Result<Status, Failure> {
    let trigger = match arguments.trigger {
        TriggerKind::Nmi => Trigger::Nmi,
        TriggerKind::Reset => Trigger::Reset,
        TriggerKind::Init => Trigger::Init,
        TriggerKind::Power => Trigger::Power,
        TriggerKind::Sleep => Trigger::Sleep,
        TriggerKind::S3resume => Trigger::S3Resume,
    };
    host.trigger(domid(host, &arguments.domain)?, trigger, arguments.vcpu)?;
    Ok(Status::Success)
}

/// `debug-keys`
pub fn debug_keys(host: &dyn Host, arguments: &KeysArgs) -> Result<Status, Failure> {
    host.debug_keys(&arguments.keys)?;
    Ok(Status::Success)
}

/// `dmesg`
pub fn dmesg(host: &dyn Host, arguments: &DmesgArgs) -> Result<Status, Failure> {
    let text = host.dmesg(arguments.clear)?;
    crate::output::print(&String::from_utf8_lossy(&text))
}

/// `mem-set`
pub fn mem_set(host: &dyn Host, arguments: &MemArgs) -> Result<Status, Failure> {
    let domid = domid(host, &arguments.domain)?;
    host.mem_set(domid, memory_kib(&arguments.memory)?)?;
    Ok(Status::Success)
}

/// `mem-max`
pub fn mem_max(host: &dyn Host, arguments: &MemArgs) -> Result<Status, Failure> {
    let domid = domid(host, &arguments.domain)?;
    host.mem_max(domid, memory_kib(&arguments.memory)?)?;
    Ok(Status::Success)
}

/// An amount of memory as `xl` reads it, in KiB.
fn memory_kib(text: &str) -> Result<u64, Failure> {
    let bad = || {
        Failure::plain(format!(
            "{text:?} is no amount of memory; write MiB, or a number with b, k, m, g or t"
        ))
    };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| bad())?;
    let kib = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "b" => Some(number / 1024),
        "k" => Some(number),
        "" | "m" => number.checked_mul(1 << 10),
        "g" => number.checked_mul(1 << 20),
        "t" => number.checked_mul(1 << 30),
        _ => None,
    };
    kib.ok_or_else(bad)
}

/// `dump-core`
pub fn dump_core(host: &dyn Host, arguments: &DumpCoreArgs) -> Result<Status, Failure> {
    let domid = domid(host, &arguments.domain)?;
    let path = &arguments.file;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let file = options
        .open(path)
        .map_err(|error| Failure::plain(format!("Cannot write the core file {path:?}: {error}")))?;
    // What is no file, as a pipe, is not this program's to remove.
    let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
    if let Err(error) = host.dump_core(domid, file, path, false) {
        if is_file {
            // Half a core file misleads.
            let _ = std::fs::remove_file(path);
        }
        return Err(error.into());
    }
    Ok(Status::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_xl_does() {
        for (text, kib) in [
            ("100", 102_400),
            ("100m", 102_400),
            ("1G", 1 << 20),
            ("1t", 1 << 30),
            ("64k", 64),
            ("2048b", 2),
        ] {
            assert_eq!(memory_kib(text), Ok(kib), "{text}");
        }
        for text in [
            "",
            "xyz",
            "m",
            "-1",
            "1x",
            "1.5g",
            "1kb",
            "99999999999999999999",
            "18446744073709551615t",
        ] {
            assert!(memory_kib(text).is_err(), "{text}");
        }
    }
}
