/*
 * The machine Xen's device model emulates: QEMU's PC with a PIIX3/PIIX4 chipset,
 * an I/O APIC and an HPET. Compiled to dsdt.aml by iasl; a test compares.
 *
 * What differs from domain to domain is read from a few words that the firmware
 * writes in front of the tables. What is dull repetition is in a second table,
 * which the firmware makes (acpi/ssdt.rs): processors and interrupt wiring.
 *
 * Sources: ACPI 6.4; QEMU's docs/specs/acpi_pci_hotplug.rst and
 * acpi_cpu_hotplug.rst; the PIIX3 and PIIX4 data sheets.
 */
DefinitionBlock ("", "DSDT", 2, "Xen", "HVM", 1)
{
    External (\_SB.CNOT, MethodObj)
    External (\_SB.CNUM, IntObj)
    External (\_SB.PCI0.PNOT, MethodObj)
    External (\_SB.PCI0.PRTG, PkgObj)
    External (\_SB.PCI0.PRTL, PkgObj)

    Name (\_S5, Package () { 0, 0, 0, 0 })
    Name (\PICD, 0)
    Method (\_PIC, 1) { Store (Arg0, \PICD) }

    Scope (\_SB)
    {
        OperationRegion (FACT, SystemMemory, 0xFC000000, 0x30)
        Field (FACT, DWordAcc, NoLock, Preserve)
        {
            UART, 1,            /* COM1 is there */
            UAR2, 1,            /* COM2 */
            LPTP, 1,            /* LPT1 */
            HPEP, 1,            /* HPET */
            TPMP, 1,            /* TPM */
            , 27,
            PMIN, 32,           /* devices below 4 GiB: first and last byte */
            PMAX, 32,
            , 32,
            HMIN, 64,           /* above; the length is 0 if there are none */
            HMAX, 64,
            HLEN, 64,
            VGIA, 32            /* the VM generation id, or 0 */
        }

        /* RAM below the video memory is a PC's; this keeps systems off what they
           might take for free: the interrupt controllers and Xen's pages. */
        Device (MEM0)
        {
            Name (_HID, EisaId ("PNP0C02"))
            Name (_CRS, ResourceTemplate ()
            {
                Memory32Fixed (ReadWrite, 0x000F0000, 0x00010000)
                Memory32Fixed (ReadWrite, 0xFC000000, 0x02C00000)
                Memory32Fixed (ReadWrite, 0xFEE00000, 0x01200000)
            })
        }

        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A03"))
            Name (_UID, 0)
            Name (_ADR, 0)
            Name (_BBN, 0)

            Method (_CRS, 0, Serialized)
            {
                Name (PRT0, ResourceTemplate ()
                {
                    WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
                        0, 0, 0xFF, 0, 0x100)
                    IO (Decode16, 0xCF8, 0xCF8, 1, 8)
                    WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                        0, 0, 0xCF7, 0, 0xCF8)
                    WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                        0, 0xD00, 0xFFFF, 0, 0xF300)
                    DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable,
                        ReadWrite, 0, 0xA0000, 0xBFFFF, 0, 0x20000)
                    DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable,
                        ReadWrite, 0, 0xF0000000, 0xFBFFFFFF, 0, 0x0C000000,,, LOW)
                })
                Name (PRT1, ResourceTemplate ()
                {
                    QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable,
                        ReadWrite, 0, 0x100000000, 0x100000FFF, 0, 0x1000,,, HIGH)
                })
                CreateDWordField (PRT0, LOW._MIN, LMIN)
                CreateDWordField (PRT0, LOW._MAX, LMAX)
                CreateDWordField (PRT0, LOW._LEN, LLEN)
                Store (\_SB.PMIN, LMIN)
                Store (\_SB.PMAX, LMAX)
                Add (Subtract (\_SB.PMAX, \_SB.PMIN), 1, LLEN)
                If (LEqual (\_SB.HLEN, 0)) { Return (PRT0) }
                CreateQWordField (PRT1, HIGH._MIN, UMIN)
                CreateQWordField (PRT1, HIGH._MAX, UMAX)
                CreateQWordField (PRT1, HIGH._LEN, ULEN)
                Store (\_SB.HMIN, UMIN)
                Store (\_SB.HMAX, UMAX)
                Store (\_SB.HLEN, ULEN)
                ConcatenateResTemplate (PRT0, PRT1, Local0)
                Return (Local0)
            }

            Method (_PRT) { If (\PICD) { Return (\_SB.PCI0.PRTG) } Return (\_SB.PCI0.PRTL) }

            /* Devices come and go: a bit a slot, for those that came, those that
               are to go, and to let them go. */
            OperationRegion (PCIR, SystemIO, 0xAE00, 0x0C)
            Field (PCIR, DWordAcc, NoLock, WriteAsZeros) { PCIU, 32, PCID, 32, PCIE, 32 }
            Method (PEJT, 1, Serialized) { ShiftLeft (1, Arg0, PCIE) }
            Method (PCHG, 0, Serialized)
            {
                Store (PCIU, Local0)
                Store (PCID, Local1)
                Store (1, Local2)
                While (LLess (Local2, 32))
                {
                    ShiftLeft (1, Local2, Local3)
                    If (And (Local0, Local3)) { \_SB.PCI0.PNOT (Local2, 1) }
                    If (And (Local1, Local3)) { \_SB.PCI0.PNOT (Local2, 3) }
                    Increment (Local2)
                }
            }

            Device (HPET)
            {
                Name (_HID, EisaId ("PNP0103"))
                Name (_UID, 0)
                Method (_STA) { If (\_SB.HPEP) { Return (0x0F) } Return (0) }
                Name (_CRS, ResourceTemplate () { Memory32Fixed (ReadOnly, 0xFED00000, 0x400) })
            }

            Device (ISA)
            {
                Name (_ADR, 0x00010000)
                OperationRegion (PIRQ, PCI_Config, 0x60, 4)
                Field (PIRQ, ByteAcc, NoLock, Preserve) { PIRA, 8, PIRB, 8, PIRC, 8, PIRD, 8 }

                Method (LCRS, 1, Serialized)
                {
                    Name (BUFF, ResourceTemplate () { IRQ (Level, ActiveLow, Shared) { 5 } })
                    CreateWordField (BUFF, 1, MASK)
                    If (LEqual (And (Arg0, 0x80), 0)) { ShiftLeft (1, And (Arg0, 0x0F), MASK) }
                    Else { Store (0, MASK) }
                    Return (BUFF)
                }
                Method (LSTA, 1) { If (And (Arg0, 0x80)) { Return (0x09) } Return (0x0B) }
                Method (LIRQ, 1, Serialized)
                {
                    CreateWordField (Arg0, 1, MASK)
                    Return (Subtract (FindSetRightBit (MASK), 1))
                }
                Name (LPRS, ResourceTemplate () { IRQ (Level, ActiveLow, Shared) { 5, 10, 11 } })

                Device (LNKA)
                {
                    Name (_HID, EisaId ("PNP0C0F"))
                    Name (_UID, 1)
                    Method (_STA) { Return (LSTA (PIRA)) }
                    Method (_PRS) { Return (LPRS) }
                    Method (_CRS) { Return (LCRS (PIRA)) }
                    Method (_DIS) { Or (PIRA, 0x80, PIRA) }
                    Method (_SRS, 1) { Store (LIRQ (Arg0), PIRA) }
                }
                Device (LNKB)
                {
                    Name (_HID, EisaId ("PNP0C0F"))
                    Name (_UID, 2)
                    Method (_STA) { Return (LSTA (PIRB)) }
                    Method (_PRS) { Return (LPRS) }
                    Method (_CRS) { Return (LCRS (PIRB)) }
                    Method (_DIS) { Or (PIRB, 0x80, PIRB) }
                    Method (_SRS, 1) { Store (LIRQ (Arg0), PIRB) }
                }
                Device (LNKC)
                {
                    Name (_HID, EisaId ("PNP0C0F"))
                    Name (_UID, 3)
                    Method (_STA) { Return (LSTA (PIRC)) }
                    Method (_PRS) { Return (LPRS) }
                    Method (_CRS) { Return (LCRS (PIRC)) }
                    Method (_DIS) { Or (PIRC, 0x80, PIRC) }
                    Method (_SRS, 1) { Store (LIRQ (Arg0), PIRC) }
                }
                Device (LNKD)
                {
                    Name (_HID, EisaId ("PNP0C0F"))
                    Name (_UID, 4)
                    Method (_STA) { Return (LSTA (PIRD)) }
                    Method (_PRS) { Return (LPRS) }
                    Method (_CRS) { Return (LCRS (PIRD)) }
                    Method (_DIS) { Or (PIRD, 0x80, PIRD) }
                    Method (_SRS, 1) { Store (LIRQ (Arg0), PIRD) }
                }

                Device (SYSR)
                {
                    Name (_HID, EisaId ("PNP0C02"))
                    Name (_UID, 1)
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x10, 0x10, 0, 0x10)
                        IO (Decode16, 0x22, 0x22, 0, 0x0C)
                        IO (Decode16, 0x30, 0x30, 0, 0x10)
                        IO (Decode16, 0x44, 0x44, 0, 0x1C)
                        IO (Decode16, 0x62, 0x62, 0, 0x02)
                        IO (Decode16, 0x65, 0x65, 0, 0x0B)
                        IO (Decode16, 0x72, 0x72, 0, 0x0E)
                        IO (Decode16, 0x80, 0x80, 0, 0x01)
                        IO (Decode16, 0x84, 0x84, 0, 0x03)
                        IO (Decode16, 0x88, 0x88, 0, 0x01)
                        IO (Decode16, 0x8C, 0x8C, 0, 0x03)
                        IO (Decode16, 0x90, 0x90, 0, 0x10)
                        IO (Decode16, 0xA2, 0xA2, 0, 0x1C)
                        IO (Decode16, 0xE0, 0xE0, 0, 0x10)
                        IO (Decode16, 0x4D0, 0x4D0, 0, 0x02)
                        IO (Decode16, 0x8A0, 0x8A0, 0, 0x04)
                        IO (Decode16, 0xAE00, 0xAE00, 0, 0x14)
                        IO (Decode16, 0xAF00, 0xAF00, 0, 0x20)
                        IO (Decode16, 0xAFE0, 0xAFE0, 0, 0x04)
                        IO (Decode16, 0xB000, 0xB000, 0, 0x40)
                    })
                }
                Device (PIC)
                {
                    Name (_HID, EisaId ("PNP0000"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x20, 0x20, 1, 2)
                        IO (Decode16, 0xA0, 0xA0, 1, 2)
                        IRQNoFlags () { 2 }
                    })
                }
                Device (DMA0)
                {
                    Name (_HID, EisaId ("PNP0200"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        DMA (Compatibility, BusMaster, Transfer8) { 4 }
                        IO (Decode16, 0x00, 0x00, 0, 0x10)
                        IO (Decode16, 0x81, 0x81, 0, 0x03)
                        IO (Decode16, 0x87, 0x87, 0, 0x01)
                        IO (Decode16, 0x89, 0x89, 0, 0x03)
                        IO (Decode16, 0x8F, 0x8F, 0, 0x01)
                        IO (Decode16, 0xC0, 0xC0, 0, 0x20)
                        IO (Decode16, 0x480, 0x480, 0, 0x10)
                    })
                }
                Device (TMR)
                {
                    Name (_HID, EisaId ("PNP0100"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x40, 0x40, 0, 4)
                        IRQNoFlags () { 0 }
                    })
                }
                Device (RTC)
                {
                    Name (_HID, EisaId ("PNP0B00"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x70, 0x70, 0, 2)
                        IRQNoFlags () { 8 }
                    })
                }
                Device (SPKR)
                {
                    Name (_HID, EisaId ("PNP0800"))
                    Name (_CRS, ResourceTemplate () { IO (Decode16, 0x61, 0x61, 0, 1) })
                }
                Device (PS2M)
                {
                    Name (_HID, EisaId ("PNP0F13"))
                    Name (_CID, EisaId ("PNP0F13"))
                    Name (_CRS, ResourceTemplate () { IRQNoFlags () { 12 } })
                }
                Device (PS2K)
                {
                    Name (_HID, EisaId ("PNP0303"))
                    Name (_CID, EisaId ("PNP030B"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x60, 0x60, 0, 1)
                        IO (Decode16, 0x64, 0x64, 0, 1)
                        IRQNoFlags () { 1 }
                    })
                }
                Device (FDC0)
                {
                    Name (_HID, EisaId ("PNP0700"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x3F0, 0x3F0, 1, 6)
                        IO (Decode16, 0x3F7, 0x3F7, 1, 1)
                        IRQNoFlags () { 6 }
                        DMA (Compatibility, NotBusMaster, Transfer8) { 2 }
                    })
                }
                Device (UAR1)
                {
                    Name (_HID, EisaId ("PNP0501"))
                    Name (_UID, 1)
                    Method (_STA) { If (\_SB.UART) { Return (0x0F) } Return (0) }
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x3F8, 0x3F8, 8, 8)
                        IRQNoFlags () { 4 }
                    })
                }
                Device (UAR2)
                {
                    Name (_HID, EisaId ("PNP0501"))
                    Name (_UID, 2)
                    Method (_STA) { If (\_SB.UAR2) { Return (0x0F) } Return (0) }
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x2F8, 0x2F8, 8, 8)
                        IRQNoFlags () { 3 }
                    })
                }
                Device (TPM)
                {
                    Name (_HID, EisaId ("PNP0C31"))
                    Method (_STA) { If (\_SB.TPMP) { Return (0x0F) } Return (0) }
                    Name (_CRS, ResourceTemplate ()
                    {
                        Memory32Fixed (ReadWrite, 0xFED40000, 0x5000)
                    })
                }
                Device (LTP1)
                {
                    Name (_HID, EisaId ("PNP0400"))
                    Name (_UID, 1)
                    Method (_STA) { If (\_SB.LPTP) { Return (0x0F) } Return (0) }
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x378, 0x378, 8, 8)
                        IRQNoFlags () { 7 }
                    })
                }
            }
        }

        Device (VGID)
        {
            Name (_HID, "XEN0000")
            Name (_CID, "VM_Gen_Counter")
            Name (_DDN, "VM_Gen_Counter")
            Method (_STA) { If (LEqual (\_SB.VGIA, 0)) { Return (0) } Return (0x0F) }
            Method (ADDR, 0, Serialized)
            {
                Store (Package (2) { 0, 0 }, Local0)
                Store (\_SB.VGIA, Index (Local0, 0))
                Return (Local0)
            }
        }

        /* Processors come and go: QEMU's bitmap of those that are there. */
        OperationRegion (CPUR, SystemIO, 0xAF00, 0x20)
        Field (CPUR, ByteAcc, NoLock, Preserve) { CPUS, 256 }
        Name (CPUO, Buffer (0x20) {})
        Method (CSTA, 1, Serialized)
        {
            Store (CPUS, Local0)
            Store (DerefOf (Index (Local0, ShiftRight (Arg0, 3))), Local1)
            If (And (ShiftRight (Local1, And (Arg0, 7)), 1)) { Return (0x0F) }
            Return (0)
        }
        Method (CMAT, 1, Serialized)
        {
            /* A processor local APIC structure: 0, 8, processor, APIC, flags. */
            Store (Buffer (8) { 0, 8, 0, 0, 0, 0, 0, 0 }, Local0)
            Store (Arg0, Index (Local0, 2))
            Store (Multiply (Arg0, 2), Index (Local0, 3))
            If (CSTA (Arg0)) { Store (1, Index (Local0, 4)) }
            Return (Local0)
        }
        Method (CCHG, 0, Serialized)
        {
            Store (CPUS, Local0)
            Store (0, Local1)
            While (LLess (Local1, \_SB.CNUM))
            {
                ShiftRight (Local1, 3, Local2)
                ShiftRight (DerefOf (Index (Local0, Local2)), And (Local1, 7), Local3)
                ShiftRight (DerefOf (Index (CPUO, Local2)), And (Local1, 7), Local4)
                If (And (XOr (Local3, Local4), 1))
                {
                    If (And (Local3, 1)) { \_SB.CNOT (Local1, 1) }
                    Else { \_SB.CNOT (Local1, 3) }
                }
                Increment (Local1)
            }
            Store (Local0, CPUO)
        }
        Method (_INI) { Store (CPUS, CPUO) }
    }

    Scope (\_GPE)
    {
        Name (_HID, "ACPI0006")
        Method (_E01) { \_SB.PCI0.PCHG () }
        Method (_E02) { \_SB.CCHG () }
    }
}
