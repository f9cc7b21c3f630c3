//! The virtual machine: KVM's objects, set up for ring 0 to start in.

use std::sync::Arc;

use kvm_bindings::*;
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use vmm_sys_util::ioctl::ioctl_with_ref;
use xen_sys::addr::Vaddr;
use xen_sys::arch_x86::{
    XEN_CPUID_FIRST_LEAF, XEN_CPUID_MAX_NUM_LEAVES, XEN_CPUID_SIGNATURE_EBX,
    XEN_CPUID_SIGNATURE_ECX, XEN_CPUID_SIGNATURE_EDX,
};

use crate::memory::Memory;
use crate::tables::Hole;

/// KVM refused something.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// /dev/kvm cannot be opened.
    #[error("Cannot open /dev/kvm ({}). {}", .0, open_hint(.0))]
    Open(kvm_ioctls::Error),
    /// An operation failed.
    #[error("KVM refuses to {what}: {source}.")]
    Ioctl {
        /// What was asked.
        what: &'static str,
        /// Its answer.
        source: kvm_ioctls::Error,
    },
    /// The host's KVM is too old.
    #[error("This KVM lacks {0}, which xenner needs; a newer host kernel has it.")]
    Missing(&'static str),
}

fn open_hint(error: &kvm_ioctls::Error) -> &'static str {
    match error.errno() {
        libc::ENOENT => {
            "Load the module (modprobe kvm_intel or kvm_amd) or enable virtualisation in the firmware; `xenner check` tells more."
        }
        libc::EACCES | libc::EPERM => {
            "Join the group that owns it (sudo usermod -aG kvm $USER, then log in again)."
        }
        _ => "`xenner check` tells more.",
    }
}

/// Names an ioctl in the error it may give.
pub(crate) trait Doing<T> {
    fn doing(self, what: &'static str) -> Result<T, KvmError>;
}

impl<T> Doing<T> for Result<T, kvm_ioctls::Error> {
    fn doing(self, what: &'static str) -> Result<T, KvmError> {
        self.map_err(|source| KvmError::Ioctl { what, source })
    }
}

/// How the host's KVM runs a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Intel VT-x.
    Vmx,
    /// AMD-V.
    Svm,
    /// No hardware virtualisation: ring 3 native, ring 0 emulated.
    PageTable,
}

impl Kind {
    /// What this host has, by the processor's flags.
    pub fn detect() -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let flags = cpuinfo
            .lines()
            .find(|line| line.starts_with("flags"))
            .unwrap_or_default();
        let has = |flag| flags.split_whitespace().any(|word| word == flag);
        if has("vmx") {
            Self::Vmx
        } else if has("svm") {
            Self::Svm
        } else {
            Self::PageTable
        }
    }

    /// The code and stack selectors guest kernels run with. A pagetable-based
    /// KVM runs ring 3 with the host's own, whatever is asked.
    pub fn kernel_selectors(self) -> (u16, u16) {
        match self {
            Self::PageTable => (0x33, 0x2b),
            Self::Vmx | Self::Svm => (0xe033, 0xe02b),
        }
    }
}

/// A virtual machine with its memory in place and no virtual CPU yet.
pub struct Machine {
    /// KVM itself.
    pub kvm: Kvm,
    /// The machine.
    pub vm: Arc<VmFd>,
    /// What the processor shows.
    pub cpuid: CpuidTable,
    xcr0: u64,
}

impl Machine {
    /// Creates the machine around its memory.
    ///
    /// # Errors
    /// [`KvmError`].
    pub fn new(memory: &Memory, policy: CpuidPolicy) -> Result<Self, KvmError> {
        let kvm = Kvm::new().map_err(KvmError::Open)?;
        for (cap, name) in [
            (Cap::SplitIrqchip, "the split interrupt controller"),
            (Cap::Ioeventfd, "ioeventfd"),
            (Cap::SignalMsi, "message-signalled interrupts"),
            (Cap::TscDeadlineTimer, "the TSC deadline timer"),
        ] {
            if !kvm.check_extension(cap) {
                return Err(KvmError::Missing(name));
            }
        }
        let vm = kvm.create_vm().doing("create a virtual machine")?;
        let mut split = kvm_enable_cap {
            cap: KVM_CAP_SPLIT_IRQCHIP,
            ..Default::default()
        };
        split.args[0] = 24;
        vm.enable_cap(&split)
            .doing("create the interrupt controllers")?;
        let mut x2apic = kvm_enable_cap {
            cap: KVM_CAP_X2APIC_API,
            ..Default::default()
        };
        x2apic.args[0] = u64::from(KVM_X2APIC_API_USE_32BIT_IDS);
        vm.enable_cap(&x2apic).doing("use x2APIC numbers")?;
        for (slot, (start, length, host)) in memory.regions().enumerate() {
            let region = kvm_userspace_memory_region {
                slot: slot as u32,
                guest_phys_addr: start,
                memory_size: length,
                userspace_addr: host,
                flags: 0,
            };
            // SAFETY: the range is a mapping that lives as long as the
            // machine, and the host reaches it by volatile copies only.
            unsafe { vm.set_user_memory_region(region) }.doing("take the domain's memory")?;
        }
        let mut machine = Self {
            kvm,
            vm: Arc::new(vm),
            cpuid: CpuidTable {
                entries: Vec::new(),
                policy,
                native: Kind::detect() == Kind::PageTable,
            },
            xcr0: 1,
        };
        machine.choose_cpuid()?;
        Ok(machine)
    }

