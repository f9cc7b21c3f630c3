//! Devices with a string each: `p9`, `pvcalls`, `vtpm`, `channel`, `vdispl`, `virtio`, `usbctrl`,
//! `usbdev`.

use crate::diagnostic::{SpecError, quote};
use crate::domain::pairs::{Pair, missing, pairs};
use crate::libxl::{
    Channel, Connection, Connector, Defbool, DevId, DomainConfig, Hostdev, P9, Pvcalls, Socket,
    UsbController, UsbDevice, UsbctrlType, Vdispl, Virtio, VirtioTransport, Vtpm,
};
use crate::reader::Reader;
use crate::spec::parse_uuid;

/// The place in a list as the number of a device.
pub(super) fn devid(place: usize) -> DevId {
    DevId(i32::try_from(place).unwrap_or(i32::MAX))
}

pub(super) fn read(reader: &mut Reader<'_>, config: &mut DomainConfig) {
    config.p9s = reader.list("p9", p9);
    config.pvcallsifs = reader.list("pvcalls", pvcalls);
    config.vtpms = reader.list("vtpm", vtpm);
    config.channels = reader.list("channel", channel);
    config.vdispls = reader.list("vdispl", vdispl);
    config.virtios = reader.list("virtio", virtio);
    config.usbctrls = reader.list("usbctrl", usb_controller);
    config.usbdevs = reader.list("usbdev", usb_device);
    // xl numbers all but p9.
    let each = |devids: Vec<&mut DevId>| {
        for (place, slot) in devids.into_iter().enumerate() {
            *slot = devid(place);
        }
    };
    each(config.pvcallsifs.iter_mut().map(|d| &mut d.devid).collect());
    each(config.vtpms.iter_mut().map(|d| &mut d.devid).collect());
    each(config.channels.iter_mut().map(|d| &mut d.devid).collect());
    each(config.vdispls.iter_mut().map(|d| &mut d.devid).collect());
    each(config.virtios.iter_mut().map(|d| &mut d.devid).collect());
    each(config.usbctrls.iter_mut().map(|d| &mut d.devid).collect());
}

fn p9(text: &str) -> Result<P9, SpecError> {
    let mut device = P9::default();
    for pair in pairs(text)? {
        match pair.key {
            "tag" => device.tag = pair.owned(),
            "path" => device.path = pair.owned(),
            "security_model" => device.security_model = pair.owned(),
            "backend" => device.backend_domname = pair.owned(),
            _ => return Err(pair.unknown("A p9", &["tag", "path", "security_model", "backend"])),
        }
    }
    let needed = [
        ("tag", &device.tag),
        ("path", &device.path),
        ("security_model", &device.security_model),
    ];
    match needed.iter().find(|(_, value)| value.is_none()) {
        Some((name, _)) => Err(missing(text, "The p9", name)),
        None => Ok(device),
    }
}

fn pvcalls(text: &str) -> Result<Pvcalls, SpecError> {
    let mut device = Pvcalls::default();
    for pair in pairs(text)? {
        match pair.key {
            "backend" => device.backend_domname = pair.owned(),
            _ => return Err(pair.unknown("A pvcalls", &["backend"])),
        }
    }
    Ok(device)
}

fn vtpm(text: &str) -> Result<Vtpm, SpecError> {
    let mut device = Vtpm::default();
    for pair in pairs(text)? {
        match pair.key {
            "backend" => device.backend_domname = pair.owned(),
            "uuid" => {
                let uuid = parse_uuid(pair.value).map_err(|error| pair.inside(error))?;
                device.uuid = Some(uuid);
            }
            _ => return Err(pair.unknown("A vtpm", &["backend", "uuid"])),
        }
    }
    match device.backend_domname {
        Some(_) => Ok(device),
        None => Err(missing(text, "The vtpm", "backend")),
    }
}

fn channel(text: &str) -> Result<Channel, SpecError> {
    let mut channel = Channel::default();
    let (mut path, mut is_socket) = (None, None);
    for pair in pairs(text)? {
        match pair.key {
            "backend" => channel.backend_domname = pair.owned(),
            "name" => channel.name = pair.owned(),
            "path" => path = pair.owned(),
            "connection" => is_socket = Some(pair.named(&[("pty", false), ("socket", true)])?),
            _ => {
                let known = &["backend", "name", "path", "connection"];
                return Err(pair.unknown("A channel", known));
            }
        }
    }
    channel.connection = Some(match is_socket {
        None => return Err(missing(text, "The channel", "connection")),
        Some(true) if path.is_none() => return Err(missing(text, "The socket", "path")),
        Some(true) => Connection::Socket(Socket { path }),
        Some(false) => Connection::Pty {},
    });
    Ok(channel)
}

