//! What is told of the host and its domains.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use uuid::Uuid;
use xen_sys::DomId;
use xen_sys::domctl::*;
use xen_sys::sysctl::*;
use xt_config::DomainType;
use xt_devices::Guest;
use xt_host::info::NodeInfo;
use xt_host::{
    Changes, CpuSet, Credit2, Credit2Domain, DomainInfo, DomainState, HostError, HostInfo,
    HostKind, HypervisorInfo, Result, Sample, ShutdownReason, VcpuInfo, VcpuState,
};
use xt_xenstore::client::Client;

use crate::hvm::watch::DeviceModels;
use crate::life::{PAGE_KIB, refused};
use crate::{Dirs, XenHost, failed, nodes, store};

impl XenHost {
    pub(crate) fn host_info(&self) -> Result<HostInfo> {
        let unread = "Cannot ask Xen about the machine";
        let info = self.control.physinfo().map_err(failed(unread))?;
        let uname = nix::sys::utsname::uname().map_err(|errno| failed(unread)(errno.into()))?;
        let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
        let free = self.control.free_cpus().map_err(failed(unread))?;
        let numa = self.control.numa().map_err(failed(unread))?;
        let nodes = numa.memory.len();
        let topology = self.control.cpu_topology().map_err(failed(unread))?;
        Ok(HostInfo {
            kind: HostKind::Xen,
            host: text(uname.nodename()),
            release: text(uname.release()),
            version: text(uname.version()),
            machine: text(uname.machine()),
            nr_cpus: info.nr_cpus,
            max_cpu_id: info.max_cpu_id,
            nr_nodes: info.nr_nodes,
            cores_per_socket: info.cores_per_socket,
            threads_per_core: info.threads_per_core,
            cpu_khz: info.cpu_khz.into(),
            hw_caps: info.hw_cap.to_vec(),
            virt_caps: capabilities(info.capabilities),
            total_memory_kib: info.total_pages * PAGE_KIB,
            free_memory_kib: info.free_pages * PAGE_KIB,
            sharing_freed_pages: self.control.sharing_freed_pages().unwrap_or(0),
            sharing_used_pages: self.control.sharing_used_pages().unwrap_or(0),
            outstanding_pages: info.outstanding_pages,
            free_cpus: free.iter().map(|byte| byte.count_ones()).sum(),
            hypervisor: self.hypervisor()?,
            topology: topology
                .iter()
                .map(|it| (it.core, it.socket, it.node))
                .collect(),
            nodes: (0..nodes)
                .map(|node| NodeInfo {
                    size_kib: numa.memory[node].memsize >> 10,
                    free_kib: numa.memory[node].memfree >> 10,
                    distances: numa.distances[node * nodes..(node + 1) * nodes].to_vec(),
                })
                .collect(),
        })
    }

    fn hypervisor(&self) -> Result<HypervisorInfo> {
        let unread = "Cannot ask Xen about itself";
        let privcmd = self.control.privcmd();
        let version = privcmd.xen_version().map_err(failed(unread))?;
        let build = privcmd.build_info().map_err(failed(unread))?;
        Ok(HypervisorInfo {
            major: version.major.into(),
            minor: version.minor.into(),
            extra: version.extra,
            caps: privcmd.capabilities().map_err(failed(unread))?,
            scheduler: self
                .control
                .scheduler()
                .map_err(failed(unread))
                .map(scheduler)?
                .into(),
            pagesize: 4096,
            virt_start: build.virt_start,
            changeset: build.changeset,
            commandline: build.commandline,
            compiler: build.compiler,
            compile_by: build.compile_by,
            compile_domain: build.compile_domain,
            compile_date: build.compile_date,
            build_id: build
                .build_id
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        })
    }

    pub(crate) fn all_domains(&self) -> Result<Vec<DomainInfo>> {
        let domains = self
            .control
            .domains()
            .map_err(failed("Cannot list the domains"))?;
        self.describe(&domains)
    }

    pub(crate) fn one_domain(&self, domid: DomId) -> Result<DomainInfo> {
        let described = self.describe(&[self.domain_there(domid)?])?;
        let first = described.into_iter().next();
        first.ok_or_else(|| HostError::NoSuchDomain(domid.0.to_string()))
    }

