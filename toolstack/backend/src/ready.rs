//! Telling whoever started a service that it serves: systemd's protocol (`sd_notify(3)`), which our own
//! device model speaks with its worker, too.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where to tell.
pub const VARIABLE: &str = "NOTIFY_SOCKET";

/// Tells systemd, if it asked to be told.
///
/// # Errors
/// It does not listen.
pub fn tell(state: &str) -> io::Result<()> {
    let Some(path) = std::env::var_os(VARIABLE) else {
        return Ok(());
    };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}
