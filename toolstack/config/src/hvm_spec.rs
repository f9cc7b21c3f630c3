//! What only HVM domains can be asked for, in libxl's terms.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::hvm;
use crate::libxl::{Defbool, DeviceModelVersion, HvmInfo, MemKb, TimerMode};
use crate::reader::Reader;

/// The keys of an HVM domain beyond [`SPEC_KEYS`](crate::keys::SPEC_KEYS).
pub const HVM_KEYS: &[&str] = &[
    "acpi",
    "acpi_firmware",
    "acpi_s3",
    "acpi_s4",
    "apic",
    "bios",
    "bios_path_override",
    "boot",
    "device_model_args",
    "device_model_args_hvm",
    "device_model_override",
    "device_model_user",
    "device_model_version",
    "dm_restrict",
    "firmware",
    "firmware_override",
    "hap",
    "hdtype",
    "hpet",
    "hvm_pirq",
    "keymap",
    "localtime",
    "mca_caps",
    "mmio_hole",
    "ms_vm_genid",
    "nestedhvm",
    "nographic",
    "oos",
    "rtc_timeoffset",
    "shadow_memory",
    "smbios_firmware",
    "soundhw",
    "stdvga",
    "timer_mode",
    "usb",
    "usbdevice",
    "usbversion",
    "vendor_device",
    "vga",
    "videoram",
    "viridian",
    "vkb_device",
    "vnc",
    "vncdisplay",
    "vnclisten",
    "vncpasswd",
    "vncunused",
    "vpt_align",
    "xen_platform_pci",
];

/// An HVM domain's firmware, platform, device model and emulated devices. What was left open is so
/// here, too: the host fills it in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HvmSpec {
    /// `libxl_domain_build_info.u.hvm`.
    pub info: HvmInfo,
    /// ACPI tables.
    pub acpi: Defbool,
    /// A local APIC.
    pub apic: Defbool,
    /// Hardware virtualisation inside the guest.
    pub nested_hvm: Defbool,
    /// Hardware-assisted paging.
    pub hap: Defbool,
    /// Out-of-sync shadow page tables.
    pub oos: Defbool,
    /// The guest's clock shows local time.
    pub localtime: Defbool,
    /// Offset of the guest's clock from UTC in seconds.
    pub rtc_timeoffset: i32,
    /// Memory of the emulated graphics card.
    pub video_memkb: MemKb,
    /// Memory for shadow or HAP page tables.
    pub shadow_memkb: MemKb,
    /// Missed ticks.
    pub timer_mode: TimerMode,
    /// Path of the device model.
    pub device_model: Option<PathBuf>,
    /// The user it runs as.
    pub device_model_user: Option<String>,
    /// Further arguments for it.
    pub device_model_args: Vec<String>,
    /// Whether it is confined.
    pub dm_restrict: Defbool,
}

pub(crate) fn read(reader: &mut Reader<'_>) -> HvmSpec {
    let range = i64::from(i32::MIN)..=i64::from(i32::MAX);
    let versions = [
        (
            "qemu-xen-traditional",
            DeviceModelVersion::QemuXenTraditional,
        ),
        ("qemu-xen", DeviceModelVersion::QemuXen),
    ];
    if reader.named("device_model_version", &versions)
        == Some(DeviceModelVersion::QemuXenTraditional)
    {
        let message = "The device model qemu-xen-traditional has gone from Xen.";
        let help = "Remove the line: qemu-xen is what there is.";
        reader.error("device_model_version", message, help);
    }
    let mut args = reader.strings("device_model_args");
    args.extend(reader.strings("device_model_args_hvm"));
    if let Some(wrong) = reader.string("boot").and_then(|order| {
        let known = |letter: &char| !"acdn".contains(*letter);
        order.chars().find(known)
    }) {
        let message = format!("{wrong:?} in boot is no device to boot from.");
        let help = "Known: c (first disk), d (CD-ROM), n (network), a (floppy disk).";
        reader.error("boot", message, help);
    }
    HvmSpec {
        acpi: reader.defbool("acpi"),
        apic: reader.defbool("apic"),
        nested_hvm: reader.defbool("nestedhvm"),
        hap: reader.defbool("hap"),
        oos: reader.defbool("oos"),
        localtime: reader.defbool("localtime"),
        rtc_timeoffset: reader.number("rtc_timeoffset", range, "seconds"),
        video_memkb: reader.mebibytes("videoram"),
        shadow_memkb: reader.mebibytes("shadow_memory"),
        timer_mode: crate::domain::timer_mode(reader),
        device_model: reader.filled("device_model_override").map(PathBuf::from),
        device_model_user: reader.filled("device_model_user").map(str::to_owned),
        device_model_args: args,
        dm_restrict: reader.defbool("dm_restrict"),
        info: hvm::read(reader),
    }
}
