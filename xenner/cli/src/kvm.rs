//! The program's [`Launcher`]: `xenner-vmm`.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xen_sys::addr::{Mfn, Vaddr};
use xen_sys::arch_x86::{HYPERVISOR_VIRT_START, VcpuGuestContext};
use xenner_core::vcpu_op::{RUNSTATE_BLOCKED, RUNSTATE_OFFLINE};
use xenner_vmm::devices::{ConsoleIo, ConsoleThread, StoreInfo};
use xenner_vmm::kvm::CpuidPolicy;
use xenner_vmm::{Role, Snapshot, Vmm, VmmError};
use xt_builder::{BuildError, ErrorKind, KernelImage, PayloadCache};
use xt_config::cpuid::{CpuidLeaf, CpuidSpec};
use xt_xenstore::path::Path as StorePath;
use xt_xenstore::service::Handle as Store;
use zerocopy::{FromZeros, IntoBytes};

use crate::console::Console;
use crate::crash::{BacktraceFrame, CrashReport, CrashedVcpu, Registers};
use crate::devices::desk::Desk;
use crate::dumpcore::{DumpSource, Frame, PAGE_SIZE, VCPU_CONTEXT_SIZE, XenVersion};
use crate::machine::{
    Control, ControlError, DomainExit, ENTERED, ENTERED_CPU, Launcher, Machine, MachineError,
    Ports, RunState, ShutdownRequest, StartError, Stats, VcpuStats,
};
use crate::sandbox::Files;
use crate::spec::{DomainSpec, Kernel};
use crate::symbols::Symbols;
use crate::{image, sandbox};

/// Runs domains on this host's KVM.
pub struct KvmLauncher;

impl Launcher for KvmLauncher {
    fn build(&self, spec: &DomainSpec, ports: Ports) -> Result<Box<dyn Machine>, StartError> {
        let what = match &spec.kernel {
            Kernel::Embedded => "the embedded test guest".to_owned(),
            Kernel::File(path) => format!("{path:?}"),
        };
        let vmm_spec = resolve(spec, &what)?;
        let console = ports.console.clone();
        let emergency = Box::new(move |text: &[u8]| console.output(text));
        let vmm = Vmm::build(vmm_spec, emergency).map_err(|error| explain(&what, &error))?;
        let other = |error: VmmError| StartError::Other(chain(&error));
        let io = Arc::new(ConsolePort(ports.console));
        let console = vmm.attach_console(io).map_err(other)?;
        let store = vmm
            .attach_xenstore(&store_info(spec, &vmm), Some(ports.xenstore))
            .map_err(other)?;
        let text = vmm.image.layout.kernel;
        let base = text.mapped_at.map_or(0, |at| at.0);
        let store = Arc::new(store);
        let backends = vmm
            .attach_devices(&store, ports.shelf.clone())
            .map_err(other)?;
        let desk = Desk::open(ports.shelf, backends)
            .map_err(|error| StartError::Other(error.to_string()))?;
        let control = Arc::new(KvmControl {
            handle: vmm.handle(),
            desk: Arc::new(desk),
            store,
            console: console.stats.clone(),
            text: base..base + text.pages * PAGE_SIZE as u64,
            max_pages: spec.maxmem.pages(),
        });
        Ok(Box::new(KvmMachine {
            vmm,
            control,
            console: Some(console),
        }))
    }

    fn symbols(&self, spec: &DomainSpec) -> Symbols {
        kernel(spec, "").map_or_else(
            |_| Symbols::default(),
            |kernel| Symbols::of_kernel(kernel.elf()),
        )
    }

    fn files(&self) -> Files {
        Files {
            write: cache_dir().into_iter().collect(),
            ..Files::default()
        }
    }
}

/// Reads the files and says everything in the VMM's terms.
fn resolve(spec: &DomainSpec, what: &str) -> Result<xenner_vmm::DomainSpec, StartError> {
    image::check(spec)?;
    let kernel = kernel(spec, what)?;
    let initrd = match &spec.ramdisk {
        Some(path) => Some(read("initrd", path, image::MAX_RAMDISK)?),
        None => None,
    };
    Ok(xenner_vmm::DomainSpec {
        name: spec.name.clone(),
        kernel,
        initrd,
        cmd_line: spec.cmdline.clone(),
        nr_pages: spec.memory.pages(),
        max_pages: spec.maxmem.pages(),
        vcpus: spec.maxvcpus,
        uuid: *spec.uuid.as_bytes(),
        cpuid: cpuid(spec.cpuid.clone()),
        confine: |role| {
            sandbox::enter(match role {
                Role::Vcpu => sandbox::Role::Vcpu,
                Role::Console => sandbox::Role::Console,
                Role::Xenstore => sandbox::Role::Xenstore,
                Role::Devices => sandbox::Role::Devices,
                Role::Block => sandbox::Role::Block,
                Role::Net => sandbox::Role::Net,
            });
        },
    })
}

