//! Moving bytes between the hub and a descriptor. A pump may wait for its descriptor as long as it
//! likes: only its own thread does.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Chunk, Reader, Writer};

/// How often a pump without anything to do looks whether its client is still there.
const LOOK: Duration = Duration::from_millis(500);

/// Copies console output to `out` until the console is closed and everything written, `gone` is
/// set, or writing fails. True in the first case.
pub fn output(mut reader: Reader, mut out: impl Write, gone: &AtomicBool) -> bool {
    let mut buf = vec![0; 16 << 10];
    loop {
        let result = match reader.read(&mut buf, LOOK) {
            Chunk::Data(count) => out.write_all(&buf[..count]).and_then(|()| out.flush()),
            Chunk::Lost(count) => {
                write!(
                    out,
                    "\r\n[xenner: {count} bytes of console output lost here]\r\n"
                )
            }
            Chunk::Idle => Ok(()),
            Chunk::Closed => return true,
        };
        if result.is_err() || gone.load(Ordering::Acquire) {
            return false;
        }
    }
}

/// Copies what is typed on `input` to the guest until `input` ends or the console is closed.
/// Without a `writer` what is typed is thrown away; the end is noticed all the same.
pub fn keys(mut input: impl Read, writer: Option<Writer>) {
    let mut buf = [0; 1024];
    loop {
        let count = match input.read(&mut buf) {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        if let Some(writer) = &writer
            && !writer.write(&buf[..count])
        {
            return;
        }
    }
}
