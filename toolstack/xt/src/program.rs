//! The program from its arguments to its exit status.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, error::ErrorKind};
use xt_host::Host;

use crate::cli::{Cli, Command};
use crate::output::print;
use crate::status::{Failure, Status};
use crate::verb::{console, create, device, end, list, misc, sched, top, vcpu};
use crate::{choose, docs, supervise, verbs};

/// Options of the program itself that take a value in the next argument.
const WITH_VALUE: [&str; 2] = ["--host", "--run-dir"];

/// Runs the program with `arguments`, its own name first.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Err(failure) = expand(&mut arguments) {
        return fail(&failure, false);
    }
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help that is cut short by a closed pipe is still help.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Status::Success.into(),
                // As xl.
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Status::Failed.into(),
                _ => Status::Usage.into(),
            };
        }
    };
    let timestamps = cli.timestamps;
    match perform(cli) {
        Ok(status) => status.into(),
        Err(failure) => fail(&failure, timestamps),
    }
}

fn fail(failure: &Failure, timestamps: bool) -> ExitCode {
    let when = match timestamps {
        true => format!("{} ", misc::now()),
        false => String::new(),
    };
    for line in failure.message.lines() {
        let _ = writeln!(io::stderr(), "{when}xt: {line}");
    }
    failure.status.into()
}

/// Replaces the beginning of a command's name by the name.
fn expand(arguments: &mut [OsString]) -> Result<(), Failure> {
    let mut place = 1;
    while let Some(argument) = arguments.get(place) {
        let text = argument.to_string_lossy();
        if WITH_VALUE.contains(&&*text) {
            place += 2;
        } else if text.starts_with('-') {
            place += 1;
        } else {
            let name = verbs::resolve(&text)?;
            arguments[place] = name.into();
            return Ok(());
        }
    }
    Ok(())
}

fn perform(cli: Cli) -> Result<Status, Failure> {
    let wanted = cli.host.map(Into::into);
    let open = || {
        let host = choose::open(wanted, cli.run_dir.as_deref())?;
        if cli.verbose > 0 {
            eprintln!("xt: Domains of this host run on {}", host.kind());
        }
        Ok(host)
    };
    match &cli.command {
        Command::Completions(arguments) => {
            let mut script = Vec::new();
            docs::completions(arguments.shell, &mut script);
            print(&String::from_utf8_lossy(&script))
        }
        Command::Man(arguments) => {
            docs::manual().write(&arguments.dir).map_err(|error| {
                let dir = &arguments.dir;
                Failure::plain(format!("Cannot write the manual to {dir:?}: {error}"))
            })?;
            Ok(Status::Success)
        }
        Command::Help(arguments) => help(arguments.topic.as_deref()),
        Command::Create(arguments) => create::create(&cli, arguments, &open),
        command => on(&*open()?, command),
    }
}

