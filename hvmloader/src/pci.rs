//! PCI: which devices there are, where they answer, which interrupt they raise.
//!
//! Main path: [`Bus::scan`] → [`Bus::window`] (where the devices' memory begins)
//! → [`Bus::assign`] → [`chipset::init`].

pub mod chipset;
pub mod config;
mod plan;

use crate::layout::RESERVED;
use crate::machine::Machine;
use config::{Function, Register};

pub use plan::{Plan, Window};

/// Address registers of all devices together; no bus of QEMU's has so many.
const MAX_BARS: usize = 256;
const MAX_FUNCTIONS: usize = 256;

/// What an address register decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// I/O ports.
    Ports,
    /// Memory below 4 GiB.
    Memory32,
    /// Memory anywhere; two registers.
    Memory64,
    /// An expansion ROM: memory below 4 GiB, decoded only when it is asked for.
    Rom,
}

/// A base address register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Whose.
    pub function: Function,
    /// Which.
    pub register: Register,
    /// What it decodes.
    pub space: Space,
    /// How much of it: a power of two.
    pub size: u64,
    /// Where it was put; `None` when nothing was free.
    pub base: Option<u64>,
}

/// All of bus 0: Xen's device model has no other.
#[derive(Debug)]
pub struct Bus {
    functions: [Function; MAX_FUNCTIONS],
    function_count: usize,
    bars: [Bar; MAX_BARS],
    bar_count: usize,
    /// Where the devices' memory is, once it is assigned.
    pub window: Window,
}

impl Bus {
    /// Finds all devices and what their address registers need.
    pub fn scan(machine: &mut impl Machine) -> Self {
        let nobody = Function::new(0, 0);
        let mut bus = Self {
            functions: [nobody; MAX_FUNCTIONS],
            function_count: 0,
            bars: [Bar {
                function: nobody,
                register: Register(0),
                space: Space::Ports,
                size: 0,
                base: None,
            }; MAX_BARS],
            bar_count: 0,
            window: Window::default(),
        };
        for device in 0..32 {
            let first = Function::new(device, 0);
            if !first.exists(machine) {
                continue;
            }
            bus.add(machine, first);
            if first.has_siblings(machine) {
                for number in 1..8 {
                    let function = Function::new(device, number);
                    if function.exists(machine) {
                        bus.add(machine, function);
                    }
                }
            }
        }
        bus
    }

    /// The devices, in the bus's order.
    pub fn functions(&self) -> &[Function] {
        &self.functions[..self.function_count]
    }

    /// The address registers: after [`assign`](Self::assign) by falling size.
    pub fn bars(&self) -> &[Bar] {
        &self.bars[..self.bar_count]
    }

    fn add(&mut self, machine: &mut impl Machine, function: Function) {
        self.functions[self.function_count] = function;
        self.function_count += 1;
        function.disable(machine);
        let mut number = 0;
        while number < function.bar_registers(machine) {
            let bar = function.size_bar(machine, Register::bar(number));
            number += match bar {
                Some(Bar {
                    space: Space::Memory64,
                    ..
                }) => 2,
                _ => 1,
            };
            self.add_bar(bar);
        }
        if let Some(rom) = function.rom_register(machine) {
            self.add_bar(function.size_rom(machine, rom));
        }
    }

    fn add_bar(&mut self, bar: Option<Bar>) {
        if let Some(bar) = bar
            && let Some(free) = self.bars.get_mut(self.bar_count)
        {
            *free = bar;
            self.bar_count += 1;
        }
    }

    /// Where memory below 4 GiB has to begin to be the devices', by what they
    /// need and what the plan allows.
    pub fn window(&self, plan: &Plan) -> Window {
        let memory = self.bars().iter().filter(|bar| bar.space != Space::Ports);
        plan.window(memory.map(|bar| (bar.size, bar.space == Space::Memory64)))
    }

    /// Gives every address register its place and switches decoding on. What
    /// finds none stays off, and the log says so.
    pub fn assign(&mut self, machine: &mut impl Machine, window: Window) {
        self.bars[..self.bar_count]
            .sort_unstable_by_key(|bar| (!bar.size, bar.function, bar.register));
        let mut ports = plan::Cursor::new(plan::PORTS);
        let mut low = plan::Cursor::new(window.start..RESERVED.0);
        let mut high = plan::Cursor::new(window.high_start..1 << 46);
        for bar in &mut self.bars[..self.bar_count] {
            bar.base = match bar.space {
                Space::Ports => ports.take(bar.size),
                Space::Memory64 if bar.size >= window.high_from => high.take(bar.size),
                Space::Memory64 | Space::Memory32 | Space::Rom => low.take(bar.size),
            };
            match bar.base {
                Some(base) => bar.function.set_bar(machine, bar, base),
                None => machine.log(format_args!(
                    "hvmloader: pci {}: no room for {:#x} bytes of register {:#x}",
                    bar.function, bar.size, bar.register.0
                )),
            }
        }
        self.window = window;
        for function in &self.functions[..self.function_count] {
            let own = self.bars[..self.bar_count]
                .iter()
                .filter(|bar| bar.function == *function);
            function.enable(machine, own);
        }
    }

    /// What was taken above 4 GiB; empty if nothing was.
    pub fn high_range(&self) -> core::ops::Range<u64> {
        let above = self.bars().iter().filter_map(|bar| {
            let base = bar.base?;
            (base >= crate::layout::FOUR_GIB).then_some(base..base + bar.size)
        });
        above
            .reduce(|all, bar| all.start.min(bar.start)..all.end.max(bar.end))
            .unwrap_or(0..0)
    }
}
