//! The trait.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use xen_sys::DomId;
use xt_config::DomainSpec;
use xt_config::disk::DiskSpec;
use xt_config::libxl::DomainConfig;
use xt_config::vif::VifSpec;
use xt_devices::list::{BlockEntry, NetworkEntry};

use crate::error::{HostError, Result};
use crate::info::{
    ChannelInfo, CpuSet, Credit2, Credit2Domain, DomainInfo, HostInfo, HostKind, Sample, VcpuInfo,
};

/// How a domain is created, besides what its specification says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateOptions {
    /// Leave it paused, before its first instruction: who wants all of its console attaches then.
    pub paused: bool,
    /// Nobody will carry out its `on_*` settings: a host that does so by itself must not, and keeps
    /// the domain when it ends.
    pub unsupervised: bool,
    /// Who creates it has more to do before it is whole. If he dies before [`Host::commit`], hosts that
    /// create domains step by step end it with the next command.
    pub uncommitted: bool,
    /// Text of the configuration the specification is from; hosts keep it where `xl` does.
    pub source: String,
    /// The same configuration in libxl's terms, for what a specification has no place for.
    pub libxl: DomainConfig,
}

/// A domain that was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Its number.
    pub domid: DomId,
    /// What of it is other than its owner would have it, and how to mend that; a line each.
    pub warnings: Vec<String>,
}

/// Which console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConsoleKind {
    /// What the domain has: PV unless it is HVM.
    #[default]
    Any,
    /// The PV console.
    Pv,
    /// The emulated serial line.
    Serial,
}

/// The host's end of a console.
#[derive(Debug)]
pub enum ConsoleEnd {
    /// A terminal to open.
    Pty(PathBuf),
    /// A connection, with what the domain wrote before.
    Stream {
        /// The bytes so far.
        early: Vec<u8>,
        /// The connection: bytes both ways; it closes when the domain is gone.
        stream: OwnedFd,
        /// Whether what is typed reaches the domain: one user at a time has the keyboard.
        keyboard: bool,
    },
}

/// What can be injected into a domain: `xl trigger`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The power button.
    Power,
    /// The sleep button.
    Sleep,
    /// A non-maskable interrupt.
    Nmi,
    /// An INIT.
    Init,
    /// A reset.
    Reset,
    /// Wake from S3.
    S3Resume,
}

/// A device as the user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceName<'a> {
    /// A disk: `xvda`, `51712`.
    Disk(&'a str),
    /// A network card: its number, or its address.
    Nic(&'a str),
}

/// What `block-attach` made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedDisk {
    /// What the guest calls it.
    pub vdev: String,
}

/// What `network-attach` made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedNic {
    /// Its number.
    pub devid: u32,
}

/// A change of the scheduler's settings of a domain; what is `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit2Change {
    /// The weight.
    pub weight: Option<u32>,
    /// The cap in percent.
    pub cap: Option<u32>,
}

/// Tells when domains may have ended. Made before one looks, so that nothing is missed.
pub trait Changes: Send {
    /// Waits until a domain may have shut down, come or gone since the last call, or `limit` is over.
    /// True if something may have happened; one then looks with [`Host::list`].
    ///
    /// # Errors
    /// The source of the news is lost.
    fn wait(&mut self, limit: Option<Duration>) -> Result<bool>;
}

/// A host of domains.
///
/// Errors of every method: [`HostError::NoSuchDomain`] for a number nobody has,
/// [`HostError::Unusable`] if the host cannot be driven, [`HostError::NotHere`] for what this kind of
/// host has not; others are named.
pub trait Host: Send + Sync {
    /// Its kind.
    fn kind(&self) -> HostKind;

    /// What it is.
    ///
    /// # Errors
    /// See the trait.
    fn info(&self) -> Result<HostInfo>;

    /// Every domain, in the order of their numbers.
    ///
    /// # Errors
    /// See the trait.
    fn list(&self) -> Result<Vec<DomainInfo>>;

    /// When a listed domain was started, in seconds since 1970; `None` if nobody wrote that down. A host
    /// that would have to ask for each domain leaves [`DomainInfo::started`] empty in lists.
    ///
    /// # Errors
    /// See the trait.
    fn started(&self, domain: &DomainInfo) -> Result<Option<u64>> {
        Ok(domain.started)
    }

    /// One domain.
    ///
    /// # Errors
    /// See the trait.
    fn domain(&self, domid: DomId) -> Result<DomainInfo> {
        let found = self
            .list()?
            .into_iter()
            .find(|domain| domain.domid == domid.0);
        found.ok_or_else(|| HostError::NoSuchDomain(domid.0.to_string()))
    }

    /// The domain of that name or, as `xl` reads it, of that number.
    ///
    /// # Errors
    /// See the trait.
    fn find(&self, name: &str) -> Result<DomainInfo> {
        let domains = self.list()?;
        let number = name.parse::<u16>().ok();
        let by_number = || {
            domains
                .iter()
                .find(|domain| Some(domain.domid) == number && number.is_some())
        };
        let by_name = || domains.iter().find(|domain| domain.name == name);
        let found = by_number().or_else(by_name).cloned();
        found.ok_or_else(|| HostError::NoSuchDomain(name.to_owned()))
    }

