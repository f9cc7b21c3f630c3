//! The trait, in the terms of the other modules.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use xen_sys::DomId;
use xenner::control::client::ClientError;
use xenner::control::{Command, Ended};
use xenner::dumpcore::Written;
use xenner::machine::ShutdownRequest;
use xt_config::disk::DiskSpec;
use xt_config::libxl::DomainConfig;
use xt_config::vif::VifSpec;
use xt_config::{ConfigErrors, DomainSpec};
use xt_devices::list::{BlockEntry, NetworkEntry};
use xt_host::{
    AttachedDisk, AttachedNic, Changes, ChannelInfo, ConsoleEnd, ConsoleKind, CpuSet,
    CreateOptions, Created, DeviceName, DomainInfo, Host, HostError, HostInfo, HostKind, Result,
    Sample, VcpuInfo,
};

use crate::changes::Folders;
use crate::create::Origin;
use crate::{KvmHost, machine, refused};

/// How long a core file may take.
const DUMP_PATIENCE: Duration = Duration::from_secs(3600);
/// How long a destroyed domain may take to be gone.
const DESTROY_PATIENCE: Duration = Duration::from_secs(60);

fn not_here(what: &'static str, instead: &'static str) -> HostError {
    HostError::NotHere {
        what,
        host: HostKind::Kvm,
        instead: Some(instead),
    }
}

impl KvmHost {
    fn kept_file(&self, domid: DomId, who: &str) -> Result<PathBuf> {
        let name = self.name(domid)?;
        Ok(self.base.of(&name).join(format!("kept-{who}")))
    }

    fn origin(&self, domid: DomId) -> Result<Option<Origin>> {
        let path = self
            .base
            .of(&self.name(domid)?)
            .join(xenner::rundir::DOMAIN);
        let text = std::fs::read_to_string(path).map_err(|error| {
            HostError::failed("Cannot read what the domain is made from.", error)
        })?;
        let spec: xenner::spec::DomainSpec = serde_json::from_str(&text).map_err(|error| {
            HostError::failed("Cannot understand what the domain is made from.", error)
        })?;
        // One that `xenner run` made has none.
        Ok(serde_json::from_value(spec.origin).ok())
    }

    fn ask_to_end(&self, domid: DomId, reason: ShutdownRequest) -> Result<()> {
        self.tell(domid, Command::Shutdown { reason })
    }
}

impl Host for KvmHost {
    fn kind(&self) -> HostKind {
        HostKind::Kvm
    }

    fn info(&self) -> Result<HostInfo> {
        machine::info()
    }

    fn list(&self) -> Result<Vec<DomainInfo>> {
        let seen = self.sightings()?;
        Ok(seen.into_iter().map(|(domain, _)| domain).collect())
    }

    fn create(&self, spec: &DomainSpec, options: &CreateOptions) -> Result<Created> {
        let domid = self.start(spec, options)?;
        let warnings = Vec::new();
        Ok(Created { domid, warnings })
    }

    fn destroy(&self, domid: DomId) -> Result<()> {
        let name = self.name(domid)?;
        let mut connection = self.connect(domid)?;
        connection.tell(Command::Destroy).map_err(refused)?;
        let ended = connection.call::<Ended>(Command::Wait, &[], Some(DESTROY_PATIENCE));
        match ended.and_then(|_| connection.gone(DESTROY_PATIENCE)) {
            Ok(()) => Ok(()),
            Err(ClientError::Silent { source, .. }) if source.kind() == io::ErrorKind::TimedOut => {
                let seconds = DESTROY_PATIENCE.as_secs();
                let message = format!("Domain {name} is still there after {seconds} seconds");
                Err(HostError::TimedOut(message))
            }
            // The process went away without a word: gone is gone.
            Err(ClientError::Silent { .. }) => Ok(()),
            Err(error) => Err(refused(error)),
        }
    }

    fn shutdown(&self, domid: DomId) -> Result<()> {
        self.ask_to_end(domid, ShutdownRequest::Poweroff)
    }

    fn reboot(&self, domid: DomId) -> Result<()> {
        self.ask_to_end(domid, ShutdownRequest::Reboot)
    }

    fn pause(&self, domid: DomId) -> Result<()> {
        self.tell(domid, Command::Pause)
    }

    fn unpause(&self, domid: DomId) -> Result<()> {
        self.tell(domid, Command::Unpause)
    }

    fn sysrq(&self, domid: DomId, key: char) -> Result<()> {
        self.tell(domid, Command::Sysrq { key })
    }

    fn mem_set(&self, domid: DomId, kib: u64) -> Result<()> {
        let most = self.domain(domid)?.max_memory_kib;
        if kib > most {
            let message = format!("The domain can have at most {most} KiB (maxmem)");
            return Err(HostError::Refused(message));
        }
        self.write(domid, "memory/target", &kib.to_string())
    }

    fn mem_max(&self, _domid: DomId, _kib: u64) -> Result<()> {
        Err(not_here(
            "Changing the most memory of a running domain",
            "set maxmem in its configuration",
        ))
    }

    fn vcpu_list(&self, domid: DomId) -> Result<Vec<VcpuInfo>> {
        self.vcpus(domid)
    }

