//! The process of a domain: takes the name, opens what the domain needs, confines itself, runs the
//! machine as often as the `on_*` settings say, and leaves nothing behind.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use xenner_vmm::shelf::Shelf;

use crate::console::Console;
use crate::console::backend::{Backend, ConsoleSpec, Running};
use crate::control::server::Server;
use crate::devices;
use crate::front::{Event, Line, Order, Sender};
use crate::live::Live;
use crate::machine::{DomainExit, Launcher, Machine, Ports, RunState};
use crate::restart::{self, Guard, Step};
use crate::rundir::{Base, CONTROL, DOMAIN, PID, RunDir, XENSTORE};
use crate::sandbox::{self, Role};
use crate::spec::{Action, DomainSpec, Kernel};
use crate::status::{Failure, Status};
use crate::symbols::Symbols;

/// Everything the process of a domain is told.
pub struct Plan {
    /// The domain.
    pub spec: DomainSpec,
    /// Where run directories are.
    pub base: Base,
    /// Where its console is.
    pub console: ConsoleSpec,
    /// How confined it is.
    pub sandbox: sandbox::Mode,
    /// Where core files of crashes go.
    pub core_dir: PathBuf,
    /// Names for the addresses in a crash report.
    pub symbols: Option<Symbols>,
    /// Whether it waits, before its first instruction, until it is unpaused.
    pub paused: bool,
}

/// Runs the domain `plan` describes to its end and tells the foreground. `line` connects to it,
/// `terminal` is its console, `signals` are those that should end the domain, blocked in every
/// thread.
pub fn run(
    plan: &Plan,
    launcher: &dyn Launcher,
    line: Line,
    terminal: Option<UnixStream>,
    signals: SignalFd,
) -> Status {
    let Ok(sender) = line.sender() else {
        return Status::Failed;
    };
    end_with_any_thread();
    let (status, message) = match supervise(plan, launcher, line, &sender, terminal, signals) {
        Ok(exit) => (exit.status(), farewell(&plan.spec.name, &exit)),
        Err(failure) => (failure.status, Some(failure.message)),
    };
    sender.send(&Event::Finished { status, message });
    status
}

/// Makes a panic in a thread that the domain can't do without end the process: nobody would miss a
/// lost vCPU, and the domain would hang. The foreground reports it and sweeps up. A client's thread
/// is only that client's loss, and the main thread unwinds and cleans up itself.
fn end_with_any_thread() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        let thread = thread::current();
        let clients = ["main", "client", "console-client", "keyboard"];
        if !thread.name().is_some_and(|name| clients.contains(&name)) {
            std::process::exit(Status::Failed.code().into());
        }
    }));
}

/// What is said about the end of a domain, where it is not the usual one. A crash was reported
/// when it happened.
fn farewell(name: &str, exit: &DomainExit) -> Option<String> {
    match exit {
        DomainExit::Poweroff | DomainExit::Reboot | DomainExit::Crash(_) => None,
        DomainExit::Suspend => Some(format!(
            "Domain {name} suspended itself, which can't be kept; it was ended"
        )),
        DomainExit::Watchdog => Some(format!("The watchdog of domain {name} expired")),
        DomainExit::Destroyed => Some(format!("Domain {name} was destroyed")),
    }
}

fn supervise(
    plan: &Plan,
    launcher: &dyn Launcher,
    line: Line,
    sender: &Sender,
    terminal: Option<UnixStream>,
    signals: SignalFd,
) -> Result<DomainExit, Failure> {
    sandbox::choose(plan.sandbox).map_err(internal)?;
    // Sweeps up what dead domains left; what can't be read is no obstacle.
    let _ = plan.base.names();
    let rundir = plan.base.claim(&plan.spec.name)?;
    let backend = Backend::open(&plan.console, terminal, &rundir)
        .map_err(|error| Failure::new(Status::Console, error.to_string()))?;
    prepare_core_dir(plan)?;
    let shelf = open_devices(plan)?;
    confine(plan, launcher)?;

    let console = Console::new().map_err(internal)?;
    let text = backend.text().to_owned();
    let running = backend.start(&console).map_err(internal)?;
    let family = Arc::new(Family::default());
    listen(
        line,
        signals,
        family.clone(),
        plan.spec.name.clone(),
        sender,
    )?;

    let mut house = House {
        plan,
        launcher,
        sender,
        console,
        text,
        family,
        kept: Vec::new(),
        shelf,
    };
    let first = house.life(rundir)?;
    sandbox::try_enter(Role::Supervisor).map_err(internal)?;
    let result = house.live(first);
    house.finish(running);
    result
}

