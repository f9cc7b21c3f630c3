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
        cache: Some(xt_builder::PayloadCache::new("/tmp/xc")),
    };
    let t = std::time::Instant::now();
    let vmm = xenner_vmm::Vmm::build(&spec, Box::new(|b| { std::io::stdout().write_all(b).unwrap(); })).unwrap();
    eprintln!("built in {:?}", t.elapsed());
    eprintln!("{:x?}", vmm.run());
}
