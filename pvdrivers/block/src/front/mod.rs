//! A front end for test guests: no `std`, no allocator, nothing waits unless asked to.
//!
//! The order of things, which is Linux' blkfront's: read the back end's offer
//! ([`BackFeatures::read`]); make the rings ([`FrontQueue::new`]) in pages lent to the back end
//! ([`LentPage`]); tell where they are ([`publish`]), state `Initialised`; when the back end is
//! `Connected`, read what disk it is ([`DiskInfo::read`]), state `Connected`. Then
//! [`FrontQueue::submit`] and [`FrontQueue::answer`].
//!
//! Persistent grants need nothing here: with the feature on, a lent page used again and again is
//! what they are.

mod lent;
mod nodes;
mod queue;

pub use lent::LentPage;
pub use nodes::{BackFeatures, DiskInfo, Offer, QueueNodes, publish};
pub use queue::{Answer, Command, Failure, FrontError, FrontQueue, IndirectPage, Segments};