/// Every domain of this process, for the thread that ends them.
#[derive(Default)]
struct Family {
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    lives: Vec<Arc<Live>>,
    /// How often somebody wanted the end.
    stops: u32,
}

impl Family {
    fn lock(&self) -> std::sync::MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a domain; one that comes after the end was asked for is ended at once.
    fn join(&self, live: Arc<Live>) {
        let mut members = self.lock();
        if members.stops > 0 {
            live.destroy();
        }
        members.lives.push(live);
    }

    /// Asks the guests to end the first time, and ends them the second. True the first time.
    fn stop(&self) -> bool {
        let mut members = self.lock();
        members.stops += 1;
        let first = members.stops == 1;
        let act = if first { Live::stop } else { Live::destroy };
        members.lives.iter().for_each(|live| act(live));
        first
    }

    fn destroy(&self) {
        let mut members = self.lock();
        members.stops += 1;
        members.lives.iter().for_each(|live| live.destroy());
    }
}

/// How long a guest has to shut down when it is asked by a signal.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts the thread that waits for signals and for the foreground.
fn listen(
    mut line: Line,
    signals: SignalFd,
    family: Arc<Family>,
    name: String,
    sender: &Sender,
) -> Result<(), Failure> {
    let sender = sender.try_clone().map_err(internal)?;
    let null = OpenOptions::new()
        .write(true)
        .open("/dev/null")
        .map_err(internal)?;
    // Whoever ends a program by one signal, as timeout(1) does, must get its end.
    let stop = move |family: &Family, deadline: &mut Option<Instant>| {
        if family.stop() {
            *deadline = Some(Instant::now() + PATIENCE);
            let seconds = PATIENCE.as_secs();
            sender.send(&Event::Notice(format!(
                "Asked {name} to shut down; interrupt again to destroy it, which else happens in {seconds} seconds"
            )));
        }
    };
    let body = move || {
        sandbox::enter(Role::Control);
        let mut attached = true;
        let mut deadline: Option<Instant> = None;
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                deadline = None;
                family.destroy();
                continue;
            }
            let patience = left.map_or(PollTimeout::NONE, |left| {
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            });
            let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            if attached && !line.has_more() {
                fds.push(PollFd::new(line.as_fd(), PollFlags::POLLIN));
            }
            if !line.has_more() && poll(&mut fds, patience).is_err() {
                continue;
            }
            let ready = |at: usize| fds.get(at).and_then(PollFd::any).unwrap_or(false);
            let (signalled, told) = (ready(0), ready(1) || line.has_more());
            drop(fds);
            if signalled && matches!(signals.read_signal(), Ok(Some(_))) {
                stop(&family, &mut deadline);
            }
            if !attached || !told {
                continue;
            }
            match line.receive() {
                Some(Order::Stop) => stop(&family, &mut deadline),
                Some(Order::Detach) => {
                    attached = false;
                    // The terminal may go away now, and lines written to it would fail.
                    let _ = nix::unistd::dup2_stderr(&null);
                }
                None => {
                    attached = false;
                    family.destroy();
                }
            }
        }
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(body)
        .map_err(internal)?;
    Ok(())
}

/// Takes away all of the file system but what the domain and its restarts need.
fn confine(plan: &Plan, launcher: &dyn Launcher) -> Result<(), Failure> {
    let mut files = sandbox::Files {
        read: vec!["/proc".into()],
        write: vec![plan.base.path().to_owned()],
        devices: vec!["/dev/kvm".into(), "/dev/null".into()],
    };
    if let Kernel::File(path) = &plan.spec.kernel {
        files.read.push(path.clone());
    }
    files.read.extend(plan.spec.ramdisk.clone());
    if dumps(&plan.spec) {
        files.write.push(plan.core_dir.clone());
    }
    if let ConsoleSpec::Socket(path) = &plan.console {
        files.write.extend(path.parent().map(Path::to_owned));
    }
    let more = launcher.files();
    files.read.extend(more.read);
    files.write.extend(more.write);
    files.devices.extend(more.devices);
    sandbox::confine_files(&files).map(drop).map_err(internal)
}

/// Opens the media and networks of all devices, as long as this process can.
fn open_devices(plan: &Plan) -> Result<Shelf, Failure> {
    let shelf = Shelf::default();
    for (parcel, fds) in devices::commands::open_all(&plan.spec.devices, plan.spec.maxvcpus)? {
        shelf.add(parcel.key(), parcel.unpack(fds)?);
    }
    Ok(shelf)
}

/// Whether a core file may have to be written.
fn dumps(spec: &DomainSpec) -> bool {
    let actions = &spec.actions;
    [
        actions.on_poweroff,
        actions.on_reboot,
        actions.on_crash,
        actions.on_watchdog,
    ]
    .iter()
    .any(|action| matches!(action, Action::CoredumpDestroy | Action::CoredumpRestart))
}

