//! `vm_assist`, `physdev_op`, `set_segment_base`'s relatives: small calls that boot code makes.

use xenner_guests::abi::*;
use xenner_guests::hypercall::{Arg, EFAULT, EINVAL, ENOSYS, OK, Ret, UNMAPPED, call2};
use xenner_guests::memory::Page;
use xenner_guests::report::{eq, see};

pub fn run() {
    assists();
    physdev();
}

fn assists() {
    let assist = |cmd: u32, kind: u32| call2(__HYPERVISOR_vm_assist, cmd, kind);
    for (check, kind) in [
        ("vm_assist.4gb_segments", VMASST_TYPE_4gb_segments),
        (
            "vm_assist.4gb_segments_notify",
            VMASST_TYPE_4gb_segments_notify,
        ),
        (
            "vm_assist.writable_pagetables",
            VMASST_TYPE_writable_pagetables,
        ),
        ("vm_assist.pae_extended_cr3", VMASST_TYPE_pae_extended_cr3),
        (
            "vm_assist.architectural_iopl",
            VMASST_TYPE_architectural_iopl,
        ),
        (
            "vm_assist.runstate_update_flag",
            VMASST_TYPE_runstate_update_flag,
        ),
        ("vm_assist.m2p_strict", VMASST_TYPE_m2p_strict),
        ("vm_assist.unknown_6", 6),
        ("vm_assist.unknown_63", 63),
        ("vm_assist.unknown_64", 64),
        ("vm_assist.unknown_large", u32::MAX),
    ] {
        let on = assist(VMASST_CMD_enable, kind);
        let off = assist(VMASST_CMD_disable, kind);
        see(check, format_args!("{on} {off}"));
    }
    eq(
        "vm_assist.unknown_command",
        assist(2, VMASST_TYPE_writable_pagetables),
        ENOSYS,
    );
}

fn op(cmd: u32, arg: impl Arg) -> Ret {
    call2(__HYPERVISOR_physdev_op, cmd, arg)
}

fn physdev() {
    eq(
        "physdev.set_iopl.0",
        op(PHYSDEVOP_set_iopl, &PhysdevSetIopl { iopl: 0 }),
        OK,
    );
    eq(
        "physdev.set_iopl.4",
        op(PHYSDEVOP_set_iopl, &PhysdevSetIopl { iopl: 4 }),
        EINVAL,
    );
    eq(
        "physdev.set_iopl.bad_pointer",
        op(PHYSDEVOP_set_iopl, UNMAPPED),
        EFAULT,
    );
    let page = Page::new();
    let bitmap = |nr_ports: u32| PhysdevSetIobitmap {
        bitmap: GuestHandle(page.0),
        nr_ports,
        ..PhysdevSetIobitmap::default()
    };
    eq(
        "physdev.set_iobitmap",
        op(PHYSDEVOP_set_iobitmap, &bitmap(32)),
        OK,
    );
    eq(
        "physdev.set_iobitmap.too_many",
        op(PHYSDEVOP_set_iobitmap, &bitmap(65537)),
        EINVAL,
    );
    eq(
        "physdev.set_iobitmap.none",
        op(PHYSDEVOP_set_iobitmap, &PhysdevSetIobitmap::default()),
        OK,
    );
    see("physdev.eoi", op(PHYSDEVOP_eoi, &PhysdevEoi { irq: 5 }));
    see(
        "physdev.eoi.large",
        op(PHYSDEVOP_eoi, &PhysdevEoi { irq: 100_000 }),
    );
    see(
        "physdev.irq_status_query",
        op(
            PHYSDEVOP_irq_status_query,
            &mut PhysdevIrqStatusQuery { irq: 5, flags: 0 },
        ),
    );
    see(
        "physdev.irq_status_query.large",
        op(
            PHYSDEVOP_irq_status_query,
            &mut PhysdevIrqStatusQuery {
                irq: 100_000,
                flags: 0,
            },
        ),
    );
    see(
        "physdev.irq_unmask_notify",
        op(PHYSDEVOP_IRQ_UNMASK_NOTIFY, 0),
    );
    let mut eoi = PhysdevPirqEoiGmfn { gmfn: page.mfn() };
    see(
        "physdev.pirq_eoi_gmfn_v2.bad_frame",
        op(
            PHYSDEVOP_pirq_eoi_gmfn_v2,
            &mut PhysdevPirqEoiGmfn {
                gmfn: 0x000f_0000_0000,
            },
        ),
    );
    see(
        "physdev.pirq_eoi_gmfn_v2",
        op(PHYSDEVOP_pirq_eoi_gmfn_v2, &mut eoi),
    );
    see(
        "physdev.pirq_eoi_gmfn_v2.again",
        op(PHYSDEVOP_pirq_eoi_gmfn_v2, &mut eoi),
    );
    let mut map = PhysdevMapPirq {
        domid: DOMID_SELF,
        kind: MAP_PIRQ_TYPE_GSI,
        index: 5,
        pirq: -1,
        ..PhysdevMapPirq::default()
    };
    see("physdev.map_pirq", op(PHYSDEVOP_map_pirq, &mut map));
    see(
        "physdev.unmap_pirq",
        op(
            PHYSDEVOP_unmap_pirq,
            &PhysdevUnmapPirq {
                domid: DOMID_SELF,
                pirq: 5,
                ..PhysdevUnmapPirq::default()
            },
        ),
    );
    see(
        "physdev.get_free_pirq",
        op(
            PHYSDEVOP_get_free_pirq,
            &mut PhysdevGetFreePirq {
                kind: MAP_PIRQ_TYPE_GSI,
                pirq: 0,
            },
        ),
    );
    see(
        "physdev.apic_read",
        op(PHYSDEVOP_apic_read, &mut PhysdevApic::default()),
    );
    see(
        "physdev.apic_write",
        op(PHYSDEVOP_apic_write, &mut PhysdevApic::default()),
    );
    see(
        "physdev.alloc_irq_vector",
        op(PHYSDEVOP_alloc_irq_vector, &mut PhysdevIrq::default()),
    );
    see(
        "physdev.setup_gsi",
        op(PHYSDEVOP_setup_gsi, &mut PhysdevSetupGsi::default()),
    );
    see(
        "physdev.manage_pci_add",
        op(PHYSDEVOP_manage_pci_add, &mut PhysdevManagePci::default()),
    );
    see(
        "physdev.pci_device_add",
        op(PHYSDEVOP_pci_device_add, &mut [0u64; 4]),
    );
    see(
        "physdev.pci_mmcfg_reserved",
        op(
            PHYSDEVOP_pci_mmcfg_reserved,
            &mut PhysdevPciMmcfgReserved::default(),
        ),
    );
    see(
        "physdev.restore_msi",
        op(PHYSDEVOP_restore_msi, &mut PhysdevManagePci::default()),
    );
    see(
        "physdev.prepare_msix",
        op(PHYSDEVOP_prepare_msix, &mut [0u64; 4]),
    );
    see("physdev.dbgp_op", op(PHYSDEVOP_dbgp_op, &mut [0u64; 4]));
    eq("physdev.unknown", op(99, 0), ENOSYS);
}
