//! One function per request type (`docs/misc/xenstore.txt`).

use super::{ConnId, Event, Server, special_or_node};
use crate::path::{Path, domain_path};
use crate::perms::{DOM0, DOMID_FIRST_RESERVED, DomId, Identity, Perms, parse_domid};
use crate::store::{Session, Transaction};
use crate::wire::{Message, MsgType, XENSTORE_PAYLOAD_MAX, XsError, strings};

type Reply = Result<Vec<u8>, XsError>;

const OK: &[u8] = b"OK\0";

impl Server {
    pub(super) fn dispatch(&mut self, id: ConnId, who: Identity, request: &Message) -> Reply {
        let tx_ignored = matches!(request.kind, MsgType::WATCH | MsgType::UNWATCH);
        if !tx_ignored && !self.has_transaction(id, request.tx_id) {
            return Err(XsError::ENOENT);
        }
        match request.kind {
            MsgType::DIRECTORY => self.directory(id, who, request),
            MsgType::DIRECTORY_PART => self.directory_part(id, who, request),
            MsgType::READ => self.read(id, who, request),
            MsgType::WRITE => self.write(id, who, request),
            MsgType::MKDIR => self.mkdir(id, who, request),
            MsgType::RM => self.rm(id, who, request),
            MsgType::GET_PERMS => self.get_perms(id, who, request),
            MsgType::SET_PERMS => self.set_perms(id, who, request),
            MsgType::WATCH => self.watch(id, who, request),
            MsgType::UNWATCH => self.unwatch(id, request),
            MsgType::RESET_WATCHES => self.reset_watches(id),
            MsgType::TRANSACTION_START => self.transaction_start(id, who, request),
            MsgType::TRANSACTION_END => self.transaction_end(id, who, request),
            MsgType::GET_DOMAIN_PATH => get_domain_path(request),
            MsgType::IS_DOMAIN_INTRODUCED => {
                only_host(who).and_then(|()| self.is_domain_introduced(request))
            }
            MsgType::INTRODUCE => only_host(who).and_then(|()| self.introduce_request(request)),
            MsgType::RELEASE => only_host(who).and_then(|()| self.release_request(request)),
            MsgType::RESUME => only_host(who).and_then(|()| self.resume(request)),
            MsgType::SET_TARGET => only_host(who).and_then(|()| self.set_target(request)),
            MsgType::CONTROL => only_host(who).and_then(|()| self.control(request)),
            _ => Err(XsError::ENOSYS),
        }
    }

    /// Whether 0 or a transaction of the connection is meant.
    fn has_transaction(&self, id: ConnId, tx: u32) -> bool {
        tx == 0
            || self
                .conns
                .get(&id)
                .is_some_and(|conn| conn.transactions.contains_key(&tx))
    }

