//! From an xl.cfg to libxl's [`DomainConfig`]: every key that xl 4.17 to 4.22 reads.
//!
//! The result is what `xl create -n` prints. Where xl says on its standard error that it cannot
//! use a value and goes on without it, the value is an error here, with its place; so is a key
//! that no xl knows. Old forms that xl still takes are taken, with a warning.
//!
//! Sources of fact: `xl.cfg(5)` and the pages it names; what `xl -N create` of Xen 4.17 answers;
//! for later keys the man page of the release.

mod affinity;
mod build;
mod device;
mod display;
mod host;
pub(crate) mod hvm;
mod medium;
mod pairs;
mod passthrough;
mod sound;

pub(crate) use build::timer_mode;
pub use host::{Defaults, Host};

use crate::diagnostic::ConfigErrors;
use crate::document::Document;
use crate::keys;
use crate::libxl::{ActionOnShutdown, CreateInfo, DomainConfig, Passthrough, Type};
use crate::reader::Reader;
use crate::spec::{Checked, DomainType, domain_type, parse_uuid};

impl DomainConfig {
    /// Checks `document` and makes a configuration of it. A domain without `uuid` gets a fresh one.
    ///
    /// # Errors
    /// Everything that is wrong: unknown keys, values of the wrong type or out of range, missing
    /// keys.
    pub fn from_document(
        document: &Document,
        host: &Host,
    ) -> Result<Checked<DomainConfig>, ConfigErrors> {
        let mut reader = Reader::of_all_keys(document);
        reader.warnings.extend_from_slice(document.warnings());
        reader.errors.extend(keys::unknown(document));
        let config = read(&mut reader, host);
        reader.finish(Some(config))
    }
}

fn read(reader: &mut Reader<'_>, host: &Host) -> DomainConfig {
    let kind = match domain_type(reader) {
        DomainType::Pv => Type::Pv,
        DomainType::Pvh => Type::Pvh,
        DomainType::Hvm => Type::Hvm,
    };
    let mut config = DomainConfig {
        c_info: create_info(reader, host, kind),
        ..DomainConfig::default()
    };
    build::read(reader, host, &mut config);
    passthrough::read(reader, &mut config);
    medium::read(reader, host, &mut config);
    device::read(reader, &mut config);
    display::read(reader, &mut config);
    config.vsnds = sound::read(reader);
    let mut action = |key, default| reader.named(key, ACTIONS).unwrap_or(default);
    config.on_poweroff = action("on_poweroff", ActionOnShutdown::Destroy);
    config.on_reboot = action("on_reboot", ActionOnShutdown::Restart);
    config.on_watchdog = action("on_watchdog", ActionOnShutdown::Destroy);
    config.on_crash = action("on_crash", ActionOnShutdown::Destroy);
    config.on_soft_reset = action("on_soft_reset", ActionOnShutdown::SoftReset);
    config
}

const ACTIONS: &[(&str, ActionOnShutdown)] = &[
    ("destroy", ActionOnShutdown::Destroy),
    ("restart", ActionOnShutdown::Restart),
    ("rename-restart", ActionOnShutdown::RestartRename),
    ("preserve", ActionOnShutdown::Preserve),
    ("coredump-destroy", ActionOnShutdown::CoredumpDestroy),
    ("coredump-restart", ActionOnShutdown::CoredumpRestart),
    ("soft-reset", ActionOnShutdown::SoftReset),
];

fn create_info(reader: &mut Reader<'_>, host: &Host, kind: Type) -> CreateInfo {
    // With two labels the first holds while the domain is built.
    let label = reader.owned("seclabel");
    let first = reader.owned("init_seclabel");
    CreateInfo {
        kind,
        hap: reader.defbool("hap"),
        oos: reader.defbool("oos"),
        ssid_label: first.or(label),
        name: reader.domain_name(),
        uuid: Some(
            reader
                .parsed("uuid", parse_uuid)
                .unwrap_or_else(uuid::Uuid::new_v4),
        ),
        pool_name: reader.owned("pool"),
        run_hotplug_scripts: host.defaults.run_hotplug_scripts.into(),
        driver_domain: reader.defbool("driver_domain"),
        passthrough: reader
            .libxl_name("passthrough", Passthrough::NAMES)
            .unwrap_or_default(),
        xend_suspend_evtchn_compat: reader.defbool("xend_suspend_evtchn_compat"),
        ..CreateInfo::default()
    }
}

#[cfg(test)]
#[path = "domain_test.rs"]
mod tests;
