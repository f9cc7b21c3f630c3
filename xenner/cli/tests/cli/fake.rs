//! A machine without a processor: it does what its command line and its console tell it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pv_stats::{DeviceStats, Histogram, QueueStats};
use xenner::console::Console;
use xenner::crash::{BacktraceFrame, CrashReport, CrashedVcpu, Registers};
use xenner::dumpcore::{DumpSource, Frame, PAGE_SIZE, VCPU_CONTEXT_SIZE, XenVersion};
use xenner::machine::{
    Control, ControlError, DomainExit, Launcher, Machine, MachineError, Ports, RunState,
    ShutdownRequest, StartError, Stats, VcpuStats,
};
use xenner::sandbox::{self, Role};
use xenner::spec::DomainSpec;

/// Builds fake machines.
pub struct FakeLauncher;

impl Launcher for FakeLauncher {
    fn build(&self, spec: &DomainSpec, ports: Ports) -> Result<Box<dyn Machine>, StartError> {
        let says = |what: &str| spec.cmdline.split(' ').any(|word| word == what);
        let reason = || "The fake machine was told to".to_owned();
        if says("build=image") {
            return Err(StartError::Image(reason()));
        }
        if says("build=host") {
            return Err(StartError::Host(reason()));
        }
        if says("build=panic") {
            panic!("The fake machine was told to");
        }
        let (sender, receiver) = channel();
        let control = Arc::new(FakeControl {
            sender: Mutex::new(sender),
            state: Mutex::new(RunState::Running),
            deaf: says("deaf"),
            pages: spec.memory.pages(),
            vcpus: spec.vcpus,
            looks: AtomicU64::new(0),
        });
        Ok(Box::new(FakeMachine {
            control,
            receiver,
            console: ports.console,
            cmdline: spec.cmdline.clone(),
        }))
    }
}

struct FakeMachine {
    control: Arc<FakeControl>,
    receiver: Receiver<DomainExit>,
    console: Arc<Console>,
    cmdline: String,
}

impl Machine for FakeMachine {
    fn control(&self) -> Arc<dyn Control> {
        self.control.clone()
    }

    fn run(&mut self) -> Result<DomainExit, MachineError> {
        self.console
            .output(format!("booted: {}\r\n", self.cmdline).as_bytes());
        let exit = |word: &str| match word {
            "exit=poweroff" => Some(DomainExit::Poweroff),
            "exit=reboot" => Some(DomainExit::Reboot),
            "exit=suspend" => Some(DomainExit::Suspend),
            "exit=crash" => Some(crash()),
            "exit=watchdog" => Some(DomainExit::Watchdog),
            _ => None,
        };
        for word in self.cmdline.split(' ') {
            match word {
                "flood" => {
                    for number in 0..200_000 {
                        self.console.output(format!("line {number}\r\n").as_bytes());
                    }
                }
                "evil" => evil(),
                "panic" => lose_a_thread(),
                "fail" => return Err(MachineError("The fake processor broke".into())),
                _ => {}
            }
            if let Some(exit) = exit(word) {
                return Ok(exit);
            }
        }
        loop {
            if let Ok(exit) = self.receiver.recv_timeout(Duration::from_millis(2)) {
                return Ok(exit);
            }
            let mut keys = [0; 64];
            let count = self.console.input(&mut keys);
            for key in &keys[..count] {
                match key {
                    b'q' => return Ok(DomainExit::Poweroff),
                    b'c' => return Ok(crash()),
                    b'k' => std::process::abort(),
                    key => self.console.output(format!("key {key:#x}\r\n").as_bytes()),
                }
            }
        }
    }
}

/// A bug that ends a thread the machine needs, and would leave it waiting for ever.
fn lose_a_thread() {
    let thread = std::thread::Builder::new().name("vcpu0".into());
    let thread = thread
        .spawn(|| panic!("The fake processor was lost"))
        .unwrap();
    thread.join().ok();
    std::thread::park();
}

/// What a guest that took over a vCPU thread might try.
fn evil() {
    let thread = std::thread::spawn(|| {
        sandbox::enter(Role::Vcpu);
        assert!(std::fs::File::open("/proc/self/maps").is_err());
        std::net::UdpSocket::bind("127.0.0.1:0").ok();
    });
    thread.join().ok();
}

