//! A domain from its specification to its end.

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use xen_sys::addr::{DomId, Mfn, PAGE_SIZE, Vaddr};
use xen_sys::arch_x86::{VGCF_in_kernel, VGCF_online, VcpuGuestContext};
use xenner_core::Config;
use xenner_core::image::*;
use xenner_core::vcpu_op::RUNSTATE_OFFLINE;
use xt_builder::{BuildError, KernelImage, PvImage, PvKernel, PvSpec};
use zerocopy::{FromZeros, IntoBytes};

use crate::backends::Backends;
use crate::devices::{self, ConsoleIo, ConsoleThread, GuestPage, StoreInfo};
use crate::emulator::{Emulator, EmulatorError};
use crate::evtchn::{Interrupts, Ports, Table};
use crate::grants::Grants;
use crate::host::KvmHost;
use crate::kvm::{CpuidPolicy, Doing, Kind, KvmError, Machine, Start};
use crate::memory::{self, MemError, Memory};
use crate::outside::{self, Outside};
use crate::shared::{ConsoleSink, DomainExit, Entered, Shared, Snapshot, Threads};
use crate::shelf::Shelf;
use crate::tables::Hole;
use crate::vcpu;

/// What the user asked for.
#[derive(Debug)]
pub struct DomainSpec {
    /// The domain's name.
    pub name: String,
    /// The kernel.
    pub kernel: KernelImage<'static>,
    /// The initial RAM disk's bytes.
    pub initrd: Option<Vec<u8>>,
    /// The kernel's command line.
    pub cmd_line: String,
    /// Pages at start.
    pub nr_pages: u64,
    /// Pages it may grow to.
    pub max_pages: u64,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// UUID.
    pub uuid: [u8; 16],
    /// Called by each thread before it deals with the guest.
    pub confine: fn(Role),
    /// What the guest sees of the processor.
    pub cpuid: CpuidPolicy,
}

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs a virtual CPU.
    Vcpu,
    /// Serves the console.
    Console,
    /// Serves xenstore.
    Xenstore,
    /// Takes devices through their handshakes, and starts the threads that serve them.
    Devices,
    /// Serves a queue of a disk.
    Block,
    /// Serves a queue of a network card.
    Net,
}

/// A small PV kernel of this project's that looks at each part of the ABI and
/// reports on its console.
pub static TEST_GUEST: &[u8] = include_bytes!(env!("XENNER_TEST_GUEST"));

