//! What a kernel needs of modules and devices before a program can use them.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::{Context, Failure};

/// Group 1 of the kernel's own uevents (Linux: `lib/kobject_uevent.c`).
const KERNEL_GROUP: u32 = 1;

/// Loads the modules the initial file system names, in its order; none where it
/// names none. Drivers of buses this machine lacks refuse, and are left out.
/// Parameters are on the kernel's command line, as for modprobe(8).
pub fn load(command_line: &str) -> Result<(), Failure> {
    let Ok(script) = fs::read_to_string("/modules/load") else {
        return Ok(());
    };
    for path in script
        .lines()
        .filter_map(|line| line.strip_prefix("insmod "))
    {
        let image = File::open(path).context(path)?;
        let parameters = CString::new(parameters(path, command_line)).context(path)?;
        match finit_module(image, &parameters, ModuleInitFlags::empty()) {
            Err(Errno::ENODEV) => {}
            loaded => loaded.context(path)?,
        }
    }
    Ok(())
}

/// What the command line says to the module in this file: of each word
/// `MODULE.KEY=VALUE` what follows the module's name, where `-` is `_`.
fn parameters(path: &str, command_line: &str) -> String {
    let name = Path::new(path).file_stem().unwrap_or_default();
    let name = name.to_string_lossy().replace('-', "_");
    let own = command_line.split_whitespace().filter_map(|word| {
        let (module, parameter) = word.split_once('.')?;
        (module.replace('-', "_") == name).then_some(parameter)
    });
    own.collect::<Vec<_>>().join(" ")
}

/// How long the kernel may take from one device found to the next.
const PATIENCE: TimeVal = TimeVal::new(60, 0);

/// Waits until a device the kernel is about to find has its file.
pub fn await_file(path: &Path) -> Result<(), Failure> {
    let events = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkKObjectUEvent,
    )
    .context("socket for uevents")?;
    bind(events.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP)).context("bind for uevents")?;
    setsockopt(&events, sockopt::ReceiveTimeout, &PATIENCE).context("SO_RCVTIMEO")?;
    let mut event = [0; 8192];
    while !path.exists() {
        recv(events.as_raw_fd(), &mut event, MsgFlags::empty())
            .context(&format!("waiting for {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::parameters;

    #[test]
    fn parameters_come_from_the_command_line() {
        let line = "quiet xen_blkfront.max_indirect_segments=256 xen-blkfront.max_queues=1 \
                    xenner.test=devices brd.rd_nr=1";
        let of = |path| parameters(path, line);
        assert_eq!(
            of("/modules/xen-blkfront.ko"),
            "max_indirect_segments=256 max_queues=1"
        );
        assert_eq!(of("/modules/brd.ko"), "rd_nr=1");
        assert_eq!(of("/modules/xen-netfront.ko"), "");
    }
}
