//! What little lies in guest ring 0: stubs, gadgets, tables; and where the two
//! pages are that ring 3 sees ([`super::ring3`]).

use xen_sys::addr::{Maddr, PAGE_SIZE, Vaddr};
use xenner_core::MAX_VCPUS;
use xenner_core::image::{DIRECT_MAP, IMAGE_BASE};
use xenner_core::mmu::pte;

use super::ring3;
use crate::memory::{MemError, Memory};
use crate::tables::{Hole, NO_EXECUTE};

/// The port every stub writes; its number says nothing, its address all.
pub const PORT: u16 = 0xe5;
/// Bytes from one vector's stub to the next.
const STUB: u64 = 8;
/// Length of the OUT instruction.
const OUT: u64 = 2;

const CODE: u64 = IMAGE_BASE;
const GADGETS: u64 = CODE + 0x800;
const IDT: u64 = CODE + 0x1000;
const GDT: u64 = CODE + 0x2000;
/// Ring 3's code.
const RING3: u64 = CODE + 0x3000;
const DOORBELLS: u64 = CODE + 0x4000;
/// What ring 3 may read of its timers.
const WINDOWS: u64 = CODE + 0x5000;
const VCPUS: u64 = CODE + 0x1_0000;
/// Per virtual CPU: a page with the TSS, the chain, and the stack at the end.
const VCPU_SIZE: u64 = 0x4_0000;
const CHAIN: u64 = 0x1000;
const CHAIN_END: u64 = VCPU_SIZE - 0x2000;

/// Selector of ring 0's code.
pub const RING0_CS: u16 = 0x08;
/// Selector of ring 0's stack.
pub const RING0_SS: u16 = 0x10;
/// Selector of 32-bit code in ring 3.
pub const USER32_CS: u16 = 0x23;
/// Selector of ring 3's data and stack.
pub const USER_SS: u16 = 0x2b;
/// Selector of 64-bit code in ring 3.
pub const USER_CS: u16 = 0x33;
/// Selector of the task state segment.
pub const TSS: u16 = 0x40;

/// One step of a chain: what ring 0 does before it returns to ring 3. Each is
/// an address in the code page, popped by RET, followed by its operands.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Store a page table entry.
    Store {
        /// Where.
        at: Maddr,
        /// What.
        value: u64,
    },
    /// INVLPG.
    Invlpg(Vaddr),
    /// Load CR3.
    Cr3(u64),
    /// WRMSR.
    Wrmsr {
        /// Which register.
        msr: u32,
        /// What.
        value: u64,
    },
    /// Load CR0.
    Cr0(u64),
}

/// Machine code of the steps; offsets in the gadget area, 16 bytes each.
const STORE: (u64, &[u8]) = (0, &[0x5f, 0x58, 0x48, 0x89, 0x07, 0xc3]); // pop rdi; pop rax; mov [rdi], rax; ret
const INVLPG: (u64, &[u8]) = (16, &[0x58, 0x0f, 0x01, 0x38, 0xc3]); // pop rax; invlpg [rax]; ret
const CR3: (u64, &[u8]) = (32, &[0x58, 0x0f, 0x22, 0xd8, 0xc3]); // pop rax; mov cr3, rax; ret
const WRMSR: (u64, &[u8]) = (48, &[0x59, 0x58, 0x5a, 0x0f, 0x30, 0xc3]); // pop rcx; pop rax; pop rdx; wrmsr; ret
const CR0: (u64, &[u8]) = (64, &[0x58, 0x0f, 0x22, 0xc0, 0xc3]); // pop rax; mov cr0, rax; ret
const FINISH: (u64, &[u8]) = (80, &[0x58, 0x59, 0x5a, 0x5f, 0x48, 0xcf]); // pop rax; pop rcx; pop rdx; pop rdi; iretq
const IRETQ: (u64, &[u8]) = (96, &[0x48, 0xcf]);
const WAIT: (u64, &[u8]) = (112, &[0xfb, 0xf4, 0xfa, 0xeb, 0xfb]); // sti; hlt; cli; jmp back to sti

/// Addresses of what is in ring 0.
#[derive(Clone, Copy, Debug)]
pub struct Ring0 {
    /// Where the host marks ports for the guest.
    pub to_guest: Maddr,
}

/// Bytes of a task state segment without its map of ports.
const TSS_SIZE: u16 = 104;
/// Its limit with the map.
pub const TSS_LIMIT: u32 = TSS_SIZE as u32 + PORTS_SIZE as u32 - 1;
/// Bytes of the map up to [`PORT`], and one more, as the CPU reads two.
const PORTS_SIZE: usize = PORT as usize / 8 + 2;