fn prepare_core_dir(plan: &Plan) -> Result<(), Failure> {
    if !dumps(&plan.spec) {
        return Ok(());
    }
    std::fs::create_dir_all(&plan.core_dir).map_err(|error| {
        let message = format!(
            "Cannot create {:?} for core files: {error}; choose another with --core-dir",
            plan.core_dir
        );
        Failure::new(Status::Config, message)
    })
}

fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::new(Status::Failed, error.to_string())
}

/// What the lives of a domain have in common.
struct House<'a> {
    plan: &'a Plan,
    launcher: &'a dyn Launcher,
    sender: &'a Sender,
    console: Arc<Console>,
    text: String,
    family: Arc<Family>,
    kept: Vec<thread::JoinHandle<Life>>,
    shelf: Shelf,
}

/// A domain under one name: its run directory, and those who serve it.
struct Life {
    live: Arc<Live>,
    server: Server,
    xenstore: UnixListener,
}

impl House<'_> {
    /// Opens the sockets of a domain in `rundir`.
    fn life(&self, rundir: RunDir) -> Result<Life, Failure> {
        let spec = self.plan.spec.clone();
        let domain = serde_json::to_string_pretty(&spec).map_err(internal)?;
        rundir.write(DOMAIN, &domain)?;
        rundir.write(PID, &format!("{}\n", std::process::id()))?;
        let bind = |name| {
            let path = rundir.file(name);
            UnixListener::bind(&path).map_err(|error| {
                let message = format!(
                    "Cannot listen on {path:?}: {error}; use --run-dir with a short path on a local file system"
                );
                Failure::new(Status::Failed, message)
            })
        };
        let (xenstore, control) = (bind(XENSTORE)?, bind(CONTROL)?);
        xenstore.set_nonblocking(true).map_err(internal)?;
        let live = Live::new(spec, self.console.clone(), self.text.clone(), rundir);
        let server = Server::start(control, live.clone()).map_err(internal)?;
        self.family.join(live.clone());
        Ok(Life {
            live,
            server,
            xenstore,
        })
    }

    /// Runs the domain, and whatever follows it, and returns how the last one ended.
    fn live(&mut self, mut life: Life) -> Result<DomainExit, Failure> {
        let mut guard = Guard::default();
        let mut restarts = 0;
        loop {
            let born = Instant::now();
            let ended = self.once(&life, restarts);
            let (machine, exit) = match ended {
                Ok(ended) => ended,
                Err(failure) => {
                    end(&life, "failed");
                    self.retire(life);
                    return Err(failure);
                }
            };
            let mut next = restart::next(&self.plan.spec.actions, &exit);
            if life.live.stopping() {
                next.step = Step::End;
            }
            if next.dump {
                self.dump(&life.live);
            }
            let again = matches!(next.step, Step::Restart | Step::KeepAndRestart);
            if again && !guard.allows(&exit, born.elapsed()) {
                self.notice(format!(
                    "Domain {} failed {} times in a row within {} seconds of its start; it is not started again",
                    self.plan.spec.name,
                    restart::EARLY_RESTARTS + 1,
                    restart::EARLY.as_secs()
                ));
                next.step = Step::End;
            }
            match next.step {
                Step::End => {
                    life.live.release();
                    drop(machine);
                    end(&life, exit.word());
                    self.retire(life);
                    return Ok(exit);
                }
                Step::Restart => {
                    life.live.release();
                    drop(machine);
                    self.notice(format!("Domain {} starts again", self.plan.spec.name));
                }
                Step::Keep => {
                    self.keep(life, machine, &exit)?;
                    return Ok(exit);
                }
                Step::KeepAndRestart => {
                    self.rename(&life)?;
                    self.keep(life, machine, &exit)?;
                    life = self.life(self.plan.base.claim(&self.plan.spec.name)?)?;
                }
            }
            restarts += 1;
        }
    }

    /// Builds the machine and runs it once.
    fn once(&self, life: &Life, restarts: u32) -> Result<(Box<dyn Machine>, DomainExit), Failure> {
        let xenstore = life.xenstore.try_clone().map_err(internal)?;
        let ports = Ports {
            console: self.console.clone(),
            xenstore,
            shelf: self.shelf.clone(),
        };
        let mut machine = self.launcher.build(&self.plan.spec, ports)?;
        if self.plan.paused && restarts == 0 {
            let paused = machine.control().pause();
            paused.map_err(|error| Failure::new(Status::Failed, error.to_string()))?;
        }
        let wanted = life.live.begin(machine.control(), restarts);
        if !wanted {
            return Ok((machine, DomainExit::Destroyed));
        }
        if restarts == 0 {
            self.sender.send(&Event::Ready {
                console: self.text.clone(),
            });
        }
        let mut exit = machine
            .run()
            .map_err(|error| Failure::new(Status::Failed, error.to_string()))?;
        let stats = machine.control().stats();
        self.sender.send(&Event::Ended(Box::new(stats)));
        if let DomainExit::Crash(report) = &mut exit {
            match &self.plan.symbols {
                Some(symbols) => report.symbolise(|address| symbols.name_of(address)),
                None => {
                    let symbols = self.launcher.symbols(&self.plan.spec);
                    report.symbolise(|address| symbols.name_of(address));
                }
            }
            let name = life.live.name();
            self.sender.send(&Event::Crashed {
                name,
                report: report.clone(),
            });
        }
        Ok((machine, exit))
    }

    fn notice(&self, text: String) {
        self.sender.send(&Event::Notice(text));
    }

    /// Writes a core file of an ended domain; failing to is reported, and no reason not to go on.
    fn dump(&self, live: &Live) {
        let path = self
            .plan
            .core_dir
            .join(format!("{}-{}.core", live.name(), timestamp()));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let written = options
            .open(&path)
            .map_err(|error| error.to_string())
            .and_then(|file: File| live.dump_core(file).map_err(|error| error.to_string()));
        match written {
            Ok(_) => self.notice(format!("Core file: {}", path.display())),
            Err(error) => {
                let _ = std::fs::remove_file(&path);
                self.notice(format!("Cannot write the core file {path:?}: {error}"));
            }
        }
    }

    /// Gives an ended domain a name of its own, as xl does.
    fn rename(&self, life: &Life) -> Result<(), Failure> {
        let suffix = format!("-{}", timestamp());
        let mut stem = self.plan.spec.name.clone();
        while stem.len() + suffix.len() > crate::spec::MAX_NAME {
            stem.pop();
        }
        let mut name = stem.clone() + &suffix;
        for number in 2.. {
            if !self.plan.base.of(&name).exists() || number > 99 {
                break;
            }
            name = format!("{stem}{suffix}.{number}");
        }
        life.live.rename(&name).map_err(internal)
    }

    /// Keeps an ended domain until somebody destroys it.
    fn keep(
        &mut self,
        life: Life,
        machine: Box<dyn Machine>,
        exit: &DomainExit,
    ) -> Result<(), Failure> {
        let state = match exit {
            DomainExit::Crash(_) => RunState::Crashed,
            _ => RunState::Shutdown,
        };
        let name = life.live.name();
        // Before anybody hears of it and asks.
        life.live.keep(state, exit.word());
        self.notice(format!(
            "Domain {name} is kept for inspection until: xenner destroy {name}"
        ));
        let word = exit.word();
        let body = move || {
            life.live.await_stop();
            life.live.release();
            drop(machine);
            end(&life, word);
            life
        };
        let thread = thread::Builder::new()
            .name("kept".into())
            .spawn(body)
            .map_err(internal)?;
        self.kept.push(thread);
        Ok(())
    }

    /// Lets the clients of a domain that is gone take what they wait for.
    fn retire(&self, life: Life) {
        self.console.close();
        life.server.finish(CLIENT_TIME);
    }

    /// Waits for every kept domain and for the console.
    fn finish(self, running: Running) {
        self.console.close();
        for thread in self.kept {
            if let Ok(life) = thread.join() {
                life.server.finish(CLIENT_TIME);
            }
        }
        running.finish();
    }
}

/// How long clients may take for the last bytes of a domain that is gone.
const CLIENT_TIME: Duration = Duration::from_secs(1);

/// Removes what shows that the domain was there, then tells who waits for that.
fn end(life: &Life, reason: &str) {
    life.live.over(reason);
}

/// Now, in UTC, as `20260131T235959Z`.
fn timestamp() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (days, seconds) = (now / 86400, now % 86400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// The civil date of a day counted from 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    let leap =
        |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let (mut year, mut left) = (1970, days);
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

impl From<crate::rundir::RunDirError> for Failure {
    fn from(error: crate::rundir::RunDirError) -> Failure {
        let status = match error {
            crate::rundir::RunDirError::InUse { .. } => Status::NameInUse,
            _ => Status::Failed,
        };
        Failure::new(status, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(11016), (2000, 2, 29));
        assert_eq!(date(11017), (2000, 3, 1));
        assert_eq!(date(20818), (2026, 12, 31));
        assert_eq!(date(20819), (2027, 1, 1));
        assert_eq!(timestamp().len(), "20260131T235959Z".len());
    }
}
