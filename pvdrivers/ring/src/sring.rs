//! The request/response ring of `io/ring.h`: the front end produces requests, the back end answers
//! each in the slots they came in.
//!
//! An end that has nothing to do sets its event index and looks once more
//! ([`FrontRing::final_check`], [`BackRing::final_check`]); an end that publishes reads the other's
//! event index after its own index ([`FrontRing::publish`], [`BackRing::publish`]). The full fence
//! in each of the two is the other's partner: at least one of them sees the other's store.

use core::marker::PhantomData;
use core::sync::atomic::{Ordering, fence};

use xen_sys::io::ring::{
    SRING_REQ_EVENT, SRING_REQ_PROD, SRING_RING, SRING_RSP_EVENT, SRING_RSP_PROD, SringHeader,
    ring_slots,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{RingError, SharedPage};

/// What can lie in a slot.
pub trait Slot: FromBytes + IntoBytes + Immutable {}
impl<T: FromBytes + IntoBytes + Immutable> Slot for T {}

/// Page and geometry, the same for both ends.
#[derive(Debug)]
struct Sring<P, Req, Rsp> {
    page: P,
    slots: u32,
    types: PhantomData<fn() -> (Req, Rsp)>,
}

impl<P: SharedPage, Req: Slot, Rsp: Slot> Sring<P, Req, Rsp> {
    /// Bytes of a slot: `sizeof(union { Req; Rsp })`.
    const SLOT: usize = {
        let size = max(size_of::<Req>(), size_of::<Rsp>());
        size.next_multiple_of(max(align_of::<Req>(), align_of::<Rsp>()))
    };

    fn new(page: P) -> Result<Self, RingError> {
        let have = page.len();
        match ring_slots(have, Self::SLOT) {
            0 => Err(RingError::TooSmall {
                need: SRING_RING + Self::SLOT,
                have,
            }),
            slots => Ok(Self {
                page,
                slots: slots as u32,
                types: PhantomData,
            }),
        }
    }

    fn offset(&self, index: u32) -> usize {
        SRING_RING + (index & (self.slots - 1)) as usize * Self::SLOT
    }

    /// Whether a slot's content is copied word by word. For the few words of a small one that takes
    /// a tenth of the instructions that a copy of any bytes at any place does.
    const fn in_words<T>() -> bool {
        size_of::<T>() <= 16 && size_of::<T>().is_multiple_of(4) && Self::SLOT.is_multiple_of(4)
    }

    /// Copies the slot at `index` out, once.
    #[inline]
    fn read<T: Slot>(&self, index: u32) -> T {
        let mut value = T::new_zeroed();
        let offset = self.offset(index);
        if !Self::in_words::<T>() {
            self.page.read(offset, value.as_mut_bytes());
            return value;
        }
        let (words, _) = value.as_mut_bytes().as_chunks_mut::<4>();
        for (n, word) in words.iter_mut().enumerate() {
            *word = self.page.load_u32(offset + 4 * n).to_le_bytes();
        }
        value
    }

    #[inline]
    fn write<T: Slot>(&self, index: u32, value: &T) {
        let offset = self.offset(index);
        if !Self::in_words::<T>() {
            self.page.write(offset, value.as_bytes());
            return;
        }
        let (words, _) = value.as_bytes().as_chunks::<4>();
        for (n, word) in words.iter().enumerate() {
            self.page
                .store_u32(offset + 4 * n, u32::from_le_bytes(*word));
        }
    }

    /// How many of the far end's items wait: those between `ours` and the producer index at
    /// `prod`. They may not exceed `limit`, what this end has outstanding for them.
    fn waiting(&self, prod: usize, ours: u32, limit: u32) -> Result<u32, RingError> {
        // Acquire: pairs with the far end's release of its producer index, the slots are written.
        let theirs = self.page.load_u32(prod);
        let waiting = theirs.wrapping_sub(ours);
        if waiting > limit {
            return Err(RingError::OutOfBounds {
                theirs,
                ours,
                size: self.slots,
            });
        }
        Ok(waiting)
    }

    /// Moves the producer index at `prod` from `old` to `new`; whether the far end asked, at
    /// `event`, to be notified of that.
    fn publish(&self, prod: usize, event: usize, old: u32, new: u32) -> bool {
        // Release: the slots are written before the far end sees the index.
        self.page.store_u32(prod, new);
        // Partner: `ask`. Our index is visible before we read the far end's wish.
        fence(Ordering::SeqCst);
        let event = self.page.load_u32(event);
        new.wrapping_sub(event) < new.wrapping_sub(old)
    }

    /// Asks to be notified of the item at `next`.
    fn ask(&self, event: usize, next: u32) {
        self.page.store_u32(event, next.wrapping_add(1));
        // Partner: `publish`. Our wish is visible before we look once more.
        fence(Ordering::SeqCst);
    }
}

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// The front end's side: sends requests, receives responses.
#[derive(Debug)]
pub struct FrontRing<P, Req, Rsp> {
    ring: Sring<P, Req, Rsp>,
    /// Requests written, published or not.
    req_prod_pvt: u32,
    /// Requests published.
    req_prod: u32,
    rsp_cons: u32,
}

impl<P: SharedPage, Req: Slot, Rsp: Slot> FrontRing<P, Req, Rsp> {
    /// Makes an empty ring in the page (`XEN_FRONT_RING_INIT`).
    ///
    /// # Errors
    /// [`RingError::TooSmall`].
    pub fn init(page: P) -> Result<Self, RingError> {
        let ring = Sring::new(page)?;
        let header = SringHeader {
            req_event: 1,
            rsp_event: 1,
            ..Default::default()
        };
        ring.page.write(0, header.as_bytes());
        Ok(Self {
            ring,
            req_prod_pvt: 0,
            req_prod: 0,
            rsp_cons: 0,
        })
    }

    /// Slots of the ring.
    pub fn slots(&self) -> u32 {
        self.ring.slots
    }

    /// Requests that can be pushed now (`RING_FREE_REQUESTS`).
    pub fn free(&self) -> u32 {
        self.ring.slots - self.outstanding()
    }

    fn outstanding(&self) -> u32 {
        self.req_prod_pvt.wrapping_sub(self.rsp_cons)
    }

    /// Writes a request, not yet visible to the back end.
    ///
    /// # Errors
    /// [`RingError::Full`].
    pub fn push(&mut self, request: &Req) -> Result<(), RingError> {
        if self.free() == 0 {
            return Err(RingError::Full);
        }
        self.ring.write(self.req_prod_pvt, request);
        self.req_prod_pvt = self.req_prod_pvt.wrapping_add(1);
        Ok(())
    }

    /// Makes the pushed requests visible; whether to notify the back end
    /// (`RING_PUSH_REQUESTS_AND_CHECK_NOTIFY`).
    #[must_use = "the back end sleeps until notified"]
    pub fn publish(&mut self) -> bool {
        let old = core::mem::replace(&mut self.req_prod, self.req_prod_pvt);
        self.ring
            .publish(SRING_REQ_PROD, SRING_REQ_EVENT, old, self.req_prod_pvt)
    }

    /// Responses that wait.
    ///
    /// # Errors
    /// [`RingError::OutOfBounds`]: more responses than published requests.
    pub fn waiting(&self) -> Result<u32, RingError> {
        let limit = self.req_prod.wrapping_sub(self.rsp_cons);
        self.ring.waiting(SRING_RSP_PROD, self.rsp_cons, limit)
    }

    /// Takes the next response.
    ///
    /// # Errors
    /// As [`waiting`](Self::waiting).
    pub fn pop(&mut self) -> Result<Option<Rsp>, RingError> {
        if self.waiting()? == 0 {
            return Ok(None);
        }
        let response = self.ring.read(self.rsp_cons);
        self.rsp_cons = self.rsp_cons.wrapping_add(1);
        Ok(Some(response))
    }

    /// Asks to be notified of the next response; whether one came meanwhile, so that this end must
    /// not sleep (`RING_FINAL_CHECK_FOR_RESPONSES`).
    ///
    /// # Errors
    /// As [`waiting`](Self::waiting).
    pub fn final_check(&mut self) -> Result<bool, RingError> {
        self.final_check_for(1)
    }

    /// As [`final_check`](Self::final_check), but asks for `count` responses, 1 or more: fewer
    /// notifications for an end that can do without some. No more than are outstanding will come.
    ///
    /// # Errors
    /// As [`waiting`](Self::waiting).
    pub fn final_check_for(&mut self, count: u32) -> Result<bool, RingError> {
        if self.waiting()? >= count {
            return Ok(true);
        }
        let last = self.rsp_cons.wrapping_add(count.max(1) - 1);
        self.ring.ask(SRING_RSP_EVENT, last);
        Ok(self.waiting()? >= count)
    }
}

/// The back end's side: receives requests, sends responses.
#[derive(Debug)]
pub struct BackRing<P, Req, Rsp> {
    ring: Sring<P, Req, Rsp>,
    /// Responses written, published or not.
    rsp_prod_pvt: u32,
    /// Responses published.
    rsp_prod: u32,
    req_cons: u32,
    /// How many requests were taken, as far as the page tells; `None`: it is not to tell.
    noted: Option<u32>,
}

/// A note of the back end's in the padding before the slots, which front ends clear with the ring
/// and use for nothing (`struct sring`): a number by which the back end knows the ring again if it
/// wants to, a mark that says that the note is there, and then how many requests were taken when
/// the last response was written.
const NOTE_TAG: usize = SRING_RING - 12;
const NOTE_MARK: usize = SRING_RING - 8;
const NOTE_TAKEN: usize = SRING_RING - 4;
const MARK: u32 = u32::from_le_bytes(*b"xtbk");

impl<P: SharedPage, Req: Slot, Rsp: Slot> BackRing<P, Req, Rsp> {
    /// Takes over the back end's side where the page says it stands: at the last response. Requests
    /// that a former back end took and did not answer are taken again.
    ///
    /// # Errors
    /// [`RingError::TooSmall`]; [`RingError::OutOfBounds`] when more requests wait than there are
    /// slots.
    pub fn attach(page: P) -> Result<Self, RingError> {
        let ring = Sring::new(page)?;
        let rsp_prod = ring.page.load_u32(SRING_RSP_PROD);
        ring.waiting(SRING_REQ_PROD, rsp_prod, ring.slots)?;
        Ok(Self {
            ring,
            rsp_prod_pvt: rsp_prod,
            rsp_prod,
            req_cons: rsp_prod,
            noted: None,
        })
    }

    /// As [`attach`](Self::attach), for a ring that is to outlive its back end: a note is kept in the
    /// page, and a former one heeded.
    ///
    /// Responses come in any order and overwrite requests. So when a back end is killed with
    /// responses written to some of the requests it has taken, what is left in the ring is not
    /// what is unanswered: to take it again could do what was done and lose what was not. Where all
    /// that was taken is answered, or no response was written since, the ring is as good as any.
    ///
    /// A front end can forge the note, for its own harm.
    ///
    /// # Errors
    /// As [`attach`](Self::attach); [`RingError::Abandoned`].
    pub fn attach_noting(page: P) -> Result<Self, RingError> {
        Self::attach_knowing(page, |_, _| None)
    }

    /// As [`attach_noting`](Self::attach_noting), for a back end that may remember the ring: `known`
    /// is given the number that [`set_tag`](Self::set_tag) left in it, 0 if none, and how many
    /// requests were answered. What it gives back is how many had been taken; those that were not
    /// answered will not be taken again here, but answered as if they had.
    ///
    /// # Errors
    /// As [`attach_noting`](Self::attach_noting); [`RingError::OutOfBounds`] when more are said to have
    /// been taken than there can be.
    pub fn attach_knowing(
        page: P,
        known: impl FnOnce(u32, u32) -> Option<u32>,
    ) -> Result<Self, RingError> {
        let mut back = Self::attach(page)?;
        let page = &back.ring.page;
        if let Some(taken) = known(page.load_u32(NOTE_TAG), back.rsp_prod) {
            let published = page.load_u32(SRING_REQ_PROD).wrapping_sub(back.rsp_prod);
            if taken.wrapping_sub(back.rsp_prod) > published {
                return Err(RingError::OutOfBounds {
                    theirs: back.rsp_prod,
                    ours: taken,
                    size: back.ring.slots,
                });
            }
            // For a back end that does not remember: the ring does not hold all that is unanswered.
            page.store_u32(NOTE_TAKEN, taken);
            page.store_u32(NOTE_MARK, MARK);
            back.req_cons = taken;
            back.noted = Some(taken);
            return Ok(back);
        }
        let left = page.load_u32(NOTE_TAKEN).wrapping_sub(back.rsp_prod);
        let noted = page.load_u32(NOTE_MARK) == MARK;
        if noted && (1..=back.ring.slots).contains(&left) {
            return Err(RingError::Abandoned);
        }
        page.store_u32(NOTE_TAKEN, back.rsp_prod);
        page.store_u32(NOTE_MARK, MARK);
        back.noted = Some(back.rsp_prod);
        Ok(back)
    }

    /// Slots of the ring.
    pub fn slots(&self) -> u32 {
        self.ring.slots
    }

    /// Leaves a number in the page by which a back end can know the ring again.
    pub fn set_tag(&self, tag: u32) {
        self.ring.page.store_u32(NOTE_TAG, tag);
    }

    /// Requests taken since the ring was made, modulo 2^32.
    pub fn taken(&self) -> u32 {
        self.req_cons
    }

    /// Responses written since the ring was made, published or not, modulo 2^32.
    pub fn answered(&self) -> u32 {
        self.rsp_prod_pvt
    }

    /// Requests taken and not yet answered.
    pub fn in_flight(&self) -> u32 {
        self.req_cons.wrapping_sub(self.rsp_prod_pvt)
    }

    /// Requests that wait.
    ///
    /// # Errors
    /// [`RingError::OutOfBounds`]: more requests than free slots (`RING_REQUEST_PROD_OVERFLOW`).
    pub fn waiting(&self) -> Result<u32, RingError> {
        let limit = self.ring.slots - self.in_flight();
        self.ring.waiting(SRING_REQ_PROD, self.req_cons, limit)
    }

    /// Takes the next request: a copy, the front end cannot change it any more.
    ///
    /// # Errors
    /// As [`waiting`](Self::waiting).
    pub fn pop(&mut self) -> Result<Option<Req>, RingError> {
        if self.waiting()? == 0 {
            return Ok(None);
        }
        let request = self.ring.read(self.req_cons);
        self.req_cons = self.req_cons.wrapping_add(1);
        Ok(Some(request))
    }

    /// Asks to be notified of the next request; whether one came meanwhile, so that this end must
    /// not sleep (`RING_FINAL_CHECK_FOR_REQUESTS`).
    ///
    /// # Errors
    /// As [`waiting`](Self::waiting).
    pub fn final_check(&mut self) -> Result<bool, RingError> {
        if self.waiting()? > 0 {
            return Ok(true);
        }
        self.ring.ask(SRING_REQ_EVENT, self.req_cons);
        Ok(self.waiting()? > 0)
    }

    /// Writes a response, not yet visible to the front end.
    ///
    /// # Errors
    /// [`RingError::Full`] when no request is in flight.
    pub fn push(&mut self, response: &Rsp) -> Result<(), RingError> {
        if self.in_flight() == 0 {
            return Err(RingError::Full);
        }
        // Before the response: from now on the ring does not hold all that is unanswered.
        if self.noted.is_some_and(|noted| noted != self.req_cons) {
            self.ring.page.store_u32(NOTE_TAKEN, self.req_cons);
            self.noted = Some(self.req_cons);
        }
        self.ring.write(self.rsp_prod_pvt, response);
        self.rsp_prod_pvt = self.rsp_prod_pvt.wrapping_add(1);
        Ok(())
    }

    /// Responses pushed and not yet visible.
    pub fn unpublished(&self) -> u32 {
        self.rsp_prod_pvt.wrapping_sub(self.rsp_prod)
    }

    /// Makes the pushed responses visible; whether to notify the front end
    /// (`RING_PUSH_RESPONSES_AND_CHECK_NOTIFY`).
    #[must_use = "the front end sleeps until notified"]
    pub fn publish(&mut self) -> bool {
        let old = core::mem::replace(&mut self.rsp_prod, self.rsp_prod_pvt);
        self.ring
            .publish(SRING_RSP_PROD, SRING_RSP_EVENT, old, self.rsp_prod_pvt)
    }
}

#[cfg(test)]
#[path = "sring_test.rs"]
mod tests;
