//! TCP over a network card, both ways, with a [`super::peer`] on the host's side.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::{least, peer};
use crate::{Context, Failure, modules};

nix::ioctl_write_ptr_bad!(siocsifaddr, libc::SIOCSIFADDR, libc::ifreq);
nix::ioctl_write_ptr_bad!(siocsifnetmask, libc::SIOCSIFNETMASK, libc::ifreq);
nix::ioctl_write_ptr_bad!(siocsifflags, libc::SIOCSIFFLAGS, libc::ifreq);

const MIB: u32 = 1 << 20;
/// MiB sent at once: a batch, so that what begins and ends it hardly counts.
const BATCH: u32 = 16;

/// `IF,ADDRESS/PREFIX,PEER:PORT`
pub fn measure(card: &str) -> Result<(), Failure> {
    let mut parts = card.splitn(3, ',');
    let mut part = || parts.next().ok_or("not IF,ADDRESS/PREFIX,PEER:PORT");
    let (name, address, peer) = (part()?, part()?, part()?);
    modules::await_file(&Path::new("/sys/class/net").join(name))?;
    set_up(name, address)?;
    measure_peer(peer)
}

/// Over whatever network reaches `ADDRESS:PORT`.
pub fn measure_peer(address: &str) -> Result<(), Failure> {
    let address: SocketAddr = address.parse().context(address)?;
    let mut stream = TcpStream::connect(address).context("connect")?;
    stream.set_nodelay(true).context("TCP_NODELAY")?;
    let mut buffer = vec![0x5a; peer::CHUNK];
    let bytes = u64::from(BATCH * MIB);
    least("tcp-out", BATCH, || {
        ask(&mut stream, peer::TAKE, bytes)?;
        peer::send(&mut stream, &buffer, bytes)?;
        stream.read_exact(&mut [0]).context("the peer's answer")
    })?;
    least("tcp-in", BATCH, || {
        ask(&mut stream, peer::GIVE, bytes)?;
        peer::receive(&mut stream, &mut buffer, bytes)
    })
}

fn ask(stream: &mut TcpStream, what: u8, bytes: u64) -> Result<(), Failure> {
    let mut request = [what; 9];
    request[1..].copy_from_slice(&bytes.to_le_bytes());
    stream.write_all(&request).context("request")
}

/// Gives the card its address and puts it up (netdevice(7)).
fn set_up(name: &str, address: &str) -> Result<(), Failure> {
    let (address, prefix) = address.split_once('/').ok_or("an address lacks /PREFIX")?;
    let address: Ipv4Addr = address.parse().context(address)?;
    let prefix: u32 = prefix.parse().context("prefix")?;
    let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .context("socket")?;
    let socket = socket.as_raw_fd();
    let mut request = named(name);
    request.ifr_ifru.ifru_addr = socket_address(address);
    // SAFETY: a whole request, whose address is in the member this ioctl reads.
    unsafe { siocsifaddr(socket, &raw const request) }.context("SIOCSIFADDR")?;
    request.ifr_ifru.ifru_netmask = socket_address(Ipv4Addr::from_bits(mask));
    // SAFETY: the same for the mask.
    unsafe { siocsifnetmask(socket, &raw const request) }.context("SIOCSIFNETMASK")?;
    let flags = libc::IFF_UP | libc::IFF_RUNNING;
    request.ifr_ifru.ifru_flags = i16::try_from(flags).context("flags")?;
    // SAFETY: the same for the flags.
    unsafe { siocsifflags(socket, &raw const request) }.context("SIOCSIFFLAGS")?;
    Ok(())
}

fn named(name: &str) -> libc::ifreq {
    // SAFETY: a structure of integers, for which zeroes are fine.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    for (to, from) in request.ifr_name[..15].iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request
}

/// A `sockaddr_in` in the shape of a `sockaddr`: port, then address.
fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    for (to, from) in data[2..6].iter_mut().zip(address.octets()) {
        *to = from.cast_signed();
    }
    libc::sockaddr {
        sa_family: libc::AF_INET as libc::sa_family_t,
        sa_data: data,
    }
}
