//! `GNTTABOP_copy` and `GNTTABOP_transfer`.

use xen_sys::DomId;
use xen_sys::addr::{Maddr, Mfn, PAGE_SIZE};
use xen_sys::grant_table::*;
use xen_sys::xen::DOMID_SELF;

use super::entry::{Granted, Table, Use};
use crate::{Domain, Machine, memory};

/// One end of a copy, and whether it holds a grant.
struct End {
    area: Granted,
    /// Use bits to clear afterwards.
    pinned: u16,
    ptr: GnttabCopyPtr,
}

/// `GNTTABOP_copy`; gives the status.
pub(super) fn copy<M: Machine>(m: &mut M, d: &Domain, op: &GnttabCopy) -> i16 {
    let ends = [
        (&op.source, op.flags & GNTCOPY_source_gref != 0),
        (&op.dest, op.flags & GNTCOPY_dest_gref != 0),
    ];
    // Both domains are looked at before either page.
    for (ptr, by_gref) in ends {
        if ptr.domid != DOMID_SELF && !by_gref {
            return GNTST_permission_denied;
        }
        if ptr.domid != DOMID_SELF && ptr.domid.0 != d.config.domid && ptr.domid.0 != 0 {
            return GNTST_bad_domain;
        }
    }
    let [source, dest] = ends;
    // Mappings count uses, copies do not: both take the lock.
    let _grants = d.grant.lock();
    let table = Table::of(m, &d.config);
    let source = match claim(m, d, &table, source.0, source.1, false) {
        Ok(end) => end,
        Err(status) => return status,
    };
    let status = match claim(m, d, &table, dest.0, dest.1, true) {
        Ok(dest) => {
            let status = copy_between(m, &source, &dest, usize::from(op.len));
            dest.unclaim(m, &table);
            status
        }
        Err(status) => status,
    };
    source.unclaim(m, &table);
    status
}

fn claim<M: Machine>(
    m: &M,
    d: &Domain,
    table: &Table,
    ptr: &GnttabCopyPtr,
    by_gref: bool,
    write: bool,
) -> Result<End, i16> {
    if !by_gref {
        let mfn = Mfn(ptr.u);
        if !memory::is_owned(m, d, mfn) {
            return Err(GNTST_bad_page);
        }
        let area = Granted {
            mfn,
            offset: 0,
            len: PAGE_SIZE,
        };
        return Ok(End {
            area,
            pinned: 0,
            ptr: *ptr,
        });
    }
    if ptr.domid == DomId(0) {
        // Dom0 grants us nothing.
        return Err(GNTST_general_error);
    }
    let gref = ptr.gref();
    let before = if gref.0 < table.entries() {
        table.in_use(m, gref.0)
    } else {
        0
    };
    let me = DomId(d.config.domid);
    let area = table.pin(m, &d.config, gref, me, write, Use::Copy)?;
    let set = if write {
        GTF_reading | GTF_writing
    } else {
        GTF_reading
    };
    Ok(End {
        area,
        pinned: set & !before,
        ptr: *ptr,
    })
}

impl End {
    fn unclaim<M: Machine>(&self, m: &M, table: &Table) {
        if self.pinned != 0 {
            table.clear_use(m, self.ptr.gref().0, self.pinned);
        }
    }

    /// Whether a copy stays in what is granted.
    fn holds(&self, len: usize) -> bool {
        let (first, area) = (usize::from(self.ptr.offset), &self.area);
        first >= area.offset && first + len <= area.offset + area.len
    }

    fn address(&self, offset: usize) -> Maddr {
        Maddr(self.area.mfn.addr().0 + u64::from(self.ptr.offset) + offset as u64)
    }
}

fn copy_between<M: Machine>(m: &M, source: &End, dest: &End, len: usize) -> i16 {
    for end in [source, dest] {
        if usize::from(end.ptr.offset) + len > PAGE_SIZE {
            return GNTST_bad_copy_arg;
        }
    }
    if !source.holds(len) || !dest.holds(len) {
        return GNTST_general_error;
    }
    let mut bytes = [0; 256];
    let mut done = 0;
    while done < len {
        let piece = bytes.get_mut(..(len - done).min(256)).unwrap_or_default();
        m.read_frame(source.address(done), piece);
        m.write_frame(dest.address(done), piece);
        done += piece.len();
    }
    GNTST_okay
}

/// `GNTTABOP_transfer`; gives the status. There is no domain that would take
/// the page; by the ABI it is gone all the same.
pub(super) fn transfer<M: Machine>(m: &mut M, d: &Domain, op: &GnttabTransfer) -> i16 {
    if !memory::give_up(m, d, Mfn(op.mfn)) {
        return GNTST_bad_page;
    }
    if op.domid.0 == 0 || op.domid.0 == d.config.domid {
        GNTST_general_error
    } else {
        GNTST_bad_domain
    }
}