/// A domain could not be made.
#[derive(Debug, thiserror::Error)]
pub enum VmmError {
    /// Its memory.
    #[error(transparent)]
    Memory(#[from] MemError),
    /// The emulator.
    #[error(transparent)]
    Emulator(#[from] EmulatorError),
    /// KVM.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// The kernel or the initrd.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A domain needs at least one virtual CPU.
    #[error("A domain needs at least one virtual CPU.")]
    NoVcpus,
    /// The operating system.
    #[error("Cannot {what}.")]
    System {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        source: std::io::Error,
    },
}

/// The guest's own number, as it sees it.
pub const DOMID: u16 = 1;
/// Event channel port of xenstore.
pub const STORE_PORT: u32 = 1;
/// Event channel port of the console.
pub const CONSOLE_PORT: u32 = 2;
const GRANT_FRAMES: u32 = 64;

/// A domain ready to run.
pub struct Vmm {
    shared: Arc<Shared>,
    /// Who answers the guest.
    abi: Table,
    ports: Arc<Ports>,
    host: KvmHost,
    /// What the builder made.
    pub image: PvImage,
    vcpus: Vec<kvm_ioctls::VcpuFd>,
    threads: Arc<Threads>,
    confine: fn(Role),
    /// Its files are let go when the guest runs, which need not wait for that.
    built_from: Option<DomainSpec>,
}

impl Vmm {
    /// Builds a domain.
    ///
    /// # Errors
    /// [`VmmError`]; nothing is left behind.
    pub fn build(spec: DomainSpec, console: ConsoleSink) -> Result<Self, VmmError> {
        let elf = spec.kernel.parse_elf()?;
        let kernel = PvKernel::new(&elf)?;
        // First shared_info, then the record of page tables, then the rest.
        let ram_pages = memory::ram_pages(spec.max_pages);
        let table_pages = xenner_core::mmu::record_pages(ram_pages);
        let heap_pages = 1 + table_pages + xenner_core::memory::heap_pages(ram_pages, GRANT_FRAMES);
        let kind = Kind::detect();
        let huge = kind != Kind::PageTable;
        let mut memory = Memory::new(spec.nr_pages, spec.max_pages, heap_pages, huge)?;
        memory.fill_m2p()?;
        let shared_info = Mfn(HEAP_BASE >> 12);
        let image = build_kernel(&kernel, &spec, &mut memory, shared_info)?;
        let machine = Machine::new(&memory, spec.cpuid.clone())?;

        let inside = match kind {
            Kind::PageTable => None,
            Kind::Vmx | Kind::Svm => Some(Emulator::load(&memory)?),
        };
        let (start, hole, ring0) = match inside {
            Some((emulator, hole)) => (Start::Emulator(emulator.entry), hole, None),
            None => {
                let (ring0, hole) = Outside::load(&memory)?;
                (Start::Outside, hole, Some(ring0))
            }
        };
        let mut vcpus = Vec::new();
        for id in 0..spec.vcpus as usize {
            vcpus.push(machine.new_vcpu(id, &hole, start)?);
        }
        let first = vcpus.first().ok_or(VmmError::NoVcpus)?;
        let tsc_khz = first
            .get_tsc_khz()
            .doing("tell the time stamp counter's frequency")?;
        let config = config(&spec, &memory, shared_info, tsc_khz, kind, &image);
        mark_tables(&memory, &config, &image)?;
        let context = first_context(&image);
        let grants = Grants::new(memory.clone(), config);
        let shared = Shared::new(memory.clone(), hole, console);
        let abi = match (inside, ring0) {
            (Some((emulator, hole)), _) => {
                write_boot(&memory, &emulator, &hole, &config, &context)?;
                Table::Inside(emulator)
            }
            (None, Some(ring0)) => Table::Outside(Outside::new(
                config,
                context,
                ring0,
                machine.vm.clone(),
                machine.cpuid.clone(),
                shared.clone(),
            )),
            (None, None) => return Err(VmmError::NoVcpus),
        };
        let interrupts = Interrupts::new(&machine.vm, spec.vcpus)?;
        let ports = Ports::new(
            machine.vm.clone(),
            memory,
            abi.clone(),
            interrupts,
            spec.confine,
        );
        Ok(Self {
            shared,
            abi,
            host: KvmHost::new(grants, ports.clone()),
            ports,
            image,
            vcpus,
            threads: Arc::default(),
            confine: spec.confine,
            built_from: Some(spec),
        })
    }

    /// The host of back ends for the domain's devices.
    pub fn host(&self) -> KvmHost {
        self.host.clone()
    }

    /// Starts the console's back end.
    ///
    /// # Errors
    /// [`VmmError`].
    pub fn attach_console(&self, io: Arc<dyn ConsoleIo>) -> Result<ConsoleThread, VmmError> {
        let page = GuestPage::new(&self.shared.memory, self.image.console_mfn);
        let spawn = |channel| ConsoleThread::spawn(page, channel, io, self.confine);
        let console = self.ports.bind_early(CONSOLE_PORT).and_then(spawn);
        console.map_err(|source| VmmError::System {
            what: "start the console",
            source,
        })
    }

    /// Starts xenstore.
    ///
    /// # Errors
    /// [`VmmError`].
    pub fn attach_xenstore(
        &self,
        info: &StoreInfo,
        socket: Option<UnixListener>,
    ) -> Result<xt_xenstore::service::Handle, VmmError> {
        let page = GuestPage::new(&self.shared.memory, self.image.xenstore_mfn);
        let spawn = |channel| devices::spawn_xenstore(DomId(DOMID), info, page, channel, socket);
        let store = self.ports.bind_early(STORE_PORT).and_then(spawn);
        let store = store.map_err(|source| VmmError::System {
            what: "start xenstore",
            source,
        })?;
        let confine = self.confine;
        // One that has ended already needs no confinement.
        let _ = store.call(move |_| confine(Role::Xenstore));
        Ok(store)
    }

    /// Starts the back ends of the devices on `shelf`, and of those that are put there later.
    ///
    /// # Errors
    /// [`VmmError`].
    pub fn attach_devices(
        &self,
        store: &xt_xenstore::service::Handle,
        shelf: Shelf,
    ) -> Result<Backends, VmmError> {
        Backends::start(self.host(), store, shelf, self.vcpus.len(), self.confine).map_err(
            |source| VmmError::System {
                what: "start the back ends of devices",
                source,
            },
        )
    }

    /// The controls, for other threads.
    pub fn handle(&self) -> Handle {
        Handle {
            shared: self.shared.clone(),
            threads: self.threads.clone(),
            abi: self.abi.clone(),
        }
    }

    /// Runs the domain to its end. Its memory and its virtual CPUs' registers
    /// stay readable through [`Handle`].
    ///
    /// # Errors
    /// [`VmmError::System`] when threads cannot be had.
    pub fn run(&mut self) -> Result<DomainExit, VmmError> {
        let system = |what| move |source| VmmError::System { what, source };
        vcpu::install_kick()
            .map_err(|error| error.into())
            .map_err(system("handle a signal"))?;
        for (id, fd) in std::mem::take(&mut self.vcpus).into_iter().enumerate() {
            let (shared, abi) = (self.shared.clone(), self.abi.clone());
            let confine = self.confine;
            let work = move || {
                confine(Role::Vcpu);
                match abi {
                    Table::Inside(emulator) => vcpu::run(fd, id, &shared, &emulator),
                    Table::Outside(outside) => outside::run(fd, id, &outside),
                }
            };
            self.shared.thread_started();
            let spawned = std::thread::Builder::new()
                .name(format!("vcpu{id}"))
                .spawn(work);
            match spawned {
                Ok(thread) => self.threads.push(thread),
                Err(source) => {
                    self.shared.thread_ended(id, Snapshot::default());
                    self.shared.end(DomainExit::Destroyed);
                    self.shared.drain(&self.threads);
                    return Err(system("start a virtual CPU's thread")(source));
                }
            }
        }
        self.built_from = None;
        let exit = self.shared.wait();
        self.shared.drain(&self.threads);
        Ok(exit)
    }
}

/// What can be done to a domain from other threads; nothing here waits for
/// the guest.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    threads: Arc<Threads>,
    abi: Table,
}

/// One virtual CPU's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuStats {
    /// Processor time its thread has used, ns.
    pub cpu_time_ns: u64,
    /// Exits to this process.
    pub exits: u64,
    /// What it does, `RUNSTATE_*`, as far as the guest can be believed.
    pub runstate: u32,
}

