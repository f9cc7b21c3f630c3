//! `event_channel.h`: event channels, the 2-level and the FIFO ABI.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{DomId, EvtchnPort};

/// Bind to an unbound port of another domain.
pub const EVTCHNOP_bind_interdomain: u32 = 0;
/// Bind to a virtual IRQ.
pub const EVTCHNOP_bind_virq: u32 = 1;
/// Bind to a physical IRQ.
pub const EVTCHNOP_bind_pirq: u32 = 2;
/// Close a local port.
pub const EVTCHNOP_close: u32 = 3;
/// Send an event to the far end of a port.
pub const EVTCHNOP_send: u32 = 4;
/// Query a port.
pub const EVTCHNOP_status: u32 = 5;
/// Allocate a port for a remote domain to bind.
pub const EVTCHNOP_alloc_unbound: u32 = 6;
/// Bind to events sent to a vCPU of the same domain.
pub const EVTCHNOP_bind_ipi: u32 = 7;
/// Choose the vCPU that is notified.
pub const EVTCHNOP_bind_vcpu: u32 = 8;
/// Unmask a port and deliver what is pending.
pub const EVTCHNOP_unmask: u32 = 9;
/// Close all ports.
pub const EVTCHNOP_reset: u32 = 10;
/// FIFO: register a vCPU's control block.
pub const EVTCHNOP_init_control: u32 = 11;
/// FIFO: add a page to the event array.
pub const EVTCHNOP_expand_array: u32 = 12;
/// FIFO: set a port's priority.
pub const EVTCHNOP_set_priority: u32 = 13;

/// `EVTCHNOP_alloc_unbound`.
///
/// `struct evtchn_alloc_unbound`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EvtchnAllocUnbound {
    /// Domain that owns the port.
    pub dom: DomId,
    /// Domain that may bind to it.
    pub remote_dom: DomId,
    /// Out: the port.
    pub port: EvtchnPort,
}
const _: () = assert!(size_of::<EvtchnAllocUnbound>() == 8);

/// `EVTCHNOP_bind_interdomain`.
///
/// `struct evtchn_bind_interdomain`, 12 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EvtchnBindInterdomain {
    /// The other domain.
    pub remote_dom: DomId,
    /// Padding; zero.
    pub _pad0: [u8; 2],
    /// Its port.
    pub remote_port: EvtchnPort,
    /// Out: our port.
    pub local_port: EvtchnPort,
}
const _: () = assert!(size_of::<EvtchnBindInterdomain>() == 12);

/// `EVTCHNOP_bind_virq`.
///
/// `struct evtchn_bind_virq`, 12 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EvtchnBindVirq {
    /// `VIRQ_*`.
    pub virq: u32,
    /// vCPU; 0 for global VIRQs.
    pub vcpu: u32,
    /// Out: the port.
    pub port: EvtchnPort,
}
const _: () = assert!(size_of::<EvtchnBindVirq>() == 12);

/// `EVTCHNOP_bind_pirq`.
///
/// `struct evtchn_bind_pirq`, 12 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EvtchnBindPirq {
    /// Physical IRQ.
    pub pirq: u32,
    /// `BIND_PIRQ__WILL_SHARE` or 0.
    pub flags: u32,
    /// Out: the port.
    pub port: EvtchnPort,
}
const _: () = assert!(size_of::<EvtchnBindPirq>() == 12);
/// The IRQ may be shared.
pub const BIND_PIRQ__WILL_SHARE: u32 = 1;

/// `EVTCHNOP_bind_ipi`.
///
/// `struct evtchn_bind_ipi`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EvtchnBindIpi {
    /// vCPU to notify.
    pub vcpu: u32,
    /// Out: the port.
    pub port: EvtchnPort,
}
const _: () = assert!(size_of::<EvtchnBindIpi>() == 8);

/// `EVTCHNOP_close`.
///
/// `struct evtchn_close`, 4 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EvtchnClose {
    /// Port to close.
    pub port: EvtchnPort,
}
const _: () = assert!(size_of::<EvtchnClose>() == 4);

/// `EVTCHNOP_send`.
///
/// `struct evtchn_send`, 4 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EvtchnSend {
    /// Local port.
    pub port: EvtchnPort,
}
const _: () = assert!(size_of::<EvtchnSend>() == 4);

/// `EVTCHNOP_status`.
///
/// `struct evtchn_status`, 24 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EvtchnStatus {
    /// Domain that owns the port.
    pub dom: DomId,
    /// Padding; zero.
    pub _pad0: [u8; 2],
    /// The port.
    pub port: EvtchnPort,
    /// Out: `EVTCHNSTAT_*`.
    pub status: u32,
    /// Out: vCPU that is notified.
    pub vcpu: u32,
    /// Out: what depends on the status.
    pub u: EvtchnStatusU,
}
const _: () = assert!(size_of::<EvtchnStatus>() == 24);

/// The union `u` of [`EvtchnStatus`] as two words; use the constructors.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EvtchnStatusU {
    /// `unbound.dom` and `interdomain.dom` (low 16 bits), `pirq`, `virq`.
    pub word0: u32,
    /// `interdomain.port`.
    pub word1: u32,
}

impl EvtchnStatusU {
    /// `unbound.dom`: who may bind.
    pub const fn unbound(dom: DomId) -> Self {
        Self {
            word0: dom.0 as u32,
            word1: 0,
        }
    }

