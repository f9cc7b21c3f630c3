//! passt: a guest made of smoltcp gets an address and talks to listeners of the host, both ways.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant as Clock};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pv_netdev::{Attachment, FrameInfo, Link, NetdevError, NicSpec, Opened, Request, open};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::{dhcpv4, tcp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr};

use crate::common::{LIMIT, in_namespace, ip, recv_end, try_recv, try_send};

const MAC: [u8; 6] = [0, 0x16, 0x3e, 0, 0, 1];

/// A network whose host is 10.7.0.2, with a gateway that is not there, and the service 10.9.9.9.
fn on_a_host(test: impl FnOnce() + Send + 'static) {
    on_a_host_with("10.7.0.2/24", "10.7.0.1", || {
        ip("addr add 10.9.9.9/32 dev lo");
        test();
    });
}

/// A network whose host has one address, and a gateway that is not there.
fn on_a_host_with(
    address: &'static str,
    gateway: &'static str,
    test: impl FnOnce() + Send + 'static,
) {
    if std::process::Command::new("passt")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("skipped: passt is not installed");
        return;
    }
    in_namespace(move || {
        ip("link set lo up");
        ip("link add host type veth peer name wire");
        ip("link set host up");
        ip("link set wire up");
        let nodad = if address.contains(':') { " nodad" } else { "" };
        ip(&format!("addr add {address} dev host{nodad}"));
        ip(&format!("route add default via {gateway}"));
        test();
    });
}

fn try_open(options: &str) -> Result<Opened, NetdevError> {
    let spec: NicSpec = format!("user{options}").parse().unwrap();
    open(&spec, &Request::vif(1, 0))
}

/// The cable between smoltcp and a link.
struct Cable(Box<dyn Link>);

struct Received(Vec<u8>);

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

impl phy::TxToken for &mut Cable {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut frame = vec![0; length];
        let result = fill(&mut frame);
        match try_send(&mut *self.0, &FrameInfo::default(), &frame) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("send: {error}"),
            _ => result, // Without room it is lost; TCP sends it again.
        }
    }
}

impl phy::Device for Cable {
    type RxToken<'a> = Received;
    type TxToken<'a> = &'a mut Cable;

    fn receive(&mut self, _: Instant) -> Option<(Received, &mut Cable)> {
        match try_recv(&mut *self.0, 65_536) {
            Ok((_, frame)) => Some((Received(frame), self)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("recv: {error}"),
        }
    }

    fn transmit(&mut self, _: Instant) -> Option<&mut Cable> {
        Some(self)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 65_534;
        capabilities
    }
}

struct Guest {
    cable: Cable,
    interface: Interface,
    sockets: SocketSet<'static>,
    attachment: Attachment,
}

impl Guest {
    fn new(options: &str) -> Self {
        let opened = try_open(options).unwrap();
        assert_eq!(opened.description.mtu, 65_520);
        let (mut links, attachment) = opened.into_links();
        let mut cable = Cable(links.remove(0));
        let config = Config::new(EthernetAddress(MAC).into());
        let interface = Interface::new(config, &mut cable, Instant::now());
        Self {
            cable,
            interface,
            sockets: SocketSet::new(vec![]),
            attachment,
        }
    }

    /// Lets it run until there is an answer.
    fn until<T>(&mut self, mut answer: impl FnMut(&mut Self) -> Option<T>) -> T {
        let deadline = Clock::now() + LIMIT;
        while Clock::now() < deadline {
            let now = Instant::now();
            self.interface.poll(now, &mut self.cable, &mut self.sockets);
            if let Some(answer) = answer(self) {
                return answer;
            }
            let pause = self.interface.poll_delay(now, &self.sockets);
            let pause = pause.map_or(50, |pause| pause.total_millis().clamp(1, 50));
            let fd = self.cable.0.event();
            let mut polled = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
            poll(&mut polled, PollTimeout::from(pause as u16)).unwrap();
        }
        panic!("no answer in time");
    }

    /// Its address and gateway, by DHCP.
    fn configure(&mut self) -> (IpCidr, Ipv4Addr) {
        let handle = self.sockets.add(dhcpv4::Socket::new());
        let (address, router) =
            self.until(
                |guest| match guest.sockets.get_mut::<dhcpv4::Socket>(handle).poll() {
                    Some(dhcpv4::Event::Configured(config)) => {
                        Some((config.address, config.router))
                    }
                    _ => None,
                },
            );
        let router = router.expect("a gateway");
        let address = IpCidr::Ipv4(address);
        self.interface
            .update_ip_addrs(|all| all.push(address).unwrap());
        self.interface
            .routes_mut()
            .add_default_ipv4_route(router)
            .unwrap();
        (address, router)
    }

    fn tcp(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 1 << 16]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    fn connect(&mut self, to: Ipv4Addr, port: u16) -> SocketHandle {
        let handle = self.tcp();
        let context = self.interface.context();
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket
            .connect(context, (to, port), 50_000 + port % 10_000)
            .unwrap();
        handle
    }

