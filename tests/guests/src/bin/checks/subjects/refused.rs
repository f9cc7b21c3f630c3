//! Hypercalls that an unprivileged PV guest is refused, and how.

use xenner_guests::abi::*;
use xenner_guests::hypercall::{ENOSYS, UNMAPPED, call2, call3, call4, direct};
use xenner_guests::report::{eq, see};

pub fn run() {
    unknown();
    privileged();
    console_io();
    compat();
}

fn unknown() {
    for nr in [11u64, 43, 47, 51, 55, 56, 63] {
        see(name(nr), direct(nr, 0, 0, 0));
    }
    eq("refused.number_large", direct(1000, 0, 0, 0), ENOSYS);
    eq("refused.number_64bit", direct(u64::MAX, 0, 0, 0), ENOSYS);
    see(
        "refused.number_upper_half",
        direct(1 << 32 | __HYPERVISOR_xen_version, XENVER_pagesize, 0, 0),
    );
}

fn name(nr: u64) -> &'static str {
    match nr {
        11 => "refused.number_11",
        43 => "refused.number_43",
        47 => "refused.number_47",
        51 => "refused.number_51",
        55 => "refused.number_55",
        56 => "refused.number_56",
        _ => "refused.number_63",
    }
}

fn privileged() {
    let mut zero = [0u64; 64];
    see(
        "refused.platform_op",
        call2(__HYPERVISOR_platform_op, &mut zero, 0),
    );
    see(
        "refused.platform_op.null",
        call2(__HYPERVISOR_platform_op, 0, 0),
    );
    see("refused.sysctl", call2(__HYPERVISOR_sysctl, &mut zero, 0));
    see("refused.sysctl.null", call2(__HYPERVISOR_sysctl, 0, 0));
    see("refused.domctl", call2(__HYPERVISOR_domctl, &mut zero, 0));
    see("refused.domctl.null", call2(__HYPERVISOR_domctl, 0, 0));
    see("refused.xsm_op", call2(__HYPERVISOR_xsm_op, &mut zero, 0));
    see(
        "refused.xenoprof_op",
        call2(__HYPERVISOR_xenoprof_op, 0, &mut zero),
    );
    see("refused.hvm_op", call2(__HYPERVISOR_hvm_op, 0, &mut zero));
    see(
        "refused.hvm_op.get_param",
        call2(__HYPERVISOR_hvm_op, 1, &mut zero),
    );
    see(
        "refused.hvm_op.unknown",
        call2(__HYPERVISOR_hvm_op, 99, &mut zero),
    );
    see(
        "refused.kexec_op",
        call2(__HYPERVISOR_kexec_op, 0, &mut zero),
    );
    see("refused.tmem_op", call2(__HYPERVISOR_tmem_op, &mut zero, 0));
    see("refused.argo_op", direct(__HYPERVISOR_argo_op, 0, 0, 0));
    see(
        "refused.xenpmu_op",
        call2(__HYPERVISOR_xenpmu_op, 4, &mut zero),
    );
    see(
        "refused.xenpmu_op.mode_get",
        call2(__HYPERVISOR_xenpmu_op, 0, &mut zero),
    );
    see(
        "refused.xenpmu_op.unknown",
        call2(__HYPERVISOR_xenpmu_op, 99, &mut zero),
    );
    see(
        "refused.dm_op",
        call3(__HYPERVISOR_dm_op, DOMID_SELF, 0, &mut zero),
    );
    see("refused.hypfs_op", call4(__HYPERVISOR_hypfs_op, 0, 0, 0, 0));
    see("refused.mca", direct(__HYPERVISOR_arch_0, &mut zero, 0, 0));
    see("refused.arch_1", direct(__HYPERVISOR_arch_1, 0, 0, 0));
    see("refused.nmi_op.unknown", call2(__HYPERVISOR_nmi_op, 9, 0));
}

fn console_io() {
    let text = *b"never seen\n";
    see(
        "refused.console_io.write",
        call3(__HYPERVISOR_console_io, CONSOLEIO_write, text.len(), &text),
    );
    see(
        "refused.console_io.read",
        call3(__HYPERVISOR_console_io, CONSOLEIO_read, 1, UNMAPPED),
    );
    see(
        "refused.console_io.unknown",
        call3(__HYPERVISOR_console_io, 99, 0, 0),
    );
}

/// The numbers from before Xen 3.2, still served.
fn compat() {
    see(
        "refused.sched_op_compat.yield",
        direct(__HYPERVISOR_sched_op_compat, SCHEDOP_yield, 0, 0),
    );
    see(
        "refused.sched_op_compat.unknown",
        direct(__HYPERVISOR_sched_op_compat, 99, 0, 0),
    );
    let mut op = EvtchnOp {
        cmd: EVTCHNOP_bind_ipi,
        ..EvtchnOp::default()
    };
    see(
        "refused.event_channel_op_compat",
        direct(__HYPERVISOR_event_channel_op_compat, &mut op, 0, 0),
    );
    let close = EvtchnOp {
        cmd: EVTCHNOP_close,
        u: [op.u[1], 0, 0, 0, 0, 0],
    };
    see(
        "refused.event_channel_op_compat.close",
        direct(__HYPERVISOR_event_channel_op_compat, &close, 0, 0),
    );
    see(
        "refused.event_channel_op_compat.bad_pointer",
        direct(__HYPERVISOR_event_channel_op_compat, UNMAPPED, 0, 0),
    );
    see(
        "refused.physdev_op_compat.bad_pointer",
        direct(__HYPERVISOR_physdev_op_compat, UNMAPPED, 0, 0),
    );
}
