//! Attackers that call functions of the host: with every edge of pointer, length, handle, flag and discriminant, in any order,
//! between loops, traps, growths and overwritten memory.
//!
//! Such a module counts in globals how its calls have returned, and sends the counts to the pid in its argument: see
//! [`read_counts`]. Each import is called by a function of its own, whose name tells the host in a backtrace which call trapped.

use super::functions::{self, Function, Offer};
use super::operands::{self, Memory, Operand};
use crate::fuzz::dice::Dice;
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, DataSection, EntityType, ExportKind, ExportSection,
    Function as Body, FunctionSection, GlobalSection, GlobalType, ImportSection, InstructionSink,
    MemArg, MemorySection, MemoryType, Module, NameMap, NameSection, TypeSection, ValType,
};

/// The tag of the message that holds the counts.
pub const COUNTS_TAG: u32 = 0x7f00;
/// The beginning of the names of functions that call an import.
pub const CALL_PREFIX: &str = "call:";

/// The functions that an attacker exports beside its entry, so that it can spawn them.
const CHILDREN: [&str; 2] = ["child0", "child1"];
const FUNCTIONS_MAX: u64 = 24;
const DEPTH_MAX: u32 = 3;
/// Bytes of each function's counts in a message: its number, and how often it returned 0 and anything else.
const COUNT_BYTES: usize = 12;

/// Makes a module.
pub fn make(dice: &mut Dice, offer: Offer) -> Vec<u8> {
    let mut calls = Calls::choose(dice, offer);
    let run = calls.function(dice, 30);
    let children = CHILDREN.map(|_| calls.function(dice, 12));
    let realloc = calls.realloc(dice);
    calls.encode(run, children, realloc)
}

/// The counts in a message: for each function (by its place in [`functions::all`]) how often it returned 0 or nothing, and how
/// often anything else.
pub fn read_counts(payload: &[u8]) -> impl Iterator<Item = (usize, u32, u32)> {
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap_or_default());
    payload.chunks_exact(COUNT_BYTES).map(move |count| {
        (
            number(&count[..4]) as usize,
            number(&count[4..8]),
            number(&count[8..]),
        )
    })
}

/// A module that is being made.
struct Calls {
    /// The imports: each with its place among all functions.
    imports: Vec<(usize, Function)>,
    memory: Memory,
    is_64_bit_result: Vec<bool>,
    /// Of a hundred calls so many may have any operands.
    wild_percent: u64,
}

/// Indexes of globals: the heap's end, the host's pid, then two counts for each import.
const HEAP: u32 = 0;
const HOST_NODE: u32 = 1;
const HOST_ID: u32 = 2;
const COUNTS: u32 = 3;

impl Calls {
    fn choose(dice: &mut Dice, offer: Offer) -> Calls {
        let all = functions::all();
        let offered: Vec<usize> = (0..all.len())
            .filter(|place| offer.has(&all[*place]))
            .collect();
        let place = |label: &str| all.iter().position(|function| function.label() == label);
        // The first three have a purpose beside the attack: see `prologue` and `report`.
        let mut places: Vec<usize> = ["lifecycle/self", "lifecycle/argument", "mailbox/send"]
            .iter()
            .filter_map(|label| place(label))
            .collect();
        if dice.percent(60) {
            places.extend(place("spawning/spawn"));
        }
        for _ in 0..4 + dice.below(FUNCTIONS_MAX - 4) {
            let place = *dice.pick(&offered);
            // Few calls that end the process: after them nothing else is tried.
            if !all[place].ends_process() || dice.percent(10) {
                places.push(place);
            }
        }
        let imports: Vec<_> = places
            .into_iter()
            .map(|place| (place, all[place].clone()))
            .collect();
        let is_64_bit_result = imports
            .iter()
            .map(|(_, function)| function.result == Some(ValType::I64))
            .collect();
        Calls {
            imports,
            memory: Memory::choose(dice),
            is_64_bit_result,
            wild_percent: *dice.pick(&[0, 1, 3, 10, 50]),
        }
    }

