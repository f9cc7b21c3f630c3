//! Control of domains: `HYPERVISOR_domctl`.
//!
//! Errors are the hypervisor's: `ESRCH` for no such domain, `EPERM` where the security policy forbids,
//! and what a call says itself.
#![allow(unsafe_code)]

use std::io;

use nix::errno::Errno;
use xen_sys::DomId;
use xen_sys::addr::{Gfn, Mfn};
use xen_sys::arch_x86::{VcpuGuestContext, XenCpuidLeaf, XenMsrEntry};
use xen_sys::domctl::*;
use xen_sys::memory::XenVmemrange;

use crate::control::{Control, is};

/// What a domain is to be (`struct xen_domctl_createdomain`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewDomain {
    /// UUID.
    pub handle: [u8; 16],
    /// Security label.
    pub ssidref: u32,
    /// `XEN_DOMCTL_CDF_*`.
    pub flags: u32,
    /// `XEN_DOMCTL_IOMMU_*`.
    pub iommu_opts: u32,
    /// vCPUs.
    pub max_vcpus: u32,
    /// Highest event channel port.
    pub max_evtchn_port: u32,
    /// Frames of the grant table; `None`: the hypervisor's default.
    pub max_grant_frames: Option<u32>,
    /// Frames of the table of mapped grants; `None`: the hypervisor's default.
    pub max_maptrack_frames: Option<u32>,
    /// Newest version of grant tables.
    pub max_grant_version: u32,
    /// Trace buffer of a vCPU, bytes.
    pub vmtrace_size: u32,
    /// CPU pool.
    pub cpupool_id: u32,
    /// `XEN_X86_EMU_*`.
    pub emulation_flags: u32,
    /// `XEN_X86_MSR_RELAXED`.
    pub misc_flags: u32,
}

impl NewDomain {
    /// As versions since 0x17 have it.
    fn v17(&self) -> XenDomctlCreatedomainV17 {
        let frames =
            |wanted: Option<u32>| wanted.map_or(-1, |frames| frames.min(i32::MAX as u32) as i32);
        XenDomctlCreatedomainV17 {
            ssidref: self.ssidref,
            handle: self.handle,
            flags: self.flags,
            iommu_opts: self.iommu_opts,
            max_vcpus: self.max_vcpus,
            max_evtchn_port: self.max_evtchn_port,
            max_grant_frames: frames(self.max_grant_frames),
            max_maptrack_frames: frames(self.max_maptrack_frames),
            grant_opts: self.max_grant_version & 0xf,
            altp2m_opts: 0,
            vmtrace_size: self.vmtrace_size,
            cpupool_id: self.cpupool_id,
            arch: XenArchDomainconfig {
                emulation_flags: self.emulation_flags,
                misc_flags: self.misc_flags,
            },
        }
    }

    /// As versions before 0x17 have it.
    fn v15(&self) -> XenDomctlCreatedomain {
        let new = self.v17();
        XenDomctlCreatedomain {
            ssidref: new.ssidref,
            handle: new.handle,
            flags: new.flags,
            iommu_opts: new.iommu_opts,
            max_vcpus: new.max_vcpus,
            max_evtchn_port: new.max_evtchn_port,
            max_grant_frames: new.max_grant_frames,
            max_maptrack_frames: new.max_maptrack_frames,
            grant_opts: new.grant_opts,
            vmtrace_size: new.vmtrace_size,
            cpupool_id: new.cpupool_id,
            arch: new.arch,
        }
    }
}

/// CPUID leaves and MSRs as a domain sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuPolicy {
    /// Leaves in order.
    pub leaves: Vec<XenCpuidLeaf>,
    /// MSRs.
    pub msrs: Vec<XenMsrEntry>,
}