    /// Sends bytes, lets `host` do its part, and receives as many back.
    fn echo(&mut self, handle: SocketHandle, host: &mut TcpStream) {
        host.set_nonblocking(true).unwrap();
        let bytes: Vec<u8> = (0..300_000_u32).map(|i| (i / 7) as u8).collect();
        let (mut sent, mut back, mut held) = (0, Vec::new(), Vec::new());
        self.until(|guest| {
            let socket = guest.socket(handle);
            if socket.can_send() {
                sent += socket.send_slice(&bytes[sent..]).unwrap();
            }
            if socket.can_recv() {
                socket
                    .recv(|data| (data.len(), back.extend_from_slice(data)))
                    .unwrap();
            }
            let mut buffer = [0; 65_536];
            if let Ok(count) = host.read(&mut buffer) {
                held.extend_from_slice(&buffer[..count]);
            }
            if let Ok(count) = host.write(&held) {
                held.drain(..count);
            }
            (back.len() >= bytes.len()).then_some(())
        });
        assert!(back == bytes);
    }
}

fn accept(guest: &mut Guest, listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    guest.until(|_| listener.accept().ok()).0
}

#[test]
fn dhcp_and_a_connection_to_the_network() {
    on_a_host(|| {
        let listener = TcpListener::bind("10.9.9.9:0").unwrap();
        let mut guest = Guest::new("");
        let (address, router) = guest.configure();
        assert_eq!(address.to_string(), "10.7.0.2/24");
        assert_eq!(router, Ipv4Addr::new(10, 7, 0, 1));
        let port = listener.local_addr().unwrap().port();
        let handle = guest.connect(Ipv4Addr::new(10, 9, 9, 9), port);
        let mut host = accept(&mut guest, &listener);
        guest.echo(handle, &mut host);
    });
}

#[test]
fn a_forwarded_port() {
    on_a_host(|| {
        let mut guest = Guest::new(",hostfwd=tcp:2222:22,hostfwd=tcp:10.9.9.9:80:8080");
        guest.configure();
        for (outside, inside) in [("127.0.0.1:2222", 22), ("10.9.9.9:80", 8080)] {
            let handle = guest.tcp();
            guest.socket(handle).listen(inside).unwrap();
            let mut host = TcpStream::connect(outside).unwrap();
            // Debian 12's passt acknowledges the guest's SYN with the first data only, so the host
            // has to speak first.
            host.write_all(b"!").unwrap();
            guest.until(|guest| guest.socket(handle).can_recv().then_some(()));
            guest.socket(handle).recv(|data| (data.len(), ())).unwrap();
            guest.echo(handle, &mut host);
        }
        let elsewhere: SocketAddr = "10.9.9.9:2222".parse().unwrap();
        let error = TcpStream::connect_timeout(&elsewhere, Duration::from_secs(5)).unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::ConnectionRefused,
            "only on the loopback"
        );
    });
}

#[test]
fn the_hosts_loopback_only_when_asked_for() {
    on_a_host(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut guest = Guest::new(",hostaccess");
        let (_, router) = guest.configure();
        guest.connect(router, port);
        drop(accept(&mut guest, &listener));

        let mut guest = Guest::new("");
        let (_, router) = guest.configure();
        let handle = guest.connect(router, port);
        // The gateway is on a wire without anybody: passt tries it in vain, or for long.
        let deadline = Clock::now() + Duration::from_secs(1);
        guest.until(|guest| {
            let refused = guest.socket(handle).state() == tcp::State::Closed;
            (refused || Clock::now() > deadline).then_some(())
        });
        assert!(!guest.socket(handle).may_send());
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn it_ends_with_the_last_descriptor() {
    on_a_host(|| {
        let opened = try_open("").unwrap();
        let mut attachment = opened.attachment;
        let passt = attachment.passt.as_mut().unwrap();
        assert!(passt.why().is_none());
        drop(opened.descriptors);
        ended(passt);
        assert!(passt.why().is_some());
    });
}

fn ended(passt: &pv_netdev::Passt) {
    let fd = passt.ended();
    let mut polled = [PollFd::new(fd, PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(LIMIT).unwrap();
    assert_eq!(poll(&mut polled, timeout), Ok(1), "passt lives on");
}

#[test]
fn its_end_is_noticed() {
    on_a_host(|| {
        let mut guest = Guest::new("");
        let passt = guest.attachment.passt.as_mut().unwrap();
        let pid = nix::unistd::Pid::from_raw(passt.pid() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        ended(passt);
        let why = passt.why().unwrap().to_string();
        assert!(
            why.starts_with("passt gave up (signal: 9 (SIGKILL)): "),
            "{why}"
        );
        let error = recv_end(&mut *guest.cable.0);
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    });
}

#[test]
fn its_complaints_are_told() {
    on_a_host(|| {
        let error = try_open(",interface=nowhere").unwrap_err().to_string();
        assert!(
            error.starts_with("passt gave up (exit status: 1): "),
            "{error}"
        );
        assert!(error.contains("nowhere"), "{error}");
        let _taken = TcpListener::bind("127.0.0.1:2222").unwrap();
        let error = try_open(",hostfwd=tcp:2222:22").unwrap_err().to_string();
        assert!(error.contains("2222"), "{error}");
    });
}

#[test]
fn a_host_with_ipv6_alone() {
    on_a_host_with("fd07::2/64", "fd07::1", || {
        let mut opened = try_open("").unwrap();
        assert!(opened.attachment.passt.as_mut().unwrap().why().is_none());
        let spec: NicSpec = "user,mac=00:16:3e:00:00:07,ipv6".parse().unwrap();
        assert!(open(&spec, &Request::vif(1, 0)).is_ok());
        assert!(try_open(",ipv4").is_err());
    });
}

#[test]
fn a_host_without_network_says_so() {
    on_a_host_with("10.7.0.2/24", "10.7.0.1", || {
        ip("link delete host");
        // Newer versions of passt serve the host alone; then they do answer.
        if let Err(error) = try_open("") {
            let text = error.to_string();
            assert!(text.contains("routable interface"), "{text}");
        }
    });
}
