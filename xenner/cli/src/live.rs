//! A domain as the control socket sees it: what it is, what it does, and the handles to act on it.

use std::fs::File;
use std::io::BufWriter;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::console::Console;
use crate::control::{Ended, Info};
use crate::devices::desk::Desk;
use crate::dumpcore;
use crate::machine::{Control, ControlError, RunState, ShutdownRequest, Stats};
use crate::rundir::{self, RunDir};
use crate::spec::{self, DomainSpec};

/// A domain shared by the threads that run it and those that serve it.
pub struct Live {
    /// Its console.
    pub console: Arc<Console>,
    console_text: String,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    spec: DomainSpec,
    control: Option<Arc<dyn Control>>,
    phase: Phase,
    started: (SystemTime, Instant),
    restarts: u32,
    /// Its run directory, until it is gone.
    rundir: Option<RunDir>,
    /// Somebody wants it gone: no restart, no preserving.
    stop: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Being built, or running.
    Active,
    /// Ended and kept for inspection.
    Kept(RunState),
    /// Gone.
    Over(Ended),
}

fn not_now() -> ControlError {
    ControlError("The domain is being started or ended just now; try again".into())
}

impl Live {
    /// A domain about to be built. `console_text` says in a few words where its console is.
    pub fn new(
        spec: DomainSpec,
        console: Arc<Console>,
        console_text: String,
        rundir: RunDir,
    ) -> Arc<Live> {
        Arc::new(Live {
            console,
            console_text,
            state: Mutex::new(State {
                spec,
                control: None,
                phase: Phase::Active,
                started: (SystemTime::now(), Instant::now()),
                restarts: 0,
                rundir: Some(rundir),
                stop: false,
            }),
            changed: Condvar::new(),
        })
    }

    /// Every change is a single assignment, so a poisoned lock still guards a sound state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine was built and is about to run. False if it should not.
    pub fn begin(&self, control: Arc<dyn Control>, restarts: u32) -> bool {
        let mut state = self.lock();
        state.control = Some(control);
        state.started = (SystemTime::now(), Instant::now());
        state.restarts = restarts;
        !state.stop
    }

    /// The machine has ended; the controls are gone.
    pub fn release(&self) {
        self.lock().control = None;
    }

    /// The ended machine is kept from now on; `word` says how it ended.
    pub fn keep(&self, run_state: RunState, word: &str) {
        let mut state = self.lock();
        state.phase = Phase::Kept(run_state);
        if let Some(rundir) = &state.rundir {
            // For those who watch the folder; who asks the socket is told anyway.
            let _ = rundir.write(rundir::ENDED, &format!("{word}\n"));
        }
    }