/// Why a CPU policy was not taken.
#[derive(Debug, thiserror::Error)]
#[error("Xen refuses the CPU policy{}", at(*leaf, *subleaf, *msr))]
pub struct PolicyError {
    /// The leaf it does not take, if it tells.
    pub leaf: Option<u32>,
    /// Its subleaf, if it has any.
    pub subleaf: Option<u32>,
    /// The MSR it does not take, if it tells.
    pub msr: Option<u32>,
    /// Its answer.
    pub source: io::Error,
}

fn at(leaf: Option<u32>, subleaf: Option<u32>, msr: Option<u32>) -> String {
    let leaf = leaf.map(|leaf| format!(" at CPUID leaf {leaf:#x}"));
    let subleaf = subleaf.map(|subleaf| format!(", subleaf {subleaf:#x}"));
    let msr = msr.map(|msr| format!(" at MSR {msr:#x}"));
    [leaf, subleaf, msr].into_iter().flatten().collect()
}

/// Processors as a set of numbers, as Xen's bitmaps have them: bit 0 of byte 0 is processor 0.
pub type CpuMap = Vec<u8>;

/// Shares of processors under credit2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit2 {
    /// Share, 256 by default.
    pub weight: u16,
    /// Most, per cent of one processor; 0: no limit.
    pub cap: u16,
}

/// A domain's time stamp counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tsc {
    /// 0 default, 1 always emulate, 2 never emulate.
    pub mode: u32,
    /// Frequency, kHz.
    pub khz: u32,
    /// How often it has been restored.
    pub incarnation: u32,
    /// Time since the domain began, ns.
    pub elapsed_ns: u64,
}

/// A virtual NUMA topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VNuma {
    /// Distances, a row a node.
    pub distances: Vec<u32>,
    /// The node of each vCPU.
    pub vcpu_to_node: Vec<u32>,
    /// The physical node of each node.
    pub node_to_physical: Vec<u32>,
    /// Its memory.
    pub ranges: Vec<XenVmemrange>,
}

impl Control {
    /// A command whose arguments name no memory.
    fn plain<T: Plain>(&self, cmd: u32, domid: DomId, mut arguments: T) -> io::Result<T> {
        // SAFETY: `Plain` arguments have no handles.
        unsafe { self.domctl(cmd, domid, &mut arguments) }?;
        Ok(arguments)
    }

    /// Makes a domain with a number of Xen's choice, or with `wanted`. It has no vCPU, no memory, and
    /// is paused once.
    ///
    /// # Errors
    /// `EINVAL` for what this machine cannot do, `ENOMEM`, `EEXIST` for a number that is taken.
    pub fn create_domain(&self, new: &NewDomain, wanted: Option<DomId>) -> io::Result<DomId> {
        let domid = wanted.unwrap_or(self.release.any_domid());
        // SAFETY: the arguments have no handles.
        unsafe {
            match self.release.has_altp2m_opts() {
                true => self.domctl(XEN_DOMCTL_createdomain, domid, &mut new.v17()),
                false => self.domctl(XEN_DOMCTL_createdomain, domid, &mut new.v15()),
            }
        }
    }

