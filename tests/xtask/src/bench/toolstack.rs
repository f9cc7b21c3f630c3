//! What `xl` and `xt` cost on a Xen host: creating a domain, listing many, destroying one.
//!
//! The clock counts the instructions of the whole emulated machine, from the start of the command to
//! its end: those of the program, of xenstored, xenconsoled and dom0's kernel, of Xen. Domains are
//! created paused, so that nothing is counted behind the point at which their first instruction is
//! next.

use anyhow::{Context, Result, bail};
use xenner_rigs::packages::KernelFiles;
use xenner_rigs::{RigX, guest, xenner};

use super::{Figures, LIMIT, MEMORY_MIB, grouped, provide, read, spec};

/// In the order of the table: what is in the script's figures behind `xl.` and `xt.`.
const OPERATIONS: [(&str, &str); 4] = [
    ("create-first", "create, a kernel not seen before"),
    ("create", "create, again"),
    ("list", "list, with 50 domains"),
    ("destroy", "destroy"),
];

/// Of `xl`'s instructions, at most so much.
const AIM: f64 = 0.5;

/// How many domains are listed, and how often each figure is taken; the least counts.
const DOMAINS: u32 = 50;
const ROUNDS: u32 = 3;

/// Measures both in one rig.
pub fn measure(kernel: &KernelFiles) -> Result<Figures> {
    eprintln!("Measuring: toolstacks");
    let spec = spec()
        .program(xenner::build_xt()?, "/usr/bin/xt")
        .file(xenner::build_guest("obey")?, "/guest/obey")
        .file(guest::workload(), "/usr/bin/workload");
    let mut rig = RigX::boot(&spec)?;
    provide(&rig.shell, kernel)?;
    let config = format!(
        "name = \"web\"\nkernel = \"/guest/vmlinuz\"\nramdisk = \"/guest/initrd\"\n\
         extra = \"console=hvc0\"\nmemory = {MEMORY_MIB}\n"
    );
    rig.shell.write("web.cfg", config.as_bytes(), 0o644)?;
    let small = b"kernel = \"/guest/obey\"\nextra = \"stay\"\nmemory = 8\n";
    rig.shell.write("small.cfg", small, 0o644)?;
    // Off the shared directory, which is another machine's. Nobody looks after the many: `xt create`
    // has to start its supervisor each time, as `xl` its own process.
    let script = format!(
        "set -e
         cp /share/vmlinuz /share/initrd /share/*.cfg /guest
         for round in $(seq {ROUNDS}); do for program in xl xt; do
             rm -rf /var/cache/xt
             for name in create-first create; do
                 workload cost $program.$name $program create -q -p /guest/web.cfg
                 workload cost $program.destroy $program destroy web
                 while ps | grep -q '[h]ost xen supervise'; do usleep 100000; done
             done
         done; done
         for number in $(seq {DOMAINS}); do
             xt create -q -p -e /guest/small.cfg name=\\\"d$number\\\"
         done
         for round in $(seq {ROUNDS}); do for program in xl xt; do
             workload cost $program.list $program list
         done; done
         echo 'bench: done'"
    );
    let output = rig.run(&script, LIMIT)?;
    if output.status != 0 {
        bail!("Status {}:\n{}", output.status, output.text);
    }
    least(&output.text).with_context(|| format!("The rig said:\n{}", output.text))
}

/// Of each figure's rounds the least: what comes between by chance only adds.
fn least(console: &str) -> Result<Figures> {
    let mut figures = Figures::new();
    for line in console.lines() {
        let one = read(&format!("{line}\nbench: done"))?;
        for (name, figure) in one {
            let known = figures.entry(name).or_insert(figure);
            *known = figure.min(*known);
        }
    }
    match figures.len() == 2 * OPERATIONS.len() {
        true => Ok(figures),
        false => bail!("Some figures are missing: {figures:?}"),
    }
}

/// Both figures, and the second's share of the first.
pub fn table(release: &str, figures: &Figures) -> String {
    let mut lines = vec![
        format!(
            "Instructions of the whole machine per command, dom0 Linux {release}, {MEMORY_MIB} MiB"
        ),
        format!("{:<40}{:>16}{:>16}{:>8}{:>10}", "", "xl", "xt", "", "aim"),
    ];
    for (name, title) in OPERATIONS {
        let of = |program: &str| {
            figures
                .get(&format!("{program}.{name}"))
                .copied()
                .unwrap_or(0)
        };
        let (xl, xt) = (of("xl"), of("xt"));
        let ratio = xt as f64 / xl as f64;
        let verdict = if ratio <= AIM { "" } else { "  missed" };
        lines.push(format!(
            "{title:<40}{:>16}{:>16}{ratio:>7.2}x{:>10}{verdict}",
            grouped(xl),
            grouped(xt),
            format!("<= {AIM}"),
        ));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_of_each_counts() {
        let mut console = String::new();
        for figure in [300, 100, 200] {
            for (name, _) in OPERATIONS {
                console += &format!(
                    "bench: xl.{name} {}\nbench: xt.{name} {figure}\n",
                    figure * 2
                );
            }
        }
        let figures = least(&(console + "bench: done\n")).expect("figures");
        assert_eq!((figures["xl.list"], figures["xt.list"]), (200, 100));
        let table = table("6.1", &figures);
        assert!(
            table.contains("0.50x") && !table.contains("missed"),
            "{table}"
        );
        assert!(least("bench: done").is_err());
    }
}