    fn vcpu_pin(
        &self,
        domid: DomId,
        vcpu: u32,
        hard: Option<&CpuSet>,
        soft: Option<&CpuSet>,
    ) -> Result<()> {
        if let Some(cpus) = hard {
            self.pin(domid, vcpu, cpus)?;
        }
        let all = CpuSet::all(machine::processors());
        match soft {
            Some(cpus) if *cpus != all => Err(not_here("Soft affinity", "use hard affinity")),
            _ => Ok(()),
        }
    }

    fn vcpu_set(&self, domid: DomId, count: u32) -> Result<()> {
        self.set_vcpus(domid, count)
    }

    fn block_list(&self, domid: DomId) -> Result<Vec<BlockEntry>> {
        self.disks(domid)
    }

    fn block_attach(&self, domid: DomId, disk: &DiskSpec) -> Result<AttachedDisk> {
        self.attach_disk(domid, disk)
    }

    fn network_list(&self, domid: DomId) -> Result<Vec<NetworkEntry>> {
        self.nics(domid)
    }

    fn network_attach(&self, domid: DomId, nic: &VifSpec) -> Result<AttachedNic> {
        self.attach_nic(domid, nic)
    }

    fn detach(&self, domid: DomId, device: DeviceName<'_>, force: bool) -> Result<()> {
        self.take_away(domid, &device, force)
    }

    fn cd_insert(&self, domid: DomId, vdev: &str, target: Option<&str>) -> Result<()> {
        self.exchange(domid, vdev, target)
    }

    fn channel_list(&self, domid: DomId) -> Result<Vec<ChannelInfo>> {
        // It must be there; xenner has no channels.
        self.name(domid).map(|_| Vec::new())
    }

    fn console(&self, domid: DomId, kind: ConsoleKind, number: u32) -> Result<ConsoleEnd> {
        if kind == ConsoleKind::Serial || number != 0 {
            let message = "The domain has its PV console only".to_owned();
            return Err(HostError::Refused(message));
        }
        let (attached, early, stream) = self.connect(domid)?.attach(true).map_err(refused)?;
        Ok(ConsoleEnd::Stream {
            early,
            stream: stream.into(),
            keyboard: attached.keyboard,
        })
    }

    fn dump_core(&self, domid: DomId, file: File, path: &Path, live: bool) -> Result<()> {
        if live {
            return Err(not_here(
                "A core file of a running domain",
                "leave -L out: it stands still meanwhile",
            ));
        }
        let mut connection = self.connect(domid)?;
        let fds = [file.into()];
        let written = connection.call::<Written>(Command::DumpCore, &fds, Some(DUMP_PATIENCE));
        written.map(drop).map_err(|error| {
            let what = format!("Cannot write the core file {path:?}.");
            HostError::failed(what, refused(error))
        })
    }

    fn rename(&self, domid: DomId, name: &str) -> Result<()> {
        if self.names()?.iter().any(|other| other == name) {
            return Err(HostError::NameInUse {
                name: name.to_owned(),
            });
        }
        let order = Command::Rename {
            name: name.to_owned(),
        };
        self.tell(domid, order)?;
        self.write(domid, "name", name)
    }

    fn preserve(&self, domid: DomId, name: &str) -> Result<()> {
        // Its process gave it a number of its own; no other has its UUID in the same xenstore.
        self.rename(domid, name)
    }

    fn configuration(&self, domid: DomId) -> Result<Option<DomainSpec>> {
        Ok(self.origin(domid)?.map(|origin| origin.spec))
    }

    fn libxl_config(&self, domid: DomId) -> Result<Option<DomainConfig>> {
        let Some(origin) = self.origin(domid)? else {
            return Ok(None);
        };
        let info = self.domain(domid)?;
        let refused = |errors: ConfigErrors| HostError::Config(errors.to_string());
        let document = xt_config::parse(&origin.source, "configuration").map_err(refused)?;
        let host = xt_config::domain::Host::uniform(machine::processors());
        let checked = DomainConfig::from_document(&document, &host).map_err(refused)?;
        let mut config = checked.value;
        config.c_info.name = Some(info.name);
        config.c_info.uuid = Some(info.uuid);
        Ok(Some(config))
    }

    fn set_configuration(
        &self,
        _domid: DomId,
        _spec: &DomainSpec,
        _libxl: &DomainConfig,
        _source: &str,
    ) -> Result<()> {
        Err(not_here(
            "Changing the configuration of a running domain",
            "destroy it and create it again",
        ))
    }

    fn keep(&self, domid: DomId, who: &str, data: &[u8]) -> Result<()> {
        let path = self.kept_file(domid, who)?;
        std::fs::write(&path, data)
            .map_err(|error| HostError::failed(format!("Cannot write {path:?}."), error))
    }

    fn kept(&self, domid: DomId, who: &str) -> Result<Option<Vec<u8>>> {
        let path = self.kept_file(domid, who)?;
        match std::fs::read(&path) {
            Ok(data) => Ok(Some(data)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(HostError::failed(format!("Cannot read {path:?}."), error)),
        }
    }

    fn samples(&self) -> Result<Vec<Sample>> {
        Ok(self.sightings()?.into_iter().map(Self::sample).collect())
    }

    fn changes(&self) -> Result<Box<dyn Changes>> {
        Ok(Box::new(Folders::open(self)?))
    }
}
