//! A virtual CPU's loop when its ABI runs in this process.

use kvm_bindings::{Msrs, kvm_debugregs, kvm_msr_entry, kvm_regs, kvm_segment};
use kvm_ioctls::{SyncReg, VcpuExit, VcpuFd};
use xen_sys::addr::{Maddr, Mfn, Vaddr};
use xenner_core::entry::{self, Next};
use xenner_core::image::*;
use xenner_core::{Machine as _, Regs, Vcpu, evtchn, trap, vcpu_op};

use super::Outside;
use super::foresight::Foresight;
use super::machine::HostMachine;
use super::ring0::{self, Continuation, PORT, Ring0, Step};
use super::ring3::{self, Place, Window};
use crate::shared::{CrashReport, DomainExit, Paused, Snapshot};

const IA32_TSC_DEADLINE: u32 = 0x6e0;
/// End of interrupt, in x2APIC mode.
const EOI: u32 = 0x80b;

/// One virtual CPU and all that is known of it.
struct Running<'a> {
    outside: &'a Outside,
    fd: VcpuFd,
    id: usize,
    vcpu: Box<Vcpu>,
    machine: HostMachine<'a>,
    regs: Regs,
    left: Left,
    timer: Timer,
}

/// Where the guest's CPU stands while this thread answers for it.
#[derive(Clone, Copy)]
struct Left {
    in_ring0: bool,
    cr3: Mfn,
    fs_base: u64,
    gs_base: u64,
}

/// The local timer.
#[derive(Default)]
struct Timer {
    /// The time stamp it is armed for, 0 for none.
    armed: u64,
    /// An interrupt has been taken and is to be ended.
    end_interrupt: bool,
    foresight: Foresight,
    /// The single-shot deadline as last seen.
    deadline: u64,
    /// It is a tick foretold.
    foretold: bool,
    /// What ring 3 sees; nothing has been shown yet.
    shown: Option<Window>,
}

/// Runs a virtual CPU until the domain's end.
pub fn run(mut fd: VcpuFd, id: usize, outside: &Outside) {
    fd.set_sync_valid_reg(SyncReg::Register);
    fd.set_sync_valid_reg(SyncReg::SystemRegister);
    let mut running = Running {
        outside,
        fd,
        id,
        vcpu: Box::new(Vcpu::new(id)),
        machine: HostMachine::new(outside, id),
        regs: Regs::default(),
        // No registers are known before the first entry, and none are changed.
        left: Left {
            in_ring0: true,
            cr3: Mfn(0),
            fs_base: 0,
            gs_base: 0,
        },
        timer: Timer::default(),
    };
    if let Err(error) = running.start().and_then(|()| running.serve()) {
        outside.shared.end(DomainExit::Killed(CrashReport {
            reason: error,
            vcpu: id,
        }));
    }
    outside.shared.thread_ended(id, running.snapshot());
}

type Outcome<T = ()> = Result<T, String>;

