//! The host's ends of the guest's event channels.
//!
//! A port that waits for domain 0 is bound here, at any time and by any thread ([`Ports::bind`]).
//! The guest's notifications arrive on an eventfd: rung by KVM when the emulator in the guest
//! answers hypercalls, by this process when it does. The host's are a bit in memory that ring 0
//! reads and an interrupt to the virtual CPU which the port notifies, sent through an irqfd: all a
//! back end's thread needs for that is `write`. An interrupt that is on its way already is not sent
//! again, so a burst of notifications costs one.

use std::collections::BTreeMap;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use kvm_bindings::{
    KVM_IRQ_ROUTING_MSI, KvmIrqRouting, kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1,
    kvm_irq_routing_msi,
};
use kvm_ioctls::{IoEventAddress, VmFd};
use pv_backend::HostChannel;
use pv_ring::EventChannel;
use vmm_sys_util::eventfd::EventFd;
use xen_sys::addr::Maddr;
use xen_sys::errno::Errno;
use xenner_core::evtchn::waits_for_host;
use xenner_core::image::{Doorbells, PORT_DOORBELL, VECTOR_HOST};

use crate::domain::Role;
use crate::emulator::Emulator;
use crate::kvm::{Doing, KvmError};
use crate::memory::Memory;
use crate::outside::Outside;

/// The first interrupt line that no interrupt controller has (see `Machine::new`).
const FIRST_LINE: u32 = 24;

/// A way to interrupt each virtual CPU.
#[derive(Debug)]
pub struct Interrupts(Vec<EventFd>);

impl Interrupts {
    /// Routes an eventfd to each virtual CPU.
    ///
    /// # Errors
    /// [`KvmError`].
    pub fn new(vm: &VmFd, vcpus: u32) -> Result<Self, KvmError> {
        let route = |vcpu: u32| kvm_irq_routing_entry {
            gsi: FIRST_LINE + vcpu,
            type_: KVM_IRQ_ROUTING_MSI,
            u: kvm_irq_routing_entry__bindgen_ty_1 {
                msi: kvm_irq_routing_msi {
                    address_lo: 0xfee0_0000 | vcpu << 12,
                    data: VECTOR_HOST.into(),
                    ..Default::default()
                },
            },
            ..Default::default()
        };
        let routes: Vec<_> = (0..vcpus).map(route).collect();
        let routing = KvmIrqRouting::from_entries(&routes)
            .map_err(|_| KvmError::Missing("room for interrupt routes"))?;
        vm.set_gsi_routing(&routing).doing("route interrupts")?;
        let line = |vcpu| {
            let fd = eventfd()
                .map_err(|error| kvm_ioctls::Error::new(error.raw_os_error().unwrap_or(0)))
                .doing("make an eventfd")?;
            vm.register_irqfd(&fd, FIRST_LINE + vcpu)
                .doing("take interrupts from an eventfd")?;
            Ok(fd)
        };
        (0..vcpus).map(line).collect::<Result<_, _>>().map(Self)
    }

    /// Interrupts a virtual CPU; the first, if there is no such.
    fn raise(&self, vcpu: usize) -> Result<(), Errno> {
        let line = self.0.get(vcpu).or(self.0.first());
        // KVM takes the count at once, so that it never overflows.
        line.ok_or(Errno::ENOENT)?.write(1).map_err(|_| Errno::EIO)
    }
}

fn eventfd() -> io::Result<EventFd> {
    EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)
}

/// Where the guest's events go.
#[derive(Debug)]
pub struct Binding {
    port: u32,
    doorbell: EventFd,
    /// The port is somebody else's now, or the guest's alone.
    closed: AtomicBool,
}

/// The bindings of a domain whose ABI this process runs.
#[derive(Debug, Default)]
pub struct Doorbell(RwLock<BTreeMap<u32, Arc<Binding>>>);

impl Doorbell {
    /// Whether the host has bound a port.
    pub fn is_bound(&self, port: u32) -> bool {
        self.read().contains_key(&port)
    }

