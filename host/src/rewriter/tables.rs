//! Calls by a table that never changes, which become direct ones.
//!
//! wasmtime keeps 32 bytes in every instance for each function that a table or an export mentions, and eight for each place
//! of a table. With what a compiler's library brings along that is a page of every process. But the host calls one function
//! of a module only, and what a table holds that no code changes is known when the module is loaded:
//!
//! ```text
//! call_indirect T (…, place)  becomes  call by_T(…, place):   place 0: return_call f;  place 1: return_call g;  …
//! ```
//!
//! Where it traps, it does so by a call by a table that is left for that: the trap is the same.

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

/// A larger table stays as it is.
const PLACES_MAX: u64 = 1 << 12;
/// So does one of which more code would be made than so many branches and arguments.
const CODE_MAX: usize = 1 << 16;
/// Functions that are called by table may have as many parameters; the limit of all is 1000.
const PARAMS_MAX: usize = 100;

/// Nothing there, another type, outside.
const WAYS_TO_TRAP: usize = 3;

/// The table that is left has nothing in its first place, and functions of two types in the others.
const NOTHING_AT: i32 = 0;
const UNIT_AT: i32 = 1;
const OTHER_AT: i32 = 2;
const PLACES_LEFT: u64 = 3;
const OUTSIDE: i32 = -1;

/// What is found out of a module's table, and of the functions that are referred to.
#[derive(Default)]
pub(super) struct Found {
    tables: u32,
    /// What it holds: functions, by index.
    places: Vec<Option<u32>>,
    /// The types of functions that are called by table.
    types: BTreeSet<u32>,
    refers: bool,
    is_unknown: bool,
}

