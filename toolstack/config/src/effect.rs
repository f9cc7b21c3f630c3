//! What becomes of each key on each kind of host: the one place that says so.
//!
//! `xl` is silent about keys that it does not read for the kind of domain at hand. Here every key
//! is acted on, or named as having no effect and why, or refused and why. Warnings come from this
//! table, and so does `docs/xl-cfg.md`.

use std::fmt;

use crate::diagnostic::{Diagnostic, Severity};
use crate::document::Document;
use crate::keys;
use crate::reader::Reader;
use crate::spec::{DomainType, domain_type};

/// Kinds of domains on kinds of hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A PV domain of Xen.
    XenPv,
    /// A PVH domain of Xen.
    XenPvh,
    /// An HVM domain of Xen.
    XenHvm,
    /// A PV domain of xenner, on KVM.
    Kvm,
}

impl Target {
    /// All of them, in the order of the table.
    pub const ALL: [Target; 4] = [Target::XenPv, Target::XenPvh, Target::XenHvm, Target::Kvm];

    /// What the domain of `document` is on Xen. A `type` or `builder` that is none counts as not there:
    /// it is an error where the configuration is read.
    pub fn of(document: &Document) -> Self {
        Self::on_xen(domain_type(&mut Reader::of_all_keys(document)))
    }

