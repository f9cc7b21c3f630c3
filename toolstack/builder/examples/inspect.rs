//! Builds a PV domain in the memory of this process; prints what the kernel is and the layout.
//!
//! `inspect VMLINUZ [MEMORY_MIB [INITRD_MIB [CACHE_DIR]]]`

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use xen_sys::addr::Mfn;
use xt_builder::notes::Features;
use xt_builder::{
    BuildError, ElfImage, KernelImage, OwnMemory, PayloadCache, PvKernel, PvSpec, XenNotes, image,
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(path) = args.first() else {
        eprintln!("inspect VMLINUZ [MEMORY_MIB [INITRD_MIB [CACHE_DIR]]]");
        return ExitCode::from(2);
    };
    let number = |at: usize, default| args.get(at).map_or(Some(default), |n| n.parse().ok());
    let (Some(memory), Some(initrd)) = (number(1, 512), number(2, 0)) else {
        eprintln!("Sizes are whole numbers of MiB.");
        return ExitCode::from(2);
    };
    let cache = args.get(3).map(PayloadCache::new);
    match inspect(Path::new(path), memory, initrd, cache.as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("{path}: {error}");
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                eprint!(": {cause}");
                source = cause.source();
            }
            eprintln!(" ({:?})", error.kind());
            ExitCode::FAILURE
        }
    }
}

fn inspect(
    path: &Path,
    memory_mib: u64,
    initrd_mib: u64,
    cache: Option<&PayloadCache>,
) -> Result<(), BuildError> {
    let start = Instant::now();
    let file = image::read_file(path)?;
    let kernel = KernelImage::parse(&file, cache)?;
    println!(
        "{}: {} bytes of ELF, in {:?}",
        kernel.origin(),
        kernel.elf().len(),
        start.elapsed()
    );
    let elf = ElfImage::parse(kernel.elf())?;
    for segment in elf.load_segments() {
        let segment = segment?;
        println!(
            "load  paddr {:#x}  {:#x} bytes in the file, {:#x} in memory",
            segment.paddr,
            segment.data.len(),
            segment.memsz
        );
    }
    print_notes(&XenNotes::read(&elf)?);
    let initrd = vec![0xa5; (initrd_mib as usize) << 20];
    let spec = PvSpec {
        initrd: Some(&initrd[..]).filter(|initrd| !initrd.is_empty()),
        ..PvSpec::new(Mfn(0))
    };
    let kernel = PvKernel::new(&elf)?;
    let mut memory = OwnMemory::new(memory_mib << 8);
    let start = Instant::now();
    let image = kernel.build(&mut memory, &spec)?;
    println!("{}built in {:?}", image.describe(), start.elapsed());
    Ok(())
}

fn print_notes(notes: &XenNotes) {
    println!("{notes:x?}");
    println!(
        "features supported: {}",
        Features::names(notes.features.supported)
    );
    println!(
        "features required: {}",
        Features::names(notes.features.required)
    );
}
