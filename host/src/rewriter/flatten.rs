//! Makes a guest's core module callable without the host ever calling back into it.
//!
//! Seven things are changed, and nothing else but that mutable globals are exported, for the host to set them back:
//!
//! - **Imports that may wait or return a list** become raw ones, with glue in the module ([`super::glue`]).
//! - **Start.** A start function and `_initialize` would run when the instance is made, outside of the process's own
//!   turns. They are called by the entry, before the function that is spawned.
//! - **Tables.** Of functions only the entry is exported, and a table that never changes is resolved ([`super::tables`]).
//! - **Much data** is written by the process itself ([`super::filling`]).
//! - **Bulk memory operations** are cut into pieces ([`super::bulk`]), between which the process can be preempted.
//! - **Branches with very many targets** become several ([`super::branches`]).
//! - **Reductions** are counted, and a turn ends when a slice is used up ([`super::counting`]).

use super::analysis::{Analysis, Bulk, ENTRY, GLOBAL_PREFIX};
use super::branches;
use super::bulk::bulk;
use super::counting::{self, COUNTER, Cost, Counter, Site, What};
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

/// A function with more locals gets no more: there is a limit of 50,000.
const LOCALS_MAX: u32 = 49_000;

/// What wasmparser, and with it wasmtime, lets one function have.
const FUNCTION_BYTES_MAX: usize = 7_654_321;

/// Rewrites a module that `analysis` describes, for slices of so many reductions.
pub(super) fn rewrite(bytes: &[u8], analysis: &Analysis, slice: u64) -> Result<Vec<u8>, LoadError> {
    let mut rewriter = Rewriter::new(analysis, slice);
    let mut module = Module::new();
    rewriter
        .parse_core_module(&mut module, wasmparser::Parser::new(0), bytes)
        .map_err(|error| LoadError::new(LoadErrorKind::Invalid, error.to_string()))?;
    if let Some(function) = rewriter.too_large {
        let text = format!(
            "function {function} has more code, with what counts its reductions, than the {FUNCTION_BYTES_MAX} bytes \
             that a function may have"
        );
        return Err(LoadError::new(LoadErrorKind::TooLarge, text));
    }
    Ok(module.finish())
}

/// Which functions of a rewritten module were in the original, and under what index.
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

    /// The original's index of a function with code; none for what the rewriter has added.
    pub(crate) fn index(self, rewritten: u32) -> Option<u32> {
        (rewritten < self.first_added).then(|| rewritten - self.imports_added)
    }
}

/// Function indexes, old and new. The new module has the old imports in their old places, one import more for pauses and
/// one if lists are returned, the old functions, and then glue.
struct Rewriter<'a> {
    analysis: &'a Analysis,
    /// The contract's functions that get glue, each with the first import of it; the n-th has the n-th glue function.
    glued: Vec<(u32, &'static abi::Function)>,
    /// Which of them an import is, by its old index.
    places: HashMap<u32, usize>,
    /// Where each bulk operation's function is among those.
    bulk: HashMap<Bulk, u32>,
    takes: bool,
    counter: Counter,
    /// The sections that a module may lack were there.
    has_imports: bool,
    has_globals: bool,
    has_data_count: bool,
    /// Data segments that were seen.
    segments: u32,
    /// The first function whose code has become too large, by its old index.
    too_large: Option<u32>,
    /// Functions whose code was written so far, and what is known of its branches.
    written: u32,
    hints: BranchHints,
}

/// The types that are added, counted from the first free index.
struct Types {
    /// () -> ()
    unit: u32,
    /// (i32) -> (i64): that of the entry as well
    take: u32,
    /// (i32 i32 i32) -> ()
    bulk: u32,
    /// (i64) -> ()
    pause: u32,
    /// () -> (i64)
    moved: u32,
    /// (i32) -> (i32)
    grow: u32,
    /// The raw imports' types and the glue's, in the order of `glued`.
    glue: u32,
    /// Those of the functions that call by table.
    by_type: u32,
}

