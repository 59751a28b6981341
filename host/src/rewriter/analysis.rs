//! Analysis reads a core module without compiling or running it. It finds its imports, memory, functions and entry.

use super::bounds::{Bounds, count_elements};
use super::counting::{COUNTER, is_sized};
use super::error::{LoadError, LoadErrorKind as Kind};
use super::features;
use super::filling::Filling;
use super::initial::Initial;
use super::sizes::Sizes;
use super::tables::{Calls, TableUse};
use crate::abi::{self, PACKAGE, RAW_MODULE};
use crate::text::printable_name;
use std::collections::BTreeSet;
use std::ops::Range;
use wasmparser::{
    CompositeInnerType, DataKind, DataSectionReader, ElementSectionReader, ExportSectionReader,
    ExternalKind, FuncType, FunctionBody, FunctionSectionReader, GlobalSectionReader,
    ImportSectionReader, MemorySectionReader, Operator, Parser, Payload, TableSectionReader,
    TypeRef, TypeSectionReader, ValType,
};

/// The exported function through which the host runs a function. Its parameter is the index in [`Analysis::functions`].
pub(crate) const ENTRY: &str = "atoll:entry";
/// The rewriter exports mutable globals under this prefix and their index.
pub(crate) const GLOBAL_PREFIX: &str = "atoll:global/";
const WASI_MODULE: &str = "wasi_snapshot_preview1";
const WASM_PAGE_BYTES: u64 = 64 << 10;
/// The limit of functions that can be spawned. The entry selects one by a `br_table`, and wasm allows few more targets.
const FUNCTIONS_MAX: usize = 50_000;

/// A core module, as far as loading needs to know it.
#[derive(Debug, Default)]
pub(crate) struct Analysis {
    pub(crate) imports: Vec<Import>,
    /// The minimum and the maximum of the first memory, in bytes.
    pub(crate) memory: Option<(u64, Option<u64>)>,
    /// The minimum of all memories together, in bytes.
    pub(crate) memory_bytes_min: u64,
    /// The bytes that an instance takes beside its memories; 0 if they are few.
    pub(crate) instance_bytes: u64,
    /// The index of the memory that is exported as `memory`. The contract's functions use it.
    pub(crate) exported_memory: Option<u32>,
    /// The functions that can be spawned: name and index.
    pub(crate) functions: Vec<(String, u32)>,
    /// `_initialize`. It is called before any function but `_start`.
    pub(crate) initialize: Option<u32>,
    pub(crate) start: Option<u32>,
    pub(crate) realloc: Option<u32>,
    pub(crate) types: u32,
    pub(crate) imported_functions: u32,
    pub(crate) defined_functions: u32,
    /// The code size of the largest function, in bytes.
    pub(crate) largest_body: usize,
    /// The number of parameters of each function with code.
    pub(crate) params: Vec<u32>,
    /// The code has operations whose cost depends on an operand.
    pub(crate) has_sized_operations: bool,
    /// How calls through the table are rewritten.
    pub(crate) calls: Calls,
    /// The bulk operations in the code.
    pub(crate) bulk: BTreeSet<Bulk>,
    /// The part of the first memory that data segments fill, in bytes.
    pub(crate) data: Range<usize>,
    /// The state of an instance before its code runs.
    pub(crate) initial: Initial,
    /// The data segments that each process writes itself.
    pub(crate) filling: Filling,
}

/// An operation on whole parts of linear memories, by their indexes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Bulk {
    Fill { memory: u32 },
    Copy { destination: u32, source: u32 },
    Grow { memory: u32 },
}

impl Bulk {
    pub(crate) fn of(operator: &Operator<'_>) -> Option<Bulk> {
        match *operator {
            Operator::MemoryFill { mem } => Some(Bulk::Fill { memory: mem }),
            Operator::MemoryCopy { dst_mem, src_mem } => Some(Bulk::Copy {
                destination: dst_mem,
                source: src_mem,
            }),
            Operator::MemoryGrow { mem } => Some(Bulk::Grow { memory: mem }),
            _ => None,
        }
    }
}

/// One import of a core module.
#[derive(Clone, Debug)]
pub(crate) struct Import {
    pub(crate) module: String,
    pub(crate) name: String,
    /// The contract's function, if the import is one.
    pub(crate) contract: Option<&'static abi::Function>,
}

impl Import {
    /// Is it one of WASI preview 1's functions?
    pub(crate) fn is_wasi(&self) -> bool {
        self.module == WASI_MODULE
    }
}