    /// Kills a domain and gives back its memory; pages mapped elsewhere keep it as a zombie.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn destroy_domain(&self, domid: DomId) -> io::Result<()> {
        loop {
            match self.plain(XEN_DOMCTL_destroydomain, domid, ()) {
                // Much is to be done; Xen does it piece by piece.
                Err(error) if is(&error, Errno::EAGAIN) => {}
                other => return other,
            }
        }
    }

    /// Pauses a domain, once more if it is paused already.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn pause_domain(&self, domid: DomId) -> io::Result<()> {
        self.plain(XEN_DOMCTL_pausedomain, domid, ())
    }

    /// Takes one pause back.
    ///
    /// # Errors
    /// `EINVAL` when it is not paused.
    pub fn unpause_domain(&self, domid: DomId) -> io::Result<()> {
        self.plain(XEN_DOMCTL_unpausedomain, domid, ())
    }

    /// About a domain, `None` if there is none.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn domain_info(&self, domid: DomId) -> io::Result<Option<XenDomctlGetdomaininfo>> {
        let info = XenDomctlGetdomaininfo::default();
        match self.plain(XEN_DOMCTL_getdomaininfo, domid, info) {
            // Without this one, Xen tells of the next.
            Ok(info) => Ok((info.domain == domid).then_some(info)),
            Err(error) if is(&error, Errno::ESRCH) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Limits a domain's memory, KiB.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn set_max_memory(&self, domid: DomId, kib: u64) -> io::Result<()> {
        let arguments = XenDomctlMaxMem { max_memkb: kib };
        self.plain(XEN_DOMCTL_max_mem, domid, arguments).map(drop)
    }

    /// Makes the vCPUs, as many as the domain was made for.
    ///
    /// # Errors
    /// `EINVAL` for another number.
    pub fn make_vcpus(&self, domid: DomId, max: u32) -> io::Result<()> {
        self.plain(XEN_DOMCTL_max_vcpus, domid, XenDomctlMaxVcpus { max })
            .map(drop)
    }

    /// Changes a domain's UUID.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn set_domain_handle(&self, domid: DomId, handle: [u8; 16]) -> io::Result<()> {
        let arguments = XenDomctlSetdomainhandle { handle };
        self.plain(XEN_DOMCTL_setdomainhandle, domid, arguments)
            .map(drop)
    }

    /// Fills a page with the entries of hypercalls. `frame` is a guest frame, of a PV domain a machine
    /// frame.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn fill_hypercall_page(&self, domid: DomId, frame: u64) -> io::Result<()> {
        let arguments = XenDomctlHypercallInit { gmfn: frame };
        self.plain(XEN_DOMCTL_hypercall_init, domid, arguments)
            .map(drop)
    }

    /// Sets a domain's wall clock ahead.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn set_time_offset(&self, domid: DomId, seconds: i64) -> io::Result<()> {
        let arguments = XenDomctlSettimeoffset {
            time_offset_seconds: seconds,
        };
        self.plain(XEN_DOMCTL_settimeoffset, domid, arguments)
            .map(drop)
    }

    /// A domain's time stamp counter.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn tsc(&self, domid: DomId) -> io::Result<Tsc> {
        let tsc = self.plain(XEN_DOMCTL_gettscinfo, domid, XenDomctlTscInfo::default())?;
        Ok(Tsc {
            mode: tsc.tsc_mode,
            khz: tsc.gtsc_khz,
            incarnation: tsc.incarnation,
            elapsed_ns: tsc.elapsed_nsec,
        })
    }

    /// Sets it.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn set_tsc(&self, domid: DomId, tsc: Tsc) -> io::Result<()> {
        let arguments = XenDomctlTscInfo {
            tsc_mode: tsc.mode,
            gtsc_khz: tsc.khz,
            incarnation: tsc.incarnation,
            pad: 0,
            elapsed_nsec: tsc.elapsed_ns,
        };
        self.plain(XEN_DOMCTL_settscinfo, domid, arguments)
            .map(drop)
    }

    /// Presses a button: `XEN_DOMCTL_SENDTRIGGER_*`.
    ///
    /// # Errors
    /// `EINVAL` for PV domains but for the NMI.
    pub fn send_trigger(&self, domid: DomId, trigger: u32, vcpu: u32) -> io::Result<()> {
        let arguments = XenDomctlSendtrigger { trigger, vcpu };
        self.plain(XEN_DOMCTL_sendtrigger, domid, arguments)
            .map(drop)
    }

    /// A vCPU's state.
    ///
    /// # Errors
    /// `ESRCH` when there is no such vCPU.
    pub fn vcpu_info(&self, domid: DomId, vcpu: u32) -> io::Result<XenDomctlGetvcpuinfo> {
        let arguments = XenDomctlGetvcpuinfo {
            vcpu,
            ..Default::default()
        };
        self.plain(XEN_DOMCTL_getvcpuinfo, domid, arguments)
    }

    /// Memory for page tables that Xen keeps for an HVM or PVH domain, bytes.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn paging_pool(&self, domid: DomId) -> io::Result<u64> {
        let arguments = XenDomctlPagingMempool::default();
        self.plain(XEN_DOMCTL_get_paging_mempool_size, domid, arguments)
            .map(|pool| pool.size)
    }

    /// Sets it; Xen rounds up.
    ///
    /// # Errors
    /// `ENOMEM`; the pool may have grown in part.
    pub fn set_paging_pool(&self, domid: DomId, bytes: u64) -> io::Result<()> {
        let arguments = XenDomctlPagingMempool { size: bytes };
        self.plain(XEN_DOMCTL_set_paging_mempool_size, domid, arguments)
            .map(drop)
    }

    /// Width of a PV domain's addresses, bits.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn address_size(&self, domid: DomId) -> io::Result<u32> {
        let arguments = XenDomctlAddressSize::default();
        self.plain(XEN_DOMCTL_get_address_size, domid, arguments)
            .map(|it| it.size)
    }

    /// A domain's shares under credit2.
    ///
    /// # Errors
    /// `EINVAL` when its pool has another scheduler.
    pub fn credit2(&self, domid: DomId) -> io::Result<Credit2> {
        let arguments = XenDomctlSchedulerOp {
            sched_id: XEN_SCHEDULER_CREDIT2,
            cmd: XEN_DOMCTL_SCHEDOP_getinfo,
            ..Default::default()
        };
        let got = self
            .plain(XEN_DOMCTL_scheduler_op, domid, arguments)?
            .credit2;
        Ok(Credit2 {
            weight: got.weight,
            cap: got.cap,
        })
    }

    /// Sets them.
    ///
    /// # Errors
    /// `EINVAL` when its pool has another scheduler.
    pub fn set_credit2(&self, domid: DomId, shares: Credit2) -> io::Result<()> {
        let arguments = XenDomctlSchedulerOp {
            sched_id: XEN_SCHEDULER_CREDIT2,
            cmd: XEN_DOMCTL_SCHEDOP_putinfo,
            credit2: XenDomctlSchedCredit2 {
                weight: shares.weight,
                cap: shares.cap,
            },
            ..Default::default()
        };
        self.plain(XEN_DOMCTL_scheduler_op, domid, arguments)
            .map(drop)
    }

    /// Where a vCPU may run, and where it prefers to: maps for `cpus` processors.
    ///
    /// # Errors
    /// `ESRCH` when there is no such vCPU.
    pub fn vcpu_affinity(
        &self,
        domid: DomId,
        vcpu: u32,
        cpus: u32,
    ) -> io::Result<(CpuMap, CpuMap)> {
        let empty = vec![0; cpus.div_ceil(8) as usize];
        let both = [Some(&empty), Some(&empty)];
        self.affinity(XEN_DOMCTL_getvcpuaffinity, domid, vcpu, 0, both)
    }

    /// Sets one or both; tells where the vCPU may run and prefers to run now. `force` undoes what the
    /// domain itself has pinned.
    ///
    /// # Errors
    /// `EINVAL` when none of the processors can be used.
    pub fn set_vcpu_affinity(
        &self,
        domid: DomId,
        vcpu: u32,
        hard: Option<&CpuMap>,
        soft: Option<&CpuMap>,
        force: bool,
    ) -> io::Result<(CpuMap, CpuMap)> {
        let flags = if force { XEN_VCPUAFFINITY_FORCE } else { 0 };
        self.affinity(XEN_DOMCTL_setvcpuaffinity, domid, vcpu, flags, [hard, soft])
    }

    fn affinity(
        &self,
        cmd: u32,
        domid: DomId,
        vcpu: u32,
        mut flags: u32,
        maps: [Option<&CpuMap>; 2],
    ) -> io::Result<(CpuMap, CpuMap)> {
        let mut bitmaps = [XenctlBitmap::default(); 2];
        let mut buffers = [None, None];
        let kinds = [XEN_VCPUAFFINITY_HARD, XEN_VCPUAFFINITY_SOFT];
        for (at, map) in maps.into_iter().enumerate() {
            let Some(map) = map else { continue };
            flags |= kinds[at];
            let buffer = self.privcmd.array_of(map)?;
            bitmaps[at].bitmap = buffer.handle();
            bitmaps[at].nr_bits = map.len() as u32 * 8;
            buffers[at] = Some((buffer, map.len()));
        }
        let mut arguments = XenDomctlVcpuaffinity {
            vcpu,
            flags,
            cpumap_hard: bitmaps[0],
            cpumap_soft: bitmaps[1],
        };
        // SAFETY: each map's buffer, alive in `buffers`, has the bits told, or its handle is null and
        // not used, the flag being clear.
        unsafe { self.domctl(cmd, domid, &mut arguments) }?;
        let [hard, soft] = buffers.map(|buffer| {
            buffer.map_or_else(Vec::new, |(buffer, len)| {
                let mut map = vec![0; len];
                buffer.load_array(&mut map);
                map
            })
        });
        Ok((hard, soft))
    }

    /// Which nodes' memory a domain prefers.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn set_node_affinity(&self, domid: DomId, nodes: &[u8]) -> io::Result<()> {
        let buffer = self.privcmd.array_of(nodes)?;
        let mut arguments = XenDomctlNodeaffinity {
            nodemap: XenctlBitmap {
                bitmap: buffer.handle(),
                nr_bits: nodes.len() as u32 * 8,
                _pad0: [0; 4],
            },
        };
        // SAFETY: the buffer has the bits told.
        unsafe { self.domctl(XEN_DOMCTL_setnodeaffinity, domid, &mut arguments) }.map(drop)
    }

    /// Sets a vCPU's registers; of the first vCPU this also makes it ready to run.
    ///
    /// # Errors
    /// `EINVAL` for what a domain may not have.
    pub fn set_vcpu_context(
        &self,
        domid: DomId,
        vcpu: u32,
        context: &VcpuGuestContext,
    ) -> io::Result<()> {
        let buffer = self.privcmd.buffer_of(context)?;
        let mut arguments = XenDomctlVcpucontext {
            vcpu,
            _pad0: [0; 4],
            ctxt: buffer.handle(),
        };
        // SAFETY: the buffer holds the structure, which is as large as the call reads.
        unsafe { self.domctl(XEN_DOMCTL_setvcpucontext, domid, &mut arguments) }.map(drop)
    }

    /// A vCPU's registers.
    ///
    /// # Errors
    /// `ESRCH` when there is no such vCPU, `ENODATA` when it was never set up.
    pub fn vcpu_context(&self, domid: DomId, vcpu: u32) -> io::Result<Box<VcpuGuestContext>> {
        let buffer = self.privcmd.buffer(size_of::<VcpuGuestContext>())?;
        let mut arguments = XenDomctlVcpucontext {
            vcpu,
            _pad0: [0; 4],
            ctxt: buffer.handle(),
        };
        // SAFETY: the buffer has room for the structure that the call writes.
        unsafe { self.domctl(XEN_DOMCTL_getvcpucontext, domid, &mut arguments) }?;
        Ok(Box::new(buffer.load(0)))
    }

    /// The records of an HVM or PVH domain's state (`hvm/save.h`).
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn hvm_context(&self, domid: DomId) -> io::Result<Vec<u8>> {
        let size = self.plain(XEN_DOMCTL_gethvmcontext, domid, HvmContextSize::default())?;
        let len = size.0.size as usize;
        let buffer = self.privcmd.buffer(len)?;
        let mut arguments = XenDomctlHvmcontext {
            size: len as u32,
            _pad0: [0; 4],
            buffer: buffer.handle(),
        };
        // SAFETY: the buffer has room for `size` bytes.
        unsafe { self.domctl(XEN_DOMCTL_gethvmcontext, domid, &mut arguments) }?;
        let mut records = vec![0; (arguments.size as usize).min(len)];
        buffer.load_array(&mut records);
        Ok(records)
    }

    /// Sets it.
    ///
    /// # Errors
    /// `EINVAL` for records that make no sense.
    pub fn set_hvm_context(&self, domid: DomId, records: &[u8]) -> io::Result<()> {
        let buffer = self.privcmd.array_of(records)?;
        let mut arguments = XenDomctlHvmcontext {
            size: records.len() as u32,
            _pad0: [0; 4],
            buffer: buffer.handle(),
        };
        // SAFETY: the buffer holds `size` bytes.
        unsafe { self.domctl(XEN_DOMCTL_sethvmcontext, domid, &mut arguments) }.map(drop)
    }

    /// What a domain sees of the processor.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn cpu_policy(&self, domid: DomId) -> io::Result<CpuPolicy> {
        let (leaves, msrs) = self.policy_size()?;
        let mut policy = CpuPolicy {
            leaves: vec![XenCpuidLeaf::default(); leaves as usize],
            msrs: vec![XenMsrEntry::default(); msrs as usize],
        };
        let leaves_there = self.privcmd.array_of(&policy.leaves)?;
        let msrs_there = self.privcmd.array_of(&policy.msrs)?;
        let mut arguments = XenDomctlCpuPolicy {
            nr_leaves: leaves,
            nr_msrs: msrs,
            leaves: leaves_there.handle(),
            msrs: msrs_there.handle(),
            ..Default::default()
        };
        // SAFETY: the two buffers have room for as many entries as is said.
        unsafe { self.domctl(XEN_DOMCTL_get_cpu_policy, domid, &mut arguments) }?;
        leaves_there.load_array(&mut policy.leaves);
        msrs_there.load_array(&mut policy.msrs);
        policy.leaves.truncate(arguments.nr_leaves as usize);
        policy.msrs.truncate(arguments.nr_msrs as usize);
        Ok(policy)
    }

    /// Sets it: before the domain first runs.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn set_cpu_policy(&self, domid: DomId, policy: &CpuPolicy) -> Result<(), PolicyError> {
        const NONE: u32 = u32::MAX;
        let mut arguments = XenDomctlCpuPolicy {
            err_leaf: NONE,
            err_subleaf: NONE,
            err_msr: NONE,
            ..Default::default()
        };
        let mut set = || {
            let leaves = self.privcmd.array_of(&policy.leaves)?;
            let msrs = self.privcmd.array_of(&policy.msrs)?;
            arguments.nr_leaves = policy.leaves.len() as u32;
            arguments.nr_msrs = policy.msrs.len() as u32;
            arguments.leaves = leaves.handle();
            arguments.msrs = msrs.handle();
            // SAFETY: the two buffers hold as many entries as is said.
            unsafe { self.domctl(XEN_DOMCTL_set_cpu_policy, domid, &mut arguments) }.map(drop)
        };
        set().map_err(|source| {
            let told = |value| (value != NONE).then_some(value);
            PolicyError {
                leaf: told(arguments.err_leaf),
                subleaf: told(arguments.err_subleaf),
                msr: told(arguments.err_msr),
                source,
            }
        })
    }

    /// The types of a domain's frames, `XEN_DOMCTL_PFINFO_*`, for up to 1024 at once.
    ///
    /// # Errors
    /// `E2BIG` for more.
    pub fn frame_types(&self, domid: DomId, frames: &[u64]) -> io::Result<Vec<u32>> {
        let buffer = self.privcmd.array_of(frames)?;
        let mut arguments = XenDomctlGetpageframeinfo3 {
            num: frames.len() as u64,
            array: buffer.handle(),
        };
        // SAFETY: the buffer holds `num` frames, over which the call writes their types.
        unsafe { self.domctl(XEN_DOMCTL_getpageframeinfo3, domid, &mut arguments) }?;
        let mut types = vec![0u64; frames.len()];
        buffer.load_array(&mut types);
        Ok(types.into_iter().map(|kind| kind as u32).collect())
    }

    /// Gives a domain a virtual NUMA topology.
    ///
    /// # Errors
    /// `EINVAL` for arrays that do not fit each other or the domain.
    pub fn set_vnuma(&self, domid: DomId, vnuma: &VNuma) -> io::Result<()> {
        let nodes = vnuma.node_to_physical.len();
        if vnuma.distances.len() != nodes * nodes {
            return Err(Errno::EINVAL.into());
        }
        let distances = self.privcmd.array_of(&vnuma.distances)?;
        let vcpus = self.privcmd.array_of(&vnuma.vcpu_to_node)?;
        let physical = self.privcmd.array_of(&vnuma.node_to_physical)?;
        let ranges = self.privcmd.array_of(&vnuma.ranges)?;
        let mut arguments = XenDomctlVnuma {
            nr_vnodes: nodes as u32,
            nr_vmemranges: vnuma.ranges.len() as u32,
            nr_vcpus: vnuma.vcpu_to_node.len() as u32,
            pad: 0,
            vdistance: distances.handle(),
            vcpu_to_vnode: vcpus.handle(),
            vnode_to_pnode: physical.handle(),
            vmemrange: ranges.handle(),
        };
        // SAFETY: each array has as many elements as is said, the distances the square of the nodes.
        unsafe { self.domctl(XEN_DOMCTL_setvnumainfo, domid, &mut arguments) }.map(drop)
    }

    /// The frame of a domain's shared info page.
    ///
    /// # Errors
    /// `ESRCH` when there is no such domain.
    pub fn shared_info_frame(&self, domid: DomId) -> io::Result<Mfn> {
        let info = self.domain_info(domid)?.ok_or(Errno::ESRCH)?;
        Ok(Gfn(info.shared_info_frame)).map(|frame| Mfn(frame.0))
    }
}

