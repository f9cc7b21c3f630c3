use std::io::PipeReader;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// A link without room until it is flushed, one of several.
struct Stuck {
    event: PipeReader,
    blocked: bool,
    used: Arc<AtomicBool>,
}

impl Link for Stuck {
    unsafe fn send(&mut self, _info: &FrameInfo, _frame: &[IoVec]) -> io::Result<()> {
        match self.blocked {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => Ok(()),
        }
    }

    unsafe fn recv(&mut self, _room: &[IoVec]) -> io::Result<(usize, FrameInfo)> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    fn blocked(&self) -> bool {
        self.blocked
    }

    fn flush(&mut self) -> io::Result<()> {
        self.blocked = false;
        Ok(())
    }

    fn offloads(&self) -> Offloads {
        Offloads::NONE
    }

    fn accept(&mut self, _offloads: Offloads) -> io::Result<()> {
        Ok(())
    }

    fn set_used(&mut self, used: bool) -> io::Result<()> {
        self.used.store(used, Ordering::Relaxed);
        Ok(())
    }
}

fn stuck() -> (Box<dyn Link>, Arc<AtomicBool>) {
    let used = Arc::new(AtomicBool::new(true));
    let link = Stuck {
        event: io::pipe().unwrap().0,
        blocked: true,
        used: used.clone(),
    };
    (Box::new(link), used)
}

#[test]
fn a_lent_link_is_as_the_link() {
    let home = Home::default();
    let mut lent = Lent::new(stuck().0, home.clone());
    assert!(lent.blocked());
    lent.flush().unwrap();
    assert!(!lent.blocked());
    // SAFETY: nothing is lent.
    unsafe { lent.send(&FrameInfo::default(), &[]) }.unwrap();
    drop(lent);
    assert_eq!(home.lock().unwrap().len(), 1);
}

#[test]
fn a_plug_lends_what_is_wanted_and_no_frames_come_by_the_rest() {
    use pv_net::back::Network;

    let (links, used): (Vec<_>, Vec<_>) = (0..3).map(|_| stuck()).unzip();
    let mut plug = crate::shelf::Plug::new(links, None);
    let in_use = || {
        used.iter()
            .filter(|used| used.load(Ordering::Relaxed))
            .count()
    };
    for queues in [1, 3, 2] {
        let lent = plug.open(queues).unwrap();
        assert_eq!((lent.len(), in_use()), (queues as usize, queues as usize));
        assert!(plug.open(3).is_err(), "they are lent");
    }
}
