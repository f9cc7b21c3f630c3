//! Changes to the CPU policy, as libxl keeps them.

use serde::{Deserialize, Deserializer, Serialize};

use crate::libxl::scalar::{Field, Unset32};

/// Changes to the CPU policy. libxl before 4.17.3 (and 4.18) has a list of leaves only; that form
/// is read, too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CpuPolicy {
    /// Leaves of CPUID.
    pub cpuid: Vec<CpuidLeaf>,
    /// MSRs that tell of features.
    pub msr: Vec<Msr>,
}

/// One leaf of CPUID. Each string has 32 characters, bit 31 first: `1`, `0`, `x` (default),
/// `k` (host), `s` (host, and the same after a migration).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuidLeaf {
    /// EAX on entry.
    pub leaf: u32,
    /// ECX on entry; not set where it does not matter.
    #[serde(default, skip_serializing_if = "Field::is_default")]
    pub subleaf: Unset32,
    /// EAX.
    #[serde(default, skip_serializing_if = "Field::is_default")]
    pub eax: Option<String>,
    /// EBX.
    #[serde(default, skip_serializing_if = "Field::is_default")]
    pub ebx: Option<String>,
    /// ECX.
    #[serde(default, skip_serializing_if = "Field::is_default")]
    pub ecx: Option<String>,
    /// EDX.
    #[serde(default, skip_serializing_if = "Field::is_default")]
    pub edx: Option<String>,
}

/// An MSR that tells of features.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Msr {
    /// Its index.
    pub index: u32,
    /// As the strings of [`CpuidLeaf`], with 64 characters.
    pub policy: Option<String>,
}

impl Field for CpuPolicy {
    fn is_default(&self) -> bool {
        self.cpuid.is_empty() && self.msr.is_empty()
    }
}

impl<'de> Deserialize<'de> for CpuPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Both {
                #[serde(default)]
                cpuid: Vec<CpuidLeaf>,
                #[serde(default)]
                msr: Vec<Msr>,
            },
            Leaves(Vec<CpuidLeaf>),
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Both { cpuid, msr } => CpuPolicy { cpuid, msr },
            Form::Leaves(cpuid) => CpuPolicy {
                cpuid,
                msr: Vec::new(),
            },
        })
    }
}