    /// `interdomain`: the far end.
    pub const fn interdomain(dom: DomId, port: EvtchnPort) -> Self {
        Self {
            word0: dom.0 as u32,
            word1: port.0,
        }
    }

    /// `pirq` or `virq`: its number.
    pub const fn irq(nr: u32) -> Self {
        Self {
            word0: nr,
            word1: 0,
        }
    }

    /// `unbound.dom` or `interdomain.dom`.
    pub const fn dom(&self) -> DomId {
        DomId(self.word0 as u16)
    }

    /// `interdomain.port`.
    pub const fn port(&self) -> EvtchnPort {
        EvtchnPort(self.word1)
    }
}

/// Not in use.
pub const EVTCHNSTAT_closed: u32 = 0;
/// Waits for a remote domain.
pub const EVTCHNSTAT_unbound: u32 = 1;
/// Connected to a remote domain.
pub const EVTCHNSTAT_interdomain: u32 = 2;
/// Bound to a physical IRQ.
pub const EVTCHNSTAT_pirq: u32 = 3;
/// Bound to a virtual IRQ.
pub const EVTCHNSTAT_virq: u32 = 4;
/// Bound to a vCPU for IPIs.
pub const EVTCHNSTAT_ipi: u32 = 5;

/// `EVTCHNOP_bind_vcpu`.
///
/// `struct evtchn_bind_vcpu`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EvtchnBindVcpu {
    /// The port.
    pub port: EvtchnPort,
    /// vCPU to notify.
    pub vcpu: u32,
}
const _: () = assert!(size_of::<EvtchnBindVcpu>() == 8);

/// `EVTCHNOP_unmask`.
///
/// `struct evtchn_unmask`, 4 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EvtchnUnmask {
    /// The port.
    pub port: EvtchnPort,
}
const _: () = assert!(size_of::<EvtchnUnmask>() == 4);

/// `EVTCHNOP_reset`.
///
/// `struct evtchn_reset`, 2 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EvtchnReset {
    /// Domain whose ports are closed.
    pub dom: DomId,
}
const _: () = assert!(size_of::<EvtchnReset>() == 2);

/// `EVTCHNOP_init_control`.
///
/// `struct evtchn_init_control`, 24 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EvtchnInitControl {
    /// Frame of the control block.
    pub control_gfn: u64,
    /// Byte offset in it; a multiple of 8.
    pub offset: u32,
    /// vCPU.
    pub vcpu: u32,
    /// Out: bits of the LINK field.
    pub link_bits: u8,
    /// Padding; zero.
    pub _pad: [u8; 7],
}
const _: () = assert!(size_of::<EvtchnInitControl>() == 24);

/// `EVTCHNOP_expand_array`.
///
/// `struct evtchn_expand_array`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EvtchnExpandArray {
    /// Frame to add; its 1024 words must be masked and clear.
    pub array_gfn: u64,
}
const _: () = assert!(size_of::<EvtchnExpandArray>() == 8);

/// `EVTCHNOP_set_priority`.
///
/// `struct evtchn_set_priority`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EvtchnSetPriority {
    /// The port.
    pub port: EvtchnPort,
    /// 0 (highest) to 15.
    pub priority: u32,
}
const _: () = assert!(size_of::<EvtchnSetPriority>() == 8);

/// Argument of `event_channel_op_compat`: a command and its argument in one block.
///
/// `struct evtchn_op`, 28 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EvtchnOp {
    /// `EVTCHNOP_*`.
    pub cmd: u32,
    /// The argument structure, at the start.
    pub u: [u32; 6],
}
const _: () = assert!(size_of::<EvtchnOp>() == 28);

/// Ports of the 2-level ABI.
pub const EVTCHN_2L_NR_CHANNELS: usize = 8 * 8 * 64;
/// Highest priority.
pub const EVTCHN_FIFO_PRIORITY_MAX: u32 = 0;
/// Priority of a new port.
pub const EVTCHN_FIFO_PRIORITY_DEFAULT: u32 = 7;
/// Lowest priority.
pub const EVTCHN_FIFO_PRIORITY_MIN: u32 = 15;
/// Queues of a vCPU.
pub const EVTCHN_FIFO_MAX_QUEUES: usize = 16;
/// Bit number: the event is pending.
pub const EVTCHN_FIFO_PENDING: u32 = 31;
/// Bit number: the event is masked.
pub const EVTCHN_FIFO_MASKED: u32 = 30;
/// Bit number: the event is in a queue.
pub const EVTCHN_FIFO_LINKED: u32 = 29;
/// Bit number: the event word is being changed.
pub const EVTCHN_FIFO_BUSY: u32 = 28;
/// Bits of the LINK field.
pub const EVTCHN_FIFO_LINK_BITS: u32 = 17;
/// The LINK field: next port of the queue.
pub const EVTCHN_FIFO_LINK_MASK: u32 = (1 << EVTCHN_FIFO_LINK_BITS) - 1;
/// Ports of the FIFO ABI.
pub const EVTCHN_FIFO_NR_CHANNELS: usize = 1 << EVTCHN_FIFO_LINK_BITS;

/// FIFO: heads of a vCPU's queues.
///
/// `struct evtchn_fifo_control_block`, 72 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EvtchnFifoControlBlock {
    /// Bit n: queue n has events.
    pub ready: u32,
    /// Reserved, zero.
    pub _rsvd: u32,
    /// First port of each queue.
    pub head: [u32; EVTCHN_FIFO_MAX_QUEUES],
}
const _: () = assert!(size_of::<EvtchnFifoControlBlock>() == 72);
