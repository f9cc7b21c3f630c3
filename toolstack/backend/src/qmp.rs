//! The monitor's protocol (QMP), as much of it as those ask for who know a qdisk's guest by it:
//! `libxl` when the guest starts, and `libxenstat`, which is to say `xentop`, for counters.
//!
//! A conversation is JSON objects: a greeting, `qmp_capabilities`, then commands. Ours end with CR LF
//! for which `libxl` looks; theirs need not end with anything.

use std::io::{self, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Longest silence between two commands of a conversation.
const PATIENCE: Duration = Duration::from_secs(60);

/// Counters this old are as good as new within one conversation.
const FRESH: Duration = Duration::from_secs(1);

/// A disk as monitors see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockDevice {
    /// A name that no other disk of the guest has.
    pub name: String,
    /// The path of what it is kept in, as in the node `params` behind the format.
    pub file: String,
    /// Reads answered.
    pub read_operations: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Writes answered.
    pub write_operations: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Flushes answered.
    pub flush_operations: u64,
}

/// Tells the guest's disks as they are now.
pub type Disks = Arc<dyn Fn() -> Vec<BlockDevice> + Send + Sync>;

/// A socket that monitors connect to; removed when dropped.
#[derive(Debug)]
pub struct Monitor(PathBuf);

impl Monitor {
    /// Listens at `path` from now on, in a thread; what a former process left there is replaced.
    ///
    /// # Errors
    /// The path cannot be had.
    pub fn listen(path: &Path, disks: Disks) -> Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("Cannot replace {}", path.display()));
            }
            _ => {}
        }
        let listener = UnixListener::bind(path)
            .with_context(|| format!("Cannot listen at {}", path.display()))?;
        // One conversation at a time, as QEMU has them.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let spoken = stream.and_then(|stream| converse(&stream, &disks));
                if let Err(error) = spoken {
                    tracing::debug!("A monitor's conversation broke off: {error}");
                }
            }
        });
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn converse(stream: &UnixStream, disks: &Disks) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut snapshot = Snapshot::take(disks);
    // The interface spoken is QEMU's of this version.
    let version =
        json!({ "qemu": { "major": 7, "minor": 2, "micro": 0 }, "package": "xt-backend" });
    say(
        stream,
        &json!({ "QMP": { "version": version, "capabilities": [] } }),
    )?;
    let commands = serde_json::Deserializer::from_reader(stream).into_iter::<Value>();
    for command in commands {
        say(stream, &answer(&command?, &mut snapshot))?;
    }
    Ok(())
}

/// The disks as they were not long ago. `libxenstat` takes no answer for one after 10 ms, so they are
/// asked for as soon as it connects, while it still waits for the greeting.
struct Snapshot {
    disks: Disks,
    taken: Instant,
    told: Receiver<Vec<BlockDevice>>,
    known: Vec<BlockDevice>,
}

impl Snapshot {
    fn take(disks: &Disks) -> Self {
        let (tell, told) = mpsc::channel();
        let ask = disks.clone();
        thread::spawn(move || tell.send(ask()));
        Self {
            disks: disks.clone(),
            taken: Instant::now(),
            told,
            known: Vec::new(),
        }
    }

    fn disks(&mut self) -> &[BlockDevice] {
        if self.taken.elapsed() > FRESH {
            *self = Self::take(&self.disks);
        }
        // Once; the sender is gone then.
        if let Ok(disks) = self.told.recv() {
            self.known = disks;
        }
        &self.known
    }
}

fn say(mut stream: &UnixStream, what: &Value) -> io::Result<()> {
    let mut text = what.to_string();
    text.push_str("\r\n");
    stream.write_all(text.as_bytes())
}

fn answer(command: &Value, snapshot: &mut Snapshot) -> Value {
    let name = command["execute"].as_str().unwrap_or_default();
    let result = match name {
        "qmp_capabilities" => Ok(json!({})),
        "query-status" => Ok(json!({ "status": "running", "running": true, "singlestep": false })),
        // No serial ports, no display.
        "query-chardev" => Ok(json!([])),
        "query-vnc" => Ok(json!({ "enabled": false })),
        "query-block" => Ok(snapshot.disks().iter().map(block).collect()),
        "query-blockstats" => Ok(snapshot.disks().iter().map(block_stats).collect()),
        _ => Err(json!({
            "class": "CommandNotFound",
            "desc": format!("The command {name} has not been found"),
        })),
    };
    let mut reply = match result {
        Ok(value) => json!({ "return": value }),
        Err(error) => json!({ "error": error }),
    };
    if let Some(id) = command.get("id") {
        reply["id"] = id.clone();
    }
    reply
}

fn block(disk: &BlockDevice) -> Value {
    json!({
        "device": disk.name,
        "type": "unknown",
        "locked": false,
        "removable": false,
        "inserted": { "file": disk.file },
    })
}

fn block_stats(disk: &BlockDevice) -> Value {
    json!({
        "device": disk.name,
        "stats": {
            "rd_operations": disk.read_operations,
            "rd_bytes": disk.read_bytes,
            "wr_operations": disk.write_operations,
            "wr_bytes": disk.write_bytes,
            "flush_operations": disk.flush_operations,
        },
    })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    /// What a monitor hears.
    fn hear(reader: &mut BufReader<UnixStream>) -> Value {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.ends_with("\r\n"), "{line:?}");
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn libxl_and_xentop_are_answered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qmp");
        std::fs::write(&path, "left by another process").unwrap();
        let disk = BlockDevice {
            name: "xvda".into(),
            file: "/disks/web.img".into(),
            read_bytes: 8192,
            write_operations: 3,
            ..Default::default()
        };
        let disks: Disks = Arc::new(move || vec![disk.clone()]);
        let monitor = Monitor::listen(&path, disks).unwrap();
        let mut stream = UnixStream::connect(&path).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        assert_eq!(hear(&mut reader)["QMP"]["version"]["qemu"]["major"], 7);
        stream
            .write_all(b"{\"execute\":\"qmp_capabilities\",\"id\":2020372736}\r\n")
            .unwrap();
        let reply = hear(&mut reader);
        assert_eq!(reply, json!({ "return": {}, "id": 2_020_372_736 }));
        // As libxenstat does it: nothing behind the object, no identifier.
        stream
            .write_all(b"{ \"execute\": \"query-block\" }")
            .unwrap();
        assert_eq!(
            hear(&mut reader)["return"][0]["inserted"]["file"],
            "/disks/web.img"
        );
        stream
            .write_all(b"{ \"execute\": \"query-blockstats\" }")
            .unwrap();
        let stats = &hear(&mut reader)["return"][0];
        assert_eq!(
            (&stats["device"], &stats["stats"]["rd_bytes"]),
            (&json!("xvda"), &json!(8192))
        );
        stream
            .write_all(b"{\"execute\":\"quit\",\"id\":1}")
            .unwrap();
        let refused = hear(&mut reader);
        assert_eq!(
            (&refused["error"]["class"], &refused["id"]),
            (&json!("CommandNotFound"), &json!(1))
        );
        drop(monitor);
        assert!(!path.exists());
    }
}
