//! The guest's pages, mapped for a request or kept mapped (persistent grants).
//!
//! A front end that asks for persistent grants uses the same pages again and again, so they are
//! kept mapped, up to a number: a cache of sets, four ways each, found by the low bits of the
//! grant, the least recently used one of a set replaced. Linux gives out grants that are nearly
//! consecutive, for which this is as good as a perfect table; a front end that picks colliding
//! ones only slows itself down. Nothing here allocates after the start, besides the mapping.

use std::sync::Arc;

use pv_ring::host::GrantError;
use pv_ring::{Access, GrantMap};
use xen_sys::GrantRef;

use super::buffers::Lent;
use super::stats::QueueCounters;

const WAYS: usize = 4;

/// A page that is kept.
#[derive(Debug)]
struct Kept<P> {
    gref: GrantRef,
    page: Arc<P>,
    used: u64,
}

/// A queue's mappings.
#[derive(Debug)]
pub(crate) struct Grants<G: GrantMap> {
    map: G,
    /// Empty when pages are not kept. A power of two of sets.
    kept: Vec<[Option<Kept<G::Page>>; WAYS]>,
    clock: u64,
    count: u64,
}

impl<G: GrantMap> Grants<G> {
    /// Keeps up to `keep` pages, rounded up to a power of two; with 0 none.
    pub(crate) fn new(map: G, keep: usize) -> Self {
        let sets = match keep {
            0 => 0,
            keep => keep.div_ceil(WAYS).next_power_of_two(),
        };
        Self {
            map,
            kept: (0..sets).map(|_| [const { None }; WAYS]).collect(),
            clock: 0,
            count: 0,
        }
    }

    /// How many are kept.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// A page for a request. Pages that are kept are always mapped for writing: the next request
    /// may be one that does.
    pub(crate) fn get(
        &mut self,
        gref: GrantRef,
        access: Access,
        counters: &QueueCounters,
    ) -> Result<Lent<G::Page>, GrantError> {
        if self.kept.is_empty() {
            return self.map.map(gref, access).map(Lent::Once);
        }
        self.get_kept(gref, access, counters)
    }

    /// The same for several, each handed to `each` in order.
    #[inline]
    pub(crate) fn get_many(
        &mut self,
        grefs: impl IntoIterator<Item = GrantRef>,
        access: Access,
        counters: &QueueCounters,
        mut each: impl FnMut(Result<Lent<G::Page>, GrantError>),
    ) {
        if self.kept.is_empty() {
            let once = |page: Result<_, _>| each(page.map(Lent::Once));
            return self.map.map_many(grefs, access, once);
        }
        for gref in grefs {
            each(self.get_kept(gref, access, counters));
        }
    }

    fn get_kept(
        &mut self,
        gref: GrantRef,
        access: Access,
        counters: &QueueCounters,
    ) -> Result<Lent<G::Page>, GrantError> {
        self.clock += 1;
        let at = gref.0 as usize & (self.kept.len() - 1);
        let set = &mut self.kept[at];
        let hit = set.iter_mut().flatten().find(|kept| kept.gref == gref);
        if let Some(kept) = hit {
            kept.used = self.clock;
            counters.persistent_grant_hits.add(1);
            return Ok(Lent::Kept(kept.page.clone()));
        }
        counters.persistent_grant_misses.add(1);
        // A page in use by a request is not unmapped by forgetting it: it would count twice.
        let idle = |way: &&mut Option<Kept<G::Page>>| {
            way.as_ref()
                .is_none_or(|kept| Arc::strong_count(&kept.page) == 1)
        };
        let oldest = set
            .iter_mut()
            .filter(idle)
            .min_by_key(|way| way.as_ref().map_or(0, |kept| kept.used));
        let Some(way) = oldest else {
            return self.map.map(gref, access).map(Lent::Once);
        };
        let page = match self.map.map(gref, Access::ReadWrite) {
            Ok(page) => Arc::new(page),
            // Granted for reading only: good for this request, not for any.
            Err(_) if access == Access::Read => return self.map.map(gref, access).map(Lent::Once),
            Err(error) => return Err(error),
        };
        let new = Kept {
            gref,
            page: page.clone(),
            used: self.clock,
        };
        if way.replace(new).is_none() {
            self.count += 1;
        }
        Ok(Lent::Kept(page))
    }
}
