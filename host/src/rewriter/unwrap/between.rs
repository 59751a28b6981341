//! Recognizes the modules that wit-component puts between a guest and its imports.
//!
//! A lowered function may need the memory of the module that imports it, which exists only after that module is instantiated. So
//! the guest imports functions of a *shim*, each of which calls a function in the shim's table. A *fixup* fills that table later,
//! and a *starter* calls `_initialize`. Each module is recognized by all of its code: a module that does anything else is treated
//! as a guest.

use std::collections::HashMap;
use wasmparser::{
    Element, ElementItems, ElementKind, Error, Export, ExternalKind, Import, Operator, Parser,
    Payload, TableInit, TypeRef,
};

/// The name of the table that shim and fixup share.
pub(super) const TABLE: &str = "$imports";

/// A module that isn't a guest.
pub(super) enum Between {
    Shim(Shim),
    Fixup(Fixup),
    Starter,
}

/// The table index that each exported function calls, by name.
pub(super) type Shim = HashMap<String, u32>;

/// The name of the imported function that goes to each table index.
pub(super) type Fixup = Vec<String>;

impl Between {
    /// Reads a valid module. Returns none if it is a guest.
    pub(super) fn read(bytes: &[u8]) -> Option<Between> {
        let mut module = Module::default();
        for payload in Parser::new(0).parse_all(bytes) {
            module.section(payload.ok()?).ok()?.then_some(())?;
        }
        module.sort()
    }
}

/// The parts that such a module may have.
#[derive(Default)]
struct Module {
    /// The number of parameters of each type.
    types: Vec<usize>,
    imported_functions: Vec<String>,
    imports_table: bool,
    tables: u32,
    /// The types of the functions with code.
    functions: Vec<u32>,
    /// The table index that each of them calls.
    calls: Vec<u32>,
    exported_functions: Vec<(String, u32)>,
    exports_table: bool,
    elements: Option<Vec<u32>>,
    start: Option<u32>,
}

impl Module {
    /// Returns false if no such module has this section.
    fn section(&mut self, payload: Payload<'_>) -> Result<bool, Error> {
        match payload {
            Payload::TypeSection(section) => {
                for ty in section.into_iter_err_on_gc_types() {
                    self.types.push(ty?.params().len());
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    if !self.import(&import?) {
                        return Ok(false);
                    }
                }
            }
            Payload::FunctionSection(section) => {
                self.functions = section.into_iter().collect::<Result<_, _>>()?;
            }
            Payload::TableSection(section) => {
                for table in section {
                    self.tables += 1;
                    if !matches!(table?.init, TableInit::RefNull) {
                        return Ok(false);
                    }
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    if !self.export(&export?) {
                        return Ok(false);
                    }
                }
            }
            Payload::StartSection { func, .. } => self.start = Some(func),
            Payload::ElementSection(section) => {
                for element in section {
                    if !self.element(&element?)? {
                        return Ok(false);
                    }
                }
            }
            Payload::CodeSectionEntry(body) => {
                let Some(called) = self.called_index(&body)? else {
                    return Ok(false);
                };
                self.calls.push(called);
            }
            Payload::Version { .. }
            | Payload::CodeSectionStart { .. }
            | Payload::CustomSection(_)
            | Payload::End(_) => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Returns false if no such module has this import.
    fn import(&mut self, import: &Import<'_>) -> bool {
        match import.ty {
            _ if !import.module.is_empty() => return false,
            TypeRef::Func(_) => self.imported_functions.push(import.name.to_owned()),
            TypeRef::Table(_) if import.name == TABLE && !self.imports_table => {
                self.imports_table = true;
            }
            _ => return false,
        }
        true
    }

    /// Returns false if no such module has this export.
    fn export(&mut self, export: &Export<'_>) -> bool {
        match export.kind {
            ExternalKind::Func => self
                .exported_functions
                .push((export.name.to_owned(), export.index)),
            ExternalKind::Table if export.name == TABLE && export.index == 0 => {
                self.exports_table = true;
            }
            _ => return false,
        }
        true
    }

    /// Returns false if this isn't the only segment, or if it doesn't fill the table from the start.
    fn element(&mut self, element: &Element<'_>) -> Result<bool, Error> {
        let Some(functions) = filled_from_the_start(element)? else {
            return Ok(false);
        };
        Ok(self.elements.replace(functions).is_none())
    }

    /// The table index that a function calls with its own parameters, if it does nothing else.
    fn called_index(&self, body: &wasmparser::FunctionBody<'_>) -> Result<Option<u32>, Error> {
        let ty = self.functions.get(self.calls.len()).copied();
        let params = ty.and_then(|ty| self.types.get(ty as usize)).copied();
        let (Some(ty), Some(params)) = (ty, params) else {
            return Ok(None);
        };
        if body.get_locals_reader()?.get_count() > 0 {
            return Ok(None);
        }
        let mut operators = body.get_operators_reader()?;
        for param in 0..params as u32 {
            if !matches!(operators.read()?, Operator::LocalGet { local_index } if local_index == param)
            {
                return Ok(None);
            }
        }
        let Operator::I32Const { value: called } = operators.read()? else {
            return Ok(None);
        };
        let calls = operators.read()?;
        let is_call = matches!(
            calls,
            Operator::CallIndirect { type_index, table_index: 0 } if type_index == ty
        );
        let ends = matches!(operators.read()?, Operator::End) && operators.eof();
        Ok((is_call && ends).then_some(called.cast_unsigned()))
    }

    fn sort(self) -> Option<Between> {
        let has_code = !self.functions.is_empty();
        let imports_functions = !self.imported_functions.is_empty();
        if self.exports_table
            && self.tables == 1
            && !self.imports_table
            && !imports_functions
            && self.elements.is_none()
            && self.start.is_none()
        {
            let called_by_name = |(name, index): (String, u32)| {
                let called = self.calls.get(index as usize)?;
                Some((name, *called))
            };
            let shim = self.exported_functions.into_iter().map(called_by_name);
            return shim.collect::<Option<Shim>>().map(Between::Shim);
        }
        let exports = self.exports_table || !self.exported_functions.is_empty();
        if has_code || exports || self.tables > 0 {
            return None;
        }
        if self.imports_table && self.start.is_none() {
            let imported = self.imported_functions;
            let name = |index: u32| imported.get(index as usize).cloned();
            let fixup = self.elements?.into_iter().map(name);
            return fixup.collect::<Option<Fixup>>().map(Between::Fixup);
        }
        let starts = self.start == Some(0) && self.imported_functions == [""];
        (starts && !self.imports_table && self.elements.is_none()).then_some(Between::Starter)
    }
}

/// The functions that a segment puts into the first table, from index 0 on.
fn filled_from_the_start(element: &Element<'_>) -> Result<Option<Vec<u32>>, Error> {
    let ElementKind::Active {
        table_index: None | Some(0),
        offset_expr,
    } = &element.kind
    else {
        return Ok(None);
    };
    let mut offset = offset_expr.get_operators_reader();
    let is_first = matches!(offset.read()?, Operator::I32Const { value: 0 });
    match &element.items {
        ElementItems::Functions(functions) if is_first => functions
            .clone()
            .into_iter()
            .collect::<Result<_, _>>()
            .map(Some),
        _ => Ok(None),
    }
}