    /// What Xen says of domains, with what xenstore has of them: asked for all at once.
    fn describe(&self, domains: &[XenDomctlGetdomaininfo]) -> Result<Vec<DomainInfo>> {
        let pools: BTreeSet<u32> = domains.iter().map(|info| info.cpupool).collect();
        let mut paths: Vec<String> = pools.iter().map(|pool| pool_path(*pool)).collect();
        for info in domains {
            paths.push(format!("{}/name", nodes::domain(info.domain)));
            if is_translated(info) {
                paths.push(nodes::kind(info.domain));
            }
        }
        let mut texts = store(self.client().read_texts(&paths))?.into_iter();
        let mut next = || texts.next().flatten();
        let pools: BTreeMap<u32, String> = pools
            .into_iter()
            .map(|pool| (pool, pool_name(pool, next())))
            .collect();
        let mut one = |info: &XenDomctlGetdomaininfo| {
            let name = next();
            let kind = is_translated(info).then(&mut next).flatten();
            DomainInfo {
                domid: info.domain.0,
                name: name.unwrap_or_default(),
                uuid: Uuid::from_bytes(info.handle),
                kind: kind_of(info, kind.as_deref()),
                state: state(info.flags),
                memory_kib: info.tot_pages * PAGE_KIB,
                outstanding_kib: info.outstanding_pages * PAGE_KIB,
                max_memory_kib: info.max_pages.saturating_mul(PAGE_KIB),
                shared_memory_kib: info.shr_pages * PAGE_KIB,
                cpu_time_ns: info.cpu_time,
                vcpus_online: info.nr_online_vcpus,
                vcpus: info.max_vcpu_id.wrapping_add(1),
                cpupool: info.cpupool,
                cpupool_name: pools.get(&info.cpupool).cloned().unwrap_or_default(),
                security_label: String::new(),
                started: None,
                self_supervised: false,
            }
        };
        Ok(domains.iter().map(&mut one).collect())
    }

    pub(crate) fn start_time(&self, uuid: Uuid) -> Result<Option<u64>> {
        let path = format!("{}/start_time", nodes::vm(uuid));
        let text = store(self.client().read_text(&path))?;
        Ok(text.and_then(|text| text.split('.').next()?.parse().ok()))
    }

    /// The kind of one domain.
    pub(crate) fn guest(&self, domid: DomId) -> Result<Guest> {
        let info = self.domain_there(domid)?;
        let text = match is_translated(&info) {
            true => store(self.client().read_text(&nodes::kind(domid)))?,
            false => None,
        };
        let kind = kind_of(&info, text.as_deref());
        Ok(Guest { domid, kind })
    }

    pub(crate) fn vcpus(&self, domid: DomId) -> Result<Vec<VcpuInfo>> {
        let info = self.domain_there(domid)?;
        let cpus = self.cpus()?;
        let unread = "Cannot ask Xen about a virtual CPU";
        let mut all = Vec::new();
        for vcpu in 0..info.max_vcpu_id.wrapping_add(1) {
            let told = match self.control.vcpu_info(domid, vcpu) {
                Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => continue,
                other => other.map_err(failed(unread))?,
            };
            let (hard, soft) = self
                .control
                .vcpu_affinity(domid, vcpu, cpus)
                .map_err(failed(unread))?;
            let online = told.online != 0;
            all.push(VcpuInfo {
                vcpu,
                state: match (online, told.running != 0, told.blocked != 0) {
                    (false, ..) => VcpuState::Offline,
                    (_, true, _) => VcpuState::Running,
                    (_, _, true) => VcpuState::Blocked,
                    _ => VcpuState::Idle,
                },
                cpu: online.then_some(told.cpu),
                time_ns: told.cpu_time,
                hard_affinity: set(&hard, cpus),
                soft_affinity: set(&soft, cpus),
            });
        }
        Ok(all)
    }

    pub(crate) fn pools(&self) -> Result<Vec<Credit2>> {
        let pools = self
            .control
            .cpu_pools()
            .map_err(failed("Cannot list the CPU pools"))?;
        let credit2 = pools
            .iter()
            .filter(|pool| pool.scheduler == XEN_SCHEDULER_CREDIT2);
        credit2
            .map(|pool| {
                let limit = self.control.credit2_ratelimit(pool.id);
                Ok(Credit2 {
                    pool: self.pool_name(pool.id)?,
                    ratelimit_us: limit.map_err(failed("Cannot read the rate limit"))?,
                })
            })
            .collect()
    }

