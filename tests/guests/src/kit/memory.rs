//! Pages and page tables of a direct-paging guest.
//!
//! Everything lives in the mapping the domain builder made: pseudo-physical page `pfn` at `VIRT_BASE + pfn * 4096`,
//! page tables included (read-only). Behind the boot stack the builder leaves at least 512 KiB of mapped, unused pages
//! (xen.h, "bootstrap"), and those are the page allocator's.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::abi::*;
use crate::boot::start_info;
use crate::hypercall::{Ret, call2, call3, call4};

/// `XEN_ELFNOTE_VIRT_BASE` of every guest.
pub const VIRT_BASE: u64 = 0xffff_ffff_8000_0000;
/// Bytes of a page.
pub const PAGE_SIZE: u64 = 4096;
/// PTE: present.
pub const P: u64 = 1;
/// PTE: writable.
pub const W: u64 = 2;
/// PTE: user. Xen sets it in every present entry a 64-bit PV kernel makes.
pub const U: u64 = 4;
/// PTE: accessed.
pub const A: u64 = 1 << 5;
/// PTE: dirty.
pub const D: u64 = 1 << 6;
/// PTE: the frame number's bits.
pub const FRAME: u64 = 0x000f_ffff_ffff_f000;

static NEXT: AtomicU64 = AtomicU64::new(0);
static END: AtomicU64 = AtomicU64::new(0);
static M2P: AtomicU64 = AtomicU64::new(0);
static ROOT: AtomicU64 = AtomicU64::new(0);

/// Finds the M2P table and the free pages. `boot_sp` is the stack pointer the kernel was entered with.
pub fn init(boot_sp: u64) {
    let mut map = XenMachphysMapping::default();
    call2(__HYPERVISOR_memory_op, XENMEM_machphys_mapping, &mut map);
    M2P.store(map.v_start.0, Relaxed);
    let info = start_info();
    ROOT.store(info.pt_base.0, Relaxed);
    let used = [
        info.mfn_list.0 + info.nr_pages * 8,
        info.mod_start + info.mod_len,
        info.pt_base.0 + info.nr_pt_frames * PAGE_SIZE,
        boot_sp,
    ];
    let first = used
        .into_iter()
        .max()
        .unwrap_or(boot_sp)
        .next_multiple_of(PAGE_SIZE);
    let mut end = first;
    while leaf(end).is_some_and(|pte| pte & (P | W) == P | W) {
        end += PAGE_SIZE;
    }
    NEXT.store(first, Relaxed);
    END.store(end, Relaxed);
}

/// A page of the allocator: its kernel address. Never given back; a guest's life is short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page(pub u64);

impl Page {
    /// A zeroed page.
    pub fn new() -> Page {
        let va = NEXT.fetch_add(PAGE_SIZE, Relaxed);
        assert!(va < END.load(Relaxed), "the guest is out of pages");
        let page = Page(va);
        page.fill(0);
        page
    }

    /// Its machine frame.
    pub fn mfn(self) -> u64 {
        mfn_of(self.0)
    }

    /// Machine address of the entry at this index, when it is a page table: the `ptr` of an `mmu_update`.
    pub fn entry(self, index: u64) -> u64 {
        (self.mfn() << 12) + index * 8
    }

    /// Its pseudo-physical frame.
    pub fn pfn(self) -> u64 {
        pfn_of(self.0)
    }

    /// The word at this index, 0 to 511.
    pub fn read(self, index: usize) -> u64 {
        peek(self.0 + (index as u64 % 512) * 8)
    }

    /// Writes the word at this index, 0 to 511.
    pub fn write(self, index: usize, value: u64) {
        poke(self.0 + (index as u64 % 512) * 8, value);
    }

    /// Writes every word.
    pub fn fill(self, value: u64) {
        for index in 0..512 {
            self.write(index, value);
        }
    }

    /// Makes its kernel mapping read-only, as a page table needs it.
    pub fn read_only(self) -> Ret {
        set_leaf(self.0, self.mfn() << 12 | P | U | A)
    }

    /// Makes its kernel mapping writable.
    pub fn writable(self) -> Ret {
        set_leaf(self.0, self.mfn() << 12 | P | W | U | A | D)
    }

