//! CPUID overrides: `cpuid = "host,…"` and `cpuid = [ "leaf:reg=…" ]`.
//!
//! Fact: `xl.cfg(5)`. Both notations say for single bits what the guest shall see:
//! `1` and `0` force the bit, `x` is the default policy, `k` (or `s`) the bit of the host. What the
//! default policy is, is the hypervisor's business; so a spec is a list of changes to it.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::cpuid_features::{ALIASES, ARCH_CAPS, FEATURES, Register};
use crate::diagnostic::{SpecError, nearest, quote};
use crate::libxl::{self, CpuPolicy, Unset32};

/// A register that CPUID fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CpuidRegister {
    /// EAX
    Eax,
    /// EBX
    Ebx,
    /// ECX
    Ecx,
    /// EDX
    Edx,
}

/// What to do with the bits of a register. A bit in none of the masks keeps its default; it is
/// never in two of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BitChanges {
    /// Bits that are 1.
    pub one: u64,
    /// Bits that are 0.
    pub zero: u64,
    /// Bits that are as on the host.
    pub host: u64,
    /// Of those, the bits that stay so when the guest migrates to another host.
    #[serde(default, skip_serializing_if = "none")]
    pub keep: u64,
}

impl BitChanges {
    /// The value that the guest sees, from that of the default policy and that of the host.
    pub fn apply(self, default: u64, host: u64) -> u64 {
        let kept = default & !(self.one | self.zero | self.host);
        kept | self.one | (host & self.host)
    }

    /// libxl's notation of the lower `bits` bits: a character each, the highest first. `None` where
    /// nothing changes.
    pub fn notation(self, bits: u32) -> Option<String> {
        let letter = |bit: u32| match 1u64.checked_shl(bit).unwrap_or(0) {
            mask if self.one & mask != 0 => '1',
            mask if self.zero & mask != 0 => '0',
            mask if self.keep & mask != 0 => 's',
            mask if self.host & mask != 0 => 'k',
            _ => 'x',
        };
        (self != BitChanges::default()).then(|| (0..bits).rev().map(letter).collect())
    }

    /// The reverse of [`BitChanges::notation`].
    pub fn from_notation(text: &str, bits: u32) -> Option<Self> {
        let policies: Vec<BitPolicy> = text.chars().map(bit_policy).collect::<Option<_>>()?;
        let mut changes = BitChanges::default();
        for (bit, policy) in (0..bits).rev().zip(&policies) {
            changes.set(bit, *policy);
        }
        (u32::try_from(policies.len()) == Ok(bits)).then_some(changes)
    }

    /// [`BitChanges::apply`] for a register of CPUID, in the lower half.
    pub fn apply32(self, default: u32, host: u32) -> u32 {
        // The upper half of the inputs is 0; masks of CPUID registers have none either.
        (self.apply(default.into(), host.into()) & u64::from(u32::MAX)) as u32
    }

    fn set(&mut self, bit: u32, policy: BitPolicy) {
        let mask = 1u64.checked_shl(bit).unwrap_or(0);
        for field in [
            &mut self.one,
            &mut self.zero,
            &mut self.host,
            &mut self.keep,
        ] {
            *field &= !mask;
        }
        match policy {
            BitPolicy::One => self.one |= mask,
            BitPolicy::Zero => self.zero |= mask,
            BitPolicy::Host => self.host |= mask,
            BitPolicy::Keep => {
                self.host |= mask;
                self.keep |= mask;
            }
            BitPolicy::Default => {}
        }
    }

    fn set_field(&mut self, field: &Range<u32>, value: u32) {
        for bit in field.clone() {
            let one = value.checked_shr(bit - field.start).unwrap_or(0) & 1 == 1;
            self.set(bit, if one { BitPolicy::One } else { BitPolicy::Zero });
        }
    }
}

/// For serde.
fn none(mask: &u64) -> bool {
    *mask == 0
}

#[derive(Clone, Copy)]
enum BitPolicy {
    One,
    Zero,
    Host,
    Keep,
    Default,
}