impl Handle {
    /// Stops all virtual CPUs; returns when they stand.
    pub fn pause(&self) {
        self.shared.pause(&self.threads);
    }

    /// Lets them run again.
    pub fn unpause(&self) {
        self.shared.unpause();
    }

    /// Whether the domain is paused.
    pub fn is_paused(&self) -> bool {
        self.shared.is_paused()
    }

    /// Ends the domain.
    pub fn destroy(&self) {
        self.shared.end(DomainExit::Destroyed);
        self.threads.kick();
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<DomainExit> {
        self.shared.exit()
    }

    /// When the guest was first entered.
    pub fn entered(&self) -> Option<Entered> {
        self.shared.entered()
    }

    /// Its memory.
    pub fn memory(&self) -> &Memory {
        &self.shared.memory
    }

    /// The registers of virtual CPUs that stand, by number.
    pub fn snapshots(&self) -> BTreeMap<usize, Snapshot> {
        self.shared.snapshots()
    }

    /// The virtual CPUs' counters.
    pub fn vcpu_stats(&self) -> Vec<VcpuStats> {
        let times = self.threads.cpu_times();
        let stats = |(id, cpu_time_ns)| VcpuStats {
            cpu_time_ns,
            exits: self.shared.exits.of(id),
            runstate: self.runstate(id),
        };
        times.into_iter().enumerate().map(stats).collect()
    }

    fn runstate(&self, vcpu: usize) -> u32 {
        match &self.abi {
            Table::Inside(emulator) => {
                let at = emulator.runstate(vcpu);
                self.shared.memory.load(at).unwrap_or(RUNSTATE_OFFLINE)
            }
            Table::Outside(outside) => {
                let vcpu = outside.domain.vcpus.get(vcpu);
                vcpu.map_or(RUNSTATE_OFFLINE, |vcpu| {
                    vcpu.runstate.load(std::sync::atomic::Ordering::Relaxed)
                })
            }
        }
    }

    /// How often each hypercall was made, by number.
    pub fn hypercalls(&self) -> [u64; 64] {
        std::array::from_fn(|nr| match &self.abi {
            Table::Inside(emulator) => {
                let at = emulator.hypercalls.offset(nr as u64 * 8);
                self.shared.memory.load(at).unwrap_or(0)
            }
            Table::Outside(outside) => {
                outside.domain.hypercalls[nr].load(std::sync::atomic::Ordering::Relaxed)
            }
        })
    }

    /// Copies guest-virtual memory out, in the address space of `cr3`; returns
    /// how many bytes could be read.
    pub fn read_virtual(&self, cr3: Mfn, at: Vaddr, to: &mut [u8]) -> usize {
        let memory = &self.shared.memory;
        let mut done = 0;
        while done < to.len() {
            let here = at.offset(done as u64);
            let piece = (to.len() - done).min(PAGE_SIZE - here.page_offset());
            let Some(found) = memory.translate(cr3, here) else {
                break;
            };
            if memory.read(found, &mut to[done..done + piece]).is_err() {
                break;
            }
            done += piece;
        }
        done
    }

    /// Pages the domain has now.
    pub fn pages(&self) -> u64 {
        match &self.abi {
            Table::Inside(emulator) => {
                let memory = &self.shared.memory;
                let balance: u64 = memory.load(emulator.balance).unwrap_or(0);
                memory.nr_pages().saturating_add_signed(balance as i64)
            }
            Table::Outside(outside) => xenner_core::memory::tot_pages(&outside.domain),
        }
    }
}

fn config(
    spec: &DomainSpec,
    memory: &Memory,
    shared_info: Mfn,
    tsc_khz: u32,
    kind: Kind,
    image: &PvImage,
) -> Config {
    let table_pages = xenner_core::mmu::record_pages(memory.ram_pages());
    let (tsc_to_system_mul, tsc_shift) = tsc_scale(tsc_khz);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let (kernel_cs, kernel_ss) = kind.kernel_selectors();
    Config {
        domid: DOMID,
        nr_vcpus: spec.vcpus,
        ram_base: Mfn(RAM_BASE >> 12),
        ram_pages: memory.ram_pages(),
        max_pages: memory.max_pages(),
        nr_pages: memory.nr_pages(),
        shared_info,
        console: image.console_mfn,
        store: image.xenstore_mfn,
        tables: Mfn(shared_info.0 + 1),
        heap_base: Mfn(shared_info.0 + 1 + table_pages),
        heap_pages: memory.heap_pages() - 1 - table_pages,
        m2p: M2P,
        m2p_entries: (RAM_BASE >> 12) + memory.ram_pages(),
        tsc_khz,
        tsc_to_system_mul,
        tsc_shift: tsc_shift.into(),
        tsc_base: crate::kvm::host_tsc(),
        wallclock_ns: now.as_nanos() as u64,
        handle: spec.uuid,
        max_grant_frames: GRANT_FRAMES,
        // xl's default for `event_channels`.
        max_evtchn_port: 1024,
        kernel_cs,
        kernel_ss,
        _pad0: 0,
    }
}

/// The multiplier and shift of `vcpu_time_info` (`xen.h`): nanoseconds are
/// `(ticks << shift) * mul >> 32`.
fn tsc_scale(tsc_khz: u32) -> (u32, i8) {
    let mut shift = 0i8;
    let mut ticks_per_second = u64::from(tsc_khz.max(1)) * 1000;
    while ticks_per_second > 2_000_000_000 {
        ticks_per_second >>= 1;
        shift -= 1;
    }
    while ticks_per_second <= 1_000_000_000 {
        ticks_per_second <<= 1;
        shift += 1;
    }
    (((1_000_000_000u64 << 32) / ticks_per_second) as u32, shift)
}

/// The hypercall page: 32 bytes a call, as Xen fills it for PV guests.
fn hypercall_page() -> Vec<u8> {
    let mut page = vec![0xcc; PAGE_SIZE];
    for (nr, slot) in page.chunks_exact_mut(32).enumerate() {
        let nr = nr as u8;
        // push rcx; push r11; mov eax, nr; syscall; pop r11; pop rcx; ret
        let mut code = vec![
            0x51, 0x41, 0x53, 0xb8, nr, 0, 0, 0, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3,
        ];
        if u64::from(nr) == xen_sys::hypercall::__HYPERVISOR_iret {
            // push rcx; push r11; push rax; mov eax, nr; syscall
            code = vec![0x51, 0x41, 0x53, 0x50, 0xb8, nr, 0, 0, 0, 0x0f, 0x05];
        }
        slot[..code.len()].copy_from_slice(&code);
    }
    page
}

fn build_kernel(
    kernel: &PvKernel<'_>,
    spec: &DomainSpec,
    memory: &mut Memory,
    shared_info: Mfn,
) -> Result<PvImage, VmmError> {
    let image = kernel.build(
        memory,
        &PvSpec {
            cmd_line: spec.cmd_line.as_bytes(),
            initrd: spec.initrd.as_deref(),
            store_evtchn: STORE_PORT.into(),
            console_evtchn: CONSOLE_PORT.into(),
            // As xl leaves them for a guest without devices passed through.
            flags: 0,
            ..PvSpec::new(shared_info)
        },
    )?;
    if let Some(page) = image.hypercall_page {
        memory.write(page.addr(), &hypercall_page())?;
    }
    Ok(image)
}

/// Records the page tables the builder made.
fn mark_tables(memory: &Memory, config: &Config, image: &PvImage) -> Result<(), MemError> {
    let tables = &image.layout.page_tables;
    for pfn in tables.pfn.0..tables.pfn.0 + tables.pages {
        memory.fetch_or(config.tables.addr().offset(pfn / 64 * 8), 1 << (pfn % 64))?;
    }
    // Of these, the top level is pinned.
    let top = image.cr3.0 - config.ram_base.0;
    let pinned = config
        .tables
        .addr()
        .offset(xenner_core::mmu::pinned_offset(config.ram_pages));
    memory.fetch_or(pinned.offset(top / 64 * 8), 1 << (top % 64))?;
    Ok(())
}

/// The first virtual CPU's registers, as `xen.h` describes under "Start-of-day".
fn first_context(image: &PvImage) -> Box<VcpuGuestContext> {
    let mut context = VcpuGuestContext::new_box_zeroed().unwrap_or_else(|_| std::process::abort());
    context.flags = VGCF_in_kernel | VGCF_online;
    context.user_regs.rip = image.entry.0;
    context.user_regs.rsp = image.stack.0;
    context.user_regs.rsi = image.start_info.0;
    context.user_regs.rflags = 1 << 9;
    context.ctrlreg[3] = image.cr3.addr().0;
    context
}

fn write_boot(
    memory: &Memory,
    emulator: &Emulator,
    hole: &Hole,
    config: &Config,
    context: &VcpuGuestContext,
) -> Result<(), MemError> {
    use std::mem::offset_of;
    let at = |offset: usize| emulator.boot.offset(offset as u64);
    memory.write(at(offset_of!(Boot, config)), config.as_bytes())?;
    memory.write(at(offset_of!(Boot, hole)), hole.entries.as_bytes())?;
    memory.write(at(offset_of!(Boot, context)), context.as_bytes())
}
