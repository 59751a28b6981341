//! The rewriter: makes a guest's core module callable without the host ever calling back into it.
//!
//! Four things are changed, and nothing else but that mutable globals are exported, for the host to set them back:
//!
//! - **Imports that may wait or return a list.** The canonical ABI has the host call the guest's `cabi_realloc` in
//!   the middle of an import, which costs a second stack and would let guest code run while the host is at work.
//!   Instead the import becomes a raw one that either answers "again" or leaves its result with the host, and a
//!   function in the module itself does the rest:
//!
//!   ```text
//!   members(…, ret):  loop:  n = raw.members(…, ret)      ; n < 0: pause, then again
//!                     while n ≠ 0:  p = cabi_realloc(0, 0, alignment of n, size of n);  n = raw.take(p)
//!   ```
//!
//!   A short payload comes with the answer, and is stored without another call of the host.
//! - **Start.** A start function and `_initialize` would run when the instance is made, outside of the process's own
//!   turns. They move to the front of every function that can be spawned.
//! - **Bulk memory operations** are cut into pieces ([`super::bulk`]), between which the process can be preempted.
//! - **Reductions** are counted, and a turn ends when a slice is used up ([`super::counting`]).

use super::abi::{self, RAW_MODULE, RAW_PAUSE, RAW_TAKE, SHORT, SHORT_BYTES_MAX, Shape};
use super::analysis::{Analysis, Bulk, ENTRY_PREFIX, GLOBAL_PREFIX};
use super::bulk::bulk;
use super::counting::{self, COUNTER, Cost, Counter, What};
use super::error::{LoadError, LoadErrorKind};
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    BlockType, BranchHints, CodeSection, EntityType, ExportKind, ExportSection, Function,
    FunctionSection, GlobalSection,
};
use wasm_encoder::{
    ImportSection, Instruction, InstructionSink, MemArg, Module, SectionId, TypeSection, ValType,
};

/// A function with more locals gets no more: there is a limit of 50,000.
const LOCALS_MAX: u32 = 49_000;

/// Rewrites a module that `analysis` describes, for slices of so many reductions.
pub(super) fn rewrite(bytes: &[u8], analysis: &Analysis, slice: u64) -> Result<Vec<u8>, LoadError> {
    let mut rewriter = Rewriter::new(analysis, slice);
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
        let rewriter = Rewriter::new(analysis, 0);
        Originals {
            imports_added: rewriter.imports_added(),
            first_added: rewriter.first_added(),
        }
    }

    /// The original's index of a function with code; none for what the rewriter has added.
    pub(super) fn index(self, rewritten: u32) -> Option<u32> {
        (rewritten < self.first_added).then(|| rewritten - self.imports_added)
    }
}

/// Function indexes, old and new. The new module has the old imports in their old places, one import more for pauses and
/// one if lists are returned, the old functions, and then glue.
struct Rewriter<'a> {
    analysis: &'a Analysis,
    /// Old indexes of imports that get glue, with their functions; the n-th has the n-th glue function.
    glued: Vec<(u32, &'static abi::Function)>,
    takes: bool,
    counter: Counter,
    /// The sections that a module may lack were there.
    has_imports: bool,
    has_globals: bool,
    /// Functions whose code was written so far, and what is known of its branches.
    written: u32,
    hints: BranchHints,
}

/// The types that are added, counted from the first free index.
struct Types {
    /// () -> ()
    unit: u32,
    /// (i32) -> (i64)
    take: u32,
    /// (i32 i32 i32) -> ()
    bulk: u32,
    /// (i64) -> ()
    pause: u32,
    /// () -> (i64)
    entry: u32,
    /// The raw imports' types and the glue's, in the order of `glued`.
    glue: u32,
}

