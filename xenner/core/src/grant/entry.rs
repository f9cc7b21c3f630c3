//! The shared entries: reading one, and marking it in use.
//!
//! All of it is guest memory, and the guest may change it at any moment. An
//! entry is in use when its `GTF_reading` or `GTF_writing` bit is set; version
//! 1 keeps these beside the permission, so that one compare-and-exchange
//! checks the one and sets the other, version 2 in a page of its own, so that
//! the permission is checked once more after the bit is set.

use xen_sys::addr::{Maddr, Mfn, PAGE_SIZE};
use xen_sys::grant_table::*;
use xen_sys::{DomId, GrantRef};

use crate::domain::Config;
use crate::{Physical, memory};

/// What a grant is wanted for. Some are good for copies only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Mapping the frame.
    Map,
    /// Copying from or to it.
    Copy,
}

/// What a grant gives access to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The frame; the domain owned it when this was looked up.
    pub mfn: Mfn,
    /// First byte that may be used.
    pub offset: usize,
    /// Bytes from there on; they may reach beyond the frame's end.
    pub len: usize,
}

/// Where a domain's table lies, by its configuration alone.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    state: Maddr,
    shared: Maddr,
    status: Maddr,
    max_frames: u32,
}

impl Layout {
    /// `config` must be the host's own copy where the host asks: everything
    /// else is guest memory.
    #[inline]
    pub fn of(config: &Config) -> Self {
        let state = Mfn(config.heap_base.0 + memory::bitmap_pages(config.ram_pages)).addr();
        let shared = Maddr(state.0 + PAGE_SIZE as u64);
        Self {
            state,
            shared,
            status: Maddr(shared.0 + u64::from(config.max_grant_frames) * PAGE_SIZE as u64),
            max_frames: config.max_grant_frames,
        }
    }

    /// The table as it is now. The state word is in memory, for the host to
    /// read too. Nothing in it makes the table larger than the host said.
    #[inline]
    pub fn table<M: Physical>(&self, m: &M) -> Table {
        let word = m.load64(self.state);
        let version = if word & STATE_V2 == 0 { 1 } else { 2 };
        let frames = ((word >> 32) as u32).saturating_add(1).min(self.max_frames);
        Table {
            layout: *self,
            version,
            frames,
        }
    }
}

/// A domain's table: where it lies and how large it is now.
///
/// A back end in the host uses a grant by [`pin`](Self::pin), keeps count of its
/// own uses of it, and calls [`unpin`](Self::unpin) of the table as it is then
/// after the last.
#[derive(Clone, Copy)]
pub struct Table {
    layout: Layout,
    /// 1 or 2.
    pub(super) version: u32,
    /// Frames in use.
    pub(super) frames: u32,
}

/// Bit of the state word: version 2. The upper half holds the frames in use
/// beyond the first. All zero is a table at its start.
const STATE_V2: u64 = 1;

/// Frames of the heap for a table of `max_grant_frames`: the state, the table
/// and version 2's status frames.
pub const fn heap_pages(max_grant_frames: u32) -> u64 {
    1 + max_grant_frames as u64 + status_frames(max_grant_frames) as u64
}

/// Status frames that belong to so many frames of version 2: 256 entries to
/// one, 2048 status words to the other.
pub(super) const fn status_frames(frames: u32) -> u32 {
    frames.div_ceil(8)
}

/// How often an entry is tried that the guest keeps changing.
const TRIES: usize = 5;

/// Whether a frame is one of the grant table's, which the guest may map.
pub fn is_table_frame(config: &Config, mfn: Mfn) -> bool {
    let first = config.heap_base.0 + memory::bitmap_pages(config.ram_pages) + 1;
    (first..first - 1 + heap_pages(config.max_grant_frames)).contains(&mfn.0)
}

impl Table {
    /// As it is now.
    #[inline]
    pub(super) fn of<M: Physical>(m: &M, config: &Config) -> Self {
        Layout::of(config).table(m)
    }