fn crash() -> DomainExit {
    DomainExit::Crash(Box::new(CrashReport {
        reason: "Kernel panic".into(),
        vcpus: vec![CrashedVcpu {
            vcpu: 0,
            registers: Registers {
                rip: 0xffff_ffff_8100_0123,
                ..Registers::default()
            },
            backtrace: vec![BacktraceFrame {
                address: 0xffff_ffff_8100_0123,
                symbol: None,
                certain: true,
            }],
        }],
    }))
}

struct FakeControl {
    sender: Mutex<Sender<DomainExit>>,
    state: Mutex<RunState>,
    deaf: bool,
    pages: u64,
    vcpus: u32,
    /// How often it was asked for counters; its disk reads 4096 bytes each time.
    looks: AtomicU64,
}

impl FakeControl {
    fn end(&self, exit: DomainExit) {
        // The machine may have ended by itself.
        self.sender.lock().unwrap().send(exit).ok();
    }
}

impl Control for FakeControl {
    fn pause(&self) -> Result<(), ControlError> {
        *self.state.lock().unwrap() = RunState::Paused;
        Ok(())
    }

    fn unpause(&self) -> Result<(), ControlError> {
        *self.state.lock().unwrap() = RunState::Running;
        Ok(())
    }

    fn request_shutdown(&self, reason: ShutdownRequest) -> Result<(), ControlError> {
        match (self.deaf, reason) {
            (true, _) => {}
            (_, ShutdownRequest::Poweroff) => self.end(DomainExit::Poweroff),
            (_, ShutdownRequest::Reboot) => self.end(DomainExit::Reboot),
        }
        Ok(())
    }

    fn destroy(&self) {
        self.end(DomainExit::Destroyed);
    }

    fn sysrq(&self, key: char) -> Result<(), ControlError> {
        match key {
            'h' => Ok(()),
            _ => Err(ControlError(format!("The fake machine has no key {key}"))),
        }
    }

    fn stats(&self) -> Stats {
        Stats {
            state: *self.state.lock().unwrap(),
            memory_pages: self.pages,
            max_pages: self.pages,
            vcpus: vec![
                VcpuStats {
                    online: true,
                    cpu_time_ns: 1_500_000_000,
                    exits: 7
                };
                self.vcpus as usize
            ],
            counters: [("console.out_bytes".to_owned(), 42)].into(),
            devices: vec![disk(self.looks.fetch_add(1, Ordering::Relaxed))],
        }
    }

    fn dump_source(&self) -> Result<Box<dyn DumpSource>, ControlError> {
        Ok(Box::new(FakeMemory(self.pages)))
    }
}

/// A disk that has read so often.
fn disk(reads: u64) -> DeviceStats {
    let latency = Histogram::default();
    (0..reads).for_each(|_| latency.record(100_000));
    let mut queue = QueueStats::default();
    queue.counters.insert("read_requests".into(), reads);
    queue.counters.insert("read_bytes".into(), reads * 4096);
    let latency = latency.snapshot();
    queue.histograms.insert("read_latency_ns".into(), latency);
    DeviceStats {
        kind: "vbd".into(),
        devid: 51712,
        name: "xvda".into(),
        state: "connected".into(),
        queues: vec![queue],
    }
}

struct FakeMemory(u64);

impl DumpSource for FakeMemory {
    fn xen_version(&self) -> XenVersion {
        XenVersion {
            major: 4,
            minor: 17,
            ..XenVersion::default()
        }
    }

    fn vcpu_contexts(&self) -> io::Result<Vec<Box<[u8; VCPU_CONTEXT_SIZE]>>> {
        Ok(vec![Box::new([0; VCPU_CONTEXT_SIZE])])
    }

    fn shared_info(&self) -> io::Result<Box<[u8; PAGE_SIZE]>> {
        Ok(Box::new([0; PAGE_SIZE]))
    }

    fn frames(&self) -> Vec<Frame> {
        (0..self.0).map(|pfn| Frame { pfn, gmfn: pfn }).collect()
    }

    fn read_page(&self, frame: Frame, page: &mut [u8; PAGE_SIZE]) -> io::Result<()> {
        page.fill(u8::from(frame.pfn == 1));
        Ok(())
    }
}
