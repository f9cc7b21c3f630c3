//! The control socket: how commands reach a running domain.
//!
//! A request is one line of JSON, `{"version":1,"command":"pause"}`; the answer is one line,
//! `{"version":1,"result":…}` or `{"version":1,"error":"…"}`. After a successful `console` request
//! the connection carries raw console bytes in both directions. A first line of HTTP instead gets the
//! domain's metrics, [`http`].

pub mod client;
pub mod http;
pub mod server;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::devices::desk::Kind;
use crate::devices::parcel::{DiskParcel, Parcel};
use crate::machine::{RunState, ShutdownRequest};

/// The version of the protocol.
pub const VERSION: u32 = 1;
/// The most descriptors that come with a request: files of an image, or queues of a card.
pub const MAX_FDS: usize = 64;
/// The longest request or answer line, in bytes.
pub const MAX_LINE: usize = 16 << 20;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// What to do.
    #[serde(flatten)]
    pub command: Command,
}

/// What a domain can be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Command {
    /// Answer with an [`Info`].
    Info,
    /// Answer with the domain's [`crate::machine::Stats`].
    Stats,
    /// Stop the vCPUs.
    Pause,
    /// Let them run again.
    Unpause,
    /// Ask the guest to shut down.
    Shutdown {
        /// How.
        reason: ShutdownRequest,
    },
    /// End the domain now.
    Destroy,
    /// Send a SysRq key.
    Sysrq {
        /// The key.
        key: char,
    },
    /// Write a core file to the descriptor that accompanies the request.
    DumpCore,
    /// Attach to the console. The answer is an [`Attached`].
    Console {
        /// Whether to ask for the keyboard too.
        keyboard: bool,
    },
    /// Answer with a [`crate::devices::desk::DeviceInfo`] for each device.
    Devices,
    /// Attach a device; its descriptors accompany the request.
    Attach {
        /// The device.
        device: Parcel,
    },
    /// Detach a device.
    Detach {
        /// Its kind.
        kind: Kind,
        /// Its name, number or address.
        device: String,
        /// Whatever the guest does with it.
        force: bool,
    },
    /// Make a disk larger, or look at its size again. The answer is a
    /// [`crate::devices::desk::DeviceInfo`].
    Resize {
        /// Its name or number.
        device: String,
        /// The size to be.
        bytes: Option<u64>,
    },
    /// Put a medium into a drive, its descriptors accompanying the request, or take it out.
    Insert {
        /// The drive's name or number.
        device: String,
        /// The medium.
        medium: Option<DiskParcel>,
    },
    /// Give the domain another name.
    Rename {
        /// The name.
        name: String,
    },
    /// Answer with an [`Ended`] once the domain is gone and its name free.
    Wait,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// [`VERSION`].
    pub version: u32,
    /// Success or failure.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// What was asked for.
    Result(serde_json::Value),
    /// Why not.
    Error(String),
}

/// A running domain in a few words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Its name.
    pub name: String,
    /// Its number on this host. The guest's own is another.
    #[serde(default)]
    pub id: u16,
    /// Its UUID.
    pub uuid: Uuid,
    /// The process that runs it.
    pub pid: u32,
    /// What it does.
    pub state: RunState,
    /// Memory it has, in MiB.
    pub memory_mib: u64,
    /// The most it may have, in MiB.
    pub maxmem_mib: u64,
    /// vCPUs it has up.
    pub vcpus: u32,
    /// vCPU time used, in nanoseconds.
    pub cpu_time_ns: u64,
    /// When it was last started, in seconds since 1970.
    pub started: u64,
    /// How long ago that is, in seconds.
    pub uptime: u64,
    /// How often it was restarted.
    pub restarts: u32,
    /// The kernel.
    pub kernel: String,
    /// The console.
    pub console: String,
}

/// The answer to [`Command::Console`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// False if somebody else has the keyboard.
    pub keyboard: bool,
}

/// The answer to [`Command::Wait`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How the domain ended, in a word.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_look_as_documented() {
        let json = |command| {
            serde_json::to_string(&Request {
                version: VERSION,
                command,
            })
            .unwrap()
        };
        assert_eq!(json(Command::Pause), r#"{"version":1,"command":"pause"}"#);
        assert_eq!(
            json(Command::Shutdown {
                reason: ShutdownRequest::Reboot
            }),
            r#"{"version":1,"command":"shutdown","reason":"reboot"}"#
        );
        assert_eq!(
            json(Command::DumpCore),
            r#"{"version":1,"command":"dump-core"}"#
        );
        let answer = Answer {
            version: VERSION,
            outcome: Outcome::Error("no".into()),
        };
        assert_eq!(
            serde_json::to_string(&answer).unwrap(),
            r#"{"version":1,"error":"no"}"#
        );
        let text = r#"{"version":1,"command":"console","keyboard":true,"later":1}"#;
        assert_eq!(
            serde_json::from_str::<Request>(text).unwrap().command,
            Command::Console { keyboard: true }
        );
        assert!(serde_json::from_str::<Request>(r#"{"version":1,"command":"fly"}"#).is_err());
    }
}
