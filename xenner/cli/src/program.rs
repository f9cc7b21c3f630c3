//! The program from its arguments to its exit status.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, error::ErrorKind};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pv_stats::DeviceStats;

use crate::cli::{
    Cli, Command, ConsoleArgs, DetachArgs, DumpCoreArgs, EndArgs, ListArgs, RunArgs, StatsArgs,
};
use crate::config::Given;
use crate::console::backend::ConsoleSpec;
use crate::console::relay::{Relay, Turn};
use crate::control::client::{ClientError, Connection, PATIENCE};
use crate::control::{Command as Order, Ended, Info};
use crate::crash::printable;
use crate::devices::desk::Kind;
use crate::devices::{commands, disk, keeper, nic};
use crate::domain::Plan;
use crate::dumpcore::Written;
use crate::machine::{Launcher, ShutdownRequest, Stats};
use crate::run::Foreground;
use crate::rundir::Base;
use crate::spec::{DomainSpec, Kernel};
use crate::status::{Failure, Status};
use crate::survey::survey;
use crate::symbols::Symbols;
use crate::{check, config, docs, image, metrics, run, top};

/// How long a core file may take.
const DUMP_PATIENCE: Duration = Duration::from_secs(3600);
/// How long a destroyed domain may take to be gone.
const DESTROY_PATIENCE: Duration = Duration::from_secs(60);

/// Runs the program with `arguments`, its own name first, and with machines from `launcher`.
pub fn main(arguments: impl IntoIterator<Item = OsString>, launcher: &dyn Launcher) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help that is cut short by a closed pipe is still help.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Status::Success.into(),
                _ => Status::Usage.into(),
            };
        }
    };
    match perform(cli, launcher) {
        Ok(status) => status.into(),
        Err(failure) => {
            let _ = writeln!(io::stderr(), "xenner: {}", failure.message);
            failure.status.into()
        }
    }
}

fn perform(cli: Cli, launcher: &dyn Launcher) -> Result<Status, Failure> {
    let base = || Base::find(cli.run_dir.as_deref()).map_err(Failure::from);
    match cli.command {
        Command::Run(arguments) => start(&arguments, base()?, launcher),
        Command::List(format) => list(&base()?, format.json),
        Command::Console(arguments) => console(&base()?, &arguments),
        Command::Shutdown(arguments) => shutdown(&base()?, &arguments),
        Command::Reboot(arguments) => {
            let reason = ShutdownRequest::Reboot;
            tell(&base()?, &arguments.name, Order::Shutdown { reason })
        }
        Command::Destroy(arguments) => destroy(&base()?, &arguments.name),
        Command::Pause(arguments) => tell(&base()?, &arguments.name, Order::Pause),
        Command::Unpause(arguments) => tell(&base()?, &arguments.name, Order::Unpause),
        Command::DumpCore(arguments) => dump_core(&base()?, &arguments),
        Command::Sysrq(arguments) => tell(
            &base()?,
            &arguments.name,
            Order::Sysrq { key: arguments.key },
        ),
        Command::Stats(arguments) if arguments.prometheus => prometheus(&base()?, &arguments),
        Command::Stats(arguments) => stats(&base()?, &arguments),
        Command::Top(arguments) => top::run(base()?, &arguments),
        Command::BlockAttach(arguments) => {
            commands::block_attach(&base()?, &arguments.name, &arguments.spec)
        }
        Command::BlockDetach(arguments) => detach(&base()?, Kind::Vbd, &arguments),
        Command::BlockList(arguments) => list_devices(&base()?, Kind::Vbd, &arguments),
        Command::BlockResize(arguments) => {
            let (name, device) = (&arguments.name, &arguments.device);
            print(&commands::block_resize(
                &base()?,
                name,
                device,
                arguments.size,
            )?)
        }
        Command::NetworkAttach(arguments) => {
            commands::network_attach(&base()?, &arguments.name, &arguments.spec)
        }
        Command::NetworkDetach(arguments) => detach(&base()?, Kind::Vif, &arguments),
        Command::NetworkList(arguments) => list_devices(&base()?, Kind::Vif, &arguments),
        Command::CdInsert(arguments) => {
            let (name, device) = (&arguments.name, &arguments.device);
            commands::cd_insert(&base()?, name, device, &arguments.target)
        }
        Command::CdEject(arguments) => {
            commands::cd_eject(&base()?, &arguments.name, &arguments.device)
        }
        Command::KeepNetwork => match keeper::run() {
            Ok(()) => Ok(Status::Success),
            Err(error) => Err(Failure::new(Status::Failed, error.to_string())),
        },
        Command::Check(format) => check_host(base(), format.json),
        Command::Completions(arguments) => {
            let mut script = Vec::new();
            docs::completions(arguments.shell, &mut script);
            print(&String::from_utf8_lossy(&script))
        }
        Command::Man(arguments) => {
            docs::manual().write(&arguments.dir).map_err(|error| {
                let message = format!("Cannot write the manual to {:?}: {error}", arguments.dir);
                Failure::new(Status::Failed, message)
            })?;
            Ok(Status::Success)
        }
        Command::Help(arguments) => help(arguments.topic.as_deref()),
    }
}

