//! Changes modules as bytes, so that Atoll runs modules that were not written for it.
//!
//! [`with_entry`] adds the exports that the loader asks for. [`with_definitions`] replaces imports from the suite's module
//! `spectest`, and of functions that only return constants, by definitions, because modules on the flattened path import
//! functions of the contract only.
//! [`component_of`] puts modules into a component, for the component path. Nothing here runs a module.

use anyhow::{Result, anyhow, bail};
use std::collections::BTreeMap;
use std::convert::Infallible;
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    CodeSection, Component, ComponentExportKind, ComponentExportSection, ComponentSectionId,
    ConstExpr, Encode, FunctionSection, GlobalSection, GlobalType, ImportSection, Instruction,
    MemorySection, MemoryType, RawSection, RefType, TableSection, TableType, ValType,
};
use wasmparser::{ExternalKind, FuncType, Operator, Parser, Payload, TypeRef};

/// The suite's module that its other modules import from.
pub const SPECTEST: &str = r#"(module
    (func (export "print")) (func (export "print_i32") (param i32)) (func (export "print_i64") (param i64))
    (func (export "print_f32") (param f32)) (func (export "print_f64") (param f64))
    (func (export "print_i32_f32") (param i32 f32)) (func (export "print_f64_f64") (param f64 f64))
    (global (export "global_i32") i32 (i32.const 666)) (global (export "global_i64") i64 (i64.const 666))
    (global (export "global_f32") f32 (f32.const 666.6)) (global (export "global_f64") f64 (f64.const 666.6))
    (table (export "table") 10 20 funcref) (memory (export "memory") 1 2))"#;

/// The order of a module's sections. Section 12 counts the data, 13 holds tags.
const ORDER: [u8; 13] = [1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11];
const TYPES: u8 = 1;
const FUNCTIONS: u8 = 3;
const EXPORTS: u8 = 7;
const CODE: u8 = 10;

/// The sections of a module, by number. Custom sections are left out.
fn sections(bytes: &[u8]) -> Result<BTreeMap<u8, Vec<u8>>> {
    let mut sections = BTreeMap::new();
    for payload in Parser::new(0).parse_all(bytes) {
        if let Some((id, range)) = payload?.as_section()
            && id != 0
        {
            sections.insert(id, bytes[range].to_vec());
        }
    }
    Ok(sections)
}

fn module(sections: &BTreeMap<u8, Vec<u8>>) -> Vec<u8> {
    let mut module = wasm_encoder::Module::new();
    for id in ORDER {
        if let Some(data) = sections.get(&id) {
            module.section(&RawSection { id, data });
        }
    }
    module.finish()
}

/// Adds elements to a section that is a list.
fn append(sections: &mut BTreeMap<u8, Vec<u8>>, id: u8, elements: &[Vec<u8>]) -> Result<()> {
    let old = sections.remove(&id).unwrap_or_else(|| vec![0]);
    let mut reader = wasmparser::BinaryReader::new(&old, 0);
    let count = reader.read_var_u32()?;
    let mut new = Vec::new();
    (count + elements.len() as u32).encode(&mut new);
    new.extend(&old[reader.current_position()..]);
    new.extend(elements.iter().flatten());
    sections.insert(id, new);
    Ok(())
}

/// The counts of a module's parts, and the names of its exports.
#[derive(Default)]
struct Parts {
    types: u32,
    functions: u32,
    memories: u32,
    exports: Vec<String>,
}

