//! What an HVM domain is to be, nothing left open.

use std::path::PathBuf;

use xt_config::libxl::{BiosType, Defbool, HvmInfo, TimerMode, VgaKind, Viridian};
use xt_config::{DomainSpec, HvmSpec};
use xt_host::{HostError, Result};

/// `HVM_BELOW_4G_MMIO_START`: where low memory ends at the latest, in pages.
const HOLE_START: u64 = 0xf_0000;
/// 4 GiB, in pages.
pub(super) const FOUR_GIB: u64 = 0x10_0000;
/// Pages of the old graphics card's window: there is no RAM behind them.
pub(super) const VGA_WINDOW: std::ops::Range<u64> = 0xa0..0xc0;
/// Pages of a MiB.
const MIB: u64 = 256;

/// What the BIOS is, and where Debian and Xen's own build have it.
const SEABIOS: &[&str] = &[
    "/usr/share/seabios/bios-256k.bin",
    "/usr/lib/xen/boot/seabios.bin",
    "/usr/local/lib/xen/boot/seabios.bin",
];
const OVMF: &[&str] = &[
    "/usr/share/ovmf/OVMF.fd",
    "/usr/lib/xen/boot/ovmf.bin",
    "/usr/local/lib/xen/boot/ovmf.bin",
];

/// All that is decided.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Pages of RAM, the graphics card's not among them.
    pub pages: u64,
    /// Of those, the domain has so many at the start.
    pub target_pages: u64,
    /// Memory of the graphics card in KiB.
    pub video_kib: u64,
    /// Where RAM below 4 GiB ends, in pages.
    pub low_end: u64,
    /// Where RAM above 4 GiB ends; 0 for none.
    pub high_end: u64,
    /// Bytes of the hole below 4 GiB, where the user has set it.
    pub hole: Option<u64>,
    /// The firmware that Xen starts; `None`: this program's own.
    pub loader: Option<PathBuf>,
    /// `seabios` or `ovmf`.
    pub bios: &'static str,
    /// The BIOS.
    pub bios_path: PathBuf,
    /// Bits of `HVM_PARAM_VIRIDIAN`.
    pub viridian: u64,
    /// `HVM_PARAM_TIMER_MODE`.
    pub timer_mode: u64,
    /// Bytes for Xen's page tables of the domain.
    pub paging_pool: u64,
    /// Seconds that the domain's clock is ahead of UTC.
    pub clock: i64,
    /// The graphics card.
    pub vga: VgaKind,
}

pub(crate) fn yes(value: Defbool, default: bool) -> bool {
    value.0.unwrap_or(default)
}

impl Plan {
    /// Decides.
    ///
    /// # Errors
    /// The specification asks for what cannot be.
    pub(crate) fn new(spec: &DomainSpec, hvm: &HvmSpec) -> Result<Self> {
        if spec.max_vcpus > xt_builder::hvm::MAX_VCPUS {
            return Err(refused(
                "vcpus",
                format!(
                    "an HVM domain has 128 virtual CPUs at most, not {}",
                    spec.max_vcpus
                ),
                None,
            ));
        }
        let info = &hvm.info;
        let vga = match info.vga.kind {
            VgaKind::Unknown => VgaKind::Cirrus,
            VgaKind::Qxl => {
                let help = "Set vga=\"stdvga\".".to_owned();
                let message = "QXL is for SPICE, which is not done yet".to_owned();
                return Err(refused("vga", message, Some(help)));
            }
            kind => kind,
        };
        let video_kib = video(hvm, vga)?;
        let all = spec.max_memory_mib * MIB;
        let video = video_kib / 4;
        let pages = all.checked_sub(video).filter(|pages| *pages >= 2 * MIB);
        let pages = pages.ok_or_else(|| {
            let message = format!("{} MiB are too few for an HVM domain", spec.max_memory_mib);
            refused("memory", message, None)
        })?;
        let target = spec.memory_mib * MIB;
        let (low_end, high_end, hole) = layout(pages, info);
        let (bios, bios_path) = bios(info)?;
        let shadow = hvm.shadow_memkb.get().map(|kib| kib << 10);
        Ok(Self {
            pages,
            target_pages: target.saturating_sub(video).max(MIB),
            video_kib,
            low_end,
            high_end,
            hole,
            loader: info.firmware.as_ref().map(PathBuf::from),
            bios,
            bios_path,
            viridian: viridian(info)?,
            timer_mode: timer_mode(hvm.timer_mode),
            paging_pool: shadow.unwrap_or_else(|| crate::pvh::paging_pool(spec)),
            clock: clock(hvm),
            vga,
        })
    }

    /// The ranges of pages that are RAM.
    pub(super) fn ranges(&self) -> Vec<std::ops::Range<u64>> {
        let mut ranges = vec![0..VGA_WINDOW.start, VGA_WINDOW.end..self.low_end];
        if self.high_end != 0 {
            ranges.push(FOUR_GIB..self.high_end);
        }
        ranges
    }

