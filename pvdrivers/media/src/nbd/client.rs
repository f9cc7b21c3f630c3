//! The connection.
//!
//! When it is lost the receiving thread connects again, for as long as was asked for. What was on its
//! way is sent once more, in its order: reads and writes that nobody has heard of have no other
//! order than that. A server that lies is not asked again.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pv_ring::IoVec;

use super::handshake::{self, Export, READ_ONLY, SEND_FLUSH, SEND_TRIM};
use crate::engine::Mailbox;
use crate::file::{Pieces, within};
use crate::image::be;
use crate::opener::Connect;
use crate::{Discard, DiskInfo, MediumError, MediumSpec, NbdUri, Opener, sys};

const REQUEST: u32 = 0x2560_9513;
const SIMPLE_REPLY: u64 = 0x6744_6698;

/// Commands.
pub(super) const READ: u16 = 0;
pub(super) const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
pub(super) const FLUSH: u16 = 3;
pub(super) const TRIM: u16 = 4;

/// Most bytes of one request to the server; longer ones are divided. Servers take at least this
/// much.
const MOST: u64 = 32 << 20;

/// A disk on a server.
#[derive(Debug)]
pub(crate) struct Nbd {
    line: Arc<Line>,
    export: Export,
    readonly: bool,
    discard: bool,
    sector: u32,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads and the queues share.
#[derive(Debug)]
struct Line {
    /// Another one after each loss.
    socket: Mutex<Arc<File>>,
    uri: NbdUri,
    export: Export,
    again: Option<Again>,
    state: Mutex<State>,
    more: Condvar,
    most: u64,
}

/// How to come by another connection.
struct Again {
    connect: Connect,
    /// For how long it is tried.
    patience: Duration,
}

impl std::fmt::Debug for Again {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "for {:?}", self.patience)
    }
}

/// Why a connection ends.
enum Loss {
    /// It is gone.
    Gone(io::Error),
    /// The server is not to be trusted.
    Lie(&'static str),
}

impl From<io::Error> for Loss {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Connection {
    #[default]
    Up,
    /// Another one is sought.
    Lost,
    /// For good.
    Closed,
}

#[derive(Debug, Default)]
struct State {
    /// To be sent.
    waiting: VecDeque<Command>,
    /// Awaiting a reply, by cookie. One that is being sent is here too.
    sent: HashMap<u64, Command>,
    next: u64,
    /// Cookie whose memory one of the threads is using.
    in_use: [Option<u64>; 2],
    connection: Connection,
}

const SENDER: usize = 0;
const RECEIVER: usize = 1;

/// A request to the server.
#[derive(Debug)]
pub(super) struct Command {
    pub token: u64,
    pub command: u16,
    pub offset: u64,
    pub len: u64,
    pub iov: Vec<IoVec>,
    pub mailbox: Arc<Mailbox>,
}

/// How long a server may take to answer what nobody waits for any more.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(200);

fn eio() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

impl Nbd {
    pub(crate) fn open(
        uri: &str,
        spec: &MediumSpec,
        opener: &dyn Opener,
    ) -> Result<Self, MediumError> {
        let uri: NbdUri = uri.parse()?;
        let failed = |why: &str, source| MediumError::Nbd {
            uri: uri.to_string(),
            why: why.into(),
            source: Some(source),
        };
        let socket = opener
            .connect(&uri)
            .map_err(|error| failed("It cannot be connected to", error))?;
        let socket = File::from(socket);
        let export = handshake::negotiate(&socket, &uri)?;
        if export.has(READ_ONLY) && !spec.readonly {
            return Err(MediumError::Nbd {
                uri: uri.to_string(),
                why: "The export is read-only: give the disk the access mode \"r\"".into(),
                source: None,
            });
        }
        let sector = spec
            .sector_size
            .unwrap_or(if export.smallest > 512 { 4096 } else { 512 });
        if sector < export.smallest {
            return Err(MediumError::Spec(format!(
                "{uri} has blocks of {} bytes",
                export.smallest
            )));
        }
        let again = opener.connects_later().map(|connect| Again {
            connect,
            patience: spec.reconnect,
        });
        let line = Arc::new(Line {
            socket: Mutex::new(Arc::new(socket)),
            uri: uri.clone(),
            export,
            again: again.filter(|again| !again.patience.is_zero()),
            state: Mutex::default(),
            more: Condvar::new(),
            most: MOST.min(u64::from(export.most)) / 4096 * 4096,
        });
        let mut disk = Self {
            line: line.clone(),
            readonly: spec.readonly,
            discard: spec.discard && !spec.readonly && export.has(SEND_TRIM),
            export,
            sector,
            threads: Vec::new(),
        };
        let start = |name: &str, work: fn(&Line)| {
            let line = line.clone();
            let thread = thread::Builder::new().name(name.into());
            thread
                .spawn(move || work(&line))
                .map_err(|error| failed("A thread cannot be started", error))
        };
        disk.threads.push(start("nbd-send", Line::send_all)?);
        disk.threads.push(start("nbd-receive", Line::receive_all)?);
        Ok(disk)
    }

