//! The server: connections, requests, watches.
//!
//! It knows no file descriptors. A transport owns a [`Channel`] per connection
//! and calls [`Server::pump`] when the channel may have become ready; a turn
//! handles a bounded number of requests, so that no peer starves the others.
//! A request on one connection can leave events on any other, hence pump all
//! connections once after each round (see [`Server::has_output`]).

use std::collections::{BTreeMap, VecDeque};
use std::io;

use thiserror::Error;

use crate::path::{Path, PathError};
use crate::perms::{DomId, Identity};
use crate::store::{INTRODUCE_DOMAIN, Quotas, RELEASE_DOMAIN, Store, Transaction};
use crate::wire::{Decoder, Message, MsgType, WireError, XENSTORE_PAYLOAD_MAX, XsError};

use output::Output;
use watches::{WatchId, Watches};

mod ops;
mod output;
mod watches;

/// Requests of one connection handled in one turn.
pub const TURN: usize = 16;

/// Names a connection for as long as the server lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(u64);

/// Moves bytes without waiting.
pub trait Channel {
    /// Reads some bytes; `Ok(0)` when there are none now.
    ///
    /// # Errors
    /// The channel is of no more use; [`ChannelError::Closed`] when the peer
    /// has ended it in order.
    fn recv(&mut self, buf: &mut [u8]) -> Result<usize, ChannelError>;

    /// Writes some bytes; `Ok(0)` when there is no room now.
    ///
    /// # Errors
    /// The channel is of no more use.
    fn send(&mut self, buf: &[u8]) -> Result<usize, ChannelError>;
}

/// Why a channel is of no more use.
#[derive(Debug, Error)]
pub enum ChannelError {
    /// The peer has closed it.
    #[error("Peer has closed the connection.")]
    Closed,
    /// The operating system says so.
    #[error("Socket of a xenstore client failed.")]
    Io(#[from] io::Error),
    /// Producer and consumer of a shared ring are further apart than its size.
    #[error("Xenstore ring of the domain is broken: producer {prod}, consumer {cons}.")]
    RingIndex {
        /// The producer index found.
        prod: u32,
        /// The consumer index found.
        cons: u32,
    },
}

/// Why a connection ended.
#[derive(Debug, Error)]
pub enum Closed {
    /// Its channel ended or broke.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The peer broke the framing.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The peer does not read what it is sent.
    #[error("Xenstore client reads neither replies nor events: more than 8 MiB wait for it.")]
    Overflow,
    /// The server has dropped the connection; its domain was released.
    #[error("Xenstore connection is no longer known: its domain was released.")]
    Released,
}

/// What a turn has left over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing to do until the channel is ready again.
    Idle,
    /// More requests are at hand: call again, after the others.
    More,
}

/// What the embedder should know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// INTRODUCE: a tool wants the domain's ring served.
    Introduced {
        /// The domain.
        domid: DomId,
        /// Frame of its xenstore page, as sent.
        mfn: u64,
        /// Its event channel.
        port: u32,
    },
    /// RELEASE: a tool has given the domain up.
    Released(DomId),
}

#[derive(Debug)]
struct Connection {
    who: Identity,
    input: Decoder,
    output: Output,
    transactions: BTreeMap<u32, Transaction>,
    next_tx: u32,
    watches: usize,
}

#[derive(Debug, Default)]
struct Domain {
    target: Option<DomId>,
    /// Its shutdown has been announced.
    shutdown: bool,
}

/// The xenstore server.
#[derive(Debug, Default)]
pub struct Server {
    store: Store,
    conns: BTreeMap<ConnId, Connection>,
    watches: Watches,
    domains: BTreeMap<DomId, Domain>,
    events: VecDeque<Event>,
    next_conn: u64,
}

impl Server {
    /// A server with a fresh store.
    #[must_use]
    pub fn new(quotas: Quotas) -> Server {
        Server {
            store: Store::new(quotas),
            ..Server::default()
        }
    }

    /// The store, to look at.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Lets the host change the store; watches fire afterwards.
    pub fn update<R>(&mut self, change: impl FnOnce(&mut Store) -> R) -> R {
        let result = change(&mut self.store);
        self.fire();
        result
    }

    /// Adds a connection of `who`.
    pub fn connect(&mut self, who: Identity) -> ConnId {
        let id = ConnId(self.next_conn);
        self.next_conn += 1;
        let target = self
            .domains
            .get(&who.domid)
            .and_then(|domain| domain.target);
        let conn = Connection {
            who: Identity {
                target: who.target.or(target),
                ..who
            },
            input: Decoder::default(),
            output: Output::default(),
            transactions: BTreeMap::new(),
            next_tx: 1,
            watches: 0,
        };
        self.conns.insert(id, conn);
        id
    }

