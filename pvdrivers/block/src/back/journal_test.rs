//! A back end that is killed after every number of stores there is.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use pv_ring::{FrontRing, WordPage};

use super::*;

const SLOTS: usize = 32;
const REQUESTS: u64 = 90;
/// Words of a journal for such a ring.
const WORDS: usize = 2064;
const _: () = assert!(WORDS * 4 == HEAD + 2 * SLOTS * ENTRY);

/// How many stores a process may still make.
#[derive(Clone)]
struct Life(Arc<AtomicUsize>);

impl Life {
    fn of(stores: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(stores)))
    }

    fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// Whether the next store is made.
    fn step(&self) -> bool {
        let next = |left: usize| left.checked_sub(1);
        let before = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        before.is_ok_and(|before| before > 1)
    }
}

/// Memory as a process that may die sees it.
struct Mortal<const N: usize>(Arc<WordPage<N>>, Life);

impl<const N: usize> SharedPage for Mortal<N> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn load_u32(&self, offset: usize) -> u32 {
        self.0.load_u32(offset)
    }

    fn store_u32(&self, offset: usize, value: u32) {
        if self.1.step() {
            self.0.store_u32(offset, value);
        }
    }

    fn read(&self, offset: usize, to: &mut [u8]) {
        self.0.read(offset, to);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        for (at, chunk) in (offset..).step_by(8).zip(from.chunks(8)) {
            if self.1.step() {
                self.0.write(at, chunk);
            }
        }
    }
}

/// The guest, the disk, and the memory that outlives back ends.
struct World {
    ring: Arc<WordPage>,
    journal: Arc<WordPage<WORDS>>,
    front: FrontRing<Arc<WordPage>, BlkifRequest, BlkifResponse>,
    /// What each `id` is used for.
    asked: HashMap<u64, u64>,
    next: u64,
    carried_out: Vec<u32>,
    answered: u64,
    random: u64,
}

impl World {
    fn new() -> Self {
        let ring = Arc::new(WordPage::new());
        Self {
            front: FrontRing::init(ring.clone()).unwrap(),
            ring,
            journal: Arc::default(),
            asked: HashMap::new(),
            next: 0,
            carried_out: vec![0; REQUESTS as usize],
            answered: 0,
            random: 1,
        }
    }

    fn below(&mut self, n: usize) -> usize {
        self.random = self
            .random
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1);
        (self.random >> 33) as usize % n
    }

    /// The guest asks for more and takes its answers.
    fn guest(&mut self) {
        while let Some(answer) = self.front.pop().unwrap() {
            let serial = self.asked.remove(&answer.id).expect("it was asked for");
            assert_eq!(answer.status, serial as i16, "another request's answer");
            assert!(
                self.carried_out[serial as usize] > 0,
                "{serial} is not done"
            );
            self.answered += 1;
        }
        for _ in 0..self.below(12) {
            if self.front.free() == 0 || self.next == REQUESTS {
                break;
            }
            let id = (0..).find(|id| !self.asked.contains_key(id)).unwrap();
            self.asked.insert(id, self.next);
            let mut request = BlkifRequest::new_zeroed();
            (request.id, request.sector_number) = (id, self.next);
            self.front.push(&request).unwrap();
            self.next += 1;
        }
        let _ = self.front.publish();
    }

    /// A back end of so many stores lives and dies; whether it died of that.
    fn back_end(&mut self, stores: usize) -> bool {
        let life = Life::of(stores);
        let memory = Mortal(self.journal.clone(), life.clone());
        let page = Mortal(self.ring.clone(), life.clone());
        let attached = JournaledSlots::attach(page, Abi::X86_64, Some(Box::new(memory)));
        let mut back = attached.expect("the ring is taken over");
        let mut disk = Vec::new();
        while !life.is_over() {
            self.guest();
            if self.answered == REQUESTS {
                return false;
            }
            for _ in 0..self.below(8) {
                let request = back.pop().unwrap();
                if life.is_over() {
                    return true;
                }
                disk.extend(request);
            }
            for _ in 0..self.below(8).min(disk.len()) {
                let any = self.below(disk.len());
                let request: BlkifRequest = disk.swap_remove(any);
                self.carried_out[request.sector_number as usize] += 1;
                let response = BlkifResponse {
                    id: request.id,
                    status: request.sector_number as i16,
                    ..Default::default()
                };
                back.push(&response).unwrap();
                if life.is_over() {
                    return true;
                }
            }
            if self.below(3) > 0 {
                let _ = back.publish();
            }
        }
        true
    }
}

#[test]
fn a_kill_between_any_two_stores_loses_and_repeats_no_answer() {
    let mut again = 0;
    for stores in 1.. {
        let mut world = World::new();
        let died = world.back_end(stores);
        // The next one dies early, too, perhaps while it takes over.
        world.back_end(1 + stores * 7 % 97);
        world.back_end(usize::MAX);
        assert_eq!((world.answered, world.asked.len()), (REQUESTS, 0));
        again += world.carried_out.iter().filter(|times| **times > 1).count();
        if !died {
            break;
        }
    }
    assert!(again > 0, "nothing was ever carried out again");
}

#[test]
fn a_new_ring_does_not_get_the_old_ones_requests() {
    let mut world = World::new();
    world.back_end(200);
    assert_ne!(world.asked.len(), 0);
    // The front end starts anew in the same page.
    world.front = FrontRing::init(world.ring.clone()).unwrap();
    (world.asked, world.next) = (HashMap::new(), 0);
    world.carried_out.fill(0);
    world.answered = 0;
    world.back_end(usize::MAX);
    assert!(world.carried_out.iter().all(|times| *times == 1));
}

#[test]
fn a_journal_that_does_not_fit_the_ring_is_not_believed() {
    for damage in [HEAD_TAG, HEAD_TAKEN, entry(0) + STATE] {
        let mut world = World::new();
        let mut back = JournaledSlots::attach(
            Mortal(world.ring.clone(), Life::of(usize::MAX)),
            Abi::X86_64,
            Some(Box::new(Mortal(
                world.journal.clone(),
                Life::of(usize::MAX),
            ))),
        )
        .unwrap();
        while world.next < 3 {
            world.guest();
        }
        let first = back.pop().unwrap().unwrap();
        back.pop().unwrap().unwrap();
        back.push(&BlkifResponse {
            id: 1 - first.id,
            ..Default::default()
        })
        .unwrap();
        let _ = back.publish();
        drop(back);
        world.journal.store_u32(damage, 77);
        let memory = Mortal(world.journal.clone(), Life::of(usize::MAX));
        let page = Mortal(world.ring.clone(), Life::of(usize::MAX));
        let again = JournaledSlots::attach(page, Abi::X86_64, Some(Box::new(memory)));
        assert_eq!(again.err(), Some(RingError::Abandoned), "{damage}");
    }
}
