//! What outlives a back end that is killed: the requests it has taken and not answered.
//!
//! Answers come in any order and overwrite requests in the ring, so the ring alone does not say what
//! is left to do. Each request is noted in memory that others keep (a file in a `tmpfs`) before it
//! counts as taken, and struck out when its answer is the front end's to see. The stores are made in
//! an order such that a kill between any two of them leaves a state that tells everything:
//!
//! - A request that is noted and not counted lies in the ring still.
//! - An answer is noted, with its place among the answers, before it is written: it was given if the
//!   ring's index has passed that place, and else the request is done again, which the front end
//!   cannot tell from a slow disk: its pages are still lent for it.
//!
//! A kill is no power cut: the kernel sees all that the process has stored, in that order.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{Ordering, compiler_fence};

use pv_ring::{RingError, SharedPage};
use xen_sys::io::blkif::{BlkifRequest, BlkifResponse};
use zerocopy::{FromZeros, IntoBytes};

use crate::wire::{Abi, BackSlots};

/// Memory that outlives the process: zeroes at first, then what the journal left in it.
pub type JournalMemory = Box<dyn SharedPage + Send>;

const MAGIC: u32 = u32::from_le_bytes(*b"xtj1");

/// Offsets of the head.
const HEAD_MAGIC: usize = 0;
const HEAD_TAG: usize = 4;
const HEAD_TAKEN: usize = 8;
const HEAD: usize = 64;

/// Offsets in an entry.
const STATE: usize = 0;
const INDEX: usize = 4;
const ANSWER: usize = 8;
const REQUEST: usize = 16;
const ENTRY: usize = 128;
const _: () = assert!(REQUEST + size_of::<BlkifRequest>() <= ENTRY);

/// States of an entry.
const FREE: u32 = 0;
const LIVE: u32 = 1;
const ANSWERED: u32 = 2;

/// Bytes of memory for a ring of so many slots.
pub fn journal_size(slots: usize) -> usize {
    // What is in flight, and as many answers that are not published yet.
    HEAD + 2 * slots * ENTRY
}

/// What this process knows of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Free,
    /// Of the request of this `id`.
    Live(u64),
    /// Its answer is not published yet.
    Answered,
}

/// The journal of one ring.
struct Journal {
    memory: JournalMemory,
    /// By place.
    entries: Vec<Entry>,
    /// Places whose answers are not published yet.
    answered: Vec<usize>,
}

/// What a former back end has left to do.
#[derive(Default)]
struct Left {
    /// Requests it had taken.
    taken: u32,
    /// Those it had not answered, oldest first.
    requests: VecDeque<BlkifRequest>,
    entries: Vec<Entry>,
}

/// The back end's side of a ring, with a journal if there is memory for one.
pub(crate) struct JournaledSlots<P> {
    ring: BackSlots<P>,
    journal: Option<Journal>,
    /// Of a former back end, to be taken first.
    again: VecDeque<BlkifRequest>,
}

impl<P: SharedPage> JournaledSlots<P> {
    /// Takes over the back end's side where the page and the journal say it stands.
    pub(crate) fn attach(
        page: P,
        abi: Abi,
        memory: Option<JournalMemory>,
    ) -> Result<Self, RingError> {
        let mut left = None;
        let ring = BackSlots::attach(page, abi, |tag, answered| {
            left = recover(memory.as_ref()?, tag, answered);
            left.as_ref().map(|left: &Left| left.taken)
        })?;
        let enough = journal_size(ring.slots() as usize);
        let memory = memory.filter(|memory| memory.len() >= enough);
        let known = left.is_some();
        let left = left.unwrap_or_default();
        let mut journal = memory.map(|memory| Journal {
            entries: match known {
                true => left.entries,
                false => vec![Entry::Free; places(&memory)],
            },
            memory,
            answered: Vec::new(),
        });
        if let (Some(journal), false) = (&mut journal, known) {
            ring.set_tag(journal.begin(ring.taken()));
        }
        Ok(Self {
            ring,
            journal,
            again: left.requests,
        })
    }

    /// Whether there was a back end before, which may have died before it told the front end of its
    /// last answers.
    pub(crate) fn is_taken_over(&self) -> bool {
        self.ring.answered() != 0
    }

    pub(crate) fn slots(&self) -> u32 {
        self.ring.slots()
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.ring.in_flight()
    }

    pub(crate) fn pop(&mut self) -> Result<Option<BlkifRequest>, RingError> {
        if let Some(request) = self.again.pop_front() {
            return Ok(Some(request));
        }
        let request = self.ring.pop()?;
        if let (Some(request), Some(journal)) = (&request, &mut self.journal)
            && !journal.take(request, self.ring.taken())
        {
            // More answers than an honest front end leaves room for: it is on its own.
            journal.end();
            self.journal = None;
        }
        Ok(request)
    }

    pub(crate) fn push(&mut self, response: &BlkifResponse) -> Result<(), RingError> {
        if let Some(journal) = &mut self.journal {
            journal.answer(response.id, self.ring.answered());
        }
        self.ring.push(response)
    }

