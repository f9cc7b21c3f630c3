//! A small client for any xenstore daemon, by its UNIX socket or through the kernel.
//!
//! Requests wait for their reply. Events that come meanwhile are kept; an event loop waits for the
//! descriptor ([`AsFd`]) to become readable once [`Client::try_event`] has no more of them.

use std::collections::{HashSet, VecDeque};
use std::env;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use thiserror::Error;

use crate::perms::{DomId, Perm, PermError, Perms};
use crate::wire::{
    Decoder, Message, MsgType, WireError, XENSTORE_PAYLOAD_MAX, XsError, join_strings, strings,
};

/// Attempts at a transaction before giving up: a guest that keeps writing
/// must not hold a tool for ever.
const TRIES: usize = 64;

/// A request that failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No daemon there.
    #[error("Cannot connect to xenstore at {path}: is its daemon running?")]
    Connect {
        /// The socket tried.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The daemon refuses.
    #[error("Xenstore refuses {what} of {path:?}: {error}.")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// Of which node or watch.
        path: String,
        /// Its answer.
        error: XsError,
    },
    /// The daemon does not follow the protocol.
    #[error("Xenstore's reply to {0} makes no sense.")]
    Protocol(&'static str),
    /// Longer than a message may be.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The socket failed.
    #[error("Connection to xenstore failed.")]
    Io(#[from] io::Error),
    /// The transaction met conflicting changes time and again.
    #[error("Xenstore transaction given up after {TRIES} conflicts.")]
    Conflicts,
    /// The daemon sent malformed permissions.
    #[error(transparent)]
    Perms(#[from] PermError),
}

impl ClientError {
    /// Whether the daemon refused with this error.
    #[must_use]
    pub fn is(&self, name: XsError) -> bool {
        matches!(self, ClientError::Refused { error, .. } if *error == name)
    }
}

/// The kernel's way to xenstore, where there is no daemon in this domain (`xenbus_dev_frontend.c`).
const XENBUS_DEVICE: &str = "/dev/xen/xenbus";

/// Requests that are sent together. Their replies must fit where nobody reads them yet.
const BATCH: usize = 64;

/// What requests are sent over.
trait Link: Read + Write + AsFd + fmt::Debug + Send {}

impl Link for UnixStream {}
impl Link for File {}

/// A change under a watched path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WatchEvent {
    /// What changed.
    pub path: String,
    /// The token given with the watch.
    pub token: String,
}

/// A connection to a xenstore daemon.
#[derive(Debug)]
pub struct Client {
    stream: Box<dyn Link>,
    /// How many requests may be sent before the first is answered. The kernel takes one at a time.
    batch: usize,
    input: Decoder,
    events: VecDeque<WatchEvent>,
    /// What is in `events`: one that waits says all that a second one would.
    waiting: HashSet<WatchEvent>,
    tx: u32,
    next_req: u32,
}

impl Client {
    /// Connects where the C library does: `$XENSTORED_PATH`, else `socket` in
    /// `$XENSTORED_RUNDIR`, else `/var/run/xenstored/socket`; where none of them answers, as in a
    /// driver domain, through `/dev/xen/xenbus`.
    ///
    /// # Errors
    /// [`ClientError::Connect`] of the socket.
    pub fn connect_default() -> Result<Client, ClientError> {
        let socket = Client::connect(&default_socket());
        socket.or_else(|error| Client::open_device(Path::new(XENBUS_DEVICE)).map_err(|_| error))
    }

    /// Speaks through the kernel's device at `path`, usually `/dev/xen/xenbus`.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub fn open_device(path: &Path) -> Result<Client, ClientError> {
        let device = OpenOptions::new().read(true).write(true).open(path);
        let device = device.map_err(|source| ClientError::Connect {
            path: path.to_owned(),
            source,
        })?;
        Ok(Client::over(Box::new(device), 1))
    }

    /// Connects to the daemon's socket at `path`.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub fn connect(path: &Path) -> Result<Client, ClientError> {
        let stream = UnixStream::connect(path).map_err(|source| ClientError::Connect {
            path: path.to_owned(),
            source,
        })?;
        Ok(Client::from_stream(stream))
    }

    /// Speaks over a connected stream, such as one end of a socket pair.
    #[must_use]
    pub fn from_stream(stream: UnixStream) -> Client {
        Client::over(Box::new(stream), BATCH)
    }

    fn over(stream: Box<dyn Link>, batch: usize) -> Client {
        Client {
            stream,
            batch,
            input: Decoder::default(),
            events: VecDeque::new(),
            waiting: HashSet::new(),
            tx: 0,
            next_req: 1,
        }
    }

    /// A node's value.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn read(&mut self, path: &str) -> Result<Vec<u8>, ClientError> {
        self.request(MsgType::READ, "READ", path, &[path.as_bytes()])
    }

    /// A node's value as text, `None` if there is no such node.
    ///
    /// # Errors
    /// [`ClientError`], but not `ENOENT`.
    pub fn read_text(&mut self, path: &str) -> Result<Option<String>, ClientError> {
        match self.read(path) {
            Ok(value) => Ok(Some(String::from_utf8_lossy(&value).into_owned())),
            Err(error) if error.is(XsError::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same of many nodes. They are asked for together, so that client and daemon take turns once
    /// for many of them.
    ///
    /// # Errors
    /// The first [`ClientError`] that is not `ENOENT`.
    pub fn read_texts(&mut self, paths: &[String]) -> Result<Vec<Option<String>>, ClientError> {
        let (kind, what) = (MsgType::READ, "READ");
        let mut texts = Vec::with_capacity(paths.len());
        for paths in paths.chunks(self.batch) {
            let mut bytes = Vec::new();
            let mut sent = Vec::new();
            for path in paths {
                let request = self.message(kind, join_strings(&[path.as_bytes()]));
                sent.push((request.req_id, path));
                bytes.extend(request.to_bytes()?);
            }
            self.stream.write_all(&bytes)?;
            // All are taken, also those behind one that is refused.
            let mut answers = Vec::with_capacity(sent.len());
            for (req_id, path) in sent {
                match self.reply(req_id, kind, what, path) {
                    Err(error @ ClientError::Refused { .. }) => answers.push(Err(error)),
                    other => answers.push(Ok(other?)),
                }
            }
            for answer in answers {
                texts.push(match answer {
                    Ok(value) => Some(String::from_utf8_lossy(&value).into_owned()),
                    Err(error) if error.is(XsError::ENOENT) => None,
                    Err(error) => return Err(error),
                });
            }
        }
        Ok(texts)
    }

    /// Sets a node's value, creating it if need be.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn write(&mut self, path: &str, value: impl AsRef<[u8]>) -> Result<(), ClientError> {
        let payload = [path.as_bytes(), b"\0", value.as_ref()].concat();
        self.send_request(MsgType::WRITE, "WRITE", path, payload)
            .map(drop)
    }

    /// Creates a node.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn mkdir(&mut self, path: &str) -> Result<(), ClientError> {
        self.request(MsgType::MKDIR, "MKDIR", path, &[path.as_bytes()])
            .map(drop)
    }

    /// Removes a node with all below it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn rm(&mut self, path: &str) -> Result<(), ClientError> {
        self.request(MsgType::RM, "RM", path, &[path.as_bytes()])
            .map(drop)
    }

    /// The names of a node's children, however many.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn directory(&mut self, path: &str) -> Result<Vec<String>, ClientError> {
        let list = match self.request(MsgType::DIRECTORY, "DIRECTORY", path, &[path.as_bytes()]) {
            Err(error) if error.is(XsError::E2BIG) => self.directory_in_parts(path)?,
            other => other?,
        };
        let names = strings(&list).ok_or(ClientError::Protocol("DIRECTORY"))?;
        Ok(names
            .into_iter()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect())
    }

    /// The whole list, started over if the directory changes meanwhile.
    fn directory_in_parts(&mut self, path: &str) -> Result<Vec<u8>, ClientError> {
        let broken = || ClientError::Protocol("DIRECTORY_PART");
        let (mut list, mut generation) = (Vec::new(), Vec::new());
        loop {
            let offset = list.len().to_string();
            let args = [path.as_bytes(), offset.as_bytes()];
            let part = self.request(MsgType::DIRECTORY_PART, "DIRECTORY_PART", path, &args)?;
            let nul = part.iter().position(|&byte| byte == 0).ok_or_else(broken)?;
            let (head, names) = part.split_at(nul + 1);
            if !list.is_empty() && head != generation {
                list.clear();
                continue;
            }
            generation = head.to_vec();
            match names.strip_suffix(b"\0") {
                // An empty name ends the list.
                Some(whole) if whole.is_empty() || whole.ends_with(b"\0") => {
                    list.extend_from_slice(whole);
                    return Ok(list);
                }
                Some(_) => list.extend_from_slice(names),
                None => return Err(broken()),
            }
        }
    }

    /// A node's permissions.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn perms(&mut self, path: &str) -> Result<Perms, ClientError> {
        let reply = self.request(MsgType::GET_PERMS, "GET_PERMS", path, &[path.as_bytes()])?;
        let texts = strings(&reply).ok_or(ClientError::Protocol("GET_PERMS"))?;
        Ok(Perms::parse(texts)?)
    }

    /// Replaces a node's permissions.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn set_perms(&mut self, path: &str, perms: &[Perm]) -> Result<(), ClientError> {
        let texts: Vec<String> = perms.iter().map(Perm::to_string).collect();
        let args: Vec<&[u8]> = std::iter::once(path)
            .chain(texts.iter().map(String::as_str))
            .map(str::as_bytes)
            .collect();
        self.request(MsgType::SET_PERMS, "SET_PERMS", path, &args)
            .map(drop)
    }

    /// `/local/domain/<domid>`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn domain_path(&mut self, domid: DomId) -> Result<String, ClientError> {
        let id = domid.0.to_string();
        let what = "GET_DOMAIN_PATH";
        let reply = self.request(MsgType::GET_DOMAIN_PATH, what, &id, &[id.as_bytes()])?;
        let path = reply
            .strip_suffix(b"\0")
            .ok_or(ClientError::Protocol(what))?;
        Ok(String::from_utf8_lossy(path).into_owned())
    }

    /// Watches a path; the first event comes at once.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn watch(&mut self, path: &str, token: &str) -> Result<(), ClientError> {
        let args = [path.as_bytes(), token.as_bytes()];
        self.request(MsgType::WATCH, "WATCH", path, &args).map(drop)
    }

    /// Ends a watch and forgets its events.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn unwatch(&mut self, path: &str, token: &str) -> Result<(), ClientError> {
        let args = [path.as_bytes(), token.as_bytes()];
        self.request(MsgType::UNWATCH, "UNWATCH", path, &args)?;
        let others = |event: &WatchEvent| event.token != token || !is_below(&event.path, path);
        self.events.retain(others);
        self.waiting.retain(others);
        Ok(())
    }

    /// Tells the daemon of a new domain: where its ring page is and which port of it is the daemon's.
    ///
    /// # Errors
    /// [`ClientError`]; `EINVAL` when the page cannot be reached.
    pub fn introduce(&mut self, domid: DomId, frame: u64, port: u32) -> Result<(), ClientError> {
        let texts = [domid.0.to_string(), frame.to_string(), port.to_string()];
        let args = texts.each_ref().map(String::as_bytes);
        self.request(MsgType::INTRODUCE, "INTRODUCE", &texts[0], &args)
            .map(drop)
    }

    /// Has the daemon forget a domain's connection.
    ///
    /// # Errors
    /// [`ClientError`]; `ENOENT` when it does not know it.
    pub fn release(&mut self, domid: DomId) -> Result<(), ClientError> {
        let id = domid.0.to_string();
        self.request(MsgType::RELEASE, "RELEASE", &id, &[id.as_bytes()])
            .map(drop)
    }

    /// Whether a domain runs: it was introduced to xenstore and is neither released nor dying.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn is_introduced(&mut self, domid: DomId) -> Result<bool, ClientError> {
        let id = domid.0.to_string();
        let what = "IS_DOMAIN_INTRODUCED";
        let kind = MsgType::IS_DOMAIN_INTRODUCED;
        let reply = self.request(kind, what, &id, &[id.as_bytes()])?;
        Ok(reply.first() == Some(&b'T'))
    }

    /// The next event that is here already. `None`: poll the descriptor ([`AsFd`]) for the next.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn try_event(&mut self) -> Result<Option<WatchEvent>, ClientError> {
        self.next_event(Some(Duration::ZERO))
    }

    /// The next event of any watch; `None` when `timeout` has passed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn next_event(
        &mut self,
        timeout: Option<Duration>,
    ) -> Result<Option<WatchEvent>, ClientError> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        while self.events.is_empty() {
            let Some(message) = self.receive(deadline)? else {
                return Ok(None);
            };
            if !self.keep_event(&message)? {
                return Err(ClientError::Protocol("nothing"));
            }
        }
        let event = self.events.pop_front();
        if let Some(event) = &event {
            self.waiting.remove(event);
        }
        Ok(event)
    }

    /// Runs `body` in a transaction, again if it met a conflict. An error of
    /// `body` discards the transaction.
    ///
    /// # Errors
    /// [`ClientError`], [`ClientError::Conflicts`] after many attempts.
    pub fn transaction<R>(
        &mut self,
        mut body: impl FnMut(&mut Client) -> Result<R, ClientError>,
    ) -> Result<R, ClientError> {
        for _ in 0..TRIES {
            let start =
                self.request(MsgType::TRANSACTION_START, "TRANSACTION_START", "", &[b""])?;
            let id = std::str::from_utf8(&start)
                .ok()
                .and_then(|id| id.trim_end_matches('\0').parse().ok());
            self.tx = id.ok_or(ClientError::Protocol("TRANSACTION_START"))?;
            let result = body(self);
            let verdict: &[u8] = if result.is_ok() { b"T" } else { b"F" };
            let end = self.request(MsgType::TRANSACTION_END, "TRANSACTION_END", "", &[verdict]);
            self.tx = 0;
            match (result, end) {
                (Err(error), _) => return Err(error),
                (Ok(result), Ok(_)) => return Ok(result),
                (Ok(_), Err(error)) if error.is(XsError::EAGAIN) => {}
                (Ok(_), Err(error)) => return Err(error),
            }
        }
        Err(ClientError::Conflicts)
    }

    /// Sends a CONTROL command with its arguments.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn control(&mut self, args: &[&str]) -> Result<String, ClientError> {
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        let reply = self.request(MsgType::CONTROL, "CONTROL", "", &args)?;
        Ok(String::from_utf8_lossy(reply.strip_suffix(b"\0").unwrap_or(&reply)).into_owned())
    }

    fn request(
        &mut self,
        kind: MsgType,
        what: &'static str,
        path: &str,
        args: &[&[u8]],
    ) -> Result<Vec<u8>, ClientError> {
        self.send_request(kind, what, path, join_strings(args))
    }

    fn send_request(
        &mut self,
        kind: MsgType,
        what: &'static str,
        path: &str,
        payload: Vec<u8>,
    ) -> Result<Vec<u8>, ClientError> {
        let request = self.message(kind, payload);
        self.stream.write_all(&request.to_bytes()?)?;
        self.reply(request.req_id, kind, what, path)
    }

    /// A request with a number of its own.
    fn message(&mut self, kind: MsgType, mut payload: Vec<u8>) -> Message {
        if payload.is_empty() {
            // xenstored 4.17 stops at an assertion over an empty payload.
            payload.push(0);
        }
        let req_id = self.next_req;
        self.next_req = self.next_req.wrapping_add(1);
        Message {
            kind,
            req_id,
            tx_id: self.tx,
            payload,
        }
    }

    /// The reply to the request with that number, the oldest that is not answered yet.
    fn reply(
        &mut self,
        req_id: u32,
        kind: MsgType,
        what: &'static str,
        path: &str,
    ) -> Result<Vec<u8>, ClientError> {
        loop {
            let Some(reply) = self.receive(None)? else {
                continue;
            };
            if self.keep_event(&reply)? {
                continue;
            }
            if reply.req_id != req_id {
                return Err(ClientError::Protocol(what));
            }
            if reply.kind == kind {
                return Ok(reply.payload);
            }
            let name = reply.payload.strip_suffix(b"\0").unwrap_or(&reply.payload);
            let error = XsError::from_name(name).ok_or(ClientError::Protocol(what))?;
            return Err(ClientError::Refused {
                what,
                path: path.to_owned(),
                error,
            });
        }
    }

    fn keep_event(&mut self, message: &Message) -> Result<bool, ClientError> {
        if message.kind != MsgType::WATCH_EVENT {
            return Ok(false);
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match message.strings().as_deref() {
            Some([path, token, ..]) => {
                let event = WatchEvent {
                    path: text(path),
                    token: text(token),
                };
                if self.waiting.insert(event.clone()) {
                    self.events.push_back(event);
                }
                Ok(true)
            }
            _ => Err(ClientError::Protocol("WATCH")),
        }
    }

    /// The next message, `None` at the deadline.
    fn receive(&mut self, deadline: Option<Instant>) -> Result<Option<Message>, ClientError> {
        let mut buf = [0; XENSTORE_PAYLOAD_MAX];
        loop {
            if let Some(message) = self.input.next_message()? {
                return Ok(Some(message));
            }
            if deadline.is_some() && !readable(self.stream.as_fd(), deadline)? {
                return Ok(None);
            }
            let space = self.input.space().min(buf.len());
            match self.stream.read(&mut buf[..space]) {
                Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
                Ok(count) => {
                    self.input.feed(&buf[..count]);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Whether there is something to read, or the other end is gone, by the deadline.
fn readable(fd: BorrowedFd<'_>, deadline: Option<Instant>) -> io::Result<bool> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // Rounded up, or the last millisecond would be spent in a busy loop.
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
        match nix::poll::poll(&mut fds, timeout) {
            Ok(0) if left.is_some_and(|left| !left.is_zero()) => {}
            Ok(count) => return Ok(count > 0),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn is_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || top == "/")
}

/// Where the C library looks for the daemon (`xs_daemon_socket`, `xenstore.h`).
#[must_use]
pub fn default_socket() -> PathBuf {
    if let Some(path) = env::var_os("XENSTORED_PATH") {
        return path.into();
    }
    let dir = env::var_os("XENSTORED_RUNDIR").unwrap_or_else(|| "/var/run/xenstored".into());
    Path::new(&dir).join("socket")
}
