//! The nodes a new domain finds, as libxl makes them.
//!
//! Kernels, front ends and tools rely on these names and on who may write
//! them: a guest's directory is the host's, readable by the guest, and a few
//! directories in it belong to the guest (libxl's `libxl__domain_make`,
//! `libxl__build_post`; xen's `docs/misc/xenstore-paths.pandoc`).

use std::time::{SystemTime, UNIX_EPOCH};

use thiserror::Error;
use xen_sys::EvtchnPort;

use crate::path::{Path, PathError, domain_path};
use crate::perms::{DOM0, DomId, Perm, Perms};
use crate::store::Store;
use crate::wire::XsError;

/// The nodes could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PopulateError {
    /// A name or id given makes no path.
    #[error("Cannot make xenstore node {path:?}.")]
    Path {
        /// The path that resulted.
        path: String,
        /// What is wrong with it.
        source: PathError,
    },
    /// The store refuses.
    #[error("Cannot make xenstore node {path:?}.")]
    Store {
        /// Which node.
        path: String,
        /// Why not.
        source: XsError,
    },
}

/// A page and an event channel, by which the guest reaches a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingInfo {
    /// Frame or grant reference of the page: for a PV guest's console and
    /// xenstore libxl writes the machine frame number.
    pub ring_ref: u64,
    /// Event channel, as the guest numbers it.
    pub port: EvtchnPort,
}

/// The guest's console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleInfo {
    /// Page and event channel.
    pub ring: RingInfo,
    /// Bytes of output kept while nobody reads; libxl's default is 1048576.
    pub limit: u64,
    /// Who serves it; libxl's are `xenconsoled` and `ioemu`.
    pub kind: String,
    /// The host's terminal, if there is one already.
    pub tty: Option<String>,
}

/// What there is to say about a new PV domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainInfo {
    /// Its id.
    pub domid: DomId,
    /// Its name.
    pub name: String,
    /// Its UUID in the usual text form, 8-4-4-4-12.
    pub uuid: String,
    /// libxl's word for its kind: `pv`, `pvh` or `hvm`.
    pub kind: String,
    /// Memory at start, KiB; the balloon driver's target.
    pub memory_target: u64,
    /// Most memory, KiB.
    pub memory_static_max: u64,
    /// Of each virtual CPU: online from the start?
    pub vcpus_online: Vec<bool>,
    /// Xenstore's own ring.
    pub store: RingInfo,
    /// Its console, unless it has none.
    pub console: Option<ConsoleInfo>,
    /// When it was started.
    pub start_time: SystemTime,
}

/// Makes the nodes of the host itself, as `xen-init-dom0` does.
///
/// # Errors
/// [`PopulateError`].
pub fn introduce_host(store: &mut Store) -> Result<(), PopulateError> {
    let mut maker = Maker { store };
    let readable = Perms::new(Perm::read(DOM0), &[]);
    for path in ["/local/domain", "/vm"] {
        maker.mkdir(path, &readable)?;
    }
    let private = Perms::new(Perm::none(DOM0), &[]);
    maker.mkdir("/local/domain/0", &private)?;
    maker.write("/local/domain/0/name", "Domain-0")?;
    maker.write("/local/domain/0/domid", "0")?;
    maker.mkdir("/libxl", &private)
}

/// Makes the nodes of a new domain: `/local/domain/<id>`, `/vm/<uuid>` and
/// `/libxl/<id>`. What an earlier domain left there goes.
///
/// The server still has to be told: [`crate::server::Server::introduce`].
///
/// # Errors
/// [`PopulateError`]; nodes made so far remain.
pub fn introduce_domain(store: &mut Store, info: &DomainInfo) -> Result<(), PopulateError> {
    let home = domain_path(info.domid);
    let vm = format!("/vm/{}", info.uuid);
    let libxl = format!("/libxl/{}", info.domid.0);
    let mut maker = Maker { store };
    let private = Perms::new(Perm::none(DOM0), &[]);
    let readable = Perms::new(Perm::none(DOM0), &[Perm::read(info.domid)]);

    for (path, perms) in [(&home, &readable), (&vm, &readable), (&libxl, &private)] {
        maker.remove(path)?;
        maker.mkdir(path, perms)?;
    }
    maker.write(&format!("{home}/vm"), &vm)?;
    maker.write(&format!("{home}/name"), &info.name)?;
    maker.write(&format!("{vm}/name"), &info.name)?;
    maker.write(&format!("{vm}/uuid"), &info.uuid)?;
    maker.write(&format!("{vm}/start_time"), &seconds(info.start_time))?;
    maker.write(&format!("{libxl}/type"), &info.kind)?;
    guest_directories(&mut maker, &home, info)?;
    guest_values(&mut maker, &home, info)
}