    pub(crate) fn publish(&mut self) -> bool {
        let notify = self.ring.publish();
        if let Some(journal) = &mut self.journal {
            journal.published();
        }
        notify
    }

    pub(crate) fn final_check(&mut self) -> Result<bool, RingError> {
        Ok(!self.again.is_empty() || self.ring.final_check()?)
    }
}

/// Where an entry is.
fn entry(place: usize) -> usize {
    HEAD + place * ENTRY
}

/// How many there are.
fn places(memory: &JournalMemory) -> usize {
    memory.len().saturating_sub(HEAD) / ENTRY
}

impl Journal {
    /// Forgets everything, for a ring that stands at `taken`; the number to know it by.
    fn begin(&mut self, taken: u32) -> u32 {
        let old = self.memory.load_u32(HEAD_TAG);
        self.memory.store_u32(HEAD_MAGIC, 0);
        for place in 0..self.entries.len() {
            self.memory.store_u32(entry(place) + STATE, FREE);
        }
        let random = RandomState::new().hash_one(std::process::id()) as u32;
        let tag = [random, random.wrapping_add(1), random.wrapping_add(2)];
        let tag = tag.into_iter().find(|tag| *tag != 0 && *tag != old);
        let tag = tag.unwrap_or(1);
        self.memory.store_u32(HEAD_TAG, tag);
        self.memory.store_u32(HEAD_TAKEN, taken);
        self.memory.store_u32(HEAD_MAGIC, MAGIC);
        tag
    }

    /// The memory says nothing any more.
    fn end(&mut self) {
        self.memory.store_u32(HEAD_MAGIC, 0);
    }

    /// Notes a request, by which `taken` are; false when there is no room.
    fn take(&mut self, request: &BlkifRequest, taken: u32) -> bool {
        let Some(place) = self.find(request.id, |entry| entry == Entry::Free) else {
            return false;
        };
        self.entries[place] = Entry::Live(request.id);
        let at = entry(place);
        self.memory.write(at + REQUEST, request.as_bytes());
        self.memory.store_u32(at + INDEX, taken.wrapping_sub(1));
        self.memory.store_u32(at + STATE, LIVE);
        self.memory.store_u32(HEAD_TAKEN, taken);
        true
    }

    /// The answer to a request is about to be written, as number `answer`.
    fn answer(&mut self, id: u64, answer: u32) {
        // Of a front end that uses an id twice, either: it harms itself.
        let Some(place) = self.find(id, |entry| entry == Entry::Live(id)) else {
            return;
        };
        let at = entry(place);
        self.memory.store_u32(at + ANSWER, answer);
        self.memory.store_u32(at + STATE, ANSWERED);
        self.answered.push(place);
        self.entries[place] = Entry::Answered;
        // Before the answer is in the ring.
        compiler_fence(Ordering::SeqCst);
    }

    /// The answers are the front end's.
    fn published(&mut self) {
        for place in self.answered.drain(..) {
            self.memory.store_u32(entry(place) + STATE, FREE);
            self.entries[place] = Entry::Free;
        }
    }

    /// Front ends number their requests by the slots of a ring, so that the first look hits.
    fn find(&self, id: u64, fits: impl Fn(Entry) -> bool) -> Option<usize> {
        let count = self.entries.len();
        let first = (id % count as u64) as usize;
        let mut places = (first..count).chain(0..first);
        places.find(|place| fits(self.entries[*place]))
    }
}

/// What a journal has of the ring that bears this number; `None` when it is of another one, or does
/// not agree with it.
fn recover(memory: &JournalMemory, tag: u32, answered: u32) -> Option<Left> {
    if places(memory) == 0
        || tag == 0
        || memory.load_u32(HEAD_MAGIC) != MAGIC
        || memory.load_u32(HEAD_TAG) != tag
    {
        return None;
    }
    let taken = memory.load_u32(HEAD_TAKEN);
    let mut entries = vec![Entry::Free; places(memory)];
    let mut requests = Vec::new();
    for (place, used) in entries.iter_mut().enumerate() {
        let at = entry(place);
        let state = memory.load_u32(at + STATE);
        let index = memory.load_u32(at + INDEX);
        // Whether the front end has the answer.
        let given = || (answered.wrapping_sub(memory.load_u32(at + ANSWER)) as i32) > 0;
        let counted = (taken.wrapping_sub(index) as i32) > 0;
        if state == LIVE && counted || state == ANSWERED && !given() {
            let mut request = BlkifRequest::new_zeroed();
            memory.read(at + REQUEST, request.as_mut_bytes());
            memory.store_u32(at + STATE, LIVE);
            *used = Entry::Live(request.id);
            requests.push((taken.wrapping_sub(index), request));
        } else {
            memory.store_u32(at + STATE, FREE);
        }
    }
    if requests.len() != taken.wrapping_sub(answered) as usize {
        return None;
    }
    requests.sort_by_key(|(age, _)| std::cmp::Reverse(*age));
    Some(Left {
        taken,
        requests: requests.into_iter().map(|(_, request)| request).collect(),
        entries,
    })
}

#[cfg(test)]
#[path = "journal_test.rs"]
mod tests;
