use tempfile::NamedTempFile;
use xen_sys::DomId;

use super::*;
use crate::testing::{GUEST, Host};

fn nodes(host: &mut Host, guest: Guest, text: &str) -> Result<DeviceNodes, DeviceError> {
    let spec: DiskSpec = text.parse().unwrap();
    disk_nodes(&mut host.client, guest, &spec, &Defaults::default())
}

#[test]
fn the_back_end_is_chosen_as_libxl_does() {
    let mut host = Host::new();
    let file = NamedTempFile::new().unwrap();
    let file = file.path().to_str().unwrap();
    let hvm = Guest {
        kind: DomainType::Hvm,
        ..GUEST
    };
    for (guest, text, kind, params) in [
        (GUEST, format!("{file},raw,xvda,w"), "vbd", file.to_owned()),
        (
            GUEST,
            format!("{file},raw,xvda,w,backendtype=qdisk"),
            "qdisk",
            format!("aio:{file}"),
        ),
        (
            GUEST,
            format!("{file},vhd,xvda,w"),
            "qdisk",
            format!("vhd:{file}"),
        ),
        (
            GUEST,
            format!("{file},qed,xvda,w"),
            "qdisk",
            format!("qed:{file}"),
        ),
        (
            GUEST,
            "vdev=hdc,cdrom,format=empty".to_owned(),
            "qdisk",
            "aio:".to_owned(),
        ),
        (
            GUEST,
            format!("{file},raw,hdc,cdrom"),
            "vbd",
            file.to_owned(),
        ),
        (
            hvm,
            format!("{file},raw,hdc,cdrom"),
            "qdisk",
            format!("aio:{file}"),
        ),
        // Neither a script's target nor another domain's is looked at.
        (
            GUEST,
            "/no,raw,xvda,w,script=block-x".to_owned(),
            "vbd",
            "/no".to_owned(),
        ),
        (
            GUEST,
            "/no,raw,xvda,w,backend=guest3".to_owned(),
            "vbd",
            "/no".to_owned(),
        ),
    ] {
        let nodes = nodes(&mut host, guest, &text).expect(&text);
        assert_eq!(nodes.backend_kind, kind, "{text}");
        assert_eq!(nodes.back[0], ("params", params), "{text}");
    }
    let of_guest3 = nodes(&mut host, GUEST, "/no,raw,xvda,w,backend=guest3").unwrap();
    assert_eq!(of_guest3.backend, DomId(3));
    assert_eq!(of_guest3.back_path(), "/local/domain/3/backend/vbd/2/51712");
}

#[test]
fn what_cannot_be_is_refused() {
    let mut host = Host::new();
    for (text, says) in [
        (
            "/no/such,raw,xvda,w",
            "Cannot find \"/no/such\" for disk xvda",
        ),
        (
            "/,raw,xvda,w,backendtype=phy",
            "raw block devices and files only",
        ),
        (
            "/x,qcow2,xvda,w,backendtype=phy",
            "raw block devices and files only",
        ),
        (
            "/x,qcow2,xvda,w,script=block-x",
            "a script makes a block device",
        ),
        ("/x,raw,xvda,w,backendtype=tap", "must be phy or qdisk"),
        (
            "/x,raw,xvda,w,specification=virtio",
            "only specification=xen",
        ),
        (
            "/x,raw,xvda,w,backend=nobody",
            "No domain is called \"nobody\"",
        ),
    ] {
        let error = nodes(&mut host, GUEST, text).expect_err(text).to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
}