impl Analysis {
    /// Validates and reads a binary core module.
    pub(crate) fn read(bytes: &[u8]) -> Result<Analysis, LoadError> {
        features::validate_module(bytes)?;
        let mut reader = Reader::default();
        for payload in Parser::new(0).parse_all(bytes) {
            reader.section(payload.map_err(invalid)?)?;
        }
        reader.finish()
    }

    /// Does it import any function of the contract?
    pub(crate) fn is_atoll_guest(&self) -> bool {
        self.imports.iter().any(|import| import.contract.is_some())
    }

    /// Returns how much memory an instance takes at the start.
    pub(crate) fn sizes(&self) -> Sizes {
        Sizes {
            memory_bytes: self.memory_bytes_min,
            instance_bytes: self.instance_bytes,
            data_bytes: self.initial.data_bytes() as u64,
        }
    }

    /// The first import that the host doesn't provide.
    pub(crate) fn unknown_import(&self) -> Option<&Import> {
        self.imports
            .iter()
            .find(|import| import.contract.is_none() && !import.is_wasi())
    }

    pub(crate) fn imports_wasi(&self) -> bool {
        self.imports.iter().any(Import::is_wasi)
    }

    /// The index of the function that runs by default: `_start` if the module is a WASI command, otherwise the world's `run`.
    pub(crate) fn entry(&self) -> Option<usize> {
        ["_start", "run"].iter().find_map(|name| {
            self.functions
                .iter()
                .position(|(function, _)| function == name)
        })
    }
}

#[derive(Default)]
struct Reader {
    analysis: Analysis,
    types: Vec<Option<FuncType>>,
    /// The type of each function, imported ones first.
    functions: Vec<u32>,
    exports: Vec<(String, u32)>,
    /// The number of functions whose code has been read.
    bodies: u32,
    bounds: Bounds,
    /// The minimum of each memory, in bytes.
    memories: Vec<u64>,
    /// The module's tables and the calls through them.
    table_use: TableUse,
}

