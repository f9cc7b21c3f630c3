//! Initial file systems: a cpio archive in the "newc" format the kernel reads
//! (Linux: `Documentation/driver-api/early-userspace/buffer-format.rst`),
//! filled with programs and the shared libraries they need, kernel modules in
//! the order they load in, and busybox.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use goblin::elf::Elf;

use crate::error::{Error, Result};
use crate::packages::{KernelFiles, Package, run};

const S_IFDIR: u32 = 0o040_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

const LIBRARY_DIRS: [&str; 4] = [
    "usr/lib/x86_64-linux-gnu",
    "lib/x86_64-linux-gnu",
    "lib64",
    "usr/lib64",
];

#[derive(Debug, Clone)]
struct Entry {
    /// File type and permissions, as in `st_mode`.
    mode: u32,
    /// Major and minor number of a device.
    device: (u32, u32),
    /// A file's content or a link's target.
    data: Vec<u8>,
}

/// A file system in the making. Paths are absolute; parents come by themselves.
#[derive(Debug, Clone, Default)]
pub struct Initramfs {
    entries: BTreeMap<String, Entry>,
}

impl Initramfs {
    /// An empty one but for the usual mount points and `/dev/console`, which
    /// the kernel opens for init before anything is mounted.
    pub fn new() -> Self {
        let mut it = Self::default();
        for dir in [
            "/proc", "/sys", "/dev", "/run", "/tmp", "/etc", "/root", "/var",
        ] {
            it.dir(dir);
        }
        it.char_device("/dev/console", 5, 1);
        it.char_device("/dev/null", 1, 3);
        it
    }

    fn insert(&mut self, path: &str, entry: Entry) {
        let path = path.trim_matches('/');
        for (slash, _) in path.match_indices('/') {
            self.entries
                .entry(path[..slash].to_owned())
                .or_insert_with(|| Entry {
                    mode: S_IFDIR | 0o755,
                    device: (0, 0),
                    data: Vec::new(),
                });
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// Adds a directory.
    pub fn dir(&mut self, path: &str) {
        let entry = Entry {
            mode: S_IFDIR | 0o755,
            device: (0, 0),
            data: Vec::new(),
        };
        self.insert(path, entry);
    }

    /// Adds a file with the given permissions.
    pub fn file(&mut self, path: &str, permissions: u32, data: impl Into<Vec<u8>>) {
        let entry = Entry {
            mode: S_IFREG | (permissions & 0o7777),
            device: (0, 0),
            data: data.into(),
        };
        self.insert(path, entry);
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) {
        let entry = Entry {
            mode: S_IFLNK | 0o777,
            device: (0, 0),
            data: target.into(),
        };
        self.insert(path, entry);
    }

    /// Adds a character device.
    pub fn char_device(&mut self, path: &str, major: u32, minor: u32) {
        let entry = Entry {
            mode: S_IFCHR | 0o600,
            device: (major, minor),
            data: Vec::new(),
        };
        self.insert(path, entry);
    }

    /// Copies a file of the host with its permissions.
    pub fn copy(&mut self, from: &Path, to: &str) -> Result<()> {
        let data = fs::read(from).map_err(Error::io("read", from))?;
        let metadata = fs::metadata(from).map_err(Error::io("read", from))?;
        self.file(to, metadata.permissions().mode(), data);
        Ok(())
    }

    /// Copies a directory of the host with all in it, links as links.
    pub fn copy_tree(&mut self, from: &Path, to: &str) -> Result<()> {
        for entry in fs::read_dir(from).map_err(Error::io("list", from))? {
            let path = entry.map_err(Error::io("list", from))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let target = format!("{to}/{name}");
            if path.is_symlink() {
                let link = fs::read_link(&path).map_err(Error::io("read", &path))?;
                self.symlink(&target, &link.to_string_lossy());
            } else if path.is_dir() {
                self.copy_tree(&path, &target)?;
            } else {
                self.copy(&path, &target)?;
            }
        }
        Ok(())
    }

    /// Adds a program and every shared library it needs, directly or not.
    /// Libraries come from `packages`, else from this machine, and go where
    /// Debian's loader looks; the loader goes where the program names it.
    pub fn program(&mut self, from: &Path, to: &str, packages: &[Package]) -> Result<()> {
        self.copy(from, to)?;
        let mut seen = BTreeSet::new();
        let mut queue = vec![from.to_owned()];
        while let Some(path) = queue.pop() {
            let needs = elf_needs(&path)?;
            if let Some(loader) = &needs.interpreter {
                let found = find_library(base_name(loader), &[], packages, &path)?;
                self.copy(&found, loader)?;
            }
            for library in needs.libraries {
                if !seen.insert(library.clone()) {
                    continue;
                }
                let found = find_library(&library, &needs.runpaths, packages, &path)?;
                self.copy(&found, &format!("/lib/x86_64-linux-gnu/{library}"))?;
                queue.push(found);
            }
        }
        Ok(())
    }

    /// Adds busybox as `/bin/busybox` and a link for each of its applets.
    pub fn busybox(&mut self, package: &Package) -> Result<()> {
        let candidates = ["usr/bin/busybox", "bin/busybox"].map(|p| package.path(p));
        let busybox = candidates.iter().find(|p| p.is_file());
        let busybox = busybox.ok_or_else(|| Error::Malformed {
            path: package.root.clone(),
            reason: "it holds no bin/busybox".into(),
        })?;
        self.copy(busybox, "/bin/busybox")?;
        let applets = run(std::process::Command::new(busybox).arg("--list-full"))?;
        for applet in String::from_utf8_lossy(&applets).lines() {
            let path = format!("/{}", applet.trim_start_matches('/'));
            if path != "/bin/busybox" {
                self.symlink(&path, "/bin/busybox");
            }
        }
        Ok(())
    }

    /// Adds kernel modules with all they depend on, uncompressed, and the file
    /// `/modules/load`, which loads them in order. What is built in is skipped.
    pub fn modules(&mut self, kernel: &KernelFiles, names: &[&str]) -> Result<()> {
        let tree = ModuleTree::read(&kernel.modules)?;
        let mut ordered = Vec::new();
        for name in names {
            tree.order(name, &mut ordered)?;
        }
        let mut script = String::new();
        for (name, image) in ordered {
            self.file(&format!("/modules/{name}.ko"), 0o644, image);
            script += &format!("insmod /modules/{name}.ko\n");
        }
        self.file("/modules/load", 0o644, script);
        Ok(())
    }

    /// The archive, uncompressed: under emulation the kernel unpacks this faster.
    pub fn to_cpio(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, (path, entry)) in self.entries.iter().enumerate() {
            append(&mut out, number as u32 + 1, path, entry);
        }
        let trailer = Entry {
            mode: 0,
            device: (0, 0),
            data: Vec::new(),
        };
        append(&mut out, 0, "TRAILER!!!", &trailer);
        out
    }

    /// Writes the archive to a file.
    pub fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, self.to_cpio()).map_err(Error::io("write", path))
    }
}

