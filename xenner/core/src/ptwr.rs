//! Plain stores to pinned page tables.
//!
//! A kernel maps its page tables read-only once they are pinned and changes
//! them by hypercall, except where it was easier not to: Linux clears entries
//! with XCHG, counting on `XENFEAT_writable_page_tables`. Such a store faults,
//! and is carried out here the way a hypercall would have done it. The
//! instruction's address operand need not be understood: CR2 holds it.
//!
//! Fork and munmap store to whole tables so. After `PATIENCE` stores to one
//! table its mapping is made writable, and no further one costs anything. What
//! is then stored lacks the user bit until [`mmu::admit_ring3`] adds it.

use xen_sys::addr::{Maddr, Mfn, Vaddr};

use crate::emulate::{Code, register};
use crate::regs::flags;
use crate::{Domain, Flush, Machine, Regs, Vcpu, mmu};

/// What a store does to the word it hits.
#[derive(Clone, Copy)]
enum Op {
    Set(u64),
    Exchange(u64),
    CompareExchange { expected: u64, new: u64 },
    Or(u64),
    And(u64),
    Xor(u64),
    BitSet(u32),
    BitReset(u32),
    BitComplement(u32),
}

/// A decoded store: what it does, to how many bytes, and the register that
/// gets the old value.
struct Store {
    op: Op,
    bytes: u64,
    old_to: u8,
}

/// Stores to one table that are carried out before its mapping becomes writable.
const PATIENCE: u32 = 16;

/// The tables a virtual CPU has stored to of late, and how often.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stores([(Mfn, u32); 8]);

impl Stores {
    /// None yet.
    pub const NONE: Self = Self([(Mfn(0), 0); 8]);

    /// Counts a store to a table; true when patience is at an end.
    fn count(&mut self, table: Mfn) -> bool {
        let slot = &mut self.0[table.0 as usize % 8];
        if slot.0 != table {
            *slot = (table, 0);
        }
        slot.1 += 1;
        slot.1 > PATIENCE
    }
}

/// A write of the kernel to a read-only page at `at`. True when that was a
/// page table and the store is done, or can be done by the guest now.
pub fn write<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, r: &mut Regs, at: Vaddr) -> bool {
    let Some((place, rights)) = mmu::walk(m, v.kernel_l4, at) else {
        return false;
    };
    let entry = m.load64(place);
    let table = Mfn((entry & mmu::pte::FRAME) >> 12);
    if entry & mmu::pte::PRESENT == 0 || !m.is_ram(table) || !mmu::is_table(m, d, table) {
        return false;
    }
    if rights & mmu::pte::WRITABLE != 0 {
        let writable = entry | mmu::pte::WRITABLE | mmu::pte::DIRTY;
        // Another virtual CPU may have done it before.
        let done = entry & mmu::pte::WRITABLE != 0
            || v.stores.count(table) && m.cmpxchg_pte(place, entry, writable).is_ok();
        if done {
            m.flush(Flush::Page(at));
            return true;
        }
    }
    let mut code = Code::fetch(m, r.rip);
    let Some(store) = decode(&mut code, r) else {
        return false;
    };
    let within = at.0 & 7;
    if within + store.bytes > 8 {
        return false;
    }
    let slot = table.addr().offset(at.page_offset() as u64 - within);
    if mmu::refuse_hole(m, v, slot).is_err()
        || !carry_out(m, (d, v), r, &store, slot, within as u32 * 8)
    {
        return false;
    }
    r.rip = r.rip.wrapping_add(code.at as u64);
    r.rflags &= !flags::RF;
    true
}

/// Applies the store to the bytes from bit `shift` of the entry on.
fn carry_out<M: Machine>(
    m: &mut M,
    (d, v): (&Domain, &Vcpu),
    r: &mut Regs,
    store: &Store,
    slot: Maddr,
    shift: u32,
) -> bool {
    let mask = if store.bytes == 8 {
        u64::MAX
    } else {
        (1 << (store.bytes * 8)) - 1
    };
    loop {
        let entry = m.load64(slot);
        let old = entry >> shift & mask;
        let (new, set_flags) = compute(store.op, old, mask, r.rflags);
        let whole = entry & !(mask << shift) | (new & mask) << shift;
        let Ok(accepted) = mmu::accept(m, d, v, slot, whole) else {
            return false;
        };
        if m.cmpxchg_pte(slot, entry, accepted).is_err() {
            continue;
        }
        r.rflags = set_flags;
        match store.op {
            Op::Exchange(_) => put(r, store.old_to, old, store.bytes),
            Op::CompareExchange { expected, .. } if old != expected & mask => {
                put(r, 0, old, store.bytes);
            }
            _ => {}
        }
        return true;
    }
}

