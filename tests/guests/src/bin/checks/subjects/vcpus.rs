//! `vcpu_op` (vcpu.h): bringing up a second vCPU, its areas, its events. Wants a domain with two vCPUs.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use xenner_guests::abi::*;
use xenner_guests::events;
use xenner_guests::hypercall::{
    Arg, EEXIST, EFAULT, EINVAL, ENOENT, ENOSYS, ENXIO, HYPERVISOR, OK, Ret, UNMAPPED, call2, call3,
};
use xenner_guests::memory::{Page, mfn_of, mmuext, root};
use xenner_guests::report::{eq, see, skip, yes};
use xenner_guests::time::system_time;
use xenner_guests::trap;

fn op(cmd: u32, vcpu: u32, arg: impl Arg) -> Ret {
    call3(__HYPERVISOR_vcpu_op, cmd, vcpu, arg)
}

// What the second vCPU runs: it does what ORDER says and counts what it did in DONE.
static ORDER: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);
static UPCALLS: AtomicU64 = AtomicU64::new(0);
static SEEN_ARG: AtomicU64 = AtomicU64::new(0);
const SPIN: u64 = 0;
const BLOCK: u64 = 1;
const DOWN: u64 = 2;

global_asm!(
    r#"
    .pushsection .text.second_vcpu, "ax"
    .global second_entry
second_entry:
    cld
    call {main}
    ud2
    .global second_event
second_event:
    pop rcx
    pop r11
    push rax
    push rbx
    push rcx
    push rdx
    push rsi
    push rdi
    push rbp
    push r8
    push r9
    push r10
    push r11
    mov rbp, rsp
    and rsp, -16
    cld
    call {event}
    mov rsp, rbp
    pop r11
    pop r10
    pop r9
    pop r8
    pop rbp
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rbx
    pop rax
    push 0
    push rcx
    push r11
    push rax
    mov eax, 23
    syscall
    .popsection
"#,
    main = sym second_main,
    event = sym second_event_handler,
);

unsafe extern "C" {
    static second_entry: u8;
    static second_event: u8;
}

/// `vcpu_info` of vCPU 1 in the shared info page: word 8 holds pending and mask, word 9 the selector.
const INFO: usize = 8;

extern "C" fn second_event_handler() {
    events::shared(INFO).fetch_and(!0xff, SeqCst);
    let words = events::shared(INFO + 1).swap(0, SeqCst);
    for word in (0..64).filter(|word| words >> word & 1 == 1) {
        let pending = events::shared(256 + word);
        let mask = events::shared(320 + word).load(SeqCst);
        pending.fetch_and(mask, SeqCst);
    }
    UPCALLS.fetch_add(1, SeqCst);
}

extern "C" fn second_main(arg: u64) -> ! {
    SEEN_ARG.store(arg, SeqCst);
    DONE.fetch_add(1, SeqCst);
    loop {
        match ORDER.load(SeqCst) {
            BLOCK => {
                call2(__HYPERVISOR_sched_op, SCHEDOP_block, 0);
                DONE.fetch_add(1, SeqCst);
            }
            DOWN => {
                ORDER.store(SPIN, SeqCst);
                op(VCPUOP_down, 1, 0);
                DONE.fetch_add(1, SeqCst);
            }
            _ => {
                call2(__HYPERVISOR_sched_op, SCHEDOP_yield, 0);
            }
        }
    }
}

/// Yields until the condition holds; false after two seconds.
fn wait(condition: impl Fn() -> bool) -> bool {
    let end = system_time() + 2_000_000_000;
    while !condition() && system_time() < end {
        call2(__HYPERVISOR_sched_op, SCHEDOP_yield, 0);
    }
    condition()
}

pub fn run() {
    queries();
    areas();
    if op(VCPUOP_is_up, 1, 0) != OK {
        return skip("vcpu.second", "the domain has one vCPU");
    }
    initialise();
    second();
    second_events();
    down_and_up();
}