/// The directories with their permissions; the guest's own are those it
/// reports through.
fn guest_directories(
    maker: &mut Maker<'_>,
    home: &str,
    info: &DomainInfo,
) -> Result<(), PopulateError> {
    let readable = Perms::new(Perm::none(DOM0), &[Perm::read(info.domid)]);
    let own = Perms::new(Perm::none(info.domid), &[]);
    for name in ["cpu", "memory", "device", "control"] {
        maker.mkdir(&format!("{home}/{name}"), &readable)?;
    }
    let of_guest = [
        "control/shutdown",
        "control/feature-poweroff",
        "control/feature-reboot",
        "control/feature-suspend",
        "control/sysrq",
        "device/suspend/event-channel",
        "data",
        "drivers",
        "feature",
        "attr",
        "error",
    ];
    for name in of_guest {
        maker.mkdir(&format!("{home}/{name}"), &own)?;
    }
    Ok(())
}

fn guest_values(maker: &mut Maker<'_>, home: &str, info: &DomainInfo) -> Result<(), PopulateError> {
    let mut values = vec![
        (
            "control/platform-feature-multiprocessor-suspend".to_owned(),
            "1".to_owned(),
        ),
        (
            "control/platform-feature-xs_reset_watches".to_owned(),
            "1".to_owned(),
        ),
        (
            "memory/static-max".to_owned(),
            info.memory_static_max.to_string(),
        ),
        ("memory/target".to_owned(), info.memory_target.to_string()),
        ("memory/videoram".to_owned(), "0".to_owned()),
        ("domid".to_owned(), info.domid.to_string()),
        ("store/port".to_owned(), info.store.port.to_string()),
        ("store/ring-ref".to_owned(), info.store.ring_ref.to_string()),
    ];
    for (cpu, &online) in info.vcpus_online.iter().enumerate() {
        let state = if online { "online" } else { "offline" };
        values.push((format!("cpu/{cpu}/availability"), state.to_owned()));
    }
    if let Some(console) = &info.console {
        let tty = console.tty.clone().unwrap_or_default();
        let console = [
            ("backend-id", "0".to_owned()),
            ("limit", console.limit.to_string()),
            ("type", console.kind.clone()),
            ("output", "pty".to_owned()),
            ("tty", tty),
            ("port", console.ring.port.to_string()),
            ("ring-ref", console.ring.ring_ref.to_string()),
        ];
        values.extend(console.map(|(name, value)| (format!("console/{name}"), value)));
    }
    for (name, value) in values {
        maker.write(&format!("{home}/{name}"), &value)?;
    }
    Ok(())
}

/// Removes what [`introduce_domain`] made for a domain, and its devices with
/// their back ends in domain 0.
///
/// # Errors
/// [`PopulateError`] for a malformed UUID.
pub fn remove_domain(store: &mut Store, domid: DomId, uuid: &str) -> Result<(), PopulateError> {
    let backends = Path::known("/local/domain/0/backend");
    let kinds = store
        .node(&backends)
        .map(|node| node.children.clone())
        .unwrap_or_default();
    let mut maker = Maker { store };
    for kind in kinds {
        maker.remove(&format!("{backends}/{kind}/{}", domid.0))?;
    }
    maker.remove(&domain_path(domid))?;
    maker.remove(&format!("/vm/{uuid}"))?;
    maker.remove(&format!("/libxl/{}", domid.0))
}

/// Seconds since 1970 with two decimals, libxl's `start_time`.
fn seconds(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:02}", since.as_secs(), since.subsec_millis() / 10)
}

struct Maker<'a> {
    store: &'a mut Store,
}

impl Maker<'_> {
    fn write(&mut self, path: &str, value: &str) -> Result<(), PopulateError> {
        let at = absolute(path)?;
        self.store
            .host()
            .write(&at, value.as_bytes())
            .map_err(refused(path))
    }

    fn mkdir(&mut self, path: &str, perms: &Perms) -> Result<(), PopulateError> {
        let at = absolute(path)?;
        let mut host = self.store.host();
        host.mkdir(&at)
            .and_then(|()| host.set_perms(&at, perms.clone()))
            .map_err(refused(path))
    }

    fn remove(&mut self, path: &str) -> Result<(), PopulateError> {
        match self.store.host().rm(&absolute(path)?) {
            // No parent, no node: nothing to remove.
            Ok(()) | Err(XsError::ENOENT) => Ok(()),
            Err(error) => Err(refused(path)(error)),
        }
    }
}

