//! Small hypercalls, and those a domU is refused.

use core::sync::atomic::Ordering;

use xen_sys::DomId;
use xen_sys::addr::{Mfn, Vaddr};
use xen_sys::errno::Errno;
use xen_sys::hypercall::*;
use xen_sys::physdev::*;
use xen_sys::xen::*;

use crate::evtchn::NR_PIRQS;
use crate::{Domain, Machine, Ret, Vcpu, guest, memory};

/// Whether a domain number is the caller's own. Dom0 exists, and the caller
/// has no power over it; nobody else exists.
pub(crate) fn own_domain(d: &Domain, domid: DomId) -> Result<(), Errno> {
    match domid {
        DOMID_SELF => Ok(()),
        DomId(domid) if domid == d.config.domid => Ok(()),
        DomId(0) => Err(Errno::EPERM),
        _ => Err(Errno::ESRCH),
    }
}

/// The assists a 64-bit PV domain may switch (Xen's `PV64_VM_ASSIST_MASK` and
/// those that do nothing any more).
const ASSISTS: u64 = 1 << VMASST_TYPE_4gb_segments
    | 1 << VMASST_TYPE_4gb_segments_notify
    | 1 << VMASST_TYPE_writable_pagetables
    | 1 << VMASST_TYPE_pae_extended_cr3
    | 1 << VMASST_TYPE_architectural_iopl
    | 1 << VMASST_TYPE_runstate_update_flag
    | 1 << VMASST_TYPE_m2p_strict;

impl Domain {
    /// Whether the guest has switched an assist (`VMASST_TYPE_*`) on.
    pub fn has_assist(&self, kind: u32) -> bool {
        kind < 64 && self.vm_assist.load(Ordering::Relaxed) >> kind & 1 != 0
    }
}

/// `HYPERVISOR_vm_assist` (`xen/include/public/xen.h`).
///
/// # Errors
/// `EINVAL` for a type this kind of domain has not, `ENOSYS` for an unknown
/// command.
pub fn vm_assist<M: Machine>(_m: &mut M, d: &Domain, _v: &mut Vcpu, cmd: u64, kind: u64) -> Ret {
    let kind = kind as u32;
    if kind >= 64 || ASSISTS >> kind & 1 == 0 {
        return Err(Errno::EINVAL);
    }
    match cmd as u32 {
        VMASST_CMD_enable => d.vm_assist.fetch_or(1 << kind, Ordering::Relaxed),
        VMASST_CMD_disable => d.vm_assist.fetch_and(!(1 << kind), Ordering::Relaxed),
        _ => return Err(Errno::ENOSYS),
    };
    Ok(0)
}

/// Text taken from one `CONSOLEIO_write` at most.
const CONSOLE_LIMIT: u64 = 4096;

/// `HYPERVISOR_console_io`. A release build of Xen refuses it to a domU; so
/// do we, but the text goes to the hypervisor's console as in a debug build:
/// it is all a kernel can say before its console works.
///
/// # Errors
/// `EPERM`.
pub fn console_io<M: Machine>(
    m: &mut M,
    _d: &Domain,
    _v: &mut Vcpu,
    cmd: u64,
    count: u64,
    buffer: Vaddr,
) -> Ret {
    if cmd as u32 == CONSOLEIO_write {
        let mut rest = u64::from(count as u32).min(CONSOLE_LIMIT) as usize;
        let mut from = buffer;
        let mut bytes = [0; 128];
        while rest > 0 {
            let piece = bytes.get_mut(..rest.min(128)).unwrap_or_default();
            if m.copy_from_guest(from, piece).is_err() {
                break;
            }
            m.console_write(piece);
            from = guest::element::<u8>(from, piece.len() as u64);
            rest -= piece.len();
        }
    }
    Err(Errno::EPERM)
}