fn queries() {
    eq("vcpu.is_up.0", op(VCPUOP_is_up, 0, 0), Ret(1));
    eq("vcpu.is_up.no_such_vcpu", op(VCPUOP_is_up, 77, 0), ENOENT);
    eq("vcpu.is_up.large", op(VCPUOP_is_up, u32::MAX, 0), ENOENT);
    eq("vcpu.unknown", op(99, 0, 0), ENOSYS);
    see("vcpu.up.running", op(VCPUOP_up, 0, 0));
    let mut info = VcpuRunstateInfo::default();
    eq(
        "vcpu.runstate",
        op(VCPUOP_get_runstate_info, 0, &mut info),
        OK,
    );
    eq("vcpu.runstate.running", info.state, RUNSTATE_running);
    yes(
        "vcpu.runstate.time",
        info.time[0] > 0 && info.state_entry_time > 0,
    );
    eq(
        "vcpu.runstate.bad_pointer",
        op(VCPUOP_get_runstate_info, 0, UNMAPPED),
        EFAULT,
    );
    let mut id = VcpuGetPhysid::default();
    see("vcpu.get_physid", op(VCPUOP_get_physid, 0, &mut id));
    let mut context = [0u64; 8];
    see(
        "vcpu.initialise.running",
        op(VCPUOP_initialise, 0, UNMAPPED),
    );
    see(
        "vcpu.initialise.no_such_vcpu",
        op(VCPUOP_initialise, 77, &mut context),
    );
}

fn areas() {
    let page = Page::new();
    let runstate = |addr: u64| VcpuRegisterRunstateMemoryArea {
        addr: GuestHandle(addr),
    };
    eq(
        "vcpu.runstate_area",
        op(VCPUOP_register_runstate_memory_area, 0, &runstate(page.0)),
        OK,
    );
    call2(__HYPERVISOR_sched_op, SCHEDOP_yield, 0);
    eq(
        "vcpu.runstate_area.running",
        page.read(0) as u32,
        RUNSTATE_running as u32,
    );
    yes("vcpu.runstate_area.time", page.read(2) > 0);
    let assist = |cmd: u32| {
        call2(
            __HYPERVISOR_vm_assist,
            cmd,
            VMASST_TYPE_runstate_update_flag,
        )
    };
    eq(
        "vcpu.runstate_area.update_flag",
        assist(VMASST_CMD_enable),
        OK,
    );
    call2(__HYPERVISOR_sched_op, SCHEDOP_yield, 0);
    eq(
        "vcpu.runstate_area.update_flag.clear",
        page.read(1) >> 63,
        0,
    );
    eq(
        "vcpu.runstate_area.bad_pointer",
        op(VCPUOP_register_runstate_memory_area, 0, UNMAPPED),
        EFAULT,
    );
    see(
        "vcpu.runstate_area.hypervisor",
        op(
            VCPUOP_register_runstate_memory_area,
            0,
            &runstate(HYPERVISOR),
        ),
    );
    see(
        "vcpu.runstate_area.unmapped",
        op(VCPUOP_register_runstate_memory_area, 0, &runstate(UNMAPPED)),
    );
    eq(
        "vcpu.runstate_area.none",
        op(VCPUOP_register_runstate_memory_area, 0, &runstate(0)),
        OK,
    );
    let time = |addr: u64| VcpuRegisterTimeMemoryArea {
        addr: GuestHandle(addr),
    };
    eq(
        "vcpu.time_area",
        op(
            VCPUOP_register_vcpu_time_memory_area,
            0,
            &time(page.0 + 1024),
        ),
        OK,
    );
    yes("vcpu.time_area.filled", page.read(128 + 3) as u32 != 0);
    eq("vcpu.time_area.version_even", page.read(128) & 1, 0);
    see(
        "vcpu.time_area.hypervisor",
        op(VCPUOP_register_vcpu_time_memory_area, 0, &time(HYPERVISOR)),
    );
    eq(
        "vcpu.time_area.none",
        op(VCPUOP_register_vcpu_time_memory_area, 0, &time(0)),
        OK,
    );
    eq(
        "vcpu.time_area.bad_pointer",
        op(VCPUOP_register_vcpu_time_memory_area, 0, UNMAPPED),
        EFAULT,
    );
    info_errors(page);
}

fn info_errors(page: Page) {
    let register = |vcpu: u32, mfn: u64, offset: u32| {
        op(
            VCPUOP_register_vcpu_info,
            vcpu,
            &VcpuRegisterVcpuInfo {
                mfn,
                offset,
                rsvd: 0,
            },
        )
    };
    eq(
        "vcpu.info.over_page_end",
        register(0, page.mfn(), 4096 - 63),
        ENXIO,
    );
    see("vcpu.info.unaligned", register(0, page.mfn(), 4));
    see("vcpu.info.no_frame", register(0, 0x000f_0000_0000, 0));
    see("vcpu.info.no_such_vcpu", register(77, page.mfn(), 0));
    eq(
        "vcpu.info.bad_pointer",
        op(VCPUOP_register_vcpu_info, 0, UNMAPPED),
        EFAULT,
    );
}