    /// Waits until somebody destroys it.
    pub fn await_stop(&self) {
        let mut state = self.lock();
        while !state.stop {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The domain and its run directory are gone.
    pub fn over(&self, reason: &str) {
        let mut state = self.lock();
        state.control = None;
        // Before anybody hears of it and takes the name.
        state.rundir = None;
        state.phase = Phase::Over(Ended {
            reason: reason.to_owned(),
        });
        self.changed.notify_all();
    }

    /// Waits for [`Live::over`].
    pub fn wait(&self) -> Ended {
        let mut state = self.lock();
        loop {
            if let Phase::Over(ended) = &state.phase {
                return ended.clone();
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether somebody wants it gone.
    pub fn stopping(&self) -> bool {
        self.lock().stop
    }

    /// Gives it another name, which must be free.
    pub fn rename(&self, name: &str) -> Result<(), ControlError> {
        let refused = |error: &dyn std::fmt::Display| ControlError(error.to_string());
        spec::check_name(name).map_err(|error| refused(&error))?;
        let mut state = self.lock();
        let rundir = state.rundir.as_mut().ok_or_else(not_now)?;
        rundir.rename(name).map_err(|error| refused(&error))?;
        state.spec.name = name.to_owned();
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.lock().spec.name.clone()
    }

    fn control(&self) -> Result<Arc<dyn Control>, ControlError> {
        self.lock().control.clone().ok_or_else(not_now)
    }

    /// The controls, if the guest can still act on what it is told.
    fn running(&self) -> Result<Arc<dyn Control>, ControlError> {
        let state = self.lock();
        match state.phase {
            Phase::Active => state.control.clone().ok_or_else(not_now),
            _ => {
                let message = "The domain has ended and is only kept for inspection; end it with xenner destroy";
                Err(ControlError(message.into()))
            }
        }
    }

    /// Stops the vCPUs.
    pub fn pause(&self) -> Result<(), ControlError> {
        self.running()?.pause()
    }

    /// Lets the vCPUs run again.
    pub fn unpause(&self) -> Result<(), ControlError> {
        self.running()?.unpause()
    }

    /// Asks the guest to shut down.
    pub fn request_shutdown(&self, reason: ShutdownRequest) -> Result<(), ControlError> {
        self.running()?.request_shutdown(reason)
    }

    /// Sends a SysRq key.
    pub fn sysrq(&self, key: char) -> Result<(), ControlError> {
        self.running()?.sysrq(key)
    }

    /// Ends the domain now, or as soon as it is built, and forbids any restart.
    pub fn destroy(&self) {
        let control = {
            let mut state = self.lock();
            state.stop = true;
            self.changed.notify_all();
            state.control.clone()
        };
        if let Some(control) = control {
            control.destroy();
        }
    }

    /// Asks the guest to shut down and forbids any restart after that. A domain that is only kept,
    /// or that can't be asked, is destroyed.
    pub fn stop(&self) {
        self.lock().stop = true;
        if self.request_shutdown(ShutdownRequest::Poweroff).is_err() {
            self.destroy();
        }
    }

    /// Its devices.
    pub fn desk(&self) -> Result<Arc<Desk>, ControlError> {
        let desk = self.running()?.desk();
        desk.ok_or_else(|| ControlError("This domain has no devices".into()))
    }

    /// The counters now.
    pub fn stats(&self) -> Result<Stats, ControlError> {
        let mut stats = self.control()?.stats();
        if let Phase::Kept(run_state) = self.lock().phase {
            stats.state = run_state;
        }
        Ok(stats)
    }

    /// The domain in a few words, unless it is gone.
    pub fn info(&self) -> Result<Info, ControlError> {
        let stats = self.stats().ok();
        let state = self.lock();
        let Some(rundir) = &state.rundir else {
            return Err(ControlError("The domain is gone".into()));
        };
        let (started, since) = state.started;
        let (memory, maxmem) = (state.spec.memory.pages(), state.spec.maxmem.pages());
        let pages_per_mib = 256;
        Ok(Info {
            name: state.spec.name.clone(),
            id: rundir.id(),
            uuid: state.spec.uuid,
            pid: std::process::id(),
            state: stats.as_ref().map(|stats| stats.state).unwrap_or_default(),
            memory_mib: stats.as_ref().map_or(memory, |stats| stats.memory_pages) / pages_per_mib,
            maxmem_mib: stats.as_ref().map_or(maxmem, |stats| stats.max_pages) / pages_per_mib,
            vcpus: stats.as_ref().map_or(state.spec.vcpus, |stats| {
                stats.vcpus.iter().filter(|vcpu| vcpu.online).count() as u32
            }),
            cpu_time_ns: stats.as_ref().map_or(0, Stats::cpu_time_ns),
            started: started
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            uptime: since.elapsed().as_secs(),
            restarts: state.restarts,
            kernel: state.spec.kernel.to_string(),
            console: self.console_text.clone(),
        })
    }

    /// Writes a core file to `file`, holding the domain still meanwhile.
    pub fn dump_core(&self, file: File) -> Result<dumpcore::Written, ControlError> {
        let control = self.control()?;
        let hold = self.stats()?.state;
        let pause = matches!(hold, RunState::Running | RunState::Blocked);
        if pause {
            control.pause()?;
        }
        let result = control.dump_source().and_then(|source| {
            let mut out = BufWriter::new(file);
            dumpcore::write(source.as_ref(), &mut out)
                .map_err(|error| ControlError(format!("Cannot write the core file: {error}")))
        });
        if pause {
            control.unpause()?;
        }
        result
    }
}