/// Prints to standard output. A reader that goes away early is no failure.
fn print(text: &str) -> Result<Status, Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(
            Status::Failed,
            format!("Cannot write the output: {error}"),
        )),
        _ => Ok(Status::Success),
    }
}

fn print_json(value: &impl serde::Serialize) -> Result<Status, Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new(Status::Failed, error.to_string()))?;
    print(&(text + "\n"))
}

fn help(topic: Option<&str>) -> Result<Status, Failure> {
    let mut root = Cli::command();
    root.build();
    match topic {
        None => print(&root.render_long_help().to_string()),
        Some("exit-status") => print(&Status::table()),
        Some(topic) => match root.find_subcommand_mut(topic) {
            Some(command) => print(&command.render_long_help().to_string()),
            None => Err(Failure::new(
                Status::Usage,
                format!(
                    "There is no command \"{}\"; xenner help lists them",
                    printable(topic)
                ),
            )),
        },
    }
}

fn start(arguments: &RunArgs, base: Base, launcher: &dyn Launcher) -> Result<Status, Failure> {
    let plan = plan(arguments, base)?;
    let foreground = Foreground {
        detach: arguments.detach,
        report: arguments.report.clone(),
    };
    run::run(plan, launcher, &foreground)
}

/// Puts together what the options and the configuration file say.
fn plan(arguments: &RunArgs, base: Base) -> Result<Plan, Failure> {
    let spec = resolve(arguments)?;
    image::check(&spec)?;
    warn_of_memory(&spec);
    let symbols = match &arguments.symbols {
        Some(path) => Some(
            Symbols::load(path).map_err(|error| Failure::new(Status::Config, error.to_string()))?,
        ),
        None => None,
    };
    let default = if arguments.detach {
        ConsoleSpec::None
    } else {
        ConsoleSpec::Stdio
    };
    let console = match arguments.console.clone().unwrap_or(default) {
        ConsoleSpec::Socket(path) => ConsoleSpec::Socket(absolute(&path)?),
        ConsoleSpec::File(path) => ConsoleSpec::File(absolute(&path)?),
        console => console,
    };
    let core_dir = match &arguments.core_dir {
        Some(dir) => absolute(dir)?,
        None => default_core_dir(),
    };
    Ok(Plan {
        spec,
        base,
        console,
        sandbox: arguments.sandbox,
        core_dir,
        symbols,
        paused: arguments.paused,
    })
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| {
        Failure::new(
            Status::Config,
            format!("Cannot use the path {path:?}: {error}"),
        )
    })
}

fn default_core_dir() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return "/var/lib/xenner/dump".into();
    }
    let folder = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let state =
        folder("XDG_STATE_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/state")));
    state.unwrap_or_else(|| "/tmp".into()).join("xenner/dump")
}

fn resolve(arguments: &RunArgs) -> Result<DomainSpec, Failure> {
    let mut spec = match &arguments.config {
        None if arguments.spec => read_spec()?,
        None => DomainSpec::new(format!("guest-{}", std::process::id())),
        Some(path) => {
            let given = Given {
                name: arguments.name.is_some(),
                kernel: arguments.kernel.is_some(),
            };
            let (spec, warnings) = config::load(path, &arguments.settings, given)?;
            for warning in warnings {
                eprintln!("xenner: {warning}");
            }
            spec
        }
    };
    override_with(&mut spec, arguments)?;
    spec.check()
        .map_err(|error| Failure::new(Status::Config, error.to_string()))?;
    Ok(spec)
}

