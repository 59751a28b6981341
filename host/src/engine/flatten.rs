//! The rewriter: makes a guest's core module callable without the host ever calling back into it.
//!
//! Three things are changed, and nothing else but that mutable globals are exported, for the host to set them back:
//!
//! - **Imports that may wait or return a list.** The canonical ABI has the host call the guest's `cabi_realloc` in
//!   the middle of an import, which costs a second stack and would let guest code run while the host is at work.
//!   Instead the import becomes a raw one that either answers "again" or leaves its result with the host, and a
//!   function in the module itself does the rest:
//!
//!   ```text
//!   members(…, ret):  loop:  n = raw.members(…, ret)      ; n < 0: give up the turn at the loop's edge, then again
//!                     while n ≠ 0:  p = cabi_realloc(0, 0, alignment of n, size of n);  n = raw.take(p)
//!   ```
//!
//!   A short payload comes with the answer, and is stored without another call of the host.
//! - **Start.** A start function and `_initialize` would run when the instance is made, outside of the process's own
//!   turns. They move to the front of every function that can be spawned.
//! - **Bulk memory operations.** One `memory.fill` may take a second. Large ones are cut into pieces with a loop
//!   around, which can be preempted.

use super::abi::{self, RAW_MODULE, RAW_TAKE, SHORT, SHORT_BYTES_MAX, Shape};
use super::analysis::{Analysis, Bulk, ENTRY_PREFIX, GLOBAL_PREFIX};
use super::error::{LoadError, LoadErrorKind};
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    BlockType, CodeSection, EntityType, ExportKind, ExportSection, Function, FunctionSection,
};
use wasm_encoder::{
    ImportSection, Instruction, InstructionSink, MemArg, Module, TypeSection, ValType,
};

/// Bulk operations run in pieces of this many bytes: some ten microseconds each.
const BULK_PIECE_BYTES: i32 = 256 << 10;

/// Rewrites a module that `analysis` describes.
pub(super) fn rewrite(bytes: &[u8], analysis: &Analysis) -> Result<Vec<u8>, LoadError> {
    let mut rewriter = Rewriter::new(analysis);
    let mut module = Module::new();
    rewriter
        .parse_core_module(&mut module, wasmparser::Parser::new(0), bytes)
        .map_err(|error| LoadError::new(LoadErrorKind::Invalid, error.to_string()))?;
    Ok(module.finish())
}

/// Which functions of a rewritten module were in the original, and under what index.
#[derive(Clone, Copy)]
pub(super) struct Originals {
    imports_added: u32,
    first_added: u32,
}

impl Originals {
    pub(super) fn of(analysis: &Analysis) -> Originals {
        let rewriter = Rewriter::new(analysis);
        Originals {
            imports_added: u32::from(rewriter.takes),
            first_added: rewriter.first_added(),
        }
    }

    /// The original's index of a function with code; none for what the rewriter has added.
    pub(super) fn index(self, rewritten: u32) -> Option<u32> {
        (rewritten < self.first_added).then(|| rewritten - self.imports_added)
    }
}

/// Function indexes, old and new. The new module has the old imports in their old places, one import more if lists
/// are returned, the old functions, and then glue.
struct Rewriter<'a> {
    analysis: &'a Analysis,
    /// Old indexes of imports that get glue, with their functions; the n-th has the n-th glue function.
    glued: Vec<(u32, &'static abi::Function)>,
    takes: bool,
}

/// The types that are added, counted from the first free index.
struct Types {
    /// () -> ()
    unit: u32,
    /// (i32) -> (i64)
    take: u32,
    /// (i32 i32 i32) -> ()
    bulk: u32,
    /// The raw imports' types and the glue's, in the order of `glued`.
    glue: u32,
}

