use pv_ring::{Access, GrantAccess};
use xen_sys::GrantRef;

/// A page the back end may map; dropping it takes the grant back, if the back end does not use it
/// any more.
#[derive(Debug)]
pub struct LentPage<G: GrantAccess> {
    page: Option<G::Page>,
    gref: GrantRef,
    grants: G,
}

impl<G: GrantAccess> LentPage<G> {
    /// Lends a page; with [`Access::Read`] the back end can only read it. `None` when there are no
    /// grants left.
    pub fn new(grants: G, page: G::Page, access: Access) -> Option<Self> {
        let gref = grants.grant(&page, access)?;
        Some(Self {
            page: Some(page),
            gref,
            grants,
        })
    }

    /// The page.
    pub fn page(&self) -> &G::Page {
        self.page.as_ref().expect("only `take_back` takes it")
    }

    /// Its grant.
    pub fn gref(&self) -> GrantRef {
        self.gref
    }

    /// Takes the page back.
    ///
    /// # Errors
    /// The back end still maps it: here it is again.
    pub fn take_back(mut self) -> Result<G::Page, Self> {
        if !self.grants.end(self.gref) {
            return Err(self);
        }
        Ok(self.page.take().expect("taken once"))
    }
}

impl<G: GrantAccess> Drop for LentPage<G> {
    fn drop(&mut self) {
        if self.page.is_some() {
            // Still mapped: the grant stays, as it has to.
            let _still_mapped = !self.grants.end(self.gref);
        }
    }
}