    /// What a domain of this kind is on Xen.
    pub fn on_xen(kind: DomainType) -> Self {
        match kind {
            DomainType::Pv => Target::XenPv,
            DomainType::Pvh => Target::XenPvh,
            DomainType::Hvm => Target::XenHvm,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Target::XenPv => "a PV domain of Xen",
            Target::XenPvh => "a PVH domain of Xen",
            Target::XenHvm => "an HVM domain of Xen",
            Target::Kvm => "a domain on KVM",
        })
    }
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It does what `xl.cfg(5)` says.
    ActedOn,
    /// It is read and checked, and nothing comes of it: a warning. Why.
    NoEffect(&'static str),
    /// A configuration with it is refused. Why.
    Refused(&'static str),
}

use Effect::{ActedOn as Act, NoEffect as No, Refused as Ref};

const LATER: Effect = No("not done yet");
const DEPRECATED: Effect = No("xl takes no notice of it either");
const ARM_ONLY: Effect = No("it is for ARM");
const HVM_ONLY: Effect = No("only HVM domains have that");
const PVH_ONLY: Effect = No("only PVH domains have that");
const PV_ONLY: Effect = No("only PV domains have that");
const XEN_ONLY: Effect = No("it is for Xen's own mechanisms, and there is no Xen here");
const NO_SHADOW: Effect = No("PV domains have page tables of their own");
const NO_DM: Effect = No("there is no device model");
const NO_GIVING: Effect = Ref("devices of the host cannot be given to a domain yet");
const NO_LOADER: Effect = No("the firmware boots HVM domains");
const NO_CPUID: Effect = No("the processor's own word counts: take it away with cpuid");
const NO_PASS: Effect = No("devices of the host cannot be given to a guest");
const LINUX_CPUS: Effect = No("vCPUs are threads: use taskset(1) or a control group");
const LINUX_LIMIT: Effect = No("guest and back ends are one process: there is no table to limit");
const NO_XSM: Effect = No("there is no XSM on this host");
const SEDF: Effect = No("its scheduler has gone from Xen");

/// Keys, and what they do for PV, PVH and HVM domains of Xen and for domains on KVM.
const ROWS: &[(&str, [Effect; 4])] = &[
    (
        "name uuid kernel ramdisk cmdline root extra memory maxmem vcpus maxvcpus cpuid \
         on_poweroff on_reboot on_crash on_watchdog disk vif",
        [Act, Act, Act, Act],
    ),
    ("type builder", [Act, Act, Act, Act]),
    (
        "on_soft_reset",
        [Act, Act, Act, No("a guest cannot ask for one here")],
    ),
    (
        "max_grant_frames max_maptrack_frames max_grant_version max_event_channels",
        [Act, Act, Act, LINUX_LIMIT],
    ),
    ("pool", [LATER, LATER, LATER, LINUX_CPUS]),
    ("cpus cpus_soft cpu_weight cap", [Act, Act, Act, LINUX_CPUS]),
    ("period extratime", [LATER, LATER, LATER, LINUX_CPUS]),
    ("slice latency", [SEDF, SEDF, SEDF, SEDF]),
    ("vnuma", [LATER, LATER, LATER, LATER]),
    (
        "seclabel init_seclabel device_model_stubdomain_seclabel",
        [LATER, LATER, LATER, NO_XSM],
    ),
    ("driver_domain", [LATER, LATER, LATER, XEN_ONLY]),
    ("nomigrate", [LATER, LATER, LATER, LATER]),
    ("pci", [LATER, LATER, NO_GIVING, NO_PASS]),
    (
        "passthrough pci_permissive pci_msitranslate pci_seize pci_power_mgmt ioports iomem irqs",
        [LATER, LATER, LATER, NO_PASS],
    ),
    ("e820_host", [LATER, PV_ONLY, PV_ONLY, NO_PASS]),
    ("dtdev", [ARM_ONLY, ARM_ONLY, ARM_ONLY, ARM_ONLY]),
    ("gfx_passthru", [HVM_ONLY, HVM_ONLY, NO_GIVING, HVM_ONLY]),
    (
        "rdm rdm_mem_boundary",
        [HVM_ONLY, HVM_ONLY, LATER, HVM_ONLY],
    ),
    ("vpmu", [LATER, LATER, LATER, LATER]),
    ("shadow_memory hap oos", [NO_SHADOW, LATER, Act, NO_SHADOW]),
    ("vmtrace_buf_kb", [HVM_ONLY, LATER, LATER, XEN_ONLY]),
    (
        "xenstore_feature_mask xenstore_quota",
        [LATER, LATER, LATER, LATER],
    ),
    (
        "xend_suspend_evtchn_compat",
        [
            LATER,
            LATER,
            LATER,
            No("guests are asked to suspend through xenstore only"),
        ],
    ),
    ("firmware", [LATER, LATER, Act, LATER]),
    (
        "bootloader bootloader_args bootloader_restrict bootloader_user",
        [LATER, LATER, NO_LOADER, LATER],
    ),
    (
        "pvshim pvshim_path pvshim_cmdline pvshim_extra",
        [PVH_ONLY, LATER, PVH_ONLY, PVH_ONLY],
    ),
    (
        "channel p9 pvcalls vtpm vdispl vsnd",
        [LATER, LATER, LATER, LATER],
    ),
    ("virtio", [ARM_ONLY, LATER, LATER, LATER]),
    ("vfb vkb", [LATER, LATER, LATER, LATER]),
    (
        "vnc vnclisten vncdisplay vncpasswd vncunused",
        [LATER, LATER, Act, LATER],
    ),
    (
        "sdl opengl display xauthority",
        [LATER, HVM_ONLY, LATER, NO_DM],
    ),
    ("keymap", [LATER, HVM_ONLY, Act, NO_DM]),
    ("usbctrl usbdev", [LATER, LATER, LATER, NO_PASS]),
    (
        "vif2 device_model vncviewer",
        [DEPRECATED, DEPRECATED, DEPRECATED, DEPRECATED],
    ),
    ("localtime rtc_timeoffset", [LATER, LATER, Act, LATER]),
    (
        "tsc_mode",
        [Act, Act, Act, No("the guest reads the TSC itself")],
    ),
    (
        "timer_mode",
        [
            Ref("PV domains have no emulated timers"),
            LATER,
            Act,
            Ref("PV domains have no emulated timers"),
        ],
    ),
    ("acpi", [HVM_ONLY, LATER, Act, HVM_ONLY]),
    ("nestedhvm", [HVM_ONLY, LATER, Act, HVM_ONLY]),
    ("altp2m altp2m_count", [HVM_ONLY, LATER, LATER, HVM_ONLY]),
    ("msr_relaxed", [LATER, LATER, LATER, XEN_ONLY]),
    (
        "serial hdtype bios firmware_override bios_path_override boot usb usbversion usbdevice \
         vkb_device soundhw acpi_s3 acpi_s4 acpi_firmware apic hpet vpt_align viridian \
         xen_platform_pci smbios_firmware ms_vm_genid mca_caps vendor_device hvm_pirq mmio_hole \
         vga videoram stdvga nographic",
        [HVM_ONLY, HVM_ONLY, Act, HVM_ONLY],
    ),
    ("pae nx", [HVM_ONLY, HVM_ONLY, NO_CPUID, HVM_ONLY]),
    (
        "acpi_laptop_slate altp2mhvm smbios xenpci_bar_uc spice spiceport spicetls_port spicehost \
         spicedisable_ticketing spicepasswd spiceagent_mouse spicevdagent \
         spice_clipboard_sharing spiceusbredirection spice_image_compression \
         spice_streaming_video",
        [HVM_ONLY, HVM_ONLY, LATER, HVM_ONLY],
    ),
    (
        "device_model_version device_model_override device_model_user device_model_args \
         device_model_args_hvm dm_restrict",
        [NO_DM, NO_DM, Act, NO_DM],
    ),
    ("device_model_args_pv", [NO_DM, NO_DM, PV_ONLY, NO_DM]),
    (
        "device_model_stubdomain_override stubdomain_kernel stubdomain_cmdline stubdomain_ramdisk \
         stubdomain_memory",
        [NO_DM, NO_DM, LATER, NO_DM],
    ),
    (
        "device_tree llc_colors gic_version vuart sve nr_spis tee trap_unmapped_accesses arm_sci",
        [ARM_ONLY, ARM_ONLY, ARM_ONLY, ARM_ONLY],
    ),
];

/// What becomes of `key`; `None` if there is no such key.
pub fn effect(key: &str, target: Target) -> Option<Effect> {
    let (_, effects) = ROWS
        .iter()
        .find(|(keys, _)| keys.split_whitespace().any(|k| k == key))?;
    let place = Target::ALL.iter().position(|known| *known == target)?;
    effects.get(place).copied()
}

/// The keys that are acted on.
pub fn acted_on(target: Target) -> impl Iterator<Item = &'static str> {
    let known = keys::known().map(|(key, _)| key);
    known.filter(move |key| effect(key, target) == Some(Effect::ActedOn))
}