/// Applies the changes of the configuration to each leaf the guest may see.
fn cpuid(spec: CpuidSpec) -> CpuidPolicy {
    CpuidPolicy(Arc::new(move |leaf, subleaf, mut registers| {
        let matches = |change: &&CpuidLeaf| {
            change.leaf == leaf && change.subleaf.is_none_or(|wanted| wanted == subleaf)
        };
        for change in spec.leaves.iter().filter(matches) {
            let host = core::arch::x86_64::__cpuid_count(leaf, subleaf);
            let host = [host.eax, host.ebx, host.ecx, host.edx];
            let changes = [change.eax, change.ebx, change.ecx, change.edx];
            for ((register, change), host) in registers.iter_mut().zip(changes).zip(host) {
                *register = change.apply32(*register, host);
            }
        }
        registers
    }))
}

fn read(what: &str, path: &Path, limit: u64) -> Result<Vec<u8>, StartError> {
    image::read(path, limit).map_err(|error| image::unusable(what, path, &error))
}

/// The kernel, from the cache if it was decompressed before; `what` names it.
fn kernel(spec: &DomainSpec, what: &str) -> Result<KernelImage<'static>, StartError> {
    let explain = |error: BuildError| explain(what, &VmmError::Build(error));
    let path = match &spec.kernel {
        Kernel::Embedded => {
            return KernelImage::parse(xenner_vmm::TEST_GUEST, None).map_err(explain);
        }
        Kernel::File(path) => path,
    };
    let cache = cache_dir().map(PayloadCache::new);
    let file = image::open(path, image::MAX_KERNEL)
        .map_err(|error| image::unusable("kernel", path, &error))?;
    KernelImage::open(file, path, cache.as_ref()).map_err(explain)
}

/// Where decompressed kernels are kept: `$XDG_CACHE_HOME/xenner/kernels`, unless others could write
/// there, for whoever can decides what runs.
fn cache_dir() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let dir = base.join("xenner/kernels");
    image::private_dir(&dir).then_some(dir)
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{}: {error}", text.trim_end_matches('.'));
        cause = error.source();
    }
    text
}

fn explain(kernel: &str, error: &VmmError) -> StartError {
    let text = chain(error);
    match error {
        VmmError::Build(build) => match build.kind() {
            ErrorKind::TooBig => StartError::Config(text),
            ErrorKind::Memory => StartError::Resources(text),
            _ => StartError::Image(format!("Cannot boot {kernel}: {text}")),
        },
        VmmError::Kvm(_) => StartError::Host(text),
        VmmError::Memory(_) => StartError::Resources(text),
        VmmError::NoVcpus => StartError::Config(text),
        VmmError::Emulator(_) | VmmError::System { .. } => StartError::Other(text),
    }
}

fn store_info(spec: &DomainSpec, vmm: &Vmm) -> StoreInfo {
    StoreInfo {
        name: spec.name.clone(),
        uuid: spec.uuid.to_string(),
        pages: (spec.memory.pages(), spec.maxmem.pages()),
        vcpus: (spec.vcpus, spec.maxvcpus),
        frames: (vmm.image.xenstore_mfn, vmm.image.console_mfn),
        tty: None,
    }
}

struct ConsolePort(Arc<Console>);

impl ConsoleIo for ConsolePort {
    fn output(&self, bytes: &[u8]) {
        self.0.output(bytes);
    }

    fn input(&self, buffer: &mut [u8]) -> usize {
        self.0.input(buffer)
    }

    fn input_fd(&self) -> BorrowedFd<'_> {
        self.0.input_fd()
    }
}

struct KvmMachine {
    vmm: Vmm,
    control: Arc<KvmControl>,
    console: Option<ConsoleThread>,
}

impl Machine for KvmMachine {
    fn control(&self) -> Arc<dyn Control> {
        self.control.clone()
    }

    fn run(&mut self) -> Result<DomainExit, MachineError> {
        let exit = self
            .vmm
            .run()
            .map_err(|error| MachineError(chain(&error)))?;
        // What the guest printed last is passed on before the end is told.
        self.console = None;
        // So is what it wrote: whatever was answered is on its medium.
        self.control.desk.close();
        Ok(self.control.exit(exit))
    }
}