    /// The function that calls this import and counts how it returns.
    fn caller(&self, import: u32) -> u32 {
        self.imports.len() as u32 + import
    }

    fn report(&self) -> u32 {
        2 * self.imports.len() as u32
    }

    /// An exported function: a random number of steps.
    fn function(&mut self, dice: &mut Dice, steps: u64) -> Body {
        let mut body = Body::new([(DEPTH_MAX, ValType::I32)]);
        let mut code = body.instructions();
        self.prologue(&mut code);
        for step in 1..=2 + dice.below(steps) {
            self.step(dice, &mut code, 0);
            if step.is_multiple_of(3) {
                code.call(self.report());
            }
        }
        code.call(self.report());
        code.end();
        body
    }

    /// Asks for the own pid, and takes the host's from the argument.
    fn prologue(&self, code: &mut InstructionSink<'_>) {
        code.i32_const(operands::OWN_PID).call(self.caller(0));
        code.i32_const(operands::ARGUMENT).call(self.caller(1));
        // The result is the list: an address and a length.
        let at = |offset| MemArg {
            offset,
            align: 0,
            memory_index: 0,
        };
        code.i32_const(operands::ARGUMENT).i32_load(at(4));
        code.i32_const(16).i32_ge_u().if_(BlockType::Empty);
        for (offset, global) in [(0, HOST_NODE), (8, HOST_ID)] {
            code.i32_const(operands::ARGUMENT).i32_load(at(0));
            code.i64_load(at(offset)).global_set(global);
            code.i32_const(operands::HOST_PID + offset as i32);
            code.global_get(global).i64_store(at(0));
        }
        code.end();
    }

    fn step(&self, dice: &mut Dice, code: &mut InstructionSink<'_>, depth: u32) {
        match dice.below(100) {
            0..72 => self.call(dice, code),
            72..77 => {
                let pages = *dice.pick(&[0, 0, 1, 2, 100, 65536, -1]);
                code.i32_const(pages).memory_grow(0).drop();
            }
            77..82 => self.fill(dice, code),
            82..85 => {
                let value = operands::i64_edge(dice);
                let address = self.memory.inside(dice, 8);
                code.i32_const(address)
                    .i64_const(value)
                    .i64_store(operands::AT);
            }
            85..96 if depth < DEPTH_MAX => self.repeat(dice, code, depth),
            96 => endless_loop(dice, code),
            97 if dice.percent(50) => {
                // Deeper and deeper into a function that calls itself.
                code.call(self.report() + 1);
            }
            98 => trap(dice, code),
            _ => {
                code.nop();
            }
        }
    }

    fn call(&self, dice: &mut Dice, code: &mut InstructionSink<'_>) {
        let import = dice.below(self.imports.len() as u64) as u32;
        let (_, function) = &self.imports[import as usize];
        let is_wild = dice.percent(self.wild_percent);
        for operand in operands::choose(dice, function, &self.memory, is_wild) {
            match operand {
                Operand::I32(value) => code.i32_const(value),
                Operand::I64(value) => code.i64_const(value),
                Operand::I32At(address) => code.i32_const(address).i32_load(operands::AT),
                Operand::I64At(address) => code.i32_const(address).i64_load(operands::AT),
            };
        }
        code.call(self.caller(import));
    }

    /// Overwrites a stretch of memory with bytes that an attacker leaves behind.
    fn fill(&self, dice: &mut Dice, code: &mut InstructionSink<'_>) {
        let length = *dice.pick(&[1, 8, 64, 4096, 20000]);
        let address = self.memory.inside(dice, length);
        let value = dice.below(256) as i32;
        code.i32_const(address)
            .i32_const(value)
            .i32_const(length)
            .memory_fill(0);
    }

    fn repeat(&self, dice: &mut Dice, code: &mut InstructionSink<'_>, depth: u32) {
        let times = *dice.pick(&[2, 3, 10, 100, 1000, 100_000]);
        code.i32_const(times).local_set(depth);
        code.loop_(BlockType::Empty);
        for _ in 0..1 + dice.below(4) {
            self.step(dice, code, depth + 1);
        }
        code.local_get(depth)
            .i32_const(1)
            .i32_sub()
            .local_tee(depth)
            .br_if(0)
            .end();
    }