fn vdispl(text: &str) -> Result<Vdispl, SpecError> {
    let mut display = Vdispl::default();
    for pair in pairs(text)? {
        match pair.key {
            "backend" => display.backend_domname = pair.owned(),
            "be-alloc" => display.be_alloc = pair.flag()?,
            "connectors" => display.connectors = connectors(&pair)?,
            _ => return Err(pair.unknown("A vdispl", &["backend", "be-alloc", "connectors"])),
        }
    }
    match display.connectors.is_empty() {
        true => Err(missing(text, "The vdispl", "connectors")),
        false => Ok(display),
    }
}

/// `ID:WIDTHxHEIGHT;…`
fn connectors(pair: &Pair<'_>) -> Result<Vec<Connector>, SpecError> {
    let screens = pair.value.split(';').filter(|screen| !screen.is_empty());
    let parsed = screens.map(|screen| {
        let connector = || {
            let (id, size) = screen.split_once(':')?;
            let (width, height) = size.split_once('x')?;
            Some(Connector {
                unique_id: Some(id.to_owned()),
                width: width.parse().ok()?,
                height: height.parse().ok()?,
            })
        };
        connector().ok_or_else(|| {
            let message = format!("{} is no connector.", quote(screen));
            pair.error(
                message,
                "Write ID:WIDTHxHEIGHT, with semicolons between several.",
            )
        })
    });
    parsed.collect()
}

const VIRTIO_KEYS: &[&str] = &["backend", "type", "transport", "grant_usage"];

fn virtio(text: &str) -> Result<Virtio, SpecError> {
    let mut device = Virtio::default();
    // A type has a comma of its own: "virtio,device22".
    let mut ranges: Vec<std::ops::Range<usize>> = Vec::new();
    let mut position = 0;
    for part in text.split(',') {
        let end = position + part.len();
        match ranges.last_mut() {
            Some(last) if !part.contains('=') => last.end = end,
            _ => ranges.push(position..end),
        }
        position = end + 1;
    }
    for range in ranges {
        let start = range.start;
        let parameter = text.get(range).unwrap_or_default();
        if parameter.trim().is_empty() {
            continue;
        }
        let pair = Pair::at(parameter, start)?;
        match pair.key {
            "backend" => device.backend_domname = pair.owned(),
            "type" => device.kind = pair.owned(),
            "transport" => {
                let names = VirtioTransport::NAMES.get(1..).unwrap_or_default();
                device.transport = pair.libxl_name(names)?;
            }
            "grant_usage" => device.grant_usage = Defbool(Some(pair.flag()?)),
            _ => return Err(pair.unknown("A virtio", VIRTIO_KEYS)),
        }
    }
    match device.kind {
        Some(_) => Ok(device),
        None => Err(missing(text, "The virtio device", "type")),
    }
}

fn usb_controller(text: &str) -> Result<UsbController, SpecError> {
    let mut controller = UsbController::default();
    for pair in pairs(text)? {
        match pair.key {
            "type" => controller.kind = pair.libxl_name(UsbctrlType::NAMES)?,
            "version" => controller.version = pair.number()?,
            "ports" => controller.ports = pair.number()?,
            _ => return Err(pair.unknown("A usbctrl", &["type", "version", "ports"])),
        }
    }
    Ok(controller)
}

const USBDEV_KEYS: &[&str] = &["type", "hostbus", "hostaddr", "controller", "port"];

fn usb_device(text: &str) -> Result<UsbDevice, SpecError> {
    let mut device = UsbDevice::default();
    let mut host = Hostdev::default();
    let mut typed = false;
    for pair in pairs(text)? {
        match pair.key {
            "type" => {
                pair.libxl_name(&[("hostdev", ())])?;
                typed = true;
            }
            "hostbus" => host.hostbus = pair.number()?,
            "hostaddr" => host.hostaddr = pair.number()?,
            "controller" => device.ctrl = DevId(pair.number()?),
            "port" => device.port = pair.number()?,
            _ => return Err(pair.unknown("A usbdev", USBDEV_KEYS)),
        }
    }
    if host.hostbus == 0 || host.hostaddr == 0 {
        let what = if host.hostbus == 0 {
            "hostbus"
        } else {
            "hostaddr"
        };
        return Err(missing(text, "The usbdev", what));
    }
    match typed {
        true => device.hostdev = Some(host),
        false => device.untyped = Some(host),
    }
    Ok(device)
}