/// A warning for each key of `document` that has no effect, an error for each that is refused, and
/// then nothing but errors. Unknown keys are another's business, see [`keys::unknown`].
pub fn check(document: &Document, target: Target) -> Vec<Diagnostic> {
    let found = document.entries().filter_map(|(key, entry)| {
        let (severity, message, why) = match effect(key, target)? {
            Effect::ActedOn => return None,
            Effect::NoEffect(why) => (Severity::Warning, "has no effect for", why),
            Effect::Refused(why) => (Severity::Error, "cannot be for", why),
        };
        let message = format!("{key} {message} {target}: {why}.");
        let help = "Remove the line if the guest does not need it.".to_owned();
        Some(Diagnostic {
            severity,
            ..document.error(entry.key, message, Some(help))
        })
    });
    let mut found: Vec<Diagnostic> = found.collect();
    if found
        .iter()
        .any(|diagnostic| diagnostic.severity == Severity::Error)
    {
        found.retain(|diagnostic| diagnostic.severity == Severity::Error);
    }
    found
}

/// The page `docs/xl-cfg.md`.
pub fn page() -> String {
    let mut page = PREFACE.to_owned();
    let mut subject = "";
    for (key, group) in keys::known() {
        if group != subject {
            page += &format!(
                "\n## {}\n\n| key | since | Xen, PV | Xen, PVH | Xen, HVM | KVM |\n|---|---|---|---|---|---|\n",
                capitalised(group)
            );
            subject = group;
        }
        let cells = Target::ALL.map(|target| match effect(key, target) {
            Some(Effect::ActedOn) => "**acted on**".to_owned(),
            Some(Effect::NoEffect(why)) => format!("no effect: {why}"),
            Some(Effect::Refused(why)) => format!("refused: {why}"),
            None => String::new(),
        });
        page += &format!(
            "| `{key}` | {} | {} |\n",
            keys::since(key),
            cells.join(" | ")
        );
    }
    page
}

const PREFACE: &str = "# Keys of xl.cfg

Every key that `xl` of Xen 4.17 to 4.22 reads, and what becomes of it here. All of them are read and
checked: `xt create -n` prints what `xl -N create` prints. This page is made from the table in
`toolstack/config/src/effect.rs`; after a change there run `UPDATE_DOCS=1 cargo test -p xt-config`.

*Acted on* is as in `xl.cfg(5)`. A key with *no effect* is a warning with this reason. A configuration
with a key that is *refused* makes no domain. 4.17 in the second column stands for all older releases,
too. Where a value is refused that xl would take is told in `toolstack/config/tests/malformed`.
";

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::parse;
    use std::collections::BTreeSet;

    #[test]
    fn every_key_is_there_once() {
        let rows = ROWS.iter().flat_map(|(keys, _)| keys.split_whitespace());
        let all: Vec<&str> = rows.collect();
        let set: BTreeSet<&str> = all.iter().copied().collect();
        assert_eq!(all.len(), set.len(), "a key is there twice");
        let known: BTreeSet<&str> = keys::known().map(|(key, _)| key).collect();
        assert_eq!(set, known);
    }

    #[test]
    fn what_is_acted_on_reaches_a_host() {
        for target in Target::ALL {
            for key in acted_on(target) {
                let hvm = target == Target::XenHvm && crate::HVM_KEYS.contains(&key);
                let mut common = keys::SPEC_KEYS.iter().chain(keys::LIBXL_KEYS);
                assert!(
                    hvm || common.any(|known| *known == key),
                    "{key} for {target}"
                );
            }
        }
    }

    #[test]
    fn reasons_end_up_in_the_diagnostics() {
        let found = |text: &str, target| -> Vec<String> {
            let document = parse(text, "f").unwrap();
            check(&document, target)
                .iter()
                .map(|d| d.to_string())
                .collect()
        };
        let warnings = found("memory=1\nvnuma=[]\npci=[]", Target::Kvm);
        assert_eq!(warnings.len(), 2, "{warnings:#?}");
        assert!(
            warnings[0].starts_with("f:3:1: Warning: pci has no effect for a domain on KVM: d")
        );
        assert!(warnings[1].starts_with("f:2:1: Warning: vnuma "));
        let text = "type='hvm'\npci=['01:00.0']\nspice=1\nmemory=1";
        let target = Target::of(&parse(text, "f").unwrap());
        assert_eq!(target, Target::XenHvm);
        let errors = found(text, target);
        assert_eq!(errors.len(), 1, "{errors:#?}");
        assert!(errors[0].starts_with("f:2:1: pci cannot be for an HVM domain of Xen: devices"));
    }

    /// With `UPDATE_DOCS` set it writes the page.
    #[test]
    fn the_page_is_fresh() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/xl-cfg.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, page()).unwrap();
        }
        let there = std::fs::read_to_string(path).unwrap_or_default();
        assert!(there == page(), "run UPDATE_DOCS=1 cargo test -p xt-config");
    }
}