struct KvmControl {
    handle: xenner_vmm::Handle,
    // Before the store, which it speaks to until it ends.
    desk: Arc<Desk>,
    store: Arc<Store>,
    console: Arc<pv_console::back::ConsoleStats>,
    /// Where the kernel's image is mapped: what a return address looks like.
    text: std::ops::Range<u64>,
    max_pages: u64,
}

impl KvmControl {
    fn exit(&self, exit: xenner_vmm::DomainExit) -> DomainExit {
        use xenner_vmm::DomainExit as Vmm;
        match exit {
            Vmm::Poweroff => DomainExit::Poweroff,
            Vmm::Reboot => DomainExit::Reboot,
            Vmm::Suspend => DomainExit::Suspend,
            Vmm::Watchdog => DomainExit::Watchdog,
            Vmm::Destroyed => DomainExit::Destroyed,
            Vmm::SoftReset => self.crash("the guest asked for a soft reset, which xenner lacks", 0),
            Vmm::Crash(vcpu) => self.crash("the guest's kernel reported that it crashed", vcpu),
            Vmm::Killed(report) => self.crash(&report.reason, report.vcpu),
        }
    }

    /// The report, the virtual CPU that crashed first.
    fn crash(&self, reason: &str, first: usize) -> DomainExit {
        let snapshots = self.handle.snapshots();
        let order = snapshots
            .get(&first)
            .map(|snapshot| (first, snapshot))
            .into_iter()
            .chain(
                snapshots
                    .iter()
                    .filter(|(id, _)| **id != first)
                    .map(|(id, s)| (*id, s)),
            );
        DomainExit::Crash(Box::new(CrashReport {
            reason: reason.to_owned(),
            vcpus: order
                .filter(|(_, snapshot)| snapshot.regs.rip != 0)
                .map(|(id, snapshot)| CrashedVcpu {
                    vcpu: id as u32,
                    registers: registers(snapshot),
                    backtrace: self.backtrace(snapshot),
                })
                .collect(),
        }))
    }

    /// The instruction, then what on the stack looks like return addresses.
    fn backtrace(&self, snapshot: &Snapshot) -> Vec<BacktraceFrame> {
        const STACK: usize = 8192;
        const MOST: usize = 40;
        let frame = |address, certain| BacktraceFrame {
            address,
            symbol: None,
            certain,
        };
        let mut frames = vec![frame(snapshot.regs.rip, true)];
        let mut stack = [0; STACK];
        let at = Vaddr(snapshot.regs.rsp & !7);
        let have = self.handle.read_virtual(snapshot.cr3, at, &mut stack);
        let words = stack[..have].as_chunks::<8>().0.iter();
        let addresses = words
            .map(|bytes| u64::from_le_bytes(*bytes))
            .filter(|word| self.text.contains(word) && self.is_behind_call(snapshot.cr3, *word));
        frames.extend(addresses.map(|address| frame(address, false)).take(MOST));
        frames
    }

    /// Whether the instruction before `address` is a call: what makes it a return address.
    fn is_behind_call(&self, cr3: Mfn, address: u64) -> bool {
        let mut code = [0; LONGEST_CALL];
        let Some(at) = address.checked_sub(code.len() as u64) else {
            return false;
        };
        let have = self.handle.read_virtual(cr3, Vaddr(at), &mut code);
        have == code.len() && ends_with_call(&code)
    }

    fn write_store(&self, path: &str, value: String) -> Result<(), ControlError> {
        let path = format!("/local/domain/{}/{path}", xenner_vmm::domain::DOMID);
        let write = move |service: &mut xt_xenstore::service::Service| {
            let path = StorePath::absolute(&path).map_err(|error| error.to_string())?;
            service
                .server
                .update(|store| store.host().write(&path, value.as_bytes()))
                .map_err(|error| error.name().to_owned())
        };
        match self.store.call(write) {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(ControlError(format!("Xenstore refuses: {error}"))),
            None => Err(ControlError("Xenstore has ended".into())),
        }
    }
}

const LONGEST_CALL: usize = 7;

/// Whether `code` ends with `call`: `e8 rel32`, or `ff /2` of two to seven bytes.
fn ends_with_call(code: &[u8; LONGEST_CALL]) -> bool {
    let indirect = |length: usize| {
        let at = LONGEST_CALL - length;
        code[at] == 0xff && code[at + 1] >> 3 & 7 == 2
    };
    code[2] == 0xe8 || (2..=LONGEST_CALL).any(indirect)
}

