//! Bulk memory operations. One `memory.fill` or `memory.copy` may take a second, so the rewriter cuts it into pieces. After a
//! `memory.grow` the process pays for the bytes that the host had to move.

use super::analysis::Bulk;
use super::counting::{Cost, Counter};
use crate::abi::BYTES_PER_REDUCTION;
use wasm_encoder::{BlockType, Function, InstructionSink};

/// The size of a piece. Filling or copying it takes some ten microseconds.
const PIECE_BYTES: i32 = 256 << 10;

/// The parameters of `fill` and `copy`: the second is a value or the source.
const DESTINATION: u32 = 0;
const SECOND: u32 = 1;
const LENGTH: u32 = 2;

/// Writes `fill(destination, value, length)` or `copy(destination, source, length)`. A small operation runs as it is. So does one
/// that is out of bounds, because it must trap before it writes anything. Any other runs piece by piece. A copy to a higher
/// address runs backwards, as overlapping ranges require. The process pays for each piece before it runs.
///
/// `grow(pages)` runs the operation itself. `moved` is the host's function that returns what the growth has cost.
pub(super) fn bulk(operation: Bulk, counter: &Counter, moved: u32) -> Function {
    let mut body = Function::new([]);
    let mut code = body.instructions();
    match operation {
        Bulk::Fill { memory } => {
            operation.emit_unless_large(&mut code, counter, &[(DESTINATION, memory)]);
            operation.emit_forwards(&mut code, counter, &[DESTINATION]);
        }
        Bulk::Copy {
            destination,
            source,
        } => {
            let ranges = [(DESTINATION, destination), (SECOND, source)];
            operation.emit_unless_large(&mut code, counter, &ranges);
            operation.emit_backwards_if_higher(&mut code, counter);
            operation.emit_forwards(&mut code, counter, &[DESTINATION, SECOND]);
        }
        Bulk::Grow { .. } => {
            code.local_get(0);
            operation.emit(&mut code);
            code.call(moved).call(counter.charge_function);
        }
    }
    code.end();
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
            Bulk::Grow { memory } => code.memory_grow(memory),
        };
    }

    /// Writes the operation on all bytes that remain.
    fn emit_rest(self, code: &mut InstructionSink<'_>) {
        code.local_get(DESTINATION)
            .local_get(SECOND)
            .local_get(LENGTH);
        self.emit(code);
    }

    /// Writes the operation itself for lengths that are small or out of bounds. Each of `ranges` is a parameter that holds a
    /// start address, and its memory.
    fn emit_unless_large(
        self,
        code: &mut InstructionSink<'_>,
        counter: &Counter,
        ranges: &[(u32, u32)],
    ) {
        code.local_get(LENGTH).i32_const(PIECE_BYTES).i32_le_u();
        for (start, memory) in ranges {
            out_of_bounds(code, *start, *memory);
            code.i32_or();
        }
        code.if_(BlockType::Empty);
        counter.charge(code, Cost::Bytes(LENGTH));
        self.emit_rest(code);
        code.return_().end();
    }

    /// Writes the pieces of a copy to a higher address.
    fn emit_backwards_if_higher(self, code: &mut InstructionSink<'_>, counter: &Counter) {
        // The last piece of the remaining bytes comes first, at the same offset in both ranges.
        code.local_get(DESTINATION)
            .local_get(SECOND)
            .i32_gt_u()
            .if_(BlockType::Empty)
            .loop_(BlockType::Empty);
        charge_piece(code, counter);
        code.local_get(LENGTH)
            .i32_const(PIECE_BYTES)
            .i32_sub()
            .local_set(LENGTH);
        code.local_get(DESTINATION).local_get(LENGTH).i32_add();
        code.local_get(SECOND).local_get(LENGTH).i32_add();
        code.i32_const(PIECE_BYTES);
        self.emit(code);
        code.local_get(LENGTH)
            .i32_const(PIECE_BYTES)
            .i32_gt_u()
            .br_if(0)
            .end();
        self.emit_rest(code);
        code.return_().end();
    }

    /// Writes the pieces from the first on. Each piece advances the parameters in `addresses`.
    fn emit_forwards(self, code: &mut InstructionSink<'_>, counter: &Counter, addresses: &[u32]) {
        code.loop_(BlockType::Empty);
        charge_piece(code, counter);
        code.local_get(DESTINATION)
            .local_get(SECOND)
            .i32_const(PIECE_BYTES);
        self.emit(code);
        for address in addresses {
            code.local_get(*address)
                .i32_const(PIECE_BYTES)
                .i32_add()
                .local_set(*address);
        }
        code.local_get(LENGTH)
            .i32_const(PIECE_BYTES)
            .i32_sub()
            .local_tee(LENGTH);
        code.i32_const(PIECE_BYTES).i32_gt_u().br_if(0).end();
        self.emit_rest(code);
    }
}

/// Tests whether the range that starts at this parameter exceeds its memory.
fn out_of_bounds(code: &mut InstructionSink<'_>, start: u32, memory: u32) {
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
}

/// Charges for one piece.
fn charge_piece(code: &mut InstructionSink<'_>, counter: &Counter) {
    counter.charge(code, Cost::Of(PIECE_BYTES as u64 / BYTES_PER_REDUCTION));
}
