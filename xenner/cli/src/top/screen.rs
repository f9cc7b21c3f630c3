//! The terminal: drawing on it, reading keys from it, and giving it back as it was.
//!
//! It is given back whatever ends the program but SIGKILL: a key, an error, a signal (all that would
//! end it arrive at a descriptor), and a panic in whatever thread.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{FlushArg, tcflush};
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::{execute, terminal};
use ratatui::{DefaultTerminal, Terminal};

use super::app::{App, Wish};
use super::meter::{Meter, Row};
use crate::cli::TopArgs;
use crate::rundir::{Base, RunDirError};
use crate::status::{Failure, Status};
use crate::survey::survey;

/// The second look comes sooner than the others: without it there are no rates.
const FIRST_DELAY: Duration = Duration::from_millis(500);

/// Shows what the domains do until the user has enough.
pub fn run(base: Base, arguments: &TopArgs) -> Result<Status, Failure> {
    show(base, arguments).map_err(|error| {
        let message = format!("Cannot use the terminal: {error}");
        Failure::new(Status::Console, message)
    })?;
    Ok(Status::Success)
}

fn show(base: Base, arguments: &TopArgs) -> io::Result<()> {
    let signals = signals()?;
    let mut app = App::new(arguments);
    let looker = Looker::start(base, arguments.delay)?;
    let mut screen = Screen::open()?;
    loop {
        screen.terminal.draw(|frame| app.draw(frame))?;
        let ready = Ready::wait(&signals, &looker.bell)?;
        let mut wish = Wish::None;
        if ready.looked {
            looker.collect(&mut app)?;
        }
        if ready.signal {
            wish = signal(&signals)?;
        }
        if ready.keys && wish == Wish::None {
            wish = keys(&mut app)?;
        }
        match wish {
            Wish::None => {}
            Wish::Quit => return Ok(()),
            Wish::Suspend => screen.suspend()?,
            Wish::Look => looker.order(Order::Now),
            Wish::Delay(delay) => looker.order(Order::Delay(delay)),
        }
        if ready.hung_up {
            return Ok(());
        }
    }
}

/// The terminal with our screen on it. Dropping it brings back what was there.
pub struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Takes the terminal of standard input and output.
    pub fn open() -> io::Result<Screen> {
        // Also has a panic give the terminal back, before its message is printed.
        match ratatui::try_init() {
            Ok(terminal) => Ok(Screen { terminal }),
            Err(error) => {
                let _ = ratatui::try_restore();
                Err(error)
            }
        }
    }

    fn leave(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let _ = self.terminal.show_cursor();
        let _ = ratatui::try_restore();
    }

    /// Stops the process with the terminal as it was before.
    fn suspend(&mut self) -> io::Result<()> {
        self.leave();
        raise(Signal::SIGSTOP)?;
        terminal::enable_raw_mode()?;
        execute!(io::stdout(), terminal::EnterAlternateScreen)?;
        // One that remembers nothing draws everything.
        self.terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Signals that end or stop a program, and the one that says that the terminal has another size.
fn signals() -> io::Result<SignalFd> {
    use Signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};
    let set: SigSet = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH]
        .into_iter()
        .collect();
    set.thread_block()?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(&set, flags)?)
}

fn signal(signals: &SignalFd) -> io::Result<Wish> {
    while let Some(info) = signals.read_signal()? {
        match Signal::try_from(info.ssi_signo as i32) {
            // Drawing finds out the size by itself.
            Ok(Signal::SIGWINCH) => {}
            Ok(Signal::SIGTSTP) => return Ok(Wish::Suspend),
            _ => return Ok(Wish::Quit),
        }
    }
    Ok(Wish::None)
}

fn keys(app: &mut App) -> io::Result<Wish> {
    let mut any = false;
    while event::poll(Duration::ZERO)? {
        any = true;
        if let Event::Key(key) = event::read()? {
            match app.key(key) {
                Wish::None => {}
                wish => return Ok(wish),
            }
        }
    }
    if !any {
        // The rest of something pasted that was too long: it would be ready for ever.
        tcflush(io::stdin(), FlushArg::TCIFLUSH)?;
    }
    Ok(Wish::None)
}

/// What there is to do.
struct Ready {
    keys: bool,
    hung_up: bool,
    signal: bool,
    looked: bool,
}

impl Ready {
    fn wait(signals: &SignalFd, bell: &EventFd) -> io::Result<Ready> {
        let stdin = io::stdin();
        let mut fds = [stdin.as_fd(), signals.as_fd(), bell.as_fd()]
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let has = |at: usize, flags| {
            fds[at]
                .revents()
                .is_some_and(|events| events.intersects(flags))
        };
        Ok(Ready {
            keys: has(0, PollFlags::POLLIN),
            hung_up: has(
                0,
                PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL,
            ),
            signal: has(1, PollFlags::POLLIN),
            looked: has(2, PollFlags::POLLIN),
        })
    }
}

enum Order {
    Now,
    Delay(Duration),
}

/// Looks at the domains again and again, in a thread of its own: a domain that does not answer must
/// not stop keys.
struct Looker {
    orders: Sender<Order>,
    rows: Receiver<Result<Vec<Row>, RunDirError>>,
    bell: Arc<EventFd>,
}

/// Rings the bell when the thread ends, however it does.
struct LastRing(Arc<EventFd>);

impl Drop for LastRing {
    fn drop(&mut self) {
        let _ = self.0.write(1);
    }
}

impl Looker {
    fn start(base: Base, delay: Duration) -> io::Result<Looker> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let bell = Arc::new(EventFd::from_flags(flags)?);
        let ((orders, ordered), (looks, rows)) = (channel(), channel());
        let last = LastRing(bell.clone());
        thread::Builder::new()
            .name("looker".into())
            .spawn(move || look(&base, delay, &ordered, looks, &last))?;
        Ok(Looker { orders, rows, bell })
    }

    fn order(&self, order: Order) {
        // That the thread has ended is noticed when rows are collected.
        let _ = self.orders.send(order);
    }

    fn collect(&self, app: &mut App) -> io::Result<()> {
        let _ = self.bell.read();
        loop {
            match self.rows.try_recv() {
                Ok(Ok(rows)) => app.show(rows),
                Ok(Err(error)) => app.complain(error.to_string()),
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => {
                    return Err(io::Error::other(
                        "A bug in xenner ended the thread that looks at domains",
                    ));
                }
            }
        }
    }
}

fn look(
    base: &Base,
    mut delay: Duration,
    orders: &Receiver<Order>,
    looks: Sender<Result<Vec<Row>, RunDirError>>,
    last: &LastRing,
) {
    let mut meter = Meter::default();
    let mut next = FIRST_DELAY.min(delay);
    loop {
        let begun = Instant::now();
        let rows = survey(base).map(|seen| meter.measure(seen));
        if looks.send(rows).is_err() {
            return;
        }
        let _ = last.0.write(1);
        loop {
            match orders.recv_timeout(next.saturating_sub(begun.elapsed())) {
                Ok(Order::Delay(wanted)) => (delay, next) = (wanted, wanted),
                Ok(Order::Now) | Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        next = delay;
    }
}
