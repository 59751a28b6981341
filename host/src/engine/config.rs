//! How wasmtime is configured, and why.

use super::slots::{HOST_STACK_BYTES, Memories, Slots, Stacks};
use crate::system::Config;
use std::sync::Arc;
use wasmtime::{Cache, CacheConfig, OperatorCost, WasmBacktraceDetails};

/// The smallest memory that compiled code may take for granted: one wasm page, which every slot has.
const MEMORY_RESERVATION_BYTES: u64 = 64 << 10;
/// Frames of a backtrace that are kept: enough to see where, not a whole runaway recursion.
const BACKTRACE_FRAMES: usize = 16;

/// Who counts the reductions of an engine's programs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Counts {
    /// The module itself does: the rewriter has seen to it.
    Module,
    /// wasmtime does, as fuel.
    Fuel,
}

/// Makes an engine that programs of a system share.
pub(super) fn engine(
    config: &Config,
    slots: &Arc<Slots>,
    counts: Counts,
) -> wasmtime::Result<wasmtime::Engine> {
    let mut wasm = wasmtime::Config::new();
    wasm.with_host_memory(Arc::new(Memories(slots.clone())));
    wasm.with_host_stack(Arc::new(Stacks(slots.clone())));
    wasm.memory_init_cow(false); // Copy-on-write images can't be mapped into host memories.
    wasm.memory_guard_size(0);
    wasm.guard_before_linear_memory(false);
    wasm.memory_reservation(MEMORY_RESERVATION_BYTES);
    wasm.memory_reservation_for_growth(0);
    wasm.max_wasm_stack(config.max_stack);
    wasm.async_stack_size(stack_bytes(config));
    // Only the rewriter says which branches are hardly ever taken: what guests say of theirs is left out.
    wasm.wasm_branch_hinting(counts == Counts::Module);
    if counts == Counts::Fuel {
        wasm.consume_fuel(true);
        wasm.operator_cost(reductions()?);
    }
    // Component-model concurrency doubles the cost of calls, and nothing here uses it.
    wasm.concurrency_support(false);
    wasm.wasm_memory64(false); // The canonical ABI of the contract is that of 32-bit memories.
    // Functions are known by the name section; a hostile module's DWARF is not looked at.
    wasm.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    wasm.wasm_backtrace_max_frames(std::num::NonZeroUsize::new(BACKTRACE_FRAMES));
    if config.cache {
        // No cache is a slower start, not a failure: a home folder may be missing or read-only.
        match Cache::new(CacheConfig::new()) {
            Ok(cache) => {
                wasm.cache(Some(cache));
            }
            Err(error) => tracing::warn!("compiled code is not kept on disk: {error:#}"),
        }
    }
    wasmtime::Engine::new(&wasm)
}

/// The size of every native stack.
pub(super) fn stack_bytes(config: &Config) -> usize {
    (config.max_stack + HOST_STACK_BYTES).next_multiple_of(4 << 10)
}

/// What a reduction is as fuel: a call or a branch. Straight-line code is free, because it ends.
///
/// `br_if` must never be free, or a loop could not be preempted. Bulk operations keep wasmtime's costs by size.
fn reductions() -> wasmtime::Result<OperatorCost> {
    // The table has a field for each of some six hundred operators and no constructor that sets them all; it can be
    // written as JSON and read back.
    let mut table = serde_json::to_value(OperatorCost::new())?;
    let operators = table
        .as_object_mut()
        .ok_or_else(|| wasmtime::format_err!("the cost table is an object"))?;
    for (operator, cost) in operators.iter_mut() {
        if cost.is_number() {
            let charged = matches!(
                operator.as_str(),
                "Br" | "BrIf"
                    | "BrTable"
                    | "BrOnNull"
                    | "BrOnNonNull"
                    | "BrOnCast"
                    | "BrOnCastFail"
            );
            *cost = u8::from(charged).into();
        }
    }
    Ok(serde_json::from_value(table)?)
}
