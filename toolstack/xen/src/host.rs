//! The trait, method by method.

use std::fs::File;
use std::path::{Path, PathBuf};

use xen_sys::DomId;
use xt_config::DomainSpec;
use xt_config::disk::DiskSpec;
use xt_config::libxl::DomainConfig;
use xt_config::vif::VifSpec;
use xt_devices::list::{BlockEntry, NetworkEntry};
use xt_host::{
    AttachedDisk, AttachedNic, Changes, ChannelInfo, ConsoleEnd, ConsoleKind, CpuSet,
    CreateOptions, Created, Credit2, Credit2Change, Credit2Domain, DeviceName, DomainInfo, Host,
    HostError, HostInfo, HostKind, Result, Sample, Trigger, VcpuInfo,
};

use crate::info::News;
use crate::life::refused;
use crate::{XenHost, failed, hotplug, nodes, store, userdata};

impl Host for XenHost {
    fn kind(&self) -> HostKind {
        HostKind::Xen
    }

    fn info(&self) -> Result<HostInfo> {
        self.host_info()
    }

    fn list(&self) -> Result<Vec<DomainInfo>> {
        self.all_domains()
    }

    fn started(&self, domain: &DomainInfo) -> Result<Option<u64>> {
        self.start_time(domain.uuid)
    }

    fn domain(&self, domid: DomId) -> Result<DomainInfo> {
        self.one_domain(domid)
    }

    fn create(&self, spec: &DomainSpec, options: &CreateOptions) -> Result<Created> {
        self.create_domain(spec, options)
    }

    fn commit(&self, domid: DomId) -> Result<()> {
        match self.take_uncommitted(domid) {
            Some(entry) => entry.done().map_err(failed("Cannot close the journal")),
            None => Ok(()),
        }
    }

    fn destroy(&self, domid: DomId) -> Result<()> {
        self.destroy_domain(domid)
    }

    fn shutdown(&self, domid: DomId) -> Result<()> {
        self.ask(domid, "poweroff")
    }

    fn reboot(&self, domid: DomId) -> Result<()> {
        self.ask(domid, "reboot")
    }

    fn pause(&self, domid: DomId) -> Result<()> {
        self.domain_there(domid)?;
        self.control
            .pause_domain(domid)
            .map_err(refused("Xen does not stop the domain"))
    }

    fn unpause(&self, domid: DomId) -> Result<()> {
        self.domain_there(domid)?;
        self.control
            .unpause_domain(domid)
            .map_err(refused("Xen does not start the domain"))
    }

    fn sysrq(&self, domid: DomId, key: char) -> Result<()> {
        self.send_sysrq(domid, key)
    }

    fn trigger(&self, domid: DomId, trigger: Trigger, vcpu: u32) -> Result<()> {
        self.send_trigger(domid, trigger, vcpu)
    }

    fn mem_set(&self, domid: DomId, kib: u64) -> Result<()> {
        self.set_memory(domid, kib)
    }

    fn mem_max(&self, domid: DomId, kib: u64) -> Result<()> {
        self.set_max_memory(domid, kib)
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
        self.pin_vcpu(domid, vcpu, hard, soft)
    }

    fn vcpu_set(&self, domid: DomId, count: u32) -> Result<()> {
        self.set_vcpus(domid, count)
    }

    fn credit2_pools(&self) -> Result<Vec<Credit2>> {
        self.pools()
    }

    fn credit2_set_pool(&self, pool: &str, ratelimit_us: u32) -> Result<()> {
        self.set_pool(pool, ratelimit_us)
    }

    fn credit2(&self, domid: DomId) -> Result<Credit2Domain> {
        self.credit2_of(domid)
    }

    fn credit2_set(&self, domid: DomId, change: Credit2Change) -> Result<()> {
        self.change_credit2(domid, change)
    }

    fn block_list(&self, domid: DomId) -> Result<Vec<BlockEntry>> {
        xt_devices::block_list(&mut self.client(), domid).map_err(hotplug::refused)
    }

    fn block_attach(&self, domid: DomId, disk: &DiskSpec) -> Result<AttachedDisk> {
        self.attach_disk(domid, disk)
    }

    fn network_list(&self, domid: DomId) -> Result<Vec<NetworkEntry>> {
        xt_devices::network_list(&mut self.client(), domid).map_err(hotplug::refused)
    }

    fn network_attach(&self, domid: DomId, nic: &VifSpec) -> Result<AttachedNic> {
        self.attach_nic(domid, nic)
    }

    fn detach(&self, domid: DomId, device: DeviceName<'_>, force: bool) -> Result<()> {
        self.detach_device(domid, device, force)
    }

