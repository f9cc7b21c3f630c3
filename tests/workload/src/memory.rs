//! Mappings: made, filled, protected, moved, copied on write, taken away.

use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::mman::{
    MRemapFlags, MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, mprotect, mremap, munmap,
};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::process::{exits_with, forked};
use crate::runner::Check;
use crate::{Context, Failure, checks, ensure};

pub const CHECKS: &[Check] = checks![
    anonymous_memory,
    many_mappings,
    copy_on_write,
    shared_memory,
    protection_faults_repaired,
    unmapped_is_gone,
    dropped_is_zero,
    moved_and_grown,
    deep_stack,
];

const PAGE: usize = 4096;
const MIB: usize = 1 << 20;

/// A mapping of whole pages, unmapped on drop.
struct Mapping {
    start: NonNull<libc::c_void>,
    length: usize,
}

impl Mapping {
    fn new(length: usize, flags: MapFlags) -> Result<Self, Failure> {
        let size = NonZeroUsize::new(length).ok_or("empty mapping")?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh mapping where the kernel likes.
        let start = unsafe { mmap_anonymous(None, size, protection, flags) }.context("mmap")?;
        Ok(Self { start, length })
    }

    fn private(length: usize) -> Result<Self, Failure> {
        Self::new(length, MapFlags::MAP_PRIVATE)
    }

    fn word(&self, offset: usize) -> *mut u64 {
        assert!(offset + 8 <= self.length);
        // SAFETY: within the mapping, as just checked.
        unsafe { self.start.as_ptr().byte_add(offset) }.cast()
    }

    fn set(&self, offset: usize, value: u64) {
        // SAFETY: `word` is within the mapping, which is writable.
        unsafe { self.word(offset).write_volatile(value) };
    }

    fn get(&self, offset: usize) -> u64 {
        // SAFETY: `word` is within the mapping, which is readable.
        unsafe { self.word(offset).read_volatile() }
    }

    fn protect(&self, protection: ProtFlags) -> Result<(), Failure> {
        // SAFETY: nothing but this type's users look at the mapping.
        unsafe { mprotect(self.start, self.length, protection) }.context("mprotect")
    }

    /// Writes each page's number and reads all back.
    fn fill_and_check(&self, salt: u64) -> Result<(), Failure> {
        for page in 0..self.length / PAGE {
            let before = self.get(page * PAGE);
            ensure!(before == 0, "page {page} is {before:#x} when new");
            self.set(page * PAGE + 8, page as u64 ^ salt);
        }
        self.check(salt)
    }

    fn check(&self, salt: u64) -> Result<(), Failure> {
        for page in 0..self.length / PAGE {
            let got = self.get(page * PAGE + 8);
            ensure!(got == page as u64 ^ salt, "page {page} holds {got:#x}");
        }
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this type's own. Nothing can be done about an
        // error, and none is possible for a range that was mapped.
        let _ = unsafe { munmap(self.start, self.length) };
    }
}

fn anonymous_memory() -> Result<(), Failure> {
    for round in 0..4 {
        Mapping::private(4 * MIB)?.fill_and_check(round)?;
    }
    Ok(())
}

/// Many small ones, far apart: page tables come and go.
fn many_mappings() -> Result<(), Failure> {
    let mut kept = Vec::new();
    for index in 0..64_u64 {
        // A hole of 64 MiB after each keeps them in page tables of their own.
        let hole = Mapping::new(64 * MIB, MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE)?;
        let mapping = Mapping::private(2 * PAGE)?;
        mapping.fill_and_check(index)?;
        hole.set(32 * MIB, index);
        kept.push((hole, mapping));
    }
    for (index, (hole, mapping)) in (0_u64..).zip(&kept) {
        mapping.check(index)?;
        ensure!(hole.get(32 * MIB) == index, "hole {index} lost its page");
    }
    Ok(())
}

fn copy_on_write() -> Result<(), Failure> {
    let mapping = Mapping::private(MIB)?;
    mapping.fill_and_check(1)?;
    for _ in 0..10 {
        let child = forked(|| {
            if mapping.check(1).is_err() {
                return 1;
            }
            (0..MIB / PAGE).for_each(|page| mapping.set(page * PAGE + 8, 0));
            i32::from((0..MIB / PAGE).any(|page| mapping.get(page * PAGE + 8) != 0)) * 2
        })?;
        exits_with(child, 0)?;
        mapping.check(1)?;
    }
    Ok(())
}

fn shared_memory() -> Result<(), Failure> {
    let mapping = Mapping::new(MIB, MapFlags::MAP_SHARED)?;
    let child = forked(|| i32::from(mapping.fill_and_check(9).is_err()))?;
    exits_with(child, 0)?;
    mapping.check(9)
}