fn absolute(path: &str) -> Result<Path, PopulateError> {
    Path::absolute(path).map_err(|source| PopulateError::Path {
        path: path.to_owned(),
        source,
    })
}

fn refused(path: &str) -> impl FnOnce(XsError) -> PopulateError {
    let path = path.to_owned();
    |source| PopulateError::Store { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perms::Identity;

    fn info() -> DomainInfo {
        DomainInfo {
            domid: DomId(7),
            name: "web".to_owned(),
            uuid: "4f3a1a04-0b6c-4b67-9a39-9d6f3c8c0001".to_owned(),
            kind: "pv".to_owned(),
            memory_target: 262_144,
            memory_static_max: 524_288,
            vcpus_online: vec![true, false],
            store: RingInfo {
                ring_ref: 1234,
                port: EvtchnPort(1),
            },
            console: Some(ConsoleInfo {
                ring: RingInfo {
                    ring_ref: 1235,
                    port: EvtchnPort(2),
                },
                limit: 1_048_576,
                kind: "xenconsoled".to_owned(),
                tty: None,
            }),
            start_time: UNIX_EPOCH + std::time::Duration::from_millis(12_345),
        }
    }

    fn value(store: &Store, path: &str) -> String {
        String::from_utf8(store.node(path).expect(path).value.clone()).unwrap()
    }

    #[test]
    fn a_guest_finds_its_nodes() {
        let mut store = Store::default();
        introduce_host(&mut store).unwrap();
        introduce_domain(&mut store, &info()).unwrap();
        let home = |name: &str| value(&store, &format!("/local/domain/7/{name}"));
        assert_eq!(home("domid"), "7");
        assert_eq!(home("vm"), "/vm/4f3a1a04-0b6c-4b67-9a39-9d6f3c8c0001");
        assert_eq!(home("memory/target"), "262144");
        assert_eq!(home("cpu/0/availability"), "online");
        assert_eq!(home("cpu/1/availability"), "offline");
        assert_eq!(home("console/ring-ref"), "1235");
        assert_eq!(home("store/port"), "1");
        assert_eq!(
            value(
                &store,
                "/vm/4f3a1a04-0b6c-4b67-9a39-9d6f3c8c0001/start_time"
            ),
            "12.34"
        );
        assert_eq!(value(&store, "/libxl/7/type"), "pv");
        store.check().unwrap();
    }

    #[test]
    fn a_guest_writes_its_own_directories_only() {
        let mut store = Store::default();
        introduce_domain(&mut store, &info()).unwrap();
        let guest = Identity::guest(DomId(7));
        let write = |store: &mut Store, path: &str| {
            let path = Path::resolve(path.as_bytes(), DomId(7)).unwrap();
            store.session(guest, None).write(&path, b"x")
        };
        for path in [
            "data/x",
            "control/shutdown",
            "attr/os",
            "error/device",
            "feature/a",
        ] {
            assert_eq!(write(&mut store, path), Ok(()), "{path}");
        }
        for path in [
            "name",
            "memory/target",
            "console/tty",
            "device/vbd",
            "/libxl/7/type",
            "/x",
        ] {
            assert_eq!(write(&mut store, path), Err(XsError::EACCES), "{path}");
        }
        let stranger = Identity::guest(DomId(8));
        let name = Path::resolve(b"name", DomId(7)).unwrap();
        assert_eq!(
            store.session(stranger, None).read(&name),
            Err(XsError::EACCES)
        );
        assert!(store.session(guest, None).read(&name).is_ok());
    }

    #[test]
    fn devices_go_with_the_domain() {
        let mut store = Store::default();
        introduce_domain(&mut store, &info()).unwrap();
        let sides = [
            "/local/domain/7/device/vbd/51712",
            "/local/domain/0/backend/vbd/7/51712",
            "/libxl/7/device/vbd/51712",
        ];
        for side in sides {
            let state = Path::absolute(&format!("{side}/state")).unwrap();
            store.host().write(&state, b"1").unwrap();
        }
        remove_domain(&mut store, DomId(7), &info().uuid).unwrap();
        for side in sides {
            assert!(store.node(side).is_none(), "{side}");
        }
        assert_eq!(store.entries_of(DomId(7)), 0);
        store.check().unwrap();
    }

    #[test]
    fn a_bad_uuid_is_named() {
        let bad = DomainInfo {
            uuid: "a b".to_owned(),
            ..info()
        };
        let error = introduce_domain(&mut Store::default(), &bad).unwrap_err();
        assert!(matches!(error, PopulateError::Path { path, .. } if path == "/vm/a b"));
    }
}
