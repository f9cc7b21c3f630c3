//! The domain's side of the control socket.
//!
//! Every connection has a thread of its own with time limits on reading and writing, and their
//! number is bounded: a client that is slow, silent or hostile holds up nobody else.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSliceMut, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};

use super::http::{self, RequestLine};
use super::{Answer, Attached, Command, MAX_FDS, MAX_LINE, Outcome, Request, VERSION};
use crate::console::{REPLAY, pump};
use crate::live::Live;
use crate::machine::ControlError;
use crate::metrics;
use crate::sandbox::{self, Role};
use crate::sys;

/// How many clients may be connected at a time.
const MAX_CLIENTS: usize = 64;
/// How long a client may take for one request line, from its first byte on, and for taking an
/// answer.
const LINE_TIME: Duration = Duration::from_secs(5);
/// How long a client may stay silent between requests.
const IDLE_TIME: Duration = Duration::from_secs(60);
/// How long to wait for the keyboard: whoever had it may be leaving just now.
const KEYBOARD_TIME: Duration = Duration::from_millis(500);
/// The longest request line.
const MAX_REQUEST: usize = 64 << 10;

/// The serving of one domain. Its threads end with the process; [`Server::finish`] lets clients
/// take their last bytes.
pub struct Server {
    clients: Arc<Clients>,
}

#[derive(Default)]
struct Clients {
    open: Mutex<Open>,
    changed: Condvar,
}

#[derive(Default)]
struct Open {
    next: u64,
    /// Whether each connected client waits for something it must still be given.
    busy: HashMap<u64, bool>,
}

impl Clients {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(self: &Arc<Clients>) -> Option<Seat> {
        let mut open = self.lock();
        if open.busy.len() >= MAX_CLIENTS {
            return None;
        }
        let id = open.next;
        open.next += 1;
        open.busy.insert(id, false);
        Some(Seat {
            clients: self.clone(),
            id,
        })
    }
}

/// A client's place in the count.
struct Seat {
    clients: Arc<Clients>,
    id: u64,
}

impl Seat {
    fn busy(&self, busy: bool) {
        self.clients.lock().busy.insert(self.id, busy);
        self.clients.changed.notify_all();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.clients.lock().busy.remove(&self.id);
        self.clients.changed.notify_all();
    }
}

impl Server {
    /// Serves `live` on `listener` from now on.
    pub fn start(listener: UnixListener, live: Arc<Live>) -> io::Result<Server> {
        let clients = Arc::new(Clients::default());
        let server = Server {
            clients: clients.clone(),
        };
        thread::Builder::new()
            .name("control".into())
            .spawn(move || {
                sandbox::enter(Role::Control);
                for stream in listener.incoming() {
                    match stream {
                        Ok(stream) => accept(stream, &clients, &live),
                        // Out of descriptors, say: give the clients time to leave.
                        Err(_) => thread::sleep(Duration::from_millis(100)),
                    }
                }
            })?;
        Ok(server)
    }

