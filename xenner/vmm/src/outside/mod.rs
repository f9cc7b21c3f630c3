//! The Xen ABI run by the host process, for hosts where guest ring 0 is slow.
//!
//! On a pagetable-based KVM ring 3 runs natively and ring 0 is emulated one
//! instruction at a time. So ring 0 holds next to nothing there: whatever
//! leaves ring 3 arrives at a stub of one OUT instruction ([`ring0`]), SYSCALL
//! at one in ring 3 ([`ring3`]), and this process answers it with the same
//! `xenner-core` that elsewhere runs in the guest (`machine`). What only the
//! guest's own CPU can do (page table stores that a shadowing KVM must notice,
//! INVLPG) it is told as a chain of return addresses on its ring-0 stack, which
//! ends in IRETQ. Where nothing but registers changes, KVM is given those.
//!
//! The state of the domain lies in this process's memory, out of the guest's
//! reach.

mod asked;
mod foresight;
mod machine;
pub mod ring0;
pub mod ring3;
mod vcpu;

use std::sync::Arc;

use kvm_ioctls::VmFd;
use xen_sys::addr::{Maddr, Mfn};
use xen_sys::arch_x86::VcpuGuestContext;
use xenner_core::{Config, Domain, MAX_VCPUS};

use crate::evtchn::Doorbell;
use crate::kvm::CpuidTable;
use crate::memory::{MemError, Memory};
use crate::shared::Shared;
use crate::tables::Hole;
use asked::Asked;

pub use ring0::Ring0;
pub use vcpu::run;

/// A domain whose ABI runs in this process.
pub struct Outside {
    /// The domain's state.
    pub domain: Box<Domain>,
    /// The stubs in the guest.
    pub ring0: Ring0,
    memory: Memory,
    vm: Arc<VmFd>,
    cpuid: CpuidTable,
    /// The ports the host has bound.
    pub doorbell: Doorbell,
    /// What each virtual CPU is asked by others.
    asked: [Asked; MAX_VCPUS],
    context: Box<VcpuGuestContext>,
    shared: Arc<Shared>,
}

impl Outside {
    /// Loads the stubs.
    ///
    /// # Errors
    /// [`MemError`].
    pub fn load(memory: &Memory) -> Result<(Ring0, Hole), MemError> {
        Ring0::load(memory)
    }

    /// Makes the domain's state; call once before any virtual CPU runs.
    pub fn new(
        config: Config,
        context: Box<VcpuGuestContext>,
        ring0: Ring0,
        vm: Arc<VmFd>,
        cpuid: CpuidTable,
        shared: Arc<Shared>,
    ) -> Arc<Self> {
        let mut domain = new_domain();
        domain.config = config;
        let outside = Self {
            domain,
            ring0,
            memory: shared.memory.clone(),
            vm,
            cpuid,
            doorbell: Doorbell::default(),
            asked: std::array::from_fn(|_| Asked::default()),
            context,
            shared,
        };
        let mut machine = machine::HostMachine::new(&outside, 0);
        xenner_core::domain::start(&mut machine, &outside.domain);
        Arc::new(outside)
    }

    /// Where the host marks ports for the guest: `Doorbells::to_guest`.
    pub fn to_guest(&self) -> Maddr {
        self.ring0.to_guest
    }

    fn is_ram(&self, mfn: Mfn) -> bool {
        let config = &self.domain.config;
        mfn.0.wrapping_sub(config.ram_base.0) < config.ram_pages
            || mfn.0.wrapping_sub(config.heap_base.0) < config.heap_pages
            || mfn == config.shared_info
    }
}

/// The state is some megabytes, most of it never touched: made on a stack of
/// its own, so that no caller's is too small.
fn new_domain() -> Box<Domain> {
    let make = || Box::new(Domain::new());
    std::thread::Builder::new()
        .stack_size(32 << 20)
        .spawn(make)
        .ok()
        .and_then(|thread| thread.join().ok())
        .unwrap_or_else(make)
}
