//! Connections of host programs: a UNIX stream socket in a caller's mio loop.
//!
//! Whoever may connect is the host itself: the socket has mode 0600 and peers
//! of another user than root or ours are turned away.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net as std_net;
use std::path::{Path, PathBuf};
use std::{fs, process};

use mio::event::Event;
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use thiserror::Error;

use crate::perms::Identity;
use crate::server::{Channel, ChannelError, ConnId, Server, Turn};

/// Connections served at once; further ones are closed at once.
pub const MAX_PEERS: usize = 256;

/// mio tokens a [`UnixServer`] uses, from the base given on.
pub const TOKENS: usize = 1 + MAX_PEERS;

/// The socket could not be made.
#[derive(Debug, Error)]
pub enum UnixError {
    /// A server answers there.
    #[error("Cannot serve xenstore on {0}: another server does; stop it or choose another path.")]
    InUse(PathBuf),
    /// Some other file is in the way.
    #[error("Cannot serve xenstore on {0}: it exists and is no socket; choose another path.")]
    NotASocket(PathBuf),
    /// The operating system refuses.
    #[error("Cannot {what} xenstore socket {path}.")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl UnixError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> UnixError {
        move |source| UnixError::Io {
            what,
            path: path.to_owned(),
            source,
        }
    }
}

/// A socket file that goes away with its owner.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode: a successor's socket of the same name stays.
    id: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.id);
        if ours {
            // Nobody is left to tell of a failure.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[derive(Debug)]
struct Peer {
    conn: ConnId,
    channel: UnixChannel,
}

/// Listening socket and connections, without a loop of their own.
#[derive(Debug)]
pub struct UnixServer {
    listener: Option<UnixListener>,
    accepting: bool,
    peers: BTreeMap<Token, Peer>,
    registration: Option<(Registry, Token)>,
    _file: Option<SocketFile>,
}

impl UnixServer {
    /// A server without a listening socket, for [`UnixServer::add`] alone.
    #[must_use]
    pub fn unbound() -> UnixServer {
        UnixServer {
            listener: None,
            accepting: false,
            peers: BTreeMap::new(),
            registration: None,
            _file: None,
        }
    }

    /// Listens on `path` with mode 0600. The socket of a dead server is
    /// replaced, that of a living one is not.
    ///
    /// # Errors
    /// [`UnixError`].
    pub fn bind(path: &Path) -> Result<UnixServer, UnixError> {
        refuse_if_taken(path)?;
        // Made under another name first: nobody sees it before its mode is
        // right, and the name changes hands at one moment.
        let mut draft = OsString::from(path);
        draft.push(format!(".{}", process::id()));
        let draft = PathBuf::from(draft);
        let _ = fs::remove_file(&draft);
        let listener = UnixListener::bind(&draft).map_err(UnixError::io("bind", &draft))?;
        let finish = || {
            fs::set_permissions(&draft, fs::Permissions::from_mode(0o600))?;
            let meta = fs::symlink_metadata(&draft)?;
            fs::rename(&draft, path)?;
            Ok((meta.dev(), meta.ino()))
        };
        let id = finish().map_err(|source| {
            let _ = fs::remove_file(&draft);
            UnixError::Io {
                what: "set up",
                path: path.to_owned(),
                source,
            }
        })?;
        let file = SocketFile {
            path: path.to_owned(),
            id,
        };
        let listener = Some(listener);
        Ok(UnixServer {
            listener,
            accepting: true,
            _file: Some(file),
            ..UnixServer::unbound()
        })
    }

    /// Serves a socket that is bound already, whose file is the caller's.
    ///
    /// # Errors
    /// The operating system's, from making it non-blocking.
    pub fn from_listener(listener: std::os::unix::net::UnixListener) -> io::Result<UnixServer> {
        listener.set_nonblocking(true)?;
        Ok(UnixServer {
            listener: Some(UnixListener::from_std(listener)),
            accepting: true,
            ..UnixServer::unbound()
        })
    }

    /// Registers with a mio loop, using the [`TOKENS`] tokens from `base` on.
    ///
    /// # Errors
    /// mio's.
    pub fn register(&mut self, registry: &Registry, base: Token) -> io::Result<()> {
        if let Some(listener) = &mut self.listener {
            registry.register(listener, base, Interest::READABLE)?;
        }
        for (token, peer) in &mut self.peers {
            let token = Token(base.0 + token.0);
            registry.register(&mut peer.channel.stream, token, BOTH)?;
        }
        self.registration = Some((registry.try_clone()?, base));
        Ok(())
    }

    /// Notes what an event says; returns false if it is not ours. Call
    /// [`UnixServer::pump`] after a batch of events.
    pub fn on_event(&mut self, event: &Event) -> bool {
        let Some((_, base)) = self.registration else {
            return false;
        };
        let Some(slot) = event
            .token()
            .0
            .checked_sub(base.0)
            .filter(|&slot| slot < TOKENS)
        else {
            return false;
        };
        if slot == 0 {
            self.accepting = true;
        } else if let Some(peer) = self.peers.get_mut(&Token(slot)) {
            peer.channel.readable |= event.is_readable() || event.is_read_closed();
            peer.channel.writable |= event.is_writable() || event.is_write_closed();
        }
        true
    }

    /// Serves every connection for one turn. On [`Turn::More`] call again
    /// without waiting for events.
    pub fn pump(&mut self, server: &mut Server) -> Turn {
        let mut turn = self.accept(server);
        let mut gone = Vec::new();
        for (token, peer) in &mut self.peers {
            match server.pump(peer.conn, &mut peer.channel) {
                Ok(Turn::Idle) => {}
                Ok(Turn::More) => turn = Turn::More,
                // A client that goes, well or badly, is no news to the host.
                Err(_) => gone.push(*token),
            }
        }
        for token in gone {
            self.peers.remove(&token);
        }
        // Later peers' requests may have left events for earlier ones.
        let unsent = |peer: &Peer| peer.channel.writable && server.has_output(peer.conn);
        if self.peers.values().any(unsent) {
            Turn::More
        } else {
            turn
        }
    }

    /// Serves one more stream, such as one end of a socket pair, as `who`.
    ///
    /// # Errors
    /// mio's, or [`ErrorKind::QuotaExceeded`] with [`MAX_PEERS`] connections.
    pub fn add(
        &mut self,
        server: &mut Server,
        stream: std_net::UnixStream,
        who: Identity,
    ) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        self.add_stream(server, UnixStream::from_std(stream), who)
    }

    fn add_stream(
        &mut self,
        server: &mut Server,
        mut stream: UnixStream,
        who: Identity,
    ) -> io::Result<()> {
        let slot = (1..TOKENS)
            .map(Token)
            .find(|token| !self.peers.contains_key(token));
        let token = slot.ok_or(ErrorKind::QuotaExceeded)?;
        if let Some((registry, base)) = &self.registration {
            registry.register(&mut stream, Token(base.0 + token.0), BOTH)?;
        }
        let channel = UnixChannel {
            stream,
            readable: true,
            writable: true,
        };
        self.peers.insert(
            token,
            Peer {
                conn: server.connect(who),
                channel,
            },
        );
        Ok(())
    }

    fn accept(&mut self, server: &mut Server) -> Turn {
        for _ in 0..crate::server::TURN {
            let (true, Some(listener)) = (self.accepting, &self.listener) else {
                return Turn::Idle;
            };
            match listener.accept() {
                // One that cannot be served is closed by dropping it.
                Ok((stream, _)) if is_trusted(&stream) => {
                    let _ = self.add_stream(server, stream, Identity::host());
                }
                Ok(_) => {}
                // Out of descriptors, say: the next connection tries again.
                Err(_) => self.accepting = false,
            }
        }
        Turn::More
    }
}

