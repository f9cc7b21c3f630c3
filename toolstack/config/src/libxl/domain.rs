//! A domain as a whole: `libxl_domain_config` and its first two parts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::libxl::choice::{
    ActionOnShutdown, Altp2mMode, ArmSciType, DeviceModelVersion, GicVersion, Passthrough,
    Scheduler, SveType, TeeType, TimerMode, TscMode, Type, VuartType,
};
use crate::libxl::cpu::CpuPolicy;
use crate::libxl::device::{
    Channel, Disk, Dtdev, Nic, P9, Pci, Pvcalls, Rdm, UsbController, UsbDevice, Vdispl, Vfb,
    Virtio, Vkb, Vtpm,
};
use crate::libxl::hvm::{HvmInfo, PvInfo, PvhInfo};
use crate::libxl::scalar::{Bitmap, Defbool, Gfn, MemKb, Tuning, Unset32, structures};
use crate::libxl::sound::Vsnd;

structures! {
    /// Everything about a domain: what an xl.cfg says, what `xl create -n` prints, and what libxl
    /// keeps of a running domain.
    DomainConfig {
        /// What is needed to create it.
        c_info: CreateInfo,
        /// What is needed to build it.
        b_info: BuildInfo,
        /// Disks.
        disks: Vec<Disk>,
        /// Network interfaces.
        nics: Vec<Nic>,
        /// Host PCI devices.
        pcidevs: Vec<Pci>,
        /// Reserved device memory; set by libxl, never by xl.
        rdms: Vec<Rdm>,
        /// Host devices of the device tree.
        dtdevs: Vec<Dtdev>,
        /// Frame buffers.
        vfbs: Vec<Vfb>,
        /// Keyboards.
        vkbs: Vec<Vkb>,
        /// virtio devices, since Xen 4.18.
        virtios: Vec<Virtio>,
        /// Virtual TPMs.
        vtpms: Vec<Vtpm>,
        /// Shared directories.
        p9s: Vec<P9>,
        /// Socket calls made in the host.
        pvcallsifs: Vec<Pvcalls>,
        /// Displays.
        vdispls: Vec<Vdispl>,
        /// Sound cards.
        vsnds: Vec<Vsnd>,
        /// Consoles with names.
        channels: Vec<Channel>,
        /// USB controllers.
        usbctrls: Vec<UsbController>,
        /// USB devices.
        usbdevs: Vec<UsbDevice>,
        /// What to do when it has shut itself down.
        on_poweroff: ActionOnShutdown,
        /// When it asked for a reboot.
        on_reboot: ActionOnShutdown,
        /// When its watchdog ran out.
        on_watchdog: ActionOnShutdown,
        /// When it crashed.
        on_crash: ActionOnShutdown,
        /// When it asked for a soft reset.
        on_soft_reset: ActionOnShutdown,
    }

    /// `libxl_domain_create_info`.
    CreateInfo {
        /// Kind of domain.
        #[serde(rename = "type")]
        kind: Type,
        /// Hardware-assisted paging.
        hap: Defbool,
        /// Out-of-sync shadow page tables.
        oos: Defbool,
        /// Number of the security label.
        ssidref: u32,
        /// The security label.
        ssid_label: Option<String>,
        /// Name.
        name: Option<String>,
        /// Wanted domain id; 0 is none.
        domid: u32,
        /// UUID.
        uuid: Option<Uuid>,
        /// Nodes under `/local/domain/DOMID`.
        xsdata: BTreeMap<String, String>,
        /// Nodes under `/local/domain/DOMID/platform`.
        platformdata: BTreeMap<String, String>,
        /// Number of the CPU pool.
        poolid: u32,
        /// Name of the CPU pool.
        pool_name: Option<String>,
        /// Whether the toolstack runs hotplug scripts, rather than udev.
        run_hotplug_scripts: Defbool,
        /// It has back ends for other domains.
        driver_domain: Defbool,
        /// Device assignment.
        passthrough: Passthrough,
        /// The event channel by which xend asked a guest to suspend.
        xend_suspend_evtchn_compat: Defbool,
    }

    /// `libxl_domain_build_info`.
    BuildInfo {
        /// vCPUs the guest may bring up.
        max_vcpus: i32,
        /// vCPUs online at the start.
        avail_vcpus: Bitmap,
        /// CPUs for all vCPUs; superseded by the affinities.
        cpumap: Bitmap,
        /// NUMA nodes for memory.
        nodemap: Bitmap,
        /// CPUs on which each vCPU must run.
        vcpu_hard_affinity: Vec<Bitmap>,
        /// CPUs on which each vCPU should run.
        vcpu_soft_affinity: Vec<Bitmap>,
        /// Whether libxl chooses NUMA nodes.
        numa_placement: Defbool,
        /// RDTSC.
        tsc_mode: TscMode,
        /// Memory the guest may grow to.
        max_memkb: MemKb,
        /// Memory at the start.
        target_memkb: MemKb,
        /// Memory of the emulated graphics card.
        video_memkb: MemKb,
        /// Memory for shadow or HAP page tables.
        shadow_memkb: MemKb,
        /// Memory for page tables of the IOMMU.
        iommu_memkb: MemKb,
        /// Offset of the guest's clock from UTC in seconds.
        rtc_timeoffset: u32,
        /// Number of the security label once it runs.
        exec_ssidref: u32,
        /// Security label once it runs.
        exec_ssid_label: Option<String>,
        /// The guest's clock shows local time.
        localtime: Defbool,
        /// It cannot migrate.
        disable_migrate: Defbool,
        /// Changes to the CPU policy.
        cpuid: CpuPolicy,
        /// First name for disks that a boot loader looks into.
        blkdev_start: Option<String>,
        /// Virtual NUMA nodes.
        vnuma_nodes: Vec<VnodeInfo>,
        /// Frames of the grant table.
        max_grant_frames: Unset32,
        /// Frames of the table of mapped grants.
        max_maptrack_frames: Unset32,
        /// Newest grant table version.
        max_grant_version: Tuning,
        /// Which device model.
        device_model_version: DeviceModelVersion,
        /// In a domain of its own.
        device_model_stubdomain: Defbool,
        /// Memory of that domain.
        stubdomain_memkb: MemKb,
        /// Kernel of that domain.
        stubdomain_kernel: Option<String>,
        /// Its command line.
        stubdomain_cmdline: Option<String>,
        /// Its initial RAM disk.
        stubdomain_ramdisk: Option<String>,
        /// Path of the device model.
        device_model: Option<String>,
        /// Number of its security label.
        device_model_ssidref: u32,
        /// Its security label.
        device_model_ssid_label: Option<String>,
        /// The user it runs as.
        device_model_user: Option<String>,
        /// Further arguments for it.
        extra: Vec<String>,
        /// Further arguments for it, PV guests.
        extra_pv: Vec<String>,
        /// Further arguments for it, HVM guests.
        extra_hvm: Vec<String>,
        /// Scheduling.
        sched_params: SchedParams,
        /// I/O ports of the host.
        ioports: Vec<IoportRange>,
        /// Interrupts of the host.
        irqs: Vec<u32>,
        /// Memory-mapped I/O of the host.
        iomem: Vec<IomemRange>,
        /// Colours of the last-level cache, since Xen 4.20.
        llc_colors: Vec<u32>,
        /// Whether memory is claimed before it is allocated.
        claim_mode: Defbool,
        /// Event channels; 0 leaves the number to libxl.
        event_channels: u32,
        /// Kernel.
        kernel: Option<String>,
        /// Its command line.
        cmdline: Option<String>,
        /// Initial RAM disk.
        ramdisk: Option<String>,
        /// Device tree to add (ARM).
        device_tree: Option<String>,
        /// ACPI tables.
        acpi: Defbool,
        /// Program that finds a kernel on the guest's disk.
        bootloader: Option<String>,
        /// Its arguments.
        bootloader_args: Vec<String>,
        /// Whether it is confined, since Xen 4.18.
        bootloader_restrict: Defbool,
        /// The user it runs as, since Xen 4.18.
        bootloader_user: Option<String>,
        /// Missed ticks.
        timer_mode: TimerMode,
        /// Hardware virtualisation inside the guest.
        nested_hvm: Defbool,
        /// A local APIC.
        apic: Defbool,
        /// Whether the device model is confined.
        dm_restrict: Defbool,
        /// Trusted execution environment (ARM).
        tee: TeeType,
        /// What only one kind of domain has.
        #[serde(flatten)]
        kind: Option<KindInfo>,
        /// ARM only.
        arch_arm: ArmInfo,
        /// x86 only.
        arch_x86: X86Info,
        /// Views of memory.
        altp2m: Altp2mMode,
        /// How many views, since Xen 4.21.
        altp2m_count: Unset32,
        /// Trace buffer for each vCPU in KiB; 0 is none.
        vmtrace_buf_kb: i32,
        /// A virtual performance monitoring unit.
        vpmu: Defbool,
        /// Faults for accesses to unmapped addresses (ARM), since Xen 4.21.
        trap_unmapped_accesses: Defbool,
        /// Xenstore features the guest may see, since Xen 4.21.
        xenstore_feature_mask: Unset32,
        /// Xenstore quota, since Xen 4.22.
        xenstore_quota: Vec<Quota>,
    }

    /// A virtual NUMA node.
    VnodeInfo {
        /// Its memory.
        memkb: MemKb,
        /// Distances to every node, itself included.
        distances: Vec<u32>,
        /// The host's node for it.
        pnode: u32,
        /// Its vCPUs.
        vcpus: Bitmap,
    }

    /// Parameters of all schedulers.
    SchedParams {
        /// Which scheduler.
        sched: Scheduler,
        /// Share of CPU time, relative to other domains'.
        weight: Tuning,
        /// Most CPU time in percent of one CPU; 0 is no limit.
        cap: Tuning,
        /// RTDS: period in microseconds.
        period: Tuning,
        /// RTDS: budget in microseconds.
        budget: Tuning,
        /// RTDS: runs beyond its budget, too.
        extratime: Tuning,
        /// Of a scheduler that is gone.
        slice: Tuning,
        /// Of a scheduler that is gone.
        latency: Tuning,
    }

    /// Consecutive I/O ports.
    IoportRange {
        /// The first.
        first: u32,
        /// How many.
        number: u32,
    }

    /// Consecutive frames of memory-mapped I/O.
    IomemRange {
        /// First machine frame.
        start: u64,
        /// How many.
        number: u64,
        /// First guest frame; the machine frame's number where not set.
        gfn: Gfn,
    }

    /// ARM only.
    ArmInfo {
        /// Interrupt controller.
        gic_version: GicVersion,
        /// UART.
        vuart: VuartType,
        /// Vectors, since Xen 4.18.
        sve_vl: SveType,
        /// Shared peripheral interrupts, since Xen 4.19.
        nr_spis: Unset32,
        /// System control interface, since Xen 4.21.
        arm_sci: Option<ArmSci>,
    }

    /// System control interface.
    ArmSci {
        /// Which.
        #[serde(rename = "type")]
        kind: ArmSciType,
    }

    /// x86 only.
    X86Info {
        /// Unknown MSRs read as 0.
        msr_relaxed: Defbool,
    }

    /// One limit of xenstore.
    Quota {
        /// Which.
        name: Option<String>,
        /// How much.
        val: u32,
    }
}

/// What only one kind of domain has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KindInfo {
    /// HVM.
    #[serde(rename = "type.hvm")]
    Hvm(Box<HvmInfo>),
    /// PV.
    #[serde(rename = "type.pv")]
    Pv(PvInfo),
    /// PVH.
    #[serde(rename = "type.pvh")]
    Pvh(PvhInfo),
}