/// The map of ports: ring 3 may write the stubs' own, for SYSCALL's sake.
fn ports() -> [u8; PORTS_SIZE] {
    let mut refused = [0xff; PORTS_SIZE];
    refused[usize::from(PORT) / 8] &= !(1 << (PORT % 8));
    refused
}

fn va(at: u64) -> u64 {
    DIRECT_MAP + at
}

/// Interrupt descriptor table.
pub const IDT_BASE: u64 = DIRECT_MAP + IDT;
/// Global descriptor table.
pub const GDT_BASE: u64 = DIRECT_MAP + GDT;

impl Ring0 {
    /// Writes stubs, tables and the page tables of Xen's hole.
    ///
    /// # Errors
    /// [`MemError`].
    pub fn load(memory: &Memory) -> Result<(Self, Hole), MemError> {
        for vector in 0..256u64 {
            memory.write(Maddr(CODE + vector * STUB), &[0xe6, PORT as u8, 0x0f, 0x0b])?;
            let target = va(CODE + vector * STUB);
            // Breakpoints, overflow and the old system call are ring 3's to
            // raise; no gate has a stack of its own.
            let dpl: u64 = if matches!(vector, 3 | 4 | 0x80) { 3 } else { 0 };
            let low = target & 0xffff
                | u64::from(RING0_CS) << 16
                | (0x8e | dpl << 5) << 40
                | (target >> 16 & 0xffff) << 48;
            memory.store(Maddr(IDT + vector * 16), low)?;
            memory.store(Maddr(IDT + vector * 16 + 8), target >> 32)?;
        }
        for (offset, code) in [STORE, INVLPG, CR3, WRMSR, CR0, FINISH, IRETQ, WAIT] {
            memory.write(Maddr(GADGETS + offset), code)?;
        }
        for (selector, descriptor) in [
            (RING0_CS, 0x00af_9b00_0000_ffff_u64),
            (RING0_SS, 0x00cf_9300_0000_ffff),
            (USER32_CS & !3, 0x00cf_fb00_0000_ffff),
            (USER_SS & !3, 0x00cf_f300_0000_ffff),
            (USER_CS & !3, 0x00af_fb00_0000_ffff),
        ] {
            memory.store(Maddr(GDT + u64::from(selector)), descriptor)?;
        }
        for vcpu in 0..MAX_VCPUS {
            // RSP0, at an odd multiple of four bytes: in halves.
            let end = va(Self::stack_end(vcpu).0);
            let tss = VCPUS + vcpu as u64 * VCPU_SIZE;
            memory.write(Maddr(tss + 4), &end.to_le_bytes())?;
            memory.write(Maddr(tss + 102), &TSS_SIZE.to_le_bytes())?;
            memory.write(Maddr(tss + u64::from(TSS_SIZE)), &ports())?;
        }
        let end = VCPUS + MAX_VCPUS as u64 * VCPU_SIZE;
        let data = pte::WRITABLE | NO_EXECUTE;
        let mut hole = Hole::build(
            memory,
            Maddr(end),
            &[(CODE..CODE + 0x1000, 0), (IDT..end, data)],
        )?;
        memory.write(Maddr(RING3), &ring3::code())?;
        hole.map(memory, Vaddr(ring3::CODE), Maddr(RING3), pte::USER)?;
        let seen = pte::USER | NO_EXECUTE;
        hole.map(memory, Vaddr(ring3::WINDOWS), Maddr(WINDOWS), seen)?;
        Ok((
            Self {
                to_guest: Maddr(DOORBELLS),
            },
            hole,
        ))
    }

    /// Where a virtual CPU's window is ([`ring3::Window`]).
    pub fn window(vcpu: usize) -> Maddr {
        Maddr(WINDOWS + vcpu as u64 * ring3::WINDOW_SIZE)
    }

    /// The TSS of a virtual CPU.
    pub fn tss(vcpu: usize) -> u64 {
        va(VCPUS + vcpu as u64 * VCPU_SIZE)
    }

    /// The end of its stack: the CPU's own frames end there.
    pub fn stack_end(vcpu: usize) -> Maddr {
        Maddr(VCPUS + (vcpu as u64 + 1) * VCPU_SIZE)
    }

    /// Which vector's stub has executed its OUT, by RIP.
    pub fn vector(rip: u64) -> Option<u8> {
        let offset = rip.checked_sub(va(CODE) + OUT)?;
        (offset % STUB == 0 && offset / STUB < 256).then_some((offset / STUB) as u8)
    }

