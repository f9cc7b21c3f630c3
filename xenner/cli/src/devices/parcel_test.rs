use std::io::Write;

use pv_media::Blocking;

use super::*;

fn image(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    let mut file = File::create(&path).unwrap();
    file.write_all(&[7; 512]).unwrap();
    file.set_len(1 << 20).unwrap();
    path
}

fn raw(path: &Path) -> DiskSpec {
    disk::parse(&path.to_string_lossy(), &[]).unwrap()
}

/// As it comes out of the control socket.
fn sent(parcel: DiskParcel) -> DiskParcel {
    let text = serde_json::to_string(&Parcel::Disk(parcel)).unwrap();
    match serde_json::from_str(&text).unwrap() {
        Parcel::Disk(parcel) => parcel,
        Parcel::Nic(_) => panic!("a disk"),
    }
}

#[test]
fn a_disk_needs_nothing_but_its_parcel() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path(), "a.img");
    let (parcel, fds) = pack_disk(&raw(&path)).unwrap();
    std::fs::remove_file(&path).unwrap();
    let disk = sent(parcel).unpack(fds).unwrap().unwrap();
    assert_eq!(disk.info().sectors, 2048);
    let mut disk = Blocking::new(&disk).unwrap();
    assert_eq!(disk.read(0, 512).unwrap(), [7; 512]);
    disk.write(512, &[8; 512]).unwrap();
    assert_eq!(disk.read(512, 512).unwrap(), [8; 512]);
}

#[test]
fn an_image_comes_with_those_it_is_based_on() {
    let dir = tempfile::tempdir().unwrap();
    let base = image(dir.path(), "base.raw");
    let overlay = dir.path().join("top.qcow2");
    let made = std::process::Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
        .arg(&base)
        .arg(&overlay)
        .status();
    match made {
        Ok(status) => assert!(status.success()),
        Err(error) => {
            println!("skipped: qemu-img cannot be run: {error}");
            return;
        }
    }
    let (parcel, fds) = pack_disk(&raw(&overlay)).unwrap();
    let paths: Vec<_> = parcel.handles.iter().collect();
    assert_eq!(paths.len(), 2, "{paths:?}");
    for path in [&base, &overlay] {
        std::fs::remove_file(path).unwrap();
    }
    let disk = sent(parcel).unpack(fds).unwrap().unwrap();
    let mut disk = Blocking::new(&disk).unwrap();
    assert_eq!(disk.read(0, 512).unwrap(), [7; 512]);
}

#[test]
fn two_writers_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let spec = raw(&image(dir.path(), "a.img"));
    let (parcel, fds) = pack_disk(&spec).unwrap();
    let (late, late_fds) = pack_disk(&spec).unwrap();
    let disk = parcel.unpack(fds).unwrap();
    let refused = pack_disk(&spec).unwrap_err().to_string();
    assert!(refused.contains("in use"), "{refused}");
    // One that looked before has to do without, too.
    let refused = late.unpack(late_fds).unwrap_err().to_string();
    assert!(refused.contains("in use"), "{refused}");
    drop(disk);
    pack_disk(&spec).unwrap();
}

#[test]
fn what_is_missing_is_named() {
    let error = pack_disk(&raw(Path::new("/nowhere/a.img"))).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("Disk xvda") && text.contains("/nowhere/a.img"),
        "{text}"
    );
    let dir = tempfile::tempdir().unwrap();
    let (parcel, _) = pack_disk(&raw(&image(dir.path(), "a.img"))).unwrap();
    let error = parcel.unpack(Vec::new()).unwrap_err().to_string();
    assert!(error.contains("descriptors"), "{error}");
}

#[test]
fn an_empty_drive_needs_no_descriptors() {
    let spec = disk::parse(",,hdc,cdrom", &[]).unwrap();
    let (parcel, fds) = pack_disk(&spec).unwrap();
    assert!(fds.is_empty() && parcel.handles.is_empty());
    assert!(parcel.unpack(fds).unwrap().is_none());
}
