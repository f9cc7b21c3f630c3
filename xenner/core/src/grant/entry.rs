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

/// Where a domain's table lies and how large it is now.
#[derive(Clone, Copy)]
pub(super) struct Table {
    state: Maddr,
    shared: Maddr,
    status: Maddr,
    /// 1 or 2.
    pub version: u32,
    /// Frames in use.
    pub frames: u32,
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
    /// The state word is in memory, for the host to read too. Nothing in it
    /// makes the table larger than the host said.
    #[inline]
    pub fn of<M: Physical>(m: &M, config: &Config) -> Self {
        let state = Mfn(config.heap_base.0 + memory::bitmap_pages(config.ram_pages)).addr();
        let shared = Maddr(state.0 + PAGE_SIZE as u64);
        let status = Maddr(shared.0 + u64::from(config.max_grant_frames) * PAGE_SIZE as u64);
        let word = m.load64(state);
        let version = if word & STATE_V2 == 0 { 1 } else { 2 };
        let frames = ((word >> 32) as u32)
            .saturating_add(1)
            .min(config.max_grant_frames);
        Self {
            state,
            shared,
            status,
            version,
            frames,
        }
    }

    /// Makes version and size known.
    pub fn store<M: Physical>(&self, m: &M) {
        let version = if self.version == 2 { STATE_V2 } else { 0 };
        m.store64(
            self.state,
            version | u64::from(self.frames.max(1) - 1) << 32,
        );
    }

    pub fn shared_frame(&self, index: u32) -> Mfn {
        Mfn(self.shared.frame().0 + u64::from(index))
    }

    pub fn status_frame(&self, index: u32) -> Mfn {
        Mfn(self.status.frame().0 + u64::from(index))
    }

    /// Entries there are.
    pub fn entries(&self) -> u32 {
        self.frames * (PAGE_SIZE as u32 / self.entry_size())
    }

    pub fn entry_size(&self) -> u32 {
        if self.version == 1 { 8 } else { 16 }
    }

    pub fn entry(&self, gref: u32) -> Maddr {
        Maddr(self.shared.0 + u64::from(gref) * u64::from(self.entry_size()))
    }

    /// The aligned word that holds the use bits of an entry, and where in it.
    fn use_word(&self, gref: u32) -> (Maddr, u32) {
        if self.version == 1 {
            return (self.entry(gref), 0);
        }
        let at = self.status.0 + u64::from(gref) * 2;
        (Maddr(at & !7), (at & 6) as u32 * 8)
    }

    /// The `GTF_reading` and `GTF_writing` bits of an entry.
    pub fn in_use<M: Physical>(&self, m: &M, gref: u32) -> u16 {
        let (at, shift) = self.use_word(gref);
        (m.load64(at) >> shift) as u16 & (GTF_reading | GTF_writing)
    }

    /// Clears use bits.
    pub fn clear_use<M: Physical>(&self, m: &M, gref: u32, bits: u16) {
        let (at, shift) = self.use_word(gref);
        m.fetch_and64(at, !(u64::from(bits) << shift));
    }

    /// Sets use bits of version 2.
    pub fn set_use<M: Physical>(&self, m: &M, gref: u32, bits: u16) {
        let (at, shift) = self.use_word(gref);
        m.fetch_or64(at, u64::from(bits) << shift);
    }

    /// Checks that an entry grants `domid` the use, and marks it in use.
    ///
    /// The error is a `GNTST_*`; the entry is then as it was.
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

    /// What is granted, and the use bits that were not set before.
    #[inline]
    fn pin_v1<M: Physical>(
        &self,
        m: &M,
        gref: u32,
        domid: DomId,
        write: bool,
    ) -> Result<(Granted, u16), i16> {
        let at = self.entry(gref);
        for _ in 0..TRIES {
            let seen = m.load64(at);
            let set = permitted(seen as u32, domid, write, GTF_type_mask | GTF_sub_page)?;
            if m.cmpxchg64(at, seen, seen | u64::from(set)).is_ok() {
                let granted = Granted {
                    mfn: Mfn(seen >> 32),
                    offset: 0,
                    len: PAGE_SIZE,
                };
                return Ok((granted, set & !(seen as u16)));
            }
        }
        Err(GNTST_general_error)
    }

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

/// Looks a grant up for a back end in the host, and marks it in use.
///
/// `domid` is the back end's domain, 0. The caller keeps count of its own uses
/// of a grant and calls [`release_for_backend`] after the last. `config` must
/// be the host's own copy: everything else is guest memory.
///
/// # Errors
/// A `GNTST_*` as Xen's: `bad_gntref` beyond the table, `general_error` when
/// the entry does not grant this, `bad_page` for a frame that is not the
/// domain's.
#[inline]
pub fn lookup_for_backend<M: Physical>(
    m: &M,
    config: &Config,
    domid: DomId,
    gref: GrantRef,
    write: bool,
    kind: Use,
) -> Result<Granted, i16> {
    Table::of(m, config).pin(m, config, gref, domid, write, kind)
}

/// Ends a back end's use of a grant: all of it, or only the writing.
#[inline]
pub fn release_for_backend<M: Physical>(m: &M, config: &Config, gref: GrantRef, only_write: bool) {
    let table = Table::of(m, config);
    if gref.0 < table.entries() {
        let bits = if only_write {
            GTF_writing
        } else {
            GTF_reading | GTF_writing
        };
        table.clear_use(m, gref.0, bits);
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
