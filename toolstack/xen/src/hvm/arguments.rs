//! The device model's command line: libxl's, argument for argument where it matters to the guest.

use std::path::Path;

use xen_sys::DomId;
use xt_config::disk::{DiskFormat, DiskSpec};
use xt_config::libxl::{Hdtype, HvmInfo, VendorDevice, VgaKind};
use xt_config::vif::{NicType, VifSpec};
use xt_config::{DomainSpec, HvmSpec};
use xt_host::{HostError, Result};

use super::Plan;
use super::plan::yes;

/// Disks that IDE has room for.
const IDE_PLACES: u32 = 4;
/// The same of AHCI.
const AHCI_PLACES: u32 = 6;

/// An interface of the domain with what had to be chosen.
#[derive(Clone, Debug)]
pub(crate) struct Nic {
    /// What was asked for; with a number and an address.
    pub spec: VifSpec,
    /// Its number.
    pub devid: u32,
    /// Its address.
    pub mac: String,
}

/// Whom and where the device model is confined to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Confined {
    pub uid: u32,
    pub gid: u32,
    pub root: std::path::PathBuf,
}

/// All of them. The monitor's socket is the process's standard input.
pub(crate) fn arguments(
    domid: DomId,
    spec: &DomainSpec,
    hvm: &HvmSpec,
    plan: &Plan,
    nics: &[Nic],
    confined: Option<&Confined>,
) -> Result<Vec<String>> {
    let info = &hvm.info;
    let mut list = List::default();
    list.pair("-xen-domid", domid.0);
    list.flag("-no-shutdown");
    list.pair("-chardev", "socket,id=libxl-cmd,fd=0,server=on,wait=off");
    list.pair("-mon", "chardev=libxl-cmd,mode=control");
    let statistics = super::process::statistics_socket(domid);
    list.pair(
        "-chardev",
        format!(
            "socket,id=libxenstat-cmd,path={},server=on,wait=off",
            statistics.display()
        ),
    );
    list.pair("-mon", "chardev=libxenstat-cmd,mode=control");
    list.flag("-nodefaults");
    list.flag("-no-user-config");
    if let Some(Confined { uid, gid, root }) = confined {
        list.flag("-xen-domid-restrict");
        list.pair("-chroot", root.display());
        list.pair("-runas", format!("{uid}:{gid}"));
    }
    list.pair("-name", escape(&spec.name));
    display(&mut list, info, plan);
    kernel(&mut list, spec);
    for line in &spec.serial {
        list.pair("-serial", line);
    }
    list.pair(
        "-boot",
        format!("order={}", info.boot.as_deref().unwrap_or("cda")),
    );
    usb(&mut list, info);
    for card in sound(info.soundhw.as_deref()) {
        list.pair("-device", card);
    }
    if spec.max_vcpus > 1 {
        list.pair("-smp", format!("{},maxcpus={}", spec.vcpus, spec.max_vcpus));
    }
    network(&mut list, domid, nics);
    if info.vendor_device == VendorDevice::Xenserver {
        list.pair("-device", "xen-pvdevice,device-id=0xc000");
    }
    machine(&mut list, info, plan);
    disks(&mut list, spec, info)?;
    list.0.extend(hvm.device_model_args.iter().cloned());
    Ok(list.0)
}

#[derive(Default)]
struct List(Vec<String>);

