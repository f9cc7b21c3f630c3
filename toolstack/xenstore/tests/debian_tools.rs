//! Debian's own xenstore tools against this server: the C library's view of
//! the protocol. Needs apt to fetch them; says "skipped" without.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use xt_xenstore::client::Client;
use xt_xenstore::server::Server;
use xt_xenstore::service::{Handle, spawn};
use xt_xenstore::unix::UnixServer;

const PACKAGES: [&str; 3] = ["xenstore-utils", "libxenstore4", "libxentoolcore1"];

/// Runs a command, or says why it cannot.
fn run(command: &mut Command) -> Result<Output, String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(output),
        false => Err(format!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

/// The directory the packages are unpacked in, fetched on first use.
fn tools() -> Result<&'static Path, String> {
    static TOOLS: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    TOOLS.get_or_init(fetch).as_deref().map_err(Clone::clone)
}

fn fetch() -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian-xenstore");
    if root.exists() {
        return Ok(root);
    }
    let text = |error: std::io::Error| error.to_string();
    let draft = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(text)?;
    run(Command::new("apt-get")
        .arg("download")
        .args(PACKAGES)
        .current_dir(&draft))?;
    let unpacked = draft.path().join("unpacked");
    for entry in fs::read_dir(&draft).map_err(text)? {
        let package = entry.map_err(text)?.path();
        if package
            .extension()
            .is_some_and(|extension| extension == "deb")
        {
            run(Command::new("dpkg").arg("-x").arg(&package).arg(&unpacked))?;
        }
    }
    // Another test run may have been quicker.
    match fs::rename(&unpacked, &root) {
        Err(error) if !root.exists() => Err(text(error)),
        _ => Ok(root),
    }
}

/// A running server and the tools to ask it.
struct Rig {
    tools: &'static Path,
    dir: tempfile::TempDir,
    _service: Handle,
}

impl Rig {
    fn new() -> Option<Rig> {
        let tools = tools()
            .inspect_err(|why| eprintln!("skipped: {why}"))
            .ok()?;
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixServer::bind(&dir.path().join("socket")).unwrap();
        let _service = spawn(Server::default(), socket).unwrap();
        Some(Rig {
            tools,
            dir,
            _service,
        })
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    fn command(&self, tool: &str, args: &[&str]) -> Command {
        let mut command = Command::new(self.tools.join("usr/bin").join(tool));
        let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
        let libraries = self.tools.join("usr/lib").join(triplet);
        command
            .args(args)
            .env("LD_LIBRARY_PATH", libraries)
            .env("XENSTORED_PATH", self.socket());
        command
    }

    /// Standard output, or standard error if the tool failed.
    fn ask(&self, tool: &str, args: &[&str]) -> Result<String, String> {
        let output = self.command(tool, args).output().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).unwrap()),
            false => Err(String::from_utf8(output.stderr).unwrap()),
        }
    }

    fn ok(&self, tool: &str, args: &[&str]) -> String {
        self.ask(tool, args).unwrap()
    }
}

#[test]
fn values_are_written_read_listed_and_removed() {
    let Some(rig) = Rig::new() else { return };
    rig.ok("xenstore-write", &["/a/b", "one", "/a/c", "two words"]);
    assert_eq!(
        rig.ok("xenstore-read", &["/a/b", "/a/c"]),
        "one\ntwo words\n"
    );
    assert_eq!(rig.ok("xenstore-list", &["/a"]), "b\nc\n");
    rig.ok("xenstore-exists", &["/a/b"]);
    rig.ok("xenstore-rm", &["/a/b"]);
    assert!(rig.ask("xenstore-exists", &["/a/b"]).is_err());
    let error = rig.ask("xenstore-read", &["/a/b"]).unwrap_err();
    assert_eq!(error, "xenstore-read: couldn't read path /a/b\n");
    // -t tidies: the emptied parent goes as well.
    rig.ok("xenstore-rm", &["-t", "/a/c"]);
    assert!(rig.ask("xenstore-exists", &["/a"]).is_err());
}

#[test]
fn the_tree_is_shown_with_its_permissions() {
    let Some(rig) = Rig::new() else { return };
    rig.ok("xenstore-write", &["/local/domain/3/name", "guest"]);
    rig.ok(
        "xenstore-chmod",
        &["/local/domain/3/name", "n0", "r3", "b4"],
    );
    let expected = "/tool = \"\"   (n0)\n\
                    /tool/xenstored = \"\"   (n0)\n\
                    /local = \"\"   (n0)\n\
                    /local/domain = \"\"   (n0)\n\
                    /local/domain/3 = \"\"   (n0)\n\
                    /local/domain/3/name = \"guest\"   (n0,r3,b4)\n";
    assert_eq!(rig.ok("xenstore-ls", &["-pf"]), expected);
    rig.ok("xenstore-chmod", &["-r", "/local", "b7"]);
    let expected = "/local/domain/3/name = \"guest\"   (b7)\n";
    assert_eq!(rig.ok("xenstore-ls", &["-pf", "/local/domain/3"]), expected);
}

#[test]
fn a_directory_larger_than_a_message_is_listed_whole() {
    let Some(rig) = Rig::new() else { return };
    let names: Vec<String> = (0..400)
        .map(|i| format!("a-node-with-a-long-name-{i}"))
        .collect();
    let paths: Vec<String> = names.iter().map(|name| format!("/big/{name}")).collect();
    let args: Vec<&str> = paths.iter().flat_map(|path| [path.as_str(), "v"]).collect();
    rig.ok("xenstore-write", &args);
    assert_eq!(
        rig.ok("xenstore-list", &["/big"])
            .lines()
            .collect::<Vec<_>>(),
        names
    );
    let mut client = Client::connect(&rig.socket()).unwrap();
    assert_eq!(client.directory("/big").unwrap(), names);
}

#[test]
fn watches_report_as_changes_happen() {
    let Some(rig) = Rig::new() else { return };
    rig.ok("xenstore-write", &["/w/x", "0"]);
    let mut watch = rig
        .command("xenstore-watch", &["-n", "4", "/w", "@releaseDomain"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "/w");
    assert_eq!(lines.next().unwrap(), "@releaseDomain");
    rig.ok("xenstore-write", &["/w/x", "1"]);
    assert_eq!(lines.next().unwrap(), "/w/x");
    rig.ok("xenstore-rm", &["/w"]);
    assert_eq!(lines.next().unwrap(), "/w");
    assert!(watch.wait().unwrap().success());
}

#[test]
fn both_clients_see_the_same_store() {
    let Some(rig) = Rig::new() else { return };
    let mut client = Client::connect(&rig.socket()).unwrap();
    client
        .transaction(|tx| {
            tx.write("/from/rust", "r")?;
            tx.mkdir("/from/dir")
        })
        .unwrap();
    assert_eq!(
        rig.ok("xenstore-ls", &["/from"]),
        "rust = \"r\"\ndir = \"\"\n"
    );
    rig.ok("xenstore-write", &["-s", "/from/c", "c"]);
    assert_eq!(client.read_text("/from/c").unwrap().as_deref(), Some("c"));
}