    /// `cabi_realloc`, which the host's answers need: a good one, or one of many bad ones.
    fn realloc(&self, dice: &mut Dice) -> Body {
        let mut body = Body::new([(DEPTH_MAX, ValType::I32)]);
        let mut code = body.instructions();
        match dice.below(20) {
            0 => {
                code.unreachable();
            }
            1 => {
                code.loop_(BlockType::Empty).br(0).end();
            }
            2 => {
                let pages = *dice.pick(&[1, 3, 65536]);
                code.i32_const(pages).memory_grow(0).drop();
            }
            3 | 4 => {
                for _ in 0..1 + dice.below(2) {
                    self.call(dice, &mut code);
                }
            }
            5..8 => {
                let lie = operands::i32_edge(dice, &self.memory);
                code.i32_const(lie).return_();
            }
            8 => {
                let address = self.memory.inside(dice, 64);
                code.i32_const(address)
                    .i32_const(0x5a)
                    .i32_const(64)
                    .memory_fill(0);
            }
            _ => {}
        }
        // A heap that only grows, and starts again at its end.
        code.global_get(HEAP)
            .local_get(3)
            .i32_add()
            .i32_const(self.memory.heap_end())
            .i32_gt_u()
            .if_(BlockType::Empty)
            .i32_const(operands::HEAP_START)
            .global_set(HEAP)
            .end();
        code.global_get(HEAP);
        code.global_get(HEAP)
            .local_get(3)
            .i32_add()
            .i32_const(15)
            .i32_add()
            .i32_const(-16)
            .i32_and()
            .global_set(HEAP);
        code.end();
        body
    }

    /// The function that calls an import: it has the import's parameters, and counts the result.
    fn caller_body(&self, import: usize) -> Body {
        let function = &self.imports[import].1;
        let params = function.params.len() as u32;
        let mut body = Body::new([(1, ValType::I32)]);
        let mut code = body.instructions();
        for param in 0..params {
            code.local_get(param);
        }
        code.call(import as u32);
        if function.result.is_none() {
            code.i32_const(0);
        } else if self.is_64_bit_result[import] {
            code.i64_eqz().i32_eqz();
        }
        code.if_(BlockType::Empty);
        count(&mut code, COUNTS + 2 * import as u32 + 1);
        code.else_();
        count(&mut code, COUNTS + 2 * import as u32);
        code.end().end();
        body
    }

    /// Sends the counts to the host, and starts counting again.
    fn report_body(&self) -> Body {
        let mut body = Body::new([]);
        let mut code = body.instructions();
        let start = self.memory.counts_start();
        for (import, (place, _)) in (0..).zip(&self.imports) {
            let address = start + import * COUNT_BYTES as i32;
            code.i32_const(address)
                .i32_const(*place as i32)
                .i32_store(operands::AT);
            for which in 0..2 {
                let global = COUNTS + 2 * import as u32 + which;
                code.i32_const(address + 4 + 4 * which as i32)
                    .global_get(global)
                    .i32_store(operands::AT);
                code.i32_const(0).global_set(global);
            }
        }
        code.global_get(HOST_NODE).global_get(HOST_ID);
        code.i32_const(COUNTS_TAG as i32);
        code.i32_const(0).i64_const(0).i64_const(0).i32_const(0);
        code.i32_const(start)
            .i32_const((self.imports.len() * COUNT_BYTES) as i32);
        code.call(2).end();
        body
    }