/// `HYPERVISOR_physdev_op` (`xen/include/public/physdev.h`) for a domain
/// without devices.
///
/// # Errors
/// Xen's: `EFAULT` for the argument, `EPERM` for what needs privilege,
/// `EINVAL` for interrupts that do not exist, `ENOSYS` for unknown commands.
pub fn physdev_op<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, cmd: u64, arg: Vaddr) -> Ret {
    match cmd as u32 {
        PHYSDEVOP_eoi => {
            // No PIRQ is bound, whichever it names.
            guest::get::<PhysdevEoi>(m, arg)?;
            Err(Errno::EINVAL)
        }
        PHYSDEVOP_pirq_eoi_gmfn_v1 | PHYSDEVOP_pirq_eoi_gmfn_v2 => {
            let op: PhysdevPirqEoiGmfn = guest::get(m, arg)?;
            if !memory::is_owned(m, d, Mfn(op.gmfn)) {
                return Err(Errno::EINVAL);
            }
            // Its bits tell which PIRQs want an EOI: none ever.
            if d.evtchn.pirq_eoi.swap(true, Ordering::AcqRel) {
                Err(Errno::EBUSY)
            } else {
                Ok(0)
            }
        }
        PHYSDEVOP_IRQ_UNMASK_NOTIFY => Ok(0),
        PHYSDEVOP_irq_status_query => {
            let mut op: PhysdevIrqStatusQuery = guest::get(m, arg)?;
            if op.irq >= NR_PIRQS {
                return Err(Errno::EINVAL);
            }
            op.flags = XENIRQSTAT_needs_eoi;
            guest::put(m, arg, &op).map(|()| 0)
        }
        PHYSDEVOP_set_iopl => {
            let op: PhysdevSetIopl = guest::get(m, arg)?;
            if op.iopl > 3 {
                return Err(Errno::EINVAL);
            }
            v.iopl = op.iopl as u8;
            Ok(0)
        }
        PHYSDEVOP_set_iobitmap => {
            // There is no port behind any bit, so that none needs keeping.
            let op: PhysdevSetIobitmap = guest::get(m, arg)?;
            if op.nr_ports > 65536 {
                Err(Errno::EINVAL)
            } else {
                Ok(0)
            }
        }
        PHYSDEVOP_map_pirq => {
            let op: PhysdevMapPirq = guest::get(m, arg)?;
            own_domain(d, op.domid).and(Err(Errno::EPERM))
        }
        PHYSDEVOP_unmap_pirq => {
            let op: PhysdevUnmapPirq = guest::get(m, arg)?;
            own_domain(d, op.domid).and(Err(Errno::EPERM))
        }
        PHYSDEVOP_get_free_pirq => {
            // A number is had for the asking; nothing can be bound to it.
            let mut op: PhysdevGetFreePirq = guest::get(m, arg)?;
            op.pirq = NR_PIRQS - 1;
            guest::put(m, arg, &op).map(|()| 0)
        }
        PHYSDEVOP_apic_read
        | PHYSDEVOP_apic_write
        | PHYSDEVOP_alloc_irq_vector
        | PHYSDEVOP_manage_pci_add
        | PHYSDEVOP_manage_pci_add_ext
        | PHYSDEVOP_manage_pci_remove
        | PHYSDEVOP_pci_device_add
        | PHYSDEVOP_pci_device_remove
        | PHYSDEVOP_restore_msi
        | PHYSDEVOP_restore_msi_ext
        | PHYSDEVOP_pci_mmcfg_reserved
        | PHYSDEVOP_prepare_msix
        | PHYSDEVOP_release_msix
        | PHYSDEVOP_setup_gsi => {
            // Each copies its argument first; the smallest is a byte.
            guest::get::<u8>(m, arg)?;
            Err(Errno::EPERM)
        }
        PHYSDEVOP_dbgp_op => Err(Errno::EPERM),
        _ => Err(Errno::ENOSYS),
    }
}