/// What another program wants to run.
fn read_spec() -> Result<DomainSpec, Failure> {
    serde_json::from_reader(io::stdin().lock()).map_err(|error| {
        let message = format!("Standard input has no specification: {error}");
        Failure::new(Status::Usage, message)
    })
}

/// Applies the options.
fn override_with(spec: &mut DomainSpec, arguments: &RunArgs) -> Result<(), Failure> {
    fn set<T: Clone>(field: &mut T, option: &Option<T>) {
        if let Some(value) = option {
            *field = value.clone();
        }
    }
    set(&mut spec.name, &arguments.name);
    set(&mut spec.uuid, &arguments.uuid);
    if let Some(kernel) = &arguments.kernel {
        spec.kernel = Kernel::File(absolute(kernel)?);
    }
    if let Some(initrd) = &arguments.initrd {
        spec.ramdisk = Some(absolute(initrd)?);
    }
    if let Some(more) = &arguments.append {
        if !spec.cmdline.is_empty() {
            spec.cmdline.push(' ');
        }
        spec.cmdline.push_str(more);
    }
    if let Some(memory) = arguments.memory {
        spec.memory = memory;
        spec.maxmem = memory;
    }
    set(&mut spec.maxmem, &arguments.maxmem);
    if let Some(vcpus) = arguments.vcpus {
        spec.vcpus = vcpus;
        spec.maxvcpus = vcpus;
    }
    set(&mut spec.maxvcpus, &arguments.maxvcpus);
    for text in &arguments.disk {
        let disk = disk::parse(text, &spec.devices.vdevs());
        let disk =
            disk.map_err(|error| Failure::new(Status::Config, format!("--disk: {error}")))?;
        spec.devices.disks.push(disk);
    }
    for text in &arguments.nic {
        let card = nic::parse(text, &spec.devices.devids());
        let card = card.map_err(|error| Failure::new(Status::Config, format!("--nic: {error}")))?;
        spec.devices.nics.push(card);
    }
    set(&mut spec.actions.on_poweroff, &arguments.on_poweroff);
    set(&mut spec.actions.on_reboot, &arguments.on_reboot);
    set(&mut spec.actions.on_crash, &arguments.on_crash);
    set(&mut spec.actions.on_watchdog, &arguments.on_watchdog);
    Ok(())
}

fn warn_of_memory(spec: &DomainSpec) {
    if let Some(available) = check::available_memory()
        && spec.memory.as_mib() > available
    {
        eprintln!(
            "xenner: Warning: the domain gets {}, but this host has only {available} MiB available; it may be killed",
            spec.memory
        );
    }
}

fn connect(base: &Base, name: &str) -> Result<Connection, Failure> {
    Ok(Connection::open(base, name)?)
}

fn tell(base: &Base, name: &str, order: Order) -> Result<Status, Failure> {
    connect(base, name)?.tell(order)?;
    Ok(Status::Success)
}

fn list(base: &Base, json: bool) -> Result<Status, Failure> {
    let mut infos = Vec::new();
    for name in base.names()? {
        let mut connection = match Connection::open(base, &name) {
            Ok(connection) => connection,
            // It ended, or has only just begun.
            Err(ClientError::NoSuchDomain { .. }) => continue,
            Err(error) => {
                eprintln!("xenner: {error}");
                continue;
            }
        };
        match connection.call::<Info>(Order::Info, &[], Some(Duration::from_secs(2))) {
            Ok(info) => infos.push(info),
            Err(error) => eprintln!("xenner: {error}"),
        }
    }
    if json {
        return print_json(&infos);
    }
    let width = infos
        .iter()
        .map(|info| info.name.chars().count())
        .max()
        .unwrap_or(0)
        .max(24);
    let mut text = format!(
        "{:<width$} {:>7} {:>6} {:>5} {:<6} {:>9} {:>9}\n",
        "Name", "PID", "Mem", "VCPUs", "State", "Time(s)", "Uptime"
    );
    for info in &infos {
        text.push_str(&format!(
            "{:<width$} {:>7} {:>6} {:>5} {:<6} {:>9.1} {:>9}\n",
            printable(&info.name),
            info.pid,
            info.memory_mib,
            info.vcpus,
            info.state.letters(),
            info.cpu_time_ns as f64 / 1e9,
            duration(info.uptime),
        ));
    }
    print(&text)
}

