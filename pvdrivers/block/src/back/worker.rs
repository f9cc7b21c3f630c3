//! The thread of a queue: it sleeps until the front end, the medium or the device's manager wants
//! something.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use pv_backend::{DeviceError, Host, HostChannel, Patience, Reporter};

use super::queue::{BlockQueue, MediumQueue, QueueError};
use super::request::Geometry;

/// What the manager wants of the thread.
struct Orders<H: Host> {
    stop: bool,
    medium: Option<(Option<MediumQueue<H>>, Geometry)>,
    geometry: Option<Geometry>,
}

struct Control<H: Host> {
    event: EventFd,
    orders: Mutex<Orders<H>>,
    /// There are orders; so that the thread need not lock in each turn.
    ordered: AtomicBool,
}

/// A queue with its thread.
pub(crate) struct Worker<H: Host> {
    control: Arc<Control<H>>,
    thread: Option<JoinHandle<()>>,
    depth: usize,
}

impl<H: Host> Worker<H> {
    /// Starts the thread.
    pub(crate) fn start(
        name: String,
        queue: BlockQueue<H>,
        reporter: Reporter,
    ) -> io::Result<Self> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let control = Arc::new(Control {
            event: EventFd::from_value_and_flags(0, flags)?,
            orders: Mutex::new(Orders {
                stop: false,
                medium: None,
                geometry: None,
            }),
            ordered: AtomicBool::new(false),
        });
        let depth = queue.depth();
        let run = Run {
            patience: Patience::default(),
            queue,
            control: control.clone(),
        };
        let thread = std::thread::Builder::new().name(name);
        let serve = move || {
            let _bug = PanicReport(&reporter);
            run.run(&reporter);
        };
        Ok(Self {
            control,
            thread: Some(thread.spawn(serve)?),
            depth,
        })
    }

    /// The most requests at a time.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Serves from another medium, or none.
    pub(crate) fn set_medium(&self, medium: Option<MediumQueue<H>>, geometry: Geometry) {
        self.order(|orders| {
            orders.medium = Some((medium, geometry));
            orders.geometry = None;
        });
    }

    /// The same medium has changed.
    pub(crate) fn set_geometry(&self, geometry: Geometry) {
        self.order(|orders| orders.geometry = Some(geometry));
    }

    /// Tells the thread to stop; dropping the worker waits for that.
    pub(crate) fn stop(&self) {
        self.order(|orders| orders.stop = true);
    }

    fn order(&self, change: impl FnOnce(&mut Orders<H>)) {
        change(&mut self.control.orders.lock().expect("no panic inside"));
        self.control.ordered.store(true, Ordering::Release);
        if let Err(error) = self.control.event.write(1) {
            // It is pending already, or its counter would have room.
            tracing::debug!("Cannot wake a queue: {error}");
        }
    }
}

impl<H: Host> Drop for Worker<H> {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("A block queue's thread has panicked");
        }
    }
}

/// A bug of ours is not to look like a slow disk: the device is closed.
struct PanicReport<'a>(&'a Reporter);

impl Drop for PanicReport<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let what = "A queue's thread has panicked".to_owned();
            self.0.failed(DeviceError(what));
        }
    }
}

/// The thread's side.
struct Run<H: Host> {
    patience: Patience,
    queue: BlockQueue<H>,
    control: Arc<Control<H>>,
}

impl<H: Host> Run<H> {
    fn run(mut self, reporter: &Reporter) {
        self.queue.channel().confine("vbd");
        if let Err(error) = self.serve() {
            reporter.failed(failure(&error));
        }
        // The kernel may still be at the guest's pages: they are unmapped when it is done with them.
        loop {
            match self.queue.drain() {
                Ok(true) => {}
                Ok(false) => break,
                // Only the front end does not hear of it.
                Err(_) if self.queue.submitted() == 0 => break,
                Err(_) => {}
            }
            if let Err(error) = self.wait_for_medium() {
                reporter.failed(failure(&error));
            }
        }
    }

    /// Until told to stop.
    fn serve(&mut self) -> Result<(), QueueError> {
        let mut before = 0;
        loop {
            if self.control.ordered.swap(false, Ordering::Acquire) && self.obey() {
                return Ok(());
            }
            if self.queue.process()? {
                continue;
            }
            if !self.queue.final_check()? {
                let taken = self.queue.taken();
                if let Some(patient) = self.patience.learn(taken.wrapping_sub(before)) {
                    self.queue.channel().be_patient(patient);
                }
                before = taken;
                self.sleep()?;
            }
        }
    }

    /// Whether to stop.
    fn obey(&mut self) -> bool {
        let mut orders = self.control.orders.lock().expect("no panic inside");
        if let Some((medium, geometry)) = orders.medium.take() {
            self.queue.set_medium(medium, geometry);
        }
        if let Some(geometry) = orders.geometry.take() {
            self.queue.set_geometry(geometry);
        }
        orders.stop
    }

    fn sleep(&mut self) -> Result<(), QueueError> {
        let (notified, ordered, answered) = {
            let channel = self.queue.channel().as_fd();
            let control = self.control.event.as_fd();
            let medium = self.queue.medium();
            let event = medium.map_or(control, |medium| medium.event());
            let mut fds = [channel, control, event].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            // Without requests it has nothing to tell.
            let medium = usize::from(self.queue.submitted() > 0);
            wait(&mut fds[..2 + medium])?;
            let [notified, ordered, answered] = fds.map(|fd| fd.any() == Some(true));
            (notified, ordered, answered && medium > 0)
        };
        self.queue.counters().wakeups.add(1);
        if answered {
            self.queue.clear_medium();
        }
        if notified {
            self.queue.clear_channel().map_err(QueueError::Wait)?;
        }
        if ordered {
            clear(&self.control.event)?;
        }
        Ok(())
    }

    fn wait_for_medium(&mut self) -> Result<(), QueueError> {
        if let Some(medium) = self.queue.medium() {
            wait(&mut [PollFd::new(medium.event(), PollFlags::POLLIN)])?;
            self.queue.clear_medium();
        }
        Ok(())
    }
}

fn wait(fds: &mut [PollFd<'_>]) -> Result<(), QueueError> {
    match poll(fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(QueueError::Wait(error.into())),
    }
}

fn clear(event: &EventFd) -> Result<(), QueueError> {
    match event.read() {
        Ok(_) | Err(Errno::EAGAIN) => Ok(()),
        Err(error) => Err(QueueError::Wait(error.into())),
    }
}

/// The error with its causes, in a line.
fn failure(error: &QueueError) -> DeviceError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    DeviceError(text)
}