/// `HYPERVISOR_physdev_op_compat`: the command lies in memory, eight bytes in
/// front of its argument (`struct physdev_op`).
///
/// # Errors
/// As [`physdev_op`]; `ENOSYS` for commands newer than this call.
pub fn physdev_op_compat<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, arg: Vaddr) -> Ret {
    let cmd: u32 = guest::get(m, arg)?;
    match cmd {
        PHYSDEVOP_IRQ_UNMASK_NOTIFY
        | PHYSDEVOP_irq_status_query
        | PHYSDEVOP_set_iopl
        | PHYSDEVOP_set_iobitmap
        | PHYSDEVOP_apic_read
        | PHYSDEVOP_apic_write
        | PHYSDEVOP_alloc_irq_vector => {
            physdev_op(m, d, v, u64::from(cmd), Vaddr(arg.0.wrapping_add(8)))
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// What Xen answers to a hypercall that is not for a PV domU, or that does not
/// exist. The privileged ones have their arguments looked at first.
pub fn refused<M: Machine>(m: &mut M, nr: u64, args: [u64; 6]) -> Errno {
    let argument = Vaddr(args[0]);
    match nr {
        __HYPERVISOR_platform_op => versioned(m, argument, XENPF_INTERFACE_VERSION),
        __HYPERVISOR_sysctl => versioned(m, argument, XEN_SYSCTL_INTERFACE_VERSION),
        __HYPERVISOR_domctl => versioned(m, argument, XEN_DOMCTL_INTERFACE_VERSION),
        __HYPERVISOR_xenoprof_op => match args[0] as i32 {
            // Initialising finds no counters.
            0 => guest::get::<u64>(m, Vaddr(args[1]))
                .map_or_else(|error| error, |_| Errno::ENODEV),
            1..=XENOPROF_LAST_OP => Errno::EPERM,
            _ => Errno::EINVAL,
        },
        __HYPERVISOR_kexec_op
        | __HYPERVISOR_hypfs_op
        // The machine check hypercall.
        | __HYPERVISOR_arch_0 => Errno::EPERM,
        __HYPERVISOR_dm_op => Errno(61), // ENODATA
        // The continuation of a domctl.
        __HYPERVISOR_arch_1 => guest::get::<u64>(m, argument)
            .map_or_else(|error| error, |_| Errno::EINVAL),
        // Without the `vpmu` option.
        __HYPERVISOR_xenpmu_op => Errno::EOPNOTSUPP,
        // Its commands name a domain, and a PV one is never right.
        __HYPERVISOR_hvm_op if HVM_OPS.contains(&args[0]) => Errno::EINVAL,
        // Built without XSM policy and Argo; tmem is gone.
        _ => Errno::ENOSYS,
    }
}

/// The commands of `HYPERVISOR_hvm_op` there are (`hvm/hvm_op.h`).
const HVM_OPS: [u64; 10] = [0, 1, 5, 9, 10, 11, 15, 23, 24, 25];
/// `XENOPROF_last_op` (`xenoprof.h`).
const XENOPROF_LAST_OP: i32 = 16;
/// From `platform.h`.
const XENPF_INTERFACE_VERSION: u32 = 0x0300_0000;
/// From Xen 4.17's `sysctl.h`.
const XEN_SYSCTL_INTERFACE_VERSION: u32 = 0x15;
/// From Xen 4.17's `domctl.h`.
const XEN_DOMCTL_INTERFACE_VERSION: u32 = 0x15;

/// The toolstack's hypercalls begin with a command and an interface version.
fn versioned<M: Machine>(m: &mut M, at: Vaddr, version: u32) -> Errno {
    match guest::get::<[u32; 2]>(m, at) {
        Err(error) => error,
        Ok([_, seen]) if seen != version => Errno::EACCES,
        Ok(_) => Errno::EPERM,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;
    use xen_sys::GuestHandle;

    fn physdev<T: zerocopy::IntoBytes + zerocopy::Immutable>(f: &mut Fake, cmd: u32, op: T) -> Ret {
        f.poke(Fake::ARG, &op);
        f.call(|m, d, v| physdev_op(m, d, v, u64::from(cmd), Fake::ARG))
    }

    #[test]
    fn the_software_iopl_is_set() {
        let mut f = Fake::new();
        let op = |iopl: u32| PhysdevSetIopl { iopl };
        assert_eq!(
            physdev(&mut f, PHYSDEVOP_set_iopl, op(4)),
            Err(Errno::EINVAL)
        );
        assert_eq!(physdev(&mut f, PHYSDEVOP_set_iopl, op(1)), Ok(0));
        assert_eq!(f.v.iopl, 1);
        // In the compat call, the argument lies eight bytes further.
        f.poke(Fake::ARG, &[u64::from(PHYSDEVOP_set_iopl), 2]);
        assert_eq!(
            f.call(|m, d, v| physdev_op_compat(m, d, v, Fake::ARG)),
            Ok(0)
        );
        assert_eq!(f.v.iopl, 2);
    }

    #[test]
    fn no_interrupt_is_for_the_domain() {
        let mut f = Fake::new();
        let mut status = PhysdevIrqStatusQuery { irq: 3, flags: 0 };
        assert_eq!(physdev(&mut f, PHYSDEVOP_irq_status_query, status), Ok(0));
        assert_eq!(
            f.peek::<PhysdevIrqStatusQuery>(Fake::ARG).flags,
            XENIRQSTAT_needs_eoi
        );
        status.irq = 4000;
        assert_eq!(
            physdev(&mut f, PHYSDEVOP_irq_status_query, status),
            Err(Errno::EINVAL)
        );
        assert_eq!(
            physdev(&mut f, PHYSDEVOP_eoi, PhysdevEoi { irq: 3 }),
            Err(Errno::EINVAL)
        );
        let map = PhysdevMapPirq {
            domid: DOMID_SELF,
            ..Default::default()
        };
        assert_eq!(physdev(&mut f, PHYSDEVOP_map_pirq, map), Err(Errno::EPERM));
        assert_eq!(
            physdev(&mut f, PHYSDEVOP_setup_gsi, 0u64),
            Err(Errno::EPERM)
        );
        assert_eq!(physdev(&mut f, 99, 0u64), Err(Errno::ENOSYS));
    }

    #[test]
    fn the_eoi_page_is_registered_once() {
        let mut f = Fake::new();
        let op = |gmfn: u64| PhysdevPirqEoiGmfn { gmfn };
        let cmd = PHYSDEVOP_pirq_eoi_gmfn_v2;
        assert_eq!(physdev(&mut f, cmd, op(1)), Err(Errno::EINVAL));
        assert_eq!(physdev(&mut f, cmd, op(Fake::RAM)), Ok(0));
        assert_eq!(physdev(&mut f, cmd, op(Fake::RAM)), Err(Errno::EBUSY));
    }

    #[test]
    fn io_ports_are_counted() {
        let mut f = Fake::new();
        let op = |nr_ports: u32| PhysdevSetIobitmap {
            bitmap: GuestHandle(Fake::LIST.0),
            nr_ports,
            _pad0: [0; 4],
        };
        assert_eq!(physdev(&mut f, PHYSDEVOP_set_iobitmap, op(65536)), Ok(0));
        assert_eq!(
            physdev(&mut f, PHYSDEVOP_set_iobitmap, op(65537)),
            Err(Errno::EINVAL)
        );
    }

    #[test]
    fn console_text_is_heard_though_refused() {
        let mut f = Fake::new();
        let text = [b'x'; 300];
        f.poke(Fake::LIST, &text);
        let mut write = |cmd: u32, count: u64, at: Vaddr| {
            f.call(|m, d, v| console_io(m, d, v, u64::from(cmd), count, at))
        };
        assert_eq!(write(CONSOLEIO_write, 300, Fake::LIST), Err(Errno::EPERM));
        assert_eq!(write(CONSOLEIO_read, 300, Fake::LIST), Err(Errno::EPERM));
        assert_eq!(
            write(CONSOLEIO_write, u64::MAX, Vaddr(8)),
            Err(Errno::EPERM)
        );
        assert_eq!(f.m.console, text);
    }

    #[test]
    fn assists() {
        let mut f = Fake::new();
        let mut call =
            |cmd: u32, kind: u64| f.call(|m, d, v| vm_assist(m, d, v, u64::from(cmd), kind));
        assert_eq!(call(VMASST_CMD_enable, 6), Err(Errno::EINVAL));
        assert_eq!(call(VMASST_CMD_enable, 200), Err(Errno::EINVAL));
        assert_eq!(call(2, 3), Err(Errno::ENOSYS));
        assert_eq!(call(VMASST_CMD_enable, 3), Ok(0));
        assert_eq!(call(VMASST_CMD_enable, 32), Ok(0));
        assert_eq!(call(VMASST_CMD_disable, 32), Ok(0));
        assert!(f.d.has_assist(VMASST_TYPE_pae_extended_cr3));
        assert!(!f.d.has_assist(VMASST_TYPE_m2p_strict) && !f.d.has_assist(64));
    }

    #[test]
    fn refusals() {
        let mut f = Fake::new();
        let mut call = |nr: u64, args: [u64; 2]| {
            f.call(|m, _, _| refused(m, nr, [args[0], args[1], 0, 0, 0, 0]))
        };
        assert_eq!(call(__HYPERVISOR_domctl, [8, 0]), Errno::EFAULT);
        assert_eq!(call(__HYPERVISOR_domctl, [Fake::ARG.0, 0]), Errno::EACCES);
        assert_eq!(
            call(__HYPERVISOR_xenoprof_op, [0, Fake::ARG.0]),
            Errno::ENODEV
        );
        assert_eq!(call(__HYPERVISOR_xenoprof_op, [9, 0]), Errno::EPERM);
        assert_eq!(call(__HYPERVISOR_xenpmu_op, [0, 0]), Errno::EOPNOTSUPP);
        assert_eq!(call(__HYPERVISOR_hvm_op, [1, 0]), Errno::EINVAL);
        assert_eq!(call(__HYPERVISOR_hvm_op, [99, 0]), Errno::ENOSYS);
        for nr in [
            __HYPERVISOR_tmem_op,
            __HYPERVISOR_xsm_op,
            __HYPERVISOR_argo_op,
            63,
            u64::MAX,
        ] {
            assert_eq!(call(nr, [0, 0]), Errno::ENOSYS);
        }
        f.poke(Fake::ARG, &[1u32, XEN_DOMCTL_INTERFACE_VERSION]);
        let args = [Fake::ARG.0, 0, 0, 0, 0, 0];
        assert_eq!(
            f.call(|m, _, _| refused(m, __HYPERVISOR_domctl, args)),
            Errno::EPERM
        );
    }
}