fn registers(s: &Snapshot) -> Registers {
    let r = &s.regs;
    Registers {
        rip: r.rip,
        rflags: r.rflags,
        rax: r.rax,
        rbx: r.rbx,
        rcx: r.rcx,
        rdx: r.rdx,
        rsi: r.rsi,
        rdi: r.rdi,
        rbp: r.rbp,
        rsp: r.rsp,
        r8: r.r8,
        r9: r.r9,
        r10: r.r10,
        r11: r.r11,
        r12: r.r12,
        r13: r.r13,
        r14: r.r14,
        r15: r.r15,
        cr2: s.cr2,
        cr3: s.cr3.addr().0,
        cs: r.cs as u16,
        ss: r.ss as u16,
        fs_base: s.fs_base,
        gs_base: s.gs_base,
        ..Registers::default()
    }
}

impl Control for KvmControl {
    fn pause(&self) -> Result<(), ControlError> {
        self.handle.pause();
        Ok(())
    }

    fn unpause(&self) -> Result<(), ControlError> {
        self.handle.unpause();
        Ok(())
    }

    fn request_shutdown(&self, reason: ShutdownRequest) -> Result<(), ControlError> {
        let word = match reason {
            ShutdownRequest::Poweroff => "poweroff",
            ShutdownRequest::Reboot => "reboot",
        };
        self.write_store("control/shutdown", word.into())
    }

    fn destroy(&self) {
        self.handle.destroy();
    }

    fn sysrq(&self, key: char) -> Result<(), ControlError> {
        self.write_store("control/sysrq", key.into())
    }

    fn desk(&self) -> Option<Arc<Desk>> {
        Some(self.desk.clone())
    }

    fn stats(&self) -> Stats {
        let vcpus = self.handle.vcpu_stats();
        let state = match self.handle.exit() {
            Some(xenner_vmm::DomainExit::Crash(_) | xenner_vmm::DomainExit::Killed(_)) => {
                RunState::Crashed
            }
            Some(_) => RunState::Shutdown,
            None if self.handle.is_paused() => RunState::Paused,
            None if is_blocked(&vcpus) => RunState::Blocked,
            None => RunState::Running,
        };
        Stats {
            state,
            memory_pages: self.handle.pages(),
            max_pages: self.max_pages,
            vcpus: vcpus
                .iter()
                .map(|vcpu| VcpuStats {
                    online: vcpu.runstate != RUNSTATE_OFFLINE,
                    cpu_time_ns: vcpu.cpu_time_ns,
                    exits: vcpu.exits,
                })
                .collect(),
            counters: self.counters(),
            devices: self.desk.stats(),
        }
    }

    fn dump_source(&self) -> Result<Box<dyn DumpSource>, ControlError> {
        Ok(Box::new(Dump(self.handle.clone())))
    }
}

/// Whether a domain waits: one of its virtual CPUs does, and none has anything to do.
fn is_blocked(vcpus: &[xenner_vmm::VcpuStats]) -> bool {
    let idle = [RUNSTATE_BLOCKED, RUNSTATE_OFFLINE];
    vcpus.iter().all(|vcpu| idle.contains(&vcpu.runstate))
        && vcpus.iter().any(|vcpu| vcpu.runstate == RUNSTATE_BLOCKED)
}

impl KvmControl {
    fn counters(&self) -> BTreeMap<String, u64> {
        let mut counters = BTreeMap::new();
        for (nr, count) in self.handle.hypercalls().into_iter().enumerate() {
            if let Some(name) = xen_sys::hypercall::name(nr as u64).filter(|_| count > 0) {
                counters.insert(format!("hypercall.{name}"), count);
            }
        }
        if let Some(entered) = self.handle.entered() {
            for (name, time) in [(ENTERED, entered.at), (ENTERED_CPU, entered.cpu)] {
                let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                counters.insert(name.into(), time);
            }
        }
        let console = self.console.counts();
        counters.insert("console.out_bytes".into(), console.out_bytes);
        counters.insert("console.in_bytes".into(), console.in_bytes);
        counters
    }
}

/// A standing domain's state, for a core file.
struct Dump(xenner_vmm::Handle);

impl DumpSource for Dump {
    fn xen_version(&self) -> XenVersion {
        XenVersion {
            major: 4,
            minor: 17,
            extra: xenner_core::version::EXTRAVERSION.into(),
            capabilities: xenner_core::version::CAPABILITIES.into(),
            virt_start: HYPERVISOR_VIRT_START,
            ..XenVersion::default()
        }
    }