    fn cd_insert(&self, domid: DomId, vdev: &str, target: Option<&str>) -> Result<()> {
        self.change_medium(domid, vdev, target)
    }

    /// Consoles beyond the first are what `xl` calls channels when they have a name.
    fn channel_list(&self, domid: DomId) -> Result<Vec<ChannelInfo>> {
        let dir = format!("{}/device/console", nodes::libxl(domid));
        let mut client = self.client();
        let mut all = Vec::new();
        for devid in store(nodes::names(&mut client, &dir))? {
            let Ok(number) = devid.parse() else { continue };
            let mut text = |path: String| store(client.read_text(&path));
            let Some(name) = text(format!("{dir}/{devid}/name"))? else {
                continue;
            };
            let front = text(format!("{dir}/{devid}/frontend"))?.unwrap_or_default();
            let mut number_at = |path: String| {
                let value = store(client.read_text(&path))?;
                Ok::<i64, HostError>(value.and_then(|text| text.parse().ok()).unwrap_or(-1))
            };
            let info = ChannelInfo {
                devid: number,
                backend_domid: number_at(format!("{front}/backend-id"))?,
                state: number_at(format!("{front}/state"))?,
                event_channel: number_at(format!("{front}/port"))?,
                ring_ref: number_at(format!("{front}/ring-ref"))?,
                connection: String::new(),
                path: String::new(),
                name,
            };
            let mut text = |name| store(client.read_text(&format!("{dir}/{devid}/{name}")));
            let connection = text("connection")?.unwrap_or_default();
            let path = match connection.as_str() {
                "pty" => store(client.read_text(&format!("{front}/tty")))?,
                _ => text("path")?,
            };
            all.push(ChannelInfo {
                path: path.unwrap_or_default(),
                connection,
                ..info
            });
        }
        Ok(all)
    }

    fn console(&self, domid: DomId, kind: ConsoleKind, number: u32) -> Result<ConsoleEnd> {
        self.domain_there(domid)?;
        let dir = nodes::domain(domid);
        let path = match (kind, number) {
            (ConsoleKind::Serial, number) => format!("{dir}/serial/{number}/tty"),
            (_, 0) => format!("{dir}/console/tty"),
            (_, number) => format!("{dir}/device/console/{number}/tty"),
        };
        let tty = store(self.client().read_text(&path))?;
        match tty.filter(|tty| tty.starts_with("/dev/")) {
            Some(tty) => Ok(ConsoleEnd::Pty(PathBuf::from(tty))),
            None => Err(HostError::Refused(format!(
                "Domain {} has no such console, or xenconsoled does not serve it.",
                domid.0
            ))),
        }
    }

    fn dmesg(&self, clear: bool) -> Result<Vec<u8>> {
        self.control
            .read_console(clear)
            .map_err(failed("Cannot read Xen's messages"))
    }

    fn debug_keys(&self, keys: &str) -> Result<()> {
        self.control
            .debug_keys(keys)
            .map_err(failed("Xen refuses the keys"))
    }

    fn dump_core(&self, domid: DomId, file: File, path: &Path, live: bool) -> Result<()> {
        self.dump(domid, file, path, live)
    }

    fn rename(&self, domid: DomId, name: &str) -> Result<()> {
        self.rename_domain(domid, name)
    }

    fn preserve(&self, domid: DomId, name: &str) -> Result<()> {
        self.preserve_domain(domid, name)
    }

    fn configuration(&self, domid: DomId) -> Result<Option<DomainSpec>> {
        self.kept_configuration(domid)
    }

    fn memory_now(&self, domid: DomId) -> Result<(Option<u64>, Option<u64>)> {
        self.memory_nodes(domid)
    }

    fn set_configuration(
        &self,
        domid: DomId,
        spec: &DomainSpec,
        libxl: &DomainConfig,
        source: &str,
    ) -> Result<()> {
        self.keep_configuration(domid, spec, libxl)?;
        self.keep_data(domid, userdata::XL, source.as_bytes())
    }

    fn keep(&self, domid: DomId, who: &str, data: &[u8]) -> Result<()> {
        self.keep_data(domid, who, data)
    }

    fn kept(&self, domid: DomId, who: &str) -> Result<Option<Vec<u8>>> {
        self.kept_data(domid, who)
    }

    fn samples(&self) -> Result<Vec<Sample>> {
        self.all_samples()
    }

    fn changes(&self) -> Result<Box<dyn Changes>> {
        Ok(Box::new(News::open(&self.dirs)?))
    }
}