static REPAIR_START: AtomicUsize = AtomicUsize::new(0);
static REPAIRED: AtomicUsize = AtomicUsize::new(0);

/// Makes the page that was written to writable, so that the store is done again.
extern "C" fn repair(_signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo; mprotect is a plain system
    // call, and its range is checked to be the check's own mapping.
    unsafe {
        let page = (*info).si_addr() as usize & !(PAGE - 1);
        let start = REPAIR_START.load(Ordering::SeqCst);
        if !(start..start + MIB).contains(&page) {
            libc::_exit(100);
        }
        libc::mprotect(
            page as *mut libc::c_void,
            PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
        );
    }
    REPAIRED.fetch_add(1, Ordering::SeqCst);
}

fn protection_faults_repaired() -> Result<(), Failure> {
    let mapping = Mapping::private(MIB)?;
    mapping.fill_and_check(3)?;
    REPAIR_START.store(mapping.start.as_ptr() as usize, Ordering::SeqCst);
    let action = SigAction::new(
        SigHandler::SigAction(repair),
        SaFlags::SA_SIGINFO,
        SigSet::empty(),
    );
    // SAFETY: the handler makes one system call and stores to atomics.
    unsafe { sigaction(Signal::SIGSEGV, &action) }.context("sigaction")?;
    for protection in [ProtFlags::PROT_READ, ProtFlags::PROT_NONE] {
        REPAIRED.store(0, Ordering::SeqCst);
        mapping.protect(protection)?;
        for page in 0..MIB / PAGE {
            mapping.set(page * PAGE + 8, page as u64 ^ 3);
        }
        let faults = REPAIRED.load(Ordering::SeqCst);
        ensure!(
            faults == MIB / PAGE,
            "{faults} faults for {} pages",
            MIB / PAGE
        );
    }
    mapping.check(3)
}

fn unmapped_is_gone() -> Result<(), Failure> {
    let mapping = Mapping::private(MIB)?;
    mapping.fill_and_check(5)?;
    let middle = mapping.word(MIB / 2);
    let start = NonNull::new(middle.cast::<libc::c_void>()).ok_or("null")?;
    // SAFETY: half of this check's own mapping, not used afterwards but to see
    // that it is gone.
    unsafe { munmap(start, MIB / 2) }.context("munmap")?;
    ensure!(mapping.get(8) == 5, "the other half changed");
    let child = forked(|| mapping.get(MIB / 2) as i32)?;
    let status = nix::sys::wait::waitpid(child, None).context("waitpid")?;
    let killed = matches!(
        status,
        nix::sys::wait::WaitStatus::Signaled(_, Signal::SIGSEGV, _)
    );
    ensure!(killed, "reading what was unmapped ended with {status:?}");
    Ok(())
}

fn dropped_is_zero() -> Result<(), Failure> {
    let mapping = Mapping::private(MIB)?;
    mapping.fill_and_check(7)?;
    // SAFETY: the mapping is this check's own; its content may go.
    unsafe { madvise(mapping.start, MIB, MmapAdvise::MADV_DONTNEED) }.context("madvise")?;
    for page in 0..MIB / PAGE {
        let got = mapping.get(page * PAGE + 8);
        ensure!(got == 0, "page {page} still holds {got:#x}");
    }
    Ok(())
}

fn moved_and_grown() -> Result<(), Failure> {
    let mut mapping = Mapping::private(MIB)?;
    mapping.fill_and_check(11)?;
    // SAFETY: the mapping is this check's own, and only its new place is used.
    mapping.start = unsafe {
        mremap(
            mapping.start,
            MIB,
            4 * MIB,
            MRemapFlags::MREMAP_MAYMOVE,
            None,
        )
    }
    .context("mremap")?;
    for page in 0..MIB / PAGE {
        let got = mapping.get(page * PAGE + 8);
        ensure!(
            got == page as u64 ^ 11,
            "page {page} holds {got:#x} after the move"
        );
    }
    mapping.length = 4 * MIB;
    ensure!(mapping.get(3 * MIB) == 0, "the new part is not zero");
    Ok(())
}

fn deep_stack() -> Result<(), Failure> {
    fn dive(depth: u64) -> u64 {
        let frame = std::hint::black_box([depth; 512]);
        if depth == 0 {
            frame[0]
        } else {
            dive(depth - 1) + u64::from(frame[511] == depth)
        }
    }
    let reached = dive(700);
    ensure!(reached == 700, "{reached} frames of 700 were right");
    Ok(())
}
