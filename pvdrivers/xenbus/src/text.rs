use core::fmt::{self, Write};

/// A string of at most `N` bytes, for paths and numbers where there is no allocator.
#[derive(Clone, Copy)]
pub struct Text<const N: usize = 256> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    /// Formats, as `Text::format(format_args!("device/vif/{id}/state"))`.
    ///
    /// # Errors
    /// [`fmt::Error`] when it does not fit `N` bytes.
    pub fn format(args: fmt::Arguments<'_>) -> Result<Self, fmt::Error> {
        let mut text = Self::empty();
        text.write_fmt(args)?;
        Ok(text)
    }

    /// No text.
    pub const fn empty() -> Self {
        Self {
            bytes: [0; N],
            len: 0,
        }
    }

    /// The string.
    pub fn as_str(&self) -> &str {
        // Only whole `str`s were appended.
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl<const N: usize> Write for Text<N> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let room = self
            .bytes
            .get_mut(self.len..self.len + s.len())
            .ok_or(fmt::Error)?;
        room.copy_from_slice(s.as_bytes());
        self.len += s.len();
        Ok(())
    }
}

impl<const N: usize> core::ops::Deref for Text<N> {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_what_fits() {
        let path = Text::<16>::format(format_args!("device/vif/{}", 12)).unwrap();
        assert_eq!(&*path, "device/vif/12");
        assert!(Text::<4>::format(format_args!("device")).is_err());
    }
}