    pub(crate) fn info(&self) -> DiskInfo {
        let best = self.export.best.clamp(self.sector, 1 << 20);
        let sector = u64::from(self.sector);
        DiskInfo {
            sectors: self.export.size / sector * (sector / 512),
            sector_size: self.sector,
            physical_sector_size: best.min(4096).max(self.sector),
            readonly: self.readonly,
            discard: self.discard.then_some(Discard {
                granularity: best,
                alignment: 0,
                secure: false,
            }),
            flush: self.export.has(SEND_FLUSH),
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.export.size
    }

    /// Hands requests to the sender, which does not begin before all are there. Memory is lent
    /// until the token has come back as often as this was told, or `forget` was called.
    pub(super) fn send(&self, command: Command) -> usize {
        let mut state = self.line.state();
        if state.connection == Connection::Closed {
            command.mailbox.put((command.token, Err(eio())));
            return 1;
        }
        let mut parts = 0;
        let mut done = 0;
        loop {
            let len = (command.len - done).min(self.line.most);
            state.waiting.push_back(Command {
                iov: within(&command.iov, done, len).collect(),
                offset: command.offset + done,
                len,
                mailbox: command.mailbox.clone(),
                ..command
            });
            parts += 1;
            done += len;
            if done >= command.len {
                break;
            }
        }
        drop(state);
        self.line.more.notify_all();
        parts
    }

    /// Returns when nobody uses memory that requests of this mailbox lend: a queue goes away. A
    /// server that does not answer them in time loses the connection.
    pub(super) fn forget(&self, mailbox: &Arc<Mailbox>) {
        let own = |command: &Command| Arc::ptr_eq(&command.mailbox, mailbox);
        let any = |state: &mut State| {
            // What was sent waits again after a loss.
            state.waiting.retain(|command| !own(command));
            state.sent.values().any(own)
        };
        let state = self.line.state();
        let waited = self.line.more.wait_timeout_while(state, PATIENCE, any);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        drop(state);
        if timeout.timed_out() {
            self.line
                .close("it does not answer requests of a queue that ends");
            let busy = |state: &mut State| state.in_use.iter().any(Option::is_some);
            drop(self.line.more.wait_while(self.line.state(), busy));
        }
    }
}

impl Drop for Nbd {
    fn drop(&mut self) {
        let mut bye = request(DISCONNECT, 0, 0, 0);
        let pieces = [IoVec::of_bytes(&mut bye)];
        // SAFETY: borrowed for the call.
        #[allow(unsafe_code)]
        let _ = unsafe { sys::sendv(self.line.socket().as_fd(), &pieces) };
        self.line.close("");
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn request(command: u16, cookie: u64, offset: u64, len: u64) -> [u8; 28] {
    let mut bytes = [0; 28];
    bytes[..4].copy_from_slice(&REQUEST.to_be_bytes());
    bytes[6..8].copy_from_slice(&command.to_be_bytes());
    bytes[8..16].copy_from_slice(&cookie.to_be_bytes());
    bytes[16..24].copy_from_slice(&offset.to_be_bytes());
    bytes[24..].copy_from_slice(&(len as u32).to_be_bytes());
    bytes
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn socket(&self) -> Arc<File> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.clone()
    }

    /// Whoever is sending or receiving returns with an error.
    fn shut_down(&self) {
        if let Ok(socket) = self.socket().try_clone() {
            let _ = UnixStream::from(OwnedFd::from(socket)).shutdown(Shutdown::Both);
        }
        self.more.notify_all();
    }

    /// The connection does not work any more: another one is sought, if one can be.
    fn lose(&self, loss: &Loss) {
        let why = match loss {
            Loss::Gone(error) if self.again.is_none() => return self.close(&error.to_string()),
            Loss::Lie(why) => return self.close(why),
            Loss::Gone(error) => error,
        };
        let mut state = self.state();
        if state.connection == Connection::Up {
            tracing::warn!(uri = %self.uri, %why, "The connection to a network block device is lost");
            state.connection = Connection::Lost;
            drop(state);
            self.shut_down();
        }
    }

    /// Ends the connection; what is on its way is answered with an error. Commands whose memory a
    /// thread is using are left to that thread.
    fn close(&self, why: &str) {
        let mut state = self.state();
        if state.connection != Connection::Closed && !why.is_empty() {
            tracing::error!(uri = %self.uri, why, "A network block device is gone");
        }
        state.connection = Connection::Closed;
        let in_use = state.in_use;
        let idle = |cookie: &u64| !in_use.contains(&Some(*cookie));
        let lost: Vec<_> = state.sent.extract_if(|cookie, _| idle(cookie)).collect();
        for command in lost
            .into_iter()
            .map(|(_, command)| command)
            .chain(std::mem::take(&mut state.waiting))
        {
            command.mailbox.put((command.token, Err(eio())));
        }
        drop(state);
        self.shut_down();
    }

    /// Connects again, unless the time is over or nobody wants it. Whether it did.
    fn renew(&self) -> bool {
        let Some(again) = &self.again else {
            return false;
        };
        let busy = |state: &mut State| {
            state.in_use[SENDER].is_some() && state.connection != Connection::Closed
        };
        let waited = self.more.wait_while(self.state(), busy);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        let mut sent: Vec<_> = state.sent.drain().collect();
        sent.sort_by_key(|(cookie, _)| std::cmp::Reverse(*cookie));
        for (_, command) in sent {
            state.waiting.push_front(command);
        }
        drop(state);
        self.more.notify_all();

        let end = Instant::now() + again.patience;
        loop {
            let failed = match self.connect_again(again) {
                Ok(socket) => return self.go_on(socket),
                Err(error) => error,
            };
            if Instant::now() >= end {
                self.close(&format!("it has not come back: {failed}"));
                return false;
            }
            let lost = |state: &mut State| state.connection == Connection::Lost;
            let waited = self.more.wait_timeout_while(self.state(), PAUSE, lost);
            let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if state.connection == Connection::Closed {
                return false;
            }
        }
    }

    fn connect_again(&self, again: &Again) -> Result<File, MediumError> {
        let failed = |source| MediumError::Nbd {
            uri: self.uri.to_string(),
            why: "It cannot be connected to".into(),
            source: Some(source),
        };
        let stream = UnixStream::from((again.connect)(&self.uri).map_err(failed)?);
        // The option is any socket's. A server that only listens is none.
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        let socket = File::from(OwnedFd::from(stream));
        let export = handshake::negotiate(&socket, &self.uri)?;
        if export != self.export {
            return Err(failed(io::Error::other("it is another disk now")));
        }
        let stream = UnixStream::from(OwnedFd::from(socket));
        stream.set_read_timeout(None).map_err(failed)?;
        Ok(File::from(OwnedFd::from(stream)))
    }

    /// With another connection; whether anybody still wants it.
    fn go_on(&self, socket: File) -> bool {
        let mut state = self.state();
        if state.connection == Connection::Closed {
            return false;
        }
        *self.socket.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(socket);
        state.connection = Connection::Up;
        drop(state);
        tracing::info!(uri = %self.uri, "The network block device is connected again");
        self.more.notify_all();
        true
    }

    /// A thread uses the memory of a command no more. Answers the command if the connection ended
    /// meanwhile.
    fn used(&self, who: usize, cookie: u64) {
        let mut state = self.state();
        state.in_use[who] = None;
        if state.connection == Connection::Closed
            && !state.in_use.contains(&Some(cookie))
            && let Some(command) = state.sent.remove(&cookie)
        {
            command.mailbox.put((command.token, Err(eio())));
        }
        drop(state);
        self.more.notify_all();
    }

    /// The thread that sends.
    fn send_all(&self) {
        loop {
            let idle = |state: &mut State| match state.connection {
                Connection::Up => state.waiting.is_empty(),
                Connection::Lost => true,
                Connection::Closed => false,
            };
            let waited = self.more.wait_while(self.state(), idle);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            if state.connection == Connection::Closed {
                return;
            }
            let Some(command) = state.waiting.pop_front() else {
                continue;
            };
            state.next += 1;
            let cookie = state.next;
            let mut header = request(command.command, cookie, command.offset, command.len);
            let data: Vec<IoVec> = match command.command {
                WRITE => command.iov.clone(),
                _ => Vec::new(),
            };
            state.in_use[SENDER] = Some(cookie);
            state.sent.insert(cookie, command);
            let socket = self.socket();
            drop(state);
            let header = IoVec::of_bytes(&mut header);
            let pieces = Pieces::new(0, [header].into_iter().chain(data));
            if let Err(error) = send(&socket, pieces) {
                self.lose(&Loss::Gone(error));
            }
            self.used(SENDER, cookie);
        }
    }

    /// The thread that receives.
    fn receive_all(&self) {
        loop {
            let loss = match self.receive_until_error() {
                Err(loss) => loss,
                Ok(never) => match never {},
            };
            self.lose(&loss);
            if !self.renew() {
                return;
            }
        }
    }

    fn receive_until_error(&self) -> Result<Infallible, Loss> {
        let socket = self.socket();
        loop {
            let mut head = [0; 16];
            (&mut &*socket).read_exact(&mut head)?;
            let (errno, cookie) = (be(&head, 4, 4), be(&head, 8, 8));
            if be(&head, 0, 4) != SIMPLE_REPLY {
                return Err(Loss::Lie("it answered what makes no sense"));
            }
            let iov = {
                let mut state = self.state();
                let Some(command) = state.sent.get(&cookie) else {
                    return Err(Loss::Lie("it answered what was not asked"));
                };
                let reads = command.command == READ && errno == 0;
                let iov = if reads {
                    command.iov.clone()
                } else {
                    Vec::new()
                };
                state.in_use[RECEIVER] = Some(cookie);
                iov
            };
            let received = receive(&socket, Pieces::new(0, iov));
            if received.is_ok() {
                self.answer(cookie, errno);
            }
            self.used(RECEIVER, cookie);
            received?;
        }
    }

    /// A reply is here whole. A server that answers a write before it has all of it is refused.
    fn answer(&self, cookie: u64, errno: u64) {
        let mut state = self.state();
        if state.in_use[SENDER] == Some(cookie) {
            // Its data is still being sent: the sender may not be through with the memory.
            let busy = |state: &mut State| state.in_use[SENDER] == Some(cookie);
            state = self
                .more
                .wait_while(state, busy)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(command) = state.sent.remove(&cookie) {
            let result = match errno {
                0 => Ok(()),
                errno => Err(io::Error::from_raw_os_error(host_errno(errno))),
            };
            command.mailbox.put((command.token, result));
        }
    }
}

#[allow(unsafe_code)]
fn send(socket: &File, mut pieces: Pieces) -> io::Result<()> {
    while pieces.left() > 0 {
        // SAFETY: the header is borrowed, the rest lent: `in_use` keeps it until this returns.
        match unsafe { sys::sendv(socket.as_fd(), pieces.iov()) } {
            Ok(n) => pieces.advance(n),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[allow(unsafe_code)]
fn receive(socket: &File, mut pieces: Pieces) -> io::Result<()> {
    while pieces.left() > 0 {
        // SAFETY: lent: `in_use` keeps it until this returns.
        match unsafe { sys::readv(socket.as_fd(), pieces.iov()) } {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => pieces.advance(n),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The protocol's error numbers, which are Linux' as far as they are any.
fn host_errno(errno: u64) -> i32 {
    match errno {
        1 => libc::EPERM,
        12 => libc::ENOMEM,
        22 => libc::EINVAL,
        28 => libc::ENOSPC,
        75 => libc::EOVERFLOW,
        95 => libc::EOPNOTSUPP,
        _ => libc::EIO,
    }
}