    /// Builds a domain and starts it. Nothing of it is left if that fails.
    ///
    /// # Errors
    /// [`HostError::NameInUse`], [`HostError::Config`] for what this host cannot do,
    /// [`HostError::Resources`].
    fn create(&self, spec: &DomainSpec, options: &CreateOptions) -> Result<Created>;

    /// A domain created [`uncommitted`](CreateOptions::uncommitted) is whole now.
    ///
    /// # Errors
    /// See the trait.
    fn commit(&self, _domid: DomId) -> Result<()> {
        Ok(())
    }

    /// Ends a domain at once; returns when it is gone with all its devices.
    ///
    /// # Errors
    /// See the trait.
    fn destroy(&self, domid: DomId) -> Result<()>;

    /// Asks the guest to power off.
    ///
    /// # Errors
    /// [`HostError::Refused`] if it has no way to be asked.
    fn shutdown(&self, domid: DomId) -> Result<()>;

    /// Asks the guest to reboot.
    ///
    /// # Errors
    /// As of [`Host::shutdown`].
    fn reboot(&self, domid: DomId) -> Result<()>;

    /// Stops the vCPUs.
    ///
    /// # Errors
    /// See the trait.
    fn pause(&self, domid: DomId) -> Result<()>;

    /// Lets them run again.
    ///
    /// # Errors
    /// See the trait.
    fn unpause(&self, domid: DomId) -> Result<()>;

    /// Sends a SysRq key.
    ///
    /// # Errors
    /// See the trait.
    fn sysrq(&self, domid: DomId, key: char) -> Result<()>;

    /// Injects something into a vCPU.
    ///
    /// # Errors
    /// [`HostError::Refused`].
    fn trigger(&self, _domid: DomId, _trigger: Trigger, _vcpu: u32) -> Result<()> {
        Err(self.not_here("A trigger"))
    }

    /// Asks the guest's balloon to reach so much memory, in KiB, and allows it.
    ///
    /// # Errors
    /// [`HostError::Refused`] beyond the maximum.
    fn mem_set(&self, domid: DomId, kib: u64) -> Result<()>;

    /// Sets the most memory the domain may have, in KiB.
    ///
    /// # Errors
    /// [`HostError::Refused`] below what it has.
    fn mem_max(&self, domid: DomId, kib: u64) -> Result<()>;

    /// The vCPUs of a domain, by their numbers.
    ///
    /// # Errors
    /// See the trait.
    fn vcpu_list(&self, domid: DomId) -> Result<Vec<VcpuInfo>>;

    /// Sets where a vCPU may run and where it likes to; `None` stays as it is.
    ///
    /// # Errors
    /// [`HostError::Refused`] for processors that are not there.
    fn vcpu_pin(
        &self,
        domid: DomId,
        vcpu: u32,
        hard: Option<&CpuSet>,
        soft: Option<&CpuSet>,
    ) -> Result<()>;

    /// Asks the guest to have so many vCPUs online.
    ///
    /// # Errors
    /// [`HostError::Refused`] beyond its maximum.
    fn vcpu_set(&self, domid: DomId, count: u32) -> Result<()>;

    /// The scheduler's settings of each pool, if that is credit2.
    ///
    /// # Errors
    /// See the trait.
    fn credit2_pools(&self) -> Result<Vec<Credit2>> {
        Err(self.not_here("The credit2 scheduler"))
    }

    /// Sets the rate limit of a pool, in microseconds.
    ///
    /// # Errors
    /// See the trait.
    fn credit2_set_pool(&self, _pool: &str, _ratelimit_us: u32) -> Result<()> {
        Err(self.not_here("The credit2 scheduler"))
    }

    /// The scheduler's settings of a domain.
    ///
    /// # Errors
    /// See the trait.
    fn credit2(&self, _domid: DomId) -> Result<Credit2Domain> {
        Err(self.not_here("The credit2 scheduler"))
    }

    /// Changes them.
    ///
    /// # Errors
    /// [`HostError::Refused`] for values out of range.
    fn credit2_set(&self, _domid: DomId, _change: Credit2Change) -> Result<()> {
        Err(self.not_here("The credit2 scheduler"))
    }

    /// The disks of a domain.
    ///
    /// # Errors
    /// See the trait.
    fn block_list(&self, domid: DomId) -> Result<Vec<BlockEntry>>;

    /// Attaches a disk, and returns when its back end is ready.
    ///
    /// # Errors
    /// [`HostError::Config`], [`HostError::Refused`], [`HostError::TimedOut`].
    fn block_attach(&self, domid: DomId, disk: &DiskSpec) -> Result<AttachedDisk>;

    /// The network cards of a domain.
    ///
    /// # Errors
    /// See the trait.
    fn network_list(&self, domid: DomId) -> Result<Vec<NetworkEntry>>;

    /// Attaches a network card, and returns when its back end is ready.
    ///
    /// # Errors
    /// As of [`Host::block_attach`].
    fn network_attach(&self, domid: DomId, nic: &VifSpec) -> Result<AttachedNic>;