    /// Makes version and size known.
    pub(super) fn store<M: Physical>(&self, m: &M) {
        let version = if self.version == 2 { STATE_V2 } else { 0 };
        m.store64(
            self.layout.state,
            version | u64::from(self.frames.max(1) - 1) << 32,
        );
    }

    pub(super) fn shared_frame(&self, index: u32) -> Mfn {
        Mfn(self.layout.shared.frame().0 + u64::from(index))
    }

    pub(super) fn status_frame(&self, index: u32) -> Mfn {
        Mfn(self.layout.status.frame().0 + u64::from(index))
    }

    /// Entries there are.
    #[inline]
    pub(super) fn entries(&self) -> u32 {
        self.frames * (PAGE_SIZE as u32 / self.entry_size())
    }

    #[inline]
    pub(super) fn entry_size(&self) -> u32 {
        if self.version == 1 { 8 } else { 16 }
    }

    #[inline]
    pub(super) fn entry(&self, gref: u32) -> Maddr {
        Maddr(self.layout.shared.0 + u64::from(gref) * u64::from(self.entry_size()))
    }

    /// The aligned word that holds the use bits of an entry, and where in it.
    #[inline]
    fn use_word(&self, gref: u32) -> (Maddr, u32) {
        if self.version == 1 {
            return (self.entry(gref), 0);
        }
        let at = self.layout.status.0 + u64::from(gref) * 2;
        (Maddr(at & !7), (at & 6) as u32 * 8)
    }

    /// The `GTF_reading` and `GTF_writing` bits of an entry.
    pub(super) fn in_use<M: Physical>(&self, m: &M, gref: u32) -> u16 {
        let (at, shift) = self.use_word(gref);
        (m.load64(at) >> shift) as u16 & (GTF_reading | GTF_writing)
    }

    /// Clears use bits.
    #[inline]
    pub(super) fn clear_use<M: Physical>(&self, m: &M, gref: u32, bits: u16) {
        let (at, shift) = self.use_word(gref);
        m.fetch_and64(at, !(u64::from(bits) << shift));
    }

    /// Sets use bits of version 2.
    pub(super) fn set_use<M: Physical>(&self, m: &M, gref: u32, bits: u16) {
        let (at, shift) = self.use_word(gref);
        m.fetch_or64(at, u64::from(bits) << shift);
    }

    /// Checks that an entry grants `domid` the use, and marks it in use.
    ///
    /// # Errors
    /// A `GNTST_*` as Xen's: `bad_gntref` beyond the table, `general_error` when
    /// the entry does not grant this, `bad_page` for a frame that is not the
    /// domain's. The entry is then as it was.
    #[inline]
    pub fn pin<M: Physical>(
        &self,
        m: &M,
        config: &Config,
        gref: GrantRef,
        domid: DomId,
        write: bool,
        kind: Use,
    ) -> Result<Granted, i16> {
        if gref.0 >= self.entries() {
            return Err(GNTST_bad_gntref);
        }
        let (granted, set) = if self.version == 1 {
            self.pin_v1(m, gref.0, domid, write)?
        } else {
            self.pin_v2(m, gref.0, domid, write, kind)?
        };
        if memory::frame_is_owned(m, config, granted.mfn) {
            return Ok(granted);
        }
        self.clear_use(m, gref.0, set);
        Err(GNTST_bad_page)
    }

    /// Ends a back end's use of a grant: all of it, or only the writing.
    #[inline]
    pub fn unpin<M: Physical>(&self, m: &M, gref: GrantRef, only_write: bool) {
        if gref.0 < self.entries() {
            let bits = if only_write {
                GTF_writing
            } else {
                GTF_reading | GTF_writing
            };
            self.clear_use(m, gref.0, bits);
        }
    }

    /// What is granted, and the use bits that were not set before.
    #[inline]
    fn pin_v1<M: Physical>(
        &self,
        m: &M,
        gref: u32,
        domid: DomId,
        write: bool,
    ) -> Result<(Granted, u16), i16> {
        match self.try_pin_v1(m, gref, domid, write)? {
            Some(pinned) => Ok(pinned),
            None => self.pin_changing_v1(m, gref, domid, write),
        }
    }

