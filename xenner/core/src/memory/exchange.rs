//! `XENMEM_exchange`: giving extents and getting others of the same size.

use core::mem::offset_of;

use xen_sys::addr::{Mfn, Vaddr};
use xen_sys::errno::Errno;
use xen_sys::memory::*;

use super::bitmap::Bitmap;
use super::{MAX_ORDER, Memory, is_owned, limit_of};
use crate::misc::own_domain;
use crate::{Domain, Machine, Ret, guest};

/// Offset of `nr_exchanged` in `struct xen_memory_exchange`.
const NR_EXCHANGED: u64 = offset_of!(XenMemoryExchange, nr_exchanged) as u64;

/// `XENMEM_exchange`: gives extents and gets others of the same total size.
pub(super) fn exchange<M: Machine>(m: &mut M, d: &Domain, arg: Vaddr) -> Ret {
    let mut op: XenMemoryExchange = guest::get(m, arg)?;
    let result = exchange_all(m, d, &mut op);
    guest::put(m, Vaddr(arg.0.wrapping_add(NR_EXCHANGED)), &op.nr_exchanged)?;
    result
}

fn exchange_all<M: Machine>(m: &mut M, d: &Domain, op: &mut XenMemoryExchange) -> Ret {
    let (give, get) = (op.in_, op.out);
    let order = give.extent_order.max(get.extent_order);
    if order > MAX_ORDER {
        return Err(Errno::EPERM);
    }
    // More frames than there are would be the same ones again and again.
    let total = give.nr_extents.checked_mul(1 << give.extent_order);
    if op.nr_exchanged > give.nr_extents
        || give.domid != get.domid
        || total.is_none_or(|total| total > d.config.ram_pages)
        || total != get.nr_extents.checked_mul(1 << get.extent_order)
    {
        return Err(Errno::EINVAL);
    }
    own_domain(d, give.domid)?;
    let limit = limit_of(get.mem_flags).unwrap_or(0);
    let exchange = Exchange {
        give,
        get,
        order,
        limit,
    };
    let per_chunk = exchange.gives();
    let mut result = Ok(0);
    for chunk in op.nr_exchanged / per_chunk..give.nr_extents / per_chunk {
        op.nr_exchanged = chunk * per_chunk;
        let mut memory = d.memory.lock();
        exchange.take(m, d, &mut memory, chunk)?;
        exchange.obtain(m, d, &mut memory)?;
        // From here on the exchange has happened; a list that cannot be read
        // or written now is the guest's loss.
        exchange
            .hand_over(m, d, &memory, chunk)
            .unwrap_or_else(|error| result = Err(error));
    }
    op.nr_exchanged = give.nr_extents;
    result
}

/// An exchange, done chunk by chunk; a chunk is one extent of the larger of
/// the two orders.
struct Exchange {
    give: XenMemoryReservation,
    get: XenMemoryReservation,
    order: u32,
    limit: u64,
}

impl Exchange {
    /// Extents a chunk gives.
    fn gives(&self) -> u64 {
        1 << (self.order - self.give.extent_order)
    }

    /// Extents a chunk gets.
    fn gets(&self) -> u64 {
        1 << (self.order - self.get.extent_order)
    }

    /// Frees the frames of a chunk, and remembers them. They count among the
    /// free ones for what comes next, so that an exchange needs no spare
    /// memory.
    fn take<M: Machine>(
        &self,
        m: &mut M,
        d: &Domain,
        memory: &mut Memory,
        chunk: u64,
    ) -> Result<(), Errno> {
        let map = Bitmap::of(&d.config);
        let mut taken = 0;
        for index in chunk * self.gives()..(chunk + 1) * self.gives() {
            let at = guest::element::<u64>(self.give.extent_start.vaddr(), index);
            let first = guest::get::<u64>(m, at);
            for offset in 0..1 << self.give.extent_order {
                let mfn = first.map(|first| first.wrapping_add(offset));
                let mfn = mfn.and_then(|mfn| {
                    if is_owned(m, d, Mfn(mfn)) {
                        Ok(mfn)
                    } else {
                        Err(Errno::EINVAL)
                    }
                });
                match (mfn, memory.given.get_mut(taken)) {
                    (Ok(mfn), Some(slot)) => *slot = mfn,
                    (result, _) => {
                        self.put_back(m, d, memory, taken);
                        return result.and(Err(Errno::EINVAL));
                    }
                }
                map.mark(m, memory.given[taken], 1, false);
                taken += 1;
            }
        }
        Ok(())
    }

    /// Undoes [`Exchange::take`].
    fn put_back<M: Machine>(&self, m: &M, d: &Domain, memory: &Memory, taken: usize) {
        for mfn in memory.given.iter().take(taken) {
            Bitmap::of(&d.config).mark(m, *mfn, 1, true);
        }
    }

    /// Allocates a chunk's new extents.
    fn obtain<M: Machine>(&self, m: &M, d: &Domain, memory: &mut Memory) -> Result<(), Errno> {
        let map = Bitmap::of(&d.config);
        let size = 1 << self.get.extent_order;
        for index in 0..self.gets() as usize {
            let found = map.find(m, 0, self.get.extent_order, self.limit);
            let (Some(mfn), Some(slot)) = (found, memory.got.get_mut(index)) else {
                for mfn in memory.got.iter().take(index) {
                    map.mark(m, *mfn, size, false);
                }
                self.put_back(m, d, memory, 1 << self.order);
                return Err(Errno::ENOMEM);
            };
            map.mark(m, mfn, size, true);
            *slot = mfn;
        }
        memory.hint = 0;
        Ok(())
    }

    /// Tells the guest what it got, and the host what is free now.
    fn hand_over<M: Machine>(
        &self,
        m: &mut M,
        d: &Domain,
        memory: &Memory,
        chunk: u64,
    ) -> Result<(), Errno> {
        for mfn in memory.given.iter().take(1 << self.order) {
            crate::mmu::forget_table(m, d, Mfn(*mfn));
            m.set_m2p(Mfn(*mfn), INVALID_M2P_ENTRY);
            if !is_owned(m, d, Mfn(*mfn)) {
                m.release_frames(Mfn(*mfn), 1);
            }
        }
        let mut result = Ok(());
        for (index, mfn) in
            (chunk * self.gets()..).zip(memory.got.iter().take(self.gets() as usize))
        {
            let at = guest::element::<u64>(self.get.extent_start.vaddr(), index);
            let pfn = guest::get::<u64>(m, at);
            for offset in 0..1 << self.get.extent_order {
                m.clear_page(Mfn(mfn + offset));
                if let Ok(pfn) = pfn {
                    m.set_m2p(Mfn(mfn + offset), pfn.wrapping_add(offset));
                }
            }
            result = result.and(pfn).and_then(|_| guest::put(m, at, mfn));
        }
        result
    }
}