    fn pool_name(&self, pool: u32) -> Result<String> {
        let kept = store(self.client().read_text(&pool_path(pool)))?;
        Ok(pool_name(pool, kept))
    }

    pub(crate) fn set_pool(&self, name: &str, ratelimit_us: u32) -> Result<()> {
        let pools = self
            .control
            .cpu_pools()
            .map_err(failed("Cannot list the CPU pools"))?;
        for pool in pools {
            if self.pool_name(pool.id)? == name {
                return self
                    .control
                    .set_credit2_ratelimit(pool.id, ratelimit_us)
                    .map_err(refused("Xen refuses the rate limit"));
            }
        }
        Err(HostError::Refused(format!(
            "There is no CPU pool {name:?}."
        )))
    }

    pub(crate) fn credit2_of(&self, domid: DomId) -> Result<Credit2Domain> {
        self.domain_there(domid)?;
        let shares = self.control.credit2(domid);
        let shares = shares.map_err(refused("The domain's scheduler is not credit2"))?;
        Ok(Credit2Domain {
            domid: domid.0,
            weight: shares.weight.into(),
            cap: shares.cap.into(),
        })
    }

    pub(crate) fn all_samples(&self) -> Result<Vec<Sample>> {
        let mut samples = Vec::new();
        for domain in self.all_domains()? {
            let domid = DomId(domain.domid);
            let online = (0..domain.vcpus).filter_map(|vcpu| {
                let told = self.control.vcpu_info(domid, vcpu).ok()?;
                (told.online != 0).then_some((vcpu, told.cpu_time))
            });
            let mut sample = Sample {
                vcpus: online.collect(),
                net_tx_bytes: 0,
                net_rx_bytes: 0,
                nets: 0,
                disk_reads: 0,
                disk_writes: 0,
                disk_out_of_requests: 0,
                disk_read_sectors: 0,
                disk_write_sectors: 0,
                disks: 0,
                domain,
            };
            count_devices(&mut sample);
            samples.push(sample);
        }
        Ok(samples)
    }
}

/// Adds the counters of the kernel's back ends.
fn count_devices(sample: &mut Sample) {
    let domid = sample.domain.domid;
    let read = |path: &Path, name: &str| {
        let text = fs::read_to_string(path.join(name)).unwrap_or_default();
        text.trim().parse::<u64>().unwrap_or(0)
    };
    let devices = fs::read_dir("/sys/bus/xen-backend/devices")
        .into_iter()
        .flatten()
        .flatten();
    for device in devices {
        let name = device.file_name().to_string_lossy().into_owned();
        let of_domain = |kind: &str| name.starts_with(&format!("{kind}-{domid}-"));
        if of_domain("vbd") {
            let dir = device.path().join("statistics");
            sample.disks += 1;
            sample.disk_reads += read(&dir, "rd_req");
            sample.disk_writes += read(&dir, "wr_req");
            sample.disk_out_of_requests += read(&dir, "oo_req");
            sample.disk_read_sectors += read(&dir, "rd_sect");
            sample.disk_write_sectors += read(&dir, "wr_sect");
        } else if of_domain("vif") {
            sample.nets += 1;
            for net in fs::read_dir(device.path().join("net"))
                .into_iter()
                .flatten()
                .flatten()
            {
                let dir = net.path().join("statistics");
                // What this side receives the guest has sent.
                sample.net_tx_bytes += read(&dir, "rx_bytes");
                sample.net_rx_bytes += read(&dir, "tx_bytes");
            }
        }
    }
}

fn pool_path(pool: u32) -> String {
    format!("/local/pool/{pool}/name")
}

/// A pool's name, as libxl has it.
fn pool_name(pool: u32, kept: Option<String>) -> String {
    kept.unwrap_or_else(|| format!("Pool-{pool}"))
}

/// Whether Xen translates its addresses: it is not PV.
fn is_translated(info: &XenDomctlGetdomaininfo) -> bool {
    info.flags & XEN_DOMINF_hvm_guest != 0
}

/// By libxl's note, where there can be a doubt; of what it did not make, the hypervisor's word.
fn kind_of(info: &XenDomctlGetdomaininfo, note: Option<&str>) -> DomainType {
    match (is_translated(info) && info.domain != DomId(0), note) {
        (false, _) => DomainType::Pv,
        (true, Some("pvh")) => DomainType::Pvh,
        (true, _) => DomainType::Hvm,
    }
}

