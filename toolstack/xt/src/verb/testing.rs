//! A host in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use uuid::Uuid;
use xt_config::DomainSpec;
use xt_config::disk::DiskSpec;
use xt_config::libxl::DomainConfig;
use xt_config::vif::VifSpec;
use xt_devices::list::{BlockEntry, NetworkEntry};
use xt_host::{
    AttachedDisk, AttachedNic, Changes, ChannelInfo, ConsoleEnd, ConsoleKind, CpuSet,
    CreateOptions, Created, DeviceName, DomId, DomainInfo, DomainState, Host, HostError, HostInfo,
    HostKind, Result, Sample, ShutdownReason, VcpuInfo,
};

struct Member {
    info: DomainInfo,
    spec: DomainSpec,
    kept: BTreeMap<String, Vec<u8>>,
}

#[derive(Default)]
struct State {
    last: u16,
    members: BTreeMap<u16, Member>,
    refuse: bool,
}

/// Domains that do nothing but end when a test says so.
pub struct Fake {
    kind: HostKind,
    state: Mutex<State>,
}

impl Fake {
    pub fn new(kind: HostKind) -> Self {
        let state = Mutex::default();
        Self { kind, state }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn with<T>(&self, domid: DomId, act: impl FnOnce(&mut Member) -> T) -> Result<T> {
        let mut state = self.lock();
        let member = state.members.get_mut(&domid.0);
        let missing = || HostError::NoSuchDomain(domid.0.to_string());
        member.map(act).ok_or_else(missing)
    }

    pub fn shut_down(&self, domid: DomId, reason: ShutdownReason) {
        self.with(domid, |member| member.info.state.shutdown = Some(reason))
            .unwrap();
    }

    /// Domains are neither created nor reset from now on.
    pub fn refuse_creation(&self) {
        self.lock().refuse = true;
    }
}

impl Host for Fake {
    fn kind(&self) -> HostKind {
        self.kind
    }

    fn info(&self) -> Result<HostInfo> {
        Err(self.not_here("That"))
    }

    fn list(&self) -> Result<Vec<DomainInfo>> {
        let state = self.lock();
        Ok(state
            .members
            .values()
            .map(|member| member.info.clone())
            .collect())
    }

    fn create(&self, spec: &DomainSpec, options: &CreateOptions) -> Result<Created> {
        let mut state = self.lock();
        if state.refuse {
            return Err(HostError::Refused("refused".into()));
        }
        if state
            .members
            .values()
            .any(|member| member.info.name == spec.name)
        {
            let name = spec.name.clone();
            return Err(HostError::NameInUse { name });
        }
        state.last += 1;
        let domid = state.last;
        let info = DomainInfo {
            domid,
            name: spec.name.clone(),
            uuid: Uuid::new_v4(),
            kind: spec.domain_type,
            state: DomainState {
                paused: options.paused,
                ..DomainState::default()
            },
            memory_kib: spec.memory_mib * 1024,
            outstanding_kib: 0,
            max_memory_kib: spec.max_memory_mib * 1024,
            shared_memory_kib: 0,
            cpu_time_ns: 0,
            vcpus_online: spec.vcpus,
            vcpus: spec.max_vcpus,
            cpupool: 0,
            cpupool_name: "Pool-0".into(),
            security_label: String::new(),
            started: Some(0),
            self_supervised: self.kind == HostKind::Kvm,
        };
        let spec = spec.clone();
        let source = options.source.clone().into_bytes();
        let kept = BTreeMap::from([("xl".to_owned(), source)]);
        state.members.insert(domid, Member { info, spec, kept });
        Ok(Created {
            domid: DomId(domid),
            warnings: Vec::new(),
        })
    }

    fn destroy(&self, domid: DomId) -> Result<()> {
        let gone = self.lock().members.remove(&domid.0);
        gone.map(drop)
            .ok_or_else(|| HostError::NoSuchDomain(domid.0.to_string()))
    }

    fn shutdown(&self, domid: DomId) -> Result<()> {
        self.shut_down(domid, ShutdownReason::Poweroff);
        Ok(())
    }

    fn reboot(&self, domid: DomId) -> Result<()> {
        self.shut_down(domid, ShutdownReason::Reboot);
        Ok(())
    }

