//! The smallest guest: says hello, looks once at every group of the ABI, and powers off.
//!
//! Made to be the first thing a new hypervisor boots: the groups come in the order in which an implementation grows,
//! and each line is printed before the next group can go wrong.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
fn main() {
    xenner_guests::explain("hello");
}

#[cfg(target_os = "none")]
xenner_guests::guest!(guest::main);

#[cfg(target_os = "none")]
mod guest {
    use xenner_guests::abi::*;
    use xenner_guests::hypercall::{EINVAL, ENOENT, ENOSYS, OK, Ret, call1, call2, call3, direct};
    use xenner_guests::memory::{self, A, P, Page, U, W, mmu_update, mmuext, set_leaf};
    use xenner_guests::report::{eq, finish, see, yes};
    use xenner_guests::trap::Outcome;
    use xenner_guests::{attempt, boot, events, println, user, user_code};

    pub fn main() {
        println!("Hello from a Xen PV guest");
        start_info();
        version();
        traps();
        mmu();
        event_channels();
        time();
        grants();
        user_mode();
        finish();
        boot::shutdown_as_asked();
    }

    fn start_info() {
        let info = boot::start_info();
        yes(
            "start_info.magic",
            info.magic.starts_with(b"xen-3.0-x86_64"),
        );
        eq("start_info.flags", info.flags, 0);
        yes(
            "start_info.ports",
            info.console_evtchn.0 != 0 && info.store_evtchn.0 != 0,
        );
        yes("start_info.m2p", memory::m2p(memory::p2m(1)) == 1);
    }

    fn version() {
        eq(
            "version.page_size",
            call2(__HYPERVISOR_xen_version, XENVER_pagesize, 0),
            Ret(4096),
        );
        let mut features = [0u32; 2];
        let got = call2(__HYPERVISOR_xen_version, XENVER_get_features, &mut features);
        eq("version.get_features", got, OK);
        eq(
            "version.unknown",
            call2(__HYPERVISOR_xen_version, 999, 0),
            ENOSYS,
        );
        eq("hypercall.unknown", direct(63, 0, 0, 0), ENOSYS);
    }

    fn traps() {
        see("trap.ud2", Outcome(attempt!("ud2")));
        see("trap.int3", Outcome(attempt!("int3")));
        see(
            "trap.divide",
            Outcome(attempt!("xor edx, edx", "xor ecx, ecx", "div ecx";
            out("eax") _, out("ecx") _, out("edx") _)),
        );
        see(
            "trap.unmapped",
            Outcome(attempt!("mov rax, [0x1000]"; out("rax") _)),
        );
        see(
            "trap.hypervisor",
            Outcome(attempt!("mov rax, [{hole}]";
            hole = in(reg) 0xffff_8780_0000_0000u64, out("rax") _)),
        );
        see(
            "trap.wrmsr",
            Outcome(attempt!("wrmsr";
            in("ecx") 0x1234_5678u32, in("eax") 0u32, in("edx") 0)),
        );
    }

    fn mmu() {
        let page = Page::new();
        let spare = Page::new();
        spare.fill(7);
        let pte = spare.mfn() << 12 | P | W | U;
        eq("mmu.update_va_mapping", set_leaf(page.0, pte), OK);
        eq("mmu.seen_through", page.read(3), 7);
        let entry = memory::entry_maddr(page.0, 1).unwrap_or(0);
        eq("mmu.mmu_update", mmu_update(entry, pte & !W), OK);
        eq("mmu.invlpg", mmuext(MMUEXT_INVLPG_LOCAL, page.0, 0), OK);
        see(
            "mmu.write_protected",
            Outcome(attempt!("mov qword ptr [{page}], 1"; page = in(reg) page.0)),
        );
        let table = Page::new();
        table.write(0, spare.mfn() << 12 | P | U | A);
        eq("mmu.read_only", table.read_only(), OK);
        eq(
            "mmu.pin_l1",
            mmuext(MMUEXT_PIN_L1_TABLE, table.mfn(), 0),
            OK,
        );
        eq("mmu.unpin", mmuext(MMUEXT_UNPIN_TABLE, table.mfn(), 0), OK);
    }

    fn event_channels() {
        let mut unbound = EvtchnAllocUnbound {
            dom: DOMID_SELF,
            remote_dom: DOMID_SELF,
            ..EvtchnAllocUnbound::default()
        };
        eq(
            "event.alloc_unbound",
            events::op(EVTCHNOP_alloc_unbound, &mut unbound),
            OK,
        );
        let mut bind = EvtchnBindInterdomain {
            remote_dom: DOMID_SELF,
            remote_port: unbound.port,
            ..EvtchnBindInterdomain::default()
        };
        eq(
            "event.bind_interdomain",
            events::op(EVTCHNOP_bind_interdomain, &mut bind),
            OK,
        );
        events::clear(unbound.port.0);
        events::clear_mask(unbound.port.0);
        events::enable();
        eq(
            "event.send",
            events::op(EVTCHNOP_send, &mut bind.local_port),
            OK,
        );
        eq("event.upcall", events::seen(unbound.port.0), 1);
        events::disable();
        eq(
            "event.bad_port",
            events::op(
                EVTCHNOP_send,
                &EvtchnSend {
                    port: EvtchnPort(4000),
                },
            ),
            EINVAL,
        );
    }

    fn time() {
        let mut virq = EvtchnBindVirq {
            virq: VIRQ_TIMER,
            ..EvtchnBindVirq::default()
        };
        eq(
            "time.bind_virq",
            events::op(EVTCHNOP_bind_virq, &mut virq),
            OK,
        );
        let port = virq.port.0;
        events::clear_mask(port);
        eq("time.set_timer", call1(__HYPERVISOR_set_timer_op, 1), OK);
        events::enable();
        while events::seen(port) == 0 {
            events::disable();
            call2(__HYPERVISOR_sched_op, SCHEDOP_block, 0);
        }
        events::disable();
        see("time.timer_event", "seen");
        eq(
            "vcpu.is_up",
            call3(__HYPERVISOR_vcpu_op, VCPUOP_is_up, 0, 0),
            Ret(1),
        );
        eq(
            "vcpu.no_such",
            call3(__HYPERVISOR_vcpu_op, VCPUOP_is_up, 500, 0),
            ENOENT,
        );
    }

    fn grants() {
        let mut query = GnttabQuerySize {
            dom: DOMID_SELF,
            ..GnttabQuerySize::default()
        };
        let ret = call3(
            __HYPERVISOR_grant_table_op,
            GNTTABOP_query_size,
            &mut query,
            1,
        );
        eq("grant.query_size", ret, OK);
        eq("grant.query_size.status", query.status, GNTST_okay);
    }

    fn user_mode() {
        let space = user::Space::new();
        eq("user.new_user_baseptr", space.activate(), OK);
        space.load(user_code!("mov eax, 42", "syscall"));
        let trap = user::enter(&user::context());
        see("user.syscall", Outcome(trap));
        eq("user.syscall.rax", trap.map_or(0, |t| t.frame.rax), 42);
        space.load(user_code!("mov rax, [0]"));
        see("user.fault", Outcome(user::enter(&user::context())));
    }
}
