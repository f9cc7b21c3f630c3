//! The ready event loop: one thread that owns the server, the socket and the
//! guests' rings.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use pv_ring::SharedPage;

use crate::client::Client;
use crate::perms::{DomId, Identity};
use crate::ring::GuestRing;
use crate::server::{Closed, Server, Turn};
use crate::unix::{TOKENS, UnixServer};

const WAKE: Token = Token(0);
const SOCKET: Token = Token(1);
/// Guests' doorbells: one token per domain id from here on.
const DOORBELL: usize = SOCKET.0 + TOKENS;

type Page = Box<dyn SharedPage + Send>;
type Call = Box<dyn FnOnce(&mut Service) + Send>;

/// What the service needs of the machine to serve one guest.
pub struct GuestPort {
    /// The page shared with the guest.
    pub page: Page,
    /// An eventfd that becomes readable when the guest notifies xenstore's
    /// event channel.
    pub doorbell: OwnedFd,
    /// Notifies the guest.
    pub notify: Box<dyn FnMut() + Send>,
    /// Told once if the guest breaks the protocol and is served no more.
    pub broken: Box<dyn FnOnce(Closed) + Send>,
}

impl fmt::Debug for GuestPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestPort")
            .field("doorbell", &self.doorbell)
            .finish_non_exhaustive()
    }
}

struct Guest {
    ring: GuestRing<Page>,
    doorbell: File,
    notify: Box<dyn FnMut() + Send>,
    broken: Option<Box<dyn FnOnce(Closed) + Send>>,
}

impl Guest {
    fn pump(&mut self, server: &mut Server) -> Turn {
        let turn = match self.ring.pump(server) {
            Ok(turn) => turn,
            Err(closed) => {
                if let Some(tell) = self.broken.take() {
                    tell(closed);
                }
                Turn::Idle
            }
        };
        if self.ring.take_notify() {
            (self.notify)();
        }
        turn
    }

    fn quieten(&mut self) {
        // An eventfd gives its count in one read; nothing there is fine too.
        let _ = self.doorbell.read(&mut [0; 8]);
    }
}

/// Server, socket and rings with their event loop.
pub struct Service {
    /// The server itself.
    pub server: Server,
    unix: UnixServer,
    guests: BTreeMap<DomId, Guest>,
    poll: Poll,
    calls: Receiver<Call>,
    running: bool,
}

impl Service {
    /// Serves a guest's ring and declares the domain introduced.
    ///
    /// # Errors
    /// The page is too small or the doorbell cannot be polled.
    pub fn add_guest(&mut self, domid: DomId, port: GuestPort) -> io::Result<()> {
        nix::fcntl::fcntl(
            &port.doorbell,
            nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
        )?;
        let token = Token(DOORBELL + usize::from(domid.0));
        let fd = port.doorbell.as_raw_fd();
        self.poll
            .registry()
            .register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        let ring = GuestRing::connect(&mut self.server, Identity::guest(domid), port.page)
            .map_err(io::Error::other)?;
        let doorbell = File::from(port.doorbell);
        let guest = Guest {
            ring,
            doorbell,
            notify: port.notify,
            broken: Some(port.broken),
        };
        self.guests.insert(domid, guest);
        self.server.introduce(domid);
        Ok(())
    }

    /// Stops serving a guest: its nodes, watches and grants go.
    pub fn remove_guest(&mut self, domid: DomId) {
        self.guests.remove(&domid);
        self.server.release(domid);
    }

    /// Serves one end of a socket pair as the host and returns a client on
    /// the other: how back ends in the same process reach the store.
    ///
    /// # Errors
    /// The operating system's.
    pub fn local_client(&mut self) -> io::Result<Client> {
        let (ours, theirs) = UnixStream::pair()?;
        self.add_stream(ours, Identity::host())?;
        Ok(Client::from_stream(theirs))
    }

    /// Serves a connected stream as `who`.
    ///
    /// # Errors
    /// The operating system's, or [`ErrorKind::QuotaExceeded`] with
    /// [`crate::unix::MAX_PEERS`] connections.
    pub fn add_stream(&mut self, stream: UnixStream, who: Identity) -> io::Result<()> {
        self.unix.add(&mut self.server, stream, who)
    }

    /// Makes [`Service::run`] return.
    pub fn stop(&mut self) {
        self.running = false;
    }

    /// Serves until [`Service::stop`].
    ///
    /// # Errors
    /// The operating system's, from waiting for events.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(64);
        let mut turn = Turn::More;
        while self.running {
            let timeout = (turn == Turn::More).then_some(Duration::ZERO);
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => other?,
            }
            for event in &events {
                match event.token().0.checked_sub(DOORBELL) {
                    Some(domid) => self.quieten(domid),
                    None => drop(self.unix.on_event(event)),
                }
            }
            while let Ok(call) = self.calls.try_recv() {
                call(self);
            }
            turn = self.turn();
        }
        Ok(())
    }

    fn quieten(&mut self, domid: usize) {
        let domid = u16::try_from(domid).ok().map(DomId);
        if let Some(guest) = domid.and_then(|domid| self.guests.get_mut(&domid)) {
            guest.quieten();
        }
    }

    /// One turn of every connection. Guests come twice, as the sockets'
    /// requests may have left events for them.
    fn turn(&mut self) -> Turn {
        let mut turns = Vec::new();
        for guest in self.guests.values_mut() {
            turns.push(guest.pump(&mut self.server));
        }
        turns.push(self.unix.pump(&mut self.server));
        for guest in self.guests.values_mut() {
            turns.push(guest.pump(&mut self.server));
        }
        if turns.contains(&Turn::More) {
            Turn::More
        } else {
            Turn::Idle
        }
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// A service on its own thread; dropping it stops the thread.
#[derive(Debug)]
pub struct Handle {
    calls: Sender<Call>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// Runs a service on a thread of its own.
///
/// # Errors
/// The operating system's.
pub fn spawn(server: Server, mut unix: UnixServer) -> io::Result<Handle> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
    unix.register(poll.registry(), SOCKET)?;
    let (sender, calls) = mpsc::channel();
    let guests = BTreeMap::new();
    let mut service = Service {
        server,
        unix,
        guests,
        poll,
        calls,
        running: true,
    };
    let thread = thread::Builder::new()
        .name("xenstore".to_owned())
        .spawn(move || service.run())?;
    Ok(Handle {
        calls: sender,
        waker,
        thread: Some(thread),
    })
}

impl Handle {
    /// Runs `work` on the service's thread and waits for its result; `None`
    /// if the service has ended.
    pub fn call<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Service) -> R + Send + 'static,
    ) -> Option<R> {
        let (sender, result) = mpsc::channel();
        self.post(move |service| {
            // The caller waits below; if it died, nobody misses the result.
            let _ = sender.send(work(service));
        });
        result.recv().ok()
    }

    /// Runs `work` on the service's thread, some time.
    pub fn post(&self, work: impl FnOnce(&mut Service) + Send + 'static) {
        if self.calls.send(Box::new(work)).is_ok() {
            // It fails only when the poll object is gone, and the thread with it.
            let _ = self.waker.wake();
        }
    }

    /// Stops the thread and says how it ended.
    ///
    /// # Errors
    /// The operating system's, from waiting for events.
    pub fn stop(mut self) -> io::Result<()> {
        self.join()
    }

    fn join(&mut self) -> io::Result<()> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        self.post(Service::stop);
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("Xenstore thread panicked.")))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let _ = self.join();
    }
}
