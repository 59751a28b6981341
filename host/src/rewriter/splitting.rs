//! Splits functions that counting reductions could make larger than wasm allows.
//!
//! wasm limits a function's code (see [`super::flatten`]), and the rewriter's additions can triple code that consists of nothing
//! but loops. So the rewriter first splits large functions. A stretch of whole statements becomes a function of its own, a
//! *piece*, and a call replaces it:
//!
//! ```text
//!   (loop …) (call 7) …      becomes      (local.set 2 (call $piece (local.get 1) (local.get 2)))
//! ```
//!
//! A piece takes the locals that it uses as parameters, and returns the locals that it sets. A stretch can become a piece if the
//! operand stack is empty before and after it, and if no branch leads out of it except to its end. Other code stays in the
//! function. If rewriting then makes the function too large, the rewriter refuses the module.
//!
//! This file finds the pieces in one pass over a function, and [`pieces`] writes them.

mod pieces;

use super::counting::{Flow, flow};
use super::error::{LoadError, LoadErrorKind};
use super::features;
use pieces::{Functions, write};
use std::collections::HashMap;
use std::ops::Range;
use wasmparser::{
    FuncToValidate, FuncValidatorAllocations, FunctionBody, Operator, Parser, Payload, TypeRef,
    ValType, ValidPayload, Validator, ValidatorResources,
};

/// A function with more code is split. The rewriter's additions at most triple a function.
pub(super) const BODY_BYTES_MAX: usize = 2 << 20;
/// The size of code at which a piece ends.
const PIECE_BYTES: usize = 256 << 10;
/// A shorter stretch stays in the function.
const PIECE_BYTES_MIN: usize = 512;
/// The limit of a piece's parameters, and of its results. wasm allows 1,000.
const LOCALS_MAX: usize = 900;
/// The size of a call, at most, and of passing or setting one local.
const CALL_BYTES: usize = 6;
const LOCAL_BYTES: usize = 4;

/// A stretch of code that becomes a function.
#[derive(Debug)]
struct Piece {
    /// The range of its code in the module.
    code: Range<usize>,
    /// The locals that it uses, by index.
    locals: Vec<Local>,
}

#[derive(Debug)]
struct Local {
    index: u32,
    ty: ValType,
    is_set: bool,
}

/// Splits the large functions of a valid module. Returns none if there is nothing to split.
pub(super) fn split(bytes: &[u8]) -> Result<Option<Vec<u8>>, LoadError> {
    let found = find(bytes).map_err(|error| invalid(&error))?;
    if found.pieces.is_empty() {
        return Ok(None);
    }
    write(bytes, found)
        .map(Some)
        .map_err(|error| invalid(&error))
}

fn invalid(error: &dyn std::fmt::Display) -> LoadError {
    LoadError::quoting(LoadErrorKind::Invalid, error)
}

/// Finds the pieces of all large functions.
fn find(bytes: &[u8]) -> wasmparser::Result<Functions> {
    let mut validator = Validator::new_with_features(features::MODULES);
    let mut found = Functions::default();
    let mut allocations = FuncValidatorAllocations::default();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        match &payload {
            Payload::TypeSection(section) => {
                for group in section.clone() {
                    found.types += group?.into_types().len() as u32;
                }
            }
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    found.functions += u32::from(matches!(import?.ty, TypeRef::Func(_)));
                }
            }
            Payload::FunctionSection(section) => {
                found.first_body = found.functions;
                found.functions += section.count();
            }
            _ => {}
        }
        if let ValidPayload::Func(function, body) = validator.payload(&payload)?
            && body.range().len() > BODY_BYTES_MAX
        {
            let index = function.index;
            let (pieces, reused) = pieces_of(function, &body, allocations)?;
            allocations = reused;
            if !pieces.is_empty() {
                found.pieces.insert(index, pieces);
            }
        }
    }
    Ok(found)
}