    fn session(&mut self, id: ConnId, who: Identity, tx: u32) -> Result<Session<'_>, XsError> {
        let tx = match tx {
            0 => None,
            _ => {
                let conn = self.conns.get_mut(&id).ok_or(XsError::ENOENT)?;
                Some(conn.transactions.get_mut(&tx).ok_or(XsError::ENOENT)?)
            }
        };
        Ok(self.store.session(who, tx))
    }

    fn directory(&mut self, id: ConnId, who: Identity, request: &Message) -> Reply {
        let path = Path::resolve(only(request)?, who.domid)?;
        let node = self.session(id, who, request.tx_id)?.node(&path)?;
        Ok(names(&node.children))
    }

    /// A cut of the list that DIRECTORY would give, led by the generation.
    /// An empty name ends the list.
    fn directory_part(&mut self, id: ConnId, who: Identity, request: &Message) -> Reply {
        let args = args::<2>(request)?;
        let path = Path::resolve(args[0], who.domid)?;
        let offset: usize = number(args[1])?;
        let node = self.session(id, who, request.tx_id)?.node(&path)?;
        let mut reply = format!("{}\0", node.generation).into_bytes();
        let mut list = names(&node.children);
        list.push(0);
        // An offset at or behind the end gets the end mark alone.
        let rest = &list[offset.min(list.len() - 1)..];
        for name in rest.split_inclusive(|&byte| byte == 0) {
            if reply.len() + name.len() > XENSTORE_PAYLOAD_MAX {
                break;
            }
            reply.extend_from_slice(name);
        }
        Ok(reply)
    }

    fn read(&mut self, id: ConnId, who: Identity, request: &Message) -> Reply {
        let path = Path::resolve(only(request)?, who.domid)?;
        self.session(id, who, request.tx_id)?.read(&path)
    }

    fn write(&mut self, id: ConnId, who: Identity, request: &Message) -> Reply {
        let nul = request
            .payload
            .iter()
            .position(|&byte| byte == 0)
            .ok_or(XsError::EINVAL)?;
        let (name, value) = request.payload.split_at(nul);
        let path = Path::resolve(name, who.domid)?;
        self.session(id, who, request.tx_id)?
            .write(&path, &value[1..])?;
        Ok(OK.to_vec())
    }

    fn mkdir(&mut self, id: ConnId, who: Identity, request: &Message) -> Reply {
        let path = Path::resolve(only(request)?, who.domid)?;
        self.session(id, who, request.tx_id)?.mkdir(&path)?;
        Ok(OK.to_vec())
    }

    fn rm(&mut self, id: ConnId, who: Identity, request: &Message) -> Reply {
        let path = Path::resolve(only(request)?, who.domid)?;
        self.session(id, who, request.tx_id)?.rm(&path)?;
        Ok(OK.to_vec())
    }

    fn get_perms(&mut self, id: ConnId, who: Identity, request: &Message) -> Reply {
        let path = special_or_node(only(request)?, who)?;
        Ok(self
            .session(id, who, request.tx_id)?
            .perms(&path)?
            .to_wire())
    }

    fn set_perms(&mut self, id: ConnId, who: Identity, request: &Message) -> Reply {
        let args = strings(&request.payload).ok_or(XsError::EINVAL)?;
        let (name, texts) = args.split_first().ok_or(XsError::EINVAL)?;
        let path = special_or_node(name, who)?;
        let perms = Perms::parse(texts.iter().copied()).map_err(|_| XsError::EINVAL)?;
        self.session(id, who, request.tx_id)?
            .set_perms(&path, perms)?;
        Ok(OK.to_vec())
    }

    /// Path and token of a WATCH or UNWATCH.
    pub(super) fn watch_args<'a>(
        &self,
        id: ConnId,
        request: &'a Message,
    ) -> Result<(Path, &'a [u8]), XsError> {
        let [name, token] = args::<2>(request)?;
        let conn = self.conns.get(&id).ok_or(XsError::ENOENT)?;
        Ok((special_or_node(name, conn.who)?, token))
    }

    fn watch(&mut self, id: ConnId, who: Identity, request: &Message) -> Reply {
        let (path, token) = self.watch_args(id, request)?;
        let relative = !matches!(request.payload.first(), Some(b'/' | b'@'));
        let strip = if relative {
            domain_path(who.domid).len() + 1
        } else {
            0
        };
        let conn = self.conns.get_mut(&id).ok_or(XsError::ENOENT)?;
        if !who.privileged && conn.watches >= self.store.quotas().watches {
            return Err(XsError::E2BIG);
        }
        self.watches.add(id, path, token, strip)?;
        conn.watches += 1;
        Ok(OK.to_vec())
    }

    fn unwatch(&mut self, id: ConnId, request: &Message) -> Reply {
        let (path, token) = self.watch_args(id, request)?;
        let watch = self.watches.remove(id, &path, token)?;
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.watches = conn.watches.saturating_sub(1);
            conn.output.forget(watch);
        }
        Ok(OK.to_vec())
    }

    fn reset_watches(&mut self, id: ConnId) -> Reply {
        self.watches.remove_all(id);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.watches = 0;
            conn.transactions.clear();
            conn.output.forget_events();
        }
        Ok(OK.to_vec())
    }

    fn transaction_start(&mut self, id: ConnId, who: Identity, request: &Message) -> Reply {
        if request.tx_id != 0 {
            return Err(XsError::EBUSY);
        }
        let conn = self.conns.get_mut(&id).ok_or(XsError::ENOENT)?;
        if !who.privileged && conn.transactions.len() >= self.store.quotas().transactions {
            return Err(XsError::ENOSPC);
        }
        while conn.next_tx == 0 || conn.transactions.contains_key(&conn.next_tx) {
            conn.next_tx = conn.next_tx.wrapping_add(1);
        }
        conn.transactions
            .insert(conn.next_tx, Transaction::default());
        let reply = format!("{}\0", conn.next_tx);
        conn.next_tx = conn.next_tx.wrapping_add(1);
        Ok(reply.into_bytes())
    }

    fn transaction_end(&mut self, id: ConnId, who: Identity, request: &Message) -> Reply {
        let keep = match only(request)? {
            b"T" => true,
            b"F" => false,
            _ => return Err(XsError::EINVAL),
        };
        let conn = self.conns.get_mut(&id).ok_or(XsError::ENOENT)?;
        let tx = conn
            .transactions
            .remove(&request.tx_id)
            .ok_or(XsError::ENOENT)?;
        if keep {
            self.store.commit(who, tx)?;
        }
        Ok(OK.to_vec())
    }

    fn is_domain_introduced(&self, request: &Message) -> Reply {
        let domid = domid(only(request)?)?;
        let known = domid == DOM0 || self.is_introduced(domid);
        Ok(if known {
            b"T\0".to_vec()
        } else {
            b"F\0".to_vec()
        })
    }

    fn introduce_request(&mut self, request: &Message) -> Reply {
        let [name, mfn, port] = args::<3>(request)?;
        let domid = domid(name)?;
        if domid == DOM0 || domid.0 >= DOMID_FIRST_RESERVED.0 {
            return Err(XsError::EINVAL);
        }
        // Tools print the frame as a signed number.
        let mfn = number::<u64>(mfn).or_else(|_| number::<i64>(mfn).map(i64::cast_unsigned))?;
        let port = number(port)?;
        self.tell(Event::Introduced { domid, mfn, port });
        if !self.is_introduced(domid) {
            self.admit(domid);
        }
        Ok(OK.to_vec())
    }

    fn release_request(&mut self, request: &Message) -> Reply {
        let domid = domid(only(request)?)?;
        if !self.is_introduced(domid) {
            return Err(XsError::ENOENT);
        }
        self.expel(domid);
        self.tell(Event::Released(domid));
        Ok(OK.to_vec())
    }

    fn resume(&mut self, request: &Message) -> Reply {
        let domid = domid(only(request)?)?;
        self.domains
            .get_mut(&domid)
            .ok_or(XsError::ENOENT)?
            .shutdown = false;
        Ok(OK.to_vec())
    }

    fn set_target(&mut self, request: &Message) -> Reply {
        let [name, target] = args::<2>(request)?;
        let (domid, target) = (domid(name)?, domid(target)?);
        if !self.is_introduced(target) {
            return Err(XsError::ENOENT);
        }
        self.domains.get_mut(&domid).ok_or(XsError::ENOENT)?.target = Some(target);
        let conns = self.conns.values_mut();
        for conn in conns.filter(|conn| !conn.who.privileged && conn.who.domid == domid) {
            conn.who.target = Some(target);
        }
        Ok(OK.to_vec())
    }

    /// CONTROL: its commands are each server's own.
    fn control(&mut self, request: &Message) -> Reply {
        let args = strings(&request.payload).ok_or(XsError::EINVAL)?;
        let text = match args.as_slice() {
            [b"help", ..] => "check\nhelp\nquota\nquota <domid>\nversion\n".to_owned(),
            [b"check", ..] => match self.store.check() {
                Ok(()) => "OK".to_owned(),
                Err(broken) => broken,
            },
            [b"quota"] => self.quota_text(),
            [b"quota", name, ..] => format!("nodes: {}\n", self.store.entries_of(domid(name)?)),
            [b"version", ..] => format!("xt-xenstore {}\n", env!("CARGO_PKG_VERSION")),
            _ => return Err(XsError::EINVAL),
        };
        Ok([text.as_bytes(), b"\0"].concat())
    }

    fn quota_text(&self) -> String {
        let q = self.store.quotas();
        format!(
            "nodes: {}\nnode-size: {}\npermissions: {}\nwatches: {}\ntransactions: {}\n\
             transaction-nodes: {}\n",
            q.entries, q.node_size, q.perms, q.watches, q.transactions, q.transaction_nodes
        )
    }
}

fn only_host(who: Identity) -> Result<(), XsError> {
    if who.privileged {
        Ok(())
    } else {
        Err(XsError::EACCES)
    }
}

fn get_domain_path(request: &Message) -> Reply {
    let domid = domid(only(request)?)?;
    Ok(format!("{}\0", domain_path(domid)).into_bytes())
}

/// The one nul-ended string there must be.
fn only(request: &Message) -> Result<&[u8], XsError> {
    match request.strings().as_deref() {
        Some([text]) => Ok(text),
        _ => Err(XsError::EINVAL),
    }
}

/// The first `N` nul-ended strings; further ones are reserved and ignored.
fn args<const N: usize>(request: &Message) -> Result<[&[u8]; N], XsError> {
    let all = strings(&request.payload).ok_or(XsError::EINVAL)?;
    all.first_chunk().copied().ok_or(XsError::EINVAL)
}

fn domid(text: &[u8]) -> Result<DomId, XsError> {
    parse_domid(text).ok_or(XsError::EINVAL)
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Result<T, XsError> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(XsError::EINVAL)
}

fn names(children: &[Box<str>]) -> Vec<u8> {
    children
        .iter()
        .flat_map(|name| name.bytes().chain(Some(0)))
        .collect()
}