impl Parts {
    fn of(bytes: &[u8]) -> Result<Parts> {
        let mut parts = Parts::default();
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::TypeSection(section) => {
                    for group in section {
                        parts.types += group?.types().len() as u32;
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        match import?.ty {
                            TypeRef::Func(_) => parts.functions += 1,
                            TypeRef::Memory(_) => parts.memories += 1,
                            _ => {}
                        }
                    }
                }
                Payload::FunctionSection(section) => parts.functions += section.count(),
                Payload::MemorySection(section) => parts.memories += section.count(),
                Payload::ExportSection(section) => {
                    for export in section {
                        parts.exports.push(export?.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(parts)
    }

    fn exports(&self, name: &str) -> bool {
        self.exports.iter().any(|export| export == name)
    }
}

/// Adds a function that does nothing, which it exports as the entry, and exports the first memory as `memory`, because
/// instances without that export are not recycled. Returns the module and the entry's name.
pub fn with_entry(bytes: &[u8]) -> Result<(Vec<u8>, &'static str)> {
    let parts = Parts::of(bytes)?;
    let names = ["run", "_start"];
    let Some(name) = names.into_iter().find(|name| !parts.exports(name)) else {
        bail!("it exports `run` and `_start`");
    };
    let mut sections = sections(bytes)?;
    append(&mut sections, TYPES, &[vec![0x60, 0, 0]])?;
    let mut ty = Vec::new();
    parts.types.encode(&mut ty);
    append(&mut sections, FUNCTIONS, &[ty])?;
    append(&mut sections, CODE, &[vec![2, 0, 0x0b]])?;
    let mut exports = vec![export(name, ExternalKind::Func, parts.functions)];
    if parts.memories > 0 && !parts.exports("memory") {
        exports.push(export("memory", ExternalKind::Memory, 0));
    }
    append(&mut sections, EXPORTS, &exports)?;
    Ok((module(&sections), name))
}

fn export(name: &str, kind: ExternalKind, index: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    name.encode(&mut bytes);
    bytes.push(match kind {
        ExternalKind::Memory => 2,
        _ => 0,
    });
    index.encode(&mut bytes);
    bytes
}

/// A component that exports these modules under these names.
pub fn component_of(modules: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut component = Component::new();
    for (_, data) in modules {
        component.section(&RawSection {
            id: ComponentSectionId::CoreModule.into(),
            data,
        });
    }
    let mut exports = ComponentExportSection::new();
    for (index, (name, _)) in (0..).zip(modules) {
        exports.export(name.as_str(), ComponentExportKind::Module, index, None);
    }
    component.section(&exports);
    component.finish()
}

/// A function that depends on nothing but its parameters.
pub struct PureFunction {
    ty: FuncType,
    /// Its locals and its code.
    body: Vec<u8>,
}

/// The function that a module exports under this name, if it consists of constants and parameters.
pub fn pure_function(bytes: &[u8], name: &str) -> Option<PureFunction> {
    let (mut types, mut functions) = (Vec::new(), Vec::new());
    let (mut index, mut imported, mut bodies) = (None, 0, 0);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.ok()? {
            Payload::TypeSection(section) => {
                let all = section.into_iter_err_on_gc_types();
                types = all.collect::<Result<Vec<_>, _>>().ok()?;
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    imported += u32::from(matches!(import.ok()?.ty, TypeRef::Func(_)));
                }
            }
            Payload::FunctionSection(section) => {
                functions = section.into_iter().collect::<Result<Vec<_>, _>>().ok()?;
            }
            Payload::ExportSection(section) => {
                let mut exports = section.into_iter().filter_map(Result::ok);
                let export = exports.find(|export| export.name == name)?;
                let own = export.index.checked_sub(imported);
                index = own.filter(|_| export.kind == ExternalKind::Func);
            }
            Payload::CodeSectionEntry(body) => {
                bodies += 1;
                if index != Some(bodies - 1) {
                    continue;
                }
                let mut code = body.get_operators_reader().ok()?.into_iter();
                let is_pure = code.all(|operator| operator.is_ok_and(|it| is_pure(&it)));
                let ty: u32 = *functions.get(bodies as usize - 1)?;
                return is_pure.then_some(PureFunction {
                    ty: types.get(ty as usize)?.clone(),
                    body: body.as_bytes().to_vec(),
                });
            }
            _ => {}
        }
    }
    None
}

fn is_pure(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::I32Const { .. }
            | Operator::I64Const { .. }
            | Operator::F32Const { .. }
            | Operator::F64Const { .. }
            | Operator::LocalGet { .. }
            | Operator::Nop
            | Operator::End
    )
}

/// Replaces a module's imports by definitions of its own, if all of them are parts of `spectest`, or functions that `pure`
/// returns for the names of the module and the function.
pub fn with_definitions(
    bytes: &[u8],
    pure: impl Fn(&str, &str) -> Option<PureFunction>,
) -> Result<Vec<u8>> {
    let mut definer = Definer::default();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::TypeSection(section) => {
                for ty in section.into_iter_err_on_gc_types() {
                    definer.types.push(ty?);
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    definer.import(&import?, &pure)?;
                }
            }
            _ => {}
        }
    }
    // Sections that hold definitions have to be there, even if they are empty.
    let mut sections = sections(bytes)?;
    for id in [FUNCTIONS, 4, 5, 6, CODE] {
        sections.entry(id).or_insert_with(|| vec![0]);
    }
    let mut defined = wasm_encoder::Module::new();
    definer
        .parse_core_module(&mut defined, Parser::new(0), &module(&sections))
        .map_err(|error| anyhow!("{error}"))?;
    Ok(defined.finish())
}