    /// The machine's size as the device model has to know it, in MiB.
    pub(super) fn ram_mib(&self) -> u64 {
        self.pages / MIB
    }
}

fn refused(key: &'static str, message: String, help: Option<String>) -> HostError {
    HostError::Key { key, message, help }
}

/// Low memory's end, high memory's end and the hole's size.
fn layout(pages: u64, info: &HvmInfo) -> (u64, u64, Option<u64>) {
    let hole = info.mmio_hole_memkb.get().map(|kib| kib << 10);
    // A hole that is smaller than the usual one makes no difference.
    let start = hole.map_or(HOLE_START, |bytes| FOUR_GIB - bytes / 4096);
    let hole = hole.filter(|_| start < HOLE_START);
    let start = start.min(HOLE_START);
    match pages > start {
        true => (start, FOUR_GIB + pages - start, hole),
        false => (pages, 0, hole),
    }
}

/// Memory of the graphics card, as libxl has it by default and as the card can have it.
fn video(hvm: &HvmSpec, vga: VgaKind) -> Result<u64> {
    let (default, least) = match vga {
        VgaKind::None => return Ok(0),
        VgaKind::Std => (16 << 10, 16 << 10),
        _ => (8 << 10, 8 << 10),
    };
    let given = hvm.video_memkb.get().unwrap_or(default);
    if given < least {
        let message = format!("{} MiB are too few for this graphics card", given >> 10);
        let help = Some(format!("It has {} MiB at least.", least >> 10));
        return Err(refused("videoram", message, help));
    }
    Ok(given)
}

fn bios(info: &HvmInfo) -> Result<(&'static str, PathBuf)> {
    let (name, places) = match info.bios {
        BiosType::Unknown | BiosType::Seabios => ("seabios", SEABIOS),
        BiosType::Ovmf => ("ovmf", OVMF),
        BiosType::Rombios => {
            let message = "ROMBIOS is of a device model that has gone from Xen".to_owned();
            let help = "Set bios=\"seabios\" or \"ovmf\".".to_owned();
            return Err(refused("bios", message, Some(help)));
        }
    };
    if let Some(path) = &info.system_firmware {
        return Ok((name, path.into()));
    }
    let found = places.iter().map(PathBuf::from).find(|path| path.exists());
    let found = found.ok_or_else(|| {
        let message = format!("there is none of {}", places.join(", "));
        let help = format!("Install the package {name}, or set bios_path_override.");
        refused("bios", message, Some(help))
    })?;
    Ok((name, found))
}

/// libxl's default is the second.
fn timer_mode(mode: TimerMode) -> u64 {
    match mode {
        TimerMode::DelayForMissedTicks => 0,
        TimerMode::Unknown | TimerMode::NoDelayForMissedTicks => 1,
        TimerMode::NoMissedTicksPending => 2,
        TimerMode::OneMissedTickPending => 3,
    }
}

/// Interfaces that `viridian=1` stands for, by their places in libxl's list: base, freq,
/// time_ref_count, apic_assist, crash_ctl, no_vp_limit, cpu_hotplug.
const VIRIDIAN_DEFAULTS: [u32; 7] = [0, 1, 2, 5, 6, 11, 12];

/// `HVMPV_*`: the bit of each of libxl's interfaces is its place, but that of frequencies is set
/// where they are absent.
fn viridian(info: &HvmInfo) -> Result<u64> {
    const NO_FREQ: u64 = 1 << 1;
    let mut places: std::collections::BTreeSet<u32> = match yes(info.viridian, false) {
        true => VIRIDIAN_DEFAULTS.into(),
        false => Default::default(),
    };
    // `all` is more bits than there are interfaces.
    let known = Viridian::NAMES.len() as u32;
    places.extend(
        info.viridian_enable
            .0
            .iter()
            .filter(|place| **place < known),
    );
    places.retain(|place| !info.viridian_disable.0.contains(place));
    if places.is_empty() {
        return Ok(0);
    }
    if !places.contains(&0) {
        let message = "the other interfaces need base".to_owned();
        return Err(refused("viridian", message, Some("Add \"base\".".into())));
    }
    let bits = places.iter().fold(0u64, |bits, place| bits | 1 << place);
    Ok(bits ^ NO_FREQ)
}

fn clock(hvm: &HvmSpec) -> i64 {
    let local = match yes(hvm.localtime, false) {
        true => local_offset(),
        false => 0,
    };
    local + i64::from(hvm.rtc_timeoffset)
}

/// Seconds that this machine's time zone is ahead of UTC now.
fn local_offset() -> i64 {
    let now = jiff::Timestamp::now();
    let offset = jiff::tz::TimeZone::system().to_offset(now);
    offset.seconds().into()
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod tests;