impl<'a> Rewriter<'a> {
    fn new(analysis: &'a Analysis, slice: u64) -> Rewriter<'a> {
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
        let mut rewriter = Rewriter {
            analysis,
            glued,
            takes,
            counter: Counter {
                left: analysis.initial.globals_seen,
                has_operand: analysis.has_sized_operations,
                slice,
                slice_ends: 0,
                pause: analysis.imported_functions + u32::from(takes),
            },
            has_imports: false,
            has_globals: false,
            written: 0,
            hints: BranchHints::new(),
        };
        rewriter.counter.slice_ends = rewriter.nothing() + 1;
        rewriter
    }

    fn imports_added(&self) -> u32 {
        1 + u32::from(self.takes)
    }

    fn types(&self) -> Types {
        let unit = self.analysis.types;
        Types {
            unit,
            take: unit + 1,
            bulk: unit + 2,
            pause: unit + 3,
            entry: unit + 4,
            glue: unit + 5,
        }
    }

    fn imported(&self) -> u32 {
        self.analysis.imported_functions + self.imports_added()
    }

    /// The first function that is added. First come the glue functions, then the empty start function, that which is called
    /// when a slice ends, one for each bulk operation that the code has, and an entry for each function that can be spawned.
    fn first_added(&self) -> u32 {
        self.imported() + self.analysis.defined_functions
    }

    fn nothing(&self) -> u32 {
        self.first_added() + self.glued.len() as u32
    }

    fn bulk(&self, operation: Bulk) -> u32 {
        let place = self.analysis.bulk.iter().position(|of| *of == operation);
        self.first_bulk() + place.expect("the analysis saw every operation") as u32
    }

    fn first_bulk(&self) -> u32 {
        self.counter.slice_ends + 1
    }

    fn first_entry(&self) -> u32 {
        self.first_bulk() + self.analysis.bulk.len() as u32
    }

    /// The new index of an old function.
    fn moved(&self, old: u32) -> u32 {
        match self.glued.iter().position(|(import, _)| *import == old) {
            Some(place) => self.first_added() + place as u32,
            None if old < self.analysis.imported_functions => old,
            None => old + self.imports_added(),
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
        code.if_(BlockType::Empty);
        self.counter.pause(&mut code);
        code.br(1).end().end();
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

    fn add_imports(&self, imports: &mut ImportSection) {
        let mut add = |name, ty| {
            imports.import(RAW_MODULE, name, EntityType::Function(ty));
        };
        if self.takes {
            add(RAW_TAKE, self.types().take);
        }
        add(RAW_PAUSE, self.types().pause);
    }

    fn entry(&self, name: &str, index: u32) -> Function {
        let mut body = Function::new([]);
        let mut code = body.instructions();
        // A WASI command initializes itself.
        let initialize = self.analysis.initialize.filter(|_| name != "_start");
        let first = self.analysis.start.into_iter().chain(initialize);
        let called: Vec<u32> = first.chain([index]).collect();
        self.counter.begin(&mut code, called.len() as u64);
        for function in called {
            code.call(self.moved(function));
        }
        code.global_get(self.counter.left).end();
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
        types.ty().function([ValType::I64], []);
        types.ty().function([], [ValType::I64]);
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
        self.add_imports(imports);
        self.has_imports = true;
        Ok(())
    }

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: wasmparser::GlobalSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_global_section(self, globals, section)?;
        self.counter.add_globals(globals);
        self.has_globals = true;
        Ok(())
    }

    /// Leaves out what is said of branches: they are elsewhere now.
    fn parse_custom_section(
        &mut self,
        module: &mut Module,
        section: wasmparser::CustomSectionReader<'_>,
    ) -> Result<(), Error> {
        match section.as_known() {
            wasmparser::KnownCustom::BranchHints(_) => Ok(()),
            _ => utils::parse_custom_section(self, module, section),
        }
    }

    /// Adds the sections that the module has not. It has a function and exports it, because something can be spawned.
    fn intersperse_section_hook(
        &mut self,
        module: &mut Module,
        after: Option<SectionId>,
        before: Option<SectionId>,
    ) -> Result<(), Error> {
        match before {
            Some(SectionId::Function) if !self.has_imports => {
                let mut imports = ImportSection::new();
                self.add_imports(&mut imports);
                module.section(&imports);
            }
            Some(SectionId::Export) if !self.has_globals => {
                let mut globals = GlobalSection::new();
                self.counter.add_globals(&mut globals);
                module.section(&globals);
            }
            _ => {}
        }
        if after == Some(SectionId::Code) {
            module.section(&self.hints);
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
        functions.function(types.unit).function(types.unit);
        for _ in &self.analysis.bulk {
            functions.function(types.bulk);
        }
        for _ in &self.analysis.functions {
            functions.function(types.entry);
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
        exports.export(COUNTER, ExportKind::Global, self.counter.left);
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
        code.function(&self.counter.slice_ends());
        for operation in &self.analysis.bulk {
            code.function(&bulk(*operation, &self.counter));
        }
        for (name, index) in &self.analysis.functions {
            code.function(&self.entry(name, *index));
        }
        Ok(())
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        function: wasmparser::FunctionBody<'_>,
    ) -> Result<(), Error> {
        let mut locals = Vec::new();
        for local in function.get_locals_reader()? {
            let (count, ty) = local?;
            locals.push((count, self.val_type(ty)?));
        }
        // A count of its own for loops, behind those that there are.
        let params = self.analysis.params[self.written as usize];
        let local = params + locals.iter().map(|(count, _)| count).sum::<u32>();
        let operators = function.get_operators_reader()?;
        let sites = counting::sites(operators, local < LOCALS_MAX)?;
        if sites.iter().any(|site| site.what == What::Enters) {
            locals.push((1, ValType::I64));
        }
        let mut sites = sites.iter().peekable();
        let mut hints = Vec::new();
        let mut body = Function::new(locals);
        let mut operators = function.get_operators_reader()?;
        for at in 0.. {
            if operators.eof() {
                break;
            }
            let operator = operators.read()?;
            while let Some(site) = sites.next_if(|site| site.before == at) {
                let counter = &self.counter;
                match site.what {
                    What::Enters => counter.enter(&mut body, local),
                    What::MayLeave | What::HasLeft => counter.write_back(&mut body, local),
                    What::Costs(cost) => {
                        hints.push(counter.charge_here(&mut body, Cost::Of(cost)));
                    }
                    What::CostsInLocal(cost) => {
                        hints.push(counter.charge_in_local(&mut body, cost, local));
                    }
                }
            }
            if counting::is_sized(&operator) {
                hints.push(self.counter.charge_here(&mut body, Cost::Top));
            }
            body.instruction(&self.instruction(operator)?);
        }
        code.function(&body);
        if !hints.is_empty() {
            let function = self.imported() + self.written;
            self.hints.function_hints(function, hints);
        }
        self.written += 1;
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
