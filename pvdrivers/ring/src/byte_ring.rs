//! Byte rings: a stream in each direction, the console's (`io/console.h`) and xenstore's
//! (`io/xs_wire.h`).
//!
//! The producer owns `prod`, the consumer `cons`; `prod - cons` bytes wait. There is no event
//! index: an end that moved anything notifies the other.

use core::mem::offset_of;

use xen_sys::io::console::XenconsInterface;
use xen_sys::io::xs_wire::{XENSTORE_RING_SIZE, XenstoreDomainInterface};

use crate::{RingError, SharedPage};

/// Where a byte ring lies in its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRing {
    data: usize,
    size: u32,
    cons: usize,
    prod: usize,
}

impl ByteRing {
    /// A ring of `size` bytes at offset `data`, its indices at offsets `cons` and `prod`.
    ///
    /// # Panics
    /// When `size` is not a power of two or an index is not aligned: a mistake in a constant.
    pub const fn new(data: usize, size: u32, cons: usize, prod: usize) -> Self {
        assert!(size.is_power_of_two());
        assert!(cons.is_multiple_of(4) && prod.is_multiple_of(4));
        Self {
            data,
            size,
            cons,
            prod,
        }
    }

    /// Console input, to the guest.
    pub const CONSOLE_IN: Self = Self::new(
        offset_of!(XenconsInterface, in_),
        1024,
        offset_of!(XenconsInterface, in_cons),
        offset_of!(XenconsInterface, in_prod),
    );

    /// Console output, from the guest.
    pub const CONSOLE_OUT: Self = Self::new(
        offset_of!(XenconsInterface, out),
        2048,
        offset_of!(XenconsInterface, out_cons),
        offset_of!(XenconsInterface, out_prod),
    );

    /// Xenstore requests, from the guest.
    pub const XENSTORE_REQ: Self = Self::new(
        offset_of!(XenstoreDomainInterface, req),
        XENSTORE_RING_SIZE as u32,
        offset_of!(XenstoreDomainInterface, req_cons),
        offset_of!(XenstoreDomainInterface, req_prod),
    );

    /// Xenstore replies and watch events, to the guest.
    pub const XENSTORE_RSP: Self = Self::new(
        offset_of!(XenstoreDomainInterface, rsp),
        XENSTORE_RING_SIZE as u32,
        offset_of!(XenstoreDomainInterface, rsp_cons),
        offset_of!(XenstoreDomainInterface, rsp_prod),
    );

    /// Bytes of the ring.
    pub const fn size(&self) -> u32 {
        self.size
    }

    /// Refuses a page that ends before the ring does.
    fn check(&self, page: &impl SharedPage) -> Result<(), RingError> {
        let need = (self.data + self.size as usize)
            .max(self.cons + 4)
            .max(self.prod + 4);
        let have = page.len();
        if have < need {
            Err(RingError::TooSmall { need, have })
        } else {
            Ok(())
        }
    }

    /// Splits `len` bytes at free-running `index` where the ring wraps: offset in the page of the
    /// first piece, its length; the second piece starts at `data`.
    fn split(&self, index: u32, len: usize) -> (usize, usize) {
        let at = (index & (self.size - 1)) as usize;
        (self.data + at, len.min(self.size as usize - at))
    }
}

/// The writing end of a byte ring.
#[derive(Debug)]
pub struct Producer<P> {
    page: P,
    ring: ByteRing,
    prod: u32,
}

impl<P: SharedPage> Producer<P> {
    /// Takes over the producing end where the page says it stands.
    ///
    /// # Errors
    /// [`RingError::TooSmall`] when the page does not hold the ring.
    pub fn attach(page: P, ring: ByteRing) -> Result<Self, RingError> {
        ring.check(&page)?;
        let prod = page.load_u32(ring.prod);
        Ok(Self { page, ring, prod })
    }

    /// Bytes that can be written now.
    ///
    /// # Errors
    /// [`RingError::OutOfBounds`].
    pub fn space(&self) -> Result<usize, RingError> {
        let size = self.ring.size;
        // Acquire: the consumer has read the bytes before it moved `cons`, we may overwrite them.
        let cons = self.page.load_u32(self.ring.cons);
        let used = self.prod.wrapping_sub(cons);
        if used > size {
            return Err(RingError::OutOfBounds {
                theirs: cons,
                ours: self.prod,
                size,
            });
        }
        Ok((size - used) as usize)
    }