fn context(stack: Page) -> VcpuGuestContext {
    let mut context = VcpuGuestContext {
        flags: VGCF_in_kernel,
        kernel_ss: u64::from(FLAT_KERNEL_SS64),
        kernel_sp: stack.0 + 4096,
        event_callback_eip: Vaddr(&raw const second_event as u64),
        failsafe_callback_eip: Vaddr(trap::stub(trap::FAILSAFE)),
        syscall_callback_eip: Vaddr(trap::stub(trap::SYSCALL)),
        ..zeroed()
    };
    context.user_regs.rip = &raw const second_entry as u64;
    context.user_regs.rsp = stack.0 + 4096;
    context.user_regs.cs = FLAT_KERNEL_CS64;
    context.user_regs.ss = FLAT_KERNEL_SS64;
    context.user_regs.rflags = 2;
    context.user_regs.rdi = 0x5ec0;
    context.ctrlreg[3] = xen_pfn_to_cr3(mfn_of(root()));
    context
}

fn zeroed() -> VcpuGuestContext {
    // SAFETY: integers and arrays of them; all zeroes is a value.
    unsafe { core::mem::zeroed() }
}

fn initialise() {
    let stack = [Page::new(), Page::new()][1];
    eq("vcpu.up.not_initialised", op(VCPUOP_up, 1, 0), EINVAL);
    eq("vcpu.down.not_initialised", op(VCPUOP_down, 1, 0), OK);
    eq(
        "vcpu.initialise.bad_pointer",
        op(VCPUOP_initialise, 1, UNMAPPED),
        EFAULT,
    );
    let mut bad = context(stack);
    bad.ctrlreg[3] = xen_pfn_to_cr3(0x000f_0000_0000);
    see("vcpu.initialise.bad_root", op(VCPUOP_initialise, 1, &bad));
    bad = context(stack);
    bad.gdt_ents = 10_000;
    see(
        "vcpu.initialise.gdt_too_long",
        op(VCPUOP_initialise, 1, &bad),
    );
    bad = context(stack);
    bad.ldt_ents = 9000;
    see(
        "vcpu.initialise.ldt_too_long",
        op(VCPUOP_initialise, 1, &bad),
    );
    bad = context(stack);
    bad.fs_base = 1 << 55;
    see("vcpu.initialise.fs_base", op(VCPUOP_initialise, 1, &bad));
    let good = context(stack);
    eq("vcpu.initialise", op(VCPUOP_initialise, 1, &good), OK);
    eq(
        "vcpu.initialise.twice",
        op(VCPUOP_initialise, 1, &good),
        EEXIST,
    );
    eq("vcpu.is_up.initialised", op(VCPUOP_is_up, 1, 0), OK);
    let mut info = VcpuRunstateInfo::default();
    eq(
        "vcpu.runstate.offline",
        op(VCPUOP_get_runstate_info, 1, &mut info),
        OK,
    );
    eq("vcpu.runstate.offline.state", info.state, RUNSTATE_offline);
}

fn second() {
    eq("vcpu.up", op(VCPUOP_up, 1, 0), OK);
    yes("vcpu.up.runs", wait(|| DONE.load(SeqCst) == 1));
    eq("vcpu.up.argument", SEEN_ARG.load(SeqCst), 0x5ec0);
    eq("vcpu.is_up.running", op(VCPUOP_is_up, 1, 0), Ret(1));
    eq("vcpu.up.again", op(VCPUOP_up, 1, 0), OK);
    eq("vcpu.flush_all", mmuext(MMUEXT_TLB_FLUSH_ALL, 0, 0), OK);
    let both = 3u64;
    eq(
        "vcpu.flush_multi",
        mmuext(MMUEXT_TLB_FLUSH_MULTI, 0, (&both).word()),
        OK,
    );
    eq(
        "vcpu.invlpg_multi",
        mmuext(MMUEXT_INVLPG_MULTI, root(), (&both).word()),
        OK,
    );
    yes(
        "vcpu.second.time",
        events::shared(INFO + 7).load(SeqCst) as u32 != 0,
    );
}

