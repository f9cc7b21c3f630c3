//! Boots a kernel with the hypervisor's console on stdout.
use std::io::Write;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let spec = xenner_vmm::DomainSpec {
        name: "x".into(),
        kernel: std::fs::read(&a[1]).unwrap(),
        initrd: a.get(3).map(|p| std::fs::read(p).unwrap()),
        cmd_line: a.get(2).cloned().unwrap_or_default(),
        nr_pages: 65536,
        max_pages: 65536,
        vcpus: std::env::var("VCPUS").map_or(1, |v| v.parse().unwrap()),
        uuid: [7; 16],
        confine: |_| (),
        cpuid: xenner_vmm::kvm::CpuidPolicy(std::sync::Arc::new(|_, _, leaf| leaf)),
        cache: Some(xt_builder::PayloadCache::new("/tmp/xc")),
    };
    let t = std::time::Instant::now();
    let mut vmm = xenner_vmm::Vmm::build(
        &spec,
        Box::new(|b| {
            std::io::stdout().write_all(b).unwrap();
        }),
    )
    .unwrap();
    eprintln!("built in {:?}", t.elapsed());
    struct Out(vmm_sys_util::eventfd::EventFd);
    impl xenner_vmm::devices::ConsoleIo for Out {
        fn output(&self, b: &[u8]) {
            std::io::stdout().write_all(b).unwrap();
            std::io::stdout().flush().unwrap();
        }
        fn input(&self, _: &mut [u8]) -> usize {
            0
        }
        fn input_fd(&self) -> std::os::fd::BorrowedFd<'_> {
            use std::os::fd::AsRawFd;
            unsafe { std::os::fd::BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
        }
    }
    let _c = vmm
        .attach_console(std::sync::Arc::new(Out(
            vmm_sys_util::eventfd::EventFd::new(0).unwrap(),
        )))
        .unwrap();
    let info = xenner_vmm::devices::StoreInfo {
        name: "x".into(),
        uuid: "00000000-0000-0000-0000-000000000001".into(),
        pages: (65536, 65536),
        vcpus: (spec.vcpus, spec.vcpus),
        frames: (vmm.image.xenstore_mfn, vmm.image.console_mfn),
        tty: None,
    };
    let _s = vmm.attach_xenstore(&info, None).unwrap();
    eprintln!("{:x?}", vmm.run());
}