/// The new value and the flags.
fn compute(op: Op, old: u64, mask: u64, rflags: u64) -> (u64, u64) {
    const ZF: u64 = 1 << 6;
    const SF: u64 = 1 << 7;
    const PF: u64 = 1 << 2;
    const OF: u64 = 1 << 11;
    let logic = |value: u64| {
        let value = value & mask;
        let mut new = rflags & !(flags::CF | ZF | SF | PF | OF);
        new |= if value == 0 { ZF } else { 0 };
        new |= if value & (mask ^ mask >> 1) != 0 {
            SF
        } else {
            0
        };
        new |= if (value as u8).count_ones().is_multiple_of(2) {
            PF
        } else {
            0
        };
        (value, new)
    };
    let bit = |n: u32| old >> n & 1;
    let carry = |n: u32| rflags & !flags::CF | bit(n);
    match op {
        Op::Set(value) | Op::Exchange(value) => (value, rflags),
        Op::CompareExchange { expected, new } if old == expected & mask => (new, rflags | ZF),
        Op::CompareExchange { .. } => (old, rflags & !ZF),
        Op::Or(value) => logic(old | value),
        Op::And(value) => logic(old & value),
        Op::Xor(value) => logic(old ^ value),
        Op::BitSet(n) => (old | 1 << n, carry(n)),
        Op::BitReset(n) => (old & !(1 << n), carry(n)),
        Op::BitComplement(n) => (old ^ 1 << n, carry(n)),
    }
}

fn put(r: &mut Regs, number: u8, value: u64, bytes: u64) {
    let to = register(r, number);
    *to = match bytes {
        8 | 4 => value,
        2 => *to & !0xffff | value,
        _ => *to & !0xff | value,
    };
}

fn decode(code: &mut Code, r: &mut Regs) -> Option<Store> {
    let opcode = code.opcode()?;
    let two_byte = opcode == 0x0f;
    let opcode = if two_byte { code.next()? } else { opcode };
    let (modrm, number) = operand(code)?;
    let wide = match (code.rex & 8 != 0, code.operand16) {
        (true, _) => 8,
        (_, true) => 2,
        _ => 4,
    };
    let bytes = if opcode & 1 == 0 && !matches!((two_byte, opcode), (true, 0xba)) {
        1
    } else {
        wide
    };
    // AH and its like are no way to store a page table entry.
    if bytes == 1 && code.rex == 0 && number >= 4 {
        return None;
    }
    let value = *register(r, number);
    let store = |op| {
        Some(Store {
            op,
            bytes,
            old_to: number,
        })
    };
    match (two_byte, opcode) {
        (false, 0x88 | 0x89) => store(Op::Set(value)),
        (false, 0xc6 | 0xc7) if modrm >> 3 & 7 == 0 => {
            let value = immediate(code, bytes.min(4))?;
            store(Op::Set(value))
        }
        (false, 0x86 | 0x87) => store(Op::Exchange(value)),
        (false, 0x08 | 0x09) => store(Op::Or(value)),
        (false, 0x20 | 0x21) => store(Op::And(value)),
        (false, 0x30 | 0x31) => store(Op::Xor(value)),
        (false, 0x80 | 0x81 | 0x83) => {
            let size = if opcode == 0x81 { bytes.min(4) } else { 1 };
            let value = immediate(code, size)?;
            match modrm >> 3 & 7 {
                1 => store(Op::Or(value)),
                4 => store(Op::And(value)),
                6 => store(Op::Xor(value)),
                _ => None,
            }
        }
        (true, 0xb0 | 0xb1) => store(Op::CompareExchange {
            expected: r.rax,
            new: value,
        }),
        (true, 0xc3) => Some(Store {
            op: Op::Set(value),
            bytes: wide,
            old_to: 0,
        }),
        (true, 0xab | 0xb3 | 0xbb) => {
            let bit = value as u32 & (bytes as u32 * 8 - 1);
            bit_op(opcode >> 3 & 3, bit).and_then(store)
        }
        (true, 0xba) => {
            let bit = code.next()? as u32 & (bytes as u32 * 8 - 1);
            bit_op(modrm >> 3 & 3, bit).and_then(store)
        }
        _ => None,
    }
}