/// Finds the pieces of one function, in the order of their beginnings.
fn pieces_of(
    function: FuncToValidate<ValidatorResources>,
    body: &FunctionBody<'_>,
    allocations: FuncValidatorAllocations,
) -> wasmparser::Result<(Vec<Piece>, FuncValidatorAllocations)> {
    let mut validator = function.into_validator(allocations);
    let mut locals = body.get_binary_reader();
    validator.read_locals(&mut locals)?;
    let mut operators = body.get_operators_reader()?;
    let mut cutter = Cutter::new(operators.original_position());
    while !operators.eof() {
        let at = operators.original_position();
        let height = validator.operand_stack_height() as usize;
        let frame = validator.get_control_frame(0);
        if frame.is_some_and(|frame| !frame.unreachable && frame.height == height) {
            cutter.statement_ends(at, |local| validator.get_local_type(local));
        }
        let operator = operators.read()?;
        let end = operators.original_position();
        validator.op(at, &operator)?;
        cutter.instruction(&operator, at..end, |local| validator.get_local_type(local));
        if validator
            .get_control_frame(0)
            .is_some_and(|frame| frame.unreachable)
        {
            cutter.cannot_end_here();
        }
    }
    cutter.pieces.sort_unstable_by_key(|piece| piece.code.start);
    Ok((cutter.pieces, validator.into_allocations()))
}

/// Cuts a function's code in one pass over its instructions.
struct Cutter {
    pieces: Vec<Piece>,
    /// The function, and the blocks around the current instruction.
    blocks: Vec<Block>,
}

/// A block whose end hasn't been read.
struct Block {
    /// Whole statements that may become a piece.
    stretch: Stretch,
    /// The statement after the stretch, as far as it has been read.
    statement: Stretch,
    /// No branch in the statement leads out of it.
    is_closed: bool,
    /// The locals that the rest of the block's code uses.
    locals: Locals,
    /// The number of bytes that will stay in the function.
    bytes: usize,
    /// The outermost block to which a branch leads from here, as an index into `blocks`.
    reach: usize,
}

/// Code from this offset on. `bytes` leaves out what became pieces.
struct Stretch {
    start: usize,
    bytes: usize,
    locals: Locals,
}

impl Stretch {
    fn at(start: usize) -> Stretch {
        Stretch {
            start,
            bytes: 0,
            locals: Locals::default(),
        }
    }
}

/// The locals that some code uses, and whether the code sets them. None if they are too many.
struct Locals(Option<HashMap<u32, bool>>);

impl Default for Locals {
    fn default() -> Locals {
        Locals(Some(HashMap::new()))
    }
}

impl Locals {
    fn uses(&mut self, local: u32, is_set: bool) {
        if let Some(known) = &mut self.0 {
            *known.entry(local).or_default() |= is_set;
            if known.len() > LOCALS_MAX {
                self.0 = None;
            }
        }
    }

    fn add(&mut self, mut other: Locals) {
        let count = |locals: &Locals| locals.0.as_ref().map_or(usize::MAX, HashMap::len);
        if count(self) < count(&other) {
            std::mem::swap(self, &mut other);
        }
        for (local, is_set) in other.0.into_iter().flatten() {
            self.uses(local, is_set);
        }
    }

    /// Converts them to a piece's locals, if they can be its parameters and results.
    fn passed(&self, ty: impl Fn(u32) -> Option<ValType>) -> Option<Vec<Local>> {
        let known = self.0.as_ref()?.iter();
        let locals = known.map(|(&index, &is_set)| {
            let ty = ty(index).filter(ValType::is_defaultable)?;
            Some(Local { index, ty, is_set })
        });
        let mut locals = locals.collect::<Option<Vec<_>>>()?;
        locals.sort_unstable_by_key(|local| local.index);
        Some(locals)
    }
}

impl Block {
    fn at(start: usize) -> Block {
        Block {
            stretch: Stretch::at(start),
            statement: Stretch::at(start),
            is_closed: true,
            locals: Locals::default(),
            bytes: 0,
            reach: usize::MAX,
        }
    }
}

