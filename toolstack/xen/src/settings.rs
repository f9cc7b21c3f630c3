//! What a configuration sets of a new domain that is not how it is built: where its virtual CPUs run,
//! what share of the processors they get, and what its time stamp counter is. All of it is in libxl's
//! terms, and done where libxl does it.

use xen_sys::DomId;
use xt_config::libxl::{Bitmap, BuildInfo, DomainConfig, SchedParams, TscMode, Tuning};
use xt_host::{CpuSet, Credit2Change, HostError, Result};
use xt_host_xen::domctl::Tsc;

use crate::{XenHost, failed};

impl XenHost {
    /// Applies them to a domain that has its virtual CPUs, and does not run yet.
    pub(crate) fn apply_settings(&self, domid: DomId, config: &DomainConfig) -> Result<()> {
        let info = &config.b_info;
        self.set_affinities(domid, info)?;
        self.set_shares(domid, &info.sched_params)?;
        self.set_tsc(domid, info.tsc_mode)
    }

    /// `cpus`, `cpus_soft`: a list may be shorter than there are virtual CPUs.
    fn set_affinities(&self, domid: DomId, info: &BuildInfo) -> Result<()> {
        let (hard, soft) = (&info.vcpu_hard_affinity, &info.vcpu_soft_affinity);
        let set = |map: &Bitmap| CpuSet(map.0.clone());
        for vcpu in 0..hard.len().max(soft.len()) {
            let (hard, soft) = (hard.get(vcpu).map(set), soft.get(vcpu).map(set));
            self.pin_vcpu(domid, vcpu as u32, hard.as_ref(), soft.as_ref())?;
        }
        Ok(())
    }

    /// `cpu_weight`, `cap`.
    fn set_shares(&self, domid: DomId, params: &SchedParams) -> Result<()> {
        let number = |tuning: Tuning| tuning.get().and_then(|number| u32::try_from(number).ok());
        let change = Credit2Change {
            weight: number(params.weight),
            cap: number(params.cap),
        };
        match change == Credit2Change::default() {
            true => Ok(()),
            false => self.change_credit2(domid, change),
        }
    }

    /// `tsc_mode`
    fn set_tsc(&self, domid: DomId, mode: TscMode) -> Result<()> {
        let mode = match mode {
            TscMode::Default => return Ok(()),
            TscMode::AlwaysEmulate => 1,
            TscMode::Native => 2,
            TscMode::NativeParavirt => {
                let message = "tsc_mode: native_paravirt has gone from Xen; use native.";
                return Err(HostError::Config(message.into()));
            }
        };
        let tsc = Tsc {
            mode,
            ..Tsc::default()
        };
        self.control
            .set_tsc(domid, tsc)
            .map_err(failed("Xen refuses the time stamp counter's mode"))
    }
}