impl Found {
    /// A group of types.
    pub(super) fn types(&mut self, group: &RecGroup) {
        let is_own = |ty: &ValType| matches!(ty, ValType::Ref(to) if to.is_concrete_type_ref());
        let is_plain = |ty: &SubType| match &ty.composite_type.inner {
            CompositeInnerType::Func(function) => {
                let mut used = function.params().iter().chain(function.results());
                ty.is_final && ty.supertype_idx.is_none() && !used.any(is_own)
            }
            _ => false,
        };
        // Only such are the same if they look the same.
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
            && ty.initial <= PLACES_MAX;
        if self.tables > 1 || !is_plain {
            self.is_unknown = true;
            return;
        }
        self.places = vec![None; ty.initial as usize];
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
        let mut place = offset as u32 as usize;
        let mut put = |function| {
            match self.places.get_mut(place) {
                Some(at) => *at = function,
                // Then there is no instance at all.
                None => self.is_unknown = true,
            }
            place += 1;
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
        self.is_unknown |= place > self.places.len();
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

    /// What becomes of it, in a module with these types and functions.
    pub(super) fn finish(self, types: &[Option<FuncType>], functions: &[u32]) -> Calls {
        let function_type = |ty: u32| types.get(ty as usize)?.as_ref();
        let fits = |ty: &&FuncType| ty.params().len() <= PARAMS_MAX;
        let known: Option<Vec<_>> = (self.types.iter())
            .map(|ty| Some((*ty, function_type(*ty).filter(fits)?)))
            .collect();
        let known = known.filter(|known| {
            let branches = known.len() * (self.places.len() + WAYS_TO_TRAP);
            self.tables == 1 && !self.refers && !self.is_unknown && branches <= CODE_MAX
        });
        let by_type = known.map(|known| -> Vec<ByType> {
            let called = |(index, ty): (u32, &FuncType)| ByType {
                index,
                ty: ty.clone(),
                places: (self.places.iter())
                    .map(|function| {
                        let Some(function) = *function else {
                            return Place::Nothing;
                        };
                        let found = functions.get(function as usize);
                        match found.and_then(|found| function_type(*found)) == Some(ty) {
                            true => Place::Function(function),
                            false => Place::Other,
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
            refers: self.refers,
        }
    }
}

/// How a module's functions are called otherwise than by their index.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// The types of functions that are called by table, by index; none if the table stays.
    by_type: Option<Vec<ByType>>,
    /// Code refers to functions, which have to be mentioned elsewhere for that.
    refers: bool,
}

/// Calls by table of functions of one type.
#[derive(Debug)]
pub(super) struct ByType {
    index: u32,
    ty: FuncType,
    /// What the table has for them.
    places: Vec<Place>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Nothing,
    /// A function of another type.
    Other,
    Function(u32),
}

impl Calls {
    /// The types for which there is a function that calls by table, in their order.
    pub(super) fn by_type(&self) -> &[ByType] {
        self.by_type.as_deref().unwrap_or_default()
    }

    /// Which of these functions stands for calls of this type, if calls by table become direct ones.
    pub(super) fn place(&self, ty: u32) -> Option<u32> {
        let by_type = self.by_type();
        let place = by_type.binary_search_by_key(&ty, |by| by.index).ok()?;
        Some(place as u32)
    }

    /// Is an export of this kind kept? The host calls none of the module's functions.
    pub(super) fn keeps_export(&self, kind: ExternalKind) -> bool {
        match kind {
            ExternalKind::Func | ExternalKind::FuncExact => self.refers,
            ExternalKind::Table => self.by_type.is_none(),
            _ => true,
        }
    }

    /// Does the table stay as it is?
    pub(super) fn keeps_table(&self) -> bool {
        self.by_type.is_none()
    }

    /// The table that is left, if anything is called by table.
    pub(super) fn add_table(&self, tables: &mut TableSection) {
        if !self.by_type().is_empty() {
            tables.table(TableType {
                element_type: RefType::FUNCREF,
                table64: false,
                minimum: PLACES_LEFT,
                maximum: Some(PLACES_LEFT),
                shared: false,
            });
        }
    }

    /// What is in it: a function without parameters and results, and one of another type.
    pub(super) fn add_elements(&self, elements: &mut ElementSection, unit: u32, other: u32) {
        if !self.by_type().is_empty() {
            let functions = Elements::Functions(vec![unit, other].into());
            elements.active(None, &ConstExpr::i32_const(UNIT_AT), functions);
        }
    }
}

impl ByType {
    /// The type of the function that calls functions of this type by the place that is its last parameter.
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

    /// The functions that are called, by index.
    fn functions(&self) -> Vec<u32> {
        let mut functions: Vec<u32> = Vec::new();
        for place in &self.places {
            if let Place::Function(function) = *place {
                functions.push(function);
            }
        }
        functions.sort_unstable();
        functions.dedup();
        functions
    }

    /// That function.
    pub(super) fn function(&self, moved: impl Fn(u32) -> u32) -> Function {
        let mut body = Function::new([]);
        let mut code = body.instructions();
        let params = self.ty.params().len() as u32;
        let arguments = |code: &mut InstructionSink<'_>| {
            for param in 0..params {
                code.local_get(param);
            }
        };
        let functions = self.functions();
        // A block for each, which ends where it is called, and for each way to trap; the innermost one is the first.
        let found = functions.len() as u32;
        let [nothing, other, outside] = [found, found + 1, found + 2];
        for _ in 0..found + WAYS_TO_TRAP as u32 {
            code.block(BlockType::Empty);
        }
        let targets = self.places.iter().map(|place| match place {
            Place::Nothing => nothing,
            Place::Other => other,
            Place::Function(function) => {
                let place = functions.binary_search(function);
                place.expect("all of them are listed") as u32
            }
        });
        code.local_get(params);
        code.br_table(targets.collect::<Vec<_>>(), outside);
        for function in functions {
            code.end();
            arguments(&mut code);
            code.return_call(moved(function));
        }
        let is_unit = self.ty.params().is_empty() && self.ty.results().is_empty();
        let wrong = if is_unit { OTHER_AT } else { UNIT_AT };
        for place in [NOTHING_AT, wrong, OUTSIDE] {
            code.end();
            arguments(&mut code);
            code.i32_const(place).call_indirect(0, self.index);
            code.return_();
        }
        code.end();
        body
    }
}
