//! Control of the host: `HYPERVISOR_sysctl`.
#![allow(unsafe_code)]

use std::io;

use nix::errno::Errno;
use xen_sys::GuestHandle;
use xen_sys::arch_x86::{XenCpuidLeaf, XenMsrEntry};
use xen_sys::domctl::{XenDomctlGetdomaininfo, XenctlBitmap};
use xen_sys::sysctl::*;
use xen_sys::{DomId, domctl};

use crate::control::{Control, is};
use crate::domctl::{CpuMap, CpuPolicy};

/// Domains asked for at once.
const DOMAINS: u32 = 64;

/// The hypervisor's ring of messages is 16 KiB by default; this is read at once.
const CONSOLE: usize = 64 << 10;

/// A pool of processors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuPool {
    /// Its number.
    pub id: u32,
    /// Its scheduler, `XEN_SCHEDULER_*`.
    pub scheduler: u32,
    /// How many domains it has.
    pub domains: u32,
    /// Its processors.
    pub cpus: CpuMap,
}

/// Memory of nodes, and how far they are from each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NumaInfo {
    /// Each node's memory.
    pub memory: Vec<XenSysctlMeminfo>,
    /// Distances, a row a node.
    pub distances: Vec<u32>,
}

impl Control {
    /// The machine.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn physinfo(&self) -> io::Result<XenSysctlPhysinfo> {
        let mut arguments = XenSysctlPhysinfo::default();
        // SAFETY: the arguments have no handles.
        unsafe { self.sysctl(XEN_SYSCTL_physinfo, &mut arguments) }?;
        Ok(arguments)
    }

    /// The scheduler of the first pool, `XEN_SCHEDULER_*`.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn scheduler(&self) -> io::Result<u32> {
        let mut arguments = XenSysctlSchedId::default();
        // SAFETY: the arguments have no handles.
        unsafe { self.sysctl(XEN_SYSCTL_sched_id, &mut arguments) }?;
        Ok(arguments.sched_id)
    }

    /// All domains in the order of their numbers.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn domains(&self) -> io::Result<Vec<XenDomctlGetdomaininfo>> {
        let empty = vec![XenDomctlGetdomaininfo::default(); DOMAINS as usize];
        let buffer = self.privcmd.array_of(&empty)?;
        let mut all = Vec::new();
        let mut first = DomId(0);
        loop {
            let mut arguments = XenSysctlGetdomaininfolist {
                first_domain: first,
                max_domains: DOMAINS,
                buffer: buffer.handle(),
                ..Default::default()
            };
            // SAFETY: the buffer has room for `max_domains` elements.
            unsafe { self.sysctl(XEN_SYSCTL_getdomaininfolist, &mut arguments) }?;
            let mut some = empty.clone();
            some.truncate(arguments.num_domains as usize);
            buffer.load_array(&mut some);
            let count = some.len();
            all.append(&mut some);
            match all.last() {
                Some(last) if count == DOMAINS as usize => first = DomId(last.domain.0 + 1),
                _ => return Ok(all),
            }
        }
    }

    /// The hypervisor's messages; `clear` has it forget them.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn read_console(&self, clear: bool) -> io::Result<Vec<u8>> {
        let buffer = self.privcmd.buffer(CONSOLE)?;
        let mut text = Vec::new();
        let mut index = 0;
        loop {
            let mut arguments = XenSysctlReadconsole {
                clear: clear.into(),
                incremental: 1,
                index,
                buffer: buffer.handle(),
                count: CONSOLE as u32,
                ..Default::default()
            };
            // SAFETY: the buffer has room for `count` bytes.
            unsafe { self.sysctl(XEN_SYSCTL_readconsole, &mut arguments) }?;
            if arguments.count == 0 {
                return Ok(text);
            }
            let mut part = vec![0; (arguments.count as usize).min(CONSOLE)];
            buffer.load_array(&mut part);
            text.append(&mut part);
            index = arguments.index;
        }
    }

    /// Presses keys on the hypervisor's console, as `xl debug-keys` does.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn debug_keys(&self, keys: &str) -> io::Result<()> {
        let buffer = self.privcmd.array_of(keys.as_bytes())?;
        let mut arguments = XenSysctlDebugKeys {
            keys: buffer.handle(),
            nr_keys: keys.len() as u32,
            _pad0: [0; 4],
        };
        // SAFETY: the buffer holds `nr_keys` bytes.
        unsafe { self.sysctl(XEN_SYSCTL_debug_keys, &mut arguments) }
    }

    /// How long each processor has been idle, ns.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn idle_times(&self, cpus: u32) -> io::Result<Vec<u64>> {
        let mut times = vec![0u64; cpus as usize];
        let buffer = self.privcmd.array_of(&times)?;
        let mut arguments = XenSysctlGetcpuinfo {
            max_cpus: cpus,
            info: buffer.handle(),
            ..Default::default()
        };
        // SAFETY: the buffer has room for `max_cpus` elements.
        unsafe { self.sysctl(XEN_SYSCTL_getcpuinfo, &mut arguments) }?;
        buffer.load_array(&mut times);
        times.truncate(arguments.nr_cpus as usize);
        Ok(times)
    }

    /// Where each processor is.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn cpu_topology(&self) -> io::Result<Vec<XenSysctlCputopo>> {
        let mut arguments = XenSysctlCputopoinfo::default();
        // SAFETY: the handle is null: the call tells how many there are.
        unsafe { self.sysctl(XEN_SYSCTL_cputopoinfo, &mut arguments) }?;
        let mut places = vec![XenSysctlCputopo::default(); arguments.num_cpus as usize];
        let buffer = self.privcmd.array_of(&places)?;
        arguments.cputopo = buffer.handle();
        // SAFETY: the buffer has room for `num_cpus` elements.
        unsafe { self.sysctl(XEN_SYSCTL_cputopoinfo, &mut arguments) }?;
        buffer.load_array(&mut places);
        places.truncate(arguments.num_cpus as usize);
        Ok(places)
    }

    /// Memory of nodes.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn numa(&self) -> io::Result<NumaInfo> {
        let mut arguments = XenSysctlNumainfo::default();
        // SAFETY: the handles are null: the call tells how many there are.
        unsafe { self.sysctl(XEN_SYSCTL_numainfo, &mut arguments) }?;
        let nodes = arguments.num_nodes as usize;
        let mut info = NumaInfo {
            memory: vec![XenSysctlMeminfo::default(); nodes],
            distances: vec![0; nodes * nodes],
        };
        let memory = self.privcmd.array_of(&info.memory)?;
        let distances = self.privcmd.array_of(&info.distances)?;
        arguments.meminfo = memory.handle();
        arguments.distance = distances.handle();
        // SAFETY: the buffers have room for `num_nodes` elements and their square.
        unsafe { self.sysctl(XEN_SYSCTL_numainfo, &mut arguments) }?;
        memory.load_array(&mut info.memory);
        distances.load_array(&mut info.distances);
        Ok(info)
    }

    /// All pools of processors.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn cpu_pools(&self) -> io::Result<Vec<CpuPool>> {
        let mut pools: Vec<CpuPool> = Vec::new();
        loop {
            let id = pools.last().map_or(0, |pool| pool.id + 1);
            match self.pool(XEN_SYSCTL_CPUPOOL_OP_INFO, id) {
                Ok(pool) => pools.push(pool),
                Err(error) if is(&error, Errno::ENOENT) => return Ok(pools),
                Err(error) => return Err(error),
            }
        }
    }

    /// Processors that are in no pool.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn free_cpus(&self) -> io::Result<CpuMap> {
        self.pool(XEN_SYSCTL_CPUPOOL_OP_FREEINFO, 0)
            .map(|pool| pool.cpus)
    }

    fn pool(&self, op: u32, id: u32) -> io::Result<CpuPool> {
        let cpus = self.physinfo()?.max_cpu_id + 1;
        let mut map = vec![0; cpus.div_ceil(8) as usize];
        let buffer = self.privcmd.array_of(&map)?;
        let mut arguments = XenSysctlCpupoolOp {
            op,
            cpupool_id: id,
            cpumap: XenctlBitmap {
                bitmap: buffer.handle(),
                nr_bits: map.len() as u32 * 8,
                _pad0: [0; 4],
            },
            ..Default::default()
        };
        // SAFETY: the buffer has room for `nr_bits` bits.
        unsafe { self.sysctl(XEN_SYSCTL_cpupool_op, &mut arguments) }?;
        buffer.load_array(&mut map);
        Ok(CpuPool {
            id: arguments.cpupool_id,
            scheduler: arguments.sched_id,
            domains: arguments.n_dom,
            cpus: map,
        })
    }

    /// The least time between two switches of credit2 in a pool, µs.
    ///
    /// # Errors
    /// `EINVAL` when its scheduler is another.
    pub fn credit2_ratelimit(&self, pool: u32) -> io::Result<u32> {
        self.credit2_schedule(pool, XEN_SYSCTL_SCHEDOP_getinfo, 0)
    }

    /// Sets it.
    ///
    /// # Errors
    /// `EINVAL` when its scheduler is another, or for a time it does not take.
    pub fn set_credit2_ratelimit(&self, pool: u32, us: u32) -> io::Result<()> {
        self.credit2_schedule(pool, XEN_SYSCTL_SCHEDOP_putinfo, us)
            .map(drop)
    }

    fn credit2_schedule(&self, pool: u32, cmd: u32, us: u32) -> io::Result<u32> {
        let mut arguments = XenSysctlSchedulerOp {
            cpupool_id: pool,
            sched_id: domctl::XEN_SCHEDULER_CREDIT2,
            cmd,
            ratelimit_us: us,
            ..Default::default()
        };
        // SAFETY: the arguments of credit2 have no handles.
        unsafe { self.sysctl(XEN_SYSCTL_scheduler_op, &mut arguments) }?;
        Ok(arguments.ratelimit_us)
    }

    /// A policy of the host: `XEN_SYSCTL_cpu_policy_*`.
    ///
    /// # Errors
    /// `EOPNOTSUPP` when Xen is built without that type of guests.
    pub fn host_cpu_policy(&self, index: u32) -> io::Result<CpuPolicy> {
        let (leaves, msrs) = self.policy_size()?;
        let mut policy = CpuPolicy {
            leaves: vec![XenCpuidLeaf::default(); leaves as usize],
            msrs: vec![XenMsrEntry::default(); msrs as usize],
        };
        let leaves_there = self.privcmd.array_of(&policy.leaves)?;
        let msrs_there = self.privcmd.array_of(&policy.msrs)?;
        let mut arguments = XenSysctlCpuPolicy {
            index,
            nr_leaves: leaves,
            nr_msrs: msrs,
            _rsvd: 0,
            leaves: leaves_there.handle(),
            msrs: msrs_there.handle(),
        };
        // SAFETY: the two buffers have room for as many entries as is said.
        unsafe { self.sysctl(XEN_SYSCTL_get_cpu_policy, &mut arguments) }?;
        leaves_there.load_array(&mut policy.leaves);
        msrs_there.load_array(&mut policy.msrs);
        policy.leaves.truncate(arguments.nr_leaves as usize);
        policy.msrs.truncate(arguments.nr_msrs as usize);
        Ok(policy)
    }

    /// How many leaves and MSRs a policy has at most.
    pub(crate) fn policy_size(&self) -> io::Result<(u32, u32)> {
        let mut arguments = XenSysctlCpuPolicy {
            index: XEN_SYSCTL_cpu_policy_host,
            leaves: GuestHandle::NULL,
            msrs: GuestHandle::NULL,
            ..Default::default()
        };
        // SAFETY: the handles are null: the call tells how many there are.
        unsafe { self.sysctl(XEN_SYSCTL_get_cpu_policy, &mut arguments) }?;
        Ok((arguments.nr_leaves, arguments.nr_msrs))
    }
}