/// The commands that need nothing but the host.
fn on(host: &dyn Host, command: &Command) -> Result<Status, Failure> {
    match command {
        Command::ConfigUpdate(arguments) => create::config_update(host, arguments),
        Command::List(arguments) => list::list(host, arguments),
        Command::Destroy(arguments) => end::destroy(host, arguments),
        Command::Shutdown(arguments) => end::shutdown(host, arguments),
        Command::Reboot(arguments) => end::reboot(host, arguments),
        Command::Pause(arguments) => misc::pause(host, &arguments.domain),
        Command::Unpause(arguments) => misc::unpause(host, &arguments.domain),
        Command::Console(arguments) => console::console(host, arguments),
        Command::DumpCore(arguments) => misc::dump_core(host, arguments),
        Command::CdInsert(arguments) => device::cd_insert(host, arguments),
        Command::CdEject(arguments) => device::cd_eject(host, arguments),
        Command::MemMax(arguments) => misc::mem_max(host, arguments),
        Command::MemSet(arguments) => misc::mem_set(host, arguments),
        Command::VcpuList(arguments) => vcpu::list(host, arguments),
        Command::VcpuPin(arguments) => vcpu::pin(host, arguments),
        Command::VcpuSet(arguments) => vcpu::set(host, arguments),
        Command::VmList(arguments) => list::vm_list(host, arguments.json),
        Command::Info(arguments) => list::info(host, arguments),
        Command::SchedCredit2(arguments) => sched::credit2(host, arguments),
        Command::Domid(arguments) => list::domid(host, arguments),
        Command::Domname(arguments) => list::domname(host, arguments),
        Command::Rename(arguments) => misc::rename(host, arguments),
        Command::Trigger(arguments) => misc::trigger(host, arguments),
        Command::Sysrq(arguments) => misc::sysrq(host, arguments),
        Command::DebugKeys(arguments) => misc::debug_keys(host, arguments),
        Command::Dmesg(arguments) => misc::dmesg(host, arguments),
        Command::Top(arguments) => top::top(host, arguments),
        Command::NetworkAttach(arguments) => device::network_attach(host, arguments),
        Command::NetworkList(arguments) => device::network_list(host, arguments),
        Command::NetworkDetach(arguments) => device::network_detach(host, arguments),
        Command::ChannelList(arguments) => device::channel_list(host, arguments),
        Command::BlockAttach(arguments) => device::block_attach(host, arguments),
        Command::BlockList(arguments) => device::block_list(host, arguments),
        Command::BlockDetach(arguments) => device::block_detach(host, arguments),
        Command::Uptime(arguments) => list::uptime(host, arguments),
        Command::Supervise(arguments) => supervise::command(host, arguments),
        Command::Create(_) | Command::Completions(_) | Command::Man(_) | Command::Help(_) => {
            Ok(Status::Success)
        }
    }
}

fn help(topic: Option<&str>) -> Result<Status, Failure> {
    let mut root = Cli::command();
    root.build();
    match topic {
        None => print(&root.render_long_help().to_string()),
        Some("exit-status") => print(&Status::table()),
        Some(topic) => {
            let name = verbs::resolve(topic)?;
            match root.find_subcommand_mut(&name) {
                Some(command) => print(&command.render_long_help().to_string()),
                None => Err(Failure::plain(format!("There is no command {name:?}"))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn prefixes_are_expanded_wherever_the_command_is() {
        let expanded = |words: &[&str]| {
            let mut words: Vec<OsString> = words.iter().map(OsString::from).collect();
            expand(&mut words).unwrap();
            words.join(" ".as_ref()).into_string().unwrap()
        };
        assert_eq!(expanded(&["xt", "li", "-l"]), "xt list -l");
        assert_eq!(
            expanded(&["xt", "-v", "--host", "kvm", "shutd", "s"]),
            "xt -v --host kvm shutdown s"
        );
        assert_eq!(expanded(&["xt"]), "xt");
    }

    #[test]
    fn xls_command_lines_are_taken() {
        for line in [
            "create web.cfg",
            "create -c -p -q -n -f web.cfg memory=64",
            "create --defconfig=web.cfg --dryrun --quiet",
            "-vvv -N create web.cfg",
            "-vfNtT list",
            "list -v -Z -c -n web",
            "list --long --verbose",
            "destroy -f web",
            "shutdown -a -w",
            "shutdown -F web",
            "reboot web",
            "console -t pv -n 0 web",
            "sysrq web h",
            "trigger web s3resume 1",
            "vcpu-pin web all 0-3,^1 -",
            "vcpu-pin -f web 0 - 2",
            "vcpu-set -i web 3",
            "sched-credit2 -d web -w 512 -c 50",
            "sched-credit2 -s -p Pool-0 -r 500",
            "block-attach web phy:/dev/vg/x,xvdb,w",
            "block-attach web format=raw target=/x vdev=xvdb",
            "block-detach web xvdb --force",
            "network-attach web bridge=br0 mac=00:16:3e:01:02:03",
            "network-detach web 0",
            "block-list web other",
            "channel-list web",
            "cd-insert web hdc phy:/x.iso",
            "cd-eject web hdc",
            "uptime -s web",
            "dmesg -c",
            "debug-keys h",
            "dump-core web /x",
            "config-update web web.cfg memory=1",
            "mem-set web 1g",
            "info -n",
            "domid web",
            "domname 3",
            "rename a b",
            "vm-list",
        ] {
            let words = std::iter::once("xt").chain(line.split(' '));
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
    }
}
