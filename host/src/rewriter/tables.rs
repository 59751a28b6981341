//! Turns calls through a table that never changes into direct calls.
//!
//! wasmtime keeps 32 bytes in every instance for each function that a table or an export mentions, and eight for each table
//! element. With a compiler's library, that is a page for every process. But the host calls only one function of a module, and if
//! no code changes a table, its contents are known when the module is loaded:
//!
//! ```text
//! call_indirect T (…, index)  becomes  call by_T(…, index):   index 0: return_call f;  index 1: return_call g;  …
//! ```
//!
//! Where the original call would trap, `by_T` makes a call through a small remaining table, so that the trap is the same.

use super::initial::{Value, value};
use std::collections::BTreeSet;
use wasm_encoder::reencode::{Error, Reencode};
use wasm_encoder::{
    BlockType, ConstExpr, ElementSection, Elements, Function, InstructionSink, RefType,
    TableSection, TableType, TypeSection,
};
use wasmparser::{
    CompositeInnerType, Element, ElementItems, ElementKind, ExternalKind, FuncType, Operator,
    RecGroup, SubType, Table, TableInit, TypeRef, ValType,
};

/// A larger table stays.
const ELEMENTS_MAX: u64 = 1 << 12;
/// A table stays, too, if replacing it takes more branches, or more arguments, than this.
const CODE_MAX: usize = 1 << 16;
/// Functions that are called through the table may have this many parameters. wasm's limit is 1000.
const PARAMS_MAX: usize = 100;

/// A null element, a function of another type, an index out of range.
const WAYS_TO_TRAP: usize = 3;

/// The remaining table has a null element, and then functions of two different types.
const NULL_AT: i32 = 0;
const UNIT_AT: i32 = 1;
const OTHER_AT: i32 = 2;
const ELEMENTS_LEFT: u64 = 3;
const OUT_OF_RANGE: i32 = -1;

/// A module's table, and the references to functions.
#[derive(Default)]
pub(super) struct TableUse {
    tables: u32,
    /// The table's elements: functions, by index.
    elements: Vec<Option<u32>>,
    /// The types of functions that are called through the table.
    types: BTreeSet<u32>,
    refers: bool,
    is_unknown: bool,
}

impl TableUse {
    /// Reads a group of types.
    pub(super) fn types(&mut self, group: &RecGroup) {
        let is_own = |ty: &ValType| matches!(ty, ValType::Ref(to) if to.is_concrete_type_ref());
        let is_plain = |ty: &SubType| match &ty.composite_type.inner {
            CompositeInnerType::Func(function) => {
                let mut used = function.params().iter().chain(function.results());
                ty.is_final && ty.supertype_idx.is_none() && !used.any(is_own)
            }
            _ => false,
        };
        // Only such types are equal if they look equal.
        self.is_unknown |= group.types().len() != 1 || !group.types().all(is_plain);
    }

    pub(super) fn import(&mut self, ty: &TypeRef) {
        self.is_unknown |= matches!(ty, TypeRef::Table(_));
    }

    pub(super) fn table(&mut self, table: &Table<'_>) {
        self.tables += 1;
        let ty = table.ty;
        let is_plain = ty.element_type == wasmparser::RefType::FUNCREF
            && matches!(table.init, TableInit::RefNull)
            && !ty.table64
            && ty.initial <= ELEMENTS_MAX;
        if self.tables > 1 || !is_plain {
            self.is_unknown = true;
            return;
        }
        self.elements = vec![None; ty.initial as usize];
    }