/// Seconds as `1d02:03:04`, without leading zero parts.
fn duration(seconds: u64) -> String {
    let (days, hours) = (seconds / 86400, seconds / 3600 % 24);
    let clock = format!("{}:{:02}", seconds / 60 % 60, seconds % 60);
    match (days, hours) {
        (0, 0) => clock,
        (0, _) => format!("{hours}:{clock:0>5}"),
        _ => format!("{days}d{hours:02}:{clock:0>5}"),
    }
}

fn prometheus(base: &Base, arguments: &StatsArgs) -> Result<Status, Failure> {
    let Some(name) = &arguments.name else {
        return prometheus_of_all(base);
    };
    let mut connection = connect(base, name)?;
    let info: Info = connection.call(Order::Info, &[], Some(PATIENCE))?;
    let stats: Stats = connection.call(Order::Stats, &[], Some(PATIENCE))?;
    print(&metrics::text([(&info, &stats)]))
}

/// A domain that does not answer is named on standard error, and the others are told of.
fn prometheus_of_all(base: &Base) -> Result<Status, Failure> {
    let seen = survey(base)?;
    for trouble in seen.iter().filter_map(|seen| seen.trouble.as_ref()) {
        eprintln!("xenner: {trouble}");
    }
    let told = seen
        .iter()
        .filter_map(|seen| Some((seen.info.as_ref()?, seen.stats.as_ref()?)));
    print(&metrics::text(told))
}

fn stats(base: &Base, arguments: &StatsArgs) -> Result<Status, Failure> {
    let name = arguments.name.as_deref().unwrap_or_default();
    let stats: Stats = connect(base, name)?.call(Order::Stats, &[], Some(PATIENCE))?;
    if arguments.json {
        return print_json(&stats);
    }
    let mut lines = vec![
        ("state".to_owned(), stats.state.letters().to_owned()),
        ("memory_pages".to_owned(), stats.memory_pages.to_string()),
        ("max_pages".to_owned(), stats.max_pages.to_string()),
    ];
    for (index, vcpu) in stats.vcpus.iter().enumerate() {
        lines.push((format!("vcpu{index}.online"), vcpu.online.to_string()));
        lines.push((
            format!("vcpu{index}.cpu_time_ns"),
            vcpu.cpu_time_ns.to_string(),
        ));
        lines.push((format!("vcpu{index}.exits"), vcpu.exits.to_string()));
    }
    lines.extend(
        stats
            .counters
            .iter()
            .map(|(name, value)| (printable(name), value.to_string())),
    );
    lines.extend(stats.devices.iter().flat_map(device_lines));
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let text: String = lines
        .iter()
        .map(|(name, value)| format!("{name:<width$}  {value}\n"))
        .collect();
    print(&text)
}

/// A device's counters as `vbd.xvda.queue0.read_requests`, latencies as quantiles.
fn device_lines(device: &DeviceStats) -> Vec<(String, String)> {
    let own = printable(&format!("{}.{}", device.kind, device.name));
    let mut lines = vec![(format!("{own}.state"), device.state.clone())];
    for (index, queue) in device.queues.iter().enumerate() {
        let numbers = queue.counters.iter().chain(&queue.gauges);
        for (name, value) in numbers {
            lines.push((format!("{own}.queue{index}.{name}"), value.to_string()));
        }
        for (name, histogram) in &queue.histograms {
            for (word, q) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
                let value = histogram.quantile(q);
                let value = value.map_or("-".to_owned(), |value| value.to_string());
                lines.push((format!("{own}.queue{index}.{name}.{word}"), value));
            }
        }
    }
    lines
}

fn detach(base: &Base, kind: Kind, arguments: &DetachArgs) -> Result<Status, Failure> {
    let DetachArgs {
        name,
        device,
        force,
    } = arguments;
    commands::detach(base, name, kind, device, *force)
}

fn list_devices(base: &Base, kind: Kind, arguments: &ListArgs) -> Result<Status, Failure> {
    let devices = commands::list(base, &arguments.name, kind)?;
    if arguments.json {
        return print_json(&devices);
    }
    print(&match kind {
        Kind::Vbd => commands::block_table(&devices),
        Kind::Vif => commands::network_table(&devices),
    })
}