fn bit_policy(c: char) -> Option<BitPolicy> {
    match c {
        '1' => Some(BitPolicy::One),
        '0' => Some(BitPolicy::Zero),
        'k' => Some(BitPolicy::Host),
        's' => Some(BitPolicy::Keep),
        'x' => Some(BitPolicy::Default),
        _ => None,
    }
}

/// Changes to one leaf of CPUID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuidLeaf {
    /// EAX on entry.
    pub leaf: u32,
    /// ECX on entry; `None` where it does not matter.
    pub subleaf: Option<u32>,
    /// Changes to EAX.
    pub eax: BitChanges,
    /// Changes to EBX.
    pub ebx: BitChanges,
    /// Changes to ECX.
    pub ecx: BitChanges,
    /// Changes to EDX.
    pub edx: BitChanges,
}

impl CpuidLeaf {
    fn register(&mut self, register: CpuidRegister) -> &mut BitChanges {
        match register {
            CpuidRegister::Eax => &mut self.eax,
            CpuidRegister::Ebx => &mut self.ebx,
            CpuidRegister::Ecx => &mut self.ecx,
            CpuidRegister::Edx => &mut self.edx,
        }
    }
}

/// Changes to one model-specific register that tells of features.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MsrChanges {
    /// Index of the MSR.
    pub index: u32,
    /// Its bits.
    pub bits: BitChanges,
}

/// All changes to the default CPU policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuidSpec {
    /// Leaves, in the order in which they were named first.
    pub leaves: Vec<CpuidLeaf>,
    /// MSRs, likewise.
    pub msrs: Vec<MsrChanges>,
}

/// Keys of the libxl notation that take a number, with their bits. `family` and `model` are split
/// over two fields each.
const NUMERIC: &[(&str, Register, Range<u32>)] = &[
    (
        "maxleaf",
        Register {
            leaf: 0,
            subleaf: None,
            register: CpuidRegister::Eax,
        },
        0..32,
    ),
    ("stepping", FAMILY, 0..4),
    ("brandid", PACKAGE, 0..8),
    ("clflush", PACKAGE, 8..16),
    ("proccount", PACKAGE, 16..24),
    ("localapicid", PACKAGE, 24..32),
    (
        "procpkg",
        Register {
            leaf: 4,
            subleaf: Some(0),
            register: CpuidRegister::Eax,
        },
        26..32,
    ),
    (
        "maxhvleaf",
        Register {
            leaf: 0x4000_0000,
            subleaf: None,
            register: CpuidRegister::Eax,
        },
        0..8,
    ),
    ("nc", SIZES, 0..8),
    ("apicidsize", SIZES, 12..16),
];
const FAMILY: Register = Register {
    leaf: 1,
    subleaf: None,
    register: CpuidRegister::Eax,
};
const PACKAGE: Register = Register {
    leaf: 1,
    subleaf: None,
    register: CpuidRegister::Ebx,
};
const SIZES: Register = Register {
    leaf: 0x8000_0008,
    subleaf: None,
    register: CpuidRegister::Ecx,
};

impl From<&CpuidSpec> for CpuPolicy {
    fn from(spec: &CpuidSpec) -> Self {
        let leaf = |leaf: &CpuidLeaf| libxl::CpuidLeaf {
            leaf: leaf.leaf,
            subleaf: leaf.subleaf.map(Unset32).unwrap_or_default(),
            eax: leaf.eax.notation(32),
            ebx: leaf.ebx.notation(32),
            ecx: leaf.ecx.notation(32),
            edx: leaf.edx.notation(32),
        };
        let msr = |msr: &MsrChanges| libxl::Msr {
            index: msr.index,
            policy: msr.bits.notation(64),
        };
        CpuPolicy {
            cpuid: spec.leaves.iter().map(leaf).collect(),
            msr: spec.msrs.iter().map(msr).collect(),
        }
    }
}

impl CpuidSpec {
    /// Parses the libxl notation, `host,tm=0,sse3=0`.
    ///
    /// # Errors
    /// The first word is not `host`, a name is unknown, or a value is none.
    pub fn parse_libxl(text: &str) -> Result<Self, SpecError> {
        let mut spec = CpuidSpec::default();
        let mut position = 0;
        for (index, item) in text.split(',').enumerate() {
            let range = position..position + item.len();
            position = range.end + 1;
            match (index, item) {
                (0, "host") | (_, "") => {}
                (0, _) => {
                    return Err(SpecError::new(range, "The first word must be host.")
                        .help("Write cpuid = \"host,name=0,…\""));
                }
                _ => spec.set_named(item, range)?,
            }
        }
        Ok(spec)
    }

