//! Operations on large parts of memories. `memory.fill` and `memory.copy` are cut into pieces: one may take a second. After
//! `memory.grow` it is paid for what had to be moved.

use super::analysis::Bulk;
use super::counting::{BYTES_PER_REDUCTION, Cost, Counter};
use wasm_encoder::{BlockType, Function, InstructionSink};

/// Bulk operations run in pieces of this many bytes: some ten microseconds each.
const PIECE_BYTES: i32 = 256 << 10;

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
}

/// `fill(destination, value, length)` or `copy(destination, source, length)`: the operation itself when it is small
/// or out of bounds (it traps before it writes anything, so it must be seen whole), else piece by piece. A copy to
/// a higher address goes backwards, as overlapping ranges need. Each piece is paid for when it is its turn.
///
/// `grow(pages)` is the operation itself; `moved` is the host's function that says what it has cost.
pub(super) fn bulk(operation: Bulk, counter: &Counter, moved: u32) -> Function {
    let (destination, source) = match operation {
        Bulk::Fill { memory } => (memory, None),
        Bulk::Copy {
            destination,
            source,
        } => (destination, Some(source)),
        Bulk::Grow { .. } => {
            let mut body = Function::new([]);
            let mut code = body.instructions();
            code.local_get(0);
            operation.emit(&mut code);
            code.call(moved).call(counter.takes_off).end();
            return body;
        }
    };
    let copy = source.is_some();
    const DESTINATION: u32 = 0;
    const SECOND: u32 = 1;
    const LENGTH: u32 = 2;
    let mut body = Function::new([]);
    let mut code = body.instructions();
    let out_of_bounds = |code: &mut InstructionSink<'_>, start: u32, memory: u32| {
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
    };
    let piece = |code: &mut InstructionSink<'_>| {
        counter.charge(code, Cost::Of(PIECE_BYTES as u64 / BYTES_PER_REDUCTION));
    };
    code.local_get(LENGTH).i32_const(PIECE_BYTES).i32_le_u();
    out_of_bounds(&mut code, DESTINATION, destination);
    code.i32_or();
    if let Some(source) = source {
        out_of_bounds(&mut code, SECOND, source);
        code.i32_or();
    }
    code.if_(BlockType::Empty);
    counter.charge(&mut code, Cost::Bytes(LENGTH));
    code.local_get(DESTINATION)
        .local_get(SECOND)
        .local_get(LENGTH);
    operation.emit(&mut code);
    code.return_().end();

    if copy {
        // Backwards: the last piece of what is left, at the same distance in both ranges.
        code.local_get(DESTINATION)
            .local_get(SECOND)
            .i32_gt_u()
            .if_(BlockType::Empty)
            .loop_(BlockType::Empty);
        piece(&mut code);
        code.local_get(LENGTH)
            .i32_const(PIECE_BYTES)
            .i32_sub()
            .local_set(LENGTH);
        code.local_get(DESTINATION).local_get(LENGTH).i32_add();
        code.local_get(SECOND).local_get(LENGTH).i32_add();
        code.i32_const(PIECE_BYTES);
        operation.emit(&mut code);
        code.local_get(LENGTH)
            .i32_const(PIECE_BYTES)
            .i32_gt_u()
            .br_if(0)
            .end();
        code.local_get(DESTINATION)
            .local_get(SECOND)
            .local_get(LENGTH);
        operation.emit(&mut code);
        code.return_().end();
    }
    code.loop_(BlockType::Empty);
    piece(&mut code);
    code.local_get(DESTINATION)
        .local_get(SECOND)
        .i32_const(PIECE_BYTES);
    operation.emit(&mut code);
    let step = if copy {
        &[DESTINATION, SECOND][..]
    } else {
        &[DESTINATION][..]
    };
    for moving in step {
        code.local_get(*moving)
            .i32_const(PIECE_BYTES)
            .i32_add()
            .local_set(*moving);
    }
    code.local_get(LENGTH)
        .i32_const(PIECE_BYTES)
        .i32_sub()
        .local_tee(LENGTH);
    code.i32_const(PIECE_BYTES).i32_gt_u().br_if(0).end();
    code.local_get(DESTINATION)
        .local_get(SECOND)
        .local_get(LENGTH);
    operation.emit(&mut code);
    code.end();
    body
}