const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

fn refuse_if_taken(path: &Path) -> Result<(), UnixError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(UnixError::io("look at", path)(error)),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(UnixError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match std_net::UnixStream::connect(path) {
        Ok(_) => Err(UnixError::InUse(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(UnixError::io("probe", path)(error)),
    }
}

fn is_trusted(stream: &UnixStream) -> bool {
    let ours = nix::unistd::geteuid().as_raw();
    getsockopt(stream, PeerCredentials).is_ok_and(|peer| peer.uid() == 0 || peer.uid() == ours)
}

/// One connection; remembers readiness, as mio tells of its changes only.
#[derive(Debug)]
struct UnixChannel {
    stream: UnixStream,
    readable: bool,
    writable: bool,
}

impl Channel for UnixChannel {
    fn recv(&mut self, buf: &mut [u8]) -> Result<usize, ChannelError> {
        if !self.readable {
            return Ok(0);
        }
        match not_yet(|| self.stream.read(buf))? {
            Some(0) if !buf.is_empty() => Err(ChannelError::Closed),
            Some(count) => Ok(count),
            None => {
                self.readable = false;
                Ok(0)
            }
        }
    }

    fn send(&mut self, buf: &[u8]) -> Result<usize, ChannelError> {
        if !self.writable {
            return Ok(0);
        }
        let sent = not_yet(|| self.stream.write(buf))?;
        self.writable = sent.is_some();
        Ok(sent.unwrap_or(0))
    }
}

/// `None` for an operation that would have to wait.
fn not_yet(mut operation: impl FnMut() -> io::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        match operation() {
            Ok(count) => return Ok(Some(count)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}
