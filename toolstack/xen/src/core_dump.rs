//! Writing a domain's memory and registers to a file, as `xl dump-core` does.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::path::Path;

use nix::errno::Errno;
use pv_ring::SharedPage;
use xen_sys::DomId;
use xen_sys::arch_x86::ArchSharedInfo;
use xen_sys::domctl::{XEN_DOMINF_hvm_guest, XenDomctlGetdomaininfo};
use xen_sys::xen::SharedInfo;
use xt_corefile::{DumpSource, Frame, PAGE_SIZE, VCPU_CONTEXT_SIZE, XenVersion};
use xt_host::{HostError, Result};
use xt_host_xen::{Control, ForeignPages};
use zerocopy::IntoBytes;

use crate::{XenHost, failed};

/// Frames mapped at once.
const BATCH: usize = 1024;
/// Frame numbers in a page.
const IN_PAGE: usize = PAGE_SIZE / 8;
const PAGE_SHIFT: u32 = 12;
/// Of an entry of a page table, the frame's address.
const FRAME_BITS: u64 = 0x000f_ffff_ffff_f000;

impl XenHost {
    /// Writes a core file; the domain stands still meanwhile unless `live`.
    pub(crate) fn dump(&self, domid: DomId, file: File, path: &Path, live: bool) -> Result<()> {
        let info = self.domain_there(domid)?;
        if !live {
            self.control
                .pause_domain(domid)
                .map_err(failed("Cannot stop the domain"))?;
        }
        let written = Source::new(&self.control, info).and_then(|source| {
            let mut out = io::BufWriter::new(file);
            xt_corefile::write(&source, &mut out).map(drop)
        });
        if !live {
            self.control
                .unpause_domain(domid)
                .map_err(failed("Cannot let the domain go on"))?;
        }
        written.map_err(|source| {
            HostError::failed(format!("Cannot write the core file {path:?}"), source)
        })
    }
}

/// Xen's answers for a virtual CPU that has no registers yet, or is not there.
fn is_absent(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ENODATA | Errno::ESRCH))
}

struct Source<'a> {
    control: &'a Control,
    info: XenDomctlGetdomaininfo,
    version: XenVersion,
    frames: Vec<Frame>,
    /// The batch mapped last, by its first index.
    mapped: RefCell<Option<(usize, ForeignPages)>>,
}

impl<'a> Source<'a> {
    fn new(control: &'a Control, info: XenDomctlGetdomaininfo) -> io::Result<Self> {
        let privcmd = control.privcmd();
        let (version, build) = (privcmd.xen_version()?, privcmd.build_info()?);
        let version = XenVersion {
            major: version.major,
            minor: version.minor,
            extra: version.extra,
            compile_info: [
                build.compiler,
                build.compile_by,
                build.compile_domain,
                build.compile_date,
            ],
            capabilities: privcmd.capabilities()?,
            changeset: build.changeset,
            virt_start: build.virt_start,
        };
        let mut source = Self {
            control,
            info,
            version,
            frames: Vec::new(),
            mapped: RefCell::new(None),
        };
        source.frames = match source.is_translated() {
            true => source.own_frames()?,
            false => source.listed_frames()?,
        };
        Ok(source)
    }

    fn map(&self, frames: &[u64]) -> io::Result<ForeignPages> {
        self.control.map_foreign_to_read(self.info.domain, frames)
    }

    /// The frames an HVM or PVH domain has.
    fn own_frames(&self) -> io::Result<Vec<Frame>> {
        let last = self.control.maximum_gpfn(self.info.domain)?.0;
        let all: Vec<u64> = (0..=last).collect();
        let mut frames = Vec::new();
        for batch in all.chunks(BATCH) {
            let there = self.control.present_frames(self.info.domain, batch)?;
            frames.extend(there.into_iter().map(|pfn| Frame { pfn, gmfn: pfn }));
        }
        Ok(frames)
    }

