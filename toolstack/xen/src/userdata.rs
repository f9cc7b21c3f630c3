//! What libxl keeps of a domain in files: `/var/lib/xen/userdata-d.DOMID.UUID.NAME`.
//!
//! `libxl-json` is the configuration as `xl list -l` shows it, `xl` what `xl create` was given.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;
use xen_sys::DomId;
use xt_config::DomainSpec;

use crate::json;

/// What xl was given.
pub(crate) const XL: &str = "xl";
/// libxl's own.
pub(crate) const LIBXL_JSON: &str = "libxl-json";
/// The specification as this toolstack has it, which holds what libxl's form has no place for.
const SPEC: &str = "xt-spec";

fn path(dir: &Path, domid: DomId, uuid: Uuid, name: &str) -> PathBuf {
    dir.join(format!("userdata-d.{}.{uuid}.{name}", domid.0))
}

/// Keeps something.
pub(crate) fn keep(
    dir: &Path,
    domid: DomId,
    uuid: Uuid,
    name: &str,
    data: &[u8],
) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let to = path(dir, domid, uuid, name);
    let new = path(dir, domid, uuid, &format!("{name}.{}", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(data)?;
    fs::rename(new, to)
}

/// What was kept.
pub(crate) fn kept(
    dir: &Path,
    domid: DomId,
    uuid: Uuid,
    name: &str,
) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path(dir, domid, uuid, name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Keeps a domain's configuration in both forms.
pub(crate) fn keep_configuration(
    dir: &Path,
    domid: DomId,
    uuid: Uuid,
    spec: &DomainSpec,
    macs: &[(u32, String)],
) -> io::Result<()> {
    let text = json::of_domain(spec, uuid, macs);
    keep(dir, domid, uuid, LIBXL_JSON, text.as_bytes())?;
    let spec = DomainSpec {
        uuid: Some(uuid),
        ..spec.clone()
    };
    keep(dir, domid, uuid, SPEC, &serde_json::to_vec(&spec)?)
}

/// A domain's configuration, if this toolstack made it.
pub(crate) fn configuration(
    dir: &Path,
    domid: DomId,
    uuid: Uuid,
) -> io::Result<Option<DomainSpec>> {
    let data = kept(dir, domid, uuid, SPEC)?;
    Ok(data.map(|data| serde_json::from_slice(&data)).transpose()?)
}

/// Gives a domain's files to another UUID.
pub(crate) fn rename(dir: &Path, domid: DomId, old: Uuid, new: Uuid) -> io::Result<()> {
    let start = format!("userdata-d.{}.{old}.", domid.0);
    for file in fs::read_dir(dir)? {
        let file = file?;
        let name = file.file_name().to_string_lossy().into_owned();
        if let Some(name) = name.strip_prefix(&start) {
            fs::rename(file.path(), path(dir, domid, new, name))?;
        }
    }
    Ok(())
}

/// Whether this toolstack made the domain.
pub(crate) fn is_ours(dir: &Path, domid: DomId, uuid: Uuid) -> bool {
    path(dir, domid, uuid, SPEC).exists()
}

/// Removes all of a domain's files.
pub(crate) fn forget(dir: &Path, domid: DomId, uuid: Uuid) -> io::Result<()> {
    let start = format!("userdata-d.{}.{uuid}.", domid.0);
    let files = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for file in files {
        let file = file?;
        if file.file_name().to_string_lossy().starts_with(&start) {
            fs::remove_file(file.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_goes_with_the_domain() {
        let dir = tempfile::tempdir().unwrap();
        let (uuid, other) = (Uuid::new_v4(), Uuid::new_v4());
        keep(dir.path(), DomId(3), uuid, "xl", b"name=1").unwrap();
        keep(dir.path(), DomId(3), other, "xl", b"x").unwrap();
        let read = |uuid| kept(dir.path(), DomId(3), uuid, "xl").unwrap();
        assert_eq!(read(uuid).as_deref(), Some(&b"name=1"[..]));
        forget(dir.path(), DomId(3), uuid).unwrap();
        assert_eq!((read(uuid), read(other).is_some()), (None, true));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