    /// Writes as much of `from` as there is space for; the number of bytes written. If that is not
    /// 0, notify the consumer.
    ///
    /// # Errors
    /// [`RingError::OutOfBounds`]; nothing was written.
    pub fn write(&mut self, from: &[u8]) -> Result<usize, RingError> {
        let n = self.space()?.min(from.len());
        if n == 0 {
            return Ok(0);
        }
        let (first, second) = from[..n].split_at(self.ring.split(self.prod, n).1);
        self.page.write(self.ring.split(self.prod, n).0, first);
        self.page.write(self.ring.data, second);
        self.prod = self.prod.wrapping_add(n as u32);
        // Release: the bytes are there before the consumer sees the index.
        self.page.store_u32(self.ring.prod, self.prod);
        Ok(n)
    }

    /// Forgets what is in the ring: sets `prod` to `index`, as for a reconnection.
    pub fn reset(&mut self, index: u32) {
        self.prod = index;
        self.page.store_u32(self.ring.prod, index);
    }
}

/// The reading end of a byte ring.
#[derive(Debug)]
pub struct Consumer<P> {
    page: P,
    ring: ByteRing,
    cons: u32,
}

impl<P: SharedPage> Consumer<P> {
    /// Takes over the consuming end where the page says it stands.
    ///
    /// # Errors
    /// [`RingError::TooSmall`] when the page does not hold the ring.
    pub fn attach(page: P, ring: ByteRing) -> Result<Self, RingError> {
        ring.check(&page)?;
        let cons = page.load_u32(ring.cons);
        Ok(Self { page, ring, cons })
    }

    /// Bytes that wait.
    ///
    /// # Errors
    /// [`RingError::OutOfBounds`].
    pub fn available(&self) -> Result<usize, RingError> {
        // Acquire: pairs with the producer's release of `prod`, the bytes are there.
        let prod = self.page.load_u32(self.ring.prod);
        let used = prod.wrapping_sub(self.cons);
        if used > self.ring.size {
            let size = self.ring.size;
            return Err(RingError::OutOfBounds {
                theirs: prod,
                ours: self.cons,
                size,
            });
        }
        Ok(used as usize)
    }

    /// Copies what waits to `to` without taking it; the number of bytes.
    ///
    /// # Errors
    /// [`RingError::OutOfBounds`].
    pub fn peek(&self, to: &mut [u8]) -> Result<usize, RingError> {
        let n = self.available()?.min(to.len());
        let (at, first_len) = self.ring.split(self.cons, n);
        let (first, second) = to[..n].split_at_mut(first_len);
        self.page.read(at, first);
        self.page.read(self.ring.data, second);
        Ok(n)
    }

    /// Takes `n` bytes, at most those that wait. If that is not 0, notify the producer: it may
    /// wait for space.
    ///
    /// # Errors
    /// [`RingError::OutOfBounds`]; nothing was taken.
    pub fn consume(&mut self, n: usize) -> Result<usize, RingError> {
        let n = self.available()?.min(n);
        if n > 0 {
            self.cons = self.cons.wrapping_add(n as u32);
            // Release: our reads are done before the producer sees the space.
            self.page.store_u32(self.ring.cons, self.cons);
        }
        Ok(n)
    }

    /// Takes as much as fits `to`; the number of bytes. If that is not 0, notify the producer.
    ///
    /// # Errors
    /// [`RingError::OutOfBounds`]; nothing was taken.
    pub fn read(&mut self, to: &mut [u8]) -> Result<usize, RingError> {
        let n = self.peek(to)?;
        if n > 0 {
            self.cons = self.cons.wrapping_add(n as u32);
            // Release: our reads are done before the producer sees the space.
            self.page.store_u32(self.ring.cons, self.cons);
        }
        Ok(n)
    }

    /// Forgets what is in the ring: sets `cons` to `index`, as for a reconnection.
    pub fn reset(&mut self, index: u32) {
        self.cons = index;
        self.page.store_u32(self.ring.cons, index);
    }
}

#[cfg(test)]
#[path = "byte_ring_test.rs"]
mod tests;