fn shutdown(base: &Base, arguments: &EndArgs) -> Result<Status, Failure> {
    let mut connection = connect(base, &arguments.name)?;
    connection.tell(Order::Shutdown {
        reason: ShutdownRequest::Poweroff,
    })?;
    if arguments.wait {
        let patience = arguments
            .timeout
            .map(|seconds| Duration::from_secs(seconds.max(1)));
        await_end(&mut connection, &arguments.name, patience)?;
    }
    Ok(Status::Success)
}

fn destroy(base: &Base, name: &str) -> Result<Status, Failure> {
    let mut connection = connect(base, name)?;
    connection.tell(Order::Destroy)?;
    await_end(&mut connection, name, Some(DESTROY_PATIENCE))?;
    connection.gone(DESTROY_PATIENCE)?;
    Ok(Status::Success)
}

fn await_end(
    connection: &mut Connection,
    name: &str,
    patience: Option<Duration>,
) -> Result<(), Failure> {
    match connection.call::<Ended>(Order::Wait, &[], patience) {
        Ok(_) => Ok(()),
        Err(ClientError::Silent { source, .. }) if source.kind() == io::ErrorKind::TimedOut => {
            let seconds = patience.map_or(0, |patience| patience.as_secs());
            let message = format!(
                "Domain \"{name}\" is still there after {seconds} seconds; end it with: xenner destroy {name}"
            );
            Err(Failure::new(Status::Control, message))
        }
        // The process went away without a word: gone is gone.
        Err(ClientError::Silent { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn dump_core(base: &Base, arguments: &DumpCoreArgs) -> Result<Status, Failure> {
    let mut connection = connect(base, &arguments.name)?;
    let path = &arguments.file;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(path).map_err(|error| {
        Failure::new(
            Status::Failed,
            format!("Cannot write the core file {path:?}: {error}"),
        )
    })?;
    match connection.call::<Written>(Order::DumpCore, &[file.into()], Some(DUMP_PATIENCE)) {
        Ok(written) => {
            let mib = written.pages / 256;
            print(&format!(
                "{mib} MiB of memory, {} pages all zero\n",
                written.holes
            ))
        }
        Err(error) => {
            // Half a core file misleads.
            let _ = std::fs::remove_file(path);
            Err(error.into())
        }
    }
}

fn console(base: &Base, arguments: &ConsoleArgs) -> Result<Status, Failure> {
    let failed = |error: io::Error| {
        Failure::new(Status::Console, format!("Cannot use the terminal: {error}"))
    };
    let signals = console_signals().map_err(|errno| failed(errno.into()))?;
    let connection = connect(base, &arguments.name)?;
    let (attached, early, stream) = connection.attach(!arguments.watch)?;
    let mut relay = Relay::new(Some(stream.into())).map_err(failed)?;
    if !arguments.watch && !attached.keyboard {
        relay.say("xenner: Somebody else has the keyboard; this console only shows");
    }
    if print(&String::from_utf8_lossy(&early)).is_err() {
        return Ok(Status::Success);
    }
    loop {
        let watched: [BorrowedFd<'_>; 1] = [signals.as_fd()];
        match relay.turn(&watched).map_err(failed)? {
            Turn::Moved => {}
            Turn::Left | Turn::Closed | Turn::Lost => break,
            Turn::Watched(_) => match signals.read_signal() {
                Ok(Some(info)) if info.ssi_signo == Signal::SIGTSTP as u32 => {
                    relay.stop_process().map_err(failed)?;
                }
                Ok(Some(_)) => break,
                _ => {}
            },
        }
    }
    drop(relay);
    eprintln!();
    Ok(Status::Success)
}

/// Signals end the console in order, so that the terminal is restored.
fn console_signals() -> nix::Result<SignalFd> {
    use Signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
    let set: SigSet = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP]
        .into_iter()
        .collect();
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

fn check_host(base: Result<Base, Failure>, json: bool) -> Result<Status, Failure> {
    let run_dir = base
        .map(|base| base.path().display().to_string())
        .map_err(|failure| failure.message);
    let verdict = check::judge(&check::Host::look(run_dir));
    if json {
        print_json(&verdict)?;
    } else {
        print(&verdict.text())?;
    }
    Ok(if verdict.usable {
        Status::Success
    } else {
        Status::Host
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations() {
        assert_eq!(duration(5), "0:05");
        assert_eq!(duration(3 * 60 + 4), "3:04");
        assert_eq!(duration(2 * 3600 + 3 * 60 + 4), "2:03:04");
        assert_eq!(duration(86400 + 60), "1d00:01:00");
    }
}