fn state(flags: u32) -> DomainState {
    let has = |flag| flags & flag != 0;
    let code = flags >> XEN_DOMINF_shutdownshift & XEN_DOMINF_shutdownmask;
    DomainState {
        running: has(XEN_DOMINF_running),
        blocked: has(XEN_DOMINF_blocked),
        paused: has(XEN_DOMINF_paused),
        shutdown: has(XEN_DOMINF_shutdown).then(|| ShutdownReason::from_code(code)),
        dying: has(XEN_DOMINF_dying),
    }
}

fn set(map: &[u8], cpus: u32) -> CpuSet {
    let has = |cpu: &u32| {
        map.get(*cpu as usize / 8)
            .is_some_and(|byte| byte >> (cpu % 8) & 1 != 0)
    };
    CpuSet((0..cpus).filter(has).collect())
}

/// `xl info`'s words, in its order.
fn capabilities(flags: u32) -> Vec<String> {
    let names = [
        (XEN_SYSCTL_PHYSCAP_pv, "pv"),
        (XEN_SYSCTL_PHYSCAP_hvm, "hvm"),
        (
            XEN_SYSCTL_PHYSCAP_hvm | XEN_SYSCTL_PHYSCAP_directio,
            "hvm_directio",
        ),
        (
            XEN_SYSCTL_PHYSCAP_pv | XEN_SYSCTL_PHYSCAP_directio,
            "pv_directio",
        ),
        (XEN_SYSCTL_PHYSCAP_hap, "hap"),
        (XEN_SYSCTL_PHYSCAP_shadow, "shadow"),
        (XEN_SYSCTL_PHYSCAP_iommu_hap_pt_share, "iommu_hap_pt_share"),
        (XEN_SYSCTL_PHYSCAP_vmtrace, "vmtrace"),
        (XEN_SYSCTL_PHYSCAP_gnttab_v1, "gnttab-v1"),
        (XEN_SYSCTL_PHYSCAP_gnttab_v2, "gnttab-v2"),
    ];
    let there = names.iter().filter(|(flag, _)| flags & flag == *flag);
    there.map(|(_, name)| (*name).to_owned()).collect()
}

fn scheduler(id: u32) -> &'static str {
    match id {
        XEN_SCHEDULER_CREDIT => "credit",
        XEN_SCHEDULER_CREDIT2 => "credit2",
        XEN_SCHEDULER_ARINC653 => "arinc653",
        XEN_SCHEDULER_RTDS => "rtds",
        XEN_SCHEDULER_NULL => "null",
        _ => "unknown",
    }
}

/// News from xenstored, which hears of every domain's end; and device models that end before it.
#[derive(Debug)]
pub(crate) struct News {
    client: Client,
    models: DeviceModels,
}

impl News {
    pub(crate) fn open(dirs: &Dirs) -> Result<Self> {
        let mut client = store(Client::connect_default())?;
        for path in ["@releaseDomain", "@introduceDomain", nodes::DEVICE_MODELS] {
            store(client.watch(path, "xt"))?;
        }
        let models = DeviceModels::new(dirs.clone());
        Ok(Self { client, models })
    }
}

impl Changes for News {
    fn wait(&mut self, limit: Option<Duration>) -> Result<bool> {
        self.models.look();
        let first = store(self.client.next_event(limit))?.is_some();
        // One look serves for all that came at once.
        while store(self.client.try_event())?.is_some() {}
        Ok(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_and_a_set_of_processors() {
        let crashed = state(XEN_DOMINF_shutdown | 3 << XEN_DOMINF_shutdownshift);
        assert_eq!(crashed.shutdown, Some(ShutdownReason::Crash));
        assert_eq!(state(XEN_DOMINF_blocked).letters(), "-b----");
        assert_eq!(set(&[0b101, 0xff], 4).text(4), "0,2");
    }

    #[test]
    fn capabilities_in_xls_order() {
        let flags = XEN_SYSCTL_PHYSCAP_hvm | XEN_SYSCTL_PHYSCAP_pv | XEN_SYSCTL_PHYSCAP_hap;
        assert_eq!(capabilities(flags), ["pv", "hvm", "hap"]);
    }
}