impl<'a> Rewriter<'a> {
    fn new(analysis: &'a Analysis) -> Rewriter<'a> {
        // Function imports are counted apart from the others; everything in `imports` with a contract is a function,
        // and so is all of WASI. Others don't get this far: nobody provides them.
        let glued: Vec<_> = (0..)
            .zip(&analysis.imports)
            .filter_map(|(index, import)| Some((index, import.contract?)))
            .filter(|(_, function)| function.shape != Shape::Direct)
            .collect();
        let takes = glued
            .iter()
            .any(|(_, function)| function.shape.leaves_lists());
        Rewriter {
            analysis,
            glued,
            takes,
        }
    }

    fn types(&self) -> Types {
        let unit = self.analysis.types;
        Types {
            unit,
            take: unit + 1,
            bulk: unit + 2,
            glue: unit + 3,
        }
    }

    fn imported(&self) -> u32 {
        self.analysis.imported_functions + u32::from(self.takes)
    }

    /// The first function that is added. First come the glue functions, then the empty start function, one for each bulk
    /// operation that the code has, and an entry for each function that can be spawned.
    fn first_added(&self) -> u32 {
        self.imported() + self.analysis.defined_functions
    }

    fn nothing(&self) -> u32 {
        self.first_added() + self.glued.len() as u32
    }

    fn bulk(&self, operation: Bulk) -> u32 {
        let place = self.analysis.bulk.iter().position(|of| *of == operation);
        self.nothing() + 1 + place.expect("the analysis saw every operation") as u32
    }

    fn first_entry(&self) -> u32 {
        self.nothing() + 1 + self.analysis.bulk.len() as u32
    }

    /// The new index of an old function.
    fn moved(&self, old: u32) -> u32 {
        match self.glued.iter().position(|(import, _)| *import == old) {
            Some(place) => self.first_added() + place as u32,
            None if old < self.analysis.imported_functions => old,
            None => old + u32::from(self.takes),
        }
    }

    fn glue(&self, import: u32, function: &abi::Function) -> Function {
        let params = function.params.len() as u32;
        let answer = params;
        let lists = function.shape.leaves_lists();
        let answers = answers(function.shape);
        let room = ValType::I32;
        let locals = answers.iter().chain([&room]).map(|ty| (1, *ty));
        let mut body = Function::new(locals.collect::<Vec<_>>());
        let mut code = body.instructions();
        code.loop_(BlockType::Empty);
        for param in 0..params {
            code.local_get(param);
        }
        code.call(import);
        for more in (1..answers.len() as u32).rev() {
            code.local_set(answer + more);
        }
        code.local_tee(answer);
        if lists {
            code.i64_const(0).i64_lt_s();
        } else {
            code.i32_const(0).i32_lt_s();
        }
        code.br_if(0).end();
        if let (true, Some(realloc)) = (lists, self.analysis.realloc) {
            let room = |code: &mut InstructionSink<'_>| {
                code.i32_const(0).i32_const(0);
                code.local_get(answer)
                    .i64_const(32)
                    .i64_shr_u()
                    .i32_wrap_i64();
                code.local_get(answer).i32_wrap_i64();
                code.call(self.moved(realloc));
            };
            code.local_get(answer).i64_const(0).i64_ne();
            code.if_(BlockType::Empty);
            if let Shape::RetryThenPayload(pointer_at) = function.shape {
                code.local_get(answer).i64_const(SHORT).i64_and();
                code.i64_eqz().i32_eqz().if_(BlockType::Empty);
                // Its alignment is above its size, as that of lists.
                code.local_get(answer).i64_const(!SHORT).i64_and();
                code.local_set(answer);
                room(&mut code);
                self.store_short(&mut code, params, pointer_at);
                code.else_();
            }
            code.loop_(BlockType::Empty);
            room(&mut code);
            code.call(self.analysis.imported_functions)
                .local_tee(answer)
                .i64_const(0)
                .i64_ne()
                .br_if(0)
                .end();
            if let Shape::RetryThenPayload(_) = function.shape {
                code.end();
            }
            code.end();
        }
        if !function.results.is_empty() {
            code.local_get(answer);
        }
        code.end();
        body
    }

