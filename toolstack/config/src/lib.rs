//! The xl.cfg guest configuration format, as `xl` reads it.
//!
//! Four layers, each usable alone:
//!
//! 1. [`parse`] turns text into a [`Document`]: keys with located values, nothing interpreted. The
//!    grammar is the one libxlutil accepts, see [`document`].
//! 2. The `key` table ([`keys`]) says which names `xl` knows, so that a misspelt key is an error
//!    and a known one that the caller does not act on is a warning.
//! 3. [`DomainSpec::from_document`] gives the values types, ranges and defaults. Disk, network and
//!    CPUID strings have parsers of their own: [`disk`], [`vif`], [`cpuid`].
//! 4. [`libxl::DomainConfig::from_document`] reads every key into libxl's own structures, whose JSON
//!    is what `xl create -n` prints and what libxl keeps of a running domain, see [`domain`].
//!
//! What becomes of each key on each kind of host is told by one table, [`effect`].
//!
//! Where `xl` prints a warning and then ignores a value it cannot use (`memory="64k"` starts a
//! guest of 32 MiB), this crate refuses the file: a guest other than the one asked for helps
//! nobody. Every complaint names file, line and column and is collected, not only the first.
//!
//! ```
//! let text = "name = 'web'\nkernel = '/boot/vmlinuz'\nmemory = 256\n";
//! let document = xt_config::parse(text, "web.cfg").unwrap();
//! let spec = xt_config::DomainSpec::from_document(&document, xt_config::keys::SPEC_KEYS).unwrap();
//! assert_eq!(spec.value.memory_mib, 256);
//! ```
//!
//! Sources of fact: `xl.cfg(5)`, `xl-disk-configuration(5)`, `xl-network-configuration(5)`,
//! `xen-vbd-interface(7)`, and what `xl create -n` of Xen 4.17 answers.
#![forbid(unsafe_code)]

pub mod cpuid;
mod cpuid_features;
pub mod diagnostic;
pub mod disk;
pub mod document;
pub mod domain;
pub mod effect;
mod from_libxl;
mod hvm_spec;
pub mod keys;
mod lexer;
pub mod libxl;
mod parser;
mod reader;
pub mod spec;
pub mod vdev;
pub mod vif;

pub use diagnostic::{ConfigErrors, Diagnostic, Location, Severity, SpecError};
pub use document::{Document, Located, Span, Value, parse, parse_with_overrides};
pub use hvm_spec::{HVM_KEYS, HvmSpec};
pub use spec::{Action, Checked, DomainSpec, DomainType, EventActions};