/// IPIs to the second vCPU, spinning and blocked.
fn second_events() {
    let mut ipi = EvtchnBindIpi {
        vcpu: 1,
        ..EvtchnBindIpi::default()
    };
    eq("vcpu.ipi.bind", events::op(EVTCHNOP_bind_ipi, &mut ipi), OK);
    events::clear_mask(ipi.port.0);
    let send = || events::op(EVTCHNOP_send, &EvtchnSend { port: ipi.port });
    // It has not unmasked upcalls yet: the new vCPU starts with them masked or not as its context says.
    see(
        "vcpu.ipi.starts_masked",
        events::shared(INFO).load(SeqCst) >> 8 & 0xff,
    );
    eq("vcpu.ipi.send", send(), OK);
    ORDER.store(BLOCK, SeqCst);
    yes("vcpu.ipi.upcall", wait(|| UPCALLS.load(SeqCst) > 0));
    let blocked = || {
        let mut info = VcpuRunstateInfo::default();
        op(VCPUOP_get_runstate_info, 1, &mut info);
        info.state == RUNSTATE_blocked
    };
    yes("vcpu.runstate.blocked", wait(blocked));
    let before = UPCALLS.load(SeqCst);
    eq("vcpu.ipi.send_blocked", send(), OK);
    yes("vcpu.ipi.wakes", wait(|| UPCALLS.load(SeqCst) > before));
    let mut unbound = EvtchnAllocUnbound {
        dom: DOMID_SELF,
        remote_dom: DOMID_SELF,
        ..EvtchnAllocUnbound::default()
    };
    events::op(EVTCHNOP_alloc_unbound, &mut unbound);
    let mut bind = EvtchnBindInterdomain {
        remote_dom: DOMID_SELF,
        remote_port: unbound.port,
        ..EvtchnBindInterdomain::default()
    };
    events::op(EVTCHNOP_bind_interdomain, &mut bind);
    events::clear(unbound.port.0);
    events::clear_mask(unbound.port.0);
    eq(
        "vcpu.bind_vcpu",
        events::op(
            EVTCHNOP_bind_vcpu,
            &EvtchnBindVcpu {
                port: unbound.port,
                vcpu: 1,
            },
        ),
        OK,
    );
    let before = UPCALLS.load(SeqCst);
    events::op(
        EVTCHNOP_send,
        &EvtchnSend {
            port: bind.local_port,
        },
    );
    yes(
        "vcpu.bind_vcpu.wakes",
        wait(|| UPCALLS.load(SeqCst) > before),
    );
    events::mask(ipi.port.0);
    events::mask(unbound.port.0);
    let before = DONE.load(SeqCst);
    let poke = || {
        ORDER.store(SPIN, SeqCst);
        events::op(EVTCHNOP_unmask, &EvtchnUnmask { port: ipi.port });
        send()
    };
    eq("vcpu.ipi.last", poke(), OK);
    yes("vcpu.ipi.last.wakes", wait(|| DONE.load(SeqCst) > before));
}

fn down_and_up() {
    let before = DONE.load(SeqCst);
    ORDER.store(DOWN, SeqCst);
    yes("vcpu.down.itself", wait(|| op(VCPUOP_is_up, 1, 0) == OK));
    yes("vcpu.down.stopped", DONE.load(SeqCst) == before);
    eq("vcpu.up.after_down", op(VCPUOP_up, 1, 0), OK);
    yes("vcpu.up.goes_on", wait(|| DONE.load(SeqCst) > before));
    eq("vcpu.down.by_other", op(VCPUOP_down, 1, 0), OK);
    eq("vcpu.is_up.down", op(VCPUOP_is_up, 1, 0), OK);
    see("vcpu.initialise.down", {
        let stack = Page::new();
        op(VCPUOP_initialise, 1, &context(stack))
    });
    let page = Page::new();
    let register = VcpuRegisterVcpuInfo {
        mfn: page.mfn(),
        offset: 128,
        rsvd: 0,
    };
    eq(
        "vcpu.info.register",
        op(VCPUOP_register_vcpu_info, 1, &register),
        OK,
    );
    eq(
        "vcpu.info.twice",
        op(VCPUOP_register_vcpu_info, 1, &register),
        EINVAL,
    );
    yes("vcpu.info.time_moved", page.read(16 + 7) as u32 != 0);
    eq("vcpu.info.upcall_pending", page.read(16) & 0xff, 1);
    eq("vcpu.info.selector", page.read(17), u64::MAX);
}
