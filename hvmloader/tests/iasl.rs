//! The ACPI tables as Intel's compiler sees them: what it reads back from them it
//! takes for tables, and `dsdt.aml` is what it makes of `dsdt.asl`.
//!
//! Needs `iasl` (package acpica-tools); without it each test says that it was
//! skipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hvmloader::acpi::{DSDT, ssdt, tables};
use hvmloader::bytes::{Bytes, Full};

/// A table's header, and what in it names the compiler.
const HEADER: usize = 36;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hvmloader-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A leftover does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn have_iasl() -> bool {
    let found = Command::new("iasl").arg("-v").output().is_ok();
    if !found {
        eprintln!("skipped: there is no iasl. Run: apt-get install acpica-tools");
    }
    found
}

fn iasl(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new("iasl")
        .current_dir(dir)
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "iasl {arguments:?}: {text}");
    text
}

fn made(table: impl FnOnce(&mut Bytes<'_>) -> Result<(), Full>) -> Vec<u8> {
    let mut buffer = vec![0; 64 << 10];
    let mut out = Bytes::new(&mut buffer);
    table(&mut out).unwrap();
    out.all().to_vec()
}

#[test]
fn the_committed_dsdt_is_its_source_compiled() {
    if !have_iasl() {
        return;
    }
    let dir = Folder::new("source");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/acpi/dsdt.asl");
    iasl(&dir.0, &["-p", "dsdt", source.to_str().unwrap()]);
    let compiled = fs::read(dir.0.join("dsdt.aml")).unwrap();
    let same = compiled[HEADER..] == DSDT[HEADER..];
    assert!(
        same,
        "dsdt.aml is not dsdt.asl: run iasl -p dsdt dsdt.asl in src/acpi"
    );
}

#[test]
fn aml_survives_a_round_trip() {
    if !have_iasl() {
        return;
    }
    let dir = Folder::new("aml");
    let all = [
        ("one", made(|out| ssdt::build(1, out))),
        ("many", made(|out| ssdt::build(128, out))),
        ("sleep", made(|out| tables::sleep_state(*b"_S3_", 1, out))),
    ];
    for (name, table) in all {
        fs::write(dir.0.join(format!("{name}.aml")), &table).unwrap();
        // The DSDT has what the others refer to.
        fs::write(dir.0.join("dsdt.aml"), DSDT).unwrap();
        iasl(&dir.0, &["-e", "dsdt.aml", "-d", &format!("{name}.aml")]);
        iasl(&dir.0, &["-oa", "-p", "again", &format!("{name}.dsl")]);
        // The compiler puts declarations of what it did not find in front.
        let again = fs::read(dir.0.join("again.aml")).unwrap();
        assert!(again.ends_with(&table[HEADER..]), "{name}");
    }
}

#[test]
fn data_tables_are_understood() {
    if !have_iasl() {
        return;
    }
    let dir = Folder::new("data");
    let all = [
        (
            "facp",
            made(|out| tables::fadt(0xfc00_0040, 0xfc00_0080, out)),
        ),
        ("apic", made(|out| tables::madt(4, 0b1111, out))),
        ("hpet", made(|out| tables::hpet(0x8086_a201, out))),
        ("waet", made(tables::waet)),
        ("tcpa", made(|out| tables::tcpa(0xfc01_0000, 0x1_0000, out))),
        (
            "rsdt",
            made(|out| tables::root(&[0x1000, 0x2000], false, out)),
        ),
        (
            "xsdt",
            made(|out| tables::root(&[0x1000, 0x2000], true, out)),
        ),
        ("facs", tables::facs().to_vec()),
    ];
    for (name, table) in all {
        fs::write(dir.0.join(format!("{name}.dat")), &table).unwrap();
        iasl(&dir.0, &["-d", &format!("{name}.dat")]);
        let text = fs::read_to_string(dir.0.join(format!("{name}.dsl"))).unwrap();
        let wrong = ["Invalid", "Incorrect", "Unknown", "Warning", "Error"];
        let found = wrong.iter().find(|word| text.contains(*word));
        assert_eq!(found, None, "{name}: {text}");
        // Compiled again from that text, it is the same table.
        if name != "facs" {
            iasl(&dir.0, &["-p", "again", &format!("{name}.dsl")]);
            let again = fs::read(dir.0.join("again.aml")).unwrap();
            assert!(again[HEADER..] == table[HEADER..], "{name}: {text}");
        }
    }
}
