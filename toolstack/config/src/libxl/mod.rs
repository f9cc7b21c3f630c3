//! A domain's configuration in libxl's terms: the same structures, names, defaults and JSON.
//!
//! [`DomainConfig`] is what [`crate::domain`] makes of an xl.cfg, what `xl create -n` prints, and
//! what libxl keeps of each running domain under `/var/lib/xen`. A domain that `xl` created is read
//! with [`DomainConfig::from_json`], and `xl` reads what [`DomainConfig::to_json`] writes.
//!
//! Every field is there with libxl's initial value. Where libxl would choose, the field says so:
//! [`Defbool`], [`MemKb::UNSET`], an `Unknown`. Choosing is the toolstack's business.
//!
//! Source of fact: the public header `_libxl_types.h` of Xen 4.17 (names, order, types), for later
//! fields `libxl_types.idl` of the release; the JSON is what Xen 4.17 prints.

mod choice;
mod cpu;
mod device;
mod domain;
mod hvm;
mod json;
mod scalar;
mod sound;

pub use choice::*;
pub use cpu::{CpuPolicy, CpuidLeaf, Msr};
pub use device::*;
pub use domain::*;
pub use hvm::*;
pub use json::{Listing, to_string};
pub use scalar::{Bitmap, Defbool, DevId, Field, Genid, Gfn, MemKb, Tuning, Unset32};
pub use sound::{Vsnd, VsndParams, VsndPcm, VsndStream};