    /// Takes the address on the stack, and stores there what has come with the answer; and the address where it belongs,
    /// behind the result, whose address is the last parameter.
    fn store_short(&self, code: &mut InstructionSink<'_>, params: u32, pointer_at: u64) {
        let (answer, low, high, room) = (params, params + 1, params + 2, params + 3);
        let place = |offset| MemArg {
            offset,
            align: 0,
            memory_index: self.analysis.exported_memory.unwrap_or_default(),
        };
        code.local_set(room);
        code.local_get(params - 1)
            .local_get(room)
            .i32_store(place(pointer_at));
        let has = |code: &mut InstructionSink<'_>, bytes: i64| {
            code.local_get(answer).i64_const(bytes).i64_and();
            code.i64_eqz().i32_eqz().if_(BlockType::Empty);
        };
        has(code, SHORT_BYTES_MAX as i64);
        code.local_get(room).local_get(low).i64_store(place(0));
        code.local_get(room).local_get(high).i64_store(place(8));
        code.else_();
        // Eight bytes, four, two, one: whatever the size is made of.
        has(code, 8);
        code.local_get(room).local_get(low).i64_store(place(0));
        code.local_get(high).local_set(low);
        code.local_get(room).i32_const(8).i32_add().local_set(room);
        code.end();
        for bytes in [4, 2, 1] {
            has(code, bytes);
            code.local_get(room).local_get(low);
            match bytes {
                4 => code.i64_store32(place(0)),
                2 => code.i64_store16(place(0)),
                _ => code.i64_store8(place(0)),
            };
            code.local_get(low).i64_const(8 * bytes).i64_shr_u();
            code.local_set(low);
            code.local_get(room).i32_const(bytes as i32).i32_add();
            code.local_set(room);
            code.end();
        }
        code.end();
    }

    fn entry(&self, name: &str, index: u32) -> Function {
        let mut body = Function::new([]);
        let mut code = body.instructions();
        // A WASI command initializes itself.
        let initialize = self.analysis.initialize.filter(|_| name != "_start");
        for first in self.analysis.start.into_iter().chain(initialize) {
            code.call(self.moved(first));
        }
        code.call(self.moved(index)).end();
        body
    }
}

impl Reencode for Rewriter<'_> {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, old: u32) -> Result<u32, Error> {
        Ok(self.moved(old))
    }

    fn start_section(&mut self, _start: u32) -> Result<u32, Error> {
        Ok(self.nothing())
    }

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: wasmparser::TypeSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_type_section(self, types, section)?;
        types.ty().function([], []);
        types.ty().function([ValType::I32], [ValType::I64]);
        types.ty().function([ValType::I32; 3], []);
        for (_, function) in &self.glued {
            let params: Vec<ValType> = function
                .params
                .iter()
                .map(|param| match param {
                    wasmparser::ValType::I64 => ValType::I64,
                    _ => ValType::I32,
                })
                .collect();
            let answers = answers(function.shape).iter().copied();
            types.ty().function(params.iter().copied(), answers);
            // What the contract's functions return, if not by memory, is an i32.
            let results = function.results.iter().map(|_| ValType::I32);
            types.ty().function(params, results.collect::<Vec<_>>());
        }
        Ok(())
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: wasmparser::ImportSectionReader<'_>,
    ) -> Result<(), Error> {
        for (index, import) in (0..).zip(section.into_imports()) {
            let import = import?;
            match self.glued.iter().position(|(glued, _)| *glued == index) {
                Some(place) => {
                    let raw = EntityType::Function(self.types().glue + 2 * place as u32);
                    imports.import(RAW_MODULE, &self.glued[place].1.raw_name(), raw);
                }
                None => {
                    let ty = self.entity_type(import.ty)?;
                    imports.import(import.module, import.name, ty);
                }
            }
        }
        if self.takes {
            imports.import(
                RAW_MODULE,
                RAW_TAKE,
                EntityType::Function(self.types().take),
            );
        }
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_function_section(self, functions, section)?;
        let types = self.types();
        for place in 0..self.glued.len() as u32 {
            functions.function(types.glue + 2 * place + 1);
        }
        functions.function(types.unit);
        for _ in &self.analysis.bulk {
            functions.function(types.bulk);
        }
        for _ in &self.analysis.functions {
            functions.function(types.unit);
        }
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: wasmparser::ExportSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_export_section(self, exports, section)?;
        for (place, (name, _)) in (0..).zip(&self.analysis.functions) {
            exports.export(
                &format!("{ENTRY_PREFIX}{name}"),
                ExportKind::Func,
                self.first_entry() + place,
            );
        }
        for (index, _) in &self.analysis.initial.globals {
            exports.export(
                &format!("{GLOBAL_PREFIX}{index}"),
                ExportKind::Global,
                *index,
            );
        }
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_code_section(self, code, section)?;
        for (import, function) in &self.glued {
            code.function(&self.glue(*import, function));
        }
        code.function(&empty());
        for operation in &self.analysis.bulk {
            code.function(&bulk(*operation));
        }
        for (name, index) in &self.analysis.functions {
            code.function(&self.entry(name, *index));
        }
        Ok(())
    }

    fn instruction<'b>(
        &mut self,
        operator: wasmparser::Operator<'b>,
    ) -> Result<Instruction<'b>, Error> {
        match Bulk::of(&operator) {
            Some(operation) => Ok(Instruction::Call(self.bulk(operation))),
            None => utils::instruction(self, operator),
        }
    }
}