    /// Whether an address is that of an IRETQ, whose fault is the guest's.
    pub fn is_iretq(rip: u64) -> bool {
        rip == va(GADGETS + IRETQ.0) || rip == va(GADGETS + FINISH.0 + 4)
    }
}

/// A chain being written.
#[derive(Default)]
pub struct Chain {
    words: Vec<u64>,
    /// A step changes what registers do not hold.
    beyond_registers: bool,
    /// A step loads CR3.
    loads_cr3: bool,
}

/// MSRs that are the bases of FS and GS.
const SEGMENT_BASES: [u32; 2] = [0xc000_0100, 0xc000_0101];

/// Where ring 0 goes on.
#[derive(Clone, Copy, Debug)]
pub struct Continuation {
    /// RIP.
    pub rip: u64,
    /// RSP.
    pub rsp: u64,
}

impl Chain {
    /// Adds a step.
    pub fn push(&mut self, step: Step) {
        match step {
            Step::Cr3(_) => self.loads_cr3 = true,
            Step::Wrmsr { msr, .. } if SEGMENT_BASES.contains(&msr) => {}
            _ => self.beyond_registers = true,
        }
        let gadget = |g: (u64, &[u8])| va(GADGETS + g.0);
        match step {
            Step::Store { at, value } => self.words.extend([gadget(STORE), va(at.0), value]),
            Step::Invlpg(at) => self.words.extend([gadget(INVLPG), at.0]),
            Step::Cr3(value) => self.words.extend([gadget(CR3), value]),
            Step::Wrmsr { msr, value } => {
                self.words
                    .extend([gadget(WRMSR), msr.into(), value & 0xffff_ffff, value >> 32]);
            }
            Step::Cr0(value) => self.words.extend([gadget(CR0), value]),
        }
    }

    /// Whether the steps still fit.
    pub fn fits(&self) -> bool {
        self.words.len() as u64 * 8 < CHAIN_END - CHAIN - 256
    }

    /// Whether loading registers does the same. A CR3 that stays as it is
    /// (`same_cr3`) would drop no translations.
    pub fn is_registers_only(&self, same_cr3: bool) -> bool {
        !(self.beyond_registers || self.loads_cr3 && same_cr3)
    }

    /// Forgets the steps.
    pub fn clear(&mut self) {
        self.words.clear();
        (self.beyond_registers, self.loads_cr3) = (false, false);
    }

    /// Writes the chain so that it ends in ring 3 with this frame (RIP, CS,
    /// RFLAGS, RSP, SS) and these RAX, RCX, RDX, RDI.
    ///
    /// # Errors
    /// [`MemError`].
    pub fn finish(
        &mut self,
        memory: &Memory,
        vcpu: usize,
        clobbered: [u64; 4],
        frame: [u64; 5],
    ) -> Result<Continuation, MemError> {
        if self.words.is_empty() {
            self.words.extend(frame);
            return self.write(memory, vcpu, va(GADGETS + IRETQ.0), 0);
        }
        self.words.push(va(GADGETS + FINISH.0));
        self.words.extend(clobbered);
        self.words.extend(frame);
        let first = self.words[0];
        self.write(memory, vcpu, first, 8)
    }

    /// Writes the chain so that it ends in a wait for an interrupt.
    ///
    /// # Errors
    /// [`MemError`].
    pub fn wait(&mut self, memory: &Memory, vcpu: usize) -> Result<Continuation, MemError> {
        if self.words.is_empty() {
            let rsp = va(Ring0::stack_end(vcpu).0);
            return Ok(Continuation {
                rip: va(GADGETS + WAIT.0),
                rsp,
            });
        }
        self.words.push(va(GADGETS + WAIT.0));
        let first = self.words[0];
        self.write(memory, vcpu, first, 8)
    }

    fn write(
        &mut self,
        memory: &Memory,
        vcpu: usize,
        rip: u64,
        skip: u64,
    ) -> Result<Continuation, MemError> {
        // At the end of its room, since faults push below it.
        let length = self.words.len() as u64 * 8;
        let at = VCPUS + vcpu as u64 * VCPU_SIZE + CHAIN_END - length;
        let mut bytes = Vec::with_capacity(length as usize);
        for word in &self.words {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        memory.write(Maddr(at), &bytes)?;
        self.clear();
        Ok(Continuation {
            rip,
            rsp: va(at) + skip,
        })
    }
}

const _: () = assert!(VCPUS + MAX_VCPUS as u64 * VCPU_SIZE < xenner_core::image::IMAGE_LIMIT);
const _: () = assert!(PAGE_SIZE == 4096);