impl Reader {
    fn section(&mut self, payload: Payload<'_>) -> Result<(), LoadError> {
        match payload {
            Payload::TypeSection(section) => self.type_section(section),
            Payload::ImportSection(section) => self.import_section(section),
            Payload::FunctionSection(section) => self.function_section(section),
            Payload::CodeSectionEntry(body) => self.function_body(&body),
            Payload::DataSection(section) => self.data_section(section),
            Payload::TableSection(section) => self.table_section(section),
            Payload::ElementSection(section) => self.element_section(section),
            Payload::MemorySection(section) => self.memory_section(section),
            Payload::GlobalSection(section) => self.global_section(section),
            Payload::ExportSection(section) => self.export_section(section),
            Payload::StartSection { func, .. } => {
                self.analysis.start = Some(func);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn type_section(&mut self, section: TypeSectionReader<'_>) -> Result<(), LoadError> {
        for group in section {
            let group = group.map_err(invalid)?;
            self.table_use.types(&group);
            for ty in group.into_types() {
                self.types.push(match ty.composite_type.inner {
                    CompositeInnerType::Func(function) => Some(function),
                    _ => {
                        self.analysis
                            .initial
                            .prevent_recycling("it has types of objects");
                        None
                    }
                });
            }
        }
        Ok(())
    }

    fn import_section(&mut self, section: ImportSectionReader<'_>) -> Result<(), LoadError> {
        for import in section.into_imports() {
            self.import(&import.map_err(invalid)?)?;
        }
        Ok(())
    }

    fn function_section(&mut self, section: FunctionSectionReader<'_>) -> Result<(), LoadError> {
        for ty in section {
            self.functions.push(ty.map_err(invalid)?);
            self.analysis.defined_functions += 1;
        }
        Ok(())
    }

    fn function_body(&mut self, body: &FunctionBody<'_>) -> Result<(), LoadError> {
        self.locals(body)?;
        let largest = &mut self.analysis.largest_body;
        *largest = body.range().len().max(*largest);
        for operator in body.get_operators_reader().map_err(invalid)? {
            let operator = operator.map_err(invalid)?;
            self.analysis.bulk.extend(Bulk::of(&operator));
            self.analysis.has_sized_operations |= is_sized(&operator);
            self.analysis.initial.operator(&operator);
            self.table_use.operator(&operator);
        }
        Ok(())
    }

    fn data_section(&mut self, section: DataSectionReader<'_>) -> Result<(), LoadError> {
        for data in section {
            let data = data.map_err(invalid)?;
            self.data(&data);
            self.analysis.initial.data(&data);
            self.analysis.filling.data(&data);
        }
        Ok(())
    }

    fn table_section(&mut self, section: TableSectionReader<'_>) -> Result<(), LoadError> {
        for table in section {
            self.table_use.table(&table.map_err(invalid)?);
        }
        Ok(())
    }

    fn element_section(&mut self, section: ElementSectionReader<'_>) -> Result<(), LoadError> {
        for element in section {
            let element = element.map_err(invalid)?;
            self.bounds.mentioned(count_elements(&element))?;
            self.table_use.element(&element).map_err(invalid)?;
        }
        Ok(())
    }

    fn memory_section(&mut self, section: MemorySectionReader<'_>) -> Result<(), LoadError> {
        for memory in section {
            let memory = memory.map_err(invalid)?;
            self.analysis.initial.memories += 1;
            self.bounds.memory()?;
            let bytes = |pages: u64| pages.saturating_mul(WASM_PAGE_BYTES);
            self.memories.push(bytes(memory.initial));
            self.analysis.memory_bytes_min = self
                .analysis
                .memory_bytes_min
                .saturating_add(bytes(memory.initial));
            self.analysis
                .memory
                .get_or_insert((bytes(memory.initial), memory.maximum.map(bytes)));
        }
        Ok(())
    }

    fn global_section(&mut self, section: GlobalSectionReader<'_>) -> Result<(), LoadError> {
        for global in section {
            self.bounds.global();
            self.analysis.initial.global(&global.map_err(invalid)?);
        }
        Ok(())
    }

    fn export_section(&mut self, section: ExportSectionReader<'_>) -> Result<(), LoadError> {
        for export in section {
            let export = export.map_err(invalid)?;
            check_export(export.name)?;
            self.bounds
                .mentioned((export.kind == ExternalKind::Func).into())?;
            match export.kind {
                ExternalKind::Func => self.exports.push((export.name.to_owned(), export.index)),
                ExternalKind::Memory if export.name == "memory" => {
                    self.analysis.exported_memory = Some(export.index)
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Counts the locals of the next function, including its parameters.
    fn locals(&mut self, body: &FunctionBody<'_>) -> Result<(), LoadError> {
        let function = self.analysis.imported_functions + self.bodies;
        self.bodies += 1;
        let mut locals = self
            .type_of(function)
            .map_or(0, |(params, _)| params.len() as u64);
        for local in body.get_locals_reader().map_err(invalid)? {
            let (count, _) = local.map_err(invalid)?;
            locals += u64::from(count);
        }
        self.bounds.locals(function, locals)
    }

    /// Extends the known data range by an active segment of the first memory.
    fn data(&mut self, data: &wasmparser::Data<'_>) {
        let DataKind::Active {
            memory_index: 0,
            offset_expr,
        } = &data.kind
        else {
            return;
        };
        if let Ok(Operator::I32Const { value }) = offset_expr.get_operators_reader().read() {
            let start = value as u32 as usize;
            let end = start.saturating_add(data.data.len());
            let known = &mut self.analysis.data;
            *known = if known.end == 0 {
                start..end
            } else {
                known.start.min(start)..known.end.max(end)
            };
        }
    }

    fn import(&mut self, import: &wasmparser::Import<'_>) -> Result<(), LoadError> {
        self.table_use.import(&import.ty);
        self.bounds.import()?;
        let contract = match import.ty {
            TypeRef::Func(ty) => {
                self.functions.push(ty);
                self.analysis.imported_functions += 1;
                self.contract(import, ty)?
            }
            _ if import.module == WASI_MODULE || import.module.starts_with(PACKAGE) => {
                let text = format!(
                    "`{}` of `{}` is a function, not a {:?}",
                    printable_name(import.name),
                    printable_name(import.module),
                    import.ty
                );
                return Err(LoadError::new(Kind::WrongSignature, text));
            }
            _ => None,
        };
        self.analysis.imports.push(Import {
            module: import.module.to_owned(),
            name: import.name.to_owned(),
            contract,
        });
        Ok(())
    }

    /// Compares an imported function with the contract's, if it claims to be one.
    fn contract(
        &self,
        import: &wasmparser::Import<'_>,
        ty: u32,
    ) -> Result<Option<&'static abi::Function>, LoadError> {
        let unknown = |why: &str| {
            let text = format!(
                "`{}` from `{}`: {why}",
                printable_name(import.name),
                printable_name(import.module)
            );
            Err(LoadError::new(Kind::UnknownImport, text))
        };
        if import.module == RAW_MODULE {
            return unknown("this module is the host's own");
        }
        if !import.module.starts_with(PACKAGE) {
            return Ok(None);
        }
        let Some(expected) = abi::function(import.module, import.name) else {
            return unknown("the contract has no such function");
        };
        let found = self.types.get(ty as usize).and_then(Option::as_ref);
        let same = found.is_some_and(|found| {
            found.params() == expected.params && found.results() == expected.results
        });
        if !same {
            let found = found.map_or("not a function".into(), |found| {
                signature(found.params(), found.results())
            });
            let text = format!(
                "`{}` of `{}` is {}, but the module imports it as {found}",
                printable_name(import.name),
                printable_name(import.module),
                signature(expected.params, expected.results)
            );
            return Err(LoadError::new(Kind::WrongSignature, text));
        }
        Ok(Some(expected))
    }

    fn type_of(&self, function: u32) -> Option<(&[ValType], &[ValType])> {
        let ty = self
            .types
            .get(*self.functions.get(function as usize)? as usize)?
            .as_ref()?;
        Some((ty.params(), ty.results()))
    }

    fn finish(mut self) -> Result<Analysis, LoadError> {
        for (name, index) in std::mem::take(&mut self.exports) {
            let defined = index >= self.analysis.imported_functions;
            match self.type_of(index) {
                Some(([], [])) if name == "_initialize" => self.analysis.initialize = Some(index),
                Some(([], [])) if defined => self.analysis.functions.push((name, index)),
                Some((
                    [ValType::I32, ValType::I32, ValType::I32, ValType::I32],
                    [ValType::I32],
                )) if name == "cabi_realloc" => {
                    self.analysis.realloc = Some(index);
                }
                _ => {}
            }
        }
        let count = self.analysis.functions.len();
        if count > FUNCTIONS_MAX {
            let text = format!(
                "it exports {count} functions that can be spawned; the limit is {FUNCTIONS_MAX}"
            );
            return Err(LoadError::new(Kind::TooLarge, text));
        }
        let defined = self.analysis.imported_functions..self.functions.len() as u32;
        let params = |function| self.type_of(function).map_or(0, |(params, _)| params.len());
        self.analysis.params = defined.map(|function| params(function) as u32).collect();
        self.analysis.types =
            u32::try_from(self.types.len()).expect("wasm counts types in 32 bits");
        self.analysis.calls =
            std::mem::take(&mut self.table_use).finish(&self.types, &self.functions);
        self.analysis.instance_bytes = match self.analysis.calls.keeps_table() {
            true => self.bounds.instance_bytes(),
            false => self.bounds.instance_bytes_without_mentions(),
        };
        self.analysis.filling.finish(&self.memories);
        self.check_lists()?;
        Ok(self.analysis)
    }

    /// Checks that a module that uses the contract exports a memory, and `cabi_realloc` if one of the functions returns a list.
    fn check_lists(&self) -> Result<(), LoadError> {
        let analysis = &self.analysis;
        let Some(import) = analysis
            .imports
            .iter()
            .find(|import| import.contract.is_some())
        else {
            return Ok(());
        };
        if analysis.exported_memory.is_none() {
            let text = format!(
                "it imports `{}` of `{}` but exports no memory named `memory`",
                printable_name(&import.name),
                printable_name(&import.module)
            );
            return Err(LoadError::new(Kind::NoMemory, text));
        }
        let list = |import: &&Import| {
            import
                .contract
                .is_some_and(|function| function.shape.leaves_lists())
        };
        match analysis.imports.iter().find(list) {
            Some(import) if analysis.realloc.is_none() => {
                let text = format!(
                    "`{}` of `{}` returns a list, for which the module must export `cabi_realloc: {}`",
                    import.name,
                    import.module,
                    signature(&[ValType::I32; 4], &[ValType::I32])
                );
                Err(LoadError::new(Kind::NoRealloc, text))
            }
            _ => Ok(()),
        }
    }
}

/// Refuses names that the rewriter uses for its own exports.
fn check_export(name: &str) -> Result<(), LoadError> {
    let own = [ENTRY, GLOBAL_PREFIX, COUNTER];
    let Some(prefix) = own.iter().find(|prefix| name.starts_with(**prefix)) else {
        return Ok(());
    };
    let text = format!(
        "exports that begin with `{prefix}` are the host's own: `{}`",
        printable_name(name)
    );
    Err(LoadError::new(Kind::Invalid, text))
}

fn invalid(error: wasmparser::Error) -> LoadError {
    LoadError::quoting(Kind::Invalid, &error)
}

fn signature(params: &[ValType], results: &[ValType]) -> String {
    let list = |types: &[ValType]| {
        types
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    };
    format!("({}) -> ({})", list(params), list(results))
}
