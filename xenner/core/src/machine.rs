//! What the Xen ABI needs of whatever runs it.

use xen_sys::addr::{Maddr, Mfn, Vaddr};
use xen_sys::errno::Errno;

/// Which translations to drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Everything but global pages.
    All,
    /// One address.
    Page(Vaddr),
}

/// The machine's memory: what a virtual CPU sees of it without its page tables,
/// and what a back end in the host does.
///
/// A machine address must lie in a frame for which [`Physical::is_ram`] holds;
/// implementations may stop the domain otherwise.
pub trait Physical {
    /// Whether the frame is memory that belongs to this virtual machine, the
    /// domain's or the hypervisor's heap.
    fn is_ram(&self, mfn: Mfn) -> bool;
    /// Loads the aligned word at `at` (acquire).
    fn load64(&self, at: Maddr) -> u64;
    /// Stores the aligned word at `at` (release).
    fn store64(&self, at: Maddr, value: u64);
    /// Atomically replaces `old` by `new`; `Err` holds what was found.
    ///
    /// # Errors
    /// The word found, when it was not `old`.
    fn cmpxchg64(&self, at: Maddr, old: u64, new: u64) -> Result<u64, u64>;
    /// The same on 32 bits.
    ///
    /// # Errors
    /// The word found, when it was not `old`.
    fn cmpxchg32(&self, at: Maddr, old: u32, new: u32) -> Result<u32, u32>;
    /// Loads the aligned 32-bit word at `at` (acquire).
    fn load32(&self, at: Maddr) -> u32;
    /// Stores the aligned 32-bit word at `at` (release).
    fn store32(&self, at: Maddr, value: u32);
    /// Atomically sets bits, returns the word before.
    fn fetch_or64(&self, at: Maddr, bits: u64) -> u64;
    /// Atomically clears the bits not in `bits`, returns the word before.
    fn fetch_and64(&self, at: Maddr, bits: u64) -> u64;
    /// Stores one byte.
    fn store8(&self, at: Maddr, value: u8);
    /// Loads one byte.
    fn load8(&self, at: Maddr) -> u8;
    /// Copies bytes of one frame out; `from` and its end lie in one frame.
    fn read_frame(&self, from: Maddr, to: &mut [u8]);
    /// Copies bytes into one frame; `to` and its end lie in one frame.
    fn write_frame(&self, to: Maddr, from: &[u8]);
}

/// One virtual CPU's view of the machine under the domain.
///
/// Guest memory is reached by copying only. A guest-virtual access goes
/// through the address space the virtual CPU is in; an address in the
/// emulator's own range, an unmapped or read-only one gives `EFAULT`.
pub trait Machine: Physical {
    /// Copies guest-virtual memory out.
    ///
    /// # Errors
    /// `EFAULT` when any byte cannot be read; `to` is then unspecified.
    fn copy_from_guest(&mut self, from: Vaddr, to: &mut [u8]) -> Result<(), Errno>;
    /// Copies into guest-virtual memory.
    ///
    /// # Errors
    /// `EFAULT` when any byte cannot be written; some may have been.
    fn copy_to_guest(&mut self, to: Vaddr, from: &[u8]) -> Result<(), Errno>;

    /// Copies a whole frame.
    fn copy_page(&mut self, to: Mfn, from: Mfn);
    /// Fills a frame with zero bytes.
    fn clear_page(&mut self, mfn: Mfn);
    /// Stores a page table entry. Apart from [`Physical::store64`] because a
    /// host process cannot do it behind a shadowing KVM's back.
    fn store_pte(&mut self, at: Maddr, value: u64);
    /// Compare-and-exchange of a page table entry.
    ///
    /// # Errors
    /// The entry found, when it was not `old`.
    fn cmpxchg_pte(&mut self, at: Maddr, old: u64, new: u64) -> Result<u64, u64>;
    /// Records `pfn` as the owner's number of `mfn` in the machine-to-physical
    /// table.
    fn set_m2p(&mut self, mfn: Mfn, pfn: u64);

    /// The entry of Xen's hole at a slot (256 to 271) of every top-level table.
    fn hole_entry(&self, slot: usize) -> u64;
    /// Loads the top-level page table of the address space to run next.
    fn load_cr3(&mut self, l4: Mfn);
    /// Drops translations of this virtual CPU.
    fn flush(&mut self, what: Flush);
    /// Drops translations of the virtual CPUs in the mask (bit n: vCPU n),
    /// and returns when it is done everywhere.
    fn flush_vcpus(&mut self, vcpus: u64, what: Flush);
    /// The time stamp counter.
    fn tsc(&self) -> u64;
    /// Arms this virtual CPU's timer for a time stamp, or disarms it. When it
    /// fires, the virtual CPU enters the library through
    /// [`crate::entry::timer`].
    fn set_timer(&mut self, deadline: Option<u64>);
    /// Makes another virtual CPU leave guest code, or wake, and pass through
    /// [`crate::entry::resume`].
    fn kick(&self, vcpu: usize);
    /// Whether the host has bound the other end of this port.
    fn host_bound(&self, port: u32) -> bool;
    /// Notifies the host's end of an event channel.
    fn notify_host(&self, port: u32);
    /// Tells the host that the domain has closed its end of a port the host had
    /// bound.
    fn unbind_host(&self, port: u32);
    /// Tells the host that frames hold nothing any more and may be given back.
    fn release_frames(&mut self, first: Mfn, count: u64);
    /// Writes to the hypervisor's console (`HYPERVISOR_console_io`).
    fn console_write(&mut self, text: &[u8]);

    /// Reads a segment base register as the guest's ring 3 sees it.
    fn base(&self, which: Base) -> u64;
    /// Loads a segment base register.
    fn set_base(&mut self, which: Base, value: u64);
    /// Loads a debug register (0-3, 6, 7), checked by the caller.
    fn set_debugreg(&mut self, nr: u32, value: u64);
    /// Reads debug register 6.
    fn debug_status(&self) -> u64;
    /// Sets or clears CR0.TS.
    fn set_task_switched(&mut self, on: bool);
    /// Loads the GS selector and tells the base its descriptor gives; the GS
    /// base in force stays as it is. `None` when the selector cannot be
    /// loaded; it is then null.
    fn load_gs_selector(&mut self, selector: u16) -> Option<u64>;
    /// The selectors in DS, ES, FS and GS.
    fn data_selectors(&self) -> [u16; 4];
    /// Puts the guest's descriptor table frames in place.
    fn load_gdt(&mut self, frames: &[Mfn], entries: u32);
    /// Puts a local descriptor table in place; no entries, no table.
    fn load_ldt(&mut self, frames: &[Mfn], entries: u32);
    /// Executes CPUID with the domain's policy.
    fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4];
    /// Has the host end the domain (`SHUTDOWN_watchdog`) when system time
    /// reaches `deadline` ns; 0 stops that. `id` is 0 or 1.
    fn watchdog(&mut self, id: usize, deadline: u64);
    /// Ends the domain's run. `reason` is a `SHUTDOWN_*`; the call may return,
    /// and the virtual CPU then does not run again.
    fn shutdown(&mut self, reason: u32);
    /// Whether the domain is at its end. A list in guest memory may be as long
    /// as its count says, and nobody should have to wait for the rest of it.
    fn is_ending(&self) -> bool {
        false
    }
    /// The guest broke a rule that Xen answers with `domain_crash`.
    fn crash(&mut self, why: &'static str, detail: u64);
}

/// A segment base register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// FS base.
    Fs,
    /// GS base of the running mode.
    Gs,
}
