//! Splits a `br_table` that has more targets than wasmtime's compiler accepts into several smaller ones.
//!
//! ```text
//! (br_table 0 0 0 … 1 (index))    becomes    (if (i32.lt_u (index) (n)) (then (br_table 1 … 2 (index))))
//!                                            (index = index - n), and so on; at last (br 1)
//! ```
//!
//! The smaller ones lie in a block, which can't reach operands outside of it. So the rewriter splits a branch only if no target
//! takes operands. Otherwise the compiler refuses the function.

use wasm_encoder::{BlockType, InstructionSink};
use wasmparser::{BrTable, FunctionBody, Operator, OperatorsReader, Result};

/// The compiler's limit of targets.
const TARGETS_MAX: u32 = 65_520;

/// Is this code long enough to hold such a branch?
pub(super) fn may_be_wide(function: &FunctionBody<'_>) -> bool {
    function.range().len() > TARGETS_MAX as usize
}

/// Does this branch have too many targets?
pub(super) fn is_wide(targets: &BrTable<'_>) -> bool {
    targets.len() > TARGETS_MAX
}

/// Does this code have such branches, and can all of them be split? The answer is no if a target takes operands, or might.
pub(super) fn can_be_cut(mut code: OperatorsReader<'_>) -> Result<bool> {
    let mut found = false;
    // For each enclosing block: may a branch to it take operands? The function's results aren't known here, so the outermost may.
    let mut takes = vec![true];
    while !code.eof() {
        match code.read()? {
            Operator::Loop { blockty } => {
                takes.push(matches!(blockty, wasmparser::BlockType::FuncType(_)));
            }
            Operator::Block { blockty } | Operator::If { blockty } => {
                takes.push(blockty != wasmparser::BlockType::Empty);
            }
            Operator::End => _ = takes.pop(),
            Operator::BrTable { targets } if is_wide(&targets) => {
                for depth in targets.targets().chain([Ok(targets.default())]) {
                    let block = takes.len().checked_sub(1 + depth? as usize);
                    if block.is_none_or(|block| takes[block]) {
                        return Ok(false);
                    }
                }
                found = true;
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Writes the smaller branches in place of the instruction. They take the index from the stack and keep it in `local`, an i32.
pub(super) fn write(
    code: &mut InstructionSink<'_>,
    targets: &BrTable<'_>,
    local: u32,
) -> Result<()> {
    let depths = targets.targets().collect::<Result<Vec<u32>>>()?;
    code.local_set(local);
    for part in depths.chunks(TARGETS_MAX as usize) {
        let count = part.len() as i32;
        code.local_get(local).i32_const(count).i32_lt_u();
        code.if_(BlockType::Empty).local_get(local);
        // The branch lies one block deeper.
        let deeper: Vec<u32> = part.iter().map(|depth| depth + 1).collect();
        code.br_table(deeper, targets.default() + 1).end();
        code.local_get(local).i32_const(count).i32_sub();
        code.local_set(local);
    }
    code.br(targets.default());
    Ok(())
}