    fn encode(&self, run: Body, children: [Body; CHILDREN.len()], realloc: Body) -> Vec<u8> {
        let imports = self.imports.len() as u32;
        let mut types = TypeSection::new();
        let mut import_section = ImportSection::new();
        let mut functions = FunctionSection::new();
        for (index, (_, function)) in (0..).zip(&self.imports) {
            let params = || function.params.iter().copied();
            types.ty().function(params(), function.result);
            types.ty().function(params(), []);
            let entity = EntityType::Function(2 * index);
            import_section.import(&function.module, &function.name, entity);
            functions.function(2 * index + 1);
        }
        let nothing = types.len();
        types.ty().function([], []);
        types.ty().function([ValType::I32; 4], [ValType::I32]);
        // `report`, a function that calls itself, the entry, the children, `cabi_realloc`.
        functions.function(nothing).function(nothing);
        functions.function(nothing);
        let mut exports = ExportSection::new();
        exports.export("memory", ExportKind::Memory, 0);
        let entry = 2 * imports + 2;
        exports.export("run", ExportKind::Func, entry);
        for (index, child) in (entry + 1..).zip(CHILDREN) {
            functions.function(nothing);
            exports.export(child, ExportKind::Func, index);
        }
        let last = entry + 1 + CHILDREN.len() as u32;
        functions.function(nothing + 1);
        exports.export("cabi_realloc", ExportKind::Func, last);
        let mut code = CodeSection::new();
        for import in 0..self.imports.len() {
            code.function(&self.caller_body(import));
        }
        code.function(&self.report_body())
            .function(&deeper(2 * imports + 1));
        code.function(&run);
        for child in &children {
            code.function(child);
        }
        code.function(&realloc);
        let mut data = DataSection::new();
        for (address, bytes) in operands::data() {
            data.active(0, &ConstExpr::i32_const(address), bytes.iter().copied());
        }
        let mut module = Module::new();
        module
            .section(&types)
            .section(&import_section)
            .section(&functions)
            .section(&self.memories())
            .section(&self.globals())
            .section(&exports)
            .section(&code)
            .section(&data)
            .section(&self.names());
        module.finish()
    }

    fn memories(&self) -> MemorySection {
        let mut memories = MemorySection::new();
        memories.memory(MemoryType {
            minimum: self.memory.pages,
            maximum: self.memory.pages_max,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        memories
    }

    fn globals(&self) -> GlobalSection {
        let mut globals = GlobalSection::new();
        let global = |val_type| GlobalType {
            val_type,
            mutable: true,
            shared: false,
        };
        let heap = ConstExpr::i32_const(operands::HEAP_START);
        globals.global(global(ValType::I32), &heap);
        for _ in [HOST_NODE, HOST_ID] {
            globals.global(global(ValType::I64), &ConstExpr::i64_const(0));
        }
        for _ in 0..2 * self.imports.len() {
            globals.global(global(ValType::I32), &ConstExpr::i32_const(0));
        }
        globals
    }

    fn names(&self) -> NameSection {
        let mut functions = NameMap::new();
        for (index, (_, function)) in (0..).zip(&self.imports) {
            let name = format!("{CALL_PREFIX}{}", function.label());
            functions.append(self.caller(index), &name);
        }
        let mut names = NameSection::new();
        names.functions(&functions);
        names
    }
}

fn count(code: &mut InstructionSink<'_>, global: u32) {
    code.global_get(global)
        .i32_const(1)
        .i32_add()
        .global_set(global);
}

/// A function that calls itself until the stack is used up.
fn deeper(own: u32) -> Body {
    let mut body = Body::new([]);
    body.instructions().call(own).end();
    body
}

/// One of several forms of a loop that never ends.
fn endless_loop(dice: &mut Dice, code: &mut InstructionSink<'_>) {
    match dice.below(4) {
        0 => {
            code.loop_(BlockType::Empty).br(0).end();
        }
        1 => {
            code.loop_(BlockType::Empty).i32_const(1).br_if(0).end();
        }
        2 => {
            code.loop_(BlockType::Empty)
                .i32_const(7)
                .br_table([0, 0], 0)
                .end();
        }
        _ => {
            code.loop_(BlockType::Empty)
                .block(BlockType::Empty)
                .br(1)
                .end()
                .end();
        }
    }
}

fn trap(dice: &mut Dice, code: &mut InstructionSink<'_>) {
    match dice.below(3) {
        0 => {
            code.unreachable();
        }
        1 => {
            code.i32_const(1).i32_const(0).i32_div_u().drop();
        }
        _ => {
            code.i32_const(-1).i32_load(operands::AT).drop();
        }
    }
}
