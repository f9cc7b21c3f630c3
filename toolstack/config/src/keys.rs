//! Every key that `xl` reads from a configuration, releases 4.17 to 4.22.

use std::collections::BTreeSet;

use crate::diagnostic::{Diagnostic, Severity, nearest};
use crate::document::{Document, Entry};
use crate::effect::{self, Target};

/// Keys with the subject they belong to. Names and number of 4.17 (158): what `xl create` 4.17 asks
/// its parser for. Later ones: `xl.cfg(5)` of those releases.
const GROUPS: &[(&str, &str)] = &[
    (
        "identity and type",
        "name uuid type builder pool seclabel init_seclabel driver_domain nomigrate passthrough",
    ),
    (
        "CPU",
        "vcpus maxvcpus cpus cpus_soft cpu_weight cap cpuid vnuma vpmu period slice latency extratime",
    ),
    (
        "memory and limits",
        "memory maxmem shadow_memory max_grant_frames max_maptrack_frames max_grant_version \
         max_event_channels mmio_hole rdm rdm_mem_boundary vmtrace_buf_kb llc_colors",
    ),
    (
        "events",
        "on_poweroff on_reboot on_crash on_watchdog on_soft_reset xend_suspend_evtchn_compat",
    ),
    (
        "boot",
        "kernel ramdisk cmdline root extra boot firmware bios bootloader bootloader_args \
         bootloader_restrict bootloader_user firmware_override bios_path_override pvshim \
         pvshim_path pvshim_cmdline pvshim_extra device_tree",
    ),
    (
        "devices",
        "disk vif vif2 channel p9 pvcalls vfb vkb vkb_device vdispl vsnd vtpm virtio serial hdtype",
    ),
    (
        "host devices",
        "pci pci_permissive pci_msitranslate pci_seize pci_power_mgmt gfx_passthru dtdev ioports \
         iomem irqs usb usbversion usbdevice usbctrl usbdev e820_host",
    ),
    (
        "HVM platform",
        "acpi acpi_s3 acpi_s4 acpi_laptop_slate acpi_firmware apic hap oos pae nx hpet vpt_align \
         nestedhvm viridian localtime rtc_timeoffset tsc_mode timer_mode xen_platform_pci altp2m \
         altp2mhvm altp2m_count smbios smbios_firmware ms_vm_genid mca_caps msr_relaxed \
         vendor_device hvm_pirq xenpci_bar_uc",
    ),
    (
        "graphics and audio",
        "vga videoram stdvga vnc vnclisten vncdisplay vncpasswd vncunused vncviewer nographic sdl \
         opengl display xauthority keymap soundhw spice spiceport spicetls_port spicehost \
         spicedisable_ticketing spicepasswd spiceagent_mouse spicevdagent spice_clipboard_sharing \
         spiceusbredirection spice_image_compression spice_streaming_video",
    ),
    (
        "device model",
        "device_model device_model_version device_model_override device_model_user \
         device_model_args device_model_args_pv device_model_args_hvm \
         device_model_stubdomain_override device_model_stubdomain_seclabel dm_restrict \
         stubdomain_kernel stubdomain_cmdline stubdomain_ramdisk stubdomain_memory",
    ),
    ("xenstore", "xenstore_feature_mask xenstore_quota"),
    (
        "ARM",
        "gic_version vuart sve nr_spis tee trap_unmapped_accesses arm_sci",
    ),
];

/// The keys that a [`DomainSpec`](crate::DomainSpec) is made of.
pub const SPEC_KEYS: &[&str] = &[
    "name",
    "uuid",
    "type",
    "builder",
    "kernel",
    "ramdisk",
    "cmdline",
    "root",
    "extra",
    "memory",
    "maxmem",
    "vcpus",
    "maxvcpus",
    "cpuid",
    "on_poweroff",
    "on_reboot",
    "on_crash",
    "on_watchdog",
    "on_soft_reset",
    "max_grant_frames",
    "max_maptrack_frames",
    "max_grant_version",
    "max_event_channels",
    "serial",
    "disk",
    "vif",
];

/// The keys that a [`DomainSpec`](crate::DomainSpec) has no place for, and that a host takes from
/// libxl's form, [`DomainConfig`](crate::libxl::DomainConfig).
pub const LIBXL_KEYS: &[&str] = &["cpus", "cpus_soft", "cpu_weight", "cap", "tsc_mode"];

