//! The back ends every domain has: console and xenstore.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pv_backend::HostChannel;
use pv_console::back::{ConsoleBack, ConsoleStats};
use pv_ring::EventChannel;
use vmm_sys_util::eventfd::EventFd;
use xen_sys::addr::{DomId, Maddr, Mfn, PAGE_SIZE};
use xt_xenstore::domain::{ConsoleInfo, DomainInfo, RingInfo};

use crate::domain::Role;
use crate::evtchn::Channel;
use crate::memory::Memory;

/// A frame of guest memory that a back end shares with the guest.
#[derive(Clone, Debug)]
pub struct GuestPage {
    memory: Memory,
    at: Maddr,
}

impl GuestPage {
    /// The frame, which the builder chose and the memory holds.
    pub fn new(memory: &Memory, frame: Mfn) -> Self {
        Self {
            memory: memory.clone(),
            at: frame.addr(),
        }
    }
}

// The frame was checked when it was chosen and memory is never unmapped, so
// the accesses below cannot fail; a failed one would read as zero.
impl pv_ring::SharedPage for GuestPage {
    fn len(&self) -> usize {
        PAGE_SIZE
    }

    fn load_u32(&self, offset: usize) -> u32 {
        self.memory
            .load(self.at.offset(offset as u64))
            .unwrap_or_default()
    }

    fn store_u32(&self, offset: usize, value: u32) {
        let _ = self.memory.store(self.at.offset(offset as u64), value);
    }

    fn read(&self, offset: usize, to: &mut [u8]) {
        let _ = self.memory.read(self.at.offset(offset as u64), to);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        let _ = self.memory.write(self.at.offset(offset as u64), from);
    }
}

/// Where the console's bytes go and come from.
pub trait ConsoleIo: Send + Sync {
    /// Takes what the guest printed. Must not block.
    fn output(&self, bytes: &[u8]);
    /// Takes out what is to be typed into the guest; returns how many bytes.
    fn input(&self, buffer: &mut [u8]) -> usize;
    /// Readable while there is input.
    fn input_fd(&self) -> BorrowedFd<'_>;
}

/// The console's back end on a thread of its own.
pub struct ConsoleThread {
    stop: EventFd,
    /// Its counters.
    pub stats: Arc<ConsoleStats>,
    thread: Option<JoinHandle<()>>,
}

impl ConsoleThread {
    /// Serves the ring until dropped.
    ///
    /// # Errors
    /// The operating system's.
    pub fn spawn(
        page: GuestPage,
        channel: Channel,
        io: Arc<dyn ConsoleIo>,
        confine: fn(Role),
    ) -> io::Result<Self> {
        let stop = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?;
        let stats = Arc::new(ConsoleStats::default());
        let channel = Arc::new(channel);
        let doorbell = channel.clone();
        let back = ConsoleBack::attach(page, channel, stats.clone()).map_err(io::Error::other)?;
        let stopped = stop.try_clone()?;
        let thread = std::thread::Builder::new()
            .name("console".into())
            .spawn(move || {
                confine(Role::Console);
                serve_console(back, &doorbell, &stopped, &*io);
            })?;
        Ok(Self {
            stop,
            stats,
            thread: Some(thread),
        })
    }
}

impl Drop for ConsoleThread {
    /// Passes on what the guest printed last, then stops.
    fn drop(&mut self) {
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve_console(
    mut back: ConsoleBack<GuestPage, Arc<Channel>, Arc<ConsoleStats>>,
    doorbell: &Channel,
    stop: &EventFd,
    io: &dyn ConsoleIo,
) {
    loop {
        // A guest whose indices make no sense has no console until they do.
        let drained = back.drain(|bytes| {
            io.output(bytes);
            bytes.len()
        });
        let room = back.input_space().unwrap_or(0);
        let mut buffer = [0; 1024];
        let typed = io.input(&mut buffer[..room.min(1024)]);
        let _ = back.feed(&buffer[..typed]);
        if stop.read().is_ok() {
            return;
        }
        if drained.is_ok_and(|bytes| bytes > 0) || typed > 0 {
            continue;
        }
        let mut fds = vec![
            PollFd::new(doorbell.as_fd(), PollFlags::POLLIN),
            PollFd::new(event_fd(stop), PollFlags::POLLIN),
        ];
        if room > 0 {
            fds.push(PollFd::new(io.input_fd(), PollFlags::POLLIN));
        }
        let _ = poll(&mut fds, PollTimeout::NONE);
        let _ = doorbell.clear();
    }
}

fn event_fd(fd: &EventFd) -> BorrowedFd<'_> {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is the eventfd's own and lives as long as it.
    unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) }
}

/// What xenstore says of the domain, besides its rings.
#[derive(Clone, Debug)]
pub struct StoreInfo {
    /// The domain's name.
    pub name: String,
    /// Its UUID as text.
    pub uuid: String,
    /// Pages now and at most.
    pub pages: (u64, u64),
    /// Virtual CPUs online at start, of all.
    pub vcpus: (u32, u32),
    /// Frames of xenstore's ring and the console's.
    pub frames: (Mfn, Mfn),
    /// The console's path on the host.
    pub tty: Option<String>,
}

/// Starts xenstore with the domain's nodes and its ring.
///
/// # Errors
/// The operating system's, or a name no node can have.
pub fn spawn_xenstore(
    domid: DomId,
    info: &StoreInfo,
    page: GuestPage,
    channel: Channel,
    socket: Option<UnixListener>,
) -> io::Result<xt_xenstore::service::Handle> {
    let mut server = xt_xenstore::server::Server::new(Default::default());
    let domain = domain_info(domid, info);
    server
        .update(|store| {
            xt_xenstore::domain::introduce_host(store)?;
            xt_xenstore::domain::introduce_domain(store, &domain)
        })
        .map_err(io::Error::other)?;
    let unix = match socket {
        Some(listener) => xt_xenstore::unix::UnixServer::from_listener(listener)?,
        None => xt_xenstore::unix::UnixServer::unbound(),
    };
    let handle = xt_xenstore::service::spawn(server, unix)?;
    let port = xt_xenstore::service::GuestPort {
        page: Box::new(page),
        doorbell: channel.doorbell()?,
        notify: Box::new(move || {
            let _ = channel.notify();
        }),
        broken: Box::new(|_| {}),
    };
    handle
        .call(move |service| service.add_guest(domid, port))
        .unwrap_or_else(|| Err(io::Error::other("xenstore has ended")))?;
    Ok(handle)
}

fn domain_info(domid: DomId, info: &StoreInfo) -> DomainInfo {
    DomainInfo {
        domid,
        name: info.name.clone(),
        uuid: info.uuid.clone(),
        kind: "pv".into(),
        memory_target: info.pages.0 * 4,
        memory_static_max: info.pages.1 * 4,
        vcpus_online: (0..info.vcpus.1).map(|n| n < info.vcpus.0).collect(),
        store: RingInfo {
            ring_ref: info.frames.0.0,
            port: crate::domain::STORE_PORT.into(),
        },
        console: Some(ConsoleInfo {
            ring: RingInfo {
                ring_ref: info.frames.1.0,
                port: crate::domain::CONSOLE_PORT.into(),
            },
            limit: 1 << 20,
            kind: "xenconsoled".into(),
            tty: info.tty.clone(),
        }),
        start_time: std::time::SystemTime::now(),
    }
}
