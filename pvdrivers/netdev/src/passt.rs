//! passt as a child process: a network without root.
//!
//! passt gets one end of a socket pair and speaks frames on it, each behind its length; it answers
//! DHCP, DHCPv6, NDP and ARP, and turns the guest's connections into sockets of the host.
//!
//! It ends when the last copy of our end is closed, which is when the process that serves the
//! guest ends, however it does. That is why it gets no parent-death signal: that one would come
//! when the *thread* that started it ends, and the starter need not be the server; also the kernel
//! forgets it when passt changes its user.

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::script::{Complaints, wait, wait_readable};
use crate::spec::{Family, Forward, Protocol, UserSpec};
use crate::{MAX_FRAME, MacAddress, NetdevError, sys};

/// The MTU it tells the guest: the longest a frame's length and its header allow.
pub const MTU: u32 = 65_520;

/// How long it may take to begin.
const START: Duration = Duration::from_secs(10);

/// A running passt. Dropping it ends it.
#[derive(Debug)]
pub struct Passt {
    child: Child,
    pidfd: OwnedFd,
    complaints: Complaints,
}

impl Passt {
    /// Starts it and waits until it answers. Its end of our socket too.
    pub(crate) fn start(
        spec: &UserSpec,
        mtu: Option<u32>,
        mac: Option<MacAddress>,
    ) -> Result<(OwnedFd, Self), NetdevError> {
        Self::start_as("passt", spec, mtu, mac)
    }

    fn start_as(
        program: &str,
        spec: &UserSpec,
        mtu: Option<u32>,
        mac: Option<MacAddress>,
    ) -> Result<(OwnedFd, Self), NetdevError> {
        let failed = || NetdevError::host("start passt");
        let (ours, theirs) = UnixStream::pair().map_err(failed())?;
        let (complaints, stderr) = Complaints::new().map_err(failed())?;
        let mut command = Command::new(program);
        command
            .args(arguments(spec, mtu, theirs.as_raw_fd()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .process_group(0); // The terminal's ^C is not for it.
        sys::inherit(&mut command, theirs.as_raw_fd());
        let child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => NetdevError::PasstMissing,
            _ => failed()(error),
        })?;
        drop(theirs);
        let pidfd = sys::pidfd(child.id()).map_err(failed())?;
        let mut passt = Self {
            child,
            pidfd,
            complaints,
        };
        let answered = passt.answers(&ours, mac).map_err(failed())?;
        if !answered {
            return Err(passt.gave_up());
        }
        Ok((ours.into(), passt))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Readable when it has ended.
    pub fn ended(&self) -> std::os::fd::BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Why it ended, if it did.
    pub fn why(&mut self) -> Option<NetdevError> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(self.reason(status.to_string()))
    }

    fn reason(&self, status: String) -> NetdevError {
        let said = self.complaints.read();
        // Debian's passt complains of having no syslog wherever there is none.
        let lines = said.split("; ").filter(|line| !line.ends_with("to syslog"));
        let mut said = lines.collect::<Vec<_>>().join("; ");
        if said.is_empty() {
            said.push_str("it said nothing");
        }
        NetdevError::Passt { status, said }
    }

    /// Why it did not begin.
    fn gave_up(&mut self) -> NetdevError {
        // Its sockets close a moment before it is gone.
        match wait(&mut self.child, Duration::from_secs(1)) {
            Ok(Some(status)) => self.reason(status.to_string()),
            _ => self.reason(format!("no answer in {} s", START.as_secs())),
        }
    }

    /// Asks it something that it answers as soon as it runs, and takes the answer away. Whether it
    /// came; if not, it has ended or takes too long.
    fn answers(&self, socket: &UnixStream, mac: Option<MacAddress>) -> io::Result<bool> {
        let deadline = Instant::now() + START;
        for frame in [probe::arp(mac), probe::neighbour(mac)] {
            let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
            bytes.extend(frame);
            match (&*socket).write_all(&bytes) {
                Err(error) if has_gone(&error) => return Ok(false),
                result => result?,
            }
        }
        let left = || deadline.saturating_duration_since(Instant::now());
        while !left().is_zero() {
            match wait_readable(&[socket.as_fd(), self.pidfd.as_fd()], left())?[..] {
                [true, _] => return take_frame(socket, left()),
                [false, true] => return Ok(false),
                _ => {}
            }
        }
        Ok(false)
    }
}