    /// Waits up to `patience` until every client has what it waits for.
    pub fn finish(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut open = self.clients.lock();
        while open.busy.values().any(|&busy| busy) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return;
            };
            let waited = self.clients.changed.wait_timeout(open, left);
            (open, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn accept(stream: UnixStream, clients: &Arc<Clients>, live: &Arc<Live>) {
    let Some(seat) = clients.enter() else {
        let message = format!("{MAX_CLIENTS} clients are connected already; try again later");
        let _ = answer(&stream, Err(ControlError(message)));
        return;
    };
    let live = live.clone();
    // Without a thread to serve it the connection is dropped, which the client sees.
    let _ = thread::Builder::new()
        .name("client".into())
        .spawn(move || serve(stream, &seat, &live));
}

fn serve(stream: UnixStream, seat: &Seat, live: &Arc<Live>) {
    let mut lines = Lines {
        stream: &stream,
        bytes: Vec::new(),
        fds: Vec::new(),
    };
    while let Some(line) = lines.next() {
        if let Some(request) = RequestLine::parse(&line) {
            seat.busy(true);
            tell_metrics(&mut lines, request, live);
            return;
        }
        let request = match parse(&line) {
            Ok(command) => command,
            Err(error) => {
                let _ = answer(&stream, Err(error));
                return;
            }
        };
        seat.busy(true);
        if let Command::Console { keyboard } = request {
            let typed = std::mem::take(&mut lines.bytes);
            attach(&stream, live, keyboard, &typed);
            return;
        }
        let outcome = perform(&request, live, std::mem::take(&mut lines.fds));
        if answer(&stream, outcome).is_err() {
            return;
        }
        seat.busy(false);
    }
}

/// Answers a request in HTTP, once all of its head is there.
fn tell_metrics(lines: &mut Lines<'_>, request: RequestLine<'_>, live: &Live) {
    let answer = match lines.skip_head() {
        Ok(()) => request.answer(|| {
            let stats = live.stats()?;
            Ok(metrics::text([(&live.info()?, &stats)]))
        }),
        Err(Broken::Long) => http::refusal(http::HEAD_TOO_LARGE),
        Err(Broken::Gone) => return,
    };
    // A client that does not take the answer does not want it.
    let _ = hand_over(lines.stream, &answer);
}

fn parse(line: &[u8]) -> Result<Command, ControlError> {
    let bad = |error| ControlError(format!("The request can't be understood: {error}"));
    let value: Value = serde_json::from_slice(line).map_err(bad)?;
    match value.get("version").and_then(Value::as_u64) {
        Some(version) if version == u64::from(VERSION) => {}
        version => {
            let got = version.map_or("none".into(), |version| version.to_string());
            let message = format!(
                "The domain speaks version {VERSION} of the control protocol, the request version {got}; use the xenner that started it"
            );
            return Err(ControlError(message));
        }
    }
    let request: Request = serde_json::from_value(value).map_err(bad)?;
    Ok(request.command)
}

fn perform(command: &Command, live: &Live, mut fds: Vec<OwnedFd>) -> Result<Value, ControlError> {
    let done = |()| json!({});
    match command {
        Command::Info => Ok(json!(live.info()?)),
        Command::Stats => Ok(json!(live.stats()?)),
        Command::Pause => live.pause().map(done),
        Command::Unpause => live.unpause().map(done),
        Command::Shutdown { reason } => live.request_shutdown(*reason).map(done),
        Command::Sysrq { key } => live.sysrq(*key).map(done),
        Command::Destroy => {
            live.destroy();
            Ok(json!({}))
        }
        Command::DumpCore => {
            let fd = fds
                .pop()
                .ok_or_else(|| ControlError("No file came with the request".into()))?;
            Ok(json!(live.dump_core(File::from(fd))?))
        }
        Command::Devices => Ok(json!(live.desk()?.list())),
        Command::Attach { device } => live.desk()?.attach(device, fds).map(done),
        Command::Detach {
            kind,
            device,
            force,
        } => live.desk()?.detach(*kind, device, *force).map(done),
        Command::Resize { device, bytes } => Ok(json!(live.desk()?.resize(device, *bytes)?)),
        Command::Insert { device, medium } => {
            let inserted = live.desk()?.insert(device, medium.as_ref(), fds);
            inserted.map(done)
        }
        Command::Rename { name } => live.rename(name).map(done),
        Command::Wait => Ok(json!(live.wait())),
        Command::Console { .. } => Err(ControlError("The console takes a connection".into())),
    }
}

fn answer(stream: &UnixStream, outcome: Result<Value, ControlError>) -> io::Result<()> {
    let outcome = match outcome {
        Ok(value) => Outcome::Result(value),
        Err(error) => Outcome::Error(error.to_string()),
    };
    let mut line = serde_json::to_vec(&Answer {
        version: VERSION,
        outcome,
    })?;
    line.push(b'\n');
    debug_assert!(line.len() <= MAX_LINE);
    hand_over(stream, &line)
}

/// Writes all of `bytes` within [`LINE_TIME`], however little the client takes at a time.
fn hand_over(mut stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    let deadline = Instant::now() + LINE_TIME;
    while !bytes.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_write_timeout(Some(left))?;
        match stream.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Turns the connection into a console until either side ends.
fn attach(stream: &UnixStream, live: &Live, keyboard: bool, typed: &[u8]) {
    let writer = if keyboard {
        live.console.writer_within(KEYBOARD_TIME)
    } else {
        None
    };
    let attached = Attached {
        keyboard: writer.is_some(),
    };
    if answer(stream, Ok(json!(attached))).is_err() {
        return;
    }
    // From here on a slow client is no fault: it merely loses output.
    let Ok(input) = stream.try_clone() else {
        return;
    };
    if stream.set_write_timeout(None).is_err() || input.set_read_timeout(None).is_err() {
        return;
    }
    if let Some(writer) = &writer
        && !writer.write(typed)
    {
        return;
    }
    let gone = Arc::new(AtomicBool::new(false));
    let hung_up = gone.clone();
    let keys = thread::Builder::new()
        .name("keyboard".into())
        .spawn(move || {
            pump::keys(&input, writer);
            hung_up.store(true, Ordering::Release);
        });
    if keys.is_ok() {
        pump::output(live.console.reader(REPLAY), stream, &gone);
    }
    // Wakes the other thread.
    let _ = stream.shutdown(std::net::Shutdown::Both);
}

/// Why there is no line.
enum Broken {
    /// It is too long.
    Long,
    /// The client is gone, or too slow.
    Gone,
}

/// Reads request lines and the descriptors that come with them.
struct Lines<'a> {
    stream: &'a UnixStream,
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Lines<'_> {
    /// The next line; `None` when the client is gone, too slow or too verbose.
    fn next(&mut self) -> Option<Vec<u8>> {
        let patience = match self.bytes.is_empty() {
            true => IDLE_TIME,
            false => LINE_TIME,
        };
        match self.until(Instant::now() + patience) {
            Ok(line) => Some(line),
            Err(Broken::Long) => {
                let message = "The request is too long".into();
                let _ = answer(self.stream, Err(ControlError(message)));
                None
            }
            Err(Broken::Gone) => None,
        }
    }

    /// Skips what follows the first line of a request in HTTP, up to an empty line.
    fn skip_head(&mut self) -> Result<(), Broken> {
        let deadline = Instant::now() + LINE_TIME;
        let mut length = 0;
        loop {
            let line = self.until(deadline)?;
            length += line.len();
            if length > http::MAX_HEAD {
                return Err(Broken::Long);
            }
            if line.trim_ascii().is_empty() {
                return Ok(());
            }
        }
    }

    /// The next line, if it is there by the deadline and [`LINE_TIME`] after its first byte.
    fn until(&mut self, mut deadline: Instant) -> Result<Vec<u8>, Broken> {
        self.fds.clear();
        loop {
            if let Some(end) = self.bytes.iter().position(|&byte| byte == b'\n') {
                let rest = self.bytes.split_off(end + 1);
                return Ok(std::mem::replace(&mut self.bytes, rest));
            }
            if self.bytes.len() > MAX_REQUEST {
                return Err(Broken::Long);
            }
            let left = deadline
                .checked_duration_since(Instant::now())
                .filter(|left| !left.is_zero())
                .ok_or(Broken::Gone)?;
            let first = self.bytes.is_empty();
            let timed = self.stream.set_read_timeout(Some(left));
            if timed.is_err() || !matches!(self.receive(), Ok(1..)) {
                return Err(Broken::Gone);
            }
            if first {
                deadline = deadline.min(Instant::now() + LINE_TIME);
            }
        }
    }

    fn receive(&mut self) -> nix::Result<usize> {
        let mut buf = [0; 1024];
        let mut space = nix::cmsg_space!([std::os::fd::RawFd; MAX_FDS]);
        let mut slices = [IoSliceMut::new(&mut buf)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(
            self.stream.as_raw_fd(),
            &mut slices,
            Some(&mut space),
            flags,
        )?;
        let count = message.bytes;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = control {
                self.fds.extend(sys::received(fds));
                // More than any request has: closed at once.
                self.fds.truncate(MAX_FDS);
            }
        }
        self.bytes.extend(buf.iter().take(count));
        Ok(count)
    }
}