    fn choose_cpuid(&mut self) -> Result<(), KvmError> {
        let supported = self
            .kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .doing("tell the processor's features")?;
        let hypervisor = XEN_CPUID_FIRST_LEAF..XEN_CPUID_FIRST_LEAF + 0x1000;
        self.cpuid.entries = supported
            .as_slice()
            .iter()
            .filter(|entry| !hypervisor.contains(&entry.function))
            .copied()
            .collect();
        for entry in &mut self.cpuid.entries {
            match (entry.function, entry.index) {
                // x2APIC and the deadline timer are the emulator's; its filter
                // hides them from the guest.
                (1, _) => entry.ecx |= 1 << 21 | 1 << 24 | 1 << 31,
                (13, 0) => self.xcr0 = u64::from(entry.edx) << 32 | u64::from(entry.eax),
                _ => {}
            }
        }
        // Processes that ask for the hypervisor find Xen.
        self.cpuid.entries.push(kvm_cpuid_entry2 {
            function: XEN_CPUID_FIRST_LEAF,
            eax: XEN_CPUID_FIRST_LEAF + XEN_CPUID_MAX_NUM_LEAVES,
            ebx: XEN_CPUID_SIGNATURE_EBX,
            ecx: XEN_CPUID_SIGNATURE_ECX,
            edx: XEN_CPUID_SIGNATURE_EDX,
            ..Default::default()
        });
        self.cpuid.entries.push(kvm_cpuid_entry2 {
            function: XEN_CPUID_FIRST_LEAF + 1,
            eax: xenner_core::version::XEN_VERSION,
            ..Default::default()
        });
        for e in &mut self.cpuid.entries {
            let leaf = [e.eax, e.ebx, e.ecx, e.edx];
            [e.eax, e.ebx, e.ecx, e.edx] = (self.cpuid.policy.0)(e.function, e.index, leaf);
        }
        Ok(())
    }

    /// Whether the processor has a feature: register 1 ebx, 2 ecx, 3 edx.
    fn has(&self, leaf: u32, register: usize, bit: u32) -> bool {
        self.cpuid.entries.iter().any(|e| {
            e.function == leaf
                && e.index == 0
                && [e.eax, e.ebx, e.ecx, e.edx][register] >> bit & 1 != 0
        })
    }

    /// Creates a virtual CPU that starts in the emulator.
    ///
    /// # Errors
    /// [`KvmError`].
    pub fn new_vcpu(&self, id: usize, hole: &Hole, start: Start) -> Result<VcpuFd, KvmError> {
        let vcpu = self
            .vm
            .create_vcpu(id as u64)
            .doing("create a virtual CPU")?;
        let entries = self.cpuid.of(id);
        let cpuid =
            CpuId::from_entries(&entries).map_err(|_| KvmError::Missing("room for CPUID"))?;
        vcpu.set_cpuid2(&cpuid).doing("take the CPUID table")?;
        self.set_system_registers(&vcpu, id, hole, start)?;
        let regs = kvm_regs {
            rip: match start {
                Start::Emulator(entry) => entry.0,
                Start::Outside => 0,
            },
            rdi: id as u64,
            rflags: 2,
            ..Default::default()
        };
        vcpu.set_regs(&regs)
            .doing("set a virtual CPU's registers")?;
        if self.has(1, 2, 26) {
            let mut xcrs = kvm_xcrs {
                nr_xcrs: 1,
                ..Default::default()
            };
            xcrs.xcrs[0].value = self.xcr0;
            vcpu.set_xcrs(&xcrs).doing("set XCR0")?;
        }
        share_tsc(&vcpu);
        // Not waiting for INIT and SIPI, as all but the first would.
        let runnable = kvm_mp_state {
            mp_state: KVM_MP_STATE_RUNNABLE,
        };
        vcpu.set_mp_state(runnable)
            .doing("make a virtual CPU runnable")?;
        Ok(vcpu)
    }

