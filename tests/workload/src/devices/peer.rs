//! The other end of the network measured: takes and gives bytes as asked.
//!
//! A request is a byte, [`TAKE`] or [`GIVE`], and a number of bytes as `u64`,
//! little-endian. Bytes taken are answered by one byte when all have come.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;

use nix::unistd::{ForkResult, fork};

use crate::{Context, Failure};

pub const TAKE: u8 = b'>';
pub const GIVE: u8 = b'<';
/// Bytes per system call.
pub const CHUNK: usize = 128 << 10;

/// Returns once it listens; a child serves one connection after the other.
pub fn main(address: &str) -> ExitCode {
    let listener = match TcpListener::bind(address) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("peer: Cannot listen at {address}: {error}");
            return ExitCode::FAILURE;
        }
    };
    // SAFETY: this process has one thread, so the child may do anything.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { .. }) => return ExitCode::SUCCESS,
        Ok(ForkResult::Child) => {}
        Err(error) => {
            eprintln!("peer: fork: {error}");
            return ExitCode::FAILURE;
        }
    }
    for stream in listener.incoming() {
        let served = stream.context("accept").and_then(serve);
        if let Err(error) = served {
            eprintln!("peer: {error}");
        }
    }
    ExitCode::SUCCESS
}

fn serve(mut stream: TcpStream) -> Result<(), Failure> {
    stream.set_nodelay(true).context("TCP_NODELAY")?;
    let mut buffer = vec![0xa5; CHUNK];
    let mut request = [0; 9];
    loop {
        match stream.read_exact(&mut request) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            other => other.context("request")?,
        }
        let [what, bytes @ ..] = request;
        let bytes = u64::from_le_bytes(bytes);
        match what {
            TAKE => {
                receive(&mut stream, &mut buffer, bytes)?;
                stream.write_all(b".").context("answer")?;
            }
            GIVE => send(&mut stream, &buffer, bytes)?,
            other => return Err(format!("unknown request {other:#x}")),
        }
    }
}

/// Sends `bytes` out of a buffer, again and again.
pub fn send(stream: &mut TcpStream, buffer: &[u8], bytes: u64) -> Result<(), Failure> {
    let mut left = bytes;
    while left > 0 {
        let length = left.min(buffer.len() as u64);
        stream
            .write_all(&buffer[..length as usize])
            .context("send")?;
        left -= length;
    }
    Ok(())
}

/// Receives `bytes` into a buffer, over and over.
pub fn receive(stream: &mut TcpStream, buffer: &mut [u8], bytes: u64) -> Result<(), Failure> {
    let mut left = bytes;
    while left > 0 {
        let length = left.min(buffer.len() as u64);
        let got = stream
            .read(&mut buffer[..length as usize])
            .context("receive")?;
        crate::ensure!(got > 0, "the connection ended with {left} bytes to come");
        left -= got as u64;
    }
    Ok(())
}