    /// Tells the host of an event.
    pub fn ring(&self, port: u32) {
        if let Some(binding) = self.read().get(&port) {
            // It fails only when nobody has looked for 2^64 events.
            let _ = binding.doorbell.write(1);
        }
    }

    /// The guest has closed a port.
    pub fn close(&self, port: u32) {
        if let Some(binding) = self.write().remove(&port) {
            binding.closed.store(true, Ordering::Release);
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<u32, Arc<Binding>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<u32, Arc<Binding>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who keeps the guest's table of ports.
#[derive(Clone)]
pub enum Table {
    /// The emulator in the guest's ring 0.
    Inside(Emulator),
    /// This process.
    Outside(Arc<Outside>),
}

/// All that binding a port takes.
pub struct Ports {
    vm: Arc<VmFd>,
    memory: Memory,
    table: Table,
    interrupts: Interrupts,
    /// What a thread does before it serves a guest's queue.
    confine: fn(Role),
    /// What is registered with KVM; only for [`Table::Inside`].
    registered: Mutex<BTreeMap<u32, Arc<Binding>>>,
}

impl Ports {
    /// The ports of a domain about to start.
    pub fn new(
        vm: Arc<VmFd>,
        memory: Memory,
        table: Table,
        interrupts: Interrupts,
        confine: fn(Role),
    ) -> Arc<Self> {
        Arc::new(Self {
            vm,
            memory,
            table,
            interrupts,
            confine,
            registered: Mutex::default(),
        })
    }

    /// Binds a port that waits for domain 0. As on Xen the doorbell is rung once in advance: the
    /// guest may have notified before there was anybody to hear.
    ///
    /// # Errors
    /// `InvalidInput` for a port that does not wait, or is bound already; else the host's.
    pub fn bind(self: &Arc<Self>, port: u32) -> io::Result<Channel> {
        if waits_for_host(self.word(port)).is_none() || self.is_bound(port) {
            let message = format!("event channel port {port} does not wait for the back end");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        self.bind_early(port)
    }

    /// Binds a port of which the toolstack knows that it waits, or will once the domain runs.
    ///
    /// # Errors
    /// The host's.
    pub fn bind_early(self: &Arc<Self>, port: u32) -> io::Result<Channel> {
        let binding = Arc::new(Binding {
            port,
            doorbell: eventfd()?,
            closed: AtomicBool::new(false),
        });
        binding.doorbell.write(1)?;
        match &self.table {
            Table::Inside(emulator) => {
                let mut registered = self.registered();
                // The guest has closed the port and taken it again; whoever had it has not noticed.
                if let Some(old) = registered.remove(&port) {
                    self.unregister(&old)?;
                }
                self.vm
                    .register_ioevent(&binding.doorbell, &DOORBELL, port)
                    .map_err(|error| io::Error::from_raw_os_error(error.errno()))?;
                registered.insert(port, binding.clone());
                self.memory
                    .fetch_or(bound_word(emulator, port), bit(port))
                    .map_err(io::Error::other)?;
            }
            Table::Outside(outside) => {
                let old = outside.doorbell.write().insert(port, binding.clone());
                if let Some(old) = old {
                    old.closed.store(true, Ordering::Release);
                }
            }
        }
        Ok(Channel {
            ports: self.clone(),
            binding,
        })
    }

    fn unbind(&self, binding: &Arc<Binding>) {
        let port = binding.port;
        match &self.table {
            Table::Inside(emulator) => {
                let mut registered = self.registered();
                if registered
                    .get(&port)
                    .is_some_and(|now| Arc::ptr_eq(now, binding))
                {
                    registered.remove(&port);
                    // Neither fails for what was registered and is memory.
                    let _ = self
                        .memory
                        .fetch_and(bound_word(emulator, port), !bit(port));
                    let _ = self.unregister(binding);
                }
            }
            Table::Outside(outside) => {
                let mut bound = outside.doorbell.write();
                if bound
                    .get(&port)
                    .is_some_and(|now| Arc::ptr_eq(now, binding))
                {
                    bound.remove(&port);
                }
            }
        }
    }

    fn unregister(&self, binding: &Binding) -> io::Result<()> {
        binding.closed.store(true, Ordering::Release);
        self.vm
            .unregister_ioevent(&binding.doorbell, &DOORBELL, binding.port)
            .map_err(|error| io::Error::from_raw_os_error(error.errno()))
    }

    fn registered(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<Binding>>> {
        self.registered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The guest's word for a port: hostile when the table is in the guest.
    fn word(&self, port: u32) -> u64 {
        match &self.table {
            Table::Inside(_) if port as usize >= xenner_core::evtchn::NR_PORTS => 0,
            Table::Inside(emulator) => {
                let at = emulator.ports.offset(u64::from(port) * 8);
                self.memory.load(at).unwrap_or(0)
            }
            Table::Outside(outside) => outside.domain.evtchn.word(port),
        }
    }

    fn is_bound(&self, port: u32) -> bool {
        match &self.table {
            Table::Inside(emulator) => {
                let word: u64 = self.memory.load(bound_word(emulator, port)).unwrap_or(0);
                word & bit(port) != 0
            }
            Table::Outside(outside) => outside.doorbell.is_bound(port),
        }
    }

    fn to_guest(&self) -> Maddr {
        match &self.table {
            Table::Inside(e) => e.doorbells.offset(offset_of!(Doorbells, to_guest) as u64),
            Table::Outside(outside) => outside.to_guest(),
        }
    }
}

const DOORBELL: IoEventAddress = IoEventAddress::Pio(PORT_DOORBELL as u64);

fn bit(port: u32) -> u64 {
    1 << (port % 64)
}

/// The word of `Doorbells::bound` for a port; one beyond the last port is the first's.
fn bound_word(emulator: &Emulator, port: u32) -> Maddr {
    let index = u64::from(port) % xenner_core::evtchn::NR_PORTS as u64 / 64;
    emulator
        .doorbells
        .offset(offset_of!(Doorbells, bound) as u64 + index * 8)
}

/// The host's end of an event channel; dropping it closes it.
pub struct Channel {
    ports: Arc<Ports>,
    binding: Arc<Binding>,
}

impl Channel {
    /// The doorbell, for another owner: readable when the guest has notified.
    ///
    /// # Errors
    /// The operating system's.
    pub fn doorbell(&self) -> io::Result<OwnedFd> {
        self.as_fd().try_clone_to_owned()
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.ports.unbind(&self.binding);
    }
}

impl EventChannel for Channel {
    /// Nobody hears it when the guest has closed its end, as on Xen.
    fn notify(&self) -> Result<(), Errno> {
        let port = self.binding.port;
        if self.binding.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let word = self.ports.to_guest().offset(u64::from(port / 64) * 8);
        let before = self.ports.memory.fetch_or(word, bit(port));
        if before.map_err(|_| Errno::EIO)? & bit(port) != 0 {
            // Who set it interrupts, and ring 0 has not looked since.
            return Ok(());
        }
        let vcpu = waits_for_host(self.ports.word(port)).unwrap_or(0);
        self.ports.interrupts.raise(vcpu)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the eventfd's own, which lives as long as this.
        unsafe { BorrowedFd::borrow_raw(self.binding.doorbell.as_raw_fd()) }
    }
}

impl HostChannel for Channel {
    fn clear(&self) -> io::Result<bool> {
        match self.binding.doorbell.read() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn confine(&self, kind: &str) {
        let role = if kind == "vbd" {
            Role::Block
        } else {
            Role::Net
        };
        (self.ports.confine)(role);
    }

    /// By `SCHED_BATCH` a thread that is woken does not take the processor from another. Where one
    /// is idle, nothing changes.
    fn be_patient(&self, patient: bool) {
        let policy = match patient {
            true => libc::SCHED_BATCH,
            false => libc::SCHED_OTHER,
        };
        let none = libc::sched_param { sched_priority: 0 };
        // SAFETY: it reads the structure; 0 is the calling thread.
        if unsafe { libc::sched_setscheduler(0, policy, &none) } != 0 {
            // All is right without, only slower.
            tracing::debug!(error = %io::Error::last_os_error(), "The scheduling policy stays");
        }
    }
}