    fn set_system_registers(
        &self,
        vcpu: &VcpuFd,
        id: usize,
        hole: &Hole,
        start: Start,
    ) -> Result<(), KvmError> {
        let mut sregs = vcpu.get_sregs().doing("tell a virtual CPU's registers")?;
        let code = kvm_segment {
            limit: 0xffff_ffff,
            selector: 8,
            type_: 11,
            present: 1,
            l: 1,
            s: 1,
            g: 1,
            ..Default::default()
        };
        let data = kvm_segment {
            selector: 16,
            type_: 3,
            l: 0,
            db: 1,
            ..code
        };
        sregs.cs = code;
        (sregs.ds, sregs.es, sregs.ss) = (data, data, data);
        (sregs.fs, sregs.gs) = (data, data);
        sregs.tr = kvm_segment {
            limit: 103,
            selector: 24,
            type_: 11,
            present: 1,
            ..Default::default()
        };
        sregs.cr0 = CR0;
        sregs.cr3 = hole.boot_l4.addr().0;
        sregs.cr4 = CR4;
        if self.has(1, 2, 26) {
            sregs.cr4 |= 1 << 18;
        }
        if self.has(7, 1, 0) {
            sregs.cr4 |= 1 << 16;
        }
        sregs.efer = EFER;
        // Enabled, in x2APIC mode.
        sregs.apic_base |= 0xc00;
        if matches!(start, Start::Outside) {
            // SYSCALL of 64-bit code does not ask for SCE there. That of 32-bit
            // code, with SCE, enters ring 0 on ring 3's stack: without, it is
            // an invalid opcode, and answered as what it is.
            sregs.efer &= !EFER_SCE;
            outside_tables(&mut sregs, id);
        }
        vcpu.set_sregs(&sregs)
            .doing("set a virtual CPU's registers")?;
        if matches!(start, Start::Outside) {
            set_outside_msrs(vcpu, id)?;
        }
        Ok(())
    }
}

/// Descriptor tables of the stubs of [`crate::outside`].
fn outside_tables(sregs: &mut kvm_sregs, id: usize) {
    use crate::outside::ring0::*;
    sregs.cs.selector = RING0_CS;
    sregs.ss.selector = RING0_SS;
    (sregs.ds, sregs.es, sregs.fs, sregs.gs) = {
        let user = kvm_segment {
            selector: USER_SS,
            dpl: 3,
            ..sregs.ss
        };
        (user, user, user, user)
    };
    (sregs.idt.base, sregs.idt.limit) = (IDT_BASE, 0xfff);
    (sregs.gdt.base, sregs.gdt.limit) = (GDT_BASE, 0xfff);
    (sregs.tr.base, sregs.tr.selector) = (Ring0::tss(id), TSS);
    sregs.tr.limit = TSS_LIMIT;
}

fn set_outside_msrs(vcpu: &VcpuFd, id: usize) -> Result<(), KvmError> {
    use crate::outside::ring0::{RING0_CS, USER_CS};
    use crate::outside::ring3::syscall_target;
    let star = u64::from(USER_CS - 0x10) << 48 | u64::from(RING0_CS) << 32;
    let entries = [
        (0xc000_0081, star),
        (0xc000_0082, syscall_target(id)),
        (0xc000_0084, 0x4_7700),
    ]
    .map(|(index, data)| kvm_msr_entry {
        index,
        data,
        ..Default::default()
    });
    let msrs = Msrs::from_entries(&entries).map_err(|_| KvmError::Missing("room for registers"))?;
    vcpu.set_msrs(&msrs)
        .doing("set a virtual CPU's system call entry")?;
    Ok(())
}

/// Where a virtual CPU starts.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    /// At the emulator's entry.
    Emulator(Vaddr),
    /// Where its thread points it before the first run.
    Outside,
}

/// Changes a leaf to what the user wants of it: leaf, subleaf, and eax, ebx, ecx, edx.
#[derive(Clone)]
pub struct CpuidPolicy(pub Arc<dyn Fn(u32, u32, [u32; 4]) -> [u32; 4] + Send + Sync>);

impl std::fmt::Debug for CpuidPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CpuidPolicy")
    }
}