/// Every known key with its subject.
pub fn known() -> impl Iterator<Item = (&'static str, &'static str)> {
    GROUPS
        .iter()
        .flat_map(|(group, keys)| keys.split_whitespace().map(move |key| (key, *group)))
}

/// Keys that came after 4.17, with the release.
const LATER: &[(&str, &str)] = &[
    (
        "4.18",
        "bootloader_restrict bootloader_user smbios sve virtio",
    ),
    ("4.19", "hvm_pirq nr_spis"),
    ("4.20", "llc_colors"),
    (
        "4.21",
        "altp2m_count arm_sci trap_unmapped_accesses xenpci_bar_uc xenstore_feature_mask",
    ),
    ("4.22", "xenstore_quota"),
];

/// The first release, from 4.17 on, whose `xl` reads `key`.
pub fn since(key: &str) -> &'static str {
    let later = LATER
        .iter()
        .find(|(_, keys)| keys.split(' ').any(|later| later == key));
    later.map_or("4.17", |(release, _)| release)
}

/// The subject of `key`, if `xl` knows it.
pub fn group(key: &str) -> Option<&'static str> {
    known()
        .find(|(known, _)| *known == key)
        .map(|(_, group)| group)
}

/// Sorts the keys of `document` out: one that `xl` does not know is an error, one that is not in
/// `acted_on` a warning. For a `target` the warning tells why, and keys may be refused.
pub fn check(document: &Document, acted_on: &[&str], target: Option<Target>) -> Vec<Diagnostic> {
    let Some(target) = target else {
        return check_for_any(document, acted_on);
    };
    let mut found = unknown(document);
    found.extend(effect::check(document, target));
    found
}

fn check_for_any(document: &Document, acted_on: &[&str]) -> Vec<Diagnostic> {
    let acted_on: BTreeSet<&str> = acted_on.iter().copied().collect();
    let mut found = Vec::new();
    for (key, entry) in document
        .entries()
        .filter(|(key, _)| !acted_on.contains(key))
    {
        let diagnostic = match group(key) {
            Some(group) => Diagnostic {
                severity: Severity::Warning,
                ..document.error(
                    entry.key,
                    format!("{key} has no effect here: this program does not act on it."),
                    Some(format!(
                        "xl does ({group}). Remove the line if the guest does not need it."
                    )),
                )
            },
            None => no_such_key(document, key, entry),
        };
        found.push(diagnostic);
    }
    found
}

/// An error for each key that no release of `xl` reads.
pub fn unknown(document: &Document) -> Vec<Diagnostic> {
    let entries = document.entries();
    let unknown = entries.filter(|(key, _)| group(key).is_none());
    unknown
        .map(|(key, entry)| no_such_key(document, key, entry))
        .collect()
}

fn no_such_key(document: &Document, key: &str, entry: &Entry) -> Diagnostic {
    let help = nearest(key, known().map(|(known, _)| known)).map_or_else(
        || "xl.cfg(5) lists the keys.".to_owned(),
        |near| format!("Did you mean {near}?"),
    );
    document.error(entry.key, format!("There is no key {key}."), Some(help))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::parse;

    #[test]
    fn the_table_has_as_many_keys_as_xl() {
        let keys: BTreeSet<&str> = known().map(|(key, _)| key).collect();
        assert_eq!(keys.len(), known().count(), "a key is there twice");
        for (release, count) in [
            ("4.17", 158),
            ("4.18", 163),
            ("4.19", 165),
            ("4.20", 166),
            ("4.21", 171),
            ("4.22", 172),
        ] {
            let there = keys.iter().filter(|key| since(key) <= release).count();
            assert_eq!(there, count, "number of keys read by xl {release}");
        }
    }

    #[test]
    fn the_keys_of_a_spec_are_known() {
        for key in SPEC_KEYS {
            assert!(group(key).is_some(), "{key}");
        }
    }

    #[test]
    fn unknown_keys_are_errors_and_idle_ones_warnings() {
        let document = parse("memory=1\nmemroy=2\nvga='qxl'\nzzz=1", "f").unwrap();
        let found: Vec<String> = check(&document, &["memory"], None)
            .iter()
            .map(|d| d.to_string())
            .collect();
        assert_eq!(found.len(), 3, "{found:#?}");
        assert!(
            found[0].starts_with("f:2:1: There is no key memroy.")
                && found[0].ends_with("Did you mean memory?")
        );
        assert!(found[1].starts_with("f:3:1: Warning: vga has no effect here"));
        assert!(found[2].ends_with("xl.cfg(5) lists the keys."));
    }
}
