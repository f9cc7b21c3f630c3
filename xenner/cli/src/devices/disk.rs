//! Disks as the user asks for them.

use std::ffi::OsStr;
use std::path::Path;

use pv_media::{Format, MediumSpec};
use xenner_vmm::backends::GUEST;
use xenner_vmm::shelf::DeviceNodes;
pub use xt_config::disk::DiskSpec;
use xt_config::disk::{DiskBackend, DiskFormat, DiskSpecification};
use xt_devices::Defaults;

use super::nic::located;

/// Reads `--disk` and the arguments of `block-attach`: xl's syntax, or a path alone, whose format is
/// what its extension says and nothing else: what a guest can write must not decide it. `taken` are
/// the disks there are already.
pub fn parse(text: &str, taken: &[String]) -> Result<DiskSpec, String> {
    // xl's parser would take the scheme for one of xend's prefixes.
    let moved = match text.split_once(',') {
        Some((uri, rest)) if is_uri(uri) => format!(",{rest},target={uri}"),
        _ => text.to_owned(),
    };
    let text = moved.as_str();
    let mut spec = match is_path(text) {
        true => of_path(text, taken)?,
        false => text.parse().map_err(|error: xt_config::SpecError| {
            located(text, error.range, &error.message, error.help.as_deref())
        })?,
    };
    if let Some(target) = &spec.target
        && !is_uri(target)
        && spec.script.is_none()
    {
        let absolute = std::path::absolute(target)
            .map_err(|error| format!("Cannot use the path {target:?}: {error}"))?;
        spec.target = Some(absolute.to_string_lossy().into_owned());
    }
    // What cannot be served is refused now, not when the domain is half built.
    medium(&spec)?;
    Ok(spec)
}

/// Whether there is nothing but a path: no parameter follows, and it is none itself.
fn is_path(text: &str) -> bool {
    let name = text.split('=').next().unwrap_or(text);
    let parameter = name.len() < text.len() && !name.contains(['/', '.', ':']);
    !text.contains(',') && !parameter
}

fn is_uri(target: &str) -> bool {
    ["nbd:", "nbd+unix:"]
        .iter()
        .any(|scheme| target.starts_with(scheme))
}

fn of_path(path: &str, taken: &[String]) -> Result<DiskSpec, String> {
    let free = ('a'..='z')
        .map(|letter| format!("xvd{letter}"))
        .find(|vdev| !taken.contains(vdev));
    let vdev =
        free.ok_or("Every name from xvda to xvdz is taken; name the disk: PATH,raw,xvdaa")?;
    let extension = Path::new(path).extension().and_then(OsStr::to_str);
    let (format, more) = match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("qcow2") => ("qcow2", ""),
        Some("vhd" | "vpc") => ("vhd", ""),
        Some("vmdk") => ("vmdk", ",access=ro"),
        Some("iso") => ("raw", ",devtype=cdrom"),
        _ => ("raw", ""),
    };
    // The target comes last: there it may hold anything.
    let text = format!("format={format},vdev={vdev}{more},target={path}");
    text.parse()
        .map_err(|error: xt_config::SpecError| format!("{path:?} cannot be a disk: {error}"))
}

/// What the medium library is to open; `None` is an empty drive.
pub fn medium(spec: &DiskSpec) -> Result<Option<MediumSpec>, String> {
    let vdev = spec.vdev.name();
    let refuse = |what: &str, help: &str| Err(format!("Disk {vdev}: {what}; {help}"));
    if spec.backend.as_deref().is_some_and(|domain| domain != "0") {
        return refuse(
            "xenner has no other domains to serve it",
            "leave backend= out",
        );
    }
    if spec.colo.is_some() {
        return refuse("xenner does no COLO replication", "leave colo out");
    }
    if spec.specification == DiskSpecification::Virtio {
        return refuse("xenner has no virtio disks", "leave specification= out");
    }
    let Some(target) = &spec.target else {
        return Ok(None);
    };
    let (format, target) = match (spec.format, spec.script.as_deref()) {
        // xl's words for a Network Block Device: nbd:ADDRESS:PORT, as a prefix.
        (_, Some("block-nbd")) => (Format::Nbd, nbd_uri(target)),
        (_, Some(_)) => {
            return refuse(
                "xenner runs no block scripts",
                "name the file or device itself",
            );
        }
        (_, None) if is_uri(target) => (Format::Nbd, target.clone()),
        (DiskFormat::Raw, None) => (Format::Raw, target.clone()),
        (DiskFormat::Qcow2, None) => (Format::Qcow2, target.clone()),
        (DiskFormat::Vhd, None) => (Format::Vhd, target.clone()),
        (DiskFormat::Vmdk, None) => (Format::Vmdk, target.clone()),
        (DiskFormat::Empty, None) => return Ok(None),
        (DiskFormat::Qcow | DiskFormat::Qed, None) => {
            return refuse(
                "xenner cannot read this format",
                "convert the image with: qemu-img convert -O qcow2 OLD NEW",
            );
        }
    };
    let mut medium = MediumSpec::new(format, target);
    medium.readonly = spec.readonly;
    medium.direct_io = spec.direct_io_safe;
    medium.direct_devices = true;
    medium.discard = spec.discard.unwrap_or(true);
    Ok(Some(medium))
}

