//! vCPUs are threads of the domain's process, and Linux schedules those.

use std::fs;

use nix::sched::{CpuSet as Mask, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use xen_sys::DomId;
use xenner::machine::RunState;
use xt_host::{CpuSet, HostError, Result, VcpuInfo, VcpuState};

use crate::machine::processors;
use crate::{GUEST, KvmHost};

/// Where `/proc/PID/task/TID/stat` has the state and the processor, counted behind the name.
const STATE: usize = 0;
const PROCESSOR: usize = 36;

/// A thread that runs a vCPU.
struct Thread {
    id: Pid,
    running: bool,
    processor: Option<u32>,
}

impl KvmHost {
    fn thread(&self, domid: DomId, vcpu: u32) -> Result<Option<Thread>> {
        let name = self.name(domid)?;
        let pid = fs::read_to_string(self.base.of(&name).join(xenner::rundir::PID));
        let pid = pid.map_err(|error| HostError::failed("Cannot read the process id.", error))?;
        let tasks = format!("/proc/{}/task", pid.trim());
        let wanted = format!("vcpu{vcpu}");
        for task in fs::read_dir(&tasks).into_iter().flatten().flatten() {
            let path = task.path();
            let comm = fs::read_to_string(path.join("comm")).unwrap_or_default();
            if comm.trim() != wanted {
                continue;
            }
            let stat = fs::read_to_string(path.join("stat")).unwrap_or_default();
            // The name is in parentheses and may hold anything.
            let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
            let field = |at: usize| rest.split(' ').nth(at).unwrap_or("");
            let id = task.file_name().to_string_lossy().parse();
            let Ok(id) = id else { continue };
            return Ok(Some(Thread {
                id: Pid::from_raw(id),
                running: field(STATE) == "R",
                processor: field(PROCESSOR).parse().ok(),
            }));
        }
        Ok(None)
    }

    pub(crate) fn vcpus(&self, domid: DomId) -> Result<Vec<VcpuInfo>> {
        let stats = self.stats(domid)?;
        let all = CpuSet::all(processors());
        let mut list = Vec::new();
        for (vcpu, of_guest) in (0..).zip(&stats.vcpus) {
            let thread = self.thread(domid, vcpu)?;
            let hard = thread.as_ref().and_then(|thread| affinity(thread.id));
            let runs = thread.as_ref().is_some_and(|thread| thread.running);
            let state = match stats.state {
                _ if !of_guest.online => VcpuState::Offline,
                RunState::Paused | RunState::Shutdown | RunState::Crashed => VcpuState::Idle,
                _ if runs => VcpuState::Running,
                _ => VcpuState::Blocked,
            };
            let cpu = thread.and_then(|thread| thread.processor);
            list.push(VcpuInfo {
                vcpu,
                state,
                cpu: cpu.filter(|_| of_guest.online),
                time_ns: of_guest.cpu_time_ns,
                hard_affinity: hard.unwrap_or_else(|| all.clone()),
                soft_affinity: all.clone(),
            });
        }
        Ok(list)
    }

    pub(crate) fn pin(&self, domid: DomId, vcpu: u32, cpus: &CpuSet) -> Result<()> {
        let there = processors();
        if let Some(cpu) = cpus.0.iter().find(|cpu| **cpu >= there) {
            let message = format!(
                "There is no processor {cpu}; this host has 0 to {}",
                there - 1
            );
            return Err(HostError::Refused(message));
        }
        let Some(thread) = self.thread(domid, vcpu)? else {
            return Err(HostError::Refused(format!("There is no vCPU {vcpu}")));
        };
        let failed =
            |errno: nix::errno::Errno| HostError::failed(format!("Cannot pin vCPU {vcpu}."), errno);
        let mut mask = Mask::new();
        for &cpu in &cpus.0 {
            mask.set(cpu as usize).map_err(failed)?;
        }
        sched_setaffinity(thread.id, &mask).map_err(failed)
    }

    /// Asks the guest, by the nodes its CPU hot plugging watches.
    pub(crate) fn set_vcpus(&self, domid: DomId, count: u32) -> Result<()> {
        let most = self.stats(domid)?.vcpus.len() as u32;
        if count == 0 || count > most {
            let message = format!("The domain can have 1 to {most} vCPUs online (maxvcpus)");
            return Err(HostError::Refused(message));
        }
        let mut store = self.store(domid)?;
        for vcpu in 0..most {
            let path = format!("/local/domain/{}/cpu/{vcpu}/availability", GUEST.0);
            let word = if vcpu < count { "online" } else { "offline" };
            store.write(&path, word).map_err(crate::stored)?;
        }
        Ok(())
    }
}

fn affinity(thread: Pid) -> Option<CpuSet> {
    let mask = sched_getaffinity(thread).ok()?;
    let cpus = (0..processors()).filter(|cpu| mask.is_set(*cpu as usize).unwrap_or(false));
    Some(CpuSet(cpus.collect()))
}
