//! What dom0 and a guest need for each other where the kernel or a program under test serves the
//! guest's disks and cards: hotplug scripts, and an initial file system.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::initramfs::Initramfs;
use crate::packages::{Cache, KernelFiles};
use crate::rig::Shell;

/// `script=block-plain`, for disks that the kernel serves; Xen's own is written in bash.
pub const BLOCK: &str = "#!/bin/sh
[ \"$1\" = add ] || exit 0
device=$(stat -c %t:%T \"$(xenstore-read \"$XENBUS_PATH/params\")\")
xenstore-write \"$XENBUS_PATH/physical-device\" \"$device\" \"$XENBUS_PATH/hotplug-status\" connected
";

/// `script=vif-plain`, for cards: dom0's end of a network of two, 10.0.0.1.
const VIF: &str = "#!/bin/sh
[ \"$1\" = online ] || exit 0
ip link set \"$vif\" up && ip addr add 10.0.0.1/24 dev \"$vif\" || exit
xenstore-write \"$XENBUS_PATH/hotplug-status\" connected
";

/// How each guest begins.
const INIT: &str = "#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
echo 1 >/proc/sys/kernel/printk
. /modules/load
";

/// Puts both scripts where `xl` looks for them.
pub fn put_scripts(shell: &mut Shell) -> Result<()> {
    for (name, script) in [("block-plain", BLOCK), ("vif-plain", VIF)] {
        shell.write(name, script.as_bytes(), 0o755)?;
    }
    let copied = shell.run(
        "cp /share/*-plain /etc/xen/scripts",
        Duration::from_secs(60),
    )?;
    match copied.status {
        0 => Ok(()),
        _ => Err(Error::Malformed {
            path: "/etc/xen/scripts".into(),
            reason: copied.text,
        }),
    }
}

/// An initial file system with busybox and the drivers of disks and cards, for a PV guest that then
/// does what `script` says.
pub fn guest_initramfs(cache: &Cache, kernel: &KernelFiles, script: &str) -> Result<Initramfs> {
    let mut fs = Initramfs::new();
    fs.busybox(&cache.package("busybox-static")?)?;
    fs.modules(kernel, &["xen-blkfront", "xen-netfront"])?;
    fs.file("/init", 0o755, format!("{INIT}{script}"));
    Ok(fs)
}