    /// Adds a line of xend's notation, `leaf[,subleaf]:reg=BITS[,reg=BITS…]` with 32 characters
    /// each, bit 31 first.
    ///
    /// # Errors
    /// The line has another form.
    pub fn add_xend(&mut self, text: &str) -> Result<(), SpecError> {
        let Some((place, registers)) = text.split_once(':') else {
            return Err(
                SpecError::new(0..text.len(), "There is no colon after the leaf.")
                    .help("Write \"leaf:eax=…\" or \"leaf,subleaf:eax=…\"."),
            );
        };
        let (leaf, subleaf) = match place.split_once(',') {
            Some((leaf, subleaf)) => (leaf, Some(subleaf)),
            None => (place, None),
        };
        let leaf_number = unsigned(leaf, 0)?;
        let subleaf = subleaf
            .map(|subleaf| unsigned(subleaf, leaf.len() + 1))
            .transpose()?;
        let mut position = place.len() + 1;
        for item in registers.split(',') {
            let (register, bits) = xend_register(item, position)?;
            let changes = self.register(Register {
                leaf: leaf_number,
                subleaf,
                register,
            });
            for (bit, policy) in (0..32).rev().zip(bits) {
                changes.set(bit, policy);
            }
            position += item.len() + 1;
        }
        Ok(())
    }

    fn register(
        &mut self,
        Register {
            leaf,
            subleaf,
            register,
        }: Register,
    ) -> &mut BitChanges {
        let known = self
            .leaves
            .iter()
            .position(|l| (l.leaf, l.subleaf) == (leaf, subleaf));
        let index = known.unwrap_or(self.leaves.len());
        if known.is_none() {
            let none = BitChanges::default();
            self.leaves.push(CpuidLeaf {
                leaf,
                subleaf,
                eax: none,
                ebx: none,
                ecx: none,
                edx: none,
            });
        }
        self.leaves[index].register(register)
    }

    fn msr(&mut self, index: u32) -> &mut BitChanges {
        let known = self.msrs.iter().position(|msr| msr.index == index);
        let position = known.unwrap_or(self.msrs.len());
        if known.is_none() {
            self.msrs.push(MsrChanges {
                index,
                bits: BitChanges::default(),
            });
        }
        &mut self.msrs[position].bits
    }

    /// One `name=value` of the libxl notation.
    fn set_named(&mut self, item: &str, range: Range<usize>) -> Result<(), SpecError> {
        let Some((name, value)) = item.split_once('=') else {
            return Err(
                SpecError::new(range, format!("{} has no value.", quote(item)))
                    .help("Write name=0, name=1, name=x or name=k."),
            );
        };
        let value_range = range.start + name.len() + 1..range.end;
        if let Some((_, place, bits)) = NUMERIC.iter().find(|n| n.0 == name) {
            let largest = u32::MAX.checked_shr(32 - bits.len() as u32).unwrap_or(0);
            let value = limited(name, value, largest, value_range)?;
            self.register(*place).set_field(bits, value);
            return Ok(());
        }
        match name {
            "family" => {
                let family = limited(name, value, 15 + 255, value_range)?;
                let eax = self.register(FAMILY);
                eax.set_field(&(8..12), family.min(15));
                eax.set_field(&(20..28), family.saturating_sub(15));
            }
            "model" => {
                let model = limited(name, value, 255, value_range)?;
                let eax = self.register(FAMILY);
                eax.set_field(&(4..8), model & 15);
                eax.set_field(&(16..20), model >> 4);
            }
            _ => {
                let (changes, bit) = self.feature(name, range)?;
                let mut characters = value.chars();
                match (characters.next().and_then(bit_policy), characters.next()) {
                    (Some(policy), None) => changes.set(bit, policy),
                    _ => {
                        let message = format!("{} is no value for {name}.", quote(value));
                        return Err(SpecError::new(value_range, message).help(POLICIES));
                    }
                }
            }
        }
        Ok(())
    }

