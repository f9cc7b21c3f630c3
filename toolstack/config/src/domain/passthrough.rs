//! Devices and ranges of the host: `pci`, `dtdev`, `ioports`, `irqs`, `iomem`.

use crate::diagnostic::{SpecError, quote};
use crate::domain::hvm::POLICIES;
use crate::domain::pairs::Pair;
use crate::libxl::{DomainConfig, Dtdev, Gfn, IomemRange, IoportRange, KindInfo, Pci, RdmPolicy};
use crate::reader::Reader;

/// All functions of a device.
const ALL_FUNCTIONS: u32 = u32::MAX;

pub(super) fn read(reader: &mut Reader<'_>, config: &mut DomainConfig) {
    let mut yes = |key| reader.defbool(key).unwrap_or(false);
    let common = Pci {
        msitranslate: yes("pci_msitranslate"),
        power_mgmt: yes("pci_power_mgmt"),
        permissive: yes("pci_permissive"),
        seize: yes("pci_seize"),
        rdm_policy: match &config.b_info.kind {
            Some(KindInfo::Hvm(hvm)) => hvm.rdm.policy,
            // What xl finds there for the others.
            _ => RdmPolicy::Strict,
        },
        ..Pci::default()
    };
    config.pcidevs = reader.list("pci", |text| pci(text, &common));
    // A PV guest finds room for the device only in the host's memory map.
    if let Some(KindInfo::Pv(pv)) = &mut config.b_info.kind
        && !config.pcidevs.is_empty()
    {
        pv.e820_host = true.into();
    }
    config.dtdevs = reader.list("dtdev", |path| {
        Ok(Dtdev {
            path: Some(path.to_owned()),
        })
    });
    config.b_info.ioports = reader.list("ioports", ioports);
    config.b_info.irqs = reader.list("irqs", irq);
    config.b_info.iomem = reader.list("iomem", iomem);
    config.b_info.llc_colors = reader.list("llc_colors", colors).concat();
}

const PCI_KEYS: &[&str] = &[
    "bdf",
    "vslot",
    "permissive",
    "msitranslate",
    "seize",
    "power_mgmt",
    "rdm_policy",
    "name",
];

/// `[DDDD:]BB:DD.F[@VSLOT][,key=value…]`, or with `bdf=` or `name=` among the keys.
fn pci(text: &str, common: &Pci) -> Result<Pci, SpecError> {
    let mut device = common.clone();
    let mut address = false;
    let mut position = 0;
    for (place, parameter) in text.split(',').enumerate() {
        let start = position;
        position += parameter.len() + 1;
        if parameter.is_empty() {
            continue;
        }
        if place == 0 && !parameter.contains('=') {
            let (bdf, slot) = parameter.split_once('@').unwrap_or((parameter, ""));
            set_bdf(&mut device, bdf)?;
            if !slot.is_empty() {
                let range = bdf.len() + 1..parameter.len();
                device.vdevfn = vslot(slot).map_err(|error| SpecError { range, ..error })?;
            }
            address = true;
            continue;
        }
        let pair = Pair::at(parameter, start)?;
        match pair.key {
            "bdf" => {
                set_bdf(&mut device, pair.value).map_err(|error| pair.inside(error))?;
                address = true;
            }
            "vslot" => device.vdevfn = vslot(pair.value).map_err(|error| pair.inside(error))?,
            "permissive" => device.permissive = pair.flag()?,
            "msitranslate" => device.msitranslate = pair.flag()?,
            "seize" => device.seize = pair.flag()?,
            "power_mgmt" => device.power_mgmt = pair.flag()?,
            "rdm_policy" => device.rdm_policy = pair.libxl_name(POLICIES)?,
            "name" => device.name = pair.owned(),
            _ => return Err(pair.unknown("A PCI device", PCI_KEYS)),
        }
    }
    match (address, device.name.is_some()) {
        (true, true) => Err(SpecError::new(0..text.len(), "The device is named twice.")
            .help("Give an address or a name, not both.")),
        (false, false) => Err(SpecError::new(0..text.len(), "No PCI device is named.")
            .help("Write its address as lspci does: 0000:03:00.0")),
        _ => Ok(device),
    }
}

