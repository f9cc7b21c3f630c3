//! Expected values are what `xl create -n` of Xen 4.17 printed for the same strings.

use super::*;

fn parse(text: &str) -> DiskSpec {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn plain(target: &str, vdev: &str) -> DiskSpec {
    DiskSpec {
        target: Some(target.into()),
        format: DiskFormat::Raw,
        vdev: vdev.parse().unwrap(),
        readonly: false,
        cdrom: false,
        backend: None,
        backend_type: None,
        script: None,
        direct_io_safe: false,
        discard: None,
        trusted: None,
        specification: DiskSpecification::Xen,
        grant_usage: GrantUsage::Default,
        colo: None,
    }
}

fn cdrom(target: Option<&str>) -> DiskSpec {
    DiskSpec {
        target: target.map(str::to_owned),
        format: if target.is_some() {
            DiskFormat::Raw
        } else {
            DiskFormat::Empty
        },
        readonly: true,
        cdrom: true,
        ..plain("", "hdc")
    }
}

#[test]
fn equivalent_disks_of_the_man_page() {
    for text in [
        "/dev/vg/guest-volume,,hda",
        "/dev/vg/guest-volume,raw,hda,rw",
        "format=raw, vdev=hda, access=rw, target=/dev/vg/guest-volume",
        "raw:/dev/vg/guest-volume,hda,w",
        "\t/dev/vg/guest-volume,raw,hda",
        "/dev/vg/guest-volume,,ioemu:hda",
        "/dev/vg/guest-volume,ioemu:hda,w,",
        "vdev=hda,phy:/dev/vg/guest-volume",
        "phy:/dev/vg/guest-volume,hda,w",
        "file:/dev/vg/guest-volume,ioemu:hda,w",
        "tap:aio:/dev/vg/guest-volume,hda,w",
        "ioemu:/dev/vg/guest-volume,hda,w",
        "format=,vdev=hda,target=/dev/vg/guest-volume",
        ",,hda,target=/dev/vg/guest-volume",
        "/dev/vg/guest-volume,,hda,rw,devtype=disk",
        "/dev/vg/guest-volume,,hda,rw,cdrom,devtype=disk",
        "/dev/vg/guest-volume,,hda,ro,access=rw",
    ] {
        assert_eq!(parse(text), plain("/dev/vg/guest-volume", "hda"), "{text}");
    }
}

#[test]
fn equivalent_cdroms_of_the_man_page() {
    for text in [
        "/root/image.iso,,hdc,cdrom",
        "/root/image.iso,,hdc,,cdrom",
        "/root/image.iso,raw,hdc,devtype=cdrom",
        "format=raw, vdev=hdc, access=ro, devtype=cdrom, target=/root/image.iso",
        "raw:/root/image.iso,hdc:cdrom,ro",
        "/root/image.iso,,hdc,w,cdrom",
        "/root/image.iso,,hdc:cdrom",
    ] {
        assert_eq!(parse(text), cdrom(Some("/root/image.iso")), "{text}");
    }
}

#[test]
fn empty_drives() {
    for text in [
        ",hdc:cdrom,r",
        ",,hdc,cdrom",
        ",,hdc:cdrom,r",
        ",empty,hdc:cdrom,r",
        ",empty,hdc,r,cdrom",
        "vdev=hdc,access=r,devtype=cdrom,target=",
        "vdev=hdc,access=r,devtype=cdrom",
    ] {
        assert_eq!(parse(text), cdrom(None), "{text}");
    }
}

#[test]
fn formats_prefixes_and_scripts() {
    use DiskFormat::*;
    for (text, format) in [
        ("/a,qcow2,xvda", Qcow2),
        ("/a,qcow,xvda", Qcow),
        ("/a,vhd,xvda", Vhd),
        ("/a,qed,xvda", Qed),
        ("tap:qcow2:/a,xvda,w", Qcow2),
        ("tap2:vhd:/a,xvda,w", Vhd),
        ("qcow:/a,xvda,w", Qcow),
    ] {
        assert_eq!(
            parse(text),
            DiskSpec {
                format,
                ..plain("/a", "xvda")
            },
            "{text}"
        );
    }
    for (text, target, script) in [
        ("iscsi:foo,xvda,w", "foo", "block-iscsi"),
        ("nbd:1.2.3.4:99,xvda,w", "1.2.3.4:99", "block-nbd"),
        ("/x,,xvda,script=/x/y", "/x", "/x/y"),
    ] {
        let expected = DiskSpec {
            script: Some(script.into()),
            ..plain(target, "xvda")
        };
        assert_eq!(parse(text), expected, "{text}");
    }
}

#[test]
fn targets_with_odd_characters() {
    assert_eq!(parse("vdev=hda,target=/a,b "), plain("/a,b ", "hda"));
    assert_eq!(parse("/a:b,raw,xvda,w"), plain("/a:b", "xvda"));
    assert_eq!(
        parse("rbd:pool/img,raw,xvda"),
        plain("rbd:pool/img", "xvda")
    );
    assert_eq!(parse("a/b,,hda"), plain("a/b", "hda"));
}

#[test]
fn options() {
    let base = plain("/a", "xvda");
    for (text, expected) in [
        (
            "/a,,xvda,r",
            DiskSpec {
                readonly: true,
                ..base.clone()
            },
        ),
        (
            "/a,,xvda,backend=dom1",
            DiskSpec {
                backend: Some("dom1".into()),
                ..base.clone()
            },
        ),
        (
            "/a,,xvda,backendtype=qdisk",
            DiskSpec {
                backend_type: Some(DiskBackend::Qdisk),
                ..base.clone()
            },
        ),
        (
            "/a,,xvda,direct-io-safe",
            DiskSpec {
                direct_io_safe: true,
                ..base.clone()
            },
        ),
        (
            "/a,,xvda,discard",
            DiskSpec {
                discard: Some(true),
                ..base.clone()
            },
        ),
        (
            "/a,,xvda,discard,no-discard",
            DiskSpec {
                discard: Some(false),
                ..base.clone()
            },
        ),
        (
            "/a,,xvda,untrusted",
            DiskSpec {
                trusted: Some(false),
                ..base.clone()
            },
        ),
        (
            "/a,,xvda,specification=virtio",
            DiskSpec {
                specification: DiskSpecification::Virtio,
                ..base.clone()
            },
        ),
        (
            "/a,,xvda,grant_usage=enabled",
            DiskSpec {
                grant_usage: GrantUsage::Enabled,
                ..base.clone()
            },
        ),
    ] {
        assert_eq!(parse(text), expected, "{text}");
    }
    let colo = parse("colo,colo-host=h,colo-port=2,colo-export=e,active-disk=a,hidden-disk=b,vdev=xvda,target=/a").colo;
    assert_eq!(colo.unwrap().port, 2);
}

#[test]
fn refused_with_the_place() {
    for (text, at, message) in [
        ("vdev=hda", "vdev=hda", "The disk has no target."),
        (",,hda", ",,hda", "The disk has no target."),
        ("/a", "/a", "The disk has no vdev."),
        ("", "", "The disk has no vdev."),
        ("/a,,,w", "/a,,,w", "The disk has no vdev."),
        (
            "target=/a,b , vdev=hda",
            "target=/a,b , vdev=hda",
            "The disk has no vdev.",
        ),
        ("/a,bad,xvda", "bad", "\"bad\" is no format of a disk."),
        (
            "/a , raw , xvda",
            "raw ",
            "\"raw \" is no format of a disk.",
        ),
        ("/a,,foo", "foo", "\"foo\" is no virtual disk name."),
        ("/a,,xvda,wo", "wo", "\"wo\" is no access of a disk."),
        (
            "/a,,xvda:floppy",
            "floppy",
            "\"floppy\" is no devtype of a disk.",
        ),
        (
            "/a,,xvda,backendtype=file",
            "file",
            "\"file\" is no backendtype of a disk.",
        ),
        (
            "/a,,xvda,rw,foo",
            "foo",
            "The disk has no parameter \"foo\".",
        ),
        (
            "/a,,xvda,rw,foo=1",
            "foo",
            "A disk has no parameter \"foo\".",
        ),
        (
            "/a,,xvda,vdev=xvdb",
            "vdev=xvdb",
            "The disk's vdev is given twice.",
        ),
        (
            "/a,,xvda,format=qcow2",
            "format=qcow2",
            "The disk's format is given twice.",
        ),
        (
            "/a,,xvda,target=/b",
            "target=/b",
            "The disk's target is given twice.",
        ),
        ("foo:/a,xvda,w", "foo", "\"foo:\" is no prefix of a disk."),
        ("/a,xvda,w", "xvda", "\"xvda\" is no format of a disk."),
        ("aio:/a,raw,xvda", "raw", "\"raw\" is no virtual disk name."),
        (
            "/a,,xvda,colo",
            "/a,,xvda,colo",
            "A disk with colo needs colo-port.",
        ),
    ] {
        let error = text.parse::<DiskSpec>().expect_err(text);
        assert_eq!(
            (&text[error.range.clone()], error.message.as_str()),
            (at, message),
            "{text}"
        );
    }
}