    pub(super) fn element(&mut self, element: &Element<'_>) -> wasmparser::Result<()> {
        let offset = match &element.kind {
            ElementKind::Active { offset_expr, .. } => value(offset_expr),
            _ => None,
        };
        let Some(Value::I32(offset)) = offset.filter(|_| !self.is_unknown) else {
            self.is_unknown = true;
            return Ok(());
        };
        let mut index = offset as u32 as usize;
        let mut put = |function| {
            match self.elements.get_mut(index) {
                Some(at) => *at = function,
                // Instantiating this module always fails.
                None => self.is_unknown = true,
            }
            index += 1;
        };
        match &element.items {
            ElementItems::Functions(functions) => {
                for function in functions.clone() {
                    put(Some(function?));
                }
            }
            ElementItems::Expressions(_, expressions) => {
                for expression in expressions.clone() {
                    match expression?.get_operators_reader().read()? {
                        Operator::RefFunc { function_index } => put(Some(function_index)),
                        Operator::RefNull { .. } => put(None),
                        _ => {
                            self.is_unknown = true;
                            return Ok(());
                        }
                    }
                }
            }
        }
        // A segment without elements must lie within the table, too.
        self.is_unknown |= index > self.elements.len();
        Ok(())
    }

    pub(super) fn operator(&mut self, operator: &Operator<'_>) {
        match operator {
            Operator::CallIndirect { type_index, .. }
            | Operator::ReturnCallIndirect { type_index, .. } => {
                self.types.insert(*type_index);
            }
            Operator::RefFunc { .. } => self.refers = true,
            Operator::TableGet { .. }
            | Operator::TableSet { .. }
            | Operator::TableGrow { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. }
            | Operator::TableInit { .. }
            | Operator::TableSize { .. }
            | Operator::ElemDrop { .. } => self.is_unknown = true,
            _ => {}
        }
    }

    /// Decides how calls are rewritten in a module with these types and functions.
    pub(super) fn finish(self, types: &[Option<FuncType>], functions: &[u32]) -> Calls {
        let function_type = |ty: u32| types.get(ty as usize)?.as_ref();
        let fits = |ty: &&FuncType| ty.params().len() <= PARAMS_MAX;
        let known: Option<Vec<_>> = (self.types.iter())
            .map(|ty| Some((*ty, function_type(*ty).filter(fits)?)))
            .collect();
        let known = known.filter(|known| {
            let branches = known.len() * (self.elements.len() + WAYS_TO_TRAP);
            self.tables == 1 && !self.refers && !self.is_unknown && branches <= CODE_MAX
        });
        let by_type = known.map(|known| -> Vec<ByType> {
            let called = |(index, ty): (u32, &FuncType)| ByType {
                index,
                ty: ty.clone(),
                callees: (self.elements.iter())
                    .map(|function| {
                        let Some(function) = *function else {
                            return Callee::Null;
                        };
                        let found = functions.get(function as usize);
                        match found.and_then(|found| function_type(*found)) == Some(ty) {
                            true => Callee::Function(function),
                            false => Callee::OtherType,
                        }
                    })
                    .collect(),
            };
            known.into_iter().map(called).collect()
        });
        let is_small = |by_type: &Vec<ByType>| {
            let arguments = |by: &ByType| by.functions().len() * (by.ty.params().len() + 1);
            by_type.iter().map(arguments).sum::<usize>() <= CODE_MAX
        };
        Calls {
            by_type: by_type.filter(is_small),
            keeps_functions: self.refers,
        }
    }
}

/// How calls through a table are rewritten.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// The types of functions that are called through the table, by index. None if the table stays.
    by_type: Option<Vec<ByType>>,
    /// Exported functions stay exported. If code refers to functions (`ref.func`), wasm requires that such functions are
    /// exported or mentioned elsewhere.
    keeps_functions: bool,
}

/// Calls through the table of functions of one type.
#[derive(Debug)]
pub(super) struct ByType {
    index: u32,
    ty: FuncType,
    /// The callee for each table index.
    callees: Vec<Callee>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Callee {
    Null,
    /// A function of another type.
    OtherType,
    Function(u32),
}

impl Calls {
    /// The types that get a function for calls through the table, in their order.
    pub(super) fn by_type(&self) -> &[ByType] {
        self.by_type.as_deref().unwrap_or_default()
    }

    /// The position of this type in `by_type`, if calls through the table become direct.
    pub(super) fn position(&self, ty: u32) -> Option<u32> {
        let by_type = self.by_type();
        let position = by_type.binary_search_by_key(&ty, |by| by.index).ok()?;
        Some(position as u32)
    }

