//! What is said about a guest that crashed.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// Registers of a vCPU, as the guest had them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the processor's own")]
pub struct Registers {
    pub rip: u64,
    pub rflags: u64,
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub rsp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub cs: u16,
    pub ss: u16,
    pub ds: u16,
    pub es: u16,
    pub fs: u16,
    pub gs: u16,
    pub fs_base: u64,
    pub gs_base: u64,
    pub kernel_gs_base: u64,
}

/// One line of a backtrace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BacktraceFrame {
    /// The address.
    pub address: u64,
    /// `function+0xoffset`, where known.
    pub symbol: Option<String>,
    /// False for a value that was merely found on the stack and looks like a return address.
    pub certain: bool,
}

/// A vCPU at the time of the crash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashedVcpu {
    /// Its number.
    pub vcpu: u32,
    /// Its registers.
    pub registers: Registers,
    /// Where it was, innermost first.
    pub backtrace: Vec<BacktraceFrame>,
}

/// Why and where a guest crashed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashReport {
    /// The reason in one line.
    pub reason: String,
    /// The vCPU that crashed, then the others, as far as known.
    pub vcpus: Vec<CrashedVcpu>,
}

impl CrashReport {
    /// A report that knows the reason only.
    pub fn new(reason: impl Into<String>) -> CrashReport {
        CrashReport {
            reason: reason.into(),
            vcpus: Vec::new(),
        }
    }

    /// Fills in the symbols that are missing, with `name_of` giving `function+0xoffset`.
    pub fn symbolise(&mut self, name_of: impl Fn(u64) -> Option<String>) {
        for frame in self.vcpus.iter_mut().flat_map(|vcpu| &mut vcpu.backtrace) {
            if frame.symbol.is_none() {
                frame.symbol = name_of(frame.address);
            }
        }
        // Linux returns by way of a thunk, which leaves its own address beside each real one.
        let thunk = |frame: &BacktraceFrame| {
            !frame.certain
                && frame
                    .symbol
                    .as_ref()
                    .is_some_and(|name| name.contains("return_thunk"))
        };
        for vcpu in &mut self.vcpus {
            vcpu.backtrace.retain(|frame| !thunk(frame));
        }
    }

    /// The report as text. Everything in it may come from the guest, so control characters are
    /// escaped.
    pub fn text(&self, name: &str) -> String {
        let mut text = format!(
            "Domain {} crashed: {}\n",
            printable(name),
            printable(&self.reason)
        );
        for vcpu in &self.vcpus {
            let _ = writeln!(text, "vCPU {}:", vcpu.vcpu);
            registers(&mut text, &vcpu.registers);
            backtrace(&mut text, &vcpu.backtrace);
        }
        text
    }
}

fn registers(text: &mut String, r: &Registers) {
    let rows: [&[(&str, u64)]; 8] = [
        &[("rip", r.rip), ("rflags", r.rflags)],
        &[("rax", r.rax), ("rbx", r.rbx), ("rcx", r.rcx)],
        &[("rdx", r.rdx), ("rsi", r.rsi), ("rdi", r.rdi)],
        &[("rbp", r.rbp), ("rsp", r.rsp), ("r8", r.r8)],
        &[("r9", r.r9), ("r10", r.r10), ("r11", r.r11)],
        &[("r12", r.r12), ("r13", r.r13), ("r14", r.r14)],
        &[("r15", r.r15), ("cr0", r.cr0), ("cr2", r.cr2)],
        &[("cr3", r.cr3), ("cr4", r.cr4)],
    ];
    for row in rows {
        let cells: Vec<_> = row
            .iter()
            .map(|(name, value)| format!("{name:>6} {value:016x}"))
            .collect();
        let _ = writeln!(text, "  {}", cells.join(" "));
    }
    let _ = writeln!(
        text,
        "      cs {:04x} ss {:04x} ds {:04x} es {:04x} fs {:04x} gs {:04x}",
        r.cs, r.ss, r.ds, r.es, r.fs, r.gs
    );
    let _ = writeln!(
        text,
        "      fs_base {:016x} gs_base {:016x} kernel_gs_base {:016x}",
        r.fs_base, r.gs_base, r.kernel_gs_base
    );
}

fn backtrace(text: &mut String, frames: &[BacktraceFrame]) {
    if frames.is_empty() {
        return;
    }
    text.push_str("  Backtrace (? = found on the stack, perhaps stale):\n");
    for frame in frames {
        let mark = if frame.certain { ' ' } else { '?' };
        let symbol = frame.symbol.as_deref().map(printable).unwrap_or_default();
        let line = format!("   {mark} [{:016x}] {symbol}", frame.address);
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

/// `text` without anything a terminal would act on.
pub fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let plain = (!c.is_control()).then_some(c);
            let escaped = c.is_control().then(|| c.escape_default());
            plain.into_iter().chain(escaped.into_iter().flatten())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> CrashReport {
        CrashReport {
            reason: "Kernel panic\u{1b}[2J".into(),
            vcpus: vec![CrashedVcpu {
                vcpu: 1,
                registers: Registers {
                    rip: 0xffff_ffff_8100_1234,
                    cr2: 0x10,
                    ..Registers::default()
                },
                backtrace: vec![
                    BacktraceFrame {
                        address: 0xffff_ffff_8100_1234,
                        symbol: None,
                        certain: true,
                    },
                    BacktraceFrame {
                        address: 0xffff_ffff_8200_0000,
                        symbol: Some("srso_return_thunk+0x5".into()),
                        certain: false,
                    },
                    BacktraceFrame {
                        address: 0x5678,
                        symbol: None,
                        certain: false,
                    },
                ],
            }],
        }
    }

    #[test]
    fn the_text_has_reason_registers_and_symbols() {
        let mut report = report();
        report.symbolise(|address| (address > 0x1_0000).then(|| "do_exit+0x34".to_owned()));
        let text = report.text("web");
        assert!(
            text.starts_with("Domain web crashed: Kernel panic\\u{1b}[2J\n"),
            "{text}"
        );
        assert!(text.contains("vCPU 1:\n"), "{text}");
        assert!(text.contains("   rip ffffffff81001234"), "{text}");
        assert!(text.contains("   cr2 0000000000000010"), "{text}");
        assert!(
            text.contains("     [ffffffff81001234] do_exit+0x34\n"),
            "{text}"
        );
        assert!(text.contains("   ? [0000000000005678]\n"), "{text}");
        assert!(!text.contains('\u{1b}') && !text.contains("thunk"));
    }

    #[test]
    fn json_round_trip() {
        let json = serde_json::to_string(&report()).unwrap();
        assert_eq!(
            serde_json::from_str::<CrashReport>(&json).unwrap(),
            report()
        );
    }
}