fn set_bdf(device: &mut Pci, text: &str) -> Result<(), SpecError> {
    let parsed = bdf(text).ok_or_else(|| {
        SpecError::new(0..text.len(), format!("{} is no PCI address.", quote(text)))
            .help("Write it as lspci does: [DDDD:]BB:DD.F in hexadecimal, * for all functions.")
    })?;
    (
        device.domain,
        device.bus,
        device.dev,
        device.func,
        device.vfunc_mask,
    ) = parsed;
    Ok(())
}

fn bdf(text: &str) -> Option<(i32, u8, u8, u8, u32)> {
    let (place, function) = text.split_once('.')?;
    let (rest, device) = place.rsplit_once(':')?;
    let (segment, bus) = rest.rsplit_once(':').unwrap_or(("0", rest));
    let segment = hexadecimal(segment, 0xffff)?;
    let bus = hexadecimal(bus, 0xff)?;
    let device = hexadecimal(device, 0x1f)?;
    let (function, mask) = match function {
        "*" => (0, ALL_FUNCTIONS),
        _ => (hexadecimal(function, 7)?, 1),
    };
    let byte = |n| u8::try_from(n).ok();
    Some((
        i32::try_from(segment).ok()?,
        byte(bus)?,
        byte(device)?,
        byte(function)?,
        mask,
    ))
}

/// A slot of the guest's bus, hexadecimal, as device and function 0.
fn vslot(text: &str) -> Result<u32, SpecError> {
    let slot = hexadecimal(text, 0x1f).map(|slot| slot << 3);
    slot.ok_or_else(|| {
        SpecError::new(0..text.len(), format!("{} is no PCI slot.", quote(text)))
            .help("Choose a hexadecimal number up to 1f.")
    })
}

/// A number without sign or prefix, at most `most`.
fn hexadecimal(text: &str, most: u32) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    let number = digits.then(|| u32::from_str_radix(text, 16).ok()).flatten();
    number.filter(|number| *number <= most)
}

/// As [`hexadecimal`], with or without `0x`.
fn prefixed(text: &str) -> Option<u64> {
    let digits = text
        .strip_prefix("0x")
        .or(text.strip_prefix("0X"))
        .unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    plain
        .then(|| u64::from_str_radix(digits, 16).ok())
        .flatten()
}

/// `2f8-2ff`, hexadecimal.
fn ioports(text: &str) -> Result<IoportRange, SpecError> {
    let port = |text: &str| {
        prefixed(text)
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| *n <= 0xffff)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok(IoportRange {
            first,
            number: last - first + 1,
        }),
        _ => {
            let message = format!("{} is no range of I/O ports.", quote(text));
            Err(SpecError::new(0..text.len(), message).help("Write it in hexadecimal: 2f8-2ff"))
        }
    }
}

fn irq(text: &str) -> Result<u32, SpecError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten();
    number.filter(|n| *n != u32::MAX).ok_or_else(|| {
        SpecError::new(0..text.len(), format!("{} is no interrupt.", quote(text)))
            .help("Write a decimal number.")
    })
}

/// `START,NUMBER[@GFN]`, frames in hexadecimal.
fn iomem(text: &str) -> Result<IomemRange, SpecError> {
    let parsed = || {
        let (start, rest) = text.split_once(',')?;
        let (number, gfn) = match rest.split_once('@') {
            Some((number, gfn)) => (number, Gfn(prefixed(gfn)?)),
            None => (rest, Gfn::UNSET),
        };
        Some(IomemRange {
            start: prefixed(start)?,
            number: prefixed(number)?,
            gfn,
        })
    };
    parsed().ok_or_else(|| {
        let message = format!("{} is no range of frames.", quote(text));
        SpecError::new(0..text.len(), message)
            .help("Write START,NUMBER or START,NUMBER@GFN in hexadecimal: fe00,1")
    })
}

/// `3` or `0-7`.
fn colors(text: &str) -> Result<Vec<u32>, SpecError> {
    let range = crate::domain::affinity::number_range(text);
    range.map(Vec::from_iter).ok_or_else(|| {
        let message = format!("{} is no range of colours.", quote(text));
        SpecError::new(0..text.len(), message).help("Write decimal numbers: 0-7")
    })
}