impl Drop for Passt {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes one frame; whether there was one before the end.
fn take_frame(mut socket: &UnixStream, limit: Duration) -> io::Result<bool> {
    socket.set_read_timeout(Some(limit.max(Duration::from_millis(1))))?;
    let mut length = [0; 4];
    let result = socket.read_exact(&mut length).and_then(|()| {
        let length = (u32::from_be_bytes(length) as usize).min(MAX_FRAME);
        socket.read_exact(&mut vec![0; length])
    });
    socket.set_read_timeout(None)?;
    match result {
        Ok(()) => Ok(true),
        Err(error) if has_gone(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether an error of our end tells that the other one is closed.
fn has_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    [BrokenPipe, ConnectionReset, UnexpectedEof].contains(&error.kind())
}

/// Its command line.
fn arguments(spec: &UserSpec, mtu: Option<u32>, fd: i32) -> Vec<String> {
    let mut all = vec![
        "--foreground".to_owned(),
        "--quiet".into(),
        "--stderr".into(),
    ];
    let mut option = |name: &str, value: String| all.extend([name.to_owned(), value]);
    option("--fd", fd.to_string());
    option("--mtu", mtu.unwrap_or(MTU).to_string());
    let addresses: [(&str, &[IpAddr]); 3] = [
        ("--address", &spec.addresses),
        ("--gateway", &spec.gateways),
        ("--dns", &spec.dns),
    ];
    for (name, addresses) in addresses {
        for address in addresses {
            option(name, address.to_string());
        }
    }
    if let Some(interface) = &spec.interface {
        option("--interface", interface.clone());
    }
    for forward in &spec.forwards {
        let name = match forward.protocol {
            Protocol::Tcp => "--tcp-ports",
            Protocol::Udp => "--udp-ports",
        };
        option(name, port_argument(forward));
    }
    match spec.family {
        Some(Family::Ipv4) => all.push("--ipv4-only".into()),
        Some(Family::Ipv6) => all.push("--ipv6-only".into()),
        None => {}
    }
    if !spec.host_access {
        all.push("--no-map-gw".into());
    }
    all
}

/// `127.0.0.1/2222:22`; all addresses are the default.
fn port_argument(forward: &Forward) -> String {
    let ports = format!("{}:{}", forward.port, forward.guest_port);
    match forward.address {
        address if address.is_unspecified() => ports,
        address => format!("{address}/{ports}"),
    }
}

/// Frames that passt answers at once, one of each family.
mod probe {
    use crate::MacAddress;

    /// The guest's, or one that the guest's first frame makes it forget.
    fn source(mac: Option<MacAddress>) -> [u8; 6] {
        mac.map_or([2, 0, 0, 0, 0, 1], |mac| mac.0)
    }

    fn ethernet(to: [u8; 6], mac: Option<MacAddress>, kind: u16, payload: &[u8]) -> Vec<u8> {
        [&to, &source(mac)[..], &kind.to_be_bytes(), payload].concat()
    }

    /// Who has 169.254.0.1? Tell nobody (RFC 5227). passt has every address but the guest's.
    pub(super) fn arp(mac: Option<MacAddress>) -> Vec<u8> {
        let mut payload = vec![0, 1, 8, 0, 6, 4, 0, 1];
        payload.extend(source(mac));
        payload.extend([0; 4 + 6]);
        payload.extend([169, 254, 0, 1]);
        ethernet([0xff; 6], mac, 0x0806, &payload)
    }

    /// Who has fe80::1 (RFC 4861)? Asked from the address that follows from the Ethernet address.
    pub(super) fn neighbour(mac: Option<MacAddress>) -> Vec<u8> {
        let target = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 1];
        let [a, b, c, d, e, f] = source(mac);
        let own = [
            0xfe,
            0x80,
            0,
            0,
            0,
            0,
            0,
            0,
            a ^ 2,
            b,
            c,
            0xff,
            0xfe,
            d,
            e,
            f,
        ];
        let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
        message.extend(target);
        message.extend([1, 1, a, b, c, d, e, f]);
        let pseudo = [&own, &group[..], &[0, 32, 0, 58]].concat();
        let sum = checksum(&[pseudo, message.clone()].concat());
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut packet = vec![0x60, 0, 0, 0, 0, 32, 58, 255];
        packet.extend(own);
        packet.extend(group);
        packet.extend(message);
        ethernet([0x33, 0x33, 0xff, 0, 0, 1], mac, 0x86dd, &packet)
    }

    /// The Internet checksum of an even number of bytes.
    fn checksum(bytes: &[u8]) -> u16 {
        let words = bytes.chunks_exact(2);
        let sum: u32 = words
            .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
            .sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        !((sum & 0xffff) + (sum >> 16)) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(program: &str) -> NetdevError {
        let started = Passt::start_as(program, &UserSpec::default(), None, None);
        started.map(drop).unwrap_err()
    }

    #[test]
    fn without_passt_the_message_names_the_package() {
        let text = refused("passt-that-is-not-installed").to_string();
        assert!(text.contains("apt install passt"), "{text}");
        assert!(text.contains("--nic bridge="), "{text}");
    }

    #[test]
    fn a_program_that_gives_up_is_noticed_at_once() {
        let before = Instant::now();
        let text = refused("false").to_string();
        assert_eq!(text, "passt gave up (exit status: 1): it said nothing");
        assert!(before.elapsed() < START);
    }

    #[test]
    fn its_command_line() {
        let text = "user,hostfwd=tcp:2222:22,hostfwd=udp:0.0.0.0:53:53,dns=9.9.9.9,ipv4";
        let spec: crate::NicSpec = text.parse().unwrap();
        let crate::NetdevSpec::User(user) = spec.netdev else {
            panic!("no user network");
        };
        assert_eq!(
            arguments(&user, None, 5).join(" "),
            "--foreground --quiet --stderr --fd 5 --mtu 65520 --dns 9.9.9.9 \
             --tcp-ports 127.0.0.1/2222:22 --udp-ports 53:53 --ipv4-only --no-map-gw"
        );
    }
}
