//! Enough of AML (ACPI 6.4, chapter 20) for the objects that depend on how many
//! processors there are. All else is compiled from `dsdt.asl`.

use crate::bytes::{Bytes, Full};

const ZERO: u8 = 0x00;
const ONE: u8 = 0x01;
const NAME: u8 = 0x08;
const BYTE: u8 = 0x0a;
const WORD: u8 = 0x0b;
const DWORD: u8 = 0x0c;
const SCOPE: u8 = 0x10;
const PACKAGE: u8 = 0x12;
const METHOD: u8 = 0x14;
const EXTENDED: u8 = 0x5b;
const DEVICE: u8 = 0x82;
const PROCESSOR: u8 = 0x83;
const NOTIFY: u8 = 0x86;
const EQUAL: u8 = 0x93;
const IF: u8 = 0xa0;
const ARG0: u8 = 0x68;
const ARG1: u8 = 0x69;
const RETURN: u8 = 0xa4;

/// A name of four characters.
pub type Name = [u8; 4];

/// AML in the making.
#[derive(Debug)]
pub struct Aml<'a, 'b> {
    out: &'a mut Bytes<'b>,
}

impl<'a, 'b> Aml<'a, 'b> {
    /// Appends to what is there.
    pub fn new(out: &'a mut Bytes<'b>) -> Self {
        Self { out }
    }

    /// Bytes as they are.
    ///
    /// # Errors
    /// [`Full`], here and below.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.out.put(bytes)
    }

    /// An object whose length stands before its content (20.2.4, `PkgLength`).
    fn sized(
        &mut self,
        opcode: &[u8],
        content: impl FnOnce(&mut Aml<'_, 'b>) -> Result<(), Full>,
    ) -> Result<(), Full> {
        self.out.put(opcode)?;
        let start = self.out.len();
        content(&mut Aml { out: self.out })?;
        let (length, bytes) = package_length(self.out.len() - start);
        self.out.insert(start, &length[..bytes])
    }

    /// `Scope (path) { ... }`, the path encoded already.
    pub fn scope(
        &mut self,
        path: &[u8],
        content: impl FnOnce(&mut Aml<'_, 'b>) -> Result<(), Full>,
    ) -> Result<(), Full> {
        self.sized(&[SCOPE], |aml| {
            aml.raw(path)?;
            content(aml)
        })
    }

    /// `Processor (name, id, 0xb010, 6) { ... }`: the address is that of the
    /// chipset's processor control, which firmware here leaves unused.
    pub fn processor(
        &mut self,
        name: Name,
        id: u8,
        content: impl FnOnce(&mut Aml<'_, 'b>) -> Result<(), Full>,
    ) -> Result<(), Full> {
        self.sized(&[EXTENDED, PROCESSOR], |aml| {
            aml.raw(&name)?;
            aml.raw(&[id])?;
            aml.raw(&0xb010u32.to_le_bytes())?;
            aml.raw(&[6])?;
            content(aml)
        })
    }

    /// `Method (name, arguments, Serialized?) { ... }`.
    pub fn method(
        &mut self,
        name: Name,
        flags: u8,
        content: impl FnOnce(&mut Aml<'_, 'b>) -> Result<(), Full>,
    ) -> Result<(), Full> {
        self.sized(&[METHOD], |aml| {
            aml.raw(&name)?;
            aml.raw(&[flags])?;
            content(aml)
        })
    }

    /// `Name (name, value)`; the value follows.
    pub fn name(&mut self, name: Name) -> Result<(), Full> {
        self.raw(&[NAME])?;
        self.raw(&name)
    }

    /// An integer constant in its shortest form.
    pub fn integer(&mut self, value: u32) -> Result<(), Full> {
        match value {
            0 => self.raw(&[ZERO]),
            1 => self.raw(&[ONE]),
            2..=0xff => self.raw(&[BYTE, value as u8]),
            0x100..=0xffff => {
                self.raw(&[WORD])?;
                self.raw(&(value as u16).to_le_bytes())
            }
            _ => {
                self.raw(&[DWORD])?;
                self.raw(&value.to_le_bytes())
            }
        }
    }

    /// `Package (count) { ... }`.
    pub fn package(
        &mut self,
        count: u8,
        content: impl FnOnce(&mut Aml<'_, 'b>) -> Result<(), Full>,
    ) -> Result<(), Full> {
        self.sized(&[PACKAGE], |aml| {
            aml.raw(&[count])?;
            content(aml)
        })
    }

    /// `Device (name) { ... }`.
    pub fn device(
        &mut self,
        name: Name,
        content: impl FnOnce(&mut Aml<'_, 'b>) -> Result<(), Full>,
    ) -> Result<(), Full> {
        self.sized(&[EXTENDED, DEVICE], |aml| {
            aml.raw(&name)?;
            content(aml)
        })
    }

    /// `If (LEqual (Arg0, value)) { ... }`.
    pub fn if_arg0_is(
        &mut self,
        value: u32,
        content: impl FnOnce(&mut Aml<'_, 'b>) -> Result<(), Full>,
    ) -> Result<(), Full> {
        self.sized(&[IF], |aml| {
            aml.raw(&[EQUAL, ARG0])?;
            aml.integer(value)?;
            content(aml)
        })
    }

    /// `Notify (name, Arg1)`.
    pub fn notify_arg1(&mut self, name: Name) -> Result<(), Full> {
        self.raw(&[NOTIFY])?;
        self.raw(&name)?;
        self.raw(&[ARG1])
    }

    /// `Return (...)`; the value follows.
    pub fn begin_return(&mut self) -> Result<(), Full> {
        self.raw(&[RETURN])
    }
}

/// The encoding of a length that counts itself: one byte to 63, else 4 bits in
/// the first byte and 8 in each of up to three more.
fn package_length(content: usize) -> ([u8; 4], usize) {
    if content < 63 {
        return ([content as u8 + 1, 0, 0, 0], 1);
    }
    let extra = match content + 1 {
        ..0xfff => 1,
        0xfff..0xf_fffe => 2,
        _ => 3,
    };
    let length = content + 1 + extra;
    let mut bytes = [(extra << 6) as u8 | (length & 0xf) as u8, 0, 0, 0];
    for (byte, shift) in bytes[1..=extra].iter_mut().zip([4, 12, 20]) {
        *byte = (length >> shift) as u8;
    }
    (bytes, extra + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_themselves() {
        assert_eq!(package_length(0), ([1, 0, 0, 0], 1));
        assert_eq!(package_length(62), ([63, 0, 0, 0], 1));
        assert_eq!(package_length(63), ([0x41, 4, 0, 0], 2));
        assert_eq!(package_length(0xffd), ([0x4f, 0xff, 0, 0], 2));
        assert_eq!(package_length(0xffe), ([0x81, 0x00, 0x01, 0], 3));
    }

    #[test]
    fn objects_nest() {
        let mut buffer = [0; 64];
        let mut out = Bytes::new(&mut buffer);
        let mut aml = Aml::new(&mut out);
        aml.scope(b"\\_SB_", |aml| {
            aml.name(*b"NUM_")?;
            aml.integer(0x1234)?;
            aml.method(*b"GET_", 0, |aml| {
                aml.begin_return()?;
                aml.integer(1)
            })
        })
        .unwrap();
        let expected = b"\x10\x17\\_SB_\x08NUM_\x0b\x34\x12\x14\x08GET_\x00\xa4\x01";
        assert_eq!(out.all(), expected);
    }
}