    /// Takes its kernel mapping away.
    pub fn unmap(self) -> Ret {
        set_leaf(self.0, 0)
    }
}

impl Default for Page {
    fn default() -> Self {
        Page::new()
    }
}

/// Pages the allocator still has.
pub fn pages_left() -> u64 {
    (END.load(Relaxed) - NEXT.load(Relaxed)) / PAGE_SIZE
}

/// Reads a word of the guest's own memory; the address must be mapped.
pub fn peek(va: u64) -> u64 {
    // SAFETY: callers pass mapped, aligned addresses of guest memory that holds no Rust object; else it faults, loudly.
    unsafe { (va as *const u64).read_volatile() }
}

/// Writes a word of the guest's own memory; the address must be mapped writable.
pub fn poke(va: u64, value: u64) {
    // SAFETY: as in `peek`.
    unsafe { (va as *mut u64).write_volatile(value) }
}

/// The pseudo-physical frame of a kernel address.
pub fn pfn_of(va: u64) -> u64 {
    va.wrapping_sub(VIRT_BASE) >> 12
}

/// The machine frame of a kernel address, by the p2m list.
pub fn mfn_of(va: u64) -> u64 {
    p2m(pfn_of(va))
}

/// The machine frame of a pseudo-physical one.
pub fn p2m(pfn: u64) -> u64 {
    peek(start_info().mfn_list.0 + pfn * 8)
}

/// Writes the guest's own p2m entry, after frames were exchanged.
pub fn set_p2m(pfn: u64, mfn: u64) {
    poke(start_info().mfn_list.0 + pfn * 8, mfn);
}

/// The pseudo-physical frame of a machine frame, by the hypervisor's M2P table.
pub fn m2p(mfn: u64) -> u64 {
    peek(M2P.load(Relaxed) + mfn * 8)
}

/// Address of the M2P table.
pub fn m2p_base() -> u64 {
    M2P.load(Relaxed)
}

/// Where a machine frame of this domain is mapped.
pub fn va_of_mfn(mfn: u64) -> u64 {
    VIRT_BASE + (m2p(mfn) << 12)
}

/// Kernel address of the top level page table in use at boot.
pub fn root() -> u64 {
    ROOT.load(Relaxed)
}

/// Kernel address of the entry of the given level (1 to 4) that maps `va`, if all levels above are present.
pub fn entry_of(va: u64, level: u32) -> Option<u64> {
    let mut table = root();
    let mut at = 4;
    loop {
        let entry = table + ((va >> (12 + 9 * (at - 1))) & 511) * 8;
        if at == level {
            return Some(entry);
        }
        let value = peek(entry);
        if value & P == 0 {
            return None;
        }
        table = va_of_mfn((value & FRAME) >> 12);
        at -= 1;
    }
}

/// The level 1 entry that maps `va`.
pub fn leaf(va: u64) -> Option<u64> {
    entry_of(va, 1).map(peek)
}

/// Machine address of the entry of the given level that maps `va`: the `ptr` of an `mmu_update`.
pub fn entry_maddr(va: u64, level: u32) -> Option<u64> {
    let entry = entry_of(va, level)?;
    Some(mfn_of(entry) << 12 | entry & 4095)
}

/// `update_va_mapping` with a local INVLPG.
pub fn set_leaf(va: u64, pte: u64) -> Ret {
    call3(__HYPERVISOR_update_va_mapping, va, pte, UVMF_INVLPG)
}

/// One `mmu_update` on this domain's own frames.
pub fn mmu_update(ptr_cmd: u64, val: u64) -> Ret {
    let request = MmuUpdate { ptr: ptr_cmd, val };
    call4(__HYPERVISOR_mmu_update, &request, 1, 0, DOMID_SELF)
}

/// One `mmuext_op` on this domain's own frames.
pub fn mmuext(cmd: u32, arg1: u64, arg2: u64) -> Ret {
    let op = MmuextOp {
        cmd,
        arg1,
        arg2,
        ..MmuextOp::default()
    };
    call4(__HYPERVISOR_mmuext_op, &op, 1, 0, DOMID_SELF)
}
