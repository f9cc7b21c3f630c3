//! The small types of libxl's structures: each has the default that libxl's own `_init` functions
//! give it, and the JSON form of libxl.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What can stand in a structure of libxl.
///
/// libxl writes a structure always, even an empty one, and everything else only where it is not as
/// libxl initialises it.
pub trait Field {
    /// Whether libxl leaves it out of its JSON.
    fn is_default(&self) -> bool;
}

/// Types that are left out when they are equal to their `Default`.
macro_rules! plain_fields {
    ($($ty:ty),* $(,)?) => {
        $(impl $crate::libxl::Field for $ty {
            fn is_default(&self) -> bool {
                *self == <$ty>::default()
            }
        })*
    };
}
pub(crate) use plain_fields;

plain_fields!(
    bool, u8, u32, u64, i32, Defbool, MemKb, DevId, Unset32, Tuning, Gfn, Genid, Bitmap
);

impl<T> Field for Option<T> {
    fn is_default(&self) -> bool {
        self.is_none()
    }
}

impl<T> Field for Vec<T> {
    fn is_default(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Field for BTreeMap<K, V> {
    fn is_default(&self) -> bool {
        self.is_empty()
    }
}

/// `libxl_defbool`: yes, no, or what libxl thinks best (`None`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defbool(pub Option<bool>);

impl From<bool> for Defbool {
    fn from(value: bool) -> Self {
        Defbool(Some(value))
    }
}

impl Defbool {
    /// The value, or `default` where libxl has the choice.
    pub fn unwrap_or(self, default: bool) -> bool {
        self.0.unwrap_or(default)
    }
}

impl fmt::Display for Defbool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            None => "<default>",
            Some(true) => "True",
            Some(false) => "False",
        })
    }
}

impl Serialize for Defbool {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Defbool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "<default>" => Ok(Defbool(None)),
            "True" => Ok(Defbool(Some(true))),
            "False" => Ok(Defbool(Some(false))),
            other => Err(D::Error::invalid_value(
                Unexpected::Str(other),
                &"\"True\", \"False\" or \"<default>\"",
            )),
        }
    }
}

/// Numbers with a value that stands for "not set", and that value.
macro_rules! numbers {
    ($($(#[$meta:meta])* $name:ident($ty:ty) = $unset:expr;)*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
            #[serde(transparent)]
            pub struct $name(pub $ty);

            impl $name {
                /// libxl's initial value: it decides itself.
                pub const UNSET: $name = $name($unset);

                /// The number, if one is set.
                pub fn get(self) -> Option<$ty> {
                    (self != Self::UNSET).then_some(self.0)
                }
            }

            impl Default for $name {
                fn default() -> Self {
                    Self::UNSET
                }
            }
        )*
    };
}

numbers! {
    /// An amount of memory in KiB.
    MemKb(u64) = u64::MAX;
    /// Number of a device among those of its kind.
    DevId(i32) = -1;
    /// A number of 32 bits, all of them set where there is none.
    Unset32(u32) = u32::MAX;
    /// A parameter of a scheduler.
    Tuning(i32) = -1;
    /// A guest frame number.
    Gfn(u64) = u64::MAX;
}

/// `libxl_ms_vm_genid`: 128 random bits that tell Windows of a new life. All zero is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Genid(pub [u8; 16]);

/// `libxl_bitmap`: a set of small numbers (CPUs, NUMA nodes, options).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bitmap(pub BTreeSet<u32>);

impl Bitmap {
    /// The numbers below `count`.
    pub fn below(count: u32) -> Self {
        Bitmap((0..count).collect())
    }
}

impl FromIterator<u32> for Bitmap {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        Bitmap(numbers.into_iter().collect())
    }
}

/// Defines enumerations with the names that libxl gives their values.
///
/// The first value is the default. Reading ignores case, as libxl does.
macro_rules! enumerations {
    ($($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $value:ident = $text:literal,)* })*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
            pub enum $name {
                $($(#[$vmeta])* $value,)*
            }

            impl Default for $name {
                fn default() -> Self {
                    Self::NAMES[0].1
                }
            }

            impl $name {
                /// Every value with libxl's name for it.
                pub const NAMES: &'static [(&'static str, $name)] = &[$(($text, $name::$value)),*];

                /// libxl's name for it.
                pub fn name(self) -> &'static str {
                    match self {
                        $($name::$value => $text,)*
                    }
                }

                /// The value called `name`, in any case.
                pub fn from_name(name: &str) -> Option<Self> {
                    let found = Self::NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                    found.map(|(_, value)| *value)
                }
            }

            impl std::fmt::Display for $name {
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str(self.name())
                }
            }

            impl serde::Serialize for $name {
                fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.serialize_str(self.name())
                }
            }

            impl<'de> serde::Deserialize<'de> for $name {
                fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    let text = String::deserialize(deserializer)?;
                    $name::from_name(&text).ok_or_else(|| {
                        let what = format!("no {} is called {text:?}", stringify!($name));
                        serde::de::Error::custom(what)
                    })
                }
            }

            $crate::libxl::scalar::plain_fields!($name);
        )*
    };
}
pub(crate) use enumerations;

/// Defines structures of libxl: fields in libxl's order, left out of the JSON where they are as
/// libxl initialises them.
macro_rules! structures {
    ($($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident: $ty:ty,)* })*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
            #[serde(default)]
            pub struct $name {
                $(
                    $(#[$fmeta])*
                    #[serde(skip_serializing_if = "crate::libxl::Field::is_default")]
                    pub $field: $ty,
                )*
            }

            impl crate::libxl::Field for $name {
                fn is_default(&self) -> bool {
                    false
                }
            }
        )*
    };
}
pub(crate) use structures;