/// A size to be told: its handle is null.
#[derive(
    Clone, Copy, Debug, Default, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable,
)]
#[repr(transparent)]
struct HvmContextSize(XenDomctlHvmcontext);

/// Arguments without handles, or with null ones that stay so.
trait Plain: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable {}

macro_rules! plain {
    ($($name:ty),*) => {
        $(impl Plain for $name {})*
    };
}

plain!(
    (),
    XenDomctlGetdomaininfo,
    XenDomctlMaxMem,
    XenDomctlMaxVcpus,
    XenDomctlSetdomainhandle,
    XenDomctlHypercallInit,
    XenDomctlSettimeoffset,
    XenDomctlTscInfo,
    XenDomctlSendtrigger,
    XenDomctlGetvcpuinfo,
    XenDomctlPagingMempool,
    XenDomctlAddressSize,
    XenDomctlSchedulerOp,
    HvmContextSize
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_domain_in_both_forms() {
        let new = NewDomain {
            handle: [7; 16],
            max_vcpus: 3,
            max_grant_frames: Some(64),
            max_grant_version: 2,
            cpupool_id: 5,
            emulation_flags: XEN_X86_EMU_LAPIC,
            ..Default::default()
        };
        let (old, later) = (new.v15(), new.v17());
        assert_eq!((old.max_grant_frames, old.max_maptrack_frames), (64, -1));
        assert_eq!((old.cpupool_id, later.cpupool_id), (5, 5));
        assert_eq!((old.grant_opts, later.altp2m_opts), (2, 0));
        assert_eq!(old.arch, later.arch);
    }

    #[test]
    fn what_is_refused_is_named() {
        let error = PolicyError {
            leaf: Some(7),
            subleaf: Some(0),
            msr: None,
            source: Errno::EINVAL.into(),
        };
        assert_eq!(
            error.to_string(),
            "Xen refuses the CPU policy at CPUID leaf 0x7, subleaf 0x0"
        );
    }
}