/// The additions to one function.
struct Plan {
    /// Its locals, with those that are added.
    locals: Vec<(u32, ValType)>,
    /// The local in which loops count, if there are such.
    local: u32,
    /// The local for the index of branches with very many targets, if they are cut.
    index: Option<u32>,
    /// Where its code has to do with the count.
    sites: Vec<Site>,
}

impl<'a> Rewriter<'a> {
    fn new(analysis: &'a Analysis, slice: u64) -> Rewriter<'a> {
        // Function imports are counted apart from the others; everything in `imports` with a contract is a function,
        // and so is all of WASI. Others don't get this far: nobody provides them.
        let mut glued: Vec<(u32, &'static abi::Function)> = Vec::new();
        let mut places = HashMap::new();
        for (index, import) in (0..).zip(&analysis.imports) {
            let function = import.contract.filter(|of| of.shape != Shape::Direct);
            let Some(function) = function else { continue };
            let known = glued.iter().position(|(_, of)| std::ptr::eq(*of, function));
            let place = known.unwrap_or_else(|| {
                glued.push((index, function));
                glued.len() - 1
            });
            places.insert(index, place);
        }
        let takes = glued
            .iter()
            .any(|(_, function)| function.shape.leaves_lists());
        let mut rewriter = Rewriter {
            analysis,
            glued,
            places,
            bulk: analysis.bulk.iter().copied().zip(0..).collect(),
            takes,
            counter: Counter {
                left: analysis.initial.globals_seen,
                has_operand: analysis.has_sized_operations,
                slice,
                slice_ends: 0,
                takes_off: 0,
                pause: analysis.imported_functions + u32::from(takes),
            },
            has_imports: false,
            has_globals: false,
            has_data_count: false,
            segments: 0,
            too_large: None,
            written: 0,
            hints: BranchHints::new(),
        };
        rewriter.counter.slice_ends = rewriter.nothing() + 1;
        rewriter.counter.takes_off = rewriter.nothing() + 2;
        rewriter
    }

    fn imports_added(&self) -> u32 {
        1 + u32::from(self.takes) + u32::from(self.grows())
    }

    /// Is there code that grows a memory?
    fn grows(&self) -> bool {
        let mut operations = self.analysis.bulk.iter();
        operations.any(|operation| matches!(operation, Bulk::Grow { .. }))
    }

    /// The host's function that says what that has cost.
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

    /// The first function that is added. First come the glue functions, then the empty start function, that which is called
    /// when a slice ends, that which counts for code with much to count, one for each bulk operation that the code has, the entry, and one for each type of functions that
    /// are called by table.
    fn first_added(&self) -> u32 {
        self.imported() + self.analysis.defined_functions
    }

    fn nothing(&self) -> u32 {
        self.first_added() + self.glued.len() as u32
    }

    fn bulk(&self, operation: Bulk) -> u32 {
        self.first_bulk() + self.bulk[&operation]
    }

    fn first_bulk(&self) -> u32 {
        self.counter.takes_off + 1
    }

    fn entry_index(&self) -> u32 {
        self.first_bulk() + self.analysis.bulk.len() as u32
    }

    /// The function that calls functions of this type by table, if that becomes a direct call.
    fn by_type(&self, ty: u32) -> Option<u32> {
        let place = self.analysis.calls.place(ty)?;
        Some(self.entry_index() + 1 + place)
    }

    /// The function that writes data, if there is one: the last that is added.
    fn filling_index(&self) -> Option<u32> {
        let by_type = self.analysis.calls.by_type().len() as u32;
        let index = self.entry_index() + 1 + by_type;
        self.analysis.filling.is_some().then_some(index)
    }

    /// The new index of an old function.
    fn moved(&self, old: u32) -> u32 {
        match self.places.get(&old) {
            Some(place) => self.first_added() + *place as u32,
            None if old < self.analysis.imported_functions => old,
            None => old + self.imports_added(),
        }
    }

    fn glue(&self) -> Glue<'_> {
        Glue {
            counter: &self.counter,
            take: self.analysis.imported_functions,
            realloc: self.analysis.realloc.map(|realloc| self.moved(realloc)),
            memory: self.analysis.exported_memory.unwrap_or_default(),
        }
    }

    fn add_imports(&self, imports: &mut ImportSection) {
        let mut add = |name, ty| {
            imports.import(RAW_MODULE, name, EntityType::Function(ty));
        };
        if self.takes {
            add(RAW_TAKE, self.types().take);
        }
        add(RAW_PAUSE, self.types().pause);
        if self.grows() {
            add(RAW_MOVED, self.types().moved);
        }
    }

    /// Runs the function whose place is the parameter, and returns what is left of the last slice.
    fn entry(&self) -> Function {
        let mut body = Function::new([]);
        let mut code = body.instructions();
        let functions = &self.analysis.functions;
        let count = functions.len() as u32;
        // A block for each, which ends where it is called, and one for a place that there is not.
        for _ in 0..=count {
            code.block(BlockType::Empty);
        }
        code.local_get(0).br_table(0..count, count);
        for (name, index) in functions {
            code.end();
            // A WASI command initializes itself.
            let initialize = self.analysis.initialize.filter(|_| name != "_start");
            let first = self.analysis.start.into_iter().chain(initialize);
            let called: Vec<u32> = first.chain([*index]).collect();
            self.counter.begin(&mut code, called.len() as u64);
            if let Some(filling) = self.filling_index() {
                code.call(filling);
            }
            for function in called {
                code.call(self.moved(function));
            }
            code.global_get(self.counter.left).return_();
        }
        code.end().unreachable().end();
        body
    }

    /// Finds out what is added to the next function.
    fn plan(&mut self, function: &wasmparser::FunctionBody<'_>) -> Result<Plan, Error> {
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
        let mut next = local;
        if sites.iter().any(|site| site.what == What::Enters) {
            locals.push((1, ValType::I64));
            next += 1;
        }
        // Behind that, one for branches with very many targets.
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

    /// Writes a function's body, and returns it with the branches in it that are hardly ever taken.
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
                hints.extend(self.write_count(&mut body, site.what, plan.local));
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

    /// Writes the code that counts at one site. If it has a branch, that is hardly ever taken.
    fn write_count(&self, body: &mut Function, what: What, local: u32) -> Option<BranchHint> {
        let counter = &self.counter;
        match what {
            What::Costs(cost) => return Some(counter.charge_here(body, Cost::Of(cost))),
            What::CostsInLocal(cost) => return Some(counter.charge_in_local(body, cost, local)),
            What::Enters => counter.enter(body, local),
            What::MayLeave | What::HasLeft => counter.write_back(body, local),
            What::Calls(cost) => counter.call(&mut body.instructions(), cost),
        }
        None
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
        calls.add_elements(elements, self.nothing(), self.entry_index());
        Ok(())
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: wasmparser::ImportSectionReader<'_>,
    ) -> Result<(), Error> {
        for (index, import) in (0..).zip(section.into_imports()) {
            let import = import?;
            match self.places.get(&index) {
                Some(place) => {
                    let raw = EntityType::Function(self.types().glue + 2 * *place as u32);
                    imports.import(RAW_MODULE, &self.glued[*place].1.raw_name(), raw);
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

    /// Keeps the names of functions. Nothing else that a custom section says is asked for, or still true.
    fn parse_custom_section(
        &mut self,
        module: &mut Module,
        section: wasmparser::CustomSectionReader<'_>,
    ) -> Result<(), Error> {
        let functions = self.analysis.imported_functions + self.analysis.defined_functions;
        let moved = |old: u32| (old < functions).then(|| self.moved(old));
        if let Some(names) = names::section(&section, moved) {
            module.section(&names);
        }
        Ok(())
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
        for place in 0..self.glued.len() as u32 {
            functions.function(types.glue + 2 * place + 1);
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
        for (place, _) in (0..).zip(self.analysis.calls.by_type()) {
            functions.function(types.by_type + place);
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
        code.function(&self.counter.takes_off());
        for operation in &self.analysis.bulk {
            code.function(&bulk(*operation, &self.counter, self.moved_import()));
        }
        code.function(&self.entry());
        for by_type in self.analysis.calls.by_type() {
            code.function(&by_type.function(|function| self.moved(function)));
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