/// What a raw function answers.
fn answers(shape: Shape) -> &'static [ValType] {
    match shape {
        Shape::Direct | Shape::Retry => &[ValType::I32],
        Shape::RetryThenLists => &[ValType::I64],
        Shape::RetryThenPayload(_) => &[ValType::I64; 3],
    }
}

fn empty() -> Function {
    let mut body = Function::new([]);
    body.instructions().end();
    body
}

impl Bulk {
    fn emit(self, code: &mut InstructionSink<'_>) {
        match self {
            Bulk::Fill { memory } => code.memory_fill(memory),
            Bulk::Copy {
                destination,
                source,
            } => code.memory_copy(destination, source),
        };
    }
}

/// `fill(destination, value, length)` or `copy(destination, source, length)`: the operation itself when it is small
/// or out of bounds (it traps before it writes anything, so it must be seen whole), else piece by piece. A copy to
/// a higher address goes backwards, as overlapping ranges need.
fn bulk(operation: Bulk) -> Function {
    let (destination, source) = match operation {
        Bulk::Fill { memory } => (memory, None),
        Bulk::Copy {
            destination,
            source,
        } => (destination, Some(source)),
    };
    let copy = source.is_some();
    const DESTINATION: u32 = 0;
    const SECOND: u32 = 1;
    const LENGTH: u32 = 2;
    let mut body = Function::new([]);
    let mut code = body.instructions();
    let out_of_bounds = |code: &mut InstructionSink<'_>, start: u32, memory: u32| {
        code.local_get(start)
            .i64_extend_i32_u()
            .local_get(LENGTH)
            .i64_extend_i32_u()
            .i64_add();
        code.memory_size(memory)
            .i64_extend_i32_u()
            .i64_const(16)
            .i64_shl()
            .i64_gt_u();
    };
    code.local_get(LENGTH)
        .i32_const(BULK_PIECE_BYTES)
        .i32_le_u();
    out_of_bounds(&mut code, DESTINATION, destination);
    code.i32_or();
    if let Some(source) = source {
        out_of_bounds(&mut code, SECOND, source);
        code.i32_or();
    }
    code.if_(BlockType::Empty)
        .local_get(DESTINATION)
        .local_get(SECOND)
        .local_get(LENGTH);
    operation.emit(&mut code);
    code.return_().end();

    if copy {
        // Backwards: the last piece of what is left, at the same distance in both ranges.
        code.local_get(DESTINATION)
            .local_get(SECOND)
            .i32_gt_u()
            .if_(BlockType::Empty)
            .loop_(BlockType::Empty);
        code.local_get(LENGTH)
            .i32_const(BULK_PIECE_BYTES)
            .i32_sub()
            .local_set(LENGTH);
        code.local_get(DESTINATION).local_get(LENGTH).i32_add();
        code.local_get(SECOND).local_get(LENGTH).i32_add();
        code.i32_const(BULK_PIECE_BYTES);
        operation.emit(&mut code);
        code.local_get(LENGTH)
            .i32_const(BULK_PIECE_BYTES)
            .i32_gt_u()
            .br_if(0)
            .end();
        code.local_get(DESTINATION)
            .local_get(SECOND)
            .local_get(LENGTH);
        operation.emit(&mut code);
        code.return_().end();
    }
    code.loop_(BlockType::Empty);
    code.local_get(DESTINATION)
        .local_get(SECOND)
        .i32_const(BULK_PIECE_BYTES);
    operation.emit(&mut code);
    let step = if copy {
        &[DESTINATION, SECOND][..]
    } else {
        &[DESTINATION][..]
    };
    for moving in step {
        code.local_get(*moving)
            .i32_const(BULK_PIECE_BYTES)
            .i32_add()
            .local_set(*moving);
    }
    code.local_get(LENGTH)
        .i32_const(BULK_PIECE_BYTES)
        .i32_sub()
        .local_tee(LENGTH);
    code.i32_const(BULK_PIECE_BYTES).i32_gt_u().br_if(0).end();
    code.local_get(DESTINATION)
        .local_get(SECOND)
        .local_get(LENGTH);
    operation.emit(&mut code);
    code.end();
    body
}
