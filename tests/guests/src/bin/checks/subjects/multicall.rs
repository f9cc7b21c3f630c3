//! `multicall` (xen.h): several calls in one, results in the entries.

use xenner_guests::abi::*;
use xenner_guests::hypercall::{EFAULT, ENOSYS, HYPERVISOR, OK, Ret, UNMAPPED, call2};
use xenner_guests::report::{eq, see};

fn entry(op: u64, args: &[u64]) -> MulticallEntry {
    let mut entry = MulticallEntry {
        op,
        result: 77,
        ..MulticallEntry::default()
    };
    entry
        .args
        .iter_mut()
        .zip(args)
        .for_each(|(to, from)| *to = *from);
    entry
}

fn result(entry: &MulticallEntry) -> Ret {
    Ret(entry.result as i64)
}

pub fn run() {
    let mut calls = [
        entry(__HYPERVISOR_xen_version, &[u64::from(XENVER_pagesize), 0]),
        entry(__HYPERVISOR_sched_op, &[u64::from(SCHEDOP_yield), 0]),
        entry(63, &[]),
        entry(__HYPERVISOR_vcpu_op, &[u64::from(VCPUOP_is_up), 0, 0]),
    ];
    eq(
        "multicall.three",
        call2(__HYPERVISOR_multicall, &mut calls, 4),
        OK,
    );
    eq("multicall.three.version", result(&calls[0]), Ret(4096));
    eq("multicall.three.yield", result(&calls[1]), OK);
    eq("multicall.three.unknown", result(&calls[2]), ENOSYS);
    eq("multicall.three.after_error", result(&calls[3]), Ret(1));
    eq(
        "multicall.none",
        call2(__HYPERVISOR_multicall, &mut calls, 0),
        OK,
    );
    eq(
        "multicall.none.bad_pointer",
        call2(__HYPERVISOR_multicall, UNMAPPED, 0),
        OK,
    );
    eq(
        "multicall.bad_pointer",
        call2(__HYPERVISOR_multicall, UNMAPPED, 1),
        EFAULT,
    );
    eq(
        "multicall.hypervisor_pointer",
        call2(__HYPERVISOR_multicall, HYPERVISOR, 1),
        EFAULT,
    );
    let inner = [entry(
        __HYPERVISOR_xen_version,
        &[u64::from(XENVER_pagesize), 0],
    )];
    let mut nested = [entry(__HYPERVISOR_multicall, &[inner.as_ptr() as u64, 1])];
    see(
        "multicall.nested",
        call2(__HYPERVISOR_multicall, &mut nested, 1),
    );
    see("multicall.nested.result", result(&nested[0]));
    let mut big = [entry(u64::MAX, &[])];
    see(
        "multicall.number_64bit",
        call2(__HYPERVISOR_multicall, &mut big, 1),
    );
    see("multicall.number_64bit.result", result(&big[0]));
}
