//! Compares numbers and layouts with the kernel's headers, by a C program, where the machine has a
//! compiler and `xen/gntdev.h`; the numbers themselves are also written down here.

use std::path::Path;
use std::process::Command;

use super::*;

#[test]
fn requests_are_those_of_the_headers() {
    let ours = [
        ("GNTDEV_MAP_GRANT_REF", MapGrantRef::REQUEST, 0x18_4700),
        ("GNTDEV_UNMAP_GRANT_REF", UnmapGrantRef::REQUEST, 0x10_4701),
        ("GNTDEV_SET_MAX_GRANTS", SetMaxGrants::REQUEST, 0x04_4703),
        ("GNTDEV_SET_UNMAP_NOTIFY", UnmapNotify::REQUEST, 0x10_4707),
        ("GNTALLOC_ALLOC_GREF", AllocGref::REQUEST, 0x18_4705),
        ("GNTALLOC_DEALLOC_GREF", DeallocGref::REQUEST, 0x10_4706),
        ("EVTCHN_BIND_VIRQ", BindVirq::REQUEST, 0x04_4500),
        (
            "EVTCHN_BIND_INTERDOMAIN",
            BindInterdomain::REQUEST,
            0x08_4501,
        ),
        (
            "EVTCHN_BIND_UNBOUND_PORT",
            BindUnboundPort::REQUEST,
            0x04_4502,
        ),
        ("EVTCHN_NOTIFY", Notify::REQUEST, 0x04_4504),
        (
            "PRIVCMD_HYPERCALL",
            crate::hypercall::IOCTL_PRIVCMD_HYPERCALL,
            0x30_5000,
        ),
        (
            "PRIVCMD_MMAPBATCH_V2",
            crate::foreign::IOCTL_PRIVCMD_MMAPBATCH_V2,
            0x20_5004,
        ),
        (
            "PRIVCMD_MMAP_RESOURCE",
            crate::foreign::IOCTL_PRIVCMD_MMAP_RESOURCE,
            0x20_5007,
        ),
    ];
    for (name, ours, number) in ours {
        assert_eq!(ours, number, "{name}");
    }
    let Some(theirs) = of_headers(ours.map(|(name, ..)| name)) else {
        println!("skipped: no C compiler, or no xen/gntdev.h, to compare with");
        return;
    };
    for ((name, ours, _), theirs) in ours.iter().zip(theirs) {
        assert_eq!(*ours, theirs, "{name}");
    }
}

/// The numbers as a C program prints them.
fn of_headers<const N: usize>(names: [&str; N]) -> Option<Vec<c_ulong>> {
    if !Path::new("/usr/include/xen/gntdev.h").exists() {
        return None;
    }
    let dir = tempdir();
    let printed = names.map(|name| format!("printf(\"%lu\\n\", (unsigned long)IOCTL_{name});\n"));
    // `xen/privcmd.h` wants a header that only the kernel's tree has: what it takes from there.
    let program = format!(
        "#include <stdio.h>\n#include <stdint.h>\n#include <stddef.h>\n#include <linux/ioctl.h>\n\
         typedef uint16_t domid_t; typedef uint32_t grant_ref_t; typedef unsigned long xen_pfn_t;\n\
         #include <xen/gntdev.h>\n#include <xen/gntalloc.h>\n#include <xen/evtchn.h>\n\
         #include \"privcmd.h\"\nint main(void) {{\n{}return 0; }}\n",
        printed.concat()
    );
    let privcmd = std::fs::read_to_string("/usr/include/xen/privcmd.h").ok()?;
    let privcmd = privcmd.replace("#include <xen/interface/xen.h>", "");
    std::fs::write(dir.join("privcmd.h"), privcmd).ok()?;
    std::fs::write(dir.join("numbers.c"), program).ok()?;
    let compiled = Command::new("cc")
        .args(["-o", "numbers", "numbers.c"])
        .current_dir(&dir)
        .output()
        .ok()?;
    assert!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    let output = Command::new(dir.join("numbers")).output().ok()?;
    std::fs::remove_dir_all(&dir).ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.lines().filter_map(|line| line.parse().ok()).collect())
}

fn tempdir() -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("xt-host-xen-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn grants_to_map_are_laid_out() {
    let argument = MapGrantRef::new(7, [0x11, 0xffff_fffe].into_iter());
    assert_eq!(argument.0, [2, 0, 7 | 0x11 << 32, 7 | 0xffff_fffe << 32]);
}

#[test]
fn allocated_grants_are_read() {
    let mut argument = AllocGref::new(3, GNTALLOC_FLAG_WRITABLE, 3);
    assert_eq!(argument.words, [3 | 1 << 16 | 3 << 32, 0, 0, 0]);
    argument.words[2..].copy_from_slice(&[8 | 9 << 32, 10 | 11 << 32]);
    assert_eq!(argument.grefs().collect::<Vec<_>>(), [8, 9, 10]);
}
