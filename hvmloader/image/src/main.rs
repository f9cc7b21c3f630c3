//! Writes the image to standard output: `hvmloader-image >hvmloader`.
#![forbid(unsafe_code)]

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut out = std::io::stdout();
    if out.is_terminal() || std::env::args_os().len() > 1 {
        eprintln!(
            "Usage: hvmloader-image >FILE\nThe firmware of HVM domains, for firmware_override in an xl.cfg."
        );
        return ExitCode::from(2);
    }
    match out
        .write_all(hvmloader_image::IMAGE)
        .and_then(|()| out.flush())
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hvmloader-image: cannot write the image: {error}");
            ExitCode::FAILURE
        }
    }
}