    /// Drops a connection with its watches and transactions.
    pub fn disconnect(&mut self, id: ConnId) {
        self.watches.remove_all(id);
        self.conns.remove(&id);
    }

    /// Whether a connection is known.
    #[must_use]
    pub fn is_connected(&self, id: ConnId) -> bool {
        self.conns.contains_key(&id)
    }

    /// Starts a connection over: watches, transactions and half messages go.
    /// For a ring whose guest asks to reconnect.
    pub fn reset(&mut self, id: ConnId) {
        self.watches.remove_all(id);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.input.clear();
            conn.output = Output::default();
            conn.transactions.clear();
            conn.watches = 0;
        }
    }

    /// Declares a domain running and fires `@introduceDomain`. Connect its
    /// ring with [`Server::connect`] besides.
    pub fn introduce(&mut self, domid: DomId) {
        self.admit(domid);
        self.fire();
    }

    fn tell(&mut self, event: Event) {
        self.events.push_back(event);
        if self.events.len() > 64 {
            // An embedder that never asks must not cost memory for ever.
            self.events.pop_front();
        }
    }

    fn admit(&mut self, domid: DomId) {
        self.domains.entry(domid).or_default();
        self.store.announce(INTRODUCE_DOMAIN);
    }

    /// Tells the watchers of `@releaseDomain` that a domain has shut down.
    pub fn domain_shutdown(&mut self, domid: DomId) {
        let Some(domain) = self.domains.get_mut(&domid) else {
            return;
        };
        if !std::mem::replace(&mut domain.shutdown, true) {
            self.update(|store| store.announce(RELEASE_DOMAIN));
        }
    }

    /// Drops a domain: its connections, its nodes, all grants to it; fires
    /// `@releaseDomain`.
    pub fn release(&mut self, domid: DomId) {
        self.expel(domid);
        self.fire();
    }

    fn expel(&mut self, domid: DomId) {
        if self.domains.remove(&domid).is_none() {
            return;
        }
        let of_domain = |conn: &Connection| !conn.who.privileged && conn.who.domid == domid;
        let ids: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, conn)| of_domain(conn))
            .map(|(&id, _)| id)
            .collect();
        for id in ids {
            self.disconnect(id);
        }
        for conn in self
            .conns
            .values_mut()
            .filter(|conn| conn.who.target == Some(domid))
        {
            conn.who.target = None;
        }
        self.store.forget_domain(domid);
        self.store.announce(RELEASE_DOMAIN);
    }

    /// Whether a domain is introduced.
    #[must_use]
    pub fn is_introduced(&self, domid: DomId) -> bool {
        self.domains.contains_key(&domid)
    }

    /// What tools have asked of the embedder since the last call, at most the
    /// latest 64 things.
    pub fn take_events(&mut self) -> impl Iterator<Item = Event> {
        std::mem::take(&mut self.events).into_iter()
    }

    /// Whether bytes wait to be sent on a connection.
    #[must_use]
    pub fn has_output(&self, id: ConnId) -> bool {
        self.conns
            .get(&id)
            .is_some_and(|conn| !conn.output.next().is_empty())
    }

    /// One turn of a connection: sends what waits, reads and handles at most
    /// [`TURN`] requests, sends the replies.
    ///
    /// # Errors
    /// [`Closed`]; the connection and all it held are then gone.
    pub fn pump(&mut self, id: ConnId, channel: &mut impl Channel) -> Result<Turn, Closed> {
        let turn = self.try_pump(id, channel);
        if turn.is_err() {
            self.disconnect(id);
        }
        turn
    }

    fn try_pump(&mut self, id: ConnId, channel: &mut impl Channel) -> Result<Turn, Closed> {
        let mut turn = Turn::More;
        for _ in 0..TURN {
            self.send(id, channel)?;
            let Some(message) = self.receive(id, channel)? else {
                turn = Turn::Idle;
                break;
            };
            self.handle(id, &message);
        }
        let throttled = self.throttled(id);
        self.send(id, channel)?;
        // Requests that waited for room must not wait for another wake-up.
        Ok(if throttled && !self.throttled(id) {
            Turn::More
        } else {
            turn
        })
    }

    fn throttled(&self, id: ConnId) -> bool {
        self.conns
            .get(&id)
            .is_some_and(|conn| conn.output.throttled())
    }

    fn send(&mut self, id: ConnId, channel: &mut impl Channel) -> Result<(), Closed> {
        let conn = self.conns.get_mut(&id).ok_or(Closed::Released)?;
        if conn.output.overflowed() {
            return Err(Closed::Overflow);
        }
        while !conn.output.next().is_empty() {
            match channel.send(conn.output.next())? {
                0 => break,
                count => conn.output.consume(count),
            }
        }
        Ok(())
    }

    /// The next request, unless too much output waits or too few bytes came.
    fn receive(
        &mut self,
        id: ConnId,
        channel: &mut impl Channel,
    ) -> Result<Option<Message>, Closed> {
        let conn = self.conns.get_mut(&id).ok_or(Closed::Released)?;
        if conn.output.throttled() {
            return Ok(None);
        }
        let mut buf = [0; XENSTORE_PAYLOAD_MAX];
        loop {
            if let Some(message) = conn.input.next_message()? {
                return Ok(Some(message));
            }
            let space = conn.input.space().min(buf.len());
            match channel.recv(&mut buf[..space])? {
                0 => return Ok(None),
                count => conn.input.feed(&buf[..count]),
            };
        }
    }

    /// Handles one request of a connection; reply and events are queued.
    pub fn handle(&mut self, id: ConnId, request: &Message) {
        let Some(conn) = self.conns.get(&id) else {
            return;
        };
        let result = self.dispatch(id, conn.who, request);
        let mut reply = Message {
            kind: request.kind,
            req_id: request.req_id,
            tx_id: request.tx_id,
            payload: Vec::new(),
        };
        match result {
            Ok(payload) if payload.len() <= XENSTORE_PAYLOAD_MAX => reply.payload = payload,
            Ok(_) => set_error(&mut reply, XsError::E2BIG),
            Err(error) => set_error(&mut reply, error),
        }
        let failed = reply.kind == MsgType::ERROR;
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.output.reply(&reply);
        }
        if request.kind == MsgType::WATCH && !failed {
            self.fire_first(id, request);
        }
        self.fire();
    }

    /// The next whole message queued for a connection, for embedders that
    /// call [`Server::handle`] themselves. Not to be mixed with `pump`.
    pub fn take_message(&mut self, id: ConnId) -> Option<Message> {
        let output = &mut self.conns.get_mut(&id)?.output;
        let mut decoder = Decoder::default();
        let bytes = output.next();
        decoder.feed(bytes);
        let count = bytes.len();
        output.consume(count);
        decoder.next_message().ok().flatten()
    }

    /// Turns the store's changes into events on the connections concerned.
    fn fire(&mut self) {
        for change in self.store.take_changes() {
            for (id, watch) in self.watches.concerned(&change) {
                let Some(conn) = self.conns.get_mut(&watch.conn) else {
                    continue;
                };
                // One commit can fire every watch for every node: an overflow
                // must end the work, not only the memory.
                if !conn.output.overflowed()
                    && self.store.may_see(&change, &conn.who)
                    && let Some(payload) = watch.event(&change.path)
                {
                    conn.output.event(&event(payload), id, &change.path);
                }
            }
        }
    }

    /// The event a new watch is answered with, whatever it watches.
    fn fire_first(&mut self, conn: ConnId, request: &Message) {
        let Ok((path, token)) = self.watch_args(conn, request) else {
            return;
        };
        let Some(id) = self.watches.find(conn, &path, token) else {
            return;
        };
        self.fire_one(id);
    }

    fn fire_one(&mut self, id: WatchId) {
        let Some(watch) = self.watches.get(id) else {
            return;
        };
        let (Some(conn), Some(payload)) =
            (self.conns.get_mut(&watch.conn), watch.event(watch.path()))
        else {
            return;
        };
        conn.output.event(&event(payload), id, watch.path());
    }
}

fn set_error(reply: &mut Message, error: XsError) {
    reply.kind = MsgType::ERROR;
    reply.payload = [error.name().as_bytes(), b"\0"].concat();
}

fn event(payload: Vec<u8>) -> Message {
    Message {
        kind: MsgType::WATCH_EVENT,
        req_id: 0,
        tx_id: 0,
        payload,
    }
}

impl From<PathError> for XsError {
    fn from(_: PathError) -> XsError {
        // The protocol has one name for every malformed path.
        XsError::EINVAL
    }
}

fn special_or_node(bytes: &[u8], who: Identity) -> Result<Path, XsError> {
    Ok(Path::resolve_or_special(bytes, who.domid)?)
}

#[cfg(test)]
mod tests;