    /// Does the rewritten module keep exports of this kind? The host calls none of the module's own functions.
    pub(super) fn keeps_export(&self, kind: ExternalKind) -> bool {
        match kind {
            ExternalKind::Func | ExternalKind::FuncExact => self.keeps_functions,
            ExternalKind::Table => self.by_type.is_none(),
            _ => true,
        }
    }

    /// Keeps the exports of functions, for the test harness.
    pub(super) fn keep_functions(&mut self) {
        self.keeps_functions = true;
    }

    /// Does the table stay?
    pub(super) fn keeps_table(&self) -> bool {
        self.by_type.is_none()
    }

    /// Adds the remaining table, if the module calls through a table.
    pub(super) fn add_table(&self, tables: &mut TableSection) {
        if !self.by_type().is_empty() {
            tables.table(TableType {
                element_type: RefType::FUNCREF,
                table64: false,
                minimum: ELEMENTS_LEFT,
                maximum: Some(ELEMENTS_LEFT),
                shared: false,
            });
        }
    }

    /// Adds the remaining table's elements: a function without parameters and results, and one of another type.
    pub(super) fn add_elements(&self, elements: &mut ElementSection, unit: u32, other: u32) {
        if !self.by_type().is_empty() {
            let functions = Elements::Functions(vec![unit, other].into());
            elements.active(None, &ConstExpr::i32_const(UNIT_AT), functions);
        }
    }
}

impl ByType {
    /// Adds the type of the function that replaces calls of this type. The table index is its last parameter.
    pub(super) fn add_type<R: Reencode>(
        &self,
        reencode: &mut R,
        types: &mut TypeSection,
    ) -> Result<(), Error<R::Error>> {
        let mut converted = |types: &[ValType]| {
            let types = types.iter().map(|ty| reencode.val_type(*ty));
            types.collect::<Result<Vec<_>, _>>()
        };
        let mut params = converted(self.ty.params())?;
        let results = converted(self.ty.results())?;
        params.push(wasm_encoder::ValType::I32);
        types.ty().function(params, results);
        Ok(())
    }

    /// The callees' function indexes, without repetitions.
    fn functions(&self) -> Vec<u32> {
        let mut functions: Vec<u32> = Vec::new();
        for callee in &self.callees {
            if let Callee::Function(function) = *callee {
                functions.push(function);
            }
        }
        functions.sort_unstable();
        functions.dedup();
        functions
    }

    /// The function that replaces calls of this type.
    pub(super) fn function(&self, new_index: impl Fn(u32) -> u32) -> Function {
        let mut body = Function::new([]);
        let mut code = body.instructions();
        let params = self.ty.params().len() as u32;
        let arguments = |code: &mut InstructionSink<'_>| {
            for param in 0..params {
                code.local_get(param);
            }
        };
        let functions = self.functions();
        // One block for each function, and one for each way to trap. The innermost block is the first; its end is followed by the
        // call.
        let found = functions.len() as u32;
        let [null, other, out_of_range] = [found, found + 1, found + 2];
        for _ in 0..found + WAYS_TO_TRAP as u32 {
            code.block(BlockType::Empty);
        }
        let targets = self.callees.iter().map(|callee| match callee {
            Callee::Null => null,
            Callee::OtherType => other,
            Callee::Function(function) => {
                let position = functions.binary_search(function);
                position.expect("all of them are listed") as u32
            }
        });
        code.local_get(params);
        code.br_table(targets.collect::<Vec<_>>(), out_of_range);
        for function in functions {
            code.end();
            arguments(&mut code);
            code.return_call(new_index(function));
        }
        let is_unit = self.ty.params().is_empty() && self.ty.results().is_empty();
        let wrong = if is_unit { OTHER_AT } else { UNIT_AT };
        for index in [NULL_AT, wrong, OUT_OF_RANGE] {
            code.end();
            arguments(&mut code);
            code.i32_const(index).call_indirect(0, self.index);
            code.return_();
        }
        code.end();
        body
    }
}