impl List {
    fn flag(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    fn pair(&mut self, name: &str, value: impl ToString) {
        self.flag(name);
        self.0.push(value.to_string());
    }
}

/// A value in QEMU's lists: commas are doubled.
fn escape(text: &str) -> String {
    text.replace(',', ",,")
}

fn display(list: &mut List, info: &HvmInfo, plan: &Plan) {
    if vnc_enabled(info) {
        let vnc = &info.vnc;
        let listen = vnc.listen.as_deref().unwrap_or("127.0.0.1");
        // libxl takes the display with the address, too.
        let (address, display) = match listen.rsplit_once(':') {
            Some((address, display)) if display.parse::<u16>().is_ok() => {
                (address, display.to_owned())
            }
            _ => (listen, vnc.display.to_string()),
        };
        let mut value = format!("{address}:{display}");
        if vnc.passwd.as_deref().is_some_and(|text| !text.is_empty()) {
            value += ",password=on";
        }
        if yes(vnc.findunused, true) {
            value += ",to=99";
        }
        list.pair("-vnc", value);
    } else {
        list.pair("-vnc", "none");
    }
    list.pair("-display", "none");
    if let Some(keymap) = &info.keymap {
        list.pair("-k", keymap);
    }
    let mib = plan.video_kib >> 10;
    match plan.vga {
        VgaKind::Std => list.pair("-device", format!("VGA,vgamem_mb={mib}")),
        VgaKind::Cirrus | VgaKind::Unknown => {
            list.pair("-device", format!("cirrus-vga,vgamem_mb={mib}"));
        }
        VgaKind::None | VgaKind::Qxl => {}
    }
    if yes(info.nographic, false) && !vnc_enabled(info) {
        list.flag("-nographic");
    }
}

/// As in libxl, there is VNC unless told otherwise, `nographic` or not.
pub(crate) fn vnc_enabled(info: &HvmInfo) -> bool {
    yes(info.vnc.enable, true)
}

fn kernel(list: &mut List, spec: &DomainSpec) {
    let Some(kernel) = &spec.kernel else {
        return;
    };
    list.pair("-kernel", kernel.display());
    if let Some(initrd) = &spec.ramdisk {
        list.pair("-initrd", initrd.display());
    }
    if let Some(text) = &spec.cmdline {
        list.pair("-append", text);
    }
}

/// `usb=1` is a controller of version 1; a device needs one.
fn usb(list: &mut List, info: &HvmInfo) {
    let devices = info.usbdevice.iter().chain(&info.usbdevice_list);
    let devices: Vec<&String> = devices.collect();
    if !yes(info.usb, !devices.is_empty()) && info.usbversion == 0 {
        return;
    }
    match info.usbversion {
        2 => {
            list.pair("-device", "ich9-usb-ehci1,id=ehci,bus=pci.0,addr=0x1d.0x7");
            for (number, addr) in [(1, "0x1d.0x0"), (2, "0x1d.0x1"), (3, "0x1d.0x2")] {
                let more = if number == 1 { ",multifunction=on" } else { "" };
                let first = (number - 1) * 2;
                list.pair(
                    "-device",
                    format!(
                        "ich9-usb-uhci{number},masterbus=ehci.0,firstport={first},bus=pci.0,addr={addr}{more}"
                    ),
                );
            }
        }
        3 => list.pair("-device", "nec-usb-xhci,id=xhci"),
        _ => list.flag("-usb"),
    }
    for device in devices {
        list.pair("-usbdevice", device);
    }
}

/// The names that `soundhw` knows, as devices.
fn sound(cards: Option<&str>) -> Vec<String> {
    let one = |card: &str| match card {
        "hda" => vec!["intel-hda".to_owned(), "hda-duplex".to_owned()],
        "ac97" => vec!["ac97".to_owned()],
        "es1370" => vec!["ES1370".to_owned()],
        other => vec![other.to_owned()],
    };
    let cards = cards.filter(|cards| !cards.is_empty());
    cards
        .into_iter()
        .flat_map(|cards| cards.split(','))
        .flat_map(one)
        .collect()
}

/// Whether an interface has an emulated card, besides the paravirtual one.
pub(crate) fn emulated(nic: &VifSpec) -> bool {
    nic.nic_type != Some(NicType::Vif)
}

fn network(list: &mut List, domid: DomId, nics: &[Nic]) {
    let mut any = false;
    for nic in nics.iter().filter(|nic| emulated(&nic.spec)) {
        any = true;
        let Nic { spec, devid, mac } = nic;
        let model = spec.model.as_deref().unwrap_or("rtl8139");
        list.pair(
            "-device",
            format!(
                "{},id=nic{devid},netdev=net{devid},mac={mac}",
                escape(model)
            ),
        );
        let name = tap_name(domid, *devid);
        let bridge = spec.bridge.as_deref().unwrap_or("xenbr0");
        list.pair(
            "-netdev",
            format!(
                "type=tap,id=net{devid},ifname={},br={},script=no,downscript=no",
                name,
                escape(bridge)
            ),
        );
    }
    if !any {
        list.pair("-net", "none");
    }
}

/// The emulated card's interface in this system; its script renames it where that is wanted.
pub(crate) fn tap_name(domid: DomId, devid: u32) -> String {
    format!("vif{}.{devid}-emu", domid.0)
}

fn machine(list: &mut List, info: &HvmInfo, plan: &Plan) {
    let mut machine = match yes(info.xen_platform_pci, true) {
        true => "xenfv,suppress-vmdesc=on".to_owned(),
        false => "pc,accel=xen,suppress-vmdesc=on".to_owned(),
    };
    if let Some(hole) = plan.hole {
        machine += &format!(",max-ram-below-4g={}", (1u64 << 32) - hole);
    }
    list.pair("-machine", machine);
    list.pair("-m", plan.ram_mib());
}

fn disks(list: &mut List, spec: &DomainSpec, info: &HvmInfo) -> Result<()> {
    let ahci = info.hdtype == Hdtype::Ahci;
    let on_ahci = |disk: &&DiskSpec| ahci && !disk.cdrom && !is_scsi(disk);
    if spec.disks.iter().any(|disk| on_ahci(&disk)) {
        list.pair("-device", "ahci,id=ahci0");
    }
    for disk in &spec.disks {
        one_disk(list, disk, ahci)?;
    }
    Ok(())
}

fn is_scsi(disk: &DiskSpec) -> bool {
    disk.vdev.name().starts_with("sd")
}

/// Which disk of its kind it is, from its number (`xen-vbd-interface(7)`).
fn place(disk: &DiskSpec) -> u32 {
    let number = disk.vdev.number();
    let minor = number & 0xff;
    match number >> 8 {
        3 => minor >> 6,
        22 => 2 + (minor >> 6),
        8 | 202 => minor >> 4,
        _ => (number & !(1 << 28)) >> 8,
    }
}

/// The name that the device model has for a CD-ROM drive.
pub(crate) fn drive(disk: &DiskSpec) -> String {
    format!("ide-{}", disk.vdev.number())
}

fn one_disk(list: &mut List, disk: &DiskSpec, ahci: bool) -> Result<()> {
    let place = place(disk);
    let target = disk.target.as_deref().unwrap_or_default();
    let format = format_name(disk.format);
    if disk.cdrom {
        if place >= IDE_PLACES {
            return Err(refused(disk, "a CD-ROM drive is one of hda to hdd"));
        }
        let id = drive(disk);
        let mut value = format!("if=none,readonly=on,id={id}");
        if !target.is_empty() {
            value += &format!(",file={},format={format}", escape(target));
        }
        list.pair("-drive", value);
        let (bus, unit) = (place / 2, place % 2);
        list.pair(
            "-device",
            format!("ide-cd,id={id},drive={id},bus=ide.{bus},unit={unit}"),
        );
        return Ok(());
    }
    // Paravirtual drivers reach all disks; the BIOS and guests without drivers these.
    if disk.script.is_some() || disk.backend.is_some() {
        return Ok(());
    }
    let file = escape(target);
    let access = if disk.readonly { ",readonly=on" } else { "" };
    if is_scsi(disk) {
        list.pair(
            "-drive",
            format!(
                "file={file},if=scsi,bus=0,unit={place},format={format}{access},cache=writeback"
            ),
        );
    } else if ahci && place < AHCI_PLACES {
        list.pair(
            "-drive",
            format!(
                "file={file},if=none,id=ahcidisk-{place},format={format}{access},cache=writeback"
            ),
        );
        list.pair(
            "-device",
            format!("ide-hd,bus=ahci0.{place},unit=0,drive=ahcidisk-{place}"),
        );
    } else if place < IDE_PLACES {
        if disk.readonly {
            return Err(refused(
                disk,
                "an emulated IDE disk cannot be read-only: name it sda, or xvde",
            ));
        }
        list.pair(
            "-drive",
            format!("file={file},if=ide,index={place},media=disk,format={format},cache=writeback"),
        );
    }
    Ok(())
}

fn refused(disk: &DiskSpec, why: &str) -> HostError {
    HostError::Key {
        key: "disk",
        message: format!("disk {} cannot be emulated: {why}", disk.vdev),
        help: None,
    }
}

pub(crate) fn format_name(format: DiskFormat) -> &'static str {
    match format {
        DiskFormat::Raw | DiskFormat::Empty => "raw",
        DiskFormat::Qcow => "qcow",
        DiskFormat::Qcow2 => "qcow2",
        DiskFormat::Vhd => "vpc",
        DiskFormat::Qed => "qed",
        DiskFormat::Vmdk => "vmdk",
    }
}

/// Where Debian and Xen's own build have the device model.
const PROGRAMS: &[&str] = &[
    "/usr/libexec/xen-qemu-system-i386",
    "/usr/lib/xen/bin/qemu-system-i386",
    "/usr/local/lib/xen/bin/qemu-system-i386",
    "/usr/bin/qemu-system-i386",
];

/// The device model.
pub(crate) fn program(hvm: &HvmSpec) -> Result<std::path::PathBuf> {
    let key = "device_model_override";
    if let Some(path) = &hvm.device_model {
        return match path.is_file() {
            true => Ok(path.clone()),
            false => Err(HostError::Key {
                key,
                message: format!("there is no program {path:?}"),
                help: None,
            }),
        };
    }
    let found = PROGRAMS.iter().map(Path::new).find(|path| path.is_file());
    found.map(Path::to_owned).ok_or_else(|| HostError::Key {
        key,
        message: format!("there is no device model: none of {}", PROGRAMS.join(", ")),
        help: Some("Install the package qemu-system-xen.".into()),
    })
}

#[cfg(test)]
#[path = "arguments_test.rs"]
mod tests;