    fn vcpu_contexts(&self) -> io::Result<Vec<Box<[u8; VCPU_CONTEXT_SIZE]>>> {
        Ok(self.0.snapshots().values().map(context).collect())
    }

    fn shared_info(&self) -> io::Result<Box<[u8; PAGE_SIZE]>> {
        let mut page = Box::new([0; PAGE_SIZE]);
        self.read(Mfn(xenner_core::image::HEAP_BASE >> 12), &mut page)?;
        Ok(page)
    }

    fn frames(&self) -> Vec<Frame> {
        let frame = |(pfn, mfn): (xen_sys::addr::Pfn, Mfn)| Frame {
            pfn: pfn.0,
            gmfn: mfn.0,
        };
        self.0.memory().domain_frames().map(frame).collect()
    }

    fn read_page(&self, frame: Frame, page: &mut [u8; PAGE_SIZE]) -> io::Result<()> {
        self.read(Mfn(frame.gmfn), page)
    }
}

impl Dump {
    fn read(&self, mfn: Mfn, page: &mut [u8; PAGE_SIZE]) -> io::Result<()> {
        self.0
            .memory()
            .read(mfn.addr(), page)
            .map_err(io::Error::other)
    }
}

fn context(snapshot: &Snapshot) -> Box<[u8; VCPU_CONTEXT_SIZE]> {
    let mut context = VcpuGuestContext::new_zeroed();
    let (u, r) = (&mut context.user_regs, &snapshot.regs);
    (u.r15, u.r14, u.r13, u.r12) = (r.r15, r.r14, r.r13, r.r12);
    (u.rbp, u.rbx, u.r11, u.r10) = (r.rbp, r.rbx, r.r11, r.r10);
    (u.r9, u.r8, u.rax, u.rcx) = (r.r9, r.r8, r.rax, r.rcx);
    (u.rdx, u.rsi, u.rdi, u.rip) = (r.rdx, r.rsi, r.rdi, r.rip);
    (u.rflags, u.rsp) = (r.rflags, r.rsp);
    (u.cs, u.ss) = (r.cs as u16, r.ss as u16);
    context.ctrlreg[2] = snapshot.cr2;
    context.ctrlreg[3] = snapshot.cr3.addr().0;
    context.fs_base = snapshot.fs_base;
    context.gs_base_kernel = snapshot.gs_base;
    let mut bytes = Box::new([0; VCPU_CONTEXT_SIZE]);
    bytes.copy_from_slice(context.as_bytes());
    bytes
}

const _: () = assert!(size_of::<VcpuGuestContext>() == VCPU_CONTEXT_SIZE);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpuid_changes_reach_the_named_leaf_only() {
        let spec = CpuidSpec::parse_libxl("host,tm=0,sse3=1").unwrap();
        let policy = cpuid(spec);
        const TM: u32 = 1 << 29;
        assert_eq!(policy.0(1, 0, [5, 6, 0, TM | 1]), [5, 6, 1, 1]);
        assert_eq!(policy.0(2, 0, [5, 6, 0, TM]), [5, 6, 0, TM]);
    }

    #[test]
    fn a_domain_waits_when_no_virtual_cpu_has_work() {
        let waits = |states: &[u32]| {
            let vcpu = |&runstate| xenner_vmm::VcpuStats {
                runstate,
                ..Default::default()
            };
            is_blocked(&states.iter().map(vcpu).collect::<Vec<_>>())
        };
        assert!(waits(&[2]) && waits(&[2, 2]) && waits(&[3, 2]));
        assert!(!waits(&[0, 2]) && !waits(&[2, 1]), "one runs");
        assert!(!waits(&[3, 3]) && !waits(&[]), "not yet begun");
        assert!(!waits(&[2, 77]), "the guest lies");
    }

    #[test]
    fn calls_are_told_from_other_code() {
        assert!(ends_with_call(&[0, 0, 0xe8, 1, 2, 3, 4]));
        assert!(ends_with_call(&[0, 0, 0, 0, 0, 0xff, 0xd0]));
        assert!(ends_with_call(&[0xff, 0x14, 0x25, 0, 0, 0, 0]));
        assert!(!ends_with_call(&[0x90; 7]));
        assert!(!ends_with_call(&[0, 0, 0, 0, 0, 0xff, 0xe0]), "a jump");
    }
}