    /// The register and the bit of a feature.
    fn feature(
        &mut self,
        name: &str,
        range: Range<usize>,
    ) -> Result<(&mut BitChanges, u32), SpecError> {
        let aliases = || {
            ALIASES
                .split_whitespace()
                .filter_map(|alias| alias.split_once('='))
        };
        let wanted = aliases()
            .find(|(old, _)| *old == name)
            .map_or(name, |(_, new)| new);
        for (place, names) in FEATURES {
            if let Some(bit) = bit_of(names, wanted) {
                return Ok((self.register(*place), bit));
            }
        }
        let (index, names) = ARCH_CAPS;
        if let Some(bit) = bit_of(names, wanted) {
            return Ok((self.msr(index), bit));
        }
        let known = FEATURES.iter().map(|(_, names)| *names).chain([names]);
        let known = known
            .flat_map(str::split_whitespace)
            .filter(|name| *name != "-");
        let numeric = NUMERIC.iter().map(|n| n.0).chain(["family", "model"]);
        let all = known.chain(numeric).chain(aliases().map(|(old, _)| old));
        let help = nearest(name, all).map_or_else(
            || "Names are those of arch-x86/cpufeatureset.h, lower case, with - for _.".into(),
            |near| format!("Did you mean {near}?"),
        );
        let range = range.start..range.start + name.len();
        Err(SpecError::new(range, format!("There is no CPU feature {}.", quote(name))).help(help))
    }
}

const POLICIES: &str = "1 and 0 force the bit, x leaves the default, k takes the host's.";

fn bit_of(names: &str, wanted: &str) -> Option<u32> {
    let index = names
        .split_whitespace()
        .position(|name| name == wanted && name != "-")?;
    u32::try_from(index).ok()
}

fn unsigned(text: &str, position: usize) -> Result<u32, SpecError> {
    let number = crate::document::integer(text).and_then(|n| u32::try_from(n).ok());
    number.ok_or_else(|| {
        let range = position..position + text.len();
        SpecError::new(
            range,
            format!("{} is no number of a leaf or subleaf.", quote(text)),
        )
        .help("Write a decimal or 0x hexadecimal number of 32 bits.")
    })
}

fn limited(name: &str, text: &str, largest: u32, range: Range<usize>) -> Result<u32, SpecError> {
    let number = crate::document::integer(text).and_then(|n| u32::try_from(n).ok());
    number.filter(|n| *n <= largest).ok_or_else(|| {
        SpecError::new(range, format!("{} is no value for {name}.", quote(text)))
            .help(format!("{name} takes a number from 0 to {largest}."))
    })
}

/// `eax=` and 32 characters.
fn xend_register(
    item: &str,
    position: usize,
) -> Result<(CpuidRegister, Vec<BitPolicy>), SpecError> {
    let (name, bits) = item.split_once('=').unwrap_or((item, ""));
    let register = match name {
        "eax" => CpuidRegister::Eax,
        "ebx" => CpuidRegister::Ebx,
        "ecx" => CpuidRegister::Ecx,
        "edx" => CpuidRegister::Edx,
        _ => {
            let range = position..position + name.len();
            let message = format!("{} is no register.", quote(name));
            return Err(SpecError::new(range, message).help("Known: eax, ebx, ecx, edx."));
        }
    };
    let policies: Option<Vec<BitPolicy>> = bits.chars().map(bit_policy).collect();
    match policies {
        Some(policies) if policies.len() == 32 => Ok((register, policies)),
        _ => {
            let start = (position + name.len() + 1).min(position + item.len());
            let message = format!("{name} wants exactly 32 characters 1, 0, x or k.");
            Err(SpecError::new(start..position + item.len(), message).help(POLICIES))
        }
    }
}