impl Running<'_> {
    /// What comes before the first entry: the interrupt controller on, and
    /// the first virtual CPU's context.
    fn start(&mut self) -> Outcome {
        let m = &mut self.machine;
        let timer = 2 << 17 | u64::from(VECTOR_TIMER);
        for (msr, value) in [(0x80f, 0x1ff), (0x808, 0), (0x832, timer)] {
            m.chain.push(Step::Wrmsr { msr, value });
        }
        if self.id == 0 {
            let domain = &self.outside.domain;
            (self.vcpu.started, self.vcpu.down) = (true, false);
            vcpu_op::enter_runstate(m, domain, &mut self.vcpu, 0);
            let context = &self.outside.context;
            vcpu_op::load_context(m, domain, &mut self.vcpu, &mut self.regs, context);
        }
        self.go_on()
    }

    fn serve(&mut self) -> Outcome {
        let (shared, asked) = (&self.outside.shared, &self.outside.asked[self.id]);
        while !shared.stopping() {
            if shared.pause_here(self.id, || self.snapshot()) == Paused::Stopping {
                break;
            }
            if asked.enter() {
                // Since what comes next was written: out again, to flush.
                crate::kvm::interrupt(&self.outside.vm, self.id, VECTOR_FLUSH);
            }
            shared.entering();
            let exit = match self.fd.run() {
                Ok(VcpuExit::IoOut(port, _)) => Ok(port == PORT),
                Ok(VcpuExit::IoIn(_, data)) => {
                    data.fill(0xff);
                    Ok(false)
                }
                Ok(VcpuExit::Intr) => Ok(false),
                Ok(other) => Err(format!("the virtual CPU stopped: {other:?}")),
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                    self.fd.set_kvm_immediate_exit(0);
                    Ok(false)
                }
                Err(error) => Err(format!("KVM cannot run the virtual CPU: {error}")),
            };
            asked.leave();
            if exit? && !shared.stopping() {
                self.left_ring3()?;
            }
        }
        Ok(())
    }

    /// A port was written: by a stub, where SYSCALL leads, or by ring 3 itself,
    /// whose ports lead nowhere.
    fn left_ring3(&mut self) -> Outcome {
        let sync = self.fd.sync_regs();
        let (regs, sregs) = (sync.regs, sync.sregs);
        let in_ring0 = sregs.cs.selector & 3 == 0;
        self.machine.fs_base = sregs.fs.base;
        self.machine.gs_base = sregs.gs.base;
        self.machine.cr0 = sregs.cr0;
        self.machine.data_selectors =
            [&sregs.ds, &sregs.es, &sregs.fs, &sregs.gs].map(|segment| segment.selector);
        self.left = Left {
            in_ring0,
            cr3: Maddr(sregs.cr3 & xenner_core::mmu::pte::FRAME).frame(),
            fs_base: sregs.fs.base,
            gs_base: sregs.gs.base,
        };
        if !in_ring0 && ring3::is_syscall(regs.rip) {
            return self.system_call(&regs);
        }
        let Some(vector) = Ring0::vector(regs.rip).filter(|_| in_ring0) else {
            return Ok(());
        };
        let frame = self.frame(vector, regs.rsp)?;
        let [error_code, rip, cs, ..] = frame;
        if cs & 3 == 0 {
            self.interrupted_in_ring0(vector, rip, sregs.cr2)?;
            return self.go_on();
        }
        self.take_registers(&regs, vector, frame);
        self.outside.shared.exits.count(self.id);
        match Place::of(rip) {
            Some(place) => self.finish_call(place, vector),
            None => self.answer(vector, error_code as u32, sregs.cr2),
        }
        self.go_on()
    }

    /// SYSCALL of 64-bit code, or a jump to where it leads, which says the same.
    fn system_call(&mut self, regs: &kvm_regs) -> Outcome {
        let (cs, ss) = (u64::from(ring0::USER_CS), u64::from(ring0::USER_SS));
        self.take_registers(regs, 0, [0, regs.rcx, cs, regs.r11, regs.rsp, ss]);
        self.outside.shared.exits.count(self.id);
        self.call();
        self.go_on()
    }

    /// What SYSCALL means with these registers.
    fn call(&mut self) {
        let (m, d, r) = (&mut self.machine, &self.outside.domain, &mut self.regs);
        r.rip = r.rcx;
        r.rflags = r.r11 & ring3::SYSCALL_FLAGS | xenner_core::regs::flags::RESERVED1;
        r.r11 = r.rflags;
        entry::syscall(m, d, &mut self.vcpu, r);
    }

    /// Ring 3 was left amid what follows SYSCALL. An exception there is the
    /// deadline's, or the stack's, which cannot be reached: the hypercall made
    /// after all finds the one, and needs the other no more.
    fn finish_call(&mut self, place: Place, vector: u8) {
        let r = &mut self.regs;
        match place {
            Place::Undecided { looked } => {
                if looked {
                    r.rax = ring3::LOOKED_AT;
                }
                self.call();
            }
            Place::Decided { pushed } => {
                r.rip = r.rcx;
                r.rflags = r.r11 & ring3::SYSCALL_FLAGS | xenner_core::regs::flags::RESERVED1;
                r.rsp = r.rsp.wrapping_add(if pushed { 8 } else { 0 });
            }
        }
        if vector >= 32 {
            self.interrupt(vector);
        }
    }

    fn take_registers(&mut self, regs: &kvm_regs, vector: u8, frame: [u64; 6]) {
        let [error_code, rip, cs, rflags, rsp, ss] = frame;
        self.regs = Regs {
            r15: regs.r15,
            r14: regs.r14,
            r13: regs.r13,
            r12: regs.r12,
            rbp: regs.rbp,
            rbx: regs.rbx,
            r11: regs.r11,
            r10: regs.r10,
            r9: regs.r9,
            r8: regs.r8,
            rax: regs.rax,
            rcx: regs.rcx,
            rdx: regs.rdx,
            rsi: regs.rsi,
            rdi: regs.rdi,
            error_code: error_code & 0xffff_ffff | u64::from(vector) << 32,
            rip,
            cs,
            rflags,
            rsp,
            ss,
        };
    }

    /// The frame the CPU pushed: error code (0 if none), RIP, CS, RFLAGS,
    /// RSP, SS.
    fn frame(&self, vector: u8, rsp: u64) -> Outcome<[u64; 6]> {
        const WITH_ERROR_CODE: u32 = 0x6022_7d00;
        let with_code = vector < 32 && WITH_ERROR_CODE >> vector & 1 != 0;
        let mut bytes = [0u8; 48];
        let skip = if with_code { 0 } else { 8 };
        self.outside
            .memory
            .read(Maddr(rsp.wrapping_sub(DIRECT_MAP)), &mut bytes[skip..])
            .map_err(|_| format!("ring 0's stack is lost, vector {vector}, RSP {rsp:#x}"))?;
        let mut frame = [0; 6];
        for (word, bytes) in frame.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Ok(frame)
    }

    /// Ring 0 was waiting, or one of its steps faulted.
    fn interrupted_in_ring0(&mut self, vector: u8, rip: u64, cr2: u64) -> Outcome {
        if vector >= 32 {
            self.interrupt(vector);
            return Ok(());
        }
        if Ring0::is_iretq(rip) {
            let domain = &self.outside.domain;
            trap::iret_failed(&mut self.machine, domain, &mut self.vcpu, &mut self.regs);
            return Ok(());
        }
        Err(format!(
            "ring 0 faulted: vector {vector}, RIP {rip:#x}, CR2 {cr2:#x}"
        ))
    }

    fn answer(&mut self, vector: u8, error_code: u32, cr2: u64) {
        let (m, d) = (&mut self.machine, &self.outside.domain);
        let (v, r) = (&mut *self.vcpu, &mut self.regs);
        match vector {
            0x80 => entry::software_interrupt(m, d, v, r, 0x80),
            6 | 13 => match opcode(m, r) {
                // INT does not reach its gate on such a KVM.
                [0xcd, raised] => {
                    const IDT: u32 = 2;
                    entry::exception(m, d, v, r, 13, u32::from(raised) << 3 | IDT, 0);
                }
                SYSCALL if vector == 6 => {
                    r.rip = r.rip.wrapping_add(2);
                    (r.rcx, r.r11) = (r.rip, r.rflags);
                    if r.cs & 0xffff == u64::from(ring0::USER32_CS) {
                        entry::syscall32(m, d, v, r, false);
                    } else {
                        entry::syscall(m, d, v, r);
                    }
                }
                _ => entry::exception(m, d, v, r, vector, error_code, cr2),
            },
            vector if vector >= 32 => self.interrupt(vector),
            1 => {
                m.dr6 = self
                    .fd
                    .get_debug_regs()
                    .map_or(0xffff_0ff0, |regs| regs.dr6);
                entry::exception(m, d, v, r, 1, error_code, 0);
            }
            vector => entry::exception(m, d, v, r, vector, error_code, cr2),
        }
    }

    fn interrupt(&mut self, vector: u8) {
        let (m, d) = (&mut self.machine, &self.outside.domain);
        self.timer.end_interrupt = true;
        match vector {
            VECTOR_TIMER => {
                self.timer.armed = 0;
                self.tick();
            }
            VECTOR_HOST => {
                for word in 0..64u64 {
                    let at = self.outside.to_guest().offset(word * 8);
                    let mut bits = match self.outside.memory.load::<u64>(at) {
                        Ok(0) | Err(_) => continue,
                        Ok(_) => self.outside.memory.fetch_and(at, 0).unwrap_or(0),
                    };
                    while bits != 0 {
                        let port = word as u32 * 64 + bits.trailing_zeros();
                        bits &= bits - 1;
                        evtchn::deliver(m, d, self.id, port);
                    }
                }
            }
            _ => {}
        }
    }

    /// The timer fired. One that computes will want the next tick, too; one
    /// that slept may go on sleeping.
    fn tick(&mut self) {
        let (m, d, v) = (&mut self.machine, &self.outside.domain, &mut *self.vcpu);
        let deadline = v.singleshot_at;
        entry::timer(m, d, v);
        let fired = deadline != 0 && v.singleshot_at == 0;
        if !fired || v.blocked {
            return;
        }
        if let Some(next) = self.timer.foresight.next(xenner_core::time::now(m, d)) {
            v.singleshot_at = next;
            xenner_core::time::rearm(m, d, v);
            (self.timer.deadline, self.timer.foretold) = (next, true);
        }
    }

    /// Shows ring 3 which deadlines need no hypercall: none while a process
    /// runs, whose system calls have the same numbers.
    fn show_window(&mut self) -> Outcome {
        let (timer, deadline) = (&mut self.timer, self.vcpu.singleshot_at);
        if deadline != timer.deadline {
            (timer.deadline, timer.foretold) = (deadline, false);
            if deadline != 0 {
                timer.foresight.asked(deadline);
            }
        }
        let window = if timer.foretold && self.vcpu.in_kernel {
            Window::up_to(deadline)
        } else {
            Window::CLOSED
        };
        if timer.shown == Some(window) {
            return Ok(());
        }
        timer.shown = Some(window);
        let (memory, at) = (&self.outside.memory, Ring0::window(self.id));
        memory
            .store(at, window.first)
            .and_then(|()| memory.store(at.offset(8), window.count))
            .map_err(|error| format!("ring 3's page is lost: {error}"))
    }

    /// Writes what the CPU is to do next: ring 0, if it must, or ring 3 itself.
    fn go_on(&mut self) -> Outcome {
        if self.outside.asked[self.id].take() {
            self.machine.flush(xenner_core::Flush::All);
        }
        let (m, d) = (&mut self.machine, &self.outside.domain);
        let next = entry::resume(m, d, &mut self.vcpu, &mut self.regs);
        self.show_window()?;
        self.set_timer_and_debug()?;
        if next == Next::Run && self.goes_by_registers() {
            self.enter_ring3();
            return Ok(());
        }
        let m = &mut self.machine;
        let lost = |_| "ring 0's stack is lost".to_owned();
        let memory = &self.outside.memory;
        let r = &self.regs;
        let to = match next {
            Next::Wait => m.chain.wait(memory, self.id).map_err(lost)?,
            Next::Run => {
                let frame = [
                    r.rip,
                    selector(r.cs),
                    r.rflags,
                    r.rsp,
                    u64::from(ring0::USER_SS),
                ];
                let clobbered = [r.rax, r.rcx, r.rdx, r.rdi];
                m.chain
                    .finish(memory, self.id, clobbered, frame)
                    .map_err(lost)?
            }
        };
        self.point_at(to);
        Ok(())
    }

    /// Whether the CPU gets to ring 3 by loading registers. What IRETQ might
    /// refuse is left to IRETQ.
    fn goes_by_registers(&self) -> bool {
        let same_cr3 = self.machine.cr3 == self.left.cr3;
        self.machine.chain.is_registers_only(same_cr3)
            && selector(self.regs.cs) == u64::from(ring0::USER_CS)
            && Vaddr(self.regs.rip).is_canonical()
    }

    fn enter_ring3(&mut self) {
        self.machine.chain.clear();
        let m = &self.machine;
        let (cr3, fs_base, gs_base) = (m.cr3, m.fs_base, m.gs_base);
        let r = &self.regs;
        self.load_registers(r.rip, r.rsp, r.rflags);
        let Left {
            in_ring0,
            cr3: old,
            fs_base: fs,
            gs_base: gs,
        } = self.left;
        if in_ring0 || (old, fs, gs) != (cr3, fs_base, gs_base) {
            let sregs = &mut self.fd.sync_regs_mut().sregs;
            (sregs.cs, sregs.ss) = segments(ring0::USER_CS, ring0::USER_SS);
            (sregs.cr3, sregs.fs.base, sregs.gs.base) = (cr3.addr().0, fs_base, gs_base);
            self.fd.set_sync_dirty_reg(SyncReg::SystemRegister);
        }
    }

    /// Ends the interrupt and sets the timer, by one call since each is dear.
    fn set_timer_and_debug(&mut self) -> Outcome {
        let entry = |index, data| kvm_msr_entry {
            index,
            data,
            ..Default::default()
        };
        let deadline = self.machine.timer.take().unwrap_or(self.timer.armed);
        let ends = std::mem::take(&mut self.timer.end_interrupt);
        let sets = deadline != self.timer.armed;
        let both = [entry(EOI, 0), entry(IA32_TSC_DEADLINE, deadline)];
        let wanted = &both[usize::from(!ends)..1 + usize::from(sets)];
        if !wanted.is_empty() {
            let set = Msrs::from_entries(wanted)
                .ok()
                .map(|msrs| self.fd.set_msrs(&msrs));
            if !matches!(set, Some(Ok(count)) if count == wanted.len()) {
                return Err("KVM does not take the timer's deadline".into());
            }
            self.timer.armed = deadline;
        }
        if let Some(regs) = self.machine.debug.take() {
            let regs = kvm_debugregs {
                db: [regs[0], regs[1], regs[2], regs[3]],
                dr6: regs[6],
                dr7: regs[7],
                ..Default::default()
            };
            self.fd
                .set_debug_regs(&regs)
                .map_err(|error| format!("KVM does not take the debug registers: {error}"))?;
        }
        Ok(())
    }

    /// Has ring 0 go on.
    fn point_at(&mut self, to: Continuation) {
        self.load_registers(to.rip, to.rsp, 2);
        if !self.left.in_ring0 {
            let sregs = &mut self.fd.sync_regs_mut().sregs;
            (sregs.cs, sregs.ss) = segments(ring0::RING0_CS, ring0::RING0_SS);
            self.fd.set_sync_dirty_reg(SyncReg::SystemRegister);
        }
    }

    fn load_registers(&mut self, rip: u64, rsp: u64, rflags: u64) {
        let r = &self.regs;
        let sync = self.fd.sync_regs_mut();
        let regs = &mut sync.regs;
        (regs.r15, regs.r14, regs.r13, regs.r12) = (r.r15, r.r14, r.r13, r.r12);
        (regs.rbp, regs.rbx, regs.r11, regs.r10) = (r.rbp, r.rbx, r.r11, r.r10);
        (regs.r9, regs.r8, regs.rax, regs.rcx) = (r.r9, r.r8, r.rax, r.rcx);
        (regs.rdx, regs.rsi, regs.rdi) = (r.rdx, r.rsi, r.rdi);
        (regs.rip, regs.rsp, regs.rflags) = (rip, rsp, rflags);
        self.fd.set_sync_dirty_reg(SyncReg::Register);
    }

    /// What the guest holds: its own registers as they were when it last left
    /// ring 3.
    fn snapshot(&self) -> Snapshot {
        const CR2: u64 = 16;
        let vcpu_info = self.outside.domain.vcpus[self.id].vcpu_info();
        Snapshot {
            regs: self.regs,
            cr3: self.machine.cr3,
            fs_base: self.machine.fs_base,
            gs_base: self.machine.gs_base,
            cr2: self.outside.memory.load(vcpu_info.offset(CR2)).unwrap_or(0),
        }
    }
}

const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// The two bytes at RIP; zero, which is no instruction of interest, when they
/// cannot be read.
fn opcode(m: &mut HostMachine<'_>, r: &Regs) -> [u8; 2] {
    let mut code = [0; 2];
    match m.copy_from_guest(Vaddr(r.rip), &mut code) {
        Ok(()) => code,
        Err(_) => [0; 2],
    }
}

/// Flat 64-bit code, and a stack, of the selectors' privilege.
fn segments(code: u16, stack: u16) -> (kvm_segment, kvm_segment) {
    let cs = kvm_segment {
        limit: 0xffff_ffff,
        selector: code,
        type_: 11,
        present: 1,
        dpl: (code & 3) as u8,
        l: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    let ss = kvm_segment {
        selector: stack,
        type_: 3,
        dpl: (stack & 3) as u8,
        l: 0,
        db: 1,
        ..cs
    };
    (cs, ss)
}

/// The code selector ring 3 really runs with for one the guest names.
fn selector(cs: u64) -> u64 {
    match cs as u16 & !3 {
        0x20 | 0xe020 => ring0::USER32_CS.into(),
        _ => ring0::USER_CS.into(),
    }
}