    /// The frames of a PV domain, by the list that it keeps for its toolstack: an array in its own
    /// address space, or a page of frames of pages of frames of the list's
    /// pages. The domain may have written anything there: what is not its own cannot be mapped and is
    /// left out.
    fn listed_frames(&self) -> io::Result<Vec<Frame>> {
        let mut shared = [0; PAGE_SIZE];
        self.map(&[self.info.shared_info_frame])?
            .read(0, &mut shared);
        let word = |at: usize| {
            let bytes = shared[at..].first_chunk().copied();
            u64::from_le_bytes(bytes.unwrap_or_default())
        };
        let arch = offset_of!(SharedInfo, arch);
        let pages = word(arch + offset_of!(ArchSharedInfo, max_pfn));
        let pages = pages.min(self.info.max_pages.saturating_mul(16)) as usize;
        let lists = pages.div_ceil(IN_PAGE);
        let cr3 = word(arch + offset_of!(ArchSharedInfo, p2m_cr3));
        let bottom = if cr3 == 0 {
            let top = word(arch + offset_of!(ArchSharedInfo, pfn_to_mfn_frame_list_list));
            let middle = self.numbers(&[top], lists.div_ceil(IN_PAGE))?;
            self.numbers(&middle, lists)?
        } else {
            let at = word(arch + offset_of!(ArchSharedInfo, p2m_vaddr));
            self.mapped_frames(cr3 >> PAGE_SHIFT, at, lists)?
        };
        let list = self.numbers(&bottom, pages)?;
        let mut frames = Vec::new();
        for (batch, first) in list.chunks(BATCH).zip((0u64..).step_by(BATCH)) {
            let there = self.control.present_frames(self.info.domain, batch)?;
            let mut there = there.into_iter().peekable();
            for (gmfn, pfn) in batch.iter().copied().zip(first..) {
                if there.next_if_eq(&gmfn).is_some() {
                    frames.push(Frame { pfn, gmfn });
                }
            }
        }
        Ok(frames)
    }

    /// The frames behind `count` pages from the address `at` on, by the domain's page tables: newer
    /// kernels have the list as one array.
    fn mapped_frames(&self, top: u64, at: u64, count: usize) -> io::Result<Vec<u64>> {
        let mut tables: HashMap<u64, Vec<u64>> = HashMap::new();
        let mut frames = Vec::new();
        for page in 0..count as u64 {
            let address = at.wrapping_add(page << PAGE_SHIFT);
            let mut frame = top;
            for level in (0..4).rev() {
                let table = match tables.entry(frame) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => new.insert(self.numbers(&[frame], IN_PAGE)?),
                };
                let index = address >> (PAGE_SHIFT + 9 * level) & (IN_PAGE as u64 - 1);
                frame = (table[index as usize] & FRAME_BITS) >> PAGE_SHIFT;
            }
            frames.push(frame);
        }
        Ok(frames)
    }

    /// The first `count` numbers of those that fill these frames.
    fn numbers(&self, frames: &[u64], count: usize) -> io::Result<Vec<u64>> {
        let mut numbers = vec![0; count.div_ceil(IN_PAGE) * IN_PAGE];
        let used = &frames[..count.div_ceil(IN_PAGE).min(frames.len())];
        for (batch, out) in used.chunks(BATCH).zip(numbers.chunks_mut(BATCH * IN_PAGE)) {
            let len = batch.len() * IN_PAGE;
            self.map(batch)?.read(0, out[..len].as_mut_bytes());
        }
        numbers.truncate(count);
        Ok(numbers)
    }
}

impl DumpSource for Source<'_> {
    fn xen_version(&self) -> XenVersion {
        self.version.clone()
    }

    fn vcpu_contexts(&self) -> io::Result<Vec<Box<[u8; VCPU_CONTEXT_SIZE]>>> {
        let mut contexts = Vec::new();
        for vcpu in 0..self.info.max_vcpu_id.wrapping_add(1) {
            let context = match self.control.vcpu_context(self.info.domain, vcpu) {
                Ok(context) => context,
                // One that was never started has none.
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(error),
            };
            let mut bytes = Box::new([0; VCPU_CONTEXT_SIZE]);
            bytes.copy_from_slice(context.as_bytes());
            contexts.push(bytes);
        }
        Ok(contexts)
    }

    fn shared_info(&self) -> io::Result<Box<[u8; PAGE_SIZE]>> {
        let mut page = Box::new([0; PAGE_SIZE]);
        // A PVH domain has its own only once it has asked for it.
        match self.map(&[self.info.shared_info_frame]) {
            Ok(shared) => shared.read(0, &mut page[..]),
            Err(_) if self.is_translated() => {}
            Err(error) => return Err(error),
        }
        Ok(page)
    }

    fn is_translated(&self) -> bool {
        self.info.flags & XEN_DOMINF_hvm_guest != 0
    }

    fn frames(&self) -> Vec<Frame> {
        self.frames.clone()
    }

    fn read_page(&self, frame: Frame, page: &mut [u8; PAGE_SIZE]) -> io::Result<()> {
        let index = self
            .frames
            .binary_search_by_key(&frame.pfn, |there| there.pfn);
        let index = index.map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
        let first = index - index % BATCH;
        let mut mapped = self.mapped.borrow_mut();
        if mapped.as_ref().is_none_or(|(at, _)| *at != first) {
            let batch = &self.frames[first..(first + BATCH).min(self.frames.len())];
            let frames: Vec<u64> = batch.iter().map(|frame| frame.gmfn).collect();
            *mapped = Some((first, self.map(&frames)?));
        }
        if let Some((first, pages)) = mapped.as_ref() {
            pages.read((index - first) * PAGE_SIZE, page);
        }
        Ok(())
    }
}
