//! The manager as other threads see it: a list of devices, and what can be asked of it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use pv_stats::Source;
use pv_xenbus::XenbusState;

use crate::driver::{DeviceError, DeviceId};

/// A device as it stands.
#[derive(Clone)]
pub struct DeviceEntry {
    /// Which one.
    pub id: DeviceId,
    /// The back end's state.
    pub state: XenbusState,
    /// Why it is closed, if something went wrong.
    pub error: Option<String>,
    /// Its counters, while it is open.
    pub stats: Option<Arc<dyn Source>>,
}

impl fmt::Debug for DeviceEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceEntry")
            .field("id", &self.id)
            .field("state", &self.state)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

/// What a manager can be asked for.
pub(crate) enum Command {
    Detach {
        id: DeviceId,
        force: bool,
    },
    Changed(DeviceId),
    /// From a [`crate::Reporter`]; `life` says of which life of the device it speaks.
    Failed {
        id: DeviceId,
        life: u64,
        error: DeviceError,
    },
    Stop,
}

#[derive(Default)]
struct Board {
    devices: BTreeMap<DeviceId, DeviceEntry>,
    /// The manager has ended.
    ended: bool,
}

/// What the manager shows and how it is woken.
pub(crate) struct Shared {
    board: Mutex<Board>,
    change: Condvar,
    wake: EventFd,
}

impl Shared {
    fn board(&self) -> MutexGuard<'_, Board> {
        // The board is whole at every moment: a panic elsewhere does not spoil it.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn show(&self, entry: DeviceEntry) {
        self.board().devices.insert(entry.id.clone(), entry);
        self.change.notify_all();
    }

    pub(crate) fn remove(&self, id: &DeviceId) {
        self.board().devices.remove(id);
        self.change.notify_all();
    }

    pub(crate) fn end(&self) {
        let mut board = self.board();
        board.ended = true;
        board.devices.clear();
        self.change.notify_all();
    }

    /// Takes note of the wake-ups so far.
    pub(crate) fn clear(&self) {
        // Non-blocking: an error says that there were none.
        let _ = self.wake.read();
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// Asks a [`crate::Manager`], from any thread, for as long as one likes: with a manager that has
/// ended, the list is empty and requests are void.
#[derive(Clone)]
pub struct Control {
    shared: Arc<Shared>,
    commands: Sender<Command>,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.devices()).finish()
    }
}

impl Control {
    pub(crate) fn new() -> io::Result<(Self, Arc<Shared>, Receiver<Command>)> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let shared = Arc::new(Shared {
            board: Mutex::default(),
            change: Condvar::new(),
            wake: EventFd::from_value_and_flags(0, flags)?,
        });
        let (commands, receiver) = mpsc::channel();
        let control = Self {
            shared: Arc::clone(&shared),
            commands,
        };
        Ok((control, shared, receiver))
    }

    /// The devices served now, in order.
    pub fn devices(&self) -> Vec<DeviceEntry> {
        self.shared.board().devices.values().cloned().collect()
    }

    /// One of them.
    pub fn device(&self, id: &DeviceId) -> Option<DeviceEntry> {
        self.shared.board().devices.get(id).cloned()
    }

    /// Waits until `wanted` holds of a device (`None`: there is no such device); false when
    /// `timeout` has passed, or the manager ends, without it.
    pub fn wait_for(
        &self,
        id: &DeviceId,
        timeout: Duration,
        wanted: impl Fn(Option<&DeviceEntry>) -> bool,
    ) -> bool {
        let waits = |board: &mut Board| !board.ended && !wanted(board.devices.get(id));
        let board = self.shared.board();
        let waited = self.shared.change.wait_timeout_while(board, timeout, waits);
        let (board, _) = waited.unwrap_or_else(PoisonError::into_inner);
        wanted(board.devices.get(id))
    }

    /// Asks for a device to be closed, as a toolstack does: `online` 0, state `Closing`. Its front
    /// end then closes and the device ends `Closed`; with `force` it is closed at once, whatever
    /// its front end thinks. Removing the nodes is the toolstack's.
    pub fn detach(&self, id: &DeviceId, force: bool) {
        let id = id.clone();
        self.tell(Command::Detach { id, force });
    }

    /// Makes a device look again at what it is on: a resized or exchanged medium, another rate.
    pub fn changed(&self, id: &DeviceId) {
        self.tell(Command::Changed(id.clone()));
    }

    /// Makes [`crate::Manager::run`] disconnect everything and return. The states in xenstore stay
    /// as they are, so that a manager started later takes the devices over.
    pub fn stop(&self) {
        self.tell(Command::Stop);
    }

    pub(crate) fn tell(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            // It fails only with 2^64 - 1 wake-ups pending: then it is awake all the same.
            let _ = self.shared.wake.write(1);
        }
    }
}