/// Writes a module with definitions in place of its imports. The indexes stay, because imports and the first definitions
/// have the same.
#[derive(Default)]
struct Definer {
    types: Vec<FuncType>,
    /// The types and bodies of the functions to define.
    functions: Vec<(u32, Vec<u8>)>,
    /// The values of the globals to define.
    globals: Vec<Number>,
    memories: u32,
    tables: u32,
}

#[derive(Clone, Copy)]
enum Number {
    I32(i32),
    I64(i64),
    F32(f32),
    F64(f64),
}

impl Number {
    fn ty(self) -> ValType {
        match self {
            Number::I32(_) => ValType::I32,
            Number::I64(_) => ValType::I64,
            Number::F32(_) => ValType::F32,
            Number::F64(_) => ValType::F64,
        }
    }

    fn instruction(self) -> Instruction<'static> {
        match self {
            Number::I32(value) => Instruction::I32Const(value),
            Number::I64(value) => Instruction::I64Const(value),
            Number::F32(value) => Instruction::F32Const(value.into()),
            Number::F64(value) => Instruction::F64Const(value.into()),
        }
    }
}

impl Definer {
    fn import(
        &mut self,
        import: &wasmparser::Import<'_>,
        pure: impl Fn(&str, &str) -> Option<PureFunction>,
    ) -> Result<()> {
        use wasmparser::ValType::{F32, F64, I32, I64};
        if import.module != "spectest" {
            let pure = pure(import.module, import.name);
            let (Some(pure), TypeRef::Func(index)) = (pure, import.ty) else {
                bail!("it imports from another instance");
            };
            if self.types.get(index as usize) != Some(&pure.ty) {
                bail!("it imports a function as one of another type");
            }
            self.functions.push((index, pure.body));
            return Ok(());
        }
        let matches = match (import.name, import.ty) {
            (name, TypeRef::Func(index)) => {
                self.functions.push((index, vec![0, 0x0b]));
                let params = match name {
                    "print" => vec![],
                    "print_i32" => vec![I32],
                    "print_i64" => vec![I64],
                    "print_f32" => vec![F32],
                    "print_f64" => vec![F64],
                    "print_i32_f32" => vec![I32, F32],
                    "print_f64_f64" => vec![F64, F64],
                    _ => bail!("it imports what `spectest` lacks"),
                };
                self.types.get(index as usize) == Some(&FuncType::new(params, []))
            }
            (name, TypeRef::Global(ty)) => {
                let (number, of) = match name {
                    "global_i32" => (Number::I32(666), I32),
                    "global_i64" => (Number::I64(666), I64),
                    "global_f32" => (Number::F32(666.6), F32),
                    "global_f64" => (Number::F64(666.6), F64),
                    _ => bail!("it imports what `spectest` lacks"),
                };
                self.globals.push(number);
                !ty.mutable && ty.content_type == of
            }
            ("memory", TypeRef::Memory(ty)) => {
                self.memories += 1;
                !ty.memory64 && ty.initial <= 1 && ty.maximum.is_none_or(|maximum| maximum >= 2)
            }
            ("table", TypeRef::Table(ty)) => {
                self.tables += 1;
                ty.element_type == wasmparser::RefType::FUNCREF
                    && !ty.table64
                    && ty.initial <= 10
                    && ty.maximum.is_none_or(|maximum| maximum >= 20)
            }
            _ => bail!("it imports what `spectest` lacks"),
        };
        if !matches || self.memories > 1 || self.tables > 1 {
            bail!("its imports do not match `spectest`");
        }
        Ok(())
    }
}

impl Reencode for Definer {
    type Error = Infallible;