fn append(out: &mut Vec<u8>, inode: u32, path: &str, entry: &Entry) {
    let links = 1;
    let (major, minor) = entry.device;
    let fields = [
        inode,
        entry.mode,
        0, // uid
        0, // gid
        links,
        0, // mtime: none, so that the same content gives the same archive
        entry.data.len() as u32,
        0, // the device that holds the file
        0,
        major,
        minor,
        path.len() as u32 + 1,
        0, // checksum, unused in this format
    ];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(&entry.data);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

struct Needs {
    interpreter: Option<String>,
    libraries: Vec<String>,
    /// Directories of its own to search for them (DT_RUNPATH), without leading `/`.
    runpaths: Vec<String>,
}

fn elf_needs(path: &Path) -> Result<Needs> {
    let data = fs::read(path).map_err(Error::io("read", path))?;
    let elf = Elf::parse(&data).map_err(|error| Error::Malformed {
        path: path.into(),
        reason: format!("not an ELF program: {error}"),
    })?;
    Ok(Needs {
        interpreter: elf.interpreter.map(str::to_owned),
        libraries: elf.libraries.iter().map(|&l| l.to_owned()).collect(),
        runpaths: elf
            .runpaths
            .iter()
            .flat_map(|paths| paths.split(':'))
            .filter_map(|path| path.strip_prefix('/').map(str::to_owned))
            .collect(),
    })
}

fn find_library(
    name: &str,
    runpaths: &[String],
    packages: &[Package],
    needed_by: &Path,
) -> Result<PathBuf> {
    let roots = packages.iter().map(|p| p.root.as_path());
    let dirs = || {
        let own = runpaths.iter().map(String::as_str);
        own.chain(LIBRARY_DIRS)
    };
    roots
        .chain([Path::new("/")])
        .flat_map(|root| dirs().map(|dir| root.join(dir).join(name)))
        .find(|path| path.is_file())
        .ok_or_else(|| Error::Library {
            program: needed_by.into(),
            library: name.into(),
        })
}

/// The modules of one kernel by name. Debian makes `modules.dep` when a kernel
/// is installed, so an unpacked package has none: dependencies are read from
/// the modules themselves (`depends=` in section `.modinfo`).
struct ModuleTree {
    root: PathBuf,
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

impl ModuleTree {
    fn read(root: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        let mut queue = vec![root.join("kernel")];
        while let Some(dir) = queue.pop() {
            for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
                let path = entry.map_err(Error::io("list", &dir))?.path();
                if path.is_dir() {
                    queue.push(path);
                } else if let Some(name) = module_name(&path.to_string_lossy()) {
                    files.insert(name, path);
                }
            }
        }
        let list = root.join("modules.builtin");
        let builtin = fs::read_to_string(&list).map_err(Error::io("read", &list))?;
        Ok(Self {
            root: root.into(),
            files,
            builtin: builtin.lines().filter_map(module_name).collect(),
        })
    }

    /// Appends a module after all it depends on, unless it is there.
    fn order(&self, name: &str, ordered: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
        let name = name.replace('-', "_");
        if self.builtin.contains(&name) || ordered.iter().any(|(n, _)| *n == name) {
            return Ok(());
        }
        let path = self.files.get(&name).ok_or_else(|| Error::Module {
            tree: self.root.clone(),
            module: name.clone(),
        })?;
        let image = read_module(path)?;
        for dependency in module_depends(&image) {
            self.order(&dependency, ordered)?;
        }
        ordered.push((name, image));
        Ok(())
    }
}

/// `kernel/a/b-c.ko.xz` is module `b_c`.
fn module_name(path: &str) -> Option<String> {
    let name = base_name(path);
    let stem = name
        .strip_suffix(".xz")
        .unwrap_or(name)
        .strip_suffix(".ko")?;
    Some(stem.replace('-', "_"))
}

fn read_module(path: &Path) -> Result<Vec<u8>> {
    let data = fs::read(path).map_err(Error::io("read", path))?;
    if path.extension().is_none_or(|e| e != "xz") {
        return Ok(data);
    }
    let mut image = Vec::new();
    lzma_rust2::XzReader::new(data.as_slice(), true)
        .read_to_end(&mut image)
        .map_err(Error::io("decompress", path))?;
    Ok(image)
}

fn module_depends(image: &[u8]) -> Vec<String> {
    let Ok(elf) = Elf::parse(image) else {
        return Vec::new();
    };
    let modinfo = elf.section_headers.iter().find_map(|section| {
        let name = elf.shdr_strtab.get_at(section.sh_name)?;
        let range = section.file_range()?;
        (name == ".modinfo").then(|| image.get(range))?
    });
    modinfo
        .unwrap_or_default()
        .split(|&byte| byte == 0)
        .filter_map(|field| field.strip_prefix(b"depends="))
        .flat_map(|list| list.split(|&byte| byte == b','))
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_names_are_normalised() {
        assert_eq!(
            module_name("kernel/arch/x86/kvm/kvm-amd.ko.xz").as_deref(),
            Some("kvm_amd")
        );
        assert_eq!(module_name("loop.ko").as_deref(), Some("loop"));
        assert_eq!(module_name("modules.order"), None);
    }

    #[test]
    fn archives_have_headers_parents_and_padding() {
        let mut fs = Initramfs::default();
        fs.file("/a/b/c", 0o644, *b"hello");
        fs.symlink("/a/l", "b/c");
        fs.char_device("/con", 5, 1);
        let cpio = fs.to_cpio();
        assert_eq!(cpio.len() % 4, 0);
        let text = String::from_utf8_lossy(&cpio);
        let modes: Vec<_> = text
            .match_indices("070701")
            .map(|(at, _)| &text[at + 14..at + 22])
            .collect();
        // a, a/b, a/b/c, a/l, con, trailer
        assert_eq!(
            modes,
            [
                "000041ed", "000041ed", "000081a4", "0000a1ff", "00002180", "00000000"
            ]
        );
        assert!(
            text.contains("hello\0\0\x00070701"),
            "data is padded to 4 bytes"
        );
        assert!(text.contains("TRAILER!!!\0"));
        let con = text.find("con\0").expect("device");
        assert_eq!(&text[con - 32..con - 16], "0000000500000001");
    }

    #[test]
    fn a_program_brings_its_libraries() {
        let shell = fs::canonicalize("/bin/sh").expect("a shell");
        let mut it = Initramfs::default();
        it.program(&shell, "/bin/sh", &[]).expect("resolved");
        assert!(it.entries.contains_key("lib/x86_64-linux-gnu/libc.so.6"));
        assert!(it.entries.contains_key("lib64/ld-linux-x86-64.so.2"));
    }
}