/// The bit instructions' numbering: 1 set, 2 reset, 3 complement.
fn bit_op(which: u8, bit: u32) -> Option<Op> {
    match which {
        1 => Some(Op::BitSet(bit)),
        2 => Some(Op::BitReset(bit)),
        3 => Some(Op::BitComplement(bit)),
        _ => None,
    }
}

/// Skips a memory operand; returns ModRM and the register operand's number.
fn operand(code: &mut Code) -> Option<(u8, u8)> {
    let modrm = code.next()?;
    let (mode, rm) = (modrm >> 6, modrm & 7);
    if mode == 3 {
        return None;
    }
    let mut displacement = match mode {
        1 => 1,
        2 => 4,
        _ => 0,
    };
    if rm == 4 {
        let sib = code.next()?;
        if mode == 0 && sib & 7 == 5 {
            displacement = 4;
        }
    } else if mode == 0 && rm == 5 {
        displacement = 4;
    }
    for _ in 0..displacement {
        code.next()?;
    }
    Some((modrm, (modrm >> 3 & 7) | (code.rex & 4) << 1))
}

/// A sign-extended immediate.
fn immediate(code: &mut Code, bytes: u64) -> Option<u64> {
    let mut value = 0u64;
    for index in 0..bytes {
        value |= u64::from(code.next()?) << (index * 8);
    }
    let unused = 64 - bytes as u32 * 8;
    Some(((value << unused) as i64 >> unused) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8], r: &mut Regs) -> Option<(Store, usize)> {
        let mut code = Code::of(bytes);
        decode(&mut code, r).map(|store| (store, code.at))
    }

    #[test]
    fn the_exchange_linux_clears_entries_with() {
        // xchg [rax], rdx
        let mut r = Regs {
            rdx: 7,
            ..Regs::default()
        };
        let (store, length) = decoded(&[0x48, 0x87, 0x10], &mut r).unwrap();
        assert_eq!((store.bytes, store.old_to, length), (8, 2, 3));
        assert!(matches!(store.op, Op::Exchange(7)));
    }

    #[test]
    fn operands_with_sib_and_displacement() {
        // lock and qword [rdi + rcx * 8 + 0x10], -3
        let mut r = Regs::default();
        let (store, length) = decoded(&[0xf0, 0x48, 0x83, 0x64, 0xcf, 0x10, 0xfd], &mut r).unwrap();
        assert_eq!((store.bytes, length), (8, 7));
        assert!(matches!(store.op, Op::And(0xffff_ffff_ffff_fffd)));
        // lock btr qword [rip + 0x11223344], 1
        let code = [0xf0, 0x48, 0x0f, 0xba, 0x35, 0x44, 0x33, 0x22, 0x11, 0x01];
        let (store, length) = decoded(&code, &mut r).unwrap();
        assert_eq!((store.bytes, length), (8, 10));
        assert!(matches!(store.op, Op::BitReset(1)));
    }

    #[test]
    fn registers_and_loads_are_no_stores() {
        assert!(decoded(&[0x48, 0x89, 0xd0], &mut Regs::default()).is_none());
        assert!(decoded(&[0x48, 0x8b, 0x10], &mut Regs::default()).is_none());
        assert!(decoded(&[0x48], &mut Regs::default()).is_none());
    }

    #[test]
    fn flags_of_a_compare_exchange() {
        let op = Op::CompareExchange {
            expected: 5,
            new: 9,
        };
        assert_eq!(compute(op, 5, u64::MAX, 2), (9, 2 | 1 << 6));
        assert_eq!(compute(op, 6, u64::MAX, 2 | 1 << 6), (6, 2));
    }
}
