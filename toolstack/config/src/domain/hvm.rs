//! The keys that only HVM domains have.

use crate::diagnostic::SpecError;
use crate::domain::pairs::{Pair, pairs};
use crate::libxl::{
    BiosType, Bitmap, Defbool, Genid, GfxPassthruKind, Hdtype, HvmInfo, MemKb, RdmPolicy,
    RdmReserve, RdmStrategy, Sdl, Smbios, SmbiosType, Spice, VendorDevice, Vga, VgaKind, Viridian,
    Vnc,
};
use crate::reader::{Reader, libxl_name_of, name_of};

/// libxl has room for so many Viridian interfaces.
const VIRIDIAN_BITS: u32 = 64;
/// The hole below 4 GiB in MiB: hvmloader's default, and down to 256 MiB of memory.
const MMIO_HOLE: std::ops::RangeInclusive<i64> = 256..=3840;
const PORT: std::ops::RangeInclusive<i64> = 0..=65_535;

pub(crate) fn read(reader: &mut Reader<'_>) -> HvmInfo {
    let mut info = HvmInfo {
        pae: reader.defbool("pae"),
        acpi_s3: reader.defbool("acpi_s3"),
        acpi_s4: reader.defbool("acpi_s4"),
        acpi_laptop_slate: reader.defbool("acpi_laptop_slate"),
        nx: reader.defbool("nx"),
        hpet: reader.defbool("hpet"),
        vpt_align: reader.defbool("vpt_align"),
        altp2m: altp2m(reader),
        smbios_firmware: reader.owned("smbios_firmware"),
        acpi_firmware: reader.owned("acpi_firmware"),
        smbios: reader.list("smbios", smbios),
        hdtype: reader
            .libxl_name("hdtype", Hdtype::NAMES)
            .unwrap_or_default(),
        nographic: reader.defbool("nographic"),
        vga: Vga { kind: vga(reader) },
        vnc: vnc(reader),
        keymap: reader.owned("keymap"),
        sdl: sdl(reader),
        spice: spice(reader),
        boot: reader.owned("boot"),
        usb: reader.defbool("usb"),
        usbversion: reader.number("usbversion", 0..=i64::from(i32::MAX), "as version of USB"),
        vkb_device: reader.defbool("vkb_device"),
        soundhw: reader.owned("soundhw"),
        xen_platform_pci: reader.defbool("xen_platform_pci"),
        vendor_device: reader
            .libxl_name("vendor_device", VendorDevice::NAMES)
            .unwrap_or_default(),
        ms_vm_genid: genid(reader),
        rdm: rdm(reader),
        rdm_mem_boundary_memkb: reader.mebibytes("rdm_mem_boundary"),
        mca_caps: mca_caps(reader),
        pirq: reader.defbool("hvm_pirq"),
        xenpci_bar_uc: reader.defbool("xenpci_bar_uc"),
        ..HvmInfo::default()
    };
    firmware(reader, &mut info);
    viridian(reader, &mut info);
    gfx_passthru(reader, &mut info);
    (info.serial, info.serial_list) = one_or_list(reader, "serial");
    (info.usbdevice, info.usbdevice_list) = one_or_list(reader, "usbdevice");
    let hole = reader.integer("mmio_hole", MMIO_HOLE, "MiB");
    info.mmio_hole_memkb = hole.map_or(MemKb::UNSET, |mib| MemKb(mib.unsigned_abs() * 1024));
    if info.vnc.display != 0 && info.vnc.listen.as_ref().is_some_and(|a| a.contains(':')) {
        let message = "The display is given twice, in vnclisten and as vncdisplay.";
        reader.error("vncdisplay", message, "Remove one of the two.");
    }
    info
}

/// `firmware` stands for `bios` or `firmware_override`, and wins over both.
fn firmware(reader: &mut Reader<'_>, info: &mut HvmInfo) {
    info.firmware = reader.owned("firmware_override");
    info.system_firmware = reader.owned("bios_path_override");
    let bios = reader.libxl_name("bios", BiosType::NAMES);
    if info.system_firmware.is_some() && bios.is_none() {
        let message = "bios_path_override comes without bios.";
        let help = "Add bios = \"seabios\" or another.".to_owned();
        reader.warn("bios_path_override", message, Some(help));
    }
    info.bios = bios.unwrap_or_default();
    match reader.string("firmware") {
        None | Some("bios") => {}
        Some("uefi") => info.bios = BiosType::Ovmf,
        Some(other) => match BiosType::from_name(other) {
            Some(bios) => info.bios = bios,
            None => info.firmware = Some(other.to_owned()),
        },
    }
}

fn altp2m(reader: &mut Reader<'_>) -> Defbool {
    if reader.get("altp2mhvm").is_some() {
        let help = "Write altp2m = \"mixed\"".to_owned();
        reader.warn("altp2mhvm", "altp2mhvm is deprecated.", Some(help));
    }
    reader.defbool("altp2mhvm")
}

fn viridian(reader: &mut Reader<'_>, info: &mut HvmInfo) {
    if !reader.is_list("viridian") {
        info.viridian = reader.defbool("viridian");
        return;
    }
    let groups = reader.list("viridian", viridian_group);
    for group in groups {
        match group {
            Group::All => info.viridian_enable = Bitmap::below(VIRIDIAN_BITS),
            Group::Defaults => info.viridian = true.into(),
            Group::Without(bit) => {
                info.viridian_disable.0.insert(bit);
                info.viridian_enable.0.remove(&bit);
            }
            Group::With(bit) => {
                info.viridian_enable.0.insert(bit);
                info.viridian_disable.0.remove(&bit);
            }
        }
    }
}