    fn parse_import_section(
        &mut self,
        _imports: &mut ImportSection,
        _section: wasmparser::ImportSectionReader<'_>,
    ) -> Result<(), Error> {
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Result<(), Error> {
        for (ty, _) in &self.functions {
            functions.function(*ty);
        }
        utils::parse_function_section(self, functions, section)
    }

    fn parse_table_section(
        &mut self,
        tables: &mut TableSection,
        section: wasmparser::TableSectionReader<'_>,
    ) -> Result<(), Error> {
        for _ in 0..self.tables {
            tables.table(TableType {
                element_type: RefType::FUNCREF,
                table64: false,
                minimum: 10,
                maximum: Some(20),
                shared: false,
            });
        }
        utils::parse_table_section(self, tables, section)
    }

    fn parse_memory_section(
        &mut self,
        memories: &mut MemorySection,
        section: wasmparser::MemorySectionReader<'_>,
    ) -> Result<(), Error> {
        for _ in 0..self.memories {
            memories.memory(MemoryType {
                minimum: 1,
                maximum: Some(2),
                memory64: false,
                shared: false,
                page_size_log2: None,
            });
        }
        utils::parse_memory_section(self, memories, section)
    }

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: wasmparser::GlobalSectionReader<'_>,
    ) -> Result<(), Error> {
        for number in &self.globals {
            let ty = GlobalType {
                val_type: number.ty(),
                mutable: false,
                shared: false,
            };
            globals.global(ty, &ConstExpr::extended([number.instruction()]));
        }
        utils::parse_global_section(self, globals, section)
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Result<(), Error> {
        for (_, body) in &self.functions {
            code.raw(body);
        }
        utils::parse_code_section(self, code, section)
    }

    /// An initial value may refer to imported globals only, so their values take the places of references.
    fn instruction<'a>(&mut self, operator: Operator<'a>) -> Result<Instruction<'a>, Error> {
        let number = match operator {
            Operator::GlobalGet { global_index } => self.globals.get(global_index as usize),
            _ => None,
        };
        match number {
            Some(number) => Ok(number.instruction()),
            None => utils::instruction(self, operator),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_valid(bytes: &[u8]) -> bool {
        wasmparser::Validator::new().validate_all(bytes).is_ok()
    }

    #[test]
    fn an_entry_is_added() {
        for text in [
            "(module)",
            r#"(module (memory 1) (func (export "run") (param i32)))"#,
            r#"(module (import "a" "b" (func)) (memory 1) (export "memory" (memory 0)) (data "x"))"#,
        ] {
            let bytes = wat::parse_str(text).expect("the text is a module");
            let (changed, name) = with_entry(&bytes).expect("the entry can be added");
            assert!(is_valid(&changed), "{text}");
            let parts = Parts::of(&changed).expect("the module can be read");
            assert!(parts.exports(name));
            assert_eq!(parts.memories > 0, parts.exports("memory"));
        }
    }

    #[test]
    fn imports_become_definitions() {
        let text = r#"(module
            (import "spectest" "print_i32" (func $print (param i32)))
            (import "spectest" "global_i32" (global $g i32))
            (import "spectest" "memory" (memory 1)) (import "spectest" "table" (table 10 funcref))
            (global i32 (global.get $g)) (data (global.get $g) "x")
            (func (export "f") (call $print (global.get $g))))"#;
        let bytes = wat::parse_str(text).expect("the text is a module");
        let changed = with_definitions(&bytes, |_, _| None).expect("spectest has all of them");
        assert!(is_valid(&changed));
        for import in [
            r#"(import "other" "f" (func))"#,
            r#"(import "spectest" "print_i32" (func))"#,
        ] {
            let bytes = wat::parse_str(format!("(module {import})")).expect("the text is a module");
            assert!(with_definitions(&bytes, |_, _| None).is_err(), "{import}");
        }
    }

    #[test]
    fn functions_that_return_constants_become_definitions() {
        let other = r#"(module (import "a" "b" (func)) (global $g (mut i32) (i32.const 0))
            (func (export "state") (result i32) (global.get $g))
            (func (export "seven") (result i32) (i32.const 7)))"#;
        let other = wat::parse_str(other).expect("the text is a module");
        assert!(pure_function(&other, "state").is_none());
        assert!(pure_function(&other, "eight").is_none());
        let bytes = r#"(module (import "other" "seven" (func (result i32))) (func (export "f") (drop (call 0))))"#;
        let bytes = wat::parse_str(bytes).expect("the text is a module");
        let pure = |_: &str, name: &str| pure_function(&other, name);
        let changed = with_definitions(&bytes, pure).expect("the function is pure");
        assert!(is_valid(&changed));
    }

    #[test]
    fn modules_are_put_into_a_component() {
        let spectest = wat::parse_str(SPECTEST).expect("the text is a module");
        let modules = ["one", "two"].map(|name| (name.to_owned(), spectest.clone()));
        assert!(is_valid(&component_of(&modules)));
    }
}