    /// The same of an entry that the guest keeps changing.
    #[cold]
    fn pin_changing_v1<M: Physical>(
        &self,
        m: &M,
        gref: u32,
        domid: DomId,
        write: bool,
    ) -> Result<(Granted, u16), i16> {
        for _ in 1..TRIES {
            if let Some(pinned) = self.try_pin_v1(m, gref, domid, write)? {
                return Ok(pinned);
            }
        }
        Err(GNTST_general_error)
    }

    /// `None`: the guest has changed the entry meanwhile.
    #[inline]
    fn try_pin_v1<M: Physical>(
        &self,
        m: &M,
        gref: u32,
        domid: DomId,
        write: bool,
    ) -> Result<Option<(Granted, u16)>, i16> {
        let at = self.entry(gref);
        let seen = m.load64(at);
        let set = permitted(seen as u32, domid, write, GTF_type_mask | GTF_sub_page)?;
        let taken = m.cmpxchg64(at, seen, seen | u64::from(set)).is_ok();
        let granted = Granted {
            mfn: Mfn(seen >> 32),
            offset: 0,
            len: PAGE_SIZE,
        };
        Ok(taken.then_some((granted, set & !(seen as u16))))
    }

    #[inline(never)]
    fn pin_v2<M: Physical>(
        &self,
        m: &M,
        gref: u32,
        domid: DomId,
        write: bool,
        kind: Use,
    ) -> Result<(Granted, u16), i16> {
        let at = self.entry(gref);
        // Part of a page may be copied, not mapped. Transitive grants name a
        // third domain, and there is none.
        let mask = if kind == Use::Map {
            GTF_type_mask | GTF_sub_page
        } else {
            GTF_type_mask
        };
        let before = self.in_use(m, gref);
        let set = permitted(m.load32(at), domid, write, mask)?;
        self.set_use(m, gref, set);
        let set = set & !before;
        let header = m.load32(at);
        if let Err(status) = permitted(header, domid, write, mask) {
            self.clear_use(m, gref, set);
            return Err(status);
        }
        let mfn = Mfn(m.load64(Maddr(at.0 + 8)));
        if header as u16 & GTF_sub_page == 0 {
            let granted = Granted {
                mfn,
                offset: 0,
                len: PAGE_SIZE,
            };
            return Ok((granted, set));
        }
        let part = m.load32(Maddr(at.0 + 4));
        let granted = Granted {
            mfn,
            offset: part as usize & 0xffff,
            len: part as usize >> 16,
        };
        Ok((granted, set))
    }
}

/// Whether a header (flags below, domain above) permits the access: then the
/// use bits to set.
#[inline]
fn permitted(header: u32, domid: DomId, write: bool, mask: u16) -> Result<u16, i16> {
    let (flags, grantee) = (header as u16, (header >> 16) as u16);
    if flags & mask != GTF_permit_access || grantee != domid.0 {
        return Err(GNTST_general_error);
    }
    match (write, flags & GTF_readonly != 0) {
        (false, _) => Ok(GTF_reading),
        (true, false) => Ok(GTF_reading | GTF_writing),
        (true, true) => Err(GNTST_general_error),
    }
}

/// Fills in the entries that the toolstack reserves: the console ring and the
/// xenstore ring, for dom0. The heap must be clear.
pub fn init_reserved<M: Physical>(m: &M, config: &Config, console: Mfn, xenstore: Mfn) {
    let table = Table::of(m, config);
    for (gref, mfn) in [
        (GNTTAB_RESERVED_CONSOLE, console),
        (GNTTAB_RESERVED_XENSTORE, xenstore),
    ] {
        m.store64(
            table.entry(gref),
            u64::from(GTF_permit_access) | mfn.0 << 32,
        );
    }
}