/// An item of `viridian`.
enum Group {
    All,
    Defaults,
    With(u32),
    Without(u32),
}

fn viridian_group(text: &str) -> Result<Group, SpecError> {
    match text {
        "all" => return Ok(Group::All),
        "defaults" => return Ok(Group::Defaults),
        _ => {}
    }
    let name = text.strip_prefix('!').unwrap_or(text);
    let offset = text.len() - name.len();
    let value = libxl_name_of("viridian", name, Viridian::NAMES).map_err(|error| SpecError {
        range: error.range.start + offset..error.range.end + offset,
        ..error
    })?;
    let place = (0..)
        .zip(Viridian::NAMES)
        .find(|(_, (_, known))| *known == value);
    let bit = place.map_or(0, |(bit, _)| bit);
    Ok(if offset == 0 {
        Group::With(bit)
    } else {
        Group::Without(bit)
    })
}

fn genid(reader: &mut Reader<'_>) -> Genid {
    let wanted = reader.named("ms_vm_genid", &[("generate", true), ("none", false)]);
    match wanted {
        Some(true) => Genid(uuid::Uuid::new_v4().into_bytes()),
        _ => Genid::default(),
    }
}

fn vga(reader: &mut Reader<'_>) -> VgaKind {
    let kinds = [
        ("stdvga", VgaKind::Std),
        ("cirrus", VgaKind::Cirrus),
        ("none", VgaKind::None),
        ("qxl", VgaKind::Qxl),
    ];
    if reader.get("vga").is_some() {
        return reader.named("vga", &kinds).unwrap_or_default();
    }
    match reader.defbool("stdvga").0 {
        None => VgaKind::Unknown,
        Some(true) => VgaKind::Std,
        Some(false) => VgaKind::Cirrus,
    }
}

/// The `vnc…` keys.
pub(super) fn vnc(reader: &mut Reader<'_>) -> Vnc {
    Vnc {
        enable: reader.defbool("vnc"),
        listen: reader.owned("vnclisten"),
        passwd: reader.owned("vncpasswd"),
        display: reader.number("vncdisplay", PORT, "as display"),
        findunused: reader.defbool("vncunused"),
    }
}

/// `sdl` and its company.
pub(super) fn sdl(reader: &mut Reader<'_>) -> Sdl {
    Sdl {
        enable: reader.defbool("sdl"),
        opengl: reader.defbool("opengl"),
        display: reader.owned("display"),
        xauthority: reader.owned("xauthority"),
    }
}

fn spice(reader: &mut Reader<'_>) -> Spice {
    Spice {
        enable: reader.defbool("spice"),
        port: reader.number("spiceport", PORT, "as TCP port"),
        tls_port: reader.number("spicetls_port", PORT, "as TCP port"),
        host: reader.owned("spicehost"),
        disable_ticketing: reader.defbool("spicedisable_ticketing"),
        passwd: reader.owned("spicepasswd"),
        agent_mouse: reader.defbool("spiceagent_mouse"),
        vdagent: reader.defbool("spicevdagent"),
        clipboard_sharing: reader.defbool("spice_clipboard_sharing"),
        usbredirection: reader.number("spiceusbredirection", 0..=i64::from(i32::MAX), "channels"),
        image_compression: reader.owned("spice_image_compression"),
        streaming_video: reader.owned("spice_streaming_video"),
    }
}

/// A number says whether, a name says also which kind.
fn gfx_passthru(reader: &mut Reader<'_>, info: &mut HvmInfo) {
    let number = reader
        .get("gfx_passthru")
        .and_then(|value| value.value.integer());
    if let Some(number) = number {
        info.gfx_passthru = (number != 0).into();
    } else if let Some(kind) = reader.libxl_name("gfx_passthru", GfxPassthruKind::NAMES) {
        info.gfx_passthru = true.into();
        info.gfx_passthru_kind = kind;
    }
}

fn one_or_list(reader: &mut Reader<'_>, key: &str) -> (Option<String>, Vec<String>) {
    match reader.is_list(key) {
        true => (None, reader.strings(key)),
        false => (reader.owned(key), Vec::new()),
    }
}

fn mca_caps(reader: &mut Reader<'_>) -> u64 {
    let caps = reader.list("mca_caps", |text| {
        name_of("mca_caps", text, &[("lmce", 1u64)])
    });
    caps.into_iter().fold(0, |all, cap| all | cap)
}

/// `strategy=host,policy=strict`
pub(super) fn rdm(reader: &mut Reader<'_>) -> RdmReserve {
    reader
        .parsed("rdm", |text| {
            let mut rdm = RdmReserve::default();
            for pair in pairs(text)? {
                match pair.key {
                    "strategy" => rdm.strategy = pair.named(&[("host", RdmStrategy::Host)])?,
                    "policy" => rdm.policy = pair.libxl_name(POLICIES)?,
                    _ => return Err(pair.unknown("rdm", &["strategy", "policy"])),
                }
            }
            Ok(rdm)
        })
        .unwrap_or_default()
}

/// What `policy` can be.
pub(super) const POLICIES: &[(&str, RdmPolicy)] = &[
    ("strict", RdmPolicy::Strict),
    ("relaxed", RdmPolicy::Relaxed),
];

fn smbios(text: &str) -> Result<Smbios, SpecError> {
    let pair = Pair::whole(text)?;
    let names = SmbiosType::NAMES;
    let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
    let key = SmbiosType::from_name(pair.key).ok_or_else(|| pair.unknown("smbios", &known))?;
    Ok(Smbios {
        key: Some(key),
        value: pair.owned(),
    })
}
