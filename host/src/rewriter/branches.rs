//! Branches by table with more targets than wasmtime's compiler takes: several smaller ones stand for each.
//!
//! ```text
//! (br_table 0 0 0 … 1 (index))    becomes    (if (i32.lt_u (index) (n)) (then (br_table 1 … 2 (index))))
//!                                            (index = index - n), and so on; at last (br 1)
//! ```
//!
//! The smaller ones lie in a block, where operands from outside can't be reached. So it is done if no target takes operands; otherwise
//! the compiler refuses the function.

use wasm_encoder::{BlockType, InstructionSink};
use wasmparser::{BrTable, FunctionBody, Operator, OperatorsReader, Result};

/// The compiler takes no more targets.
const TARGETS_MAX: u32 = 65_520;

/// Is this code so long that it may have such branches?
pub(super) fn may_be_wide(function: &FunctionBody<'_>) -> bool {
    function.range().len() > TARGETS_MAX as usize
}

/// Has this one too many targets?
pub(super) fn is_wide(targets: &BrTable<'_>) -> bool {
    targets.len() > TARGETS_MAX
}

/// Has this code such branches, and none of them a target that takes operands, as far as that is easily seen?
pub(super) fn can_be_cut(mut code: OperatorsReader<'_>) -> Result<bool> {
    let mut found = false;
    // For each block around: may a branch to it take operands along? The function's results are not known here.
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
                    let place = takes.len().checked_sub(1 + depth? as usize);
                    if place.is_none_or(|place| takes[place]) {
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

/// Writes one, in the place of the instruction. The index comes from the stack; the local, of type i32, is for it.
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
        // One block further in.
        let deeper: Vec<u32> = part.iter().map(|depth| depth + 1).collect();
        code.br_table(deeper, targets.default() + 1).end();
        code.local_get(local).i32_const(count).i32_sub();
        code.local_set(local);
    }
    code.br(targets.default());
    Ok(())
}
