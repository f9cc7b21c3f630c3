//! What a driver end needs of the machine it runs on. In one process with the guest's memory (KVM)
//! mapping a grant is a checked table look-up; on Xen it is gntdev and evtchn.

use xen_sys::GrantRef;
use xen_sys::errno::Errno;

use crate::SharedPage;

/// What a granted page is mapped for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only; the grant may be read-only.
    Read,
    /// Reading and writing; a read-only grant is refused.
    ReadWrite,
}

/// Maps pages that one front end's domain has granted. An instance belongs to that domain.
pub trait GrantMap {
    /// A mapped page; dropping it unmaps it. For I/O without a copy it is a
    /// [`HostPage`](crate::HostPage) too.
    type Page: SharedPage;

    /// Maps one granted page.
    ///
    /// # Errors
    /// The grant is unknown, not for this domain, or not for this access; or the host cannot map.
    /// A front end causes these at will: count them, do not log each.
    fn map(&self, gref: GrantRef, access: Access) -> Result<Self::Page, GrantError>;

    /// Maps several, in one step where the host can, and hands each to `each` in order. Pages that
    /// were mapped together may stay mapped until the last of them is dropped: drop all before
    /// telling the front end of any.
    fn map_many(
        &self,
        grefs: impl IntoIterator<Item = GrantRef>,
        access: Access,
        mut each: impl FnMut(Result<Self::Page, GrantError>),
    ) {
        for gref in grefs {
            each(self.map(gref, access));
        }
    }
}

/// Grants pages of a front end's own domain to its back end's: what a front end needs besides an
/// event channel. An instance belongs to that back end.
pub trait GrantAccess {
    /// A page of this domain's memory.
    type Page: SharedPage;

    /// Lets the back end map the page (`gnttab_grant_foreign_access`); `None` when the table is
    /// full. With [`Access::Read`] the back end can only read it.
    fn grant(&self, page: &Self::Page, access: Access) -> Option<GrantRef>;

    /// Takes a grant back (`gnttab_end_foreign_access`). `false`: the back end still maps the page,
    /// which must then not be used for anything else.
    #[must_use = "a page that is still mapped must not be used for anything else"]
    fn end(&self, gref: GrantRef) -> bool;
}

/// Why a grant could not be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The front end's grant does not permit it; the status is `GNTST_*`.
    #[error(
        "Grant {gref} cannot be mapped: {}",
        xen_sys::grant_table::gntst_message(*.status)
    )]
    Refused {
        /// The grant.
        gref: GrantRef,
        /// `GNTST_*`.
        status: i16,
    },
    /// The host failed.
    #[error("Grant {gref} cannot be mapped by the host")]
    Host {
        /// The grant.
        gref: GrantRef,
        /// The host's error.
        #[source]
        source: Errno,
    },
}

/// One end of an inter-domain event channel.
pub trait EventChannel {
    /// Tells the far end to look. Never blocks.
    ///
    /// # Errors
    /// The channel is closed or the host failed.
    fn notify(&self) -> Result<(), Errno>;
}

/// An event channel one can sleep on: a test guest's `SCHEDOP_block`, a thread's blocking read.
pub trait WaitChannel: EventChannel {
    /// Returns once the far end has notified since the last return; may return without.
    ///
    /// # Errors
    /// The channel is closed or the host failed.
    fn wait(&self) -> Result<(), Errno>;
}

impl<D> GrantAccess for D
where
    D: core::ops::Deref,
    D::Target: GrantAccess,
{
    type Page = <D::Target as GrantAccess>::Page;

    fn grant(&self, page: &Self::Page, access: Access) -> Option<GrantRef> {
        (**self).grant(page, access)
    }

    fn end(&self, gref: GrantRef) -> bool {
        (**self).end(gref)
    }
}

impl<D> EventChannel for D
where
    D: core::ops::Deref,
    D::Target: EventChannel,
{
    fn notify(&self) -> Result<(), Errno> {
        (**self).notify()
    }
}

impl<D> WaitChannel for D
where
    D: core::ops::Deref,
    D::Target: WaitChannel,
{
    fn wait(&self) -> Result<(), Errno> {
        (**self).wait()
    }
}
