//! Rewrites a core module so that the host never has to call back into it.
//!
//! The rewriter makes seven changes. It also exports mutable globals, so that the host can reset them.
//!
//! - **Imports that may wait or return a list** become raw imports, with glue in the module ([`super::glue`]).
//! - **Start.** A start function and `_initialize` would run at instantiation, outside of the process's own turns. The entry
//!   calls them before the spawned function instead.
//! - **Tables.** The entry is the only exported function, and calls through a table that never changes become direct
//!   ([`super::tables`]).
//! - **Large data segments** are written by the process itself ([`super::filling`]).
//! - **Bulk memory operations** are cut into pieces ([`super::bulk`]). The process can be preempted between pieces.
//! - **Branches with too many targets** become several branches ([`super::branches`]).
//! - **Reductions** are counted, and the turn ends when the slice is used up ([`super::counting`]).

use super::analysis::{Analysis, Bulk, ENTRY, GLOBAL_PREFIX};
use super::branches;
use super::bulk::bulk;
use super::counting::{self, Action, COUNTER, Cost, Counter, Site};
use super::error::{LoadError, LoadErrorKind};
use super::glue::{Glue, encoded};
use super::names;
use crate::abi::{self, RAW_MODULE, RAW_MOVED, RAW_PAUSE, RAW_TAKE, Shape};
use std::collections::HashMap;
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    BlockType, BranchHint, BranchHints, CodeSection, DataCountSection, DataSection, ElementSection,
    EntityType, ExportKind, ExportSection, Function, FunctionSection, GlobalSection, TableSection,
};
use wasm_encoder::{ImportSection, Instruction, Module, SectionId, TypeSection, ValType};

/// The rewriter adds no local to a function with more: wasm's limit is 50,000.
const LOCALS_MAX: u32 = 49_000;

/// The limit of wasmparser and wasmtime for a function's code.
const FUNCTION_BYTES_MAX: usize = 7_654_321;

/// Rewrites the module that `analysis` describes. A slice has `slice` reductions.
pub(super) fn rewrite(bytes: &[u8], analysis: &Analysis, slice: u64) -> Result<Vec<u8>, LoadError> {
    let mut rewriter = Rewriter::new(analysis, slice);
    let mut module = Module::new();
    rewriter
        .parse_core_module(&mut module, wasmparser::Parser::new(0), bytes)
        .map_err(|error| LoadError::quoting(LoadErrorKind::Invalid, &error))?;
    if let Some(function) = rewriter.too_large {
        let text = format!(
            "function {function}, with the code that counts its reductions, exceeds the {FUNCTION_BYTES_MAX} bytes that a \
             function may have"
        );
        return Err(LoadError::new(LoadErrorKind::TooLarge, text));
    }
    Ok(module.finish())
}

/// Maps function indexes of the rewritten module to those of the original.
#[derive(Clone, Copy)]
pub(crate) struct Originals {
    imports_added: u32,
    first_added: u32,
}

impl Originals {
    pub(crate) fn of(analysis: &Analysis) -> Originals {
        let rewriter = Rewriter::new(analysis, 0);
        Originals {
            imports_added: rewriter.imports_added(),
            first_added: rewriter.first_added(),
        }
    }

    /// The original index of a function with code; none for a function that the rewriter has added.
    pub(crate) fn index(self, rewritten: u32) -> Option<u32> {
        (rewritten < self.first_added).then(|| rewritten - self.imports_added)
    }
}

/// Rewrites one module.
///
/// The new module keeps the old imports at their indexes. After them come up to three raw imports (take, pause, moved), then the
/// old functions, and then the added ones.
struct Rewriter<'a> {
    analysis: &'a Analysis,
    /// The contract's functions that need glue, each with its first import. The glue functions come in the same order.
    glued: Vec<(u32, &'static abi::Function)>,
    /// For each import that gets glue, by its old index: the index in `glued`.
    glue_of: HashMap<u32, usize>,
    /// For each bulk operation: the index of its function among the functions for bulk operations.
    bulk: HashMap<Bulk, u32>,
    needs_take: bool,
    counter: Counter,
    /// Optional sections that the module has.
    has_imports: bool,
    has_globals: bool,
    has_data_count: bool,
    /// The number of data segments read so far.
    segments: u32,
    /// The old index of the first function that has become too large.
    too_large: Option<u32>,
    /// The number of functions whose code has been written, and the hints for their branches.
    written: u32,
    hints: BranchHints,
}