impl fmt::Display for CpuidRegister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CpuidRegister::Eax => "eax",
            CpuidRegister::Ebx => "ebx",
            CpuidRegister::Ecx => "ecx",
            CpuidRegister::Edx => "edx",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As xl prints it: bit 31 first, forced bits `0` and `1`, the host's `k`, the others `x`.
    fn bits(changes: &BitChanges) -> String {
        let character = |bit: u32| match (
            changes.one >> bit & 1,
            changes.zero >> bit & 1,
            changes.host >> bit & 1,
        ) {
            (1, 0, 0) => '1',
            (0, 1, 0) => '0',
            (0, 0, 1) => 'k',
            (0, 0, 0) => 'x',
            _ => panic!("bit {bit} in two masks"),
        };
        (0..32).rev().map(character).collect()
    }

    fn libxl(text: &str) -> CpuidSpec {
        CpuidSpec::parse_libxl(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// One leaf with one changed register. Expected values in the tests: `xl create -n` of 4.17.
    fn one(text: &str, leaf: u32, subleaf: Option<u32>, register: CpuidRegister, expected: &str) {
        let mut spec = libxl(text);
        assert_eq!(spec.leaves.len(), 1, "{text}");
        assert_eq!(
            (spec.leaves[0].leaf, spec.leaves[0].subleaf),
            (leaf, subleaf),
            "{text}"
        );
        assert_eq!(bits(spec.leaves[0].register(register)), expected, "{text}");
    }

    #[test]
    fn both_notations_of_the_man_page_agree() {
        let mut xend = CpuidSpec::default();
        xend.add_xend(
            "1:ecx=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx0,edx=xx0xxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        )
        .unwrap();
        assert_eq!(libxl("host,tm=0,sse3=0"), xend);
        assert_eq!(
            xend.leaves[0].edx,
            BitChanges {
                zero: 1 << 29,
                ..BitChanges::default()
            }
        );
    }

    #[test]
    fn flags() {
        use CpuidRegister::*;
        one(
            "host,lahf-lm=0",
            0x8000_0001,
            None,
            Ecx,
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx0",
        );
        one(
            "host,clfsh=0",
            1,
            None,
            Edx,
            "xxxxxxxxxxxx0xxxxxxxxxxxxxxxxxxx",
        );
        one(
            "host,arch-caps=1",
            7,
            Some(0),
            Edx,
            "xx1xxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        );
        one(
            "host,arat=1",
            6,
            None,
            Eax,
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxx1xx",
        );
        one(
            "host,invtsc=1",
            0x8000_0007,
            None,
            Edx,
            "xxxxxxxxxxxxxxxxxxxxxxx1xxxxxxxx",
        );
        one(
            "host,sse4.1=0,sse4-1=k",
            1,
            None,
            Ecx,
            "xxxxxxxxxxxxkxxxxxxxxxxxxxxxxxxx",
        );
        one(
            "host,sse3=k,avx=s",
            1,
            None,
            Ecx,
            "xxxkxxxxxxxxxxxxxxxxxxxxxxxxxxxk",
        );
        one(
            "host,tm=0,tm=x",
            1,
            None,
            Edx,
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        );
        one(
            "host,pcid=0,hypervisor=1,x2apic=0,vmx=0",
            1,
            None,
            Ecx,
            "1xxxxxxxxx0xxx0xxxxxxxxxxx0xxxxx",
        );
    }

    #[test]
    fn features_of_an_msr() {
        let spec = libxl("host,rdcl-no=1,fb-clear=1,its-no=0");
        let changes = BitChanges {
            one: 1 | 1 << 17,
            zero: 1 << 62,
            host: 0,
            keep: 0,
        };
        assert_eq!(
            spec.msrs,
            [MsrChanges {
                index: 0x10a,
                bits: changes
            }]
        );
    }

    #[test]
    fn numbers() {
        use CpuidRegister::*;
        one(
            "host,family=6,model=15,stepping=3",
            1,
            None,
            Eax,
            "xxxx000000000000xxxx011011110011",
        );
        one(
            "host,family=0x17,model=0x31",
            1,
            None,
            Eax,
            "xxxx000010000011xxxx11110001xxxx",
        );
        one(
            "host,maxleaf=0xd",
            0,
            None,
            Eax,
            "00000000000000000000000000001101",
        );
        one(
            "host,maxhvleaf=1",
            0x4000_0000,
            None,
            Eax,
            "xxxxxxxxxxxxxxxxxxxxxxxx00000001",
        );
        one(
            "host,nc=4",
            0x8000_0008,
            None,
            Ecx,
            "xxxxxxxxxxxxxxxxxxxxxxxx00000100",
        );
        one(
            "host,apicidsize=3",
            0x8000_0008,
            None,
            Ecx,
            "xxxxxxxxxxxxxxxx0011xxxxxxxxxxxx",
        );
        one(
            "host,proccount=4",
            1,
            None,
            Ebx,
            "xxxxxxxx00000100xxxxxxxxxxxxxxxx",
        );
        one(
            "host,procpkg=4",
            4,
            Some(0),
            Eax,
            "000100xxxxxxxxxxxxxxxxxxxxxxxxxx",
        );
        one(
            "host,brandid=2,clflush=8,localapicid=1",
            1,
            None,
            Ebx,
            "00000001xxxxxxxx0000100000000010",
        );
    }

    #[test]
    fn every_name_has_one_bit() {
        let mut seen = std::collections::BTreeSet::new();
        for (place, names) in FEATURES {
            assert!(names.split_whitespace().count() <= 32, "{place:?}");
            for name in names.split_whitespace().filter(|name| *name != "-") {
                assert!(seen.insert(name), "{name}");
                assert!(NUMERIC.iter().all(|n| n.0 != name), "{name}");
            }
        }
        for alias in ALIASES.split_whitespace() {
            let (old, new) = alias.split_once('=').unwrap();
            assert!(seen.contains(new) && !seen.contains(old), "{alias}");
        }
    }

    #[test]
    fn nothing_to_change() {
        for text in ["", "host", "host,"] {
            assert_eq!(libxl(text), CpuidSpec::default(), "{text}");
        }
    }

    #[test]
    fn apply() {
        let changes = BitChanges {
            one: 0b0001,
            zero: 0b0010,
            host: 0b1100,
            keep: 0,
        };
        assert_eq!(changes.apply32(0b1_0110, 0b0_1000), 0b1_1001);
    }

    #[test]
    fn refused_with_the_place() {
        for (text, at, help) in [
            ("tm=0", "tm=0", "Write cpuid"),
            ("host,tm", "tm", "Write name=0"),
            ("host,sse3=0,tm=2", "2", "1 and 0"),
            ("host,tm=", "", "1 and 0"),
            ("host,tm=11", "11", "1 and 0"),
            ("host,foo=1", "foo", "Names are"),
            ("host,-=1", "-", "Names are"),
            ("host,lahf_lm=0", "lahf_lm", "Did you mean lahf-lm?"),
            ("host, tm=0", " tm", "Did you mean"),
            ("host,family=x", "x", "family takes"),
            (
                "host,stepping=16",
                "16",
                "stepping takes a number from 0 to 15.",
            ),
        ] {
            let error = CpuidSpec::parse_libxl(text).expect_err(text);
            assert_eq!(&text[error.range.clone()], at, "{text}");
            assert!(
                error.help.as_ref().is_some_and(|h| h.starts_with(help)),
                "{text}: {error:?}"
            );
        }
    }

    #[test]
    fn refused_lines_of_xend() {
        let all = "x".repeat(32);
        for (text, at) in [
            ("1".to_owned(), "1"),
            ("x:ecx=".to_owned() + &all, "x"),
            ("7,:ebx=".to_owned() + &all, ""),
            ("1,2,3:eax=".to_owned() + &all, "2,3"),
            ("-1:eax=".to_owned() + &all, "-1"),
            ("1:".to_owned(), ""),
            (format!("1:eax={all},ECX={all}"), "ECX"),
            ("1:ecx=xx".to_owned(), "xx"),
            (format!("1:ecx={all}x"), &("x".repeat(33))),
            (
                format!("1:ecx={}z", &all[1..]),
                &(all[1..].to_owned() + "z"),
            ),
            ("1:ecx".to_owned(), ""),
        ] {
            let error = CpuidSpec::default().add_xend(&text).expect_err(&text);
            assert_eq!(&text[error.range.clone()], at, "{text}");
        }
    }
}