    /// Asks the guest to let go of a device and removes it; with `force` whatever the guest does.
    ///
    /// # Errors
    /// [`HostError::Refused`] if there is none, [`HostError::TimedOut`] if the guest keeps it.
    fn detach(&self, domid: DomId, device: DeviceName<'_>, force: bool) -> Result<()>;

    /// Puts a medium into a drive; `None` takes it out.
    ///
    /// # Errors
    /// [`HostError::Refused`] if there is no such drive.
    fn cd_insert(&self, domid: DomId, vdev: &str, target: Option<&str>) -> Result<()>;

    /// The channels of a domain.
    ///
    /// # Errors
    /// See the trait.
    fn channel_list(&self, domid: DomId) -> Result<Vec<ChannelInfo>>;

    /// The host's end of a console.
    ///
    /// # Errors
    /// [`HostError::Refused`] if there is none of that kind and number.
    fn console(&self, domid: DomId, kind: ConsoleKind, number: u32) -> Result<ConsoleEnd>;

    /// The hypervisor's messages, and clears them if asked to.
    ///
    /// # Errors
    /// See the trait.
    fn dmesg(&self, _clear: bool) -> Result<Vec<u8>> {
        Err(self.not_here("A hypervisor's message buffer"))
    }

    /// Sends the hypervisor keys as if typed on its console.
    ///
    /// # Errors
    /// See the trait.
    fn debug_keys(&self, _keys: &str) -> Result<()> {
        Err(self.not_here("A hypervisor's console"))
    }

    /// Writes a core file of a domain, which stands still meanwhile unless `live`.
    ///
    /// # Errors
    /// [`HostError::Failed`].
    fn dump_core(&self, domid: DomId, file: File, path: &Path, live: bool) -> Result<()>;

    /// Gives a domain another name.
    ///
    /// # Errors
    /// [`HostError::NameInUse`].
    fn rename(&self, domid: DomId, name: &str) -> Result<()>;

    /// Gives an ended domain that is kept another name, and a UUID of its own, so that one with its old
    /// name and UUID can be created.
    ///
    /// # Errors
    /// [`HostError::NameInUse`].
    fn preserve(&self, domid: DomId, name: &str) -> Result<()>;

    /// Resets the hypervisor's interfaces of a domain that asked for a soft reset, and lets it go on.
    ///
    /// # Errors
    /// See the trait.
    fn soft_reset(&self, _domid: DomId, _spec: &DomainSpec) -> Result<()> {
        Err(self.not_here("A soft reset"))
    }

    /// The configuration a domain would be started with again: what it was created with, and what was
    /// attached and detached since; `None` if nobody kept it.
    ///
    /// # Errors
    /// See the trait.
    fn configuration(&self, domid: DomId) -> Result<Option<DomainSpec>>;

    /// The same in libxl's terms, what this kind of host does not act on included: `xl list -l`. Xen's
    /// toolstacks keep it with the domain.
    ///
    /// # Errors
    /// What is kept cannot be understood.
    fn libxl_config(&self, domid: DomId) -> Result<Option<DomainConfig>> {
        let Some(data) = self.kept(domid, "libxl-json")? else {
            return Ok(None);
        };
        let config = DomainConfig::from_json(&String::from_utf8_lossy(&data));
        config.map(Some).map_err(|error| {
            HostError::failed("Cannot understand what libxl keeps of the domain.", error)
        })
    }

    /// The most memory a domain may have and what it is to have, in KiB, where that is kept apart from
    /// the configuration.
    ///
    /// # Errors
    /// See the trait.
    fn memory_now(&self, _domid: DomId) -> Result<(Option<u64>, Option<u64>)> {
        Ok((None, None))
    }

    /// Replaces that: `xl config-update`. `libxl` is the same in libxl's terms, `source` the text it is
    /// from.
    ///
    /// # Errors
    /// See the trait.
    fn set_configuration(
        &self,
        domid: DomId,
        spec: &DomainSpec,
        libxl: &DomainConfig,
        source: &str,
    ) -> Result<()>;

    /// Keeps `data` with a domain, by the name of who keeps it, as libxl's `libxl_userdata_store`: it
    /// goes when the domain goes, whoever destroys it.
    ///
    /// # Errors
    /// See the trait.
    fn keep(&self, domid: DomId, who: &str, data: &[u8]) -> Result<()>;

    /// What [`Host::keep`] kept; `None` for nothing.
    ///
    /// # Errors
    /// See the trait.
    fn kept(&self, domid: DomId, who: &str) -> Result<Option<Vec<u8>>>;

    /// Every domain with its counters, for `xt top`.
    ///
    /// # Errors
    /// See the trait.
    fn samples(&self) -> Result<Vec<Sample>>;

    /// News of domains that end.
    ///
    /// # Errors
    /// See the trait.
    fn changes(&self) -> Result<Box<dyn Changes>>;

    /// The error for what this kind of host has not.
    fn not_here(&self, what: &'static str) -> HostError {
        HostError::NotHere {
            what,
            host: self.kind(),
            instead: None,
        }
    }
}
