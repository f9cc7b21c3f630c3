//! Who serves what: two processes that answer one ring would destroy the guest's data.
//!
//! A lock file for each kind of device, and one for each domain. Who serves a kind for all domains
//! holds the kind's lock alone; who serves one domain shares it with others like him and holds that
//! domain's alone. The kernel gives the locks up with the process, whatever way that ends.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use xen_sys::DomId;

/// The right to serve devices; dropped, others can have it.
#[derive(Debug)]
pub struct Claim(#[expect(dead_code, reason = "held")] Vec<Flock<File>>);

/// Takes the right to serve a kind of device, of all domains or of one.
///
/// # Errors
/// Somebody else has it.
pub fn claim(dir: &Path, kind: &str, domid: Option<DomId>) -> Result<Claim> {
    fs::create_dir_all(dir).with_context(|| format!("Cannot create {}", dir.display()))?;
    let whole = dir.join(format!("{kind}.lock"));
    let Some(domid) = domid else {
        let what = format!("{kind} devices");
        return Ok(Claim(vec![lock(
            &whole,
            FlockArg::LockExclusiveNonblock,
            &what,
        )?]));
    };
    let what = format!("{kind} devices of all domains");
    let shared = lock(&whole, FlockArg::LockSharedNonblock, &what)?;
    let what = format!("{kind} devices of domain {domid}");
    let path = dir.join(format!("{kind}-{domid}.lock"));
    let own = lock(&path, FlockArg::LockExclusiveNonblock, &what)?;
    Ok(Claim(vec![shared, own]))
}

fn lock(path: &Path, how: FlockArg, what: &str) -> Result<Flock<File>> {
    let file = File::options()
        .read(true)
        .append(true)
        .create(true)
        .open(path)
        .with_context(|| format!("Cannot open {}", path.display()))?;
    let mut lock = match Flock::lock(file, how) {
        Ok(lock) => lock,
        Err((_, Errno::EWOULDBLOCK)) => {
            let pid = fs::read_to_string(path).unwrap_or_default();
            let who = match pid.trim() {
                "" => "Another xt-backend".to_owned(),
                pid => format!("Process {pid}"),
            };
            bail!("{who} serves {what} already (it holds {})", path.display());
        }
        Err((_, errno)) => {
            return Err(errno).with_context(|| format!("Cannot lock {}", path.display()));
        }
    };
    // For the message above only; several who share a lock have no one name.
    lock.set_len(0)?;
    if matches!(how, FlockArg::LockExclusiveNonblock) {
        write!(lock, "{}", std::process::id())?;
    }
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_served_twice() {
        let dir = tempfile::tempdir().unwrap();
        let take = |kind, domid: Option<u16>| claim(dir.path(), kind, domid.map(DomId));
        let one = take("qdisk", Some(1)).unwrap();
        let two = take("qdisk", Some(2)).unwrap();
        let error = take("qdisk", Some(1)).unwrap_err().to_string();
        let pid = std::process::id();
        assert!(
            error.starts_with(&format!(
                "Process {pid} serves qdisk devices of domain 1 already"
            )),
            "{error}"
        );
        let error = take("qdisk", None).unwrap_err().to_string();
        assert!(
            error.starts_with("Another xt-backend serves qdisk devices"),
            "{error}"
        );
        let vifs = take("vif", None).unwrap();
        drop((one, two));
        let all = take("qdisk", None).unwrap();
        assert!(take("qdisk", Some(1)).is_err());
        drop((all, vifs));
        take("qdisk", Some(1)).unwrap();
    }
}