/// `nbd://host/export` comes out of the parser as `//host/export`.
fn nbd_uri(target: &str) -> String {
    if target.starts_with("//") {
        return format!("nbd:{target}");
    }
    format!("nbd://{target}")
}

/// The device's number.
pub fn devid(spec: &DiskSpec) -> u32 {
    spec.vdev.number()
}

/// The medium, for people: format and target.
pub fn label(spec: &DiskSpec) -> String {
    let format = match spec.format {
        DiskFormat::Raw => "raw",
        DiskFormat::Qcow => "qcow",
        DiskFormat::Qcow2 => "qcow2",
        DiskFormat::Vhd => "vhd",
        DiskFormat::Vmdk => "vmdk",
        DiskFormat::Qed => "qed",
        DiskFormat::Empty => return String::new(),
    };
    match &spec.target {
        Some(target) => format!("{format}:{target}"),
        None => String::new(),
    }
}

/// What xenstore says of it: what libxl would write, whichever of our formats it is.
pub fn nodes(spec: &DiskSpec) -> DeviceNodes {
    let nbd = spec.target.as_deref().is_some_and(is_uri);
    let kind = match spec.format {
        _ if spec.script.is_some() => DiskBackend::Phy,
        DiskFormat::Raw if !nbd => DiskBackend::Phy,
        _ => DiskBackend::Qdisk,
    };
    let kind = spec.backend_type.unwrap_or(kind);
    xt_devices::own_disk_nodes(GUEST, spec, kind, &Defaults::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_alone_is_the_next_disk() {
        let disk = parse("/a/b.img", &[]).unwrap();
        assert_eq!(disk.target.as_deref(), Some("/a/b.img"));
        assert_eq!((disk.vdev.name(), disk.format), ("xvda", DiskFormat::Raw));
        assert!(!disk.readonly && !disk.cdrom);
        let taken = ["xvda".to_owned(), "xvdc".to_owned()];
        let disk = parse("/a/b.qcow2", &taken).unwrap();
        assert_eq!((disk.vdev.name(), disk.format), ("xvdb", DiskFormat::Qcow2));
        let disk = parse("/a/b.ISO", &[]).unwrap();
        assert!(disk.cdrom && disk.readonly);
        assert!(parse("/a/b.vmdk", &[]).unwrap().readonly);
        // An equals sign or a colon is no parameter in a path.
        let disk = parse("/a=b/c:d", &[]).unwrap();
        assert_eq!(disk.target.as_deref(), Some("/a=b/c:d"));
        let relative = parse("b.img", &[]).unwrap().target.unwrap();
        assert!(
            relative.starts_with('/') && relative.ends_with("/b.img"),
            "{relative}"
        );
    }

    #[test]
    fn network_block_devices_in_each_spelling() {
        for text in [
            "nbd://h/x",
            "nbd://h/x,raw,xvda",
            "raw,vdev=xvda,target=nbd://h/x",
        ] {
            let text = text.replace("raw,vdev", "format=raw,vdev");
            let medium = medium(&parse(&text, &[]).unwrap()).unwrap().unwrap();
            assert_eq!(medium.format, Format::Nbd, "{text}");
            assert_eq!(medium.target.to_str(), Some("nbd://h/x"), "{text}");
        }
    }

    #[test]
    fn what_xenner_cannot_serve_is_refused_by_name() {
        for (text, word) in [
            ("/a,qcow,xvda", "qemu-img convert"),
            ("/a,qed,xvda", "qemu-img convert"),
            ("/a,,xvda,backend=2", "backend="),
            ("/a,,xvda,script=/s", "scripts"),
            ("/a,,xvda,specification=virtio", "virtio"),
        ] {
            let error = parse(text, &[]).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
        let error = parse("/a,rwa,xvda", &[]).unwrap_err();
        assert!(error.contains("\n  | /a,rwa,xvda\n  |    ^^^"), "{error}");
    }

    #[test]
    fn an_empty_drive_has_no_medium() {
        let disk = parse(",,hdc,cdrom", &[]).unwrap();
        assert_eq!(medium(&disk), Ok(None));
        let nodes = nodes(&disk);
        assert_eq!(nodes.backend_kind, "qdisk");
        assert!(nodes.back.contains(&("params", "aio:".into())));
        assert!(nodes.back.contains(&("device-type", "cdrom".into())));
    }

    #[test]
    fn back_ends_are_called_as_xl_calls_them() {
        for (text, kind, params) in [
            ("/a,raw,xvda", "vbd", "/a"),
            ("/a,qcow2,xvda", "qdisk", "qcow2:/a"),
            ("/a,vhd,xvda", "qdisk", "vhd:/a"),
            ("/a.iso,raw,hdc,cdrom", "vbd", "/a.iso"),
            ("/a,raw,xvda,backendtype=qdisk", "qdisk", "aio:/a"),
        ] {
            let nodes = nodes(&parse(text, &[]).unwrap());
            assert_eq!(nodes.backend_kind, kind, "{text}");
            assert!(nodes.back.contains(&("params", params.into())), "{text}");
        }
    }
}