/// The added types, by index.
struct Types {
    /// () -> ()
    unit: u32,
    /// (i32) -> (i64); the entry has this type as well
    take: u32,
    /// (i32 i32 i32) -> ()
    bulk: u32,
    /// (i64) -> ()
    pause: u32,
    /// () -> (i64)
    moved: u32,
    /// (i32) -> (i32)
    grow: u32,
    /// The types of the raw imports and of the glue, in the order of `glued`.
    glue: u32,
    /// The types of the functions that replace calls through the table.
    by_type: u32,
}

/// The locals and sites to add to one function.
struct Plan {
    /// All locals, including the added ones.
    locals: Vec<(u32, ValType)>,
    /// The local in which loops count, if any does.
    local: u32,
    /// The local for the index of branches with too many targets, if they are split.
    index: Option<u32>,
    /// The sites that count.
    sites: Vec<Site>,
}

impl<'a> Rewriter<'a> {
    fn new(analysis: &'a Analysis, slice: u64) -> Rewriter<'a> {
        // Functions have an index space of their own among the imports. All imports of the contract and of WASI are functions. A
        // module with any other import isn't rewritten, because the host doesn't provide it.
        let mut glued: Vec<(u32, &'static abi::Function)> = Vec::new();
        let mut glue_of = HashMap::new();
        for (index, import) in (0..).zip(&analysis.imports) {
            let function = import.contract.filter(|of| of.shape != Shape::Direct);
            let Some(function) = function else { continue };
            let known = glued.iter().position(|(_, of)| std::ptr::eq(*of, function));
            let glue = known.unwrap_or_else(|| {
                glued.push((index, function));
                glued.len() - 1
            });
            glue_of.insert(index, glue);
        }
        let needs_take = glued
            .iter()
            .any(|(_, function)| function.shape.leaves_lists());
        let mut rewriter = Rewriter {
            analysis,
            glued,
            glue_of,
            bulk: analysis.bulk.iter().copied().zip(0..).collect(),
            needs_take,
            counter: Counter {
                left: analysis.initial.globals_seen,
                has_operand: analysis.has_sized_operations,
                slice,
                slice_ends: 0,
                charge_function: 0,
                pause: analysis.imported_functions + u32::from(needs_take),
            },
            has_imports: false,
            has_globals: false,
            has_data_count: false,
            segments: 0,
            too_large: None,
            written: 0,
            hints: BranchHints::new(),
        };
        rewriter.counter.slice_ends = rewriter.empty_start() + 1;
        rewriter.counter.charge_function = rewriter.empty_start() + 2;
        rewriter
    }

    fn imports_added(&self) -> u32 {
        1 + u32::from(self.needs_take) + u32::from(self.grows())
    }

    /// Does any code grow a memory?
    fn grows(&self) -> bool {
        let mut operations = self.analysis.bulk.iter();
        operations.any(|operation| matches!(operation, Bulk::Grow { .. }))
    }

    /// The host's function that returns the cost of growing.
    fn moved_import(&self) -> u32 {
        self.counter.pause + 1
    }

    fn types(&self) -> Types {
        let unit = self.analysis.types;
        Types {
            unit,
            take: unit + 1,
            bulk: unit + 2,
            pause: unit + 3,
            moved: unit + 4,
            grow: unit + 5,
            glue: unit + 6,
            by_type: unit + 6 + 2 * self.glued.len() as u32,
        }
    }

    fn imported(&self) -> u32 {
        self.analysis.imported_functions + self.imports_added()
    }

    /// The first added function. The order is: the glue functions, the empty start function, the function that ends a slice, the
    /// function that counts, one function for each bulk operation in the code, the entry, one function for each type that is
    /// called through the table, and the function that writes data.
    fn first_added(&self) -> u32 {
        self.imported() + self.analysis.defined_functions
    }

    fn empty_start(&self) -> u32 {
        self.first_added() + self.glued.len() as u32
    }

    fn bulk(&self, operation: Bulk) -> u32 {
        self.first_bulk() + self.bulk[&operation]
    }

    fn first_bulk(&self) -> u32 {
        self.counter.charge_function + 1
    }

    fn entry_index(&self) -> u32 {
        self.first_bulk() + self.analysis.bulk.len() as u32
    }

    /// The function that replaces calls of this type through the table, if they become direct.
    fn by_type(&self, ty: u32) -> Option<u32> {
        let position = self.analysis.calls.position(ty)?;
        Some(self.entry_index() + 1 + position)
    }

    /// The function that writes data, if there is one. It is the last added function.
    fn filling_index(&self) -> Option<u32> {
        let by_type = self.analysis.calls.by_type().len() as u32;
        let index = self.entry_index() + 1 + by_type;
        self.analysis.filling.is_some().then_some(index)
    }

    /// The new index of an old function.
    fn new_index(&self, old: u32) -> u32 {
        match self.glue_of.get(&old) {
            Some(glue) => self.first_added() + *glue as u32,
            None if old < self.analysis.imported_functions => old,
            None => old + self.imports_added(),
        }
    }

    fn glue(&self) -> Glue<'_> {
        Glue {
            counter: &self.counter,
            take: self.analysis.imported_functions,
            realloc: self.analysis.realloc.map(|realloc| self.new_index(realloc)),
            memory: self.analysis.exported_memory.unwrap_or_default(),
        }
    }

    fn add_imports(&self, imports: &mut ImportSection) {
        let mut add = |name, ty| {
            imports.import(RAW_MODULE, name, EntityType::Function(ty));
        };
        if self.needs_take {
            add(RAW_TAKE, self.types().take);
        }
        add(RAW_PAUSE, self.types().pause);
        if self.grows() {
            add(RAW_MOVED, self.types().moved);
        }
    }

    /// Runs the function that the parameter selects, and returns what is left of the last slice.
    fn entry(&self) -> Function {
        let mut body = Function::new([]);
        let mut code = body.instructions();
        let functions = &self.analysis.functions;
        let count = functions.len() as u32;
        // One block for each function, whose end is followed by the call, and one for an index out of range.
        for _ in 0..=count {
            code.block(BlockType::Empty);
        }
        code.local_get(0).br_table(0..count, count);
        for (name, index) in functions {
            code.end();
            // A WASI command calls `_initialize` itself.
            let initialize = self.analysis.initialize.filter(|_| name != "_start");
            let first = self.analysis.start.into_iter().chain(initialize);
            let called: Vec<u32> = first.chain([*index]).collect();
            self.counter.begin(&mut code, called.len() as u64);
            if let Some(filling) = self.filling_index() {
                code.call(filling);
            }
            for function in called {
                code.call(self.new_index(function));
            }
            code.global_get(self.counter.left).return_();
        }
        code.end().unreachable().end();
        body
    }

    /// Plans the additions to the next function.
    fn plan(&mut self, function: &wasmparser::FunctionBody<'_>) -> Result<Plan, Error> {
        let mut locals = Vec::new();
        for local in function.get_locals_reader()? {
            let (count, ty) = local?;
            locals.push((count, self.val_type(ty)?));
        }
        // The local for counting comes after the function's own locals.
        let params = self.analysis.params[self.written as usize];
        let local = params + locals.iter().map(|(count, _)| count).sum::<u32>();
        let operators = function.get_operators_reader()?;
        let sites = counting::sites(operators, local < LOCALS_MAX)?;
        let mut next = local;
        if sites.iter().any(|site| site.action == Action::Enter) {
            locals.push((1, ValType::I64));
            next += 1;
        }
        // The local for branches with too many targets comes next.
        let mut index = None;
        if branches::may_be_wide(function)
            && local < LOCALS_MAX
            && branches::can_be_cut(function.get_operators_reader()?)?
        {
            locals.push((1, ValType::I32));
            index = Some(next);
        }
        Ok(Plan {
            locals,
            local,
            index,
            sites,
        })
    }

    /// Writes a function's body. Returns it with hints for its unlikely branches.
    fn write_body(
        &mut self,
        function: &wasmparser::FunctionBody<'_>,
        plan: Plan,
    ) -> Result<(Function, Vec<BranchHint>), Error> {
        let mut sites = plan.sites.iter().peekable();
        let mut hints = Vec::new();
        let mut body = Function::new(plan.locals);
        let mut operators = function.get_operators_reader()?;
        for at in 0.. {
            if operators.eof() {
                break;
            }
            let operator = operators.read()?;
            while let Some(site) = sites.next_if(|site| site.before == at) {
                hints.extend(self.write_count(&mut body, site.action, plan.local));
            }
            if counting::is_sized(&operator) {
                hints.push(self.counter.charge_here(&mut body, Cost::Top));
            }
            match (&operator, plan.index) {
                (wasmparser::Operator::BrTable { targets }, Some(index))
                    if branches::is_wide(targets) =>
                {
                    branches::write(&mut body.instructions(), targets, index)?;
                }
                _ => _ = body.instruction(&self.instruction(operator)?),
            }
        }
        Ok((body, hints))
    }

    /// Writes the counting code of one site. Returns a hint if the code has an unlikely branch.
    fn write_count(&self, body: &mut Function, action: Action, local: u32) -> Option<BranchHint> {
        let counter = &self.counter;
        match action {
            Action::Charge(cost) => return Some(counter.charge_here(body, Cost::Of(cost))),
            Action::ChargeLocal(cost) => return Some(counter.charge_in_local(body, cost, local)),
            Action::Enter => counter.enter(body, local),
            Action::WriteBackOnBranch | Action::WriteBack => counter.write_back(body, local),
            Action::ChargeByCall(cost) => counter.charge_by_call(&mut body.instructions(), cost),
        }
        None
    }
}

impl Reencode for Rewriter<'_> {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, old: u32) -> Result<u32, Error> {
        Ok(self.new_index(old))
    }

    fn start_section(&mut self, _start: u32) -> Result<u32, Error> {
        Ok(self.empty_start())
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
        types.ty().function([ValType::I32], [ValType::I32]);
        for (_, function) in &self.glued {
            let params = encoded(function.params);
            let answers = encoded(function.shape.raw_answers());
            types.ty().function(params.iter().copied(), answers);
            types.ty().function(params, encoded(function.results));
        }
        for by_type in self.analysis.calls.by_type() {
            by_type.add_type(self, types)?;
        }
        Ok(())
    }

    fn parse_table_section(
        &mut self,
        tables: &mut TableSection,
        section: wasmparser::TableSectionReader<'_>,
    ) -> Result<(), Error> {
        if self.analysis.calls.keeps_table() {
            return utils::parse_table_section(self, tables, section);
        }
        self.analysis.calls.add_table(tables);
        Ok(())
    }

    fn parse_element_section(
        &mut self,
        elements: &mut ElementSection,
        section: wasmparser::ElementSectionReader<'_>,
    ) -> Result<(), Error> {
        let calls = &self.analysis.calls;
        if calls.keeps_table() {
            return utils::parse_element_section(self, elements, section);
        }
        calls.add_elements(elements, self.empty_start(), self.entry_index());
        Ok(())
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: wasmparser::ImportSectionReader<'_>,
    ) -> Result<(), Error> {
        for (index, import) in (0..).zip(section.into_imports()) {
            let import = import?;
            match self.glue_of.get(&index) {
                Some(glue) => {
                    let raw = EntityType::Function(self.types().glue + 2 * *glue as u32);
                    imports.import(RAW_MODULE, &self.glued[*glue].1.raw_name(), raw);
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

    /// Keeps the names of functions. Other custom sections are dropped: the host doesn't read them, and they may no longer be
    /// true.
    fn parse_custom_section(
        &mut self,
        module: &mut Module,
        section: wasmparser::CustomSectionReader<'_>,
    ) -> Result<(), Error> {
        let functions = self.analysis.imported_functions + self.analysis.defined_functions;
        let new_index = |old: u32| (old < functions).then(|| self.new_index(old));
        if let Some(names) = names::section(&section, new_index) {
            module.section(&names);
        }
        Ok(())
    }

    /// Adds the sections that the module lacks. Functions and exports are always there, because a function can be spawned.
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
            Some(SectionId::Code) if !self.has_data_count && self.analysis.filling.is_some() => {
                let count = self.analysis.filling.count();
                module.section(&DataCountSection { count });
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
        for position in 0..self.glued.len() as u32 {
            functions.function(types.glue + 2 * position + 1);
        }
        functions.function(types.unit).function(types.unit);
        functions.function(types.pause);
        for operation in &self.analysis.bulk {
            functions.function(match operation {
                Bulk::Grow { .. } => types.grow,
                Bulk::Fill { .. } | Bulk::Copy { .. } => types.bulk,
            });
        }
        functions.function(types.take);
        for (position, _) in (0..).zip(self.analysis.calls.by_type()) {
            functions.function(types.by_type + position);
        }
        if self.analysis.filling.is_some() {
            functions.function(types.unit);
        }
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: wasmparser::ExportSectionReader<'_>,
    ) -> Result<(), Error> {
        for export in section {
            let export = export?;
            if self.analysis.calls.keeps_export(export.kind) {
                self.parse_export(exports, export)?;
            }
        }
        exports.export(ENTRY, ExportKind::Func, self.entry_index());
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
            code.function(&self.glue().function(*import, function));
        }
        code.function(&empty());
        code.function(&self.counter.slice_ends());
        code.function(&self.counter.charge_function());
        for operation in &self.analysis.bulk {
            code.function(&bulk(*operation, &self.counter, self.moved_import()));
        }
        code.function(&self.entry());
        for by_type in self.analysis.calls.by_type() {
            code.function(&by_type.function(|function| self.new_index(function)));
        }
        if self.analysis.filling.is_some() {
            code.function(&self.analysis.filling.function(&self.counter));
        }
        Ok(())
    }

    fn data_count(&mut self, count: u32) -> Result<u32, Error> {
        self.has_data_count = true;
        Ok(count)
    }

    fn parse_data(
        &mut self,
        section: &mut DataSection,
        data: wasmparser::Data<'_>,
    ) -> Result<(), Error> {
        let index = self.segments;
        self.segments += 1;
        if self.analysis.filling.has(index) {
            section.passive(data.data.iter().copied());
            return Ok(());
        }
        utils::parse_data(self, section, data)
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        function: wasmparser::FunctionBody<'_>,
    ) -> Result<(), Error> {
        let plan = self.plan(&function)?;
        let (body, hints) = self.write_body(&function, plan)?;
        if body.byte_len() > FUNCTION_BYTES_MAX {
            let function = self.analysis.imported_functions + self.written;
            self.too_large.get_or_insert(function);
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
        if let Some(operation) = Bulk::of(&operator) {
            return Ok(Instruction::Call(self.bulk(operation)));
        }
        let direct = match operator {
            wasmparser::Operator::CallIndirect { type_index, .. } => {
                self.by_type(type_index).map(Instruction::Call)
            }
            wasmparser::Operator::ReturnCallIndirect { type_index, .. } => {
                self.by_type(type_index).map(Instruction::ReturnCall)
            }
            _ => None,
        };
        match direct {
            Some(direct) => Ok(direct),
            None => utils::instruction(self, operator),
        }
    }
}

fn empty() -> Function {
    let mut body = Function::new([]);
    body.instructions().end();
    body
}
