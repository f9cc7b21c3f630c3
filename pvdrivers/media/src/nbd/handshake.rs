//! What is agreed on before requests are sent.

use std::fs::File;
use std::io::{self, Read, Write};

use crate::image::be;
use crate::{MediumError, NbdUri};

const MAGIC: &[u8; 8] = b"NBDMAGIC";
const IHAVEOPT: &[u8; 8] = b"IHAVEOPT";
const REPLY: u64 = 0x0003_e889_0455_65a9;

const FIXED_NEWSTYLE: u64 = 1;
const NO_ZEROES: u64 = 2;

const OPT_EXPORT_NAME: u32 = 1;
const OPT_GO: u32 = 7;

const REP_ACK: u64 = 1;
const REP_INFO: u64 = 3;
const REP_ERROR: u64 = 1 << 31;

const INFO_EXPORT: u64 = 0;
const INFO_BLOCK_SIZE: u64 = 3;

/// Most bytes of an answer to an option.
const MAX_REPLY: u64 = 1 << 16;

/// What a server says of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Export {
    pub size: u64,
    pub flags: u16,
    /// Smallest and best sizes of requests, in bytes.
    pub smallest: u32,
    pub best: u32,
    /// Most bytes of a request.
    pub most: u32,
}

impl Export {
    pub(super) fn has(&self, flag: u16) -> bool {
        self.flags & 1 << flag != 0
    }
}

/// Flags of an export, by bit.
pub(super) const HAS_FLAGS: u16 = 0;
pub(super) const READ_ONLY: u16 = 1;
pub(super) const SEND_FLUSH: u16 = 2;
pub(super) const SEND_TRIM: u16 = 5;

struct Talk<'a> {
    socket: &'a File,
    uri: &'a NbdUri,
}

/// Agrees on an export.
pub(super) fn negotiate(socket: &File, uri: &NbdUri) -> Result<Export, MediumError> {
    let talk = Talk { socket, uri };
    let start: [u8; 18] = talk.receive()?;
    if &start[..8] != MAGIC || &start[8..16] != IHAVEOPT {
        return Err(talk.refused("It is no NBD server of the newstyle protocol"));
    }
    let flags = be(&start, 16, 2);
    if flags & FIXED_NEWSTYLE == 0 {
        return Err(talk.refused("The server does not speak the fixed newstyle protocol"));
    }
    let mine = flags & (FIXED_NEWSTYLE | NO_ZEROES);
    talk.send(&(mine as u32).to_be_bytes())?;
    match talk.go()? {
        Some(export) => Ok(export),
        None => talk.export_name(flags & NO_ZEROES != 0),
    }
}

impl Talk<'_> {
    fn refused(&self, why: impl Into<String>) -> MediumError {
        MediumError::Nbd {
            uri: self.uri.to_string(),
            why: why.into(),
            source: None,
        }
    }

    fn broken(&self, source: io::Error) -> MediumError {
        MediumError::Nbd {
            uri: self.uri.to_string(),
            why: "The connection broke during the handshake".into(),
            source: Some(source),
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), MediumError> {
        (&mut &*self.socket)
            .write_all(bytes)
            .map_err(|error| self.broken(error))
    }

    fn fill(&self, to: &mut [u8]) -> Result<(), MediumError> {
        (&mut &*self.socket)
            .read_exact(to)
            .map_err(|error| self.broken(error))
    }

    fn receive<const N: usize>(&self) -> Result<[u8; N], MediumError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn option(&self, option: u32, data: &[u8]) -> Result<(), MediumError> {
        let mut bytes = IHAVEOPT.to_vec();
        bytes.extend(option.to_be_bytes());
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
        self.send(&bytes)
    }

    /// `NBD_OPT_GO`; `None` when the server is too old for it.
    fn go(&self) -> Result<Option<Export>, MediumError> {
        let name = self.uri.export().as_bytes();
        let mut data = (name.len() as u32).to_be_bytes().to_vec();
        data.extend(name);
        // One piece of information is asked for: the sizes of requests.
        data.extend(1u16.to_be_bytes());
        data.extend((INFO_BLOCK_SIZE as u16).to_be_bytes());
        self.option(OPT_GO, &data)?;
        let mut export = None;
        let mut sizes = (1, 4096, u32::MAX);
        loop {
            let (kind, data) = self.reply(OPT_GO)?;
            match kind {
                REP_ACK => break,
                REP_INFO => match be(&data, 0, 2) {
                    INFO_EXPORT if data.len() == 12 => {
                        export = Some((be(&data, 2, 8), be(&data, 10, 2) as u16));
                    }
                    INFO_BLOCK_SIZE if data.len() == 14 => {
                        sizes = (
                            be(&data, 2, 4) as u32,
                            be(&data, 6, 4) as u32,
                            be(&data, 10, 4) as u32,
                        );
                    }
                    _ => {}
                },
                error if error == REP_ERROR + 1 => return Ok(None),
                error if error & REP_ERROR != 0 => return Err(self.denied(error, &data)),
                other => {
                    return Err(
                        self.refused(format!("The server answered with a reply of kind {other}"))
                    );
                }
            }
        }
        let (size, flags) =
            export.ok_or_else(|| self.refused("The server does not tell the export's size"))?;
        let (smallest, best, most) = sizes;
        self.check(Export {
            size,
            flags,
            smallest,
            best,
            most,
        })
        .map(Some)
    }

    fn denied(&self, error: u64, data: &[u8]) -> MediumError {
        let text = String::from_utf8_lossy(data);
        let name = self.uri.export();
        let why = match error - REP_ERROR {
            2 => "The server's policy forbids it".into(),
            5 => "The server wants TLS, which is not there".into(),
            6 => format!("The server has no export {name:?}; the URI's path names it"),
            n => format!("The server answered with error {n}"),
        };
        self.refused(if text.is_empty() {
            why
        } else {
            format!("{why} ({text:?})")
        })
    }

    /// An answer to an option.
    fn reply(&self, option: u32) -> Result<(u64, Vec<u8>), MediumError> {
        let head: [u8; 20] = self.receive()?;
        let len = be(&head, 16, 4);
        if be(&head, 0, 8) != REPLY || be(&head, 8, 4) != u64::from(option) || len > MAX_REPLY {
            return Err(self.refused("The server's answer makes no sense"));
        }
        let mut data = vec![0; len as usize];
        self.fill(&mut data)?;
        Ok((be(&head, 12, 4), data))
    }

    /// `NBD_OPT_EXPORT_NAME`, whose refusal is the end of the connection.
    fn export_name(&self, no_zeroes: bool) -> Result<Export, MediumError> {
        self.option(OPT_EXPORT_NAME, self.uri.export().as_bytes())?;
        let answer: [u8; 10] = self.receive()?;
        if !no_zeroes {
            let _: [u8; 124] = self.receive()?;
        }
        self.check(Export {
            size: be(&answer, 0, 8),
            flags: be(&answer, 8, 2) as u16,
            smallest: 1,
            best: 4096,
            most: u32::MAX,
        })
    }

    fn check(&self, export: Export) -> Result<Export, MediumError> {
        let sizes = [export.smallest, export.best]
            .iter()
            .all(|size| size.is_power_of_two());
        if !export.has(HAS_FLAGS) || export.size >= 1 << 62 || !sizes || export.most < 4096 {
            return Err(self.refused(format!(
                "The server says of the export what cannot be: {export:?}"
            )));
        }
        if export.smallest > 4096 {
            let why = format!(
                "Its blocks have {} bytes; 4096 are the most",
                export.smallest
            );
            return Err(self.refused(why));
        }
        Ok(export)
    }
}