    fn pause(&self, domid: DomId) -> Result<()> {
        self.with(domid, |member| member.info.state.paused = true)
    }

    fn unpause(&self, domid: DomId) -> Result<()> {
        self.with(domid, |member| member.info.state.paused = false)
    }

    fn sysrq(&self, _domid: DomId, _key: char) -> Result<()> {
        Err(self.not_here("That"))
    }

    fn mem_set(&self, _domid: DomId, _kib: u64) -> Result<()> {
        Err(self.not_here("That"))
    }

    fn mem_max(&self, _domid: DomId, _kib: u64) -> Result<()> {
        Err(self.not_here("That"))
    }

    fn vcpu_list(&self, _domid: DomId) -> Result<Vec<VcpuInfo>> {
        Err(self.not_here("That"))
    }

    fn vcpu_pin(
        &self,
        _domid: DomId,
        _vcpu: u32,
        _hard: Option<&CpuSet>,
        _soft: Option<&CpuSet>,
    ) -> Result<()> {
        Err(self.not_here("That"))
    }

    fn vcpu_set(&self, _domid: DomId, _count: u32) -> Result<()> {
        Err(self.not_here("That"))
    }

    fn block_list(&self, _domid: DomId) -> Result<Vec<BlockEntry>> {
        Err(self.not_here("That"))
    }

    fn block_attach(&self, _domid: DomId, _disk: &DiskSpec) -> Result<AttachedDisk> {
        Err(self.not_here("That"))
    }

    fn network_list(&self, _domid: DomId) -> Result<Vec<NetworkEntry>> {
        Err(self.not_here("That"))
    }

    fn network_attach(&self, _domid: DomId, _nic: &VifSpec) -> Result<AttachedNic> {
        Err(self.not_here("That"))
    }

    fn detach(&self, _domid: DomId, _device: DeviceName<'_>, _force: bool) -> Result<()> {
        Err(self.not_here("That"))
    }

    fn cd_insert(&self, _domid: DomId, _vdev: &str, _target: Option<&str>) -> Result<()> {
        Err(self.not_here("That"))
    }

    fn channel_list(&self, _domid: DomId) -> Result<Vec<ChannelInfo>> {
        Err(self.not_here("That"))
    }

    fn console(&self, _domid: DomId, _kind: ConsoleKind, _number: u32) -> Result<ConsoleEnd> {
        Err(self.not_here("That"))
    }

    fn dump_core(&self, _domid: DomId, _file: File, _path: &Path, _live: bool) -> Result<()> {
        Err(self.not_here("That"))
    }

    fn rename(&self, domid: DomId, name: &str) -> Result<()> {
        self.with(domid, |member| member.info.name = name.to_owned())
    }

    fn preserve(&self, domid: DomId, name: &str) -> Result<()> {
        self.with(domid, |member| member.info.uuid = Uuid::new_v4())?;
        self.rename(domid, name)
    }

    fn soft_reset(&self, domid: DomId, _spec: &DomainSpec) -> Result<()> {
        if self.lock().refuse {
            return Err(HostError::Refused("refused".into()));
        }
        self.with(domid, |member| member.info.state.shutdown = None)
    }

    fn configuration(&self, domid: DomId) -> Result<Option<DomainSpec>> {
        self.with(domid, |member| Some(member.spec.clone()))
    }

    fn set_configuration(
        &self,
        domid: DomId,
        spec: &DomainSpec,
        _libxl: &DomainConfig,
        _source: &str,
    ) -> Result<()> {
        self.with(domid, |member| member.spec = spec.clone())
    }

    fn keep(&self, domid: DomId, who: &str, data: &[u8]) -> Result<()> {
        self.with(domid, |member| {
            drop(member.kept.insert(who.to_owned(), data.to_vec()))
        })
    }

    fn kept(&self, domid: DomId, who: &str) -> Result<Option<Vec<u8>>> {
        self.with(domid, |member| member.kept.get(who).cloned())
    }

    fn samples(&self) -> Result<Vec<Sample>> {
        Err(self.not_here("That"))
    }

    fn changes(&self) -> Result<Box<dyn Changes>> {
        Ok(Box::new(Never))
    }
}

struct Never;

impl Changes for Never {
    fn wait(&mut self, _limit: Option<Duration>) -> Result<bool> {
        Ok(false)
    }
}