impl Cutter {
    fn new(start: usize) -> Cutter {
        Cutter {
            pieces: Vec::new(),
            blocks: vec![Block::at(start)],
        }
    }

    fn block(&mut self) -> &mut Block {
        self.blocks
            .last_mut()
            .expect("the function's own is there until its end")
    }

    /// A statement of the innermost block ends here, and another may begin.
    fn statement_ends(&mut self, at: usize, ty: impl Fn(u32) -> Option<ValType>) {
        let block = self.block();
        // If one statement alone is too large, moving it would only make another function too large.
        if block.is_closed && block.statement.bytes <= BODY_BYTES_MAX {
            let statement = std::mem::replace(&mut block.statement, Stretch::at(at));
            block.stretch.bytes += statement.bytes;
            block.stretch.locals.add(statement.locals);
            if block.stretch.bytes >= PIECE_BYTES {
                self.cut(at, ty);
            }
            return;
        }
        self.cut(at, ty);
    }

    /// Makes a piece of the whole statements before the last, if that makes the function smaller. Then begins a new stretch.
    fn cut(&mut self, at: usize, ty: impl Fn(u32) -> Option<ValType>) {
        let block = self.block();
        let statement = std::mem::replace(&mut block.statement, Stretch::at(at));
        let stretch = std::mem::replace(&mut block.stretch, Stretch::at(at));
        block.is_closed = true;
        block.locals.add(statement.locals);
        let code = stretch.start..statement.start;
        let mut piece = None;
        if stretch.bytes >= PIECE_BYTES_MIN
            && let Some(locals) = stretch.locals.passed(ty)
        {
            let passed = locals.len() + locals.iter().filter(|local| local.is_set).count();
            let call_bytes = CALL_BYTES + LOCAL_BYTES * passed;
            if call_bytes <= stretch.bytes / 2 {
                block.bytes -= stretch.bytes - call_bytes;
                piece = Some(Piece { code, locals });
            }
        }
        block.locals.add(stretch.locals);
        self.pieces.extend(piece);
    }

    /// The code from here on is unreachable. It has no statements.
    fn cannot_end_here(&mut self) {
        if let Some(block) = self.blocks.last_mut() {
            block.is_closed = false;
        }
    }

    fn instruction(
        &mut self,
        operator: &Operator<'_>,
        code: Range<usize>,
        ty: impl Fn(u32) -> Option<ValType>,
    ) {
        let depth = self.blocks.len();
        let flow = flow(operator);
        let is_end = matches!(flow, Flow::End) || matches!(operator, Operator::Else);
        if is_end {
            self.cut(code.end, ty);
        }
        let block = self.block();
        block.statement.bytes += code.len();
        block.bytes += code.len();
        match *operator {
            Operator::LocalGet { local_index } => block.statement.locals.uses(local_index, false),
            Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => {
                block.statement.locals.uses(local_index, true);
            }
            _ => {}
        }
        match flow {
            Flow::Block | Flow::If | Flow::Loop => self.blocks.push(Block::at(code.end)),
            Flow::BranchTo(out) => self.leads_to(depth.saturating_sub(1 + out as usize)),
            Flow::TailCall => self.leads_to(0),
            Flow::End => self.block_ends(),
            Flow::Next | Flow::Call | Flow::Branch => {}
        }
    }

    /// Notes a branch to the block with this index.
    fn leads_to(&mut self, target: usize) {
        let block = self.block();
        block.reach = block.reach.min(target);
        block.is_closed = false;
    }

    /// Ends the innermost block, which is part of a statement of the block around it.
    fn block_ends(&mut self) {
        let Some(ended) = self.blocks.pop() else {
            return;
        };
        let around = self.blocks.len().wrapping_sub(1);
        let Some(block) = self.blocks.last_mut() else {
            return;
        };
        block.statement.bytes += ended.bytes;
        block.bytes += ended.bytes;
        block.statement.locals.add(ended.locals);
        block.reach = block.reach.min(ended.reach);
        block.is_closed &= ended.reach > around;
    }
}

#[cfg(test)]
mod tests;