/// The CPUID leaves the domain may see.
#[derive(Clone, Debug)]
pub struct CpuidTable {
    entries: Vec<kvm_cpuid_entry2>,
    policy: CpuidPolicy,
    /// Ring 3 executes the host's own CPUID: the kernel is told of the same
    /// processor, or it would not keep registers its processes use.
    native: bool,
}

impl CpuidTable {
    /// As one virtual CPU sees them.
    fn of(&self, id: usize) -> Vec<kvm_cpuid_entry2> {
        let mut entries = self.entries.clone();
        for entry in &mut entries {
            match entry.function {
                1 => entry.ebx = entry.ebx & 0x00ff_ffff | (id as u32) << 24,
                0xb | 0x1f => entry.edx = id as u32,
                _ => {}
            }
        }
        entries
    }

    /// One leaf: eax, ebx, ecx, edx; zero where there is none.
    pub fn find(&self, id: usize, leaf: u32, subleaf: u32) -> [u32; 4] {
        const INDEXED: u32 = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        if self.native {
            return (self.policy.0)(leaf, subleaf, native_cpuid(leaf, subleaf));
        }
        let found = self.entries.iter().find(|entry| {
            entry.function == leaf && (entry.flags & INDEXED == 0 || entry.index == subleaf)
        });
        found.map_or([0; 4], |e| {
            let ebx = if leaf == 1 {
                e.ebx & 0x00ff_ffff | (id as u32) << 24
            } else {
                e.ebx
            };
            [e.eax, ebx, e.ecx, e.edx]
        })
    }
}

/// What the host's processor shows, less what a pagetable-based KVM does not
/// switch between its guests and the host: the bases' own instructions and the
/// processor number in TSC_AUX.
fn native_cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    const FSGSBASE: u32 = 1 << 0;
    const RDPID: u32 = 1 << 22;
    const RDTSCP: u32 = 1 << 27;
    const TSC_ADJUST: u32 = 1 << 1;
    // x87, SSE, AVX and AVX-512, as far as the host has switched them on.
    const STATES: u32 = 0xe7;
    let found = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    let [mut a, mut b, mut c, mut d] = [found.eax, found.ebx, found.ecx, found.edx];
    match (leaf, subleaf) {
        (7, 0) => {
            b &= !(FSGSBASE | TSC_ADJUST);
            c &= !RDPID;
        }
        (13, 0) => (a, d) = (a & STATES, 0),
        (0x8000_0001, _) => d &= !RDTSCP,
        _ => {}
    }
    [a, b, c, d]
}

/// Interrupts a virtual CPU.
pub fn interrupt(vm: &VmFd, vcpu: usize, vector: u8) {
    let message = kvm_msi {
        address_lo: 0xfee0_0000 | (vcpu as u32) << 12,
        data: vector.into(),
        ..Default::default()
    };
    // It fails only for a virtual CPU that is not there.
    let _ = vm.signal_msi(message);
}

/// The host's time stamp counter, which is the guest's too.
pub fn host_tsc() -> u64 {
    // SAFETY: every x86-64 processor has it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// PE, MP, ET, NE, WP, AM, PG.
const CR0: u64 = 0x8005_0033;
/// DE, PAE, PGE, OSFXSR, OSXMMEXCPT.
const CR4: u64 = 0x6a8;
/// SCE, LME, LMA, NXE.
const EFER: u64 = 0xd01;
const EFER_SCE: u64 = 1;

/// Makes the guest's time stamp counter the host's: on a pagetable-based KVM
/// ring 3 reads that one whatever the offset, and elsewhere it does no harm.
fn share_tsc(vcpu: &VcpuFd) {
    let offset = 0u64;
    let attr = kvm_device_attr {
        group: KVM_VCPU_TSC_CTRL,
        attr: u64::from(KVM_VCPU_TSC_OFFSET),
        addr: &raw const offset as u64,
        flags: 0,
    };
    // Older kernels cannot; then all reads carry the same offset.
    // SAFETY: the attribute names a live word, which is all KVM reads.
    let _ = unsafe { ioctl_with_ref(vcpu, calls::KVM_SET_DEVICE_ATTR(), &attr) };
}

/// Numbers of calls kvm-ioctls has for other architectures' virtual CPUs only.
mod calls {
    #![allow(missing_docs, reason = "named in KVM's documentation")]
    use kvm_bindings::{KVMIO, kvm_device_attr};
    vmm_sys_util::ioctl_iow_nr!(KVM_SET_DEVICE_ATTR, KVMIO, 0xe1, kvm_device_attr);
}
